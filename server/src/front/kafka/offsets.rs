//! ListOffsets.

use super::{
    super::{Front, conn::Conn},
    answered, codes, decoded, epochs,
};
use crate::{
    kafka::wire::{Request, WireError},
    security::acl::{Operation, ResourceType},
};
use bytes::Bytes;
use kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse,
    list_offsets_request::ListOffsetsPartition,
    list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
};
use millpond_runtime::Rt;
use millpond_wire::messages::{ListOffset, ListOffsets};
use std::rc::Rc;

/// The first record that is not elsewhere: as the first one, since nothing is (KIP-405).
const EARLIEST_LOCAL: i64 = -4;
const EARLIEST: i64 = -2;
/// From this version on epochs of leaders are told.
const EPOCHS_SINCE: i16 = 4;

/// Offsets by time. Any node answers for all partitions.
pub(super) async fn list<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let mut asked: ListOffsetsRequest = decoded(request)?;
    let denied = front.withhold(conn, (Operation::Describe, ResourceType::Topic), &mut asked.topics, |topic| &topic.name);
    let mut partitions = Vec::new();
    for topic in &asked.topics {
        partitions.extend(topic.partitions.iter().map(|p| ListOffset {
            topic: topic.name.to_string(),
            partition: u32::try_from(p.partition_index).unwrap_or(u32::MAX),
            time_ms: if p.timestamp == EARLIEST_LOCAL { EARLIEST } else { p.timestamp },
            committed: asked.isolation_level != 0,
            leader_epoch: epochs::said(p.current_leader_epoch),
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
        let answer = ListOffsetsPartitionResponse::default().with_partition_index(index).with_error_code(failed);
        let epoch = found.as_ref().and_then(|r| r.leader_epoch).filter(|_| request.header.version >= EPOCHS_SINCE);
        let answer = answer.with_leader_epoch(epochs::told(epoch));
        answer.with_timestamp(found.as_ref().map_or(-1, |r| r.time_ms)).with_offset(found.map_or(-1, |r| r.offset as i64))
    };
    let topics = asked.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|p| partition(p.partition_index, p.timestamp)).collect();
        ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions)
    });
    let denied = denied.into_iter().map(|topic| {
        let partition = |p: &ListOffsetsPartition| {
            let refused = ListOffsetsPartitionResponse::default().with_partition_index(p.partition_index).with_leader_epoch(-1);
            refused.with_error_code(codes::TOPIC_AUTHORIZATION_FAILED).with_timestamp(-1).with_offset(-1)
        };
        ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(topic.partitions.iter().map(partition).collect())
    });
    let response = ListOffsetsResponse::default().with_topics(topics.chain(denied).collect());
    answered(request, &response)
}
