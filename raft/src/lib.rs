//! Replication: many Raft groups on one core, over the journal of that core.
//!
//! Raft itself is the `raft` crate, which does no I/O. This room is everything around it, and promises: what a replica says to others
//! (a vote, an entry that it has) is on stable media first; what is called committed is on stable media of a quorum; the same
//! seed gives the same run.
//!
//! In reading order: [`members`] who the replicas of a group are · [`wire`] what nodes say to each other · [`storage`] what Raft sees of the log ·
//! `replica` one group · `pace` how fast replicas that lag are served · [`change`] changes of members · [`driver`] all groups of a core, snapshots among it · [`link`](mod@link) connections between nodes.
//!
//! What a replica does with what Raft wants of it:
//!
//! ```text
//!   step, propose, tick -> Ready -> journal: hard state (if term or vote changed), entries      one write, one sync for all groups
//!                             |       |-> leader: messages to followers leave at once           (Ongaro's thesis, 10.2.1)
//!                             |       '-> when synced: this replica counts, followers answer
//!                             '-> committed entries: members, readers, whoever waits
//! ```

pub mod change;
pub mod driver;
pub mod link;
mod logger;
pub mod members;
mod pace;
mod queue;
mod replica;
pub mod storage;
pub mod wire;

pub use driver::{Census, Counters, Driver, Lost, PeerStatus, ProposeError, Proposed, RaftConfig, ReadError, Status};
pub use link::{LinkError, accept, link};
pub use members::{Membership, RaftId};
