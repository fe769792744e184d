//! Latencies and their summary, and what happened over time.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Longest latency told apart, in ns; anything longer counts as this.
const LATENCY_NS_MAX: u64 = 600_000_000_000;
/// Slots of a series at most.
const SLOTS_MAX: u32 = 120;
/// A run without a planned end is counted for at most so long.
const OPEN_ENDED: Duration = Duration::from_secs(24 * 3600);
/// A slot is at least this long.
const SLOT_MIN: Duration = Duration::from_millis(100);

/// A histogram of latencies in nanoseconds, to three digits.
#[must_use]
pub fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("bounds that hdrhistogram takes")
}

/// Counts one latency.
pub fn record(histogram: &mut Histogram<u64>, latency: Duration) {
    histogram.saturating_record(latency.as_nanos().try_into().unwrap_or(u64::MAX));
}

/// A summary of latencies, all in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many.
    pub count: u64,
    /// Mean.
    pub mean_ns: f64,
    /// Smallest.
    pub min_ns: u64,
    /// Half were at most this.
    pub p50_ns: u64,
    /// 90 %.
    pub p90_ns: u64,
    /// 99 %.
    pub p99_ns: u64,
    /// 99.9 %.
    pub p999_ns: u64,
    /// 99.99 %.
    pub p9999_ns: u64,
    /// Largest.
    pub max_ns: u64,
    /// The whole curve: (share of 1, ns), dense towards 1.
    pub curve: Vec<(f64, u64)>,
}

impl Latency {
    /// Sums a histogram up.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |quantile| histogram.value_at_quantile(quantile);
        let curve = histogram.iter_quantiles(4).map(|step| (step.quantile(), step.value_iterated_to())).collect();
        Self {
            count: histogram.len(),
            mean_ns: histogram.mean(),
            min_ns: histogram.min(),
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            p9999_ns: at(0.9999),
            max_ns: histogram.max(),
            curve,
        }
    }
}

/// One slot of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// Its beginning, in seconds from where measuring began.
    pub at_s: f64,
    /// Its length, in seconds.
    pub len_s: f64,
    /// Requests that ended in it.
    pub requests: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Median latency of those, in ns.
    pub p50_ns: u64,
    /// And their 99th percentile, in ns.
    pub p99_ns: u64,
}

struct Counting {
    slot: Slot,
    latency: Histogram<u64>,
}

impl Counting {
    fn new() -> Self {
        let latency = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 2).expect("bounds that hdrhistogram takes");
        Self { slot: Slot::default(), latency }
    }

    fn add(&mut self, other: &Self) {
        self.slot.requests += other.slot.requests;
        self.slot.records += other.slot.records;
        self.slot.bytes += other.slot.bytes;
        self.latency.add(&other.latency).expect("histograms of the same bounds");
    }
}

/// The window that is measured, and what is counted in it. One per thread of the load generator, merged at the end.
pub struct Recorder {
    from: Instant,
    to: Instant,
    slot_len: Duration,
    slots: Vec<Counting>,
    latency: Histogram<u64>,
    total: Totals,
}

/// What was counted inside the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Requests that ended well.
    pub requests: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes in them, as batches on the wire.
    pub bytes: u64,
}

impl Totals {
    /// Both together.
    pub fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.records += other.records;
        self.bytes += other.bytes;
    }
}

impl Recorder {
    /// Measures from `from` on, for `length`.
    #[must_use]
    pub fn new(from: Instant, length: Duration) -> Self {
        let slot_len = (length / SLOTS_MAX).max(SLOT_MIN);
        Self { from, to: from + length, slot_len, slots: Vec::new(), latency: latencies(), total: Totals::default() }
    }

    /// Measures from `from` on, until nothing comes any more. Slots grow as time goes on.
    #[must_use]
    pub fn open_ended(from: Instant) -> Self {
        Self { slot_len: SLOT_MIN, ..Self::new(from, OPEN_ENDED) }
    }

    /// Makes slots twice as long, each out of two.
    fn fold(&mut self) {
        self.slot_len *= 2;
        let mut old = std::mem::take(&mut self.slots).into_iter();
        while let Some(mut first) = old.next() {
            if let Some(second) = old.next() {
                first.add(&second);
            }
            self.slots.push(first);
        }
    }

    /// The slot of a moment so long after the beginning; makes those before it.
    fn slot(&mut self, since: Duration) -> &mut Counting {
        let mut at = (since.as_nanos() / self.slot_len.as_nanos()) as usize;
        while at >= SLOTS_MAX as usize {
            self.fold();
            at /= 2;
        }
        while self.slots.len() <= at {
            self.slots.push(Counting::new());
        }
        &mut self.slots[at]
    }

    /// Beginning of the window.
    #[must_use]
    pub fn from(&self) -> Instant {
        self.from
    }

    /// End of the window.
    #[must_use]
    pub fn to(&self) -> Instant {
        self.to
    }

    /// A request ended at `now`; throughput counts it if that is inside the window.
    pub fn ended(&mut self, now: Instant, latency: Duration, records: u64, bytes: u64) {
        let Some(since) = now.checked_duration_since(self.from) else { return };
        if now >= self.to {
            return;
        }
        self.total.add(Totals { requests: 1, records, bytes });
        let slot = self.slot(since);
        slot.slot.requests += 1;
        slot.slot.records += records;
        slot.slot.bytes += bytes;
        record(&mut slot.latency, latency);
    }

    /// A request that was to begin at `intended` took so long; latency counts it if it was to begin inside the window.
    pub fn took(&mut self, intended: Instant, latency: Duration) {
        if intended >= self.from && intended < self.to {
            record(&mut self.latency, latency);
        }
    }

    /// Adds what another thread counted in the same window.
    pub fn merge(&mut self, other: &Self) {
        self.total.add(other.total);
        self.latency.add(&other.latency).expect("histograms of the same bounds");
        while self.slot_len < other.slot_len {
            self.fold();
        }
        for (n, theirs) in other.slots.iter().enumerate() {
            self.slot(other.slot_len * n as u32).add(theirs);
        }
    }

    /// What was counted.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.total
    }

    /// All latencies.
    #[must_use]
    pub fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    /// What happened over time.
    #[must_use]
    pub fn series(&self) -> Vec<Slot> {
        let length = self.to - self.from;
        let sum = |(n, counting): (usize, &Counting)| {
            let at = self.slot_len * n as u32;
            Slot {
                at_s: at.as_secs_f64(),
                len_s: self.slot_len.min(length.saturating_sub(at)).as_secs_f64(),
                p50_ns: counting.latency.value_at_quantile(0.5),
                p99_ns: counting.latency.value_at_quantile(0.99),
                ..counting.slot.clone()
            }
        };
        let planned = if length < OPEN_ENDED { length.as_nanos().div_ceil(self.slot_len.as_nanos()) as usize } else { 0 };
        let none = Counting::new();
        let quiet = std::iter::repeat_n(&none, planned.saturating_sub(self.slots.len()));
        self.slots.iter().chain(quiet).enumerate().map(sum).collect()
    }
}

/// The median of some figures; 0 of none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

#[cfg(test)]
mod tests;
