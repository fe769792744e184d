//! All segments of one group: what grows, what is sealed, reading across them.
//!
//! Invariants: segments answer for offsets without a hole, from the first one's base up to the end of the one that
//! grows. Only one task appends, trims or compacts at a time (the group's settling); readers come whenever they like.
//! A segment that the journal's newest *synced* note calls the growing one is never compacted nor deleted, nor is a newer one.

use super::{
    chunk::{ChunkOptions, encode_chunk, entries},
    file::{Bound, SegmentFile, corrupt},
    format::{BlockIndex, Damage, HEADER_BYTES, SegmentHeader, SegmentName},
    handles::{Handles, Opened},
};
use crate::{
    config::GroupConfig,
    entry::{Entry, EntryKind},
    error::Result,
    log::{ReadLimits, ReadOut},
};
use bytes::Bytes;
use millpond_batch::{DecompressLimits, Header, records};
use millpond_runtime::{GroupId, Index, Offset, Open, Rt};
use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    rc::Rc,
};

/// Raw bytes of blocks that one disk operation fetches ahead of what was asked for.
const READ_RAW_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Where the growing segment stands: what the journal notes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The segment.
    pub name: SegmentName,
    /// Bytes of it that count.
    pub position: u64,
    /// The offset after the last one that it answers for.
    pub next_offset: Offset,
}

/// What is known of a sealed segment without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Its name, with the first offset it answers for.
    pub name: SegmentName,
    /// The offset after the last one.
    pub next_offset: Offset,
    /// The last index that it answers for.
    pub last_index: Index,
    /// Its file's length, in bytes.
    pub bytes: u64,
    /// Its largest timestamp, `i64::MIN` without records.
    pub max_timestamp: i64,
}

/// The segment that grows. Its file may be closed meanwhile.
struct Active<R: Rt> {
    name: SegmentName,
    created_ms: i64,
    position: u64,
    next_offset: Offset,
    last_index: Index,
    /// `None` until somebody needs it after a start.
    opened: Option<Rc<SegmentFile<R>>>,
    index: Option<Vec<BlockIndex>>,
}

/// See the module.
pub struct GroupSegments<R: Rt> {
    group: GroupId,
    dir: PathBuf,
    handles: Rc<Handles<R>>,
    state: RefCell<State<R>>,
}

struct State<R: Rt> {
    sealed: Vec<Sealed>,
    active: Option<Active<R>>,
    /// The directory's name has been synced.
    dir_exists: bool,
}

/// A segment as a reader sees it.
enum Source<R: Rt> {
    Sealed(Sealed),
    Active(Rc<SegmentFile<R>>, SegmentName, Vec<BlockIndex>),
}

impl<R: Rt> GroupSegments<R> {
    /// A group that has never been settled.
    #[must_use]
    pub fn new(handles: Rc<Handles<R>>, dir: PathBuf, group: GroupId) -> Self {
        Self { group, dir, handles, state: RefCell::new(State { sealed: Vec::new(), active: None, dir_exists: false }) }
    }

