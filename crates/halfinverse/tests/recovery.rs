//! What optimizers do where a step leads to no finite loss, where data are bad, and where the units of a loss change.

use std::sync::Arc;

use faer::{Mat, MatMut, MatRef};
use halfinverse::network::{Activation, Init, Network};
use halfinverse::objective::SquaredError;
use halfinverse::optimizer::half_inverse::Rate;
use halfinverse::optimizer::{
    AdamSettings, AutoSettings, Context, GaussNewtonSettings, HalfInverse, HalfInverseSettings, Kron,
    KronSettings, MomentumSettings, Notice, Optimizer, ScaleInvariantSettings, Setup, Way,
};
use halfinverse::problem::Source;
use halfinverse::simulator::{self, Derivative, Scaling, Simulator, SimulatorError, Tape};
use halfinverse::spectral::Solver;
use halfinverse::{Model, Samples};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// y = z, and infinity above 10; its derivatives fail in one way or the other.
#[derive(Clone, Copy, Default)]
struct Cliff {
    block_fails: bool,
    vjp_is_nan: bool,
}

impl Simulator for Cliff {
    fn controls(&self) -> usize {
        1
    }

    fn outcomes(&self) -> usize {
        1
    }

    fn simulate(
        &self,
        _: MatRef<'_, f64>,
        z: MatRef<'_, f64>,
        mut y: MatMut<'_, f64>,
        _: Option<&mut Tape>,
    ) -> Result<(), SimulatorError> {
        (0..z.nrows()).for_each(|s| y[(s, 0)] = if z[(s, 0)] > 10.0 { f64::INFINITY } else { z[(s, 0)] });
        Ok(())
    }

    fn derivative(&self) -> Derivative<'_> {
        Derivative::vjp(|_, u, mut out| {
            (0..u.nrows()).for_each(|s| out[(s, 0)] = if self.vjp_is_nan { f64::NAN } else { u[(s, 0)] });
            Ok(())
        })
        .and_block(|_: simulator::Point<'_>, mut out| {
            out.fill(1.0);
            if self.block_fails { Err(SimulatorError::new("there is no block")) } else { Ok(()) }
        })
    }
}

fn context(model: &Model, samples: &Samples, judges: &Samples) -> Context {
    let (batch, judges) = (samples.len(), judges.clone());
    Context { source: Arc::new(model.clone()), batch, samples: batch, judges, counted: true, threads: 1 }
}

/// One parameter that matters, z, the bias of a layer whose input is 0; a mini-batch of one sample for each target.
fn cliff(targets: &[f64]) -> (Model, Samples) {
    let network = Network::mlp(&[1, 1], Activation::Identity).unwrap();
    let model = Model::new(network, Cliff::default(), SquaredError { factor: 1.0 }).unwrap();
    let b = targets.len();
    let target = Mat::from_fn(b, 1, |s, _| targets[s]);
    (model, Samples::new(Mat::zeros(b, 1), Mat::zeros(b, 0), target).unwrap())
}

/// Optimizers whose steps may lead beyond the cliff, by their factor of the learning rate 1.
fn careless(rate: f64) -> Vec<(&'static str, Box<dyn Optimizer>)> {
    let (model, samples) = cliff(&[9.0]);
    let context = context(&model, &samples, &samples);
    // Each of them is at z = 18, or nearly, after a step from 0 with rate 1.
    let hig = HalfInverseSettings { learning_rate: rate, ..HalfInverseSettings::default() };
    let gn = GaussNewtonSettings { learning_rate: rate, ..GaussNewtonSettings::default() };
    let adam = AdamSettings { learning_rate: 18.0 * rate, ..AdamSettings::default() };
    let sip = ScaleInvariantSettings { learning_rate: 18.0 * rate, ..ScaleInvariantSettings::default() };
    let momentum = MomentumSettings { learning_rate: rate, ..MomentumSettings::default() };
    vec![
        ("hig", hig.build(&context).unwrap()),
        ("gn", gn.build(&context).unwrap()),
        ("adam", adam.build(&context).unwrap()),
        ("sip", sip.build(&context).unwrap()),
        ("momentum", momentum.build(&context).unwrap()),
    ]
}

