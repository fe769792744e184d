//! The ring of a core: operations that the kernel carries out, and who waits for each.
//!
//! ```text
//!   Op::start  -> entry in the ring ........ kernel ........ completion -> reap: the operation's waker
//!   watch      -> entry in the ring ........ kernel ........ completion, again and again -> the readiness of a socket
//! ```
//!
//! Entries are handed to the kernel, and completions are taken, in one call per turn ([`Driver::enter`]). What an operation needs (its
//! memory, its file) belongs to the ring until it has completed: a future that is dropped before leaves both there.
#![expect(unsafe_code, reason = "the kernel is given addresses, which stay valid because the ring owns what they point to")]

use super::memory::Memory;
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use slab::Slab;
use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::Future,
    io,
    ops::Range,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// Entries that the ring has room for; what is beyond waits for the next turn.
const SUBMISSIONS: u32 = 1024;
/// Completions that have room; the kernel keeps what is beyond.
const COMPLETIONS: u32 = 8192;

/// What completions are about that are no operation's.
mod tag {
    /// Another thread has written to the core's eventfd.
    pub(super) const WOKEN: u64 = u64::MAX;
    /// The alarm has gone off.
    pub(super) const ALARM: u64 = u64::MAX - 1;
    /// A cancellation: what it cancels completes itself.
    pub(super) const CANCELLED: u64 = u64::MAX - 2;
}

/// What the kernel works with while an operation is under way.
struct Held {
    /// The file or socket.
    _file: Rc<dyn Any>,
    /// What is written from or read into.
    memory: Option<Memory>,
}

enum Slot {
    /// One completion is to come, or has.
    Op {
        held: Held,
        waker: Option<Waker>,
        progress: Progress,
        /// It may never end by itself.
        endless: bool,
    },
    /// Completions come again and again.
    Watch { fd: RawFd, readiness: Rc<Readiness>, stage: Stage },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    UnderWay,
    /// The same, and nobody waits any more.
    Abandoned,
    /// It has completed with this result.
    Done(i32),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Watching,
    /// Its last completion is to come.
    Cancelled,
    /// The kernel has given it up.
    Over,
}

/// Whether a socket has something for us, as far as the kernel has said.
#[derive(Default)]
pub(super) struct Readiness {
    ready: Cell<bool>,
    /// The peer sends no more, or the socket is broken: it stays ready.
    over: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Readiness {
    /// Waits until it is worth a try.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        if self.ready.get() {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *waiting = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// A try has found the socket empty, or has emptied it. What comes from here on is told by the kernel.
    pub(super) fn emptied(&self) {
        self.ready.set(self.over.get());
    }
}

/// Counts since the core's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingStats {
    /// Calls of the kernel to hand over entries, to take completions, or to sleep.
    pub enters: u64,
    /// Entries handed over.
    pub submitted: u64,
    /// Completions taken.
    pub completed: u64,
}

/// See the module.
pub(super) struct Driver {
    // First, so that it goes first: while it is there the kernel may use what the slots hold.
    ring: IoUring,
    slots: Slab<Slot>,
    /// Entries that the ring has no room for.
    backlog: VecDeque<squeue::Entry>,
    /// Moments of alarms that have been set and have not gone off, the next one last.
    alarms: Vec<u64>,
    /// The kernel copies them when they are handed over.
    moments: VecDeque<Box<types::Timespec>>,
    /// What the kernel reads the eventfd's counter into.
    woken: Box<u64>,
    eventfd: OwnedFd,
    /// A read of the eventfd is under way.
    listening: bool,
    /// Operations that a disk will end.
    disk: usize,
    flags: u32,
    woke: Vec<Waker>,
    pub(super) stats: RingStats,
}

/// `io_uring_enter` waits for completions, or takes those that are ready.
const GETEVENTS: u32 = 1;
/// A thread that waits is idle, not blocked by a disk.
const NO_IOWAIT: u32 = 1 << 7;

