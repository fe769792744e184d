use super::*;
use crate::kafka::wire::testing::{as_they_read, endpoints, key, leader, named, nearly, ours, records, text, theirs, with_a_tag};
use kafka_protocol::messages::{self, BrokerId, ProducerId, fetch_request, fetch_response};
use proptest::{collection::vec, option, prelude::*};

const VERSIONS: std::ops::RangeInclusive<i16> = FETCH.min..=FETCH.max;

type Topics = Vec<(StrBytes, Vec<FetchPartition>)>;
type Forgotten = Vec<(StrBytes, Vec<i32>)>;

fn partition() -> impl Strategy<Value = FetchPartition> {
    (any::<i32>(), any::<i32>(), any::<i64>(), any::<i32>(), any::<i64>(), any::<i32>()).prop_map(
        |(partition, current_leader_epoch, fetch_offset, last_fetched_epoch, log_start_offset, partition_max_bytes)| FetchPartition {
            partition,
            current_leader_epoch,
            fetch_offset,
            last_fetched_epoch,
            log_start_offset,
            partition_max_bytes,
        },
    )
}

fn topics() -> impl Strategy<Value = Topics> {
    vec((text(), vec(partition(), 0..4)), 0..4)
}

fn forgotten() -> impl Strategy<Value = Forgotten> {
    vec((text(), vec(any::<i32>(), 0..4)), 0..3)
}

/// A request of theirs with these numbers: replica, wait, least bytes, most bytes, session, its epoch.
fn request(
    version: i16,
    [replica, wait, least, most, session, epoch]: [i32; 6],
    topics: &Topics,
    forgotten: &Forgotten,
) -> messages::FetchRequest {
    let partition = |p: &FetchPartition| {
        fetch_request::FetchPartition::default()
            .with_partition(p.partition)
            .with_current_leader_epoch(p.current_leader_epoch)
            .with_fetch_offset(p.fetch_offset)
            .with_last_fetched_epoch(if version >= 12 { p.last_fetched_epoch } else { -1 })
            .with_log_start_offset(p.log_start_offset)
            .with_partition_max_bytes(p.partition_max_bytes)
    };
    let topics = topics.iter().map(|(name, partitions)| {
        let partitions = partitions.iter().map(partition).collect();
        let (name, id) = named(&key(name, version >= IDS_SINCE));
        fetch_request::FetchTopic::default().with_topic(name).with_topic_id(id).with_partitions(partitions)
    });
    let forgotten = forgotten.iter().filter(|_| version >= 7).map(|(name, partitions)| {
        let (name, id) = named(&key(name, version >= IDS_SINCE));
        fetch_request::ForgottenTopic::default().with_topic(name).with_topic_id(id).with_partitions(partitions.clone())
    });
    let is_tagged = version >= REPLICAS_TAGGED_SINCE;
    let state = fetch_request::ReplicaState::default().with_replica_id(BrokerId(if is_tagged { replica } else { -1 }));
    messages::FetchRequest::default()
        .with_replica_id(BrokerId(if is_tagged { -1 } else { replica }))
        .with_replica_state(state)
        .with_max_wait_ms(wait)
        .with_min_bytes(least)
        .with_max_bytes(most)
        .with_isolation_level(1)
        .with_session_id(session)
        .with_session_epoch(epoch)
        .with_topics(topics.collect())
        .with_forgotten_topics_data(forgotten.collect())
}

/// Topics as a version has them.
fn keyed<T: Clone>(version: i16, topics: &[(StrBytes, T)]) -> Vec<(TopicKey, T)> {
    topics.iter().map(|(name, of)| (key(name, version >= IDS_SINCE), of.clone())).collect()
}

fn topics_of(request: &FetchRequest) -> Vec<(TopicKey, Vec<FetchPartition>)> {
    request.topics.iter().map(|topic| (topic.topic, topic.partitions.iter().collect())).collect()
}

fn forgotten_of(request: &FetchRequest) -> Vec<(TopicKey, Vec<i32>)> {
    request.forgotten.iter().map(|topic| (topic.topic, topic.partitions.iter().collect())).collect()
}

/// What of a partition a version can say.
fn said(version: i16, p: &FetchPartition) -> FetchPartition {
    FetchPartition {
        current_leader_epoch: if version >= 9 { p.current_leader_epoch } else { -1 },
        last_fetched_epoch: if version >= 12 { p.last_fetched_epoch } else { -1 },
        log_start_offset: if version >= 5 { p.log_start_offset } else { -1 },
        ..*p
    }
}

