//! What a run will need of memory, told from its settings alone, before anything of it is allocated; and what its
//! report's singular values may take of it.
//!
//! Counts the arrays that grow with n = b·m rows, P parameters, k Krylov vectors or the number of samples, eight bytes
//! a number; the program itself and small arrays are one constant. Checked against the peak of real runs by the tests
//! of the program.

use super::spectrum::{Run, SpectrumPlan, TooDear};
use super::{Named, Registry, Settings};
use crate::error::SettingError;
use crate::linear::{BLOCK, outcomes_together, rows_pay};
use crate::network::Network;
use crate::optimizer::{Numbers, Stores};
use crate::problem::AT_A_TIME;
use crate::ranks::PIECE;
use crate::simulator::Simulator;
use crate::spectral::Solver;
use crate::training::{OnFault, Schedule};

/// What of a run needs memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Samples.
    Data,
    /// A mini-batch on its way through network and simulator.
    MiniBatch,
    /// The optimizer's memory and what it computes with.
    Optimizer,
    /// Test samples on their way.
    Evaluation,
    /// A state to go back to; a checkpoint while it is written, where its bytes are made first.
    Checkpoint,
    /// Singular values in the report, beyond what they find free.
    Spectrum,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Data => "data",
            Self::MiniBatch => "mini-batch",
            Self::Optimizer => "optimizer",
            Self::Evaluation => "evaluation",
            Self::Checkpoint => "checkpoint",
            Self::Spectrum => "singular values in the report",
        })
    }
}

/// Bytes that a run needs, by what needs them.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// b, samples in a mini-batch of the optimizer that needs most.
    pub batch: usize,
    /// n, rows of J over that mini-batch.
    pub rows: usize,
    /// P, parameters.
    pub parameters: usize,
    /// The solver that a spectral optimizer will use.
    pub solver: Option<Solver>,
    /// What needs memory, and how many bytes.
    pub parts: Vec<(Part, u64)>,
    /// Bytes of a checkpoint with the best parameters.
    pub saved: u64,
    /// What the report's singular values are taken of.
    pub spectrum: Result<SpectrumPlan, TooDear>,
}

/// The program, its threads, and whatever is small.
const BASE: u64 = 8 << 20;

impl Forecast {
    /// For these settings, with the parts of a registry.
    ///
    /// # Errors
    /// The first setting that [`Task::with`](super::Task::with) would refuse before it draws data.
    pub fn new(settings: &Settings, registry: &Registry) -> Result<Self, SettingError> {
        let mut settings = settings.clone();
        registry.complete(&mut settings)?;
        Self::of(&Named::new(&settings, registry)?, &settings, registry)
    }

    /// The same, of what the settings name.
    pub(super) fn of(named: &Named, settings: &Settings, registry: &Registry) -> Result<Self, SettingError> {
        let (network, simulator) = (named.model.network(), named.model.simulator());
        let p = network.parameters() as f64;
        let sample = (network.inputs() + simulator.initials() + simulator.outcomes()) as f64;
        let (train, test) = (settings.data.train as f64, settings.data.test as f64);
        let most = most(named, settings, registry)?;
        let evaluated = settings.data.test.min(AT_A_TIME);
        let evaluation = batch_numbers(network, simulator, evaluated, sample, None);
        // Half as much again while they are drawn; and there is an order.
        let data = 1.5 * (train + test) * sample + train;
        // θ, the best one, the one before the last step, and the end's where that is the best; where only a part of a
        // step may be taken, the one before it.
        let rolls_back = settings.training.on_fault == OnFault::RollBack;
        let scaled = rolls_back || settings.training.schedule != Schedule::Constant;
        let kept = if scaled { 5.0 * p } else { 4.0 * p };
        // θ and the optimizer's memory, once more while a newer one is not known to be in order, and as bytes.
        let good = if rolls_back { 3.0 * most.saved } else { 0.0 };
        let run = Run {
            batch: settings.training.batch,
            steps: settings.known_steps(),
            passes: named.passes(settings, registry)?,
            bytes: 8.0 * most.working,
        };
        let spectrum = SpectrumPlan::new(&named.model, &run);
        let beyond =
            spectrum.as_ref().map_or(0.0, |plan| (plan.bytes(&named.model) / 8.0 - most.working).max(0.0));
        let numbers = [
            (Part::Data, data),
            (Part::MiniBatch, most.stored),
            (Part::Optimizer, most.working + kept),
            (Part::Evaluation, evaluation),
            (Part::Checkpoint, good + most.copied),
            (Part::Spectrum, beyond),
        ];
        Ok(Self {
            batch: most.batch,
            rows: most.batch * simulator.outcomes(),
            parameters: network.parameters(),
            solver: most.solver,
            parts: numbers.into_iter().map(|(what, numbers)| (what, bytes(numbers))).collect(),
            saved: bytes(most.saved + 2.0 * p + good),
            spectrum,
        })
    }

