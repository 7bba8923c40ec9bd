//! `hig compare` and `hig ablate`: variants × seeds under one budget, one table, one picture.
//!
//! Every run is a cell with a folder of its own. The study's folder is named after a hash of all that was asked for, so
//! the same command finds its finished cells again. With a grid, each variant's learning rate is the one with the
//! lowest validation loss, in one run per rate with the first seed.

mod cells;
mod over;
mod plan;
mod table;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cells::{Cells, Finished};
use halfinverse::task::Registry;
use halfinverse::training::Schedule;
use plan::{Plan, Variant, Varied};
use table::Table;

use crate::arguments::{AblateArguments, CompareArguments, StudyArguments};
use crate::failure::Failure;
use crate::folder::{CELLS, Folder, PLAN};
use crate::interrupt;
use crate::lists::{grid, list, rates, seeds, targets, values_of};
use crate::picture::Pictures;
use crate::ranks;
use crate::report::study::{Curve, draw};
use crate::settings::units::seconds;
use crate::settings::{self, Chosen, Variation};
use crate::view::View;
use crate::voice::{put, say};

pub(crate) fn compare(
    registry: &Registry,
    pictures: &Pictures,
    arguments: &CompareArguments,
) -> Result<ExitCode, Failure> {
    let study = &arguments.study;
    refuse_single(study)?;
    let names: Vec<&str> = list(&arguments.optimizers);
    let grid = grid(arguments.lr_grid.as_deref())?;
    let grid_time = arguments.grid_time.as_deref().map(|text| seconds("--grid-time", text)).transpose()?;
    let variation = |&name: &&str| Variation {
        label: name.to_owned(),
        optimizer: Some(name.to_owned()),
        ..Variation::default()
    };
    let variations: Vec<Variation> = names.iter().map(variation).collect();
    let mut variants = Vec::new();
    for Chosen { label, settings, advice } in
        settings::for_study(registry, &study.settings, &study.budget, &variations, study.quiet)?
    {
        // A grid of rates finds its own.
        if let Some(line) = advice.filter(|_| grid.is_empty()) {
            say(study.quiet, &format!("{label}: {line}"));
        }
        if grid_time.is_some() && settings.training.schedule != Schedule::Constant {
            return Err(Failure::new(
                "a schedule leads to a number of steps, which --grid-time does not tell; leave it out",
            ));
        }
        variants.push(Variant { label, grid: rates(&grid, &settings), settings, grid_time });
    }
    let title = format!("compare {}", variants[0].settings.task);
    let (seeds, targets) = (seeds(&study.seeds)?, targets(study.targets.as_deref())?);
    run((registry, pictures), &Plan { title, variants, seeds, targets, varied: None }, study, "compare")
}

