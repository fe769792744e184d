//! The facade: one journal home with all its groups, on one core.

use crate::{
    config::{GroupConfig, LogConfig},
    error::Result,
    lsn::Lsn,
    stats::LogStats,
};
use bytes::{Bytes, BytesMut};
use millpond_batch::Header;
use millpond_runtime::{GroupId, Index, Offset, Rt};
use std::{path::PathBuf, rc::Rc};

/// What a group looks like at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupState {
    /// First offset that is retained.
    pub start_offset: Offset,
    /// Offset that the next appended record gets.
    pub end_offset: Offset,
    /// Offset after the last record that is synced: what readers see. On a single node that is committed.
    pub high_watermark: Offset,
    /// Index of the last appended entry; 0 if there is none.
    pub last_index: Index,
    /// Bytes of the group's segments on disk, and of its entries that are not settled yet.
    pub bytes: u64,
    /// Largest timestamp of the appended records, in milliseconds since 1970; `None` without records.
    pub max_timestamp: Option<i64>,
}

/// What came of an append. Readers see the records once `lsn` is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// The batch was appended.
    New {
        /// Offset of its first record.
        base_offset: Offset,
        /// To be awaited with [`Log::synced`] before anybody is told.
        lsn: Lsn,
    },
    /// The same batch of the same producer was appended before; nothing was appended now.
    Duplicate {
        /// Offset that its first record has.
        base_offset: Offset,
        /// To be awaited all the same: the first attempt may not be synced yet.
        lsn: Lsn,
    },
}

/// How much to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// Bytes at most, but one batch at least.
    pub bytes_max: usize,
    /// Where to stop (exclusive); what is not synced is never read, whatever this says.
    pub end: Offset,
}

/// What was read: whole stamped batches in order of their offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadOut {
    /// Whole batches. The first may begin before the offset asked for, the last may end after the limit's end.
    pub batches: Vec<Bytes>,
    /// Where to read on.
    pub next: Offset,
}

/// A group's high watermark has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance {
    /// The group.
    pub group: GroupId,
    /// Offset after its last synced record.
    pub high_watermark: Offset,
}

/// What recovery found, for the log line at start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// Whether the home was empty: a first start.
    pub fresh: bool,
    /// Groups.
    pub groups: usize,
    /// Live journal files read.
    pub files: usize,
    /// Flushes read.
    pub flushes: u64,
    /// Entries read that are not in segments yet.
    pub entries: u64,
    /// Bytes of the journal read.
    pub bytes: u64,
    /// A flush whose sync had never ended, and which was cut.
    pub torn: Option<TornTail>,
    /// How long it took, in microseconds.
    pub took_us: u64,
}

/// A flush whose sync had never ended: nobody was told of anything in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The journal file.
    pub file: PathBuf,
    /// Where the flush begins, in bytes.
    pub position: u64,
    /// Its length, in bytes, as far as known.
    pub len: u64,
}

/// One journal home (a directory `core-NN`) with all its groups. Cheap to clone; lives on one core.
pub struct Log<R: Rt> {
    rt: Rc<R>,
}

impl<R: Rt> Clone for Log<R> {
    fn clone(&self) -> Self {
        Self { rt: self.rt.clone() }
    }
}

#[expect(clippy::unimplemented, unused_variables, clippy::unused_async, reason = "one commit only: the shape for others to build against")]
impl<R: Rt> Log<R> {
    /// Opens the home, recovering what a crash left; makes it if the directory is empty or absent.
    pub async fn open(rt: R, dir: PathBuf, config: LogConfig) -> Result<(Self, Recovered)> {
        unimplemented!()
    }

    /// The groups that live here, in order.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupId> {
        unimplemented!()
    }

    /// What a group looks like.
    #[must_use]
    pub fn state(&self, group: GroupId) -> Option<GroupState> {
        unimplemented!()
    }

    /// A group's settings.
    #[must_use]
    pub fn config(&self, group: GroupId) -> Option<GroupConfig> {
        unimplemented!()
    }

    /// Creates a group. Its id must never have been used.
    pub fn create_group(&self, group: GroupId, config: GroupConfig) -> Result<Lsn> {
        unimplemented!()
    }

    /// Changes a group's settings.
    pub fn alter_group(&self, group: GroupId, config: GroupConfig) -> Result<Lsn> {
        unimplemented!()
    }

    /// Drops a group; its files go once that is synced.
    pub fn drop_group(&self, group: GroupId) -> Result<Lsn> {
        unimplemented!()
    }

    /// Appends one batch that the caller has checked with `millpond_batch::check`, and whose header that gave. Checks the
    /// producer's sequence and stamps the base offset into the bytes.
    pub fn append(&self, group: GroupId, batch: BytesMut, header: &Header, now_ms: i64) -> Result<Appended> {
        unimplemented!()
    }

    /// Returns when everything up to `lsn` is on stable media; fails only if the journal has stopped.
    pub async fn synced(&self, lsn: Lsn) -> Result<()> {
        unimplemented!()
    }

    /// The last place that is on stable media.
    #[must_use]
    pub fn synced_lsn(&self) -> Lsn {
        unimplemented!()
    }

    /// Whether there is room for another batch.
    #[must_use]
    pub fn room(&self) -> bool {
        unimplemented!()
    }

    /// Waits for room, or for the journal to stop.
    pub async fn wait_room(&self) {
        unimplemented!()
    }

    /// Reads whole batches from `from` on, from memory or from segments. Empty at the high watermark.
    pub async fn read(&self, group: GroupId, from: Offset, limits: ReadLimits) -> Result<ReadOut> {
        unimplemented!()
    }

    /// The same, if the answer is in memory.
    #[must_use]
    pub fn read_tail(&self, group: GroupId, from: Offset, limits: ReadLimits) -> Option<ReadOut> {
        unimplemented!()
    }

    /// The first synced record whose timestamp is at least `ms`: its offset and timestamp.
    pub async fn offset_for_time(&self, group: GroupId, ms: i64) -> Result<Option<(Offset, i64)>> {
        unimplemented!()
    }

    /// Forgets everything before `before` (at most the high watermark). No effect if the log starts later already.
    pub fn trim(&self, group: GroupId, before: Offset) -> Result<Lsn> {
        unimplemented!()
    }

    /// Has `callback` called after every sync that moved a high watermark, before those who wait for the sync wake. It
    /// must not call back into the log except to read state.
    pub fn on_advance(&self, callback: impl Fn(&[Advance]) + 'static) {
        unimplemented!()
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        unimplemented!()
    }

    /// Writes and syncs what was appended, and stops the tasks. Appends fail from here on.
    pub async fn close(&self) {
        unimplemented!()
    }
}
