//! Objectives, weights of outcomes and samples, bounds on controls: derivatives, curvature, and what they are for.

use std::path::PathBuf;
use std::sync::Arc;

use halfinverse::check::{self, TOLERANCE};
use halfinverse::faer::{Mat, MatRef};
use halfinverse::network::{Activation, Bounds, Dense, Init, Layer, Limits, Network};
use halfinverse::objective::{
    Cauchy, Curvature, Huber, Objective, OutcomeLoss, Overlap, Reduction, RelativeError, SquaredError,
    Weighted,
};
use halfinverse::optimizer::{
    AutoSettings, HalfInverseSettings, LbfgsSettings, LevenbergMarquardt, LevenbergMarquardtSettings,
    Optimizer, ScaleInvariantSettings,
};
use halfinverse::problem::{BatchProblem, FactorRows, Layered, Opaque, OpaqueProblem};
use halfinverse::rand::{RngExt, SeedableRng};
use halfinverse::simulator::{Oscillators, OscillatorsSettings, Scaling};
use halfinverse::task::{Registry, Task};
use halfinverse::training::{
    Data, Flow, Observer, Parts, Progress, Stage, StopSettings, Trainer, resume, write_checkpoint,
};
use halfinverse::{Evaluator, Model, NetworkProblem, Predictor, Problem, Samples};
use rand_chacha::ChaCha8Rng;

fn random(rows: usize, columns: usize, seed: u64) -> Mat<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Mat::from_fn(rows, columns, |_, _| 4.0 * rng.random::<f64>() - 2.0)
}

/// L of each sample, and g.
fn evaluate(objective: &dyn Objective, y: MatRef<'_, f64>, t: MatRef<'_, f64>) -> (Vec<f64>, Mat<f64>) {
    let mut losses = vec![f64::NAN; y.nrows()];
    let mut gradient = Mat::full(y.nrows(), y.ncols(), f64::NAN);
    objective.losses(y, t, &mut losses, Some(gradient.as_mut()));
    let mut alone = vec![f64::NAN; y.nrows()];
    objective.losses(y, t, &mut alone, None);
    assert_eq!(alone, losses, "with or without a gradient");
    (losses, gradient)
}

/// h of every outcome.
fn curvature(objective: &dyn Objective, y: MatRef<'_, f64>, t: MatRef<'_, f64>) -> Mat<f64> {
    let mut each = Mat::zeros(y.nrows(), y.ncols());
    match objective.curvature() {
        Curvature::Uniform(h) => each.fill(h),
        Curvature::PerOutcome(h) | Curvature::Centred(h) => h(y, t, each.as_mut()),
    }
    each
}

fn weighted<L: OutcomeLoss + 'static>(loss: L) -> Box<dyn Objective> {
    Box::new(Weighted::new(loss, vec![3.0, 0.0, 0.5, 1.0]).unwrap())
}

fn objectives() -> Vec<(&'static str, Box<dyn Objective>)> {
    let relative = RelativeError::new(2.0, 0.3).unwrap();
    let (huber, cauchy) = (Huber::new(0.7, 1.5).unwrap(), Cauchy::new(0.7, 1.5).unwrap());
    vec![
        ("squared error", Box::new(SquaredError { factor: 0.5 })),
        ("squared error, weighted", weighted(SquaredError { factor: 0.5 })),
        ("relative error", Box::new(relative)),
        ("relative error, weighted", weighted(relative)),
        ("huber", Box::new(huber)),
        ("huber, weighted", weighted(huber)),
        ("cauchy", Box::new(cauchy)),
        ("cauchy, weighted", weighted(cauchy)),
        ("overlap", Box::new(Overlap)),
    ]
}

