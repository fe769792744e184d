//! One frame of the native protocol. All integers little-endian.
//!
//! ```text
//!   0     4      6       8             16         20
//!   | len | kind | flags | correlation | meta_len | meta: a prost message | payload: whole record batches |
//! ```
//!
//! `len` counts what follows it. `kind` is a [`Kind`], the same in a request and its reply. `flags`: 1 reply, 2 failure
//! (`meta` is then a [`Failure`](crate::messages::Failure)); other bits are refused. Replies of one connection come in the order
//! of its requests.

use crate::messages::Kind;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

/// Bytes before the meta, `len` included.
pub const HEAD_BYTES: usize = 20;
/// Bytes of the `len` field.
const LEN_BYTES: usize = 4;
/// Memory is reserved for at most so much of a frame before its bytes are there.
const AHEAD_BYTES_MAX: usize = 1024 * 1024;

/// What kind of frame it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u16);

impl Flags {
    /// A request.
    pub const REQUEST: Self = Self(0);
    /// A reply that holds the answer.
    pub const REPLY: Self = Self(1);
    /// A reply that holds a failure.
    pub const FAILURE: Self = Self(3);

    /// Whether it answers a request.
    #[must_use]
    pub fn is_reply(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether the meta is a [`Failure`](crate::messages::Failure).
    #[must_use]
    pub fn is_failure(self) -> bool {
        self.0 & 2 != 0
    }
}

/// One frame, cut out of the stream. Nothing in it is copied.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// What it asks or answers.
    pub kind: Kind,
    /// Request, reply or failure.
    pub flags: Flags,
    /// The requester's number, repeated in the reply.
    pub correlation: u64,
    /// The message.
    pub meta: Bytes,
    /// Record batches; still to be stamped, so mutable.
    pub payload: BytesMut,
}

impl Frame {
    /// Decodes the message.
    pub fn message<M: Message + Default>(&self) -> Result<M, FrameError> {
        M::decode(self.meta.clone()).map_err(|e| FrameError::Message { kind: self.kind, what: e.to_string() })
    }
}

/// Why a stream cannot be cut into frames. All but [`FrameError::Message`] end the connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Longer than this side accepts.
    #[error("a frame of {claimed} bytes, at most {limit} are accepted; is the other side speaking another protocol?")]
    TooLarge {
        /// What its head says, in bytes.
        claimed: u64,
        /// What is accepted, in bytes.
        limit: usize,
    },
    /// Too short for its own head, or its message longer than the frame.
    #[error("a frame of {len} bytes with a message of {meta_len}: the lengths cannot be")]
    Lengths {
        /// What its head says, in bytes.
        len: u32,
        /// What it says of its message, in bytes.
        meta_len: u32,
    },
    /// A kind that this version does not know.
    #[error("a frame of kind {0} is unknown; is the other side newer?")]
    Kind(u16),
    /// Flags that this version does not know.
    #[error("a frame with flags {0:#06x} is unknown; is the other side newer?")]
    Flags(u16),
    /// The message does not parse.
    #[error("the message of a {kind:?} frame does not parse: {what}")]
    Message {
        /// The frame's kind.
        kind: Kind,
        /// What prost said.
        what: String,
    },
}

/// Cuts a byte stream into frames.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    /// The longest frame accepted, in bytes, `len` not counted.
    pub frame_bytes_max: usize,
}

impl Decoder {
    /// Takes the next whole frame off the front of `buf`; `None` means that more bytes are needed, and room for some
    /// of them has been reserved. After an error the stream cannot be read on.
    pub fn decode(&self, buf: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let Some(mut head) = buf.get(..LEN_BYTES) else { return Ok(None) };
        let len = head.get_u32_le();
        if len as usize > self.frame_bytes_max {
            return Err(FrameError::TooLarge { claimed: u64::from(len), limit: self.frame_bytes_max });
        }
        if (len as usize) < HEAD_BYTES - LEN_BYTES {
            return Err(FrameError::Lengths { len, meta_len: 0 });
        }
        let whole = LEN_BYTES + len as usize;
        let Some(mut head) = buf.get(LEN_BYTES..HEAD_BYTES) else { return Ok(None) };
        let (kind, flags, correlation, meta_len) = (head.get_u16_le(), head.get_u16_le(), head.get_u64_le(), head.get_u32_le());
        let known = Kind::try_from(i32::from(kind)).ok().filter(|k| *k != Kind::Unknown);
        let kind = known.ok_or(FrameError::Kind(kind))?;
        if ![Flags::REQUEST.0, Flags::REPLY.0, Flags::FAILURE.0].contains(&flags) {
            return Err(FrameError::Flags(flags));
        }
        if meta_len as usize > len as usize - (HEAD_BYTES - LEN_BYTES) {
            return Err(FrameError::Lengths { len, meta_len });
        }
        if buf.len() < whole {
            buf.reserve((whole - buf.len()).min(AHEAD_BYTES_MAX));
            return Ok(None);
        }
        let mut frame = buf.split_to(whole);
        frame.advance(HEAD_BYTES);
        let meta = frame.split_to(meta_len as usize).freeze();
        Ok(Some(Frame { kind, flags: Flags(flags), correlation, meta, payload: frame }))
    }
}

/// The head and the message of a frame; `payload_len` bytes of payload are to follow it.
pub fn encode(kind: Kind, flags: Flags, correlation: u64, meta: &impl Message, payload_len: usize) -> Bytes {
    let meta_len = meta.encoded_len();
    let mut out = BytesMut::with_capacity(HEAD_BYTES + meta_len);
    encode_into(&mut out, kind, flags, correlation, meta, payload_len);
    out.freeze()
}

/// [`encode`], appended to `out`: many small frames in one piece.
pub fn encode_into(out: &mut BytesMut, kind: Kind, flags: Flags, correlation: u64, meta: &impl Message, payload_len: usize) {
    let meta_len = meta.encoded_len();
    let len = HEAD_BYTES - LEN_BYTES + meta_len + payload_len;
    out.reserve(HEAD_BYTES + meta_len);
    out.put_u32_le(u32::try_from(len).expect("frames are bounded far below 4 GiB by whoever fills them"));
    out.put_u16_le(kind as u16);
    out.put_u16_le(flags.0);
    out.put_u64_le(correlation);
    out.put_u32_le(meta_len as u32);
    meta.encode_raw(out);
}

/// [`encode_into`] of a message that is encoded already, as it came from elsewhere.
pub fn encode_as_is(out: &mut BytesMut, kind: Kind, flags: Flags, correlation: u64, meta: &[u8]) {
    out.reserve(HEAD_BYTES + meta.len());
    out.put_u32_le(u32::try_from(HEAD_BYTES - LEN_BYTES + meta.len()).expect("it came in a frame, whose length is bounded"));
    out.put_u16_le(kind as u16);
    out.put_u16_le(flags.0);
    out.put_u64_le(correlation);
    out.put_u32_le(meta.len() as u32);
    out.put_slice(meta);
}

#[cfg(test)]
mod tests;
