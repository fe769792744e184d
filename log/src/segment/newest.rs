//! Which record of each key is the newest, within a bound of memory. Called by [`super::compact`].
//!
//! Keys are told apart by 128 bits of a hash with a secret of the run's own, so that nobody can choose keys that collide.

use super::{
    ahead::run_len,
    chunk::entries,
    compact::{Budget, is_clean, open},
    group::{GroupSegments, Sealed},
};
use crate::{entry::EntryKind, error::Result};
use bytes::Bytes;
use millpond_batch::{DecompressLimits, records};
use millpond_runtime::{Offset, Rt};
use std::slice;

/// Keys that one run remembers at a time: 64 MiB of them.
pub(super) const KEYS_MAX: usize = 2_500_000;
/// Raw bytes that are read at a time.
pub(super) const READ_BYTES: usize = 1024 * 1024;

/// The secret hash of keys.
#[derive(Clone, Copy)]
struct Digest {
    basis: u128,
}

impl Digest {
    /// FNV-1a with 128 bits, from a basis that nobody outside knows.
    fn of(self, key: &[u8]) -> u128 {
        let step = |hash: u128, byte: &u8| (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        key.iter().fold(self.basis, step)
    }
}

/// A table of keys and offsets that never grows: open addressing, at most nine tenths full.
struct Keys {
    /// Hash, and the offset plus one; 0 is a free place.
    slots: Vec<(u64, u64, u64)>,
    len: usize,
    keys_max: usize,
}

impl Keys {
    fn new(keys_max: usize) -> Self {
        let keys_max = keys_max.max(1);
        Self { slots: vec![(0, 0, 0); keys_max + keys_max / 9 + 1], len: 0, keys_max }
    }

    /// Where a key is, or would be.
    fn place(&self, digest: u128) -> usize {
        let (high, low) = ((digest >> 64) as u64, digest as u64);
        let n = self.slots.len() as u64;
        let mut at = ((u128::from(high.wrapping_mul(0x9e37_79b9_7f4a_7c15)) * u128::from(n)) >> 64) as usize;
        while self.slots[at].2 != 0 && (self.slots[at].0, self.slots[at].1) != (high, low) {
            at = (at + 1) % self.slots.len();
        }
        at
    }

    /// Remembers that a key has a record at `offset`; false if there is no room for another key.
    fn insert(&mut self, digest: u128, offset: u64) -> bool {
        let at = self.place(digest);
        if self.slots[at].2 == 0 {
            if self.len == self.keys_max {
                return false;
            }
            self.len += 1;
        }
        self.slots[at] = ((digest >> 64) as u64, digest as u64, self.slots[at].2.max(offset + 1));
        true
    }

    /// Whether a key has a record behind `offset`.
    fn supersedes(&self, digest: u128, offset: u64) -> bool {
        self.slots[self.place(digest)].2 > offset + 1
    }
}

/// What is known after looking through the segments.
enum Found {
    /// The newest offset of every key of the dirty segments.
    Keys(Keys),
    /// A bit for each record with a key, in the order of the log: it is superseded.
    Marks(Vec<u64>),
}

/// See the module.
pub(super) struct Newest {
    digest: Digest,
    found: Found,
}

/// A record with a key.
struct Keyed {
    digest: u128,
    offset: u64,
    /// It belongs to a transaction that may have been aborted: it supersedes nothing.
    uncertain: bool,
}

impl Newest {
    /// Looks through the dirty ones of `chosen`. Also how many of `chosen`, from the first on, the answer is good for: all of
    /// them, or as many as the budget allows, but one dirty one at least.
    pub(super) async fn find<R: Rt>(group: &GroupSegments<R>, chosen: &[Sealed], budget: Budget) -> Result<(Self, usize)> {
        let rt = group.handles().rt();
        let digest = Digest { basis: u128::from(rt.rand()) << 64 | u128::from(rt.rand()) };
        let mut keys = Keys::new(budget.keys_max);
        let dirty = chosen.iter().enumerate().filter(|(_, s)| !is_clean(s));
        for (done, (n, sealed)) in dirty.enumerate() {
            let fits = match walk(group, sealed, digest, |k| k.uncertain || keys.insert(k.digest, k.offset)).await {
                // Trimmed away meanwhile: it supersedes nothing that is left.
                Err(_) if !group.has(slice::from_ref(sealed)) => continue,
                walked => walked?,
            };
            if !fits {
                if done > 0 {
                    // What is remembered of this one is true all the same.
                    return Ok((Self { digest, found: Found::Keys(keys) }, n));
                }
                drop(keys);
                let found = Found::Marks(in_rounds(group, &chosen[..=n], digest, budget).await?);
                return Ok((Self { digest, found }, n + 1));
            }
        }
        Ok((Self { digest, found: Found::Keys(keys) }, chosen.len()))
    }

