//! The tests that every simulator should pass, one function each; [`simulator_tests!`](crate::simulator_tests) makes
//! tests of them.
//!
//! A test draws eleven samples with a seed of its own. What is wrong comes back as a sentence.

use std::ops::Range;

use faer::{Mat, MatRef};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Comparison, simulator as compare};
use crate::simulator::{Point, Simulator, SimulatorError, Tape};

/// Makes tests of a simulator: of its outcome, every derivative, the independence of samples and chunks, NaN, and no
/// samples.
///
/// The first argument makes the simulator. Initial states and controls are drawn from the intervals given, or from
/// [−1, 1). Put it into a module of its own where there are several.
///
/// # Example
/// ```
/// # use halfinverse::simulator::Scaling;
/// mod scaling {
///     # use halfinverse::simulator::Scaling;
///     halfinverse::simulator_tests!(|| Scaling::new(vec![1.0, 0.01]));
/// }
/// mod scaling_far_out {
///     # use halfinverse::simulator::Scaling;
///     halfinverse::simulator_tests!(|| Scaling::new(vec![2.0]), initial = 0.0..1.0, control = -9.0..9.0);
/// }
/// ```
#[macro_export]
macro_rules! simulator_tests {
    ($make:expr) => {
        $crate::simulator_tests!($make, initial = -1.0..1.0, control = -1.0..1.0);
    };
    ($make:expr, initial = $initial:expr, control = $control:expr) => {
        $crate::simulator_tests!(@test $make, $initial, $control;
            outcome_is_the_same_when_called_again: same_again,
            every_derivative_is_right: derivatives,
            samples_do_not_see_each_other: alone,
            nan_stays_in_its_sample: nan,
            no_samples_are_no_fault: none);
    };
    (@test $make:expr, $initial:expr, $control:expr; $($name:ident: $function:ident),*) => {
        $(
            #[test]
            fn $name() {
                let found = $crate::check::conformance::run($make, $initial, $control, |trial| trial.$function());
                if let Err(fault) = found {
                    panic!("{fault}");
                }
            }
        )*
    };
}

/// Samples that a test draws.
const SAMPLES: usize = 11;
/// The one that a test spoils.
const SPOILT: usize = 4;
/// Difference, relative to the largest outcome, that the order of a sum may make.
const ROUND_OFF: f64 = 1e-12;

/// Makes a simulator, draws samples and runs a test.
///
/// # Errors
/// What the test finds.
pub fn run<S: Simulator>(
    make: impl FnOnce() -> S,
    initial: Range<f64>,
    control: Range<f64>,
    test: impl Fn(&Trial<'_>) -> Result<(), String>,
) -> Result<(), String> {
    test(&Trial::new(&make(), initial, control))
}

/// A simulator with samples to try it on.
pub struct Trial<'a> {
    simulator: &'a dyn Simulator,
    initial: Mat<f64>,
    control: Mat<f64>,
}

