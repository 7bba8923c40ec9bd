//! Watches a run: keeps its rows and checkpoints, moves the progress bar, asks whether to stop.

use std::fs::File;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use halfinverse::network::Tensor;
use halfinverse::optimizer::StepReport;
use halfinverse::problem::Source;
use halfinverse::task::Task;
use halfinverse::training::{
    Best, Flow, Observer, Progress, Request, Row, StopReason, StopSettings, Trainer, TrainingError,
    write_checkpoint, write_model,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::failure::Failure;
use crate::folder::{
    BEST, CHECKPOINT, CONFIG, Folder, METRICS, Metrics, MetricsWriter, SUMMARY, Spectrum, Summary,
    peak_rss_bytes,
};
use crate::interrupt;
use crate::tensorboard::EventWriter;
use crate::view::{Deed, Link, View};
use crate::voice::{complain, say};

/// What is kept of a run, and where.
pub(crate) struct Watcher {
    kept: Kept,
    home: Home,
    bar: Bar,
    /// Notices that were said, and whether any are.
    said: usize,
    quiet: bool,
    /// The view, where there is one, and what the next row was asked for there.
    link: Option<Link>,
    event: Option<String>,
    /// What a line of its own begins with: the run's name, where it is one of several.
    prefix: String,
    /// Time between checkpoints, and when the next one comes.
    every: Duration,
    next: Instant,
}

/// What a run has shown.
pub(crate) struct Kept {
    pub(crate) rows: Vec<Metrics>,
    pub(crate) spectrum: Spectrum,
    /// The solver of the first spectral step.
    pub(crate) solver: Option<String>,
}

/// The run's folder while it is at work there.
struct Home {
    folder: Folder,
    lock: File,
    metrics: MetricsWriter,
    /// For TensorBoard, where that is wanted.
    events: Option<EventWriter>,
    /// `config.toml`.
    config: String,
    /// What the best parameters' file tells besides.
    description: Option<String>,
    /// Names of the parameters, and the step of those that were last written as the best.
    tensors: Vec<Tensor>,
    best: Option<u64>,
    /// Whether the folder is another run's by now.
    ousted: bool,
}

/// The progress bar.
struct Bar {
    shown: ProgressBar,
    stop: StopSettings,
    moved: Instant,
}

/// No checkpoint is put off for longer.
const LONGEST: Duration = Duration::from_hours(24);
/// Positions of the bar.
const POSITIONS: u64 = 1000;
/// Time between checkpoints in units of what one takes, at least.
const REST: u32 = 20;
/// Bytes that are written in a second, as far as is known before the first checkpoint: a slow disk.
const RATE: u64 = 200 << 20;
/// Time between moves of the bar: ten a second look smooth.
const MOVE: Duration = Duration::from_millis(100);

impl Watcher {
    pub(crate) fn new(task: &Task, folder: &Folder, lock: File, quiet: bool) -> Result<Self, Failure> {
        let metrics = MetricsWriter::create(&folder.file(METRICS))?;
        Ok(Self::with(task, folder, lock, metrics, Vec::new(), quiet))
    }

    /// Of a run that is resumed after these rows, and has said so many notices.
    pub(crate) fn after(
        task: &Task,
        folder: &Folder,
        lock: File,
        (rows, said): (Vec<Metrics>, usize),
        quiet: bool,
    ) -> Result<Self, Failure> {
        let metrics = MetricsWriter::append_to(&folder.file(METRICS))?;
        Ok(Self { said, ..Self::with(task, folder, lock, metrics, rows, quiet) })
    }

    fn with(
        task: &Task,
        folder: &Folder,
        lock: File,
        metrics: MetricsWriter,
        rows: Vec<Metrics>,
        quiet: bool,
    ) -> Self {
        let every = task.settings().training.checkpoint_every;
        let every = Duration::try_from_secs_f64(every).map_or(LONGEST, |every| every.min(LONGEST));
        let config = task.settings().to_toml();
        Self {
            kept: Kept { rows, spectrum: Spectrum::default(), solver: None },
            home: Home {
                folder: folder.clone(),
                lock,
                metrics,
                events: None,
                config,
                description: task.description(),
                tensors: task.model().tensors(),
                best: None,
                ousted: false,
            },
            bar: Bar::new(task.settings().stop.clone(), quiet),
            said: 0,
            quiet,
            link: None,
            event: None,
            prefix: String::new(),
            every,
            next: Instant::now() + every.max(REST * written(task.forecast().saved)),
        }
    }

    /// With its name before what it says.
    pub(crate) fn named(self, name: &str) -> Self {
        Self { prefix: format!("{name}, "), ..self }
    }

    /// With others who look on: the view, and TensorBoard.
    pub(crate) fn shown_to(
        mut self,
        task: &Task,
        view: Option<&View>,
        tensorboard: bool,
    ) -> Result<Self, Failure> {
        self.link = view.map(|view| view.begin(self.home.folder.path(), task));
        if tensorboard {
            let events = EventWriter::create(&self.home.folder, &self.kept.rows);
            self.home.events = Some(events.map_err(|error| {
                let shown = self.home.folder.path().display();
                Failure::of_writing(format!("cannot write TensorBoard's file into {shown}: {error}"))
            })?);
        }
        Ok(self)
    }

    /// What the run has shown.
    pub(crate) fn kept(&self) -> &Kept {
        &self.kept
    }

    /// The same, to be added to.
    pub(crate) fn kept_mut(&mut self) -> &mut Kept {
        &mut self.kept
    }

    /// Takes the bar away; the view takes no more controls.
    pub(crate) fn finish(&mut self) {
        self.bar.shown.finish_and_clear();
        self.link = None;
    }

    /// Trains until a stop, the progress bar taken away after it.
    pub(crate) fn train(&mut self, trainer: &mut Trainer) -> Result<StopReason, Failure> {
        let reason = trainer.run(self);
        self.finish();
        reason.map_err(|error| broken_off(error, &self.home.folder))
    }

    /// Writes checkpoint and summary of a run that has ended; returns the summary.
    pub(crate) fn save(
        &mut self,
        task: &Task,
        trainer: &Trainer,
        reason: &StopReason,
    ) -> Result<Summary, Failure> {
        let path = self.home.folder.file(CHECKPOINT);
        let write = || write_checkpoint(trainer, &path).map_err(|error| error.to_string());
        self.home.keep(&self.kept, trainer.best(), &write).map_err(|error| {
            // There is no checkpoint of this run left to resume from.
            if self.home.ousted { Failure::of_writing(error) } else { self.home.folder.stopped(&error) }
        })?;
        let summary = self.summarize(task, trainer, reason);
        self.home.folder.write(SUMMARY, &(summary.json() + "\n"))?;
        Ok(summary)
    }

    /// Says each kind of notice once.
    fn say_new(&mut self, progress: &Progress<'_>) {
        for noted in progress.notices().get(self.said..).unwrap_or_default() {
            let line = format!("{}step {}: {}", self.prefix, noted.first, noted.notice);
            self.bar.shown.suspend(|| say(self.quiet, &line));
        }
        self.said = progress.notices().len();
    }

    /// A checkpoint if it is time for one.
    fn keep_in_time(&mut self, progress: &Progress<'_>) {
        if Instant::now() >= self.next {
            self.keep_now(progress);
        }
    }

    fn keep_now(&mut self, progress: &Progress<'_>) {
        let begun = Instant::now();
        let path = self.home.folder.file(CHECKPOINT);
        let write = || progress.write_checkpoint(&path).map_err(|error| error.to_string());
        if let Err(error) = self.home.keep(&self.kept, progress.best(), &write) {
            let then = if self.home.ousted { "" } else { "; training goes on" };
            complain(&format!("{}step {}: {error}{then}", self.prefix, progress.steps()));
        }
        self.next = Instant::now() + self.every.max(REST * begun.elapsed());
    }

    fn summarize(&self, task: &Task, trainer: &Trainer, reason: &StopReason) -> Summary {
        let settings = task.settings();
        let Kept { rows, solver, .. } = &self.kept;
        let (last, best) = (rows.last(), trainer.best());
        let finite = |loss: f64| Some(loss).filter(|loss| loss.is_finite());
        Summary {
            task: settings.task.clone(),
            optimizer: settings.optimizer.name.clone(),
            solver: settings.optimizer.solver().and(solver.clone()),
            seed: settings.training.seed,
            threads: settings.training.threads,
            steps: trainer.steps(),
            epochs: trainer.epochs(),
            wall_s: trainer.wall().as_secs_f64(),
            elapsed_s: last.map_or(0.0, |row| row.elapsed_s),
            train_loss: last.and_then(|row| row.train_loss),
            test_loss: last.and_then(|row| finite(row.test_loss)),
            best_test_loss: finite(best.loss),
            best_step: finite(best.loss).map(|_| best.step),
            ms_per_step: trainer.ms_per_step(),
            peak_rss_bytes: peak_rss_bytes(),
            faults: trainer.faults() + u64::from(matches!(reason, StopReason::Diverged(_))),
            stop_reason: reason.to_string(),
            notices: trainer.notices().iter().map(ToString::to_string).collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// How long so many bytes take, about.
fn written(bytes: u64) -> Duration {
    Duration::from_millis(1000 * bytes / RATE).min(LONGEST / REST)
}

/// Why a run could not go on.
pub(crate) fn broken_off(error: TrainingError, folder: &Folder) -> Failure {
    match error {
        TrainingError::Observer(error) => folder.stopped(&format!("cannot keep the metrics: {error}")),
        TrainingError::Ranks(lost) => folder.lost(&lost.to_string()),
        error => Failure::new(error.to_string()),
    }
}

impl Home {
    /// Writes a checkpoint, the best parameters where they are other ones, and the folder again where it is gone.
    fn keep(
        &mut self,
        kept: &Kept,
        best: Best<'_>,
        write: &dyn Fn() -> Result<(), String>,
    ) -> Result<(), String> {
        let keeps = self.folder.keeps(&self.lock);
        if keeps == Some(false) {
            return Err(self.oust());
        }
        if keeps.is_none() {
            std::fs::create_dir_all(self.folder.path()).map_err(|error| error.to_string())?;
            self.lock = self.folder.lock().map_err(|failure| failure.to_string())?;
            // Another run may have come and gone since.
            let config = std::fs::read_to_string(self.folder.file(CONFIG));
            if config.is_ok_and(|config| config != self.config) {
                return Err(self.oust());
            }
        }
        if !self.folder.stands() {
            self.make_again(kept).map_err(|failure| failure.to_string())?;
        }
        self.metrics.sync().map_err(|error| format!("cannot keep the metrics: {error}"))?;
        if best.loss.is_finite() && self.best != Some(best.step) {
            let path = self.folder.file(BEST);
            write_model(&self.tensors, best.theta, self.description.as_deref(), &path)
                .map_err(|error| format!("cannot keep the best parameters: {error}"))?;
            self.best = Some(best.step);
        }
        write().map_err(|error| format!("cannot keep a checkpoint: {error}"))
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
    fn make_again(&mut self, kept: &Kept) -> Result<(), Failure> {
        let path = self.folder.path();
        self.folder.write(CONFIG, &self.config)?;
        self.folder.write_spectrum(&kept.spectrum)?;
        let mut metrics = MetricsWriter::create(&self.folder.file(METRICS))?;
        kept.rows
            .iter()
            .try_for_each(|row| metrics.append(row))
            .map_err(|error| Failure::of_writing(format!("cannot make {} again: {error}", path.display())))?;
        if self.events.is_some() {
            let events = EventWriter::create(&self.folder, &kept.rows);
            self.events = Some(events.map_err(|error| {
                Failure::of_writing(format!("cannot make {} again: {error}", path.display()))
            })?);
        }
        (self.metrics, self.best) = (metrics, None);
        complain(&format!("files were missing from {}; they are made again", path.display()));
        Ok(())
    }
}

impl Bar {
    fn new(stop: StopSettings, quiet: bool) -> Self {
        let shown = !quiet && std::io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(POSITIONS), target);
        let style =
            ProgressStyle::with_template("{bar:30} {percent:>3}%  {wide_msg}").expect("a valid template");
        bar.set_style(style.progress_chars("━━ "));
        Self { shown: bar, stop, moved: Instant::now() }
    }

    /// How far the run is towards its nearest stop, 0 to 1.
    fn progress(&self, run: &Progress<'_>) -> f64 {
        let parts = [
            self.stop.steps.map(|all| run.steps() as f64 / all as f64),
            self.stop.epochs.map(|all| run.epochs() / all as f64),
            self.stop.time.map(|all| run.wall().as_secs_f64() / all),
        ];
        parts.into_iter().flatten().fold(0.0, f64::max).min(1.0)
    }

    /// Shows that the run is paused; whether it is interrupted.
    fn pauses(&self, run: &Progress<'_>) -> bool {
        let message = format!("paused at step {}; resume it in the view", run.steps());
        interrupt::show(self.progress(run), &message);
        self.shown.set_message(message);
        interrupt::asked()
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a bar")]
    fn redraw(&mut self, run: &Progress<'_>, train: f64, test: f64) {
        if self.moved.elapsed() < MOVE {
            return;
        }
        self.moved = Instant::now();
        let (done, wall) = (self.progress(run), run.wall().as_secs_f64());
        let left =
            if done > 0.0 { format!(", {:.0} s left", wall * (1.0 - done) / done) } else { String::new() };
        let rate = run.steps() as f64 / wall;
        self.shown.set_position((done * POSITIONS as f64) as u64);
        let notice = run.notices().iter().max_by_key(|noted| noted.last);
        let notice =
            notice.map_or_else(String::new, |noted| format!("; step {}: {}", noted.last, noted.notice));
        let message = format!("{rate:.0} steps/s, train {train:.2e}, test {test:.2e}{left}{notice}");
        interrupt::show(done, &message);
        self.shown.set_message(message);
    }
}

impl Observer for Watcher {
    fn step(&mut self, progress: &Progress<'_>, report: &StepReport) -> Flow {
        if self.kept.solver.is_none() {
            self.kept.solver = report.spectral.as_ref().map(|spectral| spectral.solver.to_string());
        }
        self.say_new(progress);
        if let Some(link) = &mut self.link {
            link.step(progress, report);
        }
        let test = self.kept.rows.last().map_or(f64::NAN, |row| row.test_loss);
        self.bar.redraw(progress, report.loss, test);
        // Where an evaluation is due, its row comes first.
        if !progress.evaluates_here() {
            self.keep_in_time(progress);
        }
        if interrupt::asked() || self.home.ousted { Flow::Stop } else { Flow::Continue }
    }

    fn request(&mut self, progress: &Progress<'_>) -> Option<Request> {
        let Self { link: Some(link), bar, .. } = self else { return None };
        match link.next(progress)? {
            Deed::Ask(Request::Wait) if bar.pauses(progress) => Some(Request::Stop),
            Deed::Ask(request) => Some(request),
            Deed::Row(event) => {
                self.event = Some(event);
                Some(Request::Evaluate)
            }
            Deed::Checkpoint => {
                self.keep_now(progress);
                self.request(progress)
            }
        }
    }

    fn row(&mut self, progress: &Progress<'_>, row: &Row) -> std::io::Result<()> {
        let metrics = Metrics { event: self.event.take(), ..Metrics::from(row) };
        self.home.metrics.append(&metrics)?;
        if let Some(events) = &mut self.home.events {
            events.append(&metrics)?;
        }
        self.kept.rows.push(metrics);
        if progress.evaluates_here() {
            self.keep_in_time(progress);
        }
        Ok(())
    }
}
