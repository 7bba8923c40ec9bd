//! `hig compare` and `hig ablate`: variants × seeds under one budget, one table, one picture.
//!
//! Every run is a cell with a folder of its own; the one whose `summary.json` is there is finished. The study's folder is
//! named after a hash of all that was asked for, so the same command finds its finished cells again. With a grid,
//! each variant's learning rate is the one with the lowest validation loss, in one run per rate with the first seed.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use halfinverse::task::{OptimizerName, Schedule, Settings, StopSettings, Task};
use halfinverse::training::{StopReason, Trainer};
use serde::Serialize;

use crate::arguments::{AblateArguments, CompareArguments, StudyArguments};
use crate::failure::Failure;
use crate::folder::{CELLS, CONFIG, Folder, Metrics, PLAN, SUMMARY, Summary};
use crate::interrupt;
use crate::lists::{grid, list, rates, seeds, targets, values_of};
use crate::report::study::{Curve, draw};
use crate::settings::{self, Variation};
use crate::train::{Watcher, save};
use crate::voice::{put, say};

/// What is compared with the others: a name and its settings.
struct Variant {
    label: String,
    settings: Settings,
    /// Learning rates to choose from; none for those it came with.
    grid: Vec<f64>,
    /// Seconds of training that they are chosen by, where these differ from the variant's own end.
    grid_time: Option<f64>,
}

/// Everything that was asked for.
struct Plan {
    title: String,
    variants: Vec<Variant>,
    seeds: Vec<u64>,
    targets: Vec<f64>,
    /// What an ablation varies, with each variant's value where that is a number.
    varied: Option<(String, Vec<Option<f64>>)>,
}

/// A finished cell.
type Finished = (Summary, Vec<Metrics>);

/// One row of the table.
#[derive(Debug, Serialize)]
struct Line {
    label: String,
    learning_rate: Option<f64>,
    /// Whether the chosen rate is the smallest or largest of its grid.
    at_edge: bool,
    batch: usize,
    runs: usize,
    diverged: usize,
    /// Lower quartile, median, upper quartile of the test loss at the end; infinite where runs diverged.
    test_loss: [Option<f64>; 3],
    best_median: Option<f64>,
    /// Median seconds of training to each target, none where fewer than half of the runs got there.
    seconds_to: Vec<Option<f64>>,
    ms_per_step: Option<f64>,
    steps: Option<f64>,
}

pub(crate) fn compare(arguments: &CompareArguments) -> Result<ExitCode, Failure> {
    let study = &arguments.study;
    refuse_single(study)?;
    let names: Vec<&str> = list(&arguments.optimizers);
    let grid = grid(arguments.lr_grid.as_deref())?;
    let grid_time =
        arguments.grid_time.as_deref().map(|text| settings::seconds("--grid-time", text)).transpose()?;
    let variations = names.iter().map(|&name| Variation {
        label: name.to_owned(),
        optimizer: Some(name.to_owned()),
        ..Variation::default()
    });
    let settings = settings::for_study(&study.settings, &study.budget, &variations.collect::<Vec<_>>())?;
    let mut variants = Vec::new();
    for (label, task) in settings {
        let grid = rates(&grid, task.settings());
        if grid_time.is_some() && task.settings().training.schedule != Schedule::Constant {
            return Err(Failure::new(
                "a schedule leads to a number of steps, which --grid-time does not tell; leave it out",
            ));
        }
        variants.push(Variant { label, settings: task.settings().clone(), grid, grid_time });
    }
    let title = format!("compare {}", variants[0].settings.task);
    let (seeds, targets) = (seeds(&study.seeds)?, targets(study.targets.as_deref())?);
    run(&Plan { title, variants, seeds, targets, varied: None }, study, "compare")
}

