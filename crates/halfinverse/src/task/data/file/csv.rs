//! Rows of a text file: numbers between delimiters, with a header or without one.
//!
//! The delimiter is the first of tab, `;`, `|` and `,` that every one of the first lines has equally often, so that
//! decimal commas are not taken for it. Fields may be quoted, lines may end in CRLF, a byte-order mark is skipped, and
//! so are empty lines.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use csv::{ByteRecord, Reader, ReaderBuilder};

use super::rows::{Row, Wanted};
use super::{Header, refused};
use crate::error::SettingError;

/// The file's lines one after the other.
pub(super) struct Csv {
    reader: Reader<File>,
    record: ByteRecord,
    /// Whether `record` is the first row, and still to be told.
    first: bool,
    /// The line on which `record` ends.
    line: u64,
    ends: Ends,
    fields: usize,
    shown: String,
    names: Vec<String>,
    headed: bool,
}

/// How lines end, by which they are counted.
struct Ends {
    /// In CR LF.
    crlf: bool,
    /// Bytes of the file.
    length: u64,
    /// Whether the last line has an end.
    last: bool,
}

/// What a field is.
enum Field {
    Number(f64),
    Missing,
    Infinite,
    Text,
}

/// Bytes by whose lines the delimiter is found.
const SAMPLE: u64 = 1 << 16;
/// Lines, at most.
const LINES: usize = 10;
/// Bytes that are read at once.
const BUFFER: usize = 1 << 20;
/// What stands for a value that is not there, in any case.
const MISSING: [&[u8]; 6] = [b"", b"na", b"n/a", b"nan", b"null", b"none"];

impl Csv {
    pub(super) fn open(path: &Path, shown: &str, header: Header) -> Result<Self, SettingError> {
        let unreadable = |error: &dyn std::fmt::Display| refused(format!("cannot read {shown}: {error}"));
        let open = || File::open(path).map_err(|error| unreadable(&error));
        let mut sample = Vec::new();
        open()?.take(SAMPLE).read_to_end(&mut sample).map_err(|error| unreadable(&error))?;
        let ends = Ends::of(&mut open()?, &sample).map_err(|error| unreadable(&error))?;
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter(&sample))
            .buffer_capacity(BUFFER)
            .from_reader(open()?);
        let mut csv = Self {
            reader,
            record: ByteRecord::new(),
            first: true,
            line: 0,
            ends,
            fields: 0,
            shown: shown.to_owned(),
            names: Vec::new(),
            headed: false,
        };
        if !csv.read()? {
            return Err(refused(format!("{shown} is empty; it needs a line for each sample")));
        }
        csv.fields = csv.record.len();
        csv.head(header)?;
        Ok(csv)
    }

    /// Takes the first line for the columns' names, where it is that; columns without a name have their number, from 1
    /// on.
    fn head(&mut self, header: Header) -> Result<(), SettingError> {
        let text = |field: &[u8]| matches!(field_of(field), Field::Text);
        self.headed = match header {
            Header::Yes => true,
            Header::No => false,
            Header::Auto => {
                self.record.iter().any(text)
                    && !self.record.iter().any(|field| matches!(field_of(field), Field::Number(_)))
            }
        };
        let number = |i: usize| (i + 1).to_string();
        if !self.headed {
            self.names = (0..self.fields).map(number).collect();
            return Ok(());
        }
        self.first = false;
        for (i, field) in self.record.iter().enumerate() {
            let name = str::from_utf8(field).map_err(|_| {
                refused(format!("{}, line 1, column {}: the name is no UTF-8 text", self.shown, i + 1))
            })?;
            let name = if name.trim().is_empty() { number(i) } else { name.trim().to_owned() };
            if let Some(other) = self.names.iter().position(|known| *known == name) {
                return Err(refused(format!(
                    "{}, line 1: columns {} and {} are both named `{name}`; rename one",
                    self.shown,
                    other + 1,
                    i + 1
                )));
            }
            self.names.push(name);
        }
        Ok(())
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn headed(&self) -> bool {
        self.headed
    }

    /// The next line's columns into `row`; tells whether there was one.
    pub(super) fn next(&mut self, wanted: &Wanted, row: &mut Row) -> Result<bool, SettingError> {
        if !std::mem::take(&mut self.first) && !self.read()? {
            return Ok(false);
        }
        row.line = self.line;
        if self.record.len() != self.fields {
            return Err(refused(format!(
                "{}, line {}: it has {} fields, the first line has {}; each line needs as many",
                self.shown,
                row.line,
                self.record.len(),
                self.fields
            )));
        }
        row.missing = None;
        for (value, &column) in row.values.iter_mut().zip(&wanted.numbers) {
            match field_of(&self.record[column]) {
                Field::Number(number) => *value = number,
                Field::Missing => row.missing = row.missing.or(Some(column)),
                Field::Infinite => return Err(self.refuse(row.line, column, "is infinite", "")),
                Field::Text => return Err(self.refuse_text(row.line, column)),
            }
        }
        if let Some(column) = wanted.label {
            let label = str::from_utf8(self.record[column].trim_ascii())
                .map_err(|_| self.refuse(row.line, column, "is no UTF-8 text", ""))?;
            row.label.clear();
            row.label.push_str(label);
            if label.is_empty() {
                row.missing = row.missing.or(Some(column));
            }
        }
        Ok(true)
    }

    fn refuse(&self, line: u64, column: usize, what: &str, mend: &str) -> SettingError {
        let field: String = String::from_utf8_lossy(&self.record[column]).chars().take(40).collect();
        let name = &self.names[column];
        refused(format!(
            "{}, line {line}, column {} (`{name}`): `{field}` {what}{mend}",
            self.shown,
            column + 1
        ))
    }

    /// A word where a number was expected, and what may be meant.
    fn refuse_text(&self, line: u64, column: usize) -> SettingError {
        let text = String::from_utf8_lossy(self.record[column].trim_ascii()).into_owned();
        let mend = if text.matches(',').count() == 1 && text.replace(',', ".").parse::<f64>().is_ok() {
            "; write decimals with a point"
        } else if line == 1 {
            "; if the line holds the columns' names, say --header yes"
        } else {
            "; leave the column out with --inputs, or, for labels, take --set objective.kind=cross-entropy"
        };
        self.refuse(line, column, "is no number", mend)
    }

    fn read(&mut self) -> Result<bool, SettingError> {
        let read = self.reader.read_byte_record(&mut self.record);
        // The line feed of a CR LF is read with the next record.
        let (at, ends) = (self.reader.position(), &self.ends);
        let unread = ends.crlf || at.byte() >= ends.length && !ends.last;
        self.line = at.line().saturating_sub(u64::from(!unread));
        read.map_err(|error| refused(format!("cannot read {}: {error}", self.shown)))
    }
}

