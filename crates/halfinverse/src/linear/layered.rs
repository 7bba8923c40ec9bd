//! J of simulator ∘ network over a mini-batch, by layers: products, rows and Gram matrix without J.
//!
//! With Dₗ (n × out) the outcomes' derivatives with respect to what layer l puts out, row r = (s, c) of J holds
//! (∂xₗ₊₁/∂θₗ)ᵀ Dₗ[r, ·] for the parameters of layer l: for a dense layer Dₗ[r, ·] ⊗ xₗ[s, ·] and Dₗ[r, ·]. D of the
//! last layer is the simulator's block ∂y/∂z, the others follow by going back through the layers.
//!
//! | what | operations, dense layers |
//! |---|---|
//! | all Dₗ, once | 2nP |
//! | J v or Jᵀ u by sweeps through the network | 4bP + 2nq |
//! | J v or Jᵀ u by Dₗ | 2bP + 2n·Σwidths |
//! | K = J Jᵀ = Σₗ (xₗxₗᵀ + 1) ∘ (Dₗ Dₗᵀ) | n²·Σwidths |
//! | rows of J | P each |
//!
//! A convolution's rows sum over positions, so that its part of K is no product of two Gram matrices: it is made of the
//! layer's rows, which are short because weights are shared. Sweeps cost it its positions times its parameters, which
//! is what P stands for in the table then.
//!
//! Memory: the activations, and m times as much for the Dₗ when they are wanted.
//!
//! Source of the layer-wise Gram matrix: Novak, Sohl-Dickstein, Schoenholz, *Fast finite width neural tangent
//! kernel*, ICML 2022.

use std::ops::Range;

use faer::linalg::matmul::matmul;
use faer::prelude::{Reborrow, ReborrowMut};
use faer::{Accum, Mat, MatMut, MatRef, Par};

use super::columns::{column, column_mut, from_rows, to_rows, vectorized};
use super::{Jacobian, ProductError, make_square};
use crate::network::{Leaf, Network, Pass};
use crate::simulator::{Pattern, Simulator, block_cotangent, block_tangent};

/// The sparse route through the last layer's part of the Gram matrix pays when at most one in so many pairs of control
/// and outcome is coupled: measured on Poisson grids.
const FEW: usize = 4;

/// Rows of Dₗ, about, that one product of matrices takes for the Gram matrix: with fewer it is no faster than the inner
/// products one by one.
const TILE: usize = 128;

/// Products with J that one factorization is expected to ask for; decides whether all Dₗ pay for themselves.
const EXPECTED_PRODUCTS: usize = 32;

/// Rows that a sweep back through the network takes at a time, about: enough for its products of matrices.
const SWEPT: usize = 512;

/// Outcomes that a sweep back through the network takes at a time.
pub(crate) fn outcomes_together(b: usize, m: usize) -> usize {
    (SWEPT / b.max(1)).clamp(1, m)
}

/// Whether products by all Dₗ, their making included, cost less than sweeps.
pub(crate) fn rows_pay(network: &Network, m: usize) -> bool {
    let p = network.work();
    let outputs = network.leaf_widths();
    let hidden = if network.ends_in_leaf() { outputs - network.outputs() } else { outputs };
    p > m * hidden && EXPECTED_PRODUCTS * (p - m * hidden) > m * p
}

/// The Jacobian of one mini-batch at one θ, borrowed from a [`NetworkProblem`](crate::problem::NetworkProblem).
pub struct LayeredJacobian<'a> {
    network: &'a Network,
    theta: &'a [f64],
    pass: &'a Pass,
    leaves: Vec<Leaf<'a>>,
    scratch: &'a mut [Mat<f64>; 2],
    work: &'a mut Workspace,
    par: Par,
}

/// What a [`LayeredJacobian`] works in; kept from step to step.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The simulator's block ∂y/∂z, b × q·m: also D of what puts out the controls, n × q with rows component-major (c·b
    /// + s).
    block: Vec<f64>,
    /// Which outcomes depend on which controls.
    pattern: Pattern,
    /// Of each outcome, the controls it depends on, where these are few.
    few: Option<Vec<Vec<usize>>>,
    /// Dₗ of each leaf, n × out, rows component-major; empty for a leaf that puts out the controls, whose D is the
    /// block.
    rows: Vec<Vec<f64>>,
    /// Whether `rows` is that of the present θ.
    complete: bool,
    outcome: Mat<f64>,
    control: Mat<f64>,
    leaf: Mat<f64>,
    accumulated: Mat<f64>,
    /// Two matrices that sweeps over several outcomes work in; empty before the first one.
    stacked: Option<[Mat<f64>; 2]>,
    /// D of one row.
    one: Vec<f64>,
}

