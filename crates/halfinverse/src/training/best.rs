//! The parameters with the lowest test loss so far.

/// θ where the test loss was lowest.
#[derive(Debug, Clone, PartialEq)]
pub struct Best {
    /// θ, P numbers; as it was at the start where no test loss has been finite yet.
    pub theta: Vec<f64>,
    /// Mean loss per sample on the test data there; infinite where none has been finite yet.
    pub loss: f64,
    /// Steps that had been made.
    pub step: u64,
}

impl Best {
    /// Of a run that has not been evaluated.
    pub(super) fn unknown(theta: &[f64]) -> Self {
        Self { theta: theta.to_vec(), loss: f64::INFINITY, step: 0 }
    }

    /// Takes in an evaluation; tells whether it is the new best.
    pub(super) fn consider(&mut self, theta: &[f64], loss: f64, step: u64) -> bool {
        let better = loss < self.loss;
        if better {
            self.theta.copy_from_slice(theta);
            (self.loss, self.step) = (loss, step);
        }
        better
    }
}
