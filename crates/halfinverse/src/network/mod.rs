//! Networks z = f(x; θ): layers behind one trait, chains of them, and their derivatives with respect to θ.

mod activation;
mod block;
mod bounds;
mod chain;
mod concatenation;
mod convolution;
mod dense;
mod fourier;
mod image;
pub mod init;
mod layer;
mod layer_norm;
mod linear_skip;
mod resampling;
mod residual;

pub use activation::{Activation, Units, UnitsSettings};
pub use block::Block;
pub use bounds::{Bounds, BoundsSettings, Limits};
pub use chain::Network;
pub(crate) use chain::Pass;
pub use concatenation::ConcatenationSettings;
pub use convolution::{Convolution, ConvolutionSettings, Padding};
pub use dense::{Dense, DenseSettings};
pub use fourier::{FourierFeatures, FourierFeaturesSettings};
pub use image::{Extent, Image};
pub use init::Init;
pub use layer::{
    Composite, FactorRows, FactorShape, FactorVisit, Inner, Layer, Leaf, Place, Record, Setup, Tensor, Visit,
};
pub use layer_norm::{LayerNorm, LayerNormSettings};
pub use linear_skip::LinearSkipSettings;
pub use resampling::{PoolingSettings, Resampling, UpSamplingSettings};
pub use residual::ResidualSettings;

/// Layers that do not make a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// There is no layer.
    #[error("a network needs a layer, and two widths for each dense one")]
    Empty,
    /// A dense layer without inputs or outputs, or with more weights than memory can hold.
    #[error("a dense layer cannot have {inputs} inputs and {outputs} outputs; both must be at least 1")]
    Width {
        /// Width of its input.
        inputs: usize,
        /// Width of its output.
        outputs: usize,
    },
    /// A layer does not fit the one before it.
    #[error("layer {layer} takes {found} inputs, but the layer before it has {expected} outputs")]
    Fit {
        /// Its position, from 0.
        layer: usize,
        /// Width of the output before it.
        expected: usize,
        /// Width of its input.
        found: usize,
    },
    /// The layers of a residual block change the width.
    #[error(
        "the layers of a residual block must keep the width: they have {inputs} inputs and {outputs} outputs"
    )]
    Residual {
        /// Width of their input.
        inputs: usize,
        /// Width of their output.
        outputs: usize,
    },
}
