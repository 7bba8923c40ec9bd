//! The Poisson task's picture: maps of target, field, its Laplacian and the residual.

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
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let panels = area.split_evenly((SAMPLES, maps.len()));
        for s in 0..problem.mini_batch().len() {
            for (column, &(name, values)) in maps.iter().enumerate() {
                let field: Vec<f64> = (0..values.ncols()).map(|cell| values[(s, cell)]).collect();
                map(&panels[s * maps.len() + column], simulator, name, &field)?;
            }
        }
        area.present()?;
    }
    Ok(text)
}

fn map(area: &Area<'_>, simulator: &Poisson, name: &str, field: &[f64]) -> Result<(), DrawError> {
    let (width, height) = (simulator.settings().width, simulator.settings().height);
    let most =
        field.iter().filter(|value| value.is_finite()).fold(0.0, |most: f64, value| most.max(value.abs()));
    let mut context = ChartBuilder::on(area)
        .margin(10)
        .caption(format!("{name}  (±{})", number(most)), ("sans-serif", 16))
        .build_cartesian_2d(0.0..width as f64, 0.0..height as f64)?;
    context.draw_series(field.iter().enumerate().map(|(cell, &value)| {
        let (x, y) = ((cell % width) as f64, (height - 1 - cell / width) as f64);
        let color = diverging(value / most.max(f64::MIN_POSITIVE));
        Rectangle::new([(x, y), (x + 1.0, y + 1.0)], color.filled())
    }))?;
    Ok(())
}

/// Blue at −1, white at 0, red at 1.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "colours, clamped to 0..=255")]
fn diverging(value: f64) -> RGBColor {
    let fade = |end: f64| (255.0 + (end - 255.0) * value.abs().min(1.0)) as u8;
    if value > 0.0 {
        RGBColor(fade(178.0), fade(24.0), fade(43.0))
    } else {
        RGBColor(fade(33.0), fade(102.0), fade(172.0))
    }
}
