//! Levenberg–Marquardt on mini-batches, with a damping that follows what its steps achieve.
//!
//! Δ = η·V φ(Σ) Uᵀ g/h with φ(σ) = σ/(σ² + λ), h the [curvature](crate::objective::Curvature) of the
//! loss: the minimizer of the model L − gᵀJΔ + ½h(|JΔ|² + λ|Δ|²). With `scaling = "columns"` J is J D^−1 and Δ is D Δ, where
//! Dⱼ is the longest that column j of J has been: steps then do not depend on the units of the parameters.
//!
//! **Acceptance.** A step is kept if its mini-batch's loss falls. With fewer rows than parameters a mini-batch can be
//! fitted to any precision at the others' cost, so that the next one has a say too: if the step has raised its loss by more
//! than 5 %, to more than a tenth of the run's first loss, or made it impossible to evaluate, it is taken back and λ ← 8λ.
//! With ρ the fall over the fall that the model foretold,
//!
//! kept: λ ← λ·max(1/3, 1 − (2ρ−1)³), ν ← 2;   not kept: θ as it was, λ ← νλ, ν ← min(2ν, 64).
//!
//! λ stays between 1e-16 σ_max² and 1e8 σ_max²: at the first J alone decides, at the second the step is 1e-8 of a gradient
//! step. It begins anew where it is at its upper bound and the mini-batch is another one. Nothing is tried where the model
//! foretells no change above round-off.
//!
//! λ starts at `damping` times σ_max². Costs one spectral step, two products with J and three simulations; columns' lengths
//! are 2bP operations more where layers have Kronecker factors, and n rows of J where not; Gram matrices then need J.
//!
//! Source: Levenberg, 1944; Marquardt, 1963; the rule for λ: Nielsen, *Damping Parameter in Marquardt's Method*,
//! IMM-REP-1999-05, with his 1e-3 for `damping`; D: Moré, *The Levenberg–Marquardt Algorithm: Implementation and Theory*, 1978;
//! gain ratio and stops: Madsen, Nielsen, Tingleff, *Methods for Non-linear Least Squares Problems*, 2004.

use std::io::Write;

use serde::{Deserialize, Serialize};

use super::half_inverse::{options, spectral_numbers, spectral_passes, vanishes, whole_shape};
use super::{
    Context, Notice, Numbers, Optimizer, Scaling, Setup, Sizes, State, StateError, StepReport,
    update_not_finite,
};
use crate::error::SettingError;
use crate::fault::StepError;
use crate::linear::threads::par;
use crate::linear::vectors::{along, dot_over, norm, norm_over};
use crate::linear::{Jacobian, ScaledColumns};
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
    /// The units in which parameters are damped.
    pub scaling: Scaling,
    /// How the update is evaluated.
    pub solver: Solver,
    /// Relative error bound of the update above which `gram` gives way to `svd`.
    pub gram_tolerance: f64,
}

impl Default for LevenbergMarquardtSettings {
    fn default() -> Self {
        let gram_tolerance = Options::default().gram_tolerance;
        Self {
            learning_rate: 1.0,
            damping: 1e-3,
            scaling: Scaling::None,
            solver: Solver::Auto,
            gram_tolerance,
        }
    }
}

impl Setup for LevenbergMarquardtSettings {
    const NAME: &'static str = "lm";
    const ABOUT: &'static str = "Levenberg–Marquardt, with a damping that follows what its steps achieve";
    const SCALES: bool = false;
    const STREAMS: bool = true;

    fn build(self, context: &Context) -> Result<Box<dyn Optimizer>, SettingError> {
        Ok(Box::new(LevenbergMarquardt::new(self)?.on_threads(context.threads)))
    }

    fn passes(&self, sizes: &Sizes) -> f64 {
        2.0 + spectral_passes(self.solver, sizes)
    }

