//! What clients of Kafka see of a node.
//!
//! In reading order: [`wire`] the bytes of the protocol, without doing anything about them.

pub mod wire;
