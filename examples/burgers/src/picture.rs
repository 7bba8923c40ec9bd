//! Test samples: the flow at first, its target, what was reached, and the force.

use halfinverse::NetworkProblem;
use halfinverse::task::Task;
use hig::plotters::prelude::*;

use crate::burgers::Burgers;

/// Flows over x.
pub struct Flows;

impl hig::Picture for Flows {
    fn samples(&self) -> usize {
        4
    }

    fn caption(&self) -> String {
        "Test samples over x: the flow at first (grey), its target (red), what the forces made of it (blue), \
         and a twentieth of the force (green)"
            .to_owned()
    }

    fn svg(&self, task: &Task, problem: &NetworkProblem) -> Result<String, Box<dyn std::error::Error>> {
        let burgers = Burgers::new(task.settings().simulator.read()?)?;
        let batch = problem.mini_batch();
        let (b, force) = (batch.initial.nrows(), burgers.force(problem.control()));
        let mut text = String::new();
        let area = SVGBackend::with_string(&mut text, (1050, 700)).into_drawing_area();
        area.fill(&WHITE)?;
        for (s, panel) in area.split_evenly((2, 2)).iter().enumerate().take(b) {
            let cells = batch.initial.ncols();
            let force: Vec<f64> = (0..cells).map(|i| force[i * b + s] / 20.0).collect();
            let field =
                |matrix: halfinverse::faer::MatRef<'_, f64>| (0..cells).map(|i| matrix[(s, i)]).collect();
            let curves: [(Vec<f64>, RGBColor, u32); 4] = [
                (field(batch.initial.as_ref()), RGBColor(180, 180, 180), 2),
                (field(batch.target.as_ref()), RGBColor(213, 94, 0), 5),
                (field(problem.outcome()), RGBColor(0, 114, 178), 2),
                (force, RGBColor(0, 158, 115), 1),
            ];
            let most =
                curves.iter().flat_map(|(curve, ..)| curve).fold(0.1, |most: f64, u| most.max(u.abs()));
            let mut plot = ChartBuilder::on(panel)
                .margin(12)
                .x_label_area_size(40)
                .y_label_area_size(50)
                .build_cartesian_2d(0.0..1.0, -1.1 * most..1.1 * most)?;
            plot.configure_mesh().x_desc("x").y_desc("u").light_line_style(WHITE).draw()?;
            for (curve, hue, width) in curves {
                let points = curve.iter().enumerate().map(|(i, &u)| (i as f64 / cells as f64, u));
                plot.draw_series(LineSeries::new(points, hue.stroke_width(width)))?;
            }
        }
        drop(area);
        Ok(text)
    }
}
