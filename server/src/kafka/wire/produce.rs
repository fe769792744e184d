//! Produce, 3 to 13: appends record batches.
//!
//! ```text
//!   request:    | transactional id, nullable | acks i16 | timeout ms i32 | topics | tags from 9 |
//!   topic:      | name to 12, id from 13 | partitions | tags from 9 |
//!   partition:  | index i32 | records, nullable | tags from 9 |
//!
//!   answer:     | topics | throttle ms i32 | tags from 9: 0 where leaders live, from 10 |
//!   topic:      | name to 12, id from 13 | partitions | tags from 9 |
//!   partition:  | index i32 | error i16 | base offset i64 | append time i64 | log start i64 from 5 |
//!               | bad records from 8, array of | index in the batch i32 | why, nullable | tags from 9 | | why, nullable, from 8 |
//!               | tags from 9: 0 | leader i32 | its epoch i32 | tags |, from 10 |
//! ```
//!
//! Flexible from 9 on. From 10 on a client that asked the wrong broker is told who leads (KIP-951); from 12 on a batch
//! of a transaction brings its partition into it (KIP-890). Records are one slice of the request; they are looked into elsewhere. Kafka's schemas: ProduceRequest,
//! ProduceResponse.
//!
//! Versions below 3 carried older message sets. They are advertised and refused, see [`Api::advertised_min`].

use super::{
    Api, CurrentLeader, Element, NodeEndpoint, Reader, StrBytes, Table, TopicKey, WireError, Writer, header::Answer, table::least_bytes,
    versions::PRODUCE,
};
use bytes::Bytes;

/// From here on a topic has its id instead of its name.
const IDS_SINCE: i16 = 13;
/// From here on it is told who leads.
const LEADERS_SINCE: i16 = 10;

/// What a client wants to have appended.
#[derive(Clone, Debug)]
pub struct ProduceRequest {
    /// The transaction's id, if there is one.
    pub transactional_id: Option<StrBytes>,
    /// 1 or -1 (all): when the batches are safe; 0: no answer at all is expected, not even to errors.
    pub acks: i16,
    /// How long the client waits, in milliseconds.
    pub timeout_ms: i32,
    /// Where to.
    pub topics: Table<ProduceTopic>,
}

/// What is for one topic.
#[derive(Clone, Debug)]
pub struct ProduceTopic {
    /// Which one.
    pub topic: TopicKey,
    /// What is for its partitions.
    pub partitions: Table<ProducePartition>,
}

/// What is for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducePartition {
    /// Its number.
    pub index: i32,
    /// Record batches, of which Kafka takes one; a slice of the request, as it came.
    pub records: Option<Bytes>,
}

impl ProduceRequest {
    /// Reads a body.
    pub fn read(body: Bytes, version: i16) -> Result<Self, WireError> {
        PRODUCE.check(version)?;
        let r = &mut Reader::new(body, PRODUCE.is_flexible(version));
        let this = Self {
            transactional_id: r.nullable_string("TransactionalId")?,
            acks: r.i16("Acks")?,
            timeout_ms: r.i32("TimeoutMs")?,
            topics: Table::read(r, version, "TopicData")?,
        };
        r.skip_tags("ProduceRequest")?;
        Ok(this)
    }
}

impl Element for ProduceTopic {
    fn least_bytes(version: i16) -> usize {
        TopicKey::least_bytes_with_array(PRODUCE.is_flexible(version), version >= IDS_SINCE)
    }

    fn read(r: &mut Reader, version: i16) -> Result<Self, WireError> {
        let this = Self { topic: TopicKey::read(r, version >= IDS_SINCE)?, partitions: Table::read(r, version, "PartitionData")? };
        r.skip_tags("TopicProduceData")?;
        Ok(this)
    }
}

impl Element for ProducePartition {
    fn least_bytes(version: i16) -> usize {
        least_bytes(PRODUCE.is_flexible(version), size_of::<i32>(), 0, 1)
    }

    fn read(r: &mut Reader, _: i16) -> Result<Self, WireError> {
        let this = Self { index: r.i32("Index")?, records: r.nullable_bytes("Records")? };
        r.skip_tags("PartitionProduceData")?;
        Ok(this)
    }
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProduceResponse {
    /// By topic.
    pub topics: Vec<ProduceTopicResponse>,
    /// How long the client is not listened to, in milliseconds (KIP-219).
    pub throttle_time_ms: i32,
    /// Where those live that lead what was asked for in vain, from version 10 on.
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// What became of what was for one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceTopicResponse {
    /// Which one, as the request said it.
    pub topic: TopicKey,
    /// By partition.
    pub partitions: Vec<ProducePartitionResponse>,
}

/// What became of what was for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducePartitionResponse {
    /// Its number.
    pub index: i32,
    /// 0, or why nothing was appended.
    pub error_code: i16,
    /// The offset of the first record, of the first time if the batch was sent before; -1 after an error.
    pub base_offset: i64,
    /// When it was appended, in milliseconds since 1970, if the topic's timestamps are the server's; else -1.
    pub log_append_time_ms: i64,
    /// Where the partition begins, -1 if unknown.
    pub log_start_offset: i64,
    /// The records for which the batch was refused, from version 8 on.
    pub record_errors: Vec<RecordError>,
    /// What people are told of the error, from version 8 on.
    pub error_message: Option<StrBytes>,
    /// Who leads now, if the client does not know it, or [`CurrentLeader::UNKNOWN`]; from version 10 on.
    pub current_leader: CurrentLeader,
}

/// A record for which a batch was refused (KIP-467).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// The record's number in its batch.
    pub batch_index: i32,
    /// What is wrong with it.
    pub message: Option<StrBytes>,
}

impl ProducePartitionResponse {
    fn write(&self, w: &mut Writer, version: i16) {
        w.i32(self.index);
        w.i16(self.error_code);
        w.i64(self.base_offset);
        w.i64(self.log_append_time_ms);
        if version >= 5 {
            w.i64(self.log_start_offset);
        }
        if version >= 8 {
            w.array(&self.record_errors, |w, error| {
                w.i32(error.batch_index);
                w.nullable_string(error.message.as_deref());
                w.no_tags();
            });
            w.nullable_string(self.error_message.as_deref());
        }
        w.tags(|tags| {
            if version >= LEADERS_SINCE {
                self.current_leader.put(tags, 0);
            }
        });
    }
}

impl Answer for ProduceResponse {
    const API: Api = PRODUCE;

    fn write(&self, w: &mut Writer, version: i16) {
        w.array(&self.topics, |w, topic| {
            topic.topic.write(w);
            w.array(&topic.partitions, |w, partition| partition.write(w, version));
            w.no_tags();
        });
        w.i32(self.throttle_time_ms);
        w.tags(|tags| {
            if version >= LEADERS_SINCE {
                NodeEndpoint::put_all(&self.node_endpoints, tags, 0);
            }
        });
    }
}

#[cfg(test)]
mod tests;
