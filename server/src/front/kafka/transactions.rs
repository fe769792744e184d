//! Transactions: InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn, TxnOffsetCommit, EndTxn; what is told of them: DescribeProducers, DescribeTransactions,
//! ListTransactions; and WriteTxnMarkers, for those that hang.
//!
//! Both protocols are spoken. In the second one (KIP-890), of which a client learns by the feature `transaction.version`, a batch or a commit brings its partition or
//! group into the transaction by itself, and each end begins an epoch. In the first one a client says beforehand where it writes; whether it has is looked at with the first
//! batch, so that what comes after the end of a transaction is not taken for a part of the next one.

use super::{
    super::{Front, conn::Conn, requests::POSITION_BYTES},
    answered, codes, decoded, groups,
    named::Named,
    positions,
};
use crate::{
    coordinator::{METADATA_PER_COMMIT_BYTES_MAX, POSITIONS_PER_COMMIT_MAX, Part, pattern, transactions::State},
    kafka::wire::{
        Request, Table, WireError,
        api_versions::{ApiVersionsResponse, Feature},
        produce::{ProducePartition, ProduceRequest},
        versions,
    },
    security::acl::{Operation, ResourceType},
};
use bytes::Bytes;
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, DescribeProducersRequest,
    DescribeProducersResponse, DescribeTransactionsRequest, DescribeTransactionsResponse, EndTxnRequest, EndTxnResponse,
    InitProducerIdRequest, InitProducerIdResponse, ListTransactionsRequest, ListTransactionsResponse, ProducerId, TopicName,
    TransactionalId, TxnOffsetCommitRequest, TxnOffsetCommitResponse, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
    add_partitions_to_txn_response::{AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult},
    describe_producers_response::{PartitionResponse, ProducerState, TopicResponse},
    describe_transactions_response::{TopicData, TransactionState as Described},
    list_transactions_response::TransactionState as Listed,
    txn_offset_commit_response::{TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic},
    write_txn_markers_request::WritableTxnMarker,
    write_txn_markers_response::{WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult},
};
use millpond_batch::Header;
use millpond_log::ProducerView;
use millpond_runtime::Rt;
use millpond_wire::messages::{InitProducer, JoinTransaction, JoinTransactionReply, Kind, TopicPartitions, TransactionRefusal as Refusal};
use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

/// From these versions on the second protocol is spoken.
const PRODUCE_JOINS_SINCE: i16 = 12;
const COMMIT_JOINS_SINCE: i16 = 5;
const END_BEGINS_EPOCH_SINCE: i16 = 5;
/// From these versions on a client knows that it was taken the place of (KIP-588).
const INIT_KNOWS_FENCED_SINCE: i16 = 4;
const KNOWS_FENCED_SINCE: i16 = 2;
/// From this version on a producer can be told to give its transaction up and go on (KIP-890).
const PRODUCE_KNOWS_ABORTABLE_SINCE: i16 = 11;
const TRANSACTION_ABORTABLE: i16 = 120;
/// Most transactions that hang and are given up by one request: all coordinators are asked for each.
const HANGING_PER_REQUEST_MAX: usize = 100;

/// What a producer of a partition takes in an answer, in bytes; and a transactional id.
const PRODUCER_BYTES: usize = 128;
const TRANSACTION_BYTES: usize = 512;

/// The second protocol is spoken by all nodes.
const FEATURES: &[Feature<'static>] = &[Feature { name: "transaction.version", min: 0, max: 2 }];
const FINALIZED: &[Feature<'static>] = &[Feature { name: "transaction.version", min: 2, max: 2 }];

/// Tells a client that the second protocol is spoken, if it can bear to be told: librdkafka before 2.2 cannot read tagged fields in this answer
/// (confluentinc/librdkafka#4278).
pub(super) fn with_features<'a>(response: ApiVersionsResponse<'a>, name: &str, version: &str) -> ApiVersionsResponse<'a> {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if name.is_empty() || (name == "librdkafka" && version < (2, 2)) {
        return response;
    }
    ApiVersionsResponse { supported_features: FEATURES, finalized_features_epoch: 1, finalized_features: FINALIZED, ..response }
}

