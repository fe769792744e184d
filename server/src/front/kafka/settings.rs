//! What operators ask of topics that are there: DescribeConfigs, ListConfigResources, IncrementalAlterConfigs, AlterConfigs, CreatePartitions and DeleteRecords; and DescribeCluster.
//!
//! What is told, and what changes go by, is what the cluster knew when the request came, whichever node is asked: an operator's tools ask one node after the other.
//!
//! Settings are those of [`crate::catalog::settings`], by Kafka's names. Brokers have none that could be asked for or changed here: their list is empty.

use super::{
    super::{Front, conn::Conn, requests::look_elsewhere},
    answered, codes, decoded,
    groups::text,
    metadata::{brokers, controller},
    room::Room,
    topics::{allowed, alter_topic},
};
use crate::{
    catalog::settings::{SPECS, TopicSettings, Values},
    kafka::wire::{Request, StrBytes, WireError, metadata::OPERATIONS_UNKNOWN},
    security::acl::{Operation, ResourceType},
};
use bytes::Bytes;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, BrokerId, CreatePartitionsRequest, CreatePartitionsResponse, DeleteRecordsRequest,
    DeleteRecordsResponse, DescribeClusterResponse, DescribeConfigsRequest, DescribeConfigsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, ListConfigResourcesRequest, ListConfigResourcesResponse,
    alter_configs_response::AlterConfigsResourceResponse as Altered,
    create_partitions_response::CreatePartitionsTopicResult,
    create_topics_response::CreatableTopicConfigs,
    delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult},
    describe_cluster_response::DescribeClusterBroker,
    describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym},
    incremental_alter_configs_response::AlterConfigsResourceResponse,
    list_config_resources_response::ConfigResource,
};
use millpond_runtime::Rt;
use millpond_wire::messages::{AlterTopic, Code, DeleteRecords, Failure, Kind, Setting};
use std::{rc::Rc, time::Duration};

/// What settings belong to.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// Where a setting comes from.
const SET_FOR_TOPIC: i8 = 1;
const DEFAULT: i8 = 5;
/// What is done to a setting.
const SET: i8 = 0;
const RESET: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// How long one tries to change settings.
const ALTER_MAX: Duration = Duration::from_secs(2);

/// A code, and for people why.
type Refused = (i16, StrBytes);

fn refused(code: i16, why: &str) -> Refused {
    (code, text(why))
}

/// Why settings are refused: what is out of bounds or not known is not a valid setting.
fn of(failure: &Failure) -> Refused {
    let code = if failure.code() == Code::InvalidArgument { codes::INVALID_CONFIG } else { codes::of_controller(failure) };
    (code, codes::text(failure))
}

