//! What Raft asks of the log of a group that is a replica: entries of its choosing, its hard state, its members, and how far it is committed.
//!
//! Order is everything: what is put first is synced first, so that a hard state that follows an entry never outlives it. Nobody is
//! told of anything before [`Log::synced`] has returned for its place.

use crate::{
    config::GroupConfig,
    entry::{Entry, EntryKind},
    error::{LogError, Result},
    group::Group,
    journal::{
        format::{FrameHead, FrameKind},
        gather::Then,
        layout::Class,
    },
    log::{Advance, Log, SEGMENT_TRIES, config_bytes},
    lsn::Lsn,
    producers::check_producer,
    replica::{HardState, MEMBERS_BYTES_MAX, Members, Replica},
};
use bytes::Bytes;
use millpond_batch::Header;
use millpond_runtime::{GroupId, Index, Offset, Rt, Term};

/// What Raft must know of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaState {
    /// What the journal has, or will have once its open flush is synced.
    pub hard: HardState,
    /// Who the members are.
    pub members: Members,
    /// The last entry known to be committed.
    pub committed: Index,
    /// The last entry.
    pub last_index: Index,
    /// Its term; 0 without entries.
    pub last_term: Term,
}

impl<R: Rt> Log<R> {
    /// Creates a group that is a replica, as [`Log::create_group`] does; `members` are whom it begins with, at most
    /// [`MEMBERS_BYTES_MAX`].
    pub fn create_replica(&self, group: GroupId, config: GroupConfig, members: Bytes) -> Result<Lsn> {
        self.is_free(group)?;
        let replica = Replica::new(check_members(group, members)?);
        let mut payload = config_bytes(&config);
        replica.members.encode(&mut payload);
        let head = FrameHead { variant: 1, ..FrameHead::note(FrameKind::GroupCreate, group) };
        let lsn = self.home.note_with(Class::Note, head, &payload, None)?;
        let group = Group { replica: Some(Box::new(replica)), ..Group::new(group, config) };
        self.home.groups.borrow_mut().insert(group);
        Ok(lsn)
    }

    /// Makes a replica of a group that is alone, with these members, at most [`MEMBERS_BYTES_MAX`]: whatever has been appended before is committed
    /// once it is synced, and nothing is appended from here on but what Raft puts.
    pub fn replicate(&self, group: GroupId, members: Bytes) -> Result<Lsn> {
        let members = check_members(group, members)?;
        {
            let groups = self.home.groups.borrow();
            let g = groups.get(group).ok_or(LogError::UnknownGroup { group })?;
            if g.replica.is_some() {
                return Err(LogError::Replica { group, what: "it is a replica already".into() });
            }
        }
        let mut payload = Vec::with_capacity(64);
        Members { index: Index(0), bytes: members.clone() }.encode(&mut payload);
        let lsn = self.home.note(Class::Note, FrameKind::Replicate, group, &payload, None)?;
        if let Some(g) = self.home.groups.borrow_mut().get_mut(group) {
            g.replicate(members).expect("it was looked at just now, and nothing was awaited since");
        }
        Ok(lsn)
    }

    /// Whether the group is a replica. False for one that is alone, and for one that does not live here.
    #[must_use]
    pub fn is_replica(&self, group: GroupId) -> bool {
        self.home.groups.borrow().get(group).is_some_and(|g| g.replica.is_some())
    }

    /// What Raft must know of a replica; `None` if the group does not live here, or is alone.
    #[must_use]
    pub fn replica(&self, group: GroupId) -> Option<ReplicaState> {
        let groups = self.home.groups.borrow();
        let g = groups.get(group)?;
        let replica = g.replica.as_ref()?;
        Some(ReplicaState {
            hard: replica.hard,
            members: replica.members.clone(),
            committed: replica.committed,
            last_index: g.last_index,
            last_term: replica.terms.last().unwrap_or_default(),
        })
    }

    /// The last entry of a group and the offset behind it; `None` if the group does not live here.
    #[must_use]
    pub fn end_of(&self, group: GroupId) -> Option<(Index, Offset)> {
        self.home.groups.borrow().get(group).map(|g| (g.last_index, g.end_offset))
    }

    /// The last entry that is known to be committed; `None` if no replica of the group lives here.
    #[must_use]
    pub fn committed_of(&self, group: GroupId) -> Option<Index> {
        self.home.groups.borrow().get(group).and_then(|g| g.replica.as_ref()).map(|replica| replica.committed)
    }

