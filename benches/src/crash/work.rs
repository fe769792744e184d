//! The load: workers that produce, read, commit, trim, and make and delete topics, each over a connection of its own, and enter into the
//! ledger what they do before they do it. They outlive crashes: a round ends when they have been told to rest and all that they
//! began is decided.

use super::ledger::{Fate, Id, Ledger, Presence, Promise, Read, key, time_ms, value};
use anyhow::{Context, Result};
use millpond_client::{
    Acks, Client, Compression, Consumer, Delivery, Effect, Error, NewTopic, OffsetReset, Position, Producer, ProducerRecord,
    messages::Position as Kept,
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};
use tokio::{sync::watch, time::sleep};

/// The topic that a consumer group reads.
pub(crate) const GROUPED: &str = "grouped";
/// The topic of one partition, whose positions are committed from outside.
pub(crate) const SINGLE: &str = "single";
/// The topic whose beginning is deleted again and again.
pub(crate) const TRIMMED: &str = "trimmed";
/// Partitions of [`TRIMMED`].
const TRIMMED_PARTITIONS: u32 = 2;
/// Topics that come and go.
const FLEETING: [&str; 3] = ["fleeting-0", "fleeting-1", "fleeting-2"];
/// Records that a producer may have undecided.
const UNDECIDED_MAX: usize = 20_000;
const MS: Duration = Duration::from_millis(1);

/// What all workers share.
#[derive(Clone, Default)]
pub(crate) struct Shared {
    pub(crate) ledger: Arc<Mutex<Ledger>>,
    /// Acks that a producer has waited for one by one: the moment right after an ack is one to be killed at.
    pub(crate) lone_acks: watch::Sender<u64>,
    /// True once workers should come to rest.
    pub(crate) rest: watch::Sender<bool>,
}

impl Shared {
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no code panics while it holds this lock")
    }

    fn is_resting(&self) -> bool {
        *self.rest.borrow()
    }

    async fn resting(&self) {
        // The sender is `self`.
        let _ = self.rest.subscribe().wait_for(|rest| *rest).await;
    }

    fn wrong(&self, who: &str, error: &Error) {
        self.ledger().wrong.add(format!("{who}: {error} ({})", error.effect()));
    }
}

/// One of them.
pub(crate) struct Worker {
    pub(crate) name: String,
    dice: SmallRng,
    shared: Shared,
    job: Job,
}

enum Job {
    Produce(Produce),
    Read { consumer: Consumer, next: BTreeMap<u32, u64> },
    Group { consumer: Consumer, partitions: u32, is_alone: bool },
    Watch(Client),
    Commit { client: Client, last: u64 },
    Trim(Client),
    Fleet { client: Client, produce: Produce },
}

struct Produce {
    number: u32,
    promise: Promise,
    producer: Producer,
    topics: Vec<(&'static str, u32)>,
    /// Waits for each ack before it sends again.
    lone: bool,
    /// Others wait for less than this after each burst.
    pause: Duration,
}

/// Who is to work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crew {
    /// Idempotent producers that wait for the disk, besides one that waits for each ack.
    pub(crate) producers: usize,
    /// Producers that are promised less, too.
    pub(crate) weaker: bool,
    /// Partitions of the topic that a group reads.
    pub(crate) partitions: u32,
    /// Old records are deleted now and then.
    pub(crate) trims: bool,
    /// Members of that group.
    pub(crate) members: usize,
    /// Producers wait for less than this after each burst.
    pub(crate) pause: Duration,
    /// A connection whose oldest request has waited so long is given up.
    pub(crate) request_timeout: Duration,
}

async fn connect(server: &str, name: &str, request_timeout: Duration) -> Result<Client> {
    let client = Client::builder().bootstrap(server).client_id(name).backoff(5 * MS, 50 * MS).request_timeout(request_timeout);
    client.connect().await.with_context(|| format!("connecting {name}"))
}

/// A client for checks.
pub(crate) async fn auditor(server: &str, request_timeout: Duration) -> Result<Client> {
    connect(server, "auditor", request_timeout).await
}

