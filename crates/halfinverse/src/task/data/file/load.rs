//! Reads a data file into training and test samples.
//!
//! Columns are filled as rows come, into memory for as many rows as the file has lines; the rows are then put into a
//! random order, column by column, so that the arrays exist once, and one column and the order beside them.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use faer::Mat;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::columns::{Chosen, choose, listed};
use super::rows::{Rows, Table, Wanted};
use super::{Column, FileSettings, Standardize, refused};
use crate::error::SettingError;
use crate::problem::Samples;
use crate::streams;

/// Rows of the largest file.
const MOST_ROWS: usize = 10_000_000;
/// Classes that labels may have: more are numbers, to be learnt as such.
const MOST_CLASSES: usize = 1000;
/// What probabilities of a row may be off 1: three digits are written.
const OFF_ONE: f64 = 2e-3;

/// A data file: its samples, in units of their spread, and all that undoes that.
#[derive(Debug)]
pub struct DataFile {
    /// Training samples, in an order of their own.
    pub train: Arc<Samples>,
    /// Test samples.
    pub test: Arc<Samples>,
    /// For each test sample its line in the file that it comes from, or row of an array, from 1 on.
    pub lines: Vec<u32>,
    /// The input columns.
    pub inputs: Vec<Column>,
    /// The target columns; one that holds labels is left as it is.
    pub targets: Vec<Column>,
    /// The column that holds the samples' weights, where there is one.
    pub weights: Option<String>,
    /// The classes, where the targets are labels or probabilities.
    pub classes: Vec<String>,
    /// Whether the columns have names, and not numbers only.
    pub named: bool,
    /// Rows that lacked a value and were left out.
    pub dropped: u64,
    /// Size and checksum of the file, and of that of the test samples.
    pub(super) contents: [String; 2],
}

/// All rows of a file: a matrix with the inputs and one with the targets, n rows each.
struct Raw {
    input: Mat<f64>,
    target: Mat<f64>,
    /// One column, or none.
    weight: Mat<f64>,
    lines: Vec<u32>,
    dropped: u64,
}

/// What a file is, before its numbers are read.
struct Survey {
    contents: String,
    lines: usize,
}

impl Survey {
    fn of(path: &Path) -> Result<Self, SettingError> {
        let failed = |error| refused(format!("cannot read {}: {error}", path.display()));
        let mut file = File::open(path).map_err(failed)?;
        let mut crc = crc32fast::Hasher::new();
        let mut piece = vec![0; 1 << 20];
        let (mut bytes, mut feeds, mut returns) = (0_u64, 0, 0);
        loop {
            let count = file.read(&mut piece).map_err(failed)?;
            if count == 0 {
                let contents = format!("{bytes} bytes, CRC-32 {:08x}", crc.finalize());
                // Few files have lines that end in CR alone.
                return Ok(Self { contents, lines: 1 + if feeds > 0 { feeds } else { returns } });
            }
            crc.update(&piece[..count]);
            bytes += count as u64;
            feeds += memchr::memchr_iter(b'\n', &piece[..count]).count();
            returns += memchr::memchr_iter(b'\r', &piece[..count]).count();
        }
    }

    /// Refuses a file that is not what it was.
    fn check(&self, path: &Path, before: &str) -> Result<(), SettingError> {
        if before.is_empty() || before == self.contents {
            return Ok(());
        }
        Err(refused(format!(
            "{} has changed since it was first read: it has {}, and had {before}; put the file back, or fit anew",
            path.display(),
            self.contents
        )))
    }
}