    /// The term of an entry: 0 before the first one, `None` behind the last one, and where it is not known any more.
    #[must_use]
    pub fn term_of(&self, group: GroupId, index: Index) -> Option<Term> {
        let groups = self.home.groups.borrow();
        let g = groups.get(group)?;
        match index {
            Index(0) => Some(Term(0)),
            index if index > g.last_index => None,
            index => g.replica.as_ref()?.terms.of(index),
        }
    }

    /// Entries from `from` up to `upto` (included), at least one and about `bytes_max` bytes of them, if they are in memory.
    #[must_use]
    pub fn entries_in_memory(&self, group: GroupId, from: Index, upto: Index, bytes_max: usize) -> Option<Vec<Entry>> {
        let groups = self.home.groups.borrow();
        let g = groups.get(group)?;
        g.tail.entry(from)?;
        let before = Index(from.0.checked_sub(1)?);
        Some(g.tail.gather(before, upto, bytes_max).map(|e| e.entry.clone()).collect())
    }

    /// Entries from `from` on, at least one and about `bytes_max` bytes of them, from memory or from a segment. `None` if they are not here any more:
    /// trimmed, or compacted.
    pub async fn read_entries(&self, group: GroupId, from: Index, bytes_max: usize) -> Result<Option<Vec<Entry>>> {
        let mut tries = SEGMENT_TRIES;
        loop {
            if let Some(entries) = self.entries_in_memory(group, from, Index(u64::MAX), bytes_max) {
                return Ok(Some(entries));
            }
            let Some(segments) = self.home.store.get(group)? else { return Ok(None) };
            match self.heed(group, segments.read_entries(from, bytes_max).await) {
                // A segment has gone meanwhile: trimmed, or compacted.
                Err(LogError::Io(error)) if error.is_not_found() && tries > 0 => tries -= 1,
                out => return out,
            }
        }
    }

    /// The first entry that is in memory: the one after the last if there is none. `None` if the group does not live here.
    #[must_use]
    pub fn first_in_memory(&self, group: GroupId) -> Option<Index> {
        let groups = self.home.groups.borrow();
        let g = groups.get(group)?;
        Some(g.tail.first_index().unwrap_or(g.last_index.next()))
    }

    /// Whether the batch of an idempotent producer is in the log already, committed or not, and at which offset: a leader proposes only what is
    /// not. Refuses what does not follow, as [`Log::append`] does.
    pub fn produced(&self, group: GroupId, batch: &Header, now_ms: i64) -> Result<Option<Offset>> {
        let groups = self.home.groups.borrow();
        let g = groups.get(group).ok_or(LogError::UnknownGroup { group })?;
        g.producers.check(batch, now_ms, g.config.producer_expiry_ms)
    }

    /// Puts an entry at its index. If there is one already, it and all behind it go first: none of them may be committed.
    /// A batch must be stamped with the offset at which the log ends then. An entry without records needs no more room than a note does: without
    /// it a new leader commits nothing, and what fills the log could never go.
    ///
    /// # Errors
    /// [`LogError::Replica`] if Raft asks for what cannot be, which is a mistake of ours. If there is no room for the entry, what it was to take
    /// the place of may be gone all the same.
    pub fn append_entry(&self, group: GroupId, entry: Entry, now_ms: i64) -> Result<Lsn> {
        let header = self.check_entry(group, &entry)?;
        // First, since that makes room: what goes may be all that there is to make room of.
        self.truncate(group, Index(entry.index.0 - 1))?;
        if entry.kind == EntryKind::Batch {
            self.admit(entry.payload.len())?;
        }
        self.put_entry(group, entry.term, entry.payload, header.as_ref(), now_ms)
    }

