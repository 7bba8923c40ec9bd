//! What an observer may ask of a run between two steps, and rows that change nothing.

use std::time::{Duration, Instant};

use super::{Observer, Progress, Stage, StopReason, Trainer, TrainingError};

/// What an observer may have done between two steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Request {
    /// Evaluate now: a further row. Counts of `stop.patience`, the best parameters and the mean mini-batch loss of the
    /// next row stay as they were, so that the steps are those of the run without it.
    Evaluate,
    /// Multiply the learning rate by a positive number from the next step on, until the next optimizer takes over. Part
    /// of a checkpoint. Nothing happens where [`Progress::takes_rates`] says no.
    Scale(f64),
    /// Rest for [`Request::REST`] and ask again. So a run is held between two steps while its ranks sleep: one that waits
    /// for another in a collective of MPI keeps its core busy.
    Wait,
    /// Evaluate once more, unless that was just done, and stop.
    Stop,
}

impl Request {
    /// A person does not notice a twentieth of a second.
    pub const REST: Duration = Duration::from_millis(50);
}

impl Trainer {
    /// The present optimizer's turn.
    pub(super) fn stage(&self) -> &Stage {
        &self.parts.stages[self.position.stage]
    }

    /// The next request; over ranks that of the observer of rank 0.
    fn asked(&self, observer: &mut dyn Observer) -> Result<Option<Request>, TrainingError> {
        let own = if self.team.leads() { observer.request(&Progress(self)) } else { None };
        if self.team.size() == 1 {
            return Ok(own);
        }
        let mut said = match own {
            None => [0.0, 0.0],
            Some(Request::Evaluate) => [1.0, 0.0],
            Some(Request::Scale(by)) => [2.0, by],
            Some(Request::Stop) => [3.0, 0.0],
            Some(Request::Wait) => [4.0, 0.0],
        };
        self.team.lead(&mut said)?;
        Ok(match said {
            [1.0, _] => Some(Request::Evaluate),
            [2.0, by] => Some(Request::Scale(by)),
            [3.0, _] => Some(Request::Stop),
            [4.0, _] => Some(Request::Wait),
            _ => None,
        })
    }

    /// Does what the observer wants before the next step.
    pub(super) fn follow_requests(
        &mut self,
        begun: Instant,
        evaluated: &mut bool,
        observer: &mut dyn Observer,
    ) -> Result<Option<StopReason>, TrainingError> {
        while let Some(request) = self.asked(observer)? {
            match request {
                Request::Evaluate => {
                    self.evaluate_aside(begun, observer)?;
                    // The run goes on from here, so that the row is one that a checkpoint knows of.
                    self.position.rows += 1;
                    *evaluated = true;
                }
                Request::Scale(by) if self.stage().scales() && by > 0.0 && (self.pace * by).is_normal() => {
                    self.pace *= by;
                }
                Request::Scale(_) => {}
                Request::Wait => std::thread::sleep(Request::REST),
                Request::Stop => return Ok(Some(StopReason::Interrupted)),
            }
        }
        Ok(None)
    }

    /// A last row. A run that is resumed from here has no row here, unless this is where it would have had one.
    pub(super) fn evaluate_end(
        &mut self,
        begun: Instant,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainingError> {
        if self.evaluates_here() {
            return self.evaluate(begun, false, observer);
        }
        self.evaluate_aside(begun, observer)
    }

    /// A row that leaves the run as it was.
    fn evaluate_aside(&mut self, begun: Instant, observer: &mut dyn Observer) -> Result<(), TrainingError> {
        let (pending, position, standing) = (self.pending.clone(), self.position, self.standing.clone());
        self.evaluate(begun, true, observer)?;
        (self.pending, self.position, self.standing) = (pending, position, standing);
        Ok(())
    }
}
