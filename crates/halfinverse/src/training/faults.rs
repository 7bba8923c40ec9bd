//! Numerical faults: what counts as one, and what a run does about it.
//!
//! A fault is a step that ends with an error (NaN or infinity in data, outcome, J or update; a simulator that fails), or a blow-up:
//! with l the loss of the mini-batch before each step, or 1e-12 of the first one's where it is less, ln ℓ ← 0.9 ln ℓ + 0.1 ln l,
//! and ℓ* the lowest that ℓ has been,
//!
//! ℓ > `training.blow_up`·ℓ*.
//!
//! A geometric mean, because a loss may shoot up for a step and come back by itself, as Gauss–Newton's first ones do: only what
//! stays up is a blow-up.
//!
//! | `training.on_fault` | what happens |
//! |---|---|
//! | `stop` | the run ends; θ is as it was before the step that failed |
//! | `roll-back` | θ and the optimizer's memory go back to the last evaluation at which l ≤ 10ℓ*; steps are half as long, and grow by 1 % each |
//! | `skip` | the mini-batch is left out; θ and memory stay, but hig-kron's and hig-auto's, which begin anew where they must. A blow-up ends the run: it is not one mini-batch's |
//!
//! Steps get no shorter than 2⁻²⁰ of their length, and 100 mini-batches in a row are skipped at most; then the run ends. An optimizer that
//! chooses the length of its steps by itself goes on with its own choice.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::error::StepError;
use crate::optimizer::Memory;
use crate::task::{OnFault, TrainingSettings};

/// What a run remembers of its faults.
#[derive(Debug, Clone)]
pub(super) struct Faults {
    policy: OnFault,
    blow_up: f64,
    /// ln of ℓ, ℓ* and the first l; none before the first step.
    losses: Option<(f64, f64, f64)>,
    /// Part of the learning rate that is used.
    pub(super) caution: f64,
    /// Faults in a row.
    streak: u32,
    /// Faults so far.
    pub(super) count: u64,
    /// Where a roll-back goes to.
    pub(super) good: Option<Good>,
}

/// A state that was in order.
#[derive(Debug, Clone)]
pub(super) struct Good {
    pub(super) theta: Vec<f64>,
    pub(super) memory: BTreeMap<String, Vec<f64>>,
}

/// What a fault calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    Stop,
    RollBack,
    Skip,
}

/// What ℓ keeps of itself from step to step.
const KEEP: f64 = 0.9;
/// l relative to the first one, at least: below that is round-off.
const FLOOR: f64 = 1e-12;
/// l relative to ℓ* up to which a state is in order.
const LOW: f64 = 10.0;
/// What a roll-back leaves of the steps' length, how that grows again, and its least: 20 halvings.
const SHRINK: f64 = 0.5;
const GROW: f64 = 1.01;
const LEAST: f64 = 9.5e-7;
/// Mini-batches that are skipped in a row.
const MOST_SKIPPED: u32 = 100;

impl Faults {
    pub(super) fn new(settings: &TrainingSettings) -> Self {
        Self {
            policy: settings.on_fault,
            blow_up: settings.blow_up,
            losses: None,
            caution: 1.0,
            streak: 0,
            count: 0,
            good: None,
        }
    }

    /// Another optimizer begins: its losses are not to be measured by those before.
    pub(super) fn begin(&mut self) {
        (self.losses, self.good) = (None, None);
    }

    /// Whether there is nothing to go back to yet, and the present state would do.
    pub(super) fn lacks_good(&self) -> bool {
        self.good.is_none() && self.losses.is_none_or(|(mean, best, _)| mean <= best + LOW.ln())
    }

    /// Whether there is a use for states to go back to.
    pub(super) fn keeps_good(&self) -> bool {
        self.policy == OnFault::RollBack
    }

    /// Takes in the loss that a step began from; tells whether the state that had it was in order.
    pub(super) fn watch(&mut self, loss: f64) -> Result<bool, StepError> {
        if !loss.is_finite() {
            return Err(StepError::LossNotFinite { loss, culprit: None });
        }
        let log = loss.max(f64::MIN_POSITIVE).ln();
        let (mean, best, first) = self.losses.unwrap_or((log, log, log));
        let log = log.max(first + FLOOR.ln());
        let mean = KEEP * mean + (1.0 - KEEP) * log;
        let best = best.min(mean);
        self.losses = Some((mean, best, first));
        if self.blow_up > 0.0 && mean > best + self.blow_up.ln() {
            return Err(StepError::BlowUp { loss: mean.exp(), best: best.exp() });
        }
        self.streak = 0;
        self.caution = (GROW * self.caution).min(1.0);
        Ok(log <= best + LOW.ln())
    }

    /// What to do about an error; counts it where the run goes on.
    pub(super) fn remedy(&mut self, error: &StepError) -> Remedy {
        let remedy = match self.policy {
            OnFault::RollBack if self.good.is_some() && SHRINK * self.caution >= LEAST => {
                self.caution *= SHRINK;
                // ℓ* stands; ℓ begins again from it.
                if let Some((mean, best, _)) = &mut self.losses {
                    *mean = *best;
                }
                Remedy::RollBack
            }
            OnFault::Skip if self.streak < MOST_SKIPPED && !matches!(error, StepError::BlowUp { .. }) => {
                Remedy::Skip
            }
            _ => return Remedy::Stop,
        };
        self.count += 1;
        self.streak += 1;
        remedy
    }

    /// Saves what the next step depends on, or takes it back.
    pub(super) fn visit(&mut self, memory: &mut Memory) {
        let (mut mean, mut best, mut first) = self.losses.unwrap_or((f64::NAN, f64::NAN, f64::NAN));
        memory.numbers("losses", [&mut mean, &mut best, &mut first]);
        self.losses = (!first.is_nan()).then_some((mean, best, first));
        memory.numbers("caution", [&mut self.caution]);
        memory.small_count("streak", &mut self.streak);
        memory.count("count", &mut self.count);
        if !self.caution.is_finite() || self.caution <= 0.0 || self.caution > 1.0 {
            memory.refuse("caution");
        }
    }
}
