//! The settings that each task comes with, per optimizer: those of the paper's published code where it has them.
//!
//! The learning rates of sgd, momentum and rmsprop are the best of a coarse grid by validation loss after three or four
//! seconds (`hig compare TASK --optimizers sgd,momentum,rmsprop --lr-grid x0.1,x0.3,x1,x3,x10`), the remaining ones the customary.

use super::settings::{
    DataSettings, NetworkSettings, ObjectiveSettings, OnFault, OptimizerName, OptimizerSettings,
    RegressionSettings, Schedule, Settings, SimulatorSettings, StopSettings, TaskName, ToySettings,
    TrainingSettings,
};
use crate::network::{Activation, Init};
use crate::objective::Reduction;
use crate::optimizer::Kron;
use crate::simulator::{DipoleSettings, OscillatorsSettings, PoissonSettings};
use crate::spectral::{Options, Solver};

/// What differs from task to task among the optimizers: learning rates, truncation, mini-batches.
struct Rates {
    hig: f64,
    gn: f64,
    lm: f64,
    truncation: f64,
    spectral_batch: usize,
    sip: f64,
    adam: f64,
    sgd: f64,
    momentum: f64,
    rmsprop: f64,
    adagrad: f64,
    adadelta: f64,
    first_order_batch: usize,
}

impl Settings {
    /// The defaults of a task with an optimizer.
    #[must_use]
    pub fn new(task: TaskName, optimizer: OptimizerName) -> Self {
        match task {
            TaskName::Oscillators => oscillators(optimizer),
            TaskName::Dipole => dipole(optimizer),
            TaskName::Poisson => poisson(optimizer),
            TaskName::Toy => toy(optimizer),
            TaskName::Regression => regression(optimizer),
        }
    }
}

fn oscillators(optimizer: OptimizerName) -> Settings {
    let rates = Rates {
        hig: 1.0,
        gn: 1.0,
        lm: 1.0,
        truncation: 1e-6,
        spectral_batch: 128,
        sip: 3e-4,
        adam: 3e-4,
        sgd: 0.01,
        momentum: 0.03,
        rmsprop: 1e-4,
        adagrad: 0.01,
        adadelta: 0.1,
        first_order_batch: 512,
    };
    let (optimizer, batch) = rates.of(optimizer);
    Settings {
        task: TaskName::Oscillators,
        simulator: SimulatorSettings::Oscillators(OscillatorsSettings::default()),
        network: network(&[20, 20, 20], Activation::Relu),
        objective: ObjectiveSettings { reduction: Reduction::Mean },
        data: DataSettings { train: 4096, test: 4096, seed: 0, fresh: false },
        optimizer,
        training: training(batch),
        stop: StopSettings { time: Some(20.0), ..StopSettings::default() },
        before: Vec::new(),
    }
}

fn dipole(optimizer: OptimizerName) -> Settings {
    let rates = Rates {
        hig: 0.5,
        gn: 0.5,
        lm: 1.0,
        truncation: 1e-5,
        spectral_batch: 16,
        sip: 1e-3,
        adam: 5e-4,
        sgd: 1.0,
        momentum: 0.1,
        rmsprop: 5e-3,
        adagrad: 0.01,
        adadelta: 0.1,
        first_order_batch: 256,
    };
    let (optimizer, batch) = rates.of(optimizer);
    Settings {
        task: TaskName::Dipole,
        simulator: SimulatorSettings::Dipole(DipoleSettings::default()),
        network: network(&[20, 20, 20], Activation::Tanh),
        objective: ObjectiveSettings { reduction: Reduction::Mean },
        data: DataSettings { train: 1024, test: 1024, seed: 0, fresh: false },
        optimizer,
        training: training(batch),
        stop: StopSettings { time: Some(20.0), ..StopSettings::default() },
        before: Vec::new(),
    }
}

fn poisson(optimizer: OptimizerName) -> Settings {
    let rates = Rates {
        hig: 0.01,
        gn: 0.01,
        lm: 1.0,
        truncation: 1e-5,
        spectral_batch: 64,
        sip: 3e-4,
        adam: 3e-4,
        sgd: 3e-5,
        momentum: 3e-6,
        rmsprop: 3e-4,
        adagrad: 0.01,
        adadelta: 1.0,
        // A mini-batch of 128 carries the cost of Kronecker factors better.
        first_order_batch: if matches!(optimizer, OptimizerName::HigKron | OptimizerName::HigAuto) {
            128
        } else {
            64
        },
    };
    let (optimizer, batch) = rates.of(optimizer);
    Settings {
        task: TaskName::Poisson,
        simulator: SimulatorSettings::Poisson(PoissonSettings::default()),
        network: network(&[64, 128, 64], Activation::Tanh),
        objective: ObjectiveSettings { reduction: Reduction::Sum },
        data: DataSettings { train: 4096, test: 256, seed: 0, fresh: true },
        optimizer,
        training: training(batch),
        stop: StopSettings { time: Some(20.0), ..StopSettings::default() },
        before: Vec::new(),
    }
}

