//! The picture of a task that nobody has drawn anything else for: outcomes against targets.

use halfinverse::NetworkProblem;
use halfinverse::task::Task;
use halfinverse::task::data::Column;
use plotters::prelude::*;

use super::scale;
use crate::chart::{COLORS, DrawError, around, number};

/// Test samples that are drawn.
pub(super) const SAMPLES: usize = 256;
pub(super) const CAPTION: &str = "Outcomes of test samples against their targets; on the line both agree";
const SIZE: (u32, u32) = (760, 620);
/// Components that are told apart by colour; further ones share the last.
const COMPONENTS: usize = COLORS.len();

pub(super) fn svg(task: &Task, problem: &NetworkProblem) -> Result<String, DrawError> {
    let (outcome, target) = (problem.outcome(), problem.mini_batch().target.as_ref());
    let all = || (0..outcome.ncols()).flat_map(move |c| (0..outcome.nrows()).map(move |s| (s, c)));
    let targets = around(all().map(|(s, c)| target[(s, c)]));
    let outcomes = around(all().map(|(s, c)| outcome[(s, c)]));
    let columns: Vec<&Column> = task.file().into_iter().flat_map(|file| &file.targets).collect();
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut context = ChartBuilder::on(&area)
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(targets.0..targets.1, outcomes.0..outcomes.1)?;
        context
            .configure_mesh()
            .x_desc(format!("target{}", scale(&columns)))
            .y_desc(format!("outcome{}", scale(&columns)))
            .x_label_formatter(&|&value| number(value))
            .y_label_formatter(&|&value| number(value))
            .light_line_style(WHITE)
            .bold_line_style(RGBColor(230, 230, 230))
            .label_style(("sans-serif", 15))
            .draw()?;
        let (low, high) = (targets.0.max(outcomes.0), targets.1.min(outcomes.1));
        context.draw_series(LineSeries::new([(low, low), (high, high)], BLACK.mix(0.4)))?;
        for c in 0..outcome.ncols().min(COMPONENTS) {
            let points = (0..outcome.nrows()).map(|s| (target[(s, c)], outcome[(s, c)]));
            let finite = points.filter(|point| point.0.is_finite() && point.1.is_finite());
            let style = COLORS[c].mix(0.6).filled();
            context
                .draw_series(finite.map(|point| Circle::new(point, 3, style)))?
                .label(component(task, c))
                .legend(move |(x, y)| Circle::new((x + 10, y), 4, COLORS[c].filled()));
        }
        context
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.85))
            .label_font(("sans-serif", 15))
            .draw()?;
        area.present()?;
    }
    Ok(text)
}

/// What a component of the outcome is called: as its column or class in the data file, where there is one.
fn component(task: &Task, c: usize) -> String {
    let name = task.file().and_then(|file| {
        if file.labels() { file.classes.get(c).cloned() } else { Some(file.targets.get(c)?.name.clone()) }
    });
    name.unwrap_or_else(|| format!("component {}", c + 1))
}