#[test]
fn gradients_of_objectives_agree_with_central_differences() {
    let (y, t) = (random(5, 4, 1), random(5, 4, 2));
    for (name, objective) in objectives() {
        let (_, gradient) = evaluate(&*objective, y.as_ref(), t.as_ref());
        for c in 0..4 {
            let step = 1e-6;
            let moved = |sign: f64| {
                let y = Mat::from_fn(5, 4, |s, j| y[(s, j)] + if j == c { sign * step } else { 0.0 });
                evaluate(&*objective, y.as_ref(), t.as_ref()).0
            };
            let (plus, minus) = (moved(1.0), moved(-1.0));
            for s in 0..5 {
                let difference = (plus[s] - minus[s]) / (2.0 * step);
                let off = (gradient[(s, c)] - difference).abs();
                assert!(off < 1e-7, "{name}, sample {s}, outcome {c}: {off:e}");
            }
        }
    }
}

/// For losses that are sums over outcomes: the parabola with curvature h lies on the loss at y and above it elsewhere,
/// and near the target it is the loss.
#[test]
fn the_parabola_of_an_objectives_curvature_lies_above_the_loss_and_meets_it_near_the_target() {
    let (y, t, other) = (random(20, 4, 1), random(20, 4, 2), random(20, 4, 3));
    for (name, objective) in objectives().into_iter().filter(|(name, _)| *name != "overlap") {
        let (losses, g) = evaluate(&*objective, y.as_ref(), t.as_ref());
        let h = curvature(&*objective, y.as_ref(), t.as_ref());
        let model = |s: usize, to: &Mat<f64>| {
            let along = |c: usize| to[(s, c)] - y[(s, c)];
            losses[s] + (0..4).map(|c| g[(s, c)] * along(c) + 0.5 * h[(s, c)] * along(c).powi(2)).sum::<f64>()
        };
        let (away, _) = evaluate(&*objective, other.as_ref(), t.as_ref());
        for s in 0..20 {
            assert!(model(s, &other) > away[s] - 1e-12, "{name}: {} below {}", model(s, &other), away[s]);
            for c in 0..4 {
                assert!(h[(s, c)] > 0.0 || g[(s, c)] == 0.0, "{name}: no curvature where there is a slope");
            }
        }
        let step = 1e-4;
        let near = Mat::from_fn(20, 4, |s, c| t[(s, c)] + if c == s % 4 { step } else { 0.0 });
        let (there, _) = evaluate(&*objective, near.as_ref(), t.as_ref());
        let h = curvature(&*objective, t.as_ref(), t.as_ref());
        for s in 0..20 {
            let off = (2.0 * there[s] / (step * step) - h[(s, s % 4)]).abs();
            assert!(off < 1e-6, "{name}: second difference off by {off:e}");
        }
    }
}

#[test]
fn weights_that_are_all_the_same_cost_no_matrix_of_curvatures() {
    let of = |weights: &[f64]| Weighted::new(SquaredError { factor: 0.5 }, weights.to_vec()).unwrap();
    for (weights, h) in [(&[][..], 1.0), (&[2.0, 2.0], 2.0)] {
        assert!(matches!(of(weights).curvature(), Curvature::Uniform(found) if found == h), "{weights:?}");
    }
    assert!(matches!(of(&[2.0, 1.0]).curvature(), Curvature::PerOutcome(_)));
}