fn known<R: Rt>(front: &Front<R>, topic: &str) -> Result<(TopicSettings, usize), Refused> {
    let catalog = front.core.catalog.borrow();
    let found = catalog.topic(topic).map(|topic| (topic.settings.clone(), topic.partitions.len()));
    found.ok_or_else(|| refused(codes::UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic"))
}

/// About what a setting takes that is told with all of its texts, in bytes.
pub(super) const SETTING_BYTES: usize = 640;

/// What an answer takes, in bytes: a resource takes four in a request, and all settings with their texts in an answer.
pub(super) fn weigh(request: &Request) -> usize {
    const ASKED_BYTES_MIN: usize = 4;
    const TOLD_BYTES: usize = 16 * 1024;
    request.body.len() / ASKED_BYTES_MIN * TOLD_BYTES
}

/// The settings of topics.
pub(super) async fn describe<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let version = request.header.version;
    let asked: DescribeConfigsRequest = decoded(request)?;
    look_elsewhere(front).await;
    let mut results = Vec::with_capacity(asked.resources.len());
    let mut room = Room::of(front);
    for resource in asked.resources {
        front.core.rt.yield_if_needed().await;
        let result =
            DescribeConfigsResult::default().with_resource_type(resource.resource_type).with_resource_name(resource.resource_name.clone());
        let may_not = may_not(front, conn, Operation::DescribeConfigs, resource.resource_type, &resource.resource_name);
        let all = match (may_not, resource.resource_type) {
            (Some(code), _) => Err(refused(code, "its settings may not be read by this client")),
            (None, TOPIC) => known(front, &resource.resource_name).map(|(settings, _)| settings.to_wire()),
            (None, BROKER) => Ok(Vec::new()),
            (None, _) => Err(refused(codes::INVALID_REQUEST, "settings are those of topics and brokers")),
        };
        let keys = resource.configuration_keys;
        let wanted = |setting: &Setting| keys.as_ref().is_none_or(|keys| keys.is_empty() || keys.iter().any(|key| **key == setting.name));
        results.push(match all {
            Err((code, why)) => result.with_error_code(code).with_error_message(Some(why)),
            Ok(all) if !room.take(all.iter().filter(|setting| wanted(setting)).count() * SETTING_BYTES) => result
                .with_error_code(codes::INVALID_REQUEST)
                .with_error_message(Some(text("this is more than one answer has room for: ask for the settings of fewer at a time"))),
            Ok(all) => {
                let told = all.iter().filter(|setting| wanted(setting));
                result
                    .with_configs(told.map(|setting| tell(version, asked.include_synonyms, asked.include_documentation, setting)).collect())
            }
        });
    }
    answered(request, &DescribeConfigsResponse::default().with_results(results))
}

/// A setting of a topic that was created just now.
pub(super) fn of_created(setting: &Setting) -> CreatableTopicConfigs {
    let source = if setting.is_default { DEFAULT } else { SET_FOR_TOPIC };
    CreatableTopicConfigs::default().with_name(text(&setting.name)).with_value(Some(text(&setting.value))).with_config_source(source)
}

/// Why a client may not do something to the settings of a resource, if so.
fn may_not<R: Rt>(front: &Front<R>, conn: &Conn<R>, operation: Operation, kind: i8, name: &str) -> Option<i16> {
    if kind == TOPIC {
        (!front.may(conn, operation, ResourceType::Topic, name)).then_some(codes::TOPIC_AUTHORIZATION_FAILED)
    } else {
        (!front.may_cluster(conn, operation)).then_some(codes::CLUSTER_AUTHORIZATION_FAILED)
    }
}

fn tell(version: i16, synonyms: bool, documented: bool, setting: &Setting) -> DescribeConfigsResourceResult {
    let spec = SPECS.iter().find(|spec| spec.name == setting.name);
    let source = if setting.is_default { DEFAULT } else { SET_FOR_TOPIC };
    let told = DescribeConfigsResourceResult::default()
        .with_name(text(&setting.name))
        .with_value(Some(text(&setting.value)))
        .with_config_source(source);
    let synonym = |value: &str, source| {
        DescribeConfigsSynonym::default().with_name(text(&setting.name)).with_value(Some(text(value))).with_source(source)
    };
    let own = (!setting.is_default).then(|| synonym(&setting.value, SET_FOR_TOPIC));
    let default = spec.map(|spec| synonym(spec.default, DEFAULT));
    let told = if synonyms { told.with_synonyms(own.into_iter().chain(default).collect()) } else { told };
    if version < 3 {
        return told;
    }
    let kind = match spec.map(|spec| spec.values) {
        Some(Values::Int { .. }) => 5,
        Some(Values::Ratio) => 6,
        Some(Values::Word(["false", "true"] | ["false"])) => 1,
        Some(Values::Words(_)) => 7,
        _ => 2,
    };
    told.with_config_type(kind).with_documentation(spec.filter(|_| documented).map(|spec| text(spec.help)))
}

/// What has settings: topics and brokers.
pub(super) async fn list<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: ListConfigResourcesRequest = decoded(request)?;
    if !front.may_cluster(conn, Operation::DescribeConfigs) {
        let refused = ListConfigResourcesResponse::default().with_error_code(codes::CLUSTER_AUTHORIZATION_FAILED);
        return answered(request, &refused);
    }
    look_elsewhere(front).await;
    // Version 0 asks for metrics of clients alone, of which there are none.
    let is_asked = |kind: i8| request.header.version > 0 && (asked.resource_types.is_empty() || asked.resource_types.contains(&kind));
    let resource = |kind: i8, name: &str| ConfigResource::default().with_resource_type(kind).with_resource_name(text(name));
    let mut all = Vec::new();
    if is_asked(TOPIC) {
        all.extend(front.core.catalog.borrow().topics().map(|topic| resource(TOPIC, &topic.name)));
    }
    if is_asked(BROKER) {
        all.extend(brokers(front).iter().map(|broker| resource(BROKER, &broker.node_id.to_string())));
    }
    answered(request, &ListConfigResourcesResponse::default().with_config_resources(all))
}

