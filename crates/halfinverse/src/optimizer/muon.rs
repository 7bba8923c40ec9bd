//! Muon: the momentum of each hidden weight matrix with its singular values made about equal.
//!
//! For W (out × in) of every layer but the first and the last, with gradient G:
//!
//! M ← μM + (1−μ)G,  X = ((1−μ)G + μM)/|(1−μ)G + μM|
//! five times: A = XXᵀ,  X ← (aI + bA + cA²)X
//! W ← W − η·(√max(1, out/in)·X + λW)
//!
//! The polynomial takes singular values from 0.003 to 1 to between 0.68 and 1.21 in five steps; it is steep at 0 rather
//! than exact at 1. |·| is the Frobenius norm; X has it as an upper bound of its largest singular value. A gradient of
//! 0 makes no step.
//!
//! A convolution's W has a column for each weight of a kernel, out × in·k, as in the authors' code.
//!
//! The first layer's and the last layer's weights, and all biases and scales, are [AdamW](super::adamw)'s, with a
//! learning rate of its own: a network with fewer than two hidden layers is trained by AdamW alone. A problem that is
//! not made of layers with weight matrices is refused: on it Muon is AdamW, and comparing the two would mislead.
//!
//! A matrix costs 10·(2·min²·max + min³) operations besides the gradient, min and max its two sides; memory P to 2P.
//!
//! Source: Jordan et al., *Muon: An optimizer for hidden layers in neural networks*, kellerjordan.github.io/posts/muon,
//! 2024, and its code: the defaults are those of `MuonWithAuxAdam`, the arithmetic is in 64 bits rather than 16.

use std::io::Write;
use std::ops::Range;

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use serde::{Deserialize, Serialize};

use super::first_order::layers;
use super::{
    AdamW, AdamWSettings, Context, FirstOrder, Numbers, Optimizer, Rule, Setup, Sizes, State, StateError,
};
use crate::error::SettingError;
use crate::fault::StepError;
use crate::linear::threads::par;
use crate::linear::vectors::{add, norm};
use crate::problem::{FactorShape, Problem};

/// Settings of [`Muon`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MuonSettings {
    /// Learning rate η of the hidden matrices: the largest singular value of a step, about.
    pub learning_rate: f64,
    /// Momentum μ.
    pub momentum: f64,
    /// Learning rate of AdamW, for all other parameters.
    pub adam_learning_rate: f64,
    /// AdamW's β₁.
    pub beta1: f64,
    /// AdamW's β₂.
    pub beta2: f64,
    /// AdamW's ε.
    pub epsilon: f64,
    /// Weight decay λ of all parameters.
    pub weight_decay: f64,
}

impl Default for MuonSettings {
    fn default() -> Self {
        Self {
            learning_rate: 0.02,
            momentum: 0.95,
            adam_learning_rate: 3e-4,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-10,
            weight_decay: 0.0,
        }
    }
}

impl Setup for MuonSettings {
    const NAME: &'static str = "muon";
    const ABOUT: &'static str = "orthogonalized momentum of hidden weight matrices, adamw for the rest";
    const STREAMS: bool = true;

    fn build(self, context: &Context) -> Result<Box<dyn Optimizer>, SettingError> {
        Ok(Box::new(FirstOrder::new(Muon::new(self)?.on_threads(context.threads))))
    }

    /// A gradient, and the iteration.
    fn passes(&self, sizes: &Sizes) -> f64 {
        let operations = hidden(&sizes.layers).into_iter().map(|layer| {
            let (o, i) = (layer.outputs as f64, layer.inputs as f64);
            let (short, long) = (o.min(i), o.max(i));
            2.0 * ITERATIONS as f64 * short * short * (2.0 * long + short)
        });
        // A pass takes two operations for each multiplication.
        2.0 + operations.sum::<f64>() / (2.0 * sizes.work as f64 * sizes.batch as f64).max(1.0)
    }

    /// Momentum or two moments, the gradient, and θ before the step; of one matrix X, its successor, A and its
    /// polynomial.
    fn numbers(&self, sizes: &Sizes) -> Numbers {
        let p = sizes.parameters as f64;
        Numbers { working: 8.0 * p, saved: 3.0 * p, ..Numbers::default() }
    }
}

/// a, b, c.
const COEFFICIENTS: [f64; 3] = [3.4445, -4.7750, 2.0315];
/// Steps of the iteration.
const ITERATIONS: usize = 5;

/// Muon with its momentum, and AdamW with its moments.
#[derive(Debug, Clone)]
pub struct Muon {
    settings: MuonSettings,
    par: Par,
    adamw: AdamW,
    /// M of all hidden matrices, one after the other.
    momentum: Vec<f64>,
    hidden: Vec<FactorShape>,
    /// The parts of θ that are AdamW's, and θ and the gradient there.
    others: Vec<Range<usize>>,
    other_theta: Vec<f64>,
    other_gradient: Vec<f64>,
    /// X with no more rows than columns, its successor, A, and its polynomial.
    work: [Mat<f64>; 4],
}

impl Muon {
    /// With these settings, on one thread.
    ///
    /// # Errors
    /// As [`AdamW::new`], and when η is not positive and finite or μ is outside \[0, 1).
    pub fn new(settings: MuonSettings) -> Result<Self, SettingError> {
        let MuonSettings { adam_learning_rate, beta1, beta2, epsilon, weight_decay, .. } = settings;
        SettingError::check_positive("learning_rate", settings.learning_rate)?;
        SettingError::check_positive("adam_learning_rate", adam_learning_rate)?;
        SettingError::check_fraction("momentum", settings.momentum)?;
        let adamw = AdamWSettings { learning_rate: adam_learning_rate, weight_decay, beta1, beta2, epsilon };
        Ok(Self {
            settings,
            par: Par::Seq,
            adamw: AdamW::new(adamw)?,
            momentum: Vec::new(),
            hidden: Vec::new(),
            others: Vec::new(),
            other_theta: Vec::new(),
            other_gradient: Vec::new(),
            work: std::array::from_fn(|_| Mat::new()),
        })
    }

