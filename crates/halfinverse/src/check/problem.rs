//! Loss, gradient and Jacobian of a problem against differences of its losses and outcomes.

use std::ops::Range;

use faer::{Mat, MatMut, MatRef, Par};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::Comparison;
use super::quotient::{Quotient, along};
use super::reference::{Direction, Reference, Sum, directions, groups, relative};
use crate::fault::StepError;
use crate::linear::Jacobian;
use crate::linear::columns::to_rows;
use crate::linear::vectors::dot;
use crate::problem::{NetworkProblem, OpaqueProblem, Problem};

/// Objective, gradient and Jacobian of a whole model on its mini-batch (a few samples are enough): J v, Jᵀu, rows and
/// J Jᵀ.
///
/// Costs 6 to 16 simulations per direction, of which there are at most eight, and J itself.
///
/// # Errors
/// When the model cannot be evaluated at θ.
pub fn model(model: &mut NetworkProblem, theta: &[f64], seed: u64) -> Result<Vec<Comparison>, StepError> {
    let mut comparisons = whole(model, theta, seed, &MODEL)?;
    comparisons.insert(0, objective(model, theta, seed)?);
    let directions = directions(point(theta), &mut ChaCha8Rng::seed_from_u64(seed));
    let m = model.outcome().ncols();
    let mut at = model.linearize_layers(theta)?;
    let products = products(&mut at.jacobian, &directions, 0.0)?;
    let dense = at.jacobian.dense_transpose()?;
    let by_rows: Vec<Vec<f64>> = directions
        .iter()
        .map(|of| (0..dense.ncols()).map(|i| of.dot(&dense.col_as_slice(i)[of.inputs.clone()])).collect())
        .collect();
    let mut gram = Mat::new();
    at.jacobian.row_gram(&mut gram, Par::Seq)?;
    comparisons.push(Reference::exact(&directions, m, &products).compare("model: rows of J", &by_rows));
    comparisons.push(compare_gram("model: J J^T against rows", gram.as_ref(), dense.as_ref()));
    Ok(comparisons)
}

/// Gradient and Jacobian of a problem of closures on its samples: J v, Jᵀu.
///
/// # Errors
/// When a function fails, or the loss at θ is not finite.
///
/// # Example
/// A derivative that adds to what its output held before:
/// ```
/// use halfinverse::check;
/// use halfinverse::faer::Mat;
/// use halfinverse::objective::SquaredError;
/// use halfinverse::problem::{Opaque, OpaqueProblem, Samples};
/// let square = Opaque::new(1, 1, SquaredError { factor: 0.5 }, |theta, _, mut y| {
///     y[(0, 0)] = theta[0] * theta[0];
///     Ok(())
/// })
/// .with_vjp(|theta, _, u, out| {
///     out[0] += 2.0 * theta[0] * u[(0, 0)];
///     Ok(())
/// });
/// let samples = Samples::new(Mat::zeros(1, 0), Mat::zeros(1, 0), Mat::zeros(1, 1))?;
/// let checks = check::opaque(&mut OpaqueProblem::new(&square, samples)?, &[3.0], 1)?;
/// let wrong = checks.iter().find(|check| !check.right());
/// assert_eq!(wrong.map(|check| check.what), Some("problem: gradient, called again"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn opaque(problem: &mut OpaqueProblem, theta: &[f64], seed: u64) -> Result<Vec<Comparison>, StepError> {
    whole(problem, theta, seed, &PROBLEM)
}

/// Gradient and Jacobian of any problem, whose outcomes are not seen: the gradient and g·(J v) against differences of
/// the loss, Jᵀu against J v.
///
/// # Errors
/// When the problem cannot be evaluated at θ.
pub fn problem(problem: &mut dyn Problem, theta: &[f64], seed: u64) -> Result<Vec<Comparison>, StepError> {
    whole(&mut Unseen(problem), theta, seed, &PROBLEM)
}