/// Changes some settings of topics.
pub(super) async fn alter<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: IncrementalAlterConfigsRequest = decoded(request)?;
    look_elsewhere(front).await;
    let mut responses = Vec::with_capacity(asked.resources.len());
    for resource in asked.resources {
        let response = AlterConfigsResourceResponse::default().with_resource_type(resource.resource_type);
        let changes = resource.configs.iter().map(|c| (c.name.to_string(), c.config_operation, c.value.as_ref().map(ToString::to_string)));
        let done = alter_one(front, conn, (resource.resource_type, &resource.resource_name), changes.collect(), asked.validate_only).await;
        let response = response.with_resource_name(resource.resource_name);
        responses.push(match done {
            Ok(()) => response,
            Err((code, why)) => response.with_error_code(code).with_error_message(Some(why)),
        });
    }
    answered(request, &IncrementalAlterConfigsResponse::default().with_responses(responses))
}

/// Changes all settings of topics: those that are not given go back to their defaults.
pub(super) async fn alter_all<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: AlterConfigsRequest = decoded(request)?;
    look_elsewhere(front).await;
    let mut responses = Vec::with_capacity(asked.resources.len());
    for resource in asked.resources {
        let name = &resource.resource_name;
        let mut changes: Vec<_> =
            resource.configs.iter().map(|c| (c.name.to_string(), SET, c.value.as_ref().map(ToString::to_string))).collect();
        if let (TOPIC, Ok((settings, _))) = (resource.resource_type, known(front, name)) {
            let others = settings.overrides().map(|(name, _)| name).filter(|name| changes.iter().all(|(given, ..)| given != name));
            let others: Vec<_> = others.map(|name| (name.to_owned(), RESET, None)).collect();
            changes.extend(others);
        }
        let response = Altered::default().with_resource_type(resource.resource_type).with_resource_name(name.clone());
        responses.push(match alter_one(front, conn, (resource.resource_type, name), changes, asked.validate_only).await {
            Ok(()) => response,
            Err((code, why)) => response.with_error_code(code).with_error_message(Some(why)),
        });
    }
    answered(request, &AlterConfigsResponse::default().with_responses(responses))
}

async fn alter_one<R: Rt>(
    front: &Rc<Front<R>>,
    conn: &Conn<R>,
    (kind, name): (i8, &str),
    changes: Vec<(String, i8, Option<String>)>,
    dry_run: bool,
) -> Result<(), Refused> {
    if let Some(code) = may_not(front, conn, Operation::AlterConfigs, kind, name) {
        return Err(refused(code, "its settings may not be changed by this client"));
    }
    // Kafka's tools delete throttles of moves that nobody has set: what is not there is deleted at once.
    let is_nothing = |(setting, operation, _): &(String, i8, Option<String>)| {
        *operation == RESET && (kind != TOPIC || SPECS.iter().all(|spec| spec.name != setting))
    };
    let changes: Vec<_> = changes.into_iter().filter(|change| !is_nothing(change)).collect();
    if kind != TOPIC {
        let nothing = kind == BROKER && changes.is_empty();
        return if nothing { Ok(()) } else { Err(refused(codes::INVALID_REQUEST, "only topics have settings that can be changed")) };
    }
    let (now, _) = known(front, name)?;
    let is = |setting: &str| now.to_wire().into_iter().find(|s| s.name == setting).map(|s| s.value).unwrap_or_default();
    let mut settings = Vec::with_capacity(changes.len());
    for (setting, operation, value) in changes {
        let value = value.unwrap_or_default();
        let words: Vec<&str> = value.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
        let had = is(&setting);
        let had = had.split(',').filter(|word| !word.is_empty());
        let value = match operation {
            SET => value,
            RESET => String::new(),
            APPEND => had.filter(|word| !words.contains(word)).chain(words.iter().copied()).collect::<Vec<_>>().join(","),
            SUBTRACT => had.filter(|word| !words.contains(word)).collect::<Vec<_>>().join(","),
            _ => return Err(refused(codes::INVALID_REQUEST, "a setting is set, deleted, appended to or subtracted from")),
        };
        settings.push(Setting { name: setting, value, ..Setting::default() });
    }
    if dry_run {
        let checked = now.with(settings.iter().map(|s| (s.name.as_str(), s.value.as_str())));
        return checked.map(drop).map_err(|error| of(&error.failure()));
    }
    let request = AlterTopic { name: name.to_owned(), settings, ..AlterTopic::default() };
    alter_topic(front, request, ALTER_MAX).await.map_err(|failure| of(&failure))
}

