//! Training over ranks: what one process comes to, the same bits for the same number of ranks, errors that all share.
//! Ranks are threads here; none waits for another for longer than a minute.

use std::sync::Arc;
use std::time::Duration;

use halfinverse::faer::{Mat, MatMut, MatRef};
use halfinverse::network::{Activation, Init, Network};
use halfinverse::objective::SquaredError;
use halfinverse::optimizer::{
    AdamSettings, GaussNewtonSettings, HalfInverseSettings, KronSettings, StepReport,
};
use halfinverse::problem::{Opaque, Samples, Source};
use halfinverse::ranks::{Lost, Spread, Team, Traffic, together};
use halfinverse::simulator::{Derivative, Simulator, SimulatorError, Tape};
use halfinverse::spectral::Solver;
use halfinverse::task::{Registry, Settings, Task};
use halfinverse::training::{
    Data, Flow, Observer, Options, Parts, Progress, Stage, StopReason, StopSettings, Trainer, TrainingError,
};
use halfinverse::{Model, StepError};
use rand::SeedableRng;

const DEADLINE: Duration = Duration::from_mins(1);

/// The losses of all steps, and θ's bits at the end.
#[derive(Debug, PartialEq)]
struct Course {
    losses: Vec<f64>,
    theta: Vec<u64>,
    reason: String,
    traffic: Traffic,
}

#[derive(Default)]
struct Losses(Vec<f64>);

impl Observer for Losses {
    fn step(&mut self, _: &Progress<'_>, report: &StepReport) -> Flow {
        self.0.push(report.loss);
        Flow::Continue
    }
}

fn course(parts: Parts, theta: Vec<f64>, team: &Team) -> Result<Course, TrainingError> {
    let mut trainer = Trainer::new(parts, theta)?;
    let mut losses = Losses::default();
    let reason = trainer.run(&mut losses)?.to_string();
    let theta = trainer.theta().iter().map(|value| value.to_bits()).collect();
    Ok(Course { losses: losses.0, theta, reason, traffic: team.traffic() })
}

/// A small run of a task; `sets` are settings by their dotted names.
fn settings(task: &str, optimizer: &str, steps: u64, sets: &[(&str, toml::Value)]) -> Settings {
    let registry = Registry::standard();
    let mut settings = registry.settings(task, optimizer).unwrap();
    (settings.data.train, settings.data.test) = (96, 37);
    settings.training.batch = 14;
    settings.training.threads = 1;
    if settings.network.layers.is_empty() {
        settings.network.hidden = vec![9, 7];
    }
    if task == "poisson" {
        settings.simulator.settings.insert("width".to_owned(), 4.into());
        settings.simulator.settings.insert("height".to_owned(), 3.into());
    }
    if task == "dipole" {
        settings.simulator.settings.insert("points".to_owned(), 4.into());
        settings.simulator.settings.insert("steps".to_owned(), 24.into());
    }
    settings.stop = StopSettings { steps: Some(steps), ..Default::default() };
    for (name, value) in sets {
        settings.optimizer.settings.insert((*name).to_owned(), value.clone());
    }
    settings
}

fn over_ranks(settings: &Settings, size: usize) -> Vec<Course> {
    together(size, DEADLINE, |team| {
        let task = Task::new(settings.clone()).unwrap().over(team.clone());
        course(task.parts(), task.initial_parameters(), &team).unwrap()
    })
}

/// Losses on 2, 3 and 4 ranks are those on one for 50 steps, to 1e-10 of themselves, and all ranks have the same θ. Where
/// `most` is more than 0 they may also differ by that many times what one rounding of θ at the start makes of the run on one
/// rank, up to 1e-4: beyond, nothing could be told.
fn same_on_all_ranks(settings: &Settings, most: f64) {
    let name = format!(
        "{}, {} {:?}",
        settings.task,
        settings.optimizer.name,
        settings.optimizer.settings.get("solver")
    );
    let alone = &over_ranks(settings, 1)[0];
    assert!(alone.losses.iter().all(|loss| loss.is_finite()), "{name}: {:?}", alone.losses);
    let task = Task::new(settings.clone()).unwrap();
    let rounded = task.initial_parameters().iter().map(|x| x * (1.0 + f64::EPSILON)).collect();
    let rounded = course(task.parts(), rounded, &Team::alone()).unwrap();
    let off = |course: &Course, step: usize| (course.losses[step] / alone.losses[step] - 1.0).abs();
    for size in [2, 3, 4] {
        let courses = over_ranks(settings, size);
        let mut sensitivity = 0.0;
        for step in 0..alone.losses.len() {
            sensitivity = f64::max(sensitivity, off(&rounded, step));
            if most > 0.0 && most * sensitivity > 1e-4 {
                break;
            }
            let (found, allowed) = (off(&courses[0], step), f64::max(1e-10, most * sensitivity));
            assert!(
                found <= allowed,
                "{name} on {size} ranks, step {step}: {found:e} off, {allowed:e} allowed"
            );
        }
        assert!(courses.iter().all(|course| course.theta == courses[0].theta), "{name}: {size} ranks differ");
    }
}

