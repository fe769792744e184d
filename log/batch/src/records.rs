//! All records of a batch, one after the other.

use crate::{BatchError, DecompressLimits, HEADER_BYTES, Header, Record, TimestampType, compress, record::Cursor};
use bytes::Bytes;

/// An iterator over the records of a batch. After an error it ends.
#[derive(Debug)]
pub struct Records {
    header: Header,
    body: Bytes,
    at: usize,
    left: u32,
}

/// Opens a batch for reading its records, decompressing them within `limits` where they are compressed. `batch` is one whole
/// batch; its CRC is not checked here. Records of an uncompressed batch share its bytes.
pub fn records(batch: &Bytes, limits: DecompressLimits) -> Result<Records, BatchError> {
    let header = Header::parse(batch)?;
    if header.batch_len != batch.len() {
        return Err(BatchError::Length { claimed: header.batch_len as i64, found: batch.len() });
    }
    let body = compress::decompress(header.compression()?, &batch.slice(HEADER_BYTES..), limits)?;
    Ok(Records { header, body, at: 0, left: header.count })
}

impl Records {
    /// The batch's header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    fn read(&mut self) -> Result<Record, BatchError> {
        let mut cursor = Cursor { all: &self.body, rest: &self.body[self.at..] };
        let (deltas, mut record) = cursor.record()?;
        self.at = cursor.at();
        if deltas.offset > self.header.last_offset_delta {
            return Err(BatchError::Field { field: "offsetDelta", value: i64::from(deltas.offset) });
        }
        record.offset = self.header.base_offset + u64::from(deltas.offset);
        record.timestamp = match self.header.timestamp_type() {
            TimestampType::LogAppend => self.header.max_timestamp,
            TimestampType::Create => self.header.base_timestamp.wrapping_add(deltas.timestamp),
        };
        Ok(record)
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            let trailing = self.body.len() - self.at;
            self.at = self.body.len();
            return (trailing > 0).then_some(Err(BatchError::Trailing(trailing)));
        }
        self.left -= 1;
        let read = self.read();
        if read.is_err() {
            (self.left, self.at) = (0, self.body.len());
        }
        Some(read)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left as usize + 1))
    }
}
