//! The one place that touches long vectors: lengths, inner products, combinations, and the extension of a basis.
//!
//! Vectors over parameters (P entries) are the same on every rank. Vectors over outcomes (n entries) may be spread over
//! ranks, each holding the rows of its samples. What sums over a vector of the second kind takes the sum over ranks
//! as an argument ([`Sum`]), which is [`Jacobian::sum`](super::Jacobian::sum); one process sums nothing.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};

use super::columns::vectorized;

/// Adds up partial results over ranks, in place.
pub(crate) type Sum<'a> = &'a dyn Fn(&mut [f64]);

/// For vectors that every rank has whole.
pub(crate) fn whole(_: &mut [f64]) {}

/// Squares whose sum has lost nothing to underflow.
const SAFE: std::ops::Range<f64> = 1e-280..1e300;

/// Sizes whose squares, and products with a J of any usual size, are in range.
pub(crate) const COMFORTABLE: std::ops::Range<f64> = 1e-100..1e100;

/// |x|, also where its square overflows or underflows.
pub(crate) fn norm(x: &[f64]) -> f64 {
    let square = dot(x, x);
    if SAFE.contains(&square) {
        return square.sqrt();
    }
    let scale = power_of_two(x);
    scale * x.iter().map(|x| (x / scale).powi(2)).sum::<f64>().sqrt()
}

/// The power of 2 at or below the largest |xᵢ|; 1 where that is 0 or not finite. Scaling by it is exact.
pub(crate) fn power_of_two(x: &[f64]) -> f64 {
    power_of_two_below(x.iter().fold(0.0, |most: f64, x| most.max(x.abs())))
}

/// The same of one number.
pub(crate) fn power_of_two_below(x: f64) -> f64 {
    let exponent = x.to_bits() >> 52 & 0x7ff;
    // Of a subnormal number the least normal one: its own reciprocal would overflow.
    if x == 0.0 || exponent == 0x7ff { 1.0 } else { f64::from_bits(exponent.clamp(1, 2045) << 52) }
}

/// |x| for a vector that may be spread over ranks.
pub(crate) fn norm_over(x: &[f64], sum: Sum<'_>) -> f64 {
    total(norm(x), sum)
}

/// a·b for vectors that may be spread over ranks, added up in their order.
pub(crate) fn dot_over(a: &[f64], b: &[f64], sum: Sum<'_>) -> f64 {
    let mut product = [a.iter().zip(b).map(|(a, b)| a * b).sum()];
    sum(&mut product);
    product[0]
}

/// The length of a vector whose parts have these lengths.
fn total(part: f64, sum: Sum<'_>) -> f64 {
    let square = part * part;
    let mut squares = [square];
    sum(&mut squares);
    // One rank keeps its length, whose square may overflow or underflow.
    if squares[0] == square { part } else { squares[0].sqrt() }
}

/// a·b with eight partial sums, so that it vectorises; the order does not depend on the machine.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    vectorized(
        #[inline(always)]
        || {
            let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
            let mut lanes = [0.0; 8];
            for (a, b) in a.iter().zip(b) {
                for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
                    *lane += a * b;
                }
            }
            lanes.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>()
        },
    )
}

/// a ← a + c·b; returns |a|.
pub(crate) fn add_and_measure(a: &mut [f64], c: f64, b: &[f64]) -> f64 {
    let square = vectorized(
        #[inline(always)]
        || {
            let ((a, a_rest), (b, b_rest)) = (a.as_chunks_mut::<8>(), b.as_chunks::<8>());
            let mut lanes = [0.0; 8];
            for (a, b) in a.iter_mut().zip(b) {
                for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
                    *a += c * b;
                    *lane += *a * *a;
                }
            }
            add(a_rest, c, b_rest);
            lanes.iter().sum::<f64>() + a_rest.iter().map(|a| a * a).sum::<f64>()
        },
    );
    if SAFE.contains(&square) { square.sqrt() } else { norm(a) }
}

/// a ← a + c·b.
pub(crate) fn add(a: &mut [f64], c: f64, b: &[f64]) {
    for (a, b) in a.iter_mut().zip(b) {
        *a += c * b;
    }
}

/// a ← factor·a, where that changes anything.
pub(crate) fn scale(a: &mut [f64], factor: f64) {
    if factor != 1.0 {
        for a in a {
            *a *= factor;
        }
    }
}

/// `out` = x + t·v.
pub(crate) fn along(x: &[f64], t: f64, v: &[f64], out: &mut [f64]) {
    for ((out, x), v) in out.iter_mut().zip(x).zip(v) {
        *out = x + t * v;
    }
}

