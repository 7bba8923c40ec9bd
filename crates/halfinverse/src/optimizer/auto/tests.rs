use super::*;
use crate::linear::DenseJacobian;
use crate::objective::SquaredError;
use crate::problem::{BatchProblem, NetworkProblem, Opaque, OpaqueProblem, Samples, Source};
use crate::spectral::{Filter, KrylovSpace};
use crate::task::{Registry, Task};
use faer::{Mat, MatMut, Par};
use std::sync::Arc;

fn toy() -> Task {
    Task::new(Registry::standard().settings("toy", "hig-auto").unwrap()).unwrap()
}

/// A run counted in steps, whose first 32 samples judge.
fn context(source: Arc<dyn Source>, samples: &Samples, batch: usize) -> Context {
    Context { source, batch, samples: samples.len(), judges: samples.first(32), counted: true, threads: 1 }
}

fn auto(task: &Task, batch: usize) -> Auto {
    Auto::new(&context(Arc::new(task.model().clone()), task.train(), batch)).unwrap()
}

/// So many steps over mini-batches of 112, the first 32 samples held out.
fn train(task: &Task, steps: usize) -> (f64, Vec<f64>) {
    let mut auto = auto(task, 112);
    let mut problem = NetworkProblem::new(task.model(), task.train().zeros_like(112), 1).unwrap();
    let mut theta = task.initial_parameters();
    for step in 0..steps {
        let first = 32 + 112 * (step % 2);
        problem.take(task.train(), &(first..first + 112).collect::<Vec<_>>()).unwrap();
        auto.step(&mut problem, &mut theta).unwrap();
    }
    (problem.loss(&theta).unwrap(), theta)
}

#[test]
fn the_ill_conditioned_toy_is_learnt_and_repeats_bit_for_bit() {
    let task = toy();
    let (loss, theta) = train(&task, 600);
    assert!(loss < 1e-2, "{loss}");
    assert_eq!(theta, train(&task, 600).1);
}

#[test]
fn a_turn_that_blew_up_is_taken_back() {
    let task = toy();
    let mut auto = auto(&task, 112);
    let mut problem = NetworkProblem::new(task.model(), task.train().first(112), 1).unwrap();
    let mut theta = task.initial_parameters();
    for _ in 0..100 {
        auto.step(&mut problem, &mut theta).unwrap();
    }
    let (best, kept) = (auto.memory.best.unwrap(), theta.clone());
    for factor in [1e3, f64::NAN] {
        auto.memory.turn.at.iter_mut().for_each(|x| *x *= factor);
        auto.end_turn(&mut theta, factor.is_nan());
        assert_eq!(theta, kept, "{factor}");
        assert!(auto.memory.best.unwrap() <= best);
        for _ in 0..40 {
            auto.step(&mut problem, &mut theta).unwrap();
        }
        assert!(auto.judge.loss(&theta) <= best, "{factor}");
        theta.copy_from_slice(&kept);
        auto.memory.best = Some(best);
    }
}

#[test]
fn a_leader_that_crept_away_starts_again_from_the_best() {
    let task = toy();
    let mut auto = auto(&task, 112);
    let mut theta = task.initial_parameters();
    let away: Vec<f64> = theta.iter().map(|x| 1.5 * x).collect();
    // Above the best, not far above it.
    auto.memory.best = Some(auto.judge.loss(&away) / 2.0);
    for turn in 1..=3 {
        auto.memory.turn.at.clone_from(&away);
        auto.end_turn(&mut theta, false);
        assert_eq!(auto.memory.turn.at == theta, turn == 3, "turn {turn}");
    }
}

#[test]
fn several_thetas_together_have_the_losses_that_each_has_alone() {
    for name in ["oscillators", "poisson"] {
        let task = Task::new(Registry::standard().settings(name, "hig-auto").unwrap()).unwrap();
        let theta = task.initial_parameters();
        let thetas = Mat::from_fn(theta.len(), 3, |i, j| theta[i] * (1.0 + 0.1 * j as f64));
        let mut problem = NetworkProblem::new(task.model(), task.train().first(5), 1).unwrap();
        let mut losses = [0.0; 3];
        problem.losses(thetas.as_ref(), &mut losses).unwrap();
        for (j, loss) in losses.iter().enumerate() {
            assert_eq!(*loss, problem.loss(thetas.col_as_slice(j)).unwrap(), "{name}, {j}");
        }
    }
}

/// A line through points that a sample's input gives, by functions.
fn line() -> (Opaque, Samples) {
    let outcome = |b: &[f64], samples: &Samples, mut y: MatMut<'_, f64>| {
        for s in 0..samples.len() {
            y[(s, 0)] = b[0] + b[1] * samples.input[(s, 0)];
        }
        Ok(())
    };
    let source = Opaque::new(2, 1, SquaredError { factor: 1.0 }, outcome);
    let x = Mat::from_fn(40, 1, |s, _| s as f64 / 20.0);
    let target = Mat::from_fn(40, 1, |s, _| 3.0 - 2.0 * x[(s, 0)]);
    (source, Samples::new(x, Mat::zeros(40, 0), target).unwrap())
}

#[test]
fn without_layers_the_family_is_the_only_way_and_trains() {
    let (source, samples) = line();
    let mut auto = Auto::new(&context(Arc::new(source.clone()), &samples, 40)).unwrap();
    assert_eq!(auto.ways(), [Way::Krylov]);
    let mut problem = OpaqueProblem::new(&source, samples).unwrap();
    let mut theta = vec![0.0, 0.0];
    for _ in 0..60 {
        assert_eq!(auto.step(&mut problem, &mut theta).unwrap().way, Some(Way::Krylov));
    }
    assert!((theta[0] - 3.0).abs() < 1e-6 && (theta[1] + 2.0).abs() < 1e-6, "{theta:?}");
}

