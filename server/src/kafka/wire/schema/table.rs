//! What requests are made of. Written by `tools/kafka-schemas` from the schemas of Kafka 4.1's messages; not edited by hand.

use super::{
    Field,
    Kind::{Fixed, Struct, Text},
    Schema, named, schema,
};
use crate::kafka::wire::versions::NEVER;

/// All requests whose bodies can be walked over, by their keys.
pub(in crate::kafka::wire) const SCHEMAS: &[Schema] = &[
    schema(0, "Produce", 3, 13, 9, PRODUCE),
    schema(1, "Fetch", 4, 18, 12, FETCH),
    schema(2, "ListOffsets", 1, 10, 6, LIST_OFFSETS),
    schema(3, "Metadata", 0, 13, 9, METADATA),
    schema(8, "OffsetCommit", 2, 9, 8, OFFSET_COMMIT),
    schema(9, "OffsetFetch", 1, 9, 6, OFFSET_FETCH),
    schema(10, "FindCoordinator", 0, 6, 3, FIND_COORDINATOR),
    schema(11, "JoinGroup", 0, 9, 6, JOIN_GROUP),
    schema(12, "Heartbeat", 0, 4, 4, HEARTBEAT),
    schema(13, "LeaveGroup", 0, 5, 4, LEAVE_GROUP),
    schema(14, "SyncGroup", 0, 5, 4, SYNC_GROUP),
    schema(15, "DescribeGroups", 0, 6, 5, DESCRIBE_GROUPS),
    schema(16, "ListGroups", 0, 5, 3, LIST_GROUPS),
    schema(17, "SaslHandshake", 0, 1, NEVER, SASL_HANDSHAKE),
    schema(18, "ApiVersions", 0, 4, 3, API_VERSIONS),
    schema(19, "CreateTopics", 2, 7, 5, CREATE_TOPICS),
    schema(20, "DeleteTopics", 1, 6, 4, DELETE_TOPICS),
    schema(21, "DeleteRecords", 0, 2, 2, DELETE_RECORDS),
    schema(22, "InitProducerId", 0, 5, 2, INIT_PRODUCER_ID),
    schema(23, "OffsetForLeaderEpoch", 2, 4, 4, OFFSET_FOR_LEADER_EPOCH),
    schema(24, "AddPartitionsToTxn", 0, 5, 3, ADD_PARTITIONS_TO_TXN),
    schema(25, "AddOffsetsToTxn", 0, 4, 3, ADD_OFFSETS_TO_TXN),
    schema(26, "EndTxn", 0, 5, 3, END_TXN),
    schema(27, "WriteTxnMarkers", 1, 1, 1, WRITE_TXN_MARKERS),
    schema(28, "TxnOffsetCommit", 0, 5, 3, TXN_OFFSET_COMMIT),
    schema(29, "DescribeAcls", 1, 3, 2, DESCRIBE_ACLS),
    schema(30, "CreateAcls", 1, 3, 2, CREATE_ACLS),
    schema(31, "DeleteAcls", 1, 3, 2, DELETE_ACLS),
    schema(32, "DescribeConfigs", 1, 4, 4, DESCRIBE_CONFIGS),
    schema(33, "AlterConfigs", 0, 2, 2, ALTER_CONFIGS),
    schema(34, "AlterReplicaLogDirs", 1, 2, 2, ALTER_REPLICA_LOG_DIRS),
    schema(35, "DescribeLogDirs", 1, 4, 2, DESCRIBE_LOG_DIRS),
    schema(36, "SaslAuthenticate", 0, 2, 2, SASL_AUTHENTICATE),
    schema(37, "CreatePartitions", 0, 3, 2, CREATE_PARTITIONS),
    schema(42, "DeleteGroups", 0, 2, 2, DELETE_GROUPS),
    schema(43, "ElectLeaders", 0, 2, 2, ELECT_LEADERS),
    schema(44, "IncrementalAlterConfigs", 0, 1, 1, INCREMENTAL_ALTER_CONFIGS),
    schema(45, "AlterPartitionReassignments", 0, 1, 0, ALTER_PARTITION_REASSIGNMENTS),
    schema(46, "ListPartitionReassignments", 0, 0, 0, LIST_PARTITION_REASSIGNMENTS),
    schema(47, "OffsetDelete", 0, 0, NEVER, OFFSET_DELETE),
    schema(48, "DescribeClientQuotas", 0, 1, 1, DESCRIBE_CLIENT_QUOTAS),
    schema(49, "AlterClientQuotas", 0, 1, 1, ALTER_CLIENT_QUOTAS),
    schema(50, "DescribeUserScramCredentials", 0, 0, 0, DESCRIBE_USER_SCRAM_CREDENTIALS),
    schema(51, "AlterUserScramCredentials", 0, 0, 0, ALTER_USER_SCRAM_CREDENTIALS),
    schema(57, "UpdateFeatures", 0, 2, 0, UPDATE_FEATURES),
    schema(60, "DescribeCluster", 0, 2, 0, DESCRIBE_CLUSTER),
    schema(61, "DescribeProducers", 0, 0, 0, DESCRIBE_PRODUCERS),
    schema(65, "DescribeTransactions", 0, 0, 0, DESCRIBE_TRANSACTIONS),
    schema(66, "ListTransactions", 0, 2, 0, LIST_TRANSACTIONS),
    schema(68, "ConsumerGroupHeartbeat", 0, 1, 0, CONSUMER_GROUP_HEARTBEAT),
    schema(69, "ConsumerGroupDescribe", 0, 1, 0, CONSUMER_GROUP_DESCRIBE),
    schema(71, "GetTelemetrySubscriptions", 0, 0, 0, GET_TELEMETRY_SUBSCRIPTIONS),
    schema(74, "ListConfigResources", 0, 1, 0, LIST_CONFIG_RESOURCES),
    schema(75, "DescribeTopicPartitions", 0, 0, 0, DESCRIBE_TOPIC_PARTITIONS),
];

