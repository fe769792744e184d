//! Replicas that take no part any more, since what they have is damaged, are made anew.
//!
//! The core that has such a replica says so to the leader of the meta group, and the catalog wants another one in its place: on the same node, with an id that
//! was never used. The leader of the group takes that in as a learner and speaks to it. Only then, when a majority has done without the old one, what is left
//! of it goes; the new one begins with nothing, is brought up as any that came to a new node, and votes in the old one's place.
//!
//! Whatever ends the node in between is no matter: each step is found again in the catalog, in the log and in what the leader says.

use super::{core::Core, follow::FollowError, meta::Change};
use crate::catalog::{Effect, Home, META_GROUP, Replica};
use millpond_runtime::{GroupId, Rt};
use std::rc::Rc;

impl<R: Rt> Core<R> {
    /// Looks after the replicas here that take no part any more.
    pub(super) async fn renew(self: &Rc<Self>) {
        let mut broken: Vec<(GroupId, Replica)> = Vec::new();
        for (home, driver) in &self.drivers {
            for group in driver.all_broken() {
                let (old, wanted) = (driver.kept(group), self.wanted(group).and_then(|(_, wanted)| wanted.on(self.identity.node_id)));
                let (Some(old), Some(new)) = (old, wanted) else { continue };
                if new.id == old {
                    broken.push((group, new));
                } else if driver.is_called(group, new.id)
                    && let Err(error) = self.make_anew(*home, group, new).await
                {
                    self.rt.halt(&format!("a replica of group {group} cannot be made anew: {error}"));
                }
            }
        }
        if let Some((_, what)) = self.logs.get(&Home(0)).and_then(|log| Some((log, log.damaged(META_GROUP)?))) {
            // Without it nothing here is known to be as the cluster wants it.
            self.rt.halt(&format!("the catalog's log is damaged, and this node needs an empty disk (`millpond serve --replace`): {what}"));
        }
        // Not of those that nobody could take in anew: an operator is told of them by the health of the cluster.
        if self.catalog.borrow().plan_renew(&broken).changes() {
            self.tell_meta(Change::Renew(broken), "broken replicas").await;
        }
    }

    /// Lets go of what is left of a replica, and begins with another one that is to have its place.
    async fn make_anew(self: &Rc<Self>, home: Home, group: GroupId, replica: Replica) -> Result<(), FollowError> {
        let Some(log) = self.logs.get(&home) else { return Ok(()) };
        let found = self.catalog.borrow().partition_of(group).map(|(topic, _)| (topic.name.clone(), topic.settings.clone()));
        let Some((topic, settings)) = found else { return Ok(()) };
        tracing::warn!(group = group.0, topic, replica = replica.id, "a broken replica is dropped, and made anew from the others");
        if let Some(lsn) = self.carry_out_one(log, Effect::Drop(home, group)).await? {
            log.synced(lsn).await?;
        }
        self.carry_out_one(log, Effect::Create(home, group, settings)).await?;
        // What was remembered of it is no more.
        if let Some(gone) = self.partitions.borrow_mut().remove(&group) {
            gone.wake();
        }
        self.refresh(&topic);
        Ok(())
    }
}
