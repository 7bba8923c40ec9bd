//! Half-inverse gradients that need no setting: two ways to step, and a rule for whose turn it is.
//!
//! `Family` fits a mini-batch of about 512 rows of J by the best of eight steps from one Krylov space, at once and
//! greedily: ahead early, and where a mini-batch says nearly all there is to know. [`Kron`] accumulates curvature and
//! momentum over many mini-batches: ahead where the spectrum is flat, the data are fresh, or noise decides. Which of
//! the two earns its cost changes from problem to problem, and during a run.
//!
//! **Turns.** The leader takes turn after turn. Every few of them the other one has a turn as long, from the best θ so
//! far; it leads from then on if, in the second half of its turn, the log of the held-out loss fell faster per cost
//! than lately in the leader's turns. What it only wins back of a loss that rose in the first half does not count. A
//! challenge that fails costs its turn, nothing else, and the next one comes later. A turn is a twentieth of what was
//! spent so far, and a few steps at least; a challenge waits until it costs no more than a third of that, or no more
//! than that where the held-out loss has not come down by half yet. Where small mini-batches are why [`Kron`] led
//! first, the family's does not wait.
//!
//! **Cost** is in passes over a sample, each product with J, simulation, sweep back, factor and vector over parameters
//! counted; or in steps where a run ends after so many of them ([`Context::counted`]). The clock decides nothing.
//!
//! **Held-out samples** come from the training data and are not trained on. θ is where their loss was lowest at the end
//! of a turn. A turn that ends far above that, or with an error, or as the third of the leader's in a row that ends a
//! tenth above it, is taken back, and the leader starts again from θ. θ is judged within long turns too. Where the
//! caller gives another θ than the last step left, all starts from that.
//!
//! **Rate.** hig-kron's η is lowered by 30 % after each turn of its own that does not end at the lowest held-out loss
//! so far, and raised by 5 % after one that does, up to its default: with fresh data or few samples its momentum can
//! circle around what it looks for.
//!
//! **A way that fails** three times in a row is out of use: the other one leads, and the step's notice says why.
//!
//! **Mini-batches.** The family takes a part of a mini-batch that has more rows than it wants, another part at each
//! step, and up to eight of the last mini-batches together where they have fewer.
//!
//! **Without layers** that have Kronecker factors, as on an [opaque](crate::problem::Opaque) problem, the family is the
//! only way and no turn is challenged.
//!
//! Costs what the two cost. Challenges are a fifth of it at first, then a seventeenth.

mod family;
mod judge;
mod memory;
mod supply;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use self::family::{Family, Size, traversal};
use self::judge::Judge;
use self::memory::{Memory, Middle, Record};
use self::supply::{Kept, Supply};
use super::{
    Context, Kron, KronSettings, Notice, Numbers, Optimizer, Setup, Sizes, State, StateError, StepReport,
    Stores, Way, kron,
};
use crate::error::{SettingError, ShapeError};
use crate::fault::StepError;
use crate::linear::vectors::norm;
use crate::problem::{Problem, Samples};

/// hig-auto has nothing to set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AutoSettings {}

impl Setup for AutoSettings {
    const NAME: &'static str = "hig-auto";
    const ABOUT: &'static str =
        "half-inverse gradients that need no setting: a Krylov family and hig-kron in turns";
    const SCALES: bool = false;
    const HELD_OUT: bool = true;

    fn build(self, context: &Context) -> Result<Box<dyn Optimizer>, SettingError> {
        let auto = Auto::new(context);
        Ok(Box::new(auto.map_err(|error| SettingError::misfit("", error))?))
    }

    fn passes(&self, _: &Sizes) -> f64 {
        // What its two ways cost on the five tasks, about.
        9.0
    }

    fn numbers(&self, sizes: &Sizes) -> Numbers {
        let kron = KronSettings::default().numbers(sizes);
        let p = sizes.parameters as f64;
        Numbers {
            working: kron.working + family::numbers(p, ROWS as f64) + p,
            saved: kron.saved + 4.0 * p,
            stores: Stores::Nothing,
            solver: None,
        }
    }
}

