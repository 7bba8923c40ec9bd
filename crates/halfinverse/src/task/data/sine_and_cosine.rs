//! x uniform on [−1, 1), and (sin 6x, cos 9x): the paper's example.

use std::sync::Arc;

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::{Context, Generator, Setup, function};
use crate::error::SettingError;
use crate::problem::Samples;

/// Nothing to set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SineAndCosineSettings {}

struct SineAndCosine;

impl Setup for SineAndCosineSettings {
    const KIND: &'static str = "sine-and-cosine";

    fn build(self, _: Context<'_>) -> Result<Arc<dyn Generator>, SettingError> {
        Ok(Arc::new(SineAndCosine))
    }
}

impl Generator for SineAndCosine {
    fn inputs(&self) -> usize {
        1
    }

    fn draw(&self, count: usize, rng: &mut dyn Rng) -> Samples {
        function(count, rng, |x| vec![(6.0 * x).sin(), (9.0 * x).cos()])
    }
}
