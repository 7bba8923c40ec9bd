//! Layers beyond dense ones: every derivative by differences, J by every route, Kronecker factors, names.

#[path = "common/layers.rs"]
mod made;

use faer::{Mat, MatRef, Par};
use halfinverse::linear::Jacobian;
use halfinverse::network::{
    Activation, Block, Convolution, ConvolutionSettings, Dense, Extent, FactorRows, FourierFeatures,
    FourierFeaturesSettings, Init, Layer, LayerNorm, LayerNormSettings, Network, Padding, PoolingSettings,
    Resampling, Units, UpSamplingSettings,
};
use halfinverse::objective::SquaredError;
use halfinverse::problem::Layered;
use halfinverse::simulator::Scaling;
use halfinverse::{Model, NetworkProblem, Problem, Samples};
use made::{assert_near, convolution, random, values, vector};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

type Layers = Vec<Box<dyn Layer>>;

/// A U-Net-like chain between grids of 6 × 4, with one channel in and one out.
fn u_net() -> Layers {
    let units = |width| Box::new(Units::new(Activation::Tanh, width)) as Box<dyn Layer>;
    let conv = |inputs, shape: &[usize], channels, padding| {
        Box::new(convolution(inputs, shape, channels, &[3, 3], &[1, 1], padding)) as Box<dyn Layer>
    };
    let pooling = PoolingSettings { shape: vec![6, 4], factor: Extent::All(2) };
    let up = UpSamplingSettings { shape: vec![3, 2], factor: Extent::All(2) };
    let deep = convolution(12, &[3, 2], 3, &[3, 2], &[1, 1], Padding::Zero);
    let lower = vec![
        Box::new(Resampling::pooling(48, &pooling).unwrap()) as Box<dyn Layer>,
        Box::new(deep),
        units(18),
        Box::new(Resampling::up(18, &up).unwrap()),
    ];
    vec![
        conv(24, &[6, 4], 2, Padding::Periodic),
        units(48),
        Box::new(Block::concatenation(Network::new(lower).unwrap())),
        conv(120, &[6, 4], 1, Padding::Zero),
    ]
}

/// Every layer with what it is called, for an input of 12 features.
fn kinds() -> Vec<(&'static str, Box<dyn Layer>)> {
    let conv = |shape: &[usize], kernel: &[usize], stride: &[usize], padding| {
        Box::new(convolution(12, shape, 2, kernel, stride, padding)) as Box<dyn Layer>
    };
    let without_bias =
        ConvolutionSettings { shape: vec![3, 4], channels: 2, bias: false, ..ConvolutionSettings::default() };
    let pooling = PoolingSettings { shape: vec![6], factor: Extent::All(3) };
    let up = UpSamplingSettings { shape: vec![2, 3], factor: Extent::Each(vec![1, 2]) };
    let norm = |channels| LayerNormSettings { channels, ..LayerNormSettings::default() };
    let fourier = FourierFeaturesSettings { frequencies: 5, scale: 0.3, seed: 3 };
    let inner = |outputs| Network::mlp(&[12, 4, outputs], Activation::Tanh).unwrap();
    vec![
        ("line", conv(&[6], &[3], &[1], Padding::Zero)),
        ("odd line", conv(&[12], &[4], &[5], Padding::Periodic)),
        ("grid", conv(&[3, 4], &[2, 3], &[2, 1], Padding::Zero)),
        ("periodic grid", conv(&[3, 2], &[3, 2], &[1, 1], Padding::Periodic)),
        ("grid without padding", conv(&[3, 4], &[2, 2], &[1, 2], Padding::None)),
        ("without bias", Box::new(Convolution::new(12, &without_bias).unwrap())),
        ("dense without bias", Box::new(Dense::new(12, 3).unwrap().without_bias())),
        ("pooling", Box::new(Resampling::pooling(12, &pooling).unwrap())),
        ("up-sampling", Box::new(Resampling::up(12, &up).unwrap())),
        ("layer norm", Box::new(LayerNorm::new(12, &norm(0)).unwrap())),
        ("layer norm of channels", Box::new(LayerNorm::new(12, &norm(3)).unwrap())),
        ("Fourier features", Box::new(FourierFeatures::new(12, &fourier).unwrap())),
        ("linear skip", Box::new(Block::linear_skip(inner(5)).unwrap())),
        ("concatenation", Box::new(Block::concatenation(inner(5)))),
        ("residual", Box::new(Block::residual(inner(12)).unwrap())),
    ]
}

