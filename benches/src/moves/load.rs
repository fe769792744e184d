//! The load: a writer per partition sends records at an even pace and waits for none of them, with the default settings of the client; what
//! it sends goes into the ledger. A reader follows all partitions.
//!
//! A record counts from when it was handed over, or from when it was due if the writer was late for it. A partition stands still from its last ack,
//! or from when the record behind that was sent, until its next ack.

use crate::{
    cluster::timeline::Timeline,
    crash::{
        ledger::{Fate, Promise, Read, key, time_ms, value},
        work::Shared,
    },
    measure::{latencies, record},
};
use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use millpond_client::{Acks, Client, Delivery, Effect, OffsetReset, Position, Producer, ProducerRecord};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant as At, sleep_until},
};

/// The topic that is written to.
pub(super) const TOPIC: &str = "moves";
/// What all producers are promised.
const PROMISE: Promise = Promise { durable: true, once: true };
/// A writer that is so late counts from when it was due.
const LATE: Duration = Duration::from_millis(5);
/// Longer pauses are told in the timeline.
const PAUSE_TOLD: Duration = Duration::from_millis(25);
/// Records of a writer that are not acknowledged yet: more than are sent while a cluster is whole again.
const UNACKED_MAX: usize = 100_000;
/// Records that are sent at once while partitions are filled.
const FILL_AT_ONCE: usize = 200;

/// What was measured since that was last taken.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) latency: Histogram<u64>,
    pub(super) failed: u64,
    /// The longest time in which one partition stood still.
    pub(super) pause: Duration,
    /// Which that was.
    pub(super) paused: usize,
    /// Records that the reader got.
    pub(super) read: u64,
}

impl Default for Measured {
    fn default() -> Self {
        Self { latency: latencies(), failed: 0, pause: Duration::ZERO, paused: 0, read: 0 }
    }
}

impl Measured {
    /// Adds what came later.
    pub(super) fn add(&mut self, later: &Self) {
        self.latency.add(&later.latency).expect("histograms of the same bounds");
        self.failed += later.failed;
        self.read += later.read;
        self.paused(later.pause, later.paused);
    }

    fn paused(&mut self, pause: Duration, partition: usize) {
        if pause > self.pause {
            (self.pause, self.paused) = (pause, partition);
        }
    }
}

/// What writers, the reader and whoever watches them share.
#[derive(Clone)]
pub(super) struct Watch {
    pub(super) shared: Shared,
    timeline: Arc<Timeline>,
    measured: Arc<Mutex<Measured>>,
    /// Why records were not delivered, or read.
    failures: Arc<Mutex<Vec<String>>>,
}

impl Watch {
    pub(super) fn new(timeline: Arc<Timeline>) -> Self {
        Self { shared: Shared::default(), timeline, measured: Arc::default(), failures: Arc::default() }
    }

    fn measured(&self) -> MutexGuard<'_, Measured> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was measured since the last call.
    pub(super) fn take(&self) -> Measured {
        std::mem::take(&mut *self.measured())
    }

    /// Why some failed.
    pub(super) fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn failed(&self, what: String) {
        self.measured().failed += 1;
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < 10 {
            failures.push(what);
        }
    }
}

/// See the module. Ends with this, or by [`Load::end`].
pub(super) struct Load {
    watch: Watch,
    going: watch::Sender<bool>,
    writers: JoinSet<Result<()>>,
}

/// One that sends to one partition.
struct Writer {
    producer: Producer,
    number: u32,
    partition: u32,
    label: String,
    watch: Watch,
}

impl Load {
    /// Fills the partitions with so many bytes, and then begins to send so many records per second.
    pub(super) async fn begin(
        servers: &str,
        partitions: usize,
        producers: usize,
        rate: usize,
        fill_bytes: u64,
        watch: &Watch,
    ) -> Result<Self> {
        let mut shared = Vec::new();
        for number in 0..producers.min(partitions) {
            let client = Client::builder().bootstrap(servers).client_id(format!("producer-{number}")).connect().await?;
            shared.push(client.producer().acks(Acks::All).build().await?);
        }
        let (going, goes) = watch::channel(true);
        let writer = |partition: usize| {
            let number = partition % shared.len();
            let label = watch.shared.ledger().label(TOPIC, partition as u32);
            Writer { producer: shared[number].clone(), number: number as u32, partition: partition as u32, label, watch: watch.clone() }
        };
        let mut filling = JoinSet::new();
        for partition in 0..partitions {
            filling.spawn(writer(partition).fill(fill_bytes / partitions as u64));
        }
        while let Some(filled) = filling.join_next().await {
            filled.context("a writer")??;
        }
        watch.take();
        let mut writers = JoinSet::new();
        let every = Duration::from_secs_f64(partitions as f64 / rate as f64);
        let began = At::now();
        for partition in 0..partitions {
            let first = began + every.mul_f64(partition as f64 / partitions as f64);
            writers.spawn(writer(partition).write(first, every, goes.clone()));
        }
        writers.spawn(follow(servers.to_owned(), watch.clone(), goes));
        Ok(Self { watch: watch.clone(), going, writers })
    }

