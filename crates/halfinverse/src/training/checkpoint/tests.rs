//! Checkpoints that were damaged, or made to do harm.
//!
//! `cargo test --release` feeds each fuzz test its corpus, in `__fuzz__` beside it, and a bounded number of random
//! inputs. For ten minutes of random inputs:
//!
//! ```sh
//! BOLERO_RANDOM_ITERATIONS=1000000000 BOLERO_RANDOM_TEST_TIME_MS=600000 cargo test --release -p halfinverse --lib
//! any_bytes
//! ```
//!
//! For ten minutes guided by coverage, with libFuzzer, stable Rust and a C++ compiler (cargo-bolero would do the same,
//! but builds every test of a package, and those that do not fuzz do not link); what covers more goes to `found`, and
//! what fails beside it:
//!
//! ```sh
//! mkdir -p target/found
//! export RUSTFLAGS="--cfg fuzzing --cfg fuzzing_libfuzzer -Cpasses=sancov-module
//! -Cllvm-args=-sanitizer-coverage-level=4 \
//!     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
//!     -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-sanitizer-coverage-stack-depth"
//! export BOLERO_LIBFUZZER_ARGS=$(echo $PWD/target/found
//! $PWD/crates/halfinverse/src/training/checkpoint/__fuzz__/any/corpus \
//!     -artifact_prefix=$PWD/target/ -max_total_time=600 -max_len=16384)
//! BOLERO_FUZZER=libfuzzer cargo test --profile fuzz --target x86_64-unknown-linux-gnu --target-dir target/fuzz \
//!     -p halfinverse --lib -- --exact training::checkpoint::tests::any_bytes_are_parameters_or_refused --nocapture
//! --test-threads 1
//! ```
//!
//! For the program's files it is `-p hig --bin hig` and the names of the tests there.

use std::sync::LazyLock;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::task::{Registry, Stage, Task};
use crate::training::{OnFault, StopSettings};

#[path = "../../../tests/common/damage.rs"]
mod damage;

use damage::{damage, within, word};

/// Name, type, shape and bytes.
type Stored = (String, Dtype, Vec<usize>, Vec<u8>);

/// A file of these tensors, with their checksum.
fn serialize(tensors: &[Stored]) -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    file::write(tensors.iter().map(Entry::of).collect(), None, &mut file).unwrap();
    file.into_inner()
}

