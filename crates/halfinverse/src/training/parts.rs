//! What a training run is made of: a source of problems, data, optimizers in turn, and when to evaluate and stop.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use toml::Table;

use super::StopSettings;
use crate::error::SettingError;
use crate::optimizer::{Context, Entry, Optimizer, Setup};
use crate::problem::{Samples, Source};

/// All that a training run is made of.
///
/// # Example
/// ```
/// use halfinverse::network::{Activation, Init, Network};
/// use halfinverse::objective::SquaredError;
/// use halfinverse::optimizer::AutoSettings;
/// use halfinverse::simulator::Scaling;
/// use halfinverse::training::{Data, Parts, Stage, StopSettings, Trainer};
/// use halfinverse::{Model, Samples, faer::Mat};
/// use rand::SeedableRng;
/// let network = Network::mlp(&[1, 8, 1], Activation::Tanh)?;
/// let theta = network.initialize(Init::GlorotUniform, &mut rand_chacha::ChaCha8Rng::seed_from_u64(1));
/// let model = Model::new(network, Scaling::new(vec![1.0]), SquaredError { factor: 1.0 })?;
/// let x = Mat::from_fn(64, 1, |s, _| (37 * s % 64) as f64 / 32.0 - 1.0);
/// let y = Mat::from_fn(64, 1, |s, _| (3.0 * x[(s, 0)]).sin());
/// let samples = Samples::new(x, Mat::zeros(64, 0), y)?;
/// let mut parts = Parts::new(model, Data::split(&samples, 16)?, Stage::of(AutoSettings {}, 16));
/// parts.options.stop = StopSettings { steps: Some(200), ..StopSettings::default() };
/// let mut trainer = Trainer::new(parts, theta)?;
/// trainer.run(&mut ())?;
/// assert!(trainer.test_loss() < 1e-3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Parts {
    /// Makes the problems.
    pub source: Arc<dyn Source>,
    /// Samples.
    pub data: Data,
    /// Optimizers, first to last; all but the last with a number of steps.
    pub stages: Vec<Stage>,
    /// Everything else.
    pub options: Options,
}

impl Parts {
    /// One optimizer on these data, with default options: set at least one stop.
    pub fn new(source: impl Source + 'static, data: Data, stage: Stage) -> Self {
        Self { source: Arc::new(source), data, stages: vec![stage], options: Options::default() }
    }

    /// Refuses what no run can be made of.
    pub(super) fn check(&self) -> Result<(), SettingError> {
        self.options.stop.check().map_err(|error| error.within("stop"))?;
        let train = self.data.train.len();
        if train == 0 || self.data.test.is_empty() {
            return Err(SettingError::new("data", "empty", "at least one sample each for training and test"));
        }
        let Some((last, before)) = self.stages.split_last() else {
            return Err(SettingError::new("optimizer", "absent", "at least one"));
        };
        if last.steps.is_some() || before.iter().any(|stage| stage.steps.is_none_or(|steps| steps == 0)) {
            let expected = "a number of steps for every optimizer but the last";
            return Err(SettingError::new("before.steps", "absent, 0, or also of the last", expected));
        }
        let Options { threads, blow_up, .. } = self.options;
        if threads > MOST_THREADS {
            return Err(SettingError::new("training.threads", threads, format!("at most {MOST_THREADS}")));
        }
        if !(blow_up == 0.0 || blow_up > 1.0 && blow_up.is_finite()) {
            let expected = "above 1 and finite, or 0 for no limit";
            return Err(SettingError::new("training.blow_up", blow_up, expected));
        }
        for stage in &self.stages {
            if stage.batch == 0 || stage.batch > train {
                let expected = format!("from 1 to the number of training samples, {train}");
                return Err(SettingError::new("training.batch", stage.batch, expected));
            }
        }
        Ok(())
    }
}

/// Threads that a run accepts: more than any machine has.
pub(crate) const MOST_THREADS: usize = 1024;

