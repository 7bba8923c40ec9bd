//! SOAP: Adam in the eigenbasis of Shampoo's preconditioner, layer by layer.
//!
//! G is a layer's gradient as a matrix, outputs × (inputs + 1): the bias is the weight of a constant input, as in
//! [hig-kron](super::kron). With means that forget at the rate β_s:
//!
//! L ← β_s L + (1−β_s) GGᵀ,  R ← β_s R + (1−β_s) GᵀG,  L ≈ Q_L Λ Q_Lᵀ,  R ≈ Q_R Λ Q_Rᵀ
//! G' = Q_Lᵀ G Q_R,  Δ' = [Adam](super::adam)'s direction for G',  θ ← θ − η·(Q_L Δ' Q_Rᵀ + λθ)
//!
//! The first step makes the bases from its gradient, largest eigenvalue first, and leaves θ alone: in its own
//! eigenbasis a gradient is diagonal, and Adam would give the round-off beside the diagonal the same size. Every
//! `frequency` steps a step of power iteration follows: Q ← the orthogonal factor of LQ, its columns in the order of
//! the eigenvalues that QᵀLQ estimates. Adam's mean gradient is turned into the new basis, its mean square is put into
//! the new order. A side wider than `max_width` keeps the identity. So does one whose first decomposition does not
//! converge, until power iteration takes over.
//!
//! A layer's step costs 6·out·in·(out + in) operations besides the gradient; power iteration costs half as much again
//! as such a step, and the first bases an eigendecomposition a side. Memory 2P for Adam, and 2(out² + in²) a layer. A
//! problem that is not made of such layers is refused: without matrices SOAP is Adam, and comparing the two would
//! mislead.
//!
//! Source: Vyas et al., *SOAP: Improving and Stabilizing Shampoo using Adam*, arXiv 2409.11321, 2024, and its code,
//! where biases are left to Adam. The defaults are the paper's; λ and the widest side are the code's.

use std::io::Write;

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::matmul::matmul;
use faer::linalg::{householder, qr};
use faer::{Accum, Conj, Mat, MatMut, MatRef, Par, Spec};
use serde::{Deserialize, Serialize};

use super::adam::Moments;
use super::first_order::layers;
use super::state::matrix;
use super::{
    Adam, AdamSettings, Context, FirstOrder, Numbers, Optimizer, Rule, Setup, Sizes, State, StateError,
};
use crate::error::{SettingError, ShapeError};
use crate::fault::StepError;
use crate::linear::threads::par;
use crate::linear::vectors::{add, dot, power_of_two_below};
use crate::problem::{FactorShape, Problem};
use crate::spectral::symmetric_eigen;

/// Settings of [`Soap`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SoapSettings {
    /// Learning rate η.
    pub learning_rate: f64,
    /// Adam's β₁.
    pub beta1: f64,
    /// Adam's β₂.
    pub beta2: f64,
    /// Decay rate β_s of L and R.
    pub shampoo_beta: f64,
    /// Adam's ε.
    pub epsilon: f64,
    /// Weight decay λ.
    pub weight_decay: f64,
    /// Steps between two steps of power iteration.
    pub frequency: u32,
    /// The widest side of a layer that gets an eigenbasis.
    pub max_width: usize,
}

impl Default for SoapSettings {
    fn default() -> Self {
        Self {
            learning_rate: 3e-3,
            beta1: 0.95,
            beta2: 0.95,
            shampoo_beta: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.01,
            frequency: 10,
            max_width: 10_000,
        }
    }
}

impl Setup for SoapSettings {
    const NAME: &'static str = "soap";
    const ABOUT: &'static str = "adam in the eigenbasis of each layer's mean squared gradient";
    const STREAMS: bool = true;

    fn build(self, context: &Context) -> Result<Box<dyn Optimizer>, SettingError> {
        Ok(Box::new(FirstOrder::new(Soap::new(self)?.on_threads(context.threads))))
    }

    /// A gradient; two turns and a sum of squares on both sides.
    fn passes(&self, sizes: &Sizes) -> f64 {
        let both = |layer: &FactorShape| {
            let (o, i) = (layer.outputs as f64, layer.columns() as f64);
            o * i * (self.squares(o) / o + self.squares(i) / i)
        };
        let products: f64 = matrices(&sizes.layers).iter().map(both).sum();
        2.0 + 3.0 * products / (sizes.work as f64 * sizes.batch as f64).max(1.0)
    }

