//! Frames back to groups. Pure.
//!
//! Recovery hands in the frames of all live files in order. The checkpoint of the oldest file is the ground; whatever
//! the frames say must follow from it: an entry that leaves a gap or a note about a group that never was is damage that
//! no checksum saw, and is reported as such.

use super::{
    checkpoint::{decode_config, decode_group, encode_group},
    format::{FormatError, Frame, FrameKind, Settled},
};
use crate::{
    entry::EntryKind,
    group::Group,
    producers::check_producer,
    replica::{HardState, Members, Replica, Truncation},
};
use bytes::Bytes;
use millpond_batch::Header;
use millpond_runtime::{GroupId, Offset, codec::Reader};
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Default)]
pub struct Replay {
    /// The groups as far as read.
    pub groups: BTreeMap<GroupId, Group>,
    /// Entries read.
    pub entries: u64,
    /// When we read, in milliseconds since 1970: when producers were last seen, since the journal doesn't say better.
    pub now_ms: i64,
    file_seq: u64,
    is_base: bool,
    parts: u64,
    complete: bool,
}

fn shape<T>(what: String) -> Result<T, FormatError> {
    Err(FormatError::Shape { what })
}

impl Replay {
    /// Starts with nothing, at this time in milliseconds since 1970.
    #[must_use]
    pub fn at(now_ms: i64) -> Self {
        Self { now_ms, ..Self::default() }
    }

    /// The frames that follow are of this file; `is_base` if it is the oldest.
    pub fn begin_file(&mut self, file_seq: u64, is_base: bool) {
        self.file_seq = file_seq;
        self.is_base = is_base;
        self.parts = 0;
        self.complete = false;
    }

    /// Whether the checkpoint of the current file is complete.
    #[must_use]
    pub fn checkpointed(&self) -> bool {
        self.complete
    }

    /// Applies the next frame.
    pub fn apply(&mut self, frame: &Frame<'_>) -> Result<(), FormatError> {
        let head = frame.head;
        let mut r = Reader::new(frame.payload);
        if !self.complete && !matches!(head.kind, FrameKind::CheckpointGroup | FrameKind::CheckpointEnd) {
            return shape(format!("{:?} before the end of the file's checkpoint", head.kind));
        }
        match head.kind {
            FrameKind::CheckpointGroup => return self.checkpoint_group(head.group, &mut r),
            FrameKind::CheckpointEnd => {
                let groups = r.u64()?;
                if groups != self.parts {
                    return shape(format!("checkpoint of {} groups ends with {groups}", self.parts));
                }
                self.complete = true;
                return Ok(());
            }
            FrameKind::GroupCreate => {
                let mut group = Group::new(head.group, decode_config(&mut r)?);
                if head.variant != 0 {
                    group.replica = Some(Box::new(Replica::new(Members::decode(&mut r)?.bytes)));
                }
                if self.groups.insert(head.group, group).is_some() {
                    return shape(format!("group {} is created twice", head.group));
                }
                return Ok(());
            }
            _ => {}
        }
        let Some(group) = self.groups.get_mut(&head.group) else {
            return shape(format!("{:?} of group {}, which is not known", head.kind, head.group));
        };
        match head.kind {
            FrameKind::Entry => {
                if head.index != group.last_index.next() {
                    return shape(format!("entry {} of group {} follows entry {}", head.index, head.group, group.last_index));
                }
                push_entry(group, frame, self.file_seq, self.now_ms)?;
                self.entries += 1;
            }
            FrameKind::GroupAlter => group.config = decode_config(&mut r)?,
            FrameKind::GroupDrop => {
                self.groups.remove(&head.group);
            }
            FrameKind::Trim => {
                let start = Offset(r.u64()?);
                group.apply_trim(start, Settled::decode(&mut r)?)?;
                let _ = group.tail.trim(start, group.settled.index);
            }
            FrameKind::Hard => {
                let hard = HardState::decode(&mut r)?;
                group.check_hard(&hard).or_else(|what| shape(format!("group {}: {what}", head.group)))?;
                group.apply_hard(hard);
                group.commit(hard.commit);
            }
            FrameKind::Truncate => {
                let _ = group.apply_truncation(&Truncation::decode(&mut r)?)?;
            }
            FrameKind::Members => {
                let Some(replica) = &mut group.replica else {
                    return shape(format!("members of group {}, which is no replica", head.group));
                };
                replica.members = Members::decode(&mut r)?;
            }
            FrameKind::Replicate => group.replicate(Members::decode(&mut r)?.bytes)?,
            FrameKind::Install => {
                let _ = group.apply_install(decode_group(head.group, &mut r)?)?;
            }
            FrameKind::Settled => {
                group.apply_settled(Settled::decode(&mut r)?)?;
                let index = group.settled.index;
                group.commit(index);
                let _ = group.tail.release(index);
                let _ = group.tail.evict(index);
            }
            FrameKind::CheckpointGroup | FrameKind::CheckpointEnd | FrameKind::GroupCreate => {}
        }
        Ok(())
    }