/// Of these, round-off grows from step to step: they invert small singular values, follow what has just been learnt, or choose
/// among steps.
const SENSITIVE: [&str; 6] = ["hig", "gn", "hig-auto", "hig-kron", "l-bfgs", "soap"];
const TIMES: f64 = 1e4;

#[test]
fn every_optimizer_comes_to_the_same_on_any_number_of_ranks() {
    let registry = Registry::standard();
    for entry in registry.optimizers() {
        // Beside a mean of lower rank SOAP's basis is anything that round-off makes of it.
        let sets: &[_] = if entry.name == "soap" { &[("max_width", 7.into())] } else { &[] };
        let most = if SENSITIVE.contains(&entry.name) { TIMES } else { 0.0 };
        same_on_all_ranks(&settings("oscillators", entry.name, 50, sets), most);
    }
}

#[test]
fn every_solver_does() {
    for solver in ["svd", "gram", "krylov:8", "auto"] {
        for optimizer in ["hig", "gn"] {
            let sets =
                [("solver", solver.into()), ("truncation", 3e-2.into()), ("learning_rate", 0.1.into())];
            same_on_all_ranks(&settings("oscillators", optimizer, 50, &sets), 0.0);
            // More rows than parameters.
            same_on_all_ranks(&settings("toy", optimizer, 50, &sets), 0.0);
        }
        same_on_all_ranks(&settings("oscillators", "lm", 50, &[("solver", solver.into())]), TIMES);
    }
    for optimizer in ["lm", "l-bfgs"] {
        same_on_all_ranks(&settings("oscillators", optimizer, 50, &[("scaling", "columns".into())]), TIMES);
    }
}

#[test]
fn every_task_and_uneven_curvature_do() {
    for task in ["dipole", "poisson", "regression"] {
        for optimizer in ["hig-kron", "adam", "lm"] {
            let most = if optimizer == "adam" { 0.0 } else { TIMES };
            same_on_all_ranks(&settings(task, optimizer, 50, &[]), most);
        }
    }
    for objective in ["cauchy", "huber"] {
        for optimizer in ["hig", "hig-kron", "sip"] {
            let mut settings = settings("oscillators", optimizer, 50, &[("learning_rate", 1e-2.into())]);
            objective.clone_into(&mut settings.objective.kind);
            settings.objective.settings.clear();
            same_on_all_ranks(&settings, if optimizer == "hig-kron" { TIMES } else { 0.0 });
        }
    }
}

#[test]
fn mini_batches_smaller_than_the_number_of_ranks_leave_some_without_samples() {
    for optimizer in ["hig", "hig-auto", "hig-kron", "sip", "adam", "lm"] {
        for batch in [1, 2] {
            let mut settings = settings("oscillators", optimizer, 50, &[]);
            settings.training.batch = batch;
            same_on_all_ranks(&settings, if SENSITIVE.contains(&optimizer) { TIMES } else { 0.0 });
        }
    }
}

#[test]
fn the_same_number_of_ranks_makes_the_same_bits() {
    for optimizer in ["hig-auto", "hig"] {
        let settings = settings("oscillators", optimizer, 50, &[]);
        assert_eq!(over_ranks(&settings, 3), over_ranks(&settings, 3));
    }
}

