//! The pulse: a thread beside each executor that wakes it again and again, since glommio 0.9 can put one to sleep that has work to do.
//!
//! Before each round `LocalExecutor::run` arms the preemption timer, then runs task queues until one asks to be preempted. If
//! the thread loses its CPU between the two for as long as that timer, the round ends before the first task, and says
//! "nothing ran" just as it does when there is nothing to run. The executor then parks, with tasks in its queues. Nothing of
//! its own wakes it: the timers of those tasks have fired, so that even a task that sleeps in a loop (which is what the heartbeat
//! was once) lies in a queue and is waited for by nobody. What helps is a wake-up from outside.
//!
//! An executor that falls asleep so in its very first round has no task yet that could be woken: its thread is interrupted.

use crate::sys::Sleeper;
use std::{
    future::poll_fn,
    io,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Poll, Waker},
    thread,
    time::Duration,
};

/// Time between two beats: how long an executor can oversleep.
const BEAT: Duration = Duration::from_millis(10);
/// The same once the core has been idle for [`IDLE_AFTER`] beats. A beat costs a core up to 0.2 ms of CPU, most of it in
/// the system calls around its sleep: 2 % of a CPU at ten milliseconds, for nothing.
const IDLE_BEAT: Duration = Duration::from_millis(50);
const IDLE_AFTER: u32 = 20;
/// A core that has not noticed a beat gets another after so many: a wake-up that waits takes memory.
const REPEAT: u32 = 16;

#[derive(Default)]
enum Heart {
    /// The core's thread has not come to run its executor.
    #[default]
    Early,
    /// It has, and the executor has run no task yet.
    Starting(Sleeper),
    Beating(Waker),
    /// The core has ended.
    Ended,
}

#[derive(Default)]
struct Shared {
    heart: Mutex<Heart>,
    /// The last beat was noticed.
    noticed: AtomicBool,
    /// Tasks that the core had run by then, the noticing among them.
    ran: AtomicU64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Heart> {
        self.heart.lock().expect("no code panics while it holds this lock")
    }
}

/// The pulse of one core. When it is dropped, in the core's own thread, the core is woken no more.
pub struct Pulse(Arc<Shared>);

impl Drop for Pulse {
    fn drop(&mut self) {
        *self.0.lock() = Heart::Ended;
    }
}

impl Pulse {
    /// Starts the thread, which ends when the pulse is dropped.
    pub(super) fn start() -> io::Result<Self> {
        let shared: Arc<Shared> = Arc::default();
        let pulse = Self(Arc::clone(&shared));
        thread::Builder::new().name("pulse".into()).spawn(move || beat(&shared))?;
        Ok(pulse)
    }

    /// To be called on the core's thread right before it runs its executor.
    pub(super) fn starting(&self) -> io::Result<()> {
        *self.0.lock() = Heart::Starting(Sleeper::here()?);
        Ok(())
    }

    /// Is woken with every beat, and does nothing but notice; never ends. To be spawned on the core, of which `ran` tells how
    /// many tasks it has run.
    pub(super) fn heart(&self, ran: impl Fn() -> u64 + 'static) -> impl Future<Output = ()> + 'static {
        let shared = Arc::clone(&self.0);
        poll_fn(move |cx| {
            shared.ran.store(ran(), Ordering::Relaxed);
            shared.noticed.store(true, Ordering::Relaxed);
            let mut heart = shared.lock();
            if !matches!(*heart, Heart::Beating(_)) {
                *heart = Heart::Beating(cx.waker().clone());
            }
            Poll::Pending
        })
    }
}

/// What the thread knows of the core.
#[derive(Clone, Default)]
struct Known {
    /// Beats since the last that the core noticed.
    unnoticed: u32,
    /// Tasks that it had run then.
    ran: u64,
    /// Beats that it noticed in a row without running anything else.
    idle: u32,
}

fn beat(shared: &Shared) {
    let mut core = Known::default();
    loop {
        thread::sleep(if core.idle >= IDLE_AFTER { IDLE_BEAT } else { BEAT });
        // Held while waking, so that the core cannot end meanwhile.
        match &*shared.lock() {
            Heart::Early => {}
            Heart::Starting(thread) => {
                core.unnoticed += 1;
                if core.unnoticed.is_multiple_of(REPEAT) {
                    thread.interrupt();
                }
            }
            Heart::Ended => return,
            Heart::Beating(waker) => {
                if shared.noticed.swap(false, Ordering::Relaxed) {
                    let ran = shared.ran.load(Ordering::Relaxed);
                    core.idle = if ran - core.ran <= 1 { core.idle.saturating_add(1) } else { 0 };
                    (core.ran, core.unnoticed) = (ran, 0);
                } else {
                    core.unnoticed += 1;
                }
                if core.unnoticed.is_multiple_of(REPEAT) {
                    waker.wake_by_ref();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// What an executor does that falls asleep in its first round: it waits in its ring, and nobody knows of a task to wake.
    #[test]
    fn a_core_that_falls_asleep_before_its_first_task_is_interrupted() {
        let pulse = Pulse::start().expect("a thread");
        let (say, said) = mpsc::channel();
        thread::spawn(move || {
            let ring = io_uring::IoUring::new(8).expect("a ring");
            pulse.starting().expect("a handler");
            let waited = ring.submit_and_wait(1).map_err(|e| e.kind());
            say.send(waited).expect("the test waits");
        });
        let waited = said.recv_timeout(Duration::from_secs(30)).expect("it was interrupted");
        assert_eq!(waited, Err(io::ErrorKind::Interrupted));
    }
}
