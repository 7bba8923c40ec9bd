//! Every setting by its dotted name: the contents of a task file, and of a run's `config.toml`.

mod check;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::error::SettingError;
use crate::network::{Activation, Init, Limits};
use crate::objective::Reduction;
use crate::spectral::Solver;
use crate::tables;
use crate::training::{OnFault, Schedule, StopSettings};

/// All settings of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Name of the task. A file with the name of a registered task changes that task; any other is a task of its own.
    pub task: String,
    /// The simulator, by kind.
    pub simulator: Choice,
    /// The network between a sample and its control.
    pub network: NetworkSettings,
    /// The objective, by kind.
    pub objective: ObjectiveSettings,
    /// The data, by kind.
    pub data: DataSettings,
    /// The optimizer, by name.
    pub optimizer: OptimizerChoice,
    /// How training goes through the data.
    pub training: TrainingSettings,
    /// When training ends: whichever comes first.
    #[serde(default)]
    pub stop: StopSettings,
    /// Optimizers that come before `optimizer`, one after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<Stage>,
}

/// A part by its kind, with the settings of that kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Choice {
    /// The kind.
    pub kind: String,
    /// Its own settings.
    #[serde(flatten)]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub settings: Table,
}

impl Choice {
    /// The settings as the struct of that kind, for what only that kind can tell.
    ///
    /// # Errors
    /// When they are of another kind.
    pub fn read<S: DeserializeOwned + schemars::JsonSchema>(&self) -> Result<S, SettingError> {
        tables::from_table(&self.settings)
    }
}

/// The objective by its kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ObjectiveSettings {
    /// The kind.
    pub kind: String,
    /// Whether a mini-batch's loss is the mean of its samples' or their sum.
    pub reduction: Reduction,
    /// Its own settings.
    #[serde(flatten)]
    #[schemars(skip)]
    pub settings: Table,
}

/// The network; input and output widths follow from data and simulator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkSettings {
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// Nonlinearity after each.
    pub activation: Activation,
    /// How weights are drawn.
    pub init: Init,
    /// Instead of hidden layers, any layers by their kind, first to last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<serde_json::Map<String, serde_json::Value>>")]
    pub layers: Vec<Table>,
    /// Whether a dense layer to the controls follows the layers listed; without it the last of them puts out the
    /// controls.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub head: bool,
    /// Lower and upper bound of all controls, or a list of such pairs, one for each; -inf and inf where there is none.
    #[serde(default = "Limits::none")]
    pub bounds: Limits,
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_true(value: &bool) -> bool {
    *value
}

/// The data by their kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DataSettings {
    /// The kind.
    pub kind: String,
    /// Number of training samples.
    pub train: usize,
    /// Number of test samples.
    pub test: usize,
    /// Seed of both.
    pub seed: u64,
    /// Whether every step draws its mini-batch anew; `train` samples then make an epoch.
    pub fresh: bool,
    /// Their own settings.
    #[serde(flatten)]
    #[schemars(skip)]
    pub settings: Table,
}

/// An optimizer by its name, with its settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct OptimizerChoice {
    /// The name.
    pub name: String,
    /// Its own settings.
    #[serde(flatten)]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub settings: Table,
}

impl OptimizerChoice {
    /// Learning rate η, where there is one.
    #[must_use]
    pub fn learning_rate(&self) -> Option<f64> {
        self.settings.get(LEARNING_RATE).and_then(Value::as_float)
    }

    /// Sets the learning rate η, where there is one.
    pub fn set_learning_rate(&mut self, rate: f64) {
        if let Some(value) = self.settings.get_mut(LEARNING_RATE) {
            *value = Value::Float(rate);
        }
    }

    /// The spectral solver, where the optimizer has one.
    #[must_use]
    pub fn solver(&self) -> Option<Solver> {
        self.settings.get("solver").and_then(Value::as_str).and_then(|solver| solver.parse().ok())
    }
}

const LEARNING_RATE: &str = "learning_rate";

/// An optimizer's turn before another takes over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Steps that it makes.
    pub steps: u64,
    /// Samples per mini-batch.
    pub batch: usize,
    /// The optimizer.
    pub optimizer: OptimizerChoice,
}

