//! L-BFGS on mini-batches: the inverse Hessian from the last few steps, and a line search.
//!
//! Δ = H∇ by the two-loop recursion over pairs s = θ₊ − θ, y = ∇₊ − ∇, started from (sᵀy/yᵀy)·I. Both gradients of
//! a pair are taken on the same mini-batch, so that y is curvature and not noise; a pair whose sᵀy is not positive is
//! left out. The step is halved from η until L falls by 1e-4 of what the slope promises, at most 50 times, else not
//! made. Without pairs the first trial step is η/|∇| times the gradient where |∇| > 1.
//!
//! Parameters should be of one size: a step short enough for one of 1e-4 is lost in the round-off of one of 300. With
//! `scaling = "columns"` the recursion starts from γ·D^−2 instead, Dⱼ²/h the square of the length of column j of J at θ and γ
//! = sᵀy/(yᵀD^−2y), and without pairs from D^−2/P: D² is the diagonal of
//! the Gauss–Newton matrix, and P D² above it.
//!
//! Costs two gradients and at least one more simulation; memory 2·history·P. By columns one of the gradients is a linearization.
//!
//! Source: Nocedal, *Updating Quasi-Newton Matrices with Limited Storage*, Math. Comp. 35, 1980; the pairs on one
//! mini-batch: Schraudolph, Yu, Günter, AISTATS 2007; 10 pairs as in SciPy.

use std::collections::VecDeque;
use std::io::Write;

use serde::{Deserialize, Serialize};

use super::first_order::check_gradient;
use super::{
    Context, Notice, Numbers, Optimizer, Scaling, Setup, Sizes, State, StateError, StepReport, Stores,
    update_not_finite,
};
use crate::error::SettingError;
use crate::fault::StepError;
use crate::linear::vectors::{add, dot, norm};
use crate::problem::Problem;

/// Settings of [`Lbfgs`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LbfgsSettings {
    /// First trial step η.
    pub learning_rate: f64,
    /// Pairs that are remembered, from 1 to 1000.
    pub history: usize,
    /// The units in which parameters are equally free to move.
    pub scaling: Scaling,
}

impl Default for LbfgsSettings {
    fn default() -> Self {
        Self { learning_rate: 1.0, history: 10, scaling: Scaling::None }
    }
}

impl Setup for LbfgsSettings {
    const NAME: &'static str = "l-bfgs";
    const ABOUT: &'static str = "the inverse Hessian from the last few steps, with a line search";
    const STREAMS: bool = true;
    const SCALES: bool = false;

    fn build(self, _: &Context) -> Result<Box<dyn Optimizer>, SettingError> {
        Ok(Box::new(Lbfgs::new(self)?))
    }

    fn numbers(&self, sizes: &Sizes) -> Numbers {
        let (history, p) = (self.history as f64, sizes.parameters as f64);
        let saved = 2.0 * (history + 1.0) * p;
        let stores = if self.scaling == Scaling::Columns { Stores::Products } else { Stores::Nothing };
        Numbers { working: (2.0 * history + 1.0) * p, saved, stores, ..Numbers::default() }
    }
}

/// L-BFGS with its pairs.
#[derive(Debug, Clone)]
pub struct Lbfgs {
    settings: LbfgsSettings,
    pairs: VecDeque<Pair>,
    before: Vec<f64>,
    gradient: Vec<f64>,
    delta: Vec<f64>,
    /// D^−2; empty where parameters keep their own units.
    inverse: Vec<f64>,
}

/// A step and what it changed of the gradient.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Pair {
    s: Vec<f64>,
    y: Vec<f64>,
    /// 1/(sᵀy).
    rho: f64,
}

/// Share of the slope's promise that a step must keep (Armijo).
const SUFFICIENT: f64 = 1e-4;
/// Halvings of the step before it is given up: 1e-15 of it, since parameters of a fit may be as small as that.
const HALVINGS: u32 = 50;
/// A change of L relative to it that is round-off, with a margin for the simulator's.
const FLAT: f64 = 1e-14;
/// sᵀy relative to |s||y| below which a pair is round-off and says nothing about curvature.
const CURVED: f64 = 1e-10;

impl Lbfgs {
    /// With these settings.
    ///
    /// # Errors
    /// When η is not positive and finite, or the number of pairs is not from 1 to 1000.
    pub fn new(settings: LbfgsSettings) -> Result<Self, SettingError> {
        SettingError::check_positive("learning_rate", settings.learning_rate)?;
        if !(1..=1000).contains(&settings.history) {
            return Err(SettingError::new("history", settings.history, "from 1 to 1000"));
        }
        let (before, gradient, delta, inverse) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Ok(Self { settings, pairs: VecDeque::new(), before, gradient, delta, inverse })
    }

    /// L(θ), with its gradient and D^−2.
    fn evaluate(&mut self, problem: &mut dyn Problem, theta: &[f64]) -> Result<f64, StepError> {
        self.gradient.resize(theta.len(), 0.0);
        if self.settings.scaling == Scaling::None {
            return problem.gradient(theta, &mut self.gradient);
        }
        let mut at = problem.linearize(theta)?;
        at.jacobian.apply_transpose(at.gradient, &mut self.gradient)?;
        at.jacobian.sum(&mut self.gradient);
        self.inverse.resize(theta.len(), 0.0);
        at.jacobian.column_squares(&mut self.inverse)?;
        // A column of 0 moves nothing now.
        let inverse = |square: f64| if square > 0.0 { 1.0 / (at.curvature * square) } else { 0.0 };
        self.inverse.iter_mut().for_each(|square| *square = inverse(*square));
        Ok(at.loss)
    }

