//! Reading that cannot run past the end, of the types that Kafka's messages are made of. All integers big-endian.
//!
//! ```text
//!             legacy                            compact, in flexible versions (KIP-482)
//!   string:   | len i16 (-1 null) | UTF-8 |     | len + 1 uvarint (0 null) | UTF-8 |
//!   bytes:    | len i32 (-1 null) | bytes |     | len + 1 uvarint (0 null) | bytes |
//!   array:    | n i32 (-1 null) | n × element | | n + 1 uvarint (0 null) | n × element |
//!   tags, only in flexible versions, at the end of every structure: | n uvarint | n × | tag uvarint | len uvarint | len bytes | |
//! ```
//!
//! A [`Reader`] knows which of the two forms its message has. Strings and bytes are slices of what is read, never copies. Nothing is
//! allocated by a length or a count before the bytes that it announces are known to be there.

use super::WireError;
use bytes::Bytes;
pub use kafka_protocol::protocol::StrBytes;

/// Bytes of the longest varint of 32 bits.
const VARINT_BYTES_MAX: usize = 5;
/// Bytes of the longest varint of 64 bits.
const VARLONG_BYTES_MAX: usize = 10;
/// Bytes of the shortest tagged field: its number and its size.
const TAG_BYTES_MIN: usize = 2;

/// What tells topics of one name apart (KIP-516), 16 bytes as they are on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// No id.
    pub const ZERO: Self = Self([0; 16]);
}

/// A cursor over bytes of a client.
#[derive(Clone, Debug)]
pub struct Reader {
    bytes: Bytes,
    at: usize,
    end: usize,
    flexible: bool,
}

impl Reader {
    /// Starts at the first byte. `flexible` says which form lengths have.
    #[must_use]
    pub fn new(bytes: Bytes, flexible: bool) -> Self {
        Self { at: 0, end: bytes.len(), bytes, flexible }
    }

