//! Difference quotients, each with a bound on its own error.
//!
//! Along a direction v, the central quotient (y(z + tv) − y(z − tv))/2t is off by O(t²), and by the round-off of y over
//! t. The best t depends on the function and is not known, so t falls from 1/32 by factors of 8. Neville's scheme
//! extrapolates the quotients to t = 0. Of its entries the one that agrees best with its neighbours is taken, and the
//! disagreement bounds its error (C. J. F. Ridders, Adv. Eng. Software 4(2), 1982).
//!
//! Where y has a kink, the one-sided quotients (y(z + tv) − y(z))/t and (y(z) − y(z − tv))/t stay a constant apart,
//! where those of a smooth y approach each other as fast as t falls.

use super::TOLERANCE;

/// The first t: what moves by a thirty-second of its size.
const FIRST: f64 = 1.0 / 32.0;
/// From one t to the next; a power of two, so that t is exact.
const RATIO: f64 = 8.0;
/// So many t at least: three show a kink.
const FEWEST: usize = 3;
/// So many at most: the last t is 1.5e-8, where round-off is as large as what is left of y.
const MOST: usize = 8;
/// Round-off of y relative to y: some tens of operations that do not cancel.
const ROUND_OFF: f64 = 16.0 * f64::EPSILON;

/// The derivative of one outcome along one direction, by differences.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Quotient {
    /// The derivative; NaN where y is nowhere finite.
    pub(super) value: f64,
    /// What the value may be off.
    pub(super) resolution: f64,
    /// The one-sided quotients at the smallest t.
    pub(super) sides: [f64; 2],
    /// Whether these stay apart.
    pub(super) kink: bool,
    /// |y|.
    pub(super) size: f64,
}

impl Quotient {
    /// A derivative that is known.
    pub(super) fn known(value: f64) -> Self {
        Self { value, size: value.abs(), ..Self::default() }
    }

    /// That of Σ factor·y.
    pub(super) fn sum(parts: impl Iterator<Item = (f64, Self)>) -> Self {
        parts.fold(Self::default(), |sum, (factor, part)| Self {
            value: sum.value + factor * part.value,
            resolution: sum.resolution + factor.abs() * part.resolution,
            sides: [0, 1].map(|side| sum.sides[side] + factor * part.sides[side]),
            kink: sum.kink || part.kink,
            size: sum.size + factor.abs() * part.size,
        })
    }

    /// Whether this is a kink and a derivative lies between its sides, give or take a hundredth of their distance.
    pub(super) fn allows(&self, derivative: f64) -> bool {
        let [low, high] = [self.sides[0].min(self.sides[1]), self.sides[0].max(self.sides[1])];
        let margin = 0.01 * (high - low);
        self.kink && (low - margin..=high + margin).contains(&derivative)
    }
}

/// The quotients of all outcomes along one direction, for y(z) and the function from t to y(z + tv). A t at which the
/// function fails is left out.
///
/// # Errors
/// When the function fails at every t.
pub(super) fn along<E>(
    at_rest: &[f64],
    mut y: impl FnMut(f64) -> Result<Vec<f64>, E>,
) -> Result<Vec<Quotient>, E> {
    let mut tables: Vec<Table> = at_rest.iter().map(|&y| Table::new(y)).collect();
    let (mut t, mut failure, mut answered) = (FIRST, None, false);
    for _ in 0..MOST {
        match y(t).and_then(|plus| y(-t).map(|minus| (plus, minus))) {
            Ok((plus, minus)) => {
                answered = true;
                for (table, (plus, minus)) in tables.iter_mut().zip(plus.into_iter().zip(minus)) {
                    if !table.settled() {
                        table.add(t, plus, minus);
                    }
                }
            }
            Err(error) => failure = Some(error),
        }
        if tables.iter().all(Table::settled) {
            break;
        }
        t /= RATIO;
    }
    match failure {
        Some(error) if !answered => Err(error),
        _ => Ok(tables.iter().map(Table::quotient).collect()),
    }
}

