//! What Raft sees of a replica's log, and how entries are written there.
//!
//! All answers come from memory at once. Entries that Raft has not applied are never settled, and so never leave memory; what a
//! follower lacks beyond that it cannot be given by this replica yet (`Compacted`, and a snapshot that is not there).

use crate::members::{BadMembers, Membership};
use bytes::{BufMut, Bytes, BytesMut};
use millpond_log::{self as log, EntryKind, Log, LogError};
use millpond_runtime::{GroupId, Index, Offset, Rt, Term};
use raft::{
    Error, GetEntriesContext, RaftState, Result, StorageError,
    eraftpb::{Entry, EntryType, HardState, Snapshot},
};

/// A replica as Raft sees it.
pub struct Storage<R: Rt> {
    log: Log<R>,
    group: GroupId,
    state: RaftState,
}

impl<R: Rt> Storage<R> {
    /// Of a group that the log has as a replica, with what Raft must know of its beginning.
    pub fn new(log: Log<R>, group: GroupId) -> std::result::Result<(Self, Membership, Index), OpenError> {
        let found = log.replica(group).ok_or(OpenError::Unknown)?;
        let members = Membership::decode(&found.members.bytes)?;
        let hard = HardState { term: found.hard.term.0, vote: found.hard.vote, commit: found.committed.0, ..HardState::default() };
        let state = RaftState::new(hard, members.conf.clone());
        Ok((Self { log, group, state }, members, found.committed))
    }

    /// The first entry that is in memory.
    fn first(&self) -> Index {
        self.log.first_in_memory(self.group).unwrap_or(Index(1))
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

/// What an entry without records says.
#[must_use]
pub fn data_of(entry: &Entry) -> Bytes {
    entry.data.clone()
}

impl<R: Rt> raft::Storage for Storage<R> {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(self.state.clone())
    }

    fn entries(&self, low: u64, high: u64, max_size: impl Into<Option<u64>>, _: GetEntriesContext) -> Result<Vec<Entry>> {
        if low < self.first().0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        let bytes_max = max_size.into().map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
        let found = self.log.entries_in_memory(self.group, Index(low), Index(high - 1), bytes_max);
        found.map(|entries| entries.into_iter().map(to_raft).collect()).ok_or(Error::Store(StorageError::Unavailable))
    }

    fn term(&self, index: u64) -> Result<u64> {
        let term = self.log.term_of(self.group, Index(index)).ok_or(Error::Store(StorageError::Unavailable))?;
        Ok(term.0)
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.first().0)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.log.replica(self.group).map_or(0, |replica| replica.last_index.0))
    }

    fn snapshot(&self, _: u64, _: u64) -> Result<Snapshot> {
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}

/// Whether a replica may go on after its log refused an entry: it begins anew from what is on disk, as after a crash.
#[must_use]
pub fn is_passing(error: &LogError) -> bool {
    matches!(error, LogError::Full { .. } | LogError::DiskFull { .. })
}