#[test]
fn a_step_of_krylov_takes_two_sums_for_each_vector_and_a_few_more() {
    let sums = |k: usize, steps: u64| {
        let solver = format!("krylov:{k}");
        let mut settings = settings("oscillators", "hig", steps, &[("solver", solver.into())]);
        settings.training.batch = 48;
        settings.training.evaluate_every = 1000;
        over_ranks(&settings, 2)[0].traffic
    };
    for k in [4, 8, 16] {
        let (few, many) = (sums(k, 2), sums(k, 12));
        let per_step = (many.sums - few.sums) as f64 / 10.0;
        let long = (many.long_sums - few.long_sums) as f64 / 10.0;
        let bytes = (many.bytes - few.bytes) as f64 / 10.0;
        assert!(per_step <= (2 * k + 8) as f64, "krylov:{k}: {per_step} sums in a step");
        assert_eq!(long, (k + 2) as f64, "krylov:{k}: one of P numbers for each Jᵀu");
        // A sum of P numbers is P received to add up, and P of the result, of which a half is on the other of two ranks.
        let most = (k + 2) as f64 * 8.0 * 1300.0 + (3 * k + 20) as f64 * 256.0;
        assert!(bytes <= most, "krylov:{k}: {bytes} bytes in a step, {most} at most");
    }
}

/// y = z, but for samples whose initial state says otherwise.
struct Touchy;

/// What a sample's initial state may say.
const FAILS: f64 = 1.0;
const NAN_OUTCOME: f64 = 2.0;
const NAN_BLOCK: f64 = 3.0;
const BLOCK_FAILS: f64 = 4.0;
const HUGE: f64 = 5.0;

impl Simulator for Touchy {
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
        for s in 0..control.nrows() {
            let said = initial[(s, 0)];
            if said == FAILS {
                return Err(SimulatorError { sample: Some(s), reason: "the mesh is torn".to_owned() });
            }
            if said == NAN_OUTCOME {
                outcome[(s, 1)] = f64::NAN;
            }
            if said == HUGE {
                outcome[(s, 0)] = 1e200;
            }
        }
        Ok(())
    }

    fn derivative(&self) -> Derivative<'_> {
        Derivative::vjp(|at, cotangent, mut out| {
            out.copy_from(cotangent);
            for s in 0..cotangent.nrows() {
                if at.initial[(s, 0)] == NAN_BLOCK {
                    out[(s, 0)] = f64::NAN;
                }
                if at.initial[(s, 0)] == BLOCK_FAILS {
                    return Err(SimulatorError { sample: Some(s), reason: "the adjoint is torn".to_owned() });
                }
            }
            Ok(())
        })
    }
}

/// 14 samples, of which the last one but two is changed: on three ranks it is the last rank's.
fn samples(change: impl Fn(&mut Samples, usize)) -> Samples {
    let x = Mat::from_fn(14, 1, |s, _| s as f64 / 7.0 - 1.0);
    let target = Mat::from_fn(14, 2, |s, c| (x[(s, 0)] + c as f64).sin());
    let mut samples = Samples::new(x, Mat::zeros(14, 1), target).unwrap();
    change(&mut samples, 11);
    samples
}

/// The error that a run ends with, on every rank.
fn errors(
    source: &Arc<dyn Source>,
    samples: &Samples,
    theta: &[f64],
    stage: &Stage,
    size: usize,
) -> Vec<String> {
    together(size, DEADLINE, |team| {
        let source: Arc<dyn Source> =
            if size == 1 { source.clone() } else { Arc::new(Spread::new(source.clone(), team)) };
        let mut parts = Parts {
            source,
            data: Data::fixed(samples.clone(), samples.range(0, 5)),
            stages: vec![stage.clone()],
            options: Options::default(),
        };
        parts.options.shuffle = false;
        parts.options.stop = StopSettings { steps: Some(3), ..StopSettings::default() };
        match Trainer::new(parts, theta.to_vec()).unwrap().run(&mut ()).unwrap() {
            StopReason::Diverged(error) => error.to_string(),
            reason => format!("no error: {reason}"),
        }
    })
}

fn same_error(what: &str, source: &Arc<dyn Source>, samples: &Samples, theta: &[f64], words: &str) {
    let spectral = |solver| HalfInverseSettings { solver, ..HalfInverseSettings::default() };
    let mut stages = vec![
        Stage::of(AdamSettings::default(), 14),
        Stage::of(spectral(Solver::Krylov { vectors: 4 }), 14),
        Stage::of(spectral(Solver::Gram), 14),
        Stage::of(GaussNewtonSettings { solver: Solver::Svd, ..GaussNewtonSettings::default() }, 14),
    ];
    if !source.factors().is_empty() {
        stages.push(Stage::of(KronSettings::default(), 14));
    }
    for (i, stage) in stages.iter().enumerate() {
        let alone = errors(source, samples, theta, stage, 1);
        assert!(alone[0].contains(words), "{what}, {i}: {}", alone[0]);
        for size in [2, 3] {
            for said in errors(source, samples, theta, stage, size) {
                assert_eq!(said, alone[0], "{what}, optimizer {i}, {size} ranks");
            }
        }
    }
}

