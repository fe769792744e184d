//! Consumer groups, after Kafka's KIP-848: members send heartbeats, the coordinator decides who reads what.
//!
//! A state machine without effects; time is an argument (`now_ms`, monotonic). One coordinator serves the groups whose
//! positions live in one partition of `__consumer_offsets` ([`partition_of`]) and runs on the core that owns it. The node
//! * passes it heartbeats ([`Coordinator::heartbeat`]) and answers with what it returns;
//! * calls [`Coordinator::expire`] about every second and [`Coordinator::set_topics`] after every change of the catalog;
//! * for commits and deletions: appends the records it returns as one batch, and before anything else happens here; waits for the sync,
//!   gives each to [`Coordinator::apply`], and only then answers;
//! * before it answers [`Coordinator::fetch_offsets`]: waits until all that was appended before is applied;
//! * after a start: replays its partition through `apply`. Members are not written down: they are unknown after a
//!   restart, learn so from their next heartbeat, and join again. Their epochs begin elsewhere at every start
//!   ([`Coordinator::with_epochs_after`]), so that nobody is taken for the member that it was before. A positions' topic is
//!   known by its id.
//!
//! `group` says how a partition is kept from having two readers, `assignor` who should have it. Groups of Kafka's older sort, whose members share
//! out among themselves, are in [`classic`], and those of Kafka's newer sort, which are written down, in [`consumer`]; [`transactions`] live beside them; a group with members is of one sort, and positions are the same for both. Everything is bounded by
//! the constants below; past them requests are refused and nothing is dropped.

mod admin;
pub mod assignor;
pub mod classic;
pub mod consumer;
mod error;
mod group;
pub mod pattern;
mod records;
#[cfg(test)]
mod tests;
pub mod transactions;

pub use error::Refused;
pub use group::{HEARTBEAT_MS, HEARTBEAT_WAITING_MS, REVOKE_MS_MAX};

use crate::keyed::{BadRecord, Record};
use group::{Beat, Group, Member};
use millpond_wire::messages::{
    CommitFailure, CommitOffsets, CommitOffsetsReply, FetchOffsets, FetchOffsetsReply, GroupHeartbeat, GroupHeartbeatReply, Position,
    TopicPartitions,
};
use records::{Entry, Key, Value};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

/// Most groups.
pub const GROUPS_MAX: usize = 10_000;
/// Most members of one group.
pub const MEMBERS_PER_GROUP_MAX: usize = 1_000;
/// Most members of all groups.
pub const MEMBERS_MAX: usize = 20_000;
/// Most topics that one member may subscribe to.
pub const TOPICS_PER_MEMBER_MAX: usize = 1_000;
/// Most positions of all groups.
pub const POSITIONS_MAX: usize = 1_000_000;
/// Most positions in one commit: its records must fit into one batch.
pub const POSITIONS_PER_COMMIT_MAX: usize = 1_000;
/// Longest text kept with all positions of one commit together, in bytes, for the same reason.
pub const METADATA_PER_COMMIT_BYTES_MAX: usize = 256 * 1024;
/// Longest name of a group, a member or a client, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest text kept with a position, in bytes.
pub const METADATA_BYTES_MAX: usize = 4_096;
/// Session timeout of a member that does not say, in ms.
pub const SESSION_MS_DEFAULT: u32 = 45_000;
/// Shortest session timeout, in ms.
pub const SESSION_MS_MIN: u32 = 1_000;
/// Longest session timeout, in ms.
pub const SESSION_MS_MAX: u32 = 1_800_000;

/// Where epochs begin at most: it leaves room for all that will ever be given, and programs that read numbers as floats read them right.
pub const EPOCHS_AFTER_MAX: u64 = (1 << 48) - 1;

/// The epoch by which a member leaves.
const LEAVE: i64 = -1;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part {
    /// Topic.
    pub topic: Arc<str>,
    /// Number.
    pub partition: u32,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// What the coordinator needs to know of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicView {
    /// Differs between topics of the same name.
    pub topic_id: u64,
    /// Partitions.
    pub partitions: u32,
}

