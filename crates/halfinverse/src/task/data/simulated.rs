//! What random controls make: the controls are to be found again from the outcome.

use std::sync::Arc;

use faer::Mat;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::{Context, Generator, Setup};
use crate::error::SettingError;
use crate::problem::Samples;
use crate::simulator::{Batched, Simulator, SimulatorError};

/// Controls uniform on an interval, initial states on another. Targets are outcomes that these have; the network sees
/// them, behind the initial states where these differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SimulatedSettings {
    /// Lower end of every control.
    pub low: f64,
    /// Upper end of every control.
    pub high: f64,
    /// Lower end of every component of the initial states.
    pub initial_low: f64,
    /// Upper end of every component of the initial states, which are all alike where it is the lower one.
    pub initial_high: f64,
}

impl Default for SimulatedSettings {
    fn default() -> Self {
        Self { low: -1.0, high: 1.0, initial_low: 0.0, initial_high: 0.0 }
    }
}

struct Simulated {
    settings: SimulatedSettings,
    simulator: Arc<dyn Simulator>,
}

impl SimulatedSettings {
    /// Refuses intervals that are none.
    fn check(&self) -> Result<(), SettingError> {
        let Self { low, high, initial_low, initial_high } = *self;
        if !(low < high && low.is_finite() && high.is_finite()) {
            return Err(SettingError::new(
                "high",
                format!("{high} with low = {low}"),
                "above low, both finite",
            ));
        }
        if !(initial_low <= initial_high && initial_low.is_finite() && initial_high.is_finite()) {
            let found = format!("{initial_high} with initial_low = {initial_low}");
            return Err(SettingError::new("initial_high", found, "not below initial_low, both finite"));
        }
        Ok(())
    }
}

impl Setup for SimulatedSettings {
    const KIND: &'static str = "simulated";

    fn build(self, context: Context<'_>) -> Result<Arc<dyn Generator>, SettingError> {
        self.check()?;
        let (low, high, initial_low) = (self.low, self.high, self.initial_low);
        let initial = Mat::full(2, context.simulator.initials(), initial_low);
        let simulated = Simulated { settings: self, simulator: context.simulator.clone() };
        let corners = Mat::from_fn(2, simulated.simulator.controls(), |s, _| if s == 0 { low } else { high });
        let refused =
            |found: String| Err(SettingError::new("high", found, "controls that the simulator can take"));
        match simulated.outcomes(&initial, &corners) {
            Err(error) => refused(format!("{high} with low = {low}, where {error}")),
            Ok(outcome) if !outcome.as_ref().is_all_finite() => {
                refused(format!("{high} with low = {low}, where outcomes are not finite"))
            }
            Ok(_) => Ok(Arc::new(simulated)),
        }
    }
}

impl Simulated {
    fn outcomes(&self, initial: &Mat<f64>, control: &Mat<f64>) -> Result<Mat<f64>, SimulatorError> {
        let mut outcome = Mat::zeros(control.nrows(), self.simulator.outcomes());
        let (initial, control) = (initial.as_ref(), control.as_ref());
        Batched::new(1).simulate(&*self.simulator, initial, control, outcome.as_mut(), false)?;
        Ok(outcome)
    }

    /// Components of the initial state that the network sees.
    fn seen(&self) -> usize {
        let alike = self.settings.initial_low == self.settings.initial_high;
        if alike { 0 } else { self.simulator.initials() }
    }
}

impl Generator for Simulated {
    fn inputs(&self) -> usize {
        self.seen() + self.simulator.outcomes()
    }

    /// Where a simulation fails, targets are NaN, and the first evaluation names the sample.
    fn draw(&self, count: usize, rng: &mut dyn Rng) -> Samples {
        let SimulatedSettings { low, high, initial_low, initial_high } = self.settings;
        let mut initial = Mat::zeros(count, self.simulator.initials());
        let mut control = Mat::zeros(count, self.simulator.controls());
        for s in 0..count {
            for j in 0..initial.ncols() {
                initial[(s, j)] = initial_low + (initial_high - initial_low) * rng.random::<f64>();
            }
            for j in 0..control.ncols() {
                control[(s, j)] = low + (high - low) * rng.random::<f64>();
            }
        }
        let failed = |_| Mat::full(count, self.simulator.outcomes(), f64::NAN);
        let target = self.outcomes(&initial, &control).unwrap_or_else(failed);
        let seen = self.seen();
        let input = Mat::from_fn(count, self.inputs(), |s, i| {
            if i < seen { initial[(s, i)] } else { target[(s, i - seen)] }
        });
        Samples::unweighted(input, initial, target)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::task::{Registry, Settings};

    /// Built for the oscillators, whose initial states have four components, with settings of this kind.
    fn built(settings: SimulatedSettings) -> Result<Arc<dyn Generator>, SettingError> {
        let registry = Registry::standard();
        let Settings { simulator: chosen, data, .. } = registry.settings("oscillators", "adam")?;
        let simulator = registry.build_simulator(&chosen.kind, &chosen.settings)?;
        settings.build(Context {
            simulator: &simulator,
            settings: &chosen,
            data: &data,
            files: registry.files(),
        })
    }

    #[test]
    fn the_network_sees_the_outcome_and_initial_states_where_these_differ() {
        let alike = built(SimulatedSettings::default()).unwrap();
        let drawn = alike.draw(5, &mut ChaCha8Rng::seed_from_u64(1));
        assert_eq!(drawn.input, drawn.target);
        assert!(drawn.target.norm_max() > 0.0 && drawn.initial.norm_max() == 0.0);
        let settings =
            SimulatedSettings { initial_low: -1.0, initial_high: 1.0, ..SimulatedSettings::default() };
        let differ = built(settings).unwrap();
        let (few, many) = [5, 9].map(|count| differ.draw(count, &mut ChaCha8Rng::seed_from_u64(1))).into();
        assert_eq!(few.input.subcols(0, few.initial.ncols()), few.initial);
        assert_eq!(few.input.ncols(), differ.inputs());
        // The first samples are the same however many are drawn.
        assert_eq!(many.input.subrows(0, 5), few.input);
    }

    #[test]
    fn intervals_that_are_none_and_controls_that_blow_up_are_refused() {
        let refused = |settings| built(settings).err().expect("refused").to_string();
        let none = refused(SimulatedSettings { low: 1.0, high: 1.0, ..SimulatedSettings::default() });
        assert!(none.contains("above low"), "{none}");
        let none = refused(SimulatedSettings { initial_low: 0.5, ..SimulatedSettings::default() });
        assert!(none.contains("not below initial_low"), "{none}");
        let wild = refused(SimulatedSettings { high: 1e200, ..SimulatedSettings::default() });
        assert!(wild.contains("not finite"), "{wild}");
    }
}