/// What an answer takes, in bytes.
pub(super) fn weigh<R: Rt>(front: &Front<R>, request: &Request) -> usize {
    if request.api.key == versions::LIST_TRANSACTIONS.key {
        return front.core.groups_here() * front.core.cores() * TRANSACTION_BYTES;
    }
    let partitions =
        decoded::<DescribeProducersRequest>(request).map_or(0, |asked| asked.topics.iter().map(|t| t.partition_indexes.len()).sum());
    partitions * POSITION_BYTES + millpond_log::producers::PRODUCERS_MAX.min(partitions * 1_000) * PRODUCER_BYTES
}

/// An id for a producer, with or without transactions.
pub(super) async fn init<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: InitProducerIdRequest = decoded(request)?;
    let none = InitProducerIdResponse::default().with_producer_id(ProducerId(-1)).with_producer_epoch(-1);
    let Some(TransactionalId(id)) = &asked.transactional_id else {
        if !front.may_write_somewhere(conn) {
            return answered(request, &none.with_error_code(codes::CLUSTER_AUTHORIZATION_FAILED));
        }
        let here = front.core.init_producer().await;
        let response = match front.core.or_there(Kind::InitProducer, &InitProducer {}, here).await {
            Ok(reply) => InitProducerIdResponse::default()
                .with_producer_id(ProducerId(reply.producer_id as i64))
                .with_producer_epoch(reply.epoch as i16),
            Err(failure) => none.with_error_code(codes::of_coordinator(&failure)),
        };
        return answered(request, &response);
    };
    if !may_write(front, conn, id) {
        return answered(request, &none.with_error_code(codes::TRANSACTIONAL_ID_AUTHORIZATION_FAILED));
    }
    let timeout_ms = u32::try_from(asked.transaction_timeout_ms).unwrap_or(0);
    let known = u64::try_from(asked.producer_id.0).ok().filter(|_| asked.producer_epoch >= 0).map(|id| (id, asked.producer_epoch));
    let knows_fenced = request.header.version >= INIT_KNOWS_FENCED_SINCE;
    let response = match front.core.init_transactions(id.to_string(), timeout_ms, known).await {
        Ok(Ok((id, epoch))) => InitProducerIdResponse::default().with_producer_id(ProducerId(id as i64)).with_producer_epoch(epoch),
        Ok(Err(refusal)) => none.with_error_code(codes::of_refusal(refusal, knows_fenced)),
        Err(failure) => none.with_error_code(codes::of_coordinator(&failure)),
    };
    answered(request, &response)
}

/// Whether a client may have transactions of this id.
pub(super) fn may_write<R: Rt>(front: &Front<R>, conn: &Conn<R>, id: &str) -> bool {
    front.may(conn, Operation::Write, ResourceType::TransactionalId, id)
}

/// Who speaks, and for which transactional id.
fn join(id: &str, producer_id: ProducerId, epoch: i16, add: bool) -> JoinTransaction {
    JoinTransaction {
        transactional_id: id.to_owned(),
        // What is below zero is nobody's.
        producer_id: u64::try_from(producer_id.0).unwrap_or(u64::MAX),
        epoch: u32::try_from(epoch).unwrap_or(u32::MAX),
        add,
        ..JoinTransaction::default()
    }
}

/// What came of asking a coordinator.
fn code_of(joined: Result<JoinTransactionReply, millpond_wire::messages::Failure>, knows_fenced: bool) -> i16 {
    match joined.map(|reply| Refusal::try_from(reply.refusal)) {
        Ok(refusal) => codes::of_refusal(refusal.unwrap_or(Refusal::Invalid), knows_fenced),
        Err(failure) => codes::of_coordinator(&failure),
    }
}

