//! The objective's curvature over a mini-batch: one number h, and where it differs from outcome to outcome the weights
//! wᵢ = √(hᵢ/h) with h the mean of all hᵢ, by which rows of J are multiplied and g is divided.

use faer::prelude::ReborrowMut;
use faer::{Mat, MatMut, MatRef};

use crate::linear::columns::{column, column_mut};
use crate::objective::{Curvature, Objective};

/// Curvature of a mini-batch at the last outcomes that it was told of.
#[derive(Debug, Clone)]
pub(super) struct Weights {
    /// h, the reduction's factor left out.
    pub(super) mean: f64,
    /// w (b × m), where the curvature is not the same for all.
    each: Option<Mat<f64>>,
}

impl Weights {
    pub(super) fn new(objective: &dyn Objective) -> Self {
        match objective.curvature() {
            Curvature::Uniform(mean) => Self { mean, each: None },
            Curvature::PerOutcome(_) => Self { mean: 1.0, each: Some(Mat::new()) },
        }
    }

    /// Takes in the outcomes of an evaluation.
    pub(super) fn update(
        &mut self,
        objective: &dyn Objective,
        outcome: MatRef<'_, f64>,
        target: MatRef<'_, f64>,
    ) {
        let (Some(each), Curvature::PerOutcome(curvature)) = (&mut self.each, objective.curvature()) else {
            return;
        };
        if each.shape() != outcome.shape() {
            *each = Mat::zeros(outcome.nrows(), outcome.ncols());
        }
        curvature(outcome, target, each.as_mut());
        let sum: f64 = (0..each.ncols()).flat_map(|c| each.col_as_slice(c)).sum();
        let mean = sum / (each.nrows() * each.ncols()) as f64;
        self.mean = if mean > 0.0 && mean.is_finite() { mean } else { 1.0 };
        for c in 0..each.ncols() {
            each.col_as_slice_mut(c).iter_mut().for_each(|h| *h = (*h / self.mean).sqrt());
        }
    }

    /// Multiplies outcomes' tangents or cotangents (b × m) by w.
    pub(super) fn multiply(&self, mut outcomes: MatMut<'_, f64>) {
        if let Some(each) = &self.each {
            for c in 0..each.ncols() {
                scale(column_mut(outcomes.rb_mut(), c), each.col_as_slice(c));
            }
        }
    }

    /// Multiplies the blocks ∂y/∂z (b × q·m) by w.
    pub(super) fn multiply_blocks(&self, mut blocks: MatMut<'_, f64>) {
        if let Some(each) = &self.each {
            for column in 0..blocks.ncols() {
                scale(column_mut(blocks.rb_mut(), column), each.col_as_slice(column % each.ncols()));
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

    /// Multiplies a vector over outcomes, sample-major, by w.
    pub(super) fn multiply_rows(&self, rows: &mut [f64]) {
        if let Some(each) = &self.each {
            let m = each.ncols();
            for (i, value) in rows.iter_mut().enumerate() {
                *value *= column(each.as_ref(), i % m)[i / m];
            }
        }
    }
}

fn scale(values: &mut [f64], factors: &[f64]) {
    values.iter_mut().zip(factors).for_each(|(value, factor)| *value *= factor);
}
