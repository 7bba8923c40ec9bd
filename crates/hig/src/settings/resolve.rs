//! From task, files and flags to checked settings, with every refusal naming where the value came from.
//!
//! A flag or `--set` wins over the file, the file over the task's defaults. Any stop that is given replaces the
//! task's default stops.

use std::path::Path;
use std::sync::Once;

use halfinverse::SettingError;
use halfinverse::optimizer::{AutoSettings, KronSettings, Setup as _};
use halfinverse::task::{Forecast, Registry, Settings, Task, nearest};
use halfinverse::training::Schedule;
use toml::{Table, Value};

use super::givens::{Given, Givens};
use super::{advice, file};
use crate::arguments::SettingArguments;
use crate::failure::{Failure, unknown_name};
use crate::memory;
use crate::ranks;
use crate::voice::{program, say};

/// Optimizer where neither command line nor task names one: the one that needs no setting.
const OPTIMIZER: &str = "hig-auto";

/// The task that was asked for, checked, its data drawn, and what there is to say of its settings.
pub(super) fn task(
    registry: &Registry,
    arguments: &SettingArguments,
    flags: Givens,
    quiet: bool,
) -> Result<(Task, Option<String>), Failure> {
    let mut resolved = settings(registry, arguments, flags, ranks::team().size())?;
    resolved.keep_to_cores(quiet);
    let Resolved { settings, givens, advice } = resolved;
    Ok((Task::with(settings, registry).map_err(|error| givens.placed(&error))?, advice))
}

/// Settings that would fit into memory, and all that was given for them.
pub(super) struct Resolved {
    pub(super) settings: Settings,
    pub(super) givens: Givens,
    /// What there is to say of the settings.
    pub(super) advice: Option<String>,
}

impl Resolved {
    /// Takes no more threads than the machine has cores; says so, once, where more were asked for.
    pub(super) fn keep_to_cores(&mut self, quiet: bool) {
        static SAID: Once = Once::new();
        let cores = ranks::cores();
        let threads = self.settings.training.threads;
        if threads == 0 && ranks::team().size() > 1 {
            self.settings.training.threads = cores;
            return;
        }
        if threads <= cores {
            return;
        }
        self.settings.training.threads = cores;
        let place = self.givens.get("training.threads").map_or("", |given| &given.place);
        let asked = match place {
            "--threads" => format!("--threads {threads}"),
            place => format!("training.threads = {threads} ({place})"),
        };
        let noun = if cores == 1 { "core" } else { "cores" };
        SAID.call_once(|| say(quiet, &format!("{asked}: this machine has {cores} {noun}; taking {cores}")));
    }

    /// A refusal with its place, and the mend where that is another command's to tell.
    fn refused(&self, error: &SettingError) -> Failure {
        let failure = self.givens.placed(error);
        let Settings { task, optimizer, stop, training, .. } = &self.settings;
        let endless =
            training.schedule != Schedule::Constant && stop.steps.is_none() && stop.epochs.is_none();
        if error.key() != "training.schedule" || !endless {
            return failure;
        }
        failure.with(&format!(
            "or add --steps N; `{} bench {task} --optimizer {}` prints the milliseconds of a whole step, from which N follows",
            program(),
            optimizer.name
        ))
    }
}

/// The settings that were asked for, of a run that so many ranks share, checked as far as can be before data are drawn.
pub(super) fn settings(
    registry: &Registry,
    arguments: &SettingArguments,
    flags: Givens,
    ranks: usize,
) -> Result<Resolved, Failure> {
    let own = arguments.task.as_deref().filter(|task| is_file(task));
    let mut files = match own {
        Some(path) => {
            let mut givens = file::read(Path::new(path), registry.schema())?;
            if givens.get("task").is_none() {
                let stem = Path::new(path).file_stem().unwrap_or_default().to_string_lossy().into_owned();
                givens.put("task".to_owned(), Given { value: Value::String(stem), place: path.to_owned() });
            }
            givens
        }
        None => Givens::default(),
    };
    if let Some(path) = &arguments.config {
        files.append(file::read(path, registry.schema())?);
    }
    let name = arguments.task.as_deref().filter(|_| own.is_none());
    let mut resolved = merge(registry, name, files, flags)?;
    if let Err(error) = registry.complete(&mut resolved.settings) {
        return Err(resolved.refused(&error));
    }
    // Before the data are drawn.
    let forecast = Forecast::new(&resolved.settings, registry).map_err(|error| resolved.refused(&error))?;
    let lighter = || lighter(&resolved.settings, registry, ranks);
    memory::check(&forecast.over(ranks), arguments.memory_limit.as_deref(), lighter)?;
    Ok(resolved)
}

