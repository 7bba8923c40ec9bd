//! The pictures of `hig spectrum`.

use halfinverse::task::Task;

use super::chart::{Axis, Chart, Line};
use super::{document, escape, figure};
use crate::failure::Failure;
use crate::folder::{Folder, REPORT};
use crate::settings;
use crate::spectrum::Snapshot;

/// Snapshots that a picture shows: at most six of them, first and last included.
fn shown(snapshots: &[Snapshot]) -> Vec<&Snapshot> {
    const MOST: usize = 6;
    let last = snapshots.len().saturating_sub(1);
    let count = snapshots.len().min(MOST);
    (0..count).filter_map(|i| snapshots.get(i * last / count.saturating_sub(1).max(1))).collect()
}

/// Draws all pictures into one page.
pub(crate) fn draw(folder: &Folder, task: &Task, snapshots: &[Snapshot]) -> Result<(), Failure> {
    let by_step = |x: Axis, y: Axis, points: &dyn Fn(&Snapshot) -> Vec<(f64, f64)>| Chart {
        x,
        y,
        lines: shown(snapshots)
            .into_iter()
            .enumerate()
            .map(|(i, snapshot)| Line::new(&format!("step {}", snapshot.step), points(snapshot), i))
            .collect(),
        bands: Vec::new(),
    };
    let indexed = |values: &[f64]| -> Vec<(f64, f64)> {
        // Below round-off of the largest value is noise.
        let least = f64::EPSILON * values.first().copied().unwrap_or(0.0);
        values.iter().take_while(|&&v| v > least).enumerate().map(|(i, &v)| ((i + 1) as f64, v)).collect()
    };
    let cumulated = |snapshot: &Snapshot| {
        let anatomy = &snapshot.anatomy;
        let mut sum = 0.0;
        let largest = anatomy.sigmas.first().copied().unwrap_or(0.0);
        let pairs = anatomy.sigmas.iter().zip(&anatomy.shares);
        let points: Vec<(f64, f64)> = pairs
            .map(|(sigma, share)| {
                sum += share;
                (sigma / largest, sum)
            })
            .filter(|(sigma, _)| *sigma > f64::EPSILON)
            .collect();
        points
    };
    let mut figures = vec![
        (
            "sigmas.svg",
            "Singular values of J",
            by_step(Axis::logarithmic("index"), Axis::logarithmic("σ"), &|s| indexed(&s.anatomy.sigmas)),
        ),
        (
            "shares.svg",
            "Share of |g|² on singular values of at least that size; what lacks to 1 no step can reach",
            by_step(Axis::logarithmic("σ / σ_max"), Axis::linear("share of |g|²"), &cumulated),
        ),
    ];
    for (name, caption, snapshot) in [
        ("layers_start.svg", "Singular values of each layer's part of J, at the start", snapshots.first()),
        ("layers_end.svg", "Singular values of each layer's part of J, at the end", snapshots.last()),
    ] {
        let Some(snapshot) = snapshot else { continue };
        let layers = snapshot.anatomy.layers.iter().enumerate();
        let lines =
            layers.map(|(l, list)| Line::new(&format!("layer {}", l + 1), indexed(list), l)).collect();
        let chart =
            Chart { x: Axis::logarithmic("index"), y: Axis::logarithmic("σ"), lines, bands: Vec::new() };
        figures.push((name, caption, chart));
    }
    figures.push((
        "blocks.svg",
        "Singular values of the simulator's block, mean over samples: the simulator alone",
        by_step(Axis::linear("index"), Axis::logarithmic("σ"), &|snapshot| {
            let blocks = &snapshot.anatomy.blocks;
            let count = blocks.first().map_or(0, Vec::len);
            let mean = |i: usize| blocks.iter().map(|block| block[i]).sum::<f64>() / blocks.len() as f64;
            indexed(&(0..count).map(mean).collect::<Vec<_>>())
        }),
    ));
    figures.push(("units.svg", "Hidden units over training", units(snapshots)));
    let mut body = String::new();
    for (name, caption, chart) in figures {
        let svg = chart.svg().map_err(|error| Failure::new(format!("cannot draw {name}: {error}")))?;
        folder.write(name, &svg)?;
        body += &figure(caption, &svg);
    }
    let title = format!("spectrum of {} with {}", task.settings().task, task.settings().optimizer.name());
    body += &format!("<h2>Settings</h2>\n<pre>{}</pre>", escape(&settings::to_toml(task.settings())));
    folder.write(REPORT, &document(&title, &body))
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