/// Each kind behind a dense layer, so that its input moves: as the last layer, and before a few outputs; and a U-Net.
fn networks() -> Vec<(String, Network)> {
    let dense = |inputs, outputs| Box::new(Dense::new(inputs, outputs).unwrap()) as Box<dyn Layer>;
    let mut all = Vec::new();
    for (name, layer) in kinds() {
        all.push((format!("{name}, last"), Network::new(vec![dense(3, 12), layer]).unwrap()));
    }
    for (name, layer) in kinds() {
        let width = layer.outputs();
        let units = Box::new(Units::new(Activation::Tanh, width)) as Box<dyn Layer>;
        let layers = vec![dense(3, 12), layer, units, dense(width, 1)];
        all.push((format!("{name}, one output"), Network::new(layers).unwrap()));
    }
    all.push(("U-Net".to_owned(), Network::new(u_net()).unwrap()));
    let mut behind = u_net();
    behind.push(dense(24, 1));
    all.push(("U-Net, one output".to_owned(), Network::new(behind).unwrap()));
    all
}

/// A network under a simulator that scales, on some samples.
fn problem(network: &Network, samples: usize) -> (NetworkProblem, Vec<f64>) {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let mut theta = network.initialize(Init::FanInUniform, &mut rng);
    // Scales of 1 and shifts of 0 would hide mistakes.
    for theta in &mut theta {
        *theta += 0.2 * (rng.random::<f64>() - 0.5);
    }
    let m = network.outputs();
    let factors = (0..m).map(|c| 1.0 + 0.1 * c as f64).collect();
    let model = Model::new(network.clone(), Scaling::new(factors), SquaredError { factor: 0.5 }).unwrap();
    let samples =
        Samples::new(random(samples, network.inputs(), 5), Mat::zeros(samples, 0), random(samples, m, 6));
    (NetworkProblem::new(&model, samples.unwrap(), 1).unwrap(), theta)
}

/// J (n × P) by central differences of the outcomes.
fn differences(problem: &mut NetworkProblem, theta: &[f64]) -> Mat<f64> {
    const H: f64 = 1e-5;
    let mut columns = Vec::new();
    for i in 0..theta.len() {
        let mut moved = |h: f64| {
            let mut theta = theta.to_vec();
            theta[i] += h;
            problem.loss(&theta).unwrap();
            values(problem.outcome())
        };
        let (plus, minus) = (moved(H), moved(-H));
        columns
            .push(plus.iter().zip(minus).map(|(plus, minus)| (plus - minus) / (2.0 * H)).collect::<Vec<_>>());
    }
    Mat::from_fn(columns[0].len(), theta.len(), |r, i| columns[i][r])
}

#[test]
fn every_derivative_agrees_with_differences_and_every_route_with_the_rows() {
    for (name, network) in networks() {
        for samples in [1, 3] {
            let (mut problem, theta) = problem(&network, samples);
            let by_differences = differences(&mut problem, &theta);
            let mut jacobian = problem.linearize_layers(&theta).unwrap().jacobian;
            let j = jacobian.dense_transpose().unwrap().transpose().to_owned();
            let (n, p) = j.shape();
            assert_near(&values(j.as_ref()), &values(by_differences.as_ref()), 1e-8, &name);
            let (u, v) = (vector(n, 7), vector(p, 8));
            let times = |matrix: MatRef<'_, f64>, x: &[f64]| {
                values((matrix * MatRef::from_column_major_slice(x, x.len(), 1)).as_ref())
            };
            let (mut jv, mut ju) = (vec![f64::NAN; n], vec![f64::NAN; p]);
            jacobian.apply(&v, &mut jv).unwrap();
            jacobian.apply_transpose(&u, &mut ju).unwrap();
            assert_near(&jv, &times(j.as_ref(), &v), 1e-12, &format!("{name}: J v"));
            assert_near(&ju, &times(j.transpose(), &u), 1e-12, &format!("{name}: Jᵀu"));
            let (mut gram, mut squares) = (Mat::new(), vec![f64::NAN; p]);
            jacobian.row_gram(&mut gram, Par::Seq).unwrap();
            let expected = &j * j.transpose();
            assert_near(&values(gram.as_ref()), &values(expected.as_ref()), 1e-12, &format!("{name}: J Jᵀ"));
            jacobian.column_squares(&mut squares).unwrap();
            let expected: Vec<f64> = (0..p).map(|i| j.col(i).squared_norm_l2()).collect();
            assert_near(&squares, &expected, 1e-12, &format!("{name}: columns"));
            let mut gradient = vec![f64::NAN; p];
            problem.gradient(&theta, &mut gradient).unwrap();
            let at = problem.linearize(&theta).unwrap();
            let expected = times(j.transpose(), at.gradient);
            assert_near(&gradient, &expected, 1e-12, &format!("{name}: gradient"));
        }
    }
}

