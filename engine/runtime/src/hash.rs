//! Hash maps whose order is the same in every run.
//!
//! std's `HashMap` is keyed anew in each process, so a loop over one would make two runs of one seed differ.
//! These aliases fix the hasher: Fx, as rustc uses it, one multiplication per word. It does not resist an
//! adversary who chooses keys so that they collide: maps keyed by strangers' bytes are `BTreeMap`s.
//! The order of iteration is still arbitrary: sort before anything leaves the process.

use std::hash::{BuildHasherDefault, Hasher};

/// A map with a fixed hasher. Keys must be our own numbers, not strangers' bytes.
#[expect(clippy::disallowed_types, reason = "with a fixed hasher the order is the same in every run")]
pub type FxHashMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<FxHasher>>;

/// A set with a fixed hasher. Keys must be our own numbers, not strangers' bytes.
#[expect(clippy::disallowed_types, reason = "with a fixed hasher the order is the same in every run")]
pub type FxHashSet<K> = std::collections::HashSet<K, BuildHasherDefault<FxHasher>>;

/// Odd, its bits without a pattern: the golden ratio of 2^64 as splitmix64 has it.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// The hasher of [`FxHashMap`]. The same bytes give the same hash on every machine and in every version.
#[derive(Clone, Copy, Debug, Default)]
pub struct FxHasher(u64);

impl FxHasher {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(MULTIPLIER);
    }
}

impl Hasher for FxHasher {
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.add(u64::from_le_bytes(word.try_into().expect("chunks of 8")));
        }
        let rest = words.remainder();
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            // The length keeps "a" and "a\0" apart.
            self.add(u64::from_le_bytes(last));
            self.add(rest.len() as u64);
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.add(u64::from(n));
    }

    fn write_u16(&mut self, n: u16) {
        self.add(u64::from(n));
    }

    fn write_u32(&mut self, n: u32) {
        self.add(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        self.add(n);
    }

    fn write_usize(&mut self, n: usize) {
        self.add(n as u64);
    }

    fn finish(&self) -> u64 {
        // The product's high bits are the good ones and the table takes its bucket from the low ones.
        self.0.rotate_left(26)
    }
}

#[cfg(test)]
mod tests;
