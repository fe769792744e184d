//! Fetch: what is asked for each time, or what a session has ([`super::sessions`]).
//!
//! A client that says where it stands (`client.rack`) reads from a replica in its rack, if there is one (KIP-392): the leader names it instead of giving
//! records, and a node of that rack answers as any of the replicas.

use super::{
    super::{Front, conn::Conn, requests},
    Reply, codes, epochs,
    leaders::Leaders,
    metadata::broker_id,
    named::Named,
    sessions::{self, Plan, Session, Turn},
};
use crate::{
    kafka::wire::{
        Answer as _, Request, TopicKey, WireError,
        fetch::{AbortedTransaction, EpochEnd, FetchPartition, FetchRequest, FetchResponse, FetchedPartition, FetchedTopic},
    },
    node::{budget::Working, read::PARTITION_BYTES},
    security::acl::Operation,
};
use bytes::Bytes;
use millpond_runtime::{NodeId, Rt};
use millpond_wire::messages::{self, Fetch};
use std::{collections::BTreeSet, rc::Rc};

/// The least that a partition takes in a request, in bytes.
const ASKED_BYTES_MIN: usize = 16;

/// What the partitions of a request take while it is carried out, in bytes, those of its session among them.
pub(super) fn weigh<R: Rt>(conn: &Conn<R>, request: &Request) -> usize {
    let kept = conn.session.borrow().as_ref().map_or(0, Session::len);
    (request.body.len() / ASKED_BYTES_MIN + kept) * PARTITION_BYTES
}

/// A partition that is to be read.
struct Wanted {
    /// Its place in the session, if there is one.
    turn: Turn,
    topic: Named,
    at: FetchPartition,
}

/// All that a request says.
fn said<R: Rt>(front: &Front<R>, asked: &FetchRequest) -> Vec<Wanted> {
    let mut all = Vec::new();
    for topic in asked.topics.iter() {
        let named = Named::look_up(front, topic.topic);
        all.extend(topic.partitions.iter().map(|at| Wanted { turn: 0, topic: named.clone(), at }));
    }
    all
}

/// All that is in a session.
fn kept<R: Rt>(front: &Front<R>, session: &Session) -> Vec<Wanted> {
    let mut all: Vec<Wanted> = Vec::with_capacity(session.len());
    for (turn, topic, at) in session.row() {
        let same = all.last().filter(|last| last.topic.key == *topic).map(|last| last.topic.clone());
        all.push(Wanted { turn, topic: same.unwrap_or_else(|| Named::look_up(front, topic.clone())), at });
    }
    all
}

/// Topics that are not any more what they were when their names were looked up: another one may have come in their place while the answer waited for records.
fn gone<R: Rt>(front: &Front<R>, wanted: &[Wanted]) -> BTreeSet<TopicKey> {
    let topics = wanted.chunk_by(|a, b| a.topic.key == b.topic.key).map(|same| &same[0].topic);
    topics.filter(|topic| !topic.is_still(front)).map(|topic| topic.key.clone()).collect()
}

/// As our own protocol asks, but for what is to be read elsewhere.
fn ours(asked: &FetchRequest, wanted: &[Wanted], any_replica: bool, elsewhere: &[Option<NodeId>], denied: &BTreeSet<String>) -> Fetch {
    let mut elsewhere = elsewhere.iter();
    let one = |wanted: &Wanted| messages::FetchPartition {
        topic: wanted.topic.name().to_owned(),
        partition: number(wanted.at.partition),
        offset: u64::try_from(wanted.at.fetch_offset).unwrap_or(u64::MAX),
        bytes_max: u32::try_from(wanted.at.partition_max_bytes).unwrap_or(1).max(1),
        leader_epoch: epochs::said(wanted.at.current_leader_epoch),
        last_epoch: epochs::said(wanted.at.last_fetched_epoch),
    };
    let mut is_read_here = |wanted: &&Wanted| !matches!(elsewhere.next(), Some(Some(_))) && wanted.topic.refusal(denied).is_none();
    let partitions: Vec<_> = wanted.iter().filter(|wanted| is_read_here(wanted)).map(one).collect();
    let waits = asked.min_bytes > 0 && partitions.len() == wanted.len();
    let wait_ms_max = if waits { u32::try_from(asked.max_wait_ms).unwrap_or(0) } else { 0 };
    Fetch {
        partitions,
        bytes_min: u32::try_from(asked.min_bytes).unwrap_or(0).max(1),
        bytes_max: u32::try_from(asked.max_bytes).unwrap_or(1).max(1),
        wait_ms_max,
        records_max: 0,
        replay: false,
        any_replica,
        committed: asked.isolation_level != 0,
    }
}

/// Where a client that stands elsewhere is to read what this node leads, partition by partition in their order.
async fn nearer<R: Rt>(front: &Rc<Front<R>>, rack: &str, wanted: &[Wanted]) -> Vec<Option<NodeId>> {
    let partitions: Vec<_> = wanted.iter().map(|wanted| (wanted.topic.name(), number(wanted.at.partition))).collect();
    front.core.readable_in(rack, &partitions).await
}

/// A partition's number; what is below zero is as unknown as what is beyond the last one.
fn number(partition: i32) -> u32 {
    u32::try_from(partition).unwrap_or(u32::MAX)
}

