//! A symmetric factor in blocks along its diagonal: running means of xxᵀ, and their damped inverse powers.
//!
//! Blocks bound what a wide layer costs: w·n numbers instead of n², and w²·n operations for the powers instead of n³.
//! What the factor couples across blocks is dropped, as what the Hessian couples across layers is.
//!
//! For p = 1 a block's inverse comes from a Cholesky factorization: w³/3 operations for L, as many for L^−1 and for
//! L^−ᵀL^−1, nearly all in products of matrices. Other powers need eigenvalues, about 25 times as long. Either way a
//! new λ costs as much as new means, so that λ takes effect at the next refresh.

use std::ops::Range;

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt;
use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::prelude::ReborrowMut;
use faer::{Accum, Mat, MatMut, MatRef, Par, Spec};
use serde::{Deserialize, Serialize};

use crate::error::ShapeError;
use crate::linear::columns::column;
use crate::spectral::{SpectralError, symmetric_eigen};

/// A factor by its blocks, first to last.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Factor {
    pub(super) blocks: Vec<Block>,
}

/// One block.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Block {
    /// Only its lower half is kept.
    #[serde(with = "lower")]
    pub(super) mean: Mat<f64>,
    #[serde(with = "lower")]
    pub(super) power: Mat<f64>,
}

/// Where the blocks of a factor of this size lie: as few as their width allows, all of about the same size.
pub(super) fn spans(size: usize, width: usize) -> impl Iterator<Item = Range<usize>> {
    let count = size.div_ceil(width);
    (0..count).map(move |i| size * i / count..size * (i + 1) / count)
}

impl Factor {
    pub(super) fn new(size: usize, width: usize) -> Self {
        let square = |span: Range<usize>| Mat::zeros(span.len(), span.len());
        let block = |span: Range<usize>| Block { mean: square(span.clone()), power: square(span) };
        Self { blocks: spans(size, width).map(block).collect() }
    }

    pub(super) fn size(&self) -> usize {
        self.blocks.iter().map(|block| block.mean.nrows()).sum()
    }

    /// Refuses blocks that are not those of a factor of this size.
    pub(super) fn fit(&self, size: usize, width: usize) -> Result<(), ShapeError> {
        ShapeError::check("a Kronecker factor", "blocks", size.div_ceil(width), self.blocks.len())?;
        for (block, span) in self.blocks.iter().zip(spans(size, width)) {
            for matrix in [&block.mean, &block.power] {
                ShapeError::check("a block of a Kronecker factor", "rows", span.len(), matrix.nrows())?;
            }
        }
        Ok(())
    }

    /// The blocks, each with its place.
    fn placed(&self) -> impl Iterator<Item = (Range<usize>, &Block)> {
        let mut start = 0;
        self.blocks.iter().map(move |block| {
            let span = start..start + block.mean.nrows();
            start = span.end;
            (span, block)
        })
    }

    /// mean ← factor·mean.
    pub(super) fn scale(&mut self, factor: f64) {
        self.blocks.iter_mut().for_each(|block| block.mean *= faer::Scale(factor));
    }

    /// mean ← mean + new/count · xᵀx for some x (rows × size) of `count`. Columns that x lacks at its end
    /// are constant 1.
    pub(super) fn absorb(&mut self, x: MatRef<'_, f64>, new: f64, count: usize, par: Par) {
        let weight = new / count as f64;
        let ones = new * (x.nrows() as f64 / count as f64);
        let mut start = 0;
        for Block { mean, .. } in &mut self.blocks {
            let end = start + mean.nrows();
            let span = start.min(x.ncols())..end.min(x.ncols());
            let (part, given) = (x.subcols(span.start, span.len()), span.len());
            triangular::matmul(
                mean.as_mut().submatrix_mut(0, 0, given, given),
                BlockStructure::TriangularLower,
                Accum::Add,
                part.transpose(),
                BlockStructure::Rectangular,
                part,
                BlockStructure::Rectangular,
                weight,
                par,
            );
            for constant in given..mean.nrows() {
                for j in 0..given {
                    mean[(constant, j)] += weight * column(part, j).iter().sum::<f64>();
                }
                (given..=constant).for_each(|j| mean[(constant, j)] += ones);
            }
            start = end;
        }
    }

