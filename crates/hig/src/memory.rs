//! The memory a run will need, against what there is: said before the first step, refused with the mend where it does not fit.

use std::fs;

use halfinverse::spectral::Solver;
use halfinverse::task::{Forecast, Part};

use crate::failure::Failure;

/// Part of the free memory that a run may have where nobody says.
const SHARE: f64 = 0.8;

/// Refuses what would not fit into the limit.
pub(crate) fn check(forecast: &Forecast, limit: Option<&str>) -> Result<(), Failure> {
    let (limit, whose) = match limit {
        Some(text) => (size(text)?, "--memory-limit".to_owned()),
        None => match free() {
            Some(free) => (part(SHARE, free), format!("80 % of the {} that are free", shown(free))),
            None => return Ok(()),
        },
    };
    if forecast.total() <= limit {
        return Ok(());
    }
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

/// `4GiB`, `500MB`, `2G`, or a number of bytes.
fn size(text: &str) -> Result<u64, Failure> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[number.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => Some(1.0),
        "kb" => Some(1e3),
        "mb" => Some(1e6),
        "gb" => Some(1e9),
        "k" | "kib" => Some(1024.0),
        "m" | "mib" => Some(1024f64.powi(2)),
        "g" | "gib" => Some(1024f64.powi(3)),
        _ => None,
    };
    match (number.trim().parse::<f64>(), unit) {
        (Ok(number), Some(unit)) if number > 0.0 && number.is_finite() =>
        {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
            Ok((number * unit) as u64)
        }
        _ => Err(Failure::new(format!(
            "--memory-limit {text} is no size; write 4GiB, 500MB, or a number of bytes"
        ))),
    }
}

/// Bytes that the system would give, or the container where that has a limit of its own; none where it does not tell.
fn free() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let system = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024;
    let read = |name| fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok();
    let number = |name| read(name)?.trim().parse::<u64>().ok();
    // What files have been read into makes room for others.
    let cache = read("memory.stat").and_then(|stat| {
        stat.lines().find_map(|line| line.strip_prefix("inactive_file "))?.trim().parse::<u64>().ok()
    });
    let container = number("memory.max").map(|most| {
        let used = number("memory.current").unwrap_or(0);
        most.saturating_sub(used.saturating_sub(cache.unwrap_or(0)))
    });
    Some(container.map_or(system, |container| container.min(system)))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of it")]
fn part(share: f64, bytes: u64) -> u64 {
    (share * bytes as f64) as u64
}

pub(crate) fn shown(bytes: u64) -> String {
    let mib = bytes as f64 / 1024f64.powi(2);
    if mib < 1024.0 { format!("{mib:.0} MiB") } else { format!("{:.1} GiB", mib / 1024.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_bytes_and_their_multiples() {
        for (text, bytes) in [("4GiB", 4 << 30), ("500MB", 500_000_000), ("1.5k", 1536), ("77", 77)] {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "GiB", "-1", "0", "4 giraffes", "nan", "inf"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
