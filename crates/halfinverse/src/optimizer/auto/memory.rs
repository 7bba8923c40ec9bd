//! What hig-auto's next step depends on: whose turn it is, and what turns have shown.

use serde::{Deserialize, Serialize};

use super::{LEAST_PATIENCE, OUT};
use crate::optimizer::Way;

/// What the next step depends on, the two ways and the samples left out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Memory {
    pub(super) leader: Way,
    pub(super) turn: Turn,
    pub(super) record: Record,
    /// Leader's turns before the next challenge.
    pub(super) patience: u32,
    /// The leader's θ while it is challenged.
    pub(super) aside: Vec<f64>,
    /// Held-out loss of θ; unknown before the first step.
    pub(super) best: Option<f64>,
    /// The first held-out loss of all.
    pub(super) first: Option<f64>,
    /// Factor of Kron's learning rate.
    pub(super) rate: f64,
    /// What all turns have cost.
    pub(super) spent: f64,
    /// Steps in a row that ended with an error.
    pub(super) failures: u32,
    /// Leader's turns in a row that ended above θ.
    pub(super) crept: u32,
    /// Steps in a row of each way that ended with an error, and the last error of all.
    pub(super) failed: [u32; 3],
    pub(super) reason: String,
    /// Passes over a sample since θ was last judged.
    pub(super) unjudged: f64,
}

impl Memory {
    /// Before the first step.
    pub(super) fn new(leader: Way) -> Self {
        let turn =
            Turn { way: leader, at: Vec::new(), start: 0.0, middle: None, steps: 0, spent: 0.0, length: 0.0 };
        Self {
            leader,
            turn,
            record: Record::default(),
            patience: LEAST_PATIENCE,
            aside: Vec::new(),
            best: None,
            first: None,
            rate: 1.0,
            spent: 0.0,
            failures: 0,
            crept: 0,
            failed: [0; 3],
            reason: String::new(),
            unjudged: 0.0,
        }
    }

    /// Whether a way failed each time that it was tried lately.
    pub(super) fn is_out(&self, way: Way) -> bool {
        self.failed[way as usize] >= OUT
    }
}

/// A turn under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Turn {
    pub(super) way: Way,
    /// Where it has got to.
    pub(super) at: Vec<f64>,
    /// Held-out loss at its start.
    pub(super) start: f64,
    /// Held-out loss and cost half-way through a challenge.
    pub(super) middle: Option<Middle>,
    pub(super) steps: u32,
    pub(super) spent: f64,
    pub(super) length: f64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Middle {
    pub(super) loss: f64,
    pub(super) spent: f64,
}

/// The leader's turns since the last challenge.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) turns: u32,
    /// Their cost, and the fall of the log of the held-out loss; the last ones count most.
    pub(super) cost: f64,
    pub(super) fall: f64,
}
