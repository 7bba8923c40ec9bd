//! y = x + f(x; θ), with f a chain of layers: a residual (skip) block.
//!
//! Costs what f costs. J's columns are those of f's layers: every question about parameters goes to them.
//!
//! Source: He, Zhang, Ren, Sun, *Deep Residual Learning for Image Recognition*, CVPR 2016.

use faer::prelude::ReborrowMut;
use faer::{Mat, MatMut, MatRef, Par};
use rand::Rng;
use serde::{Deserialize, Serialize};
use toml::Table;

use super::chain::{Network, Pass};
use super::layer::{Composite, FactorShape, Inner, Layer, Leaf, Place, Record, Setup, Tensor, Visit};
use super::{Init, NetworkError};
use crate::error::SettingError;

/// Settings of [`Residual`].
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
        Ok(Box::new(Network::new(layers).and_then(Residual::new).map_err(refuse)?))
    }
}

/// A block whose input is added to its output.
#[derive(Debug, Clone)]
pub struct Residual {
    inner: Network,
}

impl Residual {
    /// Around these layers.
    ///
    /// # Errors
    /// When their output is not as wide as their input.
    ///
    /// # Example
    /// ```
    /// use halfinverse::network::{Activation, Dense, Network, Residual, Units};
    /// let block = Residual::new(Network::new(vec![
    ///     Box::new(Dense::new(16, 16)?),
    ///     Box::new(Units::new(Activation::Tanh, 16)),
    /// ])?)?;
    /// let network = Network::new(vec![Box::new(Dense::new(3, 16)?), Box::new(block), Box::new(Dense::new(16, 2)?)])?;
    /// assert_eq!(network.parameters(), 64 + 272 + 34);
    /// # Ok::<(), halfinverse::network::NetworkError>(())
    /// ```
    pub fn new(inner: Network) -> Result<Self, NetworkError> {
        let (inputs, outputs) = (inner.inputs(), inner.outputs());
        if inputs != outputs {
            return Err(NetworkError::Residual { inputs, outputs });
        }
        Ok(Self { inner })
    }
}

fn pass(record: &Record) -> &Pass {
    record.downcast_ref().expect("`forward` has left a pass")
}

impl Layer for Residual {
    fn inputs(&self) -> usize {
        self.inner.inputs()
    }

    fn outputs(&self) -> usize {
        self.inner.outputs()
    }

    fn parameters(&self) -> usize {
        self.inner.parameters()
    }

    fn tensors(&self) -> Vec<Tensor> {
        self.inner.tensors()
    }

    fn initialize(&self, init: Init, rng: &mut dyn Rng, theta: &mut [f64]) {
        self.inner.initialize_into(init, rng, theta);
    }

    fn forward(
        &self,
        theta: &[f64],
        input: MatRef<'_, f64>,
        record: &mut Record,
        mut output: MatMut<'_, f64>,
        par: Par,
    ) {
        let samples = input.nrows();
        if record.downcast_ref::<Pass>().is_none_or(|pass| pass.output.nrows() != samples) {
            *record = Box::new(Pass::new(&self.inner, samples));
        }
        let pass: &mut Pass = record.downcast_mut().expect("made above");
        pass.inputs[0].copy_from(input);
        pass.forward(&self.inner, theta, par);
        output.copy_from(&pass.output);
        output += input;
    }

    fn tangent(
        &self,
        at: Place<'_>,
        input: Option<MatRef<'_, f64>>,
        v: &[f64],
        mut output: MatMut<'_, f64>,
        par: Par,
    ) {
        let mut scratch = self.inner.scratch(at.input.nrows());
        pass(at.record).tangent(&self.inner, at.theta, input, v, output.rb_mut(), &mut scratch, par);
        if let Some(input) = input {
            output += input;
        }
    }

    fn pull(&self, at: Place<'_>, cotangent: MatRef<'_, f64>, input: MatMut<'_, f64>, par: Par) {
        self.backward(at, 0, cotangent, Some(input), &mut |_, _| (), par);
    }

    fn gradient(&self, at: Place<'_>, cotangent: MatRef<'_, f64>, out: &mut [f64], par: Par) {
        self.backward(
            at,
            0,
            cotangent,
            None,
            &mut |leaf, delta| leaf.layer.gradient(leaf.place, delta, leaf.of_mut(out), par),
            par,
        );
    }

    fn factors(&self) -> bool {
        self.inner.factored()
    }

    fn composite(&self) -> Option<&dyn Composite> {
        Some(self)
    }
}

impl Composite for Residual {
    fn backward(
        &self,
        at: Place<'_>,
        offset: usize,
        cotangent: MatRef<'_, f64>,
        input: Option<MatMut<'_, f64>>,
        visit: &mut Visit<'_>,
        par: Par,
    ) {
        let mut scratch: [Mat<f64>; 2] = self.inner.scratch(cotangent.nrows());
        let place = (at.theta, offset);
        match input {
            None => pass(at.record).backward(&self.inner, place, cotangent, None, visit, &mut scratch, par),
            Some(mut input) => {
                let inside = Some(input.rb_mut());
                pass(at.record).backward(&self.inner, place, cotangent, inside, visit, &mut scratch, par);
                input += cotangent;
            }
        }
    }

    fn leaves<'a>(&'a self, at: Place<'a>, offset: usize, leaves: &mut Vec<Leaf<'a>>) {
        pass(at.record).leaves(&self.inner, at.theta, offset, leaves);
    }

    fn factor_shapes(&self, offset: usize, shapes: &mut Vec<FactorShape>) {
        self.inner.add_factor_shapes(offset, shapes);
    }

    fn units<'a>(&'a self, record: &'a Record, units: &mut Vec<[MatRef<'a, f64>; 2]>) {
        pass(record).units(&self.inner, units);
    }
}
