//! Transactions next to their coordinator: that of the partition of `__consumer_offsets` which their transactional id falls into, as groups do.
//!
//! All that is told was written before: each method leaves what has changed to [`Coordinator::write_changed`]. A transaction that ends is decided once that is
//! written; then it is ended wherever it has written ([`Coordinator::ending`]), as often as it takes, by whoever is the coordinator then.
//!
//! Positions that are part of a transaction wait, written, next to their group, until the transaction ends there.
//!
//! In reading order: `transaction` the rules of one id · `stored` its record.

mod stored;
#[cfg(test)]
mod tests;
mod transaction;

pub use transaction::{State, Who};

pub(super) use stored::StoredTransaction;
pub(super) use transaction::Transaction;

use super::{
    Commit, Coordinator, NAME_BYTES_MAX, Part,
    classic::{Refused, Speaker},
    position_bytes,
    records::{self, Entry, Key, Pending, PendingKey},
    to_wire,
};
use crate::keyed::{BadRecord, Record};
use millpond_wire::messages::{CommitOffsets, Position, TopicPartitions, TransactionRefusal as Refusal};
use std::collections::{BTreeMap, BTreeSet};

/// Most transactional ids.
pub const TRANSACTIONAL_IDS_MAX: usize = 100_000;
/// The longest that a transaction may be open, in ms; as Kafka's `transaction.max.timeout.ms`.
pub const TIMEOUT_MS_MAX: u32 = 900_000;
/// Ids that were silent for so long are forgotten, in ms; as Kafka's `transactional.id.expiration.ms`.
const EXPIRES_MS: i64 = 7 * 24 * 3_600 * 1_000;
/// Bytes that one transaction's partitions and groups take in its record at most: it must fit into a batch.
const RECORD_BYTES_MAX: usize = 256 * 1024;

/// What has come of a producer that begins, or ends its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is done, and this is who the producer is from here on.
    Is(Who),
    /// It needs an id that was never used: to be asked again with one.
    NeedsId,
    /// A transaction is being ended: to be asked again after that.
    Wait,
}

/// A transaction that is to be ended wherever it has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// As whom.
    pub who: Who,
    /// Which one it is.
    pub number: u32,
    /// Whether it takes effect.
    pub commit: bool,
    /// Partitions, with the ids of their topics.
    pub partitions: BTreeMap<Part, u64>,
    /// Groups.
    pub groups: BTreeSet<String>,
}

/// A transactional id, as it is told to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedTransaction {
    /// The producer.
    pub who: Who,
    /// How its transaction stands.
    pub state: State,
    /// It is given up after so many ms.
    pub timeout_ms: u32,
    /// When it began, in milliseconds since 1970; -1 if none is open.
    pub began_ms: i64,
    /// Where it has written.
    pub partitions: Vec<TopicPartitions>,
}

/// Both clocks: the monotonic one, and that of the world, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Monotonic.
    pub mono_ms: u64,
    /// Since 1970.
    pub wall_ms: i64,
}

impl Coordinator {
    /// A producer begins under a transactional id. `known` if it says who it was, `fresh` if there is an id that was never used.
    pub fn init_transactions(
        &mut self,
        now: Times,
        id: &str,
        timeout_ms: u32,
        known: Option<Who>,
        fresh: Option<u64>,
    ) -> Result<Step, Refusal> {
        if id.is_empty() || id.len() > NAME_BYTES_MAX {
            return Err(Refusal::Invalid);
        }
        if !(1..=TIMEOUT_MS_MAX).contains(&timeout_ms) {
            return Err(Refusal::Timeout);
        }
        if let Some(is) = self.transactions.get_mut(id) {
            let before = is.clone();
            let done = is.init(timeout_ms, known, fresh);
            let changed = *is != before;
            self.note_transaction(id, now, changed);
            return done;
        }
        if known.is_some() {
            return Err(Refusal::Producer);
        }
        if self.transactions.len() >= TRANSACTIONAL_IDS_MAX || self.bytes_left() == 0 {
            return Err(Refusal::Full);
        }
        let Some(fresh) = fresh else { return Ok(Step::NeedsId) };
        self.transactions.insert(id.to_owned(), Transaction::new((fresh, 0), timeout_ms));
        self.note_transaction(id, now, true);
        Ok(Step::Is((fresh, 0)))
    }

