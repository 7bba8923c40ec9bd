//! Why a step or an evaluation failed, with the numbers that say where.

use crate::error::ShapeError;
use crate::linear::ProductError;
use crate::ranks::Lost;
use crate::simulator::SimulatorError;
use crate::spectral::SpectralError;

/// The first value of a mini-batch that is NaN or infinite.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("component {component} of the {part} of its sample {sample} is {value}")]
pub struct Culprit {
    /// Position in the mini-batch.
    pub sample: usize,
    /// Input, initial state, target, control or outcome.
    pub part: &'static str,
    /// Position in that.
    pub component: usize,
    /// The value found.
    pub value: f64,
}

/// Why a training step could not be completed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The loss of the mini-batch is NaN or infinite.
    #[error("the loss of the mini-batch is {loss}{}", .culprit.as_ref().map_or_else(String::new, |c| format!(": {c}")))]
    LossNotFinite {
        /// The value found.
        loss: f64,
        /// Where it comes from, if from one sample.
        culprit: Option<Culprit>,
    },
    /// The loss has risen out of all proportion.
    #[error("the loss of the mini-batches is {loss:.3e}, where it had been {best:.3e}")]
    BlowUp {
        /// Mean over the last ten mini-batches or so.
        loss: f64,
        /// The lowest that this mean has been.
        best: f64,
    },
    /// The gradient is NaN or infinite.
    #[error("component {index} of the gradient is {value}")]
    GradientNotFinite {
        /// Position in the parameter vector.
        index: usize,
        /// The value found; a finite one is too large to be squared.
        value: f64,
    },
    /// The update is NaN or infinite.
    #[error("component {index} of the update is {value}")]
    UpdateNotFinite {
        /// Position in the parameter vector.
        index: usize,
        /// The value found.
        value: f64,
    },
    /// A sample that is kept from training to judge steps by has no finite loss.
    #[error(
        "sample {sample} of the {count} that are kept from training to judge steps by, the last of the training data: {error}"
    )]
    HeldOut {
        /// Position among them.
        sample: usize,
        /// How many they are.
        count: usize,
        /// Why not.
        error: Box<StepError>,
    },
    /// Parts do not fit.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The spectral step failed.
    #[error(transparent)]
    Spectral(#[from] SpectralError),
    /// A product with J failed.
    #[error(transparent)]
    Product(#[from] ProductError),
    /// The simulator failed.
    #[error(transparent)]
    Simulator(#[from] SimulatorError),
    /// A function that a problem was made of failed.
    #[error("the outcomes cannot be computed: {reason}")]
    Function {
        /// In the function's words.
        reason: String,
    },
    /// Another rank failed.
    #[error("{sentence}")]
    Elsewhere {
        /// Which one.
        rank: usize,
        /// In its words.
        sentence: String,
    },
    /// Ranks can do nothing together any more.
    #[error(transparent)]
    Ranks(#[from] Lost),
    /// The optimizer needs more of a problem than this one has.
    #[error("{optimizer} needs {needs}, which this problem does not have")]
    Unsupported {
        /// The optimizer's name.
        optimizer: &'static str,
        /// What it needs.
        needs: &'static str,
    },
}

impl StepError {
    /// The same of a problem on one sample, which is this one of a larger set.
    pub(crate) fn of_sample(self, sample: usize) -> Self {
        match self {
            Self::LossNotFinite { loss, culprit } => {
                Self::LossNotFinite { loss, culprit: culprit.map(|culprit| Culprit { sample, ..culprit }) }
            }
            Self::Simulator(error) => Self::Simulator(SimulatorError { sample: Some(sample), ..error }),
            error => error,
        }
    }
}
