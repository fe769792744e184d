//! What can be wrong with bytes that claim to be Kafka's protocol.

/// Why bytes of a client are not a message that we take. No variant is our own fault except [`WireError::Encode`]; a connection that such
/// bytes came from cannot be read on, except after [`WireError::Version`], as the frame around it was whole.
///
/// `what` is the name of the field in Kafka's message schemas, `at` counts bytes from the beginning of what was given to be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// A frame of no bytes, or of fewer than none.
    #[error("a frame of {0} bytes cannot be; is the other side speaking another protocol?")]
    FrameLength(i32),
    /// A frame longer than this side accepts.
    #[error("a frame of {claimed} bytes, at most {limit} are accepted; is the other side speaking another protocol?")]
    FrameTooLarge {
        /// What its length says, in bytes.
        claimed: usize,
        /// What is accepted, in bytes.
        limit: usize,
    },
    /// The bytes ended before the value did.
    #[error("{what}: {wanted} bytes wanted at byte {at}, {left} left")]
    Short {
        /// What was being read.
        what: &'static str,
        /// Byte at which it would begin.
        at: usize,
        /// Bytes wanted.
        wanted: usize,
        /// Bytes left.
        left: usize,
    },
    /// A length or a count below zero that does not mean null.
    #[error("{what}: a length of {length} before byte {at} cannot be")]
    Length {
        /// What was being read.
        what: &'static str,
        /// Byte after the length.
        at: usize,
        /// What was found.
        length: i32,
    },
    /// More elements than the bytes that are left can hold.
    #[error("{what}: {count} elements of at least {least} bytes are announced before byte {at}, {left} bytes are left")]
    Count {
        /// The array.
        what: &'static str,
        /// Byte after the count.
        at: usize,
        /// How many are announced.
        count: usize,
        /// Bytes of the shortest element.
        least: usize,
        /// Bytes left.
        left: usize,
    },
    /// More elements, in all arrays of a message, than are decoded at once.
    #[error("{what}: more than {limit} elements in one message; ask for less at once")]
    Elements {
        /// The array with the first one too many.
        what: &'static str,
        /// How many are taken.
        limit: usize,
    },
    /// A null where the version has none.
    #[error("{what} is null, which this version of the message does not allow")]
    Null {
        /// What was being read.
        what: &'static str,
    },
    /// A varint that is longer than its type allows.
    #[error("{what}: the varint at byte {at} is too long")]
    Varint {
        /// What was being read.
        what: &'static str,
        /// Its first byte.
        at: usize,
    },
    /// A string that is not UTF-8.
    #[error("{what}: the string that ends at byte {at} is not UTF-8")]
    Utf8 {
        /// What was being read.
        what: &'static str,
        /// Byte after it.
        at: usize,
    },
    /// A tagged field that we know, with a size that is not that of its value.
    #[error("{what}: the value of tagged field {tag} ends {left} bytes before its size says")]
    Tag {
        /// The structure that has it.
        what: &'static str,
        /// Its number.
        tag: u32,
        /// Bytes of it that are not of its value.
        left: usize,
    },
    /// A byte that says whether a structure follows, and says neither.
    #[error("{what}: {found} at byte {at} says neither that it is null nor that it is there")]
    Presence {
        /// The structure.
        what: &'static str,
        /// The byte.
        at: usize,
        /// What was found.
        found: i8,
    },
    /// An API that is not known here.
    #[error("API key {key} is not known here")]
    Api {
        /// Its number.
        key: i16,
    },
    /// A version of an API that is not known here.
    #[error("version {version} of {name} is not known here, versions {min} to {max} are")]
    Version {
        /// Kafka's name of the API.
        name: &'static str,
        /// What was asked for.
        version: i16,
        /// The oldest that is known.
        min: i16,
        /// The newest that is known.
        max: i16,
    },
    /// A message whose lengths are sound, and which is refused all the same.
    #[error("version {version} of the API with key {key} does not parse: {why}")]
    Decode {
        /// The API's number.
        key: i16,
        /// The version.
        version: i16,
        /// What the generated decoder said.
        why: String,
    },
    /// An answer of ours that the version cannot express.
    #[error("an answer in version {version} of {name} cannot be encoded: {why}")]
    Encode {
        /// Kafka's name of the API.
        name: &'static str,
        /// The version.
        version: i16,
        /// What the generated encoder said.
        why: String,
    },
}