    /// Partitions and groups come into a transaction, or are asked whether they are in it. Its number.
    pub fn join_transaction(
        &mut self,
        now: Times,
        id: &str,
        who: Who,
        (partitions, groups): (&[TopicPartitions], &[String]),
        add: bool,
    ) -> Result<u32, Refusal> {
        let mut parts = BTreeMap::new();
        for TopicPartitions { topic, partitions } in partitions {
            let (name, view) = self.topics.get_key_value(&**topic).ok_or(Refusal::Unknown)?;
            if partitions.iter().any(|partition| *partition >= view.partitions) {
                return Err(Refusal::Unknown);
            }
            parts.extend(partitions.iter().map(|partition| (Part { topic: name.clone(), partition: *partition }, view.topic_id)));
        }
        if groups.iter().any(|group| group.is_empty() || group.len() > NAME_BYTES_MAX) {
            return Err(Refusal::Invalid);
        }
        let room = self.bytes_left();
        let is = self.transactions.get_mut(id).ok_or(Refusal::Producer)?;
        if !add {
            return is.verify(who, &parts, groups).map(|()| is.number);
        }
        if room == 0 {
            return Err(Refusal::Full);
        }
        if is.record_bytes() + transaction::record_bytes(parts.keys(), groups) > RECORD_BYTES_MAX {
            return Err(Refusal::Invalid);
        }
        let changed = is.add(who, &parts, groups, now.wall_ms)?;
        let number = is.number;
        self.note_transaction(id, now, changed);
        Ok(number)
    }

    /// A producer ends its transaction. `begins_epoch` in the second version of the protocol.
    pub fn end_transaction(
        &mut self,
        now: Times,
        id: &str,
        who: Who,
        commit: bool,
        begins_epoch: bool,
        fresh: Option<u64>,
    ) -> Result<Step, Refusal> {
        let is = self.transactions.get_mut(id).ok_or(Refusal::Producer)?;
        let before = is.clone();
        let done = is.ask_end(who, commit, begins_epoch, fresh);
        let changed = *is != before;
        self.note_transaction(id, now, changed);
        done
    }

    /// What is to be ended of an id's transaction, if that is being ended.
    #[must_use]
    pub fn ending(&self, id: &str) -> Option<Ending> {
        let is = self.transactions.get(id).filter(|is| is.state.is_ending())?;
        Some(Ending {
            who: is.ends_as,
            number: is.number,
            commit: is.state == State::PrepareCommit,
            partitions: is.partitions.clone(),
            groups: is.groups.clone(),
        })
    }

    /// That has ended everywhere.
    pub fn complete_transaction(&mut self, now: Times, id: &str, ended: &Ending) {
        let is = self.transactions.get_mut(id).filter(|is| is.state.is_ending() && is.number == ended.number && is.ends_as == ended.who);
        if let Some(is) = is {
            is.complete();
            self.note_transaction(id, now, true);
        }
    }

    /// A producer has a transaction open in a partition, where its last one had the number `ended`. If that is none that is ended from here, the number of a marker
    /// that may end it; no other one gets it. Nothing if nobody here looks after the producer.
    ///
    /// # Errors
    /// [`Refusal::State`] if it is a part of what is open here; [`Refusal::Concurrent`] while one of the producer is being ended.
    pub fn disown_transaction(
        &mut self,
        now: Times,
        producer_id: u64,
        (topic, partition): (&str, u32),
        ended: u32,
    ) -> Result<Option<u32>, Refusal> {
        let is_of = |is: &Transaction| is.who.0 == producer_id || (is.state.is_ending() && is.ends_as.0 == producer_id);
        let Some((id, is)) = self.transactions.iter_mut().find(|(_, is)| is_of(is)) else { return Ok(None) };
        let (id, number) = (id.clone(), is.disown(topic, partition, ended)?);
        self.note_transaction(&id, now, true);
        Ok(Some(number))
    }

