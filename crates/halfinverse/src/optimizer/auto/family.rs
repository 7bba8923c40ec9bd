//! Steps from one Krylov space of a mini-batch, chosen by what they achieve on it and on other samples.
//!
//! The space, started from Jᵀg, serves a family of steps
//!
//! θ ← θ − s·η*·V φ(Σ) Uᵀ g/h + μ·m,  φ(σ) = σ·(σ² + λ)^(−(1+κ)/2),  η* = gᵀJΔ₁/(h|JΔ₁|²),
//!
//! with h the [curvature](crate::objective::Objective::curvature) of the loss, η* the length that the mini-batch's quadratic
//! model likes best for Δ₁, the step before it is scaled, and m what of θ's last move lies outside the space: it changes
//! nothing that this mini-batch knows of. κ = 1 is Levenberg–Marquardt, κ = ½ damped half-inverse gradients.
//!
//! Candidates: with κ = 1, λ a quarter of the last choice, the same and four times that; half of the last length s; κ = ½; and, with
//! μ = 0.9, λ the same and a quarter. All are simulated together on the probe: some samples of the mini-batch and as many others, so
//! many that choosing costs a sixth of the rest of a first step, or all where data are scarce. The candidate of the lowest probe
//! loss is the step if that is below the probe loss at θ, and s may double; else θ stays, λ grows and s shrinks.
//!
//! **Krylov vectors.** One more candidate is the last choice with half of the vectors. What the whole space gains over it,
//! per pass over the samples, decides whether k grows or shrinks, from 12 to 128: with fewer the first steps on a plateau, where
//! every k gains next to nothing, lose the directions that lead away from it.
//!
//! Costs k products with J and Jᵀ, and 9 simulations of the probe; memory k(n + P) + 9·P.
//!
//! Source of the momentum: Goldshlager, Abrahamsen, Lin, *A Kaczmarz-inspired Approach to Accelerate the Optimization of
//! Neural Network Wavefunctions*, 2024.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, Par};

use super::probe::Probe;
use crate::columns::norm;
use crate::error::StepError;
use crate::model::{Problem, Samples};
use crate::optimizer::{Memory, StepReport};
use crate::spectral::{KrylovSpace, Report, Ritz, Solver};

/// κ, λ and s relative to the last choice, and μ.
const VARIATIONS: [(f64, f64, f64, f64); 7] = [
    (1.0, 0.25, 1.0, 0.0),
    (1.0, 1.0, 1.0, 0.0),
    (1.0, 4.0, 1.0, 0.0),
    (1.0, 1.0, 0.5, 0.0),
    (0.5, 1.0, 1.0, 0.0),
    (1.0, 1.0, 1.0, 0.9),
    (1.0, 0.25, 1.0, 0.9),
];
/// All candidates: the variations, and the last choice with half of the vectors.
const CANDIDATES: usize = VARIATIONS.len() + 1;
/// λ at the start, relative to σ_max², and its bounds.
const FIRST_DAMPING: f64 = 1e-3;
const DAMPING_RANGE: (f64, f64) = (1e-16, 1.0);
/// What λ grows and s shrinks by when no candidate is better than staying.
const RETREAT: f64 = 4.0;
/// The least of s.
const SHORTEST: f64 = 1e-4;
/// Krylov vectors at the start, and the least and the most.
const VECTORS: (f64, f64, f64) = (16.0, 12.0, 128.0);
/// How much more the whole space must gain per pass than its half for k to grow: a larger one would gain less still.
const WORTH: f64 = 1.25;
/// A product with J is worth so much of a pass through network and simulator.
const PRODUCT: f64 = 0.5;
/// Passes of a step besides its space and the simulator's blocks: J's own two, and the probe's.
const OVERHEAD: f64 = 2.0;
/// What the probe may cost, of the rest of a step with k as at the start, and the samples it has at least.
const CHOOSING: f64 = 1.0 / 6.0;
const LEAST_PROBE: usize = 4;

/// What the steps have taught.
pub(super) struct Family {
    /// Samples of the mini-batch, sweeps that make its blocks, samples of it that the probe takes.
    rows: usize,
    sweeps: usize,
    probed: usize,
    space: KrylovSpace,
    par: Par,
    threads: usize,
    /// The last choice; λ and s as the next one starts from them.
    last: Candidate,
    /// k, as a number that moves slowly.
    vectors: f64,
    probe: Option<Probe>,
    scaled: Vec<f64>,
    /// θ's last move, and then what of it lies outside the Krylov space.
    moved: Vec<f64>,
    thetas: Mat<f64>,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    kappa: f64,
    /// λ/σ_max².
    damping: f64,
    length: f64,
    momentum: f64,
    vectors: usize,
}

