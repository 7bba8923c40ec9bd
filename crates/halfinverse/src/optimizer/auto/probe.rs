//! The loss of several θ on the same samples, simulated together: what an optimizer chooses among candidates by.

use faer::prelude::ReborrowMut;
use faer::{Mat, Par};

use crate::columns::{column, column_mut};
use crate::error::StepError;
use crate::model::{Model, Samples};
use crate::network::Pass;
use crate::simulator::Batched;

/// Room for the evaluation of so many candidates on so many samples; kept from step to step.
pub(super) struct Probe {
    pass: Pass,
    batched: Batched,
    stacked: Samples,
    controls: Mat<f64>,
    outcomes: Mat<f64>,
    samples: usize,
    candidates: usize,
}

impl Probe {
    /// Room for `candidates` θ on the first `part` samples of two mini-batches like `like`.
    pub(super) fn new(model: &Model, like: &Samples, part: usize, candidates: usize, threads: usize) -> Self {
        let samples = 2 * part;
        let rows = samples * candidates;
        Self {
            pass: Pass::new(model.network(), samples),
            batched: Batched::new(threads),
            stacked: like.zeros_like(rows),
            controls: Mat::zeros(rows, model.network().outputs()),
            outcomes: Mat::zeros(rows, model.simulator().outcomes()),
            samples,
            candidates,
        }
    }

    /// Takes two mini-batches, to evaluate on the first samples of each.
    pub(super) fn set(&mut self, first: &Samples, second: &Samples) {
        let part = self.samples / 2;
        let stacked = &mut self.stacked;
        for (first, second, to) in [
            (&first.input, &second.input, &mut stacked.input),
            (&first.initial, &second.initial, &mut stacked.initial),
            (&first.target, &second.target, &mut stacked.target),
        ] {
            for j in 0..to.ncols() {
                for (i, rows) in to.col_as_slice_mut(j).chunks_exact_mut(part).enumerate() {
                    let from = if i % 2 == 0 { first } else { second };
                    rows.copy_from_slice(&from.col_as_slice(j)[..part]);
                }
            }
        }
    }

    /// Of each θ (a column), the loss per sample on the first and on the second mini-batch; NaN counts as infinite.
    pub(super) fn losses(&mut self, model: &Model, thetas: &Mat<f64>) -> Result<Vec<[f64; 2]>, StepError> {
        let (count, samples) = (thetas.ncols().min(self.candidates), self.samples);
        for i in 0..count {
            let input = self.stacked.input.as_ref().subrows(0, samples);
            self.pass.inputs[0].copy_from(input);
            self.pass.forward(model.network(), thetas.col_as_slice(i), Par::Seq);
            let mut rows = self.controls.as_mut().subrows_mut(i * samples, samples);
            for j in 0..rows.ncols() {
                column_mut(rows.rb_mut(), j).copy_from_slice(column(self.pass.output.as_ref(), j));
            }
        }
        let rows = count * samples;
        self.batched.forward(
            model.simulator(),
            self.stacked.initial.as_ref().subrows(0, rows),
            self.controls.as_ref().subrows(0, rows),
            self.outcomes.as_mut().subrows_mut(0, rows),
            false,
        )?;
        let half = samples / 2;
        let part = |first: usize| {
            let outcome = self.outcomes.as_ref().subrows(first, half);
            let target = self.stacked.target.as_ref().subrows(first, half);
            let loss = model.objective().sum(outcome, target, None) / half as f64;
            if loss.is_finite() { loss } else { f64::INFINITY }
        };
        Ok((0..count).map(|i| [part(i * samples), part(i * samples + half)]).collect())
    }
}
