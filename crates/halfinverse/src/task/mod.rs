//! The named problems: network, simulator, objective, data, and the settings that they come with.

pub(crate) mod data;
mod defaults;
mod settings;

pub use settings::{
    DataSettings, NetworkSettings, OptimizerName, OptimizerSettings, Settings, SimulatorSettings,
    StopSettings, TaskName, TrainingSettings,
};

use crate::error::{SettingError, ShapeError};
use crate::model::{Model, Samples};
use crate::network::Mlp;
use crate::objective::{Overlap, Reduction, SquaredError};
use crate::optimizer::{Adam, HalfInverse, Optimizer, Sgd};
use crate::simulator::{Dipole, Oscillators, Poisson, Simulator};
use crate::spectral::{Filter, Options};
use faer::Par;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Numbers in the largest set of simulator blocks ∂y/∂z that a mini-batch may need: 2 GiB of them.
const MOST_BLOCKS: usize = 1 << 28;

/// Parameters of the largest network that a task accepts: 2 GiB of them.
const MOST_PARAMETERS: usize = 1 << 28;

/// The simulator of a task, by kind.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "each names its simulator")]
pub enum Simulation {
    Oscillators(Oscillators),
    Dipole(Dipole),
    Poisson(Poisson),
}

impl Simulation {
    fn new(settings: &SimulatorSettings) -> Result<Self, SettingError> {
        Ok(match settings {
            SimulatorSettings::Oscillators(constants) => {
                Self::Oscillators(Oscillators::new(constants.clone())?)
            }
            SimulatorSettings::Dipole(constants) => Self::Dipole(Dipole::new(constants.clone())?),
            SimulatorSettings::Poisson(constants) => Self::Poisson(Poisson::new(constants.clone())?),
        })
    }

    fn simulator(&self) -> &dyn Simulator {
        match self {
            Self::Oscillators(simulator) => simulator,
            Self::Dipole(simulator) => simulator,
            Self::Poisson(simulator) => simulator,
        }
    }

    /// With its objective.
    fn model(&self, network: Mlp) -> Result<Model, ShapeError> {
        let mean = Reduction::Mean;
        match self.clone() {
            Self::Oscillators(simulator) => {
                Model::new(network, simulator, SquaredError { factor: 1.0, reduction: mean })
            }
            Self::Dipole(simulator) => Model::new(network, simulator, Overlap { reduction: mean }),
            Self::Poisson(simulator) => {
                Model::new(network, simulator, SquaredError { factor: 0.5, reduction: Reduction::Sum })
            }
        }
    }
}

/// A problem whose settings have been checked, with its data.
#[derive(Clone)]
pub struct Task {
    settings: Settings,
    model: Model,
    simulation: Simulation,
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
        let simulation = Simulation::new(&settings.simulator)?;
        let simulator = simulation.simulator();
        // The network sees the target.
        let mut widths = vec![simulator.outcomes()];
        widths.extend(&settings.network.hidden);
        widths.push(simulator.controls());
        let network = Mlp::new(&widths, settings.network.activation)?;
        if network.parameters() > MOST_PARAMETERS {
            let expected = format!("widths that make at most {MOST_PARAMETERS} parameters");
            return Err(SettingError::new(
                "network.hidden",
                format!("{:?}", settings.network.hidden),
                expected,
            ));
        }
        let spectral = matches!(settings.optimizer.name(), OptimizerName::Hig | OptimizerName::Gn);
        let block = simulator.outcomes() * simulator.controls();
        if spectral && settings.training.batch.saturating_mul(block) > MOST_BLOCKS {
            let expected = format!(
                "at most {}: each sample has a block of {} outcomes by {} controls",
                MOST_BLOCKS / block,
                simulator.outcomes(),
                simulator.controls()
            );
            return Err(SettingError::new("training.batch", settings.training.batch, expected));
        }
        build_optimizer(&settings.optimizer, Par::Seq)?;
        if settings.training.threads == 0 {
            settings.training.threads = std::thread::available_parallelism().map_or(1, usize::from);
        }
        if settings.training.evaluate_every == 0 {
            let outcomes = settings.training.batch * simulator.outcomes();
            settings.training.evaluate_every = settings.cadence(outcomes, network.parameters());
        }
        let model = simulation
            .model(network)
            .map_err(|error| SettingError::new("network.hidden", error, "fitting"))?;
        let draw = |stream, count| data::draw(&simulation, settings.data.seed, stream, count);
        let (train, test) = (draw(data::TRAIN, settings.data.train), draw(data::TEST, settings.data.test));
        Ok(Self { settings, model, simulation, train, test })
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

    /// A mini-batch of its own for a step, where `data.fresh` is set.
    #[must_use]
    pub fn fresh_batch(&self, step: u64) -> Option<Samples> {
        let data = &self.settings.data;
        let batch = self.settings.training.batch;
        data.fresh.then(|| data::draw(&self.simulation, data.seed, data::FRESH + step, batch))
    }

    /// Fresh parameters, drawn with `training.seed`.
    #[must_use]
    pub fn initial_parameters(&self) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.settings.training.seed);
        rng.set_stream(data::WEIGHTS);
        self.model.network().initialize(self.settings.network.init, &mut rng)
    }

    /// The optimizer, at the start of its work.
    ///
    /// # Errors
    /// None for settings that [`Task::new`] accepted.
    pub fn optimizer(&self) -> Result<Box<dyn Optimizer>, SettingError> {
        build_optimizer(&self.settings.optimizer, self.par())
    }

    /// The simulator by kind, for what only that kind can tell.
    #[must_use]
    pub fn simulation(&self) -> &Simulation {
        &self.simulation
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
    let half_inverse = |learning_rate, kappa, truncation, solver, gram_tolerance: f64| {
        let filter = Filter::power(kappa, truncation)?;
        if gram_tolerance.is_nan() || gram_tolerance <= 0.0 {
            return Err(SettingError::new("optimizer.gram_tolerance", gram_tolerance, "positive"));
        }
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
