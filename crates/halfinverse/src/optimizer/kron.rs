//! Gauss–Newton by Kronecker factors, accelerated: for a flat spectrum and data that no mini-batch repeats.
//!
//! Row (s, c) of J holds Dₗ\[(s,c), ·\] ⊗ aₗ\[s, ·\] for layer l (see [layered](crate::jacobian::layered)), so layer l's
//! block of JᵀJ is nearly b·Aₗ ⊗ Gₗ:
//!
//! Aₗ = mean over s of aₗaₗᵀ (in+1 × in+1, the bias an input of constant 1),  Gₗ = mean over s of Σ_c dₗdₗᵀ (out × out)
//! d = −Gₗ^−p ∇Wₗ Aₗ^−p at ϑ, p = (1+κ)/2
//! α = −η ∇·d / h|J d|², η times the step that minimizes the quadratic model along d
//! m ← γ(m + αd) − (1−γ)/2·(1−ν)·αd,  ϑ ← ϑ + αd + m, with γ = (1−a)/(1+a)
//! θ = a running mean of ϑ over about the last twentieth of the run: what is evaluated and kept.
//!
//! ϑ is where Nesterov's method takes its gradients, m how far it looks ahead, and the last term of m what keeps it stable
//! when the noise is in J rather than in g. Fresh data are such a case: a mini-batch of n rows says nothing of
//! P − n directions, ν = αhb ≈ n/(n+P) is the part of a full step that it allows, and steps as short as that are made up for by
//! momentum, at a → 0. Momentum from the quadratic model of one mini-batch does not do it: it fits the mini-batch.
//!
//! **Gₗ without rows of J.** With signs ε = ±1 drawn for each outcome, δₗ = Σ_c ε_c dₗ has mean δₗδₗᵀ = Σ_c dₗdₗᵀ, and one sweep
//! back gives δₗ for a whole mini-batch. It goes back through the simulator, so Gₗ carries its scaling.
//!
//! **J d** is a difference quotient of the outcomes: a sweep forward and a simulation, half of what a tangent sweep costs, and
//! no simulator has to give blocks for it. Its curvature is measured every fourth step and averaged.
//!
//! **What adapts.** a falls as 1/age, and a step gone wrong halves the age and slows its growth. Damping, √λ times the mean
//! eigenvalue of each factor, so that λ has no units, rises where the loss falls by less than a quarter of what the model
//! foretold, and sinks back to `damping`. A mini-batch's loss far above the lowest recent level takes ϑ back to θ. Factors
//! forget all but the last quarter of what they saw, and are refreshed at growing distances.
//!
//! Costs a gradient (6bP), 2Σ in·out·(in+out) for d, a quarter of 2bP for J d, every eighth step 2bP and 2bΣ(in²+out²) for
//! the factors; their eigenvalues at a refresh. Memory: 5P, and four times the factors.
//!
//! Source: Martens, Grosse, *Optimizing Neural Networks with Kronecker-factored Approximate Curvature*, ICML 2015; the momentum:
//! Liu, Belkin, *Accelerating SGD with Momentum for Over-parameterized Learning*, ICLR 2020; the mean: Shamir, Zhang,
//! *Stochastic Gradient Descent for Non-smooth Optimization*, ICML 2013.

mod factors;
#[cfg(test)]
mod tests;

use faer::{Mat, Par};

use self::factors::{Factors, draw_signs};
use super::first_order::{check_gradient, check_positive};
use super::{Memory, Optimizer, StepReport, check_learning_rate, update_not_finite};
use crate::columns::{column, dot, vectorized};
use crate::error::{SettingError, StepError};
use crate::model::Problem;
use crate::spectral::Filter;