    /// Two moments, the gradient, and θ before the step; L, R and their bases, and as much while these are made.
    fn numbers(&self, sizes: &Sizes) -> Numbers {
        let p = sizes.parameters as f64;
        let layers = matrices(&sizes.layers);
        let widths = layers.iter().flat_map(|layer| [layer.outputs, layer.columns()]);
        let factors: f64 = widths.map(|side| self.squares(side as f64)).sum();
        Numbers { working: 5.0 * p + 4.0 * factors, saved: 3.0 * p + 2.0 * factors, ..Numbers::default() }
    }
}

impl SoapSettings {
    /// Entries of a basis of a side so wide.
    fn squares(&self, side: f64) -> f64 {
        if side <= self.max_width as f64 { side * side } else { 0.0 }
    }
}

/// Vectors of parameters, such as the scales of a layer norm, have no second side: they are Adam's.
fn matrices(layers: &[FactorShape]) -> Vec<FactorShape> {
    layers.iter().filter(|layer| layer.inputs > 0).copied().collect()
}

/// SOAP with its moments and bases.
#[derive(Debug, Clone)]
pub struct Soap {
    settings: SoapSettings,
    par: Par,
    adam: Adam,
    memory: Memory,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Memory {
    /// Whether a first gradient has made the bases.
    begun: bool,
    layers: Vec<Layer>,
}

impl Soap {
    /// With these settings, on one thread.
    ///
    /// # Errors
    /// As [`Adam::new`], and when β_s is outside \[0, 1), λ is negative or not finite, or `frequency` or `max_width` is
    /// 0.
    pub fn new(settings: SoapSettings) -> Result<Self, SettingError> {
        let SoapSettings { learning_rate, beta1, beta2, epsilon, .. } = settings;
        let adam = Adam::new(AdamSettings { learning_rate, beta1, beta2, epsilon })?;
        SettingError::check_fraction("shampoo_beta", settings.shampoo_beta)?;
        SettingError::check_decay("weight_decay", settings.weight_decay)?;
        if settings.frequency == 0 {
            return Err(SettingError::new("frequency", 0, "at least 1"));
        }
        if settings.max_width == 0 {
            return Err(SettingError::new("max_width", 0, "at least 1"));
        }
        Ok(Self { settings, par: Par::Seq, adam, memory: Memory::default() })
    }

    /// The same, its linear algebra on so many threads of the current rayon pool.
    #[must_use]
    pub fn on_threads(self, threads: usize) -> Self {
        Self { par: par(threads), ..self }
    }
}

impl Rule for Soap {
    fn learning_rate(&self) -> f64 {
        self.adam.learning_rate()
    }

    fn prepare(&mut self, problem: &mut dyn Problem) -> Result<(), StepError> {
        let shapes = matrices(&layers(problem, SoapSettings::NAME)?);
        let all = &mut self.memory.layers;
        if all.is_empty() {
            all.extend(shapes.iter().map(|&shape| Layer::new(shape, self.settings.max_width)));
        }
        ShapeError::check("soap's memory", "layers", shapes.len(), all.len())?;
        all.iter_mut().zip(shapes).try_for_each(|(layer, shape)| layer.fit(shape))?;
        Ok(())
    }

    fn direct(&mut self, theta: &[f64], gradient: &mut [f64]) {
        let Self { settings, par, adam, memory: Memory { begun, layers } } = self;
        let par = *par;
        for layer in &mut *layers {
            layer.absorb(gradient, settings.shampoo_beta, par);
        }
        if !*begun {
            for side in layers.iter_mut().flat_map(|layer| [&mut layer.left, &mut layer.right]) {
                side.begin(par);
            }
            *begun = true;
            gradient.fill(0.0);
            return;
        }
        for layer in &mut *layers {
            layer.turn(gradient, Turn::Into, par);
        }
        adam.direct(theta, gradient);
        for layer in &mut *layers {
            layer.turn(gradient, Turn::OutOf, par);
        }
        add(gradient, settings.weight_decay, theta);
        let moments = adam.moments_mut();
        if moments.steps.is_multiple_of(settings.frequency) {
            for layer in layers {
                layer.iterate(moments, par);
            }
        }
    }

