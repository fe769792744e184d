//! A sound request for each API in each version, as Kafka's own schemas have it.

use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        add_partitions_to_txn_request as ap, alter_client_quotas_request as aq, alter_configs_request as ac,
        alter_partition_reassignments_request as ar, alter_user_scram_credentials_request as au, create_acls_request as ca,
        create_partitions_request as cp, create_topics_request as ct, delete_acls_request as da, delete_records_request as dr,
        describe_client_quotas_request as dq, describe_configs_request as dc, describe_log_dirs_request as ld,
        describe_producers_request as dpr, describe_topic_partitions_request as tp, describe_user_scram_credentials_request as ds,
        elect_leaders_request as el, fetch_request as f, incremental_alter_configs_request as iac, join_group_request as jg,
        leave_group_request as lg, list_offsets_request as lo, list_partition_reassignments_request as lr, metadata_request as md,
        offset_commit_request as oc, offset_delete_request as od, offset_fetch_request as of, offset_for_leader_epoch_request as le,
        produce_request as p, sync_group_request as sg, txn_offset_commit_request as to, write_txn_markers_request as wm, *,
    },
    protocol::{Message, Request, StrBytes},
};
use uuid::Uuid;

/// One request.
pub(crate) struct Sound {
    /// Its API, and the version.
    pub(crate) key: i16,
    pub(crate) version: i16,
    /// Whether lengths are compact, and structures end with tagged fields.
    pub(crate) flexible: bool,
    pub(crate) body: Vec<u8>,
}

/// The number that all requests have.
pub(crate) const NUMBER: i32 = 4711;

/// The frame of a request, its length as it is.
pub(crate) fn frame(key: i16, version: i16, flexible: bool, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 4];
    frame.extend(key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(NUMBER.to_be_bytes());
    frame.extend([0, 4, b't', b'e', b's', b't']);
    frame.extend(flexible.then_some(0));
    frame.extend(body);
    let len = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&len.to_be_bytes());
    frame
}

impl Sound {
    /// Its frame, with another body.
    pub(crate) fn with(&self, body: &[u8]) -> Vec<u8> {
        frame(self.key, self.version, self.flexible, body)
    }

