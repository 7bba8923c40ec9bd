//! `hig train TASK` and `hig resume DIR`: one run, its files, and three lines on what was reached.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use halfinverse::optimizer::StepReport;
use halfinverse::task::{StopSettings, Task};
use halfinverse::training::{Flow, Observer, Row, StopReason, Trainer, read_parameters, write_checkpoint};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::arguments::{ResumeArguments, TrainArguments};
use crate::failure::Failure;
use crate::folder::{
    CHECKPOINT, CONFIG, Folder, Metrics, MetricsWriter, REPORT, SUMMARY, Spectrum, Summary, peak_rss_bytes,
};
use crate::voice::{put, say};
use crate::{interrupt, report, settings};

pub(crate) fn run(arguments: &TrainArguments) -> Result<ExitCode, Failure> {
    let task = settings::for_training(arguments)?;
    let theta = start(&task)?;
    let optimizer = task.settings().optimizer.name();
    let folder = Folder::create(arguments.out.as_deref(), &format!("{}-{optimizer}", task.settings().task))?;
    folder.write(CONFIG, &settings::to_toml(task.settings()))?;

    interrupt::listen()?;
    let trainer = Trainer::new(&task, theta).map_err(|error| Failure::new(error.to_string()))?;
    let watcher = Watcher::new(&task, &folder, arguments.quiet)?;
    let start = trainer.spectrum().unwrap_or_default();
    folder.write_spectrum(&Spectrum { start: start.clone(), end: Vec::new() })?;
    finish(trainer, watcher, start, &folder, (arguments.quiet, arguments.json))
}

/// `hig resume DIR`: goes on from a run's checkpoint as if it had not been stopped.
pub(crate) fn resume(arguments: &ResumeArguments) -> Result<ExitCode, Failure> {
    let folder = Folder::open_unfinished(&arguments.folder)?;
    let mut task = settings::from_file(&folder.file(CONFIG))?;
    let mut settings = task.settings().clone();
    let extended = settings::extend(&mut settings.stop, arguments)?;
    if extended {
        task = Task::new(settings).map_err(|error| Failure::new(error.to_string()))?;
    }
    let ended = folder.summary().filter(|summary| {
        !summary.stop_reason.starts_with("interrupted") && !summary.stop_reason.starts_with("diverged")
    });
    if let Some(summary) = ended.filter(|_| !extended) {
        let shown = folder.path().display();
        let reason = summary.stop_reason;
        say(
            arguments.quiet,
            &format!("{shown} is finished (stopped by {reason}); more with --steps, --epochs or --time"),
        );
        return Ok(ExitCode::SUCCESS);
    }
    let mut trainer = halfinverse::training::resume(&task, &folder.file(CHECKPOINT))
        .map_err(|error| Failure::new(format!("cannot go on from the checkpoint: {error}")))?;
    let rows = folder.cut_metrics(|step| step <= trainer.steps() && task.settings().evaluates_at(step))?;
    let summary = folder.summary().filter(|summary| summary.steps == trainer.steps());
    let (wall, elapsed) = summary.map_or_else(
        || rows.last().map_or((0.0, 0.0), |row| (row.wall_s, row.elapsed_s)),
        |summary| (summary.wall_s, summary.elapsed_s),
    );
    let seconds = |value: f64| Duration::try_from_secs_f64(value).unwrap_or_default();
    trainer.set_clock(seconds(wall), seconds(elapsed));
    folder.write(CONFIG, &settings::to_toml(task.settings()))?;
    interrupt::listen()?;
    let watcher = Watcher::after(&task, &folder, rows, arguments.quiet)?;
    // Not made anew: what `training.from` names lies outside the folder, and a folder may be somebody else's.
    let start = folder.spectrum().unwrap_or_default().start;
    finish(trainer, watcher, start, &folder, (arguments.quiet, arguments.json))
}

/// Trains to the end and writes all files of the run.
fn finish(
    mut trainer: Trainer,
    mut watcher: Watcher,
    start: Vec<f64>,
    folder: &Folder,
    (quiet, json_wanted): (bool, bool),
) -> Result<ExitCode, Failure> {
    let reason = trainer.run(&mut watcher).map_err(|error| Failure::new(error.to_string()))?;
    watcher.finish();
    let (summary, json) = save(&mut trainer, &watcher, &reason, folder)?;
    let end = trainer.spectrum().unwrap_or_default();
    folder.write_spectrum(&Spectrum { start, end })?;
    report::draw(folder)?;

    if json_wanted {
        put(&json);
    }
    for line in closing_lines(&summary, &watcher.rows, folder) {
        say(quiet, &line);
    }
    Ok(exit_code(&reason, &summary))
}

