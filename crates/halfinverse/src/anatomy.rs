//! What training does to a network and its Jacobian: singular values, how g spreads over them, hidden units.
//!
//! | what | of | says |
//! |---|---|---|
//! | σᵢ and (uᵢᵀg)² | J = U Σ Vᵀ | how much of g lies where J is weak |
//! | σᵢ of Jₗ | the columns of J that belong to layer l | how unevenly layers feel the outcome |
//! | σᵢ of ∂y/∂z | each sample's simulator block | how much of it all is the simulator's doing |
//! | saturation | activations of hidden units | whether units still react to their input |

use faer::{MatRef, Par};

use crate::fault::StepError;
use crate::linear::Jacobian;
use crate::linear::columns::column;
use crate::linear::vectors::norm;
use crate::problem::NetworkProblem;
use crate::spectral::{Solver, SpectralError, singular_values_of, thin_svd};

/// Slope σ′ below which a unit counts as saturated: |tanh| above 0.99, or a ReLU that is off.
pub const SATURATED: f64 = 0.02;

/// The hidden units of one layer over a mini-batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerUnits {
    /// Mean activation over units and samples.
    pub mean: f64,
    /// Standard deviation over samples, averaged over units: 0 when no unit reacts to its input.
    pub deviation: f64,
    /// Share of (unit, sample) pairs with |σ′| < [`SATURATED`].
    pub saturated: f64,
    /// Share of units that are saturated on every sample.
    pub dead: f64,
}

/// The hidden layers of a problem's network, first to last, at its last evaluation; its controls too where they have
/// bounds.
#[must_use]
pub fn hidden_units(problem: &NetworkProblem) -> Vec<LayerUnits> {
    problem.units().into_iter().map(|[units, slopes]| layer_units(units, slopes)).collect()
}

fn layer_units(units: MatRef<'_, f64>, slopes: MatRef<'_, f64>) -> LayerUnits {
    let (b, width) = (units.nrows() as f64, units.ncols() as f64);
    let mut sum = LayerUnits { mean: 0.0, deviation: 0.0, saturated: 0.0, dead: 0.0 };
    for j in 0..units.ncols() {
        let values = column(units, j);
        let mean = values.iter().sum::<f64>() / b;
        let variance = values.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / b;
        let saturated = column(slopes, j).iter().filter(|slope| slope.abs() < SATURATED).count() as f64;
        sum.mean += mean / width;
        sum.deviation += variance.sqrt() / width;
        sum.saturated += saturated / b / width;
        sum.dead += if saturated == b { 1.0 / width } else { 0.0 };
    }
    sum
}

/// J and its parts at one θ.
#[derive(Debug, Clone, PartialEq)]
pub struct Anatomy {
    /// Singular values of J, descending.
    pub sigmas: Vec<f64>,
    /// (uᵢᵀg)²/|g|² for each of them; what they lack to a sum of 1 lies in the left null space of J.
    pub shares: Vec<f64>,
    /// Singular values of each layer's columns of J, descending.
    pub layers: Vec<Vec<f64>>,
    /// Singular values of the simulator's blocks, one list per sample, descending.
    pub blocks: Vec<Vec<f64>>,
    /// Hidden layers.
    pub units: Vec<LayerUnits>,
}

/// Takes J apart: an SVD of J, of each layer's part, and of each sample's block.
///
/// # Errors
/// When J cannot be formed at θ, or an SVD does not converge.
pub fn anatomy(problem: &mut NetworkProblem, theta: &[f64]) -> Result<Anatomy, StepError> {
    let layers = problem.model().network().leaf_spans();
    let samples = problem.mini_batch().len();
    let mut at = problem.linearize_layers(theta)?;
    let g = at.gradient;
    let failed = |_| SpectralError::NoConvergence { tried: vec![Solver::Svd] };
    let transpose = at.jacobian.dense_transpose()?;
    let of = |part: MatRef<'_, f64>| singular_values_of(part, Par::Seq).map_err(failed);
    SpectralError::check_finite("J", (0..g.len()).flat_map(|r| transpose.col_as_slice(r)))?;
    let svd = thin_svd(transpose.as_ref(), Par::Seq).map_err(failed)?;
    let length = norm(g).powi(2);
    let share = |i: usize| {
        let overlap: f64 = svd.v.col_as_slice(i).iter().zip(g).map(|(u, g)| u * g).sum();
        if length > 0.0 { overlap * overlap / length } else { 0.0 }
    };
    let shares = (0..svd.s.len()).map(share).collect();
    let layers =
        layers.iter().map(|span| of(transpose.subrows(span.start, span.len()))).collect::<Result<_, _>>()?;
    let blocks = (0..samples).map(|s| of(at.jacobian.block(s).as_ref())).collect::<Result<_, _>>()?;
    Ok(Anatomy { sigmas: svd.s, shares, layers, blocks, units: hidden_units(problem) })
}
