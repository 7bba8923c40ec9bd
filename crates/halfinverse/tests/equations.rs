//! Simulators from equations: expressions against Rust, methods against their order, derivatives against differences,
//! the paper's oscillators as equations against the built-in ones.

use std::collections::BTreeMap;
use std::f64::consts::PI;

use halfinverse::check;
use halfinverse::faer::{Mat, mat};
use halfinverse::optimizer::StepReport;
use halfinverse::simulator::{
    EquationsSettings, Hold, Method, ObserveAt, Ode, Pattern, RightHandSide, Scalar, Simulator, Tape,
    TimeGrid,
};
use halfinverse::task::{Registry, Settings, Task};
use halfinverse::training::{Flow, Observer, Progress, Row, StopSettings};

const METHODS: [Method; 4] = [Method::Rk4, Method::Dopri5, Method::Verlet, Method::ImplicitMidpoint];

fn texts(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|&line| line.to_owned()).collect()
}

fn numbers(pairs: &[(&str, f64)]) -> BTreeMap<String, f64> {
    pairs.iter().map(|&(name, value)| (name.to_owned(), value)).collect()
}

fn equations(lines: &[&str]) -> EquationsSettings {
    EquationsSettings { equations: texts(lines), controls: texts(&["u"]), ..EquationsSettings::default() }
}

fn outcome(ode: &dyn Simulator, initial: &Mat<f64>, control: &Mat<f64>) -> Mat<f64> {
    let mut outcome = Mat::zeros(control.nrows(), ode.outcomes());
    ode.simulate(initial.as_ref(), control.as_ref(), outcome.as_mut(), None).unwrap();
    outcome
}

/// The value of an expression of x and u.
fn value(expression: &str, x: f64, u: f64) -> f64 {
    let settings = EquationsSettings {
        observe: texts(&[expression]),
        constants: numbers(&[("k", 3.0), ("θ_1", 0.25)]),
        start: numbers(&[("other", 0.0)]),
        intervals: 1,
        // A control that drives nothing would be refused.
        ..equations(&["x' = 0", "other' = u"])
    };
    outcome(&settings.ode().unwrap(), &mat![[x]], &mat![[u]])[(0, 0)]
}

#[test]
fn expressions_have_the_values_and_the_precedence_that_mathematics_gives_them() {
    let (x, u) = (0.7_f64, -1.3_f64);
    let k = 3.0;
    for (text, expected) in [
        ("1 + 2*3 - 4/2", 5.0),
        ("-x^2", -x * x),
        ("(-x)^2", x * x),
        ("2^3^2", 512.0),
        ("2^-1", 0.5),
        ("x - u - k", x - u - k),
        ("x/u/k", x / u / k),
        ("x/(u/k)", x / (u / k)),
        ("-x*u", -x * u),
        ("--x", x),
        ("+x - -u", x + u),
        ("x^k", x.powi(3)),
        ("k^x", k.powf(x)),
        ("x^0.5", x.sqrt()),
        ("x^-3", x.powi(-3)),
        ("x^0", 1.0),
        ("u^7", u.powi(7)),
        ("1e2*x + 1.5E-1 + .5 + 2.", 100.0 * x + 2.65),
        ("sin(x) + cos(x)*tan(x)", 2.0 * x.sin()),
        ("asin(x) + acos(x)", PI / 2.0),
        ("atan(u) + atan2(u, x)", u.atan() + u.atan2(x)),
        ("sinh(x) + cosh(x)", x.exp()),
        ("tanh(x)", x.tanh()),
        ("exp(ln(x))", x),
        ("log10(x)", x.log10()),
        ("sqrt(x)", x.sqrt()),
        ("abs(u) + sign(u) + sign(0)", -u - 1.0),
        ("min(x, u) - max(x, u)", u - x),
        ("θ_1 * pi", 0.25 * PI),
        ("t", 0.05),
    ] {
        let found = value(text, x, u);
        assert!(
            (found - expected).abs() <= 1e-14 * expected.abs().max(1.0),
            "{text}: {found}, not {expected}"
        );
    }
}

