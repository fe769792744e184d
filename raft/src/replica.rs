//! One group on this core: Raft's state machine over the log, and what is under way.
//!
//! Invariants: nothing is asked of Raft between a `Ready` and its end; the hard state in the journal calls no entry committed that has not been
//! applied, so that members are never older than the commit; election timeouts are a function of seed, replica and term.

use crate::{
    driver::{Lost, Read, commits::Spared, leases::Lease},
    logger::of_group,
    members::{Membership, RaftId},
    storage::{OpenError, Storage},
    wire::{Envelope, Said},
};
use millpond_log::{HardState, Log, Lsn};
use millpond_runtime::{GroupId, Index, Nanos, NodeId, Rt, Term};
use raft::{RawNode, StateRole, eraftpb::Message};
use slog::Logger;
use std::collections::{BTreeMap, VecDeque};
use tokio::sync::oneshot;

/// Replicas that are no members, as far as is known, and have spoken.
const HEARD_MAX: usize = 64;

/// A promise that may be kept once the journal has synced so far.
pub(crate) struct Promise {
    pub(crate) lsn: Lsn,
    /// Which `Ready` it is a part of.
    pub(crate) number: u64,
    /// What may be said then.
    pub(crate) messages: Vec<Message>,
}

/// Somebody who waits for an entry to be committed.
pub(crate) struct Waiter {
    pub(crate) index: Index,
    pub(crate) term: Term,
    pub(crate) began: Nanos,
    pub(crate) tell: oneshot::Sender<Result<(), Lost>>,
}

/// A leader, the term in which it leads, and where it lives: a new replica may hear from one before it knows that.
type Followed = (RaftId, Term, Option<NodeId>);

/// See the module.
pub(crate) struct Replica<R: Rt> {
    pub(crate) group: GroupId,
    pub(crate) members: Membership,
    /// Where those live that have spoken to it: one that lags hears from a leader that it does not know as a member yet, and must answer.
    heard: BTreeMap<RaftId, NodeId>,
    pub(crate) raw: RawNode<Storage<R>>,
    /// What the journal has, or will have.
    pub(crate) hard: HardState,
    /// The last entry applied.
    pub(crate) applied: Index,
    /// The last place in the journal that this group has put something.
    pub(crate) last_put: Lsn,
    /// Bytes of entries that were put there since the start.
    pub(crate) put_bytes: u64,
    /// In order.
    pub(crate) promises: VecDeque<Promise>,
    /// In the order of their entries.
    pub(crate) waiters: VecDeque<Waiter>,
    /// Reads that wait.
    pub(crate) reads: Vec<Read>,
    /// Whether it rests; see `driver/rest.rs`.
    pub(crate) quiet: bool,
    /// Ticks in which nothing came but heartbeats.
    pub(crate) idle_ticks: usize,
    /// For so many ticks its leadership has been being handed over; see `driver/handover.rs`.
    pub(crate) handing: Option<usize>,
    /// Heartbeats that need not leave; see `driver/commits.rs`.
    pub(crate) spared: Spared,
    /// For how long it may be read without asking anybody, where it leads; see `driver/leases.rs`.
    pub(crate) lease: Lease,
    /// When it began, if it was there before.
    pub(crate) begun: Option<Nanos>,
    was_leader: bool,
    /// Whom it followed, in which term, and where that lives, when it was last told.
    followed: Option<Followed>,
    seed: u64,
    /// In this term it asks for votes so many ticks after the time in which others would not give theirs.
    hurried: Option<(u64, usize)>,
}

impl<R: Rt> Replica<R> {
    /// Opens what the log has.
    pub(crate) fn open(log: &Log<R>, group: GroupId, config: &raft::Config, seed: u64, logger: &Logger) -> Result<Self, OpenError> {
        let found = log.replica(group).ok_or(OpenError::Unknown)?;
        let (storage, members, applied) = Storage::new(log.clone(), group, &found)?;
        let config = raft::Config { id: members.me, applied: applied.0, ..config.clone() };
        let raw = RawNode::new(&config, storage, &of_group(logger, group))?;
        let mut this = Self {
            group,
            members,
            heard: BTreeMap::new(),
            raw,
            hard: found.hard,
            applied,
            last_put: Lsn(0),
            put_bytes: 0,
            promises: VecDeque::new(),
            waiters: VecDeque::new(),
            reads: Vec::new(),
            quiet: false,
            idle_ticks: 0,
            handing: None,
            spared: Spared::default(),
            lease: Lease::default(),
            begun: None,
            was_leader: false,
            followed: None,
            hurried: None,
            seed,
        };
        this.settle_timeout();
        Ok(this)
    }

