//! Groups that cost nothing while nobody asks anything of them.
//!
//! A leader whose group has been idle for a while, and whose replicas all have all of its log, says `MsgBeat` to each of them and rests: it no
//! longer ticks. A follower that agrees rests, too; one that does not takes it as a heartbeat, and its answer wakes the leader. So does whatever
//! else is said to one that rests. This is about time alone: a replica that rests votes, answers and appends as any other.
//!
//! Who would miss the leader, when nobody ticks? Nodes say to each other that they live, for all groups at once, in frames without messages.
//! Followers wake when the node of their leader is silent for as long as a leader may be, or begins another life: it has started again, or a
//! replica there has broken, which may have been their leader. A message to rest that is lost leaves a follower that ticks; it asks
//! for votes in the end, and wakes the leader by it. One that comes late, from another life than its frame, is none: its leader may have broken
//! since, and nothing would tell of that again.

use super::Driver;
use crate::replica::Replica;
use millpond_runtime::Rt;
use raft::{
    ProgressState, StateRole,
    eraftpb::{Message, MessageType},
};

impl<R: Rt> Driver<R> {
    /// Has a group rest that has been idle for long enough.
    pub(super) fn rest(&self, replica: &mut Replica<R>) {
        if replica.idle_ticks < self.0.config.quiet_ticks || !replica.may_rest() {
            return;
        }
        replica.quiet = true;
        self.count(|c| c.rests += 1);
        let raft = &replica.raw.raft;
        let others = raft.prs().iter().map(|(id, _)| *id).filter(|id| *id != raft.id);
        let beat = |to| {
            let (term, commit) = (raft.term, raft.raft_log.committed);
            let mut message = Message { from: raft.id, to, term, commit, index: self.life(), ..Message::default() };
            message.set_msg_type(MessageType::MsgBeat);
            message
        };
        let beats = others.map(beat).collect();
        self.post(replica, beats);
    }
}

impl<R: Rt> Replica<R> {
    /// Something is asked of it, or said to it.
    pub(crate) fn wake(&mut self) {
        (self.quiet, self.idle_ticks) = (false, 0);
    }

    /// Nothing is under way in it, and everything that it has is committed and applied.
    fn is_done(&self) -> bool {
        let log = &self.raw.raft.raft_log;
        let last = log.last_index();
        self.promises.is_empty()
            && self.reads.is_empty()
            && self.waiters.is_empty()
            && (log.persisted, log.committed, self.applied.0) == (last, last, last)
    }

    /// Whether a leader may rest: nobody needs anything of it.
    fn may_rest(&self) -> bool {
        let raft = &self.raw.raft;
        let last = raft.raft_log.last_index();
        let settled = self.members.conf.voters_outgoing.is_empty() && self.members.conf.learners_next.is_empty();
        self.is_leader()
            && self.is_done()
            && settled
            && raft.lead_transferee.is_none()
            && raft.pending_read_count() == 0
            && !raft.has_pending_conf()
            // One that was unreachable stays in the state of a probe until there is something new for it.
            && raft.prs().iter().all(|(id, progress)| {
                self.members.nodes.contains_key(id) && progress.matched == last && progress.state != ProgressState::Snapshot
            })
    }

    /// Whether it may rest as its leader says, whose node is in this life: it has all that the leader has, and knows where that lives.
    pub(crate) fn may_rest_with(&self, message: &Message, life: u64) -> bool {
        let raft = &self.raw.raft;
        (raft.state, raft.term, raft.leader_id) == (StateRole::Follower, message.term, message.from)
            && message.index == life
            && self.is_done()
            && raft.raft_log.last_index() == message.commit
            && self.members.nodes.contains_key(&message.from)
    }
}
