//! Keeping some records of a batch, for compaction.
//!
//! As Kafka does it: offsets, timestamps and the producer's fields stay, the span of the batch stays (`lastOffsetDelta`), so
//! that the sequence of offsets can be told from the headers alone. A batch may end up with no record at all.
//!
//! A tombstone must stay for a while after it was first compacted, or a reader that has seen the value would never hear of
//! its end. How long is written into the batch (KIP-534): an attribute says that the base timestamp is the time from which
//! tombstones may go, and the records' deltas are told from that.

use crate::{
    BatchError, DecompressLimits, HEADER_BYTES, Record, TimestampType, builder,
    header::{DELETE_HORIZON, Header},
    records,
};
use bytes::{BufMut, Bytes, BytesMut};

/// The batch with only the records that `keep` wants; `None` if it wants all, so that the bytes can stay as they are.
///
/// `horizon_ms` is stamped as [`Header::delete_horizon`] if one of the kept records is a tombstone. An error means that the
/// batch cannot be parsed to its end. Should a codec fail to pack what is kept, for want of memory, the batch stays too.
pub fn retain(
    batch: &Bytes,
    limits: DecompressLimits,
    horizon_ms: Option<i64>,
    mut keep: impl FnMut(&Record) -> bool,
) -> Result<Option<BytesMut>, BatchError> {
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
    let horizon_ms = horizon_ms.filter(|_| kept.iter().any(Record::is_tombstone));
    if !dropped && horizon_ms.is_none() {
        return Ok(None);
    }
    if let Some(ms) = horizon_ms {
        header.base_timestamp = ms;
        header.attributes |= DELETE_HORIZON;
    }
    Ok(rebuild(header, &kept, batch.len()))
}

/// The batch of `header` with just these records; `None` if the codec fails.
fn rebuild(mut header: Header, kept: &[Record], capacity: usize) -> Option<BytesMut> {
    let mut bytes = BytesMut::with_capacity(capacity);
    bytes.put_bytes(0, HEADER_BYTES);
    for record in kept {
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
    let codec = header.compression().ok()?;
    builder::finish(bytes, header, codec).ok()
}
