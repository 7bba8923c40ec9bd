//! From one eigenstate to real combinations of others, uniform on the unit sphere; the network sees the target.

use std::sync::Arc;

use faer::Mat;
use rand::{Rng, RngExt};
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};

use super::{Context, Generator, Setup, settings_of};
use crate::error::SettingError;
use crate::linear::vectors::norm;
use crate::problem::Samples;
use crate::simulator::{Dipole, Simulator};

/// Nothing to set: which states is a setting of the simulator.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EigenstatesSettings {}

struct Eigenstates {
    dipole: Dipole,
}

impl Setup for EigenstatesSettings {
    const KIND: &'static str = "eigenstates";

    fn build(self, context: Context<'_>) -> Result<Arc<dyn Generator>, SettingError> {
        Ok(Arc::new(Eigenstates { dipole: Dipole::new(settings_of(context, Self::KIND)?)? }))
    }
}

impl Generator for Eigenstates {
    fn inputs(&self) -> usize {
        self.dipole.outcomes()
    }

    fn draw(&self, count: usize, rng: &mut dyn Rng) -> Samples {
        let settings = self.dipole.settings();
        let start = self.dipole.eigenstate(settings.initial_state);
        let states: Vec<_> = settings.target_states.iter().map(|&n| self.dipole.eigenstate(n)).collect();
        let mut initial = Mat::zeros(count, self.dipole.initials());
        let mut target = initial.clone();
        for s in 0..count {
            let weights: Vec<f64> = states.iter().map(|_| rng.sample(StandardNormal)).collect();
            let length = norm(&weights);
            for j in 0..start.len() {
                initial[(s, 2 * j)] = start[j];
                target[(s, 2 * j)] =
                    states.iter().zip(&weights).map(|(state, w)| state[j] * w / length).sum();
            }
        }
        Samples::unweighted(target.clone(), initial, target)
    }
}
