//! From defaults, file, flags and `--set` to checked settings, with every refusal naming where the value came from.
//!
//! A flag or `--set` wins over the file, the file over the task's defaults. Any stop that is given replaces the
//! task's default stops.

mod file;
#[cfg(test)]
mod tests;
mod variants;

use std::collections::BTreeMap;
use std::path::Path;

use halfinverse::SettingError;
use halfinverse::spectral::Solver;
use halfinverse::task::{
    Forecast, OnFault, OptimizerName, Schedule, Settings, Stage, StopSettings, Task, TaskName,
};
use halfinverse::training::MOST_STEPS;
use toml::{Table, Value};
pub(crate) use variants::{Variation, for_study};

use crate::arguments::{BudgetArguments, ResumeArguments, SettingArguments, TrainArguments};
use crate::failure::{Failure, nearest, unknown_name};
use crate::memory;

/// Settings that have no default value to tell their name and type.
const OPTIONAL: [(&str, Kind); 6] = [
    ("stop.steps", Kind::Count),
    ("stop.epochs", Kind::Count),
    ("stop.time", Kind::Number),
    ("stop.target_loss", Kind::Number),
    ("training.from", Kind::Text),
    ("before", Kind::Stages),
];

/// A value somebody gave, and where.
#[derive(Debug, Clone, PartialEq)]
struct Given {
    value: Value,
    place: String,
}

type Givens = BTreeMap<String, Given>;

/// What a setting holds.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Count,
    Number,
    Flag,
    Text,
    List,
    Stages,
}

impl Kind {
    fn of(value: &Value) -> Self {
        match value {
            Value::Integer(_) => Self::Count,
            Value::Float(_) => Self::Number,
            Value::Boolean(_) => Self::Flag,
            Value::Array(_) => Self::List,
            Value::String(_) | Value::Datetime(_) | Value::Table(_) => Self::Text,
        }
    }

    /// The value as this kind, or what would have been accepted.
    fn accept(self, value: &Value) -> Result<Value, &'static str> {
        match (self, value) {
            (Self::Count, Value::Integer(count)) if *count >= 0 => Ok(value.clone()),
            (Self::Count, _) => Err("a whole number from 0 to 9223372036854775807"),
            (Self::Number, Value::Integer(number)) => Ok(Value::Float(*number as f64)),
            (Self::Number, Value::Float(_))
            | (Self::Flag, Value::Boolean(_))
            | (Self::Text, Value::String(_)) => Ok(value.clone()),
            (Self::List, Value::Array(items))
                if items.iter().all(|item| Self::Count.accept(item).is_ok()) =>
            {
                Ok(value.clone())
            }
            (Self::Stages, Value::Array(stages)) if stages.iter().all(Value::is_table) => Ok(value.clone()),
            (Self::Stages, _) => Err("a list of tables, as --optimizer adam:2000,hig makes it"),
            (Self::Number, _) => Err("a number"),
            (Self::Flag, _) => Err("true or false"),
            (Self::Text, _) => Err("a text"),
            (Self::List, _) => Err("a list of whole numbers such as [20, 20]"),
        }
    }
}

/// The task that the arguments of a training run describe, checked.
pub(crate) fn for_training(arguments: &TrainArguments) -> Result<Task, Failure> {
    let mut flags = setting_flags(&arguments.settings)?;
    budget_flags(&arguments.budget, &mut flags)?;
    if let Some(path) = &arguments.from {
        let full = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        give(&mut flags, "training.from", "--from", Value::String(full.display().to_string()))?;
    }
    resolve(&arguments.settings, flags)
}

fn budget_flags(budget: &BudgetArguments, flags: &mut Givens) -> Result<(), Failure> {
    for (key, flag, text) in [
        ("stop.steps", "--steps", &budget.steps),
        ("stop.epochs", "--epochs", &budget.epochs),
        ("stop.target_loss", "--target-loss", &budget.target_loss),
    ] {
        if let Some(text) = text {
            give(flags, key, flag, parse(text))?;
        }
    }
    if let Some(text) = &budget.time {
        give(flags, "stop.time", "--time", Value::Float(seconds("--time", text)?))?;
    }
    Ok(())
}

/// The task that the arguments of any other command describe, checked.
pub(crate) fn for_task(arguments: &SettingArguments) -> Result<Task, Failure> {
    let flags = setting_flags(arguments)?;
    resolve(arguments, flags)
}

