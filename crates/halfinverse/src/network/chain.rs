//! A network: layers one after the other, z = f(x; θ), and one mini-batch on its way through them.
//!
//! forward   xₗ₊₁ = fₗ(xₗ; θₗ)
//! tangent   ẋₗ₊₁ = (∂fₗ/∂x) ẋₗ + (∂fₗ/∂θ) vₗ, from ẋ₀ = 0: J_network·v
//! backward  x̄ₗ = (∂fₗ/∂x)ᵀ x̄ₗ₊₁, with θ̄ₗ = (∂fₗ/∂θ)ᵀ x̄ₗ₊₁: J_networkᵀ·u
//!
//! θ holds the layers' parameters one after the other. For dense layers a forward sweep costs 2bP operations, a
//! backward or tangent sweep 4bP. Sweeps along a chain that contains no other do not allocate.

use std::ops::Range;
use std::sync::Arc;

use faer::prelude::{Reborrow, ReborrowMut};
use faer::{Mat, MatMut, MatRef, Par};
use rand::Rng;

use super::activation::Units;
use super::layer::{FactorShape, Layer, Leaf, Place, Record, Tensor, Visit};
use super::{Activation, Dense, Init, NetworkError};

/// Layers one after the other; the network knows its shape, the parameters θ live with the caller.
#[derive(Debug, Clone)]
pub struct Network {
    layers: Arc<[Part]>,
    parameters: usize,
}

/// A layer and its place in θ.
#[derive(Debug)]
struct Part {
    layer: Box<dyn Layer>,
    offset: usize,
    parameters: usize,
}

impl Part {
    fn of<'a>(&self, theta: &'a [f64]) -> &'a [f64] {
        &theta[self.offset..self.offset + self.parameters]
    }
}

impl Network {
    /// These layers, first to last.
    ///
    /// # Errors
    /// When there is none, or one is not as wide as the one before it.
    pub fn new(layers: Vec<Box<dyn Layer>>) -> Result<Self, NetworkError> {
        if layers.is_empty() {
            return Err(NetworkError::Empty);
        }
        for (i, pair) in layers.windows(2).enumerate() {
            let (expected, found) = (pair[0].outputs(), pair[1].inputs());
            if expected != found {
                return Err(NetworkError::Fit { layer: i + 1, expected, found });
            }
        }
        let mut parameters = 0;
        let place = |layer: Box<dyn Layer>| {
            let part = Part { offset: parameters, parameters: layer.parameters(), layer };
            parameters += part.parameters;
            part
        };
        let layers = layers.into_iter().map(place).collect();
        Ok(Self { layers, parameters })
    }

    /// A multi-layer perceptron with the given layer widths, input and output included: dense layers, an activation
    /// after each but the last.
    ///
    /// # Errors
    /// When there are fewer than two widths, or one of them is 0.
    ///
    /// # Example
    /// ```
    /// use halfinverse::network::{Activation, Network};
    /// let network = Network::mlp(&[4, 20, 20, 20, 96], Activation::Relu)?;
    /// assert_eq!(network.parameters(), 2956);
    /// # Ok::<(), halfinverse::network::NetworkError>(())
    /// ```
    pub fn mlp(widths: &[usize], activation: Activation) -> Result<Self, NetworkError> {
        let mut layers: Vec<Box<dyn Layer>> = Vec::new();
        for pair in widths.windows(2) {
            if !layers.is_empty() {
                layers.push(Box::new(Units::new(activation, pair[0])));
            }
            layers.push(Box::new(Dense::new(pair[0], pair[1])?));
        }
        Self::new(layers)
    }

