//! Idempotence of a partition: which batches of which producers have been appended. Pure.
//!
//! As Kafka has it (KIP-98; `ProducerStateManager`): per producer id the newest epoch and its last five batches. A batch
//! that repeats one of the five is answered with the offset it got then; one that follows the last is appended; anything
//! else is a gap. A producer that is not known, because it is new or was forgotten, may begin at any sequence: there is
//! nothing to compare with, and refusing would make an expired producer fail for good.
//!
//! Bounds: at most [`PRODUCERS_MAX`] producers; past that the one that was silent longest is forgotten.

use crate::{error::LogError, journal::format::FormatError};
use bytes::BufMut;
use millpond_batch::Header;
use millpond_runtime::{Offset, codec::Reader};
use std::collections::{BTreeMap, VecDeque};

/// Batches remembered per producer: as many as a client may have in flight.
pub const WINDOW: usize = 5;
/// Producers remembered per partition.
pub const PRODUCERS_MAX: usize = 10_000;

/// One remembered batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: Offset,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    epoch: i16,
    last_seen_ms: i64,
    /// Oldest first, never empty, each following the one before.
    window: VecDeque<Seen>,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    by_id: BTreeMap<i64, State>,
}

/// The sequence `n` places after `sequence`; sequences wrap from `i32::MAX` to 0.
fn advance(sequence: i32, n: u32) -> i32 {
    let modulus = i64::from(i32::MAX) + 1;
    ((i64::from(sequence) + i64::from(n)) % modulus) as i32
}

impl Producers {
    /// What to make of a batch: `Ok(None)` append it, `Ok(Some(offset))` it was appended there before. `now_ms` and
    /// `expiry_ms` (milliseconds) decide whether the producer has been silent for so long that it counts as new.
    pub fn check(&self, header: &Header, now_ms: i64, expiry_ms: u64) -> Result<Option<Offset>, LogError> {
        if !header.is_idempotent() {
            return Ok(None);
        }
        if header.producer_epoch < 0 || header.base_sequence < 0 || header.count == 0 {
            return Err(LogError::BadBatch {
                what: format!(
                    "producer {} with epoch {}, sequence {} and {} records",
                    header.producer_id, header.producer_epoch, header.base_sequence, header.count
                ),
            });
        }
        let (id, found) = (header.producer_id, header.base_sequence);
        let known = self.by_id.get(&id).filter(|s| now_ms.saturating_sub(s.last_seen_ms) <= i64::try_from(expiry_ms).unwrap_or(i64::MAX));
        let Some(state) = known else { return Ok(None) };
        if header.producer_epoch < state.epoch {
            return Err(LogError::ProducerFenced { producer_id: id, current: state.epoch, found: header.producer_epoch });
        }
        if header.producer_epoch > state.epoch {
            // A new epoch begins its sequences anew.
            return if found == 0 { Ok(None) } else { Err(LogError::OutOfOrderSequence { producer_id: id, expected: 0, found }) };
        }
        let last_sequence = advance(found, header.last_offset_delta);
        if let Some(seen) = state.window.iter().find(|s| s.first_sequence == found && s.last_sequence == last_sequence) {
            return Ok(Some(seen.base_offset));
        }
        let expected = state.window.back().map_or(0, |last| advance(last.last_sequence, 1));
        if found == expected {
            return Ok(None);
        }
        let oldest = state.window.front().map_or(0, |s| s.first_sequence);
        if last_sequence < oldest && oldest <= expected {
            return Err(LogError::DuplicateForgotten { producer_id: id, found });
        }
        Err(LogError::OutOfOrderSequence { producer_id: id, expected, found })
    }

    /// Remembers a batch that was appended at `base_offset`.
    pub fn record(&mut self, header: &Header, base_offset: Offset, now_ms: i64) {
        if !header.is_idempotent() {
            return;
        }
        let seen = Seen {
            first_sequence: header.base_sequence,
            last_sequence: advance(header.base_sequence, header.last_offset_delta),
            base_offset,
        };
        let state = self.by_id.entry(header.producer_id).or_insert_with(|| State {
            epoch: header.producer_epoch,
            last_seen_ms: now_ms,
            window: VecDeque::with_capacity(WINDOW),
        });
        let follows = state.window.back().is_some_and(|last| advance(last.last_sequence, 1) == seen.first_sequence);
        if state.epoch != header.producer_epoch || !follows {
            state.window.clear();
        }
        state.epoch = header.producer_epoch;
        state.last_seen_ms = now_ms;
        if state.window.len() == WINDOW {
            state.window.pop_front();
        }
        state.window.push_back(seen);
        if self.by_id.len() > PRODUCERS_MAX {
            let silent = self.by_id.iter().min_by_key(|(_, s)| s.last_seen_ms).map(|(id, _)| *id);
            silent.map(|id| self.by_id.remove(&id));
        }
    }

    /// Forgets producers that were silent for longer than `expiry_ms`, in milliseconds.
    pub fn expire(&mut self, now_ms: i64, expiry_ms: u64) {
        let oldest = now_ms.saturating_sub(i64::try_from(expiry_ms).unwrap_or(i64::MAX));
        self.by_id.retain(|_, s| s.last_seen_ms >= oldest);
    }

    /// Producers remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether no producer is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Appends the bytes that [`Producers::decode`] reads.
    ///
    /// ```text
    ///   | n u32 | n × ( id i64 | epoch i16 | last seen i64 | w u8 | w × ( first i32 | last i32 | base offset u64 ) ) |
    /// ```
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32_le(self.by_id.len() as u32);
        for (id, state) in &self.by_id {
            out.put_i64_le(*id);
            out.put_i16_le(state.epoch);
            out.put_i64_le(state.last_seen_ms);
            out.put_u8(state.window.len() as u8);
            for seen in &state.window {
                out.put_i32_le(seen.first_sequence);
                out.put_i32_le(seen.last_sequence);
                out.put_u64_le(seen.base_offset.0);
            }
        }
    }

    /// Reads what [`Producers::encode`] wrote.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, FormatError> {
        let mut producers = Self::default();
        for _ in 0..r.u32()? {
            let (id, epoch, last_seen_ms) = (r.i64()?, r.u16()? as i16, r.i64()?);
            let n = usize::from(r.u8()?);
            if n == 0 || n > WINDOW {
                return Err(FormatError::Shape { what: format!("producer {id} with {n} batches, 1 to {WINDOW} are kept") });
            }
            let mut window = VecDeque::with_capacity(WINDOW);
            for _ in 0..n {
                let (first_sequence, last_sequence) = (r.u32()? as i32, r.u32()? as i32);
                window.push_back(Seen { first_sequence, last_sequence, base_offset: Offset(r.u64()?) });
            }
            producers.by_id.insert(id, State { epoch, last_seen_ms, window });
        }
        Ok(producers)
    }

    /// What always holds.
    pub fn check_invariants(&self) {
        for (id, state) in &self.by_id {
            assert!(!state.window.is_empty() && state.window.len() <= WINDOW, "producer {id} remembers {} batches", state.window.len());
            for (a, b) in state.window.iter().zip(state.window.iter().skip(1)) {
                assert_eq!(advance(a.last_sequence, 1), b.first_sequence, "producer {id} remembers batches with a gap");
                assert!(a.base_offset < b.base_offset, "producer {id} remembers offsets that go back");
            }
        }
    }
}

#[cfg(test)]
mod tests;
