//! The newest entries of one group, in memory.
//!
//! ```text
//!   | cached: settled, synced so        | unsettled: nowhere but in the journal      |
//!   ^ front                             ^ entries[cached]                            ^ back
//! ```
//!
//! Indexes are dense, offsets never go back. Entries leave only at the front: by eviction (cached ones) or by trim.
//! An unsettled entry becomes a cached one when the note that it is settled has itself been synced.

use crate::{entry::Entry, log::ReadOut};
use bytes::Bytes;
use millpond_runtime::{Index, Offset};
use std::collections::VecDeque;

/// What an entry costs beside its payload, in bytes, roughly.
pub const ENTRY_OVERHEAD_BYTES: usize = 128;

/// One entry in memory.
#[derive(Clone, Debug)]
pub struct TailEntry {
    /// The entry.
    pub entry: Entry,
    /// The offset after its last record.
    pub next_offset: Offset,
    /// Largest timestamp of its records; `i64::MIN` for an entry without records.
    pub max_timestamp: i64,
    /// The journal file that holds it.
    pub file_seq: u64,
}

impl TailEntry {
    /// What it costs in memory.
    #[must_use]
    pub fn cost(&self) -> usize {
        self.entry.payload.len() + ENTRY_OVERHEAD_BYTES
    }
}

/// Bytes that a change moved, for the accounts of the whole journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "the accounts of the journal depend on it"]
pub struct Moved {
    /// Unsettled bytes that became cached or went.
    pub unsettled: usize,
    /// Cached bytes that came.
    pub cached_in: usize,
    /// Cached bytes that went.
    pub cached_out: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Tail {
    entries: VecDeque<TailEntry>,
    cached: usize,
    unsettled_bytes: usize,
    cached_bytes: usize,
}

impl Tail {
    /// Memory of unsettled entries.
    #[must_use]
    pub fn unsettled_bytes(&self) -> usize {
        self.unsettled_bytes
    }

    /// Memory of cached entries.
    #[must_use]
    pub fn cached_bytes(&self) -> usize {
        self.cached_bytes
    }

    /// Unsettled entries.
    #[must_use]
    pub fn unsettled(&self) -> usize {
        self.entries.len() - self.cached
    }

    /// Where memory begins: reads from here on need no segment.
    #[must_use]
    pub fn first_offset(&self) -> Option<Offset> {
        self.entries.front().map(|e| e.entry.base_offset)
    }

    /// The journal file of the oldest unsettled entry: it and later files are needed.
    #[must_use]
    pub fn needed_file(&self) -> Option<u64> {
        self.entries.get(self.cached).map(|e| e.file_seq)
    }

    /// The oldest entry that is not known to be settled.
    #[must_use]
    pub fn first_unsettled(&self) -> Option<Index> {
        self.entries.get(self.cached).map(|e| e.entry.index)
    }

    /// Takes the next entry.
    pub fn push(&mut self, entry: TailEntry) {
        if let Some(last) = self.entries.back() {
            assert!(entry.entry.index == last.entry.index.next(), "an entry was appended out of order");
            assert!(entry.entry.base_offset >= last.next_offset, "an entry was appended below the end");
        }
        self.unsettled_bytes += entry.cost();
        self.entries.push_back(entry);
    }

    /// Counts everything up to `index` as settled.
    pub fn release(&mut self, index: Index) -> Moved {
        let mut moved = Moved::default();
        while let Some(entry) = self.entries.get(self.cached).filter(|e| e.entry.index <= index) {
            let cost = entry.cost();
            moved.unsettled += cost;
            moved.cached_in += cost;
            self.cached += 1;
        }
        self.unsettled_bytes -= moved.unsettled;
        self.cached_bytes += moved.cached_in;
        moved
    }

    /// Drops cached entries up to `index`.
    pub fn evict(&mut self, index: Index) -> Moved {
        let mut moved = Moved::default();
        while self.cached > 0 && self.entries.front().is_some_and(|e| e.entry.index <= index) {
            moved.cached_out += self.pop_cost();
            self.cached -= 1;
        }
        self.cached_bytes -= moved.cached_out;
        moved
    }

    /// Drops every entry up to `upto` that ends at or before `start`, settled or not.
    pub fn trim(&mut self, start: Offset, upto: Index) -> Moved {
        let mut moved = Moved::default();
        while self.entries.front().is_some_and(|e| e.next_offset <= start && e.entry.index <= upto) {
            let cost = self.pop_cost();
            if self.cached > 0 {
                self.cached -= 1;
                moved.cached_out += cost;
            } else {
                moved.unsettled += cost;
            }
        }
        self.cached_bytes -= moved.cached_out;
        self.unsettled_bytes -= moved.unsettled;
        moved
    }

    fn pop_cost(&mut self) -> usize {
        self.entries.pop_front().map_or(0, |e| e.cost())
    }

