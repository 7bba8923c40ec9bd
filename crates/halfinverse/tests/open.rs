//! A simulator, an objective, a layer, data, an optimizer and a problem of one's own, from outside the crate: they
//! train, go on after a kill, stand in task files, and are told right from wrong, as the crate's own are.

#[path = "common/killer.rs"]
mod killer;

use std::path::PathBuf;
use std::sync::Arc;

use halfinverse::check::{self, Comparison, TOLERANCE};
use halfinverse::faer::{Mat, MatMut, MatRef, Par};
use halfinverse::network::{self, Dense, Init, Inner, Layer, Network, Place, Record, Tensor};
use halfinverse::objective::{self, Curvature, Objective, Overlap, RelativeError, SquaredError};
use halfinverse::optimizer::{
    AdamSettings, AutoSettings, Context, FirstOrder, HalfInverse, HalfInverseSettings,
    LevenbergMarquardtSettings, Optimizer, Rule, Setup, State, StateError,
};
use halfinverse::problem::{BatchProblem, Opaque, OpaqueProblem, Source};
use halfinverse::rand::{Rng, RngExt, SeedableRng};
use halfinverse::simulator::{self, Derivative, Pattern, Scaling, Simulator, SimulatorError, Tape};
use halfinverse::task::{Generator, Registry, Task, data};
use halfinverse::training::{
    Data, OnFault, Parts, Stage, StopReason, StopSettings, Trainer, resume, write_checkpoint,
};
use halfinverse::{Evaluator, Model, NetworkProblem, Problem, Samples, SettingError};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use killer::Killer;

/// y_c = z_c² + strength·sin(z₀z₁) for c = 0, 1; fails where |z₀| is above the limit.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Waves {
    strength: f64,
    limit: f64,
    /// Factor of the derivative, which is wrong unless this is 1.
    slip: f64,
    /// Outcomes that its pattern knows of, which is wrong unless these are 2.
    known: usize,
}

impl Default for Waves {
    fn default() -> Self {
        Self { strength: 0.5, limit: 1e3, slip: 1.0, known: 2 }
    }
}

impl simulator::Setup for Waves {
    const KIND: &'static str = "waves";

    fn build(self) -> Result<Arc<dyn Simulator>, SettingError> {
        SettingError::check_positive("limit", self.limit)?;
        Ok(Arc::new(self))
    }
}

impl Simulator for Waves {
    fn controls(&self) -> usize {
        2
    }

    fn outcomes(&self) -> usize {
        2
    }

    fn pattern(&self) -> Pattern {
        if self.known == 2 { Pattern::Full } else { Pattern::Sparse(vec![(0..self.known).collect(); 2]) }
    }

    fn simulate(
        &self,
        _: MatRef<'_, f64>,
        z: MatRef<'_, f64>,
        mut y: MatMut<'_, f64>,
        _: Option<&mut Tape>,
    ) -> Result<(), SimulatorError> {
        for s in 0..z.nrows() {
            if z[(s, 0)].abs() > self.limit {
                return Err(SimulatorError::of_sample(s, "its first control is beyond the limit"));
            }
            for c in 0..2 {
                y[(s, c)] = z[(s, c)].powi(2) + self.strength * (z[(s, 0)] * z[(s, 1)]).sin();
            }
        }
        Ok(())
    }

    fn derivative(&self) -> Derivative<'_> {
        Derivative::vjp(|at, u, mut out| {
            for s in 0..u.nrows() {
                let z = [at.control[(s, 0)], at.control[(s, 1)]];
                let both = self.strength * (z[0] * z[1]).cos() * (u[(s, 0)] + u[(s, 1)]);
                for c in 0..2 {
                    out[(s, c)] = self.slip * (2.0 * z[c] * u[(s, c)] + z[1 - c] * both);
                }
            }
            Ok(())
        })
    }
}

/// scale²·Σ log cosh r for r = (y − t)/scale; its curvature is that of the parabola which touches it at r and at −r.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct LogCosh {
    scale: f64,
    /// Factor of the gradient, which is wrong unless this is 1.
    slip: f64,
}

impl Default for LogCosh {
    fn default() -> Self {
        Self { scale: 0.5, slip: 1.0 }
    }
}

impl objective::Setup for LogCosh {
    const KIND: &'static str = "log-cosh";

    fn build(self) -> Result<Arc<dyn Objective>, SettingError> {
        SettingError::check_positive("scale", self.scale)?;
        Ok(Arc::new(self))
    }
}

