//! Consuming: records as they are produced, from partitions of one's own choice or shared out by a consumer group.
//!
//! The reader's calls hand out what was fetched ahead; in a group, one task per consumer, the [`member`], sends heartbeats, takes
//! and gives up partitions, and commits.
//!
//! A *membership* begins when the group takes a consumer in, and ends when it takes it for dead. What was read in one is committed in
//! that one or never: in the next one it goes on from where the group is by then, and a position from before would be one that it
//! goes back behind later.
//!
//! A record counts as processed when the next one is asked for. What is committed without being told to, in intervals and when
//! a partition is given up, is what was processed: after a crash a record may come again, and none is passed over.
//!
//! In reading order: `builder` every setting · this file · `member` the group.

mod builder;
mod member;

use crate::{
    admin,
    client::Client,
    error::{Error, Result},
    fetch::{Fetcher, Handle, reader::Reader, record::ConsumerRecord, record::RecordBatch},
    position::{Position, resolve},
};
pub use builder::ConsumerBuilder;
use builder::Settings;
use millpond_wire::messages::{Code, Failure, GroupHeartbeat, GroupHeartbeatReply, Kind, Position as Kept, TopicPartitions};
use serde::de::DeserializeOwned;
use std::{
    collections::BTreeMap,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{sync::Notify, task::JoinHandle};
use tokio_stream::Stream;

/// A partition of a topic.
pub type TopicPartition = (Arc<str>, u32);

/// A change of what a member of a group reads.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Rebalance<'a> {
    /// It reads these, too, from now on.
    Assigned(&'a [TopicPartition]),
    /// It has given these up; what was processed of them has been committed if it commits by itself.
    Revoked(&'a [TopicPartition]),
    /// It was taken for dead, and others may be reading these already: nothing more of them can be committed.
    Lost(&'a [TopicPartition]),
}

struct State {
    owned: BTreeMap<TopicPartition, Arc<Handle>>,
    /// Subscribed to as a member of the group.
    topics: Vec<String>,
    /// Whether it is, or is to become, a member.
    subscribed: bool,
    /// From the last heartbeat; 0 while it is no member.
    epoch: i64,
}

struct Shared {
    client: Client,
    settings: Settings,
    fetcher: Arc<Fetcher>,
    member_id: String,
    state: Mutex<State>,
    /// Wakes the member: subscriptions have changed.
    wake: Notify,
    /// Memberships that have ended. Grows when nothing more of one can be handed out.
    memberships: AtomicU64,
    /// One commit at a time, so that an older one does not overtake a newer one; and none while positions are asked for, so that they are
    /// those of the last commit.
    committing: tokio::sync::Mutex<()>,
}

/// Reads records as they are produced. A [`Stream`] of records, which never ends by itself.
///
/// ```no_run
/// # async fn example(client: millpond_client::Client) -> millpond_client::Result<()> {
/// use millpond_client::OffsetReset;
///
/// let mut consumer = client.consumer().group("billing").topics(["orders"]).offset_reset(OffsetReset::Earliest).build().await?;
/// while let Some(record) = consumer.next().await {
///     let record = record?;
///     println!("{}-{}@{} {:?}", record.topic, record.partition, record.offset(), record.value());
/// }
/// consumer.close().await
/// # }
/// ```
pub struct Consumer {
    reader: Reader,
    shared: Arc<Shared>,
    member: Option<JoinHandle<()>>,
    /// The membership that the last records handed out belong to, or a later one.
    read_in: u64,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").field("settings", &self.shared.settings).field("assignment", &self.assignment()).finish_non_exhaustive()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.shared.fetcher.close();
        let Some(member) = self.member.take() else { return };
        member.abort();
        let shared = Arc::clone(&self.shared);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // Who cannot say goodbye is taken for dead when its session is over.
                let _ = shared.leave().await;
            });
        }
    }
}

impl Stream for Consumer {
    type Item = Result<ConsumerRecord>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // Whoever asks for more is done with what there was.
        self.reader.process();
        self.read_in = self.shared.membership();
        self.reader.poll_record(cx)
    }
}

