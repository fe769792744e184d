//! Threads beside the cores, for what would hold a core: computing (compression, checks of large blocks), and calls that block
//! (directories).
//!
//! ```text
//!   compute -> queue -> a fixed number of threads, as batch work
//!   call    -> queue -> a few threads
//! ```
//!
//! Batch work (`SCHED_BATCH`) takes its fair share of the CPUs, and never takes one from a running core because it has become ready.
//! It must not have less than that share: cores and jobs meet at locks, the allocator's above all, since what a job has
//! allocated a core frees, and a core would wait for a thread that gets no time. With a low priority (nice 19, `SCHED_IDLE`) an ack beside a
//! replay took ten to forty times as long. Calls have threads of their own, since the journal waits
//! for some of them; and several, since removing or closing a large file can take long: behind one that did, an append waited 0.7 s.
//! Queues are bounded, and callers wait for room. A job that panics answers an error; its thread goes on.
#![expect(clippy::disallowed_methods, reason = "this is the door: the threads behind Rt::offload")]

use crate::{IoError, Result, sys};
use crossbeam::channel;
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};
use tokio::sync::{Semaphore, oneshot};

/// Threads for calls.
const CALLERS: usize = 4;

type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of threads and bounded queues. Threads end when the pool is dropped.
#[derive(Clone)]
pub struct Pool {
    computing: Lane,
    calls: Lane,
}

impl Pool {
    /// Starts `threads` threads that compute (at least 1) and a few for calls, each kind with room for `queue` jobs that nobody has
    /// begun (at least 1). `on_start` runs first on each thread, with its number: the place to choose CPUs.
    pub fn new(threads: usize, queue: usize, on_start: impl Fn(usize) + Send + Sync + 'static) -> std::io::Result<Self> {
        let threads = threads.max(1);
        let on_start = Arc::new(on_start);
        let start = Arc::clone(&on_start);
        let computing = Lane::start("pool", threads, queue, move |n| {
            if let Err(why) = sys::be_batch() {
                tracing::warn!(%why, "a thread of the pool may interrupt cores");
            }
            start(n);
        })?;
        Ok(Self { computing, calls: Lane::start("calls", CALLERS, queue, move |n| on_start(threads + n))? })
    }

    /// Runs `job`, which computes.
    pub async fn compute<T: Send + 'static>(&self, name: &'static str, job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        self.computing.run(name, job).await
    }

    /// Runs `job`, which blocks in the system and hardly computes.
    pub async fn call<T: Send + 'static>(&self, name: &'static str, job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        self.calls.run(name, job).await
    }

    /// Whether a job that computes is under way or waits for its turn.
    pub(crate) fn is_computing(&self) -> bool {
        self.computing.at_work.load(Ordering::Relaxed) > 0
    }

    /// Has a thread for calls run `job`, which nobody waits for; it runs here if there is no room.
    pub fn call_later(&self, job: impl FnOnce() + Send + 'static) {
        match Arc::clone(&self.calls.room).try_acquire_owned() {
            Ok(room) => self.calls.put(Box::new(move || {
                drop(room);
                // A panic has been printed, and has nobody else to be told to.
                let _ = catch_unwind(AssertUnwindSafe(job));
            })),
            Err(_) => job(),
        }
    }
}

/// Threads that take from one queue.
#[derive(Clone)]
struct Lane {
    jobs: channel::Sender<Job>,
    room: Arc<Semaphore>,
    /// Jobs that somebody waits for and that have not ended.
    at_work: Arc<AtomicUsize>,
}

impl Lane {
    fn start(name: &str, threads: usize, queue: usize, on_start: impl Fn(usize) + Send + Sync + 'static) -> std::io::Result<Self> {
        let queue = queue.max(1);
        let (jobs, work) = channel::bounded::<Job>(queue);
        let on_start = Arc::new(on_start);
        for n in 0..threads {
            let (work, on_start) = (work.clone(), Arc::clone(&on_start));
            thread::Builder::new().name(format!("{name}-{n}")).spawn(move || {
                on_start(n);
                while let Ok(job) = work.recv() {
                    job();
                }
            })?;
        }
        Ok(Self { jobs, room: Arc::new(Semaphore::new(queue)), at_work: Arc::default() })
    }

    /// Gives a job, for which there is room, to the threads.
    fn put(&self, job: Job) {
        self.jobs.send(job).expect("the threads of the pool live as long as the pool");
    }

    async fn run<T: Send + 'static>(&self, name: &'static str, job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let room = Arc::clone(&self.room).acquire_owned().await.expect("the pool never closes its semaphore");
        let (answer, outcome) = oneshot::channel();
        let at_work = Arc::clone(&self.at_work);
        at_work.fetch_add(1, Ordering::Relaxed);
        let boxed: Job = Box::new(move || {
            drop(room);
            let outcome = catch_unwind(AssertUnwindSafe(job));
            at_work.fetch_sub(1, Ordering::Relaxed);
            // Nobody to answer is fine: the caller was dropped.
            let _ = answer.send(outcome);
        });
        self.put(boxed);
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