pub(crate) fn ablate(arguments: &AblateArguments) -> Result<ExitCode, Failure> {
    let study = &arguments.study;
    if study.settings.seed.is_some() {
        return Err(Failure::new("an ablation runs several seeds; name them with --seeds 1,2,3"));
    }
    let Some((key, values)) = arguments.vary.split_once('=') else {
        return Err(Failure::new(format!(
            "`--vary {}` has no values; write --vary kappa=0,0.5,1",
            arguments.vary
        )));
    };
    let values = values_of(values);
    let optimizer = study.settings.optimizer.clone();
    let variation = |value: &String| Variation {
        label: format!("{key}={value}"),
        optimizer: optimizer.clone(),
        sets: vec![(key.to_owned(), value.clone())],
    };
    let variations: Vec<Variation> = values.iter().map(variation).collect();
    let settings = settings::for_study(&study.settings, &study.budget, &variations)?;
    let variants: Vec<Variant> = settings
        .into_iter()
        .map(|(label, task)| Variant {
            label,
            settings: task.settings().clone(),
            grid: Vec::new(),
            grid_time: None,
        })
        .collect();
    let title = format!("ablate {} {key}", variants[0].settings.task);
    let (seeds, targets) = (seeds(&study.seeds)?, targets(study.targets.as_deref())?);
    let numbers = values.iter().map(|value| value.parse().ok()).collect();
    let varied = Some((key.to_owned(), numbers));
    run(&Plan { title, variants, seeds, targets, varied }, study, "ablate")
}

fn refuse_single(study: &StudyArguments) -> Result<(), Failure> {
    if study.settings.optimizer.is_some() {
        return Err(Failure::new("compare takes several optimizers: --optimizers hig,adam"));
    }
    if study.settings.seed.is_some() {
        return Err(Failure::new("compare runs several seeds; name them with --seeds 1,2,3"));
    }
    Ok(())
}

fn run(plan: &Plan, arguments: &StudyArguments, command: &str) -> Result<ExitCode, Failure> {
    let text = plan.text();
    let task = plan.variants[0].settings.task;
    let named = || PathBuf::from("runs").join(format!("{command}-{task}-{:08x}", fnv(&text)));
    let path = arguments.out.clone().unwrap_or_else(named);
    fs::create_dir_all(path.join(CELLS)).map_err(|error| {
        Failure::new(format!(
            "cannot write into the folder {}: {error}; name another with --out",
            path.display()
        ))
    })?;
    let folder = Folder::at(&path);
    let _lock = folder.lock()?;
    match fs::read_to_string(path.join(PLAN)) {
        Ok(other) if other != text => {
            return Err(Failure::new(format!(
                "{} holds another study; name another folder with --out, or remove it",
                path.display()
            )));
        }
        Ok(_) => {}
        Err(_) => folder.write(PLAN, &text)?,
    }
    interrupt::listen()?;
    let mut chosen = Vec::new();
    for variant in &plan.variants {
        match plan.tune(variant, &path, arguments.quiet)? {
            Some(settings) => chosen.push(settings),
            None => return Ok(interrupted(arguments.quiet)),
        }
    }
    let total = plan.seeds.len() * chosen.len();
    for (s, &seed) in plan.seeds.iter().enumerate() {
        for (v, (variant, settings)) in plan.variants.iter().zip(&chosen).enumerate() {
            let mut settings = settings.clone();
            settings.training.seed = seed;
            let name = format!("{}-seed{seed}", plain(&variant.label));
            let number = s * chosen.len() + v + 1;
            if cell(settings, &path.join(CELLS).join(&name), false, arguments.quiet)?.is_none() {
                return Ok(interrupted(arguments.quiet));
            }
            say(arguments.quiet, &format!("{number} of {total}: {name}"));
        }
    }
    let results = plan.results(&path)?;
    let (lines, targets) = plan.lines(&chosen, &results);
    let table = plan.table(&lines, &targets);
    folder.write("table.md", &table)?;
    let json = serde_json::json!({ "title": plan.title, "seeds": plan.seeds, "targets": targets, "variants": lines });
    folder.write("table.json", &format!("{json:#}\n"))?;
    let curves: Vec<Curve<'_>> = plan
        .variants
        .iter()
        .zip(&results)
        .map(|(variant, runs)| Curve {
            label: &variant.label,
            runs: runs.iter().map(|(_, metrics)| metrics.as_slice()).collect(),
        })
        .collect();
    let varied = plan.varied.as_ref().and_then(|(key, values)| {
        let points: Option<Vec<_>> = values
            .iter()
            .zip(&lines)
            .map(|(value, line)| {
                Some((((*value)?), line.test_loss.map(|loss| loss.unwrap_or(f64::INFINITY))))
            })
            .collect();
        points.map(|points| (key.as_str(), points))
    });
    draw(&path, &plan.title, &curves, varied, &table)?;
    if arguments.json {
        put(json);
    } else {
        put(table.trim_end());
    }
    say(arguments.quiet, &format!("report: {}", path.join("report.html").display()));
    Ok(ExitCode::SUCCESS)
}

