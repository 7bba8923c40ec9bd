//! The picture of tasks that are functions of one variable: the fit, its error, and what the hidden units do.

use std::ops::Range;

use faer::MatRef;
use halfinverse::NetworkProblem;
use halfinverse::task::Task;
use plotters::prelude::*;

use super::{Picture, scale};
use crate::chart::{Area, COLORS, DrawError, around, number};

/// The fit of a function of one variable.
pub(super) struct Fit;

impl Picture for Fit {
    fn samples(&self) -> usize {
        SAMPLES
    }

    fn caption(&self) -> String {
        "Test samples: outcomes and targets, what is missing, and the hidden units' activations".to_owned()
    }

    fn svg(&self, task: &Task, problem: &NetworkProblem) -> Result<String, DrawError> {
        let name = task.file().and_then(|file| file.inputs.first());
        svg(
            problem,
            &name.map_or_else(|| "x".to_owned(), |column| format!("{}{}", column.name, scale(&[column]))),
        )
    }
}

/// Test samples that are drawn.
const SAMPLES: usize = 256;
const SIZE: (u32, u32) = (1050, 640);
/// Curves of hidden units that are still told apart.
const UNITS: usize = 64;

type Curve = (Vec<(f64, f64)>, ShapeStyle);

/// Above: each outcome component with its target. Below: what is missing, and the activations of the first and the
/// last hidden layer.
fn svg(problem: &NetworkProblem, name: &str) -> Result<String, DrawError> {
    let samples = problem.mini_batch();
    let mut order: Vec<usize> = (0..samples.len()).collect();
    order.sort_by(|&a, &b| samples.input[(a, 0)].total_cmp(&samples.input[(b, 0)]));
    let curve = |values: MatRef<'_, f64>, c: usize| -> Vec<(f64, f64)> {
        order.iter().map(|&s| (samples.input[(s, 0)], values[(s, c)])).collect()
    };
    let (outcome, target) = (problem.outcome(), samples.target.as_ref());
    let missing = outcome - target;
    let m = outcome.ncols();
    let thin = |color: usize, width| COLORS[color % COLORS.len()].stroke_width(width);
    let mut fit: Vec<Curve> = Vec::new();
    for c in 0..m {
        fit.push((curve(target, c), BLACK.mix(0.35).stroke_width(4)));
        fit.push((curve(outcome, c), thin(c, 2)));
    }
    let errors = (0..m).map(|c| (curve(missing.as_ref(), c), thin(c, 2))).collect::<Vec<_>>();
    let end = |at: Option<&usize>| at.map_or(0.0, |&s| samples.input[(s, 0)]);
    let (left, right) = (end(order.first()), end(order.last()));
    let axis = (if left < right { left..right } else { left - 1.0..left + 1.0 }, name);
    let hidden: Vec<MatRef<'_, f64>> = problem.units().into_iter().map(|[units, _]| units).collect();
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let panels = area.split_evenly((2, 2));
        draw(&panels[0], "outcomes (colours) and targets (grey)", &axis, &fit)?;
        draw(&panels[1], "outcome − target", &axis, &errors)?;
        let mut shown = vec![0, hidden.len().saturating_sub(1)];
        shown.dedup();
        for (&l, panel) in shown.iter().zip(&panels[2..]) {
            let Some(units) = hidden.get(l) else { break };
            let curves: Vec<Curve> =
                (0..units.ncols().min(UNITS)).map(|j| (curve(*units, j), thin(j, 1))).collect();
            draw(panel, &format!("units of hidden layer {}", l + 1), &axis, &curves)?;
        }
        area.present()?;
    }
    Ok(text)
}

/// Curves over an axis with these ends and this name.
fn draw(
    area: &Area<'_>,
    title: &str,
    (x, name): &(Range<f64>, &str),
    curves: &[Curve],
) -> Result<(), DrawError> {
    let (low, high) = around(curves.iter().flat_map(|(points, _)| points.iter().map(|point| point.1)));
    let mut context = ChartBuilder::on(area)
        .margin(10)
        .caption(title, ("sans-serif", 17))
        .x_label_area_size(34)
        .y_label_area_size(60)
        .build_cartesian_2d(x.clone(), low..high)?;
    context
        .configure_mesh()
        .x_desc(*name)
        .x_label_formatter(&|&value| number(value))
        .y_label_formatter(&|&value| number(value))
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(230, 230, 230))
        .label_style(("sans-serif", 13))
        .draw()?;
    for (points, style) in curves {
        let finite = points.iter().copied().filter(|point| point.1.is_finite());
        context.draw_series(LineSeries::new(finite, *style))?;
    }
    Ok(())
}