impl Family {
    /// For mini-batches of `rows` samples; `sweeps` of the simulator make their blocks. All of them are probed where the probe's cost is
    /// no matter.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of `rows`")]
    pub(super) fn new(rows: usize, sweeps: usize, probe_all: bool, par: Par, threads: usize) -> Self {
        let rest = rows as f64 * (OVERHEAD + sweeps as f64 + space_passes(VECTORS.0, rows));
        let probed = CHOOSING * rest / (2.0 * (CANDIDATES + 1) as f64);
        Self {
            rows,
            sweeps,
            probed: if probe_all { rows } else { (probed as usize).clamp(LEAST_PROBE.min(rows), rows) },
            space: KrylovSpace::default(),
            par,
            threads,
            last: Candidate { kappa: 1.0, damping: FIRST_DAMPING, length: 1.0, momentum: 0.0, vectors: 0 },
            moved: Vec::new(),
            vectors: VECTORS.0,
            probe: None,
            scaled: Vec::new(),
            thetas: Mat::new(),
        }
    }

    /// What a step costs, in passes over a sample.
    pub(super) fn passes(&self) -> f64 {
        self.rows as f64 * (self.overhead() + space_passes(self.vectors, self.rows))
    }

    /// Passes over the mini-batch that a step costs besides its space.
    fn overhead(&self) -> f64 {
        let choosing = 2.0 * self.probed as f64 * (CANDIDATES + 1) as f64 / self.rows as f64;
        OVERHEAD + self.sweeps as f64 + choosing
    }

