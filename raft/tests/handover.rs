//! Leadership that is handed over under load: what was taken before is acknowledged by whoever took it, and the next leader is there at once.

#![expect(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use millpond_batch::Header;
use millpond_raft::Driver;
use millpond_runtime::{
    GroupId, NodeId,
    sim::{FaultPlan, Sim, SimConfig, SimRt},
};
use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};
use support::{NODES, Setup, batch, id};

const GROUP: GroupId = GroupId(1);
/// Well below the time in which a leader is missed.
const SOON: Duration = Duration::from_millis(100);

type Drivers = Rc<RefCell<BTreeMap<NodeId, Driver<SimRt>>>>;

struct Cluster {
    sim: Sim,
    drivers: Drivers,
}

impl Cluster {
    /// Somebody leads.
    fn new(seed: u64) -> Self {
        let this = Self { sim: Sim::new(SimConfig { seed, faults: FaultPlan::none() }), drivers: Rc::default() };
        for me in NODES {
            let drivers = Rc::clone(&this.drivers);
            Setup::default().boot(&this.sim, me, move |_, driver| drop(drivers.borrow_mut().insert(me, driver)));
        }
        this.sim.run_for(Duration::from_secs(3)).unwrap();
        this
    }

    fn leader(&self) -> NodeId {
        let drivers = self.drivers.borrow();
        *drivers.iter().find(|(_, driver)| driver.status(GROUP).is_some_and(|status| status.serves)).expect("somebody leads").0
    }

    fn driver(&self, node: NodeId) -> Driver<SimRt> {
        self.drivers.borrow()[&node].clone()
    }
}

fn propose(driver: &Driver<SimRt>) -> Result<millpond_raft::Proposed, millpond_raft::ProposeError> {
    let batch = batch(b"value");
    let header = Header::parse(&batch).unwrap();
    driver.propose(GROUP, batch, &header)
}

#[test]
fn what_was_taken_before_a_handover_is_acknowledged_after_it() {
    for seed in 0..30 {
        let cluster = Cluster::new(seed);
        for turn in 0..6 {
            let from = cluster.leader();
            let to = NODES.into_iter().cycle().skip_while(|node| *node != from).nth(1 + turn % 2).unwrap();
            let (driver, next) = (cluster.driver(from), cluster.driver(to));
            let handed = async move {
                let taken: Vec<_> = (0..5).map(|_| propose(&driver).unwrap()).collect();
                assert!(driver.transfer(GROUP, id(GROUP, to)) && driver.hands_over(GROUP), "seed {seed}");
                assert!(propose(&driver).is_err(), "it takes nothing more");
                for proposed in taken {
                    proposed.committed().await.unwrap_or_else(|lost| panic!("seed {seed}, turn {turn}: {lost}"));
                }
                driver
            };
            let driver = cluster.sim.block_on(from, |_| handed).unwrap();
            cluster.sim.run_for(SOON).unwrap();
            assert_eq!(cluster.leader(), to, "seed {seed}");
            assert!(!driver.hands_over(GROUP), "seed {seed}: it knows who leads");
            assert_eq!(driver.status(GROUP).unwrap().leader_node, Some(to), "seed {seed}");
            cluster.sim.block_on(to, |_| async move { propose(&next).unwrap().committed().await.unwrap() }).unwrap();
        }
    }
}

#[test]
fn a_handover_to_one_that_is_gone_comes_to_nothing() {
    let cluster = Cluster::new(1);
    let from = cluster.leader();
    let to = *NODES.iter().find(|node| **node != from).unwrap();
    let driver = cluster.driver(from);
    cluster.sim.crash(to);
    cluster.drivers.borrow_mut().remove(&to);
    assert!(driver.transfer(GROUP, id(GROUP, to)) && driver.hands_over(GROUP));
    cluster.sim.run_for(Duration::from_secs(1)).unwrap();
    assert!(!driver.hands_over(GROUP) && cluster.leader() == from, "it goes on leading");
    cluster.sim.block_on(from, |_| async move { propose(&driver).unwrap().committed().await.unwrap() }).unwrap();
}