/// `out` ← `out` + factor·(basis)(coefficients), for a basis (length × k) and coefficients (k × columns).
pub(crate) fn combine(
    basis: MatRef<'_, f64>,
    coefficients: MatRef<'_, f64>,
    factor: f64,
    out: MatMut<'_, f64>,
    par: Par,
) {
    matmul(out, Accum::Add, basis, coefficients, factor, par);
}

/// Orthogonalizes column `k` against those before it and normalises it; returns what its length was. `overlaps` has room
/// for k + 2 numbers.
///
/// The recurrence says that `along` times the column before it is most of what has to go, so that goes first; classical
/// Gram–Schmidt takes the rest, once more where it cancelled (Daniel, Gragg, Kaufman, Stewart, 1976). Each pass takes one
/// sum over ranks: with the overlaps h comes the square of the length before, which leaves |w|² − |h|², exact to round-off
/// where little has cancelled.
pub(crate) fn extend(
    basis: &mut Mat<f64>,
    k: usize,
    along: f64,
    overlaps: &mut [f64],
    sum: Sum<'_>,
    par: Par,
) -> f64 {
    let (before, mut rest) = basis.as_mut().split_at_col_mut(k);
    let before = before.as_ref();
    let mut vector = rest.as_mut().subcols_mut(0, 1);
    if k == 0 {
        return normalize(vector, sum);
    }
    // Squares are to be in range; `along` is about as large as the vector, and the same on every rank.
    let unit = if COMFORTABLE.contains(&along) { 1.0 } else { power_of_two_below(along) };
    if unit != 1.0 {
        vector *= faer::Scale(1.0 / unit);
    }
    let mut original = vector.norm_l2().powi(2);
    vector -= faer::Scale(along / unit) * before.subcols(k - 1, 1);
    let overlaps = &mut overlaps[..k + 2];
    let mut length = 0.0;
    for pass in 0..3 {
        let (h, squares) = overlaps.split_at_mut(k);
        let mut h = MatMut::from_column_major_slice_mut(h, k, 1);
        matmul(h.as_mut(), Accum::Replace, before.transpose(), &vector, 1.0, par);
        squares.copy_from_slice(&[vector.norm_l2().powi(2), original]);
        sum(overlaps);
        let (h, squares) = overlaps.split_at(k);
        if pass == 0 {
            original = squares[1];
        }
        let h = MatRef::from_column_major_slice(h, k, 1);
        matmul(&mut vector, Accum::Add, before, h, -1.0, par);
        let left = squares[0] - h.squared_norm_l2();
        // NaN stays.
        length = if left < 0.0 { 0.0 } else { left.sqrt() };
        if left > 0.5 * squares[0] {
            break;
        }
    }
    // Below the round-off of the product itself there is no direction left, only noise.
    if length <= f64::EPSILON * original.sqrt() {
        vector.fill(0.0);
        return 0.0;
    }
    divide(vector, length);
    unit * length
}

/// Scales a vector to length 1 (0 stays 0); returns what its length was.
pub(crate) fn normalize(vector: MatMut<'_, f64>, sum: Sum<'_>) -> f64 {
    let length = total(vector.norm_l2(), sum);
    divide(vector, length);
    length
}

/// Divides a vector by its length (0 stays 0).
pub(crate) fn divide(mut vector: MatMut<'_, f64>, length: f64) {
    if length > 0.0 {
        // In two steps where the reciprocal of a tiny length would overflow.
        let scale = if (1.0 / length).is_finite() { 1.0 } else { power_of_two_below(length) };
        if scale < 1.0 {
            vector *= faer::Scale(1.0 / scale);
        }
        vector *= faer::Scale(scale / length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_measured_at_every_size() {
        for size in [1.0, 1e-200, 1e200] {
            let b: Vec<f64> = (0..19).map(|i| size * f64::from(i)).collect();
            let mut a: Vec<f64> = (0..19).map(|i| size * f64::from(i * i)).collect();
            let mut expected = a.clone();
            add(&mut expected, -2.0, &b);
            let length = add_and_measure(&mut a, -2.0, &b);
            assert_eq!(a, expected);
            assert!((length / norm(&expected) - 1.0).abs() < 1e-15, "{size:e}: {length:e}");
        }
    }

    #[test]
    fn lengths_add_up_over_ranks_and_one_rank_keeps_its_own() {
        let doubled = |values: &mut [f64]| values.iter_mut().for_each(|value| *value *= 2.0);
        assert_eq!(norm_over(&[3.0, 4.0], &doubled), 50f64.sqrt());
        assert_eq!(dot_over(&[3.0, 4.0], &[1.0, 1.0], &doubled), 14.0);
        assert_eq!(total(1e-200, &whole), 1e-200, "whose square underflows");
    }
}
