//! The two dense decompositions, with parallelism as an argument and failure as a value.

use faer::diag::DiagRef;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::{evd, householder, qr, svd};
use faer::{Col, Conj, Mat, MatRef, Par, Spec};

use crate::linear::vectors::power_of_two_below;

/// A decomposition that did not converge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoConvergence;

/// Where squares of the entries that matter would overflow or underflow: a power of 2, and A over it.
fn in_range(a: MatRef<'_, f64>) -> Option<(f64, Mat<f64>)> {
    let scale = power_of_two_below(a.norm_max());
    (!(1e-100..1e100).contains(&scale)).then(|| (scale, faer::Scale(1.0 / scale) * a))
}

fn times(s: Vec<f64>, scale: f64) -> Vec<f64> {
    s.into_iter().map(|sigma| scale * sigma).collect()
}

/// A = U diag(s) Vᵀ with min(rows, columns) singular values, descending.
#[derive(Debug, Clone)]
pub(crate) struct ThinSvd {
    pub(crate) u: Mat<f64>,
    pub(crate) s: Vec<f64>,
    pub(crate) v: Mat<f64>,
}

/// Thin SVD: O(rows·columns·min) operations, memory for A, U and V.
pub(crate) fn thin_svd(a: MatRef<'_, f64>, par: Par) -> Result<ThinSvd, NoConvergence> {
    let (rows, columns) = a.shape();
    if let Some((scale, scaled)) = in_range(a) {
        let svd = thin_svd(scaled.as_ref(), par)?;
        return Ok(ThinSvd { s: times(svd.s, scale), ..svd });
    }
    let size = rows.min(columns);
    let (mut u, mut v) = (Mat::zeros(rows, size), Mat::zeros(columns, size));
    let mut s = Col::<f64>::zeros(size);
    let vectors = svd::ComputeSvdVectors::Thin;
    let scratch = svd::svd_scratch::<f64>(rows, columns, vectors, vectors, par, Spec::default());
    svd::svd(
        a,
        s.as_diagonal_mut(),
        Some(u.as_mut()),
        Some(v.as_mut()),
        par,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Spec::default(),
    )
    .map_err(|_| NoConvergence)?;
    let s = s.iter().copied().collect();
    Ok(ThinSvd { u, s, v })
}

/// Singular values only, descending.
pub(crate) fn singular_values(a: MatRef<'_, f64>, par: Par) -> Result<Vec<f64>, NoConvergence> {
    let (rows, columns) = a.shape();
    if let Some((scale, scaled)) = in_range(a) {
        return Ok(times(singular_values(scaled.as_ref(), par)?, scale));
    }
    let mut s = Col::<f64>::zeros(rows.min(columns));
    let vectors = svd::ComputeSvdVectors::No;
    let scratch = svd::svd_scratch::<f64>(rows, columns, vectors, vectors, par, Spec::default());
    let mut memory = MemBuffer::new(scratch);
    let stack = MemStack::new(&mut memory);
    svd::svd(a, s.as_diagonal_mut(), None, None, par, stack, Spec::default()).map_err(|_| NoConvergence)?;
    Ok(s.iter().copied().collect())
}

/// A = Q diag(s) Qᵀ for symmetric A, of which the lower half is read; s ascending.
pub(crate) fn symmetric_eigen(a: MatRef<'_, f64>, par: Par) -> Result<(Vec<f64>, Mat<f64>), NoConvergence> {
    let size = a.nrows();
    let mut q = Mat::zeros(size, size);
    let mut s = Col::<f64>::zeros(size);
    let vectors = evd::ComputeEigenvectors::Yes;
    let scratch = evd::self_adjoint_evd_scratch::<f64>(size, vectors, par, Spec::default());
    let mut memory = MemBuffer::new(scratch);
    let stack = MemStack::new(&mut memory);
    evd::self_adjoint_evd(a, s.as_diagonal_mut(), Some(q.as_mut()), par, stack, Spec::default())
        .map_err(|_| NoConvergence)?;
    Ok((s.iter().copied().collect(), q))
}

/// The eigenvalues alone, ascending.
pub(crate) fn symmetric_eigenvalues(a: MatRef<'_, f64>, par: Par) -> Result<Vec<f64>, NoConvergence> {
    let size = a.nrows();
    let mut s = Col::<f64>::zeros(size);
    let vectors = evd::ComputeEigenvectors::No;
    let scratch = evd::self_adjoint_evd_scratch::<f64>(size, vectors, par, Spec::default());
    let mut memory = MemBuffer::new(scratch);
    let stack = MemStack::new(&mut memory);
    evd::self_adjoint_evd(a, s.as_diagonal_mut(), None, par, stack, Spec::default())
        .map_err(|_| NoConvergence)?;
    Ok(s.iter().copied().collect())
}

