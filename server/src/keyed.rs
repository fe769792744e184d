//! Keyed records of the compacted internal topics: how state that lives in the system is written down.
//!
//! `__meta` holds the [`crate::catalog`], `__consumer_offsets` the positions of [`crate::coordinator`]. Both are state
//! machines without effects: a *plan* returns records, the node appends them **as one batch** (so that they are there
//! together or not at all), waits for the sync, and then gives each to `apply`. Replaying the topic from its start through
//! `apply` gives the same state, whether or not compaction has been there.

use bytes::Bytes;

/// One record: the last value of a key is the state of that key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What the value is about. Never empty.
    pub key: Bytes,
    /// The new state; `None` is a tombstone and deletes it.
    pub value: Option<Bytes>,
}

/// A record that cannot be applied: damaged in a way that no checksum noticed, or written by a newer version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {key} of {topic} cannot be read: {why}")]
pub struct BadRecord {
    /// The internal topic.
    pub topic: &'static str,
    /// The record's key, as text where it is text.
    pub key: String,
    /// What is wrong with it.
    pub why: String,
}

impl BadRecord {
    /// For whoever is paged.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        "the data directory was written by a newer version of Millpond, or is damaged: start the version that wrote it, or restore a copy"
    }

    pub(crate) fn new(topic: &'static str, key: &[u8], why: impl Into<String>) -> Self {
        Self { topic, key: String::from_utf8_lossy(key).into_owned(), why: why.into() }
    }
}
