//! Initial states uniform on an interval; the network sees them, and the outcome should be a given state, or the
//! initial one.

use std::sync::Arc;

use faer::Mat;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::{Context, Generator, Setup};
use crate::error::SettingError;
use crate::problem::Samples;

/// Interval and target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UniformSettings {
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// What every outcome should be; absent where it should be the initial state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Vec<f64>>,
}

impl Default for UniformSettings {
    fn default() -> Self {
        Self { low: 0.0, high: 1.0, target: None }
    }
}

struct Uniform {
    settings: UniformSettings,
    initials: usize,
}

impl Setup for UniformSettings {
    const KIND: &'static str = "uniform";

    fn build(self, context: Context<'_>) -> Result<Arc<dyn Generator>, SettingError> {
        let (initials, outcomes) = (context.simulator.initials(), context.simulator.outcomes());
        if !(self.low < self.high && self.low.is_finite() && self.high.is_finite()) {
            let found = format!("{} with low = {}", self.high, self.low);
            return Err(SettingError::new("high", found, "above low, both finite"));
        }
        let targets = self.target.as_ref().map_or(initials, Vec::len);
        if targets != outcomes {
            let expected = format!("a list of {outcomes} numbers, one for each outcome of the simulator");
            let found = self.target.map_or_else(|| "absent".to_owned(), |target| format!("{target:?}"));
            return Err(SettingError::new("target", found, expected));
        }
        if initials == 0 {
            let expected = "another where the simulator has no initial state to draw";
            return Err(SettingError::new("kind", Self::KIND, expected));
        }
        Ok(Arc::new(Uniform { settings: self, initials }))
    }
}

impl Generator for Uniform {
    fn inputs(&self) -> usize {
        self.initials
    }

    fn draw(&self, count: usize, rng: &mut dyn Rng) -> Samples {
        let UniformSettings { low, high, target } = &self.settings;
        let mut states = Mat::zeros(count, self.initials);
        for s in 0..count {
            for j in 0..states.ncols() {
                states[(s, j)] = low + (high - low) * rng.random::<f64>();
            }
        }
        let target = match target {
            Some(target) => Mat::from_fn(count, target.len(), |_, c| target[c]),
            None => states.clone(),
        };
        Samples::unweighted(states.clone(), states, target)
    }
}
