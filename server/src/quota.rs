//! How much clients may send and fetch: a token bucket per user, client id, or both, and direction, on one core.
//!
//! A request is always served; what it cost is taken afterwards, and the answer tells the client how long to stay silent
//! (`throttle_ms`), as in Kafka. The front then reads nothing from the connection for as long. A bucket holds one second
//! of the rate, so bursts up to that pass; debts are paid by waiting, at most [`THROTTLE_MS_MAX`] at a time.
//!
//! Which quota holds is Kafka's order ([`Quotas::rate`]), for each direction by itself. Whoever it is of has one bucket: the clients of a user share
//! that user's, and so do the connections of a client id.
//!
//! The table is bounded: clients without limits have no bucket, and when [`CLIENTS_MAX`] have one, those that owe nothing
//! are forgotten (which costs them nothing). If all owe, newcomers share one bucket until there is room.

use crate::catalog::{Quota, Whose};
use std::collections::BTreeMap;

/// Longest silence asked for at once, in ms.
pub const THROTTLE_MS_MAX: u32 = 30_000;
/// Most buckets.
pub const CLIENTS_MAX: usize = 10_000;

/// What bytes are counted against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Bytes that the client sent.
    Produce,
    /// Bytes that the client was sent.
    Fetch,
}

/// All limits and buckets of one core. Both are kept by [`key`], so that looking one up makes nothing.
#[derive(Debug, Default)]
pub struct Quotas {
    limits: BTreeMap<String, Quota>,
    buckets: BTreeMap<String, Buckets>,
    shared: Buckets,
    /// The key that is looked up.
    key: String,
    /// When the table was last gone through for clients to forget: once a second at most, since it is long then.
    forgot_ns: Option<u64>,
}

/// Writes whose it is: no name of a user has a zero in it, so no two are written alike.
fn key(out: &mut String, user: Option<&str>, client: Option<&str>) {
    out.clear();
    for (name, end) in [(user, "\0"), (client, "")] {
        if let Some(name) = name {
            out.push('=');
            out.push_str(name);
        }
        out.push_str(end);
    }
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
    /// The rate of the last charge, in bytes per second.
    rate: u64,
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
        self.rate = rate;
        // One second of the rate is the burst that is free.
        let over = self.owed.saturating_sub(u128::from(rate) * SECOND);
        let wait_ms = over.div_ceil(u128::from(rate) * (SECOND / 1000));
        wait_ms.min(u128::from(THROTTLE_MS_MAX)) as u32
    }

    fn owes(&self, now_ns: u64) -> bool {
        self.owed_at(now_ns, self.rate) > 0
    }
}

impl Quotas {
    /// No limits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a quota. Debts stay. Called with every [`crate::catalog::Effect::Quota`].
    pub fn set(&mut self, whose: &Whose, quota: Quota) {
        key(&mut self.key, whose.user.as_deref(), whose.client.as_deref());
        if quota.is_unlimited() {
            self.limits.remove(&self.key);
        } else {
            self.limits.insert(self.key.clone(), quota);
        }
    }

    /// These are all the quotas there are. Debts stay.
    pub fn set_all<'a>(&mut self, all: impl Iterator<Item = (&'a Whose, Quota)>) {
        self.limits.clear();
        all.for_each(|(whose, quota)| self.set(whose, quota));
    }

    /// Counts `bytes` of a user's client at `now_ns` (monotonic) and says for how many ms it must be silent: 0 mostly.
    pub fn charge(&mut self, now_ns: u64, (user, client): (&str, &str), direction: Direction, bytes: u64) -> u32 {
        if self.limits.is_empty() {
            return 0;
        }
        let Some((rate, by_user, by_client)) = self.rate(user, client, direction) else { return 0 };
        key(&mut self.key, by_user.then_some(user), by_client.then_some(client));
        if !self.buckets.contains_key(&self.key) && self.buckets.len() >= CLIENTS_MAX {
            self.forget(now_ns);
        }
        let room = self.buckets.len() < CLIENTS_MAX;
        let buckets = match self.buckets.get_mut(&self.key) {
            Some(buckets) => buckets,
            None if room => self.buckets.entry(self.key.clone()).or_default(),
            None => &mut self.shared,
        };
        let bucket = match direction {
            Direction::Produce => &mut buckets.produce,
            Direction::Fetch => &mut buckets.fetch,
        };
        bucket.charge(now_ns, rate, bytes)
    }

    /// Buckets that are kept.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.buckets.len()
    }

    /// Bytes per second, and whether they are counted by user and by client id; nothing, if there is no limit. It is the first of these that has one, as in
    /// Kafka (KIP-55): the client id of the user, any client id of the user, the user; the same of any user; the client id, any client id.
    fn rate(&mut self, user: &str, client: &str, direction: Direction) -> Option<(u64, bool, bool)> {
        let order = [
            (Some(user), Some(client)),
            (Some(user), Some("")),
            (Some(user), None),
            (Some(""), Some(client)),
            (Some(""), Some("")),
            (Some(""), None),
            (None, Some(client)),
            (None, Some("")),
        ];
        order.into_iter().find_map(|(user, client)| {
            key(&mut self.key, user, client);
            let quota = self.limits.get(&self.key)?;
            let rate = match direction {
                Direction::Produce => quota.produce_bytes_per_s,
                Direction::Fetch => quota.fetch_bytes_per_s,
            };
            (rate > 0).then_some((rate, user.is_some(), client.is_some()))
        })
    }

    fn forget(&mut self, now_ns: u64) {
        if self.forgot_ns.is_some_and(|then| now_ns < then.saturating_add(SECOND as u64)) {
            return;
        }
        self.forgot_ns = Some(now_ns);
        self.buckets.retain(|_, b| b.produce.owes(now_ns) || b.fetch.owes(now_ns));
    }
}

#[cfg(test)]
mod tests;