    /// Its frame.
    pub(crate) fn frame(&self) -> Vec<u8> {
        self.with(&self.body)
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic(name: &str) -> TopicName {
    TopicName(text(name))
}

/// The group of a request: each has its own, so that nobody waits for the members of another.
fn group(version: i16) -> GroupId {
    GroupId(text(&format!("group-{version}")))
}

/// A request as `make` makes it for each version in the range.
fn each<T: Request>((min, max): (i16, i16), make: impl Fn(i16) -> T) -> Vec<Sound> {
    let range = min.max(<T as Message>::VERSIONS.min)..=max.min(<T as Message>::VERSIONS.max);
    let one = |version| {
        let mut body = BytesMut::new();
        make(version).encode(&mut body, version).unwrap_or_else(|e| panic!("key {} in version {version}: {e}", T::KEY));
        Sound { key: T::KEY, version, flexible: T::header_version(version) >= 2, body: body.to_vec() }
    };
    range.map(one).collect()
}

fn plain<T: Request + Default>(versions: (i16, i16)) -> Vec<Sound> {
    each(versions, |_| T::default())
}

/// Sound requests of an API in these versions.
pub(crate) fn of(key: i16, versions: (i16, i16)) -> Vec<Sound> {
    match key {
        0 => each(versions, produce),
        1 => each(versions, fetch),
        2 => each(versions, list_offsets),
        3 => each(versions, metadata),
        23 => each(versions, offset_for_leader_epoch),
        8..=14 => of_groups(key, versions),
        15 => each(versions, |version| DescribeGroupsRequest::default().with_groups(vec![group(version), group(0)])),
        // What comes behind version 0 is no request.
        17 => each((1, versions.1), |_| SaslHandshakeRequest::default().with_mechanism(text("SCRAM-SHA-256"))),
        16 => each(versions, |version| {
            ListGroupsRequest::default().with_states_filter((0..i32::from(version >= 4)).map(|_| text("Stable")).collect())
        }),
        18 => each(versions, |version| {
            let name = text(if version >= 3 { "tests" } else { "" });
            ApiVersionsRequest::default().with_client_software_name(name.clone()).with_client_software_version(name)
        }),
        22 | 24..=28 | 61 | 65 | 66 => of_transactions(key, versions),
        42 => each(versions, |version| DeleteGroupsRequest::default().with_groups_names(vec![group(version)])),
        47 => each(versions, offset_delete),
        60 => plain::<DescribeClusterRequest>(versions),
        _ => of_administration(key, versions),
    }
}

/// What a producer under the name `tx` asks, and what is asked about it.
fn of_transactions(key: i16, versions: (i16, i16)) -> Vec<Sound> {
    let id = || TransactionalId(text("tx"));
    match key {
        22 => each(versions, |_| InitProducerIdRequest::default().with_transactional_id(Some(id())).with_transaction_timeout_ms(60_000)),
        24 => each(versions, |_| {
            let some = ap::AddPartitionsToTxnTopic::default().with_name(topic("t")).with_partitions(vec![0, 9]);
            let asked = AddPartitionsToTxnRequest::default().with_v3_and_below_transactional_id(id());
            asked.with_v3_and_below_producer_id(ProducerId(1)).with_v3_and_below_topics(vec![some])
        }),
        25 => each(versions, |version| {
            let asked = AddOffsetsToTxnRequest::default().with_transactional_id(id());
            asked.with_producer_id(ProducerId(1)).with_group_id(group(version))
        }),
        26 => each(versions, |_| EndTxnRequest::default().with_transactional_id(id()).with_producer_id(ProducerId(1)).with_committed(true)),
        27 => each(versions, |_| {
            let some = wm::WritableTxnMarkerTopic::default().with_name(topic("t")).with_partition_indexes(vec![0, 9]);
            let marker = wm::WritableTxnMarker::default().with_producer_id(ProducerId(1)).with_topics(vec![some]);
            WriteTxnMarkersRequest::default().with_markers(vec![marker])
        }),
        28 => each(versions, |version| {
            let one = |n| to::TxnOffsetCommitRequestPartition::default().with_partition_index(n).with_committed_offset(1);
            let some = to::TxnOffsetCommitRequestTopic::default().with_name(topic("t")).with_partitions(vec![one(0), one(9)]);
            let asked = TxnOffsetCommitRequest::default().with_transactional_id(id()).with_group_id(group(version));
            asked.with_producer_id(ProducerId(1)).with_topics(vec![some])
        }),
        61 => each(versions, |_| {
            let some = dpr::TopicRequest::default().with_name(topic("t")).with_partition_indexes(vec![0, 9]);
            DescribeProducersRequest::default().with_topics(vec![some])
        }),
        65 => each(versions, |_| DescribeTransactionsRequest::default().with_transactional_ids(vec![id(), TransactionalId(text("no"))])),
        _ => each(versions, |version| {
            let asked = ListTransactionsRequest::default().with_state_filters(vec![text("Ongoing"), text("Strange")]);
            asked.with_transactional_id_pattern((version >= 2).then(|| text("t(x|y)*")))
        }),
    }
}

fn of_groups(key: i16, versions: (i16, i16)) -> Vec<Sound> {
    match key {
        8 => each(versions, offset_commit),
        9 => each(versions, offset_fetch),
        10 => each(versions, |version| {
            let asked = FindCoordinatorRequest::default();
            if version >= 4 { asked.with_coordinator_keys(vec![text("a"), text("b")]) } else { asked.with_key(text("a")) }
        }),
        11 => each(versions, join_group),
        12 => each(versions, |version| {
            HeartbeatRequest::default().with_group_id(group(version)).with_member_id(text("m")).with_generation_id(1)
        }),
        13 => each(versions, |version| {
            let asked = LeaveGroupRequest::default().with_group_id(group(version));
            let member = || lg::MemberIdentity::default().with_member_id(text("m"));
            if version >= 3 { asked.with_members(vec![member(), member()]) } else { asked.with_member_id(text("m")) }
        }),
        _ => each(versions, sync_group),
    }
}

fn of_administration(key: i16, versions: (i16, i16)) -> Vec<Sound> {
    match key {
        19 => each(versions, create_topics),
        20 => each(versions, |version| {
            let asked = DeleteTopicsRequest::default().with_timeout_ms(100);
            if version >= 6 { asked } else { asked.with_topic_names(vec![topic("gone"), topic("gone-too")]) }
        }),
        21 => each(versions, |_| {
            let partition = dr::DeleteRecordsPartition::default().with_offset(1);
            let topics = vec![dr::DeleteRecordsTopic::default().with_name(topic("t")).with_partitions(vec![partition])];
            DeleteRecordsRequest::default().with_topics(topics)
        }),
        29 => each(versions, |_| {
            DescribeAclsRequest::default()
                .with_resource_type_filter(1)
                .with_pattern_type_filter(1)
                .with_operation(1)
                .with_permission_type(1)
        }),
        30 => each(versions, |_| {
            let one = |name| {
                let acl = ca::AclCreation::default().with_resource_type(2).with_resource_name(text(name)).with_resource_pattern_type(3);
                acl.with_principal(text("User:somebody")).with_host(text("*")).with_operation(3).with_permission_type(3)
            };
            CreateAclsRequest::default().with_creations(vec![one("t"), one("*"), one("")])
        }),
        31 => each(versions, |_| {
            let one = |name| {
                let filter = da::DeleteAclsFilter::default().with_resource_type_filter(2).with_resource_name_filter(Some(text(name)));
                filter.with_pattern_type_filter(2).with_operation(1).with_permission_type(1)
            };
            DeleteAclsRequest::default().with_filters(vec![one("t"), one("u")])
        }),
        32 => each(versions, |_| {
            let one = |keys| {
                let asked = dc::DescribeConfigsResource::default().with_resource_type(2).with_resource_name(text("t"));
                asked.with_configuration_keys(keys)
            };
            DescribeConfigsRequest::default().with_resources(vec![one(None), one(Some(vec![text("retention.ms")]))])
        }),
        33 => each(versions, |_| {
            let config = ac::AlterableConfig::default().with_name(text("retention.ms")).with_value(Some(text("-1")));
            let resource = ac::AlterConfigsResource::default().with_resource_type(2).with_resource_name(text("t"));
            AlterConfigsRequest::default().with_resources(vec![resource.with_configs(vec![config])])
        }),
        37 => each(versions, |_| {
            let one = cp::CreatePartitionsTopic::default().with_name(topic("t")).with_count(2);
            CreatePartitionsRequest::default().with_topics(vec![one]).with_validate_only(true)
        }),
        44 => each(versions, |_| {
            let config = iac::AlterableConfig::default().with_name(text("retention.ms")).with_value(Some(text("-1")));
            let resource = iac::AlterConfigsResource::default().with_resource_type(2).with_resource_name(text("t"));
            IncrementalAlterConfigsRequest::default().with_resources(vec![resource.with_configs(vec![config])])
        }),
        _ => of_the_cluster(key, versions),
    }
}

/// What is asked of replicas, quotas, and groups of the newer sort.
fn of_the_cluster(key: i16, versions: (i16, i16)) -> Vec<Sound> {
    match key {
        35 => each(versions, |_| {
            let some = ld::DescribableLogDirTopic::default().with_topic(topic("t")).with_partitions(vec![0, 9]);
            DescribeLogDirsRequest::default().with_topics(Some(vec![some]))
        }),
        43 => each(versions, |_| {
            let some = el::TopicPartitions::default().with_topic(topic("t")).with_partitions(vec![0, 9]);
            ElectLeadersRequest::default().with_topic_partitions(Some(vec![some])).with_timeout_ms(100)
        }),
        45 => each(versions, |_| {
            let one = |replicas| ar::ReassignablePartition::default().with_replicas(replicas);
            let partitions = vec![one(None), one(Some(vec![BrokerId(1)])), one(Some(vec![BrokerId(9)]))];
            let some = ar::ReassignableTopic::default().with_name(topic("t")).with_partitions(partitions);
            AlterPartitionReassignmentsRequest::default().with_topics(vec![some]).with_timeout_ms(100)
        }),
        46 => each(versions, |_| {
            let some = lr::ListPartitionReassignmentsTopics::default().with_name(topic("t")).with_partition_indexes(vec![0, 9]);
            ListPartitionReassignmentsRequest::default().with_topics(Some(vec![some]))
        }),
        48 => each(versions, |_| {
            let component = dq::ComponentData::default().with_entity_type(text("client-id")).with_match_type(2);
            DescribeClientQuotasRequest::default().with_components(vec![component])
        }),
        49 => each(versions, |_| {
            let entity = aq::EntityData::default().with_entity_type(text("client-id")).with_entity_name(Some(text("somebody")));
            let op = aq::OpData::default().with_key(text("producer_byte_rate")).with_value(1e9);
            let entry = aq::EntryData::default().with_entity(vec![entity]).with_ops(vec![op]);
            AlterClientQuotasRequest::default().with_entries(vec![entry]).with_validate_only(true)
        }),
        50 => each(versions, |_| {
            let one = |name| ds::UserName::default().with_name(text(name));
            DescribeUserScramCredentialsRequest::default().with_users(Some(vec![one("somebody"), one("nobody"), one("nobody")]))
        }),
        36 => each(versions, |_| SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from_static(b"n,,n=somebody,r=once"))),
        51 => each(versions, |_| {
            let deletion = au::ScramCredentialDeletion::default().with_name(text("nobody")).with_mechanism(1);
            let kept = au::ScramCredentialUpsertion::default().with_name(text("somebody")).with_mechanism(2).with_iterations(4_096);
            let kept = kept.with_salt(Bytes::from_static(b"salt")).with_salted_password(Bytes::from_static(&[7; 64]));
            AlterUserScramCredentialsRequest::default().with_deletions(vec![deletion]).with_upsertions(vec![kept])
        }),
        68 => each(versions, |version| {
            let asked = ConsumerGroupHeartbeatRequest::default()
                .with_group_id(GroupId(text(&format!("beaten-{version}"))))
                .with_member_id(text("m"))
                .with_rebalance_timeout_ms(1_000)
                .with_subscribed_topic_names(Some(vec![topic("t")]));
            asked.with_topic_partitions(Some(Vec::new()))
        }),
        69 => each(versions, |version| ConsumerGroupDescribeRequest::default().with_group_ids(vec![group(version), group(0)])),
        71 => each(versions, |_| GetTelemetrySubscriptionsRequest::default()),
        74 => each(versions, |version| {
            ListConfigResourcesRequest::default().with_resource_types((0..i8::from(version > 0)).map(|_| 2).collect())
        }),
        75 => each(versions, |_| {
            let some = ["t", "unknown"].map(|name| tp::TopicRequest::default().with_name(topic(name)));
            DescribeTopicPartitionsRequest::default().with_topics(some.into()).with_response_partition_limit(1)
        }),
        key => panic!("API {key} is advertised, and nobody has written a sound request of it here"),
    }
}

/// A topic's id that is none: nobody knows what ids there are before they have asked.
const SOME_ID: Uuid = Uuid::from_u128(7);

fn produce(version: i16) -> ProduceRequest {
    let batch = crate::wire::batch(b"a record").freeze();
    let one = |index| p::PartitionProduceData::default().with_index(index).with_records(Some(Bytes::clone(&batch)));
    let data = p::TopicProduceData::default().with_partition_data(vec![one(0), one(1)]);
    let data = if version >= 13 { data.with_topic_id(SOME_ID) } else { data.with_name(topic("t")) };
    ProduceRequest::default().with_acks(-1).with_timeout_ms(1_000).with_topic_data(vec![data])
}

fn fetch(version: i16) -> FetchRequest {
    let partition = f::FetchPartition::default().with_partition_max_bytes(1_000);
    let wanted = f::FetchTopic::default().with_partitions(vec![partition]);
    let forgotten = f::ForgottenTopic::default().with_partitions(vec![0]);
    let (wanted, forgotten) = if version >= 13 {
        (wanted.with_topic_id(SOME_ID), forgotten.with_topic_id(SOME_ID))
    } else {
        (wanted.with_topic(topic("t")), forgotten.with_topic(topic("t")))
    };
    let asked = FetchRequest::default().with_max_wait_ms(10).with_min_bytes(1).with_max_bytes(10_000).with_topics(vec![wanted]);
    if version >= 7 { asked.with_session_epoch(-1).with_forgotten_topics_data(vec![forgotten]) } else { asked }
}

fn list_offsets(_: i16) -> ListOffsetsRequest {
    let at = |timestamp| lo::ListOffsetsPartition::default().with_timestamp(timestamp);
    let topics = vec![lo::ListOffsetsTopic::default().with_name(topic("t")).with_partitions(vec![at(-1), at(-2), at(7)])];
    ListOffsetsRequest::default().with_topics(topics)
}

fn offset_for_leader_epoch(_: i16) -> OffsetForLeaderEpochRequest {
    let of = |epoch| le::OffsetForLeaderPartition::default().with_leader_epoch(epoch);
    let topics = vec![le::OffsetForLeaderTopic::default().with_topic(topic("t")).with_partitions(vec![of(0), of(1), of(9)])];
    OffsetForLeaderEpochRequest::default().with_topics(topics)
}

fn metadata(version: i16) -> MetadataRequest {
    let one = |name| md::MetadataRequestTopic::default().with_name(Some(topic(name)));
    let asked = MetadataRequest::default().with_topics(Some(vec![one("t"), one("unknown")]));
    if version >= 4 { asked.with_allow_auto_topic_creation(false) } else { asked }
}

fn offset_commit(version: i16) -> OffsetCommitRequest {
    let partition = oc::OffsetCommitRequestPartition::default().with_committed_offset(1).with_committed_metadata(Some(text("m")));
    let topics = vec![oc::OffsetCommitRequestTopic::default().with_name(topic("t")).with_partitions(vec![partition])];
    OffsetCommitRequest::default().with_group_id(group(version)).with_generation_id_or_member_epoch(-1).with_topics(topics)
}

fn offset_fetch(version: i16) -> OffsetFetchRequest {
    if version >= 8 {
        let topics = vec![of::OffsetFetchRequestTopics::default().with_name(topic("t")).with_partition_indexes(vec![0, 1])];
        let one = |topics| of::OffsetFetchRequestGroup::default().with_group_id(group(version)).with_topics(topics);
        return OffsetFetchRequest::default().with_groups(vec![one(Some(topics)), one(None)]);
    }
    let topics = vec![of::OffsetFetchRequestTopic::default().with_name(topic("t")).with_partition_indexes(vec![0, 1])];
    OffsetFetchRequest::default().with_group_id(group(version)).with_topics(Some(topics))
}

fn offset_delete(version: i16) -> OffsetDeleteRequest {
    let partitions = vec![od::OffsetDeleteRequestPartition::default()];
    let topics = vec![od::OffsetDeleteRequestTopic::default().with_name(topic("t")).with_partitions(partitions)];
    OffsetDeleteRequest::default().with_group_id(group(version)).with_topics(topics)
}

fn join_group(version: i16) -> JoinGroupRequest {
    let protocols = vec![jg::JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(Bytes::from_static(&[0, 1, 0, 0]))];
    let asked = JoinGroupRequest::default()
        .with_group_id(GroupId(text(&format!("joined-{version}"))))
        .with_session_timeout_ms(1_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(protocols);
    if version >= 1 { asked.with_rebalance_timeout_ms(1_000) } else { asked }
}

fn sync_group(version: i16) -> SyncGroupRequest {
    let one = sg::SyncGroupRequestAssignment::default().with_member_id(text("m")).with_assignment(Bytes::from_static(b"part"));
    let asked =
        SyncGroupRequest::default().with_group_id(group(version)).with_member_id(text("m")).with_assignments(vec![one.clone(), one]);
    if version >= 5 { asked.with_protocol_type(Some(text("consumer"))).with_protocol_name(Some(text("range"))) } else { asked }
}

fn create_topics(version: i16) -> CreateTopicsRequest {
    let config = ct::CreatableTopicConfig::default().with_name(text("retention.ms")).with_value(Some(text("-1")));
    let one = ct::CreatableTopic::default().with_name(topic(&format!("made-{version}"))).with_num_partitions(1).with_replication_factor(1);
    let assigned = ct::CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(1)]);
    let other = ct::CreatableTopic::default().with_name(topic("assigned")).with_num_partitions(-1).with_replication_factor(-1);
    let topics = vec![one.with_configs(vec![config]), other.with_assignments(vec![assigned])];
    CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(1_000)
}
