//! Produce: batches are appended as they come, and answered once they last. A batch is copied once, out of the frame that it came in.

use super::{
    super::{
        Front,
        conn::{Answer, Conn, OUTCOME_BYTES, Outcomes, Told as ToldHow},
        dispatch::{BATCHES_FEW, BATCHES_MAX},
    },
    Closed, codes,
    leaders::Leaders,
    named::Named,
    transactions,
};
use crate::{
    catalog::names::NAME_BYTES_MAX,
    kafka::wire::{
        Answer as _, Request, TopicKey, WireError,
        produce::{ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopicResponse},
    },
    node::produce::Outcome,
    quota::Direction,
    security::acl::Operation,
};
use bytes::{Bytes, BytesMut};
use millpond_runtime::{Nanos, Rt};
use millpond_wire::messages::{Code, Failure, ProduceResult};
use std::{collections::BTreeMap, rc::Rc};

/// Batches that were taken, and how they are answered.
pub(in super::super) struct Told {
    version: i16,
    correlation_id: i32,
    throttle_ms: u32,
    /// By topic, its partitions, in the order of the request.
    topics: Vec<(Named, Vec<i32>)>,
    /// Set if nothing was appended at all: what each partition is told.
    refused: Option<i16>,
    /// What is told of a batch whose transaction does not take it, by its place in the request.
    unwanted: BTreeMap<usize, i16>,
}

impl Told {
    /// The frame, given what became of the batches, in their order.
    pub(in super::super) fn answer<R: Rt>(&self, front: &Front<R>, results: &[ProduceResult]) -> Vec<Bytes> {
        let (mut results, mut leaders) = (results.iter().enumerate(), Leaders::new(front));
        let mut partition = |topic: &str, index: &i32| {
            let (number, result) = results.next().unzip();
            let failure = result.and_then(|result| result.failure.as_ref());
            let unwanted = number.and_then(|number| self.unwanted.get(&number).copied());
            let error_code = self.refused.or(unwanted).unwrap_or_else(|| failure.map_or(codes::NONE, codes::of));
            let good = result.filter(|_| error_code == codes::NONE);
            ProducePartitionResponse {
                index: *index,
                error_code,
                base_offset: good.map_or(-1, |result| result.base_offset as i64),
                log_append_time_ms: good.map_or(-1, |result| result.append_time_ms),
                log_start_offset: -1,
                record_errors: Vec::new(),
                error_message: failure.map(codes::text),
                current_leader: leaders.name(error_code, topic, *index),
            }
        };
        let topics = self.topics.iter().map(|(topic, partitions)| ProduceTopicResponse {
            topic: topic.key.clone(),
            partitions: partitions.iter().map(|index| partition(topic.name(), index)).collect(),
        });
        let topics = topics.collect();
        let response = ProduceResponse { topics, throttle_time_ms: self.throttle_ms as i32, node_endpoints: leaders.endpoints() };
        response.frame(self.version, self.correlation_id)
    }
}

/// Why a whole request is refused.
fn refused(asked: &ProduceRequest) -> Option<i16> {
    let acks = if asked.transactional_id.is_some() { -1..=-1 } else { -1..=1 };
    (!acks.contains(&asked.acks)).then_some(codes::INVALID_REQUIRED_ACKS)
}

