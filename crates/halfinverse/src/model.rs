//! A model (network, simulator, objective) and its evaluation on a mini-batch: loss, gradient, Jacobian.

use std::sync::Arc;

use faer::prelude::ReborrowMut;
use faer::{Mat, MatRef, Par};

use crate::columns::{column, column_mut, to_rows, worth_threads};
use crate::error::{Culprit, ShapeError, StepError};
use crate::jacobian::{LayeredJacobian, Room};
use crate::network::{Mlp, Pass};
use crate::objective::Objective;
use crate::simulator::{Batched, Simulator};

/// y(θ) = S(f(x; θ); y₀) and its loss L(y, target).
#[derive(Clone)]
pub struct Model {
    network: Mlp,
    simulator: Arc<dyn Simulator>,
    objective: Arc<dyn Objective>,
}

impl Model {
    /// Puts the three parts together.
    ///
    /// # Errors
    /// When the network's output is not as wide as the simulator's control.
    pub fn new(
        network: Mlp,
        simulator: impl Simulator + 'static,
        objective: impl Objective + 'static,
    ) -> Result<Self, ShapeError> {
        ShapeError::check("the network", "outputs", simulator.controls(), network.outputs())?;
        Ok(Self { network, simulator: Arc::new(simulator), objective: Arc::new(objective) })
    }

    /// The network f.
    #[must_use]
    pub fn network(&self) -> &Mlp {
        &self.network
    }

    /// The simulator S.
    #[must_use]
    pub fn simulator(&self) -> &dyn Simulator {
        &*self.simulator
    }

    /// The objective L.
    #[must_use]
    pub fn objective(&self) -> &dyn Objective {
        &*self.objective
    }
}

/// Samples in batch layout: one row per sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    /// Network inputs x.
    pub input: Mat<f64>,
    /// Initial states y₀ of the simulator.
    pub initial: Mat<f64>,
    /// What the outcomes should be.
    pub target: Mat<f64>,
}

impl Samples {
    /// Number of samples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.input.nrows()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Room for `count` samples of the same kind.
    #[must_use]
    pub fn zeros_like(&self, count: usize) -> Self {
        let zeros = |matrix: &Mat<f64>| Mat::zeros(count, matrix.ncols());
        Self { input: zeros(&self.input), initial: zeros(&self.initial), target: zeros(&self.target) }
    }

    /// Copies the samples at `indices` into `batch`.
    pub fn gather(&self, indices: &[usize], batch: &mut Self) {
        for (from, to) in [
            (&self.input, &mut batch.input),
            (&self.initial, &mut batch.initial),
            (&self.target, &mut batch.target),
        ] {
            for j in 0..from.ncols() {
                let from = from.col_as_slice(j);
                for (value, &i) in to.col_as_slice_mut(j).iter_mut().zip(indices) {
                    *value = from[i];
                }
            }
        }
    }

    /// Copies all samples of `batch` to `first` and on, from the end to the start again.
    pub(crate) fn put(&mut self, batch: &Self, first: usize) {
        let count = self.len();
        for (from, to) in [
            (&batch.input, &mut self.input),
            (&batch.initial, &mut self.initial),
            (&batch.target, &mut self.target),
        ] {
            for j in 0..from.ncols() {
                let to = to.col_as_slice_mut(j);
                for (i, &value) in from.col_as_slice(j).iter().enumerate() {
                    to[(first + i) % count] = value;
                }
            }
        }
    }

    /// The first `count` samples, or all if there are fewer.
    #[must_use]
    pub fn first(&self, count: usize) -> Self {
        let count = count.min(self.len());
        let mut batch = self.zeros_like(count);
        self.gather(&(0..count).collect::<Vec<_>>(), &mut batch);
        batch
    }

    fn check(&self, model: &Model) -> Result<(), ShapeError> {
        let (network, simulator) = (model.network(), model.simulator());
        ShapeError::check("a sample's input", "components", network.inputs(), self.input.ncols())?;
        ShapeError::check(
            "a sample's initial state",
            "components",
            simulator.initials(),
            self.initial.ncols(),
        )?;
        ShapeError::check("a sample's target", "components", simulator.outcomes(), self.target.ncols())?;
        ShapeError::check("the initial states", "samples", self.len(), self.initial.nrows())?;
        ShapeError::check("the targets", "samples", self.len(), self.target.nrows())
    }
}

/// A model on one mini-batch, with the room that its evaluation needs: nothing is allocated from step to step.
pub struct Problem {
    model: Model,
    samples: Samples,
    par: Par,
    pass: Pass,
    batched: Batched,
    outcome: Mat<f64>,
    outcome_gradient: Mat<f64>,
    control_gradient: Mat<f64>,
    rows: Vec<f64>,
    room: Room,
}