    /// The same with an SVD of J, its factors included, over so many samples in place of the report's singular values.
    #[must_use]
    pub(super) fn taking_apart(&self, rows: usize) -> Self {
        let mut forecast = self.clone();
        let (rows, p) = (rows as f64, self.parameters as f64);
        forecast.parts.retain(|(what, _)| *what != Part::Spectrum);
        forecast.parts.push((Part::Spectrum, bytes(3.0 * rows * p.max(rows))));
        forecast
    }

    /// The same of each of so many ranks, which share a run: what one sends and receives at a time, and its own rows of J where K
    /// is made of them. What they share is counted as on one.
    #[must_use]
    pub fn over(mut self, ranks: usize) -> Self {
        if ranks > 1 {
            let (p, block) = (self.parameters as f64, BLOCK as f64);
            let own = self.rows.div_ceil(ranks) as f64;
            // What is to be summed up, and what is sent and received of it at a time.
            let sum = |length: f64| length + 2.0 * length.min((ranks * PIECE) as f64);
            let more = match self.solver {
                Some(Solver::Gram) if self.rows <= self.parameters => own * p + sum(block * p),
                Some(Solver::Gram | Solver::Svd) => sum(block * p),
                _ => sum(p) - p,
            };
            for (_, needed) in self.parts.iter_mut().filter(|(part, _)| *part == Part::Optimizer) {
                *needed += bytes(more);
            }
        }
        self
    }

    /// Bytes in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        BASE + self.parts.iter().map(|(_, bytes)| bytes).sum::<u64>()
    }
}

/// Of the optimizer that needs most; they come one after the other.
#[derive(Default)]
struct Most {
    batch: usize,
    solver: Option<Solver>,
    /// Numbers of the mini-batch's problem, and of the optimizer while it works.
    stored: f64,
    working: f64,
    /// Numbers of the largest checkpoint, and of what is made of it before it is written.
    saved: f64,
    copied: f64,
}

fn most(named: &Named, settings: &Settings, registry: &Registry) -> Result<Most, SettingError> {
    let (network, simulator) = (named.model.network(), named.model.simulator());
    let p = network.parameters() as f64;
    let sample = (network.inputs() + simulator.initials() + simulator.outcomes()) as f64;
    let mut most = Most::default();
    for i in 0..=settings.before.len() {
        let (_, of, batch) = settings.turn(i);
        let entry = registry.entry(&of.name)?;
        let sizes = named.sizes(batch, settings.data.train);
        let Numbers { working, saved, stores, besides, solver } = entry.numbers(&of.settings, &sizes)?;
        let problems = besides.into_iter().chain([(batch, Some(stores))]);
        let stored: f64 =
            problems.map(|(b, stores)| batch_numbers(network, simulator, b, sample, stores)).sum();
        if working + stored >= most.working + most.stored {
            (most.batch, most.stored, most.working, most.solver) = (batch, stored, working, solver);
        }
        // With θ, and the one before the last step.
        most.saved = most.saved.max(2.0 * p + saved);
        if !entry.streams {
            // A memory in a memory is made twice.
            most.copied = most.copied.max(2.0 * (p + saved));
        }
    }
    Ok(most)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "far below 2^64")]
fn bytes(numbers: f64) -> u64 {
    8 * numbers as u64
}

/// Of a problem: samples, a pass through the network, simulator's tapes, and what J stores; None where only losses are
/// asked of it.
pub(super) fn batch_numbers(
    network: &Network,
    simulator: &dyn Simulator,
    batch: usize,
    sample: f64,
    stores: Option<Stores>,
) -> f64 {
    let (b, m) = (batch as f64, simulator.outcomes() as f64);
    let leaves = network.leaf_widths() as f64;
    let pass = network.inputs() as f64 + 2.0 * network.widths() as f64;
    let (blocks, rows) = (m * network.outputs() as f64, m * leaves);
    // Two matrices that a sweep works in; one back from several outcomes has its own.
    let sweep = 2.0 * network.widest() as f64;
    let of_several = sweep * outcomes_together(batch, simulator.outcomes()) as f64;
    let kept = match stores {
        None => 0.0,
        Some(Stores::Nothing) => sweep,
        Some(Stores::Blocks) => blocks + sweep,
        Some(Stores::Products) if !rows_pay(network, simulator.outcomes()) => blocks + sweep,
        Some(Stores::Products | Stores::Rows) => rows + sweep + of_several,
    };
    b * (sample + pass + 4.0 * m + network.outputs() as f64 + kept) + simulator.tape_len(batch) as f64
}
