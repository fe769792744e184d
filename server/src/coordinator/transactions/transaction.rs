//! What becomes of the transactions of one transactional id: who may write, where the one that is open has written, and how it ends.
//!
//! ```text
//!   Empty ──add──► Ongoing ──end──► PrepareCommit ──all ended──► CompleteCommit ──add──► Ongoing ...
//!                     └───end, time, a newer producer──► PrepareAbort ──all ended──► CompleteAbort
//! ```
//!
//! As Kafka has it (KIP-98, KIP-360, KIP-890). In the second version of the protocol each end begins an epoch of the producer, so that whatever of an
//! ended transaction is still under way comes too late; an end that is asked for again, by the epoch before, is answered as it was.

use super::Step;
use crate::coordinator::Part;
use millpond_wire::messages::TransactionRefusal as Refusal;
use std::collections::{BTreeMap, BTreeSet};

/// From this epoch on a producer gets another id: the last epoch is for fencing alone.
const EPOCH_MAX: i16 = i16::MAX - 1;

/// Numbers stand in markers as signed ones.
const NUMBER_MAX: u32 = i32::MAX as u32;

/// How a transaction stands. Names and numbers as Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum State {
    /// There was none yet.
    Empty = 0,
    /// Records are written.
    Ongoing = 1,
    /// It takes effect, and is being ended everywhere.
    PrepareCommit = 2,
    /// It is given up, and is being ended everywhere.
    PrepareAbort = 3,
    /// It has taken effect.
    CompleteCommit = 4,
    /// It was given up.
    CompleteAbort = 5,
}

impl State {
    /// What Kafka's tools call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }

    pub(super) fn is_ending(self) -> bool {
        matches!(self, Self::PrepareCommit | Self::PrepareAbort)
    }
}

/// A producer and its epoch.
pub type Who = (u64, i16);

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Transaction {
    pub(super) who: Who,
    /// By whom the last end, or beginning of an epoch, was asked for: it may not have got the answer.
    pub(super) before: Option<Who>,
    pub(super) timeout_ms: u32,
    pub(super) state: State,
    /// Counts the transactions of a producer id, from 1 on; 0 before the first.
    pub(super) number: u32,
    /// As whom the one that is being ended is ended.
    pub(super) ends_as: Who,
    /// With the ids of their topics.
    pub(super) partitions: BTreeMap<Part, u64>,
    pub(super) groups: BTreeSet<String>,
    /// When it began, and when anything changed, in milliseconds since 1970.
    pub(super) began_ms: i64,
    pub(super) changed_ms: i64,
    /// It is given up at this time of the monotonic clock. Nothing for one that was read back, until the clock is looked at.
    pub(super) deadline_ms: Option<u64>,
    /// About what it takes in memory.
    pub(super) bytes: usize,
}

impl Transaction {
    pub(super) fn new(who: Who, timeout_ms: u32) -> Self {
        Self { who, timeout_ms, ..Self::default() }
    }

    /// A producer begins, or begins anew: `known` if it says who it was. `fresh` is an id that was never used, if there is one.
    pub(super) fn init(&mut self, timeout_ms: u32, known: Option<Who>, fresh: Option<u64>) -> Result<Step, Refusal> {
        if let Some(known) = known.filter(|known| *known != self.who) {
            return if self.before == Some(known) && !self.state.is_ending() && self.state != State::Ongoing {
                Ok(Step::Is(self.who))
            } else {
                Err(Refusal::Fenced)
            };
        }
        match self.state {
            State::PrepareCommit | State::PrepareAbort => return Ok(Step::Wait),
            State::Ongoing => {
                // Whoever has it open is fenced.
                self.end(false, (self.who.0, self.who.1.saturating_add(1)), known);
                return Ok(Step::Wait);
            }
            State::Empty | State::CompleteCommit | State::CompleteAbort => {}
        }
        if !self.next_epoch(known, fresh) {
            return Ok(Step::NeedsId);
        }
        (self.timeout_ms, self.state) = (timeout_ms, State::Empty);
        Ok(Step::Is(self.who))
    }

    /// Begins an epoch, of another id if this one has no more; false if that is not there.
    fn next_epoch(&mut self, before: Option<Who>, fresh: Option<u64>) -> bool {
        let next = match (self.who.1 < EPOCH_MAX, fresh) {
            (true, _) => (self.who.0, self.who.1 + 1),
            (false, Some(fresh)) => (fresh, 0),
            (false, None) => return false,
        };
        if next.0 != self.who.0 {
            self.number = 0;
        }
        (self.who, self.before) = (next, before);
        true
    }

    fn end(&mut self, commit: bool, ends_as: Who, before: Option<Who>) {
        self.state = if commit { State::PrepareCommit } else { State::PrepareAbort };
        self.ends_as = ends_as;
        if ends_as.1 != self.who.1 {
            (self.who, self.before) = (ends_as, before);
        }
        self.deadline_ms = None;
    }

    fn check(&self, who: Who) -> Result<(), Refusal> {
        if who.0 != self.who.0 {
            Err(Refusal::Producer)
        } else if who.1 != self.who.1 {
            Err(Refusal::Fenced)
        } else {
            Ok(())
        }
    }

    /// Partitions and groups come into the transaction; it begins with the first. Whether anything has changed.
    pub(super) fn add(&mut self, who: Who, partitions: &BTreeMap<Part, u64>, groups: &[String], now_ms: i64) -> Result<bool, Refusal> {
        self.check(who)?;
        if self.state.is_ending() {
            return Err(Refusal::Concurrent);
        }
        if self.state != State::Ongoing {
            self.number += 1;
            (self.state, self.began_ms, self.deadline_ms) = (State::Ongoing, now_ms, None);
            self.partitions.clear();
            self.groups.clear();
            // An end that is asked for again is that of this one from here on.
            self.before = None;
        } else if self.has(partitions, groups) {
            return Ok(false);
        }
        self.partitions.extend(partitions.iter().map(|(part, id)| (part.clone(), *id)));
        self.groups.extend(groups.iter().cloned());
        Ok(true)
    }

