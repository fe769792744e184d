//! The cluster as the catalog knows it: its nodes, which replicas a partition has, and which it is to have.
//!
//! A partition's replicas are changed by wish: a record says which are *wanted*, the leader of the group brings Raft's members there (learners
//! first), and a second record says that it is done. Until then whoever is *now* a replica, or is wanted, keeps its log.

use super::{Age, Catalog, CatalogError, Effect, FOUNDER, Home, Ids, META, Partition, Plan, Topic, placement, records};
use crate::keyed::Record;
use millpond_runtime::{GroupId, NodeId};
use millpond_wire::messages::{NodeLoad, Placement, RebalanceReply, ReplicaMove};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Replicas of a partition if nobody says, where there are as many nodes.
pub const REPLICATION_DEFAULT: usize = 3;
/// Most replicas of one partition.
pub const REPLICATION_MAX: u32 = 7;
/// Most nodes of a cluster.
pub const NODES_MAX: usize = 1_000;

/// One replica of a group: an id that is never used again, and where it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "(u64, u64)", into = "(u64, u64)")]
pub struct Replica {
    /// Raft's.
    pub id: u64,
    /// The node.
    pub node: u64,
}

impl From<(u64, u64)> for Replica {
    fn from((id, node): (u64, u64)) -> Self {
        Self { id, node }
    }
}

impl From<Replica> for (u64, u64) {
    fn from(replica: Replica) -> Self {
        (replica.id, replica.node)
    }
}

/// The replicas of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replicas {
    /// Those that the group began with.
    pub first: Vec<Replica>,
    /// Those that there are, as far as it was told.
    pub now: Vec<Replica>,
    /// Those that are to be: the first one should lead.
    pub wanted: Vec<Replica>,
}

impl Replicas {
    /// Of a group that begins with these.
    #[must_use]
    pub fn begin(all: Vec<Replica>) -> Self {
        Self { first: all.clone(), now: all.clone(), wanted: all }
    }

    /// Whether they are as they are to be, whoever leads.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.now.len() == self.wanted.len() && self.wanted.iter().all(|r| self.now.contains(r))
    }

    /// Wants others. Whoever was wanted before may vote by now, though nobody has said so yet: it keeps its log until it is said what there is.
    fn want(&mut self, wanted: Vec<Replica>) {
        let before = std::mem::replace(&mut self.wanted, wanted);
        let strange = |r: &Replica| !self.now.contains(r) && !self.wanted.contains(r);
        let kept: Vec<Replica> = before.into_iter().filter(strange).collect();
        self.now.extend(kept);
    }

    /// Wants replicas on these nodes: those that are wanted or there already, and new ones.
    fn want_on(&mut self, nodes: &[u64], ids: &mut Ids) {
        let wanted = nodes.iter().map(|node| {
            let known = self.wanted.iter().find(|r| r.node == *node).copied().or_else(|| self.there(*node));
            known.unwrap_or_else(|| ids.replica_on(*node))
        });
        self.want(wanted.collect());
    }

    /// The replica that a node has: it gets no other one before that is gone, unless it is broken ([`Catalog::plan_renew`]).
    fn there(&self, node: u64) -> Option<Replica> {
        self.now.iter().find(|r| r.node == node).copied()
    }

    /// The replica on a node that keeps its log.
    #[must_use]
    pub fn on(&self, node: u64) -> Option<Replica> {
        self.wanted.iter().chain(&self.now).find(|r| r.node == node).copied()
    }
}

/// What a node has of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lives {
    /// Nothing.
    Elsewhere,
    /// All of it, and nobody else has any.
    Alone,
    /// This replica.
    Replica(u64),
}

impl Partition {
    /// What a node has, or is to have, of it.
    #[must_use]
    pub fn lives_on(&self, node: u64) -> Lives {
        match &self.replicas {
            None if node == FOUNDER => Lives::Alone,
            None => Lives::Elsewhere,
            Some(replicas) => replicas.on(node).map_or(Lives::Elsewhere, |replica| Lives::Replica(replica.id)),
        }
    }

