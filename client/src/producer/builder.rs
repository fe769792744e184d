//! How to produce: every setting with its default, and the making of a producer.

use super::{Handle, IN_FLIGHT_MAX, Inbox, Producer, RECORD_BYTES_MAX, Shared, lane::Rules, partitioner::Partitioner, sender::Sender};
use crate::{
    client::{Client, Repeat},
    error::Result,
};
use millpond_batch::Compression;
use millpond_wire::messages::{Acks, InitProducer, InitProducerReply, Kind};
use std::{
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize},
    },
    time::Duration,
};
use tokio::sync::{Notify, Semaphore};

/// How to produce. Made by [`Client::producer`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct ProducerBuilder {
    client: Client,
    partitioner: Partitioner,
    acks: Acks,
    idempotent: bool,
    linger: Option<Duration>,
    batch_bytes: usize,
    compression: Compression,
    in_flight_max: usize,
    buffer_bytes: usize,
    delivery_timeout: Duration,
}

impl ProducerBuilder {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            partitioner: Partitioner::default(),
            acks: Acks::All,
            idempotent: true,
            linger: None,
            batch_bytes: 256 * 1024,
            compression: Compression::None,
            in_flight_max: IN_FLIGHT_MAX,
            buffer_bytes: 64 * 1024 * 1024,
            delivery_timeout: Duration::from_secs(120),
        }
    }

    /// How records that name no partition are spread. Default: by key, as Kafka does.
    pub fn partitioner(mut self, partitioner: Partitioner) -> Self {
        self.partitioner = partitioner;
        self
    }

    /// What the server waits for before it answers. Default: [`Acks::All`], every disk has synced. With [`Acks::Leader`] a crash of the
    /// server loses what is not synced yet; with [`Acks::None`] nobody tells whether anything arrived, and the producer
    /// is not idempotent.
    pub fn acks(mut self, acks: Acks) -> Self {
        self.acks = acks;
        self
    }

    /// Whether the server recognises batches that are sent again. Default: yes. Without it a record may be appended twice, and
    /// order holds only with `in_flight_max(1)`.
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        self.idempotent = idempotent;
        self
    }

    /// How long a batch waits to be filled. Default: not at all while nothing of its partition is in flight, else until an answer
    /// comes, at most 5 ms: a lone record goes at once, and under load batches grow by themselves.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = Some(linger);
        self
    }

    /// Size at which a batch is full, in bytes before compression; 1 KiB to 16 MiB. Default: 256 KiB, or less where a topic takes less. A
    /// larger record gets a batch of its own.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = bytes.clamp(1024, RECORD_BYTES_MAX);
        self
    }

    /// How batches are compressed. Default: not at all.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Batches of one partition in flight: 1 to 5. Default: 5.
    pub fn in_flight_max(mut self, batches: usize) -> Self {
        self.in_flight_max = batches.clamp(1, IN_FLIGHT_MAX);
        self
    }

    /// Memory for records that are not delivered yet, in bytes; beyond it [`Producer::send`] waits. Default: 64 MiB.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = bytes.clamp(1024, Semaphore::MAX_PERMITS);
        self
    }

    /// A record that is not delivered after this time, with all tries, has failed. Default: 120 s.
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.delivery_timeout = timeout;
        self
    }

    /// Makes the producer; an idempotent one gets its id from the server.
    ///
    /// # Errors
    /// If no server answers in time.
    pub async fn build(self) -> Result<Producer> {
        let producer_id = if self.idempotent && self.acks != Acks::None {
            let reply: InitProducerReply =
                self.client.ask("asking for a producer id", Kind::InitProducer, &InitProducer {}, Repeat::Freely).await?;
            Some(reply.producer_id as i64)
        } else {
            None
        };
        let rules = Rules {
            in_flight_max: self.in_flight_max,
            linger: self.linger,
            delivery_timeout: self.delivery_timeout,
            batch_bytes: self.batch_bytes,
            compression: self.compression,
            producer_id,
        };
        let shared = Arc::new(Shared {
            client: self.client,
            partitioner: self.partitioner,
            acks: self.acks,
            rules,
            topics: RwLock::default(),
            room: Arc::new(Semaphore::new(self.buffer_bytes)),
            buffer_bytes: self.buffer_bytes,
            waiting: AtomicUsize::new(0),
            inbox: Mutex::<Inbox>::default(),
            wake: Notify::new(),
            closing: AtomicBool::new(false),
            failure: Mutex::default(),
            next_sink: AtomicU64::new(0),
            retired: Mutex::default(),
            epochs: Mutex::default(),
        });
        tokio::spawn(Sender::new(Arc::clone(&shared)).run());
        Ok(Producer { handle: Arc::new(Handle { shared }) })
    }
}
