//! The choice among the three evaluations, and what happens when one cannot do it.

use std::fmt;
use std::str::FromStr;

use faer::Par;
use serde::{Deserialize, Serialize};

use super::decompose::SymmetricEigen;
use super::{Fallback, Filter, KrylovSpace, Report, decompose, gram, svd};
use crate::error::nearest;
use crate::linear::vectors::{COMFORTABLE, norm_over, power_of_two, power_of_two_below};
use crate::linear::{Jacobian, ProductError};

/// How an update is evaluated. Written `svd`, `gram`, `krylov:K` or `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Solver {
    /// Thin SVD of J.
    Svd,
    /// Eigenvalues of the smaller Gram matrix, or the SVD where that is not exact enough.
    Gram,
    /// Krylov space of so many vectors.
    Krylov {
        /// Its dimension k, at least 1.
        vectors: usize,
    },
    /// One of the others, by n, P and τ; see [`Solver::resolve`].
    Auto,
}

/// Largest min(n, P) for which `auto` takes an exact evaluation: its O(min³) is then seconds at most.
const EXACT_UP_TO: usize = 1024;
/// Smallest τ that a Gram matrix resolves: √ε.
const GRAM_RESOLVES: f64 = 1e-8;
/// Krylov vectors that `auto` takes.
const AUTO_VECTORS: usize = 32;

impl Solver {
    /// How a solver is written.
    pub const SYNTAX: &'static str = "svd, gram, auto, or krylov:K with K at least 1";

    /// What `auto` stands for: krylov:32 if min(n, P) > 1024, else svd if τ < 1e-8, else gram. The others are
    /// themselves.
    #[must_use]
    pub fn resolve(self, rows: usize, columns: usize, filter: &Filter) -> Self {
        match self {
            Self::Auto if rows.min(columns) > EXACT_UP_TO => Self::Krylov { vectors: AUTO_VECTORS },
            Self::Auto if filter.truncation() < GRAM_RESOLVES => Self::Svd,
            Self::Auto => Self::Gram,
            solver => solver,
        }
    }
}

impl fmt::Display for Solver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Svd => f.write_str("svd"),
            Self::Gram => f.write_str("gram"),
            Self::Krylov { vectors } => write!(f, "krylov:{vectors}"),
            Self::Auto => f.write_str("auto"),
        }
    }
}

impl From<Solver> for String {
    fn from(solver: Solver) -> Self {
        solver.to_string()
    }
}

impl TryFrom<String> for Solver {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl schemars::JsonSchema for Solver {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Solver".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^(svd|gram|auto|krylov:[1-9][0-9]*)$",
            "description": Self::SYNTAX,
        })
    }
}

impl FromStr for Solver {
    /// What would have been a solver.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "svd" => Ok(Self::Svd),
            "gram" => Ok(Self::Gram),
            "auto" => Ok(Self::Auto),
            _ => text
                .strip_prefix("krylov:")
                .and_then(|vectors| vectors.parse().ok())
                .filter(|&vectors| vectors > 0)
                .map(|vectors| Self::Krylov { vectors })
                .ok_or_else(|| {
                    let (word, vectors) = text.split_once(':').unwrap_or((text, "16"));
                    let near = nearest(word, ["svd", "gram", "krylov", "auto"]).filter(|_| word != "krylov");
                    let near = near.map_or_else(String::new, |near| {
                        format!("; {}", near.replace("krylov", &format!("krylov:{vectors}")))
                    });
                    format!("{}{near}", Self::SYNTAX)
                }),
        }
    }
}

/// How [`update`] goes about it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// The evaluation.
    pub solver: Solver,
    /// Relative error bound of the update above which `gram` gives way to `svd`.
    pub gram_tolerance: f64,
    /// Threads of the dense linear algebra.
    pub par: Par,
}

impl Default for Options {
    fn default() -> Self {
        Self { solver: Solver::Auto, gram_tolerance: 1e-2, par: Par::Seq }
    }
}

/// Why there is no update.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SpectralError {
    /// J has no row or no column.
    #[error("the Jacobian is empty: {rows} x {columns}")]
    Empty {
        /// n.
        rows: usize,
        /// P.
        columns: usize,
    },
    /// A vector does not fit J.
    #[error("{what} has {found} entries, expected {expected}")]
    Length {
        /// Which one.
        what: &'static str,
        /// The length J asks for.
        expected: usize,
        /// The length it has.
        found: usize,
    },
    /// NaN or infinity on the way in, or in a product with J.
    #[error("entry {index} of {what} is {value}")]
    NotFinite {
        /// g, J or one of their products.
        what: &'static str,
        /// Position, row after row.
        index: usize,
        /// The value.
        value: f64,
    },
    /// A product with J failed.
    #[error(transparent)]
    Product(#[from] ProductError),
    /// No decomposition converged.
    #[error("no decomposition converged; tried {}", list(tried))]
    NoConvergence {
        /// In the order of the attempts.
        tried: Vec<Solver>,
    },
}