    /// The same, its linear algebra on so many threads of the current rayon pool.
    #[must_use]
    pub fn on_threads(self, threads: usize) -> Self {
        Self { par: par(threads), ..self }
    }

    /// AdamW's direction for what is no hidden matrix, in units of η.
    fn direct_others(&mut self, theta: &[f64], gradient: &mut [f64]) {
        let gather = |from: &[f64], into: &mut Vec<f64>| {
            into.clear();
            self.others.iter().for_each(|range| into.extend_from_slice(&from[range.clone()]));
        };
        gather(theta, &mut self.other_theta);
        gather(gradient, &mut self.other_gradient);
        self.adamw.direct(&self.other_theta, &mut self.other_gradient);
        let ratio = self.settings.adam_learning_rate / self.settings.learning_rate;
        let mut directions = &self.other_gradient[..];
        for range in &self.others {
            let (part, rest) = directions.split_at(range.len());
            gradient[range.clone()].iter_mut().zip(part).for_each(|(g, direction)| *g = ratio * direction);
            directions = rest;
        }
    }
}

/// The weight matrices but for the first and the last one.
fn hidden(layers: &[FactorShape]) -> Vec<FactorShape> {
    let matrices: Vec<FactorShape> = layers.iter().filter(|layer| layer.inputs > 0).copied().collect();
    matrices.get(1..matrices.len().saturating_sub(1)).unwrap_or_default().to_vec()
}

fn weights(layer: &FactorShape) -> Range<usize> {
    layer.offset..layer.offset + layer.outputs * layer.inputs
}

impl Rule for Muon {
    fn learning_rate(&self) -> f64 {
        self.settings.learning_rate
    }

    fn prepare(&mut self, problem: &mut dyn Problem) -> Result<(), StepError> {
        self.hidden = hidden(&layers(problem, MuonSettings::NAME)?);
        self.others.clear();
        let mut start = 0;
        for hidden in self.hidden.iter().map(weights) {
            self.others.push(start..hidden.start);
            start = hidden.end;
        }
        self.others.push(start..problem.parameters());
        Ok(())
    }

    fn direct(&mut self, theta: &[f64], gradient: &mut [f64]) {
        self.direct_others(theta, gradient);
        let Self { settings, momentum, hidden, work, par, .. } = self;
        let mu = settings.momentum;
        momentum.resize(hidden.iter().map(|layer| weights(layer).len()).sum(), 0.0);
        let mut momentum = &mut momentum[..];
        for layer in hidden {
            let range = weights(layer);
            let g = &mut gradient[range.clone()];
            let (m, rest) = momentum.split_at_mut(range.len());
            for (m, g) in m.iter_mut().zip(&mut *g) {
                *m = mu * *m + (1.0 - mu) * *g;
                *g = mu * *m + (1.0 - mu) * *g;
            }
            orthogonalize(g, (layer.outputs, layer.inputs), work, *par);
            add(g, settings.weight_decay, &theta[range]);
            momentum = rest;
        }
    }

    fn save_to(&self, out: &mut dyn Write) -> std::io::Result<()> {
        State::write_within(&|out| self.adamw.save_to(out), out)?;
        State::write(&self.momentum, out)
    }

    fn restore(&mut self, state: &State, parameters: usize) -> Result<(), StateError> {
        let (adamw, momentum): (State, Vec<f64>) = state.read()?;
        let others = parameters.checked_sub(momentum.len()).ok_or_else(|| StateError::refused("momentum"))?;
        self.adamw.restore(&adamw, others)?;
        self.momentum = momentum;
        Ok(())
    }
}

/// Makes the singular values of a matrix of this shape, column by column, about √max(1, rows/columns).
fn orthogonalize(matrix: &mut [f64], shape: (usize, usize), work: &mut [Mat<f64>; 4], par: Par) {
    let (rows, columns) = shape;
    let unit = 1.0 / norm(matrix);
    if !unit.is_finite() {
        return matrix.fill(0.0);
    }
    let (short, long) = (rows.min(columns), rows.max(columns));
    for (work, columns) in work.iter_mut().zip([long, long, short, short]) {
        if work.shape() != (short, columns) {
            *work = Mat::zeros(short, columns);
        }
    }
    let [x, next, a, polynomial] = work;
    let given = MatRef::from_column_major_slice(matrix, rows, columns);
    x.copy_from(if rows > columns { given.transpose() } else { given });
    *x *= faer::Scale(unit);
    let [first, third, fifth] = COEFFICIENTS;
    for _ in 0..ITERATIONS {
        matmul(&mut *a, Accum::Replace, &*x, x.transpose(), 1.0, par);
        matmul(&mut *polynomial, Accum::Replace, &*a, &*a, fifth, par);
        for j in 0..short {
            add(polynomial.col_as_slice_mut(j), third, a.col_as_slice(j));
            polynomial[(j, j)] += first;
        }
        matmul(&mut *next, Accum::Replace, &*polynomial, &*x, 1.0, par);
        std::mem::swap(x, next);
    }
    *x *= faer::Scale((rows as f64 / columns as f64).max(1.0).sqrt());
    let mut out = MatMut::from_column_major_slice_mut(matrix, rows, columns);
    out.copy_from(if rows > columns { x.transpose() } else { x.as_ref() });
}
