//! Classic consumer groups: FindCoordinator, JoinGroup, SyncGroup, Heartbeat, LeaveGroup.
//!
//! A group is looked after by the node that leads its partition of `__consumer_offsets`; any other says that it does not, and the client asks anew who does.

use super::{
    super::{Front, conn::Conn},
    answered, codes, decoded,
    metadata::{broker_id, brokers},
};
use crate::{
    catalog::OFFSETS,
    coordinator::{
        classic::{Join, Leaver, Protocol, Refused, Speaker, Sync},
        partition_of,
    },
    kafka::wire::{Request, StrBytes, WireError, metadata::Broker},
    node::budget::Working,
    security::acl::{Operation, ResourceType},
};
use bytes::Bytes;
use kafka_protocol::messages::{
    BrokerId, FindCoordinatorRequest, FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse, find_coordinator_response::Coordinator,
    join_group_response::JoinGroupResponseMember, leave_group_response::MemberResponse,
};
use millpond_runtime::Rt;
use millpond_wire::messages::Failure;
use std::rc::Rc;

/// What a key of FindCoordinator names.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// From this version on a member is told its id first, and joins by that (KIP-394).
const NAMED_FIRST_SINCE: i16 = 4;
/// From this version on a leader can be told that it need not share out (KIP-814).
const MAY_SKIP_SINCE: i16 = 9;

pub(super) fn text(string: &str) -> StrBytes {
    StrBytes::from_string(string.to_owned())
}

pub(super) fn optional(string: Option<&String>) -> Option<StrBytes> {
    string.map(|string| text(string))
}

pub(super) fn owned(string: Option<&StrBytes>) -> Option<String> {
    string.map(ToString::to_string)
}

/// Whether a client may be a member of a group, or keep its positions.
pub(super) fn may_read<R: Rt>(front: &Front<R>, conn: &Conn<R>, group: &str) -> bool {
    front.may(conn, Operation::Read, ResourceType::Group, group)
}

/// What came of a request, with its error.
pub(super) fn outcome<T>(answered: Result<Result<T, Refused>, Failure>) -> Result<T, i16> {
    match answered {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(refused)) => Err(codes::of_refused(&refused)),
        Err(failure) => Err(codes::of_coordinator(&failure)),
    }
}

