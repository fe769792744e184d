//! Reads by a lease: they ask nobody, and end before anybody else can lead.

#![expect(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use millpond_batch::Header;
use millpond_raft::{Driver, RaftConfig};
use millpond_runtime::{
    GroupId, NodeId, Rt, Share,
    sim::{FaultPlan, Sim, SimConfig, SimRt},
};
use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};
use support::{NODES, Setup, batch, id};

const GROUP: GroupId = GroupId(1);
/// Time between two looks.
const STEP: Duration = Duration::from_millis(5);

type Drivers = Rc<RefCell<BTreeMap<NodeId, Driver<SimRt>>>>;

struct Cluster {
    sim: Sim,
    drivers: Drivers,
    keep: Vec<NodeId>,
}

impl Cluster {
    /// Somebody leads; these nodes keep to leases. Clocks run wrong by up to 5 hundredths.
    fn new(seed: u64, keep: &[NodeId]) -> Self {
        let faults = FaultPlan { mono_drift: 0.05, ..FaultPlan::none() };
        let this = Self { sim: Sim::new(SimConfig { seed, faults }), drivers: Rc::default(), keep: keep.to_vec() };
        NODES.iter().for_each(|me| this.boot(*me));
        this.sim.run_for(Duration::from_secs(3)).unwrap();
        this
    }

    fn boot(&self, me: NodeId) {
        let keeps = self.keep.contains(&me).then_some(11);
        // Nothing rests: whoever is cut off is to miss the leader, and the others are not.
        let raft = RaftConfig { lease_drift_percent: keeps, quiet_ticks: usize::MAX, prompt_below: u64::MAX, ..RaftConfig::default() };
        let drivers = Rc::clone(&self.drivers);
        Setup { raft, ..Setup::default() }.boot(&self.sim, me, move |_, driver| drop(drivers.borrow_mut().insert(me, driver)));
    }

    /// All that say that they lead and may answer.
    fn leaders(&self) -> Vec<NodeId> {
        let drivers = self.drivers.borrow();
        drivers.iter().filter(|(_, driver)| driver.status(GROUP).is_some_and(|status| status.serves)).map(|(node, _)| *node).collect()
    }

    fn leader(&self) -> NodeId {
        *self.leaders().first().expect("somebody leads")
    }

    fn driver(&self, node: NodeId) -> Driver<SimRt> {
        self.drivers.borrow()[&node].clone()
    }

    /// Reads by asking, or by a lease; whether it is by a lease.
    fn reads(&self, node: NodeId) -> bool {
        let (driver, before) = (self.driver(node), self.driver(node).counters().lease_reads);
        let read = driver.clone();
        let answered = self.sim.block_on(node, |_| async move { read.read_index(GROUP).await }).unwrap();
        assert!(answered.is_ok(), "a read is answered");
        driver.counters().lease_reads > before
    }

    /// A leader that is cut off is asked, which only a lease answers, and a while passes. Whether somebody else leads then, which must not be while its lease
    /// holds.
    fn reads_by_lease_beside_another(&self, old: NodeId, seed: u64) -> bool {
        let driver = self.driver(old);
        let (leased, read) = (driver.counters().lease_reads, driver.clone());
        driver.rt().spawn("reads", Share::Serve, async move {
            let _ = read.read_index(GROUP).await;
        });
        let others = self.leaders().into_iter().any(|node| node != old);
        self.sim.run_for(STEP).unwrap();
        let by_lease = driver.counters().lease_reads > leased;
        assert!(!(by_lease && others), "seed {seed}: it reads by its lease though somebody else leads");
        others
    }
}

#[test]
fn a_read_that_asked_serves_those_that_follow() {
    let cluster = Cluster::new(1, &NODES);
    let leader = cluster.leader();
    assert!(!cluster.reads(leader), "the first one asks");
    let mut by_lease = 0;
    for _ in 0..50 {
        by_lease += u64::from(cluster.reads(leader));
        cluster.sim.run_for(STEP).unwrap();
    }
    assert_eq!(by_lease, 50, "for 250 ms none asks");
    cluster.sim.run_for(Duration::from_millis(100)).unwrap();
    assert!(!cluster.reads(leader), "after 311 ms one asks again");
    let follower = *NODES.iter().find(|node| **node != leader).unwrap();
    assert!(!cluster.reads(follower) && !cluster.reads(follower), "followers have none");
}

