//! All segments of one group: what grows, what is sealed, what goes. Reading is in [`super::read`].
//!
//! Invariants: segments answer for offsets without a hole, from the first one's base up to the end of the one that
//! grows. Only one task appends or trims at a time (the group's settling), and only one compacts, which may be at the same
//! time; readers come whenever they like.
//! A segment that the journal's newest *synced* note calls the growing one is never compacted nor deleted, nor is a newer one.

use super::{
    chunk::{ChunkOptions, Packer, chunk_bytes_max, encode_chunk},
    file::{Bound, SegmentFile, corrupt},
    format::{BlockIndex, Damage, HEADER_BYTES, SegmentHeader, SegmentName},
    handles::{Handles, Key, Opened},
    list::last_blocks,
};
use crate::{
    config::GroupConfig,
    entry::Entry,
    error::{LogError, Result},
};
use millpond_runtime::{GroupId, Index, IoBuf, Offset, Open, Rt};
use std::{
    cell::{Cell, RefCell},
    path::{Path, PathBuf},
    rc::Rc,
};

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

/// The segment that grows. Its file may be closed meanwhile: [`Handles`] decides.
pub(super) struct Active {
    pub(super) name: SegmentName,
    position: u64,
    pub(super) next_offset: Offset,
    pub(super) last_index: Index,
    /// `None` until somebody needs it after a start. Shared with readers, who see it as it was when they came.
    loaded: Option<Loaded>,
}

/// What is read from the growing segment's file once after a start.
#[derive(Clone)]
struct Loaded {
    created_ms: i64,
    index: Rc<Vec<BlockIndex>>,
}

/// See the module.
pub struct GroupSegments<R: Rt> {
    group: GroupId,
    row: u64,
    dir: PathBuf,
    handles: Rc<Handles<R>>,
    pub(super) state: RefCell<State>,
    /// The group is to be dropped: a compaction that runs need not go on.
    doomed: Cell<bool>,
}

pub(super) struct State {
    pub(super) sealed: Vec<Sealed>,
    pub(super) active: Option<Active>,
    /// The directory's name has been synced.
    dir_exists: bool,
}

impl<R: Rt> GroupSegments<R> {
    /// A group that has never been settled.
    #[must_use]
    pub fn new(handles: Rc<Handles<R>>, dir: PathBuf, group: GroupId) -> Self {
        Self {
            group,
            row: handles.begin_row(),
            dir,
            handles,
            state: RefCell::new(State { sealed: Vec::new(), active: None, dir_exists: false }),
            doomed: Cell::new(false),
        }
    }

