//! What the factors cost, by counts of operations alone, so that runs repeat.
//!
//! With factors of sizes i and o in blocks of widths wᵢ and wₒ, b samples; of a convolution the operations over samples
//! come once more for each position:
//!
//! | what | operations |
//! |---|---|
//! | gradient | 6bP |
//! | d | 2Σ i·o·(wᵢ + wₒ) |
//! | a mini-batch into the means | 2bP + bΣ(i·wᵢ + o·wₒ) |
//! | all inverses by Cholesky | Σ(i·wᵢ² + o·wₒ²), which take CHOLESKY times as long |
//! | all other powers, by eigenvalues | as many, which take EIGEN times as long |

use super::factor::spans;
use crate::problem::FactorShape;

/// Time of an operation in a factorization, in those of a large product: estimates, eigenvalues from steps of 0.15 s
/// with a refresh every fourth, on factors of 257 rows, that took 0.025 s by Cholesky.
const CHOLESKY: f64 = 2.0;
const EIGEN: f64 = 50.0;

/// Numbers and operations of all layers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Work {
    /// Multiplications of a forward pass of a sample.
    pass: f64,
    /// Entries of the factors' blocks: Σ (i·wᵢ + o·wₒ).
    pub(super) entries: f64,
    /// Σ i·o·(wᵢ + wₒ).
    products: f64,
    /// Σ (i·wᵢ² + o·wₒ²).
    inverses: f64,
}

impl Work {
    /// Of layers with these shapes, factors in blocks of this width at most.
    pub(super) fn of(shapes: &[FactorShape], width: usize) -> Self {
        let mut work = Self::default();
        for shape in shapes {
            let (i, o) = (shape.columns(), shape.outputs);
            work.pass += shape.work();
            for (size, across) in [(i, o), (o, i)] {
                for span in spans(size, width) {
                    let w = span.len() as f64;
                    work.entries += w * w;
                    work.products += w * w * across as f64;
                    work.inverses += w * w * w;
                }
            }
        }
        work
    }

    /// What d costs, in passes over a sample.
    pub(super) fn overhead(&self) -> f64 {
        if self.pass > 0.0 { self.products / self.pass } else { 0.0 }
    }

    /// Steps of b samples between refreshes that cost such a share of the steps.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts; far below 2^53")]
    pub(super) fn between_refreshes(&self, b: f64, exponent: f64, share: f64) -> u64 {
        let times = if exponent == 1.0 { CHOLESKY } else { EIGEN };
        let step = 6.0 * b * self.pass + 2.0 * self.products;
        (times * self.inverses / (share * step)).ceil().max(1.0) as u64
    }
}
