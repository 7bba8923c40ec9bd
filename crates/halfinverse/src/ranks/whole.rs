//! The mini-batch as all ranks together have it: which part is whose, and the sums that make one loss and one model of it.
//!
//! With f(b) the factor of a mini-batch's loss (1/b for a mean), the problem of b_r of b samples has
//!
//! L = Σ_r c_r L_r,  c_r = f(b)/f(b_r);   h = f(b)·Σ_r b_r h̄_r / b, with h̄_r = h_r/f(b_r) the mean of its own curvatures.
//!
//! Where the h̄_r differ, rows of J get s_r = √(h̄_r/h̄) more and g gets c_r/s_r: they are then what one process has of them.

use std::ops::Range;
use std::sync::Arc;

use super::Team;
use crate::fault::StepError;
use crate::linear::vectors::scale;
use crate::problem::{Samples, Source};
use crate::spectral::SpectralError;

/// The whole mini-batch.
pub(super) struct Whole {
    pub(super) source: Arc<dyn Source>,
    pub(super) team: Team,
    pub(super) samples: Samples,
    /// Whether this rank's problem has the weight that its source says.
    pub(super) weighs: bool,
    /// h, and s_r, at the last gradient or linearization.
    pub(super) curvature: f64,
    pub(super) factor: f64,
}

impl Whole {
    /// This rank's samples: the first ranks have one more where they do not divide.
    pub(super) fn part(&self) -> Range<usize> {
        let (b, size, rank) = (self.samples.len(), self.team.size(), self.team.rank());
        (rank * b).div_ceil(size)..((rank + 1) * b).div_ceil(size)
    }

    /// Where this rank's rows are among all, of which there are so many.
    pub(super) fn rows(&self) -> (Range<usize>, usize) {
        let (part, m) = (self.part(), self.source.outcomes());
        (part.start * m..part.end * m, self.samples.len() * m)
    }

    /// f of so many samples.
    fn loss_factor(&self, samples: usize) -> f64 {
        self.source.weight(samples) / samples as f64
    }

    /// c_r; 0 where there is no sample.
    pub(super) fn share(&self) -> f64 {
        let own = self.part().len();
        if own == 0 { 0.0 } else { self.loss_factor(self.samples.len()) / self.loss_factor(own) }
    }

    /// Refuses a source whose weight is not that of its problems: losses would be added up wrongly.
    pub(super) fn check_weight(&self) -> Result<(), StepError> {
        if self.weighs {
            return Ok(());
        }
        let needs = "a source whose weight(samples) is that of its problems";
        Err(StepError::Unsupported { optimizer: "a run over ranks", needs })
    }

    /// The same error on all ranks.
    pub(super) fn agree(&self, own: Result<(), StepError>) -> Result<(), StepError> {
        self.team.agree(&mut [], own, self.part().start)
    }

    /// L from the own L_r into the first of the sums, all of which are summed; or the same error on all ranks.
    pub(super) fn agree_on_loss(
        &self,
        own: Result<f64, StepError>,
        sums: &mut [f64],
    ) -> Result<(), StepError> {
        let own = own.and_then(|loss| self.check_weight().map(|()| loss));
        if let (Ok(loss) | Err(StepError::LossNotFinite { loss, .. }), true) = (&own, self.share() > 0.0) {
            sums[0] = self.share() * loss;
        }
        let agreed = self.team.agree(sums, own.map(drop), self.part().start);
        agreed.map_err(|error| match error {
            StepError::LossNotFinite { culprit, .. } => StepError::LossNotFinite { loss: sums[0], culprit },
            error => error,
        })
    }

    /// The same of a gradient or linearization, with h and s_r from the own h_r.
    pub(super) fn agree_on_model(&mut self, own: Result<(f64, f64), StepError>) -> Result<f64, StepError> {
        let (b, count) = (self.samples.len(), self.part().len());
        let mean = match &own {
            Ok((_, h)) if count > 0 => h / self.loss_factor(count),
            _ => 0.0,
        };
        let mut sums = [0.0, mean * count as f64];
        self.agree_on_loss(own.map(|(loss, _)| loss), &mut sums)?;
        if !sums[0].is_finite() {
            return Err(StepError::LossNotFinite { loss: sums[0], culprit: None });
        }
        let all = sums[1] / b as f64;
        let all = if all > 0.0 && all.is_finite() { all } else { 1.0 };
        self.curvature = self.loss_factor(b) * all;
        self.factor = if mean > 0.0 { (mean / all).sqrt() } else { 1.0 };
        if (self.factor - 1.0).abs() < 1e-14 {
            // Round-off of a mean of numbers that are all the same.
            self.factor = 1.0;
        }
        Ok(sums[0])
    }

    /// Adds up over ranks; all is NaN where one is lost, and the next agreement tells.
    pub(super) fn sum(&self, partial: &mut [f64]) {
        if self.team.sum(partial).is_err() {
            partial.fill(f64::NAN);
        }
    }

    /// Refuses a g_r that is not finite, by its entry's place among all.
    pub(super) fn check_rows(&self, rows: &[f64]) -> Result<(), StepError> {
        let first = self.rows().0.start;
        let finite = SpectralError::check_finite("g", rows).map_err(|error| match error {
            SpectralError::NotFinite { what, index, value } => {
                SpectralError::NotFinite { what, index: first + index, value }
            }
            error => error,
        });
        Ok(finite?)
    }

    /// Makes g of the own g_r.
    pub(super) fn scale_rows(&self, rows: &mut [f64]) {
        scale(rows, self.share() / self.factor);
    }
}