const PRODUCE: &[Field] = &[
    named("TransactionalId").text().null_since(3),
    named("Acks").fixed(2),
    named("TimeoutMs").fixed(4),
    named("TopicData").array(&Struct(&[
        named("Name").text().until(12),
        named("TopicId").fixed(16).since(13),
        named("PartitionData").array(&Struct(&[named("Index").fixed(4), named("Records").bytes().null_since(0)])),
    ])),
];

const FETCH: &[Field] = &[
    named("ClusterId").text().since(12).null_since(12).tag(0),
    named("ReplicaId").fixed(4).until(14),
    named("ReplicaState").fields(&[named("ReplicaId").fixed(4).since(15), named("ReplicaEpoch").fixed(8).since(15)]).since(15).tag(1),
    named("MaxWaitMs").fixed(4),
    named("MinBytes").fixed(4),
    named("MaxBytes").fixed(4),
    named("IsolationLevel").fixed(1),
    named("SessionId").fixed(4).since(7),
    named("SessionEpoch").fixed(4).since(7),
    named("Topics").array(&Struct(&[
        named("Topic").text().until(12),
        named("TopicId").fixed(16).since(13),
        named("Partitions").array(&Struct(&[
            named("Partition").fixed(4),
            named("CurrentLeaderEpoch").fixed(4).since(9),
            named("FetchOffset").fixed(8),
            named("LastFetchedEpoch").fixed(4).since(12),
            named("LogStartOffset").fixed(8).since(5),
            named("PartitionMaxBytes").fixed(4),
            named("ReplicaDirectoryId").fixed(16).since(17).tag(0),
            named("HighWatermark").fixed(8).since(18).tag(1),
        ])),
    ])),
    named("ForgottenTopicsData")
        .array(&Struct(&[
            named("Topic").text().since(7).until(12),
            named("TopicId").fixed(16).since(13),
            named("Partitions").array(&Fixed(4)).since(7),
        ]))
        .since(7),
    named("RackId").text().since(11),
];

const LIST_OFFSETS: &[Field] = &[
    named("ReplicaId").fixed(4),
    named("IsolationLevel").fixed(1).since(2),
    named("Topics").array(&Struct(&[
        named("Name").text(),
        named("Partitions").array(&Struct(&[
            named("PartitionIndex").fixed(4),
            named("CurrentLeaderEpoch").fixed(4).since(4),
            named("Timestamp").fixed(8),
        ])),
    ])),
    named("TimeoutMs").fixed(4).since(10),
];

