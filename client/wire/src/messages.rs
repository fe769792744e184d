//! Every message of the native protocol. Requests and replies are prost messages; record batches travel beside
//! them in the frame's payload (see [`crate::frame`]), named by lengths in the message, and are not copied into it.
//!
//! Fields are only ever added, with new tags; a field that is absent means its default, as proto3 has it.

use prost::Message;

/// What a request asks. The number goes into the frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Kind {
    /// Not a request: refused.
    Unknown = 0,
    /// First frame of a connection: [`Hello`] → [`Welcome`].
    Hello = 1,
    /// [`Metadata`] → [`MetadataReply`].
    Metadata = 2,
    /// [`CreateTopic`] → [`TopicReply`].
    CreateTopic = 3,
    /// [`AlterTopic`] → [`TopicReply`].
    AlterTopic = 4,
    /// [`DeleteTopic`] → [`Done`].
    DeleteTopic = 5,
    /// [`Produce`] → [`ProduceReply`].
    Produce = 6,
    /// [`Fetch`] → [`FetchReply`].
    Fetch = 7,
    /// [`ListOffsets`] → [`ListOffsetsReply`].
    ListOffsets = 8,
    /// [`DeleteRecords`] → [`DeleteRecordsReply`].
    DeleteRecords = 9,
    /// [`InitProducer`] → [`InitProducerReply`].
    InitProducer = 10,
    /// [`GroupHeartbeat`] → [`GroupHeartbeatReply`]. Joins, stays in and leaves a consumer group.
    GroupHeartbeat = 11,
    /// [`CommitOffsets`] → [`CommitOffsetsReply`].
    CommitOffsets = 12,
    /// [`FetchOffsets`] → [`FetchOffsetsReply`].
    FetchOffsets = 13,
    /// [`ListGroups`] → [`ListGroupsReply`].
    ListGroups = 14,
    /// [`DescribeGroup`] → [`DescribeGroupReply`].
    DescribeGroup = 15,
    /// [`DeleteGroup`] → [`Done`].
    DeleteGroup = 16,
    /// [`AlterQuota`] → [`Done`].
    AlterQuota = 17,
    /// [`ListQuotas`] → [`ListQuotasReply`].
    ListQuotas = 18,
    /// [`Ping`] → [`Done`].
    Ping = 19,
    /// [`JoinCluster`] → [`JoinReply`]. From a node to the cluster that it is, or is to be, a part of.
    Join = 20,
    /// [`DescribeCluster`] → [`DescribeClusterReply`].
    DescribeCluster = 21,
    /// [`Moved`] → [`Done`]. From the leader of a group, or a node whose replica is broken, to the leader of the meta group.
    Moved = 22,
    /// [`AlterNode`] → [`Done`].
    AlterNode = 23,
    /// [`NodeReport`] → [`NodeReportReply`]. Answered by the node that it is sent to.
    NodeReport = 24,
    /// [`Leads`] → [`Done`]. From a node to others: of which groups it is the leader.
    Leads = 25,
    /// [`Rebalance`] → [`RebalanceReply`].
    Rebalance = 26,
    /// [`Starts`] → [`Starts`]. From the leader of groups to a node with replicas of them: where their logs begin, and where they begin there.
    Starts = 27,
    /// [`JoinTransaction`] → [`JoinTransactionReply`]. From the leader of a partition, or the coordinator of a group, to that of a transaction.
    JoinTransaction = 28,
    /// [`EndTransaction`] → [`EndTransactionReply`]. From the coordinator of a transaction to leaders of partitions and coordinators of groups.
    EndTransaction = 29,
    /// [`AlterUser`] → [`Done`].
    AlterUser = 30,
    /// [`ListUsers`] → [`ListUsersReply`].
    ListUsers = 31,
    /// [`AlterAcls`] → [`Done`].
    AlterAcls = 32,
    /// [`DisownTransaction`] → [`DisownTransactionReply`]. From the leader of a partition to all coordinators of transactions.
    DisownTransaction = 33,
    /// [`Leads`] → [`Leads`]. From a node to others: who leads these groups, as far as that is known there.
    WhoLeads = 34,
    /// [`Login`] → [`LoginReply`], twice: who the client is, before it asks for anything else.
    Login = 35,
}

impl Kind {
    /// Whether clients ask for it; else only nodes, and those who look after them.
    #[must_use]
    pub fn is_for_clients(self) -> bool {
        let later = matches!(self, Self::AlterUser | Self::ListUsers | Self::AlterAcls | Self::Login);
        later || !matches!(self, Self::Unknown | Self::Hello | Self::Ping) && (self as i32) < Self::Join as i32
    }

    /// Whether only nodes ask for it, each other.
    #[must_use]
    pub fn is_for_nodes(self) -> bool {
        matches!(
            self,
            Self::Join
                | Self::Moved
                | Self::Leads
                | Self::Starts
                | Self::JoinTransaction
                | Self::EndTransaction
                | Self::DisownTransaction
                | Self::WhoLeads
        )
    }
}

/// What went wrong, for programs. People read [`Failure::message`] and [`Failure::advice`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Code {
    /// Nothing went wrong.
    Ok = 0,
    /// Our own fault; logged at the server.
    Internal = 1,
    /// The request makes no sense as it is; repeating it will not help.
    BadRequest = 2,
    /// A batch is damaged or breaks the format.
    BadBatch = 3,
    /// A batch or frame is over the limit.
    TooLarge = 4,
    /// No such topic or partition.
    UnknownTopic = 5,
    /// A topic of the name exists.
    TopicExists = 6,
    /// This core does not own the partition; the reply names who does. Fetch metadata and retry.
    NotOwner = 7,
    /// The offset is below the start or above the end of the log.
    OffsetOutOfRange = 8,
    /// A producer's sequence has a gap.
    OutOfOrderSequence = 9,
    /// A newer epoch of this producer exists.
    ProducerFenced = 10,
    /// This producer id is not known here (expired or never given).
    UnknownProducer = 11,
    /// The group does not know this member, or knows it by another epoch: join again.
    UnknownMember = 12,
    /// The member's epoch is stale or ahead: join again.
    FencedMember = 13,
    /// No such consumer group.
    UnknownGroup = 14,
    /// The group still has members.
    GroupNotEmpty = 15,
    /// The server has no room now; nothing took effect. Retry after `retry_after_ms`.
    Overloaded = 16,
    /// The disk is full; nothing took effect.
    DiskFull = 17,
    /// The server is starting or stopping; nothing took effect.
    Unavailable = 18,
    /// The server stopped while the request was under way; whether it took effect is not known.
    MaybeDone = 19,
    /// Stored bytes are damaged; the message names file and byte.
    Corrupt = 20,
    /// The client speaks a version that this server does not.
    UnsupportedVersion = 21,
    /// The name or setting is not allowed.
    InvalidArgument = 22,
    /// What the request goes by is not so any more; nothing took effect. Look again, and ask anew.
    Outdated = 23,
    /// The epoch of the leader by which the client asks is over: fetch metadata and ask again.
    LeaderFenced = 24,
    /// The epoch of the leader by which the client asks is not known here yet: ask again.
    LeaderUnknown = 25,
    /// Whoever asks may not do that.
    Forbidden = 26,
    /// Whoever asks has not shown who it is, or is not taken for it.
    Unauthenticated = 27,
}

