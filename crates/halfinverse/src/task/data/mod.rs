//! Data of tasks, drawn from streams of random numbers that depend on `data.seed` and purpose alone.

mod bump;
mod eigenstates;
mod file;
mod laplacian_of_noise;
mod simulated;
mod sine_and_cosine;
mod uniform;

use std::sync::Arc;

use faer::Mat;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use bump::BumpSettings;
pub use eigenstates::EigenstatesSettings;
pub(crate) use file::Files;
pub use file::{Column, DataFile, FileSettings, Header, Missing, Standardize};
pub(super) use file::{complete, position, refused, rows};
pub use laplacian_of_noise::LaplacianOfNoiseSettings;
pub use simulated::SimulatedSettings;
pub use sine_and_cosine::SineAndCosineSettings;
pub use uniform::UniformSettings;

use super::settings::{Choice, DataSettings};
use crate::error::SettingError;
use crate::problem::Samples;
use crate::simulator::Simulator;

/// Draws samples of a task.
pub trait Generator: Send + Sync {
    /// Width of a sample's input, which the network sees.
    fn inputs(&self) -> usize;

    /// So many samples. They depend on nothing but the random numbers.
    fn draw(&self, count: usize, rng: &mut dyn Rng) -> Samples;

    /// The file that the samples are in, where they are not drawn: training and test samples are then its own.
    fn file(&self) -> Option<&Arc<DataFile>> {
        None
    }

    /// Training and test samples that are there already, and neither drawn nor in a file. `data.train` and `data.test`
    /// are then to be their numbers.
    fn given(&self) -> Option<[Arc<Samples>; 2]> {
        None
    }
}

/// What data are drawn for.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The simulator.
    pub simulator: &'a Arc<dyn Simulator>,
    /// Its kind and settings.
    pub settings: &'a Choice,
    /// What all data have.
    pub(crate) data: &'a DataSettings,
    /// Files that were read already.
    pub(crate) files: &'a Files,
}

/// Settings of a generator, by which a task file makes it. The type's own defaults stand for what a file leaves out.
///
/// One line in the [registry](super::Registry) makes it known by its kind.
pub trait Setup: Serialize + DeserializeOwned + Default + schemars::JsonSchema {
    /// Its name in task files: `data.kind`.
    const KIND: &'static str;

    /// The generator.
    ///
    /// # Errors
    /// When the simulator is not one that such data are for, or a setting is out of range.
    fn build(self, context: Context<'_>) -> Result<Arc<dyn Generator>, SettingError>;
}

/// `count` samples of a stream.
pub(crate) fn draw(generator: &dyn Generator, seed: u64, stream: u64, count: usize) -> Samples {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    generator.draw(count, &mut rng)
}

/// A simulator's settings, where the data belong to simulators of one kind.
fn settings_of<S: crate::simulator::Setup>(context: Context<'_>, own: &str) -> Result<S, SettingError> {
    if context.settings.kind != S::KIND {
        let expected =
            format!("another with the simulator {}: {own} belongs to {}", context.settings.kind, S::KIND);
        return Err(SettingError::new("kind", own, expected));
    }
    crate::tables::from_table(&context.settings.settings)
}

/// Points uniform on [−1, 1), and a function of them.
fn function(count: usize, rng: &mut dyn Rng, f: impl Fn(f64) -> Vec<f64>) -> Samples {
    let outputs = f(0.0).len();
    let mut samples =
        Samples::unweighted(Mat::zeros(count, 1), Mat::zeros(count, 0), Mat::zeros(count, outputs));
    for s in 0..count {
        let x = 2.0 * rng.random::<f64>() - 1.0;
        samples.input[(s, 0)] = x;
        f(x).into_iter().enumerate().for_each(|(c, y)| samples.target[(s, c)] = y);
    }
    samples
}
