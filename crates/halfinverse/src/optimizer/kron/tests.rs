use super::factor::Factor;
use super::*;
use crate::network::{Activation, Network};
use crate::objective::{Reduction, SquaredError};
use crate::problem::{FactorRows, Model, NetworkProblem, Samples};
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

/// The factor's means as one matrix, 0 outside its blocks.
fn dense(factor: &Factor) -> Mat<f64> {
    let mut all = Mat::zeros(factor.size(), factor.size());
    let mut start = 0;
    for block in &factor.blocks {
        for j in 0..block.mean.ncols() {
            for i in j..block.mean.nrows() {
                all[(start + i, start + j)] = block.mean[(i, j)];
                all[(start + j, start + i)] = block.mean[(i, j)];
            }
        }
        start += block.mean.nrows();
    }
    all
}

#[test]
fn the_direction_solves_the_dense_kronecker_system_of_a_layer() {
    for width in [1, 2, WIDTH] {
        let mut problem = problem(&[], 0.0);
        let mut theta = start(&problem);
        let lambda = 0.04;
        let mut kron = Kron::new(KronSettings { damping: lambda, ..KronSettings::default() }).unwrap();
        kron.width = width;
        kron.step(&mut problem, &mut theta).unwrap();
        let factors = &kron.memory.factors[0];
        let damped = |mean: Mat<f64>| {
            let size = mean.nrows();
            let average = (0..size).map(|i| mean[(i, i)]).sum::<f64>() / size as f64;
            Mat::from_fn(size, size, |i, j| {
                mean[(i, j)] + if i == j { f64::sqrt(lambda) * average } else { 0.0 }
            })
        };
        let (a, g) = (damped(dense(&factors.input)), damped(dense(&factors.output)));
        let Motion { gradient, direction, .. } = &kron.memory.motion;
        for (row, gradient) in gradient.iter().enumerate() {
            let (i, o) = (row / 3, row % 3);
            let product: f64 =
                direction.iter().enumerate().map(|(c, d)| a[(i, c / 3)] * g[(o, c % 3)] * d).sum();
            assert!((product + gradient).abs() < 1e-9 * (1.0 + gradient.abs()), "{product} {gradient}");
        }
    }
}

/// Rows of x, the constant 1 behind them.
fn rows(count: usize, columns: usize) -> Mat<f64> {
    Mat::from_fn(
        count,
        columns + 1,
        |s, j| if j == columns { 1.0 } else { (1.3 * s as f64 + (j * j) as f64).sin() },
    )
}

#[test]
fn means_are_the_blocks_of_the_dense_mean() {
    let (all, columns) = (rows(6, 7), 7);
    let given = all.subcols(0, columns);
    for width in [1, 2, 3, 5, 8, 100] {
        let mut factor = Factor::new(columns + 1, width);
        // The first mini-batch comes in two parts.
        factor.absorb(given.subrows(0, 4), 1.0, 6, Par::Seq);
        factor.absorb(given.subrows(4, 2), 1.0, 6, Par::Seq);
        factor.scale(0.75);
        factor.absorb(given.subrows(0, 2), 0.25, 2, Par::Seq);
        let mean = |x: faer::MatRef<'_, f64>| faer::Scale(1.0 / x.nrows() as f64) * (x.transpose() * x);
        let expected = faer::Scale(0.75) * mean(all.as_ref()) + faer::Scale(0.25) * mean(all.subrows(0, 2));
        let found = dense(&factor);
        let block_of = |i: usize| factor::spans(8, width).position(|span| span.contains(&i));
        assert!(factor.blocks.iter().all(|block| block.mean.nrows() <= width));
        for (i, j) in (0..8).flat_map(|i| (0..8).map(move |j| (i, j))) {
            let expected = if block_of(i) == block_of(j) { expected[(i, j)] } else { 0.0 };
            assert!((found[(i, j)] - expected).abs() < 1e-14, "{width}: {i}, {j}");
        }
    }
}