    /// Its replicas; of a log that is alone, the first of them.
    fn replicate(&mut self, ids: &mut Ids) -> &mut Replicas {
        self.replicas.get_or_insert_with(|| Box::new(Replicas::begin(vec![ids.replica_on(FOUNDER)])))
    }

    /// The node that should lead it.
    #[must_use]
    pub fn preferred(&self) -> u64 {
        self.replicas.as_ref().and_then(|r| r.wanted.first()).map_or(FOUNDER, |first| first.node)
    }

    /// The nodes that have it, the one that should lead first.
    #[must_use]
    pub fn nodes(&self) -> Vec<u64> {
        self.replicas.as_ref().map_or_else(|| vec![FOUNDER], |r| r.now.iter().map(|r| r.node).collect())
    }
}

/// What a node is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// It has replicas, and leads some.
    #[default]
    In,
    /// It leads nothing, since it is about to be stopped; once it has started again it does.
    Drained,
    /// Its replicas are to go elsewhere.
    Leaving,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// What clients are told to connect to.
    pub host: String,
    /// Where other nodes find it.
    pub ip: std::net::IpAddr,
    /// The port of all cores together.
    pub port: u16,
    /// Each core's own port.
    pub ports: Vec<u16>,
    /// Journal homes that it has.
    pub homes: u16,
    /// Replicas of a partition are spread over racks; empty for none.
    pub rack: String,
    /// Its replica of the catalog's own group.
    pub meta: u64,
    /// Whether it is to have replicas.
    pub state: NodeState,
    /// How far its disk has come, as far as it was told.
    #[serde(default)]
    pub age: Age,
    /// The node that takes its place: it goes by itself once it has no replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<u64>,
}

impl Node {
    /// Where a home of it can be reached.
    #[must_use]
    pub fn at(&self, home: u32) -> Option<std::net::SocketAddr> {
        let port = self.ports.get(home as usize % self.ports.len().max(1))?;
        Some(std::net::SocketAddr::new(self.ip, *port))
    }
}

impl Catalog {
    /// A node.
    #[must_use]
    pub fn node(&self, id: u64) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// What clients are told to connect to for a home of a node.
    #[must_use]
    pub fn place_of(&self, id: NodeId, home: Home) -> Option<(&str, u16)> {
        let node = self.nodes.get(&id.0)?;
        let port = node.ports.get(usize::from(home.0) % node.ports.len().max(1))?;
        Some((&node.host, *port))
    }

    /// All nodes by id.
    pub fn nodes(&self) -> impl Iterator<Item = (u64, &Node)> {
        self.nodes.iter().map(|(id, node)| (*id, node))
    }

    /// Homes that every node has: replicas of a group live in homes of the same number. `own` if no node is known.
    #[must_use]
    pub fn homes(&self, own: u16) -> u16 {
        self.nodes.values().map(|node| node.homes).min().unwrap_or(own).max(1)
    }

    /// How many replicas a partition has if nobody says.
    #[must_use]
    pub fn replication_default(&self) -> usize {
        self.nodes.values().filter(|n| n.state != NodeState::Leaving).count().clamp(1, REPLICATION_DEFAULT)
    }

    /// The replicas that the catalog's own group began with.
    #[must_use]
    pub fn meta_first(&self) -> &[Replica] {
        &self.meta_first
    }

    pub(super) fn check_replication(&self, name: &str, asked: u32) -> Result<usize, CatalogError> {
        if asked == 0 {
            return Ok(self.replication_default());
        }
        let nodes = self.nodes.values().filter(|n| n.state != NodeState::Leaving).count().max(1);
        if asked > REPLICATION_MAX || asked as usize > nodes {
            return Err(CatalogError::BadReplication { name: name.into(), asked, nodes });
        }
        Ok(asked as usize)
    }

