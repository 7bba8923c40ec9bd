//! All 27 sets of NIST's Statistical Reference Datasets for nonlinear regression, from the second start: least squares
//! with certified answers, many of them badly scaled. A set is solved if every parameter
//! agrees with its certified value to 4 digits: a relative 5e-5.

#[path = "common/strd.rs"]
mod strd;

use std::f64::consts::PI;
use std::ops::{Add, Div, Mul, Neg, Sub};

use halfinverse::objective::SquaredError;
use halfinverse::optimizer::{
    Lbfgs, LbfgsSettings, LevenbergMarquardt, LevenbergMarquardtSettings, Optimizer, Scaling,
};
use halfinverse::problem::{Opaque, OpaqueProblem};
use strd::Set;

/// A value and its derivative along one direction: with differences in its place the digits would end at six.
#[derive(Clone, Copy)]
struct Dual {
    value: f64,
    slope: f64,
}

impl Dual {
    fn of(self, value: f64, derivative: f64) -> Self {
        Self { value, slope: derivative * self.slope }
    }

    fn exp(self) -> Self {
        self.of(self.value.exp(), self.value.exp())
    }

    fn ln(self) -> Self {
        self.of(self.value.ln(), 1.0 / self.value)
    }

    fn sin(self) -> Self {
        self.of(self.value.sin(), self.value.cos())
    }

    fn cos(self) -> Self {
        self.of(self.value.cos(), -self.value.sin())
    }

    fn atan(self) -> Self {
        self.of(self.value.atan(), 1.0 / (1.0 + self.value * self.value))
    }

    fn square(self) -> Self {
        self * self
    }

    /// Of a positive number.
    fn pow(self, exponent: impl Into<Dual>) -> Self {
        (exponent.into() * self.ln()).exp()
    }
}

impl From<f64> for Dual {
    fn from(value: f64) -> Self {
        Self { value, slope: 0.0 }
    }
}

impl<T: Into<Dual>> Add<T> for Dual {
    type Output = Self;

    fn add(self, other: T) -> Self {
        let other = other.into();
        Self { value: self.value + other.value, slope: self.slope + other.slope }
    }
}

impl<T: Into<Dual>> Mul<T> for Dual {
    type Output = Self;

    fn mul(self, other: T) -> Self {
        let other = other.into();
        let slope = self.slope * other.value + self.value * other.slope;
        Self { value: self.value * other.value, slope }
    }
}

impl Neg for Dual {
    type Output = Self;

    fn neg(self) -> Self {
        self.of(-self.value, -1.0)
    }
}

impl<T: Into<Dual>> Sub<T> for Dual {
    type Output = Self;

    fn sub(self, other: T) -> Self {
        self + -other.into()
    }
}

impl<T: Into<Dual>> Div<T> for Dual {
    type Output = Self;

    fn div(self, other: T) -> Self {
        let other = other.into();
        let inverse = other.of(1.0 / other.value, -1.0 / (other.value * other.value));
        Self { value: self.value / other.value, slope: (self * inverse).slope }
    }
}

/// From parameters and predictors to the response.
type Curve = fn(&[Dual], &[f64]) -> Dual;

fn rise(b: &[Dual], x: &[f64]) -> Dual {
    b[0] * (-(-b[1] * x[0]).exp() + 1.0)
}

fn chwirut(b: &[Dual], x: &[f64]) -> Dual {
    (-b[0] * x[0]).exp() / (b[1] + b[2] * x[0])
}

fn gauss(b: &[Dual], x: &[f64]) -> Dual {
    let bell = |b: &[Dual]| b[0] * (-(b[1] - x[0]).square() / b[2].square()).exp();
    b[0] * (-b[1] * x[0]).exp() + bell(&b[2..5]) + bell(&b[5..8])
}

fn lanczos(b: &[Dual], x: &[f64]) -> Dual {
    let decay = |b: &[Dual]| b[0] * (-b[1] * x[0]).exp();
    decay(&b[..2]) + decay(&b[2..4]) + decay(&b[4..])
}

