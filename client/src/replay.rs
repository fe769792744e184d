//! Replaying: a stretch of a topic's history, read once at full speed.
//!
//! The stretch is fixed when it begins, by the leaders: each partition from an offset or a time up to where it should end. Fetches run
//! ahead of the reader, within a bound, over several connections per core, and go to a replica in the client's rack where there is one. A replica that fails, or has
//! nothing to say for a while, is left for the leader.

use crate::{
    client::Client,
    error::{Error, Result},
    fetch::{
        Fetcher, Handle, Isolation, Limits, OffsetReset,
        reader::{Open, Reader},
        record::{ConsumerRecord, RecordBatch},
    },
    position::{Position, resolve},
};
use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio_stream::Stream;

/// How long the server may wait for the rest of a stretch that is known to be there.
const WAIT: Duration = Duration::from_millis(500);

/// What to replay. Made by [`Client::replay`].
///
/// ```no_run
/// # async fn example(client: millpond_client::Client) -> millpond_client::Result<()> {
/// use millpond_client::Position;
///
/// let mut records = client.replay("orders").from(Position::Time(1_700_000_000_000)).to(Position::Latest).records().await?;
/// while let Some(record) = records.next().await {
///     let record = record?;
///     println!("{}@{} {:?}", record.partition, record.offset(), record.value());
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a replay reads nothing until `records`, `batches` or `merged`"]
pub struct Replay {
    client: Client,
    topic: String,
    partitions: Option<Vec<u32>>,
    from: Position,
    to: Position,
    buffer_bytes: usize,
    fetch_bytes: usize,
    strands: usize,
    isolation: Isolation,
}

impl Replay {
    pub(crate) fn new(client: Client, topic: String) -> Self {
        Self {
            client,
            topic,
            partitions: None,
            from: Position::Earliest,
            to: Position::Latest,
            buffer_bytes: 64 * 1024 * 1024,
            fetch_bytes: 4 * 1024 * 1024,
            strands: 4,
            isolation: Isolation::default(),
        }
    }

    /// Where to begin. Default: [`Position::Earliest`]. An offset that is no longer in the log is an error; with `Earliest` and `Time`,
    /// records that go while they are replayed are passed over.
    pub fn from(mut self, position: Position) -> Self {
        self.from = position;
        self
    }

    /// Where to end, exclusive: records from there on are not read. Default: [`Position::Latest`], what is committed when the
    /// replay begins. An offset past the end is waited for.
    pub fn to(mut self, position: Position) -> Self {
        self.to = position;
        self
    }

    /// Only these partitions. Default: all.
    pub fn partitions(mut self, partitions: impl IntoIterator<Item = u32>) -> Self {
        self.partitions = Some(partitions.into_iter().collect());
        self
    }

    /// Memory for what was fetched and not read yet, in bytes; at least 128 KiB for each partition. Default: 64 MiB.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = bytes;
        self
    }

    /// What one fetch asks of one partition, in bytes: 64 KiB to 8 MiB. Default: 4 MiB.
    pub fn fetch_bytes(mut self, bytes: usize) -> Self {
        self.fetch_bytes = bytes.clamp(64 * 1024, 8 * 1024 * 1024);
        self
    }

    /// Fetches under way per core: 1 to 64. Default: 4.
    pub fn concurrency(mut self, fetches: usize) -> Self {
        self.strands = fetches.clamp(1, 64);
        self
    }

    /// What of transactions is read. Default: [`Isolation::ReadCommitted`]; then the stretch ends before the first transaction that is open, and an offset behind that,
    /// given to [`Replay::to`], is waited for.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// All records: those of one partition in order, partitions as they come.
    ///
    /// # Errors
    /// If the topic or a partition is not there.
    pub async fn records(self) -> Result<ReplayRecords> {
        let (fetcher, progress) = self.start(false).await?;
        Ok(ReplayRecords { reader: Reader::new(Arc::new(fetcher)), progress, ended: false })
    }

    /// Whole batches, not decoded: the fastest way, and the one to copy with.
    ///
    /// # Errors
    /// If the topic or a partition is not there.
    pub async fn batches(self) -> Result<ReplayBatches> {
        let (fetcher, progress) = self.start(false).await?;
        Ok(ReplayBatches { reader: Reader::new(Arc::new(fetcher)), progress, ended: false })
    }

    /// All records, those of all partitions merged by their timestamps. Where the timestamps of one partition go backwards its own order is kept.
    ///
    /// # Errors
    /// If the topic or a partition is not there.
    pub async fn merged(self) -> Result<ReplayMerged> {
        let (fetcher, progress) = self.start(true).await?;
        let waiting = progress.handles.iter().map(|h| Lane { id: h.id, open: None }).collect();
        Ok(ReplayMerged { fetcher, progress, waiting, heads: BinaryHeap::new(), ended: false })
    }

    async fn start(self, by_part: bool) -> Result<(Fetcher, Progress)> {
        let meta = self.client.refresh_topic(&self.topic).await?;
        let partitions = self.partitions.unwrap_or_else(|| (0..meta.owners.len() as u32).collect());
        if let Some(none) = partitions.iter().find(|p| **p as usize >= meta.owners.len()) {
            return Err(Error::Invalid(format!("{} has {} partitions, there is no {none}", self.topic, meta.owners.len())));
        }
        let at = |position| partitions.iter().map(|p| (*p, position)).collect::<Vec<_>>();
        let from = resolve(&self.client, self.isolation, &self.topic, &at(self.from)).await?;
        let to = resolve(&self.client, self.isolation, &self.topic, &at(self.to)).await?;
        let reset = if matches!(self.from, Position::Offset(_)) { OffsetReset::Fail } else { OffsetReset::Earliest };
        let limits = Limits {
            buffer_bytes: self.buffer_bytes,
            part_bytes_max: self.fetch_bytes,
            strands: self.strands,
            spread: true,
            wait: WAIT,
            replay: true,
            by_part,
            isolation: self.isolation,
        };
        let fetcher = Fetcher::new(self.client, limits, reset);
        let mut progress = Progress { handles: Vec::new(), ranges: Vec::new() };
        let (mut parts, mut beside) = (Vec::new(), Vec::new());
        for ((partition, from), to) in partitions.into_iter().zip(from).zip(to) {
            let handle = Handle::new(Arc::clone(&meta.name), partition, from);
            progress.handles.push(Arc::clone(&handle));
            progress.ranges.push((from, to.max(from)));
            match &meta.near[partition as usize] {
                Some(near) => beside.push((handle, Arc::clone(near), from, Some(to))),
                None => parts.push((handle, Arc::clone(&meta.owners[partition as usize]), from, Some(to))),
            }
        }
        fetcher.add_near(beside);
        fetcher.add(parts);
        Ok((fetcher, progress))
    }
}