impl Driver {
    /// A ring that other threads wake by writing to `eventfd`.
    pub(super) fn new(eventfd: OwnedFd) -> io::Result<Self> {
        let plain = |builder: &mut io_uring::Builder| builder.setup_cqsize(COMPLETIONS).setup_clamp().build(SUBMISSIONS);
        // Completions are worked on when we ask for them, and never interrupt us: Linux 6.1. Older ones do without.
        let ring = match plain(IoUring::builder().setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag()) {
            Ok(ring) => ring,
            Err(_) => plain(&mut IoUring::builder())?,
        };
        if !ring.params().is_feature_nodrop() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel drops completions: Linux 5.13 or newer is needed"));
        }
        let flags = if ring.params().is_feature_no_iowait() { GETEVENTS | NO_IOWAIT } else { GETEVENTS };
        // Saves looking up the descriptor in each call; Linux 5.18.
        let _ = ring.submitter().register_ring_fd();
        Ok(Self {
            ring,
            slots: Slab::with_capacity(1024),
            backlog: VecDeque::new(),
            alarms: Vec::new(),
            moments: VecDeque::new(),
            woken: Box::new(0),
            eventfd,
            listening: false,
            disk: 0,
            flags,
            woke: Vec::new(),
            stats: RingStats::default(),
        })
    }

    fn push(&mut self, entry: squeue::Entry) {
        self.stats.submitted += 1;
        self.backlog.push_back(entry);
        self.fill();
    }

    /// Puts as many entries into the ring as it has room for, in order.
    fn fill(&mut self) {
        let mut submission = self.ring.submission();
        while let Some(entry) = self.backlog.front() {
            // SAFETY: what the entry points to belongs to this driver: memory and files to the operation's slot until it has completed,
            // a moment to `moments` until it has been handed over, the counter to `woken`. A driver with operations under way is never
            // dropped: the core that ends leaks it (see `executor`).
            if unsafe { submission.push(entry) }.is_err() {
                return;
            }
            self.backlog.pop_front();
        }
    }

    /// Starts an operation, which `entry` says; what it needs is in `held`. `endless` ones are cancelled if nobody waits for them any more.
    fn start(&mut self, entry: squeue::Entry, held: Held, endless: bool) -> usize {
        self.disk += usize::from(!endless);
        let key = self.slots.insert(Slot::Op { held, waker: None, progress: Progress::UnderWay, endless });
        self.push(entry.user_data(key as u64));
        key
    }

    fn poll(&mut self, key: usize, cx: &Context<'_>) -> Poll<(i32, Held)> {
        let Slot::Op { waker, progress, .. } = &mut self.slots[key] else { unreachable!("an operation keeps its slot until it is taken") };
        let Progress::Done(result) = *progress else {
            match waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        };
        let Slot::Op { held, .. } = self.slots.remove(key) else { unreachable!("looked at just now") };
        Poll::Ready((result, held))
    }

    fn abandon(&mut self, key: usize) {
        let Slot::Op { waker, progress, endless, .. } = &mut self.slots[key] else {
            unreachable!("an operation keeps its slot until it is taken")
        };
        if matches!(progress, Progress::Done(_)) {
            drop(self.slots.remove(key));
            return;
        }
        (*waker, *progress) = (None, Progress::Abandoned);
        if *endless {
            self.cancel(key);
        }
    }

    fn cancel(&mut self, key: usize) {
        self.push(opcode::AsyncCancel::new(key as u64).build().user_data(tag::CANCELLED));
    }

    /// Tells `readiness` from now on whenever there is something to receive, or to accept, until [`Driver::unwatch`].
    pub(super) fn watch(&mut self, fd: RawFd, readiness: Rc<Readiness>) -> usize {
        let key = self.slots.insert(Slot::Watch { fd, readiness, stage: Stage::Watching });
        self.push(watching(fd, key));
        key
    }

    /// Ends a watch. The kernel keeps the socket open until it has heard of this.
    pub(super) fn unwatch(&mut self, key: usize) {
        match &mut self.slots[key] {
            Slot::Watch { stage: Stage::Over, .. } => drop(self.slots.remove(key)),
            Slot::Watch { stage, .. } => {
                *stage = Stage::Cancelled;
                self.cancel(key);
            }
            Slot::Op { .. } => unreachable!("a watch keeps its slot until it is ended"),
        }
    }

    /// Has the core awake at `moment` (ns, as `now`), or earlier. An alarm is never taken back: to set one costs much more than to wake
    /// up once for nothing.
    pub(super) fn alarm(&mut self, moment: u64, now: u64) {
        if self.alarms.last().is_some_and(|next| *next <= moment) {
            return;
        }
        let after = Duration::from_nanos(moment.saturating_sub(now).max(1));
        let timespec = Box::new(types::Timespec::from(after));
        let entry = opcode::Timeout::new(&raw const *timespec).build().user_data(tag::ALARM);
        self.alarms.push(moment);
        self.moments.push_back(timespec);
        self.push(entry);
    }

    /// Whether a disk is at work.
    pub(super) fn awaits_disk(&self) -> bool {
        self.disk > 0
    }

    /// Whether the kernel has been given everything, and has nothing for us.
    pub(super) fn is_quiet(&mut self) -> bool {
        let submission = self.ring.submission();
        let waits = !self.backlog.is_empty() || !submission.is_empty() || submission.taskrun() || submission.cq_overflow();
        drop(submission);
        !waits && self.ring.completion().is_empty()
    }

    /// Hands over what waits, takes what has completed, and, if `sleep`, waits until there is something. Whoever is to be woken is
    /// appended to `wake`.
    pub(super) fn enter(&mut self, sleep: bool, wake: &mut Vec<Waker>) -> io::Result<()> {
        if !self.listening {
            self.listening = true;
            let counter = (&raw mut *self.woken).cast::<u8>();
            let entry = opcode::Read::new(types::Fd(self.eventfd.as_raw_fd()), counter, size_of::<u64>() as u32).build();
            self.push(entry.user_data(tag::WOKEN));
        }
        self.fill();
        let sleep = sleep && self.backlog.is_empty() && self.ring.completion().is_empty();
        let waiting = self.ring.submission().len() as u32;
        self.stats.enters += 1;
        // SAFETY: without an argument this only works on the ring's own queues; see `push` for what the entries point to.
        let entered = unsafe { self.ring.submitter().enter::<libc::sigset_t>(waiting, u32::from(sleep), self.flags, None) };
        match entered {
            Ok(taken) if taken == waiting as usize && self.backlog.is_empty() => self.moments.clear(),
            Ok(_) => {}
            // Interrupted, or the kernel waits for us to take completions, or for memory: all of that passes.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN | libc::ETIME)) => {}
            Err(e) => return Err(e),
        }
        self.reap();
        wake.append(&mut self.woke);
        Ok(())
    }

    fn reap(&mut self) {
        loop {
            let next = self.ring.completion().next();
            let Some(entry) = next else { return };
            self.stats.completed += 1;
            match entry.user_data() {
                tag::WOKEN => self.listening = false,
                tag::ALARM => drop(self.alarms.pop()),
                tag::CANCELLED => {}
                key => self.completed(key as usize, entry.result(), cqueue::more(entry.flags())),
            }
        }
    }

    fn completed(&mut self, key: usize, result: i32, more: bool) {
        if let Slot::Op { endless: false, .. } = self.slots[key] {
            self.disk -= 1;
        }
        match &mut self.slots[key] {
            Slot::Op { progress: Progress::Abandoned, .. } => drop(self.slots.remove(key)),
            Slot::Op { waker, progress, .. } => {
                assert!(*progress == Progress::UnderWay, "the kernel completed an operation twice");
                *progress = Progress::Done(result);
                self.woke.extend(waker.take());
            }
            Slot::Watch { fd, readiness, stage } => {
                let events = u32::try_from(result).unwrap_or(libc::POLLERR as u32);
                if events & (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) as u32 != 0 {
                    readiness.over.set(true);
                }
                readiness.ready.set(true);
                self.woke.extend(readiness.waiting.borrow_mut().take());
                match (*stage, more) {
                    (_, true) => {}
                    (Stage::Cancelled | Stage::Over, false) => drop(self.slots.remove(key)),
                    (Stage::Watching, false) if result < 0 => *stage = Stage::Over,
                    // The kernel had no room for a completion, and has stopped looking.
                    (Stage::Watching, false) => {
                        let entry = watching(*fd, key);
                        self.push(entry);
                    }
                }
            }
        }
    }
}

