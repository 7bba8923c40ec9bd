//! L = −Σ t_c ln p_c per sample, for p_c = exp y_c / Σ exp y: outcomes are logits, targets the classes' probabilities
//! (1 for the class that it is, 0 for all others).
//!
//! With T = Σ t: L = T ln Σ exp y − Σ t_c y_c, g = T p − t, and the Hessian T(diag(p) − p pᵀ) is what
//! [`Curvature::Centred`] makes of h = T p. It does not depend on t where T = 1: the Gauss–Newton model is Newton's.
//!
//! h is at least T·1e-8, so that g/√h remains finite where a class that is right has the probability 0. This changes H
//! by as little, and g not at all.

use std::sync::Arc;

use faer::prelude::ReborrowMut;
use faer::{Mat, MatMut, MatRef};
use serde::{Deserialize, Serialize};

use super::{Curvature, Objective, Setup};
use crate::error::{SettingError, ShapeError};
use crate::linear::columns::{column, column_mut};

/// [`CrossEntropy`] has nothing to set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CrossEntropySettings {}

impl Setup for CrossEntropySettings {
    const KIND: &'static str = "cross-entropy";

    fn build(self) -> Result<Arc<dyn Objective>, SettingError> {
        Ok(Arc::new(CrossEntropy))
    }
}

/// Cross-entropy of the classes' probabilities, for outcomes that are logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CrossEntropy;

/// The least p that curvature has: √ of the round-off.
const LEAST: f64 = 1e-8;

/// The probabilities that logits (b × m) stand for.
///
/// # Example
/// ```
/// use halfinverse::{faer::mat, objective::probabilities};
/// let p = probabilities(mat![[0.0, 3f64.ln()], [1000.0, 0.0]].as_ref());
/// assert!((p[(0, 1)] - 0.75).abs() < 1e-15 && p[(1, 0)] == 1.0);
/// ```
#[must_use]
pub fn probabilities(logits: MatRef<'_, f64>) -> Mat<f64> {
    let mut p = Mat::zeros(logits.nrows(), logits.ncols());
    put_probabilities(logits, p.as_mut());
    p
}

fn put_probabilities(logits: MatRef<'_, f64>, mut p: MatMut<'_, f64>) {
    for s in 0..logits.nrows() {
        let log_sum = log_sum(logits, s);
        (0..logits.ncols()).for_each(|c| p[(s, c)] = (logits[(s, c)] - log_sum).exp());
    }
}

/// ln Σ exp y of a sample.
fn log_sum(y: MatRef<'_, f64>, s: usize) -> f64 {
    let of = || (0..y.ncols()).map(|c| y[(s, c)]);
    let largest = of().fold(f64::NEG_INFINITY, f64::max);
    largest + of().map(|y| (y - largest).exp()).sum::<f64>().ln()
}

/// T of a sample.
fn total(target: MatRef<'_, f64>, s: usize) -> f64 {
    (0..target.ncols()).map(|c| target[(s, c)]).sum()
}

impl Objective for CrossEntropy {
    fn curvature(&self) -> Curvature<'_> {
        Curvature::Centred(Box::new(|outcome, target, mut h| {
            put_probabilities(outcome, h.rb_mut());
            for s in 0..h.nrows() {
                let total = total(target, s);
                (0..h.ncols()).for_each(|c| h[(s, c)] = total * h[(s, c)].max(LEAST));
            }
        }))
    }

    fn check(&self, outcomes: usize) -> Result<(), ShapeError> {
        ShapeError::check("the cross-entropy's outcome", "classes or more", 2, outcomes.min(2))
    }

    fn losses(
        &self,
        outcome: MatRef<'_, f64>,
        target: MatRef<'_, f64>,
        losses: &mut [f64],
        mut gradient: Option<MatMut<'_, f64>>,
    ) {
        for (s, loss) in losses.iter_mut().enumerate() {
            let (log_sum, total) = (log_sum(outcome, s), total(target, s));
            *loss = 0.0;
            for c in 0..outcome.ncols() {
                let (y, t) = (column(outcome, c)[s], column(target, c)[s]);
                // Not T ln Σ exp y − Σ t y, whose terms may be large and nearly the same.
                *loss += t * (log_sum - y);
                if let Some(gradient) = &mut gradient {
                    column_mut(gradient.rb_mut(), c)[s] = total * (y - log_sum).exp() - t;
                }
            }
        }
    }
}
