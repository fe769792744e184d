//! How much a client may send and fetch: a token bucket per client id and direction, on one core.
//!
//! A request is always served; what it cost is taken afterwards, and the answer tells the client how long to stay silent
//! (`throttle_ms`), as in Kafka. The front then reads nothing from the connection for as long. A bucket holds one second
//! of the rate, so bursts up to that pass; debts are paid by waiting, at most [`THROTTLE_MS_MAX`] at a time.
//!
//! The table is bounded: clients without limits have no bucket, and when [`CLIENTS_MAX`] have one, those that owe nothing
//! are forgotten (which costs them nothing). If all owe, newcomers share one bucket until there is room.

use crate::catalog::Quota;
use std::collections::BTreeMap;

/// Longest silence asked for at once, in ms.
pub const THROTTLE_MS_MAX: u32 = 30_000;
/// Most clients with a bucket of their own.
pub const CLIENTS_MAX: usize = 10_000;

/// What bytes are counted against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Bytes that the client sent.
    Produce,
    /// Bytes that the client was sent.
    Fetch,
}

/// All limits and buckets of one core.
#[derive(Debug, Default)]
pub struct Quotas {
    limits: BTreeMap<String, Quota>,
    buckets: BTreeMap<String, Buckets>,
    shared: Buckets,
    /// When the table was last gone through for clients to forget: once a second at most, since it is long then.
    forgot_ns: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Buckets {
    produce: Bucket,
    fetch: Bucket,
}

/// What is owed, in bytes × ns per second, so that no rounding is lost; falls by `rate` per ns.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    owed: u128,
    at_ns: u64,
}

const SECOND: u128 = 1_000_000_000;

impl Bucket {
    fn owed_at(&self, now_ns: u64, rate: u64) -> u128 {
        let paid = u128::from(now_ns.saturating_sub(self.at_ns)) * u128::from(rate);
        self.owed.saturating_sub(paid)
    }

    fn charge(&mut self, now_ns: u64, rate: u64, bytes: u64) -> u32 {
        self.owed = self.owed_at(now_ns, rate) + u128::from(bytes) * SECOND;
        self.at_ns = now_ns.max(self.at_ns);
        // One second of the rate is the burst that is free.
        let over = self.owed.saturating_sub(u128::from(rate) * SECOND);
        let wait_ms = over.div_ceil(u128::from(rate) * (SECOND / 1000));
        wait_ms.min(u128::from(THROTTLE_MS_MAX)) as u32
    }
}

impl Quotas {
    /// No limits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the quota of a client id; the empty id is the default for all that have none. Debts stay.
    /// Called with every [`crate::catalog::Effect::Quota`].
    pub fn set(&mut self, client_id: &str, quota: Quota) {
        if quota.is_unlimited() {
            self.limits.remove(client_id);
        } else {
            self.limits.insert(client_id.to_owned(), quota);
        }
    }

    /// Counts `bytes` of a client at `now_ns` (monotonic) and says for how many ms it must be silent: 0 mostly.
    pub fn charge(&mut self, now_ns: u64, client_id: &str, direction: Direction, bytes: u64) -> u32 {
        if self.limits.is_empty() {
            return 0;
        }
        let rate = self.rate(client_id, direction);
        if rate == 0 {
            return 0;
        }
        if !self.buckets.contains_key(client_id) && self.buckets.len() >= CLIENTS_MAX {
            self.forget(now_ns);
        }
        let room = self.buckets.len() < CLIENTS_MAX;
        let buckets = match self.buckets.get_mut(client_id) {
            Some(buckets) => buckets,
            None if room => self.buckets.entry(client_id.to_owned()).or_default(),
            None => &mut self.shared,
        };
        let bucket = match direction {
            Direction::Produce => &mut buckets.produce,
            Direction::Fetch => &mut buckets.fetch,
        };
        bucket.charge(now_ns, rate, bytes)
    }

    /// Clients with a bucket of their own.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.buckets.len()
    }

    /// Bytes per second; 0 for no limit.
    fn rate(&self, client_id: &str, direction: Direction) -> u64 {
        let quota = self.limits.get(client_id).or_else(|| self.limits.get("")).copied().unwrap_or_default();
        match direction {
            Direction::Produce => quota.produce_bytes_per_s,
            Direction::Fetch => quota.fetch_bytes_per_s,
        }
    }

    fn forget(&mut self, now_ns: u64) {
        if self.forgot_ns.is_some_and(|then| now_ns < then.saturating_add(SECOND as u64)) {
            return;
        }
        self.forgot_ns = Some(now_ns);
        let mut buckets = std::mem::take(&mut self.buckets);
        buckets.retain(|client, b| {
            b.produce.owed_at(now_ns, self.rate(client, Direction::Produce)) > 0
                || b.fetch.owed_at(now_ns, self.rate(client, Direction::Fetch)) > 0
        });
        self.buckets = buckets;
    }
}

#[cfg(test)]
mod tests;
