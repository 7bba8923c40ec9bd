//! Settings from a TOML file, each with its place: read as if a stranger had written the file.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use halfinverse::task::{OptimizerName, TaskName};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Value};

use super::{Given, Givens, OPTIONAL, defaults, join};
use crate::failure::Failure;

/// The settings of a TOML file by dotted name, each with line and column.
pub(super) fn read(path: &Path) -> Result<Givens, Failure> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| Failure::new(format!("cannot read {name}: {error}")))?;
    givens(&bytes, &name)
}

/// Of the settings that do not exist only the first is kept, for [`overlay`](super::overlay) to refuse: there is no end to their number.
///
/// Beside the text, which may be no longer than [`LONGEST`], this takes at most 640 bytes of memory for each of its bytes, and
/// 64 KiB: `a.a.a = 1` is three tables, and a table with one entry has room for eleven.
pub(super) fn givens(bytes: &[u8], name: &str) -> Result<Givens, Failure> {
    if bytes.len() > LONGEST {
        let length = bytes.len();
        return Err(Failure::new(format!(
            "{name} is no configuration: it has {length} bytes, more than {LONGEST}"
        )));
    }
    let text = str::from_utf8(bytes).map_err(|error| Failure::new(format!("cannot read {name}: {error}")))?;
    let place = |span: Option<Range<usize>>| match span {
        Some(span) => {
            let before = &text[..text.floor_char_boundary(span.start)];
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
            format!("{name}, line {line}, column {column}")
        }
        None => name.to_owned(),
    };
    let bad = |error: toml::de::Error| Failure::new(format!("{}: {}", place(error.span()), error.message()));
    let table = DeTable::parse(text).map_err(bad)?;
    let mut found = Found::default();
    take("", table.into_inner(), &names(), &mut found);
    let mut givens = Givens::new();
    for (name, (span, value)) in found.settings {
        let place = place(Some(span));
        if !shallow(value.get_ref(), DEEPEST) {
            return Err(Failure::new(format!("`{name}` is nested deeper than any setting ({place})")));
        }
        let value = Value::deserialize(value.into_deserializer()).map_err(bad)?;
        givens.insert(name, Given { value, place });
    }
    if let Some((name, span)) = found.unknown {
        givens.insert(name, Given { value: Value::Boolean(false), place: place(Some(span)) });
    }
    Ok(givens)
}

/// What stands in a file.
#[derive(Default)]
struct Found<'a> {
    settings: BTreeMap<String, (Range<usize>, Spanned<DeValue<'a>>)>,
    unknown: Option<(String, Range<usize>)>,
}

/// Adds a table's settings to `found`. It goes no deeper than the settings do, whatever the file does.
fn take<'a>(prefix: &str, table: DeTable<'a>, known: &BTreeSet<String>, found: &mut Found<'a>) {
    for (key, value) in table {
        let (span, name) = (key.span(), join(prefix, key.get_ref()));
        if known.contains(&name) {
            found.settings.insert(name, (span, value));
            continue;
        }
        let section = format!("{name}.");
        match value.into_inner() {
            DeValue::Table(table) if known.iter().any(|known| known.starts_with(&section)) => {
                take(&name, table, known, found);
            }
            value if found.unknown.is_none() => found.unknown = Some(first(name, span, &value)),
            _ => {}
        }
    }
}

/// The name and place of a value, or of the first in a table that is none of the settings' sections.
fn first(name: String, span: Range<usize>, value: &DeValue<'_>) -> (String, Range<usize>) {
    match value.as_table().and_then(|table| table.iter().next()) {
        Some((key, _)) => (join(&name, key.get_ref()), key.span()),
        None => (name, span),
    }
}

/// Bytes of a configuration.
const LONGEST: usize = 1 << 20;

/// Lists and tables within each other in the deepest setting, `before`.
const DEEPEST: usize = 4;

/// The parser lets thousands be nested, which is more than the stack has room to convert.
fn shallow(value: &DeValue<'_>, levels: usize) -> bool {
    match value {
        DeValue::Array(items) => levels > 0 && items.iter().all(|item| shallow(item.get_ref(), levels - 1)),
        DeValue::Table(table) => levels > 0 && table.values().all(|item| shallow(item.get_ref(), levels - 1)),
        _ => true,
    }
}

/// Every setting of every task and optimizer.
fn names() -> BTreeSet<String> {
    let of = |(&task, &optimizer): (&TaskName, &OptimizerName)| defaults(task, optimizer).into_keys();
    let tasks = TaskName::ALL.iter().map(|task| (task, &OptimizerName::ALL[0]));
    let optimizers = OptimizerName::ALL.iter().map(|optimizer| (&TaskName::ALL[0], optimizer));
    let optional = OPTIONAL.iter().map(|&(name, _)| name.to_owned());
    tasks.chain(optimizers).flat_map(of).chain(optional).collect()
}
