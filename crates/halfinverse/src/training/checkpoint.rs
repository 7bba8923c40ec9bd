//! Checkpoints: parameters, optimizer state and position of a run in one safetensors file.
//!
//! | key | shape | what |
//! |---|---|---|
//! | `layers.i.weight`, `layers.i.bias` | \[out, in\], \[out\] | the network |
//! | `optimizer.*` | | the optimizer's memory |
//! | `training.step`, `training.seed` | \[1\], u64 | position in the data and random state, which follow from them |
//! | `training.turn`, `training.turn_step` | \[1\], u64 | which optimizer's turn it is, and when that began |
//! | `training.turn_epochs` | \[1\] | epochs before that |
//! | `training.pending` | \[4\] | since the last row of metrics: sum of losses, steps, fallbacks, rejected steps |
//!
//! Written beside the target, synced, and renamed; the file before it is kept as `checkpoint.previous.safetensors`.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::{Trainer, begin};
use crate::network::Mlp;
use crate::optimizer::Memory;
use crate::task::Task;

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

/// Writes the state of a run to `path`.
///
/// # Errors
/// When the file cannot be written.
pub fn write_checkpoint(trainer: &mut Trainer, path: &Path) -> Result<(), CheckpointError> {
    let mut memory = Memory::default();
    trainer.optimizer.visit(&trainer.problem, &mut memory);
    let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    let mut add = |name: String, shape: Vec<usize>, values: &mut dyn Iterator<Item = f64>| {
        tensors.push((name, Dtype::F64, shape, values.flat_map(f64::to_le_bytes).collect()));
    };
    for (i, layer) in trainer.task.model().network().layers().iter().enumerate() {
        let (weight, bias) = (layer.weight(&trainer.theta), layer.bias(&trainer.theta));
        let mut rows = (0..layer.outputs).flat_map(|o| (0..layer.inputs).map(move |j| weight[(o, j)]));
        add(format!("layers.{i}.weight"), vec![layer.outputs, layer.inputs], &mut rows);
        add(format!("layers.{i}.bias"), vec![layer.outputs], &mut bias.iter().copied());
    }
    for (name, values) in memory.entries() {
        add(format!("optimizer.{name}"), vec![values.len()], &mut values.iter().copied());
    }
    add("training.turn_epochs".to_owned(), vec![1], &mut [trainer.turn_epochs].into_iter());
    let pending = &trainer.pending;
    let counts = [f64::from(pending.steps), pending.fallbacks as f64, pending.rejected as f64];
    add("training.pending".to_owned(), vec![4], &mut [pending.losses].into_iter().chain(counts));
    let seed = trainer.task.settings().training.seed;
    let (turn, turn_step) = (trainer.turn as u64, trainer.turn_step);
    for (name, value) in [("step", trainer.step), ("seed", seed), ("turn", turn), ("turn_step", turn_step)] {
        tensors.push((format!("training.{name}"), Dtype::U64, vec![1], value.to_le_bytes().to_vec()));
    }
    let format = |error: safetensors::SafeTensorError| CheckpointError::Format {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let mut views = Vec::new();
    for (name, dtype, shape, bytes) in &tensors {
        views.push((name, TensorView::new(*dtype, shape.clone(), bytes).map_err(format)?));
    }
    // One entry only: the order of several would change from run to run.
    let parts = tensors.iter().map(|(name, _, shape, bytes)| (name.as_str(), &shape[..], &bytes[..]));
    let metadata = HashMap::from([(CHECKSUM.to_owned(), checksum(parts.collect()))]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(format)?;
    replace(path, &bytes).map_err(|source| CheckpointError::Io { path: path.to_owned(), source })
}

/// The one entry of the metadata: the format's version, and a checksum of all tensors.
const CHECKSUM: &str = "halfinverse 1, crc32";

/// Of names, shapes and bytes, in the order of the names.
fn checksum(mut parts: Vec<(&str, &[usize], &[u8])>) -> String {
    parts.sort_unstable();
    let mut crc = crc32fast::Hasher::new();
    for (name, shape, bytes) in parts {
        crc.update(name.as_bytes());
        for &length in shape {
            crc.update(&(length as u64).to_le_bytes());
        }
        crc.update(bytes);
    }
    format!("{:08x}", crc.finalize())
}

/// Whether a file of tensors is as it was written; None where it does not say.
fn intact(bytes: &[u8], file: &SafeTensors<'_>) -> Option<bool> {
    let (_, header) = SafeTensors::read_metadata(bytes).ok()?;
    let told = header.metadata().as_ref()?.get(CHECKSUM)?;
    let tensors = file.tensors();
    let parts = tensors.iter().map(|(name, view)| (name.as_str(), view.shape(), view.data()));
    Some(*told == checksum(parts.collect()))
}

/// Writes beside `path`, syncs, renames.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("safetensors.new");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    if path.exists() {
        fs::rename(path, previous(path))?;
    }
    fs::rename(&beside, path)?;
    // The names are safe only once the folder is.
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Where the checkpoint before `path` is kept.
fn previous(path: &Path) -> PathBuf {
    path.with_extension("previous.safetensors")
}

/// A run as its checkpoint left it, to be gone on with, but for its clock ([`Trainer::set_clock`]); `path` may be the one kept before the last.
///
/// # Errors
/// When neither checkpoint can be read, or the one that can is of another run.
pub fn resume(task: &Task, path: &Path) -> Result<Trainer, CheckpointError> {
    resume_from(task, path).or_else(|error| resume_from(task, &previous(path)).map_err(|_| error))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saved as whole numbers")]
fn resume_from(task: &Task, path: &Path) -> Result<Trainer, CheckpointError> {
    let theta = read_parameters(task.model().network(), path)?;
    let bytes = fs::read(path).map_err(|source| CheckpointError::Io { path: path.to_owned(), source })?;
    let format = |reason: String| CheckpointError::Format { path: path.to_owned(), reason };
    let file = SafeTensors::deserialize(&bytes).map_err(|error| format(error.to_string()))?;
    if intact(&bytes, &file) != Some(true) {
        return Err(format("its checksum is wrong".to_owned()));
    }
    let mut entries = BTreeMap::new();
    let (mut counts, mut numbers) = (BTreeMap::new(), BTreeMap::new());
    for (name, view) in file.tensors() {
        let words = view.data().as_chunks::<8>().0;
        let values = || words.iter().map(|&word| f64::from_le_bytes(word)).collect::<Vec<_>>();
        if let Some(name) = name.strip_prefix("optimizer.") {
            entries.insert(name.to_owned(), values());
        } else if let Some(name) = name.strip_prefix("training.") {
            match view.dtype() {
                Dtype::U64 => {
                    counts.insert(name.to_owned(), words.first().map_or(0, |&w| u64::from_le_bytes(w)))
                }
                _ => numbers.insert(name.to_owned(), values()).map(|_| 0),
            };
        }
    }
    let lacks = |name: &str| format(format!("it lacks `{name}`"));
    let count = |name: &str| counts.get(name).copied().ok_or_else(|| lacks(name));
    let several = |name: &str, length: usize| {
        numbers
            .get(name)
            .filter(|values| values.len() == length && values.iter().all(|x| x.is_finite()))
            .ok_or_else(|| lacks(name))
    };
    if count("seed")? != task.settings().training.seed {
        return Err(format(format!("its run had the seed {}", count("seed")?)));
    }
    let turn = count("turn")? as usize;
    if turn > task.settings().before.len() {
        return Err(format(format!("it is at optimizer {turn} of {}", task.settings().before.len())));
    }
    let fresh = |error: super::TrainingError| format(error.to_string());
    let mut trainer = Trainer::new(task, Some(theta)).map_err(fresh)?;
    (trainer.optimizer, trainer.problem, trainer.order) = begin(task, turn).map_err(fresh)?;
    let mut memory = Memory::from_entries(entries);
    trainer.optimizer.visit(&trainer.problem, &mut memory);
    if let Some(name) = memory.missing() {
        return Err(lacks(&format!("optimizer.{name}")));
    }
    (trainer.turn, trainer.turn_step, trainer.step) = (turn, count("turn_step")?, count("step")?);
    trainer.turn_epochs = several("turn_epochs", 1)?[0];
    trainer.elapsed = Some(Duration::ZERO);
    let pending = several("pending", 4)?;
    trainer.pending.losses = pending[0];
    trainer.pending.steps = pending[1] as u32;
    (trainer.pending.fallbacks, trainer.pending.rejected) = (pending[2] as u64, pending[3] as u64);
    Ok(trainer)
}

/// θ of a checkpoint, for this network.
///
/// # Errors
/// When the file cannot be read, is no checkpoint, or holds another network.
pub fn read_parameters(network: &Mlp, path: &Path) -> Result<Vec<f64>, CheckpointError> {
    let bytes = fs::read(path).map_err(|source| CheckpointError::Io { path: path.to_owned(), source })?;
    let format = |error: safetensors::SafeTensorError| CheckpointError::Format {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let file = SafeTensors::deserialize(&bytes).map_err(format)?;
    // Files of other programs have no checksum.
    if intact(&bytes, &file) == Some(false) {
        let reason = "its checksum is wrong".to_owned();
        return Err(CheckpointError::Format { path: path.to_owned(), reason });
    }
    let read = |tensor: String, shape: &[usize]| {
        let view = file.tensor(&tensor).map_err(format)?;
        if view.shape() != shape || view.dtype() != Dtype::F64 {
            return Err(CheckpointError::Shape {
                path: path.to_owned(),
                tensor,
                expected: format!("{shape:?} of F64"),
                found: format!("{:?} of {:?}", view.shape(), view.dtype()),
            });
        }
        Ok(view.data().as_chunks::<8>().0.iter().map(|&word| f64::from_le_bytes(word)).collect::<Vec<_>>())
    };
    let mut theta = vec![0.0; network.parameters()];
    for (i, layer) in network.layers().iter().enumerate() {
        let weight = read(format!("layers.{i}.weight"), &[layer.outputs, layer.inputs])?;
        let bias = read(format!("layers.{i}.bias"), &[layer.outputs])?;
        let (mut to, to_bias) = layer.parts_mut(&mut theta);
        for (o, row) in weight.chunks_exact(layer.inputs).enumerate() {
            for (j, &value) in row.iter().enumerate() {
                to[(o, j)] = value;
            }
        }
        to_bias.copy_from_slice(&bias);
    }
    let excess = format!("layers.{}.weight", network.layers().len());
    if let Ok(view) = file.tensor(&excess) {
        return Err(CheckpointError::Shape {
            path: path.to_owned(),
            tensor: excess,
            expected: "absent".to_owned(),
            found: format!("{:?}", view.shape()),
        });
    }
    if let Some(value) = theta.iter().find(|value| !value.is_finite()) {
        let reason = format!("a parameter is {value}");
        return Err(CheckpointError::Format { path: path.to_owned(), reason });
    }
    Ok(theta)
}
