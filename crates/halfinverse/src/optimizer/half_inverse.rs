//! Half-inverse gradients, and their relatives with another filter: θ ← θ − η·V φ(Σ) Uᵀ g for J = U Σ Vᵀ.
//!
//! φ(σ) = σ^−½ is the half-inverse, φ(σ) = σ^−1 Gauss–Newton. The mean over the mini-batch enters g before the
//! inversion and J is not scaled, so the filter decides how the batch size acts on the step.
//!
//! `rate = "fixed"` takes η as it is, the paper's way; what it means then changes with the units of the loss, with the
//! mini-batch and from problem to problem. `rate = "model"` takes η in units of the step that the mini-batch's
//! quadratic model likes best, gᵀJΔ/(h|JΔ|²)·Δ with h the [curvature](crate::objective::Curvature): η = 1 is then the
//! longest step that is reasonable, on every problem.
//!
//! Costs one simulation with its blocks ∂y/∂z, one spectral update and a product with J, or two. The defaults are the
//! paper's for the oscillators.
//!
//! Source: Schnell, Holl, Thuerey, *Half-Inverse Gradients for Physical Deep Learning*, ICLR 2022.

use std::io::Write;

use serde::{Deserialize, Serialize};

use super::retreat::{Attempt, Retreat};
use super::{
    Context, Notice, Numbers, Optimizer, Setup, Sizes, State, StateError, StepReport, Stores, descend,
};
use crate::error::SettingError;
use crate::fault::StepError;
use crate::linear::Jacobian;
use crate::linear::threads::par;
use crate::linear::vectors::{dot_over, norm, norm_over};
use crate::problem::{At, Problem};
use crate::spectral::{Filter, Options, Report, Shape, Solver, Spectral};

/// Settings of [`HalfInverse`] with the filter σ^−κ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HalfInverseSettings {
    /// Learning rate η.
    pub learning_rate: f64,
    /// What η is a multiple of.
    pub rate: Rate,
    /// Exponent κ of the inverted singular values, from −1 (gradient descent) to 1 (Gauss–Newton).
    pub kappa: f64,
    /// Truncation τ: singular values at or below τ·σ_max are dropped.
    pub truncation: f64,
    /// How the update is evaluated.
    pub solver: Solver,
    /// Relative error bound of the update above which `gram` gives way to `svd`.
    pub gram_tolerance: f64,
}

impl Default for HalfInverseSettings {
    fn default() -> Self {
        let gram_tolerance = Options::default().gram_tolerance;
        Self {
            learning_rate: 1.0,
            rate: Rate::Fixed,
            kappa: 0.5,
            truncation: 1e-6,
            solver: Solver::Auto,
            gram_tolerance,
        }
    }
}

/// What a learning rate is a multiple of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Rate {
    /// Δ itself.
    #[default]
    Fixed,
    /// The multiple of Δ that minimizes the mini-batch's quadratic model.
    Model,
}

/// Settings of Gauss–Newton: [`HalfInverse`] with κ = 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GaussNewtonSettings {
    /// Learning rate η.
    pub learning_rate: f64,
    /// What η is a multiple of.
    pub rate: Rate,
    /// Truncation τ: singular values at or below τ·σ_max are dropped.
    pub truncation: f64,
    /// How the update is evaluated.
    pub solver: Solver,
    /// Relative error bound of the update above which `gram` gives way to `svd`.
    pub gram_tolerance: f64,
}

impl Default for GaussNewtonSettings {
    fn default() -> Self {
        let HalfInverseSettings { learning_rate, rate, truncation, solver, gram_tolerance, .. } =
            HalfInverseSettings::default();
        Self { learning_rate, rate, truncation, solver, gram_tolerance }
    }
}

impl From<GaussNewtonSettings> for HalfInverseSettings {
    fn from(settings: GaussNewtonSettings) -> Self {
        let GaussNewtonSettings { learning_rate, rate, truncation, solver, gram_tolerance } = settings;
        Self { learning_rate, rate, kappa: 1.0, truncation, solver, gram_tolerance }
    }
}

impl Setup for HalfInverseSettings {
    const NAME: &'static str = "hig";
    const ABOUT: &'static str = "half-inverse gradients";
    const STREAMS: bool = true;

    fn build(self, context: &Context) -> Result<Box<dyn Optimizer>, SettingError> {
        Ok(Box::new(HalfInverse::new(self)?.on_threads(context.threads)))
    }

    fn passes(&self, sizes: &Sizes) -> f64 {
        spectral_passes(self.solver, sizes)
    }

    fn numbers(&self, sizes: &Sizes) -> Numbers {
        spectral_numbers(self.solver, self.truncation, sizes)
    }
}

impl Setup for GaussNewtonSettings {
    const NAME: &'static str = "gn";
    const ABOUT: &'static str = "Gauss–Newton: the same with all singular values inverted";
    const STREAMS: bool = true;

    fn build(self, context: &Context) -> Result<Box<dyn Optimizer>, SettingError> {
        HalfInverseSettings::from(self).build(context)
    }