#[test]
fn the_derivative_of_every_function_is_right() {
    for text in [
        "x*u",
        "x/u",
        "u^3",
        "u^-2",
        "u^x",
        "x^u",
        "2^u",
        "sin(u)",
        "cos(u)",
        "tan(u)",
        "asin(u)",
        "acos(u)",
        "atan(u)",
        "sinh(u)",
        "cosh(u)",
        "tanh(u)",
        "exp(u)",
        "ln(u)",
        "log10(u)",
        "sqrt(u)",
        "abs(u - 0.6)",
        "min(u, 0.5)",
        "max(u, 0.5)",
        "atan2(u, x)",
        "atan2(x, u)",
        "u - x*u + u",
        "-u*-x",
        "(2*u)*3",
        "sin(u)^2 + cos(u)^2 + u",
        "sqrt(u*u + x*x)/(1 + exp(-u))",
    ] {
        let settings = EquationsSettings {
            equations: texts(&["x' = u"]),
            observe: texts(&[text]),
            dt: 0.1,
            intervals: 2,
            ..equations(&[])
        };
        let control = Mat::from_fn(5, 2, |s, j| 0.2 + 0.13 * s as f64 + 0.07 * j as f64);
        let initial = Mat::from_fn(5, 1, |s, _| 0.3 + 0.1 * s as f64);
        for comparison in
            check::simulator(&settings.ode().unwrap(), initial.as_ref(), control.as_ref(), 1).unwrap()
        {
            assert!(comparison.right(), "{text}: {comparison:?}");
        }
    }
}

/// x″ = −x + u/2 + sin t: closed solution for constant u from (1, 0).
fn driven(method: Method, steps: usize) -> f64 {
    let settings = EquationsSettings {
        method,
        intervals: 1,
        steps,
        dt: 3.0 / steps as f64,
        ..equations(&["x' = v", "v' = -x + u/2 + sin(t)"])
    };
    let found = outcome(&settings.ode().unwrap(), &mat![[1.0, 0.0]], &mat![[0.8]]);
    let t = 3.0_f64;
    // The resonant part is (sin t − t cos t)/2.
    let x = 0.4 + 0.6 * t.cos() + 0.5 * (t.sin() - t * t.cos());
    let v = -0.6 * t.sin() + 0.5 * t * t.sin();
    (found[(0, 0)] - x).hypot(found[(0, 1)] - v)
}

#[test]
fn every_method_has_its_order() {
    for (method, order) in METHODS.into_iter().zip([4.0, 5.0, 2.0, 2.0]) {
        let found = (driven(method, 40) / driven(method, 80)).log2();
        assert!((found - order).abs() < 0.15, "{method:?}: {found}");
    }
}

#[test]
fn symplectic_methods_keep_the_energy_of_a_pendulum() {
    for method in [Method::Verlet, Method::ImplicitMidpoint] {
        let settings = EquationsSettings {
            method,
            intervals: 1,
            steps: 2000,
            dt: 0.1,
            ..equations(&["rate' = -sin(angle) + u", "angle' = rate"])
        };
        let ode = settings.ode().unwrap();
        let states = ode.trajectory(mat![[0.0, 1.0]].as_ref(), mat![[0.0]].as_ref()).unwrap().states;
        let energy = |state: &[f64]| 0.5 * state[0] * state[0] - state[1].cos();
        let drift = (energy(&states[2000]) - energy(&states[0])).abs();
        assert!(drift < 2e-3, "{method:?}: {drift:e}");
    }
}

#[test]
fn implicit_midpoint_stands_a_stiff_decay_and_says_where_newton_fails() {
    let stiff = EquationsSettings { dt: 0.1, ..equations(&["x' = -1e5*(x - cos(t)) + u"]) };
    let control = Mat::zeros(1, 20);
    let explicit = outcome(&stiff.ode().unwrap(), &mat![[1.0]], &control)[(0, 0)];
    assert!(explicit.is_nan() || explicit.abs() > 1e9, "Runge–Kutta is unstable here: {explicit}");
    let implicit = EquationsSettings { method: Method::ImplicitMidpoint, ..stiff }.ode().unwrap();
    let found = outcome(&implicit, &mat![[1.0]], &control)[(0, 0)];
    assert!((found - 2.0_f64.cos()).abs() < 0.02, "{found}");

    // x = 1 + h/2·(x² + 1) has no real solution for h = 2.
    let none = EquationsSettings {
        method: Method::ImplicitMidpoint,
        dt: 2.0,
        intervals: 1,
        ..equations(&["x' = x^2 + 1 + u"])
    };
    let mut out = Mat::zeros(2, 1);
    let (initial, control) = (mat![[-5.0], [1.0]], Mat::zeros(2, 1));
    let error =
        none.ode().unwrap().simulate(initial.as_ref(), control.as_ref(), out.as_mut(), None).unwrap_err();
    let said = error.to_string();
    assert!(
        said.starts_with("the simulation of sample 1 failed: Newton's method finds no implicit step"),
        "{said}"
    );
    assert!(said.contains("from t = 0") && said.contains("a smaller simulator.dt"), "{said}");
}

