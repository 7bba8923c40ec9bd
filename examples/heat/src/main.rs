//! The program `hig` with the heat equation in two dimensions: the sources that make a given temperature.

use std::sync::Arc;

use halfinverse::faer::{Mat, MatMut, MatRef};
use halfinverse::simulator::{Boundary, Derivative, Point, Poisson, PoissonSettings};
use halfinverse::simulator::{Setup, Simulator, SimulatorError, Tape};
use halfinverse::task::Task;
use halfinverse::{NetworkProblem, SettingError};
use hig::plotters::prelude::*;

fn main() -> std::process::ExitCode {
    hig::Program::new()
        .named("heat")
        .parts(|registry| registry.simulator::<HeatSettings>())
        .task(include_str!("../heat.toml"))
        .picture(HeatSettings::KIND, Maps)
        .run()
}

/// ∂T/∂t = ∇²T + z(x) on a square plate whose edge is kept at 0, from T = 0 on. Lengths are in cells.
#[derive(Clone, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct HeatSettings {
    /// Cells of a side.
    side: usize,
    /// Length of a time step.
    dt: f64,
    /// Number of time steps.
    steps: usize,
}

impl Default for HeatSettings {
    fn default() -> Self {
        Self { side: 32, dt: 0.2, steps: 50 }
    }
}

impl Setup for HeatSettings {
    const KIND: &'static str = "heat";

    fn build(self) -> Result<Arc<dyn Simulator>, SettingError> {
        SettingError::check_positive("dt", self.dt)?;
        SettingError::check_positive("steps", self.steps as f64)?;
        let HeatSettings { side, dt, steps } = self;
        let grid = PoissonSettings { width: side, height: side, dx: 1.0, boundary: Boundary::Zero };
        let grid = Poisson::new(grid).map_err(|error| SettingError::new("side", side, error.to_string()))?;
        Ok(Arc::new(Heat { grid, dt, steps }))
    }
}

/// Euler's steps with the 5-point Laplacian that the Poisson task has.
struct Heat {
    grid: Poisson,
    dt: f64,
    steps: usize,
}

impl Heat {
    /// T after all steps. It is linear in the sources, and symmetric, since each step is.
    fn temperature(&self, source: MatRef<'_, f64>, mut out: MatMut<'_, f64>) {
        let mut state: Mat<f64> = Mat::zeros(source.nrows(), source.ncols());
        let mut flow = state.clone();
        for _ in 0..self.steps {
            self.grid.laplacian(state.as_ref(), flow.as_mut());
            for j in 0..source.ncols() {
                for s in 0..source.nrows() {
                    state[(s, j)] += self.dt * (flow[(s, j)] + source[(s, j)]);
                }
            }
        }
        out.copy_from(&state);
    }
}

impl Simulator for Heat {
    fn controls(&self) -> usize {
        self.grid.controls()
    }

    fn outcomes(&self) -> usize {
        self.grid.controls()
    }

    fn simulate(
        &self,
        _: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
        outcome: MatMut<'_, f64>,
        _: Option<&mut Tape>,
    ) -> Result<(), SimulatorError> {
        self.temperature(control, outcome);
        Ok(())
    }

    fn derivative(&self) -> Derivative<'_> {
        let map = |_: Point<'_>, from: MatRef<'_, f64>, to: MatMut<'_, f64>| {
            self.temperature(from, to);
            Ok(())
        };
        Derivative::jvp(map).and_vjp(map)
    }

    fn instability(&self) -> Option<String> {
        (self.dt > 0.25)
            .then(|| format!("dt {} is above 0.25, where Euler's steps of diffusion blow up", self.dt))
    }
}

/// Maps of a few test samples.
struct Maps;

impl hig::Picture for Maps {
    fn samples(&self) -> usize {
        3
    }

    fn caption(&self) -> String {
        "Three test samples: the temperature that is wanted, the network's sources, the temperature that they make, \
         and what is missing, each in units of its largest value"
            .to_owned()
    }

    fn svg(&self, task: &Task, problem: &NetworkProblem) -> Result<String, Box<dyn std::error::Error>> {
        let settings: HeatSettings = task.settings().simulator.read()?;
        let (side, target) = (settings.side, problem.mini_batch().target.as_ref());
        let missing = target - problem.outcome();
        let maps = [
            ("wanted", target),
            ("sources", problem.control()),
            ("made", problem.outcome()),
            ("missing", missing.as_ref()),
        ];
        let mut text = String::new();
        let area = SVGBackend::with_string(&mut text, (1050, 840)).into_drawing_area();
        area.fill(&WHITE)?;
        for (s, row) in area.split_evenly((3, 1)).iter().enumerate().take(target.nrows()) {
            for (panel, (name, field)) in row.split_evenly((1, maps.len())).iter().zip(maps) {
                let most = field.row(s).norm_max().max(f64::MIN_POSITIVE);
                let mut builder = ChartBuilder::on(panel);
                builder.margin(10).caption(format!("{name} (±{most:.2e})"), ("sans-serif", 16));
                let mut plot = builder.build_cartesian_2d(0.0..side as f64, 0.0..side as f64)?;
                plot.draw_series((0..side * side).map(|cell| {
                    let (x, y) = ((cell % side) as f64, (side - 1 - cell / side) as f64);
                    let part = field[(s, cell)] / most;
                    let hue = HSLColor(if part > 0.0 { 0.0 } else { 0.6 }, 0.7, 1.0 - 0.5 * part.abs());
                    Rectangle::new([(x, y), (x + 1.0, y + 1.0)], hue.filled())
                }))?;
            }
        }
        drop(area);
        Ok(text)
    }
}