/// Partitions come into a transaction, all or none of them.
pub(super) async fn add_partitions<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: AddPartitionsToTxnRequest = decoded(request)?;
    let topics = &asked.v3_and_below_topics;
    let named = |partition: &i32| u32::try_from(*partition).unwrap_or(u32::MAX);
    let parts = topics.iter().map(|t| TopicPartitions { topic: t.name.to_string(), partitions: t.partitions.iter().map(named).collect() });
    let TransactionalId(id) = &asked.v3_and_below_transactional_id;
    let whole = JoinTransaction {
        partitions: parts.collect(),
        ..join(id, asked.v3_and_below_producer_id, asked.v3_and_below_producer_epoch, true)
    };
    let denied = front.denied(conn, Operation::Write, topics.iter().map(|topic| topic.name.as_str()));
    let code = if !may_write(front, conn, id) {
        codes::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    } else if !denied.is_empty() {
        codes::OPERATION_NOT_ATTEMPTED
    } else {
        code_of(front.core.join_transaction_here(whole).await, request.header.version >= KNOWS_FENCED_SINCE)
    };
    let partition =
        |n: i32, code: i16| AddPartitionsToTxnPartitionResult::default().with_partition_index(n).with_partition_error_code(code);
    let topics = topics.iter().map(|topic| {
        let is_denied = code == codes::OPERATION_NOT_ATTEMPTED && denied.contains(topic.name.as_str());
        let code = if is_denied { codes::TOPIC_AUTHORIZATION_FAILED } else { code };
        let partitions = topic.partitions.iter().map(|n| partition(*n, code)).collect();
        AddPartitionsToTxnTopicResult::default().with_name(topic.name.clone()).with_results_by_partition(partitions)
    });
    answered(request, &AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(topics.collect()))
}

/// A group comes into a transaction.
pub(super) async fn add_offsets<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: AddOffsetsToTxnRequest = decoded(request)?;
    let whole = JoinTransaction {
        groups: vec![asked.group_id.to_string()],
        ..join(&asked.transactional_id, asked.producer_id, asked.producer_epoch, true)
    };
    let code = if !may_write(front, conn, &asked.transactional_id) {
        codes::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    } else if !groups::may_read(front, conn, &asked.group_id) {
        codes::GROUP_AUTHORIZATION_FAILED
    } else {
        code_of(front.core.join_transaction_here(whole).await, request.header.version >= KNOWS_FENCED_SINCE)
    };
    answered(request, &AddOffsetsToTxnResponse::default().with_error_code(code))
}

/// A transaction ends: answered when it has everywhere.
pub(super) async fn end<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: EndTxnRequest = decoded(request)?;
    let version = request.header.version;
    let none = EndTxnResponse::default().with_producer_id(ProducerId(-1)).with_producer_epoch(-1);
    if !may_write(front, conn, &asked.transactional_id) {
        return answered(request, &none.with_error_code(codes::TRANSACTIONAL_ID_AUTHORIZATION_FAILED));
    }
    let who = (u64::try_from(asked.producer_id.0).unwrap_or(u64::MAX), asked.producer_epoch);
    let ended = front.core.end_transaction(asked.transactional_id.to_string(), who, asked.committed, version >= END_BEGINS_EPOCH_SINCE);
    let response = match ended.await {
        Ok(Ok((id, epoch))) if version >= END_BEGINS_EPOCH_SINCE => none.with_producer_id(ProducerId(id as i64)).with_producer_epoch(epoch),
        Ok(Ok(_)) => none,
        Ok(Err(refusal)) => none.with_error_code(codes::of_refusal(refusal, version >= KNOWS_FENCED_SINCE)),
        Err(failure) => none.with_error_code(codes::of_coordinator(&failure)),
    };
    answered(request, &response)
}

