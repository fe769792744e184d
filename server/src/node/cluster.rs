//! The other nodes, and who leads what: what every core knows of both.
//!
//! Who leads a group its replicas know first; the core where one lives tells the other cores of its node, and a leader's node tells the other nodes. What is known may be
//! old: whoever is asked and does not lead says so, and who does. What is told of a leader goes with the term in which it leads, and never gives way to an older one;
//! clients that want to know have the nodes with replicas asked for those that may have changed ([`Core::learn_leaders`]).

use super::{core::Core, remote::Remote};
use crate::catalog::{Age, Home, META_GROUP, Node, Partition};
use millpond_log::TERM_ALONE;
use millpond_raft::{link, wire::Greeting};
use millpond_runtime::{CoreId, FxHashMap, GroupId, Nanos, NodeId, Rt, Share, Term, rt::timeout};
use millpond_wire::messages::{Done, Kind, Leads};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tokio::sync::Notify;

/// What was said of a leader within this time is not asked for again, in ns.
const HEARD_NS: Nanos = 1_000_000_000;
/// How long a node is asked who leads.
const ASK_MAX: Duration = Duration::from_secs(2);
/// How long one waits to hear of leaders of which nothing is known, in ns, and how often one looks.
const LEARN_NS: Nanos = 300_000_000;
const LEARN_LOOK: Duration = Duration::from_millis(10);

/// Who leads a group, as far as a node knows.
type Leader = Option<(NodeId, Term)>;
/// Who leads groups now.
type News = Vec<(GroupId, Leader)>;

/// What is known of the leader of a group.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    leader: Leader,
    /// When it was said last, or asked for; 0 for never.
    at: Nanos,
}

