//! J of simulator ∘ network over a mini-batch, by layers: products, rows and Gram matrix without J.
//!
//! With aₗ (b × in) the input of layer l and Dₗ (n × out) the outcomes' derivatives with respect to what the layer
//! puts out before its activation, row r = (s, c) of J holds Dₗ[r, ·] ⊗ aₗ[s, ·] for the weights of layer l and
//! Dₗ[r, ·] for its biases. D of the last layer is the simulator's block ∂y/∂z, the others follow by
//! Dₗ₋₁ = (Dₗ Wₗ) ∘ σ′.
//!
//! | what | operations |
//! |---|---|
//! | all Dₗ, once | 2nP |
//! | J v or Jᵀ u by sweeps through the network | 4bP + 2nq |
//! | J v or Jᵀ u by Dₗ | 2bP + 2n·Σwidths |
//! | K = J Jᵀ = Σₗ (aₗaₗᵀ + 1) ∘ (Dₗ Dₗᵀ) | n²·Σwidths |
//! | rows of J | P each |
//!
//! Memory: the activations, and m times as much for the Dₗ when they are wanted.
//!
//! Source of the layer-wise Gram matrix: Novak, Sohl-Dickstein, Schoenholz, *Fast finite width neural tangent
//! kernel*, ICML 2022.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};

use super::Jacobian;
use crate::columns::{from_rows, to_rows, vectorized};
use crate::network::{Mlp, Pass, affine, layer_gradient};
use crate::simulator::{Simulator, all_pairs, block_cotangent, block_tangent, coupled_pairs};

/// Few of the pairs of control and outcome are coupled when at most one in so many is.
const FEW: usize = 4;

/// Products with J that one factorization is expected to ask for; decides whether all Dₗ pay for themselves.
const EXPECTED_PRODUCTS: usize = 32;

/// The Jacobian of one mini-batch at one θ, borrowed from a [`Problem`](crate::Problem).
pub struct LayeredJacobian<'a> {
    pub(crate) network: &'a Mlp,
    pub(crate) theta: &'a [f64],
    pub(crate) pass: &'a mut Pass,
    pub(crate) room: &'a mut Room,
    pub(crate) par: Par,
}

/// What a [`LayeredJacobian`] works in; kept from step to step.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    /// Dₗ of each layer, n × out column by column, rows component-major (c·b + s): so a column is also m columns of
    /// b samples, and the simulator's block is Dₗ of the last layer as it stands.
    rows: Vec<Vec<f64>>,
    /// Of each layer, the pairs (output of the layer, outcome) that Dₗ couples.
    pairs: Vec<Vec<(usize, usize)>>,
    /// Of each outcome, the controls it depends on, where these are few.
    few: Option<Vec<Vec<usize>>>,
    /// Whether `rows` holds more than the last layer's.
    complete: bool,
    outcome: Mat<f64>,
    control: Mat<f64>,
    layer: Mat<f64>,
    accumulated: Mat<f64>,
}

impl Room {
    pub(crate) fn new(network: &Mlp, simulator: &dyn Simulator, samples: usize) -> Self {
        let outcomes = simulator.outcomes();
        let coupled = coupled_pairs(simulator);
        let few = (FEW * coupled.len() <= outcomes * simulator.controls()).then(|| {
            let mut of_outcome = vec![Vec::new(); outcomes];
            for &(j, c) in &coupled {
                of_outcome[c].push(j);
            }
            of_outcome
        });
        let mut pairs: Vec<_> =
            network.layers().iter().map(|layer| all_pairs(layer.outputs, outcomes)).collect();
        if let Some(last) = pairs.last_mut() {
            *last = coupled;
        }
        let widest = network.layers().iter().map(|layer| layer.outputs).max().unwrap_or(0);
        Self {
            rows: vec![Vec::new(); network.layers().len()],
            pairs,
            few,
            complete: false,
            outcome: Mat::zeros(samples, outcomes),
            control: Mat::zeros(samples, network.outputs()),
            layer: Mat::zeros(samples, widest),
            accumulated: Mat::zeros(samples, outcomes),
        }
    }

    /// Room for the simulator's block, b × q·m; forgets the rows of the last θ.
    pub(crate) fn block_mut(&mut self) -> MatMut<'_, f64> {
        let (b, m, q) = (self.outcome.nrows(), self.outcome.ncols(), self.control.ncols());
        self.complete = false;
        let block = self.rows.last_mut().expect("a network has a layer");
        block.resize(b * m * q, 0.0);
        MatMut::from_column_major_slice_mut(block, b, q * m)
    }
}

