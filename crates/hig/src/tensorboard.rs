//! `--tensorboard`: the rows of a run as one of TensorBoard's event files in its folder.
//!
//! A file is a list of records: length of the data (u64), its masked CRC-32C, the data, their masked CRC-32C, all
//! little-endian. Data are messages of the protocol buffer `Event` (tensorflow/core/util/event.proto), of which these
//! fields are written: `wall_time` = 1, `step` = 2, `file_version` = 3, `summary` = 5, a list of values = 1 with
//! `tag` = 1 and `simple_value` = 2. A checksum is masked so that checksums of data that hold checksums stay good:
//! it is turned right by 15 bits, and 0xa282ead8 is added.

use std::fs::{self, File};
use std::io::{self, Write};

use crate::folder::{Folder, Metrics};

/// How such a file's name begins; TensorBoard looks for it.
const PREFIX: &str = "events.out.tfevents.";
/// How ours end.
const SUFFIX: &str = ".hig";
/// What the first event says.
const VERSION: &str = "brain.Event:2";

/// The event file of a run that is at work.
pub(crate) struct EventWriter {
    file: File,
    /// Seconds since 1970 when the run began.
    begun: f64,
}

impl EventWriter {
    /// A file with the rows so far. Those of the folder's runs before it go: after a resumption they may hold rows that
    /// the run has no more.
    pub(crate) fn create(folder: &Folder, rows: &[Metrics]) -> io::Result<Self> {
        for entry in fs::read_dir(folder.path())?.flatten() {
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX)) {
                fs::remove_file(entry.path())?;
            }
        }
        let now = seconds_since_1970();
        let begun = now - rows.last().map_or(0.0, |row| row.elapsed_s);
        let file = File::create(folder.file(&format!("{PREFIX}{now:.0}{SUFFIX}")))?;
        let mut writer = Self { file, begun };
        writer.file.write_all(&record(&version(begun)))?;
        rows.iter().try_for_each(|row| writer.append(row))?;
        Ok(writer)
    }

    /// A row.
    pub(crate) fn append(&mut self, row: &Metrics) -> io::Result<()> {
        self.file.write_all(&record(&event(self.begun + row.elapsed_s, row)))
    }
}

#[allow(
    clippy::disallowed_types,
    reason = "TensorBoard orders by the time of day; no training time depends on it"
)]
fn seconds_since_1970() -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    now.unwrap_or_default().as_secs_f64()
}

/// What is shown of a row, where it has it.
fn scalars(row: &Metrics) -> impl Iterator<Item = (&'static str, f64)> {
    let count = |count: usize| count as f64;
    [
        ("loss/train", row.train_loss),
        ("loss/test", Some(row.test_loss)),
        ("learning_rate", row.learning_rate),
        ("kappa", row.kappa),
        ("lambda", row.lambda),
        ("rank", row.rank.map(count)),
        ("krylov_steps", row.krylov_steps.map(count)),
        ("step_length", row.step_length),
        ("update_norm", row.update_norm),
        ("sigma/max", row.sigma_max),
        ("sigma/min", row.sigma_min),
        ("units/saturated", row.saturated),
        ("units/dead", row.dead),
        ("steps/rejected", Some(row.rejected as f64)),
        ("steps/failed", Some(row.faults as f64)),
        ("epoch", Some(row.epoch)),
        ("training_time_s", Some(row.wall_s)),
    ]
    .into_iter()
    .filter_map(|(tag, value)| Some((tag, value?)))
}

fn version(wall_time: f64) -> Vec<u8> {
    let mut event = vec![0x09];
    event.extend(wall_time.to_le_bytes());
    put(&mut event, 3, VERSION.as_bytes());
    event
}

fn event(wall_time: f64, row: &Metrics) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, value) in scalars(row) {
        let mut message = Vec::new();
        put(&mut message, 1, tag.as_bytes());
        message.push(0x15);
        #[allow(clippy::cast_possible_truncation, reason = "that is what the field holds")]
        message.extend((value as f32).to_le_bytes());
        put(&mut summary, 1, &message);
    }
    let mut event = vec![0x09];
    event.extend(wall_time.to_le_bytes());
    event.push(0x10);
    put_varint(&mut event, row.step);
    put(&mut event, 5, &summary);
    event
}

/// A field of bytes, with its length.
fn put(message: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    message.push(field << 3 | 2);
    put_varint(message, bytes.len() as u64);
    message.extend(bytes);
}

/// Seven bits a byte, the lowest first; the highest bit of a byte says that there are more.
fn put_varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    message.push(value.to_le_bytes()[0]);
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked(crc32c::crc32c(&length)).to_le_bytes());
    record.extend(data);
    record.extend(masked(crc32c::crc32c(data)).to_le_bytes());
    record
}

fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_record_is_that_of_tensorflow() {
        // `EventFileWriter`'s first record for a wall_time of 1.0.
        let expected = b"\x18\0\0\0\0\0\0\0\xa3\x7f\x4b\x22\x09\0\0\0\0\0\0\xf0\x3f\x1a\x0dbrain.Event:2\x86\xbf\x57\x7a";
        assert_eq!(record(&version(1.0)), expected);
    }

    #[test]
    fn numbers_take_seven_bits_a_byte() {
        let varint = |value: u64| {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            bytes
        };
        assert_eq!((varint(0), varint(127), varint(300)), (vec![0], vec![127], vec![0xac, 2]));
        assert_eq!(varint(u64::MAX).len(), 10);
    }
}
