//! What has happened since the last row of metrics: a run that is gone on with writes the next row as it would have been.

use crate::optimizer::auto::WAYS;
use crate::optimizer::{Memory, StepReport};
use crate::spectral::{Report, Solver};

/// Sums and counts since the last row, and the last step.
#[derive(Default, Clone)]
pub(super) struct Pending {
    pub(super) losses: f64,
    pub(super) steps: u32,
    pub(super) fallbacks: u64,
    pub(super) rejected: u64,
    pub(super) faults: u64,
    pub(super) last: Option<StepReport>,
}

impl Pending {
    /// Whether nothing has.
    pub(super) fn is_empty(&self) -> bool {
        self.steps == 0 && self.faults == 0
    }

    /// Saves all that the next row needs, or takes it back.
    pub(super) fn visit(&mut self, memory: &mut Memory) {
        memory.numbers("losses", [&mut self.losses]);
        memory.small_count("steps", &mut self.steps);
        for (name, count) in [
            ("fallbacks", &mut self.fallbacks),
            ("rejected", &mut self.rejected),
            ("faults", &mut self.faults),
        ] {
            memory.count(name, count);
        }
        let mut numbers = self.last.as_ref().map(to_numbers).unwrap_or_default();
        memory.vector("last", &mut numbers);
        self.last = from_numbers(&numbers);
        if !numbers.is_empty() && self.last.is_none() {
            memory.refuse("last");
        }
    }
}

/// What a row shows of a step; NaN where there is none. The spectral part, six more numbers, may be missing.
fn to_numbers(step: &StepReport) -> Vec<f64> {
    let or_none = |number: Option<f64>| number.unwrap_or(f64::NAN);
    let way = step.way.and_then(|way| WAYS.iter().position(|name| *name == way));
    let mut numbers = vec![
        step.loss,
        step.update_norm,
        step.learning_rate,
        or_none(step.kappa),
        or_none(step.lambda),
        or_none(way.map(|way| way as f64)),
        f64::from(u8::from(step.rejected)),
    ];
    if let Some(spectral) = &step.spectral {
        let solver = match spectral.solver {
            Solver::Krylov { vectors } => vectors as f64,
            Solver::Svd | Solver::Auto => 0.0,
            Solver::Gram => -1.0,
        };
        numbers.extend([
            solver,
            spectral.rank as f64,
            spectral.sigma_max,
            spectral.sigma_min,
            or_none(spectral.krylov_steps.map(|k| k as f64)),
            spectral.error_estimate,
        ]);
    }
    numbers
}

fn from_numbers(numbers: &[f64]) -> Option<StepReport> {
    let (&[loss, update_norm, learning_rate, kappa, lambda, way, rejected], spectral) =
        numbers.split_first_chunk()?;
    let some = |number: f64| Some(number).filter(|number| !number.is_nan());
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saved as whole numbers")]
    let count = |number: f64| number as usize;
    let spectral = match *spectral {
        [] => None,
        [solver, rank, sigma_max, sigma_min, krylov_steps, error_estimate] => Some(Report {
            solver: match solver {
                -1.0 => Solver::Gram,
                0.0 => Solver::Svd,
                vectors => Solver::Krylov { vectors: count(vectors) },
            },
            rank: count(rank),
            sigma_max,
            sigma_min,
            krylov_steps: some(krylov_steps).map(count),
            error_estimate,
            fallbacks: Vec::new(),
        }),
        _ => return None,
    };
    Some(StepReport {
        loss,
        update_norm,
        learning_rate,
        kappa: some(kappa),
        lambda: some(lambda),
        way: some(way).and_then(|way| WAYS.get(count(way)).copied()),
        rejected: rejected == 1.0,
        spectral,
    })
}