impl LayeredJacobian<'_> {
    /// The simulator's blocks ∂y/∂z, b × q·m: column j·m + c holds ∂y_c/∂z_j of every sample.
    #[must_use]
    pub fn blocks(&self) -> MatRef<'_, f64> {
        let (b, m) = self.shape();
        let block = &self.room.rows[self.network.layers().len() - 1];
        MatRef::from_column_major_slice(block, b, self.network.outputs() * m)
    }

    /// The block ∂y/∂z of sample `s`, m × q.
    pub(crate) fn block(&self, s: usize) -> Mat<f64> {
        let (_, m) = self.shape();
        let blocks = self.blocks();
        Mat::from_fn(m, self.network.outputs(), |c, j| blocks[(s, j * m + c)])
    }

    /// `out` (P) = J_networkᵀ z̄ for z̄ (b × q): the gradient that a cotangent of the controls makes, the simulator left out.
    pub fn network_transpose(&mut self, cotangent: MatRef<'_, f64>, out: &mut [f64]) {
        self.pass.backward(self.network, self.theta, cotangent, out, self.par);
    }

    /// Samples b, and outcome components m of each.
    fn shape(&self) -> (usize, usize) {
        (self.room.outcome.nrows(), self.room.outcome.ncols())
    }

    /// Whether products by all Dₗ, their making included, cost less than sweeps.
    fn rows_pay(&self) -> bool {
        let (_, m) = self.shape();
        let p = self.network.parameters();
        let hidden: usize =
            self.network.layers().iter().map(|layer| layer.outputs).sum::<usize>() - self.network.outputs();
        p > m * hidden && EXPECTED_PRODUCTS * (p - m * hidden) > m * p
    }

    /// Dₗ of every layer.
    fn complete_rows(&mut self) {
        if self.room.complete {
            return;
        }
        let (b, m) = self.shape();
        let layers = self.network.layers();
        for l in (1..layers.len()).rev() {
            let layer = &layers[l];
            let (before, after) = self.room.rows.split_at_mut(l);
            let rows = MatRef::from_column_major_slice(&after[0], b * m, layer.outputs);
            before[l - 1].resize(b * m * layer.inputs, 0.0);
            let mut next = MatMut::from_column_major_slice_mut(&mut before[l - 1], b * m, layer.inputs);
            matmul(&mut next, Accum::Replace, rows, layer.weight(self.theta), 1.0, self.par);
            let slopes = &self.pass.slopes[l - 1];
            for (j, column) in before[l - 1].chunks_exact_mut(b * m).enumerate() {
                for block in column.chunks_exact_mut(b) {
                    for (d, slope) in block.iter_mut().zip(slopes.col_as_slice(j)) {
                        *d *= slope;
                    }
                }
            }
        }
        self.room.complete = true;
    }

    /// Σ over components of the Gram matrix's block (c, c′) of b × b, into `sum`.
    fn gram_block(
        &self,
        (c, d): (usize, usize),
        inner: &[Mat<f64>],
        product: &mut Mat<f64>,
        sum: &mut Mat<f64>,
    ) {
        let (b, m) = self.shape();
        let last = self.network.layers().len() - 1;
        sum.fill(0.0);
        for (l, (layer, inner)) in self.network.layers().iter().zip(inner).enumerate() {
            let rows = MatRef::from_column_major_slice(&self.room.rows[l], b * m, layer.outputs);
            let (left, right) = (rows.subrows(c * b, b), rows.subrows(d * b, b));
            match &self.room.few {
                Some(controls) if l == last => {
                    let mut shared = controls[c].iter().filter(|j| controls[d].contains(j)).peekable();
                    if shared.peek().is_none() {
                        continue;
                    }
                    product.fill(0.0);
                    for &j in shared {
                        let (left, right) = (left.subcols(j, 1), right.subcols(j, 1));
                        matmul(&mut *product, Accum::Add, left, right.transpose(), 1.0, self.par);
                    }
                }
                _ => matmul(&mut *product, Accum::Replace, left, right.transpose(), 1.0, self.par),
            }
            vectorized(
                #[inline(always)]
                || {
                    for s in 0..b {
                        let pairs = product.col_as_slice(s).iter().zip(inner.col_as_slice(s));
                        for (sum, (product, inner)) in sum.col_as_slice_mut(s).iter_mut().zip(pairs) {
                            *sum += product * inner;
                        }
                    }
                },
            );
        }
    }
}

