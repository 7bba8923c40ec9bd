//! Simulators against closed solutions, and the derivatives that follow from the one that an author wrote.

use faer::prelude::ReborrowMut;
use faer::{Mat, MatMut, MatRef};
use halfinverse::check::{TOLERANCE, simulator};
use halfinverse::network::{Activation, Network};
use halfinverse::objective::SquaredError;
use halfinverse::simulator::{
    Boundary, Derivative, Dipole, DipoleSettings, Oscillators, OscillatorsSettings, Pattern, Point, Poisson,
    PoissonSettings, Scaling, Simulator, SimulatorError, Tape,
};
use halfinverse::{Model, NetworkProblem, Problem, Samples};

#[test]
fn a_free_mass_swings_like_a_cosine_to_fourth_order() {
    let error = |steps: u32| {
        let dt = 12.0 / f64::from(steps);
        let settings =
            OscillatorsSettings { masses: 1, dt, steps: steps as usize, ..OscillatorsSettings::default() };
        let simulator = Oscillators::new(settings).unwrap();
        let mut y = Mat::zeros(1, 2);
        let initial = faer::mat![[1.0, 0.0]];
        let control = Mat::zeros(1, steps as usize);
        simulator.simulate(initial.as_ref(), control.as_ref(), y.as_mut(), None).unwrap();
        ((y[(0, 0)] - 12.0_f64.cos()).powi(2) + (y[(0, 1)] + 12.0_f64.sin()).powi(2)).sqrt()
    };
    let order = (error(100) / error(200)).log2();
    assert!((order - 4.0).abs() < 0.1, "order {order}");
}

#[test]
fn a_constant_push_moves_the_rest_point() {
    // x″ = −x + 3u from rest: x = 3u(1 − cos t).
    let settings = OscillatorsSettings { masses: 1, dt: 0.01, steps: 200, ..OscillatorsSettings::default() };
    let simulator = Oscillators::new(settings).unwrap();
    let control = Mat::full(1, 200, 0.7);
    let trajectory = simulator.trajectory(Mat::zeros(1, 2).as_ref(), control.as_ref());
    for (t, state) in trajectory.times.iter().zip(&trajectory.states) {
        assert!((state[0] - 2.1 * (1.0 - t.cos())).abs() < 1e-9, "t = {t}");
    }
}

#[test]
fn linear_springs_keep_the_energy_of_a_chain() {
    let settings = OscillatorsSettings {
        masses: 4,
        linear_coupling: 0.5,
        cubic_coupling: 0.8,
        dt: 0.005,
        steps: 400,
        ..OscillatorsSettings::default()
    };
    let simulator = Oscillators::new(settings).unwrap();
    let initial = faer::mat![[0.9, -0.2, 0.4, 0.1, 0.3, -0.5, 0.2, 0.0]];
    let trajectory = simulator.trajectory(initial.as_ref(), Mat::zeros(1, 400).as_ref());
    let energy = |state: &[f64]| {
        let bonds: f64 =
            state[..4].windows(2).map(|x| (x[1] - x[0]).powi(2)).map(|d| 0.25 * d + 0.2 * d * d).sum();
        bonds + 0.5 * state.iter().map(|s| s * s).sum::<f64>()
    };
    let first = energy(&trajectory.states[0]);
    for state in &trajectory.states {
        assert!((energy(state) / first - 1.0).abs() < 1e-9);
    }
}

/// A chain with linear springs alone, or more.
fn chain(masses: usize, linear: f64, cubic: f64, dt: f64) -> Oscillators {
    Oscillators::new(OscillatorsSettings {
        masses,
        linear_coupling: linear,
        cubic_coupling: cubic,
        dt,
        steps: 2000,
        ..OscillatorsSettings::default()
    })
    .unwrap()
}

#[test]
fn a_chain_is_called_unstable_where_its_simulation_grows() {
    let grows = |chain: &Oscillators| {
        let masses = chain.settings().masses;
        // Neighbours against each other, and something of every other mode.
        let initial = Mat::from_fn(1, 2 * masses, |_, i| if i % 2 == 0 { 1.0 } else { -0.5 });
        let states = chain.trajectory(initial.as_ref(), Mat::zeros(1, 2000).as_ref()).states;
        let length = |state: &Vec<f64>| state.iter().map(|x| x * x).sum::<f64>().sqrt();
        let growth = length(states.last().unwrap()) / length(&states[0]);
        growth.is_nan() || growth > 10.0
    };
    for (masses, coupling) in [(1, 0.0), (2, 0.0), (2, 1000.0), (3, 5.0), (8, 40.0), (2, -0.3)] {
        let limit = |fails: &dyn Fn(&Oscillators) -> bool| {
            let (mut low, mut high) = (1e-3, 10.0);
            for _ in 0..30 {
                let dt = 0.5 * (low + high);
                if fails(&chain(masses, coupling, 0.0, dt)) { high = dt } else { low = dt }
            }
            low
        };
        let (seen, said) = (limit(&grows), limit(&|chain| chain.instability().is_some()));
        assert!((seen / said - 1.0).abs() < 1e-3, "{masses} masses, k = {coupling}: {seen} and {said}");
    }
}

