//! A run as it is shown: what its folder's files say, and what the run itself says where it is one of this process.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;

use super::live::{Live, lock};
use super::paint::Canvas;
use super::table::Table;
use crate::folder::{CHECKPOINT, CONFIG, Folder, METRICS, SPECTRUM, SUMMARY, Spectrum, Summary};

/// A run's folder, and what was read of it.
pub(super) struct Shown {
    pub(super) folder: Folder,
    name: String,
    pub(super) table: Mutex<Table>,
    pub(super) canvas: Canvas,
    live: Mutex<Option<Arc<Live>>>,
    files: Mutex<Files>,
}

/// When a file was last written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(
    clippy::disallowed_types,
    reason = "compared with other times of files; no training time depends on it"
)]
pub(super) struct Stamp(std::time::SystemTime);

/// The small files, read again where they were written since.
#[derive(Default)]
struct Files {
    config: (Option<Stamp>, Config),
    summary: (Option<Stamp>, Option<Summary>),
    spectrum: (Option<Stamp>, Spectrum),
}

/// What is shown of `config.toml`; whatever else is in it does not matter here.
#[derive(Default)]
struct Config {
    task: String,
    optimizer: String,
    seed: Option<i64>,
    steps: Option<f64>,
    epochs: Option<f64>,
    time: Option<f64>,
}

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Standing {
    Training,
    Paused,
    Ended,
    /// Of another process, which may be at work or gone.
    Followed,
}

/// What the page shows of a run besides its curves.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct State {
    id: usize,
    name: String,
    task: String,
    optimizer: String,
    seed: Option<i64>,
    standing: Standing,
    note: String,
    controls: bool,
    step: f64,
    epoch: f64,
    wall_s: f64,
    train_loss: Option<f64>,
    test_loss: Option<f64>,
    /// None where there is none that could be changed.
    learning_rate: Option<f64>,
    /// Of the way to its nearest stop, 0 to 1.
    done: Option<f64>,
    left_s: Option<f64>,
    peak_bytes: Option<u64>,
    /// These grow whenever there is something new to fetch.
    rows: u64,
    picture: u64,
    spectrum: u64,
}

/// Singular values of J.
#[derive(Serialize)]
pub(super) struct Spectra {
    start: Vec<(usize, f64)>,
    now: Vec<(usize, f64)>,
    now_step: Option<u64>,
    end: Vec<(usize, f64)>,
    samples: Option<usize>,
}

/// Singular values that are sent, at most.
const MOST_VALUES: usize = 1000;

impl Shown {
    pub(super) fn new(path: &Path, name: String) -> Self {
        Self {
            folder: Folder::at(path),
            name,
            table: Mutex::default(),
            canvas: Canvas::default(),
            live: Mutex::default(),
            files: Mutex::default(),
        }
    }

    /// From now on a run of this process.
    pub(super) fn attach(&self, live: Arc<Live>) {
        *lock(&self.live) = Some(live);
    }

    /// The run itself, while it is at work in this process.
    pub(super) fn live(&self) -> Option<Arc<Live>> {
        lock(&self.live).clone().filter(|live| !live.now().ended)
    }

    /// The checkpoint's file and when it was written.
    pub(super) fn checkpoint(&self) -> Option<(PathBuf, Stamp)> {
        let path = self.folder.file(CHECKPOINT);
        modified(&path).map(|when| (path, when))
    }

    /// Reads what is new in the folder.
    pub(super) fn refresh(&self) {
        lock(&self.table).follow(&self.folder.file(METRICS));
        let mut files = lock(&self.files);
        let (folder, Files { config, summary, spectrum }) = (&self.folder, &mut *files);
        again(config, &folder.file(CONFIG), Config::read);
        again(summary, &folder.file(SUMMARY), |_| folder.summary());
        again(spectrum, &folder.file(SPECTRUM), |_| folder.spectrum().unwrap_or_default());
    }

    pub(super) fn state(&self, id: usize) -> State {
        let live = self.live();
        let now = live.as_ref().map(|live| live.now());
        let table = lock(&self.table);
        let files = lock(&self.files);
        let (config, summary) = (&files.config.1, files.summary.1.as_ref().filter(|_| live.is_none()));
        let (standing, note) = match (&now, summary) {
            (Some(now), _) if now.paused => (Standing::Paused, "paused".to_owned()),
            (Some(_), _) => (Standing::Training, "training".to_owned()),
            (None, Some(summary)) => (Standing::Ended, end(&summary.stop_reason)),
            (None, None) => (Standing::Followed, self.age()),
        };
        let last = |name: &str| table.last(name).unwrap_or(0.0);
        // Rows and state come at different moments; the later one counts.
        let further = |own: f64, row: f64| own.max(row);
        let (step, epoch, wall_s) = now.as_ref().map_or_else(
            || (last("step"), last("epoch"), last("wall_s")),
            |now| {
                (
                    further(now.step as f64, last("step")),
                    further(now.epoch, last("epoch")),
                    further(now.wall_s, last("wall_s")),
                )
            },
        );
        let done = config.done(step, epoch, wall_s).filter(|_| standing != Standing::Ended);
        State {
            id,
            name: self.name.clone(),
            task: config.task.clone(),
            optimizer: config.optimizer.clone(),
            seed: config.seed,
            standing,
            note,
            controls: live.is_some(),
            step,
            epoch,
            wall_s,
            train_loss: now.as_ref().and_then(|now| now.train_loss).or(table.latest("train_loss")),
            test_loss: table.last("test_loss").filter(|loss| loss.is_finite()),
            learning_rate: now.and_then(|now| now.learning_rate),
            done,
            left_s: done.filter(|&done| done > 0.0).map(|done| wall_s * (1.0 - done) / done),
            peak_bytes: summary.and_then(|summary| summary.peak_rss_bytes),
            rows: table.version,
            picture: self.canvas.version(),
            spectrum: self.canvas.version()
                + u64::from(files.spectrum.0.is_some())
                + files.spectrum.1.end.len() as u64,
        }
    }

