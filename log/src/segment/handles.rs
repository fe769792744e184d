//! What all groups of a home share to read their segments: open files, blocks read lately, blocks read ahead.
//!
//! Ten thousand partitions must not hold ten thousand descriptors: of the files, growing ones too, at most so many are
//! open, and the least recently used are closed. Fewer indexes of sealed ones are kept, which take more memory than a file that is open. Blocks are kept and
//! read ahead within two budgets of bytes.

use super::{
    ahead::{Ahead, Run},
    file::{Bound, SegmentFile},
    format::{BlockIndex, SegmentName},
    lane::Lane,
    lru::Lru,
};
use crate::{error::Result, trash::Trash};
use bytes::Bytes;
use millpond_batch::DecompressLimits;
use millpond_runtime::{GroupId, Open, Rt};
use std::{
    cell::{Cell, RefCell},
    path::PathBuf,
    rc::Rc,
};

/// A compaction may take so many times the memory of all blocks that are kept,
const WORK_SHARE: usize = 8;
/// and this much at the least, in bytes.
const WORK_BYTES_MIN: usize = 4 << 20;
/// Of that a quarter is for the keys that it remembers; each takes so many bytes.
const KEY_BYTES: usize = 27;
/// Indexes of sealed segments that are kept: each takes some 60 bytes for each block of its segment.
const INDEXES_MAX: usize = 256;

/// A segment, open, with its blocks in order.
pub struct Opened<R: Rt> {
    /// Which it is.
    pub key: Key,
    /// The file.
    pub file: Rc<SegmentFile<R>>,
    /// Its blocks, as far as they count.
    pub index: Rc<Vec<BlockIndex>>,
}

/// A segment of a group, and which row of segments it is in: a group whose history was replaced by a snapshot may have another one of the same name.
pub type Key = (GroupId, SegmentName, u64);
/// A block of a segment, by its position.
pub(super) type BlockKey = (Key, u64);

/// See the module. Shared by all groups of a home.
pub struct Handles<R: Rt> {
    rt: R,
    open_max: usize,
    cache_bytes_max: usize,
    /// What one compaction may take for what it unpacks.
    work_bytes: usize,
    open: RefCell<Lru<Key, Rc<SegmentFile<R>>>>,
    /// Of sealed segments that were asked for, whether they are open or not.
    indexes: RefCell<Lru<Key, Rc<Vec<BlockIndex>>>>,
    /// How often a segment was forgotten.
    forgotten: Cell<u64>,
    /// Rows of segments so far.
    rows: Cell<u64>,
    cache: RefCell<Cache>,
    ahead: Ahead,
    /// Shared by the reads of all files.
    lane: Rc<Lane<R>>,
    /// Where files go that are in no use any more.
    trash: Rc<Trash<R>>,
}

#[derive(Default)]
struct Cache {
    blocks: Lru<BlockKey, Bytes>,
    bytes: usize,
}

impl<R: Rt> Handles<R> {
    /// At most `open_max` open files (one at least), and `cache_bytes_max` bytes of unpacked blocks, half of them for reading
    /// ahead.
    pub fn new(rt: R, trash: Rc<Trash<R>>, open_max: usize, cache_bytes_max: usize) -> Self {
        let half = cache_bytes_max / 2;
        let lane = Rc::new(Lane::new(rt.clone()));
        Self {
            rt,
            open_max: open_max.max(1),
            cache_bytes_max: half,
            work_bytes: (cache_bytes_max * WORK_SHARE).max(WORK_BYTES_MIN),
            open: RefCell::default(),
            indexes: RefCell::default(),
            forgotten: Cell::new(0),
            rows: Cell::new(0),
            cache: RefCell::default(),
            ahead: Ahead::new(half),
            lane,
            trash,
        }
    }

    /// The door.
    pub fn rt(&self) -> &R {
        &self.rt
    }

    /// The number of a new row of segments: see [`Key`].
    pub(super) fn begin_row(&self) -> u64 {
        self.rows.set(self.rows.get() + 1);
        self.rows.get()
    }

    /// How far a compaction unpacks a batch; one that becomes larger stays as it is.
    pub(super) fn unpack_limits(&self) -> DecompressLimits {
        let usual = DecompressLimits::default();
        DecompressLimits { bytes_max: usual.bytes_max.min(self.work_bytes), ..usual }
    }

    /// Keys that a compaction may remember at a time.
    pub(super) fn keys_max(&self) -> usize {
        self.work_bytes / 4 / KEY_BYTES
    }

