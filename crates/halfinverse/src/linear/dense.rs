//! A Jacobian that is stored.

use faer::{Mat, MatRef};

use super::{Jacobian, ProductError};

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
