//! Tasks: named problems with their data, made from tables of settings.
//!
//! A task is a TOML file: simulator, network, objective and data by their kinds, an optimizer by its name, and what
//! differs with an optimizer under `[with.NAME]`. Those that come with the crate are in `tables/`; the [`Registry`]
//! knows them, and what they name.

pub mod data;
mod fitted;
mod forecast;
mod registry;
mod settings;
mod spectrum;

use std::sync::Arc;

use faer::Mat;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use toml::Value;

pub use data::{DataFile, Generator};
pub use fitted::{Chunk, Errors, Fitted, FittedError, FittedRows, TargetError, Worst};
pub use forecast::{Forecast, Part};
pub use registry::Registry;
pub use settings::{
    Choice, DataSettings, NetworkSettings, ObjectiveSettings, OptimizerChoice, Settings, Stage,
    TrainingSettings,
};
pub use spectrum::{SpectrumBy, SpectrumPlan, TooDear};

use crate::error::SettingError;
pub use crate::error::nearest;
use crate::optimizer::{Context, Entry, Sizes, Stores};
use crate::problem::{Model, Samples};
use crate::ranks::{Spread, Team};
use crate::streams;
use crate::training::{
    Cadence, Data, Options, Parts, Stage as TrainingStage, Trainer, TrainingError, held_out, lacks_gradient,
};

/// Numbers in the largest set of simulator blocks ∂y/∂z that a mini-batch may need: 2 GiB of them.
const MOST_BLOCKS: usize = 1 << 28;

/// Parameters of the largest network that a task accepts: 2 GiB of them.
const MOST_PARAMETERS: usize = 1 << 28;

/// Settings that have been checked, with all that they name.
#[derive(Clone)]
pub struct Task {
    settings: Settings,
    registry: Registry,
    model: Model,
    generator: Arc<dyn Generator>,
    train: Arc<Samples>,
    test: Arc<Samples>,
    forecast: Forecast,
    team: Option<Team>,
}

/// What a task's settings name, before data are drawn.
struct Named {
    model: Model,
    generator: Arc<dyn Generator>,
}

impl Named {
    /// Checks the settings as far as can be without data.
    fn new(settings: &Settings, registry: &Registry) -> Result<Self, SettingError> {
        settings.check(|name| Ok(registry.entry(name)?.scales))?;
        let Settings { simulator: chosen, objective, data, .. } = settings;
        let simulator = registry.build_simulator(&chosen.kind, &chosen.settings)?;
        let files = registry.files();
        let context = data::Context { simulator: &simulator, settings: chosen, data, files };
        let generator = registry.build_data(&data.kind, &data.settings, context)?;
        let network = registry.build_network(&settings.network, generator.inputs(), simulator.controls())?;
        if network.parameters() > MOST_PARAMETERS {
            let expected = format!("widths that make at most {MOST_PARAMETERS} parameters");
            let found = format!("{:?}", settings.network.hidden);
            return Err(SettingError::new("network.hidden", found, expected));
        }
        let weights = objective.settings.get("weights").and_then(Value::as_array);
        let key = if weights.is_some_and(|list| !list.is_empty()) { "weights" } else { "kind" };
        let objective = registry.build_objective(&objective.kind, &objective.settings)?;
        let model = Model::of(network, simulator, objective)
            .map_err(|error| SettingError::misfit(key, error).within("objective"))?
            .reduced_by(settings.objective.reduction);
        let named = Self { model, generator };
        for i in 0..=settings.before.len() {
            named.check_optimizer(settings, registry, i)?;
        }
        Ok(named)
    }

    /// Refuses what an optimizer refuses, and a mini-batch whose blocks are beyond any memory.
    fn check_optimizer(
        &self,
        settings: &Settings,
        registry: &Registry,
        i: usize,
    ) -> Result<(), SettingError> {
        let ([own, key], optimizer, batch) = settings.turn(i);
        let entry = registry.entry(&optimizer.name)?;
        let numbers = entry.numbers(&optimizer.settings, &self.sizes(batch, settings.data.train));
        let stores = numbers.map_err(|error| error.within(&own))?.stores;
        if let Some(part) = settings.stop.gradient.filter(|_| !entry.tells_gradient) {
            return Err(lacks_gradient(part, &optimizer.name));
        }
        // One that judges by samples is made when there are some.
        if !entry.held_out {
            let context = Context {
                source: Arc::new(self.model.clone()),
                batch,
                samples: settings.data.train,
                judges: self.no_samples(),
                counted: settings.stop.counted(),
                threads: 1,
            };
            entry.build(&optimizer.settings, &context).map_err(|error| error.within(&own))?;
        }
        let simulator = self.model.simulator();
        let (outcomes, controls) = (simulator.outcomes(), simulator.controls());
        let block = outcomes.saturating_mul(controls);
        if stores != Stores::Nothing && batch.saturating_mul(block) > MOST_BLOCKS {
            let most = MOST_BLOCKS / block;
            let expected = if most > 0 {
                format!(
                    "at most {most}: each sample has a block of {outcomes} outcomes by {controls} controls"
                )
            } else {
                format!(
                    "that of another optimizer, such as adam: {} needs a block of {outcomes} outcomes by {controls} controls for each sample",
                    optimizer.name
                )
            };
            return Err(SettingError::new(&key, batch, expected));
        }
        Ok(())
    }