    fn passes(&self, sizes: &Sizes) -> f64 {
        spectral_passes(self.solver, sizes)
    }

    fn numbers(&self, sizes: &Sizes) -> Numbers {
        spectral_numbers(self.solver, self.truncation, sizes)
    }
}

/// Forward passes that a spectral step is worth; the factors were measured on the oscillators.
pub(super) fn spectral_passes(solver: Solver, sizes: &Sizes) -> f64 {
    let Sizes { batch, outcomes, parameters, work, .. } = *sizes;
    if let Solver::Krylov { vectors } = solver {
        return 10.0 + vectors as f64;
    }
    let size = (batch * outcomes).min(parameters) as f64;
    10.0 + size.powi(3) / (batch as f64 * work as f64)
}

/// Memory of a spectral step.
pub(super) fn spectral_numbers(solver: Solver, truncation: f64, sizes: &Sizes) -> Numbers {
    let rows = sizes.batch.saturating_mul(sizes.outcomes);
    let filter = Filter::power(1.0, truncation);
    let solver = filter.map_or(solver, |filter| solver.resolve(rows, sizes.parameters, &filter));
    let (n, p) = (rows as f64, sizes.parameters as f64);
    let small = n.min(p);
    let spectral = match solver {
        // J, its copies that are taken apart, U and V.
        Solver::Svd => 4.0 * n * p + small * (n + p) + 2.0 * small * small,
        // K, its tridiagonal form and eigenvectors; JᵀJ is made of J's rows.
        Solver::Gram | Solver::Auto => 4.0 * small * small + if p < n { n * p } else { 0.0 },
        Solver::Krylov { vectors } => (vectors as f64).min(small) * small + 2.0 * n.max(p) + 2.0 * n,
    };
    let stores = if matches!(solver, Solver::Krylov { .. }) { Stores::Products } else { Stores::Rows };
    let (working, saved) = (spectral + 4.0 * p, 2.0 * p);
    Numbers { working, saved, stores, solver: Some(solver), ..Numbers::default() }
}

/// Evaluation of a spectral optimizer, checked.
pub(super) fn options(solver: Solver, gram_tolerance: f64) -> Result<Options, SettingError> {
    if gram_tolerance.is_nan() || gram_tolerance <= 0.0 {
        return Err(SettingError::new("gram_tolerance", gram_tolerance, "positive"));
    }
    Ok(Options { solver, gram_tolerance, ..Options::default() })
}

/// The spectral step with a fixed filter.
#[derive(Debug, Clone)]
pub struct HalfInverse {
    learning_rate: f64,
    rate: Rate,
    filter: Filter,
    spectral: Spectral,
    retreat: Retreat,
    /// Vectors that a step works in: Δ, Jᵀg, J Δ.
    delta: Vec<f64>,
    gradient: Vec<f64>,
    product: Vec<f64>,
}

/// Columns of J whose lengths differ by more than this are worth a word where a fit has more rows than parameters: with
/// the default truncation of 1e-6 the shortest ones hardly move.
const COLUMNS_DIFFER: f64 = 1e5;

impl HalfInverse {
    /// With these settings, on one thread.
    ///
    /// # Errors
    /// When η or the tolerance is not positive, κ is not from −1 to 1, or τ not from 0 to below 1.
    ///
    /// # Example
    /// ```
    /// use halfinverse::optimizer::{HalfInverse, HalfInverseSettings};
    /// use halfinverse::spectral::Solver;
    /// let solver = Solver::Krylov { vectors: 16 };
    /// let optimizer = HalfInverse::new(HalfInverseSettings { solver, ..HalfInverseSettings::default() })?;
    /// # Ok::<(), halfinverse::SettingError>(())
    /// ```
    pub fn new(settings: impl Into<HalfInverseSettings>) -> Result<Self, SettingError> {
        let settings = settings.into();
        let filter = Filter::power(settings.kappa, settings.truncation)?;
        let options = options(settings.solver, settings.gram_tolerance)?;
        Ok(Self { rate: settings.rate, ..Self::with_filter(settings.learning_rate, filter, options)? })
    }

    /// With any filter φ.
    ///
    /// # Errors
    /// When η is not positive and finite.
    pub fn with_filter(learning_rate: f64, filter: Filter, options: Options) -> Result<Self, SettingError> {
        SettingError::check_positive("learning_rate", learning_rate)?;
        Ok(Self {
            learning_rate,
            rate: Rate::Fixed,
            filter,
            spectral: Spectral::new(options),
            retreat: Retreat::default(),
            delta: Vec::new(),
            gradient: Vec::new(),
            product: Vec::new(),
        })
    }

    /// The same, its linear algebra on so many threads of the current rayon pool.
    #[must_use]
    pub fn on_threads(self, threads: usize) -> Self {
        let options = Options { par: par(threads), ..self.spectral.options() };
        Self { spectral: Spectral::new(options), ..self }
    }

