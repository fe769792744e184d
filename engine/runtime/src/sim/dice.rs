//! Where all chance of a simulation comes from: one seed, one stream, one count of what chance did.

use super::{Draw, faults::FaultPlan};
use std::{collections::BTreeMap, ops::RangeInclusive};

/// The stream, the plan of faults and the coverage table.
#[derive(Debug)]
pub(super) struct Dice {
    draw: Draw,
    pub(super) plan: FaultPlan,
    coverage: BTreeMap<&'static str, u64>,
}

impl Dice {
    pub(super) fn new(seed: u64, plan: FaultPlan) -> Self {
        Self { draw: Draw::new(seed ^ 0x6d69_6c6c_706f_6e64), plan, coverage: BTreeMap::new() }
    }

    /// 64 fresh bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.draw.bits()
    }

    /// A number below `n`, which is not 0.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.draw.below(n)
    }

    /// An index into something of `len` elements, which is not 0.
    pub(super) fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// A number of the range, all alike.
    pub(super) fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (low, high) = range.into_inner();
        low + self.below(high - low + 1)
    }

    /// A number of the range, small ones far more often: each power of two alike.
    pub(super) fn skewed(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (low, high) = range.into_inner();
        let doublings = (high / low.max(1)).max(1).ilog2();
        let shift = self.below(u64::from(doublings) + 1) as u32;
        let top = (low.max(1) << shift).saturating_mul(2).min(high);
        self.within(low..=top.max(low))
    }

    /// True half of the time.
    pub(super) fn coin(&mut self) -> bool {
        self.bits() >> 63 == 1
    }

    /// True with probability `p`. Takes nothing from the stream when `p` is 0.
    pub(super) fn chance(&mut self, p: f64) -> bool {
        p > 0.0 && ((self.bits() >> 11) as f64) < p * (1_u64 << 53) as f64
    }

    /// True with probability `p`, and counted under `name` then.
    pub(super) fn fault(&mut self, name: &'static str, p: f64) -> bool {
        let happens = self.chance(p);
        if happens {
            self.count(name);
        }
        happens
    }

    /// Puts the elements into an order of the seed.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }

    /// One more of `name` in the coverage table.
    pub(super) fn count(&mut self, name: &'static str) {
        *self.coverage.entry(name).or_default() += 1;
    }

    pub(super) fn coverage(&self) -> &BTreeMap<&'static str, u64> {
        &self.coverage
    }
}
