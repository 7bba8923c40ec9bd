//! What a layer of a network can do, for a whole mini-batch at once.
//!
//! A layer maps x (b × inputs) to y (b × outputs) with parameters of its own. What it needs later for its derivatives
//! it keeps in a [`Record`]. Batch matrices have one row per sample and are stored column by column: the samples of a
//! feature are contiguous.
//!
//! | what | when it is asked for |
//! |---|---|
//! | [`Layer::forward`] | every evaluation |
//! | [`Layer::pull`], [`Layer::gradient`] | gradients; Jᵀu; derivatives of the outcomes with respect to y, layer by layer |
//! | [`Layer::tangent`] | J v |
//! | [`Layer::row`], [`Layer::shared`] | stored J; J Jᵀ |
//! | [`Layer::squares`] | lengths of J's columns |
//! | [`Layer::factors`], [`Layer::unroll`] | Kronecker factors |
//!
//! A layer that contains others ([`Composite`]) hands these questions on to them.

use std::any::Any;
use std::fmt::Debug;

use faer::prelude::ReborrowMut;
use faer::{Mat, MatMut, MatRef, Par};
use rand::Rng;
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::Table;

use super::Init;
use crate::error::SettingError;
use crate::linear::columns::{column, column_mut, vectorized};

/// What a layer keeps of a mini-batch between `forward` and the derivatives: anything.
pub type Record = Box<dyn Any + Send + Sync>;

/// Where the derivatives of a layer are taken.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The layer's own parameters.
    pub theta: &'a [f64],
    /// Its input, b × inputs.
    pub input: MatRef<'a, f64>,
    /// What `forward` left there.
    pub record: &'a Record,
}

/// A named part of θ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Its name in files, such as `layers.0.weight`.
    pub name: String,
    /// Its shape. θ holds it with the first index fastest, files with the last one, as PyTorch does.
    pub shape: Vec<usize>,
    /// Where it starts in θ.
    pub offset: usize,
}

impl Tensor {
    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where in θ the entries are, in the order of files.
    pub fn places(&self) -> impl Iterator<Item = usize> {
        let (shape, offset) = (self.shape.clone(), self.offset);
        (0..self.len()).map(move |mut at| {
            // Mixed-radix digits of `at`, the last one fastest.
            let mut place = 0;
            let mut stride = shape.iter().product::<usize>();
            for &length in shape.iter().rev() {
                stride /= length;
                place += at % length * stride;
                at /= length;
            }
            offset + place
        })
    }
}

