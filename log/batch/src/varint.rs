//! Kafka's varints: zigzag, then seven bits a byte, lowest first (as in Protocol Buffers).

use crate::BatchError;
use bytes::BufMut;

/// Bytes of the longest varlong.
const BYTES_MAX: usize = 10;

/// Appends `n`.
pub(crate) fn put(out: &mut impl BufMut, n: i64) {
    let mut z = ((n << 1) ^ (n >> 63)) as u64;
    while z >= 0x80 {
        out.put_u8((z as u8) | 0x80);
        z >>= 7;
    }
    out.put_u8(z as u8);
}

/// Bytes that [`put`] appends for `n`.
pub(crate) fn len(n: i64) -> usize {
    let z = ((n << 1) ^ (n >> 63)) as u64;
    (64 - (z | 1).leading_zeros() as usize).div_ceil(7)
}

/// Reads one, advancing `bytes`.
pub(crate) fn take(bytes: &mut &[u8], what: &'static str) -> Result<i64, BatchError> {
    let mut z = 0_u64;
    for n in 0..BYTES_MAX {
        let Some(&byte) = bytes.get(n) else {
            return Err(BatchError::Short { what, wanted: n + 1, left: bytes.len() });
        };
        // The tenth byte has room for one bit.
        if n == BYTES_MAX - 1 && byte > 1 {
            break;
        }
        z |= u64::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            *bytes = &bytes[n + 1..];
            return Ok((z >> 1) as i64 ^ -((z & 1) as i64));
        }
    }
    Err(BatchError::Field { field: what, value: i64::MAX })
}
