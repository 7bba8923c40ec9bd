//! Mini-batches of the Krylov family, cut from those that are given or gathered over several of them.
//!
//! A given mini-batch of at least twice as many samples as the family wants is cut: the family's samples come from one
//! part of it, those to judge steps by from another, other parts at each step. Smaller ones are gathered, the last ones
//! kept.

use serde::{Deserialize, Serialize};

use crate::error::ShapeError;
use crate::optimizer::state::matrix;
use crate::problem::{BatchProblem, Samples, Source};

/// The family's problem on its mini-batch, and another to judge its steps by.
pub(super) struct Supply {
    /// Samples of the family's mini-batch.
    wanted: usize,
    /// Of these, and of as many others, how many are probed.
    probed: usize,
    pub(super) problem: Box<dyn BatchProblem>,
    pub(super) probe: Box<dyn BatchProblem>,
    pub(super) kept: Kept,
}

/// What has been kept of the mini-batches so far.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Where the family is in a large mini-batch, or the next sample goes in the matrices.
    position: usize,
    /// Samples of the last mini-batches, where these are small: inputs, initial states, targets, weights.
    #[serde(with = "matrix")]
    input: faer::Mat<f64>,
    #[serde(with = "matrix")]
    initial: faer::Mat<f64>,
    #[serde(with = "matrix")]
    target: faer::Mat<f64>,
    #[serde(with = "matrix")]
    weight: faer::Mat<f64>,
}

impl Supply {
    /// For mini-batches of `wanted` samples like these, of which `probed` are probed.
    pub(super) fn new(
        source: &dyn Source,
        like: &Samples,
        (wanted, probed): (usize, usize),
        threads: usize,
    ) -> Result<Self, ShapeError> {
        let Samples { input, initial, target, weight } = like.zeros_like(0);
        Ok(Self {
            wanted,
            probed,
            problem: source.problem(like.zeros_like(wanted), threads)?,
            probe: source.problem(like.zeros_like(2 * probed), threads)?,
            kept: Kept { position: 0, input, initial, target, weight },
        })
    }

    /// Samples of the family's mini-batch.
    pub(super) fn wanted(&self) -> usize {
        self.wanted
    }

    /// Takes in a mini-batch, and where it is the family's turn makes its mini-batch and probe.
    pub(super) fn take(&mut self, batch: &Samples, turn: bool) -> Result<(), ShapeError> {
        let (wanted, given) = (self.wanted, batch.len());
        let from = |first: usize, count: usize, of: usize| (0..count).map(move |i| (first + i) % of);
        let probed = self.probed;
        if given >= 2 * wanted {
            self.kept.position = (self.kept.position + wanted) % given;
            if turn {
                let first = self.kept.position;
                let beside = from(first + wanted, probed, given);
                let probe: Vec<usize> = from(first, probed, given).chain(beside).collect();
                self.problem.take(batch, &from(first, wanted, given).collect::<Vec<_>>())?;
                self.probe.take(batch, &probe)?;
            }
            return Ok(());
        }
        let room = 2 * wanted;
        let mut recent = self.kept.samples();
        if recent.len() != room {
            // The first mini-batch stands for those that have not come yet.
            batch.gather(&from(0, room, given).collect::<Vec<_>>(), &mut recent)?;
            self.kept.position = 0;
        }
        recent.put(batch, self.kept.position);
        self.kept.position = (self.kept.position + given) % room;
        if turn {
            let now = self.kept.position + room - wanted;
            let beside = self.kept.position + room - 2 * wanted;
            let probe: Vec<usize> = from(now, probed, room).chain(from(beside, probed, room)).collect();
            self.problem.take(&recent, &from(now, wanted, room).collect::<Vec<_>>())?;
            self.probe.take(&recent, &probe)?;
        }
        self.kept.put_back(recent);
        Ok(())
    }
}

impl Kept {
    fn samples(&mut self) -> Samples {
        let take = |matrix: &mut faer::Mat<f64>| std::mem::replace(matrix, faer::Mat::new());
        Samples {
            input: take(&mut self.input),
            initial: take(&mut self.initial),
            target: take(&mut self.target),
            weight: take(&mut self.weight),
        }
    }

    fn put_back(&mut self, samples: Samples) {
        Samples { input: self.input, initial: self.initial, target: self.target, weight: self.weight } =
            samples;
    }

    /// Whether this can have been kept by a supply like the other.
    pub(super) fn fits(&self, other: &Self, room: usize) -> bool {
        let rows = self.input.nrows();
        let alike = |a: &faer::Mat<f64>, b: &faer::Mat<f64>| a.ncols() == b.ncols() && a.nrows() == rows;
        (rows == 0 || rows == room && self.position < room)
            && self.position < 1 << 32
            && alike(&self.input, &other.input)
            && alike(&self.initial, &other.initial)
            && alike(&self.target, &other.target)
            && alike(&self.weight, &other.weight)
    }
}
