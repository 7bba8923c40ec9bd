//! y[o, p] = b[o] + Σ_{c,k} W[o, c, k] x[c, p·stride + k − before]: convolution on a line or a grid, as machine
//! learning calls that correlation.
//!
//! The same weights act on a patch of the input at each position. With X (positions × channels·taps) the patches of a
//! sample, y = X Wᵀ + b, so that all is done by matrix products of patches, a bounded number of them at a time:
//!
//! | what | by | operations for a sample |
//! |---|---|---|
//! | forward | X Wᵀ | 2·out·in·taps·R, R positions |
//! | tangent | X Vᵀ + Ẋ Wᵀ | twice that at most |
//! | gradient, a row of J | Dᵀ X, D (R × out) | as forward |
//! | pull | D W, added to where the patches came from | as forward |
//!
//! A row of J sums over positions. So its inner product with another row is a double sum over positions, and no product
//! of inner products as in a dense layer: J Jᵀ is made of rows, which have few entries because weights are shared. The
//! rows of Kronecker factors are the positions' patches and cotangents (KFC; KFAC-expand): Σ δδᵀ over samples and
//! positions, times the mean of aaᵀ.
//!
//! θ holds W (out × in·taps) column by column: the input channel is faster than the tap, the tap's row faster than its
//! column. Sources: Chellapilla, Puri, Simard, *High Performance Convolutional Neural Networks for Document
//! Processing*, 2006 (patches); Grosse, Martens, *A Kronecker-factored approximate Fisher matrix for convolution
//! layers*, ICML 2016; Eschenhagen et al., *Kronecker-Factored Approximate Curvature for Modern Neural Network
//! Architectures*, NeurIPS 2023.

mod patches;

use faer::linalg::matmul::matmul;
use faer::prelude::ReborrowMut;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use rand::Rng;
use serde::{Deserialize, Serialize};

use self::patches::{Chunk, Patches};
use super::Init;
use super::dense::lane_sum;
use super::image::{Extent, Image};
use super::layer::{FactorRows, FactorShape, FactorVisit, Inner, Layer, Place, Record, Setup, Tensor};
use crate::error::SettingError;
use crate::linear::columns::{column, column_mut, vectorized};

/// What a convolution sees beyond the edges of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Padding {
    /// Zeros; n positions give n/stride, rounded up.
    Zero,
    /// The opposite edge; as many positions.
    Periodic,
    /// Nothing: the kernel stays inside, and n positions give (n − kernel)/stride + 1, rounded down.
    None,
}

/// Settings of [`Convolution`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConvolutionSettings {
    /// `[length]` or `[height, width]` of the input; its channels follow from its width.
    pub shape: Vec<usize>,
    /// Channels of the output.
    pub channels: usize,
    /// Length of the kernel, the same in all directions or one for each.
    pub kernel: Extent,
    /// Distance between two positions of the kernel, the same in all directions or one for each.
    pub stride: Extent,
    /// What is beyond the edges.
    pub padding: Padding,
    /// Whether each channel has a bias.
    pub bias: bool,
}

impl Default for ConvolutionSettings {
    fn default() -> Self {
        Self {
            shape: Vec::new(),
            channels: 16,
            kernel: Extent::All(3),
            stride: Extent::All(1),
            padding: Padding::Zero,
            bias: true,
        }
    }
}

impl Setup for ConvolutionSettings {
    const KIND: &'static str = "convolution";

    fn build(self, inputs: usize, _: &Inner<'_>) -> Result<Box<dyn Layer>, SettingError> {
        Ok(Box::new(Convolution::new(inputs, &self)?))
    }
}

/// A convolution.
#[derive(Debug, Clone)]
pub struct Convolution {
    patches: Patches,
    output: Image,
    bias: bool,
}

