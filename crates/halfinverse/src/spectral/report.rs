//! What a spectral step says of itself.

use super::Solver;

/// How an update was computed, and how far it can be trusted.
#[derive(Debug, Clone, PartialEq)]
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
    /// σ_max/σ_min of what was kept; 1 if nothing was.
    #[must_use]
    pub fn condition(&self) -> f64 {
        if self.rank == 0 { 1.0 } else { self.sigma_max / self.sigma_min }
    }
}

/// Round-off of an update from an n × P matrix whose kept singular values span `condition`.
#[allow(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
pub(super) fn round_off(rows: usize, columns: usize, condition: f64) -> f64 {
    f64::EPSILON * ((rows + columns) as f64).sqrt() * condition
}

/// Why an evaluation gave way to the next one.
#[derive(Debug, Clone, PartialEq)]
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
