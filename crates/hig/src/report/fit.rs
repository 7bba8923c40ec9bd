//! The part of a report that runs on data files have: how far predictions are off on the test rows, where, and in which
//! rows most.

use halfinverse::faer::{Mat, MatRef};
use halfinverse::objective::probabilities;
use halfinverse::task::{Errors, Fitted, Task};
use maud::{Markup, html};

use super::page::Figure;
use crate::failure::Failure;
use crate::fit::{evaluate, fitted};
use crate::folder::{BEST, Folder};
use crate::picture::residuals::{Points, grid};

/// Points of a picture: more than that only blacken it.
const POINTS: usize = 2000;
/// Inputs that have a panel.
const INPUTS: usize = 12;
/// Classes whose confusions are shown.
const CLASSES: usize = 20;

/// Pictures and tables of a run on a data file; `errors.csv` too.
pub(super) fn part(task: &Task, folder: &Folder) -> Result<(Vec<Figure>, Markup), Failure> {
    let fitted = fitted(task, folder)?;
    let (outcome, errors) = evaluate(task, &fitted)?;
    folder.write("errors.csv", &csv(&errors))?;
    let figures = figures(task, &fitted, &outcome)
        .map_err(|error| Failure::new(format!("cannot draw the report: {error}")))?;
    let tables = html! {
        h2 { "Test rows" }
        p { "Of the parameters with the lowest test loss (" (BEST) "), in the units of the data." }
        @if fitted.classes().is_empty() { (of_targets(&errors)) } @else { (of_classes(task, &fitted, &outcome, &errors)) }
        (worst(&fitted, &errors))
    };
    Ok((figures, tables))
}

fn csv(errors: &Errors<'_>) -> String {
    if let Some(accuracy) = errors.accuracy() {
        return format!(
            "rows,accuracy,cross_entropy\n{},{accuracy:?},{:?}\n",
            errors.count(),
            errors.cross_entropy()
        );
    }
    let mut text = "target,rmse,r2,largest,line\n".to_owned();
    for of in errors.targets() {
        let r2 = of.r2.map_or_else(String::new, |r2| format!("{r2:?}"));
        let name = of.name.replace('"', "\"\"");
        text.push_str(&format!("\"{name}\",{:?},{r2},{:?},{}\n", of.rmse, of.largest, of.line));
    }
    text
}

fn of_targets(errors: &Errors<'_>) -> Markup {
    html! {
        table class="study" {
            tr { th { "target" } th { "RMSE" } th { "1 − R²" } th { "largest error" } th { "at line" } }
            @for of in errors.targets() {
                tr {
                    td { (of.name) }
                    td { (format!("{:.4e}", of.rmse)) }
                    td { (of.unexplained.map_or_else(|| "not defined".to_owned(), |part| format!("{part:.4e}"))) }
                    td { (format!("{:.4e}", of.largest)) }
                    td { (of.line) }
                }
            }
        }
    }
}

/// Accuracy, and how often each class was taken for which.
fn of_classes(task: &Task, fitted: &Fitted, outcome: &Mat<f64>, errors: &Errors<'_>) -> Markup {
    let (classes, target) = (fitted.classes(), &task.test().target);
    let likeliest = |of: &Mat<f64>, s: usize| {
        (0..of.ncols()).fold(0, |best, c| if of[(s, c)] > of[(s, best)] { c } else { best })
    };
    let mut counts = vec![vec![0_u64; classes.len()]; classes.len()];
    for s in 0..outcome.nrows() {
        counts[likeliest(target, s)][likeliest(outcome, s)] += 1;
    }
    html! {
        p {
            (format!("{:.2} %", 100.0 * errors.accuracy().unwrap_or(0.0))) " of " (errors.count())
            " rows have their class right; cross-entropy " (format!("{:.4e}", errors.cross_entropy())) "."
        }
        @if classes.len() <= CLASSES {
            table class="study" {
                tr { th { "is \\ predicted" } @for class in classes { th { (class) } } }
                @for (class, row) in classes.iter().zip(&counts) {
                    tr { th { (class) } @for count in row { td { (count) } } }
                }
            }
        }
    }
}

/// The rows that are furthest off, by their lines in the file.
fn worst(fitted: &Fitted, errors: &Errors<'_>) -> Markup {
    let classes = fitted.classes();
    let likeliest = |of: &[f64]| (0..of.len()).fold(0, |best, c| if of[c] > of[best] { c } else { best });
    let shown = |values: &[f64]| {
        if classes.is_empty() {
            return values.iter().map(|value| format!("{value:.6}")).collect::<Vec<_>>().join(", ");
        }
        let class = likeliest(values);
        format!("{} ({:.3})", classes[class], values[class])
    };
    let off = if classes.is_empty() { "squared error, standardised" } else { "−ln p of its class" };
    html! {
        h3 { "Worst rows" }
        table class="study" {
            tr { th { "line" } th { "target" } th { "prediction" } th { (off) } }
            @for row in errors.worst() {
                tr {
                    td { (row.line) }
                    td { (shown(&row.target)) }
                    td { (shown(&row.prediction)) }
                    td { (format!("{:.3e}", row.off)) }
                }
            }
        }
    }
}

