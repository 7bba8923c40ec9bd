//! Checkpoints: parameters, optimizer state and position of a run in one safetensors file.
//!
//! | key | shape | what |
//! |---|---|---|
//! | `layers.i.weight`, `layers.i.bias`, … | \[out, in\], \[out\] | θ, by the names of its source |
//! | `optimizer` | bytes | the optimizer's memory |
//! | `training.step`, `training.seed` | \[1\], u64 | position in the data and random state, which follow from them |
//! | `training.pace` | \[1\] | learning rate in units of the configured one, where an observer changed it |
//! | `training` | bytes | the whole position, the fingerprint of the settings, what the next row of metrics needs, what is remembered of faults and for the stops, the notices |
//! | `best.parameters` | \[P\] | θ with the lowest test loss, where that is not the present one |
//! | `good.parameters`, `good.optimizer` | | where a roll-back goes to, where one is wanted |
//!
//! Written beside the target, synced, and renamed; the file before it is kept as `checkpoint.previous.safetensors`.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use file::{Entry, describe, put_in_place, write, write_beside};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, Metadata};
use serde::{Deserialize, Serialize};

use super::faults::{self, Good};
use super::notices::Notices;
use super::pending::Pending;
use super::stops::Standing;
use super::{Lowest, MOST_STEPS, Parts, Position, Trainer, TrainingError, Turn};
use crate::network::Tensor;
use crate::optimizer::State;

mod file;
#[cfg(test)]
mod tests;

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no safetensors file.
    #[error("{path} is not a checkpoint: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The checkpoint's network is another one.
    #[error("{path} does not fit the network: `{tensor}` is {found}, expected {expected}")]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor that does not fit.
        tensor: String,
        /// Shape and type that the network needs.
        expected: String,
        /// Shape and type in the file.
        found: String,
    },
}

/// What a checkpoint has of the loop.
#[derive(Serialize, Deserialize)]
struct Loop {
    fingerprint: u64,
    position: Position,
    pending: Pending,
    faults: faults::Memory,
    standing: Standing,
    notices: Notices,
    /// Lowest test loss, and its step.
    best: (f64, u64),
}

/// Writes the state of a run to `path`. Takes no memory beside the run's own, except for what an optimizer makes of its
/// memory that does not write it as it goes ([`Setup::STREAMS`](crate::optimizer::Setup::STREAMS)).
///
/// # Errors
/// When the file cannot be written.
pub fn write_checkpoint(trainer: &Trainer, path: &Path) -> Result<(), CheckpointError> {
    let tensors = trainer.parts.source.tensors();
    let put = || {
        let beside = write_beside(path, entries(trainer, &tensors)?, None)?;
        // At every moment one of the two names has a whole checkpoint.
        if path.exists() {
            fs::rename(path, previous(path))?;
        }
        put_in_place(&beside, path)
    };
    put().map_err(|source| CheckpointError::Io { path: path.to_owned(), source })
}

/// The bytes of such a file, for [`resume_from_bytes`] on another rank.
///
/// # Errors
/// When the optimizer's memory cannot be written.
pub fn checkpoint_bytes(trainer: &Trainer) -> Result<Vec<u8>, CheckpointError> {
    let tensors = trainer.parts.source.tensors();
    let mut bytes = io::Cursor::new(Vec::new());
    let mut put = || write(entries(trainer, &tensors)?, None, &mut bytes);
    put().map_err(|source| CheckpointError::Io { path: PathBuf::from("a checkpoint"), source })?;
    Ok(bytes.into_inner())
}

/// A run as [`checkpoint_bytes`] has it; see [`resume`].
///
/// # Errors
/// As there.
pub fn resume_from_bytes(parts: &Parts, bytes: &[u8]) -> Result<Trainer, CheckpointError> {
    restore(parts, bytes, Path::new("a checkpoint"))
}

