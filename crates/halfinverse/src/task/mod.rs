//! The named problems: network, simulator, objective, data, and the settings that they come with.

mod data;
mod defaults;
mod settings;

use std::sync::Arc;

pub use settings::{
    DataSettings, NetworkSettings, OptimizerName, OptimizerSettings, Settings, SimulatorSettings,
    StopSettings, TaskName, TrainingSettings,
};

use crate::error::SettingError;
use crate::model::{Model, Samples};
use crate::network::Mlp;
use crate::objective::{Reduction, SquaredError};
use crate::optimizer::{Adam, HalfInverse, Optimizer, Sgd};
use crate::simulator::{Oscillators, Simulator, Trajectory};
use crate::spectral::{Filter, Options};
use faer::Par;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Stream of the generator that draws initial weights: 0 and 1 draw the data, those above order the epochs, so that equal
/// seeds of data and training share no numbers.
pub(crate) const WEIGHTS: u64 = 2;

/// Parameters of the largest network that a task accepts: 2 GiB of them.
const MOST_PARAMETERS: usize = 1 << 28;

/// A problem whose settings have been checked, with its data.
#[derive(Clone)]
pub struct Task {
    settings: Settings,
    model: Model,
    oscillators: Arc<Oscillators>,
    train: Samples,
    test: Samples,
}

impl Task {
    /// Checks the settings and makes model and data.
    ///
    /// `training.evaluate_every = 0` is replaced by the cadence that keeps evaluation below 5 % of the time, and
    /// `training.threads = 0` by the machine's number of cores.
    ///
    /// # Errors
    /// The first setting that is out of range or contradicts another.
    ///
    /// # Example
    /// ```
    /// use halfinverse::task::{OptimizerName, Settings, Task, TaskName};
    /// let mut settings = Settings::new(TaskName::Oscillators, OptimizerName::Hig);
    /// settings.data.train = 256;
    /// let task = Task::new(settings)?;
    /// assert_eq!(task.model().network().parameters(), 2956);
    /// # Ok::<(), halfinverse::SettingError>(())
    /// ```
    pub fn new(mut settings: Settings) -> Result<Self, SettingError> {
        settings.check()?;
        let SimulatorSettings::Oscillators(constants) = &settings.simulator;
        let oscillators = Oscillators::new(constants.clone())?;
        let mut widths = vec![oscillators.initials()];
        widths.extend(&settings.network.hidden);
        widths.push(oscillators.controls());
        let network = Mlp::new(&widths, settings.network.activation)?;
        if network.parameters() > MOST_PARAMETERS {
            let expected = format!("widths that make at most {MOST_PARAMETERS} parameters");
            return Err(SettingError::new(
                "network.hidden",
                format!("{:?}", settings.network.hidden),
                expected,
            ));
        }
        build_optimizer(&settings.optimizer, Par::Seq)?;
        if settings.training.threads == 0 {
            settings.training.threads = std::thread::available_parallelism().map_or(1, usize::from);
        }
        if settings.training.evaluate_every == 0 {
            let outcomes = settings.training.batch * oscillators.outcomes();
            settings.training.evaluate_every = settings.cadence(outcomes, network.parameters());
        }
        let objective = SquaredError { factor: 1.0, reduction: Reduction::Mean };
        let model = Model::new(network, oscillators.clone(), objective)
            .map_err(|error| SettingError::new("network.hidden", error, "fitting"))?;
        let (train, test) = data::oscillators(&oscillators, &settings.data);
        Ok(Self { settings, model, oscillators: Arc::new(oscillators), train, test })
    }

    /// The settings, every default resolved.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Network, simulator and objective.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The training data.
    #[must_use]
    pub fn train(&self) -> &Samples {
        &self.train
    }

    /// The test data.
    #[must_use]
    pub fn test(&self) -> &Samples {
        &self.test
    }

    /// Fresh parameters, drawn with `training.seed`.
    #[must_use]
    pub fn initial_parameters(&self) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.settings.training.seed);
        rng.set_stream(WEIGHTS);
        self.model.network().initialize(self.settings.network.init, &mut rng)
    }

    /// The optimizer, at the start of its work.
    ///
    /// # Errors
    /// None for settings that [`Task::new`] accepted.
    pub fn optimizer(&self) -> Result<Box<dyn Optimizer>, SettingError> {
        build_optimizer(&self.settings.optimizer, self.par())
    }

    /// What one sample does under its control: states over time.
    #[must_use]
    pub fn trajectory(&self, initial: faer::MatRef<'_, f64>, control: faer::MatRef<'_, f64>) -> Trajectory {
        self.oscillators.trajectory(initial, control)
    }

    /// How many samples of the training data a spectrum is taken of: at most a mini-batch, and at most 512 rows of J.
    #[must_use]
    pub fn spectrum_samples(&self) -> usize {
        let rows = self.model.simulator().outcomes();
        self.settings.training.batch.min((512 / rows).max(1))
    }

    fn par(&self) -> Par {
        match self.settings.training.threads {
            1 => Par::Seq,
            threads => Par::rayon(threads),
        }
    }
}

fn build_optimizer(settings: &OptimizerSettings, par: Par) -> Result<Box<dyn Optimizer>, SettingError> {
    let half_inverse = |learning_rate, kappa, truncation, solver, gram_tolerance| {
        let filter = Filter::power(kappa, truncation)?;
        let options = Options { solver, gram_tolerance, par };
        Ok::<Box<dyn Optimizer>, _>(Box::new(HalfInverse::new(learning_rate, filter, options)?))
    };
    match *settings {
        OptimizerSettings::Hig { learning_rate, kappa, truncation, solver, gram_tolerance } => {
            half_inverse(learning_rate, kappa, truncation, solver, gram_tolerance)
        }
        OptimizerSettings::Gn { learning_rate, truncation, solver, gram_tolerance } => {
            half_inverse(learning_rate, 1.0, truncation, solver, gram_tolerance)
        }
        OptimizerSettings::Adam { learning_rate, beta1, beta2, epsilon } => {
            Ok(Box::new(Adam::new(learning_rate, beta1, beta2, epsilon)?))
        }
        OptimizerSettings::Sgd { learning_rate } => Ok(Box::new(Sgd::new(learning_rate)?)),
    }
}
