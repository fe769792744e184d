//! Loading: every flight is handed to one idempotent producer in the order of the file; what becomes of each is noted.

use super::{NUMBER, TOPIC, check::Ack};
use crate::flights::Flight;
use anyhow::{Context, Result};
use indicatif::ProgressBar;
use millpond_client::{Client, Delivery, ProducerRecord};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
};

/// Batches are full at this size.
const BATCH_BYTES: usize = 64 * 1024;
/// Records that wait for their acks take so much memory at most: what is in flight when the server is killed.
const BUFFER_BYTES: usize = 1 << 20;

/// One record's way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) handed: Instant,
    pub(super) acked: Instant,
    pub(super) ack: Ack,
}

/// How far the load is.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) handed: AtomicUsize,
    pub(super) acked: AtomicUsize,
    /// Told once so many are acknowledged.
    pub(super) middle: usize,
    pub(super) reached: Notify,
}

impl Counts {
    pub(super) fn new(records: usize) -> Self {
        Self { handed: AtomicUsize::new(0), acked: AtomicUsize::new(0), middle: records / 2, reached: Notify::new() }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.handed.load(Ordering::Relaxed).saturating_sub(self.acked.load(Ordering::Relaxed))
    }
}

type Handed = (usize, Instant, Delivery);

/// Loads all of them; each one's way, in the order of the input.
pub(super) async fn load(
    client: Client,
    flights: Arc<Vec<Flight>>,
    partitions: usize,
    counts: Arc<Counts>,
    bar: ProgressBar,
) -> Result<Vec<Way>> {
    let building = client.producer().batch_bytes(BATCH_BYTES).buffer_bytes(BUFFER_BYTES).delivery_timeout(Duration::from_secs(300));
    let producer = building.build().await.context("making a producer")?;
    let mut waiting = JoinSet::new();
    let mut lanes = Vec::new();
    for _ in 0..partitions {
        // Bounded by the producer's memory.
        let (lane, acks) = mpsc::unbounded_channel();
        lanes.push(lane);
        waiting.spawn(wait(acks, Arc::clone(&counts), bar.clone()));
    }
    for (n, flight) in flights.iter().enumerate() {
        let number = (n as u64).to_be_bytes();
        let record = ProducerRecord::to(TOPIC).key(&*flight.key).value(&*flight.line).timestamp_ms(flight.time_ms);
        let handed = Instant::now();
        let delivery = producer.send(record.header(NUMBER, &number)).await.with_context(|| format!("sending record {n}"))?;
        counts.handed.fetch_add(1, Ordering::Relaxed);
        let lane = lanes.get(delivery.partition() as usize).context("a partition that was not asked for")?;
        if lane.send((n, handed, delivery)).is_err() {
            // Whoever waited has failed and says why.
            break;
        }
    }
    drop(lanes);
    let mut ways = vec![None; flights.len()];
    while let Some(done) = waiting.join_next().await {
        for (n, way) in done.context("waiting for acks")?? {
            ways[n] = Some(way);
        }
    }
    producer.close().await.context("closing the producer")?;
    ways.into_iter().enumerate().map(|(n, way)| way.with_context(|| format!("record {n} has no ack"))).collect()
}

/// Waits for the acks of one partition, which come in order.
async fn wait(mut handed: mpsc::UnboundedReceiver<Handed>, counts: Arc<Counts>, bar: ProgressBar) -> Result<Vec<(usize, Way)>> {
    let mut ways = Vec::new();
    while let Some((n, handed, delivery)) = handed.recv().await {
        let delivered = delivery.await.with_context(|| format!("record {n} was not delivered"))?;
        let offset = delivered.offset.with_context(|| format!("record {n} was acknowledged without an offset"))?;
        ways.push((n, Way { handed, acked: Instant::now(), ack: Ack { partition: delivered.partition, offset } }));
        if counts.acked.fetch_add(1, Ordering::Relaxed) + 1 == counts.middle {
            counts.reached.notify_one();
        }
        bar.inc(1);
    }
    Ok(ways)
}