    /// Δ and what is reported of it, the step itself left out.
    fn propose(&mut self, at: &mut At<'_>, weight: f64) -> Result<StepReport, StepError> {
        let jacobian = &mut *at.jacobian;
        let report = self.spectral.update(jacobian, at.gradient, &self.filter, &mut self.delta)?;
        let gradient = if let Some(length) = self.spectral.gradient_norm() {
            length
        } else {
            jacobian.apply_transpose(at.gradient, &mut self.gradient)?;
            jacobian.sum(&mut self.gradient);
            norm(&self.gradient)
        };
        let sum = |partial: &mut [f64]| jacobian.sum(partial);
        let lengths = (gradient, norm_over(at.gradient, &sum));
        let vanishes = vanishes(&report, whole_shape(jacobian), lengths, 2.0 * at.curvature * at.loss);
        let mut notice = if vanishes { Notice::stationary(at.loss / weight) } else { None };
        // A Krylov space forms no row of J, and a word is not worth all of them.
        let formed = !matches!(report.solver, Solver::Krylov { .. });
        if formed && self.retreat.is_empty() && notice.is_none() {
            notice = columns_differ(jacobian, &mut self.gradient)?;
        }
        let (mut learning_rate, mut step_length) = (self.learning_rate, None);
        if self.rate == Rate::Model {
            jacobian.apply(&self.delta, &mut self.product)?;
            let sum = |partial: &mut [f64]| jacobian.sum(partial);
            let slope = dot_over(at.gradient, &self.product, &sum);
            let curvature = at.curvature * norm_over(&self.product, &sum).powi(2);
            step_length = Some(self.learning_rate);
            learning_rate *= if curvature > 0.0 { slope / curvature } else { 0.0 };
        }
        Ok(StepReport {
            loss: at.loss / weight,
            learning_rate: Some(learning_rate),
            step_length,
            kappa: match self.filter.shape() {
                Shape::Power { kappa } => Some(kappa),
                Shape::Damped { .. } => None,
            },
            gradient_norm: Some(gradient / weight),
            notice,
            spectral: Some(report),
            ..StepReport::default()
        })
    }
}

impl Attempt for HalfInverse {
    fn retreat(&mut self) -> &mut Retreat {
        &mut self.retreat
    }

    fn attempt(&mut self, problem: &mut dyn Problem, theta: &mut [f64]) -> Result<StepReport, StepError> {
        let weight = problem.weight();
        for vector in [&mut self.delta, &mut self.gradient] {
            vector.resize(theta.len(), 0.0);
        }
        let mut at = problem.linearize(theta)?;
        self.product.resize(at.gradient.len(), 0.0);
        let report = self.propose(&mut at, weight)?;
        drop(at);
        let rate = report.learning_rate.unwrap_or(self.learning_rate);
        let update_norm = descend(theta, &self.delta, rate, &mut self.retreat)?;
        Ok(StepReport { update_norm, ..report })
    }
}

/// Whether nothing is left to gain: Jᵀg is round-off of the products with J, or g is so short that the most any step
/// could gain by the model, |g|²/2h, is round-off of L. `lengths` are |Jᵀg| and |g|, `square` is 2hL.
pub(super) fn vanishes(report: &Report, shape: (usize, usize), lengths: (f64, f64), square: f64) -> bool {
    let (gradient, g) = lengths;
    gradient <= report.noise(shape) * g || g * g <= 4.0 * f64::EPSILON * square
}

/// n, over all ranks, and P.
pub(super) fn whole_shape(jacobian: &dyn Jacobian) -> (usize, usize) {
    (jacobian.place().1, jacobian.shape().1)
}

/// Says so where columns of J (n ≥ P) differ much in length. `squares` (P) is overwritten.
fn columns_differ(jacobian: &mut dyn Jacobian, squares: &mut [f64]) -> Result<Option<Notice>, StepError> {
    let (rows, columns) = whole_shape(jacobian);
    if rows < columns {
        return Ok(None);
    }
    jacobian.column_squares(squares)?;
    // A column of 0 moves nothing, whatever its unit.
    let lengths = squares.iter().filter(|&&square| square > 0.0).map(|square| square.sqrt());
    let (least, most) = lengths.fold((f64::INFINITY, 0.0), |(least, most): (f64, f64), length| {
        (least.min(length), most.max(length))
    });
    let ratio = most / least;
    Ok((ratio > COLUMNS_DIFFER).then_some(Notice::ColumnScales { ratio }))
}

impl Optimizer for HalfInverse {
    fn step(&mut self, problem: &mut dyn Problem, theta: &mut [f64]) -> Result<StepReport, StepError> {
        self.step_or_take_back(problem, theta)
    }

    fn save(&self) -> State {
        self.retreat.save()
    }

    fn save_to(&self, out: &mut dyn Write) -> std::io::Result<()> {
        State::write(&self.retreat, out)
    }

    fn restore(&mut self, state: &State, parameters: usize) -> Result<(), StateError> {
        self.retreat.restore(state, parameters)
    }
}
