//! What Raft sees of a replica's log, and how entries are written there.
//!
//! All answers come at once. Entries that Raft has not applied are never settled, and so never leave memory. Those that a follower lacks may lie in
//! segments: they are [`Wanted`] then, the driver reads them, and Raft asks again. So are those in memory if it lacks many ([`Storage::lags`]): the driver
//! says when it is their turn. What is not there any more takes a snapshot: the driver takes one, and Raft asks again for that too. Raft never has one to keep itself: see `driver/receipt.rs`.

use crate::{
    driver::lag::{LAG_BYTES_MAX, Progress},
    members::{BadMembers, Membership},
};
use bytes::{BufMut, BytesMut};
use millpond_log::{self as log, EntryKind, Log, ReplicaState};
use millpond_runtime::{GroupId, Index, Nanos, Offset, Rt, Term};
use raft::{
    Error, GetEntriesContext, RaftState, Result, StorageError,
    eraftpb::{ConfState, Entry, EntryType, HardState, Snapshot},
};
use std::{cell::RefCell, collections::BTreeSet};

/// Reads for followers that are under way at once, for one group; more are asked for again later.
const FETCHES_MAX: usize = 4;
/// Bytes of one, if Raft does not say.
const FETCH_BYTES: usize = 1 << 20;

/// A replica as Raft sees it.
pub struct Storage<R: Rt> {
    log: Log<R>,
    group: GroupId,
    state: RaftState,
    lag: RefCell<Lag>,
}

/// Entries that a follower lacks, to be read from a segment.
pub(crate) struct Wanted {
    /// The first one.
    pub(crate) low: Index,
    /// About so many bytes.
    pub(crate) bytes_max: usize,
    /// By which Raft knows what it was about.
    pub(crate) context: GetEntriesContext,
}

/// A snapshot that followers may have.
pub(crate) struct Offer {
    /// By which it is known.
    pub(crate) number: u64,
    /// Its last entry.
    pub(crate) index: Index,
    /// The term of that.
    pub(crate) term: Term,
    /// The members as of that.
    pub(crate) conf: ConfState,
}

impl Offer {
    fn has(&self, id: u64) -> bool {
        [&self.conf.voters, &self.conf.learners, &self.conf.voters_outgoing].iter().any(|list| list.contains(&id))
    }
}

/// What followers that lag need.
#[derive(Default)]
struct Lag {
    wanted: Vec<Wanted>,
    /// Who of them comes nearer.
    progress: Progress,
    /// First entries of what is being read.
    under_way: BTreeSet<u64>,
    /// What was read, for as long as Raft is told of it.
    fetched: Vec<Entry>,
    /// Entries up to this one cannot be had any more, as far as is known.
    gone: u64,
    /// A snapshot that was taken, and whether one is wanted.
    offer: Option<Offer>,
    wants_snapshot: bool,
}

impl<R: Rt> Storage<R> {
    /// Of a group that the log has `found` to be such a replica, with what Raft must know of its beginning.
    pub fn new(log: Log<R>, group: GroupId, found: &ReplicaState) -> std::result::Result<(Self, Membership, Index), OpenError> {
        let members = Membership::decode(&found.members.bytes)?;
        if found.members.index > found.last_index {
            let what = format!("they are those of entry {}, and the log ends with {}", found.members.index, found.last_index);
            return Err(BadMembers(what).into());
        }
        // Members are noted when their entry is applied, and the hard state may not say yet that it is. It must not be applied twice.
        let committed = found.committed.max(found.members.index);
        log.commit(group, committed);
        let hard = HardState { term: found.hard.term.0, vote: found.hard.vote, commit: committed.0, ..HardState::default() };
        let state = RaftState::new(hard, members.conf.clone());
        Ok((Self { log, group, state, lag: RefCell::default() }, members, committed))
    }

    /// What followers need since this was last asked for.
    pub(crate) fn take_wanted(&self) -> Vec<Wanted> {
        std::mem::take(&mut self.lag.borrow_mut().wanted)
    }

    /// These were read, from `low` on. None: they are gone.
    pub(crate) fn fetched(&self, low: Index, entries: Option<Vec<log::Entry>>) {
        let lag = &mut *self.lag.borrow_mut();
        match entries {
            Some(entries) => lag.fetched = entries.into_iter().map(to_raft).collect(),
            None => lag.gone = lag.gone.max(low.0),
        }
    }

    /// See [`Progress::gains`].
    pub(crate) fn gains(&self, now: Nanos, piece: (Index, u64), bytes: u64, written: u64) -> bool {
        self.lag.borrow_mut().progress.gains(now, piece, bytes, written)
    }

    /// Whether a follower has needed a snapshot that is not there, since this was last asked for.
    pub(crate) fn wants_snapshot(&self) -> bool {
        std::mem::take(&mut self.lag.borrow_mut().wants_snapshot)
    }

    /// A snapshot was taken, or is not to be had any more.
    pub(crate) fn offer(&self, offer: Option<Offer>) {
        self.lag.borrow_mut().offer = offer;
    }

    /// Raft has been told, or nothing came of it.
    pub(crate) fn forget(&self, low: Index) {
        let lag = &mut *self.lag.borrow_mut();
        lag.under_way.remove(&low.0);
        lag.fetched = Vec::new();
    }

