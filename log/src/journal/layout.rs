//! What fits where in the journal's files. Pure.
//!
//! Entries leave a reserve at the end of all capacity to notes, and notes in general leave half of it to those that help
//! to empty the journal (settled, dropped, retention): a journal that is full can always be emptied. Should even that be used up,
//! a file more than configured is made, which neither entries nor other notes may touch.

use super::format::FIRST_FLUSH;

/// Who asks for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Data: leaves the reserve alone.
    Entry,
    /// A note: leaves half of the reserve alone.
    Note,
    /// A note that helps to empty the journal: may use everything.
    Relief,
}

/// Where a flush fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// In the file that is being written.
    Here,
    /// In the next prepared one.
    Next,
    /// Nowhere.
    No,
}

/// The room that is left, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Where the next flush begins in the file that is being written.
    pub(crate) position: u64,
    /// The length of that file.
    pub(crate) file_len: u64,
    /// What the prepared files can take, less their checkpoints.
    pub(crate) prepared: u64,
    /// What entries leave to notes.
    pub(crate) reserve: u64,
    /// What only relief may use: files beyond the configured number.
    pub(crate) extra: u64,
}

impl Layout {
    /// Bytes left in all files.
    pub(crate) fn left(&self) -> u64 {
        self.file_len.saturating_sub(self.position) + self.prepared
    }

    /// What a flush of this class must leave.
    fn must_leave(&self, class: Class) -> u64 {
        match class {
            Class::Entry => self.reserve + self.extra,
            Class::Note => self.reserve / 2 + self.extra,
            Class::Relief => 0,
        }
    }

    /// Whether a flush of `len` bytes fits at `position` of the file that is being written.
    pub(crate) fn fits_at(&self, position: u64, len: u64, class: Class) -> bool {
        let end = position + len;
        let left = self.file_len.saturating_sub(end) + self.prepared;
        end <= self.file_len && left >= self.must_leave(class)
    }

    /// Where a flush of `len` bytes goes.
    pub(crate) fn fit(&self, len: u64, class: Class) -> Fit {
        if self.fits_at(self.position, len, class) {
            Fit::Here
        } else if self.position + len > self.file_len
            && self.prepared > 0
            && (class == Class::Relief || self.prepared >= FIRST_FLUSH + len + self.must_leave(class))
        {
            Fit::Next
        } else {
            Fit::No
        }
    }
}

#[cfg(test)]
mod tests;