/// Loss, g and J at one θ.
pub struct Linearization<'a> {
    /// L of the mini-batch.
    pub loss: f64,
    /// g = ∂L/∂y, sample-major, n entries.
    pub outcome_gradient: &'a [f64],
    /// J.
    pub jacobian: LayeredJacobian<'a>,
}

impl Problem {
    /// A model on the given samples, evaluated on `threads` threads of the current rayon pool.
    ///
    /// # Errors
    /// When the samples' shapes do not fit the model.
    pub fn new(model: &Model, samples: Samples, threads: usize) -> Result<Self, ShapeError> {
        samples.check(model)?;
        let par = if threads > 1 { Par::rayon(threads) } else { Par::Seq };
        let (b, m, q) = (samples.len(), model.simulator().outcomes(), model.network().outputs());
        Ok(Self {
            par: worth_threads(par, b * model.network().parameters()),
            pass: Pass::new(model.network(), b),
            batched: Batched::new(threads),
            outcome: Mat::zeros(b, m),
            outcome_gradient: Mat::zeros(b, m),
            control_gradient: Mat::zeros(b, q),
            rows: vec![0.0; b * m],
            room: Room::new(model.network(), model.simulator(), b),
            model: model.clone(),
            samples,
        })
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The mini-batch.
    #[must_use]
    pub fn samples(&self) -> &Samples {
        &self.samples
    }

    /// The mini-batch, to be replaced by another of the same size.
    pub fn samples_mut(&mut self) -> &mut Samples {
        &mut self.samples
    }

    /// The outcomes y (b × m) of the last evaluation.
    #[must_use]
    pub fn outcome(&self) -> MatRef<'_, f64> {
        self.outcome.as_ref()
    }

    /// The controls z (b × q) of the last evaluation.
    #[must_use]
    pub fn control(&self) -> MatRef<'_, f64> {
        self.pass.output.as_ref()
    }

    /// L(θ) on the mini-batch.
    ///
    /// # Errors
    /// When the simulator fails.
    pub fn loss(&mut self, theta: &[f64]) -> Result<f64, StepError> {
        self.simulate(theta, false)?;
        let (outcome, target) = (self.outcome.as_ref(), self.samples.target.as_ref());
        let sum = self.model.objective.sum(outcome, target, None);
        Ok(self.factor() * sum)
    }

    /// L(θ), and its gradient Jᵀg: one sweep forward, one back, no Jacobian.
    ///
    /// # Errors
    /// When the loss is not finite or the simulator fails.
    pub fn gradient(&mut self, theta: &[f64], gradient: &mut [f64]) -> Result<f64, StepError> {
        let loss = self.forward(theta)?;
        self.batched.vjp(
            self.model.simulator(),
            self.samples.initial.as_ref(),
            self.pass.output.as_ref(),
            self.outcome_gradient.as_ref(),
            self.control_gradient.as_mut(),
        )?;
        let cotangent = self.control_gradient.as_ref();
        self.pass.backward(&self.model.network, theta, cotangent, gradient, self.par);
        Ok(loss)
    }

    /// Shows `visit` the rows of a random combination of each sample's outcomes: for cotangents ȳ (b × m), layer by layer
    /// the δₗ (b × out) they make and the input aₗ (b × in). At the θ of the last [`Self::gradient`].
    ///
    /// # Errors
    /// When the simulator fails.
    pub(crate) fn each_delta(
        &mut self,
        theta: &[f64],
        cotangent: MatRef<'_, f64>,
        visit: impl FnMut(usize, MatRef<'_, f64>, MatRef<'_, f64>),
    ) -> Result<(), StepError> {
        self.batched.vjp(
            self.model.simulator(),
            self.samples.initial.as_ref(),
            self.pass.output.as_ref(),
            cotangent,
            self.control_gradient.as_mut(),
        )?;
        let z = self.control_gradient.as_ref();
        self.pass.each_delta(&self.model.network, theta, z, self.par, visit);
        Ok(())
    }

    /// L(θ), g and J.
    ///
    /// # Errors
    /// When the loss is not finite or the simulator fails.
    pub fn linearize<'a>(&'a mut self, theta: &'a [f64]) -> Result<Linearization<'a>, StepError> {
        let loss = self.forward(theta)?;
        self.batched.block(
            self.model.simulator(),
            self.samples.initial.as_ref(),
            self.pass.output.as_ref(),
            self.room.block_mut(),
        )?;
        to_rows(self.outcome_gradient.as_ref(), &mut self.rows);
        Ok(Linearization {
            loss,
            outcome_gradient: &self.rows,
            jacobian: LayeredJacobian {
                network: &self.model.network,
                theta,
                pass: &mut self.pass,
                room: &mut self.room,
                par: self.par,
            },
        })
    }

    /// z, y and g; keeps what the derivatives need.
    fn forward(&mut self, theta: &[f64]) -> Result<f64, StepError> {
        self.simulate(theta, true)?;
        let gradient = self.outcome_gradient.as_mut();
        let (outcome, target) = (self.outcome.as_ref(), self.samples.target.as_ref());
        let sum = self.model.objective.sum(outcome, target, Some(gradient));
        let factor = self.factor();
        for c in 0..self.outcome_gradient.ncols() {
            for g in self.outcome_gradient.col_as_slice_mut(c) {
                *g *= factor;
            }
        }
        let loss = factor * sum;
        if loss.is_finite() {
            Ok(loss)
        } else {
            Err(StepError::LossNotFinite { loss, culprit: self.culprit() })
        }
    }

    /// The first number that is not finite, in the order in which one makes the next.
    fn culprit(&self) -> Option<Culprit> {
        let parts = [
            ("input", self.samples.input.as_ref()),
            ("initial state", self.samples.initial.as_ref()),
            ("target", self.samples.target.as_ref()),
            ("control", self.pass.output.as_ref()),
            ("outcome", self.outcome.as_ref()),
        ];
        parts.into_iter().find_map(|(part, values)| {
            let places = (0..values.nrows()).flat_map(|s| (0..values.ncols()).map(move |c| (s, c)));
            places.map(|(sample, component)| (sample, component, values[(sample, component)])).find_map(
                |(sample, component, value)| {
                    (!value.is_finite()).then_some(Culprit { sample, part, component, value })
                },
            )
        })
    }

    fn simulate(&mut self, theta: &[f64], recording: bool) -> Result<(), StepError> {
        assert_eq!(theta.len(), self.model.network.parameters(), "length of θ");
        self.pass.inputs[0].copy_from(&self.samples.input);
        self.pass.forward(&self.model.network, theta, self.par);
        self.batched.forward(
            self.model.simulator(),
            self.samples.initial.as_ref(),
            self.pass.output.as_ref(),
            self.outcome.as_mut(),
            recording,
        )?;
        Ok(())
    }

    /// What makes a mean loss per sample of the mini-batch's loss.
    #[must_use]
    pub fn per_sample(&self) -> f64 {
        1.0 / (self.factor() * self.samples.len() as f64)
    }

    /// h of the mini-batch's loss: the objective's curvature times what the reduction makes of it.
    #[must_use]
    pub fn curvature(&self) -> f64 {
        self.factor() * self.model.objective.curvature()
    }

    /// Activations of the hidden layers (b × width each) at the last evaluation.
    #[must_use]
    pub fn hidden(&self) -> Vec<MatRef<'_, f64>> {
        self.pass.inputs[1..].iter().map(Mat::as_ref).collect()
    }

    /// Activations and slopes of the last evaluation.
    pub(crate) fn pass(&self) -> &Pass {
        &self.pass
    }

    fn factor(&self) -> f64 {
        self.model.objective.reduction().factor(self.samples.len())
    }
}

