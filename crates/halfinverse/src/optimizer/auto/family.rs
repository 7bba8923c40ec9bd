//! Steps from one Krylov space of a mini-batch, chosen by what they achieve on it and on other samples.
//!
//! The space, started from Jᵀg, serves a family of steps
//!
//! θ ← θ − s·η*·V φ(Σ) Uᵀ g/h + μ·m,  φ(σ) = σ·(σ² + λ)^(−(1+κ)/2),  η* = gᵀJΔ₁/(h|JΔ₁|²),
//!
//! with h the [curvature](crate::objective::Curvature) of the loss, η* the length that the mini-batch's quadratic
//! model likes best for Δ₁, the step before it is scaled, and m what of θ's last move lies outside the space: it
//! changes nothing that this mini-batch knows of. κ = 1 is Levenberg–Marquardt, κ = ½ damped half-inverse gradients.
//!
//! Candidates: with κ = 1, λ a quarter of the last choice, the same and four times that; half of the last length s; κ =
//! ½; and, with μ = 0.9, λ the same and a quarter. All are simulated together on the probe: some samples of the
//! mini-batch and as many others, so many that choosing costs a sixth of the rest of a first step, or all where data
//! are scarce. The candidate of the lowest probe loss is the step if that is below the probe loss at θ, and s may
//! double; else θ stays, λ grows and s shrinks.
//!
//! **Krylov vectors.** One more candidate is the last choice with half of the vectors. What the whole space gains over
//! it, per pass over the samples, decides whether k grows or shrinks, from 12 to 128: with fewer the first steps on a
//! plateau, where every k gains next to nothing, lose the directions that lead away from it.
//!
//! Costs k products with J and Jᵀ, seven more with Jᵀ, and 9 simulations of the probe; memory k·min(n, P) + 13·P.
//!
//! Source of the momentum: Goldshlager, Abrahamsen, Lin, *A Kaczmarz-inspired Approach to Accelerate the Optimization
//! of Neural Network Wavefunctions*, 2024.

use faer::{Mat, Par};
use serde::{Deserialize, Serialize};

use super::supply::Supply;
use crate::fault::StepError;
use crate::linear::threads::par;
use crate::linear::vectors::{add, dot, norm};
use crate::optimizer::{Notice, State, StateError, StepReport};
use crate::problem::Problem;
use crate::spectral::{KrylovSpace, Report, Ritz, Solver};

/// A candidate relative to the last choice.
struct Variation {
    kappa: f64,
    /// Factor of λ.
    damping: f64,
    /// Factor of s.
    length: f64,
    /// μ.
    momentum: f64,
}

/// The candidates besides the last choice with half of the vectors. What is tried beyond these gained nothing
/// (docs/auto.md).
const VARIATIONS: [Variation; 7] = [
    Variation { kappa: 1.0, damping: 0.25, length: 1.0, momentum: 0.0 },
    Variation { kappa: 1.0, damping: 1.0, length: 1.0, momentum: 0.0 },
    Variation { kappa: 1.0, damping: 4.0, length: 1.0, momentum: 0.0 },
    Variation { kappa: 1.0, damping: 1.0, length: 0.5, momentum: 0.0 },
    Variation { kappa: 0.5, damping: 1.0, length: 1.0, momentum: 0.0 },
    Variation { kappa: 1.0, damping: 1.0, length: 1.0, momentum: 0.9 },
    Variation { kappa: 1.0, damping: 0.25, length: 1.0, momentum: 0.9 },
];
/// All candidates: the variations, and the last choice with half of the vectors.
const CANDIDATES: usize = VARIATIONS.len() + 1;
/// Combinations of the space that they are made of, the last move's part in it among them.
const DISTINCT: f64 = 7.0;
/// λ at the start, relative to σ_max² (Nielsen's), and its bounds: round-off, and a step along the gradient.
const FIRST_DAMPING: f64 = 1e-3;
const LEAST_DAMPING: f64 = 1e-16;
const MOST_DAMPING: f64 = 1.0;
/// What λ grows and s shrinks by when no candidate is better than staying: that of the variations.
const RETREAT: f64 = 4.0;
/// The least of s.
const SHORTEST: f64 = 1e-4;
/// Krylov vectors at the start, and the least and the most: found by trial on the five tasks (docs/auto.md).
const FIRST_VECTORS: f64 = 16.0;
const LEAST_VECTORS: f64 = 12.0;
const MOST_VECTORS: f64 = 128.0;
/// What k grows and shrinks by.
const MORE_VECTORS: f64 = 1.25;
const FEWER_VECTORS: f64 = 0.8;
/// How much more the whole space must gain per pass than its half for k to grow: a larger one would gain less still.
const WORTH: f64 = 1.25;
/// A product with J is worth so much of a pass through network and simulator (`hig bench`).
const PRODUCT: f64 = 0.75;
/// Operations of the space's two small SVDs in units of k³, in those of a large product.
const SMALL_SVDS: f64 = 220.0;
/// A pass over a sample takes no less time than with so many parameters.
const LEAST_PASS: f64 = 1024.0;
/// Times that a vector over parameters is read or written for a product, and for a candidate.
const TRAVERSALS: f64 = 3.0;
/// Passes of a step besides its space and the simulator's blocks: J's own two.
const OVERHEAD: f64 = 2.0;
/// What the probe may cost, of the rest of a step with k as at the start, and the samples it has at least.
const CHOOSING: f64 = 1.0 / 6.0;
const LEAST_PROBED: usize = 4;