impl Consumer {
    fn new(client: Client, settings: Settings) -> Self {
        let limits = settings.limits.clone();
        let fetcher = Arc::new(Fetcher::new(client.clone(), limits, settings.reset));
        let shared = Shared {
            member_id: client.backoff().random_id(),
            client,
            settings,
            fetcher: Arc::clone(&fetcher),
            state: Mutex::new(State { owned: BTreeMap::new(), topics: Vec::new(), subscribed: false, epoch: 0 }),
            wake: Notify::new(),
            memberships: AtomicU64::new(0),
            committing: tokio::sync::Mutex::new(()),
        };
        Self { reader: Reader::new(fetcher), shared: Arc::new(shared), member: None, read_in: 0 }
    }

    /// The next record. Waits for one. An error does not end the stream: reading goes on where it can. `None` only after
    /// [`Consumer::close`] has begun.
    pub async fn next(&mut self) -> Option<Result<ConsumerRecord>> {
        self.reader.process();
        poll_fn(|cx| {
            self.read_in = self.shared.membership();
            self.reader.poll_record(cx)
        })
        .await
    }

    /// The next whole batch, not decoded. Records of a batch that [`Consumer::next`] has begun do not come again.
    pub async fn next_batch(&mut self) -> Option<Result<RecordBatch>> {
        self.reader.process();
        poll_fn(|cx| {
            self.read_in = self.shared.membership();
            self.reader.poll_batch(cx)
        })
        .await
    }

    /// The value of the next record as JSON, with the record.
    pub async fn next_json<T: DeserializeOwned>(&mut self) -> Option<Result<(T, ConsumerRecord)>> {
        let record = self.next().await?;
        Some(record.and_then(|record| Ok((record.json()?, record))))
    }

