//! L = 1 − |⟨t|y⟩|² per sample, for complex states. Column 2j of outcome and target holds the real part of the state's
//! component j, column 2j + 1 its imaginary part.
//!
//! With ⟨t|y⟩ = a + ib: a = Σ (t_re y_re + t_im y_im), b = Σ (t_re y_im − t_im y_re), and
//! ∂L/∂y_re = −2(a·t_re − b·t_im), ∂L/∂y_im = −2(a·t_im + b·t_re). Between 0 and 1 for states of length 1.

use std::sync::Arc;

use faer::prelude::ReborrowMut;
use faer::{MatMut, MatRef};
use serde::{Deserialize, Serialize};

use super::{Curvature, Objective, Setup};
use crate::error::{SettingError, ShapeError};
use crate::linear::columns::{column, column_mut};

/// [`Overlap`] has nothing to set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OverlapSettings {}

impl Setup for OverlapSettings {
    const KIND: &'static str = "overlap";

    fn build(self) -> Result<Arc<dyn Objective>, SettingError> {
        Ok(Arc::new(Overlap))
    }
}

/// What is missing to a full overlap of outcome and target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Overlap;

impl Objective for Overlap {
    /// Of |y − e^{iφ}t|² with the best phase φ, which for states of length 1 is 2 − 2|⟨t|y⟩| and meets this loss where
    /// the overlap is full.
    fn curvature(&self) -> Curvature<'_> {
        Curvature::Uniform(2.0)
    }

    fn check(&self, outcomes: usize) -> Result<(), ShapeError> {
        ShapeError::check("the overlap's outcome", "components", outcomes.next_multiple_of(2), outcomes)
    }

    fn losses(
        &self,
        outcome: MatRef<'_, f64>,
        target: MatRef<'_, f64>,
        losses: &mut [f64],
        mut gradient: Option<MatMut<'_, f64>>,
    ) {
        for (s, loss) in losses.iter_mut().enumerate() {
            let at = |matrix: MatRef<'_, f64>, c: usize| column(matrix, c)[s];
            let (mut a, mut b) = (0.0, 0.0);
            for re in (0..outcome.ncols()).step_by(2) {
                let (y, t) = ((at(outcome, re), at(outcome, re + 1)), (at(target, re), at(target, re + 1)));
                a += t.0 * y.0 + t.1 * y.1;
                b += t.0 * y.1 - t.1 * y.0;
            }
            *loss = 1.0 - a * a - b * b;
            if let Some(gradient) = &mut gradient {
                for re in (0..outcome.ncols()).step_by(2) {
                    let t = (at(target, re), at(target, re + 1));
                    column_mut(gradient.rb_mut(), re)[s] = -2.0 * (a * t.0 - b * t.1);
                    column_mut(gradient.rb_mut(), re + 1)[s] = -2.0 * (a * t.1 + b * t.0);
                }
            }
        }
    }
}