impl DataFile {
    /// Reads what the settings name. `classify` says that targets are labels or probabilities.
    pub(super) fn load(settings: &FileSettings, seed: u64, classify: bool) -> Result<Self, SettingError> {
        let path = Path::new(&settings.path);
        let survey = Survey::of(path)?;
        survey.check(path, &settings.contents)?;
        let table = Table::open(path, settings.header)?;
        let chosen = choose(&table, &settings.inputs, &settings.targets, &settings.weights)?;
        let names = |columns: &[usize]| columns.iter().map(|&i| table.names[i].clone()).collect::<Vec<_>>();
        let (inputs, targets) = (names(&chosen.inputs), names(&chosen.targets));
        let weights = chosen.weights.map(|column| table.names[column].clone());
        let (headed, shown) = (table.named, table.shown.clone());
        let mut labels = Labels::new(classify && targets.len() == 1);
        let mut raw = Raw::read(table, &chosen, settings, survey.lines, &mut labels)?;
        let classes = if labels.wanted { labels.sort(&mut raw.target) } else { Vec::new() };
        let classes = if classify && !labels.wanted { targets.clone() } else { classes };
        if labels.wanted {
            check_classes(&classes, &targets[0], &shown)?;
        }
        let other = other_file(settings, [&inputs, &targets], weights.as_ref(), &mut labels)?;
        if classify {
            for raw in [Some(&raw), other.as_ref().map(|(raw, _)| raw)].into_iter().flatten() {
                check_probabilities(raw, &shown, labels.wanted)?;
            }
        }
        let dropped = raw.dropped + other.as_ref().map_or(0, |(raw, _)| raw.dropped);
        let (other, test_contents) = other.map_or((None, String::new()), |(raw, told)| (Some(raw), told));
        let [mut train, mut test] = split(raw, other, settings.test_share, seed, &shown)?;
        if let Some(name) = &weights {
            for (raw, which) in [(&train, "training"), (&test, "test")] {
                if raw.weight.col_as_slice(0).iter().all(|&weight| weight == 0.0) {
                    return Err(refused(format!(
                        "the weights (`{name}`) of all {which} rows of {shown} are 0"
                    )));
                }
            }
        }
        let standard = settings.standardize;
        let inputs =
            scales(&mut train.input, &mut test.input, &inputs, standard != Standardize::None, &shown)?;
        let targets = if classify {
            targets.iter().map(|name| Column::bare(name)).collect()
        } else {
            let whether = standard == Standardize::Both;
            scales(&mut train.target, &mut test.target, &targets, whether, &shown)?
        };
        if labels.wanted {
            train.target = one_hot(&train.target, classes.len());
            test.target = one_hot(&test.target, classes.len());
        }
        let samples = |raw: Raw| {
            let initial = Mat::zeros(raw.input.nrows(), 0);
            let weight = raw.weight;
            Arc::new(Samples { weight, ..Samples::unweighted(raw.input, initial, raw.target) })
        };
        let lines = std::mem::take(&mut test.lines);
        let contents = [survey.contents, test_contents];
        let (train, test) = (samples(train), samples(test));
        Ok(Self { train, test, lines, inputs, targets, weights, classes, named: headed, dropped, contents })
    }

    /// Whether the one target column holds labels.
    #[must_use]
    pub fn labels(&self) -> bool {
        !self.classes.is_empty() && self.targets.len() == 1
    }
}

/// The rows of the test file, where one is named, and what that file is.
fn other_file(
    settings: &FileSettings,
    [inputs, targets]: [&[String]; 2],
    weights: Option<&String>,
    labels: &mut Labels,
) -> Result<Option<(Raw, String)>, SettingError> {
    if settings.test_path.is_empty() {
        return Ok(None);
    }
    let path = Path::new(&settings.test_path);
    let survey = Survey::of(path)?;
    survey.check(path, &settings.test_contents)?;
    let table = Table::open(path, settings.header)?;
    let find =
        |names: &[String]| names.iter().map(|name| position(&table, name)).collect::<Result<Vec<_>, _>>();
    let weights = weights.map(|name| position(&table, name)).transpose()?;
    let chosen = Chosen { inputs: find(inputs)?, targets: find(targets)?, weights };
    labels.open = false;
    let raw = Raw::read(table, &chosen, settings, survey.lines, labels)?;
    Ok(Some((raw, survey.contents)))
}

/// The column of that name, in another file than the one that it was chosen from.
pub(in crate::task) fn position(table: &Table, name: &str) -> Result<usize, SettingError> {
    table.names.iter().position(|known| known == name).ok_or_else(|| {
        let names: Vec<&str> = table.names.iter().map(String::as_str).collect();
        refused(format!("{} has no column `{name}`; {}", table.shown, listed(&names)))
    })
}

/// The words of a label column, as numbers.
struct Labels {
    wanted: bool,
    /// Whether further ones may come.
    open: bool,
    known: HashMap<String, usize>,
}

impl Labels {
    fn new(wanted: bool) -> Self {
        Self { wanted, open: true, known: HashMap::new() }
    }

