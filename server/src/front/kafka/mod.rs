//! Kafka's protocol at the front: frames to appends and deferred requests, deferred requests to answers.
//!
//! All it does it does on the same partitions, with the same calls and within the same bounds as the native protocol: a record that one has written the other
//! reads. A node is a broker, whichever of its cores a client is connected to; what another core owns costs a hop.
//!
//! Answers come in the order of the requests. A batch that is not to be acknowledged has no answer; if it fails, the connection ends. So it does after bytes that
//! are no request, and after a version of an API that is not advertised, but for ApiVersions, whose answer says which ones are (KIP-511).
//!
//! In reading order: [`codes`] errors · [`named`] topics of requests, [`leaders`] whom to ask instead · [`produce`] · [`fetch`], over [`sessions`] · [`metadata`] · [`groups`], [`consumer_groups`], [`positions`] and
//! [`group_admin`] consumer groups · [`transactions`] ·
//! [`offsets`], [`epochs`], [`topics`], [`settings`], [`replicas`], [`quotas`], [`users`], [`acls`] and [`telemetry`] what is asked less often · [`room`] how much one request may ask for.

mod acls;
pub(super) mod codes;
mod consumer_groups;
mod epochs;
mod fetch;
mod group_admin;
mod groups;
mod leaders;
mod metadata;
mod named;
mod offsets;
mod positions;
pub(super) mod produce;
mod quotas;
mod replicas;
mod room;
mod sasl;
pub(super) mod sessions;
mod settings;
mod telemetry;
mod topics;
mod transactions;
mod users;

use super::{
    Front,
    conn::{Answer, Asked, Conn, LONG_BYTES},
    dispatch::CLIENT_ID_BYTES_MAX,
    intake::Intake,
};
use crate::{
    kafka::wire::{
        Answer as _, Api, Request, WireError,
        api_versions::{ApiVersionsRequest, ApiVersionsResponse},
        frame, guard, versions,
    },
    node::budget::{Held, Working},
};
use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable};
use millpond_runtime::{Nanos, Rt};
use millpond_wire::messages::Kind;
use std::rc::Rc;

/// What is advertised, and answered.
const APIS: &[Api] = &[
    versions::PRODUCE,
    versions::FETCH,
    versions::LIST_OFFSETS,
    versions::METADATA,
    versions::OFFSET_COMMIT,
    versions::OFFSET_FETCH,
    versions::FIND_COORDINATOR,
    versions::JOIN_GROUP,
    versions::HEARTBEAT,
    versions::LEAVE_GROUP,
    versions::SYNC_GROUP,
    versions::DESCRIBE_GROUPS,
    versions::LIST_GROUPS,
    versions::SASL_HANDSHAKE,
    versions::API_VERSIONS,
    versions::CREATE_TOPICS,
    versions::DELETE_TOPICS,
    versions::DELETE_RECORDS,
    versions::INIT_PRODUCER_ID,
    versions::OFFSET_FOR_LEADER_EPOCH,
    versions::ADD_PARTITIONS_TO_TXN,
    versions::ADD_OFFSETS_TO_TXN,
    versions::END_TXN,
    versions::WRITE_TXN_MARKERS,
    versions::TXN_OFFSET_COMMIT,
    versions::DESCRIBE_ACLS,
    versions::CREATE_ACLS,
    versions::DELETE_ACLS,
    versions::DESCRIBE_CONFIGS,
    versions::ALTER_CONFIGS,
    versions::DESCRIBE_LOG_DIRS,
    versions::SASL_AUTHENTICATE,
    versions::CREATE_PARTITIONS,
    versions::DELETE_GROUPS,
    versions::ELECT_LEADERS,
    versions::INCREMENTAL_ALTER_CONFIGS,
    versions::ALTER_PARTITION_REASSIGNMENTS,
    versions::LIST_PARTITION_REASSIGNMENTS,
    versions::OFFSET_DELETE,
    versions::DESCRIBE_CLIENT_QUOTAS,
    versions::ALTER_CLIENT_QUOTAS,
    versions::DESCRIBE_USER_SCRAM_CREDENTIALS,
    versions::ALTER_USER_SCRAM_CREDENTIALS,
    versions::DESCRIBE_CLUSTER,
    versions::DESCRIBE_PRODUCERS,
    versions::DESCRIBE_TRANSACTIONS,
    versions::LIST_TRANSACTIONS,
    versions::CONSUMER_GROUP_HEARTBEAT,
    versions::CONSUMER_GROUP_DESCRIBE,
    versions::GET_TELEMETRY_SUBSCRIPTIONS,
    versions::LIST_CONFIG_RESOURCES,
    versions::DESCRIBE_TOPIC_PARTITIONS,
];
/// The shortest request, in bytes, its length not counted: a header without a client's name.
pub(super) const REQUEST_BYTES_MIN: u32 = 8;

