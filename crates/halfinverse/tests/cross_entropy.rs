//! Cross-entropy: gradient, the curvature that is no diagonal, and labels that are learnt with it.

use halfinverse::check::{self, TOLERANCE};
use halfinverse::faer::{Mat, MatMut, MatRef};
use halfinverse::network::{Activation, Dense, Init, Layer, Network};
use halfinverse::objective::{CrossEntropy, Objective, Reduction, probabilities};
use halfinverse::optimizer::{LevenbergMarquardt, LevenbergMarquardtSettings, Optimizer};
use halfinverse::problem::{Opaque, OpaqueProblem};
use halfinverse::rand::{RngExt, SeedableRng};
use halfinverse::simulator::Scaling;
use halfinverse::spectral::Solver;
use halfinverse::{Model, NetworkProblem, Predictor, Problem, Samples};
use rand_chacha::ChaCha8Rng;

fn random(rows: usize, columns: usize, seed: u64) -> Mat<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Mat::from_fn(rows, columns, |_, _| 4.0 * rng.random::<f64>() - 2.0)
}

/// Six samples of three inputs: the classes of the first four are known, the others have probabilities.
fn samples() -> Samples {
    let shares = probabilities(random(6, 4, 2).as_ref());
    let target = Mat::from_fn(6, 4, |s, c| if s < 4 { f64::from(u8::from(s == c)) } else { shares[(s, c)] });
    let samples = Samples::new(random(6, 3, 1), Mat::zeros(6, 0), target).unwrap();
    samples.with_weights(&[1.0, 2.0, 0.5, 1.0, 3.0, 1.0]).unwrap()
}

fn model(layers: Vec<Box<dyn Layer>>) -> (Model, Vec<f64>) {
    let network = Network::new(layers).unwrap();
    let theta = network.initialize(Init::FanInUniform, &mut ChaCha8Rng::seed_from_u64(3));
    (Model::new(network, Scaling::new(vec![1.0; 4]), CrossEntropy).unwrap(), theta)
}

fn mlp() -> (Model, Vec<f64>) {
    let network = Network::mlp(&[3, 7, 4], Activation::Tanh).unwrap();
    let theta = network.initialize(Init::FanInUniform, &mut ChaCha8Rng::seed_from_u64(3));
    (Model::new(network, Scaling::new(vec![1.0; 4]), CrossEntropy).unwrap(), theta)
}

/// h|Jv|² and Jᵀg.
fn found(problem: &mut dyn Problem, theta: &[f64], v: &[f64]) -> (f64, Vec<f64>) {
    let mut at = problem.linearize(theta).unwrap();
    let (mut product, mut back) = (vec![0.0; at.gradient.len()], vec![0.0; theta.len()]);
    at.jacobian.apply(v, &mut product).unwrap();
    at.jacobian.apply_transpose(at.gradient, &mut back).unwrap();
    (at.curvature * product.iter().map(|x| x * x).sum::<f64>(), back)
}

#[test]
fn every_derivative_agrees_with_differences() {
    let (model, theta) = mlp();
    let mut problem = NetworkProblem::new(&model, samples(), 1).unwrap();
    for comparison in check::model(&mut problem, &theta, 5).unwrap() {
        assert!(comparison.error < TOLERANCE, "{comparison:?}");
    }
}

/// With a single dense layer logits are linear in θ, and the Gauss–Newton model is Taylor's.
#[test]
fn the_curvature_of_a_linear_model_is_the_second_derivative_of_its_loss() {
    let (model, theta) = model(vec![Box::new(Dense::new(3, 4).unwrap())]);
    let mut problem = NetworkProblem::new(&model, samples(), 1).unwrap();
    let p = theta.len();
    for i in 0..4 {
        let v: Vec<f64> = (0..p).map(|j| ((j * 7 + i) as f64).sin()).collect();
        let (curvature, back) = found(&mut problem, &theta, &v);
        let step = 1e-4;
        let moved = |sign: f64| theta.iter().zip(&v).map(|(t, v)| t + sign * step * v).collect::<Vec<_>>();
        let mut gradient = |theta: &[f64]| {
            let mut gradient = vec![0.0; p];
            problem.gradient(theta, &mut gradient).unwrap();
            gradient
        };
        let (plus, minus, here) = (gradient(&moved(1.0)), gradient(&moved(-1.0)), gradient(&theta));
        let second: f64 = (0..p).map(|j| (plus[j] - minus[j]) / (2.0 * step) * v[j]).sum();
        assert!((curvature / second - 1.0).abs() < 1e-7, "{curvature} is not {second}");
        let off = here.iter().zip(&back).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off < 1e-14, "Jᵀg is off the gradient by {off:e}");
    }
}