impl Objective for LogCosh {
    fn losses(
        &self,
        y: MatRef<'_, f64>,
        t: MatRef<'_, f64>,
        losses: &mut [f64],
        mut gradient: Option<MatMut<'_, f64>>,
    ) {
        losses.fill(0.0);
        for c in 0..y.ncols() {
            for s in 0..y.nrows() {
                let r = (y[(s, c)] - t[(s, c)]) / self.scale;
                let log_cosh = r.abs() + (-2.0 * r.abs()).exp().ln_1p() - std::f64::consts::LN_2;
                losses[s] += self.scale.powi(2) * log_cosh;
                if let Some(gradient) = &mut gradient {
                    gradient[(s, c)] = self.slip * self.scale * r.tanh();
                }
            }
        }
    }

    fn curvature(&self) -> Curvature<'_> {
        Curvature::PerOutcome(Box::new(|y, t, mut h| {
            for c in 0..y.ncols() {
                for s in 0..y.nrows() {
                    let r = (y[(s, c)] - t[(s, c)]) / self.scale;
                    h[(s, c)] = if r == 0.0 { 1.0 } else { r.tanh() / r };
                }
            }
        }))
    }
}

/// Settings of [`Gate`]: what its parameters start from.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct GateSettings {
    gain: f64,
    rate: f64,
    /// Factor of the derivative with respect to the input, which is wrong unless this is 1.
    slip: f64,
}

impl Default for GateSettings {
    fn default() -> Self {
        Self { gain: 1.0, rate: 1.5, slip: 1.0 }
    }
}

impl network::Setup for GateSettings {
    const KIND: &'static str = "gate";

    fn build(self, inputs: usize, _: &Inner<'_>) -> Result<Box<dyn Layer>, SettingError> {
        SettingError::check_positive("rate", self.rate)?;
        Ok(Box::new(Gate { width: inputs, settings: self }))
    }
}

/// y_j = a_j·tanh(b_j·x_j). Keeps the tanh.
#[derive(Debug)]
struct Gate {
    width: usize,
    settings: GateSettings,
}

impl Gate {
    /// ∂y/∂x, ∂y/∂a and ∂y/∂b of a unit.
    fn slopes(&self, at: Place<'_>, s: usize, j: usize) -> [f64; 3] {
        let t = at.record.downcast_ref::<Mat<f64>>().expect("`forward` has left it")[(s, j)];
        let (a, b) = (at.theta[j], at.theta[self.width + j]);
        let slope = a * (1.0 - t * t);
        [self.settings.slip * slope * b, t, slope * at.input[(s, j)]]
    }
}

impl Layer for Gate {
    fn inputs(&self) -> usize {
        self.width
    }

    fn outputs(&self) -> usize {
        self.width
    }

    fn tensors(&self) -> Vec<Tensor> {
        let tensor = |name: &str, offset| Tensor { name: name.to_owned(), shape: vec![self.width], offset };
        vec![tensor("gain", 0), tensor("rate", self.width)]
    }

    fn initialize(&self, _: Init, _: &mut dyn Rng, theta: &mut [f64]) {
        let (gain, rate) = theta.split_at_mut(self.width);
        gain.fill(self.settings.gain);
        rate.fill(self.settings.rate);
    }

    fn forward(
        &self,
        theta: &[f64],
        x: MatRef<'_, f64>,
        record: &mut Record,
        mut y: MatMut<'_, f64>,
        _: Par,
    ) {
        let tanh = Mat::from_fn(x.nrows(), self.width, |s, j| (theta[self.width + j] * x[(s, j)]).tanh());
        for j in 0..self.width {
            for s in 0..x.nrows() {
                y[(s, j)] = theta[j] * tanh[(s, j)];
            }
        }
        *record = Box::new(tanh);
    }

    fn tangent(&self, at: Place<'_>, x: Option<MatRef<'_, f64>>, v: &[f64], mut y: MatMut<'_, f64>, _: Par) {
        for j in 0..self.width {
            for s in 0..y.nrows() {
                let [dx, da, db] = self.slopes(at, s, j);
                y[(s, j)] = dx * x.map_or(0.0, |x| x[(s, j)]) + da * v[j] + db * v[self.width + j];
            }
        }
    }

    fn pull(&self, at: Place<'_>, u: MatRef<'_, f64>, mut x: MatMut<'_, f64>, _: Par) {
        for j in 0..self.width {
            for row in 0..u.nrows() {
                x[(row, j)] = u[(row, j)] * self.slopes(at, row % at.input.nrows(), j)[0];
            }
        }
    }

