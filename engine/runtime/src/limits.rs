//! Sizes that several rooms agree on. Relations between them are checked at compile time.

/// Alignment and size unit, in bytes, of every O_DIRECT read and write. 4 KiB is the physical sector of today's disks;
/// a logical sector of 512 would be accepted by some of them, and is not relied on.
pub const BLOCK_BYTES: usize = 4096;

/// The largest record batch, in bytes with its 61-byte header, that any front accepts by default.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// The largest record batch that a topic may be configured to accept, in bytes.
pub const BATCH_BYTES_LIMIT: usize = 16 * 1024 * 1024;

/// The largest frame of the native protocol, in bytes: a full batch of the largest size and its envelope.
pub const FRAME_BYTES_MAX: usize = 32 * 1024 * 1024;

const _: () = assert!(BATCH_BYTES_MAX <= BATCH_BYTES_LIMIT && BATCH_BYTES_LIMIT + 64 * 1024 <= FRAME_BYTES_MAX);
const _: () = assert!(BLOCK_BYTES.is_power_of_two());

/// `n` rounded up to whole blocks.
#[must_use]
pub const fn block_up(n: u64) -> u64 {
    n.next_multiple_of(BLOCK_BYTES as u64)
}
