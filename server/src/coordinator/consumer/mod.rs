//! Consumer groups of Kafka's newer sort (KIP-848): the coordinator shares out, and members come to their parts one by one.
//!
//! As in our own groups, from which they differ in what they must outlive: members keep their epochs, small numbers on the wire, when another node looks after them.
//! So all that is told to a member is written before: each method here leaves what has changed to [`Coordinator::write_changed`], which comes before the
//! answer, and the answer waits until that is synced.
//!
//! In reading order: [`asked`] what is said · `group` the rules of a group · `member` how a member gets from one assignment to the next · `share` who is meant to own
//! what · `subscription` which topics are wanted · `stored` the records.

mod asked;
mod group;
mod member;
mod share;
mod stored;
mod subscription;
#[cfg(test)]
mod tests;

pub use asked::{Beat, Beaten, Described, DescribedMember, Parts, Slot, by_topic};

pub(super) use group::Group;
pub(super) use stored::{StoredEpoch, StoredMember};

use super::{
    Commit, Coordinator, Expired, MEMBERS_PER_GROUP_MAX, NAME_BYTES_MAX, SESSION_MS_DEFAULT, TOPICS_PER_MEMBER_MAX, classic::Leaver,
    classic::Refused, pattern, records,
};
use crate::keyed::{BadRecord, Record};
use group::{LEAVE, Said, unknown};
use member::AWAY;
use millpond_wire::messages::{CommitOffsets, MemberInfo, Position, TopicPartitions};
use share::Assignor;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Silent for this long, a member is removed, in ms; as Kafka's `group.consumer.session.timeout.ms`.
pub const SESSION_MS: u64 = SESSION_MS_DEFAULT as u64;
/// Time between heartbeats of a member that has come to its part, in ms; as Kafka's `group.consumer.heartbeat.interval.ms`.
pub const HEARTBEAT_MS: u32 = 5_000;
/// Time between those of one that gives something up or waits for what others give up, in ms.
pub const HEARTBEAT_WAITING_MS: u32 = 500;
/// Bytes of all topics that one member names, together: they must fit into one record.
const NAMES_BYTES_MAX: usize = 128 * 1024;
/// Records of one batch, and about their bytes.
const BATCH_RECORDS: usize = 1_000;
const BATCH_BYTES: usize = 256 * 1024;

/// What is written of a group: of itself, if the member's id is empty, or of a member.
pub(super) type Changed = (String, Arc<str>);

impl Coordinator {
    /// Takes a member's sign of life; it may join or leave by it. One that says no id is called `new_id`.
    pub fn beat_consumer(&mut self, now_ms: u64, mut beat: Beat, new_id: String) -> Result<Beaten, Refused> {
        let said = self.check_beat(&beat)?;
        if beat.member.is_empty() {
            beat.member = new_id;
        }
        if self.groups.contains_key(&beat.group) || self.classic.contains_key(&beat.group) {
            return Err(Refused::Inconsistent { is: String::new() });
        }
        let known = self.consumer.get(&beat.group);
        let is_new = known.is_none_or(|group| !group.members.contains_key(&*beat.member));
        if known.is_none() && beat.epoch != 0 {
            return Err(unknown(&beat.member));
        }
        if is_new && beat.epoch == 0 {
            self.check_room(known.map(|group| group.members.len()))?;
        }
        if (is_new || beat.names.is_some() || beat.regex.is_some()) && self.bytes_left() == 0 {
            return Err(self.full_of_bytes().into());
        }
        let group = self.consumer.entry(beat.group.clone()).or_default();
        let beaten = if [LEAVE, AWAY].contains(&beat.epoch) {
            group.leave(&beat, &self.topics).map(|()| Beaten {
                member: beat.member.clone(),
                epoch: beat.epoch,
                heartbeat_ms: 0,
                assigned: None,
            })
        } else {
            group.beat(now_ms, &beat, said, &self.topics)
        };
        self.note(&beat.group);
        beaten
    }

    /// Writes all that has changed in groups of this sort and in transactions, in batches that `put` appends one after the other. What it refuses is tried again with the next ones.
    pub fn write_changed<E>(&mut self, mut put: impl FnMut(Vec<Record>) -> Result<(), E>) -> Result<(), E> {
        while !self.consumer_changed.is_empty() {
            let (mut records, mut bytes) = (Vec::new(), 0);
            for (name, id) in &self.consumer_changed {
                if records.len() == BATCH_RECORDS || bytes > BATCH_BYTES {
                    break;
                }
                let record = to_record(name, id, self.consumer.get(name));
                bytes += record.key.len() + record.value.as_ref().map_or(0, bytes::Bytes::len);
                records.push(record);
            }
            let count = records.len();
            put(records)?;
            for _ in 0..count {
                self.consumer_changed.pop_first();
            }
        }
        while !self.transactions_changed.is_empty() {
            let records = self.transactions_to_write();
            let count = records.len();
            put(records)?;
            (0..count).for_each(|_| drop(self.transactions_changed.pop_first()));
        }
        Ok(())
    }