fn interrupted(quiet: bool) -> ExitCode {
    say(quiet, "stopped; the same command goes on with the cells that are left");
    ExitCode::from(130)
}

impl Plan {
    /// All that makes the study what it is, as TOML tables one after the other.
    fn text(&self) -> String {
        let mut text = format!("title = {:?}\nseeds = {:?}\n", self.title, self.seeds);
        for variant in &self.variants {
            let settings = settings::to_toml(&variant.settings);
            let Variant { label, grid, grid_time, .. } = variant;
            let _ = write!(text, "\n# {label}, learning rates {grid:?}");
            if let Some(seconds) = grid_time {
                let _ = write!(text, " by {seconds} s");
            }
            let _ = write!(text, "\n{settings}");
        }
        text
    }

    /// The variant's settings with the best learning rate of its grid; None if interrupted.
    fn tune(&self, variant: &Variant, path: &Path, quiet: bool) -> Result<Option<Settings>, Failure> {
        let mut best: Option<(f64, f64)> = None;
        for &rate in &variant.grid {
            let mut settings = with_rate(&variant.settings, rate);
            settings.training.seed = self.seeds[0];
            if variant.grid_time.is_some() {
                settings.stop = StopSettings { time: variant.grid_time, ..StopSettings::default() };
            }
            let name = format!("tune-{}-{rate:e}", plain(&variant.label));
            let Some((summary, _)) = cell(settings, &path.join(CELLS).join(&name), true, quiet)? else {
                return Ok(None);
            };
            let loss = final_loss(&summary);
            say(quiet, &format!("{}: validation loss {loss:.3e} with learning rate {rate}", variant.label));
            if best.is_none_or(|(_, least)| loss < least) {
                best = Some((rate, loss));
            }
        }
        Ok(Some(
            best.map_or_else(|| variant.settings.clone(), |(rate, _)| with_rate(&variant.settings, rate)),
        ))
    }

    /// Of each variant, the finished cells.
    fn results(&self, path: &Path) -> Result<Vec<Vec<Finished>>, Failure> {
        let read = |variant: &Variant, seed: &u64| {
            let name = format!("{}-seed{seed}", plain(&variant.label));
            let folder = Folder::open(&path.join(CELLS).join(name))?;
            let summary =
                folder.summary().ok_or_else(|| Failure::new("a finished cell has lost its summary"))?;
            Ok((summary, folder.metrics()?))
        };
        let of = |variant| self.seeds.iter().map(|seed| read(variant, seed)).collect();
        self.variants.iter().map(of).collect()
    }

