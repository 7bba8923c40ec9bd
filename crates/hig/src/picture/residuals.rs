//! Panels of points: quantities of test rows against each other.

use plotters::prelude::*;

use crate::chart::{Area, COLORS, DrawError, mesh};

/// Points of a panel, in series that are told apart by colour; further ones share the last.
pub(crate) struct Points {
    names: [String; 2],
    series: Vec<Vec<(f64, f64)>>,
    /// A series in grey below the others.
    under: Vec<(f64, f64)>,
    diagonal: bool,
}

const WIDTH: u32 = 525;
const HEIGHT: u32 = 380;
/// Panels beside each other.
const COLUMNS: usize = 2;

impl Points {
    /// Series over the same x.
    pub(crate) fn new(x_name: &str, y_name: &str, x: &[f64], series: &[Vec<f64>]) -> Self {
        Self::pairs(x_name, y_name, &vec![x.to_vec(); series.len()], series)
    }

    /// Series, each over its own x.
    pub(crate) fn pairs(x_name: &str, y_name: &str, x: &[Vec<f64>], y: &[Vec<f64>]) -> Self {
        let pair = |(x, y): (&Vec<f64>, &Vec<f64>)| {
            let points = x.iter().copied().zip(y.iter().copied());
            points.filter(|point| point.0.is_finite() && point.1.is_finite()).collect()
        };
        Self {
            names: [x_name.to_owned(), y_name.to_owned()],
            series: x.iter().zip(y).map(pair).collect(),
            under: Vec::new(),
            diagonal: false,
        }
    }

    /// With the line on which both axes are the same.
    pub(crate) fn with_diagonal(self) -> Self {
        Self { diagonal: true, ..self }
    }

    /// Of predictions against targets: both over x, targets in grey.
    pub(crate) fn curve(x_name: &str, x: &[f64], predictions: &Self) -> Self {
        let of = |pick: fn(&(f64, f64)) -> f64| {
            let over = |series: &Vec<(f64, f64)>| {
                x.iter().zip(series).map(|(&x, point)| (x, pick(point))).collect::<Vec<_>>()
            };
            predictions.series.iter().map(over).collect::<Vec<_>>()
        };
        Self {
            names: [x_name.to_owned(), predictions.names[0].clone()],
            under: of(|point| point.0).concat(),
            series: of(|point| point.1),
            diagonal: false,
        }
    }

    fn all(&self) -> impl Iterator<Item = (f64, f64)> {
        self.series.iter().flatten().chain(&self.under).copied()
    }

    fn draw(&self, area: &Area<'_>) -> Result<(), DrawError> {
        let (x, y) = (ends(self.all().map(|point| point.0)), ends(self.all().map(|point| point.1)));
        let mut context = ChartBuilder::on(area)
            .margin(10)
            .x_label_area_size(42)
            .y_label_area_size(72)
            .build_cartesian_2d(x.0..x.1, y.0..y.1)?;
        mesh(&mut context, [&self.names[0], &self.names[1]], 6)?;
        if self.diagonal {
            let (low, high) = (x.0.max(y.0), x.1.min(y.1));
            context.draw_series(LineSeries::new([(low, low), (high, high)], BLACK.mix(0.4)))?;
        }
        let grey = RGBColor(150, 150, 150).mix(0.6).filled();
        context.draw_series(self.under.iter().map(|&point| Circle::new(point, 4, grey)))?;
        for (c, series) in self.series.iter().enumerate() {
            let style = COLORS[c.min(COLORS.len() - 1)].mix(0.5).filled();
            context.draw_series(series.iter().map(|&point| Circle::new(point, 2, style)))?;
        }
        Ok(())
    }
}

/// Panels in rows, as an SVG document.
pub(crate) fn grid(panels: &[Points]) -> Result<String, DrawError> {
    let columns = panels.len().min(COLUMNS);
    let rows = panels.len().div_ceil(COLUMNS);
    let mut text = String::new();
    {
        let size = |count: usize, of: u32| of * u32::try_from(count).unwrap_or(1);
        let area = SVGBackend::with_string(&mut text, (size(columns, WIDTH), size(rows, HEIGHT)))
            .into_drawing_area();
        area.fill(&WHITE)?;
        for (panel, points) in area.split_evenly((rows, columns)).iter().zip(panels) {
            points.draw(panel)?;
        }
        area.present()?;
    }
    Ok(text)
}

/// The values' own ends, a little wider.
fn ends(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low > high {
        return (0.0, 1.0);
    }
    let margin = if low == high { 0.5_f64.max(0.05 * low.abs()) } else { 0.04 * (high - low) };
    (low - margin, high + margin)
}