    fn numbers(&self, sizes: &Sizes) -> Numbers {
        let p = sizes.parameters as f64;
        let numbers = spectral_numbers(self.solver, 0.0, sizes);
        Numbers { working: numbers.working + 4.0 * p, ..numbers }
    }
}

/// Levenberg–Marquardt with its damping.
#[derive(Debug, Clone)]
pub struct LevenbergMarquardt {
    settings: LevenbergMarquardtSettings,
    spectral: Spectral,
    memory: Memory,
    /// Vectors that a step works in: θ, η·Δ, Jᵀg, θ − η·Δ, g/h, J Δ, the diagonal of D^−1.
    start: Vec<f64>,
    delta: Vec<f64>,
    gradient: Vec<f64>,
    trial: Vec<f64>,
    scaled: Vec<f64>,
    product: Vec<f64>,
    inverse: Vec<f64>,
}

/// What the next step depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Memory {
    /// λ; unknown before the first step.
    lambda: Option<f64>,
    /// ν.
    growth: f64,
    /// Mean loss per sample of the first mini-batch.
    first: Option<f64>,
    /// Mean loss of the mini-batch before a step that was not kept.
    stuck_at: Option<f64>,
    /// θ before the last step that was kept.
    before: Vec<f64>,
    /// D², for `scaling = "columns"`.
    squares: Vec<f64>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            lambda: None,
            growth: GROWTH,
            first: None,
            stuck_at: None,
            before: Vec::new(),
            squares: Vec::new(),
        }
    }
}

/// What λ grows by after a first step that is not kept (Nielsen).
const GROWTH: f64 = 2.0;
/// The most that it grows by at once, so that it can come back where the next mini-batches are easier.
const MOST_GROWTH: f64 = 64.0;
/// What λ grows by with a step that is taken back: more than it fell with it.
const BACK: f64 = 8.0;
/// λ relative to σ_max², the least and the most.
const LEAST: f64 = 1e-16;
const MOST: f64 = 1e8;
/// A step is taken back if it has multiplied the loss of the mini-batch after its own by more than this, and the loss is
/// then more than this part of the first one. Below that it is noise, which later steps average out: taking such steps back
/// cost two digits on regression. Of 20 seeds on the oscillators, letting all steps be lost 2, and letting those up to 30 %
/// be, or λ as it is, lost 1 or 2.
const WORSE: f64 = 1.05;
const LOW: f64 = 0.1;
/// A fall that the model foretells, relative to the loss, below which it is round-off.
const ROUND_OFF: f64 = 4.0 * f64::EPSILON;