/// In place of hig-auto, that of its ways which needs less memory.
fn lighter(settings: &Settings, registry: &Registry, ranks: usize) -> Option<(&'static str, Forecast)> {
    if settings.optimizer.name != AutoSettings::NAME {
        return None;
    }
    let mut settings = settings.clone();
    KronSettings::NAME.clone_into(&mut settings.optimizer.name);
    Some((KronSettings::NAME, Forecast::new(&settings, registry).ok()?.over(ranks)))
}

/// Whether a task on the command line is the path of a file.
fn is_file(task: &str) -> bool {
    Path::new(task).extension().is_some_and(|extension| extension == "toml")
}

/// What files and flags make of the defaults, and all that they gave.
pub(super) fn merge(
    registry: &Registry,
    task: Option<&str>,
    mut files: Givens,
    mut flags: Givens,
) -> Result<Resolved, Failure> {
    let (name, place) = task_name(task, files.remove("task"))?;
    let mut beside = files.table();
    beside.retain(|key, _| key == "with" || key == "about");
    registry.check(&beside).map_err(|error| files.placed(&error))?;
    let mut base = base(registry, &name, &place, &files)?;
    let in_file = files.remove("optimizer.name");
    let in_base = base.get("optimizer").and_then(|optimizer| optimizer.get("name")).and_then(Value::as_str);
    let mut optimizer = in_base.unwrap_or(OPTIMIZER).to_owned();
    if let Some(Given { value, place }) = &in_file {
        optimizer = text_of(value);
        check_optimizer(registry, &optimizer, place)?;
    }
    if let Some(Given { value, place }) = flags.remove("optimizer.name") {
        let batch = flags.get("training.batch").or(files.get("training.batch")).map(|given| &given.value);
        let (before, last) = turns(registry, &base, batch, &text_of(&value), &place)?;
        files.remove("before");
        if !before.is_empty() {
            flags.put("before".to_owned(), Given { value: Value::Array(before), place });
        }
        if in_file.is_some() && last != optimizer {
            // Another optimizer than the file's: its hyper-parameters mean nothing to this one.
            files.retain(|key| !key.starts_with("optimizer."));
        }
        optimizer = last;
    }
    files.append(flags);
    let givens = files;
    let over = over(&givens, &optimizer);
    drop_other_kinds(&mut base, &over);
    let placed = |error: SettingError| refusal(registry, &givens, &optimizer, &error);
    let mut defaults = registry.defaults(&base, &optimizer).map_err(placed)?;
    let ends = givens.keys().any(|key| key.starts_with("stop.") && key != "stop.still");
    if let Some(Value::Table(stop)) = defaults.get_mut("stop").filter(|_| ends) {
        stop.retain(|key, _| key == "still");
    }
    let of_task = registry.file(&name).is_ok();
    defaults.insert("task".to_owned(), Value::String(name));
    let settings = registry.overlaid(&defaults, &over).map_err(placed)?;
    let advice = registry.entry(&optimizer).ok().filter(|_| of_task);
    let advice = advice.and_then(|entry| advice::on_batch(entry, &defaults, &over, &settings));
    Ok(Resolved { settings, givens, advice })
}

/// The file of the task with that name; where none has it, the files given are a task of their own.
fn base(registry: &Registry, name: &str, place: &str, files: &Givens) -> Result<Table, Failure> {
    if let Ok(file) = registry.file(name) {
        return Ok(file);
    }
    if files.get("simulator.kind").is_none() {
        let known: Vec<String> = registry.tasks().map(|(name, _)| name.to_owned()).collect();
        let mut failure = unknown_name("task", name, place, &known);
        let near = nearest(name, known.iter().map(String::as_str));
        if !place.is_empty() && near.is_none() {
            failure =
                failure.with("or name simulator.kind, objective.kind and data.kind of a task of your own");
        }
        return Err(failure);
    }
    let mut own = Table::new();
    for part in PARTS {
        if let Some(given) = files.get(&file::join(part, "kind")) {
            own.insert(part.to_owned(), of_kind(given.value.clone()));
        }
    }
    Ok(own)
}

/// The parts of a task that have a kind.
const PARTS: [&str; 3] = ["simulator", "objective", "data"];

/// A part that has its defaults.
fn of_kind(kind: Value) -> Value {
    Value::Table(Table::from_iter([("kind".to_owned(), kind)]))
}

/// What was given, as a table, with what files say for this optimizer.
fn over(givens: &Givens, optimizer: &str) -> Table {
    let mut over = givens.table();
    let with = over.remove("with");
    over.remove("about");
    let own = with.as_ref().and_then(|with| with.get(optimizer)).and_then(Value::as_table);
    if let Some(own) = own {
        // Flags win over it, and they are in `over` already: it fills in what they leave out.
        fill(&mut over, own, &|key| givens.get(key).is_some_and(|given| given.place.starts_with("--")), "");
    }
    over
}