#[test]
fn a_gram_matrix_of_few_rows_and_many_parameters_is_made_in_blocks() {
    // 5 rows, 1156 parameters: a row at a time.
    let layer = convolution(12, &[3, 4], 64, &[3, 3], &[1, 1], Padding::Zero);
    let layers: Layers = vec![
        Box::new(layer),
        Box::new(Units::new(Activation::Tanh, 768)),
        Box::new(Dense::new(768, 1).unwrap()),
    ];
    let (mut problem, theta) = problem(&Network::new(layers).unwrap(), 5);
    let mut jacobian = problem.linearize_layers(&theta).unwrap().jacobian;
    let j = jacobian.dense_transpose().unwrap();
    let mut gram = Mat::new();
    jacobian.row_gram(&mut gram, Par::Seq).unwrap();
    assert_near(&values(gram.as_ref()), &values((j.transpose() * &j).as_ref()), 1e-12, "J Jᵀ");
}

/// Kronecker factors are made of rows whose products add up to Jᵀu.
#[test]
fn rows_of_factors_make_gradients() {
    for (name, network) in networks().into_iter().filter(|(_, network)| network.factored()) {
        let (mut problem, theta) = problem(&network, 3);
        let (p, m) = (theta.len(), network.outputs());
        let (mut expected, mut made) = (vec![0.0; p], vec![0.0; p]);
        let u = random(3, m, 9);
        let rows = values(u.as_ref());
        problem.linearize(&theta).unwrap().jacobian.apply_transpose(&rows, &mut expected).unwrap();
        problem.gradient(&theta, &mut made).unwrap();
        made.fill(0.0);
        let shapes = Layered::factors(&problem);
        let mut seen = vec![0; shapes.len()];
        let mut visit = |rows: FactorRows<'_>| {
            let (shape, delta) = (&shapes[rows.factor], rows.cotangent);
            seen[rows.factor] += delta.nrows();
            assert_eq!((rows.input.ncols(), delta.ncols()), (shape.inputs, shape.outputs));
            for (i, j) in (0..shape.columns()).flat_map(|i| (0..shape.outputs).map(move |j| (i, j))) {
                let a = |r: usize| if i < shape.inputs { rows.input[(r, i)] } else { 1.0 };
                made[shape.offset + i * shape.outputs + j] +=
                    (0..delta.nrows()).map(|r| delta[(r, j)] * a(r)).sum::<f64>();
            }
            assert!(seen[rows.factor] <= 3 * rows.positions);
        };
        problem.cotangents(&theta, u.as_ref(), &mut visit).unwrap();
        assert_near(&made, &expected, 1e-12, &name);
        let parameters: usize = shapes.iter().map(|shape| shape.columns() * shape.outputs).sum();
        assert_eq!(parameters, p, "{name}: every parameter belongs to a factor");
    }
}

