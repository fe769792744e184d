//! What a node is asked to be, the same on all of its cores.

use millpond_log::LogConfig;
use std::{net::SocketAddr, path::PathBuf};

/// Least memory of a core, in bytes.
pub const MEMORY_PER_CORE_MIN: usize = 64 << 20;
/// Bytes of a fetch for which nobody says how many.
pub const FETCH_BYTES_DEFAULT: usize = 1 << 20;
/// Most bytes of one fetch, a single larger batch excepted.
pub const FETCH_BYTES_MAX: usize = 8 << 20;
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
    /// Settings of each journal home; ids, the home's number and its share of the memory are filled in.
    pub log: LogConfig,
    /// Memory of the node for tails, caches and requests under way, in bytes.
    pub memory_bytes: usize,
    /// Partitions of a topic for which nobody says how many.
    pub partitions_default: u32,
    /// Most connections per core.
    pub connections_max: usize,
}

/// How a core's memory is divided. All in bytes.
///
/// Half of the node's memory are tails; the rest serves requests, with a reserve for what is not counted (flushes, segments that
/// are read or compacted, tables).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Tail of each journal home.
    pub tail: usize,
    /// Buffers of frames that are arriving, per core. A connection's first 16 KiB are not counted.
    pub arriving: usize,
    /// Batches on their way to another core, per core.
    pub hopping: usize,
    /// Answers of fetches until they are sent, per core.
    pub leaving: usize,
}

impl NodeConfig {
    /// Divides the memory over `cores` cores with `homes` journals in all.
    #[must_use]
    pub fn memory_plan(&self, cores: usize, homes: usize) -> MemoryPlan {
        let (cores, homes) = (cores.max(1), homes.max(1));
        let memory = self.memory_bytes.max(MEMORY_PER_CORE_MIN * cores);
        MemoryPlan { tail: memory / 2 / homes, arriving: memory / 8 / cores, hopping: memory / 16 / cores, leaving: memory / 8 / cores }
    }

    /// Settings of one home's log.
    #[must_use]
    pub fn log_config(&self, home: u16, cores: usize, homes: usize) -> LogConfig {
        let tail = self.memory_plan(cores, homes).tail;
        let unsynced = self.log.unsynced_bytes_max.min(tail / 2);
        LogConfig {
            home,
            tail_bytes_max: tail,
            unsynced_bytes_max: unsynced,
            flush_bytes_max: self.log.flush_bytes_max.min(unsynced),
            settle_bytes: self.log.settle_bytes.min(tail / 4),
            ..self.log.clone()
        }
    }
}
