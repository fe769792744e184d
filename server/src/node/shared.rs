//! What the cores and the control thread tell each other beside calls: how far the node is, and what it counts.

use super::told::Told;
use crate::{catalog::Age, metrics::CoreSnapshot};
use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Who the node is, and how many journal homes it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: u64,
    /// The node.
    pub node_id: u64,
    /// Journal homes: directories `core-00` to `core-NN`.
    pub homes: u16,
}

impl Identity {
    /// The cluster, as people write it.
    #[must_use]
    pub fn cluster(&self) -> String {
        format!("{:016x}", self.cluster_id)
    }
}

/// How far the node is. Only ever goes forward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing is known yet.
    Begun,
    /// The data directory is ours: journals are being recovered.
    Recovering(Identity),
    /// Clients are served: the port of all cores together, and each core's own.
    Serving {
        /// Who we are.
        identity: Identity,
        /// The port of all cores.
        port: u16,
        /// Each core's own.
        ports: Arc<[u16]>,
    },
    /// On the way out: requests that were taken are answered, none are taken.
    Stopping,
}

impl Stage {
    /// Who the node is, where the stage says so.
    fn identity(&self) -> Option<Identity> {
        match self {
            Self::Recovering(identity) | Self::Serving { identity, .. } => Some(*identity),
            Self::Begun | Self::Stopping => None,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Begun => 0,
            Self::Recovering(_) => 1,
            Self::Serving { .. } => 2,
            Self::Stopping => 3,
        }
    }
}

/// Why a core could not serve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{doing}: {why}")]
pub struct StartFailed {
    /// What was being done.
    pub doing: String,
    /// What came of it.
    pub why: String,
    /// What to do about it.
    pub advice: String,
}

impl StartFailed {
    /// What was being done, what came of it, and what to do about it.
    pub fn new(doing: impl Into<String>, why: impl fmt::Display, advice: impl Into<String>) -> Self {
        Self { doing: doing.into(), why: why.to_string(), advice: advice.into() }
    }
}

/// Where a core listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    /// The port that it shares with all cores.
    pub all: u16,
    /// Its own.
    pub own: u16,
}

/// See the module. Locks are held for moments, about once a second; none lies on the road of a request.
#[derive(Debug)]
pub struct Shared {
    stage: Told<Stage>,
    /// Known from the first stage on that says it, to the end.
    identity: OnceLock<Identity>,
    drained: Told<usize>,
    doors: Told<Vec<Option<Door>>>,
    snapshots: Mutex<Vec<CoreSnapshot>>,
    learning: AtomicBool,
    /// How far the disk has come.
    age: AtomicU64,
    /// A number that looks like chance.
    start: AtomicU64,
}

impl Default for Shared {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    /// A node that has just begun.
    #[must_use]
    pub fn new() -> Self {
        Self {
            stage: Told::new(Stage::Begun),
            identity: OnceLock::new(),
            drained: Told::default(),
            doors: Told::default(),
            snapshots: Mutex::default(),
            learning: AtomicBool::new(false),
            age: AtomicU64::new(0),
            start: AtomicU64::new(0),
        }
    }

    /// How far the node is.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage.look(Stage::clone)
    }

    /// Who the node is, once that is known.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        self.identity.get().copied()
    }

    /// Goes on to `next`, unless the node is further already.
    pub fn advance(&self, next: Stage) {
        if let Some(identity) = next.identity() {
            // The stages of a node all say the same.
            let _ = self.identity.set(identity);
        }
        self.stage.change(|now| {
            let forward = next.rank() > now.rank();
            if forward {
                *now = next;
            }
            forward
        });
    }

    /// Asks all cores to stop.
    pub fn stop(&self) {
        self.advance(Stage::Stopping);
    }

    /// Whether the node is on its way out.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stage.look(|stage| matches!(stage, Stage::Stopping))
    }

    /// Waits until the stage is one that `enough` accepts, and returns it.
    pub async fn reached(&self, mut enough: impl FnMut(&Stage) -> bool) -> Stage {
        self.stage.wait_for(|stage| enough(stage).then(|| stage.clone())).await
    }

    /// What comes of `work`; nothing if the node is asked to stop before, whereupon it is given up.
    pub async fn unless_stopping<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let stopping = async {
            self.reached(|stage| *stage == Stage::Stopping).await;
            None
        };
        futures_lite::future::or(async { Some(work.await) }, stopping).await
    }

    /// Core `core` of `cores` listens.
    pub fn door_open(&self, cores: usize, core: u16, all: u16, own: u16) {
        self.doors.change(|doors| {
            doors.resize(cores.max(doors.len()), None);
            if let Some(door) = doors.get_mut(usize::from(core)) {
                *door = Some(Door { all, own });
            }
            true
        });
    }

    /// Waits until `enough` finds in the doors of all cores (none is known before the first opens) what it looks for. Nothing, if
    /// the node is asked to stop before.
    pub async fn doors_of<T>(&self, mut enough: impl FnMut(&[Option<Door>]) -> Option<T>) -> Option<T> {
        self.unless_stopping(self.doors.wait_for(|doors| if doors.is_empty() { None } else { enough(doors) })).await
    }

    /// This node does not know what its cluster knows, or knows it from here on.
    pub fn set_learning(&self, learning: bool) {
        self.learning.store(learning, Ordering::Relaxed);
    }

    /// Whether this node does not know what its cluster knows: clients are told to come later.
    #[must_use]
    pub fn is_learning(&self) -> bool {
        self.learning.load(Ordering::Relaxed)
    }

    /// The disk has come so far.
    pub fn set_age(&self, age: Age) {
        self.start.store(age.start, Ordering::Relaxed);
        self.age.store(age.count, Ordering::Relaxed);
    }

    /// How far the disk has come.
    #[must_use]
    pub fn age(&self) -> Age {
        Age { count: self.age.load(Ordering::Relaxed), start: self.start.load(Ordering::Relaxed) }
    }

    /// One more core has no request under way.
    pub fn core_drained(&self) {
        self.drained.change(|n| {
            *n += 1;
            true
        });
    }

    /// Waits until `cores` cores have no request under way.
    pub async fn all_drained(&self, cores: usize) {
        self.drained.wait_for(|n| (*n >= cores).then_some(())).await;
    }

    fn table(&self) -> MutexGuard<'_, Vec<CoreSnapshot>> {
        self.snapshots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a core's newest counts.
    pub fn report(&self, snapshot: CoreSnapshot) {
        let mut table = self.table();
        table.retain(|s| s.core != snapshot.core);
        table.push(snapshot);
        table.sort_by_key(|s| s.core);
    }

    /// The newest counts of each core.
    #[must_use]
    pub fn snapshots(&self) -> Vec<CoreSnapshot> {
        self.table().clone()
    }
}
