//! CreateTopics and DeleteTopics, topic by topic: whoever sends several has each answered for itself.

use super::{
    super::{Front, conn::Conn},
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
use millpond_runtime::Rt;
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

/// Makes a change of the catalog, as Kafka's brokers do: whoever is asked has it made where that is possible, and waits within `allowed` while
/// nobody leads. What it came to is told in our own words.
pub(super) async fn change<R: Rt, M: Message + Default>(
    front: &Rc<Front<R>>,
    kind: Kind,
    request: &impl Message,
    (change, told): (impl Fn() -> Change, impl Fn(Changed) -> M),
    allowed: Duration,
) -> Result<M, Failure> {
    let core = &front.core;
    let until = core.rt.mono().saturating_add(allowed.as_nanos() as u64);
    loop {
        let here = core.change(change()).await.map(&told);
        match front.core.or_there(kind, request, here).await {
            Err(failure)
                if matches!(failure.code(), Code::NotOwner | Code::Unavailable) && core.rt.mono() < until && !core.stopping.get() =>
            {
                core.rt.sleep(TRY_EVERY).await;
            }
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
    let made = change(front, Kind::CreateTopic, &request, (|| Change::Create(request.clone()), told), allowed).await?;
    Ok(made.topic.unwrap_or_default())
}

/// Changes a topic, wherever the catalog is led.
pub(super) async fn alter_topic<R: Rt>(front: &Rc<Front<R>>, request: AlterTopic, allowed: Duration) -> Result<(), Failure> {
    let alter = (|| Change::Alter(request.clone()), |changed: Changed| TopicReply { topic: None, changed: changed.changed });
    change(front, Kind::AlterTopic, &request, alter, allowed).await.map(drop)
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
        let request = DeleteTopic { name: name.to_string(), ..DeleteTopic::default() };
        let answer = DeletableTopicResult::default().with_name(Some(name));
        if !front.may(conn, Operation::Delete, ResourceType::Topic, &request.name) {
            responses.push(answer.with_error_code(codes::TOPIC_AUTHORIZATION_FAILED));
            continue;
        }
        let delete = (|| Change::Delete(request.clone()), |_| Done {});
        responses.push(match change(front, Kind::DeleteTopic, &request, delete, allowed(asked.timeout_ms)).await {
            Ok(_) => answer,
            Err(failure) => answer.with_error_code(codes::of_controller(&failure)).with_error_message(Some(codes::text(&failure))),
        });
    }
    let response = DeleteTopicsResponse::default().with_responses(responses);
    answered(request, &response)
}
