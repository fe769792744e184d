//! Reading the segments of a group by index: what a replica has for others that lag.
//!
//! Compaction leaves holes between indexes and does not say which: what it has written has no entries to give, only records.

use super::{
    ahead::{RUN_RAW_BYTES_MAX, run_len},
    chunk::entries,
    file::corrupt,
    format::{BlockIndex, Damage},
    group::GroupSegments,
};
use crate::{
    entry::{Entry, EntryKind},
    error::Result,
};
use bytes::Bytes;
use millpond_batch::Header;
use millpond_runtime::{Index, Rt};

impl<R: Rt> GroupSegments<R> {
    /// Entries from `from` on, at least one and about `bytes_max` bytes of them, out of one segment. `None` if that entry is not here, or was
    /// compacted.
    pub async fn read_entries(&self, from: Index, bytes_max: usize) -> Result<Option<Vec<Entry>>> {
        let Some((opened, _)) = self.first_past(|_, last_index| last_index < from).await? else { return Ok(None) };
        let (_, name, _) = opened.key;
        let index = &opened.index;
        if name.generation > 0 || index.first().is_none_or(|first| first.first_index > from) {
            return Ok(None);
        }
        let first = index.partition_point(|b| b.first_index <= from) - 1;
        let wanted = &index[first..first + run_len(index, first, bytes_max.min(RUN_RAW_BYTES_MAX))];
        let unpacked = opened.file.read_blocks(self.handles().rt(), wanted).await?;
        let (mut out, mut bytes) = (Vec::new(), 0);
        for (block, raw) in wanted.iter().zip(&unpacked) {
            let damaged = |d: Damage| corrupt(&opened.file.path, block.position, u64::from(block.len), d);
            for entry in entries_of(block, raw) {
                let entry = entry.map_err(damaged)?;
                if entry.index < from {
                    continue;
                }
                if bytes > 0 && bytes + entry.payload.len() > bytes_max {
                    return Ok(Some(out));
                }
                bytes += entry.payload.len();
                out.push(entry);
            }
        }
        Ok((!out.is_empty()).then_some(out))
    }
}

/// The entries of a block that was never compacted.
fn entries_of<'a>(block: &'a BlockIndex, raw: &'a Bytes) -> impl Iterator<Item = Result<Entry, Damage>> + 'a {
    let (mut index, mut base_offset) = (block.first_index, block.first_offset);
    entries(raw).map(move |entry| {
        let (kind, payload) = entry.map_err(|short| Damage(format!("an entry of a block: {short}")))?;
        let entry = Entry { index, term: block.term, kind, base_offset, payload };
        index = index.next();
        if kind == EntryKind::Batch {
            let header = Header::parse(&entry.payload).map_err(|e| Damage(format!("an entry of a block is no batch: {e}")))?;
            base_offset = header.next_offset().into();
        }
        Ok(entry)
    })
}