/// A run's checkpoint.
fn to_bytes(trainer: &Trainer) -> Vec<u8> {
    let (tensors, mut file) = (trainer.parts.source.tensors(), std::io::Cursor::new(Vec::new()));
    file::write(entries(trainer, &tensors).unwrap(), None, &mut file).unwrap();
    file.into_inner()
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("halfinverse-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// A tiny run's task, `steps` of it.
fn task(optimizer: &str, steps: u64) -> Task {
    let mut settings = Registry::standard().settings("toy", optimizer).unwrap();
    (settings.data.train, settings.data.test) = (16, 2);
    settings.network.hidden = vec![3];
    (settings.training.batch, settings.training.threads) = (4, 1);
    settings.stop = StopSettings { steps: Some(steps), ..StopSettings::default() };
    Task::new(settings).unwrap()
}

/// Every optimizer's task and checkpoint, and those of one that hands over to another and could roll back.
static RUNS: LazyLock<Vec<(Parts, Vec<u8>)>> = LazyLock::new(|| {
    let mut tasks: Vec<Task> =
        Registry::standard().optimizers().iter().map(|entry| task(entry.name, 6)).collect();
    let mut settings = task("hig", 6).settings().clone();
    let adam = task("adam", 6).settings().optimizer.clone();
    settings.before = vec![Stage { steps: 3, batch: 4, optimizer: adam }];
    settings.training.on_fault = OnFault::RollBack;
    tasks.push(Task::new(settings).unwrap());
    let run = |task: Task| {
        let mut trainer = task.trainer(None).unwrap();
        trainer.run(&mut ()).unwrap();
        (task.parts(), to_bytes(&trainer))
    };
    tasks.into_iter().map(run).collect()
});

/// One of the runs.
fn run(choice: Option<&u8>) -> &'static (Parts, Vec<u8>) {
    &RUNS[usize::from(*choice.unwrap_or(&0)) % RUNS.len()]
}

/// Reads θ and the optimizer's memory within the memory that [`read_parameters`] and [`resume`] promise.
fn read_within_bounds(parts: &Parts, bytes: &[u8]) {
    let tensors = parts.source.tensors();
    let told = bytes.first_chunk().map_or(0, |&length| u64::from_le_bytes(length));
    let header = usize::try_from(told).unwrap_or(usize::MAX).min(bytes.len());
    within(bytes, 1, 96 * header + 16 * parts.source.parameters() + (64 << 10), || {
        let Ok(contents) = Contents::of(bytes, Path::new("x")) else { return };
        let _theta = parameters(&tensors, &contents);
        let _memory = contents.state(OPTIMIZER);
    });
}

#[test]
fn any_bytes_are_parameters_or_refused() {
    bolero::check!(name = "any").with_iterations(20_000).for_each(|input: &[u8]| {
        let (parts, valid) = run(input.first());
        read_within_bounds(parts, input);
        let _another_run = restore(parts, input, Path::new("x"));
        let damaged = damage(valid, input.get(1..).unwrap_or_default());
        read_within_bounds(parts, &damaged);
        if let Ok(trainer) = restore(parts, &damaged, Path::new("x")) {
            // The header has room for blanks of several kinds.
            assert!(to_bytes(&trainer) == *valid, "loaded wrong");
        }
    });
}

#[test]
fn what_takes_most_memory_stays_within_the_bounds() {
    let file = |header: &str| [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    let size = (1 << 17) + 1;
    let tensor = "{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}";
    let several =
        |of: &dyn Fn(usize) -> String, count: usize| (0..count).map(of).collect::<Vec<_>>().join(",");
    let entry = |i: usize| format!("\"{i:x}\":\"\"");
    for header in [
        "[".repeat(size),
        "{\"a\":".repeat(size),
        format!("{{\"a\":{{\"dtype\":\"U8\",\"shape\":[{}0],\"data_offsets\":[0,0]}}}}", "0,".repeat(size)),
        format!("{{{}}}", several(&|i| format!("\"{i:x}\":{tensor}"), 4097)),
        format!("{{{}}}", several(&|i| format!("\"{i:x}\":0"), 16385)),
        format!("{{{}}}", several(&|i| format!("\"{i:x}\":[]"), 16385)),
        format!("{{{}}}", several(&|i| format!("\"{i:x}\":{{\"a\":0}}"), 16385)),
        format!("{{\"__metadata__\":{{{}}}}}", several(&entry, 14337)),
        format!("{{\"a\":{{\"a\":[{}0]}}}}", "[0],".repeat(size)),
        format!("{{\"a\":[{}0]}}", ("[".repeat(100) + "0" + &"]".repeat(100) + ",").repeat(1025)),
        format!("{{\"{}\":{tensor}}}", "x".repeat(size)),
        format!("{{\"a\":{{\"dtype\":\"{}\"}}}}", "x".repeat(size)),
    ] {
        read_within_bounds(&RUNS[0].0, &file(&header));
    }
}

fn tensors(bytes: &[u8]) -> Vec<Stored> {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let mut tensors: Vec<Stored> = file
        .iter()
        .map(|(name, view)| (name.to_owned(), view.dtype(), view.shape().to_vec(), view.data().to_vec()))
        .collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    tensors
}

/// A well-formed checkpoint whose tensors are not what the program would have written; four bytes of `recipe` say each
/// change.
fn forge(valid: &[u8], recipe: &[u8]) -> Vec<u8> {
    let mut tensors = tensors(valid);
    for &[kind, which, a, b] in recipe.as_chunks::<4>().0.iter().take(6) {
        let (which, other) = (usize::from(which) % tensors.len(), usize::from(a) % tensors.len());
        match kind % 6 {
            0 if tensors.len() > 1 => drop(tensors.remove(which)),
            1 => {
                let length = usize::from(a);
                let width = if tensors[which].1 == Dtype::U8 { 1 } else { 8 };
                tensors[which].3.resize(width * length, b);
                tensors[which].2 = vec![length];
            }
            2 => {
                let (_, kind, shape, bytes) = tensors[other].clone();
                (tensors[which].1, tensors[which].2, tensors[which].3) = (kind, shape, bytes);
            }
            3 if tensors[which].1 != Dtype::U8 => {
                tensors[which].1 = if b % 2 == 0 { Dtype::U64 } else { Dtype::F64 };
            }
            4 => tensors[which].2.insert(0, 1),
            _ => {
                let (words, _) = tensors[which].3.as_chunks_mut::<8>();
                let length = words.len().max(1);
                if let Some(found) = words.get_mut(usize::from(a) % length) {
                    *found = word(b);
                }
            }
        }
    }
    serialize(&tensors)
}

#[test]
fn a_file_that_was_streamed_is_the_one_that_safetensors_writes() {
    for (_, bytes) in RUNS.iter() {
        let file = SafeTensors::deserialize(bytes).unwrap();
        let (_, header) = SafeTensors::read_metadata(bytes).unwrap();
        let written = safetensors::serialize(file.tensors(), header.metadata().clone()).unwrap();
        assert!(written == *bytes);
    }
}

#[test]
fn every_optimizer_streams_the_bytes_that_it_saves() {
    for entry in Registry::standard().optimizers() {
        let mut trainer = task(entry.name, 6).trainer(None).unwrap();
        trainer.run(&mut ()).unwrap();
        let mut streamed = Vec::new();
        trainer.optimizer().save_to(&mut streamed).unwrap();
        assert!(streamed == trainer.optimizer().save().as_bytes(), "{}", entry.name);
    }
}

#[test]
fn a_disk_that_is_full_is_named_as_the_reason() {
    /// Takes so many bytes and no more.
    struct Full(usize);
    impl io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl io::Seek for Full {
        fn seek(&mut self, _: io::SeekFrom) -> io::Result<u64> {
            Ok(0)
        }
    }
    let mut trainer = task("adam", 6).trainer(None).unwrap();
    trainer.run(&mut ()).unwrap();
    let tensors = trainer.parts.source.tensors();
    for room in 0..to_bytes(&trainer).len() {
        let error = file::write(entries(&trainer, &tensors).unwrap(), None, &mut Full(room)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "room for {room} bytes");
    }
}

#[test]
fn a_forged_checkpoint_is_refused_or_goes_on() {
    bolero::check!(name = "forged").with_iterations(20_000).for_each(|input: &[u8]| {
        let (parts, valid) = run(input.first());
        let bytes = forge(valid, input.get(1..).unwrap_or_default());
        read_within_bounds(parts, &bytes);
        if let Ok(mut trainer) = restore(parts, &bytes, Path::new("x")) {
            for _ in 0..6 {
                if trainer.step_once().is_err() {
                    break;
                }
            }
        }
    });
}

#[test]
fn a_thousand_damaged_checkpoints_give_way_to_the_one_before() {
    let folder = folder("thousand");
    let path = folder.join("checkpoint.safetensors");
    let tasks = [20, 40].map(|steps| task("adam", steps));
    let mut states = Vec::new();
    for task in &tasks {
        let mut trainer = task.trainer(None).unwrap();
        trainer.run(&mut ()).unwrap();
        write_checkpoint(&trainer, &path).unwrap();
        states.push(fs::read(&path).unwrap());
    }
    let parts = &tasks[1].parts();
    assert!(to_bytes(&resume(parts, &path).unwrap()) == states[1], "undamaged");
    let bytes = fs::read(&path).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for i in 0..1000 {
        let at = rng.random_range(0..bytes.len());
        let mut damaged = bytes.clone();
        if i % 4 == 0 {
            damaged.truncate(at);
        } else {
            damaged[at] ^= 1 << (i % 8);
        }
        fs::write(&path, &damaged).unwrap();
        let trainer = resume(parts, &path).unwrap();
        assert!(to_bytes(&trainer) == states[0], "case {i}, byte {at}: step {}", trainer.steps());
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_type_is_part_of_the_checksum() {
    let (parts, valid) = run(Some(&0));
    let header = String::from_utf8_lossy(&valid[8..]).into_owned();
    // As long as F64, and as many bytes a number.
    let at = 8 + header.find("F64").unwrap();
    for dtype in [b"I64", b"U64"] {
        let mut damaged = valid.clone();
        damaged[at..at + 3].copy_from_slice(dtype);
        assert!(SafeTensors::deserialize(&damaged).is_ok(), "a file like any other");
        let error = Contents::of(&damaged, Path::new("x")).err().expect("refused");
        assert!(error.to_string().contains("checksum"), "{error}");
        assert!(restore(parts, &damaged, Path::new("x")).is_err());
    }
}
