//! Threads beside the cores, for what would hold a core: computing (compression, checks of large blocks), and calls that block
//! (directories).
//!
//! ```text
//!   compute -> queue -> a fixed number of threads that give way to every core
//!                   \-> late after 50 ms: one thread of ordinary priority
//!   call    -> queue -> one thread of ordinary priority
//! ```
//!
//! Computing takes the time that cores leave: on a small machine they share CPUs, and a core that becomes ready takes its CPU back
//! from a job at once. On one that is busy throughout it would never be done, and what waits for it neither: so jobs that nobody
//! has begun for [`LATE`] get a thread like others. Calls take no time on a CPU to speak of, and the journal waits for some.
//! Queues are bounded, and callers wait for room. A job that panics answers an error; its thread goes on.
#![expect(clippy::disallowed_methods, reason = "this is the door: the threads behind Rt::offload")]

use crate::{IoError, Result, sys};
use std::{
    any::Any,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::{Semaphore, oneshot};

/// A job to compute that has waited so long may take time from the cores.
const LATE: Duration = Duration::from_millis(50);

type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of threads and bounded queues. Threads end when the pool is dropped.
#[derive(Clone)]
pub struct Pool {
    computing: Lane,
    calls: Lane,
}

impl Pool {
    /// Starts `threads` threads that compute (at least 1), one that helps them when they are late, and one for calls; each kind
    /// with room for `queue` jobs that nobody has begun (at least 1). `on_start` runs first on each thread, with its number:
    /// the place to choose CPUs.
    pub fn new(threads: usize, queue: usize, on_start: impl Fn(usize) + Send + Sync + 'static) -> std::io::Result<Self> {
        Self::with_late(LATE, threads, queue, on_start)
    }

    fn with_late(late: Duration, threads: usize, queue: usize, on_start: impl Fn(usize) + Send + Sync + 'static) -> std::io::Result<Self> {
        let threads = threads.max(1);
        let on_start = Arc::new(on_start);
        let (computing, calls) = (Lane::new(queue), Lane::new(queue));
        for n in 0..threads {
            let start = Arc::clone(&on_start);
            computing.start(format!("pool-{n}"), Duration::ZERO, move || {
                if let Err(why) = sys::give_way() {
                    tracing::warn!(%why, "a thread of the pool keeps its priority: it may delay a core");
                }
                start(n);
            })?;
        }
        let start = Arc::clone(&on_start);
        computing.start("pool-late".into(), late, move || start(threads))?;
        calls.start("calls".into(), Duration::ZERO, move || on_start(threads + 1))?;
        Ok(Self { computing, calls })
    }

    /// Runs `job`, which computes, on a thread that gives way to every core.
    pub async fn compute<T: Send + 'static>(&self, name: &'static str, job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        self.computing.run(name, job).await
    }

    /// Runs `job`, which blocks in the system and hardly computes.
    pub async fn call<T: Send + 'static>(&self, name: &'static str, job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        self.calls.run(name, job).await
    }
}

/// A queue, and the room in it.
#[derive(Clone)]
struct Lane {
    queue: Arc<Open>,
    room: Arc<Semaphore>,
}

/// Ends the threads when it is dropped.
struct Open(Arc<Queue>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.waiting().closed = true;
        self.0.came.notify_all();
        self.0.came_late.notify_all();
    }
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// For those who take jobs at once, and for those who take late ones.
    came: Condvar,
    came_late: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<(Instant, Job)>,
    closed: bool,
}

impl Queue {
    /// Jobs run outside of the lock, so that a poisoned one guards nothing broken.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The oldest job once it has waited for `patience`; `None` when there will be no more.
    fn take(&self, patience: Duration) -> Option<Job> {
        let came = if patience.is_zero() { &self.came } else { &self.came_late };
        let mut waiting = self.waiting();
        loop {
            let age = waiting.jobs.front().map(|(since, _)| since.elapsed());
            waiting = match age {
                Some(age) if age >= patience || waiting.closed => return waiting.jobs.pop_front().map(|(_, job)| job),
                Some(age) => came.wait_timeout(waiting, patience - age).unwrap_or_else(PoisonError::into_inner).0,
                None if waiting.closed => return None,
                None => came.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

impl Lane {
    fn new(queue: usize) -> Self {
        Self { queue: Arc::new(Open(Arc::default())), room: Arc::new(Semaphore::new(queue.max(1))) }
    }

    /// Starts a thread that takes jobs that have waited for `patience`.
    fn start(&self, name: String, patience: Duration, on_start: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let queue = Arc::clone(&self.queue.0);
        let work = move || {
            on_start();
            while let Some(job) = queue.take(patience) {
                job();
            }
        };
        thread::Builder::new().name(name).spawn(work).map(drop)
    }

    async fn run<T: Send + 'static>(&self, name: &'static str, job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let room = Arc::clone(&self.room).acquire_owned().await.expect("the pool never closes its semaphore");
        let (answer, outcome) = oneshot::channel();
        let boxed: Job = Box::new(move || {
            drop(room);
            // Nobody to answer is fine: the caller was dropped.
            let _ = answer.send(catch_unwind(AssertUnwindSafe(job)));
        });
        let queue = &self.queue.0;
        queue.waiting().jobs.push_back((Instant::now(), boxed));
        queue.came.notify_one();
        queue.came_late.notify_one();
        match outcome.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(panic)) => Err(IoError::JobPanicked { job: name, message: panic_message(&*panic) }),
            Err(_) => Err(IoError::JobPanicked { job: name, message: "its thread ended".into() }),
        }
    }
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_string())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into())
}

#[cfg(test)]
mod tests;
