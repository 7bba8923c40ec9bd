//! What a run shows to whoever watches it.

use std::path::Path;
use std::time::Duration;

use super::{Best, CheckpointError, Noted, Request, Trainer, write_checkpoint};
use crate::anatomy::LayerUnits;
use crate::optimizer::{Notice, StepReport};

/// One evaluation: a row of `metrics.csv`.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Steps made.
    pub step: u64,
    /// Passes through the training data, with fractions.
    pub epoch: f64,
    /// Time spent in steps.
    pub wall: Duration,
    /// Time since the run began, evaluation included.
    pub elapsed: Duration,
    /// Mean loss per sample of the mini-batches since the row before; none at step 0.
    pub train_loss: Option<f64>,
    /// Mean loss per sample on the whole test data.
    pub test_loss: f64,
    /// The last step before the evaluation; none at step 0.
    pub last: Option<StepReport>,
    /// Hidden layers over the last mini-batch; none at step 0, or where the problem has none to show.
    pub units: Option<Vec<LayerUnits>>,
    /// Spectral steps since the row before that needed a fallback.
    pub fallbacks: u64,
    /// Steps since the row before that were taken back.
    pub rejected: u64,
    /// Faults since the row before that the run survived.
    pub faults: u64,
    /// Steps since the row before that changed θ above round-off: |Δθ| > ε|θ|.
    pub moved: u64,
    /// The last notice since the row before.
    pub notice: Option<Notice>,
}

/// What an observer wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Evaluate once more and stop.
    Stop,
}

/// A run as an observer sees it.
pub struct Progress<'a>(pub(super) &'a Trainer);

impl Progress<'_> {
    /// θ as it stands.
    #[must_use]
    pub fn theta(&self) -> &[f64] {
        self.0.theta()
    }

    /// Steps made.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.0.steps()
    }

    /// Passes through the training data, with fractions.
    #[must_use]
    pub fn epochs(&self) -> f64 {
        self.0.epochs()
    }

    /// Time spent in steps.
    #[must_use]
    pub fn wall(&self) -> Duration {
        self.0.wall()
    }

    /// What the run has said of itself so far.
    #[must_use]
    pub fn notices(&self) -> &[Noted] {
        self.0.notices()
    }

    /// The parameters with the lowest test loss so far.
    #[must_use]
    pub fn best(&self) -> Best<'_> {
        self.0.best()
    }

    /// Whether an evaluation is due after the steps made. A row that only the end of a run called for is not one that a
    /// checkpoint knows of.
    #[must_use]
    pub fn evaluates_here(&self) -> bool {
        self.0.evaluates_here()
    }

    /// Whether the present optimizer's learning rate can be changed under way.
    #[must_use]
    pub fn takes_rates(&self) -> bool {
        self.0.stage().scales()
    }

    /// Writes the state of the run; see [`write_checkpoint`].
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_checkpoint(&self, path: &Path) -> Result<(), CheckpointError> {
        write_checkpoint(self.0, path)
    }
}

/// Somebody who watches a run. `()` watches nothing.
///
/// # Example
/// ```
/// use halfinverse::optimizer::StepReport;
/// use halfinverse::training::{Flow, Observer, Progress, Row};
/// /// Prints losses; stops below 1e-3.
/// struct Printer;
/// impl Observer for Printer {
///     fn step(&mut self, _: &Progress<'_>, report: &StepReport) -> Flow {
///         if report.loss < 1e-3 { Flow::Stop } else { Flow::Continue }
///     }
///     fn row(&mut self, _: &Progress<'_>, row: &Row) -> std::io::Result<()> {
///         println!("{} {:.3e}", row.step, row.test_loss);
///         Ok(())
///     }
/// }
/// ```
pub trait Observer {
    /// After every step, and before the evaluation where one is due. Costs training time if it is slow.
    fn step(&mut self, progress: &Progress<'_>, report: &StepReport) -> Flow {
        let _ = (progress, report);
        Flow::Continue
    }

    /// After every step and the evaluation that was due: what to do before the next step. Asked again until nothing is
    /// left to do; the run waits as long as this takes.
    fn request(&mut self, progress: &Progress<'_>) -> Option<Request> {
        let _ = progress;
        None
    }

    /// After every evaluation, the one at step 0 included.
    ///
    /// # Errors
    /// When the row cannot be kept, which ends the run.
    fn row(&mut self, progress: &Progress<'_>, row: &Row) -> std::io::Result<()> {
        let _ = (progress, row);
        Ok(())
    }
}

impl Observer for () {}
