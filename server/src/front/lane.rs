//! A place for one at a time, for which the newest frame goes first.
//!
//! Whoever waits here waits because others hold memory and do nothing with it. The newest frame's client is the likeliest to be still there and to
//! have all of its frame on the way; those who fall silent gather at the other end, where they keep nobody waiting. No bound of its own: one
//! waits per connection.

use super::signal::Signal;
use millpond_runtime::Nanos;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lane {
    taken: Cell<bool>,
    waiting: RefCell<Vec<(Nanos, Rc<Signal>)>>,
}

/// The place, until it is dropped.
#[derive(Debug)]
pub(super) struct InLane(Rc<Lane>);

impl Drop for InLane {
    fn drop(&mut self) {
        self.0.taken.set(false);
        self.0.call_next();
    }
}

/// Waits; leaves the row when dropped.
struct InRow {
    lane: Rc<Lane>,
    called: Rc<Signal>,
}

impl Drop for InRow {
    fn drop(&mut self) {
        self.lane.waiting.borrow_mut().retain(|(_, one)| !Rc::ptr_eq(one, &self.called));
        // It may have been called just now, and gone away.
        if !self.lane.taken.get() {
            self.lane.call_next();
        }
    }
}

impl Lane {
    /// Waits for the place, with a frame that began then.
    pub(super) async fn take(self: &Rc<Self>, began: Nanos) -> InLane {
        if self.taken.get() || !self.waiting.borrow().is_empty() {
            let row = InRow { lane: Rc::clone(self), called: Rc::default() };
            self.waiting.borrow_mut().push((began, Rc::clone(&row.called)));
            loop {
                row.called.wait().await;
                if !self.taken.get() {
                    break;
                }
            }
            self.taken.set(true);
            return InLane(Rc::clone(self));
        }
        self.taken.set(true);
        InLane(Rc::clone(self))
    }

    fn call_next(&self) {
        if let Some((_, next)) = self.waiting.borrow().iter().max_by_key(|(began, _)| *began) {
            next.set();
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
            Poll::Pending => panic!("the lane is free"),
        }
    }

    #[test]
    fn the_newest_goes_first() {
        let lane = Rc::new(Lane::default());
        let first = taken(poll(pin!(lane.take(0))));
        let (mut second, mut third) = (Box::pin(lane.take(1)), Box::pin(lane.take(2)));
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
    fn one_that_is_called_and_gone_calls_the_next() {
        let lane = Rc::new(Lane::default());
        let first = taken(poll(pin!(lane.take(0))));
        let (mut second, mut third) = (Box::pin(lane.take(1)), Box::pin(lane.take(2)));
        assert!(poll(second.as_mut()).is_pending() && poll(third.as_mut()).is_pending());
        drop(first);
        drop(third);
        drop(taken(poll(second.as_mut())));
        drop(second);
        drop(taken(poll(pin!(lane.take(0)))));
    }
}
