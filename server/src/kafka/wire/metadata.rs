//! Metadata, 0 to 12: which brokers there are, which topics, and who leads their partitions.
//!
//! ```text
//!   request:  | topics, array or null of | id 16 B from 10 | name, nullable from 10 | tags from 9 | | auto create bool from 4 |
//!             | cluster operations bool 8 to 10 | topic operations bool from 8 | tags from 9 |
//!
//!   answer:   | throttle ms i32 from 3 | brokers | cluster id, nullable, from 2 | controller i32 from 1 | topics |
//!             | cluster operations i32 8 to 10 | tags from 9 |
//!   broker:   | id i32 | host | port i32 | rack, nullable, from 1 | tags from 9 |
//!   topic:    | error i16 | name, nullable in 12 | id 16 B from 10 | internal bool from 1 | partitions | operations i32 from 8 | tags from 9 |
//!   partition: | error i16 | index i32 | leader i32 | leader epoch i32 from 7 | replicas | in sync | offline from 5 | tags from 9 |
//! ```
//!
//! Flexible from 9 on. Kafka's schemas: MetadataRequest, MetadataResponse.

use super::{Api, Element, Reader, StrBytes, Table, TopicId, WireError, Writer, header::Answer, table::least_bytes, versions::METADATA};
use bytes::Bytes;

/// A bit set of operations that nobody asked for.
pub const OPERATIONS_UNKNOWN: i32 = i32::MIN;

/// What a client asks.
#[derive(Clone, Debug)]
pub struct MetadataRequest {
    /// The topics it wants, or `None` for all. None at all is an empty table; in version 0, which has no null, that means all and is `None`
    /// here.
    pub topics: Option<Table<MetadataRequestTopic>>,
    /// Whether topics that are not there are to be created, if that is switched on. True below version 4.
    pub allow_auto_topic_creation: bool,
    /// Whether it wants to know what it may do to the cluster.
    pub include_cluster_authorized_operations: bool,
    /// Whether it wants to know what it may do to the topics.
    pub include_topic_authorized_operations: bool,
}

/// A topic that a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataRequestTopic {
    /// Its id, from version 10 on, or [`TopicId::ZERO`]. Kafka heeds it from 12 on.
    pub topic_id: TopicId,
    /// Its name; `None` if the id is to be used.
    pub name: Option<StrBytes>,
}

impl Element for MetadataRequestTopic {
    fn least_bytes(version: i16) -> usize {
        least_bytes(METADATA.is_flexible(version), if version >= 10 { size_of::<TopicId>() } else { 0 }, 1, 0)
    }

    fn read(r: &mut Reader, version: i16) -> Result<Self, WireError> {
        let topic_id = if version >= 10 { r.topic_id("TopicId")? } else { TopicId::ZERO };
        let name = if version >= 10 { r.nullable_string("Name")? } else { Some(r.string("Name")?) };
        r.skip_tags("MetadataRequestTopic")?;
        Ok(Self { topic_id, name })
    }
}

impl MetadataRequest {
    /// Reads a body.
    pub fn read(body: Bytes, version: i16) -> Result<Self, WireError> {
        METADATA.check(version)?;
        let r = &mut Reader::new(body, METADATA.is_flexible(version));
        let topics = match version {
            0 => Some(Table::read(r, version, "Topics")?).filter(|topics| !topics.is_empty()),
            _ => Table::read_nullable(r, version, "Topics")?,
        };
        let allow_auto_topic_creation = version < 4 || r.bool("AllowAutoTopicCreation")?;
        let include_cluster_authorized_operations = (8..=10).contains(&version) && r.bool("IncludeClusterAuthorizedOperations")?;
        let include_topic_authorized_operations = version >= 8 && r.bool("IncludeTopicAuthorizedOperations")?;
        r.skip_tags("MetadataRequest")?;
        Ok(Self { topics, allow_auto_topic_creation, include_cluster_authorized_operations, include_topic_authorized_operations })
    }
}

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataResponse {
    /// How long the client is not listened to, in milliseconds (KIP-219).
    pub throttle_time_ms: i32,
    /// The brokers, under addresses at which this client reaches them.
    pub brokers: Vec<Broker>,
    /// Which cluster it is.
    pub cluster_id: Option<StrBytes>,
    /// A broker that administrative requests may go to; it must be one of the brokers, or -1.
    pub controller_id: i32,
    /// The topics.
    pub topics: Vec<Topic>,
    /// What the client may do to the cluster, or [`OPERATIONS_UNKNOWN`].
    pub cluster_authorized_operations: i32,
}

