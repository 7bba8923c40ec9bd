//! The shape of a multi-layer perceptron and the order of its parameters.
//!
//! aₗ₊₁ = σ(Wₗ aₗ + bₗ) for the hidden layers, z = W a + b for the last.
//!
//! θ holds layer after layer, each its weights and then its biases. W (out × in) is stored column by column: the
//! input index is the slowest.

use faer::{MatMut, MatRef};
use rand::Rng;

use super::{Activation, Init};
use crate::error::SettingError;

/// A fully connected network; it knows its shape, the parameters θ live with the caller.
#[derive(Debug, Clone, PartialEq)]
pub struct Mlp {
    layers: Vec<Layer>,
    activation: Activation,
}

/// One layer's place in θ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Width of its input.
    pub inputs: usize,
    /// Width of its output.
    pub outputs: usize,
    /// Where its weights start in θ.
    pub offset: usize,
}

impl Layer {
    /// Number of weights.
    #[must_use]
    pub fn weights(&self) -> usize {
        self.inputs * self.outputs
    }

    /// Number of weights and biases.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.weights() + self.outputs
    }

    /// W (out × in) inside a vector ordered like θ.
    pub(crate) fn weight<'a>(&self, theta: &'a [f64]) -> MatRef<'a, f64> {
        let weights = &theta[self.offset..self.offset + self.weights()];
        MatRef::from_column_major_slice(weights, self.outputs, self.inputs)
    }

    /// b (out) inside a vector ordered like θ.
    pub(crate) fn bias<'a>(&self, theta: &'a [f64]) -> &'a [f64] {
        let start = self.offset + self.weights();
        &theta[start..start + self.outputs]
    }

    /// W and b inside a vector ordered like θ, to be written.
    pub(crate) fn parts_mut<'a>(&self, theta: &'a mut [f64]) -> (MatMut<'a, f64>, &'a mut [f64]) {
        let block = &mut theta[self.offset..self.offset + self.parameters()];
        let (weights, bias) = block.split_at_mut(self.weights());
        (MatMut::from_column_major_slice_mut(weights, self.outputs, self.inputs), bias)
    }
}

impl Mlp {
    /// A network with the given layer widths, input and output included.
    ///
    /// # Errors
    /// When there are fewer than two widths, or one of them is 0.
    ///
    /// # Example
    /// ```
    /// use halfinverse::network::{Activation, Mlp};
    /// let network = Mlp::new(&[4, 20, 20, 20, 96], Activation::Relu)?;
    /// assert_eq!(network.parameters(), 2956);
    /// # Ok::<(), halfinverse::SettingError>(())
    /// ```
    pub fn new(widths: &[usize], activation: Activation) -> Result<Self, SettingError> {
        if widths.len() < 2 || widths.contains(&0) {
            return Err(SettingError::new(
                "network.hidden",
                format!("{widths:?} (input and output included)"),
                "layer widths of at least 1",
            ));
        }
        let mut offset = 0;
        let layers = widths
            .windows(2)
            .map(|pair| {
                let layer = Layer { inputs: pair[0], outputs: pair[1], offset };
                offset += layer.parameters();
                layer
            })
            .collect();
        Ok(Self { layers, activation })
    }

    /// The layers, first to last.
    #[must_use]
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The nonlinearity after the hidden layers.
    #[must_use]
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// Width of the input x.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.layers[0].inputs
    }

    /// Width of the output z.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.layers[self.layers.len() - 1].outputs
    }

    /// Number of parameters P.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.layers.iter().map(Layer::parameters).sum()
    }

    /// Draws θ by `init`: weights, and biases where it draws them; else these are 0.
    #[must_use]
    pub fn initialize<R: Rng>(&self, init: Init, rng: &mut R) -> Vec<f64> {
        let mut theta = vec![0.0; self.parameters()];
        for layer in &self.layers {
            let drawn = if init.draws_biases() { layer.parameters() } else { layer.weights() };
            let weights = &mut theta[layer.offset..layer.offset + drawn];
            init.fill(layer.inputs, layer.outputs, weights, rng);
        }
        theta
    }
}
