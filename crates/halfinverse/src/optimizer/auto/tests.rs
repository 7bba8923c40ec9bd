use super::*;
use crate::jacobian::DenseJacobian;
use crate::optimizer::auto::probe::Probe;
use crate::spectral::{Filter, KrylovSpace};
use crate::task::{OptimizerName, Settings, Task, TaskName};
use faer::Mat;

fn toy() -> Task {
    Task::new(Settings::new(TaskName::Toy, OptimizerName::HigAuto)).unwrap()
}

fn auto(task: &Task, batch: usize) -> Auto {
    let held = task.train().first(32);
    Auto::new(task.model(), held, batch, Scarce::Data, 1).unwrap()
}

/// So many steps over mini-batches of 112, the first 32 samples held out.
fn train(task: &Task, steps: usize) -> (f64, Vec<f64>) {
    let mut auto = auto(task, 112);
    let mut problem = Problem::new(task.model(), task.train().zeros_like(112), 1).unwrap();
    let mut theta = task.initial_parameters();
    for step in 0..steps {
        let first = 32 + 112 * (step % 2);
        task.train().gather(&(first..first + 112).collect::<Vec<_>>(), problem.samples_mut());
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
    let mut problem = Problem::new(task.model(), task.train().first(112), 1).unwrap();
    let mut theta = task.initial_parameters();
    for _ in 0..100 {
        auto.step(&mut problem, &mut theta).unwrap();
    }
    let (best, kept) = (auto.best.unwrap(), theta.clone());
    for factor in [1e3, f64::NAN] {
        auto.turn.at.iter_mut().for_each(|x| *x *= factor);
        auto.end_turn(&mut theta, factor.is_nan());
        assert_eq!(theta, kept, "{factor}");
        assert!(auto.best.unwrap() <= best);
        for _ in 0..40 {
            auto.step(&mut problem, &mut theta).unwrap();
        }
        assert!(auto.judge(&theta.clone()) <= best, "{factor}");
        theta.copy_from_slice(&kept);
        auto.best = Some(best);
    }
}

#[test]
fn a_leader_that_crept_away_starts_again_from_the_best() {
    let task = toy();
    let mut auto = auto(&task, 112);
    let mut theta = task.initial_parameters();
    let away: Vec<f64> = theta.iter().map(|x| 1.5 * x).collect();
    // Above the best, not far above it.
    auto.best = Some(auto.judge(&away) / 2.0);
    for turn in 1..=3 {
        auto.turn.at.clone_from(&away);
        auto.end_turn(&mut theta, false);
        assert_eq!(auto.turn.at == theta, turn == 3, "turn {turn}");
    }
}

#[test]
fn the_probe_gives_each_candidate_the_loss_that_a_problem_gives() {
    let task = Task::new(Settings::new(TaskName::Oscillators, OptimizerName::HigAuto)).unwrap();
    let theta = task.initial_parameters();
    let thetas = Mat::from_fn(theta.len(), 3, |i, j| theta[i] * (1.0 + 0.1 * j as f64));
    let first = task.train().first(5);
    let mut second = first.zeros_like(5);
    task.train().gather(&[7, 9, 11, 13, 15], &mut second);
    let mut probe = Probe::new(task.model(), &first, 5, 3, 1);
    probe.set(&first, &second);
    let losses = probe.losses(task.model(), &thetas).unwrap();
    for (j, pair) in losses.iter().enumerate() {
        for (samples, loss) in [&first, &second].into_iter().zip(pair) {
            let mut problem = Problem::new(task.model(), samples.clone(), 1).unwrap();
            let expected = problem.loss(thetas.col_as_slice(j)).unwrap();
            assert!((loss - expected).abs() < 1e-12 * expected, "{loss} {expected}");
        }
    }
}

#[test]
fn ritz_values_make_the_same_damped_step_as_the_spectral_update() {
    let j = Mat::from_fn(9, 14, |r, c| ((3 * r + 5 * c) as f64).sin() / (1.0 + r as f64));
    let g: Vec<f64> = (0..9).map(|i| (2.0 * f64::from(i)).cos()).collect();
    let mut jacobian = DenseJacobian::new(j);
    let mut space = KrylovSpace::default();
    space.build(&mut jacobian, &g, 6, Par::Seq).unwrap();
    let (lambda, mut expected) = (0.03, vec![0.0; 14]);
    space.update(&Filter::damped(lambda, 0.0).unwrap(), &mut expected).unwrap();
    let step = space.ritz(space.dimension()).unwrap().step(|sigma| 1.0 / (sigma * sigma + lambda));
    for (i, expected) in expected.iter().enumerate() {
        let found: f64 = step.coefficients.iter().enumerate().map(|(k, c)| c * space.basis()[(i, k)]).sum();
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }
}

#[test]
fn held_out_samples_are_never_trained_on() {
    let task = toy();
    let settings = task.settings();
    let held = task.held_out(&settings.optimizer, settings.training.batch);
    assert_eq!(held, 32);
    assert!(settings.training.batch <= task.train().len() - held);
}
