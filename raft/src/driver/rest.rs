//! Groups that cost nothing while nobody asks anything of them.
//!
//! A leader whose group has been idle for a while, and whose replicas all have all of its log, says `MsgBeat` to each of them and rests: it no
//! longer ticks. A follower that agrees rests, too; one that does not takes it as a heartbeat, and its answer wakes the leader. So does whatever
//! else is said to one that rests. This is about time alone: a replica that rests votes, answers and appends as any other. Since all have all of the log, the
//! message also says that all of it is committed, as a heartbeat would: so one whose followers have yet to hear that rests at once
//! (`driver/commits.rs`), and thousands of groups of which each is written to now and then neither tick nor beat in between.
//!
//! Who would miss the leader, when nobody ticks? Nodes say to each other that they live, for all groups at once, in frames without messages.
//! Followers wake when the node of their leader is silent for as long as a leader may be, or begins another life: it has started again, or a
//! leader there has gone, which may have been theirs; the others there wake as well, and say that they lead. A message to rest that is lost leaves a follower that ticks; it asks
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
        if replica.idle_ticks >= self.0.config.quiet_ticks {
            self.rest_now(replica);
        }
    }

    /// Has a group rest if nobody needs anything of it, and says so. Whether it does.
    pub(super) fn rest_now(&self, replica: &mut Replica<R>) -> bool {
        if !replica.may_rest() {
            return false;
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
        true
    }
}

impl<R: Rt> Replica<R> {
    /// Something is asked of it, or said to it.
    pub(crate) fn wake(&mut self) {
        (self.quiet, self.idle_ticks) = (false, 0);
    }

    /// Nothing is under way in it, and all that it has lasts.
    fn is_idle(&self) -> bool {
        let log = &self.raw.raft.raft_log;
        self.promises.is_empty() && self.reads.is_empty() && self.waiters.is_empty() && log.persisted == log.last_index()
    }

    /// Whether a leader may rest: nobody needs anything of it.
    fn may_rest(&self) -> bool {
        let raft = &self.raw.raft;
        let last = raft.raft_log.last_index();
        let settled = self.members.conf.voters_outgoing.is_empty() && self.members.conf.learners_next.is_empty();
        self.is_leader()
            && self.is_idle()
            && (raft.raft_log.committed, self.applied.0) == (last, last)
            && settled
            && raft.lead_transferee.is_none()
            && raft.pending_read_count() == 0
            && !raft.has_pending_conf()
            // One that was unreachable stays in the state of a probe until there is something new for it.
            && raft.prs().iter().all(|(id, progress)| {
                self.members.nodes.contains_key(id) && progress.matched == last && progress.state != ProgressState::Snapshot
            })
    }

    /// Rests as its leader says, whose node is in this life, if it has all that the leader has, which is committed, and knows where that lives. Whether it does.
    pub(crate) fn rest_with(&mut self, message: &Message, life: u64) -> bool {
        let raft = &self.raw.raft;
        let may = (raft.state, raft.term, raft.leader_id) == (StateRole::Follower, message.term, message.from)
            && message.index == life
            && self.is_idle()
            && raft.raft_log.last_index() == message.commit
            && self.members.nodes.contains_key(&message.from);
        if may {
            // The leader has heard, in this term, that it has all up to there: what it has there is the leader's.
            self.ask(|raw| raw.raft.raft_log.commit_to(message.commit));
            self.quiet = true;
        }
        may
    }
}