    /// Fails if a writer has ended.
    pub(super) fn look(&mut self) -> Result<()> {
        match self.writers.try_join_next() {
            None => Ok(()),
            Some(ended) => {
                ended.context("a writer")??;
                bail!("a writer has ended before it should")
            }
        }
    }

    /// Ends it, and waits until all that was sent is decided.
    pub(super) async fn end(mut self) -> Result<()> {
        self.going.send_replace(false);
        while let Some(ended) = self.writers.join_next().await {
            ended.context("a writer")??;
        }
        let failures = self.watch.failures();
        if failures.is_empty() { Ok(()) } else { bail!("requests failed:\n  {}", failures.join("\n  ")) }
    }
}

type Sent = (Instant, crate::crash::ledger::Id, Delivery);

impl Writer {
    async fn send(&self) -> Result<(crate::crash::ledger::Id, Delivery, u64)> {
        let id = self.watch.shared.ledger().sending(&self.label, self.number, PROMISE);
        let (key, value) = (key(id), value(&self.label, id));
        let record = ProducerRecord::to(TOPIC).partition(self.partition).timestamp_ms(time_ms(id)).value(&value);
        let record = if let Some(key) = &key { record.key(key) } else { record };
        Ok((id, self.producer.send(record).await.context("handing a record over")?, value.len() as u64))
    }

    /// Sends so many bytes as fast as it goes.
    async fn fill(self, mut bytes: u64) -> Result<()> {
        while bytes > 0 {
            let mut sent = Vec::new();
            while bytes > 0 && sent.len() < FILL_AT_ONCE {
                let (id, delivery, len) = self.send().await?;
                bytes = bytes.saturating_sub(len);
                sent.push((id, delivery));
            }
            for (id, delivery) in sent {
                self.decide(id, delivery).await;
            }
        }
        Ok(())
    }

    /// Sends at an even pace until it is told to stop, and until all is decided.
    async fn write(self, first: At, every: Duration, mut goes: watch::Receiver<bool>) -> Result<()> {
        let (sent, acks) = mpsc::channel::<Sent>(UNACKED_MAX);
        let sending = async {
            // Dropped at the end, which ends the other side.
            let sent = sent;
            let mut due = first;
            loop {
                tokio::select! {
                    () = sleep_until(due) => {}
                    _ = goes.wait_for(|goes| !goes) => return anyhow::Ok(()),
                }
                let now = Instant::now();
                let counts = if now > due.into_std() + LATE { due.into_std() } else { now };
                let (id, delivery, _) = self.send().await?;
                sent.send((counts, id, delivery)).await.context("nobody waits for acks")?;
                due += every;
            }
        };
        tokio::try_join!(sending, self.listen(acks)).map(drop)
    }

    /// Waits for acks, which come in order.
    async fn listen(&self, mut acks: mpsc::Receiver<Sent>) -> Result<()> {
        let mut last = Instant::now();
        while let Some((sent, id, delivery)) = acks.recv().await {
            self.decide(id, delivery).await;
            let now = Instant::now();
            let pause = now.saturating_duration_since(last.max(sent));
            if pause > PAUSE_TOLD {
                self.watch.timeline.say(&format!("partition {} stood still for {pause:.1?}", self.partition))?;
            }
            let mut measured = self.watch.measured();
            record(&mut measured.latency, now - sent);
            measured.paused(pause, self.partition as usize);
            last = now;
        }
        Ok(())
    }

    async fn decide(&self, id: crate::crash::ledger::Id, delivery: Delivery) {
        let fate = match delivery.await {
            Ok(delivered) => Fate::Acked(delivered.offset),
            Err(error) => {
                self.watch.failed(format!("{}: {id}: {error}", self.label));
                if error.effect() == Effect::None { Fate::Refused } else { Fate::Unknown }
            }
        };
        self.watch.shared.ledger().decided(&self.label, id, fate);
    }
}

/// Reads all from the end on, without gaps, until it is told to stop.
async fn follow(servers: String, watch: Watch, mut goes: watch::Receiver<bool>) -> Result<()> {
    let client = Client::builder().bootstrap(&servers).client_id("reader").connect().await?;
    let consumer = client.consumer().topics([TOPIC]).start(Position::Latest).offset_reset(OffsetReset::Earliest);
    let mut consumer = consumer.build().await.context("making a reader")?;
    let mut next = std::collections::BTreeMap::<u32, u64>::new();
    loop {
        let record = tokio::select! {
            record = consumer.next() => record.context("the reader has come to an end")?,
            _ = goes.wait_for(|goes| !goes) => return Ok(()),
        };
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                watch.failed(format!("the reader: {error}"));
                continue;
            }
        };
        watch.measured().read += 1;
        let mut ledger = watch.shared.ledger();
        let label = ledger.label(TOPIC, record.partition);
        if let Some(due) = next.insert(record.partition, record.offset() + 1) {
            ledger.reads_on(&label, due, record.offset());
        }
        let (key, value) = (record.key().map(|key| &**key), record.value().map(|value| &**value));
        ledger.seen(&label, &Read { offset: record.offset(), time_ms: record.timestamp_ms(), key, value });
    }
}
