//! When a run ends: its settings, the reasons, and what has to be remembered from step to step.
//!
//! | setting | ends a run when | looked at |
//! |---|---|---|
//! | `steps`, `epochs`, `time` | so much has been done | after every step |
//! | `target_loss` = x | test loss ≤ x | at rows |
//! | `relative_loss` = x | the test loss changed by at most x of itself since the row before, and a step moved θ in between | at rows |
//! | `patience` = n | n rows in a row brought no new lowest test loss | at rows |
//! | `step` = x | \|Δθ\| ≤ x(\|θ\| + x), but above round-off, for a step that was kept | after every step |
//! | `gradient` = x | \|∇L\| ≤ x times that of the run's first step, each on its own mini-batch | after every step |
//! | `still` = n | n steps in a row, and half of all steps, left θ where it was, up to round-off | after every step |
//!
//! `still` ends no run of an optimizer that judges steps by samples of its own (hig-auto): θ waits there while it looks on.
//! θ is where it was, up to round-off, when |Δθ| ≤ ε|θ|: a step that short has not converged, it stands still.
//!
//! Rows are those of the run's cadence; one that only the end called for does not count, so that a resumed run ends where
//! one that was not stopped would have.

use serde::{Deserialize, Serialize};

use super::Trainer;
use crate::error::SettingError;
use crate::fault::StepError;
use crate::optimizer::StepReport;

/// When training ends: whichever comes first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StopSettings {
    /// After so many steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// After so many passes through the training data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// After so many seconds of training, evaluation excluded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<f64>,
    /// When an evaluation finds a test loss at or below this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_loss: Option<f64>,
    /// When the test loss changed by at most this part of itself since the evaluation before, and a step moved θ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relative_loss: Option<f64>,
    /// When a step moved θ by at most x(|θ| + x), but above round-off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<f64>,
    /// When a mini-batch's gradient is at most so long, relative to that of the run's first step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gradient: Option<f64>,
    /// After so many evaluations in a row without a new lowest test loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u64>,
    /// After so many steps in a row, and half of all, that did not change θ above round-off; 0 for never.
    #[serde(default = "default_still")]
    pub still: u64,
}

/// An optimizer that adapts finds its way within some hundred steps, or not at all.
fn default_still() -> u64 {
    1000
}

impl Default for StopSettings {
    fn default() -> Self {
        Self {
            steps: None,
            epochs: None,
            time: None,
            target_loss: None,
            relative_loss: None,
            step: None,
            gradient: None,
            patience: None,
            still: default_still(),
        }
    }
}

impl StopSettings {
    /// Whether a run ends after steps or epochs and not by time, which decides how some optimizers choose their steps.
    #[must_use]
    pub fn counted(&self) -> bool {
        (self.steps.is_some() || self.epochs.is_some()) && self.time.is_none()
    }

    /// Whether nothing but standing still would end a run.
    pub(crate) fn is_endless(&self) -> bool {
        *self == Self { still: self.still, ..Self::default() }
    }

    /// Refuses numbers that no run can reach.
    pub(crate) fn check(&self) -> Result<(), SettingError> {
        for (key, count) in [("steps", self.steps), ("epochs", self.epochs), ("patience", self.patience)] {
            if count == Some(0) {
                return Err(SettingError::new(key, 0, "at least 1"));
            }
        }
        for (key, value) in [("time", self.time), ("target_loss", self.target_loss)] {
            if let Some(value) = value {
                SettingError::check_positive(key, value)?;
            }
        }
        for (key, part, of) in [
            ("relative_loss", self.relative_loss, "the test loss"),
            ("step", self.step, "|θ|; a number of steps to end after is `stop.steps`"),
            ("gradient", self.gradient, "the first gradient"),
        ] {
            if let Some(part) = part.filter(|part| !(*part > 0.0 && *part < 1.0)) {
                return Err(SettingError::new(key, part, format!("above 0 and below 1, a part of {of}")));
            }
        }
        Ok(())
    }
}

