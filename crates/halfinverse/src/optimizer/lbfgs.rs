//! L-BFGS on mini-batches: the inverse Hessian from the last few steps, and a line search.
//!
//! Δ = H∇ by the two-loop recursion over pairs s = θ₊ − θ, y = ∇₊ − ∇, started from (sᵀy/yᵀy)·I. Both gradients of
//! a pair are taken on the same mini-batch, so that y is curvature and not noise; a pair whose sᵀy is not positive is left
//! out. The step is halved from η until L falls by 1e-4 of what the slope promises, at most 20 times, else not made.
//! Without pairs the first trial step is η/|∇| times the gradient where |∇| > 1.
//!
//! Costs two gradients and at least one more simulation; memory 2·history·P.
//!
//! Source: Nocedal, *Updating Quasi-Newton Matrices with Limited Storage*, Math. Comp. 35, 1980; the pairs on one
//! mini-batch: Schraudolph, Yu, Günter, AISTATS 2007; 10 pairs as in SciPy.

use std::collections::VecDeque;

use super::first_order::check_gradient;
use super::{Memory, Optimizer, StepReport, check_learning_rate, descend};
use crate::columns::{dot, norm};
use crate::error::{SettingError, StepError};
use crate::model::Problem;

/// L-BFGS with its pairs.
#[derive(Debug, Clone)]
pub struct Lbfgs {
    learning_rate: f64,
    history: usize,
    pairs: VecDeque<Pair>,
    gradient: Vec<f64>,
    delta: Vec<f64>,
}

/// A step and what it changed of the gradient.
#[derive(Debug, Clone, Default)]
struct Pair {
    s: Vec<f64>,
    y: Vec<f64>,
    /// 1/(sᵀy).
    rho: f64,
}

/// Share of the slope's promise that a step must keep (Armijo).
const SUFFICIENT: f64 = 1e-4;
/// Halvings of the step before it is given up.
const HALVINGS: u32 = 20;
/// sᵀy relative to |s||y| below which a pair says nothing about curvature.
const CURVED: f64 = 1e-10;

impl Lbfgs {
    /// With first trial step η and so many pairs.
    ///
    /// # Errors
    /// When η is not positive and finite, or the number of pairs is not from 1 to 1000.
    pub fn new(learning_rate: f64, history: usize) -> Result<Self, SettingError> {
        check_learning_rate(learning_rate)?;
        if !(1..=1000).contains(&history) {
            return Err(SettingError::new("optimizer.history", history, "from 1 to 1000"));
        }
        Ok(Self { learning_rate, history, pairs: VecDeque::new(), gradient: Vec::new(), delta: Vec::new() })
    }

    /// Δ ← H Δ.
    fn apply_inverse(&mut self) {
        let mut alphas = Vec::with_capacity(self.pairs.len());
        for pair in self.pairs.iter().rev() {
            let alpha = pair.rho * dot(&pair.s, &self.delta);
            add(&mut self.delta, -alpha, &pair.y);
            alphas.push(alpha);
        }
        if let Some(last) = self.pairs.back() {
            let scale = 1.0 / (last.rho * dot(&last.y, &last.y));
            self.delta.iter_mut().for_each(|delta| *delta *= scale);
        }
        for (pair, alpha) in self.pairs.iter().zip(alphas.into_iter().rev()) {
            let beta = pair.rho * dot(&pair.y, &self.delta);
            add(&mut self.delta, alpha - beta, &pair.s);
        }
    }

    /// Remembers a step from the gradients before and after it.
    fn remember(&mut self, mut pair: Pair) {
        let curvature = dot(&pair.s, &pair.y);
        if curvature > CURVED * norm(&pair.s) * norm(&pair.y) {
            pair.rho = 1.0 / curvature;
            if self.pairs.len() == self.history {
                self.pairs.pop_front();
            }
            self.pairs.push_back(pair);
        }
    }
}

impl Optimizer for Lbfgs {
    fn step(&mut self, problem: &mut Problem, theta: &mut [f64]) -> Result<StepReport, StepError> {
        self.gradient.resize(theta.len(), 0.0);
        let loss = problem.gradient(theta, &mut self.gradient)?;
        check_gradient(&self.gradient)?;
        self.delta.clone_from(&self.gradient);
        self.apply_inverse();
        let mut slope = dot(&self.gradient, &self.delta);
        if slope <= 0.0 {
            self.pairs.clear();
            self.delta.clone_from(&self.gradient);
            slope = dot(&self.gradient, &self.gradient);
        }
        let mut rate = self.learning_rate;
        if self.pairs.is_empty() {
            rate /= norm(&self.gradient).max(1.0);
        }
        let before = theta.to_vec();
        for _ in 0..=HALVINGS {
            let update_norm = descend(theta, &self.delta, rate)?;
            // Where the simulator fails the step went too far.
            let after = problem.loss(theta).unwrap_or(f64::INFINITY);
            if after <= loss - SUFFICIENT * rate * slope {
                let mut y = vec![0.0; theta.len()];
                if problem.gradient(theta, &mut y).is_ok() {
                    add(&mut y, -1.0, &self.gradient);
                    let s = theta.iter().zip(&before).map(|(after, before)| after - before).collect();
                    self.remember(Pair { s, y, rho: 0.0 });
                    return Ok(StepReport {
                        loss,
                        update_norm,
                        learning_rate: rate,
                        ..StepReport::default()
                    });
                }
            }
            theta.copy_from_slice(&before);
            rate *= 0.5;
        }
        // The pairs promise a fall that is not there: forget them.
        self.pairs.clear();
        Ok(StepReport { loss, learning_rate: rate, rejected: true, ..StepReport::default() })
    }

    fn visit(&mut self, problem: &Problem, memory: &mut Memory) {
        let all = |part: fn(&Pair) -> &Vec<f64>| self.pairs.iter().flat_map(|p| part(p).clone()).collect();
        let (mut steps, mut changes): (Vec<f64>, Vec<f64>) = (all(|pair| &pair.s), all(|pair| &pair.y));
        let mut count = self.pairs.len() as u64;
        memory.count("pairs", &mut count);
        memory.vector("steps", &mut steps);
        memory.vector("changes", &mut changes);
        let length = problem.model().network().parameters();
        for (name, vector) in [("steps", &mut steps), ("changes", &mut changes)] {
            if Some(vector.len() as u64) != count.checked_mul(length as u64) {
                vector.clear();
                memory.refuse(name);
            }
        }
        if !memory.taking_back() {
            return;
        }
        self.pairs.clear();
        for (s, y) in steps.chunks(length).zip(changes.chunks(length)) {
            self.remember(Pair { s: s.to_vec(), y: y.to_vec(), rho: 0.0 });
        }
    }
}

/// a ← a + c·b.
fn add(a: &mut [f64], c: f64, b: &[f64]) {
    for (a, b) in a.iter_mut().zip(b) {
        *a += c * b;
    }
}
