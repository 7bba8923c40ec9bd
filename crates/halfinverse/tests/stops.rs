//! What ends a run, what it says of itself, and which parameters it keeps: for every stop a run that it ends.

use std::path::{Path, PathBuf};

use halfinverse::optimizer::{Context, Notice, Optimizer, Setup, StepReport};
use halfinverse::task::{Registry, Settings, Task};
use halfinverse::training::{
    Flow, Observer, Progress, Row, StopReason, StopSettings, Trainer, TrainingError, read_parameters, resume,
    write_checkpoint, write_parameters,
};
use halfinverse::{Evaluator, Problem, SettingError, StepError};
use serde::{Deserialize, Serialize};

/// Keeps rows and reports; writes a checkpoint after so many steps, and asks to stop.
#[derive(Default)]
struct Watcher {
    rows: Vec<Row>,
    reports: Vec<StepReport>,
    kill: Option<(u64, PathBuf)>,
}

impl Observer for Watcher {
    fn step(&mut self, progress: &Progress<'_>, report: &StepReport) -> Flow {
        self.reports.push(report.clone());
        match &self.kill {
            Some((step, path)) if *step == progress.steps() => {
                progress.write_checkpoint(path).unwrap();
                Flow::Stop
            }
            _ => Flow::Continue,
        }
    }

    fn row(&mut self, _: &Progress<'_>, row: &Row) -> std::io::Result<()> {
        self.rows.push(row.clone());
        Ok(())
    }
}

/// A tiny run with an evaluation every fourth step.
fn tiny(optimizer: &str, stop: StopSettings) -> Settings {
    let mut settings = Registry::standard().settings("toy", optimizer).unwrap();
    (settings.data.train, settings.data.test) = (16, 32);
    (settings.training.batch, settings.training.threads) = (8, 1);
    settings.training.evaluate_every = 4;
    settings.stop = stop;
    settings
}

/// The same with a learning rate at which θ stays where it is.
fn idle(stop: StopSettings) -> Settings {
    let mut settings = tiny("sgd", stop);
    settings.optimizer.set_learning_rate(1e-30);
    settings
}

/// A run whose test loss falls and rises again.
fn rising(stop: StopSettings) -> Settings {
    let mut settings = tiny("lm", stop);
    settings.network.hidden = vec![20];
    settings.simulator.settings.insert("lambda".to_owned(), 1.0.into());
    settings
}

fn run(settings: Settings) -> (Trainer, Watcher, StopReason) {
    let mut trainer = Task::new(settings).unwrap().trainer(None).unwrap();
    let mut watcher = Watcher::default();
    let reason = trainer.run(&mut watcher).unwrap();
    (trainer, watcher, reason)
}

fn none() -> StopSettings {
    StopSettings::default()
}

/// For runs that something else is to end.
fn steps(steps: u64) -> StopSettings {
    StopSettings { steps: Some(steps), ..none() }
}

#[test]
fn patience_ends_a_run_that_gets_no_better() {
    let (trainer, _, reason) = run(idle(StopSettings { patience: Some(3), ..none() }));
    assert!(matches!(reason, StopReason::Patience { evaluations: 3, step: 0, .. }), "{reason:?}");
    assert_eq!(trainer.steps(), 12);
    assert_eq!(reason.to_string(), "patience");
    let said = reason.seen().unwrap();
    assert!(said.starts_with("no better test loss than ") && said.ends_with("in 3 evaluations"), "{said}");

    let (trainer, watcher, reason) = run(rising(StopSettings { patience: Some(10), ..steps(5000) }));
    assert!(matches!(reason, StopReason::Patience { .. }), "{reason:?}");
    let (last, waited) = watcher.rows.split_at(watcher.rows.len() - 10);
    let lowest = last.last().unwrap().test_loss;
    assert!(waited.iter().all(|row| row.test_loss >= lowest), "the ten last rows are no better");
    assert_eq!(trainer.best().loss, lowest);
}

#[test]
fn standing_still_ends_a_run_and_is_said() {
    let (trainer, watcher, reason) = run(idle(StopSettings { still: 7, ..steps(100) }));
    assert!(matches!(reason, StopReason::Still { steps: 7 }), "{reason:?}");
    assert_eq!(trainer.steps(), 7);
    assert!(watcher.rows.iter().all(|row| row.moved == 0));

    let (trainer, watcher, reason) = run(idle(steps(2000)));
    assert!(matches!(reason, StopReason::Still { steps: 1000 }), "the default: {reason:?}");
    let noted = trainer.notices().iter().find(|noted| noted.notice.kind() == "still").unwrap();
    assert_eq!((noted.first, noted.last, noted.count), (100, 1000, 2));
    assert!(noted.to_string().starts_with("steps 100 to 1000, 2 times: the parameters have not changed"));
    let row = watcher.rows.iter().find(|row| row.step == 100).unwrap();
    assert_eq!(row.notice, Some(Notice::Still { steps: 100 }));

    let (trainer, _, reason) = run(idle(StopSettings { still: 0, ..steps(1200) }));
    assert!(matches!(reason, StopReason::Steps) && trainer.steps() == 1200, "0 is never: {reason:?}");
}