/// Gives topics more partitions.
pub(super) async fn create_partitions<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: CreatePartitionsRequest = decoded(request)?;
    look_elsewhere(front).await;
    let mut results = Vec::with_capacity(asked.topics.len());
    for topic in asked.topics {
        let result = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
        let done = async {
            if !front.may(conn, Operation::Alter, ResourceType::Topic, &topic.name) {
                return Err(refused(codes::TOPIC_AUTHORIZATION_FAILED, "it may not be altered by this client"));
            }
            let (_, partitions) = known(front, &topic.name)?;
            if topic.assignments.is_some() {
                return Err(refused(codes::INVALID_REPLICA_ASSIGNMENT, "replicas are placed by the server: give the number of partitions"));
            }
            let more = usize::try_from(topic.count).is_ok_and(|count| count > partitions);
            if !more {
                let why = format!("the topic has {partitions} partitions, and can only be given more");
                return Err(refused(codes::INVALID_PARTITIONS, &why));
            }
            if asked.validate_only {
                return Ok(());
            }
            let request = AlterTopic { name: topic.name.to_string(), partitions: topic.count as u32, ..AlterTopic::default() };
            alter_topic(front, request, allowed(asked.timeout_ms)).await.map_err(|failure| match failure.code() {
                Code::InvalidArgument => (codes::INVALID_PARTITIONS, codes::text(&failure)),
                _ => of(&failure),
            })
        };
        results.push(match done.await {
            Ok(()) => result,
            Err((code, why)) => result.with_error_code(code).with_error_message(Some(why)),
        });
    }
    answered(request, &CreatePartitionsResponse::default().with_results(results))
}

/// Deletes the oldest records of partitions.
pub(super) async fn delete_records<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: DeleteRecordsRequest = decoded(request)?;
    let mut topics = Vec::with_capacity(asked.topics.len());
    for topic in asked.topics {
        let may = front.may(conn, Operation::Delete, ResourceType::Topic, &topic.name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for p in topic.partitions {
            let result = DeleteRecordsPartitionResult::default().with_partition_index(p.partition_index).with_low_watermark(-1);
            if !may {
                partitions.push(result.with_error_code(codes::TOPIC_AUTHORIZATION_FAILED));
                continue;
            }
            partitions.push(match delete_before(front, &topic.name, p.partition_index, p.offset).await {
                Ok(start) => result.with_low_watermark(start as i64),
                Err(code) => result.with_error_code(code),
            });
        }
        topics.push(DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions));
    }
    answered(request, &DeleteRecordsResponse::default().with_topics(topics))
}

/// Deletes the records of a partition before an offset; -1 means all that there are. The first offset that is left.
async fn delete_before<R: Rt>(front: &Rc<Front<R>>, topic: &str, partition: i32, offset: i64) -> Result<u64, i16> {
    let partition = u32::try_from(partition).map_err(|_| codes::UNKNOWN_TOPIC_OR_PARTITION)?;
    let before = match u64::try_from(offset) {
        Ok(before) => before,
        Err(_) if offset == -1 => {
            let bounds = front.core.bounds_of(&[(topic, partition)]).await.pop();
            bounds.ok_or(codes::UNKNOWN_TOPIC_OR_PARTITION)?.map_err(|failure| codes::of(&failure))?.end
        }
        Err(_) => return Err(codes::OFFSET_OUT_OF_RANGE),
    };
    let request = DeleteRecords { topic: topic.to_owned(), partition, before };
    let here = front.core.delete_records(request.clone()).await;
    front.core.or_there(Kind::DeleteRecords, &request, here).await.map(|reply| reply.start_offset).map_err(|failure| codes::of(&failure))
}

/// Nodes as brokers.
pub(super) fn cluster<R: Rt>(front: &Front<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    const BROKERS: i8 = 1;
    let asked: kafka_protocol::messages::DescribeClusterRequest = decoded(request)?;
    let response = DescribeClusterResponse::default()
        .with_cluster_id(StrBytes::from_string(front.core.identity.cluster()))
        .with_cluster_authorized_operations(OPERATIONS_UNKNOWN);
    if asked.endpoint_type != BROKERS {
        const UNSUPPORTED_ENDPOINT_TYPE: i16 = 115;
        return answered(
            request,
            &response.with_error_code(UNSUPPORTED_ENDPOINT_TYPE).with_error_message(Some(text("every node is a broker"))),
        );
    }
    let broker = |b: crate::kafka::wire::metadata::Broker| {
        DescribeClusterBroker::default().with_broker_id(BrokerId(b.node_id)).with_host(b.host).with_port(b.port).with_rack(b.rack)
    };
    let all = brokers(front).into_iter().map(broker).collect();
    answered(request, &response.with_controller_id(BrokerId(controller(front))).with_brokers(all))
}
