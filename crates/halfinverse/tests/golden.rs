//! The tasks' numbers against the golden arrays.

mod common;

use common::{Golden, distance};
use halfinverse::network::{Activation, Network};
use halfinverse::objective::{Overlap, Reduction, SquaredError};
use halfinverse::simulator::{
    Dipole, DipoleSettings, Oscillators, OscillatorsSettings, Poisson, PoissonSettings,
};
use halfinverse::spectral::{Filter, Options, Solver, singular_values, update};
use halfinverse::{Model, NetworkProblem, Problem, Samples};

const TIGHT: f64 = 1e-9;

/// A task with its golden arrays, and how tight its updates are.
struct Case {
    golden: Golden,
    theta: Vec<f64>,
    problem: NetworkProblem,
    /// Relative error allowed to an update: that of the task's round-off, where J is rank-deficient.
    update: f64,
    solvers: &'static [Solver],
}

fn samples(golden: &Golden, count: usize) -> Samples {
    let [input, initial, target] = ["target", "initial_state", "target"].map(|key| golden.matrix(key, count));
    Samples::new(input, initial, target).unwrap()
}

fn oscillators() -> Case {
    let golden = Golden::load("oscillators");
    let network = Network::mlp(&[4, 20, 20, 20, 96], Activation::Relu).unwrap();
    let theta = golden.theta(&network);
    let objective = SquaredError { factor: 1.0 };
    let simulator = Oscillators::new(OscillatorsSettings::default()).unwrap();
    let model = Model::new(network, simulator, objective).unwrap();
    let problem = NetworkProblem::new(&model, samples(&golden, 8), 1).unwrap();
    let solvers = &[Solver::Svd, Solver::Gram, Solver::Krylov { vectors: 32 }];
    Case { golden, theta, problem, update: TIGHT, solvers }
}

fn dipole() -> Case {
    let golden = Golden::load("dipole");
    let network = Network::mlp(&[28, 20, 20, 20, 384], Activation::Tanh).unwrap();
    let theta = golden.theta(&network);
    let simulator = Dipole::new(DipoleSettings::default()).unwrap();
    let model = Model::new(network, simulator, Overlap).unwrap();
    let problem = NetworkProblem::new(&model, samples(&golden, 4), 1).unwrap();
    Case { golden, theta, problem, update: 1e-6, solvers: &[Solver::Svd] }
}

fn poisson() -> Case {
    let golden = Golden::load("poisson");
    let network = Network::mlp(&[64, 64, 128, 64, 64], Activation::Tanh).unwrap();
    let theta = golden.theta(&network);
    let simulator = Poisson::new(PoissonSettings::default()).unwrap();
    let objective = SquaredError { factor: 0.5 };
    let model = Model::new(network, simulator, objective).unwrap().reduced_by(Reduction::Sum);
    let mut samples = samples(&golden, 4);
    samples.initial = faer::Mat::zeros(4, 0);
    let problem = NetworkProblem::new(&model, samples, 1).unwrap();
    let solvers = &[Solver::Svd, Solver::Gram, Solver::Krylov { vectors: 256 }];
    Case { golden, theta, problem, update: TIGHT, solvers }
}