#[test]
fn weights_that_cannot_be_are_refused() {
    let of = |weights: &[f64]| Weighted::new(SquaredError { factor: 1.0 }, weights.to_vec());
    for (weights, said) in [
        (&[1.0, -1.0][..], "`weights.1` is -1, but must be positive or 0, and finite"),
        (&[f64::NAN], "`weights.0` is NaN"),
        (&[f64::INFINITY], "`weights.0` is inf"),
        (&[0.0, 0.0], "a list with a weight above 0"),
    ] {
        let error = of(weights).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    let three = of(&[1.0; 3]).unwrap();
    let network = Network::mlp(&[1, 2], Activation::Tanh).unwrap();
    let error =
        Model::new(network, Scaling::new(vec![1.0; 2]), three).err().expect("three weights, two outcomes");
    assert_eq!(error.to_string(), "the objective: expected 2 weights, found 3");
    let samples = || Samples::new(Mat::zeros(2, 1), Mat::zeros(2, 0), Mat::zeros(2, 2)).unwrap();
    for (weights, said) in [
        (&[1.0][..], "the samples: expected 2 weights, found 1"),
        (&[1.0, -0.5], "the weight of sample 1 is -0.5, but must be positive or 0, and finite"),
        (&[f64::NAN, 1.0], "the weight of sample 0 is NaN, but must be positive or 0, and finite"),
    ] {
        assert_eq!(samples().with_weights(weights).unwrap_err().to_string(), said);
    }
}

/// Samples for a network 1 → 6 → 2 behind a simulator, and the same, each as often as its weight says.
fn weighted_and_repeated() -> [Samples; 2] {
    let (input, target) = (random(5, 1, 4), random(5, 2, 5));
    let of = |rows: &[usize]| {
        let pick = |from: &Mat<f64>| Mat::from_fn(rows.len(), from.ncols(), |s, j| from[(rows[s], j)]);
        Samples::new(pick(&input), Mat::zeros(rows.len(), 0), pick(&target)).unwrap()
    };
    let weighted = of(&[0, 1, 2, 3, 4]).with_weights(&[1.0, 2.0, 0.0, 1.0, 3.0]).unwrap();
    [weighted, of(&[0, 1, 1, 3, 4, 4, 4])]
}

fn model(objective: impl Objective + 'static, reduction: Reduction) -> (Model, Vec<f64>) {
    let network = Network::mlp(&[1, 6, 2], Activation::Tanh).unwrap();
    let theta = network.initialize(Init::FanInUniform, &mut ChaCha8Rng::seed_from_u64(6));
    let model = Model::new(network, Scaling::new(vec![1.0, 0.3]), objective).unwrap();
    (model.reduced_by(reduction), theta)
}

/// The same outcomes from a function, J by differences.
fn functions(model: &Model, objective: impl Objective + 'static) -> Opaque {
    let (model, p) = (model.clone(), model.network().parameters());
    let outcome = move |theta: &[f64], samples: &Samples, mut y: halfinverse::faer::MatMut<'_, f64>| {
        let predictor = Predictor::new(&model, theta.to_vec(), 1)?;
        y.copy_from(predictor.outcome(samples.input.as_ref(), samples.initial.as_ref())?);
        Ok(())
    };
    Opaque::new(p, 2, objective, outcome).reduced_by(Reduction::Sum)
}

/// L, ∇L, h|Jv|² and Jᵀg at θ, L again by `losses`, and θ after ten steps of lm.
fn found(problem: &mut dyn Problem, theta: &[f64]) -> [Vec<f64>; 3] {
    let p = theta.len();
    let v: Vec<f64> = (0..p).map(|i| (i as f64).sin()).collect();
    let (mut gradient, mut pulled, mut losses) = (vec![0.0; p], vec![0.0; p], [0.0; 2]);
    let loss = problem.gradient(theta, &mut gradient).unwrap();
    let thetas = Mat::from_fn(p, 2, |i, _| theta[i]);
    problem.losses(thetas.as_ref(), &mut losses).unwrap();
    let mut numbers = vec![loss, problem.loss(theta).unwrap(), losses[0], losses[1]];
    let mut at = problem.linearize(theta).unwrap();
    let mut product = vec![0.0; at.jacobian.shape().0];
    at.jacobian.apply(&v, &mut product).unwrap();
    numbers.extend([at.loss, at.curvature * product.iter().map(|x| x * x).sum::<f64>()]);
    at.jacobian.apply_transpose(at.gradient, &mut pulled).unwrap();
    drop(at);
    gradient.extend(pulled);
    let mut lm = LevenbergMarquardt::new(LevenbergMarquardtSettings::default()).unwrap();
    let mut end = theta.to_vec();
    (0..10).for_each(|_| drop(lm.step(problem, &mut end).unwrap()));
    [numbers, gradient, end]
}

fn assert_near(a: &[f64], b: &[f64], within: f64, what: &str) {
    assert_eq!(a.len(), b.len());
    let off = a.iter().zip(b).map(|(a, b)| (a - b).abs() / (1.0 + b.abs())).fold(0.0, f64::max);
    assert!(off < within, "{what}: off by {off:e}: {a:?} against {b:?}");
}

