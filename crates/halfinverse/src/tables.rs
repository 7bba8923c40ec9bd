//! Settings as tables: between TOML and typed structs, with errors that name the setting.

use std::collections::BTreeSet;
use std::slice::from_ref;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use toml::{Table, Value};

use crate::error::{SettingError, nearest};

/// A struct of settings as a table.
///
/// # Panics
/// When the struct is no table of plain values.
pub(crate) fn to_table<T: Serialize>(settings: &T) -> Table {
    Table::try_from(settings).expect("settings are plain tables")
}

/// A table as a struct of settings; what is absent has the struct's defaults.
pub(crate) fn from_table<T: DeserializeOwned + JsonSchema>(table: &Table) -> Result<T, SettingError> {
    check(&schema::<T>(), &Value::Table(table.clone()), "")?;
    read(table)
}

/// A table whose names and types have been checked.
pub(crate) fn read<T: DeserializeOwned>(table: &Table) -> Result<T, SettingError> {
    serde_path_to_error::deserialize(Value::Table(table.clone())).map_err(|error| {
        let (path, inner) = (error.path().to_string(), error.inner().message().to_owned());
        let key = if path == "." { String::new() } else { path.replace('[', ".").replace(']', "") };
        if let Some(name) = inner.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
            return SettingError::new(&join(&key, name), "absent", "given");
        }
        let found = value_at(table, &key).map_or_else(|| "a table".to_owned(), ToString::to_string);
        SettingError::new(&key, found, inner)
    })
}

fn value_at<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
    let (key, rest) = path.split_once('.').map_or((path, None), |(key, rest)| (key, Some(rest)));
    match (table.get(key)?, rest) {
        (value, None) => Some(value),
        (Value::Table(table), Some(rest)) => value_at(table, rest),
        _ => None,
    }
}

/// The JSON Schema of a struct of settings, its parts in line.
pub(crate) fn schema<T: JsonSchema>() -> serde_json::Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// Refuses a value that a schema does not allow, by its dotted name.
///
/// Of JSON Schema it reads what settings use: `type`, `properties`, `additionalProperties`, `items`, `minimum`, `enum`,
/// `const`, `oneOf` of words or of tables told apart by one of them, and `anyOf`.
pub(crate) fn check(schema: &serde_json::Value, value: &Value, path: &str) -> Result<(), SettingError> {
    let refuse = |expected: String| Err(SettingError::new(path, value, expected));
    if let Some(choices) = choices(schema) {
        let word = value.as_str();
        return if word.is_some_and(|word| choices.iter().any(|choice| choice == word)) {
            Ok(())
        } else {
            let near = nearest(&text_of(value), choices.iter().map(String::as_str));
            let near = near.map_or_else(String::new, |near| format!("; {near}"));
            refuse(format!("one of {}{near}", choices.join(", ")))
        };
    }
    if let Some(any) = schema.get("anyOf").and_then(|any| any.as_array()) {
        // An optional part is this or null, which TOML does not have.
        let mut faults = Vec::new();
        for part in any.iter().filter(|part| part.get("type").is_none_or(|kind| kind != "null")) {
            match check(part, value, path) {
                Ok(()) => return Ok(()),
                Err(fault) => faults.push(fault),
            }
        }
        // The part that was meant is the one that the value fits furthest.
        let depth = |fault: &SettingError| fault.key().matches('.').count();
        return faults.into_iter().rev().max_by_key(depth).map_or(Ok(()), Err);
    }
    if let Some(kinds) = schema.get("oneOf").and_then(|kinds| kinds.as_array()) {
        return check_kind(kinds, value, path);
    }
    match (kind_of(schema), value) {
        (Some("integer"), Value::Integer(0..))
        | (Some("number"), Value::Float(_) | Value::Integer(_))
        | (Some("boolean"), Value::Boolean(_))
        | (Some("string"), Value::String(_)) => Ok(()),
        (Some("integer"), _) => refuse("a whole number from 0 to 9223372036854775807".to_owned()),
        (Some("number"), _) => refuse("a number".to_owned()),
        (Some("boolean"), _) => refuse("true or false".to_owned()),
        (Some("string"), _) => refuse("a text".to_owned()),
        (Some("array"), Value::Array(items)) => match schema.get("items") {
            Some(of) => {
                items.iter().enumerate().try_for_each(|(i, item)| check(of, item, &format!("{path}.{i}")))
            }
            None => Ok(()),
        },
        (Some("array"), _) => refuse(array_of(schema)),
        (Some("object"), Value::Table(table)) => check_table(from_ref(schema), table, path),
        (Some("object"), _) => refuse("a table".to_owned()),
        _ => Ok(()),
    }
}