/// Writes checkpoint and summary of a run that has ended; returns the summary, also as JSON.
pub(crate) fn save(
    trainer: &mut Trainer,
    watcher: &Watcher,
    reason: &StopReason,
    folder: &Folder,
) -> Result<(Summary, String), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(error.to_string());
    write_checkpoint(trainer, &folder.file(CHECKPOINT)).map_err(|error| failed(&error))?;
    let summary = summarize(trainer, watcher, reason);
    let json = serde_json::to_string_pretty(&summary).map_err(|error| failed(&error))?;
    folder.write(SUMMARY, &(json.clone() + "\n"))?;
    Ok((summary, json))
}

/// The program's exit code for the end of a run; one that diverged is said, with the mend.
pub(crate) fn exit_code(reason: &StopReason, summary: &Summary) -> ExitCode {
    match reason {
        StopReason::Diverged(error) => {
            say(
                false,
                &format!(
                    "hig: the run diverged at step {}: {error}; lower the learning rate with --lr",
                    summary.steps + 1
                ),
            );
            ExitCode::from(3)
        }
        StopReason::Interrupted => ExitCode::from(130),
        _ => ExitCode::SUCCESS,
    }
}

/// θ that training starts from, where the settings name a checkpoint.
pub(crate) fn start(task: &Task) -> Result<Option<Vec<f64>>, Failure> {
    task.settings().training.from.as_ref().map(|path| parameters(task, Path::new(path))).transpose()
}

/// θ of a checkpoint, or of the checkpoint in a run's folder.
fn parameters(task: &Task, path: &Path) -> Result<Vec<f64>, Failure> {
    let file = if path.is_dir() { path.join(CHECKPOINT) } else { path.to_owned() };
    read_parameters(task.model().network(), &file)
        .map_err(|error| Failure::new(format!("cannot start from this checkpoint: {error} (--from)")))
}