fn list(solvers: &[Solver]) -> String {
    solvers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl SpectralError {
    pub(crate) fn check_finite<'a>(
        what: &'static str,
        values: impl IntoIterator<Item = &'a f64>,
    ) -> Result<(), Self> {
        match values.into_iter().enumerate().find(|(_, value)| !value.is_finite()) {
            None => Ok(()),
            Some((index, &value)) => Err(Self::NotFinite { what, index, value }),
        }
    }
}

/// The three evaluations with their scratch space, which is kept from step to step.
#[derive(Debug, Clone, Default)]
pub struct Spectral {
    options: Options,
    space: KrylovSpace,
    eigen: SymmetricEigen,
    gradient_norm: Option<f64>,
}

impl Spectral {
    /// Updates by these options.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { options, ..Self::default() }
    }

    /// The options.
    #[must_use]
    pub fn options(&self) -> Options {
        self.options
    }

    /// As the function [`update`].
    ///
    /// # Errors
    /// As there.
    pub fn update(
        &mut self,
        jacobian: &mut dyn Jacobian,
        g: &[f64],
        filter: &Filter,
        out: &mut [f64],
    ) -> Result<Report, SpectralError> {
        let (own, columns) = jacobian.shape();
        let (_, rows) = jacobian.place();
        if rows == 0 || columns == 0 {
            return Err(SpectralError::Empty { rows, columns });
        }
        for (what, expected, found) in [("g", own, g.len()), ("the update", columns, out.len())] {
            if expected != found {
                return Err(SpectralError::Length { what, expected, found });
            }
        }
        // The update is linear in g, so that g of any size can be brought to one whose products with J are in range.
        let scale = size(jacobian, g)?;
        self.gradient_norm = None;
        if COMFORTABLE.contains(&scale) {
            return self.evaluate(jacobian, g, filter, out);
        }
        let scaled: Vec<f64> = g.iter().map(|g| g / scale).collect();
        let report = self.evaluate(jacobian, &scaled, filter, out)?;
        self.gradient_norm = self.gradient_norm.map(|norm| norm * scale);
        for out in &mut *out {
            *out *= scale;
        }
        SpectralError::check_finite("the update", &*out)?;
        Ok(report)
    }

    /// |Jᵀg| of the last update, where its evaluation knows it.
    pub(crate) fn gradient_norm(&self) -> Option<f64> {
        self.gradient_norm
    }

    /// The update by the first evaluation that can do it.
    fn evaluate(
        &mut self,
        jacobian: &mut dyn Jacobian,
        g: &[f64],
        filter: &Filter,
        out: &mut [f64],
    ) -> Result<Report, SpectralError> {
        let ((_, columns), (_, rows)) = (jacobian.shape(), jacobian.place());
        let mut fallbacks = Vec::new();
        let mut solver = self.options.solver.resolve(rows, columns, filter);
        loop {
            let attempt = match solver {
                Solver::Gram => {
                    let Options { gram_tolerance, par, .. } = self.options;
                    gram::update(jacobian, g, filter, gram_tolerance, &mut self.eigen, par, out)?
                }
                Solver::Svd => svd::update(jacobian, g, filter, self.options.par, out)?
                    .ok_or(Fallback::NoConvergence { solver }),
                Solver::Krylov { vectors } => {
                    self.space.build(jacobian, g, vectors, self.options.par)?;
                    match self.space.update(jacobian, filter, out) {
                        Err(SpectralError::NoConvergence { .. }) => Err(Fallback::NoConvergence { solver }),
                        report => {
                            self.gradient_norm = Some(self.space.gradient_norm());
                            Ok(report?)
                        }
                    }
                }
                Solver::Auto => unreachable!("resolved above"),
            };
            match attempt {
                Ok(report) => {
                    SpectralError::check_finite("the update", &*out)?;
                    return Ok(Report { fallbacks, ..report });
                }
                Err(fallback) => fallbacks.push(fallback),
            }
            solver = next(solver, rows.min(columns), &fallbacks)?;
        }
    }
}