/// Makes the topics that stay, and the workers. `server` is one or several, with commas between.
pub(crate) async fn hire(server: &str, shared: &Shared, dice: &mut SmallRng, crew: &Crew) -> Result<Vec<Worker>> {
    let connect = |name: String| async move { connect(server, &name, crew.request_timeout).await };
    let admin = connect("foreman".into()).await?.admin();
    let topics = vec![(GROUPED, crew.partitions), (SINGLE, 1), (TRIMMED, TRIMMED_PARTITIONS)];
    for (topic, partitions) in &topics {
        shared.ledger().creating(topic);
        admin.create_topic(lasting(topic).partitions(*partitions)).await.with_context(|| format!("creating {topic}"))?;
        shared.ledger().created(topic);
    }
    let mut workers = Vec::new();
    let mut hire = |name: String, dice: &mut SmallRng, job| {
        let dice = SmallRng::seed_from_u64(dice.random());
        workers.push(Worker { name, dice, shared: shared.clone(), job });
    };
    let (sure, weak, repeating) = ((Acks::All, true), (Acks::Leader, true), (Acks::All, false));
    let weaker = if crew.weaker { &[weak, (Acks::None, false)][..] } else { &[] };
    let kinds = std::iter::repeat_n(sure, crew.producers).chain([sure, repeating]).chain(weaker.iter().copied());
    for (number, (acks, once)) in kinds.enumerate() {
        let client = connect(format!("producer-{number}")).await?;
        let lone = number == crew.producers;
        let producer = producer(&client, dice, acks, once).await?;
        let promise = Promise { durable: acks == Acks::All, once };
        let job = Produce { number: number as u32, promise, producer, topics: topics.clone(), lone, pause: crew.pause };
        hire(format!("producer {number}"), dice, Job::Produce(job));
    }
    for (topic, _) in &topics {
        let client = connect(format!("reader-{topic}")).await?;
        let consumer = client.consumer().topics([*topic]).start(Position::Earliest).offset_reset(OffsetReset::Earliest);
        let consumer = consumer.build().await.context("making a reader")?;
        hire(format!("reader of {topic}"), dice, Job::Read { consumer, next: BTreeMap::new() });
    }
    for number in 0..crew.members {
        let client = connect(format!("member-{number}")).await?;
        let consumer = client.consumer().group("inside").topics([GROUPED]).offset_reset(OffsetReset::Earliest);
        let consumer = consumer.auto_commit(None).build().await.context("making a member")?;
        hire(format!("member {number}"), dice, Job::Group { consumer, partitions: crew.partitions, is_alone: crew.members == 1 });
    }
    hire("watcher".into(), dice, Job::Watch(connect("watcher".into()).await?));
    hire("committer".into(), dice, Job::Commit { client: connect("committer".into()).await?, last: 0 });
    if crew.trims {
        hire("trimmer".into(), dice, Job::Trim(connect("trimmer".into()).await?));
    }
    let client = connect("fleet".into()).await?;
    let producer = producer(&client, dice, Acks::All, true).await?;
    let promise = Promise { durable: true, once: true };
    let produce = Produce { number: 1000, promise, producer, topics: Vec::new(), lone: true, pause: crew.pause };
    hire("fleet".into(), dice, Job::Fleet { client, produce });
    Ok(workers)
}

/// A topic whose records do not grow old.
fn lasting(name: &str) -> NewTopic {
    NewTopic::new(name).set("retention.ms", "-1").if_not_exists()
}

