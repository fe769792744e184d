//! One classic group: which generation it is in, who belongs to it, and what it waits for.
//!
//! ```text
//!            somebody joins                    all have joined, or time is over
//!   Empty ------------------> Preparing ----------------------------------------> Completing
//!     ^                        |     ^  ^                                             |
//!     |   nobody is left       |     |  | somebody joins, leaves or falls silent      | the leader has shared out,
//!     +------------------------+     |  +---------------------------------------------+ and that is written
//!                                    +--------------------- Stable <------------------+
//! ```
//!
//! What keeps a partition from having two readers: a generation begins when every member of the one before has joined it, and so has stopped reading what it is
//! to give up, or is removed; and positions are kept for members of the newest generation only.

use super::{
    admission::Admitted,
    asked::{Described, Join, Joined, Leaver, Refused, Speaker, Sync, Synced},
    member::{Member, answer},
    stored::{StoredGroup, StoredMember},
};
use crate::kafka::wire::consumer;
use bytes::Bytes;
use millpond_wire::messages::MemberInfo;
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::oneshot::{Receiver, channel};

/// So long a group that was empty waits for more members before its first generation, in ms. Each wait in which somebody came is followed by another one.
pub const FIRST_WAIT_MS: u64 = 500;

/// What groups are called that share out partitions.
const CONSUMER: &str = "consumer";

/// What has begun: to be written, as one batch, before the answer is waited for.
#[must_use = "a generation lasts once it is written"]
pub(super) struct Begun<T> {
    /// The group as it will be.
    pub(super) write: Option<StoredGroup>,
    /// What whoever asked is told, sooner or later; nothing, if the group was dropped.
    pub(super) answer: Receiver<Result<T, Refused>>,
}

/// What a group waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// For somebody to join.
    Empty,
    /// For all to join, until then.
    Preparing { until_ms: u64, first: Option<First> },
    /// For the leader to share out, and for that to be written.
    Completing { written: bool },
    /// For nothing.
    Stable,
}

/// The first wait of a group that was empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct First {
    /// How long it may wait beyond, in ms.
    pub(super) left_ms: u64,
    /// Somebody has come since.
    pub(super) grown: bool,
}

/// See the module.
#[derive(Debug)]
pub(in super::super) struct Group {
    pub(super) phase: Phase,
    pub(super) generation: i32,
    pub(super) protocol_type: String,
    /// Empty between generations.
    pub(super) protocol: String,
    /// Who shares out; empty if there is nobody.
    pub(super) leader: String,
    pub(in super::super) members: BTreeMap<String, Member>,
    /// The ids of members that come back by a name.
    pub(super) instances: BTreeMap<String, String>,
    /// Ids that were given and not joined by yet, and until when they may be.
    pub(super) given: BTreeMap<String, u64>,
    /// Members that have not asked for their part by then are removed.
    pub(super) sync_by_ms: Option<u64>,
    /// There is a record of it, or was one.
    is_written: bool,
    /// About what it takes in memory.
    pub(in super::super) bytes: usize,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            phase: Phase::Empty,
            generation: 0,
            protocol_type: String::new(),
            protocol: String::new(),
            leader: String::new(),
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            given: BTreeMap::new(),
            sync_by_ms: None,
            is_written: false,
            bytes: 0,
        }
    }
}

impl Group {
    /// A member joins the next generation. One that is new is called `new_id`.
    pub(super) fn join(&mut self, now_ms: u64, join: &Join, new_id: String) -> Begun<Joined> {
        let (sender, receiver) = channel();
        let mut waiting = Some(sender);
        let mut write = None;
        match self.admit(now_ms, join, new_id) {
            Err(refused) => answer(&mut waiting, Err(refused)),
            Ok(Admitted::Now(joined)) => answer(&mut waiting, Ok(joined)),
            Ok(Admitted::OnceWritten(joined)) => {
                write = Some(self.stored(|member| member.assignment.clone()));
                answer(&mut waiting, Ok(joined));
            }
            Ok(Admitted::Waits(id)) => {
                let member = self.members.get_mut(&id).expect("it was let in");
                // The same client has asked again: it has given up the other request.
                answer(&mut member.joining, Err(Refused::Rebalance));
                member.joining = waiting;
                self.complete_if_all_joined(now_ms);
            }
        }
        self.is_written |= write.is_some();
        self.weigh();
        Begun { write, answer: receiver }
    }

