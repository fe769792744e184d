//! Making batches: records go in one by one, a whole batch comes out.

use crate::{
    Compression, HEADER_BYTES, Header,
    compress::compress,
    header::{seal, stamp_append_time},
    varint,
};
use bytes::{BufMut, Bytes, BytesMut};

/// Who an idempotent batch is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Its id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// Sequence of the first record.
    pub base_sequence: i32,
}

/// Gathers records into one batch. Records are written straight into the batch's bytes; nothing is allocated per record.
#[derive(Debug)]
pub struct Builder {
    bytes: BytesMut,
    compression: Compression,
    base_timestamp: i64,
    max_timestamp: i64,
    count: u32,
    transactional: bool,
}

impl Builder {
    /// An empty batch, with memory for about `capacity` bytes.
    #[must_use]
    pub fn new(compression: Compression, capacity: usize) -> Self {
        let mut bytes = BytesMut::with_capacity(capacity.max(HEADER_BYTES));
        bytes.put_bytes(0, HEADER_BYTES);
        Self { bytes, compression, base_timestamp: 0, max_timestamp: i64::MIN, count: 0, transactional: false }
    }

    /// Marks the batch as part of a transaction.
    pub fn set_transactional(&mut self) {
        self.transactional = true;
    }

    /// Records so far.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes so far, before compression, with the header.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether no record has been appended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes that [`Builder::append`] would add at most.
    #[must_use]
    pub fn record_len_max(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(impl AsRef<[u8]>, Option<impl AsRef<[u8]>>)]) -> usize {
        let headers: usize = headers.iter().map(|(k, v)| k.as_ref().len() + v.as_ref().map_or(0, |v| v.as_ref().len()) + 10).sum();
        key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len) + headers + 40
    }

    /// Appends a record; offsets follow one another. A batch holds fewer than 2^31 records and bytes.
    pub fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(impl AsRef<[u8]>, Option<impl AsRef<[u8]>>)],
    ) {
        if self.count == 0 {
            self.base_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let delta = timestamp.wrapping_sub(self.base_timestamp);
        put_record(&mut self.bytes, delta, self.count, key, value, headers);
        self.count += 1;
    }

    /// The finished batch, with base offset 0.
    ///
    /// # Errors
    /// Only if a codec fails, which it does for want of memory alone.
    pub fn build(self, producer: Option<Producer>) -> std::io::Result<BytesMut> {
        let header = Header {
            base_offset: 0,
            batch_len: 0,
            leader_epoch: -1,
            crc: 0,
            attributes: self.compression as u16 | if self.transactional { 0x10 } else { 0 },
            last_offset_delta: self.count.saturating_sub(1),
            base_timestamp: self.base_timestamp,
            max_timestamp: if self.count == 0 { -1 } else { self.max_timestamp },
            producer_id: producer.map_or(-1, |p| p.id),
            producer_epoch: producer.map_or(-1, |p| p.epoch),
            base_sequence: producer.map_or(-1, |p| p.base_sequence),
            count: self.count,
        };
        finish(self.bytes, header, self.compression)
    }
}

/// Compresses what lies behind the space for the header, writes the header and its CRC.
pub(crate) fn finish(mut bytes: BytesMut, mut header: Header, compression: Compression) -> std::io::Result<BytesMut> {
    if compression != Compression::None {
        let packed = compress(compression, &bytes[HEADER_BYTES..])?;
        bytes.truncate(HEADER_BYTES);
        bytes.extend_from_slice(&packed);
    }
    header.batch_len = bytes.len();
    header.write(&mut bytes);
    seal(&mut bytes);
    Ok(bytes)
}

/// Appends one record.
pub(crate) fn put_record(
    out: &mut BytesMut,
    timestamp_delta: i64,
    offset_delta: u32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[(impl AsRef<[u8]>, Option<impl AsRef<[u8]>>)],
) {
    let nullable = |bytes: Option<&[u8]>| bytes.map_or(1, |b| varint::len(b.len() as i64) + b.len());
    let mut len = 1 + varint::len(timestamp_delta) + varint::len(i64::from(offset_delta)) + nullable(key) + nullable(value);
    len += varint::len(headers.len() as i64);
    for (k, v) in headers {
        len += nullable(Some(k.as_ref())) + nullable(v.as_ref().map(AsRef::as_ref));
    }
    out.reserve(len + varint::len(len as i64));
    varint::put(out, len as i64);
    out.put_u8(0);
    varint::put(out, timestamp_delta);
    varint::put(out, i64::from(offset_delta));
    put_nullable(out, key);
    put_nullable(out, value);
    varint::put(out, headers.len() as i64);
    for (k, v) in headers {
        put_nullable(out, Some(k.as_ref()));
        put_nullable(out, v.as_ref().map(AsRef::as_ref));
    }
}

fn put_nullable(out: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        None => varint::put(out, -1),
        Some(bytes) => {
            varint::put(out, bytes.len() as i64);
            out.put_slice(bytes);
        }
    }
}

/// A batch of one record stamped with the server's time: what system topics are made of.
pub fn single(now_ms: i64, key: &[u8], value: Option<&[u8]>) -> std::io::Result<BytesMut> {
    let mut builder = Builder::new(Compression::None, HEADER_BYTES + 64 + key.len() + value.map_or(0, <[u8]>::len));
    builder.append(now_ms, Some(key), value, &[] as &[(&[u8], Option<&[u8]>)]);
    let mut bytes = builder.build(None)?;
    stamp_append_time(&mut bytes, now_ms);
    Ok(bytes)
}

/// No headers, typed: for callers that have none.
pub const NO_HEADERS: &[(Bytes, Option<Bytes>)] = &[];
