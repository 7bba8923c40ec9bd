//! `metrics.csv` as it grows: read once, then only what is new.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use serde::Serialize;

use super::thin::{Window, thin};

/// Columns that hold numbers; those that a file lacks stay empty.
pub(super) const COLUMNS: [&str; 18] = [
    "step",
    "epoch",
    "wall_s",
    "train_loss",
    "test_loss",
    "learning_rate",
    "kappa",
    "rank",
    "sigma_max",
    "sigma_min",
    "krylov_steps",
    "lambda",
    "rejected",
    "way",
    "saturated",
    "dead",
    "faults",
    "step_length",
];
/// Ways to step, by number from 1 on.
const WAYS: [&str; 3] = ["krylov", "kron", "adam"];
/// Events and notices that are sent, at most: the last ones.
const MOST_EVENTS: usize = 100;
/// Bytes that are read at once, at most; the rest comes the next time.
const AT_ONCE: u64 = 64 << 20;

/// What is read of the file so far.
#[derive(Default)]
pub(super) struct Table {
    /// Which file it is, and how far it is read.
    identity: Option<(u64, u64)>,
    read: u64,
    /// Where each column of the file goes.
    header: Vec<Option<Place>>,
    /// In the order of [`COLUMNS`]; NaN where a cell is empty.
    columns: [Vec<f64>; COLUMNS.len()],
    events: Vec<Event>,
    /// Grows whenever something changes.
    pub(super) version: u64,
}

/// Where a column of the file goes.
#[derive(Clone, Copy)]
enum Place {
    Number(usize),
    Way(usize),
    /// `event` or `notice`.
    Text(&'static str),
}

/// What happened at a row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Event {
    step: f64,
    wall_s: f64,
    /// `event`, which a person asked for, or `notice`.
    kind: &'static str,
    text: String,
}

/// Curves of a window.
#[derive(Debug, Default, Serialize)]
pub(super) struct Curves {
    version: u64,
    rows: usize,
    /// All values of the horizontal axis; above 0 where that is logarithmic.
    range: Option<(f64, f64)>,
    /// Each with its column.
    #[serde(rename = "curves")]
    thinned: Vec<(&'static str, Vec<(f64, f64)>)>,
    events: Vec<Event>,
}

impl Table {
    /// Reads what is new in the file; where it is another file by now, or a shorter one, all of it.
    pub(super) fn follow(&mut self, path: &Path) {
        let Some(metadata) = fs::metadata(path).ok().filter(fs::Metadata::is_file) else { return };
        let identity = identity(&metadata);
        if self.identity != identity || metadata.len() < self.read {
            *self = Self { identity, version: self.version + 1, ..Self::default() };
        }
        if metadata.len() > self.read && self.read_more(path).unwrap_or(false) {
            self.version += 1;
        }
    }

    /// Whether there was a whole line.
    fn read_more(&mut self, path: &Path) -> std::io::Result<bool> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(self.read))?;
        let mut bytes = Vec::new();
        file.take(AT_ONCE).read_to_end(&mut bytes)?;
        // The last line may be half written.
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        self.read += whole as u64;
        self.take(&bytes[..whole]);
        Ok(whole > 0)
    }

    /// Whole lines.
    fn take(&mut self, lines: &[u8]) {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(lines);
        let mut record = csv::ByteRecord::new();
        while reader.read_byte_record(&mut record).unwrap_or(false) {
            if self.header.is_empty() {
                self.header = record.iter().map(place).collect();
            } else {
                self.take_row(&record);
            }
        }
    }

    fn take_row(&mut self, record: &csv::ByteRecord) {
        self.columns.iter_mut().for_each(|column| column.push(f64::NAN));
        let mut texts = Vec::new();
        for (cell, place) in record.iter().zip(&self.header) {
            let text = str::from_utf8(cell).unwrap_or_default();
            match *place {
                Some(Place::Number(column)) => set(&mut self.columns[column], text.parse().ok()),
                Some(Place::Way(column)) => {
                    let number = WAYS.iter().position(|&way| way == text).map(|at| (at + 1) as f64);
                    set(&mut self.columns[column], number);
                }
                Some(Place::Text(kind)) if !text.is_empty() => texts.push((kind, text.to_owned())),
                _ => {}
            }
        }
        let (step, wall_s) = (self.last("step"), self.last("wall_s"));
        let (Some(step), Some(wall_s)) = (step, wall_s) else { return };
        self.events.extend(texts.into_iter().map(|(kind, text)| Event { step, wall_s, kind, text }));
    }

    /// A column by its name.
    fn column(&self, name: &str) -> Option<(&'static str, &[f64])> {
        let at = COLUMNS.iter().position(|&own| own == name)?;
        Some((COLUMNS[at], &self.columns[at]))
    }

    /// The last row's value; none where there is no row, or its cell is empty.
    pub(super) fn last(&self, name: &str) -> Option<f64> {
        self.column(name)?.1.last().copied().filter(|value| !value.is_nan())
    }

    /// The last value that a column has.
    pub(super) fn latest(&self, name: &str) -> Option<f64> {
        self.column(name)?.1.iter().rev().copied().find(|value| !value.is_nan())
    }

    pub(super) fn rows(&self) -> usize {
        self.columns[0].len()
    }

    /// Columns over another one, thinned; columns without a value are left out. Ends that are not given are the axis's.
    pub(super) fn curves(
        &self,
        over: &str,
        names: &[&str],
        (from, to): (Option<f64>, Option<f64>),
        (logarithmic, buckets): (bool, usize),
    ) -> Curves {
        let Some((_, x)) = self.column(over) else { return Curves::default() };
        let on_axis = |value: &&f64| value.is_finite() && !(logarithmic && **value <= 0.0);
        let first = x.iter().find(on_axis).copied();
        let range = first.map(|first| {
            x.iter().filter(on_axis).fold((first, first), |(low, high), &x| (low.min(x), high.max(x)))
        });
        let (low, high) = range.unwrap_or_default();
        let window = Window { from: from.unwrap_or(low), to: to.unwrap_or(high), logarithmic, buckets };
        let found = names.iter().filter_map(|name| self.column(name));
        let curves =
            found.map(|(name, y)| (name, thin(x, y, window))).filter(|(_, points)| !points.is_empty());
        let events = self.events[self.events.len().saturating_sub(MOST_EVENTS)..].to_vec();
        Curves { version: self.version, rows: self.rows(), range, thinned: curves.collect(), events }
    }
}

