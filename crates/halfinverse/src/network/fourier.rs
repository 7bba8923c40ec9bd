//! y = (cos Fᵀx, sin Fᵀx) with random frequencies F (inputs × count) that stay what they are: Fourier features.
//!
//! Networks learn coarse functions of few inputs first; of these features they learn fine ones. F = 2πσN with N
//! standard normal, drawn from a seed among the settings: the same whenever the network is made. Costs 2·inputs·count
//! operations for a sample. Keeps the slopes.
//!
//! Source: Tancik et al., *Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional Domains*,
//! NeurIPS 2020.

use std::f64::consts::TAU;

use faer::linalg::matmul::matmul;
use faer::prelude::{Reborrow, ReborrowMut};
use faer::{Accum, Mat, MatMut, MatRef, Par};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};

use super::activation::{slopes, slopes_mut};
use super::layer::{Inner, Layer, Place, Record, Setup, multiply};
use crate::error::SettingError;
use crate::linear::columns::{column, column_mut};
use crate::streams;

/// Settings of [`FourierFeatures`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FourierFeaturesSettings {
    /// Frequencies; the output is twice as wide.
    pub frequencies: usize,
    /// σ, their standard deviation in oscillations over a unit of an input.
    pub scale: f64,
    /// The seed that they are drawn with.
    pub seed: u64,
}

impl Default for FourierFeaturesSettings {
    fn default() -> Self {
        Self { frequencies: 16, scale: 1.0, seed: 1 }
    }
}

impl Setup for FourierFeaturesSettings {
    const KIND: &'static str = "fourier-features";

    fn build(self, inputs: usize, _: &Inner<'_>) -> Result<Box<dyn Layer>, SettingError> {
        Ok(Box::new(FourierFeatures::new(inputs, &self)?))
    }
}

/// Cosines and sines of random combinations of the inputs.
#[derive(Debug, Clone)]
pub struct FourierFeatures {
    /// F.
    frequencies: Mat<f64>,
}

impl FourierFeatures {
    /// Of so many inputs.
    ///
    /// # Errors
    /// When there is no frequency, F is more than memory can hold, or σ is not positive and finite.
    ///
    /// # Example
    /// ```
    /// use halfinverse::network::{FourierFeatures, FourierFeaturesSettings, Layer};
    /// let features = FourierFeatures::new(2, &FourierFeaturesSettings::default())?;
    /// assert_eq!((features.outputs(), features.parameters()), (32, 0));
    /// # Ok::<(), halfinverse::SettingError>(())
    /// ```
    pub fn new(inputs: usize, settings: &FourierFeaturesSettings) -> Result<Self, SettingError> {
        /// Numbers in F, at most: 2 GiB of them.
        const MOST: usize = 1 << 28;
        let FourierFeaturesSettings { frequencies, scale, seed } = *settings;
        SettingError::check_positive("scale", scale)?;
        if frequencies == 0 || inputs.saturating_mul(frequencies) > MOST {
            let expected = format!("from 1 to {} for {inputs} inputs", MOST / inputs.max(1));
            return Err(SettingError::new("frequencies", frequencies, expected));
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(streams::FEATURES);
        let mut all = Mat::zeros(inputs, frequencies);
        for j in 0..frequencies {
            let draw = || TAU * scale * rng.sample::<f64, _>(StandardNormal);
            all.col_as_slice_mut(j).fill_with(draw);
        }
        Ok(Self { frequencies: all })
    }

    fn count(&self) -> usize {
        self.frequencies.ncols()
    }
}

impl Layer for FourierFeatures {
    fn inputs(&self) -> usize {
        self.frequencies.nrows()
    }

    fn outputs(&self) -> usize {
        2 * self.count()
    }

    fn parameters(&self) -> usize {
        0
    }

    fn forward(
        &self,
        _: &[f64],
        input: MatRef<'_, f64>,
        record: &mut Record,
        output: MatMut<'_, f64>,
        par: Par,
    ) {
        let slopes = slopes_mut(record, (input.nrows(), self.outputs()));
        let (mut cosines, mut sines) = output.split_at_col_mut(self.count());
        matmul(cosines.rb_mut(), Accum::Replace, input, &self.frequencies, 1.0, par);
        let (mut minus_sines, mut cosines_too) = slopes.as_mut().split_at_col_mut(self.count());
        for j in 0..self.count() {
            let values = column_mut(cosines.rb_mut(), j).iter_mut().zip(column_mut(sines.rb_mut(), j));
            let slopes =
                column_mut(minus_sines.rb_mut(), j).iter_mut().zip(column_mut(cosines_too.rb_mut(), j));
            for ((cosine, sine), (minus_sine, slope)) in values.zip(slopes) {
                (*sine, *cosine) = cosine.sin_cos();
                (*minus_sine, *slope) = (-*sine, *cosine);
            }
        }
    }

    fn tangent(
        &self,
        at: Place<'_>,
        input: Option<MatRef<'_, f64>>,
        _: &[f64],
        mut output: MatMut<'_, f64>,
        par: Par,
    ) {
        let Some(input) = input else { return output.fill(0.0) };
        let angles = {
            let mut angles = Mat::zeros(input.nrows(), self.count());
            matmul(&mut angles, Accum::Replace, input, &self.frequencies, 1.0, par);
            angles
        };
        let slopes = slopes(at.record);
        let (cosines, sines) = output.rb_mut().split_at_col_mut(self.count());
        multiply(angles.as_ref(), slopes.subcols(0, self.count()), cosines);
        multiply(angles.as_ref(), slopes.subcols(self.count(), self.count()), sines);
    }

    fn pull(&self, at: Place<'_>, cotangent: MatRef<'_, f64>, input: MatMut<'_, f64>, par: Par) {
        let mut both = Mat::zeros(cotangent.nrows(), self.outputs());
        multiply(cotangent, slopes(at.record).as_ref(), both.as_mut());
        let (mut angles, sines) = both.as_mut().split_at_col_mut(self.count());
        for j in 0..self.count() {
            let pairs = column_mut(angles.rb_mut(), j).iter_mut().zip(column(sines.rb(), j));
            pairs.for_each(|(angle, sine)| *angle += sine);
        }
        matmul(input, Accum::Replace, angles.rb(), self.frequencies.transpose(), 1.0, par);
    }

    fn work(&self) -> usize {
        self.inputs() * self.count()
    }
}
