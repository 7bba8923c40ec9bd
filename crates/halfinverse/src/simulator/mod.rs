//! Differentiable simulators y = S(z; y₀): from a control z (and an initial state) to an outcome y, per sample.
//!
//! A simulator is written once, serially, for a batch of samples in batch layout (one row per sample, the samples of
//! a feature contiguous); the crate splits batches over threads. Its author writes [`Simulator::forward`] and the
//! derivative that is natural to it; the others follow from that one. [`crate::check::simulator`] compares them all
//! with finite differences.

mod batched;
pub mod dipole;
mod lanes;
pub mod oscillators;
pub mod poisson;
pub mod scaling;

use faer::prelude::ReborrowMut;
use faer::{Mat, MatMut, MatRef};

pub(crate) use batched::Batched;
pub use dipole::{Dipole, DipoleSettings};
pub use oscillators::{Oscillators, OscillatorsSettings, Trajectory};
pub use poisson::{Boundary, Poisson, PoissonSettings};
pub use scaling::Scaling;

use crate::columns::{column, column_mut, vectorized};

/// A derivative that a simulator's author may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Derivative {
    /// ẏ = (∂y/∂z) ż, [`Simulator::jvp`].
    Jvp,
    /// z̄ = (∂y/∂z)ᵀ ȳ, [`Simulator::vjp`].
    Vjp,
    /// ∂y/∂z itself, [`Simulator::block`].
    Block,
}

/// Why a simulator could not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SimulatorError {
    /// [`Simulator::natural`] names a derivative that the simulator does not implement.
    #[error("the simulator names {natural:?} as its natural derivative, but does not implement it")]
    Missing {
        /// What `natural` returned.
        natural: Derivative,
    },
    /// The simulation failed.
    #[error("the simulation failed: {reason}")]
    Failed {
        /// In the simulator's words.
        reason: String,
    },
}

/// Where a derivative is taken: the arguments of the forward pass and what it recorded.
#[derive(Debug, Clone, Copy)]
pub struct Point<'a> {
    /// Initial states, b × [`Simulator::initials`].
    pub initial: MatRef<'a, f64>,
    /// Controls, b × [`Simulator::controls`].
    pub control: MatRef<'a, f64>,
    /// What `forward` wrote at this point.
    pub record: &'a [f64],
}

/// A differentiable map from a control to an outcome, sample by sample.
pub trait Simulator: Send + Sync {
    /// Number of control components q.
    fn controls(&self) -> usize;

    /// Number of outcome components m.
    fn outcomes(&self) -> usize;

    /// Number of components of a sample's initial state; 0 when every sample starts alike.
    fn initials(&self) -> usize;

    /// How many numbers `forward` leaves behind for the derivatives of `samples` samples.
    fn record_len(&self, samples: usize) -> usize {
        let _ = samples;
        0
    }

    /// Whether outcome component c depends on control component j at all; pairs that it denies are skipped in products.
    fn couples(&self, control: usize, outcome: usize) -> bool {
        let _ = (control, outcome);
        true
    }

    /// y (b × m) from initial states (b × [`Self::initials`]) and controls (b × q).
    ///
    /// `record` has [`Self::record_len`]`(b)` entries in whatever order the simulator likes, or none when no derivative
    /// will be asked for.
    ///
    /// # Errors
    /// When the simulation cannot be carried out.
    fn forward(
        &self,
        initial: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
        outcome: MatMut<'_, f64>,
        record: &mut [f64],
    ) -> Result<(), SimulatorError>;

    /// The derivative that this simulator implements; it may implement others for speed.
    fn natural(&self) -> Derivative;

    /// ẏ (b × m) from ż (b × q). By default from the block: q or m sweeps.
    ///
    /// # Errors
    /// When the simulation cannot be carried out, or the natural derivative is missing.
    fn jvp(
        &self,
        at: Point<'_>,
        tangent: MatRef<'_, f64>,
        mut out: MatMut<'_, f64>,
    ) -> Result<(), SimulatorError> {
        if self.natural() == Derivative::Jvp {
            return Err(missing(self.natural()));
        }
        let block = allocate_block(self, at)?;
        out.fill(0.0);
        block_tangent(&block, &coupled_pairs(self), tangent, out);
        Ok(())
    }

