//! Snapshots where nothing else goes wrong: how a transfer goes on, and how many go side by side. What they must hold under all faults is in `cluster`.

#![expect(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use millpond_batch::Header;
use millpond_log::{GroupConfig, Log, LogConfig};
use millpond_raft::{Driver, RaftConfig};
use millpond_runtime::{
    GroupId, NodeId, Offset,
    sim::{FaultPlan, Sim, SimConfig, SimRt},
};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::Duration,
};
use support::{NODES, Setup, batch, id};

/// The one that was away.
const AWAY: NodeId = NodeId(3);

type Nodes = Rc<RefCell<BTreeMap<NodeId, (Log<SimRt>, Driver<SimRt>)>>>;

struct Cluster {
    sim: Sim,
    groups: u64,
    raft: RaftConfig,
    nodes: Nodes,
    installed: Rc<Cell<u64>>,
}

impl Cluster {
    fn new(seed: u64, groups: u64, raft: RaftConfig) -> Self {
        let sim = Sim::new(SimConfig { seed, faults: FaultPlan::none() });
        let this = Self { sim, groups, raft, nodes: Rc::default(), installed: Rc::default() };
        NODES.iter().for_each(|node| this.boot(*node));
        this.within(Duration::from_secs(10), "all groups are led", |this| this.leaders().len() as u64 == groups);
        this
    }

    fn groups(&self) -> impl Iterator<Item = GroupId> + use<> {
        (1..=self.groups).map(GroupId)
    }

    fn boot(&self, me: NodeId) {
        let defaults = Setup::default();
        let log = LogConfig { settle_bytes: 64 << 10, settle_run_bytes_max: 64 << 10, ..defaults.log };
        let group = GroupConfig { segment_bytes: 256 << 10, ..defaults.group };
        let (nodes, installed) = (Rc::clone(&self.nodes), Rc::clone(&self.installed));
        Setup { groups: self.groups, log, raft: self.raft.clone(), group }.boot(&self.sim, me, move |log, driver| {
            driver.on_installed(move |_, _| installed.set(installed.get() + 1));
            nodes.borrow_mut().insert(me, (log, driver));
        });
    }

    fn leaders(&self) -> BTreeMap<GroupId, NodeId> {
        let nodes = self.nodes.borrow();
        let led =
            |group: GroupId| nodes.iter().find(|(_, (_, driver))| driver.status(group).is_some_and(|s| s.leads)).map(|(node, _)| *node);
        self.groups().filter_map(|group| Some((group, led(group)?))).collect()
    }

    fn within(&self, how_long: Duration, what: &str, holds: impl Fn(&Self) -> bool) -> Duration {
        let step = Duration::from_millis(20);
        for n in 1..=(how_long.as_millis() / step.as_millis()) as u32 {
            self.sim.run_for(step).unwrap();
            if holds(self) {
                return step * n;
            }
        }
        let stands: Vec<_> = self
            .nodes
            .borrow()
            .values()
            .map(|(log, d)| (d.status(GroupId(1)), d.matched(GroupId(1)), log.state(GroupId(1)), d.counters()))
            .collect();
        panic!("not within {how_long:?}: {what}: {stands:#?}");
    }

    /// Each group takes so many batches of so many bytes while one node is away, and then all but the last go. What is left must be fetched as a snapshot.
    fn go_on_without(&self, batches: u64, bytes: usize, keep: u64) {
        self.sim.crash(AWAY);
        self.nodes.borrow_mut().remove(&AWAY);
        self.within(Duration::from_secs(5), "all groups are led", |this| this.leaders().len() as u64 == this.groups);
        for (group, node) in self.leaders() {
            let driver = self.nodes.borrow()[&node].1.clone();
            let write = async move {
                for n in 0..batches {
                    let noise: Vec<u8> = (0..bytes as u64)
                        .map(|at| {
                            ((at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ (n << 1)).rotate_left(23).wrapping_mul(0x94d0_49bb_1331_11eb)
                                >> 40) as u8
                        })
                        .collect();
                    let batch = batch(&noise);
                    let header = Header::parse(&batch).unwrap();
                    driver.propose(group, batch, &header).unwrap().committed().await.unwrap();
                }
            };
            self.sim.block_on(node, |_| write).unwrap();
        }
        // Followers hear what is committed.
        self.sim.run_for(Duration::from_secs(2)).unwrap();
        for (log, _) in self.nodes.borrow().values() {
            for group in self.groups() {
                log.trim(group, Offset(batches - keep)).unwrap();
                assert_eq!(log.state(group).unwrap().start_offset, Offset(batches - keep));
            }
        }
    }

