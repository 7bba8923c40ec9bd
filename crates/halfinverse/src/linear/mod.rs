//! J = ∂y/∂θ as an operator: what the spectral solvers need of it, and no more.
//!
//! Rows are sample-major (sample s, component c: row s·m + c); columns are in the order of θ.

pub(crate) mod columns;
mod dense;
pub mod layered;
mod scaled;
pub(crate) mod threads;
pub(crate) mod vectors;

use std::ops::Range;

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};

pub use dense::{DenseJacobian, DenseView};
pub use layered::LayeredJacobian;
pub(crate) use layered::{Workspace, outcomes_together, rows_pay};
pub(crate) use scaled::ScaledColumns;

/// A product with J that could not be formed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{product} cannot be formed: {reason}")]
pub struct ProductError {
    /// `J v`, `J^T u`, or `J`.
    pub product: &'static str,
    /// In the words of whoever forms it.
    pub reason: String,
}

/// The Jacobian of outcomes with respect to parameters, n × P.
///
/// Methods take `&mut self` because implementors own the scratch space that their products need.
///
/// # Example
/// A Jacobian that is known by its products alone:
/// ```
/// use halfinverse::linear::{Jacobian, ProductError};
/// /// Differences of neighbouring entries.
/// struct Differences(usize);
/// impl Jacobian for Differences {
///     fn shape(&self) -> (usize, usize) {
///         (self.0 - 1, self.0)
///     }
///     fn apply(&mut self, v: &[f64], out: &mut [f64]) -> Result<(), ProductError> {
///         out.iter_mut().zip(v.windows(2)).for_each(|(out, v)| *out = v[1] - v[0]);
///         Ok(())
///     }
///     fn apply_transpose(&mut self, u: &[f64], out: &mut [f64]) -> Result<(), ProductError> {
///         out.fill(0.0);
///         for (i, u) in u.iter().enumerate() {
///             out[i] -= u;
///             out[i + 1] += u;
///         }
///         Ok(())
///     }
/// }
/// let dense = Differences(3).dense_transpose()?; // P × n
/// assert_eq!((dense[(0, 0)], dense[(1, 0)], dense[(2, 1)]), (-1.0, 1.0, 1.0));
/// # Ok::<(), ProductError>(())
/// ```
pub trait Jacobian {
    /// n, the number of outcomes in the batch, and P, the number of parameters. Where rows are spread over ranks, n counts
    /// those that are here, and vectors of n entries are as long.
    fn shape(&self) -> (usize, usize);

    /// `out` (n) = J v, whatever `out` held before.
    ///
    /// # Errors
    /// When the product cannot be formed.
    fn apply(&mut self, v: &[f64], out: &mut [f64]) -> Result<(), ProductError>;

    /// `out` (P) = Jᵀ u, whatever `out` held before.
    ///
    /// # Errors
    /// When the product cannot be formed.
    fn apply_transpose(&mut self, u: &[f64], out: &mut [f64]) -> Result<(), ProductError>;

    /// Which rows of the whole J are here, and how many it has. One process has them all.
    fn place(&self) -> (Range<usize>, usize) {
        let (n, _) = self.shape();
        (0..n, n)
    }

    /// Whether the rows are spread over ranks, even where one of them has all.
    fn spread(&self) -> bool {
        false
    }

    /// Adds up what each rank has of a sum over rows, where the rows are spread over [ranks](crate::ranks). One process has
    /// them all.
    fn sum(&self, partial: &mut [f64]) {
        let _ = partial;
    }

    /// What could not be formed on one rank is an error on all.
    ///
    /// # Errors
    /// When it could not be formed here, or elsewhere.
    fn agree(&self, own: Result<(), ProductError>) -> Result<(), ProductError> {
        own
    }

