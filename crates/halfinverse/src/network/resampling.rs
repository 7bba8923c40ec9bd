//! Average pooling, and nearest up-sampling, of lines and grids.
//!
//! pooling   y[c, p] = mean of x[c, ·] over the f₁ × f₂ positions of window p
//! up-sampling   y[c, ·] = x[c, p] at the f₁ × f₂ positions of window p
//!
//! Each is the transpose of the other, but for the factor 1/(f₁f₂) of the mean: one adds up windows, the other fills
//! them. Costs as many operations as the larger image has features.

use faer::prelude::ReborrowMut;
use faer::{MatMut, MatRef, Par};
use serde::{Deserialize, Serialize};

use super::image::{Extent, Image};
use super::layer::{Inner, Layer, Place, Record, Setup};
use crate::error::SettingError;
use crate::linear::columns::{column, column_mut};

/// Settings of [average pooling](Resampling::pooling).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PoolingSettings {
    /// `[length]` or `[height, width]` of the input.
    pub shape: Vec<usize>,
    /// Positions that become one, in all directions or in each; divisors of the shape.
    pub factor: Extent,
}

/// Settings of [nearest up-sampling](Resampling::up).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpSamplingSettings {
    /// `[length]` or `[height, width]` of the input.
    pub shape: Vec<usize>,
    /// Positions that one becomes, in all directions or in each.
    pub factor: Extent,
}

impl Default for PoolingSettings {
    fn default() -> Self {
        Self { shape: Vec::new(), factor: Extent::All(2) }
    }
}

impl Default for UpSamplingSettings {
    fn default() -> Self {
        Self { shape: Vec::new(), factor: Extent::All(2) }
    }
}

impl Setup for PoolingSettings {
    const KIND: &'static str = "pooling";

    fn build(self, inputs: usize, _: &Inner<'_>) -> Result<Box<dyn Layer>, SettingError> {
        Ok(Box::new(Resampling::pooling(inputs, &self)?))
    }
}

impl Setup for UpSamplingSettings {
    const KIND: &'static str = "up-sampling";

    fn build(self, inputs: usize, _: &Inner<'_>) -> Result<Box<dyn Layer>, SettingError> {
        Ok(Box::new(Resampling::up(inputs, &self)?))
    }
}

/// A layer that makes images smaller by means or larger by copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resampling {
    fine: Image,
    coarse: Image,
    factor: [usize; 2],
    up: bool,
}

impl Resampling {
    /// Averages over windows, for an input so wide.
    ///
    /// # Errors
    /// When the shape does not divide the input, or the factor the shape.
    ///
    /// # Example
    /// ```
    /// use halfinverse::network::{Extent, Layer, PoolingSettings, Resampling};
    /// let settings = PoolingSettings { shape: vec![8, 6], factor: Extent::All(2) };
    /// assert_eq!(Resampling::pooling(3 * 8 * 6, &settings)?.outputs(), 3 * 4 * 3);
    /// # Ok::<(), halfinverse::SettingError>(())
    /// ```
    pub fn pooling(inputs: usize, settings: &PoolingSettings) -> Result<Self, SettingError> {
        let fine = Image::new(&settings.shape, inputs)?;
        let factor = fine.along("factor", &settings.factor)?;
        let [rows, columns] = fine.size();
        if !rows.is_multiple_of(factor[0]) || !columns.is_multiple_of(factor[1]) {
            let expected = format!("a divisor of the input's shape {:?}", fine.shape());
            return Err(SettingError::new("factor", &settings.factor, expected));
        }
        let coarse = fine.with(fine.channels(), [rows / factor[0], columns / factor[1]]);
        Ok(Self { fine, coarse, factor, up: false })
    }

    /// Fills windows, for an input so wide.
    ///
    /// # Errors
    /// When the shape does not divide the input, or the output is more than memory can hold.
    pub fn up(inputs: usize, settings: &UpSamplingSettings) -> Result<Self, SettingError> {
        let coarse = Image::new(&settings.shape, inputs)?;
        let factor = coarse.along("factor", &settings.factor)?;
        let [rows, columns] = coarse.size();
        let size = [rows.saturating_mul(factor[0]), columns.saturating_mul(factor[1])];
        let fine = coarse.with(coarse.channels(), size);
        if fine.width() > isize::MAX as usize / 8 {
            return Err(SettingError::new(
                "factor",
                &settings.factor,
                "small enough for memory to hold the output",
            ));
        }
        Ok(Self { fine, coarse, factor, up: true })
    }

    /// What a window's sum, or its copies, are multiplied by.
    fn scale(self) -> f64 {
        if self.up { 1.0 } else { 1.0 / (self.factor[0] * self.factor[1]) as f64 }
    }

    /// Shows `visit` each feature of the fine image with that of the coarse one whose window it is in.
    fn each(self, mut visit: impl FnMut(usize, usize)) {
        let ([_, fine], [_, coarse]) = (self.fine.size(), self.coarse.size());
        for feature in 0..self.fine.width() {
            // Rows of all channels, one below the other.
            let (row, column) = (feature / fine, feature % fine);
            visit(feature, row / self.factor[0] * coarse + column / self.factor[1]);
        }
    }

    /// `coarse` = scaled sums of `fine` over windows.
    fn add_up(self, fine: MatRef<'_, f64>, mut coarse: MatMut<'_, f64>) {
        coarse.fill(0.0);
        let scale = self.scale();
        self.each(|i, j| {
            let sum = column_mut(coarse.rb_mut(), j);
            sum.iter_mut().zip(column(fine, i)).for_each(|(sum, x)| *sum += scale * x);
        });
    }

    /// `fine` = scaled copies of `coarse` in windows.
    fn spread(self, coarse: MatRef<'_, f64>, mut fine: MatMut<'_, f64>) {
        let scale = self.scale();
        self.each(|i, j| {
            let copy = column_mut(fine.rb_mut(), i);
            copy.iter_mut().zip(column(coarse, j)).for_each(|(copy, x)| *copy = scale * x);
        });
    }
}

impl Layer for Resampling {
    fn inputs(&self) -> usize {
        if self.up { self.coarse.width() } else { self.fine.width() }
    }

    fn outputs(&self) -> usize {
        if self.up { self.fine.width() } else { self.coarse.width() }
    }

    fn parameters(&self) -> usize {
        0
    }

    fn forward(&self, _: &[f64], input: MatRef<'_, f64>, _: &mut Record, output: MatMut<'_, f64>, _: Par) {
        if self.up { self.spread(input, output) } else { self.add_up(input, output) }
    }

    fn tangent(
        &self,
        _: Place<'_>,
        input: Option<MatRef<'_, f64>>,
        _: &[f64],
        mut output: MatMut<'_, f64>,
        _: Par,
    ) {
        match input {
            Some(input) if self.up => self.spread(input, output),
            Some(input) => self.add_up(input, output),
            None => output.fill(0.0),
        }
    }

    fn pull(&self, _: Place<'_>, cotangent: MatRef<'_, f64>, input: MatMut<'_, f64>, _: Par) {
        if self.up { self.add_up(cotangent, input) } else { self.spread(cotangent, input) }
    }

    fn work(&self) -> usize {
        self.fine.width()
    }
}
