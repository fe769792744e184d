//! What the coordinator writes into `__consumer_offsets`: one record per group and partition, one per classic group with members, and
//! one per group of Kafka's newer sort and each of its members; one per transactional id, and one per position that waits for the end of a transaction.
//!
//! ```text
//!   a position
//!   key    | version 1 (a byte) | prost Key   {group, topic, partition}   |
//!   value  | version 1 (a byte) | prost Value {offset, metadata, topic_id, committer, sequence, leader_epoch} |
//!   a classic group
//!   key    | version 2 (a byte) | prost GroupKey {group}   |
//!   value  | version 1 (a byte) | prost StoredGroup {generation, kind, way of sharing out, leader, members with their parts} |
//!   a group of the newer sort
//!   key    | version 3 (a byte) | prost GroupKey {group}   |
//!   value  | version 1 (a byte) | prost StoredEpoch {epoch} |
//!   a member of one
//!   key    | version 4 (a byte) | prost MemberKey {group, member}   |
//!   value  | version 1 (a byte) | prost StoredMember {what it says of itself, its epoch, what it owns, what it is meant to own} |
//!   a transactional id
//!   key    | version 5 (a byte) | prost TransactionKey {id}   |
//!   value  | version 1 (a byte) | prost StoredTransaction {producer, epochs, timeout, state, number, partitions, groups} |
//!   a position that waits
//!   key    | version 6 (a byte) | prost PendingKey {group, topic, partition, producer_id}   |
//!   value  | version 1 (a byte) | prost Pending {position, number} |
//! ```
//!
//! The topic's id is in the value, so that a position never outlives its topic into another one of the same name. Committer and
//! sequence are those of a commit from outside, so that an older one of the same client that comes late is known, whoever leads then.

use super::{
    classic::StoredGroup,
    consumer::{StoredEpoch, StoredMember},
    transactions::StoredTransaction,
};
use crate::{
    catalog::OFFSETS,
    keyed::{BadRecord, Record},
};
use bytes::{BufMut, Bytes};
use prost::Message;

const VERSION: u8 = 1;
const GROUP_KEY_VERSION: u8 = 2;
const EPOCH_KEY_VERSION: u8 = 3;
const MEMBER_KEY_VERSION: u8 = 4;
const TRANSACTION_KEY_VERSION: u8 = 5;
const PENDING_KEY_VERSION: u8 = 6;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Message)]
pub(super) struct Key {
    #[prost(string, tag = "1")]
    pub(super) group: String,
    #[prost(string, tag = "2")]
    pub(super) topic: String,
    #[prost(uint32, tag = "3")]
    pub(super) partition: u32,
}

