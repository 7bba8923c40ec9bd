//! y between bounds, element by element and smooth: what a simulator's control may be.
//!
//! | bounds | y | slope |
//! |---|---|---|
//! | lo and hi, with c = (lo + hi)/2 and r = (hi − lo)/2 | c + r·tanh(x/r) | 1 − tanh²(x/r), 1 in the middle |
//! | lo alone | lo + ln(1 + eˣ) | 1/(1 + e^−x), 1 far above lo |
//! | hi alone | hi − ln(1 + e^−x) | 1/(1 + eˣ), 1 far below hi |
//! | none | x | 1 |
//!
//! Slopes of 1 leave initial weights what they are without bounds. y is never outside the bounds, and at them where
//! |x| is large: the slope is then 0 in floating point, and the control is saturated, as a hidden unit can be.

use faer::prelude::ReborrowMut;
use faer::{MatMut, MatRef, Par};
use serde::{Deserialize, Serialize};

use super::activation::{apply_with, sigmoid, slopes, slopes_mut, tangent, tanh};
use super::layer::{Inner, Layer, Place, Record, Setup, multiply};
use crate::error::SettingError;
use crate::linear::columns::{column, column_mut, vectorized};

/// Lower and upper bounds; −∞ and ∞ where there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(
    untagged,
    expecting = "a pair [lower, upper] such as [-1.0, inf], or a list of such pairs, one for each control"
)]
pub enum Limits {
    /// The same for all.
    All([f64; 2]),
    /// A pair for each, or none at all.
    Each(Vec<[f64; 2]>),
}

impl Limits {
    /// No bounds.
    #[must_use]
    pub fn none() -> Self {
        Self::Each(Vec::new())
    }

    /// Whether there is no pair.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::none()
    }
}

/// Settings of [`Bounds`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BoundsSettings {
    /// Lower and upper bound of all outputs, or of each; -inf and inf where there is none.
    pub bounds: Limits,
}

impl Default for BoundsSettings {
    fn default() -> Self {
        Self { bounds: Limits::All([-1.0, 1.0]) }
    }
}

impl Setup for BoundsSettings {
    const KIND: &'static str = "bounds";

    fn build(self, inputs: usize, _: &Inner<'_>) -> Result<Box<dyn Layer>, SettingError> {
        Ok(Box::new(Bounds::new(&self.bounds, inputs)?))
    }
}

/// A layer that keeps its output between bounds. Keeps the slopes.
#[derive(Debug, Clone, PartialEq)]
pub struct Bounds {
    each: Vec<Bound>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Bound {
    Both { limits: [f64; 2], middle: f64, half: f64 },
    Lower(f64),
    Upper(f64),
    None,
}

impl Bounds {
    /// For so many outputs.
    ///
    /// # Errors
    /// When a lower bound is not below its upper one, one is NaN, or there are neither one pair nor `width` pairs.
    ///
    /// # Example
    /// ```
    /// use halfinverse::network::{Bounds, Dense, Limits, Network};
    /// let control = Limits::Each(vec![[-0.5, 0.5], [0.0, f64::INFINITY]]);
    /// let network = Network::new(vec![Box::new(Dense::new(4, 2)?), Box::new(Bounds::new(&control, 2)?)])?;
    /// assert!(Bounds::new(&control, 3).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(limits: &Limits, width: usize) -> Result<Self, SettingError> {
        let each = match limits {
            Limits::All(pair) => vec![Bound::new(*pair, "bounds")?; width],
            Limits::Each(pairs) if pairs.len() == width => {
                let bound = |(i, pair): (usize, &[f64; 2])| Bound::new(*pair, &format!("bounds.{i}"));
                pairs.iter().enumerate().map(bound).collect::<Result<_, _>>()?
            }
            Limits::Each(pairs) => {
                let expected = format!("one pair [lower, upper], or a list of {width}, one for each control");
                return Err(SettingError::new("bounds", format!("a list of {}", pairs.len()), expected));
            }
        };
        Ok(Self { each })
    }
}

impl Bound {
    fn new(limits: [f64; 2], key: &str) -> Result<Self, SettingError> {
        let [low, high] = limits;
        // Halved first: the width of the widest interval is beyond the largest number.
        let (middle, half) = (0.5 * low + 0.5 * high, 0.5 * high - 0.5 * low);
        match (low > f64::NEG_INFINITY, high < f64::INFINITY) {
            // NaN where a bound is, or both are ∞.
            _ if half.is_nan() || half < f64::MIN_POSITIVE => {
                Err(SettingError::new(key, format!("{limits:?}"), "a lower bound and a larger upper one"))
            }
            (true, true) => Ok(Self::Both { limits, middle, half }),
            (true, false) => Ok(Self::Lower(low)),
            (false, true) => Ok(Self::Upper(high)),
            (false, false) => Ok(Self::None),
        }
    }

