//! Waking one task of this core: cheaper than a `Notify`, since nobody else can touch it.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    task::{Poll, Waker},
};

/// Remembers that it was set until somebody has waited for it. One task waits at a time: the last one that did is woken.
#[derive(Debug, Default)]
pub(super) struct Signal {
    set: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Signal {
    /// Wakes whoever waits, now or next.
    pub(super) fn set(&self) {
        self.set.set(true);
        let waiting = self.waiting.borrow_mut().take();
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    /// Waits until it is set, and unsets it.
    pub(super) fn wait(&self) -> impl Future<Output = ()> + '_ {
        poll_fn(|cx| {
            if self.set.take() {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                *waiting = Some(cx.waker().clone());
            }
            Poll::Pending
        })
    }
}