fn fetched() -> impl Strategy<Value = FetchedPartition> {
    let aborted = (any::<i64>(), any::<i64>()).prop_map(|(producer_id, first_offset)| AbortedTransaction { producer_id, first_offset });
    let epoch_end = (-1..3_i32, -1..3_i64).prop_map(|(epoch, end_offset)| EpochEnd { epoch, end_offset });
    let numbers = (any::<i32>(), any::<i16>(), any::<i64>(), any::<i64>(), any::<i64>(), any::<i32>());
    (numbers, epoch_end, leader(), option::of(vec(aborted, 0..3)), vec(records(), 0..4)).prop_map(
        |((index, error_code, high_watermark, stable, start, replica), diverging_epoch, current_leader, aborted_transactions, records)| {
            FetchedPartition {
                partition_index: index,
                error_code,
                high_watermark,
                last_stable_offset: stable,
                log_start_offset: start,
                diverging_epoch,
                current_leader,
                aborted_transactions,
                preferred_read_replica: replica,
                records,
            }
        },
    )
}

fn answer() -> impl Strategy<Value = FetchResponse> {
    let topic = (text(), vec(fetched(), 0..4)).prop_map(|(name, partitions)| FetchedTopic { topic: TopicKey::Name(name), partitions });
    (any::<i32>(), any::<i16>(), any::<i32>(), vec(topic, 0..4), endpoints()).prop_map(
        |(throttle_time_ms, error_code, session_id, topics, node_endpoints)| FetchResponse {
            throttle_time_ms,
            error_code,
            session_id,
            topics,
            node_endpoints,
        },
    )
}

/// The same, with topics as a version has them.
fn in_version(mut answer: FetchResponse, version: i16) -> FetchResponse {
    for topic in &mut answer.topics {
        if let TopicKey::Name(name) = &topic.topic {
            topic.topic = key(name, version >= IDS_SINCE);
        }
    }
    answer
}

/// What of a partition a version can tell, as they have it.
fn partition_expected(p: &FetchedPartition, version: i16) -> fetch_response::PartitionData {
    let aborted = |aborted: &AbortedTransaction| {
        let of = fetch_response::AbortedTransaction::default();
        of.with_producer_id(ProducerId(aborted.producer_id)).with_first_offset(aborted.first_offset)
    };
    let end = if version >= 12 { p.diverging_epoch } else { EpochEnd::UNKNOWN };
    let now = if version >= 12 { p.current_leader } else { CurrentLeader::UNKNOWN };
    let leader = fetch_response::LeaderIdAndEpoch::default().with_leader_id(BrokerId(now.leader_id)).with_leader_epoch(now.leader_epoch);
    fetch_response::PartitionData::default()
        .with_partition_index(p.partition_index)
        .with_error_code(p.error_code)
        .with_high_watermark(p.high_watermark)
        .with_last_stable_offset(p.last_stable_offset)
        .with_log_start_offset(if version >= 5 { p.log_start_offset } else { -1 })
        .with_diverging_epoch(fetch_response::EpochEndOffset::default().with_epoch(end.epoch).with_end_offset(end.end_offset))
        .with_current_leader(leader)
        .with_aborted_transactions(p.aborted_transactions.as_ref().map(|all| all.iter().map(aborted).collect()))
        .with_preferred_read_replica(BrokerId(if version >= 11 { p.preferred_read_replica } else { -1 }))
        .with_records(Some(Bytes::from(p.records.concat())))
}

