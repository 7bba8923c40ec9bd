//! Samples, one row each.

use faer::Mat;

use crate::error::ShapeError;

/// Weights that samples cannot have.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum WeightError {
    /// There are more or fewer than samples.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// One is negative, NaN or infinite.
    #[error("the weight of sample {sample} is {weight}, but must be positive or 0, and finite")]
    Value {
        /// Position of the sample.
        sample: usize,
        /// The value found.
        weight: f64,
    },
}

/// Samples in batch layout: one row per sample, the samples of a component contiguous.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    /// Network inputs x.
    pub input: Mat<f64>,
    /// Initial states y₀ of the simulator.
    pub initial: Mat<f64>,
    /// What the outcomes should be.
    pub target: Mat<f64>,
    /// Weight w of each sample's loss (b × 1); b × 0 where all are 1.
    pub(crate) weight: Mat<f64>,
}

impl Samples {
    /// Inputs, initial states and targets of the same samples.
    ///
    /// # Errors
    /// When one of them has another number of samples.
    pub fn new(input: Mat<f64>, initial: Mat<f64>, target: Mat<f64>) -> Result<Self, ShapeError> {
        let samples = Self::unweighted(input, initial, target);
        samples.check_rows()?;
        Ok(samples)
    }

    /// As [`Self::new`], of as many inputs, initial states and targets.
    pub(crate) fn unweighted(input: Mat<f64>, initial: Mat<f64>, target: Mat<f64>) -> Self {
        let weight = Mat::zeros(input.nrows(), 0);
        Self { input, initial, target, weight }
    }

    /// The same samples, each with a weight w of its own: the loss of a mini-batch is then the reduction's factor times
    /// Σ wₛLₛ. A mean still divides by the number of samples b and not by Σ wₛ, so that a sample of weight 1 counts the
    /// same whatever mini-batch it is in; weights whose mean is 1 keep the size of the loss.
    ///
    /// # Errors
    /// When there are more or fewer weights than samples, or one is negative or not finite.
    ///
    /// # Example
    /// ```
    /// use halfinverse::{Samples, faer::Mat};
    /// let samples = Samples::new(Mat::zeros(3, 1), Mat::zeros(3, 0), Mat::zeros(3, 2))?;
    /// assert_eq!(samples.weights(), None);
    /// let samples = samples.with_weights(&[1.0, 0.5, 2.0])?;
    /// assert_eq!(samples.range(1, 2).weights(), Some(&[0.5, 2.0][..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_weights(self, weights: &[f64]) -> Result<Self, WeightError> {
        ShapeError::check("the samples", "weights", self.len(), weights.len())?;
        let refused = |weight: &f64| !(*weight >= 0.0 && weight.is_finite());
        if let Some(sample) = weights.iter().position(refused) {
            return Err(WeightError::Value { sample, weight: weights[sample] });
        }
        Ok(Self { weight: Mat::from_fn(weights.len(), 1, |s, _| weights[s]), ..self })
    }

    /// The samples' weights, where they have some.
    #[must_use]
    pub fn weights(&self) -> Option<&[f64]> {
        (self.weight.ncols() > 0).then(|| self.weight.col_as_slice(0))
    }

    fn check_rows(&self) -> Result<(), ShapeError> {
        ShapeError::check("the initial states", "samples", self.len(), self.initial.nrows())?;
        ShapeError::check("the targets", "samples", self.len(), self.target.nrows())?;
        ShapeError::check("the weights", "samples", self.len(), self.weight.nrows())
    }

    /// Number of samples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.input.nrows()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// So many samples of the same kind, all 0, weights too.
    #[must_use]
    pub fn zeros_like(&self, count: usize) -> Self {
        self.map(|matrix| Mat::zeros(count, matrix.ncols()))
    }

    fn map(&self, of: impl Fn(&Mat<f64>) -> Mat<f64>) -> Self {
        Self {
            input: of(&self.input),
            initial: of(&self.initial),
            target: of(&self.target),
            weight: of(&self.weight),
        }
    }

    /// The matrices of these samples beside those of others; the weights last.
    fn pairs<'a>(&'a self, other: &'a mut Self) -> [(&'a Mat<f64>, &'a mut Mat<f64>); 4] {
        [
            (&self.input, &mut other.input),
            (&self.initial, &mut other.initial),
            (&self.target, &mut other.target),
            (&self.weight, &mut other.weight),
        ]
    }

    /// Copies the samples at `indices` into `batch`, which becomes as many samples as there are indices.
    ///
    /// # Errors
    /// When an index is out of range, or `batch` holds samples of another kind; `batch` is then as it was.
    pub fn gather(&self, indices: &[usize], batch: &mut Self) -> Result<(), ShapeError> {
        self.check_rows()?;
        for (what, (from, to)) in PARTS.into_iter().zip(self.pairs(batch)) {
            ShapeError::check(what, "components", to.ncols(), from.ncols())?;
        }
        if let Some(&index) = indices.iter().find(|&&index| index >= self.len()) {
            return Err(ShapeError::new("the data", "samples or more", index + 1, self.len()));
        }
        for (from, to) in self.pairs(batch) {
            // Samples have weights or not, as those have that they come from.
            if to.shape() != (indices.len(), from.ncols()) {
                *to = Mat::zeros(indices.len(), from.ncols());
            }
            for j in 0..from.ncols() {
                let from = from.col_as_slice(j);
                for (value, &i) in to.col_as_slice_mut(j).iter_mut().zip(indices) {
                    *value = from[i];
                }
            }
        }
        Ok(())
    }

    /// Copies all samples of `batch` to `first` and on, from the end to the start again.
    pub(crate) fn put(&mut self, batch: &Self, first: usize) {
        let count = self.len();
        if self.weight.ncols() < batch.weight.ncols() {
            self.weight = Mat::full(count, 1, 1.0);
        }
        if self.weight.ncols() > batch.weight.ncols() {
            (0..batch.len()).for_each(|i| self.weight[((first + i) % count, 0)] = 1.0);
        }
        for (from, to) in batch.pairs(self) {
            for j in 0..from.ncols().min(to.ncols()) {
                let to = to.col_as_slice_mut(j);
                for (i, &value) in from.col_as_slice(j).iter().enumerate() {
                    to[(first + i) % count] = value;
                }
            }
        }
    }

    /// The first `count` samples, or all if there are fewer.
    #[must_use]
    pub fn first(&self, count: usize) -> Self {
        self.range(0, count)
    }

    /// `count` samples from `start` on, or fewer at the end.
    #[must_use]
    pub fn range(&self, start: usize, count: usize) -> Self {
        self.map(|matrix| {
            let start = start.min(matrix.nrows());
            matrix.subrows(start, count.min(matrix.nrows() - start)).to_owned()
        })
    }

    /// Refuses samples that have other numbers of components than these, or none at all.
    pub(crate) fn check(&self, inputs: usize, initials: usize, targets: usize) -> Result<(), ShapeError> {
        for ((what, matrix), expected) in
            PARTS.into_iter().zip([&self.input, &self.initial, &self.target]).zip([inputs, initials, targets])
        {
            ShapeError::check(what, "components", expected, matrix.ncols())?;
        }
        self.check_rows()?;
        ShapeError::check("the mini-batch", "sample or more", 1, self.len().min(1))
    }
}

const PARTS: [&str; 3] = ["a sample's input", "a sample's initial state", "a sample's target"];