#[test]
fn a_sample_of_weight_2_counts_as_twice_that_sample_and_one_of_weight_0_not_at_all() {
    fn compare<L: OutcomeLoss + Clone + 'static>(loss: L, name: &str) {
        let [weighted, repeated] = weighted_and_repeated();
        let (model, theta) = model(loss.clone(), Reduction::Sum);
        let mut problem = NetworkProblem::new(&model, weighted.clone(), 1).unwrap();
        let by_weight = found(&mut problem, &theta);
        let by_repetition = found(&mut NetworkProblem::new(&model, repeated, 1).unwrap(), &theta);
        for (what, (a, b)) in ["loss and curvature", "gradient", "after ten steps"]
            .into_iter()
            .zip(by_weight.iter().zip(&by_repetition))
        {
            assert_near(a, b, 1e-10, &format!("{name}, {what}"));
        }
        let source = functions(&model, loss);
        let by_functions = found(&mut OpaqueProblem::new(&source, weighted).unwrap(), &theta);
        for (a, b) in by_functions.iter().zip(&by_repetition).take(2) {
            assert_near(a, b, 1e-7, &format!("{name}, functions"));
        }
    }
    compare(SquaredError { factor: 0.5 }, "squared error");
    compare(Cauchy::new(0.5, 1.0).unwrap(), "cauchy");
}

#[test]
fn the_mean_over_weighted_samples_divides_by_their_number() {
    let [weighted, _] = weighted_and_repeated();
    let (model, theta) = model(SquaredError { factor: 1.0 }, Reduction::Mean);
    let many: Vec<usize> = (0..600).map(|i| i % 5).collect();
    let mut data = weighted.zeros_like(0);
    weighted.gather(&many, &mut data).unwrap();
    assert_eq!(data.weights().unwrap()[596..], [2.0, 0.0, 1.0, 3.0]);
    let mut problem = NetworkProblem::new(&model, weighted.clone(), 1).unwrap();
    let loss = problem.loss(&theta).unwrap();
    let outcome = problem.outcome().to_owned();
    let square = |s: usize| (0..2).map(|c| (outcome[(s, c)] - weighted.target[(s, c)]).powi(2)).sum::<f64>();
    let expected = (square(0) + 2.0 * square(1) + square(3) + 3.0 * square(4)) / 5.0;
    assert_near(&[loss], &[expected], 1e-14, "mini-batch");
    let evaluated = Evaluator::new(&model, data, 1).unwrap().loss(&theta).unwrap();
    assert_near(&[evaluated], &[expected], 1e-13, "600 samples, 256 at a time");
}

#[test]
fn a_mini_batch_has_weights_where_the_samples_that_it_is_taken_from_have_some() {
    let [weighted, bare] = weighted_and_repeated();
    let (model, theta) = model(SquaredError { factor: 1.0 }, Reduction::Mean);
    let mut problem = NetworkProblem::new(&model, bare.range(0, 2), 1).unwrap();
    for (from, weights) in [(&weighted, Some(&[2.0, 3.0][..])), (&bare, None), (&weighted, Some(&[2.0, 3.0]))]
    {
        problem.take(from, &[1, 4]).unwrap();
        assert_eq!(problem.mini_batch().weights(), weights);
        let mut once = NetworkProblem::new(&model, problem.mini_batch().clone(), 1).unwrap();
        assert_eq!(problem.loss(&theta).unwrap(), once.loss(&theta).unwrap());
    }
}

