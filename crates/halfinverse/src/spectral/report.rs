//! What a spectral step says of itself.

use serde::{Deserialize, Serialize};

use super::{Filter, Solver};

/// How an update was computed, and how far it can be trusted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The evaluation that produced the update; never [`Solver::Auto`].
    pub solver: Solver,
    /// Singular values above the cut. For Krylov: Ritz values.
    pub rank: usize,
    /// Largest singular value, 0 if J = 0 or g = 0 left none to look at.
    pub sigma_max: f64,
    /// Smallest singular value above the cut, 0 if there is none.
    pub sigma_min: f64,
    /// Dimension of the Krylov space, if that is what was used.
    pub krylov_steps: Option<usize>,
    /// Error of the update relative to its length. Gram: a bound. Krylov: an estimate. SVD: round-off.
    pub error_estimate: f64,
    /// What was tried before and why it was left, in order.
    pub fallbacks: Vec<Fallback>,
}

impl Report {
    /// Relative error that [round-off](Self::noise) in J (n × P) can make in an update of length `length`: the
    /// component of g outside the kept singular vectors leaks in with φ(σ)/σ, which is largest at σ_min.
    pub(super) fn round_off(&self, shape: (usize, usize), filter: &Filter, g: f64, length: f64) -> f64 {
        if self.rank == 0 || length == 0.0 {
            return 0.0;
        }
        let phi = filter.evaluate(self.sigma_min, self.sigma_max);
        self.noise(shape) / self.sigma_min * (phi * g / length)
    }

    /// Round-off in products with J (n × P), for vectors of length 1.
    pub(crate) fn noise(&self, shape: (usize, usize)) -> f64 {
        8.0 * f64::EPSILON * ((shape.0 + shape.1) as f64).sqrt() * self.sigma_max
    }

    /// σ_max/σ_min of what was kept; 1 if nothing was.
    #[must_use]
    pub fn condition(&self) -> f64 {
        if self.rank == 0 { 1.0 } else { self.sigma_max / self.sigma_min }
    }
}

/// Why an evaluation gave way to the next one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fallback {
    /// The Gram matrix squares the condition number, and its error bound passed the tolerance.
    GramInexact {
        /// Relative error bound of the update.
        bound: f64,
        /// The tolerance it passed.
        tolerance: f64,
    },
    /// Entries of the Gram matrix overflow or underflow, though those of J do not.
    GramOutOfRange {
        /// Its largest diagonal entry.
        largest: f64,
    },
    /// The decomposition did not converge.
    NoConvergence {
        /// The evaluation that failed.
        solver: Solver,
    },
}

impl std::fmt::Display for Fallback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::GramInexact { bound, tolerance } => {
                write!(f, "gram is exact to {bound:.1e} only, more than {tolerance:.1e} was asked for")
            }
            Self::GramOutOfRange { largest } => {
                write!(f, "the largest entry of the Gram matrix, {largest:e}, is out of range")
            }
            Self::NoConvergence { solver } => write!(f, "{solver} did not converge"),
        }
    }
}
