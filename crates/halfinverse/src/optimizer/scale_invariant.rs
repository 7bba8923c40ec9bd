//! Scale-invariant physics: a Gauss–Newton step in control space per sample, which the network then fits with Adam.
//!
//! With B = ∂y/∂z of a sample and h the [curvature](crate::objective::Objective::curvature) of the loss, the sample's control
//! should become z* = z − ζ·B⁺g/h. The network's loss is the mean of ½|z − z*|² over the mini-batch; its gradient at z is
//! ∂θ = J_networkᵀ (ζ·B⁺g/h)/b, and Adam makes the step of it. The simulator's scaling is gone from it, the network's is not.
//!
//! Costs one simulation with its blocks, one pseudo-inverse of m × q per sample, one sweep through the network.
//!
//! Source: Holl, Koltun, Thuerey, *Scale-invariant Learning by Physics Inversion*, NeurIPS 2022.

use faer::{Mat, Par};

use super::{Adam, Memory, Optimizer, Rule, StepReport, descend};
use crate::error::{SettingError, StepError};
use crate::jacobian::DenseJacobian;
use crate::model::Problem;
use crate::spectral::{Filter, Options, Solver, update};

/// The per-sample physics step with the Adam that fits it.
#[derive(Debug, Clone)]
pub struct ScaleInvariant {
    adam: Adam,
    control_rate: f64,
    filter: Filter,
    gradient: Vec<f64>,
}

impl ScaleInvariant {
    /// With the network's Adam, the control step ζ, and the truncation τ of the pseudo-inverse.
    ///
    /// # Errors
    /// When ζ is not positive and finite, or τ outside \[0, 1).
    pub fn new(adam: Adam, control_rate: f64, truncation: f64) -> Result<Self, SettingError> {
        super::first_order::check_positive("optimizer.control_rate", control_rate)?;
        Ok(Self { adam, control_rate, filter: Filter::power(1.0, truncation)?, gradient: Vec::new() })
    }
}

impl Optimizer for ScaleInvariant {
    fn step(&mut self, problem: &mut Problem, theta: &mut [f64]) -> Result<StepReport, StepError> {
        self.gradient.resize(theta.len(), 0.0);
        let (h, b) = (problem.curvature(), problem.samples().len());
        let (m, q) = (problem.model().simulator().outcomes(), problem.model().network().outputs());
        let mut at = problem.linearize(theta)?;
        let mut wanted = Mat::zeros(b, q);
        let mut step = vec![0.0; q];
        let options = Options { solver: Solver::Svd, par: Par::Seq, ..Options::default() };
        for s in 0..b {
            let mut block = DenseJacobian::new(at.jacobian.block(s));
            let g: Vec<f64> = at.outcome_gradient[s * m..][..m].iter().map(|g| g / h).collect();
            update(&mut block, &g, &self.filter, &options, &mut step)?;
            for (j, step) in step.iter().enumerate() {
                wanted[(s, j)] = self.control_rate * step / b as f64;
            }
        }
        let loss = at.loss;
        at.jacobian.network_transpose(wanted.as_ref(), &mut self.gradient);
        super::first_order::check_gradient(&self.gradient)?;
        self.adam.direct(theta, &mut self.gradient);
        let learning_rate = self.adam.learning_rate();
        let update_norm = descend(theta, &self.gradient, learning_rate)?;
        Ok(StepReport { loss, update_norm, learning_rate, ..StepReport::default() })
    }

    fn visit(&mut self, _: &Problem, memory: &mut Memory) {
        self.adam.visit(memory);
    }
}