/// A server, as clients know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its number.
    pub node_id: i32,
    /// Its name or address.
    pub host: StrBytes,
    /// Its port.
    pub port: i32,
    /// Where it stands.
    pub rack: Option<StrBytes>,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// 0, or why there is nothing to be told of it.
    pub error_code: i16,
    /// Its name; `None`, which is an empty name below version 12, only if it was asked for by an id that is not known.
    pub name: Option<StrBytes>,
    /// Its id.
    pub topic_id: TopicId,
    /// Whether it is the system's own.
    pub is_internal: bool,
    /// Its partitions.
    pub partitions: Vec<Partition>,
    /// What the client may do to it, or [`OPERATIONS_UNKNOWN`].
    pub topic_authorized_operations: i32,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// 0, or why it cannot be used.
    pub error_code: i16,
    /// Its number.
    pub partition_index: i32,
    /// Its leader, -1 if it has none.
    pub leader_id: i32,
    /// The leader's epoch, -1 if unknown; it must never go back (KIP-320).
    pub leader_epoch: i32,
    /// The brokers with replicas of it.
    pub replica_nodes: Vec<i32>,
    /// Those of them that have caught up.
    pub isr_nodes: Vec<i32>,
    /// Those of them that are down.
    pub offline_replicas: Vec<i32>,
}

impl Broker {
    fn write(&self, w: &mut Writer, version: i16) {
        w.i32(self.node_id);
        w.string(&self.host);
        w.i32(self.port);
        if version >= 1 {
            w.nullable_string(self.rack.as_deref());
        }
        w.no_tags();
    }
}

impl Topic {
    fn write(&self, w: &mut Writer, version: i16) {
        w.i16(self.error_code);
        match &self.name {
            None if version >= 12 => w.nullable_string(None),
            name => w.string(name.as_deref().unwrap_or_default()),
        }
        if version >= 10 {
            w.topic_id(self.topic_id);
        }
        if version >= 1 {
            w.bool(self.is_internal);
        }
        w.array(&self.partitions, |w, partition| partition.write(w, version));
        if version >= 8 {
            w.i32(self.topic_authorized_operations);
        }
        w.no_tags();
    }
}

impl Partition {
    fn write(&self, w: &mut Writer, version: i16) {
        w.i16(self.error_code);
        w.i32(self.partition_index);
        w.i32(self.leader_id);
        if version >= 7 {
            w.i32(self.leader_epoch);
        }
        w.array(&self.replica_nodes, |w, node| w.i32(*node));
        w.array(&self.isr_nodes, |w, node| w.i32(*node));
        if version >= 5 {
            w.array(&self.offline_replicas, |w, node| w.i32(*node));
        }
        w.no_tags();
    }
}

impl Answer for MetadataResponse {
    const API: Api = METADATA;

    fn write(&self, w: &mut Writer, version: i16) {
        if version >= 3 {
            w.i32(self.throttle_time_ms);
        }
        w.array(&self.brokers, |w, broker| broker.write(w, version));
        if version >= 2 {
            w.nullable_string(self.cluster_id.as_deref());
        }
        if version >= 1 {
            w.i32(self.controller_id);
        }
        w.array(&self.topics, |w, topic| topic.write(w, version));
        if (8..=10).contains(&version) {
            w.i32(self.cluster_authorized_operations);
        }
        w.no_tags();
    }
}

#[cfg(test)]
mod tests;