/// Draws the mini-batch of a step: from its number and size.
pub type Draw = dyn Fn(u64, usize) -> Samples + Send + Sync;

/// The samples of a run.
#[derive(Clone)]
pub struct Data {
    /// Training samples; where mini-batches are drawn anew, as many make an epoch.
    pub train: Arc<Samples>,
    /// Test samples: evaluated, never trained on.
    pub test: Arc<Samples>,
    /// Draws every mini-batch anew, as a function of the step's number alone.
    pub fresh: Option<Arc<Draw>>,
}

impl Data {
    /// These samples.
    #[must_use]
    pub fn fixed(train: Samples, test: Samples) -> Self {
        Self { train: Arc::new(train), test: Arc::new(test), fresh: None }
    }

    /// The last `test` samples for testing, the others for training.
    ///
    /// # Errors
    /// When none would be left for one of them.
    pub fn split(samples: &Samples, test: usize) -> Result<Self, SettingError> {
        let count = samples.len();
        if test == 0 || test >= count {
            return Err(SettingError::new("data.test", test, format!("from 1 to below the {count} samples")));
        }
        Ok(Self::fixed(samples.first(count - test), samples.range(count - test, test)))
    }

    /// The same samples for training and testing: for a fit whose data are all there is.
    #[must_use]
    pub fn all(samples: Samples) -> Self {
        let samples = Arc::new(samples);
        Self { train: samples.clone(), test: samples, fresh: None }
    }
}

type Build = dyn Fn(&Context) -> Result<Box<dyn Optimizer>, SettingError> + Send + Sync;

/// An optimizer's turn.
#[derive(Clone)]
pub struct Stage {
    build: Arc<Build>,
    name: &'static str,
    scales: bool,
    /// Whether it can take η as a multiple of the step that a mini-batch's quadratic model likes best.
    rate_by_model: bool,
    held_out: bool,
    /// Samples of a mini-batch.
    pub batch: usize,
    /// Steps after which the next optimizer takes over.
    pub steps: Option<u64>,
}

/// The most training samples that an optimizer keeps to judge by: enough to tell a gain of a tenth from noise on the
/// five tasks.
const MOST_HELD_OUT: usize = 256;

impl Stage {
    /// The optimizer with these settings, on mini-batches of so many samples, to the end of the run.
    #[must_use]
    pub fn of<S: Setup + Clone + Send + Sync + 'static>(settings: S, batch: usize) -> Self {
        let build = move |context: &Context| settings.clone().build(context);
        Self {
            build: Arc::new(build),
            name: S::NAME,
            scales: S::SCALES,
            rate_by_model: has_rate(&Entry::of::<S>()),
            held_out: S::HELD_OUT,
            batch,
            steps: None,
        }
    }

    /// The optimizer of an entry with these settings.
    #[must_use]
    pub fn of_entry(entry: Entry, settings: Table, batch: usize, steps: Option<u64>) -> Self {
        let Entry { name, scales, held_out, .. } = entry;
        let rate_by_model = has_rate(&entry);
        let build = move |context: &Context| entry.build(&settings, context);
        Self { build: Arc::new(build), name, scales, rate_by_model, held_out, batch, steps }
    }

    /// The same, for so many steps.
    #[must_use]
    pub fn for_steps(self, steps: u64) -> Self {
        Self { steps: Some(steps), ..self }
    }

    /// The optimizer's name.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Whether a part of a step is a smaller step of the same optimizer.
    pub(super) fn scales(&self) -> bool {
        self.scales
    }

    /// Whether the optimizer judges its steps by samples of its own.
    pub(super) fn judges(&self) -> bool {
        self.held_out
    }

    /// Whether it can take η as a multiple of the step that a mini-batch's quadratic model likes best.
    pub(super) fn rate_by_model(&self) -> bool {
        self.rate_by_model
    }

    /// How many samples, the last of the training data, the optimizer keeps to judge by instead of training on them.
    /// None where every mini-batch is drawn anew, or where nothing would be left over.
    #[must_use]
    pub fn held_out(&self, data: &Data) -> usize {
        if !self.held_out || data.fresh.is_some() {
            return 0;
        }
        held_out(data.train.len(), self.batch)
    }

    /// The optimizer at the start of its work.
    ///
    /// # Errors
    /// The first setting that is out of range, by its own name.
    pub fn optimizer(
        &self,
        data: &Data,
        options: &Options,
        source: &Arc<dyn Source>,
    ) -> Result<Box<dyn Optimizer>, SettingError> {
        let (train, held) = (data.train.len(), self.held_out(data));
        let judges = match (self.held_out, held) {
            (false, _) => data.train.range(0, 0),
            (true, 0) => data.train.first(MOST_HELD_OUT),
            (true, held) => data.train.range(train - held, held),
        };
        (self.build)(&Context {
            source: source.clone(),
            batch: self.batch,
            samples: train,
            judges,
            counted: options.stop.counted(),
            threads: options.threads,
        })
    }

    /// Refuses settings that the optimizer refuses.
    pub(crate) fn check(
        &self,
        data: &Data,
        options: &Options,
        source: &Arc<dyn Source>,
    ) -> Result<(), SettingError> {
        self.optimizer(data, options, source).map(drop)
    }
}

