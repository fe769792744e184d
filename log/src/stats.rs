//! Counters of a journal home, for `/metrics` and for tests.

/// Upper bounds of the sync latency buckets, in microseconds; one more bucket takes the rest.
pub const SYNC_BUCKETS_US: [u64; 14] = [25, 50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 1_000_000];

/// Counters since the log was opened, and gauges of the moment. Sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogStats {
    /// Flushes whose sync returned: device flushes of the journal.
    pub syncs: u64,
    /// Of those, empty ones that only mark the flush before.
    pub marks: u64,
    /// Entries whose sync returned.
    pub entries_synced: u64,
    /// Bytes written to the journal, with headers and padding.
    pub bytes_journaled: u64,
    /// Bytes of entries appended.
    pub bytes_appended: u64,
    /// Bytes of entries moved into segments.
    pub bytes_settled: u64,
    /// Settling runs that were noted in the journal.
    pub settles: u64,
    /// How often entries that cannot be settled were written anew, so that they do not hold back the oldest journal file.
    pub carried: u64,
    /// Snapshots that took the place of what a replica had.
    pub installs: u64,
    /// Compaction runs that rewrote something.
    pub compactions: u64,
    /// Compaction runs that gave something up, since what they read was trimmed away or dropped.
    pub compactions_overtaken: u64,
    /// Flushes per latency bucket of write and sync together; bounds in [`SYNC_BUCKETS_US`].
    pub sync_latency: [u64; SYNC_BUCKETS_US.len() + 1],
    /// Sum of the latencies, in microseconds.
    pub sync_latency_sum_us: u64,
    /// Memory of unsettled entries.
    pub tail_unsettled_bytes: u64,
    /// Memory of settled entries kept as a cache.
    pub tail_cached_bytes: u64,
    /// Appended, not synced yet.
    pub unsynced_bytes: u64,
    /// Journal files that hold something.
    pub files_live: u64,
    /// Journal files prepared for use.
    pub files_prepared: u64,
    /// Journal files written with zeros from scratch.
    pub files_made: u64,
    /// Of those, files beyond the configured number, to empty a journal that was full to the brim.
    pub files_extra: u64,
    /// Journal files used again.
    pub files_recycled: u64,
    /// Files that have left their places and are on the disk as yet.
    pub files_in_trash: u64,
    /// Groups that live here.
    pub groups: u64,
    /// Whether appends are refused because the disk is full.
    pub disk_full: bool,
    /// Appends that repeated an earlier one and took no effect.
    pub duplicates: u64,
    /// Reads answered from memory.
    pub reads_tail: u64,
    /// Reads answered from segments.
    pub reads_segments: u64,
}

impl LogStats {
    /// Counts one flush that took `us` microseconds.
    pub(crate) fn record_sync(&mut self, us: u64) {
        let bucket = SYNC_BUCKETS_US.iter().position(|&bound| us <= bound).unwrap_or(SYNC_BUCKETS_US.len());
        self.sync_latency[bucket] += 1;
        self.sync_latency_sum_us += us;
        self.syncs += 1;
    }
}