/// The state of a run.
fn entries<'a>(trainer: &'a Trainer, tensors: &'a [Tensor]) -> io::Result<Vec<Entry<'a>>> {
    let state = Loop {
        fingerprint: trainer.parts.options.fingerprint,
        position: trainer.position,
        pending: trainer.pending.clone(),
        faults: trainer.faults.memory.clone(),
        standing: trainer.standing.clone(),
        notices: trainer.notices.clone(),
        best: (trainer.best.loss, trainer.best.step),
    };
    let mut entries: Vec<Entry<'_>> =
        tensors.iter().map(|tensor| Entry::tensor(tensor, &trainer.theta)).collect();
    entries.push(Entry::blob(OPTIMIZER, |out| trainer.turn.optimizer.save_to(out))?);
    entries.push(Entry::blob(LOOP, move |out| State::write(&state, out))?);
    if trainer.best.step != trainer.position.step {
        entries.push(Entry::vector(BEST, &trainer.best.theta));
    }
    if let Some(Good { theta, optimizer }) = &trainer.faults.good {
        entries.push(Entry::vector(GOOD, theta));
        entries.push(Entry::blob(GOOD_OPTIMIZER, |out| out.write_all(optimizer.as_bytes()))?);
    }
    if trainer.pace != 1.0 {
        entries.push(Entry::vector(PACE, std::slice::from_ref(&trainer.pace)));
    }
    entries.push(Entry::count(STEP, trainer.position.step));
    entries.push(Entry::count(SEED, trainer.parts.options.seed));
    Ok(entries)
}

/// Writes θ alone, by the names of its tensors: a file that PyTorch's `safetensors.torch.load_file` reads. It is
/// written beside, synced, and renamed; a file that was there is replaced.
///
/// # Errors
/// When the file cannot be written, or θ is shorter than the tensors say.
pub fn write_parameters(tensors: &[Tensor], theta: &[f64], path: &Path) -> Result<(), CheckpointError> {
    write_model(tensors, theta, None, path)
}

/// As [`write_parameters`], with a text in the file's metadata that [`read_description`] finds there.
///
/// # Errors
/// As there.
pub fn write_model(
    tensors: &[Tensor],
    theta: &[f64],
    description: Option<&str>,
    path: &Path,
) -> Result<(), CheckpointError> {
    let needed = tensors.iter().map(|tensor| tensor.offset + tensor.len()).max().unwrap_or(0);
    if needed != theta.len() {
        let reason = format!("θ has {} entries, its tensors {needed}", theta.len());
        return Err(CheckpointError::Format { path: path.to_owned(), reason });
    }
    let entries = tensors.iter().map(|tensor| Entry::tensor(tensor, theta)).collect();
    let put = || write_beside(path, entries, description).and_then(|beside| put_in_place(&beside, path));
    put().map_err(|source| CheckpointError::Io { path: path.to_owned(), source })
}

/// The entry that all metadata have: the format's version, and a checksum of all tensors and of the description.
const CHECKSUM: &str = "halfinverse 4, crc32";
/// The metadata's entry for a description, where there is one.
const DESCRIPTION: &str = "halfinverse.fit";

const OPTIMIZER: &str = "optimizer";
const LOOP: &str = "training";
const STEP: &str = "training.step";
const PACE: &str = "training.pace";
const SEED: &str = "training.seed";
const BEST: &str = "best.parameters";
const GOOD: &str = "good.parameters";
const GOOD_OPTIMIZER: &str = "good.optimizer";

/// Of names, types, shapes and bytes, in the order of the names, and of the description.
fn checksum(mut parts: Vec<(&str, Dtype, &[usize], &[u8])>, description: &str) -> String {
    parts.sort_unstable_by_key(|part| part.0);
    let mut crc = crc32fast::Hasher::new();
    for (name, dtype, shape, bytes) in parts {
        describe(&mut crc, name, dtype, shape);
        crc.update(bytes);
    }
    crc.update(description.as_bytes());
    format!("{:08x}", crc.finalize())
}

/// Whether there is a checkpoint at `path`, or the one before it.
#[must_use]
pub fn checkpoint_exists(path: &Path) -> bool {
    path.is_file() || previous(path).is_file()
}

/// Where the checkpoint before `path` is kept.
fn previous(path: &Path) -> PathBuf {
    path.with_extension("previous.safetensors")
}

