//! θ before the last step, for the case that no further step can be made from where it led.

use serde::{Deserialize, Serialize};

use super::{State, StateError};

/// θ before the last step; nothing before the first one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Retreat {
    before: Vec<f64>,
}

impl Retreat {
    /// Whether no step was made yet, or the last one was taken back.
    pub(super) fn is_empty(&self) -> bool {
        self.before.is_empty()
    }

    /// A step from θ is about to be made.
    pub(super) fn remember(&mut self, theta: &[f64]) {
        self.before.clear();
        self.before.extend_from_slice(theta);
    }

    /// A step from θ ended with an error: the one that led there is taken back, once.
    pub(super) fn take_back(&mut self, theta: &mut [f64]) {
        if self.before.len() == theta.len() {
            theta.copy_from_slice(&self.before);
        }
        self.before.clear();
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