/// Positions are kept as part of a transaction.
pub(super) async fn commit_offsets<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: TxnOffsetCommitRequest = decoded(request)?;
    let adds = request.header.version >= COMMIT_JOINS_SINCE;
    let group = asked.group_id.to_string();
    let speaker = groups::speaker(&group, &asked.member_id, asked.group_instance_id.as_ref(), asked.generation_id);
    let join = JoinTransaction { groups: vec![group], ..join(&asked.transactional_id, asked.producer_id, asked.producer_epoch, adds) };
    let may_not = if !may_write(front, conn, &asked.transactional_id) {
        Some(codes::TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
    } else {
        (!groups::may_read(front, conn, &asked.group_id)).then_some(codes::GROUP_AUTHORIZATION_FAILED)
    };
    let topics = asked.topics.iter().map(|topic| topic.name.as_str());
    let denied = if may_not.is_some() { BTreeSet::new() } else { front.denied(conn, Operation::Read, topics) };
    let mut codes_of: Vec<i16> = Vec::new();
    let (mut numbers, mut some, mut metadata) = (Vec::new(), Vec::new(), 0);
    for topic in &asked.topics {
        for p in &topic.partitions {
            if denied.contains(topic.name.as_str()) {
                codes_of.push(codes::TOPIC_AUTHORIZATION_FAILED);
                continue;
            }
            match positions::checked(
                &topic.name,
                p.partition_index,
                p.committed_offset,
                p.committed_leader_epoch,
                p.committed_metadata.as_ref(),
            ) {
                Ok(position) => {
                    metadata += position.metadata.len();
                    numbers.push(codes_of.len());
                    some.push(position);
                    codes_of.push(codes::NONE);
                }
                Err(code) => codes_of.push(code),
            }
        }
    }
    // They are kept together or not at all.
    let is_small = some.len() <= POSITIONS_PER_COMMIT_MAX && metadata <= METADATA_PER_COMMIT_BYTES_MAX;
    let kept = if let Some(code) = may_not {
        Err(code)
    } else if !is_small {
        Err(codes::INVALID_REQUEST)
    } else {
        match groups::outcome(front.core.commit_in_transaction(join, speaker, some).await) {
            // This API knows of generations alone.
            Err(codes::STALE_MEMBER_EPOCH) => Err(codes::ILLEGAL_GENERATION),
            Err(code) => Err(code),
            Ok(Err(refusal)) => Err(codes::of_refusal(refusal, false)),
            Ok(Ok(reply)) => Ok(reply),
        }
    };
    positions::tell(&numbers, kept, &mut codes_of);
    let mut codes_of = codes_of.into_iter();
    let topics = asked.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|p| {
            let code = codes_of.next().unwrap_or(codes::NONE);
            TxnOffsetCommitResponsePartition::default().with_partition_index(p.partition_index).with_error_code(code)
        });
        TxnOffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    answered(request, &TxnOffsetCommitResponse::default().with_topics(topics.collect()))
}

