//! One group of Kafka's newer sort: who belongs to it, what each is meant to own, and who may own what.
//!
//! Every change of members, subscriptions or topics begins a new *epoch*, and with it everybody is meant to own something anew: the *target*. Each member goes there
//! by itself, from heartbeat to heartbeat ([`Member::reconcile`]), and whoever is there already is not disturbed.
//!
//! What keeps a partition from having two readers: it is given to a member only while no other was told to own it, or was and has not said since that it has
//! given it up. Who is told that is in `owners`.

use super::{
    HEARTBEAT_MS, HEARTBEAT_WAITING_MS, MEMBERS_PER_GROUP_MAX, SESSION_MS,
    asked::{Beat, Beaten},
    member::{AWAY, Member, Owners},
    share::{self, Assignor},
    subscription,
};
use crate::coordinator::{TopicView, classic::Refused};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The epoch by which a member leaves.
pub(super) const LEAVE: i32 = -1;

/// What the topics are.
pub(super) type Topics = BTreeMap<Arc<str>, TopicView>;

/// See the module.
#[derive(Debug, Default)]
pub(in super::super) struct Group {
    pub(super) epoch: i32,
    pub(in super::super) members: BTreeMap<Arc<str>, Member>,
    /// The ids of members that come back by a name.
    pub(super) instances: BTreeMap<String, Arc<str>>,
    pub(super) owners: Owners,
    /// Members that are not as they are written, and those that are gone; the empty id is the group itself.
    pub(super) changed: BTreeSet<Arc<str>>,
    /// About what it takes in memory.
    pub(in super::super) bytes: usize,
}

impl Group {
    /// Takes a heartbeat of a member that stays.
    pub(super) fn beat(&mut self, now_ms: u64, beat: &Beat, said: Said, topics: &Topics) -> Result<Beaten, Refused> {
        let (id, is_new) = self.speaker(beat)?;
        let before = self.members.get(&id).map(|m| (m.assigned.clone(), m.epoch));
        let Said { names, assignor } = said;
        let member = self.members.entry(Arc::clone(&id)).or_default();
        if member.update(beat, names, assignor) || is_new {
            member.topics = subscription::resolve(member, topics);
            self.changed.insert(Arc::clone(&id));
            self.assign(topics);
        }
        let member = self.members.get_mut(&id).expect("it was found or made above");
        if member.reconcile(&id, self.epoch, beat.owned.as_ref(), &mut self.owners) {
            self.changed.insert(Arc::clone(&id));
        }
        let timeout_ms = u64::from(member.rebalance_timeout_ms);
        member.deadline_ms = Some(now_ms.saturating_add(SESSION_MS));
        let gives_up = !member.revoking.is_empty();
        member.revoke_by_ms = gives_up.then(|| member.revoke_by_ms.unwrap_or(now_ms.saturating_add(timeout_ms)));
        let says_all = beat.rebalance_timeout_ms.is_some() && (beat.names.is_some() || beat.regex.is_some()) && beat.owned.is_some();
        // Who joins, or speaks by an epoch that is over, did not get the last answer.
        let is_news =
            says_all || beat.epoch == 0 || before.is_none_or(|(assigned, epoch)| assigned != member.assigned || epoch != beat.epoch);
        let heartbeat_ms = if member.is_settled(self.epoch) { HEARTBEAT_MS } else { HEARTBEAT_WAITING_MS };
        let assigned = is_news.then(|| member.assigned.clone());
        let beaten = Beaten { member: id.to_string(), epoch: member.epoch, heartbeat_ms, assigned };
        self.weigh();
        Ok(beaten)
    }

    /// A member leaves: for good, or for a while if it has a name to come back under.
    pub(super) fn leave(&mut self, beat: &Beat, topics: &Topics) -> Result<(), Refused> {
        let id = match &beat.instance {
            None => self.members.get_key_value(&*beat.member).map(|(id, _)| Arc::clone(id)).ok_or_else(|| unknown(&beat.member))?,
            Some(instance) => self.by_name(&beat.member, instance)?,
        };
        if beat.epoch == LEAVE {
            self.remove(&[id], topics);
            return Ok(());
        }
        let member = self.members.get_mut(&id).expect("it was found above");
        // Whoever is gone reads nothing any more.
        for slot in std::mem::take(&mut member.revoking) {
            self.owners.remove(&slot);
        }
        (member.epoch, member.revoke_by_ms) = (AWAY, None);
        self.changed.insert(id);
        self.weigh();
        Ok(())
    }