impl Convolution {
    /// For an input so wide.
    ///
    /// # Errors
    /// When the shape does not divide the input, the kernel is longer than it, a number is 0, or the weights or outputs
    /// are more than memory can hold.
    ///
    /// # Example
    /// ```
    /// use halfinverse::network::{Convolution, ConvolutionSettings, Layer};
    /// let settings = ConvolutionSettings { shape: vec![32, 32], channels: 8, ..ConvolutionSettings::default() };
    /// let convolution = Convolution::new(2 * 32 * 32, &settings)?;
    /// assert_eq!(convolution.outputs(), 8 * 32 * 32);
    /// assert_eq!(convolution.tensors()[0].shape, [8, 2, 3, 3]);
    /// # Ok::<(), halfinverse::SettingError>(())
    /// ```
    pub fn new(inputs: usize, settings: &ConvolutionSettings) -> Result<Self, SettingError> {
        let ConvolutionSettings { shape, channels, kernel, stride, padding, bias } = settings;
        let input = Image::new(shape, inputs)?;
        let lengths = input.along("kernel", kernel)?;
        let strides = input.along("stride", stride)?;
        if *channels == 0 {
            return Err(SettingError::new("channels", channels, "at least 1"));
        }
        if lengths.iter().zip(input.size()).any(|(&length, size)| length > size) {
            let expected = format!("no longer than the input, whose shape is {:?}", input.shape());
            return Err(SettingError::new("kernel", kernel, expected));
        }
        let patches = Patches::new(input, lengths, strides, *padding);
        let output = input.with(*channels, patches.positions());
        let most = isize::MAX as usize / 8;
        let weights = channels.saturating_mul(patches.width()).saturating_add(*channels);
        if weights > most || output.width() > most {
            return Err(SettingError::new("channels", channels, "few enough for memory to hold the weights"));
        }
        Ok(Self { patches, output, bias: *bias })
    }

    fn weights(&self) -> usize {
        self.output.channels() * self.patches.width()
    }

    /// W (out × in·taps) and b (out), which is empty where there is none.
    fn parts<'a>(&self, theta: &'a [f64]) -> (MatRef<'a, f64>, &'a [f64]) {
        let (weights, bias) = theta.split_at(self.weights());
        (MatRef::from_column_major_slice(weights, self.output.channels(), self.patches.width()), bias)
    }

    /// Output = X Wᵀ + b of x, or that added to it.
    fn apply(
        &self,
        (weight, bias): (MatRef<'_, f64>, &[f64]),
        x: MatRef<'_, f64>,
        accum: Accum,
        mut output: MatMut<'_, f64>,
        par: Par,
    ) {
        let (mut patches, mut y) = (Mat::new(), Mat::new());
        for chunk in self.patches.chunks(0..x.nrows()) {
            self.patches.gather(&chunk, x, &mut patches);
            chunk.fit(&mut y, self.output.channels());
            matmul(&mut y, Accum::Replace, &patches, weight.transpose(), 1.0, par);
            for o in 0..y.ncols() {
                let bias = bias.get(o).copied().unwrap_or(0.0);
                for (p, values) in chunk.parts(y.col_as_slice(o)) {
                    let out = column_mut(output.rb_mut(), o * self.output.positions() + p);
                    let pairs = out[chunk.samples.clone()].iter_mut().zip(values);
                    match accum {
                        Accum::Replace => pairs.for_each(|(out, y)| *out = y + bias),
                        Accum::Add => pairs.for_each(|(out, y)| *out += y + bias),
                    }
                }
            }
        }
    }

    /// Copies the cotangents of a chunk's samples and positions into `delta`, rows as those of patches.
    fn gather(&self, chunk: &Chunk, cotangent: MatRef<'_, f64>, delta: &mut Mat<f64>) {
        chunk.fit(delta, self.output.channels());
        for o in 0..delta.ncols() {
            for (p, values) in chunk.parts_mut(delta.col_as_slice_mut(o)) {
                let of = column(cotangent, o * self.output.positions() + p);
                values.copy_from_slice(&of[chunk.samples.clone()]);
            }
        }
    }

    /// Shows `visit` patches and cotangents of all samples, a chunk at a time.
    fn each(
        &self,
        x: MatRef<'_, f64>,
        cotangent: MatRef<'_, f64>,
        mut visit: impl FnMut(MatRef<'_, f64>, MatRef<'_, f64>),
    ) {
        let (mut patches, mut delta) = (Mat::new(), Mat::new());
        for chunk in self.patches.chunks(0..x.nrows()) {
            self.patches.gather(&chunk, x, &mut patches);
            self.gather(&chunk, cotangent, &mut delta);
            visit(patches.as_ref(), delta.as_ref());
        }
    }
}

impl Layer for Convolution {
    fn inputs(&self) -> usize {
        self.patches.input().width()
    }

    fn outputs(&self) -> usize {
        self.output.width()
    }

    fn parameters(&self) -> usize {
        self.weights() + if self.bias { self.output.channels() } else { 0 }
    }