/// A part of a network.
///
/// Only the first few methods are obligatory for a layer without parameters. Sizes are checked by the network:
/// matrices and slices that a layer is given fit its own numbers. Outputs may hold anything before; they are to be
/// overwritten.
///
/// # Example
/// y = a ∘ x, a learnt factor for each feature:
/// ```
/// use faer::{Mat, MatMut, MatRef, Par};
/// use halfinverse::network::{Init, Layer, Network, Place, Record, Tensor};
/// use halfinverse::objective::SquaredError;
/// use halfinverse::simulator::Scaling;
/// use halfinverse::{Model, NetworkProblem, Samples};
///
/// #[derive(Debug)]
/// struct Gain(usize);
///
/// impl Layer for Gain {
///     fn inputs(&self) -> usize {
///         self.0
///     }
///     fn outputs(&self) -> usize {
///         self.0
///     }
///     fn tensors(&self) -> Vec<Tensor> {
///         vec![Tensor { name: "gain".to_owned(), shape: vec![self.0], offset: 0 }]
///     }
///     fn forward(&self, a: &[f64], x: MatRef<'_, f64>, _: &mut Record, mut y: MatMut<'_, f64>, _: Par) {
///         for (j, s) in (0..self.0).flat_map(|j| (0..x.nrows()).map(move |s| (j, s))) {
///             y[(s, j)] = a[j] * x[(s, j)];
///         }
///     }
///     fn tangent(&self, at: Place<'_>, dx: Option<MatRef<'_, f64>>, da: &[f64], mut dy: MatMut<'_, f64>, _: Par) {
///         for (j, s) in (0..self.0).flat_map(|j| (0..at.input.nrows()).map(move |s| (j, s))) {
///             dy[(s, j)] = da[j] * at.input[(s, j)] + dx.map_or(0.0, |dx| at.theta[j] * dx[(s, j)]);
///         }
///     }
///     fn pull(&self, at: Place<'_>, u: MatRef<'_, f64>, mut x: MatMut<'_, f64>, _: Par) {
///         for (j, row) in (0..self.0).flat_map(|j| (0..u.nrows()).map(move |row| (j, row))) {
///             x[(row, j)] = at.theta[j] * u[(row, j)];
///         }
///     }
///     fn gradient(&self, at: Place<'_>, u: MatRef<'_, f64>, out: &mut [f64], _: Par) {
///         for (j, out) in out.iter_mut().enumerate() {
///             *out = (0..u.nrows()).map(|s| u[(s, j)] * at.input[(s, j)]).sum();
///         }
///     }
/// }
///
/// let network = Network::new(vec![Box::new(Gain(2))])?;
/// let model = Model::new(network, Scaling::new(vec![1.0, 0.1]), SquaredError { factor: 1.0 })?;
/// let x = Mat::from_fn(3, 2, |s, j| (s + 2 * j) as f64 - 1.5);
/// let mut problem = NetworkProblem::new(&model, Samples::new(x, Mat::zeros(3, 0), Mat::zeros(3, 2))?, 1)?;
/// let checks = halfinverse::check::model(&mut problem, &[0.5, -2.0], 1)?;
/// assert!(checks.iter().all(halfinverse::check::Comparison::right));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Layer: Debug + Send + Sync {
    /// Width of the input.
    fn inputs(&self) -> usize;

    /// Width of the output.
    fn outputs(&self) -> usize;

    /// y from x; keeps what the derivatives need in `record`, which held what an earlier call left, or `()`.
    fn forward(
        &self,
        theta: &[f64],
        input: MatRef<'_, f64>,
        record: &mut Record,
        output: MatMut<'_, f64>,
        par: Par,
    );

    /// ẏ = (∂y/∂x) ẋ + (∂y/∂θ) v. ẋ is absent where the input does not move; v is empty for a layer without parameters.
    fn tangent(
        &self,
        at: Place<'_>,
        input: Option<MatRef<'_, f64>>,
        v: &[f64],
        output: MatMut<'_, f64>,
        par: Par,
    );

    /// x̄ = (∂y/∂x)ᵀ ȳ for several cotangents at once: row c·b + s of both is the c-th cotangent of sample s.
    fn pull(&self, at: Place<'_>, cotangent: MatRef<'_, f64>, input: MatMut<'_, f64>, par: Par);

    /// Number of parameters.
    fn parameters(&self) -> usize {
        self.tensors().iter().map(Tensor::len).sum()
    }

    /// Names and shapes of the parameters, in their order, with offsets from the layer's first one.
    fn tensors(&self) -> Vec<Tensor> {
        Vec::new()
    }

    /// Draws the layer's parameters. By default all are 0.
    fn initialize(&self, init: Init, rng: &mut dyn Rng, theta: &mut [f64]) {
        let _ = (init, rng);
        theta.fill(0.0);
    }

    /// `out` = (∂y/∂θ)ᵀ ȳ, summed over samples, for one cotangent ȳ (b × outputs).
    fn gradient(&self, at: Place<'_>, cotangent: MatRef<'_, f64>, out: &mut [f64], par: Par) {
        let _ = (at, cotangent, par);
        out.fill(0.0);
    }

    /// `out` = (∂y/∂θ)ᵀ d for sample `sample` alone and d (outputs). By default by [`Self::gradient`], b times as dear.
    fn row(&self, at: Place<'_>, sample: usize, d: &[f64], out: &mut [f64]) {
        let mut cotangent = Mat::zeros(at.input.nrows(), d.len());
        for (j, &d) in d.iter().enumerate() {
            cotangent[(sample, j)] = d;
        }
        self.gradient(at, cotangent.as_ref(), out, Par::Seq);
    }

    /// S (b × b) where the layer's part of J Jᵀ is S ∘ D Dᵀ: the inner product of the rows that d of sample s makes and
    /// that d′ of sample t makes is S\[s, t\]·d·d′. Without that, as by default, the layer's rows are made once and
    /// multiplied with each other.
    fn shared(&self, at: Place<'_>, par: Par) -> Option<Mat<f64>> {
        let _ = (at, par);
        None
    }

    /// `out` = the squared lengths of the layer's columns of J, for d (n × outputs), whose row c·b + s is the c-th
    /// cotangent of sample s. By default through rows.
    fn squares(&self, at: Place<'_>, d: MatRef<'_, f64>, out: &mut [f64], par: Par) {
        let _ = par;
        out.fill(0.0);
        let (mut row, mut one) = (vec![0.0; out.len()], vec![0.0; d.ncols()]);
        for r in 0..d.nrows() {
            one.iter_mut().enumerate().for_each(|(j, one)| *one = d[(r, j)]);
            self.row(at, r % at.input.nrows(), &one, &mut row);
            out.iter_mut().zip(&row).for_each(|(out, entry)| *out += entry * entry);
        }
    }

    /// Multiplications that [`Self::forward`] takes for a sample. By default one for each parameter.
    fn work(&self) -> usize {
        self.parameters()
    }

    /// The parameters as matrices, first to last, with offsets from the layer's first one, where the layer's part of
    /// JᵀJ has Kronecker factors. By default it has none, and optimizers that need them refuse the network.
    fn factors(&self) -> Vec<FactorShape> {
        Vec::new()
    }

    /// Shows `visit` the rows δ and a of which the Kronecker factors are made: a gradient is Σ δaᵀ over all rows, and
    /// the part of JᵀJ that belongs to a factor about Σ δδᵀ times the mean of aaᵀ. By default cotangent and input of
    /// each sample, for one factor.
    fn unroll(&self, at: Place<'_>, cotangent: MatRef<'_, f64>, visit: &mut FactorVisit<'_>) {
        visit(FactorRows { factor: 0, cotangent, input: at.input, positions: 1 });
    }

    /// σ′ of every unit and sample (b × outputs), where the layer is an activation or bounds its input.
    fn slopes<'a>(&self, record: &'a Record) -> Option<MatRef<'a, f64>> {
        let _ = record;
        None
    }

    /// The layers inside this one, where there are some.
    fn composite(&self) -> Option<&dyn Composite> {
        None
    }
}