    fn has(&self, partitions: &BTreeMap<Part, u64>, groups: &[String]) -> bool {
        partitions.keys().all(|part| self.partitions.contains_key(part)) && groups.iter().all(|group| self.groups.contains(group))
    }

    /// Refuses what is not in the transaction that is open.
    pub(super) fn verify(&self, who: Who, partitions: &BTreeMap<Part, u64>, groups: &[String]) -> Result<(), Refusal> {
        self.check(who)?;
        match self.state {
            State::Ongoing if self.has(partitions, groups) => Ok(()),
            State::PrepareCommit | State::PrepareAbort => Err(Refusal::Concurrent),
            _ => Err(Refusal::State),
        }
    }

    /// The producer ends its transaction; `begins_epoch` in the second version of the protocol.
    pub(super) fn ask_end(&mut self, who: Who, commit: bool, begins_epoch: bool, fresh: Option<u64>) -> Result<Step, Refusal> {
        if begins_epoch && self.before == Some(who) && self.state != State::Empty && self.state != State::Ongoing {
            return self.ask_again(commit);
        }
        self.check(who)?;
        match self.state {
            State::Ongoing if !begins_epoch => self.end(commit, who, None),
            State::Ongoing => {
                let ends_as = (who.0, who.1.saturating_add(1));
                if ends_as.1 > EPOCH_MAX && fresh.is_none() {
                    return Ok(Step::NeedsId);
                }
                self.end(commit, ends_as, Some(who));
                if let Some(fresh) = fresh.filter(|_| ends_as.1 > EPOCH_MAX) {
                    self.who = (fresh, 0);
                }
            }
            State::PrepareCommit | State::PrepareAbort if begins_epoch => return Err(Refusal::Concurrent),
            State::Empty if !begins_epoch => return Err(Refusal::State),
            _ if !begins_epoch => return self.ask_again(commit),
            // Nothing was written: giving that up begins an epoch and nothing else.
            _ if !commit => {
                if !self.next_epoch(Some(who), fresh) {
                    return Ok(Step::NeedsId);
                }
                self.state = State::CompleteAbort;
                self.partitions.clear();
                self.groups.clear();
                return Ok(Step::Is(self.who));
            }
            _ => return Err(Refusal::State),
        }
        Ok(Step::Wait)
    }

    /// An end that was decided before is asked for again: it must be the same one.
    fn ask_again(&self, commit: bool) -> Result<Step, Refusal> {
        if matches!(self.state, State::PrepareCommit | State::CompleteCommit) != commit {
            return Err(Refusal::State);
        }
        Ok(if self.state.is_ending() { Step::Wait } else { Step::Is(self.who) })
    }

    /// Takes a number for a marker that ends what the producer has open in a partition, where its last one had the number `ended`: that is not a part of this transaction,
    /// and never comes to be one.
    pub(super) fn disown(&mut self, topic: &str, partition: u32, ended: u32) -> Result<u32, Refusal> {
        let is_open = self.state == State::Ongoing;
        if self.state.is_ending() {
            return Err(Refusal::Concurrent);
        }
        if is_open && self.partitions.keys().any(|part| &*part.topic == topic && part.partition == partition) {
            return Err(Refusal::State);
        }
        let number = self.number.max(ended).saturating_add(1);
        if number >= NUMBER_MAX {
            return Err(Refusal::Full);
        }
        // One that is open elsewhere goes on with the next number, so that its markers come after this one if it comes to the partition yet.
        self.number = number + u32::from(is_open);
        Ok(number)
    }

    /// It is open for too long, or its producer is to be fenced.
    pub(super) fn give_up(&mut self) {
        if self.state == State::Ongoing {
            self.end(false, (self.who.0, self.who.1.saturating_add(1)), None);
        }
    }

    /// It has ended everywhere.
    pub(super) fn complete(&mut self) {
        self.state = match self.state {
            State::PrepareCommit => State::CompleteCommit,
            State::PrepareAbort => State::CompleteAbort,
            other => other,
        };
        if self.ends_as.0 != self.who.0 {
            // The next one is the first of another id.
            self.number = 0;
        }
        self.partitions.clear();
        self.groups.clear();
    }

    /// About what its partitions and groups take in its record, in bytes.
    pub(super) fn record_bytes(&self) -> usize {
        record_bytes(self.partitions.keys(), &self.groups)
    }

    /// About what it takes in memory.
    pub(super) fn weigh(&self) -> usize {
        const TRANSACTION_BYTES: usize = 512;
        const PART_BYTES: usize = 96;
        TRANSACTION_BYTES + self.partitions.len() * PART_BYTES + self.groups.iter().map(|group| group.len() + PART_BYTES).sum::<usize>()
    }
}

/// About what partitions and groups take in a record, in bytes.
pub(super) fn record_bytes<'a>(parts: impl IntoIterator<Item = &'a Part>, groups: impl IntoIterator<Item = &'a String>) -> usize {
    const NUMBERS_BYTES: usize = 32;
    let parts: usize = parts.into_iter().map(|part| part.topic.len() + NUMBERS_BYTES).sum();
    parts + groups.into_iter().map(|group| group.len() + NUMBERS_BYTES).sum::<usize>()
}