/// For each batch of a request, in order: the last transaction of its producer that had ended in its partition before it was made sure that it is part of the one
/// that is open; or the code of why it is not. Nothing for a request without a transactional id.
pub(super) async fn join_of<R: Rt>(
    front: &Rc<Front<R>>,
    asked: &ProduceRequest,
    topics: &[(Named, Table<ProducePartition>)],
    version: i16,
    denied: &BTreeSet<String>,
) -> Vec<Result<i32, i16>> {
    let Some(id) = &asked.transactional_id else { return Vec::new() };
    let (mut parts, mut whose) = (Vec::new(), Vec::new());
    for (topic, partitions) in topics {
        for partition in partitions.iter() {
            parts.push((topic.name(), u32::try_from(partition.index).unwrap_or(u32::MAX)));
            let header = partition.records.as_ref().and_then(|records| Header::parse(records).ok());
            whose.push(header.filter(Header::is_transactional).map(|header| (header.producer_id, header.producer_epoch)));
        }
    }
    let who = whose.iter().find_map(|whose| *whose);
    // What is not of a transaction needs no leave.
    let Some((producer_id, epoch)) = who else { return vec![Ok(0); parts.len()] };
    let known = front.core.producer_in(&parts, u64::try_from(producer_id).unwrap_or(u64::MAX)).await;
    let is_open = |view: &Option<ProducerView>| view.is_some_and(|view| view.open.is_some() && view.epoch == epoch);
    let mut by_topic: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    for ((topic, partition), view) in parts.iter().zip(&known) {
        // What does not live here is told so when it is appended.
        if view.as_ref().is_ok_and(|view| !is_open(view)) && !denied.contains(*topic) {
            by_topic.entry(topic).or_default().insert(*partition);
        }
    }
    let mut code = codes::NONE;
    if !by_topic.is_empty() {
        let one = |(topic, partitions): (&str, BTreeSet<u32>)| TopicPartitions {
            topic: topic.to_owned(),
            partitions: partitions.into_iter().collect(),
        };
        let add = version >= PRODUCE_JOINS_SINCE;
        let join = join(id, ProducerId(producer_id), epoch, add);
        let joined = front.core.join_transaction(&JoinTransaction { partitions: by_topic.into_iter().map(one).collect(), ..join }).await;
        code = match joined.map(|reply| Refusal::try_from(reply.refusal)) {
            // A client tries again after this one, whatever its version.
            Ok(Ok(Refusal::Concurrent | Refusal::Full | Refusal::Unknown)) | Err(_) => codes::NOT_ENOUGH_REPLICAS,
            Ok(Ok(Refusal::State)) if version >= PRODUCE_KNOWS_ABORTABLE_SINCE => TRANSACTION_ABORTABLE,
            Ok(Ok(Refusal::State)) => codes::INVALID_TXN_STATE,
            Ok(refusal) => codes::of_refusal(refusal.unwrap_or(Refusal::Invalid), false),
        };
    }
    let one = |(view, whose): (Result<Option<ProducerView>, _>, Option<(i64, i16)>)| match view {
        // There is one producer to a transaction, and only that one was asked for.
        _ if whose.is_some() && whose != who => Err(codes::INVALID_TXN_STATE),
        Ok(view) if is_open(&view) || code == codes::NONE => Ok(view.map_or(0, |view: ProducerView| view.ended)),
        Ok(_) => Err(code),
        Err(_) => Ok(0),
    };
    known.into_iter().zip(whose).map(one).collect()
}

/// What partitions that this node leads know of producers.
pub(super) async fn describe_producers<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let mut asked: DescribeProducersRequest = decoded(request)?;
    let denied = front.withhold(conn, (Operation::Read, ResourceType::Topic), &mut asked.topics, |topic| &topic.name);
    let mut parts = Vec::new();
    for topic in &asked.topics {
        parts.extend(topic.partition_indexes.iter().map(|n| (topic.name.as_str(), u32::try_from(*n).unwrap_or(u32::MAX))));
    }
    let mut answers = front.core.producers_in(&parts).await.into_iter();
    let producer = |(id, view): (i64, ProducerView)| {
        let state = ProducerState::default().with_producer_id(ProducerId(id)).with_producer_epoch(view.epoch.into());
        let state = state.with_last_sequence(view.last_sequence.unwrap_or(-1)).with_last_timestamp(view.last_seen_ms);
        // What stands there in markers is the number of a transaction; -1 where none has ended, as Kafka has it.
        let state = state.with_coordinator_epoch(if view.ended > 0 { view.ended } else { -1 });
        state.with_current_txn_start_offset(view.open.map_or(-1, |first| first.0 as i64))
    };
    let mut partition = |index: &i32| {
        let response = PartitionResponse::default().with_partition_index(*index);
        match answers.next() {
            Some(Ok(producers)) => response.with_active_producers(producers.into_iter().map(producer).collect()),
            Some(Err(failure)) => response.with_error_code(codes::of(&failure)).with_error_message(Some(codes::text(&failure))),
            None => response,
        }
    };
    let topics = asked.topics.iter().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(&mut partition).collect();
        TopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions)
    });
    let denied = denied.into_iter().map(|topic| {
        let partition = |n: &i32| PartitionResponse::default().with_partition_index(*n).with_error_code(codes::TOPIC_AUTHORIZATION_FAILED);
        TopicResponse::default().with_name(topic.name).with_partitions(topic.partition_indexes.iter().map(partition).collect())
    });
    answered(request, &DescribeProducersResponse::default().with_topics(topics.chain(denied).collect()))
}

