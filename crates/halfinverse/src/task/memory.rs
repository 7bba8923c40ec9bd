//! What a run will need of memory, told from its settings alone, before anything of it is allocated.
//!
//! Counts the arrays that grow with n = b·m rows, P parameters, k Krylov vectors or the number of samples, eight bytes a number;
//! the program itself and small arrays are one constant. Checked against the peak of real runs by the tests of the program.

use super::{OnFault, OptimizerSettings, Settings, Task};
use crate::error::SettingError;
use crate::network::Mlp;
use crate::simulator::Simulator;
use crate::spectral::{Filter, Solver};

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
/// Krylov vectors of hig-auto at most, and its candidates.
const AUTO: (f64, f64) = (128.0, 9.0);

impl Forecast {
    /// For these settings.
    ///
    /// # Errors
    /// The first setting that [`Task::new`] would refuse before it draws data.
    pub fn new(settings: &Settings) -> Result<Self, SettingError> {
        let (simulation, network) = Task::parts(settings)?;
        let simulator = simulation.simulator();
        let (m, p) = (simulator.outcomes() as f64, network.parameters() as f64);
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
            let rows = batch * simulator.outcomes();
            let solver = of.solver().map(|solver| resolve(of, solver, rows, network.parameters()));
            let own = optimizer_numbers(of, solver, batch as f64, m, &network);
            let stored = batch_numbers(&network, simulator, batch, sample, blocks(of, solver));
            if own + stored >= optimizer + batches {
                (batches, optimizer) = (stored, own);
                (most.batch, most.rows, most.solver) = (batch, rows, solver);
            }
            saved = f64::max(saved, p + saved_numbers(of, &network));
        }
        let evaluated = settings.data.test.min(crate::model::AT_A_TIME);
        let evaluation = batch_numbers(&network, simulator, evaluated, sample, Blocks::None);
        let spectrum_rows = (settings.training.batch * simulator.outcomes()).min(SPECTRUM_ROWS) as f64;
        // The trainer has a copy of the task and an order of the samples, the evaluator a copy of the test data.
        let data = 2.0 * (train + test) * sample + test * sample + train;
        // The numbers, their bytes and the file's, once more for a state that is kept, and that state itself.
        let rolls_back = settings.training.on_fault == OnFault::RollBack;
        let checkpoint = if rolls_back { 7.0 * saved } else { 3.0 * saved };
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

/// What of J a step stores besides the network's activations.
#[derive(Clone, Copy, PartialEq)]
enum Blocks {
    None,
    /// The simulator's blocks.
    Last,
    /// Dₗ of every layer.
    All,
}

fn blocks(optimizer: &OptimizerSettings, solver: Option<Solver>) -> Blocks {
    match solver {
        Some(_) => Blocks::All,
        None if optimizer.needs_blocks() => Blocks::Last,
        None => Blocks::None,
    }
}

fn resolve(optimizer: &OptimizerSettings, solver: Solver, rows: usize, parameters: usize) -> Solver {
    let truncation = match *optimizer {
        OptimizerSettings::Hig { truncation, .. } | OptimizerSettings::Gn { truncation, .. } => truncation,
        _ => 0.0,
    };
    Filter::power(1.0, truncation).map_or(solver, |filter| solver.resolve(rows, parameters, &filter))
}

/// Of `Problem`: samples, a pass through the network, simulator's record, and what J stores.
fn batch_numbers(network: &Mlp, simulator: &dyn Simulator, batch: usize, sample: f64, blocks: Blocks) -> f64 {
    let (b, m) = (batch as f64, simulator.outcomes() as f64);
    let widths: f64 = network.layers().iter().map(|layer| layer.outputs as f64).sum();
    let pass = 2.0 * (network.inputs() as f64 + widths);
    let stored = match blocks {
        Blocks::None => 0.0,
        Blocks::Last => m * network.outputs() as f64,
        Blocks::All => m * widths,
    };
    b * (sample + pass + 4.0 * m + network.outputs() as f64 + stored) + simulator.record_len(batch) as f64
}

/// Of the optimizer and its solver.
fn optimizer_numbers(
    settings: &OptimizerSettings,
    solver: Option<Solver>,
    batch: f64,
    m: f64,
    network: &Mlp,
) -> f64 {
    let (n, p) = (batch * m, network.parameters() as f64);
    let small = n.min(p);
    let kron = 5.0 * p + 4.0 * factors(network);
    let spectral = match solver {
        // J, its copies that are taken apart, U and V.
        Some(Solver::Svd) => 3.0 * n * p + small * (n + p),
        // K, its tridiagonal form and eigenvectors; JᵀJ is made of J's rows.
        Some(Solver::Gram | Solver::Auto) => 4.0 * small * small + if p < n { n * p } else { 0.0 },
        Some(Solver::Krylov { vectors }) => (vectors as f64).min(small) * (n + p),
        None => 0.0,
    };
    spectral
        + match *settings {
            OptimizerSettings::LBfgs { history, .. } => 2.0 * history as f64 * p,
            OptimizerSettings::HigKron { .. } => kron,
            OptimizerSettings::HigAuto {} => kron + AUTO.0.min(p) * (512.0 + p) + 2.0 * AUTO.1 * p,
            _ => 3.0 * p,
        }
}

/// Of what a checkpoint has of the optimizer.
fn saved_numbers(settings: &OptimizerSettings, network: &Mlp) -> f64 {
    let p = network.parameters() as f64;
    match *settings {
        OptimizerSettings::LBfgs { history, .. } => 2.0 * (history as f64 + 1.0) * p,
        OptimizerSettings::HigKron { .. } => 4.0 * p + 2.0 * factors(network),
        OptimizerSettings::HigAuto {} => 8.0 * p + 2.0 * factors(network),
        _ => 2.0 * p,
    }
}

/// Entries of the Kronecker factors of all layers.
fn factors(network: &Mlp) -> f64 {
    network.layers().iter().map(|l| ((l.inputs + 1).pow(2) + l.outputs.pow(2)) as f64).sum()
}
