//! The layered Jacobian against finite differences and against itself, for every activation and several shapes.

use faer::{Mat, Par};
use halfinverse::check::{TOLERANCE, model, simulator};
use halfinverse::network::{Activation, Init, Network};
use halfinverse::objective::SquaredError;
use halfinverse::simulator::{Oscillators, OscillatorsSettings, Simulator};
use halfinverse::{Model, NetworkProblem, Problem, Samples};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn problem(
    hidden: &[usize],
    activation: Activation,
    masses: usize,
    samples: usize,
) -> (NetworkProblem, Vec<f64>) {
    let settings =
        OscillatorsSettings { masses, steps: 24, linear_coupling: 0.3, ..OscillatorsSettings::default() };
    let simulator = Oscillators::new(settings).unwrap();
    let mut widths = vec![simulator.initials()];
    widths.extend(hidden);
    widths.push(simulator.controls());
    let network = Network::mlp(&widths, activation).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut theta = network.initialize(Init::LecunNormal, &mut rng);
    for theta in &mut theta {
        *theta += 0.1 * (rng.random::<f64>() - 0.5);
    }
    let mut states = Mat::zeros(samples, 2 * masses);
    for j in 0..2 * masses {
        states.col_as_slice_mut(j).fill_with(|| rng.random::<f64>());
    }
    let data = Samples::new(states.clone(), states.clone(), states).unwrap();
    let objective = SquaredError { factor: 0.5 };
    let model = Model::new(network, simulator, objective).unwrap();
    (NetworkProblem::new(&model, data, 1).unwrap(), theta)
}

#[test]
fn every_activation_passes_the_derivative_check() {
    for activation in Activation::ALL {
        let (mut problem, theta) = problem(&[9, 7], activation, 2, 5);
        for comparison in model(&mut problem, &theta, 1).unwrap() {
            assert!(comparison.error <= TOLERANCE, "{activation:?}: {comparison:?}");
        }
    }
}

#[test]
fn every_depth_and_number_of_masses_passes_the_derivative_check() {
    for (hidden, masses, samples) in
        [(vec![], 1, 3), (vec![6], 1, 9), (vec![5, 5, 5, 5], 3, 40), (vec![3], 5, 17), (vec![30, 30], 2, 6)]
    {
        let (mut problem, theta) = problem(&hidden, Activation::Tanh, masses, samples);
        let of_model = model(&mut problem, &theta, 1).unwrap();
        let of_simulator = simulator(
            problem.model().simulator(),
            problem.mini_batch().initial.as_ref(),
            problem.control(),
            1,
        );
        for comparison in of_model.into_iter().chain(of_simulator.unwrap()) {
            assert!(comparison.error <= TOLERANCE, "{hidden:?}, {masses} masses: {comparison:?}");
        }
    }
}

#[test]
fn products_agree_with_rows_whichever_way_they_are_made() {
    // A wide network makes its products by layer, a narrow one by sweeps.
    for hidden in [vec![30, 30], vec![4, 4]] {
        let (mut problem, theta) = problem(&hidden, Activation::Silu, 2, 6);
        let mut at = problem.linearize(&theta).unwrap();
        let rows = at.jacobian.dense_transpose().unwrap();
        for r in [0, 5, 23] {
            let mut unit = vec![0.0; 24];
            unit[r] = 1.0;
            let mut row = vec![0.0; theta.len()];
            at.jacobian.apply_transpose(&unit, &mut row).unwrap();
            let off = row.iter().zip(rows.col_as_slice(r)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(off < 1e-13, "{hidden:?}, row {r}: {off:e}");
        }
        let by_rows = &rows * rows.transpose();
        let mut gram = Mat::new();
        at.jacobian.column_gram(&mut gram, Par::Seq).unwrap();
        let off = (gram - &by_rows).norm_max();
        assert!(off < 1e-12 * by_rows.norm_max(), "{off:e}");
    }
}

#[test]
fn a_second_point_forgets_the_first() {
    let (mut problem, theta) = problem(&[30, 30], Activation::Tanh, 2, 6);
    let product = |problem: &mut NetworkProblem, theta: &[f64]| {
        let mut out = vec![0.0; 24];
        problem.linearize(theta).unwrap().jacobian.apply(&vec![1.0; theta.len()], &mut out).unwrap();
        out
    };
    let first = product(&mut problem, &theta);
    let other: Vec<f64> = theta.iter().map(|theta| 0.5 * theta).collect();
    assert_ne!(product(&mut problem, &other), first);
    assert_eq!(product(&mut problem, &theta), first);
}

#[test]
fn a_network_that_does_not_fit_its_simulator_is_refused_with_both_sizes() {
    let simulator = Oscillators::new(OscillatorsSettings::default()).unwrap();
    let network = Network::mlp(&[4, 20, 95], Activation::Relu).unwrap();
    let objective = SquaredError { factor: 1.0 };
    let error = Model::new(network, simulator, objective).err().expect("95 outputs for 96 controls");
    assert_eq!((error.expected, error.found), (96, 95));
}
