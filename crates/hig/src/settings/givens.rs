//! Values that somebody gave, by dotted name, each with its place.

use std::collections::BTreeMap;

use halfinverse::SettingError;
use toml::{Table, Value};

use crate::failure::Failure;

/// A value somebody gave, and where.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Given {
    pub(super) value: Value,
    pub(super) place: String,
}

/// Values by dotted name, and further places of parts of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Givens {
    values: BTreeMap<String, Given>,
    places: BTreeMap<String, String>,
}

impl Givens {
    /// Keeps a value that was typed; two different ones for the same setting contradict each other.
    pub(super) fn give(&mut self, key: &str, place: &str, value: Value) -> Result<(), Failure> {
        match self.values.get(key) {
            Some(other) if other.value != value => Err(Failure::new(format!(
                "`{key}` is given twice: {} by {}, {value} by {place}; keep one",
                other.value, other.place
            ))),
            _ => {
                self.put(key.to_owned(), Given { value, place: place.to_owned() });
                Ok(())
            }
        }
    }

    /// Keeps a value, whatever was there.
    pub(super) fn put(&mut self, key: String, given: Given) {
        self.values.insert(key, given);
    }

    /// Keeps the place of a part of a value.
    pub(super) fn put_place(&mut self, key: String, place: String) {
        self.places.insert(key, place);
    }

    pub(super) fn get(&self, key: &str) -> Option<&Given> {
        self.values.get(key)
    }

    pub(super) fn remove(&mut self, key: &str) -> Option<Given> {
        self.values.remove(key)
    }

    /// Keeps those that `keep` says of their names.
    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.values.retain(|key, _| keep(key));
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &String> {
        self.values.keys()
    }

    /// Lays others over these.
    pub(super) fn append(&mut self, mut others: Self) {
        self.values.append(&mut others.values);
        self.places.append(&mut others.places);
    }

    /// As nested tables.
    pub(super) fn table(&self) -> Table {
        let mut table = Table::new();
        for (key, given) in &self.values {
            insert(&mut table, key, given.value.clone());
        }
        table
    }

    /// A refusal with the place that the setting came from, or the first one in it, or the nearest one around it; where
    /// it is a default, with the file that it does not go with.
    pub(super) fn placed(&self, error: &SettingError) -> Failure {
        if let SettingError::Contents { sentence, .. } = error {
            // It has its place in it.
            return Failure::new(sentence.clone());
        }
        let key = error.key();
        let inside = format!("{key}.");
        let first = self.values.range(inside.clone()..).next().filter(|(name, _)| name.starts_with(&inside));
        // What holds with one optimizer only.
        let ending = format!(".{key}");
        let with =
            || self.values.iter().find(|(name, _)| name.starts_with("with.") && name.ends_with(&ending));
        let place = self
            .place(key)
            .or(first.or_else(with).map(|(_, given)| &given.place))
            .or_else(|| key.rmatch_indices('.').find_map(|(end, _)| self.place(&key[..end])));
        let file = || {
            let place =
                self.values.values().map(|given| given.place.as_str()).find(|place| !place.starts_with("--"));
            place.map(|place| place.split_once(", line").map_or(place, |(file, _)| file))
        };
        match place.map(String::as_str).or_else(file) {
            Some(place) => {
                // What is wrong with a text is shown below the sentence.
                let text = error.to_string();
                let (sentence, below) = text.split_at(text.find('\n').unwrap_or(text.len()));
                Failure::new(format!("{sentence} ({place}){below}"))
            }
            None => Failure::new(error.to_string()),
        }
    }

    fn place(&self, key: &str) -> Option<&String> {
        self.places.get(key).or_else(|| self.values.get(key).map(|given| &given.place))
    }
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
