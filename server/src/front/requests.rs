//! Requests that wait for their turn: fetches, look-ups, changes of the catalog, consumer groups.
//!
//! Before a request is decoded it takes memory by its weight ([`weigh`]): for what it decodes to, what is computed for it, and its
//! answer. What of that the answer needs it keeps until it is sent.

use super::{
    Front,
    conn::{Conn, FETCH_BYTES_FIRST},
    dispatch::parts,
};
use crate::{
    catalog::{CatalogError, Topic},
    node::{
        budget::{Held, Working},
        meta::Change,
        read::{Fetched, PARTITION_BYTES},
    },
    quota::Direction,
};
use bytes::{Bytes, BytesMut};
use millpond_runtime::Rt;
use millpond_wire::{
    frame::{Flags, encode_into},
    messages::{
        AlterQuota, Code, Done, Endpoint, Failure, Fetch, Kind, ListQuotasReply, Metadata, MetadataReply, PartitionInfo, TopicInfo,
        TopicReply,
    },
};
use prost::Message;
use std::{collections::BTreeSet, rc::Rc};

/// Most topics that are asked for by name at a time.
const NAMES_MAX: usize = 10_000;

/// Writes a message with the request's number.
type Encode = Box<dyn FnOnce(&mut BytesMut, u64)>;

/// An answer.
pub(super) enum Reply {
    /// A message, which knows how to be encoded with the request's number.
    Message(Encode),
    /// A fetch's, with its batches.
    Fetched(Box<Fetched>),
    /// It failed.
    Failure(Failure),
}

type Here<'a, R> = &'a Rc<Front<R>>;

fn reply<M: Message + 'static>(kind: Kind, outcome: Result<M, Failure>) -> Reply {
    match outcome {
        Ok(message) => Reply::Message(Box::new(move |out, correlation| encode_into(out, kind, Flags::REPLY, correlation, &message, 0))),
        Err(failure) => Reply::Failure(failure),
    }
}

/// What it decodes to. Its own memory is given back: what it has become is a part of the request's weight.
fn decode<M: Message + Default>(kind: Kind, (meta, held): Undecoded) -> Result<M, Failure> {
    let bad = |e| Failure::new(Code::BadRequest, format!("the message of a {kind:?} frame does not parse: {e}"), "update the client");
    let message = M::decode(meta).map_err(bad);
    drop(held);
    message
}

/// What every request takes, in bytes.
const REQUEST_BYTES: usize = 2 * 1024;
/// What each byte of a message becomes at the most, when it is decoded and while it travels.
const DECODED: usize = 8;
/// A topic in an answer with its settings, and one of its partitions, in bytes: as a message and as its bytes.
const TOPIC_BYTES: usize = 4 * 1024;
const PARTITION_INFO_BYTES: usize = 128;
/// A group in a list, and a position of a group, in bytes, the same way.
const GROUP_BYTES: usize = 512;
const POSITION_BYTES: usize = 384;

/// About how much memory a request takes until its answer is made, in bytes.
pub(super) fn weigh<R: Rt>(front: Here<'_, R>, kind: Kind, meta: &[u8]) -> usize {
    let core = &front.core;
    let parts = parts(meta);
    let catalog = core.catalog.borrow();
    let more = match kind {
        Kind::Metadata => {
            // Whatever is asked for by name, it is not more than everything, and the names themselves.
            let (topics, partitions) = match Metadata::decode(meta) {
                Ok(asked) if !asked.topics.is_empty() => {
                    let known = asked.topics.iter().filter_map(|name| catalog.topic(name));
                    (asked.topics.len(), known.map(|t| t.partitions.len()).sum::<usize>().min(catalog.partitions()))
                }
                _ => (catalog.topics().count(), catalog.partitions()),
            };
            topics * TOPIC_BYTES + partitions * PARTITION_INFO_BYTES
        }
        Kind::CreateTopic | Kind::AlterTopic => parts * TOPIC_BYTES,
        // Groups are spread over the cores.
        Kind::ListGroups => core.groups_here() * core.cores() * GROUP_BYTES,
        Kind::DescribeGroup | Kind::FetchOffsets => parts * POSITION_BYTES + core.largest_group_here() * POSITION_BYTES,
        Kind::ListQuotas => catalog.quotas().count() * GROUP_BYTES,
        Kind::GroupHeartbeat | Kind::CommitOffsets => parts * POSITION_BYTES,
        _ => parts * PARTITION_BYTES,
    };
    REQUEST_BYTES + meta.len() * DECODED + more
}

/// A message that is still to be decoded, and its memory if it is long.
type Undecoded = (Bytes, Option<Held>);

/// Carries out a request.
pub(super) async fn carry_out<R: Rt>(front: Here<'_, R>, conn: &Conn<R>, kind: Kind, meta: Undecoded, working: &mut Working) -> Reply {
    match try_carry_out(front, conn, kind, meta, working).await {
        Ok(reply) => reply,
        Err(failure) => Reply::Failure(failure),
    }
}