#[test]
fn mini_batches_of_any_size_are_taken_and_none_is_refused() {
    let task = toy();
    for batch in [1, 7, 32, 200] {
        let mut auto = auto(&task, batch);
        let mut theta = task.initial_parameters();
        for size in [batch, 7, 32, 1, 256, 32, 7] {
            let mut problem = NetworkProblem::new(task.model(), task.train().first(size), 1).unwrap();
            for _ in 0..6 {
                auto.step(&mut problem, &mut theta).unwrap();
            }
        }
    }
    let none = context(Arc::new(task.model().clone()), task.train(), 0);
    assert!(Auto::new(&none).is_err());
    let nobody = Context { judges: task.train().range(0, 0), ..context(none.source, task.train(), 32) };
    assert!(Auto::new(&nobody).is_err());
}

#[test]
fn ritz_values_make_the_same_damped_step_as_the_spectral_update() {
    let j = Mat::from_fn(9, 14, |r, c| ((3 * r + 5 * c) as f64).sin() / (1.0 + r as f64));
    let g: Vec<f64> = (0..9).map(|i| (2.0 * f64::from(i)).cos()).collect();
    let mut jacobian = DenseJacobian::new(j);
    let mut space = KrylovSpace::default();
    space.build(&mut jacobian, &g, 6, Par::Seq).unwrap();
    let (lambda, mut expected) = (0.03, vec![0.0; 14]);
    space.update(&mut jacobian, &Filter::damped(lambda, 0.0).unwrap(), &mut expected).unwrap();
    let ritz = space.ritz(space.dimension()).unwrap();
    let relative = lambda / ritz.largest().powi(2);
    let step = ritz.step(|sigma| 1.0 / (sigma * sigma + relative));
    let mut found = vec![0.0; 14];
    space.expand(&mut jacobian, &step.coefficients, &mut found).unwrap();
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }
}

#[test]
fn held_out_samples_are_never_trained_on() {
    let task = toy();
    let parts = task.parts();
    let held = parts.stages[0].held_out(&parts.data);
    assert_eq!(held, 32);
    assert!(task.settings().training.batch <= task.train().len() - held);
}

/// A run counted in passes with mini-batches of so few samples that the opening comes first.
fn opening(task: &Task) -> (Auto, NetworkProblem) {
    let source: Arc<dyn Source> = Arc::new(task.model().clone());
    let auto = Auto::new(&Context { counted: false, ..context(source, task.train(), 7) }).unwrap();
    (auto, NetworkProblem::new(task.model(), task.train().first(7), 1).unwrap())
}

#[test]
fn the_opening_comes_first_where_mini_batches_are_small_and_only_then() {
    let task = toy();
    let (mut auto, mut problem) = opening(&task);
    let mut theta = task.initial_parameters();
    let (first, bound) = (auto.judge.loss(&theta), turns::OPENING * auto.passes(Way::Kron, 7));
    let mut steps = 0;
    while auto.step(&mut problem, &mut theta).unwrap().way == Some(Way::Adam) {
        steps += 1;
    }
    let adam = f64::from(steps) * auto.passes(Way::Adam, 7);
    assert!((bound..1.2 * bound).contains(&adam), "{adam} of {bound}");
    assert!(auto.judge.loss(&theta) < first);
    assert_eq!(auto.ways(), [Way::Krylov, Way::Kron]);
    for _ in 0..300 {
        assert_ne!(auto.step(&mut problem, &mut theta).unwrap().way, Some(Way::Adam));
    }
}

#[test]
fn an_opening_that_is_taken_up_again_goes_on_as_it_would_have() {
    let task = toy();
    let (mut auto, mut problem) = opening(&task);
    let mut theta = task.initial_parameters();
    for _ in 0..25 {
        auto.step(&mut problem, &mut theta).unwrap();
    }
    let (mut again, _) = opening(&task);
    again.restore(&auto.save(), theta.len()).unwrap();
    let mut same = theta.clone();
    for _ in 0..600 {
        let one = auto.step(&mut problem, &mut theta).unwrap();
        let other = again.step(&mut problem, &mut same).unwrap();
        assert_eq!((one, &theta), (other, &same));
    }
    assert_eq!(auto.ways(), again.ways());
    // Past the opening there is nothing to take up of it.
    let (mut late, _) = opening(&task);
    late.restore(&auto.save(), theta.len()).unwrap();
    assert_eq!(late.ways(), [Way::Krylov, Way::Kron]);
    let (early, _) = opening(&task);
    assert!(late.restore(&early.save(), theta.len()).is_err(), "an opening after its end");
}

#[test]
fn an_opening_that_goes_astray_starts_again_from_the_best_and_never_shows_a_loss_that_blew_up() {
    let task = toy();
    let (mut auto, mut problem) = opening(&task);
    let mut theta = task.initial_parameters();
    for _ in 0..100 {
        auto.step(&mut problem, &mut theta).unwrap();
    }
    let level = problem.loss(&theta).unwrap();
    // As after the data have changed: what was learnt of the step length is far off.
    for _ in 0..5 {
        auto.opening.as_mut().unwrap().displace(1e3);
        let kept = theta.clone();
        let report = auto.step(&mut problem, &mut theta).unwrap();
        assert!(report.rejected && report.loss < 1e3 * level, "{} of {level}", report.loss);
        assert_eq!((&theta, &auto.memory.turn.at), (&kept, &kept));
        let report = auto.step(&mut problem, &mut theta).unwrap();
        assert!(!report.rejected && report.way == Some(Way::Adam));
    }
}
