//! The first steps, at a gradient's price: [`Adam`] with a rate that needs no setting, and a mean of where it has been.
//!
//! Adam moves every parameter by about η, whatever the units of the loss. Here η is a part of θ's root mean square, so
//! that it depends neither on the units of θ nor on the width of a network whose weights were drawn by fan-in. The part
//! falls with the turns that gain nothing.
//!
//! Costs a gradient; memory 4P.

use serde::{Deserialize, Serialize};

use super::turns::{FASTER, SLOWER};
use crate::fault::StepError;
use crate::linear::vectors::norm;
use crate::optimizer::first_order::check_gradient;
use crate::optimizer::{Adam, AdamSettings, Notice, Rule, State, StateError, StepReport, update_not_finite};
use crate::problem::Problem;

/// η over the root mean square of θ at the start, and that of a θ of zeros.
const RATE: f64 = 0.05;
const OF_ZEROS: f64 = 1.0;
/// θ is a mean over about the last 1/MEAN of the steps.
const MEAN: f64 = 21.0;
/// What a step costs in passes over its mini-batch, and the times that it reads or writes a vector over parameters.
const PASSES: f64 = 3.0;
const TRAVERSALS: f64 = 11.0;
/// A mini-batch's loss this many times the level is a step gone wrong.
const RUNAWAY: f64 = 10.0;

/// Adam with its place.
pub(super) struct Opening {
    adam: Adam,
    place: Place,
    gradient: Vec<f64>,
}

/// Where Adam is.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Place {
    /// ϑ, of which θ is a running mean; empty before the first step.
    iterate: Vec<f64>,
    /// Steps since it was θ.
    steps: u32,
    /// η over the root mean square of θ.
    rate: f64,
    /// The lowest loss of a mini-batch at a θ that was started from.
    level: f64,
}

impl Opening {
    pub(super) fn new() -> Self {
        let place = Place { iterate: Vec::new(), steps: 0, rate: RATE, level: f64::INFINITY };
        Self { adam: fresh_adam(), place, gradient: Vec::new() }
    }

    /// What a step on so many samples costs, in passes over one; `traversal` is what a vector over parameters costs.
    pub(super) fn passes(samples: usize, traversal: f64) -> f64 {
        PASSES * samples as f64 + TRAVERSALS * traversal
    }

    /// Starts from the θ of the next step.
    pub(super) fn begin_anew(&mut self) {
        self.adam = fresh_adam();
        self.place.iterate.clear();
        self.place.steps = 0;
    }

    /// Takes in whether a turn has ended at the lowest held-out loss so far.
    pub(super) fn learn(&mut self, gained: bool) {
        let rate = &mut self.place.rate;
        *rate = if gained { (FASTER * *rate).min(2.0 * RATE) } else { SLOWER * *rate };
    }

    /// A step of ϑ, and θ after it; rejected where the mini-batch says that the steps before have gone wrong.
    pub(super) fn step(
        &mut self,
        problem: &mut dyn Problem,
        theta: &mut [f64],
    ) -> Result<StepReport, StepError> {
        let weight = problem.weight();
        self.gradient.resize(theta.len(), 0.0);
        if self.place.iterate.len() != theta.len() {
            self.place.iterate = theta.to_vec();
        }
        let loss = problem.gradient(&self.place.iterate, &mut self.gradient)? / weight;
        let gradient_norm = check_gradient(&self.gradient)? / weight;
        if self.place.steps == 0 {
            self.place.level = self.place.level.min(loss);
        }
        let most = RUNAWAY * self.place.level;
        if loss > most {
            // A loss out of all proportion is shown as the one at which it was cut off.
            return Ok(StepReport { loss: most, rejected: true, ..StepReport::default() });
        }
        self.adam.direct(theta, &mut self.gradient);
        let size = norm(theta) / (theta.len() as f64).sqrt();
        let rate = self.place.rate * if size > 0.0 { size } else { OF_ZEROS };
        let update_norm = rate * norm(&self.gradient);
        if !update_norm.is_finite() {
            return Err(update_not_finite(&self.gradient));
        }
        self.take(theta, rate);
        let notice = if gradient_norm == 0.0 { Notice::stationary(loss) } else { None };
        Ok(StepReport {
            loss,
            update_norm,
            learning_rate: Some(rate),
            gradient_norm: Some(gradient_norm),
            notice,
            ..StepReport::default()
        })
    }

    /// Moves ϑ, and θ after it.
    fn take(&mut self, theta: &mut [f64], rate: f64) {
        let Place { iterate, steps, .. } = &mut self.place;
        let weight = MEAN / (f64::from(*steps) + MEAN);
        *steps = steps.saturating_add(1);
        for ((theta, iterate), d) in theta.iter_mut().zip(iterate).zip(&self.gradient) {
            *iterate -= rate * d;
            *theta += weight * (*iterate - *theta);
        }
    }

    pub(super) fn save(&self) -> State {
        State::of(&(State::written(&|out| self.adam.save_to(out)), &self.place))
    }

    pub(super) fn restore(&mut self, state: &State, parameters: usize) -> Result<(), StateError> {
        let (adam, place): (State, Place) = state.read()?;
        StateError::check_length("iterate", &place.iterate, parameters)?;
        if !(place.rate > 0.0 && place.rate <= 2.0 * RATE) {
            return Err(StateError::refused("rate"));
        }
        self.adam.restore(&adam, parameters)?;
        self.place = place;
        Ok(())
    }
}

/// With its default settings; η is not taken from them.
fn fresh_adam() -> Adam {
    Adam::new(AdamSettings::default()).expect("its own defaults")
}

#[cfg(test)]
impl Opening {
    /// Puts ϑ so many times as far from 0.
    pub(super) fn displace(&mut self, factor: f64) {
        self.place.iterate.iter_mut().for_each(|x| *x *= factor);
    }
}