    /// Gives up transactions that are open for too long, and forgets ids that were silent for long. All ids whose transactions are being ended.
    pub fn expire_transactions(&mut self, now: Times) -> Vec<String> {
        let mut changed = Vec::new();
        for (id, is) in &mut self.transactions {
            if is.state == State::Ongoing {
                let deadline_ms = *is.deadline_ms.get_or_insert(now.mono_ms.saturating_add(is.timeout_ms.into()));
                if deadline_ms <= now.mono_ms {
                    is.give_up();
                    changed.push(id.clone());
                }
            }
        }
        for id in &changed {
            tracing::info!(transactional_id = id, "a transaction was open for too long and is given up");
            self.note_transaction(id, now, true);
        }
        let over = |is: &Transaction| !is.state.is_ending() && is.state != State::Ongoing && is.changed_ms < now.wall_ms - EXPIRES_MS;
        let over: Vec<String> = self.transactions.iter().filter(|(_, is)| over(is)).map(|(id, _)| id.clone()).collect();
        for id in over {
            self.forget_transaction(&id);
            self.transactions_changed.insert(id);
        }
        self.transactions.iter().filter(|(_, is)| is.state.is_ending()).map(|(id, _)| id.clone()).collect()
    }

    /// An id, for people.
    #[must_use]
    pub fn described_transaction(&self, id: &str) -> Option<DescribedTransaction> {
        self.transactions.get(id).map(described)
    }

    /// All ids, for people.
    #[must_use]
    pub fn all_transactions(&self) -> Vec<(String, DescribedTransaction)> {
        self.transactions.iter().map(|(id, is)| (id.clone(), described(is))).collect()
    }

    /// Counts the ends of transactions in groups here, so that whoever has looked at one can tell whether any has ended since.
    #[must_use]
    pub fn ends(&self) -> u64 {
        self.ends
    }

    /// Checks a commit that is part of the transaction `number` of a producer: what to write now.
    pub fn commit_in_transaction(
        &mut self,
        speaker: &Speaker,
        positions: Vec<Position>,
        producer_id: u64,
        number: u32,
    ) -> Result<Commit, Refused> {
        // Clients of before KIP-447 do not say who they are: their transactional id is what fences them.
        let is_nobody = speaker.member.is_empty() && speaker.generation < 0 && speaker.instance.is_none();
        let mut commit = if is_nobody && self.has_members(&speaker.group) {
            let request = CommitOffsets { group: speaker.group.clone(), positions, ..CommitOffsets::default() };
            self.commit_by(&request, None)
        } else {
            self.commit_classic(speaker, positions)?
        };
        for record in &mut commit.records {
            if let Ok(Entry::Position(Key { group, topic, partition }, Some(value))) = records::read(&record.key, record.value.as_deref()) {
                let key = PendingKey { group, topic, partition, producer_id };
                *record = records::write_pending(&key, Some(&Pending { value, number }));
            }
        }
        Ok(commit)
    }

    fn has_members(&self, group: &str) -> bool {
        self.classic.contains_key(group) || self.consumer.contains_key(group)
    }

