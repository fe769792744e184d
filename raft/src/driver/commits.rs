//! What leaders need not say: that an entry is committed, at once, and that they live, to whom they have just sent entries.
//!
//! Whoever writes waits for the leader to know that an entry is committed, not for the followers. Telling each of them at once, as Raft's library would, costs
//! a message to each and an answer of each for every entry that comes alone: as much as the entry itself, on the CPUs that the next entry waits for. So
//! followers hear of it with whatever is said to them next. Where nothing is, they hear a moment later that the group rests (`driver/rest.rs`): that
//! says it too, needs no answer, and spares the group's heartbeats until its next entry. Where something is under way, or one of them lags, they are sent
//! heartbeats. Groups of the system do not wait: nodes follow what is committed there.
//!
//! A follower that is sent entries hears that its leader lives, and its answer says that it lives. A heartbeat beside them says nothing new. One in so many
//! leaves all the same, since it is by them that Raft's library finds out what was lost on the way.

use super::Driver;
use crate::replica::Replica;
use millpond_runtime::{GroupId, Index, Rt};
use raft::eraftpb::{Message, MessageType};
use std::collections::BTreeSet;

/// Of so many heartbeats in a row to a follower that was sent entries meanwhile the last one leaves.
const SPARED_MAX: u32 = 2;

/// Whom a leader has sent entries since its last heartbeat.
#[derive(Default)]
pub(crate) struct Spared {
    sent: BTreeSet<u64>,
    in_a_row: u32,
}

/// What followers of a group may not have heard.
#[derive(Clone, Copy)]
pub(super) struct Untold {
    /// Entries up to this one are committed.
    upto: Index,
    /// They were to be told once before.
    again: bool,
}

impl<R: Rt> Driver<R> {
    /// Whether followers of a group hear at once of what is committed.
    pub(super) fn is_prompt(&self, group: GroupId) -> bool {
        group.0 < self.0.config.prompt_below
    }

    /// More of a group is committed; followers may have to be told if it is led here.
    pub(super) fn note_commit(&self, replica: &Replica<R>) {
        if replica.is_leader() && !self.is_prompt(replica.group) && !replica.is_alone() {
            let mut untold = self.0.untold.borrow_mut();
            if untold.is_empty() {
                self.0.committed.notify_one();
            }
            untold.entry(replica.group).or_insert(Untold { upto: replica.applied, again: false });
        }
    }

    /// Tells followers of what nothing has told them, until the driver stops.
    pub(super) async fn tell_commits(&self) {
        while !self.is_stopping() {
            if self.0.untold.borrow().is_empty() {
                self.0.committed.notified().await;
                continue;
            }
            self.0.rt.sleep(self.0.config.commit_after).await;
            let untold = std::mem::take(&mut *self.0.untold.borrow_mut());
            for (group, of) in untold {
                if self.with(group, |replica| self.tell_commit(replica, of)) == Some(false) {
                    self.0.untold.borrow_mut().entry(group).or_insert(of).again = true;
                }
                self.0.rt.yield_if_needed().await;
            }
        }
    }

    /// Has a group rest, which says it, or says it by heartbeats. False where that is to wait for once, since a follower may have what is committed a moment
    /// later than the others.
    fn tell_commit(&self, replica: &mut Replica<R>, of: Untold) -> bool {
        if !replica.is_leader() || self.rest_now(replica) {
            return true;
        }
        if of.again && replica.has_untold(of.upto) {
            replica.spared = Spared::default();
            replica.ask(|raw| raw.ping());
        }
        of.again
    }
}

impl<R: Rt> Replica<R> {
    /// Whether a follower that has the entry is not known to have heard that it is committed.
    fn has_untold(&self, index: Index) -> bool {
        let raft = &self.raw.raft;
        raft.prs().iter().any(|(id, progress)| *id != raft.id && progress.committed_index < index.0.min(progress.matched))
    }

    /// Takes out heartbeats that say nothing new. Those that ask something, for whoever reads, always leave.
    pub(crate) fn spare(&mut self, messages: &mut Vec<Message>) {
        let beats = messages.iter().any(|m| m.get_msg_type() == MessageType::MsgHeartbeat);
        if beats {
            if self.spared.in_a_row < SPARED_MAX {
                let sent = std::mem::take(&mut self.spared.sent);
                messages.retain(|m| m.get_msg_type() != MessageType::MsgHeartbeat || !m.context.is_empty() || !sent.contains(&m.to));
                self.spared.in_a_row += 1;
            } else {
                self.spared = Spared::default();
            }
        }
        let entries = messages.iter().filter(|m| m.get_msg_type() == MessageType::MsgAppend && !m.entries.is_empty());
        self.spared.sent.extend(entries.map(|m| m.to));
    }
}
