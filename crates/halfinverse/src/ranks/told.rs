//! An error on its way to other ranks, and which of several counts.

use serde::{Deserialize, Serialize};

use crate::fault::{Culprit, StepError};
use crate::linear::ProductError;
use crate::simulator::SimulatorError;
use crate::spectral::SpectralError;

/// What another rank has to know of an error to have the same.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Told {
    Simulator {
        sample: Option<usize>,
        reason: String,
    },
    Function {
        reason: String,
    },
    Product {
        product: String,
        reason: String,
    },
    Loss {
        loss: f64,
        /// Which of [`PARTS`], sample, component, value.
        culprit: Option<(usize, usize, usize, f64)>,
    },
    NotFinite {
        what: String,
        index: usize,
        value: f64,
    },
    Other {
        sentence: String,
    },
}

/// Where the first value that is not finite may be, in the order in which one makes the next.
const PARTS: [&str; 5] = ["input", "initial state", "target", "control", "outcome"];
/// Products, and vectors that are checked.
const PRODUCTS: [&str; 5] = ["J v", "J^T u", "J", "J J^T", "J^T J"];
const VECTORS: [&str; 6] = ["g", "J", "J v", "J^T g", "J^T u", "the update"];

/// The name that is like this one, which came from another rank of the same program.
fn known(names: &[&'static str], name: &str) -> &'static str {
    names.iter().find(|known| **known == name).copied().unwrap_or("a part of J")
}

/// The same error of a mini-batch whose first `first` samples are other ranks'.
pub(super) fn placed(error: StepError, first: usize) -> StepError {
    match error {
        StepError::Simulator(SimulatorError { sample: Some(sample), reason }) => {
            SimulatorError { sample: Some(first + sample), reason }.into()
        }
        StepError::LossNotFinite { loss, culprit } => {
            let culprit = culprit.map(|culprit| Culprit { sample: first + culprit.sample, ..culprit });
            StepError::LossNotFinite { loss, culprit }
        }
        error => error,
    }
}

impl Told {
    pub(super) fn of(error: &StepError) -> Self {
        match error {
            StepError::Simulator(SimulatorError { sample, reason }) => {
                Self::Simulator { sample: *sample, reason: reason.clone() }
            }
            StepError::Function { reason } => Self::Function { reason: reason.clone() },
            StepError::Product(ProductError { product, reason })
            | StepError::Spectral(SpectralError::Product(ProductError { product, reason })) => {
                Self::Product { product: (*product).to_owned(), reason: reason.clone() }
            }
            StepError::LossNotFinite { loss, culprit } => {
                let part = |name| PARTS.iter().position(|part| *part == name).unwrap_or(PARTS.len() - 1);
                let culprit = culprit
                    .as_ref()
                    .map(|culprit| (part(culprit.part), culprit.sample, culprit.component, culprit.value));
                Self::Loss { loss: *loss, culprit }
            }
            StepError::Spectral(SpectralError::NotFinite { what, index, value }) => {
                Self::NotFinite { what: (*what).to_owned(), index: *index, value: *value }
            }
            error => Self::Other { sentence: error.to_string() },
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).unwrap_or_default()
    }

    fn error(self, rank: usize) -> StepError {
        match self {
            Self::Simulator { sample, reason } => SimulatorError { sample, reason }.into(),
            Self::Function { reason } => StepError::Function { reason },
            Self::Product { product, reason } => {
                ProductError { product: known(&PRODUCTS, &product), reason }.into()
            }
            Self::Loss { loss, culprit } => StepError::LossNotFinite {
                loss,
                culprit: culprit.map(|(part, sample, component, value)| Culprit {
                    sample,
                    part: PARTS[part.min(PARTS.len() - 1)],
                    component,
                    value,
                }),
            },
            Self::NotFinite { what, index, value } => {
                SpectralError::NotFinite { what: known(&VECTORS, &what), index, value }.into()
            }
            Self::Other { sentence } => StepError::Elsewhere { rank, sentence },
        }
    }

    /// What comes first on one machine: outcomes that cannot be computed, before values that are not finite; of those the
    /// first part, and the first sample.
    fn order(&self) -> (usize, usize) {
        match self {
            Self::Simulator { .. } | Self::Function { .. } => (0, 0),
            Self::Loss { culprit: Some((part, sample, ..)), .. } => (1 + part, *sample),
            Self::Loss { .. } => (1 + PARTS.len(), 0),
            _ => (2 + PARTS.len(), 0),
        }
    }
}

/// The error that counts, and whose it is; bytes of ranks that have none are empty.
pub(super) fn choose(all: &[Vec<u8>]) -> (usize, StepError) {
    let told = all.iter().enumerate().filter(|(_, bytes)| !bytes.is_empty());
    let read = told.filter_map(|(rank, bytes)| Some((rank, postcard::from_bytes::<Told>(bytes).ok()?)));
    let first = read.min_by_key(|(rank, told)| (told.order(), *rank));
    first.map_or_else(
        || {
            let sentence = "a rank failed and could not say why".to_owned();
            (0, StepError::Elsewhere { rank: 0, sentence })
        },
        |(rank, told)| (rank, told.error(rank)),
    )
}