    /// Writes y to `values` and its slopes to `slopes`.
    fn apply(self, x: &[f64], values: &mut [f64], slopes: &mut [f64]) {
        match self {
            Self::Both { limits: [low, high], middle, half } => vectorized(
                #[inline(always)]
                || {
                    apply_with(x, values, slopes, |x| {
                        let t = tanh(x / half);
                        ((middle + half * t).clamp(low, high), 1.0 - t * t)
                    });
                },
            ),
            Self::Lower(low) => apply_with(x, values, slopes, |x| (low + softplus(x), sigmoid(x))),
            Self::Upper(high) => apply_with(x, values, slopes, |x| (high - softplus(-x), sigmoid(-x))),
            Self::None => apply_with(x, values, slopes, |x| (x, 1.0)),
        }
    }
}

/// ln(1 + eˣ) without overflow for any x.
fn softplus(x: f64) -> f64 {
    let above = if x < 0.0 { 0.0 } else { x };
    above + (-x.abs()).exp().ln_1p()
}

impl Layer for Bounds {
    fn inputs(&self) -> usize {
        self.each.len()
    }

    fn outputs(&self) -> usize {
        self.each.len()
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
        for (j, bound) in self.each.iter().enumerate() {
            bound.apply(column(input, j), column_mut(output.rb_mut(), j), slopes.col_as_slice_mut(j));
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
        record.downcast_ref::<faer::Mat<f64>>().map(faer::Mat::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INF: f64 = f64::INFINITY;
    const PAIRS: [[f64; 2]; 7] = [
        [-0.5, 0.5],
        [0.1, 0.3],
        [-1e-300, 1e-300],
        [-f64::MAX, f64::MAX],
        [-2.0, INF],
        [-INF, 7.0],
        [-INF, INF],
    ];

    fn at(pair: [f64; 2], x: f64) -> (f64, f64) {
        let (mut value, mut slope) = ([0.0], [0.0]);
        Bound::new(pair, "bounds").unwrap().apply(&[x], &mut value, &mut slope);
        (value[0], slope[0])
    }

    #[test]
    fn slopes_agree_with_central_differences() {
        for pair in [[-0.5, 0.5], [0.1, 0.3], [-2.0, INF], [-INF, 7.0], [-INF, INF]] {
            for x in [-40.0, -3.1, -0.4, -0.01, 0.0, 0.2, 1.0, 2.9, 40.0] {
                let h = 1e-5;
                let difference = (at(pair, x + h).0 - at(pair, x - h).0) / (2.0 * h);
                let slope = at(pair, x).1;
                assert!((slope - difference).abs() < 1e-7, "{pair:?} at {x}: {slope} against {difference}");
            }
        }
    }

    #[test]
    fn values_stay_within_bounds_and_slopes_between_0_and_1_however_far_out() {
        for pair in PAIRS {
            for size in [0.0, 1e-310, 1e-3, 1.0, 30.0, 800.0, 1e4, 1e300] {
                for x in [size, -size] {
                    let (value, slope) = at(pair, x);
                    assert!(pair[0] <= value && value <= pair[1], "{pair:?} at {x}: {value}");
                    assert!((0.0..=1.0).contains(&slope), "{pair:?} at {x}: {slope}");
                }
            }
            assert!(at(pair, f64::NAN).0.is_nan(), "{pair:?}: NaN is not hidden");
        }
    }

    #[test]
    fn initial_weights_mean_the_same_with_bounds() {
        assert_eq!(at([-0.5, 0.5], 0.0), (0.0, 1.0));
        assert_eq!(at([2.0, 3.0], 0.0), (2.5, 1.0));
        assert_eq!(at([-2.0, INF], 100.0), (98.0, 1.0));
        assert_eq!(at([-INF, 7.0], -100.0), (-93.0, 1.0));
    }

    #[test]
    fn bounds_that_bound_nothing_are_refused() {
        let nan = f64::NAN;
        for pair in [[1.0, 1.0], [1.0, -1.0], [nan, 1.0], [0.0, nan], [INF, INF], [-INF, -INF], [0.0, 5e-324]]
        {
            let error = Bounds::new(&Limits::All(pair), 3).unwrap_err().to_string();
            assert!(error.contains("a lower bound and a larger upper one"), "{pair:?}: {error}");
        }
        let error = Bounds::new(&Limits::Each(vec![[0.0, 1.0]; 2]), 3).unwrap_err().to_string();
        let said = "`bounds` is a list of 2, but must be one pair [lower, upper], or a list of 3, one for each control";
        assert_eq!(error, said);
        let error = Bounds::new(&Limits::Each(vec![[0.0, 1.0], [2.0, 1.0]]), 2).unwrap_err();
        assert_eq!(error.key(), "bounds.1");
    }
}
