//! One mini-batch on its way through the network: activations, and sweeps along them in both directions.
//!
//! forward   aₗ₊₁ = σ(aₗ Wₗᵀ + bₗ), slopes sₗ = σ′(·) kept
//! tangent   ȧₗ₊₁ = sₗ ∘ (ȧₗ Wₗᵀ + aₗ Ẇₗᵀ + ḃₗ), from ȧ₀ = 0: J_network·v
//! backward  āₗ = (āₗ₊₁ ∘ sₗ) Wₗ, with W̄ₗ = (āₗ₊₁ ∘ sₗ)ᵀ aₗ, b̄ₗ = column sums: J_networkᵀ·u
//!
//! Batch matrices are b × width. A forward or backward sweep costs 2bP or 4bP operations, a tangent sweep 4bP;
//! none of them allocates.

use faer::linalg::matmul::matmul;
use faer::prelude::{Reborrow, ReborrowMut};
use faer::{Accum, Mat, MatMut, MatRef, Par};

use super::Mlp;
use crate::columns::{column, column_mut, vectorized};

/// Activations of one mini-batch, and room for sweeps.
#[derive(Debug, Clone)]
pub(crate) struct Pass {
    /// Input of each layer, b × in.
    pub(crate) inputs: Vec<Mat<f64>>,
    /// σ′ after each hidden layer, b × out.
    pub(crate) slopes: Vec<Mat<f64>>,
    /// z, b × q.
    pub(crate) output: Mat<f64>,
    scratch: [Mat<f64>; 2],
}

impl Pass {
    pub(crate) fn new(network: &Mlp, samples: usize) -> Self {
        let layers = network.layers();
        let hidden = &layers[..layers.len() - 1];
        let widest = hidden.iter().map(|layer| layer.outputs).max().unwrap_or(0);
        Self {
            inputs: layers.iter().map(|layer| Mat::zeros(samples, layer.inputs)).collect(),
            slopes: hidden.iter().map(|layer| Mat::zeros(samples, layer.outputs)).collect(),
            output: Mat::zeros(samples, network.outputs()),
            scratch: [Mat::zeros(samples, widest), Mat::zeros(samples, widest)],
        }
    }

    /// Fills activations, slopes and output from `inputs[0]`.
    pub(crate) fn forward(&mut self, network: &Mlp, theta: &[f64], par: Par) {
        for (l, layer) in network.layers().iter().enumerate() {
            let (before, after) = self.inputs.split_at_mut(l + 1);
            let next = after.first_mut().unwrap_or(&mut self.output);
            affine(before[l].as_ref(), layer.weight(theta), layer.bias(theta), next.as_mut(), par);
            if l < self.slopes.len() {
                for j in 0..layer.outputs {
                    network.activation().apply(next.col_as_slice_mut(j), self.slopes[l].col_as_slice_mut(j));
                }
            }
        }
    }

    /// ż = J_network·v, b × q.
    pub(crate) fn tangent(
        &mut self,
        network: &Mlp,
        theta: &[f64],
        v: &[f64],
        mut out: MatMut<'_, f64>,
        par: Par,
    ) {
        let last = network.layers().len() - 1;
        let [mut current, mut next] = self.scratch.each_mut().map(Mat::as_mut);
        for (l, layer) in network.layers().iter().enumerate() {
            let mut target =
                if l == last { out.rb_mut() } else { next.rb_mut().subcols_mut(0, layer.outputs) };
            affine(self.inputs[l].as_ref(), layer.weight(v), layer.bias(v), target.rb_mut(), par);
            if l > 0 {
                let tangent = current.rb().subcols(0, layer.inputs);
                matmul(target.rb_mut(), Accum::Add, tangent, layer.weight(theta).transpose(), 1.0, par);
            }
            if l < last {
                multiply(target, self.slopes[l].as_ref());
                std::mem::swap(&mut current, &mut next);
            }
        }
    }

    /// J_networkᵀ·z̄ for z̄ (b × q), summed over samples, in the order of θ.
    pub(crate) fn backward(
        &mut self,
        network: &Mlp,
        theta: &[f64],
        cotangent: MatRef<'_, f64>,
        gradient: &mut [f64],
        par: Par,
    ) {
        self.each_delta(network, theta, cotangent, par, |l, delta, input| {
            layer_gradient(delta, input, network.layers()[l].parts_mut(gradient), par);
        });
    }

    /// Shows `visit` each layer l, last to first, with δₗ (b × out), the cotangent of what it puts out before its
    /// activation, and its input aₗ (b × in).
    pub(crate) fn each_delta(
        &mut self,
        network: &Mlp,
        theta: &[f64],
        cotangent: MatRef<'_, f64>,
        par: Par,
        mut visit: impl FnMut(usize, MatRef<'_, f64>, MatRef<'_, f64>),
    ) {
        let last = network.layers().len() - 1;
        let [mut current, mut next] = self.scratch.each_mut().map(Mat::as_mut);
        for (l, layer) in network.layers().iter().enumerate().rev() {
            let delta = if l == last { cotangent } else { current.rb().subcols(0, layer.outputs) };
            visit(l, delta, self.inputs[l].as_ref());
            if l > 0 {
                let mut target = next.rb_mut().subcols_mut(0, layer.inputs);
                matmul(target.rb_mut(), Accum::Replace, delta, layer.weight(theta), 1.0, par);
                multiply(target, self.slopes[l - 1].as_ref());
                std::mem::swap(&mut current, &mut next);
            }
        }
    }
}

/// out = a Wᵀ + b, for a (b × in) and out (b × out).
pub(crate) fn affine(
    a: MatRef<'_, f64>,
    weight: MatRef<'_, f64>,
    bias: &[f64],
    mut out: MatMut<'_, f64>,
    par: Par,
) {
    for (j, &b) in bias.iter().enumerate() {
        column_mut(out.rb_mut(), j).fill(b);
    }
    matmul(out, Accum::Add, a, weight.transpose(), 1.0, par);
}

/// W̄ = δᵀ a and b̄ = column sums of δ, for δ (b × out) and a (b × in).
pub(crate) fn layer_gradient(
    delta: MatRef<'_, f64>,
    a: MatRef<'_, f64>,
    (weight, bias): (MatMut<'_, f64>, &mut [f64]),
    par: Par,
) {
    matmul(weight, Accum::Replace, delta.transpose(), a, 1.0, par);
    vectorized(
        #[inline(always)]
        || {
            for (j, b) in bias.iter_mut().enumerate() {
                *b = lane_sum(column(delta, j));
            }
        },
    );
}

/// Sum with eight partial sums, so that it vectorises; the order does not depend on the machine.
#[inline(always)]
fn lane_sum(values: &[f64]) -> f64 {
    let (chunks, rest) = values.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().sum::<f64>()
}

/// a ← a ∘ s.
fn multiply(mut a: MatMut<'_, f64>, s: MatRef<'_, f64>) {
    vectorized(
        #[inline(always)]
        || {
            for j in 0..a.ncols() {
                for (x, s) in column_mut(a.rb_mut(), j).iter_mut().zip(column(s, j)) {
                    *x *= s;
                }
            }
        },
    );
}
