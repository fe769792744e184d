//! What the coordinator writes into `__consumer_offsets`: one record per group and partition.
//!
//! ```text
//!   key    | version 1 (a byte) | prost Key   {group, topic, partition}   |
//!   value  | version 1 (a byte) | prost Value {offset, metadata, topic_id, committer, sequence} |
//! ```
//!
//! The topic's id is in the value, so that a position never outlives its topic into another one of the same name. Committer and
//! sequence are those of a commit from outside, so that an older one of the same client that comes late is known, whoever leads then.

use crate::{
    catalog::OFFSETS,
    keyed::{BadRecord, Record},
};
use bytes::{BufMut, Bytes};
use prost::Message;

const VERSION: u8 = 1;

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
}

pub(super) fn write(key: &Key, value: Option<&Value>) -> Record {
    Record { key: versioned(key), value: value.map(versioned) }
}

pub(super) fn read(key: &[u8], value: Option<&[u8]>) -> Result<(Key, Option<Value>), BadRecord> {
    Ok((parse(key, key)?, value.map(|v| parse(key, v)).transpose()?))
}

fn versioned(message: &impl Message) -> Bytes {
    let mut bytes = Vec::with_capacity(1 + message.encoded_len());
    bytes.put_u8(VERSION);
    bytes.extend_from_slice(&message.encode_to_vec());
    bytes.into()
}

fn parse<M: Message + Default>(key: &[u8], bytes: &[u8]) -> Result<M, BadRecord> {
    match bytes.split_first() {
        Some((&VERSION, message)) => M::decode(message).map_err(|e| BadRecord::new(OFFSETS, key, e.to_string())),
        Some((v, _)) => Err(BadRecord::new(OFFSETS, key, format!("it has version {v}, and only {VERSION} is known here"))),
        None => Err(BadRecord::new(OFFSETS, key, "it is empty")),
    }
}
