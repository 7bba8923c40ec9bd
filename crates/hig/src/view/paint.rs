//! The physics of a few test samples, and the singular values of J, drawn anew as a run goes on.
//!
//! They are drawn on a thread of their own, from a copy of θ. Picture and singular values each rest two hundred times
//! as long as the last ones took, so that both together take at most a hundredth of a core; and only what somebody looks at
//! is drawn.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use halfinverse::NetworkProblem;
use halfinverse::problem::{Problem, Source};
use halfinverse::task::{SpectrumPlan, Task};
use halfinverse::training::read_parameters;

use super::live::lock;
use super::shown::{Shown, Stamp};
use crate::picture::Picture;
use crate::run::{spectrum, spectrum_plan};

/// Between two drawings, at least.
const LEAST_REST: Duration = Duration::from_secs(2);
/// The same, in units of what the last one took.
const REST: u32 = 200;
/// Bytes that singular values may take beside the run.
const MOST_BYTES: usize = 256 << 20;

/// Draws the pictures of a task.
pub(super) struct Painter {
    task: Task,
    picture: Arc<dyn Picture>,
    problem: NetworkProblem,
    plan: Option<SpectrumPlan>,
    /// The last singular values, their step, and when they are taken again.
    sigmas: Arc<Sigmas>,
    next: Instant,
}

/// Singular values of J at a step.
#[derive(Default)]
pub(super) struct Sigmas {
    pub(super) step: u64,
    pub(super) values: Vec<f64>,
}

/// What was drawn.
pub(super) struct Painting {
    /// None of a checkpoint, which may be of any step.
    pub(super) step: Option<u64>,
    pub(super) svg: String,
    pub(super) caption: String,
    /// Of this step or an earlier one; empty where they are unknown.
    pub(super) sigmas: Arc<Sigmas>,
}

/// Where θ comes from.
pub(super) enum Theta {
    Of(u64, Vec<f64>),
    Checkpoint(PathBuf),
}

/// What is drawn of a run, and when it is drawn again.
#[derive(Default)]
pub(super) struct Canvas(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    painter: Option<Painter>,
    busy: bool,
    next: Option<Instant>,
    /// Of the checkpoint that was drawn.
    drawn: Option<Stamp>,
    painting: Option<Arc<Painting>>,
    version: u64,
}

impl Painter {
    pub(super) fn new(task: Task, picture: Arc<dyn Picture>) -> Option<Self> {
        let problem = NetworkProblem::new(task.model(), task.test().first(picture.samples()), 1).ok()?;
        let parameters = task.model().network().parameters();
        let plan = spectrum_plan(&task).filter(|plan| {
            let rows = plan.samples.saturating_mul(task.model().simulator().outcomes());
            rows.saturating_mul(rows.saturating_add(parameters)).saturating_mul(8) <= MOST_BYTES
        });
        Some(Self { task, picture, problem, plan, sigmas: Arc::default(), next: Instant::now() })
    }

    fn paint(&mut self, theta: Theta) -> Result<(Painting, Duration), Box<dyn std::error::Error>> {
        let begun = Instant::now();
        let (step, theta) = match theta {
            Theta::Of(step, theta) => (Some(step), theta),
            Theta::Checkpoint(path) => (None, read_parameters(&self.task.model().tensors(), &path)?),
        };
        self.problem.loss(&theta)?;
        let svg = self.picture.svg(&self.task, &self.problem)?;
        let took = begun.elapsed();
        if let Some(step) = step.filter(|_| Instant::now() >= self.next) {
            self.take_sigmas(step, &theta);
        }
        Ok((Painting { step, svg, caption: self.picture.caption(), sigmas: self.sigmas.clone() }, took))
    }

    fn take_sigmas(&mut self, step: u64, theta: &[f64]) {
        let begun = Instant::now();
        self.sigmas = Arc::new(Sigmas { step, values: spectrum(&self.task, theta, self.plan) });
        self.next = Instant::now() + REST * begun.elapsed();
    }
}

impl Canvas {
    /// Gives it a painter.
    pub(super) fn equip(&self, painter: Option<Painter>) {
        lock(&self.0).painter = painter;
    }

    pub(super) fn version(&self) -> u64 {
        lock(&self.0).version
    }

    pub(super) fn painting(&self) -> Option<Arc<Painting>> {
        lock(&self.0).painting.clone()
    }
}

/// Draws a run anew if it is time to and there is something new; `make` finds a painter where there is none yet.
pub(super) fn paint(shown: &Arc<Shown>, make: impl FnOnce() -> Option<Painter> + Send + 'static) {
    let mut inner = lock(&shown.canvas.0);
    if inner.busy || inner.next.is_some_and(|next| Instant::now() < next) {
        return;
    }
    let theta = if let Some(live) = shown.live() {
        match live.take_theta() {
            Some((step, theta)) => Theta::Of(step, theta),
            None => return live.want_theta(),
        }
    } else {
        match shown.checkpoint() {
            Some((path, when)) if inner.drawn != Some(when) => {
                inner.drawn = Some(when);
                Theta::Checkpoint(path)
            }
            _ => return,
        }
    };
    inner.busy = true;
    let from_run = matches!(theta, Theta::Of(..));
    let painter = inner.painter.take();
    drop(inner);
    let shown = shown.clone();
    std::thread::spawn(move || {
        let begun = Instant::now();
        let mut painter = painter.or_else(make);
        let painting = painter.as_mut().and_then(|painter| painter.paint(theta).ok());
        let mut inner = lock(&shown.canvas.0);
        let took = painting.as_ref().map_or_else(|| begun.elapsed(), |(_, took)| *took);
        if let Some((painting, _)) = painting {
            inner.painting = Some(Arc::new(painting));
            inner.version += 1;
        }
        inner.next = Some(Instant::now() + LEAST_REST.max(REST * took));
        // The run's end has dropped a painter that was at work, or would have.
        let ended = from_run && shown.live().is_none();
        (inner.painter, inner.busy) = (painter.filter(|_| !ended), false);
    });
}
