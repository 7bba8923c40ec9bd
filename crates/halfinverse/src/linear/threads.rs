//! How many threads a computation gets: decided here, from the number that a run has and the size of the work.

use faer::Par;

/// A run's threads, of the current rayon pool.
pub(crate) fn par(threads: usize) -> Par {
    if threads > 1 { Par::rayon(threads) } else { Par::Seq }
}

/// `par` for work on this many matrix entries, or one thread where starting several would cost more than it saves.
pub(crate) fn worth_threads(par: Par, entries: usize) -> Par {
    /// Measured on two cores: products of smaller matrices are not faster on both.
    const LEAST: usize = 1 << 21;
    if entries < LEAST { Par::Seq } else { par }
}
