//! The 61 bytes at the head of a batch.

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
    /// Timestamp of the first record, in milliseconds since 1970.
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

impl Header {
    /// Offsets that the batch takes.
    #[must_use]
    pub fn record_span(&self) -> u64 {
        u64::from(self.last_offset_delta) + 1
    }
}
