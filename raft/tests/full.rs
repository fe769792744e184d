//! A leader that has no room says why.

#![expect(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use millpond_batch::Header;
use millpond_log::LogConfig;
use millpond_raft::{Driver, ProposeError};
use millpond_runtime::{
    GroupId,
    sim::{FaultPlan, Sim, SimConfig, SimRt},
};
use std::{cell::RefCell, rc::Rc, time::Duration};
use support::{NODES, Setup, batch};

#[test]
fn a_leader_whose_disk_is_full_says_so() {
    let sim = Sim::new(SimConfig { seed: 1, faults: FaultPlan::none() });
    // So much is never free.
    let setup = Setup { log: LogConfig { disk_reserve_bytes: 1 << 60, ..LogConfig::default() }, ..Setup::default() };
    let drivers: Rc<RefCell<Vec<Driver<SimRt>>>> = Rc::default();
    for node in NODES {
        let drivers = Rc::clone(&drivers);
        setup.boot(&sim, node, move |_, driver| drivers.borrow_mut().push(driver));
    }
    sim.run_for(Duration::from_secs(3)).unwrap();
    let leader = drivers.borrow().iter().find(|driver| driver.status(GroupId(1)).unwrap().leads).unwrap().clone();
    let batch = batch(b"value");
    let header = Header::parse(&batch).unwrap();
    let refused = leader.propose(GroupId(1), batch, &header).unwrap_err();
    assert!(matches!(&refused, ProposeError::Log(error) if error.is_disk_full()), "{refused:?}: {refused}");
}