/// Kronecker-factored Gauss–Newton with its factors and momentum.
#[derive(Debug, Clone)]
pub struct Kron {
    learning_rate: f64,
    kappa: f64,
    damping: f64,
    par: Par,
    /// Steps begun, and those of them whose ϑ held.
    steps: u64,
    held: u64,
    lambda: f64,
    /// Part of η that is used; below 1 after a step gone wrong.
    caution: f64,
    /// What a falls with, and what a step adds to it.
    age: f64,
    pace: f64,
    /// Running mean of the mini-batches' loss, and the lowest that it lately was.
    recent: f64,
    level: f64,
    /// Step of the next refresh.
    refresh: u64,
    reduction: f64,
    agreement: Ratio,
    /// h|J d|² over −∇·d.
    curvature: Ratio,
    factors: Vec<Factors>,
    /// ϑ.
    iterate: Vec<f64>,
    /// m.
    ahead: Vec<f64>,
    gradient: Vec<f64>,
    /// d.
    direction: Vec<f64>,
    trial: Vec<f64>,
    signs: Mat<f64>,
    outcome: Mat<f64>,
    product: Mat<f64>,
}

/// A mini-batch's loss this many times the level is a step gone wrong, and so is a mean loss of CREEP times it.
const RUNAWAY: f64 = 3.0;
const CREEP: f64 = 1.5;
/// What the level rises by in a step at most.
const RISE: f64 = 1.001;
/// Steps between measurements of the reduction ratio.
const CHECK: u64 = 16;
/// Steps between measurements of the curvature along d, once it has settled.
const MEASURE: u64 = 4;
/// Steps until it has.
const SETTLED: u64 = 64;
/// a = AGE/(AGE + age), not below LEAST.
const AGE: f64 = 8.0;
const LEAST: f64 = 1e-3;
/// The mean of ϑ spans about the last 1/MEAN of the steps.
const MEAN: f64 = 21.0;

impl Kron {
    /// Learning rate, exponent and damping that did well on all tasks.
    pub const DEFAULTS: (f64, f64, f64) = (0.7, 1.0, 3e-3);

    /// With learning rate η, exponent κ, and the damping λ that is returned to.
    ///
    /// # Errors
    /// When η or λ is not positive and finite, or κ is outside its range.
    ///
    /// # Example
    /// ```
    /// use halfinverse::optimizer::Kron;
    /// let optimizer = Kron::new(0.7, 1.0, 3e-3, faer::Par::Seq)?;
    /// # Ok::<(), halfinverse::SettingError>(())
    /// ```
    pub fn new(learning_rate: f64, kappa: f64, damping: f64, par: Par) -> Result<Self, SettingError> {
        check_learning_rate(learning_rate)?;
        check_positive("optimizer.damping", damping)?;
        Filter::power(kappa, 0.0)?;
        Ok(Self::fresh(learning_rate, kappa, damping, par))
    }

    fn fresh(learning_rate: f64, kappa: f64, damping: f64, par: Par) -> Self {
        Self {
            learning_rate,
            kappa,
            damping,
            par,
            steps: 0,
            held: 0,
            lambda: damping,
            caution: 1.0,
            age: 0.0,
            pace: 1.0,
            recent: 0.0,
            level: 0.0,
            refresh: 0,
            reduction: 1.0,
            agreement: Ratio::default(),
            curvature: Ratio::default(),
            factors: Vec::new(),
            iterate: Vec::new(),
            ahead: Vec::new(),
            gradient: Vec::new(),
            direction: Vec::new(),
            trial: Vec::new(),
            signs: Mat::new(),
            outcome: Mat::new(),
            product: Mat::new(),
        }
    }

    /// The fall of a mini-batch's loss along d over what the quadratic model foretold, when last measured.
    #[must_use]
    pub fn reduction(&self) -> f64 {
        self.reduction
    }

    /// How steeply the next mini-batch descends along d, relative to the mini-batch that d was made for: a running mean,
    /// 1 for the same gradients again, 0 where they share nothing, negative where d went too far.
    #[must_use]
    pub fn agreement(&self) -> f64 {
        self.agreement.value()
    }

