//! Idempotence of a partition: which batches of which producers have been appended. Pure.
//!
//! As Kafka has it (KIP-98; `ProducerStateManager`): per producer id the newest epoch and its last five batches. A batch
//! that repeats one of the five is answered with the offset it got then; one that follows the last is appended; anything
//! else is a gap. A producer that is not known, because it is new or was forgotten, may begin at any sequence: there is
//! nothing to compare with, and refusing would make an expired producer fail for good.
//!
//! Of a batch older than the five we say that it took effect only if that is certain: from where the producer's row without
//! gaps began here, up to the five, every sequence was appended. What lies before (the first batch of a new producer may have
//! been refused for want of room, and its second taken) or beyond a wrap is a gap like any other.
//!
//! Bounds: at most [`PRODUCERS_MAX`] producers; past that those that were silent longest are forgotten, some at a time, so
//! that a crowd of new ones does not cost a look at all of them each.

use crate::{error::LogError, journal::format::FormatError};
use bytes::BufMut;
use millpond_batch::Header;
use millpond_runtime::{Offset, codec::Reader};
use std::collections::{BTreeMap, VecDeque};

/// Batches remembered per producer: as many as a client may have in flight.
pub const WINDOW: usize = 5;
/// Producers remembered per partition.
pub const PRODUCERS_MAX: usize = 10_000;
/// Producers that are forgotten together when there are too many.
const FORGET_AT_ONCE: usize = PRODUCERS_MAX / 64;

/// One remembered batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: Offset,
}

/// One producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    epoch: i16,
    last_seen_ms: i64,
    /// From this sequence up to the end of the window each was appended: where the epoch began here, or 0 once sequences
    /// have wrapped.
    begun: i32,
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

/// Refuses a batch that says it has a producer, and then says of it what cannot be.
pub(crate) fn check_producer(header: &Header) -> Result<(), String> {
    if header.is_idempotent() && (header.producer_epoch < 0 || header.base_sequence < 0 || header.count == 0) {
        return Err(format!(
            "producer {} with epoch {}, sequence {} and {} records",
            header.producer_id, header.producer_epoch, header.base_sequence, header.count
        ));
    }
    Ok(())
}