/// K = Q Z diag(s) Zᵀ Qᵀ for symmetric K, with Q left as Householder reflectors and Z the eigenvectors of the
/// tridiagonal matrix Qᵀ K Q.
///
/// A step needs f(K)·g for one g, so Q and Z are applied to vectors and never multiplied: the back-transformation of
/// the eigenvectors, 2n³ operations, is not spent.
#[derive(Debug, Clone)]
pub(crate) struct SymmetricEigen {
    /// K, and in its place the reflectors.
    pub(crate) matrix: Mat<f64>,
    factors: Mat<f64>,
    z: Mat<f64>,
    /// Eigenvalues, ascending.
    pub(crate) s: Vec<f64>,
}

impl Default for SymmetricEigen {
    fn default() -> Self {
        Self { matrix: Mat::new(), factors: Mat::new(), z: Mat::new(), s: Vec::new() }
    }
}

impl SymmetricEigen {
    /// Decomposes the lower triangle of `matrix`, which is overwritten. Matrices are kept from call to call.
    pub(crate) fn decompose(&mut self, par: Par) -> Result<(), NoConvergence> {
        let n = self.matrix.nrows();
        let block = qr::no_pivoting::factor::recommended_block_size::<f64>(n, n);
        if self.z.nrows() != n {
            (self.z, self.factors) = (Mat::zeros(n, n), Mat::zeros(block, n - 1));
        }
        let k = &mut self.matrix;
        let scratch = evd::tridiag::tridiag_in_place_scratch::<f64>(n, par, Spec::default());
        let mut memory = MemBuffer::new(scratch);
        let stack = MemStack::new(&mut memory);
        evd::tridiag::tridiag_in_place(k.as_mut(), self.factors.as_mut(), par, stack, Spec::default());

        let diagonal: Vec<f64> = (0..n).map(|i| k[(i, i)]).collect();
        let beside: Vec<f64> = (0..n).map(|i| if i + 1 < n { k[(i + 1, i)] } else { 0.0 }).collect();
        let mut s = Col::<f64>::zeros(n);
        let vectors = evd::ComputeEigenvectors::Yes;
        let scratch = evd::self_adjoint_evd_scratch::<f64>(n, vectors, par, Spec::default());
        let mut memory = MemBuffer::new(scratch);
        evd::tridiagonal_self_adjoint_evd(
            DiagRef::from_slice(&diagonal),
            DiagRef::from_slice(&beside),
            s.as_diagonal_mut(),
            Some(self.z.as_mut()),
            par,
            MemStack::new(&mut memory),
            Spec::default(),
        )
        .map_err(|_| NoConvergence)?;
        self.s.clear();
        self.s.extend(s.iter());
        if self.s.iter().any(|s| !s.is_finite()) {
            return Err(NoConvergence);
        }
        Ok(())
    }

    /// Eigenvector coordinates (QZ)ᵀ x.
    pub(crate) fn coordinates(&self, x: &[f64]) -> Col<f64> {
        let mut rotated = Mat::from_fn(x.len(), 1, |i, _| x[i]);
        self.reflect(&mut rotated, true);
        self.z.transpose() * rotated.col(0)
    }

    /// QZ c.
    pub(crate) fn combine(&self, c: &Col<f64>) -> Vec<f64> {
        let mut x = Mat::zeros(c.nrows(), 1);
        x.col_mut(0).copy_from(&self.z * c);
        self.reflect(&mut x, false);
        x.col_as_slice(0).to_vec()
    }

    /// x ← Qᵀx or Qx; Q leaves the first component alone.
    fn reflect(&self, x: &mut Mat<f64>, transpose: bool) {
        let n = x.nrows();
        if n < 2 {
            return;
        }
        let basis = self.matrix.submatrix(1, 0, n - 1, n - 1);
        let block = self.factors.nrows();
        let scratch = householder::apply_block_householder_sequence_on_the_left_in_place_scratch::<f64>(
            n - 1,
            block,
            1,
        );
        let mut memory = MemBuffer::new(scratch);
        let stack = MemStack::new(&mut memory);
        let rest = x.as_mut().subrows_mut(1, n - 1);
        let (factors, no) = (self.factors.as_ref(), Conj::No);
        if transpose {
            householder::apply_block_householder_sequence_transpose_on_the_left_in_place_with_conj(
                basis,
                factors,
                no,
                rest,
                Par::Seq,
                stack,
            );
        } else {
            householder::apply_block_householder_sequence_on_the_left_in_place_with_conj(
                basis,
                factors,
                no,
                rest,
                Par::Seq,
                stack,
            );
        }
    }
}
