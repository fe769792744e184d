//! One consumer group: members, what each should own, and what each may own.
//!
//! The rule that keeps a partition from having two readers: a partition that was ever in a reply to a member *may be
//! owned* by it (`may_own`), from the moment that the reply is made, whether or not it arrives, until the member,
//! knowing that the partition is no longer its own, reports that it has given it up; or until the member is removed. While
//! one member may own it, it is in no reply to another.
//!
//! "Knowing" is told by the epoch: every reply that changes a member's assignment carries a new one, and only a heartbeat
//! that carries the newest is believed about what was given up. An older one comes from a member that has not seen
//! the last reply (it is answered with the same again), or was delayed on the way (nobody waits for the answer).

use super::{Part, Refused, assignor};
use assignor::Subscriber;
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A member that was told to give something up, and has not for this long, is removed, in ms.
pub const REVOKE_MS_MAX: u64 = 300_000;
/// Time between heartbeats of a member with nothing to wait for, in ms.
pub const HEARTBEAT_MS: u64 = 1_000;
/// Time between heartbeats of a member that waits for partitions which others still own, in ms.
pub const HEARTBEAT_WAITING_MS: u64 = 100;

/// One member.
#[derive(Debug)]
pub(super) struct Member {
    /// The epoch of the newest reply that changed `assigned`.
    pub(super) epoch: i64,
    /// The epoch that it was given when it joined. By an older one it speaks of an earlier membership: what it had then, others may
    /// have had since.
    pub(super) joined: i64,
    /// The newest epoch that it has shown to know.
    seen: i64,
    pub(super) topics: BTreeSet<Arc<str>>,
    /// What it should own in the end.
    target: BTreeSet<Part>,
    /// What the last reply gave it: as much of `target` as was free.
    pub(super) assigned: BTreeSet<Part>,
    /// What it may be reading: everything in `assigned`, and what it has not yet given up.
    pub(super) may_own: BTreeSet<Part>,
    /// Since which epoch, for those that it did not get as it joined.
    given: BTreeMap<Part, i64>,
    deadline_ms: u64,
    timeout_ms: u64,
    revoking_since_ms: Option<u64>,
    pub(super) client_id: String,
    pub(super) host: String,
    /// The newest commit of each partition, as the member counts them.
    pub(super) commits: RefCell<BTreeMap<Part, u64>>,
}

/// What a heartbeat says, checked for shape.
pub(super) struct Beat<'a> {
    pub(super) group: &'a str,
    pub(super) member: &'a str,
    /// 0 to join, else the last epoch received.
    pub(super) epoch: i64,
    pub(super) topics: BTreeSet<Arc<str>>,
    pub(super) owned: BTreeSet<Part>,
    pub(super) timeout_ms: u64,
    pub(super) client_id: &'a str,
    pub(super) host: &'a str,
}

/// One group's members. Positions are kept elsewhere.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Grows with every change of members, subscriptions or topics.
    pub(super) epoch: i64,
    pub(super) members: BTreeMap<Arc<str>, Member>,
    /// Who may own what: the `may_own` of all members.
    holder: BTreeMap<Part, Arc<str>>,
    /// About what the members take in memory, in bytes, as it was when partitions were assigned last.
    pub(super) bytes: usize,
}

/// What a member takes beside its topics and partitions, in bytes.
const MEMBER_BYTES: usize = 1_024;
/// What a topic that a member subscribes to takes, its name not counted.
const TOPIC_BYTES: usize = 64;
/// What a partition takes: meant for, given to and held by a member, and looked up by its name.
const PART_BYTES: usize = 256;

impl Member {
    fn bytes(&self) -> usize {
        let topics: usize = self.topics.iter().map(|name| TOPIC_BYTES + name.len()).sum();
        MEMBER_BYTES + topics + self.target.len() * PART_BYTES
    }

    /// Whether it may own a partition, and what it says by an epoch is of that and not of an earlier time, after which others may have had it (KIP-1251 is about the same).
    pub(super) fn may_own_since(&self, part: &Part, epoch: i64) -> bool {
        self.may_own.contains(part) && self.given.get(part).is_none_or(|given| *given <= epoch)
    }
}

