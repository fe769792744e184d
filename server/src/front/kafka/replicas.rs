//! Where partitions are and who leads them: DescribeTopicPartitions, AlterPartitionReassignments, ListPartitionReassignments, ElectLeaders and DescribeLogDirs.
//!
//! Replicas are moved by wish, as `millpond cluster rebalance` moves them: an answer says that the catalog wants them elsewhere, the list of
//! reassignments is what the catalog wants and does not have yet. A node's data directory is its one log directory.

use super::{
    super::{Front, conn::Conn, requests::look_elsewhere},
    answered, codes, decoded,
    groups::text,
    metadata::{self, broker_id},
    topics::{allowed, alter_topic},
};
use crate::{
    catalog::{Partition, Replica, Replicas},
    kafka::wire::{Request, StrBytes, WireError, metadata::OPERATIONS_UNKNOWN},
    security::acl::{Operation, ResourceType},
};
use bytes::Bytes;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, BrokerId, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, ElectLeadersRequest, ElectLeadersResponse,
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, TopicName,
    alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic},
    alter_partition_reassignments_response::{ReassignablePartitionResponse, ReassignableTopicResponse},
    describe_log_dirs_response::{DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic},
    describe_topic_partitions_response::{
        Cursor, DescribeTopicPartitionsResponsePartition as DescribedPartition, DescribeTopicPartitionsResponseTopic as DescribedTopic,
    },
    elect_leaders_request::TopicPartitions,
    elect_leaders_response::{PartitionResult, ReplicaElectionResult},
    list_partition_reassignments_response::{OngoingPartitionReassignment, OngoingTopicReassignment},
};
use millpond_runtime::Rt;
use millpond_wire::messages::{AlterTopic, Placement};
use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

/// Most partitions in one answer (Kafka: `max.request.partition.size.limit`).
const DESCRIBED_MAX: usize = 2_000;
/// A partition in an answer, in bytes: as a message and as its bytes.
const PARTITION_BYTES: usize = 256;
/// How often one looks whether a partition is led by the one that should.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What an answer takes, in bytes: it is not more than everything.
pub(super) fn weigh<R: Rt>(front: &Front<R>) -> usize {
    front.core.catalog.borrow().partitions() * PARTITION_BYTES
}

fn brokers<'a>(replicas: impl IntoIterator<Item = &'a Replica>) -> Vec<BrokerId> {
    replicas.into_iter().map(|replica| BrokerId(broker_id(replica.node))).collect()
}

/// Topics with their partitions, by name, from a cursor on.
pub(super) async fn describe<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: DescribeTopicPartitionsRequest = decoded(request)?;
    look_elsewhere(front).await;
    let mut names: BTreeSet<String> = asked.topics.iter().map(|topic| topic.name.to_string()).collect();
    let denied = if names.is_empty() {
        let may = |name: &str| front.may(conn, Operation::Describe, ResourceType::Topic, name);
        names = front.core.catalog.borrow().topics().filter(|topic| may(&topic.name)).map(|topic| topic.name.clone()).collect();
        BTreeSet::new()
    } else {
        front.denied(conn, Operation::Describe, names.iter().map(String::as_str))
    };
    metadata::learn(front, names.iter().filter(|name| !denied.contains(*name))).await;
    let (first, mut skip) = match &asked.cursor {
        Some(cursor) => (cursor.topic_name.to_string(), usize::try_from(cursor.partition_index).unwrap_or(0)),
        None => (String::new(), 0),
    };
    let mut left = usize::try_from(asked.response_partition_limit).unwrap_or(0).clamp(1, DESCRIBED_MAX);
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names.range(first.clone()..) {
        let skipped = if *name == first { std::mem::take(&mut skip) } else { 0 };
        let cursor = |at: usize| Cursor::default().with_topic_name(TopicName(text(name))).with_partition_index(at as i32);
        if left == 0 {
            response.next_cursor = Some(cursor(0));
            break;
        }
        front.core.rt.yield_if_needed().await;
        let topic = if denied.contains(name) {
            metadata::missing(name, codes::TOPIC_AUTHORIZATION_FAILED)
        } else {
            metadata::named(front, name, false).await
        };
        let some = topic.partitions.iter().skip(skipped).take(left);
        let ids = |nodes: &[i32]| nodes.iter().copied().map(BrokerId).collect::<Vec<_>>();
        let partition = |p: &crate::kafka::wire::metadata::Partition| {
            let described = DescribedPartition::default().with_error_code(p.error_code).with_partition_index(p.partition_index);
            let described = described.with_leader_id(BrokerId(p.leader_id)).with_leader_epoch(p.leader_epoch);
            let described = described.with_replica_nodes(ids(&p.replica_nodes)).with_isr_nodes(ids(&p.isr_nodes));
            // Java takes no null, though the schema does.
            described.with_eligible_leader_replicas(Some(Vec::new())).with_last_known_elr(Some(Vec::new()))
        };
        let partitions: Vec<_> = some.map(partition).collect();
        let next = skipped + partitions.len();
        left -= partitions.len();
        let described = DescribedTopic::default().with_error_code(topic.error_code).with_is_internal(topic.is_internal);
        let described =
            described.with_name(topic.name.map(TopicName)).with_topic_id(metadata::uuid(topic.topic_id)).with_partitions(partitions);
        response.topics.push(described.with_topic_authorized_operations(OPERATIONS_UNKNOWN));
        if next < topic.partitions.len() {
            response.next_cursor = Some(cursor(next));
            break;
        }
    }
    answered(request, &response)
}