const METADATA: &[Field] = &[
    named("Topics").array(&Struct(&[named("TopicId").fixed(16).since(10), named("Name").text().null_since(10)])).null_since(1),
    named("AllowAutoTopicCreation").fixed(1).since(4),
    named("IncludeClusterAuthorizedOperations").fixed(1).since(8).until(10),
    named("IncludeTopicAuthorizedOperations").fixed(1).since(8),
];

const OFFSET_COMMIT: &[Field] = &[
    named("GroupId").text(),
    named("GenerationIdOrMemberEpoch").fixed(4),
    named("MemberId").text(),
    named("GroupInstanceId").text().since(7).null_since(7),
    named("RetentionTimeMs").fixed(8).until(4),
    named("Topics").array(&Struct(&[
        named("Name").text(),
        named("Partitions").array(&Struct(&[
            named("PartitionIndex").fixed(4),
            named("CommittedOffset").fixed(8),
            named("CommittedLeaderEpoch").fixed(4).since(6),
            named("CommittedMetadata").text().null_since(0),
        ])),
    ])),
];

const OFFSET_FETCH: &[Field] = &[
    named("GroupId").text().until(7),
    named("Topics")
        .array(&Struct(&[named("Name").text().until(7), named("PartitionIndexes").array(&Fixed(4)).until(7)]))
        .until(7)
        .null_since(2),
    named("Groups")
        .array(&Struct(&[
            named("GroupId").text().since(8),
            named("MemberId").text().since(9).null_since(9),
            named("MemberEpoch").fixed(4).since(9),
            named("Topics")
                .array(&Struct(&[named("Name").text().since(8), named("PartitionIndexes").array(&Fixed(4)).since(8)]))
                .since(8)
                .null_since(8),
        ]))
        .since(8),
    named("RequireStable").fixed(1).since(7),
];

const FIND_COORDINATOR: &[Field] =
    &[named("Key").text().until(3), named("KeyType").fixed(1).since(1), named("CoordinatorKeys").array(&Text).since(4)];

const JOIN_GROUP: &[Field] = &[
    named("GroupId").text(),
    named("SessionTimeoutMs").fixed(4),
    named("RebalanceTimeoutMs").fixed(4).since(1),
    named("MemberId").text(),
    named("GroupInstanceId").text().since(5).null_since(5),
    named("ProtocolType").text(),
    named("Protocols").array(&Struct(&[named("Name").text(), named("Metadata").bytes()])),
    named("Reason").text().since(8).null_since(8),
];

const HEARTBEAT: &[Field] = &[
    named("GroupId").text(),
    named("GenerationId").fixed(4),
    named("MemberId").text(),
    named("GroupInstanceId").text().since(3).null_since(3),
];

const LEAVE_GROUP: &[Field] = &[
    named("GroupId").text(),
    named("MemberId").text().until(2),
    named("Members")
        .array(&Struct(&[
            named("MemberId").text().since(3),
            named("GroupInstanceId").text().since(3).null_since(3),
            named("Reason").text().since(5).null_since(5),
        ]))
        .since(3),
];

const SYNC_GROUP: &[Field] = &[
    named("GroupId").text(),
    named("GenerationId").fixed(4),
    named("MemberId").text(),
    named("GroupInstanceId").text().since(3).null_since(3),
    named("ProtocolType").text().since(5).null_since(5),
    named("ProtocolName").text().since(5).null_since(5),
    named("Assignments").array(&Struct(&[named("MemberId").text(), named("Assignment").bytes()])),
];

const DESCRIBE_GROUPS: &[Field] = &[named("Groups").array(&Text), named("IncludeAuthorizedOperations").fixed(1).since(3)];

const LIST_GROUPS: &[Field] = &[named("StatesFilter").array(&Text).since(4), named("TypesFilter").array(&Text).since(5)];

const SASL_HANDSHAKE: &[Field] = &[named("Mechanism").text()];

const API_VERSIONS: &[Field] = &[named("ClientSoftwareName").text().since(3), named("ClientSoftwareVersion").text().since(3)];

