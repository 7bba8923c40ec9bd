//! What task files can name: simulators, objectives, data, layers, optimizers, and whole tasks.
//!
//! ```
//! use halfinverse::task::Registry;
//! let registry = Registry::standard();
//! let settings = registry.settings("oscillators", "hig")?;
//! assert_eq!(settings.training.batch, 128);
//! # Ok::<(), halfinverse::SettingError>(())
//! ```

mod layers;

use std::sync::{Arc, OnceLock};

use serde_json::json;
use toml::{Table, Value};

use super::data::{self, Generator};
use super::settings::Settings;
use crate::error::SettingError;
use crate::network::{
    BoundsSettings, ConcatenationSettings, ConvolutionSettings, DenseSettings, FourierFeaturesSettings,
    Layer, LayerNormSettings, LinearSkipSettings, PoolingSettings, ResidualSettings, Setup as LayerSetup,
    UnitsSettings, UpSamplingSettings,
};
use crate::objective::{
    CauchySettings, CrossEntropySettings, HuberSettings, Objective, OverlapSettings, RelativeErrorSettings,
    Setup as ObjectiveSetup, SquaredErrorSettings,
};
use crate::optimizer::{ENTRIES, Entry, Setup as OptimizerSetup};
use crate::simulator::{
    DipoleSettings, EquationsSettings, IdentitySettings, OscillatorsSettings, PoissonSettings,
    ScalingSettings, Setup as SimulatorSetup, Simulator, ToySettings,
};
use crate::tables::{self, alternative, join, overlay, schema, to_table};

/// The tasks that come with the crate.
const TASKS: &[&str] = &[
    include_str!("tables/oscillators.toml"),
    include_str!("tables/dipole.toml"),
    include_str!("tables/poisson.toml"),
    include_str!("tables/toy.toml"),
    include_str!("tables/regression.toml"),
    include_str!("tables/fit.toml"),
];

/// A kind of part that task files can name.
#[derive(Clone)]
struct Part<B> {
    kind: &'static str,
    defaults: fn() -> Table,
    schema: fn() -> serde_json::Value,
    build: B,
}

