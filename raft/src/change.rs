//! Changes of a group's members, as entries carry them: Raft's own message, whose context says where new replicas live.

use crate::members::RaftId;
use bytes::{BufMut, BytesMut};
use millpond_runtime::{NodeId, codec::Reader};
use protobuf::Message as _;
use raft::eraftpb::{ConfChange, ConfChangeSingle, ConfChangeType, ConfChangeV2, Entry, EntryType};

/// What to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A replica that has all entries and does not vote.
    AddLearner(RaftId, NodeId),
    /// A replica that votes; a learner becomes one.
    AddVoter(RaftId, NodeId),
    /// A replica goes.
    Remove(RaftId),
}

/// Raft's message. Several changes go through a joint configuration (Ongaro's thesis, 4.3), which is left by itself.
#[must_use]
pub fn message(changes: &[Change]) -> ConfChangeV2 {
    let mut out = ConfChangeV2::default();
    let mut context = BytesMut::new();
    for change in changes {
        let (what, id, node) = match change {
            Change::AddLearner(id, node) => (ConfChangeType::AddLearnerNode, *id, Some(*node)),
            Change::AddVoter(id, node) => (ConfChangeType::AddNode, *id, Some(*node)),
            Change::Remove(id) => (ConfChangeType::RemoveNode, *id, None),
        };
        let mut single = ConfChangeSingle { node_id: id, ..ConfChangeSingle::default() };
        single.set_change_type(what);
        out.changes.push(single);
        if let Some(node) = node {
            context.put_u64_le(id);
            context.put_u64_le(node.0);
        }
    }
    out.context = context.freeze();
    out
}

/// Raft's message of an entry, and where the new replicas live. An empty one leaves a joint configuration.
pub(crate) fn decode(entry: &Entry) -> Result<(ConfChangeV2, Vec<(RaftId, NodeId)>), String> {
    let change = match entry.get_entry_type() {
        EntryType::EntryConfChange => {
            let mut old = ConfChange::default();
            old.merge_from_bytes(&entry.data).map_err(|e| e.to_string())?;
            let mut single = ConfChangeSingle { node_id: old.node_id, ..ConfChangeSingle::default() };
            single.set_change_type(old.get_change_type());
            ConfChangeV2 { changes: vec![single].into(), context: old.context, ..ConfChangeV2::default() }
        }
        _ => {
            let mut new = ConfChangeV2::default();
            new.merge_from_bytes(&entry.data).map_err(|e| e.to_string())?;
            new
        }
    };
    let mut r = Reader::new(&change.context);
    let mut nodes = Vec::new();
    while r.left() > 0 {
        let mut pair = || Ok::<_, millpond_runtime::codec::Short>((r.u64()?, NodeId(r.u64()?)));
        nodes.push(pair().map_err(|short| short.to_string())?);
    }
    Ok((change, nodes))
}

#[cfg(test)]
mod tests;
