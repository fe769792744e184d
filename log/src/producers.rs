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
//! A producer may be in the middle of a transaction here (KIP-98): from its first batch of that on, until a [`Marker`] ends it. What readers of
//! committed records see ends before the first record of all that are open, and they are told which of the others were given up, for as long as their records
//! are retained. Markers are numbered per producer, so that one which comes late, or twice, ends nothing.
//!
//! Bounds: producers with open transactions are not forgotten, so there are at most [`OPEN_MAX`] of them, and no transaction begins once
//! [`ABORTED_MAX`] are remembered that were given up; at most [`PRODUCERS_MAX`] producers; past that those that were silent longest are forgotten, some at a time, so
//! that a crowd of new ones does not cost a look at all of them each.

use crate::{error::LogError, journal::format::FormatError};
use bytes::BufMut;
use millpond_batch::{Header, Marker};
use millpond_runtime::{Offset, codec::Reader};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Batches remembered per producer: as many as a client may have in flight.
pub const WINDOW: usize = 5;
/// Producers remembered per partition.
pub const PRODUCERS_MAX: usize = 10_000;
/// Transactions that are open in a partition at most.
pub const OPEN_MAX: usize = PRODUCERS_MAX / 2;
/// Transactions that were given up, and are remembered while their records are retained, at most; those that are open by then may follow.
pub const ABORTED_MAX: usize = 50_000;
/// Set in the number of producers if transactions that were given up follow them.
const ABORTED_FOLLOW: u32 = 1 << 31;
/// Set in the number of batches if what is known of transactions follows.
const TRANSACTIONS_FOLLOW: u8 = 1 << 7;
/// Written where no transaction is open.
const NOT_OPEN: u64 = u64::MAX;
/// Producers that are forgotten together when there are too many.
const FORGET_AT_ONCE: usize = PRODUCERS_MAX / 64;

/// One remembered batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: Offset,
}

/// A transaction that was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted {
    /// Whose it was.
    pub producer_id: i64,
    /// Its first record.
    pub first: Offset,
    /// The marker that ended it.
    pub marker: Offset,
}

/// What a partition knows of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerView {
    /// Its newest epoch.
    pub epoch: i16,
    /// The sequence of its last record in that epoch, if there is one.
    pub last_sequence: Option<i32>,
    /// When it was last heard of, in milliseconds since 1970.
    pub last_seen_ms: i64,
    /// The first record of the transaction that it is in.
    pub open: Option<Offset>,
    /// The number of the last of its transactions that has ended here, 0 for none.
    pub ended: i32,
}

/// One producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    epoch: i16,
    last_seen_ms: i64,
    /// From this sequence up to the end of the window each was appended: where the epoch began here, or 0 once sequences
    /// have wrapped.
    begun: i32,
    /// Oldest first, each following the one before; empty only if a marker came by itself.
    window: VecDeque<Seen>,
    /// As [`ProducerView::open`].
    open: Option<Offset>,
    /// As [`ProducerView::ended`].
    ended: i32,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    by_id: BTreeMap<i64, State>,
    /// Where transactions that are open begin, and whose they are.
    open: BTreeSet<(Offset, i64)>,
    /// In order of their markers.
    aborted: VecDeque<Aborted>,
}

/// The sequence `n` places after `sequence`; sequences wrap from `i32::MAX` to 0.
fn advance(sequence: i32, n: u32) -> i32 {
    let modulus = i64::from(i32::MAX) + 1;
    ((i64::from(sequence) + i64::from(n)) % modulus) as i32
}

