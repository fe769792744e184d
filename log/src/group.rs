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
    replica::{HardState, Replica, Truncation},
    tail::{Moved, Tail, TailEntry},
};
use bytes::Bytes;
use millpond_batch::{Header, Marker};
use millpond_runtime::{GroupId, Index, Offset, Term};

/// Entries of a group that is alone are written in this term: it holds no elections.
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
    /// What makes it a replica; `None` for a group that is alone, where what is synced is committed.
    pub replica: Option<Box<Replica>>,
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
            replica: None,
        }
    }

    /// Appends an entry: a stamped batch with its header, whose producer's sequence has been checked, or one of Raft's without records.
    pub fn push(&mut self, term: Term, payload: Bytes, header: Option<&Header>, file_seq: u64, now_ms: i64) {
        let base_offset = self.end_offset;
        let index = self.last_index.next();
        if let Some(replica) = &mut self.replica {
            replica.remember(index, base_offset, self.max_timestamp, header, &self.producers);
            replica.terms.push(index, term);
        }
        self.last_index = index;
        if let Some(header) = header {
            self.producers.record(header, Marker::of(&payload, header), base_offset, now_ms);
            self.end_offset = base_offset.plus(header.record_span());
            self.max_timestamp = self.max_timestamp.max(Some(header.max_timestamp));
        }
        let kind = if header.is_some() { EntryKind::Batch } else { EntryKind::Raft };
        self.tail.push(TailEntry {
            entry: Entry { index, term, kind, base_offset, payload },
            next_offset: self.end_offset,
            max_timestamp: header.map_or(i64::MIN, |header| header.max_timestamp),
            file_seq,
        });
    }

    /// Makes a replica of a group that was alone: what it has is committed, in the one term of such groups. An error if it is one already.
    pub fn replicate(&mut self, members: Bytes) -> Result<(), FormatError> {
        if self.replica.is_some() {
            return Err(FormatError::Shape { what: format!("group {} becomes a replica twice", self.id) });
        }
        self.replica = Some(Box::new(Replica::after_alone(members, TERM, self.last_index, self.end_offset)));
        Ok(())
    }

    /// The last entry that is both committed and synced.
    #[must_use]
    pub fn lasting_index(&self) -> Index {
        self.replica.as_ref().map_or(self.synced_index, |replica| replica.committed.min(self.synced_index))
    }

    /// The offset after its last record: how far readers see.
    #[must_use]
    pub fn lasting_offset(&self) -> Offset {
        self.replica.as_ref().map_or(self.synced_offset, |replica| replica.committed_offset.min(self.synced_offset))
    }

    /// How far readers of committed records see: no transaction that is open has records before it.
    #[must_use]
    pub fn stable_offset(&self) -> Offset {
        let lasting = self.lasting_offset();
        self.producers.first_open().map_or(lasting, |first| first.max(self.start_offset).min(lasting))
    }

    /// How often entries have gone: what was said of an earlier life of an index is of no use any more.
    #[must_use]
    pub fn life(&self) -> u32 {
        self.replica.as_ref().map_or(0, |replica| replica.truncations)
    }

    /// What must hold of a change of the hard state.
    pub fn check_hard(&self, hard: &HardState) -> Result<(), String> {
        let Some(replica) = &self.replica else { return Err("is no replica".into()) };
        let before = replica.hard;
        if hard.term < before.term || (hard.term == before.term && before.vote != 0 && hard.vote != before.vote) {
            return Err(format!("voted for {} in term {}, and now for {} in term {}", before.vote, before.term, hard.vote, hard.term));
        }
        if hard.commit < before.commit || hard.commit > self.last_index {
            return Err(format!("committed up to {}, outside {}..={}", hard.commit, before.commit, self.last_index));
        }
        Ok(())
    }

    /// Takes note of a hard state that was checked.
    pub fn apply_hard(&mut self, hard: HardState) {
        if let Some(replica) = &mut self.replica {
            replica.hard = hard;
        }
    }

    /// Entries up to `index` are committed. What is not in the log yet, or not in memory any more, is not looked at.
    pub fn commit(&mut self, index: Index) {
        let index = index.min(self.last_index);
        let end = if index == self.settled.index { Some(self.settled.next_offset) } else { self.tail.entry(index).map(|e| e.next_offset) };
        if let (Some(replica), Some(end)) = (&mut self.replica, end) {
            replica.commit(index, end);
        }
    }

    /// Entries are gone, the newest first. An error if that cannot be.
    pub fn apply_truncation(&mut self, gone: &Truncation) -> Result<Moved, FormatError> {
        let id = self.id;
        let wrong = |what: String| Err(FormatError::Shape { what: format!("group {id} truncated to entry {}: {what}", gone.last_index) });
        let Some(replica) = &mut self.replica else { return wrong("it is no replica".into()) };
        if gone.last_index >= self.last_index || gone.end_offset > self.end_offset {
            return wrong(format!("it ends with {} at offset {}", self.last_index, self.end_offset));
        }
        let lasts = self.settled.index.max(replica.hard.commit).max(replica.committed);
        if gone.last_index < lasts || gone.end_offset < self.settled.next_offset {
            return wrong(format!("entries up to {lasts} are committed, and settled up to offset {}", self.settled.next_offset));
        }
        // What is in memory knows better than the note where it ends.
        let ends = self.tail.entry(gone.last_index).map_or(gone.end_offset, |last| last.next_offset);
        if ends != gone.end_offset || gone.end_offset < replica.committed_offset || gone.end_offset < self.start_offset {
            return wrong(format!("offset {} is not where that entry ends", gone.end_offset));
        }
        replica.truncate(gone.last_index);
        for (producer, before) in &gone.producers {
            self.producers.restore(*producer, before.clone());
        }
        self.producers.truncate(gone.end_offset);
        (self.last_index, self.end_offset, self.max_timestamp) = (gone.last_index, gone.end_offset, gone.max_timestamp);
        if self.synced_index > gone.last_index {
            (self.synced_index, self.synced_offset) = (gone.last_index, gone.end_offset);
        }
        Ok(self.tail.truncate(gone.last_index))
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
        let overtaken = self.tail.last_before(start, self.lasting_index()).filter(|last| last.entry.index > self.settled.index);
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
        self.producers.trim(start);
        self.settled = settled;
        if let (Some(replica), None) = (&mut self.replica, settled.segment) {
            // Nothing before it is left.
            replica.terms.trim(settled.index);
        }
        Ok(())
    }

    /// A snapshot takes the place of all that the replica has: this is the group from here on, all of it settled and committed. An error if
    /// that cannot be. What readers see stays what it was until [`Group::installed`], or until it is read again at a start.
    pub fn apply_install(&mut self, new: Self) -> Result<Moved, FormatError> {
        let id = self.id;
        let wrong = |what: String| Err(FormatError::Shape { what: format!("group {id} as of entry {}: {what}", new.last_index) });
        let (Some(before), Some(after)) = (&self.replica, &new.replica) else { return wrong("it is no replica".into()) };
        let (index, end) = (new.last_index, new.end_offset);
        if after.installs != before.installs.wrapping_add(1) {
            return wrong(format!("snapshot {} follows {}", after.installs, before.installs));
        }
        if index <= before.committed.max(before.hard.commit).max(self.settled.index) || new.start_offset < self.start_offset {
            let (committed, start) = (before.committed, self.start_offset);
            return wrong(format!("it is committed up to entry {committed} already, and begins at offset {start}"));
        }
        if (new.settled.index, new.settled.next_offset, after.hard.commit) != (index, end, index)
            || after.terms.last() != Some(new.settled.term)
            || after.members.index > index
        {
            return wrong("not all of it is settled and committed".into());
        }
        let (old, hard) = (before.hard, after.hard);
        if hard.term < old.term || (hard.term == old.term && hard.vote != old.vote) || hard.term < new.settled.term {
            return wrong(format!("voted for {} in term {}, and now for {} in term {}", old.vote, old.term, hard.vote, hard.term));
        }
        let life = before.truncations.wrapping_add(1);
        let moved = Moved { unsettled: self.tail.unsettled_bytes(), cached_in: 0, cached_out: self.tail.cached_bytes() };
        let seen = (self.lasting_index(), self.lasting_offset().max(new.start_offset));
        *self = Self { slot: self.slot, queued: self.queued, ..new };
        (self.synced_index, self.synced_offset) = seen;
        if let Some(replica) = &mut self.replica {
            replica.truncations = life;
            replica.commit(index, end);
        }
        Ok(moved)
    }

    /// The note about a snapshot is synced.
    pub fn installed(&mut self) {
        if self.synced_index < self.settled.index {
            (self.synced_index, self.synced_offset) = (self.settled.index, self.settled.next_offset);
        }
        self.noted = self.noted.max(self.settled.segment.map(|s| s.base_offset));
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
        // What is settled was committed, whether the journal heard of that or not.
        let committed = self.replica.as_ref().map_or(self.last_index, |replica| replica.hard.commit);
        self.commit(committed.max(self.settled.index));
        // And so was what holds the first offset retained: nothing is trimmed before it is committed.
        if self.lasting_offset() < self.start_offset
            && let Some(first) = self.tail.ending_from(self.start_offset)
        {
            self.commit(first);
        }
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
        } else if self.replica.as_ref().is_some_and(|replica| replica.hard.commit > self.last_index) {
            "is committed past its end"
        } else if self.replica.as_ref().is_some_and(|replica| replica.terms.begins() > self.last_index) {
            "has terms of entries past its end"
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
        if let Some(replica) = &self.replica {
            let (settled, committed) = (self.settled.index, replica.committed);
            assert!(settled <= committed && committed <= self.last_index, "group {}: {settled} settled, {committed} committed", self.id);
            assert!(replica.committed_offset <= self.end_offset, "group {} is committed past its end", self.id);
            assert!(self.last_index.0 == 0 || replica.terms.last().is_some(), "group {} has entries without terms", self.id);
        }
        self.tail.check();
    }
}

#[cfg(test)]
mod tests;