/// Lays `own` over `table`, except for settings that `kept` says of.
fn fill(table: &mut Table, own: &Table, kept: &dyn Fn(&str) -> bool, prefix: &str) {
    for (key, value) in own {
        let name = file::join(prefix, key);
        match (table.get_mut(key), value) {
            (Some(Value::Table(table)), Value::Table(own)) => fill(table, own, kept, &name),
            _ if kept(&name) => {}
            _ => drop(table.insert(key.clone(), value.clone())),
        }
    }
}

/// Where another simulator, objective or data are asked for, the task's own settings for it mean nothing.
fn drop_other_kinds(base: &mut Table, over: &Table) {
    for part in PARTS {
        let kind = |table: &Table| table.get(part).and_then(|part| part.get("kind")).cloned();
        if let Some(kind) = kind(over).filter(|wanted| Some(wanted) != kind(base).as_ref()) {
            base.insert(part.to_owned(), of_kind(kind));
        }
    }
}

/// What `--optimizer adam:2000,hig` says: the stages before the last optimizer, each with its defaults, and that one.
/// A mini-batch that was asked for holds for all of them.
fn turns(
    registry: &Registry,
    base: &Table,
    batch: Option<&Value>,
    text: &str,
    place: &str,
) -> Result<(Vec<Value>, String), Failure> {
    let mut parts: Vec<&str> = text.split([',', '+']).map(str::trim).collect();
    let last = parts.pop().unwrap_or_default().to_owned();
    check_optimizer(registry, &last, place)?;
    let stage = |part: &str| {
        let Some((name, steps)) = part.split_once(':') else {
            return Err(Failure::new(format!(
                "`{part}` comes before another optimizer, so it needs a number of steps, as in {part}:2000 ({place})"
            )));
        };
        check_optimizer(registry, name, place)?;
        let Ok(steps) = steps.parse::<i64>() else {
            return Err(Failure::new(format!("`{steps}` is no number of steps for {name} ({place})")));
        };
        let defaults = registry.defaults(base, name).map_err(|error| Failure::new(error.to_string()))?;
        let own =
            |section: &str, key: &str| defaults.get(section).and_then(|section| section.get(key)).cloned();
        let mut stage = Table::from_iter([("steps".to_owned(), Value::Integer(steps))]);
        if let Some(batch) = batch.cloned().or_else(|| own("training", "batch")) {
            stage.insert("batch".to_owned(), batch);
        }
        stage.insert(
            "optimizer".to_owned(),
            defaults.get("optimizer").cloned().unwrap_or(Value::Boolean(false)),
        );
        Ok(Value::Table(stage))
    };
    Ok((parts.into_iter().map(stage).collect::<Result<_, _>>()?, last))
}

pub(super) fn check_optimizer(registry: &Registry, name: &str, place: &str) -> Result<(), Failure> {
    if registry.entry(name).is_ok() {
        return Ok(());
    }
    let known: Vec<String> = registry.optimizers().iter().map(|entry| entry.name.to_owned()).collect();
    Err(unknown_name("optimizer", name, &format!(" ({place})"), &known))
}

/// The task's name, and where it was given unless on the command line.
fn task_name(task: Option<&str>, in_file: Option<Given>) -> Result<(String, String), Failure> {
    let in_file = in_file.map(|given| (text_of(&given.value), given.place));
    match (task, in_file) {
        (Some(task), Some((other, place))) if task != other => Err(Failure::new(format!(
            "the task is {task} on the command line and {other} in {place}; keep one"
        ))),
        (Some(task), _) => Ok((task.to_owned(), String::new())),
        (None, Some((task, place))) => Ok((task, format!(" ({place})"))),
        (None, None) => Err(Failure::new(format!(
            "no task was named; `{name} tasks` lists them, as in `{name} train oscillators`",
            name = program()
        ))),
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A refusal with its place; a setting of another optimizer is told from one that does not exist.
fn refusal(registry: &Registry, givens: &Givens, optimizer: &str, error: &SettingError) -> Failure {
    let SettingError::Unknown { key, .. } = error else { return givens.placed(error) };
    let Some(name) = key.strip_prefix("optimizer.") else { return givens.placed(error) };
    if !registry.optimizers().iter().any(|entry| entry.defaults().contains_key(name)) {
        return givens.placed(error);
    }
    let own: Vec<String> = registry
        .entry(optimizer)
        .map_or_else(|_| Vec::new(), |entry| entry.defaults().keys().cloned().collect());
    let own = if own.is_empty() { "none".to_owned() } else { own.join(", ") };
    let place = givens.get(key).map_or_else(String::new, |given| format!(" ({})", given.place));
    Failure::new(format!("`{key}` is no setting of {optimizer}{place}; it has {own}"))
}
