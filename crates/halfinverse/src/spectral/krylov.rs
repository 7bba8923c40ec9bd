//! The update from products with J alone: Golub–Kahan bidiagonalization, started from the gradient.
//!
//! v₁ = Jᵀg/β₁;  αᵢuᵢ = J vᵢ − βᵢuᵢ₋₁;  βᵢ₊₁vᵢ₊₁ = Jᵀuᵢ − αᵢvᵢ;  J V_k = U_k B_k with B_k upper bidiagonal.
//! With B_k = X S Yᵀ:  Δ ≈ V_k Y (φ(S)/S) Yᵀ e₁ β₁, a function of JᵀJ applied to the gradient.
//!
//! Started from Jᵀg rather than from g, the space holds nothing of the left null space of J, which would make
//! spurious small singular values. k = 1 is normalised gradient descent, k = rank(J) is exact.
//!
//! **One basis.** The vectors of the shorter side are kept and re-orthogonalized, those of the longer side follow from the
//! recurrence and go; their orthogonality suffers by ε·σ_max/σ_min of the space and no more. Where n < P the uᵢ are kept, and
//!
//! V_k c = Jᵀ(a·g + U_k w),  from the recurrence solved for vᵢ₊₁, backwards: one more product with Jᵀ.
//!
//! Costs k products with J and k with Jᵀ, one for each update where n < P, and 2k²·min(n, P) to 4k²·min(n, P) operations for
//! the re-orthogonalization, and as many times P as there are products; memory k·min(n, P) + 2P. The factorization does not
//! depend on the filter.
//!
//! # Precision
//! The error estimate compares the update with the one from the k × (k+1) matrix \[B_k, β_{k+1}e_k\]. In the terms of
//! quadrature these are the Gauss rule and the Gauss–Radau rule with a node at 0; the exact answer lies between them
//! for the weighted sums that the rules are made for, and both meet when β_{k+1} = 0. An estimate, not a bound. To it comes what
//! round-off makes of the product that ends an update.
//!
//! Source: Golub, Kahan, SIAM J. Numer. Anal. 2, 1965; Arrigo, Benzi, Fenu, 2016; one basis: Simon, Zha, *Low-Rank Matrix
//! Approximation Using the Lanczos Bidiagonalization Process*, SIAM J. Sci. Comput. 21(6), 2000.

use faer::{Mat, MatMut, MatRef, Par};

use super::decompose::{ThinSvd, thin_svd};
use super::{Filter, Report, Solver, SpectralError};
use crate::linear::Jacobian;
use crate::linear::threads::worth_threads;
use crate::linear::vectors::{
    add, add_and_measure, combine, divide, extend, norm, norm_over, normalize, whole,
};

/// A Krylov space of the singular vectors of J that the gradient reaches; its memory is kept from one
/// [`KrylovSpace::build`] to the next.
///
/// # Example
/// One space, two filters:
/// ```
/// use faer::{Par, mat};
/// use halfinverse::linear::DenseJacobian;
/// use halfinverse::spectral::{Filter, KrylovSpace};
/// let mut j = DenseJacobian::new(mat![[4.0, 0.0], [0.0, 1.0], [0.0, 0.0]]);
/// let g = [8.0, 1.0, 5.0];
/// let mut space = KrylovSpace::default();
/// space.build(&mut j, &g, 2, Par::Seq)?;
/// let mut update = [0.0; 2];
/// for (kappa, expected) in [(1.0, [2.0, 1.0]), (0.5, [4.0, 1.0])] {
///     let report = space.update(&mut j, &Filter::power(kappa, 1e-6)?, &mut update)?;
///     assert_eq!(report.rank, 2);
///     assert!(update.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-12));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct KrylovSpace {
    /// n, of all ranks, and P.
    shape: (usize, usize),
    /// U_k (n × k, the rows that are here) where n < P, else V_{k+1} (P × (k+1)).
    basis: Mat<f64>,
    /// Overlaps of a new vector with the old ones, and room for two numbers more.
    overlaps: Vec<f64>,
    /// The last vector of the other side, and what the next one is made in.
    last: Vec<f64>,
    next: Vec<f64>,
    /// g.
    outcome_gradient: Vec<f64>,
    entries: Entries,
    /// β₁ = |Jᵀg|.
    gradient_norm: f64,
    /// |g|.
    outcome_gradient_norm: f64,
}

/// The entries of \[B_k, β_{k+1}e_k\].
#[derive(Debug, Clone, Default)]
struct Entries {
    /// α₁..α_k.
    diagonal: Vec<f64>,
    /// β₂..β_{k+1}.
    beside: Vec<f64>,
    /// The largest of all.
    largest: f64,
}

