//! A node of one core on the simulator, as it starts in production, and what must be true of it.

use millpond::{
    boot::{self, Begun, Start},
    node::{NodeConfig, Shared, config::Security, mesh},
};
use millpond_log::LogConfig;
use millpond_runtime::{
    CoreId, NodeId,
    mailbox::mailbox,
    sim::{Sim, SimRt},
};
use std::{
    cell::RefCell,
    future::{Future, pending},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

const SERVER: NodeId = NodeId(1);
const CLIENT: NodeId = NodeId(2);
const PORT: u16 = 7400;
/// A core takes no less for its budget.
const MEMORY_BYTES: usize = 64 << 20;
/// What a partition takes that no budget counts, and what the simulated disk keeps of it, in bytes.
const PARTITION_BYTES: usize = 16 << 10;
/// All that was begun has ended after this time: whoever joins a group may wait for half an hour.
const QUIET_WITHIN: Duration = Duration::from_secs(2 * 3600);

fn config() -> NodeConfig {
    NodeConfig {
        data: PathBuf::from("/data"),
        listen: SocketAddr::from(([0, 0, 0, 0], PORT)),
        advertise: "localhost".into(),
        log: LogConfig {
            journal_file_bytes: 1 << 20,
            journal_files_max: 4,
            flush_bytes_max: 1 << 16,
            disk_reserve_bytes: 0,
            ..LogConfig::default()
        },
        raft: millpond_raft::RaftConfig::default(),
        ip: IpAddr::from([10, 0, 0, 1]),
        tls: false,
        authenticate: false,
        strangers: millpond::security::Strangers::new(&[0; 32]),
        rack: String::new(),
        join: Vec::new(),
        replace: None,
        memory_bytes: MEMORY_BYTES,
        partitions_default: 1,
        connections_max: 10,
        security: Security::default(),
    }
}

/// See the module.
pub struct Node {
    sim: Sim,
    begun: Rc<RefCell<Option<Begun<SimRt>>>>,
}

impl Node {
    /// One that serves.
    pub fn start() -> Self {
        let (sim, begun) = (Sim::new(1), Rc::new(RefCell::new(None)));
        let here = Rc::clone(&begun);
        sim.node(SERVER).start(CoreId(0), move |rt| async move {
            let (calls, called) = mailbox(mesh::DEPTH);
            let start =
                Start { config: Arc::new(config()), shared: Arc::new(Shared::new()), calls: called, mesh: vec![calls], busy: |_| 0 };
            let started = boot::begin(rt, start).await.expect("a first start");
            *here.borrow_mut() = Some(started.expect("nobody stops it"));
            pending().await
        });
        sim.run_until(|| begun.borrow().is_some(), Duration::from_secs(60)).expect("it starts");
        Self { sim, begun }
    }

    /// Runs clients to their end.
    pub fn run<F: Future<Output = ()> + 'static>(&self, clients: impl FnOnce(SimRt, SocketAddr) -> F) {
        let at = self.sim.node(SERVER).addr(PORT);
        self.sim.block_on(CLIENT, |rt| clients(rt, at)).expect("clients come to their end");
        assert!(self.sim.node(SERVER).is_up(), "the node went down: {:?}", self.sim.halted(SERVER));
    }

    /// Nobody is connected, and nothing is held for anybody.
    pub fn check_quiet(&self) {
        let is = || self.begun.borrow().as_ref().map(|begun| (begun.front.connections(), begun.front.held()));
        let quiet = self.sim.run_until(|| is() == Some((0, 0)), QUIET_WITHIN);
        quiet.unwrap_or_else(|stopped| panic!("connections and bytes that are left: {:?}, {stopped}", is()));
    }

    /// What was taken at the most, in bytes, is within the budget.
    pub fn check_memory(&self, peak: usize) {
        let partitions = self.begun.borrow().as_ref().map_or(0, |begun| begun.core.catalog.borrow().partitions());
        assert!(peak <= MEMORY_BYTES + partitions * PARTITION_BYTES, "{peak} bytes were taken, with {partitions} partitions");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It keeps the simulation that it is a part of.
        self.begun.borrow_mut().take();
    }
}
