//! What everybody saw and did: a run's memory, outside of its nodes.

use crate::{
    schedule::{GROUPS, Schedule},
    settings::Settings,
};
use bytes::Bytes;
use millpond_log::Log;
use millpond_raft::{Driver, RaftId, driver::Counters};
use millpond_runtime::{GroupId, NodeId, Offset, Term, sim::SimRt};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
};

/// The batch that the idempotent producer of a group sends until it is acknowledged.
#[derive(Clone, Copy)]
pub(crate) struct Current {
    pub(crate) sequence: i32,
    pub(crate) value: u64,
}

/// One home of a node that is up.
pub(crate) type Home = (Log<SimRt>, Driver<SimRt>);

/// What everybody saw.
#[derive(Default)]
pub(crate) struct Book {
    pub(crate) settings: Settings,
    pub(crate) committed: RefCell<BTreeMap<(GroupId, u64), (u64, Bytes)>>,
    pub(crate) acked: RefCell<Vec<(GroupId, Offset, u64)>>,
    /// The highest offset acknowledged of a group.
    pub(crate) acked_end: RefCell<BTreeMap<GroupId, Offset>>,
    current: RefCell<BTreeMap<GroupId, Current>>,
    values: Cell<u64>,
    pub(crate) homes: RefCell<BTreeMap<(NodeId, u16), Home>>,
    pub(crate) seen: RefCell<BTreeMap<(GroupId, Offset), u64>>,
    /// The nodes that a group began with, those that are to have it, and who led it when.
    pub(crate) first: BTreeMap<GroupId, BTreeMap<NodeId, RaftId>>,
    pub(crate) wanted: RefCell<BTreeMap<GroupId, BTreeSet<NodeId>>>,
    pub(crate) leaders: RefCell<BTreeMap<(GroupId, Term), RaftId>>,
    pub(crate) counters: RefCell<Counters>,
    /// How many disks a node has had before this one, and how often each home on this one was started.
    pub(crate) disks: RefCell<BTreeMap<NodeId, u64>>,
    /// How many replicas of a group a node has had that were damaged, and are to be made anew.
    pub(crate) renewed: RefCell<BTreeMap<(GroupId, NodeId), u64>>,
    pub(crate) starts: RefCell<BTreeMap<(NodeId, u16), u64>>,
    /// Why a node did not start.
    pub(crate) refused: RefCell<BTreeMap<NodeId, String>>,
    /// Nobody sends or reads.
    pub(crate) quiet: Cell<bool>,
    marks: RefCell<BTreeMap<&'static str, u64>>,
}

impl Book {
    pub(crate) fn new(schedule: &Schedule) -> Self {
        let mut book = Self { settings: schedule.settings.clone(), wanted: RefCell::new(schedule.first.clone()), ..Self::default() };
        for (group, nodes) in &schedule.first {
            let ids = nodes.iter().map(|node| (*node, book.replica(*group, *node))).collect();
            book.first.insert(*group, ids);
        }
        book
    }

    /// One more of what is to be counted.
    pub(crate) fn mark(&self, mark: &'static str) {
        self.add(mark, 1);
    }

    pub(crate) fn add(&self, mark: &'static str, n: u64) {
        if n > 0 {
            *self.marks.borrow_mut().entry(mark).or_default() += n;
        }
    }

    pub(crate) fn marks(&self) -> BTreeMap<&'static str, u64> {
        self.marks.borrow().clone()
    }

    pub(crate) fn value(&self) -> u64 {
        self.values.set(self.values.get() + 1);
        self.values.get()
    }

    /// A replica's id: of each group a node has one at the most; on another disk it is another replica, since it knows nothing of what the one before
    /// has promised; and so it is when it was damaged.
    pub(crate) fn replica(&self, group: GroupId, node: NodeId) -> RaftId {
        let disks = self.disks.borrow().get(&node).copied().unwrap_or(0);
        let renewed = self.renewed.borrow().get(&(group, node)).copied().unwrap_or(0);
        group.0 * 10_000 + node.0 * 100 + disks + renewed
    }

    /// The home of a group, the same on all nodes.
    pub(crate) fn home_of(&self, group: GroupId) -> u16 {
        (group.0 % u64::from(self.settings.homes)) as u16
    }

    /// The groups of a home.
    pub(crate) fn groups_of(&self, home: u16) -> impl Iterator<Item = GroupId> {
        (1..=GROUPS).map(GroupId).filter(move |group| self.home_of(*group) == home)
    }

    /// Where a group lives on a node, if that is up.
    pub(crate) fn home(&self, node: NodeId, group: GroupId) -> Option<Home> {
        self.homes.borrow().get(&(node, self.home_of(group))).cloned()
    }

    pub(crate) fn current(&self, group: GroupId) -> Current {
        let next = || Current { sequence: 0, value: self.value() };
        *self.current.borrow_mut().entry(group).or_insert_with(next)
    }

    /// The idempotent producer goes on to its next batch.
    pub(crate) fn next(&self, group: GroupId, sequence: i32) {
        let value = self.value();
        self.current.borrow_mut().insert(group, Current { sequence, value });
    }

    pub(crate) fn ack(&self, group: GroupId, offset: Offset, value: u64) {
        self.acked.borrow_mut().push((group, offset, value));
        let mut ends = self.acked_end.borrow_mut();
        let end = ends.entry(group).or_insert(offset);
        *end = offset.max(*end);
    }
}