/// What the model says of the step in `delta`.
struct Proposal {
    report: Report,
    lambda: f64,
    /// The fall of the loss.
    foretold: f64,
    /// |Jᵀg|, and whether it is round-off.
    gradient: f64,
    vanishes: bool,
}

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
            memory: Memory::default(),
            start: Vec::new(),
            delta: Vec::new(),
            gradient: Vec::new(),
            trial: Vec::new(),
            scaled: Vec::new(),
            product: Vec::new(),
            inverse: Vec::new(),
        })
    }

    /// The same, its linear algebra on so many threads of the current rayon pool.
    #[must_use]
    pub fn on_threads(self, threads: usize) -> Self {
        let options = Options { par: par(threads), ..self.spectral.options() };
        Self { spectral: Spectral::new(options), ..self }
    }

    /// λ, estimated where there is none yet.
    fn lambda(&mut self, jacobian: &mut dyn Jacobian) -> Result<f64, StepError> {
        if let Some(lambda) = self.memory.lambda {
            return Ok(lambda);
        }
        jacobian.apply(&self.gradient, &mut self.product)?;
        let length = norm_over(&self.product, &|partial| jacobian.sum(partial));
        let estimate = (length / norm(&self.gradient)).powi(2);
        Ok(self.settings.damping * if estimate > 0.0 && estimate.is_finite() { estimate } else { 1.0 })
    }

    /// D^−1, with what this J adds to D.
    fn measure_columns(&mut self, jacobian: &mut dyn Jacobian) -> Result<(), StepError> {
        let squares = &mut self.memory.squares;
        squares.resize(self.delta.len(), 0.0);
        jacobian.column_squares(&mut self.delta)?;
        squares.iter_mut().zip(&self.delta).for_each(|(square, now)| *square = square.max(*now));
        self.inverse.clear();
        // A column that has always been 0 moves nothing, whatever its unit.
        let inverse = |&square: &f64| if square > 0.0 { 1.0 / square.sqrt() } else { 1.0 };
        self.inverse.extend(squares.iter().map(inverse));
        Ok(())
    }

    /// η·Δ into `delta`.
    fn propose(&mut self, at: &mut At<'_>) -> Result<Proposal, StepError> {
        let model = (at.loss, at.gradient, at.curvature);
        if self.settings.scaling == Scaling::None {
            return self.propose_for(&mut *at.jacobian, model);
        }
        self.measure_columns(&mut *at.jacobian)?;
        let inverse = std::mem::take(&mut self.inverse);
        let proposal = self.propose_for(&mut ScaledColumns::new(&mut *at.jacobian, &inverse), model);
        self.delta.iter_mut().zip(&inverse).for_each(|(delta, inverse)| *delta *= inverse);
        self.inverse = inverse;
        proposal
    }

    /// The same in the units of this J, from L, g and h.
    fn propose_for(
        &mut self,
        jacobian: &mut dyn Jacobian,
        (loss, g, h): (f64, &[f64], f64),
    ) -> Result<Proposal, StepError> {
        jacobian.apply_transpose(g, &mut self.gradient)?;
        jacobian.sum(&mut self.gradient);
        let lambda = self.lambda(jacobian)?;
        self.scaled.clear();
        self.scaled.extend(g.iter().map(|g| g / h));
        let filter = Filter::damped(lambda, 0.0).expect("λ stays positive and finite");
        let report = self.spectral.update(jacobian, &self.scaled, &filter, &mut self.delta)?;
        self.delta.iter_mut().for_each(|delta| *delta *= self.settings.learning_rate);
        jacobian.apply(&self.delta, &mut self.product)?;
        let sum = |partial: &mut [f64]| jacobian.sum(partial);
        let slope = dot_over(g, &self.product, &sum);
        let foretold = slope - 0.5 * h * norm_over(&self.product, &sum).powi(2);
        let gradient = norm(&self.gradient);
        let lengths = (gradient, norm_over(g, &sum));
        let vanishes = vanishes(&report, whole_shape(jacobian), lengths, 2.0 * h * loss);
        Ok(Proposal { report, lambda, foretold, gradient, vanishes })
    }

    /// Whether this mini-batch, which the last step that was kept did not see, finds it wrong.
    fn went_too_far(&self, problem: &mut dyn Problem, theta: &[f64]) -> bool {
        let before = &self.memory.before;
        if before.len() != theta.len() {
            return false;
        }
        let weight = problem.weight();
        let mut loss = |theta: &[f64]| problem.loss(theta).unwrap_or(f64::INFINITY);
        let (reference, now) = (loss(before), loss(theta));
        let low = LOW * self.memory.first.unwrap_or(0.0) * weight;
        // Where neither can be evaluated the mini-batch is to blame.
        reference.is_finite() && (now.is_nan() || now > f64::max(WORSE * reference, low))
    }

    /// λ and ν after a step with gain ratio ρ, None where it was not kept; returns λ's bound where it was reached.
    fn adapt(&mut self, loss: f64, proposal: &Proposal, ratio: Option<f64>) -> Option<f64> {
        let memory = &mut self.memory;
        let square = proposal.report.sigma_max.powi(2).clamp(f64::MIN_POSITIVE / LEAST, f64::MAX / MOST);
        let (least, most) = (LEAST * square, MOST * square);
        let factor = if let Some(ratio) = ratio {
            (memory.growth, memory.stuck_at) = (GROWTH, None);
            (1.0 - (2.0 * ratio - 1.0).powi(3)).clamp(1.0 / 3.0, GROWTH)
        } else {
            let other = memory.stuck_at.is_some_and(|stuck_at| stuck_at != loss);
            memory.stuck_at = Some(loss);
            if other && proposal.lambda >= most {
                (memory.lambda, memory.growth) = (None, GROWTH);
                return Some(most);
            }
            let factor = memory.growth;
            memory.growth = (2.0 * memory.growth).min(MOST_GROWTH);
            factor
        };
        let lambda = (proposal.lambda * factor).clamp(least, most);
        memory.lambda = Some(lambda);
        (ratio.is_none() && lambda >= most).then_some(most)
    }
}

