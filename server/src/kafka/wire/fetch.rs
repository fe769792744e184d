//! Fetch, 4 to 18: reads record batches.
//!
//! ```text
//!   request:    | replica i32 to 14 | max wait ms i32 | min bytes i32 | max bytes i32 | isolation i8 | session i32 from 7 | its epoch i32 from 7 |
//!               | topics | forgotten from 7 | rack from 11 |
//!               | tags from 12: 0 cluster id, nullable, 1 | replica i32 | its epoch i64 | tags | from 15 |
//!   topic:      | name to 12, id from 13 | partitions | tags from 12 |
//!   partition:  | index i32 | leader epoch i32 from 9 | offset i64 | last fetched epoch i32 from 12 | log start i64 from 5 | max bytes i32 |
//!               | tags from 12 |
//!   forgotten:  | name to 12, id from 13 | array of i32 | tags from 12 |
//!
//!   answer:     | throttle ms i32 | error i16 from 7 | session i32 from 7 | topics | tags from 12: 0 where leaders live, from 16 |
//!   topic:      | name to 12, id from 13 | partitions | tags from 12 |
//!   partition:  | index i32 | error i16 | high watermark i64 | last stable offset i64 | log start i64 from 5 |
//!               | aborted, array or null of | producer i64 | first offset i64 | tags from 12 | | replica to read from i32 from 11 | records |
//!               | tags from 12: 0 | diverging epoch i32 | its end i64 | tags |, 1 | leader i32 | its epoch i32 | tags | |
//! ```
//!
//! Flexible from 12 on. What versions 17 and 18 add is said by replicas, in tagged fields of partitions, and left. Records are pieces of the answer, never copied unless they are small. Kafka's
//! schemas: FetchRequest, FetchResponse.

use super::{
    Api, CurrentLeader, Element, NodeEndpoint, Reader, StrBytes, Table, TopicKey, WireError, Writer, header::Answer, table::least_bytes,
    versions::FETCH,
};
use bytes::Bytes;

/// What stands for an epoch, an offset or a broker that is not known.
pub const UNKNOWN: i32 = -1;

/// From here on a topic has its id instead of its name.
const IDS_SINCE: i16 = 13;
/// From here on a replica says in a tagged field that it is one.
const REPLICAS_TAGGED_SINCE: i16 = 15;
/// From here on an answer says where leaders live.
const ENDPOINTS_SINCE: i16 = 16;

/// From here on a replica says in which directory it is, and from here on what it knows to be safe; consumers have neither.
const DIRECTORIES_SINCE: i16 = 17;
const WATERMARKS_SINCE: i16 = 18;

/// What a client wants to read.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// The cluster it believes to talk to, from version 12 on; consumers do not say it.
    pub cluster_id: Option<StrBytes>,
    /// The replica that asks, -1 for a consumer.
    pub replica_id: i32,
    /// How long it waits for `min_bytes`, in milliseconds.
    pub max_wait_ms: i32,
    /// How many bytes are worth an answer.
    pub min_bytes: i32,
    /// The most bytes of records it wants in all. The first batch comes all the same if it is longer (KIP-74).
    pub max_bytes: i32,
    /// 1 if it wants committed records only, 0 if all.
    pub isolation_level: i8,
    /// The session it continues (KIP-227), 0 for none.
    pub session_id: i32,
    /// The number of this request in its session; -1 for none, 0 for a new one.
    pub session_epoch: i32,
    /// What it wants; in a session, only what has changed.
    pub topics: Table<FetchTopic>,
    /// What it does not want any more, in a session.
    pub forgotten: Table<ForgottenTopic>,
    /// Where it stands, empty if it does not say (KIP-392).
    pub rack_id: StrBytes,
}

/// What it wants of one topic.
#[derive(Clone, Debug)]
pub struct FetchTopic {
    /// Which one.
    pub topic: TopicKey,
    /// What it wants of the partitions.
    pub partitions: Table<FetchPartition>,
}

