//! A core's part in a cluster: its replicas, what they have done, and the other nodes as it sees them.

use millpond_raft::{Census, Counters};

/// Most nodes that one core tells about one by one.
pub const PEERS_MAX: usize = 256;

/// See the module. What is counted group by group is as it was some seconds ago.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterSnapshot {
    /// The node does not know yet what its cluster knows.
    pub learning: bool,
    /// Its replicas, counted.
    pub census: Census,
    /// Partitions of all topics, wherever they live; told by core 0 alone.
    pub known: u64,
    /// Partitions that it answers for, be it that it leads their replicas or that they have no others.
    pub led: u64,
    /// Of those, partitions of which a replica is missing, silent or far behind.
    pub under_replicated: u64,
    /// What its replicas have done.
    pub counters: Counters,
    /// The other nodes, at most [`PEERS_MAX`].
    pub peers: Vec<PeerSnapshot>,
    /// Topics with partitions that it answers for, at most [`super::TOPICS_MAX`]: they are among [`super::CoreSnapshot::topics`].
    pub topics: Vec<LedSnapshot>,
}

/// Another node, as a core sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PeerSnapshot {
    /// The node.
    pub node: u64,
    /// Whether all homes of the core have heard from it lately.
    pub heard: bool,
    /// Connections to it, for replication and for questions.
    pub connections: u64,
    /// Messages of replicas that wait to be sent to it.
    pub waiting_messages: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
}

/// A topic's partitions that one core answers for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LedSnapshot {
    /// The topic.
    pub topic: String,
    /// Its partitions that are answered for here.
    pub led: u64,
    /// Of those, partitions of which a replica is missing, silent or far behind.
    pub under_replicated: u64,
    /// Entries that the slowest of all their replicas lacks.
    pub lag_entries_max: u64,
}
