//! Snapshots: what a replica needs that lacks entries which nobody has any more, since they were trimmed or compacted. A list of segments as they
//! are, and what else must be known of the log at its last entry ([`Manifest`]).
//!
//! - [`take`] one: everything committed is settled, so that segments hold all of it, and the files are held open.
//! - [`receive`] one: files go into a directory of their own beside the replica's, and are checked block by block.
//! - [`install`] one: a single note in the journal, after which the replica's segments are those of that directory. A crash before it leaves the
//!   old replica, one behind it the new one; a start removes the directory that does not count.

mod install;
mod manifest;
mod receive;
mod take;

pub use install::Ready;
pub use manifest::{FILES_MAX, MANIFEST_BYTES_MAX, Manifest, SnapshotFile};
pub use receive::{Received, Receiving};
pub use take::Snapshot;
