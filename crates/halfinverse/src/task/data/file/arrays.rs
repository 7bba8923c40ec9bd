//! Arrays of numbers in binary files: `.npy`, `.npz` (stored or deflated) and `.safetensors`; n × d, or n.
//!
//! Rows are read one after the other from each array's own place in the file. An array in Fortran order has no rows in
//! a row, and is read whole.

use std::fs::File;
use std::io::{BufReader, Error, Read, Result as IoResult, Seek, SeekFrom};
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata};
use zip::{CompressionMethod, ZipArchive};

use super::refused;
use super::rows::{Row, Wanted};
use crate::error::SettingError;

/// An array, and where its rows come from.
pub(super) struct Array {
    pub(super) name: String,
    pub(super) rows: usize,
    /// d.
    pub(super) width: usize,
    /// Whether one of its columns is wanted.
    pub(super) used: bool,
    /// Why it cannot be used, if it cannot.
    unfit: Option<String>,
    number: Number,
    values: Values,
    next: usize,
    row: Vec<f64>,
}

enum Values {
    /// In rows.
    Stream(BufReader<Box<dyn Read + Send>>),
    /// By columns, all of them.
    Whole(Vec<f64>),
}

/// How a number is stored.
#[derive(Debug, Clone, Copy)]
struct Number {
    kind: Kind,
    big_endian: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Float(usize),
    Signed(usize),
    Unsigned(usize),
}

/// Columns of the widest array: as many as a simulator that is none may have.
const WIDEST: usize = 1 << 16;
/// Bytes of the longest numpy header: 64 KiB, as version 1 has it.
const LONGEST_NUMPY: u64 = 1 << 16;
/// Bytes of the longest safetensors header: the format's own limit.
const LONGEST_HEADER: u64 = 100_000_000;

impl Number {
    fn size(self) -> usize {
        match self.kind {
            Kind::Float(size) | Kind::Signed(size) | Kind::Unsigned(size) => size,
        }
    }

    /// Of numpy's word for it, such as `<f8`; none for a type that is no number, or not read.
    fn of_numpy(word: &str) -> Option<Self> {
        let mut letters = word.chars();
        let (order, kind) = (letters.next()?, letters.next()?);
        let kind = match (kind, letters.as_str().parse().ok()?) {
            ('f', size @ (4 | 8)) => Kind::Float(size),
            ('i', size @ (1 | 2 | 4 | 8)) => Kind::Signed(size),
            ('u' | 'b', size @ (1 | 2 | 4 | 8)) => Kind::Unsigned(size),
            _ => return None,
        };
        Some(Self { kind, big_endian: order == '>' })
    }

    /// The number of these bytes, [`Self::size`] of them.
    fn value(self, bytes: &[u8]) -> f64 {
        let mut word = [0; 8];
        let size = bytes.len();
        for (i, &byte) in bytes.iter().enumerate() {
            word[if self.big_endian { size - 1 - i } else { i }] = byte;
        }
        let bits = u64::from_le_bytes(word);
        let unused = 64 - 8 * u32::try_from(size).unwrap_or(8);
        match self.kind {
            Kind::Float(4) => f64::from(f32::from_le_bytes([word[0], word[1], word[2], word[3]])),
            Kind::Float(_) => f64::from_bits(bits),
            // The sign of a short number moves up and down again.
            Kind::Signed(_) => (bits << unused).cast_signed().wrapping_shr(unused) as f64,
            Kind::Unsigned(_) => bits as f64,
        }
    }
}

impl Array {
    fn new(name: &str, shape: &[usize], number: Option<Number>, values: Box<dyn Read + Send>) -> Self {
        let unfit = match (shape, number) {
            (_, None) => Some("has no numbers of a type that is read: float64, float32, integers".to_owned()),
            ([_, width], _) if *width == 0 || *width > WIDEST => {
                Some(format!("has {width} columns, but must have from 1 to {WIDEST}"))
            }
            ([_] | [_, _], _) => None,
            _ => Some(format!("has the shape {shape:?}, but must have one or two dimensions")),
        };
        let (rows, width) = (shape.first().copied().unwrap_or(0), shape.get(1).copied().unwrap_or(1));
        let number = number.unwrap_or(Number { kind: Kind::Float(8), big_endian: false });
        let width = if unfit.is_some() { 1 } else { width };
        let values = Values::Stream(BufReader::with_capacity(1 << 18, values));
        Self {
            name: name.to_owned(),
            rows,
            width,
            used: false,
            unfit,
            number,
            values,
            next: 0,
            row: Vec::new(),
        }
    }

