//! Terms and offsets: in which term a record was written, and where terms end. What a reader asks that wants to know whether what it has read is still so
//! (KIP-320); to it a term is the epoch of a leader.
//!
//! The indexes at which terms begin are in memory ([`crate::replica::Terms`]), and so are the offsets of the newest entries. Of older ones the index of one
//! segment says it: a block is of one term.

use crate::{
    error::{LogError, Result},
    group::TERM,
    log::{Log, SEGMENT_TRIES},
};
use millpond_runtime::{GroupId, Index, Offset, Rt, Term};

/// A term as batches and Kafka's clients have it: the epoch of a leader. Those past the largest one are all called that.
#[must_use]
pub fn epoch_of(term: Term) -> i32 {
    i32::try_from(term.0).unwrap_or(i32::MAX)
}

/// What is known of the end of a term without looking at segments.
enum Known {
    /// The log has no entries of this term or a later one.
    Nothing,
    /// The term, and where it ends.
    End(Term, Offset),
    /// The term that ends where the entry begins, which is not in memory.
    Before(Term, Index),
}

impl<R: Rt> Log<R> {
    /// Where a term ends: the newest one up to this that the log has entries of, and the offset after its last record, which is the high watermark for the last one. If
    /// all that is left is of later terms, then this one, and where they begin. Nothing if all are earlier.
    ///
    /// Where compaction was, the end may be told too late, but never too early: whoever has read up to there has read what is so.
    pub async fn term_end(&self, group: GroupId, term: Term) -> Result<Option<(Term, Offset)>> {
        let mut tries = SEGMENT_TRIES;
        loop {
            let (of, index) = match self.known_end(group, term)? {
                Known::Nothing => return Ok(None),
                Known::End(of, end) => return Ok(Some((of, end))),
                Known::Before(of, index) => (of, index),
            };
            let found = match self.home.store.get(group)? {
                Some(segments) => self.heed(group, segments.offset_after_term(index, term).await),
                None => Ok(None),
            };
            match found {
                // Compaction has put a segment in the place of others.
                Err(LogError::Io(error)) if error.is_not_found() && tries > 0 => tries -= 1,
                Err(error) => return Err(error),
                Ok(found) => {
                    let state = self.state(group).ok_or(LogError::UnknownGroup { group })?;
                    // What was trimmed ended before what is left.
                    let end = found.map_or(state.high_watermark, |end| end.max(state.start_offset).min(state.high_watermark));
                    return Ok(Some((of, end)));
                }
            }
        }
    }

    fn known_end(&self, group: GroupId, term: Term) -> Result<Known> {
        let groups = self.home.groups.borrow();
        let g = groups.get(group).ok_or(LogError::UnknownGroup { group })?;
        let (start, end) = (g.start_offset, g.lasting_offset());
        let Some(replica) = &g.replica else {
            // It has one term.
            return Ok(match term.cmp(&TERM) {
                _ if g.last_index == Index(0) => Known::Nothing,
                std::cmp::Ordering::Less => Known::End(term, start),
                std::cmp::Ordering::Equal => Known::End(term, end),
                std::cmp::Ordering::Greater => Known::Nothing,
            });
        };
        let of = replica.terms.upto(term).unwrap_or(term);
        Ok(match replica.terms.begins_after(term) {
            None if replica.terms.last() == Some(term) => Known::End(term, end),
            None => Known::Nothing,
            Some(index) => match g.tail.entry(index) {
                Some(first) => Known::End(of, first.entry.base_offset.max(start).min(end)),
                None => Known::Before(of, index),
            },
        })
    }

    /// The term in which the record at an offset was written, or where there is none any more, the next one; `None` at the high watermark.
    pub async fn term_at(&self, group: GroupId, offset: Offset) -> Result<Option<Term>> {
        let mut tries = SEGMENT_TRIES;
        loop {
            {
                let groups = self.home.groups.borrow();
                let g = groups.get(group).ok_or(LogError::UnknownGroup { group })?;
                if offset >= g.lasting_offset() {
                    return Ok(None);
                }
                if g.replica.is_none() {
                    return Ok(Some(TERM));
                }
                if let Some(holds) = g.tail.holding(offset) {
                    return Ok(Some(holds.entry.term));
                }
            }
            let Some(segments) = self.home.store.get(group)? else { return Ok(None) };
            match self.heed(group, segments.term_at(offset).await) {
                Err(LogError::Io(error)) if error.is_not_found() && tries > 0 => tries -= 1,
                found => return found,
            }
        }
    }
}
