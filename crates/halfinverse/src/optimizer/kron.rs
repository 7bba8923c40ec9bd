//! Gauss–Newton by Kronecker factors, accelerated: for a flat spectrum and data that no mini-batch repeats.
//!
//! Row (s, c) of J holds Dₗ\[(s,c), ·\] ⊗ aₗ\[s, ·\] for layer l (see [layered](crate::linear::layered)), so layer l's
//! block of JᵀJ is nearly b·Aₗ ⊗ Gₗ:
//!
//! Aₗ = mean over s of aₗaₗᵀ (in+1 × in+1, the bias an input of constant 1),  Gₗ = mean over s of Σ_c dₗdₗᵀ (out × out)
//! d = −Gₗ^−p ∇Wₗ Aₗ^−p at ϑ, p = (1+κ)/2
//! α = −η ∇·d / h|J d|², η times the step that minimizes the quadratic model along d
//! m ← γ(m + αd) − (1−γ)/2·(1−ν)·αd,  ϑ ← ϑ + αd + m, with γ = (1−a)/(1+a)
//! θ = a running mean of ϑ over about the last twentieth of the run: what is evaluated and kept.
//!
//! ϑ is where Nesterov's method takes its gradients, m how far it looks ahead, and the last term of m what keeps it
//! stable when the noise is in J rather than in g. Fresh data are such a case: a mini-batch of n rows says nothing of
//! P − n directions, ν = αhb ≈ n/(n+P) is the part of a full step that it allows, and steps as short as that are made
//! up for by momentum, at a → 0. Momentum from the quadratic model of one mini-batch does not do it: it fits the
//! mini-batch.
//!
//! **Gₗ without rows of J.** With signs ε = ±1 drawn for each outcome, δₗ = Σ_c ε_c dₗ has mean δₗδₗᵀ = Σ_c dₗdₗᵀ, and
//! one sweep back gives δₗ for a whole mini-batch. It goes back through the simulator, so Gₗ carries its scaling.
//!
//! **A convolution** acts at R positions of each sample. Its A is the mean of aaᵀ over samples and positions, with a
//! the patch of the input that a position sees, its G the mean over samples of Σ δδᵀ over positions: what different
//! positions contribute to a row of J is taken to be uncorrelated (KFC; the KFAC-expand of Eschenhagen et al.). That is
//! exact where each outcome depends on one position of a linear network, as in a field of controls. A vector of
//! parameters, such as the scales of a layer norm, has the exact mean of the squares of its rows for G, and A = 1.
//!
//! **J d** is a difference quotient of the outcomes: a sweep forward and a simulation, half of what a tangent sweep
//! costs, and no simulator has to give blocks for it. Its curvature is measured every fourth step and averaged.
//!
//! **What adapts.** a falls as 1/age, and a step gone wrong halves the age and slows its growth. Damping, √λ times the
//! mean eigenvalue of each factor, so that λ has no units, rises where the loss falls by less than a quarter of what
//! the model foretold, and sinks back to `damping`. A mini-batch's loss far above the lowest recent level, and above
//! its loss at θ, takes ϑ back to θ. Factors forget all but the last quarter of what they saw, and are refreshed at
//! growing distances.
//!
//! **Damping** of √λ·tr(A)/size and √λ·tr(G)/size is that of Martens and Grosse with their π by traces: the product of
//! the two is λ times the mean eigenvalue of A ⊗ G.
//!
//! **Wide layers** have their factors in blocks along the diagonal, of at most 129 rows: the cost per parameter does
//! not grow with the width then. Nothing was lost on a Poisson grid of 16 × 16 with hidden 256, 256 (seed 1): after
//! 1500 steps blocks of 64 came to 0.331, of 130 to 0.335, whole factors to 0.432; after 300 steps blocks of 32, 64,
//! 128 and 256 to 3.3, 2.6, 3.1 and 3.8, whole factors to 4.4. On the task's own grid blocks of 32 fall behind (0.66
//! after 300 steps, 0.29 with whole factors); 129 leaves all layers of up to 128 units whole. A step with blocks of 64
//! took two thirds of one with 130. With hidden 4096, 4096, 17 million parameters, the first steps took 2.5 GiB.
//!
//! **Refreshes** come at each of the first 20 steps: at distances of 2 and 4 among these the regression stood at 1.3
//! after 300 steps (8e-6 otherwise), the dipole at 3e-3 (2e-5). Later the distance is a twentieth of the steps so far,
//! a hundred at most, and at least what keeps refreshes to a fifth of all operations. The means take in each of the
//! first 16 steps, then every fourth, after 1000 every eighth: with the sweep back about a ninth of the operations,
//! then half of that.
//!
//! Costs a gradient (6bP), 2Σ in·out·(wᵢ + wₒ) for d with blocks of widths w, a quarter of 2bP for J d, every eighth
//! step 2bP and bΣ(in·wᵢ + out·wₒ) for the means; Σ(in·wᵢ² + out·wₒ²) at a refresh where κ = 1, and about 25 times as
//! long where it is not. Memory: 5P, and twice the factors' blocks.
//!
//! Source: Martens, Grosse, *Optimizing Neural Networks with Kronecker-factored Approximate Curvature*, ICML 2015; of
//! convolutions: Grosse, Martens, ICML 2016, and Eschenhagen et al., *Kronecker-Factored Approximate Curvature for
//! Modern Neural Network Architectures*, NeurIPS 2023; the momentum: Liu, Belkin, *Accelerating SGD with Momentum for
//! Over-parameterized Learning*, ICLR 2020; the mean: Shamir, Zhang, *Stochastic Gradient Descent for Non-smooth
//! Optimization*, ICML 2013.