/// What is compared, by name.
struct Names {
    gradient: [&'static str; 2],
    along_g: &'static str,
    product: [&'static str; 2],
    transpose: [&'static str; 2],
}

const MODEL: Names = Names {
    gradient: ["model: gradient of the loss", "model: gradient, called again"],
    along_g: "model: J v along g",
    product: ["model: J v", "model: J v, called again"],
    transpose: ["model: J^T u", "model: J^T u, called again"],
};
const PROBLEM: Names = Names {
    gradient: ["problem: gradient of the loss", "problem: gradient, called again"],
    along_g: "problem: J v along g",
    product: ["problem: J v", "problem: J v, called again"],
    transpose: ["problem: J^T u", "problem: J^T u, called again"],
};

/// A problem, and its outcomes where these can be seen.
trait Subject {
    fn problem(&mut self) -> &mut dyn Problem;

    /// y of the last evaluation.
    fn outcome(&self) -> Option<MatRef<'_, f64>>;

    /// Makes of tangents of outcomes what J's rows have, at the last gradient.
    fn weigh(&self, outcomes: MatMut<'_, f64>);
}

impl Subject for NetworkProblem {
    fn problem(&mut self) -> &mut dyn Problem {
        self
    }

    fn outcome(&self) -> Option<MatRef<'_, f64>> {
        Some(Self::outcome(self))
    }

    fn weigh(&self, outcomes: MatMut<'_, f64>) {
        Self::weigh(self, outcomes);
    }
}

impl Subject for OpaqueProblem {
    fn problem(&mut self) -> &mut dyn Problem {
        self
    }

    fn outcome(&self) -> Option<MatRef<'_, f64>> {
        Some(Self::outcome(self))
    }

    fn weigh(&self, outcomes: MatMut<'_, f64>) {
        Self::weigh(self, outcomes);
    }
}

struct Unseen<'a>(&'a mut dyn Problem);

impl Subject for Unseen<'_> {
    fn problem(&mut self) -> &mut dyn Problem {
        self.0
    }

    fn outcome(&self) -> Option<MatRef<'_, f64>> {
        None
    }

    fn weigh(&self, _: MatMut<'_, f64>) {}
}

fn whole(
    subject: &mut dyn Subject,
    theta: &[f64],
    seed: u64,
    names: &Names,
) -> Result<Vec<Comparison>, StepError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let directions = directions(point(theta), &mut rng);
    let mut slopes = |before: f64| {
        let mut gradient = vec![before; theta.len()];
        let loss = subject.problem().gradient(theta, &mut gradient)?;
        let along = |of: &Direction| vec![of.dot(&gradient[of.inputs.clone()])];
        Ok::<_, StepError>((loss, directions.iter().map(along).collect::<Vec<_>>()))
    };
    let (loss, slopes, slopes_again) = (slopes(0.0)?.0, slopes(0.0)?.1, slopes(f64::NAN)?.1);
    let (outcomes, losses) = differences(subject, theta, loss, &directions)?;
    let losses = Reference::new(["parameter", "loss"], &directions, 1, losses);
    let weights = weights(subject);

    let mut at = subject.problem().linearize(theta)?;
    let (jacobian, g) = (&mut *at.jacobian, at.gradient);
    let products = [products(jacobian, &directions, 0.0)?, products(jacobian, &directions, f64::NAN)?];
    let along_g: Vec<Vec<f64>> = products[0].iter().map(|product| vec![dot(g, product)]).collect();
    let tangents = match &weights {
        Some((m, weights)) => {
            Reference::new(["parameter", "outcome"], &directions, *m, outcomes).times(weights)
        }
        None => Reference::exact(&directions, g.len(), &products[0]),
    };
    let cotangent = tangents.cotangent(&mut rng);
    let m = weights.map_or(g.len(), |(m, _)| m);
    let groups = groups(m);
    let cotangents = tangents.combine(&groups, &cotangent).total();
    let mut transposes = |before| by_transpose(jacobian, &directions, (m, &groups), &cotangent, before);
    let transposes = [transposes(0.0)?, transposes(f64::NAN)?];

    Ok(vec![
        losses.compare(names.gradient[0], &slopes),
        losses.expecting(&slopes).compare(names.gradient[1], &slopes_again),
        losses.compare(names.along_g, &along_g),
        tangents.compare(names.product[0], &products[0]),
        tangents.expecting(&products[0]).compare(names.product[1], &products[1]),
        cotangents.compare(names.transpose[0], &transposes[0]),
        cotangents.expecting(&transposes[0]).compare(names.transpose[1], &transposes[1]),
    ])
}

/// θ as one sample.
fn point(theta: &[f64]) -> MatRef<'_, f64> {
    MatRef::from_row_major_slice(theta, 1, theta.len())
}

/// Quotients of the outcomes, where they are seen, and of the loss.
type Differences = (Vec<Vec<Quotient>>, Vec<Vec<Quotient>>);

fn differences(
    subject: &mut dyn Subject,
    theta: &[f64],
    loss: f64,
    directions: &[Direction],
) -> Result<Differences, StepError> {
    let with_loss = |subject: &dyn Subject, loss: f64| {
        let mut values = subject.outcome().map_or_else(Vec::new, rows);
        values.push(loss);
        values
    };
    let at_rest = with_loss(subject, loss);
    let (mut outcomes, mut losses) = (Vec::new(), Vec::new());
    for direction in directions {
        let mut of = along(&at_rest, |t| {
            let mut moved = theta.to_vec();
            direction.shift(t, &mut moved);
            let loss = subject.problem().loss(&moved)?;
            Ok::<_, StepError>(with_loss(subject, loss))
        })?;
        losses.push(of.split_off(of.len() - 1));
        outcomes.push(of);
    }
    // Back to θ, where the weights are those of J.
    subject.problem().gradient(theta, &mut vec![0.0; theta.len()])?;
    Ok((outcomes, losses))
}

