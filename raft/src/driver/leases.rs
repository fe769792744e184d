//! Reads that ask nobody: for a while after a majority has answered the leader, no other replica can lead, and what is committed here is all that was acknowledged, or that
//! followers have told of.
//!
//! Whoever has heard from a leader gives no vote to anybody else until it has missed it for [`RaftConfig::election_ticks`](super::RaftConfig), and any new leader needs
//! the vote of one of those who have answered (Ongaro's thesis, 6.4.1). A read that a majority has answered for was sent to all of them after it began; so from its
//! beginning on, for the time of all those ticks but one (it may have come just before a tick), less what clocks run apart by, its leader need not ask again. This
//! rests on clocks, and is off unless it was asked for.
//!
//! What else could have somebody vote earlier, and what is done about it:
//! - A replica that starts again has forgotten whom it heard. It neither votes nor asks for votes until it has been there for as long as a leader may be missed.
//! - Leadership is handed over: the others are to vote at once. Its leader has no lease from then on, in this term.
//! - Members change: the answers of those before are worth nothing.
//! - Where the leader's node refuses connections, it is taken for dead before its time ([`Driver::nobody_there`]): not where leases are kept, so that a leader that has
//!   died is missed for longer.
//! - A node of the group does not know of all this: then there are no leases. Nodes say in the lowest bit of their life whether they do.

use super::Driver;
use crate::replica::Replica;
use millpond_runtime::{GroupId, Index, Nanos, NodeId, Rt, Term};
use raft::eraftpb::{Message, MessageType};

/// The bit of a life that says that a node keeps to leases.
const KEEPS: u64 = 1;

/// What a leader knows of its lease.
#[derive(Default)]
pub(crate) struct Lease {
    /// The term in which it holds, and when it ends.
    until: Option<(Term, Nanos)>,
    /// Answers to what was asked before that count for nothing.
    since: Nanos,
    /// In this term there is none any more.
    never_in: Term,
}

impl Lease {
    /// Members have changed.
    pub(crate) fn begin_anew(&mut self, now: Nanos) {
        (self.until, self.since) = (None, now);
    }

    /// Somebody else is asked to lead after this term.
    pub(crate) fn end(&mut self, term: Term) {
        (self.until, self.never_in) = (None, term);
    }

    /// A majority has answered what was asked at `began`, in this term: it holds for so long from then on.
    fn renew(&mut self, term: Term, began: Nanos, ns: u64) {
        if term == self.never_in || began < self.since {
            return;
        }
        let until = began + ns;
        self.until = Some(self.until.filter(|(of, before)| *of == term && *before > until).unwrap_or((term, until)));
    }

    fn holds(&self, term: Term, now: Nanos) -> bool {
        self.until.is_some_and(|(of, until)| of == term && now < until)
    }
}

impl<R: Rt> Driver<R> {
    /// A number for a life of this node: see [`crate::wire::Frame::life`].
    pub(super) fn new_life(rt: &R, keeps: bool) -> u64 {
        rt.rand() & !KEEPS | u64::from(keeps)
    }

    /// Whether this node keeps to leases of leaders, here and elsewhere.
    pub(super) fn keeps_leases(&self) -> bool {
        self.0.config.lease_drift_percent.is_some()
    }

    /// For so long a leader is not missed: from when a replica begins, and from when it hears from one, but for the tick under way.
    fn missed_after_ns(&self) -> u64 {
        self.0.config.tick.as_nanos() as u64 * self.0.config.election_ticks as u64
    }

    /// Up to where a replica may be read without asking anybody, once it has applied so much: followers may have, as a leader commits what its own disk does not have yet.
    pub(super) fn leased(&self, group: GroupId) -> Option<Index> {
        let replicas = self.0.replicas.borrow();
        let replica = replicas.get(&group)?;
        let may = self.keeps_leases()
            && replica.is_leader()
            && replica.handing.is_none()
            && replica.lease.holds(replica.term(), self.0.rt.mono());
        may.then(|| Index(replica.raw.raft.raft_log.committed))
    }

    /// A majority has answered for a read that began then.
    pub(super) fn renew_lease(&self, replica: &mut Replica<R>, began: Nanos) {
        let Some(drift) = self.0.config.lease_drift_percent else { return };
        let me = replica.members.me;
        let all_keep = replica.members.nodes.iter().all(|(id, node)| *id == me || self.peer_keeps_leases(*node));
        if replica.is_leader() && replica.raw.raft.lead_transferee.is_none() && all_keep {
            let ns = (self.missed_after_ns() - self.0.config.tick.as_nanos() as u64) / 100 * u64::from(100_u8.saturating_sub(drift));
            let term = replica.term();
            replica.lease.renew(term, began, ns);
        }
    }

    /// Whether a replica is too young to vote for somebody: it may have heard from a leader before it began, and leases of that may hold.
    pub(super) fn is_too_young(&self, replica: &Replica<R>, message: &Message, life: u64) -> bool {
        let asks = matches!(message.get_msg_type(), MessageType::MsgRequestVote | MessageType::MsgRequestPreVote);
        asks && (self.keeps_leases() || life & KEEPS == KEEPS) && self.is_young(replica)
    }

    /// Whether a replica that was there before has begun just now.
    pub(super) fn is_young(&self, replica: &Replica<R>) -> bool {
        replica.begun.is_some_and(|begun| self.0.rt.mono() < begun + self.missed_after_ns())
    }

    fn peer_keeps_leases(&self, node: NodeId) -> bool {
        self.0.peers.borrow().life_of(node).is_some_and(|life| life & KEEPS == KEEPS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_holds_from_when_was_asked_and_in_its_term() {
        let mut lease = Lease::default();
        assert!(!lease.holds(Term(3), 0));
        lease.renew(Term(3), 1_000, 300);
        assert!(lease.holds(Term(3), 1_299) && !lease.holds(Term(3), 1_300) && !lease.holds(Term(4), 1_100));
        lease.renew(Term(3), 900, 300);
        assert!(lease.holds(Term(3), 1_299), "an older answer takes nothing away");
        lease.begin_anew(1_100);
        assert!(!lease.holds(Term(3), 1_100));
        lease.renew(Term(3), 1_099, 300);
        assert!(!lease.holds(Term(3), 1_100), "it was asked of others than are members now");
        lease.renew(Term(3), 1_100, 300);
        assert!(lease.holds(Term(3), 1_200));
        lease.end(Term(3));
        lease.renew(Term(3), 1_200, 300);
        assert!(!lease.holds(Term(3), 1_250), "somebody may have been told to lead");
        lease.renew(Term(5), 1_200, 300);
        assert!(lease.holds(Term(5), 1_250));
    }
}
