//! Records on disk: the journal of a core, the segments of a group, recovery, retention, compaction, replay.

mod carry;
pub mod config;
pub mod entry;
mod epochs;
pub mod error;
pub mod group;
pub mod groups;
mod home;
pub mod inspect;
pub mod journal;
pub mod log;
pub mod lsn;
pub mod producers;
pub mod replica;
mod replication;
pub mod segment;
mod settle;
pub mod snapshot;
mod start;
pub mod stats;
mod store;
pub mod tail;
mod together;
mod upkeep;

pub use config::{GroupConfig, LogConfig};
pub use entry::{Entry, EntryKind};
pub use epochs::epoch_of;
pub use error::LogError;
pub use group::TERM as TERM_ALONE;
pub use log::{Advance, Appended, GroupState, Log, ReadLimits, ReadOut, Recovered, TornTail};
pub use lsn::Lsn;
pub use producers::{Aborted, ProducerView};
pub use replica::{HardState, Members};
pub use replication::ReplicaState;
pub use snapshot::{Manifest, Received, Receiving, Snapshot};
pub use stats::LogStats;
