//! Several servers that make a cluster: processes of ours, each with a directory and an address that it keeps over its lives, on loopback
//! or in network namespaces.
//!
//! In reading order: [`net`] the namespaces and what can be done to their links · [`disk`] disks that can be filled · [`health`] what a cluster
//! says of itself · [`timeline`] what was done to it and when.

pub(crate) mod disk;
pub(crate) mod health;
pub(crate) mod net;
pub(crate) mod timeline;

use crate::{
    node::{Node, NodeSpec},
    system::native::Native,
};
use anyhow::{Context, Result, bail, ensure};
use millpond_wire::messages::PartitionInfo;
use net::Net;
use std::{
    fs, mem,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

/// The port of every node that has a network of its own.
const PORT: u16 = 7400;

/// How to start one.
#[derive(Clone, Debug)]
pub(crate) struct ClusterSpec {
    /// The `millpond` program; this one if none is named.
    pub(crate) program: Option<PathBuf>,
    pub(crate) nodes: usize,
    /// Cores of each node, as `millpond serve --cores` takes them; all, if nothing is said.
    pub(crate) cores: Option<String>,
    /// Whether each core stays on its CPU.
    pub(crate) pin: bool,
    /// Of each node, as `millpond serve --memory` takes it.
    pub(crate) memory: Option<String>,
    /// Of each node, as `millpond serve --disk-reserve` takes it.
    pub(crate) disk_reserve: Option<String>,
}

/// See the module. Its processes end, and then its network goes, with this.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// Of which each further node is.
    spec: ClusterSpec,
    dir: PathBuf,
    /// Nodes that there ever were: their directories are numbered.
    born: usize,
    members: Vec<Member>,
    /// After the members: namespaces go when nobody lives in them.
    net: Option<Net>,
}

#[derive(Debug)]
struct Member {
    spec: NodeSpec,
    state: State,
}

#[derive(Debug)]
enum State {
    Down,
    /// It was started and does not say yet that it serves.
    Starting(JoinHandle<Result<Node>>),
    Up(Box<Node>),
}

impl Cluster {
    /// Starts the nodes below `dir`, one after the other, and waits until they serve: not until the cluster is whole.
    pub(crate) async fn start(spec: &ClusterSpec, dir: &Path, net: Option<Net>) -> Result<Self> {
        let mut cluster = Self { spec: spec.clone(), dir: dir.to_owned(), born: 0, members: Vec::new(), net };
        for _ in 0..spec.nodes {
            cluster.add().await?;
        }
        Ok(cluster)
    }

    /// Starts one more node, and waits until it serves: as a part of the cluster, unless it is the first.
    pub(crate) async fn add(&mut self) -> Result<()> {
        let number = self.born;
        let name = format!("node-{}", number + 1);
        let mut one = NodeSpec::new(self.spec.program.as_deref(), &self.dir.join(&name), self.spec.cores.as_deref())?;
        if let Some(net) = &self.net {
            one.netns = Some(net.namespace(number));
            one.listen = SocketAddr::from((net.address(number), PORT));
        }
        one.pin = self.spec.pin;
        one.memory.clone_from(&self.spec.memory);
        one.disk_reserve.clone_from(&self.spec.disk_reserve);
        one.join = self.addresses();
        let node = one.start().await.with_context(|| format!("starting {name}"))?;
        self.members.push(Member { spec: one, state: State::Up(Box::new(node)) });
        self.born += 1;
        Ok(())
    }

    /// The node of a number is down for good, and its disk lost: starts one with an empty directory in its place, and waits until it serves.
    pub(crate) async fn replace(&mut self, number: usize, id: u64) -> Result<()> {
        let others = self.members.iter().enumerate().filter(|(other, _)| *other != number);
        let join = others.map(|(_, member)| member.spec.listen.to_string()).collect();
        let member = &mut self.members[number];
        ensure!(matches!(member.state, State::Down), "a node that is up cannot be replaced");
        // A disk that is lost is not emptied: that would be work for the disk that all nodes of a test share.
        let data = member.spec.data();
        let aside = data.with_extension("lost");
        fs::rename(&data, &aside).with_context(|| format!("moving {} to {}", data.display(), aside.display()))?;
        (member.spec.join, member.spec.replace) = (join, Some(id));
        let node = member.spec.start().await.context("starting a node in the place of another")?;
        member.state = State::Up(Box::new(node));
        Ok(())
    }

    /// Stops a node politely, and waits until it has.
    pub(crate) async fn stop_one(&mut self, number: usize) -> Result<()> {
        match mem::replace(&mut self.members[number].state, State::Down) {
            State::Up(node) => (*node).stop().await,
            _ => bail!("node {} does not serve", number + 1),
        }
    }

    /// Counts a node that is down for good no longer: those behind it move up.
    pub(crate) fn forget(&mut self, number: usize) {
        self.members.remove(number);
    }

    /// By which ids the cluster knows its nodes; none of one that is down.
    pub(crate) fn ids(&self) -> Vec<Option<u64>> {
        self.members.iter().map(|member| if let State::Up(node) = &member.state { Some(node.id) } else { None }).collect()
    }

