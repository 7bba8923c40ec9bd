//! The identities of V φ(Σ) Uᵀ g and of J by layers, over random networks, simulators, mini-batches and filters.

use faer::{Mat, Par};
use halfinverse::linear::{DenseJacobian, Jacobian};
use halfinverse::network::{Activation, Block, Dense, Init, Layer, Network, Units};
use halfinverse::objective::SquaredError;
use halfinverse::simulator::{
    Boundary, Dipole, DipoleSettings, Oscillators, OscillatorsSettings, Poisson, PoissonSettings, Scaling,
    Simulator,
};
use halfinverse::spectral::{Filter, Options, Report, Shape, Solver, update};
use halfinverse::{Model, NetworkProblem, Problem, Samples};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A random problem, as what it is made of.
#[derive(Debug, Clone)]
struct Case {
    physics: Physics,
    inputs: usize,
    hidden: Vec<usize>,
    activation: Activation,
    /// Whether a residual block follows each hidden layer.
    skips: bool,
    samples: usize,
    seed: u64,
}

#[derive(Debug, Clone)]
enum Physics {
    Oscillators(OscillatorsSettings),
    Dipole(DipoleSettings),
    Poisson(PoissonSettings),
    Scaling(Vec<f64>),
}

fn physics() -> impl Strategy<Value = Physics> {
    let chain = (1usize..=3, 1usize..=8, 0.0..0.5f64).prop_map(|(masses, steps, linear_coupling)| {
        let settings =
            OscillatorsSettings { masses, steps, linear_coupling, ..OscillatorsSettings::default() };
        Physics::Oscillators(settings)
    });
    let laser = (3usize..=5, 1usize..=6).prop_map(|(points, steps)| {
        Physics::Dipole(DipoleSettings { points, steps, ..DipoleSettings::default() })
    });
    let boundary = prop::sample::select(vec![Boundary::Zero, Boundary::Periodic]);
    let field = (1usize..=4, 1usize..=3, 0.5..2.0f64, boundary).prop_map(|(width, height, dx, boundary)| {
        Physics::Poisson(PoissonSettings { width, height, dx, boundary })
    });
    let scaling = prop::collection::vec(0.01..10.0f64, 1..=3).prop_map(Physics::Scaling);
    prop_oneof![chain, laser, field, scaling]
}

fn case() -> impl Strategy<Value = Case> {
    let hidden = prop::collection::vec(1usize..=8, 0..=3);
    let activation = prop::sample::select(Activation::ALL.to_vec());
    (physics(), 1usize..=4, hidden, activation, any::<bool>(), 1usize..=5, any::<u64>()).prop_map(
        |(physics, inputs, hidden, activation, skips, samples, seed)| Case {
            physics,
            inputs,
            hidden,
            activation,
            skips,
            samples,
            seed,
        },
    )
}

fn filter() -> impl Strategy<Value = Filter> {
    let truncation = prop::sample::select(vec![1e-2, 1e-4, 1e-6]);
    let kappa = prop_oneof![Just(-1.0), Just(0.0), Just(0.5), Just(1.0), -1.0..1.0f64];
    let power =
        (kappa.clone(), truncation.clone()).prop_map(|(kappa, tau)| Filter::power(kappa, tau).unwrap());
    let lambda = prop_oneof![Just(0.0), 1e-6..2.0f64];
    let damped = (kappa, lambda, truncation)
        .prop_map(|(kappa, lambda, tau)| Filter::damped_power(kappa, lambda, tau).unwrap());
    prop_oneof![3 => power, 1 => damped]
}

fn random(rows: usize, columns: usize, rng: &mut ChaCha8Rng) -> Mat<f64> {
    let mut matrix = Mat::zeros(rows, columns);
    for j in 0..columns {
        matrix.col_as_slice_mut(j).fill_with(|| 2.0 * rng.random::<f64>() - 1.0);
    }
    matrix
}

fn vector(length: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
    random(length, 1, rng).col_as_slice(0).to_vec()
}

