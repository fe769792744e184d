//! The 61 bytes at the head of a batch, and what may be stamped into them.

use crate::{BatchError, Compression, Producer};

/// Bytes before the first record.
pub const HEADER_BYTES: usize = 61;
/// Bytes before the fields that `batch len` counts.
const LEN_END: usize = 12;
/// Where the CRC's coverage begins.
const CRC_FROM: usize = 21;

const COMPRESSION_MASK: u16 = 0x07;
const LOG_APPEND_TIME: u16 = 0x08;
const TRANSACTIONAL: u16 = 0x10;
pub(crate) const CONTROL: u16 = 0x20;
pub(crate) const DELETE_HORIZON: u16 = 0x40;

/// Whose clock a batch's timestamps are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    Create,
    /// The server's, when it appended; `max_timestamp` holds for all records.
    LogAppend,
}

/// What the head of a batch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Offset of the first record.
    pub base_offset: u64,
    /// Length of the whole batch, in bytes, with this header.
    pub batch_len: usize,
    /// The leader's epoch.
    pub leader_epoch: i32,
    /// CRC-32C over everything from the attributes on.
    pub crc: u32,
    /// Compression, timestamp type, transactional, control.
    pub attributes: u16,
    /// Offset of the last record less that of the first.
    pub last_offset_delta: u32,
    /// What the records' timestamps are told from, in milliseconds since 1970: that of the first record, or, after
    /// compaction, [`Header::delete_horizon`].
    pub base_timestamp: i64,
    /// The largest timestamp, in milliseconds since 1970.
    pub max_timestamp: i64,
    /// The idempotent producer, -1 if none.
    pub producer_id: i64,
    /// Its epoch, -1 if none.
    pub producer_epoch: i16,
    /// Sequence of the first record, -1 if none.
    pub base_sequence: i32,
    /// Records in the batch.
    pub count: u32,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

fn field(name: &'static str, ok: bool, value: i64) -> Result<(), BatchError> {
    if ok { Ok(()) } else { Err(BatchError::Field { field: name, value }) }
}