/// Followers tell readers of what they know to be committed, before the leader's own disk has it. Who asks the leader then, by its lease, is told of no less.
#[test]
fn a_lease_tells_of_all_that_followers_tell_of() {
    for seed in 0..8 {
        let cluster = Cluster::new(seed, &NODES);
        let leader = cluster.leader();
        cluster.reads(leader);
        cluster.sim.node(leader).disk().slow_down(100);
        let batch = batch(b"value");
        let header = Header::parse(&batch).unwrap();
        let _proposed = cluster.driver(leader).propose(GROUP, batch, &header).unwrap();
        let applied = |node: NodeId| cluster.driver(node).status(GROUP).unwrap().applied;
        let known = || NODES.into_iter().map(applied).max().unwrap();
        while known() <= applied(leader) {
            cluster.sim.run_for(Duration::from_micros(100)).unwrap();
        }
        let (known, driver, before) = (known(), cluster.driver(leader), cluster.driver(leader).counters().lease_reads);
        let read = driver.clone();
        let told = cluster.sim.block_on(leader, |_| async move { read.read_index(GROUP).await }).unwrap();
        assert!(told.unwrap() >= known, "seed {seed}: followers have applied {known}, and the leader tells {told:?}");
        assert!(driver.counters().lease_reads > before, "seed {seed}: it asked, which shows nothing");
    }
}

#[test]
fn there_are_no_leases_unless_all_keep_to_them() {
    for keep in [&NODES[..0], &NODES[..1], &NODES[1..]] {
        let cluster = Cluster::new(2, keep);
        let leader = cluster.leader();
        assert!((0..10).all(|_| !cluster.reads(leader)), "{keep:?}");
    }
}

/// The leader hears nobody any more, and is heard by nobody. Its clock may be the slowest, those of the others the fastest.
#[test]
fn a_lease_has_ended_when_somebody_else_leads() {
    let mut held = 0;
    for seed in 0..40 {
        let cluster = Cluster::new(seed, &NODES);
        let old = cluster.leader();
        cluster.reads(old);
        for other in NODES.into_iter().filter(|node| *node != old) {
            cluster.sim.cut(old, other);
            cluster.sim.cut(other, old);
        }
        let driver = cluster.driver(old);
        let before = driver.counters().lease_reads;
        for _ in 0..600 {
            if cluster.reads_by_lease_beside_another(old, seed) {
                break;
            }
        }
        held += driver.counters().lease_reads - before;
        assert!(cluster.leaders().iter().any(|node| *node != old), "seed {seed}: somebody else leads in the end");
    }
    assert!(held > 40 * 40, "leases held for a while: {held} looks in 40 runs");
}

#[test]
fn who_hands_over_has_no_lease_any_more() {
    let cluster = Cluster::new(3, &NODES);
    let from = cluster.leader();
    let to = *NODES.iter().find(|node| **node != from).unwrap();
    cluster.reads(from);
    assert!(cluster.reads(from), "it has one");
    // It has all of the log but hears of nothing.
    cluster.sim.cut(from, to);
    let driver = cluster.driver(from);
    assert!(driver.transfer(GROUP, id(GROUP, to)));
    cluster.sim.run_for(Duration::from_secs(2)).unwrap();
    assert!(!driver.hands_over(GROUP), "it came to nothing");
    if cluster.leader() == from {
        assert!((0..5).all(|_| !cluster.reads(from)), "somebody may still hear that it is to lead");
    }
}

/// One has been cut off for long, and asks for votes. The other starts again: it has forgotten whom it has heard, and the leader's lease by its last answer may
/// still hold.
#[test]
fn who_starts_again_does_not_vote_at_once() {
    for seed in 0..20 {
        let cluster = Cluster::new(seed, &NODES);
        let old = cluster.leader();
        let others: Vec<NodeId> = NODES.into_iter().filter(|node| *node != old).collect();
        let (lonely, young) = (others[0], others[1]);
        let cut = |other: NodeId| {
            cluster.sim.cut(old, other);
            cluster.sim.cut(other, old);
        };
        cut(lonely);
        cluster.sim.run_for(Duration::from_secs(2)).unwrap();
        cluster.reads(old);
        cut(young);
        cluster.sim.crash(young);
        cluster.drivers.borrow_mut().remove(&young);
        cluster.sim.restart(young);
        cluster.boot(young);
        for _ in 0..400 {
            // As a node does that would have a group led at once.
            cluster.driver(lonely).campaign(GROUP);
            if cluster.reads_by_lease_beside_another(old, seed) {
                break;
            }
        }
        assert!(cluster.leaders().iter().any(|node| *node != old), "seed {seed}: somebody else leads in the end");
    }
}
