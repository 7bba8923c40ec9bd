//! y = w_c x̂ + b_c with x̂ = (x − mean)/√(variance + ε), mean and variance over all features of the sample.
//!
//! Each feature has a scale w and a shift b of its own, or each channel c of an image has, as in a group norm of one
//! group. With P = (I − 11ᵀ/n − x̂x̂ᵀ/n)/√(variance + ε), which is symmetric, ẋ̂ = P ẋ and x̄ = P (w ∘ ȳ): a few
//! operations for each feature, whichever way. Keeps x̂.
//!
//! A row of J has Σ d x̂ over the features of c for its scale, and Σ d for its shift: each of the two vectors has its
//! mean of squares as a Kronecker factor, exact but for what scale and shift have in common.
//!
//! Sources: Ba, Kiros, Hinton, *Layer Normalization*, 2016; Wu, He, *Group Normalization*, ECCV 2018.

use faer::prelude::{Reborrow, ReborrowMut};
use faer::{Mat, MatMut, MatRef, Par};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::Init;
use super::layer::{FactorRows, FactorShape, FactorVisit, Inner, Layer, Place, Record, Setup, Tensor};
use crate::error::SettingError;
use crate::linear::columns::{column, column_mut, vectorized};

/// Settings of [`LayerNorm`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LayerNormSettings {
    /// Channels of the image, each with one scale and one shift; 0 gives each feature its own.
    pub channels: usize,
    /// ε, added to the variance.
    pub epsilon: f64,
}

impl Default for LayerNormSettings {
    fn default() -> Self {
        Self { channels: 0, epsilon: 1e-5 }
    }
}

impl Setup for LayerNormSettings {
    const KIND: &'static str = "layer-norm";

    fn build(self, inputs: usize, _: &Inner<'_>) -> Result<Box<dyn Layer>, SettingError> {
        Ok(Box::new(LayerNorm::new(inputs, &self)?))
    }
}

/// A layer that normalizes each sample's features, with learnt scales and shifts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerNorm {
    width: usize,
    channels: usize,
    epsilon: f64,
}

/// x̂ (b × width), and 1/√(variance + ε) of each sample.
struct Kept {
    normal: Mat<f64>,
    inverse: Vec<f64>,
}

impl LayerNorm {
    /// Of so many features.
    ///
    /// # Errors
    /// When there is one feature, whose x̂ is 0, the channels do not divide them, or ε is not positive and finite.
    ///
    /// # Example
    /// ```
    /// use halfinverse::network::{Layer, LayerNorm, LayerNormSettings};
    /// assert_eq!(LayerNorm::new(48, &LayerNormSettings::default())?.parameters(), 96);
    /// let settings = LayerNormSettings { channels: 3, ..LayerNormSettings::default() };
    /// assert_eq!(LayerNorm::new(48, &settings)?.parameters(), 6);
    /// # Ok::<(), halfinverse::SettingError>(())
    /// ```
    pub fn new(width: usize, settings: &LayerNormSettings) -> Result<Self, SettingError> {
        let LayerNormSettings { channels, epsilon } = *settings;
        SettingError::check_positive("epsilon", epsilon)?;
        if width < 2 {
            return Err(SettingError::misfit(
                "kind",
                format!("a layer norm needs at least 2 features, and its input has {width}"),
            ));
        }
        let channels = if channels == 0 { width } else { channels };
        if !width.is_multiple_of(channels) {
            let expected = format!("0 or a divisor of the {width} features of the input");
            return Err(SettingError::new("channels", channels, expected));
        }
        Ok(Self { width, channels, epsilon })
    }

    /// The channel of a feature.
    fn channel(self, feature: usize) -> usize {
        feature / (self.width / self.channels)
    }

    /// x ← P x, for several x one below the other.
    fn project(self, kept: &Kept, mut x: MatMut<'_, f64>) {
        let (rows, b, share) = (x.nrows(), kept.inverse.len(), 1.0 / self.width as f64);
        if b == 0 {
            return;
        }
        let (mut mean, mut along) = (vec![0.0; rows], vec![0.0; rows]);
        for j in 0..self.width {
            let (x, normal) = (column(x.rb(), j), kept.normal.col_as_slice(j));
            let sums = mean.chunks_exact_mut(b).zip(along.chunks_exact_mut(b));
            for ((mean, along), x) in sums.zip(x.chunks_exact(b)) {
                for (((mean, along), x), normal) in mean.iter_mut().zip(along).zip(x).zip(normal) {
                    *mean += share * x;
                    *along += share * x * normal;
                }
            }
        }
        for j in 0..self.width {
            let (x, normal) = (column_mut(x.rb_mut(), j), kept.normal.col_as_slice(j));
            let sums = mean.chunks_exact(b).zip(along.chunks_exact(b));
            for ((mean, along), x) in sums.zip(x.chunks_exact_mut(b)) {
                let sample = mean.iter().zip(along).zip(normal).zip(&kept.inverse);
                for (x, (((mean, along), normal), inverse)) in x.iter_mut().zip(sample) {
                    *x = inverse * (*x - mean - normal * along);
                }
            }
        }
    }

    /// `out` (b × channels) = sums of ȳ ∘ x̂ over the features of each channel, or of ȳ.
    fn sums(self, kept: &Kept, cotangent: MatRef<'_, f64>, scales: bool) -> Mat<f64> {
        let mut sums = Mat::<f64>::zeros(cotangent.nrows(), self.channels);
        for j in 0..self.width {
            let pairs = column(cotangent, j).iter().zip(kept.normal.col_as_slice(j));
            let sums = sums.col_as_slice_mut(self.channel(j)).iter_mut();
            if scales {
                sums.zip(pairs).for_each(|(sum, (d, normal))| *sum += d * normal);
            } else {
                sums.zip(pairs).for_each(|(sum, (d, _))| *sum += d);
            }
        }
        sums
    }
}