    /// Δ ← D^−2 Δ.
    fn rescale(&mut self) {
        self.delta.iter_mut().zip(&self.inverse).for_each(|(delta, inverse)| *delta *= inverse);
    }

    /// Δ ← H Δ.
    fn apply_inverse(&mut self) {
        let mut alphas = Vec::with_capacity(self.pairs.len());
        for pair in self.pairs.iter().rev() {
            let alpha = pair.rho * dot(&pair.s, &self.delta);
            add(&mut self.delta, -alpha, &pair.y);
            alphas.push(alpha);
        }
        self.rescale();
        if let Some(last) = self.pairs.back() {
            let square = if self.inverse.is_empty() {
                dot(&last.y, &last.y)
            } else {
                last.y.iter().zip(&self.inverse).map(|(y, inverse)| y * y * inverse).sum()
            };
            let scale = if square > 0.0 { 1.0 / (last.rho * square) } else { 1.0 };
            self.delta.iter_mut().for_each(|delta| *delta *= scale);
        }
        for (pair, alpha) in self.pairs.iter().zip(alphas.into_iter().rev()) {
            let beta = pair.rho * dot(&pair.y, &self.delta);
            add(&mut self.delta, alpha - beta, &pair.s);
        }
    }

    /// Remembers a step from the gradients before and after it.
    fn remember(&mut self, s: Vec<f64>, y: Vec<f64>) {
        let curvature = dot(&s, &y);
        if curvature > CURVED * norm(&s) * norm(&y) {
            if self.pairs.len() == self.settings.history {
                self.pairs.pop_front();
            }
            self.pairs.push_back(Pair { s, y, rho: 1.0 / curvature });
        }
    }
}

impl Optimizer for Lbfgs {
    fn step(&mut self, problem: &mut dyn Problem, theta: &mut [f64]) -> Result<StepReport, StepError> {
        let weight = problem.weight();
        let loss = self.evaluate(problem, theta)?;
        let length = check_gradient(&self.gradient)?;
        let gradient_norm = length / weight;
        // Where θ could change by its own size, or by 1, and L by no more than round-off.
        let vanishes = gradient_norm * norm(theta).max(1.0) <= FLAT * loss / weight;
        let notice = if vanishes { Notice::stationary(loss / weight) } else { None };
        let gradient_norm = Some(gradient_norm);
        self.delta.clone_from(&self.gradient);
        self.apply_inverse();
        let mut slope = dot(&self.gradient, &self.delta);
        if slope <= 0.0 {
            self.pairs.clear();
            self.delta.clone_from(&self.gradient);
            self.rescale();
            slope = dot(&self.gradient, &self.delta);
        }
        let mut rate = self.settings.learning_rate;
        if self.pairs.is_empty() {
            // P times the diagonal is above the Gauss–Newton matrix in every direction.
            rate /= if self.inverse.is_empty() { length.max(1.0) } else { theta.len() as f64 };
        }
        self.before.clear();
        self.before.extend_from_slice(theta);
        for _ in 0..=HALVINGS {
            let update_norm = rate * norm(&self.delta);
            if !update_norm.is_finite() {
                return Err(update_not_finite(&self.delta));
            }
            add(theta, -rate, &self.delta);
            // Where the simulator fails the step went too far.
            let after = problem.loss(theta).unwrap_or(f64::INFINITY);
            if after <= loss - SUFFICIENT * rate * slope {
                let mut y = vec![0.0; theta.len()];
                if problem.gradient(theta, &mut y).is_ok() {
                    add(&mut y, -1.0, &self.gradient);
                    let s = theta.iter().zip(&self.before).map(|(after, before)| after - before).collect();
                    self.remember(s, y);
                    return Ok(StepReport {
                        loss: loss / weight,
                        update_norm,
                        learning_rate: Some(rate),
                        gradient_norm,
                        notice,
                        ..StepReport::default()
                    });
                }
            }
            theta.copy_from_slice(&self.before);
            rate *= 0.5;
        }
        // The pairs promise a fall that is not there: forget them.
        self.pairs.clear();
        Ok(StepReport {
            loss: loss / weight,
            learning_rate: Some(rate),
            rejected: true,
            gradient_norm,
            notice,
            ..StepReport::default()
        })
    }

    fn save(&self) -> State {
        State::of(&self.pairs)
    }

    fn save_to(&self, out: &mut dyn Write) -> std::io::Result<()> {
        State::write(&self.pairs, out)
    }

    fn restore(&mut self, state: &State, parameters: usize) -> Result<(), StateError> {
        let pairs: VecDeque<Pair> = state.read()?;
        let fits = |pair: &Pair| pair.s.len() == parameters && pair.y.len() == parameters;
        if pairs.len() > self.settings.history || !pairs.iter().all(fits) {
            return Err(StateError::refused("pairs"));
        }
        self.pairs = pairs;
        Ok(())
    }
}
