//! Clients of Kafka's protocol that are bad in their own ways.
//!
//! [`requests`] what is sound · [`client`] a client that says what it is told to · and the ways: [`frames`] that are broken, requests of [`many`]
//! elements, [`crowds`] that say next to nothing.

mod client;
mod crowds;
mod frames;
mod many;
mod requests;
mod seeds;
