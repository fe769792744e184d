//! Metadata: nodes are brokers, at the port of all their cores. Topics that are not there are created, as Kafka's default is.
//!
//! A leader is told with its epoch, which is the term in which it leads; -1 if that is not known here, which clients take for a server that does not know them.

use super::{
    super::{Front, conn::Conn, requests::look_elsewhere},
    codes, epochs, topics,
};
use crate::{
    catalog::{META_GROUP, Partition as Ours, Topic as OurTopic},
    kafka::wire::{
        Answer as _, Request, StrBytes, TopicId, WireError,
        metadata::{Broker, MetadataRequest, MetadataResponse, OPERATIONS_UNKNOWN, Partition, Topic},
    },
    security::acl::{Operation, ResourceType},
};
use bytes::Bytes;
use millpond_log::epoch_of;
use millpond_runtime::Rt;
use millpond_wire::messages::{CreateTopic, Failure};
use std::{collections::BTreeMap, rc::Rc, time::Duration};
use uuid::Uuid;

/// How long one tries to make a topic that is asked for.
const MAKE_MAX: Duration = Duration::from_secs(2);
/// A topic in an answer, and one of its partitions, in bytes: as a message and as its bytes.
const TOPIC_BYTES: usize = 1024;
const PARTITION_BYTES: usize = 320;

/// What an answer takes, in bytes: whatever is asked for, it is not more than everything, and the names themselves.
pub(super) fn weigh<R: Rt>(front: &Front<R>, request: &Request) -> usize {
    let catalog = front.core.catalog.borrow();
    let asked = MetadataRequest::read(request.body.clone(), request.header.version).ok().and_then(|asked| asked.topics);
    let (topics, partitions) = match asked {
        Some(names) => {
            let known = names.iter().filter_map(|topic| topic.name.and_then(|name| catalog.topic(&name).map(|t| t.partitions.len())));
            (names.len(), known.sum::<usize>())
        }
        None => (catalog.topics().count(), catalog.partitions()),
    };
    topics * TOPIC_BYTES + partitions * PARTITION_BYTES
}

/// Carries it out.
pub(super) async fn carry_out<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let (version, correlation_id) = (request.header.version, request.header.correlation_id);
    let asked = MetadataRequest::read(request.body.clone(), version)?;
    let may = |name: &str| front.may(conn, Operation::Describe, ResourceType::Topic, name);
    let topics = match &asked.topics {
        Some(wanted) => {
            let is_strange = |name: &StrBytes| front.core.catalog.borrow().topic(name).is_none();
            if wanted.iter().any(|one| one.name.as_ref().is_some_and(is_strange)) {
                look_elsewhere(front).await;
            }
            let names = wanted.iter().filter_map(|one| one.name.or_else(|| by_id(front, one.topic_id).name)).map(|name| name.to_string());
            learn(front, names).await;
            let mut topics = Vec::with_capacity(wanted.len());
            for one in wanted.iter() {
                front.core.rt.yield_if_needed().await;
                topics.push(match one.name {
                    Some(name) if !may(&name) => missing(&name, codes::TOPIC_AUTHORIZATION_FAILED),
                    Some(name) if asked.allow_auto_topic_creation && is_strange(&name) && !front.may_create(conn, &name) => {
                        missing(&name, codes::TOPIC_AUTHORIZATION_FAILED)
                    }
                    Some(name) => named(front, &name, asked.allow_auto_topic_creation).await,
                    None => Some(by_id(front, one.topic_id))
                        .filter(|topic| topic.name.as_deref().is_none_or(may))
                        .unwrap_or_else(|| unknown_id(one.topic_id)),
                });
            }
            topics
        }
        None => {
            let all: Vec<String> = front.core.catalog.borrow().topics().map(|topic| topic.name.clone()).filter(|name| may(name)).collect();
            learn(front, all).await;
            front.core.catalog.borrow().topics().filter(|topic| may(&topic.name)).map(|topic| describe(front, topic)).collect()
        }
    };
    let response = MetadataResponse {
        throttle_time_ms: 0,
        brokers: brokers(front),
        cluster_id: Some(StrBytes::from_string(front.core.identity.cluster())),
        controller_id: controller(front),
        topics,
        cluster_authorized_operations: OPERATIONS_UNKNOWN,
    };
    Ok(response.frame(version, correlation_id))
}

/// Hears of the leaders of some topics that may not be known here.
pub(super) async fn learn<R: Rt>(front: &Front<R>, topics: impl IntoIterator<Item = impl AsRef<str>>) {
    let replicated = |p: &Ours| p.replicas.is_some().then(|| (p.group, p.nodes()));
    let mut groups = BTreeMap::new();
    for name in topics {
        let catalog = front.core.catalog.borrow();
        groups.extend(catalog.topic(name.as_ref()).iter().flat_map(|topic| &topic.partitions).filter_map(replicated));
    }
    front.core.learn_leaders(groups).await;
}

