//! `report.html` and its pictures, drawn from a run's folder alone.

mod fit;
mod page;
pub(crate) mod spectrum;
pub(crate) mod study;

use std::process::ExitCode;

use halfinverse::optimizer::Way;
use halfinverse::problem::Source;
use halfinverse::task::{Registry, SpectrumBy, SpectrumPlan, Task};
use halfinverse::training::read_parameters;
use halfinverse::{NetworkProblem, Problem};
use page::Figure;

use crate::arguments::ReportArguments;
use crate::chart::{Axis, Chart, Line};
use crate::failure::Failure;
use crate::folder::{CHECKPOINT, CONFIG, Folder, Metrics, REPORT, Spectrum};
use crate::picture::Pictures;
use crate::settings;
use crate::voice::put;

/// `hig report DIR…`
pub(crate) fn run(
    registry: &Registry,
    pictures: &Pictures,
    arguments: &ReportArguments,
) -> Result<ExitCode, Failure> {
    for path in &arguments.folders {
        let folder = Folder::open(path)?;
        let settings = settings::from_file(registry, &folder.file(CONFIG), None)?;
        draw(&folder, &Task::with(settings, registry)?, pictures)?;
        put(folder.file(REPORT).display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Draws all pictures of a run and puts them into one page.
pub(crate) fn draw(folder: &Folder, task: &Task, pictures: &Pictures) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(format!("cannot draw the report: {error}"));
    let mut figures = Vec::new();
    let spectrum = folder.spectrum()?;
    for (name, caption, chart) in charts(&folder.metrics()?, &spectrum) {
        let svg = chart.svg().map_err(|error| failed(&error))?;
        figures.push(Figure { name, caption, svg });
    }
    let tables = if task.file().is_some() {
        let (of_file, tables) = fit::part(task, folder)?;
        figures.extend(of_file);
        Some(tables)
    } else {
        figures.push(physics(task, folder, pictures).map_err(|error| failed(&error))?);
        None
    };
    for figure in &figures {
        folder.write(figure.name, &figure.svg)?;
    }
    let missing = task.forecast().spectrum.err().filter(|_| spectrum.start.is_empty());
    let missing = missing.map(|reason| format!("No singular values: {reason}."));
    folder.write(REPORT, &page::of_run(task, folder, &figures, tables.as_ref(), missing.as_deref()))
}

/// The charts that a run's numbers make, with their files and captions.
fn charts(metrics: &[Metrics], spectrum: &Spectrum) -> Vec<(&'static str, String, Chart)> {
    let mut charts = vec![
        ("loss_time.svg", "Loss over training time (evaluation excluded)".to_owned(), losses(metrics, true)),
        ("loss_steps.svg", "Loss over steps".to_owned(), losses(metrics, false)),
    ];
    if !spectrum.start.is_empty() {
        charts.push(("spectrum.svg", caption(spectrum), values(spectrum)));
    }
    if metrics.iter().any(|row| row.saturated.is_some()) {
        charts.push(("saturation.svg", "Hidden units that hardly react".to_owned(), saturation(metrics)));
    }
    if metrics.iter().any(|row| row.way.is_some()) {
        let caption = "What was chosen at the last step before each evaluation";
        charts.push(("choices.svg", caption.to_owned(), choices(metrics)));
    }
    charts
}

fn losses(metrics: &[Metrics], over_time: bool) -> Chart {
    let x = |row: &Metrics| if over_time { row.wall_s } else { row.step as f64 };
    let test = metrics.iter().map(|row| (x(row), row.test_loss)).collect();
    let train = metrics.iter().filter_map(|row| Some((x(row), row.train_loss?))).collect();
    Chart {
        x: Axis::linear(if over_time { "training time [s]" } else { "steps" }),
        y: Axis::logarithmic("loss"),
        lines: vec![Line::new("train (mini-batches)", train, 1), Line::new("test", test, 0)],
        bands: Vec::new(),
    }
}

fn saturation(metrics: &[Metrics]) -> Chart {
    let points = |of: fn(&Metrics) -> Option<f64>| {
        metrics.iter().filter_map(|row| Some((row.step as f64, of(row)?))).collect()
    };
    Chart {
        x: Axis::linear("steps"),
        y: Axis::linear("share"),
        lines: vec![
            Line::new("saturated (slope below 0.02), of units and samples", points(|row| row.saturated), 1),
            Line::new("saturated on every sample, of units", points(|row| row.dead), 3),
        ],
        bands: Vec::new(),
    }
}

/// Whose turn it was, and the settings of its step.
fn choices(metrics: &[Metrics]) -> Chart {
    let points = |of: &dyn Fn(&Metrics) -> Option<f64>| {
        metrics.iter().filter_map(|row| Some((row.wall_s, of(row)?))).collect()
    };
    let way = |row: &Metrics| {
        row.way.map(|way| match way {
            Way::Krylov => 1.0,
            Way::Kron => 2.0,
            Way::Adam => 3.0,
        })
    };
    let rejected = |row: &Metrics| Some(row.rejected as f64);
    Chart {
        x: Axis::linear("training time [s]"),
        y: Axis::logarithmic("value"),
        lines: vec![
            Line::new("way: 1 krylov, 2 kron, 3 adam", points(&way), 6),
            Line::new("step length", points(&|row| row.step_length), 0),
            Line::new("exponent κ", points(&|row| row.kappa), 2),
            Line::new("damping λ", points(&|row| row.lambda), 3),
            Line::new("Krylov vectors k", points(&|row| row.krylov_steps.map(|k| k as f64)), 1),
            Line::new("rejected since the last row", points(&rejected), 4),
        ],
        bands: Vec::new(),
    }
}

/// Of how many samples the singular values are, and how far down they are known.
fn caption(spectrum: &Spectrum) -> String {
    let Some(SpectrumPlan { samples, by }) = spectrum.of else {
        return "Singular values of J, first training samples".to_owned();
    };
    let of = if samples == 1 {
        "the first training sample".to_owned()
    } else {
        format!("the first {samples} training samples")
    };
    match by {
        SpectrumBy::Svd => format!("Singular values of J over {of}"),
        SpectrumBy::Gram => format!(
            "Singular values of J over {of}, from the eigenvalues of J Jᵀ: those below about 1e-7 of the largest are not resolved and left out"
        ),
    }
}

fn values(spectrum: &Spectrum) -> Chart {
    let points = |values: &[f64]| {
        // What lies below round-off of the largest value is noise, and would stretch the axis over it.
        let least = f64::EPSILON * values.first().copied().unwrap_or(0.0);
        let shown = values.iter().take_while(|&&value| value > least);
        shown.enumerate().map(|(i, &value)| ((i + 1) as f64, value)).collect()
    };
    Chart {
        x: Axis::linear("index"),
        y: Axis::logarithmic("singular value"),
        lines: vec![
            Line::new("start", points(&spectrum.start), 1),
            Line::new("end", points(&spectrum.end), 0),
        ],
        bands: Vec::new(),
    }
}

/// The task's own picture: what the trained network does to a few test samples.
fn physics(task: &Task, folder: &Folder, pictures: &Pictures) -> Result<Figure, Box<dyn std::error::Error>> {
    let theta = read_parameters(&task.model().tensors(), &folder.file(CHECKPOINT))?;
    let picture = pictures.of(task);
    let mut problem = NetworkProblem::new(task.model(), task.test().first(picture.samples()), 1)?;
    problem.loss(&theta)?;
    let svg = picture.svg(task, &problem)?;
    Ok(Figure { name: "physics.svg", caption: picture.caption(), svg })
}
