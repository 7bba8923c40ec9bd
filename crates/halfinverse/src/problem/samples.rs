//! Samples, one row each.

use faer::Mat;

use crate::error::ShapeError;

/// Samples in batch layout: one row per sample, the samples of a component contiguous.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    /// Network inputs x.
    pub input: Mat<f64>,
    /// Initial states y₀ of the simulator.
    pub initial: Mat<f64>,
    /// What the outcomes should be.
    pub target: Mat<f64>,
}

impl Samples {
    /// Inputs, initial states and targets of the same samples.
    ///
    /// # Errors
    /// When one of them has another number of samples.
    pub fn new(input: Mat<f64>, initial: Mat<f64>, target: Mat<f64>) -> Result<Self, ShapeError> {
        let samples = Self { input, initial, target };
        samples.check_rows()?;
        Ok(samples)
    }

    fn check_rows(&self) -> Result<(), ShapeError> {
        ShapeError::check("the initial states", "samples", self.len(), self.initial.nrows())?;
        ShapeError::check("the targets", "samples", self.len(), self.target.nrows())
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

    /// So many samples of the same kind, all 0.
    #[must_use]
    pub fn zeros_like(&self, count: usize) -> Self {
        let zeros = |matrix: &Mat<f64>| Mat::zeros(count, matrix.ncols());
        Self { input: zeros(&self.input), initial: zeros(&self.initial), target: zeros(&self.target) }
    }

    /// The three matrices of these samples beside those of others.
    fn pairs<'a>(&'a self, other: &'a mut Self) -> [(&'a Mat<f64>, &'a mut Mat<f64>); 3] {
        [
            (&self.input, &mut other.input),
            (&self.initial, &mut other.initial),
            (&self.target, &mut other.target),
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
            if to.nrows() != indices.len() {
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
        let part = |matrix: &Mat<f64>| {
            let start = start.min(matrix.nrows());
            matrix.subrows(start, count.min(matrix.nrows() - start)).to_owned()
        };
        Self { input: part(&self.input), initial: part(&self.initial), target: part(&self.target) }
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