/// A node as a broker. Ids of nodes are small: they are counted.
pub(super) fn broker_id(node: u64) -> i32 {
    i32::try_from(node).unwrap_or(i32::MAX)
}

/// The node that leads the catalog, as far as that is known here.
pub(super) fn controller<R: Rt>(front: &Front<R>) -> i32 {
    broker_id(front.core.leader_of(META_GROUP).map_or(front.core.identity.node_id, |node| node.0))
}

pub(super) fn brokers<R: Rt>(front: &Front<R>) -> Vec<Broker> {
    let core = &front.core;
    let catalog = core.catalog.borrow();
    let broker = |id: u64, host: &str, port: u16, rack: &str| Broker {
        node_id: broker_id(id),
        host: StrBytes::from_string(host.to_owned()),
        port: i32::from(port),
        rack: (!rack.is_empty()).then(|| StrBytes::from_string(rack.to_owned())),
    };
    let mut all: BTreeMap<u64, Broker> = catalog.nodes().map(|(id, node)| (id, broker(id, &node.host, node.port, &node.rack))).collect();
    let me = core.identity.node_id;
    all.insert(me, broker(me, &core.config.advertise, front.port, &core.config.rack));
    all.into_values().collect()
}

pub(super) async fn named<R: Rt>(front: &Rc<Front<R>>, name: &str, create: bool) -> Topic {
    let core = &front.core;
    let known = || core.catalog.borrow().topic(name).map(|topic| describe(front, topic));
    if let Some(topic) = known() {
        return topic;
    }
    let failure = if create { create_named(front, name).await.err() } else { None };
    learn(front, [name]).await;
    known().unwrap_or_else(|| missing(name, failure.as_ref().map_or(codes::UNKNOWN_TOPIC_OR_PARTITION, codes::of)))
}

async fn create_named<R: Rt>(front: &Rc<Front<R>>, name: &str) -> Result<(), Failure> {
    let request = CreateTopic { name: name.to_owned(), if_not_exists: true, ..CreateTopic::default() };
    topics::create_topic(front, request, MAKE_MAX).await?;
    // It may have been made elsewhere. If that is not known here in time, the client asks again.
    look_elsewhere(front).await;
    Ok(())
}

fn by_id<R: Rt>(front: &Front<R>, id: TopicId) -> Topic {
    let catalog = front.core.catalog.borrow();
    let found = topic_number(front, id).and_then(|number| catalog.topic_by_id(number));
    found.map_or_else(|| unknown_id(id), |topic| describe(front, topic))
}

fn unknown_id(id: TopicId) -> Topic {
    Topic { name: None, topic_id: id, ..missing("", codes::UNKNOWN_TOPIC_ID) }
}

pub(super) fn missing(name: &str, error_code: i16) -> Topic {
    Topic {
        error_code,
        name: Some(StrBytes::from_string(name.to_owned())),
        topic_id: TopicId::ZERO,
        is_internal: false,
        partitions: Vec::new(),
        topic_authorized_operations: OPERATIONS_UNKNOWN,
    }
}

/// What a topic is called by its id: that of the cluster, and the number that the catalog gave it, which is never 0 and never given again. So topics of one name that
/// come one after the other have different ids, in this cluster and in others.
pub(super) fn topic_id<R: Rt>(front: &Front<R>, number: u64) -> TopicId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&front.core.identity.cluster_id.to_be_bytes());
    id[8..].copy_from_slice(&number.to_be_bytes());
    TopicId(id)
}

/// The same in the form that the crate has for it.
pub(super) fn uuid(id: TopicId) -> Uuid {
    Uuid::from_bytes(id.0)
}

/// The number of a topic; nothing if it is none of this cluster's.
pub(super) fn topic_number<R: Rt>(front: &Front<R>, id: TopicId) -> Option<u64> {
    let number = u64::from_be_bytes(id.0[8..].try_into().expect("eight bytes"));
    Some(number).filter(|number| topic_id(front, *number) == id)
}

fn describe<R: Rt>(front: &Front<R>, topic: &OurTopic) -> Topic {
    let partition = |(n, p): (usize, &Ours)| {
        let nodes: Vec<i32> = p.nodes().into_iter().map(broker_id).collect();
        let (leader, term) = front.core.answers_in_term(p);
        Partition {
            error_code: codes::NONE,
            partition_index: n as i32,
            leader_id: broker_id(leader.0),
            leader_epoch: epochs::told(term.map(epoch_of)),
            replica_nodes: nodes.clone(),
            isr_nodes: nodes,
            offline_replicas: Vec::new(),
        }
    };
    Topic {
        error_code: codes::NONE,
        name: Some(StrBytes::from_string(topic.name.clone())),
        topic_id: topic_id(front, topic.topic_id),
        is_internal: topic.internal,
        partitions: topic.partitions.iter().enumerate().map(partition).collect(),
        topic_authorized_operations: OPERATIONS_UNKNOWN,
    }
}
