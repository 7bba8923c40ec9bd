//! A rank's share of a mini-batch: the problem of its own samples, with what makes it the [whole](super::whole) one's.

use std::ops::Range;
use std::sync::Arc;

use faer::prelude::ReborrowMut;
use faer::{Mat, MatMut, MatRef};

use super::Team;
use super::rows::Rows;
use super::whole::Whole;
use crate::anatomy::{LayerUnits, hidden_units};
use crate::error::ShapeError;
use crate::fault::StepError;
use crate::linear::columns::column_mut;
use crate::linear::vectors::scale;
use crate::problem::{
    At, BatchProblem, Blocks, Controlled, FactorShape, FactorVisit, Layered, NetworkProblem, Problem,
    Samples, Source,
};

/// One rank's problem.
pub(super) struct Share {
    whole: Whole,
    threads: usize,
    /// None where this rank has no sample.
    own: Option<Box<dyn BatchProblem>>,
    /// g of the own rows.
    rows: Vec<f64>,
    /// Blocks, and cotangents, times s_r, where that is not 1.
    blocks: Mat<f64>,
    cotangent: Mat<f64>,
}

impl Share {
    pub(super) fn new(
        source: Arc<dyn Source>,
        team: Team,
        samples: Samples,
        threads: usize,
    ) -> Result<Self, ShapeError> {
        ShapeError::check("the mini-batch", "sample or more", 1, samples.len().min(1))?;
        let whole = Whole { source, team, samples, weighs: true, curvature: 1.0, factor: 1.0 };
        let (rows, blocks, cotangent) = (Vec::new(), Mat::new(), Mat::new());
        let mut share = Self { whole, threads, own: None, rows, blocks, cotangent };
        share.place_own()?;
        Ok(share)
    }

    /// Gives the own problem its part of the samples.
    fn place_own(&mut self) -> Result<(), ShapeError> {
        let Self { whole, threads, own, .. } = self;
        let part = whole.part();
        match own {
            _ if part.is_empty() => *own = None,
            Some(own) => own.take(&whole.samples, &part.clone().collect::<Vec<_>>())?,
            None => {
                let samples = whole.samples.range(part.start, part.len());
                *own = Some(whole.source.part(samples, *threads)?);
            }
        }
        whole.weighs = own.as_ref().is_none_or(|own| own.weight() == whole.source.weight(part.len()));
        Ok(())
    }

    /// The own problem by layers; none where this rank has no sample.
    fn own_layers(&mut self) -> Option<&mut dyn Layered> {
        self.own.as_mut().and_then(|own| own.layered())
    }
}

impl Problem for Share {
    fn parameters(&self) -> usize {
        self.whole.source.parameters()
    }

    fn loss(&mut self, theta: &[f64]) -> Result<f64, StepError> {
        let own = self.own.as_mut().map_or(Ok(0.0), |own| own.loss(theta));
        let mut sums = [0.0];
        self.whole.agree_on_loss(own, &mut sums)?;
        Ok(sums[0])
    }

    fn gradient(&mut self, theta: &[f64], gradient: &mut [f64]) -> Result<f64, StepError> {
        ShapeError::check("the gradient", "entries", theta.len(), gradient.len())?;
        let own = if let Some(own) = &mut self.own {
            let loss = own.gradient(theta, gradient);
            loss.map(|loss| (loss, own.layered().map_or(0.0, |layered| layered.curvature())))
        } else {
            gradient.fill(0.0);
            Ok((0.0, 0.0))
        };
        let loss = self.whole.agree_on_model(own)?;
        scale(gradient, self.whole.share());
        self.whole.sum(gradient);
        Ok(loss)
    }

    fn linearize<'a>(&'a mut self, theta: &'a [f64]) -> Result<At<'a>, StepError> {
        let Self { whole, own, rows, .. } = self;
        // Layers and simulators make products of what they have computed; functions of somebody else's may fail.
        let fallible = !whole.source.controlled();
        let at = own.as_mut().map(|own| own.linearize(theta)).transpose();
        rows.clear();
        let model = match &at {
            Ok(Some(at)) => {
                rows.extend_from_slice(at.gradient);
                whole.check_rows(rows).map(|()| (at.loss, at.curvature))
            }
            _ => Ok((0.0, 0.0)),
        };
        let (at, failed) = at.map_or_else(|error| (None, Some(error)), |at| (at, None));
        let loss = whole.agree_on_model(failed.map_or(model, Err))?;
        whole.scale_rows(rows);
        let jacobian = Box::new(Rows {
            team: &whole.team,
            own: at.map(|at| at.jacobian),
            place: whole.rows(),
            parameters: theta.len(),
            factor: whole.factor,
            fallible,
            scaled: Vec::new(),
        });
        Ok(At { loss, gradient: rows, curvature: whole.curvature, jacobian })
    }

