//! y = x + f(x; θ), with f a chain of layers: a residual (skip) block.
//!
//! Costs what f costs. J's columns are those of f's layers.
//!
//! Source: He, Zhang, Ren, Sun, *Deep Residual Learning for Image Recognition*, CVPR 2016.

use serde::{Deserialize, Serialize};
use toml::Table;

use super::block::Around;
use super::layer::{Inner, Layer, Setup};
use super::{Block, Network, NetworkError};
use crate::error::SettingError;

/// Settings of a [residual block](Block::residual).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ResidualSettings {
    /// The layers inside, as in `network.layers`.
    #[schemars(with = "Vec<serde_json::Map<String, serde_json::Value>>")]
    pub layers: Vec<Table>,
}

impl Setup for ResidualSettings {
    const KIND: &'static str = "residual";

    fn build(self, inputs: usize, inner: &Inner<'_>) -> Result<Box<dyn Layer>, SettingError> {
        let layers = inner(&self.layers, inputs)?;
        let refuse = |error: NetworkError| SettingError::misfit("layers", error);
        Ok(Box::new(Network::new(layers).and_then(Block::residual).map_err(refuse)?))
    }
}

impl Block {
    /// The input is added to the output of these layers.
    ///
    /// # Errors
    /// When their output is not as wide as their input.
    ///
    /// # Example
    /// ```
    /// use halfinverse::network::{Activation, Block, Dense, Network, Units};
    /// let block = Block::residual(Network::new(vec![
    ///     Box::new(Dense::new(16, 16)?),
    ///     Box::new(Units::new(Activation::Tanh, 16)),
    /// ])?)?;
    /// let network = Network::new(vec![Box::new(Dense::new(3, 16)?), Box::new(block), Box::new(Dense::new(16, 2)?)])?;
    /// assert_eq!(network.parameters(), 64 + 272 + 34);
    /// # Ok::<(), halfinverse::network::NetworkError>(())
    /// ```
    pub fn residual(inner: Network) -> Result<Self, NetworkError> {
        let (inputs, outputs) = (inner.inputs(), inner.outputs());
        if inputs != outputs {
            return Err(NetworkError::Residual { inputs, outputs });
        }
        Ok(Self::around(inner, Around::Added))
    }
}
