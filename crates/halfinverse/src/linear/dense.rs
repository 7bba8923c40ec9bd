//! A Jacobian that is stored: here, or where somebody else keeps it.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};

use super::{Jacobian, ProductError, make_square};

/// J (n × P) in memory; products cost 2nP operations.
#[derive(Debug, Clone)]
pub struct DenseJacobian {
    matrix: Mat<f64>,
}

impl DenseJacobian {
    /// Wraps J (n × P).
    ///
    /// # Example
    /// ```
    /// use halfinverse::linear::{DenseJacobian, Jacobian};
    /// let mut j = DenseJacobian::new(faer::mat![[3.0, 0.0], [0.0, 2.0], [0.0, 0.0]]);
    /// let mut product = [0.0; 3];
    /// j.apply(&[1.0, 1.0], &mut product)?;
    /// assert_eq!(product, [3.0, 2.0, 0.0]);
    /// # Ok::<(), halfinverse::linear::ProductError>(())
    /// ```
    #[must_use]
    pub fn new(matrix: Mat<f64>) -> Self {
        Self { matrix }
    }

    /// J.
    #[must_use]
    pub fn matrix(&self) -> MatRef<'_, f64> {
        self.matrix.as_ref()
    }
}

impl Jacobian for DenseJacobian {
    fn shape(&self) -> (usize, usize) {
        self.matrix.shape()
    }

    fn apply(&mut self, v: &[f64], out: &mut [f64]) -> Result<(), ProductError> {
        out.fill(0.0);
        for (j, &v) in v.iter().enumerate() {
            for (out, entry) in out.iter_mut().zip(self.matrix.col_as_slice(j)) {
                *out += entry * v;
            }
        }
        Ok(())
    }

    fn apply_transpose(&mut self, u: &[f64], out: &mut [f64]) -> Result<(), ProductError> {
        for (j, out) in out.iter_mut().enumerate() {
            *out = self.matrix.col_as_slice(j).iter().zip(u).map(|(entry, u)| entry * u).sum();
        }
        Ok(())
    }

    fn fill_rows(&mut self, first: usize, out: &mut [f64]) -> Result<(), ProductError> {
        for (i, row) in out.chunks_exact_mut(self.matrix.ncols()).enumerate() {
            for (j, entry) in row.iter_mut().enumerate() {
                *entry = self.matrix[(first + i, j)];
            }
        }
        Ok(())
    }
}

/// J (n × P) in memory that is somebody else's, row by row, column by column or with any strides; nothing is copied for
/// products and Gram matrices.
///
/// # Example
/// ```
/// use halfinverse::faer::MatRef;
/// use halfinverse::linear::{DenseView, Jacobian};
/// let rows = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
/// let mut j = DenseView::new(MatRef::from_row_major_slice(&rows, 2, 3));
/// let mut product = [0.0; 2];
/// j.apply(&[1.0, 0.0, 1.0], &mut product)?;
/// assert_eq!(product, [4.0, 10.0]);
/// # Ok::<(), halfinverse::linear::ProductError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct DenseView<'a> {
    matrix: MatRef<'a, f64>,
}

impl<'a> DenseView<'a> {
    /// Of J (n × P).
    #[must_use]
    pub fn new(matrix: MatRef<'a, f64>) -> Self {
        Self { matrix }
    }
}

/// `out` = A x.
fn multiply(a: MatRef<'_, f64>, x: &[f64], out: &mut [f64]) {
    let (rows, columns) = a.shape();
    let x = MatRef::from_column_major_slice(x, columns, 1);
    matmul(MatMut::from_column_major_slice_mut(out, rows, 1), Accum::Replace, a, x, 1.0, Par::Seq);
}

impl Jacobian for DenseView<'_> {
    fn shape(&self) -> (usize, usize) {
        self.matrix.shape()
    }

    fn apply(&mut self, v: &[f64], out: &mut [f64]) -> Result<(), ProductError> {
        multiply(self.matrix, v, out);
        Ok(())
    }

    fn apply_transpose(&mut self, u: &[f64], out: &mut [f64]) -> Result<(), ProductError> {
        multiply(self.matrix.transpose(), u, out);
        Ok(())
    }

    fn fill_rows(&mut self, first: usize, out: &mut [f64]) -> Result<(), ProductError> {
        let columns = self.matrix.ncols();
        let count = out.len() / columns;
        let rows = self.matrix.subrows(first, count);
        MatMut::from_row_major_slice_mut(out, count, columns).copy_from(rows);
        Ok(())
    }

    fn row_gram(&mut self, gram: &mut Mat<f64>, par: Par) -> Result<(), ProductError> {
        make_square("J J^T", gram, self.matrix.nrows())?;
        matmul(gram, Accum::Replace, self.matrix, self.matrix.transpose(), 1.0, par);
        Ok(())
    }

    fn column_gram(&mut self, gram: &mut Mat<f64>, par: Par) -> Result<(), ProductError> {
        make_square("J^T J", gram, self.matrix.ncols())?;
        matmul(gram, Accum::Replace, self.matrix.transpose(), self.matrix, 1.0, par);
        Ok(())
    }
}
