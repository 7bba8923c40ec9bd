//! The program `hig` with a simulator, a task and a picture of one's own.

use halfinverse::faer::{MatMut, MatRef, RowRef, c64};
use halfinverse::simulator::{Derivative, Setup, Simulator, SimulatorError, Tape};
use halfinverse::{NetworkProblem, SettingError, task::Task};
use hig::plotters::prelude::*;

fn main() -> std::process::ExitCode {
    hig::Program::new()
        .named("van-der-pol")
        .parts(|registry| registry.simulator::<VanDerPol>())
        .task(include_str!("../van-der-pol.toml"))
        .picture(VanDerPol::KIND, Phase)
        .run()
}

/// x″ = μ(1 − x²)x′ − x + u(t), from a state (x, v) to that after N intervals of constant control u. Units are dimensionless.
#[derive(Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct VanDerPol {
    /// Strength μ of the nonlinear damping.
    damping: f64,
    /// Length of a time step; an interval has five of them.
    dt: f64,
    /// Number N of intervals, and of control values.
    intervals: usize,
}

impl Setup for VanDerPol {
    const KIND: &'static str = "van-der-pol";
    fn build(self) -> Result<std::sync::Arc<dyn Simulator>, SettingError> {
        SettingError::check_positive("dt", self.dt)?;
        SettingError::check_positive("intervals", self.intervals as f64)?;
        Ok(std::sync::Arc::new(self))
    }
}

impl VanDerPol {
    /// The 5N + 1 states of one sample, by Runge–Kutta steps of fourth order from `initial` (2) on.
    fn path(&self, initial: RowRef<'_, f64>, control: impl Fn(usize) -> c64) -> Vec<[c64; 2]> {
        let mut path = vec![[initial[0].into(), initial[1].into()]];
        for step in 0..5 * self.intervals {
            let ([x, v], u) = (path[step], control(step / 5));
            let slope = |[x, v]: [c64; 2]| [v, (1.0 - x * x) * v * self.damping - x + u];
            let ahead = |h: f64, k: [c64; 2]| [x + k[0] * h, v + k[1] * h];
            let k1 = slope([x, v]);
            let k2 = slope(ahead(self.dt / 2.0, k1));
            let k3 = slope(ahead(self.dt / 2.0, k2));
            let k4 = slope(ahead(self.dt, k3));
            path.push(ahead(self.dt / 6.0, [0, 1].map(|i| k1[i] + (k2[i] + k3[i]) * 2.0 + k4[i])));
        }
        path
    }
}

impl Simulator for VanDerPol {
    fn initials(&self) -> usize {
        2
    }
    fn controls(&self) -> usize {
        self.intervals
    }
    fn outcomes(&self) -> usize {
        2
    }
    fn simulate(
        &self,
        initial: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
        mut outcome: MatMut<'_, f64>,
        _: Option<&mut Tape>,
    ) -> Result<(), SimulatorError> {
        for s in 0..control.nrows() {
            let path = self.path(initial.row(s), |j| control[(s, j)].into());
            [outcome[(s, 0)], outcome[(s, 1)]] = path[path.len() - 1].map(|end| end.re);
        }
        Ok(())
    }
    /// Exact to round-off: with the control z + iε·dz, the outcome's imaginary part is ε·(∂y/∂z)·dz, and ε² is nothing.
    fn derivative(&self) -> Derivative<'_> {
        Derivative::jvp(|at, dz, mut dy| {
            for s in 0..dz.nrows() {
                let path = self.path(at.initial.row(s), |j| c64::new(at.control[(s, j)], 1e-30 * dz[(s, j)]));
                [dy[(s, 0)], dy[(s, 1)]] = path[path.len() - 1].map(|end| end.im / 1e-30);
            }
            Ok(())
        })
    }
}

struct Phase;

impl hig::Picture for Phase {
    fn caption(&self) -> String {
        "Test samples in phase space, from the dot to the cross; grey is the path without control".to_owned()
    }
    fn svg(&self, task: &Task, problem: &NetworkProblem) -> Result<String, Box<dyn std::error::Error>> {
        let simulator: VanDerPol = task.settings().simulator.read()?;
        let (initial, target) = (&problem.mini_batch().initial, &problem.mini_batch().target);
        let (grey, blue, red) = (RGBColor(180, 180, 180), RGBColor(0, 114, 178), RGBColor(213, 94, 0));
        let mut text = String::new();
        let area = SVGBackend::with_string(&mut text, (1050, 700)).into_drawing_area();
        area.fill(&WHITE)?;
        for (s, panel) in area.split_evenly((2, 3)).iter().enumerate().take(initial.nrows()) {
            let mut builder = ChartBuilder::on(panel);
            builder.margin(12).x_label_area_size(40).y_label_area_size(40);
            let mut plot = builder.build_cartesian_2d(-3.0..3.0, -5.0..5.0)?;
            plot.configure_mesh().x_desc("x").y_desc("v").light_line_style(WHITE).draw()?;
            for (gain, hue) in [(0.0, grey), (1.0, blue)] {
                let y = simulator.path(initial.row(s), |j| (gain * problem.control()[(s, j)]).into());
                plot.draw_series(LineSeries::new(y.iter().map(|[x, v]| (x.re, v.re)), hue.stroke_width(2)))?;
            }
            plot.draw_series([Circle::new((initial[(s, 0)], initial[(s, 1)]), 5, blue.filled())])?;
            plot.draw_series([Cross::new((target[(s, 0)], target[(s, 1)]), 6, red.stroke_width(3))])?;
        }
        drop(area);
        Ok(text)
    }
}