/// The partitions that a request names, or all.
struct Wanted(Option<BTreeMap<String, BTreeSet<i32>>>);

impl Wanted {
    fn of(topics: Option<impl Iterator<Item = (TopicName, Vec<i32>)>>) -> Self {
        Self(topics.map(|topics| topics.map(|(name, partitions)| (name.to_string(), partitions.into_iter().collect())).collect()))
    }

    fn has(&self, topic: &str, partition: usize) -> bool {
        let Self(wanted) = self;
        wanted.as_ref().is_none_or(|all| all.get(topic).is_some_and(|some| some.contains(&(partition as i32))))
    }
}

/// Wants replicas elsewhere, or gives up a move that is under way.
pub(super) async fn reassign<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: AlterPartitionReassignmentsRequest = decoded(request)?;
    if !front.may_cluster(conn, Operation::Alter) {
        let refused = AlterPartitionReassignmentsResponse::default().with_error_code(codes::CLUSTER_AUTHORIZATION_FAILED);
        return answered(request, &refused);
    }
    look_elsewhere(front).await;
    let allowed = allowed(asked.timeout_ms);
    // Before version 1 nobody could say that their number is to stay.
    let may_grow = request.header.version < 1 || asked.allow_replication_factor_change;
    let mut responses = Vec::with_capacity(asked.topics.len());
    for topic in asked.topics {
        responses.push(reassign_topic(front, topic, may_grow, allowed).await);
    }
    let response = AlterPartitionReassignmentsResponse::default().with_responses(responses);
    answered(request, &response.with_allow_replication_factor_change(may_grow))
}

/// What is in order goes to the catalog as one change.
async fn reassign_topic<R: Rt>(
    front: &Rc<Front<R>>,
    topic: ReassignableTopic,
    may_grow: bool,
    allowed: Duration,
) -> ReassignableTopicResponse {
    let mut placements = Vec::new();
    let mut responses: Vec<ReassignablePartitionResponse> = Vec::with_capacity(topic.partitions.len());
    for p in &topic.partitions {
        let response = ReassignablePartitionResponse::default().with_partition_index(p.partition_index);
        responses.push(match placement(front, &topic.name, p, may_grow) {
            Ok(placement) => {
                placements.push(placement);
                response
            }
            Err((code, why)) => response.with_error_code(code).with_error_message(Some(text(why))),
        });
    }
    if !placements.is_empty() {
        let change = AlterTopic { name: topic.name.to_string(), placements, ..AlterTopic::default() };
        if let Err(failure) = alter_topic(front, change, allowed).await {
            let (code, why) = (codes::of_controller(&failure), codes::text(&failure));
            for response in responses.iter_mut().filter(|response| response.error_code == codes::NONE) {
                (response.error_code, response.error_message) = (code, Some(why.clone()));
            }
        }
    }
    ReassignableTopicResponse::default().with_name(topic.name).with_partitions(responses)
}

fn placement<R: Rt>(
    front: &Front<R>,
    topic: &str,
    asked: &ReassignablePartition,
    may_grow: bool,
) -> Result<Placement, (i16, &'static str)> {
    let catalog = front.core.catalog.borrow();
    let partition = u32::try_from(asked.partition_index).unwrap_or(u32::MAX);
    let known = catalog.topic(topic).and_then(|topic| topic.partitions.get(partition as usize));
    let known = known.ok_or((codes::UNKNOWN_TOPIC_OR_PARTITION, "there is no such partition"))?;
    let Some(brokers) = &asked.replicas else {
        if known.replicas.as_ref().is_none_or(|replicas| replicas.is_settled()) {
            return Err((codes::NO_REASSIGNMENT_IN_PROGRESS, "its replicas are where they are to be"));
        }
        return Ok(Placement { partition, nodes: Vec::new() });
    };
    let nodes: Vec<u64> = brokers.iter().map(|broker| u64::try_from(broker.0).unwrap_or(0)).collect();
    let is_known = |node: &u64| *node == front.core.identity.node_id || catalog.node(*node).is_some();
    if nodes.is_empty() || !nodes.iter().all(is_known) || nodes.iter().collect::<BTreeSet<_>>().len() != nodes.len() {
        return Err((codes::INVALID_REPLICA_ASSIGNMENT, "a replica is on a broker that there is, and each broker has one"));
    }
    if !may_grow && nodes.len() != known.nodes().len() {
        return Err((codes::INVALID_REPLICATION_FACTOR, "it is to keep its number of replicas"));
    }
    Ok(Placement { partition, nodes })
}