/// Why a request, or a part of it, failed.
#[derive(Clone, PartialEq, Message)]
pub struct Failure {
    /// For programs.
    #[prost(enumeration = "Code", tag = "1")]
    pub code: i32,
    /// What happened, for people.
    #[prost(string, tag = "2")]
    pub message: String,
    /// What to do about it.
    #[prost(string, tag = "3")]
    pub advice: String,
    /// Retry no sooner than this many milliseconds; 0 where retrying is pointless or free.
    #[prost(uint32, tag = "4")]
    pub retry_after_ms: u32,
    /// With [`Code::NotOwner`]: the node that answers for it, 0 if that is not known.
    #[prost(uint64, tag = "5")]
    pub node_id: u64,
    /// With [`Code::NotOwner`]: the host to connect to for it, empty if that is not known.
    #[prost(string, tag = "6")]
    pub host: String,
    /// And the port of the core that owns it there.
    #[prost(uint32, tag = "7")]
    pub port: u32,
}

impl Failure {
    /// What happened, and what to do about it.
    pub fn new(code: Code, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            code: code as i32,
            message: message.into(),
            advice: advice.into(),
            retry_after_ms: 0,
            node_id: 0,
            host: String::new(),
            port: 0,
        }
    }

    /// The same, worth a retry no sooner than in `ms` milliseconds.
    #[must_use]
    pub fn retry_after(mut self, ms: u32) -> Self {
        self.retry_after_ms = ms;
        self
    }
}

/// A reply without content.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Done {}

/// First request of a connection.
#[derive(Clone, PartialEq, Message)]
pub struct Hello {
    /// Lowest protocol version that the client speaks.
    #[prost(uint32, tag = "1")]
    pub version_min: u32,
    /// Highest.
    #[prost(uint32, tag = "2")]
    pub version_max: u32,
    /// Names the application, for quotas, metrics and logs.
    #[prost(string, tag = "3")]
    pub client_id: String,
    /// The client software and its version.
    #[prost(string, tag = "4")]
    pub software: String,
    /// The node of the cluster that speaks, 0 for a client: what it asks for is not passed on to others.
    #[prost(uint64, tag = "5")]
    pub from_node: u64,
}

/// Answer to [`Hello`].
#[derive(Clone, PartialEq, Message)]
pub struct Welcome {
    /// The version both will speak.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The server software and its version.
    #[prost(string, tag = "2")]
    pub software: String,
    /// The cluster, as text.
    #[prost(string, tag = "3")]
    pub cluster_id: String,
    /// The node that answers.
    #[prost(uint64, tag = "4")]
    pub node_id: u64,
    /// The core that this connection ended up on.
    #[prost(uint32, tag = "5")]
    pub core: u32,
    /// The largest frame it accepts, in bytes.
    #[prost(uint32, tag = "6")]
    pub frame_bytes_max: u32,
}

/// One message of a client that shows who it is, by SCRAM (RFC 5802).
#[derive(Clone, PartialEq, Message)]
pub struct Login {
    /// With the first message: `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    #[prost(string, tag = "1")]
    pub mechanism: String,
    /// The message, as SCRAM has it.
    #[prost(bytes = "bytes", tag = "2")]
    pub message: bytes::Bytes,
}

/// Answer to [`Login`].
#[derive(Clone, PartialEq, Message)]
pub struct LoginReply {
    /// The server's message.
    #[prost(bytes = "bytes", tag = "1")]
    pub message: bytes::Bytes,
}

/// Asks where topics live.
#[derive(Clone, PartialEq, Message)]
pub struct Metadata {
    /// The topics asked for; none means all that are not internal.
    #[prost(string, repeated, tag = "1")]
    pub topics: Vec<String>,
    /// Internal topics too.
    #[prost(bool, tag = "2")]
    pub internal: bool,
    /// Where the client stands, for [`PartitionInfo::near`]; empty for nowhere in particular.
    #[prost(string, tag = "3")]
    pub rack: String,
}

/// Where a core listens.
#[derive(Clone, PartialEq, Message)]
pub struct Endpoint {
    /// Node.
    #[prost(uint64, tag = "1")]
    pub node_id: u64,
    /// Core.
    #[prost(uint32, tag = "2")]
    pub core: u32,
    /// Host name or address to connect to.
    #[prost(string, tag = "3")]
    pub host: String,
    /// The core's own port.
    #[prost(uint32, tag = "4")]
    pub port: u32,
}

/// One partition, as metadata has it.
#[derive(Clone, PartialEq, Message)]
pub struct PartitionInfo {
    /// Number within the topic, from 0.
    #[prost(uint32, tag = "1")]
    pub partition: u32,
    /// The Raft group behind it.
    #[prost(uint64, tag = "2")]
    pub group: u64,
    /// Who owns (leads) it: an index into [`MetadataReply::endpoints`].
    #[prost(uint32, tag = "3")]
    pub endpoint: u32,
    /// First offset still there.
    #[prost(uint64, tag = "4")]
    pub start_offset: u64,
    /// Offset after the last committed record. Filled by describe, not by plain metadata, when asked of its owner.
    #[prost(uint64, tag = "5")]
    pub end_offset: u64,
    /// Bytes on disk.
    #[prost(uint64, tag = "6")]
    pub bytes: u64,
    /// Its replicas; none for one that is alone.
    #[prost(message, repeated, tag = "7")]
    pub replicas: Vec<ReplicaInfo>,
    /// A replica in the rack of the client, where its leader is not: an index into [`MetadataReply::endpoints`].
    #[prost(uint32, optional, tag = "8")]
    pub near: Option<u32>,
}

/// A setting and its value as text.
#[derive(Clone, PartialEq, Message)]
pub struct Setting {
    /// Kafka's name for it, such as `retention.ms`.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The value; empty in a request means back to the default.
    #[prost(string, tag = "2")]
    pub value: String,
    /// Whether it is the default. Ignored in requests.
    #[prost(bool, tag = "3")]
    pub is_default: bool,
}

