//! ∂u/∂t + u ∂u/∂x = ν ∂²u/∂x² + Σⱼ zⱼ φⱼ(x), periodic on [0, 1), from u(0) to u(T), with controls z constant in time.
//!
//! Central differences, (u²/2)ₓ ≈ (u²ᵢ₊₁ − u²ᵢ₋₁)/(4 dx), and Runge–Kutta steps of fourth order. All derivatives are
//! those of the discrete scheme, exact to round-off. Numbers lie cell by cell, the samples of a cell side by side, so
//! that the inner loops run over samples.

use std::sync::Arc;

use halfinverse::SettingError;
use halfinverse::faer::{MatMut, MatRef};
use halfinverse::simulator::{Derivative, Point, Setup, Simulator, SimulatorError, Tape};

/// Constants of the flow. Units are dimensionless.
#[derive(Clone, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BurgersSettings {
    /// Cells of the grid.
    pub cells: usize,
    /// Bumps of force, side by side, and controls.
    pub bumps: usize,
    /// Force at the top of a bump whose control is 1.
    pub strength: f64,
    /// ν.
    pub viscosity: f64,
    /// Length of a time step.
    pub dt: f64,
    /// Number of time steps.
    pub steps: usize,
}

impl Default for BurgersSettings {
    fn default() -> Self {
        Self { cells: 128, bumps: 8, strength: 5.0, viscosity: 0.005, dt: 0.004, steps: 50 }
    }
}

impl Setup for BurgersSettings {
    const KIND: &'static str = "burgers";

    fn build(self) -> Result<Arc<dyn Simulator>, SettingError> {
        Ok(Arc::new(Burgers::new(self)?))
    }
}

/// The flow on its grid.
pub struct Burgers {
    settings: BurgersSettings,
    /// strength · φⱼ in every cell, bump after bump.
    bumps: Vec<f64>,
}

/// Stages of a Runge–Kutta step: how far ahead each starts, and its weight, in steps.
const STAGES: [(f64, f64); 4] = [(0.0, 1.0 / 6.0), (0.5, 1.0 / 3.0), (0.5, 1.0 / 3.0), (1.0, 1.0 / 6.0)];

impl Burgers {
    /// A flow with the given constants.
    ///
    /// # Errors
    /// The first constant that is not positive and finite.
    pub fn new(settings: BurgersSettings) -> Result<Self, SettingError> {
        let counts = [("cells", settings.cells), ("bumps", settings.bumps), ("steps", settings.steps)];
        for (key, count) in counts {
            SettingError::check_positive(key, count as f64)?;
        }
        let sizes = [("strength", settings.strength), ("viscosity", settings.viscosity), ("dt", settings.dt)];
        for (key, size) in sizes {
            SettingError::check_positive(key, size)?;
        }
        let mut bumps = Vec::with_capacity(settings.bumps * settings.cells);
        for j in 0..settings.bumps {
            for i in 0..settings.cells {
                let away = i as f64 / settings.cells as f64 - (j as f64 + 0.5) / settings.bumps as f64;
                let away = (away - away.round()) * settings.bumps as f64;
                bumps.push(settings.strength * (-2.0 * away * away).exp());
            }
        }
        Ok(Self { settings, bumps })
    }

    /// The force of every cell (cells · b) that the controls (b × bumps) make.
    pub fn force(&self, control: MatRef<'_, f64>) -> Vec<f64> {
        let b = control.nrows();
        let mut force = vec![0.0; self.settings.cells * b];
        for (j, bump) in self.bumps.chunks_exact(self.settings.cells).enumerate() {
            for (force, height) in force.chunks_exact_mut(b).zip(bump) {
                for (s, force) in force.iter_mut().enumerate() {
                    *force += height * control[(s, j)];
                }
            }
        }
        force
    }

    /// out = f(west, cell, east) for every cell and sample, of the fields' values there.
    fn stencil<const K: usize>(
        &self,
        fields: [&[f64]; K],
        out: &mut [f64],
        f: impl Fn([f64; K], [f64; K], [f64; K]) -> f64,
    ) {
        let n = self.settings.cells;
        let b = out.len() / n;
        for (i, out) in out.chunks_exact_mut(b).enumerate() {
            let at = |cell: usize| fields.map(|field| &field[cell % n * b..][..b]);
            let (west, here, east) = (at(i + n - 1), at(i), at(i + 1));
            for (s, out) in out.iter_mut().enumerate() {
                let of_sample = |fields: [&[f64]; K]| fields.map(|field| field[s]);
                *out = f(of_sample(west), of_sample(here), of_sample(east));
            }
        }
    }

    /// 1/(4 dx) and ν/dx².
    fn scales(&self) -> (f64, f64) {
        let n = self.settings.cells as f64;
        (n / 4.0, self.settings.viscosity * n * n)
    }

    /// ∂u/∂t.
    fn rate(&self, u: &[f64], force: &[f64], out: &mut [f64]) {
        let (flux, diffusion) = self.scales();
        self.stencil([u, force], out, |[west, _], [u, force], [east, _]| {
            flux * (west * west - east * east) + diffusion * (west - 2.0 * u + east) + force
        });
    }

    /// The derivative of [`Self::rate`] at u, along du and dforce.
    fn rate_tangent(&self, u: &[f64], du: &[f64], dforce: &[f64], out: &mut [f64]) {
        let (flux, diffusion) = self.scales();
        self.stencil([u, du, dforce], out, |[west, dwest, _], [_, du, dforce], [east, deast, _]| {
            2.0 * flux * (west * dwest - east * deast) + diffusion * (dwest - 2.0 * du + deast) + dforce
        });
    }

