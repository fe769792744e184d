//! A cluster in the simulator, and what a step of a schedule does to it.

use crate::{
    book::Book,
    node::{PORT, Place, live},
    schedule::{Fault, Schedule},
};
use millpond_runtime::{
    CoreId, GroupId, NodeId,
    sim::{DiskFault, FaultPlan, Sim, SimConfig},
};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    rc::Rc,
    time::Duration,
};

/// What a disk that fails says.
const FAILED: [&str; 2] = ["os error 5", "os error 30"];

pub(crate) struct Cluster {
    pub(crate) sim: Sim,
    pub(crate) nodes: Vec<NodeId>,
    pub(crate) book: Rc<Book>,
    /// Whose disk does not hold what it was given.
    pub(crate) damaged: Cell<Option<NodeId>>,
    /// Who must not be started for now.
    pub(crate) held: Cell<Option<NodeId>>,
    /// Whose disk was told to fail at something.
    failing: RefCell<BTreeSet<NodeId>>,
}

impl Cluster {
    pub(crate) fn new(schedule: &Schedule) -> Self {
        let sim = Sim::new(SimConfig { seed: schedule.seed, faults: FaultPlan::survivable() });
        let this = Self {
            sim,
            nodes: schedule.nodes.clone(),
            book: Rc::new(Book::new(schedule)),
            damaged: Cell::default(),
            held: Cell::default(),
            failing: RefCell::default(),
        };
        this.nodes.iter().for_each(|node| this.boot(*node));
        this
    }

    pub(crate) fn run_for(&self, d: Duration) {
        self.sim.run_for(d).unwrap();
    }

    fn boot(&self, me: NodeId) {
        for home in 0..self.book.settings.homes {
            let at = |node: NodeId| self.sim.node(node).addr(PORT + home);
            let peers = self.nodes.iter().filter(|node| **node != me).map(|node| (*node, at(*node))).collect();
            let place = Place { node: me, home, peers, at: at(me) };
            let book = Rc::clone(&self.book);
            self.sim.node(me).start(CoreId(home), |rt| live(rt, place, book));
        }
    }

    /// A node that is down, or was just now, has nothing to say any more.
    pub(crate) fn down(&self, node: NodeId) {
        for home in 0..self.book.settings.homes {
            if let Some((_, driver)) = self.book.homes.borrow_mut().remove(&(node, home)) {
                self.book.counters.borrow_mut().add(&driver.counters());
            }
        }
    }

    pub(crate) fn crash(&self, node: NodeId) {
        self.sim.crash(node);
        self.down(node);
    }

    /// Starts a node that is down, unless its disk keeps it from that.
    pub(crate) fn up(&self, node: NodeId) {
        if self.sim.node(node).is_up() || self.held.get() == Some(node) {
            return;
        }
        if let Some(why) = self.sim.halted(node) {
            let refused = self.book.refused.borrow_mut().remove(&node);
            if self.damaged.get() == Some(node) {
                self.book.mark(if refused.is_some() { "starts refused over a damaged log" } else { "nodes that ended over a damaged log" });
                if refused.is_some() {
                    self.down(node);
                    self.held.set(Some(node));
                    return;
                }
            } else if self.failing.borrow().contains(&node) && FAILED.iter().any(|error| why.contains(error)) {
                self.book.mark("nodes that ended when their disk failed");
            } else {
                panic!("node {node} halted: {why}");
            }
        }
        self.down(node);
        self.sim.restart(node);
        self.boot(node);
    }

    pub(crate) fn up_all(&self) {
        self.nodes.iter().for_each(|node| self.up(*node));
    }

    /// No cut of the power or kill waits for a node's poll.
    pub(crate) fn disarm(&self, node: NodeId) {
        self.sim.crash_at_poll(node, u64::MAX);
        self.sim.kill_at_poll(node, u64::MAX);
    }

    /// Links and disks are as good as new; what is damaged stays so.
    pub(crate) fn mend(&self) {
        self.sim.heal_all();
        self.nodes.iter().for_each(|node| self.sim.node(*node).disk().calm());
    }