/// Gives up transactions that hang, which is what operators ask for by this (`kafka-transactions abort`): nodes among themselves have markers of their own.
pub(super) async fn write_markers<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: WriteTxnMarkersRequest = decoded(request)?;
    let may = front.may_cluster(conn, Operation::Alter) || front.may_cluster(conn, Operation::ClusterAction);
    let (mut markers, mut left) = (Vec::with_capacity(asked.markers.len()), HANGING_PER_REQUEST_MAX);
    for marker in &asked.markers {
        let mut topics = Vec::with_capacity(marker.topics.len());
        for topic in &marker.topics {
            let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
            for index in &topic.partition_indexes {
                front.core.rt.yield_if_needed().await;
                let code = match may {
                    true => write_marker(front, marker, &topic.name, *index, &mut left).await,
                    false => codes::CLUSTER_AUTHORIZATION_FAILED,
                };
                partitions.push(WritableTxnMarkerPartitionResult::default().with_partition_index(*index).with_error_code(code));
            }
            topics.push(WritableTxnMarkerTopicResult::default().with_name(topic.name.clone()).with_partitions(partitions));
        }
        markers.push(WritableTxnMarkerResult::default().with_producer_id(marker.producer_id).with_topics(topics));
    }
    answered(request, &WriteTxnMarkersResponse::default().with_markers(markers))
}

/// Ends what a producer has open in one partition, if nobody else will. Whoever asks has looked (DescribeProducers), and nothing has ended since.
async fn write_marker<R: Rt>(front: &Rc<Front<R>>, marker: &WritableTxnMarker, topic: &str, index: i32, left: &mut usize) -> i16 {
    // That one takes effect is for its coordinator to decide, which tells it otherwise.
    if marker.transaction_result {
        return codes::INVALID_REQUEST;
    }
    if front.core.route(topic).is_some_and(|route| route.internal) {
        return codes::INVALID_TOPIC;
    }
    let (Ok(partition), Ok(producer_id)) = (u32::try_from(index), u64::try_from(marker.producer_id.0)) else {
        return if index < 0 { codes::UNKNOWN_TOPIC_OR_PARTITION } else { codes::INVALID_REQUEST };
    };
    let seen = match front.core.producer_in(&[(topic, partition)], producer_id).await.pop() {
        Some(Ok(Some(seen))) => seen,
        Some(Ok(None)) | None => return codes::NONE,
        Some(Err(failure)) => return codes::of(&failure),
    };
    if marker.producer_epoch != seen.epoch {
        return codes::INVALID_PRODUCER_EPOCH;
    }
    if marker.coordinator_epoch < seen.ended {
        return codes::TRANSACTION_COORDINATOR_FENCED;
    }
    if seen.open.is_none() {
        return codes::NONE;
    }
    if *left == 0 {
        return codes::INVALID_REQUEST;
    }
    *left -= 1;
    match front.core.give_up_hanging(&Part { topic: topic.into(), partition }, producer_id, seen).await {
        Ok(Ok(())) => codes::NONE,
        Ok(Err(refusal)) => codes::of_refusal(refusal, true),
        Err(failure) => codes::of(&failure),
    }
}

