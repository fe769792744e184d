//! Writing of the types that Kafka's messages are made of, drawn in [`read`](super::read): the counterpart of its reader.
//!
//! What is written is a list of pieces, to be sent one behind the other: record batches are passed on as they are, and never copied unless
//! they are small.

use super::TopicId;
use bytes::{BufMut, Bytes, BytesMut};

/// Records below this are copied into the piece before them: a piece of their own costs more.
const COPIED_BYTES_MAX: usize = 1024;
/// Bytes of a frame's length.
const LENGTH_BYTES: usize = 4;
/// The longest string in the legacy form, in bytes.
pub const LEGACY_STRING_BYTES_MAX: usize = i16::MAX as usize;

/// An answer that is being written.
#[derive(Debug)]
pub struct Writer {
    /// The first piece, once there is a second; the frame's length is still to be written into it.
    first: Option<BytesMut>,
    /// The pieces between the first and the last.
    done: Vec<Bytes>,
    /// The last piece.
    open: BytesMut,
    flexible: bool,
}

impl Writer {
    /// Begins a body without a frame around it. `flexible` says which form lengths have.
    #[must_use]
    pub fn new(flexible: bool) -> Self {
        Self { first: None, done: Vec::new(), open: BytesMut::new(), flexible }
    }

    /// Begins a frame, with room for its length; [`Writer::finish_frame`] ends it.
    #[must_use]
    pub fn frame(flexible: bool) -> Self {
        let mut this = Self::new(flexible);
        this.open.put_bytes(0, LENGTH_BYTES);
        this
    }

    /// Ends a frame that [`Writer::frame`] began: its length goes before what was written since.
    #[must_use]
    pub fn finish_frame(self) -> Vec<Bytes> {
        let bytes = self.len() - LENGTH_BYTES;
        let length = i32::try_from(bytes).expect("answers are bounded far below 2 GiB by whoever fills them");
        let mut pieces = self;
        let head = pieces.first.as_mut().unwrap_or(&mut pieces.open);
        head[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        pieces.finish()
    }

    /// Ends what [`Writer::new`] began.
    #[must_use]
    pub fn finish(self) -> Vec<Bytes> {
        let Self { first, done, open, .. } = self;
        let mut pieces = Vec::with_capacity(done.len() + 2);
        pieces.extend(first.map(BytesMut::freeze));
        pieces.extend(done);
        if !open.is_empty() || pieces.is_empty() {
            pieces.push(open.freeze());
        }
        pieces
    }

    /// Bytes written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.first.as_ref().map_or(0, BytesMut::len) + self.done.iter().map(Bytes::len).sum::<usize>() + self.open.len()
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether lengths are compact and structures end with tagged fields.
    #[must_use]
    pub fn is_flexible(&self) -> bool {
        self.flexible
    }

    /// Where bytes go that are encoded elsewhere.
    pub fn raw(&mut self) -> &mut BytesMut {
        &mut self.open
    }

    /// Writes one byte.
    pub fn i8(&mut self, n: i8) {
        self.open.put_i8(n);
    }

    /// Writes two bytes.
    pub fn i16(&mut self, n: i16) {
        self.open.put_i16(n);
    }

    /// Writes four bytes.
    pub fn i32(&mut self, n: i32) {
        self.open.put_i32(n);
    }

    /// Writes eight bytes.
    pub fn i64(&mut self, n: i64) {
        self.open.put_i64(n);
    }

    /// Writes two bytes, unsigned.
    pub fn u16(&mut self, n: u16) {
        self.open.put_u16(n);
    }

    /// Writes four bytes, unsigned.
    pub fn u32(&mut self, n: u32) {
        self.open.put_u32(n);
    }

    /// Writes eight bytes, a floating-point number.
    pub fn f64(&mut self, n: f64) {
        self.open.put_f64(n);
    }

    /// Writes one byte, 1 for true.
    pub fn bool(&mut self, yes: bool) {
        self.open.put_u8(u8::from(yes));
    }

    /// Writes sixteen bytes.
    pub fn topic_id(&mut self, id: TopicId) {
        self.open.put_slice(&id.0);
    }

    fn seven_bits(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.open.put_u8(n as u8 | 0x80);
            n >>= 7;
        }
        self.open.put_u8(n as u8);
    }

    /// Writes an unsigned number, seven bits a byte, lowest first.
    pub fn uvarint(&mut self, n: u32) {
        self.seven_bits(u64::from(n));
    }

    /// Writes a signed number, zigzag.
    pub fn varint(&mut self, n: i32) {
        self.uvarint(((n << 1) ^ (n >> 31)) as u32);
    }

