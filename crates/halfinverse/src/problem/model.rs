//! A model: network, simulator and objective put together.

use std::sync::Arc;

use super::{BatchProblem, FactorShape, NetworkProblem, Samples, Source};
use crate::error::ShapeError;
use crate::network::{Network, Tensor};
use crate::objective::{Objective, Reduction};
use crate::simulator::Simulator;

/// y(θ) = S(f(x; θ); y₀) and its loss L(y, target).
#[derive(Clone)]
pub struct Model {
    network: Network,
    simulator: Arc<dyn Simulator>,
    objective: Arc<dyn Objective>,
    reduction: Reduction,
}

impl Model {
    /// Puts the three parts together; the loss of a mini-batch is the mean of its samples' losses.
    ///
    /// # Errors
    /// When the network's output is not as wide as the simulator's control, the objective cannot use the outcome, or the
    /// simulator's pattern names controls or outcomes that it does not have.
    pub fn new(
        network: Network,
        simulator: impl Simulator + 'static,
        objective: impl Objective + 'static,
    ) -> Result<Self, ShapeError> {
        Self::of(network, Arc::new(simulator), Arc::new(objective))
    }

    /// As [`Self::new`], of parts that are shared.
    ///
    /// # Errors
    /// As there.
    pub fn of(
        network: Network,
        simulator: Arc<dyn Simulator>,
        objective: Arc<dyn Objective>,
    ) -> Result<Self, ShapeError> {
        ShapeError::check("the network", "outputs", simulator.controls(), network.outputs())?;
        objective.check(simulator.outcomes())?;
        simulator.pattern().check(simulator.controls(), simulator.outcomes())?;
        Ok(Self { network, simulator, objective, reduction: Reduction::Mean })
    }

    /// With another reduction of the samples' losses.
    #[must_use]
    pub fn reduced_by(self, reduction: Reduction) -> Self {
        Self { reduction, ..self }
    }

    /// The network f.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The simulator S.
    #[must_use]
    pub fn simulator(&self) -> &dyn Simulator {
        &*self.simulator
    }

    /// The objective L.
    #[must_use]
    pub fn objective(&self) -> &dyn Objective {
        &*self.objective
    }

    /// How samples are combined.
    #[must_use]
    pub fn reduction(&self) -> Reduction {
        self.reduction
    }

    /// Refuses samples of another kind, and none.
    ///
    /// # Errors
    /// With the part that does not fit.
    pub fn fits(&self, samples: &Samples) -> Result<(), ShapeError> {
        samples.check(self.network.inputs(), self.simulator.initials(), self.simulator.outcomes())
    }
}

impl Source for Model {
    fn parameters(&self) -> usize {
        self.network.parameters()
    }

    fn outcomes(&self) -> usize {
        self.simulator.outcomes()
    }

    fn sweeps(&self) -> usize {
        self.simulator.outcomes().min(self.simulator.controls())
    }

    fn tensors(&self) -> Vec<Tensor> {
        self.network.tensors()
    }

    fn factors(&self) -> Vec<FactorShape> {
        if self.network.factored() { self.network.factor_shapes() } else { Vec::new() }
    }

    fn controlled(&self) -> bool {
        true
    }

    fn work(&self) -> usize {
        self.network.work()
    }

    fn weight(&self, samples: usize) -> f64 {
        self.reduction.weight(samples)
    }

    fn part(&self, samples: Samples, threads: usize) -> Result<Box<dyn BatchProblem>, ShapeError> {
        Ok(Box::new(NetworkProblem::new(self, samples, threads)?.of_a_part()))
    }

    fn problem(&self, samples: Samples, threads: usize) -> Result<Box<dyn BatchProblem>, ShapeError> {
        Ok(Box::new(NetworkProblem::new(self, samples, threads)?))
    }
}
