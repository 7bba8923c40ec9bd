//! Settings from a TOML file, each with its place: read as if a stranger had written the file.

use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde_json::Value as Schema;
use toml::Value;
use toml::de::{DeTable, DeValue};

use super::givens::{Given, Givens};
use crate::failure::Failure;

/// The settings of a TOML file by dotted name, each with line and column. `schema` is that of task files.
pub(super) fn read(path: &Path, schema: &Schema) -> Result<Givens, Failure> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| Failure::new(format!("cannot read {name}: {error}")))?;
    givens(&bytes, &name, schema)
}

/// Of the settings that do not exist only the first is kept, to be refused later: there is no end to their number.
///
/// Beside the text, which may be no longer than [`LONGEST`], this takes at most 640 bytes of memory for each of its
/// bytes, and 64 KiB: `a.a.a = 1` is three tables, and a table with one entry has room for eleven.
pub(super) fn givens(bytes: &[u8], name: &str, schema: &Schema) -> Result<Givens, Failure> {
    if bytes.len() > LONGEST {
        let length = bytes.len();
        return Err(Failure::new(format!(
            "{name} is no configuration: it has {length} bytes, more than {LONGEST}"
        )));
    }
    let text = str::from_utf8(bytes).map_err(|error| Failure::new(format!("cannot read {name}: {error}")))?;
    let place = |span: Range<usize>| {
        let before = &text[..text.floor_char_boundary(span.start)];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
        format!("{name}, line {line}, column {column}")
    };
    let bad = |error: toml::de::Error| {
        let place = error.span().map_or_else(|| name.to_owned(), place);
        Failure::new(format!("{place}: {}", error.message()))
    };
    let table = DeTable::parse(text).map_err(bad)?;
    let mut found = Found { place: &place, givens: Givens::default(), unknown: false };
    found.take("", table.into_inner(), schema).map_err(|refusal| match refusal {
        Refusal::Toml(error) => bad(error),
        Refusal::Deep(name, span) => {
            Failure::new(format!("`{name}` is nested deeper than any setting ({})", place(span)))
        }
    })?;
    Ok(found.givens)
}

/// What stands in a file.
struct Found<'f> {
    place: &'f dyn Fn(Range<usize>) -> String,
    givens: Givens,
    /// Whether a setting that does not exist was seen.
    unknown: bool,
}

enum Refusal {
    Toml(toml::de::Error),
    Deep(String, Range<usize>),
}

impl Found<'_> {
    /// Adds a table's settings. It goes no deeper than the settings do, whatever the file does.
    fn take(&mut self, prefix: &str, table: DeTable<'_>, schema: &Schema) -> Result<(), Refusal> {
        for (key, value) in table {
            let (span, name) = (key.span(), join(prefix, key.get_ref()));
            match (property(schema, key.get_ref()), value.get_ref()) {
                (Some(schema), DeValue::Table(_)) if is_section(schema) => {
                    if let DeValue::Table(table) = value.into_inner() {
                        self.take(&name, table, schema)?;
                    }
                }
                (Some(schema), _) => self.keep(name, span, value, schema)?,
                (None, value) if !self.unknown => {
                    let (name, span) = first(name, span, value);
                    let place = (self.place)(span);
                    self.givens.put(name, Given { value: Value::Boolean(false), place });
                    self.unknown = true;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn keep(
        &mut self,
        name: String,
        span: Range<usize>,
        value: toml::Spanned<DeValue<'_>>,
        schema: &Schema,
    ) -> Result<(), Refusal> {
        if !shallow(value.get_ref(), DEEPEST) {
            return Err(Refusal::Deep(name, span));
        }
        if let DeValue::Array(items) = value.get_ref() {
            for (i, item) in items.iter().enumerate().take(MOST_PLACES) {
                let item_name = join(&name, &i.to_string());
                if let Some(table) = item.get_ref().as_table() {
                    for key in table.keys().take(MOST_PLACES) {
                        self.givens
                            .put_place(join(&item_name, short(key.get_ref())), (self.place)(key.span()));
                    }
                    self.givens.put_place(item_name, (self.place)(item.span()));
                } else if item.get_ref().is_str() && lists_texts(schema) {
                    self.givens.put_place(item_name, (self.place)(item.span()));
                }
            }
        }
        let place = (self.place)(span);
        let value = Value::deserialize(value.into_deserializer()).map_err(Refusal::Toml)?;
        self.givens.put(name, Given { value, place });
        Ok(())
    }
}

/// Items of a list, and settings of each, whose places are kept: more than any task has.
const MOST_PLACES: usize = 16;

/// As much of a name as a setting may have.
fn short(name: &str) -> &str {
    &name[..name.floor_char_boundary(64)]
}

/// The dotted name of a setting in a section.
pub(super) fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}

/// The schema of a setting in a section, whichever kind of part the section is.
fn property<'s>(schema: &'s Schema, key: &str) -> Option<&'s Schema> {
    let own = schema.get("properties").and_then(|properties| properties.get(key));
    own.or_else(|| schema.get("oneOf")?.as_array()?.iter().find_map(|part| property(part, key)))
}

/// Whether a setting is a list of texts.
fn lists_texts(schema: &Schema) -> bool {
    schema.pointer("/items/type").is_some_and(|kind| kind == "string")
}

/// Whether a setting is a table of settings.
fn is_section(schema: &Schema) -> bool {
    schema.get("properties").is_some()
        || schema.get("oneOf").and_then(Schema::as_array).is_some_and(|parts| parts.iter().any(is_section))
}

/// The name and place of a value, or of the first in a table that is none of the settings' sections.
fn first(name: String, span: Range<usize>, value: &DeValue<'_>) -> (String, Range<usize>) {
    match value.as_table().and_then(|table| table.iter().next()) {
        Some((key, _)) => (join(&name, key.get_ref()), key.span()),
        None => (name, span),
    }
}

/// Bytes of a configuration: a hundred times the longest that a run writes.
const LONGEST: usize = 1 << 20;

/// Lists and tables within each other in the deepest setting: `before`, or layers within layers.
const DEEPEST: usize = 8;

/// The parser lets thousands be nested, which is more than the stack has room to convert.
fn shallow(value: &DeValue<'_>, levels: usize) -> bool {
    match value {
        DeValue::Array(items) => levels > 0 && items.iter().all(|item| shallow(item.get_ref(), levels - 1)),
        DeValue::Table(table) => levels > 0 && table.values().all(|item| shallow(item.get_ref(), levels - 1)),
        _ => true,
    }
}
