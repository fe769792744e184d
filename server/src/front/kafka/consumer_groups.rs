//! Consumer groups of Kafka's newer sort (KIP-848): ConsumerGroupHeartbeat, ConsumerGroupDescribe.
//!
//! Partitions are named by their topics' ids; those that are none of this cluster's are left out.

use super::{
    super::{Front, conn::Conn},
    answered, codes, decoded,
    group_admin::{self, state},
    groups::{host, may_read, optional, outcome, owned, text},
    metadata::{topic_id, topic_number, uuid},
};
use crate::{
    coordinator::consumer::{Beat, Beaten, Described, DescribedMember, Parts, Slot, by_topic},
    kafka::wire::{Request, TopicId, WireError, metadata::OPERATIONS_UNKNOWN, versions},
    security::acl::{Operation, ResourceType},
};
use bytes::Bytes;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, GroupId,
    TopicName,
    consumer_group_describe_response::{Assignment as Told, DescribedGroup, Member, TopicPartitions as ToldPartitions},
    consumer_group_heartbeat_request::TopicPartitions as Owned,
    consumer_group_heartbeat_response::{Assignment, TopicPartitions},
};
use millpond_runtime::Rt;
use std::{collections::BTreeSet, rc::Rc};

/// Whose members are described: those of this sort.
const MEMBER_TYPE: i8 = 1;

/// A partition in an assignment, in bytes: as a message and as its bytes.
const SLOT_BYTES: usize = 24;

/// What an answer takes, in bytes: an assignment may be all that the largest group has.
pub(super) fn weigh<R: Rt>(front: &Front<R>, request: &Request) -> usize {
    if request.api.key == versions::CONSUMER_GROUP_HEARTBEAT.key {
        return front.core.largest_group_here().min(front.core.catalog.borrow().partitions()) * SLOT_BYTES;
    }
    group_admin::weigh_groups(front, decoded::<ConsumerGroupDescribeRequest>(request).map_or(0, |asked| asked.group_ids.len()))
}

/// A member lives, joins or leaves.
pub(super) async fn heartbeat<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: ConsumerGroupHeartbeatRequest = decoded(request)?;
    let member = asked.member_id.clone();
    let names = asked.subscribed_topic_names.iter().flatten().map(|name| name.as_str());
    let may_not = if may_read(front, conn, &asked.group_id) {
        (!front.denied(conn, Operation::Describe, names).is_empty()).then_some(codes::TOPIC_AUTHORIZATION_FAILED)
    } else {
        Some(codes::GROUP_AUTHORIZATION_FAILED)
    };
    if let Some(code) = may_not {
        return answered(request, &ConsumerGroupHeartbeatResponse::default().with_error_code(code).with_member_id(Some(member)));
    }
    let beat = Beat {
        group: asked.group_id.to_string(),
        member: asked.member_id.to_string(),
        instance: owned(asked.instance_id.as_ref()),
        epoch: asked.member_epoch,
        rack: owned(asked.rack_id.as_ref()),
        rebalance_timeout_ms: u32::try_from(asked.rebalance_timeout_ms).ok(),
        names: asked.subscribed_topic_names.map(|names| names.iter().map(|name| name.to_string()).collect()),
        regex: owned(asked.subscribed_topic_regex.as_ref()),
        assignor: owned(asked.server_assignor.as_ref()),
        owned: asked.topic_partitions.map(|topics| slots(front, &topics)),
        client_id: conn.client().to_string(),
        host: host(conn),
    };
    let answer = front.core.beat_consumer(beat).await;
    let refused = answer.as_ref().ok().and_then(|answer| answer.as_ref().err()).map(ToString::to_string);
    let response = ConsumerGroupHeartbeatResponse::default();
    let response = match outcome(answer) {
        Err(code) => response.with_error_code(code).with_error_message(optional(refused.as_ref())).with_member_id(Some(member)),
        Ok(Beaten { member, epoch, heartbeat_ms, assigned }) => response
            .with_member_id(Some(text(&member)))
            .with_member_epoch(epoch)
            .with_heartbeat_interval_ms(i32::try_from(heartbeat_ms).unwrap_or(i32::MAX))
            .with_assignment(assigned.map(|assigned| assignment(front, &assigned))),
    };
    answered(request, &response)
}