impl Jacobian for LayeredJacobian<'_> {
    fn rows(&self) -> usize {
        self.room.outcome.nrows() * self.room.outcome.ncols()
    }

    fn columns(&self) -> usize {
        self.network.parameters()
    }

    fn apply(&mut self, v: &[f64], out: &mut [f64]) {
        let last = self.network.layers().len() - 1;
        if self.rows_pay() {
            self.complete_rows();
            let room = &mut *self.room;
            room.accumulated.fill(0.0);
            for (l, layer) in self.network.layers().iter().enumerate() {
                let mut tangent = room.layer.as_mut().subcols_mut(0, layer.outputs);
                let input = self.pass.inputs[l].as_ref();
                affine(input, layer.weight(v), layer.bias(v), tangent.as_mut(), self.par);
                block_tangent(&room.rows[l], &room.pairs[l], tangent.as_ref(), room.accumulated.as_mut());
            }
        } else {
            let room = &mut *self.room;
            self.pass.tangent(self.network, self.theta, v, room.control.as_mut(), self.par);
            room.accumulated.fill(0.0);
            block_tangent(
                &room.rows[last],
                &room.pairs[last],
                room.control.as_ref(),
                room.accumulated.as_mut(),
            );
        }
        to_rows(self.room.accumulated.as_ref(), out);
    }

    fn apply_transpose(&mut self, u: &[f64], out: &mut [f64]) {
        let last = self.network.layers().len() - 1;
        let rows_pay = self.rows_pay();
        if rows_pay {
            self.complete_rows();
        }
        let room = &mut *self.room;
        from_rows(u, room.outcome.as_mut());
        if rows_pay {
            for (l, layer) in self.network.layers().iter().enumerate() {
                let mut delta = room.layer.as_mut().subcols_mut(0, layer.outputs);
                block_cotangent(&room.rows[l], &room.pairs[l], room.outcome.as_ref(), delta.as_mut());
                layer_gradient(delta.as_ref(), self.pass.inputs[l].as_ref(), layer.parts_mut(out), self.par);
            }
        } else {
            block_cotangent(
                &room.rows[last],
                &room.pairs[last],
                room.outcome.as_ref(),
                room.control.as_mut(),
            );
            self.pass.backward(self.network, self.theta, room.control.as_ref(), out, self.par);
        }
    }

    fn fill_rows(&mut self, first: usize, out: &mut [f64]) {
        self.complete_rows();
        let (b, m) = self.shape();
        for (r, row) in out.chunks_exact_mut(self.network.parameters()).enumerate() {
            let (s, c) = ((first + r) / m, (first + r) % m);
            for (l, layer) in self.network.layers().iter().enumerate() {
                let derivative = |o: usize| self.room.rows[l][o * b * m + c * b + s];
                let block = &mut row[layer.offset..layer.offset + layer.parameters()];
                let (weights, bias) = block.split_at_mut(layer.weights());
                for (o, bias) in bias.iter_mut().enumerate() {
                    *bias = derivative(o);
                }
                for (i, column) in weights.chunks_exact_mut(layer.outputs).enumerate() {
                    let a = self.pass.inputs[l][(s, i)];
                    for (weight, d) in column.iter_mut().zip(&*bias) {
                        *weight = a * d;
                    }
                }
            }
        }
    }

    fn row_gram(&mut self, par: Par) -> Mat<f64> {
        self.complete_rows();
        let (b, m) = self.shape();
        let inner: Vec<Mat<f64>> = self
            .pass
            .inputs
            .iter()
            .map(|a| {
                let mut inner = Mat::full(b, b, 1.0);
                matmul(&mut inner, Accum::Add, a, a.transpose(), 1.0, par);
                inner
            })
            .collect();
        let mut gram = Mat::zeros(b * m, b * m);
        let (mut product, mut sum) = (Mat::zeros(b, b), Mat::zeros(b, b));
        for c in 0..m {
            for d in 0..=c {
                self.gram_block((c, d), &inner, &mut product, &mut sum);
                for t in 0..b {
                    let column = gram.col_as_slice_mut(t * m + d);
                    for (k, &value) in column[c..].iter_mut().step_by(m).zip(sum.col_as_slice(t)) {
                        *k = value;
                    }
                    if c != d {
                        let column = gram.col_as_slice_mut(t * m + c);
                        for (s, k) in column[d..].iter_mut().step_by(m).enumerate() {
                            *k = sum[(t, s)];
                        }
                    }
                }
            }
        }
        gram
    }
}
