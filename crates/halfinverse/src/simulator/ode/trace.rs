//! A right-hand side in Rust, generic over its numbers: called once with expressions, whose operations are written
//! down.

use std::cell::RefCell;
use std::ops::{Add, Div, Mul, Neg, Sub};

use crate::simulator::expression::{Binary, Graph, NodeId, Unary};

/// x′ = f(x, u, t), and what is observed of it, for numbers of any kind.
///
/// The functions are called once, when the simulator is made, and must do the same whatever the values are: a loop over
/// components is fine, a branch on a value is not possible ([`Scalar::min`], [`Scalar::max`], [`Scalar::abs`] and
/// [`Scalar::sign`] may do).
pub trait RightHandSide {
    /// Number of states n.
    fn states(&self) -> usize;

    /// Number of controls p, each constant within an interval.
    fn controls(&self) -> usize;

    /// Writes x′ (n) at the state (n), the control (p) and the time.
    fn rhs<S: Scalar>(&self, state: &[S], control: &[S], t: S, out: &mut [S]);

    /// Number of observed quantities.
    fn observed(&self) -> usize {
        self.states()
    }

    /// Writes what is observed of a state and the control that led to it: the state, unless an author says otherwise.
    fn observe<S: Scalar>(&self, state: &[S], control: &[S], t: S, out: &mut [S]) {
        let _ = (control, t);
        out.copy_from_slice(state);
    }
}

/// A number that [`RightHandSide`] computes with: `f64`, or an expression.
pub trait Scalar:
    Copy
    + From<f64>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Add<f64, Output = Self>
    + Sub<f64, Output = Self>
    + Mul<f64, Output = Self>
    + Div<f64, Output = Self>
    + Neg<Output = Self>
{
    /// sin a
    #[must_use]
    fn sin(self) -> Self;
    /// cos a
    #[must_use]
    fn cos(self) -> Self;
    /// tan a
    #[must_use]
    fn tan(self) -> Self;
    /// arcsin a
    #[must_use]
    fn asin(self) -> Self;
    /// arccos a
    #[must_use]
    fn acos(self) -> Self;
    /// arctan a
    #[must_use]
    fn atan(self) -> Self;
    /// sinh a
    #[must_use]
    fn sinh(self) -> Self;
    /// cosh a
    #[must_use]
    fn cosh(self) -> Self;
    /// tanh a
    #[must_use]
    fn tanh(self) -> Self;
    /// eᵃ
    #[must_use]
    fn exp(self) -> Self;
    /// The natural logarithm.
    #[must_use]
    fn ln(self) -> Self;
    /// The logarithm to base 10.
    #[must_use]
    fn log10(self) -> Self;
    /// The square root.
    #[must_use]
    fn sqrt(self) -> Self;
    /// |a|
    #[must_use]
    fn abs(self) -> Self;
    /// −1, 0 or 1.
    #[must_use]
    fn sign(self) -> Self;
    /// aᵇ
    #[must_use]
    fn pow(self, b: Self) -> Self;
    /// aⁿ
    #[must_use]
    fn powi(self, n: i32) -> Self {
        self.pow(Self::from(f64::from(n)))
    }
    /// The smaller one.
    #[must_use]
    fn min(self, b: Self) -> Self;
    /// The larger one.
    #[must_use]
    fn max(self, b: Self) -> Self;
    /// The angle of the point (b, a).
    #[must_use]
    fn atan2(self, b: Self) -> Self;
}

macro_rules! functions {
    ($($name:ident $function:ident),*; $($name_2:ident $function_2:ident),*) => {
        impl Scalar for f64 {
            $(fn $name(self) -> Self { Unary::$function.of(self) })*
            $(fn $name_2(self, b: Self) -> Self { Binary::$function_2.of(self, b) })*
        }

        impl Scalar for Traced<'_> {
            $(fn $name(self) -> Self { self.unary(Unary::$function) })*
            $(fn $name_2(self, b: Self) -> Self { self.binary(Binary::$function_2, b) })*
        }
    };
}

functions! {
    sin Sin, cos Cos, tan Tan, asin Asin, acos Acos, atan Atan, sinh Sinh, cosh Cosh, tanh Tanh, exp Exp, ln Ln,
    log10 Log10, sqrt Sqrt, abs Abs, sign Sign;
    pow Pow, min Min, max Max, atan2 Atan2
}

/// A number, or a node of a graph.
#[derive(Clone, Copy)]
pub(super) enum Traced<'g> {
    Number(f64),
    Node(&'g RefCell<Graph>, NodeId),
}

impl Traced<'_> {
    /// The node in the graph.
    pub(super) fn node(self, graph: &RefCell<Graph>) -> NodeId {
        match self {
            Self::Number(value) => graph.borrow_mut().constant(value),
            Self::Node(_, id) => id,
        }
    }

    fn unary(self, function: Unary) -> Self {
        match self {
            Self::Number(value) => Self::Number(function.of(value)),
            Self::Node(graph, id) => Self::Node(graph, graph.borrow_mut().unary(function, id)),
        }
    }

    fn binary(self, function: Binary, other: Self) -> Self {
        let graph = match (self, other) {
            (Self::Number(a), Self::Number(b)) => return Self::Number(function.of(a, b)),
            (Self::Node(graph, _), _) | (_, Self::Node(graph, _)) => graph,
        };
        let (a, b) = (self.node(graph), other.node(graph));
        Self::Node(graph, graph.borrow_mut().binary(function, a, b))
    }
}

impl From<f64> for Traced<'_> {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

macro_rules! operators {
    ($($operator:ident $name:ident),*) => { $(
        impl $operator for Traced<'_> {
            type Output = Self;
            fn $name(self, other: Self) -> Self {
                self.binary(Binary::$operator, other)
            }
        }

        impl $operator<f64> for Traced<'_> {
            type Output = Self;
            fn $name(self, other: f64) -> Self {
                self.binary(Binary::$operator, other.into())
            }
        }
    )* };
}

operators! { Add add, Sub sub, Mul mul, Div div }

impl Neg for Traced<'_> {
    type Output = Self;
    fn neg(self) -> Self {
        self.unary(Unary::Neg)
    }
}
