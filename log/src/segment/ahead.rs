//! Reading ahead, so that a replay has the disk, the pool and its reader busy at the same time.
//!
//! Whoever reads on where a read has ended, or begins a segment, is taken for a replay: the next [`RUNS`] runs of blocks
//! after what was read are fetched and unpacked by tasks of their own, each as large as the read that called for it. The
//! reader takes a run over when it comes there, waiting if it is under way; what it does not want of it is put back.
//!
//! Bounds: runs hold at most so many raw bytes, counted when they are begun. Past that nothing is read ahead, except
//! in place of runs that nobody has fetched for [`STALE`]: their readers have gone elsewhere.

use super::{
    format::BlockIndex,
    handles::{BlockKey, Key, Opened},
    lru::Lru,
};
use bytes::Bytes;
use millpond_runtime::{Nanos, Rt, Share};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};
use tokio::sync::Notify;

/// Raw bytes of one run, about.
pub(super) const RUN_RAW_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Runs that are read ahead: one is fetched from the disk while the other is unpacked.
const RUNS: usize = 2;
/// Ends of reads that are remembered, to know a replay by.
const ENDS_MAX: usize = 256;
/// After so long a run that nobody has fetched may be dropped, in nanoseconds.
const STALE: Nanos = 1_000_000_000;

/// Blocks that lie one behind the other, with their raw bytes.
pub(super) type Run = Vec<(BlockIndex, Bytes)>;

/// See the module.
pub(super) struct Ahead {
    bytes_max: usize,
    bytes: Rc<Cell<usize>>,
    /// By the position of a run's first block.
    slots: RefCell<Lru<BlockKey, Rc<Slot>>>,
    ends: RefCell<Lru<BlockKey, ()>>,
}

/// A run under way or done.
struct Slot {
    /// The first block behind it, counted in the index.
    next: usize,
    begun: Nanos,
    /// `None` while it is under way; without blocks if it failed: its reader will meet the same error.
    run: RefCell<Option<Run>>,
    done: Notify,
    /// For the whole run, until the last of it is taken: what is left may share its memory.
    charge: RefCell<Option<Charge>>,
}

/// Raw bytes that count against the bound as long as this lives.
struct Charge {
    held: usize,
    bytes: Rc<Cell<usize>>,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.bytes.set(self.bytes.get() - self.held);
    }
}

/// How many blocks from `first` on make `bytes` raw bytes or a little more; one at least if there is one.
pub(super) fn run_len(index: &[BlockIndex], first: usize, bytes: usize) -> usize {
    let mut raw = 0;
    let more = index[first..].iter().take_while(|block| {
        let wanted = raw == 0 || raw < bytes.min(RUN_RAW_BYTES_MAX);
        raw += block.raw_len as usize;
        wanted
    });
    more.count()
}

impl Ahead {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: Rc::default(), slots: RefCell::default(), ends: RefCell::default() }
    }

    /// Raw bytes of runs.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    fn charge(&self, held: usize) -> Charge {
        self.bytes.set(self.bytes.get() + held);
        Charge { held, bytes: Rc::clone(&self.bytes) }
    }

    /// See [`super::Handles::read_ahead`].
    pub(super) async fn take<R: Rt>(&self, opened: &Opened<R>, first: usize, bytes: usize) -> Option<Run> {
        let slot = self.slots.borrow_mut().remove(&(opened.key, opened.index.get(first)?.position))?;
        let mut run = loop {
            let run = slot.run.borrow_mut().take();
            match run {
                Some(run) => break run,
                None => slot.done.notified().await,
            }
        };
        let wanted = run_len(&opened.index, first, bytes).min(run.len());
        let rest = run.split_off(wanted);
        if let Some(position) = rest.first().map(|(block, _)| block.position) {
            let charge = RefCell::new(slot.charge.take());
            let back = Slot { next: slot.next, begun: slot.begun, run: RefCell::new(Some(rest)), done: Notify::new(), charge };
            self.slots.borrow_mut().insert((opened.key, position), Rc::new(back));
        }
        (!run.is_empty()).then_some(run)
    }

    /// See [`super::Handles::went_on`].
    pub(super) fn went_on<R: Rt>(&self, rt: &R, opened: &Opened<R>, first: usize, next: usize, bytes: usize) {
        let position = |n: usize| opened.index.get(n).map(|block| (opened.key, block.position));
        let replay = first == 0 || position(first).is_some_and(|at| self.ends.borrow_mut().remove(&at).is_some());
        if let Some(at) = position(next) {
            let mut ends = self.ends.borrow_mut();
            ends.insert(at, ());
            if ends.len() > ENDS_MAX {
                ends.pop_oldest();
            }
        }
        if !replay {
            return;
        }
        let mut from = next;
        for _ in 0..RUNS {
            let Some(at) = position(from) else { return };
            let begun = self.slots.borrow().peek(&at).map(|slot| slot.next);
            from = match begun {
                Some(next) => next,
                None => match self.begin(rt, opened, from, bytes) {
                    Some(next) => next,
                    None => return,
                },
            };
        }
    }

    /// Begins a run; `None` if there is no room for it.
    fn begin<R: Rt>(&self, rt: &R, opened: &Opened<R>, first: usize, bytes: usize) -> Option<usize> {
        let next = first + run_len(&opened.index, first, bytes);
        let blocks = opened.index[first..next].to_vec();
        let raw: usize = blocks.iter().map(|block| block.raw_len as usize).sum();
        let now = rt.mono();
        self.make_room(raw, now)?;
        let charge = RefCell::new(Some(self.charge(raw)));
        let slot = Rc::new(Slot { next, begun: now, run: RefCell::new(None), done: Notify::new(), charge });
        self.slots.borrow_mut().insert((opened.key, blocks[0].position), Rc::clone(&slot));
        let (door, file) = (rt.clone(), Rc::clone(&opened.file));
        rt.spawn("read ahead", Share::Background, async move {
            let unpacked = file.read_blocks(&door, &blocks).await.unwrap_or_default();
            *slot.run.borrow_mut() = Some(blocks.into_iter().zip(unpacked).collect());
            slot.done.notify_one();
        });
        Some(next)
    }

    /// Drops runs whose readers have gone elsewhere until `raw` bytes have room.
    fn make_room(&self, raw: usize, now: Nanos) -> Option<()> {
        while self.bytes.get() + raw > self.bytes_max {
            let mut slots = self.slots.borrow_mut();
            let stale = slots.oldest().is_some_and(|(_, slot)| now.saturating_sub(slot.begun) > STALE && slot.run.borrow().is_some());
            if !stale {
                return None;
            }
            slots.pop_oldest();
        }
        Some(())
    }

    /// Forgets a segment that goes.
    pub(super) fn forget(&self, key: Key) {
        self.slots.borrow_mut().remove_where(|(k, _)| *k == key);
        self.ends.borrow_mut().remove_where(|(k, _)| *k == key);
    }
}
