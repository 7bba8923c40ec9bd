//! Every derivative against differences, and every function against itself.
//!
//! | | |
//! |---|---|
//! | [`simulator()`] | `jvp`, `vjp` and `block`; whether results depend on what a buffer or a tape held before, or on the chunks |
//! | [`model`] | the same of a network, a simulator and an objective together |
//! | [`opaque`] | the same of functions |
//! | [`conformance`] | these and other tests of a simulator, for [`simulator_tests!`](crate::simulator_tests) |
//! | [`problem()`] | the same of any [`Problem`](crate::Problem), as far as it can be told from the losses |
//!
//! **Directions.** Up to eight controls (or parameters) move on their own; of more, neighbours move together, each by
//! its own size. Every outcome is compared for itself, relative to the largest derivative that it has in the mini-batch
//! along the same direction; below a thousandth of the largest along any direction, relative to that. So a wrong entry
//! is found whatever the units are, unless what it makes of its outcome is below some 1e-8 of what the others make.
//!
//! **Steps** are chosen for each outcome, from 1/32 to 1e-8 of a control's size, by how well quotients agree.
//! What the best of them cannot resolve is never called wrong: [`Comparison::resolution`] tells how much that is.
//!
//! **Kinks.** At a kink the derivative exists on each side only. One between the two sides is right.

pub mod conformance;
mod problem;
mod quotient;
mod reference;
mod simulator;

pub use problem::{model, opaque, problem};
pub use simulator::simulator;

/// One comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// What was compared.
    pub what: &'static str,
    /// |derivative − difference quotient| relative to the derivative's size, or to what the quotient resolves where that
    /// is more: the largest. Infinite where one of the two is NaN.
    pub error: f64,
    /// What the quotients cannot resolve, relative to the derivative or the outcome: the largest. Above
    /// some 1e-3 a wrong derivative may have passed.
    pub resolution: f64,
    /// Whether a derivative differs from the quotient at a kink, where it lies between those of the two sides. It does
    /// not count as an error.
    pub kink: bool,
    /// Where the error is largest, in words.
    pub place: String,
}

impl Comparison {
    fn new(what: &'static str, error: f64) -> Self {
        Self { what, error, resolution: 0.0, kink: false, place: String::new() }
    }

    /// Whether the error is within [`TOLERANCE`].
    #[must_use]
    pub fn right(&self) -> bool {
        self.error <= TOLERANCE
    }
}

/// The error up to which a derivative counts as right.
pub const TOLERANCE: f64 = 1e-6;
