//! What the cores tell about themselves.
//!
//! A core counts in plain integers of its own ([`CoreSnapshot`], no atomics, no locks) and sends a copy to the control
//! thread about once a second. [`render`] turns the newest copy of every core into OpenMetrics text.
//!
//! Counters only grow while the process lives and begin at 0 when it starts; gauges are as they were when the copy was made.
//! Everything is bounded: request kinds and error codes are the protocol's, per-topic numbers are cut at
//! [`TOPICS_MAX`], and what is cut is counted in [`CoreSnapshot::topics_left_out`].

mod cluster;
mod latency;
mod render;
#[cfg(test)]
mod tests;

pub use cluster::{ClusterSnapshot, LedSnapshot, PEERS_MAX, PeerSnapshot};
pub use latency::{BOUNDS_NS, Latency};
pub use render::{CONTENT_TYPE, render};

use millpond_log::{LogStats, stats::SYNC_BUCKETS_US};
use millpond_wire::messages::{Code, Kind};

/// Kinds of request there are, [`Kind::Unknown`] included.
pub const KINDS: usize = Kind::Login as usize + 1;
/// Codes of failure there are, [`Code::Ok`] included.
pub const CODES: usize = Code::Unauthenticated as usize + 1;
/// Most topics, and most group positions, that one core tells about one by one.
pub const TOPICS_MAX: usize = 1_000;

/// One core at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CoreSnapshot {
    /// Which core.
    pub core: u16,
    /// Least that a file system of its homes has left, in bytes.
    pub disk_free_bytes: u64,
    /// What that file system has in all, in bytes; 0 until it was looked at.
    pub disk_bytes: u64,
    /// Time it has been busy since the start, in ns. Its rate is the utilisation over any window.
    pub busy_ns: u64,
    /// Time since the start, in ns.
    pub up_ns: u64,
    /// Share of the last second that it was busy, 0 to 1.
    pub utilisation: f64,
    /// Every bounded queue that the core reads from or owns.
    pub queues: Vec<QueueSnapshot>,
    /// Its journals, added up: `JournalSnapshot::from(&log.stats())`.
    pub journal: JournalSnapshot,
    /// Bytes in segments of its partitions.
    pub segment_bytes: u64,
    /// Segments of its partitions.
    pub segments: u64,
    /// Bytes of unsettled entries and of cache in memory.
    pub tail_bytes: u64,
    /// Partitions it owns.
    pub partitions: u64,
    /// Memory it accounts for (tail, buffers, frames under way), in bytes.
    pub memory_bytes: u64,
    /// Its budget, in bytes.
    pub memory_bytes_max: u64,
    /// Connections open now.
    pub connections: u64,
    /// Connections accepted.
    pub connections_accepted: u64,
    /// Connections refused or closed for breaking the protocol or a limit.
    pub connections_refused: u64,
    /// Clients that have not shown who they are.
    pub logins_refused: u64,
    /// Bytes received from clients.
    pub bytes_in: u64,
    /// Bytes sent to clients.
    pub bytes_out: u64,
    /// Records appended.
    pub records_in: u64,
    /// Records sent by fetches.
    pub records_out: u64,
    /// Batches appended.
    pub batches_in: u64,
    /// Milliseconds of throttling that quotas gave out.
    pub throttled_ms: u64,
    /// Requests answered, by [`Kind`] as index, with the time from the whole frame to the whole reply.
    pub requests: PerKind,
    /// Failures answered, by [`Code`] as index.
    pub errors: PerCode,
    /// Topics with partitions here, at most [`TOPICS_MAX`].
    pub topics: Vec<TopicSnapshot>,
    /// How far groups are behind in partitions here, at most [`TOPICS_MAX`].
    pub lags: Vec<LagSnapshot>,
    /// Its part in a cluster.
    pub cluster: ClusterSnapshot,
    /// Topics and lags that did not fit.
    pub topics_left_out: u64,
}

impl CoreSnapshot {
    /// All zeros, for core `core`.
    #[must_use]
    pub fn new(core: u16) -> Self {
        Self { core, ..Self::default() }
    }