    /// Drops every entry after `index`; none of them may be settled.
    pub fn truncate(&mut self, index: Index) -> Moved {
        let mut moved = Moved::default();
        while self.entries.back().is_some_and(|e| e.entry.index > index) {
            assert!(self.entries.len() > self.cached, "a settled entry was to be replaced");
            moved.unsettled += self.entries.pop_back().map_or(0, |e| e.cost());
        }
        self.unsettled_bytes -= moved.unsettled;
        moved
    }

    /// The last entry up to `upto` that ends at or before `offset`.
    #[must_use]
    pub fn last_before(&self, offset: Offset, upto: Index) -> Option<&TailEntry> {
        let n = self.entries.partition_point(|e| e.next_offset <= offset && e.entry.index <= upto);
        n.checked_sub(1).and_then(|i| self.entries.get(i))
    }

    /// The first entry that ends at or after `offset`.
    #[must_use]
    pub fn ending_from(&self, offset: Offset) -> Option<Index> {
        let n = self.entries.partition_point(|e| e.next_offset < offset);
        self.entries.get(n).map(|e| e.entry.index)
    }

    /// The first entry in memory.
    #[must_use]
    pub fn first_index(&self) -> Option<Index> {
        self.entries.front().map(|first| first.entry.index)
    }

    /// The entry that has the record at `offset`, if it is in memory.
    #[must_use]
    pub fn holding(&self, offset: Offset) -> Option<&TailEntry> {
        let n = self.entries.partition_point(|e| e.next_offset <= offset);
        self.entries.get(n).filter(|e| e.entry.base_offset <= offset)
    }

    /// The entry at `index`, if it is in memory.
    #[must_use]
    pub fn entry(&self, index: Index) -> Option<&TailEntry> {
        let first = self.entries.front()?.entry.index;
        self.entries.get(usize::try_from(index.0.checked_sub(first.0)?).ok()?)
    }

    /// Entries after `after` up to `upto`, at least one and about `bytes_max` bytes of them.
    pub fn gather(&self, after: Index, upto: Index, bytes_max: usize) -> impl Iterator<Item = &TailEntry> {
        let first = self.first_index().unwrap_or_default();
        let skip = after.0.saturating_add(1).saturating_sub(first.0).min(self.entries.len() as u64) as usize;
        let mut bytes = 0;
        self.entries.range(skip..).take_while(move |e| {
            let is_first = bytes == 0;
            bytes += e.entry.payload.len();
            e.entry.index <= upto && (is_first || bytes <= bytes_max)
        })
    }

    /// Whole batches from `from` up to `end`; `None` if memory begins later.
    #[must_use]
    pub fn read(&self, from: Offset, end: Offset, bytes_max: usize) -> Option<ReadOut> {
        if self.first_offset().is_none_or(|first| from < first) {
            return None;
        }
        let mut out = ReadOut { batches: Vec::new(), next: from };
        let mut bytes = 0;
        let skip = self.entries.partition_point(|e| e.next_offset <= from);
        for entry in self.entries.range(skip..) {
            if entry.entry.base_offset >= end || (bytes > 0 && bytes + entry.entry.payload.len() > bytes_max) {
                break;
            }
            if entry.next_offset > entry.entry.base_offset {
                bytes += entry.entry.payload.len();
                out.batches.push(entry.entry.payload.clone());
            }
            out.next = entry.next_offset;
        }
        Some(out)
    }

    /// The first batch at or after `from`, before `end`, whose largest timestamp is at least `ms`, and
    /// the offset after it.
    #[must_use]
    pub fn find_time(&self, from: Offset, end: Offset, ms: i64) -> Option<(Bytes, Offset)> {
        let skip = self.entries.partition_point(|e| e.next_offset <= from);
        self.entries
            .range(skip..)
            .take_while(|e| e.entry.base_offset < end)
            .find(|e| e.max_timestamp >= ms && e.next_offset > e.entry.base_offset)
            .map(|e| (e.entry.payload.clone(), e.next_offset))
    }

    /// Everything that must hold.
    pub fn check(&self) {
        assert!(self.cached <= self.entries.len(), "more cached entries than entries");
        let cost = |entries: &mut dyn Iterator<Item = &TailEntry>| entries.map(TailEntry::cost).sum::<usize>();
        assert!(cost(&mut self.entries.iter().take(self.cached)) == self.cached_bytes, "cached bytes are miscounted");
        assert!(cost(&mut self.entries.iter().skip(self.cached)) == self.unsettled_bytes, "unsettled bytes are miscounted");
        for (a, b) in self.entries.iter().zip(self.entries.iter().skip(1)) {
            assert!(b.entry.index == a.entry.index.next(), "a gap in the tail's indexes");
            assert!(b.entry.base_offset == a.next_offset, "a gap in the tail's offsets");
            assert!(b.file_seq >= a.file_seq, "the tail's entries go back in the journal");
        }
    }
}

#[cfg(test)]
mod tests;
