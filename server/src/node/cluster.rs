//! The other nodes, and who leads what: what every core knows of both.
//!
//! Who leads a group its replicas know first; the core where one lives tells the other cores of its node, and a leader's node tells the other nodes. What is known may be
//! old: whoever is asked and does not lead says so, and who does.

use super::{core::Core, remote::Remote};
use crate::catalog::{Age, Home, META_GROUP, Node};
use millpond_raft::{link, wire::Greeting};
use millpond_runtime::{CoreId, FxHashMap, GroupId, NodeId, Rt, Share, Term};
use millpond_wire::messages::{Done, Kind, Leads};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
};
use tokio::sync::Notify;

/// See the module.
#[derive(Default)]
pub struct Cluster {
    leaders: RefCell<FxHashMap<GroupId, NodeId>>,
    /// What drivers here have said and others have not been told.
    news: Rc<RefCell<BTreeMap<GroupId, Option<NodeId>>>>,
    told: Rc<Notify>,
    /// All other nodes.
    others: Rc<RefCell<BTreeMap<u64, Node>>>,
    linked: RefCell<BTreeSet<(Home, u64)>>,
    pub(super) remotes: RefCell<BTreeMap<NodeId, Vec<Rc<Remote>>>>,
    /// A snapshot took the place of the catalog's log, and the catalog does not know; on core 0.
    pub(super) meta_replaced: Cell<bool>,
    /// Where replicas elsewhere begin of what this core leads.
    pub(super) starts: RefCell<super::starts::Known>,
    /// Groups that are to be looked at soon.
    pub(super) unsettled: RefCell<BTreeSet<GroupId>>,
    /// This node ends: it leads nothing any more if others can.
    pub ending: Cell<bool>,
    /// This node does not know yet what its cluster knows: clients are told to come later. See [`Core::set_learning`].
    pub learning: Cell<bool>,
}

impl Cluster {
    /// Where a home of a node can be reached.
    pub fn find(&self, node: NodeId, home: u32) -> Option<SocketAddr> {
        self.others.borrow().get(&node.0)?.at(home)
    }

    /// The other nodes.
    pub fn others(&self) -> Vec<NodeId> {
        self.others.borrow().keys().map(|id| NodeId(*id)).collect()
    }
}

impl<R: Rt> Core<R> {
    /// Who leads a group, as far as that is known here.
    #[must_use]
    pub fn leader_of(&self, group: GroupId) -> Option<NodeId> {
        self.cluster.leaders.borrow().get(&group).copied()
    }

    /// Who leads a group that lives elsewhere, or should: a node that came later may not have been told, and whoever should lead knows better.
    pub(super) fn leads_elsewhere(&self, group: GroupId) -> Option<NodeId> {
        let should = || {
            let catalog = self.catalog.borrow();
            let (topic, number) = catalog.partition_of(group)?;
            topic.partitions[number as usize].replicas.as_ref()?.wanted.first().map(|first| NodeId(first.node))
        };
        self.leader_of(group).or_else(should).filter(|node| node.0 != self.identity.node_id)
    }

    /// Who answers for a partition, as far as that is known here: its leader, or else the node that should lead it.
    #[must_use]
    pub fn answers_for(&self, partition: &crate::catalog::Partition) -> NodeId {
        self.leader_of(partition.group).unwrap_or_else(|| NodeId(partition.preferred()))
    }

    /// The nodes are others, or elsewhere: as the catalog has them.
    pub(super) fn find_nodes(&self) {
        let nodes: Vec<(u64, Node)> = self.catalog.borrow().nodes().map(|(id, node)| (id, node.clone())).collect();
        if nodes.is_empty() {
            return;
        }
        let knows = !self.cluster.learning.get();
        if knows && self.is_member() && nodes.iter().all(|(id, _)| *id != self.identity.node_id) {
            // What is known here will be old from now on.
            tracing::warn!(node = self.identity.node_id, "this node was taken out of its cluster");
            self.set_learning(true);
        }
        self.meet(nodes);
    }

    /// Whether a node that says so comes with the disk that is known here; false, and said, if that was put back to what it was before.
    pub fn is_of_age(&self, node: NodeId, age: Age) -> bool {
        let known = self.catalog.borrow().node(node.0).map_or(Age::default(), |node| node.age);
        let fine = age.may_be(known);
        if !fine {
            let message = "a node comes with a disk that is older than what is known of it: it is not heard";
            tracing::warn!(node = node.0, age = age.count, known = known.count, message);
        }
        fine
    }

    /// Has clients of this core told to come later, or served from here on.
    pub fn set_learning(&self, learning: bool) {
        self.cluster.learning.set(learning);
        if self.id() == CoreId(0) {
            // One core speaks for all: they are told one after the other.
            self.shared.set_learning(learning);
        }
    }