/// The self-tuning optimizer and what it has learnt.
pub struct Auto {
    family: Family,
    /// Where the problem's layers have Kronecker factors.
    kron: Option<Kron>,
    /// What a step of it costs whatever the mini-batch, in passes over a sample.
    kron_overhead: f64,
    supply: Supply,
    judge: Judge,
    /// Samples of the mini-batches that are given.
    batch: usize,
    /// Whether progress counts per step, whatever a step costs, and not per pass over a sample.
    counted: bool,
    memory: Memory,
    /// θ as the last step left it; empty before the first one, and where a saved memory was taken back.
    given: Vec<f64>,
}

// What follows was found by trial on the five tasks (docs/auto.md has the experiments).

/// Rows of J in the family's mini-batch, about.
const ROWS: usize = 512;
/// Mini-batches that the family's holds at most; twice as many are given in the leader's turns before its first
/// challenge.
const BATCHES: usize = 8;
/// With fewer samples than this in the family's mini-batch, which then says little about others, [`Kron`] leads first.
const FEW: usize = 5;
/// Steps of a turn at least, and of a challenge by [`Kron`].
const STEPS: u32 = 4;
const KRON_STEPS: u32 = 32;
/// Times that a step of [`Kron`] reads or writes a vector over parameters.
const KRON_TRAVERSALS: f64 = 12.0;
/// A turn's part of what was spent so far.
const PART: f64 = 0.05;
/// Leader's turns before a challenge: the least, and the most.
const LEAST_PATIENCE: u32 = 4;
const MOST_PATIENCE: u32 = 16;
/// What a challenge may cost, of what was spent so far; and as long as the held-out loss has not come down to this part
/// of what it was at the start.
const AFFORDABLE: f64 = 1.0 / 3.0;
const IN_NEED: f64 = 1.0;
const POOR: f64 = 0.5;
/// What the leader's turns count for, one turn later.
const FADE: f64 = 0.5;
/// A turn that ends so many times above the best held-out loss is taken back.
const WORSE: f64 = 4.0;
/// So are this many of the leader's turns in a row that end this many times above it.
const CREPT_TURNS: u32 = 3;
const CREPT: f64 = 1.1;
/// What the rate of [`Kron`] is multiplied by after a turn of its own that ended at the lowest held-out loss so far,
/// and one that did not; and the least that becomes of it.
const FASTER: f64 = 1.05;
const SLOWER: f64 = 0.7;
const SLOWEST: f64 = 0.1;
/// Errors in a row that are taken back; one more ends the run.
const FAILURES: u32 = 8;
/// Errors of one way in a row after which the other one leads.
const OUT: u32 = 3;
/// θ is judged within a turn once the turn has spent this many times what judging costs.
const LOOK: f64 = 20.0;
/// Counts of a saved memory beyond which it is refused, so that they can count on.
const MOST: u32 = 1 << 30;

impl Auto {
    /// For problems of `context.source`. Steps are judged by `context.judges`, which training should not see. Each
    /// mini-batch is expected to have `context.batch` samples; others are taken.
    ///
    /// # Errors
    /// When there is no sample to judge by, a mini-batch has none, or outcomes have no component.
    pub fn new(context: &Context) -> Result<Self, ShapeError> {
        let Context { source, batch, samples, judges, counted, threads } = context;
        let outcomes = source.outcomes();
        ShapeError::check("the mini-batch", "sample or more", 1, (*batch).min(1))?;
        ShapeError::check("the outcome", "component or more", 1, outcomes.min(1))?;
        let wanted = (ROWS / outcomes).clamp(1, BATCHES * batch).min((*samples).max(1));
        let gathers = *batch < 2 * wanted;
        // Where mini-batches or samples are few, a step is to be chosen well rather than cheaply.
        let (parameters, sweeps, network) = (source.parameters(), source.sweeps(), source.factored());
        let work = network.map_or(parameters, crate::network::Network::work);
        let size = Size { samples: wanted, outcomes, parameters, work, sweeps };
        let family = Family::new(size, gathers || *counted, *threads);
        let kron = network.is_some().then(|| fresh_kron(*threads));
        let leader = if (gathers || wanted < FEW) && kron.is_some() { Way::Kron } else { Way::Krylov };
        let probed = family.probed();
        Ok(Self {
            supply: Supply::new(&**source, judges, (wanted, probed), *threads)?,
            judge: Judge::new(&**source, judges, *threads)?,
            given: Vec::new(),
            family,
            kron_overhead: network.map_or(0.0, |network| kron::overhead(&network.factor_shapes()))
                + KRON_TRAVERSALS * traversal(parameters),
            kron,
            batch: *batch,
            counted: *counted,
            memory: Memory::new(leader),
        })
    }