    /// A group of this sort. Nothing if it has no members.
    #[must_use]
    pub fn described_consumer(&self, group: &str) -> Option<Described> {
        let group = self.consumer.get(group)?;
        let names: BTreeMap<u64, &Arc<str>> = self.topics.iter().map(|(name, view)| (view.topic_id, name)).collect();
        let parts = |slots: &BTreeSet<Slot>| {
            let part = |(topic_id, partitions)| Parts {
                topic_id,
                topic: names.get(&topic_id).map(ToString::to_string).unwrap_or_default(),
                partitions,
            };
            by_topic(slots).into_iter().map(part).collect()
        };
        let member = |(id, m): (&Arc<str>, &member::Member)| DescribedMember {
            member: id.to_string(),
            instance: m.instance.clone(),
            rack: m.rack.clone(),
            epoch: m.epoch,
            client_id: m.client_id.clone(),
            host: m.host.clone(),
            names: m.names.iter().map(ToString::to_string).collect(),
            regex: m.regex.clone(),
            assigned: parts(&m.assigned),
            target: parts(&m.target),
        };
        let members = group.members.iter().map(member).collect();
        Some(Described { state: group.state(), epoch: group.epoch, assignor: group.assignor().name(), members })
    }

    /// Whether a member of a group of this sort may ask for positions; any group of another sort may be asked about.
    pub fn check_member(&self, group: &str, member: &str, epoch: i32) -> Result<(), Refused> {
        match self.consumer.get(group) {
            Some(group) if !member.is_empty() || epoch >= 0 => group.knows(member, epoch),
            _ => Ok(()),
        }
    }

    /// A commit of a member of a group of this sort. Nothing if the group is not of this sort.
    pub(super) fn commit_consumer(&self, name: &str, member: &str, epoch: i32, positions: &[Position]) -> Option<Result<Commit, Refused>> {
        let group = self.consumer.get(name)?;
        let request = || CommitOffsets { group: name.to_owned(), positions: positions.to_vec(), ..CommitOffsets::default() };
        Some(group.knows(member, epoch).map(|()| self.commit_by(&request(), None)))
    }

    /// Operators remove members of a group of this sort. Nothing if the group is not of this sort.
    pub(super) fn remove_consumers(&mut self, name: &str, who: &[Leaver]) -> Option<Vec<Result<(), Refused>>> {
        let group = self.consumer.get_mut(name)?;
        let mut gone = Vec::new();
        let mut results = Vec::new();
        for one in who {
            let id = match &one.instance {
                Some(instance) => group.instances.get(instance).filter(|id| one.member.is_empty() || ***id == *one.member),
                None => group.members.get_key_value(&*one.member).map(|(id, _)| id),
            };
            results.push(id.map(|id| gone.push(Arc::clone(id))).ok_or_else(|| unknown(&one.member)));
        }
        group.remove(&gone, &self.topics);
        self.note(name);
        Some(results)
    }

    /// Removes members whose sessions are over, or that do not give up what they should.
    pub(super) fn expire_consumers(&mut self, now_ms: u64) -> Vec<Expired> {
        let mut expired = Vec::new();
        let names: Vec<String> = self.consumer.keys().cloned().collect();
        for name in names {
            let Some(group) = self.consumer.get_mut(&name) else { continue };
            let overdue = group.overdue(now_ms);
            group.remove(&overdue, &self.topics);
            expired.extend(overdue.iter().map(|id| Expired { group: name.clone(), member: id.to_string() }));
            self.note(&name);
        }
        expired
    }

    /// Topics are not what they were.
    pub(super) fn consumer_topics_changed(&mut self) {
        let names: Vec<String> = self.consumer.keys().cloned().collect();
        for name in names {
            if let Some(group) = self.consumer.get_mut(&name) {
                group.topics_changed(&self.topics);
            }
            self.note(&name);
        }
    }

    /// A group's epoch was read from the log. What was written here is known already.
    pub(super) fn apply_epoch(&mut self, name: String, stored: Option<StoredEpoch>) {
        if self.was_told_topics {
            return;
        }
        match stored {
            Some(stored) => self.consumer.entry(name).or_default().epoch = stored.epoch,
            None => drop(self.consumer.remove(&name)),
        }
    }

    /// A member was read from the log. What was written here is known already.
    pub(super) fn apply_member(&mut self, key: &[u8], name: String, id: &str, stored: Option<StoredMember>) -> Result<(), BadRecord> {
        if self.was_told_topics {
            return Ok(());
        }
        let unclear = || BadRecord::new(crate::catalog::OFFSETS, key, "the partitions of a member make no sense");
        let member = stored.map(|stored| stored.read_back().ok_or_else(unclear)).transpose()?;
        if member.is_some() || self.consumer.contains_key(&name) {
            self.consumer.entry(name).or_default().read_back(id, member);
        }
        Ok(())
    }

