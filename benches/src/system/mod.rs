//! The seam: what the harness asks of a system that it measures. [`native`] is Millpond's own protocol; another system is
//! another module beside it that implements these three traits.
//!
//! ```text
//!   System ── create / drop a topic
//!     ├── producer(spec): one connection    put(slot) ... put(slot) ── turn() ──> acks: slots again
//!     └── consumer(spec): one connection    next() ──> bytes, records, stamps
//! ```
//!
//! Time is the driver's: a producer neither waits before it sends nor measures. What is sent was built before the run
//! ([`crate::batches`]), so that the generator costs little CPU beside the server it shares a machine with.

pub mod native;

use crate::batches::Shape;
use anyhow::Result;
use std::{rc::Rc, time::Instant};

/// A topic to be made for a run.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Partitions.
    pub partitions: usize,
}

/// What an ack means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Every replica that must has synced.
    Synced,
    /// The leader has it in memory.
    Leader,
}

/// One connection out of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Its number, from 0.
    pub number: usize,
    /// Connections in all, at least 1.
    pub of: usize,
}

/// A connection that sends.
#[derive(Clone, Debug)]
pub struct ProducerSpec {
    /// Which connection it is.
    pub seat: Seat,
    /// Where to.
    pub topics: Vec<Topic>,
    /// What.
    pub shape: Rc<Shape>,
    /// What an ack means.
    pub acks: Acks,
    /// Batches carry a producer's id and sequences.
    pub idempotent: bool,
    /// Write the intended send time into each batch, in ns since this moment.
    pub stamp_since: Option<Instant>,
}

/// How a consumer reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// From the end on, what comes.
    Follow,
    /// From the start to where the end is now, once, at full speed. `background` asks the system to give it less than others.
    Once {
        /// As a replay beside live traffic.
        background: bool,
    },
    /// The same, again and again.
    Again {
        /// As a replay beside live traffic.
        background: bool,
    },
}

/// A connection that reads.
#[derive(Clone, Debug)]
pub struct ConsumerSpec {
    /// Which connection it is.
    pub seat: Seat,
    /// From where.
    pub topics: Vec<Topic>,
    /// How.
    pub reading: Reading,
    /// Bytes to ask for at a time.
    pub fetch_bytes: usize,
    /// Check the checksum of every batch.
    pub verify: bool,
    /// Take the stamps out of what was sent in this shape with [`ProducerSpec::stamp_since`].
    pub stamps_of: Option<Rc<Shape>>,
}

/// A batch was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The slot it was put with; free again.
    pub slot: usize,
    /// False if the system had no room and took nothing.
    pub taken: bool,
}

/// What a consumer got at once.
#[derive(Clone, Debug, Default)]
pub struct Chunk {
    /// Records.
    pub records: u64,
    /// Bytes of batches as stored.
    pub bytes: u64,
    /// When the request was sent; `None` where nothing was asked for.
    pub asked: Option<Instant>,
    /// Intended send times, one per batch, in ns.
    pub stamps: Vec<u64>,
    /// There is no more.
    pub over: bool,
}

/// A system under test. Futures run on one thread.
pub trait System: Clone + Send + Sync + 'static {
    /// A connection that sends.
    type Producer: Producer + 'static;
    /// A connection that reads.
    type Consumer: Consumer + 'static;

    /// Its name and version, for the report.
    fn describe(&self) -> impl Future<Output = Result<String>>;

    /// Makes a topic, empty, ready to be used.
    fn create(&self, topic: &Topic) -> impl Future<Output = Result<()>>;

    /// Removes it.
    fn delete(&self, topic: &Topic) -> impl Future<Output = Result<()>>;

    /// Opens a connection that sends.
    fn producer(&self, spec: ProducerSpec) -> impl Future<Output = Result<Self::Producer>>;

    /// Opens a connection that reads.
    fn consumer(&self, spec: ConsumerSpec) -> impl Future<Output = Result<Self::Consumer>>;
}

/// A connection that sends.
pub trait Producer {
    /// Partitions that this connection sends to; at least 1.
    fn lanes(&self) -> usize;

    /// Puts a batch on its way to a partition. `slot` comes back with its ack. `intended` is when it was to be sent.
    ///
    /// # Errors
    /// If the connection is broken.
    fn put(&mut self, slot: usize, lane: usize, intended: Instant) -> Result<()>;

    /// Sends what was put and is not sent yet, and adds the acks that have come, at least one. Waits forever if nothing is
    /// under way. Dropping the future loses neither bytes nor acks.
    fn turn(&mut self, acks: &mut Vec<Ack>) -> impl Future<Output = Result<()>>;

    /// Records and bytes of the batches that it sends.
    fn batch(&self) -> (u64, u64);
}

/// A connection that reads.
pub trait Consumer {
    /// The next bytes.
    fn next(&mut self, chunk: &mut Chunk) -> impl Future<Output = Result<()>>;
}
