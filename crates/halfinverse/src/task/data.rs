//! The tasks' data sets, drawn from named generators: ChaCha8 seeded with `data.seed`, stream 0 for training data,
//! stream 1 for test data.

use faer::Mat;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::DataSettings;
use crate::model::Samples;
use crate::simulator::{Oscillators, Simulator};

/// States uniform on [0, 1), each at once network input, initial state and target.
pub(super) fn oscillators(simulator: &Oscillators, settings: &DataSettings) -> (Samples, Samples) {
    let draw = |stream, count| {
        let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
        rng.set_stream(stream);
        let mut states = Mat::zeros(count, simulator.initials());
        for s in 0..count {
            for j in 0..states.ncols() {
                states[(s, j)] = rng.random::<f64>();
            }
        }
        Samples { input: states.clone(), initial: states.clone(), target: states }
    };
    (draw(0, settings.train), draw(1, settings.test))
}