/// Who looks after groups, and after transactions: the same nodes, by the names of either.
pub(super) fn find<R: Rt>(front: &Front<R>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: FindCoordinatorRequest = decoded(request)?;
    let find = |key: &StrBytes| {
        let found = match asked.key_type {
            GROUP if !front.may(conn, Operation::Describe, ResourceType::Group, key) => Err(codes::GROUP_AUTHORIZATION_FAILED),
            TRANSACTION if !front.may(conn, Operation::Describe, ResourceType::TransactionalId, key) => {
                Err(codes::TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
            }
            GROUP | TRANSACTION => coordinator_of(front, key),
            _ => Err(codes::INVALID_REQUEST),
        };
        let none = Coordinator::default().with_key(key.clone()).with_node_id(BrokerId(-1)).with_port(-1);
        match found {
            Ok(Broker { node_id, host, port, .. }) => none.with_node_id(BrokerId(node_id)).with_host(host).with_port(port),
            Err(code) => none.with_error_code(code),
        }
    };
    if request.header.version >= 4 {
        let coordinators = asked.coordinator_keys.iter().map(find).collect();
        return answered(request, &FindCoordinatorResponse::default().with_coordinators(coordinators));
    }
    let Coordinator { node_id, host, port, error_code, .. } = find(&asked.key);
    let response = FindCoordinatorResponse::default().with_error_code(error_code);
    answered(request, &response.with_node_id(node_id).with_host(host).with_port(port))
}

fn coordinator_of<R: Rt>(front: &Front<R>, group: &str) -> Result<Broker, i16> {
    let node = {
        let catalog = front.core.catalog.borrow();
        let topic = catalog.topic(OFFSETS).ok_or(codes::COORDINATOR_NOT_AVAILABLE)?;
        let partition = topic.partitions.get(partition_of(group, topic.partitions.len() as u32) as usize);
        front.core.answers_for(partition.ok_or(codes::COORDINATOR_NOT_AVAILABLE)?).0
    };
    brokers(front).into_iter().find(|broker| broker.node_id == broker_id(node)).ok_or(codes::COORDINATOR_NOT_AVAILABLE)
}

/// A member joins the next generation of its group.
pub(super) async fn join<R: Rt>(
    front: &Rc<Front<R>>,
    conn: &Conn<R>,
    request: &Request,
    working: &mut Working,
) -> Result<Vec<Bytes>, WireError> {
    let version = request.header.version;
    let asked: JoinGroupRequest = decoded(request)?;
    let session_timeout_ms = u32::try_from(asked.session_timeout_ms).unwrap_or(0);
    let rebalance_timeout_ms = u32::try_from(asked.rebalance_timeout_ms).unwrap_or(session_timeout_ms);
    let join = Join {
        group: asked.group_id.to_string(),
        member: asked.member_id.to_string(),
        instance: owned(asked.group_instance_id.as_ref()),
        protocol_type: asked.protocol_type.to_string(),
        protocols: asked
            .protocols
            .iter()
            .map(|p| Protocol { name: p.name.to_string(), metadata: Bytes::copy_from_slice(&p.metadata) })
            .collect(),
        session_timeout_ms,
        rebalance_timeout_ms,
        client_id: conn.client().to_string(),
        host: host(conn),
        named_first: version >= NAMED_FIRST_SINCE,
        may_skip: version >= MAY_SKIP_SINCE,
    };
    let (answer, member) = if !may_read(front, conn, &asked.group_id) {
        (Err(codes::GROUP_AUTHORIZATION_FAILED), asked.member_id)
    } else if front.core.requests.may_wait(working) {
        match front.core.join_group(join).await {
            // Whoever has no name yet is told it together with the refusal.
            Ok(Err(Refused::NameGiven { member })) => (Err(codes::MEMBER_ID_REQUIRED), text(&member)),
            other => (outcome(other), asked.member_id),
        }
    } else {
        (Err(codes::COORDINATOR_NOT_AVAILABLE), asked.member_id)
    };
    let named_since_7 = |name: &str| (version >= 7).then(|| text(name));
    let response = match answer {
        Err(code) => JoinGroupResponse::default()
            .with_error_code(code)
            .with_generation_id(-1)
            .with_protocol_name((version < 7).then(StrBytes::default))
            .with_member_id(member),
        Ok(joined) => {
            let member = |m: &crate::coordinator::classic::JoinedMember| {
                let instance = optional(m.instance.as_ref()).filter(|_| version >= 5);
                JoinGroupResponseMember::default()
                    .with_member_id(text(&m.member))
                    .with_group_instance_id(instance)
                    .with_metadata(m.metadata.clone())
            };
            JoinGroupResponse::default()
                .with_generation_id(joined.generation)
                .with_protocol_type(named_since_7(&joined.protocol_type))
                .with_protocol_name(Some(text(&joined.protocol)))
                .with_leader(text(&joined.leader))
                .with_member_id(text(&joined.member))
                .with_skip_assignment(joined.skip_assignment)
                .with_members(joined.members.iter().map(member).collect())
        }
    };
    answered(request, &response)
}

/// A member asks for its part; the leader shares out.
pub(super) async fn sync<R: Rt>(
    front: &Rc<Front<R>>,
    conn: &Conn<R>,
    request: &Request,
    working: &mut Working,
) -> Result<Vec<Bytes>, WireError> {
    let version = request.header.version;
    let asked: SyncGroupRequest = decoded(request)?;
    let sync = Sync {
        speaker: speaker(&asked.group_id, &asked.member_id, asked.group_instance_id.as_ref(), asked.generation_id),
        protocol_type: owned(asked.protocol_type.as_ref()),
        protocol: owned(asked.protocol_name.as_ref()),
        assignments: asked.assignments.iter().map(|a| (a.member_id.to_string(), Bytes::copy_from_slice(&a.assignment))).collect(),
    };
    let answer = if !may_read(front, conn, &asked.group_id) {
        Err(codes::GROUP_AUTHORIZATION_FAILED)
    } else if front.core.requests.may_wait(working) {
        outcome(front.core.sync_group(sync).await)
    } else {
        Err(codes::COORDINATOR_NOT_AVAILABLE)
    };
    let response = match answer {
        Err(code) => SyncGroupResponse::default().with_error_code(code),
        Ok(synced) => {
            let named = |name: &str| (version >= 5).then(|| text(name));
            let response = SyncGroupResponse::default().with_assignment(synced.assignment);
            response.with_protocol_type(named(&synced.protocol_type)).with_protocol_name(named(&synced.protocol))
        }
    };
    answered(request, &response)
}

/// A member lives.
pub(super) async fn heartbeat<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: HeartbeatRequest = decoded(request)?;
    let speaker = speaker(&asked.group_id, &asked.member_id, asked.group_instance_id.as_ref(), asked.generation_id);
    let code = if may_read(front, conn, &asked.group_id) {
        outcome(front.core.beat_group(speaker).await).err().unwrap_or(codes::NONE)
    } else {
        codes::GROUP_AUTHORIZATION_FAILED
    };
    answered(request, &HeartbeatResponse::default().with_error_code(code))
}

/// Members leave: the one that says so, or from version 3 on any that are named.
pub(super) async fn leave<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let version = request.header.version;
    let asked: LeaveGroupRequest = decoded(request)?;
    let who: Vec<Leaver> = if version >= 3 {
        let leaver = |m: &kafka_protocol::messages::leave_group_request::MemberIdentity| Leaver {
            member: m.member_id.to_string(),
            instance: owned(m.group_instance_id.as_ref()),
        };
        asked.members.iter().map(leaver).collect()
    } else {
        vec![Leaver { member: asked.member_id.to_string(), instance: None }]
    };
    let response = LeaveGroupResponse::default();
    if !may_read(front, conn, &asked.group_id) {
        return answered(request, &response.with_error_code(codes::GROUP_AUTHORIZATION_FAILED));
    }
    let response = match outcome(front.core.leave_group(asked.group_id.to_string(), who.clone()).await) {
        Err(code) => response.with_error_code(code),
        Ok(left) => {
            let code = |left: &Result<(), Refused>| left.as_ref().err().map_or(codes::NONE, codes::of_refused);
            if version >= 3 {
                let member = |(who, left): (&Leaver, &Result<(), Refused>)| {
                    let response = MemberResponse::default().with_member_id(text(&who.member)).with_error_code(code(left));
                    response.with_group_instance_id(optional(who.instance.as_ref()))
                };
                response.with_members(who.iter().zip(&left).map(member).collect())
            } else {
                response.with_error_code(left.first().map_or(codes::NONE, code))
            }
        }
    };
    answered(request, &response)
}

/// Who speaks, after joining.
pub(super) fn speaker(group: &str, member: &str, instance: Option<&StrBytes>, generation: i32) -> Speaker {
    Speaker { group: group.to_owned(), member: member.to_owned(), instance: owned(instance), generation }
}

/// Where a client connects from, as Kafka's tools show it.
pub(super) fn host<R: Rt>(conn: &Conn<R>) -> String {
    format!("/{}", conn.peer.ip())
}
