//! `report.html` and its pictures, drawn from a run's folder alone.

mod chart;
mod dipole;
mod function;
mod oscillators;
mod poisson;
pub(crate) mod spectrum;
pub(crate) mod study;

use std::process::ExitCode;

use chart::{Axis, Chart, Line};
use halfinverse::Problem;
use halfinverse::task::{Simulation, Task};
use halfinverse::training::read_parameters;

use crate::arguments::ReportArguments;
use crate::failure::Failure;
use crate::folder::{CHECKPOINT, CONFIG, Folder, Metrics, REPORT, Spectrum};
use crate::settings;
use crate::voice::put;

/// `hig report DIR…`
pub(crate) fn run(arguments: &ReportArguments) -> Result<ExitCode, Failure> {
    for path in &arguments.folders {
        let folder = Folder::open(path)?;
        draw(&folder, &settings::from_file(&folder.file(CONFIG), None)?)?;
        put(folder.file(REPORT).display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Draws all pictures of a run and puts them into one page.
pub(crate) fn draw(folder: &Folder, task: &Task) -> Result<(), Failure> {
    let metrics = folder.metrics()?;
    let spectrum = folder.spectrum()?;
    let failed = |error: &dyn std::fmt::Display| Failure::new(format!("cannot draw the report: {error}"));
    let mut figures = vec![
        ("loss_time.svg", "Loss over training time (evaluation excluded)", losses(&metrics, true)),
        ("loss_steps.svg", "Loss over steps", losses(&metrics, false)),
    ];
    if !spectrum.start.is_empty() {
        figures.push(("spectrum.svg", "Singular values of J, first training samples", values(&spectrum)));
    }
    if metrics.iter().any(|row| row.saturated.is_some()) {
        figures.push(("saturation.svg", "Hidden units that hardly react", saturation(&metrics)));
    }
    if metrics.iter().any(|row| row.way.is_some()) {
        figures.push((
            "choices.svg",
            "What was chosen at the last step before each evaluation",
            choices(&metrics),
        ));
    }
    let mut pictures = Vec::new();
    for (name, title, chart) in figures {
        pictures.push((name, title, chart.svg().map_err(|error| failed(&error))?));
    }
    let (title, svg) = physics(task, folder).map_err(|error| failed(&error))?;
    pictures.push(("physics.svg", title, svg));
    for (name, _, svg) in &pictures {
        folder.write(name, svg)?;
    }
    folder.write(REPORT, &page(task, folder, &pictures))
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
    let way = |row: &Metrics| row.way.as_ref().map(|way| if way == "kron" { 2.0 } else { 1.0 });
    let rejected = |row: &Metrics| Some(row.rejected as f64);
    Chart {
        x: Axis::linear("training time [s]"),
        y: Axis::logarithmic("value"),
        lines: vec![
            Line::new("way: 1 krylov, 2 kron", points(&way), 6),
            Line::new("step length s or η", points(&|row| row.learning_rate), 0),
            Line::new("exponent κ", points(&|row| row.kappa), 2),
            Line::new("damping λ", points(&|row| row.lambda), 3),
            Line::new("Krylov vectors k", points(&|row| row.krylov_steps.map(|k| k as f64)), 1),
            Line::new("rejected since the last row", points(&rejected), 4),
        ],
        bands: Vec::new(),
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
fn physics(task: &Task, folder: &Folder) -> Result<(&'static str, String), Box<dyn std::error::Error>> {
    let theta = read_parameters(task.model().network(), &folder.file(CHECKPOINT))?;
    let simulated = |samples: usize| {
        let mut problem = Problem::new(task.model(), task.test().first(samples), 1)?;
        problem.loss(&theta)?;
        Ok::<_, Box<dyn std::error::Error>>(problem)
    };
    Ok(match task.simulation() {
        Simulation::Oscillators(simulator) => (
            "Six test samples: positions, velocities and control; dots mark the target",
            oscillators::svg(simulator, &simulated(oscillators::SAMPLES)?)?,
        ),
        Simulation::Dipole(simulator) => (
            "Three test samples: field u, probability |ψ|² in the box, overlap with the target",
            dipole::svg(simulator, &simulated(dipole::SAMPLES)?)?,
        ),
        Simulation::Poisson(simulator) => (
            "Three test samples: target, the network's field, the field's Laplacian, and what it misses",
            poisson::svg(simulator, &simulated(poisson::SAMPLES)?)?,
        ),
        Simulation::Toy(_) | Simulation::Regression(_) => (
            "Test samples: outcomes and targets, what is missing, and the hidden units' activations",
            function::svg(&simulated(function::SAMPLES)?)?,
        ),
    })
}

fn page(task: &Task, folder: &Folder, pictures: &[(&str, &str, String)]) -> String {
    let mut body = String::new();
    if let Some(summary) = folder.summary() {
        let number = |value: Option<f64>| {
            value.map_or_else(|| "not finite".to_owned(), |value| format!("{value:.3e}"))
        };
        let rows = [
            ("stopped by", summary.stop_reason.clone()),
            ("steps", summary.steps.to_string()),
            ("epochs", format!("{:.1}", summary.epochs)),
            ("training time", format!("{:.2} s", summary.wall_s)),
            ("per step", summary.ms_per_step.map_or_else(String::new, |ms| format!("{ms:.2} ms"))),
            ("train loss", number(summary.train_loss)),
            ("test loss", number(summary.test_loss)),
            ("best test loss", number(summary.best_test_loss)),
            ("solver", summary.solver.clone().unwrap_or_else(|| "none".to_owned())),
            (
                "peak memory",
                summary.peak_rss_bytes.map_or_else(String::new, |bytes| format!("{} MiB", bytes >> 20)),
            ),
        ];
        body += "<table>";
        for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
            body += &format!("<tr><th>{name}</th><td>{}</td></tr>", escape(value));
        }
        body += "</table>\n";
    }
    for (_, title, svg) in pictures {
        body += &figure(title, svg);
    }
    let settings = task.settings();
    let heading =
        format!("{} with {}, seed {}", settings.task, settings.optimizer.name(), settings.training.seed);
    body += &format!(
        "<h2>Settings</h2>\n<pre>{}</pre>\n{}",
        escape(&settings::to_toml(settings)),
        drawn_from(folder.path())
    );
    document(&heading, &body)
}

/// A self-contained page.
fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n<style>{STYLE}</style></head>\n\
         <body>\n<h1>{title}</h1>\n{body}</body></html>\n"
    )
}

/// A picture with its caption.
fn figure(caption: &str, svg: &str) -> String {
    format!("<figure><figcaption>{caption}</figcaption>\n{svg}</figure>\n")
}

/// What drew a page, and from what.
fn drawn_from(path: &std::path::Path) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!("<p>Drawn by hig {version} from {}.</p>\n", escape(&path.display().to_string()))
}

const STYLE: &str = "body{font-family:sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}\
th{text-align:left;padding-right:2em;font-weight:normal;color:#666}figure{margin:2em 0}\
.study td,.study th{padding:.2em 1em .2em 0}figcaption{font-weight:bold;margin-bottom:.5em}svg{max-width:100%;height:auto}pre{background:#f5f5f5;padding:1em;overflow:auto}";

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
