//! `hig predict MODEL DATA`: what a fitted network says of each row of a data file, a few rows at a time.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use halfinverse::faer::MatRef;
use halfinverse::task::{Errors, Fitted, FittedRows, Registry};
use serde_json::json;

use crate::arguments::PredictArguments;
use crate::failure::Failure;
use crate::fit::error_lines;
use crate::folder::{BEST, CHECKPOINT};
use crate::settings::word;
use crate::voice::{put, say};

pub(crate) fn run(registry: &Registry, arguments: &PredictArguments) -> Result<ExitCode, Failure> {
    let fitted = read(registry, arguments)?;
    let (header, missing) =
        (word("--header", arguments.header.as_deref())?, word("--missing", arguments.missing.as_deref())?);
    let mut rows = FittedRows::open(&fitted, &arguments.data, header, missing)?;
    let mut errors = Errors::new(&fitted);
    let mut sink = Sink::open(arguments.out.as_deref(), &fitted)?;
    let predicted = predict(&fitted, &mut rows, &mut errors, &mut sink);
    let count = match predicted {
        Ok(count) => sink.finish(count, &fitted).map(|()| count),
        Err(failure) => Err(failure),
    };
    let count = count.inspect_err(|_| sink.abandon())?;
    if arguments.json {
        put(json!({
            "rows": count,
            "dropped": rows.dropped(),
            "targets": errors.targets(),
            "accuracy": errors.accuracy(),
            "cross_entropy": errors.accuracy().map(|_| errors.cross_entropy()),
        }));
    }
    if rows.dropped() > 0 {
        say(arguments.quiet, &format!("{} rows with missing values are left out", rows.dropped()));
    }
    if errors.count() > 0 {
        for line in error_lines(&errors) {
            say(arguments.quiet, &line);
        }
    }
    if let Some(out) = &arguments.out {
        say(arguments.quiet, &format!("{count} predictions: {}", out.display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// The network of a run's folder or of a file.
fn read(registry: &Registry, arguments: &PredictArguments) -> Result<Fitted, Failure> {
    let model = &arguments.model;
    let (path, weights) = if model.is_dir() {
        (model.join(BEST), arguments.last.then(|| model.join(CHECKPOINT)))
    } else if arguments.last {
        return Err(Failure::new(format!(
            "--last is for a run's folder, and {} is none; name the folder",
            model.display()
        )));
    } else {
        (model.clone(), None)
    };
    Fitted::read(registry, &path, weights.as_deref())
        .map_err(|error| Failure::new(format!("cannot predict: {error}")))
}

/// Predictions of all rows; tells how many.
fn predict(
    fitted: &Fitted,
    rows: &mut FittedRows<'_>,
    errors: &mut Errors<'_>,
    sink: &mut Sink,
) -> Result<u64, Failure> {
    let mut count = 0;
    while let Some(chunk) = rows.next_chunk()? {
        let outcome =
            fitted.outcome(chunk.input.as_ref()).map_err(|error| Failure::new(error.to_string()))?;
        if let Some(target) = &chunk.target {
            errors.add(outcome.as_ref(), target.as_ref(), &chunk.lines);
        }
        sink.write(fitted.restored(outcome).as_ref(), fitted)?;
        if sink.closed {
            break;
        }
        count += chunk.lines.len() as u64;
    }
    Ok(count)
}

/// Where predictions go.
struct Sink {
    out: Out,
    /// Where the file is to be, and where it is until it is whole.
    places: Option<[PathBuf; 2]>,
    /// Whether the reader of stdout has gone away, which is no error.
    closed: bool,
}

enum Out {
    Csv(Box<csv::Writer<Box<dyn Write>>>),
    Npy(BufWriter<File>),
}

/// Bytes of the header of a `.npy` file.
const HEADER: usize = 128;

impl Sink {
    /// The file, or stdout, by now with a header.
    fn open(path: Option<&Path>, fitted: &Fitted) -> Result<Self, Failure> {
        let Some(path) = path else {
            let out = Self::csv(Box::new(std::io::stdout().lock()), fitted);
            return out.map(|out| Self { out, places: None, closed: false }).map_err(|error| gone(&error));
        };
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if !["csv", "npy"].contains(&extension) {
            return Err(Failure::new(format!("--out {} must end in .csv or .npy", path.display())));
        }
        let beside = path.with_extension(format!("{extension}.new"));
        let unwritable = |error: &dyn std::fmt::Display| {
            Failure::new(format!("cannot write {}: {error}; name another with --out", path.display()))
        };
        if path.is_dir() {
            return Err(unwritable(&"it is a folder"));
        }
        let file = File::create(&beside).map_err(|error| unwritable(&error))?;
        let out = if extension == "csv" {
            Self::csv(Box::new(file), fitted).map_err(|error| unwritable(&error))?
        } else {
            let mut out = BufWriter::new(file);
            out.write_all(&[b' '; HEADER]).map_err(|error| unwritable(&error))?;
            Out::Npy(out)
        };
        Ok(Self { out, places: Some([path.to_owned(), beside]), closed: false })
    }

    fn csv(out: Box<dyn Write>, fitted: &Fitted) -> csv::Result<Out> {
        let mut out = csv::Writer::from_writer(out);
        if fitted.classes().is_empty() {
            out.write_record(fitted.targets().iter().map(|column| &column.name))?;
        } else {
            let each = fitted.classes().iter().map(|class| format!("p({class})"));
            out.write_record(std::iter::once("class".to_owned()).chain(each))?;
        }
        Ok(Out::Csv(Box::new(out)))
    }

    fn write(&mut self, predictions: MatRef<'_, f64>, fitted: &Fitted) -> Result<(), Failure> {
        let written = match &mut self.out {
            Out::Csv(out) => write_csv(out, predictions, fitted.classes()),
            Out::Npy(out) => write_npy(out, predictions),
        };
        self.judge(written)
    }

    /// A failure, unless nobody reads any more.
    fn judge(&mut self, written: csv::Result<()>) -> Result<(), Failure> {
        let Err(error) = written else { return Ok(()) };
        let kind = if let csv::ErrorKind::Io(error) = error.kind() { Some(error.kind()) } else { None };
        self.closed |= self.places.is_none() && kind == Some(std::io::ErrorKind::BrokenPipe);
        if self.closed { Ok(()) } else { Err(self.failed(&error)) }
    }

    /// Puts the file in its place.
    fn finish(&mut self, count: u64, fitted: &Fitted) -> Result<(), Failure> {
        let width = if fitted.classes().is_empty() { fitted.targets().len() } else { fitted.classes().len() };
        let flushed = match &mut self.out {
            Out::Csv(out) => out.flush(),
            Out::Npy(out) => out
                .seek(SeekFrom::Start(0))
                .and_then(|_| out.write_all(&header(count, width)))
                .and_then(|()| out.flush()),
        };
        let renamed = flushed.and_then(|()| match &self.places {
            Some([path, beside]) => std::fs::rename(beside, path),
            None => Ok(()),
        });
        self.judge(renamed.map_err(csv::Error::from))
    }

    /// Removes what was written of a file that will not be whole.
    fn abandon(&self) {
        if let Some([_, beside]) = &self.places {
            let _ = std::fs::remove_file(beside);
        }
    }

    fn failed(&self, error: &csv::Error) -> Failure {
        match &self.places {
            Some([path, _]) => Failure::of_writing(format!("cannot write {}: {error}", path.display())),
            None => gone(error),
        }
    }
}

fn gone(error: &csv::Error) -> Failure {
    Failure::of_writing(format!("cannot write to stdout: {error}"))
}

fn write_csv(
    out: &mut csv::Writer<Box<dyn Write>>,
    predictions: MatRef<'_, f64>,
    classes: &[String],
) -> csv::Result<()> {
    for s in 0..predictions.nrows() {
        let values = || (0..predictions.ncols()).map(|c| predictions[(s, c)]);
        if !classes.is_empty() {
            let likeliest = values()
                .enumerate()
                .fold((0, f64::NEG_INFINITY), |best, (c, p)| if p > best.1 { (c, p) } else { best });
            out.write_field(&classes[likeliest.0])?;
        }
        for value in values() {
            out.write_field(format!("{value:?}"))?;
        }
        out.write_record(None::<&[u8]>)?;
    }
    Ok(())
}

fn write_npy(out: &mut BufWriter<File>, predictions: MatRef<'_, f64>) -> csv::Result<()> {
    for s in 0..predictions.nrows() {
        for c in 0..predictions.ncols() {
            out.write_all(&predictions[(s, c)].to_le_bytes())?;
        }
    }
    Ok(())
}

/// The header of a `.npy` file with n × m numbers, as version 1.0 has it: ten bytes, and a text of 118 padded with
/// blanks.
fn header(count: u64, width: usize) -> Vec<u8> {
    let text = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({count}, {width}), }}");
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend(format!("{text:<117}\n").bytes());
    bytes
}