    /// Each block's power ← (block + √λ·(mean eigenvalue of the whole factor))^−p.
    pub(super) fn refresh(&mut self, exponent: f64, lambda: f64, par: Par) -> Result<(), SpectralError> {
        let trace = |block: &Block| (0..block.mean.nrows()).map(|i| block.mean[(i, i)]).sum::<f64>();
        let mean = self.blocks.iter().map(trace).sum::<f64>() / self.size() as f64;
        // An outcome that nothing reaches leaves a factor of 0, and a gradient of 0 to go with it.
        let damping = if mean > 0.0 { lambda.sqrt() * mean } else { 1.0 };
        for block in &mut self.blocks {
            if exponent != 1.0 || !block.invert(damping, par) {
                block.inverse_power(damping, exponent, par)?;
            }
        }
        Ok(())
    }

    /// `out` = power·x, for x with as many rows as the factor.
    pub(super) fn times(&self, x: MatRef<'_, f64>, mut out: MatMut<'_, f64>, par: Par) {
        for (span, block) in self.placed() {
            let (x, out) =
                (x.subrows(span.start, span.len()), out.rb_mut().subrows_mut(span.start, span.len()));
            matmul(out, Accum::Replace, &block.power, x, 1.0, par);
        }
    }

    /// `out` = −x·power, for x with as many columns as the factor.
    pub(super) fn minus_times_from_right(&self, x: MatRef<'_, f64>, mut out: MatMut<'_, f64>, par: Par) {
        for (span, block) in self.placed() {
            let (x, out) =
                (x.subcols(span.start, span.len()), out.rb_mut().subcols_mut(span.start, span.len()));
            matmul(out, Accum::Replace, x, &block.power, -1.0, par);
        }
    }
}

impl Block {
    /// power ← (mean + damping)^−1 by Cholesky; false where round-off has left that not positive definite.
    pub(super) fn invert(&mut self, damping: f64, par: Par) -> bool {
        let n = self.mean.nrows();
        let mut l = self.mean.clone();
        (0..n).for_each(|i| l[(i, i)] += damping);
        let factorize = llt::factor::cholesky_in_place_scratch::<f64>(n, par, Spec::default());
        let mut memory = MemBuffer::new(factorize.or(llt::inverse::inverse_scratch::<f64>(n, par)));
        let stack = MemStack::new(&mut memory);
        let exact = llt::factor::LltRegularization::default();
        if llt::factor::cholesky_in_place(l.as_mut(), exact, par, stack, Spec::default()).is_err() {
            return false;
        }
        llt::inverse::inverse(self.power.as_mut(), l.as_ref(), par, stack);
        mirror(&mut self.power);
        true
    }

    /// power ← (mean + damping)^−p by eigenvalues, negative ones of the mean taken for 0.
    pub(super) fn inverse_power(&mut self, damping: f64, p: f64, par: Par) -> Result<(), SpectralError> {
        let (eigenvalues, mut q) = symmetric_eigen(self.mean.as_ref(), par)
            .map_err(|_| SpectralError::NoConvergence { tried: Vec::new() })?;
        for (j, eigenvalue) in eigenvalues.iter().enumerate() {
            let factor = (eigenvalue.max(0.0) + damping).powf(-0.5 * p);
            q.col_as_slice_mut(j).iter_mut().for_each(|q| *q *= factor);
        }
        matmul(&mut self.power, Accum::Replace, &q, q.transpose(), 1.0, par);
        // To the bit what a saved lower half gives back.
        mirror(&mut self.power);
        Ok(())
    }
}

/// Copies the lower half to the upper one.
fn mirror(a: &mut Mat<f64>) {
    for j in 0..a.ncols() {
        for i in 0..j {
            a[(i, j)] = a[(j, i)];
        }
    }
}

/// A symmetric matrix by its lower half, column by column.
mod lower {
    use faer::Mat;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(matrix: &Mat<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        let columns = (0..matrix.ncols()).flat_map(|j| &matrix.col_as_slice(j)[j..]);
        (matrix.nrows(), columns.copied().collect::<Vec<f64>>()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mat<f64>, D::Error> {
        let (size, entries) = <(usize, Vec<f64>)>::deserialize(deserializer)?;
        let twice = size.checked_add(1).and_then(|next| size.checked_mul(next));
        if twice.is_none_or(|twice| twice / 2 != entries.len()) {
            return Err(D::Error::custom("a symmetric matrix of another size"));
        }
        let mut entries = entries.into_iter();
        let mut matrix = Mat::zeros(size, size);
        for j in 0..size {
            for (to, from) in matrix.col_as_slice_mut(j)[j..].iter_mut().zip(&mut entries) {
                *to = from;
            }
        }
        super::mirror(&mut matrix);
        Ok(matrix)
    }
}
