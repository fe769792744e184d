//! Entries of a replica that are not committed cannot be settled, and a replica without a quorum commits nothing: its entries would hold back the
//! oldest journal file, and with it all groups of the core, for as long as that lasts. So they are carried: written anew into the newest file.
//!
//! One flush says that they are gone (a note as [`crate::Log::append_entry`] writes it) and then that they are there again. A flush is there or
//! not, so that no crash finds the one without the other; and the file that they came from is held until that flush is synced.

use crate::{
    entry::{Entry, EntryKind},
    error::Result,
    home::Home,
    journal::{
        format::{FRAME_HEAD_BYTES, FrameHead, FrameKind},
        gather::{Then, Touched},
        layout::Class,
    },
    log::checkpoint,
    lsn::Lsn,
    replica::Truncation,
    tail::ENTRY_OVERHEAD_BYTES,
};
use bytes::Bytes;
use millpond_batch::Header;
use millpond_runtime::{GroupId, Index, Rt, Term};

/// What is to be carried.
struct Load {
    gone: Truncation,
    /// Where the first of them lies.
    file: u64,
    entries: Vec<Entry>,
}

impl<R: Rt> Home<R> {
    /// Carries what a replica cannot settle, if it lies in the oldest journal file and that is far behind the newest. False if there is
    /// nothing to carry.
    pub(crate) fn carry(&self, group: GroupId) -> Result<bool> {
        let Some(Load { gone, file, entries }) = self.load(group) else { return Ok(false) };
        let mut note = Vec::with_capacity(64);
        gone.encode(&mut note);
        let frames: usize = entries.iter().map(|entry| FRAME_HEAD_BYTES + entry.payload.len()).sum();
        self.journal.make_room(note.len() + frames, Class::Relief, || checkpoint(self))?;
        self.journal.put(&FrameHead::note(FrameKind::Truncate, group), &note, None);
        self.groups.borrow_mut().truncate(group, &gone, file);
        let (last, now_ms) = (entries.len() - 1, self.rt.wall_ms());
        for (n, entry) in entries.into_iter().enumerate() {
            let header =
                (entry.kind == EntryKind::Batch).then(|| Header::parse(&entry.payload).expect("it was parsed when it was appended"));
            let then = (n == last).then_some(Then::Truncated(file));
            self.put_entry(group, entry.term, entry.payload, header.as_ref(), now_ms, then)?;
        }
        if let Some(g) = self.groups.borrow_mut().get_mut(group) {
            // All of it is on stable media where it was, and stays there until it is where it has come to.
            (g.synced_index, g.synced_offset) = (g.last_index, g.end_offset);
        }
        self.journal.state.borrow_mut().stats.carried += 1;
        Ok(true)
    }

    /// What [`Home::carry`] is to carry.
    fn load(&self, group: GroupId) -> Option<Load> {
        let groups = self.groups.borrow();
        let g = groups.get(group)?;
        let committed = g.replica.as_ref()?.committed;
        // What is committed is settled first; and what is on its way to the disk arrives first: it may be counted on as soon as it does.
        if g.settled.index != committed || g.synced_index != g.last_index {
            return None;
        }
        let file = g.tail.entry(committed.next())?.file_seq;
        {
            let state = self.journal.state.borrow();
            let oldest = state.live.front()?.file.header.file_seq;
            if file != oldest || state.file_seq - oldest < (self.config().journal_files_max / 2) as u64 {
                return None;
            }
        }
        let gone = g.replica.as_ref()?.truncation(committed)?;
        let entries = g.tail.gather(committed, Index(u64::MAX), usize::MAX).map(|e| e.entry.clone()).collect();
        Some(Load { gone, file, entries })
    }

    /// Puts the next entry of a group, for which the journal has room: a stamped batch with its header, or one of Raft's.
    pub(crate) fn put_entry(
        &self,
        group: GroupId,
        term: Term,
        payload: Bytes,
        header: Option<&Header>,
        now_ms: i64,
        then: Option<Then>,
    ) -> Result<Lsn> {
        let cost = payload.len() + ENTRY_OVERHEAD_BYTES;
        let file_seq = self.journal.file_seq();
        let mut groups = self.groups.borrow_mut();
        let g = groups.push(group, cost, |g| g.push(term, payload.clone(), header, file_seq, now_ms));
        let g = g.ok_or(crate::LogError::UnknownGroup { group })?;
        let kind = if header.is_some() { EntryKind::Batch } else { EntryKind::Raft };
        let head = FrameHead { kind: FrameKind::Entry, variant: kind as u8, group, index: g.last_index, term };
        let lsn = self.journal.put(&head, &payload, then);
        let touched = Touched { group, index: g.last_index, end: g.end_offset, life: g.life() };
        self.journal.touch(touched, payload.len(), &mut g.slot);
        Ok(lsn)
    }
}
