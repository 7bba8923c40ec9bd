//! What ranks do together: sums, agreements, choices. Made of the two collectives of [`Ranks`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::told::{self, Told};
use super::{Alone, Lost, Ranks};
use crate::fault::StepError;

/// A rank among its others. Clones are the same rank.
#[derive(Clone)]
pub struct Team {
    ranks: Arc<dyn Ranks>,
    state: Arc<Mutex<State>>,
}

/// What ranks have sent each other so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Sums: all-reduces, in the words of MPI.
    pub sums: u64,
    /// Of these, those of more numbers than fit into a frame.
    pub long_sums: u64,
    /// Frames, one for each collective of whatever kind.
    pub frames: u64,
    /// Bytes that this rank has received.
    pub bytes: u64,
}

#[derive(Default)]
struct State {
    lost: Option<Lost>,
    traffic: Traffic,
    /// The frames of all ranks.
    frames: Vec<f64>,
    own: Vec<f64>,
    all: Vec<f64>,
}

/// What a rank is about to do: the first number of its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Leave = 0,
    Sum = 1,
    Agree = 2,
    Lead = 3,
    Share = 4,
}

/// Numbers in a frame: what is to be done, with how many numbers, and those that fit. 256 bytes take no longer than 8.
const FRAME: usize = 32;
const HEAD: usize = 2;
/// Numbers that fit into a frame.
const FIT: usize = FRAME - HEAD;
/// A message of so many numbers takes about twice as long as an empty one, in the memory of a machine as between machines: 8 KiB
/// in 1 µs.
const SHORT: usize = 1024;
/// Numbers for each rank that are sent at once: messages of 512 KiB, long enough for latency not to count, and what is received
/// stays in the cache until it is added up.
pub(crate) const PIECE: usize = 1 << 16;

impl Team {
    /// Of these ranks.
    pub fn new(ranks: impl Ranks + 'static) -> Self {
        Self { ranks: Arc::new(ranks), state: Arc::default() }
    }

    /// One rank.
    #[must_use]
    pub fn alone() -> Self {
        Self::new(Alone)
    }

