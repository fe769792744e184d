//! The journal of a core: one write-ahead log for all its groups.
//!
//! ```text
//!   append -> open gather -> sealed gathers -> writer: one write, one sync -> callbacks, waiters
//!             (fills up)     (in order)        (one at a time)
//! ```
//!
//! A gather is given its file and position when it is begun, so the checkpoint of a new file is taken at exactly the frame
//! where the file begins, long before the file is written. Files that gathers will need are prepared ahead;
//! when none is, appends are refused and notes about settling still find the reserve at the end.
//!
//! In reading order: [`mod@format`] the bytes · [`sector`] what each 512 of them say · [`walk`] torn or rotten · [`checkpoint`] groups as bytes · [`layout`] what fits where ·
//! [`gather`] a flush in the making · [`company`] whether it waits for more · [`mod@file`] files by name · [`writer`] group commit · [`prepare`] files ahead of need ·
//! [`replay`] frames to groups · [`recovery`] all of it at start · [`waiters`] who waits for which sync.

pub mod checkpoint;
pub(crate) mod company;
pub mod file;
pub mod format;
pub(crate) mod gather;
pub(crate) mod layout;
pub(crate) mod prepare;
pub mod recovery;
pub mod replay;
pub mod sector;
pub(crate) mod waiters;
pub mod walk;
pub(crate) mod writer;

use crate::{
    config::LogConfig,
    error::{LogError, Result},
    lsn::Lsn,
    stats::LogStats,
};
use company::Company;
use file::JournalFile;
use format::{FIRST_FLUSH, FRAME_HEAD_BYTES, FrameHead, flush_disk_len};
use gather::{Gather, Then, Touched};
use layout::{Class, Fit, Layout};
use millpond_runtime::{File, Rt, limits::BLOCK_BYTES};
use sector::{Seal, Stamps};
use std::{
    cell::RefCell,
    collections::{BTreeSet, VecDeque},
    path::PathBuf,
    rc::Rc,
    task::Waker,
};
use tokio::sync::Notify;
use waiters::Waiters;

/// Memory that the disk writes from.
pub(crate) type Buf<R> = <<R as Rt>::File as File>::Buf;

/// A file that holds flushes.
pub(crate) struct Live<R: Rt> {
    pub(crate) file: Rc<JournalFile<R>>,
    /// Whether its checkpoint is complete and synced: recovery may begin with it.
    pub(crate) checkpointed: bool,
}

/// See the module.
pub(crate) struct Journal<R: Rt> {
    pub(crate) dir: PathBuf,
    pub(crate) config: LogConfig,
    pub(crate) state: RefCell<State<R>>,
    /// Something to write, or to stop for.
    pub(crate) work: Notify,
    /// Files may be needed, or may have become free.
    pub(crate) files: Notify,
    /// A flush ended and nothing followed it.
    pub(crate) quiet: Notify,
    /// Everybody has come whom a flush may wait for.
    pub(crate) together: Notify,
}

/// What changes.
pub(crate) struct State<R: Rt> {
    pub(crate) open: Option<Gather<Buf<R>>>,
    pub(crate) sealed: VecDeque<Gather<Buf<R>>>,
    /// Where the next gather begins.
    pub(crate) file_seq: u64,
    pub(crate) position: u64,
    pub(crate) file_len: u64,
    /// Oldest first; the last one is being written.
    pub(crate) live: VecDeque<Live<R>>,
    pub(crate) prepared: VecDeque<Rc<JournalFile<R>>>,
    pub(crate) spares: BTreeSet<u64>,
    pub(crate) next_file_seq: u64,
    /// Number of the next flush, and the header crc of the one before.
    pub(crate) flush_seq: u64,
    pub(crate) prev_crc: u32,
    /// Stamps for flushes to come.
    pub(crate) stamps: Stamps,
    pub(crate) last_lsn: Lsn,
    pub(crate) synced_lsn: Lsn,
    /// Counts gathers, so that a group knows in which one it was noted.
    pub(crate) gather_no: u64,
    pub(crate) unsynced_bytes: usize,
    /// Bytes on disk of the last checkpoint: what the next file loses to one.
    pub(crate) checkpoint_bytes: u64,
    /// Capacity of the next gather's memory, from the size of the last one.
    pub(crate) capacity_hint: usize,
    pub(crate) waiters: Waiters,
    pub(crate) company: Company,
    /// A mark for the last flush is wanted.
    pub(crate) mark_wanted: bool,
    /// The last flush written was a mark, or nothing needs one.
    pub(crate) marked: bool,
    pub(crate) closing: bool,
    /// No tasks but the writer run any more.
    pub(crate) stopped: Option<String>,
    /// Free bytes of the disk when last looked at, if that was too little.
    pub(crate) disk_low: Option<u64>,
    pub(crate) stats: LogStats,
}

