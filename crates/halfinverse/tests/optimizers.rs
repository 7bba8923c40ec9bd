//! Optimizers: the first-order rules against optax, the others on problems whose answer is known.

mod common;

use common::{Golden, distance};
use faer::Mat;
use halfinverse::network::{Activation, Network};
use halfinverse::objective::SquaredError;
use halfinverse::optimizer::{
    Adadelta, AdadeltaSettings, Adagrad, AdagradSettings, Adam, AdamSettings, AdamW, AdamWSettings,
    FirstOrder, GaussNewtonSettings, HalfInverse, Lbfgs, LbfgsSettings, LevenbergMarquardt,
    LevenbergMarquardtSettings, Momentum, MomentumSettings, Nesterov, NesterovSettings, Optimizer, Rmsprop,
    RmspropSettings, ScaleInvariant, ScaleInvariantSettings, Sgd, SgdSettings,
};
use halfinverse::simulator::Scaling;
use halfinverse::{Model, NetworkProblem, Problem, Samples};

/// Points and targets for a network of these widths behind factors 1 and `lambda`.
fn problem(x: Mat<f64>, target: Mat<f64>, hidden: &[usize], lambda: f64) -> NetworkProblem {
    let widths = [&[1], hidden, &[2]].concat();
    let network = Network::mlp(&widths, Activation::Tanh).unwrap();
    let objective = SquaredError { factor: 0.5 };
    let model = Model::new(network, Scaling::new(vec![1.0, lambda]), objective).unwrap();
    let initial = Mat::zeros(x.nrows(), 0);
    NetworkProblem::new(&model, Samples::new(x, initial, target).unwrap(), 1).unwrap()
}

/// A line each for the two outcomes, which a network without hidden layers fits exactly.
fn lines(lambda: f64) -> (NetworkProblem, Vec<f64>) {
    let x = Mat::from_fn(8, 1, |s, _| s as f64 / 4.0 - 1.0);
    let target = Mat::from_fn(8, 2, |s, c| 2.0 * x[(s, 0)] - 1.0 + c as f64);
    let theta = vec![0.3, -0.2, 0.1, 0.4];
    (problem(x, target, &[], lambda), theta)
}

fn steps(optimizer: &mut dyn Optimizer, problem: &mut dyn Problem, theta: &mut [f64], count: usize) -> f64 {
    for _ in 0..count {
        optimizer.step(problem, theta).unwrap();
    }
    problem.loss(theta).unwrap()
}

#[test]
fn first_order_rules_end_where_optax_does() {
    let golden = Golden::load("optax");
    let (learning_rate, momentum) = (0.1, 0.9);
    let rate = 0.03;
    let rules: [(&str, Box<dyn Optimizer>); 8] = [
        ("sgd", Box::new(FirstOrder::new(Sgd::new(SgdSettings { learning_rate }).unwrap()))),
        (
            "momentum",
            Box::new(FirstOrder::new(Momentum::new(MomentumSettings { learning_rate, momentum }).unwrap())),
        ),
        (
            "nesterov",
            Box::new(FirstOrder::new(Nesterov::new(NesterovSettings { learning_rate, momentum }).unwrap())),
        ),
        (
            "adagrad",
            Box::new(FirstOrder::new(
                Adagrad::new(AdagradSettings { learning_rate, initial_accumulator: 0.1, epsilon: 1e-7 })
                    .unwrap(),
            )),
        ),
        (
            "rmsprop",
            Box::new(FirstOrder::new(
                Rmsprop::new(RmspropSettings { learning_rate: 0.01, decay: 0.9, epsilon: 1e-8 }).unwrap(),
            )),
        ),
        (
            "adadelta",
            Box::new(FirstOrder::new(
                Adadelta::new(AdadeltaSettings { learning_rate: 1.0, decay: 0.9, epsilon: 1e-6 }).unwrap(),
            )),
        ),
        (
            "adam",
            Box::new(FirstOrder::new(
                Adam::new(AdamSettings { learning_rate: rate, ..AdamSettings::default() }).unwrap(),
            )),
        ),
        (
            "adamw",
            Box::new(FirstOrder::new(
                AdamW::new(AdamWSettings {
                    learning_rate: rate,
                    weight_decay: 1e-2,
                    ..AdamWSettings::default()
                })
                .unwrap(),
            )),
        ),
    ];
    for (name, mut rule) in rules {
        let (x, target) = (golden.matrix("x", 16), golden.matrix("target", 16));
        let mut problem = problem(x, target, &[3], 0.5);
        let mut theta = golden.get("theta");
        steps(&mut *rule, &mut problem, &mut theta, 20);
        let off = distance(&theta, &golden.get(name));
        assert!(off < 1e-11, "{name}: {off:e}");
    }
}