/// Evaluates a model on more samples than a mini-batch, a fixed number at a time.
pub struct Evaluator {
    samples: Samples,
    problem: Problem,
    rest: Option<Problem>,
}

impl Evaluator {
    /// An evaluator for all of `samples`.
    ///
    /// # Errors
    /// When the samples' shapes do not fit the model.
    pub fn new(model: &Model, samples: Samples, threads: usize) -> Result<Self, ShapeError> {
        let size = AT_A_TIME.min(samples.len());
        let rest = samples.len() % size.max(1);
        Ok(Self {
            problem: Problem::new(model, samples.zeros_like(size), threads)?,
            rest: match rest {
                0 => None,
                rest => Some(Problem::new(model, samples.zeros_like(rest), threads)?),
            },
            samples,
        })
    }

    /// Mean loss per sample at θ.
    ///
    /// # Errors
    /// When the simulator fails.
    pub fn loss(&mut self, theta: &[f64]) -> Result<f64, StepError> {
        let (total, size) = (self.samples.len(), self.problem.samples.len());
        let mut sum = 0.0;
        for start in (0..total).step_by(size) {
            let problem = match &mut self.rest {
                Some(rest) if total - start < size => rest,
                _ => &mut self.problem,
            };
            self.samples.copy_range(start, &mut problem.samples);
            sum += problem.loss(theta)? / problem.factor();
        }
        Ok(sum / total as f64)
    }
}

/// Samples per evaluation pass: their activations fit into the second-level cache.
pub(crate) const AT_A_TIME: usize = 256;

impl Samples {
    /// Copies samples `start..` into `batch`, as many as it holds.
    fn copy_range(&self, start: usize, batch: &mut Self) {
        let count = batch.len();
        for (from, to) in [
            (&self.input, &mut batch.input),
            (&self.initial, &mut batch.initial),
            (&self.target, &mut batch.target),
        ] {
            let mut to = to.as_mut();
            for j in 0..from.ncols() {
                let from = &column(from.as_ref(), j)[start..start + count];
                column_mut(to.rb_mut(), j).copy_from_slice(from);
            }
        }
    }
}
