//! `hig train TASK` and `hig resume DIR`: one run, its files, and three lines on what was reached.

use std::fs::File;
use std::process::ExitCode;
use std::time::Duration;

use halfinverse::task::{Registry, Settings, Task};
use halfinverse::training::{StopReason, Trainer, checkpoint_exists, resume as restore, write_checkpoint};

use crate::arguments::{FitArguments, ResumeArguments, TrainArguments};
use crate::failure::Failure;
use crate::folder::{BEST, CHECKPOINT, CONFIG, Folder, Metrics, REPORT, SUMMARY, Spectrum, Summary};
use crate::picture::Pictures;
use crate::run::{exit_code, say_instability, spectrum, spectrum_plan, start};
use crate::view::View;
use crate::voice::{program, put, say};
use crate::watcher::Watcher;
use crate::{fit, interrupt, memory, ranks, report, settings};

/// What is said, and to whom.
#[derive(Clone, Copy)]
struct Speech<'a> {
    /// No progress, no closing words.
    quiet: bool,
    /// The summary as JSON on stdout.
    json: bool,
    /// The page in the browser, where there is one.
    view: Option<&'a View>,
    tensorboard: bool,
}

pub(crate) fn run(
    registry: &Registry,
    pictures: &Pictures,
    arguments: &TrainArguments,
) -> Result<ExitCode, Failure> {
    let (task, advice) = settings::for_training(registry, arguments)?;
    let view = View::open(registry, pictures, &arguments.view)?;
    start_run(&task, advice.as_ref(), pictures, arguments, view.as_ref())
}

/// `hig fit DATA`: a run of the task fit, or of one like it, on a data file.
pub(crate) fn fit(
    registry: &Registry,
    pictures: &Pictures,
    mut arguments: FitArguments,
) -> Result<ExitCode, Failure> {
    let (task, advice) = settings::for_fit(registry, &mut arguments)?;
    let view = View::open(registry, pictures, &arguments.train.view)?;
    start_run(&task, advice.as_ref(), pictures, &arguments.train, view.as_ref())
}

fn start_run(
    task: &Task,
    advice: Option<&String>,
    pictures: &Pictures,
    arguments: &TrainArguments,
    view: Option<&View>,
) -> Result<ExitCode, Failure> {
    let theta = start(task)?;
    let name = format!("{}-{}", task.settings().task, task.settings().optimizer.name);
    let folder = Folder::create(arguments.out.as_deref(), &name)?;
    let lock = folder.lock()?;
    folder.write(CONFIG, &task.settings().to_toml())?;
    for line in fit::about(task).iter().chain(advice) {
        say(arguments.quiet, line);
    }
    let (quiet, json, tensorboard) = (arguments.quiet, arguments.json, arguments.view.tensorboard);
    begin(task, theta, &folder, lock, pictures, Speech { quiet, json, view, tensorboard })
}

/// A run from its first step, in a folder that has its configuration.
fn begin(
    task: &Task,
    theta: Option<Vec<f64>>,
    folder: &Folder,
    lock: File,
    pictures: &Pictures,
    speech: Speech<'_>,
) -> Result<ExitCode, Failure> {
    say(speech.quiet, &memory::line(&task.forecast().clone().over(ranks::team().size())));
    interrupt::listen()?;
    let task = &task.clone().over(ranks::team());
    let trainer = task.trainer(theta).map_err(|error| Failure::new(error.to_string()))?;
    ranks::call(task, &trainer)?;
    let watcher = Watcher::new(task, folder, lock, speech.quiet)?;
    let mut watcher = watcher.shown_to(task, speech.view, speech.tensorboard)?;
    let of = spectrum_plan(task);
    watcher.kept_mut().spectrum =
        Spectrum { start: spectrum(task, trainer.theta(), of), of, end: Vec::new() };
    folder.write_spectrum(&watcher.kept().spectrum)?;
    finish(task, trainer, watcher, folder, pictures, speech)
}