mod factor;
mod factors;
mod memory;
mod ratio;
#[cfg(test)]
mod tests;
mod work;

use faer::{Mat, Par};
use serde::{Deserialize, Serialize};

use self::factors::{Factors, draw_signs};
use self::memory::{Clock, Memory, Motion};
use self::work::Work;
use super::first_order::check_gradient;
use super::{
    Context, Notice, Numbers, Optimizer, Setup, Sizes, State, StateError, StepReport, update_not_finite,
};
use crate::error::{SettingError, ShapeError};
use crate::fault::StepError;
use crate::linear::threads::par;
use crate::linear::vectors::{add, along, dot, norm};
use crate::problem::{FactorShape, Layered, Problem};
use crate::spectral::Filter;

/// Settings of [`Kron`]; the defaults did well on all tasks (docs/auto.md).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KronSettings {
    /// Learning rate η, in units of the step that minimizes the quadratic model along d.
    pub learning_rate: f64,
    /// Exponent κ.
    pub kappa: f64,
    /// Damping λ that is returned to, relative to the factors' mean eigenvalues.
    pub damping: f64,
}

impl Default for KronSettings {
    fn default() -> Self {
        Self { learning_rate: 0.7, kappa: 1.0, damping: 3e-3 }
    }
}

impl Setup for KronSettings {
    const NAME: &'static str = "hig-kron";
    const ABOUT: &'static str = "Kronecker factors through the simulator, accelerated";
    const SCALES: bool = false;

    fn build(self, context: &Context) -> Result<Box<dyn Optimizer>, SettingError> {
        Ok(Box::new(Kron::new(self)?.on_threads(context.threads)))
    }

    fn passes(&self, sizes: &Sizes) -> f64 {
        PASSES + overhead(&sizes.layers) / sizes.batch.max(1) as f64
    }

    fn numbers(&self, sizes: &Sizes) -> Numbers {
        let p = sizes.parameters as f64;
        let entries = Work::of(&sizes.layers, WIDTH).entries;
        // What a block is taken apart in.
        let scratch = 4.0 * entries.min((WIDTH * WIDTH) as f64);
        // Halves of symmetric matrices are saved.
        Numbers { working: 5.0 * p + 2.0 * entries + scratch, saved: 3.0 * p + entries, ..Numbers::default() }
    }
}

/// What a step costs in passes over its mini-batch.
pub(super) const PASSES: f64 = 4.0;

/// What a step costs besides, in passes over a sample: that of d, where a pass takes 2P operations.
pub(super) fn overhead(shapes: &[FactorShape]) -> f64 {
    Work::of(shapes, WIDTH).overhead()
}

/// Kronecker-factored Gauss–Newton with its factors and momentum.
#[derive(Debug, Clone)]
pub struct Kron {
    settings: KronSettings,
    par: Par,
    memory: Memory,
    /// The factors' blocks are no wider.
    width: usize,
    /// What is taken of η.
    part: f64,
    work: Work,
    /// Vectors and matrices that a step works in.
    trial: Vec<f64>,
    signs: Mat<f64>,
    product: Mat<f64>,
}

// What follows was found by trial on the five tasks (docs/auto.md has the experiments).

