//! J = ∂y/∂θ as an operator: what the spectral solvers need of it, and no more.
//!
//! Rows are sample-major (sample s, component c: row s·m + c); columns are in the order of θ.

mod dense;
pub mod layered;

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};

pub use dense::DenseJacobian;
pub use layered::LayeredJacobian;
pub(crate) use layered::Room;

/// The Jacobian of outcomes with respect to parameters, n × P.
///
/// Methods take `&mut self` because implementors own the scratch space that their products need: no product
/// allocates.
pub trait Jacobian {
    /// n, the number of outcomes in the batch.
    fn rows(&self) -> usize;

    /// P, the number of parameters.
    fn columns(&self) -> usize;

    /// `out` (n) = J v.
    fn apply(&mut self, v: &[f64], out: &mut [f64]);

    /// `out` (P) = Jᵀ u.
    fn apply_transpose(&mut self, u: &[f64], out: &mut [f64]);

    /// Rows `first`, `first + 1`, … into `out`, one after the other. By default a product with a unit vector each.
    fn fill_rows(&mut self, first: usize, out: &mut [f64]) {
        let mut unit = vec![0.0; self.rows()];
        for (i, row) in out.chunks_exact_mut(self.columns()).enumerate() {
            unit[first + i] = 1.0;
            self.apply_transpose(&unit, row);
            unit[first + i] = 0.0;
        }
    }

    /// Jᵀ (P × n): row after row of J in memory, nP numbers.
    fn dense_transpose(&mut self) -> Mat<f64> {
        let (n, p) = (self.rows(), self.columns());
        let mut transpose = Mat::zeros(p, n);
        let mut rows = vec![0.0; p * BLOCK.min(n)];
        for first in (0..n).step_by(BLOCK) {
            let count = BLOCK.min(n - first);
            let rows = &mut rows[..count * p];
            self.fill_rows(first, rows);
            for (i, row) in rows.chunks_exact(p).enumerate() {
                transpose.col_as_slice_mut(first + i).copy_from_slice(row);
            }
        }
        transpose
    }

    /// K = J Jᵀ (n × n). By default through J itself: 2n²P operations.
    fn row_gram(&mut self, par: Par) -> Mat<f64> {
        let transpose = self.dense_transpose();
        let mut gram = Mat::zeros(self.rows(), self.rows());
        matmul(&mut gram, Accum::Replace, transpose.transpose(), &transpose, 1.0, par);
        gram
    }

    /// JᵀJ (P × P), by a few rows of J at a time: 2nP² operations, memory P².
    fn column_gram(&mut self, par: Par) -> Mat<f64> {
        let (n, p) = (self.rows(), self.columns());
        let mut gram = Mat::zeros(p, p);
        let mut rows = vec![0.0; p * BLOCK.min(n)];
        for first in (0..n).step_by(BLOCK) {
            let count = BLOCK.min(n - first);
            self.fill_rows(first, &mut rows[..count * p]);
            let block = MatRef::from_column_major_slice(&rows[..count * p], p, count);
            matmul(&mut gram, Accum::Add, block, block.transpose(), 1.0, par);
        }
        gram
    }
}

/// Rows that are formed at a time.
const BLOCK: usize = 64;