impl<'a> Trial<'a> {
    /// Draws initial states and controls from the intervals.
    pub fn new(simulator: &'a dyn Simulator, initial: Range<f64>, control: Range<f64>) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut draw = |columns: usize, range: &Range<f64>| {
            Mat::from_fn(SAMPLES, columns, |_, _| {
                range.start + (range.end - range.start) * rng.random::<f64>()
            })
        };
        let initial = draw(simulator.initials(), &initial);
        let control = draw(simulator.controls(), &control);
        Self { simulator, initial, control }
    }

    /// The outcome of some samples, written over NaN.
    fn outcome(
        &self,
        initial: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
        tape: Option<&mut Tape>,
    ) -> Result<Mat<f64>, SimulatorError> {
        let mut outcome = Mat::from_fn(control.nrows(), self.simulator.outcomes(), |_, _| f64::NAN);
        self.simulator.simulate(initial, control, outcome.as_mut(), tape)?;
        Ok(outcome)
    }

    fn usual(&self) -> Result<Mat<f64>, String> {
        let outcome = self.outcome(self.initial.as_ref(), self.control.as_ref(), None);
        let outcome =
            outcome.map_err(|error| format!("{error}; give intervals in which it does not fail"))?;
        match first(&outcome, |s, c| !outcome[(s, c)].is_finite()) {
            Some([s, c]) => Err(format!(
                "outcome {c} of sample {s} is {}; give intervals in which it is finite",
                outcome[(s, c)]
            )),
            None => Ok(outcome),
        }
    }

    /// Whether the outcome has the same bits when it is called again, with a tape and with a used one.
    ///
    /// # Errors
    /// What differs.
    pub fn same_again(&self) -> Result<(), String> {
        let usual = self.usual()?;
        let mut tape = Tape::default();
        for what in ["called again", "with a tape", "with a used tape"] {
            let tape = Some(&mut tape).filter(|_| what != "called again");
            let outcome = self.outcome(self.initial.as_ref(), self.control.as_ref(), tape);
            let outcome = outcome.map_err(|error| format!("{what}: {error}"))?;
            if let Some([s, c]) = first(&usual, |s, c| usual[(s, c)] != outcome[(s, c)]) {
                let [usual, other] = [&usual, &outcome].map(|outcome| outcome[(s, c)]);
                return Err(format!("{what}, outcome {c} of sample {s} is {other}, and was {usual}"));
            }
        }
        Ok(())
    }

    /// Whether every derivative agrees with differences, by [`check::simulator`](crate::check::simulator()).
    ///
    /// # Errors
    /// The comparison that fails.
    pub fn derivatives(&self) -> Result<(), String> {
        let comparisons = compare(self.simulator, self.initial.as_ref(), self.control.as_ref(), 1);
        let comparisons = comparisons.map_err(|error| error.to_string())?;
        match comparisons.iter().find(|comparison| !comparison.right()) {
            Some(Comparison { what, error, place, .. }) => {
                Err(format!("{what} is off by {error:.1e}: {place}"))
            }
            None => Ok(()),
        }
    }

    /// Whether a sample has the same outcome alone as among others, to round-off.
    ///
    /// # Errors
    /// What differs.
    pub fn alone(&self) -> Result<(), String> {
        let usual = self.usual()?;
        let size = largest(&usual);
        for s in 0..SAMPLES {
            let alone = self.outcome(self.initial.subrows(s, 1), self.control.subrows(s, 1), None);
            let alone = alone.map_err(|error| format!("sample {s} alone: {error}"))?;
            let off = |_, c: usize| differ(alone[(0, c)], usual[(s, c)], size);
            if let Some([_, c]) = first(&alone, off) {
                let [alone, usual] = [alone[(0, c)], usual[(s, c)]];
                return Err(format!("outcome {c} of sample {s} is {alone} alone, and {usual} among others"));
            }
        }
        Ok(())
    }

    /// Whether NaN in the controls, then in the initial state, of one sample is an error that names it, or spoils its
    /// outcome and no other; derivatives there must not panic.
    ///
    /// # Errors
    /// What is wrong.
    pub fn nan(&self) -> Result<(), String> {
        let usual = self.usual()?;
        let spoilt = |matrix: &Mat<f64>| {
            Mat::from_fn(SAMPLES, matrix.ncols(), |s, j| if s == SPOILT { f64::NAN } else { matrix[(s, j)] })
        };
        let cases = [
            ("controls", self.initial.clone(), spoilt(&self.control)),
            ("initial state", spoilt(&self.initial), self.control.clone()),
        ];
        for (what, initial, control) in cases {
            let mut tape = Tape::default();
            let outcome = match self.outcome(initial.as_ref(), control.as_ref(), Some(&mut tape)) {
                Ok(outcome) => outcome,
                Err(SimulatorError { sample: Some(SPOILT) | None, .. }) => continue,
                Err(error) => return Err(format!("NaN in the {what} of sample {SPOILT}: {error}")),
            };
            let size = largest(&usual);
            let off = |s: usize, c: usize| s != SPOILT && differ(outcome[(s, c)], usual[(s, c)], size);
            if let Some([s, c]) = first(&usual, off) {
                return Err(format!(
                    "NaN in the {what} of sample {SPOILT} changes outcome {c} of sample {s}"
                ));
            }
            let hidden = (0..outcome.ncols()).all(|c| outcome[(SPOILT, c)].is_finite());
            if what == "controls" && hidden {
                return Err(format!("NaN in the controls of sample {SPOILT} is not seen in its outcome"));
            }
            self.derive(initial.as_ref(), control.as_ref(), &tape);
        }
        Ok(())
    }

    /// Whether no samples at all are simulated and derived without an error.
    ///
    /// # Errors
    /// The simulator's.
    pub fn none(&self) -> Result<(), String> {
        let (initial, control) = (self.initial.subrows(0, 0), self.control.subrows(0, 0));
        let mut tape = Tape::default();
        let outcome = self.outcome(initial, control, Some(&mut tape));
        outcome.map_err(|error| format!("no samples: {error}"))?;
        self.derive(initial, control, &tape);
        Ok(())
    }

    /// Calls every derivative; what they say is not looked at.
    fn derive(&self, initial: MatRef<'_, f64>, control: MatRef<'_, f64>, tape: &Tape) {
        let (b, q, m) = (control.nrows(), self.simulator.controls(), self.simulator.outcomes());
        let (mut y, mut z, mut block) = (Mat::full(b, m, 1.0), Mat::full(b, q, 1.0), Mat::zeros(b, q * m));
        let at = Point { initial, control, tape };
        let derivative = self.simulator.derivative();
        let _ = derivative.fill_block(self.simulator, at, block.as_mut());
        let _ = derivative.apply(at, z.as_ref(), y.as_mut());
        let _ = derivative.apply_transpose(self.simulator, at, y.as_ref(), z.as_mut());
    }
}

/// Whether two numbers differ by more than round-off, or one is NaN.
fn differ(a: f64, b: f64, size: f64) -> bool {
    let off = (a - b).abs();
    off > ROUND_OFF * size || off.is_nan()
}

fn largest(outcome: &Mat<f64>) -> f64 {
    (0..outcome.ncols()).flat_map(|c| outcome.col_as_slice(c)).fold(0.0, |most, y| most.max(y.abs()))
}

/// The first sample and component of which something is true.
fn first(outcome: &Mat<f64>, is: impl Fn(usize, usize) -> bool) -> Option<[usize; 2]> {
    (0..outcome.nrows()).find_map(|s| (0..outcome.ncols()).find(|&c| is(s, c)).map(|c| [s, c]))
}
