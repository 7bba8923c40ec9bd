//! y = W x + f(x; θ), with f a chain of layers: a learnt linear map beside them.
//!
//! f learns what the best linear map leaves, and its width may change. W has no bias of its own: that of f's last layer
//! would be the same parameter once more. In files W is `weight`, the layers inside have their own names behind it.

use serde::{Deserialize, Serialize};
use toml::Table;

use super::block::Around;
use super::layer::{Inner, Layer, Setup};
use super::{Block, Dense, Network, NetworkError};
use crate::error::SettingError;

/// Settings of a [linear skip](Block::linear_skip).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LinearSkipSettings {
    /// The layers inside, as in `network.layers`.
    #[schemars(with = "Vec<serde_json::Map<String, serde_json::Value>>")]
    pub layers: Vec<Table>,
}

impl Setup for LinearSkipSettings {
    const KIND: &'static str = "linear-skip";

    fn build(self, inputs: usize, inner: &Inner<'_>) -> Result<Box<dyn Layer>, SettingError> {
        let layers = inner(&self.layers, inputs)?;
        let refuse = |error: NetworkError| SettingError::misfit("layers", error);
        Ok(Box::new(Network::new(layers).and_then(Block::linear_skip).map_err(refuse)?))
    }
}

impl Block {
    /// The input, multiplied by a learnt matrix, is added to the output of these layers.
    ///
    /// # Errors
    /// When that matrix is more than memory can hold.
    ///
    /// # Example
    /// ```
    /// use halfinverse::network::{Activation, Block, Dense, Network, Units};
    /// let inner = Network::mlp(&[4, 16, 2], Activation::Tanh)?;
    /// let network = Network::new(vec![Box::new(Block::linear_skip(inner)?)])?;
    /// assert_eq!(network.parameters(), 4 * 2 + 80 + 34);
    /// # Ok::<(), halfinverse::network::NetworkError>(())
    /// ```
    pub fn linear_skip(inner: Network) -> Result<Self, NetworkError> {
        let map = Dense::new(inner.inputs(), inner.outputs())?.without_bias();
        Ok(Self::around(inner, Around::Mapped(map)))
    }
}
