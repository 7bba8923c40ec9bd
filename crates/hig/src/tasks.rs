//! `hig tasks`: what can be trained, with its settings.

use std::process::ExitCode;

use halfinverse::task::{OptimizerName, TaskName};
use serde_json::{Map, json};

use crate::arguments::TasksArguments;
use crate::settings::defaults;
use crate::voice::put;

pub(crate) fn run(arguments: &TasksArguments) -> ExitCode {
    if arguments.json {
        let mut tasks = Map::new();
        for &task in TaskName::ALL {
            let optimizers = OptimizerName::ALL
                .iter()
                .map(|&optimizer| (optimizer.to_string(), json!(defaults(task, optimizer))));
            tasks.insert(
                task.to_string(),
                json!({ "about": about(task), "settings": optimizers.collect::<Map<_, _>>() }),
            );
        }
        put(serde_json::Value::from(tasks));
        return ExitCode::SUCCESS;
    }
    for &task in TaskName::ALL {
        put(format_args!("{task}: {}", about(task)));
        let all = OptimizerName::ALL.iter().map(|&name| (name, defaults(task, name))).collect::<Vec<_>>();
        let (_, first) = &all[0];
        for (key, value) in first.iter().filter(|(key, _)| !key.starts_with("optimizer.")) {
            let differing = all.iter().filter(|(_, settings)| settings.get(key) != Some(value));
            let others =
                differing.map(|(name, settings)| format!("{name}: {}", settings[key])).collect::<Vec<_>>();
            let others =
                if others.is_empty() { String::new() } else { format!("   ({})", others.join(", ")) };
            put(format_args!("  {key} = {value}{others}"));
        }
        for (name, settings) in &all {
            let own = settings.iter().filter_map(|(key, value)| {
                let key = key.strip_prefix("optimizer.").filter(|&key| key != "name")?;
                Some(format!("{key} = {value}"))
            });
            put(format_args!("  --optimizer {name}: {}", own.collect::<Vec<_>>().join(", ")));
        }
    }
    put(
        "Settings go behind --set, as in --set network.hidden=[32,32]; optimizer settings as optimizer.NAME.",
    );
    put(
        "0 stands for all cores in training.threads, and for at most 5 % of the time in training.evaluate_every.",
    );
    put(
        "A run stops at the first of stop.steps, stop.epochs, stop.time (seconds) and stop.target_loss (test loss).",
    );
    ExitCode::SUCCESS
}

fn about(task: TaskName) -> &'static str {
    match task {
        TaskName::Oscillators => {
            "a chain of nonlinear oscillators, to be steered back to the state it started in"
        }
        TaskName::Dipole => {
            "a quantum state in a box, to be steered to another by the strength of a dipole field"
        }
        TaskName::Poisson => "a field, to be found from its Laplacian; every step sees fresh noise",
        TaskName::Toy => {
            "two functions of one variable, the second seen through a factor that scales its gradients down"
        }
        TaskName::Regression => "a function of one variable; no simulator at all",
    }
}