#[test]
fn products_factors_and_blocks_of_weighted_samples_agree() {
    let [weighted, _] = weighted_and_repeated();
    for objective in objectives().into_iter().take(8).map(|(_, objective)| Four(objective)) {
        let network = Network::mlp(&[1, 6, 4], Activation::Tanh).unwrap();
        let theta = network.initialize(Init::FanInUniform, &mut ChaCha8Rng::seed_from_u64(6));
        let model = Model::new(network, Scaling::new(vec![1.0, 0.3, 2.0, 0.7]), objective).unwrap();
        let mut samples = weighted.clone();
        samples.target = random(5, 4, 7);
        let mut problem = NetworkProblem::new(&model, samples, 1).unwrap();
        for comparison in check::model(&mut problem, &theta, 8).unwrap() {
            assert!(comparison.error < TOLERANCE, "{comparison:?}");
        }
        factors(&mut problem, &theta);
    }
}

/// An objective that is shared.
struct Four(Box<dyn Objective>);

impl Objective for Four {
    fn losses(
        &self,
        y: MatRef<'_, f64>,
        t: MatRef<'_, f64>,
        losses: &mut [f64],
        gradient: Option<halfinverse::faer::MatMut<'_, f64>>,
    ) {
        self.0.losses(y, t, losses, gradient);
    }

    fn curvature(&self) -> Curvature<'_> {
        self.0.curvature()
    }
}

/// Cotangents and inputs of the layers make Jᵀu, a difference quotient J v.
fn factors(problem: &mut NetworkProblem, theta: &[f64]) {
    let u = random(5, 4, 9);
    let rows: Vec<f64> = (0..20).map(|i| u[(i / 4, i % 4)]).collect();
    let (mut pulled, mut made) = (vec![0.0; theta.len()], vec![0.0; theta.len()]);
    let v: Vec<f64> = (0..theta.len()).map(|i| (i as f64).cos()).collect();
    let mut product = vec![0.0; 20];
    let mut at = problem.linearize(theta).unwrap();
    at.jacobian.apply_transpose(&rows, &mut pulled).unwrap();
    at.jacobian.apply(&v, &mut product).unwrap();
    drop(at);
    problem.gradient(theta, &mut made).unwrap();
    let shapes = Layered::factors(problem);
    let mut visit = |rows: FactorRows<'_>| {
        let (shape, delta) = (&shapes[rows.factor], rows.cotangent);
        for i in 0..=shape.inputs {
            for j in 0..shape.outputs {
                let x = |s: usize| if i < shape.inputs { rows.input[(s, i)] } else { 1.0 };
                made[shape.offset + i * shape.outputs + j] = (0..5).map(|s| delta[(s, j)] * x(s)).sum();
            }
        }
    };
    problem.cotangents(theta, u.as_ref(), &mut visit).unwrap();
    assert_near(&made, &pulled, 1e-12, "cotangents");
    problem.gradient(theta, &mut made).unwrap();
    let mut quotient = Mat::zeros(5, 4);
    problem.difference(theta, &v, quotient.as_mut()).unwrap();
    let quotient: Vec<f64> = (0..20).map(|i| quotient[(i / 4, i % 4)]).collect();
    assert_near(&quotient, &product, 1e-4, "difference quotient");
}

#[test]
fn sip_counts_weighted_samples_as_often_as_their_weight_says() {
    let after = |samples: Samples| {
        let (model, mut theta) = model(SquaredError { factor: 0.5 }, Reduction::Mean);
        let weights: f64 = samples.weights().map_or(samples.len() as f64, |weights| weights.iter().sum());
        // The mean divides by 5 samples or by 7.
        let scale = weights / samples.len() as f64;
        let settings =
            ScaleInvariantSettings { control_rate: 1.0 / scale, ..ScaleInvariantSettings::default() };
        let mut sip = halfinverse::optimizer::ScaleInvariant::new(settings).unwrap();
        let mut problem = NetworkProblem::new(&model, samples, 1).unwrap();
        (0..20).for_each(|_| drop(sip.step(&mut problem, &mut theta).unwrap()));
        theta
    };
    let [weighted, repeated] = weighted_and_repeated().map(after);
    assert_near(&weighted, &repeated, 1e-10, "after twenty steps");
}

/// Stops after 23 steps, with a checkpoint.
struct Killer(PathBuf);

