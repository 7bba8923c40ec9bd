//! Configuration files that were damaged, or made to do harm. How to fuzz for longer stands at the head of
//! `halfinverse/src/training/checkpoint/tests.rs`.

use std::sync::LazyLock;

use halfinverse::task::Stage;

use super::file::givens;
use super::givens::Givens;
use super::*;
use crate::damage::{damage, within};

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::standard);

/// What `hig train --config` makes of a file, up to the check of the settings against each other.
fn settings(bytes: &[u8]) -> Result<Settings, Failure> {
    let file = givens(bytes, "config.toml", REGISTRY.schema())?;
    resolve::merge(&REGISTRY, None, file, Givens::default()).map(|resolved| resolved.settings)
}

fn read_config(bytes: &[u8]) {
    // Made once, of whatever file.
    REGISTRY.schema();
    within(bytes, 640, 64 << 10, || drop(settings(bytes)));
}

fn valid(choice: u8) -> (Settings, String) {
    let choice = usize::from(choice);
    let tasks: Vec<&str> = REGISTRY.tasks().map(|(name, _)| name).collect();
    let optimizers: Vec<&str> = REGISTRY.optimizers().iter().map(|entry| entry.name).collect();
    let task = tasks[choice % tasks.len()];
    let optimizer = optimizers[choice / tasks.len() % optimizers.len()];
    let mut settings = REGISTRY.settings(task, optimizer).unwrap();
    if choice > 200 {
        settings.training.from = Some("runs/a \"run\"".to_owned());
        let optimizer = settings.optimizer.clone();
        settings.before = vec![Stage { steps: 7, batch: 3, optimizer }];
    }
    let text = settings.to_toml();
    (settings, text)
}

#[test]
fn any_configuration_is_read_or_refused() {
    bolero::check!(name = "config").with_iterations(5_000).for_each(|input: &[u8]| {
        read_config(input);
        let (_, text) = valid(input.first().copied().unwrap_or(0));
        read_config(&damage(text.as_bytes(), input.get(1..).unwrap_or_default()));
    });
}

#[test]
fn what_was_written_is_read() {
    for choice in 0..=255 {
        let (written, text) = valid(choice);
        assert_eq!(settings(text.as_bytes()).unwrap(), written);
    }
}

#[test]
fn what_takes_most_memory_stays_within_the_bounds() {
    let size = (1 << 17) + 1;
    let dotted = vec!["a"; size / 2].join(".");
    // Eighty inline tables, each under a key of eighty parts, are as deep as it gets.
    let nested = format!("{}={{", vec!["a"; 79].join("."));
    for text in [
        "[".repeat(size),
        "a=[".to_owned() + &"[".repeat(size),
        "a={".to_owned() + &"a={".repeat(size / 3),
        format!("{dotted}=1"),
        format!("[{dotted}]\nb=1"),
        format!("task = \"toy\"\nnetwork.hidden = {{{}a=1{}}}", nested.repeat(78), "}".repeat(78)),
        format!("task = \"toy\"\nbefore = [{{{}a=1{}}}]", nested.repeat(76), "}".repeat(76)),
        format!("task = \"toy\"\noptimizer = {{name={{{}a=1{}}}}}", nested.repeat(77), "}".repeat(77)),
        nested.repeat(78) + "a=1" + &"}".repeat(78),
        "network.hidden = [".to_owned() + &"1,".repeat(size / 2) + "]\ntask = \"toy\"",
        "task = \"toy\"\nbefore = [".to_owned() + &"{},".repeat(size / 3) + "]",
        (0..size / 8).map(|i| format!("a{i:x}=1\n")).collect::<String>(),
        format!("[{}]\n", "a".repeat(size))
            + &(0..size / 8).map(|i| format!("a{i:x}=1\n")).collect::<String>(),
        format!("task = \"{}\"", "x".repeat(size)),
        format!("task = \"toy\"\nnetwork.activation = \"{}\"", "\\t`".repeat(size / 3)),
        format!("task = \"toy\"\noptimizer.solver = \"{}\"", "x".repeat(size)),
        format!("task = \"toy\"\n{} = 1", "x".repeat(size)),
        format!("task = \"toy\"\ntraining.seed = {}", "9".repeat(size)),
        "\n".repeat(size),
        "#".repeat(size),
        "\u{feff}\r".repeat(size / 4),
    ] {
        read_config(text.as_bytes());
    }
}