impl Workspace {
    /// `coupled` tells that an outcome's row of J depends on other outcomes, too.
    pub(crate) fn new(network: &Network, simulator: &dyn Simulator, samples: usize, coupled: bool) -> Self {
        let (q, m) = (simulator.controls(), simulator.outcomes());
        let pattern = if coupled { Pattern::Full } else { simulator.pattern() };
        let few = match &pattern {
            Pattern::Full => None,
            Pattern::Sparse(outcomes) => {
                let coupled: usize = outcomes.iter().map(Vec::len).sum();
                (FEW * coupled <= m * q).then(|| {
                    let mut of_outcome = vec![Vec::new(); m];
                    for (j, outcomes) in outcomes.iter().enumerate() {
                        for &c in outcomes {
                            of_outcome[c].push(j);
                        }
                    }
                    of_outcome
                })
            }
        };
        Self {
            block: Vec::new(),
            pattern,
            few,
            rows: Vec::new(),
            complete: false,
            outcome: Mat::zeros(samples, m),
            control: Mat::zeros(samples, network.outputs()),
            leaf: Mat::new(),
            accumulated: Mat::zeros(samples, m),
            stacked: None,
            one: Vec::new(),
        }
    }

    /// Room for the simulator's block, b × q·m; forgets the rows of the last θ.
    pub(crate) fn block_mut(&mut self) -> MatMut<'_, f64> {
        let (b, m, q) = (self.outcome.nrows(), self.outcome.ncols(), self.control.ncols());
        self.complete = false;
        self.block.resize(b * m * q, 0.0);
        MatMut::from_column_major_slice_mut(&mut self.block, b, q * m)
    }

    pub(crate) fn blocks(&self) -> MatRef<'_, f64> {
        let (b, m, q) = (self.outcome.nrows(), self.outcome.ncols(), self.control.ncols());
        MatRef::from_column_major_slice(&self.block, b, q * m)
    }

    /// Dₗ of a leaf, and which of its outputs reach which outcome.
    fn rows_of(&self, l: usize, direct: bool) -> (&[f64], &Pattern) {
        if direct { (&self.block, &self.pattern) } else { (&self.rows[l], &Pattern::Full) }
    }
}

impl<'a> LayeredJacobian<'a> {
    pub(crate) fn new(
        network: &'a Network,
        theta: &'a [f64],
        pass: &'a Pass,
        scratch: &'a mut [Mat<f64>; 2],
        work: &'a mut Workspace,
        par: Par,
    ) -> Self {
        let mut leaves = Vec::new();
        pass.leaves(network, theta, 0, &mut leaves);
        let widest = leaves.iter().map(|leaf| leaf.layer.outputs()).max().unwrap_or(0);
        if work.leaf.ncols() != widest {
            work.leaf = Mat::zeros(work.outcome.nrows(), widest);
        }
        work.rows.resize(leaves.len(), Vec::new());
        Self { network, theta, pass, leaves, scratch, work, par }
    }