    /// Which rank this is, from 0.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.ranks.rank()
    }

    /// How many ranks there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.ranks.size()
    }

    /// Whether this is the rank that decides by the clock, writes and speaks.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.rank() == 0
    }

    /// What has been sent so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.state().traffic
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds numbers up over ranks, in the order of the ranks. One frame where they fit into it; else one collective more on two
    /// ranks, or where they are few, and two more otherwise.
    ///
    /// # Errors
    /// When a rank is lost.
    pub fn sum(&self, values: &mut [f64]) -> Result<(), Lost> {
        if self.size() == 1 || values.is_empty() {
            return Ok(());
        }
        let mut state = self.state();
        let payload: &[f64] = if values.len() <= FIT { values } else { &[] };
        self.meet(&mut state, Act::Sum, values.len(), payload)?;
        state.traffic.sums += 1;
        if values.len() <= FIT {
            add_frames(&state.frames, values);
            return Ok(());
        }
        state.traffic.long_sums += 1;
        let size = self.size();
        let done = values.chunks_mut(size * PIECE).try_for_each(|piece| {
            let whole = size == 2 || piece.len() <= SHORT;
            if whole { self.sum_whole(&mut state, piece) } else { self.sum_parts(&mut state, piece) }
        });
        keep(&mut state, done)
    }

    /// Each rank adds up what all have: R − 1 times as much is sent as there is, which on two ranks is the least.
    fn sum_whole(&self, state: &mut State, values: &mut [f64]) -> Result<(), Lost> {
        let (size, length) = (self.size(), values.len());
        let State { all, traffic, .. } = state;
        all.resize(size * length, 0.0);
        self.ranks.gather(values, all)?;
        let (first, others) = all.split_at(length);
        values.copy_from_slice(first);
        for other in others.chunks_exact(length) {
            values.iter_mut().zip(other).for_each(|(sum, other)| *sum += other);
        }
        traffic.bytes += (8 * (size - 1) * length) as u64;
        Ok(())
    }

    /// Each rank adds up its part of what all have, and gives it to all.
    fn sum_parts(&self, state: &mut State, values: &mut [f64]) -> Result<(), Lost> {
        let (size, length) = (self.size(), values.len());
        let part = length.div_ceil(size);
        let State { own, all, traffic, .. } = state;
        own.clear();
        own.extend_from_slice(values);
        own.resize(size * part, 0.0);
        all.resize(size * part, 0.0);
        self.ranks.exchange(own, all)?;
        let (sum, others) = all.split_at_mut(part);
        for other in others.chunks_exact(part) {
            sum.iter_mut().zip(other).for_each(|(sum, other)| *sum += other);
        }
        self.ranks.gather(sum, own)?;
        values.copy_from_slice(&own[..length]);
        traffic.bytes += (2 * 8 * (size - 1) * part) as u64;
        Ok(())
    }

    /// Adds numbers up like [`Self::sum`] where no rank has failed; else all return the same error: that of the first rank
    /// whose loss is not the consequence of another's. Samples of a rank's own error count from `first`.
    ///
    /// # Errors
    /// When a rank has failed, or is lost.
    pub fn agree(
        &self,
        values: &mut [f64],
        own: Result<(), StepError>,
        first: usize,
    ) -> Result<(), StepError> {
        if self.size() == 1 {
            return own;
        }
        let failed = {
            let mut state = self.state();
            let mut payload = [0.0; FIT];
            payload[0] = f64::from(u8::from(own.is_err()));
            let fitting = values.len().min(FIT - 1);
            payload[1..=fitting].copy_from_slice(&values[..fitting]);
            self.meet(&mut state, Act::Agree, values.len(), &payload)?;
            state.traffic.sums += 1;
            add_frames(&state.frames, &mut payload);
            values[..fitting].copy_from_slice(&payload[1..=fitting]);
            payload[0] > 0.0
        };
        if values.len() > FIT - 1 {
            self.sum(&mut values[FIT - 1..])?;
        }
        if !failed {
            return Ok(());
        }
        let own = own.err().map(|error| told::placed(error, first));
        let bytes = own.as_ref().map(Told::of).map(|told| told.bytes()).unwrap_or_default();
        let all = self.share(&bytes)?;
        let (rank, chosen) = told::choose(&all);
        match own {
            // All typed as it was.
            Some(error) if all[rank] == bytes => Err(error),
            _ => Err(chosen),
        }
    }

    /// What a rank came to, where none has failed.
    ///
    /// # Errors
    /// As [`Self::agree`].
    pub fn agree_on<T>(&self, own: Result<T, StepError>) -> Result<T, StepError> {
        match own {
            Ok(value) => self.agree(&mut [], Ok(()), 0).map(|()| value),
            Err(error) => {
                let sentence = error.to_string();
                let agreed = self.agree(&mut [], Err(error), 0);
                // One that has failed cannot be told that none has.
                Err(agreed.err().unwrap_or(StepError::Elsewhere { rank: self.rank(), sentence }))
            }
        }
    }

    /// The numbers of rank 0 on all ranks; 30 at most.
    ///
    /// # Errors
    /// When a rank is lost.
    pub fn lead(&self, values: &mut [f64]) -> Result<(), Lost> {
        if self.size() == 1 {
            return Ok(());
        }
        let mut state = self.state();
        let count = values.len().min(FIT);
        self.meet(&mut state, Act::Lead, count, &values[..count])?;
        values[..count].copy_from_slice(&state.frames[HEAD..HEAD + count]);
        Ok(())
    }

    /// The bytes of each rank on all, in their order.
    ///
    /// # Errors
    /// When a rank is lost.
    pub fn share(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, Lost> {
        if self.size() == 1 {
            return Ok(vec![own.to_vec()]);
        }
        let mut state = self.state();
        self.meet(&mut state, Act::Share, 0, &[own.len() as f64])?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts")]
        let lengths: Vec<usize> =
            state.frames.chunks_exact(FRAME).map(|frame| frame[HEAD] as usize).collect();
        let most = lengths.iter().copied().max().unwrap_or(0).div_ceil(4);
        if most == 0 {
            return Ok(vec![Vec::new(); lengths.len()]);
        }
        let mut numbers = pack(own);
        numbers.resize(most, 0.0);
        let mut all = vec![0.0; most * lengths.len()];
        let gathered = self.ranks.gather(&numbers, &mut all);
        state.traffic.bytes += (8 * most * (lengths.len() - 1)) as u64;
        keep(&mut state, gathered)?;
        Ok(all.chunks_exact(most).zip(lengths).map(|(numbers, length)| unpack(numbers, length)).collect())
    }

    /// The bytes of rank 0 on all; what others give is not looked at.
    ///
    /// # Errors
    /// When a rank is lost.
    pub fn tell(&self, own: &[u8]) -> Result<Vec<u8>, Lost> {
        if self.size() == 1 {
            return Ok(own.to_vec());
        }
        let mut length = [own.len() as f64];
        self.lead(&mut length)?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let length = length[0] as usize;
        let mut numbers = if self.leads() { pack(own) } else { vec![0.0; length.div_ceil(4)] };
        self.sum(&mut numbers)?;
        Ok(unpack(&numbers, length))
    }

    /// Refuses θ that is not the same on all ranks to the last bit.
    ///
    /// # Errors
    /// When it is not, or a rank is lost.
    pub fn check_same(&self, theta: &[f64]) -> Result<(), Lost> {
        if self.size() == 1 {
            return Ok(());
        }
        let mut sum = crc32fast::Hasher::new();
        for value in theta {
            sum.update(&value.to_le_bytes());
        }
        let own = f64::from(sum.finalize());
        let mut of_first = [own];
        self.lead(&mut of_first)?;
        let mut others = [f64::from(u8::from(of_first[0] != own))];
        self.sum(&mut others)?;
        let done = match others[0] {
            0.0 => Ok(()),
            _ => Err(Lost::Apart { what: format!("θ differs on {} of them", others[0]) }),
        };
        keep(&mut self.state(), done)
    }

    /// Says that this rank takes part in nothing any more; others that still want to are told so.
    pub fn leave(&self) {
        if self.size() > 1 {
            let mut state = self.state();
            // Where the others are gone there is nobody to tell.
            let _ = self.meet(&mut state, Act::Leave, 0, &[]);
            state.lost = Some(Lost::Left { rank: self.rank() });
        }
    }

    /// All ranks' frames into the state, where all are about to do the same.
    fn meet(&self, state: &mut State, act: Act, length: usize, payload: &[f64]) -> Result<(), Lost> {
        if let Some(lost) = &state.lost {
            return Err(lost.clone());
        }
        let size = self.size();
        let mut frame = [0.0; FRAME];
        (frame[0], frame[1]) = (f64::from(act as u8), length as f64);
        frame[HEAD..HEAD + payload.len()].copy_from_slice(payload);
        state.frames.resize(size * FRAME, 0.0);
        let met = self.ranks.gather(&frame, &mut state.frames).and_then(|()| {
            let heads = || state.frames.chunks_exact(FRAME).map(|frame| (frame[0], frame[1]));
            if heads().all(|head| head == (frame[0], frame[1])) {
                return Ok(());
            }
            Err(match heads().position(|(act, _)| act == f64::from(Act::Leave as u8)) {
                Some(rank) => Lost::Left { rank },
                None => Lost::Apart { what: "they ask for different sums".to_owned() },
            })
        });
        state.traffic.frames += 1;
        state.traffic.bytes += (8 * FRAME * (size - 1)) as u64;
        keep(state, met)
    }
}

