//! Kafka's wire protocol: bytes in, facts or errors out, and answers back to bytes.
//!
//! ```text
//!   | len i32 | request header | request body |          | len i32 | response header | response body |
//! ```
//!
//! This room is pure: it knows no sockets, topics or groups. Nothing here panics on bytes of a client, and no length that a client claims
//! is allocated before its bytes are there. Record batches pass through it as slices in both directions, never copied and never looked
//! into: that is `millpond-batch`'s.
//!
//! What is hot or comes before everything else is written by hand: [`produce`], [`fetch`], [`metadata`], [`api_versions`]. The bodies of
//! all other requests are decoded by the `kafka-protocol` crate, which believes lengths; [`guard`] checks them first.
//!
//! What follows the last field of a body is ignored, as Kafka's brokers ignore it: librdkafka up to 2.16 at least sends three bytes behind a Metadata request for all
//! topics, which whoever subscribes to a pattern does.
//!
//! In reading order: [`frame`] the length · [`read`] and [`write`](mod@write) the types · [`table`] arrays that are read where they lie ·
//! [`versions`] which APIs there are · [`header`] what stands before a body · [`api_versions`], [`metadata`], [`produce`], [`fetch`] the
//! messages by hand, `topic` what the last two share · [`consumer`] what consumers tell each other · [`guard`] the check before all others, and `schema` what they are made of.

pub mod api_versions;
pub mod consumer;
mod error;
pub mod fetch;
pub mod frame;
pub mod guard;
pub mod header;
pub mod metadata;
pub mod produce;
pub mod read;
mod schema;
pub mod table;
#[cfg(test)]
mod testing;
mod topic;
pub mod versions;
pub mod write;

pub use error::WireError;
pub use header::{Answer, Request, RequestHeader, response};
pub use read::{Reader, StrBytes, TopicId};
pub use table::{Element, Table};
pub use topic::{CurrentLeader, NodeEndpoint, TopicKey};
pub use versions::Api;
pub use write::Writer;
