//! The only door to the world: cores, mesh, disk, net, clock and randomness.
//!
//! Everything above this room is generic over [`Rt`] and runs unchanged on its backends: in production a ring and a loop per core
//! ([`ring`]: io_uring, O_DIRECT; or, in a build with the feature `glommio`, that library's), in tests the simulator (one thread, one
//! seed, a faulty disk and network). io_uring is named in this crate alone, and no other crate asks for the time, for
//! randomness, for a thread or for a file.
//!
//! In reading order: [`ids`] the numbers that must not be swapped · [`limits`] sizes that the rooms agree on ·
//! [`codec`] little-endian reading and writing that cannot run past the end · [`hash`] maps with a fixed hasher ·
//! [`rt`] the traits · [`error`] what the world answers when it refuses ·
//! [`mailbox`] bounded queues between threads · [`pool`] threads beside the cores · [`sys`] limits and bindings that the
//! system keeps · [`topology`] the CPUs of this machine · [`placement`] which of them become cores · [`probe`] whether this
//! machine can run a node · [`cores`] starting them · [`tls`] connections that nobody reads along · `paths` names of files · [`ring`] the production backend · [`sim`] the simulator.

#[cfg(test)]
mod backend_tests;
pub mod codec;
pub mod cores;
pub mod error;
#[cfg(feature = "glommio")]
pub mod glo;
pub mod hash;
pub mod ids;
pub mod limits;
pub mod mailbox;
mod paths;
pub mod placement;
pub mod pool;
pub mod probe;
pub mod ring;
pub mod rt;
pub mod sim;
pub mod sys;
pub mod tls;
pub mod topology;

pub use cores::{Backend, Cores, CoresConfig, StartError};
pub use error::{IoError, Result};
pub use hash::{FxHashMap, FxHashSet};
pub use ids::{CoreId, GroupId, Index, NodeId, Offset, Term};
pub use rt::{Conn, ConnRead, ConnWrite, Deadline, File, IoBuf, Listener, Nanos, Open, Rt, Share, Shown, Space};