fn set(column: &mut [f64], value: Option<f64>) {
    if let (Some(cell), Some(value)) = (column.last_mut(), value) {
        *cell = value;
    }
}

fn place(name: &[u8]) -> Option<Place> {
    let name = str::from_utf8(name).ok()?;
    match name {
        "event" => return Some(Place::Text("event")),
        "notice" => return Some(Place::Text("notice")),
        _ => {}
    }
    let at = COLUMNS.iter().position(|&own| own == name)?;
    Some(if name == "way" { Place::Way(at) } else { Place::Number(at) })
}

/// Device and number of a file: another one may have taken its place.
#[cfg(unix)]
#[allow(clippy::unnecessary_wraps, reason = "elsewhere it is not known")]
fn identity(metadata: &fs::Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(_: &fs::Metadata) -> Option<(u64, u64)> {
    None
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn all(table: &Table, over: &str, names: &[&str]) -> Curves {
        table.curves(over, names, (None, None), (false, 100))
    }

    #[test]
    fn a_file_is_read_as_it_grows_by_whole_lines_and_anew_where_it_was_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let mut table = Table::default();
        table.follow(&path);
        assert_eq!((table.rows(), table.version), (0, 0));
        let mut file = File::create(&path).unwrap();
        write!(file, "step,wall_s,test_loss,way,event\n0,0,3.5,,\n1,0.1,2.5,kron,pause\n2,0.").unwrap();
        table.follow(&path);
        assert_eq!((table.rows(), table.last("test_loss"), table.last("way")), (2, Some(2.5), Some(2.0)));
        let version = table.version;
        table.follow(&path);
        // A line that is not whole is read again, and nothing is made of it.
        assert_eq!(table.rows(), 2);
        writeln!(file, "2,NaN,adam,").unwrap();
        table.follow(&path);
        assert!(table.version > version);
        let curves = all(&table, "step", &["test_loss", "way", "kappa", "no such"]);
        assert_eq!(curves.thinned[0], ("test_loss", vec![(0.0, 3.5), (1.0, 2.5)]));
        assert_eq!(curves.thinned[1], ("way", vec![(1.0, 2.0), (2.0, 3.0)]));
        assert_eq!((curves.thinned.len(), curves.rows, curves.range), (2, 3, Some((0.0, 2.0))));
        let event = Event { step: 1.0, wall_s: 0.1, kind: "event", text: "pause".to_owned() };
        assert_eq!(curves.events, [event]);
        let beside = folder.path().join("beside");
        fs::write(&beside, "step,wall_s,test_loss\n0,0,9\n").unwrap();
        fs::rename(&beside, &path).unwrap();
        table.follow(&path);
        assert_eq!((table.rows(), table.last("test_loss")), (1, Some(9.0)));
    }

    #[test]
    fn whatever_a_file_holds_all_columns_stay_equally_long() {
        let mut table = Table::default();
        table.take(b"step,step,\xff,wall_s\n1,2,3,4,5\n\n,\n\"x\n1,1,1,1\n");
        assert!(table.columns.iter().all(|column| column.len() == table.rows()));
        assert!(all(&table, "nothing", &["step"]).thinned.is_empty());
        assert!(all(&Table::default(), "step", &["test_loss"]).range.is_none());
    }
}
