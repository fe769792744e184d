//! Kafka's RecordBatch v2: read, check, stamp and build, over plain bytes.
//!
//! All integers big-endian, as Kafka has them (Kafka protocol guide, "Record Batch"; KIP-98 for the producer fields).
//!
//! ```text
//!   0        8      12      16      17    21     23         27       35      43        51     55      57    61
//!   | base   | batch| leader| magic | crc | attr | last off.| base   | max   | producer| epoch| base  | n   | records ...
//!   | offset | len  | epoch | = 2   |     |      | delta    | time   | time  | id      |      | seq.  |     |
//! ```
//!
//! `batch len` counts what follows it; `crc` is CRC-32C over everything from `attr` on. The fields before `attr` are the
//! leader's to stamp. Records are behind one another, each with varint fields, compressed as a whole where `attr` says so.
//!
//! This room is pure: bytes in, facts or errors out. Nothing here panics on foreign bytes, and no length that a batch
//! claims is allocated before its bytes are there.
//!
//! In reading order: [`header`] the first 61 bytes · [`record`] one record · [`compress`] the five codecs with bounds ·
//! [`records()`] all records of a batch · [`scan`] only when they are from · [`builder`] making batches · [`filter`] keeping some records of a batch ·
//! [`marker`] what ends a transaction.

pub mod builder;
pub mod compress;
mod error;
pub mod filter;
pub mod header;
pub mod marker;
pub mod record;
pub mod records;
pub mod scan;
mod varint;

pub use builder::{Builder, Producer};
pub use compress::{Compression, DecompressLimits};
pub use error::BatchError;
pub use header::{HEADER_BYTES, Header, TimestampType, check, split, stamp, stamp_append_time, stamp_producer};
pub use marker::Marker;
pub use record::{HeaderRef, Record};
pub use records::{Records, records};

#[cfg(test)]
mod tests;
