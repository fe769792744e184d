//! Threads beside the cores, for work that would hold a core: compression, directory calls, checks of big files.
//!
//! Jobs wait in a bounded queue, and callers wait for room in it. A job that panics answers an error; its thread goes on.
#![expect(clippy::disallowed_methods, reason = "this is the door: the threads behind Rt::offload")]

use crate::{IoError, Result};
use crossbeam::channel;
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};
use tokio::sync::{Semaphore, oneshot};

type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of threads and a bounded queue. Threads end when the pool is dropped.
#[derive(Clone)]
pub struct Pool {
    jobs: channel::Sender<Job>,
    room: Arc<Semaphore>,
}

impl Pool {
    /// Starts `threads` threads (at least 1) with room for `queue` jobs that nobody has begun (at least 1). `on_start`
    /// runs first on each thread, with its number: the place to choose CPUs.
    pub fn new(threads: usize, queue: usize, on_start: impl Fn(usize) + Send + Sync + 'static) -> std::io::Result<Self> {
        let queue = queue.max(1);
        let (jobs, work) = channel::bounded::<Job>(queue);
        let on_start = Arc::new(on_start);
        for n in 0..threads.max(1) {
            let (work, on_start) = (work.clone(), Arc::clone(&on_start));
            thread::Builder::new().name(format!("pool-{n}")).spawn(move || {
                on_start(n);
                while let Ok(job) = work.recv() {
                    job();
                }
            })?;
        }
        Ok(Self { jobs, room: Arc::new(Semaphore::new(queue)) })
    }

    /// Runs `job` on a thread of the pool.
    pub async fn run<T: Send + 'static>(&self, name: &'static str, job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let room = Arc::clone(&self.room).acquire_owned().await.expect("the pool never closes its semaphore");
        let (answer, outcome) = oneshot::channel();
        let boxed: Job = Box::new(move || {
            drop(room);
            // Nobody to answer is fine: the caller was dropped.
            let _ = answer.send(catch_unwind(AssertUnwindSafe(job)));
        });
        self.jobs.send(boxed).expect("the threads of the pool live as long as the pool");
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