impl<R: Rt> State<R> {
    /// Journal files in all.
    pub(crate) fn files(&self) -> usize {
        self.live.len() + self.prepared.len() + self.spares.len()
    }

    pub(crate) fn layout(&self, config: &LogConfig) -> Layout {
        let prepared = self.prepared.iter().map(|f| file::usable(f.header.file_len).saturating_sub(self.checkpoint_bytes)).sum();
        let extra = self.files().saturating_sub(config.journal_files_max) as u64 * config.journal_file_bytes;
        Layout { position: self.position, file_len: self.file_len, prepared, reserve: config.control_reserve_bytes(), extra }
    }

    /// Ends the open gather: what comes next goes behind it.
    pub(crate) fn seal(&mut self) {
        if let Some(gather) = self.open.take() {
            self.position = gather.position + gather.disk_len();
            self.capacity_hint = gather.body_len();
            self.sealed.push_back(gather);
        }
    }

    fn begin(&mut self, need: usize, config: &LogConfig) {
        let capacity = self.capacity_hint.next_power_of_two().clamp(4 * BLOCK_BYTES, config.flush_bytes_max.max(4 * BLOCK_BYTES));
        self.begin_in(capacity.max(flush_disk_len(need) as usize).next_multiple_of(BLOCK_BYTES));
    }

    /// Begins a gather in memory of `capacity` bytes.
    pub(crate) fn begin_in(&mut self, capacity: usize) {
        let live = self.live.back().expect("a journal has a live file from the moment it is opened");
        let buf = live.file.file.buf(capacity);
        let seal = Seal { nonce: live.file.header.nonce, stamp: self.stamps.draw() };
        self.gather_no += 1;
        self.open = Some(Gather::new(buf, seal, self.file_seq, self.position, self.last_lsn));
    }

    /// Makes the next prepared file the one that gathers go to. Its checkpoint comes first.
    fn roll(&mut self, checkpoint: Vec<(FrameHead, Vec<u8>)>, config: &LogConfig) {
        let file = self.prepared.pop_front().expect("the layout said that a file is prepared");
        self.file_seq = file.header.file_seq;
        self.file_len = file.header.file_len;
        self.position = FIRST_FLUSH;
        self.live.push_back(Live { file, checkpointed: false });
        let last_lsn = self.last_lsn;
        for (head, payload) in checkpoint {
            let need = FRAME_HEAD_BYTES + payload.len();
            if self.open.as_ref().is_some_and(|open| open.disk_len_with(payload.len()) > config.flush_bytes_max as u64) {
                self.seal();
            }
            if self.open.is_none() {
                self.begin(need, config);
            }
            self.put_frame(&head, &payload, last_lsn);
        }
        let file_seq = self.file_seq;
        if let Some(open) = &mut self.open {
            open.then.push(Then::Checkpointed(file_seq));
        }
        self.checkpoint_bytes = self.open.as_ref().map_or(self.position, |open| open.position + open.disk_len()) - FIRST_FLUSH;
        // What follows may share the checkpoint's last flush.
    }

    fn put_frame(&mut self, head: &FrameHead, payload: &[u8], lsn: Lsn) {
        let need = FRAME_HEAD_BYTES + payload.len();
        let open = self.open.as_mut().expect("room was made, so a gather is open");
        let total = flush_disk_len(open.body_len() + need) as usize;
        if total > open.capacity() {
            let live = self.live.back().expect("a journal has a live file from the moment it is opened");
            open.grow(live.file.file.buf(total.next_power_of_two()));
        }
        open.put(head, payload, lsn);
    }
}

