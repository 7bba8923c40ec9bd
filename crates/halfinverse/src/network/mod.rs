//! The multi-layer perceptron z = f(x; θ) and its derivatives with respect to θ.

mod activation;
pub mod init;
pub mod mlp;
mod pass;

pub use activation::Activation;
pub use init::Init;
pub use mlp::{Layer, Mlp};
pub(crate) use pass::{Pass, affine, layer_gradient};
