//! What objective and samples make of a mini-batch's outcomes: Σ wₛLₛ with its gradient, and its curvature.
//!
//! The curvature is one number h, and where it differs from outcome to outcome or from sample to sample the weights
//! wᵢ = √(hᵢ/h) with h the mean of all hᵢ, by which rows of J are multiplied and g is divided. A sample's own weight is
//! a factor of its hᵢ, as it is of its loss.
//!
//! Where a shift of all outcomes alike has no curvature ([`Curvature::Centred`]), a sample's h·WᵀW is
//! diag(hᵢ) − hᵢhⱼ/Σh with W = diag(w)(I − 1sᵀ) and s = hᵢ/Σh. Rows of J are those of W ẏ, and g/w remains: it has
//! Wᵀ(g/w) = g because g sums to 0, and is the shortest vector that has it.

use faer::prelude::ReborrowMut;
use faer::{Mat, MatMut, MatRef};

use super::Samples;
use crate::linear::columns::{column, column_mut};
use crate::objective::{Curvature, Objective};

/// Loss and curvature of a mini-batch, the reduction's factor left out.
#[derive(Debug, Clone)]
pub(super) struct Weights {
    /// h at the last outcomes that it was told of.
    pub(super) mean: f64,
    /// wᵢ (b × m), where the curvature is not the same for all.
    each: Option<Mat<f64>>,
    /// s (b × m), where a shift of all outcomes alike has no curvature.
    shares: Option<Mat<f64>>,
    /// Lₛ.
    losses: Vec<f64>,
    /// h where no outcome has any: 1, so that one can divide by it, or 0 in a part of a mini-batch, which has others.
    without: f64,
}

impl Weights {
    pub(super) fn new(samples: usize) -> Self {
        Self { mean: 1.0, each: None, shares: None, losses: vec![0.0; samples], without: 1.0 }
    }

    /// Of a part of a mini-batch.
    pub(super) fn of_a_part(self) -> Self {
        Self { without: 0.0, ..self }
    }

    /// As new, for another number of samples.
    pub(super) fn again(&self, samples: usize) -> Self {
        Self { without: self.without, ..Self::new(samples) }
    }

    /// Σ wₛLₛ for the outcomes of these samples.
    pub(super) fn loss(
        &mut self,
        objective: &dyn Objective,
        outcome: MatRef<'_, f64>,
        samples: &Samples,
    ) -> f64 {
        objective.losses(outcome, samples.target.as_ref(), &mut self.losses, None);
        self.sum(samples)
    }

    /// The same, its gradient into `gradient` (b × m); takes in the curvature.
    pub(super) fn forward(
        &mut self,
        objective: &dyn Objective,
        outcome: MatRef<'_, f64>,
        samples: &Samples,
        mut gradient: MatMut<'_, f64>,
    ) -> f64 {
        let target = samples.target.as_ref();
        objective.losses(outcome, target, &mut self.losses, Some(gradient.rb_mut()));
        if let Some(weights) = samples.weights() {
            (0..gradient.ncols()).for_each(|c| scale(column_mut(gradient.rb_mut(), c), weights));
        }
        self.update(objective.curvature(), outcome, samples);
        self.sum(samples)
    }

    fn sum(&self, samples: &Samples) -> f64 {
        match samples.weights() {
            Some(weights) => self.losses.iter().zip(weights).map(|(loss, weight)| loss * weight).sum(),
            None => self.losses.iter().sum(),
        }
    }

    fn update(&mut self, curvature: Curvature<'_>, outcome: MatRef<'_, f64>, samples: &Samples) {
        if let (Curvature::Uniform(h), None) = (&curvature, samples.weights()) {
            (self.mean, self.each, self.shares) = (*h, None, None);
            return;
        }
        let each = self.each.get_or_insert_with(Mat::new);
        if each.shape() != outcome.shape() {
            *each = Mat::zeros(outcome.nrows(), outcome.ncols());
        }
        let centred = matches!(curvature, Curvature::Centred(_));
        match curvature {
            Curvature::Uniform(h) => each.fill(h),
            Curvature::PerOutcome(h) | Curvature::Centred(h) => {
                h(outcome, samples.target.as_ref(), each.as_mut());
            }
        }
        if centred {
            share(each, self.shares.get_or_insert_with(Mat::new));
        } else {
            self.shares = None;
        }
        if let Some(weights) = samples.weights() {
            (0..each.ncols()).for_each(|c| scale(each.col_as_slice_mut(c), weights));
        }
        let sum: f64 = (0..each.ncols()).flat_map(|c| each.col_as_slice(c)).sum();
        let mean = sum / (each.nrows() * each.ncols()) as f64;
        let curved = mean > 0.0 && mean.is_finite();
        self.mean = if curved { mean } else { self.without };
        let unit = if curved { mean } else { 1.0 };
        for c in 0..each.ncols() {
            each.col_as_slice_mut(c).iter_mut().for_each(|h| *h = (*h / unit).sqrt());
        }
    }