fn slots<R: Rt>(front: &Front<R>, topics: &[Owned]) -> BTreeSet<Slot> {
    let known = topics.iter().filter_map(|topic| Some((topic_number(front, TopicId(topic.topic_id.into_bytes()))?, &topic.partitions)));
    let slots = known.flat_map(|(topic_id, partitions)| {
        partitions.iter().filter_map(move |partition| Some(Slot { topic_id, partition: u32::try_from(*partition).ok()? }))
    });
    slots.collect()
}

fn assignment<R: Rt>(front: &Front<R>, assigned: &BTreeSet<Slot>) -> Assignment {
    let topic = |(number, some): (u64, Vec<u32>)| {
        TopicPartitions::default().with_topic_id(uuid(topic_id(front, number))).with_partitions(partitions(some))
    };
    Assignment::default().with_topic_partitions(by_topic(assigned).into_iter().map(topic).collect())
}

fn partitions(ours: Vec<u32>) -> Vec<i32> {
    ours.into_iter().map(|partition| partition as i32).collect()
}

/// Groups with their members, epochs, and what these own and are meant to own.
pub(super) async fn describe<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: ConsumerGroupDescribeRequest = decoded(request)?;
    let mut groups = Vec::with_capacity(asked.group_ids.len());
    for GroupId(name) in asked.group_ids {
        let group = DescribedGroup::default().with_group_id(GroupId(name.clone())).with_authorized_operations(OPERATIONS_UNKNOWN);
        if !front.may(conn, Operation::Describe, ResourceType::Group, &name) {
            groups.push(group.with_error_code(codes::GROUP_AUTHORIZATION_FAILED));
            continue;
        }
        groups.push(match front.core.described_consumer(name.to_string()).await {
            Err(failure) => group.with_error_code(codes::of_coordinator(&failure)).with_error_message(Some(codes::text(&failure))),
            Ok(None) => group.with_error_code(codes::GROUP_ID_NOT_FOUND).with_error_message(Some(text("it has no members of this sort"))),
            // Whose members read what the client may not see is not told of.
            Ok(Some(Described { members, .. })) if !sees(front, conn, &members) => group.with_error_code(codes::TOPIC_AUTHORIZATION_FAILED),
            Ok(Some(Described { state: is, epoch, assignor, members })) => group
                .with_group_state(text(state(is)))
                .with_group_epoch(epoch)
                .with_assignment_epoch(epoch)
                .with_assignor_name(text(assignor))
                .with_members(members.into_iter().map(|m| member(front, request.header.version, m)).collect()),
        });
    }
    answered(request, &ConsumerGroupDescribeResponse::default().with_groups(groups))
}

fn sees<R: Rt>(front: &Front<R>, conn: &Conn<R>, members: &[DescribedMember]) -> bool {
    let parts = members.iter().flat_map(|m| m.assigned.iter().chain(&m.target).map(|part| part.topic.as_str()));
    let names = members.iter().flat_map(|m| m.names.iter().map(|name| &**name));
    front.denied(conn, Operation::Describe, parts.chain(names)).is_empty()
}

fn member<R: Rt>(front: &Front<R>, version: i16, m: DescribedMember) -> Member {
    let told = |parts: Vec<Parts>| {
        let topic = |part: Parts| {
            let topic = ToldPartitions::default().with_topic_id(uuid(topic_id(front, part.topic_id)));
            topic.with_partitions(partitions(part.partitions)).with_topic_name(TopicName(text(&part.topic)))
        };
        Told::default().with_topic_partitions(parts.into_iter().map(topic).collect())
    };
    let member = Member::default()
        .with_member_id(text(&m.member))
        .with_instance_id(optional(m.instance.as_ref()))
        .with_rack_id(optional(m.rack.as_ref()))
        .with_member_epoch(m.epoch)
        .with_client_id(text(&m.client_id))
        .with_client_host(text(&m.host))
        .with_subscribed_topic_names(m.names.iter().map(|name| TopicName(text(name))).collect())
        .with_subscribed_topic_regex(optional(m.regex.as_ref()))
        .with_assignment(told(m.assigned))
        .with_target_assignment(told(m.target));
    if version >= 1 { member.with_member_type(MEMBER_TYPE) } else { member }
}
