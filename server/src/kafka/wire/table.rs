//! Arrays that are read again whenever they are walked over, instead of being stored.

use super::{Reader, WireError};
use std::{fmt, marker::PhantomData};

/// What arrays are made of.
pub trait Element: Sized {
    /// Bytes of the shortest one in a version.
    fn least_bytes(version: i16) -> usize;

    /// Reads one. What comes out depends on the bytes and the version alone.
    fn read(r: &mut Reader, version: i16) -> Result<Self, WireError>;
}

/// Bytes of the shortest structure with fields of `fixed` bytes, so many strings, and so many fields of bytes, records or arrays.
#[must_use]
pub fn least_bytes(flexible: bool, fixed: usize, strings: usize, arrays: usize) -> usize {
    // The last byte counts the tagged fields.
    if flexible { fixed + strings + arrays + 1 } else { fixed + 2 * strings + 4 * arrays }
}

impl Element for i32 {
    fn least_bytes(_: i16) -> usize {
        size_of::<Self>()
    }

    fn read(r: &mut Reader, _: i16) -> Result<Self, WireError> {
        r.i32("element")
    }
}

/// An array of a message, as a slice of its bytes. All of it was read once and found sound, so whoever walks over it meets no errors; it
/// takes no memory by element.
pub struct Table<T> {
    /// At the first element; `None` if the version has no such array.
    at: Option<Reader>,
    count: usize,
    version: i16,
    of: PhantomData<fn() -> T>,
}

impl<T: Element> Table<T> {
    /// Reads an array with all of its elements.
    pub fn read(r: &mut Reader, version: i16, what: &'static str) -> Result<Self, WireError> {
        Self::read_nullable(r, version, what)?.ok_or(WireError::Null { what })
    }

    /// [`Table::read`], or null.
    pub fn read_nullable(r: &mut Reader, version: i16, what: &'static str) -> Result<Option<Self>, WireError> {
        let Some(count) = r.nullable_count(T::least_bytes(version), what)? else { return Ok(None) };
        let at = r.clone();
        for _ in 0..count {
            T::read(r, version)?;
        }
        Ok(Some(Self { at: Some(at), count, version, of: PhantomData }))
    }

    /// An array without elements, for versions that do not have it.
    #[must_use]
    pub fn empty() -> Self {
        Self { at: None, count: 0, version: 0, of: PhantomData }
    }

    /// How many elements there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Walks over the elements.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = T> + use<T> {
        let (mut at, version) = (self.at.clone(), self.version);
        (0..self.count).map(move |_| {
            let element = at.as_mut().map(|r| T::read(r, version));
            element.and_then(Result::ok).expect("the same bytes were read when the table was, and gave an element")
        })
    }
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self { at: self.at.clone(), count: self.count, version: self.version, of: PhantomData }
    }
}

impl<T: Element + fmt::Debug> fmt::Debug for Table<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