/// Why a connection is closed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Closed {
    /// It does not speak the protocol.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A request whose body is not sound.
    #[error("{name} in version {version}: {error}")]
    Request {
        /// The API.
        name: &'static str,
        /// Its version.
        version: i16,
        /// What is wrong with it.
        error: WireError,
    },
    /// It wants something before it has said who it is.
    #[error("{0} was asked for by somebody who has not shown who it is")]
    Stranger(&'static str),
    /// An API that is known and not answered here.
    #[error("{0} was asked for, which is not advertised")]
    Unadvertised(&'static str),
    /// A batch for which there is no answer to tell it in.
    #[error("a batch that was not to be acknowledged is refused: {0}")]
    Unacknowledged(String),
}

/// An answer.
pub(super) struct Reply {
    /// The frame.
    pub(super) pieces: Vec<Bytes>,
    /// The memory of the records in it, and their bytes.
    pub(super) memory: Option<Held>,
    pub(super) record_bytes: usize,
    /// There was nothing to read and no memory to wait with.
    pub(super) hurried: bool,
}

impl Reply {
    fn small(pieces: Vec<Bytes>) -> Self {
        Self { pieces, memory: None, record_bytes: 0, hurried: false }
    }
}

/// Whether an API has this number.
pub(super) fn is_known(key: u8) -> bool {
    versions::api(i16::from(key)).is_ok()
}

/// Which of our own requests one is like, for those who count.
pub(super) fn kind(request: &Request) -> Kind {
    match request.api.key {
        key if key == versions::PRODUCE.key => Kind::Produce,
        key if key == versions::FETCH.key => Kind::Fetch,
        key if key == versions::LIST_OFFSETS.key || key == versions::OFFSET_FOR_LEADER_EPOCH.key => Kind::ListOffsets,
        key if key == versions::METADATA.key || key == versions::FIND_COORDINATOR.key => Kind::Metadata,
        key if key == versions::OFFSET_COMMIT.key || key == versions::OFFSET_DELETE.key => Kind::CommitOffsets,
        key if key == versions::TXN_OFFSET_COMMIT.key => Kind::CommitOffsets,
        key if key == versions::ADD_PARTITIONS_TO_TXN.key || key == versions::ADD_OFFSETS_TO_TXN.key => Kind::JoinTransaction,
        key if key == versions::END_TXN.key || key == versions::WRITE_TXN_MARKERS.key => Kind::EndTransaction,
        key if key == versions::OFFSET_FETCH.key => Kind::FetchOffsets,
        key if key == versions::HEARTBEAT.key || key == versions::LEAVE_GROUP.key => Kind::GroupHeartbeat,
        key if key == versions::CONSUMER_GROUP_HEARTBEAT.key => Kind::GroupHeartbeat,
        key if key == versions::DESCRIBE_GROUPS.key || key == versions::CONSUMER_GROUP_DESCRIBE.key => Kind::DescribeGroup,
        key if key == versions::LIST_GROUPS.key => Kind::ListGroups,
        key if key == versions::DELETE_GROUPS.key => Kind::DeleteGroup,
        key if key == versions::API_VERSIONS.key || key == versions::GET_TELEMETRY_SUBSCRIPTIONS.key => Kind::Hello,
        key if key == versions::SASL_HANDSHAKE.key || key == versions::SASL_AUTHENTICATE.key => Kind::Login,
        key if key == versions::CREATE_TOPICS.key => Kind::CreateTopic,
        key if key == versions::DELETE_TOPICS.key => Kind::DeleteTopic,
        key if key == versions::INIT_PRODUCER_ID.key => Kind::InitProducer,
        key if key == versions::DESCRIBE_CONFIGS.key || key == versions::LIST_CONFIG_RESOURCES.key => Kind::Metadata,
        key if key == versions::DESCRIBE_TOPIC_PARTITIONS.key || key == versions::DESCRIBE_LOG_DIRS.key => Kind::Metadata,
        key if key == versions::LIST_PARTITION_REASSIGNMENTS.key => Kind::DescribeCluster,
        key if key == versions::ALTER_PARTITION_REASSIGNMENTS.key => Kind::AlterTopic,
        key if key == versions::DESCRIBE_CLIENT_QUOTAS.key => Kind::ListQuotas,
        key if key == versions::ALTER_CLIENT_QUOTAS.key => Kind::AlterQuota,
        key if key == versions::DESCRIBE_USER_SCRAM_CREDENTIALS.key => Kind::ListUsers,
        key if key == versions::ALTER_USER_SCRAM_CREDENTIALS.key => Kind::AlterUser,
        key if key == versions::CREATE_ACLS.key || key == versions::DELETE_ACLS.key => Kind::AlterAcls,
        key if key == versions::INCREMENTAL_ALTER_CONFIGS.key || key == versions::ALTER_CONFIGS.key => Kind::AlterTopic,
        key if key == versions::CREATE_PARTITIONS.key => Kind::AlterTopic,
        key if key == versions::DELETE_RECORDS.key => Kind::DeleteRecords,
        key if key == versions::DESCRIBE_CLUSTER.key => Kind::DescribeCluster,
        _ => Kind::Unknown,
    }
}

/// Whether a request may wait for long, and nothing is lost if it is given up meanwhile.
pub(super) fn waits(request: &Request) -> bool {
    [versions::FETCH.key, versions::JOIN_GROUP.key, versions::SYNC_GROUP.key].contains(&request.api.key)
}

/// The body of a request.
fn decoded<T: Decodable>(request: &Request) -> Result<T, WireError> {
    guard::decode_guarded(request.api.key, request.header.version, &mut request.body.clone())
}

/// The frame of its answer.
fn answered(request: &Request, body: &impl Encodable) -> Result<Vec<Bytes>, WireError> {
    guard::answer(request.api, request.header.version, request.header.correlation_id, body)
}

/// Takes the frame at the front of the buffer, if it is whole. Whether it was.
pub(super) async fn take<R: Rt>(front: &Rc<Front<R>>, conn: &Rc<Conn<R>>, intake: &mut Intake, now: Nanos) -> Result<bool, Closed> {
    let Some(frame) = frame::take(&mut intake.buf, front.frame_bytes_max_of(conn))? else { return Ok(false) };
    let request = Request::read(frame)?;
    conn.greeted.set(true);
    name(conn, request.header.client_id.as_deref().unwrap_or_default());
    if !APIS.iter().any(|api| api.key == request.api.key) {
        return Err(Closed::Unadvertised(request.api.name));
    }
    let (version, correlation_id) = (request.header.version, request.header.correlation_id);
    if request.api.key == versions::API_VERSIONS.key {
        let answer = if request.api.check(version).is_err() {
            ApiVersionsResponse::unsupported(correlation_id)
        } else {
            let asked = ApiVersionsRequest::read(request.body, version)?;
            let (name, of) = (&*asked.client_software_name, &*asked.client_software_version);
            tracing::debug!(peer = %conn.peer, client = &*conn.client(), software = name, version = of, "a client of Kafka's protocol");
            transactions::with_features(ApiVersionsResponse::new(APIS), name, of).frame(version, correlation_id)
        };
        ready(conn, Kind::Hello, now, &answer);
        return Ok(true);
    }
    request.api.check(version)?;
    if front.is_stranger(conn) && !sasl::is_login(&request) {
        return Err(Closed::Stranger(request.api.name));
    }
    if request.api.key == versions::PRODUCE.key {
        return produce::take(front, conn, request, now).await.map(|()| true);
    }
    let named = |error| Closed::Request { name: request.api.name, version, error };
    room::check(front, &request).map_err(named)?;
    let held = if request.body.len() > LONG_BYTES {
        conn.wait_room(now, Conn::defers_nothing).await;
        Some(front.long.take(request.body.len()).await)
    } else {
        None
    };
    // Copied, so that it does not keep the buffer that it came in.
    let header = crate::kafka::wire::RequestHeader { client_id: None, ..request.header };
    let request = Request { body: Bytes::copy_from_slice(&request.body), header, ..request };
    conn.push(Answer::Deferred { asked: Asked::Kafka(Box::new(request)), began: now, held });
    Ok(true)
}

/// Queues an answer that is made.
fn ready<R: Rt>(conn: &Conn<R>, kind: Kind, began: Nanos, pieces: &[Bytes]) {
    let mut frame = BytesMut::new();
    pieces.iter().for_each(|piece| frame.extend_from_slice(piece));
    conn.push(Answer::Ready { kind, began, frame: frame.freeze() });
}

/// Every request says what the client calls itself; for quotas and metrics.
fn name<R: Rt>(conn: &Conn<R>, name: &str) {
    let end = name.floor_char_boundary(CLIENT_ID_BYTES_MAX);
    if *conn.client() != name[..end] {
        *conn.client_id.borrow_mut() = Rc::from(&name[..end]);
    }
}

/// About how much memory a request takes until its answer is made, in bytes.
pub(super) fn weigh<R: Rt>(front: &Front<R>, conn: &Conn<R>, request: &Request) -> usize {
    let more = match request.api.key {
        key if key == versions::FETCH.key => fetch::weigh(conn, request),
        key if key == versions::METADATA.key => metadata::weigh(front, request),
        key if key == versions::OFFSET_FETCH.key => positions::weigh(front, request),
        key if key == versions::DESCRIBE_GROUPS.key || key == versions::LIST_GROUPS.key => group_admin::weigh(front, request),
        key if key == versions::CONSUMER_GROUP_HEARTBEAT.key || key == versions::CONSUMER_GROUP_DESCRIBE.key => {
            consumer_groups::weigh(front, request)
        }
        key if key == versions::DESCRIBE_CONFIGS.key => settings::weigh(request),
        key if key == versions::CREATE_TOPICS.key => topics::weigh(request),
        key if key == versions::DESCRIBE_CLIENT_QUOTAS.key => quotas::weigh(front),
        key if key == versions::DESCRIBE_USER_SCRAM_CREDENTIALS.key => users::weigh(front),
        key if key == versions::DESCRIBE_ACLS.key || key == versions::DELETE_ACLS.key => acls::weigh(front),
        key if key == versions::DESCRIBE_PRODUCERS.key || key == versions::LIST_TRANSACTIONS.key => transactions::weigh(front, request),
        key if [
            versions::DESCRIBE_LOG_DIRS.key,
            versions::ELECT_LEADERS.key,
            versions::LIST_CONFIG_RESOURCES.key,
            versions::LIST_PARTITION_REASSIGNMENTS.key,
            versions::DESCRIBE_TOPIC_PARTITIONS.key,
        ]
        .contains(&key) =>
        {
            replicas::weigh(front)
        }
        _ => 0,
    };
    room::weigh(request) + more
}

/// Carries out a request. Nothing, if the connection is to end instead.
pub(super) async fn carry_out<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: Request, working: &mut Working) -> Option<Reply> {
    if front.core.cluster.learning.get() {
        // Another node may know what the cluster knows: the client goes there.
        tracing::debug!(peer = %conn.peer, "a connection is closed: this node does not know yet what its cluster knows");
        return None;
    }
    let name = request.api.name;
    let reply = if request.api.key == versions::FETCH.key {
        fetch::carry_out(front, conn, request, working).await
    } else {
        carry_out_small(front, conn, &request, working).await.map(Reply::small)
    };
    match reply {
        Ok(reply) => Some(reply),
        Err(error) => {
            tracing::info!(peer = %conn.peer, client = &*conn.client(), request = name, %error, "a connection is closed: a request cannot be read");
            None
        }
    }
}

