//! What operators ask of groups: DescribeGroups, ListGroups, DeleteGroups.
//!
//! Groups of our own clients, and those of Kafka's newer sort, are told in the same way: as if their members had been given what they read by a leader.

use super::{
    super::{
        Front,
        conn::Conn,
        requests::{GROUP_BYTES, POSITION_BYTES},
    },
    answered, codes, decoded,
    groups::{optional, text},
    room::Room,
};
use crate::{
    coordinator::classic::{Described, DescribedMember},
    kafka::wire::{Request, StrBytes, WireError, consumer, metadata::OPERATIONS_UNKNOWN, versions},
    security::acl::{Operation, ResourceType},
};
use bytes::Bytes;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId, ListGroupsRequest,
    ListGroupsResponse,
    delete_groups_response::DeletableGroupResult,
    describe_groups_response::{DescribedGroup, DescribedGroupMember},
    list_groups_response::ListedGroup,
};
use millpond_runtime::Rt;
use millpond_wire::messages::{Code, DeleteGroup, DescribeGroupReply, Failure, GroupListing, MemberInfo};
use std::rc::Rc;

/// What Kafka calls groups that consume.
const CONSUMER: &str = "consumer";

/// As Kafka's tools call what a group does.
pub(super) fn state(ours: &str) -> &'static str {
    match ours {
        "stable" => "Stable",
        "reconciling" => "Reconciling",
        "preparing-rebalance" => "PreparingRebalance",
        "completing-rebalance" => "CompletingRebalance",
        _ => "Empty",
    }
}

/// What an answer takes, in bytes: each group that is asked for may be the largest, and a list has all of them.
pub(super) fn weigh<R: Rt>(front: &Front<R>, request: &Request) -> usize {
    let core = &front.core;
    if request.api.key == versions::LIST_GROUPS.key {
        return core.groups_here() * core.cores() * GROUP_BYTES;
    }
    let asked = decoded::<DescribeGroupsRequest>(request).map_or(0, |asked| asked.groups.len());
    weigh_groups(front, asked)
}

/// What so many groups take with their members.
pub(super) fn weigh_groups<R: Rt>(front: &Front<R>, groups: usize) -> usize {
    groups * (GROUP_BYTES + front.core.largest_group_here() * POSITION_BYTES)
}

/// Groups with their members.
pub(super) async fn describe<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let version = request.header.version;
    let asked: DescribeGroupsRequest = decoded(request)?;
    let mut groups = Vec::with_capacity(asked.groups.len());
    let mut room = Room::of(front);
    for GroupId(name) in asked.groups {
        front.core.rt.yield_if_needed().await;
        let group = DescribedGroup::default().with_group_id(GroupId(name.clone())).with_authorized_operations(OPERATIONS_UNKNOWN);
        let group = if version >= 3 { group } else { group.with_authorized_operations(DescribedGroup::default().authorized_operations) };
        if !front.may(conn, Operation::Describe, ResourceType::Group, &name) {
            groups.push(group.with_error_code(codes::GROUP_AUTHORIZATION_FAILED));
            continue;
        }
        groups.push(match find(front, &name).await {
            Err(failure) if failure.code() == Code::UnknownGroup => {
                let dead = group.with_group_state(text("Dead"));
                if version >= 6 { dead.with_error_code(codes::of(&failure)).with_error_message(Some(codes::text(&failure))) } else { dead }
            }
            Err(failure) => group.with_error_code(codes::of_coordinator(&failure)),
            // Whoever asks for the same one many times, or for too many large ones, asks again for fewer.
            Ok(found) if !room.take(found.members.iter().map(bytes).sum()) => group.with_error_code(codes::INVALID_REQUEST),
            Ok(found) => group
                .with_group_state(text(state(found.state)))
                .with_protocol_type(text(&found.protocol_type))
                .with_protocol_data(text(&found.protocol))
                .with_members(found.members.into_iter().map(|m| member(version, m)).collect()),
        });
    }
    answered(request, &DescribeGroupsResponse::default().with_groups(groups))
}

