//! Who the replicas of a group are, and on which nodes.
//!
//! ```text
//!   | version u8 = 1 | auto leave u8 | me u64 | voters | learners | outgoing voters | next learners | nodes |
//!   each list: | n u32 | n × id u64 |      nodes: | n u32 | n × (id u64, node u64) |
//! ```
//!
//! Little-endian. Kept by the log as [`millpond_log::Members`], which guards them by the journal's checksums. A replica has an id of its
//! own that is never used again: one that has lost its disk comes back as somebody else, since what it promised is forgotten.

use bytes::{BufMut, Bytes, BytesMut};
use millpond_runtime::{
    NodeId,
    codec::{Reader, Short},
};
use raft::eraftpb::ConfState;
use std::collections::BTreeMap;

/// One incarnation of a replica. Never 0, never used again.
pub type RaftId = u64;

const VERSION: u8 = 1;
/// Replicas of one group at most, in each role.
const REPLICAS_MAX: u32 = 64;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Membership {
    /// The replica that keeps this.
    pub me: RaftId,
    /// Raft's view: who votes, who learns, and whether that is changing.
    pub conf: ConfState,
    /// Where each of them lives.
    pub nodes: BTreeMap<RaftId, NodeId>,
}

/// The bytes are no membership.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the members of a group cannot be read: {0}")]
pub struct BadMembers(pub String);

impl From<Short> for BadMembers {
    fn from(short: Short) -> Self {
        Self(short.to_string())
    }
}

impl Membership {
    /// Of replica `me` in a group that begins with these voters.
    #[must_use]
    pub fn first(me: RaftId, nodes: BTreeMap<RaftId, NodeId>) -> Self {
        let conf = ConfState { voters: nodes.keys().copied().collect(), ..ConfState::default() };
        Self { me, conf, nodes }
    }

    /// As the log keeps it.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64 + 16 * self.nodes.len());
        out.put_u8(VERSION);
        out.put_u8(u8::from(self.conf.auto_leave));
        out.put_u64_le(self.me);
        for list in [&self.conf.voters, &self.conf.learners, &self.conf.voters_outgoing, &self.conf.learners_next] {
            out.put_u32_le(list.len() as u32);
            list.iter().for_each(|id| out.put_u64_le(*id));
        }
        out.put_u32_le(self.nodes.len() as u32);
        for (id, node) in &self.nodes {
            out.put_u64_le(*id);
            out.put_u64_le(node.0);
        }
        out.freeze()
    }

    /// Reads what [`Membership::encode`] has written.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadMembers> {
        let mut r = Reader::new(bytes);
        let version = r.u8()?;
        if version != VERSION {
            return Err(BadMembers(format!("version {version}, this program knows {VERSION}")));
        }
        let mut this = Self::default();
        this.conf.auto_leave = r.u8()? != 0;
        this.me = r.u64()?;
        this.conf.voters = ids(&mut r)?;
        this.conf.learners = ids(&mut r)?;
        this.conf.voters_outgoing = ids(&mut r)?;
        this.conf.learners_next = ids(&mut r)?;
        for _ in 0..count(&mut r, 4 * REPLICAS_MAX)? {
            let (id, node) = (r.u64()?, NodeId(r.u64()?));
            if this.nodes.insert(id, node).is_some() {
                return Err(BadMembers(format!("replica {id} lives in two places")));
            }
        }
        if this.me == 0 || r.left() > 0 {
            return Err(BadMembers(format!("replica {}, and {} bytes behind the end", this.me, r.left())));
        }
        Ok(this)
    }
}

fn count(r: &mut Reader<'_>, max: u32) -> Result<u32, BadMembers> {
    let n = r.u32()?;
    if n > max { Err(BadMembers(format!("{n} replicas, at most {max} can be"))) } else { Ok(n) }
}

fn ids(r: &mut Reader<'_>) -> Result<Vec<RaftId>, BadMembers> {
    (0..count(r, REPLICAS_MAX)?).map(|_| Ok(r.u64()?)).collect()
}

#[cfg(test)]
mod tests;
