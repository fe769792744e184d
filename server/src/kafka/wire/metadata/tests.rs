use super::*;
use crate::kafka::wire::testing::{as_they_read, nearly, ours, text, theirs, uuid, with_a_tag};
use kafka_protocol::messages::{self, BrokerId, TopicName};
use proptest::{collection::vec, option, prelude::*};

const VERSIONS: std::ops::RangeInclusive<i16> = METADATA.min..=METADATA.max;

fn partition() -> impl Strategy<Value = Partition> {
    let nodes = || vec(any::<i32>(), 0..4);
    (any::<i16>(), any::<i32>(), any::<i32>(), any::<i32>(), nodes(), nodes(), nodes()).prop_map(
        |(error_code, partition_index, leader_id, leader_epoch, replica_nodes, isr_nodes, offline_replicas)| Partition {
            error_code,
            partition_index,
            leader_id,
            leader_epoch,
            replica_nodes,
            isr_nodes,
            offline_replicas,
        },
    )
}

fn topic() -> impl Strategy<Value = Topic> {
    (any::<i16>(), option::of(text()), any::<[u8; 16]>(), any::<bool>(), vec(partition(), 0..4), any::<i32>()).prop_map(
        |(error_code, name, id, is_internal, partitions, topic_authorized_operations)| Topic {
            error_code,
            name,
            topic_id: TopicId(id),
            is_internal,
            partitions,
            topic_authorized_operations,
        },
    )
}

fn broker() -> impl Strategy<Value = Broker> {
    let fields = (any::<i32>(), text(), any::<i32>(), option::of(text()));
    fields.prop_map(|(node_id, host, port, rack)| Broker { node_id, host, port, rack })
}

fn answer() -> impl Strategy<Value = MetadataResponse> {
    (any::<i32>(), vec(broker(), 0..4), option::of(text()), any::<i32>(), vec(topic(), 0..4), any::<i32>()).prop_map(
        |(throttle_time_ms, brokers, cluster_id, controller_id, topics, cluster_authorized_operations)| MetadataResponse {
            throttle_time_ms,
            brokers,
            cluster_id,
            controller_id,
            topics,
            cluster_authorized_operations,
        },
    )
}

