//! Reading across the segments of a group: by offset, and by time.
//!
//! A reader never waits for an append, nor an append for a reader: blocks that count are never written again, and a
//! reader holds the index as it was when it came.

use super::{
    ahead::{RUN_RAW_BYTES_MAX, Run, run_len},
    chunk::entries,
    file::corrupt,
    format::{BlockIndex, Damage},
    group::{GroupSegments, Sealed},
    handles::Opened,
};
use crate::{
    entry::EntryKind,
    error::Result,
    log::{ReadLimits, ReadOut},
};
use bytes::Bytes;
use millpond_batch::{DecompressLimits, Header, scan};
use millpond_runtime::{Index, Offset, Rt};

/// Less than this part of a block is copied, as a numerator and a denominator.
const KEPT_PART: (usize, usize) = (3, 4);

/// A segment as a reader sees it.
struct Source<R: Rt> {
    opened: Opened<R>,
    /// Where the next one begins, if this one is sealed.
    sealed_until: Option<Offset>,
    /// Its largest timestamp.
    max_timestamp: i64,
}

impl<R: Rt> GroupSegments<R> {
    /// The segment that answers for `from`; `None` past the last one.
    async fn source(&self, from: Offset) -> Result<Option<Source<R>>> {
        let Some((opened, sealed)) = self.first_past(|next_offset, _| next_offset <= from).await? else { return Ok(None) };
        let newest = || opened.index.iter().map(|b| b.max_timestamp).max().unwrap_or(i64::MIN);
        let max_timestamp = sealed.map_or_else(newest, |s| s.max_timestamp);
        Ok(Some(Source { opened, sealed_until: sealed.map(|s| s.next_offset), max_timestamp }))
    }

    /// The first segment that does not end too early, by the offset after its last one and its last index, and what is known of it if it is
    /// sealed.
    pub(super) async fn first_past(&self, too_early: impl Fn(Offset, Index) -> bool) -> Result<Option<(Opened<R>, Option<Sealed>)>> {
        loop {
            let sealed = {
                let state = self.state.borrow();
                let n = state.sealed.partition_point(|s| too_early(s.next_offset, s.last_index));
                state.sealed.get(n).copied()
            };
            if let Some(s) = sealed {
                return Ok(Some((self.handles().sealed(self.key(s.name), || self.path(s.name)).await?, sealed)));
            }
            if self.state.borrow().active.as_ref().is_none_or(|a| too_early(a.next_offset, a.last_index)) {
                return Ok(None);
            }
            // Sealed or deleted while it was being opened: look again.
            if let Some(opened) = self.growing().await? {
                return Ok(Some((opened, None)));
            }
        }
    }

    /// Reads whole batches from `from` on. Empty where the segments end.
    pub async fn read(&self, from: Offset, limits: ReadLimits) -> Result<ReadOut> {
        let mut out = ReadOut { batches: Vec::new(), next: from };
        let mut bytes = 0;
        while out.next < limits.end && bytes < limits.bytes_max.max(1) {
            let Some(source) = self.source(out.next).await? else { break };
            let run = self.read_run(&source.opened, out.next, limits.bytes_max.saturating_sub(bytes)).await?;
            if run.is_empty() {
                // Nothing but a hole is left of this segment.
                match source.sealed_until {
                    Some(next) => out.next = next,
                    None => break,
                }
                continue;
            }
            for (block, raw) in run {
                if collect(&raw, &block, limits, &mut bytes, &mut out) {
                    return Ok(out);
                }
            }
        }
        Ok(out)
    }

    /// The blocks from the one that answers for `from` on, about as many as `bytes` need.
    async fn read_run(&self, opened: &Opened<R>, from: Offset, bytes: usize) -> Result<Run> {
        let (handles, index) = (self.handles(), &opened.index);
        let bytes = bytes.min(RUN_RAW_BYTES_MAX);
        let first = index.partition_point(|b| b.next_offset <= from);
        let wanted = &index[first..first + run_len(index, first, bytes)];
        let cached: Run = wanted.iter().map_while(|b| handles.cached(opened.key, b.position).map(|raw| (*b, raw))).collect();
        if !cached.is_empty() || wanted.is_empty() {
            return Ok(cached);
        }
        let run: Run = match handles.read_ahead(opened, first, bytes).await {
            Some(run) => run,
            None => {
                let unpacked = opened.file.read_blocks(handles.rt(), wanted).await?;
                wanted.iter().copied().zip(unpacked).collect()
            }
        };
        // Only the last one is likely to be asked for again: by the reader who stops inside it.
        if let Some((block, raw)) = run.last() {
            handles.keep(opened.key, block, raw);
        }
        handles.went_on(opened, first, first + run.len(), bytes);
        Ok(run)
    }

