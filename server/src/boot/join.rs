//! How a node becomes a part of a cluster, and how it says where it is to be found.
//!
//! A node that has no identity yet and is told of a cluster asks one of its nodes, any of them: the leader of the meta group gives it an id and a replica of the
//! meta group, which is all that it needs to begin. From then on it says where it is at each start. Until it knows what its cluster knows, clients are told to come
//! later.

use crate::{
    catalog::{AGES_EVERY, Age, META_GROUP, Node, NodeState},
    node::{
        Core, NodeConfig,
        meta::Change,
        remote::{greet, hello, next},
        shared::{Identity, StartFailed},
    },
};
use bytes::BytesMut;
use millpond_runtime::{Conn as _, ConnWrite as _, NodeId, Rt, Share, rt::timeout};
use millpond_wire::{
    frame::{Flags, encode},
    messages::{Code, Failure, Hello, JoinCluster, JoinReply, Kind, NodeInfo},
};
use std::{net::SocketAddr, rc::Rc, time::Duration};

/// One try to ask a node takes at most this long.
const ASK_MAX: Duration = Duration::from_secs(25);
/// After all have been asked in vain they are asked again this much later.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How often all are asked.
const ROUNDS: usize = 60;
/// A node serves after so long, though it could not make sure of what its cluster knows.
pub(super) const LEARN_MAX: Duration = Duration::from_secs(10);

/// A node, as it is sent.
#[must_use]
pub fn to_wire(id: u64, node: &Node) -> NodeInfo {
    NodeInfo {
        node_id: id,
        host: node.host.clone(),
        ip: node.ip.to_string(),
        port: u32::from(node.port),
        ports: node.ports.iter().map(|port| u32::from(*port)).collect(),
        rack: node.rack.clone(),
        homes: u32::from(node.homes),
        state: match node.state {
            NodeState::In => "in",
            NodeState::Drained => "drained",
            NodeState::Leaving => "leaving",
        }
        .into(),
        age: node.age.count,
        start: node.age.start,
    }
}

/// A node that was sent. Its replica of the meta group and what it is to do it cannot say.
pub fn from_wire(node: &NodeInfo) -> Result<Node, Failure> {
    let bad = |what: &str| Failure::new(Code::BadRequest, format!("a node with {what}"), "report this as a bug");
    let port = |port: &u32| u16::try_from(*port).map_err(|_| bad("a port that cannot be"));
    let ports = node.ports.iter().map(port).collect::<Result<Vec<u16>, _>>()?;
    if ports.is_empty() || ports.len() > 4_096 || node.host.len() > 255 || node.rack.len() > 255 {
        return Err(bad("no ports, or a name that is too long"));
    }
    Ok(Node {
        host: node.host.clone(),
        ip: node.ip.parse().map_err(|_| bad("no address"))?,
        port: port(&node.port)?,
        ports,
        homes: u16::try_from(node.homes).map_err(|_| bad("homes that cannot be"))?,
        rack: node.rack.clone(),
        meta: 0,
        state: NodeState::In,
        age: Age { count: node.age, start: node.start },
        replaced_by: None,
    })
}

/// Where this node will listen, as far as that is known before it does. Its disk has no age yet: one that has said its age once has begun, and need not ask.
fn guess(config: &NodeConfig, identity: Option<Identity>, cores: usize) -> NodeInfo {
    let base = u32::from(config.listen.port());
    let port = |core: u32| if base == 0 { 0 } else { (base + 1 + core).min(u32::from(u16::MAX)) };
    NodeInfo {
        node_id: identity.map_or(0, |is| is.node_id),
        host: config.advertise.clone(),
        ip: config.ip.to_string(),
        port: base,
        ports: (0..cores as u32).map(port).collect(),
        rack: config.rack.clone(),
        homes: identity.map_or(cores as u32, |is| u32::from(is.homes)),
        state: "in".into(),
        age: 0,
        start: 0,
    }
}

/// Asks the nodes that this one was told of until one answers.
pub(super) async fn ask<R: Rt>(rt: &R, config: &NodeConfig, identity: Option<Identity>, cores: usize) -> Result<JoinReply, StartFailed> {
    let request = JoinCluster {
        node: Some(guess(config, identity, cores)),
        cluster_id: identity.map_or_else(String::new, |identity| identity.cluster()),
        replaces: if identity.is_none() { config.replace.unwrap_or(0) } else { 0 },
    };
    let mut last = "nobody was asked".to_owned();
    for _ in 0..ROUNDS {
        for at in &config.join {
            match timeout(rt, ASK_MAX, ask_one(rt, *at, &request)).await.unwrap_or_else(|late| Err(Failed::Again(late.to_string()))) {
                Ok(reply) => return Ok(reply),
                Err(Failed::Again(why)) => {
                    tracing::info!(%at, why, "this node of the cluster has not taken us in yet");
                    last = format!("{at}: {why}");
                }
                Err(Failed::ForGood(failure)) if identity.is_some() => {
                    return Err(StartFailed::new("cannot go on in the cluster", failure.message, failure.advice));
                }
                Err(Failed::ForGood(failure)) => {
                    return Err(StartFailed::new("cannot join the cluster", failure.message, failure.advice));
                }
            }
        }
        rt.sleep(AGAIN_AFTER).await;
    }
    Err(StartFailed::new("cannot join the cluster", last, "check the addresses of --join, and that a majority of that cluster runs"))
}