/// One topic, as metadata has it.
#[derive(Clone, PartialEq, Message)]
pub struct TopicInfo {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Changes whenever a topic of this name is created anew.
    #[prost(uint64, tag = "2")]
    pub topic_id: u64,
    /// Partitions by number.
    #[prost(message, repeated, tag = "3")]
    pub partitions: Vec<PartitionInfo>,
    /// All settings in force.
    #[prost(message, repeated, tag = "4")]
    pub settings: Vec<Setting>,
    /// Kept by the system itself.
    #[prost(bool, tag = "5")]
    pub internal: bool,
    /// Set where a topic that was asked for by name could not be described; then only `name` is filled too.
    #[prost(message, optional, tag = "6")]
    pub failure: Option<Failure>,
}

/// Answer to [`Metadata`].
#[derive(Clone, PartialEq, Message)]
pub struct MetadataReply {
    /// Every core of every node.
    #[prost(message, repeated, tag = "1")]
    pub endpoints: Vec<Endpoint>,
    /// The topics asked for.
    #[prost(message, repeated, tag = "2")]
    pub topics: Vec<TopicInfo>,
    /// Grows with every change of placement.
    #[prost(uint64, tag = "3")]
    pub epoch: u64,
    /// The cluster, as text.
    #[prost(string, tag = "4")]
    pub cluster_id: String,
}

/// Creates a topic.
#[derive(Clone, PartialEq, Message)]
pub struct CreateTopic {
    /// 1 to 249 of `a-zA-Z0-9._-`, not `.` or `..`, as Kafka has it.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Partitions; 0 means the server's default.
    #[prost(uint32, tag = "2")]
    pub partitions: u32,
    /// Settings that differ from the defaults.
    #[prost(message, repeated, tag = "3")]
    pub settings: Vec<Setting>,
    /// An existing topic is fine and returned as it is.
    #[prost(bool, tag = "4")]
    pub if_not_exists: bool,
    /// Only checks.
    #[prost(bool, tag = "5")]
    pub dry_run: bool,
    /// Replicas of each partition; 0 means the server's default: three, or as many as there are nodes.
    #[prost(uint32, tag = "6")]
    pub replication: u32,
    /// The [`MetadataReply::epoch`] by which the client asks: refused as [`Code::Outdated`] if a topic was deleted since, so that a request that is late on
    /// its way does not bring back what was deleted meanwhile. 0 does not care.
    #[prost(uint64, tag = "7")]
    pub as_of: u64,
    /// A number that nobody else takes: whoever repeats a request, not knowing what came of it, is given the topic that it has made. 0 is none.
    #[prost(uint64, tag = "8")]
    pub attempt: u64,
}

/// Changes a topic.
#[derive(Clone, PartialEq, Message)]
pub struct AlterTopic {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Settings to change.
    #[prost(message, repeated, tag = "2")]
    pub settings: Vec<Setting>,
    /// Grows the topic to this many partitions; 0 leaves it.
    #[prost(uint32, tag = "3")]
    pub partitions: u32,
    /// Replicas of each partition; 0 leaves them.
    #[prost(uint32, tag = "4")]
    pub replication: u32,
    /// Partitions whose replicas are to be on certain nodes.
    #[prost(message, repeated, tag = "5")]
    pub placements: Vec<Placement>,
}

/// Where the replicas of a partition are to be.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Placement {
    /// The partition.
    #[prost(uint32, tag = "1")]
    pub partition: u32,
    /// Nodes, each once; the first one should lead. Without any, replicas stay where they are now, whatever was wanted before.
    #[prost(uint64, repeated, tag = "2")]
    pub nodes: Vec<u64>,
}

/// Answer to [`CreateTopic`] and [`AlterTopic`].
#[derive(Clone, PartialEq, Message)]
pub struct TopicReply {
    /// The topic as it is now.
    #[prost(message, optional, tag = "1")]
    pub topic: Option<TopicInfo>,
    /// False if it was there before (`if_not_exists`).
    #[prost(bool, tag = "2")]
    pub changed: bool,
}

/// Deletes a topic and its records.
#[derive(Clone, PartialEq, Message)]
pub struct DeleteTopic {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// A missing topic is fine.
    #[prost(bool, tag = "2")]
    pub if_exists: bool,
    /// The id of the topic that is meant, 0 for none that is known: refused as [`Code::Outdated`] if the name has another one, so that a request that is late on its
    /// way does not delete what was created meanwhile. Without it, whichever has the name.
    #[prost(uint64, optional, tag = "3")]
    pub topic_id: Option<u64>,
}

/// How many disks must have synced before the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Acks {
    /// Every in-sync replica has synced. The default.
    All = 0,
    /// The leader has the bytes in memory, nothing is synced: a crash of the node loses them.
    Leader = 1,
    /// No answer at all.
    None = 2,
}

/// Appends batches. Their bytes follow in the payload, in this order.
#[derive(Clone, PartialEq, Message)]
pub struct Produce {
    /// One per batch.
    #[prost(message, repeated, tag = "1")]
    pub batches: Vec<ProduceBatch>,
    /// When to answer.
    #[prost(enumeration = "Acks", tag = "2")]
    pub acks: i32,
}

/// Where one batch goes.
#[derive(Clone, PartialEq, Message)]
pub struct ProduceBatch {
    /// Topic.
    #[prost(string, tag = "1")]
    pub topic: String,
    /// Partition.
    #[prost(uint32, tag = "2")]
    pub partition: u32,
    /// Length of the batch in the payload, in bytes, its header included.
    #[prost(uint32, tag = "3")]
    pub len: u32,
}

/// Answer to [`Produce`], one result per batch in the same order.
#[derive(Clone, PartialEq, Message)]
pub struct ProduceReply {
    /// Results.
    #[prost(message, repeated, tag = "1")]
    pub results: Vec<ProduceResult>,
    /// The client's quota was exceeded: send nothing for this long.
    #[prost(uint32, tag = "2")]
    pub throttle_ms: u32,
}

/// What became of one batch.
#[derive(Clone, PartialEq, Message)]
pub struct ProduceResult {
    /// Offset of its first record.
    #[prost(uint64, tag = "1")]
    pub base_offset: u64,
    /// It had been appended before, by an earlier try with the same producer id and sequence.
    #[prost(bool, tag = "2")]
    pub duplicate: bool,
    /// The server's time where the topic stamps on append, else -1.
    #[prost(sint64, tag = "3")]
    pub append_time_ms: i64,
    /// Set if it failed.
    #[prost(message, optional, tag = "4")]
    pub failure: Option<Failure>,
}