    fn save_to(&self, out: &mut dyn Write) -> std::io::Result<()> {
        State::write_within(&|out| self.adam.save_to(out), out)?;
        State::write(&self.memory, out)
    }

    fn restore(&mut self, state: &State, parameters: usize) -> Result<(), StateError> {
        let (adam, memory): (State, Memory) = state.read()?;
        self.adam.restore(&adam, parameters)?;
        let sides = memory.layers.iter().flat_map(|layer| [&layer.left, &layer.right]);
        if !sides.into_iter().all(|side| side.is_plausible(memory.begun)) {
            return Err(StateError::refused("bases"));
        }
        self.memory = memory;
        Ok(())
    }
}

/// L and R of a layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Layer {
    left: Side,
    right: Side,
    /// Where the layer's parameters start in θ.
    #[serde(skip)]
    offset: usize,
    #[serde(skip, default = "Mat::new")]
    product: Mat<f64>,
}

/// To the eigenbasis or from it.
#[derive(Debug, Clone, Copy)]
enum Turn {
    Into,
    OutOf,
}

impl Layer {
    fn new(shape: FactorShape, max_width: usize) -> Self {
        let side = |size| Side::new(size, max_width);
        let (left, right) = (side(shape.outputs), side(shape.columns()));
        Self { left, right, offset: shape.offset, product: Mat::new() }
    }

    /// Refuses what was saved for another network.
    fn fit(&mut self, shape: FactorShape) -> Result<(), ShapeError> {
        let (o, i) = (shape.outputs, shape.columns());
        ShapeError::check("soap's memory of a layer", "rows", o, self.left.size)?;
        ShapeError::check("soap's memory of a layer", "columns", i, self.right.size)?;
        self.offset = shape.offset;
        if self.product.shape() != (o, i) {
            self.product = Mat::zeros(o, i);
        }
        Ok(())
    }

    fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.left.size * self.right.size
    }

    /// L ← β_s L + (1−β_s) GGᵀ, and R.
    fn absorb(&mut self, gradient: &[f64], beta: f64, par: Par) {
        let g = MatRef::from_column_major_slice(&gradient[self.range()], self.left.size, self.right.size);
        self.left.absorb(g, beta, par);
        self.right.absorb(g.transpose(), beta, par);
    }

    /// X ← Q_Lᵀ X Q_R, or Q_L X Q_Rᵀ, for this layer's part X of `values` (P).
    fn turn(&mut self, values: &mut [f64], turn: Turn, par: Par) {
        let (range, Self { left, right, product, .. }) = (self.range(), self);
        let mut x = MatMut::from_column_major_slice_mut(&mut values[range], left.size, right.size);
        let (left, right) = (left.basis.as_ref(), right.basis.as_ref());
        let (left, right) = match turn {
            Turn::Into => (left.transpose(), right),
            Turn::OutOf => (left, right.transpose()),
        };
        if left.nrows() > 0 {
            matmul(&mut *product, Accum::Replace, left, &x, 1.0, par);
            x.copy_from(&*product);
        }
        if right.nrows() > 0 {
            matmul(&mut *product, Accum::Replace, &x, right, 1.0, par);
            x.copy_from(&*product);
        }
    }

    /// A step of power iteration on both sides, and the moments in the bases that it makes.
    fn iterate(&mut self, moments: &mut Moments, par: Par) {
        self.turn(&mut moments.first, Turn::OutOf, par);
        let (rows, columns) = (self.left.iterate(par), self.right.iterate(par));
        self.turn(&mut moments.first, Turn::Into, par);
        let range = self.range();
        let mut second =
            MatMut::from_column_major_slice_mut(&mut moments.second[range], rows.len(), columns.len());
        self.product.copy_from(&second);
        for (j, &column) in columns.iter().enumerate() {
            for (i, &row) in rows.iter().enumerate() {
                second[(i, j)] = self.product[(row, column)];
            }
        }
    }
}

/// L and Q_L, or R and Q_R; without entries where the side is too wide.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Side {
    size: usize,
    #[serde(with = "matrix")]
    mean: Mat<f64>,
    #[serde(with = "matrix")]
    basis: Mat<f64>,
}

