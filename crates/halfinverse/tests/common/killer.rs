//! A run that is killed.

use std::path::PathBuf;

use halfinverse::optimizer::StepReport;
use halfinverse::training::{Flow, Observer, Progress};

/// Writes a checkpoint after so many steps, and asks to stop.
pub(crate) struct Killer(pub(crate) u64, pub(crate) PathBuf);

impl Observer for Killer {
    fn step(&mut self, progress: &Progress<'_>, _: &StepReport) -> Flow {
        if progress.steps() < self.0 {
            return Flow::Continue;
        }
        progress.write_checkpoint(&self.1).unwrap();
        Flow::Stop
    }
}