#[test]
fn a_test_loss_that_hardly_changes_ends_a_run_that_moves() {
    let (_, watcher, reason) = run(tiny("adam", StopSettings { relative_loss: Some(0.01), ..steps(4000) }));
    assert!(matches!(reason, StopReason::RelativeLoss { change } if change <= 0.01), "{reason:?}");
    let change = |pair: &[Row]| (pair[1].test_loss / pair[0].test_loss - 1.0).abs();
    let changes: Vec<f64> = watcher.rows.windows(2).map(change).collect();
    let (last, before) = changes.split_last().unwrap();
    assert!(*last <= 0.01 && before.iter().all(|change| *change > 0.01), "{changes:?}");
    let (_, _, reason) = run(idle(StopSettings { relative_loss: Some(0.01), ..steps(12) }));
    assert!(matches!(reason, StopReason::Steps), "a run that stands still has not converged: {reason:?}");
}

#[test]
fn a_short_step_ends_a_run_but_none_does_not() {
    let (_, watcher, reason) = run(tiny("sgd", StopSettings { step: Some(1e-3), ..steps(4000) }));
    let StopReason::Step { length, theta } = reason else { panic!("{reason:?}") };
    assert!(length > 0.0 && length <= 1e-3 * (theta + 1e-3));
    let (last, before) = watcher.reports.split_last().unwrap();
    assert!((length / last.update_norm - 1.0).abs() < 1e-9, "{length:e}, {last:?}");
    assert!(before.iter().all(|report| report.update_norm > 0.9e-3 * theta), "an earlier one was as short");
    let (_, _, reason) = run(idle(StopSettings { step: Some(1e-3), ..steps(12) }));
    assert!(matches!(reason, StopReason::Steps), "{reason:?}");
}

#[test]
fn a_gradient_that_has_become_small_ends_a_run() {
    let (_, watcher, reason) = run(tiny("adam", StopSettings { gradient: Some(0.3), ..steps(4000) }));
    let norms: Vec<f64> = watcher.reports.iter().map(|report| report.gradient_norm.unwrap()).collect();
    let StopReason::Gradient { norm, first } = reason else { panic!("{reason:?}") };
    let (last, before) = norms.split_last().unwrap();
    assert_eq!((norm, first), (*last, norms[0]));
    assert!(norm <= 0.3 * first && before.iter().all(|norm| *norm > 0.3 * first), "{norms:?}");
}

/// Gradient descent that keeps the gradient's length to itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Secretive {}

impl Setup for Secretive {
    const NAME: &'static str = "secretive";
    const ABOUT: &'static str = "gradient descent that keeps the gradient's length to itself";

    fn build(self, _: &Context) -> Result<Box<dyn Optimizer>, SettingError> {
        Ok(Box::new(self))
    }
}

impl Optimizer for Secretive {
    fn step(&mut self, problem: &mut dyn Problem, theta: &mut [f64]) -> Result<StepReport, StepError> {
        let mut gradient = vec![0.0; theta.len()];
        let loss = problem.gradient(theta, &mut gradient)? / problem.weight();
        theta.iter_mut().zip(&gradient).for_each(|(theta, g)| *theta -= 0.01 * g);
        Ok(StepReport { loss, ..StepReport::default() })
    }
}

#[test]
fn a_stop_by_the_gradient_is_refused_where_none_is_told() {
    let registry = Registry::standard().optimizer::<Secretive>();
    let mut settings = registry.settings("toy", "secretive").unwrap();
    (settings.data.train, settings.data.test, settings.training.batch) = (16, 4, 8);
    settings.stop = StopSettings { gradient: Some(1e-3), ..steps(9) };
    let mut trainer = Task::with(settings, &registry).unwrap().trainer(None).unwrap();
    let error = trainer.run(&mut ()).unwrap_err();
    assert!(matches!(error, TrainingError::Setting(_)) && trainer.steps() == 1, "{error}");
    let said = error.to_string();
    assert!(said.contains("`stop.gradient`") && said.contains("absent with secretive"), "{said}");
}

#[test]
fn stops_that_no_run_can_reach_are_refused_and_one_new_stop_is_enough() {
    for (stop, key) in [
        (StopSettings { patience: Some(0), ..none() }, "stop.patience"),
        (StopSettings { relative_loss: Some(0.0), ..none() }, "stop.relative_loss"),
        (StopSettings { step: Some(f64::NAN), ..none() }, "stop.step"),
        (StopSettings { step: Some(3.0), ..none() }, "stop.step"),
        (StopSettings { gradient: Some(1.0), ..none() }, "stop.gradient"),
        (StopSettings { still: 5, ..none() }, "stop"),
    ] {
        assert_eq!(Task::new(tiny("sgd", stop)).err().expect(key).key(), key);
    }
    for stop in [
        StopSettings { patience: Some(1), ..none() },
        StopSettings { relative_loss: Some(0.1), ..none() },
        StopSettings { step: Some(0.1), ..none() },
        StopSettings { gradient: Some(0.1), ..none() },
    ] {
        assert!(Task::new(tiny("sgd", stop)).is_ok());
    }
}

