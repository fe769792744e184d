//! What other nodes say: checked before Raft hears of it, since Raft trusts its peers and panics where they say what cannot be.

use super::Driver;
use crate::{
    members::RaftId,
    replica::Replica,
    wire::{self, Envelope, Frame, Said, WireError},
};
use bytes::Bytes;
use millpond_runtime::{NodeId, Rt};
use raft::{
    StateRole,
    eraftpb::{Entry, EntryType, Message, MessageType},
};

impl<R: Rt> Driver<R> {
    /// Takes a frame that the node `from` has sent.
    pub fn receive(&self, from: NodeId, frame: &Bytes) -> Result<(), WireError> {
        let Frame { life, envelopes } = wire::decode(frame)?;
        self.hear_of(from, life);
        for envelope in envelopes {
            let Envelope { group, said } = envelope;
            match said {
                Said::Raft(message) => {
                    check_batches(&message)?;
                    self.note_call(group, &message);
                    self.with(group, |replica| self.step(replica, (from, life), message));
                }
                Said::Ask(ask) => self.serve(group, from, ask),
                Said::Piece(piece) => self.take_piece(group, from, piece),
                Said::End(end) => self.end_snapshot(group, from, end),
            }
        }
        Ok(())
    }

    /// Messages to a node did not arrive.
    pub(crate) fn unreachable(&self, node: NodeId) {
        self.miss_offers(node);
        for group in self.groups(|replica| !replica.quiet && replica.is_leader()) {
            self.with(group, |replica| {
                let there: Vec<RaftId> = replica.members.nodes.iter().filter(|(_, at)| **at == node).map(|(id, _)| *id).collect();
                for id in there {
                    replica.ask(|raw| raw.report_unreachable(id));
                }
            });
        }
    }

    /// Passes a message on to Raft, unless Raft could not bear it.
    fn step(&self, replica: &mut Replica<R>, (from, life): (NodeId, u64), mut message: Message) {
        if message.to != replica.members.me {
            // To an earlier incarnation.
            return;
        }
        replica.hear(message.from, from);
        if self.is_too_young(replica, &message, life) {
            return;
        }
        if message.get_msg_type() == MessageType::MsgTransferLeader {
            let term = replica.term();
            replica.lease.end(term);
        }
        if message.get_msg_type() == MessageType::MsgBeat {
            if replica.rest_with(&message, life) {
                return;
            }
            // What it lacks it gets by answering.
            message.set_msg_type(MessageType::MsgHeartbeat);
            message.index = 0;
        }
        // One that does not know that it was removed asks for votes again and again.
        if replica.members.nodes.contains_key(&message.from) {
            match message.get_msg_type() {
                MessageType::MsgHeartbeat | MessageType::MsgHeartbeatResponse => replica.quiet = false,
                _ => replica.wake(),
            }
        }
        if message.get_msg_type() == MessageType::MsgAppend && !message.entries.is_empty() {
            // The leader sends the rest again.
            let kept = self.finds_room(replica, &message.entries);
            self.count(|c| c.refused += (message.entries.len() - kept) as u64);
            message.entries.truncate(kept);
        }
        if let Some(why) = impossible(replica, &message) {
            self.0.broken.borrow_mut().insert(replica.group, why);
            return;
        }
        if message.get_msg_type() == MessageType::MsgSnapshot {
            return self.offered(replica, from, message);
        }
        // What Raft refuses has no effect.
        let _ = replica.ask(|raw| raw.step(message));
    }

    /// How many of a message's entries the log can take, from the first one on. Those that are there already show how far the log is the leader's, and so what
    /// of it is committed and makes room; those without records need next to none; and one that takes the place of another brings its own.
    fn finds_room(&self, replica: &Replica<R>, entries: &[Entry]) -> usize {
        let (log, raft_log) = (&self.0.log, &replica.raw.raft.raft_log);
        let all_but_last = entries.split_last().map_or(0, |(_, before)| before.iter().map(|e| e.data.len()).sum());
        if log.room_behind(entries.len() - 1, all_but_last) {
            return entries.len();
        }
        let (mut taken, mut bytes) = (0, 0);
        for (kept, entry) in entries.iter().enumerate() {
            if raft_log.match_term(entry.index, entry.term) || entry.get_entry_type() != EntryType::EntryNormal || entry.data.is_empty() {
                continue;
            }
            let replaces = taken == 0 && entry.index <= raft_log.last_index();
            if !replaces && !log.room_behind(taken, bytes) {
                return kept;
            }
            (taken, bytes) = (taken + 1, bytes + entry.data.len());
        }
        entries.len()
    }
}

/// Whether the batches of entries are whole: what a peer says is checked before it is kept.
fn check_batches(message: &Message) -> Result<(), WireError> {
    if message.get_msg_type() != MessageType::MsgAppend {
        return Ok(());
    }
    for entry in message.entries.iter().filter(|e| e.get_entry_type() == EntryType::EntryNormal && !e.data.is_empty()) {
        millpond_batch::check(&entry.data).map_err(|e| WireError::Shape(format!("entry {}: {e}", entry.index)))?;
    }
    Ok(())
}

/// Why a replica with this state cannot be told this: it has lost what it once had, or has what others do not.
fn impossible<R: Rt>(replica: &Replica<R>, message: &Message) -> Option<String> {
    let raft = &replica.raw.raft;
    if message.term < raft.term {
        return None;
    }
    let (last, committed) = (raft.raft_log.last_index(), raft.raft_log.committed);
    match message.get_msg_type() {
        MessageType::MsgHeartbeat if message.commit > last => {
            Some(format!("its leader knows that it had entry {}, and it ends with {last}", message.commit))
        }
        MessageType::MsgSnapshot => {
            let of = message.get_snapshot().get_metadata();
            let differs = of.index == committed && !raft.raft_log.match_term(of.index, of.term);
            differs.then(|| format!("entry {committed} is committed here and is another in a snapshot of its leader"))
        }
        MessageType::MsgAppend if raft.state != StateRole::Leader => {
            let differs = |e: &&Entry| e.index <= committed && raft.raft_log.term(e.index).is_ok_and(|term| term != 0 && term != e.term);
            message.entries.iter().find(differs).map(|e| format!("entry {} is committed here and is another at its leader", e.index))
        }
        _ => None,
    }
}
