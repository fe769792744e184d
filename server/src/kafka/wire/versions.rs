//! Which APIs there are, and which of their versions are spoken.
//!
//! One row each, with the numbers of Kafka 4.1's message schemas; the newest version is lower where the newer ones name topics by their ids
//! alone, which are not kept yet. A row here says that the bytes are understood. What is answered is for the front to say: it advertises
//! the rows that it has a handler for, and no others ([`ApiVersionsResponse`](super::api_versions::ApiVersionsResponse)).

use super::WireError;

/// What stands for "in no version" where a first flexible version is asked for.
pub const NEVER: i16 = i16::MAX;

/// One API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Api {
    /// Its number.
    pub key: i16,
    /// Kafka's name of it.
    pub name: &'static str,
    /// The oldest version that is understood.
    pub min: i16,
    /// The newest version that is understood.
    pub max: i16,
    /// The first version with compact lengths and tagged fields (KIP-482), [`NEVER`] if none has them.
    pub flexible: i16,
}

impl Api {
    const fn new(key: i16, name: &'static str, min: i16, max: i16, flexible: i16) -> Self {
        assert!(0 <= min && min <= max, "the versions of an API are a range");
        Self { key, name, min, max, flexible }
    }

    /// Whether a version is flexible.
    #[must_use]
    pub const fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible
    }

    /// Refuses versions that are not understood.
    pub fn check(&self, version: i16) -> Result<(), WireError> {
        let Self { name, min, max, .. } = *self;
        if (min..=max).contains(&version) { Ok(()) } else { Err(WireError::Version { name, version, min, max }) }
    }

    /// The oldest version that is advertised. For Produce it is 0, though 0 to 2 are refused: librdkafka before 2.8 compresses nothing, or
    /// falls back to older messages, at a server that does not name them (KAFKA-18659). So it is for SaslHandshake, without whose version 0 librdkafka
    /// takes the server for one of before Kafka 0.10.
    #[must_use]
    pub const fn advertised_min(&self) -> i16 {
        if self.key == PRODUCE.key || self.key == SASL_HANDSHAKE.key { 0 } else { self.min }
    }

    /// The version of its request headers: 2, with tagged fields, for flexible versions, else 1.
    #[must_use]
    pub const fn request_header(&self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// The version of its answers' headers: 1, with tagged fields, for flexible versions, else 0; always 0 for ApiVersions, as who asks
    /// does not know yet what it can be answered in (KIP-511).
    #[must_use]
    pub const fn response_header(&self, version: i16) -> i16 {
        if self.is_flexible(version) && self.key != API_VERSIONS.key { 1 } else { 0 }
    }
}