/// Why a run ended.
#[derive(Debug)]
pub enum StopReason {
    /// `stop.steps`.
    Steps,
    /// `stop.epochs`.
    Epochs,
    /// `stop.time`.
    Time,
    /// `stop.target_loss`.
    TargetLoss,
    /// `stop.relative_loss`.
    RelativeLoss {
        /// Change of the test loss since the row before, of itself.
        change: f64,
    },
    /// `stop.step`.
    Step {
        /// |Δθ|.
        length: f64,
        /// |θ|.
        theta: f64,
    },
    /// `stop.gradient`.
    Gradient {
        /// |∇L| of the last mini-batch.
        norm: f64,
        /// |∇L| at the run's first step.
        first: f64,
    },
    /// `stop.patience`.
    Patience {
        /// Evaluations since the best one.
        evaluations: u64,
        /// Its test loss.
        loss: f64,
        /// Its step.
        step: u64,
    },
    /// `stop.still`.
    Still {
        /// Steps in a row that did not change θ above round-off.
        steps: u64,
    },
    /// The observer asked for it.
    Interrupted,
    /// A step failed, and θ is as it was before it; or the loss blew up. Where a simulator's settings make it unstable,
    /// [`Simulator::instability`](crate::simulator::Simulator::instability) says so; look there before the learning rate.
    Diverged(StepError),
}

impl StopReason {
    /// What was seen, where the name of the setting does not tell.
    #[must_use]
    pub fn seen(&self) -> Option<String> {
        match self {
            Self::RelativeLoss { change } => {
                Some(format!("the test loss changed by {change:.1e} of itself since the evaluation before"))
            }
            Self::Step { length, theta } => {
                Some(format!("the last step moved the parameters by {length:.1e}; they are {theta:.1e} long"))
            }
            Self::Gradient { norm, first } => {
                Some(format!("the mini-batch's gradient is {norm:.1e} long, the first one was {first:.1e}"))
            }
            Self::Patience { evaluations, loss, step } => Some(format!(
                "no better test loss than {loss:.2e} (step {step}) in {evaluations} evaluations"
            )),
            Self::Still { steps } => {
                Some(format!("the parameters have not changed above round-off for {steps} steps"))
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for StopReason {
    /// As in `summary.json`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Steps => f.write_str("steps"),
            Self::Epochs => f.write_str("epochs"),
            Self::Time => f.write_str("time"),
            Self::TargetLoss => f.write_str("target_loss"),
            Self::RelativeLoss { .. } => f.write_str("relative_loss"),
            Self::Step { .. } => f.write_str("step"),
            Self::Gradient { .. } => f.write_str("gradient"),
            Self::Patience { .. } => f.write_str("patience"),
            Self::Still { .. } => f.write_str("still"),
            Self::Interrupted => f.write_str("interrupted"),
            Self::Diverged(error) => write!(f, "diverged: {error}"),
        }
    }
}

/// What the stops need to know of a run so far; part of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Standing {
    /// |∇L| at the run's first step that told it, and at the present optimizer's last one.
    first_gradient: Option<f64>,
    gradient: Option<f64>,
    /// |Δθ| and |θ| of the last step, where it was kept and moved θ above round-off.
    step: Option<(f64, f64)>,
    /// Steps in a row that did not change θ above round-off, and all steps.
    still: u64,
    steps: u64,
    /// Change of the test loss from row to row, of itself, where a step moved θ in between.
    change: Option<f64>,
    /// Rows since the one with the lowest test loss.
    waited: u64,
}

impl Standing {
    /// Takes in a step after which θ is so long; returns how many steps in a row, up to this one, did not move it above
    /// round-off.
    pub(super) fn step(&mut self, report: &StepReport, length: f64) -> u64 {
        let moved = report.update_norm;
        if let Some(norm) = report.gradient_norm {
            self.first_gradient.get_or_insert(norm);
            self.gradient = Some(norm);
        }
        self.steps += 1;
        self.still = if moved > f64::EPSILON * length { 0 } else { self.still + 1 };
        self.step = Some((moved, length)).filter(|_| !report.rejected && self.still == 0);
        self.still
    }

    /// Another optimizer begins.
    pub(super) fn begin(&mut self) {
        self.gradient = None;
    }