enum Failed {
    Again(String),
    ForGood(Failure),
}

async fn ask_one<R: Rt>(rt: &R, at: SocketAddr, request: &JoinCluster) -> Result<JoinReply, Failed> {
    let conn = rt.dial(at).await.map_err(|e| Failed::Again(e.to_string()))?;
    let (mut read, mut write) = conn.split();
    let mut buf = BytesMut::new();
    let hello = Hello { client_id: "millpond-join".into(), ..hello() };
    greet(&mut read, &mut write, &mut buf, &hello).await.map_err(Failed::Again)?;
    let again = |e: millpond_runtime::IoError| Failed::Again(e.to_string());
    write.send(&[encode(Kind::Join, Flags::REQUEST, 1, request, 0)]).await.map_err(again)?;
    let frame = next(&mut read, &mut buf).await.map_err(Failed::Again)?;
    let senseless = |e: millpond_wire::frame::FrameError| Failed::Again(e.to_string());
    if frame.flags.is_failure() {
        let failure: Failure = frame.message().map_err(senseless)?;
        let passes = matches!(failure.code(), Code::NotOwner | Code::Unavailable | Code::MaybeDone | Code::Overloaded | Code::DiskFull);
        return Err(if passes { Failed::Again(failure.message) } else { Failed::ForGood(failure) });
    }
    frame.message().map_err(senseless)
}

/// Nodes of a reply that can be understood.
pub(super) fn nodes_of(reply: &JoinReply) -> Vec<(u64, Node)> {
    reply.nodes.iter().filter_map(|node| Some((node.node_id, from_wire(node).ok()?))).collect()
}

impl<R: Rt> Core<R> {
    /// A node wants to be a part of the cluster, or says where it is. Refused where another node leads the meta group.
    pub async fn join(self: &Rc<Self>, request: JoinCluster) -> Result<JoinReply, Failure> {
        let cluster = self.identity.cluster();
        if !request.cluster_id.is_empty() && request.cluster_id != cluster {
            let message = format!("the node is a part of cluster {}, this is cluster {cluster}", request.cluster_id);
            let advice = "start it with the addresses of its own cluster, or with an empty data directory";
            return Err(Failure::new(Code::InvalidArgument, message, advice));
        }
        let info = request.node.unwrap_or_default();
        let me = Some(info.node_id).filter(|id| *id != 0);
        let node = from_wire(&info)?;
        let change = match request.replaces {
            0 => Change::Node(me, node),
            lost => {
                self.check_lost(lost)?;
                Change::Replace(lost, node)
            }
        };
        let done = self.change(change).await?;
        let (meta_replica, meta_first, nodes) = {
            let catalog = self.catalog.borrow();
            let first = catalog.meta_first().iter().map(|r| millpond_wire::messages::ReplicaInfo { id: r.id, node_id: r.node });
            let nodes = catalog.nodes().map(|(id, node)| to_wire(id, node)).collect();
            (catalog.node(done.node).map_or(0, |node| node.meta), first.collect(), nodes)
        };
        tracing::info!(node = done.node, host = info.host, port = info.port, changed = done.changed, "a node of the cluster");
        let homes = u32::from(self.catalog.borrow().homes(self.homes()));
        Ok(JoinReply { cluster_id: self.identity.cluster_id, node_id: done.node, meta_replica, meta_first, nodes, homes })
    }

    /// Refuses to have a node replaced that is heard from.
    fn check_lost(&self, node: u64) -> Result<(), Failure> {
        if node != self.identity.node_id && !self.drivers.values().any(|driver| driver.hears(NodeId(node))) {
            return Ok(());
        }
        let advice = format!(
            "stop it first; if it is to go with all that it has, join without --replace and run `millpond node decommission {node}`"
        );
        Err(Failure::new(Code::InvalidArgument, format!("node {node} is up, and only a lost one is replaced"), advice))
    }

