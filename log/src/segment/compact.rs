//! Keeping the newest record of each key.
//!
//! As Kafka's log cleaner does it, over sealed segments only. A record goes if a later one of the sealed segments has the same
//! key. A tombstone goes once it has been compacted for `delete.retention.ms`: the first run that keeps it writes the
//! time into its batch (KIP-534), so that a reader who is that much behind still hears of it, whatever timestamps the
//! producer has given. Records without a key, batches that cannot be parsed and markers of transactions stay; records of
//! transactions replace nothing, since nobody here knows whether they were committed. Offsets never change.
//!
//! Segments that were compacted (their generation says so) are clean: of each key they hold one record. So only the keys of
//! the others, the dirty ones, are remembered, and everything is looked up among them. The memory for that is bounded
//! ([`Budget`]): dirty segments past it wait for the next run, which finds fewer dirty ones. A single segment with
//! more keys than that is looked at in several rounds, each for a share of the keys; what is superseded is then noted
//! in a bit per record.
//!
//! The choice ([`pick`]) is pure; the run writes a segment of a higher generation beside the old ones, syncs it under a
//! temporary name, renames it, and then deletes what it covers: a crash at any point leaves the old segments or the
//! new one, and opening the group removes the other. Outputs are made from the oldest on, so that no tombstone goes before
//! what it buries. Appending and trimming go on meanwhile: an output is given up as soon as one of its
//! inputs has been trimmed away or the group is to be dropped, and the run goes on with what is left.

use super::{
    ahead::run_len,
    chunk::{Chunk, ChunkOptions, encode_chunk, entries},
    file::SegmentFile,
    format::{BlockIndex, HEADER_BYTES, SegmentHeader, SegmentName},
    group::{GroupSegments, Sealed},
    handles::Opened,
    list::last_blocks,
    newest::{KEYS_MAX, Newest, READ_BYTES},
};
use crate::{
    config::GroupConfig,
    entry::{Entry, EntryKind},
    error::Result,
};
use bytes::Bytes;
use millpond_batch::{DecompressLimits, Header, filter};
use millpond_runtime::{GroupId, Offset, Rt};
use std::{path::Path, slice};

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
    // Without a lag a record of a clock that is ahead must not wait until then.
    let aged = |s: &Sealed| lag == 0 || s.max_timestamp <= now_ms.saturating_sub(lag);
    let ripe = |s: &Sealed| s.name.base_offset < noted && s.next_offset <= noted && aged(s);
    let end = sealed.iter().take_while(|s| ripe(s)).count();
    let bytes = |clean: bool| sealed[..end].iter().filter(|s| is_clean(s) == clean).map(|s| s.bytes).sum::<u64>();
    let (clean, dirty) = (bytes(true), bytes(false));
    if !config.compact || dirty == 0 || dirty * 100 < (clean + dirty) * DIRTY_PERCENT { 0..0 } else { 0..end }
}

/// Whether a segment is the work of a compaction.
pub(super) fn is_clean(sealed: &Sealed) -> bool {
    sealed.name.generation > 0
}

/// What a run may use.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Keys in memory at a time, of 27 bytes each; at least 1.
    pub keys_max: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { keys_max: KEYS_MAX }
    }
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
    /// Something that it read was trimmed away or dropped, and work was for nothing.
    pub overtaken: bool,
}

/// Compacts the sealed segments in `range`, which begins with the first, in groups that fit one segment each.
pub async fn run<R: Rt>(
    group: &GroupSegments<R>,
    range: std::ops::Range<usize>,
    config: &GroupConfig,
    level: i32,
    now_ms: i64,
) -> Result<Compacted> {
    let usual = Budget::default();
    let budget = Budget { keys_max: usual.keys_max.min(group.handles().keys_max()) };
    run_within(group, range, config, level, now_ms, budget).await
}