    /// A member asks for its part; the leader shares out.
    pub(super) fn sync(&mut self, now_ms: u64, sync: &Sync) -> Begun<Synced> {
        let (sender, receiver) = channel();
        let mut waiting = Some(sender);
        let mut write = None;
        match self.may_sync(now_ms, sync) {
            Err(refused) => answer(&mut waiting, Err(refused)),
            Ok(()) => {
                let member = self.members.get_mut(&sync.speaker.member).expect("it may ask");
                member.has_synced = true;
                answer(&mut member.syncing, Err(Refused::Rebalance));
                if self.phase == Phase::Stable {
                    answer(&mut waiting, Ok(self.synced(&sync.speaker.member)));
                } else {
                    member.syncing = waiting;
                }
            }
        }
        if self.phase == (Phase::Completing { written: false }) && self.members.get(&self.leader).is_some_and(|m| m.has_synced) {
            self.phase = Phase::Completing { written: true };
            let parts: BTreeMap<&str, &Bytes> = sync.assignments.iter().map(|(id, part)| (id.as_str(), part)).collect();
            let mut stored = self.stored(|_| Bytes::new());
            for member in &mut stored.members {
                member.assignment = parts.get(member.id.as_str()).map(|part| (*part).clone()).unwrap_or_default();
            }
            write = Some(stored);
        }
        if self.members.values().all(|m| m.has_synced) {
            self.sync_by_ms = None;
        }
        self.is_written |= write.is_some();
        Begun { write, answer: receiver }
    }

    /// A sign of life.
    pub(super) fn beat(&mut self, now_ms: u64, speaker: &Speaker) -> Result<(), Refused> {
        self.know(speaker)?.alive(now_ms);
        match self.phase {
            Phase::Preparing { .. } => Err(Refused::Rebalance),
            _ => Ok(()),
        }
    }

    /// Somebody leaves, or is made to.
    pub(super) fn leave(&mut self, now_ms: u64, who: &Leaver) -> Result<(), Refused> {
        if self.given.remove(&who.member).is_some() {
            self.complete_if_all_joined(now_ms);
            return Ok(());
        }
        let id = match &who.instance {
            Some(instance) if who.member.is_empty() => self.instances.get(instance).cloned(),
            instance => self.named(&who.member, instance.as_deref()).map(Some)?,
        };
        let id = id.filter(|id| self.members.contains_key(id)).ok_or_else(|| unknown(&who.member))?;
        self.remove(now_ms, &id);
        Ok(())
    }

    /// Whether positions may be kept that this member, or somebody who is in no group, has come to.
    pub(super) fn may_commit(&mut self, speaker: &Speaker) -> Result<(), Refused> {
        if self.phase == Phase::Empty && speaker.generation < 0 {
            return Ok(());
        }
        self.know(speaker)?;
        if matches!(self.phase, Phase::Completing { .. }) {
            return Err(Refused::Rebalance);
        }
        Ok(())
    }

    /// What was begun and could not be written: all join again.
    pub(super) fn unwritten(&mut self, now_ms: u64) {
        self.prepare(now_ms);
        self.complete_if_all_joined(now_ms);
    }