    fn losses(&mut self, thetas: MatRef<'_, f64>, losses: &mut [f64]) -> Result<(), StepError> {
        let own = if let Some(own) = &mut self.own {
            own.losses(thetas, losses)
        } else {
            losses.fill(0.0);
            Ok(())
        };
        scale(losses, self.whole.share());
        let own = own.and_then(|()| self.whole.check_weight());
        self.whole.team.agree(losses, own, self.whole.part().start)
    }

    fn weight(&self) -> f64 {
        self.whole.source.weight(self.whole.samples.len())
    }

    fn samples(&self) -> Option<&Samples> {
        Some(&self.whole.samples)
    }

    fn layered(&mut self) -> Option<&mut dyn Layered> {
        if self.whole.source.factors().is_empty() { None } else { Some(self) }
    }

    fn controlled(&mut self) -> Option<&mut dyn Controlled> {
        if self.whole.source.controlled() { Some(self) } else { None }
    }
}

impl Layered for Share {
    fn shape(&self) -> (usize, usize) {
        (self.whole.part().len(), self.whole.source.outcomes())
    }

    fn place(&self) -> (Range<usize>, usize) {
        (self.whole.part(), self.whole.samples.len())
    }

    fn spread(&self) -> bool {
        self.whole.team.size() > 1
    }

    fn sum(&self, partial: &mut [f64]) {
        self.whole.sum(partial);
    }

    fn agree(&self, own: Result<(), StepError>) -> Result<(), StepError> {
        self.whole.agree(own)
    }

    fn curvature(&self) -> f64 {
        self.whole.curvature
    }

    fn factors(&self) -> Vec<FactorShape> {
        self.whole.source.factors()
    }

    fn cotangents(
        &mut self,
        theta: &[f64],
        outcome: MatRef<'_, f64>,
        visit: &mut FactorVisit<'_>,
    ) -> Result<(), StepError> {
        let mut scaled = std::mem::replace(&mut self.cotangent, Mat::new());
        scaled.clone_from(&(faer::Scale(self.whole.factor) * outcome));
        let own = self.own_layers().map_or(Ok(()), |own| own.cotangents(theta, scaled.as_ref(), visit));
        self.cotangent = scaled;
        self.whole.agree(own)
    }

    fn difference(&mut self, theta: &[f64], v: &[f64], mut out: MatMut<'_, f64>) -> Result<(), StepError> {
        let own = self.own_layers().map_or(Ok(()), |own| own.difference(theta, v, out.rb_mut()));
        let factor = self.whole.factor;
        for j in 0..out.ncols() {
            scale(column_mut(out.rb_mut(), j), factor);
        }
        self.whole.agree(own)
    }
}

impl Controlled for Share {
    fn blocks(&mut self, theta: &[f64]) -> Result<Blocks<'_>, StepError> {
        let Self { whole, own, rows, blocks, .. } = self;
        rows.clear();
        let mut own_blocks = || {
            let Some(own) = own.as_mut().and_then(|own| own.controlled()) else { return Ok((0.0, 0.0)) };
            let found = own.blocks(theta)?;
            rows.extend_from_slice(found.gradient);
            blocks.clone_from(&found.blocks.to_owned());
            whole.check_rows(rows)?;
            Ok((found.loss, found.curvature))
        };
        let found = own_blocks();
        let loss = whole.agree_on_model(found)?;
        whole.scale_rows(rows);
        *blocks *= faer::Scale(whole.factor);
        Ok(Blocks { loss, gradient: rows, curvature: whole.curvature, blocks: blocks.as_ref() })
    }

    fn network_gradient(&mut self, theta: &[f64], control: MatRef<'_, f64>, out: &mut [f64]) {
        match self.own.as_mut().and_then(|own| own.controlled()) {
            Some(own) => own.network_gradient(theta, control, out),
            None => out.fill(0.0),
        }
        self.whole.sum(out);
    }
}

impl BatchProblem for Share {
    fn take(&mut self, from: &Samples, indices: &[usize]) -> Result<(), ShapeError> {
        ShapeError::check("the mini-batch", "sample or more", 1, indices.len().min(1))?;
        from.gather(indices, &mut self.whole.samples)?;
        self.place_own()
    }

    /// Those of the whole mini-batch, by rank 0, which has a sample wherever there is one.
    fn units(&mut self, theta: &[f64]) -> Option<Vec<LayerUnits>> {
        let model = self.own.as_ref()?.network()?.model().clone();
        if !self.whole.team.leads() {
            return None;
        }
        let mut problem = NetworkProblem::new(&model, self.whole.samples.clone(), self.threads).ok()?;
        problem.activate(theta);
        Some(hidden_units(&problem))
    }
}
