//! L = 1 − |⟨t|y⟩|² per sample, for complex states given as real and imaginary parts by component.
//!
//! With ⟨t|y⟩ = a + ib: a = Σ (t_re y_re + t_im y_im), b = Σ (t_re y_im − t_im y_re), and
//! ∂L/∂y_re = −2(a·t_re − b·t_im), ∂L/∂y_im = −2(a·t_im + b·t_re). Between 0 and 1 for states of length 1.

use faer::prelude::ReborrowMut;
use faer::{MatMut, MatRef};

use super::{Objective, Reduction};
use crate::columns::{column, column_mut};

/// What is missing to a full overlap of outcome and target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Overlap {
    /// How samples are combined.
    pub reduction: Reduction,
}

impl Objective for Overlap {
    fn reduction(&self) -> Reduction {
        self.reduction
    }

    /// Of |y − e^{iφ}t|² with the best phase φ, which for states of length 1 is 2 − 2|⟨t|y⟩| and meets this loss where
    /// the overlap is full.
    fn curvature(&self) -> f64 {
        2.0
    }

    fn sum(
        &self,
        outcome: MatRef<'_, f64>,
        target: MatRef<'_, f64>,
        mut gradient: Option<MatMut<'_, f64>>,
    ) -> f64 {
        let mut sum = 0.0;
        for s in 0..outcome.nrows() {
            let at = |matrix: MatRef<'_, f64>, c: usize| column(matrix, c)[s];
            let (mut a, mut b) = (0.0, 0.0);
            for re in (0..outcome.ncols()).step_by(2) {
                let (y, t) = ((at(outcome, re), at(outcome, re + 1)), (at(target, re), at(target, re + 1)));
                a += t.0 * y.0 + t.1 * y.1;
                b += t.0 * y.1 - t.1 * y.0;
            }
            sum += 1.0 - a * a - b * b;
            if let Some(gradient) = &mut gradient {
                for re in (0..outcome.ncols()).step_by(2) {
                    let t = (at(target, re), at(target, re + 1));
                    column_mut(gradient.rb_mut(), re)[s] = -2.0 * (a * t.0 - b * t.1);
                    column_mut(gradient.rb_mut(), re + 1)[s] = -2.0 * (a * t.1 + b * t.0);
                }
            }
        }
        sum
    }
}
