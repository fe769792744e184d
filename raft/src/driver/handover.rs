//! Leadership that is handed over, so that nobody has to miss a leader first.
//!
//! It is handed to a replica that has all of the log but what is on its way, so that what comes meanwhile waits for a moment only: what was proposed before is
//! in the log of the new leader, which commits it, and this replica sees that as a follower and says so to those who wait. Whoever has more to propose is to wait
//! while [`Driver::hands_over`]; then it is known who leads.

use super::Driver;
use crate::{members::RaftId, replica::Replica};
use millpond_runtime::{GroupId, Rt};
use raft::ProgressState;

/// A replica to which all but so many entries are on their way may be handed the leadership.
const UNSENT_MAX: u64 = 64;

impl<R: Rt> Driver<R> {
    /// Has the leader hand over to another replica, if it leads and the other has nearly all of the log, or will soon. Whether that is under way now.
    pub fn transfer(&self, group: GroupId, to: RaftId) -> bool {
        let begun = self.with(group, |replica| {
            if replica.handing.is_some() || !replica.may_hand_to(to) {
                return false;
            }
            replica.wake();
            replica.lease.end(replica.term());
            replica.ask(|raw| raw.transfer_leader(to));
            replica.handing = replica.raw.raft.lead_transferee.map(|_| 0);
            replica.handing.is_some()
        });
        begun.unwrap_or(false)
    }

    /// Whether a replica hands over leadership just now: it takes no proposals, and soon knows who does.
    #[must_use]
    pub fn hands_over(&self, group: GroupId) -> bool {
        let replicas = self.0.replicas.borrow();
        replicas.get(&group).is_some_and(|r| r.handing.is_some() && (r.is_leader() || r.leader().is_none()))
    }

    /// A tick has passed: a leadership that was handed over to nobody is not waited for any longer.
    pub(super) fn expire_handover(&self, replica: &mut Replica<R>) {
        let Some(ticks) = replica.handing else { return };
        replica.handing = Some(ticks + 1).filter(|ticks| *ticks <= 2 * self.0.config.election_ticks);
        if replica.handing.is_none() && !replica.is_leader() {
            replica.lose_waiters();
        }
    }
}

impl<R: Rt> Replica<R> {
    fn may_hand_to(&self, to: RaftId) -> bool {
        let raft = &self.raw.raft;
        let last = raft.raft_log.last_index();
        let near = |progress: &raft::Progress| {
            progress.matched == last || (progress.state == ProgressState::Replicate && progress.next_idx + UNSENT_MAX > last)
        };
        self.is_leader() && raft.prs().get(to).is_some_and(near)
    }

    /// Raft has done what it was asked: whether the leadership still is being handed over.
    pub(crate) fn note_handover(&mut self) {
        let over =
            if self.is_leader() { self.raw.raft.lead_transferee.is_none() } else { self.leader().is_some() && self.waiters.is_empty() };
        if over {
            self.handing = None;
        }
    }
}