/// Σ bᵢxⁱ⁺ᵏ.
fn polynomial(b: &[Dual], k: i32, x: f64) -> Dual {
    (k..).zip(b).fold(Dual::from(0.0), |sum, (i, &b)| sum + b * x.powi(i))
}

fn cubics(b: &[Dual], x: &[f64]) -> Dual {
    polynomial(&b[..4], 0, x[0]) / (polynomial(&b[4..], 1, x[0]) + 1.0)
}

fn season(b: &[Dual], x: &[f64]) -> Dual {
    let wave = |period: Dual, b: &[Dual]| {
        let phase = Dual::from(2.0 * PI * x[0]) / period;
        b[0] * phase.cos() + b[1] * phase.sin()
    };
    b[0] + wave(Dual::from(12.0), &b[1..3]) + wave(b[3], &b[4..6]) + wave(b[6], &b[7..9])
}

const MODELS: [(&str, Curve); 27] = [
    ("Bennett5", |b, x| b[0] * (b[1] + x[0]).pow(-(Dual::from(1.0) / b[2]))),
    ("BoxBOD", rise),
    ("Chwirut1", chwirut),
    ("Chwirut2", chwirut),
    ("DanWood", |b, x| b[0] * Dual::from(x[0]).pow(b[1])),
    ("Eckerle4", |b, x| b[0] / b[1] * (((b[2] - x[0]) / b[1]).square() * -0.5).exp()),
    ("ENSO", season),
    ("Gauss1", gauss),
    ("Gauss2", gauss),
    ("Gauss3", gauss),
    ("Hahn1", cubics),
    ("Kirby2", |b, x| polynomial(&b[..3], 0, x[0]) / (polynomial(&b[3..], 1, x[0]) + 1.0)),
    ("Lanczos1", lanczos),
    ("Lanczos2", lanczos),
    ("Lanczos3", lanczos),
    ("MGH09", |b, x| b[0] * (b[1] * x[0] + x[0] * x[0]) / (b[2] * x[0] + b[3] + x[0] * x[0])),
    ("MGH10", |b, x| b[0] * (b[1] / (b[2] + x[0])).exp()),
    ("MGH17", |b, x| b[0] + b[1] * (-b[3] * x[0]).exp() + b[2] * (-b[4] * x[0]).exp()),
    ("Misra1a", rise),
    ("Misra1b", |b, x| b[0] * (-(b[1] * (0.5 * x[0]) + 1.0).pow(-2.0) + 1.0)),
    ("Misra1c", |b, x| b[0] * (-(b[1] * (2.0 * x[0]) + 1.0).pow(-0.5) + 1.0)),
    ("Misra1d", |b, x| b[0] * b[1] * x[0] / (b[1] * x[0] + 1.0)),
    ("Nelson", |b, x| b[0] - b[1] * x[0] * (-b[2] * x[1]).exp()),
    ("Rat42", |b, x| b[0] / ((b[1] - b[2] * x[0]).exp() + 1.0)),
    ("Rat43", |b, x| b[0] / ((b[1] - b[2] * x[0]).exp() + 1.0).pow(Dual::from(1.0) / b[3])),
    ("Roszman1", |b, x| b[0] - b[1] * x[0] - (b[2] / (-b[3] + x[0])).atan() / PI),
    ("Thurber", cubics),
];

fn load(name: &str) -> Set {
    // Its model is one of the logarithm.
    Set::load(name, if name == "Nelson" { f64::ln } else { |y| y })
}

/// The fit of a set, its parameters in these units.
fn fit(curve: Curve, set: &Set, units: &[f64]) -> OpaqueProblem {
    let units = units.to_vec();
    let p = units.len();
    // y and its derivative along v for each sample.
    let along = move |t: &[f64], samples: &halfinverse::Samples, s: usize, v: &dyn Fn(usize) -> f64| {
        let b: Vec<Dual> = (0..p).map(|j| Dual { value: t[j] * units[j], slope: v(j) * units[j] }).collect();
        let x: Vec<f64> = (0..samples.input.ncols()).map(|j| samples.input[(s, j)]).collect();
        curve(&b, &x)
    };
    let forward = along.clone();
    let source = Opaque::new(p, 1, SquaredError { factor: 1.0 }, move |t, samples, mut y| {
        (0..samples.len()).for_each(|s| y[(s, 0)] = along(t, samples, s, &|_| 0.0).value);
        Ok(())
    })
    .with_jvp(move |t, samples, v, mut out| {
        (0..samples.len()).for_each(|s| out[(s, 0)] = forward(t, samples, s, &|j| v[j]).slope);
        Ok(())
    });
    OpaqueProblem::new(&source, set.samples.clone()).unwrap()
}