/// A mini-batch's loss this many times the level is a step gone wrong, and so is a mean loss of CREEP times it.
const RUNAWAY: f64 = 3.0;
const CREEP: f64 = 1.5;
/// The largest λ: factors are then nearly multiples of the identity, and steps along the gradient.
const MOST_DAMPING: f64 = 1e4;
/// The least λ that is accepted: at 1e-6 some of the five tasks already train badly, below it all do.
const LEAST_DAMPING: f64 = 1e-6;
/// A fall of the loss relative to it that is round-off.
const ROUND_OFF: f64 = 16.0 * f64::EPSILON;
/// Widest block of a factor: 128 units and the bias.
const WIDTH: usize = 129;
/// Steps at the start that each refresh the powers.
const EARLY: u64 = 20;
/// Part of the operations of later steps that refreshes may take.
const REFRESHES: f64 = 0.2;
/// Steps between measurements of the reduction ratio.
const CHECK: u64 = 16;
/// Steps between measurements of the curvature along d, once it has settled.
const MEASURE: u64 = 4;
/// Steps until it has.
const SETTLED: u64 = 64;
/// Steps beyond which no run goes; counts go on from here without overflow.
const MOST_STEPS: u64 = 1 << 53;

impl Kron {
    /// With these settings, on one thread.
    ///
    /// # Errors
    /// When η is not positive and finite, λ is not from 1e-6 to 1e4, or κ is outside its range.
    ///
    /// # Example
    /// ```
    /// use halfinverse::optimizer::{Kron, KronSettings};
    /// let optimizer = Kron::new(KronSettings { learning_rate: 0.5, ..KronSettings::default() })?;
    /// # Ok::<(), halfinverse::SettingError>(())
    /// ```
    pub fn new(settings: KronSettings) -> Result<Self, SettingError> {
        SettingError::check_positive("learning_rate", settings.learning_rate)?;
        if !(LEAST_DAMPING..=MOST_DAMPING).contains(&settings.damping) {
            let expected =
                format!("from {LEAST_DAMPING:e} to {MOST_DAMPING:e}: below, noise in the factors decides");
            return Err(SettingError::new("damping", settings.damping, expected));
        }
        Filter::power(settings.kappa, 0.0)?;
        Ok(Self {
            memory: Memory::new(settings.damping),
            settings,
            par: Par::Seq,
            width: WIDTH,
            part: 1.0,
            work: Work::default(),
            trial: Vec::new(),
            signs: Mat::new(),
            product: Mat::new(),
        })
    }

    /// The same, its linear algebra on so many threads of the current rayon pool.
    #[must_use]
    pub fn on_threads(self, threads: usize) -> Self {
        Self { par: par(threads), ..self }
    }

    /// Steps with this part of its learning rate from now on.
    pub(super) fn slow_down(&mut self, part: f64) {
        self.part = part;
    }

    /// Forgets all that it has learnt.
    pub(super) fn begin_anew(&mut self) {
        self.memory = Memory::new(self.settings.damping);
    }

    /// The fall of a mini-batch's loss along d over what the quadratic model foretold, when last measured.
    #[must_use]
    pub fn reduction(&self) -> f64 {
        self.memory.reduction
    }

    /// How steeply the next mini-batch descends along d, relative to the mini-batch that d was made for: a running
    /// mean, 1 for the same gradients again, 0 where they share nothing, negative where d went too far.
    #[must_use]
    pub fn agreement(&self) -> f64 {
        self.memory.agreement.value()
    }

    fn prepare(&mut self, layered: &dyn Layered, theta: &[f64]) -> Result<(), StepError> {
        let (shapes, width) = (layered.factors(), self.width);
        self.work = Work::of(&shapes, width);
        let Memory { motion, factors, .. } = &mut self.memory;
        if motion.iterate.len() != theta.len() {
            motion.iterate = theta.to_vec();
            for vector in [&mut motion.ahead, &mut motion.direction] {
                *vector = vec![0.0; theta.len()];
            }
            *factors = shapes.iter().map(|&shape| Factors::new(shape, width)).collect();
        }
        motion.gradient.resize(theta.len(), 0.0);
        ShapeError::check("the Kronecker factors", "layers", shapes.len(), factors.len())?;
        for (factors, &shape) in factors.iter_mut().zip(&shapes) {
            factors.fit(shape, width)?;
        }
        self.trial.resize(theta.len(), 0.0);
        let ((own, m), (_, b)) = (layered.shape(), layered.place());
        for (matrix, rows) in [(&mut self.signs, b), (&mut self.product, own)] {
            if matrix.shape() != (rows, m) {
                *matrix = Mat::zeros(rows, m);
            }
        }
        Ok(())
    }

