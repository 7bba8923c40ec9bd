//! How fast a data file is read: `cargo run --release -p halfinverse --example read -- [ROWS COLUMNS]`.
//!
//! Writes numbers between −1 and 1 into a text file in the folder for temporary files, and reads it as `hig fit` does:
//! the checksum, the numbers, a random order of the rows, standardisation. One thread. Memory is told on Linux.

use std::io::{BufWriter, Write};
use std::time::Instant;

use halfinverse::rand::{RngExt, SeedableRng};
use halfinverse::task::Registry;
use toml::Value;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let given: Vec<usize> = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let [rows, columns] = given.try_into().unwrap_or([1_000_000, 20]);
    let path = std::env::temp_dir().join(format!("halfinverse-read-{rows}-{columns}.csv"));
    write(&path, rows, columns)?;
    let bytes = std::fs::metadata(&path)?.len();
    let registry = Registry::standard();
    let mut settings = registry.settings("fit", "hig-auto")?;
    settings.data.settings.insert("path".to_owned(), Value::String(path.display().to_string()));
    let (before, begun) = (peak(), Instant::now());
    registry.complete(&mut settings)?;
    let seconds = begun.elapsed().as_secs_f64();
    let arrays = (8 * rows * columns) as f64;
    println!(
        "{rows} rows, {columns} columns, {:.1} MB: {seconds:.2} s, {:.0} MB/s",
        bytes as f64 / 1e6,
        bytes as f64 / 1e6 / seconds
    );
    if let (Some(before), Some(after)) = (before, peak()) {
        println!(
            "memory: {:.1} MB more at its peak, {:.2} times the arrays",
            (after - before) / 1e6,
            (after - before) / arrays
        );
    }
    std::fs::remove_file(path)?;
    Ok(())
}

fn write(path: &std::path::Path, rows: usize, columns: usize) -> std::io::Result<()> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let mut file = BufWriter::new(std::fs::File::create(path)?);
    let names: Vec<String> = (1..=columns).map(|column| format!("x{column}")).collect();
    writeln!(file, "{}", names.join(","))?;
    for _ in 0..rows {
        for column in 0..columns {
            let end = if column + 1 < columns { ',' } else { '\n' };
            write!(file, "{:.9}{end}", 2.0 * rng.random::<f64>() - 1.0)?;
        }
    }
    file.flush()
}

/// The most memory that the process has had, in bytes.
fn peak() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? * 1024.0)
}
