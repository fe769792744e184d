//! What clients were told.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

/// What records go to.
pub(crate) const TOPIC: &str = "records";

/// A consumer group's position, as one client moves it and others read it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Register {
    /// The last one that was sent.
    pub(crate) sent: u64,
    /// The last one that was acknowledged.
    pub(crate) acked: u64,
    /// The furthest that anybody has read.
    pub(crate) read: u64,
}

impl Register {
    /// Somebody is about to move it on so far.
    pub(crate) fn sends(&mut self, position: u64) {
        self.sent = self.sent.max(position);
    }

    /// Somebody was told that it has come so far.
    pub(crate) fn keeps(&mut self, position: u64) {
        self.acked = self.acked.max(position);
    }

    /// Somebody has read it who began when it was as `before`.
    pub(crate) fn reads(&mut self, found: u64, before: Self, whose: &str) {
        let least = before.acked.max(before.read);
        assert!(found >= least, "{whose}: a position of {found} is read, {least} was acknowledged or read before");
        assert!(found <= self.sent, "{whose}: a position of {found} is read, only {} were sent", self.sent);
        self.read = self.read.max(found);
    }
}

pub(crate) struct Book {
    pub(crate) servers: Vec<SocketAddr>,
    /// Partition, offset, value.
    pub(crate) acked: RefCell<Vec<(u32, u64, u64)>>,
    /// The end of a partition, as far as acks tell.
    pub(crate) ends: RefCell<Vec<u64>>,
    /// Values that a node has refused to write.
    pub(crate) refused: RefCell<BTreeSet<u64>>,
    /// What anybody has read at an offset of a partition.
    pub(crate) seen: RefCell<BTreeMap<(u32, u64), u64>>,
    pub(crate) registers: RefCell<Vec<Register>>,
    /// The positions of [`SHARED`], by partition.
    pub(crate) shared: RefCell<Vec<Register>>,
    /// Topics that were made, with their ids, and those whose end was acknowledged.
    pub(crate) made: RefCell<BTreeMap<String, u64>>,
    pub(crate) gone: RefCell<BTreeSet<String>>,
    /// Nobody begins anything more.
    pub(crate) quiet: Cell<bool>,
    /// Clients that are in the middle of something.
    pub(crate) busy: Cell<u64>,
    pub(crate) marks: RefCell<BTreeMap<&'static str, u64>>,
    values: Cell<u64>,
}

/// Consumer groups without members.
pub(crate) const GROUPS: usize = 2;
/// The one with members.
pub(crate) const SHARED: &str = "shared";

impl Book {
    pub(crate) fn new(servers: Vec<SocketAddr>, partitions: u32) -> Self {
        Self {
            servers,
            acked: RefCell::default(),
            ends: RefCell::new(vec![0; partitions as usize]),
            refused: RefCell::default(),
            seen: RefCell::default(),
            registers: RefCell::new(vec![Register::default(); GROUPS]),
            shared: RefCell::new(vec![Register::default(); partitions as usize]),
            made: RefCell::default(),
            gone: RefCell::default(),
            quiet: Cell::new(false),
            busy: Cell::new(0),
            marks: RefCell::default(),
            values: Cell::new(0),
        }
    }

    pub(crate) fn mark(&self, mark: &'static str) {
        *self.marks.borrow_mut().entry(mark).or_default() += 1;
    }

    /// A value that nobody else writes.
    pub(crate) fn value(&self) -> u64 {
        self.values.set(self.values.get() + 1);
        self.values.get()
    }

    pub(crate) fn ack(&self, partition: u32, offset: u64, value: u64) {
        self.mark("records acknowledged");
        self.acked.borrow_mut().push((partition, offset, value));
        let end = &mut self.ends.borrow_mut()[partition as usize];
        *end = (offset + 1).max(*end);
    }

    /// Somebody has read this; whatever was read there before was the same.
    pub(crate) fn see(&self, partition: u32, offset: u64, value: u64) {
        self.mark("records seen");
        let first = *self.seen.borrow_mut().entry((partition, offset)).or_insert(value);
        assert_eq!(first, value, "two readers saw different records at offset {offset} of partition {partition}");
    }
}