/// Settings of a layer, by which a task file makes it. The type's own defaults stand for what a file leaves out.
///
/// One line in the [registry](crate::task::Registry) makes it known by its kind.
pub trait Setup: Serialize + DeserializeOwned + Default + schemars::JsonSchema {
    /// Its name in task files: `kind` of an entry of `network.layers`.
    const KIND: &'static str;

    /// The layer for an input of that width; `inner` makes the layers inside it, one after the other, for an input of
    /// the width given.
    ///
    /// # Errors
    /// The first setting that is out of range, by its own name.
    fn build(self, inputs: usize, inner: &Inner<'_>) -> Result<Box<dyn Layer>, SettingError>;
}

/// Makes layers of their settings, for an input of some width.
pub type Inner<'a> = dyn Fn(&[Table], usize) -> Result<Vec<Box<dyn Layer>>, SettingError> + 'a;

/// A layer with parameters that contains no other, at its place in a network.
#[derive(Clone, Copy)]
pub struct Leaf<'a> {
    /// The layer.
    pub layer: &'a dyn Layer,
    /// Where its parameters start in θ.
    pub offset: usize,
    /// Where its derivatives are taken.
    pub place: Place<'a>,
}

impl Leaf<'_> {
    /// Its part of a vector ordered like θ.
    #[must_use]
    pub fn of<'b>(&self, theta: &'b [f64]) -> &'b [f64] {
        &theta[self.offset..self.offset + self.place.theta.len()]
    }

    /// Its part of a vector ordered like θ, to be written.
    pub fn of_mut<'b>(&self, theta: &'b mut [f64]) -> &'b mut [f64] {
        &mut theta[self.offset..self.offset + self.place.theta.len()]
    }
}