    /// Width of the input x.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.layers[0].layer.inputs()
    }

    /// Width of the output z.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.last().layer.outputs()
    }

    /// Number of parameters P.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    fn last(&self) -> &Part {
        &self.layers[self.layers.len() - 1]
    }

    /// Whether z is what a layer with parameters puts out, and not an activation or a block of layers.
    #[must_use]
    pub(crate) fn ends_in_leaf(&self) -> bool {
        let last = self.last();
        last.parameters > 0 && last.layer.composite().is_none()
    }

    /// Shows `visit` all layers, those inside others too, first to last, each with its first parameter's place in θ.
    pub(crate) fn each(&self, offset: usize, visit: &mut dyn FnMut(&dyn Layer, usize)) {
        for part in &*self.layers {
            let offset = offset + part.offset;
            if let Some(composite) = part.layer.composite() {
                composite.each(offset, visit);
            }
            visit(&*part.layer, offset);
        }
    }

    /// Sum over all layers that contain no other.
    fn sum(&self, of: impl Fn(&dyn Layer) -> usize) -> usize {
        let mut sum = 0;
        self.each(0, &mut |layer, _| sum += if layer.composite().is_none() { of(layer) } else { 0 });
        sum
    }

    /// Sum of the widths of all layers: numbers that a sample leaves on its way.
    pub(crate) fn widths(&self) -> usize {
        let mut sum = 0;
        self.each(0, &mut |layer, _| sum += layer.outputs());
        sum
    }

    /// The largest width of a layer.
    pub(crate) fn widest(&self) -> usize {
        let mut widest = 0;
        self.each(0, &mut |layer, _| widest = layer.outputs().max(widest));
        widest
    }

    /// Where in θ the parameters of the layers that contain no other are.
    pub(crate) fn leaf_spans(&self) -> Vec<Range<usize>> {
        let mut spans = Vec::new();
        self.each(0, &mut |layer, offset| {
            if layer.composite().is_none() && layer.parameters() > 0 {
                spans.push(offset..offset + layer.parameters());
            }
        });
        spans
    }

    /// Sum of the widths of all layers with parameters that contain no other.
    pub(crate) fn leaf_widths(&self) -> usize {
        self.sum(|layer| if layer.parameters() > 0 { layer.outputs() } else { 0 })
    }

    /// Multiplications of a forward pass of a sample.
    pub(crate) fn work(&self) -> usize {
        self.sum(|layer| layer.work())
    }

    /// The parts of θ by name: `layers.i.…` for the i-th layer with parameters.
    #[must_use]
    pub fn tensors(&self) -> Vec<Tensor> {
        let with_parameters = self.layers.iter().filter(|part| part.parameters > 0);
        let named = with_parameters.enumerate().flat_map(|(i, part)| {
            part.layer.tensors().into_iter().map(move |tensor| Tensor {
                name: format!("layers.{i}.{}", tensor.name),
                offset: part.offset + tensor.offset,
                ..tensor
            })
        });
        named.collect()
    }

    /// Draws θ by `init`: weights, and biases where it draws them; else these are 0.
    #[must_use]
    pub fn initialize(&self, init: Init, rng: &mut dyn Rng) -> Vec<f64> {
        let mut theta = vec![0.0; self.parameters];
        self.initialize_into(init, rng, &mut theta);
        theta
    }

    pub(super) fn initialize_into(&self, init: Init, rng: &mut dyn Rng, theta: &mut [f64]) {
        for part in &*self.layers {
            let theta = &mut theta[part.offset..part.offset + part.parameters];
            part.layer.initialize(init, rng, theta);
        }
    }

    /// Whether all layers with parameters have Kronecker factors.
    #[must_use]
    pub fn factored(&self) -> bool {
        self.sum(|layer| usize::from(layer.parameters() > 0 && layer.factors().is_empty())) == 0
    }

    /// The parameters as matrices, where they have Kronecker factors; first to last.
    #[must_use]
    pub fn factor_shapes(&self) -> Vec<FactorShape> {
        let mut shapes = Vec::new();
        self.each(0, &mut |layer, offset| {
            let placed = |shape: FactorShape| FactorShape { offset: offset + shape.offset, ..shape };
            shapes.extend(layer.factors().into_iter().map(placed));
        });
        shapes
    }

    /// Two matrices that sweeps over so many rows work in.
    pub(crate) fn scratch(&self, rows: usize) -> [Mat<f64>; 2] {
        let inner = &self.layers[..self.layers.len() - 1];
        let widest = inner.iter().map(|part| part.layer.outputs()).max().unwrap_or(0);
        [Mat::zeros(rows, widest), Mat::zeros(rows, widest)]
    }
}

/// One mini-batch on its way through a network.
pub(crate) struct Pass {
    /// Input of each layer, b × in.
    pub(crate) inputs: Vec<Mat<f64>>,
    /// What each layer keeps.
    records: Vec<Record>,
    /// z, b × q.
    pub(crate) output: Mat<f64>,
}

impl Pass {
    pub(crate) fn new(network: &Network, samples: usize) -> Self {
        let layers = &network.layers;
        Self {
            inputs: layers.iter().map(|part| Mat::zeros(samples, part.layer.inputs())).collect(),
            records: layers.iter().map(|_| Box::new(()) as Record).collect(),
            output: Mat::zeros(samples, network.outputs()),
        }
    }

    /// Fills the layers' inputs, their records and the output from `inputs[0]`.
    pub(crate) fn forward(&mut self, network: &Network, theta: &[f64], par: Par) {
        for (l, part) in network.layers.iter().enumerate() {
            let (before, after) = self.inputs.split_at_mut(l + 1);
            let next = after.first_mut().unwrap_or(&mut self.output);
            let (input, record) = (before[l].as_ref(), &mut self.records[l]);
            part.layer.forward(part.of(theta), input, record, next.as_mut(), par);
        }
    }

    fn place<'a>(&'a self, l: usize, part: &Part, theta: &'a [f64]) -> Place<'a> {
        Place { theta: part.of(theta), input: self.inputs[l].as_ref(), record: &self.records[l] }
    }

