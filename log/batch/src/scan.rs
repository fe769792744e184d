//! Where records are and when they are from, without their keys and values.
//!
//! The batch is unpacked as a stream and nothing of it is kept, so that a small batch that becomes a huge one costs no
//! memory. What is skipped is not checked.

use crate::{BatchError, DecompressLimits, HEADER_BYTES, Header, TimestampType, compress};
use bytes::Bytes;
use std::io::{BufRead, BufReader, Read};

/// Read at a time, in bytes.
const PIECE_BYTES: usize = 16 * 1024;

/// The first record of a batch for which `wanted` says so of its offset and timestamp, in milliseconds since 1970.
///
/// # Errors
/// If the batch cannot be unpacked up to that record within `limits`, or a record before it cannot be.
pub fn find(batch: &Bytes, limits: DecompressLimits, wanted: impl Fn(u64, i64) -> bool) -> Result<Option<(u64, i64)>, BatchError> {
    let header = Header::parse(batch)?;
    if header.batch_len != batch.len() {
        return Err(BatchError::Length { claimed: header.batch_len as i64, found: batch.len() });
    }
    let codec = header.compression()?;
    let body = batch.slice(HEADER_BYTES..);
    let mut stream = BufReader::with_capacity(PIECE_BYTES, compress::stream(codec, &body, limits)?);
    let failed = |e: std::io::Error| BatchError::Decompress { codec, message: e.to_string() };
    for _ in 0..header.count {
        let len = varint(&mut stream, "record length", failed)?;
        let len = u64::try_from(len).map_err(|_| BatchError::Field { field: "record length", value: len })?;
        let mut record = (&mut stream).take(len);
        let mut attributes = [0];
        record.read_exact(&mut attributes).map_err(failed)?;
        let time = varint(&mut record, "timestampDelta", failed)?;
        let offset = varint(&mut record, "offsetDelta", failed)?;
        let offset = u32::try_from(offset)
            .ok()
            .filter(|offset| *offset <= header.last_offset_delta)
            .ok_or(BatchError::Field { field: "offsetDelta", value: offset })?;
        let offset = header.base_offset + u64::from(offset);
        let timestamp = match header.timestamp_type() {
            TimestampType::LogAppend => header.max_timestamp,
            TimestampType::Create => header.base_timestamp.wrapping_add(time),
        };
        if wanted(offset, timestamp) {
            return Ok(Some((offset, timestamp)));
        }
        skip(&mut record).map_err(failed)?;
        if record.limit() > 0 {
            return Err(BatchError::Short { what: "record", wanted: len as usize, left: (len - record.limit()) as usize });
        }
    }
    Ok(None)
}

/// Reads to the end of it.
fn skip(stream: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let n = stream.fill_buf()?.len();
        if n == 0 {
            return Ok(());
        }
        stream.consume(n);
    }
}

fn varint(stream: &mut impl Read, field: &'static str, failed: impl Fn(std::io::Error) -> BatchError) -> Result<i64, BatchError> {
    let mut z = 0_u64;
    for n in 0..10 {
        let mut byte = [0];
        stream.read_exact(&mut byte).map_err(&failed)?;
        // The tenth byte has room for one bit.
        if n == 9 && byte[0] > 1 {
            break;
        }
        z |= u64::from(byte[0] & 0x7f) << (7 * n);
        if byte[0] & 0x80 == 0 {
            return Ok((z >> 1) as i64 ^ -((z & 1) as i64));
        }
    }
    Err(BatchError::Field { field, value: i64::MAX })
}

#[cfg(test)]
mod tests;
