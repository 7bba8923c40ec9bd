//! The notices of a run: each kind once, with the steps that said so.

use serde::{Deserialize, Serialize};

use super::{Position, Trainer};
use crate::linear::vectors::norm;
use crate::optimizer::{Notice, StepReport};

/// A notice, and when it was said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Noted {
    /// As it was last said: its numbers may change from step to step.
    pub notice: Notice,
    /// The first step that said so.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// How many said so.
    pub count: u64,
}

impl std::fmt::Display for Noted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { notice, first, last, count } = self;
        match count {
            1 => write!(f, "step {first}: {notice}"),
            _ => write!(f, "steps {first} to {last}, {count} times: {notice}"),
        }
    }
}

/// All of them, in the order of their first steps.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Notices(Vec<Noted>);

impl Notices {
    /// Takes in what a step said.
    pub(super) fn add(&mut self, notice: Notice, step: u64) {
        match self.0.iter_mut().find(|noted| noted.notice.kind() == notice.kind()) {
            Some(noted) => {
                noted.notice = notice;
                noted.last = step;
                noted.count += 1;
            }
            None => self.0.push(Noted { notice, first: step, last: step, count: 1 }),
        }
    }

    pub(super) fn as_slice(&self) -> &[Noted] {
        &self.0
    }

    /// Whether a run that has made so many steps can have saved this: a step says at most a few things.
    pub(super) fn is_plausible(&self, step: u64) -> bool {
        self.0.iter().all(|noted| noted.last <= step && noted.first <= noted.last && noted.count <= 4 * step)
    }
}

/// The loss after a run's first step over that before it, above which the learning rate is far too high; and how near
/// to 1 it is where the rate is far too low. Of the default runs, the one that came back from furthest had made 120
/// (docs/reliability.md).
const WILD: f64 = 1e3;
const IDLE: f64 = 1e-7;
/// A loss below which it may stay as it is by round-off.
const TINY: f64 = f64::EPSILON;
/// Steps in a row without a change of θ after which that is said.
const STILL: [u64; 3] = [100, 1000, 10_000];

impl Trainer {
    /// What a step did to θ, and what there is to say of it.
    pub(super) fn look_back(&mut self, report: &StepReport) {
        let still = self.standing.step(report, norm(&self.theta));
        self.pending.moved += u64::from(still == 0);
        let stands = (STILL.contains(&still) && self.standing.is_still(still))
            .then_some(Notice::Still { steps: still });
        let own = report.notice.clone();
        let rate = own.is_none().then(|| self.check_rate(report)).flatten();
        for notice in [own, rate, stands].into_iter().flatten() {
            self.pending.notice = Some(notice.clone());
            self.notices.add(notice, self.position.step);
        }
    }

    /// Whether the first step of an optimizer whose learning rate stays as it is has shown it to be far off.
    fn check_rate(&mut self, report: &StepReport) -> Option<Notice> {
        let Position { step, stage, stage_step, .. } = self.position;
        let first = step == stage_step + 1 && self.parts.stages[stage].scales() && !report.rejected;
        let rate = report.learning_rate.filter(|_| first)?;
        let (problem, theta) = (&mut self.turn.problem, &self.theta);
        let weight = problem.weight();
        let mut look = || problem.loss(theta).map_or(f64::INFINITY, |loss| loss / weight);
        let after = match &self.pool {
            Some(pool) => pool.install(look),
            None => look(),
        };
        let ratio = after / report.loss;
        let wild = !ratio.is_finite() || ratio > WILD;
        // Where the gradient is 0 no rate would help.
        let idle = (1.0 - ratio).abs() < IDLE && report.gradient_norm != Some(0.0);
        let told = report.loss > TINY && (wild || idle);
        let ratio = if ratio.is_finite() { ratio } else { f64::INFINITY };
        let model = self.parts.stages[stage].rate_by_model() && report.step_length.is_none();
        told.then_some(Notice::Rate { rate, ratio, model })
    }
}