    /// These are the nodes of the cluster.
    pub fn meet(&self, nodes: Vec<(u64, Node)>) {
        let me = NodeId(self.identity.node_id);
        *self.cluster.others.borrow_mut() = nodes.into_iter().filter(|(id, _)| *id != me.0).collect();
        let others = Rc::clone(&self.cluster.others);
        self.cluster.linked.borrow_mut().retain(|(_, node)| others.borrow().contains_key(node));
        for (home, driver) in &self.drivers {
            for to in self.cluster.others() {
                if self.cluster.linked.borrow_mut().insert((*home, to.0)) {
                    let (others, home, shared) = (Rc::clone(&others), u32::from(home.0), Arc::clone(&self.shared));
                    let cluster = self.identity.cluster_id;
                    link(driver, to, move || {
                        let Age { count: age, start } = shared.age();
                        Some((others.borrow().get(&to.0)?.at(home)?, Greeting { cluster, from: me, to, home, age, start }))
                    });
                }
            }
        }
    }

    /// Has all cores told who leads what, for as long as the node runs.
    pub(super) fn watch_leaders(self: &Rc<Self>) {
        for driver in self.drivers.values() {
            let (news, told) = (Rc::clone(&self.cluster.news), Rc::clone(&self.cluster.told));
            driver.on_leader(move |group, leader| {
                news.borrow_mut().insert(group, leader);
                told.notify_one();
            });
            let core = Rc::downgrade(self);
            driver.on_installed(move |group, _| {
                if let Some(core) = core.upgrade().filter(|_| group == META_GROUP) {
                    core.cluster.meta_replaced.set(true);
                    core.partition(group).iter().for_each(|meta| meta.wake());
                }
            });
        }
        let core = Rc::clone(self);
        self.rt.spawn("leaders", Share::Serve, async move {
            while !core.stopping.get() {
                core.cluster.told.notified().await;
                let news: Vec<(GroupId, Option<NodeId>)> = std::mem::take(&mut *core.cluster.news.borrow_mut()).into_iter().collect();
                if !news.is_empty() {
                    core.tell_leaders(news).await;
                }
            }
        });
    }

    async fn tell_leaders(self: &Rc<Self>, news: Vec<(GroupId, Option<NodeId>)>) {
        // Whoever waits for records of one that leads no more is to hear of it.
        news.iter().filter_map(|(group, _)| self.partition(*group)).for_each(|partition| partition.wake());
        self.cluster.unsettled.borrow_mut().extend(news.iter().map(|(group, _)| *group));
        self.tell_nodes(&news);
        for core in self.core_ids() {
            let news = news.clone();
            // A core that is lost needs no news.
            let _ = self.at(core, move |core| async move { core.hear_leaders(&news) }).await;
        }
    }

    fn hear_leaders(&self, news: &[(GroupId, Option<NodeId>)]) {
        let mut leaders = self.cluster.leaders.borrow_mut();
        for (group, leader) in news {
            // The last one that is known is a better guess than none.
            if let Some(leader) = leader {
                leaders.insert(*group, *leader);
            }
        }
    }

    /// Tells other nodes of groups that this one leads now, if they have no replica that would tell them.
    fn tell_nodes(self: &Rc<Self>, news: &[(GroupId, Option<NodeId>)]) {
        let me = NodeId(self.identity.node_id);
        let mine: Vec<GroupId> = news.iter().filter(|(_, leader)| *leader == Some(me)).map(|(group, _)| *group).collect();
        for node in self.cluster.others() {
            let strange = |group: &&GroupId| {
                let catalog = self.catalog.borrow();
                let at = catalog.partition_of(**group).map(|(topic, n)| topic.partitions[n as usize].nodes());
                at.is_some_and(|nodes| !nodes.contains(&node.0))
            };
            let groups: Vec<u64> = mine.iter().filter(strange).map(|group| group.0).collect();
            if groups.is_empty() {
                continue;
            }
            let terms = groups.iter().map(|group| self.term_of(GroupId(*group)).0).collect();
            let core = Rc::clone(self);
            self.rt.spawn("tell leaders", Share::Serve, async move {
                // One that cannot be told asks whoever it thinks leads, and is told then.
                let _ = core.ask_node::<Done>(node, Kind::Leads, &Leads { groups, terms }).await;
            });
        }
    }

    fn term_of(&self, group: GroupId) -> Term {
        self.drivers.values().find_map(|driver| driver.status(group)).map_or(Term(0), |status| status.term)
    }

    /// Another node says that it leads groups.
    pub async fn hear_node(self: &Rc<Self>, node: NodeId, leads: Leads) {
        tracing::debug!(node = node.0, groups = leads.groups.len(), "a node says what it leads");
        let news: Vec<(GroupId, Option<NodeId>)> = leads.groups.iter().map(|group| (GroupId(*group), Some(node))).collect();
        for core in self.core_ids() {
            let news = news.clone();
            let _ = self.at(core, move |core| async move { core.hear_leaders(&news) }).await;
        }
    }
}
