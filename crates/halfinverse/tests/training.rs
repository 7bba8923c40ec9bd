//! The training loop: reproducible, stopped when told, undisturbed by being watched.

use std::path::PathBuf;

use halfinverse::optimizer::StepReport;
use halfinverse::problem::Source;
use halfinverse::task::{Registry, Settings, Task};
use halfinverse::training::{
    CheckpointError, Flow, Observer, Progress, Request, Row, StopReason, StopSettings, Trainer,
    read_parameters, resume, write_checkpoint,
};
use halfinverse::{NetworkProblem, Predictor, Problem};
use safetensors::tensor::{Dtype, TensorView};
use toml::Value;

/// Keeps rows; asks to stop after so many steps.
#[derive(Default)]
struct Watcher {
    rows: Vec<Row>,
    losses: Vec<f64>,
    stop_after: Option<u64>,
}

impl Observer for Watcher {
    fn step(&mut self, progress: &Progress<'_>, report: &StepReport) -> Flow {
        self.losses.push(report.loss);
        if self.stop_after == Some(progress.steps()) { Flow::Stop } else { Flow::Continue }
    }

    fn row(&mut self, _: &Progress<'_>, row: &Row) -> std::io::Result<()> {
        self.rows.push(row.clone());
        Ok(())
    }
}

fn names() -> Vec<&'static str> {
    Registry::standard().optimizers().iter().map(|entry| entry.name).collect()
}

fn small(optimizer: &str) -> Settings {
    let mut settings = Registry::standard().settings("oscillators", optimizer).unwrap();
    settings.data.train = 96;
    settings.data.test = 70;
    settings.training.batch = 32;
    settings.training.threads = 1;
    settings.training.evaluate_every = 4;
    settings.stop = StopSettings { steps: Some(10), ..StopSettings::default() };
    settings
}

fn run(settings: Settings) -> (Trainer, Watcher, StopReason) {
    let mut trainer = Task::new(settings).unwrap().trainer(None).unwrap();
    let mut watcher = Watcher::default();
    let reason = trainer.run(&mut watcher).unwrap();
    (trainer, watcher, reason)
}

#[test]
fn the_same_seed_makes_the_same_run_and_another_seed_another() {
    for optimizer in names() {
        let (first, _, _) = run(small(optimizer));
        let (second, _, _) = run(small(optimizer));
        assert_eq!(first.theta(), second.theta(), "{optimizer}");
        let mut other = small(optimizer);
        other.training.seed = 2;
        assert_ne!(first.theta(), run(other).0.theta(), "{optimizer}");
    }
}

#[test]
fn evaluation_does_not_change_training() {
    let (often, watched, _) = run(small("adam"));
    let mut rarely = small("adam");
    rarely.training.evaluate_every = 1000;
    let (rarely, unwatched, _) = run(rarely);
    assert_eq!(often.theta(), rarely.theta());
    assert_eq!(watched.rows.iter().map(|row| row.step).collect::<Vec<_>>(), [0, 4, 8, 10]);
    assert_eq!(unwatched.rows.iter().map(|row| row.step).collect::<Vec<_>>(), [0, 10]);
    assert_eq!(watched.rows.last().unwrap().test_loss, unwatched.rows.last().unwrap().test_loss);
}