    /// The ways to step that the problem allows.
    #[must_use]
    pub fn ways(&self) -> Vec<Way> {
        if self.kron.is_some() { vec![Way::Krylov, Way::Kron] } else { vec![Way::Krylov] }
    }

    /// What a step of [`Kron`] on so many samples costs.
    fn kron_passes(&self, samples: usize) -> f64 {
        kron::PASSES * samples as f64 + self.kron_overhead
    }

    /// A step of whose turn it is.
    fn advance(&mut self, problem: &mut dyn Problem) -> Result<StepReport, StepError> {
        let way = self.memory.turn.way;
        let given = problem.samples().map_or(self.batch, Samples::len);
        let passes = match way {
            Way::Kron => self.kron_passes(given),
            Way::Krylov => self.family.passes(),
        };
        self.memory.turn.spent += if self.counted { 1.0 } else { passes };
        self.memory.unjudged += passes;
        if let Some(samples) = problem.samples() {
            self.supply.take(samples, way == Way::Krylov)?;
        }
        let at = &mut self.memory.turn.at;
        match (way, &mut self.kron) {
            (Way::Kron, Some(kron)) => {
                kron.slow_down(self.memory.rate);
                kron.step(problem, at)
            }
            _ => self.family.step(&mut self.supply, at),
        }
    }

    /// Makes θ what a turn has come to, where that is better than all before; returns how far θ moved.
    fn adopt(&mut self, theta: &mut [f64], at: &[f64], loss: f64) -> f64 {
        if self.memory.best.is_some_and(|best| loss >= best) {
            return 0.0;
        }
        let moved: Vec<f64> = at.iter().zip(&*theta).map(|(at, theta)| at - theta).collect();
        theta.copy_from_slice(at);
        self.memory.best = Some(loss);
        norm(&moved)
    }

    /// Judges the turn, keeps what is better than all before, and says whose turn is next. Returns how far θ moved.
    fn end_turn(&mut self, theta: &mut [f64], failed: bool) -> f64 {
        let at = std::mem::take(&mut self.memory.turn.at);
        let end = if failed { f64::INFINITY } else { self.judge.loss(&at) };
        let best = self.memory.best.unwrap_or(f64::INFINITY);
        let moved = self.adopt(theta, &at, end);
        let memory = &mut self.memory;
        memory.spent += memory.turn.spent;
        // Kron's own level gives way slowly, and a leader may creep up with it.
        let leads = memory.turn.way == memory.leader;
        memory.crept = if leads && end > CREPT * best { memory.crept + 1 } else { 0 };
        let worse = end > WORSE * best || memory.crept >= CREPT_TURNS;
        if worse {
            memory.crept = 0;
        }
        if leads && memory.turn.way == Way::Kron {
            let factor = if moved > 0.0 { FASTER } else { SLOWER };
            memory.rate = (factor * memory.rate).clamp(SLOWEST, 1.0);
        }
        // The next turn's θ, and its held-out loss where that is known.
        let (next, loss) = if worse { (theta.to_vec(), memory.best) } else { (at, Some(end)) };
        memory.turn.at = next;
        let loss =
            if leads { self.end_own_turn(end, worse, loss) } else { self.end_challenge(theta, end, loss) };
        let loss = self.next_way(theta, loss);
        self.begin_turn(loss);
        moved
    }

    /// After a turn of the leader's.
    fn end_own_turn(&mut self, end: f64, worse: bool, loss: Option<f64>) -> Option<f64> {
        if worse && let Some(kron) = &mut self.kron {
            kron.begin_anew();
        }
        let Memory { record, turn, .. } = &mut self.memory;
        record.turns += 1;
        record.cost = FADE * record.cost + turn.spent;
        record.fall = FADE * record.fall + (turn.start / end).ln();
        loss
    }