type BuildSimulator = fn(&Table) -> Result<Arc<dyn Simulator>, SettingError>;
type BuildObjective = fn(&Table) -> Result<Arc<dyn Objective>, SettingError>;
type BuildData = fn(&Table, data::Context<'_>) -> Result<Arc<dyn Generator>, SettingError>;
type BuildLayer = fn(&Table, usize, &Registry) -> Result<Box<dyn Layer>, SettingError>;

/// Every part that a task file can name, and every task.
#[derive(Clone, Default)]
pub struct Registry {
    simulators: Vec<Part<BuildSimulator>>,
    objectives: Vec<Part<BuildObjective>>,
    data: Vec<Part<BuildData>>,
    layers: Vec<Part<BuildLayer>>,
    optimizers: Vec<Entry>,
    /// Task files, by name.
    tasks: Vec<(String, Table)>,
    /// Made of the parts when it is first asked for; a further part drops it.
    schema: OnceLock<Arc<serde_json::Value>>,
    files: Arc<data::Files>,
}

impl Registry {
    /// All that comes with the crate.
    #[must_use]
    #[allow(clippy::missing_panics_doc, reason = "a test makes it")]
    pub fn standard() -> Self {
        let mut registry = Self::default()
            .simulator::<OscillatorsSettings>()
            .simulator::<DipoleSettings>()
            .simulator::<PoissonSettings>()
            .simulator::<ToySettings>()
            .simulator::<ScalingSettings>()
            .simulator::<IdentitySettings>()
            .simulator::<EquationsSettings>()
            .objective::<SquaredErrorSettings>()
            .objective::<OverlapSettings>()
            .objective::<RelativeErrorSettings>()
            .objective::<HuberSettings>()
            .objective::<CauchySettings>()
            .objective::<CrossEntropySettings>()
            .data::<data::UniformSettings>()
            .data::<data::SimulatedSettings>()
            .data::<data::EigenstatesSettings>()
            .data::<data::LaplacianOfNoiseSettings>()
            .data::<data::SineAndCosineSettings>()
            .data::<data::BumpSettings>()
            .data::<data::FileSettings>()
            .layer::<DenseSettings>()
            .layer::<UnitsSettings>()
            .layer::<ResidualSettings>()
            .layer::<BoundsSettings>()
            .layer::<ConvolutionSettings>()
            .layer::<PoolingSettings>()
            .layer::<UpSamplingSettings>()
            .layer::<LayerNormSettings>()
            .layer::<FourierFeaturesSettings>()
            .layer::<LinearSkipSettings>()
            .layer::<ConcatenationSettings>();
        registry.optimizers.extend(ENTRIES.iter().map(|entry| entry()));
        for text in TASKS {
            registry = registry.task(text).expect("the crate's own task files");
        }
        registry
    }

    /// With a simulator of these settings, in place of the one that had their kind.
    #[must_use]
    pub fn simulator<S: SimulatorSetup>(mut self) -> Self {
        put(&mut self.simulators, part::<S, _>(S::KIND, |table| tables::from_table::<S>(table)?.build()));
        self.schema.take();
        self
    }

    /// With an objective of these settings, in place of the one that had their kind.
    #[must_use]
    pub fn objective<S: ObjectiveSetup>(mut self) -> Self {
        put(&mut self.objectives, part::<S, _>(S::KIND, |table| tables::from_table::<S>(table)?.build()));
        self.schema.take();
        self
    }

    /// With data drawn by a generator of these settings, in place of the one that had their kind.
    #[must_use]
    pub fn data<S: data::Setup>(mut self) -> Self {
        let build: BuildData = |table, context| tables::from_table::<S>(table)?.build(context);
        put(&mut self.data, part::<S, _>(S::KIND, build));
        self.schema.take();
        self
    }

    /// With a layer of these settings, in place of the one that had their kind.
    #[must_use]
    pub fn layer<S: LayerSetup>(mut self) -> Self {
        let build: BuildLayer = |table, inputs, registry| {
            let inner = |layers: &[Table], inputs| registry.stack(layers, inputs, "layers");
            tables::from_table::<S>(table)?.build(inputs, &inner)
        };
        put(&mut self.layers, part::<S, _>(S::KIND, build));
        self.schema.take();
        self
    }

    /// With an optimizer of these settings, in place of the one that had their name.
    #[must_use]
    pub fn optimizer<S: OptimizerSetup>(mut self) -> Self {
        self.optimizers.retain(|entry| entry.name != S::NAME);
        self.optimizers.push(Entry::of::<S>());
        self.schema.take();
        self
    }

    /// With a task, as the text of its file.
    ///
    /// # Errors
    /// When the text is no TOML, the task has no name or one that is taken, or a name or type in it is wrong.
    pub fn task(mut self, text: &str) -> Result<Self, SettingError> {
        let table: Table = text
            .parse()
            .map_err(|error: toml::de::Error| SettingError::new("task file", error.message(), "TOML"))?;
        let name = table.get("task").and_then(Value::as_str).unwrap_or_default().to_owned();
        if name.is_empty() || self.tasks.iter().any(|(known, _)| *known == name) {
            let found = if name.is_empty() { "absent".to_owned() } else { format!("taken: {name}") };
            return Err(SettingError::new("task", found, "a name of its own"));
        }
        self.check(&table)?;
        self.tasks.push((name, table));
        Ok(self)
    }

    /// Names and files of all tasks, in the order in which they became known.
    pub fn tasks(&self) -> impl Iterator<Item = (&str, &Table)> {
        self.tasks.iter().map(|(name, table)| (name.as_str(), table))
    }

    /// The entries of all optimizers, in the order in which they became known.
    #[must_use]
    pub fn optimizers(&self) -> &[Entry] {
        &self.optimizers
    }

    /// An optimizer by its name.
    ///
    /// # Errors
    /// When there is none; with the nearest name.
    pub fn entry(&self, name: &str) -> Result<&Entry, SettingError> {
        let found = self.optimizers.iter().find(|entry| entry.name == name);
        found.ok_or_else(|| {
            SettingError::unknown_kind("optimizer.name", name, self.optimizers.iter().map(|entry| entry.name))
        })
    }

    /// Whether an optimizer of these settings chooses its steps by samples of its own, so that it matters whether a
    /// run's end is counted in steps.
    #[must_use]
    pub fn judges(&self, settings: &Settings) -> bool {
        let held_out = |name: &str| self.entry(name).is_ok_and(|entry| entry.held_out);
        (0..=settings.before.len()).any(|i| held_out(&settings.turn(i).1.name))
    }

    /// The settings of a task with an optimizer.
    ///
    /// # Errors
    /// When one of the names is not known.
    pub fn settings(&self, task: &str, optimizer: &str) -> Result<Settings, SettingError> {
        tables::read(&self.defaults(&self.file(task)?, optimizer)?)
    }

    /// The file of a task by its name.
    ///
    /// # Errors
    /// When there is none; with the nearest name.
    pub fn file(&self, task: &str) -> Result<Table, SettingError> {
        let found = self.tasks.iter().find(|(name, _)| name == task);
        found.map(|(_, table)| table.clone()).ok_or_else(|| {
            SettingError::unknown_kind("task", task, self.tasks.iter().map(|(name, _)| name.as_str()))
        })
    }

    /// Every setting of a task file with an optimizer, as a table: the parts' own defaults, what the file says, and
    /// what it says for this optimizer.
    ///
    /// # Errors
    /// When the file lacks a part, or names one that is not known.
    pub fn defaults(&self, file: &Table, optimizer: &str) -> Result<Table, SettingError> {
        self.check(file)?;
        let mut file = file.clone();
        let with = file.remove("with");
        file.remove("about");
        let own = with.as_ref().and_then(|with| with.get(optimizer)).and_then(Value::as_table);
        let entry = self.entry(optimizer)?;
        let mut named = entry.defaults();
        named.insert("name".to_owned(), Value::from(optimizer));
        let in_file = section(&file, "optimizer");
        if in_file.get("name").and_then(Value::as_str) == Some(optimizer) {
            overlay(&mut named, &in_file);
        }
        file.insert("optimizer".to_owned(), Value::Table(named));
        if let Some(own) = own {
            overlay(&mut file, own);
        }
        let mut all = to_table(&Settings::template());
        for (name, defaults) in [
            ("simulator", part_defaults(&file, "simulator", &self.simulators)?),
            ("objective", part_defaults(&file, "objective", &self.objectives)?),
            ("data", part_defaults(&file, "data", &self.data)?),
        ] {
            let mut section = section(&all, name);
            overlay(&mut section, &defaults);
            all.insert(name.to_owned(), Value::Table(section));
        }
        // What a file says of the end replaces the default one, but for `still`.
        let ends = section(&file, "stop").keys().any(|key| key != "still");
        if let Some(Value::Table(stop)) = all.get_mut("stop").filter(|_| ends) {
            stop.retain(|key, _| key == "still");
        }
        lay_over(&mut all, &file);
        Ok(all)
    }

    /// The settings that a table of [`Self::defaults`] makes with other values laid over it. Where `over` names another
    /// simulator, objective or data, give it to `defaults` too.
    ///
    /// # Errors
    /// The first name or type that is wrong, by its dotted name.
    pub fn overlaid(&self, defaults: &Table, over: &Table) -> Result<Settings, SettingError> {
        // Names of parts, which tell what settings there are.
        let mut checked = over.clone();
        for (section, tag) in
            [("simulator", "kind"), ("objective", "kind"), ("data", "kind"), ("optimizer", "name")]
        {
            let Some(name) = defaults.get(section).and_then(|section| section.get(tag)) else { continue };
            if let Some(Value::Table(section)) = checked.get_mut(section) {
                section.entry(tag).or_insert_with(|| name.clone());
            }
        }
        self.check(&checked)?;
        let mut all = defaults.clone();
        lay_over(&mut all, over);
        tables::read(&all)
    }

    /// Refuses names and types in a task file, or a part of one, that [`Self::schema`] does not allow.
    ///
    /// # Errors
    /// The first of them, by its dotted name.
    pub fn check(&self, file: &Table) -> Result<(), SettingError> {
        tables::check(self.schema(), &Value::Table(file.clone()), "")
    }

    /// Puts in what only a data file can tell, where the data are one: how many samples, which columns, and what the
    /// file is. [`Task::with`](super::Task::with) and [`Forecast::new`](super::Forecast::new) do it themselves.
    ///
    /// # Errors
    /// When the file cannot be read or used, or is not the one that the settings tell of.
    pub fn complete(&self, settings: &mut Settings) -> Result<(), SettingError> {
        use data::Setup as _;
        if settings.data.kind == data::FileSettings::KIND {
            data::complete(settings, &self.files)?;
        }
        Ok(())
    }

    /// Files that were read already.
    pub(super) fn files(&self) -> &data::Files {
        &self.files
    }

    /// The simulator of a kind with these settings.
    ///
    /// # Errors
    /// For an unknown kind, and for settings that the simulator refuses, by their dotted names.
    pub fn build_simulator(&self, kind: &str, settings: &Table) -> Result<Arc<dyn Simulator>, SettingError> {
        (find(&self.simulators, "simulator.kind", kind)?.build)(settings)
            .map_err(|error| error.within("simulator"))
    }

    pub(super) fn build_objective(
        &self,
        kind: &str,
        settings: &Table,
    ) -> Result<Arc<dyn Objective>, SettingError> {
        (find(&self.objectives, "objective.kind", kind)?.build)(settings)
            .map_err(|error| error.within("objective"))
    }

    pub(super) fn build_data(
        &self,
        kind: &str,
        settings: &Table,
        context: data::Context<'_>,
    ) -> Result<Arc<dyn Generator>, SettingError> {
        (find(&self.data, "data.kind", kind)?.build)(settings, context).map_err(|error| error.within("data"))
    }

    /// The JSON Schema of task files.
    pub fn schema(&self) -> &serde_json::Value {
        self.schema.get_or_init(|| Arc::new(self.make_schema()))
    }

    fn make_schema(&self) -> serde_json::Value {
        let mut whole = schema::<Settings>();
        let properties = &mut whole["properties"];
        properties["simulator"] = alternatives("kind", &self.simulators, &json!({}));
        properties["objective"] = alternatives("kind", &self.objectives, &properties["objective"].take());
        properties["data"] = alternatives("kind", &self.data, &properties["data"].take());
        properties["network"]["properties"]["layers"]["items"] =
            alternatives("kind", &self.layers, &json!({}));
        let optimizers: Vec<_> = self
            .optimizers
            .iter()
            .map(|entry| alternative("name", entry.name, entry.schema(), &json!({})))
            .collect();
        let optimizer = json!({ "oneOf": optimizers, "description": "The optimizer and its settings." });
        properties["before"]["items"]["properties"]["optimizer"] = optimizer.clone();
        properties["optimizer"] = optimizer;
        // A file may leave out whatever has a default.
        whole.as_object_mut().expect("an object").remove("required");
        let mut with = serde_json::Map::new();
        for entry in &self.optimizers {
            let mut part = whole.clone();
            let own = alternative("name", entry.name, entry.schema(), &json!({}));
            part["properties"]["optimizer"] = own;
            if let Some(properties) = part["properties"].as_object_mut() {
                properties.retain(|name, _| name != "task" && name != "before");
            }
            with.insert(entry.name.to_owned(), part);
        }
        whole["properties"]["about"] =
            json!({ "type": "string", "description": "What is trained, in a sentence." });
        whole["properties"]["with"] = json!({
            "type": "object",
            "description": "Settings that differ with an optimizer.",
            "properties": with,
            "additionalProperties": false,
        });
        whole["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
        whole["title"] = json!("A task of halfinverse");
        whole
    }
}

fn part<S: serde::Serialize + Default + schemars::JsonSchema, B>(kind: &'static str, build: B) -> Part<B> {
    Part { kind, defaults: || to_table(&S::default()), schema: schema::<S>, build }
}

fn part_defaults<B>(file: &Table, name: &str, parts: &[Part<B>]) -> Result<Table, SettingError> {
    let key = join(name, "kind");
    let kinds = || parts.iter().map(|part| part.kind);
    let section = section(file, name);
    let Some(kind) = section.get("kind").and_then(Value::as_str) else {
        let expected = format!("one of {}", kinds().collect::<Vec<_>>().join(", "));
        return Err(SettingError::new(&key, "absent", expected));
    };
    let part = parts
        .iter()
        .find(|part| part.kind == kind)
        .ok_or_else(|| SettingError::unknown_kind(&key, kind, kinds()))?;
    let mut defaults = (part.defaults)();
    defaults.insert("kind".to_owned(), Value::from(kind));
    Ok(defaults)
}

/// Lays one task file over another. Hidden layers and a list of layers are two ways to say the same: the one given
/// drops the other.
fn lay_over(all: &mut Table, over: &Table) {
    let network = section(over, "network");
    let says = |name: &str| network.get(name).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    for (given, other) in [("hidden", "layers"), ("layers", "hidden")] {
        let under = all.get_mut("network").and_then(|network| network.get_mut(other));
        if let (true, Some(under)) = (says(given) && !says(other), under) {
            *under = Value::Array(Vec::new());
        }
    }
    overlay(all, over);
}

/// Adds a part, in place of the one of its kind.
fn put<B>(parts: &mut Vec<Part<B>>, part: Part<B>) {
    parts.retain(|known| known.kind != part.kind);
    parts.push(part);
}

fn find<'a, B>(parts: &'a [Part<B>], key: &str, kind: &str) -> Result<&'a Part<B>, SettingError> {
    parts
        .iter()
        .find(|part| part.kind == kind)
        .ok_or_else(|| SettingError::unknown_kind(key, kind, parts.iter().map(|part| part.kind)))
}

fn section(table: &Table, name: &str) -> Table {
    table.get(name).and_then(Value::as_table).cloned().unwrap_or_default()
}

/// One of several kinds of part, each with its own settings and those that all have.
fn alternatives<B>(tag: &str, parts: &[Part<B>], common: &serde_json::Value) -> serde_json::Value {
    let each: Vec<_> =
        parts.iter().map(|part| alternative(tag, part.kind, (part.schema)(), common)).collect();
    json!({ "oneOf": each })
}
