//! Checkpoints: parameters, optimizer state and position of a run in one safetensors file.
//!
//! | key | shape | what |
//! |---|---|---|
//! | `layers.i.weight`, `layers.i.bias` | \[out, in\], \[out\] | the network |
//! | `optimizer.*` | | the optimizer's memory |
//! | `training.step`, `training.seed` | \[1\], u64 | position in the data and random state, which follow from them |
//! | `training.turn`, `training.turn_step` | \[1\], u64 | which optimizer's turn it is, and when that began |
//! | `training.turn_epochs` | \[1\] | epochs before that |
//! | `pending.*` | | what the next row of metrics needs: sums and counts since the last one, the last step |
//! | `training.rows`, `training.test_loss` | \[1\], u64; \[1\] | rows of metrics before, and the last one's test loss |
//! | `training.settings` | \[1\], u64 | [fingerprint of the settings](crate::task::Settings::fingerprint) |
//! | `faults.*` | | what is remembered of numerical faults |
//! | `good.parameters`, `good.optimizer.*` | | where a roll-back goes to, where one is wanted |
//!
//! Written beside the target, synced, and renamed; the file before it is kept as `checkpoint.previous.safetensors`.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use safetensors::tensor::{Dtype, Metadata, TensorView};
use safetensors::{SafeTensorError, SafeTensors};

use super::faults::Good;
use super::{Trainer, begin};
use crate::network::Mlp;
use crate::optimizer::Memory;
use crate::task::Task;

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

/// Writes the state of a run to `path`. The run stays as it is; it is borrowed as [`Optimizer::visit`] wants it, which saves and takes
/// back by one and the same code.
///
/// [`Optimizer::visit`]: crate::optimizer::Optimizer::visit
///
/// # Errors
/// When the file cannot be written.
pub fn write_checkpoint(trainer: &mut Trainer, path: &Path) -> Result<(), CheckpointError> {
    let bytes = to_bytes(trainer)
        .map_err(|error| CheckpointError::Format { path: path.to_owned(), reason: error.to_string() })?;
    replace(path, &bytes).map_err(|source| CheckpointError::Io { path: path.to_owned(), source })
}

/// The state of a run as a file.
fn to_bytes(trainer: &mut Trainer) -> Result<Vec<u8>, SafeTensorError> {
    let [mut memory, mut faults, mut pending] = [(); 3].map(|()| Memory::default());
    trainer.optimizer.visit(&trainer.problem, &mut memory);
    trainer.faults.visit(&mut faults);
    trainer.pending.visit(&mut pending);
    let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    let mut add = |name: String, shape: Vec<usize>, values: &mut dyn Iterator<Item = f64>| {
        // As long as it will be: a vector that grows takes twice that.
        let mut bytes = Vec::with_capacity(8 * shape.iter().product::<usize>());
        values.for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
        tensors.push((name, Dtype::F64, shape, bytes));
    };
    for (i, layer) in trainer.task.model().network().layers().iter().enumerate() {
        let (weight, bias) = (layer.weight(&trainer.theta), layer.bias(&trainer.theta));
        let mut rows = (0..layer.outputs).flat_map(|o| (0..layer.inputs).map(move |j| weight[(o, j)]));
        add(format!("layers.{i}.weight"), vec![layer.outputs, layer.inputs], &mut rows);
        add(format!("layers.{i}.bias"), vec![layer.outputs], &mut bias.iter().copied());
    }
    let mut add_all = |prefix: &str, entries: &BTreeMap<String, Vec<f64>>| {
        for (name, values) in entries {
            add(format!("{prefix}{name}"), vec![values.len()], &mut values.iter().copied());
        }
    };
    add_all("optimizer.", memory.entries());
    add_all("faults.", faults.entries());
    add_all("pending.", pending.entries());
    if let Some(good) = &trainer.faults.good {
        add_all("good.optimizer.", &good.memory);
        add(GOOD.to_owned(), vec![good.theta.len()], &mut good.theta.iter().copied());
    }
    for (name, value) in [("turn_epochs", trainer.turn_epochs), ("test_loss", trainer.test_loss)] {
        add(format!("training.{name}"), vec![1], &mut [value].into_iter());
    }
    let settings = trainer.task.settings();
    for (name, value) in [
        ("step", trainer.step),
        ("seed", settings.training.seed),
        ("turn", trainer.turn as u64),
        ("turn_step", trainer.turn_step),
        ("rows", trainer.rows),
        ("settings", settings.fingerprint()),
    ] {
        tensors.push((format!("training.{name}"), Dtype::U64, vec![1], value.to_le_bytes().to_vec()));
    }
    let mut views = Vec::new();
    for (name, dtype, shape, bytes) in &tensors {
        views.push((name, TensorView::new(*dtype, shape.clone(), bytes)?));
    }
    // One entry only: the order of several would change from run to run.
    let parts =
        tensors.iter().map(|(name, dtype, shape, bytes)| (name.as_str(), *dtype, &shape[..], &bytes[..]));
    let metadata = HashMap::from([(CHECKSUM.to_owned(), checksum(parts.collect()))]);
    safetensors::serialize(views, Some(metadata))
}