impl Case {
    fn rng(&self) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.seed)
    }

    /// With θ.
    fn problem(&self) -> (NetworkProblem, Vec<f64>) {
        match &self.physics {
            Physics::Oscillators(settings) => self.with(Oscillators::new(settings.clone()).unwrap()),
            Physics::Dipole(settings) => self.with(Dipole::new(settings.clone()).unwrap()),
            Physics::Poisson(settings) => self.with(Poisson::new(settings.clone()).unwrap()),
            Physics::Scaling(factors) => self.with(Scaling::new(factors.clone())),
        }
    }

    fn network(&self, controls: usize) -> Network {
        if !self.skips {
            let widths = [&[self.inputs], &self.hidden[..], &[controls]].concat();
            return Network::mlp(&widths, self.activation).unwrap();
        }
        let mut layers: Vec<Box<dyn Layer>> = Vec::new();
        let mut width = self.inputs;
        for &next in &self.hidden {
            let units = |width| Box::new(Units::new(self.activation, width));
            let inner: Vec<Box<dyn Layer>> = vec![Box::new(Dense::new(next, next).unwrap()), units(next)];
            let block = Block::residual(Network::new(inner).unwrap()).unwrap();
            layers.push(Box::new(Dense::new(width, next).unwrap()));
            layers.push(units(next));
            layers.push(Box::new(block));
            width = next;
        }
        layers.push(Box::new(Dense::new(width, controls).unwrap()));
        Network::new(layers).unwrap()
    }

    fn with(&self, simulator: impl Simulator + 'static) -> (NetworkProblem, Vec<f64>) {
        let mut rng = self.rng();
        let network = self.network(simulator.controls());
        let theta = network.initialize(Init::FanInUniform, &mut rng);
        let mut random = |columns: usize| random(self.samples, columns, &mut rng);
        let (input, initial) = (random(self.inputs), random(simulator.initials()));
        let samples = Samples::new(input, initial, random(simulator.outcomes())).unwrap();
        let objective = SquaredError { factor: 0.5 };
        let model = Model::new(network, simulator, objective).unwrap();
        (NetworkProblem::new(&model, samples, 1).unwrap(), theta)
    }

    /// J (n × P), stored, and g.
    fn stored(&self) -> (Mat<f64>, Vec<f64>) {
        let (mut problem, theta) = self.problem();
        let mut at = problem.linearize(&theta).unwrap();
        (at.jacobian.dense_transpose().unwrap().transpose().to_owned(), at.gradient.to_vec())
    }
}

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

fn scaled(x: &[f64], s: f64) -> Vec<f64> {
    x.iter().map(|x| s * x).collect()
}

fn product(matrix: &Mat<f64>, x: &[f64]) -> Vec<f64> {
    let column = Mat::from_fn(x.len(), 1, |i, _| x[i]);
    (matrix * column).col_as_slice(0).to_vec()
}

/// |a − b|.
fn off(a: &[f64], b: &[f64]) -> f64 {
    norm(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>())
}

/// With orthonormal columns and rows.
fn orthogonal(size: usize, rng: &mut ChaCha8Rng) -> Mat<f64> {
    random(size, size, rng).qr().compute_thin_Q()
}

/// Δ and its report.
type Update = (Vec<f64>, Report);

/// `krylov:0` stands for a space of full dimension.
const FULL: Solver = Solver::Krylov { vectors: 0 };
const ALL: [Solver; 3] = [Solver::Svd, Solver::Gram, FULL];

fn solve(jacobian: &mut dyn Jacobian, g: &[f64], filter: &Filter, solver: Solver) -> Update {
    let vectors = jacobian.shape().0.min(jacobian.shape().1);
    let solver = if solver == FULL { Solver::Krylov { vectors } } else { solver };
    let mut delta = vec![f64::NAN; jacobian.shape().1];
    let options = Options { solver, ..Options::default() };
    let report = update(jacobian, g, filter, &options, &mut delta).unwrap();
    (delta, report)
}

fn of_stored(j: &Mat<f64>, g: &[f64], filter: &Filter, solver: Solver) -> Update {
    solve(&mut DenseJacobian::new(j.clone()), g, filter, solver)
}

/// What the reports' error estimates are multiplied with. They are of first order: of 280,000 random comparisons the
/// worst was off by 3.2 times what the two reports say together.
const SLACK: f64 = 8.0;

