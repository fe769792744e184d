//! Holds a stream to a rate. Time is an argument, so that it can be tested without any.

use super::units::Rate;
use std::time::Duration;

/// What was passed on since the start, and what the rate allows.
#[derive(Debug)]
pub(super) struct Pace {
    rate: Rate,
    passed: f64,
}

impl Pace {
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, passed: 0.0 }
    }

    /// Counts what was passed on, `elapsed` after the start; returns how long to wait before the next.
    pub(super) fn wait(&mut self, elapsed: Duration, records: u64, bytes: u64) -> Duration {
        let (n, per_s) = match self.rate {
            Rate::Records(per_s) => (records, per_s),
            Rate::Bytes(per_s) => (bytes, per_s),
        };
        self.passed += n as f64;
        // After a stall it goes on at the rate, instead of making up for what was missed in one burst of more than a second.
        self.passed = self.passed.max((elapsed.as_secs_f64() - 1.0) * per_s);
        let due = Duration::try_from_secs_f64(self.passed / per_s).unwrap_or(Duration::MAX);
        due.saturating_sub(elapsed)
    }
}
