//! Which samples a step sees: the data in turn, or each epoch in an order of its own.
//!
//! The order of an epoch is a function of seed and epoch, so a position in the data is a step number. Samples that do
//! not fill a last mini-batch are left out of the epoch.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::streams::EPOCHS;

/// The order of the training data.
pub(super) struct Order {
    indices: Vec<usize>,
    batch: usize,
    shuffle: Option<u64>,
    epoch: u64,
}

impl Order {
    pub(super) fn new(samples: usize, batch: usize, shuffle: bool, seed: u64) -> Self {
        let mut order =
            Self { indices: (0..samples).collect(), batch, shuffle: shuffle.then_some(seed), epoch: 0 };
        order.arrange();
        order
    }

    pub(super) fn steps_per_epoch(&self) -> u64 {
        (self.indices.len() / self.batch) as u64
    }

    /// The samples of a step.
    pub(super) fn indices(&mut self, step: u64) -> &[usize] {
        let epoch = step / self.steps_per_epoch();
        if epoch != self.epoch {
            self.epoch = epoch;
            self.arrange();
        }
        let position = usize::try_from(step % self.steps_per_epoch()).expect("below the number of samples");
        &self.indices[position * self.batch..(position + 1) * self.batch]
    }

    fn arrange(&mut self) {
        let Some(seed) = self.shuffle else { return };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(EPOCHS + self.epoch);
        for (i, index) in self.indices.iter_mut().enumerate() {
            *index = i;
        }
        self.indices.shuffle(&mut rng);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unshuffled_epochs_repeat_and_leave_the_remainder_out() {
        let mut order = Order::new(7, 3, false, 1);
        assert_eq!(order.indices(0), [0, 1, 2]);
        assert_eq!(order.indices(1), [3, 4, 5]);
        assert_eq!(order.indices(2), [0, 1, 2]);
    }

    #[test]
    fn a_shuffled_epoch_sees_every_sample_once_and_differs_from_the_next() {
        let mut order = Order::new(64, 8, true, 1);
        let mut epoch =
            |first: u64| (first..first + 8).flat_map(|s| order.indices(s).to_vec()).collect::<Vec<_>>();
        let (first, second, again) = (epoch(0), epoch(8), epoch(0));
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..64).collect::<Vec<_>>());
        assert_ne!(first, second);
        assert_eq!(first, again, "a position in the data is a step number");
    }
}
