//! The loop of a core: tasks, then the kernel, again and again; asleep when there is nothing to do.
//!
//! ```text
//!   inbox -> serve tasks for up to a slice -> background tasks, as much as they are due -> timers -> one call of the kernel -> ...
//! ```
//!
//! A turn costs one system call, however many tasks it ran and however many operations it started. While anything is ready the call does not
//! wait; else the core sleeps in it until something completes, the next timer is due, or another thread has put a task into the inbox. Before
//! that it may look for news for a moment, see [`super::patience`]; not while the pool computes, which may need the CPU, nor while others want it
//! ([`super::contention`]).
//!
//! *Shares*: [`Share::First`] goes before all that waits to serve; background tasks run while there is nothing to serve, a
//! little at a time; beside serving they get [`BACKGROUND_PART`] of the time.

use super::{
    contention::Contention,
    driver::{Driver, Op, RingStats},
    memory::Memory,
    patience::{For, Patience},
    tasks::{self, Inbox, Ready},
    timers::{Sleep, Timers},
};
use crate::Share;
use std::{
    any::Any,
    cell::{Cell, RefCell},
    future::Future,
    io,
    ops::Range,
    os::fd::{AsFd, AsRawFd, RawFd},
    rc::Rc,
    sync::{Arc, OnceLock},
    task::Waker,
    time::{Duration, Instant},
};

/// Tasks that serve run so long, in ns, before the kernel is asked for news.
const SERVE_SLICE: u64 = 200_000;
/// The same for background tasks.
const BACKGROUND_SLICE: u64 = 100_000;
/// Time that serving takes for each unit of time that background tasks get beside it.
const BACKGROUND_PART: u64 = 10;
/// Background tasks that could not run for long do not get more than so much at once, in ns.
const CREDIT_MAX: u64 = 1_000_000;
/// The clock is looked at after so many tasks.
const LOOK_EVERY: u32 = 8;

/// Nanoseconds since this process first asked.
pub(super) fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// What a core's tasks share.
pub(super) struct Local {
    inbox: Arc<Inbox>,
    ready: Rc<Ready>,
    pub(super) driver: Rc<RefCell<Driver>>,
    timers: Rc<RefCell<Timers>>,
    /// When the slice ends that runs now.
    slice_ends: Cell<u64>,
    /// Time that tasks have run.
    busy: Cell<u64>,
    patience: RefCell<Patience>,
    contention: RefCell<Contention>,
}

impl Local {
    /// Starts a task, which runs when its turn comes.
    pub(super) fn spawn(&self, share: Share, task: impl Future<Output = ()> + 'static) {
        let inbox = Arc::clone(&self.inbox);
        let schedule = async_task::WithInfo(move |task, info: async_task::ScheduleInfo| inbox.schedule(task, info.woken_while_running));
        let (task, handle) = async_task::Builder::new().metadata(share).spawn_local(|_| task, schedule);
        handle.detach();
        task.schedule();
    }