impl Entries {
    fn clear(&mut self) {
        self.diagonal.clear();
        self.beside.clear();
        self.largest = 0.0;
    }

    /// Whether an entry is more than what round-off leaves.
    fn counts(&mut self, entry: f64) -> bool {
        self.largest = f64::max(self.largest, entry);
        entry > BREAKDOWN * self.largest
    }

    /// Takes α in; false where it is nothing, and the space ends before it.
    fn take_alpha(&mut self, alpha: f64) -> bool {
        let counts = self.counts(alpha);
        if counts {
            self.diagonal.push(alpha);
        }
        counts
    }

    /// Takes β in; false where it is nothing, and the space ends with it.
    fn take_beta(&mut self, beta: f64) -> bool {
        let counts = self.counts(beta);
        self.beside.push(if counts { beta } else { 0.0 });
        counts
    }
}

impl Default for KrylovSpace {
    fn default() -> Self {
        Self {
            shape: (0, 0),
            basis: Mat::new(),
            overlaps: Vec::new(),
            last: Vec::new(),
            next: Vec::new(),
            outcome_gradient: Vec::new(),
            entries: Entries::default(),
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
        self.build_and_show(jacobian, g, vectors, par, &mut |_| ())
    }

    /// The same; `show` sees each vᵢ (P) as it comes, for those that are not kept.
    ///
    /// # Errors
    /// As [`KrylovSpace::build`].
    pub fn build_and_show(
        &mut self,
        jacobian: &mut dyn Jacobian,
        g: &[f64],
        vectors: usize,
        par: Par,
        show: &mut dyn FnMut(&[f64]),
    ) -> Result<(), SpectralError> {
        let (own, p) = jacobian.shape();
        let (_, n) = jacobian.place();
        let vectors = vectors.min(n).min(p);
        let (short, long, columns) = if n < p { (own, p, vectors) } else { (p, own, vectors + 1) };
        let par = worth_threads(par, short * vectors);
        if self.shape != (n, p) || self.basis.shape() != (short, columns) {
            self.shape = (n, p);
            self.basis = Mat::zeros(short, columns);
            self.overlaps = vec![0.0; columns + 2];
            for vector in [&mut self.last, &mut self.next] {
                vector.clear();
                vector.resize(long, 0.0);
            }
        }
        self.entries.clear();
        self.outcome_gradient.clear();
        self.outcome_gradient.extend_from_slice(g);
        self.outcome_gradient_norm = norm_over(g, &|partial| jacobian.sum(partial));
        if n < p {
            self.extend_left(jacobian, vectors, par, show)
        } else {
            self.extend_right(jacobian, vectors, par, show)
        }
    }

    /// Keeps the uᵢ.
    fn extend_left(
        &mut self,
        jacobian: &mut dyn Jacobian,
        vectors: usize,
        par: Par,
        show: &mut dyn FnMut(&[f64]),
    ) -> Result<(), SpectralError> {
        let Self { basis: left, last: v, next, overlaps, entries, .. } = self;
        pull(jacobian, &self.outcome_gradient, v)?;
        self.gradient_norm = normalize(column(v), &whole);
        finite("J^T g", self.gradient_norm, v)?;
        let mut beta = 0.0;
        while self.gradient_norm > 0.0 && entries.diagonal.len() < vectors {
            let k = entries.diagonal.len();
            jacobian.apply(v, left.col_as_slice_mut(k))?;
            let alpha = extend(left, k, beta, overlaps, &|partial| jacobian.sum(partial), par);
            finite("J v", alpha, left.col_as_slice(k))?;
            if !entries.take_alpha(alpha) {
                break;
            }
            show(v);
            pull(jacobian, left.col_as_slice(k), next)?;
            beta = add_and_measure(next, -alpha, v);
            divide(column(next), beta);
            finite("J^T u", beta, next)?;
            std::mem::swap(v, next);
            if !entries.take_beta(beta) {
                break;
            }
        }
        Ok(())
    }

    /// Keeps the vᵢ.
    fn extend_right(
        &mut self,
        jacobian: &mut dyn Jacobian,
        vectors: usize,
        par: Par,
        show: &mut dyn FnMut(&[f64]),
    ) -> Result<(), SpectralError> {
        let Self { basis: right, last: u, next, overlaps, entries, .. } = self;
        pull(jacobian, &self.outcome_gradient, right.col_as_slice_mut(0))?;
        self.gradient_norm = normalize(right.as_mut().subcols_mut(0, 1), &whole);
        finite("J^T g", self.gradient_norm, right.col_as_slice(0))?;
        let mut beta = 0.0;
        while self.gradient_norm > 0.0 && entries.diagonal.len() < vectors {
            let k = entries.diagonal.len();
            jacobian.apply(right.col_as_slice(k), next)?;
            if k > 0 {
                add(next, -beta, u);
            }
            let alpha = normalize(column(next), &|partial| jacobian.sum(partial));
            finite("J v", alpha, next)?;
            std::mem::swap(u, next);
            if !entries.take_alpha(alpha) {
                break;
            }
            show(right.col_as_slice(k));
            pull(jacobian, u, right.col_as_slice_mut(k + 1))?;
            beta = extend(right, k + 1, alpha, overlaps, &whole, par);
            finite("J^T u", beta, right.col_as_slice(k + 1))?;
            if !entries.take_beta(beta) {
                break;
            }
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
        self.entries.diagonal.len()
    }

    /// Writes the update for one filter; J is the one of [`KrylovSpace::build`].
    ///
    /// # Errors
    /// When the SVD of the small bidiagonal matrix does not converge, or a product with J fails.
    pub fn update(
        &self,
        jacobian: &mut dyn Jacobian,
        filter: &Filter,
        out: &mut [f64],
    ) -> Result<Report, SpectralError> {
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
        let noise = self.expand(jacobian, &coefficients, out)?;
        if length > 0.0 {
            report.error_estimate = norm(&difference) / length
                + report.round_off(self.shape, filter, self.outcome_gradient_norm, length)
                + f64::EPSILON * report.sigma_max * noise / length;
        }
        Ok(report)
    }

    /// `out` (P) = V_k c; J is the one of [`KrylovSpace::build`]. Returns the length of what Jᵀ was applied to.
    ///
    /// # Errors
    /// When the product with J fails.
    pub fn expand(
        &self,
        jacobian: &mut dyn Jacobian,
        coefficients: &[f64],
        out: &mut [f64],
    ) -> Result<f64, SpectralError> {
        let (n, p) = self.shape;
        let k = coefficients.len();
        if n >= p || k == 0 {
            out.fill(0.0);
            let out = MatMut::from_column_major_slice_mut(out, p, 1);
            let coefficients = MatRef::from_column_major_slice(coefficients, k, 1);
            combine(self.basis.as_ref().subcols(0, k), coefficients, 1.0, out, Par::Seq);
            return Ok(0.0);
        }
        let mut left = coefficients.to_vec();
        let mut w = vec![0.0; k];
        for i in (1..k).rev() {
            w[i - 1] = left[i] / self.entries.beside[i - 1];
            left[i - 1] -= self.entries.diagonal[i - 1] * w[i - 1];
        }
        let scale = left[0] / self.gradient_norm;
        let mut outcomes: Vec<f64> = self.outcome_gradient.iter().map(|g| scale * g).collect();
        let own = outcomes.len();
        let sum = MatMut::from_column_major_slice_mut(&mut outcomes, own, 1);
        combine(
            self.basis.as_ref().subcols(0, k),
            MatRef::from_column_major_slice(&w, k, 1),
            1.0,
            sum,
            Par::Seq,
        );
        pull(jacobian, &outcomes, out)?;
        Ok(norm_over(&outcomes, &|partial| jacobian.sum(partial)))
    }

    /// The singular triplets of the space of the first `k` vectors, or of all where there are fewer.
    ///
    /// # Errors
    /// When the space is empty, or the SVD of the small bidiagonal matrix does not converge.
    pub fn ritz(&self, k: usize) -> Result<Ritz, SpectralError> {
        let k = k.min(self.dimension());
        if k == 0 {
            return Err(SpectralError::Empty { rows: self.shape.0, columns: self.shape.1 });
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
            0 => self.entries.diagonal[i],
            1 => self.entries.beside[i],
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
#[derive(Debug, Clone, Default, PartialEq)]
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

    /// The singular values, descending.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.svd.s
    }

    /// The step with this φ; costs no product with J.
    #[must_use]
    pub fn filtered(&self, filter: &Filter) -> RitzStep {
        let largest = self.largest();
        self.step(|relative| match filter.evaluate(relative * largest, largest) {
            0.0 => 0.0,
            phi => phi / relative * largest,
        })
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

/// A vector as a matrix of one column.
fn column(vector: &mut [f64]) -> MatMut<'_, f64> {
    let length = vector.len();
    MatMut::from_column_major_slice_mut(vector, length, 1)
}

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
