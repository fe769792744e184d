//! What waits to be sent to one node: messages of all groups, in order. Full, it drops what comes, which Raft bears.

use crate::wire::{CUT_BYTES, Envelope};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
};
use tokio::sync::Notify;

/// See the module.
pub(crate) struct Queue {
    bytes_max: usize,
    waiting: RefCell<(VecDeque<Envelope>, usize)>,
    /// A frame is to leave, with messages or without.
    beat: Cell<bool>,
    /// Whether there is a connection that it leaves on.
    connected: Cell<bool>,
    pushed: Notify,
}

impl Queue {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, waiting: RefCell::default(), beat: Cell::new(false), connected: Cell::new(false), pushed: Notify::new() }
    }

    /// Takes a message, or drops it.
    pub(crate) fn push(&self, envelope: Envelope) {
        let (waiting, bytes) = &mut *self.waiting.borrow_mut();
        let len = envelope.frame_bytes();
        if *bytes > 0 && *bytes + len > self.bytes_max {
            return;
        }
        // Whoever takes waits only where nothing is.
        if waiting.is_empty() {
            self.pushed.notify_one();
        }
        *bytes += len;
        waiting.push_back(envelope);
    }

    /// Has a frame leave soon, though there may be nothing to say.
    pub(crate) fn beat(&self) {
        self.beat.set(true);
        self.pushed.notify_one();
    }

    /// What goes into one frame; waits for it, or for [`Queue::wake`], which brings none.
    pub(crate) async fn take(&self) -> Option<Vec<Envelope>> {
        if self.waiting.borrow().0.is_empty() && !self.beat.get() {
            self.pushed.notified().await;
        }
        let beat = self.beat.take();
        let (waiting, bytes) = &mut *self.waiting.borrow_mut();
        let mut len = 0;
        let fits = |next: &&Envelope| {
            let fits = len < CUT_BYTES;
            len += if fits { next.frame_bytes() } else { 0 };
            fits
        };
        let n = waiting.iter().take_while(fits).count();
        let taken: Vec<Envelope> = waiting.drain(..n).collect();
        *bytes -= len;
        (beat || !taken.is_empty()).then_some(taken)
    }

    /// Messages that wait, and their bytes.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let (waiting, bytes) = &*self.waiting.borrow();
        (waiting.len(), *bytes)
    }

    /// Whether there is a connection that it leaves on.
    pub(crate) fn is_connected(&self) -> bool {
        self.connected.get()
    }

    /// There is a connection now, or there is none.
    pub(crate) fn set_connected(&self, connected: bool) {
        self.connected.set(connected);
    }

    /// Forgets what waits: the node cannot be reached, and it would be old news.
    pub(crate) fn clear(&self) {
        *self.waiting.borrow_mut() = Default::default();
    }

    /// Ends a wait.
    pub(crate) fn wake(&self) {
        self.pushed.notify_one();
    }
}

#[cfg(test)]
mod tests;