/// Reads records, waiting for some if there are none.
#[derive(Clone, PartialEq, Message)]
pub struct Fetch {
    /// What to read.
    #[prost(message, repeated, tag = "1")]
    pub partitions: Vec<FetchPartition>,
    /// Answer once this many bytes are there (at least 1)...
    #[prost(uint32, tag = "2")]
    pub bytes_min: u32,
    /// ...with at most about this many in all; one whole batch is always returned.
    #[prost(uint32, tag = "3")]
    pub bytes_max: u32,
    /// ...or after this many milliseconds with what there is.
    #[prost(uint32, tag = "4")]
    pub wait_ms_max: u32,
    /// At most about this many records in all (whole batches); 0 for no such limit.
    #[prost(uint32, tag = "5")]
    pub records_max: u32,
    /// This read is of history, at full speed: it may be given less of the core than others.
    #[prost(bool, tag = "6")]
    pub replay: bool,
    /// Any replica may answer, with what it knows to be committed; else only leaders do.
    #[prost(bool, tag = "7")]
    pub any_replica: bool,
    /// Nothing is read behind the first transaction that is open, and it is said which ones were given up.
    #[prost(bool, tag = "8")]
    pub committed: bool,
}

/// Where to read from.
#[derive(Clone, PartialEq, Message)]
pub struct FetchPartition {
    /// Topic.
    #[prost(string, tag = "1")]
    pub topic: String,
    /// Partition.
    #[prost(uint32, tag = "2")]
    pub partition: u32,
    /// First offset wanted. Batches are whole, so the first one may begin before it.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    /// At most about this many bytes from this partition.
    #[prost(uint32, tag = "4")]
    pub bytes_max: u32,
    /// The epoch of the leader by which the client asks: refused if another one has begun. One that does not say it asks by any.
    #[prost(sint32, optional, tag = "5")]
    pub leader_epoch: Option<i32>,
    /// The epoch of the record before `offset`, as the client has it: if it is another one here, nothing is read.
    #[prost(sint32, optional, tag = "6")]
    pub last_epoch: Option<i32>,
}

/// Answer to [`Fetch`]. The batches follow in the payload, partition after partition in this order.
#[derive(Clone, PartialEq, Message)]
pub struct FetchReply {
    /// One per partition asked for, in the same order.
    #[prost(message, repeated, tag = "1")]
    pub partitions: Vec<FetchedPartition>,
    /// The client's quota was exceeded: send nothing for this long.
    #[prost(uint32, tag = "2")]
    pub throttle_ms: u32,
}

/// What one partition had.
#[derive(Clone, PartialEq, Message)]
pub struct FetchedPartition {
    /// Bytes of whole batches in the payload.
    #[prost(uint32, tag = "1")]
    pub len: u32,
    /// Offset to ask for next: after the last batch returned, or past a hole left by compaction.
    #[prost(uint64, tag = "2")]
    pub next_offset: u64,
    /// First offset still there.
    #[prost(uint64, tag = "3")]
    pub start_offset: u64,
    /// Offset after the last committed record.
    #[prost(uint64, tag = "4")]
    pub end_offset: u64,
    /// Set if it failed.
    #[prost(message, optional, tag = "5")]
    pub failure: Option<Failure>,
    /// Up to where no record is of a transaction that is open.
    #[prost(uint64, tag = "6")]
    pub stable_offset: u64,
    /// Transactions that were given up and have records in the batches, if committed records were asked for.
    #[prost(message, repeated, tag = "7")]
    pub aborted: Vec<AbortedTransaction>,
    /// Set if what the client has read last is not what is here: up to where it may be.
    #[prost(message, optional, tag = "8")]
    pub diverging: Option<EpochEnd>,
}

/// Where the epoch of a leader ends.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct EpochEnd {
    /// The epoch.
    #[prost(sint32, tag = "1")]
    pub epoch: i32,
    /// The offset after its last record.
    #[prost(uint64, tag = "2")]
    pub end_offset: u64,
}

/// A transaction that was given up: its records are those of the producer from the offset on, up to its marker.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct AbortedTransaction {
    /// Whose it was.
    #[prost(uint64, tag = "1")]
    pub producer_id: u64,
    /// Its first record.
    #[prost(uint64, tag = "2")]
    pub first_offset: u64,
}

/// Asks for offsets by time.
#[derive(Clone, PartialEq, Message)]
pub struct ListOffsets {
    /// What to look up.
    #[prost(message, repeated, tag = "1")]
    pub partitions: Vec<ListOffset>,
}

/// One look-up.
#[derive(Clone, PartialEq, Message)]
pub struct ListOffset {
    /// Topic.
    #[prost(string, tag = "1")]
    pub topic: String,
    /// Partition.
    #[prost(uint32, tag = "2")]
    pub partition: u32,
    /// Milliseconds since 1970: the first record at or after it. -1 is the end, -2 the start, -3 the record of the
    /// largest timestamp, as in Kafka (KIP-734).
    #[prost(sint64, tag = "3")]
    pub time_ms: i64,
    /// As for readers of committed records: the log ends before the first transaction that is open.
    #[prost(bool, tag = "4")]
    pub committed: bool,
    /// The epoch of the leader by which the client asks: refused if another one has begun. One that does not say it asks by any.
    #[prost(sint32, optional, tag = "5")]
    pub leader_epoch: Option<i32>,
}

/// Answer to [`ListOffsets`], in the same order.
#[derive(Clone, PartialEq, Message)]
pub struct ListOffsetsReply {
    /// One per look-up.
    #[prost(message, repeated, tag = "1")]
    pub results: Vec<ListedOffset>,
}

/// What one look-up found.
#[derive(Clone, PartialEq, Message)]
pub struct ListedOffset {
    /// The offset; the end where no record is that young.
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    /// The timestamp of the record there, -1 where there is none.
    #[prost(sint64, tag = "2")]
    pub time_ms: i64,
    /// Set if it failed.
    #[prost(message, optional, tag = "3")]
    pub failure: Option<Failure>,
    /// The epoch of the leader that has written the record there; at the end, of the one that leads.
    #[prost(sint32, optional, tag = "4")]
    pub leader_epoch: Option<i32>,
}

/// Deletes the oldest records of a partition.
#[derive(Clone, PartialEq, Message)]
pub struct DeleteRecords {
    /// Topic.
    #[prost(string, tag = "1")]
    pub topic: String,
    /// Partition.
    #[prost(uint32, tag = "2")]
    pub partition: u32,
    /// Records below this offset go; at most the end.
    #[prost(uint64, tag = "3")]
    pub before: u64,
}

/// Answer to [`DeleteRecords`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct DeleteRecordsReply {
    /// First offset still there.
    #[prost(uint64, tag = "1")]
    pub start_offset: u64,
}

