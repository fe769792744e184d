//! CreateTopics and DeleteTopics, topic by topic: whoever sends several has each answered for itself.

use super::{
    super::{Front, conn::Conn, requests::look_elsewhere},
    answered, codes, decoded, metadata,
    room::Room,
    settings,
};
use crate::{
    catalog::settings::SPECS,
    kafka::wire::{Request, StrBytes, WireError},
    node::meta::{Change, Changed},
    security::acl::{Operation, ResourceType},
};
use bytes::Bytes;
use kafka_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse, create_topics_request::CreatableTopic,
    create_topics_response::CreatableTopicResult, delete_topics_response::DeletableTopicResult,
};
use millpond_runtime::{Nanos, Rt};
use millpond_wire::messages::{
    AlterTopic, Code, CreateTopic, DeleteTopic, Done, Failure, Kind, PartitionInfo, ReplicaInfo, Setting, TopicInfo, TopicReply,
};
use prost::Message;
use std::{rc::Rc, time::Duration};
use uuid::Uuid;

/// How long one tries to reach the node that leads the catalog, whatever the client allows.
pub(super) const CHANGE_MAX: Duration = Duration::from_secs(5);
/// How long one waits between two tries.
const TRY_EVERY: Duration = Duration::from_millis(50);

/// What an answer takes, in bytes: each topic is told with its settings, as long as there is room.
pub(super) fn weigh(request: &Request) -> usize {
    let topics = decoded::<CreateTopicsRequest>(request).map_or(0, |asked| asked.topics.len());
    topics * SPECS.len() * settings::SETTING_BYTES
}

/// How long a client allows for a change.
pub(super) fn allowed(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0)).min(CHANGE_MAX)
}

/// How a change is tried.
struct Tries {
    until: Nanos,
    /// It is not known what came of one of the tries.
    in_doubt: bool,
}

impl Tries {
    fn within<R: Rt>(front: &Front<R>, allowed: Duration) -> Self {
        Self { until: front.core.rt.mono().saturating_add(allowed.as_nanos() as u64), in_doubt: false }
    }

    /// Whether a change that failed in this way is to be tried again, now that some time has gone by: nobody led, it is not known what came of it,
    /// or less was known here than there, which is learnt.
    async fn again<R: Rt>(&mut self, front: &Rc<Front<R>>, failure: &Failure) -> bool {
        let core = &front.core;
        self.in_doubt |= failure.code() == Code::MaybeDone;
        let passes = matches!(failure.code(), Code::NotOwner | Code::Unavailable | Code::MaybeDone | Code::Outdated);
        if !passes || core.rt.mono() >= self.until || core.stopping.get() {
            return false;
        }
        core.rt.sleep(TRY_EVERY).await;
        if failure.code() == Code::Outdated {
            look_elsewhere(front).await;
        }
        true
    }
}

/// Makes a change of the catalog, as Kafka's brokers do: whoever is asked has it made where that is possible, and tries within `allowed` while
/// nobody leads, or somebody has been asked and does not answer. So it must do no harm to make it twice; `request` is told whether it may have been made
/// before. What it came to is told in our own words.
pub(super) async fn change<R: Rt, Q: Message + Clone, M: Message + Default>(
    front: &Rc<Front<R>>,
    (kind, request): (Kind, impl Fn(bool) -> Q),
    (change, told): (impl Fn(Q) -> Change, impl Fn(Changed) -> M),
    allowed: Duration,
) -> Result<M, Failure> {
    let mut tries = Tries::within(front, allowed);
    loop {
        let asked = request(tries.in_doubt);
        let here = front.core.change(change(asked.clone())).await.map(&told);
        match front.core.or_there(kind, &asked, here).await {
            Err(failure) if tries.again(front, &failure).await => {}
            done => return done,
        }
    }
}

/// Creates a topic, wherever the catalog is led. What is told of it: its id, settings, and partitions with their replicas.
pub(super) async fn create_topic<R: Rt>(front: &Rc<Front<R>>, request: CreateTopic, allowed: Duration) -> Result<TopicInfo, Failure> {
    let partition = |p: &crate::catalog::Partition| PartitionInfo {
        replicas: p.nodes().into_iter().map(|node_id| ReplicaInfo { id: 0, node_id }).collect(),
        ..PartitionInfo::default()
    };
    let info = |topic: crate::catalog::Topic| TopicInfo {
        topic_id: topic.topic_id,
        partitions: topic.partitions.iter().map(partition).collect(),
        settings: topic.settings.to_wire(),
        ..TopicInfo::default()
    };
    let told = |changed: Changed| TopicReply { topic: changed.topic.map(info), changed: changed.changed };
    // By the number a topic that an unanswered try has made is told from one that was there; by the epoch one that is late on its way brings back nothing.
    let attempt = front.core.rt.rand().max(1);
    let asked = |_| CreateTopic { attempt, as_of: front.core.catalog.borrow().epoch(), ..request.clone() };
    let made = change(front, (Kind::CreateTopic, asked), (Change::Create, told), allowed).await?;
    Ok(made.topic.unwrap_or_default())
}

/// Changes a topic, wherever the catalog is led.
pub(super) async fn alter_topic<R: Rt>(front: &Rc<Front<R>>, request: AlterTopic, allowed: Duration) -> Result<(), Failure> {
    let alter = (Change::Alter, |changed: Changed| TopicReply { topic: None, changed: changed.changed });
    change(front, (Kind::AlterTopic, |_| request.clone()), alter, allowed).await.map(drop)
}

