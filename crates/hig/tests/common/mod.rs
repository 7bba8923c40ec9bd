//! What tests of stopped runs share.
#![allow(dead_code, reason = "not every test needs all of it")]

pub(crate) mod data;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub(crate) fn hig(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hig")).args(arguments).output().unwrap()
}

pub(crate) fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&path);
    path
}

/// Rows of the metrics without the two columns of time.
pub(crate) fn rows(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join("metrics.csv")).unwrap();
    let without_times = |line: &str| {
        let cells = line.split(',').enumerate().filter(|(i, _)| !(2..4).contains(i));
        cells.map(|(_, cell)| cell).collect::<Vec<_>>().join(",")
    };
    text.lines().map(without_times).collect()
}

/// Everything in the checkpoint, in the order of the names.
pub(crate) fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let bytes = fs::read(folder.join("checkpoint.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<_> =
        file.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect();
    tensors.sort();
    tensors
}

pub(crate) fn assert_same(one: &Path, other: &Path, what: &str) {
    assert_eq!(rows(one), rows(other), "{what}");
    assert!(contents(one) == contents(other), "{what}: checkpoints differ");
    let best = |folder: &Path| fs::read(folder.join("best.safetensors")).unwrap();
    assert!(best(one) == best(other), "{what}: the best parameters differ");
}
