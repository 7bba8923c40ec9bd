//! How far predictions are off, over as many rows as come, in the targets' own units.
//!
//! For each target: √(Σ e²/n) of e = y − t, and R² = 1 − Σ e²/Σ(t − t̄)² with t̄ the mean of the rows seen. For
//! classes: the part of rows whose most probable class is the right one, and the mean of −ln p of the right class.

use faer::MatRef;

use super::Fitted;
use crate::objective::probabilities;

/// Rows kept as the worst ones.
const WORST: usize = 10;

/// Sums over rows.
pub struct Errors<'a> {
    fitted: &'a Fitted,
    count: u64,
    targets: Vec<Sums>,
    right: u64,
    surprise: f64,
    worst: Vec<Worst>,
}

/// Sums of one target, standardised, so that its mean does not cancel digits.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    square: f64,
    target: f64,
    target_square: f64,
    largest: f64,
    line: u64,
}

/// How far one target is off.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct TargetError {
    /// The target's name.
    pub name: String,
    /// Root of the mean square of y − t, in the target's units.
    pub rmse: f64,
    /// R²; none where all targets are the same.
    pub r2: Option<f64>,
    /// 1 − R², the part of the variance that is not explained, with the digits that R² near 1 lacks.
    pub unexplained: Option<f64>,
    /// The largest |y − t|.
    pub largest: f64,
    /// The line that has it.
    pub line: u64,
}

/// A row that is far off.
#[derive(Debug, Clone, PartialEq)]
pub struct Worst {
    /// Its line in the file.
    pub line: u64,
    /// By which rows are compared: the sum of squares of y − t of standardised targets, or −ln p of the right class.
    pub off: f64,
    /// Predictions: targets in their own units, or probabilities.
    pub prediction: Vec<f64>,
    /// Targets in their own units, or classes.
    pub target: Vec<f64>,
}

impl<'a> Errors<'a> {
    /// Of no rows yet.
    #[must_use]
    pub fn new(fitted: &'a Fitted) -> Self {
        let targets = vec![Sums::default(); fitted.targets().len()];
        Self { fitted, count: 0, targets, right: 0, surprise: 0.0, worst: Vec::new() }
    }

    /// Takes in outcomes with their standardised targets, and the rows' lines.
    pub fn add(&mut self, outcome: MatRef<'_, f64>, target: MatRef<'_, f64>, lines: &[u64]) {
        let classify = !self.fitted.classes().is_empty();
        let p = if classify { probabilities(outcome) } else { outcome.to_owned() };
        for (s, &line) in lines.iter().enumerate().take(outcome.nrows()) {
            self.count += 1;
            let off = if classify {
                self.add_class(p.as_ref(), target, s)
            } else {
                self.add_numbers(outcome, target, s, line)
            };
            self.keep(line, off, p.as_ref(), target, s);
        }
    }

    fn add_class(&mut self, p: MatRef<'_, f64>, target: MatRef<'_, f64>, s: usize) -> f64 {
        let likeliest = |of: MatRef<'_, f64>| {
            (0..of.ncols()).fold(0, |best, c| if of[(s, c)] > of[(s, best)] { c } else { best })
        };
        self.right += u64::from(likeliest(p) == likeliest(target));
        let surprise = |c: usize| {
            // 0 ln 0 is 0.
            if target[(s, c)] > 0.0 { -target[(s, c)] * p[(s, c)].ln() } else { 0.0 }
        };
        let surprise = (0..p.ncols()).map(surprise).sum();
        self.surprise += surprise;
        surprise
    }

    fn add_numbers(&mut self, y: MatRef<'_, f64>, target: MatRef<'_, f64>, s: usize, line: u64) -> f64 {
        let mut all = 0.0;
        for (c, sums) in self.targets.iter_mut().enumerate() {
            let (t, off) = (target[(s, c)], y[(s, c)] - target[(s, c)]);
            sums.square += off * off;
            sums.target += t;
            sums.target_square += t * t;
            // The first row is the largest so far, however small, and one that is NaN stays it.
            if off.abs() > sums.largest || off.is_nan() || sums.line == 0 {
                (sums.largest, sums.line) = (off.abs(), line);
            }
            all += off * off;
        }
        all
    }

    /// Keeps a row that is among the worst so far.
    fn keep(&mut self, line: u64, off: f64, y: MatRef<'_, f64>, target: MatRef<'_, f64>, s: usize) {
        let place = self.worst.iter().position(|worst| off > worst.off).unwrap_or(self.worst.len());
        if place == WORST {
            return;
        }
        let own = |of: MatRef<'_, f64>| {
            let mut values: Vec<f64> = (0..of.ncols()).map(|c| of[(s, c)]).collect();
            if self.fitted.classes().is_empty() {
                for (value, column) in values.iter_mut().zip(self.fitted.targets()) {
                    column.restore(std::slice::from_mut(value));
                }
            }
            values
        };
        self.worst.insert(place, Worst { line, off, prediction: own(y), target: own(target) });
        self.worst.truncate(WORST);
    }

    /// Rows taken in.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Each target's error; none where they are classes.
    #[must_use]
    pub fn targets(&self) -> Vec<TargetError> {
        if !self.fitted.classes().is_empty() || self.count == 0 {
            return Vec::new();
        }
        let count = self.count as f64;
        let of = |(sums, column): (&Sums, &super::Column)| {
            let spread = sums.target_square - sums.target * sums.target / count;
            let unexplained = (spread > f64::EPSILON * sums.target_square).then(|| sums.square / spread);
            TargetError {
                name: column.name.clone(),
                rmse: (sums.square / count).sqrt() * column.deviation,
                r2: unexplained.map(|part| 1.0 - part),
                unexplained,
                largest: sums.largest * column.deviation,
                line: sums.line,
            }
        };
        self.targets.iter().zip(self.fitted.targets()).map(of).collect()
    }

    /// Part of the rows whose most probable class is the right one; none where the targets are numbers.
    #[must_use]
    pub fn accuracy(&self) -> Option<f64> {
        let known = !self.fitted.classes().is_empty() && self.count > 0;
        known.then(|| self.right as f64 / self.count as f64)
    }

    /// Mean of −ln p of the right class.
    #[must_use]
    pub fn cross_entropy(&self) -> f64 {
        self.surprise / self.count as f64
    }

    /// The worst rows, ten at most, the worst first.
    #[must_use]
    pub fn worst(&self) -> &[Worst] {
        &self.worst
    }
}
