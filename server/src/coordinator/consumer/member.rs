//! One member of a group of Kafka's newer sort: what it owns, and how it comes to own what it is meant to.

use super::{
    asked::{Beat, Slot},
    share::Assignor,
};
use crate::coordinator::SESSION_MS_MAX;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The epoch of a member that went away for a while, and comes back under its name.
pub(super) const AWAY: i32 = -2;
/// What a member takes beside its topics and partitions, in bytes.
const MEMBER_BYTES: usize = 1_024;
/// What a topic that a member subscribes to takes, its name not counted.
const TOPIC_BYTES: usize = 64;
/// What a partition takes: meant for, given to and looked up.
const SLOT_BYTES: usize = 192;

/// Who may read which partition: what members own, and what they have not given up yet.
pub(super) type Owners = BTreeMap<Slot, Arc<str>>;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Member {
    pub(super) instance: Option<String>,
    pub(super) rack: Option<String>,
    pub(super) client_id: String,
    pub(super) host: String,
    pub(super) rebalance_timeout_ms: u32,
    pub(super) names: BTreeSet<Arc<str>>,
    pub(super) regex: Option<String>,
    /// Those of its names that there are, and those that its pattern matches.
    pub(super) topics: BTreeSet<Arc<str>>,
    pub(super) assignor: Option<Assignor>,
    /// The group's epoch that it has come to; [`AWAY`] if it went away for a while.
    pub(super) epoch: i32,
    /// The one before, by which it speaks if it did not get the last answer.
    pub(super) epoch_before: i32,
    /// What it is meant to own in the end.
    pub(super) target: BTreeSet<Slot>,
    /// What it was told to own: as much of the target as nobody else may be reading.
    pub(super) assigned: BTreeSet<Slot>,
    /// What it was told to give up, and has not yet.
    pub(super) revoking: BTreeSet<Slot>,
    /// Of `assigned`, what it has not said yet that it owns. Until it has, it is given nothing more: it may be on its way to own that still when it says that it owns
    /// what it was given before, and that is not to be taken for having given it up.
    pub(super) granted: BTreeSet<Slot>,
    /// Silent until then, it is removed. Nothing for one that was read back, until the clock is looked at.
    pub(super) deadline_ms: Option<u64>,
    /// It gives up what it should until then, or is removed.
    pub(super) revoke_by_ms: Option<u64>,
}

impl Member {
    /// Takes over what the member says of itself. Whether it wants other topics, or to have them shared out in another way.
    pub(super) fn update(&mut self, beat: &Beat, names: Option<BTreeSet<Arc<str>>>, assignor: Option<Assignor>) -> bool {
        self.client_id.clone_from(&beat.client_id);
        self.host.clone_from(&beat.host);
        if beat.rack.is_some() {
            self.rack.clone_from(&beat.rack);
        }
        if let Some(timeout_ms) = beat.rebalance_timeout_ms {
            self.rebalance_timeout_ms = timeout_ms.clamp(1, SESSION_MS_MAX);
        }
        let before = (self.names.clone(), self.regex.clone(), self.assignor);
        if let Some(names) = names {
            self.names = names;
        }
        if let Some(regex) = &beat.regex {
            self.regex = Some(regex.clone()).filter(|regex| !regex.is_empty());
        }
        if assignor.is_some() {
            self.assignor = assignor;
        }
        before != (self.names.clone(), self.regex.clone(), self.assignor)
    }

    /// A step towards the target: first it gives up what others are meant to have, then it comes to the group's epoch and gets what is free. `owned` is all that it
    /// says it owns, if it does. Whether anything has changed.
    pub(super) fn reconcile(&mut self, id: &Arc<str>, epoch: i32, owned: Option<&BTreeSet<Slot>>, owners: &mut Owners) -> bool {
        // Who says nothing of what it owns may own it still.
        let owns = |slots: &BTreeSet<Slot>| owned.is_none_or(|owned| !slots.is_disjoint(owned));
        self.granted.retain(|slot| owned.is_none_or(|owned| !owned.contains(slot)));
        let mut changed = false;
        if !self.revoking.is_empty() {
            if owns(&self.revoking) {
                return false;
            }
            for slot in std::mem::take(&mut self.revoking) {
                owners.remove(&slot);
            }
            // For what it is to give up next it has as long again.
            self.revoke_by_ms = None;
            changed = true;
        }
        let give_up: BTreeSet<Slot> = self.assigned.difference(&self.target).copied().collect();
        if !give_up.is_empty() {
            self.assigned.retain(|slot| !give_up.contains(slot));
            self.granted.retain(|slot| !give_up.contains(slot));
            if owns(&give_up) {
                self.revoking = give_up;
                return true;
            }
            for slot in &give_up {
                owners.remove(slot);
            }
            changed = true;
        }
        let may_have_more = self.granted.is_empty();
        let free = self.target.difference(&self.assigned).filter(|slot| may_have_more && !owners.contains_key(slot));
        let free: Vec<Slot> = free.copied().collect();
        changed |= !free.is_empty() || self.epoch != epoch;
        for slot in free {
            self.assigned.insert(slot);
            self.granted.insert(slot);
            owners.insert(slot, Arc::clone(id));
        }
        if self.epoch != epoch {
            self.epoch_before = self.epoch;
            self.epoch = epoch;
        }
        changed
    }

    /// What it may be reading.
    pub(super) fn held(&self) -> impl Iterator<Item = &Slot> {
        self.assigned.iter().chain(&self.revoking)
    }

    /// Whether it has come to where it is meant to.
    pub(super) fn is_settled(&self, epoch: i32) -> bool {
        (self.epoch == epoch || self.epoch == AWAY) && self.revoking.is_empty() && self.assigned == self.target
    }

    /// About what it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        let topics = self.names.iter().chain(&self.topics).map(|name| TOPIC_BYTES + name.len());
        let slots = self.target.len() + self.assigned.len() + self.revoking.len();
        MEMBER_BYTES + topics.sum::<usize>() + self.regex.as_ref().map_or(0, String::len) + slots * SLOT_BYTES
    }
}
