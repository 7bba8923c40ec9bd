//! soap and muon against their formulas, written down here with loops; and what they keep, and make of nothing.

use faer::Mat;
use halfinverse::network::{Activation, Network};
use halfinverse::objective::SquaredError;
use halfinverse::optimizer::{FirstOrder, Muon, MuonSettings, Optimizer, Soap, SoapSettings};
use halfinverse::simulator::Scaling;
use halfinverse::{Model, NetworkProblem, Problem, Samples};

/// Smooth functions of two variables, for a network of these widths.
fn problem(widths: &[usize]) -> NetworkProblem {
    shifted(widths, 0.0)
}

/// The same on other samples.
fn shifted(widths: &[usize], shift: f64) -> NetworkProblem {
    let outputs = widths[widths.len() - 1];
    let network = Network::mlp(widths, Activation::Tanh).unwrap();
    let factors = (0..outputs).map(|c| 1.0 + c as f64).collect();
    let model = Model::new(network, Scaling::new(factors), SquaredError { factor: 0.5 }).unwrap();
    let input = Mat::from_fn(24, 2, |s, j| (1.7 * s as f64 + 2.9 * j as f64 + shift).sin());
    let target = Mat::from_fn(24, outputs, |s, c| (input[(s, 0)] * (c + 1) as f64).cos() - input[(s, 1)]);
    NetworkProblem::new(&model, Samples::new(input, Mat::zeros(24, 0), target).unwrap(), 1).unwrap()
}

fn start(problem: &NetworkProblem) -> Vec<f64> {
    (0..problem.parameters()).map(|i| 0.7 * (1.0 + 3.0 * i as f64).sin()).collect()
}

/// A matrix as its rows.
type Rows = Vec<Vec<f64>>;

fn make(rows: usize, columns: usize, entry: impl Fn(usize, usize) -> f64) -> Rows {
    (0..rows).map(|i| (0..columns).map(|j| entry(i, j)).collect()).collect()
}

fn unit(n: usize) -> Rows {
    make(n, n, |i, j| f64::from(i == j))
}

fn transpose(a: &Rows) -> Rows {
    make(a[0].len(), a.len(), |i, j| a[j][i])
}

fn times(a: &Rows, b: &Rows) -> Rows {
    make(a.len(), b[0].len(), |i, j| (0..b.len()).map(|k| a[i][k] * b[k][j]).sum())
}

/// The columns of `a` in the order of these keys, largest first, and that order.
fn sorted(a: &Rows, keys: &[f64]) -> (Rows, Vec<usize>) {
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by(|&a, &b| keys[b].partial_cmp(&keys[a]).unwrap());
    (make(a.len(), order.len(), |i, j| a[i][order[j]]), order)
}

/// Eigenvectors of a symmetric matrix by Jacobi's rotations.
fn eigenvectors(a: &Rows) -> Rows {
    let n = a.len();
    let (mut a, mut q) = (a.clone(), unit(n));
    for _ in 0..30 {
        for (k, l) in (0..n).flat_map(|k| (k + 1..n).map(move |l| (k, l))) {
            let angle = 0.5 * (2.0 * a[k][l]).atan2(a[l][l] - a[k][k]);
            let mut turn = unit(n);
            (turn[k][k], turn[l][l]) = (angle.cos(), angle.cos());
            (turn[k][l], turn[l][k]) = (angle.sin(), -angle.sin());
            a = times(&times(&transpose(&turn), &a), &turn);
            q = times(&q, &turn);
        }
    }
    let eigenvalues: Vec<f64> = (0..n).map(|i| a[i][i]).collect();
    sorted(&q, &eigenvalues).0
}

/// Gram–Schmidt, each column twice.
fn orthogonal_factor(a: &Rows) -> Rows {
    let mut columns: Rows = Vec::new();
    for mut column in transpose(a) {
        for _ in 0..2 {
            for before in &columns {
                let along: f64 = column.iter().zip(before).map(|(a, b)| a * b).sum();
                column.iter_mut().zip(before).for_each(|(a, b)| *a -= along * b);
            }
        }
        let length = column.iter().map(|a| a * a).sum::<f64>().sqrt();
        columns.push(column.iter().map(|a| a / length).collect());
    }
    transpose(&columns)
}

/// A layer as Algorithm 3 of the paper has it: the mean gradient in the parameters' own coordinates, turned in each
/// step.
struct Whitened {
    means: [Option<Rows>; 2],
    bases: [Rows; 2],
    first: Rows,
    second: Rows,
}

