//! Replicas become what the catalog wants: the leader of a group changes its members step by step, and says when it is done.
//!
//! A new replica learns first, and votes once it has nearly all of the log; all that come and go change at once, through a joint configuration.
//! Then whoever should lead is handed the leadership. Nobody leaves a group that he leads: first another one leads it. The leader of the meta group sees to it that the catalog wants what it should.

use super::{Core, meta::Change, near::Near};
use crate::catalog::{FOUNDER, META_GROUP, Node, NodeState, Partition, Replica, Replicas};
use millpond_raft::{Driver, RaftId, Status, change::Change as Members};
use millpond_runtime::{CoreId, GroupId, NodeId, Rt, Share};
use millpond_wire::messages::{Done, Kind, Moved, MovedGroup, ReplicaInfo};
use std::{collections::BTreeSet, rc::Rc, time::Duration};

/// How often groups are looked at.
const EVERY: Duration = Duration::from_millis(100);
/// In every so many looks the leader of the meta group looks whether the catalog wants what it should.
const HEAL_EVERY: u64 = 10;
/// Each group has its turn to be looked at, and to be handed to the one that should lead, once in so many looks. A prime: what a node leads is every third
/// group of three nodes, and would have its turn in every third look, more of them than may be handed over at once.
const ROUND: u64 = 29;
/// Members of the meta group that vote; the others learn.
const META_VOTERS: usize = 5;
/// Groups whose members change at once, per core.
const CHANGES_MAX: usize = 4;
/// How often a node that ends looks whether it still leads something.
const LEAVE_LOOK: Duration = Duration::from_millis(10);
/// Groups handed over in one look.
const HANDED_OVER: usize = 64;

/// Whether a group has its turn in this look.
const fn has_turn(group: GroupId, turn: u64) -> bool {
    group.0 % ROUND == turn % ROUND
}

/// What is to be done about a group.
enum Step {
    Nothing,
    /// Its members change, or are about to.
    Change(Vec<Members>),
    /// It has the members that are wanted.
    Done,
}

impl<R: Rt> Core<R> {
    /// Looks after the groups that this core leads, for as long as the node runs.
    pub fn steer(self: &Rc<Self>) {
        let core = Rc::clone(self);
        self.rt.spawn("steer", Share::Serve, async move {
            for turn in 1_u64.. {
                core.rt.sleep(EVERY).await;
                if core.stopping.get() {
                    return;
                }
                if core.cluster.others().is_empty() {
                    continue;
                }
                core.look_after_groups(turn).await;
                if turn.is_multiple_of(HEAL_EVERY) {
                    core.renew().await;
                }
                if core.id() == CoreId(0) && turn.is_multiple_of(HEAL_EVERY) {
                    core.heal().await;
                }
            }
        });
    }

    /// The leader of the meta group wants what the catalog should want.
    async fn heal(self: &Rc<Self>) {
        if self.partition(META_GROUP).is_none_or(|meta| meta.serves().is_err() || !meta.is_replica()) {
            return;
        }
        let (settled, needed) = {
            let catalog = self.catalog.borrow();
            let all = |p: &Partition| p.replicas.as_ref().is_none_or(|r| r.is_settled());
            (catalog.wants_in_vain() || catalog.topics().flat_map(|t| &t.partitions).all(all), catalog.plan_heal().changes())
        };
        if settled
            && needed
            && let Err(failure) = self.change(Change::Heal).await
        {
            tracing::debug!(failure = failure.message, "replicas cannot be placed for the moment");
        }
    }

    async fn look_after_groups(self: &Rc<Self>, turn: u64) {
        let (mut moved, mut changing, mut handed) = (Vec::new(), 0, 0);
        let groups = self.to_look_at(turn);
        self.tell_starts(&groups);
        for group in groups {
            let Some((driver, wanted)) = self.wanted(group) else { continue };
            let Some(status) = driver.status(group) else { continue };
            let me = NodeId(self.identity.node_id);
            if status.leader.is_none() && status.term.0 == 0 && wanted.wanted.first().is_some_and(|first| first.node == me.0) {
                // It has never had a leader, and this one should be the first.
                driver.campaign(group);
                self.look_again(group);
                continue;
            }
            if !status.serves {
                if status.leads {
                    self.look_again(group);
                }
                continue;
            }
            if driver.hands_over(group)
                || (self.gives_up_leads() && handed < HANDED_OVER && self.hand_over(&driver, group, &wanted, &status))
            {
                handed += 1;
                self.look_again(group);
                continue;
            }
            let next = step(&driver, group, &wanted, &status, &mut self.cluster.near.borrow_mut());
            match next {
                Step::Change(mut changes) => {
                    self.look_again(group);
                    if changes.contains(&Members::Remove(status.me)) {
                        if self.hand_over(&driver, group, &wanted, &status) {
                            continue;
                        }
                        changes.retain(|change| *change != Members::Remove(status.me));
                    }
                    if changing >= CHANGES_MAX {
                        continue;
                    }
                    changing += 1;
                    if !changes.is_empty() {
                        tracing::debug!(group = group.0, term = status.term.0, ?changes, "a group's members are to change");
                        // Another change may be under way.
                        let _ = driver.change(group, &changes);
                    }
                }
                Step::Done if group != META_GROUP && !wanted.is_settled() => {
                    self.look_again(group);
                    moved.push((group, wanted.wanted.clone()));
                }
                Step::Done if handed < HANDED_OVER && has_turn(group, turn) => {
                    handed += usize::from(self.hand_back(&driver, group, &wanted, &status));
                }
                _ => {}
            }
            self.rt.yield_if_needed().await;
        }
        self.cluster.near.borrow_mut().keep(|group| self.cluster.unsettled.borrow().contains(&group));
        if !moved.is_empty() {
            self.tell_meta(Change::Moved(moved), "replicas that have moved").await;
        }
    }