/// What of an answer a version can tell, as they have it.
fn expected(answer: &MetadataResponse, version: i16) -> messages::MetadataResponse {
    let nodes = |ids: &[i32]| ids.iter().map(|id| BrokerId(*id)).collect();
    let brokers = answer.brokers.iter().map(|b| {
        let of = messages::metadata_response::MetadataResponseBroker::default();
        let rack = b.rack.clone().filter(|_| version >= 1);
        of.with_node_id(BrokerId(b.node_id)).with_host(b.host.clone()).with_port(b.port).with_rack(rack)
    });
    let partitions = |p: &Partition| {
        messages::metadata_response::MetadataResponsePartition::default()
            .with_error_code(p.error_code)
            .with_partition_index(p.partition_index)
            .with_leader_id(BrokerId(p.leader_id))
            .with_leader_epoch(if version >= 7 { p.leader_epoch } else { -1 })
            .with_replica_nodes(nodes(&p.replica_nodes))
            .with_isr_nodes(nodes(&p.isr_nodes))
            .with_offline_replicas(if version >= 5 { nodes(&p.offline_replicas) } else { Vec::new() })
    };
    let topics = answer.topics.iter().map(|t| {
        let name = if version >= 12 { t.name.clone() } else { Some(t.name.clone().unwrap_or_default()) };
        messages::metadata_response::MetadataResponseTopic::default()
            .with_error_code(t.error_code)
            .with_name(name.map(TopicName))
            .with_topic_id(uuid(if version >= 10 { t.topic_id } else { TopicId::ZERO }))
            .with_is_internal(version >= 1 && t.is_internal)
            .with_partitions(t.partitions.iter().map(partitions).collect())
            .with_topic_authorized_operations(if version >= 8 { t.topic_authorized_operations } else { OPERATIONS_UNKNOWN })
    });
    let operations = if (8..=10).contains(&version) { answer.cluster_authorized_operations } else { OPERATIONS_UNKNOWN };
    messages::MetadataResponse::default()
        .with_throttle_time_ms(if version >= 3 { answer.throttle_time_ms } else { 0 })
        .with_brokers(brokers.collect())
        .with_cluster_id(answer.cluster_id.clone().filter(|_| version >= 2))
        .with_controller_id(BrokerId(if version >= 1 { answer.controller_id } else { -1 }))
        .with_topics(topics.collect())
        .with_cluster_authorized_operations(operations)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn answers_are_read_by_them(version in VERSIONS, answer in answer()) {
        let read: messages::MetadataResponse = as_they_read(&answer, version);
        prop_assert_eq!(&read, &expected(&answer, version));
        // And byte for byte what they write.
        prop_assert_eq!(ours(&answer, version), theirs(&read, version));
    }

    #[test]
    fn requests_of_theirs_are_read(
        version in VERSIONS, create: bool, cluster: bool, topic: bool,
        topics in option::of(vec((any::<[u8; 16]>(), option::of(text())), 0..4)),
    ) {
        let known = |(id, name): &([u8; 16], Option<StrBytes>)| MetadataRequestTopic {
            topic_id: if version >= 10 { TopicId(*id) } else { TopicId::ZERO },
            name: if version >= 10 { name.clone() } else { Some(name.clone().unwrap_or_default()) },
        };
        let topics: Option<Vec<_>> = topics.map(|topics| topics.iter().map(known).collect());
        let as_they_have_it = |t: &MetadataRequestTopic| {
            let of = messages::metadata_request::MetadataRequestTopic::default();
            of.with_topic_id(uuid(t.topic_id)).with_name(t.name.clone().map(TopicName))
        };
        let wire = topics.as_ref().map(|topics| topics.iter().map(as_they_have_it).collect());
        let request = messages::MetadataRequest::default()
            .with_topics(if version == 0 { wire.or(Some(Vec::new())) } else { wire })
            .with_allow_auto_topic_creation(version < 4 || create)
            .with_include_cluster_authorized_operations((8..=10).contains(&version) && cluster)
            .with_include_topic_authorized_operations(version >= 8 && topic);
        let body = theirs(&request, version);
        let read = MetadataRequest::read(body.clone(), version).expect("sound");
        let expected = topics.filter(|topics| version > 0 || !topics.is_empty());
        prop_assert_eq!(read.topics.as_ref().map(|topics| topics.iter().collect::<Vec<_>>()), expected);
        prop_assert_eq!(read.allow_auto_topic_creation, request.allow_auto_topic_creation);
        prop_assert_eq!(read.include_cluster_authorized_operations, request.include_cluster_authorized_operations);
        prop_assert_eq!(read.include_topic_authorized_operations, request.include_topic_authorized_operations);
        if METADATA.is_flexible(version) {
            prop_assert!(MetadataRequest::read(with_a_tag(&body), version).is_ok());
        }
        nearly(&body, |body| walked(MetadataRequest::read(body, version)?));
    }
}

/// Walks over all topics: no element is made of less than it takes on the wire.
fn walked(request: MetadataRequest) -> Result<(), WireError> {
    request.topics.iter().for_each(|topics| assert_eq!(topics.iter().count(), topics.len()));
    Ok(())
}

#[test]
fn four_bytes_do_not_take_gigabytes() {
    let huge = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff]);
    let refused = MetadataRequest::read(huge, 4).expect_err("the topics are not there");
    assert_eq!(refused, WireError::Count { what: "Topics", at: 4, count: i32::MAX as usize, least: 2, left: 0 });
}

#[test]
fn all_topics_are_not_no_topics() {
    let topics = |bytes: &'static [u8], version| {
        MetadataRequest::read(Bytes::from_static(bytes), version).expect("sound").topics.map(|topics| topics.len())
    };
    assert_eq!(topics(&[0, 0, 0, 0], 0), None);
    assert_eq!(topics(&[0, 0, 0, 0], 1), Some(0));
    assert_eq!(topics(&[0xff, 0xff, 0xff, 0xff], 1), None);
    let null = MetadataRequest::read(Bytes::from_static(&[0xff; 4]), 0).expect_err("version 0 has no null");
    assert_eq!(null, WireError::Null { what: "Topics" });
}
