//! ∂y/∂z of a simulator: what its author gives, and what follows from that.
//!
//! | given | J v | Jᵀu | blocks ∂y/∂z |
//! |---|---|---|---|
//! | `jvp` | one call | by blocks | q calls |
//! | `vjp` | by blocks | one call | m calls |
//! | `block` | by blocks | by blocks | one call |
//!
//! Where several are given each is used for what it is cheapest at; blocks by the one of `jvp` and `vjp` that needs
//! fewer calls.

use faer::prelude::ReborrowMut;
use faer::{Mat, MatMut, MatRef};

use super::{Pattern, Point, Simulator, SimulatorError};
use crate::linear::columns::{column, column_mut, vectorized};

type Product<'a> =
    Box<dyn Fn(Point<'_>, MatRef<'_, f64>, MatMut<'_, f64>) -> Result<(), SimulatorError> + Sync + 'a>;
type Blocks<'a> = Box<dyn Fn(Point<'_>, MatMut<'_, f64>) -> Result<(), SimulatorError> + Sync + 'a>;

/// The derivative of a simulator, in at least one way. Functions overwrite what they are given to write to.
pub struct Derivative<'a> {
    jvp: Option<Product<'a>>,
    vjp: Option<Product<'a>>,
    block: Option<Blocks<'a>>,
}

impl std::fmt::Debug for Derivative<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let given = |name, there| if there { name } else { "" };
        write!(
            f,
            "Derivative({}{}{})",
            given("jvp ", self.jvp.is_some()),
            given("vjp ", self.vjp.is_some()),
            given("block", self.block.is_some())
        )
    }
}