/// Refuses a batch that says it has a producer, and then says of it what cannot be.
pub(crate) fn check_producer(header: &Header) -> Result<(), String> {
    let is_odd = header.base_sequence < 0 && !header.is_control();
    if header.is_idempotent() && (header.producer_epoch < 0 || is_odd || header.count == 0) {
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
        let silent_max = i64::try_from(expiry_ms).unwrap_or(i64::MAX);
        let known = self.by_id.get(&id).filter(|s| s.open.is_some() || now_ms.saturating_sub(s.last_seen_ms) <= silent_max);
        if header.is_transactional() && !header.is_control() && known.is_none_or(|state| state.open.is_none()) {
            self.check_room()?;
        }
        let Some(state) = known else { return Ok(None) };
        if header.producer_epoch < state.epoch {
            return Err(LogError::ProducerFenced { producer_id: id, current: state.epoch, found: header.producer_epoch });
        }
        if header.is_control() {
            return Ok(None);
        }
        if state.open.is_some() && !header.is_transactional() {
            return Err(LogError::BadBatch { what: format!("producer {id} is in a transaction, and the batch is not") });
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

    /// Whether another transaction may begin.
    fn check_room(&self) -> Result<(), LogError> {
        let full = |what, used: usize, bound: usize| Err(LogError::Full { what, used: used as u64, bound: bound as u64 });
        match (self.open.len(), self.aborted.len()) {
            (open, _) if open >= OPEN_MAX => full("table of open transactions", open, OPEN_MAX),
            (_, aborted) if aborted >= ABORTED_MAX => {
                full("table of transactions that were given up and are retained", aborted, ABORTED_MAX)
            }
            _ => Ok(()),
        }
    }

    /// Remembers a batch that was appended at `base_offset`; `marker` is what it says if it is one.
    pub fn record(&mut self, header: &Header, marker: Option<Marker>, base_offset: Offset, now_ms: i64) {
        if !header.is_idempotent() {
            return;
        }
        if header.is_control() {
            return marker.into_iter().for_each(|marker| self.end(header, marker, base_offset, now_ms));
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
            open: None,
            ended: 0,
        });
        if header.is_transactional() && state.open.is_none() {
            state.open = Some(base_offset);
            self.open.insert((base_offset, header.producer_id));
        }
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

    /// A marker ends what its producer has open, and begins its epoch if that is new. One of a number that was there before ends nothing.
    fn end(&mut self, header: &Header, marker: Marker, at: Offset, now_ms: i64) {
        let (epoch, window) = (header.producer_epoch, VecDeque::new());
        let new = State { epoch, last_seen_ms: now_ms, begun: 0, window, open: None, ended: 0 };
        let state = self.by_id.entry(header.producer_id).or_insert(new);
        if marker.number <= state.ended || epoch < state.epoch {
            return;
        }
        (state.ended, state.last_seen_ms) = (marker.number, now_ms);
        if epoch > state.epoch {
            (state.epoch, state.begun) = (epoch, 0);
            state.window.clear();
        }
        if let Some(first) = state.open.take() {
            self.open.remove(&(first, header.producer_id));
            if !marker.commit {
                self.aborted.push_back(Aborted { producer_id: header.producer_id, first, marker: at });
            }
        }
        if self.by_id.len() > PRODUCERS_MAX {
            self.forget_silent(header.producer_id);
        }
    }

    /// Where the first transaction that is open begins.
    #[must_use]
    pub fn first_open(&self) -> Option<Offset> {
        self.open.first().map(|(first, _)| *first)
    }

    /// Transactions that were given up and have records from `from` on and before `end`, in order of their markers.
    #[must_use]
    pub fn aborted(&self, from: Offset, end: Offset) -> Vec<Aborted> {
        let begin = self.aborted.partition_point(|aborted| aborted.marker < from);
        self.aborted.range(begin..).filter(|aborted| aborted.first < end).copied().collect()
    }

    /// What is known of a producer.
    #[must_use]
    pub fn view(&self, id: i64) -> Option<ProducerView> {
        self.by_id.get(&id).map(State::view)
    }

    /// What is known of all producers.
    #[must_use]
    pub fn views(&self) -> Vec<(i64, ProducerView)> {
        self.by_id.iter().map(|(id, state)| (*id, state.view())).collect()
    }

    /// Records before `start` are retained no more.
    pub(crate) fn trim(&mut self, start: Offset) {
        self.aborted.drain(..self.aborted.partition_point(|aborted| aborted.marker < start));
    }

    /// Records from `end` on are gone, and [`Producers::restore`] says what their producers were before.
    pub(crate) fn truncate(&mut self, end: Offset) {
        self.aborted.truncate(self.aborted.partition_point(|aborted| aborted.marker < end));
    }

    /// Forgets those that were silent longest, but never `newest`: the clock may have gone back, and the batch that was
    /// appended just now is the one whose answer may be lost and which comes again. Nor those in a transaction.
    fn forget_silent(&mut self, newest: i64) {
        let may_go = self.by_id.iter().filter(|(id, state)| **id != newest && state.open.is_none());
        let mut by_age: Vec<(i64, i64)> = may_go.map(|(id, state)| (state.last_seen_ms, *id)).collect();
        if by_age.len() <= FORGET_AT_ONCE {
            return;
        }
        by_age.select_nth_unstable(FORGET_AT_ONCE);
        for (_, id) in &by_age[..FORGET_AT_ONCE] {
            self.by_id.remove(id);
        }
    }

    /// Forgets producers that were silent for longer than `expiry_ms`, in milliseconds.
    pub fn expire(&mut self, now_ms: i64, expiry_ms: u64) {
        let oldest = now_ms.saturating_sub(i64::try_from(expiry_ms).unwrap_or(i64::MAX));
        self.by_id.retain(|_, s| s.open.is_some() || s.last_seen_ms >= oldest);
    }

    /// What is remembered of a producer.
    pub(crate) fn get(&self, id: i64) -> Option<&State> {
        self.by_id.get(&id)
    }

    /// Has a producer be as it was; one that was forgotten since stays so.
    pub(crate) fn restore(&mut self, id: i64, before: Option<State>) {
        let open_before = before.as_ref().and_then(|state| state.open);
        if let Some(first) = self.by_id.get(&id).and_then(|state| state.open) {
            self.open.remove(&(first, id));
        }
        match before {
            // What is open must be ended by somebody, whatever else was forgotten.
            Some(state) if state.open.is_some() => drop(self.by_id.insert(id, state)),
            Some(state) => {
                self.by_id.entry(id).and_modify(|now| *now = state);
            }
            None => drop(self.by_id.remove(&id)),
        }
        self.open.extend(open_before.map(|first| (first, id)));
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
    ///   | n u32 | n × ( id i64 | epoch i16 | last seen i64 | begun i32 | w u8 | w × ( first i32 | last i32 | base offset u64 ) | transactions ) | given up |
    ///   transactions, if w has its highest bit set    | open u64 (u64::MAX none) | ended i32 |
    ///   given up, if n has its highest bit set        | n u32 | n × ( id i64 | first u64 | marker u64 ) |
    /// ```
    pub fn encode(&self, out: &mut Vec<u8>) {
        let follow = if self.aborted.is_empty() { 0 } else { ABORTED_FOLLOW };
        out.put_u32_le(self.by_id.len() as u32 | follow);
        for (id, state) in &self.by_id {
            out.put_i64_le(*id);
            state.encode(out);
        }
        if follow != 0 {
            out.put_u32_le(self.aborted.len() as u32);
        }
        for aborted in &self.aborted {
            out.put_i64_le(aborted.producer_id);
            out.put_u64_le(aborted.first.0);
            out.put_u64_le(aborted.marker.0);
        }
    }

    /// Reads what [`Producers::encode`] wrote, and refuses what it never writes.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, FormatError> {
        let shape = |what: String| Err(FormatError::Shape { what });
        let mut producers = Self::default();
        let count = r.u32()?;
        let (count, follow) = ((count & !ABORTED_FOLLOW) as usize, count & ABORTED_FOLLOW != 0);
        if count > PRODUCERS_MAX {
            return shape(format!("{count} producers, at most {PRODUCERS_MAX} are kept"));
        }
        for _ in 0..count {
            let id = r.i64()?;
            let state = State::decode(id, r)?;
            if producers.by_id.last_key_value().is_some_and(|(last, _)| *last >= id) {
                return shape(format!("producer {id} is out of order"));
            }
            producers.open.extend(state.open.map(|first| (first, id)));
            producers.by_id.insert(id, state);
        }
        let aborted = if follow { r.u32()? as usize } else { 0 };
        if follow && !(1..=ABORTED_MAX + OPEN_MAX).contains(&aborted) {
            return shape(format!("{aborted} transactions that were given up"));
        }
        for _ in 0..aborted {
            let aborted = Aborted { producer_id: r.i64()?, first: Offset(r.u64()?), marker: Offset(r.u64()?) };
            if aborted.first >= aborted.marker || producers.aborted.back().is_some_and(|last| last.marker >= aborted.marker) {
                return shape(format!("a transaction of producer {} from {} to {}", aborted.producer_id, aborted.first, aborted.marker));
            }
            producers.aborted.push_back(aborted);
        }
        Ok(producers)
    }

    /// What always holds.
    pub fn check_invariants(&self) {
        assert!(self.by_id.len() <= PRODUCERS_MAX, "{} producers are remembered", self.by_id.len());
        let open: BTreeSet<(Offset, i64)> = self.by_id.iter().filter_map(|(id, state)| Some((state.open?, *id))).collect();
        assert_eq!(open, self.open, "what is open is what producers have open");
        assert!(self.aborted.iter().zip(self.aborted.iter().skip(1)).all(|(a, b)| a.marker < b.marker), "markers follow one another");
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
        let follow = if self.open.is_some() || self.ended > 0 { TRANSACTIONS_FOLLOW } else { 0 };
        out.put_u8(self.window.len() as u8 | follow);
        for seen in &self.window {
            out.put_i32_le(seen.first_sequence);
            out.put_i32_le(seen.last_sequence);
            out.put_u64_le(seen.base_offset.0);
        }
        if follow != 0 {
            out.put_u64_le(self.open.map_or(NOT_OPEN, |first| first.0));
            out.put_i32_le(self.ended);
        }
    }

    fn view(&self) -> ProducerView {
        ProducerView {
            epoch: self.epoch,
            last_sequence: self.window.back().map(|seen| seen.last_sequence),
            last_seen_ms: self.last_seen_ms,
            open: self.open,
            ended: self.ended,
        }
    }

    /// Reads what [`State::encode`] has written of producer `id`, and refuses what it never writes.
    pub(crate) fn decode(id: i64, r: &mut Reader<'_>) -> Result<Self, FormatError> {
        let shape = |what: String| FormatError::Shape { what };
        let (epoch, last_seen_ms, begun) = (r.u16()? as i16, r.i64()?, r.u32()? as i32);
        let n = r.u8()?;
        let (n, follow) = (usize::from(n & !TRANSACTIONS_FOLLOW), n & TRANSACTIONS_FOLLOW != 0);
        if n > WINDOW {
            return Err(shape(format!("producer {id} with {n} batches, at most {WINDOW} are kept")));
        }
        let mut window = VecDeque::with_capacity(WINDOW);
        for _ in 0..n {
            let (first_sequence, last_sequence) = (r.u32()? as i32, r.u32()? as i32);
            window.push_back(Seen { first_sequence, last_sequence, base_offset: Offset(r.u64()?) });
        }
        let (open, ended) =
            if follow { (Some(r.u64()?).filter(|first| *first != NOT_OPEN).map(Offset), r.u32()? as i32) } else { (None, 0) };
        if follow && open.is_none() && ended == 0 {
            return Err(shape(format!("producer {id} with transactions, and none of them")));
        }
        let state = Self { epoch, last_seen_ms, begun, window, open, ended };
        state.check().map_err(|what| shape(format!("producer {id} {what}")))?;
        Ok(state)
    }

    /// What always holds of one producer.
    fn check(&self) -> Result<(), &'static str> {
        if self.window.len() > WINDOW || self.ended < 0 || (self.window.is_empty() && (self.ended == 0 || self.open.is_some())) {
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