fn all() -> [(&'static str, Case); 3] {
    [("oscillators", oscillators()), ("dipole", dipole()), ("poisson", poisson())]
}

fn flat(matrix: faer::MatRef<'_, f64>) -> Vec<f64> {
    matrix.row_iter().flat_map(|row| row.iter().copied().collect::<Vec<_>>()).collect()
}

#[test]
fn forward_pass_and_gradient_agree() {
    for (name, Case { golden, theta, mut problem, .. }) in all() {
        let mut gradient = vec![0.0; theta.len()];
        let loss = problem.gradient(&theta, &mut gradient).unwrap();
        assert!((loss / golden.number("loss") - 1.0).abs() < TIGHT, "{name}");
        assert!(distance(&flat(problem.control()), &golden.get("control")) < TIGHT, "{name}");
        assert!(distance(&flat(problem.outcome()), &golden.get("outcome")) < TIGHT, "{name}");
        assert!(distance(&gradient, &golden.get("gradient")) < TIGHT, "{name}");
    }
}

#[test]
fn trajectories_agree_at_every_step() {
    let of_oscillators = Oscillators::new(OscillatorsSettings::default()).unwrap();
    let of_dipole = Dipole::new(DipoleSettings::default()).unwrap();
    for (name, Case { golden, theta, mut problem, .. }) in all().into_iter().take(2) {
        problem.loss(&theta).unwrap();
        let expected = golden.get("trajectory");
        for s in 0..problem.mini_batch().len() {
            let initial = problem.mini_batch().initial.as_ref().subrows(s, 1);
            let control = problem.control().subrows(s, 1);
            let states = match name {
                "oscillators" => of_oscillators.trajectory(initial, control).states,
                _ => of_dipole.trajectory(initial, control),
            };
            let states = states[1..].concat();
            assert!(distance(&states, &expected[s * states.len()..][..states.len()]) < TIGHT, "{name}");
        }
    }
}

#[test]
fn jacobian_its_products_and_singular_values_agree() {
    for (name, Case { golden, theta, mut problem, .. }) in all() {
        let mut at = problem.linearize(&theta).unwrap();
        let (n, _) = at.jacobian.shape();
        assert!(distance(at.gradient, &golden.get("outcome_gradient")) < TIGHT, "{name}");
        let expected = golden.get("jacobian_sample0");
        let mut rows = vec![0.0; expected.len()];
        at.jacobian.fill_rows(0, &mut rows).unwrap();
        assert!(distance(&rows, &expected) < TIGHT, "{name}");
        let v: Vec<f64> = (0..theta.len()).map(|i| (i as f64).cos()).collect();
        let mut product = vec![0.0; n];
        at.jacobian.apply(&v, &mut product).unwrap();
        assert!(distance(&product, &golden.get("probe_jv")) < TIGHT, "{name}");
        let u: Vec<f64> = (0..n).map(|i| (1.0 + i as f64).sin()).collect();
        let mut product = vec![0.0; theta.len()];
        at.jacobian.apply_transpose(&u, &mut product).unwrap();
        assert!(distance(&product, &golden.get("probe_jtu")) < TIGHT, "{name}");
        let sigmas = singular_values(&mut *at.jacobian, faer::Par::Seq).unwrap();
        let scale = sigmas[0];
        for (sigma, expected) in sigmas.iter().zip(golden.get("singular_values")) {
            // Relative to itself down to 1e-4 of the largest, and to that below, where round-off shows.
            let allowed = TIGHT * expected.max(1e-4 * scale);
            assert!((sigma - expected).abs() < allowed, "{name}: {sigma:e} against {expected:e}");
        }
    }
}

#[test]
fn updates_and_the_loss_after_them_agree() {
    for (name, Case { golden, theta, mut problem, update: tight, solvers }) in all() {
        for (method, kappa, after) in [
            ("hig", 0.5, vec![("loss_after_hig", golden.number("lr_hig"))]),
            ("gn", 1.0, vec![("loss_after_gn_lr1", 1.0), ("loss_after_gn_lr0p1", 0.1)]),
        ] {
            for &solver in solvers {
                let filter = Filter::power(kappa, golden.number(&format!("trunc_{method}"))).unwrap();
                let options = Options { solver, ..Options::default() };
                let mut delta = vec![0.0; theta.len()];
                let mut at = problem.linearize(&theta).unwrap();
                let report = update(&mut *at.jacobian, at.gradient, &filter, &options, &mut delta).unwrap();
                drop(at);
                assert_eq!(report.solver, solver, "{name}");
                let rank = golden.count(&format!("n_kept_{method}"));
                // A Krylov space may say the same with fewer vectors.
                let fewer = matches!(solver, Solver::Krylov { .. }) && report.rank < rank;
                assert!(report.rank == rank || fewer, "{name}, {method}: {} of {rank}", report.rank);
                let error = distance(&delta, &golden.get(&format!("{method}_update")));
                println!(
                    "{name}, {method} by {solver}: off by {error:.1e}, reported {:.1e}, condition {:.1e}",
                    report.error_estimate,
                    report.condition()
                );
                let allowed = if solver == Solver::Svd { tight } else { report.error_estimate.max(tight) };
                assert!(error <= allowed, "{name}, {method} by {solver}: {error:e}");
                for &(key, rate) in &after {
                    let theta: Vec<f64> = theta.iter().zip(&delta).map(|(t, d)| t - rate * d).collect();
                    let loss = problem.loss(&theta).unwrap();
                    let error = (loss / golden.number(key) - 1.0).abs();
                    assert!(error < 1e-8, "{name}, {key} by {solver}: {error:e}");
                }
            }
        }
    }
}
