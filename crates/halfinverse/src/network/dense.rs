//! y = W x + b.
//!
//! θ holds W (out × in) column by column, the input index slowest, and then b. Forward costs 2·in·out operations per
//! sample, a pull the same, a gradient or a tangent twice that at most. Rows of J are d ⊗ x for W and d for b, so
//! the Gram matrix is (x xᵀ + 1) ∘ (d dᵀ) and the Kronecker factors are the means of xxᵀ and ddᵀ. A layer without b
//! lacks its parameters and the 1.

use faer::linalg::matmul::matmul;
use faer::prelude::ReborrowMut;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::layer::{FactorShape, Inner, Layer, Place, Record, Setup, Tensor};
use super::{Init, NetworkError};
use crate::error::SettingError;
use crate::linear::columns::{column, column_mut, vectorized};

/// Settings of [`Dense`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DenseSettings {
    /// Width of its output.
    pub width: usize,
}

impl Default for DenseSettings {
    fn default() -> Self {
        Self { width: 20 }
    }
}

impl Setup for DenseSettings {
    const KIND: &'static str = "dense";

    fn build(self, inputs: usize, _: &Inner<'_>) -> Result<Box<dyn Layer>, SettingError> {
        let dense = Dense::new(inputs, self.width);
        Ok(Box::new(dense.map_err(|_| SettingError::new("width", self.width, "at least 1"))?))
    }
}

/// A fully connected layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dense {
    inputs: usize,
    outputs: usize,
    bias: bool,
}

impl Dense {
    /// From so many inputs to so many outputs.
    ///
    /// # Errors
    /// When one of them is 0, or the weights are more than memory can hold.
    pub fn new(inputs: usize, outputs: usize) -> Result<Self, NetworkError> {
        let weights = inputs.checked_mul(outputs).and_then(|weights| weights.checked_add(outputs));
        if inputs == 0 || outputs == 0 || weights.is_none_or(|weights| weights > isize::MAX as usize / 8) {
            return Err(NetworkError::Width { inputs, outputs });
        }
        Ok(Self { inputs, outputs, bias: true })
    }

    /// The same without b.
    #[must_use]
    pub fn without_bias(self) -> Self {
        Self { bias: false, ..self }
    }

    fn weights(self) -> usize {
        self.inputs * self.outputs
    }

    /// W (out × in).
    pub(super) fn weight(self, theta: &[f64]) -> MatRef<'_, f64> {
        self.parts(theta).0
    }

    /// W (out × in) and b (out), which is empty where there is none.
    fn parts(self, theta: &[f64]) -> (MatRef<'_, f64>, &[f64]) {
        let (weights, bias) = theta.split_at(self.weights());
        (MatRef::from_column_major_slice(weights, self.outputs, self.inputs), bias)
    }
}

impl Layer for Dense {
    fn inputs(&self) -> usize {
        self.inputs
    }

    fn outputs(&self) -> usize {
        self.outputs
    }

    fn parameters(&self) -> usize {
        self.weights() + if self.bias { self.outputs } else { 0 }
    }

    fn tensors(&self) -> Vec<Tensor> {
        let mut tensors =
            vec![Tensor { name: "weight".to_owned(), shape: vec![self.outputs, self.inputs], offset: 0 }];
        if self.bias {
            tensors.push(Tensor {
                name: "bias".to_owned(),
                shape: vec![self.outputs],
                offset: self.weights(),
            });
        }
        tensors
    }

    fn initialize(&self, init: Init, rng: &mut dyn Rng, theta: &mut [f64]) {
        init.fill_layer((self.inputs, self.outputs), self.weights(), theta, rng);
    }

    fn forward(
        &self,
        theta: &[f64],
        input: MatRef<'_, f64>,
        _: &mut Record,
        output: MatMut<'_, f64>,
        par: Par,
    ) {
        self.affine(theta, input, output, par);
    }

