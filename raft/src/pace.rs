//! How fast replicas that lag, or are new, get what they lack: no faster than is configured, and slower while writers wait for longer than they would else.
//!
//! What goes to such replicas shares disks, links and processors with what is written now. The driver tells how long writers wait for a commit, tick by tick. While
//! that is more than a while ago by much, or for some of them by very much, the rate is halved again and again, down to a floor; then it rises slowly (after LEDBAT, RFC 6817). It begins low, too: how much
//! disks and processors can bear beside the writers is found out from below. Pure: time is an argument.

use millpond_runtime::Nanos;
use std::collections::VecDeque;

/// The whole rate, in steps.
const WHOLE: u64 = 64;
/// Of which it begins with so many, and again after a pause.
const FIRST: u64 = 8;
/// It rises by so many steps in a tick.
const RISE: u64 = 1;
/// Ticks without a replica that lags: after them it begins anew.
const PAUSE_TICKS: u64 = 20;
/// It falls no lower than to this, or the configured rate if that is less, in bytes per second: a replica that lags gets there in the end.
const FLOOR: u64 = 1 << 20;
/// Waits are longer if they are more than so many times those of a while ago, and this.
const LONGER: (Nanos, Nanos) = (2, 500_000);
/// One that waits for more than so many times that, and this, is late; and late are too many if they are more than one in so many.
const LATE: (Nanos, Nanos) = (4, 1_000_000);
const LATE_ONE_IN: u64 = 20;
/// A while, in ticks: the shortest waits of the last so many of them are what is compared with.
const WHILE_TICKS: u64 = 200;
/// How many of them.
const WHILES: usize = 6;

/// See the module.
#[derive(Debug)]
pub(crate) struct Pace {
    share: u64,
    ticks: u64,
    /// The tick in which it was last asked for by somebody who sends.
    used: Option<u64>,
    /// Of writers whose wait ended since the last tick: how many, how many of them late, and how long together.
    waited: (u64, u64, Nanos),
    /// The longest wait that is not late.
    late_from: Nanos,
    /// The shortest mean wait of each while, the last one under way.
    shortest: VecDeque<Nanos>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { share: FIRST, ticks: 0, used: None, waited: (0, 0, 0), late_from: Nanos::MAX, shortest: VecDeque::from([Nanos::MAX]) }
    }
}

impl Pace {
    /// A writer has waited for so long.
    pub(crate) fn waited(&mut self, nanos: Nanos) {
        let (writers, late, together) = self.waited;
        self.waited = (writers + 1, late + u64::from(nanos > self.late_from), together.saturating_add(nanos));
    }

    /// A tick has passed.
    pub(crate) fn tick(&mut self) {
        self.ticks += 1;
        let (writers, late, nanos) = std::mem::take(&mut self.waited);
        let mean = nanos.checked_div(writers);
        let usual = self.shortest.iter().copied().min().unwrap_or(Nanos::MAX);
        let longer = |(times, and): (Nanos, Nanos)| usual.saturating_mul(times).saturating_add(and);
        match mean {
            _ if self.used.is_none_or(|used| self.ticks - used > PAUSE_TICKS) => self.share = FIRST,
            Some(mean) if mean > longer(LONGER) || late * LATE_ONE_IN > writers => self.share = (self.share / 2).max(1),
            _ => self.share = (self.share + RISE).min(WHOLE),
        }
        self.late_from = longer(LATE);
        if let (Some(mean), Some(last)) = (mean, self.shortest.back_mut()) {
            *last = mean.min(*last);
        }
        if self.ticks.is_multiple_of(WHILE_TICKS) {
            self.shortest.push_back(Nanos::MAX);
            if self.shortest.len() > WHILES {
                self.shortest.pop_front();
            }
        }
    }

    /// What of a rate may be used now, in bytes per second, by somebody who sends.
    pub(crate) fn of(&mut self, bytes_per_second: u64) -> u64 {
        self.used = Some(self.ticks);
        let share = u128::from(bytes_per_second) * u128::from(self.share) / u128::from(WHOLE);
        (share as u64).max(FLOOR.min(bytes_per_second)).max(1)
    }
}

const SECOND: u128 = 1_000_000_000;

/// Whose turn it is at such a rate: each waits for those before it. The rate may be another one each time.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// What was taken and not paid by time yet, in bytes, as so many parts of a second.
    owed: u128,
    /// As of then.
    at: Nanos,
}

impl Turns {
    /// How long whoever comes next has to wait, if the rate stays as it is.
    pub(crate) fn left(&mut self, now: Nanos, bytes_per_second: u64) -> Nanos {
        let rate = u128::from(bytes_per_second.max(1));
        self.owed = self.owed.saturating_sub(u128::from(now.saturating_sub(self.at)) * rate);
        self.at = now;
        Nanos::try_from(self.owed.div_ceil(rate)).unwrap_or(Nanos::MAX)
    }

    /// So many bytes leave.
    pub(crate) fn take(&mut self, bytes: usize) {
        self.owed += bytes as u128 * SECOND;
    }

    /// How long so many bytes have to wait, which leave then.
    pub(crate) fn wait(&mut self, now: Nanos, bytes: usize, bytes_per_second: u64) -> Nanos {
        let wait = self.left(now, bytes_per_second);
        self.take(bytes);
        wait
    }
}

#[cfg(test)]
mod tests;