    /// How many replicas, and how many that should lead, each node has.
    fn load(&self) -> BTreeMap<u64, placement::NodeLoad> {
        let mut load: BTreeMap<u64, placement::NodeLoad> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.state != NodeState::Leaving)
            .map(|(id, node)| (*id, placement::NodeLoad { rack: node.rack.clone(), ..Default::default() }))
            .collect();
        for partition in self.topics.values().filter(|t| t.name != META).flat_map(|t| &t.partitions) {
            let wanted = partition.replicas.as_ref().map_or_else(|| vec![FOUNDER], |r| r.wanted.iter().map(|r| r.node).collect());
            for (n, node) in wanted.iter().enumerate() {
                if let Some(load) = load.get_mut(node) {
                    load.replicas += 1;
                    load.leaders += usize::from(n == 0);
                }
            }
        }
        load
    }

    /// Replicas of `count` new partitions; none where there are no other nodes.
    pub(super) fn new_replicas(&self, ids: &mut Ids, count: u32, replication: usize) -> Vec<Option<Box<Replicas>>> {
        if self.nodes.len() < 2 {
            return vec![None; count as usize];
        }
        let mut load = self.load();
        let mut one = || {
            let all = placement::spread(&mut load, &[], replication);
            Some(Box::new(Replicas::begin(all.into_iter().map(|node| ids.replica_on(node)).collect())))
        };
        (0..count).map(|_| one()).collect()
    }

    /// Wants so many replicas of each partition of a topic: those that there are stay, the last ones go first.
    pub(super) fn replicate(&self, ids: &mut Ids, topic: &mut Topic, replication: usize) {
        let mut load = self.load();
        for partition in &mut topic.partitions {
            if partition.replicas.is_none() && self.nodes.len() < 2 {
                continue;
            }
            let replicas = partition.replicate(ids);
            let kept: Vec<u64> = replicas.wanted.iter().map(|r| r.node).filter(|node| self.is_in(*node)).take(replication).collect();
            replicas.want_on(&placement::spread(&mut load, &kept, replication), ids);
        }
    }

    /// Wants the replicas of a partition on certain nodes.
    pub(super) fn put_on(&self, ids: &mut Ids, topic: &mut Topic, placement: &Placement) -> Result<(), CatalogError> {
        let Placement { partition: number, nodes } = placement;
        let name = topic.name.clone();
        let refuse = |why: String| CatalogError::BadPlacement { name, partition: *number, nodes: nodes.clone(), why };
        let Some(partition) = topic.partitions.get_mut(*number as usize) else { return Err(refuse("there is no such partition".into())) };
        if let Some(node) = nodes.iter().find(|node| !self.is_in(**node)) {
            return Err(refuse(format!("there is no node {node}, or it is about to leave")));
        }
        if nodes.iter().collect::<BTreeSet<_>>().len() != nodes.len() || nodes.len() > REPLICATION_MAX as usize {
            return Err(refuse(format!("each node has one replica, and there are at most {REPLICATION_MAX}")));
        }
        if self.nodes.len() < 2 {
            // It is alone where it is.
            return Ok(());
        }
        let replicas = partition.replicate(ids);
        if nodes.is_empty() {
            replicas.want(replicas.now.clone());
        } else {
            replicas.want_on(nodes, ids);
        }
        Ok(())
    }

    /// Whether a node is one of the cluster, and to have replicas.
    fn is_in(&self, node: u64) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.state != NodeState::Leaving)
    }

    /// Takes in a node, or takes note that one is elsewhere now (`me` is its id, if it has one). What is to be written, and its id.
    pub fn plan_node(&self, me: Option<u64>, node: Node) -> Result<(u64, Plan), CatalogError> {
        let nothing = |id| Ok((id, Plan { records: Vec::new(), topic: None }));
        let mut ids = self.ids;
        let mut written = Vec::new();
        let id = match me {
            Some(id) => {
                let before = self.nodes.get(&id);
                if before.is_none() && id != FOUNDER {
                    return Err(CatalogError::TakenOut { node: id });
                }
                if let Some(known) = before.map(|n| n.age).filter(|known| !node.age.may_be(*known)) {
                    return Err(CatalogError::OldDisk { node: id, age: node.age.count, known: known.count });
                }
                let meta = before.map_or(0, |n| n.meta);
                // A drained node is back once it has started again.
                let is_back = |n: &Node| n.state == NodeState::Drained && n.age.start != node.age.start;
                let state = before.map_or(NodeState::In, |n| if is_back(n) { NodeState::In } else { n.state });
                let node = Node { meta, state, replaced_by: before.and_then(|n| n.replaced_by), ..node };
                if before == Some(&node) {
                    return nothing(id);
                }
                written.push(records::node(id, &node));
                if before.is_some_and(|before| Node { age: node.age, ..before.clone() } == node) {
                    // To nobody but its peers it is another one.
                    return Ok((id, Plan { records: written, topic: None }));
                }
                id
            }
            None => {
                if self.nodes.len() >= NODES_MAX {
                    return Err(CatalogError::Full { what: "nodes", there: self.nodes.len(), max: NODES_MAX });
                }
                if self.meta_first.is_empty() {
                    // The catalog is alone no longer.
                    let founder = self.nodes.get(&FOUNDER).ok_or(CatalogError::UnknownNode { node: FOUNDER })?;
                    let first = ids.replica_on(FOUNDER);
                    written.push(records::meta_first(&[first]));
                    written.push(records::node(FOUNDER, &Node { meta: first.id, ..founder.clone() }));
                }
                let id = ids.node;
                ids.node += 1;
                let meta = ids.replica_on(id).id;
                written.push(records::node(id, &Node { meta, state: NodeState::In, ..node }));
                id
            }
        };
        ids.epoch += 1;
        written.push(records::ids(ids));
        Ok((id, Plan { records: written, topic: None }))
    }

    /// Takes in a node in the place of another one, which is lost with all that it had: the new one gets its replicas, one for one, and the other goes once it has
    /// none. What is to be written, and the id of the new one. Asked again, it is the same one.
    pub fn plan_replacement(&self, lost: u64, node: Node) -> Result<(u64, Plan), CatalogError> {
        let before = self.nodes.get(&lost).ok_or(CatalogError::UnknownNode { node: lost })?;
        if let Some((id, is)) = before.replaced_by.and_then(|id| Some((id, self.nodes.get(&id)?)))
            && (is.ip, is.port) == (node.ip, node.port)
        {
            return Ok((id, Plan { records: Vec::new(), topic: None }));
        }
        let mut ids = self.ids;
        let (id, meta) = (ids.node, ids.replica_on(ids.node).id);
        ids.node += 1;
        let mut written = vec![
            records::node(id, &Node { meta, state: NodeState::In, ..node }),
            records::node(lost, &Node { state: NodeState::Leaving, replaced_by: Some(id), ..before.clone() }),
        ];
        for topic in self.topics.values().filter(|t| t.name != META) {
            let mut moved = topic.clone();
            let wanted = moved.partitions.iter_mut().filter_map(|p| p.replicas.as_mut()).flat_map(|r| &mut r.wanted);
            wanted.filter(|r| r.node == lost).for_each(|r| *r = ids.replica_on(id));
            if moved != *topic {
                written.push(records::topic(&moved));
            }
        }
        ids.epoch += 1;
        written.push(records::ids(ids));
        Ok((id, Plan { records: written, topic: None }))
    }

    /// Has the replicas of a node go elsewhere, or takes that back.
    pub fn plan_node_state(&self, id: u64, state: NodeState) -> Result<Plan, CatalogError> {
        let node = self.nodes.get(&id).ok_or(CatalogError::UnknownNode { node: id })?;
        let replaced_by = node.replaced_by.filter(|_| state == NodeState::Leaving);
        let changed = Node { state, replaced_by, ..node.clone() };
        let written = if changed == *node { Vec::new() } else { vec![records::node(id, &changed)] };
        Ok(Plan { records: written, topic: None })
    }

    /// Takes a node out that has no replicas any more.
    pub fn plan_node_gone(&self, id: u64) -> Result<Plan, CatalogError> {
        self.nodes.get(&id).ok_or(CatalogError::UnknownNode { node: id })?;
        let there = self.topics.values().filter(|t| t.name != META).flat_map(|t| &t.partitions);
        let there = there.filter(|p| p.lives_on(id) != Lives::Elsewhere).count();
        if there > 0 {
            return Err(CatalogError::NodeInUse { node: id, replicas: there });
        }
        let ids = Ids { epoch: self.ids.epoch + 1, ..self.ids };
        Ok(Plan { records: vec![records::node_gone(id), records::ids(ids)], topic: None })
    }

    /// Takes note of the replicas that a group has now.
    #[must_use = "a plan does nothing until its records are synced and applied"]
    pub fn plan_moved(&self, moved: &[(GroupId, Vec<Replica>)]) -> Plan {
        let mut topics: BTreeMap<String, Topic> = BTreeMap::new();
        for (group, now) in moved {
            let Some((topic, number)) = self.partition_of(*group) else { continue };
            let topic = topics.entry(topic.name.clone()).or_insert_with(|| topic.clone());
            if let Some(replicas) = &mut topic.partitions[number as usize].replicas
                && replicas.now != *now
            {
                replicas.now.clone_from(now);
            }
        }
        topics.retain(|name, topic| self.topics.get(name) != Some(topic));
        self.changed(topics.into_values(), self.ids)
    }

    /// What is to be wanted in the place of replicas that take no part any more: others, with new ids, on the same nodes. Not where the rest of the replicas are no
    /// majority, since then nobody could take the new one in, nor bring it up: what is left of the old one may be needed.
    #[must_use = "a plan does nothing until its records are synced and applied"]
    pub fn plan_renew(&self, broken: &[(GroupId, Replica)]) -> Plan {
        let mut ids = self.ids;
        let mut topics: BTreeMap<String, Topic> = BTreeMap::new();
        for (group, old) in broken {
            let Some((topic, number)) = self.partition_of(*group).filter(|(topic, _)| topic.name != META) else { continue };
            let topic = topics.entry(topic.name.clone()).or_insert_with(|| topic.clone());
            let Some(replicas) = &mut topic.partitions[number as usize].replicas else { continue };
            let others = replicas.now.iter().filter(|r| *r != old).count();
            let Some(at) = replicas.wanted.iter().position(|r| r == old).filter(|_| 2 * others > replicas.now.len()) else { continue };
            let mut wanted = replicas.wanted.clone();
            wanted[at] = ids.replica_on(old.node);
            replicas.want(wanted);
        }
        topics.retain(|name, topic| self.topics.get(name) != Some(topic));
        self.changed(topics.into_values(), ids)
    }

    /// Whether replicas are wanted on a node that is to have none: then what is under way may never come to its end, and is planned anew.
    #[must_use]
    pub fn wants_in_vain(&self) -> bool {
        let is_in = |r: &Replica| self.nodes.get(&r.node).is_some_and(|n| n.state != NodeState::Leaving);
        let partitions = self.topics.values().filter(|t| t.name != META).flat_map(|t| &t.partitions);
        partitions.filter_map(|p| p.replicas.as_ref()).any(|r| !r.wanted.iter().all(is_in))
    }

    /// What is to be wanted so that every partition has as many replicas as it should, on nodes that are in: of one topic at a time. In the end, nodes go that were
    /// replaced.
    #[must_use = "a plan does nothing until its records are synced and applied"]
    pub fn plan_heal(&self) -> Plan {
        let nothing = Plan { records: Vec::new(), topic: None };
        if self.nodes.len() < 2 {
            return nothing;
        }
        let is_in = |node: u64| self.nodes.get(&node).is_some_and(|n| n.state != NodeState::Leaving);
        let possible = self.nodes.keys().filter(|id| is_in(**id)).count();
        for topic in self.topics.values().filter(|t| t.name != META) {
            let have = topic.partitions.iter().map(|p| p.replicas.as_ref().map_or(1, |r| r.wanted.len())).max().unwrap_or(1);
            let want = if topic.internal { self.replication_default().max(have) } else { have }.min(possible.max(1));
            let fine = |p: &Partition| match &p.replicas {
                Some(r) => r.wanted.len() == want && r.wanted.iter().all(|r| is_in(r.node)),
                None => want == 1 && is_in(FOUNDER),
            };
            if !topic.partitions.iter().all(fine) {
                let (mut ids, mut healed) = (self.ids, topic.clone());
                self.replicate(&mut ids, &mut healed, want);
                if healed != *topic {
                    return self.changed([healed].into_iter(), ids);
                }
            }
        }
        let replaced = self.nodes.iter().filter(|(_, node)| node.replaced_by.is_some() && node.state == NodeState::Leaving);
        replaced.filter_map(|(id, _)| self.plan_node_gone(*id).ok()).next().unwrap_or(nothing)
    }

    /// What is to be wanted so that nodes have as many replicas as each other, and lead as much. What moves is in the plan's records.
    #[must_use = "a plan does nothing until its records are synced and applied"]
    pub fn plan_rebalance(&self) -> (Plan, RebalanceReply) {
        let (before, mut load, mut ids) = (self.load(), self.load(), self.ids);
        let mut reply = RebalanceReply::default();
        let mut topics: Vec<Topic> = self.topics.values().filter(|t| t.name != META).cloned().collect();
        for topic in &mut topics {
            for (number, partition) in topic.partitions.iter_mut().enumerate() {
                let Some(replicas) = &mut partition.replicas else { continue };
                let mut wanted = replicas.wanted.clone();
                for at in 0..wanted.len() {
                    let nodes: Vec<u64> = wanted.iter().map(|r| r.node).collect();
                    if let Some(to) = placement::better(&mut load, &nodes, at) {
                        reply.moves.push(ReplicaMove { topic: topic.name.clone(), partition: number as u32, from: nodes[at], to });
                        wanted[at] = replicas.there(to).unwrap_or_else(|| ids.replica_on(to));
                    }
                }
                let nodes: Vec<u64> = wanted.iter().map(|r| r.node).collect();
                if let Some(first) = placement::better_leader(&mut load, &nodes) {
                    wanted.swap(0, first);
                    reply.leaders += 1;
                }
                replicas.want(wanted);
            }
        }
        topics.retain(|topic| self.topics.get(&topic.name) != Some(topic));
        reply.loads = load
            .iter()
            .map(|(id, after)| {
                let was = before.get(id).cloned().unwrap_or_default();
                NodeLoad {
                    node_id: *id,
                    replicas_before: was.replicas as u64,
                    replicas_after: after.replicas as u64,
                    leads_before: was.leaders as u64,
                    leads_after: after.leaders as u64,
                }
            })
            .collect();
        (self.changed(topics.into_iter(), ids), reply)
    }

    fn changed(&self, topics: impl Iterator<Item = Topic>, ids: Ids) -> Plan {
        let mut written: Vec<Record> = topics.map(|topic| records::topic(&topic)).collect();
        if !written.is_empty() {
            written.push(records::ids(Ids { epoch: ids.epoch + 1, ..ids }));
        }
        Plan { records: written, topic: None }
    }

    pub(super) fn put_node(&mut self, id: u64, node: Option<Node>) -> Vec<Effect> {
        match node {
            Some(node) => drop(self.nodes.insert(id, node)),
            None => drop(self.nodes.remove(&id)),
        }
        self.place_meta()
    }

    pub(super) fn put_meta_first(&mut self, first: Vec<Replica>) -> Vec<Effect> {
        self.meta_first = first;
        self.place_meta()
    }

    /// Every node has a replica of the catalog's own group.
    fn place_meta(&mut self) -> Vec<Effect> {
        let all: Vec<Replica> =
            self.nodes.iter().filter(|(_, node)| node.meta != 0).map(|(id, node)| Replica { id: node.meta, node: *id }).collect();
        let replicas = (!self.meta_first.is_empty() && !all.is_empty())
            .then(|| Box::new(Replicas { first: self.meta_first.clone(), now: all.clone(), wanted: all }));
        let mut effects = vec![Effect::Nodes];
        if let Some(meta) = self.topics.get_mut(META)
            && meta.partitions[0].replicas != replicas
        {
            meta.partitions[0].replicas = replicas;
            effects.push(Effect::Create(meta.partitions[0].home, meta.partitions[0].group, meta.settings.clone()));
        }
        effects
    }
}

impl Ids {
    /// A new replica on a node.
    fn replica_on(&mut self, node: u64) -> Replica {
        let id = self.replica;
        self.replica += 1;
        Replica { id, node }
    }
}
