//! `hig train TASK` and `hig resume DIR`: one run, its files, and three lines on what was reached.

use std::fs::File;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use halfinverse::StepError;
use halfinverse::optimizer::StepReport;
use halfinverse::task::{Forecast, OnFault, Settings, StopSettings, Task};
use halfinverse::training::{
    Flow, Observer, Row, StopReason, Trainer, TrainingError, checkpoint_exists, read_parameters,
    write_checkpoint,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::arguments::{ResumeArguments, TrainArguments};
use crate::failure::Failure;
use crate::folder::{
    CHECKPOINT, CONFIG, Folder, Metrics, MetricsWriter, REPORT, SUMMARY, Spectrum, Summary, peak_rss_bytes,
};
use crate::voice::{put, say};
use crate::{interrupt, memory, report, settings};

pub(crate) fn run(arguments: &TrainArguments) -> Result<ExitCode, Failure> {
    let task = settings::for_training(arguments)?;
    let theta = start(&task)?;
    let optimizer = task.settings().optimizer.name();
    let folder = Folder::create(arguments.out.as_deref(), &format!("{}-{optimizer}", task.settings().task))?;
    let lock = folder.lock()?;
    folder.write(CONFIG, &settings::to_toml(task.settings()))?;
    begin(&task, theta, &folder, lock, (arguments.quiet, arguments.json))
}

/// A run from its first step, in a folder that has its configuration.
fn begin(
    task: &Task,
    theta: Option<Vec<f64>>,
    folder: &Folder,
    lock: File,
    (quiet, json): (bool, bool),
) -> Result<ExitCode, Failure> {
    if let Ok(forecast) = Forecast::new(task.settings()) {
        say(quiet, &memory::line(&forecast));
    }
    interrupt::listen()?;
    let trainer = Trainer::new(task, theta).map_err(|error| Failure::new(error.to_string()))?;
    let mut watcher = Watcher::new(task, folder, lock, quiet)?;
    watcher.spectrum.start = trainer.spectrum().unwrap_or_default();
    folder.write_spectrum(&watcher.spectrum)?;
    finish(trainer, watcher, folder, (quiet, json))
}

/// `hig resume DIR`: goes on from a run's checkpoint as if it had not been stopped.
pub(crate) fn resume(arguments: &ResumeArguments) -> Result<ExitCode, Failure> {
    let folder = Folder::open_unfinished(&arguments.folder)?;
    let lock = folder.lock()?;
    let mut task = settings::from_file(&folder.file(CONFIG), arguments.memory_limit.as_deref())?;
    let mut settings = task.settings().clone();
    let extended = settings::extend(&mut settings, arguments)?;
    if let Some(policy) = &arguments.on_fault {
        settings.training.on_fault = settings::on_fault(policy)?;
    }
    let changed = settings != *task.settings();
    if changed {
        task = Task::new(settings).map_err(|error| Failure::new(error.to_string()))?;
    }
    let shown = folder.path().display();
    let summary = folder.summary();
    let ended = summary.as_ref().filter(|summary| {
        !summary.stop_reason.starts_with("interrupted") && !summary.stop_reason.starts_with("diverged")
    });
    // A run that was killed while its report was drawn goes on with that.
    if let Some(summary) = ended.filter(|_| !extended && folder.file(REPORT).is_file()) {
        let reason = &summary.stop_reason;
        if arguments.json {
            put(summary.json());
        }
        say(
            arguments.quiet,
            &format!("{shown} is finished (stopped by {reason}); more with --steps, --epochs or --time"),
        );
        return Ok(ExitCode::SUCCESS);
    }
    let go_on = || {
        // They tell of an end that is not one any more. A kill between this and the new end's place loses the wish for more.
        folder.remove(SUMMARY)?;
        folder.remove(REPORT)?;
        if changed { folder.write(CONFIG, &settings::to_toml(task.settings())) } else { Ok(()) }
    };
    let checkpoint = folder.file(CHECKPOINT);
    if !checkpoint_exists(&checkpoint) {
        if task.settings().training.from.is_some() {
            // What that names lies outside the folder, and a folder may be somebody else's.
            return Err(Failure::new(format!(
                "{shown} has no checkpoint yet, and its run started from other weights; start it again: hig train --config {}",
                folder.file(CONFIG).display()
            )));
        }
        say(arguments.quiet, &format!("{shown} has no checkpoint yet; its run starts again"));
        go_on()?;
        return begin(&task, None, &folder, lock, (arguments.quiet, arguments.json));
    }
    let mut trainer = halfinverse::training::resume(&task, &checkpoint)
        .map_err(|error| Failure::new(format!("cannot go on from the checkpoint: {error}")))?;
    let rows = folder.cut_metrics(trainer.rows())?;
    go_on()?;
    let summary = summary.filter(|summary| summary.steps == trainer.steps());
    let (wall, elapsed) = clock(summary.as_ref(), &rows);
    trainer.set_clock(wall, elapsed);
    interrupt::listen()?;
    let mut watcher = Watcher::after(&task, &folder, lock, rows, arguments.quiet)?;
    watcher.solver = summary.and_then(|summary| summary.solver);
    watcher.spectrum.start = folder.spectrum().unwrap_or_default().start;
    finish(trainer, watcher, &folder, (arguments.quiet, arguments.json))
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
    mut trainer: Trainer,
    mut watcher: Watcher,
    folder: &Folder,
    (quiet, json_wanted): (bool, bool),
) -> Result<ExitCode, Failure> {
    let reason = train(&mut trainer, &mut watcher)?;
    let summary = save(&mut trainer, &mut watcher, &reason)?;
    watcher.spectrum.end = trainer.spectrum().unwrap_or_default();
    folder.write_spectrum(&watcher.spectrum)?;
    report::draw(folder, trainer.task())?;

    if json_wanted {
        put(summary.json());
    }
    for line in closing_lines(&summary, &watcher.rows, folder) {
        say(quiet, &line);
    }
    Ok(exit_code(&reason, trainer.task().settings(), &summary))
}

/// Trains until a stop, the progress bar taken away after it.
pub(crate) fn train(trainer: &mut Trainer, watcher: &mut Watcher) -> Result<StopReason, Failure> {
    let reason = trainer.run(watcher);
    watcher.finish();
    reason.map_err(|error| broken_off(error, &watcher.folder))
}

/// Why a run could not go on.
pub(crate) fn broken_off(error: TrainingError, folder: &Folder) -> Failure {
    match error {
        TrainingError::Observer(error) => folder.stopped(&format!("cannot keep the metrics: {error}")),
        error => Failure::new(error.to_string()),
    }
}

/// Writes checkpoint and summary of a run that has ended; returns the summary.
pub(crate) fn save(
    trainer: &mut Trainer,
    watcher: &mut Watcher,
    reason: &StopReason,
) -> Result<Summary, Failure> {
    watcher.keep(trainer).map_err(|error| {
        // There is no checkpoint of this run left to go on from.
        if watcher.ousted { Failure::of_writing(error) } else { watcher.folder.stopped(&error) }
    })?;
    let summary = summarize(trainer, watcher, reason);
    watcher.folder.write(SUMMARY, &(summary.json() + "\n"))?;
    Ok(summary)
}

/// The program's exit code for the end of a run; one that diverged is said, with the mend.
pub(crate) fn exit_code(reason: &StopReason, settings: &Settings, summary: &Summary) -> ExitCode {
    let error = match reason {
        StopReason::Diverged(error) => error,
        StopReason::Interrupted => return ExitCode::from(130),
        _ => return ExitCode::SUCCESS,
    };
    let blown_up = matches!(error, StepError::BlowUp { .. });
    let mend = match (settings.training.on_fault, blown_up) {
        (OnFault::RollBack, _) => {
            "there is nothing to go back to, or shorter steps did not mend it; start again with a lower learning rate (--lr)"
        }
        (_, true) => {
            "start again with --on-fault roll-back, a lower learning rate (--lr), or training.blow_up=0 to let it be"
        }
        (OnFault::Stop, false) => {
            "take --on-fault skip, also with hig resume, or a lower learning rate (--lr)"
        }
        (OnFault::Skip, false) => "too many mini-batches in a row failed; lower the learning rate with --lr",
    };
    // A blow-up is seen by the step after it, which was made; one that failed was not.
    let step = summary.steps + u64::from(!blown_up);
    say(false, &format!("hig: the run diverged at step {step}: {error}; {mend}"));
    ExitCode::from(3)
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
        solver: settings.optimizer.solver().and(watcher.solver.clone()),
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
        faults: trainer.faults() + u64::from(matches!(reason, StopReason::Diverged(_))),
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

fn closing_lines(summary: &Summary, rows: &[Metrics], folder: &Folder) -> Vec<String> {
    let solver = summary.solver.as_ref().map_or_else(String::new, |solver| format!(" ({solver})"));
    let ms = summary.ms_per_step.map_or_else(String::new, |ms| format!(", {ms:.2} ms per step"));
    let loss = |loss: Option<f64>| loss.map_or_else(|| "not finite".to_owned(), |loss| format!("{loss:.3e}"));
    let first = rows.first().map(|row| row.test_loss).filter(|loss| loss.is_finite());
    let best =
        rows.iter().filter(|row| Some(row.test_loss) == summary.best_test_loss).map(|row| row.step).next();
    let mut lines = vec![
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
    ];
    let faults = rows.iter().map(|row| row.faults).sum::<u64>();
    if faults > 0 {
        lines.push(format!(
            "steps that failed and were gone on from: {faults}; the column faults of metrics.csv tells when"
        ));
    }
    lines.push(format!("report: {}", folder.file(REPORT).display()));
    lines
}

/// Keeps the rows, moves the bar, asks whether to stop.
pub(crate) struct Watcher {
    metrics: MetricsWriter,
    rows: Vec<Metrics>,
    spectrum: Spectrum,
    solver: Option<String>,
    bar: ProgressBar,
    stop: StopSettings,
    moved: Instant,
    folder: Folder,
    lock: File,
    /// Whether the folder is another run's by now.
    ousted: bool,
    /// Time between checkpoints, and when the next one comes.
    every: Duration,
    next: Instant,
}

/// No checkpoint is put off for longer.
const LONGEST: Duration = Duration::from_hours(24);
/// Positions of the bar.
const BAR: u64 = 1000;
/// Time between checkpoints in units of what one takes, at least.
const REST: u32 = 20;
/// Time between its moves.
const MOVE: Duration = Duration::from_millis(100);

impl Watcher {
    pub(crate) fn new(task: &Task, folder: &Folder, lock: File, quiet: bool) -> Result<Self, Failure> {
        Ok(Self::with(task, folder, lock, quiet, MetricsWriter::create(folder)?, Vec::new()))
    }

    /// Of a run that is gone on with after these rows.
    fn after(
        task: &Task,
        folder: &Folder,
        lock: File,
        rows: Vec<Metrics>,
        quiet: bool,
    ) -> Result<Self, Failure> {
        Ok(Self::with(task, folder, lock, quiet, MetricsWriter::append_to(folder)?, rows))
    }

    fn with(
        task: &Task,
        folder: &Folder,
        lock: File,
        quiet: bool,
        metrics: MetricsWriter,
        rows: Vec<Metrics>,
    ) -> Self {
        let every = task.settings().training.checkpoint_every;
        let every = Duration::try_from_secs_f64(every).map_or(LONGEST, |every| every.min(LONGEST));
        let shown = !quiet && std::io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(BAR), target);
        let style = ProgressStyle::with_template("{bar:30} {percent:>3}%  {msg}").expect("a valid template");
        bar.set_style(style.progress_chars("━━ "));
        Self {
            metrics,
            rows,
            spectrum: Spectrum::default(),
            solver: None,
            bar,
            stop: task.settings().stop.clone(),
            moved: Instant::now(),
            folder: folder.clone(),
            lock,
            ousted: false,
            every,
            next: Instant::now() + every,
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Writes a checkpoint, and the folder again where it is gone.
    fn keep(&mut self, trainer: &mut Trainer) -> Result<(), String> {
        let keeps = self.folder.keeps(&self.lock);
        if keeps == Some(false) {
            return Err(self.oust());
        }
        if keeps.is_none() {
            std::fs::create_dir_all(self.folder.path()).map_err(|error| error.to_string())?;
            self.lock = self.folder.lock().map_err(|failure| failure.to_string())?;
            // Another run may have come and gone since.
            let own = settings::to_toml(trainer.task().settings());
            if std::fs::read_to_string(self.folder.file(CONFIG)).is_ok_and(|config| config != own) {
                return Err(self.oust());
            }
        }
        if !self.folder.stands() {
            self.make_again(trainer).map_err(|failure| failure.to_string())?;
        }
        self.metrics.sync().map_err(|error| format!("cannot keep the metrics: {error}"))?;
        write_checkpoint(trainer, &self.folder.file(CHECKPOINT))
            .map_err(|error| format!("cannot keep a checkpoint: {error}"))
    }

    /// A checkpoint if it is time for one.
    fn keep_in_time(&mut self, trainer: &mut Trainer) {
        if Instant::now() < self.next {
            return;
        }
        let begun = Instant::now();
        if let Err(error) = self.keep(trainer) {
            let then = if self.ousted { "" } else { "; training goes on" };
            say(false, &format!("hig: step {}: {error}{then}", trainer.steps()));
        }
        self.next = Instant::now() + self.every.max(REST * begun.elapsed());
    }

    /// The folder is not this run's any more.
    fn oust(&mut self) -> String {
        self.ousted = true;
        format!(
            "{} was removed and is another run's now; this one's files are gone",
            self.folder.path().display()
        )
    }

    /// Everything so far into a folder that was removed under way, or from which files were.
    fn make_again(&mut self, trainer: &Trainer) -> Result<(), Failure> {
        let path = self.folder.path();
        self.folder.write(CONFIG, &settings::to_toml(trainer.task().settings()))?;
        self.folder.write_spectrum(&self.spectrum)?;
        let mut metrics = MetricsWriter::create(&self.folder)?;
        self.rows
            .iter()
            .try_for_each(|row| metrics.append(row))
            .map_err(|error| Failure::of_writing(format!("cannot make {} again: {error}", path.display())))?;
        self.metrics = metrics;
        say(false, &format!("hig: files were missing from {}; they are made again", path.display()));
        Ok(())
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
        // Where an evaluation is due, its row comes first.
        if !trainer.task().settings().evaluates_at(trainer.steps()) {
            self.keep_in_time(trainer);
        }
        if interrupt::asked() || self.ousted { Flow::Stop } else { Flow::Continue }
    }

    fn row(&mut self, trainer: &mut Trainer, row: &Row) -> std::io::Result<()> {
        let metrics = Metrics::from(row);
        self.metrics.append(&metrics)?;
        self.rows.push(metrics);
        // A row that only the end of a run called for is none that a checkpoint knows of.
        if trainer.task().settings().evaluates_at(row.step) {
            self.keep_in_time(trainer);
        }
        Ok(())
    }
}
