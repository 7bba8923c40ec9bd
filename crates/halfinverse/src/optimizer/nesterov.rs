//! Nesterov's momentum: m ← μm + ∇,  θ ← θ − η·(∇ + μm), the gradient looked up where the momentum leads.
//!
//! Memory P.
//!
//! Source: Nesterov, *A method of solving a convex programming problem with convergence rate O(1/k²)*, 1983; in this
//! form Sutskever, Martens, Dahl, Hinton, ICML 2013.

use super::{Memory, Momentum, Rule};

/// Gradient descent with Nesterov's momentum.
#[derive(Debug, Clone)]
pub struct Nesterov {
    ball: Momentum,
}

impl Nesterov {
    /// With the heavy ball's learning rate and momentum.
    #[must_use]
    pub fn new(ball: Momentum) -> Self {
        Self { ball }
    }
}

impl Rule for Nesterov {
    fn learning_rate(&self) -> f64 {
        self.ball.learning_rate()
    }

    fn direct(&mut self, _: &[f64], gradient: &mut [f64]) {
        self.ball.accumulate(gradient);
        let (mu, velocity) = self.ball.motion();
        for (g, m) in gradient.iter_mut().zip(velocity) {
            *g += mu * m;
        }
    }

    fn visit(&mut self, memory: &mut Memory) {
        self.ball.visit(memory);
    }
}