pub(crate) fn ablate(
    registry: &Registry,
    pictures: &Pictures,
    arguments: &AblateArguments,
) -> Result<ExitCode, Failure> {
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
    let settings = settings::for_study(registry, &study.settings, &study.budget, &variations, study.quiet)?;
    let variant = |Chosen { label, settings, advice }| {
        if let Some(line) = advice {
            say(study.quiet, &format!("{label}: {line}"));
        }
        Variant { label, settings, grid: Vec::new(), grid_time: None }
    };
    let variants: Vec<Variant> = settings.into_iter().map(variant).collect();
    let title = format!("ablate {} {key}", variants[0].settings.task);
    let (seeds, targets) = (seeds(&study.seeds)?, targets(study.targets.as_deref())?);
    let values = values.iter().map(|value| value.parse().ok()).collect();
    let varied = Some(Varied { key: key.to_owned(), values });
    run((registry, pictures), &Plan { title, variants, seeds, targets, varied }, study, "ablate")
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

fn run(
    (registry, pictures): (&Registry, &Pictures),
    plan: &Plan,
    arguments: &StudyArguments,
    command: &str,
) -> Result<ExitCode, Failure> {
    let named = || PathBuf::from("runs").join(plan.folder(command));
    let path = arguments.out.clone().unwrap_or_else(named);
    let team = ranks::team();
    let quiet = arguments.quiet || !team.leads();
    // The other ranks find the folder made.
    let opened = if team.leads() { Some(open(plan, &path)?) } else { None };
    say_instabilities(registry, plan, quiet)?;
    interrupt::listen()?;
    let view = if team.leads() { View::open(registry, pictures, &arguments.view)? } else { None };
    if let Some(view) = &view {
        view.study(&path);
    }
    let tensorboard = arguments.view.tensorboard;
    let cells = Cells { registry, path: &path, quiet, view: view.as_ref(), tensorboard };
    let chosen = if team.size() > 1 { cells.run_over(plan, &team)? } else { cells.run(plan)? };
    let Some((folder, _lock)) = opened else { return Ok(ExitCode::SUCCESS) };
    let Some(chosen) = chosen else {
        say(arguments.quiet, "stopped; the same command resumes with the cells that are left");
        return Ok(ExitCode::from(130));
    };
    let results = cells.results(plan)?;
    let table = Table::new(plan, &chosen, &results);
    let markdown = table.markdown(plan);
    folder.write("table.md", &markdown)?;
    let (title, seeds, targets) = (&plan.title, &plan.seeds, &table.targets);
    let json =
        serde_json::json!({ "title": title, "seeds": seeds, "targets": targets, "variants": table.lines });
    folder.write("table.json", &format!("{json:#}\n"))?;
    picture(plan, &table, &results, &path, &markdown)?;
    if arguments.json {
        put(json);
    } else {
        put(markdown.trim_end());
    }
    say(arguments.quiet, &format!("report: {}", path.join("report.html").display()));
    Ok(ExitCode::SUCCESS)
}

/// Says once what makes a simulator of the study unstable, with the first variant that has it.
fn say_instabilities(registry: &Registry, plan: &Plan, quiet: bool) -> Result<(), Failure> {
    let mut said = Vec::new();
    for Variant { label, settings, .. } in &plan.variants {
        let chosen = &settings.simulator;
        let line = registry.build_simulator(&chosen.kind, &chosen.settings)?.instability();
        if let Some(line) = line.filter(|line| !said.contains(line)) {
            say(quiet, &format!("{label}: {line}"));
            said.push(line);
        }
    }
    Ok(())
}

/// The study's folder with its lock, made where it is not there; another study's is refused.
fn open(plan: &Plan, path: &Path) -> Result<(Folder, File), Failure> {
    fs::create_dir_all(path.join(CELLS)).map_err(|error| {
        Failure::new(format!(
            "cannot write into the folder {}: {error}; name another with --out",
            path.display()
        ))
    })?;
    let folder = Folder::at(path);
    let lock = folder.lock()?;
    let text = plan.text();
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
    Ok((folder, lock))
}

/// Draws the study's report.
fn picture(
    plan: &Plan,
    table: &Table,
    results: &[Vec<Finished>],
    path: &Path,
    markdown: &str,
) -> Result<(), Failure> {
    let curves: Vec<Curve<'_>> = plan
        .variants
        .iter()
        .zip(results)
        .map(|(variant, runs)| Curve {
            label: &variant.label,
            runs: runs.iter().map(|(_, metrics)| metrics.as_slice()).collect(),
        })
        .collect();
    let varied = plan.varied.as_ref().and_then(|Varied { key, values }| {
        let losses = table.lines.iter().map(|line| line.test_loss.map(|loss| loss.unwrap_or(f64::INFINITY)));
        let points: Option<Vec<_>> =
            values.iter().zip(losses).map(|(value, losses)| Some(((*value)?, losses))).collect();
        points.map(|points| (key.as_str(), points))
    });
    draw(path, &plan.title, &curves, varied, markdown)
}
