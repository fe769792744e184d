//! A connection that produces: batches built in advance, stamped anew for each send.

use super::{
    Place,
    conn::{Conn, answer, describe},
};
use crate::{
    args::Codec,
    batches::{STAMP_BYTES, Shape},
    system::{Ack, Acks, Producer, ProducerSpec},
};
use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;
use millpond_batch::{Builder, Compression, Header, builder::NO_HEADERS, header::seal};
use millpond_wire::{
    frame::{Flags, encode},
    messages::{Acks as WireAcks, Code, Kind, Produce, ProduceBatch, ProduceReply},
};
use std::time::{Duration, Instant, SystemTime};

/// Where a batch's header has what is stamped here; see `millpond_batch`.
const BASE_TIMESTAMP_AT: usize = 27;
const MAX_TIMESTAMP_AT: usize = 35;
const PRODUCER_AT: usize = 43;
/// Where a frame has its correlation.
const CORRELATION_AT: usize = 8;

/// Frame heads per batch length are kept for each partition; lengths differ only where batches are compressed.
#[derive(Debug)]
struct Lane {
    place: Place,
    /// Head and message for batches of `head_for` bytes.
    head: BytesMut,
    head_for: usize,
    sequence: u32,
}

/// See the module.
#[derive(Debug)]
pub struct NativeProducer {
    conn: Conn,
    lanes: Vec<Lane>,
    pool: Vec<BytesMut>,
    next: usize,
    acks: WireAcks,
    id: Option<(u64, u32)>,
    records: u32,
    bytes: u64,
    stamp: Option<(Instant, usize)>,
    /// The same moment on both clocks.
    clock: (Instant, i64),
}

/// Where in a batch its stamp lies: the first value's beginning.
pub(crate) fn stamp_at(shape: &Shape) -> Result<usize> {
    ensure!(shape.takes_stamps(), "times from end to end need values of {STAMP_BYTES} bytes at least, and no compression by the producer");
    // The value differs in every byte from its neighbour, so where the batches of two values first differ is its beginning.
    let build = |byte: u8| {
        let mut records = shape.batch(0);
        records[0].value.fill(byte);
        build_records(shape, &records)
    };
    let (a, b) = (build(0)?, build(0xFF)?);
    let body = 61..a.len();
    body.clone().find(|at| a[*at] != b[*at]).context("batches of different values are the same")
}

fn build_records(shape: &Shape, records: &[crate::batches::Record]) -> Result<BytesMut> {
    let codec = match shape.compression {
        Codec::None => Compression::None,
        Codec::Gzip => Compression::Gzip,
        Codec::Snappy => Compression::Snappy,
        Codec::Lz4 => Compression::Lz4,
        Codec::Zstd => Compression::Zstd,
    };
    let mut builder = Builder::new(codec, 128 + records.len() * (shape.value_bytes + 40));
    for record in records {
        builder.append(0, record.key.as_deref(), Some(&record.value), NO_HEADERS);
    }
    builder.build(None).context("building a batch")
}

impl NativeProducer {
    pub(crate) fn new(conn: Conn, places: &[Place], spec: &ProducerSpec, id: Option<(u64, u32)>) -> Result<Self> {
        let shape = &spec.shape;
        let first = (spec.seat.number * shape.pool()) as u64;
        let pool = (0..shape.pool() as u64).map(|n| build_records(shape, &shape.batch(first + n))).collect::<Result<Vec<_>>>()?;
        let bytes = pool.iter().map(|batch| batch.len() as u64).sum::<u64>() / pool.len() as u64;
        let lane = |place: &Place| Lane { place: place.clone(), head: BytesMut::new(), head_for: 0, sequence: 0 };
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Ok(Self {
            conn,
            lanes: places.iter().map(lane).collect(),
            next: 0,
            acks: match spec.acks {
                Acks::Synced => WireAcks::All,
                Acks::Leader => WireAcks::Leader,
            },
            id,
            records: Header::parse(&pool[0])?.count,
            bytes,
            stamp: spec.stamp_since.map(|since| stamp_at(shape).map(|at| (since, at))).transpose()?,
            clock: (Instant::now(), wall.as_millis() as i64),
            pool,
        })
    }

    fn acked(frame: &millpond_wire::frame::Frame) -> Result<Ack> {
        let slot = frame.correlation as usize;
        let reply: ProduceReply = answer(frame)?;
        let [result] = &reply.results[..] else { bail!("{} results for one batch", reply.results.len()) };
        match &result.failure {
            None => Ok(Ack { slot, taken: true }),
            Some(failure) if failure.code == Code::Overloaded as i32 => Ok(Ack { slot, taken: false }),
            Some(failure) => bail!("the server refused a batch: {}", describe(failure)),
        }
    }
}

impl Producer for NativeProducer {
    fn lanes(&self) -> usize {
        self.lanes.len()
    }

    fn put(&mut self, slot: usize, lane: usize, intended: Instant) -> Result<()> {
        self.next = if self.next + 1 < self.pool.len() { self.next + 1 } else { 0 };
        let (batch, lane) = (&mut self.pool[self.next], &mut self.lanes[lane]);
        let ms = self.clock.1 + intended.saturating_duration_since(self.clock.0).as_millis() as i64;
        batch[BASE_TIMESTAMP_AT..MAX_TIMESTAMP_AT].copy_from_slice(&ms.to_be_bytes());
        batch[MAX_TIMESTAMP_AT..PRODUCER_AT].copy_from_slice(&ms.to_be_bytes());
        if let Some((id, epoch)) = self.id {
            batch[PRODUCER_AT..PRODUCER_AT + 8].copy_from_slice(&id.to_be_bytes());
            batch[PRODUCER_AT + 8..PRODUCER_AT + 10].copy_from_slice(&(epoch as u16).to_be_bytes());
            batch[PRODUCER_AT + 10..PRODUCER_AT + 14].copy_from_slice(&lane.sequence.to_be_bytes());
            // Sequences go round after 2^31 - 1, as Kafka's do.
            lane.sequence = (lane.sequence + self.records) & 0x7FFF_FFFF;
        }
        if let Some((since, at)) = self.stamp {
            let ns = intended.saturating_duration_since(since).as_nanos() as u64;
            batch[at..at + STAMP_BYTES].copy_from_slice(&ns.to_be_bytes());
        }
        seal(batch);
        if lane.head_for != batch.len() {
            let place = ProduceBatch { topic: lane.place.topic.clone(), partition: lane.place.partition, len: u32::try_from(batch.len())? };
            let message = Produce { batches: vec![place], acks: self.acks as i32 };
            lane.head = BytesMut::from(&encode(Kind::Produce, Flags::REQUEST, 0, &message, batch.len())[..]);
            lane.head_for = batch.len();
        }
        lane.head[CORRELATION_AT..CORRELATION_AT + 8].copy_from_slice(&(slot as u64).to_le_bytes());
        self.conn.send(&lane.head, batch)
    }

    async fn turn(&mut self, acks: &mut Vec<Ack>) -> Result<()> {
        let before = acks.len();
        loop {
            while let Some(frame) = self.conn.take()? {
                acks.push(Self::acked(&frame)?);
            }
            if acks.len() > before {
                return Ok(());
            }
            self.conn.receive().await?;
        }
    }

    fn batch(&self) -> (u64, u64) {
        (u64::from(self.records), self.bytes)
    }
}
