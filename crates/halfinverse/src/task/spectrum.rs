//! The report's singular values of J: over how many of the first training samples, and how.
//!
//! They are to cost no more than they tell, so both are chosen from counts of operations and bytes, never from a clock.
//! With n = s·m rows over s samples, W the sum of the widths of layers with parameters, and P parameters:
//!
//! | by | operations | numbers, beside activations and all Dₗ |
//! |---|---|---|
//! | SVD of J | 2nP + 2n²P + 4n³ | 2nP + 3n² |
//! | eigenvalues of K = J Jᵀ, by layers | 2nP + n²W + 4n³ | 3n² |
//!
//! The constant at n³ is 4/3, times three for the half of a tridiagonal reduction that is limited by memory's speed.
//! Taken is the largest s, of at most a mini-batch and [`ROWS`] rows, of which one of the two fits: the operations into
//! a fortieth of the run's, since there is a spectrum at each end, and the bytes into what the optimizer's own arrays
//! take, which do not stand at these moments. A little is free whatever the run. Where both fit it is the SVD.
//!
//! # Precision
//! The SVD resolves σ down to about ε·σ_max. Eigenvalues of K are off by about ε√n·σ_max², so that σ has the relative
//! error ε√n/2·(σ_max/σ)²: 1e-9 at 1e-3·σ_max, 1e-3 at 1e-6. What is below 2√(ε√n)·σ_max, 1.4e-7 of it for n = 512, is
//! noise and left out.

use faer::{Mat, Par};

use super::Task;
use super::forecast::batch_numbers;
use crate::fault::StepError;
use crate::linear::{Jacobian, LayeredJacobian};
use crate::optimizer::Stores;
use crate::problem::{Model, NetworkProblem};
use crate::spectral::{Solver, SpectralError, singular_values, symmetric_eigenvalues};

/// Rows of J, at most, where a sample has no more than that.
pub(super) const ROWS: usize = 512;
/// Part of a run's operations that each of its two spectra may take.
const SHARE: f64 = 0.025;
/// Steps that a run is taken to have where its settings do not say: a spectrum may take ten steps' operations.
const STEPS: f64 = 400.0;
/// Operations that are free: a fraction of a second, in which an SVD of 448 × 9484 is made (the dipole's).
const FREE_OPERATIONS: f64 = 5e9;
/// Bytes that are free: what that SVD takes, and some.
const FREE_BYTES: f64 = (96 << 20) as f64;

/// How singular values are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpectrumBy {
    /// SVD of J.
    Svd,
    /// Eigenvalues of J Jᵀ, made by layers.
    Gram,
}

/// Over how many samples singular values are taken, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpectrumPlan {
    /// The first ones of the training data.
    pub samples: usize,
    /// How.
    pub by: SpectrumBy,
}

/// Singular values that would cost more than they may.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error(
    "those of J over one sample, {rows} x {parameters}, take {operations:.0e} operations and {bytes:.0e} bytes, and may take {most_operations:.0e} (a fortieth of the run's) and {most_bytes:.0e} (as many as a step's)"
)]
pub struct TooDear {
    /// m, rows of J over one sample.
    pub rows: usize,
    /// P.
    pub parameters: usize,
    /// What one sample takes.
    pub operations: f64,
    /// The same.
    pub bytes: f64,
    /// What it may take.
    pub most_operations: f64,
    /// The same.
    pub most_bytes: f64,
}

/// What a run's steps take: the measure of what its spectra may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// b.
    pub(super) batch: usize,
    /// Of its whole length, where settings say it.
    pub(super) steps: Option<f64>,
    /// What a step is worth, in forward passes over its mini-batch.
    pub(super) passes: f64,
    /// Bytes that the optimizer's arrays take.
    pub(super) bytes: f64,
}

