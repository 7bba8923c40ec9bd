//! Half-inverse gradients that need no setting: three ways to step, and a rule for whose turn it is.
//!
//! `Family` fits a mini-batch of about 512 rows of J by the best of eight steps from one Krylov space, at once and
//! greedily: ahead early, and where a mini-batch says nearly all there is to know. [`Kron`] accumulates curvature and
//! momentum over many mini-batches: ahead where the spectrum is flat, the data are fresh, or noise decides. Which of
//! the two earns its cost changes from problem to problem, and during a run.
//!
//! **Opening.** Where the family's mini-batch has few samples, or is gathered of several, it says little of others, unless
//! there are no others; from
//! 300,000 parameters on its first steps take long. [`Kron`] wants some hundred steps to get going. In both cases
//! `Opening` makes steps at a gradient's price first, until it has cost as much as 64 steps of [`Kron`], which then leads
//! for 16 turns at least; in a network of three million parameters the opening takes ten seconds. A run that counts steps
//! goes without, and so does one whose evaluations take far longer than the network's arithmetic ([`Source::dear`]): its
//! few steps had better be thorough.
//!
//! **Turns.** The leader takes turn after turn. Every few of them the other one has a turn as long, from the best θ so
//! far; it leads from then on if, in the second half of its turn, the log of the held-out loss fell faster per cost
//! than lately in the leader's turns. What it only wins back of a loss that rose in the first half does not count. A
//! challenge that fails costs its turn, nothing else, and the next one comes later. A turn is a twentieth of what was
//! spent so far, and a few steps at least; a challenge waits until it costs no more than a third of that, or no more
//! than that where the held-out loss has not come down by half yet. The family's waits only where its mini-batch has few
//! samples.
//!
//! **Cost** is in passes over a sample, each product with J, simulation, sweep back, factor and vector over parameters
//! counted; or in steps where a run ends after so many of them ([`Context::counted`]) or evaluations are dear. The clock decides nothing.
//!
//! **Held-out samples** come from the training data and are not trained on. θ is where their loss was lowest at the end
//! of a turn. A turn that ends far above that, or with an error, or as the third of the leader's in a row that ends a
//! tenth above it, is taken back, and the leader starts again from θ. θ is judged within long turns too. Where the
//! caller gives another θ than the last step left, all starts from that.
//!
//! **Rate.** hig-kron's η is lowered by 30 % after each turn of its own that does not end at the lowest held-out loss
//! so far, and raised by 5 % after one that does, up to its default: with fresh data or few samples its momentum can
//! circle around what it looks for. The opening's goes the same way.
//!
//! **A way that fails** three times in a row is out of use: the other one leads, and the step's notice says why.
//!
//! **Mini-batches.** The family takes a part of a mini-batch that has more rows than it wants, another part at each
//! step, and up to eight of the last mini-batches together where they have fewer.
//!
//! **Without layers** that have Kronecker factors, as on an [opaque](crate::problem::Opaque) problem, the family is the
//! only way: there is no opening, and no turn is challenged.
//!
//! Costs what the ways cost. Challenges are a fifth of it at first, then a seventeenth.

mod family;
mod judge;
mod memory;
mod opening;
mod supply;
#[cfg(test)]
mod tests;
mod turns;

use serde::{Deserialize, Serialize};