    /// Has a group looked at in the next look.
    pub(super) fn look_again(&self, group: GroupId) {
        self.cluster.unsettled.borrow_mut().insert(group);
    }

    /// Groups that may need something, and a part of all others, so that each has its turn every few seconds.
    fn to_look_at(&self, turn: u64) -> Vec<GroupId> {
        let mut groups = std::mem::take(&mut *self.cluster.unsettled.borrow_mut());
        let hands_over = self.gives_up_leads();
        let due = |group: &&GroupId| hands_over || has_turn(**group, turn);
        groups.extend(self.partitions.borrow().keys().filter(due));
        groups.into_iter().collect()
    }

    fn state_of(&self, node: u64) -> Option<NodeState> {
        self.catalog.borrow().node(node).map(|n| n.state)
    }

    /// What drives a group that is a replica here, and what its replicas are to be.
    pub(super) fn wanted(&self, group: GroupId) -> Option<(Driver<R>, Replicas)> {
        let catalog = self.catalog.borrow();
        let (topic, number) = catalog.partition_of(group)?;
        let partition = &topic.partitions[number as usize];
        let replicas = partition.replicas.as_deref()?.clone();
        Some((self.drivers.get(&partition.home)?.clone(), replicas))
    }

    /// Whether this node is to lead nothing that others could.
    fn gives_up_leads(&self) -> bool {
        self.cluster.ending.get() || self.state_of(self.identity.node_id) != Some(NodeState::In)
    }

    /// Whether a replica may be handed the leadership of a group that is led here.
    fn may_lead(&self, driver: &Driver<R>, group: GroupId, replica: &Replica) -> bool {
        replica.node != self.identity.node_id
            && driver.hears(NodeId(replica.node))
            && self.state_of(replica.node) == Some(NodeState::In)
            && driver.members(group).is_some_and(|members| members.conf.voters.contains(&replica.id))
    }

    /// Hands a group over to the one that should lead. Whether it does.
    fn hand_back(&self, driver: &Driver<R>, group: GroupId, wanted: &Replicas, status: &Status) -> bool {
        let Some(first) = wanted.wanted.first().filter(|first| self.may_lead(driver, group, first)) else { return false };
        transfer(driver, group, first, status)
    }

    /// Hands a group over to any other replica that stays, spread over those that have as much. Whether it does.
    fn hand_over(&self, driver: &Driver<R>, group: GroupId, wanted: &Replicas, status: &Status) -> bool {
        let Some(matched) = driver.matched(group) else { return false };
        let mut others: Vec<&Replica> = wanted.wanted.iter().filter(|r| self.may_lead(driver, group, r)).collect();
        others.sort_by_key(|r| std::cmp::Reverse((matched.get(&r.id).copied(), (group.0 + r.node) % wanted.wanted.len() as u64)));
        others.into_iter().any(|to| transfer(driver, group, to, status))
    }

    /// This node ends: hands over what this core leads to other nodes, for at most `wait`, so that nobody has to miss a leader first.
    pub async fn leave(self: &Rc<Self>, wait: Duration) {
        if self.cluster.others().is_empty() {
            return;
        }
        self.cluster.ending.set(true);
        let until = self.rt.mono() + wait.as_nanos() as u64;
        while self.leads_with_others() > 0 && self.rt.mono() < until {
            self.look_after_groups(0).await;
            self.rt.sleep(LEAVE_LOOK).await;
        }
    }

    /// Tells the leader of the meta group of groups: that they have the members that are wanted, or need others. It is told again until the catalog says so.
    pub(super) async fn tell_meta(self: &Rc<Self>, change: Change, what: &str) {
        let (groups, message) = match &change {
            Change::Moved(groups) => {
                (groups.len(), Moved { groups: groups.iter().map(|(group, all)| told(*group, all)).collect(), ..Moved::default() })
            }
            Change::Renew(broken) => {
                (broken.len(), Moved { broken: broken.iter().map(|(group, one)| told(*group, &[*one])).collect(), ..Moved::default() })
            }
            _ => return,
        };
        let done = match self.leader_of(META_GROUP) {
            Some(node) if node.0 != self.identity.node_id => self.ask_node::<Done>(node, Kind::Moved, &message).await.map(drop),
            _ => self.change(change).await.map(drop),
        };
        match done {
            Ok(()) => tracing::info!(groups, "the catalog was told of {what}"),
            Err(failure) => tracing::debug!(groups, failure = failure.message, "the catalog cannot be told of {what}"),
        }
    }