fn kept(record: &Record) -> &Kept {
    record.downcast_ref().expect("`forward` has left what it keeps")
}

/// `out` = factor·x + shift·1.
fn affine(x: &[f64], factor: f64, shift: f64, out: &mut [f64]) {
    vectorized(
        #[inline(always)]
        || out.iter_mut().zip(x).for_each(|(out, x)| *out = factor * x + shift),
    );
}

impl Layer for LayerNorm {
    fn inputs(&self) -> usize {
        self.width
    }

    fn outputs(&self) -> usize {
        self.width
    }

    fn tensors(&self) -> Vec<Tensor> {
        let tensor =
            |name: &str, offset| Tensor { name: name.to_owned(), shape: vec![self.channels], offset };
        vec![tensor("weight", 0), tensor("bias", self.channels)]
    }

    /// Scales of 1, shifts of 0.
    fn initialize(&self, _: Init, _: &mut dyn Rng, theta: &mut [f64]) {
        let (scales, shifts) = theta.split_at_mut(self.channels);
        scales.fill(1.0);
        shifts.fill(0.0);
    }

    fn forward(
        &self,
        theta: &[f64],
        input: MatRef<'_, f64>,
        record: &mut Record,
        mut output: MatMut<'_, f64>,
        _: Par,
    ) {
        let (b, share) = (input.nrows(), 1.0 / self.width as f64);
        if record.downcast_ref::<Kept>().is_none_or(|kept| kept.inverse.len() != b) {
            *record = Box::new(Kept { normal: Mat::zeros(b, self.width), inverse: vec![0.0; b] });
        }
        let Kept { normal, inverse } = record.downcast_mut().expect("made above");
        let mut mean = vec![0.0; b];
        for j in 0..self.width {
            mean.iter_mut().zip(column(input, j)).for_each(|(mean, x)| *mean += share * x);
        }
        inverse.fill(self.epsilon);
        for j in 0..self.width {
            let pairs = mean.iter().zip(column(input, j));
            inverse.iter_mut().zip(pairs).for_each(|(sum, (mean, x))| *sum += share * (x - mean).powi(2));
        }
        for sum in inverse.iter_mut() {
            *sum = 1.0 / sum.sqrt();
        }
        for j in 0..self.width {
            let normal = normal.col_as_slice_mut(j);
            let samples = column(input, j).iter().zip(&mean).zip(&*inverse);
            normal.iter_mut().zip(samples).for_each(|(n, ((x, mean), inverse))| *n = (x - mean) * inverse);
            let c = self.channel(j);
            affine(normal, theta[c], theta[self.channels + c], column_mut(output.rb_mut(), j));
        }
    }

    fn tangent(
        &self,
        at: Place<'_>,
        input: Option<MatRef<'_, f64>>,
        v: &[f64],
        mut output: MatMut<'_, f64>,
        _: Par,
    ) {
        let kept = kept(at.record);
        match input {
            Some(input) => {
                output.copy_from(input);
                self.project(kept, output.rb_mut());
            }
            None => output.fill(0.0),
        }
        for j in 0..self.width {
            let c = self.channel(j);
            let (scale, moved, shift) = (at.theta[c], v[c], v[self.channels + c]);
            let pairs = column_mut(output.rb_mut(), j).iter_mut().zip(kept.normal.col_as_slice(j));
            pairs.for_each(|(y, normal)| *y = scale * *y + moved * normal + shift);
        }
    }

    fn pull(&self, at: Place<'_>, cotangent: MatRef<'_, f64>, mut input: MatMut<'_, f64>, _: Par) {
        for j in 0..self.width {
            affine(column(cotangent, j), at.theta[self.channel(j)], 0.0, column_mut(input.rb_mut(), j));
        }
        self.project(kept(at.record), input);
    }

    fn gradient(&self, at: Place<'_>, cotangent: MatRef<'_, f64>, out: &mut [f64], _: Par) {
        let (scales, shifts) = out.split_at_mut(self.channels);
        for (out, of_scales) in [(scales, true), (shifts, false)] {
            let sums = self.sums(kept(at.record), cotangent, of_scales);
            out.iter_mut().enumerate().for_each(|(c, out)| *out = sums.col_as_slice(c).iter().sum());
        }
    }

    fn row(&self, at: Place<'_>, sample: usize, d: &[f64], out: &mut [f64]) {
        let normal = &kept(at.record).normal;
        out.fill(0.0);
        for (j, d) in d.iter().enumerate() {
            out[self.channel(j)] += d * normal[(sample, j)];
            out[self.channels + self.channel(j)] += d;
        }
    }

    fn work(&self) -> usize {
        4 * self.width
    }

    fn factors(&self) -> Vec<FactorShape> {
        let vector =
            |offset| FactorShape { outputs: self.channels, inputs: 0, bias: true, positions: 1, offset };
        vec![vector(0), vector(self.channels)]
    }

    fn unroll(&self, at: Place<'_>, cotangent: MatRef<'_, f64>, visit: &mut FactorVisit<'_>) {
        let input = Mat::zeros(cotangent.nrows(), 0);
        for (factor, scales) in [(0, true), (1, false)] {
            let sums = self.sums(kept(at.record), cotangent, scales);
            visit(FactorRows { factor, cotangent: sums.as_ref(), input: input.as_ref(), positions: 1 });
        }
    }
}
