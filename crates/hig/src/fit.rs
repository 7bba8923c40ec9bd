//! What runs on data files say besides: which columns, and how far predictions are off.

use halfinverse::faer::Mat;
use halfinverse::task::data::Column;
use halfinverse::task::{Errors, Fitted, Task};
use halfinverse::training::read_parameters;

use crate::failure::Failure;
use crate::folder::{BEST, CHECKPOINT, Folder};
use crate::voice::program;

/// Columns that a line has room for.
const SHOWN: usize = 8;
/// Samples that are evaluated together, as in training.
const AT_A_TIME: usize = 256;

/// What a run is fitted to; nothing where its data are not of a file.
pub(crate) fn about(task: &Task) -> Option<String> {
    let file = task.file()?;
    let dropped = match file.dropped {
        0 => String::new(),
        count => format!("; {count} rows with missing values are left out"),
    };
    let classes = match file.classes.len() {
        0 => String::new(),
        count if file.labels() => format!(", {count} classes"),
        _ => ", probabilities".to_owned(),
    };
    let weights = file.weights.as_ref().map_or_else(String::new, |name| format!("; weights: {name}"));
    Some(format!(
        "{} rows to train on, {} to test on{dropped}; inputs: {}; targets: {}{classes}{weights}",
        file.train.len(),
        file.test.len(),
        names(&file.inputs),
        names(&file.targets)
    ))
}

fn names(columns: &[Column]) -> String {
    let shown: Vec<&str> = columns.iter().take(SHOWN).map(|column| column.name.as_str()).collect();
    let more = if columns.len() > SHOWN { format!(", … ({})", columns.len()) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// The fitted network that predictions will be of: the parameters with the lowest test loss, where there are some.
pub(crate) fn fitted(task: &Task, folder: &Folder) -> Result<Fitted, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(error.to_string());
    let best = folder.file(BEST);
    if best.is_file() {
        return Fitted::read(task.registry(), &best, None).map_err(|error| failed(&error));
    }
    let theta = read_parameters(&task.model().network().tensors(), &folder.file(CHECKPOINT))
        .map_err(|error| failed(&error))?;
    let fitted = Fitted::of_task(task, theta).ok_or_else(|| failed(&"the run's data are not of a file"))?;
    fitted.map_err(|error| failed(&error))
}

/// Outcomes of all test samples (n × m), and what is known of their errors.
pub(crate) fn evaluate<'a>(task: &Task, fitted: &'a Fitted) -> Result<(Mat<f64>, Errors<'a>), Failure> {
    let (test, mut errors) = (task.test(), Errors::new(fitted));
    let lines: Vec<u64> =
        task.file().into_iter().flat_map(|file| &file.lines).map(|&line| u64::from(line)).collect();
    let mut all = Mat::zeros(test.len(), test.target.ncols());
    for start in (0..test.len()).step_by(AT_A_TIME) {
        let count = AT_A_TIME.min(test.len() - start);
        let outcome = fitted
            .outcome(test.input.as_ref().subrows(start, count))
            .map_err(|error| Failure::new(error.to_string()))?;
        errors.add(
            outcome.as_ref(),
            test.target.as_ref().subrows(start, count),
            &lines[start..start + count],
        );
        all.as_mut().subrows_mut(start, count).copy_from(&outcome);
    }
    Ok((all, errors))
}

/// How far predictions are off, a line for each target.
pub(crate) fn error_lines(errors: &Errors<'_>) -> Vec<String> {
    if let Some(accuracy) = errors.accuracy() {
        return vec![format!(
            "{:.2} % of {} rows have their class right; cross-entropy {:.3e}",
            100.0 * accuracy,
            errors.count(),
            errors.cross_entropy()
        )];
    }
    let line = |of: halfinverse::task::TargetError| {
        let unexplained =
            of.unexplained.map_or_else(|| "not defined".to_owned(), |part| format!("{part:.3e}"));
        format!(
            "{}: RMSE {:.3e}, 1 − R² {unexplained}, largest error {:.3e} at line {}",
            of.name, of.rmse, of.largest, of.line
        )
    };
    errors.targets().into_iter().map(line).collect()
}

/// What there is to say at the end of a run on a data file: errors on the test rows, in the data's units, and how to
/// predict.
pub(crate) fn closing_lines(task: &Task, folder: &Folder) -> Result<Vec<String>, Failure> {
    if task.file().is_none() {
        return Ok(Vec::new());
    }
    let fitted = fitted(task, folder)?;
    let (_, errors) = evaluate(task, &fitted)?;
    let mut lines: Vec<String> =
        error_lines(&errors).into_iter().map(|line| format!("test rows, {line}")).collect();
    lines.push(format!("predict with: {} predict {} DATA", program(), folder.path().display()));
    Ok(lines)
}
