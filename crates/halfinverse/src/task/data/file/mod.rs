//! Samples of a data file: text (`.csv` and the like), `.npy`, `.npz`, `.safetensors`.
//!
//! | file | what it does |
//! |---|---|
//! | rows.rs | a file as rows of numbers; csv.rs and arrays.rs have the formats |
//! | columns.rs | which columns are inputs, which are targets |
//! | scale.rs | standardisation |
//! | load.rs | training and test samples |
//!
//! Columns are standardised when they are read, and the loss is that of standardised targets. [`Fitted`] undoes it.
//!
//! [`Fitted`]: crate::task::Fitted

mod arrays;
mod columns;
mod csv;
mod load;
pub(in crate::task) mod rows;
mod scale;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use faer::Mat;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};
use toml::Value;

pub use load::DataFile;
pub(in crate::task) use load::position;
pub use scale::Column;

use super::{Context, Generator, Setup};
use crate::error::SettingError;
use crate::objective::{CrossEntropySettings, Setup as _};
use crate::problem::Samples;
use crate::simulator::{IdentitySettings, Setup as _};
use crate::tables::{from_table, to_table};
use crate::task::Settings;

/// Where the samples are, and which columns they have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FileSettings {
    /// The file; a path that is not absolute begins where the program was started.
    pub path: String,
    /// Input columns, each by name, number (from 1) or range of numbers (2-5); all that are no targets where the list
    /// is empty.
    pub inputs: Vec<String>,
    /// Target columns; the last column where the list is empty.
    pub targets: Vec<String>,
    /// The column that holds each row's weight in the loss; all weights are 1 where there is no name.
    pub weights: String,
    /// A file with test samples; part of the rows are for testing where there is none.
    pub test_path: String,
    /// Part of the rows that are kept for testing.
    pub test_share: f64,
    /// Whether a text file's first line holds the columns' names; auto: it has words and no numbers.
    pub header: Header,
    /// What is done about a row that lacks a value.
    pub missing: Missing,
    /// Which columns are standardised: mean 0 and deviation 1 over the training rows.
    pub standardize: Standardize,
    /// Names of the classes, where the targets are labels or probabilities; found in the file.
    pub classes: Vec<String>,
    /// What the file was when it was first read, by which a file that changed is known.
    pub contents: String,
    /// The same of the file with test samples.
    pub test_contents: String,
}

/// Whether there is a header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Header {
    /// Where the first line has words and no numbers.
    #[default]
    Auto,
    /// There is.
    Yes,
    /// There is none.
    No,
}

/// What is done about a row that lacks a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// The file is refused.
    #[default]
    Refuse,
    /// The row is left out.
    Drop,
}

/// Which columns are standardised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Standardize {
    /// All but labels and probabilities.
    #[default]
    Both,
    /// Inputs only: for objectives that are relative to a target's size.
    Inputs,
    /// None.
    None,
}

impl Default for FileSettings {
    fn default() -> Self {
        Self {
            path: String::new(),
            inputs: Vec::new(),
            targets: Vec::new(),
            weights: String::new(),
            test_path: String::new(),
            test_share: 0.1,
            header: Header::Auto,
            missing: Missing::Refuse,
            standardize: Standardize::Both,
            classes: Vec::new(),
            contents: String::new(),
            test_contents: String::new(),
        }
    }
}

impl Setup for FileSettings {
    const KIND: &'static str = "file";

    fn build(self, context: Context<'_>) -> Result<Arc<dyn Generator>, SettingError> {
        let classify = !self.classes.is_empty();
        Ok(Arc::new(FromFile(context.files.get(&self, context.data.seed, classify)?)))
    }
}

/// A refusal of a file's contents.
pub(in crate::task) fn refused(sentence: String) -> SettingError {
    SettingError::Contents { key: "data.path".to_owned(), sentence }
}

