//! Which random numbers are for what: ChaCha8 is seeded with `data.seed` or `training.seed`, and each purpose has a
//! stream.

/// Stream of the training data, of `data.seed`.
pub(crate) const TRAIN: u64 = 0;
/// Stream of the test data, of `data.seed`.
pub(crate) const TEST: u64 = 1;
/// Stream of initial weights, of `training.seed`; equal seeds of data and training share no numbers.
pub(crate) const WEIGHTS: u64 = 2;
/// Stream that orders epoch 0, of `training.seed`; each epoch has its own.
pub(crate) const EPOCHS: u64 = 3;
/// Stream of a layer's fixed random numbers, of a seed of its own.
pub(crate) const FEATURES: u64 = 1 << 61;
/// Stream of the validation data, which hyper-parameters are chosen by; of `data.seed`.
pub(crate) const VALIDATION: u64 = 1 << 62;
/// Stream of the fresh mini-batch of step 0, of `data.seed`; each step has its own.
pub(crate) const FRESH: u64 = 1 << 63;
