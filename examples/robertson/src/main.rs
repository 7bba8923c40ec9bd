//! The program `hig` with Robertson's kinetics, a stiff system that diffsol solves.

use std::sync::Arc;

use halfinverse::simulator::{RightHandSide, Scalar, Setup, Simulator};
use halfinverse::task::Task;
use halfinverse::{NetworkProblem, SettingError};
use halfinverse_diffsol::{Schedule, Stiff};
use hig::plotters::prelude::*;

fn main() -> std::process::ExitCode {
    hig::Program::new()
        .named("robertson")
        .parts(|registry| registry.simulator::<RobertsonSettings>())
        .task(include_str!("../robertson.toml"))
        .picture(RobertsonSettings::KIND, Product)
        .run()
}

/// A → B, slow; 2 B → B + C, fast; B + C → A + C. Concentrations of A, B, C from (1, 0, 0) on (H. H. Robertson, 1966). A
/// temperature u multiplies the first rate by eᵘ and the second by √eᵘ.
struct Robertson;

impl RightHandSide for Robertson {
    fn states(&self) -> usize {
        3
    }
    fn controls(&self) -> usize {
        1
    }
    fn rhs<S: Scalar>(&self, x: &[S], u: &[S], _: S, out: &mut [S]) {
        let slow = x[0] * u[0].exp() * 0.04;
        let fast = x[1] * x[1] * (u[0] * 0.5).exp() * 3e7;
        let back = x[1] * x[2] * 1e4;
        out[0] = back - slow;
        out[1] = slow - back - fast;
        out[2] = fast;
    }
    fn observed(&self) -> usize {
        1
    }
    fn observe<S: Scalar>(&self, x: &[S], _: &[S], _: S, out: &mut [S]) {
        out[0] = x[2];
    }
}

/// Intervals of constant temperature; the amount of C at the end of each is the outcome.
#[derive(Clone, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct RobertsonSettings {
    /// Length of an interval.
    interval: f64,
    /// Number of intervals, and of temperatures.
    intervals: usize,
    /// Error of a step that is allowed, relative to each concentration; B is far smaller than the others.
    tolerance: f64,
}

impl Default for RobertsonSettings {
    fn default() -> Self {
        Self { interval: 5.0, intervals: 8, tolerance: 1e-6 }
    }
}

impl RobertsonSettings {
    fn simulator(&self) -> Result<Stiff<Robertson>, SettingError> {
        SettingError::check_positive("interval", self.interval)?;
        SettingError::check_positive("intervals", self.intervals as f64)?;
        SettingError::check_positive("tolerance", self.tolerance)?;
        let times: Vec<f64> = (1..=self.intervals).map(|i| self.interval * i as f64).collect();
        let absolute = [1e-2, 1e-6, 1e-2].map(|size| size * self.tolerance).to_vec();
        let start = vec![1.0, 0.0, 0.0];
        let schedule = Schedule { start, relative: self.tolerance, absolute, ..Schedule::ends(times) };
        Stiff::new(Robertson, schedule)
    }
}

impl Setup for RobertsonSettings {
    const KIND: &'static str = "robertson";

    fn build(self) -> Result<Arc<dyn Simulator>, SettingError> {
        Ok(Arc::new(self.simulator()?))
    }
}

/// Amounts of product over time.
struct Product;

impl hig::Picture for Product {
    fn caption(&self) -> String {
        "Six test samples: the product C over time (blue), where it should be at the end of each interval (red \
         crosses), and the temperature that the network gives (grey)"
            .to_owned()
    }

    fn svg(&self, task: &Task, problem: &NetworkProblem) -> Result<String, Box<dyn std::error::Error>> {
        let settings: RobertsonSettings = task.settings().simulator.read()?;
        let simulator = settings.simulator()?;
        let (initial, target) = (&problem.mini_batch().initial, &problem.mini_batch().target);
        let (grey, blue, red) = (RGBColor(150, 150, 150), RGBColor(0, 114, 178), RGBColor(213, 94, 0));
        let end = settings.interval * settings.intervals as f64;
        let mut text = String::new();
        let area = SVGBackend::with_string(&mut text, (1050, 640)).into_drawing_area();
        area.fill(&WHITE)?;
        for (s, panel) in area.split_evenly((2, 3)).iter().enumerate().take(target.nrows()) {
            let control = problem.control().subrows(s, 1);
            let path = simulator.trajectory(initial.subrows(s, 1), control, 10)?;
            let most = (0..target.ncols()).map(|j| target[(s, j)]).fold(0.1, f64::max) * 1.1;
            let mut builder = ChartBuilder::on(panel);
            builder.margin(12).x_label_area_size(40).y_label_area_size(50).right_y_label_area_size(40);
            let plot = builder.build_cartesian_2d(0.0..end, 0.0..most)?;
            let mut plot = plot.set_secondary_coord(0.0..end, -2.0..2.0);
            plot.configure_mesh().x_desc("t").y_desc("C").light_line_style(WHITE).draw()?;
            plot.configure_secondary_axes().y_desc("temperature").draw()?;
            let ends = (0..settings.intervals)
                .flat_map(|i| [i, i + 1].map(|edge| (edge as f64 * settings.interval, control[(0, i)])));
            plot.draw_secondary_series(LineSeries::new(ends, grey.stroke_width(2)))?;
            let curve = path.times.iter().zip(&path.states).map(|(&t, state)| (t, state[2]));
            plot.draw_series(LineSeries::new(curve, blue.stroke_width(2)))?;
            plot.draw_series((0..settings.intervals).map(|i| {
                Cross::new((settings.interval * (i + 1) as f64, target[(s, i)]), 5, red.stroke_width(2))
            }))?;
        }
        drop(area);
        Ok(text)
    }
}