#[test]
fn a_learning_rate_that_is_far_off_is_said_after_the_first_step() {
    let told = |rate: f64| {
        let mut settings = tiny("sgd", steps(3));
        settings.optimizer.set_learning_rate(rate);
        let (trainer, _, _) = run(settings);
        trainer.notices().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let high = told(1e6);
    assert!(high.len() == 1 && high[0].starts_with("step 1: the first step multiplied"), "{high:?}");
    assert!(high[0].contains("1.0e6 is too high"), "{high:?}");
    let low = told(1e-12);
    assert!(low.len() == 1 && low[0].contains("1.0e-12 is too low"), "{low:?}");
    assert_eq!(told(0.1), [""; 0]);
}

fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn bytes(trainer: &Trainer, path: &Path) -> Vec<u8> {
    write_checkpoint(trainer, path).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn a_killed_run_ends_by_the_same_stop_with_the_same_best_parameters() {
    let folder = folder("stops-killed");
    let still = || idle(StopSettings { still: 30, ..steps(300) });
    let patient = || rising(StopSettings { patience: Some(40), ..steps(5000) });
    for (name, settings, at) in
        [("still", still(), 26), ("patience", patient(), 61), ("late", patient(), 157)]
    {
        let parts = Task::new(settings.clone()).unwrap().parts();
        let (whole, _, _) = run(settings.clone());
        let killed = folder.join(format!("{name}.safetensors"));
        let mut first = Task::new(settings).unwrap().trainer(None).unwrap();
        first.run(&mut Watcher { kill: Some((at, killed.clone())), ..Watcher::default() }).unwrap();
        let mut second = resume(&parts, &killed).unwrap();
        assert_eq!(second.steps(), at);
        let reason = second.run(&mut ()).unwrap();
        assert!(
            matches!(reason, StopReason::Patience { .. } | StopReason::Still { .. }),
            "{name}: {reason:?}"
        );
        assert_eq!(whole.best(), second.best(), "{name}");
        assert!(bytes(&whole, &folder.join("whole")) == bytes(&second, &folder.join("second")), "{name}");
        // Once more, from its end: it is there.
        let end = folder.join("second");
        let mut third = resume(&parts, &end).unwrap();
        assert_eq!(third.run(&mut ()).unwrap().to_string(), reason.to_string());
        assert_eq!(third.steps(), second.steps());
    }
}

#[test]
fn a_run_that_patience_ended_waits_again_when_it_is_to_go_on() {
    let folder = folder("stops-patience");
    let (trainer, _, _) = run(idle(StopSettings { patience: Some(3), ..none() }));
    let path = folder.join("checkpoint");
    write_checkpoint(&trainer, &path).unwrap();
    let longer = Task::new(idle(StopSettings { patience: Some(3), ..steps(16) })).unwrap().parts();
    let mut trainer = resume(&longer, &path).unwrap();
    assert!(trainer.restart_counts() && !trainer.restart_counts());
    assert!(matches!(trainer.run(&mut ()).unwrap(), StopReason::Steps));
    assert_eq!(trainer.steps(), 16);
}

#[test]
fn the_best_parameters_have_the_lowest_test_loss_of_all_rows() {
    let folder = folder("stops-best");
    let (trainer, watcher, _) = run(rising(steps(302)));
    let best = trainer.best();
    let lowest = watcher.rows.iter().min_by(|a, b| a.test_loss.total_cmp(&b.test_loss)).unwrap();
    assert_eq!((best.loss, best.step), (lowest.test_loss, lowest.step));
    assert!(best.loss < 0.9 * trainer.test_loss(), "this run rises again");
    let path = folder.join("best.safetensors");
    let tensors = trainer.parts().source.tensors();
    for _ in 0..2 {
        write_parameters(&tensors, best.theta, &path).unwrap();
    }
    let names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["best.safetensors"], "nothing else is left");
    let theta = read_parameters(&tensors, &path).unwrap();
    let data = trainer.parts().data.test.clone();
    let loss = Evaluator::new(&*trainer.parts().source, data, 1).unwrap().loss(&theta).unwrap();
    assert_eq!(loss, best.loss);

    // An evaluation that only the end called for counts, but is none that a resumed run would have had.
    let (trainer, watcher, _) = run(tiny("adam", steps(402)));
    assert_eq!(trainer.best().step, 402);
    let path = folder.join("checkpoint");
    write_checkpoint(&trainer, &path).unwrap();
    let resumed = resume(trainer.parts(), &path).unwrap();
    let row = watcher.rows.iter().rev().find(|row| row.step == resumed.best().step).unwrap();
    assert!(row.step <= 400 && row.test_loss == resumed.best().loss, "{}", row.step);
}
