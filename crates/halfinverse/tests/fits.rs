//! Fits that people run into, with what is right there: targets that jump, stationary starts, parameters with units,
//! regions without a finite loss.

#[path = "common/strd.rs"]
mod strd;

use std::sync::Arc;

use faer::{Mat, MatMut, MatRef, Par};
use halfinverse::network::{Activation, Block, Dense, Init, Layer, Network, Place, Record, Tensor, Units};
use halfinverse::objective::{Overlap, SquaredError};
use halfinverse::optimizer::{
    Context, ENTRIES, Lbfgs, LbfgsSettings, LevenbergMarquardt, LevenbergMarquardtSettings, Notice,
    Optimizer, Scaling,
};
use halfinverse::problem::{BatchProblem, Opaque, OpaqueProblem, Source};
use halfinverse::simulator::{
    self, Derivative, Dipole, DipoleSettings, Scaling as Identity, Simulator, SimulatorError, Tape,
};
use halfinverse::{Model, Samples};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use strd::Set;

/// With its default settings, to be trained on all of these samples at once.
fn optimizer(name: &str, source: &(impl Source + Clone + 'static), samples: &Samples) -> Box<dyn Optimizer> {
    let (batch, judges) = (samples.len(), samples.clone());
    let source = Arc::new(source.clone());
    let context = Context { source, batch, samples: batch, judges, counted: true, threads: 1 };
    let entry = ENTRIES.iter().map(|entry| entry()).find(|entry| entry.name == name).expect(name);
    entry.build(&entry.defaults(), &context).unwrap()
}

fn lm(scaling: Scaling) -> LevenbergMarquardt {
    let settings = LevenbergMarquardtSettings { scaling, ..LevenbergMarquardtSettings::default() };
    LevenbergMarquardt::new(settings).unwrap()
}

/// y = z for each of these targets.
fn identity(targets: &[f64]) -> (OpaqueProblem, Samples) {
    let source = Opaque::new(1, 1, SquaredError { factor: 1.0 }, |z, _, mut y| {
        y.fill(z[0]);
        Ok(())
    })
    .with_jvp(|_, _, v, mut out| {
        out.fill(v[0]);
        Ok(())
    });
    let b = targets.len();
    let target = Mat::from_fn(b, 1, |s, _| targets[s]);
    let samples = Samples::new(Mat::zeros(b, 0), Mat::zeros(b, 0), target).unwrap();
    (OpaqueProblem::new(&source, samples.range(0, 1)).unwrap(), samples)
}

#[test]
fn lm_follows_a_target_that_jumps_and_rests_at_the_solution() {
    for target in [1.0, 1e3, -1e-3] {
        let (mut problem, samples) = identity(&[0.0, target]);
        let (mut lm, mut z) = (lm(Scaling::None), vec![0.0]);
        for step in 0..60 {
            problem.take(&samples, &[usize::from(step >= 20)]).unwrap();
            let lambda = lm.step(&mut problem, &mut z).unwrap().lambda.unwrap();
            assert!(lambda.is_finite(), "{target}, step {step}: {lambda}");
            let off = (z[0] / target - 1.0).abs();
            assert!(step < 39 || off < 1e-6, "{target}, step {step}: off by {off:e}");
        }
        let solution = z.clone();
        for _ in 0..1000 {
            let report = lm.step(&mut problem, &mut z).unwrap();
            let lambda = report.lambda.unwrap();
            assert!(report.rejected && (1e-16..=1e8).contains(&lambda), "{target}: {report:?}");
        }
        assert_eq!(z, solution);
    }
}

#[test]
fn whatever_is_stationary_at_the_start_is_said_to_be() {
    // A network of zeros on odd data: only its last bias moves the outcomes, and their errors cancel there.
    let network = Network::mlp(&[1, 6, 1], Activation::Tanh).unwrap();
    let model = Model::new(network, Identity::new(vec![1.0]), SquaredError { factor: 1.0 }).unwrap();
    let x = faer::mat![[-1.0], [-0.5], [0.5], [1.0]];
    let samples = Samples::new(x.clone(), Mat::zeros(4, 0), x).unwrap();
    stationary(&model, &samples, 0.625, &["hig", "gn", "lm", "l-bfgs", "hig-kron", "adam", "hig-auto"]);
    // Without a field the state stays in eigenstate 1, and has nothing of eigenstate 2 but round-off, which adam and
    // hig-kron cannot tell from a gradient.
    let dipole = Dipole::new(DipoleSettings::default()).unwrap();
    let state = |n: usize| {
        let psi = dipole.eigenstate(n);
        Mat::from_fn(2, 28, |_, c| if c % 2 == 0 { psi[c / 2] } else { 0.0 })
    };
    let samples = Samples::new(state(2), state(1), state(2)).unwrap();
    let network = Network::mlp(&[28, 6, 384], Activation::Tanh).unwrap();
    let model = Model::new(network, dipole.clone(), Overlap).unwrap();
    stationary(&model, &samples, 1.0, &["hig", "gn", "lm", "l-bfgs"]);
}

/// Whether each of these optimizers says within three steps that θ = 0 is a stationary point with this loss.
fn stationary(model: &Model, samples: &Samples, loss: f64, names: &[&str]) {
    for name in names {
        let mut theta = vec![0.0; model.parameters()];
        let mut optimizer = optimizer(name, model, samples);
        let mut problem = model.problem(samples.clone(), 1).unwrap();
        let said = (0..3).any(|_| {
            let notice = optimizer.step(&mut *problem, &mut theta).unwrap().notice;
            matches!(notice, Some(Notice::Stationary { loss: said }) if (said - loss).abs() < 1e-9)
        });
        assert!(said, "{name} at {loss}");
    }
}

/// b₁(1 − e^(−b₂x)) at NIST's points of Misra1a, all of them the outcomes of one control b; the natural derivative is
/// the block.
struct Rise(Vec<f64>);

impl Rise {
    fn value(b: [f64; 2], x: f64) -> f64 {
        b[0] * (1.0 - (-b[1] * x).exp())
    }

    fn slopes(b: [f64; 2], x: f64) -> [f64; 2] {
        let decay = (-b[1] * x).exp();
        [1.0 - decay, b[0] * x * decay]
    }
}

impl Simulator for Rise {
    fn controls(&self) -> usize {
        2
    }

    fn outcomes(&self) -> usize {
        self.0.len()
    }

    fn simulate(
        &self,
        _: MatRef<'_, f64>,
        b: MatRef<'_, f64>,
        mut y: MatMut<'_, f64>,
        _: Option<&mut Tape>,
    ) -> Result<(), SimulatorError> {
        for s in 0..b.nrows() {
            self.0.iter().enumerate().for_each(|(c, &x)| y[(s, c)] = Self::value([b[(s, 0)], b[(s, 1)]], x));
        }
        Ok(())
    }

    fn derivative(&self) -> Derivative<'_> {
        Derivative::block(|at: simulator::Point<'_>, mut out| {
            let m = self.0.len();
            for s in 0..at.control.nrows() {
                for (c, &x) in self.0.iter().enumerate() {
                    let slopes = Self::slopes([at.control[(s, 0)], at.control[(s, 1)]], x);
                    (0..2).for_each(|j| out[(s, j * m + c)] = slopes[j]);
                }
            }
            Ok(())
        })
    }
}

