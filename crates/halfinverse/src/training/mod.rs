//! Training: mini-batches, steps, evaluation, stopping.
//!
//! The loop prints and writes nothing; an [`Observer`] sees every step and every evaluation. The clock decides
//! nothing but the stop by time, so two runs with the same seed and threads make the same steps and the same rows.

pub mod checkpoint;
mod faults;
mod order;
mod pending;

use std::time::{Duration, Instant};

pub use checkpoint::{
    CheckpointError, MOST_STEPS, checkpoint_exists, read_parameters, resume, write_checkpoint,
};

use crate::anatomy::{LayerUnits, hidden_units};
use crate::error::{ShapeError, StepError};
use crate::model::{Evaluator, Problem};
use crate::optimizer::{Memory, Optimizer, StepReport};
use crate::spectral::{SpectralError, singular_values};
use crate::task::{Schedule, Stage, Task};
use faults::{Faults, Good, Remedy};
use order::Order;
use pending::Pending;

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
    /// Hidden layers over the last mini-batch; none at step 0.
    pub units: Option<Vec<LayerUnits>>,
    /// Spectral steps since the row before that needed a fallback.
    pub fallbacks: u64,
    /// Steps since the row before that were taken back.
    pub rejected: u64,
    /// Faults since the row before that the run went on from.
    pub faults: u64,
}

/// What an observer wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Evaluate once more and stop.
    Stop,
}

/// Somebody who watches a run.
pub trait Observer {
    /// After every step, and before the evaluation where one is due. Costs training time if it is slow.
    fn step(&mut self, trainer: &mut Trainer, report: &StepReport) -> Flow;

    /// After every evaluation, the one at step 0 included.
    ///
    /// # Errors
    /// When the row cannot be kept, which ends the run.
    fn row(&mut self, trainer: &mut Trainer, row: &Row) -> std::io::Result<()>;
}

/// Why a run ended.
#[derive(Debug)]
pub enum StopReason {
    /// `stop.steps`.
    Steps,
    /// `stop.epochs`.
    Epochs,
    /// `stop.time`.
    Time,
    /// `stop.target_loss`.
    TargetLoss,
    /// The observer asked for it.
    Interrupted,
    /// A step failed, and θ is as it was before it; or the loss blew up.
    Diverged(StepError),
}