type Drawn = Result<Vec<Figure>, Box<dyn std::error::Error>>;

/// Predictions against targets, and residuals against predictions and inputs.
fn figures(task: &Task, fitted: &Fitted, outcome: &Mat<f64>) -> Drawn {
    let test = task.test();
    let step = test.len().div_ceil(POINTS);
    let rows: Vec<usize> = (0..test.len()).step_by(step).collect();
    let thinned = if step > 1 { format!("; every {step}th row") } else { String::new() };
    let input = |j: usize| -> Vec<f64> {
        let mut values: Vec<f64> = rows.iter().map(|&s| test.input[(s, j)]).collect();
        fitted.inputs()[j].restore(&mut values);
        values
    };
    let quantities = if fitted.classes().is_empty() {
        residuals(test.target.as_ref(), fitted, outcome, &rows)
    } else {
        surprises(test.target.as_ref(), outcome, &rows)
    };
    let Quantities { ahead, off, off_name, caption } = quantities;
    let mut panels = ahead;
    if fitted.inputs().len() == 1 && fitted.classes().is_empty() {
        let x = input(0);
        let name = &fitted.inputs()[0].name;
        panels.truncate(1);
        panels[0] = Points::curve(name, &x, &panels[0]);
        panels.push(Points::new(name, &off_name, &x, &off));
    }
    let mut figures =
        vec![Figure { name: "predictions.svg", caption: format!("{caption}{thinned}"), svg: grid(&panels)? }];
    let count = fitted.inputs().len();
    if count > 1 || !fitted.classes().is_empty() {
        let panels: Vec<Points> = (0..count.min(INPUTS))
            .map(|j| Points::new(&fitted.inputs()[j].name, &off_name, &input(j), &off))
            .collect();
        let first = if count > INPUTS { format!(", the first {INPUTS} of {count}") } else { String::new() };
        figures.push(Figure {
            name: "residuals.svg",
            caption: format!("{off_name} of test rows against each input{first}{thinned}"),
            svg: grid(&panels)?,
        });
    }
    Ok(figures)
}

/// What is drawn of the rows.
struct Quantities {
    /// Panels that have no input on an axis.
    ahead: Vec<Points>,
    /// What is drawn against inputs, for each target.
    off: Vec<Vec<f64>>,
    off_name: String,
    caption: &'static str,
}

fn residuals(target: MatRef<'_, f64>, fitted: &Fitted, outcome: &Mat<f64>, rows: &[usize]) -> Quantities {
    let columns = fitted.targets();
    let one = columns.len() == 1;
    let (mut of_target, mut of_outcome, mut off) = (Vec::new(), Vec::new(), Vec::new());
    for (c, column) in columns.iter().enumerate() {
        let mut t: Vec<f64> = rows.iter().map(|&s| target[(s, c)]).collect();
        let mut y: Vec<f64> = rows.iter().map(|&s| outcome[(s, c)]).collect();
        let unit = if one { column.deviation } else { 1.0 };
        off.push(y.iter().zip(&t).map(|(y, t)| (y - t) * unit).collect());
        if one {
            column.restore(&mut t);
            column.restore(&mut y);
        }
        of_target.push(t);
        of_outcome.push(y);
    }
    let off_name = if one { "residual (prediction − target)" } else { "residuals, standardised" }.to_owned();
    let name = if one { columns[0].name.clone() } else { "targets, standardised".to_owned() };
    let predicted = format!("{name}, predicted");
    Quantities {
        ahead: vec![
            Points::pairs(&name, &predicted, &of_target, &of_outcome).with_diagonal(),
            Points::pairs(&predicted, &off_name, &of_outcome, &off),
        ],
        off,
        off_name,
        caption: "Test rows: predictions (colours) and targets, and what is missing",
    }
}

fn surprises(target: MatRef<'_, f64>, outcome: &Mat<f64>, rows: &[usize]) -> Quantities {
    let p = probabilities(outcome.as_ref());
    let of_class = |&s: &usize| (0..p.ncols()).map(|c| target[(s, c)] * p[(s, c)]).sum::<f64>();
    let off = vec![rows.iter().map(of_class).collect::<Vec<f64>>()];
    let mut sorted = off[0].clone();
    sorted.sort_by(f64::total_cmp);
    let share: Vec<f64> = (0..sorted.len()).map(|i| (i + 1) as f64 / sorted.len() as f64).collect();
    let off_name = "probability of the right class".to_owned();
    Quantities {
        ahead: vec![Points::new(&off_name, "part of rows at or below", &sorted, &[share])],
        off,
        off_name,
        caption: "Test rows: how probable the right class is in the network's eyes",
    }
}