/// Asks for a producer id, for idempotence. Sent to any core.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct InitProducer {}

/// Answer to [`InitProducer`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct InitProducerReply {
    /// Never given to anyone else.
    #[prost(uint64, tag = "1")]
    pub producer_id: u64,
    /// Its first epoch.
    #[prost(uint32, tag = "2")]
    pub epoch: u32,
}

/// A topic's partitions, by number.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct TopicPartitions {
    /// Topic.
    #[prost(string, tag = "1")]
    pub topic: String,
    /// Partitions.
    #[prost(uint32, repeated, tag = "2")]
    pub partitions: Vec<u32>,
}

/// A member's sign of life (after KIP-848): it tells what it owns, and learns what it should own.
#[derive(Clone, PartialEq, Message)]
pub struct GroupHeartbeat {
    /// Consumer group.
    #[prost(string, tag = "1")]
    pub group: String,
    /// Chosen by the member and kept for its life: a random id.
    #[prost(string, tag = "2")]
    pub member_id: String,
    /// 0 to join, the last epoch received to stay, -1 to leave.
    #[prost(sint64, tag = "3")]
    pub member_epoch: i64,
    /// Topics it wants. Sent with every heartbeat.
    #[prost(string, repeated, tag = "4")]
    pub topics: Vec<String>,
    /// Partitions that it owns now: what it may still be reading.
    #[prost(message, repeated, tag = "5")]
    pub owned: Vec<TopicPartitions>,
    /// It is taken for dead after this long without a heartbeat, in ms; 0 means 45,000.
    #[prost(uint32, tag = "6")]
    pub session_timeout_ms: u32,
    /// The application, for people.
    #[prost(string, tag = "7")]
    pub client_id: String,
}

/// Answer to [`GroupHeartbeat`].
#[derive(Clone, PartialEq, Message)]
pub struct GroupHeartbeatReply {
    /// To be sent with the next heartbeat and with commits.
    #[prost(sint64, tag = "1")]
    pub member_epoch: i64,
    /// What it should own. It gives up the rest, commits, and says so in its next heartbeat, at once.
    #[prost(message, repeated, tag = "2")]
    pub assigned: Vec<TopicPartitions>,
    /// Send the next heartbeat within this time, in ms.
    #[prost(uint32, tag = "3")]
    pub heartbeat_ms: u32,
}

/// A position to commit.
#[derive(Clone, PartialEq, Message)]
pub struct Position {
    /// Topic.
    #[prost(string, tag = "1")]
    pub topic: String,
    /// Partition.
    #[prost(uint32, tag = "2")]
    pub partition: u32,
    /// The next offset to read.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    /// Free text, at most 4,096 bytes.
    #[prost(string, tag = "4")]
    pub metadata: String,
    /// The epoch of the leader that has written the record before, if that is known.
    #[prost(sint32, optional, tag = "5")]
    pub leader_epoch: Option<i32>,
}

/// Commits positions of a group.
#[derive(Clone, PartialEq, Message)]
pub struct CommitOffsets {
    /// Consumer group.
    #[prost(string, tag = "1")]
    pub group: String,
    /// Empty for a commit from outside (seek, plain offset storage): allowed while the group has no members.
    #[prost(string, tag = "2")]
    pub member_id: String,
    /// The member's epoch; 0 with an empty id.
    #[prost(sint64, tag = "3")]
    pub member_epoch: i64,
    /// Positions.
    #[prost(message, repeated, tag = "4")]
    pub positions: Vec<Position>,
    /// Grows from one commit of a client to its next, and is the same when one is tried again: what was overtaken on its way is not kept. 0 for a client that
    /// does not count.
    #[prost(uint64, tag = "5")]
    pub sequence: u64,
    /// Who counts, for a commit from outside: a number that looks like chance. 0 for a client that does not count.
    #[prost(uint64, tag = "6")]
    pub committer: u64,
}

/// Answer to [`CommitOffsets`]: failures by position index, empty where all are kept (and synced).
#[derive(Clone, PartialEq, Message)]
pub struct CommitOffsetsReply {
    /// What failed.
    #[prost(message, repeated, tag = "1")]
    pub failures: Vec<CommitFailure>,
}

/// One position that was not kept.
#[derive(Clone, PartialEq, Message)]
pub struct CommitFailure {
    /// Index into the request's positions.
    #[prost(uint32, tag = "1")]
    pub position: u32,
    /// Why.
    #[prost(message, optional, tag = "2")]
    pub failure: Option<Failure>,
}

/// Asks for a group's positions.
#[derive(Clone, PartialEq, Message)]
pub struct FetchOffsets {
    /// Consumer group.
    #[prost(string, tag = "1")]
    pub group: String,
    /// Which; none means all.
    #[prost(message, repeated, tag = "2")]
    pub partitions: Vec<TopicPartitions>,
}

/// Answer to [`FetchOffsets`]: only partitions that have a position.
#[derive(Clone, PartialEq, Message)]
pub struct FetchOffsetsReply {
    /// Positions.
    #[prost(message, repeated, tag = "1")]
    pub positions: Vec<Position>,
}

/// Asks for all consumer groups.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ListGroups {}

/// Answer to [`ListGroups`].
#[derive(Clone, PartialEq, Message)]
pub struct ListGroupsReply {
    /// Groups by name.
    #[prost(message, repeated, tag = "1")]
    pub groups: Vec<GroupListing>,
}

/// One group, in short.
#[derive(Clone, PartialEq, Message)]
pub struct GroupListing {
    /// Name.
    #[prost(string, tag = "1")]
    pub group: String,
    /// `empty`, `stable` or `reconciling`; a classic group is `preparing-rebalance` and `completing-rebalance` instead of the last.
    #[prost(string, tag = "2")]
    pub state: String,
    /// Members.
    #[prost(uint32, tag = "3")]
    pub members: u32,
    /// For a classic group of Kafka's, whose members share out among themselves, what kind it is, such as `consumer`; else empty.
    #[prost(string, tag = "4")]
    pub classic: String,
    /// Of which sort its members are: `native`, Kafka's `classic` or Kafka's newer `consumer`; empty if there are none.
    #[prost(string, tag = "5")]
    pub sort: String,
}

/// Asks for one group.
#[derive(Clone, PartialEq, Message)]
pub struct DescribeGroup {
    /// Consumer group.
    #[prost(string, tag = "1")]
    pub group: String,
}

