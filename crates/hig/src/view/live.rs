//! Between the thread that trains and those that serve: what the run is at, and what it is asked to do.
//!
//! The training thread never waits for a reader: it looks at two flags a step, and puts its state down a few times a
//! second, unless somebody reads it at that moment.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use halfinverse::optimizer::StepReport;
use halfinverse::training::{Progress, Request};
use serde::{Deserialize, Serialize};

use super::shown::Shown;

/// What a person asks of a run.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do", deny_unknown_fields)]
pub(crate) enum Control {
    /// No more steps until `Resume`.
    Pause,
    Resume,
    Evaluate,
    Checkpoint,
    Stop,
    /// From the next step on.
    LearningRate {
        to: f64,
    },
}

/// Controls that a run has not come to yet, at most.
const MOST_WAITING: usize = 32;
/// Time between two looks of a reader at the state: five a second look smooth.
const EVERY: Duration = Duration::from_millis(200);

/// A run in this process, as both sides see it.
#[derive(Default)]
pub(super) struct Live {
    now: Mutex<Now>,
    asked: Mutex<VecDeque<Control>>,
    /// Whether anything is asked, to be seen without the lock.
    any: AtomicBool,
    /// Whether θ is wanted for a picture, and the step and θ that were given.
    theta_wanted: AtomicBool,
    theta: Mutex<Option<(u64, Vec<f64>)>>,
}

/// Where a run is.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Now {
    pub(super) step: u64,
    pub(super) epoch: f64,
    pub(super) wall_s: f64,
    /// Loss of the last mini-batch.
    pub(super) train_loss: Option<f64>,
    /// None where the optimizer chooses the length of its steps.
    pub(super) learning_rate: Option<f64>,
    pub(super) paused: bool,
    pub(super) ended: bool,
}

/// Poisoned or not: what is kept is plain values.
pub(super) fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Live {
    pub(super) fn now(&self) -> Now {
        lock(&self.now).clone()
    }

    /// Asks for something; false where the run has ended, or does not come to what was asked before.
    pub(super) fn ask(&self, control: Control) -> bool {
        let mut asked = lock(&self.asked);
        if asked.len() >= MOST_WAITING || lock(&self.now).ended {
            return false;
        }
        asked.push_back(control);
        self.any.store(true, Relaxed);
        true
    }

    /// Asks for θ; the next step brings it.
    pub(super) fn want_theta(&self) {
        self.theta_wanted.store(true, Relaxed);
    }

    /// θ with its step, where it has come.
    pub(super) fn take_theta(&self) -> Option<(u64, Vec<f64>)> {
        lock(&self.theta).take()
    }
}

/// The training thread's side; the run has ended when it is dropped.
pub(crate) struct Link {
    shown: Arc<Shown>,
    live: Arc<Live>,
    /// When the state was last put down.
    told: Instant,
    paused: bool,
    /// The learning rate that the next step will have.
    rate: Option<f64>,
    /// What is left to do of a control.
    todo: VecDeque<Deed>,
}

/// Parts of what a control does.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Deed {
    /// A request to the training loop.
    Ask(Request),
    /// A row with this event.
    Row(String),
    /// A checkpoint.
    Checkpoint,
}

impl Link {
    /// Of a run that begins.
    pub(super) fn new(shown: Arc<Shown>) -> Self {
        let live = Arc::new(Live::default());
        shown.attach(live.clone());
        Self { shown, live, told: Instant::now(), paused: false, rate: None, todo: VecDeque::new() }
    }

    /// Shows a step.
    pub(crate) fn step(&mut self, progress: &Progress<'_>, report: &StepReport) {
        // A step that failed has none.
        self.rate = report.learning_rate.or(self.rate);
        if self.live.theta_wanted.load(Relaxed) && self.live.theta_wanted.swap(false, Relaxed) {
            *lock(&self.live.theta) = Some((progress.steps(), progress.theta().to_vec()));
        }
        if self.told.elapsed() >= EVERY {
            self.show(progress, Some(report.loss));
        }
    }

    fn show(&mut self, progress: &Progress<'_>, loss: Option<f64>) {
        self.told = Instant::now();
        // A reader that is at it sees the next one.
        let Ok(mut now) = self.live.now.try_lock() else { return };
        *now = Now {
            step: progress.steps(),
            epoch: progress.epochs(),
            wall_s: progress.wall().as_secs_f64(),
            train_loss: loss.or(now.train_loss).filter(|loss| loss.is_finite()),
            learning_rate: self.rate.filter(|_| progress.takes_rates()),
            paused: self.paused,
            ended: false,
        };
    }

    /// The next thing to do before the next step: to wait, while the run is paused and nothing else is asked.
    pub(crate) fn next(&mut self, progress: &Progress<'_>) -> Option<Deed> {
        loop {
            if let Some(deed) = self.todo.pop_front() {
                return Some(deed);
            }
            let Some(control) = self.asked() else {
                return self.paused.then_some(Deed::Ask(Request::Wait));
            };
            self.todo = self.deeds(control, progress).into();
            self.show(progress, None);
        }
    }

    fn asked(&self) -> Option<Control> {
        if !self.live.any.load(Relaxed) {
            return None;
        }
        let mut asked = lock(&self.live.asked);
        let control = asked.pop_front();
        self.live.any.store(!asked.is_empty(), Relaxed);
        control
    }

    /// What a control makes the run do; nothing where that is so already.
    fn deeds(&mut self, control: Control, progress: &Progress<'_>) -> Vec<Deed> {
        let row = |event: &str| Deed::Row(event.to_owned());
        match control {
            Control::Pause | Control::Resume => {
                let pause = control == Control::Pause;
                let before = std::mem::replace(&mut self.paused, pause);
                if before == pause { Vec::new() } else { vec![row(if pause { "pause" } else { "resume" })] }
            }
            Control::Evaluate => vec![row("evaluate")],
            // It knows of its row.
            Control::Checkpoint => vec![row("checkpoint"), Deed::Checkpoint],
            Control::Stop => vec![row("stop"), Deed::Ask(Request::Stop)],
            Control::LearningRate { to } => match self.rate.filter(|_| progress.takes_rates()) {
                Some(rate) if to > 0.0 && (to / rate).is_normal() => {
                    self.rate = Some(to);
                    vec![Deed::Ask(Request::Scale(to / rate)), row(&format!("learning_rate={to}"))]
                }
                _ => Vec::new(),
            },
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        lock(&self.live.now).ended = true;
        // It holds the run's data.
        self.shown.canvas.equip(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_are_read_from_their_json_and_nothing_else_is() {
        let read = |text: &str| serde_json::from_str::<Control>(text).ok();
        assert_eq!(read(r#"{"do":"pause"}"#), Some(Control::Pause));
        assert_eq!(read(r#"{"do":"learning-rate","to":0.5}"#), Some(Control::LearningRate { to: 0.5 }));
        for text in [
            "",
            "{}",
            "[]",
            r#"{"do":"learning-rate"}"#,
            r#"{"do":"rm"}"#,
            r#"{"do":"learning-rate","to":"x"}"#,
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_run_that_does_not_come_to_its_controls_or_has_ended_takes_no_more() {
        let shown = Arc::new(Shown::new(std::path::Path::new("nowhere"), String::new()));
        let link = Link::new(shown.clone());
        let live = shown.live().unwrap();
        let taken = (0..2 * MOST_WAITING).filter(|_| live.ask(Control::Evaluate)).count();
        assert_eq!(taken, MOST_WAITING);
        drop(link);
        assert!(live.now().ended && !live.ask(Control::Pause) && shown.live().is_none());
    }
}