/// Appends record batches. From 13 on by topic ids.
pub const PRODUCE: Api = Api::new(0, "Produce", 3, 13, 9);
/// Reads record batches. From 13 on by topic ids.
pub const FETCH: Api = Api::new(1, "Fetch", 4, 18, 12);
/// Offsets by time.
pub const LIST_OFFSETS: Api = Api::new(2, "ListOffsets", 1, 7, 6);
/// Brokers, topics and who leads their partitions.
pub const METADATA: Api = Api::new(3, "Metadata", 0, 12, 9);
/// Stores how far a group has come. From 10 on by topic ids.
pub const OFFSET_COMMIT: Api = Api::new(8, "OffsetCommit", 2, 9, 8);
/// Tells how far groups have come. From 10 on by topic ids.
pub const OFFSET_FETCH: Api = Api::new(9, "OffsetFetch", 1, 9, 6);
/// Who looks after a group or a transaction.
pub const FIND_COORDINATOR: Api = Api::new(10, "FindCoordinator", 0, 6, 3);
/// Joins a group.
pub const JOIN_GROUP: Api = Api::new(11, "JoinGroup", 0, 9, 6);
/// Stays in a group.
pub const HEARTBEAT: Api = Api::new(12, "Heartbeat", 0, 4, 4);
/// Leaves a group.
pub const LEAVE_GROUP: Api = Api::new(13, "LeaveGroup", 0, 5, 4);
/// Hands out, or fetches, what a member of a group reads.
pub const SYNC_GROUP: Api = Api::new(14, "SyncGroup", 0, 5, 4);
/// A client chooses how to show who it is. Version 0 is followed by bytes without a header.
pub const SASL_HANDSHAKE: Api = Api::new(17, "SaslHandshake", 1, 1, NEVER);
/// It shows it.
pub const SASL_AUTHENTICATE: Api = Api::new(36, "SaslAuthenticate", 0, 2, 2);
/// What groups are like.
pub const DESCRIBE_GROUPS: Api = Api::new(15, "DescribeGroups", 0, 6, 5);
/// Which groups there are.
pub const LIST_GROUPS: Api = Api::new(16, "ListGroups", 0, 5, 3);
/// This table.
pub const API_VERSIONS: Api = Api::new(18, "ApiVersions", 0, 4, 3);
/// Creates topics. Version 7 answers with topic ids.
pub const CREATE_TOPICS: Api = Api::new(19, "CreateTopics", 2, 7, 5);
/// Deletes topics. From 6 on also by topic ids.
pub const DELETE_TOPICS: Api = Api::new(20, "DeleteTopics", 1, 5, 4);
/// Moves the beginning of a partition.
pub const DELETE_RECORDS: Api = Api::new(21, "DeleteRecords", 0, 2, 2);
/// An id for an idempotent producer, or one with transactions.
pub const INIT_PRODUCER_ID: Api = Api::new(22, "InitProducerId", 0, 5, 2);
/// Where a leader's epoch ended.
pub const OFFSET_FOR_LEADER_EPOCH: Api = Api::new(23, "OffsetForLeaderEpoch", 2, 4, 4);
/// Partitions come into a transaction. From 4 on between brokers alone.
pub const ADD_PARTITIONS_TO_TXN: Api = Api::new(24, "AddPartitionsToTxn", 0, 3, 3);
/// A group comes into a transaction.
pub const ADD_OFFSETS_TO_TXN: Api = Api::new(25, "AddOffsetsToTxn", 0, 4, 3);
/// Ends a transaction. From 5 on by the second protocol of transactions (KIP-890).
pub const END_TXN: Api = Api::new(26, "EndTxn", 0, 5, 3);
/// Ends transactions in partitions.
pub const WRITE_TXN_MARKERS: Api = Api::new(27, "WriteTxnMarkers", 1, 1, 1);
/// Stores how far a group has come, as part of a transaction. From 5 on by the second protocol of transactions.
pub const TXN_OFFSET_COMMIT: Api = Api::new(28, "TxnOffsetCommit", 0, 5, 3);
/// Which producers a partition knows.
pub const DESCRIBE_PRODUCERS: Api = Api::new(61, "DescribeProducers", 0, 0, 0);
/// What becomes of transactions.
pub const DESCRIBE_TRANSACTIONS: Api = Api::new(65, "DescribeTransactions", 0, 0, 0);
/// Which transactional ids there are. From 2 on by a pattern, too.
pub const LIST_TRANSACTIONS: Api = Api::new(66, "ListTransactions", 0, 2, 0);
/// Who may do what.
pub const DESCRIBE_ACLS: Api = Api::new(29, "DescribeAcls", 1, 3, 2);
/// Lets principals do something, or forbids it.
pub const CREATE_ACLS: Api = Api::new(30, "CreateAcls", 1, 3, 2);
/// Neither lets nor forbids any more.
pub const DELETE_ACLS: Api = Api::new(31, "DeleteAcls", 1, 3, 2);
/// How topics and brokers are set.
pub const DESCRIBE_CONFIGS: Api = Api::new(32, "DescribeConfigs", 1, 4, 4);
/// Sets topics and brokers, all settings at once.
pub const ALTER_CONFIGS: Api = Api::new(33, "AlterConfigs", 0, 2, 2);
/// Gives topics more partitions.
pub const CREATE_PARTITIONS: Api = Api::new(37, "CreatePartitions", 0, 3, 2);
/// How much of what lies in a broker's log directories. From 5 on they may be cordoned.
pub const DESCRIBE_LOG_DIRS: Api = Api::new(35, "DescribeLogDirs", 1, 4, 2);
/// Has the replicas lead that should.
pub const ELECT_LEADERS: Api = Api::new(43, "ElectLeaders", 0, 2, 2);
/// Wants replicas elsewhere.
pub const ALTER_PARTITION_REASSIGNMENTS: Api = Api::new(45, "AlterPartitionReassignments", 0, 1, 0);
/// Which replicas are on their way.
pub const LIST_PARTITION_REASSIGNMENTS: Api = Api::new(46, "ListPartitionReassignments", 0, 0, 0);
/// How much clients may send and fetch.
pub const DESCRIBE_CLIENT_QUOTAS: Api = Api::new(48, "DescribeClientQuotas", 0, 1, 1);
/// Sets how much clients may send and fetch.
pub const ALTER_CLIENT_QUOTAS: Api = Api::new(49, "AlterClientQuotas", 0, 1, 1);
/// Which users there are, and how they show who they are.
pub const DESCRIBE_USER_SCRAM_CREDENTIALS: Api = Api::new(50, "DescribeUserScramCredentials", 0, 0, 0);
/// Changes what is kept of users' passwords.
pub const ALTER_USER_SCRAM_CREDENTIALS: Api = Api::new(51, "AlterUserScramCredentials", 0, 0, 0);
/// Which metrics of clients are wanted.
pub const GET_TELEMETRY_SUBSCRIPTIONS: Api = Api::new(71, "GetTelemetrySubscriptions", 0, 0, 0);
/// What has settings.
pub const LIST_CONFIG_RESOURCES: Api = Api::new(74, "ListConfigResources", 0, 1, 0);
/// Topics and who leads their partitions, a page at a time.
pub const DESCRIBE_TOPIC_PARTITIONS: Api = Api::new(75, "DescribeTopicPartitions", 0, 0, 0);
/// Deletes groups.
pub const DELETE_GROUPS: Api = Api::new(42, "DeleteGroups", 0, 2, 2);
/// Sets topics and brokers, some settings only.
pub const INCREMENTAL_ALTER_CONFIGS: Api = Api::new(44, "IncrementalAlterConfigs", 0, 1, 1);
/// Forgets how far a group has come.
pub const OFFSET_DELETE: Api = Api::new(47, "OffsetDelete", 0, 0, NEVER);
/// Which brokers there are.
pub const DESCRIBE_CLUSTER: Api = Api::new(60, "DescribeCluster", 0, 2, 0);

