//! Sealed history of a group: files of compressed blocks, indexed by offset and by time.
//!
//! ```text
//!   | header, one block of 4 KiB | chunk | chunk | ... | footer |
//!   chunk: | block header, data | block header, data | ... | list of blocks, to a whole 4 KiB |
//! ```
//!
//! A chunk is what one settling run wrote, with one sync. The newest segment of a group grows, and how far it counts is
//! said by the journal; all others are sealed: they end with a footer that holds the index. Nothing that counts is ever
//! written again.
//!
//! In reading order: [`mod@format`] the bytes · [`chunk`] from entries to blocks · [`list`] which
//! blocks there are · [`mod@file`] one segment · [`handles`] which files are
//! open, over [`lru`] and [`ahead`], blocks on their way before anybody asks · [`group`] all segments of a group · [`read`]
//! reading across them, [`indexed`] by Raft's index, [`terms`] by term · [`compact`] keeping the newest record of each key, over [`newest`] ·
//! [`inspect`] showing them to people.

mod ahead;
pub mod chunk;
pub mod compact;
pub mod file;
pub mod format;
pub mod group;
pub mod handles;
mod indexed;
pub mod inspect;
pub(crate) mod lane;
pub mod list;
mod lru;
mod newest;
mod read;
mod terms;

pub use chunk::{Chunk, encode_chunk};
pub use format::{BlockIndex, SegmentHeader, SegmentName};
pub use group::GroupSegments;
pub use handles::Handles;
pub(crate) use read::first_at;

#[cfg(test)]
mod tests;