/// Carries out a request whose answer brings no records: its frame.
async fn carry_out_small<R: Rt>(
    front: &Rc<Front<R>>,
    conn: &Conn<R>,
    request: &Request,
    working: &mut Working,
) -> Result<Vec<Bytes>, WireError> {
    match request.api.key {
        key if key == versions::METADATA.key => metadata::carry_out(front, conn, request).await,
        key if key == versions::SASL_HANDSHAKE.key => sasl::handshake(conn, request),
        key if key == versions::SASL_AUTHENTICATE.key => sasl::authenticate(front, conn, request).await,
        key if key == versions::LIST_OFFSETS.key => offsets::list(front, conn, request).await,
        key if key == versions::OFFSET_FOR_LEADER_EPOCH.key => epochs::ends(front, conn, request).await,
        key if key == versions::FIND_COORDINATOR.key => groups::find(front, conn, request),
        key if key == versions::JOIN_GROUP.key => groups::join(front, conn, request, working).await,
        key if key == versions::SYNC_GROUP.key => groups::sync(front, conn, request, working).await,
        key if key == versions::HEARTBEAT.key => groups::heartbeat(front, conn, request).await,
        key if key == versions::LEAVE_GROUP.key => groups::leave(front, conn, request).await,
        key if key == versions::CONSUMER_GROUP_HEARTBEAT.key => consumer_groups::heartbeat(front, conn, request).await,
        key if key == versions::CONSUMER_GROUP_DESCRIBE.key => consumer_groups::describe(front, conn, request).await,
        key if key == versions::OFFSET_COMMIT.key => positions::commit(front, conn, request).await,
        key if key == versions::OFFSET_FETCH.key => positions::fetch(front, conn, request).await,
        key if key == versions::OFFSET_DELETE.key => positions::delete(front, conn, request).await,
        key if key == versions::DESCRIBE_GROUPS.key => group_admin::describe(front, conn, request).await,
        key if key == versions::LIST_GROUPS.key => group_admin::list(front, conn, request).await,
        key if key == versions::DELETE_GROUPS.key => group_admin::delete(front, conn, request).await,
        key if key == versions::INIT_PRODUCER_ID.key => transactions::init(front, conn, request).await,
        key if key == versions::ADD_PARTITIONS_TO_TXN.key => transactions::add_partitions(front, conn, request).await,
        key if key == versions::ADD_OFFSETS_TO_TXN.key => transactions::add_offsets(front, conn, request).await,
        key if key == versions::END_TXN.key => transactions::end(front, conn, request).await,
        key if key == versions::WRITE_TXN_MARKERS.key => transactions::write_markers(front, conn, request).await,
        key if key == versions::TXN_OFFSET_COMMIT.key => transactions::commit_offsets(front, conn, request).await,
        key if key == versions::DESCRIBE_PRODUCERS.key => transactions::describe_producers(front, conn, request).await,
        key if key == versions::DESCRIBE_TRANSACTIONS.key => transactions::describe(front, conn, request).await,
        key if key == versions::LIST_TRANSACTIONS.key => transactions::list(front, conn, request).await,
        key if key == versions::CREATE_TOPICS.key => topics::create(front, conn, request).await,
        key if key == versions::DESCRIBE_CONFIGS.key => settings::describe(front, conn, request).await,
        key if key == versions::INCREMENTAL_ALTER_CONFIGS.key => settings::alter(front, conn, request).await,
        key if key == versions::ALTER_CONFIGS.key => settings::alter_all(front, conn, request).await,
        key if key == versions::CREATE_PARTITIONS.key => settings::create_partitions(front, conn, request).await,
        key if key == versions::DELETE_RECORDS.key => settings::delete_records(front, conn, request).await,
        key if key == versions::DESCRIBE_CLUSTER.key => settings::cluster(front, request),
        key if key == versions::DELETE_TOPICS.key => topics::delete(front, conn, request).await,
        key if key == versions::GET_TELEMETRY_SUBSCRIPTIONS.key => telemetry::subscriptions(front, request),
        key if key == versions::LIST_CONFIG_RESOURCES.key => settings::list(front, conn, request).await,
        key if key == versions::DESCRIBE_TOPIC_PARTITIONS.key => replicas::describe(front, conn, request).await,
        key if key == versions::ALTER_PARTITION_REASSIGNMENTS.key => replicas::reassign(front, conn, request).await,
        key if key == versions::LIST_PARTITION_REASSIGNMENTS.key => replicas::reassignments(front, conn, request).await,
        key if key == versions::ELECT_LEADERS.key => replicas::elect(front, conn, request).await,
        key if key == versions::DESCRIBE_LOG_DIRS.key => replicas::log_dirs(front, conn, request).await,
        key if key == versions::DESCRIBE_CLIENT_QUOTAS.key => quotas::describe(front, conn, request).await,
        key if key == versions::ALTER_CLIENT_QUOTAS.key => quotas::alter(front, conn, request).await,
        key if key == versions::DESCRIBE_USER_SCRAM_CREDENTIALS.key => users::describe(front, conn, request).await,
        key if key == versions::ALTER_USER_SCRAM_CREDENTIALS.key => users::alter(front, conn, request).await,
        key if key == versions::DESCRIBE_ACLS.key => acls::describe(front, conn, request).await,
        key if key == versions::CREATE_ACLS.key => acls::create(front, conn, request).await,
        key if key == versions::DELETE_ACLS.key => acls::delete(front, conn, request).await,
        key => Err(WireError::Api { key }),
    }
}
