//! Half-inverse gradients that need no setting: two ways to step, and a rule for whose turn it is.
//!
//! `Family` fits a mini-batch of about 512 rows of J by the best of eight steps from one Krylov space, at once and
//! greedily: ahead early, and where a mini-batch says nearly all there is to know. [`Kron`] accumulates curvature and
//! momentum over many mini-batches: ahead where the spectrum is flat, the data are fresh, or noise decides. Which of the two
//! earns its cost changes from problem to problem, and during a run.
//!
//! **Turns.** The leader takes turn after turn. Every few of them the other one has a turn as long, from the best θ so far;
//! it leads from then on if, in the second half of its turn, the log of the held-out loss fell faster per cost than lately in the
//! leader's turns. A challenge that fails costs its turn, nothing else, and the next one comes later. A turn is a twentieth of
//! what was spent so far, and a few steps at least; a challenge waits until it costs no more than a third of that.
//!
//! **Cost** is in passes over a sample, each product with J, simulation and sweep back counted; or in steps where a run
//! ends after so many of them ([`Scarce`]). The clock decides nothing.
//!
//! **Held-out samples** come from the training data and are not trained on. θ is where their loss was lowest at the end of a turn.
//! A turn that ends far above that, or with an error, or as the third of the leader's in a row that ends a tenth above it, is taken
//! back, and the leader starts again from θ.
//!
//! **Mini-batches.** The family takes a part of a mini-batch that has more rows than it wants, another part at each step, and
//! up to eight of the last mini-batches together where they have fewer.
//!
//! Costs what the two cost. Challenges are a fifth of it at first, then a seventeenth.

mod family;
mod probe;
#[cfg(test)]
mod tests;

use faer::Par;

use self::family::Family;
use super::{Kron, Memory, Optimizer, StepReport};
use crate::error::{ShapeError, StepError};
use crate::model::{Model, Problem, Samples};

/// The self-tuning optimizer and what it has learnt.
pub struct Auto {
    family: Family,
    kron: Kron,
    par: Par,
    /// Judges the ends of turns.
    judge: Problem,
    /// Mini-batch of the family, and as many other samples to judge its steps by.
    small: Problem,
    beside: Samples,
    /// Samples of the last mini-batches, where these are small.
    recent: Samples,
    /// Where the family is in a large mini-batch, or the next sample goes in `recent`.
    position: usize,
    scarce: Scarce,
    /// Samples of the mini-batches that are given.
    batch: usize,
    leader: Way,
    turn: Turn,
    /// Leader's turns since the last challenge: how many, their cost, and their fall of the log loss, the last ones first.
    led: (u32, f64, f64),
    /// Leader's turns before the next challenge.
    patience: u32,
    /// The leader's θ while it is challenged.
    aside: Vec<f64>,
    /// Held-out loss of θ.
    best: Option<f64>,
    /// What all turns have cost.
    spent: f64,
    /// Steps in a row that ended with an error.
    failures: u32,
    /// Leader's turns in a row that ended above θ.
    crept: u32,
}

/// What a run has least of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scarce {
    /// Time: progress counts per pass over a sample.
    Time,
    /// Mini-batches: progress counts per step, whatever a step costs.
    Data,
}

/// Who steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Family,
    Kron,
}

impl Way {
    fn other(self) -> Self {
        match self {
            Self::Family => Self::Kron,
            Self::Kron => Self::Family,
        }
    }

    fn name(self) -> &'static str {
        WAYS[self as usize]
    }
}

/// The names of the ways, in their order.
pub(crate) const WAYS: [&str; 2] = ["krylov", "kron"];

/// A turn under way.
struct Turn {
    way: Way,
    /// Where it has got to.
    at: Vec<f64>,
    /// Held-out loss at its start.
    start: f64,
    /// Half-way through a challenge, the held-out loss and what was spent.
    middle: Option<(f64, f64)>,
    steps: u32,
    spent: f64,
    length: f64,
}

