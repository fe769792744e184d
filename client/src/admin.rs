//! Topics, offsets, consumer groups, quotas and users.

use crate::{
    client::{Client, Repeat, Tries},
    error::{Error, Result},
    fetch::Isolation,
};
use millpond_wire::messages::{
    AlterNode, AlterQuota, AlterTopic, AlterUser, Code, CommitOffsets, CommitOffsetsReply, CreateTopic, DeleteGroup, DeleteRecords,
    DeleteRecordsReply, DeleteTopic, DescribeCluster, DescribeClusterReply, DescribeGroup, DescribeGroupReply, Done, FetchOffsets,
    FetchOffsetsReply, GroupListing, Kind, ListGroups, ListGroupsReply, ListOffset, ListOffsets, ListOffsetsReply, ListQuotas,
    ListQuotasReply, ListUsers, ListUsersReply, Metadata, MetadataReply, NodeChange, Position, Rebalance, RebalanceReply, Setting,
    TopicInfo, TopicReply, UserInfo,
};
use prost::Message;
use std::{collections::HashMap, time::Instant};

/// An offset by what it means. Where a time is meant, it is the first record at or after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first record still there.
    Earliest,
    /// After the last committed record.
    Latest,
    /// The first record whose timestamp is this or later, in milliseconds since 1970, 0 or more; the end if there is none.
    Time(i64),
    /// The record with the largest timestamp.
    MaxTimestamp,
}

impl OffsetSpec {
    fn time_ms(self) -> i64 {
        match self {
            Self::Latest => -1,
            Self::Earliest => -2,
            Self::MaxTimestamp => -3,
            Self::Time(ms) => ms.max(0),
        }
    }
}

/// An offset that was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset.
    pub offset: u64,
    /// The timestamp of the record there, if there is one, in milliseconds since 1970.
    pub time_ms: Option<i64>,
}

/// A new topic. Settings have Kafka's names.
///
/// ```
/// use millpond_client::NewTopic;
/// let topic = NewTopic::new("orders").partitions(8).set("retention.ms", "86400000").if_not_exists();
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct NewTopic(CreateTopic);

impl NewTopic {
    /// A topic with the server's defaults.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self(CreateTopic { name: name.into(), ..CreateTopic::default() })
    }

    /// How many partitions.
    #[must_use]
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.0.partitions = partitions;
        self
    }

    /// How many replicas each partition has, on as many nodes. Default: three, or as many as there are nodes.
    #[must_use]
    pub fn replication(mut self, replication: u32) -> Self {
        self.0.replication = replication;
        self
    }

    /// A setting that differs from the default, such as `retention.ms`.
    #[must_use]
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.settings.push(setting(name, value));
        self
    }

    /// A topic that is there already is fine, and left as it is.
    #[must_use]
    pub fn if_not_exists(mut self) -> Self {
        self.0.if_not_exists = true;
        self
    }

    /// Only checks whether it could be created.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.0.dry_run = true;
        self
    }
}

/// A setting for [`Admin::alter_topic`]; an empty value means back to the default.
#[must_use]
pub fn setting(name: impl Into<String>, value: impl Into<String>) -> Setting {
    Setting { name: name.into(), value: value.into(), is_default: false }
}

/// Looks after topics, groups and quotas. Made by [`Client::admin`].
#[derive(Clone, Debug)]
pub struct Admin {
    client: Client,
}

impl Admin {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Creates a topic. Returns it as it is, and whether it is new.
    ///
    /// # Errors
    /// [`Code::TopicExists`], unless that is fine; or a name or setting that is not allowed.
    pub async fn create_topic(&self, topic: NewTopic) -> Result<(TopicInfo, bool)> {
        let doing = format!("creating topic {}", topic.0.name);
        // By its number a topic that an unanswered try has made is told from one that was there.
        let attempt = self.client.backoff().random_number();
        let request = |_, as_of| CreateTopic { as_of, attempt, ..topic.0.clone() };
        let reply: TopicReply = self.by_what_is(&topic.0.name, &doing, Kind::CreateTopic, Repeat::Freely, request).await?;
        Ok((reply.topic.unwrap_or_default(), reply.changed))
    }

    /// Changes settings of a topic, or adds partitions: `partitions` is the new number, 0 leaves it. Returns the topic as it is,
    /// and whether anything changed.
    ///
    /// # Errors
    /// If it is not there, or the change is not allowed.
    pub async fn alter_topic(&self, name: &str, settings: Vec<Setting>, partitions: u32) -> Result<(TopicInfo, bool)> {
        self.change_topic(AlterTopic { name: name.into(), settings, partitions, ..AlterTopic::default() }).await
    }