    /// What was begun is written: everybody has their part.
    pub(super) fn written(&mut self, stored: StoredGroup) {
        if self.phase != (Phase::Completing { written: true }) || stored.generation != self.generation {
            // A newer generation is being made meanwhile.
            return;
        }
        self.phase = Phase::Stable;
        let mut parts: BTreeMap<String, Bytes> = stored.members.into_iter().map(|m| (m.id, m.assignment)).collect();
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let member = self.members.get_mut(&id).expect("they are its members");
            member.assignment = parts.remove(&id).unwrap_or_default();
            let mut waiting = member.syncing.take();
            if waiting.is_some() {
                answer(&mut waiting, Ok(self.synced(&id)));
            }
        }
        self.weigh();
    }

    /// A group as it was written.
    pub(super) fn read_back(stored: StoredGroup) -> Self {
        let mut group = Self {
            phase: if stored.members.is_empty() { Phase::Empty } else { Phase::Stable },
            generation: stored.generation,
            protocol_type: stored.protocol_type,
            protocol: stored.protocol,
            leader: stored.leader,
            is_written: true,
            ..Self::default()
        };
        for member in stored.members {
            let (id, member) = member.read_back();
            if let Some(instance) = member.instance.clone() {
                group.instances.insert(instance, id.clone());
            }
            group.members.insert(id, member);
        }
        if !group.members.contains_key(&group.leader) {
            group.leader = group.members.keys().next().cloned().unwrap_or_default();
        }
        group.weigh();
        group
    }

    /// Looks at the clock: who was silent for too long, what was waited for in vain. Those who are gone.
    pub(super) fn tick(&mut self, now_ms: u64) -> Vec<String> {
        let mut gone: Vec<String> = self.members.iter_mut().filter_map(|(id, m)| m.is_overdue(now_ms).then(|| id.clone())).collect();
        gone.iter().for_each(|id| self.remove(now_ms, id));
        let given = self.given.len();
        self.given.retain(|_, until_ms| *until_ms > now_ms);
        if self.given.len() != given {
            self.complete_if_all_joined(now_ms);
        }
        match self.phase {
            Phase::Preparing { until_ms, first: Some(First { left_ms, grown: true }) } if until_ms <= now_ms && left_ms > 0 => {
                let more = FIRST_WAIT_MS.min(left_ms);
                let first = Some(First { left_ms: left_ms - more, grown: false });
                self.phase = Phase::Preparing { until_ms: now_ms.saturating_add(more), first };
            }
            Phase::Preparing { until_ms, .. } if until_ms <= now_ms => gone.extend(self.complete(now_ms)),
            Phase::Completing { .. } | Phase::Stable if self.sync_by_ms.is_some_and(|by| by <= now_ms) => {
                let late: Vec<String> = self.members.iter().filter(|(_, m)| !m.has_synced).map(|(id, _)| id.clone()).collect();
                late.iter().for_each(|id| self.remove(now_ms, id));
                gone.extend(late);
            }
            _ => {}
        }
        gone
    }

    /// When to look at the clock next for those who wait, if for anything.
    pub(super) fn due_ms(&self) -> Option<u64> {
        match self.phase {
            Phase::Preparing { until_ms, .. } => Some(until_ms),
            Phase::Completing { .. } => self.sync_by_ms,
            Phase::Empty | Phase::Stable => None,
        }
    }

    /// Nobody is in it, and nobody is about to be.
    pub(in super::super) fn is_over(&self) -> bool {
        self.members.is_empty() && self.given.is_empty()
    }

    /// Whether something of it is to be deleted when it is over.
    pub(in super::super) fn is_written(&self) -> bool {
        self.is_written
    }

    /// Members, and those to whom an id was given.
    pub(in super::super) fn people(&self) -> usize {
        self.members.len() + self.given.len()
    }

    /// What it does, in a word.
    pub(in super::super) fn state(&self) -> &'static str {
        match self.phase {
            Phase::Empty => "empty",
            Phase::Preparing { .. } => "preparing-rebalance",
            Phase::Completing { .. } => "completing-rebalance",
            Phase::Stable => "stable",
        }
    }

    pub(in super::super) fn protocol_type(&self) -> &str {
        &self.protocol_type
    }

    pub(in super::super) fn generation(&self) -> i64 {
        i64::from(self.generation)
    }

    /// The topics that its members subscribe to. Nothing if they do not share out partitions, or that cannot be read.
    pub(in super::super) fn subscribed(&self) -> Option<BTreeSet<String>> {
        let mut topics = BTreeSet::new();
        for protocol in self.members.values().flat_map(|m| &m.protocols) {
            topics.extend(consumer::subscribed(&protocol.metadata).ok()?);
        }
        (self.protocol_type == CONSUMER).then_some(topics)
    }

    /// Its members as our own protocol tells of them. What consumers have been given is looked into, since people want to know.
    pub(in super::super) fn infos(&self) -> impl Iterator<Item = MemberInfo> {
        self.members.iter().map(|(id, m)| {
            let is_consumer = self.protocol_type == CONSUMER;
            let parts = if is_consumer { consumer::assigned(&m.assignment).unwrap_or_default() } else { Vec::new() };
            MemberInfo {
                member_id: id.clone(),
                client_id: m.client_id.clone(),
                host: m.host.clone(),
                epoch: self.generation(),
                owned: parts.clone(),
                assigned: parts,
            }
        })
    }

    pub(super) fn described(&self) -> Described {
        Described {
            state: self.state(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            members: self.members.iter().map(|(id, m)| m.described(id, &self.protocol)).collect(),
        }
    }

    /// The id of somebody who says who it is.
    pub(super) fn named(&self, member: &str, instance: Option<&str>) -> Result<String, Refused> {
        match instance {
            Some(instance) => match self.instances.get(instance) {
                None => Err(unknown(member)),
                Some(id) if id != member => Err(Refused::Fenced { instance: instance.to_owned() }),
                Some(id) => Ok(id.clone()),
            },
            None => Ok(member.to_owned()),
        }
    }

    /// A member of the newest generation.
    fn know(&mut self, speaker: &Speaker) -> Result<&mut Member, Refused> {
        let id = self.named(&speaker.member, speaker.instance.as_deref())?;
        let member = self.members.get_mut(&id).ok_or_else(|| unknown(&speaker.member))?;
        if speaker.generation != self.generation {
            return Err(Refused::Generation { is: self.generation, said: speaker.generation });
        }
        Ok(member)
    }

    fn may_sync(&mut self, now_ms: u64, sync: &Sync) -> Result<(), Refused> {
        self.know(&sync.speaker)?.alive(now_ms);
        let differs = |said: &Option<String>, is: &str| said.as_ref().is_some_and(|said| said != is);
        if matches!(self.phase, Phase::Preparing { .. }) {
            return Err(Refused::Rebalance);
        }
        if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol, &self.protocol) {
            return Err(Refused::Inconsistent { is: self.protocol_type.clone() });
        }
        Ok(())
    }

    /// A new generation is to be made: all join it.
    pub(super) fn prepare(&mut self, now_ms: u64) {
        if matches!(self.phase, Phase::Preparing { .. }) {
            return;
        }
        let completing = matches!(self.phase, Phase::Completing { .. });
        let mut most_ms = 0;
        for member in self.members.values_mut() {
            most_ms = most_ms.max(member.rebalance_timeout_ms);
            if completing {
                member.assignment = Bytes::new();
            }
            answer(&mut member.syncing, Err(Refused::Rebalance));
            member.alive(now_ms);
        }
        self.sync_by_ms = None;
        self.phase = Phase::Preparing { until_ms: now_ms.saturating_add(u64::from(most_ms)), first: None };
    }

    fn complete_if_all_joined(&mut self, now_ms: u64) {
        let Phase::Preparing { first, .. } = self.phase else { return };
        let all = self.given.is_empty() && first.is_none() && self.members.values().all(|m| m.joining.is_some());
        if all || self.members.is_empty() {
            let nobody = self.complete(now_ms);
            assert!(nobody.is_empty(), "all had joined");
        }
    }

    /// The next generation begins, with those who have joined it. Those who have not, and do not come back by a name, are gone.
    fn complete(&mut self, now_ms: u64) -> Vec<String> {
        let gone: Vec<String> = self.members.extract_if(.., |_, m| m.joining.is_none() && m.instance.is_none()).map(|(id, _)| id).collect();
        let mut joining = self.members.iter().filter(|(_, m)| m.joining.is_some()).map(|(id, _)| id);
        if !self.members.is_empty() && self.members.get(&self.leader).is_none_or(|m| m.joining.is_none()) {
            let Some(first) = joining.next() else {
                // Those who are left are waited for until their sessions end.
                let most_ms = self.members.values().map(|m| m.rebalance_timeout_ms).max().unwrap_or_default();
                self.phase = Phase::Preparing { until_ms: now_ms.saturating_add(u64::from(most_ms)), first: None };
                return gone;
            };
            self.leader = first.clone();
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.phase = Phase::Empty;
            self.protocol.clear();
            self.leader.clear();
        } else {
            self.protocol = self.choose();
            self.phase = Phase::Completing { written: false };
            self.sync_by_ms = self.members.values().map(|m| now_ms.saturating_add(u64::from(m.rebalance_timeout_ms))).max();
        }
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let joined = self.joined(&id);
            let member = self.members.get_mut(&id).expect("they are its members");
            member.has_synced = false;
            if member.joining.is_some() {
                member.alive(now_ms);
            }
            answer(&mut member.joining, Ok(joined));
        }
        self.weigh();
        gone
    }

    fn remove(&mut self, now_ms: u64, id: &str) {
        let Some(mut gone) = self.members.remove(id) else { return };
        gone.refuse(&unknown(id));
        if let Some(instance) = &gone.instance {
            self.instances.remove(instance);
        }
        if self.leader == id {
            self.leader = self.members.keys().next().cloned().unwrap_or_default();
        }
        self.prepare(now_ms);
        self.complete_if_all_joined(now_ms);
        self.weigh();
    }

    /// The way of sharing out that all can do and most prefer; of several, the one that the leader prefers.
    pub(super) fn choose(&self) -> String {
        let leader = self.members.get(&self.leader).or_else(|| self.members.values().next());
        let common = |name: &str| self.members.values().all(|member| member.can(name));
        let common: Vec<&str> =
            leader.into_iter().flat_map(|m| &m.protocols).map(|p| p.name.as_str()).filter(|name| common(name)).collect();
        let vote = |member: &Member| member.protocols.iter().find_map(|p| common.iter().position(|name| *name == p.name));
        let mut votes = vec![0_usize; common.len()];
        self.members.values().filter_map(vote).for_each(|chosen| votes[chosen] += 1);
        let most = votes.iter().max();
        let chosen = votes.iter().position(|n| Some(n) == most);
        chosen.map(|chosen| common[chosen].to_owned()).unwrap_or_default()
    }

    /// The generation, as one of its members is told.
    pub(super) fn joined(&self, id: &str) -> Joined {
        let leads = id == self.leader;
        let members = self.members.iter().filter(|_| leads).map(|(id, m)| m.joined(id, &self.protocol)).collect();
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            member: id.to_owned(),
            skip_assignment: false,
            members,
        }
    }

    fn synced(&self, id: &str) -> Synced {
        let assignment = self.members.get(id).map(|m| m.assignment.clone()).unwrap_or_default();
        Synced { protocol_type: self.protocol_type.clone(), protocol: self.protocol.clone(), assignment }
    }

    fn stored(&self, assignment: impl Fn(&Member) -> Bytes) -> StoredGroup {
        StoredGroup {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            members: self.members.iter().map(|(id, m)| StoredMember::new(id, m, &self.protocol, assignment(m))).collect(),
        }
    }

    fn weigh(&mut self) {
        self.bytes = self.members.values().map(Member::bytes).sum::<usize>() + self.given.keys().map(|id| 128 + id.len()).sum::<usize>();
    }

    /// Panics if an invariant is broken.
    pub(in super::super) fn check(&self) {
        let waits = |m: &Member| m.joining.is_some();
        match self.phase {
            Phase::Empty => assert!(self.members.is_empty(), "an empty group has no members"),
            Phase::Preparing { first, .. } => {
                assert!(!self.members.is_empty(), "somebody is waited for or waits");
                let all = first.is_none() && self.given.is_empty() && self.members.values().all(waits);
                assert!(!all, "nobody waits for somebody who is there");
                assert!(self.members.values().all(|m| m.syncing.is_none()), "nobody has a part between two generations");
            }
            Phase::Completing { .. } | Phase::Stable => {
                assert!(!self.members.values().any(waits), "the generation that was waited for is here");
                assert!(self.members.values().all(|m| m.can(&self.protocol)), "all can do what was chosen");
            }
        }
        if self.phase == Phase::Stable {
            assert!(self.members.values().all(|m| m.syncing.is_none()), "everybody has their part");
        }
        assert_eq!(self.members.contains_key(&self.leader), !self.members.is_empty(), "a member leads");
        let named = self.members.iter().filter_map(|(id, m)| Some((m.instance.clone()?, id.clone())));
        assert_eq!(named.collect::<BTreeMap<_, _>>(), self.instances, "names are those of members");
        assert!(self.given.keys().all(|id| !self.members.contains_key(id)), "an id is given once");
    }
}

pub(super) fn unknown(member: &str) -> Refused {
    Refused::UnknownMember { member: member.to_owned() }
}
