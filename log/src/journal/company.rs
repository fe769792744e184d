//! Whether a small flush should wait for company. Pure.
//!
//! Whoever was acknowledged by the last flush will often append again at once. If the next flush leaves without them, clients fall into two camps that
//! take turns: while one camp's flush is under way the other's gathers, and every flush is half full. So a flush waits for as many entries
//! as the last one acknowledged, but not for longer than a flush takes, since both camps have gained from it by then; and if waiting brings
//! nobody, as with one client or with clients who come when they like, the next flushes do not wait, twice as many each time; half as many after each wait
//! that was worth while, so that chance, which brings somebody now and then, does not have every other flush wait.

use std::time::Duration;

/// A flush of this many bytes is not small: twice the bytes take about twice the time.
const BYTES_MAX: usize = 128 << 10;
/// The longest wait, in µs, however slow the disk is.
const WAIT_US_MAX: u64 = 1_000;
/// The shortest that is worth a timer, in µs.
const WAIT_US_MIN: u64 = 20;
/// At most so many flushes (a power of two) in a row do not wait after waits that brought nobody.
const SKIP_MAX: u32 = 256;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Company {
    /// Entries that were acknowledged by the last flush, less those that have come since.
    owed: u64,
    /// Time of a flush, in µs, smoothed.
    flush_us: u64,
    /// Flushes that will not wait.
    skip: u32,
    /// How many will not after the next wait that brings nobody.
    skip_next: u32,
}

impl Company {
    /// An entry has been appended. True if everybody who was waited for has come.
    pub(crate) fn came(&mut self) -> bool {
        let waited = self.owed == 1;
        self.owed = self.owed.saturating_sub(1);
        waited
    }

    /// A flush with so many entries is synced, which took so long.
    pub(crate) fn synced(&mut self, entries: u64, took_us: u64) {
        self.owed = entries;
        // An outlier counts as little as what it tells about the next one.
        let took_us = if self.flush_us == 0 { took_us } else { took_us.min(4 * self.flush_us + WAIT_US_MIN) };
        self.flush_us = (7 * self.flush_us + took_us).div_ceil(8);
    }

    /// How long a flush that has gathered so many bytes should wait, if it should.
    pub(crate) fn wait(&mut self, bytes: usize) -> Option<Duration> {
        let us = self.flush_us.min(WAIT_US_MAX);
        if bytes >= BYTES_MAX || self.owed == 0 || us < WAIT_US_MIN {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        Some(Duration::from_micros(us))
    }

    /// The wait is over: how many entries the flush had before, and how many it has now.
    pub(crate) fn waited(&mut self, before: u64, now: u64) {
        // Half of those who were waited for make it worth while.
        self.skip_next = if now - before >= self.owed.max(1) { self.skip_next / 2 } else { (2 * self.skip_next).clamp(1, SKIP_MAX) };
        self.skip = self.skip_next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clients who append again right after each ack, in a model where a flush takes `flush_us` and a client comes back after `back_us`.
    /// Returns entries per flush over the last of many flushes.
    fn closed_loop(clients: u64, flush_us: u64, back_us: u64) -> f64 {
        let mut company = Company::default();
        // Moments at which clients come.
        let mut coming: Vec<u64> = (0..clients).map(|n| n * flush_us / clients).collect();
        let (mut now, mut flushes, mut entries) = (0, 0_u64, 0_u64);
        let here = |coming: &[u64], now| coming.iter().filter(|at| **at <= now).count() as u64;
        for round in 0..2_000 {
            coming.sort_unstable();
            if coming[0] > now {
                now = coming[0];
                company.came();
            }
            let mut known = here(&coming, now);
            if let Some(wait) = company.wait(known as usize * 1100) {
                let (before, until) = (known, now + wait.as_micros() as u64);
                while company.owed > 0 && now < until {
                    let next = coming.iter().copied().filter(|at| *at > now).min().unwrap_or(u64::MAX);
                    now = next.min(until);
                    if next <= until {
                        known += 1;
                        company.came();
                    }
                }
                company.waited(before, known);
            }
            let gathered = here(&coming, now);
            coming.drain(..gathered as usize);
            // Those who come during the flush are there before it is synced.
            for _ in 0..here(&coming, now + flush_us) {
                company.came();
            }
            now += flush_us;
            company.synced(gathered, flush_us);
            coming.extend((0..gathered).map(|n| now + back_us + n));
            if round >= 1_000 {
                (flushes, entries) = (flushes + 1, entries + gathered);
            }
        }
        entries as f64 / flushes as f64
    }

    #[test]
    fn clients_who_come_back_soon_share_each_flush() {
        let shares: Vec<f64> =
            [(2, 100), (16, 100), (64, 200)].map(|(clients, back)| closed_loop(clients, 400, back) / clients as f64).into();
        assert!(shares.iter().all(|share| *share > 0.9), "{shares:?}");
    }

    #[test]
    fn nobody_waits_for_long_for_those_who_do_not_come() {
        let mut company = Company::default();
        let waits = (0..1_000).filter(|_| {
            company.synced(1, 100);
            let waits = company.wait(1_000).is_some();
            if waits {
                company.waited(1, 1);
            }
            waits
        });
        assert!(waits.count() < 15, "one client alone");
    }

    #[test]
    fn whoever_comes_by_chance_is_seldom_waited_for() {
        // While a flush waits or is written somebody comes by chance two times of five, as with 1,700 entries/s and 300 µs.
        let mut company = Company::default();
        let mut bits = 1_u64;
        let mut comes = || {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bits >> 33 < (1 << 31) * 2 / 5
        };
        let waits = (0..10_000).filter(|_| {
            company.synced(1, 300);
            let waits = company.wait(16_000).is_some();
            if waits {
                company.waited(1, 1 + u64::from(comes()));
            }
            waits
        });
        let waits = waits.count();
        assert!(waits < 300, "{waits} of 10,000");
    }

    #[test]
    fn large_flushes_and_quick_disks_do_not_wait() {
        let mut company = Company::default();
        company.synced(16, 400);
        assert_eq!(company.wait(BYTES_MAX), None);
        assert!(company.clone().wait(BYTES_MAX - 1).is_some());
        let mut quick = Company::default();
        quick.synced(16, WAIT_US_MIN / 2);
        assert_eq!(quick.wait(1_000), None);
    }
}
