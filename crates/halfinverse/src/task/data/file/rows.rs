//! A data file as rows of numbers, whatever its format.

use std::ops::Range;
use std::path::Path;

use super::arrays::{self, Array};
use super::csv::Csv;
use super::{Header, Missing, refused};
use crate::error::SettingError;

/// A file that was opened, before it is known which columns matter.
pub(in crate::task) struct Table {
    source: Source,
    pub(in crate::task) shown: String,
    /// The columns' names; their numbers from 1 on where they have none.
    pub(in crate::task) names: Vec<String>,
    /// Arrays of several columns, by name.
    pub(in crate::task) groups: Vec<(String, Range<usize>)>,
    /// Whether the columns have names of their own.
    pub(in crate::task) named: bool,
}

enum Source {
    Csv(Box<Csv>),
    Arrays(Vec<Array>),
}

/// The columns to be read, by position.
#[derive(Debug, Clone, Default)]
pub(in crate::task) struct Wanted {
    pub(in crate::task) numbers: Vec<usize>,
    /// The column whose text is wanted.
    pub(in crate::task) label: Option<usize>,
}

/// A row of the wanted columns.
#[derive(Debug, Clone, Default)]
pub(in crate::task) struct Row {
    pub(in crate::task) values: Vec<f64>,
    pub(in crate::task) label: String,
    /// Line of the file, or row of an array, from 1 on.
    pub(in crate::task) line: u64,
    /// The first column without a value.
    pub(in crate::task) missing: Option<usize>,
}

/// The rows of the wanted columns, first to last.
pub(in crate::task) struct Rows {
    table: Table,
    wanted: Wanted,
    missing: Missing,
    pub(in crate::task) row: Row,
    /// Rows left out so far.
    pub(in crate::task) dropped: u64,
}

impl Table {
    /// Opens a file of the format that its name ends with; any other is text.
    pub(in crate::task) fn open(path: &Path, header: Header) -> Result<Self, SettingError> {
        let shown = path.display().to_string();
        match std::fs::metadata(path) {
            Err(error) => return Err(refused(format!("cannot read {shown}: {error}"))),
            // It may never end.
            Ok(metadata) if !metadata.is_file() => {
                return Err(refused(format!("cannot read {shown}: it is no file")));
            }
            Ok(_) => {}
        }
        let extension = path.extension().map(std::ffi::OsStr::to_ascii_lowercase);
        let arrays = match extension.as_ref().and_then(|extension| extension.to_str()) {
            Some("npy") => vec![arrays::npy(path, &shown)?],
            Some("npz") => arrays::npz(path, &shown)?,
            Some("safetensors") => arrays::safetensors(path, &shown)?,
            _ => {
                let csv = Csv::open(path, &shown, header)?;
                let (names, with_names) = (csv.names().to_vec(), csv.headed());
                return Ok(Self {
                    source: Source::Csv(Box::new(csv)),
                    shown,
                    names,
                    groups: Vec::new(),
                    named: with_names,
                });
            }
        };
        Ok(Self::of_arrays(arrays, shown))
    }

    fn of_arrays(arrays: Vec<Array>, shown: String) -> Self {
        let (mut names, mut groups) = (Vec::new(), Vec::new());
        for array in &arrays {
            let start = names.len();
            match (array.name.as_str(), array.width) {
                ("", width) => names.extend((1..=width).map(|i| i.to_string())),
                (name, 1) => names.push(name.to_owned()),
                (name, width) => names.extend((1..=width).map(|i| format!("{name}[{i}]"))),
            }
            groups.push((array.name.clone(), start..names.len()));
        }
        let headed = arrays.iter().all(|array| !array.name.is_empty());
        Self { source: Source::Arrays(arrays), shown, names, groups, named: headed }
    }

    /// How many rows there are, where the file says it.
    pub(in crate::task) fn count(&self, wanted: &Wanted) -> Option<usize> {
        let Source::Arrays(arrays) = &self.source else { return None };
        let first = wanted.numbers.first().copied().or(wanted.label)?;
        let holds = |(_, (_, range)): &(&Array, &(String, Range<usize>))| range.contains(&first);
        arrays.iter().zip(&self.groups).find(holds).map(|(array, _)| array.rows)
    }

    /// Its rows.
    pub(in crate::task) fn rows(mut self, wanted: Wanted, missing: Missing) -> Result<Rows, SettingError> {
        if let Source::Arrays(arrays) = &mut self.source {
            let used = |range: &Range<usize>| {
                wanted.numbers.iter().chain(&wanted.label).any(|column| range.contains(column))
            };
            for (array, (_, range)) in arrays.iter_mut().zip(&self.groups) {
                array.used = used(range);
                if array.used {
                    array.check(&self.shown)?;
                }
            }
            let mut rows = arrays.iter().filter(|array| array.used).map(|array| (&array.name, array.rows));
            let first = rows.next();
            if let Some(((name, count), (other, others))) =
                first.and_then(|first| Some((first, rows.find(|of| of.1 != first.1)?)))
            {
                return Err(refused(format!(
                    "{}: `{name}` has {count} rows and `{other}` has {others}; they need as many",
                    self.shown
                )));
            }
        }
        let row = Row { values: vec![0.0; wanted.numbers.len()], ..Row::default() };
        Ok(Rows { table: self, wanted, missing, row, dropped: 0 })
    }
}

impl Rows {
    /// Reads the next row; tells whether there was one. One that lacks a value is refused or left out.
    pub(in crate::task) fn next(&mut self) -> Result<bool, SettingError> {
        loop {
            let there = match &mut self.table.source {
                Source::Csv(csv) => csv.next(&self.wanted, &mut self.row)?,
                Source::Arrays(arrays) => {
                    arrays::next(arrays, &self.table.shown, &self.wanted, &mut self.row)?
                }
            };
            match self.row.missing {
                Some(_) if there && self.missing == Missing::Drop => self.dropped += 1,
                Some(column) if there => {
                    return Err(refused(format!(
                        "{}, line {}, column {} (`{}`): the value is missing; leave such rows out with --missing drop",
                        self.table.shown,
                        self.row.line,
                        column + 1,
                        self.table.names[column]
                    )));
                }
                _ => return Ok(there),
            }
        }
    }

    /// The last of the wanted numbers, that of this column, as a weight.
    pub(in crate::task) fn weight(&self, column: usize) -> Result<f64, SettingError> {
        let weight = self.row.values.last().copied().unwrap_or(f64::NAN);
        if weight >= 0.0 && weight.is_finite() {
            return Ok(weight);
        }
        Err(refused(format!(
            "{}, line {}, column {} (`{}`): the weight is {weight}, but must be positive or 0",
            self.table.shown,
            self.row.line,
            column + 1,
            self.table.names[column]
        )))
    }

    pub(in crate::task) fn shown(&self) -> &str {
        &self.table.shown
    }
}