/// The one entry of the metadata: the format's version, and a checksum of all tensors.
const CHECKSUM: &str = "halfinverse 2, crc32";

const GOOD: &str = "good.parameters";

/// Of names, types, shapes and bytes, in the order of the names.
fn checksum(mut parts: Vec<(&str, Dtype, &[usize], &[u8])>) -> String {
    parts.sort_unstable_by_key(|part| part.0);
    let mut crc = crc32fast::Hasher::new();
    for (name, dtype, shape, bytes) in parts {
        crc.update(name.as_bytes());
        crc.update(format!("{dtype:?}").as_bytes());
        for &length in shape {
            crc.update(&(length as u64).to_le_bytes());
        }
        crc.update(bytes);
    }
    format!("{:08x}", crc.finalize())
}

/// Writes beside `path`, syncs, renames.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("safetensors.new");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    // At every moment one of the two names has a whole checkpoint.
    if path.exists() {
        fs::rename(path, previous(path))?;
    }
    fs::rename(&beside, path)?;
    // The names are safe only once the folder is.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
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

/// A run as its checkpoint left it, to be gone on with; where `path` cannot be read, the checkpoint kept before it.
///
/// Its clock begins at 0, [`Trainer::wall`] and the times of its rows too, unless [`Trainer::set_clock`] says what it was: a
/// checkpoint holds nothing that differs from run to run.
///
/// A file takes the memory that [`read_parameters`] says, and its numbers once more. Whatever it holds, it is either refused or a
/// run that can go on; its checksum finds what happened to it by accident, not what somebody did to it on purpose.
///
/// # Errors
/// When neither checkpoint can be read, or the one that can is of another run.
pub fn resume(task: &Task, path: &Path) -> Result<Trainer, CheckpointError> {
    let from = |path: &Path| restore(task, &read(path)?, path);
    from(path).or_else(|error| from(&previous(path)).map_err(|_| error))
}

/// θ of a checkpoint, for this network.
///
/// Beside the file itself this takes at most 96 bytes of memory for each byte of the file's header, twice the network's
/// parameters, and 64 KiB: the header's parser keeps each number of a shape as 32 bytes.
///
/// # Errors
/// When the file cannot be read, is no checkpoint, or holds another network.
pub fn read_parameters(network: &Mlp, path: &Path) -> Result<Vec<f64>, CheckpointError> {
    parameters(network, &Contents::of(&read(path)?, path)?)
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
        if *told != checksum(names.iter().filter_map(|name| part(name)).collect()) {
            return Err(contents.format("its checksum is wrong"));
        }
        Ok(Self { sealed: true, ..contents })
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
        Err(CheckpointError::Shape {
            path: self.path.to_owned(),
            tensor: name.to_owned(),
            expected: format!("{shape:?} of {dtype:?}"),
            found: format!("{found_shape:?} of {found_dtype:?}"),
        })
    }

    fn count(&self, name: &str) -> Result<u64, CheckpointError> {
        Ok(u64::from_le_bytes(self.words(name, Dtype::U64, &[1])?[0]))
    }

    fn number(&self, name: &str) -> Result<f64, CheckpointError> {
        Ok(f64::from_le_bytes(self.words(name, Dtype::F64, &[1])?[0]))
    }

    /// All vectors whose names begin so.
    fn vectors(&self, prefix: &str) -> Result<BTreeMap<String, Vec<f64>>, CheckpointError> {
        let mut entries = BTreeMap::new();
        for name in self.header.offset_keys() {
            let Some(short) = name.strip_prefix(prefix) else { continue };
            let length = self.tensor(&name).map_or(0, |(_, _, bytes)| bytes.len() / 8);
            let words = self.words(&name, Dtype::F64, &[length])?;
            entries.insert(short.to_owned(), words.iter().map(|&word| f64::from_le_bytes(word)).collect());
        }
        Ok(entries)
    }

    /// Lets `visit` take back what was saved under a prefix.
    fn take_back(
        &self,
        prefix: &str,
        parameters: usize,
        visit: impl FnOnce(&mut Memory),
    ) -> Result<(), CheckpointError> {
        let mut memory = Memory::from_entries(self.vectors(prefix)?, parameters);
        visit(&mut memory);
        memory.missing().map_or(Ok(()), |name| {
            Err(self.format(format!("`{prefix}{name}` is missing, or not what such a run saves")))
        })
    }

    fn format(&self, reason: impl Into<String>) -> CheckpointError {
        CheckpointError::Format { path: self.path.to_owned(), reason: reason.into() }
    }

    fn lacks(&self, name: &str) -> CheckpointError {
        self.format(format!("it lacks `{name}`"))
    }
}

