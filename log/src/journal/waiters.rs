//! Who waits for which sync. Wakers are woken in the order of their places; a waiter that goes away leaves nothing.

use crate::lsn::Lsn;
use std::{collections::BTreeMap, task::Waker};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    waiting: BTreeMap<(Lsn, u64), Waker>,
    next_ticket: u64,
}

impl Waiters {
    /// Waits for `lsn` with `waker`; the ticket renews or withdraws it.
    pub(crate) fn register(&mut self, lsn: Lsn, ticket: Option<u64>, waker: &Waker) -> u64 {
        let ticket = ticket.unwrap_or_else(|| {
            self.next_ticket += 1;
            self.next_ticket
        });
        let held = self.waiting.entry((lsn, ticket)).or_insert_with(|| waker.clone());
        held.clone_from(waker);
        ticket
    }

    /// Waits no more.
    pub(crate) fn withdraw(&mut self, lsn: Lsn, ticket: u64) {
        self.waiting.remove(&(lsn, ticket));
    }

    /// Everybody who waits for something up to `lsn`, in order. To be woken outside of any borrow.
    pub(crate) fn take(&mut self, lsn: Lsn) -> impl Iterator<Item = Waker> + use<> {
        let later = self.waiting.split_off(&(lsn.next(), 0));
        std::mem::replace(&mut self.waiting, later).into_values()
    }

    /// Everybody.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = Waker> + use<> {
        std::mem::take(&mut self.waiting).into_values()
    }
}