/// A run as its checkpoint left it; where `path` cannot be read, the checkpoint kept before it.
///
/// Its clock begins at 0, [`Trainer::wall`] and the times of its rows too, unless [`Trainer::set_clock`] says what it
/// was: a checkpoint holds nothing that differs from run to run.
///
/// A file takes the memory that [`read_parameters`] says, and its bytes twice more. Whatever it holds, it is either
/// refused or a run that can go on; its checksum finds what happened to it by accident, not what somebody did to it on
/// purpose.
///
/// # Errors
/// When neither checkpoint can be read, or the one that can is of another run.
pub fn resume(parts: &Parts, path: &Path) -> Result<Trainer, CheckpointError> {
    let from = |path: &Path| restore(parts, &read(path)?, path);
    from(path).or_else(|error| from(&previous(path)).map_err(|_| error))
}

/// θ of a checkpoint, or of another program's file with the same tensors in double or single precision.
///
/// Beside the file itself this takes at most 96 bytes of memory for each byte of the file's header, twice the
/// parameters, and 64 KiB: the header's parser keeps each number of a shape as 32 bytes.
///
/// # Errors
/// When the file cannot be read, is no checkpoint, or holds other parameters.
pub fn read_parameters(tensors: &[Tensor], path: &Path) -> Result<Vec<f64>, CheckpointError> {
    parameters(tensors, &Contents::of(&read(path)?, path)?)
}

/// The text that [`write_model`] put into a file's metadata; none where there is none.
///
/// # Errors
/// When the file cannot be read, or is no checkpoint.
pub fn read_description(path: &Path) -> Result<Option<String>, CheckpointError> {
    Ok(Contents::of(&read(path)?, path)?.description().cloned())
}

/// A file's bytes. What is no file, and may never end, is not read.
fn read(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    let bytes = fs::metadata(path).and_then(|metadata| {
        if metadata.is_file() { fs::read(path) } else { Err(std::io::Error::other("it is no file")) }
    });
    bytes.map_err(|source| CheckpointError::Io { path: path.to_owned(), source })
}

/// The tensors in a file's bytes.
struct Contents<'a> {
    header: Metadata,
    data: &'a [u8],
    /// Named in errors.
    path: &'a Path,
    /// Whether there is a checksum, which is then right.
    sealed: bool,
}

impl<'a> Contents<'a> {
    fn of(bytes: &'a [u8], path: &'a Path) -> Result<Self, CheckpointError> {
        let (length, header) = SafeTensors::read_metadata(bytes)
            .map_err(|error| CheckpointError::Format { path: path.to_owned(), reason: error.to_string() })?;
        let contents = Self { data: &bytes[8 + length..], path, sealed: false, header };
        // Files of other programs have no checksum.
        let told = contents.header.metadata().as_ref().and_then(|metadata| metadata.get(CHECKSUM));
        let Some(told) = told else { return Ok(contents) };
        let names = contents.header.offset_keys();
        let part = |name| contents.tensor(name).map(|(dtype, shape, bytes)| (name, dtype, shape, bytes));
        let description = contents.description().map_or("", String::as_str);
        if *told != checksum(names.iter().filter_map(|name| part(name)).collect(), description) {
            return Err(contents.format("its checksum is wrong"));
        }
        Ok(Self { sealed: true, ..contents })
    }

    fn description(&self) -> Option<&String> {
        self.header.metadata().as_ref()?.get(DESCRIPTION)
    }

    fn tensor(&self, name: &str) -> Option<(Dtype, &[usize], &'a [u8])> {
        let info = self.header.info(name)?;
        Some((info.dtype, &info.shape, &self.data[info.data_offsets.0..info.data_offsets.1]))
    }

    /// A tensor's numbers, eight bytes each, where type and shape are these.
    fn words(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<&'a [[u8; 8]], CheckpointError> {
        let (found_dtype, found_shape, bytes) = self.tensor(name).ok_or_else(|| self.lacks(name))?;
        if found_dtype == dtype && found_shape == shape {
            return Ok(bytes.as_chunks().0);
        }
        Err(self.misfit(name, format!("{shape:?} of {dtype:?}")))
    }

