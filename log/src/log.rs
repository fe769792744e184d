//! The facade: one journal home with all its groups, on one core.

use crate::{
    config::{GroupConfig, LogConfig},
    epochs::epoch_of,
    error::{LogError, Result},
    group::{Group, TERM},
    home::Home,
    journal::{
        checkpoint::{encode_config, encode_group},
        format::{FrameHead, FrameKind},
        gather::Then,
        layout::Class,
    },
    lsn::Lsn,
    producers::{Aborted, ProducerView},
    start,
    stats::LogStats,
};
use bytes::{Bytes, BytesMut};
use millpond_batch::Header;
use millpond_runtime::{GroupId, Index, Offset, Rt, Term};
use std::{
    path::PathBuf,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

/// How often a read looks again for a segment whose file went while it was about to be opened.
pub(crate) const SEGMENT_TRIES: u32 = 8;

/// What a group looks like at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupState {
    /// First offset that is retained.
    pub start_offset: Offset,
    /// Offset that the next appended record gets.
    pub end_offset: Offset,
    /// Offset after the last record that is synced and committed: what readers see. In a group that is alone what is synced is committed.
    pub high_watermark: Offset,
    /// Up to where no record is of a transaction that is open: what readers of committed records see. At most the high watermark.
    pub stable_offset: Offset,
    /// Index of the last appended entry; 0 if there is none.
    pub last_index: Index,
    /// Bytes of the group's segments on disk, and of its entries that are not settled yet.
    pub bytes: u64,
    /// Largest timestamp of the appended records, in milliseconds since 1970; `None` without records.
    pub max_timestamp: Option<i64>,
}

/// What came of an append. Readers see the records once `lsn` is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// The batch was appended.
    New {
        /// Offset of its first record.
        base_offset: Offset,
        /// To be awaited with [`Log::synced`] before anybody is told.
        lsn: Lsn,
    },
    /// The same batch of the same producer was appended before; nothing was appended now.
    Duplicate {
        /// Offset that its first record has.
        base_offset: Offset,
        /// To be awaited all the same: the first attempt may not be synced yet.
        lsn: Lsn,
    },
}

/// How much to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// Bytes at most, but one batch at least.
    pub bytes_max: usize,
    /// Where to stop (exclusive); what is not synced is never read, whatever this says.
    pub end: Offset,
}

/// What was read: whole stamped batches in order of their offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadOut {
    /// Whole batches. The first may begin before the offset asked for, the last may end after the limit's end.
    pub batches: Vec<Bytes>,
    /// Where to read on.
    pub next: Offset,
}

/// A group's high watermark has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance {
    /// The group.
    pub group: GroupId,
    /// Offset after its last synced record.
    pub high_watermark: Offset,
}

/// What recovery found, for the log line at start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// Whether the home was empty: a first start.
    pub fresh: bool,
    /// Groups.
    pub groups: usize,
    /// Live journal files read.
    pub files: usize,
    /// Flushes read.
    pub flushes: u64,
    /// Entries read that are not in segments yet.
    pub entries: u64,
    /// Bytes of the journal read.
    pub bytes: u64,
    /// Where the journal ends: the file, and the byte at which the next flush goes.
    pub end: Option<(PathBuf, u64)>,
    /// A flush whose sync had never ended, and which was cut.
    pub torn: Option<TornTail>,
    /// The last journal file was given up, since the power went while its checkpoint was written.
    pub gave_up_file: bool,
    /// How long it took, in microseconds.
    pub took_us: u64,
}

/// A flush whose sync had never ended: nobody was told of anything in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The journal file.
    pub file: PathBuf,
    /// Where the flush begins, in bytes.
    pub position: u64,
    /// Its length, in bytes, as far as known.
    pub len: u64,
}

/// One journal home (a directory `core-NN`) with all its groups. Cheap to clone; lives on one core.
pub struct Log<R: Rt> {
    pub(crate) home: Rc<Home<R>>,
}

impl<R: Rt> Clone for Log<R> {
    fn clone(&self) -> Self {
        Self { home: self.home.clone() }
    }
}

impl<R: Rt> Log<R> {
    /// Opens the home, recovering what a crash left; makes it if the directory is empty or absent. When this returns,
    /// everything that was recovered is on stable media.
    pub async fn open(rt: R, dir: PathBuf, config: LogConfig) -> Result<(Self, Recovered)> {
        let (home, recovered) = start::open(rt, dir, config).await?;
        Ok((Self { home }, recovered))
    }

