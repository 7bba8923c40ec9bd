//! The parameters with the lowest test loss so far.

/// θ where the test loss was lowest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Best<'a> {
    /// θ, P numbers; as it was at the start where no test loss has been finite yet.
    pub theta: &'a [f64],
    /// Mean loss per sample on the test data there; infinite where none has been finite yet.
    pub loss: f64,
    /// Steps that had been made.
    pub step: u64,
}

/// The same with a θ of its own.
#[derive(Debug, Clone)]
pub(super) struct Lowest {
    pub(super) theta: Vec<f64>,
    pub(super) loss: f64,
    pub(super) step: u64,
}

impl Lowest {
    /// Of a run that has not been evaluated.
    pub(super) fn unknown(theta: &[f64]) -> Self {
        Self { theta: theta.to_vec(), loss: f64::INFINITY, step: 0 }
    }

    /// Takes in an evaluation that is the new best.
    pub(super) fn take(&mut self, theta: &[f64], loss: f64, step: u64) {
        self.theta.copy_from_slice(theta);
        (self.loss, self.step) = (loss, step);
    }
}