/// |error| that an update may have by its own word.
fn doubt((delta, report): &Update) -> f64 {
    SLACK * report.error_estimate * norm(delta)
}

/// Sums of at most a few hundred products, through at most four layers and a simulator: 5e-16 at worst in 1,000 cases.
const ROUND_OFF: f64 = 1e-14;

/// Step of the central differences, which are off by its square and by ε over it, both far below the 1e-7 that is asked
/// for.
const H: f64 = 1e-6;

/// y, sample-major.
fn outcomes(problem: &mut NetworkProblem, theta: &[f64], v: &[f64], h: f64) -> Vec<f64> {
    let shifted: Vec<f64> = theta.iter().zip(v).map(|(theta, v)| theta + h * v).collect();
    problem.loss(&shifted).unwrap();
    let y = problem.outcome();
    (0..y.nrows()).flat_map(|s| (0..y.ncols()).map(move |c| y[(s, c)])).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn j_is_the_same_by_every_route(case in case()) {
        let (mut problem, theta) = case.problem();
        let mut rng = case.rng();
        let mut at = problem.linearize(&theta).unwrap();
        let (n, p) = at.jacobian.shape();
        // Row after row by products, before anything is stored.
        let mut rows = Mat::zeros(p, n);
        for r in 0..n {
            let unit: Vec<f64> = (0..n).map(|i| f64::from(u8::from(i == r))).collect();
            at.jacobian.apply_transpose(&unit, rows.col_as_slice_mut(r)).unwrap();
        }
        let j = rows.transpose().to_owned();
        let tolerance = ROUND_OFF * j.norm_l2();
        let (u, v) = (vector(n, &mut rng), vector(p, &mut rng));
        let (mut jv, mut jtu) = (vec![f64::NAN; n], vec![f64::NAN; p]);
        for stored in [false, true] {
            at.jacobian.apply(&v, &mut jv).unwrap();
            at.jacobian.apply_transpose(&u, &mut jtu).unwrap();
            prop_assert!(off(&jv, &product(&j, &v)) <= tolerance * norm(&v), "J v, stored: {stored}");
            prop_assert!(off(&jtu, &product(&rows, &u)) <= tolerance * norm(&u), "Jᵀ u, stored: {stored}");
            prop_assert!((at.jacobian.dense_transpose().unwrap() - &rows).norm_l2() <= tolerance, "rows, stored: {stored}");
        }
        let (mut by_rows, mut by_columns) = (Mat::new(), Mat::new());
        at.jacobian.row_gram(&mut by_rows, Par::Seq).unwrap();
        at.jacobian.column_gram(&mut by_columns, Par::Seq).unwrap();
        by_rows -= &j * &rows;
        by_columns -= &rows * &j;
        drop(at);
        prop_assert!(by_rows.norm_l2() <= tolerance * j.norm_l2(), "J Jᵀ");
        prop_assert!(by_columns.norm_l2() <= tolerance * j.norm_l2(), "Jᵀ J");
        // A kink within a step would spoil the quotient.
        if case.activation != Activation::Relu {
            let (ahead, behind) = (outcomes(&mut problem, &theta, &v, H), outcomes(&mut problem, &theta, &v, -H));
            let quotient: Vec<f64> = ahead.iter().zip(&behind).map(|(a, b)| (a - b) / (2.0 * H)).collect();
            let size = norm(&jv) + norm(&ahead) + 1.0;
            prop_assert!(off(&jv, &quotient) <= 1e-7 * size, "J v and differences");
        }
    }

    #[test]
    fn the_three_evaluations_agree_within_their_reports(case in case(), filter in filter(), own in any::<bool>()) {
        let (mut problem, theta) = case.problem();
        let mut at = problem.linearize(&theta).unwrap();
        let g = if own { at.gradient.to_vec() } else { vector(at.jacobian.shape().0, &mut case.rng()) };
        let reference = solve(&mut *at.jacobian, &g, &filter, Solver::Svd);
        for solver in [Solver::Gram, FULL] {
            let found = solve(&mut *at.jacobian, &g, &filter, solver);
            let error = off(&found.0, &reference.0);
            prop_assert!(error <= doubt(&found) + doubt(&reference), "{error:e}: {:?}, {:?}", found.1, reference.1);
        }
    }

    #[test]
    fn kappa_1_is_the_pseudo_inverse(case in case(), own in any::<bool>()) {
        // J Δ = U Uᵀ g and Δ = V Vᵀ Δ for the singular vectors of what is kept.
        let (j, g) = case.stored();
        let g = if own { g } else { vector(j.nrows(), &mut case.rng()) };
        let tau = 1e-6;
        let filter = Filter::power(1.0, tau).unwrap();
        let svd = j.thin_svd().unwrap();
        let sigmas = svd.S().column_vector();
        let rank = (0..sigmas.nrows()).filter(|&i| filter.keeps(sigmas[i], sigmas[0])).count();
        let (u, v) = (svd.U().subcols(0, rank).to_owned(), svd.V().subcols(0, rank).to_owned());
        let project = |basis: &Mat<f64>, x: &[f64]| product(basis, &product(&basis.transpose().to_owned(), x));
        for solver in ALL {
            let found = of_stored(&j, &g, &filter, solver);
            let delta = &found.0;
            // An error in Δ comes back at most σ_max times as large.
            let range = off(&product(&j, delta), &project(&u, &g));
            prop_assert!(range <= sigmas[0] * doubt(&found), "{solver}: {range:e}, {:?}", found.1);
            let row_space = off(&project(&v, delta), delta);
            prop_assert!(row_space <= doubt(&found), "{solver}: {row_space:e}, {:?}", found.1);
        }
    }

    #[test]
    fn rotations_of_outcomes_and_of_parameters_are_followed(case in case(), filter in filter()) {
        // Δ(QJ, Qg) = Δ(J, g) and Δ(JQᵀ, g) = Q Δ(J, g).
        let (j, _) = case.stored();
        let mut rng = case.rng();
        let g = vector(j.nrows(), &mut rng);
        let (left, right) = (orthogonal(j.nrows(), &mut rng), orthogonal(j.ncols(), &mut rng));
        for solver in ALL {
            let plain = of_stored(&j, &g, &filter, solver);
            let of_outcomes = of_stored(&(&left * &j), &product(&left, &g), &filter, solver);
            let of_parameters = of_stored(&(&j * right.transpose()), &g, &filter, solver);
            let error = off(&of_outcomes.0, &plain.0);
            prop_assert!(error <= doubt(&plain) + doubt(&of_outcomes), "{solver}, outcomes: {error:e}, {:?}", plain.1);
            let error = off(&of_parameters.0, &product(&right, &plain.0));
            prop_assert!(error <= doubt(&plain) + doubt(&of_parameters), "{solver}, parameters: {error:e}, {:?}", plain.1);
        }
    }

    #[test]
    fn scaled_outcomes_scale_the_update(case in case(), filter in filter(), scale in 1e-3..1e3f64) {
        // Δ(sJ, g) = s^−κ Δ(J, g) where λ goes with s²; and Δ(J, sg) = s Δ(J, g).
        let (j, _) = case.stored();
        let g = vector(j.nrows(), &mut case.rng());
        let (of_scaled, factor) = match filter.shape() {
            Shape::Power { kappa } => (filter, scale.powf(-kappa)),
            Shape::Damped { kappa, lambda } => {
                let scaled = Filter::damped_power(kappa, scale * scale * lambda, filter.truncation());
                (scaled.unwrap(), scale.powf(-kappa))
            }
        };
        for solver in ALL {
            let plain = of_stored(&j, &g, &filter, solver);
            let of_j = of_stored(&(faer::Scale(scale) * &j), &g, &of_scaled, solver);
            let of_g = of_stored(&j, &scaled(&g, scale), &filter, solver);
            for (what, found, factor) in [("J", of_j, factor), ("g", of_g, scale)] {
                let error = off(&found.0, &scaled(&plain.0, factor));
                prop_assert!(error <= doubt(&found) + factor * doubt(&plain), "{solver}, {what}: {error:e}, {:?}", found.1);
            }
        }
    }
}
