//! Who wants to be woken when.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// Wakers by the moment (ns) and a number that tells those of one moment apart.
#[derive(Default)]
pub(super) struct Timers {
    waiting: BTreeMap<(u64, u64), Waker>,
    next: u64,
}

impl Timers {
    /// The next moment at which somebody wants to be woken.
    pub(super) fn next(&self) -> Option<u64> {
        self.waiting.first_key_value().map(|((moment, _), _)| *moment)
    }

    /// Takes out whoever wanted to be woken by `now`.
    pub(super) fn due(&mut self, now: u64, wake: &mut Vec<Waker>) {
        while let Some(first) = self.waiting.first_entry()
            && first.key().0 <= now
        {
            wake.push(first.remove());
        }
    }
}

/// Ends at a moment. Begins when it is first polled.
pub(super) struct Sleep {
    timers: Rc<RefCell<Timers>>,
    now: fn() -> u64,
    after: u64,
    key: Option<(u64, u64)>,
}

impl Sleep {
    /// `after` ns of the clock `now`.
    pub(super) fn new(timers: &Rc<RefCell<Timers>>, now: fn() -> u64, after: u64) -> Self {
        Self { timers: Rc::clone(timers), now, after, key: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let now = (self.now)();
        let timers = Rc::clone(&self.timers);
        let mut timers = timers.borrow_mut();
        let after = self.after;
        let key = *self.key.get_or_insert_with(|| {
            timers.next += 1;
            (now.saturating_add(after), timers.next)
        });
        if key.0 <= now {
            timers.waiting.remove(&key);
            self.key = Some((0, 0));
            return Poll::Ready(());
        }
        match timers.waiting.get_mut(&key) {
            Some(waker) => waker.clone_from(cx.waker()),
            None => drop(timers.waiting.insert(key, cx.waker().clone())),
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.timers.borrow_mut().waiting.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        cell::Cell,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    thread_local! {
        static NOW: Cell<u64> = const { Cell::new(0) };
    }

    fn at(moment: u64) -> u64 {
        NOW.replace(moment)
    }

    #[test]
    fn sleepers_wake_in_order_and_leave_nothing() {
        let timers: Rc<RefCell<Timers>> = Rc::default();
        let mut sleeps: Vec<_> = [30, 10, 20, 10].map(|after| Sleep::new(&timers, || NOW.get(), after)).into_iter().collect();
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        let mut poll = |sleep: &mut Sleep| Pin::new(sleep).poll(&mut cx).is_ready();
        at(100);
        assert!(sleeps.iter_mut().all(|sleep| !poll(sleep)));
        assert!(sleeps.iter_mut().all(|sleep| !poll(sleep)), "polling again changes nothing");
        assert_eq!(timers.borrow().next(), Some(110));
        at(119);
        let mut wake = Vec::new();
        timers.borrow_mut().due(119, &mut wake);
        wake.drain(..).for_each(Waker::wake);
        assert_eq!(count.0.load(Ordering::Relaxed), 2, "those of moment 110");
        assert_eq!(sleeps.iter_mut().map(poll).collect::<Vec<_>>(), [false, true, false, true]);
        sleeps.remove(0);
        assert_eq!(timers.borrow().next(), Some(120), "the one of moment 130 has gone");
        sleeps.clear();
        assert_eq!(timers.borrow().next(), None);
    }
}