    /// Makes the best step that it finds; `beside` are other samples, as many.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "k is from 12 to 128")]
    pub(super) fn step(
        &mut self,
        problem: &mut Problem,
        theta: &mut [f64],
        beside: &Samples,
    ) -> Result<StepReport, StepError> {
        let h = problem.curvature();
        let mut at = problem.linearize(theta)?;
        let loss = at.loss;
        self.scaled.clear();
        self.scaled.extend(at.outcome_gradient.iter().map(|g| g / h));
        self.space.build(&mut at.jacobian, &self.scaled, self.vectors.round() as usize, self.par)?;
        let k = self.space.dimension();
        if k == 0 {
            return Ok(StepReport { loss, rejected: true, ..StepReport::default() });
        }
        let candidates = self.candidates(k);
        let (whole, half) = (self.space.ritz(k)?, self.space.ritz((k / 2).max(1))?);
        let mut coefficients = Mat::zeros(k, CANDIDATES + 1);
        for (i, candidate) in candidates.iter().enumerate() {
            let ritz = if candidate.vectors == k { &whole } else { &half };
            let step = coefficients_of(ritz, candidate);
            coefficients.col_as_slice_mut(i)[..step.len()].copy_from_slice(&step);
        }
        let losses = self.try_all(problem, theta, beside, &candidates, &coefficients)?;
        let stay = losses[CANDIDATES];
        let (best, &least) =
            losses[..CANDIDATES].iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).expect("candidates");
        let of_whole = losses[..CANDIDATES - 1].iter().copied().fold(f64::INFINITY, f64::min);
        self.adapt_vectors(k, stay, of_whole, losses[CANDIDATES - 1]);
        let chosen = candidates[best];
        let rejected = least.is_nan() || least >= stay;
        if rejected {
            self.last.damping = (self.last.damping * RETREAT).min(DAMPING_RANGE.1);
            self.last.length = (self.last.length / RETREAT).max(SHORTEST);
            self.moved.clear();
        } else {
            let length = if chosen.length >= self.last.length {
                (2.0 * chosen.length).min(1.0)
            } else {
                chosen.length
            };
            self.last = Candidate { length, ..chosen };
            let next = self.thetas.col_as_slice(best);
            self.moved.clear();
            self.moved.extend(next.iter().zip(&*theta).map(|(next, theta)| next - theta));
            theta.copy_from_slice(next);
        }
        Ok(StepReport {
            loss,
            update_norm: if rejected { 0.0 } else { norm(coefficients.col_as_slice(best)) },
            learning_rate: chosen.length,
            kappa: Some(chosen.kappa),
            lambda: Some(chosen.damping * whole.largest().powi(2)),
            rejected,
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

    fn candidates(&self, k: usize) -> Vec<Candidate> {
        let vary = |&(kappa, factor, s, momentum): &(f64, f64, f64, f64)| Candidate {
            kappa,
            damping: (self.last.damping * factor).clamp(DAMPING_RANGE.0, DAMPING_RANGE.1),
            length: s * self.last.length,
            momentum,
            vectors: k,
        };
        let mut candidates: Vec<_> = VARIATIONS.iter().map(vary).collect();
        candidates.push(Candidate { vectors: (k / 2).max(1), ..self.last });
        candidates
    }

    /// Probe losses of all candidates, and of θ itself, for steps V_k c with c the columns of `coefficients`.
    fn try_all(
        &mut self,
        problem: &Problem,
        theta: &[f64],
        beside: &Samples,
        candidates: &[Candidate],
        coefficients: &Mat<f64>,
    ) -> Result<Vec<f64>, StepError> {
        if self.thetas.shape() != (theta.len(), CANDIDATES + 1) {
            self.thetas = Mat::zeros(theta.len(), CANDIDATES + 1);
        }
        for i in 0..=CANDIDATES {
            self.thetas.col_as_slice_mut(i).copy_from_slice(theta);
        }
        matmul(&mut self.thetas, Accum::Add, self.space.basis(), coefficients, -1.0, self.par);
        if self.moved.len() == theta.len() {
            let moved = MatMut::from_column_major_slice_mut(&mut self.moved, theta.len(), 1);
            let inside = self.space.basis().transpose() * &moved;
            matmul(moved, Accum::Add, self.space.basis(), inside, -1.0, self.par);
            for (i, candidate) in
                candidates.iter().enumerate().filter(|(_, candidate)| candidate.momentum > 0.0)
            {
                for (theta, moved) in self.thetas.col_as_slice_mut(i).iter_mut().zip(&self.moved) {
                    *theta += candidate.momentum * moved;
                }
            }
        }
        let probe = self.probe.get_or_insert_with(|| {
            Probe::new(problem.model(), beside, self.probed, CANDIDATES + 1, self.threads)
        });
        probe.set(problem.samples(), beside);
        let losses = probe.losses(problem.model(), &self.thetas)?;
        Ok(losses.iter().map(|[now, beside]| now + beside).collect())
    }

    /// k after a step in which the whole space brought the probe's loss from `start` to `whole`, half of it to `half`.
    fn adapt_vectors(&mut self, k: usize, start: f64, whole: f64, half: f64) {
        let gain = |loss: f64, k: f64| {
            (start / loss.max(f64::MIN_POSITIVE)).ln().max(0.0)
                / (self.overhead() + space_passes(k, self.rows))
        };
        let k = k as f64;
        let factor = if gain(whole, k) > WORTH * gain(half, 0.5 * k) { 1.25 } else { 0.8 };
        self.vectors = (self.vectors * factor).clamp(VECTORS.1, VECTORS.2);
    }

    pub(super) fn visit(&mut self, memory: &mut Memory) {
        let Candidate { kappa, damping, length, momentum, vectors } = &mut self.last;
        memory.numbers("last", [kappa, damping, length, momentum, &mut self.vectors]);
        self.vectors = self.vectors.clamp(VECTORS.1, VECTORS.2);
        let mut count = *vectors as u64;
        memory.count("last_vectors", &mut count);
        *vectors = usize::try_from(count).unwrap_or(1);
        memory.parameters("moved", &mut self.moved);
    }
}

/// Passes that the products with J are worth, and the orthogonalization of what they give.
fn space_passes(k: f64, batch: usize) -> f64 {
    2.0 * PRODUCT * k + 2.0 * k * k / batch as f64
}

/// Coefficients of a candidate's step in the Krylov basis.
fn coefficients_of(ritz: &Ritz, candidate: &Candidate) -> Vec<f64> {
    let exponent = -0.5 * (1.0 + candidate.kappa);
    let lambda = candidate.damping * ritz.largest().powi(2);
    let step = ritz.step(|sigma| (sigma * sigma + lambda).powf(exponent));
    let best = if step.curvature > 0.0 { step.slope / step.curvature } else { 0.0 };
    step.coefficients.iter().map(|c| candidate.length * best * c).collect()
}