    /// Has this many replicas of each partition of a topic, 1 or more. Returns at once: replicas are made, or go, while the topic is in use.
    ///
    /// # Errors
    /// If it is not there, or there are not so many nodes.
    pub async fn replicate_topic(&self, name: &str, replication: u32) -> Result<(TopicInfo, bool)> {
        self.change_topic(AlterTopic { name: name.into(), replication, ..AlterTopic::default() }).await
    }

    /// Makes a change of a topic as a whole.
    ///
    /// # Errors
    /// If it is not there, or the change is not allowed.
    pub async fn change_topic(&self, request: AlterTopic) -> Result<(TopicInfo, bool)> {
        let name = request.name.clone();
        let doing = format!("altering topic {name}");
        let reply: TopicReply = self.client.ask(&doing, Kind::AlterTopic, &request, Repeat::Freely).await?;
        Ok((reply.topic.unwrap_or_default(), reply.changed))
    }

    /// How the cluster is: its nodes, and partitions that nobody leads or that lack replicas.
    ///
    /// # Errors
    /// If no server answers in time.
    pub async fn describe_cluster(&self) -> Result<DescribeClusterReply> {
        self.client.ask("asking how the cluster is", Kind::DescribeCluster, &DescribeCluster {}, Repeat::Freely).await
    }

    /// Changes what becomes of a node. Returns once the cluster has taken note of it.
    ///
    /// # Errors
    /// If there is no such node, or it has replicas and is to be removed.
    pub async fn alter_node(&self, node_id: u64, change: NodeChange) -> Result<()> {
        let request = AlterNode { node_id, change: change as i32 };
        let _: Done = self.client.ask(&format!("changing node {node_id}"), Kind::AlterNode, &request, Repeat::Freely).await?;
        Ok(())
    }

    /// Has replicas and leaders spread evenly over the nodes, or with `dry_run` only says what would move. They move after the call, while everything is
    /// in use.
    ///
    /// # Errors
    /// If the meta group has no leader in time.
    pub async fn rebalance(&self, dry_run: bool) -> Result<RebalanceReply> {
        self.client.ask("rebalancing", Kind::Rebalance, &Rebalance { dry_run }, Repeat::Freely).await
    }

    /// Deletes a topic and all its records. With `if_exists` a topic that is not there is fine.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`] if it is not there.
    pub async fn delete_topic(&self, name: &str, if_exists: bool) -> Result<()> {
        let doing = format!("deleting topic {name}");
        let repeat = if if_exists { Repeat::Freely } else { Repeat::IfUnsent };
        let request = |topic_id, _| DeleteTopic { name: name.into(), if_exists, topic_id: Some(topic_id) };
        let _: Done = self.by_what_is(name, &doing, Kind::DeleteTopic, repeat, request).await?;
        Ok(())
    }

    /// Asks for something that goes by what is known of a topic's name: its id, or 0, and the epoch of the catalog. Asks anew if that has changed meanwhile.
    async fn by_what_is<Q: Message, A: Message + Default>(
        &self,
        name: &str,
        doing: &str,
        kind: Kind,
        repeat: Repeat,
        request: impl Fn(u64, u64) -> Q,
    ) -> Result<A> {
        let (began, mut failures) = (Instant::now(), 0);
        loop {
            let MetadataReply { topics, epoch, .. } = self.client.metadata(&[name]).await?;
            let known = topics.iter().find(|t| t.name == name && t.failure.is_none());
            let asked = request(known.map_or(0, |t| t.topic_id), epoch);
            match self.client.ask(doing, kind, &asked, repeat).await {
                Err(error) if error.code() == Some(Code::Outdated) && began.elapsed() < self.client.api_timeout() => {
                    failures += 1;
                    tokio::time::sleep(self.client.backoff().after(failures)).await;
                }
                done => return done,
            }
        }
    }

    /// All topics, by name; with the system's own if `internal`.
    ///
    /// # Errors
    /// If no server answers in time.
    pub async fn list_topics(&self, internal: bool) -> Result<Vec<TopicInfo>> {
        Ok(self.client.ask_metadata(Metadata { topics: Vec::new(), internal, rack: String::new() }).await?.topics)
    }