    fn gradient(&self, at: Place<'_>, u: MatRef<'_, f64>, out: &mut [f64], _: Par) {
        out.fill(0.0);
        for j in 0..self.width {
            for s in 0..u.nrows() {
                let [_, da, db] = self.slopes(at, s, j);
                out[j] += u[(s, j)] * da;
                out[self.width + j] += u[(s, j)] * db;
            }
        }
    }
}

/// x uniform on [−1, 1); the target is what the simulator makes of a smooth control.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Reachable {}

impl data::Setup for Reachable {
    const KIND: &'static str = "reachable";

    fn build(self, context: data::Context<'_>) -> Result<Arc<dyn Generator>, SettingError> {
        Ok(Arc::new(context.settings.read::<Waves>()?))
    }
}

impl Generator for Waves {
    fn inputs(&self) -> usize {
        1
    }

    fn draw(&self, count: usize, rng: &mut dyn Rng) -> Samples {
        let input = Mat::from_fn(count, 1, |_, _| 2.0 * rng.random::<f64>() - 1.0);
        let (initial, mut target) = (Mat::zeros(count, 0), Mat::zeros(count, 2));
        let control = Mat::from_fn(count, 2, |s, c| {
            let x = input[(s, 0)];
            if c == 0 { 1.0 + 0.5 * (3.0 * x).sin() } else { 0.8 * (2.0 * x).cos() }
        });
        self.simulate(initial.as_ref(), control.as_ref(), target.as_mut(), None).expect("within the limit");
        Samples::new(input, initial, target).expect("as many of each")
    }
}

/// θ ← θ − η/√(1 + t/20)·sign m, m ← μm + (1 − μ)∇ after t steps.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct SignSettings {
    learning_rate: f64,
    momentum: f64,
}

impl Default for SignSettings {
    fn default() -> Self {
        Self { learning_rate: 0.02, momentum: 0.9 }
    }
}

impl Setup for SignSettings {
    const NAME: &'static str = "sign";
    const ABOUT: &'static str = "steps of the same size along every parameter";

    fn build(self, _: &Context) -> Result<Box<dyn Optimizer>, SettingError> {
        SettingError::check_positive("learning_rate", self.learning_rate)?;
        SettingError::check_fraction("momentum", self.momentum)?;
        Ok(Box::new(FirstOrder::new(Sign { settings: self, memory: (0, Vec::new()) })))
    }
}

struct Sign {
    settings: SignSettings,
    /// t and m.
    memory: (u32, Vec<f64>),
}

impl Rule for Sign {
    fn learning_rate(&self) -> f64 {
        self.settings.learning_rate
    }

    fn direct(&mut self, _: &[f64], gradient: &mut [f64]) {
        let ((steps, m), mu) = (&mut self.memory, self.settings.momentum);
        m.resize(gradient.len(), 0.0);
        for (m, g) in m.iter_mut().zip(gradient) {
            *m = mu * *m + (1.0 - mu) * *g;
            *g = m.signum() / (1.0 + f64::from(*steps) / 20.0).sqrt();
        }
        *steps += 1;
    }

    fn save_to(&self, out: &mut dyn std::io::Write) -> std::io::Result<()> {
        State::write(&self.memory, out)
    }

    fn restore(&mut self, state: &State, parameters: usize) -> Result<(), StateError> {
        self.memory = state.read()?;
        StateError::check_length("m", &self.memory.1, parameters)
    }
}

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn samples(count: usize) -> Samples {
    Waves::default().draw(count, &mut rng(7))
}

/// 1 → 10, gated, → 2.
fn gated(settings: GateSettings) -> (Network, Vec<f64>) {
    let layers: Vec<Box<dyn Layer>> = vec![
        Box::new(Dense::new(1, 10).unwrap()),
        Box::new(Gate { width: 10, settings }),
        Box::new(Dense::new(10, 2).unwrap()),
    ];
    let network = Network::new(layers).unwrap();
    let theta = network.initialize(Init::FanInUniform, &mut rng(3));
    (network, theta)
}

/// A run of the parts above, 256 samples to train on and 128 to test.
fn parts(objective: impl Objective + 'static, stage: Stage, steps: u64) -> (Parts, Vec<f64>) {
    let (network, theta) = gated(GateSettings::default());
    let model = Model::new(network, Waves::default(), objective).unwrap();
    let mut parts = Parts::new(model, Data::split(&samples(384), 128).unwrap(), stage);
    parts.options.stop = StopSettings { steps: Some(steps), ..StopSettings::default() };
    (parts, theta)
}

