//! Sessions of fetches (KIP-227): what a client reads is kept with its connection, so that a request says only what has changed, and an answer too.
//!
//! A connection has one session at most, and the session ends with it. What it takes comes from memory that the core has for sessions: where there is none left, the client is told that it has no
//! session, by the number that stands for none, and says all each time. Partitions of which records were told go to the end of the row, as a client without a session
//! sends them.

use super::codes;
use crate::{
    kafka::wire::{
        TopicKey,
        fetch::{EpochEnd, FetchPartition, FetchRequest, FetchedPartition},
    },
    node::budget::{Held, Pool},
};
use std::{collections::BTreeMap, rc::Rc};

/// The epoch of a request that begins a session, and of one that has none, or ends it.
const INITIAL: i32 = 0;
const FINAL: i32 = -1;
/// Most partitions of one session.
const PARTITIONS_MAX: usize = 50_000;
/// What each of them takes, in bytes, and a topic beside its name.
const PARTITION_BYTES: usize = 256;
const TOPIC_BYTES: usize = 256;

/// A place in the row.
pub(super) type Turn = u64;

/// One partition of a session.
#[derive(Debug)]
struct Part {
    topic: Rc<TopicKey>,
    asked: FetchPartition,
    /// High watermark, last stable offset and start, as they were told last; nothing if they are to be told in any case.
    told: Option<(i64, i64, i64)>,
}

/// See the module.
#[derive(Debug)]
pub(in super::super) struct Session {
    id: i32,
    /// Of the next request.
    epoch: i32,
    /// In the order in which they are read.
    row: BTreeMap<Turn, Part>,
    turns: BTreeMap<Rc<TopicKey>, BTreeMap<i32, Turn>>,
    next: Turn,
    bytes: usize,
    held: Held,
}

/// What a request means for sessions.
pub(super) enum Plan {
    /// It says all, and there is no session.
    Without,
    /// It says all, and begins a session.
    Begins(Session),
    /// It goes on with one.
    GoesOn(Session),
}

/// Finds out what a request means, given the session of its connection, which is over unless it is in the plan. `id` is for a new one. The code if it is refused; then the session stays, if it is still there.
pub(super) fn plan(kept: &mut Option<Session>, pool: &Pool, id: i32, asked: &FetchRequest) -> Result<Plan, i16> {
    if asked.session_epoch == INITIAL {
        *kept = None;
        return Ok(Session::begin(id, pool, asked).map_or(Plan::Without, Plan::Begins));
    }
    let is_kept = kept.as_ref().is_some_and(|session| session.id == asked.session_id);
    if asked.session_epoch == FINAL {
        if is_kept {
            *kept = None;
        }
        return Ok(Plan::Without);
    }
    let Some(mut session) = kept.take_if(|_| is_kept) else { return Err(codes::FETCH_SESSION_ID_NOT_FOUND) };
    if session.epoch != asked.session_epoch {
        *kept = Some(session);
        return Err(codes::INVALID_FETCH_SESSION_EPOCH);
    }
    if !session.change(pool, asked) {
        // It begins anew, as far as there is room.
        return Err(codes::FETCH_SESSION_ID_NOT_FOUND);
    }
    session.epoch = session.epoch.checked_add(1).unwrap_or(1);
    Ok(if session.row.is_empty() { Plan::Without } else { Plan::GoesOn(session) })
}

impl Session {
    fn begin(id: i32, pool: &Pool, asked: &FetchRequest) -> Option<Self> {
        let held = pool.try_take(TOPIC_BYTES)?;
        let mut this = Self { id, epoch: 1, row: BTreeMap::new(), turns: BTreeMap::new(), next: 0, bytes: 0, held };
        (this.change(pool, asked) && !this.row.is_empty()).then_some(this)
    }

    pub(super) fn id(&self) -> i32 {
        self.id
    }

    /// Partitions in it.
    pub(in super::super) fn len(&self) -> usize {
        self.row.len()
    }

