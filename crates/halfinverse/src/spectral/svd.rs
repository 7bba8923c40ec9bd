//! The reference: thin SVD of J, then V φ(Σ) Uᵀ g.
//!
//! O(n²P) operations with a large constant, memory O(nP). Accurate for every singular value above round-off.

use faer::Par;

use super::decompose::{NoConvergence, thin_svd};
use super::{Filter, Report, Solver, SpectralError};
use crate::linear::vectors::norm;
use crate::linear::{Jacobian, gather_rows};

/// Writes the update and reports; `Ok(None)` when the SVD does not converge.
pub(super) fn update(
    jacobian: &mut dyn Jacobian,
    g: &[f64],
    filter: &Filter,
    par: Par,
    out: &mut [f64],
) -> Result<Option<Report>, SpectralError> {
    let transpose = jacobian.dense_transpose()?;
    let g = &gather_rows(jacobian, g);
    SpectralError::check_finite("J", (0..transpose.ncols()).flat_map(|r| transpose.col_as_slice(r)))?;
    // Jᵀ = V Σ Uᵀ: what faer calls u is our V.
    let svd = match thin_svd(transpose.as_ref(), par) {
        Ok(svd) => svd,
        Err(NoConvergence) => return Ok(None),
    };
    let sigma_max = svd.s.first().copied().unwrap_or(0.0);
    out.fill(0.0);
    for (i, &sigma) in svd.s.iter().enumerate() {
        if !filter.keeps(sigma, sigma_max) {
            continue;
        }
        let c: f64 = svd.v.col_as_slice(i).iter().zip(g).map(|(u, g)| u * g).sum();
        let c = filter.evaluate(sigma, sigma_max) * c;
        for (out, v) in out.iter_mut().zip(svd.u.col_as_slice(i)) {
            *out += c * v;
        }
    }
    let kept = svd.s.iter().filter(|&&sigma| filter.keeps(sigma, sigma_max));
    let sigma_min = kept.clone().next_back().copied().unwrap_or(0.0);
    let rank = kept.count();
    let mut report = Report {
        solver: Solver::Svd,
        rank,
        sigma_max,
        sigma_min,
        krylov_steps: None,
        error_estimate: 0.0,
        fallbacks: Vec::new(),
    };
    report.error_estimate = report.round_off((g.len(), out.len()), filter, norm(g), norm(out));
    Ok(Some(report))
}
