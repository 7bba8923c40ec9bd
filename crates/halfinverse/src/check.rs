//! Every derivative against central differences.
//!
//! A derivative is compared along one random direction v, of length 1 per component, with step h: the difference
//! quotient (y(+hv) − y(−hv))/2h is off by O(h²) and by round-off ε/h, both near 1e-10 here. A product with the
//! transpose is compared through uᵀ(J v) = (Jᵀu)ᵀv, which needs no second quotient.

use faer::{Mat, MatMut, MatRef, Par};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use crate::error::ShapeError;
use crate::fault::StepError;
use crate::linear::Jacobian;
use crate::linear::columns::{from_rows, to_rows};
use crate::linear::vectors::{dot, norm};
use crate::objective::Curvature;
use crate::problem::{Linearization, NetworkProblem, Problem};
use crate::simulator::{Point, Simulator, SimulatorError, Tape, block_tangent};

/// One comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// What was compared.
    pub what: &'static str,
    /// |derivative − difference quotient|, relative.
    pub error: f64,
}

/// The error up to which a derivative counts as right.
pub const TOLERANCE: f64 = 1e-6;
/// Step of the central differences.
const H: f64 = 1e-6;

/// A simulator's `jvp`, `vjp` and `block` at the given initial states and controls.
///
/// # Errors
/// When the simulator fails.
pub fn simulator(
    simulator: &dyn Simulator,
    initial: MatRef<'_, f64>,
    control: MatRef<'_, f64>,
    seed: u64,
) -> Result<Vec<Comparison>, SimulatorError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (b, q, m) = (control.nrows(), simulator.controls(), simulator.outcomes());
    for (what, unit, expected, found) in [
        ("the controls", "columns", q, control.ncols()),
        ("the initial states", "columns", simulator.initials(), initial.ncols()),
        ("the initial states", "samples", b, initial.nrows()),
    ] {
        ShapeError::check(what, unit, expected, found)
            .map_err(|error| SimulatorError::new(error.to_string()))?;
    }
    let v = normal(b, q, &mut rng);
    let u = normal(b, m, &mut rng);
    let forward = |sign: f64| {
        let mut outcome = Mat::zeros(b, m);
        let shifted = control + faer::Scale(sign * H) * &v;
        simulator.simulate(initial, shifted.as_ref(), outcome.as_mut(), None).map(|()| outcome)
    };
    let quotient = faer::Scale(0.5 / H) * (forward(1.0)? - forward(-1.0)?);

    let mut tape = Tape::default();
    simulator.simulate(initial, control, Mat::zeros(b, m).as_mut(), Some(&mut tape))?;
    let (at, derivative) = (Point { initial, control, tape: &tape }, simulator.derivative());
    let mut tangent = Mat::zeros(b, m);
    derivative.apply(simulator, at, v.as_ref(), tangent.as_mut())?;
    let mut cotangent = Mat::zeros(b, q);
    derivative.apply_transpose(simulator, at, u.as_ref(), cotangent.as_mut())?;
    let mut block = vec![0.0; b * q * m];
    derivative.fill_block(simulator, at, MatMut::from_column_major_slice_mut(&mut block, b, q * m))?;
    let mut by_block = Mat::zeros(b, m);
    block_tangent(&block, &simulator.pattern(), v.as_ref(), by_block.as_mut());
    Ok(vec![
        compare("simulator: jvp", tangent.as_ref(), quotient.as_ref()),
        compare_transpose("simulator: vjp", (&cotangent, &v), (&u, &quotient)),
        compare("simulator: block", by_block.as_ref(), quotient.as_ref()),
    ])
}