/// Puts in what only the file can tell: how many samples there are, which columns by name, the classes, and the width
/// of outcomes where no simulator stands between network and targets. Settings that have all that stay as they are, and
/// the file is then checked to be the same.
pub(in crate::task) fn complete(settings: &mut Settings, files: &Files) -> Result<(), SettingError> {
    let mut own: FileSettings = from_table(&settings.data.settings).map_err(|error| error.within("data"))?;
    if own.path.is_empty() {
        return Err(SettingError::new("data.path", "absent", "the data file, as in `hig fit data.csv`"));
    }
    if !(own.test_share > 0.0 && own.test_share < 1.0) {
        return Err(SettingError::new("data.test_share", own.test_share, "above 0 and below 1"));
    }
    let classify = settings.objective.kind == CrossEntropySettings::KIND;
    let file = files.get(&own, settings.data.seed, classify)?;
    let names =
        |columns: &[Column]| columns.iter().map(|column| column.name.clone()).collect::<Vec<String>>();
    (own.inputs, own.targets) = (names(&file.inputs), names(&file.targets));
    own.weights = file.weights.clone().unwrap_or_default();
    (own.path, own.test_path) = (absolute(&own.path), absolute(&own.test_path));
    [own.contents, own.test_contents] = file.contents.clone();
    own.classes.clone_from(&file.classes);
    for (key, given, there) in [
        ("data.train", &mut settings.data.train, file.train.len()),
        ("data.test", &mut settings.data.test, file.test.len()),
    ] {
        if *given != 0 && *given != there {
            let expected = format!("0, for all samples that the file has, {there}");
            return Err(SettingError::new(key, *given, expected));
        }
        *given = there;
    }
    files.know(&own, settings.data.seed, classify);
    if settings.simulator.kind == IdentitySettings::KIND {
        let width = i64::try_from(file.test.target.ncols()).unwrap_or(i64::MAX);
        settings.simulator.settings.insert("width".to_owned(), Value::Integer(width));
    }
    settings.data.settings = to_table(&own);
    Ok(())
}

/// A path that means the same wherever the program is started.
fn absolute(path: &str) -> String {
    if path.is_empty() {
        return String::new();
    }
    std::path::absolute(Path::new(path)).map_or_else(|_| path.to_owned(), |path| path.display().to_string())
}

/// The file that was read last: settings are completed, checked and made into tasks several times, and a study has one
/// for every run.
#[derive(Default)]
pub(crate) struct Files(Mutex<Option<Kept>>);

struct Kept {
    /// All settings that it was read or known by.
    keys: Vec<String>,
    file: Arc<DataFile>,
}

impl Files {
    fn get(&self, settings: &FileSettings, seed: u64, classify: bool) -> Result<Arc<DataFile>, SettingError> {
        let key = key(settings, seed, classify);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Kept { file, .. }) = kept.as_ref().filter(|kept| kept.keys.contains(&key)) {
            return Ok(file.clone());
        }
        // Its memory makes room.
        *kept = None;
        let file = Arc::new(DataFile::load(settings, seed, classify)?);
        *kept = Some(Kept { keys: vec![key], file: file.clone() });
        Ok(file)
    }

    /// Makes the file known by the completed settings too.
    fn know(&self, settings: &FileSettings, seed: u64, classify: bool) {
        let key = key(settings, seed, classify);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Kept { keys, .. }) = kept.as_mut().filter(|kept| !kept.keys.contains(&key)) {
            keys.push(key);
        }
    }
}

/// Tells apart settings by which other samples are read.
fn key(settings: &FileSettings, seed: u64, classify: bool) -> String {
    format!("{seed} {classify} {}", to_table(settings))
}

/// The samples of a file.
struct FromFile(Arc<DataFile>);

impl Generator for FromFile {
    fn inputs(&self) -> usize {
        self.0.inputs.len()
    }

    /// Rows of the training data at random, each as often as it comes.
    fn draw(&self, count: usize, rng: &mut dyn Rng) -> Samples {
        let all = &self.0.train;
        let rows: Vec<usize> = (0..count).map(|_| rng.random_range(0..all.len())).collect();
        let pick = |from: &Mat<f64>| Mat::from_fn(count, from.ncols(), |s, j| from[(rows[s], j)]);
        let weight = pick(&all.weight);
        Samples { weight, ..Samples::unweighted(pick(&all.input), pick(&all.initial), pick(&all.target)) }
    }

    fn file(&self) -> Option<&Arc<DataFile>> {
        Some(&self.0)
    }
}