#[test]
fn an_unstable_chain_names_settings_that_are_stable() {
    assert_eq!(chain(2, 200.0, 1.0, 0.125).instability(), None);
    let said = chain(2, 1000.0, 0.0, 0.125).instability().unwrap();
    assert!(said.contains("ω·dt = 5.5916, beyond 2.8284"), "{said}");
    assert!(said.ends_with("simulator.dt must be at most 0.0632, or linear_coupling at most 255"), "{said}");
    assert_eq!(chain(2, 1000.0, 0.0, 0.0632).instability(), None);
    assert!(chain(2, 1000.0, 0.0, 0.0633).instability().is_some());
    assert_eq!(chain(2, 255.0, 0.0, 0.125).instability(), None);
    assert!(chain(2, 256.0, 0.0, 0.125).instability().is_some());

    let said = chain(2, 0.0, 100.0, 0.125).instability().unwrap();
    assert!(said.starts_with("with its springs stretched by 1 "), "{said}");
    assert!(said.ends_with(", or linear_coupling + 3·cubic_coupling at most 255"), "{said}");
    assert_eq!(chain(2, 15.0, 80.0, 0.125).instability(), None);
    let said = chain(2, 0.0, 1.0, 3.0).instability().unwrap();
    assert!(said.ends_with("simulator.dt must be at most 1.06"), "a mass alone is too fast for it: {said}");
    for huge in [f64::MAX, 1e300] {
        let said = chain(3, huge, huge, 0.125).instability().unwrap();
        assert!(!said.contains("NaN") && !said.contains("inf"), "{said}");
    }
}

/// ∂y/∂z of y = (z₁², z₁z₂, sin z₃ + y₀).
fn partials(z: impl Fn(usize) -> f64) -> [[f64; 3]; 3] {
    [[2.0 * z(0), 0.0, 0.0], [z(1), z(0), 0.0], [0.0, 0.0, z(2).cos()]]
}

/// A simulator of that y with whichever derivatives are named.
#[derive(Clone, Copy)]
struct Example {
    jvp: bool,
    vjp: bool,
    block: bool,
}

impl Simulator for Example {
    fn controls(&self) -> usize {
        3
    }

    fn outcomes(&self) -> usize {
        3
    }

    fn initials(&self) -> usize {
        1
    }

    fn simulate(
        &self,
        initial: MatRef<'_, f64>,
        z: MatRef<'_, f64>,
        mut y: MatMut<'_, f64>,
        _: Option<&mut Tape>,
    ) -> Result<(), SimulatorError> {
        for s in 0..z.nrows() {
            y[(s, 0)] = z[(s, 0)] * z[(s, 0)];
            y[(s, 1)] = z[(s, 0)] * z[(s, 1)];
            y[(s, 2)] = z[(s, 2)].sin() + initial[(s, 0)];
        }
        Ok(())
    }

    fn derivative(&self) -> Derivative<'_> {
        let jvp = |at: Point<'_>, t: MatRef<'_, f64>, mut out: MatMut<'_, f64>| {
            for s in 0..t.nrows() {
                let block = partials(|j| at.control[(s, j)]);
                for c in 0..3 {
                    out[(s, c)] = (0..3).map(|j| block[c][j] * t[(s, j)]).sum();
                }
            }
            Ok(())
        };
        let vjp = |at: Point<'_>, u: MatRef<'_, f64>, mut out: MatMut<'_, f64>| {
            for s in 0..u.nrows() {
                let block = partials(|j| at.control[(s, j)]);
                for j in 0..3 {
                    out[(s, j)] = (0..3).map(|c| block[c][j] * u[(s, c)]).sum();
                }
            }
            Ok(())
        };
        let block = |at: Point<'_>, mut out: MatMut<'_, f64>| {
            for s in 0..out.nrows() {
                let block = partials(|j| at.control[(s, j)]);
                for (c, row) in block.iter().enumerate() {
                    for (j, &partial) in row.iter().enumerate() {
                        out.rb_mut()[(s, j * 3 + c)] = partial;
                    }
                }
            }
            Ok(())
        };
        match (self.jvp, self.vjp, self.block) {
            (true, false, false) => Derivative::jvp(jvp),
            (false, true, false) => Derivative::vjp(vjp),
            (false, false, true) => Derivative::block(block),
            _ => Derivative::jvp(jvp).and_vjp(vjp).and_block(block),
        }
    }
}