/// Answer to [`DescribeGroup`].
#[derive(Clone, PartialEq, Message)]
pub struct DescribeGroupReply {
    /// Name.
    #[prost(string, tag = "1")]
    pub group: String,
    /// `empty`, `stable` or `reconciling`; a classic group is `preparing-rebalance` and `completing-rebalance` instead of the last.
    #[prost(string, tag = "2")]
    pub state: String,
    /// Grows with every change of members or subscriptions.
    #[prost(sint64, tag = "3")]
    pub epoch: i64,
    /// Members.
    #[prost(message, repeated, tag = "4")]
    pub members: Vec<MemberInfo>,
    /// Positions with the end of each partition, so that lag can be told.
    #[prost(message, repeated, tag = "5")]
    pub positions: Vec<GroupPosition>,
    /// For a classic group of Kafka's, whose members share out among themselves, what kind it is, such as `consumer`; else empty.
    #[prost(string, tag = "6")]
    pub classic: String,
    /// Of which sort its members are: `native`, Kafka's `classic` or Kafka's newer `consumer`; empty if there are none.
    #[prost(string, tag = "7")]
    pub sort: String,
}

/// One member of a group.
#[derive(Clone, PartialEq, Message)]
pub struct MemberInfo {
    /// Its id.
    #[prost(string, tag = "1")]
    pub member_id: String,
    /// The application.
    #[prost(string, tag = "2")]
    pub client_id: String,
    /// Where it connects from.
    #[prost(string, tag = "3")]
    pub host: String,
    /// Its epoch.
    #[prost(sint64, tag = "4")]
    pub epoch: i64,
    /// What it owns.
    #[prost(message, repeated, tag = "5")]
    pub owned: Vec<TopicPartitions>,
    /// What it should own.
    #[prost(message, repeated, tag = "6")]
    pub assigned: Vec<TopicPartitions>,
}

/// A group's position in one partition.
#[derive(Clone, PartialEq, Message)]
pub struct GroupPosition {
    /// The position.
    #[prost(message, optional, tag = "1")]
    pub position: Option<Position>,
    /// First offset still there.
    #[prost(uint64, tag = "2")]
    pub start_offset: u64,
    /// Offset after the last committed record; lag is its distance from the position.
    #[prost(uint64, tag = "3")]
    pub end_offset: u64,
}

/// Deletes an empty group and its positions.
#[derive(Clone, PartialEq, Message)]
pub struct DeleteGroup {
    /// Consumer group.
    #[prost(string, tag = "1")]
    pub group: String,
}

/// Sets the quota of a client id. 0 takes a limit away.
#[derive(Clone, PartialEq, Message)]
pub struct AlterQuota {
    /// Client id; empty is the default for all that have none of their own.
    #[prost(string, tag = "1")]
    pub client_id: String,
    /// Bytes per second that it may produce, per core it talks to.
    #[prost(uint64, tag = "2")]
    pub produce_bytes_per_s: u64,
    /// Bytes per second that it may fetch, per core it talks to.
    #[prost(uint64, tag = "3")]
    pub fetch_bytes_per_s: u64,
    /// Whose quota it is, if it is a user's; empty for all users that have none of their own.
    #[prost(string, optional, tag = "4")]
    pub user: Option<String>,
    /// With a user: it is of all its clients together, and `client_id` says nothing.
    #[prost(bool, tag = "5")]
    pub all_clients: bool,
}

/// Asks for all quotas.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ListQuotas {}

/// Answer to [`ListQuotas`].
#[derive(Clone, PartialEq, Message)]
pub struct ListQuotasReply {
    /// Quotas by client id.
    #[prost(message, repeated, tag = "1")]
    pub quotas: Vec<AlterQuota>,
}

/// What is kept of a user's password. The password itself never travels.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct UserCredential {
    /// Kafka's number of the mechanism: 1 SCRAM-SHA-256, 2 SCRAM-SHA-512.
    #[prost(uint32, tag = "1")]
    pub mechanism: u32,
    /// Iterations of PBKDF2, from 4,096 to 16,384.
    #[prost(uint32, tag = "2")]
    pub iterations: u32,
    /// Its salt. Empty in answers.
    #[prost(bytes = "vec", tag = "3")]
    pub salt: Vec<u8>,
    /// SCRAM's StoredKey. Empty in answers.
    #[prost(bytes = "vec", tag = "4")]
    pub stored_key: Vec<u8>,
    /// SCRAM's ServerKey. Empty in answers.
    #[prost(bytes = "vec", tag = "5")]
    pub server_key: Vec<u8>,
}

/// Changes what is kept of a user's passwords; a user of whom nothing is kept is none. All of it is done, or nothing.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AlterUser {
    /// The user: 1 to 255 bytes.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Kept from now on, in the place of what was there of the same mechanism.
    #[prost(message, repeated, tag = "2")]
    pub keep: Vec<UserCredential>,
    /// Mechanisms of which nothing is kept any more; refused where nothing was.
    #[prost(uint32, repeated, tag = "3")]
    pub forget: Vec<u32>,
    /// They are not refused either way: the request may have been carried out before.
    #[prost(bool, tag = "4")]
    pub again: bool,
}

/// Asks for all users.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ListUsers {}

/// A user.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct UserInfo {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What is kept, without salts and keys.
    #[prost(message, repeated, tag = "2")]
    pub credentials: Vec<UserCredential>,
}

/// Answer to [`ListUsers`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ListUsersReply {
    /// Users by name.
    #[prost(message, repeated, tag = "1")]
    pub users: Vec<UserInfo>,
}

/// Lets a principal do something, or forbids it. Numbers are Kafka's.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AclEntry {
    /// What the resource is: 2 a topic, 3 a group, 4 the cluster, 5 a transactional id.
    #[prost(int32, tag = "1")]
    pub resource: i32,
    /// Its name, or how that begins.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Which of the two: 3 the name (`*` for any), 4 its beginning.
    #[prost(int32, tag = "3")]
    pub pattern: i32,
    /// `User:` and a name, or `*`.
    #[prost(string, tag = "4")]
    pub principal: String,
    /// An address, or `*`.
    #[prost(string, tag = "5")]
    pub host: String,
    /// What is done: 2 anything, 3 read, 4 write, and so on.
    #[prost(int32, tag = "6")]
    pub operation: i32,
    /// 2 forbids, 3 lets.
    #[prost(int32, tag = "7")]
    pub permission: i32,
}

/// Adds and takes away ACLs, all or none: what is there already is not added, and what is not there is not missed.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AlterAcls {
    /// From now on.
    #[prost(message, repeated, tag = "1")]
    pub add: Vec<AclEntry>,
    /// No more.
    #[prost(message, repeated, tag = "2")]
    pub remove: Vec<AclEntry>,
}

/// Asks for nothing: keeps a connection alive and measures the way.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Ping {}

