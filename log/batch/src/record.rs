//! One record, as a view into the bytes of its batch.
//!
//! ```text
//!   | length | attributes | timestamp delta | offset delta | key len | key | value len | value | n | n × (key len, key, value len, value) |
//! ```
//!
//! All lengths are varints; -1 is null for the key, the value and a header's value.

use crate::{BatchError, varint};
use bytes::Bytes;

/// One record. Its bytes are shared with the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the partition.
    pub offset: u64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// The key; `None` is null.
    pub key: Option<Bytes>,
    /// The value; `None` is null (a tombstone where the topic is compacted).
    pub value: Option<Bytes>,
    /// The headers as they lie, parsed by [`Record::headers`].
    pub(crate) headers: Bytes,
    pub(crate) headers_count: u32,
}

/// One header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderRef {
    /// Its name, UTF-8 where the producer kept the rule.
    pub key: Bytes,
    /// Its value; `None` is null.
    pub value: Option<Bytes>,
}

/// The offset and timestamp of a record relative to its batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deltas {
    pub(crate) offset: u32,
    pub(crate) timestamp: i64,
}

/// A cursor over shared bytes: it hands out slices that share them.
pub(crate) struct Cursor<'a> {
    pub(crate) all: &'a Bytes,
    pub(crate) rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(all: &'a Bytes) -> Self {
        Self { all, rest: all }
    }

    pub(crate) fn varint(&mut self, what: &'static str) -> Result<i64, BatchError> {
        varint::take(&mut self.rest, what)
    }

    pub(crate) fn at(&self) -> usize {
        self.all.len() - self.rest.len()
    }

    fn skip(&mut self, n: usize, what: &'static str) -> Result<(usize, usize), BatchError> {
        if n > self.rest.len() {
            return Err(BatchError::Short { what, wanted: n, left: self.rest.len() });
        }
        let at = self.at();
        self.rest = &self.rest[n..];
        Ok((at, at + n))
    }

    /// A length and as many bytes; -1 is null.
    fn nullable(&mut self, what: &'static str) -> Result<Option<Bytes>, BatchError> {
        let len = self.varint(what)?;
        if len == -1 {
            return Ok(None);
        }
        let len = usize::try_from(len).map_err(|_| BatchError::Field { field: what, value: len })?;
        let (from, to) = self.skip(len, what)?;
        Ok(Some(self.all.slice(from..to)))
    }

    fn header(&mut self) -> Result<HeaderRef, BatchError> {
        let key = self.nullable("record header key")?.ok_or(BatchError::Field { field: "record header key", value: -1 })?;
        Ok(HeaderRef { key, value: self.nullable("record header value")? })
    }

    /// The next record, all of it, and what it says of its place.
    pub(crate) fn record(&mut self) -> Result<(Deltas, Record), BatchError> {
        let len = self.varint("record length")?;
        let len = usize::try_from(len).map_err(|_| BatchError::Field { field: "record length", value: len })?;
        let (at, end) = self.skip(len, "record")?;
        Body { all: self.all, at, end }.record()
    }
}

/// The inside of one record.
struct Body<'a> {
    all: &'a Bytes,
    at: usize,
    end: usize,
}

impl Body<'_> {
    fn varint(&mut self, what: &'static str) -> Result<i64, BatchError> {
        let mut rest = &self.all[self.at..self.end];
        let n = varint::take(&mut rest, what)?;
        self.at = self.end - rest.len();
        Ok(n)
    }

    fn nullable(&mut self, what: &'static str) -> Result<Option<Bytes>, BatchError> {
        let len = self.varint(what)?;
        if len == -1 {
            return Ok(None);
        }
        let left = self.end - self.at;
        let len = usize::try_from(len).map_err(|_| BatchError::Field { field: what, value: len })?;
        if len > left {
            return Err(BatchError::Short { what, wanted: len, left });
        }
        self.at += len;
        Ok(Some(self.all.slice(self.at - len..self.at)))
    }

    fn record(&mut self) -> Result<(Deltas, Record), BatchError> {
        if self.at == self.end {
            return Err(BatchError::Short { what: "record attributes", wanted: 1, left: 0 });
        }
        self.at += 1;
        let timestamp = self.varint("timestampDelta")?;
        let offset = self.varint("offsetDelta")?;
        let offset = u32::try_from(offset).map_err(|_| BatchError::Field { field: "offsetDelta", value: offset })?;
        let key = self.nullable("record key")?;
        let value = self.nullable("record value")?;
        let count = self.varint("record headers count")?;
        // Each header takes two bytes at the least.
        let possible = usize::try_from(count).is_ok_and(|n| n <= (self.end - self.at) / 2);
        if !possible {
            return Err(BatchError::Field { field: "record headers count", value: count });
        }
        let headers = self.all.slice(self.at..self.end);
        let record = Record { offset: 0, timestamp: 0, key, value, headers, headers_count: count as u32 };
        record.check_headers()?;
        Ok((Deltas { offset, timestamp }, record))
    }
}

impl Record {
    /// Whether it says that its key is no more: a key and no value.
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        self.key.is_some() && self.value.is_none()
    }

    /// The headers, in the order they were given.
    pub fn headers(&self) -> impl Iterator<Item = HeaderRef> {
        let mut cursor = Cursor::new(&self.headers);
        (0..self.headers_count).map_while(move |_| cursor.header().ok())
    }

    /// Walks the headers once, so that [`Record::headers`] cannot meet an error.
    fn check_headers(&self) -> Result<(), BatchError> {
        let mut cursor = Cursor::new(&self.headers);
        for _ in 0..self.headers_count {
            cursor.header()?;
        }
        if cursor.rest.is_empty() { Ok(()) } else { Err(BatchError::Trailing(cursor.rest.len())) }
    }
}
