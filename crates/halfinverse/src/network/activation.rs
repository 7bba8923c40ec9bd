//! Activations σ(x) and their slopes σ′(x), element by element, and the layer that applies one.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use faer::prelude::ReborrowMut;
use faer::{Mat, MatMut, MatRef, Par};
use serde::{Deserialize, Serialize};

use super::layer::{Inner, Layer, Place, Record, Setup, multiply};
use crate::error::SettingError;
use crate::linear::columns::{column, column_mut, vectorized};

/// The nonlinearity after every hidden layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// max(x, 0), with slope 0 at 0.
    Relu,
    /// tanh x.
    Tanh,
    /// x·Φ(x), with Φ the normal distribution function (exact, by erf).
    Gelu,
    /// x / (1 + e^−x).
    Silu,
    /// 1 / (1 + e^−x).
    Sigmoid,
    /// sin x.
    Sine,
    /// x.
    Identity,
}

impl Activation {
    /// Every activation, in the order of the documentation.
    pub const ALL: [Self; 7] =
        [Self::Relu, Self::Tanh, Self::Gelu, Self::Silu, Self::Sigmoid, Self::Sine, Self::Identity];

    /// σ(x) and σ′(x).
    #[must_use]
    #[inline(always)]
    pub fn value_and_slope(self, x: f64) -> (f64, f64) {
        match self {
            Self::Relu => {
                if x > 0.0 {
                    (x, 1.0)
                } else {
                    (0.0, 0.0)
                }
            }
            Self::Tanh => {
                let y = tanh(x);
                (y, 1.0 - y * y)
            }
            Self::Gelu => {
                let distribution = 0.5 * libm::erfc(-x * FRAC_1_SQRT_2);
                let density = (-0.5 * x * x).exp() / (2.0 * PI).sqrt();
                (x * distribution, distribution + x * density)
            }
            Self::Silu => {
                let s = sigmoid(x);
                (x * s, s * (1.0 + x * (1.0 - s)))
            }
            Self::Sigmoid => {
                let s = sigmoid(x);
                (s, s * (1.0 - s))
            }
            Self::Sine => {
                let (sin, cos) = x.sin_cos();
                (sin, cos)
            }
            Self::Identity => (x, 1.0),
        }
    }

    /// Writes σ(x) to `values` and σ′(x) to `slopes`.
    pub(crate) fn apply(self, x: &[f64], values: &mut [f64], slopes: &mut [f64]) {
        // One loop per activation, so that the cheap ones vectorise.
        match self {
            Self::Relu => vectorized(
                #[inline(always)]
                || apply_with(x, values, slopes, |x| Self::Relu.value_and_slope(x)),
            ),
            Self::Tanh => vectorized(
                #[inline(always)]
                || apply_with(x, values, slopes, |x| Self::Tanh.value_and_slope(x)),
            ),
            _ => apply_with(x, values, slopes, |x| self.value_and_slope(x)),
        }
    }
}

#[inline(always)]
pub(super) fn apply_with(x: &[f64], values: &mut [f64], slopes: &mut [f64], f: impl Fn(f64) -> (f64, f64)) {
    for ((x, value), slope) in x.iter().zip(values).zip(slopes) {
        (*value, *slope) = f(*x);
    }
}

/// Settings of [`Units`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UnitsSettings {
    /// σ.
    pub function: Activation,
}

impl Default for UnitsSettings {
    fn default() -> Self {
        Self { function: Activation::Tanh }
    }
}

impl Setup for UnitsSettings {
    const KIND: &'static str = "activation";

    fn build(self, inputs: usize, _: &Inner<'_>) -> Result<Box<dyn Layer>, SettingError> {
        Ok(Box::new(Units::new(self.function, inputs)))
    }
}

/// A layer of units: y = σ(x). Keeps σ′(x).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Units {
    activation: Activation,
    width: usize,
}

impl Units {
    /// So many units with this activation.
    #[must_use]
    pub fn new(activation: Activation, width: usize) -> Self {
        Self { activation, width }
    }
}

/// The slopes (b × width) in an activation's record.
pub(super) fn slopes(record: &Record) -> &Mat<f64> {
    record.downcast_ref().expect("`forward` has left the slopes")
}

/// ẏ of a layer that acts element by element.
pub(super) fn tangent(record: &Record, input: Option<MatRef<'_, f64>>, mut output: MatMut<'_, f64>) {
    match input {
        Some(input) => multiply(input, slopes(record).as_ref(), output),
        None => output.fill(0.0),
    }
}

/// The slopes, to be written.
pub(super) fn slopes_mut(record: &mut Record, shape: (usize, usize)) -> &mut Mat<f64> {
    if record.downcast_ref::<Mat<f64>>().is_none_or(|slopes| slopes.shape() != shape) {
        *record = Box::new(Mat::<f64>::zeros(shape.0, shape.1));
    }
    record.downcast_mut().expect("made above")
}