fn expected(answer: &FetchResponse, version: i16) -> messages::FetchResponse {
    let topics = answer.topics.iter().map(|t| {
        let partitions = t.partitions.iter().map(|p| partition_expected(p, version)).collect();
        let (name, id) = named(&t.topic);
        fetch_response::FetchableTopicResponse::default().with_topic(name).with_topic_id(id).with_partitions(partitions)
    });
    let endpoint = |e: &NodeEndpoint| {
        let of = fetch_response::NodeEndpoint::default().with_node_id(BrokerId(e.node_id)).with_host(e.host.clone());
        of.with_port(e.port).with_rack(e.rack.clone())
    };
    let endpoints = answer.node_endpoints.iter().filter(|_| version >= ENDPOINTS_SINCE).map(endpoint).collect();
    messages::FetchResponse::default()
        .with_throttle_time_ms(answer.throttle_time_ms)
        .with_error_code(if version >= 7 { answer.error_code } else { 0 })
        .with_session_id(if version >= 7 { answer.session_id } else { 0 })
        .with_responses(topics.collect())
        .with_node_endpoints(endpoints)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn requests_of_theirs_are_read(
        version in VERSIONS, numbers: [i32; 6], topics in topics(), forgotten in forgotten(), rack in text(), cluster in option::of(text()),
    ) {
        let mut wire = request(version, numbers, &topics, &forgotten);
        wire.rack_id = if version >= 11 { rack } else { StrBytes::new() };
        wire.cluster_id = cluster.filter(|_| version >= 12);
        let body = theirs(&wire, version);
        let read = FetchRequest::read(body.clone(), version).expect("sound");
        let told = topics.iter().map(|(name, all)| (name.clone(), all.iter().map(|p| said(version, p)).collect()));
        prop_assert_eq!(topics_of(&read), keyed(version, &told.collect::<Topics>()));
        prop_assert_eq!(forgotten_of(&read), if version >= 7 { keyed(version, &forgotten) } else { Vec::new() });
        prop_assert_eq!(&[read.replica_id, read.max_wait_ms, read.min_bytes, read.max_bytes][..], &numbers[..4]);
        prop_assert_eq!([read.session_id, read.session_epoch], if version >= 7 { [numbers[4], numbers[5]] } else { [0, -1] });
        prop_assert_eq!((read.isolation_level, &read.rack_id, &read.cluster_id), (1, &wire.rack_id, &wire.cluster_id));
        if (FETCH.flexible..REPLICAS_TAGGED_SINCE).contains(&version) && wire.cluster_id.is_none() {
            prop_assert!(FetchRequest::read(with_a_tag(&body), version).is_ok());
        }
    }

    #[test]
    fn answers_are_read_by_them(version in VERSIONS, answer in answer()) {
        let answer = in_version(answer, version);
        let read: messages::FetchResponse = as_they_read(&answer, version);
        prop_assert_eq!(&read, &expected(&answer, version));
        prop_assert_eq!(ours(&answer, version), theirs(&read, version));
    }

    #[test]
    fn records_are_passed_on_as_they_are(version in VERSIONS, answer in answer()) {
        let answer = in_version(answer, version);
        let pieces = answer.frame(version, 1);
        let large = answer.topics.iter().flat_map(|t| &t.partitions).flat_map(|p| &p.records).filter(|r| r.len() >= 1024);
        for records in large {
            prop_assert!(pieces.iter().any(|piece| piece.as_ptr() == records.as_ptr() && piece.len() == records.len()), "they were copied");
        }
    }
}

#[test]
fn what_is_nearly_a_request_is_refused_or_read() {
    let one = FetchPartition {
        partition: 1,
        current_leader_epoch: 2,
        fetch_offset: 3,
        last_fetched_epoch: 4,
        log_start_offset: 5,
        partition_max_bytes: 6,
    };
    let name = |text: &'static str| StrBytes::from_static_str(text);
    let topics = vec![(name("topic"), vec![one, one]), (name(""), vec![]), (name("c"), vec![one])];
    let forgotten = vec![(name("old"), vec![1, 2, 3]), (name("d"), vec![])];
    for version in VERSIONS {
        let mut wire = request(version, [-1, 500, 1, 1 << 20, 7, 8], &topics, &forgotten);
        wire.cluster_id = (version >= 12).then(|| name("cluster"));
        nearly(&theirs(&wire, version), |body| {
            let bytes = body.len();
            let read = FetchRequest::read(body, version)?;
            let partitions = topics_of(&read).iter().map(|(_, all)| all.len()).sum::<usize>();
            let forgotten = forgotten_of(&read).iter().map(|(_, all)| all.len()).sum::<usize>();
            assert!(16 * partitions + 4 * forgotten <= bytes, "{partitions} and {forgotten} elements of {bytes} bytes");
            Ok(())
        });
    }
}

#[test]
fn a_version_without_sessions_has_none() {
    let body = theirs(&request(4, [-1, 0, 0, 0, 9, 9], &Topics::new(), &Forgotten::new()), 4);
    let read = FetchRequest::read(body, 4).expect("sound");
    assert_eq!((read.session_id, read.session_epoch, read.forgotten.len()), (0, -1, 0));
    assert!(FetchRequest::read(Bytes::new(), FETCH.max + 1).is_err());
}