    /// Byte at which the next value begins.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    /// Bytes left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.end - self.at
    }

    /// Whether lengths are compact and structures end with tagged fields.
    #[must_use]
    pub fn is_flexible(&self) -> bool {
        self.flexible
    }

    /// What is left, as a slice.
    #[must_use]
    pub fn rest(self) -> Bytes {
        self.bytes.slice(self.at..self.end)
    }

    /// Goes over the next `n` bytes.
    pub fn skip(&mut self, n: usize, what: &'static str) -> Result<(), WireError> {
        self.take(n, what).map(drop)
    }

    fn take(&mut self, n: usize, what: &'static str) -> Result<&[u8], WireError> {
        if n > self.left() {
            return Err(WireError::Short { what, at: self.at, wanted: n, left: self.left() });
        }
        let from = self.at;
        self.at += n;
        Ok(&self.bytes[from..self.at])
    }

    fn slice(&mut self, n: usize, what: &'static str) -> Result<Bytes, WireError> {
        self.take(n, what)?;
        Ok(self.bytes.slice(self.at - n..self.at))
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], WireError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N, what)?);
        Ok(out)
    }

    /// The next byte, signed.
    pub fn i8(&mut self, what: &'static str) -> Result<i8, WireError> {
        self.array(what).map(i8::from_be_bytes)
    }

    /// The next two bytes, signed.
    pub fn i16(&mut self, what: &'static str) -> Result<i16, WireError> {
        self.array(what).map(i16::from_be_bytes)
    }

    /// The next four bytes, signed.
    pub fn i32(&mut self, what: &'static str) -> Result<i32, WireError> {
        self.array(what).map(i32::from_be_bytes)
    }

    /// The next eight bytes, signed.
    pub fn i64(&mut self, what: &'static str) -> Result<i64, WireError> {
        self.array(what).map(i64::from_be_bytes)
    }

    /// The next two bytes.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, WireError> {
        self.array(what).map(u16::from_be_bytes)
    }

    /// The next four bytes.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, WireError> {
        self.array(what).map(u32::from_be_bytes)
    }

    /// The next eight bytes, as a floating-point number.
    pub fn f64(&mut self, what: &'static str) -> Result<f64, WireError> {
        self.array(what).map(f64::from_be_bytes)
    }

    /// The next byte; whatever is not zero means true, as in Kafka.
    pub fn bool(&mut self, what: &'static str) -> Result<bool, WireError> {
        Ok(self.i8(what)? != 0)
    }

    /// The next sixteen bytes.
    pub fn topic_id(&mut self, what: &'static str) -> Result<TopicId, WireError> {
        self.array(what).map(TopicId)
    }

    fn seven_bits(&mut self, bytes_max: usize, last_max: u8, what: &'static str) -> Result<u64, WireError> {
        let (from, mut n) = (self.at, 0_u64);
        for place in 0..bytes_max {
            let [byte] = self.array(what)?;
            if place == bytes_max - 1 && byte > last_max {
                break;
            }
            n |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(n);
            }
        }
        Err(WireError::Varint { what, at: from })
    }

    /// An unsigned number of 32 bits: seven a byte, lowest first.
    pub fn uvarint(&mut self, what: &'static str) -> Result<u32, WireError> {
        // The fifth byte has room for four bits, so the number fits.
        Ok(self.seven_bits(VARINT_BYTES_MAX, 0x0f, what)? as u32)
    }

    /// A signed number of 32 bits, zigzag.
    pub fn varint(&mut self, what: &'static str) -> Result<i32, WireError> {
        let z = self.uvarint(what)?;
        Ok((z >> 1) as i32 ^ -((z & 1) as i32))
    }

    /// A signed number of 64 bits, zigzag.
    pub fn varlong(&mut self, what: &'static str) -> Result<i64, WireError> {
        let z = self.seven_bits(VARLONG_BYTES_MAX, 1, what)?;
        Ok((z >> 1) as i64 ^ -((z & 1) as i64))
    }

    /// A length or a count as the form has it; `None` is null.
    fn length(
        &mut self,
        legacy: fn(&mut Self, &'static str) -> Result<i32, WireError>,
        what: &'static str,
    ) -> Result<Option<usize>, WireError> {
        if self.flexible {
            return Ok(self.uvarint(what)?.checked_sub(1).map(|n| n as usize));
        }
        match legacy(self, what)? {
            -1 => Ok(None),
            n => usize::try_from(n).map(Some).map_err(|_| WireError::Length { what, at: self.at, length: n }),
        }
    }

    fn narrow(&mut self, what: &'static str) -> Result<i32, WireError> {
        self.i16(what).map(i32::from)
    }

    /// The length of a string, of which as many bytes are left, or null. They are still to be read.
    pub fn string_length(&mut self, what: &'static str) -> Result<Option<usize>, WireError> {
        let length = self.length(Self::narrow, what)?;
        self.within(length, what)
    }

    /// The length of bytes or of records, of which as many are left, or null. They are still to be read.
    pub fn bytes_length(&mut self, what: &'static str) -> Result<Option<usize>, WireError> {
        let length = self.length(Self::i32, what)?;
        self.within(length, what)
    }

    fn within(&self, length: Option<usize>, what: &'static str) -> Result<Option<usize>, WireError> {
        match length {
            Some(wanted) if wanted > self.left() => Err(WireError::Short { what, at: self.at, wanted, left: self.left() }),
            length => Ok(length),
        }
    }

    fn text(&mut self, n: usize, what: &'static str) -> Result<StrBytes, WireError> {
        let bytes = self.slice(n, what)?;
        StrBytes::from_utf8(bytes).map_err(|_| WireError::Utf8 { what, at: self.at })
    }

    /// A string.
    pub fn string(&mut self, what: &'static str) -> Result<StrBytes, WireError> {
        self.nullable_string(what)?.ok_or(WireError::Null { what })
    }

    /// A string or null.
    pub fn nullable_string(&mut self, what: &'static str) -> Result<Option<StrBytes>, WireError> {
        let length = self.string_length(what)?;
        length.map(|n| self.text(n, what)).transpose()
    }

    /// A string or null in the legacy form, whatever the form of the message: the client id of request headers stays so.
    pub fn legacy_nullable_string(&mut self, what: &'static str) -> Result<Option<StrBytes>, WireError> {
        let flexible = std::mem::replace(&mut self.flexible, false);
        let string = self.nullable_string(what);
        self.flexible = flexible;
        string
    }

    /// Bytes.
    pub fn bytes(&mut self, what: &'static str) -> Result<Bytes, WireError> {
        self.nullable_bytes(what)?.ok_or(WireError::Null { what })
    }

    /// Bytes or null; records are told in the same way.
    pub fn nullable_bytes(&mut self, what: &'static str) -> Result<Option<Bytes>, WireError> {
        let length = self.bytes_length(what)?;
        length.map(|n| self.slice(n, what)).transpose()
    }

    /// How many elements follow, of at least `least_bytes` each, at most as many as the bytes left can hold.
    pub fn count(&mut self, least_bytes: usize, what: &'static str) -> Result<usize, WireError> {
        self.nullable_count(least_bytes, what)?.ok_or(WireError::Null { what })
    }

    /// [`Reader::count`], or null.
    pub fn nullable_count(&mut self, least_bytes: usize, what: &'static str) -> Result<Option<usize>, WireError> {
        let Some(count) = self.length(Self::i32, what)? else { return Ok(None) };
        self.fits(count, least_bytes, what).map(Some)
    }

    fn fits(&self, count: usize, least_bytes: usize, what: &'static str) -> Result<usize, WireError> {
        let (least, left) = (least_bytes.max(1), self.left());
        if count > left / least { Err(WireError::Count { what, at: self.at, count, least, left }) } else { Ok(count) }
    }

    /// The tagged fields at the end of a structure, of which there are none in versions that are not flexible. `known` reads the value of a
    /// field that it knows and says so; all of its bytes must then have been read. Others are skipped. Returns how many there were.
    pub fn tags(
        &mut self,
        what: &'static str,
        mut known: impl FnMut(u32, &mut Self) -> Result<bool, WireError>,
    ) -> Result<usize, WireError> {
        if !self.flexible {
            return Ok(0);
        }
        let count = self.uvarint(what)? as usize;
        self.fits(count, TAG_BYTES_MIN, what)?;
        for _ in 0..count {
            let tag = self.uvarint(what)?;
            let size = self.uvarint(what)? as usize;
            self.within(Some(size), what)?;
            let end = std::mem::replace(&mut self.end, self.at + size);
            let is_known = known(tag, self)?;
            if is_known && self.left() > 0 {
                return Err(WireError::Tag { what, tag, left: self.left() });
            }
            (self.at, self.end) = (self.end, end);
        }
        Ok(count)
    }

    /// [`Reader::tags`] of a structure of which we know none.
    pub fn skip_tags(&mut self, what: &'static str) -> Result<(), WireError> {
        self.tags(what, |_, _| Ok(false)).map(drop)
    }
}

#[cfg(test)]
mod tests;