/// How training goes through the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainingSettings {
    /// Samples per mini-batch.
    pub batch: usize,
    /// Whether every epoch has an order of its own.
    pub shuffle: bool,
    /// Seed of initial weights and shuffling.
    pub seed: u64,
    /// Threads; 0 stands for the machine's cores.
    pub threads: usize,
    /// What becomes of the learning rate during the run.
    #[serde(default)]
    pub schedule: Schedule,
    /// What is done about a step that fails, or a loss that blows up.
    #[serde(default)]
    pub on_fault: OnFault,
    /// A loss so many times its lowest is a blow-up; 0 for no such limit.
    #[serde(default = "default_blow_up")]
    pub blow_up: f64,
    /// Steps between evaluations on the test data; 0 stands for the cadence that costs at most 5 % of the time.
    pub evaluate_every: usize,
    /// Whether there are more evaluations before the first of these; set where `evaluate_every` was 0.
    #[serde(default)]
    pub evaluate_early: bool,
    /// Seconds between checkpoints; longer where writing one takes more than a twentieth of that.
    #[serde(default = "default_checkpoint_every")]
    pub checkpoint_every: f64,
    /// Checkpoint whose parameters training starts from, instead of freshly drawn ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// The loss of a run that has learnt something can rise a hundredfold on a hard mini-batch, hardly a thousandfold.
fn default_blow_up() -> f64 {
    1e3
}

/// Seconds of training lost in a crash, at most.
fn default_checkpoint_every() -> f64 {
    5.0
}

impl Settings {
    /// What stands in where a task file says nothing: the parts that it must name are empty.
    pub(super) fn template() -> Self {
        Self {
            task: String::new(),
            simulator: Choice::default(),
            network: NetworkSettings {
                hidden: vec![20, 20, 20],
                activation: Activation::Tanh,
                init: Init::GlorotUniform,
                layers: Vec::new(),
                head: true,
                bounds: Limits::none(),
            },
            objective: ObjectiveSettings::default(),
            data: DataSettings { train: 4096, test: 1024, ..DataSettings::default() },
            optimizer: OptimizerChoice::default(),
            training: TrainingSettings {
                batch: 128,
                shuffle: false,
                seed: 1,
                threads: 0,
                schedule: Schedule::Constant,
                on_fault: OnFault::Stop,
                blow_up: default_blow_up(),
                checkpoint_every: default_checkpoint_every(),
                evaluate_every: 0,
                evaluate_early: false,
                from: None,
            },
            stop: StopSettings { time: Some(20.0), ..StopSettings::default() },
            before: Vec::new(),
        }
    }

    /// Steps that the run has at most, where its end does not come by the clock.
    pub(super) fn known_steps(&self) -> Option<f64> {
        let per_epoch = (self.data.train / self.training.batch.max(1)).max(1) as f64;
        let steps = self.stop.steps.map(|steps| steps as f64);
        let epochs = self.stop.epochs.map(|epochs| epochs as f64 * per_epoch);
        let steps = steps.into_iter().chain(epochs).reduce(f64::min);
        steps.filter(|_| self.stop.counted())
    }

    /// The optimizer whose turn is the `i`-th with its mini-batch, and the names of the settings that hold them.
    pub(crate) fn turn(&self, i: usize) -> ([String; 2], &OptimizerChoice, usize) {
        match self.before.get(i) {
            Some(stage) => (
                [format!("before.{i}.optimizer"), format!("before.{i}.batch")],
                &stage.optimizer,
                stage.batch,
            ),
            None => {
                (["optimizer".to_owned(), "training.batch".to_owned()], &self.optimizer, self.training.batch)
            }
        }
    }

    /// Tells apart settings that make different steps, or evaluate elsewhere: a CRC-32 of all but `training.from`,
    /// `checkpoint_every`, `on_fault` and `blow_up`, and the ends of a run. Of these it has steps and epochs where a
    /// schedule leads to them, and whether they are [counted](Self::counts_steps) where that decides how an optimizer
    /// chooses its steps (`counting`).
    ///
    /// # Panics
    /// Never: settings are plain values.
    #[must_use]
    pub fn fingerprint(&self, counting: bool) -> u64 {
        let mut settings = self.clone();
        let training = &mut settings.training;
        let StopSettings { steps, epochs, .. } = self.stop;
        let counted = counting && self.counts_steps();
        settings.stop = match training.schedule {
            Schedule::Constant => StopSettings { steps: counted.then_some(1), ..StopSettings::default() },
            Schedule::Cosine => StopSettings { steps, epochs, ..StopSettings::default() },
        };
        (training.from, training.checkpoint_every) = (None, 0.0);
        (training.on_fault, training.blow_up) = (OnFault::Stop, 0.0);
        let text = serde_json::to_vec(&settings).expect("settings are plain values");
        u64::from(crc32fast::hash(&text))
    }

    /// Whether a run ends after steps or epochs and not by time.
    #[must_use]
    pub fn counts_steps(&self) -> bool {
        self.stop.counted()
    }

    /// As TOML: the contents of `config.toml`.
    ///
    /// # Panics
    /// Never: settings are plain values.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("settings are plain tables")
    }
}
