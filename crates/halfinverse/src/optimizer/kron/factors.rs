//! The two Kronecker factors of a layer, and the direction that they make of its gradient.

use faer::{Mat, MatMut, MatRef, Par};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::factor::Factor;
use crate::error::ShapeError;
use crate::fault::StepError;
use crate::problem::{FactorRows, FactorShape, Layered};

/// A and G of one layer, and their inverse powers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Factors {
    /// Mini-batches seen.
    pub(super) count: f64,
    pub(super) input: Factor,
    pub(super) output: Factor,
    /// Where the layer's parameters start in θ.
    offset: usize,
}

impl Factors {
    /// In blocks of this width at most.
    pub(super) fn new(shape: FactorShape, width: usize) -> Self {
        let input = Factor::new(shape.columns(), width);
        Self { count: 0.0, input, output: Factor::new(shape.outputs, width), offset: shape.offset }
    }

    /// Refuses factors that were saved by another network's optimizer.
    pub(super) fn fit(&mut self, shape: FactorShape, width: usize) -> Result<(), ShapeError> {
        self.input.fit(shape.columns(), width)?;
        self.output.fit(shape.outputs, width)?;
        self.offset = shape.offset;
        Ok(())
    }

    /// Before a mini-batch's rows are taken in. The means forget all but the last quarter of what they have seen, and
    /// at most a hundred mini-batches.
    pub(super) fn forget(&mut self) {
        self.count += 1.0;
        let kept = 1.0 - self.share();
        self.output.scale(kept);
        self.input.scale(kept);
    }

    /// Makes the means 0.
    pub(super) fn clear(&mut self) {
        self.input.scale(0.0);
        self.output.scale(0.0);
    }

    /// What part of the means the last mini-batch makes.
    fn share(&self) -> f64 {
        (4.0 / (self.count + 3.0)).max(0.01)
    }

    /// Takes rows of a mini-batch of b samples into the means.
    pub(super) fn absorb(&mut self, rows: &FactorRows<'_>, b: usize, par: Par) {
        let new = self.share();
        self.output.absorb(rows.cotangent, new, b, par);
        self.input.absorb(rows.input, new, b * rows.positions, par);
    }

    pub(super) fn refresh(&mut self, exponent: f64, lambda: f64, par: Par) -> Result<(), StepError> {
        self.input.refresh(exponent, lambda, par)?;
        Ok(self.output.refresh(exponent, lambda, par)?)
    }

    /// d = −G^−p ∇W A^−p in this layer's part of `out`. `scratch` is as long.
    pub(super) fn direct(&self, gradient: &[f64], scratch: &mut [f64], out: &mut [f64], par: Par) {
        let (o, i) = (self.output.size(), self.input.size());
        let part = self.offset..self.offset + o * i;
        let gradient = MatRef::from_column_major_slice(&gradient[part.clone()], o, i);
        let mut product = MatMut::from_column_major_slice_mut(&mut scratch[part.clone()], o, i);
        self.output.times(gradient, product.as_mut(), par);
        let out = MatMut::from_column_major_slice_mut(&mut out[part], o, i);
        self.input.minus_times_from_right(product.as_ref(), out, par);
    }
}

/// Adds the means of all layers up over ranks, at once.
pub(super) fn sum(factors: &mut [Factors], layered: &dyn Layered) {
    let means = |factors: &mut Factors, visit: &mut dyn FnMut(&mut [f64])| {
        for block in factors.input.blocks.iter_mut().chain(&mut factors.output.blocks) {
            // Only the lower half is kept.
            (0..block.mean.ncols()).for_each(|j| visit(&mut block.mean.col_as_slice_mut(j)[j..]));
        }
    };
    let mut packed = Vec::new();
    for factors in &mut *factors {
        means(factors, &mut |part| packed.extend_from_slice(part));
    }
    layered.sum(&mut packed);
    let mut rest = &packed[..];
    let mut unpack = |part: &mut [f64]| {
        let (own, others) = rest.split_at(part.len());
        part.copy_from_slice(own);
        rest = others;
    };
    for factors in factors {
        means(factors, &mut unpack);
    }
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