impl Whitened {
    fn new(o: usize, i: usize, max_width: usize) -> Self {
        let mean = |n| (n <= max_width).then(|| make(n, n, |_, _| 0.0));
        let zero = make(o, i, |_, _| 0.0);
        Self { means: [mean(o), mean(i)], bases: [unit(o), unit(i)], first: zero.clone(), second: zero }
    }

    /// The direction without weight decay, in step `t` after the one that makes the bases.
    fn direct(&mut self, g: &Rows, t: u32, settings: &SoapSettings) -> Rows {
        let (o, i) = (g.len(), g[0].len());
        let SoapSettings { beta1, beta2, shampoo_beta, epsilon, frequency, .. } = *settings;
        let squares = [times(g, &transpose(g)), times(&transpose(g), g)];
        let learn = |means: &mut [Option<Rows>; 2]| {
            for (mean, square) in means.iter_mut().zip(&squares) {
                let mixed = |mean: &Rows| {
                    make(mean.len(), mean.len(), |i, j| {
                        shampoo_beta * mean[i][j] + (1.0 - shampoo_beta) * square[i][j]
                    })
                };
                *mean = mean.as_ref().map(mixed);
            }
        };
        if t == 0 {
            learn(&mut self.means);
            for (basis, mean) in self.bases.iter_mut().zip(&self.means) {
                if let Some(mean) = mean {
                    *basis = eigenvectors(mean);
                }
            }
            return make(o, i, |_, _| 0.0);
        }
        let [left, right] = &self.bases;
        let turned = |x: &Rows| times(&times(&transpose(left), x), right);
        self.first = make(o, i, |a, b| beta1 * self.first[a][b] + (1.0 - beta1) * g[a][b]);
        let (g, m) = (turned(g), turned(&self.first));
        self.second = make(o, i, |a, b| beta2 * self.second[a][b] + (1.0 - beta2) * g[a][b].powi(2));
        let correct = |beta: f64| 1.0 - beta.powf(f64::from(t));
        let direction = make(o, i, |a, b| {
            m[a][b] / correct(beta1) / ((self.second[a][b] / correct(beta2)).sqrt() + epsilon)
        });
        let direction = times(&times(left, &direction), &transpose(right));
        learn(&mut self.means);
        if t.is_multiple_of(frequency) {
            let mut orders = [(0..o).collect::<Vec<_>>(), (0..i).collect()];
            for ((basis, mean), order) in self.bases.iter_mut().zip(&self.means).zip(&mut orders) {
                let Some(mean) = mean else { continue };
                let power = times(mean, basis);
                let estimates: Vec<f64> = (0..basis.len())
                    .map(|j| (0..basis.len()).map(|k| basis[k][j] * power[k][j]).sum())
                    .collect();
                let (power, found) = sorted(&power, &estimates);
                (*basis, *order) = (orthogonal_factor(&power), found);
            }
            self.second = make(o, i, |a, b| self.second[orders[0][a]][orders[1][b]]);
        }
        direction
    }
}

fn assert_close(a: &[f64], b: &[f64], what: &str) {
    let off = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(off < 1e-9, "{what}: {off:e}");
}

#[test]
fn soap_is_algorithm_3_of_its_paper_on_layers_with_their_biases() {
    // Layers of 3 × 3 and 4 × 4 or 5 × 4, whose first bases no round-off decides; sides beyond `max_width` stay as they
    // are.
    for (widths, max_width) in [([2, 3, 4], 9), ([2, 3, 5], 4), ([2, 3, 4], 3), ([2, 3, 4], 1)] {
        let settings = SoapSettings {
            learning_rate: 0.03,
            weight_decay: 0.1,
            frequency: 3,
            max_width,
            ..SoapSettings::default()
        };
        // A gradient that made the bases would be diagonal in them, and Adam would show the round-off beside the
        // diagonal.
        let mut problems = [0.0, 0.4, 0.9].map(|shift| shifted(&widths, shift));
        let begin = start(&problems[0]);
        let (mut theta, mut expected) = (begin.clone(), begin.clone());
        let mut soap = FirstOrder::new(Soap::new(settings.clone()).unwrap());
        let layers = [(0, widths[1], widths[0] + 1), (9, widths[2], widths[1] + 1)];
        let mut memories = layers.map(|(_, o, i)| Whitened::new(o, i, max_width));
        let mut gradient = vec![0.0; theta.len()];
        for t in 0..20 {
            let problem = &mut problems[t as usize % 3];
            problem.gradient(&expected, &mut gradient).unwrap();
            for (&(offset, o, i), memory) in layers.iter().zip(&mut memories) {
                // θ holds a layer column by column, the bias last.
                let g = make(o, i, |a, b| gradient[offset + b * o + a]);
                let direction = memory.direct(&g, t, &settings);
                for (a, b) in (0..o).flat_map(|a| (0..i).map(move |b| (a, b))).filter(|_| t > 0) {
                    let theta = &mut expected[offset + b * o + a];
                    *theta -= 0.03 * (direction[a][b] + 0.1 * *theta);
                }
            }
            soap.step(problem, &mut theta).unwrap();
            assert_close(&theta, &expected, &format!("{widths:?}, at most {max_width}, step {t}"));
        }
        assert!(theta.iter().zip(begin).all(|(after, before)| (after - before).abs() > 1e-3));
    }
}

