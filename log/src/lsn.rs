//! Places in the journal.

use std::fmt;

/// The place of one frame in the journal of a core: 1 is the first since the journal was opened, 0 stands before it.
/// Dense and increasing while the journal is open; not comparable over a restart, since whatever recovery found
/// is on stable media by then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The place after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
