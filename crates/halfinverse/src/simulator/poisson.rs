//! The Laplacian of a field on a rectangular grid: the source that a predicted field would have.
//!
//! y = ∇²z by the 5-point stencil, (Σ neighbours − 4·centre)/dx², on width × height cells, row after row; z and y have
//! one component per cell. Beyond the edge the field is 0, the other side's (periodic), or the edge's own (Neumann:
//! no slope across it).
//!
//! The map is linear and, with each of these edges, symmetric: jvp, vjp and forward are the same 6 operations per cell.
//! Nothing is integrated in time, so no setting makes it unstable; dx is a unit of y, by dx⁻².
//!
//! Source: the Poisson problem of Schnell, Holl, Thuerey, ICLR 2022, and its published constants.

use std::sync::Arc;

use faer::prelude::ReborrowMut;
use faer::{MatMut, MatRef};
use serde::{Deserialize, Serialize};

use super::{Derivative, Pattern, Point, Setup, Simulator, SimulatorError, Tape};
use crate::error::SettingError;
use crate::linear::columns::{column, column_mut};

/// What lies beyond the edge of the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Boundary {
    /// A field of 0.
    Zero,
    /// The other side.
    Periodic,
    /// The edge's own value.
    Neumann,
}

/// The grid; the default is the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PoissonSettings {
    /// Cells in a row.
    pub width: usize,
    /// Number of rows.
    pub height: usize,
    /// Distance of neighbouring cells.
    pub dx: f64,
    /// What lies beyond the edge.
    pub boundary: Boundary,
}

impl Default for PoissonSettings {
    fn default() -> Self {
        Self { width: 8, height: 8, dx: 1.0, boundary: Boundary::Zero }
    }
}

/// The Laplacian on its grid; the [module](self) has its equations.
#[derive(Debug, Clone, PartialEq)]
pub struct Poisson {
    settings: PoissonSettings,
    /// Of each cell, its neighbours inside the field.
    neighbours: Vec<Vec<usize>>,
}

impl Poisson {
    /// A grid with the given constants.
    ///
    /// # Errors
    /// When the grid has no cell or too many, or dx is not positive and finite.
    ///
    /// # Example
    /// ```
    /// use halfinverse::simulator::{Poisson, PoissonSettings, Simulator};
    /// let poisson = Poisson::new(PoissonSettings::default())?;
    /// assert_eq!((poisson.controls(), poisson.outcomes()), (64, 64));
    /// # Ok::<(), halfinverse::SettingError>(())
    /// ```
    pub fn new(settings: PoissonSettings) -> Result<Self, SettingError> {
        for (key, count) in [("width", settings.width), ("height", settings.height)] {
            if count == 0 || count > 256 {
                return Err(SettingError::new(key, count, "from 1 to 256"));
            }
        }
        if !(settings.dx > 0.0 && settings.dx.is_finite()) {
            return Err(SettingError::new("dx", settings.dx, "positive and finite"));
        }
        let cells = settings.width * settings.height;
        let neighbours = (0..cells).map(|cell| neighbours(&settings, cell)).collect();
        Ok(Self { settings, neighbours })
    }

    /// The constants.
    #[must_use]
    pub fn settings(&self) -> &PoissonSettings {
        &self.settings
    }

    /// ∇²field (b × cells) of every sample.
    pub fn laplacian(&self, field: MatRef<'_, f64>, mut out: MatMut<'_, f64>) {
        let scale = 1.0 / (self.settings.dx * self.settings.dx);
        for (cell, neighbours) in self.neighbours.iter().enumerate() {
            let out = column_mut(out.rb_mut(), cell);
            for (out, centre) in out.iter_mut().zip(column(field, cell)) {
                *out = -4.0 * scale * centre;
            }
            for &neighbour in neighbours {
                for (out, value) in out.iter_mut().zip(column(field, neighbour)) {
                    *out += scale * value;
                }
            }
        }
    }
}

/// The neighbours that count, the cell itself where a Neumann edge repeats it.
fn neighbours(settings: &PoissonSettings, cell: usize) -> Vec<usize> {
    let (width, height) = (settings.width, settings.height);
    let (x, y) = (cell % width, cell / width);
    let along = |position: usize, size: usize, forward: bool| match settings.boundary {
        _ if forward && position + 1 < size => Some(position + 1),
        _ if !forward && position > 0 => Some(position - 1),
        Boundary::Zero => None,
        Boundary::Periodic => Some(if forward { 0 } else { size - 1 }),
        Boundary::Neumann => Some(position),
    };
    let beside = [false, true].into_iter().filter_map(|forward| Some(along(x, width, forward)? + y * width));
    let above = [false, true].into_iter().filter_map(|forward| Some(x + along(y, height, forward)? * width));
    beside.chain(above).collect()
}

impl Setup for PoissonSettings {
    const KIND: &'static str = "poisson";

    fn build(self) -> Result<Arc<dyn Simulator>, SettingError> {
        Ok(Arc::new(Poisson::new(self)?))
    }
}

impl Simulator for Poisson {
    fn controls(&self) -> usize {
        self.neighbours.len()
    }

    fn outcomes(&self) -> usize {
        self.neighbours.len()
    }

    fn simulate(
        &self,
        _: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
        outcome: MatMut<'_, f64>,
        _: Option<&mut Tape>,
    ) -> Result<(), SimulatorError> {
        self.laplacian(control, outcome);
        Ok(())
    }

    /// The map is linear and symmetric.
    fn derivative(&self) -> Derivative<'_> {
        let map = |_: Point<'_>, from: MatRef<'_, f64>, to: MatMut<'_, f64>| {
            self.laplacian(from, to);
            Ok(())
        };
        Derivative::jvp(map).and_vjp(map)
    }

    fn pattern(&self) -> Pattern {
        // "Is a neighbour of" is symmetric with each of these edges.
        let depends = self.neighbours.iter().enumerate().map(|(cell, neighbours)| {
            let mut cells = [&neighbours[..], &[cell]].concat();
            cells.sort_unstable();
            cells.dedup();
            cells
        });
        Pattern::Sparse(depends.collect())
    }
}
