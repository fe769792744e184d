//! What can be wrong with a batch.

use crate::Compression;

/// Why bytes are not a batch that we take. No variant is our own fault; all are answered to whoever sent the bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// Fewer bytes than the value needs.
    #[error("{what}: {wanted} bytes wanted, {left} left")]
    Short {
        /// What was being read.
        what: &'static str,
        /// Bytes wanted.
        wanted: usize,
        /// Bytes left.
        left: usize,
    },
    /// Not magic 2: message sets of before Kafka 0.11 are not taken.
    #[error("record batch of magic {0}, only 2 is supported: use a client of Kafka 0.11 or newer")]
    Magic(i8),
    /// The length field and the bytes disagree.
    #[error("the batch says {claimed} bytes, there are {found}")]
    Length {
        /// What the header says of the whole batch.
        claimed: i64,
        /// What there is.
        found: usize,
    },
    /// The checksum is wrong: bytes were damaged on their way.
    #[error("CRC-32C of the batch is {found:#010x}, its header says {expected:#010x}: the bytes were damaged on their way")]
    Crc {
        /// What the header says.
        expected: u32,
        /// What the bytes give.
        found: u32,
    },
    /// A field's value is impossible.
    #[error("{field} is {value}, which cannot be")]
    Field {
        /// Kafka's name of the field.
        field: &'static str,
        /// What was found.
        value: i64,
    },
    /// A codec number that Kafka does not have.
    #[error("compression codec {0} is unknown")]
    Codec(u8),
    /// The codec refused the bytes.
    #[error("{codec} data cannot be decompressed: {message}")]
    Decompress {
        /// The codec.
        codec: Compression,
        /// What it said.
        message: String,
    },
    /// More decompressed bytes than allowed.
    #[error("the batch decompresses to more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// Bytes are left after the last record.
    #[error("{0} bytes follow the last record")]
    Trailing(usize),
}