    fn prepare(&mut self, problem: &Problem, theta: &[f64]) {
        if self.iterate.len() == theta.len() {
            return;
        }
        self.iterate = theta.to_vec();
        for vector in [&mut self.ahead, &mut self.gradient, &mut self.direction, &mut self.trial] {
            *vector = vec![0.0; theta.len()];
        }
        self.factors = problem.model().network().layers().iter().map(|&layer| Factors::new(layer)).collect();
        let (b, m) = problem.outcome().shape();
        for matrix in [&mut self.signs, &mut self.outcome, &mut self.product] {
            *matrix = Mat::zeros(b, m);
        }
    }

    /// ϑ back to θ, without momentum.
    fn retreat(&mut self, theta: &[f64]) {
        self.iterate.copy_from_slice(theta);
        self.ahead.fill(0.0);
        self.direction.fill(0.0);
        self.gradient.fill(0.0);
        self.age *= 0.5;
        self.pace *= 0.5;
        self.caution *= 0.5;
        self.lambda *= 4.0;
        self.refresh = 0;
        self.level *= 1.25;
        self.recent = self.level;
        self.agreement = Ratio::default();
    }

    /// Whether a mini-batch's loss at ϑ is in keeping with those before.
    fn holds(&mut self, loss: f64) -> bool {
        let keep = if self.held == 0 { 0.0 } else { 0.9 };
        self.recent = keep * self.recent + (1.0 - keep) * loss;
        self.held == 0 || loss <= RUNAWAY * self.level && self.recent <= CREEP * self.level
    }

    /// Takes in that this mini-batch has not found ϑ wrong; returns the weight with which ϑ is to be taken into θ.
    fn hold(&mut self) -> f64 {
        self.level = if self.held == 0 { self.recent } else { self.recent.min(RISE * self.level) };
        let weight = MEAN / (self.held as f64 + MEAN);
        self.held += 1;
        self.age += self.pace;
        self.pace = (1.002 * self.pace).min(1.0);
        self.caution = (1.01 * self.caution).min(1.0);
        weight
    }

    /// θ ← θ + weight·(ϑ − θ).
    fn take_into(&self, theta: &mut [f64], weight: f64) {
        let iterate = &self.iterate;
        vectorized(
            #[inline(always)]
            || {
                for (theta, iterate) in theta.iter_mut().zip(iterate) {
                    *theta += weight * (iterate - *theta);
                }
            },
        );
    }

    /// Takes this mini-batch into the factors, and every so often makes their powers anew.
    fn learn(&mut self, problem: &mut Problem) -> Result<(), StepError> {
        let every = match self.steps {
            0..16 => 1,
            16..1000 => 4,
            _ => 8,
        };
        if self.steps.is_multiple_of(every) {
            draw_signs(self.steps, &mut self.signs);
            let (factors, par) = (&mut self.factors, self.par);
            problem.each_delta(&self.iterate, self.signs.as_ref(), |l, delta, input| {
                factors[l].absorb(delta, input, par);
            })?;
        }
        if self.steps >= self.refresh {
            let exponent = 0.5 * (1.0 + self.kappa);
            for factors in &mut self.factors {
                factors.refresh(exponent, self.lambda, self.par)?;
            }
            self.refresh = self.steps + (self.steps / 20).clamp(1, 100);
        }
        Ok(())
    }

    /// α, from the curvature along d on this mini-batch and recent ones.
    fn measure(&mut self, problem: &mut Problem, h: f64) -> Result<f64, StepError> {
        if self.steps < SETTLED || self.steps.is_multiple_of(MEASURE) {
            let product = &mut self.product;
            difference(problem, &self.iterate, &self.direction, &mut self.trial, &self.outcome, product)?;
            let slope = dot(&self.gradient, &self.direction);
            let curved = h * inner(product, product);
            // The mean would keep what is not finite for good.
            if curved.is_finite() && slope.is_finite() {
                self.curvature.add(curved, -slope, 0.9);
            }
        }
        let curvature = self.curvature.value();
        Ok(if curvature > 0.0 { self.caution * self.learning_rate / curvature } else { 0.0 })
    }

