//! A chain of layers f with a way around it: what residual blocks, linear skips and concatenations have in common.
//!
//! | block | y | x̄ |
//! |---|---|---|
//! | [residual](super::residual) | x + f(x) | ȳ + f'ᵀȳ |
//! | [linear skip](super::linear_skip) | W x + f(x) | Wᵀȳ + f'ᵀȳ |
//! | [concatenation](super::concatenation) | (x, f(x)) | ȳ₁ + f'ᵀȳ₂ |
//!
//! Costs what f costs, and W as a dense layer. Every question about parameters goes to the layers inside; W comes
//! before those of f.

use faer::linalg::matmul::matmul;
use faer::prelude::ReborrowMut;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use rand::Rng;

use super::chain::{Network, Pass};
use super::layer::{Composite, Layer, Leaf, Place, Record, Tensor, Visit};
use super::{Dense, Init};

/// A chain of layers with a way around it.
#[derive(Debug, Clone)]
pub struct Block {
    inner: Network,
    around: Around,
}

/// How the input gets around the layers inside.
#[derive(Debug, Clone, Copy)]
pub(super) enum Around {
    /// Added to their output.
    Added,
    /// In front of their output.
    Beside,
    /// Through a matrix W, and added to their output.
    Mapped(Dense),
}

impl Block {
    /// The widths fit.
    pub(super) fn around(inner: Network, around: Around) -> Self {
        Self { inner, around }
    }

    /// W, where there is one.
    fn map(&self) -> Option<&Dense> {
        match &self.around {
            Around::Mapped(map) => Some(map),
            Around::Added | Around::Beside => None,
        }
    }

    /// Number of W's parameters, which come first.
    fn mapped(&self) -> usize {
        self.map().map_or(0, Dense::parameters)
    }

    /// Columns of y before those of f(x).
    fn beside(&self) -> usize {
        if matches!(self.around, Around::Beside) { self.inner.inputs() } else { 0 }
    }

    /// W, at its place.
    fn leaf<'a>(&'a self, at: Place<'a>, offset: usize) -> Option<Leaf<'a>> {
        let place = Place { theta: &at.theta[..self.mapped()], ..at };
        self.map().map(|layer| Leaf { layer, offset, place })
    }

    /// Adds what comes around, y of x or ẏ of ẋ, to the output of f.
    fn add(&self, theta: &[f64], x: MatRef<'_, f64>, mut y: MatMut<'_, f64>, par: Par) {
        match &self.around {
            Around::Added => y += x,
            Around::Beside => y.subcols_mut(0, x.ncols()).copy_from(x),
            Around::Mapped(map) => {
                matmul(y, Accum::Add, x, map.weight(&theta[..self.mapped()]).transpose(), 1.0, par);
            }
        }
    }
}

fn pass(record: &Record) -> &Pass {
    record.downcast_ref().expect("`forward` has left a pass")
}

impl Layer for Block {
    fn inputs(&self) -> usize {
        self.inner.inputs()
    }

    fn outputs(&self) -> usize {
        self.beside() + self.inner.outputs()
    }

    fn parameters(&self) -> usize {
        self.mapped() + self.inner.parameters()
    }

    fn tensors(&self) -> Vec<Tensor> {
        let mut tensors = self.map().map_or_else(Vec::new, Layer::tensors);
        let mapped = self.mapped();
        let moved = |tensor: Tensor| Tensor { offset: mapped + tensor.offset, ..tensor };
        tensors.extend(self.inner.tensors().into_iter().map(moved));
        tensors
    }

    fn initialize(&self, init: Init, rng: &mut dyn Rng, theta: &mut [f64]) {
        let (map, inner) = theta.split_at_mut(self.mapped());
        if let Some(dense) = self.map() {
            dense.initialize(init, rng, map);
        }
        self.inner.initialize_into(init, rng, inner);
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
        pass.forward(&self.inner, &theta[self.mapped()..], par);
        output.rb_mut().subcols_mut(self.beside(), self.inner.outputs()).copy_from(&pass.output);
        self.add(theta, input, output, par);
    }

    fn tangent(
        &self,
        at: Place<'_>,
        input: Option<MatRef<'_, f64>>,
        v: &[f64],
        mut output: MatMut<'_, f64>,
        par: Par,
    ) {
        let (theta, (map, v)) = (&at.theta[self.mapped()..], v.split_at(self.mapped()));
        let (mut before, mut inside) = output.rb_mut().split_at_col_mut(self.beside());
        before.fill(0.0);
        let mut scratch = self.inner.scratch(at.input.nrows());
        pass(at.record).tangent(&self.inner, theta, input, v, inside.rb_mut(), &mut scratch, par);
        if let Some(dense) = self.map() {
            matmul(inside, Accum::Add, at.input, dense.weight(map).transpose(), 1.0, par);
        }
        if let Some(input) = input {
            self.add(at.theta, input, output, par);
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

    fn composite(&self) -> Option<&dyn Composite> {
        Some(self)
    }
}

impl Composite for Block {
    fn backward(
        &self,
        at: Place<'_>,
        offset: usize,
        cotangent: MatRef<'_, f64>,
        mut input: Option<MatMut<'_, f64>>,
        visit: &mut Visit<'_>,
        par: Par,
    ) {
        let mut scratch = self.inner.scratch(cotangent.nrows());
        let place = (&at.theta[self.mapped()..], offset + self.mapped());
        let (before, inside) = cotangent.split_at_col(self.beside());
        let target = input.as_mut().map(MatMut::rb_mut);
        let scratch = scratch.each_mut().map(Mat::as_mut);
        pass(at.record).backward(&self.inner, place, inside, target, visit, scratch, par);
        if let Some(leaf) = self.leaf(at, offset) {
            visit(&leaf, inside);
        }
        let Some(mut input) = input else { return };
        match &self.around {
            Around::Added => input += inside,
            Around::Beside => input += before,
            Around::Mapped(dense) => {
                let weight = dense.weight(&at.theta[..self.mapped()]);
                matmul(input.rb_mut(), Accum::Add, inside, weight, 1.0, par);
            }
        }
    }

    fn leaves<'a>(&'a self, at: Place<'a>, offset: usize, leaves: &mut Vec<Leaf<'a>>) {
        leaves.extend(self.leaf(at, offset));
        let mapped = self.mapped();
        pass(at.record).leaves(&self.inner, &at.theta[mapped..], offset + mapped, leaves);
    }

    fn each(&self, offset: usize, visit: &mut dyn FnMut(&dyn Layer, usize)) {
        if let Some(map) = self.map() {
            visit(map, offset);
        }
        self.inner.each(offset + self.mapped(), visit);
    }

    fn units<'a>(&'a self, record: &'a Record, units: &mut Vec<[MatRef<'a, f64>; 2]>) {
        pass(record).units(&self.inner, units);
    }
}