/// m, and of which outcomes each row of J consists, and by how much, where outcomes are seen.
fn weights(subject: &dyn Subject) -> Option<(usize, Vec<Sum>)> {
    let (b, m) = subject.outcome()?.shape();
    let mut sums = vec![Sum::new(); b * m];
    for of in 0..m {
        let mut unit = Mat::from_fn(b, m, |_, c| f64::from(u8::from(c == of)));
        subject.weigh(unit.as_mut());
        for (i, sum) in sums.iter_mut().enumerate() {
            let weight = unit[(i / m, i % m)];
            // Its own even where that is 0.
            if weight != 0.0 || i % m == of {
                sum.push((i / m * m + of, weight));
            }
        }
    }
    Some((m, sums))
}

/// A batch matrix, sample-major.
fn rows(matrix: MatRef<'_, f64>) -> Vec<f64> {
    let mut rows = vec![0.0; matrix.nrows() * matrix.ncols()];
    to_rows(matrix, &mut rows);
    rows
}

/// J v for every direction, written over `before`.
fn products(
    jacobian: &mut dyn Jacobian,
    directions: &[Direction],
    before: f64,
) -> Result<Vec<Vec<f64>>, StepError> {
    let (n, p) = jacobian.shape();
    let product = |direction: &Direction| {
        let mut v = vec![0.0; p];
        direction.shift(1.0, &mut v);
        let mut product = vec![before; n];
        jacobian.apply(&v, &mut product)?;
        Ok(product)
    };
    directions.iter().map(product).collect()
}

/// (Jᵀu)·v for every direction and for u of every group of outcomes, of all samples at once.
fn by_transpose(
    jacobian: &mut dyn Jacobian,
    directions: &[Direction],
    (m, groups): (usize, &[Range<usize>]),
    cotangent: &[f64],
    before: f64,
) -> Result<Vec<Vec<f64>>, StepError> {
    let (_, p) = jacobian.shape();
    let mut products = vec![Vec::new(); directions.len()];
    for group in groups {
        let part = cotangent.iter().enumerate();
        let u: Vec<f64> = part.map(|(i, &u)| if group.contains(&(i % m)) { u } else { 0.0 }).collect();
        let mut back = vec![before; p];
        jacobian.apply_transpose(&u, &mut back)?;
        for (direction, products) in directions.iter().zip(&mut products) {
            products.push(direction.dot(&back[direction.inputs.clone()]));
        }
    }
    Ok(products)
}

/// The objective's gradient against differences of each sample's loss.
fn objective(problem: &mut NetworkProblem, theta: &[f64], seed: u64) -> Result<Comparison, StepError> {
    problem.loss(theta)?;
    let (y, target) = (problem.outcome(), problem.mini_batch().target.as_ref());
    let (b, objective) = (y.nrows(), problem.model().objective());
    let losses = |y: MatRef<'_, f64>| -> Vec<f64> {
        let mut losses = vec![f64::NAN; b];
        objective.losses(y, target, &mut losses, None);
        losses
    };
    let directions = directions(y, &mut ChaCha8Rng::seed_from_u64(seed));
    let moved = |t: f64, of: &Direction| Ok::<_, StepError>(losses(of.moved(y, t).as_ref()));
    let reference = Reference::measure(["outcome", "loss"], &directions, 1, &losses(y), moved)?;
    let mut gradient = Mat::full(b, y.ncols(), f64::NAN);
    objective.losses(y, target, &mut vec![f64::NAN; b], Some(gradient.as_mut()));
    let slopes: Vec<_> = directions.iter().map(|of| of.dots(gradient.as_ref())).collect();
    Ok(reference.compare("objective: gradient g", &slopes))
}

/// Every entry of J Jᵀ, relative to the lengths of its two rows.
fn compare_gram(what: &'static str, gram: MatRef<'_, f64>, transpose: MatRef<'_, f64>) -> Comparison {
    let rows = transpose.transpose() * transpose;
    let mut comparison = Comparison::new(what, 0.0);
    for j in 0..rows.ncols() {
        for i in 0..rows.nrows() {
            let error = relative(gram[(i, j)] - rows[(i, j)], (rows[(i, i)] * rows[(j, j)]).sqrt());
            if error > comparison.error {
                comparison.error = error;
                comparison.place = format!("rows {i} and {j}");
            }
        }
    }
    comparison
}