async fn producer(client: &Client, dice: &mut SmallRng, acks: Acks, once: bool) -> Result<Producer> {
    let all = [Compression::None, Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    let compression = all[dice.random_range(0..all.len())];
    let batch_bytes = [1024, 4096, 16 << 10, 256 << 10][dice.random_range(0..4)];
    let building = client.producer().acks(acks).idempotent(once).compression(compression).batch_bytes(batch_bytes);
    building.buffer_bytes(1 << 20).build().await.context("making a producer")
}

impl Worker {
    /// Works until it is told to rest, and then until all it began is decided.
    pub(crate) async fn work(mut self) -> Self {
        let (shared, dice) = (&self.shared, &mut self.dice);
        match &mut self.job {
            Job::Produce(produce) => produce.work(shared, dice).await,
            Job::Read { consumer, next } => read(consumer, next, shared).await,
            Job::Group { consumer, partitions, is_alone } => group(consumer, *partitions, *is_alone, shared, dice).await,
            Job::Watch(client) => watch_positions(client, shared, dice).await,
            Job::Commit { client, last } => commit(client, last, shared, dice).await,
            Job::Trim(client) => trim(client, shared, dice).await,
            Job::Fleet { client, produce } => fleet(client, produce, shared, dice).await,
        }
        self
    }
}

type Undecided = VecDeque<(String, Id, Delivery)>;

impl Produce {
    async fn work(&mut self, shared: &Shared, dice: &mut SmallRng) {
        let mut undecided = Undecided::new();
        while !shared.is_resting() {
            let burst = if self.lone { 1 } else { dice.random_range(1..=40) };
            for _ in 0..burst {
                let (topic, partitions) = self.topics[dice.random_range(0..self.topics.len())];
                let partition = dice.random_range(0..partitions);
                undecided.extend(self.send(shared, topic, partition).await);
            }
            let keep = if self.lone { 0 } else { UNDECIDED_MAX };
            self.decide(shared, &mut undecided, keep).await;
            if !self.lone {
                sleep(dice.random_range(Duration::ZERO..self.pause)).await;
            }
        }
        self.decide(shared, &mut undecided, 0).await;
    }

    /// Hands one record over.
    async fn send(&self, shared: &Shared, topic: &str, partition: u32) -> Option<(String, Id, Delivery)> {
        let (label, id) = {
            let mut ledger = shared.ledger();
            let label = ledger.label(topic, partition);
            let id = ledger.sending(&label, self.number, self.promise);
            (label, id)
        };
        let (value, key) = (value(&label, id), key(id));
        let record = ProducerRecord::to(topic).partition(partition).timestamp_ms(time_ms(id)).value(&value);
        let record = if let Some(key) = &key { record.key(key) } else { record };
        match self.producer.send(record).await {
            Ok(delivery) => Some((label, id, delivery)),
            Err(error) => {
                self.failed(shared, &label, id, &error);
                None
            }
        }
    }

    /// Enters what has been decided, and waits until no more than `keep` are undecided.
    async fn decide(&self, shared: &Shared, undecided: &mut Undecided, keep: usize) {
        while let Some((label, id, delivery)) = undecided.pop_front() {
            let decided = match delivery.now() {
                Some(decided) => decided,
                None if undecided.len() < keep => {
                    undecided.push_front((label, id, delivery));
                    return;
                }
                None => delivery.await,
            };
            match decided {
                Ok(delivered) => {
                    shared.ledger().decided(&label, id, Fate::Acked(delivered.offset));
                    if self.lone {
                        shared.lone_acks.send_modify(|acks| *acks += 1);
                    }
                }
                Err(error) => self.failed(shared, &label, id, &error),
            }
        }
    }

    fn failed(&self, shared: &Shared, label: &str, id: Id, error: &Error) {
        let fate = if error.effect() == Effect::None { Fate::Refused } else { Fate::Unknown };
        shared.ledger().decided(label, id, fate);
        // A topic that has just been made may not be known to every core, and one that was deleted is not known to any.
        if self.promise.durable && self.number < 1000 {
            shared.wrong(&format!("{label}: {id} was not delivered"), error);
        } else {
            let why = error.code().map_or_else(|| error.to_string(), |code| format!("{code:?}"));
            shared.ledger().excuse(format!("{why}, {}", error.effect()));
        }
    }
}

/// Takes what a consumer hands out into the ledger.
fn see(shared: &Shared, record: &millpond_client::ConsumerRecord) {
    let mut ledger = shared.ledger();
    let label = ledger.label(&record.topic, record.partition);
    let (key, value) = (record.key().map(|key| &**key), record.value().map(|value| &**value));
    ledger.seen(&label, &Read { offset: record.offset(), time_ms: record.timestamp_ms(), key, value });
}

/// Reads as it comes. What it gets of a partition is without gaps; what is trimmed may be gone.
async fn read(consumer: &mut Consumer, due: &mut BTreeMap<u32, u64>, shared: &Shared) {
    loop {
        let next = tokio::select! {
            next = consumer.next() => next,
            () = shared.resting() => return,
        };
        match next {
            Some(Ok(record)) => {
                let due = due.entry(record.partition).or_default();
                if &*record.topic != TRIMMED {
                    let label = shared.ledger().label(&record.topic, record.partition);
                    shared.ledger().reads_on(&label, *due, record.offset());
                }
                *due = record.offset() + 1;
                see(shared, &record);
            }
            Some(Err(error)) if error.is_retryable() => {}
            Some(Err(error)) => return shared.wrong("a reader", &error),
            None => return,
        }
    }
}

/// Reads as a member of a group, and commits how far it is.
async fn group(consumer: &mut Consumer, partitions: u32, is_alone: bool, shared: &Shared, dice: &mut SmallRng) {
    // What was committed of a partition when it was not ours yet: we must not begin before that.
    let mut committed = BTreeMap::new();
    while !shared.is_resting() {
        let acked = shared.ledger().acked("inside");
        // Where nobody else commits, what was committed binds at any time.
        let ours = if is_alone { Vec::new() } else { consumer.assignment() };
        for partition in (0..partitions).filter(|n| !ours.iter().any(|(_, ours)| ours == n)) {
            let label = shared.ledger().label(GROUPED, partition);
            committed.insert(partition, acked.get(&label).copied().unwrap_or_default());
        }
        match consumer.poll(dice.random_range(1..200), 5 * MS).await {
            Ok(records) => records.iter().for_each(|record| see(shared, record)),
            Err(error) if error.is_retryable() => {}
            Err(error) => shared.wrong("a member of a group", &error),
        }
        let mut positions = Vec::new();
        for (topic, partition) in consumer.assignment() {
            let Some(offset) = consumer.position(&topic, partition) else { continue };
            let label = shared.ledger().label(&topic, partition);
            if let Some(committed) = committed.remove(&partition) {
                shared.ledger().stands("inside", &label, offset, committed);
            }
            if offset == 0 {
                continue;
            }
            shared.ledger().committing("inside", &label, offset);
            positions.push((label, (topic.to_string(), partition, offset)));
        }
        let committing = consumer.commit_positions(positions.iter().map(|(_, position)| position.clone()));
        let began = Instant::now();
        // A server that came back does not know its members: they join again.
        if !positions.is_empty() && committing.await.is_ok() {
            let took = began.elapsed();
            positions.iter().for_each(|(label, (_, _, offset))| shared.ledger().committed("inside", label, *offset, took));
        }
    }
}

/// Asks for positions: they are never behind what was committed before.
async fn watch_positions(client: &Client, shared: &Shared, dice: &mut SmallRng) {
    while !shared.is_resting() {
        for group in ["inside", "outside"] {
            let acked = shared.ledger().acked(group);
            if acked.is_empty() {
                continue;
            }
            match client.admin().positions(group).await {
                Ok(positions) => {
                    let mut ledger = shared.ledger();
                    let told: BTreeMap<String, u64> = positions.into_iter().map(|((t, p), offset)| (ledger.label(&t, p), offset)).collect();
                    acked.iter().for_each(|(label, committed)| ledger.told(group, label, told.get(label).copied(), *committed));
                }
                Err(error) => shared.wrong("a look at positions", &error),
            }
        }
        sleep(dice.random_range(5..50) * MS).await;
    }
}

/// Commits positions of a group that has no members, one after the other.
async fn commit(client: &Client, last: &mut u64, shared: &Shared, dice: &mut SmallRng) {
    let label = shared.ledger().label(SINGLE, 0);
    while !shared.is_resting() {
        let end = shared.ledger().end(&label);
        if *last < end {
            let offset = dice.random_range(*last + 1..=end);
            shared.ledger().committing("outside", &label, offset);
            let position = Kept { topic: SINGLE.into(), offset, ..Kept::default() };
            let began = Instant::now();
            match client.admin().commit_positions("outside", vec![position]).await {
                Ok(()) => shared.ledger().committed("outside", &label, offset, began.elapsed()),
                Err(error) => shared.wrong("a commit from outside", &error),
            }
            *last = offset;
        }
        sleep(dice.random_range(0..4) * MS).await;
    }
}

async fn trim(client: &Client, shared: &Shared, dice: &mut SmallRng) {
    while !shared.is_resting() {
        sleep(dice.random_range(10..80) * MS).await;
        let partition = dice.random_range(0..TRIMMED_PARTITIONS);
        let label = shared.ledger().label(TRIMMED, partition);
        let end = shared.ledger().end(&label);
        // All of it now and then, else what is old.
        let before = if dice.random_bool(0.2) { end } else { dice.random_range(0..=end) };
        shared.ledger().trimming(&label, before);
        match client.admin().delete_records(TRIMMED, partition, before).await {
            Ok(start) => shared.ledger().trimmed(&label, start),
            Err(error) => shared.wrong("a trim", &error),
        }
    }
}

/// Makes topics, puts something into them, and deletes them again.
async fn fleet(client: &Client, produce: &mut Produce, shared: &Shared, dice: &mut SmallRng) {
    while !shared.is_resting() {
        let topic = FLEETING[dice.random_range(0..FLEETING.len())];
        let is_there = shared.ledger().presence(topic) == Presence::There;
        if is_there && dice.random_bool(0.4) {
            shared.ledger().deleting(topic);
            match client.admin().delete_topic(topic, true).await {
                Ok(()) => shared.ledger().deleted(topic),
                Err(error) => shared.wrong("deleting a topic", &error),
            }
            continue;
        }
        if !is_there {
            shared.ledger().creating(topic);
            match client.admin().create_topic(lasting(topic)).await {
                Ok(_) => shared.ledger().created(topic),
                Err(error) => shared.wrong("creating a topic", &error),
            }
        }
        let mut undecided = Undecided::new();
        for _ in 0..dice.random_range(1..20) {
            undecided.extend(produce.send(shared, topic, 0).await);
        }
        produce.decide(shared, &mut undecided, 0).await;
        sleep(dice.random_range(1..10) * MS).await;
    }
}
