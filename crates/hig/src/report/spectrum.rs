//! The pictures of `hig spectrum`.

use halfinverse::anatomy::Anatomy;
use halfinverse::task::Task;
use maud::html;

use super::page::{Figure, document, settings_of, shown};
use crate::chart::{Axis, Chart, Line};
use crate::failure::Failure;
use crate::folder::{Folder, REPORT};

/// J taken apart, and the step at which it was.
pub(crate) struct Snapshot {
    pub(crate) step: u64,
    pub(crate) anatomy: Anatomy,
}

/// Snapshots that a picture shows: at most six of them, first and last included.
fn some(snapshots: &[Snapshot]) -> Vec<&Snapshot> {
    const MOST: usize = 6;
    let last = snapshots.len().saturating_sub(1);
    let count = snapshots.len().min(MOST);
    (0..count).filter_map(|i| snapshots.get(i * last / count.saturating_sub(1).max(1))).collect()
}

/// Draws all pictures into one page.
pub(crate) fn draw(folder: &Folder, task: &Task, snapshots: &[Snapshot]) -> Result<(), Failure> {
    let mut figures = Vec::new();
    for (name, caption, chart) in charts(snapshots) {
        let svg = chart.svg().map_err(|error| Failure::new(format!("cannot draw {name}: {error}")))?;
        folder.write(name, &svg)?;
        figures.push(Figure { name, caption: caption.to_owned(), svg });
    }
    let title = format!("spectrum of {} with {}", task.settings().task, task.settings().optimizer.name);
    let body = html! { @for figure in &figures { (shown(figure)) } (settings_of(task)) };
    folder.write(REPORT, &document(&title, &body))
}

/// Files, captions and charts.
fn charts(snapshots: &[Snapshot]) -> Vec<(&'static str, &'static str, Chart)> {
    let mut charts = vec![
        (
            "sigmas.svg",
            "Singular values of J",
            by_step(snapshots, Axis::logarithmic("index"), Axis::logarithmic("σ"), &|s| {
                indexed(&s.anatomy.sigmas)
            }),
        ),
        (
            "shares.svg",
            "Share of |g|² on singular values of at least that size; what lacks to 1 no step can reach",
            by_step(snapshots, Axis::logarithmic("σ / σ_max"), Axis::linear("share of |g|²"), &|s| {
                cumulated(&s.anatomy)
            }),
        ),
    ];
    for (name, caption, snapshot) in [
        ("layers_start.svg", "Singular values of each layer's part of J, at the start", snapshots.first()),
        ("layers_end.svg", "Singular values of each layer's part of J, at the end", snapshots.last()),
    ] {
        if let Some(snapshot) = snapshot {
            charts.push((name, caption, layers(&snapshot.anatomy)));
        }
    }
    charts.push((
        "blocks.svg",
        "Singular values of the simulator's block, mean over samples: the simulator alone",
        by_step(snapshots, Axis::linear("index"), Axis::logarithmic("σ"), &|s| blocks(&s.anatomy)),
    ));
    charts.push(("units.svg", "Hidden units over training", units(snapshots)));
    charts
}

/// A curve for each of some snapshots.
fn by_step(snapshots: &[Snapshot], x: Axis, y: Axis, points: &dyn Fn(&Snapshot) -> Vec<(f64, f64)>) -> Chart {
    let curve = |(i, snapshot): (usize, &Snapshot)| {
        Line::new(&format!("step {}", snapshot.step), points(snapshot), i)
    };
    Chart { x, y, lines: some(snapshots).into_iter().enumerate().map(curve).collect(), bands: Vec::new() }
}

/// Values by their position; those below round-off of the largest are noise.
fn indexed(values: &[f64]) -> Vec<(f64, f64)> {
    let least = f64::EPSILON * values.first().copied().unwrap_or(0.0);
    values.iter().take_while(|&&v| v > least).enumerate().map(|(i, &v)| ((i + 1) as f64, v)).collect()
}

/// Share of |g|² on singular values of at least a size.
fn cumulated(anatomy: &Anatomy) -> Vec<(f64, f64)> {
    let largest = anatomy.sigmas.first().copied().unwrap_or(0.0);
    let mut sum = 0.0;
    let points = anatomy.sigmas.iter().zip(&anatomy.shares).map(|(sigma, share)| {
        sum += share;
        (sigma / largest, sum)
    });
    points.filter(|(sigma, _)| *sigma > f64::EPSILON).collect()
}

/// Singular values of each layer's part of J.
fn layers(anatomy: &Anatomy) -> Chart {
    let layers = anatomy.layers.iter().enumerate();
    let lines = layers.map(|(l, list)| Line::new(&format!("layer {}", l + 1), indexed(list), l)).collect();
    Chart { x: Axis::logarithmic("index"), y: Axis::logarithmic("σ"), lines, bands: Vec::new() }
}

/// Singular values of the simulator's blocks, mean over samples.
fn blocks(anatomy: &Anatomy) -> Vec<(f64, f64)> {
    let blocks = &anatomy.blocks;
    let count = blocks.first().map_or(0, Vec::len);
    let mean = |i: usize| blocks.iter().map(|block| block[i]).sum::<f64>() / blocks.len() as f64;
    indexed(&(0..count).map(mean).collect::<Vec<_>>())
}

/// Of each hidden layer: share of saturated units and deviation of the activations. Step 0 is drawn at ½.
fn units(snapshots: &[Snapshot]) -> Chart {
    let layers = snapshots.first().map_or(0, |snapshot| snapshot.anatomy.units.len());
    let mut lines = Vec::new();
    for l in 0..layers {
        let at = |snapshot: &Snapshot| (snapshot.step as f64).max(0.5);
        let units = || snapshots.iter().map(|snapshot| (at(snapshot), snapshot.anatomy.units[l]));
        let layer = l + 1;
        lines.push(Line::new(
            &format!("layer {layer}: saturated share"),
            units().map(|(x, u)| (x, u.saturated)).collect(),
            2 * l,
        ));
        lines.push(Line::new(
            &format!("layer {layer}: deviation"),
            units().map(|(x, u)| (x, u.deviation)).collect(),
            2 * l + 1,
        ));
    }
    Chart { x: Axis::logarithmic("steps"), y: Axis::linear("share, activation"), lines, bands: Vec::new() }
}