    /// Removes members; what they owned is free at once.
    pub(super) fn remove(&mut self, gone: &[Arc<str>], topics: &Topics) {
        if gone.is_empty() {
            return;
        }
        for id in gone {
            let Some(member) = self.members.remove(id) else { continue };
            member.held().for_each(|slot| drop(self.owners.remove(slot)));
            if let Some(instance) = &member.instance {
                self.instances.remove(instance);
            }
            self.changed.insert(Arc::clone(id));
        }
        self.assign(topics);
    }

    /// Members that were silent for too long, or do not give up what they should.
    pub(super) fn overdue(&mut self, now_ms: u64) -> Vec<Arc<str>> {
        let mut overdue = Vec::new();
        for (id, member) in &mut self.members {
            let deadline_ms = *member.deadline_ms.get_or_insert(now_ms.saturating_add(SESSION_MS));
            if member.revoke_by_ms.is_none() && !member.revoking.is_empty() {
                member.revoke_by_ms = Some(now_ms.saturating_add(u64::from(member.rebalance_timeout_ms)));
            }
            if deadline_ms <= now_ms || member.revoke_by_ms.is_some_and(|by| by <= now_ms) {
                overdue.push(Arc::clone(id));
            }
        }
        overdue
    }

    /// Topics have come, gone or grown. Those of a group that was read back are looked at for the first time, and need not have changed.
    pub(super) fn topics_changed(&mut self, topics: &Topics) {
        let mut patterns = subscription::Patterns::default();
        for member in self.members.values_mut() {
            member.topics = subscription::resolve_with(member, topics, &mut patterns);
        }
        if !self.is_sound(topics) {
            self.assign(topics);
        }
        self.weigh();
    }

    /// Whether somebody speaks who may keep or ask for positions.
    pub(super) fn knows(&self, member: &str, epoch: i32) -> Result<(), Refused> {
        let known = self.members.get(member).ok_or_else(|| unknown(member))?;
        if known.epoch == epoch { Ok(()) } else { Err(Refused::StaleEpoch { is: known.epoch, said: epoch }) }
    }