    /// A topic: its settings, and where each partition lives, begins and ends. The endpoints that partitions refer to come with it.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`] if it is not there.
    pub async fn describe_topic(&self, name: &str) -> Result<(TopicInfo, Vec<millpond_wire::messages::Endpoint>)> {
        let MetadataReply { endpoints, topics, .. } = self.client.metadata(&[name]).await?;
        let doing = format!("describing topic {name}");
        let Some(mut topic) = topics.into_iter().find(|t| t.name == name) else {
            let what = "metadata without the topic that was asked for".into();
            return Err(Error::Protocol { doing, endpoint: "the server".into(), what });
        };
        match topic.failure.take() {
            Some(failure) => Err(Error::refused(doing, failure)),
            None => Ok((topic, endpoints)),
        }
    }

    /// Looks up offsets, one for each partition asked for, in the same order. Those of transactions that are open count.
    ///
    /// # Errors
    /// If any of them cannot be told.
    pub async fn list_offsets(&self, topic: &str, partitions: &[(u32, OffsetSpec)]) -> Result<Vec<FoundOffset>> {
        self.list_offsets_by(Isolation::ReadUncommitted, topic, partitions).await
    }

    /// The same for whoever reads by this isolation: with committed records alone, a partition ends before its first transaction that is open.
    ///
    /// # Errors
    /// As [`Admin::list_offsets`].
    pub async fn list_offsets_by(&self, isolation: Isolation, topic: &str, partitions: &[(u32, OffsetSpec)]) -> Result<Vec<FoundOffset>> {
        let doing = format!("looking up offsets of {topic}");
        let mut tries = Tries::new(&doing, self.client.api_timeout(), Repeat::Freely);
        loop {
            match self.try_list_offsets(&doing, isolation, topic, partitions).await {
                Ok(found) => return Ok(found),
                Err(error) => self.client.pause(&mut tries, error).await?,
            }
        }
    }

    /// One try, at the owners of the partitions; any server would do, with a hop.
    async fn try_list_offsets(
        &self,
        doing: &str,
        isolation: Isolation,
        topic: &str,
        partitions: &[(u32, OffsetSpec)],
    ) -> Result<Vec<FoundOffset>> {
        let mut found = vec![FoundOffset { offset: 0, time_ms: None }; partitions.len()];
        // In pieces, since a message has its bounds.
        for (n, some) in partitions.chunks(OFFSETS_PER_REQUEST).enumerate() {
            let one = |(partition, spec): &(u32, OffsetSpec)| ListOffset {
                topic: topic.into(),
                partition: *partition,
                time_ms: spec.time_ms(),
                committed: isolation.is_committed(),
                leader_epoch: None,
            };
            let request = ListOffsets { partitions: some.iter().map(one).collect() };
            let reply: ListOffsetsReply = self.client.ask(doing, Kind::ListOffsets, &request, Repeat::Freely).await?;
            if reply.results.len() != some.len() {
                let what = format!("{} offsets were asked for, {} came", some.len(), reply.results.len());
                return Err(Error::Protocol { doing: doing.into(), endpoint: "the server".into(), what });
            }
            for (at, result) in reply.results.into_iter().enumerate() {
                if let Some(failure) = result.failure {
                    return Err(Error::refused(doing, failure));
                }
                let time_ms = (result.time_ms >= 0).then_some(result.time_ms);
                found[n * OFFSETS_PER_REQUEST + at] = FoundOffset { offset: result.offset, time_ms };
            }
        }
        Ok(found)
    }

    /// Looks up the offset of one partition.
    ///
    /// # Errors
    /// If it cannot be told.
    pub async fn offset(&self, topic: &str, partition: u32, spec: OffsetSpec) -> Result<FoundOffset> {
        Ok(self.list_offsets(topic, &[(partition, spec)]).await?.remove(0))
    }

    /// Deletes the records of a partition below the offset `before`, and returns the first offset still there.
    ///
    /// # Errors
    /// If there is no such partition, or the offset is past the end.
    pub async fn delete_records(&self, topic: &str, partition: u32, before: u64) -> Result<u64> {
        let request = DeleteRecords { topic: topic.into(), partition, before };
        let doing = format!("deleting records of {topic}-{partition}");
        let reply: DeleteRecordsReply = self.client.ask(&doing, Kind::DeleteRecords, &request, Repeat::Freely).await?;
        Ok(reply.start_offset)
    }

