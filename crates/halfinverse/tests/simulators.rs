//! Simulators against closed solutions, and the derivatives that follow from the one that an author wrote.

use faer::prelude::ReborrowMut;
use faer::{Mat, MatMut, MatRef};
use halfinverse::check::{TOLERANCE, simulator};
use halfinverse::simulator::{
    Derivative, Oscillators, OscillatorsSettings, Point, Simulator, SimulatorError,
};

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
        simulator.forward(initial.as_ref(), control.as_ref(), y.as_mut(), &mut []).unwrap();
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

#[test]
fn samples_do_not_see_each_other() {
    let simulator = Oscillators::new(OscillatorsSettings::default()).unwrap();
    let initial = Mat::from_fn(11, 4, |s, j| 0.1 * (s + 2 * j) as f64 % 1.0);
    let control = Mat::from_fn(11, 96, |s, t| ((s * t) as f64).sin());
    let mut together = Mat::zeros(11, 4);
    simulator.forward(initial.as_ref(), control.as_ref(), together.as_mut(), &mut []).unwrap();
    for s in 0..11 {
        let mut alone = Mat::zeros(1, 4);
        let (initial, control) = (initial.subrows(s, 1), control.subrows(s, 1));
        simulator.forward(initial, control, alone.as_mut(), &mut []).unwrap();
        for j in 0..4 {
            assert_eq!(alone[(0, j)], together[(s, j)], "sample {s}");
        }
    }
}

/// ∂y/∂z of y = (z₁², z₁z₂, sin z₃ + y₀).
fn partials(z: impl Fn(usize) -> f64) -> [[f64; 3]; 3] {
    [[2.0 * z(0), 0.0, 0.0], [z(1), z(0), 0.0], [0.0, 0.0, z(2).cos()]]
}

/// A simulator of that y with just the one derivative.
macro_rules! example {
    ($name:ident, $natural:expr, $($derivative:item)?) => {
        struct $name;
        impl Simulator for $name {
            fn controls(&self) -> usize { 3 }
            fn outcomes(&self) -> usize { 3 }
            fn initials(&self) -> usize { 1 }
            fn natural(&self) -> Derivative { $natural }
            fn forward(
                &self,
                initial: MatRef<'_, f64>,
                z: MatRef<'_, f64>,
                mut y: MatMut<'_, f64>,
                _: &mut [f64],
            ) -> Result<(), SimulatorError> {
                for s in 0..z.nrows() {
                    y[(s, 0)] = z[(s, 0)] * z[(s, 0)];
                    y[(s, 1)] = z[(s, 0)] * z[(s, 1)];
                    y[(s, 2)] = z[(s, 2)].sin() + initial[(s, 0)];
                }
                Ok(())
            }
            $($derivative)?
        }
    };
}

example!(
    ByJvp,
    Derivative::Jvp,
    fn jvp(&self, at: Point<'_>, t: MatRef<'_, f64>, mut out: MatMut<'_, f64>) -> Result<(), SimulatorError> {
        for s in 0..t.nrows() {
            let block = partials(|j| at.control[(s, j)]);
            for c in 0..3 {
                out[(s, c)] = (0..3).map(|j| block[c][j] * t[(s, j)]).sum();
            }
        }
        Ok(())
    }
);
example!(
    ByVjp,
    Derivative::Vjp,
    fn vjp(&self, at: Point<'_>, u: MatRef<'_, f64>, mut out: MatMut<'_, f64>) -> Result<(), SimulatorError> {
        for s in 0..u.nrows() {
            let block = partials(|j| at.control[(s, j)]);
            for j in 0..3 {
                out[(s, j)] = (0..3).map(|c| block[c][j] * u[(s, c)]).sum();
            }
        }
        Ok(())
    }
);
example!(
    ByBlock,
    Derivative::Block,
    fn block(&self, at: Point<'_>, mut out: MatMut<'_, f64>) -> Result<(), SimulatorError> {
        for s in 0..out.nrows() {
            let block = partials(|j| at.control[(s, j)]);
            for (c, row) in block.iter().enumerate() {
                for (j, &partial) in row.iter().enumerate() {
                    out.rb_mut()[(s, j * 3 + c)] = partial;
                }
            }
        }
        Ok(())
    }
);
example!(Forgetful, Derivative::Jvp,);

#[test]
fn any_one_derivative_is_enough() {
    let initial = Mat::from_fn(7, 1, |s, _| s as f64);
    let control = Mat::from_fn(7, 3, |s, j| 0.3 * s as f64 - 0.4 * j as f64 + 0.1);
    for example in [&ByJvp as &dyn Simulator, &ByVjp, &ByBlock] {
        for comparison in simulator(example, initial.as_ref(), control.as_ref(), 3).unwrap() {
            assert!(comparison.error <= TOLERANCE, "{:?}: {comparison:?}", example.natural());
        }
    }
}

#[test]
fn a_missing_derivative_is_an_error_and_no_endless_recursion() {
    let (initial, control) = (Mat::zeros(2, 1), Mat::zeros(2, 3));
    let error = simulator(&Forgetful, initial.as_ref(), control.as_ref(), 3).unwrap_err();
    assert_eq!(error, SimulatorError::Missing { natural: Derivative::Jvp });
}
