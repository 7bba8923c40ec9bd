//! The Poisson task's picture: maps of target, field, its Laplacian and the residual.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Range;

use faer::MatRef;
use halfinverse::NetworkProblem;
use halfinverse::simulator::{Poisson, PoissonSettings};
use halfinverse::task::Task;
use plotters::prelude::*;

use super::Picture;
use crate::chart::{Area, DrawError, number};

/// Fields as maps.
pub(super) struct Maps;

impl Picture for Maps {
    fn samples(&self) -> usize {
        SAMPLES
    }

    fn caption(&self) -> String {
        "Three test samples: target, the network's field, the field's Laplacian, and what it misses"
            .to_owned()
    }

    fn svg(&self, task: &Task, problem: &NetworkProblem) -> Result<String, DrawError> {
        let simulator = Poisson::new(task.settings().simulator.read::<PoissonSettings>()?)?;
        svg(&simulator, problem)
    }
}

/// Test samples that are drawn, one row each.
const SAMPLES: usize = 3;
const SIZE: (u32, u32) = (1050, 840);
/// Shades of red, and as many of blue; no more are told apart.
const SHADES: f64 = 64.0;

/// Four maps for each of the problem's samples; red is positive, blue negative.
fn svg(simulator: &Poisson, problem: &NetworkProblem) -> Result<String, DrawError> {
    let (target, outcome) = (problem.mini_batch().target.as_ref(), problem.outcome());
    let residual = outcome - target;
    let maps: [(&str, MatRef<'_, f64>); 4] = [
        ("target", target),
        ("field z", problem.control()),
        ("∇²z", outcome),
        ("∇²z − target", residual.as_ref()),
    ];
    let (mut text, mut cells) = (String::new(), String::new());
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let panels = area.split_evenly((SAMPLES, maps.len()));
        for s in 0..problem.mini_batch().len() {
            for (column, &(name, values)) in maps.iter().enumerate() {
                let field: Vec<f64> = (0..values.ncols()).map(|cell| values[(s, cell)]).collect();
                cells += &map(&panels[s * maps.len() + column], simulator, name, &field)?;
            }
        }
        area.present()?;
    }
    text.insert_str(text.rfind("</svg>").unwrap_or(text.len()), &cells);
    Ok(text)
}

/// Draws a map's title; returns its cells.
fn map(area: &Area<'_>, simulator: &Poisson, name: &str, field: &[f64]) -> Result<String, DrawError> {
    let (width, height) = (simulator.settings().width, simulator.settings().height);
    let most =
        field.iter().filter(|value| value.is_finite()).fold(0.0, |most: f64, value| most.max(value.abs()));
    let context = ChartBuilder::on(area)
        .margin(10)
        .caption(format!("{name}  (±{})", number(most)), ("sans-serif", 16))
        .build_cartesian_2d(0.0..width as f64, 0.0..height as f64)?;
    let color = |cell: usize| diverging(field[cell] / most.max(f64::MIN_POSITIVE));
    Ok(cells((width, height), &context.plotting_area().get_pixel_range(), color))
}

/// Cells of a map, row after row from above, in these pixels. Those of one colour are one path: a rectangle each would keep a
/// browser busy for seconds at 64 × 64 cells.
fn cells(
    (width, height): (usize, usize),
    (across, down): &(Range<i32>, Range<i32>),
    color: impl Fn(usize) -> RGBColor,
) -> String {
    let pixel = |ends: &Range<i32>, i: usize, of: usize| {
        (f64::from(ends.start) + f64::from(ends.end - ends.start) * i as f64 / of as f64).round()
    };
    let mut paths = BTreeMap::<_, String>::new();
    for cell in 0..width * height {
        let (x, y) = (cell % width, cell / width);
        let [left, right] = [x, x + 1].map(|x| pixel(across, x, width));
        let [top, bottom] = [y, y + 1].map(|y| pixel(down, y, height));
        let RGBColor(red, green, blue) = color(cell);
        let path = paths.entry((red, green, blue)).or_default();
        let _ = write!(path, "M{left} {top}H{right}V{bottom}H{left}z");
    }
    let of_color = |((red, green, blue), path)| {
        format!(
            "<path shape-rendering=\"crispEdges\" fill=\"#{red:02x}{green:02x}{blue:02x}\" d=\"{path}\"/>\n"
        )
    };
    paths.into_iter().map(of_color).collect()
}

/// Blue at −1, white at 0, red at 1, in steps.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "colours, clamped to 0..=255")]
fn diverging(value: f64) -> RGBColor {
    let part = (value.abs().min(1.0) * SHADES).round() / SHADES;
    let fade = |end: f64| (255.0 + (end - 255.0) * part) as u8;
    if value > 0.0 {
        RGBColor(fade(178.0), fade(24.0), fade(43.0))
    } else {
        RGBColor(fade(33.0), fade(102.0), fade(172.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_map_has_all_cells_in_as_many_paths_as_colours() {
        let map = cells((64, 32), &(10..266, 0..128), |cell| if cell % 2 == 0 { WHITE } else { BLACK });
        assert_eq!((map.matches("<path").count(), map.matches('M').count()), (2, 64 * 32));
        assert!(map.contains("M10 0H14V4H10z") && map.contains("M262 124H266V128H262z"), "{map}");
        let shades = |i: i32| diverging(f64::from(i) / 1e4);
        let mut all: Vec<_> =
            (-10_000..=10_000).map(shades).map(|color| (color.0, color.1, color.2)).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 129);
    }
}