/// Memory of the family, in numbers: its space with the most vectors and its candidates.
pub(super) fn numbers(parameters: f64, rows: f64) -> f64 {
    MOST_VECTORS.min(parameters) * rows.min(parameters) + (CANDIDATES + 4) as f64 * parameters
}

/// What the cost of a step depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// Samples of the mini-batch.
    pub(super) samples: usize,
    /// Rows of J for each of them.
    pub(super) outcomes: usize,
    /// P.
    pub(super) parameters: usize,
    /// Multiplications of the network's pass over a sample.
    pub(super) work: usize,
    /// Sweeps of the simulator that make the blocks.
    pub(super) sweeps: usize,
}

impl Size {
    /// Rows of J.
    fn rows(self) -> usize {
        self.samples * self.outcomes
    }

    /// What a product with J costs in passes over a sample, with what is done to its vectors.
    fn product(self) -> f64 {
        PRODUCT * self.samples as f64 + TRAVERSALS * traversal(self.parameters)
    }

    /// What making a candidate costs.
    fn candidate(self) -> f64 {
        if self.rows() < self.parameters { self.product() } else { TRAVERSALS * traversal(self.parameters) }
    }

    /// What a step costs besides its space and its probe.
    fn overhead(self) -> f64 {
        let Self { samples, sweeps, .. } = self;
        samples as f64 * (OVERHEAD + sweeps as f64) + DISTINCT * self.candidate()
    }

    /// What a space of k vectors costs: its products, to orthogonalize them, and its singular values.
    fn space(self, k: f64) -> f64 {
        let pass = (self.work as f64).max(LEAST_PASS);
        let short = self.parameters.min(self.rows()) as f64;
        2.0 * k * self.product() + (k * k * short + 0.5 * SMALL_SVDS * k.powi(3)) / pass
    }
}

/// The family with its scratch space.
pub(super) struct Family {
    size: Size,
    /// Samples of the mini-batch that the probe takes.
    probed: usize,
    par: Par,
    space: KrylovSpace,
    learnt: Learnt,
    scaled: Vec<f64>,
    thetas: Mat<f64>,
}

/// What the steps have taught.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Learnt {
    /// The last choice; λ and s as the next one starts from them.
    last: Candidate,
    /// k, as a number that moves slowly.
    vectors: f64,
    /// θ's last move, and then what of it lies outside the Krylov space.
    moved: Vec<f64>,
}

/// What a step finds before it tries anything.
struct Placed {
    loss: f64,
    gradient_norm: f64,
    /// None where nothing changes the loss; with them the singular values of the space.
    candidates: Option<(Vec<Candidate>, Ritz)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Candidate {
    kappa: f64,
    /// λ/σ_max².
    damping: f64,
    length: f64,
    momentum: f64,
    vectors: usize,
}

impl Family {
    /// Of this size. All samples are probed where the probe's cost does not matter.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of `samples`")]
    pub(super) fn new(size: Size, probe_all: bool, threads: usize) -> Self {
        let samples = size.samples;
        let probed =
            CHOOSING * (size.overhead() + size.space(FIRST_VECTORS)) / (2.0 * (CANDIDATES + 1) as f64);
        let last = Candidate { kappa: 1.0, damping: FIRST_DAMPING, length: 1.0, momentum: 0.0, vectors: 0 };
        Self {
            size,
            probed: if probe_all {
                samples
            } else {
                (probed as usize).clamp(LEAST_PROBED.min(samples), samples)
            },
            par: par(threads),
            space: KrylovSpace::default(),
            learnt: Learnt { last, vectors: FIRST_VECTORS, moved: Vec::new() },
            scaled: Vec::new(),
            thetas: Mat::new(),
        }
    }

