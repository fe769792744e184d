//! Taking a snapshot.

use super::{
    FILES_MAX,
    manifest::{Manifest, SnapshotFile},
};
use crate::{
    error::{LogError, Result},
    log::{Log, SEGMENT_TRIES},
    segment::{SegmentName, file::SegmentFile},
    settle::settle_all,
};
use bytes::Bytes;
use millpond_runtime::{GroupId, Offset, Rt};
use std::rc::Rc;

/// A snapshot of a replica that can be read for as long as this lives: its segments are open, and stay readable when retention or compaction
/// removes their names. Their disk space is free again once this is dropped.
pub struct Snapshot<R: Rt> {
    /// What it consists of.
    pub manifest: Manifest,
    encoded: Bytes,
    files: Vec<Rc<SegmentFile<R>>>,
}

impl<R: Rt> Snapshot<R> {
    /// Bytes of its manifest, by which its files are found.
    #[must_use]
    pub fn manifest_bytes(&self) -> &Bytes {
        &self.encoded
    }

    /// `len` bytes at `position` of a file, counted from 0; fewer if it ends before, and none if there is no such place.
    pub async fn read(&self, file: usize, position: u64, len: usize) -> Result<Vec<u8>> {
        let (Some(listed), Some(open)) = (self.manifest.files.get(file), self.files.get(file)) else { return Ok(Vec::new()) };
        let left = listed.bytes.saturating_sub(position);
        let len = usize::try_from(left).map_or(len, |left| left.min(len));
        if len == 0 { Ok(Vec::new()) } else { open.read(position, len).await }
    }
}

impl<R: Rt> Log<R> {
    /// Takes a snapshot of all that a replica has committed, settling what is not settled. `None` if a trim has overtaken it, or nothing
    /// is committed: to be tried again.
    pub async fn take_snapshot(&self, group: GroupId) -> Result<Option<Snapshot<R>>> {
        let home = &self.home;
        // Nobody else settles meanwhile: what grows ends with the snapshot's last entry.
        let claim = home.store.claim_soon(group).await;
        let Some(mut manifest) = self.as_committed(group)? else { return Ok(None) };
        let put = home.journal.state.borrow().last_lsn;
        home.synced(put).await?;
        settle_all(home, &claim, group, manifest.index).await?;
        for _ in 0..SEGMENT_TRIES {
            let Some(start) = self.settled_at(group, &manifest)? else { return Ok(None) };
            let Some(names) = self.segments_from(group, start)? else { return Ok(None) };
            if names.len() > FILES_MAX {
                return Err(LogError::Full {
                    what: "snapshot, which lists all segments",
                    used: names.len() as u64,
                    bound: FILES_MAX as u64,
                });
            }
            match self.open_all(group, &names).await {
                Ok(files) => {
                    (manifest.start_offset, manifest.files) = (start, names);
                    manifest.producers.trim(start);
                    let encoded = manifest.encode();
                    return Ok(Some(Snapshot { manifest, encoded, files }));
                }
                // A segment has gone meanwhile: trimmed, or compacted.
                Err(LogError::Io(error)) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The log as of its last committed entry, without segments.
    fn as_committed(&self, group: GroupId) -> Result<Option<Manifest>> {
        let groups = self.home.groups.borrow();
        let g = groups.get(group).ok_or(LogError::UnknownGroup { group })?;
        let refuse = |what: &str| LogError::Replica { group, what: format!("a snapshot: {what}") };
        let replica = g.replica.as_ref().ok_or_else(|| refuse("the group is alone"))?;
        let (index, mut terms) = (replica.committed, replica.terms.clone());
        if index.0 == 0 {
            return Ok(None);
        }
        terms.truncate(index);
        let (mut producers, mut end, mut max_timestamp) = (g.producers.clone(), g.end_offset, g.max_timestamp);
        if index < g.last_index {
            // What is not committed may go again.
            let gone = replica.truncation(index).ok_or_else(|| refuse("what is not committed is not remembered"))?;
            (end, max_timestamp) = (gone.end_offset, gone.max_timestamp);
            for (id, before) in gone.producers {
                producers.restore(id, before);
            }
            producers.truncate(end);
        }
        if replica.members.index > index {
            return Err(refuse("its members are those of an entry that is not committed"));
        }
        let term = terms.last().ok_or_else(|| refuse("the term of its last entry is not known"))?;
        let members = replica.members.clone();
        Ok(Some(Manifest {
            index,
            term,
            start_offset: Offset(0),
            next_offset: end,
            max_timestamp,
            members,
            terms,
            producers,
            files: Vec::new(),
        }))
    }

    /// Where the log begins, if it is settled as far as the manifest says and still begins before that.
    fn settled_at(&self, group: GroupId, manifest: &Manifest) -> Result<Option<Offset>> {
        let groups = self.home.groups.borrow();
        let g = groups.get(group).ok_or(LogError::UnknownGroup { group })?;
        let is_there = g.settled.index == manifest.index && g.start_offset <= manifest.next_offset;
        let whole = g.settled.segment.is_some() || g.start_offset == manifest.next_offset;
        Ok((is_there && whole).then_some(g.start_offset))
    }

    /// The segments that hold offsets from `start` on, and what grows; none if all was trimmed.
    fn segments_from(&self, group: GroupId, start: Offset) -> Result<Option<Vec<SnapshotFile>>> {
        let grows = self.home.groups.borrow().get(group).map(|g| g.settled.segment);
        let Some(grows) = grows else { return Ok(None) };
        let Some(grows) = grows else { return Ok(Some(Vec::new())) };
        let Some(segments) = self.home.store.get(group)? else { return Ok(None) };
        let sealed = segments.sealed();
        let held = sealed.iter().filter(|s| s.next_offset > start).map(|s| SnapshotFile { name: s.name, bytes: s.bytes });
        let name = SegmentName { base_offset: grows.base_offset, generation: grows.generation };
        Ok(Some(held.chain([SnapshotFile { name, bytes: grows.position }]).collect()))
    }

    async fn open_all(&self, group: GroupId, files: &[SnapshotFile]) -> Result<Vec<Rc<SegmentFile<R>>>> {
        let segments = self.home.store.get(group)?.ok_or(LogError::UnknownGroup { group })?;
        let mut open = Vec::with_capacity(files.len());
        for file in files {
            open.push(segments.open_held(file.name).await?);
        }
        Ok(open)
    }
}