    /// Finds the segments of a group after a start. `mark` is the growing one as the journal knows it; `start` the first
    /// offset retained. Removes what a crash left: files that the journal does not know yet, what compaction has replaced,
    /// and what was trimmed.
    pub async fn open(
        handles: Rc<Handles<R>>,
        dir: PathBuf,
        group: GroupId,
        mark: Option<Mark>,
        last_index: Index,
        start: Offset,
    ) -> Result<Self> {
        let rt = handles.rt().clone();
        let names = match rt.list(&dir).await {
            Ok(names) => names,
            Err(e) if e.is_not_found() && mark.is_none() => return Ok(Self::new(handles, dir, group)),
            Err(e) => return Err(e.into()),
        };
        let mut found: Vec<SegmentName> = Vec::new();
        let mut leftover: Vec<String> = Vec::new();
        for name in names {
            match SegmentName::parse(&name) {
                Some(segment) if mark.is_some_and(|m| segment.base_offset <= m.name.base_offset) => found.push(segment),
                Some(_) => leftover.push(name),
                None if name.ends_with(".tmp") => leftover.push(name),
                None => tracing::warn!(file = %dir.join(&name).display(), "not a file of ours; left alone"),
            }
        }
        let this = Self::new(handles, dir, group);
        let mut sealed: Vec<Sealed> = Vec::new();
        // Of one base offset the highest generation counts; what it covers goes.
        found.sort_by_key(|n| (n.base_offset, std::cmp::Reverse(n.generation)));
        for name in found {
            if mark.is_some_and(|m| m.name == name) {
                continue;
            }
            let covered = sealed.last().is_some_and(|s| name.base_offset < s.next_offset);
            let beside_active = mark.is_some_and(|m| m.name.base_offset == name.base_offset);
            if covered || beside_active {
                leftover.push(name.to_string());
                continue;
            }
            let facts = this.facts(name).await?;
            if facts.next_offset <= start { leftover.push(name.to_string()) } else { sealed.push(facts) }
        }
        this.check_row(&sealed, mark, start)?;
        for name in &leftover {
            rt.remove(&this.dir.join(name)).await?;
        }
        if !leftover.is_empty() {
            rt.sync_dir(&this.dir).await?;
        }
        {
            let mut state = this.state.borrow_mut();
            // Without a note the directory may be there and its name not synced: a process died between the two.
            (state.sealed, state.dir_exists) = (sealed, mark.is_some());
            state.active = mark.map(|m| Active {
                name: m.name,
                created_ms: i64::MAX,
                position: m.position,
                next_offset: m.next_offset,
                last_index,
                opened: None,
                index: None,
            });
        }
        Ok(this)
    }

    /// Segments must answer for all offsets from `start` on up to the growing one's end.
    fn check_row(&self, sealed: &[Sealed], mark: Option<Mark>, start: Offset) -> Result<()> {
        let Some(mark) = mark else { return Ok(()) };
        let mut expected = sealed.first().map_or(mark.name.base_offset, |s| s.name.base_offset).min(start);
        let bases = sealed.iter().map(|s| (s.name, s.next_offset)).chain([(mark.name, mark.next_offset)]);
        for (n, (name, next)) in bases.enumerate() {
            if name.base_offset != expected && !(n == 0 && name.base_offset <= start) {
                let what = format!("the segment from offset {expected} is missing: the next one is {name}");
                return Err(corrupt(&self.dir.join(name.to_string()), 0, 0, Damage(what)));
            }
            expected = next;
        }
        Ok(())
    }

    async fn facts(&self, name: SegmentName) -> Result<Sealed> {
        let path = self.dir.join(name.to_string());
        let file = SegmentFile::open(self.handles.rt(), path, Open::Read, self.group).await?;
        let tail = file.tail().await?;
        let bytes = tail.footer + super::format::encode_footer(&[], 0, Offset(0), Index(0)).len() as u64;
        Ok(Sealed { name, next_offset: tail.next_offset, last_index: tail.last_index, bytes, max_timestamp: tail.max_timestamp })
    }