/// [`run`] with another budget than the usual one.
pub async fn run_within<R: Rt>(
    group: &GroupSegments<R>,
    range: std::ops::Range<usize>,
    config: &GroupConfig,
    level: i32,
    now_ms: i64,
    budget: Budget,
) -> Result<Compacted> {
    let all = group.sealed();
    let Some(chosen) = all.get(range).filter(|c| !c.is_empty()) else { return Ok(Compacted::default()) };
    let (newest, known) = match Newest::find(group, chosen, budget).await {
        Ok(found) => found,
        // Trimmed away, or to be dropped, while they were read.
        Err(_) if !group.has(chosen) => return Ok(Compacted { overtaken: true, ..Compacted::default() }),
        Err(error) => return Err(error),
    };
    let outlives_a_trim = newest.outlives_a_trim();
    let limits = group.handles().unpack_limits();
    let rules =
        Rules { newest, limits, now_ms, horizon_ms: now_ms.saturating_add(i64::try_from(config.delete_retention_ms).unwrap_or(i64::MAX)) };
    let mut done = Compacted::default();
    let mut rest = &chosen[..known];
    let mut ordinal = 0;
    while !rest.is_empty() {
        let mut sum = 0;
        let fits = rest.iter().take_while(|s| {
            sum += s.bytes;
            sum <= config.segment_bytes
        });
        let n = fits.count().max(1);
        let (inputs, behind) = rest.split_at(n);
        let bytes = match rewrite(group, inputs, &rules, &mut ordinal, level).await {
            Ok(Some(bytes)) => bytes,
            Err(error) if group.has(inputs) => return Err(error),
            Ok(None) | Err(_) => {
                done.overtaken = true;
                let gone = rest.iter().take_while(|s| !group.has(slice::from_ref(s))).count();
                if gone == 0 || !outlives_a_trim {
                    break;
                }
                rest = &rest[gone..];
                continue;
            }
        };
        done.segments += n;
        done.bytes_before += inputs.iter().map(|s| s.bytes).sum::<u64>();
        done.bytes_after += bytes;
        rest = behind;
    }
    Ok(done)
}

/// What decides over a record.
struct Rules {
    newest: Newest,
    /// The same as `newest` has counted with.
    limits: DecompressLimits,
    now_ms: i64,
    /// When tombstones that are compacted now for the first time may go.
    horizon_ms: i64,
}

impl Rules {
    /// What becomes of a batch of a segment that is `clean`. `ordinal` counts the records that a key decides over, as
    /// [`Newest`] has counted them.
    fn apply(&self, batch: Bytes, clean: bool, ordinal: &mut u64) -> Option<Bytes> {
        let header = Header::parse(&batch).ok()?;
        if header.is_control() {
            return Some(batch);
        }
        // Only compaction sets a horizon; elsewhere it is a producer's word.
        let horizon = header.delete_horizon().filter(|_| clean);
        let expired = horizon.is_some_and(|ms| ms < self.now_ms);
        let mut left = 0;
        let from = *ordinal;
        let stamp = horizon.is_none().then_some(self.horizon_ms);
        let filtered = filter::retain(&batch, self.limits, stamp, |record| {
            let newest = record.key.as_ref().is_none_or(|key| {
                *ordinal += 1;
                self.newest.keeps(*ordinal - 1, key, Offset(record.offset))
            });
            let keep = newest && !(expired && record.is_tombstone());
            left += usize::from(keep);
            keep
        });
        match filtered {
            Ok(Some(_)) if left == 0 => None,
            Ok(Some(bytes)) => Some(bytes.freeze()),
            Ok(None) => Some(batch),
            Err(_) => {
                // What cannot be parsed was not counted either.
                *ordinal = from;
                Some(batch)
            }
        }
    }
}

/// A sealed segment, open.
pub(super) async fn open<R: Rt>(group: &GroupSegments<R>, sealed: &Sealed) -> Result<Opened<R>> {
    group.handles().sealed(group.key(sealed.name), || group.path(sealed.name)).await
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
        let before = last_blocks(&self.index);
        let chunk: Chunk = rt.offload("pack blocks", move || encode_chunk(&batch, next, options, &before)).await?;
        self.file.write_chunk(self.position, &chunk).await?;
        self.position += chunk.bytes.len() as u64;
        self.index.extend(chunk.index);
        self.answered = next;
        Ok(())
    }
}

