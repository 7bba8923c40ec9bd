//! The ranks of `mpirun`.

use halfinverse::ranks::{Lost, Ranks};
use mpi::Threading;
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives};

/// This process among those that `mpirun` started. A process that dies ends them all: MPI sees to that.
#[derive(Clone, Copy)]
pub(super) struct World {
    rank: usize,
    size: usize,
}

/// What launchers of MPI tell the processes that they start: Open MPI, MPICH and its kin, Slurm.
const LAUNCHERS: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"];

/// Begins, where a launcher of MPI has started this process. MPI ends when the universe is dropped.
pub(super) fn begin() -> Option<(Universe, World)> {
    if !LAUNCHERS.iter().any(|name| std::env::var_os(name).is_some()) {
        return None;
    }
    // Steps are made on threads of a pool, one collective at a time.
    let (universe, _) = mpi::initialize_with_threading(Threading::Serialized)?;
    let world = universe.world();
    let count = |number: i32| usize::try_from(number).unwrap_or(0);
    let world = World { rank: count(world.rank()), size: count(world.size()) };
    Some((universe, world))
}

impl Ranks for World {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn gather(&self, own: &[f64], all: &mut [f64]) -> Result<(), Lost> {
        fits(own.len())?;
        SimpleCommunicator::world().all_gather_into(own, &mut all[..self.size * own.len()]);
        Ok(())
    }

    fn exchange(&self, own: &[f64], all: &mut [f64]) -> Result<(), Lost> {
        fits(own.len())?;
        SimpleCommunicator::world().all_to_all_into(own, &mut all[..own.len()]);
        Ok(())
    }
}

/// MPI counts with 31 bits.
fn fits(length: usize) -> Result<(), Lost> {
    if i32::try_from(length).is_ok() {
        return Ok(());
    }
    Err(Lost::Transport(format!("{length} numbers are more than MPI sends at once, {}", i32::MAX)))
}
