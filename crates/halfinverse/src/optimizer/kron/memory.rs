//! What hig-kron's next step depends on, and how it changes from step to step.

use serde::{Deserialize, Serialize};

use super::factors::Factors;
use super::ratio::Ratio;
use super::{CREEP, MOST_DAMPING, RUNAWAY};
use crate::linear::columns::vectorized;

/// What the level rises by in a step at most.
const RISE: f64 = 1.001;
/// a = AGE/(AGE + age), not below LEAST.
const AGE: f64 = 8.0;
const LEAST: f64 = 1e-3;
/// The mean of ϑ spans about the last 1/MEAN of the steps.
const MEAN: f64 = 21.0;
/// The least part of η, and of the age's growth, that steps gone wrong leave.
const LEAST_CAUTION: f64 = 1e-3;

/// What the next step depends on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Memory {
    pub(super) clock: Clock,
    /// Damping.
    pub(super) lambda: f64,
    /// Part of η that is used; below 1 after a step gone wrong.
    pub(super) caution: f64,
    pub(super) momentum: Age,
    pub(super) level: Level,
    /// The fall of a mini-batch's loss along d over what the quadratic model foretold, when last measured.
    pub(super) reduction: f64,
    pub(super) agreement: Ratio,
    /// h|J d|² over −∇·d.
    pub(super) curvature: Ratio,
    /// ∇·d of the last step.
    pub(super) slope: f64,
    pub(super) factors: Vec<Factors>,
    pub(super) motion: Motion,
}

/// Counts of steps.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Clock {
    /// Steps started.
    pub(super) started: u64,
    /// Steps accepted: their mini-batch did not find ϑ wrong.
    pub(super) accepted: u64,
    /// The step at which the factors' powers are made anew.
    pub(super) refresh: u64,
}

/// Age, which sets a = AGE/(AGE + age), and its growth per step.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Age {
    pub(super) age: f64,
    pub(super) growth: f64,
}

/// Mean losses of mini-batches, per sample.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Level {
    /// Running mean.
    pub(super) recent: f64,
    /// The lowest that it lately was; rises by at most RISE a step.
    pub(super) lowest: f64,
}

/// Vectors over parameters.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Motion {
    /// ϑ.
    pub(super) iterate: Vec<f64>,
    /// m.
    pub(super) ahead: Vec<f64>,
    /// ∇ at ϑ; made anew in every step.
    #[serde(skip)]
    pub(super) gradient: Vec<f64>,
    /// d.
    pub(super) direction: Vec<f64>,
}

impl Memory {
    pub(super) fn new(damping: f64) -> Self {
        Self {
            clock: Clock::default(),
            lambda: damping,
            caution: 1.0,
            momentum: Age { age: 0.0, growth: 1.0 },
            level: Level::default(),
            reduction: 1.0,
            agreement: Ratio::default(),
            curvature: Ratio::default(),
            slope: 0.0,
            factors: Vec::new(),
            motion: Motion::default(),
        }
    }

    /// ϑ back to θ, without momentum.
    pub(super) fn retreat(&mut self, theta: &[f64]) {
        self.motion.iterate.copy_from_slice(theta);
        for vector in [&mut self.motion.ahead, &mut self.motion.direction] {
            vector.fill(0.0);
        }
        self.slope = 0.0;
        self.momentum.age *= 0.5;
        self.momentum.growth = (0.5 * self.momentum.growth).max(LEAST_CAUTION);
        self.caution = (0.5 * self.caution).max(LEAST_CAUTION);
        self.lambda = (4.0 * self.lambda).min(MOST_DAMPING);
        self.clock.refresh = 0;
        self.level.lowest *= 1.25;
        self.level.recent = self.level.lowest;
        self.agreement = Ratio::default();
    }

    /// Whether a mini-batch's loss at ϑ is in keeping with those before.
    pub(super) fn accepts(&mut self, loss: f64) -> bool {
        let first = self.clock.accepted == 0;
        let keep = if first { 0.0 } else { 0.9 };
        let Level { recent, lowest } = &mut self.level;
        *recent = keep * *recent + (1.0 - keep) * loss;
        first || loss <= RUNAWAY * *lowest && *recent <= CREEP * *lowest
    }

    /// Takes in that this mini-batch has not found ϑ wrong; returns the weight with which ϑ is to be taken into θ.
    pub(super) fn accept(&mut self) -> f64 {
        let Level { recent, lowest } = &mut self.level;
        *lowest = if self.clock.accepted == 0 { *recent } else { recent.min(RISE * *lowest) };
        let weight = MEAN / (self.clock.accepted as f64 + MEAN);
        self.clock.accepted += 1;
        self.momentum.age += self.momentum.growth;
        self.momentum.growth = (1.002 * self.momentum.growth).min(1.0);
        self.caution = (1.01 * self.caution).min(1.0);
        weight
    }

    /// m and ϑ of the next step; ν is the part of a full step that α is.
    pub(super) fn advance(&mut self, alpha: f64, nu: f64) {
        let a = (AGE / (AGE + self.momentum.age)).max(LEAST);
        let gamma = (1.0 - a) / (1.0 + a);
        let back = 0.5 * (1.0 - gamma) * (1.0 - nu).max(0.0);
        let Motion { iterate, ahead, direction, .. } = &mut self.motion;
        vectorized(
            #[inline(always)]
            || {
                for ((m, d), x) in ahead.iter_mut().zip(direction).zip(iterate) {
                    let step = alpha * *d;
                    *m = gamma * (*m + step) - back * step;
                    *x += step + *m;
                }
            },
        );
    }
}