/// Gauss–Newton takes all samples at once and sums their losses, which is what makes its full step.
fn toy(optimizer: OptimizerName) -> Settings {
    let full = optimizer == OptimizerName::Gn;
    let rates = Rates {
        hig: 1.0,
        gn: 1.0,
        lm: 1.0,
        truncation: if full { 1e-6 } else { 1e-5 },
        spectral_batch: if full { 256 } else { 32 },
        sip: 0.01,
        adam: 0.01,
        sgd: 0.1,
        momentum: 0.03,
        rmsprop: 0.01,
        adagrad: 0.1,
        adadelta: 1.0,
        // Half of what is not held out: nearly all that is known, and still some noise to leave a bad valley by.
        first_order_batch: if optimizer == OptimizerName::HigAuto { 112 } else { 32 },
    };
    let epochs = match optimizer {
        OptimizerName::Hig => 150,
        OptimizerName::Gn => 200,
        _ => 1000,
    };
    let (optimizer, batch) = rates.of(optimizer);
    Settings {
        task: TaskName::Toy,
        simulator: SimulatorSettings::Toy(ToySettings { lambda: 0.01 }),
        network: network(&[7], Activation::Tanh),
        objective: ObjectiveSettings { reduction: if full { Reduction::Sum } else { Reduction::Mean } },
        data: DataSettings { train: 256, test: 256, seed: 0, fresh: false },
        optimizer,
        training: training(batch),
        stop: StopSettings { epochs: Some(epochs), ..StopSettings::default() },
        before: Vec::new(),
    }
}

fn regression(optimizer: OptimizerName) -> Settings {
    let rates = Rates {
        hig: 1.0,
        gn: 1.0,
        lm: 1.0,
        truncation: 1e-6,
        spectral_batch: 32,
        sip: 1e-3,
        adam: 1e-3,
        sgd: 0.1,
        momentum: 0.03,
        rmsprop: 1e-3,
        adagrad: 0.03,
        adadelta: 1.0,
        first_order_batch: 32,
    };
    let (optimizer, batch) = rates.of(optimizer);
    Settings {
        task: TaskName::Regression,
        simulator: SimulatorSettings::Regression(RegressionSettings {}),
        network: NetworkSettings {
            hidden: vec![16; 3],
            activation: Activation::Gelu,
            init: Init::FanInUniform,
        },
        objective: ObjectiveSettings { reduction: Reduction::Mean },
        data: DataSettings { train: 10_000, test: 10_000, seed: 0, fresh: false },
        optimizer,
        training: TrainingSettings { shuffle: true, ..training(batch) },
        stop: StopSettings { epochs: Some(20), ..StopSettings::default() },
        before: Vec::new(),
    }
}

impl Rates {
    fn of(&self, optimizer: OptimizerName) -> (OptimizerSettings, usize) {
        let (truncation, solver) = (self.truncation, Solver::Auto);
        let gram_tolerance = Options::default().gram_tolerance;
        let (beta1, beta2, epsilon) = (0.9, 0.999, 1e-7);
        let momentum = 0.9;
        let settings = match optimizer {
            OptimizerName::Hig => OptimizerSettings::Hig {
                learning_rate: self.hig,
                kappa: 0.5,
                truncation,
                solver,
                gram_tolerance,
            },
            OptimizerName::HigAuto => OptimizerSettings::HigAuto {},
            OptimizerName::HigKron => {
                let (learning_rate, kappa, damping) = Kron::DEFAULTS;
                OptimizerSettings::HigKron { learning_rate, kappa, damping }
            }
            OptimizerName::Gn => {
                OptimizerSettings::Gn { learning_rate: self.gn, truncation, solver, gram_tolerance }
            }
            OptimizerName::Lm => {
                OptimizerSettings::Lm { learning_rate: self.lm, damping: 1e-3, solver, gram_tolerance }
            }
            OptimizerName::LBfgs => OptimizerSettings::LBfgs { learning_rate: 1.0, history: 10 },
            OptimizerName::Sip => OptimizerSettings::Sip {
                learning_rate: self.sip,
                control_rate: 1.0,
                truncation,
                beta1,
                beta2,
                epsilon,
            },
            OptimizerName::Adam => {
                OptimizerSettings::Adam { learning_rate: self.adam, beta1, beta2, epsilon }
            }
            OptimizerName::Adamw => OptimizerSettings::Adamw {
                learning_rate: self.adam,
                weight_decay: 1e-4,
                beta1,
                beta2,
                epsilon,
            },
            OptimizerName::Sgd => OptimizerSettings::Sgd { learning_rate: self.sgd },
            OptimizerName::Momentum => OptimizerSettings::Momentum { learning_rate: self.momentum, momentum },
            OptimizerName::Nesterov => OptimizerSettings::Nesterov { learning_rate: self.momentum, momentum },
            OptimizerName::Rmsprop => {
                OptimizerSettings::Rmsprop { learning_rate: self.rmsprop, decay: 0.9, epsilon: 1e-8 }
            }
            OptimizerName::Adagrad => OptimizerSettings::Adagrad {
                learning_rate: self.adagrad,
                initial_accumulator: 0.1,
                epsilon: 1e-7,
            },
            OptimizerName::Adadelta => {
                OptimizerSettings::Adadelta { learning_rate: self.adadelta, decay: 0.9, epsilon: 1e-6 }
            }
        };
        let batch = if settings.solver().is_some() { self.spectral_batch } else { self.first_order_batch };
        (settings, batch)
    }
}

fn network(hidden: &[usize], activation: Activation) -> NetworkSettings {
    NetworkSettings { hidden: hidden.to_vec(), activation, init: Init::GlorotUniform }
}

fn training(batch: usize) -> TrainingSettings {
    TrainingSettings {
        batch,
        shuffle: false,
        seed: 1,
        threads: 0,
        schedule: Schedule::Constant,
        on_fault: OnFault::Stop,
        blow_up: 1e3,
        checkpoint_every: 5.0,
        evaluate_every: 0,
        evaluate_early: false,
        from: None,
    }
}