impl<R: Rt> Journal<R> {
    /// Makes sure that a frame with `payload_len` bytes of payload can be put next; rolls into the next file if need be, for which
    /// `checkpoint` gives the groups as they are before the frame. Refused, nothing has changed.
    pub(crate) fn make_room(&self, payload_len: usize, class: Class, checkpoint: impl FnOnce() -> Vec<(FrameHead, Vec<u8>)>) -> Result<()> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        if let Some(why) = &state.stopped {
            return Err(LogError::Stopped { why: why.clone() });
        }
        let need = FRAME_HEAD_BYTES + payload_len;
        let layout = state.layout(&self.config);
        if let Some(open) = &state.open {
            let len = open.disk_len_with(payload_len);
            if len <= self.config.flush_bytes_max as u64 && layout.fits_at(open.position, len, class) {
                return Ok(());
            }
        }
        // What is open would be sealed: look at what comes behind it.
        let position = state.open.as_ref().map_or(state.position, |open| open.position + open.disk_len());
        match (Layout { position, ..layout }).fit(flush_disk_len(need), class) {
            Fit::Here => {
                state.seal();
                state.begin(need, &self.config);
                Ok(())
            }
            Fit::Next => {
                let frames = checkpoint();
                let len = flush_disk_len(frames.iter().map(|(_, payload)| FRAME_HEAD_BYTES + payload.len()).sum());
                let flushes = len / self.config.flush_bytes_max as u64 + 2;
                let len = len + flushes * (2 * BLOCK_BYTES) as u64 + flush_disk_len(need);
                let usable = state.prepared.front().map_or(0, |f| file::usable(f.header.file_len));
                if len > usable {
                    return Err(LogError::Full {
                        what: "journal file, which must hold a checkpoint of all groups and an entry",
                        used: len,
                        bound: usable,
                    });
                }
                state.seal();
                state.roll(frames, &self.config);
                self.files.notify_one();
                let open = state.open.as_ref().expect("a checkpoint ends with an open gather");
                if open.disk_len_with(payload_len) > self.config.flush_bytes_max as u64 {
                    state.seal();
                    state.begin(need, &self.config);
                }
                Ok(())
            }
            Fit::No => Err(self.full(state, &layout)),
        }
    }

    fn full(&self, state: &State<R>, layout: &Layout) -> LogError {
        self.files.notify_one();
        match state.disk_low {
            Some(free) => LogError::DiskFull { dir: self.dir.clone(), free, reserve: self.config.disk_reserve_bytes },
            None => {
                let bound = self.config.journal_file_bytes * self.config.journal_files_max as u64;
                LogError::Full { what: "journal", used: bound.saturating_sub(layout.left()), bound }
            }
        }
    }

    /// Puts a frame into the open gather. Room was made for it just before.
    pub(crate) fn put(&self, head: &FrameHead, payload: &[u8], then: Option<Then>) -> Lsn {
        let mut state = self.state.borrow_mut();
        let lsn = state.last_lsn.next();
        state.last_lsn = lsn;
        state.put_frame(head, payload, lsn);
        if let (Some(then), Some(open)) = (then, &mut state.open) {
            open.then.push(then);
        }
        drop(state);
        self.work.notify_one();
        lsn
    }

    /// Accounts for an entry that was just put. `slot` is where its group was noted last, and is renewed.
    pub(crate) fn touch(&self, touched: Touched, bytes: usize, slot: &mut (u64, usize)) {
        let mut state = self.state.borrow_mut();
        state.unsynced_bytes += bytes;
        state.stats.bytes_appended += bytes as u64;
        let number = state.gather_no;
        if let Some(open) = &mut state.open {
            open.entry_bytes += bytes;
            open.entries += 1;
            let noted = (slot.0 == number).then_some(slot.1);
            *slot = (number, open.touch(touched, noted));
        }
        if state.company.came() {
            self.together.notify_waiters();
        }
    }

    /// The file that the next frame goes to.
    pub(crate) fn file_seq(&self) -> u64 {
        self.state.borrow().file_seq
    }

    /// Whether an entry of the largest size would find room behind so many more, of `bytes` in all, as far as the journal is concerned.
    pub(crate) fn room_behind(&self, entries: usize, bytes: usize) -> bool {
        let state = self.state.borrow();
        let layout = state.layout(&self.config);
        let position = state.open.as_ref().map_or(state.position, |open| open.position + open.disk_len());
        let need = flush_disk_len((entries + 1) * FRAME_HEAD_BYTES + bytes + self.config.entry_bytes_max());
        state.stopped.is_some()
            || (state.unsynced_bytes + bytes < self.config.unsynced_bytes_max
                && state.disk_low.is_none()
                && (Layout { position, ..layout }).fit(need, Class::Entry) != Fit::No)
    }

    /// Begins the first file of a new journal, with the checkpoint of no group.
    pub(crate) fn begin_first(&self, checkpoint: Vec<(FrameHead, Vec<u8>)>) {
        self.state.borrow_mut().roll(checkpoint, &self.config);
    }

    /// Panics if anything contradicts itself.
    pub(crate) fn check(&self) {
        let state = self.state.borrow();
        assert!(state.synced_lsn <= state.last_lsn, "synced past the last frame");
        assert!(state.position <= state.file_len, "the journal writes past the end of its file");
        let seqs: Vec<u64> = state.live.iter().map(|l| &l.file).chain(&state.prepared).map(|f| f.header.file_seq).collect();
        for pair in seqs.windows(2) {
            assert!(pair[1] == pair[0] + 1, "journal files {} and {} do not follow each other", pair[0], pair[1]);
        }
        assert!(
            state.live.back().is_none_or(|l| l.file.header.file_seq == state.file_seq),
            "the journal writes to another file than the last"
        );
        assert!(seqs.last().is_none_or(|last| last + 1 == state.next_file_seq), "the next file's number does not follow the last one's");
    }

    /// The journal takes nothing more. Whoever waits is told.
    pub(crate) fn stop(&self, why: &str) {
        let mut state = self.state.borrow_mut();
        state.stopped.get_or_insert_with(|| why.to_owned());
        let wakers: Vec<Waker> = state.waiters.take_all().collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        self.work.notify_one();
        self.files.notify_one();
        self.quiet.notify_one();
    }
}
