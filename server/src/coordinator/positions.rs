//! Positions of groups: who may commit which, what is to be written for that, and what is kept.
//!
//! A commit is checked here, written and synced by the node, and only then taken over. A position's topic is known by its id: one in a topic that is gone is hidden at
//! once, and its tombstone is written when there is time.

use super::{
    Coordinator, GROUPS_MAX, METADATA_BYTES_MAX, METADATA_PER_COMMIT_BYTES_MAX, POSITIONS_MAX, POSITIONS_PER_COMMIT_MAX, Part, Refused,
    at_most, check_name,
    group::{self, Member},
    records::{self, Entry, Key, Value},
};
use crate::keyed::Record;
use millpond_wire::messages::{CommitFailure, CommitOffsets, CommitOffsetsReply, FetchOffsets, FetchOffsetsReply, Position};
use std::{collections::BTreeSet, sync::Arc};

/// What a position takes beside its text, in bytes.
pub(super) const POSITION_BYTES: usize = 256;

pub(super) fn position_bytes(value: &Value) -> usize {
    POSITION_BYTES + value.metadata.len()
}

/// A commit that has been checked: what to write, and what to answer once it is synced.
#[must_use = "a commit is kept only when its records are synced and applied"]
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// To be appended as one batch. Empty if every position was refused.
    pub records: Vec<Record>,
    /// To be sent after the sync.
    pub reply: CommitOffsetsReply,
}

/// What may still be kept of a commit.
struct Room {
    positions: usize,
    bytes: usize,
}

impl Coordinator {
    /// Checks a commit. Positions that are refused are in the reply; the whole request is refused if its sender may not
    /// commit at all.
    pub fn commit(&self, request: &CommitOffsets) -> Result<Commit, Refused> {
        check_name("the group", &request.group)?;
        let metadata: usize = request.positions.iter().map(|p| p.metadata.len()).sum();
        at_most("positions in a commit", request.positions.len(), POSITIONS_PER_COMMIT_MAX)?;
        at_most("bytes of metadata in a commit", metadata, METADATA_PER_COMMIT_BYTES_MAX)?;
        let member = self.committer(request)?;
        Ok(self.commit_by(request, member))
    }

    /// Checks each position of a commit by somebody who may commit.
    pub(super) fn commit_by(&self, request: &CommitOffsets, member: Option<&Member>) -> Commit {
        let mut commit = Commit { records: Vec::new(), reply: CommitOffsetsReply::default() };
        let mut room = Room { positions: POSITIONS_MAX.saturating_sub(self.positions_count), bytes: self.bytes_left() };
        for (number, position) in request.positions.iter().enumerate() {
            match self.checked(request, member, position, &mut room) {
                Ok(record) => commit.records.extend(record),
                Err(refused) => commit.reply.failures.push(CommitFailure { position: number as u32, failure: Some(refused.failure()) }),
            }
        }
        commit
    }

    /// These records of a commit are written: nothing older of the same client may follow them.
    pub fn written(&mut self, records: &[Record]) {
        for record in records {
            if let Ok(Entry::Position(key, Some(value))) = records::read(&record.key, record.value.as_deref())
                && value.committer != 0
            {
                self.written.insert(key, (value.committer, value.sequence));
            }
        }
    }

    /// Takes over a position that was written.
    pub(super) fn apply_position(&mut self, key: Key, value: Option<Value>) {
        if value.as_ref().is_some_and(|value| self.written.get(&key) == Some(&(value.committer, value.sequence))) {
            self.written.remove(&key);
        }
        let part = Part { topic: self.interned(&key.topic), partition: key.partition };
        let positions = self.positions.entry(key.group.clone()).or_default();
        let before = positions.len();
        let added = value.as_ref().map_or(0, position_bytes);
        let replaced = match value {
            Some(value) => positions.insert(part, value),
            None => positions.remove(&part),
        };
        self.positions_bytes = self.positions_bytes + added - replaced.as_ref().map_or(0, position_bytes);
        self.positions_count = self.positions_count + positions.len() - before;
        if positions.is_empty() {
            self.positions.remove(&key.group);
        }
    }

    /// A group's positions.
    #[must_use]
    pub fn fetch_offsets(&self, request: &FetchOffsets) -> FetchOffsetsReply {
        let asked: BTreeSet<(&str, u32)> =
            request.partitions.iter().flat_map(|t| t.partitions.iter().map(|p| (t.topic.as_str(), *p))).collect();
        let all = self.current_positions(&request.group);
        let wanted = all.filter(|p| request.partitions.is_empty() || asked.contains(&(p.topic.as_str(), p.partition)));
        FetchOffsetsReply { positions: wanted.collect() }
    }

    /// Of tombstones that [`Coordinator::set_topics`] has returned, those whose positions are still of topics that are gone.
    #[must_use]
    pub fn still_stale(&self, tombstones: &[Record]) -> Vec<Record> {
        let is_stale = |record: &&Record| {
            let Ok(Entry::Position(Key { group, topic, partition }, _)) = records::read(&record.key, None) else { return false };
            let part = Part { topic: self.interned(&topic), partition };
            self.positions.get(&group).and_then(|positions| positions.get(&part)).is_some_and(|value| !self.is_current(&part, value))
        };
        tombstones.iter().filter(is_stale).cloned().collect()
    }