    /// Says where this node is, and returns once it knows what its cluster knows, or cannot make sure of it for long.
    pub(super) async fn introduce(self: &Rc<Self>, port: u16, ports: &[u16]) -> Result<(), StartFailed> {
        let node = self.own_node(port, ports);
        if !self.is_member() {
            let told = self.change(Change::Node(Some(self.identity.node_id), node)).await;
            let failed = |failure: Failure| StartFailed::new("cannot say where this node is", failure.message, failure.advice);
            return told.map(drop).map_err(failed);
        }
        loop {
            match self.try_introduce(&node).await {
                Ok(()) => return Ok(()),
                Err(failure) if failure.code() == Code::InvalidArgument => {
                    return Err(StartFailed::new("cannot go on in the cluster", failure.message, failure.advice));
                }
                Err(failure) => {
                    tracing::debug!(why = failure.message, "this node does not know yet what its cluster knows");
                    self.rt.sleep(Duration::from_millis(u64::from(failure.retry_after_ms.clamp(20, 200)))).await;
                }
            }
            if self.stopping.get() {
                return Ok(());
            }
        }
    }

    async fn try_introduce(self: &Rc<Self>, node: &Node) -> Result<(), Failure> {
        self.say_where(node).await?;
        self.catch_up().await?;
        for core in self.core_ids() {
            let learnt = self.at(core, |core| async move {
                core.set_learning(false);
                core.drop_strangers().await.map_err(|e| e.to_string())
            });
            if let Err(why) = learnt.await? {
                return Err(Failure::new(Code::Unavailable, why, "make room on the disk"));
            }
        }
        tracing::info!(node = self.identity.node_id, "this node knows what its cluster knows");
        Ok(())
    }

    /// Counts up the age of the disk every so often and has the cluster remember it, for as long as the node runs; on core 0.
    pub(super) fn grow_older(self: &Rc<Self>, port: u16, ports: &[u16]) {
        let (core, ports) = (Rc::clone(self), ports.to_vec());
        self.rt.spawn("grow older", Share::Background, async move {
            while !core.stopping.get() {
                core.rt.sleep(AGES_EVERY).await;
                match super::age::count_up(&core.rt, &core.config.data).await {
                    Ok(counted) => core.shared.set_age(Age { count: counted.count, ..core.shared.age() }),
                    Err(failed) => {
                        tracing::warn!(%failed, "the age of the disk cannot be counted up");
                        continue;
                    }
                }
                // Whoever cannot be told now is told of the next one.
                if let Err(failure) = core.say_where(&core.own_node(port, &ports)).await {
                    tracing::debug!(failure = failure.message, "the cluster cannot be told how old the disk is");
                }
            }
        });
    }

    /// Has the leader of the catalog know where this node is, and how old its disk.
    async fn say_where(self: &Rc<Self>, node: &Node) -> Result<(), Failure> {
        let me = self.identity.node_id;
        match self.change(Change::Node(Some(me), node.clone())).await {
            Err(failure) if failure.code() == Code::NotOwner => {
                let request = JoinCluster { node: Some(to_wire(me, node)), cluster_id: self.identity.cluster(), replaces: 0 };
                self.introduce_to(failure.node_id, &request).await
            }
            done => done.map(drop),
        }
    }

    /// Says where this node is to the leader of the meta group; if that is not known here (0), to whoever knows it: a node that was taken out hears from no
    /// leader any more.
    async fn introduce_to(self: &Rc<Self>, leader: u64, request: &JoinCluster) -> Result<(), Failure> {
        let mut asked: Vec<NodeId> = if leader == 0 { self.cluster.others() } else { vec![NodeId(leader)] };
        let mut last = crate::node::not_owner(None);
        while let Some(node) = asked.pop() {
            match timeout(&self.rt, ASK_MAX, self.ask_node::<JoinReply>(node, Kind::Join, request)).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(failure)) if failure.code() == Code::NotOwner && failure.node_id != 0 && leader == 0 => {
                    let there = NodeId(failure.node_id);
                    return self.ask_node::<JoinReply>(there, Kind::Join, request).await.map(drop);
                }
                Ok(Err(failure)) if failure.code() == Code::InvalidArgument => return Err(failure),
                Ok(Err(failure)) => last = failure,
                Err(_) => {}
            }
        }
        Err(last)
    }

    /// Has clients told to come later until this node knows what its cluster knows; on all cores.
    pub(super) async fn learn_first(self: &Rc<Self>) {
        for core in self.core_ids() {
            // A core that is lost needs no telling.
            let _ = self.at(core, |core| async move { core.set_learning(core.is_member()) }).await;
        }
    }

    /// The catalog's own replica, for the first time: as the cluster has said.
    pub(super) fn begin_meta(&self, reply: &JoinReply) -> Result<(), StartFailed> {
        let failed = |why: String| StartFailed::new("cannot begin the replica of the catalog", why, "report this as a bug");
        let driver = self.drivers.get(&crate::catalog::Home(0)).ok_or_else(|| failed("home 0 is not here".into()))?;
        let first = reply.meta_first.iter().map(|r| (r.id, NodeId(r.node_id))).collect();
        let members = millpond_raft::Membership::first(reply.meta_replica, first);
        let config = millpond_log::GroupConfig::from(&crate::catalog::Catalog::meta_settings());
        driver.create(META_GROUP, config, &members).map_err(|e| failed(e.to_string()))
    }
}
