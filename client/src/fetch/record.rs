//! What readers hand out: records, and whole batches as they are in the log.

use crate::error::{Error, Result};
use bytes::Bytes;
use millpond_batch::{BatchError, DecompressLimits, Header, HeaderRef, Record, records};
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// A record that was read. Its bytes are shared with the reply that it came in: one that is kept for long keeps all of that
/// (a few MiB), so copy what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerRecord {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: u32,
    /// Offset, timestamp, key, value and headers.
    pub record: Record,
}

impl ConsumerRecord {
    /// Its place in the partition.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.record.offset
    }

    /// When it happened, or was appended where the topic says so; in milliseconds since 1970.
    #[must_use]
    pub fn timestamp_ms(&self) -> i64 {
        self.record.timestamp
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> Option<&Bytes> {
        self.record.key.as_ref()
    }

    /// The value; `None` is a tombstone in a compacted topic.
    #[must_use]
    pub fn value(&self) -> Option<&Bytes> {
        self.record.value.as_ref()
    }

    /// The headers, in the order they were given.
    pub fn headers(&self) -> impl Iterator<Item = HeaderRef> {
        self.record.headers()
    }

    /// The value, read as JSON. No value is read as `null`.
    ///
    /// # Errors
    /// If it is no JSON, or not of this type.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        let value = self.record.value.as_deref().unwrap_or(b"null");
        serde_json::from_slice(value).map_err(|e| Error::Json {
            doing: "reading a value as JSON",
            why: format!("{}-{} at offset {}: {e}", self.topic, self.partition, self.record.offset),
        })
    }
}

/// A whole batch as it is in the log (Kafka's RecordBatch, version 2); its checksum was checked. The first and the last batch of what was
/// asked for may hold records before or after it; [`RecordBatch::records`] leaves those out.
#[derive(Clone, Debug)]
pub struct RecordBatch {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: u32,
    pub(crate) header: Header,
    pub(crate) bytes: Bytes,
    pub(crate) from: u64,
    pub(crate) end: u64,
}

impl RecordBatch {
    /// Topic.
    #[must_use]
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// Partition.
    #[must_use]
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// Its header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// All its bytes, header included.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its records, those that were not asked for left out. Decompressed where they are compressed, else not copied.
    ///
    /// # Errors
    /// If the batch cannot be decompressed; the iterator's if a record does not parse, after which it ends.
    pub fn records(&self) -> Result<impl Iterator<Item = Result<ConsumerRecord>> + '_> {
        let damaged = |source: BatchError| self.damaged(source);
        let all = records(&self.bytes, DecompressLimits::default()).map_err(damaged)?;
        let wanted = all.filter(|r| r.as_ref().map_or(true, |r| r.offset >= self.from && r.offset < self.end));
        Ok(wanted.map(move |record| match record {
            Ok(record) => Ok(ConsumerRecord { topic: Arc::clone(&self.topic), partition: self.partition, record }),
            Err(source) => Err(self.damaged(source)),
        }))
    }

    fn damaged(&self, source: BatchError) -> Error {
        damaged(&self.topic, self.partition, self.header.base_offset, source)
    }
}

pub(crate) fn damaged(topic: &str, partition: u32, offset: u64, source: BatchError) -> Error {
    Error::Damaged { topic: topic.to_owned(), partition, offset, source }
}
