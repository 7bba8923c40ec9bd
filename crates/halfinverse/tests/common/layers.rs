//! Layers with random inputs and parameters.

#![allow(unreachable_pub, dead_code, reason = "each test file uses a part of this one")]

use faer::{Mat, MatRef, Par};
use halfinverse::network::{Convolution, ConvolutionSettings, Extent, Layer, Padding, Record};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub fn random(rows: usize, columns: usize, seed: u64) -> Mat<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Mat::from_fn(rows, columns, |_, _| 2.0 * rng.random::<f64>() - 1.0)
}

pub fn vector(length: usize, seed: u64) -> Vec<f64> {
    random(length, 1, seed).col_as_slice(0).to_vec()
}

pub fn assert_near(found: &[f64], expected: &[f64], bound: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let off = norm(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    let size = norm(&mut expected.iter().copied());
    assert!(off <= bound * size, "{what}: {off:e} of {size:e}");
}

pub fn values(matrix: MatRef<'_, f64>) -> Vec<f64> {
    (0..matrix.nrows()).flat_map(|i| (0..matrix.ncols()).map(move |j| matrix[(i, j)])).collect()
}

/// y of a layer.
pub fn forward(layer: &dyn Layer, theta: &[f64], x: MatRef<'_, f64>) -> Mat<f64> {
    let mut y = Mat::from_fn(x.nrows(), layer.outputs(), |_, _| f64::NAN);
    layer.forward(theta, x, &mut (Box::new(()) as Record), y.as_mut(), Par::Seq);
    y
}

pub fn convolution(
    inputs: usize,
    shape: &[usize],
    channels: usize,
    kernel: &[usize],
    stride: &[usize],
    padding: Padding,
) -> Convolution {
    let (kernel, stride) = (Extent::Each(kernel.to_vec()), Extent::Each(stride.to_vec()));
    let settings =
        ConvolutionSettings { shape: shape.to_vec(), channels, kernel, stride, padding, bias: true };
    Convolution::new(inputs, &settings).unwrap()
}

/// Parameters of a layer in the order of files.
pub fn in_files(layer: &dyn Layer, theta: &[f64], name: &str) -> Vec<f64> {
    let tensors = layer.tensors();
    let tensor = tensors.iter().find(|tensor| tensor.name == name).expect(name);
    tensor.places().map(|place| theta[place]).collect()
}