/// Checks a table against the one of several schemas that its kind, or name, calls for; without either, as a part of
/// any of them.
fn check_kind(kinds: &[serde_json::Value], value: &Value, path: &str) -> Result<(), SettingError> {
    let Value::Table(table) = value else { return Err(SettingError::new(path, value, "a table")) };
    let tag = |kind: &serde_json::Value| {
        let properties = kind.get("properties")?.as_object()?;
        let tagged = |(key, property): (&String, &serde_json::Value)| {
            property.get("const").and_then(|word| word.as_str()).map(|word| (key.clone(), word.to_owned()))
        };
        properties.iter().find_map(tagged)
    };
    let tags: Vec<(String, String)> = kinds.iter().filter_map(tag).collect();
    let Some((key, _)) = tags.first() else { return Ok(()) };
    let Some(given) = table.get(key).map(text_of) else {
        return check_table(kinds, table, path);
    };
    let Some(kind) = tags.iter().position(|(_, word)| *word == given) else {
        let words = tags.iter().map(|(_, word)| word.as_str());
        return Err(SettingError::unknown_kind(&join(path, key), &given, words));
    };
    check_table(&kinds[kind..=kind], table, path)
}

/// Checks each setting of a table against the first of the schemas that has one of its name.
fn check_table(schemas: &[serde_json::Value], table: &Table, path: &str) -> Result<(), SettingError> {
    let properties = || schemas.iter().filter_map(|schema| schema.get("properties")?.as_object());
    let no_other = Some(&serde_json::Value::Bool(false));
    let closed = schemas.iter().all(|schema| schema.get("additionalProperties") == no_other);
    // What the values of names of the user's own must be.
    let of_any_name = schemas
        .iter()
        .filter_map(|schema| schema.get("additionalProperties"))
        .find(|other| other.is_object());
    for (key, value) in table {
        let name = join(path, key);
        match properties().find_map(|properties| properties.get(key)) {
            Some(schema) => check(schema, value, &name)?,
            None if closed => {
                let names: BTreeSet<String> =
                    properties().flat_map(serde_json::Map::keys).map(|known| join(path, known)).collect();
                return Err(SettingError::unknown(&name, names.iter().map(String::as_str)));
            }
            None => of_any_name.map_or(Ok(()), |schema| check(schema, value, &name))?,
        }
    }
    Ok(())
}

/// The type that a schema names, `null` beside it left out.
fn kind_of(schema: &serde_json::Value) -> Option<&str> {
    match schema.get("type")? {
        serde_json::Value::String(kind) => Some(kind),
        serde_json::Value::Array(kinds) => {
            kinds.iter().filter_map(|kind| kind.as_str()).find(|&kind| kind != "null")
        }
        _ => None,
    }
}

fn array_of(schema: &serde_json::Value) -> String {
    match schema.get("items").and_then(kind_of) {
        Some("integer") => "a list of whole numbers such as [20, 20]".to_owned(),
        Some("number") => "a list of numbers such as [0.5, 1.0]".to_owned(),
        Some("object") => "a list of tables".to_owned(),
        Some("string") => "a list of texts such as [\"x\", \"v\"]".to_owned(),
        _ => "a list".to_owned(),
    }
}

/// The words that a schema allows, where it allows words only.
fn choices(schema: &serde_json::Value) -> Option<Vec<String>> {
    let words = |list: &Vec<serde_json::Value>| {
        list.iter().map(|word| word.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
    };
    if let Some(list) = schema.get("enum").and_then(|list| list.as_array()) {
        return words(list);
    }
    if let Some(word) = schema.get("const").and_then(|word| word.as_str()) {
        return Some(vec![word.to_owned()]);
    }
    let parts = schema.get("oneOf").and_then(|parts| parts.as_array())?;
    parts.iter().map(choices).collect::<Option<Vec<_>>>().map(|lists| lists.concat())
}

/// The schema of a part of that kind or name, with its own settings and those that all parts have.
pub(crate) fn alternative(
    tag: &str,
    name: &str,
    mut own: serde_json::Value,
    common: &serde_json::Value,
) -> serde_json::Value {
    let mut properties = serde_json::Map::new();
    for part in [common, &own] {
        if let Some(more) = part.get("properties").and_then(|properties| properties.as_object()) {
            properties.extend(more.clone());
        }
    }
    properties.insert(tag.to_owned(), json!({ "const": name }));
    own["properties"] = serde_json::Value::Object(properties);
    own["type"] = json!("object");
    own["additionalProperties"] = json!(false);
    if let Some(object) = own.as_object_mut() {
        object.remove("required");
    }
    own
}

/// A value as somebody would type it: words without quotes.
pub(crate) fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The dotted name of a setting in a section.
pub(crate) fn join(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// Lays the values of one table over those of another, table by table. A whole number over a number with a fraction
/// becomes one.
pub(crate) fn overlay(under: &mut Table, over: &Table) {
    for (key, value) in over {
        match (under.get_mut(key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => overlay(under, over),
            (Some(Value::Float(under)), Value::Integer(over)) => *under = *over as f64,
            _ => drop(under.insert(key.clone(), value.clone())),
        }
    }
}