    /// After a challenge: who leads, and from where.
    fn end_challenge(&mut self, theta: &[f64], end: f64, loss: Option<f64>) -> Option<f64> {
        let Memory { leader, turn, record, patience, aside, best, .. } = &mut self.memory;
        let fall = (turn.start / end).ln();
        let Record { cost, fall: led, .. } = std::mem::take(record);
        // What a challenger needs to get going is not held against it.
        let middle = turn.middle.unwrap_or(Middle { loss: turn.start, spent: 0.0 });
        let rate = (middle.loss.min(turn.start) / end).ln() / (turn.spent - middle.spent);
        if end < f64::INFINITY && fall > 0.0 && rate * cost > led {
            *leader = turn.way;
            *patience = LEAST_PATIENCE;
            return loss;
        }
        *patience = (*patience * 3 / 2).clamp(LEAST_PATIENCE, MOST_PATIENCE);
        turn.at = std::mem::take(aside);
        // The family has no momentum to lose, and may as well go on from what its challenger found.
        if *leader == Way::Krylov {
            turn.at.copy_from_slice(theta);
            return *best;
        }
        None
    }

    /// Whose turn is next: the leader's, or a challenger's from the best θ so far.
    fn next_way(&mut self, theta: &[f64], loss: Option<f64>) -> Option<f64> {
        let poor = self.memory.best > self.memory.first.map(|first| POOR * first);
        let affordable =
            self.least_cost_of_challenge() <= if poor { IN_NEED } else { AFFORDABLE } * self.memory.spent;
        let other = Memory::other(self.memory.leader);
        if self.kron.is_some() && self.memory.is_out(self.memory.leader) && !self.memory.is_out(other) {
            self.memory.leader = other;
            self.memory.patience = MOST_PATIENCE;
        }
        let Memory { leader, turn, record, patience, aside, best, .. } = &mut self.memory;
        turn.way = *leader;
        let Some(kron) = self.kron.as_mut().filter(|_| record.turns >= *patience && affordable) else {
            return loss;
        };
        *aside = std::mem::replace(&mut turn.at, theta.to_vec());
        turn.way = Memory::other(*leader);
        if turn.way == Way::Kron {
            kron.begin_anew();
        }
        *best
    }

    /// What a challenge costs at least.
    fn least_cost_of_challenge(&self) -> f64 {
        let (steps, passes) = match self.memory.leader {
            Way::Krylov => (KRON_STEPS, self.kron_passes(self.batch)),
            Way::Kron if self.supply.wanted() < FEW => (STEPS, self.family.passes()),
            Way::Kron => return 0.0,
        };
        f64::from(steps) * if self.counted { 1.0 } else { passes }
    }

    /// From `turn.at`, with its held-out loss where that is known.
    fn begin_turn(&mut self, loss: Option<f64>) {
        let Memory { turn, leader, spent, .. } = &mut self.memory;
        turn.start = loss.unwrap_or_else(|| self.judge.loss(&turn.at));
        turn.length = PART * *spent;
        // A challenge at the very start is as long as what it challenges.
        if turn.way != *leader {
            turn.length = turn.length.max(turn.spent);
        }
        (turn.steps, turn.spent, turn.middle) = (0, 0.0, None);
    }

    /// Ends the turn where it is due, or looks at a challenge half-way. Returns how far θ moved.
    fn after_step(&mut self, theta: &mut [f64], failed: bool) -> f64 {
        let Memory { turn, leader, .. } = &self.memory;
        let challenge = turn.way != *leader;
        // Momentum needs its time before it can be judged.
        let least = if turn.way == Way::Kron && challenge { KRON_STEPS } else { STEPS };
        let done =
            |part: f64| f64::from(turn.steps) >= part * f64::from(least) && turn.spent >= part * turn.length;
        if failed || done(1.0) {
            return self.end_turn(theta, failed);
        }
        let half_way = challenge && turn.middle.is_none() && done(0.5);
        if !half_way && self.memory.unjudged < LOOK * self.judge.samples.len() as f64 {
            return 0.0;
        }
        let spent = turn.spent;
        let at = std::mem::take(&mut self.memory.turn.at);
        let loss = self.judge.loss(&at);
        let moved = self.adopt(theta, &at, loss);
        if half_way {
            self.memory.turn.middle = Some(Middle { loss, spent });
        }
        self.memory.turn.at = at;
        self.memory.unjudged = 0.0;
        moved
    }

