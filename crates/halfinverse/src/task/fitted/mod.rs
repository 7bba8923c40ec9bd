//! A network that was fitted to a data file, with all that predictions need: its weights, and the names and scales of
//! its columns, from one safetensors file.
//!
//! The file's metadata have, under `halfinverse.fit`, a TOML text: the network's settings, the input and target columns
//! with mean and deviation, and the classes where there are some. Predictions are y = ŷ·deviation + mean of
//! ŷ = f((x − mean)/deviation), or the classes' probabilities.

mod errors;
mod rows;

use std::path::Path;

use faer::{Mat, MatMut, MatRef};
use serde::{Deserialize, Serialize};

pub use errors::{Errors, TargetError, Worst};
pub use rows::{Chunk, FittedRows};

use super::data::{Column, DataFile};
use super::settings::NetworkSettings;
use super::{Registry, Task};
use crate::error::{SettingError, ShapeError};
use crate::linear::columns::column_mut;
use crate::objective::{SquaredError, probabilities};
use crate::problem::{Model, Predictor};
use crate::simulator::Scaling;
use crate::tables;
use crate::training::{CheckpointError, read_description, read_parameters};

/// A file that holds no fitted network.
#[derive(Debug, thiserror::Error)]
pub enum FittedError {
    /// It cannot be read, or its weights do not fit.
    #[error(transparent)]
    File(#[from] CheckpointError),
    /// It has weights and no scales.
    #[error(
        "{path} has no columns and scales in its metadata; take best.safetensors of a run of the task fit"
    )]
    Bare {
        /// The file.
        path: String,
    },
    /// Its metadata are wrong.
    #[error("{path} is no fitted network: {reason}")]
    Description {
        /// The file.
        path: String,
        /// Why not.
        reason: String,
    },
    /// Its parts do not fit.
    #[error(transparent)]
    Setting(#[from] SettingError),
}

/// What the metadata tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Description {
    /// Whether the columns have names, and not numbers only.
    named: bool,
    classes: Vec<String>,
    network: NetworkSettings,
    inputs: Vec<Column>,
    targets: Vec<Column>,
}

impl Description {
    pub(super) fn of(task: &Task) -> Option<String> {
        let DataFile { named, classes, inputs, targets, .. } = task.file()?;
        let description = Self {
            named: *named,
            classes: classes.clone(),
            network: task.settings().network.clone(),
            inputs: inputs.clone(),
            targets: targets.clone(),
        };
        toml::to_string(&description).ok()
    }

    fn outcomes(&self) -> usize {
        if self.classes.is_empty() { self.targets.len() } else { self.classes.len() }
    }
}

/// A fitted network.
///
/// # Example
/// ```no_run
/// use halfinverse::faer::mat;
/// use halfinverse::task::{Fitted, Registry};
/// let fitted = Fitted::read(&Registry::standard(), "runs/fit-hig-auto-1/best.safetensors".as_ref(), None)?;
/// let names: Vec<&str> = fitted.inputs().iter().map(|column| column.name.as_str()).collect();
/// assert_eq!(names, ["x"]);
/// println!("{:?}", fitted.predict(mat![[0.5], [0.6]].as_ref())?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Fitted {
    description: Description,
    predictor: Predictor,
}

impl Fitted {
    /// The network of a model file. With `weights` the parameters are those of another file, such as the checkpoint of
    /// the same run.
    ///
    /// # Errors
    /// When a file cannot be read, or the parts do not fit.
    pub fn read(registry: &Registry, path: &Path, weights: Option<&Path>) -> Result<Self, FittedError> {
        let shown = || path.display().to_string();
        let Some(text) = read_description(path)? else {
            return Err(FittedError::Bare { path: shown() });
        };
        let bad = |reason: String| FittedError::Description { path: shown(), reason };
        let table = text.parse::<toml::Table>().map_err(|error| bad(error.message().to_owned()))?;
        let description: Description = tables::from_table(&table).map_err(|error| bad(error.to_string()))?;
        let columns = || description.inputs.iter().chain(&description.targets);
        let scaled = |of: &Column| of.mean.is_finite() && of.deviation.is_finite() && of.deviation > 0.0;
        if !columns().all(scaled) || description.inputs.is_empty() || description.targets.is_empty() {
            return Err(bad("a column's scale is not positive and finite, or there is no column".to_owned()));
        }
        let (inputs, outcomes) = (description.inputs.len(), description.outcomes());
        let network = registry.build_network(&description.network, inputs, outcomes)?;
        let theta = read_parameters(&network.tensors(), weights.unwrap_or(path))?;
        Self::new(description, network, theta).map_err(|error| bad(error.to_string()))
    }

    /// The network of a task with these parameters; none where its data are not of a file.
    ///
    /// # Errors
    /// When there are more or fewer parameters.
    pub fn of_task(task: &Task, theta: Vec<f64>) -> Option<Result<Self, ShapeError>> {
        let text = Description::of(task)?;
        let description = text.parse().ok().and_then(|table| tables::from_table(&table).ok())?;
        Some(Self::new(description, task.model().network().clone(), theta))
    }

    fn new(
        description: Description,
        network: crate::network::Network,
        theta: Vec<f64>,
    ) -> Result<Self, ShapeError> {
        let outcomes = description.outcomes();
        let model = Model::new(network, Scaling::new(vec![1.0; outcomes]), SquaredError { factor: 1.0 })?;
        Ok(Self { description, predictor: Predictor::new(&model, theta, 1)? })
    }

    /// The input columns.
    #[must_use]
    pub fn inputs(&self) -> &[Column] {
        &self.description.inputs
    }

    /// The target columns.
    #[must_use]
    pub fn targets(&self) -> &[Column] {
        &self.description.targets
    }

    /// The classes; none where the targets are numbers.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.description.classes
    }

    /// Whether the one target column holds labels.
    #[must_use]
    pub fn labels(&self) -> bool {
        !self.classes().is_empty() && self.targets().len() == 1
    }

    /// Whether columns are found by name; else by number.
    #[must_use]
    pub fn named(&self) -> bool {
        self.description.named
    }

    /// Outcomes (n × m) of standardised inputs (n × d): standardised targets, or logits.
    ///
    /// # Errors
    /// When the inputs have another number of columns.
    pub fn outcome(&self, input: MatRef<'_, f64>) -> Result<Mat<f64>, ShapeError> {
        self.predictor.control(input)
    }

    /// What outcomes stand for: targets in their own units, or the classes' probabilities.
    #[must_use]
    pub fn restored(&self, mut outcome: Mat<f64>) -> Mat<f64> {
        if !self.classes().is_empty() {
            return probabilities(outcome.as_ref());
        }
        for (c, column) in self.targets().iter().enumerate().take(outcome.ncols()) {
            column.restore(outcome.col_as_slice_mut(c));
        }
        outcome
    }

    /// Predictions (n × m) for inputs (n × d) in their own units: targets in theirs, or the classes' probabilities.
    ///
    /// # Errors
    /// When the inputs have another number of columns.
    pub fn predict(&self, input: MatRef<'_, f64>) -> Result<Mat<f64>, ShapeError> {
        ShapeError::check("the inputs", "columns", self.inputs().len(), input.ncols())?;
        let mut input = input.to_owned();
        standardize(self.inputs(), input.as_mut());
        Ok(self.restored(self.outcome(input.as_ref())?))
    }
}

/// Columns in units of their spread.
fn standardize(columns: &[Column], mut values: MatMut<'_, f64>) {
    use faer::prelude::ReborrowMut;
    for (j, column) in columns.iter().enumerate() {
        column.standardize(column_mut(values.rb_mut(), j));
    }
}