impl Producers {
    /// What to make of a batch: `Ok(None)` append it, `Ok(Some(offset))` it was appended there before. `now_ms` and
    /// `expiry_ms` (milliseconds) decide whether the producer has been silent for so long that it counts as new.
    pub fn check(&self, header: &Header, now_ms: i64, expiry_ms: u64) -> Result<Option<Offset>, LogError> {
        if !header.is_idempotent() {
            return Ok(None);
        }
        check_producer(header).map_err(|what| LogError::BadBatch { what })?;
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
        // As long as the wrap lies inside the window, its numbers do not say what is before what.
        if state.begun <= found && found <= last_sequence && last_sequence < oldest && oldest < expected {
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
            begun: header.base_sequence,
            window: VecDeque::with_capacity(WINDOW),
        });
        let follows = state.window.back().is_some_and(|last| advance(last.last_sequence, 1) == seen.first_sequence);
        if state.epoch != header.producer_epoch || !follows {
            state.window.clear();
            state.begun = seen.first_sequence;
        }
        let before = state.window.back().map_or(seen.first_sequence, |last| last.last_sequence);
        if seen.last_sequence < before {
            state.begun = 0;
        }
        state.epoch = header.producer_epoch;
        state.last_seen_ms = now_ms;
        if state.window.len() == WINDOW {
            state.window.pop_front();
        }
        state.window.push_back(seen);
        if self.by_id.len() > PRODUCERS_MAX {
            self.forget_silent(header.producer_id);
        }
    }

    /// Forgets those that were silent longest, but never `newest`: the clock may have gone back, and the batch that was
    /// appended just now is the one whose answer may be lost and which comes again.
    fn forget_silent(&mut self, newest: i64) {
        let mut by_age: Vec<(i64, i64)> = self.by_id.iter().map(|(id, s)| (s.last_seen_ms, *id)).filter(|(_, id)| *id != newest).collect();
        by_age.select_nth_unstable(FORGET_AT_ONCE);
        for (_, id) in &by_age[..FORGET_AT_ONCE] {
            self.by_id.remove(id);
        }
    }

    /// Forgets producers that were silent for longer than `expiry_ms`, in milliseconds.
    pub fn expire(&mut self, now_ms: i64, expiry_ms: u64) {
        let oldest = now_ms.saturating_sub(i64::try_from(expiry_ms).unwrap_or(i64::MAX));
        self.by_id.retain(|_, s| s.last_seen_ms >= oldest);
    }

    /// What is remembered of a producer.
    pub(crate) fn get(&self, id: i64) -> Option<&State> {
        self.by_id.get(&id)
    }

    /// Has a producer be as it was; one that was forgotten since stays so.
    pub(crate) fn restore(&mut self, id: i64, before: Option<State>) {
        match before {
            Some(state) => {
                self.by_id.entry(id).and_modify(|now| *now = state);
            }
            None => drop(self.by_id.remove(&id)),
        }
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
    ///   | n u32 | n × ( id i64 | epoch i16 | last seen i64 | begun i32 | w u8 | w × ( first i32 | last i32 | base offset u64 ) ) |
    /// ```
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32_le(self.by_id.len() as u32);
        for (id, state) in &self.by_id {
            out.put_i64_le(*id);
            state.encode(out);
        }
    }

    /// Reads what [`Producers::encode`] wrote, and refuses what it never writes.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, FormatError> {
        let shape = |what: String| Err(FormatError::Shape { what });
        let mut producers = Self::default();
        let count = r.u32()? as usize;
        if count > PRODUCERS_MAX {
            return shape(format!("{count} producers, at most {PRODUCERS_MAX} are kept"));
        }
        for _ in 0..count {
            let id = r.i64()?;
            let state = State::decode(id, r)?;
            if producers.by_id.last_key_value().is_some_and(|(last, _)| *last >= id) {
                return shape(format!("producer {id} is out of order"));
            }
            producers.by_id.insert(id, state);
        }
        Ok(producers)
    }

    /// What always holds.
    pub fn check_invariants(&self) {
        assert!(self.by_id.len() <= PRODUCERS_MAX, "{} producers are remembered", self.by_id.len());
        for (id, state) in &self.by_id {
            assert_eq!(state.check(), Ok(()), "producer {id}");
        }
    }
}

impl State {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_i16_le(self.epoch);
        out.put_i64_le(self.last_seen_ms);
        out.put_i32_le(self.begun);
        out.put_u8(self.window.len() as u8);
        for seen in &self.window {
            out.put_i32_le(seen.first_sequence);
            out.put_i32_le(seen.last_sequence);
            out.put_u64_le(seen.base_offset.0);
        }
    }

    /// Reads what [`State::encode`] has written of producer `id`, and refuses what it never writes.
    pub(crate) fn decode(id: i64, r: &mut Reader<'_>) -> Result<Self, FormatError> {
        let shape = |what: String| FormatError::Shape { what };
        let (epoch, last_seen_ms, begun) = (r.u16()? as i16, r.i64()?, r.u32()? as i32);
        let n = usize::from(r.u8()?);
        if n == 0 || n > WINDOW {
            return Err(shape(format!("producer {id} with {n} batches, 1 to {WINDOW} are kept")));
        }
        let mut window = VecDeque::with_capacity(WINDOW);
        for _ in 0..n {
            let (first_sequence, last_sequence) = (r.u32()? as i32, r.u32()? as i32);
            window.push_back(Seen { first_sequence, last_sequence, base_offset: Offset(r.u64()?) });
        }
        let state = Self { epoch, last_seen_ms, begun, window };
        state.check().map_err(|what| shape(format!("producer {id} {what}")))?;
        Ok(state)
    }

    /// What always holds of one producer.
    fn check(&self) -> Result<(), &'static str> {
        if self.window.is_empty() || self.window.len() > WINDOW {
            return Err("remembers no batch, or too many");
        }
        if self.begun < 0 || self.window.iter().any(|seen| seen.first_sequence < 0 || seen.last_sequence < 0) {
            return Err("remembers a negative sequence");
        }
        for (a, b) in self.window.iter().zip(self.window.iter().skip(1)) {
            if advance(a.last_sequence, 1) != b.first_sequence {
                return Err("remembers batches with a gap between them");
            }
            if a.base_offset >= b.base_offset {
                return Err("remembers offsets that go back");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
