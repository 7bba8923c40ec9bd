//! What a trained network does to a few test samples, drawn for the reports.

mod dipole;
mod equations;
mod function;
mod oscillators;
mod outcomes;
mod poisson;
pub(crate) mod residuals;

use std::error::Error;
use std::sync::Arc;

use halfinverse::NetworkProblem;
use halfinverse::task::Task;
use halfinverse::task::data::Column;

/// A picture of what simulators of one kind do.
pub trait Picture: Send + Sync {
    /// Test samples that are drawn.
    fn samples(&self) -> usize {
        outcomes::SAMPLES
    }

    /// What is seen, in a sentence.
    fn caption(&self) -> String {
        outcomes::CAPTION.to_owned()
    }

    /// The picture as an SVG document, of a problem that was just evaluated on the first test samples. By default
    /// outcomes against targets.
    ///
    /// # Errors
    /// When it cannot be drawn.
    fn svg(&self, task: &Task, problem: &NetworkProblem) -> Result<String, Box<dyn Error>> {
        outcomes::svg(task, problem)
    }
}

/// What an axis with values of these columns says of their scale.
fn scale(columns: &[&Column]) -> &'static str {
    let scaled = columns.iter().any(|column| (column.mean, column.deviation) != (0.0, 1.0));
    if scaled { ", standardised" } else { "" }
}

/// Pictures by the kind of simulator.
#[derive(Clone)]
pub(crate) struct Pictures(Vec<(&'static str, Arc<dyn Picture>)>);

/// The default one.
struct Outcomes;

impl Picture for Outcomes {}

impl Pictures {
    pub(crate) fn standard() -> Self {
        let mut pictures = Self(Vec::new());
        pictures.add("oscillators", Arc::new(oscillators::Chain));
        pictures.add("dipole", Arc::new(dipole::Laser));
        pictures.add("ode", Arc::new(equations::States));
        pictures.add("poisson", Arc::new(poisson::Maps));
        pictures
    }

    /// The last one of a kind counts.
    pub(crate) fn add(&mut self, kind: &'static str, picture: Arc<dyn Picture>) {
        self.0.push((kind, picture));
    }

    /// The picture for a task: that of its simulator, or of a function of one variable, or the default one.
    pub(crate) fn of(&self, task: &Task) -> Arc<dyn Picture> {
        let kind = &task.settings().simulator.kind;
        let own = self.0.iter().rev().find(|(known, _)| known == kind).map(|(_, picture)| picture.clone());
        let one_variable = task.model().network().inputs() == 1;
        own.unwrap_or_else(|| if one_variable { Arc::new(function::Fit) } else { Arc::new(Outcomes) })
    }
}
