//! The settings of a study's variants.

use halfinverse::task::{Registry, Settings, nearest};
use toml::Value;

use super::flags;
use super::givens::{Given, Givens};
use super::resolve::{self, Resolved};
use crate::arguments::{BudgetArguments, SettingArguments};
use crate::failure::Failure;
use crate::voice::program;

/// Ranks that a cell of a study has.
const ALONE: usize = 1;

/// What makes a variant of a study differ from the others.
#[derive(Debug, Clone, Default)]
pub(crate) struct Variation {
    pub(crate) label: String,
    pub(crate) optimizer: Option<String>,
    /// Settings by name or by one of the short names of [`long_name`], and their values.
    pub(crate) sets: Vec<(String, String)>,
}

/// A variant of a study.
pub(crate) struct Chosen {
    pub(crate) label: String,
    pub(crate) settings: Settings,
    /// What there is to say of the settings.
    pub(crate) advice: Option<String>,
}

/// The settings of each variant, checked before data are drawn. A setting of some optimizers only is given to these;
/// one of none is refused.
pub(crate) fn for_study(
    registry: &Registry,
    arguments: &SettingArguments,
    budget: &BudgetArguments,
    variations: &[Variation],
    quiet: bool,
) -> Result<Vec<Chosen>, Failure> {
    if variations.is_empty() {
        return Err(Failure::new("there is nothing to compare; name something, as in --optimizers hig,adam"));
    }
    let mut flags = flags::of_settings(arguments)?;
    flags::add_budget(budget, &mut flags)?;
    let own = |key: &str| key.starts_with("optimizer.") && key != "optimizer.name";
    let mut unused: Vec<String> = flags.keys().filter(|key| own(key)).cloned().collect();
    let mut variants: Vec<Chosen> = Vec::new();
    for variation in variations {
        if variants.iter().any(|variant| variant.label == variation.label) {
            return Err(Failure::new(format!("{} is named twice; keep one", variation.label)));
        }
        let mut flags = flags.clone();
        if let Some(name) = &variation.optimizer {
            let last = name.rsplit('+').next().unwrap_or(name);
            resolve::check_optimizer(registry, last, "--optimizers")?;
            let has = |key: &str| {
                let key = key.strip_prefix("optimizer.").unwrap_or(key);
                registry.entry(last).is_ok_and(|entry| entry.defaults().contains_key(key))
            };
            unused.retain(|key| !has(key));
            flags.retain(|key| !own(key) || has(key));
            let place = "--optimizers".to_owned();
            flags.put("optimizer.name".to_owned(), Given { value: Value::String(name.clone()), place });
        } else {
            unused.clear();
        }
        vary(registry, arguments, variation, &mut flags)?;
        let mut resolved = resolve::settings(registry, arguments, flags, ALONE)?;
        resolved.keep_to_cores(quiet);
        let Resolved { settings, advice, .. } = resolved;
        variants.push(Chosen { label: variation.label.clone(), settings, advice });
    }
    match unused.first() {
        Some(key) => Err(Failure::new(format!("none of these optimizers has the setting `{key}`"))),
        None => Ok(variants),
    }
}

/// Adds a variation's own settings.
fn vary(
    registry: &Registry,
    arguments: &SettingArguments,
    variation: &Variation,
    flags: &mut Givens,
) -> Result<(), Failure> {
    let shaped = variation.sets.iter().any(|(key, _)| key == "depth" || key == "width");
    let shape = if shaped {
        resolve::settings(registry, arguments, flags.clone(), ALONE)?.settings.network.hidden
    } else {
        Vec::new()
    };
    for (key, text) in &variation.sets {
        let (key, value) = long_name(key, text, &shape)?;
        flags.put(key, Given { value, place: format!("--vary {}", variation.label) });
    }
    Ok(())
}

const SHORT_NAMES: [&str; 8] = ["batch", "depth", "kappa", "krylov", "lr", "solver", "truncation", "width"];

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
            return Ok((format!("optimizer.{key}"), flags::parse(text)));
        }
        "lr" => ("optimizer.learning_rate", flags::parse(text)),
        "batch" => ("training.batch", flags::parse(text)),
        key if !key.contains('.') => {
            let near = nearest(key, SHORT_NAMES)
                .unwrap_or_else(|| format!("`{} tasks` lists the settings", program()));
            return Err(Failure::new(format!("unknown setting `{key}`; {near} (--vary)")));
        }
        key => (key, flags::parse(text)),
    };
    Ok((key.to_owned(), value))
}
