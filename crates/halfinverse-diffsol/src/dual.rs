//! Numbers a + εb with ε² = 0: the right-hand side of such numbers carries a derivative along one direction.

use std::ops::{Add, Div, Mul, Neg, Sub};

use halfinverse::simulator::Scalar;
use num_dual::{Dual64, DualNum};

/// num-dual's numbers as [`Scalar`].
#[derive(Clone, Copy)]
pub(crate) struct Dual(Dual64);

impl Dual {
    /// value + ε·slope
    pub(crate) fn new(value: f64, slope: f64) -> Self {
        Self(Dual64::new(value, slope))
    }

    /// What stands before ε.
    pub(crate) fn slope(self) -> f64 {
        self.0.eps
    }
}

impl From<f64> for Dual {
    fn from(value: f64) -> Self {
        Self(value.into())
    }
}

macro_rules! operators {
    ($($operator:ident $name:ident),*) => { $(
        impl $operator for Dual {
            type Output = Self;
            fn $name(self, other: Self) -> Self {
                Self($operator::$name(self.0, other.0))
            }
        }

        impl $operator<f64> for Dual {
            type Output = Self;
            fn $name(self, other: f64) -> Self {
                Self($operator::$name(self.0, other))
            }
        }
    )* };
}

operators! { Add add, Sub sub, Mul mul, Div div }

impl Neg for Dual {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

macro_rules! functions {
    ($($name:ident),*) => { $(
        fn $name(self) -> Self {
            Self(DualNum::$name(&self.0))
        }
    )* };
}

impl Scalar for Dual {
    functions! { sin, cos, tan, asin, acos, atan, sinh, cosh, tanh, exp, ln, log10, sqrt }

    fn abs(self) -> Self {
        self * Scalar::sign(self.0.re)
    }

    fn sign(self) -> Self {
        Scalar::sign(self.0.re).into()
    }

    /// By a power that does not change, also of 0 and negative numbers, whose logarithm there is not.
    fn pow(self, b: Self) -> Self {
        Self(if b.0.eps == 0.0 { self.0.powf(b.0.re) } else { self.0.powd(b.0) })
    }

    fn powi(self, n: i32) -> Self {
        Self(DualNum::powi(&self.0, n))
    }

    fn min(self, b: Self) -> Self {
        if self.0.re <= b.0.re { self } else { b }
    }

    fn max(self, b: Self) -> Self {
        if self.0.re >= b.0.re { self } else { b }
    }

    fn atan2(self, b: Self) -> Self {
        Self(DualNum::atan2(&self.0, b.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every function, away from its kinks and poles.
    fn every<S: Scalar>(a: S, b: S) -> Vec<S> {
        vec![
            a + b,
            a - b,
            a * b,
            a / b,
            a + 2.0,
            a - 2.0,
            a * 2.0,
            a / 2.0,
            -a,
            a.sin(),
            a.cos(),
            a.tan(),
            a.asin(),
            a.acos(),
            a.atan(),
            a.sinh(),
            a.cosh(),
            a.tanh(),
            a.exp(),
            a.ln(),
            a.log10(),
            a.sqrt(),
            (a - b).abs(),
            a.sign(),
            a.pow(b),
            (a - b).pow(S::from(3.0)),
            (a - b).powi(-3),
            a.min(b),
            a.max(b),
            (a - b).atan2(b),
        ]
    }

    #[test]
    fn every_function_carries_its_derivative() {
        let (a, b, t) = (0.4, 0.7, 1e-6);
        let slopes = every(Dual::new(a, 1.0), Dual::new(b, -0.5));
        let (above, below) = (every(a + t, b - 0.5 * t), every(a - t, b + 0.5 * t));
        for (i, slope) in slopes.iter().enumerate() {
            let quotient = (above[i] - below[i]) / (2.0 * t);
            let off = (slope.slope() - quotient).abs();
            assert!(off < 1e-7 * (1.0 + quotient.abs()), "function {i}: {} for {quotient}", slope.slope());
        }
    }

    #[test]
    fn a_power_that_does_not_change_has_a_derivative_at_0() {
        assert_eq!(Scalar::pow(Dual::new(0.0, 1.0), 2.0.into()).slope(), 0.0);
        assert_eq!(Dual::new(0.0, 1.0).powi(1).slope(), 1.0);
    }
}