impl Observer for Killer {
    fn step(&mut self, progress: &Progress<'_>, _: &halfinverse::optimizer::StepReport) -> Flow {
        if progress.steps() < 23 {
            return Flow::Continue;
        }
        progress.write_checkpoint(&self.0).unwrap();
        Flow::Stop
    }
}

#[test]
fn a_run_on_weighted_samples_goes_on_after_a_kill_bit_for_bit() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("weights");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let input = random(160, 1, 10);
    let target = Mat::from_fn(160, 2, |s, c| (input[(s, 0)] + c as f64).sin());
    let weights: Vec<f64> = (0..160).map(|s| f64::from(s % 4)).collect();
    let bare = Samples::new(input, Mat::zeros(160, 0), target).unwrap();
    let end = |samples: &Samples, name: &str| {
        let (model, theta) = model(SquaredError { factor: 1.0 }, Reduction::Mean);
        // Small mini-batches, of which the last ones are kept, in the checkpoint too.
        let stage = Stage::of(AutoSettings {}, 8);
        let mut parts = Parts::new(model, Data::split(samples, 32).unwrap(), stage);
        parts.options.stop = StopSettings { steps: Some(40), ..StopSettings::default() };
        let [never, killed, again] =
            ["never", "killed", "again"].map(|end| folder.join(format!("{name} {end}")));
        let mut whole = Trainer::new(parts.clone(), theta.clone()).unwrap();
        whole.run(&mut ()).unwrap();
        write_checkpoint(&whole, &never).unwrap();
        Trainer::new(parts.clone(), theta).unwrap().run(&mut Killer(killed.clone())).unwrap();
        let mut second = resume(&parts, &killed).unwrap();
        second.run(&mut ()).unwrap();
        write_checkpoint(&second, &again).unwrap();
        assert!(std::fs::read(never).unwrap() == std::fs::read(again).unwrap(), "{name}");
        whole.theta().to_vec()
    };
    let weighted = bare.clone().with_weights(&weights).unwrap();
    assert!(end(&weighted, "weighted") != end(&bare, "bare"), "weights count");
}

#[test]
fn mini_batches_of_samples_that_all_have_weight_0_move_nothing() {
    let [_, bare] = weighted_and_repeated();
    let zero = bare.with_weights(&[0.0; 7]).unwrap();
    let (model, theta) = model(Cauchy::new(1.0, 1.0).unwrap(), Reduction::Mean);
    let mut problem = NetworkProblem::new(&model, zero, 1).unwrap();
    let mut lm = LevenbergMarquardt::new(LevenbergMarquardtSettings::default()).unwrap();
    let mut after = theta.clone();
    let report = lm.step(&mut problem, &mut after).unwrap();
    assert_eq!((report.loss, after), (0.0, theta));
}

/// y = 2x − 1 on 160 points; every fifth is an outlier 8 above it. And the test points, which have none.
fn line() -> Data {
    let input = random(200, 1, 11);
    let on_line = |x: f64| 2.0 * x - 1.0;
    let target =
        Mat::from_fn(200, 1, |s, _| on_line(input[(s, 0)]) + if s % 5 == 0 && s < 160 { 8.0 } else { 0.0 });
    Data::split(&Samples::new(input, Mat::zeros(200, 0), target).unwrap(), 40).unwrap()
}

/// Slope and intercept that training ends with.
fn fit(objective: Arc<dyn Objective>, stage: Stage) -> [f64; 2] {
    let network = Network::mlp(&[1, 1], Activation::Tanh).unwrap();
    let model = Model::of(network, Arc::new(Scaling::new(vec![1.0])), objective).unwrap();
    let mut parts = Parts::new(model, line(), stage);
    parts.options.stop = StopSettings { steps: Some(300), ..StopSettings::default() };
    let mut trainer = Trainer::new(parts, vec![0.5, 0.0]).unwrap();
    trainer.run(&mut ()).unwrap();
    [trainer.theta()[0], trainer.theta()[1]]
}