impl<'a> Derivative<'a> {
    /// ẏ = (∂y/∂z) ż: from ż (b × q) to ẏ (b × m).
    pub fn jvp(
        function: impl Fn(Point<'_>, MatRef<'_, f64>, MatMut<'_, f64>) -> Result<(), SimulatorError> + Sync + 'a,
    ) -> Self {
        Self { jvp: Some(Box::new(function)), vjp: None, block: None }
    }

    /// z̄ = (∂y/∂z)ᵀ ȳ: from ȳ (b × m) to z̄ (b × q).
    pub fn vjp(
        function: impl Fn(Point<'_>, MatRef<'_, f64>, MatMut<'_, f64>) -> Result<(), SimulatorError> + Sync + 'a,
    ) -> Self {
        Self { jvp: None, vjp: Some(Box::new(function)), block: None }
    }

    /// ∂y/∂z itself: column j·m + c of the output (b × q·m) is ∂y_c/∂z_j of every sample.
    pub fn block(
        function: impl Fn(Point<'_>, MatMut<'_, f64>) -> Result<(), SimulatorError> + Sync + 'a,
    ) -> Self {
        Self { jvp: None, vjp: None, block: Some(Box::new(function)) }
    }

    /// And by [`Self::jvp`].
    #[must_use]
    pub fn and_jvp(
        self,
        function: impl Fn(Point<'_>, MatRef<'_, f64>, MatMut<'_, f64>) -> Result<(), SimulatorError> + Sync + 'a,
    ) -> Self {
        Self { jvp: Some(Box::new(function)), ..self }
    }

    /// And by [`Self::vjp`].
    #[must_use]
    pub fn and_vjp(
        self,
        function: impl Fn(Point<'_>, MatRef<'_, f64>, MatMut<'_, f64>) -> Result<(), SimulatorError> + Sync + 'a,
    ) -> Self {
        Self { vjp: Some(Box::new(function)), ..self }
    }

    /// And by [`Self::block`].
    #[must_use]
    pub fn and_block(
        self,
        function: impl Fn(Point<'_>, MatMut<'_, f64>) -> Result<(), SimulatorError> + Sync + 'a,
    ) -> Self {
        Self { block: Some(Box::new(function)), ..self }
    }

    /// Whether there are `jvp` and `vjp`.
    pub(crate) fn given(&self) -> (bool, bool) {
        (self.jvp.is_some(), self.vjp.is_some())
    }

    /// ẏ (b × m) from ż (b × q), where there is `jvp`; else nothing.
    pub(crate) fn apply(
        &self,
        at: Point<'_>,
        tangent: MatRef<'_, f64>,
        out: MatMut<'_, f64>,
    ) -> Result<(), SimulatorError> {
        self.jvp.as_ref().map_or(Ok(()), |jvp| jvp(at, tangent, out))
    }

    /// z̄ (b × q) from ȳ (b × m), whichever way there is.
    pub(crate) fn apply_transpose(
        &self,
        simulator: &dyn Simulator,
        at: Point<'_>,
        cotangent: MatRef<'_, f64>,
        out: MatMut<'_, f64>,
    ) -> Result<(), SimulatorError> {
        if let Some(vjp) = &self.vjp {
            return vjp(at, cotangent, out);
        }
        let block = self.allocate_block(simulator, at)?;
        block_cotangent(&block, &simulator.pattern(), cotangent, out);
        Ok(())
    }

    /// The blocks (b × q·m), whichever way there is.
    pub(crate) fn fill_block(
        &self,
        simulator: &dyn Simulator,
        at: Point<'_>,
        mut out: MatMut<'_, f64>,
    ) -> Result<(), SimulatorError> {
        if let Some(block) = &self.block {
            return block(at, out);
        }
        let (b, q, m) = (at.control.nrows(), simulator.controls(), simulator.outcomes());
        match (&self.jvp, &self.vjp) {
            (Some(jvp), vjp) if vjp.is_none() || q <= m => {
                let mut tangent = Mat::zeros(b, q);
                for j in 0..q {
                    tangent.col_as_slice_mut(j).fill(1.0);
                    jvp(at, tangent.as_ref(), out.rb_mut().subcols_mut(j * m, m))?;
                    tangent.col_as_slice_mut(j).fill(0.0);
                }
            }
            (_, Some(vjp)) => {
                let mut cotangent = Mat::zeros(b, m);
                let mut row = Mat::zeros(b, q);
                for c in 0..m {
                    cotangent.col_as_slice_mut(c).fill(1.0);
                    vjp(at, cotangent.as_ref(), row.as_mut())?;
                    cotangent.col_as_slice_mut(c).fill(0.0);
                    for j in 0..q {
                        column_mut(out.rb_mut(), j * m + c).copy_from_slice(row.col_as_slice(j));
                    }
                }
            }
            (_, None) => unreachable!("a derivative is made of one of the three functions"),
        }
        Ok(())
    }

    fn allocate_block(&self, simulator: &dyn Simulator, at: Point<'_>) -> Result<Vec<f64>, SimulatorError> {
        let (b, width) = (at.control.nrows(), simulator.controls() * simulator.outcomes());
        let mut block = vec![0.0; b * width];
        self.fill_block(simulator, at, MatMut::from_column_major_slice_mut(&mut block, b, width))?;
        Ok(block)
    }
}

/// Calls `visit` for every pair (control j, outcome c) of the pattern, in the order of a block's columns.
#[inline(always)]
fn each_pair(pattern: &Pattern, q: usize, m: usize, mut visit: impl FnMut(usize, usize)) {
    match pattern {
        Pattern::Full => {
            for j in 0..q {
                for c in 0..m {
                    visit(j, c);
                }
            }
        }
        Pattern::Sparse(outcomes) => {
            for (j, outcomes) in outcomes.iter().enumerate() {
                for &c in outcomes {
                    visit(j, c);
                }
            }
        }
    }
}

/// ẏ ← ẏ + B ż per sample, for B (b × q·m, as in [`Derivative::block`]) column by column.
pub(crate) fn block_tangent(
    block: &[f64],
    pattern: &Pattern,
    tangent: MatRef<'_, f64>,
    mut out: MatMut<'_, f64>,
) {
    let (b, m) = out.shape();
    vectorized(
        #[inline(always)]
        || {
            each_pair(pattern, tangent.ncols(), m, |j, c| {
                let block = &block[(j * m + c) * b..][..b];
                let out = column_mut(out.rb_mut(), c);
                for ((out, block), tangent) in out.iter_mut().zip(block).zip(column(tangent, j)) {
                    *out += block * tangent;
                }
            });
        },
    );
}

/// z̄ = Bᵀ ȳ per sample, for B (b × q·m, as in [`Derivative::block`]) column by column.
pub(crate) fn block_cotangent(
    block: &[f64],
    pattern: &Pattern,
    cotangent: MatRef<'_, f64>,
    mut out: MatMut<'_, f64>,
) {
    let (b, m) = cotangent.shape();
    let q = out.ncols();
    out.fill(0.0);
    vectorized(
        #[inline(always)]
        || {
            each_pair(pattern, q, m, |j, c| {
                let block = &block[(j * m + c) * b..][..b];
                let out = column_mut(out.rb_mut(), j);
                for ((out, block), y) in out.iter_mut().zip(block).zip(column(cotangent, c)) {
                    *out += block * y;
                }
            });
        },
    );
}
