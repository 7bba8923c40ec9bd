//! A task file with bounds on controls, a robust loss and weights of outcomes, trained by the program.

mod common;

use std::fs;

use common::{folder, hig};
use halfinverse::Predictor;
use halfinverse::task::{Registry, Task};
use halfinverse::training::read_parameters;

const TASK: &str = r#"
task = "gently"
simulator = { kind = "oscillators", steps = 48 }
objective = { kind = "huber", scale = 0.2, weights = [1, 1, 0.5, 0.5] }
data = { kind = "uniform", train = 128, test = 32 }
optimizer = { name = "hig-auto" }
training = { batch = 64, threads = 1 }
stop = { steps = 40 }

[network]
bounds = [-0.5, 0.5]
"#;

#[test]
fn controls_of_a_trained_task_file_are_within_its_bounds_and_its_loss_falls() {
    let home = folder("bounds");
    fs::create_dir_all(&home).unwrap();
    let file = home.join("gently.toml");
    fs::write(&file, TASK).unwrap();
    let file = file.to_str().unwrap();
    let right = hig(&["check", file]);
    assert!(right.status.success(), "{}", String::from_utf8_lossy(&right.stderr));
    for optimizer in ["lm", "hig-auto"] {
        let run = home.join(optimizer);
        let output = hig(&["train", file, "--optimizer", optimizer, "--out", run.to_str().unwrap()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let metrics = fs::read_to_string(run.join("metrics.csv")).unwrap();
        let losses: Vec<f64> =
            metrics.lines().skip(1).map(|row| row.split(',').nth(5).unwrap().parse().unwrap()).collect();
        let (before, after) = (losses[0], losses[losses.len() - 1]);
        assert!(4.0 * after < before, "{optimizer}: {before} to {after}");
        let registry = Registry::standard().task(TASK).unwrap();
        let task = Task::with(registry.settings("gently", optimizer).unwrap(), &registry).unwrap();
        let tensors = task.model().network().tensors();
        let theta = read_parameters(&tensors, &run.join("checkpoint.safetensors")).unwrap();
        let predictor = Predictor::new(task.model(), theta, 1).unwrap();
        let largest = predictor.control(task.test().input.as_ref()).unwrap().norm_max();
        assert!(largest <= 0.5 && largest > 0.3, "{optimizer}: {largest}");
    }
}
