//! A loss on more samples than a mini-batch, a fixed number at a time.

use std::sync::Arc;

use super::{BatchProblem, Samples, Source};
use crate::error::ShapeError;
use crate::fault::StepError;
use crate::simulator::SimulatorError;

/// Evaluates a problem on many samples.
pub struct Evaluator {
    samples: Arc<Samples>,
    problem: Box<dyn BatchProblem>,
    indices: Vec<usize>,
}

/// Samples per evaluation pass: their activations fit into the second-level cache.
pub(crate) const AT_A_TIME: usize = 256;

impl Evaluator {
    /// An evaluator for all of `samples`.
    ///
    /// # Errors
    /// When the samples do not fit the source, or there is none.
    pub fn new(
        source: &dyn Source,
        samples: impl Into<Arc<Samples>>,
        threads: usize,
    ) -> Result<Self, ShapeError> {
        let samples = samples.into();
        let size = AT_A_TIME.min(samples.len());
        Ok(Self { problem: source.problem(samples.first(size), threads)?, samples, indices: Vec::new() })
    }

    /// Mean loss per sample at θ; where samples have weights Σ wₛLₛ over their number.
    ///
    /// # Errors
    /// When the outcomes cannot be computed.
    pub fn loss(&mut self, theta: &[f64]) -> Result<f64, StepError> {
        let total = self.samples.len();
        let mut sum = 0.0;
        for start in (0..total).step_by(AT_A_TIME) {
            self.indices.clear();
            self.indices.extend(start..total.min(start + AT_A_TIME));
            self.problem.take(&self.samples, &self.indices)?;
            let loss = self.problem.loss(theta).map_err(|error| match error {
                StepError::Simulator(SimulatorError { sample: Some(sample), reason }) => {
                    SimulatorError { sample: Some(start + sample), reason }.into()
                }
                error => error,
            })?;
            sum += loss / self.problem.weight() * self.indices.len() as f64;
        }
        Ok(sum / total as f64)
    }
}
