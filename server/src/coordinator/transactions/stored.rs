//! A transactional id as it is written into `__consumer_offsets`.

use super::transaction::{State, Transaction};
use crate::coordinator::Part;
use prost::Message;
use std::sync::Arc;

/// See the module.
#[derive(Clone, PartialEq, Eq, Message)]
pub(in super::super) struct StoredTransaction {
    #[prost(uint64, tag = "1")]
    producer_id: u64,
    #[prost(sint32, tag = "2")]
    epoch: i32,
    #[prost(message, optional, tag = "3")]
    before: Option<StoredWho>,
    #[prost(uint32, tag = "4")]
    timeout_ms: u32,
    #[prost(enumeration = "State", tag = "5")]
    state: i32,
    #[prost(uint32, tag = "6")]
    number: u32,
    #[prost(message, optional, tag = "7")]
    ends_as: Option<StoredWho>,
    #[prost(message, repeated, tag = "8")]
    partitions: Vec<StoredPart>,
    #[prost(string, repeated, tag = "9")]
    groups: Vec<String>,
    #[prost(sint64, tag = "10")]
    began_ms: i64,
    #[prost(sint64, tag = "11")]
    changed_ms: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct StoredWho {
    #[prost(uint64, tag = "1")]
    producer_id: u64,
    #[prost(sint32, tag = "2")]
    epoch: i32,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct StoredPart {
    #[prost(string, tag = "1")]
    topic: String,
    #[prost(uint64, tag = "2")]
    topic_id: u64,
    #[prost(uint32, tag = "3")]
    partition: u32,
}

impl StoredTransaction {
    pub(super) fn new(is: &Transaction) -> Self {
        let who = |(producer_id, epoch): (u64, i16)| StoredWho { producer_id, epoch: epoch.into() };
        let part =
            |(part, topic_id): (&Part, &u64)| StoredPart { topic: part.topic.to_string(), topic_id: *topic_id, partition: part.partition };
        Self {
            producer_id: is.who.0,
            epoch: is.who.1.into(),
            before: is.before.map(who),
            timeout_ms: is.timeout_ms,
            state: is.state.into(),
            number: is.number,
            ends_as: is.state.is_ending().then(|| who(is.ends_as)),
            partitions: is.partitions.iter().map(part).collect(),
            groups: is.groups.iter().cloned().collect(),
            began_ms: is.began_ms,
            changed_ms: is.changed_ms,
        }
    }

    /// As it was; nothing if it makes no sense.
    pub(super) fn read_back(self) -> Option<Transaction> {
        let epoch = |epoch: i32| i16::try_from(epoch).ok().filter(|epoch| *epoch >= 0);
        let who = |who: Option<StoredWho>| match who {
            Some(who) => epoch(who.epoch).map(|epoch| Some((who.producer_id, epoch))),
            None => Some(None),
        };
        let part = |part: StoredPart| (Part { topic: Arc::from(part.topic), partition: part.partition }, part.topic_id);
        let state = State::try_from(self.state).ok()?;
        let ends_as = who(self.ends_as)?;
        if state.is_ending() && ends_as.is_none() {
            return None;
        }
        Some(Transaction {
            who: (self.producer_id, epoch(self.epoch)?),
            before: who(self.before)?,
            timeout_ms: self.timeout_ms,
            state,
            number: self.number,
            ends_as: ends_as.unwrap_or_default(),
            partitions: self.partitions.into_iter().map(part).collect(),
            groups: self.groups.into_iter().collect(),
            began_ms: self.began_ms,
            changed_ms: self.changed_ms,
            ..Transaction::default()
        })
    }
}