const CREATE_TOPICS: &[Field] = &[
    named("Topics").array(&Struct(&[
        named("Name").text(),
        named("NumPartitions").fixed(4),
        named("ReplicationFactor").fixed(2),
        named("Assignments").array(&Struct(&[named("PartitionIndex").fixed(4), named("BrokerIds").array(&Fixed(4))])),
        named("Configs").array(&Struct(&[named("Name").text(), named("Value").text().null_since(0)])),
    ])),
    named("timeoutMs").fixed(4),
    named("validateOnly").fixed(1),
];

const DELETE_TOPICS: &[Field] = &[
    named("Topics").array(&Struct(&[named("Name").text().since(6).null_since(6), named("TopicId").fixed(16).since(6)])).since(6),
    named("TopicNames").array(&Text).until(5),
    named("TimeoutMs").fixed(4),
];

const DELETE_RECORDS: &[Field] = &[
    named("Topics").array(&Struct(&[
        named("Name").text(),
        named("Partitions").array(&Struct(&[named("PartitionIndex").fixed(4), named("Offset").fixed(8)])),
    ])),
    named("TimeoutMs").fixed(4),
];

const INIT_PRODUCER_ID: &[Field] = &[
    named("TransactionalId").text().null_since(0),
    named("TransactionTimeoutMs").fixed(4),
    named("ProducerId").fixed(8).since(3),
    named("ProducerEpoch").fixed(2).since(3),
];

const OFFSET_FOR_LEADER_EPOCH: &[Field] = &[
    named("ReplicaId").fixed(4).since(3),
    named("Topics").array(&Struct(&[
        named("Topic").text(),
        named("Partitions").array(&Struct(&[
            named("Partition").fixed(4),
            named("CurrentLeaderEpoch").fixed(4),
            named("LeaderEpoch").fixed(4),
        ])),
    ])),
];

const ADD_PARTITIONS_TO_TXN: &[Field] = &[
    named("Transactions")
        .array(&Struct(&[
            named("TransactionalId").text().since(4),
            named("ProducerId").fixed(8).since(4),
            named("ProducerEpoch").fixed(2).since(4),
            named("VerifyOnly").fixed(1).since(4),
            named("Topics").array(&Struct(&[named("Name").text(), named("Partitions").array(&Fixed(4))])).since(4),
        ]))
        .since(4),
    named("V3AndBelowTransactionalId").text().until(3),
    named("V3AndBelowProducerId").fixed(8).until(3),
    named("V3AndBelowProducerEpoch").fixed(2).until(3),
    named("V3AndBelowTopics").array(&Struct(&[named("Name").text(), named("Partitions").array(&Fixed(4))])).until(3),
];

const ADD_OFFSETS_TO_TXN: &[Field] =
    &[named("TransactionalId").text(), named("ProducerId").fixed(8), named("ProducerEpoch").fixed(2), named("GroupId").text()];

const END_TXN: &[Field] =
    &[named("TransactionalId").text(), named("ProducerId").fixed(8), named("ProducerEpoch").fixed(2), named("Committed").fixed(1)];

const WRITE_TXN_MARKERS: &[Field] = &[named("Markers").array(&Struct(&[
    named("ProducerId").fixed(8),
    named("ProducerEpoch").fixed(2),
    named("TransactionResult").fixed(1),
    named("Topics").array(&Struct(&[named("Name").text(), named("PartitionIndexes").array(&Fixed(4))])),
    named("CoordinatorEpoch").fixed(4),
]))];

const TXN_OFFSET_COMMIT: &[Field] = &[
    named("TransactionalId").text(),
    named("GroupId").text(),
    named("ProducerId").fixed(8),
    named("ProducerEpoch").fixed(2),
    named("GenerationId").fixed(4).since(3),
    named("MemberId").text().since(3),
    named("GroupInstanceId").text().since(3).null_since(3),
    named("Topics").array(&Struct(&[
        named("Name").text(),
        named("Partitions").array(&Struct(&[
            named("PartitionIndex").fixed(4),
            named("CommittedOffset").fixed(8),
            named("CommittedLeaderEpoch").fixed(4).since(2),
            named("CommittedMetadata").text().null_since(0),
        ])),
    ])),
];

