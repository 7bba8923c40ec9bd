//! The samples that steps are judged by and not trained on.

use crate::error::ShapeError;
use crate::fault::StepError;
use crate::problem::{BatchProblem, Samples, Source};

/// Says how good a θ is: its loss on samples that are not trained on.
pub(super) struct Judge {
    problem: Box<dyn BatchProblem>,
    pub(super) samples: Samples,
}

impl Judge {
    pub(super) fn new(source: &dyn Source, samples: &Samples, threads: usize) -> Result<Self, ShapeError> {
        Ok(Self { problem: source.problem(samples.clone(), threads)?, samples: samples.clone() })
    }

    /// The held-out loss; infinite where it is NaN or cannot be computed.
    pub(super) fn loss(&mut self, theta: &[f64]) -> f64 {
        let loss = self.problem.loss(theta).unwrap_or(f64::INFINITY);
        if loss.is_nan() { f64::INFINITY } else { loss }
    }

    /// Why there is no finite loss at θ: the first sample that has none.
    pub(super) fn blame(&mut self, theta: &[f64]) -> StepError {
        let count = self.samples.len();
        let alone = |problem: &mut dyn BatchProblem, samples: &Samples, sample: usize| {
            problem.take(samples, &[sample])?;
            problem.gradient(theta, &mut vec![0.0; theta.len()])
        };
        let found = (0..count).find_map(|sample| {
            alone(&mut *self.problem, &self.samples, sample).err().map(|error| (sample, error))
        });
        let all: Vec<usize> = (0..count).collect();
        if let Err(error) = self.problem.take(&self.samples, &all) {
            return error.into();
        }
        match found {
            Some((sample, error)) => {
                StepError::HeldOut { sample, count, error: Box::new(error.of_sample(sample)) }
            }
            None => StepError::LossNotFinite { loss: f64::INFINITY, culprit: None },
        }
    }
}