/// `config.toml` of a run's folder.
pub(crate) fn from_file(path: &Path, memory_limit: Option<&str>) -> Result<Task, Failure> {
    let arguments = SettingArguments {
        task: None,
        optimizer: None,
        batch: None,
        lr: None,
        kappa: None,
        truncation: None,
        solver: None,
        seed: None,
        threads: None,
        on_fault: None,
        memory_limit: memory_limit.map(str::to_owned),
        config: Some(path.to_owned()),
        set: Vec::new(),
    };
    for_task(&arguments)
}

/// The settings of a run as TOML.
pub(crate) fn to_toml(settings: &Settings) -> String {
    toml::to_string(settings).expect("settings are plain tables")
}

/// All settings of a task with an optimizer, by dotted name, with their defaults.
pub(crate) fn defaults(task: TaskName, optimizer: OptimizerName) -> BTreeMap<String, Value> {
    let table = Table::try_from(Settings::new(task, optimizer)).expect("settings are plain tables");
    let mut flat = BTreeMap::new();
    flatten("", &table, &mut flat);
    flat
}

fn setting_flags(arguments: &SettingArguments) -> Result<Givens, Failure> {
    let mut flags = Givens::new();
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
            give(&mut flags, key, flag, parse(text))?;
        }
    }
    for pair in &arguments.set {
        let Some((key, text)) = pair.split_once('=') else {
            return Err(Failure::new(format!("`--set {pair}` has no value; write --set key=value")));
        };
        if key.trim() == "task" {
            return Err(Failure::new(
                "the task is no setting; name it as the argument, as in `hig train oscillators`",
            ));
        }
        give(&mut flags, key.trim(), &format!("--set {pair}"), parse(text.trim()))?;
    }
    Ok(flags)
}

/// Keeps a value that was typed; two different ones for the same setting contradict each other.
fn give(flags: &mut Givens, key: &str, place: &str, value: Value) -> Result<(), Failure> {
    match flags.get(key) {
        Some(other) if other.value != value => Err(Failure::new(format!(
            "`{key}` is given twice: {} by {}, {value} by {place}; keep one",
            other.value, other.place
        ))),
        _ => {
            flags.insert(key.to_owned(), Given { value, place: place.to_owned() });
            Ok(())
        }
    }
}