    /// What has changed in a group is to be written; one without members is no more.
    fn note(&mut self, name: &str) {
        let Some(group) = self.consumer.get_mut(name) else { return };
        let changed = std::mem::take(&mut group.changed);
        self.consumer_changed.extend(changed.into_iter().map(|id| (name.to_owned(), id)));
        if group.members.is_empty() {
            self.consumer.remove(name);
        }
    }

    /// What must hold whatever the group is like.
    fn check_beat(&self, beat: &Beat) -> Result<Said, Refused> {
        let is_name = |name: &str| (1..=NAME_BYTES_MAX).contains(&name.len());
        if !is_name(&beat.group) {
            return Err(Refused::GroupName);
        }
        let invalid = |what| Err(Refused::Invalid { what });
        let texts = [Some(&beat.client_id), beat.rack.as_ref(), beat.instance.as_ref(), Some(&beat.member)];
        if texts.into_iter().flatten().any(|text| text.len() > NAME_BYTES_MAX) {
            return Err(Refused::TooLong { what: "an id or a name", max: NAME_BYTES_MAX });
        }
        match beat.epoch {
            0 if beat.rebalance_timeout_ms.is_none() => return invalid("who joins says how long it may take to give up partitions"),
            0 if beat.owned.as_ref().is_some_and(|owned| !owned.is_empty()) => return invalid("who joins owns nothing"),
            0 if beat.names.is_none() && beat.regex.is_none() => return invalid("who joins says what it subscribes to"),
            AWAY if beat.instance.is_none() => return invalid("who goes away for a while has a name to come back under"),
            AWAY | LEAVE | 1.. if beat.member.is_empty() => return invalid("a member says its id"),
            AWAY..=i32::MAX => {}
            _ => return invalid("an epoch is one that was given, 0, -1 or -2"),
        }
        if [&beat.instance, &beat.rack].into_iter().flatten().any(String::is_empty) {
            return invalid("a name is not empty");
        }
        let names = beat.names.as_deref().unwrap_or_default();
        if names.len() > TOPICS_PER_MEMBER_MAX || names.iter().map(String::len).sum::<usize>() > NAMES_BYTES_MAX {
            return Err(Refused::TooLong { what: "the list of topics", max: NAMES_BYTES_MAX });
        }
        if names.iter().any(|name| !is_name(name)) {
            return invalid("a topic's name has 1 to 255 bytes");
        }
        if let Some(regex) = beat.regex.as_deref().filter(|regex| !regex.is_empty()) {
            pattern::whole(regex)?;
        }
        let assignor = beat.assignor.as_deref().map(|name| Assignor::named(name).ok_or_else(|| Refused::Assignor { said: name.into() }));
        let names = beat.names.as_ref().map(|names| names.iter().map(|name| self.interned(name)).collect());
        Ok(Said { names, assignor: assignor.transpose()? })
    }

    /// Partitions with the names of their topics; those of topics that are gone are left out.
    fn with_names(&self, slots: impl Iterator<Item = Slot>) -> Vec<TopicPartitions> {
        let by_topic = by_topic(&slots.collect());
        let named = self.topics.iter().filter_map(|(name, view)| Some((name, by_topic.get(&view.topic_id)?)));
        named.map(|(name, partitions)| TopicPartitions { topic: name.to_string(), partitions: partitions.clone() }).collect()
    }

    /// Members as our own protocol tells of them.
    pub(super) fn consumer_infos(&self, group: &Group) -> Vec<MemberInfo> {
        let info = |(id, m): (&Arc<str>, &member::Member)| MemberInfo {
            member_id: id.to_string(),
            client_id: m.client_id.clone(),
            host: m.host.clone(),
            epoch: i64::from(m.epoch),
            owned: self.with_names(m.held().copied()),
            assigned: self.with_names(m.target.iter().copied()),
        };
        group.members.iter().map(info).collect()
    }
}

impl Group {
    pub(super) fn epoch(&self) -> i64 {
        i64::from(self.epoch)
    }

    /// The topics that its members subscribe to.
    pub(super) fn subscribed(&self) -> BTreeSet<String> {
        self.members.values().flat_map(|m| &m.topics).map(ToString::to_string).collect()
    }

    /// Members, and partitions that they may own or are meant to.
    pub(super) fn parts(&self) -> usize {
        self.members.len() + 2 * self.owners.len()
    }
}

fn to_record(name: &str, id: &str, group: Option<&Group>) -> Record {
    if id.is_empty() {
        return records::write_epoch(name, group.map(|group| StoredEpoch { epoch: group.epoch }).as_ref());
    }
    let member = group.and_then(|group| group.members.get(id)).map(StoredMember::new);
    records::write_member(name, id, member.as_ref())
}