/// Writes Δ = V φ(Σ) Uᵀ g to `out` (P entries; to be subtracted, times η) for g (n entries).
///
/// Units do not matter: J times s and g times t give the update times φ(s)·t, for all sizes at which that can be
/// represented; where it cannot, the update is refused as not finite.
///
/// J = 0, g = 0 and a cut above every singular value give Δ = 0 with rank 0 or the rank they have. `gram` goes on to
/// `svd` when its error bound passes the tolerance or it does not converge; `svd` goes on to the Krylov space of
/// full dimension when it does not converge. The report lists what was left behind.
///
/// # Errors
/// When J is empty, g or `out` does not fit it, g, J or the update is not finite, or nothing converges.
///
/// # Example
/// ```
/// use halfinverse::linear::DenseJacobian;
/// use halfinverse::spectral::{Filter, Options, update};
/// let mut j = DenseJacobian::new(faer::mat![[4.0, 0.0], [0.0, 0.25]]);
/// let mut delta = [0.0; 2];
/// let report = update(&mut j, &[1.0, 1.0], &Filter::power(0.5, 1e-6)?, &Options::default(), &mut delta)?;
/// assert!((delta[0] - 0.5).abs() < 1e-12 && (delta[1] - 2.0).abs() < 1e-12);
/// assert_eq!(report.rank, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn update(
    jacobian: &mut dyn Jacobian,
    g: &[f64],
    filter: &Filter,
    options: &Options,
    out: &mut [f64],
) -> Result<Report, SpectralError> {
    Spectral::new(*options).update(jacobian, g, filter, out)
}

/// The power of 2 at or below the largest |gᵢ|, or, where rows are spread over ranks, at or below |g|.
fn size(jacobian: &dyn Jacobian, g: &[f64]) -> Result<f64, SpectralError> {
    if !jacobian.spread() {
        SpectralError::check_finite("g", g)?;
        return Ok(power_of_two(g));
    }
    let length = norm_over(g, &|partial| jacobian.sum(partial));
    if length.is_finite() {
        return Ok(power_of_two_below(length));
    }
    SpectralError::check_finite("g", g)?;
    Err(SpectralError::NotFinite { what: "g", index: 0, value: length })
}

/// The strategy after `failed`: gram → svd → the full Krylov space; a Krylov space → svd.
fn next(failed: Solver, size: usize, fallbacks: &[Fallback]) -> Result<Solver, SpectralError> {
    let tried = |wanted: Solver| fallbacks.contains(&Fallback::NoConvergence { solver: wanted });
    match failed {
        Solver::Svd if fallbacks.len() < 3 => Ok(Solver::Krylov { vectors: size }),
        _ if !tried(Solver::Svd) => Ok(Solver::Svd),
        _ => Err(SpectralError::NoConvergence {
            tried: fallbacks
                .iter()
                .map(|fallback| match *fallback {
                    Fallback::NoConvergence { solver } => solver,
                    Fallback::GramInexact { .. } | Fallback::GramOutOfRange { .. } => Solver::Gram,
                })
                .collect(),
        }),
    }
}

/// All min(n, P) singular values of J, descending, by SVD.
///
/// # Errors
/// When J is empty or not finite, or the SVD does not converge.
pub fn singular_values(jacobian: &mut dyn Jacobian, par: Par) -> Result<Vec<f64>, SpectralError> {
    let (rows, columns) = jacobian.shape();
    if rows == 0 || columns == 0 {
        return Err(SpectralError::Empty { rows, columns });
    }
    let transpose = jacobian.dense_transpose()?;
    SpectralError::check_finite("J", (0..rows).flat_map(|r| transpose.col_as_slice(r)))?;
    decompose::singular_values(transpose.as_ref(), par)
        .map_err(|_| SpectralError::NoConvergence { tried: vec![Solver::Svd] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_evaluation_that_fails_has_a_next_one_until_none_is_left() {
        let gram = Fallback::NoConvergence { solver: Solver::Gram };
        let svd = Fallback::NoConvergence { solver: Solver::Svd };
        let full = Solver::Krylov { vectors: 7 };
        let krylov = Fallback::NoConvergence { solver: full };
        assert_eq!(next(Solver::Gram, 7, std::slice::from_ref(&gram)), Ok(Solver::Svd));
        assert_eq!(next(Solver::Svd, 7, &[gram.clone(), svd.clone()]), Ok(full));
        assert_eq!(next(full, 7, std::slice::from_ref(&krylov)), Ok(Solver::Svd));
        assert_eq!(
            next(full, 7, &[gram, svd, krylov]),
            Err(SpectralError::NoConvergence { tried: vec![Solver::Gram, Solver::Svd, full] })
        );
    }

    #[test]
    fn solvers_are_written_as_they_are_read() {
        for text in ["svd", "gram", "krylov:16", "auto"] {
            assert_eq!(text.parse::<Solver>().unwrap().to_string(), text);
        }
        for text in ["", "SVD", "krylov", "krylov:0", "krylov:-3", "krylov:x"] {
            assert!(text.parse::<Solver>().is_err(), "{text} was accepted");
        }
    }
}