/// Partitions whose replicas are not all where they are to be.
pub(super) async fn reassignments<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: ListPartitionReassignmentsRequest = decoded(request)?;
    if !front.may_cluster(conn, Operation::Describe) {
        let refused = ListPartitionReassignmentsResponse::default().with_error_code(codes::CLUSTER_AUTHORIZATION_FAILED);
        return answered(request, &refused);
    }
    look_elsewhere(front).await;
    let wanted = Wanted::of(asked.topics.map(|topics| topics.into_iter().map(|topic| (topic.name, topic.partition_indexes))));
    let mut topics = Vec::new();
    for topic in front.core.catalog.borrow().topics() {
        let moving = topic.partitions.iter().enumerate().filter(|(number, _)| wanted.has(&topic.name, *number));
        let moving = moving.filter_map(|(number, p)| Some((number, p.replicas.as_ref().filter(|replicas| !replicas.is_settled())?)));
        let partitions: Vec<_> = moving.map(|(number, replicas)| ongoing(number as i32, replicas)).collect();
        if !partitions.is_empty() {
            topics.push(OngoingTopicReassignment::default().with_name(TopicName(text(&topic.name))).with_partitions(partitions));
        }
    }
    answered(request, &ListPartitionReassignmentsResponse::default().with_topics(topics))
}

fn ongoing(number: i32, replicas: &Replicas) -> OngoingPartitionReassignment {
    let adding: Vec<&Replica> = replicas.wanted.iter().filter(|replica| !replicas.now.contains(replica)).collect();
    let removing = replicas.now.iter().filter(|replica| !replicas.wanted.contains(replica));
    OngoingPartitionReassignment::default()
        .with_partition_index(number)
        .with_replicas(brokers(replicas.now.iter().chain(adding.iter().copied())))
        .with_removing_replicas(brokers(removing))
        .with_adding_replicas(brokers(adding))
}

/// Waits until partitions are led by the replicas that should lead them, which they come to by themselves.
pub(super) async fn elect<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    const UNCLEAN: i8 = 1;
    let asked: ElectLeadersRequest = decoded(request)?;
    if !front.may_cluster(conn, Operation::Alter) {
        return answered(request, &not_elected(request.header.version, asked));
    }
    let unclean = asked.election_type == UNCLEAN;
    let named: BTreeMap<String, Vec<i32>> = match &asked.topic_partitions {
        Some(topics) => topics.iter().map(|topic| (topic.topic.to_string(), topic.partitions.clone())).collect(),
        None => {
            let catalog = front.core.catalog.borrow();
            catalog.topics().map(|topic| (topic.name.clone(), (0..topic.partitions.len() as i32).collect())).collect()
        }
    };
    let until = front.core.rt.mono().saturating_add(allowed(asked.timeout_ms).as_nanos() as u64);
    let begun: Vec<(&str, i32, Stand)> =
        named.iter().flat_map(|(topic, all)| all.iter().map(|p| (topic.as_str(), *p, stand(front, topic, *p)))).collect();
    let is_late = |(topic, partition, _): &(&str, i32, Stand)| matches!(stand(front, topic, *partition), Stand::Other);
    while !unclean && front.core.rt.mono() < until && !front.core.stopping.get() && begun.iter().any(is_late) {
        front.core.rt.sleep(LOOK_EVERY).await;
    }
    let mut results: BTreeMap<&str, Vec<PartitionResult>> = BTreeMap::new();
    for (topic, partition, before) in begun {
        let (code, why) = elected(&before, &stand(front, topic, partition), unclean);
        // Who asks for all is told of those that something was done for.
        if code != codes::ELECTION_NOT_NEEDED || asked.topic_partitions.is_some() {
            let result = PartitionResult::default().with_partition_id(partition).with_error_code(code);
            results.entry(topic).or_default().push(result.with_error_message((!why.is_empty()).then(|| text(why))));
        }
    }
    let result =
        |(topic, partitions)| ReplicaElectionResult::default().with_topic(TopicName(text(topic))).with_partition_result(partitions);
    answered(request, &ElectLeadersResponse::default().with_replica_election_results(results.into_iter().map(result).collect()))
}

