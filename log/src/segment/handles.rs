//! Which segment files are open: at most so many, the least recently used are closed. And the blocks read last.
//!
//! Ten thousand partitions must not hold ten thousand descriptors, nor an index each in memory.

use super::{
    file::{Bound, SegmentFile},
    format::{BlockIndex, SegmentName},
};
use crate::error::Result;
use bytes::Bytes;
use millpond_runtime::{FxHashMap, GroupId, Open, Rt};
use std::{cell::RefCell, path::PathBuf, rc::Rc};

/// A segment with its index, ready to be read.
pub struct Opened<R: Rt> {
    /// The file.
    pub file: SegmentFile<R>,
    /// Its blocks, in order.
    pub index: Vec<BlockIndex>,
}

type Key = (GroupId, SegmentName);
type BlockKey = (GroupId, SegmentName, u64);

/// See the module. Shared by all groups of a home.
pub struct Handles<R: Rt> {
    rt: R,
    open_max: usize,
    cache_bytes_max: usize,
    state: RefCell<State<R>>,
}

struct State<R: Rt> {
    clock: u64,
    open: FxHashMap<Key, (u64, Rc<Opened<R>>)>,
    blocks: FxHashMap<BlockKey, (u64, Bytes)>,
    block_bytes: usize,
}

impl<R: Rt> Handles<R> {
    /// At most `open_max` open files and `cache_bytes_max` bytes of unpacked blocks.
    pub fn new(rt: R, open_max: usize, cache_bytes_max: usize) -> Self {
        let state = State { clock: 0, open: FxHashMap::default(), blocks: FxHashMap::default(), block_bytes: 0 };
        Self { rt, open_max: open_max.max(1), cache_bytes_max, state: RefCell::new(state) }
    }

    /// The door.
    pub fn rt(&self) -> &R {
        &self.rt
    }

    /// A sealed segment, open.
    pub async fn sealed(&self, group: GroupId, name: SegmentName, path: impl FnOnce() -> PathBuf) -> Result<Rc<Opened<R>>> {
        {
            let mut state = self.state.borrow_mut();
            state.clock += 1;
            let now = state.clock;
            if let Some((used, opened)) = state.open.get_mut(&(group, name)) {
                *used = now;
                return Ok(Rc::clone(opened));
            }
        }
        let file = SegmentFile::open(&self.rt, path(), Open::Read, group).await?;
        let index = file.index(&self.rt, Bound::Sealed).await?;
        let opened = Rc::new(Opened { file, index });
        let mut state = self.state.borrow_mut();
        if state.open.len() >= self.open_max {
            let oldest = state.open.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key);
            oldest.map(|key| state.open.remove(&key));
        }
        let now = state.clock;
        state.open.insert((group, name), (now, Rc::clone(&opened)));
        Ok(opened)
    }

    /// An unpacked block, if it was read lately.
    pub fn cached(&self, group: GroupId, name: SegmentName, position: u64) -> Option<Bytes> {
        let mut state = self.state.borrow_mut();
        state.clock += 1;
        let now = state.clock;
        let (used, block) = state.blocks.get_mut(&(group, name, position))?;
        *used = now;
        Some(block.clone())
    }

    /// Keeps an unpacked block for the next reader.
    pub fn keep(&self, group: GroupId, name: SegmentName, position: u64, block: &Bytes) {
        if block.len() > self.cache_bytes_max / 4 {
            return;
        }
        let mut state = self.state.borrow_mut();
        while state.block_bytes + block.len() > self.cache_bytes_max {
            let Some(oldest) = state.blocks.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key) else { break };
            if let Some((_, gone)) = state.blocks.remove(&oldest) {
                state.block_bytes -= gone.len();
            }
        }
        let now = state.clock;
        state.block_bytes += block.len();
        if let Some((_, before)) = state.blocks.insert((group, name, position), (now, block.clone())) {
            state.block_bytes -= before.len();
        }
    }

    /// Forgets a segment that goes.
    pub fn forget(&self, group: GroupId, name: SegmentName) {
        let mut state = self.state.borrow_mut();
        state.open.remove(&(group, name));
        let State { blocks, block_bytes, .. } = &mut *state;
        blocks.retain(|(g, n, _), (_, block)| {
            let goes = *g == group && *n == name;
            if goes {
                *block_bytes -= block.len();
            }
            !goes
        });
    }

    /// Files open and bytes of blocks kept.
    pub fn used(&self) -> (usize, usize) {
        let state = self.state.borrow();
        (state.open.len(), state.block_bytes)
    }
}
