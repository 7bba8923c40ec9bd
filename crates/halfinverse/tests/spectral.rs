//! The three evaluations of V φ(Σ) Uᵀ g: against each other, against known answers, and at the edges.

mod common;

use common::distance;
use faer::{Mat, Par, mat};
use halfinverse::linear::{DenseJacobian, Jacobian, ProductError};
use halfinverse::spectral::{Fallback, Filter, KrylovSpace, Options, Report, Solver, SpectralError, update};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const ALL: [Solver; 3] = [Solver::Svd, Solver::Gram, Solver::Krylov { vectors: 64 }];

fn options(solver: Solver) -> Options {
    Options { solver, gram_tolerance: 1e-1, par: Par::Seq }
}

fn solve(
    j: &Mat<f64>,
    g: &[f64],
    filter: &Filter,
    solver: Solver,
) -> Result<(Vec<f64>, Report), SpectralError> {
    let mut delta = vec![f64::NAN; j.ncols()];
    let report = update(&mut DenseJacobian::new(j.clone()), g, filter, &options(solver), &mut delta)?;
    Ok((delta, report))
}

/// A matrix with orthonormal columns.
fn orthonormal(rows: usize, columns: usize, rng: &mut ChaCha8Rng) -> Mat<f64> {
    let mut random = Mat::zeros(rows, columns);
    for j in 0..columns {
        random.col_as_slice_mut(j).fill_with(|| rng.random::<f64>() - 0.5);
    }
    random.qr().compute_thin_Q()
}

/// J with the given singular values, g with a component along each and one outside its range, and V φ(Σ) Uᵀ g.
fn known(n: usize, p: usize, sigmas: &[f64], filter: &Filter, seed: u64) -> (Mat<f64>, Vec<f64>, Vec<f64>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (u, v) = (orthonormal(n, sigmas.len(), &mut rng), orthonormal(p, sigmas.len(), &mut rng));
    let scaled = Mat::from_fn(n, sigmas.len(), |i, k| u[(i, k)] * sigmas[k]);
    let j = &scaled * v.transpose();
    let g: Vec<f64> = (0..n).map(|_| rng.random::<f64>() - 0.3).collect();
    let sigma_max = sigmas.iter().copied().fold(0.0, f64::max);
    let mut delta = vec![0.0; p];
    for (k, &sigma) in sigmas.iter().enumerate() {
        let c: f64 = (0..n).map(|i| u[(i, k)] * g[i]).sum::<f64>() * filter.evaluate(sigma, sigma_max);
        delta.iter_mut().enumerate().for_each(|(i, delta)| *delta += c * v[(i, k)]);
    }
    (j, g, delta)
}