fn summarize(trainer: &Trainer, watcher: &Watcher, reason: &StopReason) -> Summary {
    let settings = trainer.task().settings();
    let last = watcher.rows.last();
    let finite = |loss: f64| Some(loss).filter(|loss| loss.is_finite());
    Summary {
        task: settings.task.to_string(),
        optimizer: settings.optimizer.name().to_string(),
        solver: watcher.solver.clone(),
        seed: settings.training.seed,
        threads: settings.training.threads,
        steps: trainer.steps(),
        epochs: trainer.epochs(),
        wall_s: trainer.wall().as_secs_f64(),
        elapsed_s: last.map_or(0.0, |row| row.elapsed_s),
        train_loss: last.and_then(|row| row.train_loss),
        test_loss: last.and_then(|row| finite(row.test_loss)),
        best_test_loss: watcher.rows.iter().filter_map(|row| finite(row.test_loss)).min_by(f64::total_cmp),
        ms_per_step: trainer.ms_per_step(),
        peak_rss_bytes: peak_rss_bytes(),
        stop_reason: match reason {
            StopReason::Steps => "steps".to_owned(),
            StopReason::Epochs => "epochs".to_owned(),
            StopReason::Time => "time".to_owned(),
            StopReason::TargetLoss => "target_loss".to_owned(),
            StopReason::Interrupted => "interrupted".to_owned(),
            StopReason::Diverged(error) => format!("diverged: {error}"),
        },
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn closing_lines(summary: &Summary, rows: &[Metrics], folder: &Folder) -> [String; 3] {
    let solver = summary.solver.as_ref().map_or_else(String::new, |solver| format!(" ({solver})"));
    let ms = summary.ms_per_step.map_or_else(String::new, |ms| format!(", {ms:.2} ms per step"));
    let loss = |loss: Option<f64>| loss.map_or_else(|| "not finite".to_owned(), |loss| format!("{loss:.3e}"));
    let first = rows.first().map(|row| row.test_loss).filter(|loss| loss.is_finite());
    let best =
        rows.iter().filter(|row| Some(row.test_loss) == summary.best_test_loss).map(|row| row.step).next();
    [
        format!(
            "{}, {}{solver}, seed {}: {} steps in {:.1} s of training{ms}; stopped by {}",
            summary.task, summary.optimizer, summary.seed, summary.steps, summary.wall_s, summary.stop_reason
        ),
        format!(
            "test loss {} at the start, {} at the end; best {} at step {}",
            loss(first),
            loss(summary.test_loss),
            loss(summary.best_test_loss),
            best.unwrap_or(0)
        ),
        format!("report: {}", folder.file(REPORT).display()),
    ]
}

/// Keeps the rows, moves the bar, asks whether to stop.
pub(crate) struct Watcher {
    metrics: MetricsWriter,
    rows: Vec<Metrics>,
    solver: Option<String>,
    bar: ProgressBar,
    stop: StopSettings,
    moved: Instant,
    checkpoint: PathBuf,
    saved: Instant,
}

/// Positions of the bar.
const BAR: u64 = 1000;
/// Time between checkpoints.
const SAVE: Duration = Duration::from_secs(10);
/// Time between its moves.
const MOVE: Duration = Duration::from_millis(100);

impl Watcher {
    pub(crate) fn new(task: &Task, folder: &Folder, quiet: bool) -> Result<Self, Failure> {
        Ok(Self::with(task, folder, quiet, MetricsWriter::create(folder)?, Vec::new()))
    }

    /// Of a run that is gone on with after these rows.
    fn after(task: &Task, folder: &Folder, rows: Vec<Metrics>, quiet: bool) -> Result<Self, Failure> {
        Ok(Self::with(task, folder, quiet, MetricsWriter::append_to(folder)?, rows))
    }

    fn with(task: &Task, folder: &Folder, quiet: bool, metrics: MetricsWriter, rows: Vec<Metrics>) -> Self {
        let shown = !quiet && std::io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(BAR), target);
        let style = ProgressStyle::with_template("{bar:30} {percent:>3}%  {msg}").expect("a valid template");
        bar.set_style(style.progress_chars("━━ "));
        Self {
            metrics,
            rows,
            solver: None,
            bar,
            stop: task.settings().stop.clone(),
            moved: Instant::now(),
            checkpoint: folder.file(CHECKPOINT),
            saved: Instant::now(),
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// How far the run is towards its nearest stop, 0 to 1.
    fn progress(&self, trainer: &Trainer) -> f64 {
        let steps = trainer.steps() as f64;
        let parts = [
            self.stop.steps.map(|all| steps / all as f64),
            self.stop.epochs.map(|all| trainer.epochs() / all as f64),
            self.stop.time.map(|all| trainer.wall().as_secs_f64() / all),
        ];
        parts.into_iter().flatten().fold(0.0, f64::max).min(1.0)
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a bar")]
    fn redraw(&mut self, trainer: &Trainer, report: &StepReport) {
        self.moved = Instant::now();
        let done = self.progress(trainer);
        let wall = trainer.wall().as_secs_f64();
        let left =
            if done > 0.0 { format!(", {:.0} s left", wall * (1.0 - done) / done) } else { String::new() };
        let test = self.rows.last().map_or(f64::NAN, |row| row.test_loss);
        let rate = trainer.steps() as f64 / wall;
        self.bar.set_position((done * BAR as f64) as u64);
        self.bar.set_message(format!("{rate:.0} steps/s, train {:.2e}, test {test:.2e}{left}", report.loss));
    }
}

impl Observer for Watcher {
    fn step(&mut self, trainer: &mut Trainer, report: &StepReport) -> Flow {
        if self.solver.is_none() {
            self.solver = report.spectral.as_ref().map(|spectral| spectral.solver.to_string());
        }
        if self.moved.elapsed() >= MOVE {
            self.redraw(trainer, report);
        }
        if self.saved.elapsed() >= SAVE {
            if let Err(error) = write_checkpoint(trainer, &self.checkpoint) {
                say(
                    false,
                    &format!("hig: no checkpoint at step {}: {error}; training goes on", trainer.steps()),
                );
            }
            self.saved = Instant::now();
        }
        if interrupt::asked() { Flow::Stop } else { Flow::Continue }
    }

    fn row(&mut self, _: &Trainer, row: &Row) -> std::io::Result<()> {
        let metrics = Metrics::from(row);
        self.metrics.append(&metrics)?;
        self.rows.push(metrics);
        Ok(())
    }
}
