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
//! `positions` says who may commit, `heartbeats` how members come and go, `group` how a partition is kept from having two readers, `assignor` who should have it. Groups of Kafka's older sort, whose members share
//! out among themselves, are in [`classic`], and those of Kafka's newer sort, which are written down, in [`consumer`]; [`transactions`] live beside them; a group with members is of one sort, and positions are the same for both. Everything is bounded by
//! the constants below; past them requests are refused and nothing is dropped.

mod admin;
pub mod assignor;
pub mod classic;
pub mod consumer;
mod error;
mod group;
mod heartbeats;
pub mod pattern;
mod positions;
mod records;
#[cfg(test)]
mod tests;
pub mod transactions;

pub use error::Refused;
pub use group::{HEARTBEAT_MS, HEARTBEAT_WAITING_MS, REVOKE_MS_MAX};
pub use positions::Commit;

use crate::keyed::{BadRecord, Record};
use group::Group;
use millpond_wire::messages::TopicPartitions;
use positions::{POSITION_BYTES, key, position_bytes};
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

    /// Takes over one record of `__consumer_offsets`. `None` is a tombstone.
    pub fn apply(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), BadRecord> {
        match records::read(key, value)? {
            Entry::Position(key, value) => self.apply_position(key, value),
            Entry::Group(name, stored) => self.apply_group(name, stored),
            Entry::Epoch(name, stored) => self.apply_epoch(name, stored),
            Entry::Member(name, id, stored) => return self.apply_member(key, name, &id, stored),
            Entry::Transaction(id, stored) => return self.apply_transaction(key, &id, stored),
            Entry::Pending(key, value) => self.apply_pending(key, value),
        }
        Ok(())
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

    /// The name, shared with the table of topics where it is there.
    fn interned(&self, topic: &str) -> Arc<str> {
        self.topics.get_key_value(topic).map_or_else(|| topic.into(), |(name, _)| Arc::clone(name))
    }
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
