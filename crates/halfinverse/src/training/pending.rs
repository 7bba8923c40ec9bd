//! What has happened since the last row of metrics: a resumed run writes the next row as it would have been.

use serde::{Deserialize, Serialize};

use crate::optimizer::{Notice, StepReport};

/// Sums and counts since the last row, and the last step.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Pending {
    /// Sum of the steps' losses.
    losses: f64,
    steps: u32,
    fallbacks: u64,
    rejected: u64,
    pub(super) faults: u64,
    /// Steps that changed θ above round-off.
    pub(super) moved: u64,
    /// The last one.
    pub(super) notice: Option<Notice>,
    pub(super) last: Option<StepReport>,
}

/// A count of a saved run beyond which it is refused, so that it can count on.
const MOST: u64 = 1 << 30;

impl Pending {
    /// Whether nothing has.
    pub(super) fn is_empty(&self) -> bool {
        self.steps == 0 && self.faults == 0
    }

    /// Whether a step was made.
    pub(super) fn stepped(&self) -> bool {
        self.steps > 0
    }

    /// Takes in a step.
    pub(super) fn add(&mut self, report: &StepReport) {
        self.steps = self.steps.saturating_add(1);
        self.rejected += u64::from(report.rejected);
        self.losses += report.loss;
        self.fallbacks += u64::from(report.spectral.as_ref().is_some_and(|s| !s.fallbacks.is_empty()));
    }

    /// Mean loss of the steps.
    pub(super) fn mean_loss(&self) -> Option<f64> {
        self.stepped().then(|| self.losses / f64::from(self.steps))
    }

    /// Spectral steps that needed a fallback; steps that were taken back.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.fallbacks, self.rejected)
    }

    /// Whether a run can have saved this.
    pub(super) fn is_plausible(&self) -> bool {
        let counts = [u64::from(self.steps), self.fallbacks, self.rejected, self.faults, self.moved];
        counts.iter().all(|&count| count < MOST)
    }
}
