//! Batch matrices: one row per sample, one column per feature, samples contiguous.
//!
//! With the samples of a feature next to each other every element-wise loop vectorises over samples, and the
//! matrix products of a layer are `b × in` times `in × out` with unit stride in the long direction.

use faer::prelude::ReborrowMut;
use faer::{MatMut, MatRef};

/// The samples of feature `j` as a slice.
pub(crate) fn column(matrix: MatRef<'_, f64>, j: usize) -> &[f64] {
    matrix
        .col(j)
        .try_as_col_major()
        .expect("batch matrices keep the samples of a feature contiguous")
        .as_slice()
}

/// The samples of feature `j` as a mutable slice.
pub(crate) fn column_mut(matrix: MatMut<'_, f64>, j: usize) -> &mut [f64] {
    matrix
        .col_mut(j)
        .try_as_col_major_mut()
        .expect("batch matrices keep the samples of a feature contiguous")
        .as_slice_mut()
}

/// Runs `kernel` compiled for the widest vector instructions of this machine.
///
/// The kernel and all that it calls must be `#[inline(always)]`, or the copy for the wide instructions is not made.
/// No kernel asks for fused multiply-add, so every machine gets the same bits.
#[inline]
pub(crate) fn vectorized<R>(kernel: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(kernel)
}

/// Copies an `m`-vector per sample, sample-major (`s·m + c`), into a batch matrix `b × m`.
pub(crate) fn from_rows(rows: &[f64], mut out: MatMut<'_, f64>) {
    let m = out.ncols();
    debug_assert_eq!(rows.len(), out.nrows() * m);
    for c in 0..m {
        let column = column_mut(out.rb_mut(), c);
        for (value, row) in column.iter_mut().zip(rows.chunks_exact(m)) {
            *value = row[c];
        }
    }
}

/// Copies a batch matrix `b × m` into rows, sample-major (`s·m + c`).
pub(crate) fn to_rows(matrix: MatRef<'_, f64>, rows: &mut [f64]) {
    let m = matrix.ncols();
    debug_assert_eq!(rows.len(), matrix.nrows() * m);
    for c in 0..m {
        for (&value, row) in column(matrix, c).iter().zip(rows.chunks_exact_mut(m)) {
            row[c] = value;
        }
    }
}
