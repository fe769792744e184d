//! Numbers that could be swapped by mistake, each with a type of its own.
//!
//! `Offset` counts records, `Index` and `Term` are Raft's. Byte positions are plain `u64` named `position`.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<$inner> for $name {
            fn from(n: $inner) -> Self {
                Self(n)
            }
        }
    };
}

id! {
    /// A process of the cluster. Never reused.
    NodeId(u64)
}
id! {
    /// One pinned executor thread of a node, counted from 0.
    CoreId(u16)
}
id! {
    /// One Raft group: a partition, a shard or the meta group. Never reused.
    GroupId(u64)
}
id! {
    /// The place of an entry in a group's log, counted from 1; 0 stands before the first.
    Index(u64)
}
id! {
    /// Raft's term, counted from 1; 0 stands before the first election.
    Term(u64)
}
id! {
    /// The place of a record in a partition, counted from 0, dense.
    Offset(u64)
}

impl Index {
    /// The index after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Offset {
    /// The offset `records` further on.
    #[must_use]
    pub fn plus(self, records: u64) -> Self {
        Self(self.0 + records)
    }
}
