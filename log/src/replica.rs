//! What makes a group a replica: one of several copies of a log, kept equal by Raft. Pure.
//!
//! ```text
//!   indexes   settled <= committed <= last, and of these the synced ones are on stable media
//!             | for good           | may be replaced by entries of another leader |
//! ```
//!
//! A replica is not the master of its log: entries that are not committed may go again, the newest first, and others come in their place. So
//! readers see what is committed, only what is committed is settled, and whatever an entry has changed beside the log itself (the
//! end, producers) is remembered until it is committed, to be put back.

use crate::{
    journal::format::FormatError,
    producers::{Producers, State},
};
use bytes::{BufMut, Bytes};
use millpond_batch::Header;
use millpond_runtime::{Index, Offset, Term, codec::Reader};
use std::collections::VecDeque;

/// The longest description of a group's members, in bytes.
pub const MEMBERS_BYTES_MAX: usize = 64 << 10;
/// Changes of term that one log remembers at most.
const TERMS_MAX: u32 = 1 << 20;

/// What a replica must find again after a crash, beside its log (Ongaro and Ousterhout, "In search of an understandable consensus
/// algorithm", figure 2: persistent state), and how far it knew the log to be committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The newest term it has seen.
    pub term: Term,
    /// Whom it voted for in that term; 0 for nobody.
    pub vote: u64,
    /// An entry up to which the log is committed.
    pub commit: Index,
}

impl HardState {
    pub(crate) fn encode(&self, out: &mut impl BufMut) {
        out.put_u64_le(self.term.0);
        out.put_u64_le(self.vote);
        out.put_u64_le(self.commit.0);
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, FormatError> {
        Ok(Self { term: Term(r.u64()?), vote: r.u64()?, commit: Index(r.u64()?) })
    }
}

/// Who the members of the group are: bytes that Raft understands, and the entry that made it so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// The entry; 0 for those that the group began with.
    pub index: Index,
    /// At most [`MEMBERS_BYTES_MAX`].
    pub bytes: Bytes,
}

impl Members {
    pub(crate) fn encode(&self, out: &mut impl BufMut) {
        out.put_u64_le(self.index.0);
        out.put_u32_le(self.bytes.len() as u32);
        out.put_slice(&self.bytes);
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, FormatError> {
        let (index, len) = (Index(r.u64()?), r.u32()? as usize);
        if len > MEMBERS_BYTES_MAX {
            return Err(FormatError::Shape { what: format!("members in {len} bytes, at most {MEMBERS_BYTES_MAX} are kept") });
        }
        Ok(Self { index, bytes: Bytes::copy_from_slice(r.take(len)?) })
    }
}

/// The term of each entry, as runs: where each term begins.
///
/// Invariants: indexes and terms increase from run to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms(VecDeque<(Index, Term)>);

impl Terms {
    /// The entry at `index`, which follows all others, is of this term. Not for a term older than the last.
    pub(crate) fn push(&mut self, index: Index, term: Term) {
        match self.0.back() {
            Some((_, last)) if *last == term => {}
            last => {
                assert!(last.is_none_or(|(first, last)| *first < index && *last < term), "terms go back");
                self.0.push_back((index, term));
            }
        }
    }

    /// The term of an entry that is there, or was: before the first run nothing is known.
    #[must_use]
    pub fn of(&self, index: Index) -> Option<Term> {
        // Nearly always the newest one is asked for.
        match self.0.back() {
            Some((first, term)) if *first <= index => Some(*term),
            _ => self.0.partition_point(|(first, _)| *first <= index).checked_sub(1).map(|run| self.0[run].1),
        }
    }

    /// Where the first term begins that is later than this one; `None` if none is.
    pub(crate) fn begins_after(&self, term: Term) -> Option<Index> {
        self.0.get(self.0.partition_point(|(_, of)| *of <= term)).map(|(first, _)| *first)
    }

    /// The newest term up to this one.
    pub(crate) fn upto(&self, term: Term) -> Option<Term> {
        let after = self.0.partition_point(|(_, of)| *of <= term);
        after.checked_sub(1).map(|run| self.0[run].1)
    }

    /// Where the newest term begins; 0 if there is none.
    pub(crate) fn begins(&self) -> Index {
        self.0.back().map_or(Index(0), |(first, _)| *first)
    }

    /// The newest term.
    #[must_use]
    pub fn last(&self) -> Option<Term> {
        self.0.back().map(|(_, term)| *term)
    }

    /// Entries after `index` are gone.
    pub(crate) fn truncate(&mut self, index: Index) {
        while self.0.back().is_some_and(|(first, _)| *first > index) {
            self.0.pop_back();
        }
    }

    /// Entries before `index` are not asked for any more.
    pub(crate) fn trim(&mut self, index: Index) {
        while self.0.get(1).is_some_and(|(first, _)| *first <= index) {
            self.0.pop_front();
        }
    }

    pub(crate) fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.0.len() as u32);
        for (first, term) in &self.0 {
            out.put_u64_le(first.0);
            out.put_u64_le(term.0);
        }
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, FormatError> {
        let n = r.u32()?;
        let mut terms = Self::default();
        for _ in 0..n.min(TERMS_MAX) {
            let (first, term) = (Index(r.u64()?), Term(r.u64()?));
            if terms.0.back().is_some_and(|(index, last)| *index >= first || *last >= term) {
                return Err(FormatError::Shape { what: format!("term {term} from entry {first} on is out of order") });
            }
            terms.0.push_back((first, term));
        }
        if n > TERMS_MAX { Err(FormatError::Shape { what: format!("{n} changes of term") }) } else { Ok(terms) }
    }
}

