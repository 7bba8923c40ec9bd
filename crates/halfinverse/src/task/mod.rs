//! The named problems: network, simulator, objective, data, and the settings that they come with.

pub(crate) mod data;
mod defaults;
mod memory;
mod settings;

pub use memory::{Forecast, Part};
pub use settings::{
    DataSettings, NetworkSettings, ObjectiveSettings, OnFault, OptimizerName, OptimizerSettings,
    RegressionSettings, Schedule, Settings, SimulatorSettings, Stage, StopSettings, TaskName, ToySettings,
    TrainingSettings,
};

use crate::error::{SettingError, ShapeError};
use crate::model::{Model, Samples};
use crate::network::Mlp;
use crate::objective::{Overlap, Reduction, SquaredError};
use crate::optimizer::auto::Scarce;
use crate::optimizer::{
    Adadelta, Adagrad, Adam, AdamW, Auto, FirstOrder, HalfInverse, Kron, Lbfgs, LevenbergMarquardt, Momentum,
    Nesterov, Optimizer, Rmsprop, Rule, ScaleInvariant, Sgd,
};
use crate::simulator::{Dipole, Oscillators, Poisson, Scaling, Simulator};
use crate::spectral::{Filter, Options};
use faer::Par;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Numbers in the largest set of simulator blocks ∂y/∂z that a mini-batch may need: 2 GiB of them.
const MOST_BLOCKS: usize = 1 << 28;

/// Parameters of the largest network that a task accepts: 2 GiB of them.
const MOST_PARAMETERS: usize = 1 << 28;

/// The most training samples that an optimizer keeps to judge by.
const MOST_HELD_OUT: usize = 256;

/// The simulator of a task, by kind.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "each names its simulator")]
pub enum Simulation {
    Oscillators(Oscillators),
    Dipole(Dipole),
    Poisson(Poisson),
    Toy(Scaling),
    Regression(Scaling),
}

impl Simulation {
    fn new(settings: &SimulatorSettings) -> Result<Self, SettingError> {
        Ok(match settings {
            SimulatorSettings::Oscillators(constants) => {
                Self::Oscillators(Oscillators::new(constants.clone())?)
            }
            SimulatorSettings::Dipole(constants) => Self::Dipole(Dipole::new(constants.clone())?),
            SimulatorSettings::Poisson(constants) => Self::Poisson(Poisson::new(constants.clone())?),
            SimulatorSettings::Toy(ToySettings { lambda }) => {
                if !(lambda.is_finite() && *lambda != 0.0) {
                    return Err(SettingError::new("simulator.lambda", lambda, "finite and not 0"));
                }
                Self::Toy(Scaling::new(vec![1.0, *lambda]))
            }
            SimulatorSettings::Regression(_) => Self::Regression(Scaling::new(vec![1.0])),
        })
    }

    fn task(&self) -> TaskName {
        match self {
            Self::Oscillators(_) => TaskName::Oscillators,
            Self::Dipole(_) => TaskName::Dipole,
            Self::Poisson(_) => TaskName::Poisson,
            Self::Toy(_) => TaskName::Toy,
            Self::Regression(_) => TaskName::Regression,
        }
    }

    /// Width of the network's input: the target's, or 1 where the target is a function of one variable.
    fn inputs(&self) -> usize {
        match self {
            Self::Toy(_) | Self::Regression(_) => 1,
            _ => self.simulator().outcomes(),
        }
    }

    fn simulator(&self) -> &dyn Simulator {
        match self {
            Self::Oscillators(simulator) => simulator,
            Self::Dipole(simulator) => simulator,
            Self::Poisson(simulator) => simulator,
            Self::Toy(simulator) | Self::Regression(simulator) => simulator,
        }
    }

    /// With its objective.
    fn model(&self, network: Mlp, reduction: Reduction) -> Result<Model, ShapeError> {
        let squares = |factor| SquaredError { factor, reduction };
        match self.clone() {
            Self::Oscillators(simulator) => Model::new(network, simulator, squares(1.0)),
            Self::Dipole(simulator) => Model::new(network, simulator, Overlap { reduction }),
            Self::Poisson(simulator) => Model::new(network, simulator, squares(0.5)),
            Self::Toy(simulator) => Model::new(network, simulator, squares(0.5)),
            Self::Regression(simulator) => Model::new(network, simulator, squares(1.0)),
        }
    }
}

