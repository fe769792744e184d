//! Epochs of leaders (KIP-320), which are the terms in which they lead; and OffsetForLeaderEpoch: where one has ended.

use super::{
    super::{Front, conn::Conn},
    answered, codes, decoded,
};
use crate::{
    kafka::wire::{Request, WireError},
    security::acl::{Operation, ResourceType},
};
use bytes::Bytes;
use kafka_protocol::messages::{
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    offset_for_leader_epoch_request::OffsetForLeaderPartition,
    offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult},
};
use millpond_runtime::Rt;
use std::rc::Rc;

/// What stands for an epoch that is not known.
const UNKNOWN: i32 = -1;

/// An epoch that a client says, if it does.
pub(super) fn said(epoch: i32) -> Option<i32> {
    Some(epoch).filter(|epoch| *epoch >= 0)
}

/// An epoch as a client is told.
pub(super) fn told(epoch: Option<i32>) -> i32 {
    epoch.unwrap_or(UNKNOWN)
}

/// Where epochs have ended, as their partitions' leader knows it.
pub(super) async fn ends<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let mut asked: OffsetForLeaderEpochRequest = decoded(request)?;
    let denied = front.withhold(conn, (Operation::Describe, ResourceType::Topic), &mut asked.topics, |topic| &topic.topic);
    let mut wanted = Vec::new();
    for topic in &asked.topics {
        let one = |p: &OffsetForLeaderPartition| {
            (topic.topic.as_str(), u32::try_from(p.partition).unwrap_or(u32::MAX), p.leader_epoch, said(p.current_leader_epoch))
        };
        wanted.extend(topic.partitions.iter().map(one));
    }
    let mut found = front.core.epoch_ends(&wanted).await.into_iter();
    let mut partition = |number: i32| {
        let answer = EpochEndOffset::default().with_partition(number);
        match found.next() {
            Some(Ok(Some(end))) => answer.with_leader_epoch(end.epoch).with_end_offset(end.end_offset as i64),
            Some(Err(failure)) => answer.with_error_code(codes::of(&failure)),
            // All epochs here are earlier than the one that was asked for.
            Some(Ok(None)) | None => answer,
        }
    };
    let topics = asked.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|p| partition(p.partition)).collect();
        OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions)
    });
    let denied = denied.into_iter().map(|topic| {
        let refused = |p: &OffsetForLeaderPartition| {
            EpochEndOffset::default().with_partition(p.partition).with_error_code(codes::TOPIC_AUTHORIZATION_FAILED)
        };
        let partitions = topic.partitions.iter().map(refused).collect();
        OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(partitions)
    });
    answered(request, &OffsetForLeaderEpochResponse::default().with_topics(topics.chain(denied).collect()))
}
