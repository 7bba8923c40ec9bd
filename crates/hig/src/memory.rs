//! The memory a run will need, against what there is: said before the first step, refused with the mend where it does
//! not fit.

use halfinverse::spectral::Solver;
use halfinverse::task::{Forecast, Part};
use sysinfo::{MemoryRefreshKind, System};

use crate::failure::Failure;
use crate::ranks;
use crate::settings::units::bytes;

/// Part of the free memory that a run may have where nobody says.
const SHARE: f64 = 0.8;

/// Refuses what would not fit into the limit, which is each rank's; those of a machine share what is free. `lighter` is the forecast with an optimizer that needs less, where there is
/// one, and its name.
pub(crate) fn check(
    forecast: &Forecast,
    limit: Option<&str>,
    lighter: impl Fn() -> Option<(&'static str, Forecast)>,
) -> Result<(), Failure> {
    let (limit, whose) = match limit {
        Some(text) => (bytes("--memory-limit", text)?, "--memory-limit".to_owned()),
        None => match (free(), ranks::here()) {
            (Some(free), 1) => (part(SHARE, free), format!("80 % of the {} that are free", shown(free))),
            (Some(free), here) => {
                let whose = format!("80 % of the {} that are free, for {here} ranks", shown(free));
                (part(SHARE / here as f64, free), whose)
            }
            (None, _) => return Ok(()),
        },
    };
    if forecast.total() <= limit {
        return Ok(());
    }
    // Which way of hig-auto is taken may not depend on what a machine has free: the run would not repeat.
    let other = lighter()
        .filter(|(_, other)| other.total() <= limit)
        .map(|(name, other)| format!("take --optimizer {name}, which needs about {}", shown(other.total())));
    let (what, most) = forecast.parts.iter().max_by_key(|part| part.1).copied().unwrap_or((Part::Data, 0));
    let mend = match (what, forecast.solver) {
        (Part::Data, _) => "lower data.train or data.test",
        (Part::Optimizer, Some(Solver::Svd | Solver::Gram)) => {
            "take --solver krylov:16, or a smaller --batch"
        }
        (Part::Optimizer, Some(Solver::Krylov { .. })) => {
            "take fewer Krylov vectors, or a smaller network.hidden"
        }
        (Part::MiniBatch | Part::Spectrum, _) => "take a smaller --batch, or a smaller network.hidden",
        _ => "take a smaller network.hidden",
    };
    let mend = other.unwrap_or_else(|| mend.to_owned());
    Err(Failure::new(format!(
        "this run needs about {} ({what} {}: {}), and the limit is {} ({whose}); {mend}, or raise --memory-limit",
        shown(forecast.total()),
        shown(most),
        sizes(forecast),
        shown(limit),
    )))
}

/// What a run will need, in a line.
pub(crate) fn line(forecast: &Forecast) -> String {
    format!("{}; about {} of memory", sizes(forecast), shown(forecast.total()))
}

fn sizes(forecast: &Forecast) -> String {
    let solver = forecast.solver.map_or_else(String::new, |solver| format!(", {solver}"));
    format!(
        "mini-batch {}, n = {} rows, P = {} parameters{solver}",
        forecast.batch, forecast.rows, forecast.parameters
    )
}

/// Bytes that the system would give, or the container where that has a limit of its own; none where it does not tell.
fn free() -> Option<u64> {
    let mut system = System::new();
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let free = system.available_memory();
    let container = system.cgroup_limits().map(|limits| limits.free_memory);
    Some(container.map_or(free, |container| container.min(free))).filter(|&free| free > 0)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of it")]
fn part(share: f64, bytes: u64) -> u64 {
    (share * bytes as f64) as u64
}

fn shown(bytes: u64) -> String {
    let mib = bytes as f64 / 1024f64.powi(2);
    if mib < 1024.0 { format!("{mib:.0} MiB") } else { format!("{:.1} GiB", mib / 1024.0) }
}