#[test]
fn two_threads_train_as_one_does() {
    let mut settings = small("hig");
    set(&mut settings, "solver", Value::from("krylov:8"));
    let (one, _, _) = run(settings.clone());
    settings.training.threads = 2;
    let (two, _, _) = run(settings);
    let off = one.theta().iter().zip(two.theta()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(off < 1e-9, "{off:e}");
}

#[test]
fn rows_hold_the_mean_loss_since_the_row_before() {
    let (_, watcher, _) = run(small("sgd"));
    assert_eq!(watcher.rows[0].train_loss, None);
    let mean = watcher.losses[4..8].iter().sum::<f64>() / 4.0;
    assert!((watcher.rows[2].train_loss.unwrap() - mean).abs() < 1e-12);
    assert!((watcher.rows[2].epoch - 8.0 / 3.0).abs() < 1e-12);
}

#[test]
fn every_stop_stops() {
    let with = |stop: StopSettings| {
        let mut settings = small("sgd");
        settings.stop = stop;
        let (trainer, watcher, reason) = run(settings);
        (trainer.steps(), watcher, reason)
    };
    let none = StopSettings::default;
    let (steps, _, reason) = with(StopSettings { epochs: Some(2), steps: Some(1000), ..none() });
    assert!(steps == 6 && matches!(reason, StopReason::Epochs), "{steps}, {reason:?}");
    let (steps, _, reason) = with(StopSettings { time: Some(1e-9), ..none() });
    assert!(steps == 1 && matches!(reason, StopReason::Time), "{steps}, {reason:?}");
    let (steps, watcher, reason) = with(StopSettings { target_loss: Some(1e9), ..none() });
    assert!(steps == 0 && matches!(reason, StopReason::TargetLoss), "{steps}, {reason:?}");
    assert_eq!(watcher.rows.len(), 1, "the row at step 0 is the last one");
}

#[test]
fn an_interrupted_run_ends_with_a_row_of_where_it_is() {
    let mut trainer = Task::new(small("sgd")).unwrap().trainer(None).unwrap();
    let mut watcher = Watcher { stop_after: Some(5), ..Watcher::default() };
    assert!(matches!(trainer.run(&mut watcher).unwrap(), StopReason::Interrupted));
    assert_eq!(watcher.rows.last().unwrap().step, 5);
}

#[test]
fn a_run_that_blows_up_says_so_and_keeps_finite_parameters() {
    let mut settings = small("sgd");
    settings.optimizer.set_learning_rate(1e6);
    let (trainer, watcher, reason) = run(settings);
    assert!(matches!(reason, StopReason::Diverged(_)), "{reason:?}");
    assert!(trainer.theta().iter().all(|theta| theta.is_finite()));
    assert!(watcher.rows.last().unwrap().test_loss.is_nan());
}

#[test]
fn training_lowers_the_loss_with_every_optimizer() {
    for optimizer in names() {
        let mut settings = small(optimizer);
        settings.stop.steps = Some(30);
        if optimizer == "gn" {
            settings.optimizer.set_learning_rate(0.1);
        }
        let (_, watcher, _) = run(settings);
        let (first, last) = (watcher.rows[0].test_loss, watcher.rows.last().unwrap().test_loss);
        assert!(last < 0.9 * first, "{optimizer}: {first} to {last}");
    }
}

#[test]
fn checkpoints_come_back_bit_for_bit_and_only_into_their_own_network() {
    let folder = std::env::temp_dir().join(format!("halfinverse-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path: PathBuf = folder.join("checkpoint.safetensors");
    let (trainer, _, _) = run(small("adam"));
    write_checkpoint(&trainer, &path).unwrap();
    let tensors = trainer.parts().source.tensors();
    assert_eq!(read_parameters(&tensors, &path).unwrap(), trainer.theta());

    let mut wider = small("adam");
    wider.network.hidden = vec![20, 21, 20];
    let wider = Task::new(wider).unwrap();
    let error = read_parameters(&wider.model().tensors(), &path).unwrap_err();
    assert!(matches!(error, CheckpointError::Shape { .. }), "{error}");

    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 8]).unwrap();
    let error = read_parameters(&tensors, &path).unwrap_err();
    assert!(matches!(error, CheckpointError::Format { .. }), "{error}");
    std::fs::remove_dir_all(folder).unwrap();
}

/// Sets a setting of the optimizer.
fn set(settings: &mut Settings, key: &str, value: Value) {
    settings.optimizer.settings.insert(key.to_owned(), value);
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let refused = |change: fn(&mut Settings)| {
        let mut settings = Registry::standard().settings("oscillators", "hig").unwrap();
        change(&mut settings);
        Task::new(settings).err().expect("refused").key().to_owned()
    };
    assert_eq!(refused(|s| s.training.batch = 0), "training.batch");
    assert_eq!(refused(|s| s.training.batch = 5000), "training.batch");
    assert_eq!(refused(|s| s.stop = StopSettings::default()), "stop");
    assert_eq!(refused(|s| s.stop.steps = Some(0)), "stop.steps");
    assert_eq!(refused(|s| s.stop.time = Some(f64::NAN)), "stop.time");
    assert_eq!(refused(|s| s.network.hidden = vec![20, 0]), "network.hidden");
    assert_eq!(refused(|s| s.data.test = 0), "data.test");
    assert_eq!(refused(|s| set(s, "kappa", Value::from(1.5))), "optimizer.kappa");
    assert_eq!(refused(|s| set(s, "kappa", Value::from(f64::NAN))), "optimizer.kappa");
    assert_eq!(refused(|s| set(s, "truncation", Value::from(1.0))), "optimizer.truncation");
    assert_eq!(refused(|s| set(s, "solver", Value::from("krylov:0"))), "optimizer.solver");
    assert_eq!(refused(|s| set(s, "learning_rate", Value::from(-1.0))), "optimizer.learning_rate");
    assert_eq!(refused(|s| s.optimizer.name = "adm".to_owned()), "optimizer.name");
    assert_eq!(refused(|s| s.simulator.kind = "oscilators".to_owned()), "simulator.kind");
}

#[test]
#[allow(clippy::cast_possible_truncation, reason = "float32 is what is tested")]
fn float32_weights_of_a_file_predict_what_the_problem_computes() {
    let mut settings = small("hig");
    settings.data.test = 300; // more than are evaluated together
    let task = Task::new(settings).unwrap();
    let (model, network) = (task.model(), task.model().network());
    let theta: Vec<f64> = task.initial_parameters().iter().map(|&t| f64::from(t as f32)).collect();
    let tensors = network.tensors();
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|tensor| tensor.places().flat_map(|place| (theta[place] as f32).to_le_bytes()).collect())
        .collect();
    let views = tensors.iter().zip(&bytes).map(|(tensor, bytes)| {
        (&tensor.name, TensorView::new(Dtype::F32, tensor.shape.clone(), bytes).unwrap())
    });
    let path = std::env::temp_dir().join(format!("halfinverse-weights-{}.safetensors", std::process::id()));
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    let read = read_parameters(&tensors, &path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(read, theta);

    let predictor = Predictor::new(model, read, 1).unwrap();
    let samples = task.test();
    let mut problem = NetworkProblem::new(model, samples.clone(), 1).unwrap();
    problem.loss(&theta).unwrap();
    let (input, initial) = (samples.input.as_ref(), samples.initial.as_ref());
    let outcome = predictor.outcome(input, initial).unwrap();
    assert!((&outcome - problem.outcome()).norm_max() < 1e-12);
    assert!((predictor.control(input).unwrap() - problem.control()).norm_max() < 1e-12);
    let none = predictor.outcome(input.subrows(0, 0), initial.subrows(0, 0)).unwrap();
    assert_eq!((none.nrows(), none.ncols()), (0, outcome.ncols()));
    assert!(predictor.outcome(input, initial.subrows(0, 3)).is_err());
    assert!(predictor.control(input.subcols(0, 1)).is_err());
    assert!(Predictor::new(model, theta[1..].to_vec(), 1).is_err());
}

/// Makes its requests after given steps; keeps rows, and a checkpoint after one of the steps.
#[derive(Default)]
struct Asking {
    requests: Vec<(u64, Request)>,
    kept: Option<(u64, PathBuf)>,
    rows: Vec<Row>,
}

impl Observer for Asking {
    fn step(&mut self, progress: &Progress<'_>, _: &StepReport) -> Flow {
        if let Some((_, path)) = self.kept.as_ref().filter(|(step, _)| *step == progress.steps()) {
            progress.write_checkpoint(path).unwrap();
        }
        Flow::Continue
    }

    fn request(&mut self, progress: &Progress<'_>) -> Option<Request> {
        let due = self.requests.first().is_some_and(|(step, _)| *step == progress.steps());
        due.then(|| self.requests.remove(0).1)
    }

    fn row(&mut self, _: &Progress<'_>, row: &Row) -> std::io::Result<()> {
        self.rows.push(row.clone());
        Ok(())
    }
}

fn run_asking(settings: Settings, asking: &mut Asking) -> (Trainer, StopReason) {
    let mut trainer = Task::new(settings).unwrap().trainer(None).unwrap();
    let reason = trainer.run(asking).unwrap();
    (trainer, reason)
}

#[test]
fn an_evaluation_on_request_adds_a_row_and_changes_neither_steps_nor_later_rows() {
    for optimizer in ["hig", "adam", "hig-auto"] {
        let (plain, watcher, _) = run(small(optimizer));
        let mut asking =
            Asking { requests: vec![(3, Request::Evaluate), (7, Request::Evaluate)], ..Asking::default() };
        let (trainer, _) = run_asking(small(optimizer), &mut asking);
        assert_eq!(trainer.theta(), plain.theta(), "{optimizer}");
        let (asked, regular): (Vec<Row>, Vec<Row>) =
            asking.rows.into_iter().partition(|row| [3, 7].contains(&row.step));
        assert_eq!(asked.len(), 2);
        let losses = |rows: &[Row]| -> Vec<_> {
            rows.iter().map(|row| (row.step, row.train_loss, row.test_loss.to_bits(), row.moved)).collect()
        };
        assert_eq!(losses(&regular), losses(&watcher.rows), "{optimizer}");
        assert_eq!(trainer.rows(), plain.rows() + 2, "a checkpoint knows of the rows");
        assert_eq!(trainer.best().step, plain.best().step);
    }
}

#[test]
fn a_changed_learning_rate_holds_from_the_next_step_on_and_comes_back_from_a_checkpoint() {
    let path = std::env::temp_dir().join(format!("halfinverse-rate-{}.safetensors", std::process::id()));
    for optimizer in ["hig", "adam"] {
        let mut asking = Asking {
            // It is asked again after a rest.
            requests: vec![(5, Request::Wait), (5, Request::Scale(4.0))],
            kept: Some((7, path.clone())),
            ..Asking::default()
        };
        let (trainer, _) = run_asking(small(optimizer), &mut asking);
        let rate = |step: u64| {
            let row = asking.rows.iter().find(|row| row.step == step).unwrap();
            row.last.as_ref().and_then(|last| last.learning_rate).unwrap()
        };
        assert_eq!(rate(8), 4.0 * rate(4), "{optimizer}");
        assert_ne!(trainer.theta(), run(small(optimizer)).0.theta(), "{optimizer}");
        let mut resumed = resume(&Task::new(small(optimizer)).unwrap().parts(), &path).unwrap();
        resumed.run(&mut ()).unwrap();
        assert_eq!(resumed.theta(), trainer.theta(), "{optimizer}");
    }
    // An optimizer that chooses the length of its steps has no rate to change.
    let mut asking = Asking { requests: vec![(5, Request::Scale(4.0))], ..Asking::default() };
    assert_eq!(run_asking(small("hig-auto"), &mut asking).0.theta(), run(small("hig-auto")).0.theta());
}

#[test]
fn a_run_that_is_asked_to_stop_ends_after_that_step_with_one_row() {
    let mut asking =
        Asking { requests: vec![(6, Request::Evaluate), (6, Request::Stop)], ..Asking::default() };
    let (trainer, reason) = run_asking(small("adam"), &mut asking);
    assert!(matches!(reason, StopReason::Interrupted));
    assert_eq!(trainer.steps(), 6);
    assert_eq!(asking.rows.iter().filter(|row| row.step == 6).count(), 1);
}
