//! A histogram of durations with fixed bounds: cheap to count into, cheap to copy, and the same everywhere.

/// Upper bounds of the buckets in ns, each included; a last bucket has no bound.
pub const BOUNDS_NS: [u64; 18] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
];

/// Durations that were observed, by bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    counts: [u64; BOUNDS_NS.len() + 1],
    sum_ns: u64,
}

impl Latency {
    /// Counts one duration.
    pub fn observe(&mut self, ns: u64) {
        self.add(ns, 1);
    }

    /// Counts `n` durations of about `ns` each: for histograms with other bounds, bucket by bucket.
    pub fn add(&mut self, ns: u64, n: u64) {
        let bucket = BOUNDS_NS.partition_point(|bound| *bound < ns);
        self.counts[bucket] += n;
        self.sum_ns = self.sum_ns.saturating_add(ns.saturating_mul(n));
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together, in ns.
    #[must_use]
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns
    }

    /// Upper bound in seconds and count of each bucket; the last bound is infinite.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = BOUNDS_NS.iter().map(|ns| *ns as f64 / 1e9).chain(std::iter::once(f64::INFINITY));
        bounds.zip(self.counts)
    }
}
