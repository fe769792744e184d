//! What we know of one group, in memory. Pure: appends, notes and syncs are applied here, at run time by the facade and
//! at start by recovery, so that both come to the same state.
//!
//! ```text
//!   offsets   start_offset ......... settled.next_offset ......... synced_offset ......... end_offset
//!             | in segments, perhaps cached | in the tail, readable      | in the tail, not yet   |
//! ```

use crate::{
    config::GroupConfig,
    entry::{Entry, EntryKind},
    journal::format::{FormatError, Settled},
    producers::Producers,
    tail::{Moved, Tail, TailEntry},
};
use bytes::Bytes;
use millpond_batch::Header;
use millpond_runtime::{GroupId, Index, Offset, Term};

/// Everything is written in this term: a node alone holds no elections.
pub const TERM: Term = Term(1);

/// See the module.
#[derive(Debug)]
pub struct Group {
    /// Its id.
    pub id: GroupId,
    /// Its settings.
    pub config: GroupConfig,
    /// First offset that is retained.
    pub start_offset: Offset,
    /// The last appended entry.
    pub last_index: Index,
    /// The offset after the last appended record.
    pub end_offset: Offset,
    /// The largest timestamp appended.
    pub max_timestamp: Option<i64>,
    /// The last synced entry.
    pub synced_index: Index,
    /// The offset after the last synced record.
    pub synced_offset: Offset,
    /// What the journal says, or will say once its open flush is synced, of the segments.
    pub settled: Settled,
    /// Base offset of the growing segment that the newest synced note names: it and newer ones are left alone by compaction.
    pub noted: Option<Offset>,
    /// Producers and their sequences, up to `last_index`.
    pub producers: Producers,
    /// The newest entries.
    pub tail: Tail,
    /// The gather that noted this group last, and where in it.
    pub slot: (u64, usize),
    /// Whether the group waits to be settled.
    pub queued: bool,
}

impl Group {
    /// An empty group.
    #[must_use]
    pub fn new(id: GroupId, config: GroupConfig) -> Self {
        Self {
            id,
            config,
            start_offset: Offset(0),
            last_index: Index(0),
            end_offset: Offset(0),
            max_timestamp: None,
            synced_index: Index(0),
            synced_offset: Offset(0),
            settled: Settled::default(),
            noted: None,
            producers: Producers::default(),
            tail: Tail::default(),
            slot: (0, 0),
            queued: false,
        }
    }

    /// Appends a stamped batch. Its producer's sequence has been checked.
    pub fn push_batch(&mut self, batch: Bytes, header: &Header, file_seq: u64, now_ms: i64) {
        let base_offset = self.end_offset;
        let index = self.last_index.next();
        self.producers.record(header, base_offset, now_ms);
        self.last_index = index;
        self.end_offset = base_offset.plus(header.record_span());
        self.max_timestamp = self.max_timestamp.max(Some(header.max_timestamp));
        self.tail.push(TailEntry {
            entry: Entry { index, term: TERM, kind: EntryKind::Batch, base_offset, payload: batch },
            next_offset: self.end_offset,
            max_timestamp: header.max_timestamp,
            file_seq,
        });
    }

    /// What trimming to `start` makes of [`Group::settled`]: entries that end before `start` count as settled, since they never
    /// will be otherwise; and where nothing settled is left, what grows next is a new segment. `None` if the log starts
    /// there or later already.
    #[must_use]
    pub fn trimmed(&self, start: Offset) -> Option<Settled> {
        if start <= self.start_offset {
            return None;
        }
        if start < self.settled.next_offset {
            return Some(self.settled);
        }
        let overtaken = self.tail.last_before(start).filter(|last| last.entry.index > self.settled.index);
        let settled = overtaken.map_or(self.settled, |last| Settled {
            index: last.entry.index,
            term: last.entry.term,
            next_offset: last.next_offset,
            segment: None,
        });
        Some(Settled { segment: None, ..settled })
    }

    /// Forgets offsets before `start`, as far as names go; memory goes with [`Tail::trim`] once that is synced.
    pub fn apply_trim(&mut self, start: Offset, settled: Settled) -> Result<(), FormatError> {
        let inside = start > self.start_offset && start <= self.end_offset;
        if !inside || settled.index < self.settled.index || settled.index > self.last_index || settled.next_offset > self.end_offset {
            return Err(FormatError::Shape {
                what: format!(
                    "group {} trimmed to {start} and settled up to {}, outside {}..={}",
                    self.id, settled.next_offset, self.start_offset, self.end_offset
                ),
            });
        }
        self.start_offset = start;
        self.settled = settled;
        Ok(())
    }

    /// Takes note that entries are in synced segments. An error if that cannot be.
    pub fn apply_settled(&mut self, settled: Settled) -> Result<(), FormatError> {
        if settled.index <= self.settled.index || settled.index > self.last_index || settled.next_offset > self.end_offset {
            return Err(FormatError::Shape {
                what: format!(
                    "group {} settled up to entry {}, which lies outside {}..={}",
                    self.id, settled.index, self.settled.index, self.last_index
                ),
            });
        }
        self.settled = settled;
        Ok(())
    }

    /// Entries up to `index` are settled for good: they may leave memory.
    pub fn release(&mut self, index: Index) -> Moved {
        self.tail.release(index)
    }

    /// Everything appended is synced: what recovery has read.
    pub fn sync_all(&mut self) {
        self.noted = self.settled.segment.map(|s| s.base_offset);
        self.synced_index = self.last_index;
        self.synced_offset = self.end_offset;
    }

    /// Bytes that could be settled now, at most: those of synced and of unsynced entries alike.
    #[must_use]
    pub fn unsettled_bytes(&self) -> usize {
        self.tail.unsettled_bytes()
    }

    /// Whether its numbers can be: nothing is behind the end, and no count can overflow for as long as anybody appends.
    pub fn sound(&self) -> Result<(), FormatError> {
        let bound = i64::MAX as u64;
        let wrong = if self.start_offset > self.end_offset {
            "starts after its end"
        } else if self.settled.index > self.last_index || self.settled.next_offset > self.end_offset {
            "is settled past its end"
        } else if self.end_offset.0 > bound || self.last_index.0 > bound {
            "is longer than any can be"
        } else {
            return Ok(());
        };
        Err(FormatError::Shape { what: format!("group {} {wrong}", self.id) })
    }

    /// Everything that must hold.
    pub fn check(&self) {
        self.sound().expect("what the disk says was checked when it was read, so this is our own mistake");
        assert!(self.synced_index <= self.last_index && self.synced_offset <= self.end_offset, "group {} synced past its end", self.id);
        self.tail.check();
    }
}

#[cfg(test)]
mod tests;
