//! The pictures of a study: median losses with bands between the quartiles, on logarithmic axes.

use std::path::Path;

use maud::{Markup, html};

use super::page::{Figure, document, drawn_from, shown};
use crate::chart::{Axis, Band, COLORS, Chart, Line};
use crate::failure::Failure;
use crate::folder::{Folder, Metrics, REPORT};
use crate::statistics::quartiles;

/// The runs of one variant.
pub(crate) struct Curve<'a> {
    pub(crate) label: &'a str,
    pub(crate) runs: Vec<&'a [Metrics]>,
}

/// Points along a logarithmic axis.
const POINTS: usize = 240;

/// What was varied, and value and quartiles of the final loss of each variant.
pub(crate) type Varied<'a> = (&'a str, Vec<(f64, [f64; 3])>);

/// Draws `loss_time.svg`, `loss_steps.svg`, for a numerical ablation `loss_value.svg`, and `report.html` of it all.
pub(crate) fn draw(
    path: &Path,
    title: &str,
    curves: &[Curve<'_>],
    varied: Option<Varied<'_>>,
    table: &str,
) -> Result<(), Failure> {
    let mut figures = vec![
        (
            "loss_time.svg",
            "Test loss over training time: medians, bands between the quartiles",
            over(curves, true),
        ),
        ("loss_steps.svg", "Test loss over steps", over(curves, false)),
    ];
    if let Some((key, points)) = varied {
        figures.push((
            "loss_value.svg",
            "Test loss at the end, median and quartiles",
            by_value(key, &points),
        ));
    }
    let folder = Folder::at(path);
    let mut drawn = Vec::new();
    for (name, caption, chart) in figures {
        let svg = chart.svg().map_err(|error| Failure::new(format!("cannot draw {name}: {error}")))?;
        folder.write(name, &svg)?;
        drawn.push(Figure { name, caption: caption.to_owned(), svg });
    }
    let body = html! { (html_table(table)) @for figure in &drawn { (shown(figure)) } (drawn_from(path)) };
    folder.write(REPORT, &document(title, &body))
}

fn over(curves: &[Curve<'_>], time: bool) -> Chart {
    let x = move |row: &Metrics| if time { row.wall_s } else { row.step as f64 };
    let all = || curves.iter().flat_map(|curve| &curve.runs).flat_map(|run| run.iter()).map(x);
    let first = all().filter(|&x| x > 0.0).fold(f64::INFINITY, f64::min);
    let last = all().fold(0.0, f64::max);
    let mut chart = Chart {
        x: Axis::logarithmic(if time { "training time [s]" } else { "steps" }),
        y: Axis::logarithmic("test loss"),
        lines: Vec::new(),
        bands: Vec::new(),
    };
    if first >= last {
        return chart;
    }
    for (i, curve) in curves.iter().enumerate() {
        let mut median = Vec::new();
        let mut band = Vec::new();
        let end = curve.runs.iter().filter_map(|run| run.last()).map(x).fold(0.0, f64::max);
        for p in 0..POINTS {
            let at = first * (last / first).powf(p as f64 / (POINTS - 1) as f64);
            if at > end * 1.0001 {
                break;
            }
            // The loss that was known at that point; none before the first evaluation after the start.
            let known = |run: &&[Metrics]| run.iter().rev().find(|row| x(row) <= at).map(|row| row.test_loss);
            let values: Option<Vec<f64>> = curve.runs.iter().map(known).collect();
            let [low, middle, high] = quartiles(values.unwrap_or_default());
            if middle.is_finite() {
                median.push((at, middle));
                band.push((at, low, if high.is_finite() { high } else { middle }));
            }
        }
        chart.bands.push(Band { points: band, color: COLORS[i % COLORS.len()] });
        chart.lines.push(Line::new(curve.label, median, i));
    }
    chart
}

fn by_value(key: &str, points: &[(f64, [f64; 3])]) -> Chart {
    let mut points: Vec<_> = points.iter().filter(|point| point.1[1].is_finite()).copied().collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let positive = points.iter().all(|point| point.0 > 0.0);
    let wide = points.last().zip(points.first()).is_some_and(|(last, first)| last.0 > 20.0 * first.0);
    Chart {
        x: if positive && wide { Axis::logarithmic(key) } else { Axis::linear(key) },
        y: Axis::logarithmic("test loss at the end"),
        lines: vec![Line::new("median", points.iter().map(|(x, q)| (*x, q[1])).collect(), 0)],
        bands: vec![Band {
            points: points
                .iter()
                .map(|(x, q)| (*x, q[0], if q[2].is_finite() { q[2] } else { q[1] }))
                .collect(),
            color: COLORS[0],
        }],
    }
}

/// A Markdown table as HTML.
fn html_table(table: &str) -> Markup {
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|text| text.trim().to_owned()).collect()
    };
    let mut lines = table.lines();
    let head = lines.next().map(cells).unwrap_or_default();
    // The line of dashes is not one of the table.
    let body: Vec<_> = lines.skip(1).map(cells).collect();
    html! {
        table class="study" {
            tr { @for text in &head { th { (text) } } }
            @for row in &body { tr { @for text in row { td { (text) } } } }
        }
    }
}