    /// θ ← θ + weight·(ϑ − θ); returns the length of what was added.
    fn take_into(&mut self, theta: &mut [f64], weight: f64) -> f64 {
        for ((trial, iterate), theta) in self.trial.iter_mut().zip(&self.memory.motion.iterate).zip(&*theta) {
            *trial = iterate - theta;
        }
        add(theta, weight, &self.trial);
        weight * norm(&self.trial)
    }

    /// Takes this mini-batch into the factors, and every so often makes their powers anew.
    fn learn(&mut self, layered: &mut dyn Layered) -> Result<(), StepError> {
        let Memory { clock, lambda, factors, motion, .. } = &mut self.memory;
        let every = match clock.started {
            0..16 => 1,
            16..1000 => 4,
            _ => 8,
        };
        if clock.started.is_multiple_of(every) {
            draw_signs(clock.started, &mut self.signs);
            let par = self.par;
            let (own, b) = layered.place();
            factors.iter_mut().for_each(Factors::forget);
            if own.start > 0 || own.is_empty() {
                // In the sum over ranks, what all have is the first one's.
                factors.iter_mut().for_each(Factors::clear);
            }
            let signs = self.signs.as_ref().subrows(own.start, own.len());
            layered.cotangents(&motion.iterate, signs, &mut |rows| {
                factors[rows.factor].absorb(&rows, b, par);
            })?;
            if layered.spread() {
                factors::sum(factors, layered);
            }
        }
        if clock.started >= clock.refresh {
            let exponent = 0.5 * (1.0 + self.settings.kappa);
            for factors in factors {
                factors.refresh(exponent, *lambda, self.par)?;
            }
            let least = match clock.started {
                0..EARLY => 1,
                _ => self.work.between_refreshes(layered.place().1 as f64, exponent, REFRESHES),
            };
            clock.refresh = clock.started + (clock.started / 20).clamp(least, least.max(100));
        }
        Ok(())
    }

    /// α, from the curvature along d on this mini-batch and recent ones.
    fn measure(&mut self, layered: &mut dyn Layered, h: f64) -> Result<f64, StepError> {
        let Memory { clock, motion, curvature, caution, slope, .. } = &mut self.memory;
        if clock.started < SETTLED || clock.started.is_multiple_of(MEASURE) {
            layered.difference(&motion.iterate, &motion.direction, self.product.as_mut())?;
            let mut length = [square(&self.product)];
            layered.sum(&mut length);
            let curved = h * length[0];
            // The mean would keep what is not finite for good.
            if curved.is_finite() && slope.is_finite() {
                curvature.add(curved, -*slope, 0.9);
            }
        }
        let curvature = curvature.value();
        Ok(if curvature > 0.0 { *caution * self.part * self.settings.learning_rate / curvature } else { 0.0 })
    }

    /// Compares what αd does to its own mini-batch's loss with what was foretold, and damps accordingly.
    fn check(&mut self, problem: &mut dyn Problem, loss: f64, alpha: f64) {
        let Memory { motion, curvature, reduction, lambda, slope, .. } = &mut self.memory;
        let foretold = -alpha * *slope * (1.0 - 0.5 * alpha * curvature.value());
        along(&motion.iterate, alpha, &motion.direction, &mut self.trial);
        // Where the simulator fails the step would go too far.
        let after = problem.loss(&self.trial).unwrap_or(f64::INFINITY);
        // A fall below round-off cannot be measured, and says nothing.
        let measurable = foretold > ROUND_OFF * loss;
        *reduction = if measurable { (loss - after) / foretold } else { 1.0 };
        if !measurable {
            return;
        }
        if *reduction > 0.75 {
            *lambda = (0.5 * *lambda).max(self.settings.damping);
        } else if *reduction < 0.25 || reduction.is_nan() {
            *lambda = (2.0 * *lambda).min(MOST_DAMPING);
        }
    }

    /// Loss and gradient at ϑ, and whether this mini-batch finds it no worse than those before.
    fn look(&mut self, problem: &mut dyn Problem, theta: &[f64]) -> (Result<f64, StepError>, bool) {
        let weight = problem.weight();
        let gradient = |problem: &mut dyn Problem, motion: &mut Motion| {
            let loss = problem.gradient(&motion.iterate, &mut motion.gradient)?;
            check_gradient(&motion.gradient).map(|_| loss)
        };
        let found = gradient(problem, &mut self.memory.motion);
        let Ok(loss) = found else { return (found, false) };
        if self.memory.accepts(loss / weight) {
            return (found, true);
        }
        // A mini-batch that is as hard at θ says nothing against ϑ.
        if loss > CREEP * problem.loss(theta).unwrap_or(0.0) {
            return (found, false);
        }
        (gradient(problem, &mut self.memory.motion), true)
    }

