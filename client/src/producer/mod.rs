//! Producing: records go into batches at once, batches go out in order, deliveries tell what became of them.
//!
//! [`Producer::send`] appends to the open batch of the record's partition, under that partition's lock, and returns. One
//! task per producer, the sender, takes batches that are ripe, gathers those of one core into one frame, and
//! hands it to that core's connection; replies settle their batches as they are read.
//!
//! In reading order: `record` what is sent · `builder` how · [`partitioner`] where a record goes · [`delivery`] what became of it · `lane` the batches of one
//! partition, and the rules of order and retry · `sender` the task.

mod builder;
mod delivery;
mod lane;
mod partitioner;
mod record;
mod sender;

pub use builder::ProducerBuilder;
pub use delivery::{Delivered, Delivery};
pub use partitioner::{Choice, Partitioner, murmur2, partition_of_key};
pub use record::ProducerRecord;

use crate::{
    client::{self, Client},
    error::{Error, Result},
    metadata::TopicMeta,
};
use lane::{Appended, Lane, Rules};
use millpond_batch::Builder;
use millpond_wire::messages::{Acks, Code};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde::Serialize;
use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, RwLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::{Notify, Semaphore};

/// Most batches of one partition in flight: as many as a server remembers.
pub const IN_FLIGHT_MAX: usize = 5;
/// How often the metadata of a topic are asked for while a partition of it cannot be written.
const TROUBLED_LOOK: Duration = Duration::from_millis(50);
/// The largest record, whatever a topic allows, in bytes: a frame must hold it.
const RECORD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One partition: its lane, and whether the sender knows of it.
pub(crate) struct Sink {
    /// Its own among the producer's.
    id: u64,
    topic: Arc<TopicSink>,
    partition: u32,
    lane: Mutex<Lane>,
    /// It is in the inbox already.
    listed: AtomicBool,
}

impl Sink {
    fn lock(&self) -> MutexGuard<'_, Lane> {
        self.lane.lock().expect("no code panics while it holds this lock")
    }
}

/// A topic that something was sent to.
pub(crate) struct TopicSink {
    name: Arc<str>,
    topic_id: u64,
    /// The largest batch, in bytes.
    batch_bytes: usize,
    /// Where records without a key go now, and how many bytes have gone there.
    sticky: AtomicU32,
    sticky_bytes: AtomicUsize,
    turn: AtomicU32,
    /// Metadata are being asked for.
    refreshing: AtomicBool,
    /// Why nothing can be delivered any more, once it was deleted.
    gone: OnceLock<Error>,
}

type Sinks = Arc<(Arc<TopicSink>, Vec<Arc<Sink>>)>;

pub(crate) struct Shared {
    client: Client,
    partitioner: Partitioner,
    acks: Acks,
    rules: Rules,
    topics: RwLock<HashMap<Box<str>, Sinks>>,
    room: Arc<Semaphore>,
    buffer_bytes: usize,
    /// Callers that wait for room: then nothing lingers.
    waiting: AtomicUsize,
    inbox: Mutex<Inbox>,
    wake: Notify,
    closing: AtomicBool,
    /// The first failure since the last flush.
    failure: Mutex<Option<Error>>,
    next_sink: AtomicU64,
    /// Lanes of topics that were deleted, with what of them is still in flight.
    retired: Mutex<Vec<Arc<Sink>>>,
    /// The epoch in which lanes of a topic of that name begin, if there were others: the topic may be the same one, which knows their sequences.
    epochs: Mutex<HashMap<Box<str>, i16>>,
}

/// What the sender is to look at.
#[derive(Default)]
pub(crate) struct Inbox {
    sinks: Vec<Arc<Sink>>,
    /// Endpoints that ask for silence, and for how long.
    silences: Vec<(Arc<str>, Duration)>,
    /// The sender has gone.
    ended: bool,
}

