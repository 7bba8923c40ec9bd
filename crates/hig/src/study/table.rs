//! The table of a study: a line per variant, over its seeds.

use std::fmt::Write as _;

use halfinverse::task::Settings;
use serde::Serialize;

use super::cells::Finished;
use super::plan::{Plan, Variant};
use crate::folder::Metrics;
use crate::statistics::{median, quartiles};

/// What a study found.
pub(super) struct Table {
    /// Losses whose times are reported.
    pub(super) targets: Vec<f64>,
    pub(super) lines: Vec<Line>,
}

/// One row of the table.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    label: String,
    learning_rate: Option<f64>,
    /// Whether the chosen rate is the smallest or largest of its grid.
    at_edge: bool,
    batch: usize,
    runs: usize,
    diverged: usize,
    /// Lower quartile, median, upper quartile of the test loss at the end; infinite where runs diverged.
    pub(super) test_loss: [Option<f64>; 3],
    best_median: Option<f64>,
    /// Median seconds of training to each target, none where fewer than half of the runs got there.
    seconds_to: Vec<Option<f64>>,
    ms_per_step: Option<f64>,
    steps: Option<f64>,
}

impl Table {
    /// Of the variants with the settings that were chosen, and their finished cells.
    pub(super) fn new(plan: &Plan, chosen: &[Settings], results: &[Vec<Finished>]) -> Self {
        let targets = if plan.targets.is_empty() {
            let start = results[0][0].1.first().map_or(1.0, |row| row.test_loss);
            let least = results.iter().map(|runs| finals(runs)[1]).fold(f64::INFINITY, f64::min);
            decades(start, least)
        } else {
            plan.targets.clone()
        };
        let variants = plan.variants.iter().zip(chosen).zip(results);
        let lines = variants.map(|((variant, settings), runs)| Line::new(variant, settings, runs, &targets));
        Self { lines: lines.collect(), targets }
    }

    /// As Markdown.
    pub(super) fn markdown(&self, plan: &Plan) -> String {
        let heads: String = self.targets.iter().map(|target| format!(" s to {target:.0e} |")).collect();
        let mut table = format!(
            "| {} | learning rate | batch | test loss, median [quartiles] |{heads} ms per step | steps | diverged |\n|---|---|---|---|{}---|---|---|\n",
            plan.varied.as_ref().map_or("optimizer", |varied| &varied.key),
            "---|".repeat(self.targets.len()),
        );
        for line in &self.lines {
            let loss =
                |i: usize| line.test_loss[i].map_or_else(|| "∞".to_owned(), |loss| format!("{loss:.2e}"));
            let rate = line.learning_rate.map_or_else(|| "–".to_owned(), |rate| rate.to_string());
            let edge = if line.at_edge { " (edge)" } else { "" };
            let reach: String = line
                .seconds_to
                .iter()
                .map(|s| s.map_or_else(|| " – |".to_owned(), |s| format!(" {} |", short(s))))
                .collect();
            let _ = writeln!(
                table,
                "| {} | {rate}{edge} | {} | {} [{}, {}] |{reach} {} | {} | {} of {} |",
                line.label,
                line.batch,
                loss(1),
                loss(0),
                loss(2),
                line.ms_per_step.map_or_else(|| "–".to_owned(), short),
                line.steps.map_or_else(|| "–".to_owned(), |steps| format!("{steps:.0}")),
                line.diverged,
                line.runs,
            );
        }
        table
    }
}

impl Line {
    fn new(variant: &Variant, settings: &Settings, runs: &[Finished], targets: &[f64]) -> Self {
        let rate = settings.optimizer.learning_rate();
        let reach = |target: &f64| {
            let reached = |metrics: &Vec<Metrics>| {
                let row = metrics.iter().find(|row| row.test_loss <= *target);
                row.map_or(f64::INFINITY, |row| row.wall_s)
            };
            median(runs.iter().map(|(_, metrics)| reached(metrics)).collect())
        };
        let ends = [variant.grid.first(), variant.grid.last()];
        let best = |(summary, _): &Finished| summary.best_test_loss.unwrap_or(f64::INFINITY);
        Self {
            label: variant.label.clone(),
            learning_rate: rate,
            at_edge: variant.grid.len() > 1 && ends.into_iter().any(|end| end.copied() == rate),
            batch: settings.training.batch,
            runs: runs.len(),
            diverged: runs.iter().filter(|(summary, _)| summary.diverged()).count(),
            test_loss: finals(runs).map(|loss| Some(loss).filter(|loss| loss.is_finite())),
            best_median: median(runs.iter().map(best).collect()),
            seconds_to: targets.iter().map(reach).collect(),
            ms_per_step: median(runs.iter().filter_map(|(summary, _)| summary.ms_per_step).collect()),
            steps: median(runs.iter().map(|(summary, _)| summary.steps as f64).collect()),
        }
    }
}

/// Quartiles of the test loss at the end.
fn finals(runs: &[Finished]) -> [f64; 3] {
    quartiles(runs.iter().map(|(summary, _)| summary.final_loss()).collect())
}

/// Up to four powers of ten between the loss at the start and the least that was reached.
fn decades(start: f64, least: f64) -> Vec<f64> {
    let mut targets = Vec::new();
    if !(start.is_finite() && least > 0.0 && least < start) {
        return targets;
    }
    let mut power = start.log10().ceil() - 1.0;
    while 10f64.powf(power) >= least {
        targets.push(10f64.powf(power));
        power -= 1.0;
    }
    targets.split_off(targets.len().saturating_sub(4))
}

fn short(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 1.0 {
        format!("{value:.1}")
    } else if value >= 0.01 {
        format!("{value:.2}")
    } else {
        format!("{value:.0e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_the_last_decades_above_the_least_loss() {
        assert_eq!(decades(0.8, 0.003).len(), 2);
        assert!(decades(0.5, f64::INFINITY).is_empty());
        assert_eq!(decades(250.0, 1e-5).len(), 4);
    }
}