    /// Asks something of Raft. Whatever draws a new election timeout there, it is ours afterwards.
    pub(crate) fn ask<T>(&mut self, ask: impl FnOnce(&mut RawNode<Storage<R>>) -> T) -> T {
        let answer = ask(&mut self.raw);
        self.settle_timeout();
        answer
    }

    fn settle_timeout(&mut self) {
        let raft = &mut self.raw.raft;
        let (min, span) = (raft.election_timeout(), raft.election_timeout() as u64);
        let drawn = scatter(self.seed ^ scatter(self.members.me ^ scatter(raft.term))) % span;
        let after = self.hurried.filter(|(term, _)| *term == raft.term).map_or(drawn as usize, |(_, ticks)| ticks);
        raft.set_randomized_election_timeout(min + after);
    }

    /// Its leader is known to have ended: from here on it votes for others, and if it votes it asks for votes itself after `first` ticks, or as many times
    /// `turn` later as other voters come before it.
    pub(crate) fn hurry(&mut self, first: usize, turn: usize) {
        let raft = &mut self.raw.raft;
        let ended = raft.leader_id;
        let before = self.members.conf.voters.iter().filter(|id| **id != ended && **id < self.members.me).count();
        raft.election_elapsed = raft.election_elapsed.max(raft.election_timeout());
        self.hurried = Some((raft.term, (first + before * turn).min(raft.election_timeout() - 1)));
        self.settle_timeout();
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// Whether its group has no other member, as far as it knows.
    pub(crate) fn is_alone(&self) -> bool {
        self.members.nodes.len() <= 1
    }

    /// Whom it follows, if it knows.
    pub(crate) fn leader(&self) -> Option<RaftId> {
        Some(self.raw.raft.leader_id).filter(|id| *id != 0)
    }

    /// Where a replica lives, as far as is known: as a member, or since it has spoken.
    pub(crate) fn node_of(&self, id: RaftId) -> Option<NodeId> {
        self.members.nodes.get(&id).or_else(|| self.heard.get(&id)).copied()
    }

    pub(crate) fn term(&self) -> Term {
        Term(self.raw.raft.term)
    }

    /// A replica has spoken, from this node.
    pub(crate) fn hear(&mut self, from: RaftId, node: NodeId) {
        if self.members.nodes.get(&from) != Some(&node) {
            if self.heard.len() >= HEARD_MAX {
                self.heard.clear();
            }
            self.heard.insert(from, node);
        }
    }

    /// Where messages go; those to nobody that is known go nowhere.
    pub(crate) fn address(&self, messages: Vec<Message>) -> impl Iterator<Item = (NodeId, Envelope)> {
        let group = self.group;
        messages.into_iter().filter_map(move |message| {
            let node = self.node_of(message.to)?;
            Some((node, Envelope { group, said: Said::Raft(message) }))
        })
    }

    /// Tells those whose entry is applied what has become of it; `waited` hears how long each has waited. `term_of` knows the terms of entries.
    pub(crate) fn tell_applied(&mut self, now: Nanos, term_of: impl Fn(Index) -> Option<Term>, mut waited: impl FnMut(Nanos)) {
        while let Some(waiter) = self.waiters.pop_front_if(|waiter| waiter.index <= self.applied) {
            let outcome = if term_of(waiter.index) == Some(waiter.term) { Ok(()) } else { Err(Lost) };
            // Whoever asked may have gone.
            let _ = waiter.tell.send(outcome);
            waited(now.saturating_sub(waiter.began));
        }
    }

    /// One that no longer leads cannot say what becomes of its entries, unless it has handed over: then the new leader has them, and commits them. Whether it
    /// follows somebody else than before, or the same one in another term or elsewhere.
    pub(crate) fn note_role(&mut self) -> bool {
        let (led, leads) = (self.was_leader, self.is_leader());
        self.was_leader = leads;
        match (led, leads) {
            (true, false) if self.handing.is_some() => self.reads.clear(),
            (true, false) => self.lose_waiters(),
            // What is left over from another time as a leader is not in the order of what comes now.
            (false, true) => {
                self.lose_proposals();
                self.spared = Spared::default();
            }
            _ => {}
        }
        let follows = self.leader().map(|leader| (leader, self.term(), self.node_of(leader)));
        std::mem::replace(&mut self.followed, follows) != follows
    }

    pub(crate) fn lose_waiters(&mut self) {
        self.lose_proposals();
        // Whoever reads is told by their going.
        self.reads.clear();
    }

    fn lose_proposals(&mut self) {
        for waiter in self.waiters.drain(..) {
            let _ = waiter.tell.send(Err(Lost));
        }
    }
}

/// A number that looks like chance (the finalizer of splitmix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators").
fn scatter(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}