/// Rows of J in the family's mini-batch, about.
const ROWS: usize = 512;
/// Mini-batches that the family's holds at most; twice as many are given in the leader's turns before its first challenge.
const BATCHES: usize = 8;
/// Steps of a turn at least, and of a challenge by [`Kron`].
const STEPS: u32 = 4;
const KRON_STEPS: u32 = 32;
/// A turn's part of what was spent so far.
const PART: f64 = 0.05;
/// Leader's turns before a challenge: the least, and the most.
const PATIENCE: (u32, u32) = (4, 16);
/// What a challenge may cost, of what was spent so far.
const AFFORDABLE: f64 = 1.0 / 3.0;
/// What the leader's turns count for, one turn later.
const MEMORY: f64 = 0.5;
/// A turn that ends so many times above the best held-out loss is taken back.
const WORSE: f64 = 4.0;
/// So are this many of the leader's turns in a row that end this many times above it.
const CREPT_TURNS: u32 = 3;
const CREPT: f64 = 1.1;
/// Errors in a row that are taken back; one more ends the run.
const FAILURES: u32 = 8;
/// What a step of Kron costs in passes over its mini-batch.
const KRON_PASSES: f64 = 4.0;

impl Auto {
    /// For a model, with samples that training does not see, on `threads` threads.
    ///
    /// # Errors
    /// When there is no held-out sample, or the samples' shapes do not fit the model.
    pub fn new(
        model: &Model,
        held: Samples,
        batch: usize,
        scarce: Scarce,
        threads: usize,
    ) -> Result<Self, ShapeError> {
        ShapeError::check("the held-out samples", "samples or more", 1, held.len().min(1))?;
        let simulator = model.simulator();
        let par = if threads > 1 { Par::rayon(threads) } else { Par::Seq };
        let rows = (ROWS / simulator.outcomes()).clamp(1, BATCHES * batch);
        let sweeps = simulator.outcomes().min(simulator.controls());
        let gathers = batch < 2 * rows;
        // Where mini-batches or samples are few, a step is to be chosen well rather than cheaply.
        let probe_all = gathers || scarce == Scarce::Data;
        let leader = if gathers { Way::Kron } else { Way::Family };
        Ok(Self {
            family: Family::new(rows, sweeps, probe_all, par, threads),
            kron: kron(par),
            par,
            small: Problem::new(model, held.zeros_like(rows), threads)?,
            beside: held.zeros_like(rows),
            recent: held.zeros_like(if gathers { 2 * rows } else { 0 }),
            judge: Problem::new(model, held, threads)?,
            position: 0,
            scarce,
            batch,
            leader,
            turn: Turn {
                way: leader,
                at: Vec::new(),
                start: 0.0,
                middle: None,
                steps: 0,
                spent: 0.0,
                length: 0.0,
            },
            led: (0, 0.0, 0.0),
            patience: PATIENCE.0,
            aside: Vec::new(),
            best: None,
            spent: 0.0,
            failures: 0,
            crept: 0,
        })
    }

    fn judge(&mut self, theta: &[f64]) -> f64 {
        let loss = self.judge.loss(theta).unwrap_or(f64::INFINITY);
        if loss.is_nan() { f64::INFINITY } else { loss }
    }

    /// Takes in what has been given, and where it is the family's turn draws its mini-batch and the samples beside it.
    fn draw(&mut self, batch: &Samples) {
        let wanted = self.turn.way == Way::Family;
        let (rows, given) = (self.small.samples().len(), batch.len());
        let from = |first: usize, of: usize| (0..rows).map(|i| (first + i) % of).collect::<Vec<_>>();
        if given >= 2 * rows {
            self.position = (self.position + rows) % given;
            if wanted {
                batch.gather(&from(self.position, given), self.small.samples_mut());
                batch.gather(&from(self.position + rows, given), &mut self.beside);
            }
        } else {
            let room = self.recent.len();
            self.recent.put(batch, self.position);
            self.position = (self.position + given) % room;
            if wanted {
                self.recent.gather(&from(self.position + room - rows, room), self.small.samples_mut());
                self.recent.gather(&from(self.position + room - 2 * rows, room), &mut self.beside);
            }
        }
    }

