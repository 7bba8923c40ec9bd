//! Training: mini-batches, steps, evaluation, stopping.
//!
//! The loop prints and writes nothing; an [`Observer`] sees every step and every evaluation. The clock decides
//! nothing but the stop by time, so two runs with the same seed and threads make the same steps and the same rows.

mod best;
pub mod checkpoint;
mod clock;
mod faults;
mod notices;
mod observer;
mod order;
mod parts;
mod pending;
mod requests;
mod stops;

use std::time::{Duration, Instant};

pub use best::Best;
use best::Lowest;
pub use checkpoint::{
    CheckpointError, checkpoint_bytes, checkpoint_exists, read_description, read_parameters, resume,
    resume_from_bytes, write_checkpoint, write_model, write_parameters,
};
use clock::Clock;
use faults::{Faults, Remedy};
pub use notices::Noted;
use notices::Notices;
pub use observer::{Flow, Observer, Progress, Row};
use order::Order;
pub use parts::{Cadence, Data, Draw, OnFault, Options, Parts, Schedule, Stage};
pub(crate) use parts::{MOST_THREADS, held_out};
use pending::Pending;
pub use requests::Request;
use serde::{Deserialize, Serialize};
use stops::Standing;
pub(crate) use stops::lacks_gradient;
pub use stops::{StopReason, StopSettings};

use crate::error::{SettingError, ShapeError};
use crate::fault::StepError;
use crate::optimizer::{Optimizer, StateError, StepReport};
use crate::problem::{BatchProblem, Evaluator};
use crate::ranks::{Lost, Team};

/// Steps beyond which no run goes; counts go on from here without overflow.
pub const MOST_STEPS: u64 = 1 << 53;

