//! Self-contained pages.

use halfinverse::task::Task;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::folder::{BEST, Folder, Summary};

/// A picture with its file's name and its caption.
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) caption: String,
    pub(super) svg: String,
}

const STYLE: &str = "body{font-family:sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}\
th{text-align:left;padding-right:2em;font-weight:normal;color:#666}figure{margin:2em 0}\
.study td,.study th{padding:.2em 1em .2em 0}figcaption{font-weight:bold;margin-bottom:.5em}svg{max-width:100%;height:auto}pre{background:#f5f5f5;padding:1em;overflow:auto}";

/// A page of a run: how it ended, its tables, its pictures and why one is missing, its settings.
pub(super) fn of_run(
    task: &Task,
    folder: &Folder,
    figures: &[Figure],
    tables: Option<&Markup>,
    missing: Option<&str>,
) -> String {
    let settings = task.settings();
    let title =
        format!("{} with {}, seed {}", settings.task, settings.optimizer.name, settings.training.seed);
    let body = html! {
        @if let Some(summary) = folder.summary() { (ending(&summary)) }
        @if let Some(tables) = tables { (tables) }
        @for figure in figures { (shown(figure)) }
        @if let Some(missing) = missing { p { (missing) } }
        (settings_of(task))
        (drawn_from(folder.path()))
    };
    document(&title, &body)
}

/// How a run ended.
fn ending(summary: &Summary) -> Markup {
    let number =
        |value: Option<f64>| value.map_or_else(|| "not finite".to_owned(), |value| format!("{value:.3e}"));
    let best = match summary.better_before() {
        Some((loss, step)) => {
            format!("{loss:.3e} at step {step}, whose parameters are in {BEST}; drawn is the end")
        }
        None => number(summary.best_test_loss),
    };
    let rows = [
        ("stopped by", summary.stop_reason.clone()),
        ("steps", summary.steps.to_string()),
        ("epochs", format!("{:.1}", summary.epochs)),
        ("training time", format!("{:.2} s", summary.wall_s)),
        ("per step", summary.ms_per_step.map_or_else(String::new, |ms| format!("{ms:.2} ms"))),
        ("train loss", number(summary.train_loss)),
        ("test loss", number(summary.test_loss)),
        ("best test loss", best),
        ("solver", summary.solver.clone().unwrap_or_else(|| "none".to_owned())),
        (
            "peak memory",
            summary.peak_rss_bytes.map_or_else(String::new, |bytes| format!("{} MiB", bytes >> 20)),
        ),
    ];
    html! {
        table {
            @for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
                tr { th { (name) } td { (value) } }
            }
            @for notice in &summary.notices { tr { th { "notice" } td { (notice) } } }
        }
    }
}

/// A picture with its caption.
pub(super) fn shown(figure: &Figure) -> Markup {
    html! { figure { figcaption { (figure.caption) } (PreEscaped(&figure.svg)) } }
}

/// All settings of a task.
pub(super) fn settings_of(task: &Task) -> Markup {
    html! { h2 { "Settings" } pre { (task.settings().to_toml()) } }
}

/// What drew a page, and from what.
pub(super) fn drawn_from(path: &std::path::Path) -> Markup {
    html! { p { "Drawn by hig " (env!("CARGO_PKG_VERSION")) " from " (path.display()) "." } }
}

/// A page that needs nothing but itself.
pub(super) fn document(title: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; title { (title) } style { (PreEscaped(STYLE)) } }
            body { h1 { (title) } (body) }
        }
    };
    page.into_string()
}
