//! `hig check TASK`: every derivative against finite differences.

use std::process::ExitCode;

use halfinverse::NetworkProblem;
use halfinverse::check::{TOLERANCE, model, simulator};
use halfinverse::task::Registry;
use serde_json::json;

use crate::arguments::CheckArguments;
use crate::failure::Failure;
use crate::settings;
use crate::voice::{complain, put};

/// Samples that the derivatives are compared on.
const SAMPLES: usize = 8;

pub(crate) fn run(registry: &Registry, arguments: &CheckArguments) -> Result<ExitCode, Failure> {
    let task = settings::for_task(registry, &arguments.settings)?;
    let seed = task.settings().training.seed;
    let failed = |error: &dyn std::fmt::Display| Failure::new(format!("the check cannot be made: {error}"));
    let theta = task.initial_parameters();
    let samples = task.train().first(SAMPLES);
    let mut problem = NetworkProblem::new(task.model(), samples, 1).map_err(|error| failed(&error))?;
    let of_model = model(&mut problem, &theta, seed).map_err(|error| failed(&error))?;
    let initial = problem.mini_batch().initial.clone();
    let of_simulator = simulator(task.model().simulator(), initial.as_ref(), problem.control(), seed)
        .map_err(|error| failed(&error))?;
    let comparisons = [of_simulator, of_model].concat();
    let right = |error: f64| error <= TOLERANCE;
    let all = comparisons.iter().all(|comparison| right(comparison.error));
    if arguments.json {
        let rows = comparisons
            .iter()
            .map(|row| json!({ "what": row.what, "error": row.error, "right": right(row.error) }));
        put(json!({ "tolerance": TOLERANCE, "right": all, "comparisons": rows.collect::<Vec<_>>() }));
    } else {
        put(format_args!(
            "relative error against central differences ({SAMPLES} samples, at most {TOLERANCE:.0e}):"
        ));
        for row in &comparisons {
            let verdict = if right(row.error) { "right" } else { "WRONG" };
            put(format_args!("  {:<28} {:8.1e}  {verdict}", row.what, row.error));
        }
    }
    if all {
        return Ok(ExitCode::SUCCESS);
    }
    complain("a derivative is wrong");
    Ok(ExitCode::FAILURE)
}