    /// What it does, in a word.
    pub(in super::super) fn state(&self) -> &'static str {
        if self.members.values().all(|m| m.is_settled(self.epoch)) { "stable" } else { "reconciling" }
    }

    /// Takes in a member as it was written.
    pub(super) fn read_back(&mut self, id: &str, member: Option<Member>) {
        if self.members.remove(id).is_some() {
            // What was another's meanwhile, by its record or by its name, stays that one's.
            self.owners.retain(|_, owner| **owner != *id);
            self.instances.retain(|_, named| **named != *id);
        }
        let Some(member) = member else { return };
        // Of a group that was over, its own record may have been deleted and those of members not yet.
        self.epoch = self.epoch.max(member.epoch);
        let id: Arc<str> = id.into();
        member.held().for_each(|slot| drop(self.owners.insert(*slot, Arc::clone(&id))));
        if let Some(instance) = &member.instance {
            self.instances.insert(instance.clone(), Arc::clone(&id));
        }
        self.members.insert(id, member);
    }

    /// Who speaks, and whether it is new here.
    fn speaker(&mut self, beat: &Beat) -> Result<(Arc<str>, bool), Refused> {
        if let Some(instance) = beat.instance.as_ref().filter(|instance| beat.epoch != 0 || self.instances.contains_key(*instance)) {
            if beat.epoch == 0 {
                return self.come_back(beat, instance).map(|id| (id, false));
            }
            let id = self.by_name(&beat.member, instance)?;
            self.check_epoch(&id, beat)?;
            return Ok((id, false));
        }
        match self.members.get_key_value(&*beat.member).map(|(id, _)| Arc::clone(id)) {
            Some(id) if beat.epoch == 0 => Ok((id, false)),
            Some(id) => self.check_epoch(&id, beat).map(|()| (id, false)),
            None if beat.epoch != 0 => Err(unknown(&beat.member)),
            None if self.members.len() >= MEMBERS_PER_GROUP_MAX => {
                Err(Refused::Full { what: "members of a group", max: MEMBERS_PER_GROUP_MAX })
            }
            None => {
                let id: Arc<str> = beat.member.as_str().into();
                if let Some(instance) = &beat.instance {
                    self.instances.insert(instance.clone(), Arc::clone(&id));
                }
                self.members.insert(Arc::clone(&id), Member { instance: beat.instance.clone(), ..Member::default() });
                Ok((id, true))
            }
        }
    }

    /// Somebody is there under a name that is known: it takes the place of the one before, if that went away or is itself.
    fn come_back(&mut self, beat: &Beat, instance: &str) -> Result<Arc<str>, Refused> {
        let old = self.instances.get(instance).cloned().ok_or_else(|| unknown(&beat.member))?;
        if *old == *beat.member {
            return Ok(old);
        }
        if self.members.get(&old).is_some_and(|m| m.epoch != AWAY) || self.members.contains_key(&*beat.member) {
            return Err(Refused::Unreleased { instance: instance.to_owned() });
        }
        let mut member = self.members.remove(&old).ok_or_else(|| unknown(&beat.member))?;
        let id: Arc<str> = beat.member.as_str().into();
        (member.epoch, member.epoch_before) = (0, 0);
        member.held().for_each(|slot| drop(self.owners.insert(*slot, Arc::clone(&id))));
        self.instances.insert(instance.to_owned(), Arc::clone(&id));
        self.members.insert(Arc::clone(&id), member);
        self.changed.extend([old, Arc::clone(&id)]);
        Ok(id)
    }

    fn by_name(&self, member: &str, instance: &str) -> Result<Arc<str>, Refused> {
        match self.instances.get(instance) {
            None => Err(unknown(member)),
            Some(id) if **id != *member => Err(Refused::Fenced { instance: instance.to_owned() }),
            Some(id) => Ok(Arc::clone(id)),
        }
    }

    /// A member speaks by its epoch; or by the one before, if it did not get the last answer, and then owns nothing that is not its own.
    fn check_epoch(&self, id: &Arc<str>, beat: &Beat) -> Result<(), Refused> {
        let member = self.members.get(id).ok_or_else(|| unknown(id))?;
        let has_its_own = || beat.owned.as_ref().is_some_and(|owned| owned.is_subset(&member.assigned));
        if beat.epoch == member.epoch || (beat.epoch == member.epoch_before && beat.epoch < member.epoch && has_its_own()) {
            return Ok(());
        }
        Err(Refused::FencedEpoch { is: member.epoch, said: beat.epoch })
    }

    /// Begins an epoch: everybody is meant to own something anew.
    fn assign(&mut self, topics: &Topics) {
        // What counts is where members are meant to go; at the last number there is, they all have come to it.
        self.epoch = self.epoch.saturating_add(1);
        self.changed.insert("".into());
        let targets = share::share(topics, &self.members);
        for ((id, member), target) in self.members.iter_mut().zip(targets) {
            if member.target != target {
                member.target = target;
                self.changed.insert(Arc::clone(id));
            }
        }
        self.weigh();
    }

    /// Whether everything that is subscribed to is meant for one member, who subscribes to it.
    fn is_sound(&self, topics: &Topics) -> bool {
        let mut meant = BTreeSet::new();
        let wanted: BTreeSet<&Arc<str>> = self.members.values().flat_map(|m| &m.topics).collect();
        let all: usize = wanted.iter().filter_map(|topic| topics.get(*topic)).map(|view| view.partitions as usize).sum();
        let each = self.members.values().all(|member| {
            let own: BTreeMap<u64, u32> =
                member.topics.iter().filter_map(|topic| topics.get(topic)).map(|view| (view.topic_id, view.partitions)).collect();
            member.target.iter().all(|slot| own.get(&slot.topic_id).is_some_and(|count| slot.partition < *count) && meant.insert(*slot))
        });
        each && meant.len() == all
    }

    fn weigh(&mut self) {
        self.bytes = self.members.values().map(Member::bytes).sum();
    }

    pub(super) fn assignor(&self) -> Assignor {
        share::preferred(&self.members)
    }

    /// Panics if an invariant is broken.
    pub(in super::super) fn check(&self, topics: &Topics) {
        assert!(self.is_sound(topics), "everything is meant for one member who wants it");
        let mut held = 0;
        for (id, member) in &self.members {
            assert!(member.epoch <= self.epoch, "{id} is ahead of its group");
            assert!(member.assigned.is_disjoint(&member.revoking), "{id} keeps what it gives up");
            for slot in member.held() {
                assert_eq!(self.owners.get(slot), Some(id), "{slot:?} has one possible reader");
                held += 1;
            }
        }
        assert_eq!(held, self.owners.len(), "nothing is held by somebody who is gone");
        let named = self.members.iter().filter_map(|(id, m)| Some((m.instance.clone()?, Arc::clone(id))));
        assert_eq!(named.collect::<BTreeMap<_, _>>(), self.instances, "names are those of members");
    }
}

/// What a heartbeat says, checked for shape.
pub(super) struct Said {
    pub(super) names: Option<BTreeSet<Arc<str>>>,
    pub(super) assignor: Option<Assignor>,
}

pub(super) fn unknown(member: &str) -> Refused {
    Refused::UnknownMember { member: member.to_owned() }
}
