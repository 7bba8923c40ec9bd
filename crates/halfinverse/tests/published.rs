//! Figures that others have published, beside ours on the same problems.
//!
//! The full runs take about a minute: `cargo test --release --test published -- --ignored`.

use std::f64::consts::PI;
use std::sync::Arc;

use faer::Mat;
use halfinverse::network::{Activation, Init, Network};
use halfinverse::objective::SquaredError;
use halfinverse::optimizer::{
    AutoSettings, Context, HalfInverse, HalfInverseSettings, LevenbergMarquardtSettings, Optimizer, Setup,
};
use halfinverse::problem::{BatchProblem, Source};
use halfinverse::simulator::{Oscillators, OscillatorsSettings, Scaling};
use halfinverse::{Evaluator, Model, NetworkProblem, Samples};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// A permutation of 0..count.
fn shuffled(count: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for i in (1..count).rev() {
        order.swap(i, rng.random_range(0..=i));
    }
    order
}

/// Steps on one mini-batch after the other, in this order.
fn epoch(
    optimizer: &mut dyn Optimizer,
    problem: &mut dyn BatchProblem,
    (samples, order): (&Samples, &[usize]),
    batch: usize,
    theta: &mut [f64],
) {
    for indices in order.chunks(batch) {
        problem.take(samples, indices).unwrap();
        optimizer.step(problem, theta).unwrap();
    }
}

/// The authors' book, *Coupled Oscillators with Half-Inverse Gradients*: losses on the training data after epochs 1 to 4.
const PUBLISHED: [f64; 4] = [5.44e-5, 1.06e-5, 3.16e-6, 1.19e-6];

/// Ours, their settings throughout.
fn linear_chain(seed: u64, epochs: usize) -> Vec<f64> {
    let simulator = Oscillators::new(OscillatorsSettings {
        linear_coupling: 0.2,
        cubic_coupling: 0.0,
        control_gain: 1.0,
        dt: 0.5,
        steps: 24,
        ..OscillatorsSettings::default()
    });
    let network = Network::mlp(&[4, 20, 20, 20, 24], Activation::Tanh).unwrap();
    let rng = &mut rng(seed);
    let mut theta = network.initialize(Init::GlorotUniform, rng);
    let model = Model::new(network, simulator.unwrap(), SquaredError { factor: 1.0 }).unwrap();
    let states = Mat::from_fn(4096, 4, |_, _| rng.random::<f64>());
    let samples = Samples::new(states.clone(), states.clone(), states).unwrap();
    let settings = HalfInverseSettings { truncation: 1e-10, ..HalfInverseSettings::default() };
    let mut hig = HalfInverse::new(settings).unwrap();
    let mut problem = NetworkProblem::new(&model, samples.range(0, 32), 1).unwrap();
    let mut judge = Evaluator::new(&model, samples.clone(), 1).unwrap();
    let order: Vec<usize> = (0..4096).collect();
    let after = |_| {
        epoch(&mut hig, &mut problem, (&samples, &order), 32, &mut theta);
        judge.loss(&theta).unwrap()
    };
    (0..epochs).map(after).collect()
}

/// Whether the median over seeds is at most half as much again as what was published, after each of these epochs.
fn meets_the_book(seeds: std::ops::RangeInclusive<u64>, epochs: usize) {
    let runs: Vec<Vec<f64>> = seeds.map(|seed| linear_chain(seed, epochs)).collect();
    for (e, published) in PUBLISHED[..epochs].iter().enumerate() {
        let mut losses: Vec<f64> = runs.iter().map(|run| run[e]).collect();
        losses.sort_by(f64::total_cmp);
        let median = losses[losses.len() / 2];
        assert!(median <= 1.5 * published, "epoch {}: {losses:?} for {published:e}", e + 1);
    }
}

#[test]
fn hig_starts_on_the_linear_chain_as_in_the_authors_book() {
    meets_the_book(1..=3, 2);
}

/// Seen for seeds 1 to 5 after epoch 4: 2.0e-6, 1.7e-6, 1.5e-6, 1.3e-6, 1.8e-6; the first and the last are above 1.5 times
/// the published loss. After epochs 1 to 3 all are below.
#[test]
#[ignore = "20 seconds"]
fn hig_trains_on_the_linear_chain_as_in_the_authors_book() {
    meets_the_book(1..=5, 4);
}

/// Mean squared error of sin(10πx)/(10πx) on 20,000 points of [−1, 1] by a network 1-20-1, mini-batches of 1,000.
fn sinc(name: &str, seed: u64, epochs: usize) -> f64 {
    let network = Network::mlp(&[1, 20, 1], Activation::Tanh).unwrap();
    let rng = &mut rng(seed);
    let mut theta = network.initialize(Init::GlorotUniform, rng);
    let model = Model::new(network, Scaling::new(vec![1.0]), SquaredError { factor: 1.0 }).unwrap();
    let x = Mat::from_fn(20_000, 1, |s, _| s as f64 / 9999.5 - 1.0);
    let y = Mat::from_fn(20_000, 1, |s, _| (10.0 * PI * x[(s, 0)]).sin() / (10.0 * PI * x[(s, 0)]));
    let all = Samples::new(x, Mat::zeros(20_000, 0), y).unwrap();
    let mut samples = all.zeros_like(0);
    all.gather(&shuffled(20_000, rng), &mut samples).unwrap();
    let held = if name == "hig-auto" { 256 } else { 0 };
    let count = 20_000 - held;
    let source = Arc::new(model.clone());
    let judges = samples.range(count, held);
    let context = Context { source, batch: 1000, samples: count, judges, counted: true, threads: 1 };
    let built = if held > 0 {
        AutoSettings {}.build(&context)
    } else {
        LevenbergMarquardtSettings::default().build(&context)
    };
    let mut optimizer = built.unwrap();
    let mut problem = model.problem(samples.range(0, 1000), 1).unwrap();
    for _ in 0..epochs {
        let order = shuffled(count, rng);
        epoch(&mut *optimizer, &mut *problem, (&samples, &order), 1000, &mut theta);
    }
    Evaluator::new(&model, all, 1).unwrap().loss(&theta).unwrap()
}

#[test]
fn lm_gets_under_way_on_sinc() {
    // Seen: 1.1e-6, 5.0e-7, 6.5e-7.
    for seed in 1..=3 {
        let loss = sinc("lm", seed, 40);
        assert!(loss < 4e-6, "seed {seed}: {loss:e}");
    }
}

/// tf-levenberg-marquardt publishes 1.03e-8 after 100 epochs. Seen for seeds 1 to 3: 2.9e-9, 2.1e-7, 7.4e-8 after 100 epochs,
/// where a single step still moves the loss tenfold, and 3.3e-10, 1.6e-10, 3.3e-10 after 200.
#[test]
#[ignore = "half a minute"]
fn lm_fits_sinc_better_than_published_after_twice_the_epochs() {
    for seed in 1..=3 {
        let loss = sinc("lm", seed, 200);
        assert!(loss <= 1.03e-8, "seed {seed}: {loss:e}");
    }
}

/// Seen after 100 epochs: 2.0e-6, 2.6e-6, 2.2e-6, a hundred times more than by lm.
#[test]
fn hig_auto_gets_under_way_on_sinc() {
    for seed in 1..=3 {
        let loss = sinc("hig-auto", seed, 100);
        assert!(loss < 1e-5, "seed {seed}: {loss:e}");
    }
}
