//! The units of parameters.

use serde::{Deserialize, Serialize};

/// The units in which an optimizer takes parameters to be alike.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scaling {
    /// Their own: for networks.
    #[default]
    None,
    /// Those that make all columns of J equally long: for fits whose parameters have units.
    Columns,
}