/// Takes over what stays of a block.
fn keep_of_block<R: Rt>(out: &mut Output<R>, clean: bool, block: &BlockIndex, raw: &Bytes, rules: &Rules, ordinal: &mut u64) {
    // What has no records has been applied long ago.
    for (_, payload) in entries(raw).flatten().filter(|(kind, _)| *kind == EntryKind::Batch) {
        let Some(kept) = rules.apply(payload, clean, ordinal) else { continue };
        let base_offset = Header::parse(&kept).map_or(block.first_offset, |h| Offset(h.base_offset));
        out.pending_bytes += kept.len();
        out.pending.push(Entry { index: block.first_index, term: block.term, kind: EntryKind::Batch, base_offset, payload: kept });
    }
}

/// Writes what stays of `inputs` and puts it in their place. The new file's bytes, or `None` if they were trimmed meanwhile.
async fn rewrite<R: Rt>(group: &GroupSegments<R>, inputs: &[Sealed], rules: &Rules, ordinal: &mut u64, level: i32) -> Result<Option<u64>> {
    let generation = inputs.iter().map(|s| s.name.generation).max().unwrap_or(0) + 1;
    let name = SegmentName { base_offset: inputs[0].name.base_offset, generation };
    let temporary = group.dir().join(format!("{name}.tmp"));
    let rt = group.handles().rt();
    let written = match write(group, inputs, rules, ordinal, level, (name, &temporary)).await {
        Ok(new) if group.has(inputs) => new,
        given_up => {
            // It may be large, and want of room may be why. If it cannot be removed, the next start does it.
            let _ = group.handles().trash().take_all(group.dir(), [format!("{name}.tmp")]).await;
            return given_up.map(|_| None);
        }
    };
    rt.rename(&temporary, &group.path(name)).await?;
    rt.sync_dir(group.dir()).await?;
    Ok(group.replace(inputs, written).await?.then_some(written.bytes))
}

/// Writes what stays of `inputs` into a file of its own, sealed and synced. The pair is its name to be, and its path for now.
async fn write<R: Rt>(
    group: &GroupSegments<R>,
    inputs: &[Sealed],
    rules: &Rules,
    ordinal: &mut u64,
    level: i32,
    (name, temporary): (SegmentName, &Path),
) -> Result<Sealed> {
    let rt = group.handles().rt();
    let (first, last) = (inputs[0], inputs[inputs.len() - 1]);
    let header = SegmentHeader { generation: name.generation, ..open(group, &first).await?.file.header };
    let mut out = Output {
        file: SegmentFile::create(rt, temporary.to_path_buf(), header).await?,
        position: HEADER_BYTES,
        index: Vec::new(),
        pending: Vec::new(),
        pending_bytes: 0,
        answered: first.name.base_offset,
    };
    for sealed in inputs {
        let opened = open(group, sealed).await?;
        let mut rest = &opened.index[..];
        while !rest.is_empty() {
            let (run, behind) = rest.split_at(run_len(rest, 0, READ_BYTES));
            group.must_have(inputs)?;
            for (block, raw) in run.iter().zip(opened.file.read_blocks(rt, run).await?) {
                keep_of_block(&mut out, is_clean(sealed), block, &raw, rules, ordinal);
                if out.pending_bytes >= PACK_BYTES {
                    out.flush(rt, group.group(), level, block.next_offset).await?;
                }
                rt.yield_now().await;
            }
            rest = behind;
        }
    }
    out.flush(rt, group.group(), level, last.next_offset).await?;
    let bytes = out.file.seal(out.position, &out.index, last.next_offset, last.last_index).await?;
    let max_timestamp = out.index.iter().map(|b| b.max_timestamp).max().unwrap_or(i64::MIN);
    Ok(Sealed { name, next_offset: last.next_offset, last_index: last.last_index, bytes, max_timestamp })
}