/// A position as it is kept.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Value {
    #[prost(uint64, tag = "1")]
    pub(super) offset: u64,
    #[prost(string, tag = "2")]
    pub(super) metadata: String,
    #[prost(uint64, tag = "3")]
    pub(super) topic_id: u64,
    #[prost(uint64, tag = "4")]
    pub(super) committer: u64,
    #[prost(uint64, tag = "5")]
    pub(super) sequence: u64,
    /// As the client has it; not there in what was written before it was kept.
    #[prost(sint32, optional, tag = "6")]
    pub(super) leader_epoch: Option<i32>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct GroupKey {
    #[prost(string, tag = "1")]
    group: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct MemberKey {
    #[prost(string, tag = "1")]
    group: String,
    #[prost(string, tag = "2")]
    member: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct TransactionKey {
    #[prost(string, tag = "1")]
    id: String,
}

/// A position that waits, and for the transaction of whom.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Message)]
pub(super) struct PendingKey {
    #[prost(string, tag = "1")]
    pub(super) group: String,
    #[prost(string, tag = "2")]
    pub(super) topic: String,
    #[prost(uint32, tag = "3")]
    pub(super) partition: u32,
    #[prost(uint64, tag = "4")]
    pub(super) producer_id: u64,
}

/// What it will be, and after which of the producer's transactions.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Pending {
    #[prost(message, required, tag = "1")]
    pub(super) value: Value,
    #[prost(uint32, tag = "2")]
    pub(super) number: u32,
}

/// A record; without a value it says that what it is about is no more.
pub(super) enum Entry {
    /// How far a group has come in a partition.
    Position(Key, Option<Value>),
    /// A classic group's newest generation.
    Group(String, Option<StoredGroup>),
    /// The epoch of a group of the newer sort.
    Epoch(String, Option<StoredEpoch>),
    /// A member of one, by the names of both.
    Member(String, String, Option<StoredMember>),
    /// What becomes of the transactions of an id.
    Transaction(String, Option<StoredTransaction>),
    /// A position that waits.
    Pending(PendingKey, Option<Pending>),
}

fn record<M: Message>(key_version: u8, key: &impl Message, value: Option<&M>) -> Record {
    Record { key: versioned(key_version, key), value: value.map(|value| versioned(VERSION, value)) }
}

pub(super) fn write_transaction(id: &str, value: Option<&StoredTransaction>) -> Record {
    record(TRANSACTION_KEY_VERSION, &TransactionKey { id: id.to_owned() }, value)
}

pub(super) fn write_pending(key: &PendingKey, value: Option<&Pending>) -> Record {
    record(PENDING_KEY_VERSION, key, value)
}

pub(super) fn write_group(group: &str, value: Option<&StoredGroup>) -> Record {
    record(GROUP_KEY_VERSION, &GroupKey { group: group.to_owned() }, value)
}

pub(super) fn write_epoch(group: &str, value: Option<&StoredEpoch>) -> Record {
    record(EPOCH_KEY_VERSION, &GroupKey { group: group.to_owned() }, value)
}

pub(super) fn write_member(group: &str, member: &str, value: Option<&StoredMember>) -> Record {
    record(MEMBER_KEY_VERSION, &MemberKey { group: group.to_owned(), member: member.to_owned() }, value)
}

pub(super) fn write(key: &Key, value: Option<&Value>) -> Record {
    record(VERSION, key, value)
}

pub(super) fn read(key: &[u8], value: Option<&[u8]>) -> Result<Entry, BadRecord> {
    match key.first() {
        Some(&GROUP_KEY_VERSION) => {
            let GroupKey { group } = parse(key, GROUP_KEY_VERSION, key)?;
            Ok(Entry::Group(group, read_value(key, value)?))
        }
        Some(&EPOCH_KEY_VERSION) => {
            let GroupKey { group } = parse(key, EPOCH_KEY_VERSION, key)?;
            Ok(Entry::Epoch(group, read_value(key, value)?))
        }
        Some(&MEMBER_KEY_VERSION) => {
            let MemberKey { group, member } = parse(key, MEMBER_KEY_VERSION, key)?;
            Ok(Entry::Member(group, member, read_value(key, value)?))
        }
        Some(&TRANSACTION_KEY_VERSION) => {
            let TransactionKey { id } = parse(key, TRANSACTION_KEY_VERSION, key)?;
            Ok(Entry::Transaction(id, read_value(key, value)?))
        }
        Some(&PENDING_KEY_VERSION) => Ok(Entry::Pending(parse(key, PENDING_KEY_VERSION, key)?, read_value(key, value)?)),
        _ => Ok(Entry::Position(parse(key, VERSION, key)?, read_value(key, value)?)),
    }
}

fn read_value<M: Message + Default>(key: &[u8], value: Option<&[u8]>) -> Result<Option<M>, BadRecord> {
    value.map(|value| parse(key, VERSION, value)).transpose()
}

fn versioned(version: u8, message: &impl Message) -> Bytes {
    let mut bytes = Vec::with_capacity(1 + message.encoded_len());
    bytes.put_u8(version);
    bytes.extend_from_slice(&message.encode_to_vec());
    bytes.into()
}

fn parse<M: Message + Default>(key: &[u8], version: u8, bytes: &[u8]) -> Result<M, BadRecord> {
    match bytes.split_first() {
        Some((v, message)) if *v == version => M::decode(message).map_err(|e| BadRecord::new(OFFSETS, key, e.to_string())),
        Some((v, _)) => Err(BadRecord::new(OFFSETS, key, format!("it has version {v}, and only {version} is known here"))),
        None => Err(BadRecord::new(OFFSETS, key, "it is empty")),
    }
}
