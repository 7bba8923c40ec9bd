//! Checkpoints: parameters, optimizer state and position of a run in one safetensors file.
//!
//! | key | shape | what |
//! |---|---|---|
//! | `layers.i.weight`, `layers.i.bias` | \[out, in\], \[out\] | the network |
//! | `optimizer.*` | | the optimizer's memory |
//! | `training.step`, `training.seed` | \[1\], u64 | position in the data and random state, which follow from them |
//!
//! Written beside the target, synced, and renamed, so that a reader sees the old file or the new one.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::Trainer;
use crate::network::Mlp;

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
pub fn write_checkpoint(trainer: &Trainer, path: &Path) -> Result<(), CheckpointError> {
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
    for (name, values) in trainer.optimizer.state() {
        add(format!("optimizer.{name}"), vec![values.len()], &mut values.iter().copied());
    }
    for (name, value) in [("step", trainer.step), ("seed", trainer.task.settings().training.seed)] {
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
    let metadata = HashMap::from([("format".to_owned(), "halfinverse 1".to_owned())]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(format)?;
    replace(path, &bytes).map_err(|source| CheckpointError::Io { path: path.to_owned(), source })
}

/// Writes beside `path`, syncs, renames.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("safetensors.new");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)
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