const DESCRIBE_ACLS: &[Field] = &[
    named("ResourceTypeFilter").fixed(1),
    named("ResourceNameFilter").text().null_since(0),
    named("PatternTypeFilter").fixed(1),
    named("PrincipalFilter").text().null_since(0),
    named("HostFilter").text().null_since(0),
    named("Operation").fixed(1),
    named("PermissionType").fixed(1),
];

const CREATE_ACLS: &[Field] = &[named("Creations").array(&Struct(&[
    named("ResourceType").fixed(1),
    named("ResourceName").text(),
    named("ResourcePatternType").fixed(1),
    named("Principal").text(),
    named("Host").text(),
    named("Operation").fixed(1),
    named("PermissionType").fixed(1),
]))];

const DELETE_ACLS: &[Field] = &[named("Filters").array(&Struct(&[
    named("ResourceTypeFilter").fixed(1),
    named("ResourceNameFilter").text().null_since(0),
    named("PatternTypeFilter").fixed(1),
    named("PrincipalFilter").text().null_since(0),
    named("HostFilter").text().null_since(0),
    named("Operation").fixed(1),
    named("PermissionType").fixed(1),
]))];

const DESCRIBE_CONFIGS: &[Field] = &[
    named("Resources").array(&Struct(&[
        named("ResourceType").fixed(1),
        named("ResourceName").text(),
        named("ConfigurationKeys").array(&Text).null_since(0),
    ])),
    named("IncludeSynonyms").fixed(1),
    named("IncludeDocumentation").fixed(1).since(3),
];

const ALTER_CONFIGS: &[Field] = &[
    named("Resources").array(&Struct(&[
        named("ResourceType").fixed(1),
        named("ResourceName").text(),
        named("Configs").array(&Struct(&[named("Name").text(), named("Value").text().null_since(0)])),
    ])),
    named("ValidateOnly").fixed(1),
];

const ALTER_REPLICA_LOG_DIRS: &[Field] = &[named("Dirs").array(&Struct(&[
    named("Path").text(),
    named("Topics").array(&Struct(&[named("Name").text(), named("Partitions").array(&Fixed(4))])),
]))];

const DESCRIBE_LOG_DIRS: &[Field] =
    &[named("Topics").array(&Struct(&[named("Topic").text(), named("Partitions").array(&Fixed(4))])).null_since(0)];

const SASL_AUTHENTICATE: &[Field] = &[named("AuthBytes").bytes()];

const CREATE_PARTITIONS: &[Field] = &[
    named("Topics").array(&Struct(&[
        named("Name").text(),
        named("Count").fixed(4),
        named("Assignments").array(&Struct(&[named("BrokerIds").array(&Fixed(4))])).null_since(0),
    ])),
    named("TimeoutMs").fixed(4),
    named("ValidateOnly").fixed(1),
];

const DELETE_GROUPS: &[Field] = &[named("GroupsNames").array(&Text)];

const ELECT_LEADERS: &[Field] = &[
    named("ElectionType").fixed(1).since(1),
    named("TopicPartitions").array(&Struct(&[named("Topic").text(), named("Partitions").array(&Fixed(4))])).null_since(0),
    named("TimeoutMs").fixed(4),
];

const INCREMENTAL_ALTER_CONFIGS: &[Field] = &[
    named("Resources").array(&Struct(&[
        named("ResourceType").fixed(1),
        named("ResourceName").text(),
        named("Configs").array(&Struct(&[named("Name").text(), named("ConfigOperation").fixed(1), named("Value").text().null_since(0)])),
    ])),
    named("ValidateOnly").fixed(1),
];

const ALTER_PARTITION_REASSIGNMENTS: &[Field] = &[
    named("TimeoutMs").fixed(4),
    named("AllowReplicationFactorChange").fixed(1).since(1),
    named("Topics").array(&Struct(&[
        named("Name").text(),
        named("Partitions").array(&Struct(&[named("PartitionIndex").fixed(4), named("Replicas").array(&Fixed(4)).null_since(0)])),
    ])),
];

const LIST_PARTITION_REASSIGNMENTS: &[Field] = &[
    named("TimeoutMs").fixed(4),
    named("Topics").array(&Struct(&[named("Name").text(), named("PartitionIndexes").array(&Fixed(4))])).null_since(0),
];