    /// What a step of the last optimizer is worth, in forward passes over its mini-batch.
    fn passes(&self, settings: &Settings, registry: &Registry) -> Result<f64, SettingError> {
        let (optimizer, sizes) =
            (&settings.optimizer, self.sizes(settings.training.batch, settings.data.train));
        let passes = registry.entry(&optimizer.name)?.passes(&optimizer.settings, &sizes);
        passes.map_err(|error| error.within("optimizer"))
    }

    fn no_samples(&self) -> Samples {
        let simulator = self.model.simulator();
        let none = |columns: usize| Mat::zeros(0, columns);
        Samples::unweighted(
            none(self.generator.inputs()),
            none(simulator.initials()),
            none(simulator.outcomes()),
        )
    }

    /// Of a run with so many training samples.
    fn sizes(&self, batch: usize, train: usize) -> Sizes {
        Sizes {
            batch,
            judges: held_out(train, batch),
            outcomes: self.model.simulator().outcomes(),
            parameters: self.model.network().parameters(),
            work: self.model.network().work(),
            layers: self.model.network().factor_shapes(),
        }
    }
}

/// Steps between evaluations so that these cost less than 5 % of the time, from counts of operations alone: a run's
/// rows must not depend on the clock. A step is worth so many forward passes over its mini-batch; an evaluation is one
/// over the test data and one more over the mini-batch, for its hidden units.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts")]
fn cadence(passes: f64, batch: usize, test: usize) -> usize {
    (25.0 * (test + batch) as f64 / (passes * batch as f64)).ceil().max(1.0) as usize
}

impl Task {
    /// Checks the settings and makes model and data, with the parts that come with the crate.
    ///
    /// `training.evaluate_every = 0` is replaced by the cadence that keeps evaluation below 5 % of the time, and
    /// `training.threads = 0` by the machine's number of cores.
    ///
    /// # Errors
    /// The first setting that is out of range or contradicts another.
    ///
    /// # Example
    /// ```
    /// use halfinverse::task::{Registry, Task};
    /// let mut settings = Registry::standard().settings("oscillators", "hig")?;
    /// settings.data.train = 256;
    /// let task = Task::new(settings)?;
    /// assert_eq!(task.model().network().parameters(), 2956);
    /// # Ok::<(), halfinverse::SettingError>(())
    /// ```
    pub fn new(settings: Settings) -> Result<Self, SettingError> {
        Self::with(settings, &Registry::standard())
    }

    /// As [`Self::new`], with the parts of a registry.
    ///
    /// # Errors
    /// As there.
    pub fn with(mut settings: Settings, registry: &Registry) -> Result<Self, SettingError> {
        registry.complete(&mut settings)?;
        let named = Named::new(&settings, registry)?;
        if settings.training.threads == 0 {
            settings.training.threads = std::thread::available_parallelism().map_or(1, usize::from);
        }
        if settings.training.evaluate_every == 0 {
            let passes = named.passes(&settings, registry)?;
            settings.training.evaluate_every = cadence(passes, settings.training.batch, settings.data.test);
            settings.training.evaluate_early = true;
        }
        let forecast = Forecast::of(&named, &settings, registry)?;
        let Named { model, generator } = named;
        let (seed, data) = (settings.data.seed, &settings.data);
        let draw = |stream, count| Arc::new(data::draw(&*generator, seed, stream, count));
        let [train, test] = match (generator.file(), generator.given()) {
            (Some(file), _) => [file.train.clone(), file.test.clone()],
            (None, Some(given)) => given,
            (None, None) => [draw(streams::TRAIN, data.train), draw(streams::TEST, data.test)],
        };
        model.fits(&train).map_err(|error| SettingError::misfit("data.kind", error))?;
        let registry = registry.clone();
        let task = Self { settings, registry, model, generator, train, test, forecast, team: None };
        for i in 0..=task.settings.before.len() {
            let ([own, _], optimizer, _) = task.settings.turn(i);
            if !task.registry.entry(&optimizer.name)?.held_out {
                // Made once already, before the data were drawn.
                continue;
            }
            let stage = task.stage(i);
            stage.check(&task.data(), &task.options(), &task.source()).map_err(|error| error.within(&own))?;
        }
        Ok(task)
    }

