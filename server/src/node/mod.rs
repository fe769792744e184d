//! What a core does for whoever asks: the partitions that live on it, and a copy of what all cores know.
//!
//! Generic over the door ([`millpond_runtime::Rt`]), so that the same code serves in production and in the simulator. A core
//! owns the journal homes `core-NN` with `NN % cores == its number`, and with them the partitions that live there; whoever
//! needs something of another core calls over the mesh ([`Core::at`]). Core 0 alone changes the catalog; all others apply
//! what it has synced.
//!
//! In reading order: [`config`] what a node is asked to be · [`budget`] memory of requests under way · [`shared`] what its cores and the control thread tell each
//! other, `told` how they wait for it · [`core`] a core · [`mesh`] calls between cores · [`partition`] a partition at its owner · [`produce`] appends,
//! wherever the partition lives · `hold` what comes while leadership is handed over · [`read`] fetches · [`look`] look-ups · [`follow`] a core follows the catalog · [`meta`] changes of
//! the catalog · [`groups`] consumer groups · [`cluster`] the other nodes, and who leads what · [`remote`] asking another node · [`steer`] replicas
//! become what the catalog wants · `renew` damaged ones are made anew · `starts` replicas begin where their leader does · [`health`] how the cluster is · [`census`] what is counted of it for
//! the metrics.

pub mod budget;
pub mod census;
pub mod cluster;
pub mod config;
pub mod core;
pub mod follow;
pub mod groups;
pub mod health;
mod hold;
pub mod look;
pub mod mesh;
pub mod meta;
mod near;
pub mod partition;
pub mod produce;
pub mod read;
pub mod remote;
mod renew;
pub mod shared;
mod starts;
pub mod steer;
mod told;

pub use config::NodeConfig;
pub use core::Core;
pub use shared::{Shared, Stage};

use millpond_log::LogError;
use millpond_runtime::{NodeId, Rt};
use millpond_wire::messages::{Code, Failure};

/// What a client is told of an error of the log.
#[must_use]
pub fn failure_of(error: &LogError) -> Failure {
    let (code, retry_ms) = match error {
        LogError::UnknownGroup { .. } => (Code::UnknownTopic, 0),
        LogError::OffsetOutOfRange { .. } => (Code::OffsetOutOfRange, 0),
        LogError::OutOfOrderSequence { .. } => (Code::OutOfOrderSequence, 0),
        LogError::ProducerFenced { .. } => (Code::ProducerFenced, 0),
        LogError::BadBatch { .. } | LogError::DuplicateForgotten { .. } => (Code::BadBatch, 0),
        LogError::Full { .. } => (Code::Overloaded, 50),
        LogError::Corrupt { .. } => (Code::Corrupt, 0),
        LogError::Stopped { .. } => (Code::MaybeDone, 500),
        // It was alone a moment ago.
        LogError::Replica { .. } => (Code::NotOwner, 20),
        // Another replica leads soon.
        LogError::Damaged { .. } => (Code::NotOwner, 50),
        full if full.is_disk_full() => (Code::DiskFull, 1_000),
        _ => (Code::Internal, 0),
    };
    Failure::new(code, error.to_string(), error.advice()).retry_after(retry_ms)
}

/// Whether whoever is told of a failure takes it for final: nothing is to be waited for, and nobody else to be asked.
#[must_use]
pub fn is_final(failure: &Failure) -> bool {
    failure.retry_after_ms == 0 && failure.code() != Code::NotOwner
}

/// The answer where another node answers, if anybody does for the moment.
#[must_use]
pub fn not_owner(node: Option<NodeId>) -> Failure {
    let (message, retry_ms) = match node {
        Some(node) => (format!("node {node} leads this partition"), 0),
        None => ("nobody is known to lead this partition for the moment".to_owned(), 50),
    };
    let node_id = node.map_or(0, |node| node.0);
    Failure { node_id, ..Failure::new(Code::NotOwner, message, "refresh the metadata, and ask there").retry_after(retry_ms) }
}

/// The answer of a node that has just started.
#[must_use]
pub fn learning() -> Failure {
    let message = "this node does not know yet what its cluster knows";
    Failure::new(Code::Unavailable, message, "retry, or ask another node").retry_after(200)
}

/// The answer for a partition that is not there.
#[must_use]
pub fn unknown_partition(topic: &str, partition: u32) -> Failure {
    let shown: String = topic.chars().take(80).collect();
    Failure::new(
        Code::UnknownTopic,
        format!("there is no partition {shown}-{partition}"),
        "refresh the metadata; the topic may have been deleted",
    )
}

/// Waits for room in a log for at most `wait`, for requests that can say so if there is none.
pub(crate) async fn await_room<R: Rt>(rt: &R, log: &millpond_log::Log<R>, wait: std::time::Duration) {
    if !log.room() {
        // A log without room refuses the append itself, with the reason.
        let _ = millpond_runtime::rt::timeout(rt, wait, log.wait_room()).await;
    }
}
