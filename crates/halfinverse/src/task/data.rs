//! The tasks' data sets, drawn from named generators: ChaCha8 seeded with `data.seed`, stream 0 for training data,
//! stream 1 for test data.

use faer::Mat;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::DataSettings;
use crate::columns::norm;
use crate::model::Samples;
use crate::simulator::{Dipole, Oscillators, Simulator};

type Draw<'a> = &'a dyn Fn(&mut ChaCha8Rng, usize) -> Samples;

/// Training and test data from the same distribution.
fn both(settings: &DataSettings, draw: Draw<'_>) -> (Samples, Samples) {
    let stream = |stream, count| {
        let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
        rng.set_stream(stream);
        draw(&mut rng, count)
    };
    (stream(0, settings.train), stream(1, settings.test))
}

/// States uniform on [0, 1), each at once network input, initial state and target.
pub(super) fn oscillators(simulator: &Oscillators, settings: &DataSettings) -> (Samples, Samples) {
    both(settings, &|rng, count| {
        let mut states = Mat::zeros(count, simulator.initials());
        for s in 0..count {
            for j in 0..states.ncols() {
                states[(s, j)] = rng.random::<f64>();
            }
        }
        Samples { input: states.clone(), initial: states.clone(), target: states }
    })
}

/// From one eigenstate to real combinations of others, uniform on the unit sphere; the network sees the target.
pub(super) fn dipole(simulator: &Dipole, settings: &DataSettings) -> (Samples, Samples) {
    let start = simulator.eigenstate(simulator.settings().initial_state);
    let states: Vec<_> =
        simulator.settings().target_states.iter().map(|&n| simulator.eigenstate(n)).collect();
    both(settings, &|rng, count| {
        let mut initial = Mat::zeros(count, simulator.initials());
        let mut target = initial.clone();
        for s in 0..count {
            let weights: Vec<f64> = states.iter().map(|_| rng.sample(StandardNormal)).collect();
            let length = norm(&weights);
            for j in 0..start.len() {
                initial[(s, 2 * j)] = start[j];
                target[(s, 2 * j)] =
                    states.iter().zip(&weights).map(|(state, w)| state[j] * w / length).sum();
            }
        }
        Samples { input: target.clone(), initial, target }
    })
}
