//! Every setting by its dotted name.

mod check;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::SettingError;
use crate::network::{Activation, Init};
use crate::objective::Reduction;
use crate::simulator::{DipoleSettings, OscillatorsSettings, PoissonSettings};
use crate::spectral::Solver;

/// The problems that can be trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskName {
    /// Coupled oscillators, to be steered back to where they started.
    Oscillators,
    /// A quantum state in a box, to be steered to another by a dipole field.
    Dipole,
    /// A field, to be found from its Laplacian.
    Poisson,
    /// Two functions of one variable, one of them seen through a factor λ.
    Toy,
    /// A function of one variable; no simulator.
    Regression,
}

/// The optimizers; each is a file of [`crate::optimizer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "each names its file")]
pub enum OptimizerName {
    Hig,
    HigAuto,
    HigKron,
    Gn,
    Lm,
    LBfgs,
    Sip,
    Adam,
    Adamw,
    Sgd,
    Momentum,
    Nesterov,
    Rmsprop,
    Adagrad,
    Adadelta,
}

/// Names as they are typed.
macro_rules! names {
    ($type:ident, $what:literal, $($name:literal => $variant:ident),+) => {
        impl $type {
            /// All of them, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $name),+ })
            }
        }

        impl FromStr for $type {
            type Err = SettingError;

            fn from_str(text: &str) -> Result<Self, SettingError> {
                match text {
                    $($name => Ok(Self::$variant),)+
                    _ => Err(SettingError::new($what, format!("`{text}`"), concat!("one of", $(" ", $name),+))),
                }
            }
        }
    };
}

names!(
    TaskName, "task", "oscillators" => Oscillators, "dipole" => Dipole, "poisson" => Poisson, "toy" => Toy,
    "regression" => Regression
);
names!(
    OptimizerName, "optimizer.name", "hig" => Hig, "hig-auto" => HigAuto, "hig-kron" => HigKron, "gn" => Gn, "lm" => Lm, "l-bfgs" => LBfgs, "sip" => Sip,
    "adam" => Adam, "adamw" => Adamw, "sgd" => Sgd, "momentum" => Momentum, "nesterov" => Nesterov,
    "rmsprop" => Rmsprop, "adagrad" => Adagrad, "adadelta" => Adadelta
);

/// All settings of a run: the contents of `config.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Which problem.
    pub task: TaskName,
    /// `simulator.*`
    pub simulator: SimulatorSettings,
    /// `network.*`
    pub network: NetworkSettings,
    /// `objective.*`
    pub objective: ObjectiveSettings,
    /// `data.*`
    pub data: DataSettings,
    /// `optimizer.*`
    pub optimizer: OptimizerSettings,
    /// `training.*`
    pub training: TrainingSettings,
    /// `stop.*`
    #[serde(default)]
    pub stop: StopSettings,
    /// Optimizers that come before `optimizer`, one after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<Stage>,
}

/// An optimizer's turn before another takes over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Steps that it makes.
    pub steps: u64,
    /// Samples per mini-batch.
    pub batch: usize,
    /// The optimizer.
    pub optimizer: OptimizerSettings,
}

/// Constants of the task's simulator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SimulatorSettings {
    /// Of [`TaskName::Oscillators`].
    Oscillators(OscillatorsSettings),
    /// Of [`TaskName::Dipole`].
    Dipole(DipoleSettings),
    /// Of [`TaskName::Poisson`].
    Poisson(PoissonSettings),
    /// Of [`TaskName::Toy`].
    Toy(ToySettings),
    /// Of [`TaskName::Regression`].
    Regression(RegressionSettings),
}

/// What the toy task's second outcome is multiplied by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToySettings {
    /// λ: 1 is well-conditioned, 0.01 is not.
    pub lambda: f64,
}

/// Regression has no simulator to set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegressionSettings {}

/// The objective; its form belongs to the task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectiveSettings {
    /// Whether a mini-batch's loss is the mean of its samples' or their sum.
    pub reduction: Reduction,
}

/// The network between a sample and its control; input and output widths follow from the task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSettings {
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// Nonlinearity after each.
    pub activation: Activation,
    /// How weights are drawn.
    pub init: Init,
}