#[test]
fn a_step_that_leads_to_no_finite_loss_is_taken_back_after_one_error() {
    let (model, samples) = cliff(&[9.0, 2.0]);
    for (name, mut optimizer) in careless(1.0) {
        let mut problem = model.problem(samples.range(0, 1), 1).unwrap();
        let mut theta = vec![0.0; 2];
        optimizer.step(&mut *problem, &mut theta).unwrap();
        let beyond = theta.clone();
        assert!(problem.loss(&theta).is_ok_and(f64::is_infinite), "{name}: {theta:?}");
        problem.take(&samples, &[1]).unwrap();
        optimizer.step(&mut *problem, &mut theta).expect_err(name);
        assert_eq!(theta, beyond, "{name}");
        // From z = 0, whose loss is 4.
        let report = optimizer.step(&mut *problem, &mut theta).unwrap();
        assert_eq!(report.loss, 4.0, "{name}");
        assert!(theta != beyond && theta != [0.0; 2], "{name}: {theta:?}");
        let mut failed = false;
        for step in 0..20 {
            let fails = optimizer.step(&mut *problem, &mut theta).is_err();
            assert!(!(failed && fails), "{name}: two errors in a row at step {step}");
            failed = fails;
        }
    }
}

#[test]
fn a_mini_batch_with_nan_leaves_theta_alone() {
    let (model, samples) = cliff(&[9.0, f64::NAN]);
    for (name, mut optimizer) in careless(0.1) {
        let mut problem = model.problem(samples.range(0, 1), 1).unwrap();
        let mut theta = vec![0.0; 2];
        optimizer.step(&mut *problem, &mut theta).unwrap();
        let reached = theta.clone();
        assert_ne!(reached, [0.0; 2], "{name}");
        problem.take(&samples, &[1]).unwrap();
        for _ in 0..3 {
            optimizer.step(&mut *problem, &mut theta).expect_err(name);
            assert_eq!(theta, reached, "{name}");
        }
        problem.take(&samples, &[0]).unwrap();
        let loss = problem.loss(&reached).unwrap();
        assert_eq!(optimizer.step(&mut *problem, &mut theta).unwrap().loss, loss, "{name}");
        assert!(problem.loss(&theta).unwrap() < loss, "{name}");
    }
}

/// y = f(x) on points of [0, 1] by a network of these widths, the loss in these units.
fn curve(f: fn(f64) -> f64, points: usize, widths: &[usize], unit: f64) -> (Model, Samples, Vec<f64>) {
    let network = Network::mlp(widths, Activation::Tanh).unwrap();
    let theta = network.initialize(Init::GlorotUniform, &mut ChaCha8Rng::seed_from_u64(1));
    let model = Model::new(network, Scaling::new(vec![1.0]), SquaredError { factor: unit }).unwrap();
    let x = Mat::from_fn(points, 1, |s, _| s as f64 / (points - 1) as f64);
    let y = Mat::from_fn(points, 1, |s, _| f(x[(s, 0)]));
    (model, Samples::new(x, Mat::zeros(points, 0), y).unwrap(), theta)
}

#[test]
fn steps_with_the_models_rate_do_not_depend_on_the_units_of_the_loss() {
    let path = |unit: f64| {
        let (model, samples, mut theta) = curve(f64::exp, 30, &[1, 6, 1], unit);
        // Gram matrices would add their own round-off, 1e-8 here.
        let (rate, solver) = (Rate::Model, Solver::Svd);
        let settings = HalfInverseSettings { rate, solver, ..HalfInverseSettings::default() };
        let mut hig = HalfInverse::new(settings).unwrap();
        let mut problem = model.problem(samples, 1).unwrap();
        let step = |_| {
            hig.step(&mut *problem, &mut theta).unwrap();
            theta.clone()
        };
        (0..10).map(step).collect::<Vec<_>>()
    };
    let plain = path(1.0);
    assert_ne!(plain[0], plain[9]);
    for unit in [1e8, 1e-8, 1e-3] {
        for (step, (one, other)) in path(unit).iter().zip(&plain).enumerate() {
            let off = one.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(off < 1e-9, "a loss in units of {unit:e}, step {step}: {off:e}");
        }
    }
}

#[test]
fn a_full_step_of_gauss_newton_with_the_models_rate_lands_in_the_minimum() {
    for unit in [1.0, 1e8, 1e-8] {
        // A line through points of a line; without hidden layers the problem is linear.
        let (model, samples, mut theta) = curve(|x| 3.0 * x - 7.0, 20, &[1, 1], unit);
        let settings = GaussNewtonSettings { rate: Rate::Model, ..GaussNewtonSettings::default() };
        let mut problem = model.problem(samples, 1).unwrap();
        HalfInverse::new(settings).unwrap().step(&mut *problem, &mut theta).unwrap();
        let loss = problem.loss(&theta).unwrap() / unit;
        assert!(loss < 1e-22, "{unit:e}: {loss:e}");
    }
}