    /// Whether somebody who has nothing from `low` on lags: more than a piece of that is committed, so that no writer waits for it. In memory it would be at hand at
    /// once; but sent at once, tens of megabytes to a new replica, it would keep disks and processors from those that writers do wait for.
    fn lags(&self, low: u64) -> bool {
        let Some(committed) = self.log.committed_of(self.group).filter(|committed| low <= committed.0) else { return false };
        let piece = self.log.entries_in_memory(self.group, Index(low), committed, LAG_BYTES_MAX);
        piece.is_some_and(|piece| piece.last().is_some_and(|last| last.index < committed))
    }

    /// Entries that are to be read first: if they were just read for a follower.
    fn lagging(&self, low: u64, high: u64, max_size: Option<u64>, context: GetEntriesContext) -> Result<Vec<Entry>> {
        let lag = &mut *self.lag.borrow_mut();
        if low <= lag.gone {
            return Err(Error::Store(StorageError::Compacted));
        }
        if let Some(at) = lag.fetched.iter().position(|entry| entry.index == low) {
            return Ok(lag.fetched[at..].iter().take_while(|entry| entry.index < high).cloned().collect());
        }
        if !context.can_async() {
            return Err(Error::Store(StorageError::Unavailable));
        }
        if lag.under_way.len() < FETCHES_MAX && lag.under_way.insert(low) {
            let bytes_max = max_size.and_then(|max| usize::try_from(max).ok()).unwrap_or(FETCH_BYTES);
            lag.wanted.push(Wanted { low: Index(low), bytes_max, context });
        }
        Err(Error::Store(StorageError::LogTemporarilyUnavailable))
    }
}

/// A replica cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log has no replica of this group.
    #[error("no replica of the group lives here")]
    Unknown,
    /// Its members cannot be read.
    #[error(transparent)]
    Members(#[from] BadMembers),
    /// Raft refuses what it finds.
    #[error("Raft refuses the replica: {0}")]
    Raft(#[from] Error),
}

/// An entry of the log, for Raft. One that it cannot be is empty, as a leader's first one is.
fn to_raft(entry: log::Entry) -> Entry {
    let mut out = Entry { term: entry.term.0, index: entry.index.0, ..Entry::default() };
    match entry.kind {
        EntryKind::Batch => out.data = entry.payload,
        EntryKind::Raft => {
            out.set_entry_type(match entry.payload.first() {
                Some(1) => EntryType::EntryConfChange,
                Some(2) => EntryType::EntryConfChangeV2,
                _ => EntryType::EntryNormal,
            });
            out.data = entry.payload.slice(entry.payload.len().min(1)..);
        }
    }
    out
}

/// An entry of Raft, for the log: records are batches as they are; all others are kept behind a byte that tells their type.
#[must_use]
pub fn to_log(entry: Entry) -> log::Entry {
    let (index, term, kind) = (Index(entry.index), Term(entry.term), entry.get_entry_type());
    if kind == EntryType::EntryNormal && !entry.data.is_empty() {
        let base_offset = millpond_batch::Header::parse(&entry.data).map_or(Offset(0), |h| Offset(h.base_offset));
        return log::Entry { index, term, kind: EntryKind::Batch, base_offset, payload: entry.data };
    }
    let mut payload = BytesMut::with_capacity(1 + entry.data.len());
    payload.put_u8(kind as u8);
    payload.put_slice(&entry.data);
    log::Entry { index, term, kind: EntryKind::Raft, base_offset: Offset(0), payload: payload.freeze() }
}

impl<R: Rt> raft::Storage for Storage<R> {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(self.state.clone())
    }

    fn entries(&self, low: u64, high: u64, max_size: impl Into<Option<u64>>, context: GetEntriesContext) -> Result<Vec<Entry>> {
        let max_size = max_size.into();
        let is_away = self.log.first_in_memory(self.group).is_some_and(|first| low < first.0);
        if is_away || (context.can_async() && self.lags(low)) {
            return self.lagging(low, high, max_size, context);
        }
        let bytes_max = max_size.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
        let found = self.log.entries_in_memory(self.group, Index(low), Index(high - 1), bytes_max);
        found.map(|entries| entries.into_iter().map(to_raft).collect()).ok_or(Error::Store(StorageError::Unavailable))
    }

    fn term(&self, index: u64) -> Result<u64> {
        // A follower that has installed what it was offered goes on behind that, though the leader may have deleted that entry since: else it would be offered the
        // same again and again.
        let offered = || self.lag.borrow().offer.as_ref().filter(|offer| offer.index.0 == index).map(|offer| offer.term);
        let term = self.log.term_of(self.group, Index(index)).or_else(offered).ok_or(Error::Store(StorageError::Unavailable))?;
        Ok(term.0)
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.lag.borrow().gone + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.log.end_of(self.group).map_or(0, |(last, _)| last.0))
    }

    fn snapshot(&self, _: u64, to: u64) -> Result<Snapshot> {
        let lag = &mut *self.lag.borrow_mut();
        // Who gets it must be a member as of its last entry, and the entries behind that must be there.
        let fits = |offer: &&Offer| offer.index.0 >= lag.gone && offer.has(to);
        let Some(offer) = lag.offer.as_ref().filter(fits) else {
            lag.wants_snapshot = true;
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        };
        let mut snapshot = Snapshot { data: offer.number.to_le_bytes().to_vec().into(), ..Snapshot::default() };
        let of = snapshot.mut_metadata();
        (of.index, of.term) = (offer.index.0, offer.term.0);
        Ok(snapshot)
    }
}
