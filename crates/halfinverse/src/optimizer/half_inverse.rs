//! Half-inverse gradients, and their relatives with another filter: θ ← θ − η·V φ(Σ) Uᵀ g for J = U Σ Vᵀ.
//!
//! φ(σ) = σ^−½ is the half-inverse, φ(σ) = σ^−1 Gauss–Newton. The mean over the mini-batch enters g before the
//! inversion and J is not scaled, so the filter decides how the batch size acts on the step.
//!
//! Costs one simulation with its blocks ∂y/∂z, and one spectral update. The defaults are the paper's for the
//! oscillators.
//!
//! Source: Schnell, Holl, Thuerey, *Half-Inverse Gradients for Physical Deep Learning*, ICLR 2022.

use serde::{Deserialize, Serialize};

use super::{Context, Numbers, Optimizer, Setup, Sizes, StepReport, Stores, descend};
use crate::error::SettingError;
use crate::fault::StepError;
use crate::linear::threads::par;
use crate::problem::Problem;
use crate::spectral::{Filter, Options, Shape, Solver, Spectral};

/// Settings of [`HalfInverse`] with the filter σ^−κ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HalfInverseSettings {
    /// Learning rate η.
    pub learning_rate: f64,
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
        Self { learning_rate: 1.0, kappa: 0.5, truncation: 1e-6, solver: Solver::Auto, gram_tolerance }
    }
}

/// Settings of Gauss–Newton: [`HalfInverse`] with κ = 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GaussNewtonSettings {
    /// Learning rate η.
    pub learning_rate: f64,
    /// Truncation τ: singular values at or below τ·σ_max are dropped.
    pub truncation: f64,
    /// How the update is evaluated.
    pub solver: Solver,
    /// Relative error bound of the update above which `gram` gives way to `svd`.
    pub gram_tolerance: f64,
}

impl Default for GaussNewtonSettings {
    fn default() -> Self {
        let HalfInverseSettings { learning_rate, truncation, solver, gram_tolerance, .. } =
            HalfInverseSettings::default();
        Self { learning_rate, truncation, solver, gram_tolerance }
    }
}

impl From<GaussNewtonSettings> for HalfInverseSettings {
    fn from(settings: GaussNewtonSettings) -> Self {
        let GaussNewtonSettings { learning_rate, truncation, solver, gram_tolerance } = settings;
        Self { learning_rate, kappa: 1.0, truncation, solver, gram_tolerance }
    }
}

impl Setup for HalfInverseSettings {
    const NAME: &'static str = "hig";
    const ABOUT: &'static str = "half-inverse gradients";

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
    let Sizes { batch, outcomes, parameters, .. } = *sizes;
    if let Solver::Krylov { vectors } = solver {
        return 10.0 + vectors as f64;
    }
    let size = (batch * outcomes).min(parameters) as f64;
    10.0 + size.powi(3) / (batch as f64 * parameters as f64)
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
        Solver::Svd => 3.0 * n * p + small * (n + p),
        // K, its tridiagonal form and eigenvectors; JᵀJ is made of J's rows.
        Solver::Gram | Solver::Auto => 4.0 * small * small + if p < n { n * p } else { 0.0 },
        Solver::Krylov { vectors } => (vectors as f64).min(small) * (n + p),
    };
    Numbers { working: spectral + 3.0 * p, saved: 2.0 * p, stores: Stores::Rows, solver: Some(solver) }
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
    filter: Filter,
    spectral: Spectral,
    delta: Vec<f64>,
}

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
        Self::with_filter(settings.learning_rate, filter, options(settings.solver, settings.gram_tolerance)?)
    }

    /// With any filter φ.
    ///
    /// # Errors
    /// When η is not positive and finite.
    pub fn with_filter(learning_rate: f64, filter: Filter, options: Options) -> Result<Self, SettingError> {
        SettingError::check_positive("learning_rate", learning_rate)?;
        Ok(Self { learning_rate, filter, spectral: Spectral::new(options), delta: Vec::new() })
    }

    /// The same, its linear algebra on so many threads of the current rayon pool.
    #[must_use]
    pub fn on_threads(self, threads: usize) -> Self {
        let options = Options { par: par(threads), ..self.spectral.options() };
        Self { spectral: Spectral::new(options), ..self }
    }
}

impl Optimizer for HalfInverse {
    fn step(&mut self, problem: &mut dyn Problem, theta: &mut [f64]) -> Result<StepReport, StepError> {
        self.delta.resize(theta.len(), 0.0);
        let weight = problem.weight();
        let mut at = problem.linearize(theta)?;
        let report = self.spectral.update(&mut *at.jacobian, at.gradient, &self.filter, &mut self.delta)?;
        let loss = at.loss / weight;
        drop(at);
        let update_norm = descend(theta, &self.delta, self.learning_rate)?;
        let kappa = match self.filter.shape() {
            Shape::Power { kappa } => Some(kappa),
            Shape::Damped { .. } => None,
        };
        Ok(StepReport {
            loss,
            update_norm,
            learning_rate: Some(self.learning_rate),
            kappa,
            spectral: Some(report),
            ..StepReport::default()
        })
    }
}
