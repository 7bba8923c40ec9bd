//! The update from the eigenvalues of a Gram matrix.
//!
//! n ≤ P:  K = J Jᵀ = U Σ² Uᵀ,  Δ = Jᵀ f(K) g
//! P < n:  M = JᵀJ = V Σ² Vᵀ,  Δ = f(M) Jᵀ g        with f(s) = φ(√s)/√s
//!
//! One symmetric eigen-decomposition of size min(n, P), O(min³), and for dense layers no J.
//!
//! # Precision
//! Forming the matrix squares the condition number: it and its eigenvalues are off by E with |E| ≈ ε·s_max. To
//! first order f(K + E)g − f(K)g has the eigenvector components Σⱼ f\[sᵢ, sⱼ\] Eᵢⱼ wⱼ with the divided differences
//! f\[sᵢ, sⱼ\] and w = Uᵀg. For the filters here |f\[sᵢ, sⱼ\]| ≤ f(min)/max of the two, and a component next to the cut
//! may fall on the wrong side; the sum of both is the reported bound. It grows like ε/r² at the relative size
//! r = σ/σ_max of what is kept, and no filter can be trusted below r = 1e-8.

use faer::{Col, Mat, Par};

use super::decompose::{NoConvergence, SymmetricEigen};
use super::{Fallback, Filter, Report, Solver, SpectralError};
use crate::linear::vectors::norm;
use crate::linear::{Jacobian, gather_rows};

/// |E| in units of s_max: rounding in K's entries and in its tridiagonalization.
const BACKWARD_ERROR: f64 = f64::EPSILON;

/// Writes the update and reports; says why where another evaluation is needed.
pub(super) fn update(
    jacobian: &mut dyn Jacobian,
    g: &[f64],
    filter: &Filter,
    tolerance: f64,
    eigen: &mut SymmetricEigen,
    par: Par,
    out: &mut [f64],
) -> Result<Result<Report, Fallback>, SpectralError> {
    let (_, columns) = jacobian.shape();
    let (place, rows) = jacobian.place();
    let by_rows = rows <= columns;
    let g = &gather_rows(jacobian, g);
    let start = if by_rows {
        jacobian.row_gram(&mut eigen.matrix, par)?;
        g.clone()
    } else {
        let mut gradient = vec![0.0; columns];
        jacobian.apply_transpose(&g[place.clone()], &mut gradient)?;
        jacobian.sum(&mut gradient);
        jacobian.column_gram(&mut eigen.matrix, par)?;
        gradient
    };
    let gram = &eigen.matrix;
    let largest = (0..gram.nrows()).map(|i| gram[(i, i)]).fold(0.0, f64::max);
    if !in_range(gram, largest) {
        return Ok(Err(Fallback::GramOutOfRange { largest }));
    }
    if eigen.decompose(par) == Err(NoConvergence) {
        return Ok(Err(Fallback::NoConvergence { solver: Solver::Gram }));
    }
    let sigmas: Vec<f64> = eigen.s.iter().map(|s| s.max(0.0).sqrt()).collect();
    let weights = weights(&sigmas, filter);
    let mut w = eigen.coordinates(&start);
    let bound = error_bound(&sigmas, &weights, &w, by_rows);
    if bound > tolerance {
        return Ok(Err(Fallback::GramInexact { bound, tolerance }));
    }
    for (w, weight) in w.iter_mut().zip(&weights) {
        *w *= weight;
    }
    let combined = eigen.combine(&w);
    if by_rows {
        jacobian.apply_transpose(&combined[place], out)?;
        jacobian.sum(out);
    } else {
        out.copy_from_slice(&combined);
    }
    let mut report = report(&sigmas, filter, bound);
    // Products with J round too, which shows where they cancel: where g has little in the range of J.
    report.error_estimate += report.round_off((g.len(), out.len()), filter, norm(g), norm(out));
    Ok(Ok(report))
}

