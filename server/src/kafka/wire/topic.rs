//! What Produce and Fetch have in common: how they name a topic, and what they tell a client that asked the wrong broker.

use super::{Reader, StrBytes, TopicId, WireError, Writer, table::least_bytes, write::Tags};

/// A topic, as a request says it and as it is answered: its name, or its id (KIP-516), by which one that was made anew is not taken for the one before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicKey {
    /// Its name.
    Name(StrBytes),
    /// Its id.
    Id(TopicId),
}

impl TopicKey {
    /// Bytes of the shortest structure that consists of one and an array.
    pub(super) fn least_bytes_with_array(flexible: bool, by_id: bool) -> usize {
        if by_id { least_bytes(flexible, size_of::<TopicId>(), 0, 1) } else { least_bytes(flexible, 0, 1, 1) }
    }

    pub(super) fn read(r: &mut Reader, by_id: bool) -> Result<Self, WireError> {
        Ok(if by_id { Self::Id(r.topic_id("TopicId")?) } else { Self::Name(r.string("Topic")?) })
    }

    pub(super) fn write(&self, w: &mut Writer) {
        match self {
            Self::Name(name) => w.string(name),
            Self::Id(id) => w.topic_id(*id),
        }
    }

    /// The same, but for the request that it came in, which it does not hold.
    #[must_use]
    pub fn kept(&self) -> Self {
        match self {
            Self::Name(name) => Self::Name(StrBytes::from_string(name.to_string())),
            Self::Id(id) => Self::Id(*id),
        }
    }

    /// How long it is, in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Name(name) => name.len(),
            Self::Id(id) => id.0.len(),
        }
    }

    /// Whether it is a name without a letter.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Who leads a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurrentLeader {
    /// The broker.
    pub leader_id: i32,
    /// Its epoch.
    pub leader_epoch: i32,
}

impl CurrentLeader {
    /// Nothing is said of a leader.
    pub const UNKNOWN: Self = Self { leader_id: -1, leader_epoch: -1 };

    pub(super) fn put(self, tags: &mut Tags, tag: u32) {
        tags.put(tag, self, Self::UNKNOWN, |w, now| {
            w.i32(now.leader_id);
            w.i32(now.leader_epoch);
            w.no_tags();
        });
    }
}

/// Where a broker lives that leads something the client asked for in vain (KIP-951): without it clients do not believe in a new leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEndpoint {
    /// Its number.
    pub node_id: i32,
    /// Its name or address.
    pub host: StrBytes,
    /// Its port.
    pub port: i32,
    /// Where it stands.
    pub rack: Option<StrBytes>,
}

impl NodeEndpoint {
    /// Puts them, unless there are none.
    pub(super) fn put_all(all: &[Self], tags: &mut Tags, tag: u32) {
        tags.put(tag, all, &[], |w, all| {
            w.array(all, |w, one| {
                w.i32(one.node_id);
                w.string(&one.host);
                w.i32(one.port);
                w.nullable_string(one.rack.as_deref());
                w.no_tags();
            });
        });
    }
}