impl Layer for Units {
    fn inputs(&self) -> usize {
        self.width
    }

    fn outputs(&self) -> usize {
        self.width
    }

    fn parameters(&self) -> usize {
        0
    }

    fn forward(
        &self,
        _: &[f64],
        input: MatRef<'_, f64>,
        record: &mut Record,
        mut output: MatMut<'_, f64>,
        _: Par,
    ) {
        let slopes = slopes_mut(record, input.shape());
        for j in 0..input.ncols() {
            let values = column_mut(output.rb_mut(), j);
            self.activation.apply(column(input, j), values, slopes.col_as_slice_mut(j));
        }
    }

    fn tangent(
        &self,
        at: Place<'_>,
        input: Option<MatRef<'_, f64>>,
        _: &[f64],
        output: MatMut<'_, f64>,
        _: Par,
    ) {
        tangent(at.record, input, output);
    }

    fn pull(&self, at: Place<'_>, cotangent: MatRef<'_, f64>, input: MatMut<'_, f64>, _: Par) {
        multiply(cotangent, slopes(at.record).as_ref(), input);
    }

    fn slopes<'a>(&self, record: &'a Record) -> Option<MatRef<'a, f64>> {
        record.downcast_ref::<Mat<f64>>().map(Mat::as_ref)
    }
}

/// tanh x to 3 units in the last place, without a branch, so that it vectorises; the standard library's does not.
///
/// With e^2|x| − 1 = 2ᵏ(eʳ − 1) + (2ᵏ − 1) for 2|x| = k·ln 2 + r, |r| ≤ ½ ln 2, and the Taylor polynomial of eʳ − 1,
/// tanh|x| = (e^2|x| − 1)/(e^2|x| + 1). No small difference of large numbers occurs.
#[inline(always)]
pub(super) fn tanh(x: f64) -> f64 {
    /// 1/n! for n = 13 down to 2.
    const COEFFICIENTS: [f64; 12] = [
        1.0 / 6_227_020_800.0,
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
    ];
    /// ln 2 as a sum whose first part has trailing zeros, so that k times it is exact.
    const LN_2: [f64; 2] = [0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10];
    /// 1.5·2^52: adding it rounds to a whole number, which then stands in the low bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let size = x.abs();
    // From 20 on tanh is 1; the comparison leaves NaN as it is.
    let twice = 2.0 * if size > 20.0 { 20.0 } else { size };
    let shifted = twice * std::f64::consts::LOG2_E + ROUND;
    let k = shifted - ROUND;
    let r = (twice - k * LN_2[0]) - k * LN_2[1];
    let mut polynomial = 0.0;
    for coefficient in COEFFICIENTS {
        polynomial = polynomial * r + coefficient;
    }
    let less_one = r + r * r * polynomial;
    let power = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    let difference = power * less_one + (power - 1.0);
    (difference / (difference + 2.0)).copysign(x)
}

/// 1 / (1 + e^−x) without overflow for any x.
pub(super) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_agree_with_central_differences() {
        for activation in Activation::ALL {
            for x in [-40.0, -3.1, -0.7, 0.2, 1.0, 2.9, 40.0] {
                let h = 1e-5;
                let plus = activation.value_and_slope(x + h).0;
                let minus = activation.value_and_slope(x - h).0;
                let slope = activation.value_and_slope(x).1;
                let difference = (plus - minus) / (2.0 * h);
                assert!(
                    (slope - difference).abs() < 1e-8,
                    "{activation:?} at {x}: {slope} against {difference}"
                );
            }
        }
    }

    #[test]
    fn tanh_is_that_of_the_standard_library() {
        let mut worst: f64 = 0.0;
        for i in -400_000..=400_000 {
            let x = f64::from(i) * 6.1e-5;
            let (own, standard) = (tanh(x), x.tanh());
            worst = worst.max((own - standard).abs() / standard.abs().max(f64::MIN_POSITIVE));
        }
        assert!(worst <= 3.0 * f64::EPSILON, "{worst:e}");
        for x in [0.0, 1e-300, 1e-9, 1e-5, 0.17, 20.0, 1e300, f64::INFINITY] {
            assert!((tanh(x) - x.tanh()).abs() <= 3.0 * f64::EPSILON * x.tanh(), "{x}");
            assert_eq!(tanh(-x), -tanh(x), "odd");
        }
        assert!(tanh(f64::NAN).is_nan());
    }

    #[test]
    fn relu_has_slope_zero_at_zero() {
        assert_eq!(Activation::Relu.value_and_slope(0.0), (0.0, 0.0));
    }

    #[test]
    fn no_activation_overflows_far_out() {
        for activation in Activation::ALL {
            for x in [-1e4, 1e4] {
                let (value, slope) = activation.value_and_slope(x);
                assert!(value.is_finite() && slope.is_finite(), "{activation:?} at {x}");
            }
        }
    }
}
