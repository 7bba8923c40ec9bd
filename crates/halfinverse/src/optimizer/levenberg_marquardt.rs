//! Levenberg–Marquardt on mini-batches, with a damping that follows what its steps achieve.
//!
//! Δ = η·V φ(Σ) Uᵀ g/h with φ(σ) = σ/(σ² + λ), h the [curvature](crate::objective::Curvature) of the
//! loss: the minimizer of the model L − gᵀJΔ + ½h(|JΔ|² + λ|Δ|²). A step is kept if the mini-batch's loss falls. With ρ
//! the fall over the fall that the model foretold,
//!
//! kept: λ ← λ·max(1/3, 1 − (2ρ−1)³), ν ← 2;   not kept: θ as it was, λ ← νλ, ν ← 2ν.
//!
//! λ starts at `damping` times gᵀJJᵀJJᵀg/|Jᵀg|², an estimate of σ_max². Costs one spectral step, one product with J and
//! one simulation.
//!
//! Source: Levenberg, 1944; Marquardt, 1963; the rule for λ: Nielsen, *Damping Parameter in Marquardt's Method*,
//! IMM-REP-1999-05, with his 1e-3 for `damping`.

use serde::{Deserialize, Serialize};

use super::half_inverse::{options, spectral_numbers, spectral_passes};
use super::{Context, Numbers, Optimizer, Setup, Sizes, State, StateError, StepReport, descend};
use crate::error::SettingError;
use crate::fault::StepError;
use crate::linear::threads::par;
use crate::linear::vectors::{dot_over, norm, norm_over};
use crate::problem::{At, Problem};
use crate::spectral::{Filter, Options, Report, Solver, Spectral};

/// Settings of [`LevenbergMarquardt`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LevenbergMarquardtSettings {
    /// Learning rate η.
    pub learning_rate: f64,
    /// λ at the start, relative to σ_max².
    pub damping: f64,
    /// How the update is evaluated.
    pub solver: Solver,
    /// Relative error bound of the update above which `gram` gives way to `svd`.
    pub gram_tolerance: f64,
}

impl Default for LevenbergMarquardtSettings {
    fn default() -> Self {
        let gram_tolerance = Options::default().gram_tolerance;
        Self { learning_rate: 1.0, damping: 1e-3, solver: Solver::Auto, gram_tolerance }
    }
}

impl Setup for LevenbergMarquardtSettings {
    const NAME: &'static str = "lm";
    const ABOUT: &'static str = "Levenberg–Marquardt, with a damping that follows what its steps achieve";
    const SCALES: bool = false;

    fn build(self, context: &Context) -> Result<Box<dyn Optimizer>, SettingError> {
        Ok(Box::new(LevenbergMarquardt::new(self)?.on_threads(context.threads)))
    }

    fn passes(&self, sizes: &Sizes) -> f64 {
        spectral_passes(self.solver, sizes)
    }

    fn numbers(&self, sizes: &Sizes) -> Numbers {
        spectral_numbers(self.solver, 0.0, sizes)
    }
}

/// Levenberg–Marquardt with its damping.
#[derive(Debug, Clone)]
pub struct LevenbergMarquardt {
    settings: LevenbergMarquardtSettings,
    spectral: Spectral,
    damping: Damping,
    before: Vec<f64>,
    delta: Vec<f64>,
    scaled: Vec<f64>,
    product: Vec<f64>,
}

/// What the damping has come to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Damping {
    /// λ; unknown before the first step.
    lambda: Option<f64>,
    /// ν.
    growth: f64,
}

/// What λ grows by after a first step that is not kept (Nielsen).
const GROWTH: f64 = 2.0;

impl LevenbergMarquardt {
    /// With these settings, on one thread.
    ///
    /// # Errors
    /// When η, the damping or the tolerance is not positive and finite.
    pub fn new(settings: LevenbergMarquardtSettings) -> Result<Self, SettingError> {
        SettingError::check_positive("learning_rate", settings.learning_rate)?;
        SettingError::check_positive("damping", settings.damping)?;
        Ok(Self {
            spectral: Spectral::new(options(settings.solver, settings.gram_tolerance)?),
            settings,
            damping: Damping { lambda: None, growth: GROWTH },
            before: Vec::new(),
            delta: Vec::new(),
            scaled: Vec::new(),
            product: Vec::new(),
        })
    }