/// Neville's table for one outcome.
struct Table {
    at_rest: f64,
    /// Its last row: the central quotient, then ever higher orders.
    row: Vec<f64>,
    /// The best entry of each row but the first.
    entries: Vec<Entry>,
    /// The last two central quotients, and by how much each differs from the one before.
    recent: [[f64; 2]; 2],
    /// The last t, and the one-sided quotients there.
    last: f64,
    sides: [f64; 2],
    /// Their distances at the last three t.
    gaps: [f64; 3],
    count: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    value: f64,
    /// Bound on its error, and how much of that is round-off.
    error: f64,
    round_off: f64,
    t: f64,
}

impl Table {
    fn new(at_rest: f64) -> Self {
        Self {
            at_rest,
            row: Vec::new(),
            entries: Vec::new(),
            recent: [[0.0, f64::INFINITY]; 2],
            last: FIRST,
            sides: [0.0; 2],
            gaps: [f64::NAN; 3],
            count: 0,
        }
    }

    fn add(&mut self, t: f64, plus: f64, minus: f64) {
        let quotient = (plus - minus) / (2.0 * t);
        if !quotient.is_finite() {
            self.row.clear();
            return;
        }
        let round_off = ROUND_OFF * plus.abs().max(minus.abs()) / t;
        let mut best = Entry { value: quotient, error: f64::INFINITY, round_off, t };
        let mut row = vec![quotient];
        let mut power = 1.0;
        for (j, above) in self.row.iter().enumerate() {
            power *= RATIO * RATIO;
            let value = row[j] + (row[j] - above) / (power - 1.0);
            let error = (value - row[j]).abs().max((value - above).abs()) + round_off;
            if error < best.error {
                best = Entry { value, error, ..best };
            }
            row.push(value);
        }
        self.entries.push(best);
        let change = self.row.first().map_or(f64::INFINITY, |before| (quotient - before).abs());
        self.recent = [self.recent[1], [quotient, change]];
        (self.row, self.last) = (row, t);
        self.sides = [(plus - self.at_rest) / t, (self.at_rest - minus) / t];
        self.gaps = [self.gaps[1], self.gaps[2], (self.sides[0] - self.sides[1]).abs()];
        self.count += 1;
    }

    /// The best entry that the last two quotients do not contradict. Where t was far too large, entries may agree by
    /// chance; quotients at smaller t then differ from them by much more than from each other. Round-off makes
    /// both differences alike.
    fn best(&self) -> Option<Entry> {
        let agrees = |entry: &&Entry| {
            let by =
                |[quotient, change]: [f64; 2]| (quotient - entry.value).abs() <= 10.0 * change + entry.error;
            self.recent.into_iter().any(by)
        };
        self.entries.iter().filter(agrees).min_by(|a, b| a.error.total_cmp(&b.error)).copied()
    }

    /// Whether a smaller t would add nothing: the value is known well enough, or the rest is round-off.
    fn settled(&self) -> bool {
        let enough =
            |best: Entry| best.error <= (0.1 * TOLERANCE * best.value.abs()).max(2.0 * best.round_off);
        self.count >= FEWEST && self.best().is_some_and(enough)
    }

    fn quotient(&self) -> Quotient {
        let size = self.at_rest.abs();
        let (Some(best), Some(last)) = (self.best(), self.row.first()) else {
            return Quotient { value: f64::NAN, size, ..Quotient::default() };
        };
        // At the smallest t round-off weighs most; what it makes of the quotient there tells how large it is.
        let noise = (last - best.value).abs() * self.last / best.t;
        let smallest = 100.0 * ROUND_OFF * size / self.last;
        let constant = |pair: &[f64]| pair[1] >= 0.5 * pair[0] && pair[1] <= 2.0 * pair[0];
        Quotient {
            value: best.value,
            resolution: 2.0 * best.error + noise,
            sides: self.sides,
            kink: self.gaps[2] > smallest && self.gaps.windows(2).all(constant),
            size,
        }
    }
}
