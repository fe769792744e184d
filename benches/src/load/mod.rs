//! Driving a system: threads, connections, and the window that is measured.
//!
//! Each thread of the generator is bound to a CPU and runs its connections on a current-thread runtime. All open their
//! connections first; then one moment is chosen at which all begin. In reading order: [`produce`] closed and open loop ·
//! [`consume`] following and bulk · [`pace`] the intended send times of an open loop.

pub mod consume;
pub mod pace;
pub mod produce;
#[cfg(test)]
mod tests;

use crate::{measure::Recorder, sys};
use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use std::{
    rc::Rc,
    sync::mpsc,
    time::{Duration, Instant},
};
use tokio::task::LocalSet;

/// From all connections open to the beginning.
const RUN_UP: Duration = Duration::from_millis(20);
/// An answer that takes longer than this after the end of the run is an error.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long, and where.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Before measuring.
    pub warm_up: Duration,
    /// Measured.
    pub duration: Duration,
    /// CPUs of the generator, one thread each; empty for one thread anywhere.
    pub cpus: Vec<usize>,
    /// Give way to all others on the same CPUs.
    pub humble: bool,
}

/// When a run begins, is measured, and ends.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Sending begins.
    pub begin: Instant,
    /// Measuring begins.
    pub from: Instant,
    /// Both end.
    pub to: Instant,
}

/// What one thread, or all, measured.
pub struct Measured {
    /// Requests: latency from the intended send time to the answer.
    pub requests: Recorder,
    /// From the intended send time of a batch to a reader's hands; empty if nobody followed.
    pub end_to_end: Histogram<u64>,
    /// How late the generator itself was.
    pub late: Histogram<u64>,
    /// Requests that the system took nothing of, for want of room.
    pub refused: u64,
    /// When the last connection had nothing left to do.
    pub ended: Instant,
}

impl Measured {
    fn new(window: &Window, ends_by_itself: bool) -> Self {
        let hist = crate::measure::latencies;
        let requests = if ends_by_itself { Recorder::open_ended(window.from) } else { Recorder::new(window.from, window.to - window.from) };
        Self { requests, end_to_end: hist(), late: hist(), refused: 0, ended: window.from }
    }

    fn merge(&mut self, other: &Self) {
        self.requests.merge(&other.requests);
        self.end_to_end.add(&other.end_to_end).expect("histograms of the same bounds");
        self.late.add(&other.late).expect("histograms of the same bounds");
        self.refused += other.refused;
        self.ended = self.ended.max(other.ended);
    }
}

/// What is run on each thread.
pub trait Work: Sync {
    /// An open connection.
    type Open;

    /// Connections in all.
    fn connections(&self) -> usize;

    /// Opens connection `number`.
    fn open(&self, number: usize) -> impl Future<Output = Result<Self::Open>>;

    /// Runs the connections of one thread, numbered, to the end.
    fn run(&self, open: Vec<(usize, Self::Open)>, window: Window) -> impl Future<Output = Result<Measured>>;

    /// The window may be longer than planned, for work that ends by itself.
    fn ends_by_itself(&self) -> bool {
        false
    }
}

/// Runs it on the plan's threads; `began` is called once all connections are open, with the window.
///
/// # Errors
/// The first thing that went wrong on any thread.
pub fn run<W: Work>(work: &W, plan: &Plan, began: impl FnOnce(Window)) -> Result<Measured> {
    let cpus: Vec<Option<usize>> = if plan.cpus.is_empty() { vec![None] } else { plan.cpus.iter().copied().map(Some).collect() };
    let threads = cpus.len().min(work.connections());
    let (ready, is_ready) = mpsc::channel::<bool>();
    std::thread::scope(|scope| {
        let mut starts = Vec::new();
        let mut running = Vec::new();
        for (number, cpu) in cpus.iter().take(threads).enumerate() {
            let (start, started) = mpsc::channel::<Window>();
            starts.push(start);
            let ready = ready.clone();
            let thread = std::thread::Builder::new().name(format!("load-{number}"));
            let body = move || {
                settle_down(*cpu, plan.humble)?;
                on_thread(work, number, threads, plan, &ready, &started)
            };
            running.push(thread.spawn_scoped(scope, body).context("starting a thread")?);
        }
        drop(ready);
        let all_open = is_ready.iter().take(threads).filter(|open| *open).count() == threads;
        if all_open {
            let begin = Instant::now() + RUN_UP;
            let window = Window { begin, from: begin + plan.warm_up, to: begin + plan.warm_up + plan.duration };
            for start in &starts {
                // A thread that ended meanwhile says why below.
                let _ = start.send(window);
            }
            began(window);
        }
        drop(starts);
        let mut all: Option<Measured> = None;
        for thread in running {
            let measured = thread.join().unwrap_or_else(|_| bail!("a thread of the load generator panicked"))?;
            match (&mut all, measured) {
                (_, None) => {}
                (Some(all), Some(measured)) => all.merge(&measured),
                (all, measured) => *all = measured,
            }
        }
        all.context("the connections did not open")
    })
}