    /// Whether segments that go leave the answer good for the others: marks count the records of all.
    pub(super) fn outlives_a_trim(&self) -> bool {
        matches!(self.found, Found::Keys(_))
    }

    /// Whether a record stays: the one at `offset` with `key`, which is number `ordinal` of the records with keys.
    pub(super) fn keeps(&self, ordinal: u64, key: &[u8], offset: Offset) -> bool {
        match &self.found {
            Found::Keys(keys) => !keys.supersedes(self.digest.of(key), offset.0),
            Found::Marks(marks) => marks.get((ordinal / 64) as usize).is_none_or(|bits| bits >> (ordinal % 64) & 1 == 0),
        }
    }
}

/// Marks what the last of `segments`, the only dirty one, supersedes, with a share of the keys in memory at a time.
async fn in_rounds<R: Rt>(group: &GroupSegments<R>, segments: &[Sealed], digest: Digest, budget: Budget) -> Result<Vec<u64>> {
    let Some(dirty) = segments.last() else { return Ok(Vec::new()) };
    let mut marks: Vec<u64> = Vec::new();
    let (mut shares, mut share) = (2_u128, 0_u128);
    while share < shares {
        let mine = |k: &Keyed| k.digest % shares == share;
        let mut keys = Keys::new(budget.keys_max);
        if !walk(group, dirty, digest, |k| k.uncertain || !mine(k) || keys.insert(k.digest, k.offset)).await? {
            // Marks that were made are true; smaller shares find the others.
            (shares, share) = (shares * 2, 0);
            continue;
        }
        let mut ordinal = 0_usize;
        for sealed in segments {
            walk(group, sealed, digest, |k| {
                if mine(k) && keys.supersedes(k.digest, k.offset) {
                    if marks.len() <= ordinal / 64 {
                        marks.resize(ordinal / 64 + 1, 0);
                    }
                    marks[ordinal / 64] |= 1 << (ordinal % 64);
                }
                ordinal += 1;
                true
            })
            .await?;
        }
        share += 1;
    }
    Ok(marks)
}

/// Shows all records with keys of a segment until `see` answers false; that answer.
async fn walk<R: Rt>(group: &GroupSegments<R>, sealed: &Sealed, digest: Digest, mut see: impl FnMut(&Keyed) -> bool) -> Result<bool> {
    let rt = group.handles().rt();
    let limits = group.handles().unpack_limits();
    let opened = open(group, sealed).await?;
    let mut rest = &opened.index[..];
    while !rest.is_empty() {
        let (run, behind) = rest.split_at(run_len(rest, 0, READ_BYTES));
        group.must_have(slice::from_ref(sealed))?;
        for raw in opened.file.read_blocks(rt, run).await? {
            for (_, batch) in entries(&raw).flatten().filter(|(kind, _)| *kind == EntryKind::Batch) {
                if !keyed(&batch, digest, limits).iter().all(&mut see) {
                    return Ok(false);
                }
            }
            rt.yield_now().await;
        }
        rest = behind;
    }
    Ok(true)
}

/// The records with keys of a batch: none of a marker, and none of a batch that cannot be parsed to its end.
fn keyed(batch: &Bytes, digest: Digest, limits: DecompressLimits) -> Vec<Keyed> {
    let Ok(all) = records(batch, limits) else { return Vec::new() };
    if all.header().is_control() {
        return Vec::new();
    }
    let uncertain = all.header().is_transactional();
    let mut found = Vec::with_capacity(all.header().count.min(4096) as usize);
    for record in all {
        let Ok(record) = record else { return Vec::new() };
        if let Some(key) = &record.key {
            found.push(Keyed { digest: digest.of(key), offset: record.offset, uncertain });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn keys_are_a_map_until_they_are_full(rows in proptest::collection::vec((0..60_u64, 0..1000_u64), 0..200), keys_max in 1..50_usize) {
            let digest = Digest { basis: 7 };
            let mut keys = Keys::new(keys_max);
            let mut model: BTreeMap<u64, u64> = BTreeMap::new();
            for (key, offset) in rows {
                let full = model.len() == keys_max && !model.contains_key(&key);
                prop_assert_eq!(keys.insert(digest.of(&key.to_le_bytes()), offset), !full);
                if !full {
                    let newest = model.entry(key).or_insert(offset);
                    *newest = (*newest).max(offset);
                }
                for key in 0..60_u64 {
                    for offset in [0, 500, 999] {
                        let expected = model.get(&key).is_some_and(|newest| *newest > offset);
                        prop_assert_eq!(keys.supersedes(digest.of(&key.to_le_bytes()), offset), expected);
                    }
                }
            }
        }
    }
}
