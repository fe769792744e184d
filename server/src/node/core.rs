//! One core: what it owns and what it knows.

use super::{
    NodeConfig, Shared,
    budget::{Pool, Requests},
    cluster::Cluster,
    config::MemoryPlan,
    groups::Seat,
    hold::Holding,
    mesh::Call,
    partition::Partition,
    produce::Landing,
    shared::Identity,
};
use crate::{
    catalog::{Catalog, Home},
    metrics::CoreSnapshot,
    quota::Quotas,
};
use millpond_log::Log;
use millpond_raft::{Driver, RaftConfig};
use millpond_runtime::{CoreId, FxHashMap, GroupId, Offset, Rt, mailbox::Sender};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
};
use tokio::sync::Notify;

/// Where a partition lives, as the hot path needs it.
pub struct Place<R: Rt> {
    /// Its log.
    pub group: GroupId,
    /// The core that owns it.
    pub core: CoreId,
    /// Whether this node has it, or a replica of it.
    pub lives: bool,
    /// The partition itself, if that is this core.
    pub here: Option<Rc<Partition<R>>>,
}

/// A topic, as the hot path needs it.
pub struct Route<R: Rt> {
    /// Clients may read it, and nothing else.
    pub internal: bool,
    /// By number.
    pub places: Vec<Place<R>>,
}

/// See the module. All cells are borrowed for moments only, never across an await.
pub struct Core<R: Rt> {
    /// The door.
    pub rt: R,
    /// What was asked for at the start.
    pub config: Arc<NodeConfig>,
    /// What it tells others beside calls.
    pub shared: Arc<Shared>,
    /// Who the node is.
    pub identity: Identity,
    /// The journals that live here.
    pub logs: BTreeMap<Home, Log<R>>,
    /// What drives the replicas in each of them.
    pub drivers: BTreeMap<Home, Driver<R>>,
    /// What is known of other nodes.
    pub cluster: Cluster,
    /// The partitions that live here.
    pub partitions: RefCell<FxHashMap<GroupId, Rc<Partition<R>>>>,
    /// What all cores know.
    pub catalog: RefCell<Catalog>,
    /// The same, for looking up by name.
    pub routes: RefCell<BTreeMap<String, Rc<Route<R>>>>,
    /// Groups whose positions live here, by partition of `__consumer_offsets`.
    pub coordinators: RefCell<BTreeMap<u32, Rc<Seat>>>,
    /// The catalog has changed and the coordinators do not know.
    pub(super) coordinators_behind: Cell<bool>,
    /// Limits of clients.
    pub quotas: RefCell<Quotas>,
    /// What is counted here.
    pub counters: RefCell<CoreSnapshot>,
    /// How the core's memory is divided.
    pub plan: MemoryPlan,
    /// Memory for batches on their way to other cores.
    pub(super) hopping: Pool,
    /// Memory for answers of fetches that are not sent yet.
    pub leaving: Pool,
    /// Memory for requests that are carried out, and for their answers.
    pub requests: Requests,
    /// No more requests are taken.
    pub stopping: Cell<bool>,
    pub(super) landing: Landing,
    pub(super) holding: Holding,
    pub(super) mesh: Vec<Sender<Call<R>>>,
    pub(super) meta_turn: tokio::sync::Mutex<()>,
    /// Held while groups are read back.
    pub(super) seats_turn: tokio::sync::Mutex<()>,
    /// How far the catalog here follows its log; on core 0.
    pub(super) meta_next: Cell<Offset>,
    /// Whoever waits for that.
    pub(super) meta_followed: Notify,
    pub(super) producer_ids: RefCell<std::ops::Range<u64>>,
}

impl<R: Rt> Core<R> {
    /// A core that owns `logs` and knows nothing yet.
    #[must_use]
    pub fn new(
        rt: R,
        config: Arc<NodeConfig>,
        shared: Arc<Shared>,
        identity: Identity,
        logs: BTreeMap<Home, Log<R>>,
        mesh: Vec<Sender<Call<R>>>,
    ) -> Rc<Self> {
        let plan = config.memory_plan(mesh.len(), usize::from(identity.homes));
        let drive = |log: &Log<R>| Driver::start(rt.clone(), log.clone(), RaftConfig { seed: rt.rand(), ..config.raft.clone() });
        let drivers = logs.iter().map(|(home, log)| (*home, drive(log))).collect();
        let core = Rc::new(Self {
            drivers,
            cluster: Cluster::default(),
            counters: RefCell::new(CoreSnapshot::new(rt.core().0)),
            rt,
            shared,
            identity,
            logs,
            partitions: RefCell::default(),
            catalog: RefCell::new(Catalog::new()),
            routes: RefCell::default(),
            coordinators: RefCell::default(),
            coordinators_behind: Cell::new(false),
            quotas: RefCell::new(Quotas::new()),
            plan,
            hopping: Pool::new(plan.hopping),
            leaving: Pool::new(plan.leaving),
            requests: Requests::new(&plan),
            stopping: Cell::new(false),
            landing: Landing::default(),
            holding: Holding::default(),
            mesh,
            meta_turn: tokio::sync::Mutex::new(()),
            seats_turn: tokio::sync::Mutex::new(()),
            meta_next: Cell::new(Offset(0)),
            meta_followed: Notify::new(),
            producer_ids: RefCell::new(0..0),
            config,
        });
        for log in core.logs.values() {
            let weak = Rc::downgrade(&core);
            log.on_advance(move |advances| {
                let Some(core) = weak.upgrade() else { return };
                let partitions = core.partitions.borrow();
                advances.iter().filter_map(|a| partitions.get(&a.group)).for_each(|p| p.wake());
            });
        }
        core.watch_leaders();
        core
    }

    /// This core's number.
    #[must_use]
    pub fn id(&self) -> CoreId {
        self.rt.core()
    }

    /// How many cores there are.
    #[must_use]
    pub fn cores(&self) -> usize {
        self.mesh.len()
    }

    /// All cores.
    pub fn core_ids(&self) -> impl Iterator<Item = CoreId> + use<R> {
        (0..self.mesh.len()).map(|n| CoreId(n as u16))
    }

    /// Journal homes there are, on all cores.
    #[must_use]
    pub fn homes(&self) -> u16 {
        self.identity.homes
    }

    /// The core that owns a home.
    #[must_use]
    pub fn owner(&self, home: Home) -> CoreId {
        CoreId(home.0 % self.mesh.len() as u16)
    }

    /// The topic of this name.
    #[must_use]
    pub fn route(&self, topic: &str) -> Option<Rc<Route<R>>> {
        self.routes.borrow().get(topic).cloned()
    }

    /// A partition that lives here.
    #[must_use]
    pub fn partition(&self, group: GroupId) -> Option<Rc<Partition<R>>> {
        self.partitions.borrow().get(&group).cloned()
    }

    /// Calls of other cores that wait.
    #[must_use]
    pub fn mesh_depth(&self) -> usize {
        self.mesh[usize::from(self.id().0)].depth()
    }

    /// Memory of requests under way that is accounted for, in bytes: batches that hop, requests that are carried out, and answers
    /// that leave.
    #[must_use]
    pub fn request_bytes(&self) -> u64 {
        (self.hopping.used() + self.leaving.used() + self.requests.used()) as u64
    }

    /// Takes no more requests: whoever waits for records is answered with what there is.
    pub fn begin_stop(&self) {
        self.stopping.set(true);
        self.meta_followed.notify_waiters();
        self.partitions.borrow().values().for_each(|p| p.wake());
    }
}