/// A node, as others find it.
#[derive(Clone, PartialEq, Message)]
pub struct NodeInfo {
    /// Its id; 0 for one that has none yet.
    #[prost(uint64, tag = "1")]
    pub node_id: u64,
    /// Host name or address that clients are told to connect to.
    #[prost(string, tag = "2")]
    pub host: String,
    /// Address where other nodes find it.
    #[prost(string, tag = "3")]
    pub ip: String,
    /// The port of all cores together.
    #[prost(uint32, tag = "4")]
    pub port: u32,
    /// Each core's own port.
    #[prost(uint32, repeated, tag = "5")]
    pub ports: Vec<u32>,
    /// Where it stands; empty for nowhere in particular.
    #[prost(string, tag = "6")]
    pub rack: String,
    /// `in`, `drained` (it leads nothing until it has started again) or `leaving` (its replicas are to go elsewhere).
    #[prost(string, tag = "7")]
    pub state: String,
    /// Journal homes that it has.
    #[prost(uint32, tag = "8")]
    pub homes: u32,
    /// How far its disk has come: a count that goes up at each start, and while it runs.
    #[prost(uint64, tag = "9")]
    pub age: u64,
    /// The start that has brought it there, a number that looks like chance.
    #[prost(uint64, tag = "10")]
    pub start: u64,
}

/// One replica of a group.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ReplicaInfo {
    /// Raft's id, never used again.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Where it lives.
    #[prost(uint64, tag = "2")]
    pub node_id: u64,
}

/// A node wants to be a part of the cluster, or says where it is to be found now.
#[derive(Clone, PartialEq, Message)]
pub struct JoinCluster {
    /// The node.
    #[prost(message, optional, tag = "1")]
    pub node: Option<NodeInfo>,
    /// The cluster that it is a part of, as text; empty for one that is of none yet.
    #[prost(string, tag = "2")]
    pub cluster_id: String,
    /// The node whose place one that is of no cluster yet is to take; 0 for none.
    #[prost(uint64, tag = "3")]
    pub replaces: u64,
}

/// Answer to [`JoinCluster`].
#[derive(Clone, PartialEq, Message)]
pub struct JoinReply {
    /// The cluster.
    #[prost(uint64, tag = "1")]
    pub cluster_id: u64,
    /// The node's id.
    #[prost(uint64, tag = "2")]
    pub node_id: u64,
    /// Its replica of the meta group.
    #[prost(uint64, tag = "3")]
    pub meta_replica: u64,
    /// The replicas that the meta group began with.
    #[prost(message, repeated, tag = "4")]
    pub meta_first: Vec<ReplicaInfo>,
    /// All nodes.
    #[prost(message, repeated, tag = "5")]
    pub nodes: Vec<NodeInfo>,
    /// Journal homes of every node.
    #[prost(uint32, tag = "6")]
    pub homes: u32,
}

/// Asks how the cluster is.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct DescribeCluster {}

/// Answer to [`DescribeCluster`].
#[derive(Clone, PartialEq, Message)]
pub struct DescribeClusterReply {
    /// The cluster, as text.
    #[prost(string, tag = "1")]
    pub cluster_id: String,
    /// Who leads the meta group; 0 if nobody is known to.
    #[prost(uint64, tag = "2")]
    pub meta_leader: u64,
    /// All nodes.
    #[prost(message, repeated, tag = "3")]
    pub nodes: Vec<NodeHealth>,
    /// Partitions, and replicas of them that are wanted.
    #[prost(uint64, tag = "4")]
    pub partitions: u64,
    /// Partitions that nobody leads, as far as the nodes that answered know.
    #[prost(message, repeated, tag = "5")]
    pub leaderless: Vec<TopicPartitions>,
    /// Partitions of which a wanted replica is missing, silent or behind.
    #[prost(message, repeated, tag = "6")]
    pub under_replicated: Vec<TopicPartitions>,
}

/// A node in [`DescribeClusterReply`].
#[derive(Clone, PartialEq, Message)]
pub struct NodeHealth {
    /// The node.
    #[prost(message, optional, tag = "1")]
    pub node: Option<NodeInfo>,
    /// Whether it has answered.
    #[prost(bool, tag = "2")]
    pub up: bool,
    /// Replicas that it is to have.
    #[prost(uint64, tag = "3")]
    pub replicas: u64,
    /// Groups that it leads.
    #[prost(uint64, tag = "4")]
    pub leads: u64,
    /// Of those, how many others could lead.
    #[prost(uint64, tag = "5")]
    pub leads_with_others: u64,
}

/// Has replicas and leaders spread evenly over the nodes.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Rebalance {
    /// Only says what would move.
    #[prost(bool, tag = "1")]
    pub dry_run: bool,
}

/// Answer to [`Rebalance`]: what moves, while everything is in use.
#[derive(Clone, PartialEq, Message)]
pub struct RebalanceReply {
    /// Replicas that move.
    #[prost(message, repeated, tag = "1")]
    pub moves: Vec<ReplicaMove>,
    /// Partitions that another of their nodes is to lead.
    #[prost(uint64, tag = "2")]
    pub leaders: u64,
    /// What each node has before and after.
    #[prost(message, repeated, tag = "3")]
    pub loads: Vec<NodeLoad>,
}

/// One replica that moves.
#[derive(Clone, PartialEq, Message)]
pub struct ReplicaMove {
    /// Topic.
    #[prost(string, tag = "1")]
    pub topic: String,
    /// Partition.
    #[prost(uint32, tag = "2")]
    pub partition: u32,
    /// The node that has it.
    #[prost(uint64, tag = "3")]
    pub from: u64,
    /// The node that is to have it.
    #[prost(uint64, tag = "4")]
    pub to: u64,
}

/// What a node has, before and after a [`Rebalance`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct NodeLoad {
    /// The node.
    #[prost(uint64, tag = "1")]
    pub node_id: u64,
    /// Replicas before.
    #[prost(uint64, tag = "2")]
    pub replicas_before: u64,
    /// Replicas after.
    #[prost(uint64, tag = "3")]
    pub replicas_after: u64,
    /// Partitions that it should lead, before.
    #[prost(uint64, tag = "4")]
    pub leads_before: u64,
    /// And after.
    #[prost(uint64, tag = "5")]
    pub leads_after: u64,
}

/// Groups have other replicas now, or need others.
#[derive(Clone, PartialEq, Message)]
pub struct Moved {
    /// Groups that have other replicas now.
    #[prost(message, repeated, tag = "1")]
    pub groups: Vec<MovedGroup>,
    /// Replicas that take no part in their groups any more, since what they have is damaged: they are to be made anew.
    #[prost(message, repeated, tag = "2")]
    pub broken: Vec<MovedGroup>,
}