fn spread(count: usize, smallest: f64) -> Vec<f64> {
    (0..count).map(|k| 3.0 * smallest.powf(k as f64 / (count - 1) as f64)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn every_evaluation_gives_the_known_update(
        (n, p) in prop_oneof![(20usize..40, 41usize..70), (41usize..70, 20usize..40)],
        kappa in prop_oneof![Just(-1.0), Just(0.0), Just(0.5), Just(1.0), -1.0..1.0f64],
        seed in 0u64..1000,
    ) {
        let filter = Filter::power(kappa, 1e-4).unwrap();
        let (j, g, expected) = known(n, p, &spread(20, 1e-3), &filter, seed);
        for solver in ALL {
            let (delta, report) = solve(&j, &g, &filter, solver).unwrap();
            let error = distance(&delta, &expected);
            prop_assert!(error <= 1e-8, "{solver}: {error:e}");
            // 1e-11: the known answer itself has the round-off of making J from its factors.
            prop_assert!(error <= report.error_estimate.max(1e-11), "{solver}: {error:e}, not {:e}", report.error_estimate);
        }
    }

    #[test]
    fn damped_evaluations_agree(lambda in 0.0..2.0f64, seed in 0u64..1000) {
        let filter = Filter::damped(lambda, 1e-9).unwrap();
        let (j, g, expected) = known(30, 50, &spread(30, 1e-2), &filter, seed);
        for solver in ALL {
            let error = distance(&solve(&j, &g, &filter, solver).unwrap().0, &expected);
            prop_assert!(error <= 1e-8, "{solver}: {error:e}");
        }
    }
}

#[test]
fn gram_stays_within_its_bound_down_to_a_millionth_and_then_gives_way_to_svd() {
    for kappa in [0.0, 0.5, 1.0] {
        for smallest in [1e-3, 1e-4, 1e-5, 1e-6] {
            let filter = Filter::power(kappa, smallest / 10.0).unwrap();
            let (j, g, expected) = known(60, 90, &spread(60, smallest), &filter, 7);
            let (delta, report) = solve(&j, &g, &filter, Solver::Gram).unwrap();
            let error = distance(&delta, &expected);
            assert_eq!(report.solver, Solver::Gram);
            assert!(
                error <= report.error_estimate,
                "{kappa}, {smallest:e}: {error:e} > {:e}",
                report.error_estimate
            );
            assert!(error <= if smallest >= 1e-3 { 1e-8 } else { 1e-3 }, "{kappa}, {smallest:e}: {error:e}");
        }
        let filter = Filter::power(kappa, 1e-12).unwrap();
        let (j, g, expected) = known(60, 90, &spread(60, 1e-9), &filter, 7);
        let (delta, report) = solve(&j, &g, &filter, Solver::Gram).unwrap();
        assert!(distance(&delta, &expected) < 1e-5, "{kappa}");
        if kappa > 0.0 {
            assert_eq!(report.solver, Solver::Svd, "{kappa}");
            assert!(matches!(report.fallbacks[..], [Fallback::GramInexact { .. }]), "{:?}", report.fallbacks);
        }
    }
}

#[test]
fn krylov_of_full_rank_is_exact_and_shorter_spaces_give_shorter_updates() {
    let filter = Filter::power(0.5, 1e-6).unwrap();
    let (j, g, expected) = known(40, 60, &spread(12, 1e-4), &filter, 3);
    let mut lengths = Vec::new();
    for vectors in 1..=14 {
        let (delta, report) = solve(&j, &g, &filter, Solver::Krylov { vectors }).unwrap();
        lengths.push(delta.iter().map(|d| d * d).sum::<f64>().sqrt());
        assert_eq!(report.krylov_steps, Some(vectors.min(12)), "the space ends at rank(J) = 12");
        if vectors >= 12 {
            assert!(distance(&delta, &expected) < 1e-9);
            assert!(report.error_estimate < 1e-9);
        }
    }
    assert!(lengths.is_sorted_by(|a, b| *a <= b * (1.0 + 1e-9)), "{lengths:?}");
}

#[test]
fn krylov_of_one_vector_is_normalised_gradient_descent() {
    let filter = Filter::power(0.0, 1e-6).unwrap();
    let (j, g, _) = known(10, 20, &spread(10, 1e-2), &filter, 5);
    let mut gradient = vec![0.0; 20];
    DenseJacobian::new(j.clone()).apply_transpose(&g, &mut gradient).unwrap();
    let (delta, _) = solve(&j, &g, &filter, Solver::Krylov { vectors: 1 }).unwrap();
    let along: f64 = delta.iter().zip(&gradient).map(|(d, g)| d * g).sum();
    let lengths: f64 =
        [&delta, &gradient].map(|x| x.iter().map(|x| x * x).sum::<f64>().sqrt()).iter().product();
    assert!((along / lengths - 1.0).abs() < 1e-12);
}

#[test]
fn one_krylov_space_serves_every_filter() {
    let (j, g, _) = known(20, 30, &spread(20, 1e-3), &Filter::power(0.5, 1e-6).unwrap(), 1);
    let mut space = KrylovSpace::default();
    let mut jacobian = DenseJacobian::new(j.clone());
    space.build(&mut jacobian, &g, 8, Par::Seq).unwrap();
    for kappa in [-0.5, 0.25, 1.0] {
        let filter = Filter::power(kappa, 1e-6).unwrap();
        let mut delta = vec![0.0; 30];
        space.update(&mut jacobian, &filter, &mut delta).unwrap();
        let (expected, _) = solve(&j, &g, &filter, Solver::Krylov { vectors: 8 }).unwrap();
        assert_eq!(delta, expected);
    }
}

#[test]
fn krylov_keeps_its_accuracy_with_one_basis_down_to_a_hundred_millionth() {
    for (n, p) in [(30, 200), (200, 30)] {
        for (kappa, smallest) in [0.0, 0.5, 1.0].into_iter().flat_map(|kappa| [(kappa, 1e-4), (kappa, 1e-8)])
        {
            let filter = Filter::power(kappa, smallest / 10.0).unwrap();
            let (j, g, expected) = known(n, p, &spread(20, smallest), &filter, 5);
            let (delta, report) = solve(&j, &g, &filter, Solver::Krylov { vectors: 24 }).unwrap();
            let error = distance(&delta, &expected);
            // ε over the smallest, with a margin; the space ends where it holds all of J.
            assert!(error <= 1e-14 / smallest, "{n} x {p}, {kappa}, {smallest:e}: {error:e}");
            assert!(error <= report.error_estimate, "{error:e}, not {:e}", report.error_estimate);
            assert_eq!(report.krylov_steps, Some(20));
        }
    }
}

/// Counts products.
struct Counted {
    inner: DenseJacobian,
    products: [usize; 2],
}

impl Jacobian for Counted {
    fn shape(&self) -> (usize, usize) {
        self.inner.shape()
    }

    fn apply(&mut self, v: &[f64], out: &mut [f64]) -> Result<(), ProductError> {
        self.products[0] += 1;
        self.inner.apply(v, out)
    }

    fn apply_transpose(&mut self, u: &[f64], out: &mut [f64]) -> Result<(), ProductError> {
        self.products[1] += 1;
        self.inner.apply_transpose(u, out)
    }
}

#[test]
fn a_krylov_update_costs_one_more_product_where_rows_are_fewer() {
    let filter = Filter::power(0.5, 1e-6).unwrap();
    for (n, p, more) in [(20, 30, 1), (30, 20, 0)] {
        let (j, g, _) = known(n, p, &spread(20, 1e-3), &filter, 1);
        let mut jacobian = Counted { inner: DenseJacobian::new(j), products: [0, 0] };
        let options = options(Solver::Krylov { vectors: 8 });
        update(&mut jacobian, &g, &filter, &options, &mut vec![0.0; p]).unwrap();
        assert_eq!(jacobian.products, [8, 9 + more]);
    }
}

#[test]
fn the_vectors_that_a_space_does_not_keep_are_those_that_it_expands() {
    for (n, p) in [(20, 30), (30, 20)] {
        let (j, g, _) = known(n, p, &spread(20, 1e-2), &Filter::power(0.5, 1e-6).unwrap(), 1);
        let (mut jacobian, mut space, mut shown) =
            (DenseJacobian::new(j), KrylovSpace::default(), Vec::new());
        let mut show = |v: &[f64]| shown.push(v.to_vec());
        space.build_and_show(&mut jacobian, &g, 6, Par::Seq, &mut show).unwrap();
        let mut found = vec![0.0; p];
        for (i, v) in shown.iter().enumerate() {
            let mut unit = vec![0.0; 6];
            unit[i] = 1.0;
            space.expand(&mut jacobian, &unit, &mut found).unwrap();
            assert!(distance(&found, v) < 1e-10, "{n} x {p}, {i}");
        }
    }
}

#[test]
fn zero_jacobian_or_zero_gradient_gives_a_zero_update() {
    let filter = Filter::power(0.5, 1e-6).unwrap();
    for solver in ALL {
        let (delta, report) = solve(&Mat::zeros(3, 5), &[1.0, 2.0, 3.0], &filter, solver).unwrap();
        assert_eq!((delta, report.rank, report.condition()), (vec![0.0; 5], 0, 1.0), "{solver}, J = 0");
        let (j, _, _) = known(3, 5, &[3.0, 2.0, 1.0], &filter, 1);
        let (delta, report) = solve(&j, &[0.0; 3], &filter, solver).unwrap();
        assert_eq!(delta, vec![0.0; 5], "{solver}, g = 0");
        assert_eq!(report.error_estimate.to_bits() >> 63, 0);
    }
}

#[test]
fn a_gradient_outside_the_range_of_j_gives_a_zero_update() {
    let j = mat![[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]];
    for solver in ALL {
        let (delta, _) = solve(&j, &[0.0, 0.0, 1.0], &Filter::power(0.5, 1e-6).unwrap(), solver).unwrap();
        assert_eq!(delta, vec![0.0; 3], "{solver}");
    }
}

#[test]
fn single_rows_columns_and_entries_work() {
    let filter = Filter::power(0.5, 1e-6).unwrap();
    for solver in ALL {
        let (delta, report) = solve(&mat![[3.0, 4.0]], &[10.0], &filter, solver).unwrap();
        let expected = [10.0 / 5.0_f64.sqrt() * 0.6, 10.0 / 5.0_f64.sqrt() * 0.8];
        assert!(distance(&delta, &expected) < 1e-14, "{solver}, one row");
        assert_eq!(report.rank, 1);
        let (delta, _) = solve(&mat![[3.0], [4.0]], &[10.0, 0.0], &filter, solver).unwrap();
        assert!(distance(&delta, &[6.0 / 5.0_f64.sqrt()]) < 1e-14, "{solver}, one column");
        let (delta, _) = solve(&mat![[-4.0]], &[1.0], &filter, solver).unwrap();
        assert!(distance(&delta, &[-0.5]) < 1e-14, "{solver}, one entry");
    }
}

#[test]
fn repeated_singular_values_are_all_used() {
    let filter = Filter::power(0.5, 1e-6).unwrap();
    let (j, g, expected) = known(12, 20, &[4.0; 12], &filter, 9);
    for solver in ALL {
        let (delta, report) = solve(&j, &g, &filter, solver).unwrap();
        assert!(distance(&delta, &expected) < 1e-12, "{solver}");
        // All directions look alike to the gradient, so one Krylov vector says it all.
        let rank = if matches!(solver, Solver::Krylov { .. }) { 1 } else { 12 };
        assert_eq!(report.rank, rank, "{solver}");
    }
}

#[test]
fn a_singular_value_exactly_at_the_cut_is_dropped() {
    let filter = Filter::power(1.0, 0.25).unwrap();
    let j = mat![[8.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 2.0]];
    for solver in [Solver::Svd, Solver::Gram] {
        let mut delta = [0.0; 3];
        // The Gram matrix cannot tell which side of the cut 2 is on and says so; here the value is exact.
        let options = Options { solver, gram_tolerance: 10.0, par: Par::Seq };
        let report =
            update(&mut DenseJacobian::new(j.clone()), &[8.0, 4.0, 2.0], &filter, &options, &mut delta)
                .unwrap();
        assert!(distance(&delta, &[1.0, 1.0, 0.0]) < 1e-14, "{solver}: {delta:?}");
        assert_eq!((report.rank, report.sigma_min), (2, 4.0), "{solver}");
    }
}

#[test]
fn what_is_not_finite_is_refused_by_name() {
    let filter = Filter::power(0.5, 1e-6).unwrap();
    let bad = mat![[1.0, 0.0], [f64::NAN, 1.0]];
    for solver in ALL {
        for g in [[1.0, f64::INFINITY], [f64::NAN, 0.0]] {
            let error = solve(&Mat::identity(2, 2), &g, &filter, solver).unwrap_err();
            assert!(matches!(error, SpectralError::NotFinite { what: "g", .. }), "{solver}: {error}");
        }
        let error = solve(&bad, &[1.0, 1.0], &filter, solver).unwrap_err();
        assert!(matches!(error, SpectralError::NotFinite { .. }), "{solver}: {error}");
    }
}

#[test]
fn empty_or_misfitting_input_is_refused_with_its_sizes() {
    let filter = Filter::power(0.5, 1e-6).unwrap();
    let error = solve(&Mat::zeros(0, 4), &[], &filter, Solver::Auto).unwrap_err();
    assert_eq!(error, SpectralError::Empty { rows: 0, columns: 4 });
    let error = solve(&Mat::identity(3, 3), &[1.0], &filter, Solver::Auto).unwrap_err();
    assert_eq!(error, SpectralError::Length { what: "g", expected: 3, found: 1 });
}

#[test]
fn entries_whose_squares_leave_the_floating_range_go_to_the_svd() {
    let filter = Filter::power(1.0, 1e-6).unwrap();
    for scale in [1e-170, 1e170] {
        let j = mat![[2.0 * scale, 0.0], [0.0, scale]];
        let (delta, report) = solve(&j, &[2.0, 2.0], &filter, Solver::Gram).unwrap();
        assert_eq!(report.solver, Solver::Svd);
        assert!(matches!(report.fallbacks[..], [Fallback::GramOutOfRange { .. }]));
        let delta: Vec<f64> = delta.iter().map(|delta| scale * delta).collect();
        assert!(distance(&delta, &[1.0, 2.0]) < 1e-12);
    }
}

#[test]
fn auto_goes_by_size_and_truncation() {
    let coarse = Filter::power(0.5, 1e-6).unwrap();
    let fine = Filter::power(0.5, 1e-10).unwrap();
    assert_eq!(Solver::Auto.resolve(512, 2956, &coarse), Solver::Gram);
    assert_eq!(Solver::Auto.resolve(2956, 512, &coarse), Solver::Gram);
    assert_eq!(Solver::Auto.resolve(512, 2956, &fine), Solver::Svd);
    assert_eq!(Solver::Auto.resolve(4096, 24896, &fine), Solver::Krylov { vectors: 32 });
    assert_eq!(Solver::Svd.resolve(4096, 24896, &fine), Solver::Svd);
}

#[test]
fn units_of_j_and_g_change_the_update_as_the_filter_says_wherever_it_can_be_represented() {
    // Eigenvectors (1, 1) and (1, −1): singular values 3 and 1, and φ(J)g = (φ(3) + φ(1), φ(3) − φ(1))/2 for g = (1, 0).
    let j = mat![[2.0, 1.0], [1.0, 2.0]];
    for kappa in [1.0, 0.5, 0.0, -1.0] {
        let filter = Filter::power(kappa, 1e-6).unwrap();
        for exponent in (-300..=300).step_by(20) {
            for of_g in [-300, -150, 0, 150, 300] {
                let (s, t) = (10f64.powi(exponent), 10f64.powi(of_g));
                let factor = 10f64.powf(f64::from(of_g) - kappa * f64::from(exponent));
                let [of_3, of_1] = [3f64, 1.0].map(|sigma| sigma.powf(-kappa));
                let exact = [0.5 * (of_3 + of_1) * factor, 0.5 * (of_3 - of_1) * factor];
                for solver in ALL {
                    let scaled = Mat::from_fn(2, 2, |r, c| s * j[(r, c)]);
                    let found = solve(&scaled, &[t, 0.0], &filter, solver);
                    let case = format!("kappa {kappa}, s {s:e}, t {t:e}, {solver}");
                    if factor.abs() > 1e305 || factor.is_infinite() {
                        assert!(matches!(found, Err(SpectralError::NotFinite { .. })), "{case}: {found:?}");
                    } else if factor > 1e-290 {
                        let (delta, report) = found.unwrap();
                        for (found, exact) in delta.iter().zip(exact) {
                            // 1e-12: 10^x itself is off by that.
                            assert!(
                                (found - exact).abs() <= 1e-12 * of_3.max(of_1) * factor,
                                "{case}: {found} {exact}"
                            );
                        }
                        assert!(report.error_estimate < 1e-10, "{case}: {report:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn damping_in_units_of_sigma_squared_makes_the_same_step_in_other_units() {
    let j = mat![[2.0, 1.0, 0.5], [1.0, 2.0, -0.3]];
    let step = |s: f64, solver| {
        let filter = Filter::damped(0.3 * s * s, 0.0).unwrap();
        let scaled = Mat::from_fn(2, 3, |r, c| s * j[(r, c)]);
        solve(&scaled, &[1.0, -0.4], &filter, solver).unwrap().0
    };
    for solver in ALL {
        let one = step(1.0, solver);
        for s in [1e-150, 1e-40, 1e40, 1e150] {
            for (a, b) in step(s, solver).iter().zip(&one) {
                assert!((a * s - b).abs() <= 1e-12 * b.abs(), "{solver}, {s:e}: {a} {b}");
            }
        }
    }
}
