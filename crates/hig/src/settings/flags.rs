//! What was typed on the command line, as settings.

use std::path::Path;

use toml::{Table, Value};

use super::givens::Givens;
use super::units::seconds;
use crate::arguments::{BudgetArguments, FitArguments, SettingArguments};
use crate::failure::Failure;
use crate::lists::list;
use crate::voice::program;

/// The settings that flags and `--set` give.
pub(super) fn of_settings(arguments: &SettingArguments) -> Result<Givens, Failure> {
    let mut flags = Givens::default();
    for (key, flag, text) in [
        ("optimizer.name", "--optimizer", &arguments.optimizer),
        ("training.batch", "--batch", &arguments.batch),
        ("optimizer.learning_rate", "--lr", &arguments.lr),
        ("optimizer.kappa", "--kappa", &arguments.kappa),
        ("optimizer.truncation", "--truncation", &arguments.truncation),
        ("optimizer.solver", "--solver", &arguments.solver),
        ("training.seed", "--seed", &arguments.seed),
        ("training.threads", "--threads", &arguments.threads),
        ("training.on_fault", "--on-fault", &arguments.on_fault),
    ] {
        if let Some(text) = text {
            flags.give(key, flag, parse(text))?;
        }
    }
    for pair in &arguments.set {
        let Some((key, text)) = pair.split_once('=') else {
            return Err(Failure::new(format!("`--set {pair}` has no value; write --set key=value")));
        };
        if key.trim() == "task" {
            return Err(Failure::new(format!(
                "the task is no setting; name it as the argument, as in `{} train oscillators`",
                program()
            )));
        }
        flags.give(key.trim(), &format!("--set {pair}"), parse(text.trim()))?;
    }
    Ok(flags)
}

/// Adds the ends of a run.
pub(super) fn add_budget(budget: &BudgetArguments, flags: &mut Givens) -> Result<(), Failure> {
    for (key, flag, text) in [
        ("stop.steps", "--steps", &budget.steps),
        ("stop.epochs", "--epochs", &budget.epochs),
        ("stop.target_loss", "--target-loss", &budget.target_loss),
        ("stop.patience", "--patience", &budget.patience),
    ] {
        if let Some(text) = text {
            flags.give(key, flag, parse(text))?;
        }
    }
    if let Some(text) = &budget.time {
        flags.give("stop.time", "--time", Value::Float(seconds("--time", text)?))?;
    }
    Ok(())
}

/// Adds a data file and its columns.
pub(super) fn add_data(data: &FitArguments, flags: &mut Givens) -> Result<(), Failure> {
    let path = |path: &Path| Value::String(path.display().to_string());
    flags.give("data.path", "DATA", path(&data.data))?;
    if let Some(test) = &data.test {
        flags.give("data.test_path", "--test", path(test))?;
    }
    if let Some(share) = &data.test_share {
        flags.give("data.test_share", "--test-share", parse(share))?;
    }
    for (key, flag, columns) in
        [("data.inputs", "--inputs", &data.inputs), ("data.targets", "--targets", &data.targets)]
    {
        let Some(columns) = columns else { continue };
        let names: Vec<Value> =
            list(columns).into_iter().map(|name| Value::String(name.to_owned())).collect();
        if names.is_empty() {
            return Err(Failure::new(format!("{flag} names no column; write {flag} a,b or {flag} 1-3")));
        }
        flags.give(key, flag, Value::Array(names))?;
    }
    for (key, flag, word) in [
        ("data.missing", "--missing", &data.missing),
        ("data.header", "--header", &data.header),
        ("data.weights", "--weights", &data.weights),
    ] {
        if let Some(word) = word {
            flags.give(key, flag, Value::String(word.clone()))?;
        }
    }
    Ok(())
}

/// A value as TOML reads it, or the text itself.
pub(super) fn parse(text: &str) -> Value {
    format!("value = {text}")
        .parse::<Table>()
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}