/// How far a replay is.
#[derive(Debug)]
struct Progress {
    handles: Vec<Arc<Handle>>,
    ranges: Vec<(u64, u64)>,
}

impl Progress {
    fn total(&self) -> u64 {
        self.ranges.iter().map(|(from, to)| to - from).sum()
    }

    fn passed(&self) -> u64 {
        self.handles.iter().zip(&self.ranges).map(|(h, (from, to))| h.delivered().min(*to).saturating_sub(*from)).sum()
    }
}

macro_rules! stream_of {
    ($name:ident, $item:ty, $poll:expr) => {
        impl $name {
            /// The next one; `None` at the end, and after an error.
            pub async fn next(&mut self) -> Option<Result<$item>> {
                poll_fn(|cx| self.poll_one(cx)).await
            }

            /// Offsets in the stretch, over all partitions: the records in it, unless the topic is compacted or written in transactions.
            #[must_use]
            pub fn total(&self) -> u64 {
                self.progress.total()
            }

            /// Offsets of the stretch that are behind, from 0 to [`Self::total`].
            #[must_use]
            pub fn passed(&self) -> u64 {
                self.progress.passed()
            }

            fn poll_one(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<$item>>> {
                if self.ended {
                    return Poll::Ready(None);
                }
                let polled = $poll(self, cx);
                self.ended = matches!(polled, Poll::Ready(None | Some(Err(_))));
                polled
            }
        }

        impl Stream for $name {
            type Item = Result<$item>;

            fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
                self.poll_one(cx)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).field("passed", &self.passed()).field("total", &self.total()).finish_non_exhaustive()
            }
        }
    };
}

/// A stream of the records of a stretch; see [`Replay::records`]. It ends at the stretch's end or with the first error.
pub struct ReplayRecords {
    reader: Reader,
    progress: Progress,
    ended: bool,
}

stream_of!(ReplayRecords, ConsumerRecord, |this: &mut Self, cx: &mut Context<'_>| this.reader.poll_record(cx));

/// A stream of the batches of a stretch; see [`Replay::batches`]. It ends at the stretch's end or with the first error.
pub struct ReplayBatches {
    reader: Reader,
    progress: Progress,
    ended: bool,
}

stream_of!(ReplayBatches, RecordBatch, |this: &mut Self, cx: &mut Context<'_>| this.reader.poll_batch(cx));

/// A stream of the records of a stretch in the order of time; see [`Replay::merged`].
pub struct ReplayMerged {
    fetcher: Fetcher,
    progress: Progress,
    /// Partitions whose next record is not known.
    waiting: Vec<Lane>,
    heads: BinaryHeap<Reverse<Head>>,
    ended: bool,
}

/// One partition of a merge.
struct Lane {
    id: u64,
    open: Option<Open>,
}

/// The next record of a partition.
struct Head {
    record: ConsumerRecord,
    lane: Lane,
}

impl Head {
    fn key(&self) -> (i64, u32, u64) {
        (self.record.timestamp_ms(), self.record.partition, self.record.offset())
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

stream_of!(ReplayMerged, ConsumerRecord, ReplayMerged::poll_merged);

impl ReplayMerged {
    fn poll_merged(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<ConsumerRecord>>> {
        let mut still = Vec::new();
        while let Some(mut lane) = self.waiting.pop() {
            match self.poll_lane(&mut lane, cx) {
                Poll::Ready(Some(Ok(record))) => self.heads.push(Reverse(Head { record, lane })),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => {}
                Poll::Pending => still.push(lane),
            }
        }
        self.waiting = still;
        if !self.waiting.is_empty() {
            return Poll::Pending;
        }
        let Some(Reverse(Head { record, lane })) = self.heads.pop() else { return Poll::Ready(None) };
        self.waiting.push(lane);
        Poll::Ready(Some(Ok(record)))
    }

    fn poll_lane(&self, lane: &mut Lane, cx: &mut Context<'_>) -> Poll<Option<Result<ConsumerRecord>>> {
        loop {
            if let Some(open) = &mut lane.open {
                match open.next_record() {
                    Some(record) => return Poll::Ready(Some(record)),
                    None => open.close(),
                }
                lane.open = None;
            }
            match self.fetcher.poll_chunk_of(lane.id, cx) {
                Poll::Ready(Some(Ok(chunk))) => lane.open = Some(Open::new(chunk)),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
