//! Requests that wait for their turn: fetches, look-ups, changes of the catalog, consumer groups.
//!
//! Before a request is decoded it takes memory by its weight ([`weigh`]): for what it decodes to, what is computed for it, and its
//! answer. What of that the answer needs it keeps until it is sent.

use super::{
    Front,
    conn::{Conn, FETCH_BYTES_FIRST},
    dispatch::parts,
    rights,
};
use crate::{
    catalog::{CatalogError, NodeState, Replica, Topic, quotas::to_wire},
    node::{
        budget::{Held, Working},
        meta::{Change, Changed},
        read::{Fetched, PARTITION_BYTES},
    },
    quota::Direction,
    security::{
        Credential, Mechanism,
        acl::{Operation, ResourceType},
    },
};
use bytes::{Bytes, BytesMut};
use millpond_runtime::{GroupId, NodeId, Rt, rt::timeout};
use millpond_wire::{
    frame::{Flags, Frame, encode_into},
    messages::{
        AlterNode, Code, Done, Endpoint, Failure, Fetch, FetchOffsetsReply, Kind, ListQuotasReply, ListUsersReply, Metadata, MetadataReply,
        Moved, NodeChange, PartitionInfo, Rebalance, ReplicaInfo, TopicInfo, TopicReply, UserCredential, UserInfo,
    },
};
use prost::Message;
use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

/// Most topics that are asked for by name at a time.
const NAMES_MAX: usize = 10_000;

/// How long one looks elsewhere for a topic that is not known here.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// Writes a message with the request's number.
type Encode = Box<dyn FnOnce(&mut BytesMut, u64)>;

/// An answer.
pub(super) enum Reply {
    /// A message, which knows how to be encoded with the request's number.
    Message(Encode),
    /// A fetch's, with its batches.
    Fetched(Box<Fetched>),
    /// What another node has answered.
    Passed(Frame),
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
pub(super) const REQUEST_BYTES: usize = 2 * 1024;
/// What each byte of a message becomes at the most, when it is decoded and while it travels.
pub(super) const DECODED: usize = 8;
/// A topic in an answer with its settings, and one of its partitions, in bytes: as a message and as its bytes.
const TOPIC_BYTES: usize = 4 * 1024;
const PARTITION_INFO_BYTES: usize = 128;
/// A group in a list, and a position of a group, in bytes, the same way.
pub(super) const GROUP_BYTES: usize = 512;
pub(super) const POSITION_BYTES: usize = 384;

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
        Kind::ListUsers => catalog.users().count() * GROUP_BYTES,
        Kind::GroupHeartbeat | Kind::CommitOffsets => parts * POSITION_BYTES,
        _ => parts * PARTITION_BYTES,
    };
    REQUEST_BYTES + meta.len() * DECODED + more
}

/// A message that is still to be decoded, and its memory if it is long.
type Undecoded = (Bytes, Option<Held>);

/// Carries out a request, or passes it on to the node that can.
pub(super) async fn carry_out<R: Rt>(front: Here<'_, R>, conn: &Conn<R>, kind: Kind, meta: Undecoded, working: &mut Working) -> Reply {
    let bytes = meta.0.clone();
    let failure = match try_carry_out(front, conn, kind, meta, working).await {
        Ok(Reply::Failure(failure)) | Err(failure) => failure,
        Ok(reply) => return reply,
    };
    let elsewhere = failure.code() == Code::NotOwner && failure.node_id != 0 && failure.node_id != front.core.identity.node_id;
    if !elsewhere || conn.from_node.get() != 0 || kind == Kind::Fetch {
        return Reply::Failure(failure);
    }
    match front.core.pass_on(NodeId(failure.node_id), kind, &bytes).await {
        Ok(frame) => seen(front, conn, kind, frame),
        Err(failure) => Reply::Failure(failure),
    }
}