/// A producer as it was before an entry: nothing if it was not known.
pub(crate) type Before = (i64, Option<State>);

/// What an entry that is not committed has changed.
#[derive(Clone, Debug)]
struct Undo {
    index: Index,
    end_offset: Offset,
    max_timestamp: Option<i64>,
    producer: Option<Before>,
}

/// Where a log ends once entries are gone, and which producers change by that: what the journal notes, so that it need not have
/// the entries any more when it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truncation {
    /// The last entry that stays.
    pub last_index: Index,
    /// The offset after its last record.
    pub end_offset: Offset,
    /// The largest timestamp of what stays.
    pub max_timestamp: Option<i64>,
    pub(crate) producers: Vec<Before>,
}

impl Truncation {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64_le(self.last_index.0);
        out.put_u64_le(self.end_offset.0);
        out.put_i64_le(self.max_timestamp.unwrap_or(i64::MIN));
        out.put_u32_le(self.producers.len() as u32);
        for (id, state) in &self.producers {
            out.put_i64_le(*id);
            out.put_u8(u8::from(state.is_some()));
            state.iter().for_each(|state| state.encode(out));
        }
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, FormatError> {
        let (last_index, end_offset, max) = (Index(r.u64()?), Offset(r.u64()?), r.i64()?);
        let n = r.u32()?;
        let mut producers = Vec::new();
        for _ in 0..n {
            let id = r.i64()?;
            let state = match r.u8()? {
                0 => None,
                1 => Some(State::decode(id, r)?),
                other => return Err(FormatError::Shape { what: format!("producer {id} is there or not: {other}") }),
            };
            producers.push((id, state));
        }
        Ok(Self { last_index, end_offset, max_timestamp: (max != i64::MIN).then_some(max), producers })
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Replica {
    /// What the journal has, or will have once its open flush is synced.
    pub hard: HardState,
    /// Who the members are.
    pub members: Members,
    /// The term of each entry that is retained.
    pub terms: Terms,
    /// The last entry known to be committed.
    pub committed: Index,
    /// The offset after its last record.
    pub committed_offset: Offset,
    /// How often entries have gone.
    pub truncations: u32,
    /// How often a snapshot has taken the place of all that was here: the directory of its segments bears the number.
    pub installs: u32,
    undo: VecDeque<Undo>,
}

impl Replica {
    /// A replica without entries.
    #[must_use]
    pub fn new(members: Bytes) -> Self {
        Self { members: Members { index: Index(0), bytes: members }, ..Self::default() }
    }

    /// A replica of what a group has that was alone: entries up to `last`, which ends at offset `end`, all of one term and all committed.
    pub(crate) fn after_alone(members: Bytes, term: Term, last: Index, end: Offset) -> Self {
        let mut this = Self::new(members);
        if last > Index(0) {
            this.terms.push(Index(1), term);
            this.hard = HardState { term, vote: 0, commit: last };
            (this.committed, this.committed_offset) = (last, end);
        }
        this
    }

    /// A replica whose entries are all those of a snapshot: the caller commits them.
    pub(crate) fn of_snapshot(hard: HardState, members: Members, terms: Terms, installs: u32) -> Self {
        Self { hard, members, terms, installs, ..Self::default() }
    }

    /// Remembers how things were before the entry at `index`, whose batch `header` describes if it is one.
    pub(crate) fn remember(
        &mut self,
        index: Index,
        end_offset: Offset,
        max_timestamp: Option<i64>,
        header: Option<&Header>,
        producers: &Producers,
    ) {
        let producer = header.filter(|h| h.is_idempotent()).map(|h| (h.producer_id, producers.get(h.producer_id).cloned()));
        self.undo.push_back(Undo { index, end_offset, max_timestamp, producer });
    }

    /// What becomes of the log if all entries after `index` go; `None` if one of them is committed, or not remembered.
    pub(crate) fn truncation(&self, index: Index) -> Option<Truncation> {
        let from = self.undo.partition_point(|undo| undo.index <= index);
        let first = self.undo.get(from).filter(|first| first.index == index.next())?;
        let mut producers: Vec<Before> = Vec::new();
        // The oldest of each producer counts.
        for before in self.undo.range(from..).filter_map(|undo| undo.producer.as_ref()) {
            if producers.iter().all(|(id, _)| *id != before.0) {
                producers.push(before.clone());
            }
        }
        Some(Truncation { last_index: index, end_offset: first.end_offset, max_timestamp: first.max_timestamp, producers })
    }

    /// Entries after `index` are gone.
    pub(crate) fn truncate(&mut self, index: Index) {
        self.undo.truncate(self.undo.partition_point(|undo| undo.index <= index));
        self.terms.truncate(index);
        self.truncations = self.truncations.wrapping_add(1);
    }

    /// Entries up to `index`, which end at `offset`, are committed.
    pub(crate) fn commit(&mut self, index: Index, offset: Offset) {
        if index > self.committed {
            (self.committed, self.committed_offset) = (index, offset);
            while self.undo.pop_front_if(|undo| undo.index <= index).is_some() {}
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        self.hard.encode(out);
        self.members.encode(out);
        self.terms.encode(out);
        if self.installs > 0 {
            out.put_u32_le(self.installs);
        }
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, FormatError> {
        let mut this = Self { hard: HardState::decode(r)?, members: Members::decode(r)?, terms: Terms::decode(r)?, ..Self::default() };
        if r.left() > 0 {
            this.installs = r.u32()?;
            if this.installs == 0 || r.left() > 0 {
                return Err(FormatError::Shape {
                    what: format!("{} snapshots installed, and {} bytes behind the end", this.installs, r.left()),
                });
            }
        }
        Ok(this)
    }
}

#[cfg(test)]
mod tests;
