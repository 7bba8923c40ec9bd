//! The dipole's picture: the field, what it does to the state, and how close that comes to the target.

use halfinverse::NetworkProblem;
use halfinverse::simulator::{Dipole, DipoleSettings};
use halfinverse::task::Task;
use plotters::prelude::*;

use super::Picture;
use crate::chart::{Area, COLORS, DrawError, Panel, around, number, panel};

/// Field, state and overlap.
pub(super) struct Laser;

impl Picture for Laser {
    fn samples(&self) -> usize {
        SAMPLES
    }

    fn caption(&self) -> String {
        "Three test samples: field u, probability |ψ|² in the box, overlap with the target".to_owned()
    }

    fn svg(&self, task: &Task, problem: &NetworkProblem) -> Result<String, DrawError> {
        let simulator = Dipole::new(task.settings().simulator.read::<DipoleSettings>()?)?;
        svg(&simulator, problem)
    }
}

/// Test samples that are drawn.
const SAMPLES: usize = 3;
const SIZE: (u32, u32) = (1050, 760);
/// Columns of the map of |ψ|²: more time steps than this share one.
const COLUMNS: usize = 96;

/// Field, probability over space and time, and overlap of the problem's samples, one column each.
fn svg(simulator: &Dipole, problem: &NetworkProblem) -> Result<String, DrawError> {
    let samples = problem.mini_batch();
    let settings = simulator.settings();
    let end = settings.steps as f64 * settings.dt;
    let time = |step: usize| step as f64 * settings.dt;
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        for (s, block) in area.split_evenly((1, SAMPLES)).iter().enumerate().take(samples.len()) {
            let control = problem.control().subrows(s, 1);
            let states = simulator.trajectory(samples.initial.as_ref().subrows(s, 1), control);
            let target: Vec<f64> = (0..samples.target.ncols()).map(|c| samples.target[(s, c)]).collect();
            let u = (0..settings.steps).flat_map(|t| [t, t + 1].map(|edge| (time(edge), control[(0, t)])));
            let overlaps = states.iter().enumerate().map(|(t, state)| (time(t), overlap(state, &target)));
            let (top, rest) = block.split_vertically(SIZE.1 / 4);
            let (middle, bottom) = rest.split_vertically(SIZE.1 / 2);
            let range = around((0..settings.steps).map(|t| control[(0, t)]));
            curve(panel(&top, &format!("test sample {}", s + 1), "u", end, range)?, u)?;
            map(&middle, simulator, end, &states)?;
            curve(panel(&bottom, "", "overlap", end, (0.0, 1.0))?, overlaps)?;
        }
        area.present()?;
    }
    Ok(text)
}

/// |⟨target|state⟩|² of states given as real and imaginary parts by grid point.
fn overlap(state: &[f64], target: &[f64]) -> f64 {
    let (mut re, mut im) = (0.0, 0.0);
    for (y, t) in state.chunks_exact(2).zip(target.chunks_exact(2)) {
        re += t[0] * y[0] + t[1] * y[1];
        im += t[0] * y[1] - t[1] * y[0];
    }
    re * re + im * im
}

fn curve(mut panel: Panel<'_, '_>, points: impl Iterator<Item = (f64, f64)>) -> Result<(), DrawError> {
    let finite = points.filter(|(_, value)| value.is_finite());
    panel.draw_series(LineSeries::new(finite, COLORS[0].stroke_width(1)))?;
    Ok(())
}

/// |ψ(x, t)|² as colours, dark for none.
fn map(area: &Area<'_>, simulator: &Dipole, end: f64, states: &[Vec<f64>]) -> Result<(), DrawError> {
    let settings = simulator.settings();
    let probability = |state: &[f64], j: usize| state[2 * j].powi(2) + state[2 * j + 1].powi(2);
    let all = states.iter().flat_map(|state| (0..settings.points).map(move |j| probability(state, j)));
    let most = all.filter(|value| value.is_finite()).fold(0.0, f64::max);
    let name = format!("x  (|ψ|² from 0 to {})", number(most));
    let mut context = panel(area, "", &name, end, (0.0, settings.length))?;
    let dx = settings.length / (settings.points + 1) as f64;
    let stride = states.len().div_ceil(COLUMNS);
    let cells = states.iter().enumerate().step_by(stride).flat_map(|(t, state)| {
        (0..settings.points).map(move |j| {
            let x = (j + 1) as f64 * dx;
            let until = ((t + stride) as f64 * settings.dt).min(end);
            let color = ViridisRGB.get_color(probability(state, j) / most.max(f64::MIN_POSITIVE));
            Rectangle::new([(t as f64 * settings.dt, x - 0.5 * dx), (until, x + 0.5 * dx)], color.filled())
        })
    });
    context.draw_series(cells)?;
    Ok(())
}