impl SpectrumPlan {
    /// For a run of this model.
    pub(super) fn new(model: &Model, run: &Run) -> Result<Self, TooDear> {
        let (rows, parameters) = (model.simulator().outcomes(), model.network().parameters());
        let step = run.passes * 2.0 * run.batch as f64 * model.network().work() as f64;
        let most_operations = (SHARE * run.steps.unwrap_or(STEPS) * step).max(FREE_OPERATIONS);
        let most_bytes = run.bytes.max(FREE_BYTES);
        let fits = |plan: &Self| plan.operations(model) <= most_operations && plan.bytes(model) <= most_bytes;
        let ways: &[SpectrumBy] = if model.network().factored() {
            &[SpectrumBy::Svd, SpectrumBy::Gram]
        } else {
            // Another layer's part of K takes rows of J, and nothing is saved.
            &[SpectrumBy::Svd]
        };
        let most = most_samples(run.batch, rows);
        let plans = (1..=most).rev().flat_map(|samples| ways.iter().map(move |&by| Self { samples, by }));
        plans.into_iter().find(fits).ok_or_else(|| {
            let one = Self { samples: 1, by: ways[ways.len() - 1] };
            let (operations, bytes) = (one.operations(model), one.bytes(model));
            TooDear { rows, parameters, operations, bytes, most_operations, most_bytes }
        })
    }

    /// Operations, those of the simulator left out.
    fn operations(&self, model: &Model) -> f64 {
        let network = model.network();
        let (s, p) = (self.samples as f64, network.parameters() as f64);
        let n = s * model.simulator().outcomes() as f64;
        let made = 2.0 * (s + n) * network.work() as f64;
        let size = n.min(p);
        made + match self.by {
            SpectrumBy::Svd => 2.0 * n * p * size + 4.0 * size.powi(3),
            SpectrumBy::Gram => n * n * network.leaf_widths() as f64 + 4.0 * n.powi(3),
        }
    }

    /// Bytes.
    pub(super) fn bytes(&self, model: &Model) -> f64 {
        let (network, simulator) = (model.network(), model.simulator());
        let sample = (network.inputs() + simulator.initials() + simulator.outcomes()) as f64;
        let n = (self.samples * simulator.outcomes()) as f64;
        let p = network.parameters() as f64;
        let problem = batch_numbers(network, simulator, self.samples, sample, Some(Stores::Rows));
        let own = match self.by {
            // J, its rows on their way, and what the SVD works in.
            SpectrumBy::Svd => (2.0 * n + n.min(64.0)) * p + 3.0 * n.min(p).powi(2),
            SpectrumBy::Gram => 3.0 * n * n,
        };
        8.0 * (problem + own)
    }

    /// The singular values of J at θ, descending; those that K does not resolve are left out.
    ///
    /// # Errors
    /// When J cannot be formed at θ, or is not finite.
    pub fn singular_values(&self, task: &Task, theta: &[f64]) -> Result<Vec<f64>, StepError> {
        let samples = task.train().first(self.samples);
        let mut problem = NetworkProblem::new(task.model(), samples, 1)?;
        let mut jacobian = problem.linearize_layers(theta)?.jacobian;
        Ok(match self.by {
            SpectrumBy::Svd => singular_values(&mut jacobian, Par::Seq)?,
            SpectrumBy::Gram => by_gram(&mut jacobian)?,
        })
    }
}

/// At most a mini-batch, and at most so many rows of J.
pub(super) fn most_samples(batch: usize, outcomes: usize) -> usize {
    batch.min((ROWS / outcomes).max(1))
}

/// Roots of the eigenvalues of K.
fn by_gram(jacobian: &mut LayeredJacobian<'_>) -> Result<Vec<f64>, SpectralError> {
    let mut gram = Mat::new();
    jacobian.row_gram(&mut gram, Par::Seq)?;
    let n = gram.nrows();
    SpectralError::check_finite("J J^T", (0..n).flat_map(|i| gram.col_as_slice(i)))?;
    let eigenvalues = symmetric_eigenvalues(gram.as_ref(), Par::Seq)
        .map_err(|_| SpectralError::NoConvergence { tried: vec![Solver::Gram] })?;
    let largest = eigenvalues.iter().copied().fold(0.0, f64::max);
    let noise = 4.0 * f64::EPSILON * (n as f64).sqrt() * largest;
    Ok(eigenvalues.iter().rev().filter(|&&s| s > noise).map(|s| s.sqrt()).collect())
}