/// Producers and followers over the same window, on the same threads.
#[derive(Clone, Debug)]
pub struct Both<A, B> {
    /// Their requests are counted.
    pub producers: A,
    /// Their times from end to end are counted.
    pub followers: B,
}

/// A connection of either.
pub enum Either<A, B> {
    /// Sends.
    Producer(A),
    /// Reads.
    Follower(B),
}

impl<A: Work, B: Work> Work for Both<A, B> {
    type Open = Either<A::Open, B::Open>;

    fn connections(&self) -> usize {
        self.producers.connections() + self.followers.connections()
    }

    async fn open(&self, number: usize) -> Result<Self::Open> {
        // Followers first: they are there before anything is sent.
        match number.checked_sub(self.followers.connections()) {
            None => Ok(Either::Follower(self.followers.open(number).await?)),
            Some(number) => Ok(Either::Producer(self.producers.open(number).await?)),
        }
    }

    async fn run(&self, open: Vec<(usize, Self::Open)>, window: Window) -> Result<Measured> {
        let (mut producers, mut followers) = (Vec::new(), Vec::new());
        for (number, one) in open {
            match one {
                Either::Producer(one) => producers.push((number - self.followers.connections(), one)),
                Either::Follower(one) => followers.push((number, one)),
            }
        }
        let (mut sent, seen) = tokio::try_join!(self.producers.run(producers, window), self.followers.run(followers, window))?;
        sent.end_to_end = seen.end_to_end;
        Ok(sent)
    }
}

fn settle_down(cpu: Option<usize>, humble: bool) -> Result<()> {
    if let Some(cpu) = cpu {
        sys::pin_thread(&[cpu]).with_context(|| format!("binding the load generator to CPU {cpu}"))?;
    }
    if humble { sys::give_way().context("lowering the priority of a thread") } else { Ok(()) }
}

fn on_thread<W: Work>(
    work: &W,
    number: usize,
    threads: usize,
    plan: &Plan,
    ready: &mpsc::Sender<bool>,
    started: &mpsc::Receiver<Window>,
) -> Result<Option<Measured>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let mut open = Vec::new();
        for connection in (number..work.connections()).step_by(threads) {
            match work.open(connection).await {
                Ok(one) => open.push((connection, one)),
                Err(error) => {
                    // Nobody listens any more only if another thread failed as well.
                    let _ = ready.send(false);
                    return Err(error);
                }
            }
        }
        let _ = ready.send(true);
        // Blocks this thread's runtime, on which nothing happens yet.
        let Ok(window) = started.recv() else { return Ok(None) };
        tokio::time::sleep_until(window.begin.into()).await;
        let measured = work.run(open, window);
        if work.ends_by_itself() {
            return measured.await.map(Some);
        }
        let until = window.to + plan.duration + PATIENCE;
        match tokio::time::timeout_at(until.into(), measured).await {
            Ok(measured) => measured.map(Some),
            Err(_) => bail!("a request was not answered within {PATIENCE:?} after the end of the run"),
        }
    })
}

/// Runs one future per connection, side by side; the first error ends all.
async fn all<F: Future<Output = Result<()>> + 'static>(futures: Vec<F>) -> Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for future in futures {
        tasks.spawn_local(future);
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a connection's task panicked")??;
    }
    Ok(())
}

/// Takes a value out of an `Rc` that everyone else has let go.
fn unshare<T>(shared: Rc<std::cell::RefCell<T>>) -> Result<T> {
    Rc::try_unwrap(shared).map(std::cell::RefCell::into_inner).ok().context("a connection's task outlived the run")
}