    /// Up to `max` records: waits up to `timeout` for the first, then takes what is there.
    ///
    /// # Errors
    /// The first error met; records before it are returned, and it with the next call that meets it first.
    pub async fn poll(&mut self, max: usize, timeout: Duration) -> Result<Vec<ConsumerRecord>> {
        let mut records = Vec::new();
        let Ok(first) = tokio::time::timeout(timeout, self.next()).await else { return Ok(records) };
        records.extend(first.transpose()?);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while records.len() < max {
            match self.reader.poll_record(&mut cx) {
                Poll::Ready(Some(Ok(record))) => records.push(record),
                Poll::Ready(Some(Err(error))) => {
                    self.shared.fetcher.tell(error);
                    break;
                }
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Ok(records)
    }

    /// Reads these topics as a member of the group, instead of those before. Who reads which partition is the server's to say.
    ///
    /// # Errors
    /// If the consumer has no group, or partitions of its own choice.
    pub fn subscribe<T: Into<String>>(&mut self, topics: impl IntoIterator<Item = T>) -> Result<()> {
        if self.shared.settings.group.is_none() {
            return Err(Error::Invalid("a consumer without a group cannot subscribe: name a group, or assign partitions".into()));
        }
        let mut state = self.shared.lock();
        if self.member.is_none() && !state.owned.is_empty() {
            return Err(Error::Invalid("a consumer with partitions of its own choice cannot subscribe as well".into()));
        }
        state.topics = topics.into_iter().map(Into::into).collect();
        state.subscribed = true;
        drop(state);
        self.shared.wake.notify_one();
        if self.member.is_none() {
            self.member = Some(tokio::spawn(member::run(Arc::clone(&self.shared))));
        }
        Ok(())
    }

    /// Reads these partitions, too, from these positions; nobody else is kept from reading them.
    ///
    /// # Errors
    /// If one is not there, or the consumer has subscribed.
    pub async fn assign(&mut self, topic: &str, partitions: &[(u32, Position)]) -> Result<()> {
        if self.member.is_some() {
            return Err(Error::Invalid("a consumer that has subscribed cannot choose its partitions".into()));
        }
        self.shared.read_from(topic, partitions).await
    }

    /// Reads all partitions that a topic has now, from this position.
    ///
    /// # Errors
    /// As [`Consumer::assign`].
    pub async fn assign_topic(&mut self, topic: &str, position: Position) -> Result<()> {
        let partitions = self.shared.client.refresh_topic(topic).await?.owners.len() as u32;
        let all: Vec<(u32, Position)> = (0..partitions).map(|p| (p, position)).collect();
        self.assign(topic, &all).await
    }

    /// Goes on elsewhere in a partition that it reads. What was fetched before is dropped.
    ///
    /// # Errors
    /// If it does not read this partition, or the position cannot be told.
    pub async fn seek(&mut self, topic: &str, partition: u32, position: Position) -> Result<()> {
        self.shared.owned(topic, partition)?;
        let offset = resolve(&self.shared.client, self.shared.settings.limits.isolation, topic, &[(partition, position)]).await?[0];
        let owner = self.shared.client.topic(topic).await?.owners.get(partition as usize).cloned();
        // Given up while the position was looked up: then there is nothing left to seek in.
        let old = self.shared.owned(topic, partition)?;
        let owner = owner.ok_or_else(|| no_partition(topic, partition))?;
        self.shared.fetcher.remove(&old);
        let new = Handle::new(Arc::clone(&old.topic), partition, offset);
        self.shared.lock().owned.insert((Arc::clone(&old.topic), partition), Arc::clone(&new));
        self.shared.fetcher.add([(new, owner, offset, None)]);
        Ok(())
    }

    /// Reads no more of a partition until [`Consumer::resume`].
    ///
    /// # Errors
    /// If it does not read this partition.
    pub fn pause(&mut self, topic: &str, partition: u32) -> Result<()> {
        self.shared.fetcher.pause(&self.shared.owned(topic, partition)?, true);
        Ok(())
    }

    /// Reads it again.
    ///
    /// # Errors
    /// If it does not read this partition.
    pub fn resume(&mut self, topic: &str, partition: u32) -> Result<()> {
        self.shared.fetcher.pause(&self.shared.owned(topic, partition)?, false);
        Ok(())
    }

    /// The partitions that it reads now.
    #[must_use]
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.shared.lock().owned.keys().cloned().collect()
    }

    /// Offset after the last record handed out of a partition; `None` if it does not read it.
    #[must_use]
    pub fn position(&self, topic: &str, partition: u32) -> Option<u64> {
        Some(self.shared.owned(topic, partition).ok()?.delivered())
    }

    /// Records between its positions and the ends of its partitions, as the last fetches told; `None` while something was not
    /// heard of yet.
    #[must_use]
    pub fn lag(&self) -> Option<u64> {
        self.shared.lock().owned.values().map(|h| h.lag()).sum()
    }

    /// Commits the position after every record handed out so far. It is synced when this returns.
    ///
    /// # Errors
    /// If there is no group, or the group has given a partition to somebody else: its records will come again there.
    pub async fn commit(&self) -> Result<()> {
        let (membership, owned) = self.shared.holdings();
        self.shared.commit(membership, &owned, Handle::delivered).await
    }

    /// Commits these positions: (topic, partition, the next offset to read). They are taken to come from what was handed out last.
    ///
    /// # Errors
    /// As [`Consumer::commit`]; and if the group has taken this consumer for dead since records were handed out last, even if it is
    /// a member again: then they come again.
    pub async fn commit_positions(&self, positions: impl IntoIterator<Item = (String, u32, u64)>) -> Result<()> {
        let kept = |(topic, partition, offset)| Kept { topic, partition, offset, ..Kept::default() };
        let _one = self.shared.committing.lock().await;
        self.shared.send_commit(self.read_in, &positions.into_iter().map(kept).collect::<Vec<_>>()).await
    }

    /// Commits what was handed out, if it commits by itself, and leaves the group, so that others take over at once.
    ///
    /// # Errors
    /// If the commit fails or the group cannot be left; the consumer is closed all the same.
    pub async fn close(mut self) -> Result<()> {
        let member = self.member.take();
        let Some(task) = member else {
            let kept = if self.shared.commits_by_itself() { self.commit().await } else { Ok(()) };
            self.shared.fetcher.close();
            return kept;
        };
        task.abort();
        // Aborted or ended, it does nothing any more.
        let _ = task.await;
        let kept = if self.shared.commits_by_itself() { self.commit().await } else { Ok(()) };
        self.shared.fetcher.close();
        kept.and(self.shared.leave().await)
    }
}

fn no_partition(topic: &str, partition: u32) -> Error {
    Error::Invalid(format!("there is no partition {topic}-{partition}"))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }

    fn owned(&self, topic: &str, partition: u32) -> Result<Arc<Handle>> {
        let state = self.lock();
        let found = state.owned.get(&(Arc::from(topic), partition)).cloned();
        found.ok_or_else(|| Error::Invalid(format!("this consumer does not read {topic}-{partition}")))
    }

    /// Whether it commits without being told to.
    fn commits_by_itself(&self) -> bool {
        self.settings.group.is_some() && self.settings.auto_commit.is_some()
    }

    /// The membership now. What is handed out from here on is not of an earlier one.
    fn membership(&self) -> u64 {
        self.memberships.load(Ordering::Acquire)
    }