impl Header {
    /// Reads the head of a batch and checks that its fields can be; the bytes behind it and the CRC are not looked at.
    /// `batch_len` may lie beyond the end of `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        if bytes.len() < HEADER_BYTES {
            return Err(BatchError::Short { what: "batch header", wanted: HEADER_BYTES, left: bytes.len() });
        }
        let magic = bytes[16] as i8;
        if magic != 2 {
            return Err(BatchError::Magic(magic));
        }
        let base_offset = i64::from_be_bytes(array(bytes, 0));
        field("baseOffset", base_offset >= 0, base_offset)?;
        let len = i32::from_be_bytes(array(bytes, 8));
        field("batchLength", len >= (HEADER_BYTES - LEN_END) as i32, i64::from(len))?;
        let last_offset_delta = i32::from_be_bytes(array(bytes, 23));
        let count = i32::from_be_bytes(array(bytes, 57));
        field("lastOffsetDelta", last_offset_delta >= 0, i64::from(last_offset_delta))?;
        // A compacted batch may have fewer records than offsets, never more.
        field("recordsCount", count >= 0 && i64::from(count) <= i64::from(last_offset_delta) + 1, i64::from(count))?;
        let end = base_offset.checked_add(i64::from(last_offset_delta) + 1);
        field("baseOffset", end.is_some(), base_offset)?;
        Ok(Self {
            base_offset: base_offset as u64,
            batch_len: len as usize + LEN_END,
            leader_epoch: i32::from_be_bytes(array(bytes, 12)),
            crc: u32::from_be_bytes(array(bytes, 17)),
            attributes: u16::from_be_bytes(array(bytes, 21)),
            last_offset_delta: last_offset_delta as u32,
            base_timestamp: i64::from_be_bytes(array(bytes, 27)),
            max_timestamp: i64::from_be_bytes(array(bytes, 35)),
            producer_id: i64::from_be_bytes(array(bytes, 43)),
            producer_epoch: i16::from_be_bytes(array(bytes, 51)),
            base_sequence: i32::from_be_bytes(array(bytes, 53)),
            count: count as u32,
        })
    }

    /// Offsets that the batch takes.
    #[must_use]
    pub fn record_span(&self) -> u64 {
        u64::from(self.last_offset_delta) + 1
    }

    /// Offset after the last record.
    #[must_use]
    pub fn next_offset(&self) -> u64 {
        self.base_offset + self.record_span()
    }

    /// How the records are compressed.
    pub fn compression(&self) -> Result<Compression, BatchError> {
        Compression::from_attributes(self.attributes & COMPRESSION_MASK)
    }

    /// Whose clock the timestamps are from.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME == 0 { TimestampType::Create } else { TimestampType::LogAppend }
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether the batch is a marker of the system's own, with no records for applications.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// When compaction may drop the batch's tombstones, in milliseconds since 1970 (KIP-534). Only compaction sets it; what
    /// a producer says there is to be ignored.
    #[must_use]
    pub fn delete_horizon(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    /// Whether an idempotent producer sent it.
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        self.producer_id >= 0
    }

    /// Writes the header over the first 61 bytes of `bytes`, as it is, with this CRC.
    pub(crate) fn write(&self, bytes: &mut [u8]) {
        bytes[0..8].copy_from_slice(&(self.base_offset as i64).to_be_bytes());
        bytes[8..12].copy_from_slice(&((self.batch_len - LEN_END) as i32).to_be_bytes());
        bytes[12..16].copy_from_slice(&self.leader_epoch.to_be_bytes());
        bytes[16] = 2;
        bytes[17..21].copy_from_slice(&self.crc.to_be_bytes());
        bytes[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        bytes[23..27].copy_from_slice(&(self.last_offset_delta as i32).to_be_bytes());
        bytes[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        bytes[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        bytes[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        bytes[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        bytes[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        bytes[57..61].copy_from_slice(&(self.count as i32).to_be_bytes());
    }
}

/// Checks one whole batch, all of `bytes`: the fields of its header, its length and its CRC.
///
/// Its records are not parsed: a broker that did would decompress whatever anyone sends.
pub fn check(bytes: &[u8]) -> Result<Header, BatchError> {
    let header = Header::parse(bytes)?;
    if header.batch_len != bytes.len() {
        return Err(BatchError::Length { claimed: header.batch_len as i64, found: bytes.len() });
    }
    header.compression()?;
    let found = crc32c::crc32c(&bytes[CRC_FROM..]);
    if found != header.crc {
        return Err(BatchError::Crc { expected: header.crc, found });
    }
    Ok(header)
}

/// Stamps what the leader assigns, outside the CRC. `bytes` is a batch that [`check`] took.
pub fn stamp(bytes: &mut [u8], base_offset: u64, leader_epoch: i32) {
    bytes[0..8].copy_from_slice(&(base_offset as i64).to_be_bytes());
    bytes[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Stamps the server's time on a batch that [`check`] took, which is under the CRC: it is computed anew.
pub fn stamp_append_time(bytes: &mut [u8], ms: i64) {
    let attributes = u16::from_be_bytes(array(bytes, 21)) | LOG_APPEND_TIME;
    bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
    bytes[35..43].copy_from_slice(&ms.to_be_bytes());
    seal(bytes);
}

/// Says anew whose batch this is, for a producer that sends it again in a new epoch. `bytes` is a batch that
/// [`Builder::build`](crate::Builder::build) made; the CRC is computed anew.
pub fn stamp_producer(bytes: &mut [u8], producer: Producer) {
    bytes[43..51].copy_from_slice(&producer.id.to_be_bytes());
    bytes[51..53].copy_from_slice(&producer.epoch.to_be_bytes());
    bytes[53..57].copy_from_slice(&producer.base_sequence.to_be_bytes());
    seal(bytes);
}

/// Computes the CRC of a batch and writes it where it belongs, after fields under it were changed in place. `bytes` is a batch that
/// [`check`] took.
pub fn seal(bytes: &mut [u8]) {
    let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// Walks over batches that lie one behind the other. Each item is a header and its batch's bytes; the first error ends
/// the walk. CRCs are not checked.
pub fn split(bytes: &[u8]) -> impl Iterator<Item = Result<(Header, &[u8]), BatchError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let header = match Header::parse(rest) {
            Ok(header) if header.batch_len <= rest.len() => header,
            Ok(header) => {
                let left = std::mem::take(&mut rest).len();
                return Some(Err(BatchError::Length { claimed: header.batch_len as i64, found: left }));
            }
            Err(error) => {
                rest = &[];
                return Some(Err(error));
            }
        };
        let (batch, behind) = rest.split_at(header.batch_len);
        rest = behind;
        Some(Ok((header, batch)))
    })
}
