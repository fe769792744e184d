//! What stands between bytes of a client and the decoders that kafka-protocol generates.
//!
//! Those allocate by whatever count they read: the four bytes `7f ff ff ff` as the number of an array's elements end the process. So a body
//! is walked over first, by its schema: each length and count is held against the bytes that are left, nulls are where they may be, tagged
//! fields that are known are as long as they say, and the elements of all arrays together are at most [`ELEMENTS_MAX`]. How deep structures
//! lie in one another is up to the schema, not to the bytes. Nothing is allocated for any of it. What passes is then decoded as it is;
//! strings that are not UTF-8 are left to the decoder to refuse.
//!
//! [`answer`] is the way back, for answers that the crate encodes.

use super::{
    Api, Reader, WireError, response,
    schema::{Field, Kind, Schema},
};
use bytes::Bytes;
use kafka_protocol::protocol::{Decodable, Encodable};

/// The most elements of arrays, and tagged fields, in one request. Decoded, an element takes at most 128 bytes beside its strings, whatever
/// it takes on the wire, and one with a tagged field that nobody knows some 540 for the two: at most some 70 MiB in all.
pub const ELEMENTS_MAX: usize = 256 * 1024;

/// Checks the body of a request and decodes it. What follows its last field is ignored ([`super`]). [`Api::check`] comes before it; this knows all versions of Kafka 4.1.
pub fn decode_guarded<T: Decodable>(key: i16, version: i16, body: &mut Bytes) -> Result<T, WireError> {
    check(key, version, body)?;
    T::decode(body, version).map_err(|e| WireError::Decode { key, version, why: e.to_string() })
}

/// The frame of an answer that the crate encodes, in pieces to be sent one behind the other.
pub fn answer(api: &Api, version: i16, correlation_id: i32, body: &impl Encodable) -> Result<Vec<Bytes>, WireError> {
    let mut w = response(api, version, correlation_id);
    body.encode(w.raw(), version).map_err(|e| WireError::Encode { name: api.name, version, why: e.to_string() })?;
    Ok(w.finish_frame())
}

/// Walks over the body of a request, up to its last field. Returns how many elements and tagged fields it has.
pub fn check(key: i16, version: i16, body: &Bytes) -> Result<usize, WireError> {
    let (schema, flexible) = Schema::of(key, version)?;
    let mut r = Reader::new(body.clone(), flexible);
    let mut walk = Walk { version, elements: 0 };
    walk.fields(&mut r, schema.fields, schema.name)?;
    Ok(walk.elements)
}

/// A walk over a body.
struct Walk {
    version: i16,
    /// What was met so far, and announced.
    elements: usize,
}

impl Walk {
    fn fields(&mut self, r: &mut Reader, fields: &[Field], what: &'static str) -> Result<(), WireError> {
        let version = self.version;
        for field in fields.iter().filter(|field| field.is_in(version) && field.tag.is_none()) {
            self.field(r, field)?;
        }
        let tags = r.tags(what, |tag, r| {
            let known = fields.iter().find(|field| field.is_in(version) && field.tag == Some(tag));
            known.map(|field| self.field(r, field)).transpose().map(|found| found.is_some())
        })?;
        self.count(tags, what)
    }

    fn field(&mut self, r: &mut Reader, field: &Field) -> Result<(), WireError> {
        let what = field.name;
        let may_be_null = field.may_be_null(self.version);
        if may_be_null && matches!(field.kind, Kind::Struct(_)) {
            let at = r.at();
            match r.i8(what)? {
                -1 => return Ok(()),
                1 => {}
                found => return Err(WireError::Presence { what, at, found }),
            }
        }
        if self.value(r, &field.kind, what)? || may_be_null { Ok(()) } else { Err(WireError::Null { what }) }
    }

    /// Goes over one value, and says whether it is one: null is told by what is made of bytes or elements.
    fn value(&mut self, r: &mut Reader, kind: &Kind, what: &'static str) -> Result<bool, WireError> {
        let length = match kind {
            Kind::Fixed(bytes) => Some(*bytes),
            Kind::Text => r.string_length(what)?,
            Kind::Bytes => r.bytes_length(what)?,
            Kind::Struct(fields) => return self.fields(r, fields, what).map(|()| true),
            Kind::Array(of) => return self.array(r, of, what),
        };
        length.map(|bytes| r.skip(bytes, what)).transpose().map(|found| found.is_some())
    }

    fn array(&mut self, r: &mut Reader, of: &Kind, what: &'static str) -> Result<bool, WireError> {
        let least = of.least_bytes(self.version, r.is_flexible());
        let Some(count) = r.nullable_count(least, what)? else { return Ok(false) };
        self.count(count, what)?;
        for _ in 0..count {
            if !self.value(r, of, what)? {
                return Err(WireError::Null { what });
            }
        }
        Ok(true)
    }

    fn count(&mut self, more: usize, what: &'static str) -> Result<(), WireError> {
        self.elements += more;
        if self.elements > ELEMENTS_MAX { Err(WireError::Elements { what, limit: ELEMENTS_MAX }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