#[test]
fn hig_kron_refuses_a_damping_that_its_factors_cannot_bear_and_trains_with_its_own() {
    for damping in [1e-15, 1e-30] {
        let refused =
            Kron::new(KronSettings { damping, ..KronSettings::default() }).err().unwrap().to_string();
        assert!(refused.contains("damping") && refused.contains("from 1e-6 to"), "{refused}");
    }
    let (model, samples, mut theta) = curve(f64::exp, 50, &[1, 16, 16, 1], 1.0);
    let mut kron = Kron::new(KronSettings { damping: 3e-3, ..KronSettings::default() }).unwrap();
    let mut problem = model.problem(samples, 1).unwrap();
    for _ in 0..300 {
        kron.step(&mut *problem, &mut theta).unwrap();
    }
    // Seen: 1.2e-6, from 3.1.
    let loss = problem.loss(&theta).unwrap();
    assert!(loss < 1e-5, "{loss:e}");
}

#[test]
fn hig_auto_names_a_bad_sample_among_those_it_judges_by() {
    let (model, samples, mut theta) = curve(f64::exp, 40, &[1, 6, 1], 1.0);
    let mut judges = samples.range(30, 10);
    judges.target[(7, 0)] = f64::NAN;
    let samples = samples.range(0, 30);
    let mut auto = AutoSettings {}.build(&context(&model, &samples, &judges)).unwrap();
    let mut problem = model.problem(samples, 1).unwrap();
    let said = auto.step(&mut *problem, &mut theta).unwrap_err().to_string();
    assert!(said.contains("sample 7 of the 10") && said.contains("target"), "{said}");
}

#[test]
fn hig_auto_trains_where_its_caller_clamps_theta() {
    let (model, samples, mut theta) = curve(f64::exp, 60, &[1, 8, 8, 1], 1.0);
    let clamp = |theta: &mut [f64]| theta.iter_mut().for_each(|theta| *theta = theta.clamp(-0.6, 0.6));
    clamp(&mut theta);
    let judges = samples.range(50, 10);
    let samples = samples.range(0, 50);
    let mut auto = AutoSettings {}.build(&context(&model, &samples, &judges)).unwrap();
    let mut problem = model.problem(samples, 1).unwrap();
    let before = problem.loss(&theta).unwrap();
    let mut clamped = 0;
    for _ in 0..300 {
        auto.step(&mut *problem, &mut theta).unwrap();
        clamped += u32::from(theta.iter().any(|theta| theta.abs() > 0.6));
        clamp(&mut theta);
    }
    let after = problem.loss(&theta).unwrap();
    assert!(clamped > 0 && after < 0.1 * before, "{before:e} to {after:e}, clamped {clamped} times");
}

#[test]
fn hig_auto_says_which_way_is_out_for_want_of_a_derivative() {
    let way_out = |cliff: Cliff, way: Way| {
        let (_, samples, mut theta) = curve(|x| 2.0 * x, 40, &[1, 6, 1], 1.0);
        let network = Network::mlp(&[1, 6, 1], Activation::Tanh).unwrap();
        let model = Model::new(network, cliff, SquaredError { factor: 1.0 }).unwrap();
        let mut auto = AutoSettings {}.build(&context(&model, &samples, &samples)).unwrap();
        let mut problem = model.problem(samples, 1).unwrap();
        let before = problem.loss(&theta).unwrap();
        let mut reason = None;
        for _ in 0..300 {
            if let Some(Notice::WayOut { way: out, reason: why }) =
                auto.step(&mut *problem, &mut theta).unwrap().notice
            {
                assert_eq!(out, way);
                reason = Some(why);
            }
        }
        let after = problem.loss(&theta).unwrap();
        assert!(after < 0.1 * before, "{way}: {before:e} to {after:e}");
        reason.unwrap_or_else(|| panic!("nothing said of {way}"))
    };
    let reason = way_out(Cliff { block_fails: true, ..Cliff::default() }, Way::Krylov);
    assert!(reason.contains("there is no block"), "{reason}");
    let reason = way_out(Cliff { vjp_is_nan: true, ..Cliff::default() }, Way::Kron);
    assert!(reason.contains("NaN"), "{reason}");
}
