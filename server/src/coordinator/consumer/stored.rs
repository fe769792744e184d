//! A group of Kafka's newer sort as it is written into `__consumer_offsets`: its epoch, and each member with what it owns and is meant to own. So members go on
//! with the same epochs when another node looks after them.
//!
//! Partitions are written as runs: three numbers each, all of which are small.
//!
//! ```text
//!   | topic id, less that of the run before | first partition, less the end of the run before in the same topic | partitions |
//! ```

use super::{asked::Slot, member::Member, share::Assignor};
use prost::Message;
use std::{collections::BTreeSet, sync::Arc};

/// Most partitions that a record may say: more than there can be.
const SLOTS_MAX: u64 = 4 * crate::catalog::PARTITIONS_MAX as u64;

/// What is written of the group itself.
#[derive(Clone, PartialEq, Eq, Message)]
pub(in super::super) struct StoredEpoch {
    #[prost(int32, tag = "1")]
    pub(super) epoch: i32,
}

/// One of its members.
#[derive(Clone, PartialEq, Eq, Message)]
pub(in super::super) struct StoredMember {
    #[prost(string, optional, tag = "1")]
    instance: Option<String>,
    #[prost(string, optional, tag = "2")]
    rack: Option<String>,
    #[prost(string, tag = "3")]
    client_id: String,
    #[prost(string, tag = "4")]
    host: String,
    #[prost(uint32, tag = "5")]
    rebalance_timeout_ms: u32,
    #[prost(string, repeated, tag = "6")]
    names: Vec<String>,
    #[prost(string, optional, tag = "7")]
    regex: Option<String>,
    #[prost(string, optional, tag = "8")]
    assignor: Option<String>,
    #[prost(sint32, tag = "9")]
    epoch: i32,
    #[prost(sint32, tag = "10")]
    epoch_before: i32,
    #[prost(uint64, repeated, tag = "11")]
    assigned: Vec<u64>,
    #[prost(uint64, repeated, tag = "12")]
    revoking: Vec<u64>,
    /// Of the target, what is not in `assigned`; and what is in that alone.
    #[prost(uint64, repeated, tag = "13")]
    to_come: Vec<u64>,
    #[prost(uint64, repeated, tag = "14")]
    to_go: Vec<u64>,
}

impl StoredMember {
    pub(super) fn new(member: &Member) -> Self {
        Self {
            instance: member.instance.clone(),
            rack: member.rack.clone(),
            client_id: member.client_id.clone(),
            host: member.host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            names: member.names.iter().map(ToString::to_string).collect(),
            regex: member.regex.clone(),
            assignor: member.assignor.map(|assignor| assignor.name().to_owned()),
            epoch: member.epoch,
            epoch_before: member.epoch_before,
            assigned: runs(member.assigned.iter()),
            revoking: runs(member.revoking.iter()),
            to_come: runs(member.target.difference(&member.assigned)),
            to_go: runs(member.assigned.difference(&member.target)),
        }
    }

    /// The member as it was; nothing if the partitions make no sense.
    pub(super) fn read_back(self) -> Option<Member> {
        let assigned = slots(&self.assigned)?;
        let to_go = slots(&self.to_go)?;
        let mut target = slots(&self.to_come)?;
        target.extend(assigned.difference(&to_go));
        Some(Member {
            instance: self.instance,
            rack: self.rack,
            client_id: self.client_id,
            host: self.host,
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            names: self.names.into_iter().map(Arc::from).collect(),
            regex: self.regex,
            assignor: self.assignor.as_deref().and_then(Assignor::named),
            epoch: self.epoch,
            epoch_before: self.epoch_before,
            target,
            assigned,
            revoking: slots(&self.revoking)?,
            ..Member::default()
        })
    }
}

pub(super) fn runs<'a>(slots: impl Iterator<Item = &'a Slot>) -> Vec<u64> {
    let mut runs: Vec<u64> = Vec::new();
    let (mut topic_id, mut end) = (0, 0);
    for slot in slots {
        let partition = u64::from(slot.partition);
        if slot.topic_id == topic_id && partition == end && !runs.is_empty() {
            *runs.last_mut().expect("it is not empty") += 1;
        } else {
            let gap = if slot.topic_id == topic_id { partition - end } else { partition };
            runs.extend([slot.topic_id - topic_id, gap, 1]);
        }
        (topic_id, end) = (slot.topic_id, partition + 1);
    }
    runs
}

pub(super) fn slots(runs: &[u64]) -> Option<BTreeSet<Slot>> {
    let mut slots = BTreeSet::new();
    let (mut topic_id, mut end) = (0_u64, 0_u64);
    let (triples, []) = runs.as_chunks::<3>() else { return None };
    for [topic, gap, count] in triples {
        if *topic != 0 {
            end = 0;
        }
        topic_id = topic_id.checked_add(*topic)?;
        let first = end.checked_add(*gap)?;
        end = first.checked_add(*count)?;
        if *count > SLOTS_MAX - slots.len() as u64 || end > u64::from(u32::MAX) {
            return None;
        }
        slots.extend((first..end).map(|partition| Slot { topic_id, partition: partition as u32 }));
    }
    Some(slots)
}
