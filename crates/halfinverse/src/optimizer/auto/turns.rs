//! How a turn ends, and whose is next.

use super::memory::{Middle, Record};
use super::{Auto, FEW, LEAST_PATIENCE, MOST_PATIENCE, Memory, SLOWEST};
use crate::linear::vectors::norm;
use crate::optimizer::Way;

// Found by trial on the five tasks (docs/auto.md has the experiments).

/// Steps of a turn at least, and of a challenge by [`Kron`].
const STEPS: u32 = 4;
const KRON_STEPS: u32 = 32;
/// Steps of the way that leads next that the opening may cost together.
pub(super) const OPENING: f64 = 64.0;
/// A turn's part of what was spent so far.
const PART: f64 = 0.05;
/// What a challenge may cost, of what was spent so far; and as long as the held-out loss has not come down to this part
/// of what it was at the start.
const AFFORDABLE: f64 = 1.0 / 3.0;
const IN_NEED: f64 = 1.0;
const POOR: f64 = 0.5;
/// What the leader's turns count for, one turn later.
const FADE: f64 = 0.5;
/// A turn that ends so many times above the best held-out loss is taken back.
const WORSE: f64 = 4.0;
/// So are this many of the leader's turns in a row that end this many times above it.
const CREPT_TURNS: u32 = 3;
const CREPT: f64 = 1.1;
/// What the rate of a way with momentum is multiplied by after a turn of its own that ended at the lowest held-out loss so
/// far, and one that did not.
pub(super) const FASTER: f64 = 1.05;
pub(super) const SLOWER: f64 = 0.7;
/// θ is judged within a turn once the turn has spent this many times what judging costs.
const LOOK: f64 = 20.0;

impl Auto {
    /// Makes θ what a turn has come to, where that is better than all before; returns how far θ moved.
    fn adopt(&mut self, theta: &mut [f64], at: &[f64], loss: f64) -> f64 {
        if self.memory.best.is_some_and(|best| loss >= best) {
            return 0.0;
        }
        let moved: Vec<f64> = at.iter().zip(&*theta).map(|(at, theta)| at - theta).collect();
        theta.copy_from_slice(at);
        self.memory.best = Some(loss);
        norm(&moved)
    }

    /// Judges the turn, keeps what is better than all before, and says whose turn is next. Returns how far θ moved.
    pub(super) fn end_turn(&mut self, theta: &mut [f64], failed: bool) -> f64 {
        let at = std::mem::take(&mut self.memory.turn.at);
        let end = if failed { f64::INFINITY } else { self.judge.loss(&at) };
        let best = self.memory.best.unwrap_or(f64::INFINITY);
        let moved = self.adopt(theta, &at, end);
        let memory = &mut self.memory;
        memory.spent += memory.turn.spent;
        // Kron's own level gives way slowly, and a leader may creep up with it.
        let leads = memory.turn.way == memory.leader;
        memory.crept = if leads && end > CREPT * best { memory.crept + 1 } else { 0 };
        let worse = end > WORSE * best || memory.crept >= CREPT_TURNS;
        if worse {
            memory.crept = 0;
        }
        if leads && memory.turn.way == Way::Kron {
            let factor = if moved > 0.0 { FASTER } else { SLOWER };
            memory.rate = (factor * memory.rate).clamp(SLOWEST, 1.0);
        }
        if let Some(opening) = &mut self.opening {
            opening.learn(moved > 0.0);
        }
        // The next turn's θ, and its held-out loss where that is known.
        let (next, loss) = if worse { (theta.to_vec(), memory.best) } else { (at, Some(end)) };
        memory.turn.at = next;
        let loss =
            if leads { self.end_own_turn(end, worse, loss) } else { self.end_challenge(theta, end, loss) };
        let loss = self.next_way(theta, loss);
        self.begin_turn(loss);
        moved
    }

    /// After a turn of the leader's.
    fn end_own_turn(&mut self, end: f64, worse: bool, loss: Option<f64>) -> Option<f64> {
        if worse {
            self.begin_anew();
        }
        let Memory { record, turn, .. } = &mut self.memory;
        record.turns += 1;
        record.cost = FADE * record.cost + turn.spent;
        record.fall = FADE * record.fall + (turn.start / end).ln();
        loss
    }

    /// Ways that have momentum forget it.
    pub(super) fn begin_anew(&mut self) {
        if let Some(kron) = &mut self.kron {
            kron.begin_anew();
        }
        if let Some(opening) = &mut self.opening {
            opening.begin_anew();
        }
    }