/// The claim of `hig-kron`'s documentation: one position for an outcome of a linear network.
#[test]
fn kronecker_factors_of_a_convolution_are_exact_where_an_outcome_depends_on_one_position() {
    let layer = convolution(24, &[3, 4], 1, &[3, 3], &[1, 1], Padding::Periodic);
    let network = Network::new(vec![Box::new(layer)]).unwrap();
    let model =
        Model::new(network.clone(), Scaling::new(vec![1.0; 12]), SquaredError { factor: 0.5 }).unwrap();
    let samples = Samples::new(random(5, 24, 1), Mat::zeros(5, 0), random(5, 12, 2)).unwrap();
    let mut problem = NetworkProblem::new(&model, samples, 1).unwrap();
    let theta = vector(network.parameters(), 3);
    let mut exact = Mat::new();
    problem.linearize_layers(&theta).unwrap().jacobian.column_gram(&mut exact, Par::Seq).unwrap();
    problem.gradient(&theta, &mut vec![0.0; theta.len()]).unwrap();
    let (mut a, mut g) = (Mat::<f64>::zeros(19, 19), 0.0);
    let signs = Mat::from_fn(5, 12, |s, c| if (s + c) % 3 == 0 { 1.0 } else { -1.0 });
    let mut visit = |rows: FactorRows<'_>| {
        let total = (5 * rows.positions) as f64;
        let input = |r, j| if j < 18 { rows.input[(r, j)] } else { 1.0 };
        let input = Mat::from_fn(rows.input.nrows(), 19, input);
        a += faer::Scale(1.0 / total) * (input.transpose() * &input);
        g += rows.cotangent.squared_norm_l2();
    };
    problem.cotangents(&theta, signs.as_ref(), &mut visit).unwrap();
    assert_near(&values((faer::Scale(g) * a).as_ref()), &values(exact.as_ref()), 1e-12, "A ⊗ G");
}

#[test]
fn names_and_shapes_in_files_are_pytorchs() {
    let network = Network::new(u_net()).unwrap();
    let found: Vec<(String, Vec<usize>)> =
        network.tensors().into_iter().map(|tensor| (tensor.name, tensor.shape)).collect();
    let named = |name: &str, shape: &[usize]| (name.to_owned(), shape.to_vec());
    let expected = [
        named("layers.0.weight", &[2, 1, 3, 3]),
        named("layers.0.bias", &[2]),
        named("layers.1.layers.0.weight", &[3, 2, 3, 2]),
        named("layers.1.layers.0.bias", &[3]),
        named("layers.2.weight", &[1, 5, 3, 3]),
        named("layers.2.bias", &[1]),
    ];
    assert_eq!(found, expected);
    let tensors = |layer: &dyn Layer| {
        layer.tensors().into_iter().map(|tensor| (tensor.name, tensor.shape)).collect::<Vec<_>>()
    };
    let line = convolution(14, &[7], 3, &[5], &[1], Padding::Zero);
    assert_eq!(tensors(&line), [named("weight", &[3, 2, 5]), named("bias", &[3])]);
    let norm = LayerNorm::new(6, &LayerNormSettings::default()).unwrap();
    assert_eq!(tensors(&norm), [named("weight", &[6]), named("bias", &[6])]);
    let skip = Block::linear_skip(Network::mlp(&[2, 3], Activation::Tanh).unwrap()).unwrap();
    let expected =
        [named("weight", &[3, 2]), named("layers.0.weight", &[3, 2]), named("layers.0.bias", &[3])];
    assert_eq!(tensors(&skip), expected);
    assert_eq!(skip.tensors().iter().map(|tensor| tensor.offset).collect::<Vec<_>>(), [0, 6, 12]);
}

#[test]
fn a_convolutions_weights_are_drawn_for_what_a_unit_sees() {
    let layer = convolution(64 * 9, &[3, 3], 32, &[3, 3], &[1, 1], Padding::Zero);
    for (init, bias) in [(Init::HeNormal, 0.0), (Init::FanInUniform, 1.0), (Init::GlorotUniform, 0.0)] {
        let mut theta = vec![f64::NAN; layer.parameters()];
        layer.initialize(init, &mut ChaCha8Rng::seed_from_u64(1), &mut theta);
        let (weights, biases) = theta.split_at(32 * 64 * 9);
        let variance = weights.iter().map(|w| w * w).sum::<f64>() / weights.len() as f64;
        let stated = init.variance(64 * 9, 32 * 9);
        assert!((variance / stated - 1.0).abs() < 0.05, "{init:?}: {variance} against {stated}");
        assert_eq!(biases.iter().any(|b| *b != 0.0), bias != 0.0, "{init:?}");
    }
}