    fn tangent(
        &self,
        at: Place<'_>,
        input: Option<MatRef<'_, f64>>,
        v: &[f64],
        mut output: MatMut<'_, f64>,
        par: Par,
    ) {
        self.affine(v, at.input, output.rb_mut(), par);
        if let Some(input) = input {
            matmul(output, Accum::Add, input, self.weight(at.theta).transpose(), 1.0, par);
        }
    }

    fn pull(&self, at: Place<'_>, cotangent: MatRef<'_, f64>, input: MatMut<'_, f64>, par: Par) {
        matmul(input, Accum::Replace, cotangent, self.weight(at.theta), 1.0, par);
    }

    fn gradient(&self, at: Place<'_>, cotangent: MatRef<'_, f64>, out: &mut [f64], par: Par) {
        let (weights, bias) = out.split_at_mut(self.weights());
        let weights = MatMut::from_column_major_slice_mut(weights, self.outputs, self.inputs);
        matmul(weights, Accum::Replace, cotangent.transpose(), at.input, 1.0, par);
        vectorized(
            #[inline(always)]
            || {
                for (j, b) in bias.iter_mut().enumerate() {
                    *b = lane_sum(column(cotangent, j));
                }
            },
        );
    }

    fn row(&self, at: Place<'_>, sample: usize, d: &[f64], out: &mut [f64]) {
        let (weights, bias) = out.split_at_mut(self.weights());
        bias.iter_mut().zip(d).for_each(|(bias, d)| *bias = *d);
        for (i, weights) in weights.chunks_exact_mut(self.outputs).enumerate() {
            let x = at.input[(sample, i)];
            for (weight, d) in weights.iter_mut().zip(d) {
                *weight = x * d;
            }
        }
    }

    fn shared(&self, at: Place<'_>, par: Par) -> Option<Mat<f64>> {
        let b = at.input.nrows();
        let mut inner = Mat::full(b, b, if self.bias { 1.0 } else { 0.0 });
        matmul(&mut inner, Accum::Add, at.input, at.input.transpose(), 1.0, par);
        Some(inner)
    }

    /// Σ_{s,c} (d\[(s,c), i\] x\[s, j\])² = Σ_s (Σ_c d²)\[s, i\]·x²\[s, j\]: 2bP operations and n·out.
    fn squares(&self, at: Place<'_>, d: MatRef<'_, f64>, out: &mut [f64], par: Par) {
        let (b, n) = (at.input.nrows(), d.nrows());
        let squares =
            Mat::from_fn(b, self.outputs, |s, o| (s..n).step_by(b).map(|r| d[(r, o)].powi(2)).sum::<f64>());
        // The bias is an input of 1.
        let square = |s, j| if j < self.inputs { at.input[(s, j)].powi(2) } else { 1.0 };
        let columns = self.inputs + usize::from(self.bias);
        let input = Mat::from_fn(b, columns, square);
        let out = MatMut::from_column_major_slice_mut(out, self.outputs, columns);
        matmul(out, Accum::Replace, squares.transpose(), &input, 1.0, par);
    }

    fn factors(&self) -> Vec<FactorShape> {
        let Self { inputs, outputs, bias } = *self;
        vec![FactorShape { outputs, inputs, bias, positions: 1, offset: 0 }]
    }
}

impl Dense {
    /// `out` = x Wᵀ + b with the W and b of any vector ordered like the layer's parameters.
    fn affine(self, theta: &[f64], x: MatRef<'_, f64>, mut out: MatMut<'_, f64>, par: Par) {
        let (weight, bias) = self.parts(theta);
        for j in 0..self.outputs {
            column_mut(out.rb_mut(), j).fill(bias.get(j).copied().unwrap_or(0.0));
        }
        matmul(out, Accum::Add, x, weight.transpose(), 1.0, par);
    }
}

/// Sum with eight partial sums, so that it vectorises; the order does not depend on the machine.
#[inline(always)]
pub(super) fn lane_sum(values: &[f64]) -> f64 {
    let (chunks, rest) = values.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().sum::<f64>()
}
