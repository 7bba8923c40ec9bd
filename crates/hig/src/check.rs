//! `hig check TASK`: every derivative against finite differences, and every function against other calls of itself.

use std::process::ExitCode;

use halfinverse::NetworkProblem;
use halfinverse::check::{Comparison, TOLERANCE, model, simulator};
use halfinverse::task::Registry;
use serde_json::json;

use crate::arguments::CheckArguments;
use crate::failure::Failure;
use crate::run::say_instability;
use crate::settings;
use crate::voice::{complain, put};

/// Samples that the derivatives are compared on.
const SAMPLES: usize = 8;
/// Resolution of differences above which it is said: a derivative that is wrong by less than that may pass.
const UNRESOLVED: f64 = 1e-3;

pub(crate) fn run(registry: &Registry, arguments: &CheckArguments) -> Result<ExitCode, Failure> {
    let task = settings::for_task(registry, &arguments.settings)?;
    say_instability(&task, false);
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
    let all = comparisons.iter().all(Comparison::right);
    if arguments.json {
        let rows = comparisons.iter().map(|row| {
            json!({
                "what": row.what,
                "error": row.error,
                "right": row.right(),
                "kink": row.kink,
                "resolution": row.resolution,
                "place": row.place,
            })
        });
        put(json!({ "tolerance": TOLERANCE, "right": all, "comparisons": rows.collect::<Vec<_>>() }));
    } else {
        put(format_args!(
            "relative error against differences ({SAMPLES} samples, at most {TOLERANCE:.0e}; the rest must agree with the first call):"
        ));
        for row in &comparisons {
            put(format_args!("  {:<34} {:8.1e}  {}", row.what, row.error, verdict(row)));
        }
    }
    if all {
        return Ok(ExitCode::SUCCESS);
    }
    complain("a derivative is wrong, or a result depends on earlier calls");
    Ok(ExitCode::FAILURE)
}

fn verdict(row: &Comparison) -> String {
    if !row.right() {
        return format!("WRONG: {}", row.place);
    }
    let mut verdict = "right".to_owned();
    if row.kink {
        verdict += "; a kink here: the derivative exists on one side only";
    }
    if row.resolution > UNRESOLVED {
        verdict += &format!("; but differences tell it to {:.0e} only", row.resolution);
    }
    verdict
}
