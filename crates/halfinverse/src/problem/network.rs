//! Network ∘ simulator under an objective, on one mini-batch.

use faer::prelude::ReborrowMut;
use faer::{Mat, MatMut, MatRef, Par};

use super::weights::Weights;
use super::{
    At, BatchProblem, Blocks, Controlled, FactorRows, FactorShape, FactorVisit, Layered, Model, Problem,
    Samples,
};
use crate::error::ShapeError;
use crate::fault::{Culprit, StepError};
use crate::linear::columns::{column, column_mut, to_rows};
use crate::linear::threads::{par, worth_threads};
use crate::linear::vectors::{along, norm};
use crate::linear::{LayeredJacobian, Workspace};
use crate::network::{Leaf, Pass};
use crate::simulator::{Batched, SimulatorError};

/// A model on one mini-batch, with the scratch space of its evaluation: nothing is allocated from step to step while
/// the size of the mini-batch stays.
///
/// # Example
/// ```
/// use halfinverse::Problem;
/// use halfinverse::network::{Activation, Init, Network};
/// use halfinverse::objective::SquaredError;
/// use halfinverse::problem::{Model, NetworkProblem, Samples};
/// use halfinverse::simulator::Scaling;
/// use halfinverse::faer::Mat;
/// let network = Network::mlp(&[1, 8, 2], Activation::Tanh)?;
/// let theta = network.initialize(Init::GlorotUniform, &mut rand_chacha::ChaCha8Rng::from_seed([0; 32]));
/// let model = Model::new(network, Scaling::new(vec![1.0, 0.01]), SquaredError { factor: 0.5 })?;
/// let x = Mat::from_fn(5, 1, |s, _| s as f64 / 5.0);
/// let samples = Samples::new(x, Mat::zeros(5, 0), Mat::zeros(5, 2))?;
/// let mut problem = NetworkProblem::new(&model, samples, 1)?;
/// let mut gradient = vec![0.0; theta.len()];
/// let loss = problem.gradient(&theta, &mut gradient)?;
/// let step: Vec<f64> = theta.iter().zip(&gradient).map(|(theta, g)| theta - 0.1 * g).collect();
/// assert!(problem.loss(&step)? < loss);
/// # use rand::SeedableRng;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct NetworkProblem {
    model: Model,
    samples: Samples,
    threads: usize,
    par: Par,
    pass: Pass,
    /// Made where something is first swept back or along a tangent.
    scratch: [Mat<f64>; 2],
    batched: Batched,
    outcome: Mat<f64>,
    gradient: Mat<f64>,
    control: Mat<f64>,
    weights: Weights,
    rows: Vec<f64>,
    /// θ + εv, and y(θ) beside it.
    trial: Vec<f64>,
    base: Mat<f64>,
    /// Made where J is first asked for.
    work: Option<Workspace>,
    /// Where several θ are evaluated together.
    stack: Option<Stack>,
}

/// Loss, g and J at one θ; as [`At`], with the layered J.
pub struct Linearization<'a> {
    /// L of the mini-batch.
    pub loss: f64,
    /// g, sample-major, n entries.
    pub gradient: &'a [f64],
    /// h.
    pub curvature: f64,
    /// J.
    pub jacobian: LayeredJacobian<'a>,
}

/// Initial states, controls and outcomes of several θ, one below the other.
struct Stack {
    batched: Batched,
    initial: Mat<f64>,
    control: Mat<f64>,
    outcome: Mat<f64>,
}

impl NetworkProblem {
    /// A model on the given samples, evaluated on `threads` threads of the current rayon pool.
    ///
    /// # Errors
    /// When the samples do not fit the model, or there is none.
    pub fn new(model: &Model, samples: Samples, threads: usize) -> Result<Self, ShapeError> {
        model.fits(&samples)?;
        let (b, m, q) = (samples.len(), model.simulator().outcomes(), model.network().outputs());
        Ok(Self {
            par: worth_threads(par(threads), b * model.network().work()),
            threads,
            pass: Pass::new(model.network(), b),
            scratch: [Mat::new(), Mat::new()],
            batched: Batched::new(threads),
            outcome: Mat::zeros(b, m),
            gradient: Mat::zeros(b, m),
            control: Mat::zeros(b, q),
            weights: Weights::new(b),
            rows: Vec::new(),
            trial: Vec::new(),
            base: Mat::new(),
            work: None,
            stack: None,
            model: model.clone(),
            samples,
        })
    }

