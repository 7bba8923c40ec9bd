//! The update from products with J alone: Golub–Kahan bidiagonalization, started from the gradient.
//!
//! v₁ = Jᵀg/β₁;  αᵢuᵢ = J vᵢ − βᵢuᵢ₋₁;  βᵢ₊₁vᵢ₊₁ = Jᵀuᵢ − αᵢvᵢ;  J V_k = U_k B_k with B_k upper bidiagonal.
//! With B_k = X S Yᵀ:  Δ ≈ V_k Y (φ(S)/S) Yᵀ e₁ β₁, a function of JᵀJ applied to the gradient.
//!
//! Started from Jᵀg rather than from g, the space holds nothing of the left null space of J, which would make
//! spurious small singular values. k = 1 is normalised gradient descent, k = rank(J) is exact.
//!
//! Costs k products with J and k with Jᵀ, and 4k²(n+P) operations for the full re-orthogonalization; memory
//! k(n+P). The factorization does not depend on the filter: every further φ costs O(k³ + kP).
//!
//! # Precision
//! The error estimate compares the update with the one from the k × (k+1) matrix \[B_k, β_{k+1}e_k\]. In the terms of
//! quadrature these are the Gauss rule and the Gauss–Radau rule with a node at 0; the exact answer lies between them
//! for the weighted sums that the rules are made for, and both meet when β_{k+1} = 0. An estimate, not a bound.
//!
//! Source: Golub, Kahan, SIAM J. Numer. Anal. 2, 1965; Arrigo, Benzi, Fenu, 2016.

use faer::{Mat, MatMut, MatRef, Par};

use super::decompose::{ThinSvd, thin_svd};
use super::{Filter, Report, Solver, SpectralError};
use crate::linear::Jacobian;
use crate::linear::threads::worth_threads;
use crate::linear::vectors::{combine, extend, norm, norm_over, normalize, project_out, whole};

/// A Krylov space of the singular vectors of J that the gradient reaches; its memory is kept from one
/// [`KrylovSpace::build`] to the next.
#[derive(Debug, Clone)]
pub struct KrylovSpace {
    /// U_k, n × k.
    left: Mat<f64>,
    /// V_{k+1}, P × (k+1).
    right: Mat<f64>,
    /// Overlaps of a new vector with the old ones.
    overlaps: Mat<f64>,
    /// α₁..α_k.
    diagonal: Vec<f64>,
    /// β₂..β_{k+1}.
    beside: Vec<f64>,
    /// β₁ = |Jᵀg|.
    gradient_norm: f64,
    /// |g|.
    outcome_gradient_norm: f64,
}

impl Default for KrylovSpace {
    fn default() -> Self {
        Self {
            left: Mat::new(),
            right: Mat::new(),
            overlaps: Mat::new(),
            diagonal: Vec::new(),
            beside: Vec::new(),
            gradient_norm: 0.0,
            outcome_gradient_norm: 0.0,
        }
    }
}

impl KrylovSpace {
    /// Builds the space of `vectors` dimensions, or fewer if the products leave nothing new.
    ///
    /// # Errors
    /// When a product with J is not finite.
    pub fn build(
        &mut self,
        jacobian: &mut dyn Jacobian,
        g: &[f64],
        vectors: usize,
        par: Par,
    ) -> Result<(), SpectralError> {
        let (n, p) = jacobian.shape();
        let vectors = vectors.min(n).min(p);
        let par = worth_threads(par, (n + p) * vectors);
        if self.left.shape() != (n, vectors) || self.right.nrows() != p {
            self.left = Mat::zeros(n, vectors);
            self.right = Mat::zeros(p, vectors + 1);
            self.overlaps = Mat::zeros(vectors + 1, 1);
        }
        let (left, right) = (&mut self.left, &mut self.right);
        self.diagonal.clear();
        self.beside.clear();
        self.outcome_gradient_norm = norm_over(g, &|partial| jacobian.sum(partial));

        pull(jacobian, g, right.col_as_slice_mut(0))?;
        self.gradient_norm = normalize(right.as_mut().subcols_mut(0, 1), &whole);
        finite("J^T g", self.gradient_norm, right.col_as_slice(0))?;
        let (mut beta, mut largest) = (0.0, 0.0);
        while self.gradient_norm > 0.0 && self.diagonal.len() < vectors {
            let k = self.diagonal.len();
            jacobian.apply(right.col_as_slice(k), left.col_as_slice_mut(k))?;
            let alpha = extend(left, k, beta, &mut self.overlaps, &|partial| jacobian.sum(partial), par);
            finite("J v", alpha, left.col_as_slice(k))?;
            largest = f64::max(largest, alpha);
            if alpha <= BREAKDOWN * largest {
                break;
            }
            self.diagonal.push(alpha);
            pull(jacobian, left.col_as_slice(k), right.col_as_slice_mut(k + 1))?;
            beta = extend(right, k + 1, alpha, &mut self.overlaps, &whole, par);
            finite("J^T u", beta, right.col_as_slice(k + 1))?;
            largest = f64::max(largest, beta);
            if beta <= BREAKDOWN * largest {
                self.beside.push(0.0);
                break;
            }
            self.beside.push(beta);
        }
        Ok(())
    }