    fn cut(&self, pairs: impl Iterator<Item = (NodeId, NodeId)>) {
        pairs.for_each(|(from, to)| self.sim.cut(from, to));
    }

    /// Something happens.
    pub(crate) fn perform(&self, fault: &Fault) {
        let (sim, mark) = (&self.sim, |mark| self.book.mark(mark));
        let machine = |node: &NodeId| sim.node(*node);
        match fault {
            Fault::Kill(node) if !machine(node).is_up() => {}
            Fault::Crash(node) => {
                mark("power cuts");
                self.crash(*node);
            }
            Fault::Kill(node) => {
                mark("kills");
                sim.kill(*node);
                self.down(*node);
            }
            Fault::CrashAtPoll(node, polls) => sim.crash_at_poll(*node, machine(node).polls() + polls),
            Fault::KillAtPoll(node, polls) => sim.kill_at_poll(*node, machine(node).polls() + polls),
            Fault::PowerAgain(all) => {
                mark("power cuts one after the other");
                for (node, wait) in all {
                    self.crash(*node);
                    self.up(*node);
                    self.run_for(*wait);
                }
            }
            Fault::Mend => self.mend(),
            Fault::Pause(node, core, d) => machine(node).pause(*core, *d),
            Fault::SlowDisk(node, times) => machine(node).disk().slow_down(*times),
            Fault::DiskError { node, sync } => {
                self.failing.borrow_mut().insert(*node);
                machine(node).disk().inject("/data", if *sync { DiskFault::SyncError } else { DiskFault::WriteError });
            }
            Fault::JumpClock(node, ms) => machine(node).jump_wall(*ms),
            Fault::Quiet(quiet) => {
                mark("pauses of all clients");
                self.book.quiet.set(*quiet);
            }
            Fault::Want(group, some) => {
                mark("moves of groups");
                self.book.wanted.borrow_mut().insert(*group, some.clone());
            }
            Fault::Transfer(group, to) => self.transfer(*group, *to),
            Fault::UpAll => self.up_all(),
            Fault::CutOneWay(..)
            | Fault::CutBoth(..)
            | Fault::Isolate { .. }
            | Fault::Clog(..)
            | Fault::SlowLink(..)
            | Fault::Reset(..) => {
                self.break_link(fault);
            }
            Fault::Exchange(_) | Fault::Rot(..) | Fault::Misdirect { .. } | Fault::Rollback { .. } => self.lose_disk(fault),
        }
    }

    fn break_link(&self, fault: &Fault) {
        let (sim, mark) = (&self.sim, |mark| self.book.mark(mark));
        match fault {
            Fault::CutOneWay(from, to) => {
                mark("cuts one way");
                sim.cut(*from, *to);
            }
            Fault::CutBoth(a, b) => {
                mark("cuts both ways");
                self.cut([(*a, *b), (*b, *a)].into_iter());
            }
            Fault::Isolate { node, deaf, mute } => {
                mark(match (deaf, mute) {
                    (true, true) => "nodes cut off from all others",
                    (true, false) => "nodes that hear nobody",
                    _ => "nodes that nobody hears",
                });
                let others = || self.nodes.iter().filter(|other| *other != node);
                self.cut(others().filter(|_| *mute).map(|other| (*node, *other)));
                self.cut(others().filter(|_| *deaf).map(|other| (*other, *node)));
            }
            Fault::Clog(from, to, d) => sim.clog(*from, *to, *d),
            Fault::SlowLink(a, b, times) => {
                sim.slow_link(*a, *b, *times);
                sim.slow_link(*b, *a, *times);
            }
            Fault::Reset(a, b) => sim.reset_conns(*a, *b),
            other => unreachable!("{other:?} breaks no link"),
        }
    }

    fn transfer(&self, group: GroupId, to: NodeId) {
        let leads = |node: &&NodeId| self.book.home(**node, group).is_some_and(|(_, driver)| driver.status(group).is_some_and(|s| s.leads));
        if let Some((_, driver)) = self.nodes.iter().find(leads).and_then(|node| self.book.home(*node, group)) {
            self.book.mark("leaders asked to hand over");
            driver.transfer(group, self.book.replica(group, to));
        }
    }
}