#[test]
fn robust_losses_find_the_line_from_which_outliers_pull_squared_errors_away() {
    let hig = HalfInverseSettings { learning_rate: 5.0, ..HalfInverseSettings::default() };
    let stages = [
        ("lm", Stage::of(LevenbergMarquardtSettings::default(), 160)),
        ("hig", Stage::of(hig, 160)),
        ("l-bfgs", Stage::of(LbfgsSettings::default(), 160)),
        ("hig-auto", Stage::of(AutoSettings {}, 160)),
    ];
    let distance = |[slope, intercept]: [f64; 2]| (slope - 2.0).abs().max((intercept + 1.0).abs());
    for (name, stage) in stages {
        let squared = fit(Arc::new(SquaredError { factor: 1.0 }), stage.clone());
        let huber = fit(Arc::new(Huber::new(0.1, 1.0).unwrap()), stage.clone());
        let cauchy = fit(Arc::new(Cauchy::new(0.5, 1.0).unwrap()), stage);
        assert!(distance(squared) > 1.0, "{name}, squared error: {squared:?}");
        assert!(distance(huber) < 0.05, "{name}, huber: {huber:?}");
        assert!(distance(cauchy) < 0.05, "{name}, cauchy: {cauchy:?}");
    }
}

/// A network 4 → 8 → 96 with bounded controls before the oscillators.
fn bounded(limits: &Limits) -> (Network, Vec<f64>) {
    let layers: Vec<Box<dyn Layer>> = vec![
        Box::new(Dense::new(4, 8).unwrap()),
        Box::new(halfinverse::network::Units::new(Activation::Tanh, 8)),
        Box::new(Dense::new(8, 96).unwrap()),
        Box::new(Bounds::new(limits, 96).unwrap()),
    ];
    let network = Network::new(layers).unwrap();
    let theta = network.initialize(Init::GlorotUniform, &mut ChaCha8Rng::seed_from_u64(1));
    (network, theta)
}

#[test]
fn derivatives_through_bounds_agree_with_finite_differences() {
    let inf = f64::INFINITY;
    let each = [[-0.5, 0.5], [0.0, inf], [-inf, 0.2], [-inf, inf]].into_iter().cycle().take(96).collect();
    for limits in [Limits::All([-0.5, 0.5]), Limits::Each(each)] {
        let (network, theta) = bounded(&limits);
        let simulator = Oscillators::new(OscillatorsSettings::default()).unwrap();
        let model = Model::new(network, simulator, SquaredError { factor: 1.0 }).unwrap();
        let states = random(6, 4, 12);
        let samples = Samples::new(states.clone(), states.clone(), states).unwrap();
        let mut problem = NetworkProblem::new(&model, samples, 1).unwrap();
        for comparison in check::model(&mut problem, &theta, 13).unwrap() {
            assert!(comparison.error < TOLERANCE, "{limits:?}: {comparison:?}");
        }
        assert_eq!(problem.units().len(), 2, "hidden units, and the controls");
    }
}

#[test]
fn bounded_controls_stay_within_their_bounds_while_the_loss_falls() {
    for optimizer in ["hig-auto", "lm"] {
        let mut settings = Registry::standard().settings("oscillators", optimizer).unwrap();
        settings.network.bounds = Limits::All([-0.5, 0.5]);
        (settings.data.train, settings.data.test, settings.training.batch) = (256, 64, 64);
        settings.stop = StopSettings { steps: Some(60), ..StopSettings::default() };
        settings.training.threads = 1;
        let task = Task::new(settings).unwrap();
        let start = task.initial_parameters();
        let before = Evaluator::new(task.model(), task.test().clone(), 1).unwrap().loss(&start).unwrap();
        let mut trainer = task.trainer(Some(start)).unwrap();
        trainer.run(&mut ()).unwrap();
        let after = trainer.test_loss();
        let predictor = Predictor::new(task.model(), trainer.theta().to_vec(), 1).unwrap();
        let control = predictor.control(task.test().input.as_ref()).unwrap();
        let largest = control.norm_max();
        assert!(largest <= 0.5 && largest > 0.3, "{optimizer}: {largest}");
        assert!(4.0 * after < before, "{optimizer}: {before} to {after}");
    }
}