    fn checkpoint_group(&mut self, id: GroupId, r: &mut Reader<'_>) -> Result<(), FormatError> {
        self.parts += 1;
        let read = decode_group(id, r)?;
        if self.is_base {
            self.groups.insert(id, read);
        } else if cfg!(debug_assertions) {
            self.compare(&read)?;
        }
        Ok(())
    }

    /// A later checkpoint must say what the frames before it have led to.
    fn compare(&self, read: &Group) -> Result<(), FormatError> {
        let bytes = |group: &Group| {
            let mut group = Group { producers: Default::default(), tail: Default::default(), ..group_facts(group) };
            group.queued = false;
            let mut out = Vec::new();
            encode_group(&group, &mut out);
            out
        };
        match self.groups.get(&read.id) {
            Some(ours) if bytes(ours) == bytes(read) => Ok(()),
            Some(ours) => shape(format!("checkpoint of group {} differs: {:?} and {:?}", read.id, group_facts(read), group_facts(ours))),
            None => shape(format!("checkpoint of group {}, which is not known", read.id)),
        }
    }

    /// Everything is read: what is left must be whole. Returns the groups.
    pub fn finish(self) -> Result<BTreeMap<GroupId, Group>, FormatError> {
        let mut groups = self.groups;
        for group in groups.values_mut() {
            group.sync_all();
            let (start, settled) = (group.start_offset, group.settled.index);
            if start > group.lasting_offset() {
                let end = group.lasting_offset();
                return shape(format!("group {} begins at offset {start}, and what is committed of it ends at {end}", group.id));
            }
            let _ = group.tail.trim(start, settled);
            let _ = group.tail.release(settled);
            let _ = group.tail.evict(settled);
            let missing = group.last_index.0 - settled.0;
            if group.tail.unsettled() as u64 != missing {
                return shape(format!(
                    "group {} has {missing} entries after the settled entry {settled}, of which the journal holds {}",
                    group.id,
                    group.tail.unsettled()
                ));
            }
        }
        Ok(groups)
    }
}

/// The entry that follows the group's last.
fn push_entry(group: &mut Group, frame: &Frame<'_>, file_seq: u64, now_ms: i64) -> Result<(), FormatError> {
    let head = frame.head;
    if let Some(replica) = &group.replica
        && replica.terms.last().is_some_and(|last| last > head.term)
    {
        return shape(format!("entry {} of group {} in term {}, which is over", head.index, head.group, head.term));
    }
    let payload = || Bytes::copy_from_slice(frame.payload);
    if head.variant == EntryKind::Raft as u8 && group.replica.is_some() {
        group.push(head.term, payload(), None, file_seq, now_ms);
        return Ok(());
    }
    if head.variant != EntryKind::Batch as u8 {
        return shape(format!("entry of kind {}", head.variant));
    }
    let header = Header::parse(frame.payload).map_err(|error| FormatError::Shape { what: error.to_string() })?;
    if Offset(header.base_offset) != group.end_offset || header.batch_len != frame.payload.len() {
        let (offset, end) = (header.base_offset, group.end_offset);
        return shape(format!("batch at offset {offset} of group {}, which ends at {end}", head.group));
    }
    check_producer(&header).map_err(|what| FormatError::Shape { what })?;
    group.push(head.term, payload(), Some(&header), file_seq, now_ms);
    Ok(())
}

/// A group without what is large.
fn group_facts(group: &Group) -> Group {
    Group {
        start_offset: group.start_offset,
        last_index: group.last_index,
        end_offset: group.end_offset,
        max_timestamp: group.max_timestamp,
        settled: group.settled,
        replica: group.replica.clone(),
        ..Group::new(group.id, group.config.clone())
    }
}

#[cfg(test)]
mod tests;