#[test]
fn any_one_derivative_is_enough_and_all_of_them_are_used() {
    let initial = Mat::from_fn(7, 1, |s, _| s as f64);
    let control = Mat::from_fn(7, 3, |s, j| 0.3 * s as f64 - 0.4 * j as f64 + 0.1);
    for (jvp, vjp, block) in
        [(true, false, false), (false, true, false), (false, false, true), (true, true, true)]
    {
        let example = Example { jvp, vjp, block };
        for comparison in simulator(&example, initial.as_ref(), control.as_ref(), 3).unwrap() {
            assert!(comparison.error <= TOLERANCE, "{:?}: {comparison:?}", example.derivative());
        }
    }
}

#[test]
fn an_error_names_its_sample_by_its_place_in_the_mini_batch() {
    /// Cannot simulate a control above 0; in chunks of 4.
    struct Fragile;
    impl Simulator for Fragile {
        fn controls(&self) -> usize {
            1
        }
        fn outcomes(&self) -> usize {
            1
        }
        fn simulate(
            &self,
            initial: MatRef<'_, f64>,
            control: MatRef<'_, f64>,
            mut outcome: MatMut<'_, f64>,
            _: Option<&mut Tape>,
        ) -> Result<(), SimulatorError> {
            assert!(initial.nrows() <= 4, "chunks are as large as was asked for");
            outcome.copy_from(control);
            match (0..control.nrows()).find(|&s| control[(s, 0)] > 0.0) {
                Some(s) => Err(SimulatorError::of_sample(s, "too far")),
                None => Ok(()),
            }
        }
        fn derivative(&self) -> Derivative<'_> {
            Derivative::jvp(|_, tangent, mut out| {
                out.copy_from(tangent);
                Ok(())
            })
        }
        fn chunk(&self) -> Option<usize> {
            Some(4)
        }
    }
    let network = Network::mlp(&[1, 1], Activation::Identity).unwrap();
    let model = Model::new(network, Fragile, SquaredError { factor: 1.0 }).unwrap();
    let x = Mat::from_fn(11, 1, |s, _| if s == 9 { 1.0 } else { -1.0 });
    let samples = Samples::new(x, Mat::zeros(11, 0), Mat::zeros(11, 1)).unwrap();
    for threads in [1, 2] {
        let mut problem = NetworkProblem::new(&model, samples.clone(), threads).unwrap();
        let error = problem.loss(&[1.0, 0.0]).unwrap_err();
        assert_eq!(error.to_string(), "the simulation of sample 9 failed: too far");
    }
}

#[test]
fn crank_nicolson_keeps_the_norm_of_the_state() {
    let dipole = Dipole::new(DipoleSettings::default()).unwrap();
    let start = dipole.eigenstate(1);
    let initial = Mat::from_fn(1, 28, |_, c| if c % 2 == 0 { start[c / 2] } else { 0.0 });
    let control = Mat::from_fn(1, 384, |_, t| 5.0 * (0.3 * t as f64).sin());
    for state in dipole.trajectory(initial.as_ref(), control.as_ref()) {
        let norm: f64 = state.iter().map(|part| part * part).sum();
        assert!((norm - 1.0).abs() < 1e-12, "{norm}");
    }
}

#[test]
fn without_a_field_an_eigenstate_only_turns_its_phase() {
    let settings =
        DipoleSettings { points: 9, length: 3.0, dt: 0.02, steps: 100, ..DipoleSettings::default() };
    let dipole = Dipole::new(settings).unwrap();
    for n in [1, 2, 9] {
        let state = dipole.eigenstate(n);
        let initial = Mat::from_fn(1, 18, |_, c| if c % 2 == 0 { state[c / 2] } else { 0.0 });
        let last = dipole.trajectory(initial.as_ref(), Mat::zeros(1, 100).as_ref()).pop().unwrap();
        let dx: f64 = 0.3;
        let energy = (2.0 - 2.0 * (std::f64::consts::PI * n as f64 / 10.0).cos()) / (dx * dx);
        // Each step multiplies by (1 − i dt/2 E)/(1 + i dt/2 E), a turn by −2 atan(dt/2 E).
        let phase = -200.0 * (0.01 * energy).atan();
        for (j, amplitude) in state.iter().enumerate() {
            assert!((last[2 * j] - amplitude * phase.cos()).abs() < 1e-11, "state {n}");
            assert!((last[2 * j + 1] - amplitude * phase.sin()).abs() < 1e-11, "state {n}");
        }
    }
}