fn watching(fd: RawFd, key: usize) -> squeue::Entry {
    let events = (libc::POLLIN | libc::POLLRDHUP) as u32;
    opcode::PollAdd::new(types::Fd(fd), events).multi(true).build().user_data(key as u64)
}

/// An operation under way. Its result is the kernel's: a count, or an error number.
#[must_use = "an operation that nobody waits for may or may not happen"]
pub(super) struct Op {
    driver: Rc<RefCell<Driver>>,
    key: Option<usize>,
}

impl Op {
    fn start(driver: &Rc<RefCell<Driver>>, entry: squeue::Entry, held: Held, endless: bool) -> Self {
        let key = driver.borrow_mut().start(entry, held, endless);
        Self { driver: Rc::clone(driver), key: Some(key) }
    }

    /// Reads up to `len` bytes from `position` of the file into the memory, from byte `into` on.
    pub(super) fn read(
        driver: &Rc<RefCell<Driver>>,
        (fd, file): (RawFd, Rc<dyn Any>),
        position: u64,
        memory: Memory,
        into: usize,
        len: usize,
    ) -> Self {
        let entry = opcode::Read::new(types::Fd(fd), memory.place(into, len), len as u32).offset(position).build();
        Self::start(driver, entry, Held { _file: file, memory: Some(memory) }, false)
    }