/// What another node has answered, without what this client may not see: that node was asked by this one.
fn seen<R: Rt>(front: Here<'_, R>, conn: &Conn<R>, kind: Kind, frame: Frame) -> Reply {
    if kind != Kind::FetchOffsets || !front.core.config.security.authorize || frame.flags != Flags::REPLY {
        return Reply::Passed(frame);
    }
    match frame.message::<FetchOffsetsReply>() {
        Ok(mut found) => {
            front.withhold(conn, (Operation::Describe, ResourceType::Topic), &mut found.positions, |position| &position.topic);
            reply(kind, Ok(found))
        }
        Err(error) => Reply::Failure(Failure::new(Code::Internal, format!("the node that was asked is not understood: {error}"), "retry")),
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
    rights::check(front, conn, kind, &meta.0)?;
    Ok(match kind {
        Kind::Fetch => Reply::Fetched(Box::new(fetched(front, conn, &decode(kind, meta)?, working).await)),
        Kind::Metadata => reply(kind, metadata(front, conn, &decode(kind, meta)?).await),
        Kind::ListOffsets => reply(kind, core.list_offsets(decode(kind, meta)?, conn.from_node.get() == 0).await),
        Kind::DeleteRecords => reply(kind, core.delete_records(decode(kind, meta)?).await),
        Kind::InitProducer => reply(kind, core.init_producer().await),
        Kind::CreateTopic => reply(kind, change(front, Change::Create(decode(kind, meta)?)).await),
        Kind::AlterTopic => reply(kind, change(front, Change::Alter(decode(kind, meta)?)).await),
        Kind::DeleteTopic => reply(kind, done(core.change(Change::Delete(decode(kind, meta)?)).await)),
        Kind::AlterQuota => reply(kind, done(core.change(Change::Quota(decode(kind, meta)?)).await)),
        Kind::Join => reply(kind, core.join(decode(kind, meta)?).await),
        Kind::Moved => reply(kind, moved(front, decode(kind, meta)?).await),
        Kind::AlterNode => reply(kind, done(core.change(alter_node(decode(kind, meta)?)?).await)),
        Kind::Rebalance => {
            let Rebalance { dry_run } = decode(kind, meta)?;
            reply(kind, core.change(Change::Rebalance(dry_run)).await.map(|done| done.moves.unwrap_or_default()))
        }
        Kind::DescribeCluster => reply(kind, core.describe_cluster().await),
        Kind::NodeReport => reply(kind, core.report_node().await),
        Kind::Starts => reply(kind, core.hear_starts(NodeId(conn.from_node.get()), decode(kind, meta)?).await),
        Kind::Leads => {
            core.hear_node(NodeId(conn.from_node.get()), decode(kind, meta)?).await;
            reply(kind, Ok(Done {}))
        }
        Kind::JoinTransaction | Kind::EndTransaction | Kind::DisownTransaction | Kind::WhoLeads if conn.from_node.get() == 0 => {
            let message = format!("a {kind:?} request is for nodes among themselves");
            return Err(Failure::new(Code::BadRequest, message, "use transactions as a client of Kafka, and ask for metadata"));
        }
        Kind::WhoLeads => reply(kind, Ok(core.who_leads(decode(kind, meta)?))),
        Kind::JoinTransaction => reply(kind, core.join_transaction_here(decode(kind, meta)?).await),
        Kind::EndTransaction => reply(kind, Ok(core.end_transaction_here(decode(kind, meta)?).await)),
        Kind::DisownTransaction => reply(kind, Ok(core.disown_transaction_here(decode(kind, meta)?).await)),
        Kind::ListQuotas => reply(kind, Ok(quotas(front))),
        Kind::AlterUser => reply(kind, done(core.change(Change::User(decode(kind, meta)?)).await)),
        Kind::ListUsers => reply(kind, Ok(users(front))),
        Kind::AlterAcls => reply(kind, done(core.change(Change::Acls(decode(kind, meta)?)).await)),
        Kind::GroupHeartbeat => reply(kind, core.heartbeat(conn.peer.ip().to_string(), decode(kind, meta)?).await),
        Kind::CommitOffsets => reply(kind, core.commit_offsets(decode(kind, meta)?).await),
        Kind::FetchOffsets => {
            let mut found = core.fetch_offsets(decode(kind, meta)?).await;
            if let Ok(found) = &mut found {
                front.withhold(conn, (Operation::Describe, ResourceType::Topic), &mut found.positions, |position| &position.topic);
            }
            reply(kind, found)
        }
        Kind::ListGroups => {
            let mut listed = core.list_groups(conn.from_node.get() == 0).await;
            if let Ok(listed) = &mut listed
                && !front.may_cluster(conn, Operation::Describe)
            {
                front.withhold(conn, (Operation::Describe, ResourceType::Group), &mut listed.groups, |group| &group.group);
            }
            reply(kind, listed)
        }
        Kind::DescribeGroup => reply(kind, core.describe_group(decode(kind, meta)?).await),
        Kind::DeleteGroup => reply(kind, core.delete_group(decode(kind, meta)?).await),
        Kind::Unknown | Kind::Hello | Kind::Login | Kind::Produce | Kind::Ping => {
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

/// Fetches, as much as the client takes quickly, and charges its quota.
pub(super) async fn fetched<R: Rt>(front: Here<'_, R>, conn: &Conn<R>, request: &Fetch, working: &mut Working) -> Fetched {
    let core = &front.core;
    let mut fetched = core.fetch(request, fetch_bytes(front, conn), working).await;
    let now = core.rt.mono();
    fetched.reply.throttle_ms = front.charge(conn, now, Direction::Fetch, fetched.bytes as u64);
    fetched
}

fn quotas<R: Rt>(front: Here<'_, R>) -> ListQuotasReply {
    let catalog = front.core.catalog.borrow();
    ListQuotasReply { quotas: catalog.quotas().map(|(whose, quota)| to_wire(whose, quota)).collect() }
}

fn users<R: Rt>(front: Here<'_, R>) -> ListUsersReply {
    let catalog = front.core.catalog.borrow();
    let credential = |(mechanism, kept): (&Mechanism, &Credential)| UserCredential {
        mechanism: mechanism.number() as u32,
        iterations: kept.iterations,
        ..UserCredential::default()
    };
    let users = catalog.users().map(|(name, kept)| UserInfo { name: name.to_owned(), credentials: kept.iter().map(credential).collect() });
    ListUsersReply { users: users.collect() }
}

async fn change<R: Rt>(front: Here<'_, R>, change: Change) -> Result<TopicReply, Failure> {
    let Changed { topic, changed, .. } = front.core.change(change).await?;
    Ok(TopicReply { topic: topic.map(|t| topic_info(front, &t, &endpoints(front).1, "")), changed })
}

fn done(changed: Result<Changed, Failure>) -> Result<Done, Failure> {
    changed.map(|_| Done {})
}

/// What a node says of replicas.
async fn moved<R: Rt>(front: Here<'_, R>, said: Moved) -> Result<Done, Failure> {
    let replica = |r: &ReplicaInfo| Replica { id: r.id, node: r.node_id };
    let groups = said.groups.iter().map(|g| (GroupId(g.group), g.replicas.iter().map(replica).collect()));
    let broken = said.broken.iter().flat_map(|g| g.replicas.iter().map(|r| (GroupId(g.group), replica(r))));
    front.core.change(Change::Moved(groups.collect())).await?;
    done(front.core.change(Change::Renew(broken.collect())).await)
}

fn alter_node(request: AlterNode) -> Result<Change, Failure> {
    let id = request.node_id;
    Ok(match NodeChange::try_from(request.change) {
        Ok(NodeChange::Leave) => Change::NodeState(id, NodeState::Leaving),
        Ok(NodeChange::Return) => Change::NodeState(id, NodeState::In),
        Ok(NodeChange::Drain) => Change::NodeState(id, NodeState::Drained),
        Ok(NodeChange::Remove) => Change::NodeGone(id),
        Err(_) => return Err(Failure::new(Code::BadRequest, "no such change of a node", "update the client")),
    })
}

/// Another node may know more of the catalog. If it cannot be asked in time, what is known here is told.
pub(super) async fn look_elsewhere<R: Rt>(front: Here<'_, R>) {
    if front.core.is_member() {
        let _ = timeout(&front.core.rt, LOOK_MAX, front.core.catch_up()).await;
    }
}

async fn metadata<R: Rt>(front: Here<'_, R>, conn: &Conn<R>, request: &Metadata) -> Result<MetadataReply, Failure> {
    if request.topics.len() > NAMES_MAX {
        let message = format!("{} topics are asked for by name, at most {NAMES_MAX} may be", request.topics.len());
        return Err(Failure::new(Code::InvalidArgument, message, "ask for all of them, by no name"));
    }
    let core = &front.core;
    let strange = request.topics.iter().any(|name| core.catalog.borrow().topic(name).is_none());
    if strange {
        look_elsewhere(front).await;
    }
    let (endpoints, first) = endpoints(front);
    let may = |name: &str| front.may(conn, Operation::Describe, ResourceType::Topic, name);
    let (mut topics, epoch) = {
        let catalog = core.catalog.borrow();
        let topics: Vec<TopicInfo> = if request.topics.is_empty() {
            catalog
                .topics()
                .filter(|t| (!t.internal || request.internal) && may(&t.name))
                .map(|t| topic_info(front, t, &first, &request.rack))
                .collect()
        } else {
            let names: BTreeSet<&String> = request.topics.iter().collect();
            let info = |name: &String| match catalog.topic(name) {
                _ if !may(name) => TopicInfo { failure: Some(rights::hidden(name)), ..missing(name) },
                Some(topic) => topic_info(front, topic, &first, &request.rack),
                None => missing(name),
            };
            names.into_iter().map(info).collect()
        };
        (topics, catalog.epoch())
    };
    if !request.topics.is_empty() {
        core.fill_bounds(&mut topics).await;
    }
    Ok(MetadataReply { endpoints, topics, epoch, cluster_id: core.identity.cluster() })
}

fn missing(name: &str) -> TopicInfo {
    let name: String = name.chars().take(250).collect();
    let failure = CatalogError::UnknownTopic { name: name.clone() }.failure();
    TopicInfo { name, failure: Some(failure), ..TopicInfo::default() }
}

/// Where the endpoints of a node begin in the list, and how many there are.
type First = BTreeMap<u64, (u32, u32)>;

/// Every core of every node that is known.
fn endpoints<R: Rt>(front: &Front<R>) -> (Vec<Endpoint>, First) {
    let core = &front.core;
    let me = core.identity.node_id;
    let catalog = core.catalog.borrow();
    let mut nodes: BTreeMap<u64, (String, Vec<u16>)> =
        catalog.nodes().map(|(id, node)| (id, (node.host.clone(), node.ports.clone()))).collect();
    nodes.insert(me, (core.config.advertise.clone(), front.ports.to_vec()));
    let (mut all, mut first) = (Vec::new(), First::new());
    for (node_id, (host, ports)) in nodes {
        first.insert(node_id, (all.len() as u32, ports.len() as u32));
        let endpoint = |(n, port): (usize, u16)| Endpoint { node_id, core: n as u32, host: host.clone(), port: u32::from(port) };
        all.extend(ports.into_iter().enumerate().map(endpoint));
    }
    (all, first)
}

fn topic_info<R: Rt>(front: &Front<R>, topic: &Topic, first: &First, rack: &str) -> TopicInfo {
    let catalog = front.core.catalog.borrow();
    let on = |p: &crate::catalog::Partition, node: u64| {
        let (at, cores) = first.get(&node).or_else(|| first.get(&front.core.identity.node_id)).copied().unwrap_or((0, 1));
        at + u32::from(p.home.0) % cores.max(1)
    };
    let is_near = |node: u64| !rack.is_empty() && catalog.node(node).is_some_and(|node| node.rack == rack);
    // A client that stands beside the leader reads there; others are spread over the replicas that stand beside them.
    let near = |p: &crate::catalog::Partition, leader: u64| {
        let beside: Vec<u64> = p.nodes().into_iter().filter(|node| is_near(*node)).collect();
        let node = beside.get(p.group.0 as usize % beside.len().max(1)).filter(|_| !is_near(leader))?;
        Some(on(p, *node))
    };
    let replica = |r: &Replica| ReplicaInfo { id: r.id, node_id: r.node };
    let partition = |(n, p): (usize, &crate::catalog::Partition)| {
        let leader = front.core.answers_for(p).0;
        PartitionInfo {
            partition: n as u32,
            group: p.group.0,
            endpoint: on(p, leader),
            replicas: p.replicas.iter().flat_map(|r| &r.now).map(replica).collect(),
            near: near(p, leader),
            ..PartitionInfo::default()
        }
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