/// A run that could not go on for reasons outside the numbers.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    /// The parts do not fit.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A setting was refused.
    #[error(transparent)]
    Setting(#[from] crate::SettingError),
    /// The threads could not be started.
    #[error("cannot start {threads} threads: {source}")]
    Threads {
        /// As many as were asked for.
        threads: usize,
        /// Why not.
        source: rayon::ThreadPoolBuildError,
    },
    /// A row could not be kept.
    #[error("cannot keep the run's metrics: {0}")]
    Observer(#[from] std::io::Error),
}

/// A run in progress.
pub struct Trainer {
    task: Task,
    theta: Vec<f64>,
    /// θ before the step, where only a part of it is taken.
    before: Vec<f64>,
    optimizer: Box<dyn Optimizer>,
    problem: Problem,
    evaluator: Evaluator,
    order: Order,
    pool: Option<rayon::ThreadPool>,
    /// Optimizers that have had their turn, and when the present one's began.
    turn: usize,
    turn_step: u64,
    turn_epochs: f64,
    step: u64,
    wall: Duration,
    warm_up: (u64, Duration),
    /// Rows of metrics that a run which goes on from here has behind it, and the test loss in the last one.
    rows: u64,
    test_loss: f64,
    pending: Pending,
    faults: Faults,
    /// Time since the run began, up to the checkpoint that it was resumed from.
    elapsed: Option<Duration>,
}

/// Steps that `ms_per_step` leaves out, while caches and buffers fill.
const WARM_UP: u64 = 3;

/// What the `turn`-th optimizer of a task works with.
fn begin(task: &Task, turn: usize) -> Result<(Box<dyn Optimizer>, Problem, Order), TrainingError> {
    let training = &task.settings().training;
    let (_, optimizer, batch) = task.settings().turn(turn);
    let problem = Problem::new(task.model(), task.train().zeros_like(batch), training.threads)?;
    let samples = task.train().len() - task.held_out(optimizer, batch);
    let order = Order::new(samples, batch, training.shuffle, training.seed);
    Ok((task.optimizer(optimizer, batch)?, problem, order))
}

impl Trainer {
    /// A run from the given parameters, or from freshly drawn ones.
    ///
    /// # Errors
    /// When the parameters do not fit the network, or the threads cannot be started.
    pub fn new(task: &Task, theta: Option<Vec<f64>>) -> Result<Self, TrainingError> {
        let theta = theta.unwrap_or_else(|| task.initial_parameters());
        ShapeError::check("θ", "parameters", task.model().network().parameters(), theta.len())?;
        let threads = task.settings().training.threads;
        let pool = match threads {
            1 => None,
            _ => Some(
                rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .map_err(|source| TrainingError::Threads { threads, source })?,
            ),
        };
        let (optimizer, problem, order) = begin(task, 0)?;
        Ok(Self {
            problem,
            evaluator: Evaluator::new(task.model(), task.test().clone(), threads)?,
            order,
            optimizer,
            theta,
            before: Vec::new(),
            pool,
            turn: 0,
            turn_step: 0,
            turn_epochs: 0.0,
            step: 0,
            wall: Duration::ZERO,
            warm_up: (0, Duration::ZERO),
            rows: 0,
            test_loss: f64::INFINITY,
            pending: Pending::default(),
            faults: Faults::new(&task.settings().training),
            elapsed: None,
            task: task.clone(),
        })
    }

    /// The task.
    #[must_use]
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// θ as it stands.
    #[must_use]
    pub fn theta(&self) -> &[f64] {
        &self.theta
    }

    /// The optimizer as it stands.
    #[must_use]
    pub fn optimizer(&self) -> &dyn Optimizer {
        &*self.optimizer
    }

    /// Steps made.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Passes through the training data, with fractions.
    #[must_use]
    pub fn epochs(&self) -> f64 {
        self.turn_epochs + (self.step - self.turn_step) as f64 / self.order.steps_per_epoch() as f64
    }

    /// Time spent in steps: batches drawn, simulated, stepped.
    #[must_use]
    pub fn wall(&self) -> Duration {
        self.wall
    }

    /// Rows of metrics before this point, without one that only the end of a run called for.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Faults so far that the run went on from.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.faults.count
    }

    /// Sets the time spent in steps, and since the run began: a checkpoint holds nothing that differs from run to run.
    pub fn set_clock(&mut self, wall: Duration, elapsed: Duration) {
        (self.wall, self.elapsed) = (wall, Some(elapsed));
        self.warm_up = (self.step, wall);
    }

    /// Mean milliseconds of a step, the first few left out where there are more.
    #[must_use]
    pub fn ms_per_step(&self) -> Option<f64> {
        let (steps, wall) = match self.warm_up {
            (warm, spent) if self.step > warm => (self.step - warm, self.wall.saturating_sub(spent)),
            _ => (self.step, self.wall),
        };
        (steps > 0).then(|| 1e3 * wall.as_secs_f64() / steps as f64)
    }

    /// Trains until a stop is reached.
    ///
    /// # Errors
    /// When the observer cannot keep a row. A step that fails is [`StopReason::Diverged`], not an error.
    pub fn run(&mut self, observer: &mut dyn Observer) -> Result<StopReason, TrainingError> {
        let begun = Instant::now();
        let mut evaluated = self.pending.is_empty();
        if self.elapsed.is_none() {
            self.evaluate(begun, observer)?;
            evaluated = true;
        }
        let reason = loop {
            if let Some(reason) = self.stop() {
                break reason;
            }
            self.hand_over()?;
            let report = match self.attempt()? {
                Ok(report) => report,
                Err(error) => break StopReason::Diverged(error),
            };
            evaluated = false;
            if observer.step(self, &report) == Flow::Stop {
                break StopReason::Interrupted;
            }
            if self.task.settings().evaluates_at(self.step) {
                self.evaluate(begun, observer)?;
                evaluated = true;
            }
        };
        evaluated &= !matches!(reason, StopReason::Diverged(StepError::BlowUp { .. }));
        if !evaluated {
            // A run that goes on from here has no row here, unless this is where it would have had one.
            let (pending, test_loss) = (self.pending.clone(), self.test_loss);
            self.evaluate(begun, observer)?;
            if !self.task.settings().evaluates_at(self.step) {
                (self.pending, self.test_loss) = (pending, test_loss);
                self.rows -= 1;
            }
        }
        self.elapsed = Some(self.elapsed.unwrap_or_default() + begun.elapsed());
        Ok(reason)
    }

    /// One step, or what the policy on faults does in its place; the inner error is one to end the run with.
    fn attempt(&mut self) -> Result<Result<StepReport, StepError>, TrainingError> {
        let before = self.keep_good();
        let step = self.step;
        let outcome = self.step_once().and_then(|report| Ok((self.faults.watch(report.loss)?, report)));
        let error = match outcome {
            Ok((in_order, report)) => {
                if let Some(before) = before.filter(|_| in_order) {
                    self.faults.good = Some(before);
                }
                self.pending.last = Some(report.clone());
                return Ok(Ok(report));
            }
            Err(error) => error,
        };
        match self.faults.remedy(&error) {
            Remedy::Stop => return Ok(Err(error)),
            Remedy::RollBack => self.roll_back()?,
            Remedy::Skip => {}
        }
        self.step = step + 1;
        self.pending.faults += 1;
        Ok(Ok(StepReport { loss: f64::NAN, rejected: true, ..StepReport::default() }))
    }

    /// The singular values of J at θ, descending, over the first samples of the training data.
    ///
    /// # Errors
    /// When J cannot be formed there or its SVD does not converge.
    pub fn spectrum(&self) -> Result<Vec<f64>, StepError> {
        let samples = self.task.train().first(self.task.spectrum_samples());
        let mut problem = Problem::new(self.task.model(), samples, 1)?;
        let mut at = problem.linearize(&self.theta)?;
        let sigmas: Result<_, SpectralError> = singular_values(&mut at.jacobian, faer::Par::Seq);
        Ok(sigmas?)
    }

    /// Where roll-backs are wanted: the state after an evaluation, whose loss the next step will tell. At the start of a turn
    /// there is no other to go back to.
    fn keep_good(&mut self) -> Option<Good> {
        let first = self.faults.lacks_good();
        if !self.faults.keeps_good() || !first && !self.task.settings().evaluates_at(self.step) {
            return None;
        }
        let mut memory = Memory::default();
        self.optimizer.visit(&self.problem, &mut memory);
        let state = Good { theta: self.theta.clone(), memory: memory.entries().clone() };
        if first {
            self.faults.good = Some(state);
            return None;
        }
        Some(state)
    }

    /// θ and the optimizer's memory as they last were in order.
    fn roll_back(&mut self) -> Result<(), TrainingError> {
        if let Some(Good { theta, memory }) = &self.faults.good {
            let (_, settings, batch) = self.task.settings().turn(self.turn);
            self.optimizer = self.task.optimizer(settings, batch)?;
            let mut memory = Memory::from_entries(memory.clone(), theta.len());
            self.optimizer.visit(&self.problem, &mut memory);
            self.theta.clone_from(theta);
        }
        Ok(())
    }

    /// Lets the next optimizer take over where the present one's steps are done.
    fn hand_over(&mut self) -> Result<(), TrainingError> {
        let settings = self.task.settings();
        let done = |stage: &Stage| self.step - self.turn_step >= stage.steps;
        if !settings.before.get(self.turn).is_some_and(done) {
            return Ok(());
        }
        (self.turn_epochs, self.turn_step) = (self.epochs(), self.step);
        self.turn += 1;
        self.faults.begin();
        (self.optimizer, self.problem, self.order) = begin(&self.task, self.turn)?;
        Ok(())
    }

    /// The part of the optimizer's learning rate that the next step uses.
    fn part(&self) -> f64 {
        let settings = self.task.settings();
        let caution = if settings.turn(self.turn).1.scales() { self.faults.caution } else { 1.0 };
        if settings.training.schedule == Schedule::Constant {
            return caution;
        }
        let stop = &settings.stop;
        let of_steps = stop.steps.map_or(0.0, |all| self.step as f64 / all as f64);
        let of_epochs = stop.epochs.map_or(0.0, |all| self.epochs() / all as f64);
        // The same cosine on every machine.
        caution * 0.5 * (1.0 + libm::cos(std::f64::consts::PI * of_steps.max(of_epochs).min(1.0)))
    }

    /// The mini-batch of a step of the present optimizer.
    fn draw(&mut self, step: u64) {
        if let Some(batch) = self.task.fresh_batch(step, self.problem.samples().len()) {
            *self.problem.samples_mut() = batch;
        } else {
            let indices = self.order.indices(step - self.turn_step);
            self.task.train().gather(indices, self.problem.samples_mut());
        }
    }

    /// One mini-batch, one step; on an error θ is as it was.
    fn step_once(&mut self) -> Result<StepReport, StepError> {
        let start = Instant::now();
        self.draw(self.step);
        let part = self.part();
        if part < 1.0 {
            self.before.clone_from(&self.theta);
        }
        let (optimizer, problem, theta) = (&mut self.optimizer, &mut self.problem, &mut self.theta);
        let report = match &self.pool {
            Some(pool) => pool.install(|| optimizer.step(problem, theta)),
            None => optimizer.step(problem, theta),
        };
        if part < 1.0 && report.is_ok() {
            for (theta, before) in self.theta.iter_mut().zip(&self.before) {
                *theta = before + part * (*theta - before);
            }
        }
        self.wall += start.elapsed();
        let mut report = report?;
        report.update_norm *= part;
        report.learning_rate *= part;
        self.step += 1;
        if self.step <= WARM_UP {
            self.warm_up = (self.step, self.wall);
        }
        self.pending.steps += 1;
        self.pending.rejected += u64::from(report.rejected);
        self.pending.losses += report.loss * self.problem.per_sample();
        if report.spectral.as_ref().is_some_and(|spectral| !spectral.fallbacks.is_empty()) {
            self.pending.fallbacks += 1;
        }
        Ok(report)
    }

    fn evaluate(&mut self, begun: Instant, observer: &mut dyn Observer) -> Result<(), TrainingError> {
        let pending = std::mem::take(&mut self.pending);
        let (evaluator, problem, theta) = (&mut self.evaluator, &mut self.problem, &self.theta);
        let mut look = || {
            // The last mini-batch at θ as it is now, which an optimizer may not have looked at. Where the simulator fails
            // the network's activations stand all the same.
            let units = (pending.steps > 0).then(|| {
                let _ = problem.loss(theta);
                hidden_units(problem)
            });
            (evaluator.loss(theta), units)
        };
        let (loss, units) = match &self.pool {
            Some(pool) => pool.install(look),
            None => look(),
        };
        let row = Row {
            step: self.step,
            epoch: self.epochs(),
            wall: self.wall,
            elapsed: self.elapsed.unwrap_or_default() + begun.elapsed(),
            train_loss: (pending.steps > 0).then(|| pending.losses / f64::from(pending.steps)),
            test_loss: loss.unwrap_or(f64::NAN),
            units,
            last: pending.last,
            fallbacks: pending.fallbacks,
            rejected: pending.rejected,
            faults: pending.faults,
        };
        self.rows += 1;
        self.test_loss = row.test_loss;
        observer.row(self, &row)?;
        Ok(())
    }

    fn stop(&self) -> Option<StopReason> {
        let stop = &self.task.settings().stop;
        if stop.target_loss.is_some_and(|target| self.test_loss <= target) {
            Some(StopReason::TargetLoss)
        } else if stop.steps.is_some_and(|steps| self.step >= steps) {
            Some(StopReason::Steps)
        } else if stop.epochs.is_some_and(|epochs| self.epochs() >= epochs as f64) {
            Some(StopReason::Epochs)
        } else if stop.time.is_some_and(|time| self.wall.as_secs_f64() >= time) {
            Some(StopReason::Time)
        } else {
            None
        }
    }
}
