//! Columns in units of their own spread: (x − mean)/deviation, of the training rows.

use serde::{Deserialize, Serialize};

/// A column and what standardises it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// The name.
    pub name: String,
    /// Mean over the training rows; 0 where the column is left as it is.
    pub mean: f64,
    /// Standard deviation over the training rows, above 0; 1 where the column is left as it is.
    pub deviation: f64,
}

impl Column {
    /// A column that is left as it is.
    pub(super) fn bare(name: &str) -> Self {
        Self { name: name.to_owned(), mean: 0.0, deviation: 1.0 }
    }

    /// Of these values; none where all are the same, or too large to be squared.
    pub(super) fn of(name: &str, values: &[f64]) -> Option<Self> {
        let count = values.len() as f64;
        if values.iter().all(|value| *value == values[0]) {
            return None;
        }
        let mean = values.iter().sum::<f64>() / count;
        let square: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (square / count).sqrt();
        let fit = mean.is_finite() && deviation.is_finite() && deviation > 0.0;
        fit.then(|| Self { name: name.to_owned(), mean, deviation })
    }

    /// Standardises values.
    pub fn standardize(&self, values: &mut [f64]) {
        for value in values {
            *value = (*value - self.mean) / self.deviation;
        }
    }

    /// Puts values back into the column's own units.
    pub fn restore(&self, values: &mut [f64]) {
        for value in values {
            *value = *value * self.deviation + self.mean;
        }
    }
}
