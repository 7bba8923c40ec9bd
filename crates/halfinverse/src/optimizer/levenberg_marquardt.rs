//! Levenberg–Marquardt on mini-batches, with a damping that follows what its steps achieve.
//!
//! Δ = η·V φ(Σ) Uᵀ g/h with φ(σ) = σ/(σ² + λ), h the [curvature](crate::objective::Objective::curvature) of the
//! loss: the minimizer of the model L − gᵀJΔ + ½h(|JΔ|² + λ|Δ|²). A step is kept if the mini-batch's loss falls. With ρ the
//! fall over the fall that the model foretold,
//!
//! kept: λ ← λ·max(1/3, 1 − (2ρ−1)³), ν ← 2;   not kept: θ as it was, λ ← νλ, ν ← 2ν.
//!
//! λ starts at `damping` times gᵀJJᵀJJᵀg/|Jᵀg|², an estimate of σ_max². Costs one spectral step, one product with J and
//! one simulation.
//!
//! Source: Levenberg, 1944; Marquardt, 1963; the rule for λ: Nielsen, *Damping Parameter in Marquardt's Method*,
//! IMM-REP-1999-05, with his 1e-3 for `damping`.

use super::{Memory, Optimizer, StepReport, check_learning_rate, descend};
use crate::columns::norm;
use crate::error::{SettingError, StepError};
use crate::jacobian::Jacobian;
use crate::model::Problem;
use crate::spectral::{Filter, Options, Spectral};

/// Levenberg–Marquardt with its damping.
#[derive(Debug, Clone)]
pub struct LevenbergMarquardt {
    learning_rate: f64,
    damping: f64,
    spectral: Spectral,
    /// λ; unknown before the first step.
    lambda: Option<f64>,
    growth: f64,
    delta: Vec<f64>,
    scaled: Vec<f64>,
    product: Vec<f64>,
}

/// What λ grows by after a first step that is not kept.
const GROWTH: f64 = 2.0;

impl LevenbergMarquardt {
    /// With learning rate η, and λ at the start relative to σ_max².
    ///
    /// # Errors
    /// When η or the damping is not positive and finite.
    pub fn new(learning_rate: f64, damping: f64, options: Options) -> Result<Self, SettingError> {
        check_learning_rate(learning_rate)?;
        super::first_order::check_positive("optimizer.damping", damping)?;
        Ok(Self {
            learning_rate,
            damping,
            spectral: Spectral::new(options),
            lambda: None,
            growth: GROWTH,
            delta: Vec::new(),
            scaled: Vec::new(),
            product: Vec::new(),
        })
    }

    /// The damping after a step with gain ratio ρ, None if the loss did not fall.
    fn adapt(&mut self, lambda: f64, ratio: Option<f64>) {
        let factor = if let Some(ratio) = ratio {
            self.growth = GROWTH;
            (1.0 - (2.0 * ratio - 1.0).powi(3)).clamp(1.0 / 3.0, GROWTH)
        } else {
            self.growth *= 2.0;
            0.5 * self.growth
        };
        self.lambda = Some((lambda * factor).clamp(f64::MIN_POSITIVE, f64::MAX));
    }
}

impl Optimizer for LevenbergMarquardt {
    fn step(&mut self, problem: &mut Problem, theta: &mut [f64]) -> Result<StepReport, StepError> {
        let h = problem.curvature();
        let mut at = problem.linearize(theta)?;
        let (loss, g) = (at.loss, at.outcome_gradient);
        self.delta.resize(theta.len(), 0.0);
        self.product.resize(g.len(), 0.0);
        self.scaled.clear();
        self.scaled.extend(g.iter().map(|g| g / h));
        let lambda = if let Some(lambda) = self.lambda {
            lambda
        } else {
            at.jacobian.apply_transpose(g, &mut self.delta);
            at.jacobian.apply(&self.delta, &mut self.product);
            let estimate = (norm(&self.product) / norm(&self.delta)).powi(2);
            self.damping * if estimate > 0.0 && estimate.is_finite() { estimate } else { 1.0 }
        };
        let filter = Filter::damped(lambda, 0.0).expect("λ stays positive and finite");
        let report = self.spectral.update(&mut at.jacobian, &self.scaled, &filter, &mut self.delta)?;
        for delta in &mut self.delta {
            *delta *= self.learning_rate;
        }
        at.jacobian.apply(&self.delta, &mut self.product);
        let slope: f64 = g.iter().zip(&self.product).map(|(g, p)| g * p).sum();
        let foretold = slope - 0.5 * h * norm(&self.product).powi(2);

        let before = theta.to_vec();
        let mut update_norm = descend(theta, &self.delta, 1.0)?;
        // Where the simulator fails the step went too far.
        let after = problem.loss(theta).unwrap_or(f64::INFINITY);
        let kept = after < loss;
        self.adapt(lambda, kept.then(|| (loss - after) / foretold.max(f64::MIN_POSITIVE)));
        if !kept {
            theta.copy_from_slice(&before);
            update_norm = 0.0;
        }
        Ok(StepReport {
            loss,
            update_norm,
            learning_rate: self.learning_rate,
            lambda: Some(lambda),
            rejected: !kept,
            spectral: Some(report),
            ..StepReport::default()
        })
    }

    fn visit(&mut self, _: &Problem, memory: &mut Memory) {
        let mut lambda: Vec<f64> = self.lambda.into_iter().collect();
        memory.vector("lambda", &mut lambda);
        self.lambda = lambda.first().copied();
        if lambda.len() > 1 || self.lambda.is_some_and(|lambda| !(lambda > 0.0 && lambda.is_finite())) {
            memory.refuse("lambda");
        }
        memory.numbers("growth", [&mut self.growth]);
        if self.growth.is_nan() || self.growth <= 0.0 {
            memory.refuse("growth");
        }
    }
}
