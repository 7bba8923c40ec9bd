//! Problems: what an optimizer sees of network, simulator, objective and mini-batch.
//!
//! | | |
//! |---|---|
//! | [`Problem`] | loss, gradient, linearization at any θ: all that most optimizers need |
//! | [`Layered`] | what Kronecker factors need besides |
//! | [`Controlled`] | what steps in control space need besides |
//! | [`Source`] | makes problems of one kind on any samples: what a training run needs |
//! | [`NetworkProblem`], [`Model`] | network ∘ simulator under an objective |
//! | [`Predictor`] | trained weights on new inputs |
//! | [`OpaqueProblem`], [`Opaque`] | the same from functions: outcome, J v, Jᵀu |

mod evaluator;
mod model;
mod network;
mod opaque;
mod predictor;
mod samples;
mod weights;

use std::ops::Range;

use faer::{MatMut, MatRef};

pub(crate) use evaluator::AT_A_TIME;
pub use evaluator::Evaluator;
pub use model::Model;
pub use network::{Linearization, NetworkProblem};
pub use opaque::{FunctionError, Opaque, OpaqueProblem};
pub use predictor::Predictor;
pub use samples::{Samples, WeightError};

use crate::anatomy::{LayerUnits, hidden_units};
use crate::error::ShapeError;
use crate::fault::StepError;
use crate::linear::Jacobian;
use crate::network::Tensor;
pub use crate::network::{FactorRows, FactorShape, FactorVisit};
use crate::ranks::Team;

/// A loss L(θ) that is a function of outcomes y(θ): all that an optimizer sees.
///
/// Everything belongs together: [`gradient`](Self::gradient) is that of [`loss`](Self::loss), and
/// [`At::gradient`] is ∂L/∂y for the same L. Where L is a sum over samples [`weight`](Self::weight) is their number, so
/// that L/weight is always the mean loss per sample.
///
/// Methods take `&mut self` because implementors own the scratch space that they need.
///
/// # Example
/// Rosenbrock's valley, L = ½|y|² of y = (10 (θ₂ − θ₁²), 1 − θ₁):
/// ```
/// use faer::mat;
/// use halfinverse::linear::{DenseJacobian, Jacobian};
/// use halfinverse::optimizer::{LevenbergMarquardt, LevenbergMarquardtSettings, Optimizer};
/// use halfinverse::problem::{At, Problem};
/// use halfinverse::StepError;
///
/// #[derive(Default)]
/// struct Valley {
///     y: [f64; 2],
/// }
///
/// impl Problem for Valley {
///     fn parameters(&self) -> usize {
///         2
///     }
///     fn loss(&mut self, theta: &[f64]) -> Result<f64, StepError> {
///         self.y = [10.0 * (theta[1] - theta[0].powi(2)), 1.0 - theta[0]];
///         Ok(0.5 * (self.y[0].powi(2) + self.y[1].powi(2)))
///     }
///     fn gradient(&mut self, theta: &[f64], gradient: &mut [f64]) -> Result<f64, StepError> {
///         let mut at = self.linearize(theta)?;
///         let g = at.gradient.to_vec();
///         at.jacobian.apply_transpose(&g, gradient)?;
///         Ok(at.loss)
///     }
///     fn linearize<'a>(&'a mut self, theta: &'a [f64]) -> Result<At<'a>, StepError> {
///         let loss = self.loss(theta)?;
///         let jacobian = Box::new(DenseJacobian::new(mat![[-20.0 * theta[0], 10.0], [-1.0, 0.0]]));
///         Ok(At { loss, gradient: &self.y, curvature: 1.0, jacobian })
///     }
/// }
///
/// let (mut valley, mut theta) = (Valley::default(), [-1.2, 1.0]);
/// let checks = halfinverse::check::problem(&mut valley, &theta, 1)?;
/// assert!(checks.iter().all(halfinverse::check::Comparison::right));
/// let mut lm = LevenbergMarquardt::new(LevenbergMarquardtSettings::default())?;
/// for _ in 0..50 {
///     lm.step(&mut valley, &mut theta)?;
/// }
/// assert!(theta.iter().all(|theta| (theta - 1.0).abs() < 1e-6));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Problem {
    /// P, the length of θ.
    fn parameters(&self) -> usize;

    /// L(θ). Costs one simulation. May be NaN or infinite.
    ///
    /// # Errors
    /// When the outcomes cannot be computed, or θ does not fit.
    fn loss(&mut self, theta: &[f64]) -> Result<f64, StepError>;

    /// L(θ), and its gradient Jᵀg into `gradient` (P), whatever that held before. No Jacobian is formed.
    ///
    /// # Errors
    /// When the loss is not finite, the outcomes cannot be computed, or a vector does not fit.
    fn gradient(&mut self, theta: &[f64], gradient: &mut [f64]) -> Result<f64, StepError>;

    /// L(θ), g and J.
    ///
    /// # Errors
    /// When the loss is not finite, the outcomes cannot be computed, or θ does not fit.
    fn linearize<'a>(&'a mut self, theta: &'a [f64]) -> Result<At<'a>, StepError>;

    /// L at each column of `thetas` (P × count) into `losses`; a loss that is not finite is written as it is. By
    /// default one after the other.
    ///
    /// # Errors
    /// When the outcomes cannot be computed at one of them, or there are more or fewer losses than columns.
    fn losses(&mut self, thetas: MatRef<'_, f64>, losses: &mut [f64]) -> Result<(), StepError> {
        ShapeError::check("the losses", "places", thetas.ncols(), losses.len())?;
        let mut theta = vec![0.0; thetas.nrows()];
        for (j, loss) in losses.iter_mut().enumerate() {
            theta.iter_mut().enumerate().for_each(|(i, theta)| *theta = thetas[(i, j)]);
            *loss = self.loss(&theta)?;
        }
        Ok(())
    }

    /// L over the mean loss per sample: 1, or the number of samples where L is their sum.
    fn weight(&self) -> f64 {
        1.0
    }

    /// The mini-batch, where there is one.
    fn samples(&self) -> Option<&Samples> {
        None
    }

    /// The problem layer by layer, where it is made of layers that have Kronecker factors.
    fn layered(&mut self) -> Option<&mut dyn Layered> {
        None
    }

    /// The problem as a network and a simulator behind it, where it is made of these.
    fn controlled(&mut self) -> Option<&mut dyn Controlled> {
        None
    }
}

