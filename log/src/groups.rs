//! All groups of a journal home, and the accounts over them. Pure.
//!
//! - `needed` knows for every group with unsettled entries the journal file of the oldest: files before the first of these
//!   can be recycled, and the groups that hold them back are found without looking at the others.
//! - `cache` remembers in which order entries were settled: the oldest leave memory first.
//! - `ready` holds the groups that have enough to be settled, in the order in which they came to have it.

use crate::{
    group::Group,
    journal::gather::Touched,
    replica::Truncation,
    tail::{Moved, TailEntry},
};
use millpond_runtime::{FxHashMap, GroupId, Index, Offset};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, VecDeque},
};

/// See the module.
#[derive(Debug, Default)]
pub struct Groups {
    /// Each is looked at several times for every entry: where there are thousands, a tree would be in no cache.
    groups: FxHashMap<GroupId, Box<Group>>,
    needed: BTreeSet<(u64, GroupId)>,
    needed_of: BTreeMap<GroupId, u64>,
    cache: VecDeque<(GroupId, Index)>,
    ready: VecDeque<GroupId>,
    /// Files of entries that are gone, until the note about it is synced: how many such notes there are.
    held: BTreeMap<u64, usize>,
    unsettled_bytes: usize,
    cached_bytes: usize,
    /// See [`enough`].
    node_id: u64,
}

impl Groups {
    /// What recovery has read on this node.
    #[must_use]
    pub fn new(groups: BTreeMap<GroupId, Group>, node_id: u64) -> Self {
        let ids: Vec<GroupId> = groups.keys().copied().collect();
        let mut all = Self {
            unsettled_bytes: groups.values().map(|g| g.tail.unsettled_bytes()).sum(),
            cached_bytes: groups.values().map(|g| g.tail.cached_bytes()).sum(),
            groups: groups.into_iter().map(|(id, group)| (id, Box::new(group))).collect(),
            node_id,
            ..Self::default()
        };
        for id in ids {
            all.refile(id);
        }
        all
    }

    /// A group.
    #[must_use]
    pub fn get(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(&id).map(|group| &**group)
    }