    /// Compares what αd does to its own mini-batch's loss with what was foretold, and damps accordingly.
    fn check(&mut self, problem: &mut Problem, loss: f64, alpha: f64) {
        let slope = dot(&self.gradient, &self.direction);
        let foretold = -alpha * slope * (1.0 - 0.5 * alpha * self.curvature.value());
        add(&self.iterate, alpha, &self.direction, &mut self.trial);
        // Where the simulator fails the step would go too far.
        let after = problem.loss(&self.trial).unwrap_or(f64::INFINITY);
        self.reduction = if foretold > 0.0 { (loss - after) / foretold } else { 1.0 };
        if self.reduction > 0.75 {
            self.lambda = (0.5 * self.lambda).max(self.damping);
        } else if self.reduction < 0.25 || self.reduction.is_nan() {
            self.lambda *= 2.0;
        }
    }

    /// d for this mini-batch, and α.
    fn aim(&mut self, problem: &mut Problem, loss: f64, h: f64) -> Result<f64, StepError> {
        self.outcome.copy_from(problem.outcome());
        self.learn(problem)?;
        for factors in &mut self.factors {
            factors.direct(&self.gradient, &mut self.direction, self.par);
        }
        if !dot(&self.direction, &self.direction).is_finite() {
            return Err(update_not_finite(&self.direction));
        }
        let alpha = self.measure(problem, h)?;
        if self.steps.is_multiple_of(CHECK) {
            self.check(problem, loss, alpha);
        }
        Ok(alpha)
    }

    /// m and ϑ of the next step; ν is the part of a full step that α is.
    fn advance(&mut self, alpha: f64, nu: f64) {
        let a = (AGE / (AGE + self.age)).max(LEAST);
        let gamma = (1.0 - a) / (1.0 + a);
        let back = 0.5 * (1.0 - gamma) * (1.0 - nu).max(0.0);
        let (ahead, direction, iterate) = (&mut self.ahead, &self.direction, &mut self.iterate);
        vectorized(
            #[inline(always)]
            || {
                for ((m, d), x) in ahead.iter_mut().zip(direction).zip(iterate) {
                    let step = alpha * d;
                    *m = gamma * (*m + step) - back * step;
                    *x += step + *m;
                }
            },
        );
    }
}

impl Optimizer for Kron {
    fn step(&mut self, problem: &mut Problem, theta: &mut [f64]) -> Result<StepReport, StepError> {
        self.prepare(problem, theta);
        let h = problem.curvature();
        let own = dot(&self.gradient, &self.direction);
        self.steps += 1;
        let found = problem.gradient(&self.iterate, &mut self.gradient);
        let found = found.and_then(|loss| check_gradient(&self.gradient).map(|()| loss));
        let next = dot(&self.gradient, &self.direction);
        let loss = match found {
            Ok(loss) if self.holds(loss) => loss,
            Err(error) if self.iterate == theta => {
                self.gradient.fill(0.0);
                return Err(error);
            }
            found => {
                self.retreat(theta);
                // What is shown of a loss that is none, or out of all proportion, is where it was cut off.
                let loss = found.map_or(RUNAWAY * self.level, |loss| loss.min(RUNAWAY * self.level));
                return Ok(StepReport { loss, rejected: true, ..StepReport::default() });
            }
        };
        self.agreement.add(next, own, 0.95);
        let weight = self.hold();
        let alpha = match self.aim(problem, loss, h) {
            Ok(alpha) => alpha,
            Err(error) => {
                // What the factors have taken in cannot be told from what made the error.
                *self = Self::fresh(self.learning_rate, self.kappa, self.damping, self.par);
                return Err(error);
            }
        };
        self.take_into(theta, weight);
        let nu = alpha * h * problem.samples().len() as f64;
        self.advance(alpha, nu);
        Ok(StepReport {
            loss,
            update_norm: alpha * dot(&self.direction, &self.direction).sqrt(),
            learning_rate: nu,
            kappa: Some(self.kappa),
            lambda: Some(self.lambda),
            ..StepReport::default()
        })
    }