/// The cubic pair of the paper in Rust.
struct Pair {
    c: f64,
}

impl RightHandSide for Pair {
    fn states(&self) -> usize {
        4
    }

    fn controls(&self) -> usize {
        1
    }

    fn rhs<S: Scalar>(&self, x: &[S], u: &[S], _: S, out: &mut [S]) {
        let force = (x[1] - x[0]).powi(3) * self.c;
        out[0] = x[2];
        out[1] = x[3];
        out[2] = force - x[0];
        out[3] = u[0] * 3.0 - x[1] - force;
    }
}

fn pair() -> (Ode, Ode) {
    let grid = TimeGrid { dt: 0.125, intervals: 96, ..TimeGrid::default() };
    let settings = EquationsSettings {
        constants: numbers(&[("c", 1.0)]),
        dt: 0.125,
        intervals: 96,
        ..equations(&["x1' = v1", "x2' = v2", "v1' = c*(x2 - x1)^3 - x1", "v2' = 3*u - x2 - c*(x2 - x1)^3"])
    };
    (Ode::new(&Pair { c: 1.0 }, grid).unwrap(), settings.ode().unwrap())
}

#[test]
fn a_function_in_rust_gives_what_the_same_equations_give() {
    let (rust, text) = pair();
    let initial = Mat::from_fn(37, 4, |s, j| ((s + 3 * j) as f64).sin());
    let control = Mat::from_fn(37, 96, |s, j| ((2 * s + j) as f64).cos());
    let (one, other) = (outcome(&rust, &initial, &control), outcome(&text, &initial, &control));
    for s in 0..37 {
        for c in 0..4 {
            assert!((one[(s, c)] - other[(s, c)]).abs() < 1e-12, "sample {s}");
        }
    }
}

#[test]
fn a_right_hand_side_that_is_not_written_shows() {
    struct Forgetful;
    impl RightHandSide for Forgetful {
        fn states(&self) -> usize {
            2
        }
        fn controls(&self) -> usize {
            1
        }
        fn rhs<S: Scalar>(&self, x: &[S], u: &[S], _: S, out: &mut [S]) {
            out[0] = x[0] * 0.5 + u[0];
        }
    }
    let ode = Ode::new(&Forgetful, TimeGrid::default()).unwrap();
    let found = outcome(&ode, &Mat::zeros(1, 2), &Mat::zeros(1, 20));
    assert!(found[(0, 1)].is_nan());
}

#[test]
fn names_of_expressions_starts_and_observations_mean_what_they_say() {
    let settings = EquationsSettings {
        start: numbers(&[("effort", 0.5)]),
        observe: texts(&["distance", "effort", "u"]),
        observe_at: ObserveAt::Intervals,
        dt: 0.25,
        intervals: 3,
        steps: 2,
        ..equations(&["distance = x - 1", "x' = u", "effort' = u^2"])
    };
    let ode = settings.ode().unwrap();
    assert_eq!((ode.initials(), ode.controls(), ode.outcomes()), (1, 3, 9));
    assert_eq!(settings.states(), ["x", "effort"]);
    let found = outcome(&ode, &mat![[2.0]], &mat![[1.0, -2.0, 3.0]]);
    let expected = [1.5, 1.0, 1.0, 0.5, 3.0, -2.0, 2.0, 7.5, 3.0];
    for (c, expected) in expected.into_iter().enumerate() {
        assert!((found[(0, c)] - expected).abs() < 1e-14, "outcome {c}: {}", found[(0, c)]);
    }
    let Pattern::Sparse(pattern) = ode.pattern() else { panic!("no outcome depends on a later control") };
    assert_eq!(pattern[1], [3, 4, 5, 6, 7, 8]);
}

#[test]
fn verlet_is_refused_where_the_equations_have_another_form() {
    for (lines, words) in [
        (["x' = v", "v' = -x - 0.1*v + u"], "equation 1 depends on a velocity"),
        (["x' = 2*v", "v' = -x + u"], "equation 0 has no partner"),
        (["x' = -x", "v' = v + u"], "equation 0 has no partner"),
    ] {
        let settings = EquationsSettings { method: Method::Verlet, ..equations(&lines) };
        let said = settings.ode().unwrap_err().to_string();
        assert!(said.contains("`method` does not fit: verlet needs") && said.contains(words), "{said}");
    }
}