    /// Refuses an entry that cannot come where it says. The header of a batch.
    fn check_entry(&self, group: GroupId, entry: &Entry) -> Result<Option<Header>> {
        let groups = self.home.groups.borrow();
        let g = groups.get(group).ok_or(LogError::UnknownGroup { group })?;
        let refuse = |what: String| LogError::Replica { group, what: format!("entry {} in term {}: {what}", entry.index, entry.term) };
        let Some(replica) = &g.replica else { return Err(refuse("the group is alone".into())) };
        if entry.index <= replica.committed || entry.index > g.last_index.next() {
            return Err(refuse(format!("the log is committed up to {} and ends with {}", replica.committed, g.last_index)));
        }
        let before = Index(entry.index.0 - 1);
        if replica.terms.of(before).is_some_and(|term| term > entry.term) {
            return Err(refuse(format!("entry {before} is of term {:?}", replica.terms.of(before))));
        }
        if entry.kind == EntryKind::Raft {
            return Ok(None);
        }
        let header = Header::parse(&entry.payload).map_err(|e| LogError::BadBatch { what: e.to_string() })?;
        let end = if before == g.last_index { Some(g.end_offset) } else { replica.truncation(before).map(|gone| gone.end_offset) };
        if header.batch_len != entry.payload.len()
            || end.map(|end| end.0) != Some(header.base_offset)
            || entry.base_offset.0 != header.base_offset
        {
            return Err(refuse(format!("a batch at offset {}, where the log ends at {end:?}", header.base_offset)));
        }
        check_producer(&header).map_err(|what| LogError::BadBatch { what })?;
        Ok(Some(header))
    }

    /// Has the log end with the entry at `index`.
    fn truncate(&self, group: GroupId, index: Index) -> Result<()> {
        let home = &self.home;
        let (gone, file) = {
            let groups = home.groups.borrow();
            let g = groups.get(group).ok_or(LogError::UnknownGroup { group })?;
            if index >= g.last_index {
                return Ok(());
            }
            let gone = g.replica.as_ref().and_then(|replica| replica.truncation(index)).zip(g.tail.needed_file());
            gone.ok_or_else(|| LogError::Replica { group, what: format!("entries behind {index} cannot go") })?
        };
        let mut payload = Vec::with_capacity(64);
        gone.encode(&mut payload);
        home.note(Class::Note, FrameKind::Truncate, group, &payload, Some(Then::Truncated(file)))?;
        home.groups.borrow_mut().truncate(group, &gone, file);
        Ok(())
    }

    /// Puts the hard state. An entry that it calls committed must have been put before.
    ///
    /// # Errors
    /// [`LogError::Replica`] if it takes back a vote, a term or a commit, or speaks of entries that are not there.
    pub fn set_hard_state(&self, group: GroupId, hard: HardState) -> Result<Lsn> {
        {
            let groups = self.home.groups.borrow();
            let g = groups.get(group).ok_or(LogError::UnknownGroup { group })?;
            g.check_hard(&hard).map_err(|what| LogError::Replica { group, what })?;
        }
        let mut payload = Vec::with_capacity(24);
        hard.encode(&mut payload);
        let lsn = self.home.note(Class::Note, FrameKind::Hard, group, &payload, None)?;
        if let Some(g) = self.home.groups.borrow_mut().get_mut(group) {
            g.apply_hard(hard);
        }
        Ok(lsn)
    }

    /// Puts who the members are.
    pub fn set_members(&self, group: GroupId, members: Members) -> Result<Lsn> {
        if !self.is_replica(group) {
            return Err(LogError::Replica { group, what: "it has no members: it is alone, or not here".into() });
        }
        let members = Members { bytes: check_members(group, members.bytes)?, ..members };
        let mut payload = Vec::with_capacity(64);
        members.encode(&mut payload);
        let lsn = self.home.note(Class::Note, FrameKind::Members, group, &payload, None)?;
        if let Some(replica) = self.home.groups.borrow_mut().get_mut(group).and_then(|g| g.replica.as_mut()) {
            replica.members = members;
        }
        Ok(lsn)
    }

    /// Entries up to `index` are committed: readers see those that are synced. Only a hard state tells a later start of it.
    pub fn commit(&self, group: GroupId, index: Index) {
        let moved = self.home.groups.borrow_mut().commit(group, index, self.home.config().settle_bytes);
        if let Some(high_watermark) = moved {
            self.home.advanced(&[Advance { group, high_watermark }]);
            self.home.after_flush(false);
        }
    }
}

fn check_members(group: GroupId, members: Bytes) -> Result<Bytes> {
    if members.len() > MEMBERS_BYTES_MAX {
        return Err(LogError::Replica { group, what: format!("members in {} bytes, at most {MEMBERS_BYTES_MAX} are kept", members.len()) });
    }
    Ok(members)
}