    /// Takes in a row: the test losses of the one before and of this one, whether a step moved θ in between, and
    /// whether it is the lowest so far.
    pub(super) fn row(&mut self, before: f64, loss: f64, moved: bool, best: bool) {
        let change = if loss == before { 0.0 } else { (loss - before).abs() / before.abs() };
        self.change = Some(change).filter(|change| moved && !change.is_nan());
        self.waited = if best { 0 } else { self.waited + 1 };
    }

    /// Starts a count again that has reached its end; tells whether there was one.
    pub(super) fn restart(&mut self, stop: &StopSettings) -> bool {
        let waited = stop.patience.is_some_and(|most| self.waited >= most);
        let still = self.is_still(stop.still);
        if waited {
            self.waited = 0;
        }
        if still {
            self.still = 0;
        }
        waited || still
    }

    /// Whether θ stood still for so many steps, and for half of all: an optimizer that moves θ where others confirm a step
    /// may have to look for one as long as it took to get there.
    pub(super) fn is_still(&self, steps: u64) -> bool {
        steps > 0 && self.still >= steps && 2 * self.still >= self.steps
    }

    /// Whether the present optimizer has told no gradient yet.
    pub(super) fn lacks_gradient(&self) -> bool {
        self.gradient.is_none()
    }

    /// The first stop that these call for; `best` is the lowest test loss with its step.
    pub(super) fn stop(&self, stop: &StopSettings, best: (f64, u64)) -> Option<StopReason> {
        if let (Some(norm), Some(first), Some(part)) = (self.gradient, self.first_gradient, stop.gradient)
            && norm <= part * first
        {
            return Some(StopReason::Gradient { norm, first });
        }
        if let (Some((length, theta)), Some(part)) = (self.step, stop.step)
            && length <= part * (theta + part)
        {
            return Some(StopReason::Step { length, theta });
        }
        if let (Some(change), Some(part)) = (self.change, stop.relative_loss)
            && change <= part
        {
            return Some(StopReason::RelativeLoss { change });
        }
        if stop.patience.is_some_and(|most| self.waited >= most) {
            return Some(StopReason::Patience { evaluations: self.waited, loss: best.0, step: best.1 });
        }
        self.is_still(stop.still).then_some(StopReason::Still { steps: self.still })
    }

    /// Whether a run can have saved this.
    pub(super) fn is_plausible(&self) -> bool {
        self.still <= super::MOST_STEPS && self.steps <= super::MOST_STEPS && self.waited <= super::MOST_STEPS
    }
}

impl Trainer {
    /// The first stop that is reached.
    pub(super) fn stop(&self) -> Option<StopReason> {
        let stop = &self.parts.options.stop;
        if stop.target_loss.is_some_and(|target| self.position.test_loss <= target) {
            Some(StopReason::TargetLoss)
        } else if stop.steps.is_some_and(|steps| self.position.step >= steps) {
            Some(StopReason::Steps)
        } else if stop.epochs.is_some_and(|epochs| self.epochs() >= epochs as f64) {
            Some(StopReason::Epochs)
        } else if stop.time.is_some_and(|time| self.clock.wall.as_secs_f64() >= time) {
            Some(StopReason::Time)
        } else {
            // One that judges by samples of its own looks for steps without moving θ: it is not at its end.
            let still = if self.parts.stages[self.position.stage].judges() { 0 } else { stop.still };
            self.standing.stop(&StopSettings { still, ..stop.clone() }, (self.best.loss, self.best.step))
        }
    }

    /// Refuses `stop.gradient` where the first step that was kept has told no gradient: an optimizer that does not say so
    /// beforehand.
    pub(super) fn check_gradient(&self, report: &StepReport) -> Result<(), SettingError> {
        let Some(part) = self.parts.options.stop.gradient else { return Ok(()) };
        if report.rejected || !self.standing.lacks_gradient() {
            return Ok(());
        }
        Err(lacks_gradient(part, self.parts.stages[self.position.stage].name()))
    }
}

/// `stop.gradient` with an optimizer that tells none.
pub(crate) fn lacks_gradient(part: f64, name: &str) -> SettingError {
    let expected = format!("absent with {name}, whose steps tell no gradient; take stop.step in its place");
    SettingError::new("stop.gradient", part, expected)
}
