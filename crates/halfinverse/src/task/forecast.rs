//! What a run will need of memory, told from its settings alone, before anything of it is allocated.
//!
//! Counts the arrays that grow with n = b·m rows, P parameters, k Krylov vectors or the number of samples, eight bytes
//! a number; the program itself and small arrays are one constant. Checked against the peak of real runs by the tests
//! of the program.

use super::{Named, Registry, Settings};
use crate::error::SettingError;
use crate::network::Network;
use crate::optimizer::{Numbers, Stores};
use crate::problem::AT_A_TIME;
use crate::simulator::Simulator;
use crate::spectral::Solver;
use crate::training::OnFault;

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
    /// A checkpoint while it is written, and a state to go back to.
    Checkpoint,
    /// Singular values in the report.
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
}

/// The program, its threads, and whatever is small.
const BASE: u64 = 8 << 20;
/// Rows of J that a spectrum is taken of, at most.
pub(super) const SPECTRUM_ROWS: usize = 512;

impl Forecast {
    /// For these settings, with the parts of a registry.
    ///
    /// # Errors
    /// The first setting that [`Task::with`](super::Task::with) would refuse before it draws data.
    pub fn new(settings: &Settings, registry: &Registry) -> Result<Self, SettingError> {
        Self::of(&Named::new(settings, registry)?, settings, registry)
    }

    /// The same, of what the settings name.
    pub(super) fn of(named: &Named, settings: &Settings, registry: &Registry) -> Result<Self, SettingError> {
        let (network, simulator) = (named.model.network(), named.model.simulator());
        let p = network.parameters() as f64;
        let sample = (network.inputs() + simulator.initials() + simulator.outcomes()) as f64;
        let (train, test) = (settings.data.train as f64, settings.data.test as f64);
        let mut most = Self {
            batch: settings.training.batch,
            rows: settings.training.batch * simulator.outcomes(),
            parameters: network.parameters(),
            solver: None,
            parts: Vec::new(),
        };
        // Optimizers come one after the other: the one that needs most decides.
        let (mut batches, mut optimizer, mut saved) = (0.0, 0.0, 0.0);
        for i in 0..=settings.before.len() {
            let (_, of, batch) = settings.turn(i);
            let Numbers { working, saved: own, stores, solver } =
                registry.entry(&of.name)?.numbers(&of.settings, &named.sizes(batch))?;
            let stored = batch_numbers(network, simulator, batch, sample, stores);
            if working + stored >= optimizer + batches {
                (batches, optimizer) = (stored, working);
                let rows = batch * simulator.outcomes();
                (most.batch, most.rows, most.solver) = (batch, rows, solver);
            }
            saved = f64::max(saved, p + own);
        }
        let evaluated = settings.data.test.min(AT_A_TIME);
        let evaluation = batch_numbers(network, simulator, evaluated, sample, Stores::Nothing);
        let spectrum_rows = (settings.training.batch * simulator.outcomes()).min(SPECTRUM_ROWS) as f64;
        // Half as much again while they are drawn; and there is an order.
        let data = 1.5 * (train + test) * sample + train;
        // The numbers, their bytes and the file's, once more for a state that is kept, and that state itself; the best
        // parameters and theirs.
        let rolls_back = settings.training.on_fault == OnFault::RollBack;
        let checkpoint = if rolls_back { 7.0 * saved } else { 3.0 * saved } + 3.0 * p;
        let numbers = [
            (Part::Data, data),
            (Part::MiniBatch, batches),
            (Part::Optimizer, optimizer + 6.0 * p),
            (Part::Evaluation, evaluation),
            (Part::Checkpoint, checkpoint),
            (Part::Spectrum, 3.0 * spectrum_rows * p.max(spectrum_rows)),
        ];
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "far below 2^64")]
        let bytes = |numbers: f64| 8 * numbers as u64;
        most.parts = numbers.into_iter().map(|(what, numbers)| (what, bytes(numbers))).collect();
        Ok(most)
    }

    /// Bytes in all. The report's singular values come when the optimizer's arrays still stand.
    #[must_use]
    pub fn total(&self) -> u64 {
        BASE + self.parts.iter().map(|(_, bytes)| bytes).sum::<u64>()
    }
}

/// Of a problem: samples, a pass through the network, simulator's tapes, and what J stores.
fn batch_numbers(
    network: &Network,
    simulator: &dyn Simulator,
    batch: usize,
    sample: f64,
    stores: Stores,
) -> f64 {
    let (b, m) = (batch as f64, simulator.outcomes() as f64);
    let leaves: f64 = network.factor_shapes().iter().map(|shape| shape.outputs as f64).sum();
    let pass = network.inputs() as f64 + 2.0 * network.widths() as f64;
    let kept = match stores {
        Stores::Nothing => 0.0,
        Stores::Blocks => m * network.outputs() as f64,
        Stores::Rows => m * leaves,
    };
    b * (sample + pass + 4.0 * m + network.outputs() as f64 + kept) + simulator.tape_len(batch) as f64
}
