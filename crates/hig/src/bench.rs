//! `hig bench TASK`: milliseconds per part of a step, and memory.
//!
//! Without an optimizer or a solver it times the steps that the documentation speaks of.

use std::process::ExitCode;
use std::time::Instant;

use halfinverse::Problem;
use halfinverse::jacobian::Jacobian;
use halfinverse::spectral::Solver;
use halfinverse::task::Task;
use serde_json::{Map, json};

use crate::arguments::{BenchArguments, SettingArguments};
use crate::failure::Failure;
use crate::folder::peak_rss_bytes;
use crate::settings;
use crate::voice::put;

/// What is timed where nobody says: optimizer and solver.
const STEPS: [(&str, Option<&str>); 5] = [
    ("hig", Some("gram")),
    ("hig", Some("krylov:16")),
    ("hig", Some("krylov:32")),
    ("hig", Some("svd")),
    ("adam", None),
];

pub(crate) fn run(arguments: &BenchArguments) -> Result<ExitCode, Failure> {
    if arguments.repeats == 0 {
        return Err(Failure::new("--repeats 0 times nothing; give at least 1"));
    }
    let given = &arguments.settings;
    let tasks = if given.optimizer.is_some() || given.solver.is_some() || given.config.is_some() {
        vec![settings::for_task(given)?]
    } else {
        let with = |(optimizer, solver): (&str, Option<&str>)| {
            settings::for_task(&SettingArguments {
                task: given.task.clone(),
                optimizer: Some(optimizer.to_owned()),
                batch: given.batch.clone(),
                lr: given.lr.clone(),
                kappa: given.kappa.clone().filter(|_| optimizer == "hig"),
                truncation: given.truncation.clone().filter(|_| optimizer == "hig"),
                solver: solver.map(str::to_owned),
                seed: given.seed.clone(),
                threads: given.threads.clone(),
                on_fault: given.on_fault.clone(),
                memory_limit: given.memory_limit.clone(),
                config: None,
                set: given.set.clone(),
            })
        };
        STEPS.into_iter().map(with).collect::<Result<Vec<_>, _>>()?
    };
    let mut all = Map::new();
    for task in &tasks {
        let settings = task.settings();
        let solver = settings.optimizer.solver();
        let name = match solver {
            Some(solver) => format!("{} {solver}", settings.optimizer.name()),
            None => settings.optimizer.name().to_string(),
        };
        let parts = time(task, solver, arguments.repeats).map_err(|error| Failure::new(error.to_string()))?;
        if !arguments.json {
            let threads = settings.training.threads;
            put(format_args!(
                "{name}, batch {}, {threads} thread{}",
                settings.training.batch,
                if threads == 1 { "" } else { "s" }
            ));
            for (part, ms) in &parts {
                put(format_args!("  {part:<42} {ms:9.3} ms"));
            }
        }
        let parts = parts.into_iter().map(|(part, ms)| (part.to_owned(), json!(ms))).collect::<Map<_, _>>();
        all.insert(
            name,
            json!({ "batch": settings.training.batch, "threads": settings.training.threads, "ms": parts }),
        );
    }
    let yardstick = dense_gflops(arguments.repeats);
    let peak = peak_rss_bytes();
    if arguments.json {
        all.insert("dense_gflops".to_owned(), json!(yardstick));
        all.insert("peak_rss_bytes".to_owned(), json!(peak));
        put(serde_json::Value::from(all));
    } else {
        put(format_args!("yardstick: a dense product of 512 x 512 on one thread, {yardstick:.1} GFLOP/s"));
        put(format_args!("peak memory {} MiB", peak.unwrap_or(0) >> 20));
    }
    Ok(ExitCode::SUCCESS)
}

type Parts = Vec<(&'static str, f64)>;

fn time(
    task: &Task,
    solver: Option<Solver>,
    repeats: usize,
) -> Result<Parts, Box<dyn std::error::Error + Send + Sync>> {
    let settings = &task.settings().training;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(settings.threads).build()?;
    let mut problem = Problem::new(task.model(), task.train().first(settings.batch), settings.threads)?;
    let theta = task.initial_parameters();
    let mut optimizer = task.optimizer(&task.settings().optimizer, settings.batch)?;
    pool.install(|| {
        let mut parts = Parts::new();
        parts.push(("network and simulator forward", median(repeats, || problem.loss(&theta).map(drop))?));
        let mut gradient = vec![0.0; theta.len()];
        if let Some(solver) = solver {
            parts.push((
                "and the simulator's blocks, g",
                median(repeats, || problem.linearize(&theta).map(drop))?,
            ));
            let mut at = problem.linearize(&theta)?;
            let mut outcome = at.outcome_gradient.to_vec();
            let jacobian = &mut at.jacobian;
            parts.push((
                "one product J v",
                median(repeats, || {
                    jacobian.apply(&theta, &mut outcome);
                    Ok(())
                })?,
            ));
            parts.push((
                "one product J^T u",
                median(repeats, || {
                    jacobian.apply_transpose(&outcome, &mut gradient);
                    Ok(())
                })?,
            ));
            if solver == Solver::Gram {
                parts.push((
                    "the Gram matrix",
                    median(repeats, || {
                        jacobian.row_gram(faer::Par::Seq);
                        Ok(())
                    })?,
                ));
            }
            if solver == Solver::Svd {
                parts.push((
                    "J itself",
                    median(repeats, || {
                        jacobian.dense_transpose();
                        Ok(())
                    })?,
                ));
            }
        } else {
            parts.push((
                "and its gradient",
                median(repeats, || problem.gradient(&theta, &mut gradient).map(drop))?,
            ));
        }
        // Every step from the same θ: what is timed must not depend on where training has got to.
        let step = median(repeats, || optimizer.step(&mut problem, &mut theta.clone()).map(drop))?;
        parts.push(("a whole step", step));
        Ok(parts)
    })
}

/// Speed of a product of two matrices that fit the cache: what the machine could do.
fn dense_gflops(repeats: usize) -> f64 {
    const SIZE: usize = 512;
    let a = faer::Mat::from_fn(SIZE, SIZE, |i, j| 1.0 / (1 + i + j) as f64);
    let mut product = faer::Mat::zeros(SIZE, SIZE);
    let ms = median(repeats, || {
        faer::linalg::matmul::matmul(&mut product, faer::Accum::Replace, &a, &a, 1.0, faer::Par::Seq);
        Ok(())
    });
    ms.map_or(0.0, |ms| 2.0 * SIZE.pow(3) as f64 / (1e6 * ms))
}

/// Milliseconds of one call, median after a warm-up.
fn median(
    repeats: usize,
    mut call: impl FnMut() -> Result<(), halfinverse::StepError>,
) -> Result<f64, halfinverse::StepError> {
    call()?;
    let mut times = Vec::with_capacity(repeats);
    for _ in 0..repeats {
        let start = Instant::now();
        call()?;
        times.push(1e3 * start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[repeats / 2])
}
