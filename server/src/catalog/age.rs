//! How old a node's disk is, so that one that was put back (from a copy, a snapshot of the machine) is told from the one that the cluster knows.
//!
//! A replica that comes back with less than it has promised is worse than none: a majority may have counted on what is missing. So a node keeps a count on its disk
//! that goes up at each start and every so often while it runs, and the catalog remembers the newest that it was told. Whoever comes with an older one is refused,
//! by the catalog's leader and by every peer. What was put back within [`AGES_EVERY`] of its making, and without a start in between, is not told apart.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A disk's count goes up so often while its node runs.
pub const AGES_EVERY: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u64)", into = "(u64, u64)")]
pub struct Age {
    /// The count on the disk.
    pub count: u64,
    /// The start that has reached it, a number that looks like chance: two that were begun on copies of one disk reach the same count.
    pub start: u64,
}

impl Age {
    /// Whether a disk of this age may be the one that was known to have come to `known`.
    #[must_use]
    pub fn may_be(self, known: Self) -> bool {
        self.count > known.count || self == known
    }
}

impl From<(u64, u64)> for Age {
    fn from((count, start): (u64, u64)) -> Self {
        Self { count, start }
    }
}

impl From<Age> for (u64, u64) {
    fn from(age: Age) -> Self {
        (age.count, age.start)
    }
}