    /// Its transpose: what a cotangent of the rate is for u.
    fn rate_cotangent(&self, u: &[f64], cotangent: &[f64], out: &mut [f64]) {
        let (flux, diffusion) = self.scales();
        self.stencil([u, cotangent], out, |[_, west], [u, here], [_, east]| {
            2.0 * flux * u * (east - west) + diffusion * (west - 2.0 * here + east)
        });
    }

    /// All time steps: `rate` sees the number of a stage, from 0 on, where it starts, and answers with its slope.
    fn integrate(&self, state: &mut [f64], mut rate: impl FnMut(usize, &[f64], &mut [f64])) {
        let (mut at, mut slope) = (state.to_vec(), vec![0.0; state.len()]);
        for step in 0..self.settings.steps {
            let start = state.to_vec();
            for (stage, (ahead, weight)) in STAGES.into_iter().enumerate() {
                add_to(&mut at, &start, ahead * self.settings.dt, &slope);
                rate(4 * step + stage, &at, &mut slope);
                let here = state.to_vec();
                add_to(state, &here, weight * self.settings.dt, &slope);
            }
        }
    }

    /// ȳ back to z̄, by the stages of [`Self::integrate`] in reverse.
    fn pull(&self, path: &[f64], cotangent: &mut [f64]) -> Vec<f64> {
        let size = cotangent.len();
        let (mut force, mut of_state) = (vec![0.0; size], vec![0.0; size]);
        for step in (0..self.settings.steps).rev() {
            let end = cotangent.to_vec();
            of_state.fill(0.0);
            let mut ahead_of_next = 0.0;
            for (stage, (ahead, weight)) in STAGES.into_iter().enumerate().rev() {
                let mut slope = vec![0.0; size];
                for ((slope, end), next) in slope.iter_mut().zip(&end).zip(&of_state) {
                    *slope = self.settings.dt * (weight * end + ahead_of_next * next);
                }
                self.rate_cotangent(&path[(4 * step + stage) * size..][..size], &slope, &mut of_state);
                for (((force, slope), cotangent), of_state) in
                    force.iter_mut().zip(&slope).zip(cotangent.iter_mut()).zip(&of_state)
                {
                    *force += slope;
                    *cotangent += of_state;
                }
                ahead_of_next = ahead;
            }
        }
        force
    }
}

/// out = a + factor · b.
fn add_to(out: &mut [f64], a: &[f64], factor: f64, b: &[f64]) {
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = a + factor * b;
    }
}

/// The samples of every cell side by side.
fn cell_by_cell(matrix: MatRef<'_, f64>) -> Vec<f64> {
    matrix.col_iter().flat_map(|cell| cell.iter()).copied().collect()
}

fn fill(mut out: MatMut<'_, f64>, values: &[f64]) {
    let from = MatRef::from_column_major_slice(values, out.nrows(), out.ncols());
    out.copy_from(from);
}

impl Simulator for Burgers {
    fn initials(&self) -> usize {
        self.settings.cells
    }

    fn controls(&self) -> usize {
        self.settings.bumps
    }

    fn outcomes(&self) -> usize {
        self.settings.cells
    }

    fn simulate(
        &self,
        initial: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
        outcome: MatMut<'_, f64>,
        tape: Option<&mut Tape>,
    ) -> Result<(), SimulatorError> {
        let force = self.force(control);
        let mut state = cell_by_cell(initial);
        let length = self.tape_len(control.nrows());
        let mut path = tape.map(|tape| tape.numbers_mut(length));
        self.integrate(&mut state, |stage, u, slope| {
            if let Some(path) = &mut path {
                path[stage * u.len()..][..u.len()].copy_from_slice(u);
            }
            self.rate(u, &force, slope);
        });
        fill(outcome, &state);
        Ok(())
    }

    /// J v for the blocks, of which there are few columns; Jᵀu for gradients.
    fn derivative(&self) -> Derivative<'_> {
        Derivative::vjp(|at: Point<'_>, dy, mut dz| {
            let force = self.pull(at.tape.numbers(), &mut cell_by_cell(dy));
            let b = dz.nrows();
            for (j, bump) in self.bumps.chunks_exact(self.settings.cells).enumerate() {
                for s in 0..b {
                    dz[(s, j)] =
                        bump.iter().zip(force[s..].iter().step_by(b)).map(|(bump, f)| bump * f).sum();
                }
            }
            Ok(())
        })
        .and_jvp(|at: Point<'_>, dz, dy| {
            let (path, force) = (at.tape.numbers(), self.force(dz));
            let mut state = vec![0.0; force.len()];
            self.integrate(&mut state, |stage, du, slope| {
                self.rate_tangent(&path[stage * du.len()..][..du.len()], du, &force, slope);
            });
            fill(dy, &state);
            Ok(())
        })
    }

    /// The scheme's limits: diffusion alone, 4ν dt/dx² ≤ 2.79.
    fn instability(&self) -> Option<String> {
        let (_, diffusion) = self.scales();
        let most = 2.79 / (4.0 * diffusion);
        (self.settings.dt > most).then(|| {
            format!(
                "dt {} is above 2.79 dx²/(4 viscosity) = {most:.2e}, where diffusion blows up",
                self.settings.dt
            )
        })
    }

    fn tape_len(&self, samples: usize) -> usize {
        4 * self.settings.steps * self.settings.cells * samples
    }
}
