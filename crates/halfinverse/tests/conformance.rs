//! The tests that every simulator should pass, of each simulator that comes with the crate; and that they find what is
//! wrong.

use halfinverse::check::conformance::Trial;
use halfinverse::faer::{MatMut, MatRef};
use halfinverse::simulator::{
    Boundary, Derivative, Dipole, DipoleSettings, EquationsSettings, Method, Ode, Oscillators,
    OscillatorsSettings, Poisson, PoissonSettings, Scaling, Simulator, SimulatorError, Tape,
};

fn chain(masses: usize) -> Oscillators {
    let settings = OscillatorsSettings { masses, linear_coupling: 0.3, ..OscillatorsSettings::default() };
    Oscillators::new(settings).unwrap()
}

fn dipole() -> Dipole {
    Dipole::new(DipoleSettings { steps: 20, ..DipoleSettings::default() }).unwrap()
}

fn poisson(boundary: Boundary) -> Poisson {
    Poisson::new(PoissonSettings { width: 4, height: 3, boundary, ..PoissonSettings::default() }).unwrap()
}

fn pendulum(method: Method) -> Ode {
    let equations = ["angle' = rate", "rate' = -sin(angle) + u"].map(str::to_owned).to_vec();
    let controls = vec!["u".to_owned()];
    EquationsSettings { equations, controls, method, dt: 0.1, ..EquationsSettings::default() }.ode().unwrap()
}

mod oscillators {
    halfinverse::simulator_tests!(|| super::chain(2));
}

mod one_oscillator {
    halfinverse::simulator_tests!(|| super::chain(1));
}

mod many_oscillators {
    halfinverse::simulator_tests!(|| super::chain(5), initial = 0.0..1.0, control = -0.3..0.3);
}

mod dipoles {
    halfinverse::simulator_tests!(super::dipole);
}

mod poisson_zero {
    halfinverse::simulator_tests!(|| super::poisson(super::Boundary::Zero));
}

mod poisson_periodic {
    halfinverse::simulator_tests!(|| super::poisson(super::Boundary::Periodic));
}

mod scaling {
    halfinverse::simulator_tests!(|| super::Scaling::new(vec![1.0, 0.01, -3.0]));
}

mod equations_by_rk4 {
    halfinverse::simulator_tests!(|| super::pendulum(super::Method::Rk4));
}

mod equations_by_dopri5 {
    halfinverse::simulator_tests!(|| super::pendulum(super::Method::Dopri5));
}

mod equations_by_verlet {
    halfinverse::simulator_tests!(|| super::pendulum(super::Method::Verlet));
}

mod equations_by_implicit_midpoint {
    halfinverse::simulator_tests!(|| super::pendulum(super::Method::ImplicitMidpoint));
}

/// What is wrong with y = z².
#[derive(Clone, Copy, PartialEq)]
enum Flaw {
    Nothing,
    Derivative,
    /// The outcome is added to what was there.
    Adds,
    /// Every sample gets the outcome of the first.
    First,
    /// NaN becomes 0.
    HidesNan,
    FailsOnNone,
}

impl Simulator for Flaw {
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
        if *self == Self::FailsOnNone && z.nrows() == 0 {
            return Err(SimulatorError::new("there is nothing to simulate"));
        }
        for s in 0..z.nrows() {
            let z = z[(if *self == Self::First { 0 } else { s }, 0)];
            y[(s, 0)] = match self {
                Self::Adds => y[(s, 0)] + z * z,
                Self::HidesNan => (z * z).max(0.0),
                _ => z * z,
            };
        }
        Ok(())
    }

    fn derivative(&self) -> Derivative<'_> {
        Derivative::jvp(|at, tangent, mut out| {
            let factor = if *self == Self::Derivative { 2.1 } else { 2.0 };
            for s in 0..tangent.nrows() {
                out[(s, 0)] = factor * at.control[(s, 0)] * tangent[(s, 0)];
            }
            Ok(())
        })
    }
}

mod no_flaw {
    halfinverse::simulator_tests!(|| super::Flaw::Nothing);
}

#[test]
fn each_of_the_tests_finds_its_flaw() {
    let trial = |flaw: &Flaw| -> Vec<Result<(), String>> {
        let trial = Trial::new(flaw, 0.0..1.0, -1.0..1.0);
        vec![trial.same_again(), trial.derivatives(), trial.alone(), trial.nan(), trial.none()]
    };
    for (flaw, test, words) in [
        (Flaw::Adds, 0, "is NaN"),
        (Flaw::Derivative, 1, "simulator: jvp is off by"),
        (Flaw::First, 2, "alone, and"),
        (Flaw::HidesNan, 3, "is not seen in its outcome"),
        (Flaw::FailsOnNone, 4, "there is nothing to simulate"),
    ] {
        let said = trial(&flaw).swap_remove(test).unwrap_err();
        assert!(said.contains(words), "{said}");
    }
    assert!(trial(&Flaw::Nothing).iter().all(Result::is_ok));
}