/// Several states and controls, time, a kink and an observation of the control.
fn tangled(method: Method, observe_at: ObserveAt, hold: Hold) -> Ode {
    let damping = if method == Method::Verlet { "" } else { " - 0.3*v*abs(v)" };
    let settings = EquationsSettings {
        controls: texts(&["u", "w"]),
        constants: numbers(&[("k", 2.0)]),
        start: numbers(&[("q", 0.2)]),
        observe: texts(&["x*v", "q", "p + u*w"]),
        observe_at,
        hold,
        method,
        dt: 0.1,
        intervals: 4,
        steps: 3,
        ..equations(&[
            "x' = v",
            "pull = k*(q - x)",
            &format!("v' = pull + u*cos(t){damping}"),
            "q' = p",
            "p' = -pull + w*exp(-q^2) - sin(u)",
        ])
    };
    settings.ode().unwrap()
}

#[test]
fn every_method_has_exact_derivatives_in_both_directions() {
    for method in METHODS {
        let all = [ObserveAt::End, ObserveAt::Intervals].map(|at| [(at, Hold::Interval), (at, Hold::Whole)]);
        for (observe_at, hold) in all.into_iter().flatten() {
            let ode = tangled(method, observe_at, hold);
            let initial = Mat::from_fn(9, 3, |s, j| 0.1 + 0.2 * ((s + 2 * j) as f64).sin());
            let control = Mat::from_fn(9, ode.controls(), |s, j| 0.7 * ((3 * s + j) as f64).cos());
            let comparisons = check::simulator(&ode, initial.as_ref(), control.as_ref(), 3).unwrap();
            assert!(comparisons.iter().any(|comparison| comparison.what == "simulator: jvp"));
            for comparison in comparisons {
                assert!(comparison.right(), "{method:?}, {observe_at:?}, {hold:?}: {comparison:?}");
            }
        }
    }
}

/// Losses of the mini-batches.
#[derive(Default)]
struct Losses(Vec<f64>);

impl Observer for Losses {
    fn step(&mut self, _: &Progress<'_>, report: &StepReport) -> Flow {
        self.0.push(report.loss);
        Flow::Continue
    }

    fn row(&mut self, _: &Progress<'_>, _: &Row) -> std::io::Result<()> {
        Ok(())
    }
}

fn losses(mut settings: Settings, registry: &Registry) -> Vec<f64> {
    settings.training.threads = 1;
    settings.data.test = 8;
    settings.stop = StopSettings { steps: Some(50), ..StopSettings::default() };
    let mut losses = Losses::default();
    Task::with(settings, registry).unwrap().trainer(None).unwrap().run(&mut losses).unwrap();
    losses.0
}

#[test]
fn the_papers_oscillators_as_equations_train_as_the_built_in_ones_do() {
    let registry = Registry::standard().task(include_str!("data/oscillators-as-equations.toml")).unwrap();
    for optimizer in ["hig", "adam"] {
        let settings = |task: &str| {
            let mut settings = registry.settings(task, optimizer).unwrap();
            settings.training.batch = 128;
            if optimizer == "hig" {
                // What the Gram matrix makes of round-off in its small eigenvalues is more than 1e-10.
                settings.optimizer.settings.insert("solver".to_owned(), "krylov:16".into());
            }
            settings
        };
        let built_in = losses(settings("oscillators"), &registry);
        let equations = losses(settings("oscillators-as-equations"), &registry);
        assert_eq!((built_in.len(), equations.len()), (50, 50));
        for (step, (one, other)) in built_in.iter().zip(&equations).enumerate() {
            let off = (one / other - 1.0).abs();
            assert!(off < 1e-10, "{optimizer}, step {step}: {one} and {other}, {off:e}");
        }
    }
}

#[test]
fn a_tape_holds_as_many_numbers_as_the_forecast_says() {
    for samples in [1, 8, 9, 32, 40] {
        let ode = tangled(Method::ImplicitMidpoint, ObserveAt::End, Hold::Interval);
        let mut tape = Tape::default();
        let (initial, control) = (Mat::zeros(samples, 3), Mat::zeros(samples, 8));
        let mut out = Mat::zeros(samples, 3);
        ode.simulate(initial.as_ref(), control.as_ref(), out.as_mut(), Some(&mut tape)).unwrap();
        assert_eq!(tape.numbers().len(), ode.tape_len(samples));
        assert!(tape.numbers().len() >= samples * 12 * 16);
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in r"([a-z0-9+*/^()., '=-]|sin\(|x|u){0,40}", strange in r"\PC{0,40}") {
        for text in [text, strange] {
            for line in [text.clone(), format!("x' = {text}")] {
                let said = equations(&[&line, "other' = u"]).ode().map(drop).map_err(|error| error.to_string());
                proptest::prop_assert!(said.err().is_none_or(|said| said.contains("equations")));
            }
        }
    }
}