/// `hig resume DIR`: continues from a run's checkpoint as if it had not been stopped.
pub(crate) fn resume(
    registry: &Registry,
    pictures: &Pictures,
    arguments: &ResumeArguments,
) -> Result<ExitCode, Failure> {
    let folder = Folder::open_unfinished(&arguments.folder)?;
    let lock = folder.lock()?;
    let view = View::open(registry, pictures, &arguments.view)?;
    let (quiet, json, tensorboard) = (arguments.quiet, arguments.json, arguments.view.tensorboard);
    let speech = Speech { quiet, json, view: view.as_ref(), tensorboard };
    let Wanted { task, changed, extended } = wanted(registry, arguments, &folder)?;
    let summary = folder.summary();
    // A run that was killed while its report was drawn continues with that.
    let drawn = folder.file(REPORT).is_file();
    if let Some(summary) = summary.as_ref().filter(|summary| summary.ended() && !extended && drawn) {
        return Ok(already_finished(summary, &folder, speech));
    }
    let put_in_order = || {
        // They tell of an end that is not one any more. A kill between this and the new end's place loses the wish for
        // more.
        folder.remove(SUMMARY)?;
        folder.remove(REPORT)?;
        if changed { folder.write(CONFIG, &task.settings().to_toml()) } else { Ok(()) }
    };
    let checkpoint = folder.file(CHECKPOINT);
    if !checkpoint_exists(&checkpoint) {
        refuse_other_weights(task.settings(), &folder)?;
        let shown = folder.path().display();
        say(speech.quiet, &format!("{shown} has no checkpoint yet; its run starts again"));
        put_in_order()?;
        return begin(&task, None, &folder, lock, pictures, speech);
    }
    let mut trainer = restore(&task.parts(), &checkpoint)
        .map_err(|error| Failure::new(format!("cannot go on from the checkpoint: {error}")))?;
    let rows = folder.cut_metrics(trainer.rows())?;
    if extended && trainer.restart_counts() {
        // Before it is noted that there is more to do: a kill in between changes nothing.
        write_checkpoint(&trainer, &checkpoint).map_err(|error| folder.stopped(&error.to_string()))?;
    }
    put_in_order()?;
    ranks::call(&task, &trainer)?;
    let summary = summary.filter(|summary| summary.steps == trainer.steps());
    let (wall, elapsed) = clock(summary.as_ref(), &rows);
    trainer.set_clock(wall, elapsed);
    interrupt::listen()?;
    let shown = (rows, trainer.notices().len());
    let watcher = Watcher::after(&task, &folder, lock, shown, speech.quiet)?;
    let mut watcher = watcher.shown_to(&task, speech.view, speech.tensorboard)?;
    watcher.kept_mut().solver = summary.and_then(|summary| summary.solver);
    // The end's values are to be of the same samples as the start's, though the run be longer now.
    let Spectrum { start, of, .. } = folder.spectrum().unwrap_or_default();
    watcher.kept_mut().spectrum = Spectrum { start, of, end: Vec::new() };
    finish(&task, trainer, watcher, &folder, pictures, speech)
}

/// What is to be resumed.
struct Wanted {
    task: Task,
    /// Whether the settings are other ones than the folder's.
    changed: bool,
    /// Whether the end was moved.
    extended: bool,
}

fn wanted(registry: &Registry, arguments: &ResumeArguments, folder: &Folder) -> Result<Wanted, Failure> {
    let limit = arguments.memory_limit.as_deref();
    let before = settings::from_file(registry, &folder.file(CONFIG), limit)?;
    let mut settings = before.clone();
    let judges = registry.judges(&settings);
    let extended = settings::extend(&mut settings, judges, arguments)?;
    if let Some(policy) = &arguments.on_fault {
        settings.training.on_fault = settings::on_fault(policy)?;
    }
    let changed = settings != before;
    Ok(Wanted { task: Task::with(settings, registry)?.over(ranks::team()), changed, extended })
}

fn already_finished(summary: &Summary, folder: &Folder, speech: Speech<'_>) -> ExitCode {
    if speech.json {
        put(summary.json());
    }
    let (shown, reason) = (folder.path().display(), &summary.stop_reason);
    let line = format!("{shown} is finished (stopped by {reason}); more with --steps, --epochs or --time");
    say(speech.quiet, &line);
    ExitCode::SUCCESS
}

