//! A study's cells over ranks: each takes the next one that nobody has, as locks on files tell. A rank that dies leaves its
//! lock, and what it was at is begun again by the next command, after the cells that are new. A file beside each cell counts the
//! starts that had no end: one that the program has not survived three times has failed, and the others go on.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use halfinverse::ranks::Team;
use halfinverse::task::Settings;

use super::cells::{Cells, Job, runs, trials};
use super::plan::Plan;
use crate::failure::Failure;
use crate::folder::CELLS;
use crate::interrupt;
use crate::voice::say;

/// Time between looks at what others are at.
const LOOK: Duration = Duration::from_millis(100);
/// A file among the cells, there once a run was stopped in the view. All ranks stop with it, as all do at Ctrl-C.
const STOPPED: &str = "stopped";
/// Starts without an end after which a cell has failed: its neighbours on other ranks die with it, and may be none the worse.
const STARTS: u64 = 3;

/// How a rank's share of the cells ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Done,
    Interrupted,
}

impl Cells<'_> {
    /// As [`Cells::run`], on all ranks.
    pub(super) fn run_over(&self, plan: &Plan, team: &Team) -> Result<Option<Vec<Settings>>, Failure> {
        if team.leads() {
            self.forget_ends()?;
        }
        meet(team)?;
        let grid: Vec<Job> = plan.variants.iter().flat_map(|variant| trials(plan, variant)).collect();
        if self.share_out(&grid, team)? == End::Interrupted {
            return Ok(None);
        }
        let mut chosen = Vec::new();
        for variant in &plan.variants {
            let Some(settings) = self.tune(plan, variant)? else { return Ok(None) };
            chosen.push(settings);
        }
        let end = self.share_out(&runs(plan, &chosen), team)?;
        Ok((end == End::Done).then_some(chosen))
    }

    /// Runs what nobody else does until all is done; all ranks end together.
    fn share_out(&self, jobs: &[Job], team: &Team) -> Result<End, Failure> {
        let stopped = self.path.join(CELLS).join(STOPPED);
        interrupt::within(Rc::new(move |_, _| stopped.exists()), || self.take_part(jobs, team))
    }

    fn take_part(&self, jobs: &[Job], team: &Team) -> Result<End, Failure> {
        let stops = || interrupt::show(0.0, "study") && interrupt::asked();
        loop {
            let mut open: Vec<&Job> = jobs.iter().filter(|job| self.is_open(job)).collect();
            open.sort_by_key(|job| self.starts(job) > 0);
            for job in &open {
                if stops() {
                    break;
                }
                let Some(claim) = self.claim(job)? else { continue };
                if self.is_open(job) {
                    self.try_cell(job, claim)?;
                }
            }
            if open.is_empty() || stops() {
                break;
            }
            std::thread::sleep(LOOK);
        }
        let mut asked = [f64::from(u8::from(interrupt::asked()))];
        team.sum(&mut asked).map_err(|error| Failure::new(error.to_string()))?;
        if asked[0] > 0.0 {
            return Ok(End::Interrupted);
        }
        let failed: Vec<String> = jobs
            .iter()
            .filter_map(|job| self.failure(job).map(|why| format!("{}: {why}", job.name)))
            .collect();
        if failed.is_empty() {
            return Ok(End::Done);
        }
        let count =
            format!("{} of {} cells failed; the same command tries them again", failed.len(), jobs.len());
        Err(Failure::new(format!("{count}: {}", failed.join("; "))))
    }

    /// Runs a cell; where it fails, keeps why beside it, and the others go on. Counts the start in its claim until it ends.
    fn try_cell(&self, job: &Job, mut claim: File) -> Result<(), Failure> {
        let of_note = |what: &str, error: &std::io::Error| {
            Failure::of_writing(format!("cannot note that {} {what}: {error}", job.name))
        };
        let why = if self.starts(job) < STARTS {
            claim.write_all(b".").map_err(|error| of_note("is begun", &error))?;
            match catch_unwind(AssertUnwindSafe(|| self.cell(job))) {
                Ok(Ok(Some(_))) => {
                    say(false, &format!("finished: {}", job.name));
                    None
                }
                Ok(Ok(None)) => {
                    let stopped = self.path.join(CELLS).join(STOPPED);
                    fs::write(stopped, "").map_err(|error| of_note("was stopped", &error))?;
                    None
                }
                Ok(Err(failure)) => Some(failure.to_string()),
                Err(_) => Some("it panicked".to_owned()),
            }
        } else {
            Some(format!(
                "it was begun {STARTS} times, and each time the program was killed; is there enough memory for it?"
            ))
        };
        claim.set_len(0).map_err(|error| of_note("has ended", &error))?;
        let Some(why) = why else { return Ok(()) };
        say(false, &format!("failed: {}: {why}", job.name));
        fs::write(self.beside(job, "failed"), why).map_err(|error| of_note("failed", &error))
    }

    /// Whether a cell is still to be run, or being run.
    fn is_open(&self, job: &Job) -> bool {
        !self.is_finished(job) && self.failure(job).is_none()
    }

    /// Starts of a cell that have had no end.
    fn starts(&self, job: &Job) -> u64 {
        fs::metadata(self.beside(job, "claim")).map_or(0, |claim| claim.len())
    }

    /// Why a cell failed, in this command.
    fn failure(&self, job: &Job) -> Option<String> {
        fs::read_to_string(self.beside(job, "failed")).ok()
    }

    /// Of an earlier command.
    fn forget_ends(&self) -> Result<(), Failure> {
        let folder = self.path.join(CELLS);
        let unreadable =
            |error: std::io::Error| Failure::new(format!("cannot read {}: {error}", folder.display()));
        for entry in fs::read_dir(&folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.extension().is_some_and(|extension| extension == "failed") || path.ends_with(STOPPED) {
                fs::remove_file(&path).map_err(unreadable)?;
            }
        }
        Ok(())
    }

    /// The lock on a cell, where no other rank has it.
    fn claim(&self, job: &Job) -> Result<Option<File>, Failure> {
        let path = self.beside(job, "claim");
        let unwritable =
            |error: std::io::Error| Failure::new(format!("cannot write {}: {error}", path.display()));
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(unwritable)?;
        Ok(file.try_lock().is_ok().then_some(file))
    }

    /// A file beside a cell's folder. Names of cells have dots.
    fn beside(&self, job: &Job, extension: &str) -> std::path::PathBuf {
        self.path.join(CELLS).join(format!("{}.{extension}", job.name))
    }
}

/// Waits for all ranks.
fn meet(team: &Team) -> Result<(), Failure> {
    team.sum(&mut [0.0]).map_err(|error| Failure::new(error.to_string()))
}