    /// Has a node that is drained say how many groups it still leads that others could lead.
    #[must_use]
    pub fn leads_with_others(&self) -> u64 {
        let here: Vec<GroupId> = self.partitions.borrow().keys().copied().collect();
        let leads = |group: &&GroupId| {
            let Some((driver, wanted)) = self.wanted(**group) else { return false };
            wanted.now.len() > 1 && driver.status(**group).is_some_and(|status| status.leads)
        };
        here.iter().filter(leads).count() as u64
    }

    /// This node, as others are to find it.
    #[must_use]
    pub fn own_node(&self, port: u16, ports: &[u16]) -> Node {
        Node {
            host: self.config.advertise.clone(),
            ip: self.config.ip,
            port,
            ports: ports.to_vec(),
            homes: self.identity.homes,
            rack: self.config.rack.clone(),
            meta: 0,
            state: NodeState::In,
            age: self.shared.age(),
            replaced_by: None,
        }
    }

    /// Whether this node is a part of a cluster with others, or has founded one and is alone.
    #[must_use]
    pub fn is_founder(&self) -> bool {
        self.identity.node_id == FOUNDER
    }
}

fn told(group: GroupId, replicas: &[Replica]) -> MovedGroup {
    MovedGroup { group: group.0, replicas: replicas.iter().map(|r| ReplicaInfo { id: r.id, node_id: r.node }).collect() }
}

fn transfer<R: Rt>(driver: &Driver<R>, group: GroupId, to: &Replica, status: &Status) -> bool {
    let begun = driver.transfer(group, to.id);
    if begun {
        tracing::debug!(group = group.0, term = status.term.0, node = to.node, replica = to.id, "a group is handed over");
    }
    begun
}

/// The next step towards the wanted members.
fn step<R: Rt>(driver: &Driver<R>, group: GroupId, wanted: &Replicas, status: &Status, near: &mut Near) -> Step {
    let (Some(members), Some(matched)) = (driver.members(group), driver.matched(group)) else { return Step::Nothing };
    let (voters, learners) = (&members.conf.voters, &members.conf.learners);
    if !members.conf.voters_outgoing.is_empty() {
        return Step::Change(Vec::new());
    }
    // Only a replica that was made the only one by hand knows of others that are no members: all who read its log are to hear that they are gone.
    let is_member = |id: &RaftId| voters.contains(id) || learners.contains(id);
    let ghosts: Vec<Members> = members.nodes.keys().filter(|id| !is_member(id)).map(|id| Members::Remove(*id)).collect();
    if !ghosts.is_empty() {
        return Step::Change(ghosts);
    }
    let seats = if group == META_GROUP { META_VOTERS } else { usize::MAX };
    let voting: BTreeSet<RaftId> = wanted.wanted.iter().take(seats).map(|r| r.id).collect();
    let all: BTreeSet<RaftId> = wanted.wanted.iter().map(|r| r.id).collect();
    let unknown = wanted.wanted.iter().find(|r| !voters.contains(&r.id) && !learners.contains(&r.id));
    if let Some(new) = unknown {
        return Step::Change(vec![Members::AddLearner(new.id, NodeId(new.node))]);
    }
    let missing: Vec<&Replica> = wanted.wanted.iter().filter(|r| voting.contains(&r.id) && !voters.contains(&r.id)).collect();
    if !missing.is_empty() {
        let enough = near.look(group, status.applied);
        if !missing.iter().all(|r| matched.get(&r.id).is_some_and(|has| *has >= enough)) {
            return Step::Change(Vec::new());
        }
    }
    let gone = voters.iter().chain(learners).filter(|id| !all.contains(id));
    let come = missing.iter().map(|r| Members::AddVoter(r.id, NodeId(r.node)));
    let changes: Vec<Members> = come.chain(gone.map(|id| Members::Remove(*id))).collect();
    if changes.is_empty() { Step::Done } else { Step::Change(changes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_leads_is_spread_over_all_turns() {
        for nodes in 1..=12 {
            let leads = (0..1_000 * nodes).map(GroupId).filter(|group| group.0 % nodes == 0);
            let mut turns = [0; ROUND as usize];
            for group in leads {
                let its: Vec<u64> = (1..=ROUND).filter(|turn| has_turn(group, *turn)).collect();
                assert_eq!(its.len(), 1, "one turn in each round");
                turns[its[0] as usize % turns.len()] += 1;
            }
            assert!(turns.iter().all(|n| (30..=40).contains(n) && *n < HANDED_OVER), "{nodes} nodes: {turns:?}");
        }
    }
}