/// Test loss at the start and at the end.
fn train(parts: Parts, theta: Vec<f64>) -> [f64; 2] {
    let test = (*parts.data.test).clone();
    let before = Evaluator::new(&*parts.source, test, 1).unwrap().loss(&theta).unwrap();
    let mut trainer = Trainer::new(parts, theta).unwrap();
    let reason = trainer.run(&mut ()).unwrap();
    assert!(matches!(reason, StopReason::Steps), "{reason}");
    [before, trainer.test_loss()]
}

fn stages() -> [(&'static str, Stage); 5] {
    let lm = LevenbergMarquardtSettings::default();
    let adam = AdamSettings { learning_rate: 0.01, ..AdamSettings::default() };
    [
        ("hig", Stage::of(HalfInverseSettings::default(), 32)),
        ("hig-auto", Stage::of(AutoSettings {}, 32)),
        ("lm", Stage::of(lm, 32)),
        ("adam", Stage::of(adam, 32)),
        ("sign", Stage::of(SignSettings::default(), 32)),
    ]
}

#[test]
fn parts_of_ones_own_train_with_every_kind_of_optimizer() {
    // At most half of what was seen: 1765, 2e7, 8e5, 11, 10.
    for ((name, stage), factor) in stages().into_iter().zip([800.0, 1e6, 4e5, 5.0, 5.0]) {
        let (parts, theta) = parts(LogCosh::default(), stage, 100);
        let [before, after] = train(parts, theta);
        assert!(factor * after < before, "{name}: {before} to {after}");
    }
}

#[test]
fn relative_errors_train() {
    let hig = HalfInverseSettings { learning_rate: 0.3, ..HalfInverseSettings::default() };
    let lm = LevenbergMarquardtSettings::default();
    // Seen: 1.6e7 and 1.3e7.
    for (name, stage) in [("hig", Stage::of(hig, 32)), ("lm", Stage::of(lm, 32))] {
        let (parts, theta) = parts(RelativeError::new(1.0, 0.1).unwrap(), stage, 100);
        let [before, after] = train(parts, theta);
        assert!(5e6 * after < before, "{name}: {before} to {after}");
    }
}

#[test]
fn a_run_of_ones_own_parts_goes_on_after_a_kill_bit_for_bit() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("open");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let handed_over = ("sign, hig", Stage::of(SignSettings::default(), 16).for_steps(14));
    for (name, stage) in stages().into_iter().chain([handed_over]) {
        let (mut parts, theta) = parts(LogCosh::default(), stage.clone(), 30);
        if stage.steps.is_some() {
            parts.stages.push(Stage::of(HalfInverseSettings::default(), 32));
        }
        (parts.options.on_fault, parts.options.shuffle) = (OnFault::RollBack, true);
        let [never, killed, again] =
            ["never", "killed", "again"].map(|end| folder.join(format!("{name} {end}")));
        let mut whole = Trainer::new(parts.clone(), theta.clone()).unwrap();
        whole.run(&mut ()).unwrap();
        write_checkpoint(&whole, &never).unwrap();

        let mut first = Trainer::new(parts.clone(), theta).unwrap();
        first.run(&mut Killer(13, killed.clone())).unwrap();
        drop(first);
        let mut second = resume(&parts, &killed).unwrap();
        assert_eq!(second.steps(), 13);
        assert!(matches!(second.run(&mut ()).unwrap(), StopReason::Steps));
        write_checkpoint(&second, &again).unwrap();
        let read = |path| std::fs::read(path).unwrap();
        assert!(read(&never) == read(&again) && read(&never) != read(&killed), "{name}");
    }
    let (other, _) = parts(LogCosh::default(), Stage::of(SignSettings::default(), 32), 30);
    let error = resume(&other, &folder.join("adam again")).err().expect("memory of another optimizer");
    assert!(error.to_string().contains("`optimizer` is not what such a run saves"), "{error}");
}

const WAVES: &str = r#"
task = "waves"
simulator = { kind = "waves" }
objective = { kind = "log-cosh" }
data = { kind = "reachable", train = 256, test = 128 }
optimizer = { name = "hig" }
training = { batch = 32, threads = 1 }
stop = { steps = 100 }
with.adam.optimizer.learning_rate = 0.01

[network]
init = "fan-in-uniform"
hidden = []
layers = [{ kind = "dense", width = 10 }, { kind = "residual", layers = [{ kind = "gate", rate = 1.5 }] }]
"#;

fn registry() -> Registry {
    let registry = Registry::standard().simulator::<Waves>().objective::<LogCosh>().layer::<GateSettings>();
    registry.data::<Reachable>().optimizer::<SignSettings>()
}

