//! What requests are made of, field by field: enough to walk over a body without decoding it.
//!
//! The table is derived from Kafka's own schemas. It covers each version that Kafka 4.1 has, those of [`versions`](super::versions) and
//! newer ones.

mod table;

use super::WireError;

/// One request.
#[derive(Debug)]
pub(super) struct Schema {
    /// The API's number.
    pub(super) key: i16,
    /// Kafka's name of the API.
    pub(super) name: &'static str,
    /// The oldest version.
    pub(super) min: i16,
    /// The newest version.
    pub(super) max: i16,
    /// The first flexible version.
    pub(super) flexible: i16,
    /// Its fields, in their order on the wire.
    pub(super) fields: &'static [Field],
}

/// A field of a structure.
#[derive(Debug)]
pub(super) struct Field {
    /// Kafka's name of it.
    pub(super) name: &'static str,
    /// What it holds.
    pub(super) kind: Kind,
    /// The versions that have it.
    first: i16,
    last: i16,
    /// The first version in which it may be null.
    null: i16,
    /// Its number, if it is a tagged field.
    pub(super) tag: Option<u32>,
}

/// What a field or an element holds.
#[derive(Debug)]
pub(super) enum Kind {
    /// So many bytes, always.
    Fixed(usize),
    /// A string.
    Text,
    /// Bytes or records.
    Bytes,
    /// Fields of its own.
    Struct(&'static [Field]),
    /// Any number of elements.
    Array(&'static Kind),
}

/// Kafka's versions end before it.
const NO_VERSION: i16 = i16::MAX;

const fn schema(key: i16, name: &'static str, min: i16, max: i16, flexible: i16, fields: &'static [Field]) -> Schema {
    Schema { key, name, min, max, flexible, fields }
}

/// The name of a field, which says next what it holds.
struct Named(&'static str);

const fn named(name: &'static str) -> Named {
    Named(name)
}

impl Named {
    const fn fixed(self, bytes: usize) -> Field {
        self.of(Kind::Fixed(bytes))
    }

    const fn text(self) -> Field {
        self.of(Kind::Text)
    }

    const fn bytes(self) -> Field {
        self.of(Kind::Bytes)
    }

    const fn fields(self, fields: &'static [Field]) -> Field {
        self.of(Kind::Struct(fields))
    }

    const fn array(self, of: &'static Kind) -> Field {
        self.of(Kind::Array(of))
    }

    /// A field that all versions of its request have, and that is never null.
    const fn of(self, kind: Kind) -> Field {
        Field { name: self.0, kind, first: 0, last: NO_VERSION, null: NO_VERSION, tag: None }
    }
}

impl Field {
    const fn since(self, first: i16) -> Self {
        Self { first, ..self }
    }

    const fn until(self, last: i16) -> Self {
        Self { last, ..self }
    }

    const fn null_since(self, null: i16) -> Self {
        Self { null, ..self }
    }

    const fn tag(self, tag: u32) -> Self {
        Self { tag: Some(tag), ..self }
    }

    /// Whether a version has it.
    pub(super) fn is_in(&self, version: i16) -> bool {
        (self.first..=self.last).contains(&version)
    }

    /// Whether it may be null in a version.
    pub(super) fn may_be_null(&self, version: i16) -> bool {
        version >= self.null
    }

    /// Bytes of the shortest value in a version.
    fn least_bytes(&self, version: i16, flexible: bool) -> usize {
        match self.kind {
            // One byte says whether it is there.
            Kind::Struct(_) if self.may_be_null(version) => 1,
            _ => self.kind.least_bytes(version, flexible),
        }
    }
}

impl Kind {
    /// Bytes of the shortest value in a version that is not null.
    pub(super) fn least_bytes(&self, version: i16, flexible: bool) -> usize {
        match self {
            Self::Fixed(bytes) => *bytes,
            Self::Text | Self::Bytes | Self::Array(_) if flexible => 1,
            Self::Text => size_of::<i16>(),
            Self::Bytes | Self::Array(_) => size_of::<i32>(),
            Self::Struct(fields) => {
                let own = fields.iter().filter(|field| field.is_in(version) && field.tag.is_none());
                own.map(|field| field.least_bytes(version, flexible)).sum::<usize>() + usize::from(flexible)
            }
        }
    }
}

impl Schema {
    /// The schema of a request, and whether this version of it is flexible.
    pub(super) fn of(key: i16, version: i16) -> Result<(&'static Self, bool), WireError> {
        let this = table::SCHEMAS.iter().find(|schema| schema.key == key).ok_or(WireError::Api { key })?;
        let Self { name, min, max, flexible, .. } = *this;
        if !(min..=max).contains(&version) {
            return Err(WireError::Version { name, version, min, max });
        }
        Ok((this, version >= flexible))
    }
}

#[cfg(test)]
pub(super) use table::SCHEMAS;