    fn lines(&self, chosen: &[Settings], results: &[Vec<Finished>]) -> (Vec<Line>, Vec<f64>) {
        let finals =
            |runs: &[Finished]| quartiles(runs.iter().map(|(summary, _)| final_loss(summary)).collect());
        let targets = if self.targets.is_empty() {
            let start = results[0][0].1.first().map_or(1.0, |row| row.test_loss);
            let least = results.iter().map(|runs| finals(runs)[1]).fold(f64::INFINITY, f64::min);
            decades(start, least)
        } else {
            self.targets.clone()
        };
        let line = |((variant, settings), runs): ((&Variant, &Settings), &Vec<Finished>)| {
            let rate = settings.optimizer.learning_rate();
            let median = |values: Vec<f64>| Some(quartiles(values)[1]).filter(|value| value.is_finite());
            let reach = |target: &f64| {
                let reached = |metrics: &Vec<Metrics>| {
                    let row = metrics.iter().find(|row| row.test_loss <= *target);
                    row.map_or(f64::INFINITY, |row| row.wall_s)
                };
                median(runs.iter().map(|(_, metrics)| reached(metrics)).collect())
            };
            let ends = [variant.grid.first(), variant.grid.last()];
            Line {
                label: variant.label.clone(),
                learning_rate: rate,
                at_edge: variant.grid.len() > 1 && ends.into_iter().any(|end| end.copied() == rate),
                batch: settings.training.batch,
                runs: runs.len(),
                diverged: runs.iter().filter(|(summary, _)| diverged(summary)).count(),
                test_loss: finals(runs).map(|loss| Some(loss).filter(|loss| loss.is_finite())),
                best_median: median(
                    runs.iter().map(|(s, _)| s.best_test_loss.unwrap_or(f64::INFINITY)).collect(),
                ),
                seconds_to: targets.iter().map(reach).collect(),
                ms_per_step: median(runs.iter().filter_map(|(summary, _)| summary.ms_per_step).collect()),
                steps: median(runs.iter().map(|(summary, _)| summary.steps as f64).collect()),
            }
        };
        let lines = self.variants.iter().zip(chosen).zip(results).map(line).collect();
        (lines, targets)
    }

    /// The table as Markdown.
    fn table(&self, lines: &[Line], targets: &[f64]) -> String {
        let heads: String = targets.iter().map(|target| format!(" s to {target:.0e} |")).collect();
        let mut table = format!(
            "| {} | learning rate | batch | test loss, median [quartiles] |{heads} ms per step | steps | diverged |\n|---|---|---|---|{}---|---|---|\n",
            self.varied.as_ref().map_or("optimizer", |(key, _)| key),
            "---|".repeat(targets.len()),
        );
        for line in lines {
            let loss =
                |i: usize| line.test_loss[i].map_or_else(|| "∞".to_owned(), |loss| format!("{loss:.2e}"));
            let rate = line.learning_rate.map_or_else(|| "–".to_owned(), |rate| rate.to_string());
            let edge = if line.at_edge { " (edge)" } else { "" };
            let reach: String = line
                .seconds_to
                .iter()
                .map(|s| s.map_or_else(|| " – |".to_owned(), |s| format!(" {} |", short(s))))
                .collect();
            let _ = writeln!(
                table,
                "| {} | {rate}{edge} | {} | {} [{}, {}] |{reach} {} | {} | {} of {} |",
                line.label,
                line.batch,
                loss(1),
                loss(0),
                loss(2),
                line.ms_per_step.map_or_else(|| "–".to_owned(), short),
                line.steps.map_or_else(|| "–".to_owned(), |steps| format!("{steps:.0}")),
                line.diverged,
                line.runs,
            );
        }
        table
    }
}

/// Runs a cell, or reads it if it is finished; None if interrupted. Tuning cells are judged by validation data.
fn cell(settings: Settings, path: &Path, tuning: bool, quiet: bool) -> Result<Option<Finished>, Failure> {
    if path.join(SUMMARY).is_file() {
        let folder = Folder::open(path)?;
        if let Some(summary) = folder.summary() {
            return Ok(Some((summary, folder.metrics()?)));
        }
    }
    if path.exists() {
        let unfit = |error| Failure::new(format!("cannot remove the unfinished {}: {error}", path.display()));
        fs::remove_dir_all(path).map_err(unfit)?;
    }
    let task = Task::new(settings)?;
    let task = if tuning { task.for_validation() } else { task };
    let folder = Folder::at(path);
    let lock = fs::create_dir_all(path)
        .map_err(|error| folder.stopped(&format!("cannot write {}: {error}", path.display())))
        .and_then(|()| folder.lock())?;
    folder.write(CONFIG, &settings::to_toml(task.settings()))?;
    let failed = |error: &dyn std::fmt::Display| Failure::new(error.to_string());
    let theta = crate::train::start(&task)?;
    let mut trainer = Trainer::new(&task, theta).map_err(|error| failed(&error))?;
    let mut watcher = Watcher::new(&task, &folder, lock, quiet)?;
    let reason = crate::train::train(&mut trainer, &mut watcher)?;
    if matches!(reason, StopReason::Interrupted) {
        return Ok(None);
    }
    let summary = save(&mut trainer, &mut watcher, &reason)?;
    Ok(Some((summary, folder.metrics()?)))
}

