//! CreateTopics and DeleteTopics, topic by topic: whoever sends several has each answered for itself.

use super::{super::Front, answered, codes, decoded};
use crate::{
    kafka::wire::{Request, StrBytes, WireError},
    node::meta::Change,
};
use bytes::Bytes;
use kafka_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse, create_topics_request::CreatableTopic,
    create_topics_response::CreatableTopicResult, delete_topics_response::DeletableTopicResult,
};
use millpond_runtime::Rt;
use millpond_wire::messages::{CreateTopic, DeleteTopic, Failure, Setting};
use std::rc::Rc;

/// Creates topics.
pub(super) async fn create<R: Rt>(front: &Rc<Front<R>>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: CreateTopicsRequest = decoded(request)?;
    let mut topics = Vec::with_capacity(asked.topics.len());
    for topic in asked.topics {
        topics.push(create_one(front, topic, asked.validate_only).await);
    }
    let response = CreateTopicsResponse::default().with_topics(topics);
    answered(request, &response)
}

async fn create_one<R: Rt>(front: &Rc<Front<R>>, topic: CreatableTopic, dry_run: bool) -> CreatableTopicResult {
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
    match front.core.change(Change::Create(request)).await {
        Err(failure) => told(answer, &failure),
        Ok(changed) => {
            let partitions = changed.topic.as_ref().map_or(-1, |t| t.partitions.len() as i32);
            let replicas = changed.topic.as_ref().and_then(|t| t.partitions.first()).map_or(-1, |p| p.nodes().len() as i16);
            answer.with_num_partitions(partitions).with_replication_factor(replicas)
        }
    }
}

fn told(answer: CreatableTopicResult, failure: &Failure) -> CreatableTopicResult {
    answer.with_error_code(codes::of(failure)).with_error_message(Some(codes::text(failure)))
}

/// Deletes topics, by their names.
pub(super) async fn delete<R: Rt>(front: &Rc<Front<R>>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: DeleteTopicsRequest = decoded(request)?;
    let mut responses = Vec::with_capacity(asked.topic_names.len());
    for name in asked.topic_names {
        let request = DeleteTopic { name: name.to_string(), ..DeleteTopic::default() };
        let answer = DeletableTopicResult::default().with_name(Some(name));
        responses.push(match front.core.change(Change::Delete(request)).await {
            Ok(_) => answer,
            Err(failure) => answer.with_error_code(codes::of(&failure)).with_error_message(Some(codes::text(&failure))),
        });
    }
    let response = DeleteTopicsResponse::default().with_responses(responses);
    answered(request, &response)
}
