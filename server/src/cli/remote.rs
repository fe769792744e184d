//! What the commands ask of a server: the client library, with its errors turned into what a command ends with.

use super::{
    Global,
    fail::{Exit, Fail, Result},
    password,
    units::Point,
};
use bytes::Bytes;
use millpond_client::{
    Acks, Admin, Client, Compression, Error, NewTopic, OffsetSpec, Producer as ClientProducer, ProducerRecord, Tls,
    messages::{
        AlterQuota, AlterTopic, AlterUser, CreateTopic, DescribeClusterReply, DescribeGroupReply, Endpoint, GroupListing, MetadataReply,
        NodeChange, Position, RebalanceReply, Setting, TopicInfo, UserInfo,
    },
};
use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

/// How long a command waits for a server to answer at all.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long one request may take, with all its tries.
const DONE_WITHIN: Duration = Duration::from_secs(30);

impl From<Error> for Fail {
    fn from(error: Error) -> Self {
        let exit = match &error {
            Error::Connect { .. } => Exit::Unreachable,
            Error::Timeout { last: Some(last), .. } if matches!(**last, Error::Connect { .. }) => Exit::Unreachable,
            _ if error.code() == Some(millpond_client::Code::Internal) => Exit::Internal,
            _ => Exit::Failed,
        };
        let (code, advice) = (error.code(), error.advice().to_owned());
        Self { exit, message: error.to_string(), advice, code }
    }
}

/// A server.
pub(super) struct Remote {
    pub(super) client: Client,
    admin: Admin,
}

/// How records are sent.
pub(super) struct Producing {
    pub(super) compression: super::produce::Compression,
    pub(super) linger: Duration,
    pub(super) batch_bytes: u64,
}

impl Default for Producing {
    fn default() -> Self {
        Self { compression: super::produce::Compression::Zstd, linger: Duration::from_millis(5), batch_bytes: 256 * 1024 }
    }
}

/// A record to be sent.
pub(super) struct Outgoing<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: Option<u32>,
    pub(super) time_ms: Option<i64>,
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    pub(super) headers: Vec<(String, Option<Bytes>)>,
}

/// A certificate and its key.
#[derive(Clone)]
pub(super) struct Identity {
    cert: PathBuf,
    key: PathBuf,
}

impl FromStr for Identity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (cert, key) = text.split_once(',').ok_or("give two files with a comma between, such as node.pem,node.key.pem")?;
        Ok(Self { cert: cert.into(), key: key.into() })
    }
}

/// Sends records.
pub(super) struct Producer {
    producer: ClientProducer,
}

impl Producer {
    /// Hands a record over; what becomes of it, [`Producer::finish`] tells.
    pub(super) async fn send(&mut self, record: Outgoing<'_>) -> Result {
        let mut sent = ProducerRecord::to(record.topic);
        sent = record.partition.into_iter().fold(sent, ProducerRecord::partition);
        sent = record.time_ms.into_iter().fold(sent, ProducerRecord::timestamp_ms);
        sent = record.key.iter().fold(sent, ProducerRecord::key);
        sent = record.value.iter().fold(sent, ProducerRecord::value);
        for (name, value) in &record.headers {
            sent = sent.header_or_null(name, value.as_deref());
        }
        self.producer.send(sent).await?;
        Ok(())
    }

    /// Waits until everything is acknowledged.
    pub(super) async fn finish(self) -> Result {
        Ok(self.producer.close().await?)
    }
}

/// The password of whoever logs in.
fn password_of(user: &str, file: Option<&Path>) -> Result<String> {
    if file.is_none()
        && let Ok(password) = std::env::var("MILLPOND_PASSWORD")
    {
        return Ok(password);
    }
    if file.is_none() && !std::io::stdin().is_terminal() {
        let advice = "set MILLPOND_PASSWORD, or give --login-password-file";
        return Err(Fail::usage(format!("there is no password of {user}"), advice));
    }
    let line = password::read(file, "--login-password-file", &format!("Password of {user}: "))?;
    String::from_utf8(line).map_err(|_| Fail::usage("the password is not UTF-8", "give another one to `millpond user create`"))
}

fn spec(point: Point) -> Option<OffsetSpec> {
    match point {
        Point::Earliest => Some(OffsetSpec::Earliest),
        Point::Latest => Some(OffsetSpec::Latest),
        Point::Time(ms) => Some(OffsetSpec::Time(ms)),
        Point::Offset(_) => None,
    }
}

impl Remote {
    pub(super) async fn connect(global: &Global) -> Result<Self> {
        Self::connect_from(global, "").await
    }