/// The data sets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSettings {
    /// Number of training samples.
    pub train: usize,
    /// Number of test samples.
    pub test: usize,
    /// Seed of both.
    pub seed: u64,
    /// Whether every step draws its mini-batch anew; `train` samples then make an epoch.
    pub fresh: bool,
}

/// The optimizer and its hyper-parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
#[allow(missing_docs, reason = "each name is a word of the field; crate::optimizer documents them")]
pub enum OptimizerSettings {
    Hig { learning_rate: f64, kappa: f64, truncation: f64, solver: Solver, gram_tolerance: f64 },
    HigAuto {},
    HigKron { learning_rate: f64, kappa: f64, damping: f64 },
    Gn { learning_rate: f64, truncation: f64, solver: Solver, gram_tolerance: f64 },
    Lm { learning_rate: f64, damping: f64, solver: Solver, gram_tolerance: f64 },
    LBfgs { learning_rate: f64, history: usize },
    Sip { learning_rate: f64, control_rate: f64, truncation: f64, beta1: f64, beta2: f64, epsilon: f64 },
    Adam { learning_rate: f64, beta1: f64, beta2: f64, epsilon: f64 },
    Adamw { learning_rate: f64, weight_decay: f64, beta1: f64, beta2: f64, epsilon: f64 },
    Sgd { learning_rate: f64 },
    Momentum { learning_rate: f64, momentum: f64 },
    Nesterov { learning_rate: f64, momentum: f64 },
    Rmsprop { learning_rate: f64, decay: f64, epsilon: f64 },
    Adagrad { learning_rate: f64, initial_accumulator: f64, epsilon: f64 },
    Adadelta { learning_rate: f64, decay: f64, epsilon: f64 },
}

impl OptimizerSettings {
    /// Which optimizer this is.
    #[must_use]
    pub fn name(&self) -> OptimizerName {
        match self {
            Self::Hig { .. } => OptimizerName::Hig,
            Self::HigAuto {} => OptimizerName::HigAuto,
            Self::HigKron { .. } => OptimizerName::HigKron,
            Self::Gn { .. } => OptimizerName::Gn,
            Self::Lm { .. } => OptimizerName::Lm,
            Self::LBfgs { .. } => OptimizerName::LBfgs,
            Self::Sip { .. } => OptimizerName::Sip,
            Self::Adam { .. } => OptimizerName::Adam,
            Self::Adamw { .. } => OptimizerName::Adamw,
            Self::Sgd { .. } => OptimizerName::Sgd,
            Self::Momentum { .. } => OptimizerName::Momentum,
            Self::Nesterov { .. } => OptimizerName::Nesterov,
            Self::Rmsprop { .. } => OptimizerName::Rmsprop,
            Self::Adagrad { .. } => OptimizerName::Adagrad,
            Self::Adadelta { .. } => OptimizerName::Adadelta,
        }
    }

    /// Learning rate η, where there is one.
    #[must_use]
    pub fn learning_rate(&self) -> Option<f64> {
        self.clone().learning_rate_mut().copied()
    }

    /// Learning rate η, to be set, where there is one.
    pub fn learning_rate_mut(&mut self) -> Option<&mut f64> {
        Some(match self {
            Self::HigAuto {} => return None,
            Self::Hig { learning_rate, .. }
            | Self::HigKron { learning_rate, .. }
            | Self::Gn { learning_rate, .. }
            | Self::Lm { learning_rate, .. }
            | Self::LBfgs { learning_rate, .. }
            | Self::Sip { learning_rate, .. }
            | Self::Adam { learning_rate, .. }
            | Self::Adamw { learning_rate, .. }
            | Self::Sgd { learning_rate }
            | Self::Momentum { learning_rate, .. }
            | Self::Nesterov { learning_rate, .. }
            | Self::Rmsprop { learning_rate, .. }
            | Self::Adagrad { learning_rate, .. }
            | Self::Adadelta { learning_rate, .. } => learning_rate,
        })
    }

    /// Whether a step is the learning rate times something that does not depend on it, so that a part of it is a smaller step
    /// of the same optimizer.
    #[must_use]
    pub fn scales(&self) -> bool {
        !matches!(self, Self::HigAuto {} | Self::HigKron { .. } | Self::Lm { .. } | Self::LBfgs { .. })
    }

