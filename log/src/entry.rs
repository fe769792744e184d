//! What a group's log is made of, in memory and on disk alike.

use bytes::Bytes;
use millpond_runtime::{Index, Offset, Term};

/// What an entry's payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryKind {
    /// One record batch (RecordBatch v2), stamped with its base offset. Takes as many offsets as the batch says.
    Batch = 1,
    /// No records, no offsets: elections and configuration of the group (Raft's own).
    Raft = 2,
}

/// One entry of a group's log. Cheap to clone: the payload is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place, dense within the group.
    pub index: Index,
    /// The term it was proposed in.
    pub term: Term,
    /// What the payload is.
    pub kind: EntryKind,
    /// Offset of its first record; for an entry without records, the offset that the next record will have.
    pub base_offset: Offset,
    /// The bytes.
    pub payload: Bytes,
}