fn diverged(summary: &Summary) -> bool {
    summary.stop_reason.starts_with("diverged") || summary.test_loss.is_none()
}

fn final_loss(summary: &Summary) -> f64 {
    if diverged(summary) { f64::INFINITY } else { summary.test_loss.unwrap_or(f64::INFINITY) }
}

fn with_rate(settings: &Settings, rate: f64) -> Settings {
    let mut settings = settings.clone();
    if let Some(learning_rate) = settings.optimizer.learning_rate_mut() {
        *learning_rate = rate;
    }
    settings
}

/// Lower quartile, median, upper quartile, interpolated; infinite values sort last and swallow what they touch.
pub(crate) fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    for value in &mut values {
        if value.is_nan() {
            *value = f64::INFINITY;
        }
    }
    values.sort_by(f64::total_cmp);
    if values.is_empty() {
        return [f64::INFINITY; 3];
    }
    [0.25, 0.5, 0.75].map(|share| {
        let position = share * (values.len() - 1) as f64;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let (below, above) = (position.floor() as usize, position.ceil() as usize);
        let weight = position - position.floor();
        if weight == 0.0 { values[below] } else { values[below] * (1.0 - weight) + values[above] * weight }
    })
}

/// Up to four powers of ten between the loss at the start and the least that was reached.
fn decades(start: f64, least: f64) -> Vec<f64> {
    let mut targets = Vec::new();
    if !(start.is_finite() && least > 0.0 && least < start) {
        return targets;
    }
    let mut power = start.log10().ceil() - 1.0;
    while 10f64.powf(power) >= least {
        targets.push(10f64.powf(power));
        power -= 1.0;
    }
    targets.split_off(targets.len().saturating_sub(4))
}

fn short(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 1.0 {
        format!("{value:.1}")
    } else if value >= 0.01 {
        format!("{value:.2}")
    } else {
        format!("{value:.0e}")
    }
}

/// A label as a folder's name.
fn plain(label: &str) -> String {
    label.chars().map(|c| if c.is_ascii_alphanumeric() || ".-_=".contains(c) { c } else { '-' }).collect()
}

/// FNV-1a, folded to 32 bits: a name, not a proof.
fn fnv(text: &str) -> u32 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    #[allow(clippy::cast_possible_truncation, reason = "folded")]
    let folded = (hash ^ (hash >> 32)) as u32;
    folded
}

/// What `compare` takes where nobody says.
pub(crate) fn default_optimizers() -> String {
    [OptimizerName::Hig, OptimizerName::Adam, OptimizerName::Gn].map(|name| name.to_string()).join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_interpolate_and_diverged_runs_count_as_infinite() {
        assert_eq!(quartiles(vec![3.0, 1.0, 2.0]), [1.5, 2.0, 2.5]);
        assert_eq!(quartiles(vec![1.0, f64::NAN, 2.0]), [1.5, 2.0, f64::INFINITY]);
        assert_eq!(quartiles(vec![5.0]), [5.0; 3]);
    }

    #[test]
    fn targets_are_the_last_decades_above_the_least_loss() {
        assert_eq!(decades(0.8, 0.003).len(), 2);
        assert!(decades(0.5, f64::INFINITY).is_empty());
        assert_eq!(decades(250.0, 1e-5).len(), 4);
    }
}