impl Ends {
    fn of(file: &mut File, sample: &[u8]) -> std::io::Result<Self> {
        let length = file.seek(SeekFrom::End(0))?;
        let mut last = [b'\n'];
        if length > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        let feed = sample.iter().position(|&byte| byte == b'\n');
        let crlf = feed.and_then(|at| sample.get(at.checked_sub(1)?)) == Some(&b'\r');
        Ok(Self { crlf, length, last: last == [b'\n'] })
    }
}

fn field_of(field: &[u8]) -> Field {
    let field = field.trim_ascii();
    match fast_float2::parse::<f64, _>(field) {
        Ok(number) if number.is_finite() => Field::Number(number),
        Ok(number) if number.is_nan() => Field::Missing,
        Ok(_) => Field::Infinite,
        Err(_) if MISSING.iter().any(|word| field.eq_ignore_ascii_case(word)) => Field::Missing,
        Err(_) => Field::Text,
    }
}

/// The delimiter of a file that begins like this.
fn delimiter(sample: &[u8]) -> u8 {
    let whole = sample.len() < usize::try_from(SAMPLE).unwrap_or(usize::MAX);
    let mut lines: Vec<&[u8]> = sample.split(|&byte| byte == b'\n' || byte == b'\r').collect();
    if !whole && lines.len() > 1 {
        // It is cut.
        lines.pop();
    }
    lines.retain(|line| !line.trim_ascii().is_empty());
    lines.truncate(LINES);
    let counts = |delimiter: u8| lines.iter().map(move |line| count(line, delimiter));
    let same = |delimiter: u8| {
        let first = counts(delimiter).next().unwrap_or(0);
        first > 0 && counts(delimiter).all(|count| count == first)
    };
    let all = [b'\t', b';', b'|', b','];
    let most = |&delimiter: &u8| counts(delimiter).next().unwrap_or(0);
    all.into_iter().find(|&delimiter| same(delimiter)).unwrap_or_else(|| {
        // The last of several alike is the comma.
        all.into_iter().max_by_key(most).unwrap_or(b',')
    })
}

/// How often a line has the delimiter outside of quotes.
fn count(line: &[u8], delimiter: u8) -> usize {
    let (mut quoted, mut count) = (false, 0);
    for &byte in line {
        quoted ^= byte == b'"';
        count += usize::from(byte == delimiter && !quoted);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delimiter_is_found_beside_decimal_commas_and_in_quotes() {
        for (text, found) in [
            ("a,b\n1,2\n", b','),
            ("a;b\n1,5;2\n3,5;4,5\n", b';'),
            ("1,5;2,5\n3,5;4,5\n", b';'),
            ("a\tb c\n1\t2\n", b'\t'),
            ("a|b\n1|2\n", b'|'),
            ("\"a;b\",c\n1,2\n", b','),
            ("a,b;c\n1,2\n", b','),
            ("a\n1\n", b','),
            ("", b','),
        ] {
            assert_eq!(delimiter(text.as_bytes()) as char, found as char, "{text:?}");
        }
    }
}
