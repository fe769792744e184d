//! The intended send times of an open loop.
//!
//! One task per thread has a timer that is exact to microseconds and hands due moments to the connections; a connection that is
//! busy finds them in its queue later, and its latencies count from them all the same. That is what keeps the figures free of
//! coordinated omission.

use super::Window;
use crate::{args::Arrivals, measure::record, sys::Timer};
use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// Moments handed out between two looks at the clock, before others on the thread get their turn.
const AT_ONCE: usize = 64;

/// The moments at which one connection is to send.
#[derive(Debug, Default)]
pub struct Due {
    moments: RefCell<VecDeque<Instant>>,
    over: Cell<bool>,
    changed: Notify,
}

impl Due {
    /// The next moment that has come.
    pub fn pop(&self) -> Option<Instant> {
        self.moments.borrow_mut().pop_front()
    }

    /// Whether none has come that was not taken.
    pub fn is_empty(&self) -> bool {
        self.moments.borrow().is_empty()
    }

    /// Whether no more will come.
    pub fn is_over(&self) -> bool {
        self.over.get() && self.is_empty()
    }

    /// Returns when there may be another, or none will come.
    pub async fn changed(&self) {
        if self.is_empty() && !self.over.get() {
            self.changed.notified().await;
        }
    }
}

/// Draws the gaps between moments.
pub(super) struct Gaps {
    mean_ns: f64,
    arrivals: Arrivals,
    rng: SmallRng,
}

impl Gaps {
    /// So many moments per second.
    pub(super) fn new(per_s: f64, arrivals: Arrivals, seed: u64) -> Self {
        Self { mean_ns: 1e9 / per_s, arrivals, rng: SmallRng::seed_from_u64(seed) }
    }

    /// From one moment to the next, in ns.
    pub(super) fn next_ns(&mut self) -> f64 {
        match self.arrivals {
            Arrivals::Even => self.mean_ns,
            Arrivals::Poisson => -self.mean_ns * (1.0 - self.rng.random::<f64>()).ln(),
        }
    }

    /// Whose turn it is: one after the other, or anyone's.
    fn whose(&mut self, n: u64, of: usize) -> usize {
        match self.arrivals {
            Arrivals::Even => (n % of as u64) as usize,
            Arrivals::Poisson => self.rng.random_range(0..of),
        }
    }
}

/// Hands out moments until the window ends. `late` learns how late each was handed out.
pub(super) async fn hand_out(mut gaps: Gaps, window: Window, connections: Vec<Rc<Due>>, late: Rc<RefCell<Histogram<u64>>>) -> Result<()> {
    let timer = Timer::new().context("making a timer")?;
    let (mut at_ns, mut n) = (gaps.next_ns(), 0_u64);
    'all: loop {
        let now = Instant::now();
        for _ in 0..AT_ONCE {
            let moment = window.begin + Duration::from_nanos(at_ns as u64);
            if moment >= window.to {
                break 'all;
            }
            if moment > now {
                timer.until(moment).await.context("waiting for a timer")?;
                continue 'all;
            }
            if moment >= window.from {
                record(&mut late.borrow_mut(), now - moment);
            }
            let due = &connections[gaps.whose(n, connections.len())];
            due.moments.borrow_mut().push_back(moment);
            due.changed.notify_one();
            n += 1;
            at_ns += gaps.next_ns();
        }
        tokio::task::yield_now().await;
    }
    for due in connections {
        due.over.set(true);
        due.changed.notify_one();
    }
    Ok(())
}