impl Optimizer for LevenbergMarquardt {
    fn step(&mut self, problem: &mut dyn Problem, theta: &mut [f64]) -> Result<StepReport, StepError> {
        let weight = problem.weight();
        for vector in [&mut self.delta, &mut self.gradient, &mut self.trial] {
            vector.resize(theta.len(), 0.0);
        }
        let taken_back = self.went_too_far(problem, theta);
        if taken_back && let Some(lambda) = &mut self.memory.lambda {
            *lambda *= BACK;
        }
        // On an error θ is to be as it was.
        let mut start = std::mem::take(&mut self.start);
        start.clear();
        start.extend_from_slice(if taken_back { &self.memory.before } else { theta });
        let mut at = problem.linearize(&start)?;
        self.product.resize(at.gradient.len(), 0.0);
        let loss = at.loss;
        let proposal = self.propose(&mut at)?;
        drop(at);
        self.start = start;
        let update_norm = norm(&self.delta);
        if !update_norm.is_finite() {
            return Err(update_not_finite(&self.delta));
        }
        self.memory.first.get_or_insert(loss / weight);
        if taken_back {
            theta.copy_from_slice(&self.start);
            self.memory.before.clear();
        }
        let Proposal { lambda, foretold, gradient, .. } = proposal;
        let mut report = StepReport {
            loss: loss / weight,
            learning_rate: Some(self.settings.learning_rate),
            lambda: Some(lambda),
            gradient_norm: Some(gradient / weight),
            rejected: true,
            ..StepReport::default()
        };
        if proposal.vanishes {
            report.notice = Notice::stationary(report.loss);
        }
        if foretold.abs() > ROUND_OFF * loss {
            along(theta, -1.0, &self.delta, &mut self.trial);
            let after = problem.loss(&self.trial).unwrap_or(f64::INFINITY);
            report.rejected = after.is_nan() || after >= loss;
            let ratio = (loss - after) / foretold;
            let bound = self.adapt(report.loss, &proposal, (!report.rejected).then_some(ratio));
            let at_bound = |value| Notice::AtBound { what: "damping".to_owned(), value };
            report.notice = report.notice.or(bound.map(at_bound));
        }
        if !report.rejected {
            report.update_norm = update_norm;
            self.memory.before.clear();
            self.memory.before.extend_from_slice(theta);
            theta.copy_from_slice(&self.trial);
        }
        Ok(StepReport { spectral: Some(proposal.report), ..report })
    }

    fn save(&self) -> State {
        State::of(&self.memory)
    }

    fn save_to(&self, out: &mut dyn Write) -> std::io::Result<()> {
        State::write(&self.memory, out)
    }

    fn restore(&mut self, state: &State, parameters: usize) -> Result<(), StateError> {
        let memory: Memory = state.read()?;
        if memory.lambda.is_some_and(|lambda| !(lambda > 0.0 && lambda.is_finite())) {
            return Err(StateError::refused("lambda"));
        }
        if memory.growth.is_nan() || memory.growth <= 0.0 {
            return Err(StateError::refused("growth"));
        }
        StateError::check_length("before", &memory.before, parameters)?;
        StateError::check_length("squares", &memory.squares, parameters)?;
        self.memory = memory;
        Ok(())
    }
}
