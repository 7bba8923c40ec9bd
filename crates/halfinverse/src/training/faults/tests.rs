//! Runs whose data or simulator fail on purpose, under each policy.

use std::sync::Arc;

use faer::{Mat, MatMut, MatRef};

use super::*;
use crate::network::{Activation, Network};
use crate::objective::SquaredError;
use crate::problem::Model;
use crate::simulator::{Derivative, Simulator, SimulatorError, Tape};
use crate::task::{Registry, Task};
use crate::training::{Data, Observer, Parts, Progress, Row, StopReason, StopSettings, Trainer};

/// y = z, but for samples that start from a mark.
#[derive(Debug, Clone, Copy)]
struct Faulty(Fault);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// An input is NaN.
    Data,
    /// An outcome is infinite.
    Outcome,
    /// ∂y/∂z is NaN.
    Derivative,
    /// ∂y/∂z is finite, but its square is not.
    Huge,
    /// The simulator says that it cannot.
    Error,
}

const ALL: [Fault; 5] = [Fault::Data, Fault::Outcome, Fault::Derivative, Fault::Huge, Fault::Error];

/// The sample that is marked.
const MARKED: usize = 17;
const BATCH: usize = 8;

impl Faulty {
    /// What a marked sample's derivatives are multiplied by.
    fn slope(self, initial: MatRef<'_, f64>, s: usize) -> f64 {
        match self.0 {
            Fault::Derivative if initial[(s, 0)] > 0.0 => f64::NAN,
            Fault::Huge if initial[(s, 0)] > 0.0 => 1e200,
            _ => 1.0,
        }
    }
}

impl Simulator for Faulty {
    fn controls(&self) -> usize {
        2
    }

    fn outcomes(&self) -> usize {
        2
    }

    fn initials(&self) -> usize {
        1
    }

