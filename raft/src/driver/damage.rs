//! Damage that shows while a node runs: a replica whose log cannot be read any more leads nobody, since it could not bring up those that lack something.
//!
//! What is doubtful is looked at block by block, beside all else. If it is damaged the replica takes no part any more: the others elect a
//! leader whose log is good, and bring up those that lag. Its promises are not forgotten, they are only kept by nobody.
//!
//! It is made anew as another replica, one with a new id, since an empty log has forgotten what it promised. What is left of the old one stays until the
//! others *call* the new one: a message to it says that a majority, which does without the old one, has made it a member. Before that, what is left
//! could be all that there is.

use super::Driver;
use crate::members::{Membership, RaftId};
use millpond_log::LogError;
use millpond_runtime::{GroupId, Rt, Share};
use raft::eraftpb::Message;

/// Replicas that are remembered as called, of one group.
const CALLED_MAX: usize = 16;

impl<R: Rt> Driver<R> {
    /// Has a replica take no part any more: another one is to have its place.
    pub fn retire(&self, group: GroupId, why: String) {
        self.0.broken.borrow_mut().entry(group).or_insert(why);
        // It is taken out when it is touched.
        self.with(group, |_| ());
    }

    /// Which replica the log has of a group, whether it takes part or not.
    #[must_use]
    pub fn kept(&self, group: GroupId) -> Option<RaftId> {
        let found = self.0.log.replica(group)?;
        Membership::decode(&found.members.bytes).ok().map(|members| members.me)
    }

    /// Whether others have spoken to this replica of a group, while the one that the log has takes no part: they have taken it for a member without that one's
    /// help, which may go.
    #[must_use]
    pub fn is_called(&self, group: GroupId, id: RaftId) -> bool {
        self.0.called.borrow().get(&group).is_some_and(|called| called.contains(&id))
    }

    /// Somebody speaks to a replica of a group that takes no part here.
    pub(super) fn note_call(&self, group: GroupId, message: &Message) {
        if self.0.broken.borrow().contains_key(&group) {
            let mut called = self.0.called.borrow_mut();
            let called = called.entry(group).or_default();
            if called.len() < CALLED_MAX {
                called.insert(message.to);
            }
        }
    }

    /// Takes out replicas that the log has found to be damaged, and looks at those of which a read has failed.
    pub(super) fn heed_damage(&self) {
        for (group, what) in self.0.log.take_damaged() {
            self.retire(group, what);
        }
        for group in self.0.log.take_suspects() {
            self.look_for_damage(group);
        }
    }

    /// Something of a group could not be read: if that may be damage, it is looked for.
    pub(super) fn doubt(&self, group: GroupId, error: &LogError) {
        if error.is_damage() {
            self.look_for_damage(group);
        }
    }

    /// Looks whether all segments of a group are as they were written, unless that is under way.
    pub(super) fn look_for_damage(&self, group: GroupId) {
        if self.broken(group).is_some() || !self.0.doubted.borrow_mut().insert(group) {
            return;
        }
        let this = self.clone();
        self.0.rt.spawn("raft damage", Share::Background, async move {
            let looked = this.0.log.verify(group).await;
            this.0.doubted.borrow_mut().remove(&group);
            match looked {
                Err(error) if error.is_damage() => {
                    this.0.log.note_damage(group, &error);
                    this.retire(group, error.to_string());
                }
                Err(error) => tracing::warn!(group = group.0, %error, "a group cannot be looked at for damage"),
                Ok(()) => tracing::info!(group = group.0, "a group that was in doubt is whole"),
            }
        });
    }
}
