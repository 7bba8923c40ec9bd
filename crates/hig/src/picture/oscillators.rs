//! The oscillators' picture: what the trained control does to six test samples.

use halfinverse::NetworkProblem;
use halfinverse::simulator::{Oscillators, OscillatorsSettings};
use halfinverse::task::Task;
use plotters::prelude::*;

use super::Picture;
use crate::chart::{Area, COLORS, DrawError, around, panel};

/// Trajectories and control.
pub(super) struct Chain;

impl Picture for Chain {
    fn samples(&self) -> usize {
        SAMPLES
    }

    fn caption(&self) -> String {
        "Six test samples: positions, velocities and control; dots mark the target".to_owned()
    }

    fn svg(&self, task: &Task, problem: &NetworkProblem) -> Result<String, DrawError> {
        let simulator = Oscillators::new(task.settings().simulator.read::<OscillatorsSettings>()?)?;
        svg(&simulator, problem)
    }
}

/// Test samples that are drawn.
const SAMPLES: usize = 6;
const COLUMNS: usize = 3;
const SIZE: (u32, u32) = (1050, 1240);

/// A curve over time, with the value it should end at.
pub(super) struct Curve {
    pub(super) points: Vec<(f64, f64)>,
    pub(super) target: Option<f64>,
    pub(super) color: RGBColor,
}

/// The colour of a control.
pub(super) const GREY: RGBColor = RGBColor(90, 90, 90);

/// Positions, velocities and control of the problem's samples over time, one column of three panels each.
fn svg(simulator: &Oscillators, problem: &NetworkProblem) -> Result<String, DrawError> {
    let samples = problem.mini_batch();
    let masses = samples.target.ncols() / 2;
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let (body, legend) = area.split_vertically(i32::try_from(SIZE.1)? - 40);
        let count = samples.len();
        for (s, block) in
            body.split_evenly((SAMPLES.div_ceil(COLUMNS), COLUMNS)).iter().enumerate().take(count)
        {
            let control = problem.control().subrows(s, 1);
            let trajectory = simulator.trajectory(samples.initial.as_ref().subrows(s, 1), control);
            let state = |i: usize| Curve {
                points: trajectory
                    .times
                    .iter()
                    .zip(&trajectory.states)
                    .map(|(&t, state)| (t, state[i]))
                    .collect(),
                target: Some(samples.target[(s, i)]),
                color: COLORS[i % masses % COLORS.len()],
            };
            let pushes = trajectory.times.windows(2).enumerate();
            let control = Curve {
                points: pushes
                    .flat_map(|(i, t)| [(t[0], control[(0, i)]), (t[1], control[(0, i)])])
                    .collect(),
                target: None,
                color: GREY,
            };
            let panels = block.split_evenly((3, 1));
            draw(
                &panels[0],
                &format!("test sample {}", s + 1),
                "x",
                &(0..masses).map(state).collect::<Vec<_>>(),
            )?;
            draw(&panels[1], "", "v", &(masses..2 * masses).map(state).collect::<Vec<_>>())?;
            draw(&panels[2], "", "u", &[control])?;
        }
        let names: Vec<String> = (1..=masses).map(|mass| format!("mass {mass}")).collect();
        key(&legend, &names)?;
        area.present()?;
    }
    Ok(text)
}

pub(super) fn draw(area: &Area<'_>, title: &str, name: &str, curves: &[Curve]) -> Result<(), DrawError> {
    let values = curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.1).chain(curve.target));
    let end = curves.iter().filter_map(|curve| curve.points.last()).map(|point| point.0).fold(0.0, f64::max);
    let mut context = panel(area, title, name, end * 1.02, around(values))?;
    for curve in curves {
        let color = curve.color;
        let points = curve.points.iter().copied().filter(|(_, value)| value.is_finite());
        context.draw_series(LineSeries::new(points, color.stroke_width(2)))?;
        if let Some(target) = curve.target {
            context.draw_series([Circle::new((end, target), 5, color.filled())])?;
        }
    }
    Ok(())
}

/// Which colour is which curve.
pub(super) fn key(area: &Area<'_>, names: &[String]) -> Result<(), DrawError> {
    let mut x = 60;
    for (name, color) in names.iter().zip(COLORS) {
        area.draw(&PathElement::new([(x, 20), (x + 24, 20)], color.stroke_width(3)))?;
        area.draw(&Text::new(name.clone(), (x + 30, 13), ("sans-serif", 16)))?;
        x += 110;
    }
    area.draw(&Circle::new((x + 8, 20), 5, BLACK.filled()))?;
    area.draw(&Text::new("target at the end", (x + 20, 13), ("sans-serif", 16)))?;
    Ok(())
}
