//! Replicas that lag where nothing else goes wrong: what they lack is sent no faster than is configured, though all of it is in memory. What they must hold under
//! all faults is in `cluster`.

#![expect(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use millpond_batch::Header;
use millpond_log::{Log, LogConfig};
use millpond_raft::{Counters, Driver, RaftConfig};
use millpond_runtime::{
    GroupId, NodeId, Rt,
    sim::{FaultPlan, Sim, SimConfig, SimRt},
};
use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};
use support::{NODES, Setup, batch};

const GROUP: GroupId = GroupId(1);
const BATCH_BYTES: usize = 64 << 10;

type Nodes = Rc<RefCell<BTreeMap<NodeId, (Log<SimRt>, Driver<SimRt>)>>>;

struct Cluster {
    sim: Sim,
    setup: Setup,
    nodes: Nodes,
}

impl Cluster {
    fn new(seed: u64) -> Self {
        Self::with(seed, RaftConfig::default())
    }

    fn with(seed: u64, raft: RaftConfig) -> Self {
        Self::of(seed, Setup { raft, ..Setup::default() })
    }

    fn of(seed: u64, setup: Setup) -> Self {
        let sim = Sim::new(SimConfig { seed, faults: FaultPlan::none() });
        let this = Self { sim, setup, nodes: Rc::default() };
        NODES.iter().for_each(|node| this.boot(*node));
        this.sim.run_for(Duration::from_secs(2)).unwrap();
        this
    }

    fn boot(&self, me: NodeId) {
        let nodes = Rc::clone(&self.nodes);
        self.setup.boot(&self.sim, me, move |log, driver| drop(nodes.borrow_mut().insert(me, (log, driver))));
    }

    fn leader(&self) -> NodeId {
        let nodes = self.nodes.borrow();
        nodes.iter().find(|(_, (_, driver))| driver.status(GROUP).is_some_and(|s| s.leads)).map(|(node, _)| *node).unwrap()
    }

    /// Writes so many bytes, batch by batch, a few milliseconds apart.
    fn write(&self, leader: NodeId, bytes: usize) {
        let driver = self.nodes.borrow()[&leader].1.clone();
        let write = |rt: SimRt| async move {
            for _ in 0..bytes / BATCH_BYTES {
                let batch = batch(&[7; BATCH_BYTES - 200]);
                let header = Header::parse(&batch).unwrap();
                driver.propose(GROUP, batch, &header).unwrap().committed().await.unwrap();
                rt.sleep(Duration::from_millis(4)).await;
            }
        };
        self.sim.block_on(leader, write).unwrap();
    }

    /// Writes so many bytes while a follower is away, and `more` once it is back, and says how long it takes from then on to have them.
    fn catches_up(&self, bytes: usize, more: usize) -> Duration {
        let leader = self.leader();
        let away = NODES.into_iter().find(|node| *node != leader).unwrap();
        self.sim.crash(away);
        self.nodes.borrow_mut().remove(&away);
        self.write(leader, bytes);
        let log = self.nodes.borrow()[&leader].0.clone();
        assert_eq!(log.first_in_memory(GROUP).unwrap().0, 1, "all of it is in memory");
        self.sim.restart(away);
        self.boot(away);
        self.write(leader, more);
        let step = Duration::from_millis(10);
        let (end, _) = log.end_of(GROUP).unwrap();
        let has = || self.nodes.borrow().get(&away).and_then(|(log, _)| log.end_of(GROUP)).is_some_and(|(last, _)| last >= end);
        let mut took = Duration::ZERO;
        while !has() {
            assert!(took < Duration::from_secs(20), "it never has all");
            self.sim.run_for(step).unwrap();
            took += step;
        }
        took
    }
}

#[test]
fn what_is_in_memory_is_sent_no_faster_than_is_configured() {
    let bytes = 16 << 20;
    let cluster = Cluster::new(1);
    let rate = cluster.setup.raft.lag_bytes_per_second;
    let took = cluster.catches_up(bytes, 0);
    assert!(took.as_secs_f64() > bytes as f64 / rate as f64, "{bytes} bytes in {took:?}");
    assert!(took.as_secs_f64() < 4.0 * bytes as f64 / rate as f64, "{bytes} bytes in {took:?}");
}

#[test]
fn who_lacks_less_than_a_piece_has_it_at_once() {
    let took = Cluster::new(2).catches_up(3 * BATCH_BYTES, 0);
    assert!(took < Duration::from_millis(300), "{took:?}");
}

#[test]
fn what_was_not_held_back_is_no_debt() {
    let rate = 1 << 20;
    let cluster = Cluster::with(3, RaftConfig { lag_bytes_per_second: rate, ..RaftConfig::default() });
    // More is written than it would be sent: it is not held back, and lacks little when that ends.
    let took = cluster.catches_up(2 << 20, 64 << 20);
    assert!(took < Duration::from_secs(6), "{took:?}");
}

/// What comes in one message may be more than the log has room for at the time.
#[test]
fn a_follower_takes_of_a_message_what_there_is_room_for() {
    let setup = Setup::default();
    let log = LogConfig { flush_bytes_max: 256 << 10, unsynced_bytes_max: 512 << 10, ..setup.log.clone() };
    let raft = RaftConfig { lag_bytes_per_second: 256 << 20, ..RaftConfig::default() };
    assert!(raft.message_bytes_max > log.unsynced_bytes_max);
    let cluster = Cluster::of(4, Setup { log, raft, ..setup });
    let took = cluster.catches_up(8 << 20, 0);
    let counters: Vec<Counters> = cluster.nodes.borrow().values().map(|(_, driver)| driver.counters()).collect();
    assert!(counters.iter().all(|c| c.begun_anew == 0), "a replica began anew, though waiting would have done");
    assert!(counters.iter().any(|c| c.refused > 0), "or this test shows nothing");
    assert!(took < Duration::from_secs(2), "{took:?}");
}
