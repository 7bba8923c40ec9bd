//! A run's folder: its files, and what is read back from them.

mod metrics;
mod spectrum;
mod summary;
#[cfg(test)]
mod tests;

use std::fs::{self, File, TryLockError};
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::voice::program;
pub(crate) use metrics::{Metrics, MetricsWriter};
use metrics::{from_csv, to_csv, whole_lines};
pub(crate) use spectrum::Spectrum;
pub(crate) use summary::{Summary, peak_rss_bytes, rss_bytes};

pub(crate) const CONFIG: &str = "config.toml";
pub(crate) const METRICS: &str = "metrics.csv";
pub(crate) const SUMMARY: &str = "summary.json";
pub(crate) const SPECTRUM: &str = "spectrum.csv";
pub(crate) const CHECKPOINT: &str = "checkpoint.safetensors";
pub(crate) const BEST: &str = "best.safetensors";
pub(crate) const REPORT: &str = "report.html";
/// What a spectrum has, and no other run.
pub(crate) const SIGMAS: &str = "sigmas.csv";
pub(crate) const CELLS: &str = "cells";
pub(crate) const PLAN: &str = "plan.toml";
const LOCK: &str = "lock";

/// What a run leaves that was killed before it had a configuration.
const LEFTOVERS: [&str; 2] = [LOCK, "config.toml.new"];