/// −log₁₀ 5e-5: four digits.
const DIGITS: f64 = 4.301;
/// Steps in a row without a change of θ after which a run ends.
const STILL: u32 = 50;

/// Digits of the solution, and steps.
fn solve(
    (name, curve): (&str, Curve),
    optimizer: &mut dyn Optimizer,
    steps: u32,
    scaled: bool,
) -> (f64, u32) {
    let set = load(name);
    let units = if scaled { set.start.clone() } else { vec![1.0; set.start.len()] };
    let mut problem = fit(curve, &set, &units);
    let mut t: Vec<f64> = set.start.iter().zip(&units).map(|(start, unit)| start / unit).collect();
    let (mut step, mut still) = (0, 0);
    while step < steps && still < STILL {
        let before = t.clone();
        optimizer.step(&mut problem, &mut t).unwrap();
        still = if t == before { still + 1 } else { 0 };
        step += 1;
    }
    let b: Vec<f64> = t.iter().zip(&units).map(|(t, unit)| t * unit).collect();
    (set.digits(&b), step)
}

fn lm(scaling: Scaling) -> LevenbergMarquardt {
    LevenbergMarquardt::new(LevenbergMarquardtSettings { scaling, ..Default::default() }).unwrap()
}

fn lbfgs(scaling: Scaling) -> Lbfgs {
    Lbfgs::new(LbfgsSettings { scaling, ..Default::default() }).unwrap()
}

/// Sets without 4 digits, each with its digits and steps.
fn unsolved(solve: impl Fn((&'static str, Curve)) -> (f64, u32)) -> Vec<(&'static str, f64, u32)> {
    let runs = MODELS.into_iter().map(|model| (model.0, solve(model)));
    runs.filter(|(_, (digits, _))| *digits < DIGITS).map(|(name, run)| (name, run.0, run.1)).collect()
}

#[test]
fn lm_solves_all_sets_whatever_its_scaling() {
    // At most 393 steps by columns; 2592 without, for Hahn1, whose parameters differ by 1e7.
    for scaling in [Scaling::Columns, Scaling::None] {
        let left = unsolved(|model| solve(model, &mut lm(scaling), 3000, false));
        assert!(left.is_empty(), "{scaling:?}: {left:?}");
    }
}

#[test]
fn lbfgs_solves_all_sets_with_parameters_in_units_of_their_start() {
    let left = unsolved(|model| solve(model, &mut lbfgs(Scaling::None), 20_000, true));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn lbfgs_solves_all_sets_but_those_whose_parameters_differ_by_orders_of_magnitude() {
    // Where b₁ is 300 and b₂ is 2e-4, a step short enough for b₂ is lost in the round-off of b₁. Hahn1 crawls, and does not
    // come further in 20,000 steps.
    let known = ["Bennett5", "Hahn1", "Misra1b", "Misra1c", "Misra1d"];
    let left = unsolved(|model| solve(model, &mut lbfgs(Scaling::None), 2500, false));
    assert!(left.iter().all(|(name, ..)| known.contains(name)), "{left:?}");
}

#[test]
fn lbfgs_by_columns_solves_all_sets_but_three() {
    // Three exponentials, nearly collinear: it goes to another minimum.
    let known = ["Lanczos1", "Lanczos2", "Lanczos3"];
    let left = unsolved(|model| solve(model, &mut lbfgs(Scaling::Columns), 20_000, false));
    assert!(left.iter().all(|(name, ..)| known.contains(name)), "{left:?}");
}
