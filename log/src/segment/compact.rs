//! Keeping the newest record of each key.
//!
//! As Kafka's log cleaner does it, over sealed segments only: a record goes if a later one of the segments looked at has the
//! same key; a tombstone goes once it is older than `delete.retention.ms`; records without a key, batches that cannot be
//! parsed and markers of transactions stay. Offsets never change. The choice ([`pick`]) is pure; the run writes a segment of a
//! higher generation beside the old ones, syncs it under a temporary name, renames it, and then deletes what it
//! covers: a crash at any point leaves the old segments or the new one, and opening the group removes the other.

use super::{
    chunk::{Chunk, ChunkOptions, encode_chunk, entries},
    file::{SegmentFile, corrupt},
    format::{BlockIndex, Damage, HEADER_BYTES, SegmentHeader, SegmentName},
    group::{GroupSegments, Sealed},
};
use crate::{
    config::GroupConfig,
    entry::{Entry, EntryKind},
    error::Result,
};
use bytes::Bytes;
use millpond_batch::{DecompressLimits, Header, filter, records};
use millpond_runtime::{FxHashMap, GroupId, Offset, Rt, Term};

/// Keys that one run remembers; past that it leaves the younger segments to the next run. About 32 bytes each.
pub const KEYS_MAX: usize = 1_000_000;
/// Bytes of entries gathered before they are packed.
const PACK_BYTES: usize = 1024 * 1024;
/// Of the sealed bytes, so many percent must be new to a compaction before it is worth its reading (Kafka's
/// `min.cleanable.dirty.ratio` of 0.5).
const DIRTY_PERCENT: u64 = 50;

/// Which sealed segments to compact, as a range of `sealed`; empty where it is not worth it. `noted` is the base offset of the
/// growing segment that the journal's newest synced note names.
#[must_use]
pub fn pick(sealed: &[Sealed], noted: Offset, config: &GroupConfig, now_ms: i64) -> std::ops::Range<usize> {
    let lag = i64::try_from(config.min_compaction_lag_ms).unwrap_or(i64::MAX);
    let ripe = |s: &Sealed| s.name.base_offset < noted && s.next_offset <= noted && s.max_timestamp <= now_ms.saturating_sub(lag);
    let end = sealed.iter().take_while(|s| ripe(s)).count();
    let bytes = |clean: bool| sealed[..end].iter().filter(|s| (s.name.generation > 0) == clean).map(|s| s.bytes).sum::<u64>();
    let (clean, dirty) = (bytes(true), bytes(false));
    if !config.compact || dirty == 0 || dirty * 100 < (clean + dirty) * DIRTY_PERCENT { 0..0 } else { 0..end }
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Segments read.
    pub segments: usize,
    /// Bytes of them.
    pub bytes_before: u64,
    /// Bytes of what took their place.
    pub bytes_after: u64,
}