/// The folder of a run.
#[derive(Debug, Clone)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// A new folder: the given one, which must be empty or not exist yet, or the next free one in `runs`.
    pub(crate) fn create(wanted: Option<&Path>, name: &str) -> Result<Self, Failure> {
        let unwritable = |path: &Path, error: &std::io::Error| {
            let shown = path.display();
            Failure::new(format!("cannot write into the folder {shown}: {error}; name another with --out"))
        };
        let Some(path) = wanted else {
            let runs = Path::new("runs");
            fs::create_dir_all(runs).map_err(|error| unwritable(runs, &error))?;
            return claim_next(runs, name).map(Self).map_err(|error| unwritable(runs, &error));
        };
        let shown = path.display();
        match fs::read_dir(path) {
            Ok(mut entries) => {
                let left = |entry: &fs::DirEntry| LEFTOVERS.iter().any(|name| entry.file_name() == *name);
                if !entries.all(|entry| entry.is_ok_and(|entry| left(&entry))) {
                    let mend = if path.join(CONFIG).is_file() {
                        format!(
                            "resume its run with `{} resume {shown}`, or name another with --out",
                            program()
                        )
                    } else {
                        "name another with --out, or remove it".to_owned()
                    };
                    return Err(Failure::new(format!("the folder {shown} is not empty; {mend}")));
                }
            }
            Err(error) if path.exists() => {
                return Err(Failure::new(format!(
                    "{shown} cannot be the run's folder: {error}; name another with --out"
                )));
            }
            Err(_) => {}
        }
        fs::create_dir_all(path).map_err(|error| unwritable(path, &error))?;
        Ok(Self(path.to_owned()))
    }

    /// One that is there, whatever it holds.
    pub(crate) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The folder of the study that this is a cell of.
    fn study(&self) -> Option<PathBuf> {
        let path = fs::canonicalize(&self.0).ok()?;
        let cells = path.parent().filter(|cells| cells.ends_with(CELLS))?;
        cells.parent().filter(|study| study.join(PLAN).is_file()).map(Path::to_owned)
    }

    /// A run that cannot go on because its files cannot be written; what to do then.
    pub(crate) fn stopped(&self, why: &str) -> Failure {
        let mend = match self.study() {
            Some(_) => "the same command resumes the study".to_owned(),
            None => format!("resume from the last checkpoint: {} resume {}", program(), self.0.display()),
        };
        Failure::of_writing(format!("{why}; make room, then {mend}"))
    }

    /// Why a run over ranks could not go on, and how it can be.
    pub(crate) fn lost(&self, why: &str) -> Failure {
        let resume = format!("{} resume {}", program(), self.0.display());
        Failure::of_writing(format!("{why}; the last checkpoint stands, on any number of ranks: {resume}"))
    }

    /// Keeps every other run out of the folder until the file is closed.
    pub(crate) fn lock(&self) -> Result<File, Failure> {
        let shown = self.0.display();
        let unwritable =
            |error: std::io::Error| Failure::new(format!("cannot write into the folder {shown}: {error}"));
        let lock = File::create(self.file(LOCK)).map_err(unwritable)?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(TryLockError::WouldBlock) => Err(Failure::new(format!(
                "another hig is at work in {shown}; wait for it, or take another folder"
            ))),
            Err(TryLockError::Error(error)) => Err(unwritable(error)),
        }
    }

    /// Whether the lock that a run holds is still the folder's; none where the folder has no lock.
    pub(crate) fn keeps(&self, lock: &File) -> Option<bool> {
        let there = fs::metadata(self.file(LOCK)).ok()?;
        Some(lock.metadata().is_ok_and(|held| same_file(&held, &there)))
    }

    /// The folder of a finished run.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        for name in [CONFIG, METRICS, CHECKPOINT] {
            if !path.join(name).is_file() {
                return Err(Failure::new(format!("{} is no run's folder: it has no {name}", path.display())));
            }
        }
        Ok(Self(path.to_owned()))
    }

    /// The folder of a run that may have been cut off at any moment; a study resumes its own.
    pub(crate) fn open_unfinished(path: &Path) -> Result<Self, Failure> {
        let (folder, shown) = (Self(path.to_owned()), path.display());
        if !path.join(CONFIG).is_file() {
            return Err(Failure::new(format!(
                "{shown} holds no run: it has no {CONFIG}; start one with {} train",
                program()
            )));
        }
        if path.join(SIGMAS).is_file() {
            return Err(Failure::new(format!(
                "{shown} is of {name} spectrum, which starts anew: {name} spectrum --config {}",
                path.join(CONFIG).display(),
                name = program()
            )));
        }
        match folder.study() {
            None => Ok(folder),
            Some(study) => Err(Failure::new(format!(
                "{shown} is a run of the study in {}; the {name} compare or {name} ablate that made it resumes it",
                study.display(),
                name = program()
            ))),
        }
    }

    /// Whether the folder still has what a run under way has put there.
    pub(crate) fn stands(&self) -> bool {
        [CONFIG, METRICS].iter().all(|name| self.file(name).is_file())
    }

    /// Leaves the first rows of the metrics, so many; returns them.
    pub(crate) fn cut_metrics(&self, count: u64) -> Result<Vec<Metrics>, Failure> {
        let path = self.file(METRICS);
        let text = if path.exists() { self.read(METRICS)? } else { Vec::new() };
        let text = str::from_utf8(&text).map_err(|error| self.unreadable(METRICS, &error))?;
        let lines = whole_lines(text, usize::try_from(count).unwrap_or(usize::MAX));
        let rows: Vec<Metrics> =
            from_csv(lines.as_bytes()).map_err(|error| self.unreadable(METRICS, &error))?;
        if (rows.len() as u64) < count {
            return Err(Failure::new(format!(
                "{} has {} of the {count} rows before the checkpoint; put the file back, or start anew from its weights: {} train --from {}",
                path.display(),
                rows.len(),
                program(),
                self.0.display()
            )));
        }
        // Rows that follow have the columns of this version.
        let again = to_csv(&rows[..rows.len().min(1)]).map_err(|error| self.unreadable(METRICS, &error))?;
        if again.lines().next().and_then(Result::ok).as_deref() == lines.lines().next() {
            self.write(METRICS, lines)?;
        } else {
            let all = to_csv(&rows).map_err(|error| self.unreadable(METRICS, &error))?;
            self.write(METRICS, &String::from_utf8_lossy(&all))?;
        }
        Ok(rows)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file beside, syncs, and renames: it is there whole or as it was.
    pub(crate) fn write(&self, name: &str, contents: &str) -> Result<(), Failure> {
        let path = self.file(name);
        let beside = self.file(&format!("{name}.new"));
        File::create(&beside)
            .and_then(|mut file| file.write_all(contents.as_bytes()).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&beside, &path))
            .and_then(|()| File::open(&self.0)?.sync_all())
            .map_err(|error| Failure::of_writing(format!("cannot write {}: {error}", path.display())))
    }

    /// Removes a file if it is there.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Failure> {
        let path = self.file(name);
        match fs::remove_file(&path) {
            Err(error) if path.exists() => {
                Err(Failure::of_writing(format!("cannot remove {}: {error}", path.display())))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn write_spectrum(&self, spectrum: &Spectrum) -> Result<(), Failure> {
        self.write(SPECTRUM, &spectrum.csv())
    }

    pub(crate) fn metrics(&self) -> Result<Vec<Metrics>, Failure> {
        from_csv(&self.read(METRICS)?).map_err(|error| self.unreadable(METRICS, &error))
    }

    /// Empty where the run has none.
    pub(crate) fn spectrum(&self) -> Result<Spectrum, Failure> {
        if !self.file(SPECTRUM).is_file() {
            return Ok(Spectrum::default());
        }
        Spectrum::from_csv(&self.read(SPECTRUM)?).map_err(|error| self.unreadable(SPECTRUM, &error))
    }

    /// None where the run was not ended properly.
    pub(crate) fn summary(&self) -> Option<Summary> {
        Summary::from_json(&self.read(SUMMARY).ok()?)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, Failure> {
        let path = self.file(name);
        if !path.is_file() {
            // It may never end.
            return Err(self.unreadable(name, &"it is no file"));
        }
        fs::read(path).map_err(|error| self.unreadable(name, &error))
    }

    fn unreadable(&self, name: &str, error: &dyn std::fmt::Display) -> Failure {
        Failure::new(format!("cannot read {}: {error}", self.file(name).display()))
    }
}

#[cfg(unix)]
fn same_file(a: &fs::Metadata, b: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// Elsewhere a file that is open is not removed.
#[cfg(not(unix))]
fn same_file(_: &fs::Metadata, _: &fs::Metadata) -> bool {
    true
}

/// Makes the first of `NAME-1`, `NAME-2`, … that does not exist.
fn claim_next(runs: &Path, name: &str) -> std::io::Result<PathBuf> {
    let mut number = 1;
    loop {
        let path = runs.join(format!("{name}-{number}"));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    }
}