    /// A segment's file, opened if it is not.
    pub async fn file(&self, key: Key, how: Open, path: impl FnOnce() -> PathBuf) -> Result<Rc<SegmentFile<R>>> {
        if let Some(file) = self.open.borrow_mut().get(&key) {
            return Ok(Rc::clone(file));
        }
        let forgotten = self.forgotten.get();
        let path = path();
        let user = self.trash.user(&path);
        let file = Rc::new(SegmentFile::open(&self.rt, path, how, key.0).await?.on_lane(&self.lane).used_by(user));
        // A file that was deleted while it was being opened must not answer for a later one of its name.
        if self.forgotten.get() == forgotten {
            self.hold(key, Rc::clone(&file), None);
        }
        Ok(file)
    }

    /// A sealed segment's file and index.
    pub async fn sealed(&self, key: Key, path: impl FnOnce() -> PathBuf) -> Result<Opened<R>> {
        let file = self.file(key, Open::Read, path).await?;
        let known = self.indexes.borrow_mut().get(&key).cloned();
        if let Some(index) = known {
            return Ok(Opened { key, file, index });
        }
        let index = Rc::new(file.index(&self.rt, Bound::Sealed).await?);
        // It may have been deleted meanwhile.
        if self.open.borrow().peek(&key).is_some_and(|held| Rc::ptr_eq(held, &file)) {
            self.hold_index(key, Rc::clone(&index));
        }
        Ok(Opened { key, file, index })
    }

    /// Keeps a file that its owner has opened, and its index if it is sealed, closing the least recently used ones past the bound.
    pub fn hold(&self, key: Key, file: Rc<SegmentFile<R>>, index: Option<Rc<Vec<BlockIndex>>>) {
        let mut open = self.open.borrow_mut();
        open.insert(key, file);
        while open.len() > self.open_max {
            open.pop_oldest();
        }
        if let Some(index) = index {
            self.hold_index(key, index);
        }
    }

    fn hold_index(&self, key: Key, index: Rc<Vec<BlockIndex>>) {
        let mut indexes = self.indexes.borrow_mut();
        indexes.insert(key, index);
        while indexes.len() > INDEXES_MAX {
            indexes.pop_oldest();
        }
    }

    /// An unpacked block, if it was read lately.
    pub fn cached(&self, key: Key, position: u64) -> Option<Bytes> {
        self.cache.borrow_mut().blocks.get(&(key, position)).cloned()
    }

    /// Keeps the raw entries of a block for the next reader.
    pub fn keep(&self, key: Key, index: &BlockIndex, block: &Bytes) {
        if block.len() > self.cache_bytes_max / 4 {
            return;
        }
        let position = index.position;
        // One that was not packed would keep the memory of all that was read with it.
        let block = if index.is_raw() { Bytes::copy_from_slice(block) } else { block.clone() };
        let cache = &mut *self.cache.borrow_mut();
        cache.bytes += block.len();
        cache.bytes -= cache.blocks.insert((key, position), block).map_or(0, |before| before.len());
        while cache.bytes > self.cache_bytes_max
            && let Some(gone) = cache.blocks.pop_oldest()
        {
            cache.bytes -= gone.len();
        }
    }

    /// The blocks from `first` of the index on, of `bytes` raw bytes or a little more, if they have been read ahead.
    pub(super) async fn read_ahead(&self, opened: &Opened<R>, first: usize, bytes: usize) -> Option<Run> {
        self.ahead.take(opened, first, bytes).await
    }

    /// The blocks up to `next` of the index, not included, have been read, `bytes` raw bytes at a time: has what follows read
    /// ahead if it looks like a replay.
    pub(super) fn went_on(&self, opened: &Opened<R>, first: usize, next: usize, bytes: usize) {
        self.ahead.went_on(&self.rt, opened, first, next, bytes);
    }

    /// Turns for the reads of all files.
    pub(crate) fn lane(&self) -> &Rc<Lane<R>> {
        &self.lane
    }

    /// Where files go that are in no use any more.
    pub(crate) fn trash(&self) -> &Rc<Trash<R>> {
        &self.trash
    }

    /// Forgets a segment that goes.
    pub fn forget(&self, key: Key) {
        self.forgotten.set(self.forgotten.get() + 1);
        self.open.borrow_mut().remove(&key);
        self.indexes.borrow_mut().remove(&key);
        self.ahead.forget(key);
        let cache = &mut *self.cache.borrow_mut();
        for gone in cache.blocks.remove_where(|(k, _)| *k == key) {
            cache.bytes -= gone.len();
        }
    }

    /// Raw bytes of blocks that have been read ahead, or are on their way.
    pub fn ahead_bytes(&self) -> usize {
        self.ahead.bytes()
    }

    /// Files open, and bytes of blocks kept or read ahead.
    pub fn used(&self) -> (usize, usize) {
        (self.open.borrow().len(), self.cache.borrow().bytes + self.ahead.bytes())
    }
}