/// What is told of an election that this client may not ask for: from version 1 on as a whole, too.
fn not_elected(version: i16, asked: ElectLeadersRequest) -> ElectLeadersResponse {
    let partition = |n: i32| PartitionResult::default().with_partition_id(n).with_error_code(codes::CLUSTER_AUTHORIZATION_FAILED);
    let result = |topic: TopicPartitions| {
        let partitions = topic.partitions.into_iter().map(partition).collect();
        ReplicaElectionResult::default().with_topic(topic.topic).with_partition_result(partitions)
    };
    let results = asked.topic_partitions.unwrap_or_default().into_iter().map(result).collect();
    let response = ElectLeadersResponse::default().with_replica_election_results(results);
    if version >= 1 { response.with_error_code(codes::CLUSTER_AUTHORIZATION_FAILED) } else { response }
}

/// Who leads a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    Unknown,
    /// The replica that should.
    Preferred,
    /// Another one.
    Other,
    /// Nobody, as far as that is known here.
    Nobody,
}

fn stand<R: Rt>(front: &Front<R>, topic: &str, partition: i32) -> Stand {
    let catalog = front.core.catalog.borrow();
    let number = usize::try_from(partition).unwrap_or(usize::MAX);
    let Some(p) = catalog.topic(topic).and_then(|topic| topic.partitions.get(number)) else { return Stand::Unknown };
    if p.replicas.is_none() {
        return Stand::Preferred;
    }
    match front.core.leader_of(p.group) {
        Some(leader) if leader.0 == p.preferred() => Stand::Preferred,
        Some(_) => Stand::Other,
        None => Stand::Nobody,
    }
}

fn elected(before: &Stand, after: &Stand, unclean: bool) -> (i16, &'static str) {
    match (before, after) {
        (_, Stand::Unknown) => (codes::UNKNOWN_TOPIC_OR_PARTITION, "there is no such partition"),
        (Stand::Preferred, Stand::Preferred) => (codes::ELECTION_NOT_NEEDED, "the replica that should lead it does"),
        (_, Stand::Preferred | Stand::Other) if unclean => (codes::ELECTION_NOT_NEEDED, "a replica leads it"),
        (_, Stand::Preferred) => (codes::NONE, ""),
        (_, Stand::Other) => (codes::PREFERRED_LEADER_NOT_AVAILABLE, "the replica that should lead it cannot do so yet"),
        (_, Stand::Nobody) => (
            codes::ELIGIBLE_LEADERS_NOT_AVAILABLE,
            "nobody leads it: a majority of its replicas is needed; if they are lost for good, see `millpond node recover`",
        ),
    }
}

/// What lives on this node, and how much room there is.
pub(super) async fn log_dirs<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: DescribeLogDirsRequest = decoded(request)?;
    if !front.may_cluster(conn, Operation::Describe) {
        let refused = DescribeLogDirsResponse::default();
        // Before version 3 there is no room for a code: nothing is told.
        let code = if request.header.version >= 3 { codes::CLUSTER_AUTHORIZATION_FAILED } else { codes::NONE };
        return answered(request, &refused.with_error_code(code));
    }
    let core = &front.core;
    let wanted = Wanted::of(asked.topics.map(|topics| topics.into_iter().map(|topic| (topic.topic, topic.partitions))));
    let sizes = core.sizes_here().await;
    let mut topics = Vec::new();
    for topic in core.catalog.borrow().topics() {
        let here = |(number, p): (usize, &Partition)| {
            let size = sizes.get(&p.group).filter(|_| wanted.has(&topic.name, number))?;
            Some(DescribeLogDirsPartition::default().with_partition_index(number as i32).with_partition_size(*size as i64))
        };
        let partitions: Vec<_> = topic.partitions.iter().enumerate().filter_map(here).collect();
        if !partitions.is_empty() {
            topics.push(DescribeLogDirsTopic::default().with_name(TopicName(text(&topic.name))).with_partitions(partitions));
        }
    }
    let result = DescribeLogDirsResult::default().with_log_dir(StrBytes::from_string(core.config.data.display().to_string()));
    let result = match core.rt.space(&core.config.data).await {
        Ok(space) => result.with_total_bytes(space.total as i64).with_usable_bytes(space.free as i64),
        Err(_) => result.with_total_bytes(-1).with_usable_bytes(-1),
    };
    answered(request, &DescribeLogDirsResponse::default().with_results(vec![result.with_topics(topics)]))
}