    pub(super) fn sleep(&self, d: Duration) -> Sleep {
        Sleep::new(&self.timers, now, u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Whether the task that runs has had its turn.
    pub(super) fn should_yield(&self) -> bool {
        now() >= self.slice_ends.get()
    }

    /// Whether others want the CPU.
    pub(super) fn is_crowded(&self) -> bool {
        self.contention.borrow_mut().wants(now())
    }

    pub(super) fn busy(&self) -> u64 {
        self.busy.get()
    }

    pub(super) fn stats(&self) -> RingStats {
        self.driver.borrow().stats
    }

    pub(super) fn read(&self, file: (RawFd, Rc<dyn Any>), position: u64, memory: Memory, into: usize, len: usize) -> Op {
        Op::read(&self.driver, file, position, memory, into, len)
    }

    pub(super) fn write(&self, file: (RawFd, Rc<dyn Any>), position: u64, memory: Memory, piece: Range<usize>, synced: bool) -> Op {
        Op::write(&self.driver, file, position, memory, piece, synced)
    }

    pub(super) fn sync(&self, file: (RawFd, Rc<dyn Any>)) -> Op {
        Op::sync(&self.driver, file)
    }

    pub(super) fn writable(&self, file: (RawFd, Rc<dyn Any>)) -> Op {
        Op::writable(&self.driver, file)
    }
}

/// A core that can run, on the thread that made it.
pub struct Executor {
    local: Rc<Local>,
}

impl Executor {
    /// Sets up the ring. An idle core looks for news for up to `idle_poll` before it sleeps.
    pub(super) fn new(idle_poll: Duration) -> io::Result<Self> {
        let eventfd = crate::sys::eventfd()?;
        let bell = std::fs::File::from(eventfd.as_fd().try_clone_to_owned()?);
        let ring = move || {
            // It fails when the counter is full, and then the core is about to wake up as it is.
            let _ = io::Write::write(&mut &bell, &1_u64.to_ne_bytes());
        };
        let driver = Driver::new(eventfd)?;
        let local = Local {
            inbox: Inbox::new(ring),
            ready: Rc::default(),
            driver: Rc::new(RefCell::new(driver)),
            timers: Rc::default(),
            slice_ends: Cell::new(0),
            busy: Cell::new(0),
            patience: RefCell::new(Patience::new(idle_poll)),
            contention: RefCell::new(Contention::new()),
        };
        Ok(Self { local: Rc::new(local) })
    }

    pub(super) fn local(&self) -> &Rc<Local> {
        &self.local
    }

    /// Runs `main` and all tasks until `main` has ended. Tasks that have not ended by then are leaked with all that they hold, since the
    /// kernel may still write to it; the process is about to end. While `others_work` on what this core waits for it sleeps at once.
    pub(super) fn run<T: 'static>(self, main: impl Future<Output = T> + 'static, others_work: impl Fn() -> bool) -> io::Result<T> {
        let local = self.local;
        let outcome = Rc::new(RefCell::new(None));
        let place = Rc::clone(&outcome);
        let here = tasks::enter(&local.inbox, &local.ready);
        local.spawn(Share::Serve, async move {
            let ended = main.await;
            *place.borrow_mut() = Some(ended);
        });
        let ended = turn(&local, &outcome, &others_work);
        local.inbox.close();
        drop(here);
        std::mem::forget(local);
        ended
    }
}

/// Turns until `outcome` is there.
fn turn<T>(local: &Rc<Local>, outcome: &RefCell<Option<T>>, others_work: &dyn Fn() -> bool) -> io::Result<T> {
    let (mut wake, mut credit): (Vec<Waker>, u64) = (Vec::new(), 0);
    loop {
        while let Some(task) = local.inbox.take() {
            local.ready.push(task, false);
        }
        let served = run_slice(local, Share::Serve, SERVE_SLICE);
        if let Some(outcome) = outcome.borrow_mut().take() {
            return Ok(outcome);
        }
        let mut ran = served;
        credit = (credit + served / BACKGROUND_PART).min(CREDIT_MAX);
        if !local.ready.is_empty(Share::Background) {
            if local.ready.is_empty(Share::Serve) {
                ran += run_slice(local, Share::Background, BACKGROUND_SLICE);
            } else if credit > 0 {
                let took = run_slice(local, Share::Background, credit.min(BACKGROUND_SLICE));
                (ran, credit) = (ran + took, credit.saturating_sub(took));
            }
        }
        local.busy.set(local.busy.get() + ran);
        ask_kernel(local, &mut wake, others_work)?;
        wake.drain(..).for_each(Waker::wake);
    }
}

/// Wakes whom timers are due for, and asks the kernel for news; waits for it if there is nothing else to do.
fn ask_kernel(local: &Local, wake: &mut Vec<Waker>, others_work: &dyn Fn() -> bool) -> io::Result<()> {
    {
        let mut timers = local.timers.borrow_mut();
        if let Some(next) = timers.next() {
            let now = now();
            if next <= now {
                timers.due(now, wake);
            } else {
                local.driver.borrow_mut().alarm(next, now);
            }
        }
    }
    let idle = wake.is_empty() && local.ready.is_empty(Share::Serve) && local.ready.is_empty(Share::Background);
    let mut driver = local.driver.borrow_mut();
    if !idle {
        return if driver.is_quiet() { Ok(()) } else { driver.enter(false, wake) };
    }
    if !others_work() && look(local, &mut driver, wake)? {
        return driver.enter(false, wake);
    }
    let sleep = local.inbox.doze();
    let entered = driver.enter(sleep, wake);
    local.inbox.awake();
    entered
}

/// Hands over what waits, and looks for news for a moment if that is worth it; whether there are some.
fn look(local: &Local, driver: &mut Driver, wake: &mut Vec<Waker>) -> io::Result<bool> {
    let what = if driver.awaits_disk() { For::Disk } else { For::Anything };
    let mut patience = local.patience.borrow_mut();
    let Some(ns) = patience.look(what) else { return Ok(false) };
    let began = now();
    if local.contention.borrow_mut().wants(began) {
        return Ok(false);
    }
    // Whatever completes is news, also what wakes nobody: an alarm that has gone off must be set anew before the core sleeps.
    let completed = driver.stats.completed;
    if !driver.is_quiet() {
        driver.enter(false, wake)?;
    }
    let until = began + ns;
    let timer = local.timers.borrow().next().unwrap_or(u64::MAX);
    let news = loop {
        if driver.stats.completed != completed || !local.inbox.is_empty() || !driver.is_quiet() {
            break true;
        }
        let now = now();
        if now >= timer.min(until) {
            break now >= timer;
        }
        std::hint::spin_loop();
    };
    patience.looked(what, news);
    local.contention.borrow_mut().looked(now().saturating_sub(began));
    Ok(news)
}

/// Runs tasks of a share that are ready, for about `slice` ns; how long that took.
fn run_slice(local: &Local, share: Share, slice: u64) -> u64 {
    if local.ready.is_empty(share) {
        return 0;
    }
    let began = now();
    let ends = began + slice;
    local.slice_ends.set(ends);
    let mut ran = 0_u32;
    while let Some(task) = local.ready.pop(share) {
        task.run();
        ran += 1;
        if (share == Share::Background || ran.is_multiple_of(LOOK_EVERY)) && now() >= ends {
            break;
        }
    }
    now() - began
}

/// The descriptor of something with one, and itself, to be held while the kernel works with it.
pub(super) fn handle<F: AsRawFd + 'static>(file: &Rc<F>) -> (RawFd, Rc<dyn Any>) {
    (file.as_raw_fd(), Rc::clone(file) as Rc<dyn Any>)
}