/// A problem at one θ: L(θ − Δ) ≈ L − gᵀJΔ + ½h|JΔ|².
///
/// Where the curvature differs between outcomes, or samples have weights, hᵢ = wᵢ²h with h their mean, J and g are
/// those of the outcomes times wᵢ: rows of J times wᵢ, g over wᵢ. So the model is the same, and so is every update that
/// depends on Jᵀg. Where a shift of all outcomes alike has no curvature, each sample's weighted mean is taken from its
/// rows first.
pub struct At<'a> {
    /// L(θ).
    pub loss: f64,
    /// g = ∂L/∂y, n entries, sample-major.
    pub gradient: &'a [f64],
    /// h.
    pub curvature: f64,
    /// J, n × P.
    pub jacobian: Box<dyn Jacobian + 'a>,
}

/// A problem whose parameters are matrices of layers that have Kronecker factors.
pub trait Layered {
    /// b, and m. Where samples are spread over ranks, b counts those that are here, and matrices of b rows have as many.
    fn shape(&self) -> (usize, usize);

    /// Which samples of the mini-batch are here, and how many it has. One process has them all.
    fn place(&self) -> (Range<usize>, usize) {
        let (b, _) = self.shape();
        (0..b, b)
    }

    /// Whether samples are spread over ranks, even where one of them has all.
    fn spread(&self) -> bool {
        false
    }

    /// Adds up what each rank has of a sum over samples. One process has them all.
    fn sum(&self, partial: &mut [f64]) {
        let _ = partial;
    }

    /// What went wrong on one rank is an error on all.
    ///
    /// # Errors
    /// When something went wrong here, or elsewhere.
    fn agree(&self, own: Result<(), StepError>) -> Result<(), StepError> {
        own
    }

    /// h.
    fn curvature(&self) -> f64;

    /// Sizes of the layers' parameters as matrices, and where they start in θ; first to last.
    fn factors(&self) -> Vec<FactorShape>;

    /// Shows `visit` what a random combination of each sample's outcomes makes of the layers: for ȳ (b × m), layer by
    /// layer, last to first, the rows δ and a of [its factors](crate::network::Layer::unroll): of a dense layer the
    /// cotangent of its output and its input. At the θ of the last [`Problem::gradient`].
    ///
    /// # Errors
    /// When the simulator fails.
    fn cotangents(
        &mut self,
        theta: &[f64],
        outcome: MatRef<'_, f64>,
        visit: &mut FactorVisit<'_>,
    ) -> Result<(), StepError>;