    /// The groups that live here, in order.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupId> {
        self.home.groups.borrow().ids()
    }

    /// What a group looks like.
    #[must_use]
    pub fn state(&self, group: GroupId) -> Option<GroupState> {
        let groups = self.home.groups.borrow();
        let g = groups.get(group)?;
        Some(GroupState {
            start_offset: g.start_offset,
            end_offset: g.end_offset,
            high_watermark: g.lasting_offset(),
            stable_offset: g.stable_offset(),
            last_index: g.last_index,
            bytes: self.home.store.bytes(group) + g.unsettled_bytes() as u64,
            max_timestamp: g.max_timestamp,
        })
    }

    /// Transactions that were given up and have records from `from` on and before `end`.
    #[must_use]
    pub fn aborted(&self, group: GroupId, from: Offset, end: Offset) -> Vec<Aborted> {
        self.home.groups.borrow().get(group).map_or_else(Vec::new, |g| g.producers.aborted(from, end))
    }

    /// What a group knows of a producer.
    #[must_use]
    pub fn producer(&self, group: GroupId, id: i64) -> Option<ProducerView> {
        self.home.groups.borrow().get(group)?.producers.view(id)
    }

    /// What a group knows of all its producers.
    #[must_use]
    pub fn producers(&self, group: GroupId) -> Vec<(i64, ProducerView)> {
        self.home.groups.borrow().get(group).map_or_else(Vec::new, |g| g.producers.views())
    }

    /// A group's settings.
    #[must_use]
    pub fn config(&self, group: GroupId) -> Option<GroupConfig> {
        self.home.groups.borrow().get(group).map(|g| g.config.clone())
    }

    /// Creates a group. A number that was used before is free once the files of the group that had it are deleted: until then it is refused with
    /// [`LogError::Dropping`].
    pub fn create_group(&self, group: GroupId, config: GroupConfig) -> Result<Lsn> {
        self.is_free(group)?;
        let lsn = self.home.note(Class::Note, FrameKind::GroupCreate, group, &config_bytes(&config), None)?;
        self.home.groups.borrow_mut().insert(Group::new(group, config));
        Ok(lsn)
    }

    /// Changes a group's settings.
    pub fn alter_group(&self, group: GroupId, config: GroupConfig) -> Result<Lsn> {
        self.known(group)?;
        let lsn = self.home.note(Class::Note, FrameKind::GroupAlter, group, &config_bytes(&config), None)?;
        if let Some(g) = self.home.groups.borrow_mut().get_mut(group) {
            g.config = config;
        }
        Ok(lsn)
    }

    /// Drops a group; its files go once that is synced.
    pub fn drop_group(&self, group: GroupId) -> Result<Lsn> {
        self.known(group)?;
        let lsn = self.home.note(Class::Relief, FrameKind::GroupDrop, group, &[], Some(Then::Dropped(group)))?;
        self.home.groups.borrow_mut().remove(group);
        self.home.store.dropped(group, lsn);
        Ok(lsn)
    }

    /// Refuses the number of a group that is there, or was until just now.
    pub(crate) fn is_free(&self, group: GroupId) -> Result<()> {
        if self.home.groups.borrow().get(group).is_some() {
            return Err(LogError::GroupExists { group });
        }
        if self.home.store.is_dropping(group) { Err(LogError::Dropping { group }) } else { Ok(()) }
    }

    fn known(&self, group: GroupId) -> Result<()> {
        self.home.groups.borrow().get(group).map(|_| ()).ok_or(LogError::UnknownGroup { group })
    }

    /// Appends one batch that the caller has checked with `millpond_batch::check`, and whose header that gave. Checks the
    /// producer's sequence and stamps the base offset into the bytes. For a group that is alone: a replica's entries come from Raft.
    pub fn append(&self, group: GroupId, mut batch: BytesMut, header: &Header, now_ms: i64) -> Result<Appended> {
        let home = &self.home;
        let base_offset = {
            let groups = home.groups.borrow();
            let g = groups.get(group).ok_or(LogError::UnknownGroup { group })?;
            if g.replica.is_some() {
                return Err(LogError::Replica { group, what: "an append past Raft".into() });
            }
            if let Some(base_offset) = g.producers.check(header, now_ms, g.config.producer_expiry_ms)? {
                let mut state = home.journal.state.borrow_mut();
                state.stats.duplicates += 1;
                return Ok(Appended::Duplicate { base_offset, lsn: state.last_lsn });
            }
            g.end_offset
        };
        if batch.len() != header.batch_len {
            return Err(LogError::BadBatch { what: format!("{} bytes, its header says {}", batch.len(), header.batch_len) });
        }
        self.admit(batch.len())?;
        millpond_batch::stamp(&mut batch, base_offset.0, epoch_of(TERM));
        let lsn = self.put_entry(group, TERM, batch.freeze(), Some(header), now_ms)?;
        Ok(Appended::New { base_offset, lsn })
    }

    /// Puts the next entry of a group, which was checked and admitted: a stamped batch with its header, or one of Raft's.
    pub(crate) fn put_entry(&self, group: GroupId, term: Term, payload: Bytes, header: Option<&Header>, now_ms: i64) -> Result<Lsn> {
        let home = &self.home;
        let class = if header.is_some() { Class::Entry } else { Class::Note };
        home.journal.make_room(payload.len(), class, || checkpoint(home))?;
        home.put_entry(group, term, payload, header, now_ms, None)
    }

    /// Refuses a batch of `len` bytes that would go past a bound, and says which.
    pub fn admit(&self, len: usize) -> Result<()> {
        let config = self.home.config();
        let max = config.entry_bytes_max();
        if len > max {
            return Err(LogError::BadBatch { what: format!("{len} bytes, the journal takes {max}") });
        }
        let used = self.home.groups.borrow().unsettled_bytes();
        let state = self.home.journal.state.borrow();
        if let Some(why) = &state.stopped {
            return Err(LogError::Stopped { why: why.clone() });
        }
        if state.closing {
            return Err(LogError::Stopped { why: "closing".into() });
        }
        if let Some(free) = state.disk_low {
            return Err(LogError::DiskFull { dir: self.home.dir.clone(), free, reserve: config.disk_reserve_bytes });
        }
        if used + len > config.tail_bytes_max {
            return Err(LogError::Full { what: "tail", used: used as u64, bound: config.tail_bytes_max as u64 });
        }
        if state.unsynced_bytes > config.unsynced_bytes_max {
            let (used, bound) = (state.unsynced_bytes as u64, config.unsynced_bytes_max as u64);
            return Err(LogError::Full { what: "queue for the disk", used, bound });
        }
        Ok(())
    }

    /// Returns when everything up to `lsn` is on stable media; fails only if the journal has stopped.
    pub async fn synced(&self, lsn: Lsn) -> Result<()> {
        self.home.synced(lsn).await
    }

    /// The last place that is on stable media.
    #[must_use]
    pub fn synced_lsn(&self) -> Lsn {
        self.home.journal.state.borrow().synced_lsn
    }

    /// Whether there is room for another batch.
    #[must_use]
    pub fn room(&self) -> bool {
        self.home.has_room()
    }

    /// Whether there is room for another batch once so many entries, of `bytes` in all, have been put.
    #[must_use]
    pub fn room_behind(&self, entries: usize, bytes: usize) -> bool {
        self.home.has_room_behind(entries, bytes)
    }

    /// Waits for room, or for the journal to stop.
    pub async fn wait_room(&self) {
        self.home.wait_room().await;
    }

    /// Reads whole batches from `from` on, from memory or from segments. Empty at the high watermark.
    pub async fn read(&self, group: GroupId, from: Offset, limits: ReadLimits) -> Result<ReadOut> {
        let (_, end) = self.readable(group, from)?;
        let limits = ReadLimits { end: limits.end.min(end), ..limits };
        if from >= limits.end {
            return Ok(ReadOut { batches: Vec::new(), next: from });
        }
        if let Some(out) = self.read_tail(group, from, limits) {
            return Ok(out);
        }
        let mut tries = SEGMENT_TRIES;
        loop {
            let Some(segments) = self.home.store.get(group)? else { return Err(LogError::UnknownGroup { group }) };
            let out = self.heed(group, segments.read(from, limits).await);
            // While we read, the log may have been trimmed or dropped; or compaction has put a segment in the place of others.
            self.readable(group, from)?;
            match out {
                Err(LogError::Io(error)) if error.is_not_found() && tries > 0 => tries -= 1,
                out => {
                    self.home.journal.state.borrow_mut().stats.reads_segments += 1;
                    return out;
                }
            }
        }
    }

    /// The same, if the answer is in memory.
    #[must_use]
    pub fn read_tail(&self, group: GroupId, from: Offset, limits: ReadLimits) -> Option<ReadOut> {
        let groups = self.home.groups.borrow();
        let g = groups.get(group)?;
        if from < g.start_offset || from > g.lasting_offset() {
            return None;
        }
        let end = limits.end.min(g.lasting_offset());
        if from >= end {
            return Some(ReadOut { batches: Vec::new(), next: from });
        }
        let out = g.tail.read(from, end, limits.bytes_max)?;
        self.home.journal.state.borrow_mut().stats.reads_tail += 1;
        Some(out)
    }

    fn readable(&self, group: GroupId, from: Offset) -> Result<(Offset, Offset)> {
        let groups = self.home.groups.borrow();
        let g = groups.get(group).ok_or(LogError::UnknownGroup { group })?;
        let (start, end) = (g.start_offset, g.lasting_offset());
        if from < start || from > end {
            return Err(LogError::OffsetOutOfRange { group, start, end, asked: from });
        }
        Ok((start, end))
    }

    /// Checks every block of every segment of a group: also what no reader gets any more, which settling may still need. Nothing if it has none.
    ///
    /// # Errors
    ///
    /// What cannot be read, or is not what it was when it was written.
    pub async fn verify(&self, group: GroupId) -> Result<()> {
        match self.home.store.get(group)? {
            Some(segments) => segments.verify().await,
            None => Ok(()),
        }
    }

    /// The first synced record whose timestamp is at least `ms`: its offset and timestamp.
    pub async fn offset_for_time(&self, group: GroupId, ms: i64) -> Result<Option<(Offset, i64)>> {
        self.heed(group, self.home.offset_for_time(group, ms).await)
    }

    /// Forgets everything before `before` (at most the high watermark). No effect if the log starts later already.
    pub fn trim(&self, group: GroupId, before: Offset) -> Result<Lsn> {
        self.home.trim(group, before, Class::Note)
    }

    /// Has `callback` called after every sync that moved a high watermark, before those who wait for the sync wake. It
    /// must not call back into the log except to read state.
    pub fn on_advance(&self, callback: impl Fn(&[Advance]) + 'static) {
        self.home.on_advance(Rc::new(callback));
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        let groups = self.home.groups.borrow();
        let state = self.home.journal.state.borrow();
        LogStats {
            tail_unsettled_bytes: groups.unsettled_bytes() as u64,
            tail_cached_bytes: groups.cached_bytes() as u64,
            unsynced_bytes: state.unsynced_bytes as u64,
            files_live: state.live.len() as u64,
            files_in_trash: self.home.store.handles().trash().len() as u64,
            files_prepared: (state.prepared.len() + state.spares.len()) as u64,
            groups: groups.len() as u64,
            ..state.stats.clone()
        }
    }

    /// Panics if anything in memory contradicts itself. For tests and simulation: looks at everything.
    pub fn check(&self) {
        self.home.groups.borrow().check();
        self.home.journal.check();
    }

    /// Writes and syncs what was appended, and stops the tasks. Appends fail from here on.
    pub async fn close(&self) {
        self.home.close().await;
    }
}