/// The partition of `__consumer_offsets` that a group's positions live in. `partitions` is at least 1.
#[must_use]
pub fn partition_of(group: &str, partitions: u32) -> u32 {
    // FNV-1a: part of the format, since positions are looked for where it says.
    let hash = group.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    (hash % u64::from(partitions.max(1))) as u32
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

/// A member that was removed by [`Coordinator::expire`], for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// Its group.
    pub group: String,
    /// Its id.
    pub member: String,
}

/// There is as much as there may be of something.
struct Full {
    what: &'static str,
    max: usize,
}

impl From<Full> for Refused {
    fn from(Full { what, max }: Full) -> Self {
        Self::Full { what, max }
    }
}

impl From<Full> for classic::Refused {
    fn from(Full { what, max }: Full) -> Self {
        Self::Full { what, max }
    }
}

/// What may still be kept of a commit.
struct Room {
    positions: usize,
    bytes: usize,
}

/// What a position takes beside its text, in bytes.
const POSITION_BYTES: usize = 256;

fn position_bytes(value: &Value) -> usize {
    POSITION_BYTES + value.metadata.len()
}

/// All groups of one partition of `__consumer_offsets`.
#[derive(Debug, Default)]
pub struct Coordinator {
    topics: BTreeMap<Arc<str>, TopicView>,
    /// Partitions by topic: what the assignor wants to know.
    counts: BTreeMap<Arc<str>, u32>,
    groups: BTreeMap<String, Group>,
    /// Groups of the other sort.
    classic: BTreeMap<String, classic::Group>,
    /// Those that lost their last member, whose records are to be deleted.
    classic_over: BTreeSet<String>,
    /// Groups of Kafka's newer sort.
    consumer: BTreeMap<String, consumer::Group>,
    /// What of those is not as it is written.
    consumer_changed: BTreeSet<consumer::Changed>,
    positions: BTreeMap<String, BTreeMap<Part, Value>>,
    /// Positions that wait for the end of a transaction, and of whose.
    pending: BTreeMap<String, BTreeMap<(Part, u64), records::Pending>>,
    /// See [`Coordinator::ends`].
    ends: u64,
    transactions: BTreeMap<String, transactions::Transaction>,
    /// Those that are not as they are written.
    transactions_changed: BTreeSet<String>,
    /// About what all take in memory.
    transactions_bytes: usize,
    /// Committers and sequences of commits from outside that are written and not applied.
    written: BTreeMap<Key, (u64, u64)>,
    positions_count: usize,
    /// About what the positions take in memory.
    positions_bytes: usize,
    /// What members and positions may take together, in bytes; no bound by itself.
    bytes_max: Option<usize>,
    epochs_given: i64,
    was_told_topics: bool,
}

impl Coordinator {
    /// No topics, no groups, and epochs from 1 on.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, with epochs after `given`. A coordinator that takes over from another one is given a number far from where that one
    /// was, from chance: a member may ask by an epoch of the other one when it has joined here already.
    #[must_use]
    pub fn with_epochs_after(given: u64) -> Self {
        let epochs_given = i64::try_from(given.min(EPOCHS_AFTER_MAX)).expect("the constant fits");
        Self { epochs_given, ..Self::default() }
    }

    /// Sets about how many bytes members and positions may take together: past it what would add to them is refused.
    pub fn bound_bytes(&mut self, bytes_max: usize) {
        self.bytes_max = Some(bytes_max);
    }

