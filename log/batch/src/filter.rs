//! Keeping some records of a batch, for compaction.
//!
//! As Kafka does it: offsets, timestamps and the producer's fields stay, the span of the batch stays (`lastOffsetDelta`), so
//! that the sequence of offsets can be told from the headers alone. A batch may end up with no record at all.

use crate::{BatchError, DecompressLimits, HEADER_BYTES, Record, TimestampType, builder, records};
use bytes::{BufMut, Bytes, BytesMut};

/// The batch with only the records that `keep` wants; `None` if it wants all, so that the bytes can stay as they are.
pub fn retain(batch: &Bytes, limits: DecompressLimits, mut keep: impl FnMut(&Record) -> bool) -> Result<Option<BytesMut>, BatchError> {
    let all = records(batch, limits)?;
    let mut header = *all.header();
    let mut kept = Vec::new();
    let mut dropped = false;
    for record in all {
        let record = record?;
        if keep(&record) {
            kept.push(record);
        } else {
            dropped = true;
        }
    }
    if !dropped {
        return Ok(None);
    }
    let mut bytes = BytesMut::with_capacity(batch.len());
    bytes.put_bytes(0, HEADER_BYTES);
    for record in &kept {
        let timestamp = match header.timestamp_type() {
            TimestampType::LogAppend => 0,
            TimestampType::Create => record.timestamp.wrapping_sub(header.base_timestamp),
        };
        let delta = (record.offset - header.base_offset) as u32;
        let headers: Vec<_> = record.headers().map(|h| (h.key, h.value)).collect();
        builder::put_record(&mut bytes, timestamp, delta, record.key.as_deref(), record.value.as_deref(), &headers);
    }
    header.count = kept.len() as u32;
    if header.timestamp_type() == TimestampType::Create {
        header.max_timestamp = kept.iter().map(|r| r.timestamp).max().unwrap_or(-1);
    }
    let codec = header.compression()?;
    let failed = |e: std::io::Error| BatchError::Decompress { codec, message: e.to_string() };
    builder::finish(bytes, header, codec).map(Some).map_err(failed)
}