/// The same as functions, its parameters b/unit, its outcomes y·scale.
fn opaque_rise(unit: [f64; 2], scale: f64) -> Opaque {
    let b = move |t: &[f64]| [t[0] * unit[0], t[1] * unit[1]];
    Opaque::new(2, 1, SquaredError { factor: 1.0 }, move |t, samples, mut y| {
        (0..samples.len()).for_each(|s| y[(s, 0)] = scale * Rise::value(b(t), samples.input[(s, 0)]));
        Ok(())
    })
    .with_jvp(move |t, samples, v, mut out| {
        for s in 0..samples.len() {
            let [d0, d1] = Rise::slopes(b(t), samples.input[(s, 0)]);
            out[(s, 0)] = scale * (d0 * unit[0] * v[0] + d1 * unit[1] * v[1]);
        }
        Ok(())
    })
}

const STARTS: [[f64; 2]; 2] = [[500.0, 1e-4], [250.0, 5e-4]];

/// An exponential rise as functions, and as the biases of a network of one layer, whose only input is 0.
fn rises(set: &Set, start: [f64; 2]) -> [(Box<dyn BatchProblem>, Vec<f64>); 2] {
    let functions = opaque_rise([1.0; 2], 1.0).problem(set.samples.clone(), 1).unwrap();
    let points = set.samples.input.col_as_slice(0).to_vec();
    let target = set.samples.target.transpose().to_owned();
    let samples = Samples::new(Mat::zeros(1, 1), Mat::zeros(1, 0), target).unwrap();
    let network = Network::mlp(&[1, 2], Activation::Identity).unwrap();
    let mut theta = vec![0.0; 4];
    theta[biases(&network)].copy_from_slice(&start);
    let model = Model::new(network, Rise(points), SquaredError { factor: 1.0 }).unwrap();
    [(functions, start.to_vec()), (model.problem(samples, 1).unwrap(), theta)]
}

