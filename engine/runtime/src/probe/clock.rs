//! The clocks: whether reading them is cheap, whether they go sensibly, and whether somebody keeps the wall clock.

use super::{Check, Root};
use crate::sys::{self, ClockState};
use std::{
    io, thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Clock sources that are read without a system call.
const QUICK: [&str; 5] = ["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page", "riscv_clocksource"];
/// How long both clocks are watched.
const WATCH: Duration = Duration::from_millis(50);
/// How far the clocks may part meanwhile.
const PART_MAX: Duration = Duration::from_millis(5);
/// Readings in a row.
const READINGS: u32 = 20_000;
/// A reading that takes longer costs more than what it is for.
const READING_MAX: Duration = Duration::from_nanos(1_000);
/// 2024-01-01, in seconds since 1970: before we were written.
const WRITTEN_S: u64 = 1_704_067_200;

pub(super) fn checks(root: &Root) -> Vec<Check> {
    let source = root.read("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    vec![reading(source.as_deref(), time_reading()), going(&watch()), kept(&sys::clock_state())]
}

/// How long a reading takes, on average.
fn time_reading() -> Duration {
    let begun = Instant::now();
    for _ in 0..READINGS {
        std::hint::black_box(Instant::now());
    }
    begun.elapsed() / READINGS
}

pub(super) fn reading(source: Option<&str>, each: Duration) -> Check {
    const NAME: &str = "clock source";
    let found = format!("{}, {} ns a reading", source.unwrap_or("unknown"), each.as_nanos());
    let known_slow = source.is_some_and(|source| !QUICK.contains(&source));
    if each > READING_MAX {
        Check::warn(
            NAME,
            found,
            "use a quicker source if the machine has one: see /sys/devices/system/clocksource/clocksource0/available_clocksource",
        )
    } else if known_slow {
        Check::hint(NAME, found, "tsc, kvm-clock and arch_sys_counter are read without a system call")
    } else {
        Check::ok(NAME, found)
    }
}

/// What both clocks did while they were watched.
pub(super) struct Watched {
    /// The monotonic clock went so far.
    pub(super) mono: Duration,
    /// The wall clock went so far; `None` if it went back.
    pub(super) wall: Option<Duration>,
    /// Its reading at the end, since 1970; `None` if that is before.
    pub(super) now: Option<Duration>,
}

fn watch() -> Watched {
    let (mono, wall) = (Instant::now(), SystemTime::now());
    thread::sleep(WATCH);
    let now = SystemTime::now();
    Watched { mono: mono.elapsed(), wall: now.duration_since(wall).ok(), now: now.duration_since(UNIX_EPOCH).ok() }
}

pub(super) fn going(watched: &Watched) -> Check {
    const NAME: &str = "clock";
    const KEEP: &str = "let chrony or systemd-timesyncd keep it, by slewing rather than by stepping";
    let ms = |d: Duration| d.as_secs_f64() * 1000.0;
    if watched.now.is_none_or(|now| now.as_secs() < WRITTEN_S) {
        return Check::warn(NAME, "the wall clock is years behind", "set it: retention and timestamps go by it");
    }
    match watched.wall {
        None => Check::warn(NAME, "the wall clock went back while it was watched", KEEP),
        Some(wall) if wall.abs_diff(watched.mono) > PART_MAX => {
            Check::warn(NAME, format!("the wall clock went {:.1} ms in {:.1} ms", ms(wall), ms(watched.mono)), KEEP)
        }
        Some(_) => Check::ok(NAME, "goes forward, in step with the monotonic one"),
    }
}

pub(super) fn kept(state: &io::Result<ClockState>) -> Check {
    const NAME: &str = "time synchronisation";
    match state {
        Ok(ClockState { synchronised: true, error_us_max }) => {
            Check::ok(NAME, format!("kept in step, at most {:.1} ms off", *error_us_max as f64 / 1000.0))
        }
        Ok(ClockState { synchronised: false, .. }) => Check::warn(
            NAME,
            "nobody keeps the wall clock in step with others",
            "run chrony or systemd-timesyncd on the host: timestamps, retention by time and reading from a time go by this clock",
        ),
        Err(error) => Check::hint(NAME, format!("not visible from here: {error}"), "see on the host that chrony or systemd-timesyncd runs"),
    }
}
