//! `metrics.csv`: a line per evaluation.

use std::fs::File;
use std::path::Path;

use halfinverse::anatomy::LayerUnits;
use halfinverse::optimizer::Way;
use halfinverse::training::Row;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// One line of `metrics.csv`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Metrics {
    pub(crate) step: u64,
    pub(crate) epoch: f64,
    pub(crate) wall_s: f64,
    pub(crate) elapsed_s: f64,
    pub(crate) train_loss: Option<f64>,
    pub(crate) test_loss: f64,
    pub(crate) learning_rate: Option<f64>,
    pub(crate) kappa: Option<f64>,
    pub(crate) rank: Option<usize>,
    pub(crate) update_norm: Option<f64>,
    pub(crate) sigma_max: Option<f64>,
    pub(crate) sigma_min: Option<f64>,
    pub(crate) krylov_steps: Option<usize>,
    pub(crate) error_estimate: Option<f64>,
    pub(crate) fallbacks: u64,
    pub(crate) lambda: Option<f64>,
    pub(crate) rejected: u64,
    /// Which of several ways to step the last step took.
    pub(crate) way: Option<Way>,
    pub(crate) saturated: Option<f64>,
    pub(crate) dead: Option<f64>,
    /// Steps that failed since the row before, and that the run survived.
    #[serde(default)]
    pub(crate) faults: u64,
    /// Length of the last step in units of the one that its mini-batch's quadratic model likes best.
    #[serde(default)]
    pub(crate) step_length: Option<f64>,
    /// Steps since the row before that changed θ above round-off.
    #[serde(default)]
    pub(crate) moved: Option<u64>,
    /// The kind of the last notice since the row before.
    #[serde(default)]
    pub(crate) notice: Option<String>,
    /// What a person asked of the run in the view; the row was made for it.
    #[serde(default)]
    pub(crate) event: Option<String>,
}

impl From<&Row> for Metrics {
    fn from(row: &Row) -> Self {
        let last = row.last.as_ref();
        let spectral = last.and_then(|last| last.spectral.as_ref());
        // Layers count alike.
        let units = row.units.as_deref().filter(|units| !units.is_empty());
        let mean = |of: fn(&LayerUnits) -> f64| {
            units.map(|units| units.iter().map(of).sum::<f64>() / units.len() as f64)
        };
        Self {
            step: row.step,
            epoch: row.epoch,
            wall_s: row.wall.as_secs_f64(),
            elapsed_s: row.elapsed.as_secs_f64(),
            train_loss: row.train_loss,
            test_loss: row.test_loss,
            learning_rate: last.and_then(|last| last.learning_rate),
            kappa: last.and_then(|last| last.kappa),
            rank: spectral.map(|report| report.rank),
            update_norm: last.map(|last| last.update_norm),
            sigma_max: spectral.map(|report| report.sigma_max),
            sigma_min: spectral.map(|report| report.sigma_min),
            krylov_steps: spectral.and_then(|report| report.krylov_steps),
            error_estimate: spectral.map(|report| report.error_estimate),
            fallbacks: row.fallbacks,
            lambda: last.and_then(|last| last.lambda),
            rejected: row.rejected,
            way: last.and_then(|last| last.way),
            saturated: mean(|units| units.saturated),
            dead: mean(|units| units.dead),
            faults: row.faults,
            step_length: last.and_then(|last| last.step_length),
            moved: Some(row.moved),
            notice: row.notice.as_ref().map(|notice| notice.kind().to_owned()),
            event: None,
        }
    }
}

/// The rows of a table whose first line names its columns; beside the text, at most 80 bytes for each of its bytes and
/// 64 KiB.
pub(super) fn from_csv<T: for<'a> Deserialize<'a>>(text: &[u8]) -> csv::Result<Vec<T>> {
    csv::Reader::from_reader(text).deserialize().collect()
}

/// The first line and `count` more, as far as they are whole.
pub(super) fn whole_lines(text: &str, count: usize) -> &str {
    let ends = text.match_indices('\n').map(|(at, _)| at + 1);
    &text[..ends.take(count.saturating_add(1)).last().unwrap_or(0)]
}

/// All of a file with these rows.
pub(super) fn to_csv(rows: &[Metrics]) -> csv::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    rows.iter().try_for_each(|row| writer.serialize(row))?;
    writer.into_inner().map_err(|error| error.into_error().into())
}

/// `metrics.csv`, one line at a time, each on disk before the next step.
pub(crate) struct MetricsWriter(csv::Writer<File>);

impl MetricsWriter {
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        Ok(Self(csv::Writer::from_writer(File::create(path).map_err(|error| unwritable(path, &error))?)))
    }

    /// Continues after the lines that are there.
    pub(crate) fn append_to(path: &Path) -> Result<Self, Failure> {
        let file = File::options().append(true).open(path).map_err(|error| unwritable(path, &error))?;
        Ok(Self(csv::WriterBuilder::new().has_headers(false).from_writer(file)))
    }

    /// Waits until the lines are on the disk.
    pub(crate) fn sync(&self) -> std::io::Result<()> {
        self.0.get_ref().sync_data()
    }

    pub(crate) fn append(&mut self, row: &Metrics) -> std::io::Result<()> {
        self.0.serialize(row).map_err(std::io::Error::other)?;
        self.0.flush()
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::of_writing(format!("cannot write {}: {error}", path.display()))
}