    /// z̄ (b × q) from ȳ (b × m). By default from the block: q or m sweeps.
    ///
    /// # Errors
    /// When the simulation cannot be carried out, or the natural derivative is missing.
    fn vjp(
        &self,
        at: Point<'_>,
        cotangent: MatRef<'_, f64>,
        out: MatMut<'_, f64>,
    ) -> Result<(), SimulatorError> {
        if self.natural() == Derivative::Vjp {
            return Err(missing(self.natural()));
        }
        let block = allocate_block(self, at)?;
        block_cotangent(&block, &coupled_pairs(self), cotangent, out);
        Ok(())
    }

    /// ∂y/∂z of every sample: column `j·m + c` of `out` (b × q·m) is ∂y_c/∂z_j. By default m cotangent or q tangent
    /// sweeps.
    ///
    /// # Errors
    /// When the simulation cannot be carried out, or the natural derivative is missing.
    fn block(&self, at: Point<'_>, mut out: MatMut<'_, f64>) -> Result<(), SimulatorError> {
        let (b, q, m) = (at.control.nrows(), self.controls(), self.outcomes());
        match self.natural() {
            Derivative::Block => return Err(missing(Derivative::Block)),
            Derivative::Vjp => {
                let mut cotangent = Mat::zeros(b, m);
                let mut row = Mat::zeros(b, q);
                for c in 0..m {
                    cotangent.col_as_slice_mut(c).fill(1.0);
                    self.vjp(at, cotangent.as_ref(), row.as_mut())?;
                    cotangent.col_as_slice_mut(c).fill(0.0);
                    for j in 0..q {
                        column_mut(out.rb_mut(), j * m + c).copy_from_slice(row.col_as_slice(j));
                    }
                }
            }
            Derivative::Jvp => {
                let mut tangent = Mat::zeros(b, q);
                for j in 0..q {
                    tangent.col_as_slice_mut(j).fill(1.0);
                    self.jvp(at, tangent.as_ref(), out.rb_mut().subcols_mut(j * m, m))?;
                    tangent.col_as_slice_mut(j).fill(0.0);
                }
            }
        }
        Ok(())
    }
}

fn missing(natural: Derivative) -> SimulatorError {
    SimulatorError::Missing { natural }
}

fn allocate_block<S: Simulator + ?Sized>(simulator: &S, at: Point<'_>) -> Result<Vec<f64>, SimulatorError> {
    let (b, width) = (at.control.nrows(), simulator.controls() * simulator.outcomes());
    let mut block = vec![0.0; b * width];
    simulator.block(at, MatMut::from_column_major_slice_mut(&mut block, b, width))?;
    Ok(block)
}

/// Pairs (control j, outcome c) that a simulator couples, in the order of a block's columns.
pub(crate) fn coupled_pairs<S: Simulator + ?Sized>(simulator: &S) -> Vec<(usize, usize)> {
    let pairs = all_pairs(simulator.controls(), simulator.outcomes());
    pairs.into_iter().filter(|&(j, c)| simulator.couples(j, c)).collect()
}

/// Every pair (j, c) of `q` by `m`, in the order of a block's columns.
pub(crate) fn all_pairs(q: usize, m: usize) -> Vec<(usize, usize)> {
    (0..q).flat_map(|j| (0..m).map(move |c| (j, c))).collect()
}

/// ẏ ← ẏ + B ż per sample, for B (b × q·m, as in [`Simulator::block`]) column by column; `pairs` (j, c) count.
pub(crate) fn block_tangent(
    block: &[f64],
    pairs: &[(usize, usize)],
    tangent: MatRef<'_, f64>,
    mut out: MatMut<'_, f64>,
) {
    let (b, m) = out.shape();
    vectorized(
        #[inline(always)]
        || {
            for &(j, c) in pairs {
                let block = &block[(j * m + c) * b..][..b];
                let out = column_mut(out.rb_mut(), c);
                for ((out, block), tangent) in out.iter_mut().zip(block).zip(column(tangent, j)) {
                    *out += block * tangent;
                }
            }
        },
    );
}

/// z̄ = Bᵀ ȳ per sample, for B (b × q·m, as in [`Simulator::block`]) column by column; `pairs` (j, c) count.
pub(crate) fn block_cotangent(
    block: &[f64],
    pairs: &[(usize, usize)],
    cotangent: MatRef<'_, f64>,
    mut out: MatMut<'_, f64>,
) {
    let (b, m) = cotangent.shape();
    out.fill(0.0);
    vectorized(
        #[inline(always)]
        || {
            for &(j, c) in pairs {
                let block = &block[(j * m + c) * b..][..b];
                let out = column_mut(out.rb_mut(), j);
                for ((out, block), y) in out.iter_mut().zip(block).zip(column(cotangent, c)) {
                    *out += block * y;
                }
            }
        },
    );
}
