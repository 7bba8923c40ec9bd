//! From defaults, file, flags and `--set` to checked settings.

mod advice;
mod file;
mod flags;
mod givens;
mod resolve;
#[cfg(test)]
mod tests;
pub(crate) mod units;
mod variants;

use std::path::Path;

use halfinverse::task::{Registry, Settings, Task};
use halfinverse::training::{MOST_STEPS, OnFault, Schedule, StopSettings};
use toml::Value;
use units::seconds;
pub(crate) use variants::{Chosen, Variation, for_study};

use givens::Givens;
use serde::de::DeserializeOwned;

use crate::arguments::{FitArguments, ResumeArguments, SettingArguments, TrainArguments};
use crate::failure::Failure;
use crate::ranks;
use crate::voice::program;

/// The task that the arguments of a training run describe, checked, and what there is to say of its settings.
pub(crate) fn for_training(
    registry: &Registry,
    arguments: &TrainArguments,
) -> Result<(Task, Option<String>), Failure> {
    training(registry, arguments, flags::of_settings(&arguments.settings)?)
}

/// The same of a run on a data file.
pub(crate) fn for_fit(
    registry: &Registry,
    arguments: &mut FitArguments,
) -> Result<(Task, Option<String>), Failure> {
    let settings = &mut arguments.train.settings;
    if settings.task.is_none() && settings.config.is_none() {
        settings.task = Some("fit".to_owned());
    }
    let mut flags = flags::of_settings(settings)?;
    flags::add_data(arguments, &mut flags)?;
    training(registry, &arguments.train, flags)
}

/// A word that one of a few settings is.
pub(crate) fn word<T: DeserializeOwned + Default>(flag: &str, text: Option<&str>) -> Result<T, Failure> {
    let Some(text) = text else { return Ok(T::default()) };
    Value::String(text.to_owned())
        .try_into()
        .map_err(|error: toml::de::Error| Failure::new(format!("{flag} {text}: {}", error.message().trim())))
}

fn training(
    registry: &Registry,
    arguments: &TrainArguments,
    mut flags: Givens,
) -> Result<(Task, Option<String>), Failure> {
    flags::add_budget(&arguments.budget, &mut flags)?;
    if let Some(path) = &arguments.from {
        let full = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        flags.give("training.from", "--from", Value::String(full.display().to_string()))?;
    }
    resolve::task(registry, &arguments.settings, flags, arguments.quiet)
}

/// The task that the arguments of any other command describe, checked.
pub(crate) fn for_task(registry: &Registry, arguments: &SettingArguments) -> Result<Task, Failure> {
    Ok(resolve::task(registry, arguments, flags::of_settings(arguments)?, false)?.0)
}

/// `config.toml` of a run's folder, before data are drawn.
pub(crate) fn from_file(
    registry: &Registry,
    path: &Path,
    memory_limit: Option<&str>,
) -> Result<Settings, Failure> {
    let arguments = SettingArguments {
        memory_limit: memory_limit.map(str::to_owned),
        config: Some(path.to_owned()),
        ..SettingArguments::default()
    };
    let flags = flags::of_settings(&arguments)?;
    Ok(resolve::settings(registry, &arguments, flags, ranks::team().size())?.settings)
}

/// What a resumed run is to do about faults from here on.
pub(crate) fn on_fault(text: &str) -> Result<OnFault, Failure> {
    let policies = [OnFault::Stop, OnFault::RollBack, OnFault::Skip];
    let name =
        |policy: OnFault| Value::try_from(policy).ok().and_then(|name| name.as_str().map(str::to_owned));
    let found = policies.into_iter().find(|&policy| name(policy).as_deref() == Some(text));
    found.ok_or_else(|| {
        let names = policies.map(|policy| name(policy).unwrap_or_default()).join(", ");
        Failure::new(format!("`--on-fault {text}` must be one of {names}"))
    })
}

/// Replaces the ends of a resumed run by those that were given; says whether any was. What counts how long nothing gets
/// better stays; levels of losses, gradients and steps go, since the run may be at them. `judges` tells whether an
/// optimizer of the run chooses its steps by how the end is counted.
pub(crate) fn extend(
    settings: &mut Settings,
    judges: bool,
    arguments: &ResumeArguments,
) -> Result<bool, Failure> {
    let time = arguments.time.as_deref().map(|text| seconds("--time", text)).transpose()?;
    if arguments.steps.is_none() && arguments.epochs.is_none() && time.is_none() {
        return Ok(false);
    }
    if settings.training.schedule != Schedule::Constant {
        return Err(Failure::new(format!(
            "this run's learning rate follows a schedule to its end, which cannot be moved; start another run from its weights with {} train --from",
            program()
        )));
    }
    let counted = settings.counts_steps();
    settings.stop = StopSettings {
        steps: count("--steps", arguments.steps.as_deref())?,
        epochs: count("--epochs", arguments.epochs.as_deref())?,
        time,
        patience: settings.stop.patience,
        still: settings.stop.still,
        ..StopSettings::default()
    };
    if judges && settings.counts_steps() != counted {
        let (what, flags) = if counted { ("", "--steps or --epochs") } else { ("not ", "--time") };
        return Err(Failure::new(format!(
            "hig-auto has chosen this run's steps for an end that is {what}counted in steps; give it {flags}"
        )));
    }
    Ok(true)
}

/// A number of steps or epochs to end after, where one was given.
fn count(flag: &str, text: Option<&str>) -> Result<Option<u64>, Failure> {
    let Some(text) = text else { return Ok(None) };
    match text.parse() {
        Ok(number) if (1..=MOST_STEPS).contains(&number) => Ok(Some(number)),
        _ => Err(Failure::new(format!("`{flag} {text}` must be a whole number from 1 to {MOST_STEPS}"))),
    }
}