#[test]
fn a_part_takes_the_place_of_the_one_with_its_kind() {
    let kinds = |registry: &Registry| {
        let kinds = registry.schema()["properties"]["simulator"]["oneOf"].as_array().unwrap().clone();
        kinds.iter().filter(|kind| kind["properties"]["kind"]["const"] == "waves").count()
    };
    assert_eq!(kinds(&Registry::standard()), 0);
    assert_eq!(kinds(&registry().simulator::<Waves>()), 1);
    assert_eq!(registry().optimizer::<SignSettings>().optimizers().len(), registry().optimizers().len());
}

#[test]
fn parts_of_ones_own_stand_in_task_files() {
    let task = |from: &str, to: &str, optimizer: &str| {
        let registry = registry().task(&WAVES.replace(from, to))?;
        Task::with(registry.settings("waves", optimizer)?, &registry)
    };
    // At most half of what was seen: 65, 5e6, 7.9e5, 13, 17.
    for ((name, _), factor) in stages().into_iter().zip([30.0, 2e6, 3e5, 6.0, 8.0]) {
        let task = task("", "", name).unwrap();
        let [before, after] = train(task.parts(), task.initial_parameters());
        assert!(factor * after < before, "{name}: {before} to {after}");
    }
    let tensors = task("", "", "sign").unwrap().model().tensors();
    let gate = tensors.iter().find(|tensor| tensor.name == "layers.1.layers.0.gain");
    assert!(gate.is_some_and(|gate| gate.shape == [10]), "{tensors:?}");
    for (from, to, words) in [
        ("\"log-cosh\"", "\"log-cosh\", scale = -1", "`objective.scale` is -1"),
        ("\"log-cosh\"", "\"log-cosh\", scael = 1", "did you mean `objective.scale`?"),
        ("\"log-cosh\"", "\"log-cos\"", "did you mean `log-cosh`?"),
        ("\"waves\" }", "\"waves\", limit = 'far' }", "`simulator.limit` is \"far\", but must be a number"),
        ("\"gate\"", "\"gaet\"", "did you mean `gate`?"),
        ("rate = 1.5", "rate = 0.0", "`network.layers.1.layers.0.rate` is 0"),
        ("{ name = \"hig\" }", "{ name = \"sing\" }", "did you mean `sign`?"),
        (
            "with.adam.optimizer.learning_rate = 0.01",
            "with.sign.optimizer.momentum = 1",
            "`optimizer.momentum` is 1",
        ),
    ] {
        let said = task(from, to, "sign").err().map(|error| error.to_string());
        assert!(said.as_ref().is_some_and(|said| said.contains(words)), "{to}: {said:?}");
    }
}

/// What of the comparisons is wrong.
fn wrong(comparisons: &[Comparison]) -> Vec<&'static str> {
    comparisons.iter().filter(|c| c.error.is_nan() || c.error > TOLERANCE).map(|c| c.what).collect()
}

#[test]
fn right_derivatives_are_told_from_wrong_ones() {
    let of_simulator = |slip: f64| {
        let control = Mat::from_fn(5, 2, |s, c| 0.3 + 0.4 * s as f64 - 0.7 * c as f64);
        let waves = Waves { slip, ..Waves::default() };
        wrong(&check::simulator(&waves, Mat::zeros(5, 0).as_ref(), control.as_ref(), 1).unwrap())
    };
    assert!(of_simulator(1.0).is_empty());
    assert_eq!(of_simulator(1.01), ["simulator: jvp", "simulator: vjp", "simulator: block"]);
    let of_model = |simulator: f64, objective: f64, layer: f64| {
        let (network, theta) = gated(GateSettings { slip: layer, ..GateSettings::default() });
        let waves = Waves { slip: simulator, ..Waves::default() };
        let model = Model::new(network, waves, LogCosh { slip: objective, ..LogCosh::default() }).unwrap();
        let mut problem = NetworkProblem::new(&model, samples(40), 1).unwrap();
        wrong(&check::model(&mut problem, &theta, 1).unwrap())
    };
    assert!(of_model(1.0, 1.0, 1.0).is_empty());
    for [simulator, objective, layer] in [[1.01, 1.0, 1.0], [1.0, 1.01, 1.0], [1.0, 1.0, 1.01]] {
        let found = of_model(simulator, objective, layer);
        assert!(found.contains(&"model: gradient of the loss"), "{simulator} {objective} {layer}: {found:?}");
    }
}