/// 128 bits of a key, which stand for it.
fn digest(key: &[u8]) -> u128 {
    // Two different CRCs and the length would be cheaper, and worse: this is FNV-1a with 128 bits.
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for byte in key {
        hash = (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    hash
}

type Latest = FxHashMap<u128, Offset>;

/// Compacts the sealed segments in `range`, in groups that fit one segment each.
pub async fn run<R: Rt>(
    group: &GroupSegments<R>,
    range: std::ops::Range<usize>,
    config: &GroupConfig,
    level: i32,
    now_ms: i64,
) -> Result<Compacted> {
    let all = group.sealed();
    let Some(chosen) = all.get(range).filter(|c| !c.is_empty()) else { return Ok(Compacted::default()) };
    let mut latest = Latest::default();
    let mut known = 0;
    for sealed in chosen {
        remember(group, sealed, &mut latest).await?;
        known += 1;
        if latest.len() >= KEYS_MAX {
            break;
        }
    }
    let mut done = Compacted::default();
    let mut rest = &chosen[..known];
    while !rest.is_empty() {
        let mut sum = 0;
        let fits = rest.iter().take_while(|s| {
            sum += s.bytes;
            sum <= config.segment_bytes
        });
        let n = fits.count().max(1);
        let (inputs, behind) = rest.split_at(n);
        done.segments += n;
        done.bytes_before += inputs.iter().map(|s| s.bytes).sum::<u64>();
        done.bytes_after += rewrite(group, inputs, &latest, config, level, now_ms).await?;
        rest = behind;
    }
    Ok(done)
}

/// The blocks of a segment.
async fn blocks<R: Rt>(group: &GroupSegments<R>, sealed: &Sealed) -> Result<Vec<BlockIndex>> {
    let opened = group.handles().sealed(group.group(), sealed.name, || group.dir().join(sealed.name.to_string())).await?;
    Ok(opened.index.clone())
}

async fn block<R: Rt>(group: &GroupSegments<R>, sealed: &Sealed, index: BlockIndex) -> Result<Bytes> {
    let opened = group.handles().sealed(group.group(), sealed.name, || group.dir().join(sealed.name.to_string())).await?;
    let mut raw = opened.file.read_blocks(group.handles().rt(), &[index]).await?;
    raw.pop().ok_or_else(|| corrupt(&opened.file.path, index.position, u64::from(index.len), Damage("a block without data".into())))
}

async fn remember<R: Rt>(group: &GroupSegments<R>, sealed: &Sealed, latest: &mut Latest) -> Result<()> {
    for index in blocks(group, sealed).await? {
        let raw = block(group, sealed, index).await?;
        for (_, batch) in entries(&raw).flatten().filter(|(kind, _)| *kind == EntryKind::Batch) {
            let Ok(all) = records(&batch, DecompressLimits::default()) else { continue };
            if all.header().is_control() {
                continue;
            }
            for record in all.map_while(Result::ok) {
                if let Some(key) = &record.key {
                    latest.insert(digest(key), Offset(record.offset));
                }
            }
        }
        group.handles().rt().yield_now().await;
    }
    Ok(())
}

/// What becomes of a batch.
fn compact_batch(batch: Bytes, latest: &Latest, config: &GroupConfig, now_ms: i64) -> Option<Bytes> {
    let header = Header::parse(&batch).ok()?;
    if header.is_control() {
        return Some(batch);
    }
    let kept_until = now_ms.saturating_sub(i64::try_from(config.delete_retention_ms).unwrap_or(i64::MAX));
    let mut left = 0;
    let filtered = filter::retain(&batch, DecompressLimits::default(), None, |record| {
        let newest = record.key.as_ref().is_none_or(|key| latest.get(&digest(key)).is_none_or(|o| o.0 <= record.offset));
        let expired = record.value.is_none() && record.key.is_some() && record.timestamp < kept_until;
        let keep = newest && !expired;
        left += usize::from(keep);
        keep
    });
    match filtered {
        Ok(Some(_)) if left == 0 => None,
        Ok(Some(bytes)) => Some(bytes.freeze()),
        Ok(None) | Err(_) => Some(batch),
    }
}

/// Gathers kept entries and writes them as chunks.
struct Output<R: Rt> {
    file: SegmentFile<R>,
    position: u64,
    index: Vec<BlockIndex>,
    pending: Vec<Entry>,
    pending_bytes: usize,
    /// Up to where the blocks written so far answer.
    answered: Offset,
}

impl<R: Rt> Output<R> {
    /// Writes what is pending; its blocks answer for everything from where the last ones ended up to `next`.
    async fn flush(&mut self, rt: &R, group: GroupId, level: i32, next: Offset) -> Result<()> {
        let Some(first) = self.pending.first_mut() else { return Ok(()) };
        // The block's range begins where the one before ended: holes belong to whoever follows them.
        first.base_offset = self.answered;
        let batch = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        let options = ChunkOptions { group, position: self.position, level };
        let chunk: Chunk = rt.offload("pack blocks", move || encode_chunk(&batch, next, options)).await?;
        self.file.write_chunk(self.position, &chunk).await?;
        self.position += chunk.bytes.len() as u64;
        self.index.extend(chunk.index);
        self.answered = next;
        Ok(())
    }
}

async fn rewrite<R: Rt>(
    group: &GroupSegments<R>,
    inputs: &[Sealed],
    latest: &Latest,
    config: &GroupConfig,
    level: i32,
    now_ms: i64,
) -> Result<u64> {
    let rt = group.handles().rt();
    let (first, last) = (inputs[0], inputs[inputs.len() - 1]);
    let generation = inputs.iter().map(|s| s.name.generation).max().unwrap_or(0) + 1;
    let name = SegmentName { base_offset: first.name.base_offset, generation };
    let opened = group.handles().sealed(group.group(), first.name, || group.dir().join(first.name.to_string())).await?;
    let header = SegmentHeader { generation, ..opened.file.header };
    let temporary = group.dir().join(format!("{name}.tmp"));
    let mut out = Output {
        file: SegmentFile::create(rt, temporary.clone(), header).await?,
        position: HEADER_BYTES,
        index: Vec::new(),
        pending: Vec::new(),
        pending_bytes: 0,
        answered: first.name.base_offset,
    };
    for sealed in inputs {
        for index in blocks(group, sealed).await? {
            let raw = block(group, sealed, index).await?;
            for (kind, payload) in entries(&raw).flatten() {
                // What has no records has been applied long ago.
                if kind != EntryKind::Batch {
                    continue;
                }
                let Some(kept) = compact_batch(payload, latest, config, now_ms) else { continue };
                let base_offset = Header::parse(&kept).map_or(index.first_offset, |h| Offset(h.base_offset));
                out.pending_bytes += kept.len();
                out.pending.push(Entry { index: index.first_index, term: Term(0), kind, base_offset, payload: kept });
            }
            if out.pending_bytes >= PACK_BYTES {
                out.flush(rt, group.group(), level, index.next_offset).await?;
            }
            rt.yield_now().await;
        }
    }
    out.flush(rt, group.group(), level, last.next_offset).await?;
    out.file.seal(out.position, &out.index, last.next_offset, last.last_index).await?;
    rt.rename(&temporary, &group.dir().join(name.to_string())).await?;
    rt.sync_dir(group.dir()).await?;
    let max_timestamp = out.index.iter().map(|b| b.max_timestamp).max().unwrap_or(i64::MIN);
    group.replace(Sealed { name, next_offset: last.next_offset, last_index: last.last_index, bytes: out.position, max_timestamp }).await?;
    Ok(out.position)
}