impl Group {
    /// Takes a heartbeat. `next_epoch` gives numbers that were never given before. Returns the member's id.
    pub(super) fn beat(
        &mut self,
        now_ms: u64,
        beat: Beat<'_>,
        topics: &BTreeMap<Arc<str>, u32>,
        next_epoch: &mut i64,
    ) -> Result<Arc<str>, Refused> {
        let id = match self.members.get_key_value(beat.member) {
            Some((id, _)) => Arc::clone(id),
            None if beat.epoch == 0 => self.join(&beat, topics),
            None => return Err(unknown(beat.group, beat.member)),
        };
        self.listen(&id, &beat, topics)?;
        let member = self.members.get_mut(&id).expect("found or joined above");
        member.deadline_ms = now_ms.saturating_add(member.timeout_ms);
        self.grant(&id, next_epoch);
        let member = self.members.get_mut(&id).expect("found or joined above");
        let revoking = member.may_own.len() > member.assigned.len();
        member.revoking_since_ms = revoking.then(|| member.revoking_since_ms.unwrap_or(now_ms));
        Ok(id)
    }

    /// Removes a member. What it owned is free at once.
    pub(super) fn remove(&mut self, member: &str, topics: &BTreeMap<Arc<str>, u32>) -> bool {
        let Some(gone) = self.members.remove(member) else { return false };
        for part in &gone.may_own {
            self.holder.remove(part);
        }
        self.assign(topics);
        true
    }

    /// Members that have been silent for too long, or do not give up what they should.
    pub(super) fn overdue(&self, now_ms: u64) -> Vec<Arc<str>> {
        let late = |m: &Member| m.deadline_ms <= now_ms || m.revoking_since_ms.is_some_and(|t| t.saturating_add(REVOKE_MS_MAX) <= now_ms);
        self.members.iter().filter(|(_, m)| late(m)).map(|(id, _)| Arc::clone(id)).collect()
    }

    /// Computes anew who should own what.
    pub(super) fn assign(&mut self, topics: &BTreeMap<Arc<str>, u32>) {
        self.epoch += 1;
        let subscribers: Vec<Subscriber<'_>> =
            self.members.values().map(|m| Subscriber { topics: &m.topics, had: &m.target, holds: &m.may_own }).collect();
        let targets = assignor::assign(topics, &subscribers);
        for (member, target) in self.members.values_mut().zip(targets) {
            member.target = target;
        }
        self.bytes = self.members.values().map(Member::bytes).sum();
    }

    /// Whether a heartbeat asks for more than the group knows: a new member, or other topics.
    pub(super) fn would_grow(&self, beat: &Beat<'_>) -> bool {
        self.members.get(beat.member).is_none_or(|member| member.topics != beat.topics)
    }

    /// Members, and partitions that they may own or are given.
    pub(super) fn parts(&self) -> usize {
        self.members.len() + 2 * self.holder.len()
    }