/// Objective, gradient and Jacobian of a whole model on its mini-batch: J v, Jᵀu, rows and both Gram matrices.
///
/// Where the curvature differs between outcomes, or samples have weights, J is that of the weighted outcomes; it is then
/// compared with itself only.
///
/// # Errors
/// When the model cannot be evaluated at θ.
pub fn model(problem: &mut NetworkProblem, theta: &[f64], seed: u64) -> Result<Vec<Comparison>, StepError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let v: Vec<f64> = (0..theta.len()).map(|_| rng.sample(StandardNormal)).collect();
    let (b, m) = problem.outcome().shape();
    let u = normal(b, m, &mut rng);
    let mut forward = |sign: f64| {
        let shifted: Vec<f64> = theta.iter().zip(&v).map(|(theta, v)| theta + sign * H * v).collect();
        problem.loss(&shifted).map(|loss| (loss, problem.outcome().to_owned()))
    };
    let ((loss_plus, plus), (loss_minus, minus)) = (forward(1.0)?, forward(-1.0)?);
    let quotient = faer::Scale(0.5 / H) * (plus - minus);
    let loss_quotient = (loss_plus - loss_minus) / (2.0 * H);

    let mut gradient = vec![0.0; theta.len()];
    problem.gradient(theta, &mut gradient)?;
    let along = dot(&gradient, &v);
    let size = norm(&gradient);
    let uniform = matches!(problem.model().objective().curvature(), Curvature::Uniform(_))
        && problem.mini_batch().weights().is_none();
    let mut at = problem.linearize_layers(theta)?;
    let mut g = Mat::zeros(b, m);
    from_rows(at.gradient, g.as_mut());
    let mut product = vec![0.0; b * m];
    at.jacobian.apply(&v, &mut product)?;
    let mut tangent = Mat::zeros(b, m);
    from_rows(&product, tangent.as_mut());
    let quotient = if uniform { quotient } else { tangent.clone() };
    let mut comparisons = vec![
        Comparison {
            what: "objective: gradient g",
            error: (inner(&g, &quotient) - loss_quotient).abs()
                / (g.norm_l2() * quotient.norm_l2()).max(f64::MIN_POSITIVE),
        },
        Comparison {
            what: "model: gradient of the loss",
            error: (along - loss_quotient).abs() / size.max(f64::MIN_POSITIVE),
        },
        compare("model: J v", tangent.as_ref(), quotient.as_ref()),
    ];
    comparisons.extend(jacobian(&mut at, &v, &u, &quotient)?);
    Ok(comparisons)
}

/// Jᵀu, rows and J Jᵀ against J v.
fn jacobian(
    at: &mut Linearization<'_>,
    v: &[f64],
    u: &Mat<f64>,
    quotient: &Mat<f64>,
) -> Result<[Comparison; 3], StepError> {
    let mut rows = vec![0.0; u.nrows() * u.ncols()];
    to_rows(u.as_ref(), &mut rows);
    let mut transpose = vec![0.0; v.len()];
    at.jacobian.apply_transpose(&rows, &mut transpose)?;
    let transpose = Mat::from_fn(v.len(), 1, |i, _| transpose[i]);
    let direction = Mat::from_fn(v.len(), 1, |i, _| v[i]);
    let dense = at.jacobian.dense_transpose()?;
    let by_rows = dense.transpose() * &direction;
    let mut of_rows = Mat::zeros(u.nrows(), u.ncols());
    from_rows(by_rows.col_as_slice(0), of_rows.as_mut());
    let mut gram = Mat::new();
    at.jacobian.row_gram(&mut gram, Par::Seq)?;
    let gram_of_rows = dense.transpose() * &dense;
    Ok([
        compare_transpose("model: J^T u", (&transpose, &direction), (u, quotient)),
        compare("model: rows of J", of_rows.as_ref(), quotient.as_ref()),
        compare("model: J J^T against rows", gram.as_ref(), gram_of_rows.as_ref()),
    ])
}

fn normal<R: Rng>(rows: usize, columns: usize, rng: &mut R) -> Mat<f64> {
    let mut matrix = Mat::zeros(rows, columns);
    for j in 0..columns {
        matrix.col_as_slice_mut(j).fill_with(|| rng.sample(StandardNormal));
    }
    matrix
}

fn inner(a: &Mat<f64>, b: &Mat<f64>) -> f64 {
    (0..a.ncols()).map(|j| dot(a.col_as_slice(j), b.col_as_slice(j))).sum()
}

fn compare(what: &'static str, derivative: MatRef<'_, f64>, quotient: MatRef<'_, f64>) -> Comparison {
    let error = (derivative - quotient).norm_l2() / quotient.norm_l2().max(f64::MIN_POSITIVE);
    Comparison { what, error }
}

/// (Jᵀu)·v against u·(J v), relative to |u||J v|.
fn compare_transpose(
    what: &'static str,
    (transpose, v): (&Mat<f64>, &Mat<f64>),
    (u, quotient): (&Mat<f64>, &Mat<f64>),
) -> Comparison {
    let size = u.norm_l2() * quotient.norm_l2();
    Comparison { what, error: (inner(transpose, v) - inner(u, quotient)).abs() / size.max(f64::MIN_POSITIVE) }
}