    /// d for this mini-batch, α, and ν.
    fn aim(&mut self, problem: &mut dyn Problem, loss: f64) -> Result<(f64, f64), StepError> {
        let layered = layered(problem)?;
        let (h, (_, b)) = (layered.curvature(), layered.place());
        self.learn(layered)?;
        let Memory { factors, motion, slope, .. } = &mut self.memory;
        let Motion { gradient, direction, .. } = motion;
        for factors in factors {
            factors.direct(gradient, &mut self.trial, direction, self.par);
        }
        *slope = dot(gradient, direction);
        if !dot(&motion.direction, &motion.direction).is_finite() {
            return Err(update_not_finite(&motion.direction));
        }
        let alpha = self.measure(layered, h)?;
        if self.memory.clock.started.is_multiple_of(CHECK) {
            self.check(problem, loss, alpha);
        }
        Ok((alpha, alpha * h * b as f64))
    }
}

fn layered(problem: &mut dyn Problem) -> Result<&mut dyn Layered, StepError> {
    let needs = "layers with Kronecker factors";
    problem.layered().ok_or(StepError::Unsupported { optimizer: KronSettings::NAME, needs })
}

impl Optimizer for Kron {
    fn step(&mut self, problem: &mut dyn Problem, theta: &mut [f64]) -> Result<StepReport, StepError> {
        self.prepare(layered(problem)?, theta)?;
        let weight = problem.weight();
        let own = self.memory.slope;
        self.memory.clock.started += 1;
        let (found, accepted) = self.look(problem, theta);
        let motion = &self.memory.motion;
        let next = dot(&motion.gradient, &motion.direction);
        let loss = match found {
            Ok(loss) if accepted => loss,
            Err(error) if self.memory.motion.iterate == theta => {
                self.memory.slope = 0.0;
                return Err(error);
            }
            found => {
                self.memory.retreat(theta);
                // A loss that is NaN, or out of all proportion, is shown as the one at which it was cut off.
                let most = RUNAWAY * self.memory.level.lowest;
                let loss = found.map_or(most, |loss| (loss / weight).min(most));
                return Ok(StepReport { loss, rejected: true, ..StepReport::default() });
            }
        };
        self.memory.agreement.add(next, own, 0.95);
        let part = self.memory.accept();
        let (alpha, nu) = match self.aim(problem, loss) {
            Ok(aimed) => aimed,
            Err(error) => {
                // What the factors have taken in cannot be told from what made the error.
                self.begin_anew();
                return Err(error);
            }
        };
        let gradient_norm = norm(&self.memory.motion.gradient) / weight;
        let update_norm = self.take_into(theta, part);
        self.memory.advance(alpha, nu);
        let at_bound = Notice::AtBound { what: "damping".to_owned(), value: MOST_DAMPING };
        let damped_out = (self.memory.lambda >= MOST_DAMPING).then_some(at_bound);
        let stationary = if gradient_norm == 0.0 { Notice::stationary(loss / weight) } else { None };
        Ok(StepReport {
            loss: loss / weight,
            gradient_norm: Some(gradient_norm),
            notice: stationary.or(damped_out),
            update_norm,
            learning_rate: Some(self.memory.caution * self.part * self.settings.learning_rate),
            step_length: Some(nu),
            kappa: Some(self.settings.kappa),
            lambda: Some(self.memory.lambda),
            ..StepReport::default()
        })
    }

    fn save(&self) -> State {
        State::of(&self.memory)
    }

    fn restore(&mut self, state: &State, parameters: usize) -> Result<(), StateError> {
        let memory: Memory = state.read()?;
        let Motion { iterate, ahead, direction, .. } = &memory.motion;
        StateError::check_length("iterate", iterate, parameters)?;
        for (name, vector) in [("ahead", ahead), ("direction", direction)] {
            if vector.len() != iterate.len() {
                return Err(StateError::refused(name));
            }
        }
        let Clock { started, accepted, refresh } = memory.clock;
        if [started, accepted, refresh].iter().any(|&steps| steps > MOST_STEPS) {
            return Err(StateError::refused("clock"));
        }
        self.memory = memory;
        Ok(())
    }
}

/// Σ aᵢⱼ².
fn square(a: &Mat<f64>) -> f64 {
    (0..a.ncols()).map(|j| dot(a.col_as_slice(j), a.col_as_slice(j))).sum()
}