#[test]
fn the_laplacian_knows_its_eigenfunctions_at_every_boundary() {
    let (width, height, dx) = (6, 5, 0.5);
    let pi = std::f64::consts::PI;
    for boundary in [Boundary::Zero, Boundary::Periodic, Boundary::Neumann] {
        let poisson = Poisson::new(PoissonSettings { width, height, dx, boundary }).unwrap();
        // Wave numbers per cell, and where in its cell the wave starts.
        let wave = |i: usize, n: usize, mode: f64| match boundary {
            Boundary::Zero => (pi * mode * (i + 1) as f64 / (n + 1) as f64).sin(),
            Boundary::Periodic => (2.0 * pi * mode * i as f64 / n as f64).sin(),
            Boundary::Neumann => (pi * mode * (i as f64 + 0.5) / n as f64).cos(),
        };
        let number = |n: usize, mode: f64| match boundary {
            Boundary::Zero => pi * mode / (n + 1) as f64,
            Boundary::Periodic => 2.0 * pi * mode / n as f64,
            Boundary::Neumann => pi * mode / n as f64,
        };
        let field = Mat::from_fn(1, 30, |_, cell| wave(cell % 6, 6, 2.0) * wave(cell / 6, 5, 1.0));
        let value = (2.0 * number(6, 2.0).cos() + 2.0 * number(5, 1.0).cos() - 4.0) / (dx * dx);
        let mut laplacian = Mat::zeros(1, 30);
        poisson.laplacian(field.as_ref(), laplacian.as_mut());
        for cell in 0..30 {
            let off = (laplacian[(0, cell)] - value * field[(0, cell)]).abs();
            assert!(off < 1e-12, "{boundary:?}, cell {cell}: {off:e}");
        }
    }
}

#[test]
fn every_boundary_and_grid_passes_the_derivative_check() {
    for boundary in [Boundary::Zero, Boundary::Periodic, Boundary::Neumann] {
        for (width, height) in [(1, 1), (1, 4), (3, 2), (5, 5)] {
            let poisson = Poisson::new(PoissonSettings { width, height, dx: 0.7, boundary }).unwrap();
            let control = Mat::from_fn(5, width * height, |s, cell| ((3 * s + cell) as f64).cos());
            for comparison in simulator(&poisson, Mat::zeros(5, 0).as_ref(), control.as_ref(), 2).unwrap() {
                // A constant field's Laplacian is 0 at one cell with edges that repeat it.
                let right =
                    comparison.error <= TOLERANCE || (width * height == 1 && boundary != Boundary::Zero);
                assert!(right, "{boundary:?}, {width} x {height}: {comparison:?}");
            }
        }
    }
}

/// y = z₁·(1, 1): denies that the second outcome depends on the control.
struct Denying;

impl Simulator for Denying {
    fn controls(&self) -> usize {
        1
    }

    fn outcomes(&self) -> usize {
        2
    }

    fn simulate(
        &self,
        _: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
        mut outcome: MatMut<'_, f64>,
        _: Option<&mut Tape>,
    ) -> Result<(), SimulatorError> {
        outcome.rb_mut().col_mut(0).copy_from(control.col(0));
        outcome.col_mut(1).copy_from(control.col(0));
        Ok(())
    }

    fn derivative(&self) -> Derivative<'_> {
        Derivative::jvp(|at, tangent, out| self.simulate(at.initial, tangent, out, None))
    }

    fn pattern(&self) -> Pattern {
        Pattern::Sparse(vec![vec![0]])
    }
}

#[test]
fn a_simulator_that_denies_a_pair_it_couples_is_found_out() {
    let initial = Mat::zeros(4, 0);
    let right = |model: &dyn Simulator| {
        let control = Mat::from_fn(4, model.controls(), |s, j| (s + 3 * j) as f64 / 7.0 - 0.5);
        let comparisons = simulator(model, initial.as_ref(), control.as_ref(), 1).unwrap();
        comparisons.iter().all(|comparison| comparison.error <= TOLERANCE)
    };
    assert!(right(&Scaling::new(vec![1.0, 0.01, -3.0])));
    assert!(!right(&Denying));
}