use self::family::{Family, Size, traversal};
use self::judge::Judge;
use self::memory::{Memory, Record};
use self::opening::Opening;
use self::supply::{Kept, Supply};
use super::{
    Context, Kron, KronSettings, Notice, Numbers, Optimizer, Setup, Sizes, State, StateError, StepReport,
    Stores, Way, kron,
};
use crate::error::{SettingError, ShapeError};
use crate::fault::StepError;
#[cfg(doc)]
use crate::problem::Source;
use crate::problem::{Problem, Samples};
use crate::simulator::WIDTH;

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
        let family = family_samples(sizes.outcomes, sizes.batch);
        Numbers {
            working: kron.working + family::numbers(p, ROWS as f64) + p,
            saved: kron.saved + 4.0 * p,
            besides: vec![(family, Some(Stores::Products)), (2 * family, None), (sizes.judges, None)],
            ..Numbers::default()
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
    /// Before another way leads.
    opening: Option<Opening>,
    /// What reading or writing a vector over parameters costs, in passes over a sample.
    traversal: f64,
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
/// With fewer samples than this in the family's mini-batch, which then says little about others, it does not lead first.
const FEW: usize = 5;
/// From so many parameters on it does not either.
const LARGE: usize = 300_000;
/// Times that a step of [`Kron`] reads or writes a vector over parameters.
const KRON_TRAVERSALS: f64 = 12.0;
/// Leader's turns before a challenge: the least, and the most.
const LEAST_PATIENCE: u32 = 4;
const MOST_PATIENCE: u32 = 16;
/// The least part of its rate that [`Kron`] is left: with less data than parameters its noise decides in the end.
const SLOWEST: f64 = 0.01;
/// Errors in a row that are taken back; one more ends the run.
const FAILURES: u32 = 8;
/// Errors of one way in a row after which the other one leads.
const OUT: u32 = 3;
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
        let wanted = family_samples(outcomes, *batch).min((*samples).max(1));
        let gathers = *batch < 2 * wanted;
        // Where mini-batches or samples are few, a step is to be chosen well rather than cheaply.
        let (parameters, factors) = (source.parameters(), source.factors());
        let size =
            Size { samples: wanted, outcomes, parameters, work: source.work(), sweeps: source.sweeps() };
        let family = Family::new(size, gathers || *counted, *threads);
        let kron = (!factors.is_empty()).then(|| fresh_kron(*threads));
        // Where a mini-batch is all there is, the family knows all there is to know.
        let little = *batch < *samples && (gathers || wanted < FEW);
        let leader = match (little && !source.dear() || parameters >= LARGE, counted, &kron) {
            (true, false, Some(_)) => Way::Adam,
            (true, true, Some(_)) => Way::Kron,
            _ => Way::Krylov,
        };
        let probed = family.probed();
        Ok(Self {
            supply: Supply::new(&**source, judges, (wanted, probed), *threads)?,
            judge: Judge::new(&**source, judges, *threads)?,
            given: Vec::new(),
            family,
            kron_overhead: kron::overhead(&factors) + KRON_TRAVERSALS * traversal(parameters),
            kron,
            opening: (leader == Way::Adam).then(Opening::new),
            traversal: traversal(parameters),
            batch: *batch,
            counted: *counted || source.dear(),
            memory: Memory::new(leader),
        })
    }

    /// The ways to step that the problem allows.
    #[must_use]
    pub fn ways(&self) -> Vec<Way> {
        let offers = |&way: &Way| match way {
            Way::Krylov => true,
            Way::Kron => self.kron.is_some(),
            Way::Adam => self.opening.is_some(),
        };
        Way::ALL.into_iter().filter(offers).collect()
    }

    /// What a step of this way on so many samples costs, in passes over a sample.
    fn passes(&self, way: Way, samples: usize) -> f64 {
        match way {
            Way::Krylov => self.family.passes(),
            Way::Kron => kron::PASSES * samples as f64 + self.kron_overhead,
            Way::Adam => Opening::passes(samples, self.traversal),
        }
    }

    /// The way that challenges the leader, or leads after the opening.
    fn other(&self) -> Option<Way> {
        match (self.memory.leader, &self.kron) {
            (Way::Krylov | Way::Adam, Some(_)) => Some(Way::Kron),
            (Way::Kron | Way::Adam, _) => Some(Way::Krylov),
            (Way::Krylov, None) => None,
        }
    }

    /// A step of whose turn it is.
    fn advance(&mut self, problem: &mut dyn Problem) -> Result<StepReport, StepError> {
        let way = self.memory.turn.way;
        let given = problem.samples().map_or(self.batch, Samples::len);
        let passes = self.passes(way, given);
        self.memory.turn.spent += if self.counted { 1.0 } else { passes };
        self.memory.unjudged += passes;
        if let Some(samples) = problem.samples() {
            self.supply.take(samples, way == Way::Krylov)?;
        }
        let at = &mut self.memory.turn.at;
        match (way, &mut self.kron, &mut self.opening) {
            (Way::Kron, Some(kron), _) => {
                kron.slow_down(self.memory.rate);
                kron.step(problem, at)
            }
            (Way::Adam, _, Some(opening)) => opening.step(problem, at),
            _ => self.family.step(&mut self.supply, at),
        }
    }

    /// Starts from this θ, which is the caller's: what was learnt about another one is forgotten.
    fn start_from(&mut self, theta: &[f64]) -> Result<(), StepError> {
        let Memory { leader, turn, aside, best, record, crept, .. } = &mut self.memory;
        (*aside, *best, *record, *crept) = (Vec::new(), None, Record::default(), 0);
        turn.at = theta.to_vec();
        turn.way = *leader;
        self.begin_anew();
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
        // The opening rejects a step where those before it went wrong.
        let astray = way == Way::Adam && outcome.as_ref().is_ok_and(|report| report.rejected);
        let update_norm = self.after_step(theta, failed || astray);
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
        let out = self.ways().into_iter().find(|&way| self.memory.is_out(way));
        let reason = || self.memory.reason.clone();
        let notice = out.map(|way| Notice::WayOut { way, reason: reason() }).or(report.notice);
        Ok(StepReport { way: Some(way), update_norm, notice, ..report })
    }

    fn save(&self) -> State {
        let kron = self.kron.as_ref().map(Optimizer::save);
        let opening = self.opening.as_ref().map(Opening::save);
        State::of(&(&self.memory, kron, opening, self.family.save(), &self.supply.kept))
    }

    fn restore(&mut self, state: &State, parameters: usize) -> Result<(), StateError> {
        type Saved = (Memory, Option<State>, Option<State>, State, Kept);
        let (memory, kron, opening, family, kept): Saved = state.read()?;
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
        match (&mut self.opening, &opening) {
            (Some(own), Some(state)) => own.restore(state, parameters)?,
            (_, None) => self.opening = None,
            (None, Some(_)) => return Err(StateError::refused("ways")),
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

/// Samples of the family's mini-batch, at most; whole groups of those that a simulator takes at a time, from two on.
fn family_samples(outcomes: usize, batch: usize) -> usize {
    let samples = (ROWS / outcomes).clamp(1, BATCHES * batch);
    if samples < 2 * WIDTH { samples } else { samples - samples % WIDTH }
}

/// With its default settings.
fn fresh_kron(threads: usize) -> Kron {
    Kron::new(KronSettings::default()).expect("its own defaults").on_threads(threads)
}
