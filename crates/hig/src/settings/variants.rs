//! The settings of a study's variants.

use halfinverse::task::{Task, TaskName};
use toml::Value;

use super::{Given, budget_flags, defaults, optimizer_name, parse, resolve, setting_flags};
use crate::arguments::{BudgetArguments, SettingArguments};
use crate::failure::Failure;

/// What makes a variant of a study differ from the others.
#[derive(Debug, Clone, Default)]
pub(crate) struct Variation {
    pub(crate) label: String,
    pub(crate) optimizer: Option<String>,
    /// Settings by name or by one of the short names of [`long_name`], and their values.
    pub(crate) sets: Vec<(String, String)>,
}

/// The task of each variant. A setting of some optimizers only is given to these; one of none is refused.
pub(crate) fn for_study(
    arguments: &SettingArguments,
    budget: &BudgetArguments,
    variations: &[Variation],
) -> Result<Vec<(String, Task)>, Failure> {
    if variations.is_empty() {
        return Err(Failure::new("there is nothing to compare; name something, as in --optimizers hig,adam"));
    }
    let mut flags = setting_flags(arguments)?;
    budget_flags(budget, &mut flags)?;
    let mut unused: Vec<String> = flags
        .keys()
        .filter(|key| key.starts_with("optimizer.") && *key != "optimizer.name")
        .cloned()
        .collect();
    let mut tasks: Vec<(String, Task)> = Vec::new();
    for variation in variations {
        if tasks.iter().any(|(label, _)| *label == variation.label) {
            return Err(Failure::new(format!("{} is named twice; keep one", variation.label)));
        }
        let mut own = flags.clone();
        if let Some(name) = &variation.optimizer {
            let place = "--optimizers".to_owned();
            own.insert("optimizer.name".to_owned(), Given { value: Value::String(name.clone()), place });
            let last = optimizer_name(name.rsplit('+').next().unwrap_or(name), "--optimizers")?;
            let has =
                |key: &str| TaskName::ALL.first().is_some_and(|&task| defaults(task, last).contains_key(key));
            unused.retain(|key| !has(key));
            own.retain(|key, _| !key.starts_with("optimizer.") || key == "optimizer.name" || has(key));
        } else {
            unused.clear();
        }
        let shape = if variation.sets.iter().any(|(key, _)| key == "depth" || key == "width") {
            resolve(arguments, own.clone())?.settings().network.hidden.clone()
        } else {
            Vec::new()
        };
        for (key, text) in &variation.sets {
            let (key, value) = long_name(key, text, &shape)?;
            let place = format!("--vary {}", variation.label);
            own.insert(key, Given { value, place });
        }
        tasks.push((variation.label.clone(), resolve(arguments, own)?));
    }
    match unused.first() {
        Some(key) => Err(Failure::new(format!("none of these optimizers has the setting `{key}`"))),
        None => Ok(tasks),
    }
}

/// The setting that a short name of an ablation stands for, and its value; `shape` is the network's as it would be.
fn long_name(key: &str, text: &str, shape: &[usize]) -> Result<(String, Value), Failure> {
    let count = || {
        text.parse::<usize>().ok().filter(|&count| count > 0).ok_or_else(|| {
            Failure::new(format!("`{key}` is {text}, but must be a whole number of at least 1 (--vary)"))
        })
    };
    let hidden = |widths: Vec<usize>| {
        Value::Array(
            widths.into_iter().map(|w| Value::Integer(i64::try_from(w).unwrap_or(i64::MAX))).collect(),
        )
    };
    let (key, value) = match key {
        "depth" => ("network.hidden", hidden(vec![shape.first().copied().unwrap_or(20); count()?])),
        "width" => ("network.hidden", hidden(vec![count()?; shape.len().max(1)])),
        "krylov" => ("optimizer.solver", Value::String(format!("krylov:{}", count()?))),
        "kappa" | "truncation" | "solver" => {
            return Ok((format!("optimizer.{key}"), parse(text)));
        }
        "lr" => ("optimizer.learning_rate", parse(text)),
        "batch" => ("training.batch", parse(text)),
        key => (key, parse(text)),
    };
    Ok((key.to_owned(), value))
}