/// What it wants of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPartition {
    /// Its number.
    pub partition: i32,
    /// The leader's epoch as the client knows it, -1 if it does not (KIP-320).
    pub current_leader_epoch: i32,
    /// Where to read from.
    pub fetch_offset: i64,
    /// The epoch of the record before, -1 if unknown (KIP-595).
    pub last_fetched_epoch: i32,
    /// Where the replica that asks begins, -1 for a consumer.
    pub log_start_offset: i64,
    /// The most bytes of records it wants.
    pub partition_max_bytes: i32,
}

/// What it does not want any more of one topic.
#[derive(Clone, Debug)]
pub struct ForgottenTopic {
    /// Which one.
    pub topic: TopicKey,
    /// The partitions' numbers.
    pub partitions: Table<i32>,
}

impl FetchRequest {
    /// Reads a body.
    pub fn read(body: Bytes, version: i16) -> Result<Self, WireError> {
        FETCH.check(version)?;
        let r = &mut Reader::new(body, FETCH.is_flexible(version));
        let in_session = version >= 7;
        let mut this = Self {
            cluster_id: None,
            replica_id: if version < REPLICAS_TAGGED_SINCE { r.i32("ReplicaId")? } else { UNKNOWN },
            max_wait_ms: r.i32("MaxWaitMs")?,
            min_bytes: r.i32("MinBytes")?,
            max_bytes: r.i32("MaxBytes")?,
            isolation_level: r.i8("IsolationLevel")?,
            session_id: if in_session { r.i32("SessionId")? } else { 0 },
            session_epoch: if in_session { r.i32("SessionEpoch")? } else { UNKNOWN },
            topics: Table::read(r, version, "Topics")?,
            forgotten: if in_session { Table::read(r, version, "ForgottenTopicsData")? } else { Table::empty() },
            rack_id: if version >= 11 { r.string("RackId")? } else { StrBytes::new() },
        };
        r.tags("FetchRequest", |tag, r| {
            match tag {
                0 => this.cluster_id = r.nullable_string("ClusterId")?,
                1 if version >= REPLICAS_TAGGED_SINCE => {
                    this.replica_id = r.i32("ReplicaId")?;
                    r.i64("ReplicaEpoch")?;
                    r.skip_tags("ReplicaState")?;
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(this)
    }
}

impl Element for FetchTopic {
    fn least_bytes(version: i16) -> usize {
        TopicKey::least_bytes_with_array(FETCH.is_flexible(version), version >= IDS_SINCE)
    }

    fn read(r: &mut Reader, version: i16) -> Result<Self, WireError> {
        let this = Self { topic: TopicKey::read(r, version >= IDS_SINCE)?, partitions: Table::read(r, version, "Partitions")? };
        r.skip_tags("FetchTopic")?;
        Ok(this)
    }
}

impl Element for FetchPartition {
    fn least_bytes(version: i16) -> usize {
        let later = [(5, size_of::<i64>()), (9, size_of::<i32>()), (12, size_of::<i32>())];
        let later = later.iter().filter(|(from, _)| version >= *from).map(|(_, bytes)| bytes).sum::<usize>();
        least_bytes(FETCH.is_flexible(version), 2 * size_of::<i32>() + size_of::<i64>() + later, 0, 0)
    }

    fn read(r: &mut Reader, version: i16) -> Result<Self, WireError> {
        let this = Self {
            partition: r.i32("Partition")?,
            current_leader_epoch: if version >= 9 { r.i32("CurrentLeaderEpoch")? } else { UNKNOWN },
            fetch_offset: r.i64("FetchOffset")?,
            last_fetched_epoch: if version >= 12 { r.i32("LastFetchedEpoch")? } else { UNKNOWN },
            log_start_offset: if version >= 5 { r.i64("LogStartOffset")? } else { i64::from(UNKNOWN) },
            partition_max_bytes: r.i32("PartitionMaxBytes")?,
        };
        r.tags("FetchPartition", |tag, r| match tag {
            0 if version >= DIRECTORIES_SINCE => r.topic_id("ReplicaDirectoryId").map(|_| true),
            1 if version >= WATERMARKS_SINCE => r.i64("HighWatermark").map(|_| true),
            _ => Ok(false),
        })?;
        Ok(this)
    }
}

impl Element for ForgottenTopic {
    fn least_bytes(version: i16) -> usize {
        TopicKey::least_bytes_with_array(FETCH.is_flexible(version), version >= IDS_SINCE)
    }

    fn read(r: &mut Reader, version: i16) -> Result<Self, WireError> {
        let this = Self { topic: TopicKey::read(r, version >= IDS_SINCE)?, partitions: Table::read(r, version, "Partitions")? };
        r.skip_tags("ForgottenTopic")?;
        Ok(this)
    }
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchResponse {
    /// How long the client is not listened to, in milliseconds (KIP-219).
    pub throttle_time_ms: i32,
    /// 0, or what is wrong with the session, from version 7 on.
    pub error_code: i16,
    /// The session, 0 for none, which a server may always say.
    pub session_id: i32,
    /// By topic.
    pub topics: Vec<FetchedTopic>,
    /// Where those live that lead what was asked for in vain, from version 16 on.
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// What was read of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedTopic {
    /// Which one, as the request said it.
    pub topic: TopicKey,
    /// By partition.
    pub partitions: Vec<FetchedPartition>,
}

/// What was read of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedPartition {
    /// Its number.
    pub partition_index: i32,
    /// 0, or why there are no records.
    pub error_code: i16,
    /// The offset behind the last record that is safe, -1 if unknown.
    pub high_watermark: i64,
    /// The offset behind the last record that belongs to no open transaction, -1 if unknown.
    pub last_stable_offset: i64,
    /// Where the partition begins, -1 if unknown; from version 5 on.
    pub log_start_offset: i64,
    /// Where the epoch that the client read last ends, if its records are not ours (KIP-595), or [`EpochEnd::UNKNOWN`]; from version 12 on.
    pub diverging_epoch: EpochEnd,
    /// Who leads now, if the client does not know it, or [`CurrentLeader::UNKNOWN`]; from version 12 on.
    pub current_leader: CurrentLeader,
    /// Transactions among the records that were given up; `None` for clients that read all.
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// A replica that the client should rather ask (KIP-392), -1 for none; from version 11 on.
    pub preferred_read_replica: i32,
    /// Whole record batches that lie one behind the other, in any number of slices. The first may begin before the offset that was asked
    /// for.
    pub records: Vec<Bytes>,
}

/// Where an epoch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The epoch.
    pub epoch: i32,
    /// The offset behind its last record.
    pub end_offset: i64,
}

impl EpochEnd {
    /// Nothing is said of an epoch.
    pub const UNKNOWN: Self = Self { epoch: UNKNOWN, end_offset: UNKNOWN as i64 };
}

/// A transaction that was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose it was.
    pub producer_id: i64,
    /// Its first offset.
    pub first_offset: i64,
}

impl FetchedPartition {
    fn write(&self, w: &mut Writer, version: i16) {
        w.i32(self.partition_index);
        w.i16(self.error_code);
        w.i64(self.high_watermark);
        w.i64(self.last_stable_offset);
        if version >= 5 {
            w.i64(self.log_start_offset);
        }
        w.nullable_count(self.aborted_transactions.as_ref().map(Vec::len));
        for aborted in self.aborted_transactions.iter().flatten() {
            w.i64(aborted.producer_id);
            w.i64(aborted.first_offset);
            w.no_tags();
        }
        if version >= 11 {
            w.i32(self.preferred_read_replica);
        }
        w.records(Some(&self.records));
        w.tags(|tags| {
            tags.put(0, self.diverging_epoch, EpochEnd::UNKNOWN, |w, end| {
                w.i32(end.epoch);
                w.i64(end.end_offset);
                w.no_tags();
            });
            self.current_leader.put(tags, 1);
        });
    }
}

impl Answer for FetchResponse {
    const API: Api = FETCH;

    fn write(&self, w: &mut Writer, version: i16) {
        w.i32(self.throttle_time_ms);
        if version >= 7 {
            w.i16(self.error_code);
            w.i32(self.session_id);
        }
        w.array(&self.topics, |w, topic| {
            topic.topic.write(w);
            w.array(&topic.partitions, |w, partition| partition.write(w, version));
            w.no_tags();
        });
        w.tags(|tags| {
            if version >= ENDPOINTS_SINCE {
                NodeEndpoint::put_all(&self.node_endpoints, tags, 0);
            }
        });
    }
}

#[cfg(test)]
mod tests;