    /// |Jᵀg|.
    #[must_use]
    pub fn gradient_norm(&self) -> f64 {
        self.gradient_norm
    }

    /// k, the dimension reached.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.diagonal.len()
    }

    /// Writes the update for one filter.
    ///
    /// # Errors
    /// When the SVD of the small bidiagonal matrix does not converge.
    pub fn update(&self, filter: &Filter, out: &mut [f64]) -> Result<Report, SpectralError> {
        let k = self.dimension();
        let mut report = Report {
            solver: Solver::Krylov { vectors: k.max(1) },
            rank: 0,
            sigma_max: 0.0,
            sigma_min: 0.0,
            krylov_steps: Some(k),
            error_estimate: 0.0,
            fallbacks: Vec::new(),
        };
        out.fill(0.0);
        if k == 0 {
            return Ok(report);
        }
        let (Ok(gauss), Ok(radau)) = (
            thin_svd(self.bidiagonal(k).as_ref(), Par::Seq),
            thin_svd(self.bidiagonal(k + 1).as_ref(), Par::Seq),
        ) else {
            return Err(SpectralError::NoConvergence { tried: vec![report.solver] });
        };
        let coefficients = self.coefficients(&gauss, filter);
        let other = self.coefficients(&radau, filter);
        let kept = gauss.s.iter().filter(|&&sigma| filter.keeps(sigma, gauss.s[0]));
        report.rank = kept.clone().count();
        report.sigma_max = gauss.s[0];
        report.sigma_min = kept.clone().next_back().copied().unwrap_or(0.0);
        let length = norm(&coefficients);
        let difference: Vec<f64> =
            other.iter().enumerate().map(|(i, c)| c - coefficients.get(i).unwrap_or(&0.0)).collect();
        if length > 0.0 {
            let shape = (self.left.nrows(), self.right.nrows());
            report.error_estimate = norm(&difference) / length
                + report.round_off(shape, filter, self.outcome_gradient_norm, length);
        }
        let out = MatMut::from_column_major_slice_mut(out, self.right.nrows(), 1);
        combine(self.basis(), MatRef::from_column_major_slice(&coefficients, k, 1), 1.0, out, Par::Seq);
        Ok(report)
    }

    /// V_k, P × k.
    fn basis(&self) -> MatRef<'_, f64> {
        self.right.as_ref().subcols(0, self.dimension())
    }

    /// `out` (P × count) ← `out` + factor·V_k C, for coefficients C (k × count).
    pub fn combine(&self, coefficients: MatRef<'_, f64>, factor: f64, out: MatMut<'_, f64>, par: Par) {
        combine(self.basis(), coefficients, factor, out, par);
    }

    /// Takes out of a vector over parameters (P) what lies in the space.
    pub fn project_out(&self, vector: &mut [f64], par: Par) {
        project_out(self.basis(), vector, &whole, par);
    }

    /// The singular triplets of the space of the first `k` vectors, or of all where there are fewer.
    ///
    /// # Errors
    /// When the space is empty, or the SVD of the small bidiagonal matrix does not converge.
    pub fn ritz(&self, k: usize) -> Result<Ritz, SpectralError> {
        let k = k.min(self.dimension());
        if k == 0 {
            return Err(SpectralError::Empty { rows: self.left.nrows(), columns: self.right.nrows() });
        }
        let b = self.bidiagonal(self.dimension());
        let solver = Solver::Krylov { vectors: k };
        let svd = thin_svd(b.as_ref().submatrix(0, 0, k, k), Par::Seq)
            .map_err(|_| SpectralError::NoConvergence { tried: vec![solver] })?;
        Ok(Ritz { svd, gradient_norm: self.gradient_norm })
    }

    /// B_k, or \[B_k, β_{k+1}e_k\] for `columns` = k + 1.
    fn bidiagonal(&self, columns: usize) -> Mat<f64> {
        Mat::from_fn(self.dimension(), columns, |i, j| match j.wrapping_sub(i) {
            0 => self.diagonal[i],
            1 => self.beside[i],
            _ => 0.0,
        })
    }

    /// Y (φ(S)/S) Yᵀ e₁ β₁.
    fn coefficients(&self, svd: &ThinSvd, filter: &Filter) -> Vec<f64> {
        let mut coefficients = vec![0.0; svd.v.nrows()];
        for (i, &sigma) in svd.s.iter().enumerate() {
            let phi = filter.evaluate(sigma, svd.s[0]);
            if phi == 0.0 {
                continue;
            }
            let y = svd.v.col_as_slice(i);
            // Each factor is in range wherever the product is.
            let c = phi * (self.gradient_norm / sigma * y[0]);
            for (coefficient, y) in coefficients.iter_mut().zip(y) {
                *coefficient += c * y;
            }
        }
        coefficients
    }
}

