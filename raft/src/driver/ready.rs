//! What Raft wants: what must last goes into the journal, what is committed is carried out, what may be said is said.

use super::{Driver, reads::tell_reads};
use crate::{
    members::{Membership, RaftId},
    replica::{Promise, Replica},
    storage::to_log,
};
use millpond_log::{HardState, LogError, Members};
use millpond_runtime::{GroupId, Index, NodeId, Rt, Share, Term};
use raft::eraftpb::{Entry, EntryType, Message};

impl<R: Rt> Driver<R> {
    /// Does whatever Raft wants.
    pub(super) fn drive(&self, replica: &mut Replica<R>) -> Result<(), LogError> {
        while replica.raw.has_ready() {
            let mut ready = replica.raw.ready();
            assert!(ready.snapshot().is_empty(), "Raft was told of a snapshot that is not in the log yet");
            let before = replica.last_put;
            let (entries, committed, number) = (ready.take_entries(), ready.take_committed_entries(), ready.number());
            let reads = ready.take_read_states();
            let (mut now, later) = (ready.take_messages(), ready.take_persisted_messages());
            replica.spare(&mut now);
            let vote = ready.hs().map(|hs| (Term(hs.term), hs.vote));
            self.put(replica, vote, entries)?;
            replica.ask(|raw| raw.advance_append_async(ready));
            self.apply(replica, &committed)?;
            self.note_reads(replica, reads);
            self.post(replica, now);
            let promise = Promise { lsn: replica.last_put, number, messages: later };
            if replica.last_put == before && replica.promises.is_empty() {
                self.keep(replica, promise);
            } else {
                let mut due = self.0.due.borrow_mut();
                if due.is_empty() {
                    self.0.promised.notify_one();
                }
                due.insert((promise.lsn, replica.group));
                replica.promises.push_back(promise);
            }
        }
        replica.note_handover();
        if replica.note_role() {
            let leader = replica.leader();
            let node = leader.and_then(|leader| replica.node_of(leader));
            self.count(|c| c.elections += u64::from(leader.is_some()));
            let (group, term) = (replica.group.0, replica.term().0);
            tracing::debug!(group, term, replica = leader, node = node.map(|node| node.0), leads = replica.is_leader(), "a group's leader");
            self.tell_leader(replica.group, node.map(|node| (node, replica.term())));
        }
        Ok(())
    }

    /// Says who leads a group, as far as is known here now.
    pub(super) fn tell_leader(&self, group: GroupId, leader: Option<(NodeId, Term)>) {
        if let Some(callback) = &*self.0.on_leader.borrow() {
            callback(group, leader);
        }
    }

    /// Puts into the journal what must last: first a new term or vote, so that no entry there is of a newer term; last how far the log is
    /// applied.
    fn put(&self, replica: &mut Replica<R>, vote: Option<(Term, u64)>, entries: Vec<Entry>) -> Result<(), LogError> {
        let (log, group) = (&self.0.log, replica.group);
        if let Some((term, vote)) = vote.filter(|new| *new != (replica.hard.term, replica.hard.vote)) {
            let hard = HardState { term, vote, ..replica.hard };
            replica.last_put = log.set_hard_state(group, hard)?;
            replica.hard = hard;
        }
        let some = !entries.is_empty();
        for entry in entries {
            replica.put_bytes += entry.data.len() as u64;
            replica.last_put = log.append_entry(group, to_log(entry), self.0.rt.wall_ms())?;
        }
        if some && replica.applied > replica.hard.commit {
            let hard = HardState { commit: replica.applied, ..replica.hard };
            replica.last_put = log.set_hard_state(group, hard)?;
            replica.hard = hard;
        }
        Ok(())
    }

