//! The oscillators' numbers against the golden arrays.

mod common;

use common::{Golden, distance};
use halfinverse::jacobian::Jacobian;
use halfinverse::network::{Activation, Mlp};
use halfinverse::objective::{Reduction, SquaredError};
use halfinverse::simulator::{Oscillators, OscillatorsSettings};
use halfinverse::spectral::{Filter, Options, Solver, singular_values, update};
use halfinverse::{Model, Problem, Samples};

const TIGHT: f64 = 1e-9;

fn setup() -> (Golden, Vec<f64>, Problem) {
    let golden = Golden::load("oscillators");
    let network = Mlp::new(&[4, 20, 20, 20, 96], Activation::Relu).unwrap();
    let theta = golden.theta(&network);
    let objective = SquaredError { factor: 1.0, reduction: Reduction::Mean };
    let simulator = Oscillators::new(OscillatorsSettings::default()).unwrap();
    let model = Model::new(network, simulator, objective).unwrap();
    let samples = Samples {
        input: golden.matrix("target", 8),
        initial: golden.matrix("initial_state", 8),
        target: golden.matrix("target", 8),
    };
    let problem = Problem::new(&model, samples, 1).unwrap();
    (golden, theta, problem)
}

fn flat(matrix: faer::MatRef<'_, f64>) -> Vec<f64> {
    matrix.row_iter().flat_map(|row| row.iter().copied().collect::<Vec<_>>()).collect()
}

#[test]
fn forward_pass_and_gradient_agree() {
    let (golden, theta, mut problem) = setup();
    let mut gradient = vec![0.0; theta.len()];
    let loss = problem.gradient(&theta, &mut gradient).unwrap();
    assert!((loss / golden.number("loss") - 1.0).abs() < TIGHT);
    assert!(distance(&flat(problem.control()), &golden.get("control")) < TIGHT);
    assert!(distance(&flat(problem.outcome()), &golden.get("outcome")) < TIGHT);
    assert!(distance(&gradient, &golden.get("gradient")) < TIGHT);
}

#[test]
fn trajectories_agree_at_every_step() {
    let (golden, theta, mut problem) = setup();
    problem.loss(&theta).unwrap();
    let simulator = Oscillators::new(OscillatorsSettings::default()).unwrap();
    let expected = golden.get("trajectory");
    for s in 0..8 {
        let initial = problem.samples().initial.as_ref().subrows(s, 1);
        let trajectory = simulator.trajectory(initial, problem.control().subrows(s, 1));
        let states = trajectory.states[1..].concat();
        assert!(distance(&states, &expected[s * states.len()..][..states.len()]) < TIGHT);
    }
}

#[test]
fn jacobian_its_products_and_singular_values_agree() {
    let (golden, theta, mut problem) = setup();
    let mut at = problem.linearize(&theta).unwrap();
    assert!(distance(at.outcome_gradient, &golden.get("outcome_gradient")) < TIGHT);
    let mut rows = vec![0.0; 4 * theta.len()];
    at.jacobian.fill_rows(0, &mut rows);
    assert!(distance(&rows, &golden.get("jacobian_sample0")) < TIGHT);
    let v: Vec<f64> = (0..theta.len()).map(|i| (i as f64).cos()).collect();
    let mut product = vec![0.0; 32];
    at.jacobian.apply(&v, &mut product);
    assert!(distance(&product, &golden.get("probe_jv")) < TIGHT);
    let u: Vec<f64> = (0..32).map(|i| f64::from(1 + i).sin()).collect();
    let mut product = vec![0.0; theta.len()];
    at.jacobian.apply_transpose(&u, &mut product);
    assert!(distance(&product, &golden.get("probe_jtu")) < TIGHT);
    let sigmas = singular_values(&mut at.jacobian, faer::Par::Seq).unwrap();
    for (sigma, expected) in sigmas.iter().zip(golden.get("singular_values")) {
        assert!((sigma / expected - 1.0).abs() < TIGHT, "{sigma} against {expected}");
    }
}

#[test]
fn updates_and_the_loss_after_them_agree() {
    let (golden, theta, mut problem) = setup();
    for (method, kappa, after) in [
        ("hig", 0.5, vec![("loss_after_hig", golden.number("lr_hig"))]),
        ("gn", 1.0, vec![("loss_after_gn_lr1", 1.0), ("loss_after_gn_lr0p1", 0.1)]),
    ] {
        for solver in [Solver::Svd, Solver::Gram, Solver::Krylov { vectors: 32 }] {
            let filter = Filter::power(kappa, golden.number(&format!("trunc_{method}"))).unwrap();
            let options = Options { solver, ..Options::default() };
            let mut delta = vec![0.0; theta.len()];
            let mut at = problem.linearize(&theta).unwrap();
            let report =
                update(&mut at.jacobian, at.outcome_gradient, &filter, &options, &mut delta).unwrap();
            assert_eq!(report.solver, solver);
            assert_eq!(report.rank, golden.count(&format!("n_kept_{method}")));
            let error = distance(&delta, &golden.get(&format!("{method}_update")));
            println!(
                "{method} by {solver}: off by {error:.1e}, reported {:.1e}, condition {:.1e}",
                report.error_estimate,
                report.condition()
            );
            let allowed = if solver == Solver::Svd { TIGHT } else { report.error_estimate.max(TIGHT) };
            assert!(error <= allowed, "{method} by {solver}: {error:e}");
            for &(key, rate) in &after {
                let theta: Vec<f64> = theta.iter().zip(&delta).map(|(t, d)| t - rate * d).collect();
                let loss = problem.loss(&theta).unwrap();
                assert!((loss / golden.number(key) - 1.0).abs() < 1e-8, "{key} by {solver}: {loss}");
            }
        }
    }
}
