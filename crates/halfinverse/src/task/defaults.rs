//! The settings that each task comes with, per optimizer: those of the paper's published code where it has them.

use super::settings::{
    DataSettings, NetworkSettings, OptimizerName, OptimizerSettings, Settings, SimulatorSettings,
    StopSettings, TaskName, TrainingSettings,
};
use crate::network::{Activation, Init};
use crate::simulator::OscillatorsSettings;
use crate::spectral::{Options, Solver};

impl Settings {
    /// The defaults of a task with an optimizer.
    #[must_use]
    pub fn new(task: TaskName, optimizer: OptimizerName) -> Self {
        match task {
            TaskName::Oscillators => oscillators(optimizer),
        }
    }
}

fn oscillators(optimizer: OptimizerName) -> Settings {
    let gram_tolerance = Options::default().gram_tolerance;
    let (optimizer, batch) = match optimizer {
        OptimizerName::Hig => {
            let solver = Solver::Auto;
            (
                OptimizerSettings::Hig {
                    learning_rate: 1.0,
                    kappa: 0.5,
                    truncation: 1e-6,
                    solver,
                    gram_tolerance,
                },
                128,
            )
        }
        OptimizerName::Gn => {
            let solver = Solver::Auto;
            (OptimizerSettings::Gn { learning_rate: 1.0, truncation: 1e-6, solver, gram_tolerance }, 128)
        }
        OptimizerName::Adam => {
            (OptimizerSettings::Adam { learning_rate: 3e-4, beta1: 0.9, beta2: 0.999, epsilon: 1e-7 }, 512)
        }
        OptimizerName::Sgd => (OptimizerSettings::Sgd { learning_rate: 0.01 }, 512),
    };
    Settings {
        task: TaskName::Oscillators,
        simulator: SimulatorSettings::Oscillators(OscillatorsSettings::default()),
        network: NetworkSettings {
            hidden: vec![20, 20, 20],
            activation: Activation::Relu,
            init: Init::GlorotUniform,
        },
        data: DataSettings { train: 4096, test: 4096, seed: 0 },
        optimizer,
        training: TrainingSettings {
            batch,
            shuffle: false,
            seed: 1,
            threads: 0,
            evaluate_every: 0,
            from: None,
        },
        stop: StopSettings { time: Some(20.0), ..StopSettings::default() },
    }
}