    /// How long ago the last row was written.
    fn age(&self) -> String {
        let age = modified(&self.folder.file(METRICS)).and_then(|when| when.0.elapsed().ok());
        let ago = |age: Duration| match age.as_secs() {
            seconds @ 0..60 => format!("last row {seconds} s ago"),
            seconds @ 60..3600 => format!("last row {} min ago", seconds / 60),
            seconds => format!("last row {} h ago", seconds / 3600),
        };
        age.map_or_else(|| "no row yet".to_owned(), ago)
    }

    pub(super) fn spectra(&self) -> Spectra {
        let files = lock(&self.files);
        let Spectrum { start, end, of } = &files.spectrum.1;
        let sigmas = self.canvas.painting().map(|painting| painting.sigmas.clone());
        let now = sigmas.filter(|sigmas| !sigmas.values.is_empty() && end.is_empty());
        Spectra {
            start: values(start),
            now: now.as_ref().map(|now| values(&now.values)).unwrap_or_default(),
            now_step: now.map(|now| now.step),
            end: values(end),
            samples: of.map(|of| of.samples),
        }
    }
}

impl Config {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let table: toml::Table = text.parse().unwrap_or_default();
        let text = |section: &toml::Table, key: &str| {
            section.get(key).and_then(toml::Value::as_str).unwrap_or_default().to_owned()
        };
        let section =
            |name: &str| table.get(name).and_then(toml::Value::as_table).cloned().unwrap_or_default();
        let (optimizer, training, stop) = (section("optimizer"), section("training"), section("stop"));
        let number = |key: &str| {
            let value = stop.get(key)?;
            value.as_float().or_else(|| value.as_integer().map(|value| value as f64))
        };
        Self {
            task: text(&table, "task"),
            optimizer: text(&optimizer, "name"),
            seed: training.get("seed").and_then(toml::Value::as_integer),
            steps: number("steps"),
            epochs: number("epochs"),
            time: number("time"),
        }
    }

    /// Part of the way to the nearest stop; none where no stop tells.
    fn done(&self, step: f64, epoch: f64, wall_s: f64) -> Option<f64> {
        let parts = [(step, self.steps), (epoch, self.epochs), (wall_s, self.time)];
        let parts = parts.into_iter().filter_map(|(at, all)| Some(at / all.filter(|&all| all > 0.0)?));
        parts.reduce(f64::max).map(|done| done.clamp(0.0, 1.0))
    }
}

/// How a run ended, in words.
fn end(reason: &str) -> String {
    let whole = reason == "interrupted" || reason.starts_with("diverged");
    if whole { reason.to_owned() } else { format!("stopped by {reason}") }
}

/// Reads a file again where it was written since.
fn again<T>((when, value): &mut (Option<Stamp>, T), path: &Path, read: impl FnOnce(&Path) -> T) {
    let now = modified(path);
    if now != *when {
        (*when, *value) = (now, read(path));
    }
}

fn modified(path: &Path) -> Option<Stamp> {
    std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?.modified().ok().map(Stamp)
}

/// Singular values with their indices, from 1 on: those above round-off of the first, and evenly so many of them.
fn values(sigmas: &[f64]) -> Vec<(usize, f64)> {
    let least = f64::EPSILON * sigmas.first().copied().unwrap_or(0.0);
    let count = sigmas.iter().take_while(|&&sigma| sigma > least).count();
    let every = count.div_ceil(MOST_VALUES).max(1);
    let kept = (0..count).filter(|i| i % every == 0 || i + 1 == count);
    kept.map(|i| (i + 1, sigmas[i])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_another_process_writes_is_followed_and_one_with_a_summary_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let shown = Shown::new(folder.path(), "run".to_owned());
        let state = || {
            shown.refresh();
            shown.state(0)
        };
        assert_eq!((state().standing, state().note.as_str()), (Standing::Followed, "no row yet"));
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write(CONFIG, "task = 'toy'\n[optimizer]\nname = 'hig'\n[stop]\nsteps = 10\ntime = 100.0\n");
        write(METRICS, "step,epoch,wall_s,test_loss\n0,0,0,2\n5,0.5,3,1\n");
        let now = state();
        assert_eq!((now.task.as_str(), now.optimizer.as_str(), now.done), ("toy", "hig", Some(0.5)));
        assert_eq!((now.left_s, now.test_loss, now.controls), (Some(3.0), Some(1.0), false));
        write(
            SUMMARY,
            r#"{"task":"toy","optimizer":"hig","seed":1,"threads":1,"steps":10,"epochs":1,"wall_s":1,"elapsed_s":1,
            "stop_reason":"steps","version":"0","peak_rss_bytes":7}"#,
        );
        let end = state();
        assert_eq!(
            (end.standing, end.note.as_str(), end.peak_bytes),
            (Standing::Ended, "stopped by steps", Some(7))
        );
    }

    #[test]
    fn a_long_spectrum_is_sent_in_part_with_both_ends() {
        let sigmas: Vec<f64> = (0..5000).map(|i| 1.0 / f64::from(i + 1)).collect();
        let sent = values(&sigmas);
        assert!(sent.len() <= MOST_VALUES + 1);
        assert_eq!((sent[0], *sent.last().unwrap()), ((1, 1.0), (5000, 1.0 / 5000.0)));
        assert!(values(&[1.0, 1e-20, 1e-21]).len() == 1 && values(&[]).is_empty());
    }
}
