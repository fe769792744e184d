//! Records on disk: the journal of a core, the segments of a group, recovery, retention, compaction, replay.

pub mod entry;

pub use entry::{Entry, EntryKind};
