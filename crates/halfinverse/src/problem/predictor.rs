//! Trained weights on new inputs.

use faer::{Mat, MatRef};

use super::{AT_A_TIME, Model};
use crate::error::ShapeError;
use crate::fault::StepError;
use crate::linear::threads::{par, worth_threads};
use crate::network::Pass;
use crate::simulator::Batched;

/// A trained network, and the simulator that it controls, on inputs without targets.
///
/// # Example
/// Weights of a file, as a run's checkpoint or PyTorch names them, in float64 or float32:
/// ```no_run
/// use halfinverse::task::{Registry, Task};
/// use halfinverse::{Predictor, training};
/// let task = Task::new(Registry::standard().settings("oscillators", "hig")?)?;
/// let model = task.model();
/// let theta = training::read_parameters(&model.network().tensors(), "weights.safetensors".as_ref())?;
/// let samples = task.test().first(5);
/// let control = Predictor::new(model, theta, 1)?.control(samples.input.as_ref())?;
/// assert_eq!((control.nrows(), control.ncols()), (5, 96));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Predictor {
    model: Model,
    theta: Vec<f64>,
    threads: usize,
}

impl Predictor {
    /// The model with parameters θ, evaluated on `threads` threads of the current rayon pool.
    ///
    /// # Errors
    /// When θ does not fit the network.
    pub fn new(model: &Model, theta: Vec<f64>, threads: usize) -> Result<Self, ShapeError> {
        ShapeError::check("θ", "parameters", model.network().parameters(), theta.len())?;
        Ok(Self { model: model.clone(), theta, threads })
    }

    /// z (b × q) of inputs (b × [`Network::inputs`](crate::network::Network::inputs)), for any b.
    ///
    /// # Errors
    /// When the inputs do not fit the network.
    pub fn control(&self, input: MatRef<'_, f64>) -> Result<Mat<f64>, ShapeError> {
        let network = self.model.network();
        ShapeError::check("the inputs", "columns", network.inputs(), input.ncols())?;
        let mut control = Mat::zeros(input.nrows(), network.outputs());
        for start in (0..input.nrows()).step_by(AT_A_TIME) {
            let count = AT_A_TIME.min(input.nrows() - start);
            let mut pass = Pass::new(network, count);
            pass.inputs[0].copy_from(input.subrows(start, count));
            pass.forward(
                network,
                &self.theta,
                worth_threads(par(self.threads), count * network.parameters()),
            );
            control.as_mut().subrows_mut(start, count).copy_from(&pass.output);
        }
        Ok(control)
    }

    /// y (b × m) of inputs and initial states (b × [`Simulator::initials`](crate::simulator::Simulator::initials)), for
    /// any b.
    ///
    /// # Errors
    /// When they do not fit network and simulator, or the simulator fails.
    pub fn outcome(&self, input: MatRef<'_, f64>, initial: MatRef<'_, f64>) -> Result<Mat<f64>, StepError> {
        let simulator = self.model.simulator();
        ShapeError::check("the initial states", "columns", simulator.initials(), initial.ncols())?;
        ShapeError::check("the initial states", "samples", input.nrows(), initial.nrows())?;
        let control = self.control(input)?;
        let mut outcome = Mat::zeros(input.nrows(), simulator.outcomes());
        if input.nrows() > 0 {
            let mut batched = Batched::new(self.threads);
            batched.simulate(simulator, initial, control.as_ref(), outcome.as_mut(), false)?;
        }
        Ok(outcome)
    }
}