#[test]
fn cholesky_inverts_as_eigenvalues_do_also_what_is_singular() {
    // Of rank 3, of rank 1 with units that are never active, and 0.
    for (count, scale) in [(3, 1.0), (1, 1e-8), (1, 0.0)] {
        let x = faer::Scale(scale) * rows(count, 40);
        let x = Mat::from_fn(count, 41, |s, j| if count == 1 && j % 2 == 0 { 0.0 } else { x[(s, j)] });
        let mut factor = Factor::new(41, 100);
        factor.absorb(x.as_ref(), 1.0, count, Par::Seq);
        for lambda in [LEAST_DAMPING, 3e-3] {
            factor.refresh(1.0, lambda, Par::Seq).unwrap();
            let inverse = factor.blocks[0].power.clone();
            let trace = (0..41).map(|i| factor.blocks[0].mean[(i, i)]).sum::<f64>();
            let damping = if trace > 0.0 { lambda.sqrt() * trace / 41.0 } else { 1.0 };
            factor.blocks[0].inverse_power(damping, 1.0, Par::Seq).unwrap();
            let expected = &factor.blocks[0].power;
            let off = (&inverse - expected).norm_l2() / expected.norm_l2();
            assert!(off < 1e-10, "{count}, {lambda}: {off}");
        }
    }
}

#[test]
fn what_is_not_positive_definite_falls_to_eigenvalues() {
    let mut factor = Factor::new(2, 2);
    // Eigenvalues 4 and −2, damping 0.2.
    factor.blocks[0].mean = Mat::from_fn(2, 2, |i, j| if i == j { 1.0 } else { 3.0 });
    assert!(!factor.blocks[0].invert(0.2, Par::Seq));
    factor.refresh(1.0, 0.04, Par::Seq).unwrap();
    let (sum, difference) = (1.0 / 4.2, 1.0 / 0.2);
    let power = &factor.blocks[0].power;
    assert!((power[(0, 0)] - 0.5 * (sum + difference)).abs() < 1e-12);
    assert!((power[(0, 1)] - 0.5 * (sum - difference)).abs() < 1e-12);
}

#[test]
fn a_restored_memory_goes_on_and_saves_to_the_same_bytes_in_blocks_too() {
    for (kappa, width) in [(1.0, WIDTH), (1.0, 3), (0.5, 3)] {
        let fresh = || {
            let mut kron = Kron::new(KronSettings { kappa, ..KronSettings::default() }).unwrap();
            kron.width = width;
            kron
        };
        let (mut first, mut second) = (fresh(), fresh());
        let mut theta = start(&problem(&[8], 0.0));
        let go = |kron: &mut Kron, theta: &mut Vec<f64>, from: i32| {
            for step in from..from + 45 {
                kron.step(&mut problem(&[8], f64::from(step)), theta).unwrap();
            }
        };
        go(&mut first, &mut theta, 0);
        second.restore(&first.save(), theta.len()).unwrap();
        assert_eq!(first.save(), second.save());
        let mut again = theta.clone();
        go(&mut first, &mut theta, 45);
        go(&mut second, &mut again, 45);
        assert_eq!(theta, again, "{kappa}, {width}");
        assert_eq!(first.save(), second.save());
    }
}

#[test]
fn blocks_of_another_width_are_refused() {
    let mut kron = Kron::new(KronSettings::default()).unwrap();
    let mut theta = start(&problem(&[8], 0.0));
    kron.step(&mut problem(&[8], 0.0), &mut theta).unwrap();
    kron.width = 4;
    assert!(kron.step(&mut problem(&[8], 0.0), &mut theta).is_err());
}

#[test]
fn what_a_wide_layer_costs_per_parameter_does_not_grow_with_its_width() {
    let layer = |width| [FactorShape { outputs: width, inputs: width, bias: true, positions: 1, offset: 0 }];
    let narrow = Work::of(&layer(WIDTH - 1), WIDTH);
    assert_eq!(narrow.overhead().to_bits(), (2.0 * WIDTH as f64 - 1.0).to_bits());
    for width in [1024, 4096] {
        let wide = Work::of(&layer(width), WIDTH);
        assert!(wide.overhead() <= 2.0 * WIDTH as f64);
        assert!(wide.entries <= (WIDTH * (2 * width + 1)) as f64);
        // Cholesky factorizations of narrow blocks are a small part of a step, eigenvalues are not.
        assert_eq!(wide.between_refreshes(128.0, 1.0, 0.2), 1);
        assert!(wide.between_refreshes(128.0, 0.75, 0.2) > 1);
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
        let visit = &mut |rows: FactorRows<'_>| {
            let delta = rows.cotangent;
            if rows.factor == 0 {
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
