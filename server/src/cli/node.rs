//! `millpond node`: stopping, replacing and taking out nodes of a cluster without anybody noticing.

use super::{
    Global,
    fail::{Fail, Result},
    out::Out,
    progress::Progress,
    remote::Remote,
};
use clap::{Args, Subcommand};
use millpond_wire::messages::{NodeChange, NodeHealth};
use serde_json::json;
use std::time::{Duration, Instant};

/// How often one looks how far it is.
const LOOK: Duration = Duration::from_millis(200);

/// Stop, return and take out nodes of a cluster
#[derive(Subcommand)]
pub(super) enum Node {
    Drain(Drain),
    Return(Return),
    Decommission(Decommission),
    Recover(super::recover::Recover),
}

/// Have a node lead nothing, so that it can be stopped without a pause
///
/// It leads again once it has started again, or after `millpond node return`.
#[derive(Args)]
pub(super) struct Drain {
    /// The node's id, see `millpond cluster status`
    node: u64,
    /// How long to wait for it
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = humantime::parse_duration)]
    wait: Duration,
}

/// Have a node lead and keep replicas again that was drained, or was to leave
#[derive(Args)]
pub(super) struct Return {
    /// The node's id
    node: u64,
}

/// Have all replicas of nodes made elsewhere, and take them out of the cluster
///
/// The node may be down, or its disk lost: what it had is made again from the other replicas. A node that was taken out can join again with an empty data
/// directory, as another node.
#[derive(Args)]
pub(super) struct Decommission {
    /// The node's id; give all that are lost at once, since replicas would wait for the others
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<u64>,
    /// How long to wait for it; the work goes on after that
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    wait: Duration,
}

impl Node {
    pub(super) async fn run(self, global: &Global, out: &mut Out) -> Result {
        if let Self::Recover(recover) = self {
            return recover.run(out).await;
        }
        let remote = Remote::connect(global).await?;
        match self {
            Self::Recover(_) => unreachable!("it was done above"),
            Self::Drain(args) => {
                remote.alter_node(args.node, NodeChange::Drain).await?;
                let left = |node: &NodeHealth| if node.up { node.leads_with_others } else { 0 };
                until_none(&remote, args.node, args.wait, out, left, "groups that it leads").await?;
                out.either(
                    &json!({ "node": args.node, "state": "drained" }),
                    format!("node {} leads nothing: stop it when you like", args.node),
                )
            }
            Self::Return(args) => {
                remote.alter_node(args.node, NodeChange::Return).await?;
                out.either(&json!({ "node": args.node, "state": "in" }), format!("node {} has replicas and leads again", args.node))
            }
            Self::Decommission(args) => {
                for node in &args.nodes {
                    remote.alter_node(*node, NodeChange::Leave).await?;
                }
                for node in args.nodes {
                    until_none(&remote, node, args.wait, out, |node| node.replicas, "replicas").await?;
                    remote.alter_node(node, NodeChange::Remove).await?;
                    let text = format!("node {node} is no part of the cluster any more: stop it, its data directory is of no use");
                    out.either(&json!({ "node": node, "state": "gone" }), text)?;
                }
                Ok(())
            }
        }
    }
}

/// Waits until a node has none of something left.
async fn until_none(remote: &Remote, id: u64, wait: Duration, out: &Out, left: impl Fn(&NodeHealth) -> u64, what: &str) -> Result {
    let began = Instant::now();
    let mut bar: Option<(Progress, u64)> = None;
    loop {
        let cluster = remote.describe_cluster().await?;
        let Some(node) = cluster.nodes.iter().find(|n| n.node.as_ref().is_some_and(|n| n.node_id == id)) else { return Ok(()) };
        let now = left(node);
        let (progress, all) = bar.get_or_insert_with(|| (Progress::new(out, Some(now)), now));
        progress.at(all.saturating_sub(now));
        if now == 0 {
            progress.finish();
            return Ok(());
        }
        if began.elapsed() >= wait {
            progress.finish();
            return Err(Fail::new(
                format!("node {id} still has {now} {what} after {}", humantime::format_duration(wait)),
                "see `millpond cluster status` for what keeps them; the work goes on, run the command again to wait for it",
            ));
        }
        tokio::time::sleep(LOOK).await;
    }
}
