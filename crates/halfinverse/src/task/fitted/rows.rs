//! Rows of a data file for a fitted network, so many at a time: the file may be larger than memory.

use std::path::Path;

use faer::Mat;

use super::super::data::rows::{Rows, Table, Wanted};
use super::super::data::{Header, Missing, position};
use super::{Fitted, standardize};
use crate::error::SettingError;
use crate::problem::AT_A_TIME;

/// Standardised rows.
pub struct Chunk {
    /// Inputs, n × d.
    pub input: Mat<f64>,
    /// Targets, n × m, where the file has all of them; classes as 1 for the one that it is.
    pub target: Option<Mat<f64>>,
    /// Line of each row in the file, or row of an array, from 1 on.
    pub lines: Vec<u64>,
}

/// The rows of a file, first to last.
pub struct FittedRows<'a> {
    fitted: &'a Fitted,
    rows: Rows,
    targets: bool,
}

impl<'a> FittedRows<'a> {
    /// Opens a file that has the network's input columns, found by name, or by number where they had no names. Its
    /// other columns do not matter; whether the targets are there too is seen.
    ///
    /// # Errors
    /// When the file cannot be read, or a column is missing.
    pub fn open(
        fitted: &'a Fitted,
        path: &Path,
        header: Header,
        missing: Missing,
    ) -> Result<Self, SettingError> {
        let table = Table::open(path, header)?;
        if fitted.named() && !table.named {
            let names: Vec<&str> = fitted.inputs().iter().map(|column| column.name.as_str()).collect();
            return Err(super::super::data::refused(format!(
                "{} has no header, and the network's inputs are found by their names: {}",
                table.shown,
                names.join(", ")
            )));
        }
        let place = |name: &str| {
            // Columns that had no name are known by their number, whatever they are named here.
            let number = name.parse::<usize>().ok().filter(|_| !fitted.named());
            match number {
                Some(number) if (1..=table.names.len()).contains(&number) => Ok(number - 1),
                _ => position(&table, name),
            }
        };
        let find = |columns: &[super::Column]| {
            columns.iter().map(|column| place(&column.name)).collect::<Result<Vec<_>, _>>()
        };
        let mut wanted = Wanted { numbers: find(fitted.inputs())?, label: None };
        let targets = find(fitted.targets()).ok();
        match &targets {
            Some(columns) if fitted.labels() => wanted.label = columns.first().copied(),
            Some(columns) => wanted.numbers.extend(columns),
            None => {}
        }
        Ok(Self { fitted, rows: table.rows(wanted, missing)?, targets: targets.is_some() })
    }

    /// Whether the file has the targets too.
    #[must_use]
    pub fn has_targets(&self) -> bool {
        self.targets
    }

    /// Rows left out so far for want of a value.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.rows.dropped
    }

    /// The next rows, as many as are evaluated at a time; none at the end.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk>, SettingError> {
        let (d, m) = (self.fitted.inputs().len(), self.fitted.description.outcomes());
        let mut input = Mat::zeros(AT_A_TIME, d);
        let mut target = self.targets.then(|| Mat::zeros(AT_A_TIME, m));
        let mut lines = Vec::new();
        while lines.len() < AT_A_TIME && self.rows.next()? {
            let s = lines.len();
            let row = &self.rows.row;
            (0..d).for_each(|j| input[(s, j)] = row.values[j]);
            if let Some(target) = &mut target {
                if self.fitted.labels() {
                    target[(s, self.class()?)] = 1.0;
                } else {
                    (0..m).for_each(|c| target[(s, c)] = row.values[d + c]);
                }
            }
            lines.push(row.line);
        }
        if lines.is_empty() {
            return Ok(None);
        }
        input.truncate(lines.len(), d);
        standardize(self.fitted.inputs(), input.as_mut());
        if let Some(target) = &mut target {
            target.truncate(lines.len(), m);
            if self.fitted.classes().is_empty() {
                standardize(self.fitted.targets(), target.as_mut());
            }
        }
        Ok(Some(Chunk { input, target, lines }))
    }

    /// The number of the present row's class.
    fn class(&self) -> Result<usize, SettingError> {
        let (row, classes) = (&self.rows.row, self.fitted.classes());
        classes.iter().position(|class| *class == row.label).ok_or_else(|| {
            super::super::data::refused(format!(
                "{}, line {}: the class `{}` is not among the network's: {}",
                self.rows.shown(),
                row.line,
                row.label,
                classes.join(", ")
            ))
        })
    }
}
