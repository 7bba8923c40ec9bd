//! The Kronecker factors of a layer: means of aaᵀ and δδᵀ, and their damped inverse powers.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::ShapeError;
use crate::fault::StepError;
use crate::linear::columns::column;
use crate::optimizer::state::matrix;
use crate::problem::FactorShape;
use crate::spectral::{SpectralError, symmetric_eigen};

/// A and G of one layer, and their inverse powers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Factors {
    /// Mini-batches seen.
    pub(super) count: f64,
    #[serde(with = "matrix")]
    pub(super) input: Mat<f64>,
    #[serde(with = "matrix")]
    pub(super) output: Mat<f64>,
    #[serde(with = "matrix")]
    pub(super) input_power: Mat<f64>,
    #[serde(with = "matrix")]
    pub(super) output_power: Mat<f64>,
    /// Where the layer's parameters start in θ.
    offset: usize,
    #[serde(skip, default = "Mat::new")]
    product: Mat<f64>,
}

impl Factors {
    pub(super) fn new(shape: FactorShape) -> Self {
        let (i, o) = (shape.inputs + 1, shape.outputs);
        let square = |n| Mat::zeros(n, n);
        Self {
            count: 0.0,
            input: square(i),
            output: square(o),
            input_power: square(i),
            output_power: square(o),
            offset: shape.offset,
            product: Mat::zeros(o, i),
        }
    }

    /// Refuses factors that were saved by another network's optimizer.
    pub(super) fn fit(&mut self, shape: FactorShape) -> Result<(), ShapeError> {
        let (i, o) = (shape.inputs + 1, shape.outputs);
        for (matrix, size) in
            [(&self.input, i), (&self.input_power, i), (&self.output, o), (&self.output_power, o)]
        {
            ShapeError::check("a Kronecker factor", "rows", size, matrix.nrows())?;
            ShapeError::check("a Kronecker factor", "columns", size, matrix.ncols())?;
        }
        self.offset = shape.offset;
        if self.product.shape() != (o, i) {
            self.product = Mat::zeros(o, i);
        }
        Ok(())
    }

    /// Takes δ (b × out) and a (b × in) of a mini-batch into the means, which forget all but the last quarter of what
    /// they have seen, and at most a hundred mini-batches.
    pub(super) fn absorb(&mut self, delta: MatRef<'_, f64>, input: MatRef<'_, f64>, par: Par) {
        let new = (4.0 / (self.count + 4.0)).max(0.01);
        self.count += 1.0;
        let weight = new / delta.nrows() as f64;
        for mean in [&mut self.input, &mut self.output] {
            *mean *= faer::Scale(1.0 - new);
        }
        matmul(&mut self.output, Accum::Add, delta.transpose(), delta, weight, par);
        let inputs = input.ncols();
        let square = self.input.as_mut().submatrix_mut(0, 0, inputs, inputs);
        matmul(square, Accum::Add, input.transpose(), input, weight, par);
        for j in 0..inputs {
            let sum = column(input, j).iter().sum::<f64>();
            self.input[(inputs, j)] += weight * sum;
            self.input[(j, inputs)] += weight * sum;
        }
        self.input[(inputs, inputs)] += new;
    }

    pub(super) fn refresh(&mut self, exponent: f64, lambda: f64, par: Par) -> Result<(), StepError> {
        inverse_power(&self.input, lambda, exponent, &mut self.input_power, par)?;
        inverse_power(&self.output, lambda, exponent, &mut self.output_power, par)
    }

    /// d₁ = −G^−p ∇W A^−p in this layer's part of `out`.
    pub(super) fn direct(&mut self, gradient: &[f64], out: &mut [f64], par: Par) {
        let (o, i) = self.product.shape();
        let part = self.offset..self.offset + o * i;
        let gradient = MatRef::from_column_major_slice(&gradient[part.clone()], o, i);
        let out = MatMut::from_column_major_slice_mut(&mut out[part], o, i);
        matmul(&mut self.product, Accum::Replace, &self.output_power, gradient, 1.0, par);
        matmul(out, Accum::Replace, &self.product, &self.input_power, -1.0, par);
    }
}

/// `out` = (A + √λ·(mean eigenvalue of A))^−p.
fn inverse_power(a: &Mat<f64>, lambda: f64, p: f64, out: &mut Mat<f64>, par: Par) -> Result<(), StepError> {
    let (eigenvalues, mut q) =
        symmetric_eigen(a.as_ref(), par).map_err(|_| SpectralError::NoConvergence { tried: Vec::new() })?;
    let mean = eigenvalues.iter().sum::<f64>() / eigenvalues.len() as f64;
    // An outcome that nothing reaches leaves a factor of 0, and a gradient of 0 to go with it.
    let damping = if mean > 0.0 { lambda.sqrt() * mean } else { 1.0 };
    for (j, eigenvalue) in eigenvalues.iter().enumerate() {
        let factor = (eigenvalue.max(0.0) + damping).powf(-0.5 * p);
        q.col_as_slice_mut(j).iter_mut().for_each(|q| *q *= factor);
    }
    matmul(out, Accum::Replace, &q, q.transpose(), 1.0, par);
    Ok(())
}

/// ±1 with equal chance, from a stream of the step's own.
pub(super) fn draw_signs(step: u64, signs: &mut Mat<f64>) {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    rng.set_stream(step);
    for j in 0..signs.ncols() {
        for signs in signs.col_as_slice_mut(j).chunks_mut(64) {
            let bits = rng.next_u64();
            for (i, sign) in signs.iter_mut().enumerate() {
                *sign = if bits >> i & 1 == 0 { 1.0 } else { -1.0 };
            }
        }
    }
}