    /// The simulator's blocks ∂y/∂z, b × q·m: column j·m + c holds ∂y_c/∂z_j of every sample.
    #[must_use]
    pub fn blocks(&self) -> MatRef<'_, f64> {
        self.work.blocks()
    }

    /// The block ∂y/∂z of sample `s`, m × q.
    #[must_use]
    pub fn block(&self, s: usize) -> Mat<f64> {
        let (_, m) = self.batch();
        let blocks = self.blocks();
        Mat::from_fn(m, self.network.outputs(), |c, j| blocks[(s, j * m + c)])
    }

    /// Samples b, and outcome components m of each.
    fn batch(&self) -> (usize, usize) {
        self.work.outcome.shape()
    }

    /// Whether leaf `l` puts out the controls, so that the block is its D.
    fn direct(&self, l: usize) -> bool {
        l + 1 == self.leaves.len() && self.network.ends_in_leaf()
    }

    /// Whether products are by all Dₗ.
    fn rows_pay(&self) -> bool {
        rows_pay(self.network, self.batch().1)
    }

    /// Goes back through the network from all outcomes, a few at a time, and shows `visit` of each leaf, last to first,
    /// its number, the row of Dₗ that they start at, and their rows.
    fn sweep(&mut self, mut visit: impl FnMut(&mut Workspace, usize, usize, &Leaf<'_>, MatRef<'_, f64>)) {
        let (b, m) = self.batch();
        let together = outcomes_together(b, m);
        let work = &mut *self.work;
        let mut stacked = work.stacked.take().unwrap_or_else(|| self.network.scratch(together * b));
        let block = std::mem::take(&mut work.block);
        let of_all = MatRef::from_column_major_slice(&block, b * m, self.network.outputs());
        for first in (0..m).step_by(together) {
            let rows = together.min(m - first) * b;
            let mut l = self.leaves.len();
            let mut of_leaf = |leaf: &Leaf<'_>, d: MatRef<'_, f64>| {
                l -= 1;
                visit(work, l, first * b, leaf, d);
            };
            let [one, other] = stacked.each_mut().map(|stacked| stacked.as_mut().subrows_mut(0, rows));
            let (theta, cotangent) = ((self.theta, 0), of_all.subrows(first * b, rows));
            self.pass.backward(self.network, theta, cotangent, None, &mut of_leaf, [one, other], self.par);
        }
        work.block = block;
        work.stacked = Some(stacked);
    }

    /// Dₗ of every leaf.
    fn complete_rows(&mut self) {
        if self.work.complete {
            return;
        }
        let (b, m) = self.batch();
        let (n, direct) = (b * m, self.direct(self.leaves.len() - 1).then(|| self.leaves.len() - 1));
        self.sweep(|work, l, first, _, d| {
            if direct == Some(l) {
                return;
            }
            work.rows[l].resize(n * d.ncols(), 0.0);
            let all = MatMut::from_column_major_slice_mut(&mut work.rows[l], n, d.ncols());
            all.subrows_mut(first, d.nrows()).copy_from(d);
        });
        self.work.complete = true;
    }

    /// The Gram matrix's part of the outcomes `of` and `with`, layers that have [`Layer::shared`] alone, into
    /// `tile.sum`, rows and columns component-major.
    fn gram_tile(
        &self,
        of: &Range<usize>,
        with: &Range<usize>,
        shared: &[Option<Mat<f64>>],
        tile: &mut Tile,
    ) {
        let (b, _) = self.batch();
        let (rows, columns) = (of.len() * b, with.len() * b);
        let mut sum = tile.sum.as_mut().submatrix_mut(0, 0, rows, columns);
        let mut product = tile.product.as_mut().submatrix_mut(0, 0, rows, columns);
        sum.fill(0.0);
        for (l, shared) in shared.iter().enumerate() {
            let Some(shared) = shared else { continue };
            let d = self.d_of(l);
            let (left, right) = (d.subrows(of.start * b, rows), d.subrows(with.start * b, columns));
            match self.work.few.as_ref().filter(|_| self.direct(l)) {
                Some(controls) => {
                    product.fill(0.0);
                    for (i, c) in of.clone().enumerate() {
                        for (k, d) in with.clone().enumerate() {
                            for &j in controls[c].iter().filter(|j| controls[d].contains(j)) {
                                let left = left.submatrix(i * b, j, b, 1);
                                let right = right.submatrix(k * b, j, b, 1);
                                let part = product.rb_mut().submatrix_mut(i * b, k * b, b, b);
                                matmul(part, Accum::Add, left, right.transpose(), 1.0, self.par);
                            }
                        }
                    }
                }
                None => matmul(product.rb_mut(), Accum::Replace, left, right.transpose(), 1.0, self.par),
            }
            add_shared(sum.rb_mut(), product.rb(), shared);
        }
    }

    /// Dₗ, n × out, rows component-major.
    fn d_of(&self, l: usize) -> MatRef<'_, f64> {
        let (b, m) = self.batch();
        let (rows, _) = self.work.rows_of(l, self.direct(l));
        MatRef::from_column_major_slice(rows, b * m, self.leaves[l].layer.outputs())
    }

    /// Rows `first`, `first + 1`, … of J's part that belongs to leaf `l`, as columns.
    fn leaf_rows(&self, l: usize, first: usize, mut out: MatMut<'_, f64>) {
        let (b, m) = self.batch();
        let (leaf, mut one) = (&self.leaves[l], Vec::new());
        let (rows, _) = self.work.rows_of(l, self.direct(l));
        for r in 0..out.ncols() {
            let (s, c) = ((first + r) / m, (first + r) % m);
            gather(rows, (b, m), (s, c), &mut one);
            leaf.layer.row(leaf.place, s, &one, column_mut(out.rb_mut(), r));
        }
    }

    /// Adds RᵀR to K for the rows R (Pₗ × n) of leaf `l`, in two blocks of them at a time that take no more memory than
    /// two of K.
    fn add_gram_of_rows(&self, l: usize, gram: &mut Mat<f64>, par: Par) {
        let (n, p) = (gram.nrows(), self.leaves[l].place.theta.len());
        let width = (n * n / p).clamp(1, n);
        let [mut left, mut right] = [width, if width < n { width } else { 0 }].map(|w| Mat::zeros(p, w));
        for i in (0..n).step_by(width) {
            let rows = width.min(n - i);
            let mut left = left.as_mut().subcols_mut(0, rows);
            self.leaf_rows(l, i, left.rb_mut());
            let left = left.rb();
            let mut gram = gram.as_mut();
            matmul(
                gram.rb_mut().submatrix_mut(i, i, rows, rows),
                Accum::Add,
                left.transpose(),
                left,
                1.0,
                par,
            );
            for j in (0..i).step_by(width) {
                self.leaf_rows(l, j, right.as_mut());
                let lower = gram.rb_mut().submatrix_mut(i, j, rows, width);
                matmul(lower, Accum::Add, left.transpose(), &right, 1.0, par);
                let upper = gram.rb_mut().submatrix_mut(j, i, width, rows);
                matmul(upper, Accum::Add, right.transpose(), left, 1.0, par);
            }
        }
    }
}

