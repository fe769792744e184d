//! Kafka's RecordBatch v2: read, check, stamp and build, over plain bytes.

pub mod header;

pub use header::Header;
