//! L = factor · Σ (y − t)² per sample.

use faer::prelude::ReborrowMut;
use faer::{MatMut, MatRef};

use super::{Objective, Reduction};
use crate::columns::{column, column_mut};

/// Weighted squared distance of the outcome from its target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SquaredError {
    /// Factor of the squared distance: 1, or ½.
    pub factor: f64,
    /// How samples are combined.
    pub reduction: Reduction,
}

impl Objective for SquaredError {
    fn reduction(&self) -> Reduction {
        self.reduction
    }

    /// Exact: the loss is quadratic in y.
    fn curvature(&self) -> f64 {
        2.0 * self.factor
    }

    fn sum(
        &self,
        outcome: MatRef<'_, f64>,
        target: MatRef<'_, f64>,
        mut gradient: Option<MatMut<'_, f64>>,
    ) -> f64 {
        let mut sum = 0.0;
        for c in 0..outcome.ncols() {
            let pairs = column(outcome, c).iter().zip(column(target, c));
            sum += pairs.clone().map(|(y, t)| (y - t) * (y - t)).sum::<f64>();
            if let Some(gradient) = &mut gradient {
                let gradient = column_mut(gradient.rb_mut(), c);
                for (g, (y, t)) in gradient.iter_mut().zip(pairs) {
                    *g = 2.0 * self.factor * (y - t);
                }
            }
        }
        self.factor * sum
    }
}
