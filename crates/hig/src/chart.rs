//! Line charts as SVG, with plotters.
//!
//! ```
//! use hig::chart::{Axis, Chart, Line};
//! let parabola = (0..20).map(|i| f64::from(i)).map(|x| (x, x * x)).collect();
//! let lines = vec![Line::new("x²", parabola, 0)];
//! let svg = Chart { x: Axis::linear("x"), y: Axis::linear("y"), lines, bands: Vec::new() }.svg()?;
//! assert!(svg.starts_with("<svg"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

#[cfg(test)]
mod tests;

/// An SVG under construction, or a part of it.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// What drawing can fail with.
pub type DrawError = Box<dyn std::error::Error>;

/// The first seven are distinguishable with any colour vision (Okabe, Ito, 2008).
pub const COLORS: [RGBColor; 12] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
    RGBColor(150, 120, 20),
    RGBColor(110, 60, 160),
    RGBColor(150, 150, 150),
    RGBColor(160, 30, 50),
    RGBColor(90, 140, 60),
];

/// A curve: points that are not finite, or not positive on a logarithmic axis, are left out, and those beyond 1e100.
pub struct Line {
    /// In the legend.
    pub name: String,
    /// x and y.
    pub points: Vec<(f64, f64)>,
    /// Of the curve.
    pub color: RGBColor,
}

impl Line {
    /// In one of [`COLORS`], over and over.
    #[must_use]
    pub fn new(name: &str, points: Vec<(f64, f64)>, color: usize) -> Self {
        Self { name: name.to_owned(), points, color: COLORS[color % COLORS.len()] }
    }
}

/// The room between two curves, shaded; the axes are those of the lines, and cut it off.
pub struct Band {
    /// x, lower and upper end.
    pub points: Vec<(f64, f64, f64)>,
    /// Of the curve it belongs to; it is drawn fainter.
    pub color: RGBColor,
}

/// An axis with its name.
pub struct Axis {
    name: String,
    logarithmic: bool,
}

impl Axis {
    /// With equal distances.
    #[must_use]
    pub fn linear(name: &str) -> Self {
        Self { name: name.to_owned(), logarithmic: false }
    }

    /// With equal ratios.
    #[must_use]
    pub fn logarithmic(name: &str) -> Self {
        Self { name: name.to_owned(), logarithmic: true }
    }
}

/// Curves over common axes.
pub struct Chart {
    /// To the right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// The last one lies on top.
    pub lines: Vec<Line>,
    /// Below all lines.
    pub bands: Vec<Band>,
}

const SIZE: (u32, u32) = (900, 420);

/// The ticks of axes that end near the largest or least of all numbers are never done.
const FARTHEST: f64 = 1e100;
/// Length of a linear axis at least, relative to its ends: the ticks of shorter ones are lost in round-off.
const SHORTEST: f64 = 1e-6;

impl Chart {
    /// The picture as an SVG document.
    ///
    /// # Errors
    /// When it cannot be drawn.
    pub fn svg(mut self) -> Result<String, DrawError> {
        let (log_x, log_y) = (self.x.logarithmic, self.y.logarithmic);
        let drawable = |value: f64, logarithmic: bool| {
            value.abs() <= FARTHEST && (!logarithmic || value >= 1.0 / FARTHEST)
        };
        for line in &mut self.lines {
            line.points.retain(|&(x, y)| drawable(x, log_x) && drawable(y, log_y));
        }
        for band in &mut self.bands {
            band.points.retain(|&(x, low, high)| {
                drawable(x, log_x) && drawable(low, log_y) && drawable(high, log_y)
            });
        }
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let x = range(points().map(|point| point.0), log_x);
        let y = range(points().map(|point| point.1), log_y);
        for band in &mut self.bands {
            band.points.retain(|&(at, _, _)| (x.0..=x.1).contains(&at));
            for (_, low, high) in &mut band.points {
                (*low, *high) = (low.clamp(y.0, y.1), high.clamp(y.0, y.1));
            }
        }
        let legend = self.legend_corner(&x, &y);
        let mut text = String::new();
        {
            let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
            area.fill(&WHITE)?;
            match (log_x, log_y) {
                (false, false) => self.lines_in(&area, legend, x.0..x.1, y.0..y.1)?,
                (false, true) => self.lines_in(&area, legend, x.0..x.1, (y.0..y.1).log_scale())?,
                (true, false) => self.lines_in(&area, legend, (x.0..x.1).log_scale(), y.0..y.1)?,
                (true, true) => {
                    self.lines_in(&area, legend, (x.0..x.1).log_scale(), (y.0..y.1).log_scale())?;
                }
            }
            area.present()?;
        }
        Ok(text)
    }

    /// The upper right, unless more points lie there than at the lower left.
    fn legend_corner(&self, x: &(f64, f64), y: &(f64, f64)) -> SeriesLabelPosition {
        let place = |value: f64, (low, high): (f64, f64), logarithmic: bool| {
            if logarithmic { (value / low).ln() / (high / low).ln() } else { (value - low) / (high - low) }
        };
        let (mut upper, mut lower) = (0, 0);
        for &(a, b) in self.lines.iter().flat_map(|line| &line.points) {
            let (a, b) = (place(a, *x, self.x.logarithmic), place(b, *y, self.y.logarithmic));
            upper += usize::from(a > 0.65 && b > 0.6);
            lower += usize::from(a < 0.35 && b < 0.4);
        }
        if upper > lower { SeriesLabelPosition::LowerLeft } else { SeriesLabelPosition::UpperRight }
    }

