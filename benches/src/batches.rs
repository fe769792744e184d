//! What is sent: records of a given shape, made from a seed before the run.
//!
//! Values come in three kinds. *Realistic* ones are JSON events of which zstd makes about a third, so that what a system
//! gains or loses by compression shows as it would in life.

use crate::args::{Codec, Distribution, Payload, WorkArgs};
use anyhow::{Result, ensure};
use rand::{Rng, RngCore, SeedableRng, rngs::SmallRng};
use std::fmt::Write;

/// Bytes of a record beside its value, about.
const RECORD_BYTES: u64 = 12;
/// Bytes of a key.
pub const KEY_BYTES: usize = 12;
/// Bytes of a stamp at the beginning of a batch's first value.
pub const STAMP_BYTES: usize = 8;
/// A pool holds so many bytes at most: it should stay in a cache of the CPU.
const POOL_BYTES: usize = 512 * 1024;
/// And so many batches.
const POOL_BATCHES_MAX: usize = 64;

/// What batches look like.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Records in a batch.
    pub records: usize,
    /// Different keys; 0 for none.
    pub keys: u64,
    /// Which key how often.
    pub distribution: Distribution,
    /// By whom batches are compressed.
    pub compression: Codec,
    /// What values look like.
    pub payload: Payload,
    /// Makes it reproducible.
    pub seed: u64,
}

/// One record.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Vec<u8>,
}

impl Shape {
    /// From the command line.
    ///
    /// # Errors
    /// If sizes make no sense.
    pub fn of(work: &WorkArgs) -> Result<Self> {
        ensure!(work.message_size >= 1 && work.message_size <= 8 << 20, "--message-size goes from 1 byte to 8 MiB");
        let key_bytes = if work.keys >= 1.0 { KEY_BYTES as u64 } else { 0 };
        let fit = (work.batch_bytes.saturating_sub(61) / (work.message_size + key_bytes + RECORD_BYTES)).max(1);
        let records = work.batch_records.unwrap_or(fit as usize);
        let bytes = records as u64 * (work.message_size + key_bytes + RECORD_BYTES);
        ensure!(bytes <= 15 << 20, "a batch of {bytes} bytes is more than a server takes");
        Ok(Self {
            value_bytes: work.message_size as usize,
            records,
            keys: work.keys as u64,
            distribution: work.key_distribution,
            compression: work.compression,
            payload: work.payload,
            seed: work.seed,
        })
    }

    /// One record per batch, without key.
    #[must_use]
    pub fn single(value_bytes: usize) -> Self {
        Self {
            value_bytes,
            records: 1,
            keys: 0,
            distribution: Distribution::Uniform,
            compression: Codec::None,
            payload: Payload::Realistic,
            seed: 1,
        }
    }

    /// Whether a stamp can be written into a finished batch.
    #[must_use]
    pub fn takes_stamps(&self) -> bool {
        self.compression == Codec::None && self.value_bytes >= STAMP_BYTES
    }

    /// How many different batches a connection sends in turns.
    #[must_use]
    pub fn pool(&self) -> usize {
        (POOL_BYTES / (self.records * self.value_bytes).max(1)).clamp(2, POOL_BATCHES_MAX)
    }

    /// The records of batch `number`.
    #[must_use]
    pub fn batch(&self, number: u64) -> Vec<Record> {
        let mut rng = SmallRng::seed_from_u64(self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ number);
        let mut picker = Picker::new(self.keys.max(1), self.distribution, self.seed ^ number);
        let record = |_| Record {
            key: (self.keys > 0).then(|| format!("key-{:08}", picker.pick() % 100_000_000).into_bytes()),
            value: value(self.payload, self.value_bytes, &mut rng),
        };
        (0..self.records).map(record).collect()
    }
}

fn value(kind: Payload, len: usize, rng: &mut SmallRng) -> Vec<u8> {
    let mut out = Vec::with_capacity(len + 160);
    match kind {
        Payload::Incompressible => {
            out.resize(len, 0);
            rng.fill_bytes(&mut out);
        }
        Payload::Compressible => {
            const LINE: &[u8] = b"the same line, again and again; ";
            out.extend(LINE.iter().cycle().take(len));
        }
        Payload::Realistic => {
            while out.len() < len {
                event(&mut out, rng);
            }
            out.truncate(len);
        }
    }
    out
}

/// One JSON event, about 200 bytes.
fn event(out: &mut Vec<u8>, rng: &mut SmallRng) {
    const KINDS: [&str; 4] = ["order.placed", "order.paid", "cart.updated", "page.viewed"];
    const CITIES: [&str; 6] = ["Lisbon", "Hamburg", "Osaka", "Nairobi", "Quito", "Montreal"];
    let mut text = String::with_capacity(256);
    let (kind, city) = (KINDS[rng.random_range(0..KINDS.len())], CITIES[rng.random_range(0..CITIES.len())]);
    let written = write!(
        text,
        r#"{{"id":"{:016x}{:08x}","type":"{kind}","city":"{city}","user":{},"price":{:.2},"at":17{:011},"trace":"{:016x}","ok":{}}}"#,
        rng.random::<u64>(),
        rng.random::<u32>(),
        rng.random_range(0..2_000_000_u32),
        rng.random_range(1.0..900.0_f64),
        rng.random_range(0..100_000_000_000_u64),
        rng.random::<u64>(),
        rng.random_bool(0.97),
    );
    debug_assert!(written.is_ok(), "writing into a string cannot fail");
    out.extend_from_slice(text.as_bytes());
}

/// Draws numbers below a bound as often as a distribution has it.
#[derive(Clone, Debug)]
pub struct Picker {
    bound: u64,
    distribution: Distribution,
    next: u64,
    rng: SmallRng,
}

impl Picker {
    /// Numbers below `bound`, which is at least 1.
    #[must_use]
    pub fn new(bound: u64, distribution: Distribution, seed: u64) -> Self {
        Self { bound: bound.max(1), distribution, next: seed % bound.max(1), rng: SmallRng::seed_from_u64(seed) }
    }

    /// The next one.
    pub fn pick(&mut self) -> u64 {
        match self.distribution {
            Distribution::Sequential => {
                self.next = if self.next + 1 < self.bound { self.next + 1 } else { 0 };
                self.next
            }
            Distribution::Uniform => self.rng.random_range(0..self.bound),
            // The continuous distribution of density 1/x over [1, bound + 1), rounded down: within a few percent of Zipf's.
            Distribution::Zipf => {
                let x = ((self.bound + 1) as f64).powf(self.rng.random::<f64>());
                (x as u64).clamp(1, self.bound) - 1
            }
        }
    }
}

#[cfg(test)]
mod tests;