impl Side {
    fn new(size: usize, max_width: usize) -> Self {
        let width = if size > max_width { 0 } else { size };
        Self { size, mean: Mat::zeros(width, width), basis: Mat::new() }
    }

    /// Whether it can have been saved, before or after the first step.
    fn is_plausible(&self, begun: bool) -> bool {
        let width = self.mean.nrows();
        let square = |matrix: &Mat<f64>, size| matrix.shape() == (size, size);
        let basis = if begun { width } else { 0 };
        [0, self.size].contains(&width) && square(&self.mean, width) && square(&self.basis, basis)
    }

    fn absorb(&mut self, g: MatRef<'_, f64>, beta: f64, par: Par) {
        if self.mean.nrows() > 0 {
            self.mean *= faer::Scale(beta);
            matmul(&mut self.mean, Accum::Add, g, g.transpose(), 1.0 - beta, par);
        }
    }

    /// The first basis: eigenvectors, that of the largest eigenvalue first.
    fn begin(&mut self, par: Par) {
        let n = self.mean.nrows();
        let unit = 1.0 / power_of_two_below(self.mean.norm_max());
        let scaled = faer::Scale(unit) * &self.mean;
        self.basis = match symmetric_eigen(scaled.as_ref(), par) {
            Ok((_, q)) => Mat::from_fn(n, n, |i, j| q[(i, n - 1 - j)]),
            Err(_) => Mat::identity(n, n),
        };
    }

    /// Q ← the orthogonal factor of LQ; returns which old column each new one came from.
    fn iterate(&mut self, par: Par) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.size).collect();
        let n = self.mean.nrows();
        if n == 0 {
            return order;
        }
        let mut product = Mat::zeros(n, n);
        let unit = 1.0 / power_of_two_below(self.mean.norm_max());
        matmul(&mut product, Accum::Replace, &self.mean, &self.basis, unit, par);
        let estimates: Vec<f64> =
            (0..n).map(|j| dot(self.basis.col_as_slice(j), product.col_as_slice(j))).collect();
        order.sort_by(|&a, &b| estimates[b].total_cmp(&estimates[a]));
        self.basis = orthogonal_factor(Mat::from_fn(n, n, |i, j| product[(i, order[j])]), par);
        order
    }
}

/// Q of A = QR for a square A.
fn orthogonal_factor(mut a: Mat<f64>, par: Par) -> Mat<f64> {
    let n = a.nrows();
    let block = qr::no_pivoting::factor::recommended_block_size::<f64>(n, n);
    let mut factors = Mat::zeros(block, n);
    let scratch = qr::no_pivoting::factor::qr_in_place_scratch::<f64>(n, n, block, par, Spec::default());
    let mut memory = MemBuffer::new(scratch);
    let stack = MemStack::new(&mut memory);
    qr::no_pivoting::factor::qr_in_place(a.as_mut(), factors.as_mut(), par, stack, Spec::default());
    let mut q = Mat::identity(n, n);
    let scratch =
        householder::apply_block_householder_sequence_on_the_left_in_place_scratch::<f64>(n, block, n);
    let mut memory = MemBuffer::new(scratch);
    let stack = MemStack::new(&mut memory);
    householder::apply_block_householder_sequence_on_the_left_in_place_with_conj(
        a.as_ref(),
        factors.as_ref(),
        Conj::No,
        q.as_mut(),
        par,
        stack,
    );
    q
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_orthogonal_factor_of_a_matrix_of_any_rank_is_orthogonal() {
        for rank in [0, 1, 3, 7] {
            let of = |i: usize, j: usize| ((i * 7 + j * 3 + i * j) as f64).sin();
            let a = Mat::from_fn(7, 7, |i, j| (0..rank).map(|r| of(i, r) * of(j, r + 9)).sum::<f64>());
            let q = orthogonal_factor(a.clone(), Par::Seq);
            let off = (q.transpose() * &q - Mat::<f64>::identity(7, 7)).norm_max();
            assert!(off < 1e-14, "{rank}: {off:e}");
            // R is zero below the diagonal.
            let r = q.transpose() * &a;
            let below = (0..7).flat_map(|j| (j + 1..7).map(move |i| (i, j))).map(|at| r[at].abs());
            let below = below.fold(0.0, f64::max);
            assert!(below < 1e-13, "{rank}: {below:e}");
        }
    }
}
