//! What an optimizer's next step depends on besides θ, as bytes.
//!
//! Each optimizer keeps it in one serde struct, so that saving and restoring cannot drift apart. The format is
//! postcard's: eight bytes a number, and nothing between numbers that a reader could be led astray by.

use std::io::Write;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A saved memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State(Vec<u8>);

/// A saved memory that an optimizer does not take back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct StateError {
    /// What is wrong with it.
    pub reason: String,
}

impl StateError {
    /// With the part that cannot have been saved by such an optimizer.
    #[must_use]
    pub fn refused(what: &str) -> Self {
        Self { reason: format!("`{what}` is not what such an optimizer saves") }
    }

    /// `Ok` for a vector with a number for each parameter, or with none, as before the first step.
    ///
    /// # Errors
    /// For any other length.
    pub fn check_length(what: &str, vector: &[f64], parameters: usize) -> Result<(), Self> {
        if [0, parameters].contains(&vector.len()) { Ok(()) } else { Err(Self::refused(what)) }
    }
}

/// What writes bytes.
pub(crate) type Bytes<'a> = dyn Fn(&mut dyn Write) -> std::io::Result<()> + 'a;

/// How many bytes that writes.
pub(crate) fn length(write: &Bytes<'_>) -> std::io::Result<u64> {
    struct Count(u64);
    impl Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    write(&mut count)?;
    Ok(count.0)
}

impl State {
    /// Of what an optimizer keeps. Memory: the bytes, 8 for each number.
    ///
    /// # Panics
    /// When the memory's `Serialize` fails, which derived ones do not.
    #[must_use]
    pub fn of<T: Serialize>(memory: &T) -> Self {
        Self::written(&|out| Self::write(memory, out))
    }

    /// Of the bytes that `write` writes. It is called twice: a vector that grows would take twice its length.
    #[must_use]
    pub(crate) fn written(write: &Bytes<'_>) -> Self {
        let length = length(write).expect("plain values");
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        write(&mut bytes).expect("plain values");
        Self(bytes)
    }

    /// Writes the bytes of [`State::of`].
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write<T: Serialize + ?Sized>(memory: &T, out: &mut dyn Write) -> std::io::Result<()> {
        postcard::to_io(memory, out).map(drop).map_err(std::io::Error::other)
    }

    /// Writes what `write` writes as a state that is part of a memory: its length, and its bytes.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(crate) fn write_within(write: &Bytes<'_>, out: &mut dyn Write) -> std::io::Result<()> {
        Self::write(&length(write)?, out)?;
        write(out)
    }

    /// As it was saved.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The saved bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What was kept. Takes as much memory as the bytes say, and no more than twice theirs.
    ///
    /// # Errors
    /// When the bytes are not those of such a memory, or there are more of them.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, StateError> {
        let unread = |error: postcard::Error| StateError { reason: format!("it cannot be read: {error}") };
        let (memory, rest) = postcard::take_from_bytes(&self.0).map_err(unread)?;
        if rest.is_empty() { Ok(memory) } else { Err(StateError { reason: "it is too long".to_owned() }) }
    }
}

/// A matrix, for `#[serde(with = "matrix")]`: its sizes, and its entries column by column.
pub(crate) mod matrix {
    use faer::Mat;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(matrix: &Mat<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        let entries: Vec<f64> = (0..matrix.ncols()).flat_map(|j| matrix.col_as_slice(j)).copied().collect();
        (matrix.nrows(), matrix.ncols(), entries).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mat<f64>, D::Error> {
        let (rows, columns, entries) = <(usize, usize, Vec<f64>)>::deserialize(deserializer)?;
        if rows.checked_mul(columns) != Some(entries.len()) {
            return Err(D::Error::custom("a matrix of another size"));
        }
        Ok(Mat::from_fn(rows, columns, |i, j| entries[j * rows + i]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_read_and_nothing_else() {
        let memory = (3u32, vec![f64::INFINITY, f64::NAN, -0.0], Some(1e-300));
        let state = State::of(&memory);
        let back: (u32, Vec<f64>, Option<f64>) = state.read().unwrap();
        assert!(back.1[1].is_nan() && back.1[2].is_sign_negative() && back.2 == memory.2);
        let longer = State::from_bytes([state.as_bytes(), &[0]].concat());
        assert!(longer.read::<(u32, Vec<f64>, Option<f64>)>().is_err());
        let shorter = State::from_bytes(state.as_bytes()[..9].to_vec());
        assert!(shorter.read::<(u32, Vec<f64>, Option<f64>)>().is_err());
    }
}
