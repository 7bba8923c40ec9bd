//! Robertson's kinetics against the published solution; the tests that every simulator passes; what is refused.

use halfinverse::faer::Mat;
use halfinverse::simulator::{Hold, ObserveAt, RightHandSide, Scalar, Simulator, Tape};
use halfinverse_diffsol::{Schedule, Stiff};

/// A → B, 2 B → B + C, B + C → A + C with the controls' exponentials as factors of the rates.
#[derive(Debug)]
struct Robertson;

impl RightHandSide for Robertson {
    fn states(&self) -> usize {
        3
    }
    fn controls(&self) -> usize {
        2
    }
    fn rhs<S: Scalar>(&self, x: &[S], u: &[S], _: S, out: &mut [S]) {
        let slow = x[0] * u[0].exp() * 0.04;
        let (fast, back) = (x[1] * x[1] * u[1].exp() * 3e7, x[1] * x[2] * 1e4);
        out[0] = back - slow;
        out[1] = slow - back - fast;
        out[2] = fast;
    }
    fn observed(&self) -> usize {
        2
    }
    /// A, and B in units in which it is of the size of 1; the control that is observed too has a derivative of its own.
    fn observe<S: Scalar>(&self, x: &[S], u: &[S], _: S, out: &mut [S]) {
        out[0] = x[0];
        out[1] = x[1] * 1e4 + u[1] * u[1];
    }
}

fn robertson(hold: Hold, observe_at: ObserveAt) -> Stiff<Robertson> {
    let (relative, absolute) = (1e-12, vec![1e-12, 1e-14, 1e-12]);
    let schedule = Schedule { hold, observe_at, relative, absolute, ..Schedule::ends([0.4, 4.0, 40.0]) };
    Stiff::new(Robertson, schedule).expect("good settings")
}

mod a_control_for_each_interval {
    halfinverse::simulator_tests!(
        || super::robertson(super::Hold::Interval, super::ObserveAt::Intervals),
        initial = 0.0..1.0,
        control = -1.0..1.0
    );
}

mod what_is_observed_at_the_end {
    halfinverse::simulator_tests!(
        || super::robertson(super::Hold::Interval, super::ObserveAt::End),
        initial = 0.0..1.0,
        control = -1.0..1.0
    );
}

mod a_control_for_the_whole_time {
    halfinverse::simulator_tests!(
        || super::robertson(super::Hold::Whole, super::ObserveAt::Intervals),
        initial = 0.0..1.0,
        control = -1.0..1.0
    );
}

/// Hairer and Wanner's problem, with the values that CVODE's documentation prints.
#[test]
fn robertsons_solution_is_the_published_one() {
    for hold in [Hold::Interval, Hold::Whole] {
        let robertson = robertson(hold, ObserveAt::Intervals);
        let initial = Mat::from_fn(1, 3, |_, i| if i == 0 { 1.0 } else { 0.0 });
        let control = Mat::zeros(1, robertson.controls());
        let mut y = Mat::zeros(1, 6);
        robertson.simulate(initial.as_ref(), control.as_ref(), y.as_mut(), None).expect("a solution");
        let published = [9.851_641e-1, 3.386_242e-1, 9.055_097e-1, 2.240_338e-1, 7.158_017e-1, 9.185_037e-2];
        for (c, published) in published.into_iter().enumerate() {
            // The printed values themselves have a tolerance of 1e-4 behind them.
            assert!(
                (y[(0, c)] - published).abs() < 5e-5,
                "{hold:?}, outcome {c}: {} for {published}",
                y[(0, c)]
            );
        }
        let fixed = Schedule { start: vec![1.0, 0.0, 0.0], ..robertson.schedule().clone() };
        let fixed = Stiff::new(Robertson, fixed).expect("good settings");
        let mut same = Mat::zeros(1, 6);
        assert_eq!(fixed.initials(), 0);
        fixed.simulate(Mat::zeros(1, 0).as_ref(), control.as_ref(), same.as_mut(), None).expect("a solution");
        assert_eq!(y, same);
        let path = robertson.trajectory(initial.as_ref(), control.as_ref(), 4).expect("a path");
        assert_eq!(path.times.len(), 13);
        assert!((path.states[12][0] - y[(0, 4)]).abs() < 1e-8);
    }
}

/// x′ = x²: from 2 on there is no solution at 1; from ½ on there is.
struct Blows;

impl RightHandSide for Blows {
    fn states(&self) -> usize {
        1
    }
    fn controls(&self) -> usize {
        1
    }
    fn rhs<S: Scalar>(&self, x: &[S], u: &[S], _: S, out: &mut [S]) {
        out[0] = x[0] * x[0] + u[0];
    }
}

#[test]
fn a_sample_without_a_solution_is_named() {
    let blows = Stiff::new(Blows, Schedule::ends([1.0])).expect("good settings");
    let (initial, control) = (Mat::from_fn(2, 1, |s, _| [0.5, 2.0][s]), Mat::zeros(2, 1));
    for mut tape in [None, Some(Tape::default())] {
        let found =
            blows.simulate(initial.as_ref(), control.as_ref(), Mat::zeros(2, 1).as_mut(), tape.as_mut());
        assert_eq!(found.expect_err("no solution").sample, Some(1));
    }
}

#[test]
fn bad_settings_are_refused_by_name() {
    let good = Schedule::ends([1.0, 2.0]);
    for (named, bad) in [
        ("times", Schedule { times: vec![], ..good.clone() }),
        ("times", Schedule { times: vec![1.0, 1.0], ..good.clone() }),
        ("times", Schedule { times: vec![f64::NAN], ..good.clone() }),
        ("relative", Schedule { relative: 0.0, ..good.clone() }),
        ("absolute", Schedule { absolute: vec![1e-8, 0.0, 1e-8], ..good.clone() }),
        ("absolute", Schedule { absolute: vec![1e-8, 1e-8], ..good.clone() }),
        ("start", Schedule { start: vec![1.0, 0.0], ..good.clone() }),
        ("start", Schedule { start: vec![1.0, f64::INFINITY, 0.0], ..good.clone() }),
    ] {
        let error = Stiff::new(Robertson, bad).expect_err(named).to_string();
        assert!(error.contains(named), "{error}");
    }
}
