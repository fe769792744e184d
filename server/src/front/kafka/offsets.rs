//! ListOffsets and InitProducerId.

use super::{super::Front, answered, codes, decoded, or_there};
use crate::kafka::wire::{Request, WireError};
use bytes::Bytes;
use kafka_protocol::messages::{
    InitProducerIdRequest, InitProducerIdResponse, ListOffsetsRequest, ListOffsetsResponse, ProducerId,
    list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
};
use millpond_runtime::Rt;
use millpond_wire::messages::{InitProducer, Kind, ListOffset, ListOffsets};
use std::rc::Rc;

/// The first record that is not elsewhere: as the first one, since nothing is (KIP-405).
const EARLIEST_LOCAL: i64 = -4;
const EARLIEST: i64 = -2;

/// Offsets by time. Any node answers for all partitions.
pub(super) async fn list<R: Rt>(front: &Rc<Front<R>>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: ListOffsetsRequest = decoded(request)?;
    let mut partitions = Vec::new();
    for topic in &asked.topics {
        partitions.extend(topic.partitions.iter().map(|p| ListOffset {
            topic: topic.name.to_string(),
            partition: u32::try_from(p.partition_index).unwrap_or(u32::MAX),
            time_ms: if p.timestamp == EARLIEST_LOCAL { EARLIEST } else { p.timestamp },
        }));
    }
    let reply = front.core.list_offsets(ListOffsets { partitions }, true).await;
    let (results, failure) = match reply {
        Ok(reply) => (reply.results, codes::NONE),
        Err(failure) => (Vec::new(), codes::of(&failure)),
    };
    let mut results = results.into_iter();
    let mut partition = |index: i32, asked: i64| {
        let result = results.next();
        let failed = result.as_ref().and_then(|r| r.failure.as_ref()).map_or(failure, codes::of);
        // No record is so young: that is no offset in Kafka.
        let found = result.filter(|r| failed == codes::NONE && (asked < 0 || r.time_ms >= 0));
        let answer = ListOffsetsPartitionResponse::default().with_partition_index(index).with_error_code(failed).with_leader_epoch(-1);
        answer.with_timestamp(found.as_ref().map_or(-1, |r| r.time_ms)).with_offset(found.map_or(-1, |r| r.offset as i64))
    };
    let topics = asked.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|p| partition(p.partition_index, p.timestamp)).collect();
        ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions)
    });
    let response = ListOffsetsResponse::default().with_topics(topics.collect());
    answered(request, &response)
}

/// An id for an idempotent producer; transactions are refused.
pub(super) async fn init_producer<R: Rt>(front: &Rc<Front<R>>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: InitProducerIdRequest = decoded(request)?;
    let none = InitProducerIdResponse::default().with_producer_id(ProducerId(-1)).with_producer_epoch(-1);
    let response = if asked.transactional_id.is_some() {
        none.with_error_code(codes::TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
    } else {
        let here = front.core.init_producer().await;
        match or_there(front, Kind::InitProducer, &InitProducer {}, here).await {
            Ok(reply) => InitProducerIdResponse::default()
                .with_producer_id(ProducerId(reply.producer_id as i64))
                .with_producer_epoch(reply.epoch as i16),
            Err(failure) => none.with_error_code(codes::of_coordinator(&failure)),
        }
    };
    answered(request, &response)
}
