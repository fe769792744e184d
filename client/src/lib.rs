//! The Millpond client: produce, consume, replay and administer, on tokio.
//!
//! A [`Client`] knows the servers; everything else is made from it: [`Producer`], [`Admin`]. Every [`Error`] says whether
//! what failed took effect ([`Error::effect`]) and what to do about it ([`Error::advice`]).
//!
//! In reading order: [`error`] · `backoff` · `conn` one connection · `metadata` what is known of topics · [`client`] ·
//! [`admin`] · [`producer`].

pub mod admin;
mod backoff;
pub mod client;
mod conn;
pub mod error;
mod metadata;
pub mod producer;

pub use admin::{Admin, FoundOffset, NewTopic, OffsetSpec, setting};
pub use client::{Client, ClientBuilder, PORT_DEFAULT};
pub use error::{Effect, Error, Result};
pub use millpond_batch::{Compression, HeaderRef, Record};
/// The messages of the protocol: what the calls of [`Admin`] answer with.
pub use millpond_wire::messages;
pub use millpond_wire::messages::{Acks, Code};
pub use producer::{Choice, Delivered, Delivery, Partitioner, Producer, ProducerBuilder, ProducerRecord, partition_of_key};