    /// All consumer groups.
    ///
    /// # Errors
    /// If no server answers in time.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>> {
        let reply: ListGroupsReply = self.client.ask("listing groups", Kind::ListGroups, &ListGroups {}, Repeat::Freely).await?;
        Ok(reply.groups)
    }

    /// A consumer group: members, what they own, positions and ends of partitions.
    ///
    /// # Errors
    /// [`Code::UnknownGroup`] if it is not there.
    pub async fn describe_group(&self, group: &str) -> Result<DescribeGroupReply> {
        let request = DescribeGroup { group: group.into() };
        self.client.ask(&format!("describing group {group}"), Kind::DescribeGroup, &request, Repeat::Freely).await
    }

    /// Deletes a consumer group without members, and its positions.
    ///
    /// # Errors
    /// If it is not there or has members.
    pub async fn delete_group(&self, group: &str) -> Result<()> {
        let request = DeleteGroup { group: group.into() };
        let _: Done = self.client.ask(&format!("deleting group {group}"), Kind::DeleteGroup, &request, Repeat::IfUnsent).await?;
        Ok(())
    }

    /// The committed positions of a group: (topic, partition) → next offset to read.
    ///
    /// # Errors
    /// If no server answers in time.
    pub async fn positions(&self, group: &str) -> Result<HashMap<(String, u32), u64>> {
        let request = FetchOffsets { group: group.into(), partitions: Vec::new() };
        let doing = format!("fetching positions of group {group}");
        let reply: FetchOffsetsReply = self.client.ask(&doing, Kind::FetchOffsets, &request, Repeat::Freely).await?;
        Ok(reply.positions.into_iter().map(|p| ((p.topic, p.partition), p.offset)).collect())
    }

    /// Sets positions of a group that has no members: where its consumers will go on.
    ///
    /// # Errors
    /// If the group has members, or a partition is not there. Positions before the failing piece of a large commit are kept.
    pub async fn commit_positions(&self, group: &str, positions: Vec<Position>) -> Result<()> {
        commit(&self.client, group, "", 0, &positions).await
    }

    /// All quotas, by client id; the empty one is the default for all.
    ///
    /// # Errors
    /// If no server answers in time.
    pub async fn list_quotas(&self) -> Result<Vec<AlterQuota>> {
        let reply: ListQuotasReply = self.client.ask("listing quotas", Kind::ListQuotas, &ListQuotas {}, Repeat::Freely).await?;
        Ok(reply.quotas)
    }

    /// Sets the quota of a client id; 0 takes a limit away.
    ///
    /// # Errors
    /// If no server answers in time.
    pub async fn alter_quota(&self, quota: AlterQuota) -> Result<()> {
        let doing = format!("setting the quota of {:?}", quota.client_id);
        let _: Done = self.client.ask(&doing, Kind::AlterQuota, &quota, Repeat::Freely).await?;
        Ok(())
    }

    /// All users, by name, with the mechanisms that they have a password for.
    ///
    /// # Errors
    /// If no server answers in time.
    pub async fn list_users(&self) -> Result<Vec<UserInfo>> {
        let reply: ListUsersReply = self.client.ask("listing users", Kind::ListUsers, &ListUsers {}, Repeat::Freely).await?;
        Ok(reply.users)
    }

    /// Changes what is kept of a user's passwords.
    ///
    /// # Errors
    /// If it cannot be kept, or is to be forgotten and is not there, or no server answers in time.
    pub async fn alter_user(&self, user: AlterUser) -> Result<()> {
        let doing = format!("changing user {:?}", user.name);
        // Asked again, what was forgotten already would be missing.
        let repeat = if user.forget.is_empty() { Repeat::Freely } else { Repeat::IfUnsent };
        let _: Done = self.client.ask(&doing, Kind::AlterUser, &user, repeat).await?;
        Ok(())
    }
}

/// Look-ups in one request.
const OFFSETS_PER_REQUEST: usize = 1_000;
/// Positions in one commit.
const POSITIONS_PER_COMMIT: usize = 500;

/// Commits positions, in pieces. The first failure of any of them is returned.
pub(crate) async fn commit(client: &Client, group: &str, member_id: &str, member_epoch: i64, positions: &[Position]) -> Result<()> {
    let doing = format!("committing positions of group {group}");
    let (committer, sequence) = client.next_commit();
    for some in positions.chunks(POSITIONS_PER_COMMIT) {
        let (group, member_id, positions) = (group.into(), member_id.into(), some.to_vec());
        let request = CommitOffsets { group, member_id, member_epoch, positions, sequence, committer };
        let reply: CommitOffsetsReply = client.ask(&doing, Kind::CommitOffsets, &request, Repeat::Freely).await?;
        if let Some(failure) = reply.failures.into_iter().find_map(|f| f.failure) {
            return Err(Error::refused(&doing, failure));
        }
    }
    Ok(())
}