    /// Starts from this θ, which is the caller's: what was learnt about another one is forgotten.
    fn start_from(&mut self, theta: &[f64]) -> Result<(), StepError> {
        let Memory { leader, turn, aside, best, record, crept, .. } = &mut self.memory;
        (*aside, *best, *record, *crept) = (Vec::new(), None, Record::default(), 0);
        turn.at = theta.to_vec();
        turn.way = *leader;
        if let Some(kron) = &mut self.kron {
            kron.begin_anew();
        }
        self.begin_turn(None);
        let loss = self.memory.turn.start;
        if !loss.is_finite() {
            // Nothing could be told to be better.
            return Err(self.judge.blame(theta));
        }
        self.memory.best = Some(loss);
        self.memory.first.get_or_insert(loss);
        Ok(())
    }
}

impl Optimizer for Auto {
    fn step(&mut self, problem: &mut dyn Problem, theta: &mut [f64]) -> Result<StepReport, StepError> {
        ShapeError::check("θ", "parameters", problem.parameters(), theta.len())?;
        if self.memory.best.is_none() || !self.given.is_empty() && self.given != theta {
            self.start_from(theta)?;
        }
        let way = self.memory.turn.way;
        self.memory.turn.steps += 1;
        let outcome = self.advance(problem);
        let failed = outcome.is_err();
        self.memory.failures = if failed { self.memory.failures + 1 } else { 0 };
        let of_way = &mut self.memory.failed[way as usize];
        *of_way = if failed { (*of_way + 1).min(MOST) } else { 0 };
        if let Err(error) = &outcome {
            self.memory.reason = error.to_string();
        }
        let update_norm = self.after_step(theta, failed);
        let report = match outcome {
            Ok(report) => report,
            Err(error)
                if self.memory.failures > FAILURES || self.memory.best.is_none_or(f64::is_infinite) =>
            {
                return Err(error);
            }
            Err(error) => {
                let loss = problem.loss(theta)? / problem.weight();
                if !loss.is_finite() {
                    return Err(error);
                }
                StepReport { loss, rejected: true, ..StepReport::default() }
            }
        };
        self.given.clear();
        self.given.extend_from_slice(theta);
        let out = [Way::Krylov, Way::Kron].into_iter().find(|&way| self.memory.is_out(way));
        let reason = || self.memory.reason.clone();
        let notice = out.map(|way| Notice::WayOut { way, reason: reason() }).or(report.notice);
        Ok(StepReport { way: Some(way), update_norm, notice, ..report })
    }

    fn save(&self) -> State {
        let kron = self.kron.as_ref().map(Optimizer::save);
        State::of(&(&self.memory, kron, self.family.save(), &self.supply.kept))
    }

    fn restore(&mut self, state: &State, parameters: usize) -> Result<(), StateError> {
        let (memory, kron, family, kept): (Memory, Option<State>, State, Kept) = state.read()?;
        for (name, vector, needed) in [
            ("at", &memory.turn.at, memory.best.is_some()),
            ("aside", &memory.aside, memory.turn.way != memory.leader),
        ] {
            StateError::check_length(name, vector, parameters)?;
            if needed && vector.is_empty() {
                return Err(StateError::refused(name));
            }
        }
        let Memory { turn, record, patience, failures, crept, .. } = &memory;
        if [turn.steps, record.turns, *patience, *failures, *crept].iter().any(|&count| count > MOST) {
            return Err(StateError::refused("counts"));
        }
        let ways = self.ways();
        if [memory.leader, turn.way].iter().any(|way| !ways.contains(way)) {
            return Err(StateError::refused("ways"));
        }
        if !(SLOWEST..=1.0).contains(&memory.rate) {
            return Err(StateError::refused("rate"));
        }
        if !kept.fits(&self.supply.kept, 2 * self.supply.wanted()) {
            return Err(StateError::refused("samples"));
        }
        match (&mut self.kron, &kron) {
            (Some(own), Some(state)) => own.restore(state, parameters)?,
            (None, None) => {}
            _ => return Err(StateError::refused("ways")),
        }
        self.family.restore(&family, parameters)?;
        self.given.clear();
        (self.memory, self.supply.kept) = (memory, kept);
        Ok(())
    }
}

/// With its default settings.
fn fresh_kron(threads: usize) -> Kron {
    Kron::new(KronSettings::default()).expect("its own defaults").on_threads(threads)
}