/// Of so many training samples, those kept to judge by.
pub(crate) fn held_out(train: usize, batch: usize) -> usize {
    (train / 8).min(MOST_HELD_OUT).min(train.saturating_sub(batch))
}

/// Whether an optimizer has the setting `rate`.
fn has_rate(entry: &Entry) -> bool {
    entry.defaults().contains_key("rate")
}

/// How a run goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// When it ends.
    pub stop: StopSettings,
    /// What becomes of the learning rate.
    pub schedule: Schedule,
    /// What is done about a step that fails, or a loss that blows up.
    pub on_fault: OnFault,
    /// A loss so many times its lowest is a blow-up; 0 for no such limit.
    pub blow_up: f64,
    /// When test data are evaluated.
    pub cadence: Cadence,
    /// Whether every epoch has an order of its own.
    pub shuffle: bool,
    /// Seed of that order.
    pub seed: u64,
    /// Threads.
    pub threads: usize,
    /// Kept in checkpoints: one with another number is refused. Tells apart runs that make different steps.
    pub fingerprint: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            stop: StopSettings::default(),
            schedule: Schedule::Constant,
            on_fault: OnFault::Stop,
            blow_up: 1e3,
            cadence: Cadence { every: 10, early: true },
            shuffle: true,
            seed: 1,
            threads: 1,
            fingerprint: 0,
        }
    }
}

/// After which steps test data are evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cadence {
    /// Steps between evaluations.
    pub every: u64,
    /// Whether there are more before the first of these, since that is when the loss falls fastest: at those of 1, 2, 3, 4, 6,
    /// 8, 12, … that are at least a quarter of it. Four at most, so that they cost what four of the others do.
    pub early: bool,
}

impl Cadence {
    /// Whether there is an evaluation after so many steps.
    #[must_use]
    pub fn evaluates_at(&self, step: u64) -> bool {
        let every = self.every.max(1);
        let octaves = step.is_power_of_two() || step.is_multiple_of(3) && (step / 3).is_power_of_two();
        let early = self.early && step < every && step >= every / 4;
        step.is_multiple_of(every) || early && octaves
    }
}

/// What is done about a numerical fault: a step that ends with an error, or a loss that blows up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnFault {
    /// The run ends, its state saved.
    #[default]
    Stop,
    /// θ and the optimizer's memory go back to the last evaluation; steps are half as long, and grow again by 1 % each.
    RollBack,
    /// The mini-batch is left out. A blow-up ends the run all the same.
    Skip,
}

/// How the learning rate goes along, from the start of a run to its last step or epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// It stays.
    #[default]
    Constant,
    /// ½(1 + cos πt), t from 0 to 1 (Loshchilov, Hutter, ICLR 2017).
    Cosine,
}