    /// Samples of the mini-batch that the probe takes, and of as many others.
    pub(super) fn probed(&self) -> usize {
        self.probed
    }

    /// What a step costs, in passes over a sample.
    pub(super) fn passes(&self) -> f64 {
        self.besides() + self.size.space(self.learnt.vectors)
    }

    /// What a step costs besides its space.
    fn besides(&self) -> f64 {
        self.size.overhead() + 2.0 * self.probed as f64 * (CANDIDATES + 1) as f64
    }

    /// Makes the best step that it finds on the mini-batch and probe of the supply.
    pub(super) fn step(&mut self, supply: &mut Supply, theta: &mut [f64]) -> Result<StepReport, StepError> {
        let weight = supply.problem.weight();
        let space = self.place(&mut *supply.problem, theta)?;
        let (loss, gradient_norm) = (space.loss / weight, Some(space.gradient_norm / weight));
        let Some((candidates, whole)) = space.candidates else {
            let notice = Notice::stationary(loss);
            return Ok(StepReport { loss, rejected: true, gradient_norm, notice, ..StepReport::default() });
        };
        let k = self.space.dimension();
        let mut losses = [0.0; CANDIDATES + 1];
        supply.probe.losses(self.thetas.as_ref(), &mut losses)?;
        let losses = losses.map(|loss| if loss.is_finite() { loss } else { f64::INFINITY });
        let stay = losses[CANDIDATES];
        let mut best = 0;
        for i in 1..CANDIDATES {
            if losses[i].total_cmp(&losses[best]).is_lt() {
                best = i;
            }
        }
        let of_whole = losses[..CANDIDATES - 1].iter().copied().fold(f64::INFINITY, f64::min);
        self.adapt_vectors(k, stay, of_whole, losses[CANDIDATES - 1]);
        let chosen = candidates[best];
        let rejected = losses[best].is_nan() || losses[best] >= stay;
        let update_norm = if rejected { self.stay() } else { self.go(best, &chosen, theta) };
        Ok(StepReport {
            loss,
            update_norm,
            step_length: Some(chosen.length),
            kappa: Some(chosen.kappa),
            lambda: Some(chosen.damping * whole.largest().powi(2)),
            rejected,
            gradient_norm,
            spectral: Some(Report {
                solver: Solver::Krylov { vectors: k },
                rank: k,
                sigma_max: whole.largest(),
                sigma_min: whole.smallest(),
                krylov_steps: Some(k),
                error_estimate: 0.0,
                fallbacks: Vec::new(),
            }),
            ..StepReport::default()
        })
    }

    /// Builds the Krylov space at θ, and places the candidates in `thetas`, θ itself as the last.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "k is from 12 to 128")]
    fn place(&mut self, problem: &mut dyn Problem, theta: &[f64]) -> Result<Placed, StepError> {
        let mut at = problem.linearize(theta)?;
        let jacobian = &mut *at.jacobian;
        let h = at.curvature;
        self.scaled.clear();
        self.scaled.extend(at.gradient.iter().map(|g| g / h));
        let vectors = self.learnt.vectors.round() as usize;
        // Overlaps of the last move with the space.
        let moved = std::mem::take(&mut self.learnt.moved);
        let mut inside = Vec::new();
        let mut show = |v: &[f64]| inside.push(if moved.is_empty() { 0.0 } else { dot(v, &moved) });
        let built = self.space.build_and_show(jacobian, &self.scaled, vectors, self.par, &mut show);
        self.learnt.moved = moved;
        built?;
        let placed =
            Placed { loss: at.loss, gradient_norm: h * self.space.gradient_norm(), candidates: None };
        let k = self.space.dimension();
        if k == 0 {
            return Ok(placed);
        }
        let candidates = self.candidates(k);
        let (whole, half) = (self.space.ritz(k)?, self.space.ritz((k / 2).max(1))?);
        if self.thetas.shape() != (theta.len(), CANDIDATES + 1) {
            self.thetas = Mat::zeros(theta.len(), CANDIDATES + 1);
        }
        self.thetas.col_as_slice_mut(CANDIDATES).copy_from_slice(theta);
        let moved = &mut self.learnt.moved;
        if !moved.is_empty() {
            let within = self.thetas.col_as_slice_mut(0);
            self.space.expand(jacobian, &inside, within)?;
            add(moved, -1.0, within);
        }
        for (i, candidate) in candidates.iter().enumerate() {
            let still = Candidate { momentum: 0.0, ..*candidate };
            if let Some(twin) = candidates[..i].iter().position(|other| *other == still) {
                let (before, rest) = self.thetas.as_mut().split_at_col_mut(i);
                rest.col_mut(0).copy_from(before.col(twin));
            } else {
                let ritz = if candidate.vectors == k { &whole } else { &half };
                let trial = self.thetas.col_as_slice_mut(i);
                self.space.expand(jacobian, &coefficients_of(ritz, candidate), trial)?;
                trial.iter_mut().zip(theta).for_each(|(trial, theta)| *trial = theta - *trial);
            }
            if candidate.momentum > 0.0 && !moved.is_empty() {
                add(self.thetas.col_as_slice_mut(i), candidate.momentum, moved);
            }
        }
        Ok(Placed { candidates: Some((candidates, whole)), ..placed })
    }