    /// About how many bytes members and positions take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let classic: usize = self.classic.values().map(|group| group.bytes).sum();
        let consumer: usize = self.consumer.values().map(|group| group.bytes).sum();
        self.positions_bytes + self.transactions_bytes + classic + consumer + self.groups.values().map(|group| group.bytes).sum::<usize>()
    }

    /// Groups, with members or with positions.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.groups.len() + self.classic.len() + self.consumer.len() + self.positions.len()
    }

    /// The most members, owned partitions and positions that one group may have; what members of a classic group say of themselves counts as so many
    /// positions as it is long.
    #[must_use]
    pub fn largest(&self) -> usize {
        let positions = self.positions.values().map(BTreeMap::len).max().unwrap_or(0);
        let classic = self.classic.values().map(|group| group.people() + group.bytes / POSITION_BYTES).max().unwrap_or(0);
        let consumer = self.consumer.values().map(consumer::Group::parts).max().unwrap_or(0);
        positions + self.groups.values().map(Group::parts).max().unwrap_or(0).max(classic).max(consumer)
    }

    fn bytes_left(&self) -> usize {
        self.bytes_max.map_or(usize::MAX, |max| max.saturating_sub(self.bytes()))
    }

    fn full_of_bytes(&self) -> Full {
        Full { what: "bytes of members and positions", max: self.bytes_max.unwrap_or(usize::MAX) }
    }

    /// Tells which topics there are now (internal ones left out). Returns tombstones for positions in topics that are
    /// gone; writing them may wait, since such positions are hidden already. They may be split over several batches, each of which goes
    /// through [`Coordinator::still_stale`] right before it is appended.
    ///
    /// The first call goes through all positions, so it comes after the replay; later ones look only at what has changed.
    pub fn set_topics(&mut self, topics: BTreeMap<Arc<str>, TopicView>) -> Vec<Record> {
        let names: BTreeSet<Arc<str>> = self.topics.keys().chain(topics.keys()).cloned().collect();
        let changed: BTreeSet<Arc<str>> = names.into_iter().filter(|name| self.topics.get(name) != topics.get(name)).collect();
        let was_told = std::mem::replace(&mut self.was_told_topics, true);
        self.counts = topics.iter().map(|(name, view)| (Arc::clone(name), view.partitions)).collect();
        let before = std::mem::replace(&mut self.topics, topics);
        for group in self.groups.values_mut().filter(|g| g.wants_any(&changed)) {
            group.assign(&self.counts);
        }
        if !was_told || !changed.is_empty() {
            self.consumer_topics_changed();
        }
        let id = |topics: &BTreeMap<Arc<str>, TopicView>, name| topics.get(name).map(|view| view.topic_id);
        let gone = changed.iter().filter(|name| id(&before, *name).is_some_and(|i| id(&self.topics, *name) != Some(i)));
        let gone: Vec<&Arc<str>> = gone.collect();
        if was_told && gone.is_empty() {
            return Vec::new();
        }
        let hit = |part: &Part| !was_told || gone.contains(&&part.topic);
        let mut tombstones = Vec::new();
        for (group, positions) in &self.positions {
            let stale = positions.iter().filter(|(part, value)| hit(part) && !self.is_current(part, value));
            tombstones.extend(stale.map(|(part, _)| records::write(&key(group, part), None)));
        }
        tombstones
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

    /// Takes a member's sign of life. `host` is where it connects from, for people.
    pub fn heartbeat(&mut self, now_ms: u64, host: &str, request: &GroupHeartbeat) -> Result<GroupHeartbeatReply, Refused> {
        check_name("the group", &request.group)?;
        check_name("the member id", &request.member_id)?;
        if request.member_epoch == LEAVE {
            return Ok(self.leave(request));
        }
        let beat = self.beat(host, request)?;
        if self.classic.contains_key(&request.group) || self.consumer.contains_key(&request.group) {
            return Err(Refused::OtherSort { group: request.group.clone() });
        }
        let known = self.groups.get(&request.group);
        if known.is_none_or(|g| !g.members.contains_key(&*request.member_id)) {
            if request.member_epoch != 0 {
                return Err(group::unknown(&request.group, &request.member_id));
            }
            self.check_room(known.map(|group| group.members.len()))?;
        }
        if self.bytes_max.is_some() && known.is_none_or(|g| g.would_grow(&beat)) && self.bytes_left() == 0 {
            return Err(self.full_of_bytes().into());
        }
        let mut next_epoch = self.epochs_given + 1;
        let group = self.groups.entry(request.group.clone()).or_default();
        let id = group.beat(now_ms, beat, &self.counts, &mut next_epoch)?;
        self.epochs_given = next_epoch - 1;
        let member = &group.members[&id];
        Ok(GroupHeartbeatReply {
            member_epoch: member.epoch,
            assigned: to_wire(&member.assigned),
            heartbeat_ms: group.heartbeat_ms(member) as u32,
        })
    }

    /// Removes members whose session is over.
    pub fn expire(&mut self, now_ms: u64) -> Vec<Expired> {
        let mut expired = Vec::new();
        for (name, group) in &mut self.groups {
            for member in group.overdue(now_ms) {
                group.remove(&member, &self.counts);
                expired.push(Expired { group: name.clone(), member: member.to_string() });
            }
        }
        self.groups.retain(|_, g| !g.members.is_empty());
        expired.extend(self.expire_classic(now_ms));
        expired.extend(self.expire_consumers(now_ms));
        expired
    }

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
    fn commit_by(&self, request: &CommitOffsets, member: Option<&Member>) -> Commit {
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

    /// Takes over one record of `__consumer_offsets`. `None` is a tombstone.
    pub fn apply(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), BadRecord> {
        let (key, value) = match records::read(key, value)? {
            Entry::Position(key, value) => (key, value),
            Entry::Group(name, stored) => {
                self.apply_group(name, stored);
                return Ok(());
            }
            Entry::Epoch(name, stored) => {
                self.apply_epoch(name, stored);
                return Ok(());
            }
            Entry::Member(name, id, stored) => return self.apply_member(key, name, &id, stored),
            Entry::Transaction(id, stored) => return self.apply_transaction(key, &id, stored),
            Entry::Pending(key, value) => {
                self.apply_pending(key, value);
                return Ok(());
            }
        };
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
        Ok(())
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

    /// Panics if an invariant is broken; run after every step in tests and simulation.
    pub fn check(&self) {
        for (name, group) in &self.groups {
            assert!(!group.members.is_empty(), "{name} has members, or is not kept");
            group.check(&self.counts);
            assert!(group.members.values().all(|m| m.epoch <= self.epochs_given), "{name}: an epoch that was not given");
        }
        for (name, group) in &self.classic {
            assert!(!group.is_over(), "{name} has members, or is not kept");
            assert!(!self.groups.contains_key(name), "{name} is of one sort");
            group.check();
        }
        for (name, group) in &self.consumer {
            assert!(!group.members.is_empty(), "{name} has members, or is not kept");
            assert!(!self.groups.contains_key(name) && !self.classic.contains_key(name), "{name} is of one sort");
            group.check(&self.topics);
        }
        let positions: usize = self.positions.values().map(BTreeMap::len).sum();
        assert_eq!(positions, self.positions_count, "positions are counted");
        let bytes: usize = self.positions.values().flat_map(BTreeMap::values).map(position_bytes).sum();
        assert_eq!(bytes, self.positions_bytes, "bytes of positions are counted");
        assert!(self.positions.values().all(|p| !p.is_empty()), "a group without positions is not kept among them");
    }

    fn leave(&mut self, request: &GroupHeartbeat) -> GroupHeartbeatReply {
        // Leaving twice, or after having been expired, is fine: the answer to the first may have been lost.
        if let Some(group) = self.groups.get_mut(&request.group) {
            group.remove(&request.member_id, &self.counts);
            if group.members.is_empty() {
                self.groups.remove(&request.group);
            }
        }
        GroupHeartbeatReply { member_epoch: LEAVE, assigned: Vec::new(), heartbeat_ms: 0 }
    }

    fn beat<'a>(&self, host: &'a str, request: &'a GroupHeartbeat) -> Result<Beat<'a>, Refused> {
        at_most("topics of a member", request.topics.len(), TOPICS_PER_MEMBER_MAX)?;
        at_most("bytes of a client id", request.client_id.len(), NAME_BYTES_MAX)?;
        let timeout = if request.session_timeout_ms == 0 { SESSION_MS_DEFAULT } else { request.session_timeout_ms };
        if !(SESSION_MS_MIN..=SESSION_MS_MAX).contains(&timeout) {
            let must = format!("from {SESSION_MS_MIN} to {SESSION_MS_MAX}");
            return Err(Refused::Invalid { what: "session_timeout_ms", must, is: timeout.to_string() });
        }
        if request.member_epoch < 0 {
            let must = "0, -1 or an epoch that was given".into();
            return Err(Refused::Invalid { what: "member_epoch", must, is: request.member_epoch.to_string() });
        }
        for topic in &request.topics {
            check_name("a topic", topic)?;
        }
        let part = |topic: &Arc<str>, partition: &u32| Part { topic: Arc::clone(topic), partition: *partition };
        let owned = request.owned.iter().flat_map(|t| {
            let topic = self.interned(&t.topic);
            t.partitions.iter().map(move |p| part(&topic, p))
        });
        Ok(Beat {
            group: &request.group,
            member: &request.member_id,
            epoch: request.member_epoch,
            topics: request.topics.iter().map(|t| self.interned(t)).collect(),
            owned: owned.collect(),
            timeout_ms: u64::from(timeout),
            client_id: &request.client_id,
            host,
        })
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
        let Position { topic, partition, offset, metadata } = position;
        at_most("bytes of metadata", metadata.len(), METADATA_BYTES_MAX)?;
        let (name, view) = self
            .topics
            .get_key_value(&**topic)
            .filter(|(_, view)| *partition < view.partitions)
            .ok_or_else(|| Refused::UnknownPartition { topic: topic.clone(), partition: *partition })?;
        let part = Part { topic: Arc::clone(name), partition: *partition };
        if member.is_some_and(|m| !m.may_own.contains(&part)) {
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
        let value = Value { offset: *offset, metadata: metadata.clone(), topic_id: view.topic_id, committer: outside, sequence };
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

    /// Whether a member can be added to a group of so many, or to one that is not there yet.
    fn check_room(&self, members: Option<usize>) -> Result<(), Full> {
        let is = |what, max| Err(Full { what, max });
        match members {
            None if self.groups.len() + self.classic.len() + self.consumer.len() >= GROUPS_MAX => is("groups", GROUPS_MAX),
            Some(members) if members >= MEMBERS_PER_GROUP_MAX => is("members of a group", MEMBERS_PER_GROUP_MAX),
            _ if self.members() >= MEMBERS_MAX => is("members", MEMBERS_MAX),
            _ => Ok(()),
        }
    }

    /// Members of all groups.
    fn members(&self) -> usize {
        let classic: usize = self.classic.values().map(classic::Group::people).sum();
        let consumer: usize = self.consumer.values().map(|g| g.members.len()).sum();
        classic + consumer + self.groups.values().map(|g| g.members.len()).sum::<usize>()
    }

    fn current_positions(&self, group: &str) -> impl Iterator<Item = Position> {
        let positions = self.positions.get(group).into_iter().flatten();
        positions.filter(|(part, value)| self.is_current(part, value)).map(|(part, value)| Position {
            topic: part.topic.to_string(),
            partition: part.partition,
            offset: value.offset,
            metadata: value.metadata.clone(),
        })
    }

    fn is_current(&self, part: &Part, value: &Value) -> bool {
        self.topics.get(&part.topic).is_some_and(|view| view.topic_id == value.topic_id)
    }

    /// The name, shared with the table of topics where it is there.
    fn interned(&self, topic: &str) -> Arc<str> {
        self.topics.get_key_value(topic).map_or_else(|| topic.into(), |(name, _)| Arc::clone(name))
    }
}

fn key(group: &str, part: &Part) -> Key {
    Key { group: group.to_owned(), topic: part.topic.to_string(), partition: part.partition }
}

fn check_name(what: &'static str, name: &str) -> Result<(), Refused> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        let must = format!("1 to {NAME_BYTES_MAX} bytes long");
        return Err(Refused::Invalid { what, must, is: format!("{} bytes", name.len()) });
    }
    Ok(())
}

fn at_most(what: &'static str, is: usize, max: usize) -> Result<(), Refused> {
    if is > max {
        return Err(Refused::Invalid { what, must: format!("at most {max}"), is: is.to_string() });
    }
    Ok(())
}

/// Partitions in order, by topic.
pub(crate) fn to_wire<'a>(parts: impl IntoIterator<Item = &'a Part>) -> Vec<TopicPartitions> {
    let mut topics: Vec<TopicPartitions> = Vec::new();
    for part in parts {
        match topics.last_mut() {
            Some(t) if t.topic == *part.topic => t.partitions.push(part.partition),
            _ => topics.push(TopicPartitions { topic: part.topic.to_string(), partitions: vec![part.partition] }),
        }
    }
    topics
}