    /// Ends a transaction in a group: some of what is to be written for that, at most `max` records; nothing if it has ended.
    pub fn end_in_group(&mut self, group: &str, producer_id: u64, number: u32, commit: bool, max: usize) -> Vec<Record> {
        self.ends += 1;
        let mut out = Vec::new();
        for ((part, id), pending) in self.pending.get(group).into_iter().flatten() {
            if *id != producer_id || pending.number > number || out.len() + 2 > max {
                continue;
            }
            if commit {
                out.push(records::write(&super::key(group, part), Some(&pending.value)));
            }
            let key = PendingKey { group: group.to_owned(), topic: part.topic.to_string(), partition: part.partition, producer_id };
            out.push(records::write_pending(&key, None));
        }
        out
    }

    /// Partitions in which the position of a group waits for the end of a transaction.
    #[must_use]
    pub fn unstable(&self, group: &str) -> BTreeSet<(String, u32)> {
        let pending = self.pending.get(group).into_iter().flatten();
        pending.map(|((part, _), _)| (part.topic.to_string(), part.partition)).collect()
    }

    pub(super) fn apply_pending(&mut self, key: PendingKey, value: Option<Pending>) {
        let part = Part { topic: self.interned(&key.topic), partition: key.partition };
        let pending = self.pending.entry(key.group.clone()).or_default();
        let added = value.as_ref().map_or(0, |pending| position_bytes(&pending.value));
        let replaced = match value {
            Some(value) => pending.insert((part, key.producer_id), value),
            None => pending.remove(&(part, key.producer_id)),
        };
        self.positions_bytes = self.positions_bytes + added - replaced.as_ref().map_or(0, |pending| position_bytes(&pending.value));
        if pending.is_empty() {
            self.pending.remove(&key.group);
        }
    }

    /// An id was read from the log. What was written here is known already.
    pub(super) fn apply_transaction(&mut self, key: &[u8], id: &str, stored: Option<StoredTransaction>) -> Result<(), BadRecord> {
        if self.was_told_topics {
            return Ok(());
        }
        self.forget_transaction(id);
        if let Some(stored) = stored {
            let unclear = || BadRecord::new(crate::catalog::OFFSETS, key, "a transaction makes no sense");
            let is = stored.read_back().ok_or_else(unclear)?;
            self.transactions.insert(id.to_owned(), is);
            self.weigh_transaction(id);
        }
        Ok(())
    }

    /// Some of what has changed, as records of one batch.
    pub(super) fn transactions_to_write(&self) -> Vec<Record> {
        let to_record = |id: &String| records::write_transaction(id, self.transactions.get(id).map(StoredTransaction::new).as_ref());
        let mut bytes = 0;
        let fits = |record: &Record| {
            let fits = bytes < RECORD_BYTES_MAX;
            bytes += record.key.len() + record.value.as_ref().map_or(0, bytes::Bytes::len);
            fits
        };
        self.transactions_changed.iter().map(to_record).take_while(fits).collect()
    }

    fn note_transaction(&mut self, id: &str, now: Times, changed: bool) {
        if !changed {
            return;
        }
        if let Some(is) = self.transactions.get_mut(id) {
            is.changed_ms = now.wall_ms;
            if is.state == State::Ongoing {
                is.deadline_ms.get_or_insert(now.mono_ms.saturating_add(is.timeout_ms.into()));
            }
        }
        self.transactions_changed.insert(id.to_owned());
        self.weigh_transaction(id);
    }

    fn weigh_transaction(&mut self, id: &str) {
        if let Some(is) = self.transactions.get_mut(id) {
            let before = is.bytes;
            is.bytes = id.len() + is.weigh();
            self.transactions_bytes = self.transactions_bytes + is.bytes - before;
        }
    }

    fn forget_transaction(&mut self, id: &str) {
        self.transactions_bytes -= self.transactions.remove(id).map_or(0, |is| is.bytes);
    }
}

fn described(is: &Transaction) -> DescribedTransaction {
    DescribedTransaction {
        who: is.who,
        state: is.state,
        timeout_ms: is.timeout_ms,
        began_ms: if is.state == State::Ongoing || is.state.is_ending() { is.began_ms } else { -1 },
        partitions: to_wire(is.partitions.keys()),
    }
}