    fn lines_in<X, Y>(
        &self,
        area: &Area<'_>,
        legend: SeriesLabelPosition,
        x: X,
        y: Y,
    ) -> Result<(), DrawError>
    where
        X: AsRangedCoord<Value = f64>,
        Y: AsRangedCoord<Value = f64>,
        X::CoordDescType: ValueFormatter<f64>,
        Y::CoordDescType: ValueFormatter<f64>,
    {
        let mut context = ChartBuilder::on(area)
            .margin(12)
            .margin_right(24)
            .x_label_area_size(48)
            .y_label_area_size(72)
            .build_cartesian_2d(x, y)?;
        context
            .configure_mesh()
            .x_desc(&self.x.name)
            .y_desc(&self.y.name)
            .x_label_formatter(&|&value| number(value))
            .y_label_formatter(&|&value| number(value))
            .light_line_style(WHITE)
            .bold_line_style(RGBColor(225, 225, 225))
            .label_style(("sans-serif", 15))
            .axis_desc_style(("sans-serif", 17))
            .draw()?;
        for band in self.bands.iter().filter(|band| band.points.len() > 1) {
            let lower = band.points.iter().map(|&(x, low, _)| (x, low));
            let upper = band.points.iter().rev().map(|&(x, _, high)| (x, high));
            let outline: Vec<(f64, f64)> = lower.chain(upper).collect();
            context.draw_series([Polygon::new(outline, band.color.mix(0.15).filled())])?;
        }
        for line in &self.lines {
            let (color, style) = (line.color, line.color.stroke_width(2));
            context
                .draw_series(LineSeries::new(line.points.iter().copied(), style))?
                .label(&line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(3)));
        }
        context
            .configure_series_labels()
            .position(legend)
            .background_style(WHITE.mix(0.85))
            .border_style(RGBColor(200, 200, 200))
            .label_font(("sans-serif", 16))
            .draw()?;
        Ok(())
    }
}

/// A small chart with linear axes.
pub type Panel<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// One of several small charts over time: its axes and mesh, to be drawn into.
///
/// # Errors
/// When it cannot be drawn.
pub fn panel<'a, 'b>(
    area: &Area<'b>,
    title: &str,
    name: &str,
    end: f64,
    (low, high): (f64, f64),
) -> Result<Panel<'a, 'b>, DrawError> {
    let mut builder = ChartBuilder::on(area);
    builder.margin(6).margin_right(14).x_label_area_size(38).y_label_area_size(52);
    if !title.is_empty() {
        builder.caption(title, ("sans-serif", 17));
    }
    let mut context = builder.build_cartesian_2d(0.0..end, low..high)?;
    mesh(&mut context, ["t", name], 5)?;
    Ok(context)
}

/// The mesh of a small chart: names of its axes, and about how many numbers stand on each.
pub(crate) fn mesh(context: &mut Panel<'_, '_>, [x, y]: [&str; 2], labels: usize) -> Result<(), DrawError> {
    context
        .configure_mesh()
        .x_desc(x)
        .y_desc(y)
        .x_labels(labels)
        .y_labels(labels)
        .x_label_formatter(&|&value| number(value))
        .y_label_formatter(&|&value| number(value))
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(230, 230, 230))
        .label_style(("sans-serif", 13))
        .axis_desc_style(("sans-serif", 15))
        .draw()?;
    Ok(())
}

/// Room around values, 0 included.
#[must_use]
pub fn around(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let finite = values.filter(|value| value.is_finite());
    let (low, high) = finite.fold((0.0_f64, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    let margin = 0.08 * (high - low).max(1e-3);
    (low - margin, high + margin)
}

/// Ends of an axis: the values' own; on a logarithmic one a little wider, and with two powers of ten at least, where the
/// ticks are.
fn range(values: impl Iterator<Item = f64>, logarithmic: bool) -> (f64, f64) {
    let (low, high) = values
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    match (low <= high, logarithmic) {
        (false, _) => (0.1, 1.0),
        (true, true) => {
            let (low, high) = (low / 1.5, high * 1.5);
            let (from, to) = (low.log10(), high.log10());
            let power = |exponent: f64| 10f64.powf(exponent);
            if to.floor() - from.ceil() >= 1.0 {
                (low, high)
            } else {
                (power(from.floor()), power(to.ceil().max(from.floor() + 1.0)))
            }
        }
        (true, false) => {
            let least = SHORTEST * low.abs().max(high.abs()).max(SHORTEST);
            let margin = if low == high { least.max(0.5) } else { least };
            if high - low < least { (low - margin, high + margin) } else { (low, high) }
        }
    }
}

/// A tick's label: short, with an exponent where the number is far from 1.
#[must_use]
pub fn number(value: f64) -> String {
    let size = if value.abs() < 9e-16 { 0.0 } else { value.abs() };
    if size != 0.0 && !(1e-2..1e5).contains(&size) {
        return format!("{value:.1e}").replace(".0e", "e");
    }
    let text = format!("{:.3}", size.copysign(value));
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}