    /// Bytes on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let state = self.state.borrow();
        state.sealed.iter().map(|s| s.bytes).sum::<u64>() + state.active.as_ref().map_or(0, |a| a.position)
    }

    /// The sealed segments, oldest first.
    #[must_use]
    pub fn sealed(&self) -> Vec<Sealed> {
        self.state.borrow().sealed.clone()
    }

    /// The offset after the last one that the segments answer for; `None` without segments.
    #[must_use]
    pub fn next_offset(&self) -> Option<Offset> {
        let state = self.state.borrow();
        state.active.as_ref().map(|a| a.next_offset).or_else(|| state.sealed.last().map(|s| s.next_offset))
    }

    /// Appends entries that follow what is there, and syncs them; they answer up to `next_offset`. The mark is for the journal
    /// to note. Seals the segment first if it is full or old, and begins another.
    pub async fn append(&self, batch: Vec<Entry>, next_offset: Offset, config: &GroupConfig, level: i32, now_ms: i64) -> Result<Mark> {
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else {
            unreachable!("settling never appends nothing");
        };
        let (base_offset, base_index, last_index) = (first.base_offset, first.index, last.index);
        self.load_active().await?;
        // An empty one, left by an append that failed, is never sealed: the next would have its name.
        let full = self.state.borrow().active.as_ref().filter(|a| a.position > HEADER_BYTES).is_some_and(|a| {
            a.position >= config.segment_bytes
                || now_ms.saturating_sub(a.created_ms) >= i64::try_from(config.segment_ms).unwrap_or(i64::MAX)
        });
        if full {
            self.seal().await?;
        }
        let begun = self.state.borrow().active.is_none();
        if begun {
            self.begin(base_offset, base_index, now_ms).await?;
        }
        let (file, position) = {
            let state = self.state.borrow();
            let active = state.active.as_ref().expect("loaded or begun above; only settling takes it away");
            assert_eq!(active.next_offset, base_offset, "settled entries must follow the segment");
            (active.opened.clone().expect("loaded or begun above"), active.position)
        };
        let options = ChunkOptions { group: self.group, position, level };
        let chunk = self.handles.rt().offload("pack blocks", move || encode_chunk(&batch, next_offset, options)).await?;
        file.write_chunk(position, &chunk).await?;
        file.sync().await?;
        let mut state = self.state.borrow_mut();
        let active = state.active.as_mut().expect("only settling takes it away, and that is us");
        active.position = position + chunk.bytes.len() as u64;
        (active.next_offset, active.last_index) = (next_offset, last_index);
        active.index.as_mut().expect("loaded or begun above").extend(chunk.index);
        Ok(Mark { name: active.name, position: active.position, next_offset })
    }

    async fn begin(&self, base_offset: Offset, base_index: Index, now_ms: i64) -> Result<()> {
        let rt = self.handles.rt();
        if !self.state.borrow().dir_exists {
            rt.create_dir_all(&self.dir).await?;
            if let Some(parent) = self.dir.parent() {
                rt.sync_dir(parent).await?;
            }
        }
        let name = SegmentName { base_offset, generation: 0 };
        let header = SegmentHeader { group: self.group, generation: 0, base_index, base_offset, created_ms: now_ms };
        let file = SegmentFile::create(rt, self.dir.join(name.to_string()), header).await?;
        rt.sync_dir(&self.dir).await?;
        let mut state = self.state.borrow_mut();
        state.dir_exists = true;
        state.active = Some(Active {
            name,
            created_ms: now_ms,
            position: HEADER_BYTES,
            next_offset: base_offset,
            last_index: Index(base_index.0.saturating_sub(1)),
            opened: Some(Rc::new(file)),
            index: Some(Vec::new()),
        });
        Ok(())
    }

    /// Opens the growing segment and rebuilds its index, checking every block that counts.
    async fn load_active(&self) -> Result<()> {
        let (name, position, next_offset, missing_index) = {
            let state = self.state.borrow();
            match &state.active {
                Some(a) if a.opened.is_none() => (a.name, a.position, a.next_offset, a.index.is_none()),
                _ => return Ok(()),
            }
        };
        let path = self.dir.join(name.to_string());
        let file = SegmentFile::open(self.handles.rt(), path, Open::ReadWrite, self.group).await?;
        let index = if missing_index { Some(file.index(self.handles.rt(), Bound::Position(position)).await?) } else { None };
        if let Some(end) = index.as_ref().and_then(|index| index.last()).map(|last| last.next_offset)
            && end < next_offset
        {
            let what = format!("blocks up to byte {position} answer up to offset {end}, the journal says {next_offset}");
            return Err(corrupt(&file.path, 0, position, Damage(what)));
        }
        let mut state = self.state.borrow_mut();
        if let Some(active) = state.active.as_mut().filter(|a| a.name == name && a.opened.is_none()) {
            active.created_ms = file.header.created_ms;
            // An append may have been faster: its index is the longer one.
            if active.index.is_none() {
                active.index = index;
            }
            active.opened = Some(Rc::new(file));
        }
        Ok(())
    }

    /// Closes the file of the growing segment until somebody needs it: for groups that are quiet.
    pub fn rest(&self) {
        if let Some(active) = self.state.borrow_mut().active.as_mut() {
            active.opened = None;
        }
    }

    /// Ends the growing segment with a footer.
    async fn seal(&self) -> Result<()> {
        let (file, index, position, next_offset, last_index) = {
            let state = self.state.borrow();
            let Some(a) = state.active.as_ref() else { return Ok(()) };
            let (Some(file), Some(index)) = (&a.opened, &a.index) else { return Ok(()) };
            (Rc::clone(file), index.clone(), a.position, a.next_offset, a.last_index)
        };
        file.seal(position, &index, next_offset, last_index).await?;
        let mut state = self.state.borrow_mut();
        let Some(active) = state.active.take() else { return Ok(()) };
        let max_timestamp = index.iter().map(|b| b.max_timestamp).max().unwrap_or(i64::MIN);
        state.sealed.push(Sealed { name: active.name, next_offset, last_index, bytes: position, max_timestamp });
        Ok(())
    }

    fn source(&self, from: Offset) -> Option<Source<R>> {
        let state = self.state.borrow();
        let n = state.sealed.partition_point(|s| s.next_offset <= from);
        if let Some(sealed) = state.sealed.get(n) {
            return Some(Source::Sealed(*sealed));
        }
        let active = state.active.as_ref().filter(|a| from < a.next_offset)?;
        Some(Source::Active(Rc::clone(active.opened.as_ref()?), active.name, active.index.clone()?))
    }

    /// Reads whole batches from `from` on. Empty where the segments end.
    pub async fn read(&self, from: Offset, limits: ReadLimits) -> Result<ReadOut> {
        let mut out = ReadOut { batches: Vec::new(), next: from };
        let mut bytes = 0;
        while out.next < limits.end && bytes < limits.bytes_max.max(1) {
            self.load_active().await?;
            let Some(source) = self.source(out.next) else { break };
            let blocks = self.read_run(&source, out.next, limits.bytes_max.saturating_sub(bytes)).await?;
            if blocks.is_empty() {
                // Nothing but a hole is left of this segment.
                match source {
                    Source::Sealed(s) => out.next = s.next_offset,
                    Source::Active(..) => break,
                }
                continue;
            }
            for (block, raw) in blocks {
                if collect(&raw, &block, limits, &mut bytes, &mut out) {
                    return Ok(out);
                }
            }
        }
        Ok(out)
    }

    /// The blocks from the one that answers for `from` on, about as many as `bytes` need.
    async fn read_run(&self, source: &Source<R>, from: Offset, bytes: usize) -> Result<Vec<(BlockIndex, Bytes)>> {
        let opened: Rc<Opened<R>>;
        let (file, name, index): (&SegmentFile<R>, SegmentName, &[BlockIndex]) = match source {
            Source::Sealed(s) => {
                opened = self.handles.sealed(self.group, s.name, || self.dir.join(s.name.to_string())).await?;
                (&opened.file, s.name, &opened.index)
            }
            Source::Active(file, name, index) => (file, *name, index),
        };
        let first = index.partition_point(|b| b.next_offset <= from);
        let mut raw = 0;
        let mut run = Vec::new();
        for block in &index[first..] {
            if !run.is_empty() && raw >= bytes.min(READ_RAW_BYTES_MAX) {
                break;
            }
            raw += block.raw_len as usize;
            run.push(*block);
        }
        let cached: Vec<_> = run.iter().map_while(|b| self.handles.cached(self.group, name, b.position).map(|raw| (*b, raw))).collect();
        if !cached.is_empty() {
            return Ok(cached);
        }
        let unpacked = file.read_blocks(self.handles.rt(), &run).await?;
        // Only the last one is likely to be asked for again: by the reader who stopped inside it.
        if let (Some(block), Some(raw)) = (run.last(), unpacked.last()) {
            self.handles.keep(self.group, name, block.position, raw);
        }
        Ok(run.into_iter().zip(unpacked).collect())
    }

    /// The first record at or after `from` whose timestamp is at least `ms`: its offset and timestamp.
    pub async fn find_time(&self, ms: i64, from: Offset) -> Result<Option<(Offset, i64)>> {
        self.load_active().await?;
        let mut at = from;
        while let Some(source) = self.source(at) {
            let next = match &source {
                Source::Sealed(s) if s.max_timestamp < ms => s.next_offset,
                Source::Sealed(s) => {
                    let opened = self.handles.sealed(self.group, s.name, || self.dir.join(s.name.to_string())).await?;
                    if let Some(found) = self.find_in(&opened.file, s.name, &opened.index, ms, from).await? {
                        return Ok(Some(found));
                    }
                    s.next_offset
                }
                Source::Active(file, name, index) => return self.find_in(file, *name, index, ms, from).await,
            };
            at = next;
        }
        Ok(None)
    }

    async fn find_in(
        &self,
        file: &SegmentFile<R>,
        name: SegmentName,
        index: &[BlockIndex],
        ms: i64,
        from: Offset,
    ) -> Result<Option<(Offset, i64)>> {
        for block in index.iter().filter(|b| b.max_timestamp >= ms && b.next_offset > from) {
            let raw = match self.handles.cached(self.group, name, block.position) {
                Some(raw) => raw,
                None => file.read_blocks(self.handles.rt(), &[*block]).await?.remove(0),
            };
            self.handles.keep(self.group, name, block.position, &raw);
            for (_, payload) in entries(&raw).flatten().filter(|(kind, _)| *kind == EntryKind::Batch) {
                if let Some(found) = first_at(&payload, ms, from) {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// Deletes segments that answer for nothing at or after `start`. The trim has been journaled and synced.
    pub async fn remove_before(&self, start: Offset) -> Result<()> {
        let gone: Vec<SegmentName> = {
            let mut state = self.state.borrow_mut();
            let n = state.sealed.partition_point(|s| s.next_offset <= start);
            let mut gone: Vec<_> = state.sealed.drain(..n).map(|s| s.name).collect();
            if let Some(active) = state.active.take_if(|a| a.next_offset <= start) {
                gone.push(active.name);
            }
            gone
        };
        self.delete(&gone).await
    }

    /// Deletes everything, the directory too. The drop of the group has been journaled and synced.
    pub async fn remove_all(&self) -> Result<()> {
        let rt = self.handles.rt();
        {
            let mut state = self.state.borrow_mut();
            let gone: Vec<_> = state.sealed.drain(..).map(|s| s.name).collect();
            state.active = None;
            drop(state);
            gone.iter().for_each(|name| self.handles.forget(self.group, *name));
        }
        let names = match rt.list(&self.dir).await {
            Ok(names) => names,
            Err(e) if e.is_not_found() => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        for name in names {
            rt.remove(&self.dir.join(name)).await?;
        }
        rt.remove_dir(&self.dir).await?;
        if let Some(parent) = self.dir.parent() {
            rt.sync_dir(parent).await?;
        }
        Ok(())
    }

    async fn delete(&self, names: &[SegmentName]) -> Result<()> {
        for name in names {
            self.handles.forget(self.group, *name);
            self.handles.rt().remove(&self.dir.join(name.to_string())).await?;
        }
        if !names.is_empty() {
            self.handles.rt().sync_dir(&self.dir).await?;
        }
        Ok(())
    }

    /// Puts `new`, which is synced and bears its name, in the place of the sealed segments it covers, and deletes those.
    pub(super) async fn replace(&self, new: Sealed) -> Result<()> {
        let gone: Vec<SegmentName> = {
            let mut state = self.state.borrow_mut();
            let covered = |s: &Sealed| s.name.base_offset >= new.name.base_offset && s.next_offset <= new.next_offset;
            let at = state.sealed.partition_point(|s| s.name.base_offset < new.name.base_offset);
            let gone = state.sealed.iter().filter(|s| covered(s)).map(|s| s.name).collect();
            state.sealed.retain(|s| !covered(s));
            state.sealed.insert(at, new);
            gone
        };
        self.delete(&gone).await
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// Where the files are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn handles(&self) -> &Rc<Handles<R>> {
        &self.handles
    }
}

/// Takes what is wanted of a block; true once the limits are reached.
fn collect(raw: &Bytes, block: &BlockIndex, limits: ReadLimits, bytes: &mut usize, out: &mut ReadOut) -> bool {
    for (kind, payload) in entries(raw).flatten() {
        let Some(header) = (kind == EntryKind::Batch).then(|| Header::parse(&payload).ok()).flatten() else { continue };
        if header.next_offset() <= out.next.0 {
            continue;
        }
        let over = *bytes > 0 && *bytes + payload.len() > limits.bytes_max;
        if header.base_offset >= limits.end.0 || over {
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
    let Ok(all) = records(batch, DecompressLimits::default()) else {
        // What its producer packed badly is found by its batch.
        return Some((Offset(header.base_offset).max(from), header.max_timestamp));
    };
    all.map_while(Result::ok).find(|r| r.timestamp >= ms && r.offset >= from.0).map(|r| (Offset(r.offset), r.timestamp))
}