/// One of [`Moved`].
#[derive(Clone, PartialEq, Message)]
pub struct MovedGroup {
    /// The group.
    #[prost(uint64, tag = "1")]
    pub group: u64,
    /// Its replicas.
    #[prost(message, repeated, tag = "2")]
    pub replicas: Vec<ReplicaInfo>,
}

/// What becomes of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum NodeChange {
    /// Its replicas are to go elsewhere.
    Leave = 0,
    /// It is to have replicas.
    Return = 1,
    /// It is no part of the cluster any more; it must have no replicas.
    Remove = 2,
    /// It is to lead nothing until it has started again.
    Drain = 3,
}

/// Changes what becomes of a node.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct AlterNode {
    /// The node.
    #[prost(uint64, tag = "1")]
    pub node_id: u64,
    /// What.
    #[prost(enumeration = "NodeChange", tag = "2")]
    pub change: i32,
}

/// Asks a node how its replicas are.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct NodeReport {}

/// Answer to [`NodeReport`].
#[derive(Clone, PartialEq, Message)]
pub struct NodeReportReply {
    /// Groups that it leads.
    #[prost(uint64, repeated, tag = "1")]
    pub leads: Vec<u64>,
    /// Of those, how many others could lead.
    #[prost(uint64, tag = "4")]
    pub leads_with_others: u64,
    /// Of those, the ones of which a wanted replica is missing, silent or behind.
    #[prost(uint64, repeated, tag = "2")]
    pub behind: Vec<u64>,
    /// Groups of which a replica here takes no part any more until it is repaired.
    #[prost(uint64, repeated, tag = "3")]
    pub broken: Vec<u64>,
}

/// Of which groups a node is the leader.
#[derive(Clone, PartialEq, Message)]
pub struct Leads {
    /// The groups.
    #[prost(uint64, repeated, tag = "1")]
    pub groups: Vec<u64>,
    /// The terms in which they are led, in the same order; 0 where it is not known who leads.
    #[prost(uint64, repeated, tag = "2")]
    pub terms: Vec<u64>,
    /// The nodes that lead them, in the same order; none where it is whoever says so.
    #[prost(uint64, repeated, tag = "3")]
    pub nodes: Vec<u64>,
}

/// Where the logs of groups begin.
#[derive(Clone, PartialEq, Message)]
pub struct Starts {
    /// The groups.
    #[prost(uint64, repeated, tag = "1")]
    pub groups: Vec<u64>,
    /// The first offset that is still there of each, in the same order.
    #[prost(uint64, repeated, tag = "2")]
    pub offsets: Vec<u64>,
}

/// Partitions and groups are to be in a transaction, or are asked whether they are.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct JoinTransaction {
    /// The producer's name for its transactions.
    #[prost(string, tag = "1")]
    pub transactional_id: String,
    /// Its id.
    #[prost(uint64, tag = "2")]
    pub producer_id: u64,
    /// Its epoch.
    #[prost(uint32, tag = "3")]
    pub epoch: u32,
    /// Partitions that records are written to.
    #[prost(message, repeated, tag = "4")]
    pub partitions: Vec<TopicPartitions>,
    /// Groups whose positions are kept.
    #[prost(string, repeated, tag = "5")]
    pub groups: Vec<String>,
    /// Whether they are added; else they must be in it.
    #[prost(bool, tag = "6")]
    pub add: bool,
}

/// Why something about a transaction is refused; numbers as Kafka's error codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum TransactionRefusal {
    /// It is not.
    None = 0,
    /// A partition is not known to the coordinator yet: to be tried again.
    Unknown = 3,
    /// What is asked for makes no sense, as a name that is too long.
    Invalid = 42,
    /// The transaction is not in a state for that.
    State = 48,
    /// The producer's id is not that of its name, or the name is not known.
    Producer = 49,
    /// It may not last so long.
    Timeout = 50,
    /// The one before is not ended everywhere yet: to be tried again.
    Concurrent = 51,
    /// There are as many as there may be: to be tried again.
    Full = 15,
    /// A newer producer of the same name is there.
    Fenced = 90,
}

/// Answer to [`JoinTransaction`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct JoinTransactionReply {
    /// Why it is refused.
    #[prost(enumeration = "TransactionRefusal", tag = "1")]
    pub refusal: i32,
    /// Which of its producer's transactions it is.
    #[prost(uint32, tag = "2")]
    pub number: u32,
}

/// A transaction ends in partitions and groups.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct EndTransaction {
    /// Whose it is.
    #[prost(uint64, tag = "1")]
    pub producer_id: u64,
    /// The epoch that its marker has.
    #[prost(uint32, tag = "2")]
    pub epoch: u32,
    /// Which of its producer's transactions it is.
    #[prost(uint32, tag = "3")]
    pub number: u32,
    /// Whether it takes effect.
    #[prost(bool, tag = "4")]
    pub commit: bool,
    /// Where it ends.
    #[prost(message, repeated, tag = "5")]
    pub partitions: Vec<TopicPartitions>,
    /// Groups whose positions it keeps.
    #[prost(string, repeated, tag = "6")]
    pub groups: Vec<String>,
}

/// A transaction of a producer is open in a partition: whoever looks after the producer is to say whether it is one that will be ended.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct DisownTransaction {
    /// Whose it is.
    #[prost(uint64, tag = "1")]
    pub producer_id: u64,
    /// Where it is open.
    #[prost(string, tag = "2")]
    pub topic: String,
    /// Which of its partitions that is.
    #[prost(uint32, tag = "3")]
    pub partition: u32,
    /// The number of the last transaction of the producer that has ended there, 0 for none.
    #[prost(uint32, tag = "4")]
    pub ended: u32,
}

/// Answer to [`DisownTransaction`], by those coordinators that the node has.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct DisownTransactionReply {
    /// For which partitions of `__consumer_offsets` it is said.
    #[prost(uint32, repeated, tag = "1")]
    pub coordinators: Vec<u32>,
    /// Why it is not for others to end.
    #[prost(enumeration = "TransactionRefusal", tag = "2")]
    pub refusal: i32,
    /// A number that no transaction of the producer has, or will have; 0 if nobody here looks after the producer.
    #[prost(uint32, tag = "3")]
    pub number: u32,
}

/// Answer to [`EndTransaction`]: where it has not ended yet, and is to be ended again.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct EndTransactionReply {
    /// Partitions.
    #[prost(message, repeated, tag = "1")]
    pub partitions: Vec<TopicPartitions>,
    /// Groups.
    #[prost(string, repeated, tag = "2")]
    pub groups: Vec<String>,
}