#[test]
fn an_error_on_one_rank_is_the_same_on_all() {
    let network = Network::mlp(&[1, 6, 2], Activation::Tanh).unwrap();
    let theta = network.initialize(Init::GlorotUniform, &mut rand_chacha::ChaCha8Rng::seed_from_u64(1));
    let model: Arc<dyn Source> = Arc::new(Model::new(network, Touchy, SquaredError { factor: 1.0 }).unwrap());
    let said = |code: f64| samples(move |samples, s| samples.initial[(s, 0)] = code);
    for (what, samples, words) in [
        ("the simulator fails", said(FAILS), "sample 11 failed: the mesh is torn"),
        ("an outcome is NaN", said(NAN_OUTCOME), "component 1 of the outcome of its sample 11 is NaN"),
        ("a derivative is NaN", said(NAN_BLOCK), "NaN"),
        ("a derivative fails", said(BLOCK_FAILS), "sample 11 failed: the adjoint is torn"),
        ("an outcome is too large to be squared", said(HUGE), "the loss of the mini-batch is inf"),
        (
            "a target is NaN",
            samples(|samples, s| samples.target[(s, 0)] = f64::NAN),
            "target of its sample 11",
        ),
        ("an input is infinite", samples(|samples, s| samples.input[(s, 0)] = f64::INFINITY), "NaN"),
    ] {
        same_error(what, &model, &samples, &theta, words);
    }
}

#[test]
fn functions_that_fail_on_one_rank_fail_on_all() {
    let torn = |samples: &Samples| (0..samples.len()).any(|s| samples.input[(s, 0)] == 4.0 / 7.0);
    let of = move |outcome: bool, jvp: bool, vjp: bool| -> Arc<dyn Source> {
        let fails = move |wanted: bool,
                          samples: &Samples,
                          what: &str|
              -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
            if wanted && torn(samples) { Err(format!("{what} is torn").into()) } else { Ok(()) }
        };
        Arc::new(
            Opaque::new(2, 1, SquaredError { factor: 1.0 }, move |theta, samples, mut y| {
                (0..samples.len()).for_each(|s| y[(s, 0)] = theta[0] * samples.input[(s, 0)] + theta[1]);
                fails(outcome, samples, "the outcome")
            })
            .with_jvp(move |_, samples, v, mut out| {
                (0..samples.len()).for_each(|s| out[(s, 0)] = v[0] * samples.input[(s, 0)] + v[1]);
                fails(jvp, samples, "the tangent")
            })
            .with_vjp(move |_, samples, u, out| {
                out.fill(0.0);
                for s in 0..samples.len() {
                    out[0] += u[(s, 0)] * samples.input[(s, 0)];
                    out[1] += u[(s, 0)];
                }
                fails(vjp, samples, "the cotangent")
            }),
        )
    };
    let whole = samples(|_, _| ());
    let samples =
        Samples::new(whole.input.clone(), Mat::zeros(14, 0), whole.target.subcols(0, 1).to_owned()).unwrap();
    let theta = [0.5, -0.5];
    same_error("the outcome", &of(true, false, false), &samples, &theta, "the outcome is torn");
    same_error("the cotangent", &of(false, false, true), &samples, &theta, "the cotangent is torn");
    let krylov =
        HalfInverseSettings { solver: Solver::Krylov { vectors: 2 }, ..HalfInverseSettings::default() };
    let stage = Stage::of(krylov, 14);
    let source = of(false, true, false);
    let alone = errors(&source, &samples, &theta, &stage, 1);
    assert!(alone[0].contains("J v cannot be formed: the tangent is torn"), "{}", alone[0]);
    assert!(errors(&source, &samples, &theta, &stage, 3).iter().all(|said| *said == alone[0]));
}

#[test]
fn a_rank_that_leaves_or_falls_silent_ends_the_others() {
    let settings = settings("oscillators", "hig", 50, &[]);
    let run = |deadline: Duration, end: &(dyn Fn(&Team) + Sync)| {
        let ends = together(3, deadline, |team| {
            let task = Task::new(settings.clone()).unwrap().over(team.clone());
            if team.rank() == 1 {
                end(&team);
                return None;
            }
            match course(task.parts(), task.initial_parameters(), &team) {
                Err(TrainingError::Ranks(lost)) => Some(lost),
                other => panic!("{other:?}"),
            }
        });
        ends.into_iter().flatten().collect::<Vec<_>>()
    };
    let left = run(DEADLINE, &Team::leave);
    assert_eq!(left, [Lost::Left { rank: 1 }, Lost::Left { rank: 1 }]);
    let silent = run(Duration::from_secs(1), &|_| ());
    assert_eq!(silent, [Lost::Silent { seconds: 1 }, Lost::Silent { seconds: 1 }]);
}

