use super::*;
use crate::network::{Activation, Network};
use crate::objective::{Reduction, SquaredError};
use crate::problem::{Model, NetworkProblem, Samples};
use crate::simulator::Scaling;

/// Three smooth functions of two variables, seen through factors 1, 0.1 and 10; `shift` moves the samples.
fn problem(hidden: &[usize], shift: f64) -> NetworkProblem {
    let widths = [&[2], hidden, &[3]].concat();
    let network = Network::mlp(&widths, Activation::Tanh).unwrap();
    let objective = SquaredError { factor: 0.5 };
    let factors = [1.0, 0.1, 10.0];
    let model = Model::new(network, Scaling::new(factors.to_vec()), objective).unwrap();
    let model = model.reduced_by(Reduction::Sum);
    let input = Mat::from_fn(16, 2, |s, j| (1.7 * s as f64 + 2.9 * j as f64 + shift).sin());
    let target = Mat::from_fn(16, 3, |s, c| factors[c] * (input[(s, 0)] + c as f64 * input[(s, 1)] - 0.3));
    let initial = Mat::zeros(16, 0);
    NetworkProblem::new(&model, Samples::unweighted(input, initial, target), 1).unwrap()
}

fn start(problem: &NetworkProblem) -> Vec<f64> {
    let count = problem.model().network().parameters();
    (0..count).map(|i| 0.5 * (1.0 + 3.0 * i as f64).sin()).collect()
}

#[test]
fn the_direction_solves_the_dense_kronecker_system_of_a_layer() {
    let mut problem = problem(&[], 0.0);
    let mut theta = start(&problem);
    let lambda = 0.04;
    let mut kron = Kron::new(KronSettings { damping: lambda, ..KronSettings::default() }).unwrap();
    kron.step(&mut problem, &mut theta).unwrap();
    let factors = &kron.memory.factors[0];
    let damped = |mean: &Mat<f64>| {
        let size = mean.nrows();
        let average = (0..size).map(|i| mean[(i, i)]).sum::<f64>() / size as f64;
        Mat::from_fn(size, size, |i, j| mean[(i, j)] + if i == j { f64::sqrt(lambda) * average } else { 0.0 })
    };
    let (a, g) = (damped(&factors.input), damped(&factors.output));
    for (row, gradient) in kron.memory.motion.gradient.iter().enumerate() {
        let (i, o) = (row / 3, row % 3);
        let product: f64 = kron
            .memory
            .motion
            .direction
            .iter()
            .enumerate()
            .map(|(c, d)| a[(i, c / 3)] * g[(o, c % 3)] * d)
            .sum();
        assert!((product + gradient).abs() < 1e-9 * (1.0 + gradient.abs()), "{product} {gradient}");
    }
}

#[test]
fn signs_make_the_mean_of_all_rows_through_the_simulator() {
    let mut problem = problem(&[4], 0.0);
    let theta = start(&problem);
    let parameters = theta.len();
    let mut rows = vec![0.0; 48 * parameters];
    problem.linearize(&theta).unwrap().jacobian.fill_rows(0, &mut rows).unwrap();
    let layer = problem.model().network().factor_shapes()[0];
    // Derivatives with respect to the biases are the d of the layer.
    let bias = layer.offset + layer.inputs * layer.outputs;
    let exact = Mat::from_fn(4, 4, |i, j| {
        rows.chunks_exact(parameters).map(|row| row[bias + i] * row[bias + j]).sum::<f64>() / 16.0
    });
    problem.gradient(&theta, &mut vec![0.0; parameters]).unwrap();
    let (mut mean, mut signs) = (Mat::<f64>::zeros(4, 4), Mat::zeros(16, 3));
    let draws = 4000;
    for step in 0..draws {
        draw_signs(step, &mut signs);
        let visit = &mut |l, delta: faer::MatRef<'_, f64>, _: faer::MatRef<'_, f64>| {
            if l == 0 {
                mean += faer::Scale(1.0 / (16.0 * draws as f64)) * (delta.transpose() * delta);
            }
        };
        problem.cotangents(&theta, signs.as_ref(), visit).unwrap();
    }
    let off = (&mean - &exact).norm_l2() / exact.norm_l2();
    assert!(off < 0.02, "{off}");
}

#[test]
fn the_step_along_the_direction_minimizes_the_quadratic_model() {
    let mut problem = problem(&[], 0.0);
    let origin = start(&problem);
    let mut kron =
        Kron::new(KronSettings { learning_rate: 1.0, damping: 1e-3, ..KronSettings::default() }).unwrap();
    kron.step(&mut problem, &mut origin.clone()).unwrap();
    // Without hidden layers the loss is its own quadratic model.
    let mut at = |times: f64| {
        let mut theta = origin.clone();
        let Memory { curvature, motion, .. } = &kron.memory;
        along(&origin, times / curvature.value(), &motion.direction, &mut theta);
        problem.loss(&theta).unwrap()
    };
    assert!(at(1.0) < at(0.99) && at(1.0) < at(1.01));
}

#[test]
fn fresh_batches_train_and_repeat_bit_for_bit() {
    let run = || {
        let mut kron = Kron::new(KronSettings::default()).unwrap();
        let mut theta = start(&problem(&[8], 0.0));
        for step in 0..400 {
            kron.step(&mut problem(&[8], f64::from(step)), &mut theta).unwrap();
        }
        theta
    };
    let theta = run();
    let mut fresh = problem(&[8], 0.5);
    let before = fresh.loss(&start(&fresh)).unwrap();
    let after = fresh.loss(&theta).unwrap();
    assert!(after < 1e-4 * before, "{before} {after}");
    assert_eq!(theta, run());
}

#[test]
fn a_blow_up_finite_or_not_is_taken_back() {
    for factor in [30.0, f64::INFINITY] {
        let mut problem = problem(&[8], 0.0);
        let mut theta = start(&problem);
        let mut kron = Kron::new(KronSettings::default()).unwrap();
        for _ in 0..50 {
            kron.step(&mut problem, &mut theta).unwrap();
        }
        let (held, before) = (theta.clone(), problem.loss(&theta).unwrap());
        kron.memory.motion.iterate.iter_mut().for_each(|x| *x *= factor);
        assert!(kron.step(&mut problem, &mut theta).unwrap().rejected, "{factor}");
        assert_eq!(theta, held);
        for _ in 0..200 {
            kron.step(&mut problem, &mut theta).unwrap();
        }
        let after = problem.loss(&theta).unwrap();
        assert!(after < before, "{factor}: {before} {after}");
    }
}
