//! What there is to say of settings that nothing refuses.

use halfinverse::optimizer::Entry;
use halfinverse::task::Settings;
use toml::{Table, Value};

/// A mini-batch so many times the task's, or so small a part of it, is another problem for its learning rate.
const FAR: f64 = 4.0;

/// Says so where the mini-batch was given and the learning rate was not: the task's belongs to the task's mini-batch.
pub(super) fn on_batch(entry: &Entry, defaults: &Table, over: &Table, settings: &Settings) -> Option<String> {
    let usual = get(defaults, "training", "batch")?.as_integer()?;
    let batch = settings.training.batch;
    let ratio = batch as f64 / usual as f64;
    let near = (1.0 / FAR..=FAR).contains(&ratio);
    let by_model = settings.optimizer.settings.get("rate").and_then(Value::as_str) == Some("model");
    if !entry.scales || near || by_model || get(over, "optimizer", "learning_rate").is_some() {
        return None;
    }
    let rate = settings.optimizer.learning_rate()?;
    // Few samples differ too much from all others for the longest step that their own model likes.
    let mend = match (ratio < 1.0, entry.defaults().contains_key("rate")) {
        (true, _) => "a lower one (--lr)",
        (false, true) => "another one (--lr) or --set optimizer.rate=model --lr 1",
        (false, false) => "another one (--lr)",
    };
    Some(format!(
        "the learning rate {rate} is the task's for mini-batches of {usual}; with {batch}, {mend} may do better"
    ))
}

fn get<'a>(table: &'a Table, section: &str, key: &str) -> Option<&'a Value> {
    table.get(section)?.get(key)
}