async fn find<R: Rt>(front: &Rc<Front<R>>, name: &str) -> Result<Described, Failure> {
    let DescribeGroupReply { state, members, .. } = match front.core.described_group(name.to_owned()).await? {
        Ok(classic) => return Ok(classic),
        Err(other) => other,
    };
    let state = if state == "empty" {
        "empty"
    } else if state == "stable" {
        "stable"
    } else {
        "reconciling"
    };
    let member = |m: MemberInfo| DescribedMember {
        member: m.member_id,
        instance: None,
        client_id: m.client_id,
        host: format!("/{}", m.host.trim_start_matches('/')),
        metadata: Bytes::new(),
        assignment: consumer::assignment(&m.owned),
    };
    let members = members.into_iter().map(member).collect();
    Ok(Described { state, generation: 0, protocol_type: CONSUMER.into(), protocol: String::new(), members })
}

/// About what a member takes in an answer: as a message and as its bytes.
fn bytes(m: &DescribedMember) -> usize {
    GROUP_BYTES + 2 * (m.metadata.len() + m.assignment.len())
}

fn member(version: i16, m: DescribedMember) -> DescribedGroupMember {
    DescribedGroupMember::default()
        .with_member_id(text(&m.member))
        .with_group_instance_id(optional(m.instance.as_ref()).filter(|_| version >= 4))
        .with_client_id(text(&m.client_id))
        .with_client_host(text(&m.host))
        .with_member_metadata(m.metadata)
        .with_member_assignment(m.assignment)
}

/// The groups that this node looks after; a client asks all nodes.
pub(super) async fn list<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let version = request.header.version;
    let asked: ListGroupsRequest = decoded(request)?;
    let mut all = match front.core.list_groups(false).await {
        Ok(reply) => reply.groups,
        Err(failure) => return answered(request, &ListGroupsResponse::default().with_error_code(codes::of_coordinator(&failure))),
    };
    if !front.may_cluster(conn, Operation::Describe) {
        front.withhold(conn, (Operation::Describe, ResourceType::Group), &mut all, |group| &group.group);
    }
    let is_in = |filter: &[StrBytes], what: &str| filter.is_empty() || filter.iter().any(|one| one.eq_ignore_ascii_case(what));
    let sort = |group: &GroupListing| if group.classic.is_empty() && group.state != "empty" { "Consumer" } else { "Classic" };
    let wanted = all.iter().filter(|group| is_in(&asked.states_filter, state(&group.state)) && is_in(&asked.types_filter, sort(group)));
    let listed = wanted.map(|group| {
        let kind = if group.classic.is_empty() { CONSUMER } else { &group.classic };
        let listed = ListedGroup::default().with_group_id(GroupId(text(&group.group))).with_protocol_type(text(kind));
        let listed = if version >= 4 { listed.with_group_state(text(state(&group.state))) } else { listed };
        if version >= 5 { listed.with_group_type(text(sort(group))) } else { listed }
    });
    answered(request, &ListGroupsResponse::default().with_groups(listed.collect()))
}

/// Deletes groups without members, with their positions.
pub(super) async fn delete<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: DeleteGroupsRequest = decoded(request)?;
    let mut results = Vec::with_capacity(asked.groups_names.len());
    for GroupId(name) in asked.groups_names {
        if !front.may(conn, Operation::Delete, ResourceType::Group, &name) {
            let refused = DeletableGroupResult::default().with_group_id(GroupId(name));
            results.push(refused.with_error_code(codes::GROUP_AUTHORIZATION_FAILED));
            continue;
        }
        let deleted = front.core.delete_group(DeleteGroup { group: name.to_string() }).await;
        let code = deleted.err().map_or(codes::NONE, |failure| codes::of_coordinator(&failure));
        results.push(DeletableGroupResult::default().with_group_id(GroupId(name)).with_error_code(code));
    }
    answered(request, &DeleteGroupsResponse::default().with_results(results))
}