/// Singular values of J as a Krylov space sees them, and steps made of them.
#[derive(Debug, Clone)]
pub struct Ritz {
    svd: ThinSvd,
    gradient_norm: f64,
}

/// A step Δ = V_k c.
#[derive(Debug, Clone, PartialEq)]
pub struct RitzStep {
    /// c.
    pub coefficients: Vec<f64>,
    /// gᵀJΔ.
    pub slope: f64,
    /// |JΔ|².
    pub curvature: f64,
}

impl Ritz {
    /// The largest singular value.
    #[must_use]
    pub fn largest(&self) -> f64 {
        self.svd.s[0]
    }

    /// The smallest singular value.
    #[must_use]
    pub fn smallest(&self) -> f64 {
        self.svd.s[self.svd.s.len() - 1]
    }

    /// The step with φ(σ)/σ = `weight`(σ/σ_max)/σ_max², so that its scale in units of J is right by itself; costs no
    /// product with J.
    #[must_use]
    pub fn step(&self, weight: impl Fn(f64) -> f64) -> RitzStep {
        let mut step = RitzStep { coefficients: vec![0.0; self.svd.v.nrows()], slope: 0.0, curvature: 0.0 };
        let largest = self.largest();
        for (i, &sigma) in self.svd.s.iter().enumerate() {
            let y = self.svd.v.col_as_slice(i);
            let relative = sigma / largest;
            let along = y[0] * (self.gradient_norm / largest);
            let w = weight(relative) * along;
            step.slope += w * along;
            step.curvature += (relative * w).powi(2);
            for (c, y) in step.coefficients.iter_mut().zip(y) {
                *c += w / largest * y;
            }
        }
        step
    }
}

/// What is left of a product, relative to the largest seen, that counts as nothing.
const BREAKDOWN: f64 = 1e-14;

/// `out` = Jᵀu, summed over ranks.
fn pull(jacobian: &mut dyn Jacobian, u: &[f64], out: &mut [f64]) -> Result<(), SpectralError> {
    jacobian.apply_transpose(u, out)?;
    jacobian.sum(out);
    Ok(())
}

/// Refuses a vector whose length is not finite; the length is known anyway, so this costs nothing.
fn finite(what: &'static str, length: f64, values: &[f64]) -> Result<(), SpectralError> {
    if length.is_finite() {
        return Ok(());
    }
    SpectralError::check_finite(what, values)?;
    Err(SpectralError::NotFinite { what, index: 0, value: length })
}
