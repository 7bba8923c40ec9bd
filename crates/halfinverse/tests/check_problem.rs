//! The check of problems: closures in every unit, and any problem by its losses.

use halfinverse::check::{self, Comparison};
use halfinverse::faer::Mat;
use halfinverse::objective::SquaredError;
use halfinverse::problem::{At, Opaque, OpaqueProblem};
use halfinverse::{Problem, Samples, StepError};

fn wrong(comparisons: &[Comparison]) -> Vec<&'static str> {
    comparisons.iter().filter(|c| !c.right()).map(|c| c.what).collect()
}

/// y = (1e9·θ₀², 1e-9·θ₀θ₁, θ₂/3) at 4 samples, with derivatives that add where `adds`, the second outcome's times `slip`.
fn closures(slip: f64, adds: [bool; 2]) -> OpaqueProblem {
    fn block(theta: &[f64], slip: f64) -> [[f64; 3]; 3] {
        let second = slip * 1e-9;
        [[2e9 * theta[0], 0.0, 0.0], [second * theta[1], second * theta[0], 0.0], [0.0, 0.0, 1.0 / 3.0]]
    }
    let source = Opaque::new(3, 3, SquaredError { factor: 0.5 }, |theta, samples, mut y| {
        for s in 0..samples.len() {
            let values = [1e9 * theta[0] * theta[0], 1e-9 * theta[0] * theta[1], theta[2] / 3.0];
            (0..3).for_each(|c| y[(s, c)] = values[c]);
        }
        Ok(())
    })
    .with_jvp(move |theta, samples, v, mut out| {
        for (s, c) in (0..samples.len()).flat_map(|s| (0..3).map(move |c| (s, c))) {
            let before = if adds[0] { out[(s, c)] } else { 0.0 };
            out[(s, c)] =
                before + block(theta, slip)[c].iter().zip(v).map(|(entry, v)| entry * v).sum::<f64>();
        }
        Ok(())
    })
    .with_vjp(move |theta, samples, u, out| {
        if !adds[1] {
            out.fill(0.0);
        }
        for (s, c) in (0..samples.len()).flat_map(|s| (0..3).map(move |c| (s, c))) {
            (0..3).for_each(|j| out[j] += block(theta, slip)[c][j] * u[(s, c)]);
        }
        Ok(())
    });
    let target = Mat::from_fn(4, 3, |s, c| 0.1 * s as f64 + c as f64);
    OpaqueProblem::new(&source, Samples::new(Mat::zeros(4, 0), Mat::zeros(4, 0), target).unwrap()).unwrap()
}

#[test]
fn closures_are_checked_in_every_unit() {
    let found =
        |slip, adds, theta: &[f64]| wrong(&check::opaque(&mut closures(slip, adds), theta, 1).unwrap());
    for theta in [[1.0, 2.0, 3.0], [1e-9, 1e12, 1.0], [1e6, 0.0, 1e-9]] {
        assert!(found(1.0, [false; 2], &theta).is_empty(), "{theta:?}: {:?}", found(1.0, [false; 2], &theta));
        let slipped = found(1.001, [false; 2], &theta);
        assert!(slipped.ends_with(&["problem: J v", "problem: J^T u"]), "{theta:?}: {slipped:?}");
        assert!(found(1.0, [true, false], &theta).contains(&"problem: J v, called again"));
        let adding = found(1.0, [false, true], &theta);
        assert_eq!(adding, ["problem: gradient, called again", "problem: J^T u, called again"]);
    }
}

#[test]
fn any_problem_is_checked_by_its_losses() {
    /// The closures, with a factor of one entry of the gradient.
    struct Slipped(OpaqueProblem, f64);
    impl Problem for Slipped {
        fn parameters(&self) -> usize {
            3
        }

        fn loss(&mut self, theta: &[f64]) -> Result<f64, StepError> {
            self.0.loss(theta)
        }

        fn gradient(&mut self, theta: &[f64], gradient: &mut [f64]) -> Result<f64, StepError> {
            let loss = self.0.gradient(theta, gradient)?;
            gradient[1] *= self.1;
            Ok(loss)
        }

        fn linearize<'a>(&'a mut self, theta: &'a [f64]) -> Result<At<'a>, StepError> {
            self.0.linearize(theta)
        }
    }
    let theta = [1e-4, 1e12, 2.0];
    let found = |factor| {
        let mut slipped = Slipped(closures(1.0, [false; 2]), factor);
        wrong(&check::problem(&mut slipped, &theta, 1).unwrap())
    };
    assert!(found(1.0).is_empty(), "{:?}", found(1.0));
    assert_eq!(found(1.01), ["problem: gradient of the loss"]);
}
