//! Adam: the gradient over a running estimate of its size, component by component.
//!
//! m ← β₁m + (1−β₁)∇,  v ← β₂v + (1−β₂)∇²,  θ ← θ − η·m̂/(√v̂ + ε),  with m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ)
//!
//! One sweep forward and one back; memory 2P.
//!
//! Source: Kingma, Ba, ICLR 2015.

use super::{Optimizer, StepReport, check_learning_rate, descend};
use crate::columns::vectorized;
use crate::error::{SettingError, StepError};
use crate::model::Problem;

/// Adam with its moments.
#[derive(Debug, Clone)]
pub struct Adam {
    learning_rate: f64,
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    steps: u32,
    first: Vec<f64>,
    second: Vec<f64>,
    gradient: Vec<f64>,
}

impl Adam {
    /// With learning rate η, decay rates β₁ and β₂, and ε.
    ///
    /// # Errors
    /// When η or ε is not positive and finite, or a decay rate is outside \[0, 1).
    pub fn new(learning_rate: f64, beta1: f64, beta2: f64, epsilon: f64) -> Result<Self, SettingError> {
        check_learning_rate(learning_rate)?;
        for (key, beta) in [("optimizer.beta1", beta1), ("optimizer.beta2", beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(SettingError::new(key, beta, "at least 0 and below 1"));
            }
        }
        if !(epsilon > 0.0 && epsilon.is_finite()) {
            return Err(SettingError::new("optimizer.epsilon", epsilon, "positive and finite"));
        }
        Ok(Self {
            learning_rate,
            beta1,
            beta2,
            epsilon,
            steps: 0,
            first: Vec::new(),
            second: Vec::new(),
            gradient: Vec::new(),
        })
    }
}

impl Optimizer for Adam {
    fn step(&mut self, problem: &mut Problem, theta: &mut [f64]) -> Result<StepReport, StepError> {
        for vector in [&mut self.first, &mut self.second, &mut self.gradient] {
            vector.resize(theta.len(), 0.0);
        }
        let loss = problem.gradient(theta, &mut self.gradient)?;
        self.steps += 1;
        let exponent = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let (correct1, correct2) = (1.0 - self.beta1.powi(exponent), 1.0 - self.beta2.powi(exponent));
        let (beta1, beta2, epsilon) = (self.beta1, self.beta2, self.epsilon);
        vectorized(
            #[inline(always)]
            || {
                for ((m, v), g) in self.first.iter_mut().zip(&mut self.second).zip(&mut self.gradient) {
                    *m = beta1 * *m + (1.0 - beta1) * *g;
                    *v = beta2 * *v + (1.0 - beta2) * *g * *g;
                    *g = *m / correct1 / ((*v / correct2).sqrt() + epsilon);
                }
            },
        );
        let update_norm = descend(theta, &self.gradient, self.learning_rate)?;
        Ok(StepReport { loss, update_norm, learning_rate: self.learning_rate, kappa: None, spectral: None })
    }

    fn state(&self) -> Vec<(&'static str, Vec<f64>)> {
        vec![
            ("steps", vec![f64::from(self.steps)]),
            ("first", self.first.clone()),
            ("second", self.second.clone()),
        ]
    }
}