    fn tensors(&self) -> Vec<Tensor> {
        let mut shape = vec![self.output.channels(), self.patches.input().channels()];
        shape.extend(self.output.directions(self.patches.kernel()));
        let mut tensors = vec![Tensor { name: "weight".to_owned(), shape, offset: 0 }];
        if self.bias {
            let shape = vec![self.output.channels()];
            tensors.push(Tensor { name: "bias".to_owned(), shape, offset: self.weights() });
        }
        tensors
    }

    /// What a unit sees and what sees it are taps times channels.
    fn initialize(&self, init: Init, rng: &mut dyn Rng, theta: &mut [f64]) {
        let fans = (self.patches.width(), self.output.channels() * self.patches.taps());
        init.fill_layer(fans, self.weights(), theta, rng);
    }

    fn forward(
        &self,
        theta: &[f64],
        input: MatRef<'_, f64>,
        _: &mut Record,
        output: MatMut<'_, f64>,
        par: Par,
    ) {
        self.apply(self.parts(theta), input, Accum::Replace, output, par);
    }

    fn tangent(
        &self,
        at: Place<'_>,
        input: Option<MatRef<'_, f64>>,
        v: &[f64],
        mut output: MatMut<'_, f64>,
        par: Par,
    ) {
        self.apply(self.parts(v), at.input, Accum::Replace, output.rb_mut(), par);
        if let Some(input) = input {
            self.apply((self.parts(at.theta).0, &[]), input, Accum::Add, output, par);
        }
    }

    fn pull(&self, at: Place<'_>, cotangent: MatRef<'_, f64>, mut input: MatMut<'_, f64>, par: Par) {
        let (weight, _) = self.parts(at.theta);
        let (mut patches, mut delta) = (Mat::new(), Mat::new());
        input.fill(0.0);
        for chunk in self.patches.chunks(0..cotangent.nrows()) {
            self.gather(&chunk, cotangent, &mut delta);
            chunk.fit(&mut patches, self.patches.width());
            matmul(&mut patches, Accum::Replace, &delta, weight, 1.0, par);
            self.patches.add_back(&chunk, &patches, input.rb_mut());
        }
    }

    fn gradient(&self, at: Place<'_>, cotangent: MatRef<'_, f64>, out: &mut [f64], par: Par) {
        let (weights, bias) = out.split_at_mut(self.weights());
        weights.fill(0.0);
        let (channels, positions) = (self.output.channels(), self.output.positions());
        let mut weights = MatMut::from_column_major_slice_mut(weights, channels, self.patches.width());
        self.each(at.input, cotangent, |patches, delta| {
            matmul(weights.rb_mut(), Accum::Add, delta.transpose(), patches, 1.0, par);
        });
        vectorized(
            #[inline(always)]
            || {
                for (o, b) in bias.iter_mut().enumerate() {
                    *b = (0..positions).map(|p| lane_sum(column(cotangent, o * positions + p))).sum();
                }
            },
        );
    }

    fn row(&self, at: Place<'_>, sample: usize, d: &[f64], out: &mut [f64]) {
        let (channels, positions) = (self.output.channels(), self.output.positions());
        let (weights, bias) = out.split_at_mut(self.weights());
        weights.fill(0.0);
        let mut weights = MatMut::from_column_major_slice_mut(weights, channels, self.patches.width());
        let d = MatRef::from_column_major_slice(d, positions, channels);
        let mut patches = Mat::new();
        for chunk in self.patches.chunks(sample..sample + 1) {
            self.patches.gather(&chunk, at.input, &mut patches);
            let d = d.subrows(chunk.positions.start, chunk.positions.len());
            matmul(weights.rb_mut(), Accum::Add, d.transpose(), &patches, 1.0, Par::Seq);
        }
        bias.iter_mut().enumerate().for_each(|(o, b)| *b = lane_sum(column(d, o)));
    }

    fn work(&self) -> usize {
        self.output.positions().saturating_mul(self.parameters())
    }

    fn factors(&self) -> Vec<FactorShape> {
        let (outputs, inputs) = (self.output.channels(), self.patches.width());
        vec![FactorShape { outputs, inputs, bias: self.bias, positions: self.output.positions(), offset: 0 }]
    }

    fn unroll(&self, at: Place<'_>, cotangent: MatRef<'_, f64>, visit: &mut FactorVisit<'_>) {
        let positions = self.output.positions();
        self.each(at.input, cotangent, |input, cotangent| {
            visit(FactorRows { factor: 0, cotangent, input, positions });
        });
    }
}