    /// Counts a request of `kind` that was answered `ns` after it was whole.
    pub fn count_request(&mut self, kind: Kind, ns: u64) {
        self.requests.0[kind as usize].observe(ns);
    }

    /// Counts a failure that was answered, whole or in part.
    pub fn count_error(&mut self, code: Code) {
        self.errors.0[code as usize] += 1;
    }
}

/// A latency for each [`Kind`].
#[derive(Clone, Debug, PartialEq)]
pub struct PerKind(pub Box<[Latency; KINDS]>);

impl Default for PerKind {
    fn default() -> Self {
        Self(Box::new([Latency::default(); KINDS]))
    }
}

/// A count for each [`Code`].
#[derive(Clone, Debug, PartialEq)]
pub struct PerCode(pub [u64; CODES]);

impl Default for PerCode {
    fn default() -> Self {
        Self([0; CODES])
    }
}

/// A bounded queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueueSnapshot {
    /// What waits in it: `mesh`, `offload`, `settle`...
    pub name: &'static str,
    /// How much waits now.
    pub depth: u64,
    /// How much may wait.
    pub depth_max: u64,
}

/// A core's journal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JournalSnapshot {
    /// Flushes that were written and synced.
    pub syncs: u64,
    /// Flushes by time from the start of the write to the end of the sync, by bucket of [`SYNC_BUCKETS_US`].
    pub sync_latency: [u64; SYNC_BUCKETS_US.len() + 1],
    /// All these times together, in µs.
    pub sync_latency_sum_us: u64,
    /// Entries written.
    pub entries: u64,
    /// Bytes written, padding and marks included.
    pub bytes: u64,
    /// Bytes that went on into segments.
    pub settled_bytes: u64,
    /// Journal files that hold something.
    pub files: u64,
    /// Files that have left their places and are on the disk as yet.
    pub trash_files: u64,
    /// Reads answered from memory.
    pub reads_tail: u64,
    /// Reads answered from segments.
    pub reads_segments: u64,
    /// Appended and not yet synced, in bytes.
    pub unsynced_bytes: u64,
    /// Whether appends are refused because the disk is full.
    pub disk_full: bool,
}

impl JournalSnapshot {
    /// Adds another journal of the same core.
    pub fn add(&mut self, other: &Self) {
        self.syncs += other.syncs;
        for (mine, theirs) in self.sync_latency.iter_mut().zip(other.sync_latency) {
            *mine += theirs;
        }
        self.sync_latency_sum_us += other.sync_latency_sum_us;
        self.entries += other.entries;
        self.bytes += other.bytes;
        self.settled_bytes += other.settled_bytes;
        self.files += other.files;
        self.trash_files += other.trash_files;
        self.reads_tail += other.reads_tail;
        self.reads_segments += other.reads_segments;
        self.unsynced_bytes += other.unsynced_bytes;
        self.disk_full |= other.disk_full;
    }
}

impl From<&LogStats> for JournalSnapshot {
    fn from(stats: &LogStats) -> Self {
        Self {
            syncs: stats.syncs,
            sync_latency: stats.sync_latency,
            sync_latency_sum_us: stats.sync_latency_sum_us,
            entries: stats.entries_synced,
            bytes: stats.bytes_journaled,
            settled_bytes: stats.bytes_settled,
            files: stats.files_live,
            trash_files: stats.files_in_trash,
            reads_tail: stats.reads_tail,
            reads_segments: stats.reads_segments,
            unsynced_bytes: stats.unsynced_bytes,
            disk_full: stats.disk_full,
        }
    }
}

/// A topic's partitions on one core, added up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TopicSnapshot {
    /// The topic.
    pub topic: String,
    /// Its partitions here.
    pub partitions: u64,
    /// Their bytes on disk.
    pub bytes: u64,
    /// Offsets after their last committed records, added up: its rate is the topic's records per second.
    pub end_offsets: u64,
}

/// How far a group is behind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LagSnapshot {
    /// Consumer group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// Records between its position and the end.
    pub records: u64,
}