    /// A tensor that does not fit.
    fn misfit(&self, name: &str, expected: String) -> CheckpointError {
        let found = self
            .tensor(name)
            .map_or_else(|| "absent".to_owned(), |(dtype, shape, _)| format!("{shape:?} of {dtype:?}"));
        CheckpointError::Shape { path: self.path.to_owned(), tensor: name.to_owned(), expected, found }
    }

    fn count(&self, name: &str) -> Result<u64, CheckpointError> {
        Ok(u64::from_le_bytes(self.words(name, Dtype::U64, &[1])?[0]))
    }

    /// Parameters in their own order.
    fn vector(&self, name: &str, count: usize) -> Result<Vec<f64>, CheckpointError> {
        let words = self.words(name, Dtype::F64, &[count])?;
        let theta: Vec<f64> = words.iter().map(|&word| f64::from_le_bytes(word)).collect();
        match theta.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(self.format(format!("a number of `{name}` is {value}"))),
            None => Ok(theta),
        }
    }

    /// Bytes that an optimizer or the loop has saved.
    fn state(&self, name: &str) -> Result<State, CheckpointError> {
        let (dtype, shape, bytes) = self.tensor(name).ok_or_else(|| self.lacks(name))?;
        if dtype != Dtype::U8 || shape.len() != 1 {
            return Err(self.format(format!("`{name}` is {shape:?} of {dtype:?}")));
        }
        Ok(State::from_bytes(bytes.to_vec()))
    }

    fn format(&self, reason: impl Into<String>) -> CheckpointError {
        CheckpointError::Format { path: self.path.to_owned(), reason: reason.into() }
    }

    fn lacks(&self, name: &str) -> CheckpointError {
        self.format(format!("it lacks `{name}`"))
    }
}

/// θ of these tensors.
fn parameters(tensors: &[Tensor], contents: &Contents<'_>) -> Result<Vec<f64>, CheckpointError> {
    // All is there before memory is asked for.
    for tensor in tensors {
        let (dtype, shape, _) = contents.tensor(&tensor.name).ok_or_else(|| contents.lacks(&tensor.name))?;
        if shape != tensor.shape || ![Dtype::F64, Dtype::F32].contains(&dtype) {
            return Err(contents.misfit(&tensor.name, format!("{:?} of F64 or F32", tensor.shape)));
        }
    }
    let layers = |name: &str| name.starts_with("layers.");
    let excess = contents.header.offset_keys();
    let excess = excess.into_iter().find(|name| layers(name) && !tensors.iter().any(|own| own.name == *name));
    if let Some(name) = excess {
        return Err(contents.misfit(&name, "absent".to_owned()));
    }
    let mut theta = vec![0.0; tensors.iter().map(Tensor::len).sum()];
    for tensor in tensors {
        let Some((dtype, _, bytes)) = contents.tensor(&tensor.name) else { continue };
        if dtype == Dtype::F64 {
            let words = bytes.as_chunks().0.iter().map(|&word| f64::from_le_bytes(word));
            tensor.places().zip(words).for_each(|(place, value)| theta[place] = value);
        } else {
            let words = bytes.as_chunks().0.iter().map(|&word| f64::from(f32::from_le_bytes(word)));
            tensor.places().zip(words).for_each(|(place, value)| theta[place] = value);
        }
    }
    match theta.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(contents.format(format!("a parameter is {value}"))),
        None => Ok(theta),
    }
}