    /// ż = J_network·v (+ (∂z/∂x) ẋ), b × q.
    #[allow(clippy::too_many_arguments, reason = "one sweep: where, along what, into what, in what")]
    pub(crate) fn tangent(
        &self,
        network: &Network,
        theta: &[f64],
        input: Option<MatRef<'_, f64>>,
        v: &[f64],
        mut out: MatMut<'_, f64>,
        scratch: &mut [Mat<f64>; 2],
        par: Par,
    ) {
        let last = network.layers.len() - 1;
        let [mut current, mut next] = scratch.each_mut().map(Mat::as_mut);
        // Whether the input of the present layer moves, and where that stands.
        let (mut moves, mut first) = (input.is_some(), input);
        for (l, part) in network.layers.iter().enumerate() {
            if !moves && part.parameters == 0 {
                continue;
            }
            let layer = &part.layer;
            let before =
                moves.then(|| first.take().unwrap_or_else(|| current.rb().subcols(0, layer.inputs())));
            let target = if l == last { out.rb_mut() } else { next.rb_mut().subcols_mut(0, layer.outputs()) };
            layer.tangent(self.place(l, part, theta), before, part.of(v), target, par);
            moves = true;
            std::mem::swap(&mut current, &mut next);
        }
        if !moves {
            out.fill(0.0);
        }
    }

    /// x̄ from z̄, several one below the other, and each leaf on the way shown to `visit`, last to first. θ of the
    /// network stands at the given offset of a longer one.
    #[allow(clippy::too_many_arguments, reason = "one sweep: where, from what, into what, in what")]
    pub(crate) fn backward(
        &self,
        network: &Network,
        (theta, offset): (&[f64], usize),
        cotangent: MatRef<'_, f64>,
        mut input: Option<MatMut<'_, f64>>,
        visit: &mut Visit<'_>,
        [mut current, mut next]: [MatMut<'_, f64>; 2],
        par: Par,
    ) {
        let last = network.layers.len() - 1;
        for (l, part) in network.layers.iter().enumerate().rev() {
            let (layer, place) = (&part.layer, self.place(l, part, theta));
            let cotangent = if l == last { cotangent } else { current.rb().subcols(0, layer.outputs()) };
            let target = match l {
                0 => input.take(),
                _ => Some(next.rb_mut().subcols_mut(0, layer.inputs())),
            };
            let offset = offset + part.offset;
            if let Some(composite) = layer.composite() {
                composite.backward(place, offset, cotangent, target, visit, par);
            } else {
                if part.parameters > 0 {
                    visit(&Leaf { layer: &**layer, offset, place }, cotangent);
                }
                if let Some(target) = target {
                    layer.pull(place, cotangent, target, par);
                }
            }
            std::mem::swap(&mut current, &mut next);
        }
    }

    /// J_networkᵀ·z̄ for z̄ (b × q), summed over samples, in the order of θ.
    pub(crate) fn gradient(
        &self,
        network: &Network,
        theta: &[f64],
        cotangent: MatRef<'_, f64>,
        gradient: &mut [f64],
        scratch: &mut [Mat<f64>; 2],
        par: Par,
    ) {
        let visit = &mut |leaf: &Leaf<'_>, delta: MatRef<'_, f64>| {
            leaf.layer.gradient(leaf.place, delta, leaf.of_mut(gradient), par);
        };
        let scratch = scratch.each_mut().map(Mat::as_mut);
        self.backward(network, (theta, 0), cotangent, None, visit, scratch, par);
    }

    /// Adds the layers with parameters that contain no others to `leaves`, first to last.
    pub(crate) fn leaves<'a>(
        &'a self,
        network: &'a Network,
        theta: &'a [f64],
        offset: usize,
        leaves: &mut Vec<Leaf<'a>>,
    ) {
        for (l, part) in network.layers.iter().enumerate() {
            let (place, offset) = (self.place(l, part, theta), offset + part.offset);
            match part.layer.composite() {
                Some(composite) => composite.leaves(place, offset, leaves),
                None if part.parameters > 0 => leaves.push(Leaf { layer: &*part.layer, offset, place }),
                None => {}
            }
        }
    }

    /// Adds output and slopes (b × width each) of every activation to `units`, first to last.
    pub(crate) fn units<'a>(&'a self, network: &'a Network, units: &mut Vec<[MatRef<'a, f64>; 2]>) {
        for (l, part) in network.layers.iter().enumerate() {
            let record = &self.records[l];
            if let Some(composite) = part.layer.composite() {
                composite.units(record, units);
            } else if let Some(slopes) = part.layer.slopes(record) {
                let output = self.inputs.get(l + 1).unwrap_or(&self.output);
                units.push([output.as_ref(), slopes]);
            }
        }
    }
}
