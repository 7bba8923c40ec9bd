//! The runs of a study: a folder each; the one whose `summary.json` is there is finished.

use std::fs;
use std::path::{Path, PathBuf};

use halfinverse::task::{Registry, Settings, Task};
use halfinverse::training::{StopReason, StopSettings};

use super::plan::{Plan, Variant, plain};
use crate::failure::Failure;
use crate::folder::{CELLS, CONFIG, Folder, Metrics, SUMMARY, Summary};
use crate::run::start;
use crate::view::View;
use crate::voice::say;
use crate::watcher::Watcher;

/// A finished cell.
pub(super) type Finished = (Summary, Vec<Metrics>);

/// Where the cells of a study are, and how they are run.
pub(super) struct Cells<'a> {
    pub(super) registry: &'a Registry,
    /// The study's folder.
    pub(super) path: &'a Path,
    pub(super) quiet: bool,
    pub(super) view: Option<&'a View>,
    pub(super) tensorboard: bool,
}

/// What a cell's test loss is taken of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Judged {
    Test,
    /// Validation data: for the choice of a learning rate.
    Validation,
}

impl Cells<'_> {
    /// Runs all cells of a plan that are not finished; returns the settings that were chosen for each variant, or none
    /// if interrupted.
    pub(super) fn run(&self, plan: &Plan) -> Result<Option<Vec<Settings>>, Failure> {
        let mut chosen = Vec::new();
        for variant in &plan.variants {
            match self.tune(plan, variant)? {
                Some(settings) => chosen.push(settings),
                None => return Ok(None),
            }
        }
        let jobs = runs(plan, &chosen);
        for (i, job) in jobs.iter().enumerate() {
            if self.cell(job)?.is_none() {
                return Ok(None);
            }
            say(self.quiet, &format!("{} of {}: {}", i + 1, jobs.len(), job.name));
        }
        Ok(Some(chosen))
    }

    /// The variant's settings with the best learning rate of its grid; none if interrupted.
    pub(super) fn tune(&self, plan: &Plan, variant: &Variant) -> Result<Option<Settings>, Failure> {
        let mut best: Option<(f64, f64)> = None;
        for (&rate, job) in variant.grid.iter().zip(trials(plan, variant)) {
            let Some((summary, _)) = self.cell(&job)? else {
                return Ok(None);
            };
            let loss = summary.final_loss();
            let line = format!("{}: validation loss {loss:.3e} with learning rate {rate}", variant.label);
            say(self.quiet, &line);
            if best.is_none_or(|(_, least)| loss < least) {
                best = Some((rate, loss));
            }
        }
        let mut settings = variant.settings.clone();
        if let Some((rate, _)) = best {
            settings.optimizer.set_learning_rate(rate);
        }
        Ok(Some(settings))
    }

    /// Of each variant, the finished cells.
    pub(super) fn results(&self, plan: &Plan) -> Result<Vec<Vec<Finished>>, Failure> {
        let read = |variant: &Variant, seed: &u64| {
            let folder = Folder::open(&self.path_of(&cell_name(variant, *seed)))?;
            let summary =
                folder.summary().ok_or_else(|| Failure::new("a finished cell has lost its summary"))?;
            Ok((summary, folder.metrics()?))
        };
        let of = |variant| plan.seeds.iter().map(|seed| read(variant, seed)).collect();
        plan.variants.iter().map(of).collect()
    }

    fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(CELLS).join(name)
    }

    /// Whether a cell is there, from its first step to its last.
    pub(super) fn is_finished(&self, job: &Job) -> bool {
        self.path_of(&job.name).join(SUMMARY).is_file()
    }

    /// Runs a cell, or reads it if it is finished; none if interrupted. Its data are drawn here, and dropped with it.
    pub(super) fn cell(&self, job: &Job) -> Result<Option<Finished>, Failure> {
        let Job { settings, name, judged } = job;
        let path = self.path_of(name);
        if path.join(SUMMARY).is_file() {
            let folder = Folder::open(&path)?;
            if let Some(summary) = folder.summary() {
                return Ok(Some((summary, folder.metrics()?)));
            }
        }
        if path.exists() {
            let unfit =
                |error| Failure::new(format!("cannot remove the unfinished {}: {error}", path.display()));
            fs::remove_dir_all(&path).map_err(unfit)?;
        }
        let task = Task::with(settings.clone(), self.registry)?;
        let task = if *judged == Judged::Validation { task.for_validation() } else { task };
        let folder = Folder::at(&path);
        let lock = fs::create_dir_all(&path)
            .map_err(|error| folder.stopped(&format!("cannot write {}: {error}", path.display())))
            .and_then(|()| folder.lock())?;
        folder.write(CONFIG, &task.settings().to_toml())?;
        let theta = start(&task)?;
        let mut trainer = task.trainer(theta).map_err(|error| Failure::new(error.to_string()))?;
        let watcher = Watcher::new(&task, &folder, lock, self.quiet)?.named(name);
        let mut watcher = watcher.shown_to(&task, self.view, self.tensorboard)?;
        let reason = watcher.train(&mut trainer)?;
        if matches!(reason, StopReason::Interrupted) {
            return Ok(None);
        }
        let summary = watcher.save(&task, &trainer, &reason)?;
        Ok(Some((summary, folder.metrics()?)))
    }
}

/// A cell to be run.
pub(super) struct Job {
    settings: Settings,
    pub(super) name: String,
    judged: Judged,
}

/// The cells of all seeds and variants, with the settings chosen for these.
pub(super) fn runs(plan: &Plan, chosen: &[Settings]) -> Vec<Job> {
    let of = |seed: u64, variant: &Variant, settings: &Settings| {
        let mut settings = settings.clone();
        settings.training.seed = seed;
        Job { settings, name: cell_name(variant, seed), judged: Judged::Test }
    };
    let of_seed = |&seed: &u64| {
        plan.variants.iter().zip(chosen).map(move |(variant, chosen)| of(seed, variant, chosen))
    };
    plan.seeds.iter().flat_map(of_seed).collect()
}

/// The cells of a variant's learning rates.
pub(super) fn trials(plan: &Plan, variant: &Variant) -> Vec<Job> {
    let of = |&rate: &f64| {
        let mut settings = variant.settings.clone();
        settings.optimizer.set_learning_rate(rate);
        settings.training.seed = plan.seeds[0];
        if variant.grid_time.is_some() {
            let still = settings.stop.still;
            settings.stop = StopSettings { time: variant.grid_time, still, ..StopSettings::default() };
        }
        let name = format!("tune-{}-{rate:e}", plain(&variant.label));
        Job { settings, name, judged: Judged::Validation }
    };
    variant.grid.iter().map(of).collect()
}

fn cell_name(variant: &Variant, seed: u64) -> String {
    format!("{}-seed{seed}", plain(&variant.label))
}
