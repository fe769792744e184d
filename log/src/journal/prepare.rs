//! Journal files ahead of need: the oldest go out of use once nothing in them is needed, and come back as the next.
//!
//! A file that is made is as much work for the disk as thousands of acks, and is not needed for a while: its zeros are written in step with what goes to the file
//! before it, or slowly, so that writers beside it wait little longer. If there is no room without it, it is made at once.

use super::{
    Journal,
    file::{self, JournalFile},
    format::FileHeader,
};
use crate::{error::Result, home::Home};
use millpond_runtime::{Nanos, Rt, limits::block_up};
use std::{rc::Rc, time::Duration};

/// Prepared files that wait behind the one that is being written.
const PREPARED_TARGET: usize = 1;
/// A file is made in step with this, in bytes per second...
const MAKE_BYTES_PER_SECOND: u64 = 32 << 20;
/// ...or with so many times what has gone to the file that is being written, whichever is more.
const MAKE_TIMES: u64 = 4;
/// How often one looks meanwhile whether it has become urgent.
const MAKE_LOOK: Duration = Duration::from_millis(10);
/// After a full disk, how long until the next try.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl<R: Rt> Journal<R> {
    /// A live file's checkpoint is complete and synced.
    pub(crate) fn checkpointed(&self, file_seq: u64) {
        let mut state = self.state.borrow_mut();
        if let Some(live) = state.live.iter_mut().find(|live| live.file.header.file_seq == file_seq) {
            live.checkpointed = true;
        }
        drop(state);
        self.files.notify_one();
    }

    /// The oldest live file, if nothing needs it: all of its entries are settled or gone, and recovery can begin with
    /// a later file.
    fn take_free(&self, needed: Option<u64>) -> Option<Rc<JournalFile<R>>> {
        let mut state = self.state.borrow_mut();
        let seq = state.live.front()?.file.header.file_seq;
        let base = state.live.iter().rev().find(|live| live.checkpointed)?.file.header.file_seq;
        if seq < base && needed.is_none_or(|needed| seq < needed) {
            return state.live.pop_front().map(|live| live.file);
        }
        None
    }

    /// Whether another file is to be prepared, and where from.
    fn wanted(&self) -> Want {
        let state = self.state.borrow();
        // A journal that can hardly take notes gets a file more, or it could never be emptied.
        let starved = state.prepared.is_empty() && state.file_len - state.position < self.config.control_reserve_bytes() / 2;
        if state.prepared.len() >= PREPARED_TARGET {
            Want::Nothing
        } else if let Some(spare) = state.spares.first() {
            Want::Reuse(*spare)
        } else if state.files() < self.config.journal_files_max {
            Want::Make { extra: false }
        } else if starved {
            Want::Make { extra: true }
        } else {
            Want::Nothing
        }
    }
}

enum Want {
    Nothing,
    Reuse(u64),
    Make { extra: bool },
}

/// Retires and prepares files until the journal stops.
pub(crate) async fn run<R: Rt>(home: Rc<Home<R>>) {
    while !home.stopping() {
        match step(&home).await {
            Ok(true) => home.rt.yield_if_needed().await,
            Ok(false) => home.journal.files.notified().await,
            Err(error) if error.is_disk_full() => {
                home.note_space().await;
                home.rt.sleep(RETRY_AFTER).await;
            }
            Err(error) => home.fail(&format!("journal files: {error}")),
        }
    }
}

/// One change; false if there was none to make.
async fn step<R: Rt>(home: &Rc<Home<R>>) -> Result<bool> {
    let journal = &home.journal;
    let needed = home.groups.borrow().needed_file();
    if let Some(free) = journal.take_free(needed) {
        // The one being freed is no longer counted.
        let keep =
            free.header.file_len == journal.config.journal_file_bytes && journal.state.borrow().files() < journal.config.journal_files_max;
        let seq = file::retire(&home.rt, &journal.dir, free).await?;
        if keep {
            journal.state.borrow_mut().spares.insert(seq);
        } else {
            home.store.handles().trash().take_all(&journal.dir, [file::spare_name(seq)]).await?;
        }
        return Ok(true);
    }
    let spare = match journal.wanted() {
        Want::Nothing => return Ok(false),
        Want::Reuse(spare) => {
            journal.state.borrow_mut().stats.files_recycled += 1;
            spare
        }
        Want::Make { extra } => {
            let seq = journal.state.borrow().next_file_seq;
            // The disk's reserve is there for emptying the journal, too.
            let reserve = if extra { 0 } else { journal.config.disk_reserve_bytes };
            home.refuse_if_short(block_up(journal.config.journal_file_bytes), reserve).await?;
            let began = home.rt.mono();
            let turn = async |made| in_step(home, began, made).await;
            file::make_spare(&home.rt, &journal.dir, seq, journal.config.journal_file_bytes, turn).await?;
            let mut state = journal.state.borrow_mut();
            state.spares.insert(seq);
            state.stats.files_made += 1;
            state.stats.files_extra += u64::from(extra);
            seq
        }
    };
    prepare_next(home, spare).await?;
    Ok(true)
}

/// Waits until so many bytes of a file that is being made since `began` are no longer ahead of their time.
async fn in_step<R: Rt>(home: &Home<R>, began: Nanos, made: u64) {
    loop {
        let (passed, written) = (home.rt.mono() - began, home.journal.state.borrow().position);
        let due = u128::from(made) * 1_000_000_000 / u128::from(MAKE_BYTES_PER_SECOND);
        let due = Nanos::try_from(due).unwrap_or(Nanos::MAX);
        if due <= passed || made <= written.saturating_mul(MAKE_TIMES) || !home.journal.room_behind(0, 0) || home.stopping() {
            return;
        }
        home.nap(Duration::from_nanos(due - passed).min(MAKE_LOOK)).await;
    }
}

/// Prepares the next file from a spare one.
pub(crate) async fn prepare_next<R: Rt>(home: &Rc<Home<R>>, spare: u64) -> Result<()> {
    let journal = &home.journal;
    let file_seq = journal.state.borrow().next_file_seq;
    let header = FileHeader {
        cluster_id: journal.config.cluster_id,
        node_id: journal.config.node_id,
        home: journal.config.home,
        file_seq,
        nonce: home.rt.rand(),
        file_len: journal.config.journal_file_bytes,
    };
    let file = file::prepare(&home.rt, &journal.dir, spare, header).await?;
    let mut state = journal.state.borrow_mut();
    state.spares.remove(&spare);
    state.next_file_seq += 1;
    state.prepared.push_back(Rc::new(file));
    drop(state);
    home.room_changed();
    Ok(())
}
