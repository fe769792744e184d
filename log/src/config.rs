//! Settings of a journal home and of a group, with units, bounds and the relations between them.

use crate::error::{LogError, Result};
use millpond_runtime::limits::{BATCH_BYTES_LIMIT, BLOCK_BYTES, block_up};
use std::time::Duration;

/// Settings of one journal home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The cluster that the home belongs to; a home of another is refused.
    pub cluster_id: u64,
    /// The node that the home belongs to; a home of another is refused.
    pub node_id: u64,
    /// The number of the home (`core-NN`). A home keeps its number when another core opens it.
    pub home: u16,
    /// Length of a journal file, in bytes; whole blocks. Files of another length are used up and then deleted.
    pub journal_file_bytes: u64,
    /// Journal files in all, live and prepared. One more is made when nothing else could free one.
    pub journal_files_max: usize,
    /// A flush stops gathering here, in bytes; a single larger entry still gets a flush of its own.
    pub flush_bytes_max: usize,
    /// Appended bytes that wait for their sync; past it there is no room.
    pub unsynced_bytes_max: usize,
    /// Memory of the tail, in bytes: entries that are not settled yet, and settled ones kept as a cache.
    pub tail_bytes_max: usize,
    /// A group with this many unsettled bytes is settled, or with fewer down to half, so that groups which grow alike take turns.
    pub settle_bytes: usize,
    /// One settling run takes at most this many bytes of a group.
    pub settle_run_bytes_max: usize,
    /// zstd level of segment blocks; 0 stores them raw, and so they are while the tail is short of memory, or others want the CPU.
    pub compression_level: i32,
    /// Free bytes of the file system below which appends are refused.
    pub disk_reserve_bytes: u64,
    /// A file that goes is shortened by so many bytes at a time; whole blocks, at least one. See [`crate::trash`].
    pub trash_step_bytes: u64,
    /// How long the journal must be quiet before the last flush is marked by an empty one.
    pub mark_after: Duration,
    /// How often retention, compaction and the free space of the disk are looked at.
    pub maintain_every: Duration,
    /// Open segment files in all groups; the least recently used are closed past it.
    pub open_segments_max: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            cluster_id: 0,
            node_id: 0,
            home: 0,
            journal_file_bytes: 64 << 20,
            journal_files_max: 16,
            flush_bytes_max: 1 << 20,
            unsynced_bytes_max: 16 << 20,
            tail_bytes_max: 256 << 20,
            settle_bytes: 4 << 20,
            settle_run_bytes_max: 4 << 20,
            compression_level: 1,
            disk_reserve_bytes: 256 << 20,
            trash_step_bytes: 4 << 20,
            mark_after: Duration::from_millis(5),
            maintain_every: Duration::from_secs(1),
            open_segments_max: 256,
        }
    }
}

impl LogConfig {
    /// The largest entry payload, in bytes, that a journal of this configuration takes: a quarter of a file, and at most
    /// [`BATCH_BYTES_LIMIT`].
    #[must_use]
    pub fn entry_bytes_max(&self) -> usize {
        (self.journal_file_bytes as usize / 4).min(BATCH_BYTES_LIMIT)
    }

    /// Bytes at the end of the journal's capacity that entries leave to notes about settling, so that a full
    /// journal can always be emptied.
    #[must_use]
    pub(crate) fn control_reserve_bytes(&self) -> u64 {
        block_up((self.journal_file_bytes / 8).max(4 * BLOCK_BYTES as u64))
    }

    /// Refuses what cannot work.
    pub fn check(&self) -> Result<()> {
        let refuse = |what: String| Err(LogError::Config { what });
        let block = BLOCK_BYTES as u64;
        if !self.journal_file_bytes.is_multiple_of(block) || self.journal_file_bytes < 16 * block {
            return refuse(format!("journal_file_bytes {} must be whole blocks, at least {}", self.journal_file_bytes, 16 * block));
        }
        if self.journal_files_max < 3 {
            return refuse(format!("journal_files_max {} must be at least 3", self.journal_files_max));
        }
        if self.flush_bytes_max < BLOCK_BYTES || self.flush_bytes_max as u64 > self.journal_file_bytes / 4 {
            return refuse(format!("flush_bytes_max {} must lie between a block and a quarter of a journal file", self.flush_bytes_max));
        }
        if self.unsynced_bytes_max < self.flush_bytes_max || self.tail_bytes_max < self.unsynced_bytes_max {
            return refuse("flush_bytes_max <= unsynced_bytes_max <= tail_bytes_max must hold".into());
        }
        if self.settle_bytes > self.tail_bytes_max / 2 || self.settle_run_bytes_max == 0 {
            return refuse("settle_bytes must be at most half of tail_bytes_max, and settle_run_bytes_max not zero".into());
        }
        if !self.trash_step_bytes.is_multiple_of(block) || self.trash_step_bytes == 0 {
            return refuse(format!("trash_step_bytes {} must be whole blocks, at least one", self.trash_step_bytes));
        }
        Ok(())
    }
}

/// Settings of one group. Durations in milliseconds, sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// Segments whose newest record is older are deleted; `None` keeps them for ever.
    pub retention_ms: Option<u64>,
    /// The oldest segments are deleted while the group is larger; `None` keeps them.
    pub retention_bytes: Option<u64>,
    /// A segment is sealed when it has this many bytes.
    pub segment_bytes: u64,
    /// A segment is sealed when its first entry is this old.
    pub segment_ms: u64,
    /// Whether only the newest record of each key is kept.
    pub compact: bool,
    /// Whether retention applies.
    pub delete: bool,
    /// How long a compacted log keeps the marker of a deleted key.
    pub delete_retention_ms: u64,
    /// Records younger than this are not compacted.
    pub min_compaction_lag_ms: u64,
    /// A producer that is silent for longer is forgotten.
    pub producer_expiry_ms: u64,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            retention_ms: Some(7 * 24 * 3600 * 1000),
            retention_bytes: None,
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3600 * 1000,
            compact: false,
            delete: true,
            delete_retention_ms: 24 * 3600 * 1000,
            min_compaction_lag_ms: 0,
            producer_expiry_ms: 24 * 3600 * 1000,
        }
    }
}
