//! Frames: a length, then a request or an answer.
//!
//! ```text
//!   0     4
//!   | len | header | body |
//! ```
//!
//! `len` is an i32, big-endian, and counts what follows it. Answers get theirs from [`Writer::finish_frame`](super::Writer::finish_frame).

use super::WireError;
use bytes::{Buf, Bytes, BytesMut};

/// Bytes of a length.
pub const LENGTH_BYTES: usize = 4;
/// The longest request that anyone may allow, in bytes, as in Kafka (`socket.request.max.bytes`). What other protocols begin with is more,
/// read as a length: a TLS hello, the line of an HTTP request.
pub const FRAME_BYTES_MAX: usize = 100 * 1024 * 1024;
/// Memory is reserved for at most so much of a frame before its bytes are there.
const AHEAD_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of the frame that a length announces, at most `bytes_max` and [`FRAME_BYTES_MAX`].
pub fn length(prefix: [u8; LENGTH_BYTES], bytes_max: usize) -> Result<usize, WireError> {
    let claimed = i32::from_be_bytes(prefix);
    let limit = bytes_max.min(FRAME_BYTES_MAX);
    match usize::try_from(claimed) {
        Err(_) | Ok(0) => Err(WireError::FrameLength(claimed)),
        Ok(claimed) if claimed > limit => Err(WireError::FrameTooLarge { claimed, limit }),
        Ok(claimed) => Ok(claimed),
    }
}

/// Takes the next whole frame off the front of `buf`, without its length; `None` means that more bytes are needed, and room for some of
/// them has been reserved. At most `bytes_max` and [`FRAME_BYTES_MAX`] are taken. After an error the stream cannot be read on.
pub fn take(buf: &mut BytesMut, bytes_max: usize) -> Result<Option<Bytes>, WireError> {
    let Some(&prefix) = buf.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let whole = LENGTH_BYTES + length(prefix, bytes_max)?;
    if buf.len() < whole {
        buf.reserve((whole - buf.len()).min(AHEAD_BYTES_MAX));
        return Ok(None);
    }
    let mut frame = buf.split_to(whole);
    frame.advance(LENGTH_BYTES);
    Ok(Some(frame.freeze()))
}

#[cfg(test)]
mod tests;