#[test]
fn functions_have_the_curvature_that_the_network_has() {
    let (model, theta) = mlp();
    let of = model.clone();
    let outcome = move |theta: &[f64], samples: &Samples, mut y: MatMut<'_, f64>| {
        y.copy_from(Predictor::new(&of, theta.to_vec(), 1)?.control(samples.input.as_ref())?);
        Ok(())
    };
    let opaque = Opaque::new(theta.len(), 4, CrossEntropy, outcome).reduced_by(Reduction::Mean);
    let v: Vec<f64> = (0..theta.len()).map(|j| (j as f64).cos()).collect();
    let (a, back_a) = found(&mut NetworkProblem::new(&model, samples(), 1).unwrap(), &theta, &v);
    let (b, back_b) = found(&mut OpaqueProblem::new(&opaque, samples()).unwrap(), &theta, &v);
    assert!((a / b - 1.0).abs() < 1e-8, "{a} is not {b}");
    assert!(back_a.iter().zip(&back_b).all(|(a, b)| (a - b).abs() < 1e-8), "{back_a:?} {back_b:?}");
}

#[test]
fn logits_of_any_size_have_finite_losses_and_a_shift_of_all_changes_nothing() {
    let losses = |y: MatRef<'_, f64>| {
        let (mut losses, mut g) = (vec![0.0; y.nrows()], Mat::zeros(y.nrows(), y.ncols()));
        let target = Mat::from_fn(y.nrows(), y.ncols(), |_, c| f64::from(u8::from(c == 0)));
        CrossEntropy.losses(y, target.as_ref(), &mut losses, Some(g.as_mut()));
        (losses, g)
    };
    let far = Mat::from_fn(2, 2, |s, c| if s == c { 1e4 } else { -1e4 });
    let (found, g) = losses(far.as_ref());
    assert_eq!((found, g[(0, 0)], g[(1, 0)]), (vec![0.0, 2e4], 0.0, -1.0));
    let y = random(3, 4, 8);
    let shifted = Mat::from_fn(3, 4, |s, c| y[(s, c)] + 16.0);
    for (a, b) in losses(y.as_ref()).0.iter().zip(losses(shifted.as_ref()).0) {
        assert!((a - b).abs() < 1e-13);
    }
}

#[test]
fn one_class_is_refused() {
    let network = Network::mlp(&[1, 1], Activation::Tanh).unwrap();
    let error = Model::new(network, Scaling::new(vec![1.0]), CrossEntropy).err().unwrap();
    assert_eq!(error.to_string(), "the cross-entropy's outcome: expected 2 classes or more, found 1");
}

#[test]
fn damped_newton_steps_learn_the_classes_of_points_in_the_plane() {
    let network = Network::mlp(&[2, 12, 3], Activation::Tanh).unwrap();
    let start = network.initialize(Init::FanInUniform, &mut ChaCha8Rng::seed_from_u64(3));
    let model = Model::new(network, Scaling::new(vec![1.0; 3]), CrossEntropy).unwrap();
    let input = random(96, 2, 4);
    let class = |s: usize| usize::from(input[(s, 0)] > 0.0) + usize::from(input[(s, 1)] > input[(s, 0)]);
    let target = Mat::from_fn(96, 3, |s, c| f64::from(u8::from(c == class(s))));
    let samples = Samples::new(input.clone(), Mat::zeros(96, 0), target).unwrap();
    let mut problem = NetworkProblem::new(&model, samples, 1).unwrap();
    for solver in [Solver::Svd, Solver::Krylov { vectors: 24 }] {
        let settings = LevenbergMarquardtSettings { solver, ..LevenbergMarquardtSettings::default() };
        let mut lm = LevenbergMarquardt::new(settings).unwrap();
        let mut theta = start.clone();
        (0..120).for_each(|_| drop(lm.step(&mut problem, &mut theta).unwrap()));
        let loss = problem.loss(&theta).unwrap();
        assert!(loss < 0.1, "{solver:?}: {loss}");
    }
}