    /// A step of whose turn it is.
    fn advance(&mut self, problem: &mut Problem) -> Result<StepReport, StepError> {
        let passes = match self.turn.way {
            Way::Kron => KRON_PASSES * problem.samples().len() as f64,
            Way::Family => self.family.passes(),
        };
        self.turn.spent += match self.scarce {
            Scarce::Time => passes,
            Scarce::Data => 1.0,
        };
        self.draw(problem.samples());
        match self.turn.way {
            Way::Kron => self.kron.step(problem, &mut self.turn.at),
            Way::Family => {
                let report = self.family.step(&mut self.small, &mut self.turn.at, &self.beside)?;
                // As a loss of the mini-batch that was given.
                let loss = report.loss * self.small.per_sample() / problem.per_sample();
                Ok(StepReport { loss, ..report })
            }
        }
    }

    /// Judges the turn, keeps what is better than all before, and says whose turn is next.
    fn end_turn(&mut self, theta: &mut [f64], failed: bool) {
        let at = std::mem::take(&mut self.turn.at);
        let end = if failed { f64::INFINITY } else { self.judge(&at) };
        self.spent += self.turn.spent;
        let fall = (self.turn.start / end).ln();
        let best = self.best.unwrap_or(f64::INFINITY);
        if end < best {
            theta.copy_from_slice(&at);
            self.best = Some(end);
        }
        // Kron's own level gives way slowly, and a leader may creep up with it.
        self.crept = if self.turn.way == self.leader && end > CREPT * best { self.crept + 1 } else { 0 };
        let worse = end > WORSE * best || self.crept >= CREPT_TURNS;
        if worse {
            self.crept = 0;
        }
        // The next turn's θ, and its held-out loss where that is known.
        let (next, mut loss) = if worse { (theta.to_vec(), self.best) } else { (at, Some(end)) };
        self.turn.at = next;
        let challenge = self.turn.way != self.leader;
        if challenge {
            let (_, cost, led) = self.led;
            // What a challenger needs to get going is not held against it.
            let (middle, spent) = self.turn.middle.unwrap_or((self.turn.start, 0.0));
            let rate = (middle / end).ln() / (self.turn.spent - spent);
            if end < f64::INFINITY && fall > 0.0 && rate * cost > led {
                self.leader = self.turn.way;
                self.patience = PATIENCE.0;
            } else {
                self.patience = (self.patience * 3 / 2).clamp(PATIENCE.0, PATIENCE.1);
                (self.turn.at, loss) = (std::mem::take(&mut self.aside), None);
                // The family has no momentum to lose, and may as well go on from what its challenger found.
                if self.leader == Way::Family {
                    self.turn.at.copy_from_slice(theta);
                    loss = self.best;
                }
            }
            self.led = (0, 0.0, 0.0);
        } else {
            if worse {
                self.kron = kron(self.par);
            }
            self.led.0 += 1;
            self.led.1 = MEMORY * self.led.1 + self.turn.spent;
            self.led.2 = MEMORY * self.led.2 + fall;
        }
        self.turn.way = self.leader;
        if self.led.0 >= self.patience && self.least_cost_of_challenge() <= AFFORDABLE * self.spent {
            self.turn.way = self.leader.other();
            self.aside = std::mem::replace(&mut self.turn.at, theta.to_vec());
            loss = self.best;
            if self.turn.way == Way::Kron {
                self.kron = kron(self.par);
            }
        }
        self.begin_turn(loss);
    }

    /// What a challenge costs at least: as long as nothing much was spent, only [`Kron`]'s can be dear.
    fn least_cost_of_challenge(&self) -> f64 {
        match (self.leader, self.scarce) {
            (Way::Family, Scarce::Time) => f64::from(KRON_STEPS) * KRON_PASSES * self.batch as f64,
            (Way::Family, Scarce::Data) => f64::from(KRON_STEPS),
            (Way::Kron, _) => 0.0,
        }
    }

    /// From `turn.at`, with its held-out loss where that is known.
    fn begin_turn(&mut self, loss: Option<f64>) {
        let at = std::mem::take(&mut self.turn.at);
        self.turn.start = loss.unwrap_or_else(|| self.judge(&at));
        self.turn.at = at;
        self.turn.length = PART * self.spent;
        // A challenge at the very start is as long as what it challenges.
        if self.turn.way != self.leader {
            self.turn.length = self.turn.length.max(self.turn.spent);
        }
        (self.turn.steps, self.turn.spent, self.turn.middle) = (0, 0.0, None);
    }
}