    /// Takes over what a request says. False if there is no room for it.
    fn change(&mut self, pool: &Pool, asked: &FetchRequest) -> bool {
        for topic in asked.topics.iter() {
            let known = self.turns.get_key_value(&topic.topic).map(|(name, _)| Rc::clone(name));
            let name = known.unwrap_or_else(|| Rc::new(topic.topic.kept()));
            for asked in topic.partitions.iter() {
                if !self.put(pool, &name, asked) {
                    return false;
                }
            }
        }
        for topic in asked.forgotten.iter() {
            for partition in topic.partitions.iter() {
                self.forget(&topic.topic, partition);
            }
        }
        pool.shrink(&mut self.held, self.bytes);
        true
    }

    fn put(&mut self, pool: &Pool, topic: &Rc<TopicKey>, asked: FetchPartition) -> bool {
        let turn = self.turns.get(topic).and_then(|turns| turns.get(&asked.partition).copied());
        if let Some(part) = turn.and_then(|turn| self.row.get_mut(&turn)) {
            part.asked = asked;
            return true;
        }
        let more = PARTITION_BYTES + if self.turns.contains_key(topic) { 0 } else { TOPIC_BYTES + topic.len() };
        if self.row.len() >= PARTITIONS_MAX || !self.pay(pool, more) {
            return false;
        }
        self.turns.entry(Rc::clone(topic)).or_default().insert(asked.partition, self.next);
        self.row.insert(self.next, Part { topic: Rc::clone(topic), asked, told: None });
        self.next += 1;
        true
    }

    /// Takes memory for so many bytes more, if there is some.
    fn pay(&mut self, pool: &Pool, bytes: usize) -> bool {
        let wanted = self.bytes + bytes;
        let missing = wanted.saturating_sub(self.held.num_permits() * 1024);
        if missing > 0 {
            let Some(more) = pool.try_take(missing) else { return false };
            self.held.merge(more);
        }
        self.bytes = wanted;
        true
    }

    fn forget(&mut self, topic: &TopicKey, partition: i32) {
        let Some(turns) = self.turns.get_mut(topic) else { return };
        let Some(turn) = turns.remove(&partition) else { return };
        self.bytes -= PARTITION_BYTES;
        if turns.is_empty() {
            self.turns.remove(topic);
            self.bytes -= TOPIC_BYTES + topic.len();
        }
        self.row.remove(&turn);
    }

    /// What is to be read, in its order.
    pub(super) fn row(&self) -> impl Iterator<Item = (Turn, &TopicKey, FetchPartition)> {
        self.row.iter().map(|(turn, part)| (*turn, &*part.topic, part.asked))
    }

    /// Notes what came of reading a partition: whether the client is to be told. One with records goes to the end of the row.
    pub(super) fn note(&mut self, turn: Turn, read: &FetchedPartition) -> bool {
        let Some(part) = self.row.get_mut(&turn) else { return true };
        let has_records = read.records.iter().any(|records| !records.is_empty());
        let is_odd = read.error_code != codes::NONE || read.diverging_epoch != EpochEnd::UNKNOWN;
        let sends_away = read.preferred_read_replica >= 0;
        let aborted = read.aborted_transactions.as_ref().is_some_and(|aborted| !aborted.is_empty());
        let stands = (read.high_watermark, read.last_stable_offset, read.log_start_offset);
        let is_new = part.told != Some(stands);
        // Once it is in order again, that is told.
        part.told = Some(stands).filter(|_| !is_odd);
        if has_records && let Some(part) = self.row.remove(&turn) {
            if let Some(turns) = self.turns.get_mut(&part.topic) {
                turns.insert(part.asked.partition, self.next);
            }
            self.row.insert(self.next, part);
            self.next += 1;
        }
        has_records || is_odd || sends_away || aborted || is_new
    }
}

#[cfg(test)]
mod tests;