/// A problem whose settings have been checked, with its data.
#[derive(Clone)]
pub struct Task {
    pub(crate) settings: Settings,
    pub(crate) model: Model,
    simulation: Simulation,
    pub(crate) train: Samples,
    pub(crate) test: Samples,
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
        let (simulation, network) = Self::parts(&settings)?;
        let simulator = simulation.simulator();
        if settings.training.threads == 0 {
            settings.training.threads = std::thread::available_parallelism().map_or(1, usize::from);
        }
        if settings.training.evaluate_every == 0 {
            let outcomes = settings.training.batch * simulator.outcomes();
            settings.training.evaluate_every = settings.cadence(outcomes, network.parameters());
            settings.training.evaluate_early = true;
        }
        let model = simulation
            .model(network, settings.objective.reduction)
            .map_err(|error| SettingError::new("network.hidden", error, "fitting"))?;
        let draw = |stream, count| data::draw(&simulation, settings.data.seed, stream, count);
        let (train, test) = (draw(data::TRAIN, settings.data.train), draw(data::TEST, settings.data.test));
        let task = Self { settings, model, simulation, train, test };
        for i in 0..=task.settings.before.len() {
            let (_, optimizer, batch) = task.settings.turn(i);
            task.optimizer(optimizer, batch)?;
        }
        Ok(task)
    }

    /// Simulator and network of settings that are checked as far as can be without data.
    fn parts(settings: &Settings) -> Result<(Simulation, Mlp), SettingError> {
        settings.check()?;
        let simulation = Simulation::new(&settings.simulator)?;
        if simulation.task() != settings.task {
            let expected = format!("those of {}", settings.task);
            return Err(SettingError::new("simulator", format!("that of {}", simulation.task()), expected));
        }
        let simulator = simulation.simulator();
        let mut widths = vec![simulation.inputs()];
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
        let block = simulator.outcomes() * simulator.controls();
        for (key, optimizer, batch) in (0..=settings.before.len()).map(|i| settings.turn(i)) {
            if optimizer.needs_blocks() && batch.saturating_mul(block) > MOST_BLOCKS {
                let expected = format!(
                    "at most {}: each sample has a block of {} outcomes by {} controls",
                    MOST_BLOCKS / block,
                    simulator.outcomes(),
                    simulator.controls()
                );
                return Err(SettingError::new(key, batch, expected));
            }
        }
        Ok((simulation, network))
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

    /// The same task with validation data in place of the test data: for the choice of hyper-parameters.
    #[must_use]
    pub fn for_validation(mut self) -> Self {
        let data = &self.settings.data;
        self.test = data::draw(&self.simulation, data.seed, data::VALIDATION, data.test);
        self
    }

    /// A mini-batch of its own for a step, where `data.fresh` is set.
    #[must_use]
    pub fn fresh_batch(&self, step: u64, batch: usize) -> Option<Samples> {
        let data = &self.settings.data;
        data.fresh.then(|| data::draw(&self.simulation, data.seed, data::FRESH + step, batch))
    }

    /// Fresh parameters, drawn with `training.seed`.
    #[must_use]
    pub fn initial_parameters(&self) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.settings.training.seed);
        rng.set_stream(data::WEIGHTS);
        self.model.network().initialize(self.settings.network.init, &mut rng)
    }

    /// An optimizer for this task and mini-batches of `batch`, at the start of its work.
    ///
    /// # Errors
    /// None for settings that [`Task::new`] accepted.
    pub fn optimizer(
        &self,
        settings: &OptimizerSettings,
        batch: usize,
    ) -> Result<Box<dyn Optimizer>, SettingError> {
        if !matches!(settings, OptimizerSettings::HigAuto {}) {
            return build_optimizer(settings, self.par());
        }
        let scarce = if self.settings.counts_steps() { Scarce::Data } else { Scarce::Time };
        let (train, held) = (self.train.len(), self.held_out(settings, batch));
        let judges = if held > 0 { train - held..train } else { 0..train.min(MOST_HELD_OUT) };
        let mut samples = self.train.zeros_like(judges.len());
        self.train.gather(&judges.collect::<Vec<_>>(), &mut samples);
        let auto = Auto::new(&self.model, samples, batch, scarce, self.settings.training.threads);
        Ok(Box::new(auto.map_err(|error| SettingError::new("data.train", error, "fitting"))?))
    }

    /// How many samples, the last of the training data, an optimizer keeps to judge by instead of training on them.
    ///
    /// None where every mini-batch is drawn anew, or where nothing would be left over.
    #[must_use]
    pub fn held_out(&self, settings: &OptimizerSettings, batch: usize) -> usize {
        if !matches!(settings, OptimizerSettings::HigAuto {}) || self.settings.data.fresh {
            return 0;
        }
        let train = self.train.len();
        (train / 8).min(MOST_HELD_OUT).min(train - batch)
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
        self.settings.training.batch.min((memory::SPECTRUM_ROWS / rows).max(1))
    }

    fn par(&self) -> Par {
        match self.settings.training.threads {
            1 => Par::Seq,
            threads => Par::rayon(threads),
        }
    }
}

