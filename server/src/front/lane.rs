//! Memory for whole frames, for which the newest frame goes first.
//!
//! Whoever waits here waits because others hold the pool and do nothing with it ([`super::intake`]). The newest frame's client is the
//! likeliest to be still there and to have all of its frame on the way; those who fall silent gather at the other end, where they
//! keep nobody waiting. A frame takes its memory at once, all of it: nobody here waits for more. Several small ones fit beside each other,
//! or one of the longest. One waits per connection.

use super::signal::Signal;
use millpond_runtime::Nanos;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

/// See the module.
#[derive(Debug)]
pub(super) struct Lane {
    all: usize,
    free: Cell<usize>,
    waiting: RefCell<Vec<Place>>,
}

#[derive(Debug)]
struct Place {
    began: Nanos,
    bytes: usize,
    called: Rc<Signal>,
}

/// Memory for a frame, until it is dropped.
#[derive(Debug)]
pub(super) struct InLane {
    lane: Rc<Lane>,
    bytes: usize,
}

impl Drop for InLane {
    fn drop(&mut self) {
        self.lane.free.set(self.lane.free.get() + self.bytes);
        self.lane.call_next();
    }
}

/// Waits; leaves the row when dropped.
struct InRow {
    lane: Rc<Lane>,
    called: Rc<Signal>,
}

impl Drop for InRow {
    fn drop(&mut self) {
        self.lane.waiting.borrow_mut().retain(|place| !Rc::ptr_eq(&place.called, &self.called));
        // It may have been called just now; and if it has gone away, or there is more room, the next is.
        self.lane.call_next();
    }
}

impl Lane {
    /// Memory of so many bytes: the longest frame needs no more.
    pub(super) fn new(bytes: usize) -> Self {
        Self { all: bytes, free: Cell::new(bytes), waiting: RefCell::default() }
    }

    /// Bytes that are taken.
    pub(super) fn used(&self) -> usize {
        self.all - self.free.get()
    }

    /// Waits for memory for a frame of `bytes` bytes that began at `began`.
    pub(super) async fn take(self: &Rc<Self>, began: Nanos, bytes: usize) -> InLane {
        if bytes <= self.free.get() && self.waiting.borrow().is_empty() {
            return self.enter(bytes);
        }
        let row = InRow { lane: Rc::clone(self), called: Rc::default() };
        self.waiting.borrow_mut().push(Place { began, bytes, called: Rc::clone(&row.called) });
        while {
            row.called.wait().await;
            bytes > self.free.get()
        } {}
        self.enter(bytes)
    }

    fn enter(self: &Rc<Self>, bytes: usize) -> InLane {
        self.free.set(self.free.get() - bytes);
        InLane { lane: Rc::clone(self), bytes }
    }

    /// Calls the newest, if there is room for it.
    fn call_next(&self) {
        let waiting = self.waiting.borrow();
        let newest = waiting.iter().max_by_key(|place| place.began);
        if let Some(next) = newest.filter(|place| place.bytes <= self.free.get()) {
            next.called.set();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        future::Future,
        pin::{Pin, pin},
        task::{Context, Poll, Waker},
    };

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn taken(polled: Poll<InLane>) -> InLane {
        match polled {
            Poll::Ready(lane) => lane,
            Poll::Pending => panic!("there is room"),
        }
    }

    #[test]
    fn the_newest_goes_first() {
        let lane = Rc::new(Lane::new(10));
        let first = taken(poll(pin!(lane.take(0, 6))));
        let (mut second, mut third) = (Box::pin(lane.take(1, 7)), Box::pin(lane.take(2, 7)));
        assert!(poll(second.as_mut()).is_pending() && poll(third.as_mut()).is_pending());
        drop(first);
        assert!(poll(second.as_mut()).is_pending());
        let held = taken(poll(third.as_mut()));
        drop(third);
        assert!(poll(second.as_mut()).is_pending());
        drop(held);
        drop(taken(poll(second.as_mut())));
    }

    #[test]
    fn small_ones_fit_beside_each_other() {
        let lane = Rc::new(Lane::new(10));
        let all = taken(poll(pin!(lane.take(0, 10))));
        let (mut second, mut third) = (Box::pin(lane.take(1, 5)), Box::pin(lane.take(2, 5)));
        assert!(poll(second.as_mut()).is_pending() && poll(third.as_mut()).is_pending());
        drop(all);
        let held = taken(poll(third.as_mut()));
        drop(third);
        let also = taken(poll(second.as_mut()));
        assert_eq!(lane.free.get(), 0);
        drop((held, also));
        assert_eq!(lane.used(), 0);
    }

    #[test]
    fn one_that_is_called_and_gone_calls_the_next() {
        let lane = Rc::new(Lane::new(10));
        let first = taken(poll(pin!(lane.take(0, 10))));
        let (mut second, mut third) = (Box::pin(lane.take(1, 10)), Box::pin(lane.take(2, 10)));
        assert!(poll(second.as_mut()).is_pending() && poll(third.as_mut()).is_pending());
        drop(first);
        drop(third);
        drop(taken(poll(second.as_mut())));
        drop(second);
        drop(taken(poll(pin!(lane.take(0, 10)))));
    }
}
