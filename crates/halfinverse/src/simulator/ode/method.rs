//! The methods: tables of explicit ones, and the linear algebra of the implicit one.
//!
//! An explicit method with s stages takes Xᵢ = x + h Σ_{j<i} aᵢⱼ kⱼ, kᵢ = f(Xᵢ, u, t + cᵢh), x⁺ = x + h Σ bᵢ kᵢ.
//!
//! **Velocity Verlet**, v½ = v + h/2·f(x), x⁺ = x + h·v½, v⁺ = v½ + h/2·f(x⁺), is such a method for x′ = v, v′ = f(x,
//! u, t) whose weights bᵢ differ between positions and velocities: its second stage holds v½, its third x⁺.
//!
//! Sources: Dormand, Prince, J. Comput. Appl. Math. 6(1), 1980, table 2 (the fifth-order weights); Hairer, Lubich,
//! Wanner, *Geometric Numerical Integration*, 2006, sections I.1.4 (Verlet) and II.1.1 (midpoint).

use serde::{Deserialize, Serialize};

/// How a step is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The classical Runge–Kutta method: fourth order, four evaluations.
    #[default]
    Rk4,
    /// The fifth-order formula of Dormand and Prince's 5(4) pair, with fixed steps: six evaluations.
    Dopri5,
    /// Velocity Verlet: second order, symplectic, for x′ = v, v′ = f(x, u, t) only.
    Verlet,
    /// The implicit midpoint rule: second order, symplectic, stable for every decaying linear system. Newton's method
    /// solves each step.
    ImplicitMidpoint,
}

/// An explicit method; stage i has the row `a[i]`.
pub(super) struct Table {
    pub(super) a: &'static [&'static [f64]],
    pub(super) c: &'static [f64],
    /// Weights of positions.
    pub(super) b: &'static [f64],
    /// Weights of all other components.
    pub(super) b_other: &'static [f64],
}

const RK4_WEIGHTS: &[f64] = &[1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0];

const RK4: Table = Table {
    a: &[&[], &[0.5], &[0.0, 0.5], &[0.0, 0.0, 1.0]],
    c: &[0.0, 0.5, 0.5, 1.0],
    b: RK4_WEIGHTS,
    b_other: RK4_WEIGHTS,
};

const DOPRI5_WEIGHTS: &[f64] =
    &[35.0 / 384.0, 0.0, 500.0 / 1113.0, 125.0 / 192.0, -2187.0 / 6784.0, 11.0 / 84.0];

const DOPRI5: Table = Table {
    a: &[
        &[],
        &[1.0 / 5.0],
        &[3.0 / 40.0, 9.0 / 40.0],
        &[44.0 / 45.0, -56.0 / 15.0, 32.0 / 9.0],
        &[19372.0 / 6561.0, -25360.0 / 2187.0, 64448.0 / 6561.0, -212.0 / 729.0],
        &[9017.0 / 3168.0, -355.0 / 33.0, 46732.0 / 5247.0, 49.0 / 176.0, -5103.0 / 18656.0],
    ],
    c: &[0.0, 0.2, 0.3, 0.8, 8.0 / 9.0, 1.0],
    b: DOPRI5_WEIGHTS,
    b_other: DOPRI5_WEIGHTS,
};

const VERLET: Table = Table {
    a: &[&[], &[0.5], &[0.0, 1.0]],
    c: &[0.0, 0.5, 1.0],
    b: &[0.0, 1.0, 0.0],
    b_other: &[0.5, 0.0, 0.5],
};

impl Method {
    /// The table of an explicit method.
    pub(super) fn table(self) -> Option<&'static Table> {
        match self {
            Self::Rk4 => Some(&RK4),
            Self::Dopri5 => Some(&DOPRI5),
            Self::Verlet => Some(&VERLET),
            Self::ImplicitMidpoint => None,
        }
    }

    /// Evaluations of the slopes that a step records.
    pub(super) fn stages(self) -> usize {
        self.table().map_or(1, |table| table.c.len())
    }
}

/// Solves M X = R by Gauss–Jordan elimination with row pivots. M (n × n) and R (n × k) are row-major; X replaces R, and
/// M is used up. A singular M gives values that are not finite.
pub(super) fn solve(matrix: &mut [f64], right: &mut [f64], n: usize) {
    let k = right.len() / n.max(1);
    for column in 0..n {
        let size = |row: usize| matrix[row * n + column].abs();
        let pivot = (column..n).fold(column, |best, row| if size(row) > size(best) { row } else { best });
        for j in 0..n {
            matrix.swap(column * n + j, pivot * n + j);
        }
        for j in 0..k {
            right.swap(column * k + j, pivot * k + j);
        }
        let scale = 1.0 / matrix[column * n + column];
        matrix[column * n..][..n].iter_mut().for_each(|entry| *entry *= scale);
        right[column * k..][..k].iter_mut().for_each(|entry| *entry *= scale);
        for row in (0..n).filter(|&row| row != column) {
            let factor = matrix[row * n + column];
            for j in 0..n {
                matrix[row * n + j] -= factor * matrix[column * n + j];
            }
            for j in 0..k {
                right[row * k + j] -= factor * right[column * k + j];
            }
        }
    }
}
