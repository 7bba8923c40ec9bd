//! Which columns are inputs and which are targets.

use std::ops::Range;

use super::refused;
use super::rows::Table;
use crate::error::{SettingError, nearest};

/// Positions of the chosen columns.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chosen {
    pub(super) inputs: Vec<usize>,
    pub(super) targets: Vec<usize>,
    pub(super) weights: Option<usize>,
}

/// The columns that were named, each by its name, its number from 1 on, a range of numbers, or the name of an array. By
/// default the last column is the target, and all others are inputs; that of the weights is neither.
pub(super) fn choose(
    table: &Table,
    inputs: &[String],
    targets: &[String],
    weights: &str,
) -> Result<Chosen, SettingError> {
    let columns = table.names.len();
    let weights = find_weights(table, weights)?;
    if table.groups.len() > 1 && (inputs.is_empty() || targets.is_empty()) {
        let all: Vec<&str> = table.groups.iter().map(|(name, _)| name.as_str()).collect();
        return Err(refused(format!(
            "{} holds the arrays {}; name some with --inputs and --targets",
            table.shown,
            all.join(", ")
        )));
    }
    let targets = match targets {
        [] if columns < 2 => {
            return Err(refused(format!(
                "{} has {columns} column; it needs one for the input and one for the target (between , ; | or tabs)",
                table.shown
            )));
        }
        [] => {
            let mut others = (0..columns).rev().filter(|&column| Some(column) != weights);
            vec![others.next().unwrap_or(columns - 1)]
        }
        targets => find_all(table, targets, "--targets")?,
    };
    let inputs = match inputs {
        [] => (0..columns).filter(|column| !targets.contains(column) && Some(*column) != weights).collect(),
        inputs => find_all(table, inputs, "--inputs")?,
    };
    if let Some(&both) = inputs.iter().find(|column| targets.contains(column)) {
        return Err(refused(format!(
            "`{}` of {} is both an input and a target; say which with --inputs and --targets",
            table.names[both], table.shown
        )));
    }
    if inputs.is_empty() {
        return Err(refused(format!("all columns of {} are targets; leave one as an input", table.shown)));
    }
    if let Some(both) = weights.filter(|column| inputs.contains(column) || targets.contains(column)) {
        return Err(refused(format!(
            "`{}` of {} holds the weights (--weights), and is named as an input or a target too; leave it out there",
            table.names[both], table.shown
        )));
    }
    Ok(Chosen { inputs, targets, weights })
}

/// The column of the weights, where one is named.
fn find_weights(table: &Table, name: &str) -> Result<Option<usize>, SettingError> {
    if name.is_empty() {
        return Ok(None);
    }
    let range = find(table, name.trim(), "--weights")?;
    if range.len() > 1 {
        let found = range.len();
        return Err(refused(format!(
            "--weights {name} names {found} columns of {}, and takes one",
            table.shown
        )));
    }
    Ok(Some(range.start))
}

fn find_all(table: &Table, items: &[String], flag: &str) -> Result<Vec<usize>, SettingError> {
    let mut found: Vec<usize> = Vec::new();
    for item in items {
        for column in find(table, item.trim(), flag)? {
            if found.contains(&column) {
                let name = &table.names[column];
                return Err(refused(format!("the column `{name}` is named twice ({flag}); keep one")));
            }
            found.push(column);
        }
    }
    Ok(found)
}

fn find(table: &Table, item: &str, flag: &str) -> Result<Range<usize>, SettingError> {
    if let Some(column) = table.names.iter().position(|name| name == item) {
        return Ok(column..column + 1);
    }
    if let Some((_, range)) = table.groups.iter().find(|(name, _)| name == item) {
        return Ok(range.clone());
    }
    let columns = table.names.len();
    let number = |text: &str| text.trim().parse::<usize>().ok();
    let range = match item.split_once('-') {
        Some((first, last)) => number(first).zip(number(last)),
        None => number(item).map(|number| (number, number)),
    };
    match range {
        Some((first, last)) if first >= 1 && first <= last && last <= columns => Ok(first - 1..last),
        Some(_) => Err(refused(format!(
            "{} has no column {item} ({flag}); its {columns} columns have the numbers 1 to {columns}",
            table.shown
        ))),
        None => {
            let names = table.names.iter().chain(table.groups.iter().map(|(name, _)| name));
            let names: Vec<&str> = names.map(String::as_str).collect();
            let mend = nearest(item, names.iter().copied()).unwrap_or_else(|| listed(&names));
            Err(refused(format!("{} has no column `{item}` ({flag}); {mend}", table.shown)))
        }
    }
}

/// Names that a sentence has room for.
const SHOWN: usize = 12;

/// The names that there are.
pub(super) fn listed(names: &[&str]) -> String {
    let more = if names.len() > SHOWN { ", …" } else { "" };
    format!("it has {}{more}", names[..names.len().min(SHOWN)].join(", "))
}