    /// The member that commits; `None` for a commit from outside.
    fn committer(&self, request: &CommitOffsets) -> Result<Option<&Member>, Refused> {
        let group = self.groups.get(&request.group);
        if request.member_id.is_empty() {
            if let Some(group) = self.classic.get(&request.group).filter(|group| !group.members.is_empty()) {
                return Err(Refused::NotEmpty { group: request.group.clone(), members: group.members.len() });
            }
            if let Some(group) = self.consumer.get(&request.group) {
                return Err(Refused::NotEmpty { group: request.group.clone(), members: group.members.len() });
            }
            return match group {
                Some(g) => Err(Refused::NotEmpty { group: request.group.clone(), members: g.members.len() }),
                None if !self.positions.contains_key(&request.group) && self.positions.len() >= GROUPS_MAX => {
                    Err(Refused::Full { what: "groups", max: GROUPS_MAX })
                }
                None => Ok(None),
            };
        }
        let member =
            group.and_then(|g| g.members.get(&*request.member_id)).ok_or_else(|| group::unknown(&request.group, &request.member_id))?;
        if request.member_epoch < member.joined || request.member_epoch > member.epoch {
            return Err(Refused::FencedMember {
                group: request.group.clone(),
                member: request.member_id.clone(),
                has: member.epoch,
                said: request.member_epoch,
            });
        }
        Ok(Some(member))
    }

    fn checked(
        &self,
        request: &CommitOffsets,
        member: Option<&Member>,
        position: &Position,
        room: &mut Room,
    ) -> Result<Option<Record>, Refused> {
        let Position { topic, partition, offset, metadata, leader_epoch } = position;
        at_most("bytes of metadata", metadata.len(), METADATA_BYTES_MAX)?;
        let (name, view) = self
            .topics
            .get_key_value(&**topic)
            .filter(|(_, view)| *partition < view.partitions)
            .ok_or_else(|| Refused::UnknownPartition { topic: topic.clone(), partition: *partition })?;
        let part = Part { topic: Arc::clone(name), partition: *partition };
        if member.is_some_and(|m| !m.may_own_since(&part, request.member_epoch)) {
            let member = request.member_id.clone();
            return Err(Refused::NotAssigned { topic: topic.clone(), partition: *partition, member });
        }
        if let Some(member) = member.filter(|_| request.sequence > 0) {
            let mut commits = member.commits.borrow_mut();
            let newest = commits.entry(part.clone()).or_default();
            if *newest > request.sequence {
                return Err(Refused::Overtaken { topic: topic.clone(), partition: *partition });
            }
            *newest = request.sequence;
            if commits.len() > member.may_own.len() {
                commits.retain(|part, _| member.may_own.contains(part));
            }
        }
        let outside = if member.is_none() && request.sequence > 0 { request.committer } else { 0 };
        let sequence = if outside == 0 { 0 } else { request.sequence };
        let value = Value {
            offset: *offset,
            metadata: metadata.clone(),
            topic_id: view.topic_id,
            committer: outside,
            sequence,
            leader_epoch: *leader_epoch,
        };
        let key = key(&request.group, &part);
        let known = self.positions.get(&request.group).and_then(|p| p.get(&part));
        let more = position_bytes(&value).saturating_sub(known.map_or(0, position_bytes));
        room.bytes = room.bytes.checked_sub(more).ok_or_else(|| Refused::from(self.full_of_bytes()))?;
        if known.is_none() {
            room.positions = room.positions.checked_sub(1).ok_or(Refused::Full { what: "positions", max: POSITIONS_MAX })?;
        }
        let newest = self.written.get(&key).copied().or_else(|| known.map(|value| (value.committer, value.sequence)));
        if outside != 0 && newest.is_some_and(|(committer, newest)| committer == outside && newest > sequence) {
            // It was kept, so to speak, and then the newer one was.
            return Ok(None);
        }
        Ok(Some(records::write(&key, Some(&value))))
    }

    pub(super) fn current_positions(&self, group: &str) -> impl Iterator<Item = Position> {
        let positions = self.positions.get(group).into_iter().flatten();
        positions.filter(|(part, value)| self.is_current(part, value)).map(|(part, value)| Position {
            topic: part.topic.to_string(),
            partition: part.partition,
            offset: value.offset,
            metadata: value.metadata.clone(),
            leader_epoch: value.leader_epoch,
        })
    }

    pub(super) fn is_current(&self, part: &Part, value: &Value) -> bool {
        self.topics.get(&part.topic).is_some_and(|view| view.topic_id == value.topic_id)
    }
}

pub(super) fn key(group: &str, part: &Part) -> Key {
    Key { group: group.to_owned(), topic: part.topic.to_string(), partition: part.partition }
}