/// Five steps of X ← X(aI + bXᵀX + c(XᵀX)²).
fn newton_schulz(g: &Rows) -> Rows {
    let length = g.iter().flatten().map(|x| x * x).sum::<f64>().sqrt();
    let mut x = make(g.len(), g[0].len(), |i, j| g[i][j] / length);
    for _ in 0..5 {
        let a = times(&transpose(&x), &x);
        let squared = times(&a, &a);
        let n = a.len();
        let p = make(n, n, |i, j| 3.4445 * f64::from(i == j) - 4.7750 * a[i][j] + 2.0315 * squared[i][j]);
        x = times(&x, &p);
    }
    x
}

#[test]
fn muon_is_newton_schulz_on_hidden_weights_and_adamw_on_all_else() {
    let widths = [2, 6, 3, 5, 2];
    let mut problem = problem(&widths);
    let mut theta = start(&problem);
    let (rate, decay, mu) = (0.05, 0.2, 0.9);
    let settings = MuonSettings {
        learning_rate: rate,
        momentum: mu,
        adam_learning_rate: 0.01,
        weight_decay: decay,
        ..MuonSettings::default()
    };
    let mut muon = FirstOrder::new(Muon::new(settings).unwrap());
    // The weights of 6 to 3 and of 3 to 5.
    let hidden = [(18, 3, 6), (39, 5, 3)];
    let among = |k: usize| hidden.iter().any(|&(offset, o, i)| (offset..offset + o * i).contains(&k));
    let mut momenta = hidden.map(|(_, o, i)| make(o, i, |_, _| 0.0));
    let p = theta.len();
    let (mut m, mut v, mut gradient) = (vec![0.0; p], vec![0.0; p], vec![0.0; p]);
    let mut expected = theta.clone();
    for t in 1..=20 {
        problem.gradient(&expected, &mut gradient).unwrap();
        for (momentum, (offset, o, i)) in momenta.iter_mut().zip(hidden) {
            let g = make(o, i, |a, b| gradient[offset + b * o + a]);
            *momentum = make(o, i, |a, b| mu * momentum[a][b] + (1.0 - mu) * g[a][b]);
            let x = newton_schulz(&make(o, i, |a, b| mu * momentum[a][b] + (1.0 - mu) * g[a][b]));
            let scale = (o as f64 / i as f64).max(1.0).sqrt();
            for (a, b) in (0..o).flat_map(|a| (0..i).map(move |b| (a, b))) {
                let theta = &mut expected[offset + b * o + a];
                *theta -= rate * (scale * x[a][b] + decay * *theta);
            }
        }
        for k in (0..p).filter(|&k| !among(k)) {
            m[k] = 0.9 * m[k] + 0.1 * gradient[k];
            v[k] = 0.95 * v[k] + 0.05 * gradient[k].powi(2);
            let mean = m[k] / (1.0 - 0.9_f64.powi(t));
            let root = (v[k] / (1.0 - 0.95_f64.powi(t))).sqrt();
            expected[k] -= 0.01 * (mean / (root + 1e-10) + decay * expected[k]);
        }
        muon.step(&mut problem, &mut theta).unwrap();
        assert_close(&theta, &expected, &format!("step {t}"));
    }
}