/// Joins, stays in or leaves a group whose coordinator shares out (KIP-848).
pub const CONSUMER_GROUP_HEARTBEAT: Api = Api::new(68, "ConsumerGroupHeartbeat", 0, 1, 0);
/// What such groups are like.
pub const CONSUMER_GROUP_DESCRIBE: Api = Api::new(69, "ConsumerGroupDescribe", 0, 1, 0);

/// All rows, by their keys.
pub const ALL: &[Api] = &[
    PRODUCE,
    FETCH,
    LIST_OFFSETS,
    METADATA,
    OFFSET_COMMIT,
    OFFSET_FETCH,
    FIND_COORDINATOR,
    JOIN_GROUP,
    HEARTBEAT,
    LEAVE_GROUP,
    SYNC_GROUP,
    DESCRIBE_GROUPS,
    LIST_GROUPS,
    SASL_HANDSHAKE,
    API_VERSIONS,
    CREATE_TOPICS,
    DELETE_TOPICS,
    DELETE_RECORDS,
    INIT_PRODUCER_ID,
    OFFSET_FOR_LEADER_EPOCH,
    ADD_PARTITIONS_TO_TXN,
    ADD_OFFSETS_TO_TXN,
    END_TXN,
    WRITE_TXN_MARKERS,
    TXN_OFFSET_COMMIT,
    DESCRIBE_ACLS,
    CREATE_ACLS,
    DELETE_ACLS,
    DESCRIBE_CONFIGS,
    ALTER_CONFIGS,
    DESCRIBE_LOG_DIRS,
    SASL_AUTHENTICATE,
    CREATE_PARTITIONS,
    DELETE_GROUPS,
    ELECT_LEADERS,
    INCREMENTAL_ALTER_CONFIGS,
    ALTER_PARTITION_REASSIGNMENTS,
    LIST_PARTITION_REASSIGNMENTS,
    OFFSET_DELETE,
    DESCRIBE_CLIENT_QUOTAS,
    ALTER_CLIENT_QUOTAS,
    DESCRIBE_USER_SCRAM_CREDENTIALS,
    ALTER_USER_SCRAM_CREDENTIALS,
    DESCRIBE_CLUSTER,
    DESCRIBE_PRODUCERS,
    DESCRIBE_TRANSACTIONS,
    LIST_TRANSACTIONS,
    CONSUMER_GROUP_HEARTBEAT,
    CONSUMER_GROUP_DESCRIBE,
    GET_TELEMETRY_SUBSCRIPTIONS,
    LIST_CONFIG_RESOURCES,
    DESCRIBE_TOPIC_PARTITIONS,
];

/// The row of a key.
pub fn api(key: i16) -> Result<&'static Api, WireError> {
    ALL.iter().find(|api| api.key == key).ok_or(WireError::Api { key })
}

#[cfg(test)]
mod tests;
