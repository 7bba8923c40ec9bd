//! θ before the last step, for the case that no further step can be made from where it led.
//!
//! One error may be the mini-batch's, and leaves θ alone. With a second one in a row the step that led there is to blame:
//! it is taken back, and another one is made in its place.

use serde::{Deserialize, Serialize};

use super::{State, StateError, StepReport};
use crate::fault::StepError;
use crate::problem::Problem;

/// θ before the last step; nothing before the first one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Retreat {
    before: Vec<f64>,
    /// Whether an error came since.
    failed: bool,
}

/// An optimizer that can take its last step back.
pub(super) trait Attempt {
    /// A step, θ put into its [place](Retreat::begin) before it is moved; on an error θ is as it was.
    fn attempt(&mut self, problem: &mut dyn Problem, theta: &mut [f64]) -> Result<StepReport, StepError>;

    fn retreat(&mut self) -> &mut Retreat;

    /// A step; where it is the second in a row that cannot be made, one from θ before the last that was.
    fn step_or_take_back(
        &mut self,
        problem: &mut dyn Problem,
        theta: &mut [f64],
    ) -> Result<StepReport, StepError> {
        let outcome = self.attempt(problem, theta);
        if outcome.is_ok() || !self.retreat().take_back(theta) {
            return outcome;
        }
        let again = self.attempt(problem, theta);
        if again.is_err() {
            // Then it is the mini-batch that is to blame.
            self.retreat().swap(theta);
        }
        again
    }
}

impl Retreat {
    /// Whether no step was made yet.
    pub(super) fn is_empty(&self) -> bool {
        self.before.is_empty()
    }

    /// A step is about to be made; the place for θ as it is before it.
    pub(super) fn begin(&mut self, parameters: usize) -> &mut [f64] {
        self.failed = false;
        self.before.resize(parameters, 0.0);
        &mut self.before
    }

    /// After an error at θ: whether the step that led there was taken back.
    fn take_back(&mut self, theta: &mut [f64]) -> bool {
        let takes_back = self.failed && self.before.len() == theta.len();
        self.failed = true;
        if takes_back {
            self.swap(theta);
        }
        takes_back
    }

    fn swap(&mut self, theta: &mut [f64]) {
        self.before.swap_with_slice(theta);
    }

    /// For an optimizer that remembers nothing else.
    pub(super) fn save(&self) -> State {
        State::of(self)
    }

    /// What [`Self::save`] saved.
    pub(super) fn restore(&mut self, state: &State, parameters: usize) -> Result<(), StateError> {
        let saved: Self = state.read()?;
        saved.check(parameters)?;
        *self = saved;
        Ok(())
    }

    /// Refuses one of another number of parameters.
    pub(super) fn check(&self, parameters: usize) -> Result<(), StateError> {
        StateError::check_length("before", &self.before, parameters)
    }
}