/// b₀(1 − e^(−b₁x)) + b₂ on 40 points, with the derivatives that are asked for.
fn closures(jvp: bool, vjp: bool) -> (Opaque, Samples) {
    let slopes = |b: &[f64], x: f64| [1.0 - (-b[1] * x).exp(), b[0] * x * (-b[1] * x).exp(), 1.0];
    let value = move |b: &[f64], x: f64| b[0] * slopes(b, x)[0] + b[2];
    let mut source = Opaque::new(3, 1, SquaredError { factor: 1.0 }, move |b, samples, mut y| {
        (0..samples.len()).for_each(|s| y[(s, 0)] = value(b, samples.input[(s, 0)]));
        Ok(())
    });
    if jvp {
        source = source.with_jvp(move |b, samples, v, mut out| {
            for s in 0..samples.len() {
                out[(s, 0)] = slopes(b, samples.input[(s, 0)]).iter().zip(v).map(|(d, v)| d * v).sum();
            }
            Ok(())
        });
    }
    if vjp {
        source = source.with_vjp(move |b, samples, u, out| {
            out.fill(0.0);
            for s in 0..samples.len() {
                let slopes = slopes(b, samples.input[(s, 0)]);
                out.iter_mut().zip(slopes).for_each(|(out, d)| *out += d * u[(s, 0)]);
            }
            Ok(())
        });
    }
    let x = Mat::from_fn(40, 1, |s, _| s as f64 / 20.0);
    let target = Mat::from_fn(40, 1, |s, _| value(&[2.0, 1.5, 0.3], s as f64 / 20.0));
    (source, Samples::new(x, Mat::zeros(40, 0), target).unwrap())
}

const START: [f64; 3] = [1.5, 1.0, 0.5];

fn context(source: &(impl Source + Clone + 'static), samples: &Samples) -> Context {
    let (source, judges) = (Arc::new(source.clone()), samples.clone());
    Context { source, batch: samples.len(), samples: samples.len(), judges, counted: true, threads: 1 }
}

#[test]
fn a_problem_of_closures_trains_with_all_that_need_no_layers() {
    let (source, samples) = closures(true, true);
    for entry in registry().optimizers() {
        let name = entry.name;
        let mut problem = OpaqueProblem::new(&source, samples.clone()).unwrap();
        let mut optimizer = entry.build(&entry.defaults(), &context(&source, &samples)).unwrap();
        let mut theta = START.to_vec();
        let refused = match name {
            "hig-kron" => "hig-kron needs layers with Kronecker factors",
            "sip" => "sip needs the simulator's blocks and the network behind it",
            "soap" => "soap needs layers with weight matrices",
            "muon" => "muon needs layers with weight matrices",
            _ => "",
        };
        if !refused.is_empty() {
            let error = optimizer.step(&mut problem, &mut theta).unwrap_err();
            assert!(error.to_string().starts_with(refused), "{name}: {error}");
            assert_eq!(theta, START);
            continue;
        }
        let before = problem.loss(&theta).unwrap();
        for _ in 0..100 {
            optimizer.step(&mut problem, &mut theta).unwrap();
        }
        // From 3.4 with adam, whose default rate is small, to 1e30.
        let after = problem.loss(&theta).unwrap();
        assert!(2.0 * after < before, "{name}: {before} to {after}");
    }
}

#[test]
fn whichever_derivatives_a_problem_of_closures_has_the_steps_are_the_same() {
    let step = |(source, samples): (Opaque, Samples)| {
        let mut hig = HalfInverse::new(HalfInverseSettings::default()).unwrap();
        let mut theta = START.to_vec();
        hig.step(&mut OpaqueProblem::new(&source, samples).unwrap(), &mut theta).unwrap();
        theta
    };
    let both = step(closures(true, true));
    assert!((both[0] - START[0]).abs() > 1e-2);
    for (jvp, vjp) in [(true, false), (false, true), (false, false)] {
        let theta = step(closures(jvp, vjp));
        let off = both.iter().zip(&theta).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off < 1e-10, "{jvp}, {vjp}: {off:e}");
    }
}

/// Whether an error says these words.
fn says<T>(result: Result<T, impl std::fmt::Display>, words: &str) {
    let said = result.err().map(|error| error.to_string());
    assert!(said.as_ref().is_some_and(|said| said.contains(words)), "{words}: {said:?}");
}

