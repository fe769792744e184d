//! How a group's partitions are shared out: the assignors that Kafka's servers have, by their names. Pure; the same arguments give the same answer.

use super::{asked::Slot, member::Member};
use crate::coordinator::{
    Part, TopicView,
    assignor::{self, Subscriber},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A way of sharing out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Assignor {
    /// Evenly, over all topics together, moving as little as can be: what a group does that asks for nothing else.
    Uniform,
    /// Each topic in stretches, one per member: partitions of the same number in different topics go to the same member.
    Range,
}

impl Assignor {
    pub(super) const ALL: [Self; 2] = [Self::Uniform, Self::Range];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assignor| assignor.name() == name)
    }
}

/// The way that most members prefer.
pub(super) fn preferred(members: &BTreeMap<Arc<str>, Member>) -> Assignor {
    let votes = |assignor| members.values().filter(|m| m.assignor == Some(assignor)).count();
    if votes(Assignor::Range) > votes(Assignor::Uniform) { Assignor::Range } else { Assignor::Uniform }
}

/// Who should own what, in the order of the members.
pub(super) fn share(topics: &BTreeMap<Arc<str>, TopicView>, members: &BTreeMap<Arc<str>, Member>) -> Vec<BTreeSet<Slot>> {
    match preferred(members) {
        Assignor::Uniform => uniform(topics, members),
        Assignor::Range => range(topics, members),
    }
}

fn uniform(topics: &BTreeMap<Arc<str>, TopicView>, members: &BTreeMap<Arc<str>, Member>) -> Vec<BTreeSet<Slot>> {
    let names: BTreeMap<u64, &Arc<str>> = topics.iter().map(|(name, view)| (view.topic_id, name)).collect();
    let part = |slot: &Slot| Some(Part { topic: Arc::clone(names.get(&slot.topic_id)?), partition: slot.partition });
    let had: Vec<BTreeSet<Part>> = members.values().map(|m| m.target.iter().filter_map(part).collect()).collect();
    let held: Vec<BTreeSet<Part>> = members.values().map(|m| m.held().filter_map(part).collect()).collect();
    let subscribers: Vec<Subscriber<'_>> =
        members.values().zip(had.iter().zip(&held)).map(|(m, (had, holds))| Subscriber { topics: &m.topics, had, holds }).collect();
    let counts = topics.iter().map(|(name, view)| (Arc::clone(name), view.partitions)).collect();
    let slot = |part: Part| Some(Slot { topic_id: topics.get(&part.topic)?.topic_id, partition: part.partition });
    assignor::assign(&counts, &subscribers).into_iter().map(|parts| parts.into_iter().filter_map(slot).collect()).collect()
}

fn range(topics: &BTreeMap<Arc<str>, TopicView>, members: &BTreeMap<Arc<str>, Member>) -> Vec<BTreeSet<Slot>> {
    let mut shares = vec![BTreeSet::new(); members.len()];
    // Those with names come first, so that nothing moves when they come back as others.
    let mut order: Vec<(usize, (&Arc<str>, &Member))> = members.iter().enumerate().collect();
    order.sort_by_key(|(_, (id, m))| (m.instance.is_none(), m.instance.as_deref().unwrap_or(id)));
    let mut subscribers: BTreeMap<&Arc<str>, Vec<usize>> = BTreeMap::new();
    for (n, (_, member)) in order {
        member.topics.iter().for_each(|topic| subscribers.entry(topic).or_default().push(n));
    }
    for (topic, takers) in subscribers {
        let Some(view) = topics.get(topic) else { continue };
        let count = takers.len() as u32;
        let (each, more) = (view.partitions / count, view.partitions % count);
        let mut next = 0;
        for (place, n) in takers.into_iter().enumerate() {
            let end = next + each + u32::from((place as u32) < more);
            shares[n].extend((next..end).map(|partition| Slot { topic_id: view.topic_id, partition }));
            next = end;
        }
    }
    shares
}