pub(crate) fn config_bytes(config: &GroupConfig) -> Vec<u8> {
    let mut out = Vec::new();
    encode_config(config, &mut out);
    out
}

/// All groups as they are at this moment, as frames.
pub(crate) fn checkpoint<R: Rt>(home: &Home<R>) -> Vec<(FrameHead, Vec<u8>)> {
    let groups = home.groups.borrow();
    let mut frames = Vec::with_capacity(groups.len() + 1);
    for group in groups.ids().into_iter().filter_map(|id| groups.get(id)) {
        let mut out = Vec::new();
        encode_group(group, &mut out);
        frames.push((FrameHead::note(FrameKind::CheckpointGroup, group.id), out));
    }
    frames.push((FrameHead::note(FrameKind::CheckpointEnd, GroupId(0)), (groups.len() as u64).to_le_bytes().to_vec()));
    frames
}

/// Waits for a sync. Holds a place among the waiters while it is pending, and gives it up when dropped.
pub(crate) struct Synced<'a, R: Rt> {
    home: &'a Home<R>,
    lsn: Lsn,
    ticket: Option<u64>,
}

impl<'a, R: Rt> Synced<'a, R> {
    pub(crate) fn new(home: &'a Home<R>, lsn: Lsn) -> Self {
        Self { home, lsn, ticket: None }
    }
}

impl<R: Rt> Future for Synced<'_, R> {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.home.journal.state.borrow_mut();
        if state.synced_lsn >= self.lsn {
            return Poll::Ready(Ok(()));
        }
        if let Some(why) = &state.stopped {
            return Poll::Ready(Err(LogError::Stopped { why: why.clone() }));
        }
        let ticket = state.waiters.register(self.lsn, self.ticket, cx.waker());
        drop(state);
        self.ticket = Some(ticket);
        Poll::Pending
    }
}

impl<R: Rt> Drop for Synced<'_, R> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.home.journal.state.borrow_mut().waiters.withdraw(self.lsn, ticket);
        }
    }
}