    /// Writes a signed number of 64 bits, zigzag.
    pub fn varlong(&mut self, n: i64) {
        self.seven_bits(((n << 1) ^ (n >> 63)) as u64);
    }

    fn compact(&mut self, length: Option<usize>) {
        let n = length.map_or(0, |n| n + 1);
        self.uvarint(u32::try_from(n).expect("answers are bounded far below 4 GiB by whoever fills them"));
    }

    fn length(&mut self, length: Option<usize>) {
        if self.flexible {
            return self.compact(length);
        }
        let n = length.map_or(-1, |n| i32::try_from(n).expect("answers are bounded far below 2 GiB by whoever fills them"));
        self.i32(n);
    }

    /// Writes a string. One that the legacy form cannot hold is cut at the end of a character: names are far shorter, only what is said to
    /// people may come near.
    pub fn string(&mut self, text: &str) {
        self.nullable_string(Some(text));
    }

    /// [`Writer::string`], or null.
    pub fn nullable_string(&mut self, text: Option<&str>) {
        if self.flexible {
            self.compact(text.map(str::len));
            return self.open.put_slice(text.unwrap_or_default().as_bytes());
        }
        let Some(text) = text else { return self.i16(-1) };
        let text = &text[..text.floor_char_boundary(LEGACY_STRING_BYTES_MAX)];
        self.i16(text.len() as i16);
        self.open.put_slice(text.as_bytes());
    }

    /// Writes bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.nullable_bytes(Some(bytes));
    }

    /// [`Writer::bytes`], or null.
    pub fn nullable_bytes(&mut self, bytes: Option<&[u8]>) {
        self.length(bytes.map(<[u8]>::len));
        self.open.put_slice(bytes.unwrap_or_default());
    }

    /// Writes record batches that lie one behind the other, in any number of slices, or null. They become pieces of the answer without
    /// being copied, unless they are small.
    pub fn records(&mut self, records: Option<&[Bytes]>) {
        self.length(records.map(|slices| slices.iter().map(Bytes::len).sum()));
        for slice in records.unwrap_or_default() {
            if slice.len() < COPIED_BYTES_MAX {
                self.open.put_slice(slice);
                continue;
            }
            let before = self.open.split();
            match self.first {
                None => self.first = Some(before),
                Some(_) if before.is_empty() => {}
                Some(_) => self.done.push(before.freeze()),
            }
            self.done.push(slice.clone());
        }
    }

    /// Writes an array's count; its elements are to follow.
    pub fn count(&mut self, n: usize) {
        self.length(Some(n));
    }

    /// [`Writer::count`], or null, which has no elements.
    pub fn nullable_count(&mut self, n: Option<usize>) {
        self.length(n);
    }

    /// Writes an array's count and its elements.
    pub fn array<T>(&mut self, items: &[T], mut one: impl FnMut(&mut Self, &T)) {
        self.count(items.len());
        items.iter().for_each(|item| one(self, item));
    }

    /// Ends a structure with its tagged fields, which `fill` puts; versions that are not flexible have none.
    pub fn tags(&mut self, fill: impl FnOnce(&mut Tags)) {
        if !self.flexible {
            return;
        }
        let mut tags = Tags { count: 0, last: None, fields: Self::new(true) };
        fill(&mut tags);
        self.uvarint(tags.count);
        self.open.put_slice(&tags.fields.open);
    }

    /// Ends a structure without tagged fields.
    pub fn no_tags(&mut self) {
        if self.flexible {
            self.uvarint(0);
        }
    }
}

/// The tagged fields of one structure, in the order of their numbers.
#[derive(Debug)]
pub struct Tags {
    count: u32,
    last: Option<u32>,
    fields: Writer,
}

impl Tags {
    /// Puts the next field, unless it has its default value: old clients stumble over a field that tells them nothing (librdkafka before
    /// 2.2.0 skips one byte less than it has).
    pub fn put<T: PartialEq>(&mut self, tag: u32, value: T, default: T, write: impl FnOnce(&mut Writer, T)) {
        if value == default {
            return;
        }
        assert!(self.last.is_none_or(|last| last < tag), "tagged field {tag} is put after {:?}: they go by their numbers", self.last);
        let mut field = Writer::new(true);
        write(&mut field, value);
        (self.count, self.last) = (self.count + 1, Some(tag));
        self.fields.uvarint(tag);
        self.fields.uvarint(u32::try_from(field.open.len()).expect("answers are bounded far below 4 GiB by whoever fills them"));
        self.fields.open.put_slice(&field.open);
    }
}

#[cfg(test)]
mod tests;
