//! Functions of the singular values of J, applied to g: Δ = V φ(Σ) Uᵀ g for J = U Σ Vᵀ.
//!
//! Three evaluations of the same update: [`Solver::Svd`], the reference; [`Solver::Gram`], by the eigenvalues of
//! J Jᵀ or JᵀJ; [`Solver::Krylov`], by products with J alone. Each answers with a [`Report`].
//!
//! Source: Arrigo, Benzi, Fenu, *Computation of generalized matrix functions*, SIAM J. Matrix Anal. Appl. 37(3), 2016.

mod decompose;
pub mod filter;
pub mod gram;
pub mod krylov;
mod report;
mod solver;
pub mod svd;

pub(crate) use decompose::{
    singular_values as singular_values_of, symmetric_eigen, symmetric_eigenvalues, thin_svd,
};
pub use filter::{Filter, Shape};
pub use krylov::{KrylovSpace, Ritz, RitzStep};
pub use report::{Fallback, Report};
pub use solver::{Options, Solver, Spectral, SpectralError, singular_values, update};
