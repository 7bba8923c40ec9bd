//! `hig tasks`: what can be trained, with its settings.

use std::collections::BTreeMap;
use std::process::ExitCode;

use halfinverse::task::Registry;
use serde_json::{Map, json};
use toml::{Table, Value};

use crate::arguments::TasksArguments;
use crate::failure::Failure;
use crate::voice::{program, put};

pub(crate) fn run(registry: &Registry, arguments: &TasksArguments) -> Result<ExitCode, Failure> {
    if arguments.schema {
        put(format_args!("{:#}", registry.schema()));
    } else if arguments.json {
        put(json(registry)?);
    } else {
        text(registry)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// All settings of a task with an optimizer, by dotted name, with their defaults.
fn defaults(registry: &Registry, file: &Table, optimizer: &str) -> Result<BTreeMap<String, Value>, Failure> {
    let mut flat = BTreeMap::new();
    flatten("", &registry.defaults(file, optimizer)?, &mut flat);
    Ok(flat)
}

fn flatten(prefix: &str, table: &Table, flat: &mut BTreeMap<String, Value>) {
    for (key, value) in table {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(table) => flatten(&name, table, flat),
            value => drop(flat.insert(name, value.clone())),
        }
    }
}

fn about(file: &Table) -> &str {
    file.get("about").and_then(Value::as_str).unwrap_or("a task of your own")
}

fn json(registry: &Registry) -> Result<serde_json::Value, Failure> {
    let mut tasks = Map::new();
    for (name, file) in registry.tasks() {
        let mut optimizers = Map::new();
        for entry in registry.optimizers() {
            optimizers.insert(entry.name.to_owned(), json!(defaults(registry, file, entry.name)?));
        }
        tasks.insert(name.to_owned(), json!({ "about": about(file), "settings": optimizers }));
    }
    Ok(tasks.into())
}

fn text(registry: &Registry) -> Result<(), Failure> {
    for (name, file) in registry.tasks() {
        put(format_args!("{name}: {}", about(file)));
        let mut all = Vec::new();
        for entry in registry.optimizers() {
            all.push((entry.name, defaults(registry, file, entry.name)?));
        }
        let Some((_, first)) = all.first() else { continue };
        for (key, value) in first.iter().filter(|(key, _)| !key.starts_with("optimizer.")) {
            let differing = all.iter().filter(|(_, settings)| settings.get(key) != Some(value));
            let others =
                differing.filter_map(|(name, settings)| Some(format!("{name}: {}", settings.get(key)?)));
            let others = others.collect::<Vec<_>>().join(", ");
            let others = if others.is_empty() { others } else { format!("   ({others})") };
            put(format_args!("  {key} = {value}{others}"));
        }
        for (name, settings) in &all {
            let own = settings.iter().filter_map(|(key, value)| {
                let key = key.strip_prefix("optimizer.").filter(|&key| key != "name")?;
                Some(format!("{key} = {value}"))
            });
            put(format_args!("  --optimizer {name}: {}", own.collect::<Vec<_>>().join(", ")));
        }
    }
    put("Optimizers:");
    for entry in registry.optimizers() {
        put(format_args!("  {}: {}", entry.name, entry.about));
    }
    for line in [
        "Settings go behind --set, as in --set network.hidden=[32,32]; optimizer settings as optimizer.NAME.",
        "0 stands for all cores in training.threads, and for at most 5 % of the time in training.evaluate_every.",
        "A run stops at the first of stop.steps, stop.epochs, stop.time (seconds), stop.target_loss (test loss);",
        "  stop.patience = n: n evaluations in a row without a new lowest test loss;",
        "  stop.relative_loss = x: the test loss changed by at most x of itself since the evaluation before, and a step moved the parameters;",
        "  stop.step = x: a step moved the parameters by at most x(|parameters| + x), but above round-off;",
        "  stop.gradient = x: the mini-batch's gradient is at most x times as long as at the first step, with optimizers that tell it;",
        "  stop.still = n: n steps in a row, and half of all, did not change the parameters above round-off; 0 for never.",
    ] {
        put(line);
    }
    put(format_args!(
        "A task of your own is a TOML file: {name} train FILE.toml. `{name} tasks --schema` prints the JSON Schema of such files.",
        name = program()
    ));
    put(
        "A simulator of differential equations needs no Rust: simulator.kind = \"ode\" takes them as text (docs/own.md).",
    );
    Ok(())
}