    /// The spectral solver, where the optimizer has one.
    #[must_use]
    pub fn solver(&self) -> Option<Solver> {
        match *self {
            Self::Hig { solver, .. } | Self::Gn { solver, .. } | Self::Lm { solver, .. } => Some(solver),
            _ => None,
        }
    }

    /// Whether a step needs the simulator's blocks ∂y/∂z.
    #[must_use]
    pub fn needs_blocks(&self) -> bool {
        self.solver().is_some() || matches!(self, Self::Sip { .. })
    }
}

/// How training goes through the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

/// What is done about a numerical fault: a step that ends with an error, or a loss above [`TrainingSettings::blow_up`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// The loss of a run that has learnt something can rise a hundredfold on a hard mini-batch, hardly a thousandfold.
fn default_blow_up() -> f64 {
    1e3
}

/// What a run may lose.
fn default_checkpoint_every() -> f64 {
    5.0
}

/// How the learning rate goes along, from the start of a run to its last step or epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// It stays.
    #[default]
    Constant,
    /// ½(1 + cos πt), t from 0 to 1 (Loshchilov, Hutter, ICLR 2017).
    Cosine,
}

/// When training ends: whichever comes first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopSettings {
    /// After so many steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// After so many passes through the training data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// After so many seconds of training, evaluation excluded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<f64>,
    /// When an evaluation finds a test loss at or below this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_loss: Option<f64>,
}

impl Settings {
    /// Tells apart settings that make different steps, or evaluate elsewhere: a CRC-32 of all but `training.from`,
    /// `checkpoint_every`, `on_fault` and `blow_up`, and the ends of a run. Of these it has all where a schedule leads to them, and
    /// with hig-auto whether they are [counted](Self::counts_steps).
    ///
    /// # Panics
    /// Never: settings are plain values.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut settings = self.clone();
        let training = &mut settings.training;
        if training.schedule == Schedule::Constant {
            let counted = self.has_auto() && self.counts_steps();
            settings.stop = StopSettings { steps: counted.then_some(1), ..StopSettings::default() };
        }
        (training.from, training.checkpoint_every) = (None, 0.0);
        (training.on_fault, training.blow_up) = (OnFault::Stop, 0.0);
        let text = serde_json::to_vec(&settings).expect("settings are plain values");
        u64::from(crc32fast::hash(&text))
    }

    /// Whether a run ends after steps or epochs and not by time, which decides how hig-auto chooses.
    #[must_use]
    pub fn counts_steps(&self) -> bool {
        (self.stop.steps.is_some() || self.stop.epochs.is_some()) && self.stop.time.is_none()
    }

    /// Whether hig-auto is among the optimizers.
    #[must_use]
    pub fn has_auto(&self) -> bool {
        (0..=self.before.len()).any(|i| matches!(self.turn(i).1, OptimizerSettings::HigAuto {}))
    }

    /// Whether the test data are evaluated after so many steps: every `training.evaluate_every` of them, and with
    /// `training.evaluate_early` before the first of these at 1, 2, 3, 4, 6, 8, 12, …, since that is when the loss falls fastest.
    #[must_use]
    pub fn evaluates_at(&self, step: u64) -> bool {
        let every = self.training.evaluate_every.max(1) as u64;
        let octaves = step.is_power_of_two() || step.is_multiple_of(3) && (step / 3).is_power_of_two();
        step.is_multiple_of(every) || self.training.evaluate_early && step < every && octaves
    }

    /// Steps between evaluations so that these cost less than 5 % of the time, from counts of operations alone:
    /// a run's rows must not depend on the clock.
    ///
    /// A step is worth so many forward passes over its batch; the factors were measured on the oscillators.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts")]
    pub(super) fn cadence(&self, outcomes: usize, parameters: usize) -> usize {
        let passes = match self.optimizer.solver() {
            None if self.optimizer.name() == OptimizerName::HigKron => 4.0,
            None if self.optimizer.name() == OptimizerName::HigAuto => 9.0,
            None => 2.0,
            Some(Solver::Krylov { vectors }) => 10.0 + vectors as f64,
            Some(_) => {
                let size = outcomes.min(parameters) as f64;
                10.0 + size.powi(3) / (self.training.batch as f64 * parameters as f64)
            }
        };
        let step = passes * self.training.batch as f64;
        (25.0 * self.data.test as f64 / step).ceil().max(1.0) as usize
    }
}
