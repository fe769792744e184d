//! What a snapshot consists of, as it is sent between nodes. Pure.
//!
//! ```text
//!   | version u8 = 1 | index u64 | term u64 | start offset u64 | next offset u64 | max timestamp i64 (i64::MIN none) | members | terms | producers |
//!   | n u32 | n x ( base offset u64 | generation u32 | bytes u64 ) |
//! ```
//!
//! Members, terms and producers as in a checkpoint of the journal. Little-endian.

use crate::{
    journal::format::{FormatError, SegmentMark, Settled},
    producers::Producers,
    replica::{Members, Terms},
    segment::{SegmentName, format::HEADER_BYTES},
};
use bytes::{BufMut, Bytes};
use millpond_runtime::{Index, Offset, Term, codec::Reader, limits::BLOCK_BYTES};

const VERSION: u8 = 1;
/// Segments of one snapshot at most.
pub const FILES_MAX: usize = 65_536;
/// Bytes of a manifest at most.
pub const MANIFEST_BYTES_MAX: usize = 24 << 20;

/// One segment of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Its name.
    pub name: SegmentName,
    /// Bytes of it that count: whole blocks.
    pub bytes: u64,
}

/// See the module. Whoever has this and its files has the log up to `index`, of which nothing before `start_offset` is retained.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The last entry that is in it.
    pub index: Index,
    /// Its term.
    pub term: Term,
    /// First offset that is retained.
    pub start_offset: Offset,
    /// The offset after its last record.
    pub next_offset: Offset,
    /// The largest timestamp appended so far.
    pub max_timestamp: Option<i64>,
    /// Who the members are as of that entry.
    pub members: Members,
    pub(crate) terms: Terms,
    pub(crate) producers: Producers,
    /// Segments, oldest first: the last one grows, all others are sealed. Without any, nothing is retained.
    pub files: Vec<SnapshotFile>,
}

impl Manifest {
    /// Bytes of its files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Where the log's segments end.
    pub(crate) fn settled(&self) -> Settled {
        let segment = self.files.last().map(|last| SegmentMark {
            base_offset: last.name.base_offset,
            generation: last.name.generation,
            position: last.bytes,
        });
        Settled { index: self.index, term: self.term, next_offset: self.next_offset, segment }
    }

    /// The bytes that [`Manifest::decode`] reads.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(256 + 20 * self.files.len());
        out.put_u8(VERSION);
        for n in [self.index.0, self.term.0, self.start_offset.0, self.next_offset.0] {
            out.put_u64_le(n);
        }
        out.put_i64_le(self.max_timestamp.unwrap_or(i64::MIN));
        self.members.encode(&mut out);
        self.terms.encode(&mut out);
        self.producers.encode(&mut out);
        out.put_u32_le(self.files.len() as u32);
        for SnapshotFile { name, bytes } in &self.files {
            out.put_u64_le(name.base_offset.0);
            out.put_u32_le(name.generation);
            out.put_u64_le(*bytes);
        }
        out.into()
    }

    /// Reads what [`Manifest::encode`] wrote, and refuses what no snapshot is.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let shape = |what: String| Err(FormatError::Shape { what: format!("a snapshot's manifest: {what}") });
        let mut r = Reader::new(bytes);
        let version = r.u8()?;
        if version != VERSION {
            return shape(format!("version {version}, this build reads {VERSION}"));
        }
        let (index, term, start_offset, next_offset) = (Index(r.u64()?), Term(r.u64()?), Offset(r.u64()?), Offset(r.u64()?));
        let max = r.i64()?;
        let mut this = Self {
            index,
            term,
            start_offset,
            next_offset,
            max_timestamp: (max != i64::MIN).then_some(max),
            members: Members::decode(&mut r)?,
            terms: Terms::decode(&mut r)?,
            producers: Producers::decode(&mut r)?,
            files: Vec::new(),
        };
        let files = r.u32()? as usize;
        if files > FILES_MAX {
            return shape(format!("{files} segments, at most {FILES_MAX} are sent"));
        }
        for _ in 0..files {
            let name = SegmentName { base_offset: Offset(r.u64()?), generation: r.u32()? };
            this.files.push(SnapshotFile { name, bytes: r.u64()? });
        }
        match this.wrong() {
            None if r.left() == 0 => Ok(this),
            None => shape(format!("{} bytes behind the end", r.left())),
            Some(what) => shape(what.into()),
        }
    }

    /// Why it cannot be.
    fn wrong(&self) -> Option<&'static str> {
        let bound = i64::MAX as u64;
        if self.index.0 == 0 || self.index.0 > bound || self.next_offset.0 > bound || self.start_offset > self.next_offset {
            return Some("it is empty, too long, or starts after its end");
        }
        if self.members.index > self.index || self.terms.last() != Some(self.term) || self.terms.begins() > self.index {
            return Some("its members or terms are not those of its last entry");
        }
        let whole =
            |file: &SnapshotFile| file.bytes >= HEADER_BYTES && file.bytes.is_multiple_of(BLOCK_BYTES as u64) && file.bytes <= bound;
        if !self.files.iter().all(whole) || self.files.iter().try_fold(0_u64, |sum, file| sum.checked_add(file.bytes)).is_none() {
            return Some("a segment of it is no whole blocks");
        }
        if self.files.windows(2).any(|pair| pair[0].name.base_offset >= pair[1].name.base_offset) {
            return Some("its segments are out of order");
        }
        match (self.files.first(), self.files.last()) {
            (Some(first), Some(last)) if first.name.base_offset <= self.start_offset && last.name.base_offset <= self.next_offset => None,
            (None, None) if self.start_offset == self.next_offset => None,
            _ => Some("its segments do not hold what it retains"),
        }
    }
}

#[cfg(test)]
mod tests;