/// Appends what a request brings.
pub(super) async fn take<R: Rt>(front: &Rc<Front<R>>, conn: &Rc<Conn<R>>, request: Request, now: Nanos) -> Result<(), Closed> {
    let (version, correlation_id) = (request.header.version, request.header.correlation_id);
    let asked = ProduceRequest::read(request.body, version)?;
    let (mut batches, mut empty, mut names, mut bytes) = (0, 0, 0, 0);
    for topic in asked.topics.iter() {
        batches += topic.partitions.len();
        empty += usize::from(topic.partitions.is_empty());
        // What its id stands for is no longer than names are.
        names += if matches!(topic.topic, TopicKey::Id(_)) { NAME_BYTES_MAX } else { topic.topic.len() };
        bytes += topic.partitions.iter().map(|p| p.records.map_or(0, |records| records.len() as u64)).sum::<u64>();
    }
    // A topic without partitions brings no batch, and is answered as one that does.
    if batches + empty > BATCHES_MAX {
        return Err(WireError::Elements { what: "PartitionData", limit: BATCHES_MAX }.into());
    }
    let throttle_ms = front.charge(conn, now, Direction::Produce, bytes);
    let refused = refused(&asked).or_else(|| {
        let may = asked.transactional_id.as_deref().is_none_or(|id| transactions::may_write(front, conn, id));
        (!may).then_some(codes::TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
    });
    let topics: Vec<_> = asked.topics.iter().map(|topic| (Named::look_up(front, topic.topic), topic.partitions)).collect();
    let denied = front.denied(conn, Operation::Write, topics.iter().filter_map(|(topic, _)| topic.known()));
    // What becomes of a batch pays for the name of a topic, if it is no longer than names are.
    let is_usual = batches <= BATCHES_FEW && empty == 0 && names <= batches * NAME_BYTES_MAX && refused.is_none();
    let held = if !is_usual {
        conn.wait_room(now, Conn::defers_nothing).await;
        Some(front.long.take((batches + empty) * OUTCOME_BYTES + names).await)
    } else {
        None
    };
    let mut told =
        Told { version, correlation_id, throttle_ms, topics: Vec::with_capacity(asked.topics.len()), refused, unwanted: BTreeMap::new() };
    let mut joined =
        if refused.is_some() { Vec::new() } else { transactions::join_of(front, &asked, &topics, version, &denied).await }.into_iter();
    let mut outcomes = Vec::with_capacity(batches);
    for (topic, partitions) in topics {
        let refusal = topic.refusal(&denied);
        for partition in partitions.iter().filter(|_| told.refused.is_none()) {
            let joined = joined.next().transpose();
            // Another topic may have come in its place while the batches before this one waited.
            let refusal = refusal.or_else(|| (!topic.is_still(front)).then_some(codes::UNKNOWN_TOPIC_ID));
            let ended = match refusal.map_or(joined, Err) {
                Ok(ended) => ended,
                Err(code) => {
                    told.unwanted.insert(outcomes.len(), code);
                    let failure = Failure::new(
                        Code::BadBatch,
                        "there is no such topic, it may not be written there, or its transaction does not take it",
                        "see the error's code",
                    );
                    outcomes.push(Outcome::Done(Err(failure)));
                    continue;
                }
            };
            outcomes.push(append(front, topic.name(), partition.index, partition.records, asked.acks == -1, ended).await);
        }
        // Copied, so that it does not keep the buffer that it came in.
        told.topics.push((topic.kept(), partitions.iter().map(|p| p.index).collect()));
    }
    if asked.acks == 0 {
        let failed = outcomes.iter().find_map(|outcome| match outcome {
            Outcome::Done(Err(failure)) => Some(failure.message.clone()),
            _ => None,
        });
        return failed.map_or(Ok(()), |why| Err(Closed::Unacknowledged(why)));
    }
    let outcomes =
        if outcomes.len() == 1 { outcomes.pop().map_or(Outcomes::Many(Vec::new()), Outcomes::One) } else { Outcomes::Many(outcomes) };
    conn.push(Answer::Produced { told: ToldHow::Kafka(Box::new(told)), began: now, outcomes, held });
    Ok(())
}

async fn append<R: Rt>(
    front: &Rc<Front<R>>,
    topic: &str,
    partition: i32,
    records: Option<Bytes>,
    synced: bool,
    ended: Option<i32>,
) -> Outcome<R> {
    let bad = |message: &str| Outcome::Done(Err(Failure::new(Code::BadBatch, message, "correct the producer")));
    let Ok(partition) = u32::try_from(partition) else {
        return Outcome::Done(Err(Failure::new(Code::UnknownTopic, "a partition below zero", "correct the producer")));
    };
    match records {
        Some(records) if !records.is_empty() => front.core.produce(topic, partition, BytesMut::from(&records[..]), synced, ended).await,
        _ => bad("a partition without a batch"),
    }
}
