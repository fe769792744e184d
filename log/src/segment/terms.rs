//! Terms in the segments of a group: where one begins, and which one a record is of.

use super::{chunk::entries, group::GroupSegments};
use crate::{entry::EntryKind, error::Result};
use millpond_batch::Header;
use millpond_runtime::{Index, Offset, Rt, Term};

impl<R: Rt> GroupSegments<R> {
    /// The offset at which the first entry of a term later than `term` begins, whose index was `index`; `None` where the segments end before it. After
    /// compaction it may be a later one, not an earlier.
    pub async fn offset_after_term(&self, index: Index, term: Term) -> Result<Option<Offset>> {
        let Some((opened, sealed)) = self.first_past(|_, last_index| last_index < index).await? else { return Ok(None) };
        let (_, name, _) = opened.key;
        let Some(first) = opened.index.get(opened.index.partition_point(|block| block.term <= term)) else {
            // Nothing of later terms is left of the segment.
            return Ok(sealed.map(|sealed| sealed.next_offset));
        };
        if name.generation == 0 {
            return Ok(Some(first.first_offset));
        }
        // Its block may answer for a hole before it, too, in which the earlier term had its last records.
        let raw = opened.block(self.handles().rt(), first).await?;
        let batch = entries(&raw).flatten().find(|(kind, _)| *kind == EntryKind::Batch);
        let header = batch.and_then(|(_, batch)| Header::parse(&batch).ok());
        Ok(Some(header.map_or(first.next_offset, |header| Offset(header.base_offset))))
    }

    /// The term of the record at an offset, or of what follows where there is none any more; `None` where the segments end.
    pub async fn term_at(&self, offset: Offset) -> Result<Option<Term>> {
        let Some((opened, _)) = self.first_past(|next_offset, _| next_offset <= offset).await? else { return Ok(None) };
        let at = opened.index.partition_point(|block| block.next_offset <= offset);
        Ok(opened.index.get(at).or(opened.index.last()).map(|block| block.term))
    }
}
