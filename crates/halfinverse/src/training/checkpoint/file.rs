//! Tensors into a safetensors file, one after the other: none of their bytes are held in memory.
//!
//! The file begins with its header, which has the checksum of all that follows; that is put there at the end.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufWriter, Error, Result, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crc32fast::Hasher;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::{CHECKSUM, DESCRIPTION};
use crate::network::Tensor;
use crate::optimizer::{Bytes, length};

/// A tensor, and what writes its bytes.
pub(super) struct Entry<'a> {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    write: Box<Bytes<'a>>,
}

/// A checksum that is not known yet.
const UNKNOWN: &str = "00000000";
/// Bytes on their way to the file: fewer calls, and a checksum is fastest on long pieces.
const PIECE: usize = 1 << 18;

impl<'a> Entry<'a> {
    /// A part of θ.
    pub(super) fn tensor(tensor: &'a Tensor, theta: &'a [f64]) -> Self {
        let write = |out: &mut dyn Write| put(tensor.places().map(|place| theta[place]), out);
        Self {
            name: tensor.name.clone(),
            dtype: Dtype::F64,
            shape: tensor.shape.clone(),
            write: Box::new(write),
        }
    }

    /// Parameters in their own order.
    pub(super) fn vector(name: &str, theta: &'a [f64]) -> Self {
        let write = |out: &mut dyn Write| put(theta.iter().copied(), out);
        Self { name: name.to_owned(), dtype: Dtype::F64, shape: vec![theta.len()], write: Box::new(write) }
    }

    /// One number.
    pub(super) fn count(name: &str, value: u64) -> Self {
        let write = move |out: &mut dyn Write| out.write_all(&value.to_le_bytes());
        Self { name: name.to_owned(), dtype: Dtype::U64, shape: vec![1], write: Box::new(write) }
    }

    /// What `write` writes, which is called once to count it.
    pub(super) fn blob(name: &str, write: impl Fn(&mut dyn Write) -> Result<()> + 'a) -> Result<Self> {
        let length = usize::try_from(length(&write)?).map_err(Error::other)?;
        Ok(Self { name: name.to_owned(), dtype: Dtype::U8, shape: vec![length], write: Box::new(write) })
    }

    /// Bytes of these.
    #[cfg(test)]
    pub(super) fn of((name, dtype, shape, bytes): &'a (String, Dtype, Vec<usize>, Vec<u8>)) -> Self {
        let write = |out: &mut dyn Write| out.write_all(bytes);
        Self { name: name.clone(), dtype: *dtype, shape: shape.clone(), write: Box::new(write) }
    }

    fn len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }

    /// Writes the bytes; returns their checksum.
    fn put(&self, out: &mut dyn Write) -> Result<Hasher> {
        let mut summed = Summed { out, crc: Hasher::new(), count: 0, failure: None };
        let mut pieces = BufWriter::with_capacity(PIECE, &mut summed);
        let written = (self.write)(&mut pieces).and_then(|()| pieces.flush());
        // What is left of a failure's bytes is not to be tried again.
        drop(pieces.into_parts());
        match (written, summed.failure) {
            (_, Some(failure)) | (Err(failure), None) => Err(failure),
            (Ok(()), None) if summed.count == self.len() => Ok(summed.crc),
            (Ok(()), None) => {
                let (found, expected) = (summed.count, self.len());
                Err(Error::other(format!("`{}` has {found} bytes, expected {expected}", self.name)))
            }
        }
    }
}

/// Little-endian bytes of numbers.
fn put(mut values: impl Iterator<Item = f64>, out: &mut dyn Write) -> Result<()> {
    values.try_for_each(|value| out.write_all(&value.to_le_bytes()))
}

/// Counts and sums up what goes through; remembers why something did not, which a serializer forgets.
struct Summed<'a> {
    out: &'a mut dyn Write,
    crc: Hasher,
    count: usize,
    failure: Option<Error>,
}

impl Write for Summed<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        if let Err(failure) = self.out.write_all(bytes) {
            let kind = failure.kind();
            self.failure = Some(failure);
            return Err(kind.into());
        }
        self.crc.update(bytes);
        self.count += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Writes the tensors, the description, and a checksum of both.
pub(super) fn write(
    mut entries: Vec<Entry<'_>>,
    description: Option<&str>,
    out: &mut (impl Write + Seek),
) -> Result<()> {
    // The format's own order: what needs most alignment first.
    entries.sort_by(|a, b| b.dtype.cmp(&a.dtype).then_with(|| a.name.cmp(&b.name)));
    let header = header(&entries, description)?;
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    let mut sums = Vec::new();
    for entry in &entries {
        sums.push((entry, entry.put(out)?));
    }
    let place = header.find(UNKNOWN).ok_or_else(|| Error::other("the header has no checksum"))?;
    out.seek(SeekFrom::Start(8 + place as u64))?;
    out.write_all(checksum(sums, description.unwrap_or("")).as_bytes())
}

/// Names, types, shapes and places, padded to eight bytes.
fn header(entries: &[Entry<'_>], description: Option<&str>) -> Result<String> {
    let mut end = 0;
    let info = |entry: &Entry<'_>| {
        let begin = end;
        end += entry.len();
        let (dtype, shape) = (entry.dtype, entry.shape.clone());
        (entry.name.clone(), TensorInfo { dtype, shape, data_offsets: (begin, end) })
    };
    // One entry only: the order of several would change from run to run. So the other is put behind it.
    let metadata = HashMap::from([(CHECKSUM.to_owned(), UNKNOWN.to_owned())]);
    let metadata = Metadata::new(Some(metadata), entries.iter().map(info).collect()).map_err(Error::other)?;
    let mut header = serde_json::to_string(&metadata)?;
    if let Some(description) = description {
        let entry = format!("\"{UNKNOWN}\",\"{DESCRIPTION}\":{}", serde_json::to_string(description)?);
        header = header.replacen(&format!("\"{UNKNOWN}\""), &entry, 1);
    }
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    Ok(header)
}

/// Of names, types, shapes and bytes, in the order of the names, and of the description.
fn checksum(mut parts: Vec<(&Entry<'_>, Hasher)>, description: &str) -> String {
    parts.sort_unstable_by(|a, b| a.0.name.cmp(&b.0.name));
    let mut crc = Hasher::new();
    for (Entry { name, dtype, shape, .. }, bytes) in parts {
        describe(&mut crc, name, *dtype, shape);
        crc.combine(&bytes);
    }
    crc.update(description.as_bytes());
    format!("{:08x}", crc.finalize())
}

/// Takes in what a tensor is.
pub(super) fn describe(crc: &mut Hasher, name: &str, dtype: Dtype, shape: &[usize]) {
    crc.update(name.as_bytes());
    crc.update(format!("{dtype:?}").as_bytes());
    for &length in shape {
        crc.update(&(length as u64).to_le_bytes());
    }
}

/// Writes beside `path`, and syncs.
pub(super) fn write_beside(
    path: &Path,
    entries: Vec<Entry<'_>>,
    description: Option<&str>,
) -> Result<PathBuf> {
    let beside = path.with_extension("safetensors.new");
    let mut file = File::create(&beside)?;
    write(entries, description, &mut file)?;
    file.sync_all()?;
    Ok(beside)
}

/// Renames, and syncs the folder.
pub(super) fn put_in_place(beside: &Path, path: &Path) -> Result<()> {
    fs::rename(beside, path)?;
    // The names are safe only once the folder is.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
