//! Data files, and runs on them.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use safetensors::Dtype;
use safetensors::tensor::TensorView;

pub(crate) fn hig(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hig"))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("hig runs")
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A run that takes a moment.
pub(crate) const SHORT: [&str; 6] = ["--set", "network.hidden=[8]", "--threads", "1", "--steps", "40"];

pub(crate) fn fit(data: &str, out: &str, more: &[&str], folder: &Path) {
    let output = hig(&[&["fit", data, "--out", out, "--quiet"], &SHORT[..], more].concat(), folder);
    assert!(output.status.success(), "{data}: {}", stderr(&output));
}

/// Numbers in [−1, 1) that look random.
pub(crate) fn noise(i: usize) -> f64 {
    let mixed = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 11) as f64 / 2f64.powi(52) - 1.0
}

/// Rows of a, b and y = 3 + sin 2a + ab; y in units of a hundred.
pub(crate) fn table(rows: usize) -> Vec<[f64; 3]> {
    let row = |i: usize| {
        let (a, b) = (noise(2 * i), 10.0 * noise(2 * i + 1));
        [a, b, 100.0 * (3.0 + (2.0 * a).sin() + 0.1 * a * b)]
    };
    (0..rows).map(row).collect()
}

pub(crate) fn text(rows: &[[f64; 3]], header: &str, order: [usize; 3], delimiter: &str, end: &str) -> String {
    let line = |row: &[f64; 3]| order.map(|j| row[j].to_string()).join(delimiter) + end;
    let header = if header.is_empty() { String::new() } else { header.to_owned() + end };
    header + &rows.iter().map(line).collect::<String>()
}

pub(crate) fn npy(values: &[f64], shape: &str, order: &str) -> Vec<u8> {
    let text = format!("{{'descr': '<f8', 'fortran_order': {order}, 'shape': {shape}, }}");
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend(format!("{text:<117}\n").bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

pub(crate) fn npz(arrays: &[(&str, Vec<u8>)], method: zip::CompressionMethod) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let mut archive = zip::ZipWriter::new(&mut bytes);
    for (name, array) in arrays {
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        archive.start_file(format!("{name}.npy"), options).unwrap();
        archive.write_all(array).unwrap();
    }
    archive.finish().unwrap();
    bytes.into_inner()
}

pub(crate) fn safetensors(arrays: &[(&str, Vec<usize>, Vec<f64>)]) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> =
        arrays.iter().map(|(_, _, values)| values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let mut views = Vec::new();
    for ((name, shape, _), bytes) in arrays.iter().zip(&bytes) {
        views.push((*name, TensorView::new(Dtype::F64, shape.clone(), bytes).unwrap()));
    }
    safetensors::serialize(views, None).unwrap()
}