    /// Refuses an array that cannot be used.
    pub(super) fn check(&self, shown: &str) -> Result<(), SettingError> {
        match &self.unfit {
            Some(why) => Err(refused(format!("{shown}: the array `{}` {why}", self.name))),
            None => Ok(()),
        }
    }

    /// Of a numpy header; the numbers follow it.
    fn of_numpy(name: &str, mut reader: Box<dyn Read + Send>) -> IoResult<Self> {
        let text = numpy_header(&mut reader)?;
        let lacks = |what| Error::other(format!("its header has no {what}"));
        let of_type = entry(&text, "descr").ok_or_else(|| lacks("type"))?;
        let number = of_type.strip_prefix('\'').and_then(|rest| Number::of_numpy(rest.split('\'').next()?));
        let sizes = entry(&text, "shape").and_then(|of| of.strip_prefix('(')?.split(')').next());
        let sizes = sizes.ok_or_else(|| lacks("shape"))?.split(',').map(str::trim);
        let shape = sizes.filter(|size| !size.is_empty()).map(str::parse::<usize>);
        let shape: Vec<usize> = shape.collect::<Result<_, _>>().map_err(Error::other)?;
        let by_columns = entry(&text, "fortran_order").is_some_and(|order| order.starts_with("True"));
        let mut array = Self::new(name, &shape, number, reader);
        if by_columns && array.width > 1 && array.unfit.is_none() {
            let count = array.rows.checked_mul(array.width).ok_or_else(|| Error::other("it is too large"))?;
            let mut whole = Vec::new();
            array.read(count, &mut whole)?;
            array.values = Values::Whole(whole);
        }
        Ok(array)
    }

    /// So many further numbers into `out`, which takes their memory as they come.
    fn read(&mut self, count: usize, out: &mut Vec<f64>) -> IoResult<()> {
        let (number, size) = (self.number, self.number.size());
        let Values::Stream(reader) = &mut self.values else { return Ok(()) };
        let mut bytes = [0; 8];
        out.clear();
        for _ in 0..count {
            reader.read_exact(&mut bytes[..size])?;
            out.push(number.value(&bytes[..size]));
        }
        Ok(())
    }

    /// The next row, which is there.
    fn advance(&mut self) -> IoResult<()> {
        let mut row = std::mem::take(&mut self.row);
        if let Values::Whole(whole) = &self.values {
            row.clear();
            row.extend((0..self.width).map(|j| whole[j * self.rows + self.next]));
        } else {
            self.read(self.width, &mut row)?;
        }
        self.row = row;
        self.next += 1;
        Ok(())
    }
}

/// The header of a numpy array, a Python dictionary: six magic bytes, two of the version, its length in two bytes or,
/// from version 2 on, four.
fn numpy_header(reader: &mut impl Read) -> IoResult<String> {
    let mut begin = [0; 8];
    reader.read_exact(&mut begin)?;
    if &begin[..6] != b"\x93NUMPY" {
        return Err(Error::other("it does not begin as such files do"));
    }
    let mut length = [0; 4];
    let size = if begin[6] == 1 { 2 } else { 4 };
    reader.read_exact(&mut length[..size])?;
    let mut text = String::new();
    reader.take(u64::from(u32::from_le_bytes(length)).min(LONGEST_NUMPY)).read_to_string(&mut text)?;
    Ok(text)
}

/// What stands behind a key of a numpy header.
fn entry<'t>(header: &'t str, key: &str) -> Option<&'t str> {
    let place = header.find(&format!("'{key}'"))?;
    header[place..].split_once(':').map(|(_, rest)| rest.trim_start())
}

/// The wanted columns of the next row into `row`; tells whether there was one.
pub(super) fn next(
    arrays: &mut [Array],
    shown: &str,
    wanted: &Wanted,
    row: &mut Row,
) -> Result<bool, SettingError> {
    for array in arrays.iter_mut().filter(|array| array.used) {
        if array.next >= array.rows {
            return Ok(false);
        }
        array.advance().map_err(|error| refused(format!("cannot read {shown}: {error}")))?;
        row.line = array.next as u64;
    }
    let value = |column: usize| {
        let mut start = 0;
        arrays.iter().find_map(|array| {
            let own = column.checked_sub(start).filter(|&j| j < array.width);
            start += array.width;
            own.map(|j| array.row[j])
        })
    };
    row.missing = None;
    for (to, &column) in row.values.iter_mut().zip(&wanted.numbers) {
        *to = value(column).unwrap_or(f64::NAN);
        if to.is_nan() {
            row.missing = row.missing.or(Some(column));
        } else if to.is_infinite() {
            return Err(refused(format!(
                "{shown}, row {}, column {}: {to} is infinite",
                row.line,
                column + 1
            )));
        }
    }
    if let Some(column) = wanted.label {
        let label = value(column).filter(|label| !label.is_nan());
        row.missing = row.missing.or(label.is_none().then_some(column));
        row.label = label.map_or_else(String::new, |label| label.to_string());
    }
    Ok(true)
}