    /// The same for one that stands in a rack, if that is not empty.
    pub(super) async fn connect_from(global: &Global, rack: &str) -> Result<Self> {
        let builder = match &global.tls_ca {
            None => Client::builder(),
            Some(ca) => {
                let advice = "give --tls-ca a PEM file such as the ca.pem of `millpond certificate authority`";
                let tls = match &global.tls_identity {
                    Some(Identity { cert, key }) => Tls::as_node(ca, cert, key),
                    None => Tls::with_authority(ca),
                };
                let tls = tls.map_err(|e| Fail::usage(format!("read {}: {e}", ca.display()), advice))?;
                Client::builder().tls(tls)
            }
        };
        let builder = match &global.username {
            None => builder,
            Some(name) => builder.user(name, password_of(name, global.login_password_file.as_deref())?),
        };
        let client = builder
            .rack(rack)
            .bootstrap(&global.server.join(","))
            .client_id(&global.client_id)
            .connect_timeout(CONNECT_WITHIN)
            .api_timeout(DONE_WITHIN)
            .connect()
            .await?;
        Ok(Self { admin: client.admin(), client })
    }

    pub(super) async fn producer(&self, how: &Producing) -> Result<Producer> {
        use super::produce::Compression as Chosen;
        let compression = match how.compression {
            Chosen::None => Compression::None,
            Chosen::Gzip => Compression::Gzip,
            Chosen::Snappy => Compression::Snappy,
            Chosen::Lz4 => Compression::Lz4,
            Chosen::Zstd => Compression::Zstd,
        };
        let batch_bytes = usize::try_from(how.batch_bytes).unwrap_or(usize::MAX);
        let builder = self.client.producer().acks(Acks::All).compression(compression).linger(how.linger).batch_bytes(batch_bytes);
        Ok(Producer { producer: builder.build().await? })
    }

    pub(super) async fn metadata(&self, internal: bool) -> Result<MetadataReply> {
        if internal {
            return Ok(MetadataReply { topics: self.admin.list_topics(true).await?, ..MetadataReply::default() });
        }
        Ok(self.client.metadata(&[]).await?)
    }

    pub(super) async fn create_topic(&self, request: CreateTopic) -> Result<(TopicInfo, bool)> {
        let mut topic = NewTopic::new(request.name).partitions(request.partitions).replication(request.replication);
        for Setting { name, value, .. } in request.settings {
            topic = topic.set(name, value);
        }
        topic = if request.if_not_exists { topic.if_not_exists() } else { topic };
        topic = if request.dry_run { topic.dry_run() } else { topic };
        Ok(self.admin.create_topic(topic).await?)
    }

    pub(super) async fn alter_topic(&self, request: AlterTopic) -> Result<(TopicInfo, bool)> {
        Ok(self.admin.change_topic(request).await?)
    }

    pub(super) async fn delete_topic(&self, name: &str, if_exists: bool) -> Result {
        Ok(self.admin.delete_topic(name, if_exists).await?)
    }

    pub(super) async fn describe_topic(&self, name: &str) -> Result<(TopicInfo, Vec<Endpoint>)> {
        Ok(self.admin.describe_topic(name).await?)
    }

    /// The offset that a point means in a partition.
    pub(super) async fn resolve(&self, topic: &str, partition: u32, point: Point) -> Result<u64> {
        match (spec(point), point) {
            (Some(spec), _) => Ok(self.admin.offset(topic, partition, spec).await?.offset),
            (None, Point::Offset(offset)) => Ok(offset),
            (None, _) => Ok(0),
        }
    }

    pub(super) async fn delete_records(&self, topic: &str, partition: u32, before: u64) -> Result<u64> {
        Ok(self.admin.delete_records(topic, partition, before).await?)
    }

    pub(super) async fn list_groups(&self) -> Result<Vec<GroupListing>> {
        Ok(self.admin.list_groups().await?)
    }

    pub(super) async fn describe_group(&self, group: &str) -> Result<DescribeGroupReply> {
        Ok(self.admin.describe_group(group).await?)
    }

    pub(super) async fn delete_group(&self, group: &str) -> Result {
        Ok(self.admin.delete_group(group).await?)
    }

    pub(super) async fn commit(&self, group: &str, positions: Vec<Position>) -> Result {
        Ok(self.admin.commit_positions(group, positions).await?)
    }

    pub(super) async fn describe_cluster(&self) -> Result<DescribeClusterReply> {
        Ok(self.admin.describe_cluster().await?)
    }

    pub(super) async fn alter_node(&self, node: u64, change: NodeChange) -> Result {
        Ok(self.admin.alter_node(node, change).await?)
    }

    pub(super) async fn rebalance(&self, dry_run: bool) -> Result<RebalanceReply> {
        Ok(self.admin.rebalance(dry_run).await?)
    }

    pub(super) async fn list_quotas(&self) -> Result<Vec<AlterQuota>> {
        Ok(self.admin.list_quotas().await?)
    }

    pub(super) async fn alter_quota(&self, quota: AlterQuota) -> Result {
        Ok(self.admin.alter_quota(quota).await?)
    }

    pub(super) async fn list_users(&self) -> Result<Vec<UserInfo>> {
        Ok(self.admin.list_users().await?)
    }

    pub(super) async fn alter_user(&self, user: AlterUser) -> Result {
        Ok(self.admin.alter_user(user).await?)
    }
}