/// φ(σ)/σ, 0 at and below the cut; σ ascending.
fn weights(sigmas: &[f64], filter: &Filter) -> Vec<f64> {
    let sigma_max = sigmas.last().copied().unwrap_or(0.0);
    let weight = |&sigma: &f64| match filter.evaluate(sigma, sigma_max) {
        0.0 => 0.0,
        phi => phi / sigma,
    };
    sigmas.iter().map(weight).collect()
}

fn report(sigmas: &[f64], filter: &Filter, bound: f64) -> Report {
    let sigma_max = sigmas.last().copied().unwrap_or(0.0);
    let kept = sigmas.iter().filter(|&&sigma| filter.keeps(sigma, sigma_max));
    Report {
        solver: Solver::Gram,
        rank: kept.clone().count(),
        sigma_max,
        sigma_min: kept.min_by(|a, b| a.total_cmp(b)).copied().unwrap_or(0.0),
        krylov_steps: None,
        error_estimate: bound,
        fallbacks: Vec::new(),
    }
}

/// Whether squares of the entries of J survived: J = 0 gives K = 0, but so does a J of 1e-200.
fn in_range(gram: &Mat<f64>, largest: f64) -> bool {
    let smallest = f64::MIN_POSITIVE / f64::EPSILON;
    (smallest..1.0 / smallest).contains(&largest)
        && (0..gram.ncols()).all(|j| gram.col_as_slice(j).iter().all(|k| k.is_finite()))
}

/// First-order bound of |error|/|update|; see the [module](self). O(rank·(n − rank)).
fn error_bound(sigmas: &[f64], weights: &[f64], w: &Col<f64>, by_rows: bool) -> f64 {
    let size = sigmas.len();
    let Some(first) = weights.iter().position(|&f| f != 0.0) else {
        return 0.0;
    };
    // A quotient of lengths has no units: everything in those of its largest, so that squares stay in range.
    let scaled = |x: &[f64]| {
        let largest = x.iter().fold(0.0, |most: f64, x| most.max(x.abs())).max(f64::MIN_POSITIVE);
        x.iter().map(|x| x / largest).collect::<Vec<_>>()
    };
    let s: Vec<f64> = scaled(sigmas).iter().map(|sigma| sigma * sigma).collect();
    let (weights, w) = (scaled(weights), scaled(&w.iter().copied().collect::<Vec<_>>()));
    let slack = BACKWARD_ERROR;
    // Where K has a null space its computed eigenvalues lie below this.
    let noise = 4.0 * slack * (size as f64).sqrt();
    let dropped_at = if first == 0 { 0.0 } else { s[first - 1] };
    // Σ over smaller kept s of (f w)², and Σ over s at least as large of (w/s)².
    let mut below = 0.0;
    let mut above: f64 = (first..size).map(|j| (w[j] / s[j]).powi(2)).sum();
    let (mut error, mut length) = (0.0, 0.0);
    for i in first..size {
        let outside = if by_rows { s[i] } else { 1.0 };
        let gap = (s[i] - dropped_at).max(slack);
        let dropped = s[..first].iter().zip(&w);
        let leak: f64 = dropped.map(|(below, w)| (w / (s[i] - below).max(slack)).powi(2)).sum();
        let spread = above.max(0.0) * weights[i].powi(2) + below / (s[i] * s[i]) + leak * weights[i].powi(2);
        // A kept component within the slack of the cut, or in the noise, might as well have been dropped.
        let doubt = if gap <= slack || s[i] <= noise { (weights[i] * w[i]).powi(2) } else { 0.0 };
        error += outside * (slack * slack * spread + doubt);
        length += outside * (weights[i] * w[i]).powi(2);
        below += (weights[i] * w[i]).powi(2);
        above -= (w[i] / s[i]).powi(2);
    }
    if length > 0.0 { (error / length).sqrt() } else { 0.0 }
}