    /// After a challenge: who leads, and from where.
    fn end_challenge(&mut self, theta: &[f64], end: f64, loss: Option<f64>) -> Option<f64> {
        let Memory { leader, turn, record, patience, aside, best, .. } = &mut self.memory;
        let fall = (turn.start / end).ln();
        let Record { cost, fall: led, .. } = std::mem::take(record);
        // What a challenger needs to get going is not held against it.
        let middle = turn.middle.unwrap_or(Middle { loss: turn.start, spent: 0.0 });
        let rate = (middle.loss.min(turn.start) / end).ln() / (turn.spent - middle.spent);
        if end < f64::INFINITY && fall > 0.0 && rate * cost > led {
            *leader = turn.way;
            *patience = LEAST_PATIENCE;
            return loss;
        }
        *patience = (*patience * 3 / 2).clamp(LEAST_PATIENCE, MOST_PATIENCE);
        turn.at = std::mem::take(aside);
        // The family has no momentum to lose, and may as well go on from what its challenger found.
        if *leader == Way::Krylov {
            turn.at.copy_from_slice(theta);
            return *best;
        }
        None
    }

    /// Whose turn is next: the leader's, or another one's from the best θ so far.
    fn next_way(&mut self, theta: &[f64], loss: Option<f64>) -> Option<f64> {
        let Some(other) = self.other() else { return loss };
        if self.opening.is_some() && self.memory.spent >= OPENING * self.passes(other, self.batch) {
            self.opening = None;
            self.lead(other, MOST_PATIENCE);
            self.memory.turn.at.copy_from_slice(theta);
            return self.memory.best;
        }
        if self.memory.is_out(self.memory.leader) && !self.memory.is_out(other) {
            self.opening = None;
            self.lead(other, MOST_PATIENCE);
        }
        let affordable = self.is_affordable(other);
        let Memory { turn, record, patience, leader, aside, best, .. } = &mut self.memory;
        turn.way = *leader;
        if self.opening.is_some() || record.turns < *patience || !affordable {
            return loss;
        }
        *aside = std::mem::replace(&mut turn.at, theta.to_vec());
        turn.way = other;
        if let (Way::Kron, Some(kron)) = (other, &mut self.kron) {
            kron.begin_anew();
        }
        *best
    }

    /// Makes a way the leader for so many turns at least.
    fn lead(&mut self, way: Way, patience: u32) {
        let Memory { leader, turn, patience: own, record, .. } = &mut self.memory;
        (*leader, turn.way, *own, *record) = (way, way, patience, Record::default());
    }

    /// Whether a challenge by this way costs no more, at least, than it may.
    fn is_affordable(&self, way: Way) -> bool {
        let Memory { best, first, spent, .. } = &self.memory;
        let steps = match way {
            Way::Kron => KRON_STEPS,
            _ if self.supply.wanted() < FEW => STEPS,
            _ => return true,
        };
        let cost = if self.counted { 1.0 } else { self.passes(way, self.batch) };
        let poor = *best > first.map(|first| POOR * first);
        f64::from(steps) * cost <= if poor { IN_NEED } else { AFFORDABLE } * spent
    }

    /// From `turn.at`, with its held-out loss where that is known.
    pub(super) fn begin_turn(&mut self, loss: Option<f64>) {
        let Memory { turn, leader, spent, .. } = &mut self.memory;
        turn.start = loss.unwrap_or_else(|| self.judge.loss(&turn.at));
        turn.length = PART * *spent;
        // A challenge at the very start is as long as what it challenges.
        if turn.way != *leader {
            turn.length = turn.length.max(turn.spent);
        }
        (turn.steps, turn.spent, turn.middle) = (0, 0.0, None);
    }

    /// Ends the turn where it is due, or looks at a challenge half-way. Returns how far θ moved.
    pub(super) fn after_step(&mut self, theta: &mut [f64], failed: bool) -> f64 {
        let Memory { turn, leader, .. } = &self.memory;
        let challenge = turn.way != *leader;
        // Momentum needs its time before it can be judged.
        let least = if turn.way == Way::Kron && challenge { KRON_STEPS } else { STEPS };
        let done =
            |part: f64| f64::from(turn.steps) >= part * f64::from(least) && turn.spent >= part * turn.length;
        if failed || done(1.0) {
            return self.end_turn(theta, failed);
        }
        let half_way = challenge && turn.middle.is_none() && done(0.5);
        if !half_way && self.memory.unjudged < LOOK * self.judge.samples.len() as f64 {
            return 0.0;
        }
        let spent = turn.spent;
        let at = std::mem::take(&mut self.memory.turn.at);
        let loss = self.judge.loss(&at);
        let moved = self.adopt(theta, &at, loss);
        if half_way {
            self.memory.turn.middle = Some(Middle { loss, spent });
        }
        self.memory.turn.at = at;
        self.memory.unjudged = 0.0;
        moved
    }
}