    fn back(&self) {
        self.sim.restart(AWAY);
        self.boot(AWAY);
    }

    fn is_equal(&self) -> bool {
        let nodes = self.nodes.borrow();
        nodes.len() == NODES.len()
            && self.groups().all(|group| {
                let applied: Vec<_> = nodes.values().map(|(_, driver)| driver.status(group).map(|s| s.applied)).collect();
                applied[0].is_some() && applied.windows(2).all(|pair| pair[0] == pair[1])
            })
    }

    fn sum(&self, of: impl Fn(&millpond_raft::driver::Counters) -> u64) -> u64 {
        self.nodes.borrow().values().map(|(_, driver)| of(&driver.counters())).sum()
    }
}

/// About 4 MiB at 1 MiB a second.
fn slow() -> RaftConfig {
    RaftConfig { snapshot_piece_bytes: 32 << 10, snapshot_bytes_per_second: 1 << 20, ..RaftConfig::default() }
}

#[test]
fn a_transfer_takes_as_long_as_its_bytes_and_waits_for_a_connection() {
    let cluster = Cluster::new(1, 1, slow());
    cluster.go_on_without(80, 100_000, 40);
    cluster.back();
    cluster.within(Duration::from_secs(2), "it is offered", |this| this.sum(|c| c.snapshots_offered) > 0);
    cluster.sim.run_for(Duration::from_secs(1)).unwrap();
    assert_eq!(cluster.installed.get(), 0, "not so fast");
    let leader = cluster.leaders()[&GroupId(1)];
    cluster.sim.cut(leader, AWAY);
    cluster.sim.cut(AWAY, leader);
    cluster.sim.run_for(Duration::from_millis(300)).unwrap();
    cluster.sim.reset_conns(leader, AWAY);
    cluster.sim.heal_all();
    let took = cluster.within(Duration::from_secs(10), "all replicas are equal", Cluster::is_equal);
    let took = took + Duration::from_millis(1_300);
    let bytes = cluster.nodes.borrow()[&AWAY].0.state(GroupId(1)).unwrap().bytes;
    let least = Duration::from_secs_f64(bytes as f64 / (1 << 20) as f64);
    assert!(bytes > 1 << 20 && took > least, "faster than is configured: {bytes} bytes in {took:?}");
    assert!(took < least + Duration::from_secs(2), "it began anew: {bytes} bytes in {took:?}");
    let offered = cluster.sum(|c| c.snapshots_offered);
    let failed = cluster.sum(|c| c.snapshots_failed);
    assert_eq!((offered, cluster.installed.get(), failed), (1, 1, 0));
    assert!(cluster.sum(|c| c.snapshots_resumed) > 0);
}

#[test]
fn a_transfer_goes_on_when_its_sender_no_longer_leads() {
    let cluster = Cluster::new(2, 1, slow());
    cluster.go_on_without(80, 100_000, 40);
    cluster.back();
    cluster.within(Duration::from_secs(2), "it is offered", |this| this.sum(|c| c.snapshots_offered) > 0);
    cluster.sim.run_for(Duration::from_secs(1)).unwrap();
    let group = GroupId(1);
    let leader = cluster.leaders()[&group];
    let other = *NODES.iter().find(|node| **node != leader && **node != AWAY).unwrap();
    let driver = cluster.nodes.borrow()[&leader].1.clone();
    driver.transfer(group, id(group, other));
    cluster.within(Duration::from_secs(2), "another leads", |this| this.leaders().get(&group) == Some(&other));
    let took = cluster.within(Duration::from_secs(20), "all replicas are equal", Cluster::is_equal);
    assert_eq!(cluster.installed.get(), 1, "after {took:?}");
}

#[test]
fn many_groups_take_turns() {
    const GROUPS: u64 = 150;
    let cluster = Cluster::new(3, GROUPS, RaftConfig::default());
    cluster.go_on_without(6, 2_000, 2);
    cluster.back();
    let took = cluster.within(Duration::from_secs(60), "all replicas are equal", Cluster::is_equal);
    assert_eq!(cluster.installed.get(), GROUPS);
    println!("{GROUPS} snapshots took {took:?}, {} failed", cluster.sum(|c| c.snapshots_failed));
    assert!(took < Duration::from_secs(30), "{took:?}");
}
