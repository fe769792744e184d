//! Which nodes are heard from. Groups that rest rely on it: while the node of their leader lives, and is in the same life, their leader does.

use super::{Driver, Replicas};
use millpond_runtime::{NodeId, Rt};
use std::collections::BTreeMap;

/// After the end of its leader's node the first replica asks for votes so many ticks later: the others should have noticed by then.
const HURRY_TICKS: usize = 2;
/// And each further one so many ticks after the one before it.
const TURN_TICKS: usize = 4;

/// What is known of another node.
struct Peer {
    life: u64,
    /// When it was heard from last, in ticks.
    heard: u64,
    silent: bool,
}

/// How it stands with another node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerStatus {
    /// Whether it was heard from lately.
    pub heard: bool,
    /// Whether there is a connection to it.
    pub connected: bool,
    /// Messages that wait to be sent to it.
    pub waiting_messages: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
}

/// See the module.
pub(super) struct Peers {
    silent_ticks: u64,
    ticks: u64,
    known: BTreeMap<NodeId, Peer>,
}

impl Peers {
    /// A node that is not heard from for more than so many ticks is silent.
    pub(super) fn new(silent_ticks: u64) -> Self {
        Self { silent_ticks, ticks: 0, known: BTreeMap::new() }
    }

    /// A frame has come. What was known of the node before.
    fn hear(&mut self, node: NodeId, life: u64) -> Option<Peer> {
        self.known.insert(node, Peer { life, heard: self.ticks, silent: false })
    }

    /// The last life that a node was heard from in.
    pub(super) fn life_of(&self, node: NodeId) -> Option<u64> {
        self.known.get(&node).map(|peer| peer.life)
    }

    /// A node has ended. Whether that is new.
    fn end(&mut self, node: NodeId) -> bool {
        self.known.get_mut(&node).is_some_and(|peer| !std::mem::replace(&mut peer.silent, true))
    }

    /// A tick has passed. The nodes that are silent from here on.
    fn tick(&mut self) -> Vec<NodeId> {
        self.ticks += 1;
        let mut silent = Vec::new();
        for (node, peer) in &mut self.known {
            if !peer.silent && self.ticks - peer.heard > self.silent_ticks {
                peer.silent = true;
                silent.push(*node);
            }
        }
        silent
    }
}

impl<R: Rt> Driver<R> {
    /// Which life this is.
    pub(crate) fn life(&self) -> u64 {
        self.0.life.get()
    }

    /// Whether a node was heard from lately.
    #[must_use]
    pub fn hears(&self, node: NodeId) -> bool {
        self.0.peers.borrow().known.get(&node).is_some_and(|peer| !peer.silent)
    }

    /// How it stands with another node.
    #[must_use]
    pub fn peer(&self, node: NodeId) -> PeerStatus {
        let queues = self.0.queues.borrow();
        let queue = queues.get(&node);
        let (messages, bytes) = queue.map_or((0, 0), |queue| queue.waiting());
        PeerStatus {
            heard: self.hears(node),
            connected: queue.is_some_and(|queue| queue.is_connected()),
            waiting_messages: messages as u64,
            waiting_bytes: bytes as u64,
        }
    }

    /// A leader here no longer does what others count on while they rest: they are to look for themselves. The other leaders, which are not among `replicas` any
    /// more if they are gone, say at once that they are there, before anybody misses them.
    pub(super) fn begin_life(&self, replicas: &mut Replicas<R>) {
        self.0.life.set(Self::new_life(&self.0.rt, self.keeps_leases()));
        replicas.values_mut().filter(|replica| replica.is_leader()).for_each(|replica| replica.wake());
    }

    /// A node has sent something.
    pub(super) fn hear_of(&self, node: NodeId, life: u64) {
        let before = self.0.peers.borrow_mut().hear(node, life);
        if before.as_ref().is_none_or(|before| before.silent) {
            tracing::info!(node = node.0, again = before.is_some(), "a node is heard from");
        }
        if before.is_some_and(|before| before.life != life) {
            self.wake_followers_of(node);
        }
    }

    /// A tick has passed.
    pub(super) fn miss_peers(&self) {
        let silent = self.0.peers.borrow_mut().tick();
        for node in silent {
            tracing::warn!(node = node.0, "a node is silent");
            self.wake_followers_of(node);
        }
    }

    /// Nobody listens where a node was: its process has ended. Those who follow a leader there need not wait as long as for one that is only silent: from
    /// now on they vote for others, and ask for votes themselves one after the other, so that nobody is in another's way.
    pub(crate) fn nobody_there(&self, node: NodeId) {
        if !self.0.peers.borrow_mut().end(node) {
            return;
        }
        tracing::warn!(node = node.0, "a node has ended");
        self.wake_followers_of(node);
        if self.keeps_leases() {
            // Whoever has heard from a leader is not to vote before its time, whatever there is to be seen of it.
            return;
        }
        for replica in self.0.replicas.borrow_mut().values_mut() {
            let there = replica.leader().and_then(|leader| replica.members.nodes.get(&leader)) == Some(&node);
            if there {
                replica.hurry(HURRY_TICKS, TURN_TICKS);
            }
        }
    }

    /// Has those that rest, and whose leader is on that node, look whether it leads.
    fn wake_followers_of(&self, node: NodeId) {
        let mut woken = 0;
        for replica in self.0.replicas.borrow_mut().values_mut() {
            let there = replica.leader().and_then(|leader| replica.members.nodes.get(&leader)) == Some(&node);
            if replica.quiet && there {
                replica.wake();
                woken += 1;
            }
        }
        self.count(|c| c.woken += woken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_silent_once_until_it_is_heard_again() {
        let mut peers = Peers::new(2);
        let hear = |peers: &mut Peers, life| peers.hear(NodeId(1), life).map(|before| (before.life, before.silent));
        assert_eq!(hear(&mut peers, 7), None, "it was not known");
        let missed: Vec<usize> = (0..5).map(|_| peers.tick().len()).collect();
        assert_eq!(missed, [0, 0, 1, 0, 0]);
        assert_eq!((hear(&mut peers, 7), hear(&mut peers, 8)), (Some((7, true)), Some((7, false))));
        let missed: Vec<usize> = (0..5).map(|_| peers.tick().len()).collect();
        assert_eq!(missed, [0, 0, 1, 0, 0]);
        assert_eq!(hear(&mut peers, 8), Some((8, true)));
        assert!(peers.end(NodeId(1)) && !peers.end(NodeId(1)) && !peers.end(NodeId(2)));
        assert_eq!(peers.tick().len(), 0, "it is known to have ended");
    }
}