    /// Writes a piece of what the memory has been filled with to `position` of the file; if `synced`, it completes when that is on
    /// stable media.
    pub(super) fn write(
        driver: &Rc<RefCell<Driver>>,
        (fd, file): (RawFd, Rc<dyn Any>),
        position: u64,
        memory: Memory,
        piece: Range<usize>,
        synced: bool,
    ) -> Self {
        let (from, len) = (piece.start, piece.len());
        let flags = if synced { libc::RWF_DSYNC } else { 0 };
        let entry = opcode::Write::new(types::Fd(fd), memory.place(from, len), len as u32).offset(position).rw_flags(flags).build();
        Self::start(driver, entry, Held { _file: file, memory: Some(memory) }, false)
    }

    /// fdatasync.
    pub(super) fn sync(driver: &Rc<RefCell<Driver>>, (fd, file): (RawFd, Rc<dyn Any>)) -> Self {
        let entry = opcode::Fsync::new(types::Fd(fd)).flags(types::FsyncFlags::DATASYNC).build();
        Self::start(driver, entry, Held { _file: file, memory: None }, false)
    }

    /// Waits until the socket takes bytes, or is connected, or is broken.
    pub(super) fn writable(driver: &Rc<RefCell<Driver>>, (fd, file): (RawFd, Rc<dyn Any>)) -> Self {
        let entry = opcode::PollAdd::new(types::Fd(fd), libc::POLLOUT as u32).build();
        Self::start(driver, entry, Held { _file: file, memory: None }, true)
    }
}

impl Future for Op {
    type Output = (io::Result<usize>, Option<Memory>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let key = self.key.expect("a future that has ended is not polled again");
        let polled = self.driver.borrow_mut().poll(key, cx);
        polled.map(|(result, held)| {
            self.key = None;
            (usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result)), held.memory)
        })
    }
}

impl Drop for Op {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.driver.borrow_mut().abandon(key);
        }
    }
}