impl Jacobian for LayeredJacobian<'_> {
    fn shape(&self) -> (usize, usize) {
        let (b, m) = self.batch();
        (b * m, self.network.parameters())
    }

    fn apply(&mut self, v: &[f64], out: &mut [f64]) -> Result<(), ProductError> {
        if self.rows_pay() {
            self.complete_rows();
            self.work.accumulated.fill(0.0);
            for (l, leaf) in self.leaves.iter().enumerate() {
                let direct = self.direct(l);
                let work = &mut *self.work;
                let mut tangent = work.leaf.as_mut().subcols_mut(0, leaf.layer.outputs());
                leaf.layer.tangent(leaf.place, None, leaf.of(v), tangent.as_mut(), self.par);
                let (rows, pattern) =
                    if direct { (&work.block, &work.pattern) } else { (&work.rows[l], &Pattern::Full) };
                block_tangent(rows, pattern, tangent.as_ref(), work.accumulated.as_mut());
            }
        } else {
            let Workspace { control, accumulated, block, pattern, .. } = &mut *self.work;
            let (network, theta) = (self.network, self.theta);
            self.pass.tangent(network, theta, None, v, control.as_mut(), self.scratch, self.par);
            accumulated.fill(0.0);
            block_tangent(block, pattern, control.as_ref(), accumulated.as_mut());
        }
        to_rows(self.work.accumulated.as_ref(), out);
        Ok(())
    }

    fn apply_transpose(&mut self, u: &[f64], out: &mut [f64]) -> Result<(), ProductError> {
        from_rows(u, self.work.outcome.as_mut());
        if self.rows_pay() {
            self.complete_rows();
            for (l, leaf) in self.leaves.iter().enumerate() {
                let direct = self.direct(l);
                let work = &mut *self.work;
                let mut delta = work.leaf.as_mut().subcols_mut(0, leaf.layer.outputs());
                let (rows, pattern) =
                    if direct { (&work.block, &work.pattern) } else { (&work.rows[l], &Pattern::Full) };
                block_cotangent(rows, pattern, work.outcome.as_ref(), delta.as_mut());
                leaf.layer.gradient(leaf.place, delta.as_ref(), leaf.of_mut(out), self.par);
            }
        } else {
            let Workspace { control, outcome, block, pattern, .. } = &mut *self.work;
            block_cotangent(block, pattern, outcome.as_ref(), control.as_mut());
            self.pass.gradient(self.network, self.theta, control.as_ref(), out, self.scratch, self.par);
        }
        Ok(())
    }

    fn fill_rows(&mut self, first: usize, out: &mut [f64]) -> Result<(), ProductError> {
        self.complete_rows();
        let (b, m) = self.batch();
        for (r, row) in out.chunks_exact_mut(self.network.parameters()).enumerate() {
            let (s, c) = ((first + r) / m, (first + r) % m);
            for (l, leaf) in self.leaves.iter().enumerate() {
                let direct = self.direct(l);
                let mut one = std::mem::take(&mut self.work.one);
                let (rows, _) = self.work.rows_of(l, direct);
                gather(rows, (b, m), (s, c), &mut one);
                leaf.layer.row(leaf.place, s, &one, leaf.of_mut(row));
                self.work.one = one;
            }
        }
        Ok(())
    }

    fn column_squares(&mut self, out: &mut [f64]) -> Result<(), ProductError> {
        out.fill(0.0);
        let (mut part, par) = (Vec::new(), self.par);
        let mut add = |leaf: &Leaf<'_>, d: MatRef<'_, f64>| {
            part.resize(leaf.place.theta.len(), 0.0);
            leaf.layer.squares(leaf.place, d, &mut part, par);
            leaf.of_mut(out).iter_mut().zip(&part).for_each(|(out, part)| *out += part);
        };
        if self.rows_pay() {
            // The products that follow want them, too.
            self.complete_rows();
        }
        if self.work.complete {
            self.leaves.iter().enumerate().for_each(|(l, leaf)| add(leaf, self.d_of(l)));
        } else {
            self.sweep(|_, _, _, leaf, d| add(leaf, d));
        }
        Ok(())
    }

    fn row_gram(&mut self, gram: &mut Mat<f64>, par: Par) -> Result<(), ProductError> {
        self.complete_rows();
        let (b, m) = self.batch();
        make_square("J J^T", gram, b * m)?;
        let shared: Vec<Option<Mat<f64>>> =
            self.leaves.iter().map(|leaf| leaf.layer.shared(leaf.place, par)).collect();
        let together = (TILE / b).clamp(1, m);
        let size = together * b;
        let mut tile = Tile { product: Mat::zeros(size, size), sum: Mat::zeros(size, size) };
        let from = |start: usize| start..(start + together).min(m);
        for of in (0..m).step_by(together).map(from) {
            for with in (0..=of.start).step_by(together).map(from) {
                self.gram_tile(&of, &with, &shared, &mut tile);
                tile.place(&of, &with, (b, m), gram);
            }
        }
        for l in (0..shared.len()).filter(|&l| shared[l].is_none()) {
            self.add_gram_of_rows(l, gram, par);
        }
        Ok(())
    }
}