#[test]
fn vectors_that_do_not_fit_are_refused() {
    let (network, theta) = gated(GateSettings::default());
    let model = Model::new(network, Waves::default(), LogCosh::default()).unwrap();
    let longer = [&theta[..], &[0.0]].concat();
    let (source, points) = closures(true, true);
    for entry in registry().optimizers() {
        for wrong in [&theta[1..], &longer, &[]] {
            let mut optimizer = entry.build(&entry.defaults(), &context(&model, &samples(32))).unwrap();
            let mut problem = NetworkProblem::new(&model, samples(32), 1).unwrap();
            let mut moved = wrong.to_vec();
            says(
                optimizer.step(&mut problem, &mut moved),
                if ["hig-kron", "soap", "muon"].contains(&entry.name) { "needs" } else { "θ: expected 62" },
            );
            assert_eq!(moved, wrong, "{}", entry.name);
        }
    }
    let mut problems: [(Box<dyn Problem>, &[f64]); 2] = [
        (Box::new(NetworkProblem::new(&model, samples(8), 1).unwrap()), &theta),
        (Box::new(OpaqueProblem::new(&source, points).unwrap()), &START),
    ];
    for (problem, theta) in &mut problems {
        let p = theta.len();
        says(problem.loss(&theta[1..]), "θ: expected");
        says(problem.linearize(&theta[1..]), "θ: expected");
        says(problem.gradient(&theta[1..], &mut vec![0.0; p - 1]), "θ: expected");
        says(problem.gradient(theta, &mut vec![0.0; p - 1]), "the gradient: expected");
        says(problem.losses(Mat::zeros(p + 1, 2).as_ref(), &mut [0.0; 2]), "θ: expected");
        says(
            problem.losses(Mat::zeros(p, 2).as_ref(), &mut [0.0; 1]),
            "the losses: expected 2 places, found 1",
        );
        problem.losses(Mat::<f64>::zeros(2, p).transpose(), &mut [0.0; 2]).unwrap();
    }
    says(Evaluator::new(&model, samples(300), 1).unwrap().loss(&theta[1..]), "θ: expected");
    let mut problem = NetworkProblem::new(&model, samples(8), 1).unwrap();
    says(check::model(&mut problem, &theta[1..], 1), "θ: expected");
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let one = || vec![Box::new(Dense::new(1, 3).unwrap()) as Box<dyn Layer>];
    let three = Scaling::new(vec![1.0; 3]);
    says(Model::new(Network::new(one()).unwrap(), three.clone(), Overlap), "expected 4 components, found 3");
    says(Model::new(Network::new(one()).unwrap(), Waves::default(), Overlap), "expected 2 outputs, found 3");
    let waves = Waves { known: 3, ..Waves::default() };
    let said = "the simulator's pattern: expected 2 outcomes, found 3";
    says(Model::new(gated(GateSettings::default()).0, waves, LogCosh::default()), said);
    says(OpaqueProblem::new(&Opaque::new(1, 3, Overlap, |_, _, _| Ok(())), samples(4)), "found 3");
    let gate = Box::new(Gate { width: 2, settings: GateSettings::default() });
    says(Network::new(one().into_iter().chain([gate as Box<dyn Layer>]).collect()), "takes 2 inputs");
    says(Samples::new(Mat::zeros(3, 1), Mat::zeros(2, 0), Mat::zeros(3, 2)), "the initial states");
    let model = Model::new(gated(GateSettings::default()).0, Waves::default(), LogCosh::default()).unwrap();
    says(NetworkProblem::new(&model, samples(0), 1), "expected 1 sample or more");
    says(Evaluator::new(&model, samples(0), 1), "expected 1 sample or more");
    let mut narrow = samples(4);
    narrow.target = Mat::zeros(4, 1);
    says(NetworkProblem::new(&model, narrow, 1), "a sample's target");
    let mut problem = NetworkProblem::new(&model, samples(4), 1).unwrap();
    says(problem.take(&samples(4), &[]), "expected 1 sample or more");
    says(problem.take(&samples(4), &[4]), "the data");
    says(Data::split(&samples(4), 4), "data.test");
}

/// What a run with a change to its parts ends with.
fn changed(change: impl FnOnce(&mut Parts, &mut Vec<f64>)) -> Result<Trainer, String> {
    let (mut parts, mut theta) = parts(LogCosh::default(), Stage::of(HalfInverseSettings::default(), 32), 20);
    parts.options.shuffle = false;
    change(&mut parts, &mut theta);
    let mut trainer = Trainer::new(parts, theta).map_err(|error| error.to_string())?;
    match trainer.run(&mut ()).map_err(|error| error.to_string())? {
        StopReason::Steps => Ok(trainer),
        reason => Err(reason.to_string()),
    }
}

