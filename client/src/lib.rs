//! The Millpond client: produce, consume, replay and administer, on tokio.
//!
//! A [`Client`] knows the servers; everything else is made from it: [`Producer`], [`Consumer`], [`Replay`], [`Admin`]. Every [`Error`] says whether
//! what failed took effect ([`Error::effect`]) and what to do about it ([`Error::advice`]).
//!
//! In reading order: [`error`] · `backoff` · `tls` encrypting · `login` who we are · `opening` and `conn` one connection · `metadata` what is known of topics · [`client`] ·
//! [`admin`] · [`producer`] · `fetch` what reading goes through · `position` · [`replay`] · [`consumer`].
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the client lives in the application's tokio runtime, with its clock and its sockets"
)]

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

pub mod admin;
mod backoff;
pub mod client;
mod conn;
pub mod consumer;
pub mod error;
mod fetch;
mod login;
mod metadata;
mod opening;
mod position;
pub mod producer;
pub mod replay;
mod tls;

pub use admin::{Admin, FoundOffset, NewTopic, OffsetSpec, setting};
pub use client::{Client, ClientBuilder, PORT_DEFAULT};
pub use consumer::{Consumer, ConsumerBuilder, Rebalance, TopicPartition};
pub use error::{Effect, Error, Result};
pub use fetch::{
    Isolation, OffsetReset,
    record::{ConsumerRecord, RecordBatch},
};
pub use millpond_batch::{Compression, HeaderRef, Record};
/// The messages of the protocol: what the calls of [`Admin`] answer with.
pub use millpond_wire::messages;
pub use millpond_wire::messages::{Acks, Code};
pub use position::Position;
pub use producer::{Choice, Delivered, Delivery, Partitioner, Producer, ProducerBuilder, ProducerRecord, partition_of_key};
pub use replay::{Replay, ReplayBatches, ReplayMerged, ReplayRecords};
pub use tls::Tls;
