//! What serves the demonstration: one server, or a cluster of them.

use super::TOPIC;
use crate::{
    args::DemoArgs,
    cluster::{Cluster, ClusterSpec},
    node::{Node, NodeSpec},
};
use anyhow::{Context, Result, bail};
use std::{
    fmt,
    path::Path,
    time::{Duration, Instant},
};

/// A cluster is whole again within this time.
const WHOLE_WITHIN: Duration = Duration::from_secs(60);

/// See the module.
pub(super) enum Stage {
    One { spec: Box<NodeSpec>, node: Option<Box<Node>> },
    Many(Box<Cluster>),
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One { spec, .. } => write!(f, "a server on {}", spec.listen),
            Self::Many(cluster) => write!(f, "{} servers on {}", cluster.addresses().len(), cluster.addresses().join(", ")),
        }
    }
}

impl Stage {
    /// Starts all servers, and waits until they are one.
    pub(super) async fn start(args: &DemoArgs, dir: &Path) -> Result<Self> {
        if args.nodes <= 1 {
            let spec = NodeSpec::new(args.program.as_deref(), dir, args.server_cpus.as_deref())?;
            let node = Some(Box::new(spec.start().await?));
            return Ok(Self::One { spec: Box::new(spec), node });
        }
        let spec = ClusterSpec {
            program: args.program.clone(),
            nodes: args.nodes,
            cores: Some(args.server_cpus.clone().unwrap_or_else(|| "1".into())),
            pin: false,
            memory: None,
            disk_reserve: None,
        };
        let cluster = Cluster::start(&spec, dir, None).await?;
        cluster.whole(WHOLE_WITHIN).await?;
        Ok(Self::Many(Box::new(cluster)))
    }

    /// Where clients connect.
    pub(super) fn servers(&self) -> String {
        match self {
            Self::One { spec, .. } => spec.listen.to_string(),
            Self::Many(cluster) => cluster.addresses().join(","),
        }
    }

    /// Whether there is nobody else to serve.
    pub(super) fn is_alone(&self) -> bool {
        matches!(self, Self::One { .. })
    }

    /// The server that leads the first partition, by its number.
    pub(super) async fn leader(&self) -> Result<usize> {
        match self {
            Self::One { .. } => Ok(0),
            Self::Many(cluster) => cluster.leaders(TOPIC).await?.first().copied().context("the topic has partitions"),
        }
    }

    /// A server, as it is spoken of.
    pub(super) fn name(&self, number: usize) -> String {
        if self.is_alone() { "the server".into() } else { format!("server {}, the leader of the first partition,", number + 1) }
    }

    /// Ends a server as a crash would.
    pub(super) async fn kill(&mut self, number: usize) -> Result<()> {
        match self {
            Self::One { node, .. } => node.take().context("it was started")?.kill(),
            Self::Many(cluster) => cluster.kill(number).await,
        }
    }

    /// Starts what is down; how long that took.
    pub(super) async fn start_again(&mut self) -> Result<Duration> {
        match self {
            Self::One { spec, node } => {
                let again = spec.start().await?;
                let took = again.took;
                *node = Some(Box::new(again));
                Ok(took)
            }
            Self::Many(cluster) => {
                let began = Instant::now();
                cluster.up().await?;
                Ok(began.elapsed())
            }
        }
    }

    /// Waits until all servers have what they should have.
    pub(super) async fn settle(&self) -> Result<()> {
        match self {
            Self::One { .. } => Ok(()),
            Self::Many(cluster) => cluster.whole(WHOLE_WITHIN).await.map(drop),
        }
    }

    /// Fails if a server has ended by itself.
    pub(super) async fn check(&mut self) -> Result<()> {
        match self {
            Self::One { node, .. } => match node.as_mut().and_then(|node| node.ended()) {
                Some(how) => bail!("the server ended by itself: {how}"),
                None => Ok(()),
            },
            Self::Many(cluster) => cluster.look().await,
        }
    }
}