/// What `training.from` names lies outside the folder, and a folder may be somebody else's.
fn refuse_other_weights(settings: &Settings, folder: &Folder) -> Result<(), Failure> {
    if settings.training.from.is_none() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{} has no checkpoint yet, and its run started from other weights; start it again: {} train --config {}",
        folder.path().display(),
        program(),
        folder.file(CONFIG).display()
    )))
}

/// Training time and time since the run began, from the summary of a run's end, else from its last row.
fn clock(summary: Option<&Summary>, rows: &[Metrics]) -> (Duration, Duration) {
    let (wall, elapsed) = summary.map_or_else(
        || rows.last().map_or((0.0, 0.0), |row| (row.wall_s, row.elapsed_s)),
        |summary| (summary.wall_s, summary.elapsed_s),
    );
    let seconds = |value: f64| Duration::try_from_secs_f64(value).unwrap_or_default();
    (seconds(wall), seconds(elapsed))
}

/// Trains to the end and writes all files of the run.
fn finish(
    task: &Task,
    mut trainer: Trainer,
    mut watcher: Watcher,
    folder: &Folder,
    pictures: &Pictures,
    speech: Speech<'_>,
) -> Result<ExitCode, Failure> {
    say_instability(task, speech.quiet);
    let reason = watcher.train(&mut trainer)?;
    let summary = watcher.save(task, &trainer, &reason)?;
    // The optimizer's memory makes room for it.
    let theta = trainer.into_theta();
    let of = watcher.kept().spectrum.of.or_else(|| spectrum_plan(task));
    let kept = watcher.kept_mut();
    (kept.spectrum.end, kept.spectrum.of) = (spectrum(task, &theta, of), of);
    drop(theta);
    folder.write_spectrum(&watcher.kept().spectrum)?;
    report::draw(folder, task, pictures)?;
    if speech.json {
        put(summary.json());
    }
    for line in closing_lines(&summary, &reason, &watcher.kept().rows, folder) {
        say(speech.quiet, &line);
    }
    for line in fit::closing_lines(task, folder)? {
        say(speech.quiet, &line);
    }
    Ok(exit_code(&reason, task, &summary))
}

fn closing_lines(summary: &Summary, reason: &StopReason, rows: &[Metrics], folder: &Folder) -> Vec<String> {
    let solver = summary.solver.as_ref().map_or_else(String::new, |solver| format!(" ({solver})"));
    let ms = summary.ms_per_step.map_or_else(String::new, |ms| format!(", {ms:.2} ms per step"));
    let loss = |loss: Option<f64>| loss.map_or_else(|| "not finite".to_owned(), |loss| format!("{loss:.3e}"));
    let first = rows.first().map(|row| row.test_loss).filter(|loss| loss.is_finite());
    let best = summary.best_step.unwrap_or(0);
    let seen = reason.seen().map_or_else(String::new, |seen| format!(": {seen}"));
    let mut lines = vec![
        format!(
            "{}, {}{solver}, seed {}: {} steps in {:.1} s of training{ms}; stopped by {}{seen}",
            summary.task, summary.optimizer, summary.seed, summary.steps, summary.wall_s, summary.stop_reason
        ),
        format!(
            "test loss {} at the start, {} at the end; best {} at step {best}",
            loss(first),
            loss(summary.test_loss),
            loss(summary.best_test_loss),
        ),
    ];
    if summary.better_before().is_some() {
        lines.push(format!("the parameters of step {best}: {}", folder.file(BEST).display()));
    }
    lines.extend(summary.notices.iter().cloned());
    let faults = rows.iter().map(|row| row.faults).sum::<u64>();
    if faults > 0 {
        lines.push(format!(
            "failed steps that the run survived: {faults}; the column faults of metrics.csv tells when"
        ));
    }
    lines.push(format!("report: {}", folder.file(REPORT).display()));
    lines
}