    fn stay(&mut self) -> f64 {
        let Learnt { last, moved, .. } = &mut self.learnt;
        last.damping = (last.damping * RETREAT).min(MOST_DAMPING);
        last.length = (last.length / RETREAT).max(SHORTEST);
        moved.clear();
        0.0
    }

    /// Takes a candidate's step; returns its length.
    fn go(&mut self, best: usize, chosen: &Candidate, theta: &mut [f64]) -> f64 {
        let Learnt { last, moved, .. } = &mut self.learnt;
        let length =
            if chosen.length >= last.length { (2.0 * chosen.length).min(1.0) } else { chosen.length };
        *last = Candidate { length, ..*chosen };
        let next = self.thetas.col_as_slice(best);
        moved.clear();
        moved.extend(next.iter().zip(&*theta).map(|(next, theta)| next - theta));
        theta.copy_from_slice(next);
        norm(moved)
    }

    fn candidates(&self, k: usize) -> Vec<Candidate> {
        let last = self.learnt.last;
        let vary = |variation: &Variation| Candidate {
            kappa: variation.kappa,
            damping: (last.damping * variation.damping).clamp(LEAST_DAMPING, MOST_DAMPING),
            length: variation.length * last.length,
            momentum: variation.momentum,
            vectors: k,
        };
        let mut candidates: Vec<_> = VARIATIONS.iter().map(vary).collect();
        candidates.push(Candidate { vectors: (k / 2).max(1), ..last });
        candidates
    }

    /// k after a step in which the whole space brought the probe's loss from `start` to `whole`, half of it to `half`.
    fn adapt_vectors(&mut self, k: usize, start: f64, whole: f64, half: f64) {
        let gain = |loss: f64, k: f64| {
            (start / loss.max(f64::MIN_POSITIVE)).ln().max(0.0) / (self.besides() + self.size.space(k))
        };
        let k = k as f64;
        let grows = gain(whole, k) > WORTH * gain(half, 0.5 * k);
        let factor = if grows { MORE_VECTORS } else { FEWER_VECTORS };
        self.learnt.vectors = (self.learnt.vectors * factor).clamp(LEAST_VECTORS, MOST_VECTORS);
    }

    pub(super) fn save(&self) -> State {
        State::of(&self.learnt)
    }

    pub(super) fn restore(&mut self, state: &State, parameters: usize) -> Result<(), StateError> {
        let learnt: Learnt = state.read()?;
        StateError::check_length("moved", &learnt.moved, parameters)?;
        if !(LEAST_VECTORS..=MOST_VECTORS).contains(&learnt.vectors) {
            return Err(StateError::refused("vectors"));
        }
        self.learnt = learnt;
        Ok(())
    }
}

/// What it costs to read or write a vector of P numbers once, in passes over a sample, which take 2P operations each:
/// next to nothing in the cache, and beyond it as long as a processor calculates meanwhile (`hig bench`).
pub(super) fn traversal(parameters: usize) -> f64 {
    /// Where memory decides, and the P at which half of that is due: 1 MiB.
    const MOST: f64 = 12.0;
    const HALF: f64 = 131_072.0;
    let p = parameters as f64;
    MOST * p / (p + HALF)
}

/// Coefficients of a candidate's step in the Krylov basis.
fn coefficients_of(ritz: &Ritz, candidate: &Candidate) -> Vec<f64> {
    let exponent = -0.5 * (1.0 + candidate.kappa);
    let step = ritz.step(|sigma| (sigma * sigma + candidate.damping).powf(exponent));
    let best = if step.curvature > 0.0 { step.slope / step.curvature } else { 0.0 };
    step.coefficients.iter().map(|c| candidate.length * best * c).collect()
}