    /// `out` (b × m) = J v by a difference quotient of the outcomes: one simulation, exact to about 1e-6. At the θ of
    /// the last [`Problem::gradient`], before anything else is simulated.
    ///
    /// # Errors
    /// When the simulator fails.
    fn difference(&mut self, theta: &[f64], v: &[f64], out: MatMut<'_, f64>) -> Result<(), StepError>;
}

/// A problem whose outcomes are those of a simulator behind a network.
pub trait Controlled: Layered {
    /// L(θ), g and the simulator's blocks.
    ///
    /// # Errors
    /// As [`Problem::linearize`].
    fn blocks(&mut self, theta: &[f64]) -> Result<Blocks<'_>, StepError>;

    /// `out` (P) = J_networkᵀ z̄ for z̄ (b × q): the gradient that a cotangent of the controls makes, the simulator
    /// left out. At the θ of the last evaluation.
    fn network_gradient(&mut self, theta: &[f64], control: MatRef<'_, f64>, out: &mut [f64]);
}

/// The simulator's part of a linearization.
pub struct Blocks<'a> {
    /// L(θ).
    pub loss: f64,
    /// g, n entries, sample-major; as in [`At`].
    pub gradient: &'a [f64],
    /// h.
    pub curvature: f64,
    /// ∂y/∂z, b × q·m: column j·m + c holds ∂y_c/∂z_j of every sample.
    pub blocks: MatRef<'a, f64>,
}

/// A problem whose mini-batch can be exchanged.
pub trait BatchProblem: Problem + Send {
    /// Makes the samples of `from` at `indices` the mini-batch, of whatever size.
    ///
    /// # Errors
    /// When an index is out of range, there is none, or the samples are of another kind.
    fn take(&mut self, from: &Samples, indices: &[usize]) -> Result<(), ShapeError>;

    /// As a problem made of network, simulator and objective, for what only that can tell.
    fn network(&self) -> Option<&NetworkProblem> {
        None
    }

    /// The hidden layers over the mini-batch, where there are some. Costs a simulation. Where the simulator fails the
    /// network's activations stand all the same.
    fn units(&mut self, theta: &[f64]) -> Option<Vec<LayerUnits>> {
        self.network()?;
        let _ = self.loss(theta);
        self.network().map(hidden_units)
    }
}

/// Makes problems of one kind on any samples.
pub trait Source: Send + Sync {
    /// P.
    fn parameters(&self) -> usize;

    /// m, outcome components of a sample.
    fn outcomes(&self) -> usize;

    /// Simulations that a linearization costs besides the one forward.
    fn sweeps(&self) -> usize {
        1
    }

    /// Whether an evaluation takes far longer than the network's arithmetic, so that steps are few whatever their kind:
    /// a slow simulator, or functions of another language.
    fn dear(&self) -> bool {
        false
    }

    /// The parts of θ by name, in files.
    fn tensors(&self) -> Vec<Tensor> {
        vec![Tensor { name: "parameters".to_owned(), shape: vec![self.parameters()], offset: 0 }]
    }

    /// Sizes of the layers' parameters as matrices, first to last, where its problems are [`Layered`]; else none.
    fn factors(&self) -> Vec<FactorShape> {
        Vec::new()
    }

    /// Whether its problems are [`Controlled`].
    fn controlled(&self) -> bool {
        false
    }

    /// Multiplications that the network takes for a sample: by default one for each parameter.
    fn work(&self) -> usize {
        self.parameters()
    }

    /// L over the mean loss per sample for a mini-batch of so many samples: [`Problem::weight`] of its problem. A run over
    /// ranks needs it, and refuses a source whose problems say otherwise.
    fn weight(&self, samples: usize) -> f64 {
        let _ = samples;
        1.0
    }

    /// The ranks that its problems are spread over, where they are.
    fn team(&self) -> Option<&Team> {
        None
    }

    /// The problem on one rank's part of a mini-batch. By default like any other; where the curvature differs between
    /// outcomes, that of a part without any has to be 0, not a number that stands for it.
    ///
    /// # Errors
    /// As [`Self::problem`].
    fn part(&self, samples: Samples, threads: usize) -> Result<Box<dyn BatchProblem>, ShapeError> {
        self.problem(samples, threads)
    }

    /// The problem on these samples, evaluated on `threads` threads of the current rayon pool.
    ///
    /// # Errors
    /// When the samples do not fit, or there is none.
    fn problem(&self, samples: Samples, threads: usize) -> Result<Box<dyn BatchProblem>, ShapeError>;
}
