use super::*;
use crate::kafka::wire::testing::{as_they_read, endpoints, key, leader, named, nearly, ours, records, text, theirs, with_a_tag};
use kafka_protocol::messages::{
    self, BrokerId, TransactionalId,
    produce_request::{PartitionProduceData, TopicProduceData},
    produce_response::{BatchIndexAndErrorMessage, LeaderIdAndEpoch, PartitionProduceResponse, TopicProduceResponse},
};
use proptest::{collection::vec, option, prelude::*};

const VERSIONS: std::ops::RangeInclusive<i16> = PRODUCE.min..=PRODUCE.max;

type Parts = Vec<(StrBytes, Vec<(i32, Option<Bytes>)>)>;
type KeyedParts = Vec<(TopicKey, Vec<(i32, Option<Bytes>)>)>;

fn parts() -> impl Strategy<Value = Parts> {
    vec((text(), vec((any::<i32>(), option::of(records())), 0..4)), 0..4)
}

fn keyed(version: i16, parts: &Parts) -> KeyedParts {
    parts.iter().map(|(name, partitions)| (key(name, version >= IDS_SINCE), partitions.clone())).collect()
}

fn request(transactional_id: Option<StrBytes>, acks: i16, timeout_ms: i32, parts: &KeyedParts) -> messages::ProduceRequest {
    let topics = parts.iter().map(|(topic, partitions)| {
        let (name, id) = named(topic);
        let partitions = partitions.iter().map(|(index, records)| {
            let of = PartitionProduceData::default();
            of.with_index(*index).with_records(records.clone())
        });
        TopicProduceData::default().with_name(name).with_topic_id(id).with_partition_data(partitions.collect())
    });
    messages::ProduceRequest::default()
        .with_transactional_id(transactional_id.map(TransactionalId))
        .with_acks(acks)
        .with_timeout_ms(timeout_ms)
        .with_topic_data(topics.collect())
}

fn parts_of(request: &ProduceRequest) -> KeyedParts {
    let partitions = |topic: &ProduceTopic| topic.partitions.iter().map(|p| (p.index, p.records)).collect();
    request.topics.iter().map(|topic| (topic.topic.clone(), partitions(&topic))).collect()
}

fn answer() -> impl Strategy<Value = ProduceResponse> {
    let errors = vec((any::<i32>(), option::of(text())).prop_map(|(batch_index, message)| RecordError { batch_index, message }), 0..3);
    let numbers = (any::<i32>(), any::<i16>(), any::<i64>(), any::<i64>(), any::<i64>());
    let partition = (numbers, errors, option::of(text()), leader()).prop_map(
        |((index, error_code, base_offset, log_append_time_ms, log_start_offset), record_errors, error_message, current_leader)| {
            ProducePartitionResponse {
                index,
                error_code,
                base_offset,
                log_append_time_ms,
                log_start_offset,
                record_errors,
                error_message,
                current_leader,
            }
        },
    );
    let topic =
        (text(), vec(partition, 0..4)).prop_map(|(name, partitions)| ProduceTopicResponse { topic: TopicKey::Name(name), partitions });
    let answer = (vec(topic, 0..4), any::<i32>(), endpoints());
    answer.prop_map(|(topics, throttle_time_ms, node_endpoints)| ProduceResponse { topics, throttle_time_ms, node_endpoints })
}

/// The same, with topics as a version has them.
fn in_version(mut answer: ProduceResponse, version: i16) -> ProduceResponse {
    for topic in &mut answer.topics {
        if let TopicKey::Name(name) = &topic.topic {
            topic.topic = key(name, version >= IDS_SINCE);
        }
    }
    answer
}