/// A value as TOML reads it, or the text itself.
fn parse(text: &str) -> Value {
    format!("value = {text}")
        .parse::<Table>()
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

/// What a run that is gone on with is to do about faults from here on.
pub(crate) fn on_fault(text: &str) -> Result<OnFault, Failure> {
    Value::String(text.to_owned()).try_into().map_err(|error: toml::de::Error| {
        Failure::new(format!("`--on-fault {text}` must be {}", choices(error.message(), text)))
    })
}

/// Replaces the ends of a run that is gone on with by those that were given; says whether any was.
pub(crate) fn extend(settings: &mut Settings, arguments: &ResumeArguments) -> Result<bool, Failure> {
    let time = arguments.time.as_deref().map(|text| seconds("--time", text)).transpose()?;
    if arguments.steps.is_none() && arguments.epochs.is_none() && time.is_none() {
        return Ok(false);
    }
    if settings.training.schedule != Schedule::Constant {
        return Err(Failure::new(
            "this run's learning rate follows a schedule to its end, which cannot be moved; start another run from its weights with hig train --from",
        ));
    }
    let counted = settings.counts_steps();
    settings.stop = StopSettings {
        steps: count("--steps", arguments.steps.as_deref())?,
        epochs: count("--epochs", arguments.epochs.as_deref())?,
        time,
        target_loss: None,
    };
    if settings.has_auto() && settings.counts_steps() != counted {
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

/// `30s`, `500ms`, `5m`, `1h`, or a plain number of seconds.
pub(crate) fn seconds(flag: &str, text: &str) -> Result<f64, Failure> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[number.len()..] {
        "ms" => Some(1e-3),
        "" | "s" => Some(1.0),
        "m" | "min" => Some(60.0),
        "h" => Some(3600.0),
        _ => None,
    };
    match (number.parse::<f64>(), unit) {
        (Ok(number), Some(unit)) if number > 0.0 && number.is_finite() => Ok(number * unit),
        _ => Err(Failure::new(format!("{flag} {text} is no time above 0; write 30s, 500ms, 5m or 1h"))),
    }
}

fn resolve(arguments: &SettingArguments, flags: Givens) -> Result<Task, Failure> {
    let file = match &arguments.config {
        Some(path) => file::read(path)?,
        None => Givens::new(),
    };
    let (settings, givens) = merge(arguments.task.as_deref(), file, flags)?;
    let placed = |error: SettingError| match givens.get(&error.key) {
        Some(given) => Failure::new(format!("{error} ({})", given.place)),
        None => error.into(),
    };
    // Before the data are drawn.
    let forecast = Forecast::new(&settings).map_err(placed)?;
    memory::check(&forecast, arguments.memory_limit.as_deref())?;
    Task::new(settings).map_err(placed)
}

/// What file and flags make of the defaults, and all that they gave.
fn merge(task: Option<&str>, mut file: Givens, mut flags: Givens) -> Result<(Settings, Givens), Failure> {
    let task = task_name(task, file.remove("task"))?;
    let named = |given: Option<Given>| match given {
        Some(Given { value, place }) => optimizer_name(&text_of(&value), &place).map(Some),
        None => Ok(None),
    };
    let in_file = named(file.remove("optimizer.name"))?;
    let turns = match flags.remove("optimizer.name") {
        Some(Given { value, place }) => {
            let batch = flags.get("training.batch").or(file.get("training.batch")).map(|given| &given.value);
            let (before, last) = turns(task, batch, &text_of(&value), &place)?;
            file.remove("before");
            if !before.is_empty() {
                flags.insert("before".to_owned(), Given { value: Value::Array(before), place });
            }
            Some(last)
        }
        None => None,
    };
    let optimizer = turns.or(in_file).unwrap_or(OptimizerName::Hig);
    if in_file.is_some_and(|in_file| in_file != optimizer) {
        // Another optimizer than the file's: its hyper-parameters mean nothing to this one.
        file.retain(|key, _| !key.starts_with("optimizer."));
    }
    file.append(&mut flags);
    Ok((overlay(task, optimizer, &file)?, file))
}

/// What `--optimizer adam:2000,hig` says: the stages before the last optimizer, each with its defaults, and that one.
/// A mini-batch that was asked for holds for all of them.
fn turns(
    task: TaskName,
    batch: Option<&Value>,
    text: &str,
    place: &str,
) -> Result<(Vec<Value>, OptimizerName), Failure> {
    let mut parts: Vec<&str> = text.split([',', '+']).map(str::trim).collect();
    let last = optimizer_name(parts.pop().unwrap_or_default(), place)?;
    let stage = |part: &str| {
        let Some((name, steps)) = part.split_once(':') else {
            return Err(Failure::new(format!(
                "`{part}` comes before another optimizer, so it needs a number of steps, as in {part}:2000 ({place})"
            )));
        };
        let optimizer = optimizer_name(name, place)?;
        let Ok(steps) = steps.parse::<u64>() else {
            return Err(Failure::new(format!("`{steps}` is no number of steps for {name} ({place})")));
        };
        let defaults = Settings::new(task, optimizer);
        let stage = Stage { steps, batch: defaults.training.batch, optimizer: defaults.optimizer };
        let mut table = Table::try_from(stage).expect("settings are plain tables");
        if let Some(batch) = batch {
            table.insert("batch".to_owned(), batch.clone());
        }
        Ok(Value::Table(table))
    };
    Ok((parts.into_iter().map(stage).collect::<Result<_, _>>()?, last))
}

fn optimizer_name(name: &str, place: &str) -> Result<OptimizerName, Failure> {
    let known: Vec<String> = OptimizerName::ALL.iter().map(ToString::to_string).collect();
    name.parse().map_err(|_| unknown_name("optimizer", name, &format!(" ({place})"), &known))
}

fn task_name(task: Option<&str>, in_file: Option<Given>) -> Result<TaskName, Failure> {
    let in_file = in_file.map(|given| (text_of(&given.value), given.place));
    let (name, place) = match (task, in_file) {
        (Some(task), Some((other, place))) if task != other => {
            return Err(Failure::new(format!(
                "the task is {task} on the command line and {other} in {place}; keep one"
            )));
        }
        (Some(task), _) => (task.to_owned(), String::new()),
        (None, Some((task, place))) => (task, format!(" ({place})")),
        (None, None) => {
            return Err(Failure::new(
                "no task was named; `hig tasks` lists them, as in `hig train oscillators`",
            ));
        }
    };
    let known: Vec<String> = TaskName::ALL.iter().map(ToString::to_string).collect();
    name.parse().map_err(|_| unknown_name("task", &name, &place, &known))
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The defaults with what was given on top.
fn overlay(task: TaskName, optimizer: OptimizerName, givens: &Givens) -> Result<Settings, Failure> {
    let defaults = defaults(task, optimizer);
    let mut table = Table::try_from(Settings::new(task, optimizer)).expect("settings are plain tables");
    if givens.keys().any(|key| key.starts_with("stop.")) {
        table.remove("stop");
    }
    for (key, given) in givens {
        let kind = match (defaults.get(key), OPTIONAL.iter().find(|(name, _)| name == key)) {
            (_, Some(&(_, kind))) => kind,
            (Some(default), None) => Kind::of(default),
            (None, None) => return Err(unknown(task, optimizer, key, &given.place, &defaults)),
        };
        let refuse = |expected: &str| {
            Failure::new(format!("`{key}` is {}, but must be {expected} ({})", given.value, given.place))
        };
        let value = kind.accept(&given.value).map_err(refuse)?;
        insert(&mut table, key, value);
        // One at a time, so that a word that is not among the choices is blamed on its own setting.
        if let Err(error) = deserialize(&table) {
            return Err(refuse(&choices(&error, &text_of(&given.value))));
        }
    }
    deserialize(&table).map_err(Failure::new)
}

fn deserialize(table: &Table) -> Result<Settings, String> {
    table.clone().try_into().map_err(|error: toml::de::Error| error.message().to_owned())
}

/// What a refused word should have been, from the words of the deserializer or of [`Solver`].
fn choices(error: &str, word: &str) -> String {
    if error.contains("no solver") {
        let vectors = word.split_once(':').map_or("16", |(_, vectors)| vectors);
        let names = ["svd".to_owned(), "gram".to_owned(), "auto".to_owned(), format!("krylov:{vectors}")];
        let near =
            nearest(word, names.iter().map(String::as_str).filter(|name| name.parse::<Solver>().is_ok()));
        return format!("{}{}", Solver::SYNTAX, near.map_or_else(String::new, |near| format!("; {near}")));
    }
    let listed = error.split_once("expected ").map_or(error, |(_, listed)| listed);
    let names: Vec<&str> = listed.split('`').skip(1).step_by(2).collect();
    let near = nearest(word, names.iter().copied());
    format!("one of {}{}", names.join(", "), near.map_or_else(String::new, |near| format!("; {near}")))
}

fn unknown(
    task: TaskName,
    optimizer: OptimizerName,
    key: &str,
    place: &str,
    defaults: &BTreeMap<String, Value>,
) -> Failure {
    let of_another = OptimizerName::ALL.iter().any(|&name| self::defaults(task, name).contains_key(key));
    if of_another {
        let own: Vec<&str> = defaults.keys().filter_map(|key| key.strip_prefix("optimizer.")).collect();
        let own = own.into_iter().filter(|&name| name != "name").collect::<Vec<_>>().join(", ");
        let own = if own.is_empty() { "none" } else { &own };
        return Failure::new(format!("`{key}` is no setting of {optimizer} ({place}); it has {own}"));
    }
    let names = defaults.keys().map(String::as_str).chain(OPTIONAL.iter().map(|&(name, _)| name));
    let hint = nearest(key, names);
    let mend = hint.unwrap_or_else(|| "`hig tasks` lists the settings".to_owned());
    Failure::new(format!("unknown setting `{key}` ({place}); {mend}"))
}

fn flatten(prefix: &str, table: &Table, flat: &mut BTreeMap<String, Value>) {
    for (key, value) in table {
        let name = join(prefix, key);
        match value {
            Value::Table(table) => flatten(&name, table, flat),
            value => drop(flat.insert(name, value.clone())),
        }
    }
}

fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}

fn insert(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => drop(table.insert(key.to_owned(), value)),
        Some((section, rest)) => {
            let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(section) = section {
                insert(section, rest, value);
            }
        }
    }
}