/// Carries it out.
pub(super) async fn carry_out<R: Rt>(
    front: &Rc<Front<R>>,
    conn: &Conn<R>,
    request: Request,
    working: &mut Working,
) -> Result<Reply, WireError> {
    let (version, correlation_id) = (request.header.version, request.header.correlation_id);
    let asked = FetchRequest::read(request.body, version)?;
    // Neither 0 nor below, and not easily another one's.
    let id = ((front.core.rt.rand() >> 33) as i32).max(1);
    let plan = sessions::plan(&mut conn.session.borrow_mut(), &front.sessions, id, &asked);
    let (mut session, says_all) = match plan {
        Ok(Plan::Without) => (None, true),
        Ok(Plan::Begins(session)) => (Some(session), true),
        Ok(Plan::GoesOn(session)) => (Some(session), false),
        Err(error_code) => {
            let response = FetchResponse { error_code, ..FetchResponse::default() };
            return Ok(Reply::small(response.frame(version, correlation_id)));
        }
    };
    let wanted = session.as_ref().map_or_else(|| said(front, &asked), |session| kept(front, session));
    let stands_here = !asked.rack_id.is_empty() && *asked.rack_id == *front.core.config.rack;
    let elsewhere = if asked.rack_id.is_empty() || stands_here { Vec::new() } else { nearer(front, &asked.rack_id, &wanted).await };
    let denied = front.denied(conn, Operation::Read, wanted.iter().filter_map(|wanted| wanted.topic.known()));
    let fetched = requests::fetched(front, conn, &ours(&asked, &wanted, stands_here, &elsewhere, &denied), working).await;
    let mut counters = front.core.counters.borrow_mut();
    fetched.reply.partitions.iter().filter_map(|p| p.failure.as_ref()).for_each(|f| counters.count_error(f.code()));
    counters.records_out += fetched.records;
    drop(counters);
    let (mut results, mut batches) = (fetched.reply.partitions.iter(), fetched.batches.into_iter());
    let (mut elsewhere, mut leaders, gone) = (elsewhere.into_iter(), Leaders::new(front), gone(front, &wanted));
    let mut partition = |wanted: &Wanted| {
        let refusal = wanted.topic.refusal(&denied);
        let preferred = elsewhere.next().flatten().filter(|_| refusal.is_none());
        let result = if preferred.is_some() || refusal.is_some() { None } else { results.next() };
        let mut records = take_batches(&mut batches, result.map_or(0, |result| result.len as usize));
        let is_gone = gone.contains(&wanted.topic.key);
        let refusal = if is_gone { Some(codes::UNKNOWN_TOPIC_ID) } else { refusal };
        let result = result.filter(|_| !is_gone);
        if is_gone {
            records.clear();
        }
        let failure = result.and_then(|result| result.failure.as_ref());
        let error_code = refusal.unwrap_or_else(|| failure.map_or(codes::NONE, code_of));
        let (start, end) = result.filter(|_| failure.is_none()).map_or((-1, -1), |r| (r.start_offset as i64, r.end_offset as i64));
        FetchedPartition {
            partition_index: wanted.at.partition,
            error_code,
            high_watermark: end,
            last_stable_offset: result.filter(|_| failure.is_none()).map_or(-1, |r| r.stable_offset as i64),
            log_start_offset: start,
            diverging_epoch: result.and_then(|r| r.diverging).map_or(EpochEnd::UNKNOWN, diverging),
            current_leader: leaders.name(error_code, wanted.topic.name(), wanted.at.partition),
            aborted_transactions: (asked.isolation_level != 0).then(|| aborted(result)),
            preferred_read_replica: preferred.map_or(-1, |node| broker_id(node.0)),
            records,
        }
    };
    let mut topics: Vec<FetchedTopic> = Vec::new();
    for one in wanted {
        let read = partition(&one);
        let is_new = session.as_mut().is_none_or(|session| session.note(one.turn, &read));
        if !is_new && !says_all {
            continue;
        }
        match topics.last_mut().filter(|last| last.topic == one.topic.key) {
            Some(last) => last.partitions.push(read),
            None => topics.push(FetchedTopic { topic: one.topic.key, partitions: vec![read] }),
        }
    }
    let session_id = session.as_ref().map_or(0, Session::id);
    if session.is_some() {
        *conn.session.borrow_mut() = session;
    }
    let throttle_time_ms = fetched.reply.throttle_ms as i32;
    let response = FetchResponse { throttle_time_ms, error_code: 0, session_id, topics, node_endpoints: leaders.endpoints() };
    Ok(Reply {
        pieces: response.frame(version, correlation_id),
        memory: fetched.memory,
        record_bytes: fetched.bytes,
        hurried: fetched.hurried,
    })
}

fn diverging(end: messages::EpochEnd) -> EpochEnd {
    EpochEnd { epoch: end.epoch, end_offset: end.end_offset as i64 }
}

/// What a reader is told of a failure. An epoch that is not known here may be that of a topic that was there before: Java would ask by it again and again, since it looks at the
/// metadata only when another node leads.
fn code_of(failure: &messages::Failure) -> i16 {
    match failure.code() {
        messages::Code::LeaderUnknown => codes::NOT_LEADER_OR_FOLLOWER,
        _ => codes::of(failure),
    }
}

/// Which transactions were given up that a client must leave out.
fn aborted(result: Option<&messages::FetchedPartition>) -> Vec<AbortedTransaction> {
    let told = |aborted: &messages::AbortedTransaction| AbortedTransaction {
        producer_id: aborted.producer_id as i64,
        first_offset: aborted.first_offset as i64,
    };
    result.map_or_else(Vec::new, |result| result.aborted.iter().map(told).collect())
}

/// The next batches, so many bytes of them.
fn take_batches(batches: &mut impl Iterator<Item = Bytes>, bytes: usize) -> Vec<Bytes> {
    let (mut taken, mut left) = (Vec::new(), bytes);
    while left > 0
        && let Some(batch) = batches.next()
    {
        left = left.saturating_sub(batch.len());
        taken.push(batch);
    }
    taken
}
