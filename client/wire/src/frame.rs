//! One frame of the native protocol. All integers little-endian.
//!
//! ```text
//!   0     4      6       8             16         20
//!   | len | kind | flags | correlation | meta_len | meta: a prost message | payload: whole record batches |
//! ```
//!
//! `len` counts what follows it. `kind` is a [`crate::messages::Kind`], the same in a request and its reply. `flags`: 1
//! reply, 2 failure (`meta` is then a [`crate::messages::Failure`]); other bits are refused. Replies of one connection
//! come in the order of its requests.