    fn number(&mut self, rows: &Rows) -> Result<f64, SettingError> {
        if let Some(&number) = self.known.get(&rows.row.label) {
            return Ok(number as f64);
        }
        let (label, line) = (&rows.row.label, rows.row.line);
        if !self.open {
            let mut known: Vec<&str> = self.known.keys().map(String::as_str).collect();
            known.sort_unstable();
            return Err(refused(format!(
                "{}, line {line}: the class `{label}` is not among those that are learnt; {}",
                rows.shown(),
                listed(&known)
            )));
        }
        let number = self.known.len();
        self.known.insert(label.clone(), number);
        Ok(number as f64)
    }

    /// The classes in their order, that of numbers or of the alphabet; renumbers those of `target`.
    fn sort(&mut self, target: &mut Mat<f64>) -> Vec<String> {
        let mut classes: Vec<String> = self.known.keys().cloned().collect();
        let number = |class: &String| class.parse::<f64>();
        if classes.iter().all(|class| number(class).is_ok()) {
            classes
                .sort_by(|a, b| number(a).unwrap_or(0.0).total_cmp(&number(b).unwrap_or(0.0)).then(a.cmp(b)));
        } else {
            classes.sort_unstable();
        }
        let mut places = vec![0.0; classes.len()];
        for (place, class) in classes.iter().enumerate() {
            let old = self.known.insert(class.clone(), place).unwrap_or(0);
            places[old] = place as f64;
        }
        target.col_as_slice_mut(0).iter_mut().for_each(|class| *class = places[index(*class)]);
        classes
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
fn index(value: f64) -> usize {
    value as usize
}

fn check_classes(classes: &[String], name: &str, shown: &str) -> Result<(), SettingError> {
    if (2..=MOST_CLASSES).contains(&classes.len()) {
        return Ok(());
    }
    Err(refused(format!(
        "the column `{name}` of {shown} has {} different labels, and cross-entropy takes from 2 to {MOST_CLASSES}; numbers are learnt with --set objective.kind=squared-error",
        classes.len()
    )))
}

/// Refuses rows whose targets are no probabilities.
fn check_probabilities(raw: &Raw, shown: &str, labels: bool) -> Result<(), SettingError> {
    let t = &raw.target;
    for s in 0..t.nrows() {
        let values = || (0..t.ncols()).map(|c| t[(s, c)]);
        let sum: f64 = values().sum();
        if !labels && (values().any(|t| t < 0.0) || (sum - 1.0).abs() > OFF_ONE) {
            return Err(refused(format!(
                "{shown}, line {}: the targets are {:?}, but must be probabilities, whose sum is 1, with cross-entropy",
                raw.lines[s],
                values().collect::<Vec<_>>()
            )));
        }
    }
    Ok(())
}

impl Raw {
    fn zeros(rows: usize, inputs: usize, targets: usize, weights: usize) -> Self {
        Self {
            input: Mat::zeros(rows, inputs),
            target: Mat::zeros(rows, targets),
            weight: Mat::zeros(rows, weights),
            lines: Vec::with_capacity(rows),
            dropped: 0,
        }
    }

    /// All rows of a file of at most so many.
    fn read(
        table: Table,
        chosen: &Chosen,
        settings: &FileSettings,
        lines: usize,
        labels: &mut Labels,
    ) -> Result<Self, SettingError> {
        let mut wanted = Wanted { numbers: chosen.inputs.clone(), label: None };
        if labels.wanted {
            wanted.label = chosen.targets.first().copied();
        } else {
            wanted.numbers.extend(&chosen.targets);
        }
        wanted.numbers.extend(chosen.weights);
        let (d, m) = (chosen.inputs.len(), chosen.targets.len());
        let weights = usize::from(chosen.weights.is_some());
        let most = table.count(&wanted).unwrap_or(lines);
        let shown = table.shown.clone();
        if most > MOST_ROWS {
            return Err(refused(format!("{shown} has {most} lines, and the most is {MOST_ROWS}")));
        }
        let mut rows = table.rows(wanted, settings.missing)?;
        let mut raw = Self::zeros(most, d, m, weights);
        while rows.next()? {
            let row = raw.lines.len();
            if row == most {
                return Err(refused(format!("{shown} changed while it was read")));
            }
            let values = &rows.row.values[..rows.row.values.len() - weights];
            for (j, &value) in values.iter().enumerate() {
                if j < d {
                    raw.input[(row, j)] = value;
                } else {
                    raw.target[(row, j - d)] = value;
                }
            }
            if let Some(column) = chosen.weights {
                raw.weight[(row, 0)] = rows.weight(column)?;
            }
            if labels.wanted {
                raw.target[(row, 0)] = labels.number(&rows)?;
            }
            raw.lines.push(u32::try_from(rows.row.line).unwrap_or(u32::MAX));
        }
        raw.dropped = rows.dropped;
        let count = raw.lines.len();
        if count == 0 {
            let why = if raw.dropped > 0 { "no row without a missing value" } else { "no row of numbers" };
            return Err(refused(format!("{shown} has {why}; it needs at least 2")));
        }
        raw.input.truncate(count, d);
        raw.target.truncate(count, m);
        raw.weight.truncate(count, weights);
        Ok(raw)
    }

    /// The rows in this order: all but the last `count` stay, these are returned.
    fn part(&mut self, order: &[u32], count: usize) -> Self {
        let kept = order.len() - count;
        let mut column = vec![0.0; order.len()];
        let mut divide = |from: &mut Mat<f64>| {
            let mut last = Mat::<f64>::zeros(count, from.ncols());
            for j in 0..from.ncols() {
                let own = from.col_as_slice_mut(j);
                column.copy_from_slice(own);
                let moved = order.iter().map(|&i| column[i as usize]);
                let places = own[..kept].iter_mut().chain(last.col_as_slice_mut(j));
                places.zip(moved).for_each(|(place, value)| *place = value);
            }
            from.truncate(kept, from.ncols());
            last
        };
        let (input, target) = (divide(&mut self.input), divide(&mut self.target));
        let weight = divide(&mut self.weight);
        let lines = order[kept..].iter().map(|&i| self.lines[i as usize]).collect();
        Self { input, target, weight, lines, dropped: 0 }
    }
}

/// Training and test rows: of one file in a random order, its last ones for testing, or of two.
fn split(
    mut raw: Raw,
    other: Option<Raw>,
    share: f64,
    seed: u64,
    shown: &str,
) -> Result<[Raw; 2], SettingError> {
    let count = raw.lines.len();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(streams::TEST);
    let mut order: Vec<u32> = (0..u32::try_from(count).unwrap_or(u32::MAX)).collect();
    order.shuffle(&mut rng);
    if let Some(other) = other {
        raw.part(&order, 0);
        return Ok([raw, other]);
    }
    if count < 2 {
        return Err(refused(format!(
            "{shown} has {count} row; it needs at least 2, one to train on and one to test on"
        )));
    }
    let test = index((share * count as f64).round()).clamp(1, count - 1);
    let test = raw.part(&order, test);
    Ok([raw, test])
}

/// The columns' scales by the training rows; standardises both parts.
fn scales(
    train: &mut Mat<f64>,
    test: &mut Mat<f64>,
    names: &[String],
    whether: bool,
    shown: &str,
) -> Result<Vec<Column>, SettingError> {
    let scale = |(j, name): (usize, &String)| {
        let values = train.col_as_slice_mut(j);
        let Some(mut column) = Column::of(name, values) else {
            let same = values.iter().all(|value| *value == values[0]);
            return Err(refused(if same {
                format!(
                    "the column `{name}` of {shown} is {} in all {} training rows, so that nothing can be learnt from it; leave it out: name the others with --inputs and --targets",
                    values[0],
                    values.len()
                )
            } else {
                format!("the column `{name}` of {shown} has numbers too large to be squared; scale them")
            }));
        };
        if !whether {
            column = Column::bare(name);
        }
        column.standardize(values);
        column.standardize(test.col_as_slice_mut(j));
        Ok(column)
    };
    names.iter().enumerate().map(scale).collect()
}

/// 1 in the column of each row's class.
fn one_hot(classes: &Mat<f64>, count: usize) -> Mat<f64> {
    let mut target = Mat::zeros(classes.nrows(), count);
    for s in 0..classes.nrows() {
        target[(s, index(classes[(s, 0)]))] = 1.0;
    }
    target
}