#[test]
fn a_full_gauss_newton_step_solves_linear_least_squares_however_scaled() {
    for lambda in [1.0, 1e-3] {
        let (mut problem, mut theta) = lines(lambda);
        // g carries 1/b, and J does not: b is the step that undoes it.
        let settings =
            GaussNewtonSettings { learning_rate: 8.0, truncation: 1e-12, ..GaussNewtonSettings::default() };
        let mut gn = HalfInverse::new(settings).unwrap();
        let loss = steps(&mut gn, &mut problem, &mut theta, 1);
        assert!(loss < 1e-18, "λ = {lambda}: {loss:e}");
    }
}

#[test]
fn levenberg_marquardt_converges_where_gradient_descent_crawls() {
    let (mut problem, start) = lines(1e-3);
    let mut lm = LevenbergMarquardt::new(LevenbergMarquardtSettings::default()).unwrap();
    let by_lm = steps(&mut lm, &mut problem, &mut start.clone(), 20);
    let mut sgd = FirstOrder::new(Sgd::new(SgdSettings { learning_rate: 0.5 }).unwrap());
    let by_sgd = steps(&mut sgd, &mut problem, &mut start.clone(), 20);
    assert!(by_lm < 1e-12 && by_sgd > 1e-2, "{by_lm:e} against {by_sgd:e}");
}

#[test]
fn levenberg_marquardt_takes_back_a_step_that_raises_the_loss() {
    let golden = Golden::load("optax");
    let mut problem = problem(golden.matrix("x", 16), golden.matrix("target", 16), &[3], 0.5);
    let mut theta = golden.get("theta");
    // A step forty times too long.
    let settings =
        LevenbergMarquardtSettings { learning_rate: 40.0, ..LevenbergMarquardtSettings::default() };
    let mut lm = LevenbergMarquardt::new(settings).unwrap();
    let before = theta.clone();
    let report = lm.step(&mut problem, &mut theta).unwrap();
    assert!(report.rejected && report.update_norm == 0.0);
    assert_eq!(theta, before);
    let lambda = report.lambda.unwrap();
    let next = lm.step(&mut problem, &mut theta).unwrap().lambda.unwrap();
    assert_eq!(next, 2.0 * lambda, "the next one is shorter");
}

#[test]
fn lbfgs_minimises_a_quadratic_in_a_few_steps_and_never_climbs() {
    let (mut problem, mut theta) = lines(0.3);
    let mut lbfgs = Lbfgs::new(LbfgsSettings::default()).unwrap();
    let mut last = problem.loss(&theta).unwrap();
    for _ in 0..25 {
        let loss = steps(&mut lbfgs, &mut problem, &mut theta, 1);
        assert!(loss <= last);
        last = loss;
    }
    assert!(last < 1e-12, "{last:e}");
}

#[test]
fn the_scale_invariant_step_does_not_feel_the_simulators_factor() {
    let after = |lambda: f64| {
        let x = Mat::from_fn(8, 1, |s, _| s as f64 / 4.0 - 1.0);
        let target = Mat::from_fn(8, 2, |s, c| if c == 0 { x[(s, 0)] } else { lambda * (1.0 - x[(s, 0)]) });
        let mut problem = problem(x, target, &[3], lambda);
        let mut theta: Vec<f64> = (0..14_u32).map(|i| (f64::from(i) * 1.7).sin()).collect();
        let settings = ScaleInvariantSettings {
            learning_rate: 0.01,
            truncation: 1e-9,
            ..ScaleInvariantSettings::default()
        };
        let mut sip = ScaleInvariant::new(settings).unwrap();
        steps(&mut sip, &mut problem, &mut theta, 30);
        theta
    };
    let off = distance(&after(1e-4), &after(1.0));
    assert!(off < 1e-9, "{off:e}");
}