    fn simulate(
        &self,
        initial: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
        mut outcome: MatMut<'_, f64>,
        _: Option<&mut Tape>,
    ) -> Result<(), SimulatorError> {
        outcome.copy_from(control);
        let marked = (0..initial.nrows()).find(|&s| initial[(s, 0)] > 0.0);
        match (self.0, marked) {
            (Fault::Error, Some(s)) => Err(SimulatorError::of_sample(s, "it is marked")),
            (Fault::Outcome, Some(s)) => {
                outcome[(s, 1)] = f64::INFINITY;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn derivative(&self) -> Derivative<'_> {
        Derivative::vjp(|at, cotangent, mut out| {
            for s in 0..out.nrows() {
                for j in 0..2 {
                    out[(s, j)] = self.slope(at.initial, s) * cotangent[(s, j)];
                }
            }
            Ok(())
        })
    }
}

/// The toy task's function with this simulator, on 32 samples, and θ.
fn parts(fault: Fault, optimizer: &str, policy: OnFault) -> (Parts, Vec<f64>) {
    let mut settings = Registry::standard().settings("toy", optimizer).unwrap();
    (settings.data.train, settings.data.test) = (32, 4);
    (settings.training.batch, settings.training.threads) = (BATCH, 1);
    (settings.training.evaluate_every, settings.training.on_fault) = (3, policy);
    settings.training.blow_up = 0.0;
    settings.stop = StopSettings { steps: Some(16), ..StopSettings::default() };
    let task = Task::new(settings).unwrap();
    let network = Network::mlp(&[1, 7, 2], Activation::Tanh).unwrap();
    let model = Model::new(network, Faulty(fault), SquaredError { factor: 0.5 }).unwrap();
    let (mut train, mut test) = (task.train().clone(), task.test().clone());
    train.initial = Mat::zeros(32, 1);
    test.initial = Mat::zeros(4, 1);
    train.initial[(MARKED, 0)] = 1.0;
    if fault == Fault::Data {
        train.input[(MARKED, 0)] = f64::NAN;
    }
    let parts = Parts { source: Arc::new(model), data: Data::fixed(train, test), ..task.parts() };
    (parts, task.initial_parameters())
}

#[derive(Default)]
struct Watcher(Vec<Row>);

impl Observer for Watcher {
    fn row(&mut self, _: &Progress<'_>, row: &Row) -> std::io::Result<()> {
        self.0.push(row.clone());
        Ok(())
    }
}

fn run((parts, theta): (Parts, Vec<f64>)) -> (Trainer, StopReason, Vec<Row>) {
    let (mut trainer, mut watcher) = (Trainer::new(parts, theta).unwrap(), Watcher::default());
    let reason = trainer.run(&mut watcher).unwrap();
    (trainer, reason, watcher.0)
}

/// Those that take no step back by themselves.
const PLAIN: [&str; 9] = ["adam", "momentum", "soap", "muon", "hig", "gn", "lm", "l-bfgs", "sip"];

/// Every fault with every one of them; a huge derivative only where it is not inverted, which makes a small step of it.
fn cases() -> impl Iterator<Item = (Fault, &'static str)> {
    let inverts = |optimizer| !["adam", "momentum", "soap", "muon", "l-bfgs"].contains(&optimizer);
    ALL.into_iter()
        .flat_map(|fault| PLAIN.map(|optimizer| (fault, optimizer)))
        .filter(move |&(fault, optimizer)| fault != Fault::Huge || !inverts(optimizer))
}

#[test]
fn a_run_that_stops_at_a_fault_is_as_it_was_before_that_step() {
    for (fault, optimizer) in cases() {
        let (trainer, reason, _) = run(parts(fault, optimizer, OnFault::Stop));
        assert!(matches!(reason, StopReason::Diverged(_)), "{fault:?} {optimizer}: {reason:?}");
        // The third mini-batch holds the marked sample.
        assert_eq!((trainer.steps(), trainer.faults()), (2, 0), "{fault:?} {optimizer}");
        let (mut short, theta) = parts(fault, optimizer, OnFault::Stop);
        short.options.stop.steps = Some(2);
        assert_eq!(trainer.theta(), run((short, theta)).0.theta(), "{fault:?} {optimizer}");
    }
}

#[test]
fn a_skipped_mini_batch_leaves_no_trace_but_its_count() {
    for (fault, optimizer) in cases() {
        let (skipping, mut theta) = parts(fault, optimizer, OnFault::Skip);
        let (trainer, reason, rows) = run((skipping.clone(), theta.clone()));
        assert!(matches!(reason, StopReason::Steps), "{fault:?} {optimizer}: {reason:?}");
        assert_eq!(trainer.faults(), 4, "{fault:?} {optimizer}");
        assert_eq!(rows.iter().map(|row| row.faults).sum::<u64>(), 4, "{fault:?} {optimizer}");
        // The same optimizer on the mini-batches that are in order.
        let Parts { source, data, stages, options } = &skipping;
        let mut alone = stages[0].optimizer(data, options, source).unwrap();
        let mut problem = source.problem(data.train.first(BATCH), 1).unwrap();
        for first in (0..16).map(|step| step % 4 * BATCH).filter(|&first| first != 16) {
            problem.take(&data.train, &(first..first + BATCH).collect::<Vec<_>>()).unwrap();
            alone.step(&mut *problem, &mut theta).unwrap();
        }
        assert_eq!(trainer.theta(), theta, "{fault:?} {optimizer}");
    }
}

#[test]
fn a_run_that_rolls_back_goes_on_with_finite_parameters() {
    for (fault, optimizer) in cases() {
        let (trainer, reason, _) = run(parts(fault, optimizer, OnFault::RollBack));
        assert!(matches!(reason, StopReason::Steps), "{fault:?} {optimizer}: {reason:?}");
        assert_eq!(trainer.faults(), 4, "{fault:?} {optimizer}");
        assert!(trainer.theta().iter().all(|x| x.is_finite()), "{fault:?} {optimizer}");
    }
}

#[test]
fn the_optimizers_that_take_steps_back_outlive_every_fault_or_say_what_it_was() {
    for fault in ALL {
        for optimizer in ["hig-kron", "hig-auto"] {
            for policy in [OnFault::Stop, OnFault::Skip, OnFault::RollBack] {
                let (mut parts, theta) = parts(fault, optimizer, policy);
                parts.options.blow_up = 1e3;
                let (trainer, reason, rows) = run((parts, theta));
                assert!(trainer.theta().iter().all(|x| x.is_finite()), "{fault:?} {optimizer} {policy:?}");
                let losses = rows.iter().filter_map(|row| row.train_loss);
                assert!(losses.into_iter().all(f64::is_finite), "{fault:?} {optimizer} {policy:?}");
                let stopped = matches!(reason, StopReason::Diverged(_));
                assert!(policy == OnFault::Stop || !stopped, "{fault:?} {optimizer} {policy:?}: {reason:?}");
            }
        }
    }
}

#[test]
fn an_error_names_sample_and_component() {
    let (_, reason, _) = run(parts(Fault::Outcome, "adam", OnFault::Stop));
    let StopReason::Diverged(error) = reason else { panic!("{reason:?}") };
    let expected = "the loss of the mini-batch is inf: component 1 of the outcome of its sample 1 is inf";
    assert_eq!(error.to_string(), expected);
}

/// Gradient descent on poisson, far too fast.
fn too_fast(policy: OnFault) -> (Trainer, StopReason, Vec<Row>) {
    let mut settings = Registry::standard().settings("poisson", "sgd").unwrap();
    (settings.data.train, settings.data.test) = (64, 8);
    (settings.training.batch, settings.training.threads) = (8, 1);
    (settings.training.evaluate_every, settings.training.on_fault) = (5, policy);
    settings.optimizer.set_learning_rate(1e-2);
    settings.stop = StopSettings { steps: Some(400), ..StopSettings::default() };
    let task = Task::new(settings).unwrap();
    run((task.parts(), task.initial_parameters()))
}

#[test]
fn a_blow_up_stops_a_run_or_makes_its_steps_smaller() {
    let (_, reason, _) = too_fast(OnFault::Stop);
    assert!(matches!(reason, StopReason::Diverged(StepError::BlowUp { .. })), "{reason:?}");
    let (_, reason, _) = too_fast(OnFault::Skip);
    assert!(matches!(reason, StopReason::Diverged(StepError::BlowUp { .. })), "{reason:?}");
    let (trainer, reason, rows) = too_fast(OnFault::RollBack);
    assert!(matches!(reason, StopReason::Steps), "{reason:?}");
    assert!(trainer.faults() > 0);
    let last = rows.last().unwrap();
    assert!(last.test_loss < rows[0].test_loss, "{}", last.test_loss);
    assert!(last.last.as_ref().unwrap().learning_rate.unwrap() < 1e-2);
}

/// What `blow_up` says of losses, one a step: the first step that it calls a blow-up.
fn first_blow_up(losses: impl IntoIterator<Item = f64>) -> Option<usize> {
    let mut faults = Faults::new(OnFault::Stop, 1e3);
    losses.into_iter().position(|loss| faults.watch(loss).is_err())
}

#[test]
fn a_loss_that_comes_back_is_no_blow_up_and_one_that_stays_up_is() {
    let falling = (0..50).map(|step| 0.9f64.powi(step));
    let spike = [1e9, 1e3, 1.0].into_iter();
    let fallen = std::iter::repeat_n(0.005, 50);
    assert_eq!(first_blow_up(falling.clone().chain(spike).chain(fallen.clone())), None);
    // ln 1e6 · (1 − 0.9^7) > ln 1e3
    assert_eq!(first_blow_up([1.0].into_iter().chain([1e6; 50])), Some(7));
    assert_eq!(first_blow_up([1.0].into_iter().chain([999.0; 200])), None);
    // Round-off about zero is none.
    assert_eq!(first_blow_up([1.0].into_iter().chain([1e-30; 50]).chain([1e-14; 50])), None);
    assert_eq!(first_blow_up([0.0; 50]), None);
}

#[test]
fn the_state_that_a_blow_up_began_in_is_not_gone_back_to() {
    let mut faults = Faults::new(OnFault::Stop, 1e3);
    assert!(faults.watch(1.0).unwrap());
    assert!(faults.watch(9.0).unwrap());
    assert!(!faults.watch(100.0).unwrap());
}