    /// Carries out what is committed.
    fn apply(&self, replica: &mut Replica<R>, committed: &[Entry]) -> Result<(), LogError> {
        let Some(last) = committed.last() else { return Ok(()) };
        let (log, group) = (&self.0.log, replica.group);
        for entry in committed {
            if entry.get_entry_type() != EntryType::EntryNormal {
                self.change_members(replica, entry)?;
            }
            if let Some(callback) = &*self.0.on_committed.borrow() {
                callback(group, entry);
            }
        }
        log.commit(group, Index(last.index));
        replica.applied = Index(last.index);
        replica.ask(|raw| raw.advance_apply_to(last.index));
        self.tell_applied(replica);
        tell_reads(replica);
        self.note_commit(replica);
        Ok(())
    }

    /// A change of members is committed.
    fn change_members(&self, replica: &mut Replica<R>, entry: &Entry) -> Result<(), LogError> {
        let group = replica.group;
        let wrong = |what: String| LogError::Replica { group, what: format!("entry {} changes members: {what}", entry.index) };
        let (change, nodes) = crate::change::decode(entry).map_err(wrong)?;
        let conf = replica.ask(|raw| raw.apply_conf_change(&change)).map_err(|e| wrong(e.to_string()))?;
        replica.lease.begin_anew(self.0.rt.mono());
        replica.members.nodes.extend(nodes);
        let known =
            |id: &RaftId| [&conf.voters, &conf.learners, &conf.voters_outgoing, &conf.learners_next].iter().any(|list| list.contains(id));
        replica.members.nodes.retain(|id, _| known(id));
        if !known(&replica.members.me) && replica.is_leader() {
            // Raft's library would count on finding its leader among the members.
            replica.ask(|raw| raw.raft.become_follower(raw.raft.term, 0));
        }
        replica.members.conf = conf;
        let members = Members { index: Index(entry.index), bytes: replica.members.encode() };
        replica.last_put = self.0.log.set_members(group, members)?;
        self.count(|c| c.changes += 1);
        let Membership { me: replica_id, conf, nodes } = &replica.members;
        tracing::debug!(
            group = group.0,
            term = entry.term,
            entry = entry.index,
            replica = replica_id,
            voters = ?conf.voters,
            learners = ?conf.learners,
            nodes = ?nodes.values().map(|node| node.0).collect::<Vec<_>>(),
            "a group's members changed"
        );
        Ok(())
    }

    /// Keeps what was promised: this replica counts from here on, and says so.
    pub(super) fn keep(&self, replica: &mut Replica<R>, promise: Promise) {
        replica.ask(|raw| raw.on_persist_ready(promise.number));
        self.post(replica, promise.messages);
    }

    /// Has messages leave.
    pub(super) fn post(&self, replica: &Replica<R>, messages: Vec<Message>) {
        for (node, envelope) in replica.address(messages) {
            self.note_offer(node, &envelope);
            self.count(|c| c.messages += 1);
            self.queue(node).push(envelope);
        }
    }

    /// The log did not take what Raft wants to last. Nothing of it was promised: the replica begins anew from what is on stable media, as
    /// after a crash.
    pub(super) fn refused(&self, mut replica: Replica<R>, group: GroupId, error: &LogError) {
        replica.lose_waiters();
        let term = replica.term().0;
        if matches!(error, LogError::Stopped { .. }) {
            return;
        }
        if !error.is_retryable() {
            tracing::error!(group = group.0, term, %error, "a replica's log refuses what Raft wants");
            self.0.broken.borrow_mut().insert(group, error.to_string());
            return;
        }
        tracing::warn!(group = group.0, term, %error, "a replica begins anew");
        self.count(|c| c.begun_anew += 1);
        let (this, lsn) = (self.clone(), replica.last_put);
        self.0.rt.spawn("raft begins anew", Share::Serve, async move {
            this.0.log.wait_room().await;
            if this.0.log.synced(lsn).await.is_ok()
                && !this.is_stopping()
                && let Err(error) = this.open(group)
            {
                tracing::error!(group = group.0, term, %error, "a replica cannot begin anew");
                this.0.broken.borrow_mut().insert(group, error.to_string());
            }
        });
    }
}
