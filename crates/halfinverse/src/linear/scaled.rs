//! J with its columns in other units: J D^−1 for a diagonal D.

use std::ops::Range;

use super::{Jacobian, ProductError};

/// J D^−1, where a product costs what one with J does and P multiplications more.
pub(crate) struct ScaledColumns<'a> {
    inner: &'a mut dyn Jacobian,
    /// The diagonal of D^−1.
    inverse: &'a [f64],
    scaled: Vec<f64>,
}

impl<'a> ScaledColumns<'a> {
    pub(crate) fn new(inner: &'a mut dyn Jacobian, inverse: &'a [f64]) -> Self {
        Self { inner, inverse, scaled: vec![0.0; inverse.len()] }
    }

    fn scale(&self, vector: &mut [f64]) {
        vector.iter_mut().zip(self.inverse).for_each(|(value, inverse)| *value *= inverse);
    }
}

impl Jacobian for ScaledColumns<'_> {
    fn shape(&self) -> (usize, usize) {
        self.inner.shape()
    }

    fn apply(&mut self, v: &[f64], out: &mut [f64]) -> Result<(), ProductError> {
        let mut scaled = std::mem::take(&mut self.scaled);
        scaled.copy_from_slice(v);
        self.scale(&mut scaled);
        self.scaled = scaled;
        self.inner.apply(&self.scaled, out)
    }

    fn apply_transpose(&mut self, u: &[f64], out: &mut [f64]) -> Result<(), ProductError> {
        self.inner.apply_transpose(u, out)?;
        self.scale(out);
        Ok(())
    }

    fn place(&self) -> (Range<usize>, usize) {
        self.inner.place()
    }

    fn spread(&self) -> bool {
        self.inner.spread()
    }

    fn sum(&self, partial: &mut [f64]) {
        self.inner.sum(partial);
    }

    fn agree(&self, own: Result<(), ProductError>) -> Result<(), ProductError> {
        self.inner.agree(own)
    }

    fn fill_rows(&mut self, first: usize, out: &mut [f64]) -> Result<(), ProductError> {
        self.inner.fill_rows(first, out)?;
        out.chunks_exact_mut(self.inverse.len()).for_each(|row| self.scale(row));
        Ok(())
    }
}