/// Sends records. Cheap to clone; clones share everything. When the last clone is dropped, what was handed over is still
/// sent, in the background, for as long as the runtime lives; [`Producer::close`] waits for it.
///
/// ```no_run
/// # async fn example() -> millpond_client::Result<()> {
/// use millpond_client::{Client, ProducerRecord};
///
/// let client = Client::connect("127.0.0.1").await?;
/// let producer = client.producer().build().await?;
/// // Waits for room only; the delivery tells when the record is safe.
/// let delivery = producer.send(ProducerRecord::to("orders").key("customer-7").value("3 apples")).await?;
/// let delivered = delivery.await?;
/// println!("{}-{} at {:?}", delivered.topic, delivered.partition, delivered.offset);
/// producer.close().await
/// # }
/// ```
#[derive(Clone)]
pub struct Producer {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").field("rules", &self.handle.shared.rules).finish_non_exhaustive()
    }
}

impl Producer {
    /// Hands a record over. Waits while the producer's memory is full, and, for the first record of a topic, until the
    /// topic is known. The [`Delivery`] resolves when the record's fate is known.
    ///
    /// Records that one caller sends to one partition, one after the other, are appended in that order.
    ///
    /// # Errors
    /// If the topic or partition is not there, the record is too large, or the producer is closed. Nothing took effect then.
    pub async fn send(&self, record: ProducerRecord<'_>) -> Result<Delivery> {
        let shared = &self.handle.shared;
        let mut prepaid = Prepaid { room: &shared.room, bytes: 0 };
        loop {
            match shared.append(&record, &mut prepaid.bytes)? {
                Append::Done(delivery) => return Ok(delivery),
                Append::Room(bytes) => shared.wait_room(bytes, &mut prepaid).await,
                Append::Topic => {
                    let topic = shared.client.topic(record.topic).await?;
                    shared.add_topic(&topic);
                }
            }
        }
    }

    /// [`Producer::send`] that never waits: `None` if it would have to.
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub fn try_send(&self, record: &ProducerRecord<'_>) -> Result<Option<Delivery>> {
        let shared = &self.handle.shared;
        let mut prepaid = Prepaid { room: &shared.room, bytes: 0 };
        match shared.append(record, &mut prepaid.bytes)? {
            Append::Done(delivery) => Ok(Some(delivery)),
            Append::Room(_) | Append::Topic => Ok(None),
        }
    }

    /// Sends a value as JSON, in place of the record's value.
    ///
    /// # Errors
    /// If it cannot be told as JSON, and as [`Producer::send`].
    pub async fn send_json<T: Serialize + ?Sized>(&self, record: ProducerRecord<'_>, value: &T) -> Result<Delivery> {
        let json = serde_json::to_vec(value).map_err(|e| Error::json("writing a value as JSON", &e))?;
        self.send(ProducerRecord { value: Some(&json), ..record }).await
    }

    /// Sends everything handed over so far without lingering and waits until its fate is known.
    ///
    /// # Errors
    /// The first failure of any record since the last flush, whether or not its delivery was looked at.
    pub async fn flush(&self) -> Result<()> {
        self.handle.shared.flush().await
    }

    /// [`Producer::flush`], then no more: later sends on clones are refused.
    ///
    /// # Errors
    /// As [`Producer::flush`].
    pub async fn close(&self) -> Result<()> {
        self.handle.shared.close();
        self.handle.shared.flush().await
    }

    /// Memory of records that are not delivered yet, in bytes.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        let shared = &self.handle.shared;
        shared.buffer_bytes.saturating_sub(shared.room.available_permits())
    }
}

/// What became of an append.
enum Append {
    Done(Delivery),
    /// So many bytes have to be prepaid in all.
    Room(usize),
    /// The topic is not known.
    Topic,
}

/// Memory that was taken and is not in a batch yet. What is left of it goes back.
struct Prepaid<'a> {
    room: &'a Semaphore,
    bytes: usize,
}