#[test]
fn ranks_that_ask_for_different_things_or_have_another_theta_notice() {
    let apart = together(2, DEADLINE, |team| team.sum(&mut vec![0.0; 3 + team.rank()]));
    assert!(apart.iter().all(|end| matches!(end, Err(Lost::Apart { .. }))), "{apart:?}");
    let apart = together(2, DEADLINE, |team| team.check_same(&[1.0, team.rank() as f64]));
    assert!(apart.iter().all(|end| matches!(end, Err(Lost::Apart { .. }))), "{apart:?}");
    let alike = together(2, DEADLINE, |team| team.check_same(&[1.0, 2.0]));
    assert!(alike.iter().all(Result::is_ok), "{alike:?}");
}

#[test]
fn bytes_and_long_sums_arrive_whole() {
    let found = together(3, DEADLINE, |team| {
        let rank = u8::try_from(team.rank()).unwrap();
        let own: Vec<u8> = (0..10 * rank).collect();
        let shared = team.share(&own).unwrap();
        let told = team.tell(&(0..=200).map(|i| i + rank).collect::<Vec<u8>>()).unwrap();
        // Sent whole, by parts, and in two pieces by parts.
        let long = [1000, 5000, 200_000].map(|length| {
            let mut long: Vec<f64> = (0..length).map(|i| f64::from(i) * (team.rank() + 1) as f64).collect();
            team.sum(&mut long).unwrap();
            long
        });
        (shared, told, long)
    });
    for (shared, told, long) in found {
        assert_eq!(shared.iter().map(Vec::len).collect::<Vec<_>>(), [0, 10, 20]);
        assert_eq!(shared[2], (0..20).collect::<Vec<u8>>());
        assert_eq!(told, (0..=200).collect::<Vec<u8>>());
        assert!(long.iter().flat_map(|long| long.iter().enumerate()).all(|(i, sum)| *sum == 6.0 * i as f64));
    }
}

#[test]
fn the_clock_and_the_wish_to_stop_are_those_of_the_first_rank() {
    struct Impatient(usize);
    impl Observer for Impatient {
        fn step(&mut self, progress: &Progress<'_>, _: &StepReport) -> Flow {
            // Rank 1 would stop earlier, and is not asked.
            let last = if self.0 == 0 { 5 } else { 2 };
            if progress.steps() >= last { Flow::Stop } else { Flow::Continue }
        }
    }
    let settings = settings("oscillators", "adam", 50, &[]);
    let steps = together(2, DEADLINE, |team| {
        let task = Task::new(settings.clone()).unwrap().over(team.clone());
        let mut trainer = Trainer::new(task.parts(), task.initial_parameters()).unwrap();
        let reason = trainer.run(&mut Impatient(team.rank())).unwrap();
        assert!(matches!(reason, StopReason::Interrupted), "{reason}");
        trainer.steps()
    });
    assert_eq!(steps, [5, 5]);
}

#[test]
fn a_source_whose_weight_is_not_its_problems_is_refused() {
    struct Wrong(Model);
    impl Source for Wrong {
        fn parameters(&self) -> usize {
            self.0.parameters()
        }
        fn outcomes(&self) -> usize {
            2
        }
        fn problem(
            &self,
            samples: Samples,
            threads: usize,
        ) -> Result<Box<dyn halfinverse::problem::BatchProblem>, halfinverse::ShapeError> {
            self.0.problem(samples, threads)
        }
    }
    let network = Network::mlp(&[1, 2], Activation::Tanh).unwrap();
    let model = Model::new(network, Touchy, SquaredError { factor: 1.0 }).unwrap();
    let source = Arc::new(Wrong(model.reduced_by(halfinverse::objective::Reduction::Sum)));
    let refused = together(2, DEADLINE, |team| {
        let mut problem = Spread::new(source.clone(), team).problem(samples(|_, _| ()), 1).unwrap();
        matches!(problem.loss(&[0.0; 4]), Err(StepError::Unsupported { .. } | StepError::Elsewhere { .. }))
    });
    assert_eq!(refused, [true, true]);
}
