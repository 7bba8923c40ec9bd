//! `mpirun -n 4 hig train …`: rank 0 does what the command line says, the others train with it. What they have to know they
//! are told: the settings, and a checkpoint of the run before its next step. They write and say nothing.

#[cfg(feature = "mpi")]
mod mpi;

use std::cell::RefCell;
use std::process::ExitCode;

use halfinverse::ranks::{Lost, Team};
use halfinverse::task::{Registry, Settings, Task};
use halfinverse::training::{Trainer, TrainingError, checkpoint_bytes, resume_from_bytes};

use crate::failure::Failure;
use crate::interrupt;

thread_local! {
    static TEAM: RefCell<Option<Team>> = const { RefCell::new(None) };
}

/// The ranks that this process is one of.
pub(crate) fn team() -> Team {
    TEAM.with_borrow_mut(|team| team.get_or_insert_with(Team::alone).clone())
}

/// Runs as one of the ranks of `mpirun`, where the program was started by it and can talk to the others; else alone. Whatever
/// way it ends, the others are told.
pub(crate) fn among(run: impl FnOnce() -> ExitCode) -> ExitCode {
    #[cfg(feature = "mpi")]
    let universe = mpi::begin();
    #[cfg(feature = "mpi")]
    if let Some((_, ranks)) = &universe {
        TEAM.set(Some(Team::new(*ranks)));
    }
    let code = run();
    team().leave();
    code
}

/// Ranks on this machine; all where that is not known.
pub(crate) fn here() -> usize {
    let here = std::env::var("OMPI_COMM_WORLD_LOCAL_SIZE").ok().and_then(|size| size.parse().ok());
    let ranks = team().size();
    here.unwrap_or(ranks).min(ranks).max(1)
}

/// Cores that each rank of this machine may take.
pub(crate) fn cores() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / here()).max(1)
}

/// Tells the other ranks of a run that is about to be trained, and waits until they are ready for it.
pub(crate) fn call(task: &Task, trainer: &Trainer) -> Result<(), Failure> {
    let team = team();
    if team.size() == 1 {
        return Ok(());
    }
    let failure = |error: &dyn std::fmt::Display| Failure::new(error.to_string());
    let bytes = checkpoint_bytes(trainer).map_err(|error| failure(&error))?;
    let begun = u8::from(trainer.rows() > 0 || trainer.steps() > 0);
    let tell = |bytes: &[u8]| team.tell(bytes);
    tell(task.settings().to_toml().as_bytes())
        .and_then(|_| tell(&[begun]))
        .and_then(|_| tell(&bytes))
        .map_err(|error| failure(&error))?;
    let said = team.share(&[]).map_err(|error| failure(&error))?;
    match said.iter().enumerate().find(|(_, said)| !said.is_empty()) {
        Some((rank, said)) => Err(Failure::new(format!("rank {rank}: {}", String::from_utf8_lossy(said)))),
        None => Ok(()),
    }
}

/// Takes part in what rank 0 trains, until it leaves.
pub(crate) fn attend(registry: &Registry, team: &Team) {
    // Rank 0 hears of it, too, and decides.
    let _ = interrupt::listen();
    while let Ok(true) = train_along(registry, team) {}
}

/// One run; false where it could not be begun, and all end.
fn train_along(registry: &Registry, team: &Team) -> Result<bool, Lost> {
    let config = team.tell(&[])?;
    let begun = team.tell(&[])?;
    let checkpoint = team.tell(&[])?;
    let config = String::from_utf8_lossy(&config).into_owned();
    let made = trainer(registry, team, &config, &begun, &checkpoint);
    let failed = made.as_ref().err().cloned().unwrap_or_default();
    let said = team.share(failed.as_bytes())?;
    let Ok(mut trainer) = made else { return Ok(false) };
    if said.iter().any(|said| !said.is_empty()) {
        return Ok(false);
    }
    match trainer.run(&mut ()) {
        Err(TrainingError::Ranks(lost)) => Err(lost),
        // What ends it here ends it on rank 0, which says so.
        _ => Ok(true),
    }
}

/// The run that rank 0 has; its error in words.
fn trainer(
    registry: &Registry,
    team: &Team,
    config: &str,
    begun: &[u8],
    checkpoint: &[u8],
) -> Result<Trainer, String> {
    let settings: Settings = toml::from_str(config).map_err(|error| error.to_string())?;
    let task = Task::with(settings, registry).map_err(|error| error.to_string())?.over(team.clone());
    let trainer = resume_from_bytes(&task.parts(), checkpoint).map_err(|error| error.to_string())?;
    if begun == [1] {
        return Ok(trainer);
    }
    // One that has not begun evaluates before its first step.
    task.trainer(Some(trainer.into_theta())).map_err(|error| error.to_string())
}