/// The run that these bytes hold.
fn restore(parts: &Parts, bytes: &[u8], path: &Path) -> Result<Trainer, CheckpointError> {
    let contents = Contents::of(bytes, path)?;
    if !contents.sealed {
        return Err(contents.format("it has no checksum, or another version's"));
    }
    let theta = parameters(&parts.source.tensors(), &contents)?;
    let seed = contents.count(SEED)?;
    if seed != parts.options.seed {
        return Err(contents.format(format!("its run had the seed {seed}")));
    }
    let refused = |what: &str, error: &dyn std::fmt::Display| {
        contents.format(format!("`{what}` is not what such a run saves: {error}"))
    };
    let state: Loop = contents.state(LOOP)?.read().map_err(|error| refused(LOOP, &error))?;
    check_position(&state.position, parts, &contents)?;
    if state.fingerprint != parts.options.fingerprint {
        return Err(contents.format("its run had other settings; put config.toml back, or start another run from its weights with --from"));
    }
    let step = state.position.step;
    if !(state.pending.is_plausible() && state.standing.is_plausible() && state.notices.is_plausible(step)) {
        return Err(refused(LOOP, &"a count is too large"));
    }
    let fresh = |error: TrainingError| contents.format(error.to_string());
    let count = theta.len();
    let pace = pace(&contents)?;
    let mut trainer = Trainer::new(parts.clone(), theta).map_err(fresh)?;
    trainer.turn = Turn::new(parts, state.position.stage).map_err(fresh)?;
    let saved = contents.state(OPTIMIZER)?;
    trainer.turn.optimizer.restore(&saved, count).map_err(|error| refused(OPTIMIZER, &error))?;
    trainer.faults.restore(state.faults).map_err(|error| refused(LOOP, &error))?;
    trainer.faults.good = good(parts, state.position.stage, count, &contents)?;
    trainer.best = best(&trainer.theta, state.best, state.position.step, &contents)?;
    (trainer.position, trainer.pending) = (state.position, state.pending);
    (trainer.standing, trainer.notices) = (state.standing, state.notices);
    trainer.pace = pace;
    trainer.clock.elapsed = Some(Duration::ZERO);
    let Position { step, stage_step, .. } = trainer.position;
    if step > stage_step {
        // The next row looks at the last mini-batch once more.
        trainer.draw(step - 1).map_err(|error| contents.format(error.to_string()))?;
    }
    Ok(trainer)
}

fn check_position(
    position: &Position,
    parts: &Parts,
    contents: &Contents<'_>,
) -> Result<(), CheckpointError> {
    let Position { step, stage, stage_step, stage_epochs, rows, .. } = *position;
    let stages = parts.stages.len();
    if stage >= stages {
        return Err(contents.format(format!("it is at optimizer {stage} of {stages}")));
    }
    if stage_step > step || step > MOST_STEPS || rows > MOST_STEPS || step != contents.count(STEP)? {
        return Err(contents.format(format!("it is at step {step}, of a turn that began at {stage_step}")));
    }
    if !stage_epochs.is_finite() {
        return Err(contents.format(format!("its turn began at epoch {stage_epochs}")));
    }
    Ok(())
}

/// The learning rate in units of the configured one.
fn pace(contents: &Contents<'_>) -> Result<f64, CheckpointError> {
    if contents.tensor(PACE).is_none() {
        return Ok(1.0);
    }
    let pace = contents.vector(PACE, 1)?[0];
    if pace > 0.0 {
        Ok(pace)
    } else {
        Err(contents.format(format!("its learning rate is {pace} times the configured one")))
    }
}

/// The lowest test loss, its step, and its θ, which may be the present one.
fn best(
    theta: &[f64],
    (loss, step): (f64, u64),
    now: u64,
    contents: &Contents<'_>,
) -> Result<Lowest, CheckpointError> {
    if loss.is_nan() || step > now {
        return Err(contents.format(format!("its lowest test loss is {loss}, at step {step} of {now}")));
    }
    let theta = if step == now { theta.to_vec() } else { contents.vector(BEST, theta.len())? };
    Ok(Lowest { theta, loss, step })
}

/// Where a roll-back goes to, where the run has such a state.
fn good(
    parts: &Parts,
    stage: usize,
    count: usize,
    contents: &Contents<'_>,
) -> Result<Option<Good>, CheckpointError> {
    if contents.tensor(GOOD).is_none() {
        return Ok(None);
    }
    let theta = contents.vector(GOOD, count)?;
    let optimizer = contents.state(GOOD_OPTIMIZER)?;
    let mut turn = Turn::new(parts, stage).map_err(|error| contents.format(error.to_string()))?;
    turn.optimizer.restore(&optimizer, count).map_err(|error| {
        contents.format(format!("`{GOOD_OPTIMIZER}` is not what such a run saves: {error}"))
    })?;
    Ok(Some(Good { theta, optimizer }))
}