    /// Rows `first`, `first + 1`, … into `out`, one after the other. By default a product with a unit vector each.
    ///
    /// # Errors
    /// When a row cannot be formed.
    fn fill_rows(&mut self, first: usize, out: &mut [f64]) -> Result<(), ProductError> {
        let (n, p) = self.shape();
        let mut unit = vec![0.0; n];
        for (i, row) in out.chunks_exact_mut(p).enumerate() {
            unit[first + i] = 1.0;
            self.apply_transpose(&unit, row)?;
            unit[first + i] = 0.0;
        }
        Ok(())
    }

    /// Jᵀ (P × n): row after row of J in memory, nP numbers. Every rank has the rows of all.
    ///
    /// # Errors
    /// When a row cannot be formed, or there is no memory for J.
    fn dense_transpose(&mut self) -> Result<Mat<f64>, ProductError> {
        let (_, p) = self.shape();
        let (own, n) = self.place();
        self.agree(check_room("J", p, n))?;
        let mut transpose = Mat::zeros(p, n);
        let formed = each_block(self, |first, block| {
            transpose.as_mut().subcols_mut(own.start + first, block.ncols()).copy_from(block);
        });
        self.agree(formed)?;
        sum_columns(self, &mut transpose);
        Ok(transpose)
    }

    /// K = J Jᵀ (n × n, of the rows of all ranks) into `gram`, which is made as large as that. By default through J itself:
    /// 2n²P operations, memory nP, of which each rank has those of its own rows.
    ///
    /// # Errors
    /// When J cannot be formed, or there is no memory for K.
    fn row_gram(&mut self, gram: &mut Mat<f64>, par: Par) -> Result<(), ProductError> {
        let (_, n) = self.place();
        self.agree(make_square("J J^T", gram, n))?;
        if self.spread() {
            return gram_of_all_ranks(self, gram, par);
        }
        let transpose = self.dense_transpose()?;
        matmul(gram, Accum::Replace, transpose.transpose(), &transpose, 1.0, par);
        Ok(())
    }

    /// The squared lengths of J's columns, the diagonal of JᵀJ, into `out` (P). By default by a few rows of J at a time:
    /// 2nP operations and what the rows cost.
    ///
    /// # Errors
    /// When a row of J cannot be formed.
    fn column_squares(&mut self, out: &mut [f64]) -> Result<(), ProductError> {
        out.fill(0.0);
        let formed = each_block(self, |_, block| {
            for j in 0..block.ncols() {
                out.iter_mut().zip(columns::column(block, j)).for_each(|(out, entry)| *out += entry * entry);
            }
        });
        self.agree(formed)?;
        self.sum(out);
        Ok(())
    }

    /// JᵀJ (P × P, over the rows of all ranks) into `gram`, by a few rows of J at a time: 2nP² operations, memory P².
    ///
    /// # Errors
    /// When a row of J cannot be formed, or there is no memory for JᵀJ.
    fn column_gram(&mut self, gram: &mut Mat<f64>, par: Par) -> Result<(), ProductError> {
        let (_, p) = self.shape();
        self.agree(make_square("J^T J", gram, p))?;
        gram.fill(0.0);
        let formed = each_block(self, |_, block| {
            matmul(&mut *gram, Accum::Add, block, block.transpose(), 1.0, par);
        });
        self.agree(formed)?;
        sum_columns(self, gram);
        Ok(())
    }
}

