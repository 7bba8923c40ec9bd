//! Laplacians of smooth noise; the network sees the target, up to the unit of length.
//!
//! The noise is the real part of a white complex spectrum over k², without its mean, scaled to a standard deviation of
//! 1 in each sample. The target is its Laplacian t. The network sees t·dx², the Laplacian in units of the grid, so that a
//! change of dx is a change of the outcome's unit and of nothing else.

use std::sync::Arc;

use faer::Mat;
use rand::{Rng, RngExt};
use rand_distr::StandardNormal;
use rustfft::FftPlanner;
use rustfft::num_complex::Complex;
use serde::{Deserialize, Serialize};

use super::{Context, Generator, Setup, settings_of};
use crate::error::SettingError;
use crate::linear::vectors::norm;
use crate::problem::Samples;
use crate::simulator::{Poisson, PoissonSettings, Simulator};

/// Nothing to set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LaplacianOfNoiseSettings {}

struct LaplacianOfNoise {
    /// The grid with dx = 1.
    unit: Poisson,
    /// dx⁻².
    scale: f64,
}

impl Setup for LaplacianOfNoiseSettings {
    const KIND: &'static str = "laplacian-of-noise";

    fn build(self, context: Context<'_>) -> Result<Arc<dyn Generator>, SettingError> {
        let settings: PoissonSettings = settings_of(context, Self::KIND)?;
        let scale = 1.0 / (settings.dx * settings.dx);
        Ok(Arc::new(LaplacianOfNoise { unit: Poisson::new(PoissonSettings { dx: 1.0, ..settings })?, scale }))
    }
}

impl Generator for LaplacianOfNoise {
    fn inputs(&self) -> usize {
        self.unit.outcomes()
    }

    fn draw(&self, count: usize, rng: &mut dyn Rng) -> Samples {
        let (width, height) = (self.unit.settings().width, self.unit.settings().height);
        let mut planner = FftPlanner::new();
        let (along, across) = (planner.plan_fft_inverse(width), planner.plan_fft_inverse(height));
        // Cycles per cell of the spectrum's entry i of n.
        let frequency = |i: usize, n: usize| i.min(n - i) as f64 / n as f64;
        let mut noise = Mat::zeros(count, width * height);
        for s in 0..count {
            let mut spectrum: Vec<Complex<f64>> = (0..width * height)
                .map(|cell| {
                    let k2 = frequency(cell % width, width).powi(2) + frequency(cell / width, height).powi(2);
                    let (re, im): (f64, f64) = (rng.sample(StandardNormal), rng.sample(StandardNormal));
                    if k2 > 0.0 { Complex::new(re, im) / k2 } else { Complex::default() }
                })
                .collect();
            along.process(&mut spectrum);
            let mut transposed: Vec<_> =
                (0..width * height).map(|i| spectrum[i / height + i % height * width]).collect();
            across.process(&mut transposed);
            let field: Vec<f64> =
                (0..width * height).map(|cell| transposed[cell / width + cell % width * height].re).collect();
            let deviation = norm(&field) / (field.len() as f64).sqrt();
            for (cell, value) in field.iter().enumerate() {
                noise[(s, cell)] = if deviation > 0.0 { value / deviation } else { 0.0 };
            }
        }
        let mut input = Mat::zeros(count, width * height);
        self.unit.laplacian(noise.as_ref(), input.as_mut());
        let target = faer::Scale(self.scale) * &input;
        Samples::unweighted(input, Mat::zeros(count, 0), target)
    }
}
