//! Adam: the gradient over a running estimate of its size, component by component.
//!
//! m ← β₁m + (1−β₁)∇,  v ← β₂v + (1−β₂)∇²,  θ ← θ − η·m̂/(√v̂ + ε),  with m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ)
//!
//! One sweep forward and one back; memory 2P. β₁ = 0.9 and β₂ = 0.999 are the source's, ε = 1e-7 TensorFlow's, which the
//! paper's code uses.
//!
//! Source: Kingma, Ba, *Adam: A Method for Stochastic Optimization*, ICLR 2015.

use super::first_order::{check_fraction, check_positive};
use super::{Memory, Rule, check_learning_rate};
use crate::columns::vectorized;
use crate::error::SettingError;

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
}

impl Adam {
    /// With learning rate η, decay rates β₁ and β₂, and ε.
    ///
    /// # Errors
    /// When η or ε is not positive and finite, or a decay rate is outside \[0, 1).
    pub fn new(learning_rate: f64, beta1: f64, beta2: f64, epsilon: f64) -> Result<Self, SettingError> {
        check_learning_rate(learning_rate)?;
        check_fraction("optimizer.beta1", beta1)?;
        check_fraction("optimizer.beta2", beta2)?;
        check_positive("optimizer.epsilon", epsilon)?;
        Ok(Self { learning_rate, beta1, beta2, epsilon, steps: 0, first: Vec::new(), second: Vec::new() })
    }
}

impl Rule for Adam {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn direct(&mut self, _: &[f64], gradient: &mut [f64]) {
        for moment in [&mut self.first, &mut self.second] {
            moment.resize(gradient.len(), 0.0);
        }
        self.steps += 1;
        let exponent = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let (correct1, correct2) = (1.0 - self.beta1.powi(exponent), 1.0 - self.beta2.powi(exponent));
        let (beta1, beta2, epsilon) = (self.beta1, self.beta2, self.epsilon);
        let inverse2 = 1.0 / correct2;
        vectorized(
            #[inline(always)]
            || {
                for ((m, v), g) in self.first.iter_mut().zip(&mut self.second).zip(gradient) {
                    *m = beta1 * *m + (1.0 - beta1) * *g;
                    *v = beta2 * *v + (1.0 - beta2) * *g * *g;
                    *g = *m / (correct1 * ((*v * inverse2).sqrt() + epsilon));
                }
            },
        );
    }

    fn visit(&mut self, memory: &mut Memory) {
        memory.small_count("steps", &mut self.steps);
        memory.parameters("first", &mut self.first);
        memory.parameters("second", &mut self.second);
    }
}