/// What of an answer a version can tell, as they have it.
fn expected(answer: &ProduceResponse, version: i16) -> messages::ProduceResponse {
    let errors = |p: &ProducePartitionResponse| {
        let one = |e: &RecordError| {
            let of = BatchIndexAndErrorMessage::default();
            of.with_batch_index(e.batch_index).with_batch_index_error_message(e.message.clone())
        };
        p.record_errors.iter().filter(|_| version >= 8).map(one).collect()
    };
    let partition = |p: &ProducePartitionResponse| {
        let now = if version >= 10 { p.current_leader } else { CurrentLeader::UNKNOWN };
        let leader = LeaderIdAndEpoch::default().with_leader_id(BrokerId(now.leader_id)).with_leader_epoch(now.leader_epoch);
        PartitionProduceResponse::default()
            .with_current_leader(leader)
            .with_index(p.index)
            .with_error_code(p.error_code)
            .with_base_offset(p.base_offset)
            .with_log_append_time_ms(p.log_append_time_ms)
            .with_log_start_offset(if version >= 5 { p.log_start_offset } else { -1 })
            .with_record_errors(errors(p))
            .with_error_message(p.error_message.clone().filter(|_| version >= 8))
    };
    let topics = answer.topics.iter().map(|t| {
        let partitions = t.partitions.iter().map(partition).collect();
        let (name, id) = named(&t.topic);
        TopicProduceResponse::default().with_name(name).with_topic_id(id).with_partition_responses(partitions)
    });
    let endpoint = |e: &NodeEndpoint| {
        let of = messages::produce_response::NodeEndpoint::default().with_node_id(BrokerId(e.node_id)).with_host(e.host.clone());
        of.with_port(e.port).with_rack(e.rack.clone())
    };
    let endpoints = answer.node_endpoints.iter().filter(|_| version >= 10).map(endpoint).collect();
    let response = messages::ProduceResponse::default().with_responses(topics.collect()).with_throttle_time_ms(answer.throttle_time_ms);
    response.with_node_endpoints(endpoints)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn requests_of_theirs_are_read(version in VERSIONS, id in option::of(text()), acks: i16, timeout_ms: i32, parts in parts()) {
        let parts = keyed(version, &parts);
        let body = theirs(&request(id.clone(), acks, timeout_ms, &parts), version);
        let read = ProduceRequest::read(body.clone(), version).expect("sound");
        prop_assert_eq!(&read.transactional_id, &id);
        prop_assert_eq!((read.acks, read.timeout_ms), (acks, timeout_ms));
        prop_assert_eq!(&parts_of(&read), &parts);
        // Records are slices of the request.
        for records in read.topics.iter().flat_map(|topic| topic.partitions.iter()).filter_map(|p| p.records) {
            prop_assert!(records.is_empty() || body.as_ptr_range().contains(&records.as_ptr()));
        }
        if PRODUCE.is_flexible(version) {
            let tagged = ProduceRequest::read(with_a_tag(&body), version).expect("sound");
            prop_assert_eq!(parts_of(&tagged), parts);
        }
    }

    #[test]
    fn answers_are_read_by_them(version in VERSIONS, answer in answer()) {
        let answer = in_version(answer, version);
        let read: messages::ProduceResponse = as_they_read(&answer, version);
        prop_assert_eq!(&read, &expected(&answer, version));
        prop_assert_eq!(ours(&answer, version), theirs(&read, version));
    }
}

#[test]
fn what_is_nearly_a_request_is_refused_or_read() {
    let some = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
    let parts = vec![
        (StrBytes::from_static_str("topic"), vec![(0, some("records")), (1, None), (2, some(""))]),
        (StrBytes::from_static_str("b"), vec![]),
        (StrBytes::from_static_str(""), vec![(7, some("x"))]),
    ];
    for version in VERSIONS {
        let body = theirs(&request(Some(StrBytes::from_static_str("id")), -1, 1000, &keyed(version, &parts)), version);
        nearly(&body, |body| {
            let bytes = body.len();
            let parts = parts_of(&ProduceRequest::read(body, version)?);
            // Whatever was read was there: each element takes three bytes at least.
            let elements = parts.len() + parts.iter().map(|(_, partitions)| partitions.len()).sum::<usize>();
            assert!(3 * elements <= bytes, "{elements} elements of {bytes} bytes");
            Ok(())
        });
    }
}

#[test]
fn versions_that_are_advertised_only_are_refused() {
    for version in [0, 1, 2, PRODUCE.max + 1] {
        let refused = ProduceRequest::read(Bytes::new(), version).expect_err("not spoken");
        assert_eq!(refused, WireError::Version { name: "Produce", version, min: 3, max: 13 });
    }
}