#[cfg(test)]
mod tests {
    use super::super::{Forecast, Part, Registry, Settings};
    use super::*;
    use crate::training::StopSettings;

    fn settings(task: &str, optimizer: &str, hidden: &[usize], steps: Option<u64>) -> Settings {
        let mut settings = Registry::standard().settings(task, optimizer).unwrap();
        settings.network.hidden = hidden.to_vec();
        let time = steps.is_none().then_some(30.0);
        settings.stop = StopSettings { steps, time, ..StopSettings::default() };
        settings.training.threads = 1;
        settings
    }

    fn forecast(settings: &Settings) -> Forecast {
        Forecast::new(settings, &Registry::standard()).unwrap()
    }

    #[test]
    fn the_papers_tasks_keep_all_their_samples_however_short_the_run() {
        for (task, hidden, samples, by) in [
            ("oscillators", &[20, 20, 20][..], 128, SpectrumBy::Svd),
            ("dipole", &[20, 20, 20], 16, SpectrumBy::Svd),
            ("poisson", &[64, 128, 64], 8, SpectrumBy::Gram),
        ] {
            let of = forecast(&settings(task, "hig", hidden, Some(1)));
            assert_eq!(of.spectrum, Ok(SpectrumPlan { samples, by }), "{task}");
        }
    }

    #[test]
    fn a_large_network_has_as_many_samples_as_the_run_is_long() {
        let samples = |steps| {
            let of = forecast(&settings("oscillators", "adam", &[4096, 4096], steps));
            let spectrum = of.parts.iter().find(|part| part.0 == Part::Spectrum).unwrap().1;
            assert_eq!(spectrum, 0, "it fits into what the step takes");
            of.spectrum.map(|plan| (plan.samples, plan.by))
        };
        let gram = SpectrumBy::Gram;
        assert_eq!(samples(Some(100)), Ok((128, gram)));
        assert_eq!(samples(None), Ok((128, gram)));
        let few = samples(Some(5)).unwrap();
        assert!((16..64).contains(&few.0) && few.1 == gram, "{few:?}");
        assert!(samples(Some(20)).unwrap().0 > few.0);
    }

    #[test]
    fn what_one_sample_takes_too_much_for_has_no_spectrum_and_says_why() {
        let mut of = settings("poisson", "adam", &[4096, 4096], Some(2));
        for side in ["width", "height"] {
            of.simulator.settings.insert(side.to_owned(), toml::Value::Integer(48));
        }
        let error = forecast(&of).spectrum.unwrap_err();
        assert_eq!(error.rows, 48 * 48);
        assert!(error.operations > error.most_operations, "{error:?}");
        assert!(error.to_string().contains("2304 x "), "{error}");
    }

    #[test]
    fn the_gram_matrix_has_the_singular_values_of_the_svd_as_far_as_it_resolves_them() {
        for task in ["oscillators", "dipole", "poisson"] {
            let mut of = Registry::standard().settings(task, "hig").unwrap();
            (of.data.train, of.data.test, of.training.batch) = (32, 2, 8);
            let task = Task::new(of).unwrap();
            let theta = task.initial_parameters();
            let values = |by| SpectrumPlan { samples: 4, by }.singular_values(&task, &theta).unwrap();
            let (svd, gram) = (values(SpectrumBy::Svd), values(SpectrumBy::Gram));
            let (largest, n) = (svd[0], svd.len() as f64);
            let noise = 2.0 * (f64::EPSILON * n.sqrt()).sqrt() * largest;
            assert!(gram.iter().all(|&sigma| sigma > noise), "noise is left out");
            assert!(gram.len() >= svd.iter().filter(|&&sigma| sigma > 2.0 * noise).count());
            for (i, (a, b)) in svd.iter().zip(&gram).enumerate() {
                let bound = 2.0 * f64::EPSILON * n.sqrt() * (largest / a).powi(2);
                assert!((a - b).abs() <= bound.max(1e-13) * a, "σ_{i} is {a:e} and {b:e}");
                assert!(*a < 1e-4 * largest || (a - b).abs() <= 1e-6 * a, "σ_{i} is {a:e} and {b:e}");
            }
        }
    }
}