async fn try_carry_out<R: Rt>(
    front: Here<'_, R>,
    conn: &Conn<R>,
    kind: Kind,
    meta: Undecoded,
    working: &mut Working,
) -> Result<Reply, Failure> {
    let core = &front.core;
    Ok(match kind {
        Kind::Fetch => fetch(front, conn, &decode(kind, meta)?, working).await,
        Kind::Metadata => reply(kind, metadata(front, &decode(kind, meta)?).await),
        Kind::ListOffsets => reply(kind, core.list_offsets(decode(kind, meta)?).await),
        Kind::DeleteRecords => reply(kind, core.delete_records(decode(kind, meta)?).await),
        Kind::InitProducer => reply(kind, core.init_producer().await),
        Kind::CreateTopic => reply(kind, change(front, Change::Create(decode(kind, meta)?)).await),
        Kind::AlterTopic => reply(kind, change(front, Change::Alter(decode(kind, meta)?)).await),
        Kind::DeleteTopic => reply(kind, core.change(Change::Delete(decode(kind, meta)?)).await.map(|_| Done {})),
        Kind::AlterQuota => reply(kind, core.change(Change::Quota(decode(kind, meta)?)).await.map(|_| Done {})),
        Kind::ListQuotas => reply(kind, Ok(quotas(front))),
        Kind::GroupHeartbeat => reply(kind, core.heartbeat(conn.peer.ip().to_string(), decode(kind, meta)?).await),
        Kind::CommitOffsets => reply(kind, core.commit_offsets(decode(kind, meta)?).await),
        Kind::FetchOffsets => reply(kind, core.fetch_offsets(decode(kind, meta)?).await),
        Kind::ListGroups => reply(kind, core.list_groups().await),
        Kind::DescribeGroup => reply(kind, core.describe_group(decode(kind, meta)?).await),
        Kind::DeleteGroup => reply(kind, core.delete_group(decode(kind, meta)?).await),
        Kind::Unknown | Kind::Hello | Kind::Produce | Kind::Ping => {
            return Err(Failure::new(Code::Internal, format!("a {kind:?} request was deferred"), "report this"));
        }
    })
}

/// Most bytes of a fetch's answer: what the client takes quickly, and no more than the least while others wait for memory.
fn fetch_bytes<R: Rt>(front: &Front<R>, conn: &Conn<R>) -> usize {
    let core = &front.core;
    let wanted = if core.leaving.is_pressed() { FETCH_BYTES_FIRST } else { conn.fetch_bytes() };
    wanted.min(core.plan.fetch_bytes_max())
}

async fn fetch<R: Rt>(front: Here<'_, R>, conn: &Conn<R>, request: &Fetch, working: &mut Working) -> Reply {
    let core = &front.core;
    let mut fetched = core.fetch(request, fetch_bytes(front, conn), working).await;
    let now = core.rt.mono();
    let throttle_ms = core.quotas.borrow_mut().charge(now, &conn.client_id.borrow(), Direction::Fetch, fetched.bytes as u64);
    conn.silence(now, throttle_ms);
    core.counters.borrow_mut().throttled_ms += u64::from(throttle_ms);
    fetched.reply.throttle_ms = throttle_ms;
    Reply::Fetched(Box::new(fetched))
}

fn quotas<R: Rt>(front: Here<'_, R>) -> ListQuotasReply {
    let catalog = front.core.catalog.borrow();
    let quota = |(client_id, q): (&str, crate::catalog::Quota)| AlterQuota {
        client_id: client_id.to_owned(),
        produce_bytes_per_s: q.produce_bytes_per_s,
        fetch_bytes_per_s: q.fetch_bytes_per_s,
    };
    ListQuotasReply { quotas: catalog.quotas().map(quota).collect() }
}

async fn change<R: Rt>(front: Here<'_, R>, change: Change) -> Result<TopicReply, Failure> {
    let (topic, changed) = front.core.change(change).await?;
    Ok(TopicReply { topic: topic.map(|t| topic_info(front, &t)), changed })
}

async fn metadata<R: Rt>(front: Here<'_, R>, request: &Metadata) -> Result<MetadataReply, Failure> {
    if request.topics.len() > NAMES_MAX {
        let message = format!("{} topics are asked for by name, at most {NAMES_MAX} may be", request.topics.len());
        return Err(Failure::new(Code::InvalidArgument, message, "ask for all of them, by no name"));
    }
    let core = &front.core;
    let (mut topics, epoch) = {
        let catalog = core.catalog.borrow();
        let topics: Vec<TopicInfo> = if request.topics.is_empty() {
            catalog.topics().filter(|t| !t.internal || request.internal).map(|t| topic_info(front, t)).collect()
        } else {
            let names: BTreeSet<&String> = request.topics.iter().collect();
            let info = |name: &String| match catalog.topic(name) {
                Some(topic) => topic_info(front, topic),
                None => missing(name),
            };
            names.into_iter().map(info).collect()
        };
        (topics, catalog.epoch())
    };
    if !request.topics.is_empty() {
        core.fill_bounds(&mut topics).await;
    }
    Ok(MetadataReply { endpoints: endpoints(front), topics, epoch, cluster_id: core.identity.cluster() })
}

fn missing(name: &str) -> TopicInfo {
    let name: String = name.chars().take(250).collect();
    let failure = CatalogError::UnknownTopic { name: name.clone() }.failure();
    TopicInfo { name, failure: Some(failure), ..TopicInfo::default() }
}

fn endpoints<R: Rt>(front: &Front<R>) -> Vec<Endpoint> {
    let core = &front.core;
    let endpoint = |(n, port): (usize, &u16)| Endpoint {
        node_id: core.identity.node_id,
        core: n as u32,
        host: core.config.advertise.clone(),
        port: u32::from(*port),
    };
    front.ports.iter().enumerate().map(endpoint).collect()
}

fn topic_info<R: Rt>(front: &Front<R>, topic: &Topic) -> TopicInfo {
    let partition = |(n, p): (usize, &crate::catalog::Partition)| PartitionInfo {
        partition: n as u32,
        group: p.group.0,
        endpoint: u32::from(front.core.owner(p.home).0),
        ..PartitionInfo::default()
    };
    TopicInfo {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic.partitions.iter().enumerate().map(partition).collect(),
        settings: topic.settings.to_wire(),
        internal: topic.internal,
        failure: None,
    }
}
