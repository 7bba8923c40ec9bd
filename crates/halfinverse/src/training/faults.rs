//! Numerical faults: what counts as one, and what a run does about it.
//!
//! A fault is a step that ends with an error (NaN or infinity in data, outcome, J or update; a simulator that fails),
//! or a blow-up: with l the loss of the mini-batch before each step, or 1e-12 of the first one's where it is less, ln ℓ
//! ← 0.9 ln ℓ + 0.1 ln l, and ℓ* the lowest that ℓ has been,
//!
//! ℓ > `training.blow_up`·ℓ*.
//!
//! A geometric mean, because a loss may shoot up for a step and come back by itself, as Gauss–Newton's first ones do:
//! only what stays up is a blow-up.
//!
//! | `training.on_fault` | what happens |
//! |---|---|
//! | `stop` | the run ends; θ is as it was before the step that failed |
//! | `roll-back` | θ and the optimizer's memory go back to the last evaluation at which l ≤ 10ℓ*; steps are half as long, and grow by 1 % each |
//! | `skip` | the mini-batch is left out; θ and memory stay, but hig-kron's and hig-auto's, which begin anew where they must. A blow-up ends the run: it is not one mini-batch's |
//!
//! Steps get no shorter than 2⁻²⁰ of their length, and 100 mini-batches in a row are skipped at most; then the run
//! ends. An optimizer that chooses the length of its steps by itself goes on with its own choice.

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::{OnFault, Trainer, TrainingError};
use crate::fault::StepError;
use crate::optimizer::{State, StateError};

/// The policy on faults, and what a run remembers of them.
#[derive(Debug, Clone)]
pub(super) struct Faults {
    policy: OnFault,
    blow_up: f64,
    pub(super) memory: Memory,
    /// Where a roll-back goes to.
    pub(super) good: Option<Good>,
}

/// What the next step depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Memory {
    /// Unknown before the first step.
    losses: Option<Losses>,
    /// Part of the learning rate that is used.
    pub(super) caution: f64,
    /// Faults in a row.
    streak: u32,
    /// Faults so far.
    pub(super) count: u64,
}

/// Logarithms of losses.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Losses {
    /// ln ℓ.
    mean: f64,
    /// ln ℓ*.
    lowest: f64,
    /// ln of the first l.
    first: f64,
}

/// A state that was in order.
#[derive(Debug, Clone)]
pub(super) struct Good {
    pub(super) theta: Vec<f64>,
    pub(super) optimizer: State,
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
    pub(super) fn new(policy: OnFault, blow_up: f64) -> Self {
        let memory = Memory { losses: None, caution: 1.0, streak: 0, count: 0 };
        Self { policy, blow_up, memory, good: None }
    }

    /// Another optimizer begins: its losses are not to be measured by those before.
    pub(super) fn begin(&mut self) {
        (self.memory.losses, self.good) = (None, None);
    }

    /// Whether there is nothing to go back to yet, and the present state would do.
    pub(super) fn lacks_good(&self) -> bool {
        let in_order = |losses: Losses| losses.mean <= losses.lowest + LOW.ln();
        self.good.is_none() && self.memory.losses.is_none_or(in_order)
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
        let losses = self.memory.losses.unwrap_or(Losses { mean: log, lowest: log, first: log });
        let log = log.max(losses.first + FLOOR.ln());
        let mean = KEEP * losses.mean + (1.0 - KEEP) * log;
        let lowest = losses.lowest.min(mean);
        self.memory.losses = Some(Losses { mean, lowest, ..losses });
        if self.blow_up > 0.0 && mean > lowest + self.blow_up.ln() {
            return Err(StepError::BlowUp { loss: mean.exp(), best: lowest.exp() });
        }
        self.memory.streak = 0;
        self.memory.caution = (GROW * self.memory.caution).min(1.0);
        Ok(log <= lowest + LOW.ln())
    }

    /// What to do about an error; counts it where the run goes on.
    pub(super) fn remedy(&mut self, error: &StepError) -> Remedy {
        let remedy = match self.policy {
            OnFault::RollBack if self.good.is_some() && SHRINK * self.memory.caution >= LEAST => {
                self.memory.caution *= SHRINK;
                // ℓ* stands; ℓ begins again from it.
                if let Some(losses) = &mut self.memory.losses {
                    losses.mean = losses.lowest;
                }
                Remedy::RollBack
            }
            OnFault::Skip
                if self.memory.streak < MOST_SKIPPED && !matches!(error, StepError::BlowUp { .. }) =>
            {
                Remedy::Skip
            }
            _ => return Remedy::Stop,
        };
        self.memory.count += 1;
        self.memory.streak += 1;
        remedy
    }

    /// Takes back what was saved.
    pub(super) fn restore(&mut self, memory: Memory) -> Result<(), StateError> {
        if !(memory.caution.is_finite() && memory.caution > 0.0 && memory.caution <= 1.0) {
            return Err(StateError::refused("caution"));
        }
        if memory.streak > MOST_SKIPPED || memory.count > super::MOST_STEPS {
            return Err(StateError::refused("faults"));
        }
        self.memory = memory;
        Ok(())
    }
}

impl Trainer {
    /// Where roll-backs are wanted: the state after an evaluation, whose loss the next step will tell. At the start of
    /// a turn there is no other to go back to.
    pub(super) fn keep_good(&mut self) -> Option<Good> {
        let first = self.faults.lacks_good();
        if !self.faults.keeps_good() || !first && !self.evaluates_here() {
            return None;
        }
        let state = Good { theta: self.theta.clone(), optimizer: self.turn.optimizer.save() };
        if first {
            self.faults.good = Some(state);
            return None;
        }
        Some(state)
    }

    /// θ and the optimizer's memory as they last were in order.
    pub(super) fn roll_back(&mut self) -> Result<(), TrainingError> {
        if let Some(Good { theta, optimizer }) = &self.faults.good {
            self.turn.optimizer.restore(optimizer, theta.len())?;
            self.theta.clone_from(theta);
        }
        Ok(())
    }
}
