//! The segments of all groups of a home, and who may touch them.
//!
//! Reading needs no permission. Appending and removing do, and compacting does beside them: a [`Claim`] on the group. What a trim
//! or a drop leaves to be deleted waits as a chore until its note in the journal is synced, so that a crash never finds
//! files gone that the journal still counts on.

use crate::{
    config::LogConfig,
    damage::{self, Damages},
    error::Result,
    group::Group,
    lsn::Lsn,
    segment::{GroupSegments, Handles, SegmentName, group::Mark, lane::Lane},
    trash::Trash,
};
use millpond_runtime::{GroupId, Offset, Rt};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
    rc::Rc,
};
use tokio::sync::Notify;

/// Unpacked blocks that are kept for readers who stopped inside one, as a part of the tail's memory.
const BLOCK_CACHE_SHARE: usize = 16;

/// Files to be deleted once a note is synced.
pub(crate) enum Chore<R: Rt> {
    /// Segments before the offset.
    Trim(GroupId, Offset),
    /// All of them.
    Drop(Rc<GroupSegments<R>>),
}

/// See the module.
pub(crate) struct Store<R: Rt> {
    dir: PathBuf,
    handles: Rc<Handles<R>>,
    groups: RefCell<BTreeMap<GroupId, Rc<GroupSegments<R>>>>,
    claimed: RefCell<BTreeSet<(GroupId, Right)>>,
    /// Somebody has given up a claim.
    released: Notify,
    chores: RefCell<VecDeque<(Lsn, Chore<R>)>>,
    /// Groups whose files are being deleted, or are about to be.
    dropping: RefCell<BTreeSet<GroupId>>,
    /// See [`crate::damage`].
    pub(crate) damage: Damages,
}

impl<R: Rt> Store<R> {
    /// Turns for reads of segments.
    pub(crate) fn lane(&self) -> &Lane<R> {
        self.handles.lane()
    }