/// A run that could not go on for reasons outside the numbers.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    /// The parts do not fit.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A setting was refused.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// An optimizer does not take back its own state.
    #[error("the optimizer's state cannot be restored: {0}")]
    State(#[from] StateError),
    /// The threads could not be started.
    #[error("cannot start {threads} threads: {source}")]
    Threads {
        /// As many as were asked for.
        threads: usize,
        /// Why not.
        source: rayon::ThreadPoolBuildError,
    },
    /// Ranks can do nothing together any more.
    #[error(transparent)]
    Ranks(#[from] Lost),
    /// A row could not be kept.
    #[error("cannot keep the run's metrics: {0}")]
    Observer(#[from] std::io::Error),
}

/// A run in progress.
///
/// # Example
/// A short run of a task; [`Parts`] has one without a task.
/// ```
/// use halfinverse::task::{Registry, Task};
/// use halfinverse::training::StopReason;
/// let mut settings = Registry::standard().settings("oscillators", "hig-auto")?;
/// (settings.data.train, settings.data.test, settings.training.batch) = (128, 32, 32);
/// (settings.stop.time, settings.stop.steps) = (None, Some(12));
/// let mut trainer = Task::new(settings)?.trainer(None)?;
/// assert!(matches!(trainer.run(&mut ())?, StopReason::Steps));
/// assert_eq!(trainer.steps(), 12);
/// assert!(trainer.test_loss() < 0.5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Trainer {
    parts: Parts,
    /// The ranks that mini-batches are spread over; one where they are not.
    team: Team,
    pool: Option<rayon::ThreadPool>,
    evaluator: Evaluator,
    turn: Turn,
    theta: Vec<f64>,
    /// θ before the step, where only a part of it is taken.
    before: Vec<f64>,
    position: Position,
    pending: Pending,
    standing: Standing,
    notices: Notices,
    best: Lowest,
    /// The test loss of the end of a run which had no row of its own there, where it is the lowest.
    best_end: Option<f64>,
    faults: Faults,
    /// Learning rate in units of the configured one: what an observer made of it.
    pace: f64,
    clock: Clock,
}

/// What the present optimizer works with.
struct Turn {
    optimizer: Box<dyn Optimizer>,
    problem: Box<dyn BatchProblem>,
    order: Order,
}

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Position {
    step: u64,
    /// Optimizers that have had their turn, and when the present one's began.
    stage: usize,
    stage_step: u64,
    stage_epochs: f64,
    /// Rows of metrics that a run resumed from here has behind it, and the test loss in the last one.
    rows: u64,
    test_loss: f64,
}

impl Turn {
    /// What the `stage`-th optimizer works with.
    fn new(parts: &Parts, stage: usize) -> Result<Self, TrainingError> {
        let Parts { source, data, stages, options } = parts;
        let stage = &stages[stage];
        let samples = data.train.len() - stage.held_out(data);
        Ok(Self {
            optimizer: stage.optimizer(data, options, source)?,
            problem: source.problem(data.train.zeros_like(stage.batch), options.threads)?,
            order: Order::new(samples, stage.batch, options.shuffle, options.seed),
        })
    }
}

impl Trainer {
    /// A run from the given parameters.
    ///
    /// # Errors
    /// When the parts do not fit, or the threads cannot be started.
    pub fn new(parts: Parts, theta: Vec<f64>) -> Result<Self, TrainingError> {
        parts.check()?;
        ShapeError::check("θ", "parameters", parts.source.parameters(), theta.len())?;
        let threads = parts.options.threads;
        let pool = match threads {
            0 | 1 => None,
            _ => Some(
                rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .map_err(|source| TrainingError::Threads { threads, source })?,
            ),
        };
        Ok(Self {
            evaluator: Evaluator::new(&*parts.source, parts.data.test.clone(), threads)?,
            turn: Turn::new(&parts, 0)?,
            best: Lowest::unknown(&theta),
            best_end: None,
            theta,
            pool,
            before: Vec::new(),
            position: Position {
                step: 0,
                stage: 0,
                stage_step: 0,
                stage_epochs: 0.0,
                rows: 0,
                test_loss: f64::INFINITY,
            },
            pending: Pending::default(),
            standing: Standing::default(),
            notices: Notices::default(),
            faults: Faults::new(parts.options.on_fault, parts.options.blow_up),
            pace: 1.0,
            clock: Clock::default(),
            team: parts.source.team().cloned().unwrap_or_else(Team::alone),
            parts,
        })
    }

    /// What the run is made of.
    #[must_use]
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// θ as it stands.
    #[must_use]
    pub fn theta(&self) -> &[f64] {
        &self.theta
    }

    /// θ alone: the optimizer's memory goes.
    #[must_use]
    pub fn into_theta(self) -> Vec<f64> {
        self.theta
    }

    /// The optimizer as it stands.
    #[must_use]
    pub fn optimizer(&self) -> &dyn Optimizer {
        &*self.turn.optimizer
    }

    /// Steps made.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.position.step
    }

    /// Passes through the training data, with fractions.
    #[must_use]
    pub fn epochs(&self) -> f64 {
        let Position { step, stage_step, stage_epochs, .. } = self.position;
        stage_epochs + (step - stage_step) as f64 / self.turn.order.steps_per_epoch() as f64
    }

    /// Mean loss per sample on the test data at the last evaluation; infinite before the first one.
    #[must_use]
    pub fn test_loss(&self) -> f64 {
        self.position.test_loss
    }

    /// Time spent in steps: batches drawn, simulated, stepped.
    #[must_use]
    pub fn wall(&self) -> Duration {
        self.clock.wall
    }

    /// Rows of metrics before this point, without one that only the end of a run called for.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.position.rows
    }

    /// Faults so far that the run survived.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.faults.memory.count
    }

    /// What the run has said of itself so far: each kind of notice once, in the order of their first steps.
    #[must_use]
    pub fn notices(&self) -> &[Noted] {
        self.notices.as_slice()
    }

    /// The parameters with the lowest test loss so far.
    #[must_use]
    pub fn best(&self) -> Best<'_> {
        match self.best_end {
            Some(loss) => Best { theta: &self.theta, loss, step: self.position.step },
            None => Best { theta: &self.best.theta, loss: self.best.loss, step: self.best.step },
        }
    }

    /// Lets a run go on that `stop.patience` or `stop.still` has ended: what they count starts again. Tells whether one
    /// of them had.
    pub fn restart_counts(&mut self) -> bool {
        self.standing.restart(&self.parts.options.stop)
    }

    /// Sets the time spent in steps, and since the run began: a checkpoint holds nothing that differs from run to run.
    pub fn set_clock(&mut self, wall: Duration, elapsed: Duration) {
        self.clock = Clock::resumed(self.position.step, wall, elapsed);
    }

    /// Mean milliseconds of a step, the first few left out where there are more.
    #[must_use]
    pub fn ms_per_step(&self) -> Option<f64> {
        self.clock.ms_per_step(self.position.step)
    }

    /// Whether an evaluation is due after the steps made.
    fn evaluates_here(&self) -> bool {
        self.parts.options.cadence.evaluates_at(self.position.step)
    }

    /// Trains until a stop is reached, or, where there is none, until the observer says so.
    ///
    /// # Errors
    /// When the observer cannot keep a row. A step that fails is [`StopReason::Diverged`], not an error.
    pub fn run(&mut self, observer: &mut dyn Observer) -> Result<StopReason, TrainingError> {
        let begun = Instant::now();
        let mut evaluated = self.pending.is_empty();
        self.best_end = None;
        if self.clock.elapsed.is_none() {
            self.evaluate(begun, false, observer)?;
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
            let flow = observer.step(&Progress(self), &report);
            if self.follow(flow)? == Flow::Stop {
                break StopReason::Interrupted;
            }
            if self.evaluates_here() {
                self.evaluate(begun, false, observer)?;
                evaluated = true;
            }
            if let Some(reason) = self.follow_requests(begun, &mut evaluated, observer)? {
                break reason;
            }
        };
        evaluated &= !matches!(reason, StopReason::Diverged(StepError::BlowUp { .. }));
        if !evaluated {
            self.evaluate_end(begun, observer)?;
        }
        self.clock.elapsed = Some(self.clock.elapsed.unwrap_or_default() + begun.elapsed());
        Ok(reason)
    }

    /// What the clock and the observer of rank 0 say, on all ranks.
    fn follow(&mut self, flow: Flow) -> Result<Flow, Lost> {
        if self.team.size() == 1 {
            return Ok(flow);
        }
        let mut said = [self.clock.wall.as_secs_f64(), f64::from(u8::from(flow == Flow::Stop))];
        self.team.lead(&mut said)?;
        self.clock.wall = Duration::try_from_secs_f64(said[0]).unwrap_or(self.clock.wall);
        Ok(if said[1] > 0.0 { Flow::Stop } else { Flow::Continue })
    }

    /// One step, or what the policy on faults does in its place; the inner error is one to end the run with.
    fn attempt(&mut self) -> Result<Result<StepReport, StepError>, TrainingError> {
        self.best_end = None;
        let before = self.keep_good();
        let step = self.position.step;
        let outcome = self.step_once().and_then(|report| Ok((self.faults.watch(report.loss)?, report)));
        let error = match outcome {
            Ok((in_order, report)) => {
                if let Some(before) = before.filter(|_| in_order) {
                    self.faults.good = Some(before);
                }
                self.pending.last = Some(report.clone());
                self.check_gradient(&report)?;
                return Ok(Ok(report));
            }
            Err(error) => error,
        };
        if let StepError::Ranks(lost) = error {
            return Err(lost.into());
        }
        match self.faults.remedy(&error) {
            Remedy::Stop => return Ok(Err(error)),
            Remedy::RollBack => self.roll_back()?,
            Remedy::Skip => {}
        }
        self.position.step = step + 1;
        self.pending.faults += 1;
        Ok(Ok(StepReport { loss: f64::NAN, rejected: true, ..StepReport::default() }))
    }

    /// Lets the next optimizer take over where the present one's steps are done.
    fn hand_over(&mut self) -> Result<(), TrainingError> {
        let Position { step, stage, stage_step, .. } = self.position;
        if self.parts.stages[stage].steps.is_none_or(|steps| step - stage_step < steps) {
            return Ok(());
        }
        self.position.stage_epochs = self.epochs();
        (self.position.stage, self.position.stage_step) = (stage + 1, step);
        self.faults.begin();
        self.standing.begin();
        self.pace = 1.0;
        self.turn = Turn::new(&self.parts, stage + 1)?;
        Ok(())
    }

    /// The part of the optimizer's learning rate that the next step uses.
    fn part(&self) -> f64 {
        let Options { schedule, stop, .. } = &self.parts.options;
        let scaled = if self.stage().scales() { self.faults.memory.caution * self.pace } else { 1.0 };
        if *schedule == Schedule::Constant {
            return scaled;
        }
        let of_steps = stop.steps.map_or(0.0, |all| self.position.step as f64 / all as f64);
        let of_epochs = stop.epochs.map_or(0.0, |all| self.epochs() / all as f64);
        // The same cosine on every machine.
        scaled * 0.5 * (1.0 + libm::cos(std::f64::consts::PI * of_steps.max(of_epochs).min(1.0)))
    }

    /// Makes the mini-batch of a step of the present optimizer the problem's.
    fn draw(&mut self, step: u64) -> Result<(), ShapeError> {
        let Turn { problem, order, .. } = &mut self.turn;
        match &self.parts.data.fresh {
            Some(draw) => {
                let batch = draw(step, self.parts.stages[self.position.stage].batch);
                problem.take(&batch, &(0..batch.len()).collect::<Vec<_>>())
            }
            None => problem.take(&self.parts.data.train, order.indices(step - self.position.stage_step)),
        }
    }

    /// One mini-batch, one step; on an error θ is as it was.
    fn step_once(&mut self) -> Result<StepReport, StepError> {
        let start = Instant::now();
        self.draw(self.position.step)?;
        let part = self.part();
        let spread = self.team.size() > 1;
        if part != 1.0 || spread {
            self.before.clone_from(&self.theta);
        }
        let (Turn { optimizer, problem, .. }, theta) = (&mut self.turn, &mut self.theta);
        let report = match &self.pool {
            Some(pool) => pool.install(|| optimizer.step(&mut **problem, theta)),
            None => optimizer.step(&mut **problem, theta),
        };
        if part != 1.0 && report.is_ok() {
            for (theta, before) in self.theta.iter_mut().zip(&self.before) {
                *theta = before + part * (*theta - before);
            }
        }
        let failed = report.as_ref().is_err();
        let report = self.team.agree_on(report);
        if spread && report.is_err() && !failed {
            self.theta.clone_from(&self.before);
        }
        self.clock.wall += start.elapsed();
        let mut report = report?;
        report.update_norm *= part;
        report.learning_rate = report.learning_rate.map(|rate| rate * part);
        self.position.step += 1;
        self.clock.warm_up_to(self.position.step);
        self.pending.add(&report);
        self.look_back(&report);
        Ok(report)
    }

    /// A row; `extra` is one that a run which goes on from here has not.
    fn evaluate(
        &mut self,
        begun: Instant,
        extra: bool,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainingError> {
        let pending = std::mem::take(&mut self.pending);
        let (evaluator, problem, theta) = (&mut self.evaluator, &mut self.turn.problem, &self.theta);
        let mut look = || {
            // The last mini-batch at θ as it is now, which an optimizer may not have looked at.
            let units = if pending.stepped() { problem.units(theta) } else { None };
            (evaluator.loss(theta), units)
        };
        let (loss, units) = match &self.pool {
            Some(pool) => pool.install(look),
            None => look(),
        };
        if let Err(StepError::Ranks(lost)) = loss {
            return Err(lost.into());
        }
        self.team.check_same(&self.theta)?;
        let (fallbacks, rejected) = pending.counts();
        let row = Row {
            step: self.position.step,
            epoch: self.epochs(),
            wall: self.clock.wall,
            elapsed: self.clock.elapsed.unwrap_or_default() + begun.elapsed(),
            train_loss: pending.mean_loss(),
            test_loss: loss.unwrap_or(f64::NAN),
            units,
            fallbacks,
            rejected,
            faults: pending.faults,
            moved: pending.moved,
            notice: pending.notice,
            last: pending.last,
        };
        let better = row.test_loss < self.best.loss;
        match (better, extra) {
            (true, true) => self.best_end = Some(row.test_loss),
            (true, false) => self.best.take(&self.theta, row.test_loss, row.step),
            (false, _) => {}
        }
        self.standing.row(self.position.test_loss, row.test_loss, row.moved > 0, better);
        self.position.rows += 1;
        self.position.test_loss = row.test_loss;
        Ok(observer.row(&Progress(self), &row)?)
    }
}