    /// `empty`, `stable` or `reconciling`.
    pub(super) fn state(&self) -> &'static str {
        let settled = |m: &Member| m.assigned == m.target && m.may_own == m.assigned;
        match self.members.len() {
            0 => "empty",
            _ if self.members.values().all(settled) => "stable",
            _ => "reconciling",
        }
    }

    /// Time within which the member's next heartbeat should come, in ms.
    pub(super) fn heartbeat_ms(&self, member: &Member) -> u64 {
        let wanted = if member.assigned == member.target { HEARTBEAT_MS } else { HEARTBEAT_WAITING_MS };
        wanted.min(member.timeout_ms / 3)
    }

    /// Whether `topics` has anything to do with this group's subscriptions.
    pub(super) fn wants_any(&self, topics: &BTreeSet<Arc<str>>) -> bool {
        self.members.values().any(|m| m.topics.intersection(topics).next().is_some())
    }

    fn join(&mut self, beat: &Beat<'_>, topics: &BTreeMap<Arc<str>, u32>) -> Arc<str> {
        let id: Arc<str> = beat.member.into();
        let member = Member {
            epoch: 0,
            joined: 0,
            seen: 0,
            topics: beat.topics.clone(),
            target: BTreeSet::new(),
            assigned: BTreeSet::new(),
            may_own: BTreeSet::new(),
            given: BTreeMap::new(),
            deadline_ms: 0,
            timeout_ms: beat.timeout_ms,
            revoking_since_ms: None,
            client_id: beat.client_id.to_owned(),
            host: beat.host.to_owned(),
            commits: RefCell::default(),
        };
        self.members.insert(Arc::clone(&id), member);
        self.assign(topics);
        id
    }

    /// Learns from a heartbeat what the member wants and what it has given up.
    fn listen(&mut self, id: &Arc<str>, beat: &Beat<'_>, topics: &BTreeMap<Arc<str>, u32>) -> Result<(), Refused> {
        let member = self.members.get_mut(id).expect("the caller has found it");
        if beat.epoch == 0 {
            // A join that was answered before: the answer was lost, or this is a late copy. It proves nothing.
            return Ok(());
        }
        if beat.epoch > member.epoch || beat.epoch < member.seen.max(member.joined) {
            return Err(Refused::FencedMember {
                group: beat.group.into(),
                member: beat.member.into(),
                has: member.epoch,
                said: beat.epoch,
            });
        }
        member.seen = beat.epoch;
        member.timeout_ms = beat.timeout_ms;
        member.host = beat.host.to_owned();
        if beat.epoch == member.epoch {
            let given_up = |p: &Part| !member.assigned.contains(p) && !beat.owned.contains(p);
            for part in member.may_own.extract_if(.., |p| given_up(p)) {
                member.given.remove(&part);
                self.holder.remove(&part);
            }
        }
        if member.topics != beat.topics {
            member.topics = beat.topics.clone();
            self.assign(topics);
        }
        Ok(())
    }

    /// Gives the member what it should own and nobody else may own.
    fn grant(&mut self, id: &Arc<str>, next_epoch: &mut i64) {
        let member = self.members.get_mut(id).expect("the caller has found it");
        let free = |p: &&Part| self.holder.get(*p).is_none_or(|holder| holder == id);
        let assigned: BTreeSet<Part> = member.target.iter().filter(free).cloned().collect();
        if assigned == member.assigned && member.epoch != 0 {
            return;
        }
        for part in assigned.difference(&member.assigned) {
            if member.may_own.insert(part.clone()) && member.epoch != 0 {
                member.given.insert(part.clone(), *next_epoch);
            }
            self.holder.insert(part.clone(), Arc::clone(id));
        }
        member.assigned = assigned;
        if member.epoch == 0 {
            member.joined = *next_epoch;
        }
        member.epoch = *next_epoch;
        *next_epoch += 1;
    }

    /// Panics if an invariant is broken.
    pub(super) fn check(&self, topics: &BTreeMap<Arc<str>, u32>) {
        let mut held = 0;
        let mut targets = BTreeSet::new();
        for (id, m) in &self.members {
            assert!(m.seen <= m.epoch, "{id} knows an epoch that nobody gave it");
            assert!((1..=m.epoch).contains(&m.joined), "{id} was given an epoch when it joined, and none before");
            assert!(m.assigned.is_subset(&m.may_own), "what {id} was given, it may own");
            assert!(
                m.given.iter().all(|(part, epoch)| m.may_own.contains(part) && *epoch <= m.epoch),
                "{id} was given it by an epoch of its own"
            );
            assert!(m.assigned.is_subset(&m.target) || self.state() == "reconciling", "{id} must give something up");
            held += m.may_own.len();
            for part in &m.may_own {
                assert_eq!(self.holder.get(part), Some(id), "{part} has one possible owner");
            }
            for part in &m.target {
                assert!(targets.insert(part.clone()), "{part} is meant for one member");
                assert!(m.topics.contains(&part.topic), "{part} is subscribed to by {id}");
                assert!(topics.get(&part.topic).is_some_and(|n| part.partition < *n), "{part} exists");
            }
        }
        assert_eq!(held, self.holder.len(), "nothing is held by a member that is gone");
        let wanted: BTreeSet<&Arc<str>> = self.members.values().flat_map(|m| &m.topics).collect();
        let all: u32 = wanted.iter().filter_map(|t| topics.get(*t)).sum();
        assert_eq!(targets.len(), all as usize, "every partition that is subscribed to is meant for somebody");
    }
}

pub(super) fn unknown(group: &str, member: &str) -> Refused {
    Refused::UnknownMember { group: group.into(), member: member.into() }
}