    /// The first record at or after `from` whose timestamp is at least `ms`: its offset and timestamp.
    ///
    /// Being the first in the order of offsets, it never lies before the one found for an earlier time.
    pub async fn find_time(&self, ms: i64, from: Offset) -> Result<Option<(Offset, i64)>> {
        let mut at = from;
        loop {
            // Sealed segments that are too old are not even opened.
            at = {
                let state = self.state.borrow();
                let n = state.sealed.partition_point(|s| s.next_offset <= at);
                let old = state.sealed[n..].iter().take_while(|s| s.max_timestamp < ms);
                old.last().map_or(at, |s| s.next_offset)
            };
            let Some(source) = self.source(at).await? else { return Ok(None) };
            if source.max_timestamp >= ms
                && let Some(found) = self.find_in(&source.opened, ms, from).await?
            {
                return Ok(Some(found));
            }
            let Some(next) = source.sealed_until else { return Ok(None) };
            at = next;
        }
    }

    async fn find_in(&self, opened: &Opened<R>, ms: i64, from: Offset) -> Result<Option<(Offset, i64)>> {
        for block in opened.index.iter().filter(|b| b.max_timestamp >= ms && b.next_offset > from) {
            for (_, payload) in entries(&self.block(opened, block).await?).flatten().filter(|(kind, _)| *kind == EntryKind::Batch) {
                if let Some(found) = first_at(&payload, ms, from) {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// The raw entries of one block, which is kept for the next reader.
    async fn block(&self, opened: &Opened<R>, block: &BlockIndex) -> Result<Bytes> {
        if let Some(raw) = self.handles().cached(opened.key, block.position) {
            return Ok(raw);
        }
        let raw = opened.block(self.handles().rt(), block).await?;
        self.handles().keep(opened.key, block, &raw);
        Ok(raw)
    }
}

impl<R: Rt> Opened<R> {
    /// The raw entries of one block.
    pub(super) async fn block(&self, rt: &R, block: &BlockIndex) -> Result<Bytes> {
        let raw = self.file.read_blocks(rt, std::slice::from_ref(block)).await?.pop();
        raw.ok_or_else(|| corrupt(&self.file.path, block.position, u64::from(block.len), Damage("a block without data".into())))
    }
}

/// Takes what is wanted of a block; true once the limits are reached. If that is little of it, it is copied, so that it does not keep
/// all of the block: whoever reads accounts for what it got.
fn collect(raw: &Bytes, block: &BlockIndex, limits: ReadLimits, bytes: &mut usize, out: &mut ReadOut) -> bool {
    let (first, before) = (out.batches.len(), *bytes);
    let done = take(raw, block, limits, bytes, out);
    if (*bytes - before) * KEPT_PART.1 < raw.len() * KEPT_PART.0 {
        out.batches[first..].iter_mut().for_each(|batch| *batch = Bytes::copy_from_slice(batch));
    }
    done
}

fn take(raw: &Bytes, block: &BlockIndex, limits: ReadLimits, bytes: &mut usize, out: &mut ReadOut) -> bool {
    for (kind, payload) in entries(raw).flatten() {
        let Some(header) = (kind == EntryKind::Batch).then(|| Header::parse(&payload).ok()).flatten() else { continue };
        if header.next_offset() <= out.next.0 {
            continue;
        }
        let over = *bytes > 0 && *bytes + payload.len() > limits.bytes_max;
        if header.base_offset >= limits.end.0 || over {
            // What lies before it has been compacted away: nothing of it is left to be read.
            out.next = out.next.max(Offset(header.base_offset).min(limits.end));
            return true;
        }
        *bytes += payload.len();
        out.next = Offset(header.next_offset());
        out.batches.push(payload);
    }
    out.next = out.next.max(block.next_offset);
    false
}

/// The first record of a batch at or after `from` with a timestamp of at least `ms`.
pub(crate) fn first_at(batch: &Bytes, ms: i64, from: Offset) -> Option<(Offset, i64)> {
    let header = Header::parse(batch).ok().filter(|h| h.max_timestamp >= ms && h.next_offset() > from.0)?;
    match scan::find(batch, DecompressLimits::default(), |offset, timestamp| timestamp >= ms && offset >= from.0) {
        Ok(found) => found.map(|(offset, timestamp)| (Offset(offset), timestamp)),
        // What its producer packed badly is found by its batch.
        Err(_) => Some((Offset(header.base_offset).max(from), header.max_timestamp)),
    }
}
