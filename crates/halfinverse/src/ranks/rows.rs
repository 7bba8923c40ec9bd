//! J of which every rank has the rows of its own samples.

use std::ops::Range;

use super::Team;
use crate::linear::vectors::scale;
use crate::linear::{Jacobian, ProductError};

/// This rank's rows, times a factor.
pub(super) struct Rows<'a> {
    pub(super) team: &'a Team,
    /// None where this rank has no sample.
    pub(super) own: Option<Box<dyn Jacobian + 'a>>,
    /// Where its rows are among all, of which there are so many.
    pub(super) place: (Range<usize>, usize),
    pub(super) parameters: usize,
    pub(super) factor: f64,
    /// Whether products with J may fail on one rank alone.
    pub(super) fallible: bool,
    pub(super) scaled: Vec<f64>,
}

impl Rows<'_> {
    fn agree_on(&self, own: Result<(), ProductError>) -> Result<(), ProductError> {
        if self.fallible { self.agree(own) } else { own }
    }
}

impl Jacobian for Rows<'_> {
    fn shape(&self) -> (usize, usize) {
        (self.place.0.len(), self.parameters)
    }

    fn apply(&mut self, v: &[f64], out: &mut [f64]) -> Result<(), ProductError> {
        let applied = self.own.as_mut().map_or(Ok(()), |own| own.apply(v, out));
        scale(out, self.factor);
        self.agree_on(applied)
    }

    fn apply_transpose(&mut self, u: &[f64], out: &mut [f64]) -> Result<(), ProductError> {
        let mut scaled = std::mem::take(&mut self.scaled);
        scaled.clear();
        scaled.extend_from_slice(u);
        scale(&mut scaled, self.factor);
        let applied = if let Some(own) = &mut self.own {
            own.apply_transpose(&scaled, out)
        } else {
            out.fill(0.0);
            Ok(())
        };
        self.scaled = scaled;
        self.agree_on(applied)
    }

    fn place(&self) -> (Range<usize>, usize) {
        self.place.clone()
    }

    fn spread(&self) -> bool {
        self.team.size() > 1
    }

    /// Where a rank is lost, all is NaN, and the step ends with that.
    fn sum(&self, partial: &mut [f64]) {
        if self.team.sum(partial).is_err() {
            partial.fill(f64::NAN);
        }
    }

    fn agree(&self, own: Result<(), ProductError>) -> Result<(), ProductError> {
        let own = own.map_err(Into::into);
        self.team.agree(&mut [], own, 0).map_err(|error| match error {
            crate::StepError::Product(error) => error,
            error => ProductError { product: "J", reason: error.to_string() },
        })
    }

    fn fill_rows(&mut self, first: usize, out: &mut [f64]) -> Result<(), ProductError> {
        let filled = self.own.as_mut().map_or(Ok(()), |own| own.fill_rows(first, out));
        scale(out, self.factor);
        filled
    }

    fn column_squares(&mut self, out: &mut [f64]) -> Result<(), ProductError> {
        let formed = if let Some(own) = &mut self.own {
            own.column_squares(out)
        } else {
            out.fill(0.0);
            Ok(())
        };
        self.agree(formed)?;
        scale(out, self.factor * self.factor);
        self.sum(out);
        Ok(())
    }
}