    /// Where those listen that serve.
    pub(crate) fn serving(&self) -> Vec<String> {
        let up = self.members.iter().filter(|member| matches!(member.state, State::Up(_)));
        up.map(|member| member.spec.listen.to_string()).collect()
    }

    /// The processes of those that serve.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.members.iter().filter_map(|member| if let State::Up(node) = &member.state { node.pid().ok() } else { None }).collect()
    }

    /// Where its nodes listen, in order.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.members.iter().map(|member| member.spec.listen.to_string()).collect()
    }

    /// What its nodes say.
    pub(crate) fn logs(&self) -> Vec<PathBuf> {
        self.members.iter().map(|member| member.spec.log()).collect()
    }

    /// Its network, if it has one of its own.
    pub(crate) fn net(&self) -> Option<&Net> {
        self.net.as_ref()
    }

    /// Ends a node as a crash would (SIGKILL), wherever it is, and waits until it is gone.
    pub(crate) async fn kill(&mut self, number: usize) -> Result<()> {
        match mem::replace(&mut self.members[number].state, State::Down) {
            State::Down => Ok(()),
            State::Up(node) => (*node).kill(),
            State::Starting(launch) => {
                launch.abort();
                match launch.await {
                    Ok(Ok(node)) => node.kill(),
                    // It ends with what was aborted.
                    Err(error) if error.is_cancelled() => Ok(()),
                    Ok(Err(error)) => Err(error),
                    Err(error) => Err(error).context("starting a node"),
                }
            }
        }
    }

    /// Starts a node that is down, and does not wait until it serves.
    pub(crate) fn launch(&mut self, number: usize) -> Result<()> {
        let member = &mut self.members[number];
        if let State::Down = member.state {
            member.state = State::Starting(tokio::spawn(member.spec.launch()?.ready()));
        }
        Ok(())
    }

    /// Stops a node in its tracks, if it serves. Whether it did.
    pub(crate) fn pause(&self, number: usize) -> Result<bool> {
        let State::Up(node) = &self.members[number].state else { return Ok(false) };
        node.pause().map(|()| true)
    }

    /// Lets it go on.
    pub(crate) fn resume(&self, number: usize) -> Result<()> {
        let State::Up(node) = &self.members[number].state else { return Ok(()) };
        node.resume()
    }

    /// Takes in which of the nodes that were started serve by now, and fails if one has ended by itself.
    pub(crate) async fn look(&mut self) -> Result<()> {
        for member in &mut self.members {
            let ready = matches!(&member.state, State::Starting(launch) if launch.is_finished());
            if ready {
                member.settle().await?;
            }
            if let State::Up(node) = &mut member.state
                && let Some(how) = node.ended()
            {
                bail!("{} ended by itself: {how}", member.spec.dir.display());
            }
        }
        Ok(())
    }

    /// Starts what is down, and waits until all nodes serve.
    pub(crate) async fn up(&mut self) -> Result<()> {
        for number in 0..self.members.len() {
            self.launch(number)?;
        }
        for member in &mut self.members {
            member.settle().await?;
        }
        self.look().await
    }

    /// Asks all nodes to stop, all at once, and waits until they have.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        self.up().await?;
        let mut stopping = Vec::new();
        for member in &mut self.members {
            if let State::Up(node) = mem::replace(&mut member.state, State::Down) {
                stopping.push((member.spec.dir.clone(), tokio::spawn((*node).stop())));
            }
        }
        for (dir, stopped) in stopping {
            stopped.await.context("stopping a node")?.with_context(|| format!("stopping {}", dir.display()))?;
        }
        Ok(())
    }

    /// Which of its nodes leads each partition of a topic, by number.
    pub(crate) async fn leaders(&self, topic: &str) -> Result<Vec<usize>> {
        let reply = health::metadata(&mut Native::new(&self.serving()).any().await?).await?;
        let info = reply.topics.iter().find(|info| info.name == topic).with_context(|| format!("there is no topic {topic}"))?;
        let leader = |partition: &PartitionInfo| {
            let endpoint = reply.endpoints.get(partition.endpoint as usize).context("metadata names an endpoint that it lacks")?;
            // Each core has a port of its own, above the one of all.
            let port = endpoint.port.checked_sub(1 + endpoint.core).context("metadata names a port that cannot be")?;
            let address = format!("{}:{port}", endpoint.host);
            self.addresses().iter().position(|own| *own == address).with_context(|| format!("{address} is none of ours"))
        };
        info.partitions.iter().map(leader).collect()
    }

    /// Waits until every node says that the cluster is whole; how long that took. All nodes must serve.
    pub(crate) async fn whole(&self, within: Duration) -> Result<Duration> {
        let began = Instant::now();
        health::whole(&self.addresses(), within).await?;
        Ok(began.elapsed())
    }
}

impl Member {
    /// Waits until it serves, if it was started.
    async fn settle(&mut self) -> Result<()> {
        if let State::Starting(launch) = &mut self.state {
            let node = launch.await.context("starting a node")?;
            self.state = State::Up(Box::new(node.with_context(|| format!("starting {} again", self.spec.dir.display()))?));
        }
        Ok(())
    }
}
