//! Damage in segments: what is known, and what a read has met and nobody has looked at yet.
//!
//! A group that is alone ends its home over damage, since nobody else has what it lacks. A replica does not. From the moment that its damage is known its
//! segments are left as they are: nothing is read from them, settled into them or compacted, though the journal goes on keeping what was not settled. What
//! becomes of it is for others to say: in the end the group is dropped, and made anew from what the other replicas have.

use crate::{
    error::{LogError, Result},
    log::Log,
};
use millpond_runtime::{GroupId, Rt};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

/// See the module.
#[derive(Default)]
pub(crate) struct Damages {
    known: RefCell<BTreeMap<GroupId, String>>,
    /// Those of them that nobody was told of.
    news: RefCell<BTreeSet<GroupId>>,
    suspects: RefCell<BTreeSet<GroupId>>,
}

impl Damages {
    /// Segments of a group are damaged.
    pub(crate) fn find(&self, group: GroupId, error: &LogError) {
        tracing::error!(group = group.0, %error, "a replica's segments are damaged");
        self.suspects.borrow_mut().remove(&group);
        self.known.borrow_mut().entry(group).or_insert_with(|| error.to_string());
        self.news.borrow_mut().insert(group);
    }

    /// What is known of a group.
    pub(crate) fn of(&self, group: GroupId) -> Option<String> {
        let known = self.known.borrow();
        if known.is_empty() { None } else { known.get(&group).cloned() }
    }

    /// Refuses a group whose damage is known.
    pub(crate) fn refuse(&self, group: GroupId) -> Result<()> {
        self.of(group).map_or(Ok(()), |what| Err(LogError::Damaged { group, what }))
    }

    /// Groups whose damage is known.
    pub(crate) fn len(&self) -> usize {
        self.known.borrow().len()
    }

    /// A read has met what may be damage.
    pub(crate) fn suspect(&self, group: GroupId) {
        if !self.known.borrow().contains_key(&group) {
            self.suspects.borrow_mut().insert(group);
        }
    }

    /// The group is no more.
    pub(crate) fn forget(&self, group: GroupId) {
        self.known.borrow_mut().remove(&group);
        self.news.borrow_mut().remove(&group);
        self.suspects.borrow_mut().remove(&group);
    }
}

/// Whether segments that nobody has changed since they were written cannot be had as they were. Not for those that may have been deleted meanwhile.
pub(crate) fn is_lasting(error: &LogError) -> bool {
    error.is_damage() || matches!(error, LogError::Io(error) if error.is_not_found())
}

impl<R: Rt> Log<R> {
    /// What is wrong with a group's segments, if something is known to be: none of them is read any more.
    #[must_use]
    pub fn damaged(&self, group: GroupId) -> Option<String> {
        self.home.store.damage.of(group)
    }

    /// Groups that were found to be damaged since this was last asked, and what was found. Replicas, all of them.
    #[must_use]
    pub fn take_damaged(&self) -> Vec<(GroupId, String)> {
        let damage = &self.home.store.damage;
        let news = std::mem::take(&mut *damage.news.borrow_mut());
        news.into_iter().filter_map(|group| Some((group, damage.of(group)?))).collect()
    }

    /// Replicas of which a read has met what may be damage since this was last asked: [`Log::verify`] knows.
    #[must_use]
    pub fn take_suspects(&self) -> Vec<GroupId> {
        std::mem::take(&mut *self.home.store.damage.suspects.borrow_mut()).into_iter().collect()
    }

    /// A replica's segments are damaged, as [`Log::verify`] has found.
    pub fn note_damage(&self, group: GroupId, error: &LogError) {
        if self.is_replica(group) {
            self.home.store.damage.find(group, error);
        }
    }

    /// What a read of a group came to. Damage that it met in a replica is remembered.
    pub(crate) fn heed<T>(&self, group: GroupId, read: Result<T>) -> Result<T> {
        read.map_err(|error| {
            if !error.is_damage() || !self.is_replica(group) {
                return error;
            }
            self.home.store.damage.suspect(group);
            match error {
                LogError::Damaged { .. } => error,
                error => LogError::Damaged { group, what: error.to_string() },
            }
        })
    }
}