/// θ of these tensors.
fn parameters(network: &Mlp, contents: &Contents<'_>) -> Result<Vec<f64>, CheckpointError> {
    // All is there before memory is asked for.
    let mut parts = Vec::new();
    for (i, layer) in network.layers().iter().enumerate() {
        let shape = [layer.outputs, layer.inputs];
        let weight = contents.words(&format!("layers.{i}.weight"), Dtype::F64, &shape)?;
        parts.push((weight, contents.words(&format!("layers.{i}.bias"), Dtype::F64, &shape[..1])?));
    }
    let excess = format!("layers.{}.weight", network.layers().len());
    if let Some((_, shape, _)) = contents.tensor(&excess) {
        return Err(CheckpointError::Shape {
            path: contents.path.to_owned(),
            found: format!("{shape:?}"),
            expected: "absent".to_owned(),
            tensor: excess,
        });
    }
    let mut theta = vec![0.0; network.parameters()];
    for (layer, (weight, bias)) in network.layers().iter().zip(parts) {
        let (mut to, to_bias) = layer.parts_mut(&mut theta);
        for (o, row) in weight.chunks_exact(layer.inputs).enumerate() {
            for (j, &word) in row.iter().enumerate() {
                to[(o, j)] = f64::from_le_bytes(word);
            }
        }
        for (to, &word) in to_bias.iter_mut().zip(bias) {
            *to = f64::from_le_bytes(word);
        }
    }
    match theta.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(contents.format(format!("a parameter is {value}"))),
        None => Ok(theta),
    }
}

/// The run that these bytes hold.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saved as whole numbers")]
fn restore(task: &Task, bytes: &[u8], path: &Path) -> Result<Trainer, CheckpointError> {
    let contents = Contents::of(bytes, path)?;
    if !contents.sealed {
        return Err(contents.format("it has no checksum, or another version's"));
    }
    let theta = parameters(task.model().network(), &contents)?;
    let seed = contents.count("training.seed")?;
    if seed != task.settings().training.seed {
        return Err(contents.format(format!("its run had the seed {seed}")));
    }
    let (turn, turns) = (contents.count("training.turn")?, task.settings().before.len());
    let turn = usize::try_from(turn)
        .ok()
        .filter(|&turn| turn <= turns)
        .ok_or_else(|| contents.format(format!("it is at optimizer {turn} of {turns}")))?;
    let (step, turn_step) = (contents.count("training.step")?, contents.count("training.turn_step")?);
    if turn_step > step || step > MOST_STEPS {
        return Err(contents.format(format!("it is at step {step}, of a turn that began at {turn_step}")));
    }
    if contents.count("training.settings")? != task.settings().fingerprint() {
        return Err(contents.format("its run had other settings; put config.toml back, or start another run from its weights with --from"));
    }
    let fresh = |error: super::TrainingError| contents.format(error.to_string());
    let parameters = theta.len();
    let mut trainer = Trainer::new(task, Some(theta)).map_err(fresh)?;
    (trainer.optimizer, trainer.problem, trainer.order) = begin(task, turn).map_err(fresh)?;
    contents
        .take_back("optimizer.", parameters, |memory| trainer.optimizer.visit(&trainer.problem, memory))?;
    contents.take_back("faults.", parameters, |memory| trainer.faults.visit(memory))?;
    if contents.tensor(GOOD).is_some() {
        let words = contents.words(GOOD, Dtype::F64, &[parameters])?;
        let (mut optimizer, problem, _) = begin(task, turn).map_err(fresh)?;
        contents.take_back("good.optimizer.", parameters, |memory| optimizer.visit(&problem, memory))?;
        let theta: Vec<f64> = words.iter().map(|&word| f64::from_le_bytes(word)).collect();
        if let Some(value) = theta.iter().find(|value| !value.is_finite()) {
            return Err(contents.format(format!("a number of `{GOOD}` is {value}")));
        }
        trainer.faults.good = Some(Good { theta, memory: contents.vectors("good.optimizer.")? });
    }
    (trainer.turn, trainer.turn_step, trainer.step) = (turn, turn_step, step);
    trainer.rows = contents.count("training.rows")?;
    trainer.turn_epochs = contents.number("training.turn_epochs")?;
    if !trainer.turn_epochs.is_finite() {
        return Err(contents.format(format!("`training.turn_epochs` is {}", trainer.turn_epochs)));
    }
    // NaN where the test data could not be simulated.
    trainer.test_loss = contents.number("training.test_loss")?;
    trainer.elapsed = Some(Duration::ZERO);
    contents.take_back("pending.", parameters, |memory| trainer.pending.visit(memory))?;
    if step > turn_step {
        // The next row looks at the last mini-batch once more.
        trainer.draw(step - 1);
    }
    Ok(trainer)
}

/// Steps that no run gets beyond; what counts on from here overflows nowhere.
pub const MOST_STEPS: u64 = 1 << 53;