#[test]
fn runs_that_cannot_be_are_refused_and_those_that_fail_end_with_what_failed() {
    let bad = || {
        let mut samples = samples(256);
        samples.input[(70, 0)] = f64::NAN;
        samples
    };
    changed(|_, _| ()).unwrap();
    says(changed(|_, theta| theta.truncate(61)), "θ: expected 62");
    says(changed(|parts, _| parts.stages[0].batch = 0), "`training.batch` is 0");
    says(changed(|parts, _| parts.stages[0].batch = 257), "training samples, 256");
    says(changed(|parts, _| parts.stages.clear()), "at least one");
    says(changed(|parts, _| parts.stages[0].steps = Some(4)), "for every optimizer but the last");
    says(changed(|parts, _| parts.options.stop.steps = Some(0)), "`stop.steps` is 0");
    says(changed(|parts, _| parts.data.train = Arc::new(samples(0))), "at least one sample each");
    says(changed(|parts, _| parts.data.test = Arc::new(samples(0))), "at least one sample each");
    let ragged = || {
        let mut samples = samples(256);
        samples.target = Mat::zeros(20, 2);
        Arc::new(samples)
    };
    says(changed(|parts, _| parts.data.train = ragged()), "the targets: expected 256 samples, found 20");
    says(changed(|parts, _| parts.data.test = ragged()), "the targets: expected 256 samples, found 20");
    says(changed(|parts, _| parts.data.fresh = Some(Arc::new(|_, _| samples(0)))), "1 sample or more");
    let sign = Stage::of(SignSettings { learning_rate: 0.0, ..SignSettings::default() }, 32);
    says(changed(|parts, _| parts.stages = vec![sign]), "`learning_rate` is 0");
    says(changed(|parts, _| parts.options.threads = 1025), "at most 1024");
    says(changed(|parts, _| parts.options.blow_up = f64::NAN), "`training.blow_up` is NaN");
    // The last 32 samples judge hig-auto's steps.
    let mut judges = samples(256);
    judges.input[(250, 0)] = f64::NAN;
    let auto = |parts: &mut Parts, _: &mut Vec<f64>| {
        parts.stages = vec![Stage::of(AutoSettings {}, 32)];
        parts.data.train = Arc::new(judges);
    };
    says(changed(auto), "component 0 of the input of its sample 26 is NaN");
    // Sample 70 is the seventh of the third mini-batch.
    let said = "diverged: the loss of the mini-batch is NaN: component 0 of the input of its sample 6 is NaN";
    says(changed(|parts, _| parts.data.train = Arc::new(bad())), said);
    assert!(changed(|parts, _| parts.data.test = Arc::new(bad())).unwrap().test_loss().is_nan());
    let silent = Opaque::new(2, 2, SquaredError { factor: 1.0 }, |_, _, _| Ok(()));
    says(OpaqueProblem::new(&silent, samples(4)).unwrap().linearize(&[0.0; 2]), "the mini-batch is NaN");
    let failing = Opaque::new(2, 2, SquaredError { factor: 1.0 }, |_, _, _| Err("no tide".into()));
    says(OpaqueProblem::new(&failing, samples(4)).unwrap().loss(&[0.0; 2]), "no tide");
}

#[test]
fn a_simulation_that_fails_names_its_sample_in_the_whole_mini_batch() {
    let line = Network::new(vec![Box::new(Dense::new(1, 2).unwrap()) as Box<dyn Layer>]).unwrap();
    let brittle = Waves { limit: 10.0, ..Waves::default() };
    let model = Model::new(line, brittle, LogCosh::default()).unwrap();
    let theta = [1.0, 0.1, 0.0, 0.0];
    for (sample, threads) in [(3, 1), (70, 1), (70, 2), (95, 1)] {
        let mut far = samples(96);
        far.input[(sample, 0)] = 20.0;
        let said = format!("the simulation of sample {sample} failed: its first control is beyond the limit");
        let mut problem = NetworkProblem::new(&model, far, threads).unwrap();
        says(problem.loss(&theta), &said);
        says(problem.gradient(&theta, &mut [0.0; 4]), &said);
        says(problem.linearize(&theta), &said);
        let second = Mat::from_fn(4, 2, |i, j| j as f64 * theta[i]);
        says(problem.losses(second.as_ref(), &mut [0.0; 2]), &said);
    }
    let mut far = samples(300);
    far.input[(280, 0)] = 20.0;
    let mut evaluator = Evaluator::new(&model, far, 1).unwrap();
    says(evaluator.loss(&theta), "the simulation of sample 280 failed");
}