    /// The group is to be dropped: from here on nothing is compacted.
    pub fn doom(&self) {
        self.doomed.set(true);
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
        // A segment ends where the next one begins at the latest: of those that begin up to the start, the last one alone can hold anything
        // that is retained. The others need not even be whole, as one that was begun on a full disk is not.
        let bases = found.iter().map(|name| name.base_offset).chain(mark.map(|m| m.name.base_offset));
        let first = bases.filter(|base| *base <= start).max().unwrap_or_default();
        let (trimmed, mut found): (Vec<_>, Vec<_>) = found.into_iter().partition(|name| name.base_offset < first);
        leftover.extend(trimmed.iter().map(ToString::to_string));
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
        this.handles.trash().take_all(&this.dir, leftover).await?;
        {
            let mut state = this.state.borrow_mut();
            // Without a note the directory may be there and its name not synced: a process died between the two.
            (state.sealed, state.dir_exists) = (sealed, mark.is_some());
            state.active =
                mark.map(|m| Active { name: m.name, position: m.position, next_offset: m.next_offset, last_index, loaded: None });
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
                return Err(corrupt(&self.path(name), 0, 0, Damage(what)));
            }
            expected = next;
        }
        Ok(())
    }

    async fn facts(&self, name: SegmentName) -> Result<Sealed> {
        let file = SegmentFile::open(self.handles.rt(), self.path(name), Open::Read, self.group).await?;
        let (tail, bytes) = file.tail().await?;
        Ok(Sealed { name, next_offset: tail.next_offset, last_index: tail.last_index, bytes, max_timestamp: tail.max_timestamp })
    }

    /// One of them, open for as long as the answer lives, though its name may go.
    pub(crate) async fn open_held(&self, name: SegmentName) -> Result<Rc<SegmentFile<R>>> {
        let how = if self.state.borrow().active.as_ref().is_some_and(|a| a.name == name) { Open::ReadWrite } else { Open::Read };
        self.handles.file(self.key(name), how, || self.path(name)).await
    }

    /// Checks every block of every segment: their checksums, and that they are what the indexes say.
    pub(crate) async fn verify(&self) -> Result<()> {
        let sealed = self.sealed();
        for s in &sealed {
            let opened = self.handles.sealed(self.key(s.name), || self.path(s.name)).await?;
            self.verify_one(&opened, Bound::Sealed, s.next_offset).await?;
        }
        let growing = self.growing().await?;
        // It may have grown since, or been sealed and another one begun.
        let end = self.state.borrow().active.as_ref().map(|a| (a.name, a.position, a.next_offset));
        match (growing, end) {
            (Some(opened), Some((name, position, end))) if opened.key == self.key(name) => {
                self.verify_one(&opened, Bound::Position(position), end).await
            }
            _ => Ok(()),
        }
    }

    async fn verify_one(&self, opened: &Opened<R>, bound: Bound, end: Offset) -> Result<()> {
        opened.file.verify_frame(self.handles.rt(), bound, &opened.index).await?;
        let mut before: Option<&BlockIndex> = None;
        for block in opened.index.iter() {
            let follows =
                before.is_none_or(|b| b.next_offset == block.first_offset && b.first_index <= block.first_index && b.term <= block.term);
            if !follows {
                let what = format!("a block from offset {} in term {} does not follow the one before", block.first_offset, block.term);
                return Err(corrupt(&opened.file.path, block.position, u64::from(block.len), Damage(what)));
            }
            // Who reads several blocks at once reads what lies between them, too.
            if let Some(gap) = before.and_then(|b| block.position.checked_sub(b.end())).filter(|gap| *gap > 0) {
                opened.file.read(block.position - gap, gap as usize).await?;
            }
            opened.file.verify_block(block).await?;
            before = Some(block);
            self.handles.rt().yield_if_needed().await;
        }
        let found = before.map_or(opened.key.1.base_offset, |last| last.next_offset);
        if found > end {
            let what = format!("blocks up to offset {found}, where the segment ends at {end}");
            return Err(corrupt(&opened.file.path, 0, 0, Damage(what)));
        }
        Ok(())
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
        let mut growing = self.growing().await?;
        // An empty one, left by an append that failed, is never sealed: the next would have its name.
        let full = |position: u64, created_ms: i64| {
            let age = now_ms.saturating_sub(created_ms);
            position > HEADER_BYTES && (position >= config.segment_bytes || age >= i64::try_from(config.segment_ms).unwrap_or(i64::MAX))
        };
        let place = self.place();
        if let (Some(opened), Some((position, created_ms))) = (&growing, place)
            && full(position, created_ms)
            && !self.is_without_records()
        {
            self.seal(opened).await?;
            growing = None;
        }
        let file = match growing {
            Some(opened) => opened.file,
            None => self.begin(base_offset, base_index, now_ms).await?,
        };
        let (position, before) = {
            let state = self.state.borrow();
            let active = state.active.as_ref().expect("loaded or begun above; only settling takes it away");
            assert_eq!(active.next_offset, base_offset, "settled entries must follow the segment");
            (active.position, active.loaded.as_ref().map_or_else(Vec::new, |loaded| last_blocks(&loaded.index)))
        };
        let options = ChunkOptions { group: self.group, position, level };
        let (len, blocks) = self.write(&file, batch, next_offset, options, before).await?;
        let mut state = self.state.borrow_mut();
        let active = state.active.as_mut().expect("only settling takes it away, and that is us");
        active.position = position + len as u64;
        (active.next_offset, active.last_index) = (next_offset, last_index);
        let loaded = active.loaded.as_mut().expect("loaded or begun above");
        Rc::make_mut(&mut loaded.index).extend(blocks);
        Ok(Mark { name: active.name, position: active.position, next_offset })
    }

    /// Writes a chunk and syncs it; its length in bytes and its blocks. Compresses on the pool. What is not compressed is packed here, block by
    /// block, where the disk takes it: memory has run short, producers wait for it, and the pool may have others to work for.
    async fn write(
        &self,
        file: &SegmentFile<R>,
        batch: Vec<Entry>,
        next_offset: Offset,
        options: ChunkOptions,
        before: Vec<BlockIndex>,
    ) -> Result<(usize, Vec<BlockIndex>)> {
        let rt = self.handles.rt();
        if options.level > 0 {
            let chunk = rt.offload("pack blocks", move || encode_chunk(&batch, next_offset, options, &before)).await?;
            file.write_chunk(options.position, &chunk).await?;
            file.sync().await?;
            return Ok((chunk.bytes.len(), chunk.index));
        }
        let mut packer = Packer::new(options, file.buf(chunk_bytes_max(&batch)));
        for entry in batch {
            if packer.push(&entry) {
                rt.yield_if_needed().await;
            }
        }
        let chunk = packer.finish(next_offset, &before);
        let len = chunk.bytes.len();
        if options.position == HEADER_BYTES {
            // The header is to last, too. What lies before any later chunk was synced with the one before that.
            file.sync().await?;
        }
        file.write_packed_synced(options.position, chunk.bytes).await?;
        Ok((len, chunk.index))
    }

    /// How far the growing segment counts and when it was begun, once it is loaded.
    fn place(&self) -> Option<(u64, i64)> {
        let state = self.state.borrow();
        let active = state.active.as_ref()?;
        Some((active.position, active.loaded.as_ref()?.created_ms))
    }

    /// Whether what grows holds no offset, but entries of Raft alone: the next segment would have its name.
    fn is_without_records(&self) -> bool {
        self.state.borrow().active.as_ref().is_some_and(|active| active.next_offset == active.name.base_offset)
    }

    async fn begin(&self, base_offset: Offset, base_index: Index, now_ms: i64) -> Result<Rc<SegmentFile<R>>> {
        let rt = self.handles.rt();
        if !self.state.borrow().dir_exists {
            rt.create_dir_all(&self.dir).await?;
            if let Some(parent) = self.dir.parent() {
                rt.sync_dir(parent).await?;
            }
        }
        let name = SegmentName { base_offset, generation: 0 };
        let header = SegmentHeader { group: self.group, generation: 0, base_index, base_offset, created_ms: now_ms };
        let user = self.handles.trash().user(&self.path(name));
        let file = Rc::new(SegmentFile::create(rt, self.path(name), header).await?.on_lane(self.handles.lane()).used_by(user));
        rt.sync_dir(&self.dir).await?;
        self.handles.hold(self.key(name), Rc::clone(&file), None);
        let mut state = self.state.borrow_mut();
        state.dir_exists = true;
        state.active = Some(Active {
            name,
            position: HEADER_BYTES,
            next_offset: base_offset,
            last_index: Index(base_index.0.saturating_sub(1)),
            loaded: Some(Loaded { created_ms: now_ms, index: Rc::default() }),
        });
        Ok(file)
    }

    /// The growing segment, open. After a start its index is gathered first, from the lists of its chunks.
    pub(crate) async fn growing(&self) -> Result<Option<Opened<R>>> {
        let Some((name, position, next_offset)) = self.state.borrow().active.as_ref().map(|a| (a.name, a.position, a.next_offset)) else {
            return Ok(None);
        };
        let key = self.key(name);
        let file = self.handles.file(key, Open::ReadWrite, || self.path(name)).await?;
        if let Some(index) = self.index_of(name) {
            return Ok(Some(Opened { key, file, index }));
        }
        let index = file.index(self.handles.rt(), Bound::Position(position)).await?;
        let end = index.last().map_or(name.base_offset, |last| last.next_offset);
        if end < next_offset {
            let what = format!("blocks up to byte {position} answer up to offset {end}, the journal says {next_offset}");
            return Err(corrupt(&file.path, 0, position, Damage(what)));
        }
        {
            // Somebody else may have been faster, and appended since: then that index is the longer one.
            let mut state = self.state.borrow_mut();
            if let Some(active) = state.active.as_mut().filter(|a| a.name == name && a.loaded.is_none()) {
                active.loaded = Some(Loaded { created_ms: file.header.created_ms, index: Rc::new(index) });
            }
        }
        // Sealed or deleted meanwhile: the caller looks again.
        Ok(self.index_of(name).map(|index| Opened { key, file, index }))
    }

    /// The growing segment's index, if that is its name and it is loaded.
    fn index_of(&self, name: SegmentName) -> Option<Rc<Vec<BlockIndex>>> {
        let state = self.state.borrow();
        let active = state.active.as_ref().filter(|a| a.name == name)?;
        active.loaded.as_ref().map(|loaded| Rc::clone(&loaded.index))
    }

    /// Ends the growing segment, which is `opened`, with a footer.
    async fn seal(&self, opened: &Opened<R>) -> Result<()> {
        let Some((position, next_offset, last_index)) =
            self.state.borrow().active.as_ref().map(|a| (a.position, a.next_offset, a.last_index))
        else {
            return Ok(());
        };
        let bytes = opened.file.seal(position, &opened.index, next_offset, last_index).await?;
        let mut state = self.state.borrow_mut();
        let Some(active) = state.active.take() else { return Ok(()) };
        let max_timestamp = opened.index.iter().map(|b| b.max_timestamp).max().unwrap_or(i64::MIN);
        state.sealed.push(Sealed { name: active.name, next_offset, last_index, bytes, max_timestamp });
        drop(state);
        self.handles.hold(opened.key, Rc::clone(&opened.file), Some(Rc::clone(&opened.index)));
        Ok(())
    }

    /// Deletes segments that answer for nothing at or after `start`. The trim has been journaled and synced. One that was begun at
    /// `start` stays, though it may hold entries of Raft alone as yet: the journal may know it by now.
    pub async fn remove_before(&self, start: Offset) -> Result<()> {
        self.remove_up_to(start, |active| active.name.base_offset < start).await
    }

    /// As [`GroupSegments::remove_before`], where the journal knows no growing segment: what grows goes, too.
    pub async fn remove_unknown(&self, start: Offset) -> Result<()> {
        self.remove_up_to(start, |_| true).await
    }

    async fn remove_up_to(&self, start: Offset, growing: impl FnOnce(&Active) -> bool) -> Result<()> {
        let gone: Vec<SegmentName> = {
            let mut state = self.state.borrow_mut();
            let n = state.sealed.partition_point(|s| s.next_offset <= start);
            let mut gone: Vec<_> = state.sealed.drain(..n).map(|s| s.name).collect();
            if let Some(active) = state.active.take_if(|a| a.next_offset <= start && growing(a)) {
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
            let mut gone: Vec<_> = state.sealed.drain(..).map(|s| s.name).collect();
            gone.extend(state.active.take().map(|a| a.name));
            drop(state);
            gone.iter().for_each(|name| self.handles.forget(self.key(*name)));
        }
        let names = match rt.list(&self.dir).await {
            Ok(names) => names,
            Err(e) if e.is_not_found() => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        let trash = self.handles.trash();
        let mut taken = Vec::with_capacity(names.len());
        for name in names {
            taken.push(trash.take(&self.dir.join(name)).await?);
        }
        rt.remove_dir(&self.dir).await?;
        if let Some(parent) = self.dir.parent() {
            rt.sync_dir(parent).await?;
        }
        trash.forget(taken.into_iter().flatten());
        Ok(())
    }

    async fn delete(&self, names: &[SegmentName]) -> Result<()> {
        names.iter().for_each(|name| self.handles.forget(self.key(*name)));
        self.handles.trash().take_all(&self.dir, names.iter().map(ToString::to_string)).await
    }

    /// Whether all of these are still among the sealed segments, and to stay there.
    pub(super) fn has(&self, segments: &[Sealed]) -> bool {
        let state = self.state.borrow();
        !self.doomed.get() && segments.iter().all(|s| state.sealed.iter().any(|have| have.name == s.name))
    }

    /// Refuses if [`GroupSegments::has`] does not hold.
    pub(super) fn must_have(&self, segments: &[Sealed]) -> Result<()> {
        if self.has(segments) { Ok(()) } else { Err(LogError::UnknownGroup { group: self.group }) }
    }

    /// Puts `new`, which is synced and bears its name, in the place of `old`, which follow one another, and deletes those. If
    /// one of them has been trimmed away meanwhile, or the group is to be dropped, `new` goes instead: false.
    pub(super) async fn replace(&self, old: &[Sealed], new: Sealed) -> Result<bool> {
        let all = self.has(old);
        let gone: Vec<SegmentName> = if all {
            let mut state = self.state.borrow_mut();
            let at = state.sealed.partition_point(|s| s.name.base_offset < new.name.base_offset);
            state.sealed.splice(at..at + old.len(), [new]).map(|s| s.name).collect()
        } else {
            vec![new.name]
        };
        self.delete(&gone).await?;
        Ok(all)
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

    pub(super) fn key(&self, name: SegmentName) -> Key {
        (self.group, name, self.row)
    }

    pub(super) fn path(&self, name: SegmentName) -> PathBuf {
        self.dir.join(name.to_string())
    }
}