    /// A group, to change what has no account here.
    pub fn get_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        self.groups.get_mut(&id).map(|group| &mut **group)
    }

    /// All groups, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Group> {
        self.groups.values().map(|group| &**group)
    }

    /// The ids of all groups, in order.
    #[must_use]
    pub fn ids(&self) -> Vec<GroupId> {
        let mut ids: Vec<GroupId> = self.groups.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Memory of unsettled entries.
    #[must_use]
    pub fn unsettled_bytes(&self) -> usize {
        self.unsettled_bytes
    }

    /// Memory of settled entries.
    #[must_use]
    pub fn cached_bytes(&self) -> usize {
        self.cached_bytes
    }

    /// Adds a group without entries.
    pub fn insert(&mut self, group: Group) {
        self.groups.insert(group.id, Box::new(group));
    }

    /// Takes a group away. The journal files that hold its entries stay needed until [`Groups::forget`].
    pub fn remove(&mut self, id: GroupId) -> Option<Group> {
        let group = self.groups.remove(&id)?;
        self.unsettled_bytes -= group.tail.unsettled_bytes();
        self.cached_bytes -= group.tail.cached_bytes();
        Some(*group)
    }

    /// Nothing of a removed group is needed any more.
    pub fn forget(&mut self, id: GroupId) {
        if let Some(file) = self.needed_of.remove(&id) {
            self.needed.remove(&(file, id));
        }
    }

    /// Runs `push` on a group to append one entry of `cost` bytes.
    pub fn push(&mut self, id: GroupId, cost: usize, push: impl FnOnce(&mut Group)) -> Option<&mut Group> {
        let group = self.groups.get_mut(&id)?;
        push(group);
        self.unsettled_bytes += cost;
        if group.tail.unsettled() == 1 {
            let file = group.tail.needed_file();
            if let Some(file) = file
                && let std::collections::btree_map::Entry::Vacant(free) = self.needed_of.entry(id)
            {
                free.insert(file);
                self.needed.insert((file, id));
            }
        }
        Some(group)
    }

    /// The oldest journal file that holds entries which a start would need.
    #[must_use]
    pub fn needed_file(&self) -> Option<u64> {
        let unsettled = self.needed.first().map(|(file, _)| *file);
        let held = self.held.first_key_value().map(|(file, _)| *file);
        unsettled.into_iter().chain(held).min()
    }

    /// Groups with unsettled entries, those that hold back the oldest journal file first.
    pub fn by_need(&self) -> impl Iterator<Item = (u64, GroupId)> {
        self.needed.iter().copied()
    }

    /// Groups that have something to settle, `n` of them at most, those with the most first. One whose last settling is not noted yet is none of them:
    /// what it seems to have is settled. Looks at all groups with unsettled entries.
    #[must_use]
    pub fn largest(&self, n: usize) -> Vec<GroupId> {
        let has_more =
            |g: &&Group| g.lasting_index() > g.settled.index && g.tail.first_unsettled().is_some_and(|first| first > g.settled.index);
        let groups = self.needed_of.keys().filter_map(|id| self.get(*id)).filter(has_more);
        let mut all: Vec<_> = groups.map(|g| (Reverse(g.tail.unsettled_bytes()), g.id)).collect();
        if n < all.len() {
            all.select_nth_unstable(n);
            all.truncate(n);
        }
        all.sort_unstable();
        all.into_iter().map(|(_, id)| id).collect()
    }

    /// Entries up to `index` are settled, and the note about it, which names the segment from offset `segment` on, is synced.
    pub fn release(&mut self, id: GroupId, index: Index, segment: Offset) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        group.noted = Some(segment);
        let moved = group.tail.release(index);
        if moved.cached_in > 0 {
            self.cache.push_back((id, index));
        }
        self.account(moved);
        self.refile(id);
    }

    /// Entries before `start` are gone, and the note about it is synced.
    pub fn trim(&mut self, id: GroupId, start: Offset) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        // What was committed since and has no records is not settled yet: it stays, or a start would look for it in vain.
        let moved = group.tail.trim(start, group.settled.index);
        self.account(moved);
        self.refile(id);
    }

    /// Entries of a replica are gone, of which the oldest that was not settled lies in the journal file `file`: it is needed until
    /// [`Groups::let_go`], once the note about it is synced.
    ///
    /// # Panics
    /// If it was not the group that said what becomes of it.
    pub fn truncate(&mut self, id: GroupId, gone: &Truncation, file: u64) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let moved = group.apply_truncation(gone).expect("the group itself has said what becomes of it");
        *self.held.entry(file).or_default() += 1;
        self.account(moved);
        self.refile(id);
    }

    /// A snapshot takes the place of all that a replica has. The journal file of the oldest entry that was not settled, if there is one, is needed
    /// until [`Groups::let_go`], once the note about it is synced.
    ///
    /// # Panics
    /// If it does not follow from what the group is: the caller has made it so.
    pub fn install(&mut self, id: GroupId, new: Group, file: Option<u64>) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let moved = group.apply_install(new).expect("it was made from what the group is");
        if let Some(file) = file {
            *self.held.entry(file).or_default() += 1;
        }
        self.account(moved);
        self.refile(id);
    }

    /// The note about that is synced; how far readers see, if that is further than before.
    pub fn installed(&mut self, id: GroupId, settle_bytes: usize) -> Option<Offset> {
        self.advance(id, settle_bytes, Group::installed)
    }

    /// A file that [`Groups::truncate`] or [`Groups::install`] was given is not needed for that any more.
    pub fn let_go(&mut self, file: u64) {
        if let Some(held) = self.held.get_mut(&file) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&file);
            }
        }
    }

    /// Entries of a replica up to `index` are committed; how far readers see, if that is further than before. The group is ready for the
    /// settler once it has `settle_bytes` unsettled.
    pub fn commit(&mut self, id: GroupId, index: Index, settle_bytes: usize) -> Option<Offset> {
        self.advance(id, settle_bytes, |group| group.commit(index))
    }

    /// Drops settled entries, the oldest first, until at most `bytes` of them are left.
    pub fn evict_to(&mut self, bytes: usize) {
        while self.cached_bytes > bytes {
            let Some((id, index)) = self.cache.pop_front() else { break };
            if let Some(group) = self.groups.get_mut(&id) {
                let moved = group.tail.evict(index);
                self.account(moved);
            }
        }
    }

    /// Entries are synced; how far readers see, if that is further than before. The group is ready for the settler once it has
    /// `settle_bytes` unsettled.
    pub(crate) fn synced(&mut self, touched: &Touched, settle_bytes: usize) -> Option<Offset> {
        self.advance(touched.group, settle_bytes, |group| {
            // If some of it is gone since, what came in its place is in a flush behind this one.
            if touched.life == group.life() {
                (group.synced_index, group.synced_offset) = (touched.index, touched.end);
            }
        })
    }

    /// See [`Groups::synced`] and [`Groups::commit`].
    fn advance(&mut self, id: GroupId, settle_bytes: usize, change: impl FnOnce(&mut Group)) -> Option<Offset> {
        let group = self.groups.get_mut(&id)?;
        let before = group.lasting_offset();
        change(group);
        let now = group.lasting_offset();
        let enough = enough(self.node_id, id, group.settled.index, settle_bytes);
        if !group.queued && group.tail.unsettled_bytes() >= enough && group.lasting_index() > group.settled.index {
            group.queued = true;
            self.ready.push_back(id);
        }
        (now > before).then_some(now)
    }

    /// The group that has been ready for longest.
    pub fn next_ready(&mut self) -> Option<GroupId> {
        while let Some(id) = self.ready.pop_front() {
            if let Some(group) = self.groups.get_mut(&id) {
                group.queued = false;
                return Some(id);
            }
        }
        None
    }

    /// Whether a group is ready.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Committed and synced entries of a group up to `upto` that are not settled, from the oldest on.
    #[must_use]
    pub fn settleable(&self, id: GroupId, upto: Index, bytes_max: usize) -> Vec<TailEntry> {
        self.groups
            .get(&id)
            .map_or_else(Vec::new, |g| g.tail.gather(g.settled.index, g.lasting_index().min(upto), bytes_max).cloned().collect())
    }

    fn account(&mut self, moved: Moved) {
        self.unsettled_bytes -= moved.unsettled;
        self.cached_bytes += moved.cached_in;
        self.cached_bytes -= moved.cached_out;
    }

    fn refile(&mut self, id: GroupId) {
        let now = self.groups.get(&id).and_then(|g| g.tail.needed_file());
        let before = match now {
            Some(file) => self.needed_of.insert(id, file),
            None => self.needed_of.remove(&id),
        };
        if before != now {
            if let Some(file) = before {
                self.needed.remove(&(file, id));
            }
            if let Some(file) = now {
                self.needed.insert((file, id));
            }
        }
    }

    /// Everything that must hold.
    pub fn check(&self) {
        let sum = |f: fn(&Group) -> usize| self.iter().map(f).sum::<usize>();
        assert!(sum(|g| g.tail.unsettled_bytes()) == self.unsettled_bytes, "unsettled bytes are miscounted");
        assert!(sum(|g| g.tail.cached_bytes()) == self.cached_bytes, "cached bytes are miscounted");
        assert!(self.needed.len() == self.needed_of.len(), "the two lists of needed files differ");
        for group in self.iter() {
            group.check();
            let needed = self.needed_of.get(&group.id).copied();
            assert!(
                needed == group.tail.needed_file(),
                "group {} needs file {:?}, {needed:?} is noted",
                group.id,
                group.tail.needed_file()
            );
        }
    }
}

/// Unsettled bytes with which a group is settled: between half of `settle_bytes` and all, each time and on each node another part. Groups that grow alike would
/// else be settled all at once, and what is served meanwhile would wait; and replicas of one group, so that no majority of them would be free of it.
fn enough(node_id: u64, id: GroupId, settled: Index, settle_bytes: usize) -> usize {
    let (one, other) = (0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9);
    let mixed = (id.0.rotate_left(32) ^ settled.0).wrapping_mul(one) ^ node_id.wrapping_mul(other);
    let part = (mixed ^ (mixed >> 29)).wrapping_mul(other) >> 56;
    settle_bytes - settle_bytes / 2 * part as usize / 256
}

#[cfg(test)]
mod tests;
