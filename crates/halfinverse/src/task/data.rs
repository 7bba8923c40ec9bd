//! The tasks' data, drawn from named generators: ChaCha8 seeded with `data.seed`, a stream for each purpose.

use faer::Mat;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use rustfft::FftPlanner;
use rustfft::num_complex::Complex;

use super::Simulation;
use crate::columns::norm;
use crate::model::Samples;
use crate::simulator::{Dipole, Oscillators, Poisson, Simulator};

/// Stream of the training data.
pub(crate) const TRAIN: u64 = 0;
/// Stream of the test data.
pub(crate) const TEST: u64 = 1;
/// Stream of initial weights, of `training.seed`; equal seeds of data and training share no numbers.
pub(crate) const WEIGHTS: u64 = 2;
/// Stream that orders epoch 0, of `training.seed`; each epoch has its own.
pub(crate) const EPOCHS: u64 = 3;
/// Stream of the validation data, which hyper-parameters are chosen by.
pub(crate) const VALIDATION: u64 = 1 << 62;
/// Stream of the fresh mini-batch of step 0; each step has its own.
pub(crate) const FRESH: u64 = 1 << 63;

/// `count` samples of a task.
pub(crate) fn draw(simulation: &Simulation, seed: u64, stream: u64, count: usize) -> Samples {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    match simulation {
        Simulation::Oscillators(simulator) => oscillators(simulator, count, &mut rng),
        Simulation::Dipole(simulator) => dipole(simulator, count, &mut rng),
        Simulation::Poisson(simulator) => poisson(simulator, count, &mut rng),
        Simulation::Toy(_) => function(count, &mut rng, |x| vec![(6.0 * x).sin(), (9.0 * x).cos()]),
        Simulation::Regression(_) => {
            let deviation = bump_deviation();
            function(count, &mut rng, |x| vec![bump(x) / deviation])
        }
    }
}

/// Points uniform on [−1, 1), and a function of them.
fn function(count: usize, rng: &mut ChaCha8Rng, f: impl Fn(f64) -> Vec<f64>) -> Samples {
    let outputs = f(0.0).len();
    let mut samples = Samples {
        input: Mat::zeros(count, 1),
        initial: Mat::zeros(count, 0),
        target: Mat::zeros(count, outputs),
    };
    for s in 0..count {
        let x = 2.0 * rng.random::<f64>() - 1.0;
        samples.input[(s, 0)] = x;
        f(x).into_iter().enumerate().for_each(|(c, y)| samples.target[(s, c)] = y);
    }
    samples
}

/// exp(−10x²)·sin 2x, which is odd: its mean over [−1, 1] is 0.
fn bump(x: f64) -> f64 {
    (-10.0 * x * x).exp() * (2.0 * x).sin()
}

/// Standard deviation of [`bump`] over [−1, 1], by the trapezoidal rule, whose error the vanishing ends make negligible.
fn bump_deviation() -> f64 {
    const INTERVALS: u32 = 1000;
    let squares = (0..INTERVALS).map(|i| bump(2.0 * f64::from(i) / f64::from(INTERVALS) - 1.0).powi(2));
    (squares.sum::<f64>() / f64::from(INTERVALS)).sqrt()
}

/// States uniform on [0, 1), each at once network input, initial state and target.
fn oscillators(simulator: &Oscillators, count: usize, rng: &mut ChaCha8Rng) -> Samples {
    let mut states = Mat::zeros(count, simulator.initials());
    for s in 0..count {
        for j in 0..states.ncols() {
            states[(s, j)] = rng.random::<f64>();
        }
    }
    Samples { input: states.clone(), initial: states.clone(), target: states }
}

/// From one eigenstate to real combinations of others, uniform on the unit sphere; the network sees the target.
fn dipole(simulator: &Dipole, count: usize, rng: &mut ChaCha8Rng) -> Samples {
    let start = simulator.eigenstate(simulator.settings().initial_state);
    let states: Vec<_> =
        simulator.settings().target_states.iter().map(|&n| simulator.eigenstate(n)).collect();
    let mut initial = Mat::zeros(count, simulator.initials());
    let mut target = initial.clone();
    for s in 0..count {
        let weights: Vec<f64> = states.iter().map(|_| rng.sample(StandardNormal)).collect();
        let length = norm(&weights);
        for j in 0..start.len() {
            initial[(s, 2 * j)] = start[j];
            target[(s, 2 * j)] = states.iter().zip(&weights).map(|(state, w)| state[j] * w / length).sum();
        }
    }
    Samples { input: target.clone(), initial, target }
}

/// Laplacians of smooth noise; the network sees the target.
///
/// The noise is the real part of a white complex spectrum over k², without its mean, scaled to a standard deviation of
/// 1 in each sample.
fn poisson(simulator: &Poisson, count: usize, rng: &mut ChaCha8Rng) -> Samples {
    let (width, height) = (simulator.settings().width, simulator.settings().height);
    let mut planner = FftPlanner::new();
    let (along, across) = (planner.plan_fft_inverse(width), planner.plan_fft_inverse(height));
    // Cycles per cell of the spectrum's entry i of n.
    let frequency = |i: usize, n: usize| i.min(n - i) as f64 / n as f64;
    let mut noise = Mat::zeros(count, width * height);
    for s in 0..count {
        let mut spectrum: Vec<Complex<f64>> = (0..width * height)
            .map(|cell| {
                let k2 = frequency(cell % width, width).powi(2) + frequency(cell / width, height).powi(2);
                let (re, im): (f64, f64) = (rng.sample(StandardNormal), rng.sample(StandardNormal));
                if k2 > 0.0 { Complex::new(re, im) / k2 } else { Complex::default() }
            })
            .collect();
        along.process(&mut spectrum);
        let mut transposed: Vec<_> =
            (0..width * height).map(|i| spectrum[i / height + i % height * width]).collect();
        across.process(&mut transposed);
        let field: Vec<f64> =
            (0..width * height).map(|cell| transposed[cell / width + cell % width * height].re).collect();
        let deviation = norm(&field) / (field.len() as f64).sqrt();
        for (cell, value) in field.iter().enumerate() {
            noise[(s, cell)] = if deviation > 0.0 { value / deviation } else { 0.0 };
        }
    }
    let mut target = Mat::zeros(count, width * height);
    simulator.laplacian(noise.as_ref(), target.as_mut());
    Samples { input: target.clone(), initial: Mat::zeros(count, 0), target }
}
