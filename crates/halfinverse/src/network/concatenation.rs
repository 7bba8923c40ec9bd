//! y = (x, f(x; θ)), with f a chain of layers: its input's channels, and behind them those that it makes.
//!
//! A U-Net is a chain of these, one inside the other: f pools, convolves, and goes back up to the size of x.
//!
//! Source: Ronneberger, Fischer, Brox, *U-Net: Convolutional Networks for Biomedical Image Segmentation*, MICCAI 2015.

use serde::{Deserialize, Serialize};
use toml::Table;

use super::block::Around;
use super::layer::{Inner, Layer, Setup};
use super::{Block, Network, NetworkError};
use crate::error::SettingError;

/// Settings of a [concatenation](Block::concatenation).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConcatenationSettings {
    /// The layers inside, as in `network.layers`.
    #[schemars(with = "Vec<serde_json::Map<String, serde_json::Value>>")]
    pub layers: Vec<Table>,
}

impl Setup for ConcatenationSettings {
    const KIND: &'static str = "concatenation";

    fn build(self, inputs: usize, inner: &Inner<'_>) -> Result<Box<dyn Layer>, SettingError> {
        let layers = inner(&self.layers, inputs)?;
        let refuse = |error: NetworkError| SettingError::misfit("layers", error);
        Ok(Box::new(Network::new(layers).map(Block::concatenation).map_err(refuse)?))
    }
}

impl Block {
    /// The input comes before the output of these layers: for images of one size, its channels before theirs.
    ///
    /// # Example
    /// ```
    /// use halfinverse::network::{Activation, Block, Layer, Network};
    /// let block = Block::concatenation(Network::mlp(&[4, 16, 2], Activation::Tanh)?);
    /// assert_eq!(block.outputs(), 4 + 2);
    /// # Ok::<(), halfinverse::network::NetworkError>(())
    /// ```
    #[must_use]
    pub fn concatenation(inner: Network) -> Self {
        Self::around(inner, Around::Beside)
    }
}