    /// Whether W is no diagonal.
    pub(super) fn couple(&self) -> bool {
        self.shares.is_some()
    }

    /// W of outcomes' tangents (b × m).
    pub(super) fn tangent(&self, mut outcomes: MatMut<'_, f64>) {
        if let Some(shares) = &self.shares {
            centre(outcomes.rb_mut(), shares);
        }
        self.scale(outcomes);
    }

    /// Wᵀ of outcomes' cotangents (b × m).
    pub(super) fn cotangent(&self, mut outcomes: MatMut<'_, f64>) {
        self.scale(outcomes.rb_mut());
        if let Some(shares) = &self.shares {
            centre_transposed(outcomes, shares);
        }
    }

    fn scale(&self, mut outcomes: MatMut<'_, f64>) {
        if let Some(each) = &self.each {
            for c in 0..each.ncols() {
                scale(column_mut(outcomes.rb_mut(), c), each.col_as_slice(c));
            }
        }
    }

    /// W of the blocks ∂y/∂z (b × q·m), whose every m columns are tangents of one control.
    pub(super) fn multiply_blocks(&self, mut blocks: MatMut<'_, f64>) {
        if let Some(each) = &self.each {
            let m = each.ncols();
            for start in (0..blocks.ncols()).step_by(m) {
                self.tangent(blocks.rb_mut().subcols_mut(start, m));
            }
        }
    }

    /// Divides g (b × m) by w.
    pub(super) fn divide(&self, mut gradient: MatMut<'_, f64>) {
        if let Some(each) = &self.each {
            for c in 0..each.ncols() {
                for (g, w) in column_mut(gradient.rb_mut(), c).iter_mut().zip(each.col_as_slice(c)) {
                    // Without curvature there is no model along this outcome.
                    *g = if *w > 0.0 { *g / w } else { 0.0 };
                }
            }
        }
    }

    /// W of a tangent, sample-major.
    pub(super) fn tangent_rows(&self, rows: &mut [f64]) {
        if let Some(shares) = &self.shares {
            centre(MatMut::from_row_major_slice_mut(rows, shares.nrows(), shares.ncols()), shares);
        }
        self.scale_rows(rows);
    }

    /// Wᵀ of a cotangent, sample-major.
    pub(super) fn cotangent_rows(&self, rows: &mut [f64]) {
        self.scale_rows(rows);
        if let Some(shares) = &self.shares {
            centre_transposed(MatMut::from_row_major_slice_mut(rows, shares.nrows(), shares.ncols()), shares);
        }
    }

    fn scale_rows(&self, rows: &mut [f64]) {
        if let Some(each) = &self.each {
            let m = each.ncols();
            for (i, value) in rows.iter_mut().enumerate() {
                *value *= column(each.as_ref(), i % m)[i / m];
            }
        }
    }
}

/// s of each sample from its h.
fn share(h: &Mat<f64>, shares: &mut Mat<f64>) {
    shares.clone_from(h);
    for s in 0..h.nrows() {
        let sum: f64 = (0..h.ncols()).map(|c| h[(s, c)]).sum();
        (0..h.ncols()).for_each(|c| shares[(s, c)] = if sum > 0.0 { h[(s, c)] / sum } else { 0.0 });
    }
}

/// I − 1sᵀ of each sample's tangent.
fn centre(mut outcomes: MatMut<'_, f64>, shares: &Mat<f64>) {
    let m = shares.ncols();
    for s in 0..shares.nrows() {
        let mean: f64 = (0..m).map(|c| shares[(s, c)] * outcomes[(s, c)]).sum();
        (0..m).for_each(|c| outcomes[(s, c)] -= mean);
    }
}

/// I − s1ᵀ of each sample's cotangent.
fn centre_transposed(mut outcomes: MatMut<'_, f64>, shares: &Mat<f64>) {
    let m = shares.ncols();
    for s in 0..shares.nrows() {
        let sum: f64 = (0..m).map(|c| outcomes[(s, c)]).sum();
        (0..m).for_each(|c| outcomes[(s, c)] -= shares[(s, c)] * sum);
    }
}

fn scale(values: &mut [f64], factors: &[f64]) {
    values.iter_mut().zip(factors).for_each(|(value, factor)| *value *= factor);
}