    fn visit(&mut self, problem: &Problem, memory: &mut Memory) {
        if memory.taking_back() && memory.len_of("iterate") > 0 {
            self.prepare(problem, &vec![0.0; problem.model().network().parameters()]);
        }
        let length = if memory.taking_back() { memory.len_of("iterate") } else { self.iterate.len() };
        for (name, vector) in [
            ("iterate", &mut self.iterate),
            ("ahead", &mut self.ahead),
            ("gradient", &mut self.gradient),
            ("direction", &mut self.direction),
        ] {
            memory.parameters(name, vector);
            if vector.len() != length {
                memory.refuse(name);
            }
        }
        for (name, count) in
            [("steps", &mut self.steps), ("held", &mut self.held), ("refresh", &mut self.refresh)]
        {
            memory.count(name, count);
        }
        memory.numbers("lambda", [&mut self.lambda]);
        memory.numbers("pace", [&mut self.caution, &mut self.age, &mut self.pace]);
        memory.numbers("levels", [&mut self.recent, &mut self.level, &mut self.reduction]);
        for (name, ratio) in [("agreement", &mut self.agreement), ("curvature", &mut self.curvature)] {
            memory.numbers(name, [&mut ratio.over, &mut ratio.under]);
        }
        for (l, factors) in self.factors.iter_mut().enumerate() {
            factors.visit(l, memory);
        }
    }
}

/// A ratio of two running means.
#[derive(Debug, Clone, Copy, Default)]
struct Ratio {
    over: f64,
    under: f64,
}

impl Ratio {
    fn add(&mut self, over: f64, under: f64, keep: f64) {
        self.over = keep * self.over + (1.0 - keep) * over;
        self.under = keep * self.under + (1.0 - keep) * under;
    }

    fn value(self) -> f64 {
        if self.under == 0.0 { 0.0 } else { self.over / self.under }
    }
}

/// `out` (b × m) = J v ≈ (y(θ + εv) − y(θ))/ε; `outcome` is y(θ).
fn difference(
    problem: &mut Problem,
    theta: &[f64],
    v: &[f64],
    trial: &mut [f64],
    outcome: &Mat<f64>,
    out: &mut Mat<f64>,
) -> Result<(), StepError> {
    /// |εv| relative to 1 + |θ|: the square root of the round-off, and a margin for what the simulator adds to it.
    const RELATIVE: f64 = 1e-6;
    let length = dot(v, v).sqrt();
    if length == 0.0 {
        out.fill(0.0);
        return Ok(());
    }
    let epsilon = RELATIVE * (1.0 + dot(theta, theta).sqrt()) / length;
    add(theta, epsilon, v, trial);
    problem.loss(trial)?;
    let moved = problem.outcome();
    for j in 0..out.ncols() {
        let pairs = column(moved, j).iter().zip(outcome.col_as_slice(j));
        for (out, (moved, outcome)) in out.col_as_slice_mut(j).iter_mut().zip(pairs) {
            *out = (moved - outcome) / epsilon;
        }
    }
    Ok(())
}

/// `out` = x + t·v.
fn add(x: &[f64], t: f64, v: &[f64], out: &mut [f64]) {
    for ((out, x), v) in out.iter_mut().zip(x).zip(v) {
        *out = x + t * v;
    }
}

/// Σ aᵢⱼbᵢⱼ.
fn inner(a: &Mat<f64>, b: &Mat<f64>) -> f64 {
    (0..a.ncols()).map(|j| dot(a.col_as_slice(j), b.col_as_slice(j))).sum()
}
