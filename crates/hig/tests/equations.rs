//! Task files with equations, as people use them: the documentation's, the example's, and what `--set` does to them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const OWN: &str = include_str!("../../../docs/own.md");
const CART_POLE: &str = include_str!("../../../examples/cart-pole/cart-pole.toml");

fn hig(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hig"))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("hig runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The first block of a kind in the section on equations.
fn block(kind: &str) -> &'static str {
    let section = OWN.split("\n## ").find(|part| part.starts_with("A simulator written as equations"));
    let after = section.unwrap().split_once(&format!("```{kind}\n")).unwrap().1;
    after.split_once("```").unwrap().0
}

#[test]
fn the_file_of_the_documentation_is_right_and_trains() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("pendulum.toml"), block("toml")).unwrap();
    let output = hig(home.path(), &["check", "pendulum.toml"]);
    assert!(output.status.success(), "{}", said(&output));
    let output = hig(home.path(), &["train", "pendulum.toml", "--steps", "3", "--set", "data.train=256"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(home.path().join("runs/pendulum-hig-auto-1/physics.svg").is_file());
}

#[test]
fn the_refusal_of_the_documentation_is_what_is_said() {
    let home = tempfile::tempdir().unwrap();
    let wrong = block("toml").replace("c*rate + u", "c*rte + u");
    fs::write(home.path().join("pendulum.toml"), wrong).unwrap();
    let output = hig(home.path(), &["train", "pendulum.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(said(&output), block("text"));
}

#[test]
fn the_example_is_right_trains_and_takes_constants_from_the_command_line() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("cart-pole.toml"), CART_POLE).unwrap();
    let output = hig(home.path(), &["check", "cart-pole.toml"]);
    assert!(output.status.success(), "{}", said(&output));
    let small =
        ["train", "cart-pole.toml", "--steps", "30", "--set", "data.train=512", "--set", "data.test=64"];
    let mut losses = Vec::new();
    for (name, more) in [("usual", &[][..]), ("heavy", &["--set", "simulator.constants.m=0.5"][..])] {
        let output = hig(home.path(), &[&small[..], more, &["--out", name]].concat());
        assert!(output.status.success(), "{}", said(&output));
        let summary = fs::read(home.path().join(name).join("summary.json")).unwrap();
        let summary: serde_json::Value = serde_json::from_slice(&summary).unwrap();
        losses.push(summary["test_loss"].as_f64().unwrap());
        let config = fs::read_to_string(home.path().join(name).join("config.toml")).unwrap();
        assert!(config.contains("m = 0."), "constants stand in config.toml: {config}");
    }
    // Without training it is 51.
    assert!(losses[0] < 5.0, "{losses:?}");
    assert_ne!(losses[0], losses[1]);
}

#[test]
fn the_constants_of_the_other_example_are_found() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("inverse.toml"), include_str!("../../../examples/inverse/inverse.toml"))
        .unwrap();
    let output = hig(home.path(), &["check", "inverse.toml"]);
    assert!(output.status.success(), "{}", said(&output));
    let small = ["--steps", "60", "--set", "data.train=512", "--set", "data.test=64", "--out", "run"];
    let output = hig(home.path(), &[&["train", "inverse.toml"], &small[..]].concat());
    assert!(output.status.success(), "{}", said(&output));
    let summary = fs::read(home.path().join("run/summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_slice(&summary).unwrap();
    // Without training it is 14.
    assert!(summary["test_loss"].as_f64().unwrap() < 1.0, "{summary}");
}
