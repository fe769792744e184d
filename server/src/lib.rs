//! The node and the millpond command.
//!
//! In reading order: [`keyed`] state written down as records · [`security`] who somebody is · [`catalog`] which topics there are and where they live ·
//! [`coordinator`] consumer groups · [`quota`] who may send how much · [`metrics`] what the cores tell about themselves ·
//! [`http`] what the outside may ask · [`kafka`] Kafka's protocol as bytes · [`front`] connections.

pub mod boot;
pub mod catalog;
pub mod cli;
pub mod coordinator;
pub mod front;
pub mod http;
pub mod kafka;
pub mod keyed;
pub mod metrics;
pub mod node;
pub mod quota;
pub mod security;
pub mod serve;
