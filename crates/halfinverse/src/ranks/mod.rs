//! A mini-batch over several processes, or threads, each with its own samples: *ranks*, as in MPI.
//!
//! Each rank simulates its part of the mini-batch and has those rows of J. θ, the small problems of the solvers and every
//! choice are the same on all ranks, because whatever they depend on is summed over ranks first.
//!
//! | what | sums over ranks |
//! |---|---|
//! | loss, at any θ | 1 small one, with the agreement on errors |
//! | gradient | 1 small one, 1 of P numbers |
//! | Jᵀu | 1 of P numbers |
//! | orthogonalization of an n-vector against k | 1 of k + 2 numbers, where nothing cancels |
//! | K = J Jᵀ | nP numbers, n², by 64 rows at a time |
//! | Kronecker factors | 1 of their entries, whenever they take in a mini-batch |
//!
//! **Order.** A sum is taken in the order of the ranks, so that its bits depend on their number alone, and on nothing that a
//! network does: each rank adds up its part of the vector from what all others have sent it, and sends the result to all. Two
//! ranks, and those with few numbers, send each other the whole vector.
//!
//! **Errors.** An error on one rank is the same error on all: every collective begins with a frame of 256 bytes from each rank,
//! which says what it is about to do. One that leaves says so there, and those that ask for different things notice.
//!
//! | | |
//! |---|---|
//! | [`Ranks`] | how numbers get from rank to rank: two collectives |
//! | [`Alone`], [`together`] | one rank; ranks that are threads of one process |
//! | [`Team`] | sums, agreements and choices made of them |
//! | [`Spread`] | any [`Source`](crate::problem::Source) with its mini-batches over ranks |

mod problem;
mod rows;
mod spread;
mod team;
mod threads;
mod told;
mod whole;

pub use spread::Spread;
pub(crate) use team::PIECE;
pub use team::{Team, Traffic};
pub use threads::{ThreadRanks, together};

/// How numbers get from rank to rank. Every rank calls the same methods in the same order, with as many numbers.
pub trait Ranks: Send + Sync {
    /// Which one this is, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn size(&self) -> usize;

    /// `all` (size × length of `own`) = what each rank has, in their order.
    ///
    /// # Errors
    /// When a rank is lost.
    fn gather(&self, own: &[f64], all: &mut [f64]) -> Result<(), Lost>;

    /// `all` = what each rank has for this one, in their order; `own` has one part for each rank, all of the same length.
    ///
    /// # Errors
    /// When a rank is lost.
    fn exchange(&self, own: &[f64], all: &mut [f64]) -> Result<(), Lost>;
}

/// Why ranks can do nothing together any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// One has ended before the others.
    #[error("rank {rank} has left the others; what it said last tells why")]
    Left {
        /// Which one.
        rank: usize,
    },
    /// They have come to different choices, as on processors of different kinds.
    #[error("the ranks have come apart: {what}; start them on machines of one kind, with one program")]
    Apart {
        /// What was found.
        what: String,
    },
    /// One has not answered in time.
    #[error("a rank has not answered for {seconds} s; the others have stopped")]
    Silent {
        /// How long the others waited.
        seconds: u64,
    },
    /// Numbers could not be sent.
    #[error("the ranks cannot reach each other: {0}")]
    Transport(String),
}

/// One rank.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Ranks for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn gather(&self, own: &[f64], all: &mut [f64]) -> Result<(), Lost> {
        all.copy_from_slice(own);
        Ok(())
    }

    fn exchange(&self, own: &[f64], all: &mut [f64]) -> Result<(), Lost> {
        all.copy_from_slice(own);
        Ok(())
    }
}