const OFFSET_DELETE: &[Field] = &[
    named("GroupId").text(),
    named("Topics").array(&Struct(&[named("Name").text(), named("Partitions").array(&Struct(&[named("PartitionIndex").fixed(4)]))])),
];

const DESCRIBE_CLIENT_QUOTAS: &[Field] = &[
    named("Components").array(&Struct(&[named("EntityType").text(), named("MatchType").fixed(1), named("Match").text().null_since(0)])),
    named("Strict").fixed(1),
];

const ALTER_CLIENT_QUOTAS: &[Field] = &[
    named("Entries").array(&Struct(&[
        named("Entity").array(&Struct(&[named("EntityType").text(), named("EntityName").text().null_since(0)])),
        named("Ops").array(&Struct(&[named("Key").text(), named("Value").fixed(8), named("Remove").fixed(1)])),
    ])),
    named("ValidateOnly").fixed(1),
];

const DESCRIBE_USER_SCRAM_CREDENTIALS: &[Field] = &[named("Users").array(&Struct(&[named("Name").text()])).null_since(0)];

const ALTER_USER_SCRAM_CREDENTIALS: &[Field] = &[
    named("Deletions").array(&Struct(&[named("Name").text(), named("Mechanism").fixed(1)])),
    named("Upsertions").array(&Struct(&[
        named("Name").text(),
        named("Mechanism").fixed(1),
        named("Iterations").fixed(4),
        named("Salt").bytes(),
        named("SaltedPassword").bytes(),
    ])),
];

const UPDATE_FEATURES: &[Field] = &[
    named("timeoutMs").fixed(4),
    named("FeatureUpdates").array(&Struct(&[
        named("Feature").text(),
        named("MaxVersionLevel").fixed(2),
        named("AllowDowngrade").fixed(1).until(0),
        named("UpgradeType").fixed(1).since(1),
    ])),
    named("ValidateOnly").fixed(1).since(1),
];

const DESCRIBE_CLUSTER: &[Field] = &[
    named("IncludeClusterAuthorizedOperations").fixed(1),
    named("EndpointType").fixed(1).since(1),
    named("IncludeFencedBrokers").fixed(1).since(2),
];

const DESCRIBE_PRODUCERS: &[Field] = &[named("Topics").array(&Struct(&[named("Name").text(), named("PartitionIndexes").array(&Fixed(4))]))];

const DESCRIBE_TRANSACTIONS: &[Field] = &[named("TransactionalIds").array(&Text)];

const LIST_TRANSACTIONS: &[Field] = &[
    named("StateFilters").array(&Text),
    named("ProducerIdFilters").array(&Fixed(8)),
    named("DurationFilter").fixed(8).since(1),
    named("TransactionalIdPattern").text().since(2).null_since(2),
];

const CONSUMER_GROUP_HEARTBEAT: &[Field] = &[
    named("GroupId").text(),
    named("MemberId").text(),
    named("MemberEpoch").fixed(4),
    named("InstanceId").text().null_since(0),
    named("RackId").text().null_since(0),
    named("RebalanceTimeoutMs").fixed(4),
    named("SubscribedTopicNames").array(&Text).null_since(0),
    named("SubscribedTopicRegex").text().since(1).null_since(1),
    named("ServerAssignor").text().null_since(0),
    named("TopicPartitions").array(&Struct(&[named("TopicId").fixed(16), named("Partitions").array(&Fixed(4))])).null_since(0),
];

const CONSUMER_GROUP_DESCRIBE: &[Field] = &[named("GroupIds").array(&Text), named("IncludeAuthorizedOperations").fixed(1)];

const GET_TELEMETRY_SUBSCRIPTIONS: &[Field] = &[named("ClientInstanceId").fixed(16)];

const LIST_CONFIG_RESOURCES: &[Field] = &[named("ResourceTypes").array(&Fixed(1)).since(1)];

const DESCRIBE_TOPIC_PARTITIONS: &[Field] = &[
    named("Topics").array(&Struct(&[named("Name").text()])),
    named("ResponsePartitionLimit").fixed(4),
    named("Cursor").fields(&[named("TopicName").text(), named("PartitionIndex").fixed(4)]).null_since(0),
];
