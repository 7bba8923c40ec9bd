//! Activations σ(x) and their slopes σ′(x), element by element.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use serde::{Deserialize, Serialize};

use crate::columns::vectorized;

/// The nonlinearity after every hidden layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
                let y = x.tanh();
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

    /// Replaces each `x` by σ(x) and writes σ′(x) to `slopes`.
    pub(crate) fn apply(self, values: &mut [f64], slopes: &mut [f64]) {
        // One loop per activation, so that the cheap ones vectorise.
        match self {
            Self::Relu => vectorized(|| apply_with(values, slopes, |x| Self::Relu.value_and_slope(x))),
            Self::Identity => slopes.fill(1.0),
            _ => apply_with(values, slopes, |x| self.value_and_slope(x)),
        }
    }
}

#[inline(always)]
fn apply_with(values: &mut [f64], slopes: &mut [f64], f: impl Fn(f64) -> (f64, f64)) {
    for (x, slope) in values.iter_mut().zip(slopes) {
        (*x, *slope) = f(*x);
    }
}

/// 1 / (1 + e^−x) without overflow for any x.
fn sigmoid(x: f64) -> f64 {
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
