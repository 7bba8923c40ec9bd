//! A source whose problems have their mini-batches over ranks.

use std::sync::Arc;

use super::Team;
use super::problem::Share;
use crate::error::ShapeError;
use crate::network::Tensor;
use crate::problem::{BatchProblem, FactorShape, Samples, Source};

/// Any source over ranks: every rank is given the same samples, and evaluates its own part of them.
///
/// # Example
/// A gradient on one rank and on three:
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use halfinverse::problem::Source;
/// use halfinverse::ranks::{Spread, together};
/// use halfinverse::task::{Registry, Task};
/// let task = Task::new(Registry::standard().settings("toy", "adam")?)?;
/// let theta = task.initial_parameters();
/// let gradient = |source: &dyn Source| {
///     let mut gradient = vec![0.0; theta.len()];
///     let mut problem = source.problem(task.train().first(10), 1)?;
///     problem.gradient(&theta, &mut gradient)?;
///     Ok::<_, halfinverse::StepError>(gradient)
/// };
/// let alone = gradient(task.model())?;
/// for spread in together(3, Duration::from_secs(60), |team| {
///     gradient(&Spread::new(Arc::new(task.model().clone()), team))
/// }) {
///     assert!(spread?.iter().zip(&alone).all(|(spread, alone)| (spread - alone).abs() < 1e-14));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Spread {
    source: Arc<dyn Source>,
    team: Team,
}

impl Spread {
    /// Problems of this source, over these ranks.
    #[must_use]
    pub fn new(source: Arc<dyn Source>, team: Team) -> Self {
        Self { source, team }
    }
}

impl Source for Spread {
    fn parameters(&self) -> usize {
        self.source.parameters()
    }

    fn outcomes(&self) -> usize {
        self.source.outcomes()
    }

    fn sweeps(&self) -> usize {
        self.source.sweeps()
    }

    fn tensors(&self) -> Vec<Tensor> {
        self.source.tensors()
    }

    fn factors(&self) -> Vec<FactorShape> {
        self.source.factors()
    }

    fn controlled(&self) -> bool {
        self.source.controlled()
    }

    fn work(&self) -> usize {
        self.source.work()
    }

    fn dear(&self) -> bool {
        self.source.dear()
    }

    fn weight(&self, samples: usize) -> f64 {
        self.source.weight(samples)
    }

    fn team(&self) -> Option<&Team> {
        Some(&self.team)
    }

    fn problem(&self, samples: Samples, threads: usize) -> Result<Box<dyn BatchProblem>, ShapeError> {
        Ok(Box::new(Share::new(self.source.clone(), self.team.clone(), samples, threads)?))
    }
}