/// What becomes of transactions that this node looks after.
pub(super) async fn describe<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: DescribeTransactionsRequest = decoded(request)?;
    let mut states = Vec::with_capacity(asked.transactional_ids.len());
    for id in &asked.transactional_ids {
        let state = Described::default().with_transactional_id(id.clone());
        if !front.may(conn, Operation::Describe, ResourceType::TransactionalId, id) {
            states.push(state.with_error_code(codes::TRANSACTIONAL_ID_AUTHORIZATION_FAILED));
            continue;
        }
        states.push(match front.core.described_transaction(id.to_string()).await {
            Ok(Some(mut is)) => {
                front.withhold(conn, (Operation::Describe, ResourceType::Topic), &mut is.partitions, |of| &of.topic);
                let topic = |of: TopicPartitions| {
                    let partitions = of.partitions.into_iter().map(|partition| partition as i32).collect();
                    TopicData::default().with_topic(TopicName(groups::text(&of.topic))).with_partitions(partitions)
                };
                let state = state.with_transaction_state(groups::text(is.state.name())).with_transaction_timeout_ms(is.timeout_ms as i32);
                let state = state.with_transaction_start_time_ms(is.began_ms).with_producer_id(ProducerId(is.who.0 as i64));
                state.with_producer_epoch(is.who.1).with_topics(is.partitions.into_iter().map(topic).collect())
            }
            Ok(None) => state.with_error_code(codes::TRANSACTIONAL_ID_NOT_FOUND),
            Err(failure) => state.with_error_code(codes::of_coordinator(&failure)),
        });
    }
    answered(request, &DescribeTransactionsResponse::default().with_transaction_states(states))
}

/// Which transactional ids this node looks after.
pub(super) async fn list<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: ListTransactionsRequest = decoded(request)?;
    let pattern = match asked.transactional_id_pattern.as_deref().filter(|text| !text.is_empty()).map(pattern::whole).transpose() {
        Ok(pattern) => pattern,
        Err(refused) => return answered(request, &ListTransactionsResponse::default().with_error_code(codes::of_refused(&refused))),
    };
    let all = match front.core.transactions_here().await {
        Ok(all) => all,
        Err(failure) => return answered(request, &ListTransactionsResponse::default().with_error_code(codes::of_coordinator(&failure))),
    };
    const STATES: [State; 6] =
        [State::Empty, State::Ongoing, State::PrepareCommit, State::PrepareAbort, State::CompleteCommit, State::CompleteAbort];
    let is_state = |name: &str| STATES.iter().any(|state| state.name() == name);
    let unknown = asked.state_filters.iter().filter(|name| !is_state(name)).cloned().collect();
    let now_ms = front.core.rt.wall_ms();
    let wanted = |is: &crate::coordinator::transactions::DescribedTransaction| {
        let by_state = asked.state_filters.is_empty() || asked.state_filters.iter().any(|name| **name == *is.state.name());
        let by_producer = asked.producer_id_filters.is_empty() || asked.producer_id_filters.iter().any(|id| id.0 as u64 == is.who.0);
        let by_age = asked.duration_filter < 0 || (is.began_ms >= 0 && now_ms - is.began_ms > asked.duration_filter);
        by_state && by_producer && by_age
    };
    let may = |id: &str| front.may(conn, Operation::Describe, ResourceType::TransactionalId, id);
    let mut listed = Vec::new();
    for (id, is) in all.into_iter().filter(|(id, is)| wanted(is) && may(id)) {
        front.core.rt.yield_if_needed().await;
        if pattern.as_ref().is_none_or(|pattern| pattern.is_match(&id)) {
            let state = Listed::default().with_transactional_id(TransactionalId(groups::text(&id)));
            listed.push(state.with_producer_id(ProducerId(is.who.0 as i64)).with_transaction_state(groups::text(is.state.name())));
        }
    }
    let response = ListTransactionsResponse::default().with_unknown_state_filters(unknown);
    answered(request, &response.with_transaction_states(listed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_cannot_bear_it_are_told_no_features() {
        let told = |name, version| !with_features(ApiVersionsResponse::new(&[]), name, version).finalized_features.is_empty();
        assert!(
            told("apache-kafka-java", "4.1.0") && told("librdkafka", "2.2.0") && told("librdkafka", "2.16.1-dev") && told("aiokafka", "")
        );
        assert!(!told("librdkafka", "2.0.2") && !told("librdkafka", "1.9.2") && !told("librdkafka", "") && !told("", ""));
    }
}