fn biases(network: &Network) -> std::ops::Range<usize> {
    let tensors = network.tensors();
    let bias = tensors.iter().find(|tensor| tensor.name.ends_with("bias")).unwrap();
    bias.offset..bias.offset + 2
}

/// The two parameters, whatever else a network has.
fn parameters(theta: &[f64]) -> Vec<f64> {
    if theta.len() == 2 {
        return theta.to_vec();
    }
    theta[biases(&Network::mlp(&[1, 2], Activation::Identity).unwrap())].to_vec()
}

#[test]
fn gn_and_hig_say_that_parameters_have_units_and_what_can_step_there_does() {
    let set = Set::load("Misra1a", |y| y);
    for start in STARTS {
        for name in ["gn", "hig"] {
            for (mut problem, mut theta) in rises(&set, start) {
                let source = opaque_rise([1.0; 2], 1.0);
                let report = optimizer(name, &source, &set.samples).step(&mut *problem, &mut theta).unwrap();
                let said = matches!(report.notice, Some(Notice::ColumnScales { ratio }) if ratio > 1e5);
                assert!(said, "{name} from {start:?}: {:?}", report.notice);
            }
        }
        let able = |name| -> Box<dyn Optimizer> {
            match name {
                "lm" => Box::new(lm(Scaling::None)),
                "lm by columns" => Box::new(lm(Scaling::Columns)),
                _ => Box::new(Lbfgs::new(LbfgsSettings::default()).unwrap()),
            }
        };
        for name in ["lm", "lm by columns", "l-bfgs"] {
            for (mut problem, mut theta) in rises(&set, start) {
                let mut optimizer = able(name);
                for _ in 0..200 {
                    optimizer.step(&mut *problem, &mut theta).unwrap();
                }
                let digits = set.digits(&parameters(&theta));
                assert!(digits > 4.301, "{name} from {start:?}: {digits:.1} digits");
            }
        }
    }
}

/// b after each of twelve steps by lm, whatever the units it is measured in.
fn path(set: &Set, scaling: Scaling, unit: [f64; 2], scale: f64) -> Vec<[f64; 2]> {
    let target = faer::Scale(scale) * &set.samples.target;
    let samples = Samples::new(set.samples.input.clone(), set.samples.initial.clone(), target).unwrap();
    let mut problem = OpaqueProblem::new(&opaque_rise(unit, scale), samples).unwrap();
    let mut lm = lm(scaling);
    let mut t = vec![STARTS[0][0] / unit[0], STARTS[0][1] / unit[1]];
    (0..12)
        .map(|_| {
            lm.step(&mut problem, &mut t).unwrap();
            [t[0] * unit[0], t[1] * unit[1]]
        })
        .collect()
}

#[test]
fn the_path_of_lm_does_not_depend_on_units() {
    let set = Set::load("Misra1a", |y| y);
    let same = |one: &[[f64; 2]], other: &[[f64; 2]], what: &str| {
        for (step, (one, other)) in one.iter().zip(other).enumerate() {
            let off = (0..2).map(|j| (one[j] / other[j] - 1.0).abs()).fold(0.0, f64::max);
            assert!(off < 1e-6, "{what}, step {step}: {off:e}");
        }
    };
    let by_columns = path(&set, Scaling::Columns, [1.0; 2], 1.0);
    assert_ne!(by_columns[0], by_columns[11]);
    for unit in [[1e-6, 1.0], [1e6, 1.0], [1.0, 1e-6], [1e6, 1e-6], [1e-6, 1e6]] {
        same(&path(&set, Scaling::Columns, unit, 1.0), &by_columns, &format!("parameters in {unit:?}"));
    }
    let plain = path(&set, Scaling::None, [1.0; 2], 1.0);
    for scale in [1e-3, 1e4] {
        same(&path(&set, Scaling::Columns, [1.0; 2], scale), &by_columns, &format!("columns, {scale}"));
        same(&path(&set, Scaling::None, [1.0; 2], scale), &plain, &format!("none, {scale}"));
    }
}

