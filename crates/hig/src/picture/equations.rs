//! The picture of simulators written as equations: states and controls of six test samples over time.

use halfinverse::NetworkProblem;
use halfinverse::simulator::{EquationsSettings, Hold, ObserveAt, Ode};
use halfinverse::task::Task;
use plotters::prelude::*;

use super::Picture;
use super::oscillators::{Curve, GREY, draw, key};
use crate::chart::{COLORS, DrawError};

/// States and controls.
pub(super) struct States;

impl Picture for States {
    fn samples(&self) -> usize {
        SAMPLES
    }

    fn caption(&self) -> String {
        "Six test samples: states and controls over time; dots mark targets of states that are observed at the end".to_owned()
    }

    fn svg(&self, task: &Task, problem: &NetworkProblem) -> Result<String, DrawError> {
        svg(&task.settings().simulator.read::<EquationsSettings>()?, problem)
    }
}

const SAMPLES: usize = 6;
const COLUMNS: usize = 3;
const SIZE: (u32, u32) = (1050, 900);

fn svg(settings: &EquationsSettings, problem: &NetworkProblem) -> Result<String, DrawError> {
    let ode = settings.ode()?;
    let samples = problem.mini_batch();
    let names: Vec<String> = settings.states().into_iter().map(str::to_owned).collect();
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let (body, legend) = area.split_vertically(i32::try_from(SIZE.1)? - 40);
        let blocks = body.split_evenly((SAMPLES.div_ceil(COLUMNS), COLUMNS));
        for (s, block) in blocks.iter().enumerate().take(samples.len()) {
            let [states, controls] = curves(&ode, settings, problem, s)?;
            let (above, below) = block.split_vertically(260);
            draw(&above, &format!("test sample {}", s + 1), "state", &states)?;
            draw(&below, "", "control", &controls)?;
        }
        key(&legend, &names)?;
        area.present()?;
    }
    Ok(text)
}

/// States and controls of a sample.
fn curves(
    ode: &Ode,
    settings: &EquationsSettings,
    problem: &NetworkProblem,
    s: usize,
) -> Result<[Vec<Curve>; 2], DrawError> {
    let samples = problem.mini_batch();
    let control = problem.control().subrows(s, 1);
    let trajectory = ode.trajectory(samples.initial.as_ref().subrows(s, 1), control)?;
    let names = settings.states();
    // The outcome that a state is at the end: all are where nothing is named.
    let outcome = |i: usize| match (&settings.observe_at, settings.observe.is_empty()) {
        (ObserveAt::End, true) => Some(i),
        (ObserveAt::End, false) => settings.observe.iter().position(|observed| observed.trim() == names[i]),
        _ => None,
    };
    let state = |i: usize| Curve {
        points: trajectory.times.iter().zip(&trajectory.states).map(|(&t, state)| (t, state[i])).collect(),
        target: outcome(i).map(|c| samples.target[(s, c)]),
        color: COLORS[i % COLORS.len()],
    };
    let count = settings.controls.len();
    let length = settings.dt * settings.steps as f64;
    let pushes = |c: usize| Curve {
        points: (0..settings.intervals)
            .flat_map(|i| {
                let push = control[(0, if settings.hold == Hold::Whole { c } else { i * count + c })];
                [(i as f64 * length, push), ((i + 1) as f64 * length, push)]
            })
            .collect(),
        target: None,
        color: if count == 1 { GREY } else { COLORS[c % COLORS.len()] },
    };
    Ok([(0..names.len()).map(state).collect(), (0..count).map(pushes).collect()])
}