/// The one array of a `.npy` file.
pub(super) fn npy(path: &Path, shown: &str) -> Result<Array, SettingError> {
    let open = || Array::of_numpy("", Box::new(BufReader::new(File::open(path)?)));
    open().map_err(|error| refused(format!("{shown} is no .npy file that can be read: {error}")))
}

/// The arrays of a `.npz` file, in the file's order.
pub(super) fn npz(path: &Path, shown: &str) -> Result<Vec<Array>, SettingError> {
    let open = || -> IoResult<Vec<Array>> {
        let mut archive = ZipArchive::new(BufReader::new(File::open(path)?)).map_err(Error::other)?;
        let mut arrays = Vec::new();
        for i in 0..archive.len() {
            let entry = archive.by_index(i).map_err(Error::other)?;
            let name = entry.name().to_owned();
            let Some(name) = name.strip_suffix(".npy") else { continue };
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(entry.data_start()))?;
            let bytes = BufReader::new(file).take(entry.compressed_size());
            let reader: Box<dyn Read + Send> = match entry.compression() {
                CompressionMethod::Stored => Box::new(bytes),
                CompressionMethod::Deflated => Box::new(flate2::read::DeflateDecoder::new(bytes)),
                other => return Err(Error::other(format!("`{name}` is compressed by {other}"))),
            };
            arrays.push(Array::of_numpy(name, reader)?);
        }
        Ok(arrays)
    };
    open().map_err(|error| refused(format!("{shown} is no .npz file that can be read: {error}")))
}

/// The arrays of a `.safetensors` file, in the order of their places.
pub(super) fn safetensors(path: &Path, shown: &str) -> Result<Vec<Array>, SettingError> {
    let open = || -> IoResult<Vec<Array>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut word = [0; 8];
        file.read_exact(&mut word)?;
        let header = u64::from_le_bytes(word);
        if header > LONGEST_HEADER || 8 + header > length {
            return Err(Error::other("its header is longer than the file"));
        }
        let mut text = vec![0; usize::try_from(header).map_err(Error::other)?];
        file.read_exact(&mut text)?;
        let metadata: Metadata = serde_json::from_slice(&text)?;
        if 8 + header + metadata.data_len() as u64 != length {
            return Err(Error::other("its header and its length do not agree"));
        }
        let mut arrays = Vec::new();
        for name in metadata.offset_keys() {
            let Some(info) = metadata.info(&name) else { continue };
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(8 + header + info.data_offsets.0 as u64))?;
            let kind = match info.dtype {
                Dtype::F64 => Some(Kind::Float(8)),
                Dtype::F32 => Some(Kind::Float(4)),
                Dtype::I64 | Dtype::I32 | Dtype::I16 | Dtype::I8 => {
                    Some(Kind::Signed(info.dtype.bitsize() / 8))
                }
                Dtype::U64 | Dtype::U32 | Dtype::U16 | Dtype::U8 | Dtype::BOOL => {
                    Some(Kind::Unsigned(info.dtype.bitsize() / 8))
                }
                _ => None,
            };
            let number = kind.map(|kind| Number { kind, big_endian: false });
            arrays.push(Array::new(&name, &info.shape, number, Box::new(file)));
        }
        Ok(arrays)
    };
    open().map_err(|error| refused(format!("{shown} is no .safetensors file that can be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_types_are_read_in_both_byte_orders() {
        let both = |kind, little: &[u8], expected: f64| {
            let big: Vec<u8> = little.iter().rev().copied().collect();
            assert_eq!(Number { kind, big_endian: false }.value(little), expected, "{kind:?}");
            assert_eq!(Number { kind, big_endian: true }.value(&big), expected, "{kind:?}, big-endian");
        };
        both(Kind::Float(8), &(-1.25e-3f64).to_le_bytes(), -1.25e-3);
        both(Kind::Float(4), &0.5f32.to_le_bytes(), 0.5);
        both(Kind::Signed(1), &(-7i8).to_le_bytes(), -7.0);
        both(Kind::Signed(2), &(-300i16).to_le_bytes(), -300.0);
        both(Kind::Signed(4), &(-70_000i32).to_le_bytes(), -70_000.0);
        both(Kind::Signed(8), &(-5i64).to_le_bytes(), -5.0);
        both(Kind::Unsigned(1), &[200], 200.0);
        both(Kind::Unsigned(8), &(1u64 << 40).to_le_bytes(), 2f64.powi(40));
    }
}