/// y_j = a_j x_j: a layer without Kronecker factors.
#[derive(Debug)]
struct Gains(usize);

impl Layer for Gains {
    fn inputs(&self) -> usize {
        self.0
    }

    fn outputs(&self) -> usize {
        self.0
    }

    fn tensors(&self) -> Vec<Tensor> {
        vec![Tensor { name: "gain".to_owned(), shape: vec![self.0], offset: 0 }]
    }

    fn initialize(&self, _: Init, _: &mut dyn Rng, theta: &mut [f64]) {
        theta.fill(1.5);
    }

    fn forward(&self, a: &[f64], x: MatRef<'_, f64>, _: &mut Record, mut y: MatMut<'_, f64>, _: Par) {
        (0..self.0).for_each(|j| (0..x.nrows()).for_each(|s| y[(s, j)] = a[j] * x[(s, j)]));
    }

    fn tangent(&self, at: Place<'_>, x: Option<MatRef<'_, f64>>, v: &[f64], mut y: MatMut<'_, f64>, _: Par) {
        for j in 0..self.0 {
            for s in 0..y.nrows() {
                y[(s, j)] = at.theta[j] * x.map_or(0.0, |x| x[(s, j)]) + v[j] * at.input[(s, j)];
            }
        }
    }

    fn pull(&self, at: Place<'_>, u: MatRef<'_, f64>, mut x: MatMut<'_, f64>, _: Par) {
        (0..self.0).for_each(|j| (0..u.nrows()).for_each(|row| x[(row, j)] = at.theta[j] * u[(row, j)]));
    }

    fn gradient(&self, at: Place<'_>, u: MatRef<'_, f64>, out: &mut [f64], _: Par) {
        for j in 0..self.0 {
            out[j] = (0..u.nrows()).map(|s| u[(s, j)] * at.input[(s, j)]).sum();
        }
    }
}

#[test]
fn squared_lengths_of_columns_are_the_diagonal_of_jtj() {
    let dense = |inputs, outputs| Box::new(Dense::new(inputs, outputs).unwrap()) as Box<dyn Layer>;
    for activation in Activation::ALL {
        let units = || Box::new(Units::new(activation, 5)) as Box<dyn Layer>;
        let block = Block::residual(Network::new(vec![dense(5, 5), units()]).unwrap()).unwrap();
        for own in [false, true] {
            let mut layers = vec![dense(3, 5), units(), Box::new(block.clone())];
            if own {
                layers.push(Box::new(Gains(5)));
            }
            layers.push(dense(5, 2));
            let network = Network::new(layers).unwrap();
            let theta = network.initialize(Init::FanInUniform, &mut ChaCha8Rng::seed_from_u64(5));
            let model = Model::new(network, Rise(vec![0.3, 1.0, 2.5]), SquaredError { factor: 1.0 }).unwrap();
            let x = Mat::from_fn(7, 3, |s, j| (1.0 + s as f64 * 1.3 + j as f64).sin());
            let samples = Samples::new(x, Mat::zeros(7, 0), Mat::zeros(7, 3)).unwrap();
            let mut problem = model.problem(samples, 1).unwrap();
            let mut at = problem.linearize(&theta).unwrap();
            let transpose = at.jacobian.dense_transpose().unwrap();
            let mut squares = vec![f64::NAN; theta.len()];
            at.jacobian.column_squares(&mut squares).unwrap();
            let largest = squares.iter().copied().fold(0.0, f64::max);
            for (j, square) in squares.iter().enumerate() {
                let by_rows: f64 = (0..21).map(|r| transpose[(j, r)].powi(2)).sum();
                let off = (square - by_rows).abs() / largest;
                assert!(off < 1e-13, "{activation:?}, own {own}, column {j}: {off:e}");
            }
        }
    }
}
