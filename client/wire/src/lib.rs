//! The native protocol: frames and messages.
//!
//! The client and the server know each other through this room only. [`frame`] cuts a byte stream into frames and
//! draws their bytes, [`messages`] lists what they say.

/// The version of the protocol that this build speaks.
pub const VERSION: u32 = 1;

pub mod frame;
pub mod messages;