impl Optimizer for Auto {
    fn step(&mut self, problem: &mut Problem, theta: &mut [f64]) -> Result<StepReport, StepError> {
        if self.best.is_none() {
            self.turn.at = theta.to_vec();
            self.begin_turn(None);
            self.best = Some(self.turn.start);
        }
        let way = self.turn.way;
        self.turn.steps += 1;
        let outcome = self.advance(problem);
        let failed = outcome.is_err();
        self.failures = if failed { self.failures + 1 } else { 0 };
        // Momentum needs its time before it can be judged.
        let least = if way == Way::Kron && way != self.leader { KRON_STEPS } else { STEPS };
        let done = |part: f64| {
            f64::from(self.turn.steps) >= part * f64::from(least)
                && self.turn.spent >= part * self.turn.length
        };
        if failed || done(1.0) {
            self.end_turn(theta, failed);
        } else if way != self.leader && self.turn.middle.is_none() && done(0.5) {
            let at = std::mem::take(&mut self.turn.at);
            let loss = self.judge(&at);
            if self.best.is_none_or(|best| loss < best) {
                theta.copy_from_slice(&at);
                self.best = Some(loss);
            }
            self.turn.middle = Some((loss, self.turn.spent));
            self.turn.at = at;
        }
        let report = match outcome {
            Ok(report) => report,
            Err(error) if self.failures > FAILURES || self.best.is_none_or(f64::is_infinite) => {
                return Err(error);
            }
            Err(error) => {
                let loss = problem.loss(theta)?;
                if !loss.is_finite() {
                    return Err(error);
                }
                StepReport { loss, rejected: true, ..StepReport::default() }
            }
        };
        Ok(StepReport { way: Some(way.name()), ..report })
    }

    fn visit(&mut self, problem: &Problem, memory: &mut Memory) {
        self.kron.visit(problem, memory);
        self.family.visit(memory);
        let ways = [self.leader, self.turn.way].map(|way| f64::from(u8::from(way == Way::Kron)));
        let [mut leader, mut way] = ways;
        memory.numbers("ways", [&mut leader, &mut way]);
        let of = |way: f64| if way == 1.0 { Way::Kron } else { Way::Family };
        (self.leader, self.turn.way) = (of(leader), of(way));
        let turn = &mut self.turn;
        let (mut middle, mut half) = turn.middle.unwrap_or((f64::NAN, f64::NAN));
        memory.numbers("turn", [&mut turn.start, &mut turn.spent, &mut turn.length, &mut middle, &mut half]);
        turn.middle = (!half.is_nan()).then_some((middle, half));
        let mut best = self.best.unwrap_or(f64::NAN);
        memory.numbers("judged", [&mut best, &mut self.spent, &mut self.led.1, &mut self.led.2]);
        self.best = (!best.is_nan()).then_some(best);
        for (name, count) in [
            ("turn_steps", &mut turn.steps),
            ("led", &mut self.led.0),
            ("patience", &mut self.patience),
            ("failures", &mut self.failures),
            ("crept", &mut self.crept),
        ] {
            memory.small_count(name, count);
        }
        let mut position = self.position as u64;
        memory.count("position", &mut position);
        self.position =
            usize::try_from(position).unwrap_or(0) % self.recent.len().max(problem.samples().len());
        memory.parameters("at", &mut turn.at);
        memory.parameters("aside", &mut self.aside);
        let challenge = turn.way != self.leader;
        for (name, vector, needed) in
            [("at", &turn.at, self.best.is_some()), ("aside", &self.aside, challenge)]
        {
            if needed && vector.is_empty() {
                memory.refuse(name);
            }
        }
        memory.matrix("recent.input", &mut self.recent.input);
        memory.matrix("recent.initial", &mut self.recent.initial);
        memory.matrix("recent.target", &mut self.recent.target);
    }
}

/// With its default settings.
fn kron(par: Par) -> Kron {
    let (learning_rate, kappa, damping) = Kron::DEFAULTS;
    Kron::new(learning_rate, kappa, damping, par).expect("its own defaults")
}