/// K over ranks: each one's columns are those of its own rows, against a block of all rows after the other.
fn gram_of_all_ranks<J: Jacobian + ?Sized>(
    jacobian: &mut J,
    gram: &mut Mat<f64>,
    par: Par,
) -> Result<(), ProductError> {
    let (_, p) = jacobian.shape();
    let (own, n) = jacobian.place();
    jacobian.agree(check_room("J", p, own.len()))?;
    let mut rows = Mat::zeros(p, own.len());
    let formed = each_block(jacobian, |first, block| {
        rows.as_mut().subcols_mut(first, block.ncols()).copy_from(block);
    });
    jacobian.agree(formed)?;
    gram.fill(0.0);
    let mut block = vec![0.0; p * BLOCK.min(n)];
    for first in (0..n).step_by(BLOCK) {
        let count = BLOCK.min(n - first);
        let block = &mut block[..count * p];
        block.fill(0.0);
        for row in own.start.max(first)..own.end.min(first + count) {
            block[(row - first) * p..][..p].copy_from_slice(rows.col_as_slice(row - own.start));
        }
        jacobian.sum(block);
        let block = MatRef::from_column_major_slice(block, p, count);
        let part = gram.as_mut().submatrix_mut(first, own.start, count, own.len());
        matmul(part, Accum::Replace, block.transpose(), &rows, 1.0, par);
    }
    sum_columns(jacobian, gram);
    Ok(())
}

/// Adds a matrix up over ranks, a few columns at a time; they may lie apart in memory.
fn sum_columns<J: Jacobian + ?Sized>(jacobian: &J, matrix: &mut Mat<f64>) {
    if !jacobian.spread() {
        return;
    }
    let (rows, columns) = matrix.shape();
    let mut packed = Vec::with_capacity(rows * BLOCK.min(columns));
    for first in (0..columns).step_by(BLOCK) {
        let count = BLOCK.min(columns - first);
        packed.clear();
        (first..first + count).for_each(|j| packed.extend_from_slice(matrix.col_as_slice(j)));
        jacobian.sum(&mut packed);
        let summed = MatRef::from_column_major_slice(&packed, rows, count);
        matrix.as_mut().subcols_mut(first, count).copy_from(summed);
    }
}

/// An n-vector of the rows of all ranks, from those that are here.
pub(crate) fn gather_rows(jacobian: &dyn Jacobian, own: &[f64]) -> Vec<f64> {
    let (place, n) = jacobian.place();
    if !jacobian.spread() {
        return own.to_vec();
    }
    let mut all = vec![0.0; n];
    all[place].copy_from_slice(own);
    jacobian.sum(&mut all);
    all
}

/// Makes `matrix` n × n, its entries whatever they are; a matrix of that size is left as it is.
///
/// # Errors
/// When there is no memory for it.
pub(crate) fn make_square(what: &'static str, matrix: &mut Mat<f64>, n: usize) -> Result<(), ProductError> {
    if matrix.shape() != (n, n) {
        check_room(what, n, n)?;
        *matrix = Mat::zeros(n, n);
    }
    Ok(())
}

/// Whether the system would give so many numbers: an allocation that fails ends the program.
fn check_room(product: &'static str, rows: usize, columns: usize) -> Result<(), ProductError> {
    let numbers = rows.checked_mul(columns);
    // Beyond some size the system refuses at once; what it promises and cannot give is the forecast's to find out.
    let there = numbers.is_some_and(|numbers| Vec::<f64>::new().try_reserve_exact(numbers).is_ok());
    if there {
        return Ok(());
    }
    let bytes = 8.0 * rows as f64 * columns as f64 / (1u64 << 30) as f64;
    let reason =
        format!("its {rows} x {columns} entries take {bytes:.1} GiB; a Krylov space needs none of it");
    Err(ProductError { product, reason })
}

/// Rows that are formed, or sent to other ranks, at a time.
pub(crate) const BLOCK: usize = 64;

/// Shows `visit` all rows of J, a few at a time: the first one's number, and the rows as columns (P × count).
fn each_block<J: Jacobian + ?Sized>(
    jacobian: &mut J,
    mut visit: impl FnMut(usize, MatRef<'_, f64>),
) -> Result<(), ProductError> {
    let (n, p) = jacobian.shape();
    let mut rows = vec![0.0; p * BLOCK.min(n)];
    for first in (0..n).step_by(BLOCK) {
        let count = BLOCK.min(n - first);
        let rows = &mut rows[..count * p];
        jacobian.fill_rows(first, rows)?;
        visit(first, MatRef::from_column_major_slice(rows, p, count));
    }
    Ok(())
}