/// What [`LayeredJacobian::gram_tile`] works in.
struct Tile {
    product: Mat<f64>,
    sum: Mat<f64>,
}

impl Tile {
    /// Copies the sum and its transpose into the Gram matrix, whose rows are sample-major (s·m + c).
    fn place(&self, of: &Range<usize>, with: &Range<usize>, (b, m): (usize, usize), gram: &mut Mat<f64>) {
        for (k, d) in with.clone().enumerate() {
            for t in 0..b {
                let column = gram.col_as_slice_mut(t * m + d);
                let values = self.sum.col_as_slice(k * b + t).chunks_exact(b);
                for (c, values) in of.clone().zip(values) {
                    column[c..].iter_mut().step_by(m).zip(values).for_each(|(k, &value)| *k = value);
                }
            }
        }
        if of == with {
            return;
        }
        for (i, c) in of.clone().enumerate() {
            for s in 0..b {
                let column = gram.col_as_slice_mut(s * m + c);
                for (k, d) in with.clone().enumerate() {
                    for (t, entry) in column[d..].iter_mut().step_by(m).enumerate() {
                        *entry = self.sum[(i * b + s, k * b + t)];
                    }
                }
            }
        }
    }
}

/// `sum` += `shared` ∘ `product`, with `shared` (b × b) once for each pair of outcomes.
fn add_shared(mut sum: MatMut<'_, f64>, product: MatRef<'_, f64>, shared: &Mat<f64>) {
    let b = shared.nrows();
    vectorized(
        #[inline(always)]
        || {
            for j in 0..product.ncols() {
                let shared = shared.col_as_slice(j % b);
                let sums = column_mut(sum.rb_mut(), j).chunks_exact_mut(b);
                for (sums, products) in sums.zip(column(product, j).chunks_exact(b)) {
                    for ((sum, product), shared) in sums.iter_mut().zip(products).zip(shared) {
                        *sum += product * shared;
                    }
                }
            }
        },
    );
}

/// Row (s, c) of Dₗ, which is kept component-major, into `one`.
fn gather(rows: &[f64], (b, m): (usize, usize), (s, c): (usize, usize), one: &mut Vec<f64>) {
    one.clear();
    one.extend(rows.chunks_exact(b * m).map(|of_output| of_output[c * b + s]));
}
