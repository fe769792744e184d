//! Damage that shows while a node runs: a replica whose log cannot be read any more leads nobody, since it could not bring up those that lack something.
//!
//! What is doubtful is looked at block by block, beside all else. If it is damaged the replica takes no part any more until it is repaired: the others elect a
//! leader whose log is good, and bring up those that lag. Its promises are not forgotten, they are only kept by nobody.

use super::Driver;
use millpond_log::LogError;
use millpond_runtime::{GroupId, Rt, Share};

impl<R: Rt> Driver<R> {
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
                    this.0.broken.borrow_mut().insert(group, error.to_string());
                    // It is taken out when it is touched.
                    this.with(group, |_| ());
                }
                Err(error) => tracing::warn!(group = group.0, %error, "a group cannot be looked at for damage"),
                Ok(()) => tracing::info!(group = group.0, "a group that was in doubt is whole"),
            }
        });
    }
}