/// Once one is lost, all that follows fails.
fn keep(state: &mut State, done: Result<(), Lost>) -> Result<(), Lost> {
    if let Err(lost) = &done {
        state.lost = Some(lost.clone());
    }
    done
}

/// Sums of what stands in the frames, in the order of the ranks.
fn add_frames(frames: &[f64], sums: &mut [f64]) {
    sums.copy_from_slice(&frames[HEAD..HEAD + sums.len()]);
    for frame in frames.chunks_exact(FRAME).skip(1) {
        sums.iter_mut().zip(&frame[HEAD..]).for_each(|(sum, value)| *sum += value);
    }
}

/// Bytes as numbers that no sum with zeros changes, four in each.
fn pack(bytes: &[u8]) -> Vec<f64> {
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0u32, |number, &byte| number << 8 | u32::from(byte));
    bytes.chunks(4).map(|bytes| f64::from(number(bytes))).collect()
}

fn unpack(numbers: &[f64], length: usize) -> Vec<u8> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "packed from as many bits")]
    let mut bytes: Vec<u8> = numbers.iter().flat_map(|&number| (number as u32).to_le_bytes()).collect();
    bytes.truncate(length);
    bytes
}

#[cfg(test)]
mod tests {
    use super::{pack, unpack};

    #[test]
    fn bytes_survive_being_numbers() {
        for length in 0..9 {
            let bytes: Vec<u8> = (0..length).map(|i| 255 - 7 * i).collect();
            assert_eq!(unpack(&pack(&bytes), bytes.len()), bytes);
        }
    }
}
