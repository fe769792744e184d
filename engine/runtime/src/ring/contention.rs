//! Whether somebody else wants the CPU of this core.
//!
//! A core that looks for news (see [`super::patience`]) takes its CPU from whoever could run there, and where all CPUs are busy that is a loss: of throughput
//! for those who wait, and of batches that would have grown meanwhile. Linux counts for each thread how long it ran, and how long it was ready and had to wait for a CPU
//! (`/proc/thread-self/schedstat`, the first two numbers, ns; `Documentation/scheduler/sched-stats.rst`). A thread that is pinned waits only for what runs on its own CPU, so a core that
//! waits for long beside what it works shares its CPU. A kernel that does not count (no `CONFIG_SCHED_INFO`) never says so.

use std::{fs::File, os::unix::fs::FileExt};

/// How often it is looked at, in ns.
const WINDOW: u64 = 10_000_000;
/// What is remembered loses one part in so many each time.
const FORGETS: u64 = 8;
/// A CPU is wanted if this core waits for it for more than one part in so many of the time that it works. A CPU of one's own stays below: kernel threads that
/// end the disk's requests take some of it.
const PART: u64 = 4;

/// What is known of the CPU of the thread that made it.
#[derive(Debug)]
pub(super) struct Contention {
    schedstat: Option<File>,
    /// Time that was spent looking for news since the start, ns.
    looked: u64,
    share: Share,
}

/// What a thread has done since its start, ns.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    /// It has run for so long, but for looking.
    worked: u64,
    /// It was ready for so long, and something else ran.
    waited: u64,
}

/// The part that is pure.
#[derive(Debug, Default)]
struct Share {
    /// When it was looked at last, and what had been done then.
    at: u64,
    done: Times,
    /// What is remembered: the last windows, the older the less.
    lately: Times,
}

impl Contention {
    pub(super) fn new() -> Self {
        Self { schedstat: File::open("/proc/thread-self/schedstat").ok(), looked: 0, share: Share::default() }
    }

    /// Whether somebody else wants this CPU, as it has been lately.
    pub(super) fn wants(&mut self, now: u64) -> bool {
        if now.saturating_sub(self.share.at) >= WINDOW {
            // What cannot be read any more, or makes no sense, is a thread that has done nothing.
            let done = self.schedstat.as_ref().and_then(read).unwrap_or(self.share.done);
            self.share.look(now, Times { worked: done.worked.saturating_sub(self.looked), ..done });
        }
        self.share.is_wanted()
    }

    /// So many ns went by while news were looked for.
    pub(super) const fn looked(&mut self, ns: u64) {
        self.looked += ns;
    }
}

/// What the thread has done since its start, looking included.
fn read(schedstat: &File) -> Option<Times> {
    let mut text = [0; 64];
    let n = schedstat.read_at(&mut text, 0).ok()?;
    let mut numbers = std::str::from_utf8(&text[..n]).ok()?.split_ascii_whitespace().map(str::parse);
    Some(Times { worked: numbers.next()?.ok()?, waited: numbers.next()?.ok()? })
}

impl Share {
    fn look(&mut self, now: u64, done: Times) {
        let add = |lately: u64, before: u64, now: u64| lately - lately / FORGETS + now.saturating_sub(before);
        self.lately.worked = add(self.lately.worked, self.done.worked, done.worked);
        self.lately.waited = add(self.lately.waited, self.done.waited, done.waited);
        (self.at, self.done) = (now, done);
    }

    const fn is_wanted(&self) -> bool {
        self.lately.waited > self.lately.worked / PART
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn who_waits_for_long_beside_what_it_works_shares_its_cpu() {
        let (mut share, mut done) = (Share::default(), Times::default());
        let mut windows = |share: &mut Share, n: u64, worked: u64, waited: u64| {
            for _ in 0..n {
                done = Times { worked: done.worked + worked, waited: done.waited + waited };
                share.look(share.at + WINDOW, done);
            }
            share.is_wanted()
        };
        assert!(!windows(&mut share, 100, 6_000_000, 1_000_000), "what a disk's requests take is no matter");
        assert!(!windows(&mut share, 1, 6_000_000, 2_500_000), "nor is one window");
        assert!(windows(&mut share, 20, 6_000_000, 2_000_000));
        assert!(windows(&mut share, 20, 600_000, 200_000), "however little it works");
        assert!(!windows(&mut share, 40, 6_000_000, 100_000), "it passes");
        share.look(share.at + WINDOW, Times::default());
        assert!(!share.is_wanted(), "numbers that go backwards are nothing done");
    }

    /// Two threads that never sleep, on one CPU: each waits for about half of the time.
    #[test]
    fn two_threads_on_one_cpu_want_it() {
        fn spin(until: Instant) {
            while Instant::now() < until {
                std::hint::spin_loop();
            }
        }
        let cpu = crate::sys::allowed_cpus().expect("the kernel says where we may run")[0];
        let until = Instant::now() + Duration::from_millis(200);
        let threads = [(); 2].map(|()| {
            std::thread::spawn(move || {
                crate::sys::run_on(&[cpu]).expect("a CPU that we may run on");
                let mut contention = Contention::new();
                spin(until);
                // A kernel that does not count has nothing to say, or zeros.
                let counts = contention.schedstat.as_ref().and_then(read).is_some_and(|times| times.worked > 0);
                assert_eq!(contention.wants(u64::MAX), counts);
            })
        });
        for thread in threads {
            thread.join().expect("it says what it should");
        }
    }
}
