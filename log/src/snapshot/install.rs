//! Putting a snapshot in the place of all that a replica has.

use super::{Manifest, Received};
use crate::{
    error::{LogError, Result},
    group::Group,
    journal::{checkpoint::encode_group, format::FrameKind, gather::Then, layout::Class},
    log::Log,
    lsn::Lsn,
    replica::{HardState, MEMBERS_BYTES_MAX, Members, Replica},
    store::Claim,
};
use bytes::Bytes;
use millpond_runtime::Rt;

/// A snapshot that may be installed at once.
pub struct Ready<R: Rt> {
    received: Received<R>,
    _claim: Claim<R>,
}

impl<R: Rt> Ready<R> {
    pub(super) fn new(received: Received<R>, claim: Claim<R>) -> Self {
        Self { received, _claim: claim }
    }

    /// What it consists of.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.received.manifest
    }

    /// Not now: others may append again.
    #[must_use]
    pub fn later(self) -> Received<R> {
        self.received
    }
}

impl<R: Rt> Log<R> {
    /// Puts a snapshot in the place of all that its replica has: entries, segments, producers, members. `members` are those of the snapshot, as this
    /// replica keeps them. The replica keeps its settings, what it has promised in its term, and whatever it has trimmed. Readers see what
    /// they saw, and all of the snapshot at once when the place is synced.
    ///
    /// # Errors
    /// [`LogError::Replica`] if the replica has committed as much already; [`LogError::Full`] if the journal has no room, to be tried again with what
    /// is given back.
    pub fn install(&self, ready: Ready<R>, members: Bytes) -> Result<Lsn, Box<(LogError, Received<R>)>> {
        let next = match self.after_install(&ready, members) {
            Ok(next) => next,
            Err(error) => return Err(Box::new((error, ready.received))),
        };
        let Received { group, ref segments, ref manifest, .. } = ready.received;
        let mut payload = Vec::with_capacity(256);
        encode_group(&next, &mut payload);
        let file = self.home.groups.borrow().get(group).and_then(|g| g.tail.needed_file());
        let lsn = match self.home.note(Class::Relief, FrameKind::Install, group, &payload, Some(Then::Installed(group, file))) {
            Ok(lsn) => lsn,
            Err(error) => return Err(Box::new((error, ready.received))),
        };
        let start = next.start_offset;
        self.home.groups.borrow_mut().install(group, next, file);
        self.home.store.replaced(group, segments.clone(), lsn);
        if start > manifest.start_offset {
            self.home.store.trimmed(group, start, lsn);
        }
        self.home.journal.state.borrow_mut().stats.installs += 1;
        self.home.room_changed();
        Ok(lsn)
    }

    /// The group as it will be.
    fn after_install(&self, ready: &Ready<R>, members: Bytes) -> Result<Group> {
        let Received { group, manifest: m, installs, .. } = &ready.received;
        let group = *group;
        let groups = self.home.groups.borrow();
        let g = groups.get(group).ok_or(LogError::UnknownGroup { group })?;
        let refuse = |what: String| LogError::Replica { group, what: format!("a snapshot of entry {}: {what}", m.index) };
        let before = g.replica.as_ref().ok_or_else(|| refuse("the group is alone".into()))?;
        if m.index <= before.committed || *installs != before.installs + 1 || members.len() > MEMBERS_BYTES_MAX {
            return Err(refuse(format!(
                "{} is committed, {} were installed, members in {} bytes",
                before.committed,
                before.installs,
                members.len()
            )));
        }
        let start_offset = m.start_offset.max(g.start_offset);
        let mut settled = m.settled();
        if start_offset > m.start_offset && start_offset >= m.next_offset {
            settled.segment = None;
        }
        let (term, vote) = if before.hard.term < m.term { (m.term, 0) } else { (before.hard.term, before.hard.vote) };
        let hard = HardState { term, vote, commit: m.index };
        let mut producers = m.producers.clone();
        producers.trim(start_offset);
        let replica = Replica::of_snapshot(hard, Members { index: m.members.index, bytes: members }, m.terms.clone(), *installs);
        Ok(Group {
            start_offset,
            last_index: m.index,
            end_offset: m.next_offset,
            max_timestamp: m.max_timestamp,
            settled,
            producers,
            replica: Some(Box::new(replica)),
            ..Group::new(group, g.config.clone())
        })
    }
}