/// Deletes the topic that has this name, wherever the catalog is led.
async fn delete_topic<R: Rt>(front: &Rc<Front<R>>, name: &str, allowed: Duration) -> Result<(), Failure> {
    let known = || front.core.catalog.borrow().topic(name).map_or(0, |topic| topic.topic_id);
    let (mut tries, mut id) = (Tries::within(front, allowed), known());
    loop {
        let request = DeleteTopic { name: name.to_owned(), topic_id: Some(id), ..DeleteTopic::default() };
        let here = front.core.change(Change::Delete(request.clone())).await.map(|_| Done {});
        let Err(failure) = front.core.or_there(Kind::DeleteTopic, &request, here).await else { return Ok(()) };
        if tries.in_doubt && id != 0 && matches!(failure.code(), Code::UnknownTopic | Code::Outdated) {
            // The one that was meant is gone: an unanswered try has deleted it, or somebody else.
            return Ok(());
        }
        if !tries.again(front, &failure).await {
            return Err(failure);
        }
        // One that is not known was not deleted.
        tries.in_doubt &= id != 0;
        if !tries.in_doubt {
            id = known();
        }
    }
}

/// Creates topics.
pub(super) async fn create<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: CreateTopicsRequest = decoded(request)?;
    let mut topics = Vec::with_capacity(asked.topics.len());
    let mut room = Room::of(front);
    for topic in asked.topics {
        if !front.may_create(conn, &topic.name) {
            let refused = CreatableTopicResult::default().with_name(topic.name).with_num_partitions(-1).with_replication_factor(-1);
            topics.push(refused.with_error_code(codes::TOPIC_AUTHORIZATION_FAILED));
            continue;
        }
        let may_see = front.may(conn, Operation::DescribeConfigs, ResourceType::Topic, &topic.name);
        let mut told = create_one(front, topic, asked.validate_only, allowed(asked.timeout_ms), &mut room).await;
        if told.error_code == codes::NONE && !may_see {
            told = told.with_topic_config_error_code(codes::TOPIC_AUTHORIZATION_FAILED).with_configs(None);
            told = told.with_num_partitions(-1).with_replication_factor(-1);
        }
        topics.push(told);
    }
    let response = CreateTopicsResponse::default().with_topics(topics);
    answered(request, &response)
}

async fn create_one<R: Rt>(
    front: &Rc<Front<R>>,
    topic: CreatableTopic,
    dry_run: bool,
    allowed: Duration,
    room: &mut Room,
) -> CreatableTopicResult {
    let answer = CreatableTopicResult::default().with_name(topic.name.clone()).with_num_partitions(-1).with_replication_factor(-1);
    let refused = |answer: CreatableTopicResult, code, why: &str| {
        answer.with_error_code(code).with_error_message(Some(StrBytes::from_string(why.to_owned())))
    };
    if !topic.assignments.is_empty() {
        return refused(
            answer,
            codes::INVALID_REPLICA_ASSIGNMENT,
            "replicas are placed by the server: give numbers of partitions and replicas",
        );
    }
    // -1 asks for the default, as 0 does here.
    let number = |n: i32| u32::try_from(n.max(0)).unwrap_or(0);
    if topic.num_partitions < -1 || topic.num_partitions == 0 || topic.replication_factor < -1 || topic.replication_factor == 0 {
        return refused(answer, codes::INVALID_REQUEST, "give at least one partition and one replica, or -1 for the server's default");
    }
    let setting = |c: &kafka_protocol::messages::create_topics_request::CreatableTopicConfig| Setting {
        name: c.name.to_string(),
        value: c.value.as_ref().map(ToString::to_string).unwrap_or_default(),
        ..Setting::default()
    };
    let request = CreateTopic {
        name: topic.name.to_string(),
        partitions: number(topic.num_partitions),
        replication: number(i32::from(topic.replication_factor)),
        settings: topic.configs.iter().map(setting).collect(),
        dry_run,
        ..CreateTopic::default()
    };
    match create_topic(front, request, allowed).await {
        Err(failure) => told(answer, &failure),
        Ok(made) => {
            // A partition without replicas is one that a node has alone.
            let replicas = made.partitions.first().map_or(-1, |p| p.replicas.len().max(1) as i16);
            let answer = answer.with_num_partitions(made.partitions.len() as i32).with_replication_factor(replicas);
            // One that was not made has no id, as Kafka has it.
            let id = if dry_run { Uuid::nil() } else { metadata::uuid(metadata::topic_id(front, made.topic_id)) };
            // Settings for which there is no room are not told: who wants them asks for them.
            let configs = room.take(made.settings.len() * settings::SETTING_BYTES).then(|| made.settings.iter().map(settings::of_created));
            answer.with_topic_id(id).with_configs(configs.map(Iterator::collect))
        }
    }
}

fn told(answer: CreatableTopicResult, failure: &Failure) -> CreatableTopicResult {
    answer.with_error_code(codes::of_controller(failure)).with_error_message(Some(codes::text(failure)))
}

/// Deletes topics, by their names.
pub(super) async fn delete<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: DeleteTopicsRequest = decoded(request)?;
    let mut responses = Vec::with_capacity(asked.topic_names.len());
    for name in asked.topic_names {
        let answer = DeletableTopicResult::default().with_name(Some(name.clone()));
        if !front.may(conn, Operation::Delete, ResourceType::Topic, &name) {
            responses.push(answer.with_error_code(codes::TOPIC_AUTHORIZATION_FAILED));
            continue;
        }
        responses.push(match delete_topic(front, &name, allowed(asked.timeout_ms)).await {
            Ok(()) => answer,
            Err(failure) => answer.with_error_code(codes::of_controller(&failure)).with_error_message(Some(codes::text(&failure))),
        });
    }
    let response = DeleteTopicsResponse::default().with_responses(responses);
    answered(request, &response)
}
