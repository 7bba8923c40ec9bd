//! Controls times constant factors: y_j = s_j·z_j, per sample.
//!
//! The smallest simulator that can be ill-conditioned: its singular values are the |s_j|. With all factors 1 it is no
//! simulator at all, and training is plain regression.
//!
//! Source of the two-factor example: Schnell, Holl, Thuerey, ICLR 2022, section 3.

use faer::prelude::ReborrowMut;
use faer::{MatMut, MatRef};

use super::{Derivative, Point, Simulator, SimulatorError};
use crate::columns::{column, column_mut};

/// Multiplication by a factor per component.
#[derive(Debug, Clone, PartialEq)]
pub struct Scaling {
    factors: Vec<f64>,
}

impl Scaling {
    /// With the factors s, one per control.
    #[must_use]
    pub fn new(factors: Vec<f64>) -> Self {
        Self { factors }
    }

    /// The factors.
    #[must_use]
    pub fn factors(&self) -> &[f64] {
        &self.factors
    }

    fn scale(&self, from: MatRef<'_, f64>, mut to: MatMut<'_, f64>) {
        for (j, factor) in self.factors.iter().enumerate() {
            for (to, from) in column_mut(to.rb_mut(), j).iter_mut().zip(column(from, j)) {
                *to = factor * from;
            }
        }
    }
}

impl Simulator for Scaling {
    fn controls(&self) -> usize {
        self.factors.len()
    }

    fn outcomes(&self) -> usize {
        self.factors.len()
    }

    fn initials(&self) -> usize {
        0
    }

    fn forward(
        &self,
        _: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
        outcome: MatMut<'_, f64>,
        _: &mut [f64],
    ) -> Result<(), SimulatorError> {
        self.scale(control, outcome);
        Ok(())
    }

    fn natural(&self) -> Derivative {
        Derivative::Jvp
    }

    fn jvp(
        &self,
        _: Point<'_>,
        tangent: MatRef<'_, f64>,
        out: MatMut<'_, f64>,
    ) -> Result<(), SimulatorError> {
        self.scale(tangent, out);
        Ok(())
    }

    fn vjp(
        &self,
        _: Point<'_>,
        cotangent: MatRef<'_, f64>,
        out: MatMut<'_, f64>,
    ) -> Result<(), SimulatorError> {
        self.scale(cotangent, out);
        Ok(())
    }

    fn couples(&self, control: usize, outcome: usize) -> bool {
        control == outcome
    }
}
