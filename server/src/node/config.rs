//! What a node is asked to be, the same on all of its cores.

use crate::security::{PrincipalRules, Strangers};
use millpond_log::LogConfig;
use millpond_raft::RaftConfig;
use millpond_runtime::{limits::FRAME_BYTES_MAX, sys, tls::SESSION_BYTES};
use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

/// Least memory of a core, in bytes.
pub const MEMORY_PER_CORE_MIN: usize = 64 << 20;
/// Bytes of a fetch for which nobody says how many.
pub const FETCH_BYTES_DEFAULT: usize = 1 << 20;
/// Most bytes of one fetch, a single larger batch excepted.
pub const FETCH_BYTES_MAX: usize = 8 << 20;
/// Segments of all homes may be this part of the files that the process may have open...
const OPEN_SEGMENTS_PART: u64 = 4;
/// ...but no more than so many in one home: where each of a thousand partitions is written to, none is to be opened for each write.
const OPEN_SEGMENTS_MAX: u64 = 4096;
/// Longest wait of a fetch, in ms.
pub const FETCH_WAIT_MS_MAX: u32 = 60_000;

/// See the module.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The data directory.
    pub data: PathBuf,
    /// Where all cores listen together. With port 0 the system picks all ports, else core N also listens on the port
    /// 1 + N above.
    pub listen: SocketAddr,
    /// The host that clients are told to connect to.
    pub advertise: String,
    /// Settings of each journal home; ids, the home's number and its share of memory and open files are filled in.
    pub log: LogConfig,
    /// How replicas behave.
    pub raft: RaftConfig,
    /// Where other nodes find this one, on its ports.
    pub ip: IpAddr,
    /// Connections speak TLS, and only who shows a certificate of the authority of the nodes is taken for a node.
    pub tls: bool,
    /// Clients are to show who they are before anything else, by SASL; nodes, by their certificates.
    pub authenticate: bool,
    /// What is told to clients that say they are users that there are not.
    pub strangers: Strangers,
    /// Where it stands: replicas of a partition are spread over racks. Empty for nowhere in particular.
    pub rack: String,
    /// Nodes of the cluster that it is to be a part of, to begin with. None for one that founds a cluster, or knows its cluster already.
    pub join: Vec<SocketAddr>,
    /// The node whose place it is to take when it joins.
    pub replace: Option<u64>,
    /// Memory of the node for tails, caches and requests under way, in bytes.
    pub memory_bytes: usize,
    /// Partitions of a topic for which nobody says how many.
    pub partitions_default: u32,
    /// Most connections per core.
    pub connections_max: usize,
    /// Who may do what.
    pub security: Security,
}

/// Whether it matters who asks. By default it does not: everybody may do everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// Principals may do what ACLs let them, and nothing else.
    pub authorize: bool,
    /// Principals that may do everything: `User:` and a name each.
    pub super_users: Vec<String>,
    /// Which user a client's certificate stands for.
    pub principals: PrincipalRules,
}

/// How a core's memory is divided, all in bytes and for one core (but for the tail, of which each journal home has one).
///
/// Every part has its owner, who counts what it takes and says what happens at the edge. What is left, five thirty-seconds, is a
/// reserve for what nobody counts: flushes, segments that are read or compacted, tables, and the allocator's own waste.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Tail of each journal home: without room in it producers wait.
    pub tail: usize,
    /// Connections, [`NodeConfig::connection_bytes`] each: past it new ones are refused.
    pub connections: usize,
    /// Buffers of frames that are arriving, but for the first bytes of each (`front::intake`): past it a frame waits.
    pub arriving: usize,
    /// Batches on their way to another core: past it producers wait.
    pub hopping: usize,
    /// Answers of fetches until they are sent: past it fetches wait.
    pub leaving: usize,
    /// Requests that are carried out, and their answers until they are sent: past it requests wait for their turn.
    pub requests: usize,
    /// Fetches that wait for records: past it one looks again and again instead of waiting.
    pub waits: usize,
    /// Requests that wait for their turn behind others of their connection: past it nothing more is read from it.
    pub queued: usize,
    /// Members and positions of consumer groups: past it new ones are refused.
    pub groups: usize,
    /// What clients of Kafka read in sessions: past it they say all with each fetch.
    pub sessions: usize,
}

/// What a connection takes without anything under way, in bytes: its two tasks, its socket, and what of its receive buffer is
/// not charged.
pub const CONNECTION_BYTES: usize = 8 * 1024;

impl MemoryPlan {
    /// All that is handed out, the tails of `homes` homes included.
    #[must_use]
    pub fn total(&self, homes: usize) -> usize {
        let Self { tail, connections, arriving, hopping, leaving, requests, waits, queued, groups, sessions } = *self;
        tail * homes + connections + arriving + hopping + leaving + requests + waits + queued + groups + sessions
    }

    /// The longest frame that is taken, its length not counted: half of the memory for arriving frames is kept for one frame that
    /// goes past the other half.
    #[must_use]
    pub fn frame_bytes_max(&self) -> usize {
        FRAME_BYTES_MAX.min(self.arriving / 2)
    }

    /// Most bytes of one answer of a fetch, a single larger batch excepted: several must have room beside each other.
    #[must_use]
    pub fn fetch_bytes_max(&self) -> usize {
        FETCH_BYTES_MAX.min(self.leaving / 8)
    }
}

impl NodeConfig {
    /// Divides the memory over `cores` cores with `homes` journals in all.
    #[must_use]
    pub fn memory_plan(&self, cores: usize, homes: usize) -> MemoryPlan {
        let (cores, homes) = (cores.max(1), homes.max(1));
        let memory = self.memory_bytes.max(MEMORY_PER_CORE_MIN * cores);
        let core = memory / cores;
        MemoryPlan {
            tail: memory / 4 / homes,
            connections: core / 8,
            arriving: core / 8,
            leaving: core / 8,
            hopping: core / 16,
            requests: core / 16,
            waits: core / 32,
            queued: core / 32,
            groups: core / 32,
            sessions: core / 64,
        }
    }

    /// What a connection takes of the memory for connections, in bytes.
    #[must_use]
    pub fn connection_bytes(&self) -> usize {
        CONNECTION_BYTES + if self.tls { SESSION_BYTES } else { 0 }
    }

    /// Settings of one home's log.
    #[must_use]
    pub fn log_config(&self, home: u16, cores: usize, homes: usize) -> LogConfig {
        let tail = self.memory_plan(cores, homes).tail;
        // They are in the tail and once more in the flush that takes them.
        let unsynced = self.log.unsynced_bytes_max.min(tail / 8);
        let open = (sys::open_files().soft / OPEN_SEGMENTS_PART / homes.max(1) as u64).min(OPEN_SEGMENTS_MAX);
        LogConfig {
            home,
            tail_bytes_max: tail,
            unsynced_bytes_max: unsynced,
            flush_bytes_max: self.log.flush_bytes_max.min(unsynced),
            settle_bytes: self.log.settle_bytes.min(tail / 4),
            open_segments_max: self.log.open_segments_max.max(open as usize),
            ..self.log.clone()
        }
    }
}

#[cfg(test)]
mod tests;
