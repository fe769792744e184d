//! Which partition a record goes to.

use std::{fmt, sync::Arc};

/// What a partitioner may look at.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The record's key.
    pub key: Option<&'a [u8]>,
    /// The record's value.
    pub value: Option<&'a [u8]>,
    /// The topic's partitions, at least 1.
    pub partitions: u32,
}

type Custom = dyn Fn(Choice<'_>) -> u32 + Send + Sync;

/// How records that name no partition are spread.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Partitioner {
    /// By the key's hash, the same as Kafka's Java client has it, so that both find a key in the same place. Records without a key
    /// stay with one partition for about a batch, then go on to another: few large batches instead of many small ones.
    #[default]
    Key,
    /// One after the other, whatever the key.
    RoundRobin,
    /// A function of one's own. What it returns is taken modulo the number of partitions.
    Custom(Arc<Custom>),
}

impl Partitioner {
    /// A function of one's own.
    ///
    /// ```
    /// use millpond_client::Partitioner;
    /// let by_length = Partitioner::custom(|choice| choice.key.map_or(0, |k| k.len() as u32));
    /// # let _ = by_length;
    /// ```
    pub fn custom(choose: impl Fn(Choice<'_>) -> u32 + Send + Sync + 'static) -> Self {
        Self::Custom(Arc::new(choose))
    }
}

impl fmt::Debug for Partitioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "Key",
            Self::RoundRobin => "RoundRobin",
            Self::Custom(_) => "Custom",
        })
    }
}

/// The partition of a key, as Kafka's default partitioner has it. `partitions` is at least 1.
#[must_use]
pub fn partition_of_key(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) as u32 & 0x7fff_ffff) % partitions.max(1)
}

/// The 32-bit MurmurHash2 with Kafka's seed.
#[must_use]
pub fn murmur2(bytes: &[u8]) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let mut h = 0x9747_b28c_u32 ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (n, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * n);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    (h ^ (h >> 15)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_kafkas_java_client() {
        for (bytes, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(bytes.as_bytes()), hash, "{bytes}");
        }
        assert_eq!(partition_of_key(b"foobar", 1), 0);
        assert_eq!(partition_of_key(b"21", 1000), ((-973_932_308_i32) as u32 & 0x7fff_ffff) % 1000);
    }
}