    /// What it reads, and in which membership.
    fn holdings(&self) -> (u64, Vec<Arc<Handle>>) {
        let state = self.lock();
        (self.membership(), state.owned.values().cloned().collect())
    }

    async fn read_from(&self, topic: &str, partitions: &[(u32, Position)]) -> Result<()> {
        let meta = self.client.topic(topic).await?;
        let offsets = resolve(&self.client, self.settings.limits.isolation, topic, partitions).await?;
        let mut added = Vec::new();
        for ((partition, _), offset) in partitions.iter().zip(offsets) {
            let owner = meta.owners.get(*partition as usize).ok_or_else(|| no_partition(topic, *partition))?;
            added.push((Handle::new(Arc::clone(&meta.name), *partition, offset), Arc::clone(owner), offset, None));
        }
        let mut state = self.lock();
        for (handle, ..) in &added {
            let old = state.owned.insert((Arc::clone(&handle.topic), handle.partition), Arc::clone(handle));
            old.iter().for_each(|old| self.fetcher.remove(old));
        }
        drop(state);
        self.fetcher.add(added);
        Ok(())
    }

    /// Commits positions that were not committed before, of partitions that were given to it in this membership.
    async fn commit(&self, membership: u64, handles: &[Arc<Handle>], position: fn(&Handle) -> u64) -> Result<()> {
        let _one = self.committing.lock().await;
        let is_new = |h: &&Arc<Handle>| {
            let before = h.committed.load(Ordering::Acquire);
            before == u64::MAX || position(h) > before
        };
        let new: Vec<(&Arc<Handle>, u64)> = handles.iter().filter(is_new).map(|h| (h, position(h))).collect();
        let kept = |(h, offset): &(&Arc<Handle>, u64)| Kept {
            topic: h.topic.to_string(),
            partition: h.partition,
            offset: *offset,
            ..Kept::default()
        };
        self.send_commit(membership, &new.iter().map(kept).collect::<Vec<_>>()).await?;
        new.iter().for_each(|(h, offset)| h.committed.store(*offset, Ordering::Release));
        Ok(())
    }

    /// Sends positions that were read in this membership. The caller holds `committing`.
    async fn send_commit(&self, membership: u64, positions: &[Kept]) -> Result<()> {
        let Some(group) = &self.settings.group else {
            return Err(Error::Invalid("a consumer without a group has nowhere to commit to".into()));
        };
        if positions.is_empty() {
            return Ok(());
        }
        let (subscribed, epoch) = {
            let state = self.lock();
            (state.subscribed, state.epoch)
        };
        // Never as somebody from outside: with nobody else in the group that would be taken, and come to light behind its back.
        if subscribed && (epoch == 0 || membership != self.membership()) {
            let message = format!("this consumer is not, or no longer, the member of group {group} that read these records");
            let failure =
                Failure::new(Code::UnknownMember, message, "go on reading: they come again, from the last position that was kept");
            return Err(Error::refused(format!("committing positions of group {group}"), failure));
        }
        let member = if subscribed { self.member_id.as_str() } else { "" };
        admin::commit(&self.client, group, member, epoch, positions).await
    }

    /// A sign of life.
    async fn beat(&self, epoch: i64) -> Result<GroupHeartbeatReply> {
        let Some(group) = &self.settings.group else { return Err(Error::Invalid("a member without a group".into())) };
        let request = {
            let state = self.lock();
            let mut owned: BTreeMap<&Arc<str>, Vec<u32>> = BTreeMap::new();
            state.owned.keys().for_each(|(topic, partition)| owned.entry(topic).or_default().push(*partition));
            GroupHeartbeat {
                group: group.clone(),
                member_id: self.member_id.clone(),
                member_epoch: epoch,
                topics: state.topics.clone(),
                owned: owned.into_iter().map(|(t, partitions)| TopicPartitions { topic: t.to_string(), partitions }).collect(),
                session_timeout_ms: self.settings.session_timeout.as_millis() as u32,
                client_id: self.client.client_id().to_owned(),
            }
        };
        let doing = format!("taking part in group {group}");
        self.client.ask(&doing, Kind::GroupHeartbeat, &request, crate::client::Repeat::Freely).await
    }

    async fn leave(&self) -> Result<()> {
        if self.lock().epoch == 0 {
            return Ok(());
        }
        match self.beat(-1).await {
            Err(error) if !member::is_forgotten(&error) => Err(error),
            _ => Ok(()),
        }
    }
}
