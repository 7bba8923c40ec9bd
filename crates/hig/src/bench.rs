//! `hig bench TASK`: milliseconds per part of a step, and memory.
//!
//! Without an optimizer or a solver it times the steps that the documentation speaks of.

use std::process::ExitCode;
use std::time::Instant;

use halfinverse::spectral::Solver;
use halfinverse::task::{Registry, Task};
use halfinverse::{NetworkProblem, Problem, StepError};
use serde_json::{Map, json};

use crate::arguments::{BenchArguments, SettingArguments};
use crate::failure::Failure;
use crate::folder::peak_rss_bytes;
use crate::run::say_instability;
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

pub(crate) fn run(registry: &Registry, arguments: &BenchArguments) -> Result<ExitCode, Failure> {
    if arguments.repeats == 0 {
        return Err(Failure::new("--repeats 0 times nothing; give at least 1"));
    }
    let mut all = Map::new();
    let tasks = tasks(registry, &arguments.settings)?;
    // They have one simulator.
    if let Some(task) = tasks.first() {
        say_instability(task, false);
    }
    for task in &tasks {
        let parts = time(task, arguments.repeats).map_err(|error| Failure::new(error.to_string()))?;
        let (name, training) = (name(task), &task.settings().training);
        let (batch, threads) = (training.batch, training.threads);
        if !arguments.json {
            let noun = if threads == 1 { "thread" } else { "threads" };
            put(format_args!("{name}, batch {batch}, {threads} {noun}"));
            for (part, ms) in &parts {
                put(format_args!("  {part:<42} {ms:9.3} ms"));
            }
        }
        let parts = parts.into_iter().map(|(part, ms)| (part.to_owned(), json!(ms))).collect::<Map<_, _>>();
        all.insert(name, json!({ "batch": batch, "threads": threads, "ms": parts }));
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

/// The tasks to time: the one that was asked for, or one for each of the usual steps.
fn tasks(registry: &Registry, given: &SettingArguments) -> Result<Vec<Task>, Failure> {
    if given.optimizer.is_some() || given.solver.is_some() || given.config.is_some() {
        return Ok(vec![settings::for_task(registry, given)?]);
    }
    let with = |(optimizer, solver): (&str, Option<&str>)| {
        let only_hig = |value: &Option<String>| value.clone().filter(|_| optimizer == "hig");
        let arguments = SettingArguments {
            optimizer: Some(optimizer.to_owned()),
            kappa: only_hig(&given.kappa),
            truncation: only_hig(&given.truncation),
            solver: solver.map(str::to_owned),
            ..given.clone()
        };
        settings::for_task(registry, &arguments)
    };
    STEPS.into_iter().map(with).collect()
}

/// The optimizer, and its solver where it has one.
fn name(task: &Task) -> String {
    let optimizer = &task.settings().optimizer;
    match optimizer.solver() {
        Some(solver) => format!("{} {solver}", optimizer.name),
        None => optimizer.name.clone(),
    }
}

type Parts = Vec<(&'static str, f64)>;

type Error = Box<dyn std::error::Error + Send + Sync>;

fn time(task: &Task, repeats: usize) -> Result<Parts, Error> {
    let settings = &task.settings().training;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(settings.threads).build()?;
    let samples = task.train().first(settings.batch);
    let mut problem = NetworkProblem::new(task.model(), samples, settings.threads)?;
    let theta = task.initial_parameters();
    let parts = task.parts();
    let stage = parts.stages.last().ok_or("a task has an optimizer")?;
    let mut optimizer = stage.optimizer(&parts.data, &parts.options, &parts.source)?;
    pool.install(|| {
        let mut parts = Parts::new();
        parts.push(("network and simulator forward", median(repeats, || problem.loss(&theta).map(drop))?));
        if let Some(solver) = task.settings().optimizer.solver() {
            parts.extend(time_jacobian(&mut problem, &theta, solver, repeats)?);
        } else {
            let mut gradient = vec![0.0; theta.len()];
            let gradients = median(repeats, || problem.gradient(&theta, &mut gradient).map(drop))?;
            parts.push(("and its gradient", gradients));
        }
        // Every step from the same θ: what is timed must not depend on where training has got to.
        let step = median(repeats, || optimizer.step(&mut problem, &mut theta.clone()).map(drop))?;
        parts.push(("a whole step", step));
        Ok(parts)
    })
}

/// Blocks, products with J, and what an exact solver makes of it.
fn time_jacobian(
    problem: &mut NetworkProblem,
    theta: &[f64],
    solver: Solver,
    repeats: usize,
) -> Result<Parts, StepError> {
    let blocks = median(repeats, || problem.linearize(theta).map(drop))?;
    let mut gradient = vec![0.0; theta.len()];
    // Where products go by rows of layers, the first one makes them.
    let first = median(repeats, || {
        let mut at = problem.linearize(theta)?;
        Ok(at.jacobian.apply_transpose(at.gradient, &mut gradient)?)
    })?;
    let mut at = problem.linearize(theta)?;
    let mut outcome = at.gradient.to_vec();
    let jacobian = &mut at.jacobian;
    let product = median(repeats, || Ok(jacobian.apply(theta, &mut outcome)?))?;
    let transpose = median(repeats, || Ok(jacobian.apply_transpose(&outcome, &mut gradient)?))?;
    let mut parts = vec![
        ("and the simulator's blocks, g", blocks),
        ("and J^T g, the first product", first),
        ("one product J v", product),
        ("one product J^T u", transpose),
    ];
    if solver == Solver::Gram {
        let mut gram = faer::Mat::new();
        let time = median(repeats, || Ok(jacobian.row_gram(&mut gram, faer::Par::Seq)?))?;
        parts.push(("the Gram matrix", time));
    }
    if solver == Solver::Svd {
        let time = median(repeats, || Ok(jacobian.dense_transpose().map(drop)?))?;
        parts.push(("J itself", time));
    }
    Ok(parts)
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
fn median(repeats: usize, mut call: impl FnMut() -> Result<(), StepError>) -> Result<f64, StepError> {
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