/// Parameters as a matrix: weights, and a bias as one more column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FactorShape {
    /// Rows: of a dense layer the width of its output, of a convolution its channels.
    pub outputs: usize,
    /// Columns of the weights: of a dense layer the width of its input. 0 for a vector of parameters, which is a bias.
    pub inputs: usize,
    /// Whether there is a bias.
    pub bias: bool,
    /// Positions of a sample at which it acts: 1 but for convolutions.
    pub positions: usize,
    /// Where its parameters start in θ.
    pub offset: usize,
}

impl FactorShape {
    /// Columns, the bias included.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.inputs + usize::from(self.bias)
    }

    /// Multiplications that it takes for a sample.
    #[must_use]
    pub fn work(&self) -> f64 {
        (self.outputs * self.columns()) as f64 * self.positions as f64
    }
}

/// Some of the rows that make a mini-batch's Kronecker factors.
#[derive(Clone, Copy)]
pub struct FactorRows<'a> {
    /// Which factor of the layer, or of the network, they belong to. All rows of one come before those of the next.
    pub factor: usize,
    /// δ, rows × outputs.
    pub cotangent: MatRef<'a, f64>,
    /// a, rows × inputs; the constant 1 of a bias is left out.
    pub input: MatRef<'a, f64>,
    /// Rows that each sample makes, those that are not among these included.
    pub positions: usize,
}

/// Sees the rows of which Kronecker factors are made.
pub type FactorVisit<'v> = dyn FnMut(FactorRows<'_>) + 'v;

/// Sees the leaves that a backward sweep passes, each with the cotangent of its output.
pub type Visit<'v> = dyn FnMut(&Leaf<'_>, MatRef<'_, f64>) + 'v;

/// A layer made of others.
pub trait Composite {
    /// As [`Layer::pull`], and shows `visit` every leaf on the way, last to first. `offset` is where the layer's
    /// parameters start in θ.
    fn backward(
        &self,
        at: Place<'_>,
        offset: usize,
        cotangent: MatRef<'_, f64>,
        input: Option<MatMut<'_, f64>>,
        visit: &mut Visit<'_>,
        par: Par,
    );

    /// Adds the leaves inside to `leaves`, first to last.
    fn leaves<'a>(&'a self, at: Place<'a>, offset: usize, leaves: &mut Vec<Leaf<'a>>);

    /// Shows `visit` all layers inside, first to last, each with its first parameter's place in θ.
    fn each(&self, offset: usize, visit: &mut dyn FnMut(&dyn Layer, usize));

    /// Adds the activations inside to `units`, first to last: output and slopes.
    fn units<'a>(&'a self, record: &'a Record, units: &mut Vec<[MatRef<'a, f64>; 2]>);
}

/// `out` = a ∘ s, for several matrices a (b × width each) one below the other and the same s (b × width).
pub(crate) fn multiply(a: MatRef<'_, f64>, s: MatRef<'_, f64>, mut out: MatMut<'_, f64>) {
    let b = s.nrows();
    if b == 0 {
        return;
    }
    vectorized(
        #[inline(always)]
        || {
            for j in 0..a.ncols() {
                let (a, s, out) = (column(a, j), column(s, j), column_mut(out.rb_mut(), j));
                for (out, a) in out.chunks_exact_mut(b).zip(a.chunks_exact(b)) {
                    for ((out, a), s) in out.iter_mut().zip(a).zip(s) {
                        *out = a * s;
                    }
                }
            }
        },
    );
}
