//! The native protocol: frames and messages.
//!
//! The client and the server know each other through this room only. [`frame`] cuts a byte stream into frames and
//! draws their bytes, [`messages`] lists what they say.

pub mod frame;
pub mod messages;