    /// The same of a part of a mini-batch, which may have no curvature.
    pub(super) fn of_a_part(self) -> Self {
        Self { weights: self.weights.of_a_part(), ..self }
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The mini-batch.
    #[must_use]
    pub fn mini_batch(&self) -> &Samples {
        &self.samples
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

    /// Output and slopes σ′ (b × width each) of every activation at the last evaluation, first to last.
    #[must_use]
    pub fn units(&self) -> Vec<[MatRef<'_, f64>; 2]> {
        let mut units = Vec::new();
        self.pass.units(self.model.network(), &mut units);
        units
    }

    /// As [`Problem::linearize`], with the layered J.
    ///
    /// # Errors
    /// As there.
    #[allow(clippy::missing_panics_doc, reason = "made just before")]
    pub fn linearize_layers<'a>(&'a mut self, theta: &'a [f64]) -> Result<Linearization<'a>, StepError> {
        let loss = self.fill_blocks(theta)?;
        self.make_scratch();
        let curvature = self.curvature();
        let work = self.work.as_mut().expect("made with the blocks");
        let (network, scratch) = (self.model.network(), &mut self.scratch);
        Ok(Linearization {
            loss,
            gradient: &self.rows,
            curvature,
            jacobian: LayeredJacobian::new(network, theta, &self.pass, scratch, work, self.par),
        })
    }

    /// g into `rows`, the simulator's blocks into the work space.
    fn fill_blocks(&mut self, theta: &[f64]) -> Result<f64, StepError> {
        let loss = self.forward(theta)?;
        let (network, simulator) = (self.model.network(), self.model.simulator());
        let (count, coupled) = (self.samples.len(), self.weights.couple());
        let work = self.work.get_or_insert_with(|| Workspace::new(network, simulator, count, coupled));
        let (initial, control) = (self.samples.initial.as_ref(), self.pass.output.as_ref());
        self.batched.block(simulator, initial, control, work.block_mut())?;
        self.weights.multiply_blocks(work.block_mut());
        self.weights.divide(self.gradient.as_mut());
        self.rows.resize(self.gradient.nrows() * self.gradient.ncols(), 0.0);
        to_rows(self.gradient.as_ref(), &mut self.rows);
        Ok(loss)
    }

    /// z, y, g and the weights; keeps what the derivatives need.
    fn forward(&mut self, theta: &[f64]) -> Result<f64, StepError> {
        self.simulate(theta, true)?;
        let (objective, outcome) = (self.model.objective(), self.outcome.as_ref());
        let sum = self.weights.forward(objective, outcome, &self.samples, self.gradient.as_mut());
        let factor = self.factor();
        self.gradient *= faer::Scale(factor);
        let loss = factor * sum;
        if loss.is_finite() {
            Ok(loss)
        } else {
            Err(StepError::LossNotFinite { loss, culprit: self.culprit() })
        }
    }

    /// The first value that is NaN or infinite, in the order in which one makes the next.
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

    /// z at θ, nothing simulated.
    pub(crate) fn activate(&mut self, theta: &[f64]) {
        self.pass.inputs[0].copy_from(&self.samples.input);
        self.pass.forward(self.model.network(), theta, self.par);
    }

    fn simulate(&mut self, theta: &[f64], recording: bool) -> Result<(), StepError> {
        ShapeError::check("θ", "parameters", self.model.network().parameters(), theta.len())?;
        self.activate(theta);
        self.batched.simulate(
            self.model.simulator(),
            self.samples.initial.as_ref(),
            self.pass.output.as_ref(),
            self.outcome.as_mut(),
            recording,
        )?;
        Ok(())
    }

    /// z̄ into `control` from ȳ, at the last recording evaluation.
    fn pull(&mut self, cotangent: MatRef<'_, f64>) -> Result<(), StepError> {
        let (initial, control) = (self.samples.initial.as_ref(), self.pass.output.as_ref());
        let out = self.control.as_mut();
        self.batched.vjp(self.model.simulator(), initial, control, cotangent, out)?;
        Ok(())
    }

    /// Makes of tangents of outcomes (b × m) what J's rows have, as of the last gradient or linearization.
    pub(crate) fn weigh(&self, outcomes: MatMut<'_, f64>) {
        self.weights.tangent(outcomes);
    }

    fn factor(&self) -> f64 {
        self.model.reduction().factor(self.samples.len())
    }
}

impl Problem for NetworkProblem {
    fn parameters(&self) -> usize {
        self.model.network().parameters()
    }

    fn loss(&mut self, theta: &[f64]) -> Result<f64, StepError> {
        self.simulate(theta, false)?;
        let (objective, outcome) = (self.model.objective(), self.outcome.as_ref());
        let sum = self.weights.loss(objective, outcome, &self.samples);
        Ok(self.factor() * sum)
    }

    fn gradient(&mut self, theta: &[f64], gradient: &mut [f64]) -> Result<f64, StepError> {
        ShapeError::check("the gradient", "entries", theta.len(), gradient.len())?;
        let loss = self.forward(theta)?;
        let outcome = std::mem::replace(&mut self.gradient, Mat::new());
        let pulled = self.pull(outcome.as_ref());
        self.gradient = outcome;
        pulled?;
        self.network_gradient_of_control(theta, gradient);
        Ok(loss)
    }

    fn linearize<'a>(&'a mut self, theta: &'a [f64]) -> Result<At<'a>, StepError> {
        let Linearization { loss, gradient, curvature, jacobian } = self.linearize_layers(theta)?;
        Ok(At { loss, gradient, curvature, jacobian: Box::new(jacobian) })
    }

    /// All θ are simulated together.
    fn losses(&mut self, thetas: MatRef<'_, f64>, losses: &mut [f64]) -> Result<(), StepError> {
        let (count, b) = (thetas.ncols(), self.samples.len());
        ShapeError::check("θ", "parameters", self.parameters(), thetas.nrows())?;
        ShapeError::check("the losses", "places", count, losses.len())?;
        // Columns may lie apart in memory.
        let copied;
        let thetas = if thetas.row_stride() == 1 {
            thetas
        } else {
            copied = thetas.to_owned();
            copied.as_ref()
        };
        let rows = count * b;
        let mut stack = match self.stack.take().filter(|stack| stack.control.nrows() == rows) {
            Some(stack) => stack,
            None => Stack {
                batched: Batched::new(self.threads),
                initial: Mat::zeros(rows, self.samples.initial.ncols()),
                control: Mat::zeros(rows, self.control.ncols()),
                outcome: Mat::zeros(rows, self.outcome.ncols()),
            },
        };
        self.pass.inputs[0].copy_from(&self.samples.input);
        let repeat = |from: MatRef<'_, f64>, mut to: MatMut<'_, f64>, i: usize| {
            for j in 0..from.ncols() {
                column_mut(to.rb_mut(), j)[i * b..(i + 1) * b].copy_from_slice(column(from, j));
            }
        };
        for i in 0..count {
            let theta = column(thetas, i);
            self.pass.forward(self.model.network(), theta, self.par);
            repeat(self.pass.output.as_ref(), stack.control.as_mut(), i);
            repeat(self.samples.initial.as_ref(), stack.initial.as_mut(), i);
        }
        stack
            .batched
            .simulate(
                self.model.simulator(),
                stack.initial.as_ref(),
                stack.control.as_ref(),
                stack.outcome.as_mut(),
                false,
            )
            .map_err(|error| SimulatorError { sample: error.sample.map(|sample| sample % b), ..error })?;
        for (i, loss) in losses.iter_mut().enumerate() {
            let outcome = stack.outcome.as_ref().subrows(i * b, b);
            let sum = self.weights.loss(self.model.objective(), outcome, &self.samples);
            *loss = self.factor() * sum;
        }
        self.stack = Some(stack);
        Ok(())
    }

    fn weight(&self) -> f64 {
        self.model.reduction().weight(self.samples.len())
    }

    fn samples(&self) -> Option<&Samples> {
        Some(&self.samples)
    }

    fn layered(&mut self) -> Option<&mut dyn Layered> {
        if self.model.network().factored() { Some(self) } else { None }
    }

    fn controlled(&mut self) -> Option<&mut dyn Controlled> {
        Some(self)
    }
}

impl NetworkProblem {
    /// Problems that only losses are asked of go without.
    fn make_scratch(&mut self) {
        let b = self.samples.len();
        if self.scratch[0].nrows() != b {
            self.scratch = self.model.network().scratch(b);
        }
    }

    /// `out` = J_networkᵀ z̄ for the z̄ in `control`.
    fn network_gradient_of_control(&mut self, theta: &[f64], out: &mut [f64]) {
        self.make_scratch();
        let (network, control) = (self.model.network(), self.control.as_ref());
        self.pass.gradient(network, theta, control, out, &mut self.scratch, self.par);
    }
}

impl Layered for NetworkProblem {
    fn shape(&self) -> (usize, usize) {
        self.outcome.shape()
    }

    fn curvature(&self) -> f64 {
        self.factor() * self.weights.mean
    }

    fn factors(&self) -> Vec<FactorShape> {
        self.model.network().factor_shapes()
    }

    fn cotangents(
        &mut self,
        theta: &[f64],
        outcome: MatRef<'_, f64>,
        visit: &mut FactorVisit<'_>,
    ) -> Result<(), StepError> {
        let mut weighted = std::mem::replace(&mut self.gradient, Mat::new());
        weighted.copy_from(outcome);
        self.weights.cotangent(weighted.as_mut());
        let pulled = self.pull(weighted.as_ref());
        self.gradient = weighted;
        pulled?;
        self.make_scratch();
        let network = self.model.network();
        let mut first = network.factor_shapes().len();
        let mut of_leaf = |leaf: &Leaf<'_>, delta: MatRef<'_, f64>| {
            first -= leaf.layer.factors().len();
            let mut placed = |rows: FactorRows<'_>| visit(FactorRows { factor: first + rows.factor, ..rows });
            leaf.layer.unroll(leaf.place, delta, &mut placed);
        };
        let (theta, control) = ((theta, 0), self.control.as_ref());
        let scratch = self.scratch.each_mut().map(Mat::as_mut);
        self.pass.backward(network, theta, control, None, &mut of_leaf, scratch, self.par);
        Ok(())
    }

    fn difference(&mut self, theta: &[f64], v: &[f64], mut out: MatMut<'_, f64>) -> Result<(), StepError> {
        /// |εv| relative to 1 + |θ|: the square root of the round-off, and a margin for what the simulator adds to it.
        const RELATIVE: f64 = 1e-6;
        let length = norm(v);
        if length == 0.0 {
            out.fill(0.0);
            return Ok(());
        }
        let epsilon = RELATIVE * (1.0 + norm(theta)) / length;
        self.trial.resize(theta.len(), 0.0);
        let mut trial = std::mem::take(&mut self.trial);
        along(theta, epsilon, v, &mut trial);
        if self.base.shape() != self.outcome.shape() {
            self.base = Mat::zeros(self.outcome.nrows(), self.outcome.ncols());
        }
        self.base.copy_from(&self.outcome);
        let moved = self.simulate(&trial, false);
        self.trial = trial;
        moved?;
        for j in 0..out.ncols() {
            let pairs = self.outcome.col_as_slice(j).iter().zip(self.base.col_as_slice(j));
            for (out, (moved, outcome)) in column_mut(out.rb_mut(), j).iter_mut().zip(pairs) {
                *out = (moved - outcome) / epsilon;
            }
        }
        self.weights.tangent(out);
        Ok(())
    }
}

impl Controlled for NetworkProblem {
    fn blocks(&mut self, theta: &[f64]) -> Result<Blocks<'_>, StepError> {
        let loss = self.fill_blocks(theta)?;
        let work = self.work.as_ref().expect("made with the blocks");
        Ok(Blocks { loss, gradient: &self.rows, curvature: self.curvature(), blocks: work.blocks() })
    }

    fn network_gradient(&mut self, theta: &[f64], control: MatRef<'_, f64>, out: &mut [f64]) {
        self.control.copy_from(control);
        self.network_gradient_of_control(theta, out);
    }
}

impl BatchProblem for NetworkProblem {
    fn take(&mut self, from: &Samples, indices: &[usize]) -> Result<(), ShapeError> {
        self.model.fits(from)?;
        if indices.len() == self.samples.len() {
            return from.gather(indices, &mut self.samples);
        }
        let mut samples = from.zeros_like(0);
        from.gather(indices, &mut samples)?;
        let weights = self.weights.again(samples.len());
        *self = Self { weights, ..Self::new(&self.model.clone(), samples, self.threads)? };
        Ok(())
    }

    fn network(&self) -> Option<&NetworkProblem> {
        Some(self)
    }
}
