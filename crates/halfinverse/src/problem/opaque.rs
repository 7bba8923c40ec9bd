//! A problem from functions: outcome, J v, Jᵀu, and nothing known of what is inside.
//!
//! | given | J v | Jᵀu |
//! |---|---|---|
//! | `jvp` and `vjp` | one call | one call |
//! | one of them | one call, or by J, stored | by J, stored, or one call |
//! | neither | by J, stored, from central differences | the same |
//!
//! J is stored where it has at most 2²⁴ entries (128 MiB), and refused where it has more: give the function that is
//! missing. From `jvp` it takes P calls, from `vjp` n, from differences 2P.

use std::error::Error;
use std::sync::Arc;

use faer::{Mat, MatMut, MatRef};

use super::weights::Weights;
use super::{At, BatchProblem, Problem, Samples, Source};
use crate::error::ShapeError;
use crate::fault::StepError;
use crate::linear::columns::{from_rows, to_rows};
use crate::linear::{DenseJacobian, Jacobian, ProductError};
use crate::objective::{Objective, Reduction};

/// What a function says where it fails.
pub type FunctionError = Box<dyn Error + Send + Sync>;

type Outcome = dyn Fn(&[f64], &Samples, MatMut<'_, f64>) -> Result<(), FunctionError> + Send + Sync;
type Tangent = dyn Fn(&[f64], &Samples, &[f64], MatMut<'_, f64>) -> Result<(), FunctionError> + Send + Sync;
type Cotangent =
    dyn Fn(&[f64], &Samples, MatRef<'_, f64>, &mut [f64]) -> Result<(), FunctionError> + Send + Sync;

/// Entries of the largest J that is stored: 128 MiB of them.
const MOST_STORED: usize = 1 << 24;

/// A source of problems that are given by functions.
///
/// # Example
/// Three parameters of b₁(1 − e^(−b₂x)) + b₃, fitted to all points at once; x is a sample's input. J is found by
/// differences.
/// ```
/// use halfinverse::Problem;
/// use halfinverse::faer::Mat;
/// use halfinverse::objective::SquaredError;
/// use halfinverse::optimizer::{LevenbergMarquardt, Optimizer};
/// use halfinverse::problem::{Opaque, OpaqueProblem, Samples};
/// let model = |b: &[f64], x: f64| b[0] * (1.0 - (-b[1] * x).exp()) + b[2];
/// let fit = Opaque::new(3, 1, SquaredError { factor: 1.0 }, move |b, samples, mut y| {
///     for s in 0..samples.len() {
///         y[(s, 0)] = model(b, samples.input[(s, 0)]);
///     }
///     Ok(())
/// });
/// let x = Mat::from_fn(20, 1, |s, _| s as f64 / 10.0);
/// let target = Mat::from_fn(20, 1, |s, _| model(&[2.0, 1.5, 0.3], s as f64 / 10.0));
/// let mut problem = OpaqueProblem::new(&fit, Samples::new(x, Mat::zeros(20, 0), target)?)?;
/// let mut lm = LevenbergMarquardt::new(Default::default())?;
/// let mut b = vec![1.0, 1.0, 0.0];
/// for _ in 0..30 {
///     lm.step(&mut problem, &mut b)?;
/// }
/// assert!((b[1] - 1.5).abs() < 1e-6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Opaque {
    parameters: usize,
    outcomes: usize,
    objective: Arc<dyn Objective>,
    reduction: Reduction,
    outcome: Arc<Outcome>,
    jvp: Option<Arc<Tangent>>,
    vjp: Option<Arc<Cotangent>>,
}

impl Opaque {
    /// With P parameters, m outcome components of each sample, and the function from θ and samples to y (b × m).
    pub fn new(
        parameters: usize,
        outcomes: usize,
        objective: impl Objective + 'static,
        outcome: impl Fn(&[f64], &Samples, MatMut<'_, f64>) -> Result<(), FunctionError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            parameters,
            outcomes,
            objective: Arc::new(objective),
            reduction: Reduction::Mean,
            outcome: Arc::new(outcome),
            jvp: None,
            vjp: None,
        }
    }

    /// And the function from θ, samples and v (P) to J v (b × m).
    #[must_use]
    pub fn with_jvp(
        self,
        jvp: impl Fn(&[f64], &Samples, &[f64], MatMut<'_, f64>) -> Result<(), FunctionError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self { jvp: Some(Arc::new(jvp)), ..self }
    }

    /// And the function from θ, samples and u (b × m) to Jᵀu (P).
    #[must_use]
    pub fn with_vjp(
        self,
        vjp: impl Fn(&[f64], &Samples, MatRef<'_, f64>, &mut [f64]) -> Result<(), FunctionError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self { vjp: Some(Arc::new(vjp)), ..self }
    }

    /// With another reduction of the samples' losses.
    #[must_use]
    pub fn reduced_by(self, reduction: Reduction) -> Self {
        Self { reduction, ..self }
    }
}

impl Source for Opaque {
    fn parameters(&self) -> usize {
        self.parameters
    }

    fn outcomes(&self) -> usize {
        self.outcomes
    }

    fn weight(&self, samples: usize) -> f64 {
        self.reduction.weight(samples)
    }

    fn part(&self, samples: Samples, _: usize) -> Result<Box<dyn BatchProblem>, ShapeError> {
        let mut problem = OpaqueProblem::new(self, samples)?;
        problem.weights = problem.weights.of_a_part();
        Ok(Box::new(problem))
    }

    fn problem(&self, samples: Samples, _: usize) -> Result<Box<dyn BatchProblem>, ShapeError> {
        Ok(Box::new(OpaqueProblem::new(self, samples)?))
    }
}

/// Functions on one mini-batch.
pub struct OpaqueProblem {
    source: Opaque,
    samples: Samples,
    outcome: Mat<f64>,
    gradient: Mat<f64>,
    weights: Weights,
    rows: Vec<f64>,
}

impl OpaqueProblem {
    /// These functions on these samples.
    ///
    /// # Errors
    /// When there is no sample, the targets are not as wide as the outcomes, or the objective cannot use them.
    pub fn new(source: &Opaque, samples: Samples) -> Result<Self, ShapeError> {
        source.objective.check(source.outcomes)?;
        samples.check(samples.input.ncols(), samples.initial.ncols(), source.outcomes)?;
        let (b, m) = (samples.len(), source.outcomes);
        Ok(Self {
            outcome: Mat::zeros(b, m),
            gradient: Mat::zeros(b, m),
            weights: Weights::new(b),
            rows: vec![0.0; b * m],
            source: source.clone(),
            samples,
        })
    }

    /// The outcomes y (b × m) of the last evaluation.
    #[must_use]
    pub fn outcome(&self) -> MatRef<'_, f64> {
        self.outcome.as_ref()
    }

    /// Makes of tangents of outcomes (b × m) what J's rows have, as of the last gradient or linearization.
    pub(crate) fn weigh(&self, outcomes: MatMut<'_, f64>) {
        self.weights.tangent(outcomes);
    }

    fn evaluate(&mut self, theta: &[f64]) -> Result<(), StepError> {
        ShapeError::check("θ", "parameters", self.source.parameters, theta.len())?;
        self.outcome.fill(f64::NAN);
        (self.source.outcome)(theta, &self.samples, self.outcome.as_mut())
            .map_err(|error| StepError::Function { reason: error.to_string() })
    }

    /// y, L and g.
    fn forward(&mut self, theta: &[f64]) -> Result<f64, StepError> {
        self.evaluate(theta)?;
        let factor = self.source.reduction.factor(self.samples.len());
        let (objective, outcome) = (&*self.source.objective, self.outcome.as_ref());
        let sum = self.weights.forward(objective, outcome, &self.samples, self.gradient.as_mut());
        self.gradient *= faer::Scale(factor);
        let loss = factor * sum;
        if loss.is_finite() { Ok(loss) } else { Err(StepError::LossNotFinite { loss, culprit: None }) }
    }

    /// J at θ, the weights left out.
    fn jacobian<'a>(&'a self, theta: &'a [f64]) -> Result<Products<'a>, StepError> {
        let both = self.source.jvp.is_some() && self.source.vjp.is_some();
        let stored = if both { None } else { Some(self.store(theta)?) };
        let (b, m) = self.outcome.shape();
        Ok(Products { problem: self, theta, stored, outcome: Mat::zeros(b, m) })
    }

    /// J, n × P.
    fn store(&self, theta: &[f64]) -> Result<DenseJacobian, StepError> {
        let ((b, m), p) = (self.outcome.shape(), theta.len());
        let n = b * m;
        if n.saturating_mul(p) > MOST_STORED {
            let missing = match (&self.source.jvp, &self.source.vjp) {
                (None, None) => "J v and Jᵀu",
                (None, _) => "J v",
                _ => "Jᵀu",
            };
            let reason = format!(
                "its {n} x {p} entries are more than the {MOST_STORED} that are stored; give the problem a function for {missing}"
            );
            return Err(ProductError { product: "J", reason }.into());
        }
        let mut matrix = Mat::zeros(n, p);
        let mut outcome = Mat::zeros(b, m);
        if let (Some(vjp), None) = (&self.source.vjp, &self.source.jvp) {
            let mut row = vec![0.0; p];
            for r in 0..n {
                outcome[(r / m, r % m)] = 1.0;
                vjp(theta, &self.samples, outcome.as_ref(), &mut row)
                    .map_err(|error| failed("J^T u", &error))?;
                outcome[(r / m, r % m)] = 0.0;
                row.iter().enumerate().for_each(|(j, &entry)| matrix[(r, j)] = entry);
            }
            return Ok(DenseJacobian::new(matrix));
        }
        let mut unit = vec![0.0; p];
        let mut trial = theta.to_vec();
        let mut back = Mat::zeros(b, m);
        for j in 0..p {
            if let Some(jvp) = &self.source.jvp {
                unit[j] = 1.0;
                jvp(theta, &self.samples, &unit, outcome.as_mut()).map_err(|error| failed("J v", &error))?;
                unit[j] = 0.0;
            } else {
                // The step that balances truncation, h², against round-off, ε/h.
                let h = f64::EPSILON.cbrt() * theta[j].abs().max(f64::EPSILON.cbrt());
                for (sign, y) in [(1.0, &mut outcome), (-1.0, &mut back)] {
                    trial[j] = theta[j] + sign * h;
                    (self.source.outcome)(&trial, &self.samples, y.as_mut())
                        .map_err(|error| failed("J", &error))?;
                }
                let width = (theta[j] + h) - (theta[j] - h);
                trial[j] = theta[j];
                outcome -= &back;
                outcome *= faer::Scale(1.0 / width);
            }
            to_rows(outcome.as_ref(), matrix.col_as_slice_mut(j));
        }
        Ok(DenseJacobian::new(matrix))
    }
}

fn failed(product: &'static str, error: &FunctionError) -> ProductError {
    ProductError { product, reason: error.to_string() }
}

impl Problem for OpaqueProblem {
    fn parameters(&self) -> usize {
        self.source.parameters
    }

    fn loss(&mut self, theta: &[f64]) -> Result<f64, StepError> {
        self.evaluate(theta)?;
        let factor = self.source.reduction.factor(self.samples.len());
        Ok(factor * self.weights.loss(&*self.source.objective, self.outcome.as_ref(), &self.samples))
    }

    fn gradient(&mut self, theta: &[f64], gradient: &mut [f64]) -> Result<f64, StepError> {
        ShapeError::check("the gradient", "entries", theta.len(), gradient.len())?;
        let loss = self.forward(theta)?;
        if let Some(vjp) = &self.source.vjp {
            vjp(theta, &self.samples, self.gradient.as_ref(), gradient)
                .map_err(|error| failed("J^T u", &error))?;
        } else {
            to_rows(self.gradient.as_ref(), &mut self.rows);
            self.store(theta)?.apply_transpose(&self.rows, gradient)?;
        }
        Ok(loss)
    }

    fn linearize<'a>(&'a mut self, theta: &'a [f64]) -> Result<At<'a>, StepError> {
        let loss = self.forward(theta)?;
        self.weights.divide(self.gradient.as_mut());
        to_rows(self.gradient.as_ref(), &mut self.rows);
        let curvature = self.source.reduction.factor(self.samples.len()) * self.weights.mean;
        let problem = &*self;
        let jacobian = Box::new(problem.jacobian(theta)?);
        Ok(At { loss, gradient: &problem.rows, curvature, jacobian })
    }

    fn weight(&self) -> f64 {
        self.source.reduction.weight(self.samples.len())
    }

    fn samples(&self) -> Option<&Samples> {
        Some(&self.samples)
    }
}

impl BatchProblem for OpaqueProblem {
    fn take(&mut self, from: &Samples, indices: &[usize]) -> Result<(), ShapeError> {
        ShapeError::check("the mini-batch", "sample or more", 1, indices.len().min(1))?;
        if indices.len() == self.samples.len() {
            return from.gather(indices, &mut self.samples);
        }
        let mut samples = from.zeros_like(0);
        from.gather(indices, &mut samples)?;
        let weights = self.weights.again(samples.len());
        *self = Self { weights, ..Self::new(&self.source.clone(), samples)? };
        Ok(())
    }
}

/// J of an opaque problem at one θ, rows times the weights.
struct Products<'a> {
    problem: &'a OpaqueProblem,
    theta: &'a [f64],
    stored: Option<DenseJacobian>,
    outcome: Mat<f64>,
}

impl Jacobian for Products<'_> {
    fn shape(&self) -> (usize, usize) {
        (self.outcome.nrows() * self.outcome.ncols(), self.theta.len())
    }

    fn apply(&mut self, v: &[f64], out: &mut [f64]) -> Result<(), ProductError> {
        match (&mut self.stored, &self.problem.source.jvp) {
            (None, Some(jvp)) => {
                jvp(self.theta, &self.problem.samples, v, self.outcome.as_mut())
                    .map_err(|error| failed("J v", &error))?;
                to_rows(self.outcome.as_ref(), out);
            }
            (stored, _) => stored.as_mut().expect("stored where a function is missing").apply(v, out)?,
        }
        self.problem.weights.tangent_rows(out);
        Ok(())
    }

    fn apply_transpose(&mut self, u: &[f64], out: &mut [f64]) -> Result<(), ProductError> {
        let mut weighted = u.to_vec();
        self.problem.weights.cotangent_rows(&mut weighted);
        match (&mut self.stored, &self.problem.source.vjp) {
            (None, Some(vjp)) => {
                from_rows(&weighted, self.outcome.as_mut());
                vjp(self.theta, &self.problem.samples, self.outcome.as_ref(), out)
                    .map_err(|error| failed("J^T u", &error))
            }
            (stored, _) => {
                stored.as_mut().expect("stored where a function is missing").apply_transpose(&weighted, out)
            }
        }
    }
}
