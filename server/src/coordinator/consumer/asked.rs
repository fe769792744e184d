//! What members of a group of Kafka's newer sort say, what they are answered, and what people are told of them.

use std::collections::{BTreeMap, BTreeSet};

/// A partition of a topic by the topic's id: a topic that comes anew under its name is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// The topic.
    pub topic_id: u64,
    /// The partition's number.
    pub partition: u32,
}

/// Partitions by their topics, both in order.
#[must_use]
pub fn by_topic(slots: &BTreeSet<Slot>) -> BTreeMap<u64, Vec<u32>> {
    let mut topics: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    slots.iter().for_each(|slot| topics.entry(slot.topic_id).or_default().push(slot.partition));
    topics
}

/// A member's sign of life (ConsumerGroupHeartbeat). What is `None` is as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// The group.
    pub group: String,
    /// Who it is: an id that it, or the coordinator, made up.
    pub member: String,
    /// The name under which it comes back (KIP-345).
    pub instance: Option<String>,
    /// The last epoch that it was told; 0 to join, -1 to leave, -2 to go away for a while.
    pub epoch: i32,
    /// Where it stands; kept, and told to people.
    pub rack: Option<String>,
    /// Told to give something up, it does so within this time, in ms.
    pub rebalance_timeout_ms: Option<u32>,
    /// The topics that it subscribes to.
    pub names: Option<Vec<String>>,
    /// Those whose whole names this matches, too; empty for none.
    pub regex: Option<String>,
    /// How it would have partitions shared out.
    pub assignor: Option<String>,
    /// All that it owns.
    pub owned: Option<BTreeSet<Slot>>,
    /// What it calls itself.
    pub client_id: String,
    /// Where it connects from, for people.
    pub host: String,
}

/// What a member is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beaten {
    /// Who it is.
    pub member: String,
    /// Its epoch.
    pub epoch: i32,
    /// When it should say something next, in ms from now.
    pub heartbeat_ms: u32,
    /// What it is to own, if that is news: what it owns beyond, it is to give up.
    pub assigned: Option<BTreeSet<Slot>>,
}

/// Partitions of one topic, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The topic's id.
    pub topic_id: u64,
    /// Its name; empty if it is gone.
    pub topic: String,
    /// Partitions.
    pub partitions: Vec<u32>,
}

/// A group, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// `stable` or `reconciling`.
    pub state: &'static str,
    /// Grows with every change of members, subscriptions or topics.
    pub epoch: i32,
    /// How it shares out.
    pub assignor: &'static str,
    /// Its members.
    pub members: Vec<DescribedMember>,
}

/// A member, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its id.
    pub member: String,
    /// The name under which it comes back.
    pub instance: Option<String>,
    /// Where it stands.
    pub rack: Option<String>,
    /// Its epoch.
    pub epoch: i32,
    /// What it calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub host: String,
    /// The topics that it subscribes to by their names.
    pub names: Vec<String>,
    /// What the names of others must match.
    pub regex: Option<String>,
    /// What it owns, without what it gives up.
    pub assigned: Vec<Parts>,
    /// What it is to own in the end.
    pub target: Vec<Parts>,
}
