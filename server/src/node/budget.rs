//! Memory of a core by the kibibyte: who wants some takes it from a pool, in the order of asking, and gives it back by dropping
//! what it holds.
//!
//! A pool knows whether anybody waits for it. While somebody does, those who hold its memory and do nothing with it are
//! closed sooner ([`crate::front`]). Nobody waits for more of a pool while holding some of it, or two could wait for each other.

use super::config::MemoryPlan;
use std::{cell::Cell, rc::Rc, sync::Arc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory that was taken.
pub type Held = OwnedSemaphorePermit;

const KIB: usize = 1024;
/// Requests up to this weight, in bytes, do not wait behind heavier ones.
const SMALL_BYTES: usize = 16 * KIB;

/// See the module.
#[derive(Debug)]
pub struct Pool {
    all_kib: usize,
    free: Arc<Semaphore>,
    waiting: Rc<Cell<usize>>,
}

/// Somebody waits, for as long as this lives.
struct Waiting(Rc<Cell<usize>>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Pool {
    /// A pool of so many bytes, one KiB at the least.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let all_kib = (bytes / KIB).clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self { all_kib, free: Arc::new(Semaphore::new(all_kib)), waiting: Rc::default() }
    }

    /// What is charged for so many bytes: whole KiB, and what is larger than the pool takes all of it.
    fn kib(&self, bytes: usize) -> usize {
        bytes.div_ceil(KIB).min(self.all_kib)
    }

    /// Takes memory, waiting for it.
    pub async fn take(&self, bytes: usize) -> Held {
        if let Some(held) = self.try_take(bytes) {
            return held;
        }
        self.waiting.set(self.waiting.get() + 1);
        let _waiting = Waiting(Rc::clone(&self.waiting));
        Arc::clone(&self.free).acquire_many_owned(self.kib(bytes) as u32).await.expect("nobody closes a pool")
    }

    /// Takes memory if it is there and nobody waits for it.
    #[must_use]
    pub fn try_take(&self, bytes: usize) -> Option<Held> {
        if self.is_pressed() {
            return None;
        }
        Arc::clone(&self.free).try_acquire_many_owned(self.kib(bytes) as u32).ok()
    }

    /// Gives back what `held` has beyond `bytes`.
    pub fn shrink(&self, held: &mut Held, bytes: usize) {
        let spare = held.num_permits().saturating_sub(self.kib(bytes));
        drop(held.split(spare));
    }

    /// Whether somebody waits for it.
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        self.waiting.get() > 0
    }

    /// Bytes that are taken.
    #[must_use]
    pub fn used(&self) -> usize {
        (self.all_kib - self.free.available_permits().min(self.all_kib)) * KIB
    }
}

/// Memory of the requests of a core that are carried out.
#[derive(Debug)]
pub struct Requests {
    small: Pool,
    large: Pool,
    waits: Pool,
}

/// Memory of one request.
#[derive(Debug)]
pub struct Working {
    held: Held,
    bytes: usize,
    waits: bool,
}

impl Requests {
    /// A quarter is for small requests alone.
    #[must_use]
    pub fn new(plan: &MemoryPlan) -> Self {
        let small = plan.requests / 4;
        Self { small: Pool::new(small), large: Pool::new(plan.requests - small), waits: Pool::new(plan.waits) }
    }

    /// Memory for a request of this weight; waits for it. One that is heavier than all of it has all to itself.
    pub async fn take(&self, bytes: usize) -> Working {
        let pool = if bytes <= SMALL_BYTES { &self.small } else { &self.large };
        Working { held: pool.take(bytes).await, bytes, waits: false }
    }

    /// Lets a request that waits for something else keep its memory, at the expense of those that wait and not of those that could
    /// run. False if there is no room: then it must not wait with it.
    pub fn may_wait(&self, working: &mut Working) -> bool {
        if !working.waits
            && let Some(held) = self.waits.try_take(working.bytes)
        {
            *working = Working { held, bytes: working.bytes, waits: true };
        }
        working.waits
    }

    /// What an answer of so many bytes needs of the request's memory until it is sent.
    pub fn answered(&self, working: Working, bytes: usize) -> Held {
        let Working { mut held, waits, bytes: weight } = working;
        let pool = match (waits, weight <= SMALL_BYTES) {
            (true, _) => &self.waits,
            (_, true) => &self.small,
            (_, false) => &self.large,
        };
        pool.shrink(&mut held, bytes);
        held
    }

    /// Whether somebody waits for memory to run with.
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        self.small.is_pressed() || self.large.is_pressed()
    }

    /// Bytes that are taken.
    #[must_use]
    pub fn used(&self) -> usize {
        self.small.used() + self.large.used() + self.waits.used()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn those_who_wait_are_served_in_their_order_and_nobody_overtakes_them() {
        let pool = Pool::new(10 * KIB);
        let first = pool.try_take(8 * KIB).expect("there is room");
        let mut large = pin!(pool.take(5 * KIB));
        assert!(poll(large.as_mut()).is_pending() && pool.is_pressed());
        assert!(pool.try_take(1).is_none(), "somebody waits");
        drop(first);
        let Poll::Ready(held) = poll(large.as_mut()) else { panic!("it has room now") };
        assert!(!pool.is_pressed() && pool.used() == 5 * KIB);
        drop(held);
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn giving_up_is_no_waiting() {
        let pool = Pool::new(KIB);
        let _all = pool.try_take(5 * KIB).expect("what is too large takes all");
        {
            let mut waits = pin!(pool.take(1));
            assert!(poll(waits.as_mut()).is_pending() && pool.is_pressed());
        }
        assert!(!pool.is_pressed());
    }

    #[test]
    fn whoever_waits_does_not_keep_others_from_running() {
        let plan = MemoryPlan {
            tail: 0,
            connections: 0,
            arriving: 0,
            hopping: 0,
            leaving: 0,
            requests: 64 * KIB,
            waits: 16 * KIB,
            queued: 0,
            groups: 0,
            sessions: 0,
        };
        let requests = Requests::new(&plan);
        let mut waiting = Vec::new();
        let mut refused = 0;
        for _ in 0..20 {
            let Poll::Ready(mut one) = poll(pin!(requests.take(2 * KIB)).as_mut()) else { panic!("there is room to run") };
            if requests.may_wait(&mut one) {
                waiting.push(one);
            } else {
                refused += 1;
            }
        }
        assert_eq!((waiting.len(), refused), (8, 12));
        let mut rest = requests.answered(waiting.pop().expect("some wait"), 1);
        assert_eq!(rest.num_permits(), 1);
        drop(rest.split(1));
    }
}
