//! How long to wait before another try: longer each time, with chance in it, so that many clients do not come back at once.

use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::{sync::Mutex, time::Duration};

/// See the module.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    max: Duration,
    dice: Mutex<SmallRng>,
}

impl Backoff {
    /// About `first` before the second try, twice as long before each further one, never longer than `max`.
    pub(crate) fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, dice: Mutex::new(SmallRng::from_os_rng()) }
    }

    /// The wait after `failures` tries have failed: between half of it and all of it.
    pub(crate) fn after(&self, failures: u32) -> Duration {
        if failures == 0 {
            return Duration::ZERO;
        }
        let whole = self.first.saturating_mul(1 << (failures - 1).min(16)).min(self.max);
        let part = self.dice.lock().expect("no code panics while it holds this lock").random_range(0.5..=1.0);
        whole.mul_f64(part)
    }

    /// A random number, never 0.
    pub(crate) fn random_number(&self) -> u64 {
        self.dice.lock().expect("no code panics while it holds this lock").random_range(1..=u64::MAX)
    }

    /// A random name of 128 bits.
    pub(crate) fn random_id(&self) -> String {
        format!("{:032x}", self.dice.lock().expect("no code panics while it holds this lock").random::<u128>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_within_their_bounds() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        assert_eq!(backoff.after(0), Duration::ZERO);
        for (failures, whole) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (60, 1000)] {
            for _ in 0..50 {
                let wait = backoff.after(failures);
                let whole = Duration::from_millis(whole);
                assert!(whole / 2 <= wait && wait <= whole, "{wait:?} after {failures} failures");
            }
        }
    }
}