    /// Finds the segments of all groups, and removes directories of groups that are no more. Everything that `groups` say must
    /// be on stable media by now, since files are removed on the strength of it.
    pub(crate) async fn open<'a>(
        rt: &R,
        dir: &Path,
        trash: Rc<Trash<R>>,
        config: &LogConfig,
        groups: impl Iterator<Item = &'a Group>,
    ) -> Result<Self> {
        let handles = Rc::new(Handles::new(rt.clone(), trash, config.open_segments_max, config.tail_bytes_max / BLOCK_CACHE_SHARE));
        let damage = Damages::default();
        let (mut open, mut dirs) = (BTreeMap::new(), BTreeSet::new());
        for group in groups {
            let settled = &group.settled;
            let mark = settled.segment.map(|s| Mark {
                name: SegmentName { base_offset: s.base_offset, generation: s.generation },
                position: s.position,
                next_offset: settled.next_offset,
            });
            let at = group_dir(dir, group.id, installs(group));
            dirs.insert(name_of(group.id, installs(group)));
            let segments = match GroupSegments::open(handles.clone(), at.clone(), group.id, mark, settled.index, group.start_offset).await {
                // The others have what this one lacks.
                Err(error) if group.replica.is_some() && damage::is_lasting(&error) => {
                    damage.find(group.id, &error);
                    GroupSegments::new(handles.clone(), at, group.id)
                }
                segments => segments?,
            };
            open.insert(group.id, Rc::new(segments));
            rt.yield_if_needed().await;
        }
        for name in rt.list(dir).await? {
            match group_of(&name) {
                Some(_) if dirs.contains(&name) => {}
                Some(id) => GroupSegments::new(handles.clone(), dir.join(&name), id).remove_all().await?,
                None => tracing::warn!(dir = %dir.join(&name).display(), "not a group's directory: left alone"),
            }
        }
        Ok(Self {
            dir: dir.to_path_buf(),
            handles,
            groups: RefCell::new(open),
            claimed: RefCell::default(),
            released: Notify::new(),
            chores: RefCell::default(),
            dropping: RefCell::default(),
            damage,
        })
    }

    /// A group's segments, if it has any. Not those that are damaged.
    pub(crate) fn get(&self, group: GroupId) -> Result<Option<Rc<GroupSegments<R>>>> {
        self.damage.refuse(group)?;
        Ok(self.groups.borrow().get(&group).cloned())
    }

    /// A group's segments, to which some may be added. `installs` as [`crate::replica::Replica::installs`].
    pub(crate) fn get_or_new(&self, group: GroupId, installs: u32) -> Rc<GroupSegments<R>> {
        let new = || Rc::new(GroupSegments::new(self.handles.clone(), group_dir(&self.dir, group, installs), group));
        self.groups.borrow_mut().entry(group).or_insert_with(new).clone()
    }

    /// Bytes of a group's segments on disk.
    pub(crate) fn bytes(&self, group: GroupId) -> u64 {
        self.groups.borrow().get(&group).map_or(0, |s| s.bytes())
    }

    /// The group's segments are to be deleted once `lsn` is synced.
    pub(crate) fn dropped(&self, group: GroupId, lsn: Lsn) {
        if let Some(segments) = self.groups.borrow_mut().remove(&group) {
            segments.doom();
            self.chores.borrow_mut().push_back((lsn, Chore::Drop(segments)));
        }
        if self.has_chores(group) {
            self.dropping.borrow_mut().insert(group);
        }
        self.damage.forget(group);
    }

    /// Whether files of a group that was dropped may still be there: another one of this number would have the same names.
    pub(crate) fn is_dropping(&self, group: GroupId) -> bool {
        self.dropping.borrow().contains(&group)
    }

    /// A chore of a group is done.
    pub(crate) fn done(&self, group: GroupId) {
        if !self.has_chores(group) {
            self.dropping.borrow_mut().remove(&group);
        }
    }

    fn has_chores(&self, group: GroupId) -> bool {
        self.chores.borrow().iter().any(|(_, chore)| chore.group() == group)
    }

    /// The group's segments are these from here on. What it had before is to be deleted once `lsn` is synced.
    pub(crate) fn replaced(&self, group: GroupId, new: Rc<GroupSegments<R>>, lsn: Lsn) {
        if let Some(before) = self.groups.borrow_mut().insert(group, new) {
            before.doom();
            self.chores.borrow_mut().push_back((lsn, Chore::Drop(before)));
        }
    }

    /// Where the segments are put that a snapshot brings.
    pub(crate) fn dir_of(&self, group: GroupId, installs: u32) -> PathBuf {
        group_dir(&self.dir, group, installs)
    }

    /// What the segments of all groups share.
    pub(crate) fn handles(&self) -> &Rc<Handles<R>> {
        &self.handles
    }

    /// Segments before `start` are to be deleted once `lsn` is synced.
    pub(crate) fn trimmed(&self, group: GroupId, start: Offset, lsn: Lsn) {
        self.chores.borrow_mut().push_back((lsn, Chore::Trim(group, start)));
    }

    /// The next chore whose note is synced and whose group nobody else has claimed.
    pub(crate) fn take_chore(self: &Rc<Self>, synced: Lsn) -> Option<(Chore<R>, Claim<R>)> {
        let mut chores = self.chores.borrow_mut();
        let claimed = self.claimed.borrow();
        let free = |chore: &Chore<R>| {
            // Trims may overtake a compaction. Dropping waits for its end, which is near: it must find all files.
            let compacting = matches!(chore, Chore::Drop(_)) && claimed.contains(&(chore.group(), Right::Compact));
            !compacting && !claimed.contains(&(chore.group(), Right::Change))
        };
        let at = chores.iter().take_while(|(lsn, _)| *lsn <= synced).position(|(_, chore)| free(chore))?;
        drop(claimed);
        let (_, chore) = chores.remove(at)?;
        let claim = self.claim(chore.group())?;
        Some((chore, claim))
    }

    /// Nobody else may append to or remove the group's segments until the claim is dropped. `None` if somebody else has it.
    pub(crate) fn claim(self: &Rc<Self>, group: GroupId) -> Option<Claim<R>> {
        self.claim_to(group, Right::Change)
    }

    /// Waits until nobody else has the claim, and takes it.
    pub(crate) async fn claim_soon(self: &Rc<Self>, group: GroupId) -> Claim<R> {
        loop {
            let released = self.released.notified();
            if let Some(claim) = self.claim(group) {
                return claim;
            }
            released.await;
        }
    }

    /// Nobody else may receive a snapshot of the group.
    pub(crate) fn claim_receipt(self: &Rc<Self>, group: GroupId) -> Option<Claim<R>> {
        self.claim_to(group, Right::Receive)
    }

    /// Nobody else may compact the group's segments. Settling and trimming go on: a compaction may take minutes, and while a
    /// group is not settled it holds back the journal of all.
    pub(crate) fn claim_compaction(self: &Rc<Self>, group: GroupId) -> Option<Claim<R>> {
        self.claim_to(group, Right::Compact)
    }

    fn claim_to(self: &Rc<Self>, group: GroupId, right: Right) -> Option<Claim<R>> {
        self.claimed.borrow_mut().insert((group, right)).then(|| Claim { store: self.clone(), group, right })
    }
}

impl<R: Rt> Chore<R> {
    pub(crate) fn group(&self) -> GroupId {
        match self {
            Self::Trim(group, _) => *group,
            Self::Drop(segments) => segments.group(),
        }
    }
}

/// What may be done to a group's segments by one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Right {
    /// Append, trim, drop.
    Change,
    /// Compact.
    Compact,
    /// Receive a snapshot.
    Receive,
}

/// A right to a group's segments.
pub(crate) struct Claim<R: Rt> {
    store: Rc<Store<R>>,
    group: GroupId,
    right: Right,
}

impl<R: Rt> Drop for Claim<R> {
    fn drop(&mut self) {
        self.store.claimed.borrow_mut().remove(&(self.group, self.right));
        self.store.released.notify_waiters();
    }
}

/// Where a group's segments are.
#[must_use]
fn group_dir(dir: &Path, group: GroupId, installs: u32) -> PathBuf {
    dir.join(name_of(group, installs))
}

/// The name of a group's directory: its number; behind a dot how many snapshots it has installed, if any.
fn name_of(group: GroupId, installs: u32) -> String {
    if installs == 0 { group.0.to_string() } else { format!("{}.{installs}", group.0) }
}

/// Whose directory bears this name; `None` if it is not one of ours.
fn group_of(name: &str) -> Option<GroupId> {
    let (group, installs) = name.split_once('.').unwrap_or((name, "0"));
    let (group, installs) = (GroupId(group.parse().ok()?), installs.parse().ok()?);
    (name_of(group, installs) == name).then_some(group)
}

fn installs(group: &Group) -> u32 {
    group.replica.as_ref().map_or(0, |replica| replica.installs)
}