impl Drop for Prepaid<'_> {
    fn drop(&mut self) {
        self.room.add_permits(self.bytes);
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

impl Shared {
    fn append(&self, record: &ProducerRecord<'_>, prepaid: &mut usize) -> Result<Append> {
        if self.closing.load(Ordering::Acquire) {
            return Err(Error::Closed("producer"));
        }
        let topics = self.topics.read().expect("no code panics while it holds this lock");
        let Some((topic, sinks)) = topics.get(record.topic).map(|s| &**s) else { return Ok(Append::Topic) };
        let len = Builder::record_len_max(record.key, record.value, &record.headers);
        let limit = RECORD_BYTES_MAX.min(self.buffer_bytes);
        if len > limit {
            return Err(Error::TooLarge { what: "a record", bytes: len, limit });
        }
        let partition = self.partition_of(record, topic, sinks.len() as u32, len);
        let Some(sink) = sinks.get(partition as usize) else {
            return Err(Error::Invalid(format!("{} has {} partitions, there is no {partition}", record.topic, sinks.len())));
        };
        let timestamp = record.timestamp_ms.unwrap_or_else(now_ms);
        let rules = &self.rules;
        let batch_bytes = rules.batch_bytes.min(topic.batch_bytes);
        let (done, index, attend) = loop {
            let appended = sink.lock().append(rules, batch_bytes, Instant::now, len, prepaid, |builder| {
                builder.append(timestamp, record.key, record.value, &record.headers);
            });
            match appended {
                Appended::Done { done, index, attend } => break (done, index, attend),
                Appended::Charge(bytes) => {
                    // Free memory is taken without waiting, in the common case.
                    let Ok(permit) = self.room.try_acquire_many((bytes - *prepaid) as u32) else { return Ok(Append::Room(bytes)) };
                    permit.forget();
                    *prepaid = bytes;
                }
            }
        };
        if attend {
            self.list(sink);
        }
        Ok(Append::Done(Delivery::new(done, index)))
    }

    fn partition_of(&self, record: &ProducerRecord<'_>, topic: &TopicSink, partitions: u32, len: usize) -> u32 {
        if let Some(partition) = record.partition {
            return partition;
        }
        match (&self.partitioner, record.key) {
            (Partitioner::Key, Some(key)) => partition_of_key(key, partitions),
            (Partitioner::Key, None) => {
                if topic.sticky_bytes.fetch_add(len, Ordering::Relaxed) > topic.batch_bytes.min(self.rules.batch_bytes) {
                    topic.sticky_bytes.store(len, Ordering::Relaxed);
                    topic.sticky.fetch_add(1, Ordering::Relaxed);
                }
                topic.sticky.load(Ordering::Relaxed) % partitions
            }
            (Partitioner::RoundRobin, _) => topic.turn.fetch_add(1, Ordering::Relaxed) % partitions,
            (Partitioner::Custom(choose), key) => choose(Choice { topic: record.topic, key, value: record.value, partitions }) % partitions,
        }
    }

    /// Waits for memory.
    async fn wait_room(&self, bytes: usize, prepaid: &mut Prepaid<'_>) {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        // Whoever stops waiting is counted out too.
        let _out = CountOut(&self.waiting);
        self.wake.notify_one();
        if let Ok(permit) = self.room.acquire_many(bytes.saturating_sub(prepaid.bytes) as u32).await {
            permit.forget();
            prepaid.bytes = bytes;
        }
    }

    /// Makes the lanes of a topic, or of partitions that it has grown by.
    fn add_topic(&self, meta: &TopicMeta) {
        let mut topics = self.topics.write().expect("no code panics while it holds this lock");
        let known = topics.get(&*meta.name).cloned();
        let (topic, mut sinks) = match &known {
            Some(known) => (Arc::clone(&known.0), known.1.clone()),
            None => (Arc::new(TopicSink::new(meta)), Vec::new()),
        };
        let (mut moved, mut left) = (Vec::new(), BTreeSet::new());
        for (sink, owner) in sinks.iter().zip(&meta.owners) {
            let mut lane = sink.lock();
            let before = Arc::clone(&lane.owner);
            if lane.move_to(owner) {
                moved.push(Arc::clone(sink));
                left.insert(before);
            }
        }
        let epoch = self.epochs.lock().expect("no code panics while it holds this lock").get(&*meta.name).copied().unwrap_or(0);
        for (partition, owner) in meta.owners.iter().enumerate().skip(sinks.len()) {
            let lane = Lane::new(Arc::clone(&topic.name), partition as u32, Arc::clone(owner), epoch);
            let id = self.next_sink.fetch_add(1, Ordering::Relaxed);
            let sink =
                Sink { id, topic: Arc::clone(&topic), partition: partition as u32, lane: Mutex::new(lane), listed: AtomicBool::new(false) };
            sinks.push(Arc::new(sink));
        }
        if !sinks.is_empty() {
            topics.insert((*meta.name).into(), Arc::new((topic, sinks)));
        }
        drop(topics);
        moved.iter().for_each(|sink| self.list(sink));
        left.iter().for_each(|endpoint| self.client.leave(endpoint, client::Lane::Produce));
    }

    /// Whether a batch of a topic has failed and none of its partition was acknowledged since.
    fn is_troubled(&self, topic: &Arc<TopicSink>) -> bool {
        let topics = self.topics.read().expect("no code panics while it holds this lock");
        let known = topics.get(&*topic.name).filter(|known| Arc::ptr_eq(&known.0, topic)).cloned();
        drop(topics);
        let waits = |sink: &Arc<Sink>| {
            let lane = sink.lock();
            lane.failures > 0 && !lane.is_idle()
        };
        known.is_some_and(|known| known.1.iter().any(waits))
    }

    /// Has the sender look at a partition.
    fn list(&self, sink: &Arc<Sink>) {
        if sink.listed.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut inbox = self.inbox();
        if !inbox.ended {
            inbox.sinks.push(Arc::clone(sink));
            drop(inbox);
            return self.wake.notify_one();
        }
        drop(inbox);
        // The sender had seen everything decided and has gone; this came too late.
        sink.listed.store(false, Ordering::Release);
        let (decided, freed) = sink.lock().fail_all(&Error::Closed("producer"));
        self.conclude(decided, freed);
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().expect("no code panics while it holds this lock")
    }

    fn take_inbox(&self) -> Inbox {
        let mut inbox = self.inbox();
        Inbox { sinks: std::mem::take(&mut inbox.sinks), silences: std::mem::take(&mut inbox.silences), ended: inbox.ended }
    }

    fn all_sinks(&self) -> Vec<Arc<Sink>> {
        let topics = self.topics.read().expect("no code panics while it holds this lock");
        let mut all: Vec<Arc<Sink>> = topics.values().flat_map(|topic| topic.1.iter().cloned()).collect();
        drop(topics);
        let mut retired = self.retired.lock().expect("no code panics while it holds this lock");
        retired.retain(|sink| !sink.lock().is_idle());
        all.extend(retired.iter().cloned());
        all
    }

    /// Ends the sender's work if everything is decided.
    fn end_if_idle(&self) -> bool {
        let all_idle = self.all_sinks().iter().all(|sink| sink.lock().is_idle());
        let mut inbox = self.inbox();
        inbox.ended = all_idle && inbox.sinks.is_empty();
        inbox.ended
    }

    /// Asks anew where the partitions of a topic live, in the background; once at a time.
    fn refresh(self: &Arc<Self>, topic: &Arc<TopicSink>) {
        if topic.refreshing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (shared, topic) = (Arc::clone(self), Arc::clone(topic));
        tokio::spawn(async move {
            loop {
                match shared.client.refresh_topic(&topic.name).await {
                    Ok(meta) if meta.topic_id == topic.topic_id => shared.add_topic(&meta),
                    // Whoever was asked has not heard of it yet: ids only grow.
                    Ok(meta) if meta.topic_id < topic.topic_id => tracing::debug!(topic = %topic.name, "metadata of an older topic"),
                    Ok(_) => shared.retire(&topic, &Error::Invalid(format!("{} was deleted and created anew", topic.name))),
                    Err(error) if error.code() == Some(Code::UnknownTopic) => shared.retire(&topic, &error),
                    // The batches' own tries tell of it.
                    Err(error) => tracing::debug!(topic = %topic.name, %error, "no metadata"),
                }
                // A new leader is found when it is there, not when the batches are tried again.
                if shared.inbox().ended || !shared.is_troubled(&topic) {
                    break;
                }
                tokio::time::sleep(TROUBLED_LOOK).await;
            }
            topic.refreshing.store(false, Ordering::Release);
        });
    }

    fn refresh_all(self: &Arc<Self>) {
        let topics: Vec<Arc<TopicSink>> = {
            let topics = self.topics.read().expect("no code panics while it holds this lock");
            topics.values().map(|t| Arc::clone(&t.0)).collect()
        };
        topics.iter().for_each(|topic| self.refresh(topic));
    }

    /// Gives up a topic that was deleted. The next record for its name asks for it anew.
    fn retire(&self, topic: &Arc<TopicSink>, error: &Error) {
        let mut topics = self.topics.write().expect("no code panics while it holds this lock");
        let Some(sinks) = topics.get(&*topic.name).filter(|t| Arc::ptr_eq(&t.0, topic)).cloned() else { return };
        topics.remove(&*topic.name);
        self.retired.lock().expect("no code panics while it holds this lock").extend(sinks.1.iter().cloned());
        if let Some(epoch) = sinks.1.iter().map(|sink| sink.lock().epoch_after()).max() {
            self.epochs.lock().expect("no code panics while it holds this lock").insert((*topic.name).into(), epoch);
        }
        drop(topics);
        self.client.forget_topic(&topic.name);
        // What is in flight fails when it comes back.
        let error = topic.gone.get_or_init(|| error.clone());
        for sink in &sinks.1 {
            let (decided, freed) = sink.lock().fail_all(error);
            self.conclude(decided, freed);
        }
    }

    fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    async fn flush(&self) -> Result<()> {
        let mut undecided = Vec::new();
        for sink in self.all_sinks() {
            let batches = sink.lock().flush();
            if !batches.is_empty() {
                self.list(&sink);
                undecided.extend(batches);
            }
        }
        for batch in undecided {
            delivery::decided(batch).await;
        }
        let failure = self.failure.lock().expect("no code panics while it holds this lock").take();
        failure.map_or(Ok(()), Err)
    }

    /// Tells the deliveries of decided batches, and frees their memory.
    fn conclude(&self, decided: impl IntoIterator<Item = lane::Decided>, freed: usize) {
        self.room.add_permits(freed);
        for lane::Decided { done, outcome } in decided {
            if let Err(error) = &outcome {
                self.failure.lock().expect("no code panics while it holds this lock").get_or_insert_with(|| error.clone());
            }
            done.complete(outcome);
        }
    }
}

struct CountOut<'a>(&'a AtomicUsize);

impl Drop for CountOut<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl TopicSink {
    fn new(meta: &TopicMeta) -> Self {
        Self {
            name: Arc::clone(&meta.name),
            topic_id: meta.topic_id,
            batch_bytes: meta.batch_bytes_max,
            sticky: AtomicU32::new(SmallRng::from_os_rng().random()),
            sticky_bytes: AtomicUsize::new(0),
            turn: AtomicU32::new(0),
            refreshing: AtomicBool::new(false),
            gone: OnceLock::new(),
        }
    }
}
