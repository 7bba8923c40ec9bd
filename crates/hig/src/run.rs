//! What every command that trains shares: where a run starts, its spectrum, and its exit code.

use std::path::Path;
use std::process::ExitCode;

use halfinverse::StepError;
use halfinverse::problem::{NetworkProblem, Source};
use halfinverse::task::{SpectrumPlan, Task};
use halfinverse::training::{OnFault, StopReason, read_parameters};

use crate::failure::Failure;
use crate::folder::{CHECKPOINT, Summary};
use crate::voice::{complain, say};

/// θ that training starts from, where the settings name a checkpoint.
pub(crate) fn start(task: &Task) -> Result<Option<Vec<f64>>, Failure> {
    task.settings().training.from.as_ref().map(|path| parameters(task, Path::new(path))).transpose()
}

/// θ of a checkpoint, or of the checkpoint in a run's folder.
fn parameters(task: &Task, path: &Path) -> Result<Vec<f64>, Failure> {
    let file = if path.is_dir() { path.join(CHECKPOINT) } else { path.to_owned() };
    read_parameters(&task.model().tensors(), &file)
        .map_err(|error| Failure::new(format!("cannot start from this checkpoint: {error} (--from)")))
}

/// The problem of the first training samples, over which J is taken apart.
pub(crate) fn first_samples(task: &Task) -> Result<NetworkProblem, StepError> {
    let samples = task.train().first(task.spectrum_samples());
    Ok(NetworkProblem::new(task.model(), samples, 1)?)
}

/// What the singular values of a run's J are taken of; none where they would be too dear.
pub(crate) fn spectrum_plan(task: &Task) -> Option<SpectrumPlan> {
    task.forecast().spectrum.ok()
}

/// The singular values of J, descending; none where they cannot be had.
pub(crate) fn spectrum(task: &Task, theta: &[f64], plan: Option<SpectrumPlan>) -> Vec<f64> {
    plan.and_then(|plan| plan.singular_values(task, theta).ok()).unwrap_or_default()
}

/// Says what makes the task's simulator unstable, where that is known. It may train all the same.
pub(crate) fn say_instability(task: &Task, quiet: bool) {
    if let Some(line) = task.model().simulator().instability() {
        say(quiet, &line);
    }
}

/// The program's exit code for the end of a run; one that diverged is said, with the mend.
pub(crate) fn exit_code(reason: &StopReason, task: &Task, summary: &Summary) -> ExitCode {
    let error = match reason {
        StopReason::Diverged(error) => error,
        StopReason::Interrupted => return ExitCode::from(130),
        _ => return ExitCode::SUCCESS,
    };
    let blown_up = matches!(error, StepError::BlowUp { .. });
    // Not every optimizer has a learning rate to lower.
    let rated = task.settings().optimizer.learning_rate().is_some();
    let slower = if rated { "a lower learning rate (--lr)" } else { "larger mini-batches (--batch)" };
    let other = match (task.settings().training.on_fault, blown_up) {
        (OnFault::RollBack, _) => {
            format!(
                "there is nothing to go back to, or shorter steps did not mend it; start again with {slower}"
            )
        }
        (_, true) => {
            format!("start again with --on-fault roll-back, {slower}, or training.blow_up=0 to let it be")
        }
        (OnFault::Stop, false) => format!("take --on-fault skip, also where it is resumed, or {slower}"),
        (OnFault::Skip, false) => format!("too many mini-batches in a row failed; take {slower}"),
    };
    // No learning rate and no other mini-batch mends a simulation that grows by itself.
    let mend = task.model().simulator().instability().unwrap_or(other);
    // A blow-up is seen by the step after it, which was made; one that failed was not.
    let step = summary.steps + u64::from(!blown_up);
    complain(&format!("the run diverged at step {step}: {error}; {mend}"));
    ExitCode::from(3)
}
