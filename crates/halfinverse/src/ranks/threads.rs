//! Ranks that are threads of one process: the reference that other kinds are measured by.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Lost, Ranks, Team};

/// One of several threads.
#[derive(Debug, Clone)]
pub struct ThreadRanks {
    rank: usize,
    deadline: Duration,
    table: Arc<Table>,
}

/// Where threads lay down what they have.
#[derive(Debug)]
struct Table {
    round: Mutex<Round>,
    changed: Condvar,
}

#[derive(Debug)]
struct Round {
    given: Vec<Vec<f64>>,
    arrived: usize,
    /// Threads that have not yet taken what this round has brought.
    taking: usize,
    /// Rounds so far.
    number: u64,
}

impl ThreadRanks {
    /// So many; one that waits for longer than the deadline gives up.
    #[must_use]
    pub fn new(size: usize, deadline: Duration) -> Vec<Self> {
        let round = Round { given: vec![Vec::new(); size], arrived: 0, taking: 0, number: 0 };
        let table = Arc::new(Table { round: Mutex::new(round), changed: Condvar::new() });
        (0..size).map(|rank| Self { rank, deadline, table: table.clone() }).collect()
    }

    /// Waits until the round is such.
    fn wait<'a>(
        &self,
        mut round: MutexGuard<'a, Round>,
        until: impl Fn(&Round) -> bool,
    ) -> Result<MutexGuard<'a, Round>, Lost> {
        let end = Instant::now() + self.deadline;
        while !until(&round) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Lost::Silent { seconds: self.deadline.as_secs() });
            }
            round = self.table.changed.wait_timeout(round, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(round)
    }

    /// Lays down `own`; `take` sees what all have, in their order.
    fn meet(&self, own: &[f64], take: impl FnOnce(&[Vec<f64>])) -> Result<(), Lost> {
        let round = self.table.round.lock().unwrap_or_else(PoisonError::into_inner);
        let mut round = self.wait(round, |round| round.taking == 0)?;
        let (number, size) = (round.number, round.given.len());
        round.given[self.rank].clear();
        round.given[self.rank].extend_from_slice(own);
        round.arrived += 1;
        if round.arrived == size {
            (round.number, round.arrived, round.taking) = (number + 1, 0, size);
            self.table.changed.notify_all();
        }
        let mut round = self.wait(round, |round| round.number > number)?;
        let alike = round.given.iter().all(|given| given.len() == own.len());
        if alike {
            take(&round.given);
        }
        round.taking -= 1;
        if round.taking == 0 {
            self.table.changed.notify_all();
        }
        if alike { Ok(()) } else { Err(Lost::Apart { what: "vectors differ in length".to_owned() }) }
    }
}

impl Ranks for ThreadRanks {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.table.round.lock().unwrap_or_else(PoisonError::into_inner).given.len()
    }

    fn gather(&self, own: &[f64], all: &mut [f64]) -> Result<(), Lost> {
        self.meet(own, |given| {
            all.chunks_exact_mut(own.len().max(1)).zip(given).for_each(|(all, own)| all.copy_from_slice(own));
        })
    }

    fn exchange(&self, own: &[f64], all: &mut [f64]) -> Result<(), Lost> {
        self.meet(own, |given| {
            let part = own.len() / given.len();
            let parts = given.iter().map(|own| &own[self.rank * part..][..part]);
            all.chunks_exact_mut(part.max(1)).zip(parts).for_each(|(all, part)| all.copy_from_slice(part));
        })
    }
}

/// Does `work` on so many ranks that are threads, and returns what each came to. One that panics leaves the others to
/// their deadline.
///
/// # Panics
/// Where one of them has.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use halfinverse::ranks::together;
/// let sums = together(3, Duration::from_secs(5), |team| {
///     let mut numbers = [team.rank() as f64, 1.0];
///     team.sum(&mut numbers)?;
///     Ok::<_, halfinverse::ranks::Lost>(numbers)
/// });
/// assert!(sums.iter().all(|sum| *sum == Ok([3.0, 3.0])));
/// ```
pub fn together<R: Send>(size: usize, deadline: Duration, work: impl Fn(Team) -> R + Sync) -> Vec<R> {
    std::thread::scope(|scope| {
        let start = |ranks: ThreadRanks| scope.spawn(|| work(Team::new(ranks)));
        let threads: Vec<_> = ThreadRanks::new(size, deadline).into_iter().map(start).collect();
        threads.into_iter().map(|thread| thread.join().expect("a rank panicked")).collect()
    })
}