impl Settings {
    /// The optimizer whose turn is the `i`-th with its mini-batch, and the name of the setting that holds the latter.
    pub(crate) fn turn(&self, i: usize) -> (&'static str, &OptimizerSettings, usize) {
        match self.before.get(i) {
            Some(stage) => ("before.batch", &stage.optimizer, stage.batch),
            None => ("training.batch", &self.optimizer, self.training.batch),
        }
    }
}

fn build_optimizer(settings: &OptimizerSettings, par: Par) -> Result<Box<dyn Optimizer>, SettingError> {
    let options = |solver, gram_tolerance: f64| {
        if gram_tolerance.is_nan() || gram_tolerance <= 0.0 {
            return Err(SettingError::new("optimizer.gram_tolerance", gram_tolerance, "positive"));
        }
        Ok(Options { solver, gram_tolerance, par })
    };
    match *settings {
        OptimizerSettings::Hig { learning_rate, kappa, truncation, solver, gram_tolerance } => {
            let filter = Filter::power(kappa, truncation)?;
            Ok(Box::new(HalfInverse::new(learning_rate, filter, options(solver, gram_tolerance)?)?))
        }
        OptimizerSettings::HigAuto {} => unreachable!("made by Task::optimizer"),
        OptimizerSettings::HigKron { learning_rate, kappa, damping } => {
            Ok(Box::new(Kron::new(learning_rate, kappa, damping, par)?))
        }
        OptimizerSettings::Gn { learning_rate, truncation, solver, gram_tolerance } => {
            let filter = Filter::power(1.0, truncation)?;
            Ok(Box::new(HalfInverse::new(learning_rate, filter, options(solver, gram_tolerance)?)?))
        }
        OptimizerSettings::Lm { learning_rate, damping, solver, gram_tolerance } => {
            let options = options(solver, gram_tolerance)?;
            Ok(Box::new(LevenbergMarquardt::new(learning_rate, damping, options)?))
        }
        OptimizerSettings::LBfgs { learning_rate, history } => {
            Ok(Box::new(Lbfgs::new(learning_rate, history)?))
        }
        OptimizerSettings::Sip { learning_rate, control_rate, truncation, beta1, beta2, epsilon } => {
            let adam = Adam::new(learning_rate, beta1, beta2, epsilon)?;
            Ok(Box::new(ScaleInvariant::new(adam, control_rate, truncation)?))
        }
        OptimizerSettings::Adam { learning_rate, beta1, beta2, epsilon } => {
            first_order(Adam::new(learning_rate, beta1, beta2, epsilon))
        }
        OptimizerSettings::Adamw { learning_rate, weight_decay, beta1, beta2, epsilon } => {
            first_order(AdamW::new(Adam::new(learning_rate, beta1, beta2, epsilon)?, weight_decay))
        }
        OptimizerSettings::Sgd { learning_rate } => first_order(Sgd::new(learning_rate)),
        OptimizerSettings::Momentum { learning_rate, momentum } => {
            first_order(Momentum::new(learning_rate, momentum))
        }
        OptimizerSettings::Nesterov { learning_rate, momentum } => {
            first_order(Momentum::new(learning_rate, momentum).map(Nesterov::new))
        }
        OptimizerSettings::Rmsprop { learning_rate, decay, epsilon } => {
            first_order(Rmsprop::new(learning_rate, decay, epsilon))
        }
        OptimizerSettings::Adagrad { learning_rate, initial_accumulator, epsilon } => {
            first_order(Adagrad::new(learning_rate, initial_accumulator, epsilon))
        }
        OptimizerSettings::Adadelta { learning_rate, decay, epsilon } => {
            first_order(Adadelta::new(learning_rate, decay, epsilon))
        }
    }
}

fn first_order<R: Rule + 'static>(rule: Result<R, SettingError>) -> Result<Box<dyn Optimizer>, SettingError> {
    Ok(Box::new(FirstOrder::new(rule?)))
}