    /// The same, its linear algebra on so many threads of the current rayon pool.
    #[must_use]
    pub fn on_threads(self, threads: usize) -> Self {
        let options = Options { par: par(threads), ..self.spectral.options() };
        Self { spectral: Spectral::new(options), ..self }
    }

    /// The damping after a step with gain ratio ρ, None if the loss did not fall.
    fn adapt(&mut self, lambda: f64, ratio: Option<f64>) {
        let factor = if let Some(ratio) = ratio {
            self.damping.growth = GROWTH;
            (1.0 - (2.0 * ratio - 1.0).powi(3)).clamp(1.0 / 3.0, GROWTH)
        } else {
            self.damping.growth *= 2.0;
            0.5 * self.damping.growth
        };
        self.damping.lambda = Some((lambda * factor).clamp(f64::MIN_POSITIVE, f64::MAX));
    }

    /// λ, estimated where there is none yet.
    fn lambda(&mut self, at: &mut At<'_>) -> Result<f64, StepError> {
        if let Some(lambda) = self.damping.lambda {
            return Ok(lambda);
        }
        at.jacobian.apply_transpose(at.gradient, &mut self.delta)?;
        at.jacobian.sum(&mut self.delta);
        at.jacobian.apply(&self.delta, &mut self.product)?;
        let length = norm_over(&self.product, &|partial| at.jacobian.sum(partial));
        let estimate = (length / norm(&self.delta)).powi(2);
        Ok(self.settings.damping * if estimate > 0.0 && estimate.is_finite() { estimate } else { 1.0 })
    }

    /// η·Δ into `delta`; returns the report, and the fall of the loss that the model foretells.
    fn propose(&mut self, at: &mut At<'_>, lambda: f64) -> Result<(Report, f64), StepError> {
        let h = at.curvature;
        self.scaled.clear();
        self.scaled.extend(at.gradient.iter().map(|g| g / h));
        let filter = Filter::damped(lambda, 0.0).expect("λ stays positive and finite");
        let report = self.spectral.update(&mut *at.jacobian, &self.scaled, &filter, &mut self.delta)?;
        for delta in &mut self.delta {
            *delta *= self.settings.learning_rate;
        }
        at.jacobian.apply(&self.delta, &mut self.product)?;
        let sum = |partial: &mut [f64]| at.jacobian.sum(partial);
        let slope = dot_over(at.gradient, &self.product, &sum);
        Ok((report, slope - 0.5 * h * norm_over(&self.product, &sum).powi(2)))
    }
}

impl Optimizer for LevenbergMarquardt {
    fn step(&mut self, problem: &mut dyn Problem, theta: &mut [f64]) -> Result<StepReport, StepError> {
        let weight = problem.weight();
        let mut at = problem.linearize(theta)?;
        self.delta.resize(theta.len(), 0.0);
        self.product.resize(at.gradient.len(), 0.0);
        let loss = at.loss;
        let lambda = self.lambda(&mut at)?;
        let (report, foretold) = self.propose(&mut at, lambda)?;
        drop(at);

        self.before.clear();
        self.before.extend_from_slice(theta);
        let mut update_norm = descend(theta, &self.delta, 1.0)?;
        // Where the simulator fails the step went too far.
        let after = problem.loss(theta).unwrap_or(f64::INFINITY);
        let kept = after < loss;
        self.adapt(lambda, kept.then(|| (loss - after) / foretold.max(f64::MIN_POSITIVE)));
        if !kept {
            theta.copy_from_slice(&self.before);
            update_norm = 0.0;
        }
        Ok(StepReport {
            loss: loss / weight,
            update_norm,
            learning_rate: Some(self.settings.learning_rate),
            lambda: Some(lambda),
            rejected: !kept,
            spectral: Some(report),
            ..StepReport::default()
        })
    }

    fn save(&self) -> State {
        State::of(&self.damping)
    }

    fn restore(&mut self, state: &State, _: usize) -> Result<(), StateError> {
        let damping: Damping = state.read()?;
        if damping.lambda.is_some_and(|lambda| !(lambda > 0.0 && lambda.is_finite())) {
            return Err(StateError::refused("lambda"));
        }
        if damping.growth.is_nan() || damping.growth <= 0.0 {
            return Err(StateError::refused("growth"));
        }
        self.damping = damping;
        Ok(())
    }
}
