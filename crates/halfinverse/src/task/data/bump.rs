//! x uniform on [−1, 1), and f(x) = exp(−10x²)·sin 2x, standardised.

use std::sync::Arc;

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::{Context, Generator, Setup, function};
use crate::error::SettingError;
use crate::problem::Samples;

/// Nothing to set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BumpSettings {}

struct Bump {
    deviation: f64,
}

impl Setup for BumpSettings {
    const KIND: &'static str = "bump";

    fn build(self, _: Context<'_>) -> Result<Arc<dyn Generator>, SettingError> {
        Ok(Arc::new(Bump { deviation: deviation() }))
    }
}

impl Generator for Bump {
    fn inputs(&self) -> usize {
        1
    }

    fn draw(&self, count: usize, rng: &mut dyn Rng) -> Samples {
        function(count, rng, |x| vec![bump(x) / self.deviation])
    }
}

/// An odd function: its mean over [−1, 1] is 0.
fn bump(x: f64) -> f64 {
    (-10.0 * x * x).exp() * (2.0 * x).sin()
}

/// Standard deviation of [`bump`] over [−1, 1], by the trapezoidal rule, whose error the vanishing ends make
/// negligible.
fn deviation() -> f64 {
    const INTERVALS: u32 = 1000;
    let squares = (0..INTERVALS).map(|i| bump(2.0 * f64::from(i) / f64::from(INTERVALS) - 1.0).powi(2));
    (squares.sum::<f64>() / f64::from(INTERVALS)).sqrt()
}