    /// The same task, trained over these ranks: each is to have it with the same settings.
    #[must_use]
    pub fn over(self, team: Team) -> Self {
        Self { team: Some(team), ..self }
    }

    /// The settings, every default resolved.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The memory that training will need, about.
    #[must_use]
    pub fn forecast(&self) -> &Forecast {
        &self.forecast
    }

    /// The registry that it was made with.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The same for a run of which J is taken apart, [`Self::spectrum_samples`] at a time.
    #[must_use]
    pub fn forecast_of_anatomy(&self) -> Forecast {
        self.forecast.taking_apart(self.spectrum_samples() * self.model.simulator().outcomes())
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

    /// The file that training and test data are from, where they are.
    #[must_use]
    pub fn file(&self) -> Option<&DataFile> {
        self.generator.file().map(|file| &**file)
    }

    /// What a file of its weights tells besides, for [`write_model`](crate::training::write_model), where the data are
    /// of a file: network, columns and scales.
    #[must_use]
    pub fn description(&self) -> Option<String> {
        fitted::Description::of(self)
    }

    /// The same task with validation data in place of the test data: for the choice of hyper-parameters. Where data are
    /// not drawn they are taken from the training data, as many as there are test data, and a quarter at most.
    #[must_use]
    pub fn for_validation(mut self) -> Self {
        let data = &self.settings.data;
        if self.generator.file().is_some() || self.generator.given().is_some() {
            let train = self.train.len();
            let kept = self.test.len().min(train / 4).max(1);
            self.test = Arc::new(self.train.range(train - kept, kept));
            self.train = Arc::new(self.train.first((train - kept).max(1)));
            return self;
        }
        self.test = Arc::new(data::draw(&*self.generator, data.seed, streams::VALIDATION, data.test));
        self
    }

    /// Fresh parameters, drawn with `training.seed`.
    #[must_use]
    pub fn initial_parameters(&self) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.settings.training.seed);
        rng.set_stream(streams::WEIGHTS);
        self.model.network().initialize(self.settings.network.init, &mut rng)
    }

    /// How many samples of the training data [`anatomy`](crate::anatomy::anatomy) takes apart: at most a mini-batch,
    /// and at most 512 rows of J. A run's report takes as many where that is not too dear ([`Forecast::spectrum`]).
    #[must_use]
    pub fn spectrum_samples(&self) -> usize {
        spectrum::most_samples(self.settings.training.batch, self.model.simulator().outcomes())
    }

    /// Tells apart settings that make different steps; see [`Settings::fingerprint`].
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.settings.fingerprint(self.registry.judges(&self.settings))
    }

    /// A training run, from the given parameters, or from freshly drawn ones.
    ///
    /// # Errors
    /// When the parameters do not fit the network, or the threads cannot be started.
    pub fn trainer(&self, theta: Option<Vec<f64>>) -> Result<Trainer, TrainingError> {
        let theta = theta.unwrap_or_else(|| self.initial_parameters());
        Trainer::new(self.parts(), theta)
    }

    /// All that a training run is made of.
    #[must_use]
    pub fn parts(&self) -> Parts {
        let stages = (0..=self.settings.before.len()).map(|i| self.stage(i)).collect();
        Parts { source: self.source(), data: self.data(), stages, options: self.options() }
    }

    fn source(&self) -> Arc<dyn crate::problem::Source> {
        let model = Arc::new(self.model.clone());
        match &self.team {
            Some(team) if team.size() > 1 => Arc::new(Spread::new(model, team.clone())),
            _ => model,
        }
    }

    fn data(&self) -> Data {
        let DataSettings { seed, fresh, .. } = self.settings.data;
        let generator = self.generator.clone();
        let draw = move |step: u64, batch: usize| data::draw(&*generator, seed, streams::FRESH + step, batch);
        Data { train: self.train.clone(), test: self.test.clone(), fresh: fresh.then(|| Arc::new(draw) as _) }
    }

    fn options(&self) -> Options {
        let training = &self.settings.training;
        Options {
            stop: self.settings.stop.clone(),
            schedule: training.schedule,
            on_fault: training.on_fault,
            blow_up: training.blow_up,
            cadence: Cadence { every: training.evaluate_every as u64, early: training.evaluate_early },
            shuffle: training.shuffle,
            seed: training.seed,
            threads: training.threads,
            fingerprint: self.fingerprint(),
        }
    }

    fn stage(&self, i: usize) -> TrainingStage {
        let (_, optimizer, batch) = self.settings.turn(i);
        let steps = self.settings.before.get(i).map(|stage| stage.steps);
        let entry: Option<Entry> = self.registry.entry(&optimizer.name).ok().cloned();
        let entry = entry.expect("checked with the settings");
        TrainingStage::of_entry(entry, optimizer.settings.clone(), batch, steps)
    }
}
