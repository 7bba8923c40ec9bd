//! The settings that each task comes with, per optimizer: those of the paper's published code where it has them.

use super::settings::{
    DataSettings, NetworkSettings, OptimizerName, OptimizerSettings, Settings, SimulatorSettings,
    StopSettings, TaskName, TrainingSettings,
};
use crate::network::{Activation, Init};
use crate::simulator::{DipoleSettings, OscillatorsSettings, PoissonSettings};
use crate::spectral::{Options, Solver};

/// What differs from task to task among the optimizers: learning rate and batch.
struct Rates {
    hig: f64,
    gn: f64,
    truncation: f64,
    spectral_batch: usize,
    adam: f64,
    sgd: f64,
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
        }
    }
}

fn oscillators(optimizer: OptimizerName) -> Settings {
    let rates = Rates {
        hig: 1.0,
        gn: 1.0,
        truncation: 1e-6,
        spectral_batch: 128,
        adam: 3e-4,
        sgd: 0.01,
        first_order_batch: 512,
    };
    let (optimizer, batch) = rates.of(optimizer);
    Settings {
        task: TaskName::Oscillators,
        simulator: SimulatorSettings::Oscillators(OscillatorsSettings::default()),
        network: network(&[20, 20, 20], Activation::Relu),
        data: DataSettings { train: 4096, test: 4096, seed: 0, fresh: false },
        optimizer,
        training: training(batch),
        stop: StopSettings { time: Some(20.0), ..StopSettings::default() },
    }
}

fn dipole(optimizer: OptimizerName) -> Settings {
    let rates = Rates {
        hig: 0.5,
        gn: 0.5,
        truncation: 1e-5,
        spectral_batch: 16,
        adam: 5e-4,
        sgd: 0.01,
        first_order_batch: 256,
    };
    let (optimizer, batch) = rates.of(optimizer);
    Settings {
        task: TaskName::Dipole,
        simulator: SimulatorSettings::Dipole(DipoleSettings::default()),
        network: network(&[20, 20, 20], Activation::Tanh),
        data: DataSettings { train: 1024, test: 1024, seed: 0, fresh: false },
        optimizer,
        training: training(batch),
        stop: StopSettings { time: Some(20.0), ..StopSettings::default() },
    }
}

fn poisson(optimizer: OptimizerName) -> Settings {
    let rates = Rates {
        hig: 0.01,
        gn: 0.01,
        truncation: 1e-5,
        spectral_batch: 64,
        adam: 3e-4,
        sgd: 1e-6,
        first_order_batch: 64,
    };
    let (optimizer, batch) = rates.of(optimizer);
    Settings {
        task: TaskName::Poisson,
        simulator: SimulatorSettings::Poisson(PoissonSettings::default()),
        network: network(&[64, 128, 64], Activation::Tanh),
        data: DataSettings { train: 4096, test: 256, seed: 0, fresh: true },
        optimizer,
        training: training(batch),
        stop: StopSettings { time: Some(20.0), ..StopSettings::default() },
    }
}

impl Rates {
    fn of(&self, optimizer: OptimizerName) -> (OptimizerSettings, usize) {
        let (truncation, solver) = (self.truncation, Solver::Auto);
        let gram_tolerance = Options::default().gram_tolerance;
        match optimizer {
            OptimizerName::Hig => {
                let (learning_rate, kappa) = (self.hig, 0.5);
                let hig = OptimizerSettings::Hig { learning_rate, kappa, truncation, solver, gram_tolerance };
                (hig, self.spectral_batch)
            }
            OptimizerName::Gn => {
                let learning_rate = self.gn;
                let gn = OptimizerSettings::Gn { learning_rate, truncation, solver, gram_tolerance };
                (gn, self.spectral_batch)
            }
            OptimizerName::Adam => {
                let learning_rate = self.adam;
                let adam = OptimizerSettings::Adam { learning_rate, beta1: 0.9, beta2: 0.999, epsilon: 1e-7 };
                (adam, self.first_order_batch)
            }
            OptimizerName::Sgd => {
                (OptimizerSettings::Sgd { learning_rate: self.sgd }, self.first_order_batch)
            }
        }
    }
}

fn network(hidden: &[usize], activation: Activation) -> NetworkSettings {
    NetworkSettings { hidden: hidden.to_vec(), activation, init: Init::GlorotUniform }
}

fn training(batch: usize) -> TrainingSettings {
    TrainingSettings { batch, shuffle: false, seed: 1, threads: 0, evaluate_every: 0, from: None }
}