/// See the module.
#[derive(Default)]
pub struct Cluster {
    leaders: RefCell<FxHashMap<GroupId, Heard>>,
    /// What drivers here have said and others have not been told.
    news: Rc<RefCell<BTreeMap<GroupId, Leader>>>,
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
    /// How far new replicas must be to vote.
    pub(super) near: RefCell<super::near::Near>,
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
        self.led_by(group).map(|(node, _)| node)
    }

    /// Who leads a group and in which term, as far as that is known here.
    fn led_by(&self, group: GroupId) -> Leader {
        self.cluster.leaders.borrow().get(&group)?.leader
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

    /// The same, and the term in which it leads, if that is known.
    #[must_use]
    pub fn answers_in_term(&self, partition: &Partition) -> (NodeId, Option<Term>) {
        match self.led_by(partition.group) {
            Some((node, term)) => (node, Some(term)),
            None => (NodeId(partition.preferred()), partition.replicas.is_none().then_some(TERM_ALONE)),
        }
    }

    /// Has the nodes with replicas of these groups asked who leads them, if that may have changed here; waits a little for those of which nothing is known.
    pub async fn learn_leaders(self: &Rc<Self>, groups: BTreeMap<GroupId, Vec<u64>>) {
        let (now, me) = (self.rt.mono().max(1), NodeId(self.identity.node_id));
        let (mut by_node, mut strange): (BTreeMap<NodeId, Vec<u64>>, _) = (BTreeMap::new(), Vec::new());
        {
            let mut leaders = self.cluster.leaders.borrow_mut();
            for (group, nodes) in groups {
                let heard = leaders.entry(group).or_default();
                let is_known = heard.at != 0 && now < heard.at + HEARD_NS;
                if !is_known && heard.leader.is_none_or(|(node, _)| node != me) {
                    heard.at = now;
                    for node in nodes.into_iter().map(NodeId).filter(|node| *node != me) {
                        by_node.entry(node).or_default().push(group.0);
                    }
                }
                if heard.leader.is_none() && now < heard.at + LEARN_NS {
                    strange.push(group);
                }
            }
        }
        for (node, groups) in by_node {
            let core = Rc::clone(self);
            self.rt.spawn("ask who leads", Share::Serve, async move {
                let asked = Leads { groups, ..Leads::default() };
                // Of one that does not answer nothing is learnt: others have replicas, too, and it is asked again.
                if let Ok(Ok(told)) = timeout(&core.rt, ASK_MAX, core.ask_node::<Leads>(node, Kind::WhoLeads, &asked)).await {
                    core.hear_node(node, told).await;
                }
            });
        }
        while strange.iter().any(|group| self.led_by(*group).is_none()) && self.rt.mono() < now + LEARN_NS {
            self.rt.sleep(LEARN_LOOK).await;
        }
    }

    /// Says who leads groups, as far as it is known here.
    pub fn who_leads(&self, asked: Leads) -> Leads {
        let (mut terms, mut nodes) = (Vec::with_capacity(asked.groups.len()), Vec::with_capacity(asked.groups.len()));
        for group in &asked.groups {
            let (NodeId(node), Term(term)) = self.led_by(GroupId(*group)).unwrap_or((NodeId(0), Term(0)));
            terms.push(term);
            nodes.push(node);
        }
        Leads { terms, nodes, ..asked }
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
                let news: News = std::mem::take(&mut *core.cluster.news.borrow_mut()).into_iter().collect();
                if !news.is_empty() {
                    core.tell_leaders(news).await;
                }
            }
        });
    }

    async fn tell_leaders(self: &Rc<Self>, news: News) {
        // Whoever waits for records of one that leads no more is to hear of it.
        news.iter().filter_map(|(group, _)| self.partition(*group)).for_each(|partition| partition.wake());
        self.cluster.unsettled.borrow_mut().extend(news.iter().map(|(group, _)| *group));
        self.tell_nodes(&news);
        self.spread(news).await;
    }

    /// Tells all cores of this node.
    async fn spread(self: &Rc<Self>, news: News) {
        for core in self.core_ids() {
            let news = news.clone();
            // A core that is lost needs no news.
            let _ = self.at(core, move |core| async move { core.hear_leaders(&news) }).await;
        }
    }

    fn hear_leaders(&self, news: &[(GroupId, Leader)]) {
        let (now, me) = (self.rt.mono().max(1), NodeId(self.identity.node_id));
        let mut leaders = self.cluster.leaders.borrow_mut();
        for (group, leader) in news {
            let heard = leaders.entry(*group).or_default();
            let Some((_, term)) = leader else {
                // The last one that is known is a better guess than none, unless that was a replica here, which would know.
                if heard.leader.is_some_and(|(node, _)| node == me) {
                    *heard = Heard::default();
                }
                continue;
            };
            if heard.leader.is_none_or(|(_, known)| known <= *term) {
                *heard = Heard { leader: *leader, at: now };
            }
        }
    }

    /// Tells other nodes of groups that this one leads now, if they have no replica that would tell them.
    fn tell_nodes(self: &Rc<Self>, news: &[(GroupId, Leader)]) {
        let me = NodeId(self.identity.node_id);
        let led = |(group, leader): &(GroupId, Leader)| leader.filter(|(node, _)| *node == me).map(|(_, term)| (*group, term));
        let mine: Vec<(GroupId, Term)> = news.iter().filter_map(led).collect();
        for node in self.cluster.others() {
            let strange = |group: GroupId| {
                let catalog = self.catalog.borrow();
                let at = catalog.partition_of(group).map(|(topic, n)| topic.partitions[n as usize].nodes());
                at.is_some_and(|nodes| !nodes.contains(&node.0))
            };
            let (groups, terms): (Vec<u64>, Vec<u64>) =
                mine.iter().filter(|(group, _)| strange(*group)).map(|(group, term)| (group.0, term.0)).unzip();
            if groups.is_empty() {
                continue;
            }
            let core = Rc::clone(self);
            self.rt.spawn("tell leaders", Share::Serve, async move {
                // One that cannot be told asks when somebody wants to know.
                let _ = core.ask_node::<Done>(node, Kind::Leads, &Leads { groups, terms, nodes: Vec::new() }).await;
            });
        }
    }

    /// Another node says who leads groups: itself, if it does not say that others do.
    pub async fn hear_node(self: &Rc<Self>, node: NodeId, leads: Leads) {
        tracing::debug!(node = node.0, groups = leads.groups.len(), "a node says who leads");
        let mut nodes = leads.nodes.iter().copied();
        let one = |(group, term): (&u64, &u64)| {
            let leader = if leads.nodes.is_empty() { node } else { NodeId(nodes.next().unwrap_or_default()) };
            (GroupId(*group), Some((leader, Term(*term))).filter(|_| *term > 0 && leader.0 > 0))
        };
        let news: News = leads.groups.iter().zip(&leads.terms).map(one).collect();
        self.spread(news).await;
    }
}
