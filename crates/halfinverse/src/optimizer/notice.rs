//! What a step or a run has to say of itself besides numbers: why nothing moves, or what is out of use.
//!
//! An optimizer puts it into its [`StepReport`](super::StepReport); a run collects them, each kind once, with the first
//! step and the number of steps that said so.

use serde::{Deserialize, Serialize};

use super::Way;

/// Something that whoever watches a run should know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Notice {
    /// The gradient is 0 to round-off where the loss is not: a stationary point, which need not be a solution.
    Stationary {
        /// Mean loss per sample there.
        loss: f64,
    },
    /// A number that adapts has reached its bound.
    AtBound {
        /// Which one: `damping`, `step length`.
        what: String,
        /// The bound.
        value: f64,
    },
    /// One of several ways to step failed each time that it was tried lately.
    WayOut {
        /// The way.
        way: Way,
        /// In the words of its last error.
        reason: String,
    },
    /// Columns of J differ so much in length that a step without scales for them cannot move all parameters.
    ColumnScales {
        /// Longest over shortest column that is not 0.
        ratio: f64,
    },
    /// The fixed learning rate is far from what this problem can use.
    Rate {
        /// η.
        rate: f64,
        /// The mini-batch's loss after the first step over that before it.
        ratio: f64,
        /// Whether this optimizer can take η in units of its own, `rate = "model"`, and does not.
        model: bool,
    },
    /// θ has not changed above round-off for a number of steps.
    Still {
        /// Steps in a row.
        steps: u64,
    },
}

impl Notice {
    /// Of a vanishing gradient at this mean loss per sample; none where there is no loss left.
    #[must_use]
    pub fn stationary(loss: f64) -> Option<Self> {
        (loss > 0.0).then_some(Self::Stationary { loss })
    }

    /// The same for all notices of a kind, whatever their numbers; as in `metrics.csv`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Stationary { .. } => "stationary",
            Self::AtBound { .. } => "at-bound",
            Self::WayOut { .. } => "way-out",
            Self::ColumnScales { .. } => "column-scales",
            Self::Rate { .. } => "rate",
            Self::Still { .. } => "still",
        }
    }
}

impl std::fmt::Display for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stationary { loss } => write!(
                f,
                "the gradient is 0 to round-off at a loss of {loss:.3e}: a stationary point, which need not be a solution; other weights (--seed) start elsewhere"
            ),
            Self::AtBound { what, value } => write!(f, "{what} is at its bound, {value:.1e}"),
            Self::WayOut { way, reason } => write!(f, "{way} steps are out of use: {reason}"),
            Self::ColumnScales { ratio } => {
                write!(
                    f,
                    "columns of the Jacobian differ by a factor of {ratio:.0e}; lm with scaling = columns can step there"
                )
            }
            Self::Rate { rate, ratio, model } => {
                let (change, off) = if *ratio > 1.0 {
                    (format!("multiplied its mini-batch's loss by {ratio:.1e}"), "high")
                } else {
                    (format!("changed its mini-batch's loss by {:.1e} of it", 1.0 - ratio), "low")
                };
                let mend = if *model {
                    "; --set optimizer.rate=model --lr 1 takes it in units of the problem's own, whatever these are"
                } else {
                    ""
                };
                write!(
                    f,
                    "the first step {change}: the learning rate {rate:.1e} is too {off} for this problem{mend}"
                )
            }
            Self::Still { steps } => {
                write!(f, "the parameters have not changed above round-off for {steps} steps")
            }
        }
    }
}