fn both() -> [(&'static str, Box<dyn Optimizer>); 2] {
    let soap = SoapSettings { frequency: 4, ..SoapSettings::default() };
    [
        ("soap", Box::new(FirstOrder::new(Soap::new(soap).unwrap()))),
        ("muon", Box::new(FirstOrder::new(Muon::new(MuonSettings::default()).unwrap()))),
    ]
}

#[test]
fn what_was_saved_goes_on_with_the_same_bits() {
    let widths = [2, 7, 5, 3];
    for saved_after in [0, 1, 6, 8] {
        for ((name, mut whole), (_, mut rest)) in both().into_iter().zip(both()) {
            let mut problem = problem(&widths);
            let mut theta = start(&problem);
            (0..saved_after).for_each(|_| drop(whole.step(&mut problem, &mut theta).unwrap()));
            let state = whole.save();
            rest.restore(&state, theta.len()).unwrap();
            assert_eq!(rest.save(), state, "{name}");
            let mut resumed = theta.clone();
            for _ in 0..9 {
                whole.step(&mut problem, &mut theta).unwrap();
                rest.step(&mut problem, &mut resumed).unwrap();
            }
            assert_eq!(theta, resumed, "{name} after {saved_after}");
            assert_eq!(whole.save(), rest.save(), "{name} after {saved_after}");
        }
    }
}

#[test]
fn a_state_of_another_network_is_refused() {
    for ((name, mut first), (_, mut other)) in both().into_iter().zip(both()) {
        let mut of = problem(&[2, 7, 5, 3]);
        let mut theta = start(&of);
        (0..2).for_each(|_| drop(first.step(&mut of, &mut theta).unwrap()));
        assert!(other.restore(&first.save(), theta.len() - 40).is_err(), "{name}");
    }
    // As many parameters in other layers.
    let (mut five, mut four) = (problem(&[2, 5, 1]), problem(&[2, 3, 3]));
    assert_eq!(five.parameters(), four.parameters());
    let [(_, mut first), _] = both();
    let [(_, mut other), _] = both();
    let mut theta = start(&five);
    first.step(&mut five, &mut theta).unwrap();
    other.restore(&first.save(), theta.len()).unwrap();
    let said = other.step(&mut four, &mut theta).unwrap_err().to_string();
    assert!(said.contains("soap's memory of a layer: expected 3 rows, found 5"), "{said}");
}

#[test]
fn a_gradient_of_zero_moves_nothing_and_leaves_no_trace() {
    for (name, mut optimizer) in both() {
        let mut problem = problem(&[2, 7, 5, 3]);
        // Nothing reaches the weights: all outcomes are 0, and so are the targets.
        let mut nothing = {
            let model = problem.model().clone();
            let samples = Samples::new(Mat::zeros(4, 2), Mat::zeros(4, 0), Mat::zeros(4, 3)).unwrap();
            NetworkProblem::new(&model, samples, 1).unwrap()
        };
        let mut theta = vec![0.0; problem.parameters()];
        for _ in 0..12 {
            let report = optimizer.step(&mut nothing, &mut theta).unwrap();
            assert_eq!((report.loss, report.update_norm), (0.0, 0.0), "{name}");
        }
        assert!(theta.iter().all(|&theta| theta == 0.0), "{name}: {theta:?}");
        let mut theta = start(&problem);
        let before = problem.loss(&theta).unwrap();
        (0..200).for_each(|_| drop(optimizer.step(&mut problem, &mut theta).unwrap()));
        let after = problem.loss(&theta).unwrap();
        assert!(after < 0.3 * before, "{name}: {before} to {after}");
    }
}

#[test]
fn gradients_of_any_size_give_finite_steps() {
    for unit in [1e-160, 1e-20, 1e90] {
        for (name, mut optimizer) in both() {
            let network = Network::mlp(&[2, 7, 5, 3], Activation::Tanh).unwrap();
            let model =
                Model::new(network, Scaling::new(vec![1.0; 3]), SquaredError { factor: unit }).unwrap();
            let samples = problem(&[2, 7, 5, 3]).samples().unwrap().clone();
            let mut problem = NetworkProblem::new(&model, samples, 1).unwrap();
            let mut theta = start(&problem);
            for _ in 0..30 {
                let report = optimizer.step(&mut problem, &mut theta).unwrap();
                assert!(report.update_norm < 1.0, "{name}: {report:?}");
            }
            assert!(theta.iter().all(|theta| theta.is_finite()), "{name} with {unit}");
        }
    }
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let soap = |change: fn(&mut SoapSettings)| {
        let mut settings = SoapSettings::default();
        change(&mut settings);
        Soap::new(settings).unwrap_err().to_string()
    };
    assert!(soap(|s| s.frequency = 0).contains("`frequency` is 0"));
    assert!(soap(|s| s.max_width = 0).contains("`max_width` is 0"));
    assert!(soap(|s| s.shampoo_beta = 1.0).contains("`shampoo_beta` is 1"));
    assert!(soap(|s| s.weight_decay = -1.0).contains("`weight_decay` is -1"));
    let muon = |change: fn(&mut MuonSettings)| {
        let mut settings = MuonSettings::default();
        change(&mut settings);
        Muon::new(settings).unwrap_err().to_string()
    };
    assert!(muon(|s| s.learning_rate = 0.0).contains("`learning_rate` is 0"));
    assert!(muon(|s| s.adam_learning_rate = f64::NAN).contains("`adam_learning_rate` is NaN"));
    assert!(muon(|s| s.momentum = 1.0).contains("`momentum` is 1"));
}
