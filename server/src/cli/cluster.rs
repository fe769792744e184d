//! `millpond cluster`: how the cluster is, and having its load spread.

use super::{
    Global,
    fail::{Fail, Result},
    out::Out,
    remote::Remote,
};
use clap::{Args, Subcommand};
use millpond_wire::messages::{DescribeClusterReply, NodeHealth, RebalanceReply, TopicPartitions};
use serde_json::{Value, json};

/// See how the cluster is, and spread its load
#[derive(Subcommand)]
pub(super) enum Cluster {
    Status(Status),
    Health(Health),
    Rebalance(Rebalance),
}

/// Show the nodes, what they have and lead, and what is wrong
#[derive(Args)]
pub(super) struct Status {}

/// Say whether all is well: exit code 0 if it is, 1 if not
#[derive(Args)]
pub(super) struct Health {}

/// Spread replicas and leaders evenly over the nodes, while everything is in use
#[derive(Args)]
pub(super) struct Rebalance {
    /// Only show what would move
    #[arg(long)]
    dry_run: bool,
}

impl Cluster {
    pub(super) async fn run(self, global: &Global, out: &mut Out) -> Result {
        let remote = Remote::connect(global).await?;
        match self {
            Self::Status(_) => status(&remote.describe_cluster().await?, out),
            Self::Health(_) => health(&remote.describe_cluster().await?, out),
            Self::Rebalance(args) => rebalance(&remote.rebalance(args.dry_run).await?, args.dry_run, out),
        }
    }
}

/// What is wrong, in words.
fn wrong(cluster: &DescribeClusterReply) -> Vec<String> {
    let count = |all: &[TopicPartitions]| all.iter().map(|t| t.partitions.len()).sum::<usize>();
    let mut wrong: Vec<String> =
        cluster.nodes.iter().filter(|node| !node.up).map(|node| format!("node {} does not answer", id(node))).collect();
    if count(&cluster.leaderless) > 0 {
        wrong.push(format!("{} partition(s) without a leader: {}", count(&cluster.leaderless), named(&cluster.leaderless)));
    }
    if count(&cluster.under_replicated) > 0 {
        let all = &cluster.under_replicated;
        wrong.push(format!("{} partition(s) of which a replica is missing, silent or behind: {}", count(all), named(all)));
    }
    wrong
}

fn id(node: &NodeHealth) -> u64 {
    node.node.as_ref().map_or(0, |node| node.node_id)
}

fn named(all: &[TopicPartitions]) -> String {
    const SHOWN: usize = 10;
    let each = |t: &TopicPartitions| t.partitions.iter().map(|p| format!("{}-{p}", t.topic)).collect::<Vec<_>>();
    let names: Vec<String> = all.iter().flat_map(each).collect();
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    names[..names.len().min(SHOWN)].join(", ") + &more
}

fn to_json(cluster: &DescribeClusterReply) -> Value {
    let node = |health: &NodeHealth| {
        let node = health.node.clone().unwrap_or_default();
        json!({
            "node": node.node_id, "state": node.state, "up": health.up, "address": format!("{}:{}", node.host, node.port),
            "rack": node.rack, "cores": node.ports.len(), "replicas": health.replicas, "leads": health.leads,
        })
    };
    let partitions =
        |all: &[TopicPartitions]| all.iter().map(|t| json!({ "topic": t.topic, "partitions": t.partitions })).collect::<Vec<_>>();
    json!({
        "cluster_id": cluster.cluster_id,
        "meta_leader": cluster.meta_leader,
        "partitions": cluster.partitions,
        "nodes": cluster.nodes.iter().map(node).collect::<Vec<_>>(),
        "leaderless": partitions(&cluster.leaderless),
        "under_replicated": partitions(&cluster.under_replicated),
        "healthy": wrong(cluster).is_empty(),
        "problems": wrong(cluster),
    })
}

fn status(cluster: &DescribeClusterReply, out: &mut Out) -> Result {
    if out.json {
        return out.value(&to_json(cluster));
    }
    let leader = cluster.meta_leader;
    out.line(format!("cluster {}: {} partition(s), the catalog is led by node {leader}\n", cluster.cluster_id, cluster.partitions))?;
    let row = |health: &NodeHealth| {
        let node = health.node.clone().unwrap_or_default();
        vec![
            node.node_id.to_string(),
            node.state,
            if health.up { "yes" } else { "no" }.to_owned(),
            format!("{}:{}", node.host, node.port),
            node.ports.len().to_string(),
            node.rack,
            health.replicas.to_string(),
            health.leads.to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = cluster.nodes.iter().map(row).collect();
    out.table(&["NODE", "STATE", "UP", "AT", "CORES", "RACK", "REPLICAS", "LEADS"], &rows)?;
    out.line("")?;
    let wrong = wrong(cluster);
    if wrong.is_empty() {
        return out.line("all is well");
    }
    wrong.iter().try_for_each(|what| out.line(what))
}

fn health(cluster: &DescribeClusterReply, out: &mut Out) -> Result {
    let wrong = wrong(cluster);
    if wrong.is_empty() {
        return out.either(&to_json(cluster), format!("healthy: {} node(s), {} partition(s)", cluster.nodes.len(), cluster.partitions));
    }
    if out.json {
        out.value(&to_json(cluster))?;
        out.flush()?;
    }
    Err(Fail::new(
        wrong.join("; "),
        "see `millpond cluster status`; start nodes that are down, or take lost ones out with `millpond node decommission ID`",
    ))
}

fn rebalance(plan: &RebalanceReply, dry_run: bool, out: &mut Out) -> Result {
    if out.json {
        let moves =
            |m: &millpond_wire::messages::ReplicaMove| json!({ "topic": m.topic, "partition": m.partition, "from": m.from, "to": m.to });
        let loads = |l: &millpond_wire::messages::NodeLoad| {
            json!({
                "node": l.node_id, "replicas_before": l.replicas_before, "replicas_after": l.replicas_after,
                "leads_before": l.leads_before, "leads_after": l.leads_after,
            })
        };
        return out.value(&json!({
            "dry_run": dry_run,
            "moves": plan.moves.iter().map(moves).collect::<Vec<_>>(),
            "leaders_changed": plan.leaders,
            "loads": plan.loads.iter().map(loads).collect::<Vec<_>>(),
        }));
    }
    for m in &plan.moves {
        out.line(format!("{}-{}: node {} -> node {}", m.topic, m.partition, m.from, m.to))?;
    }
    if !plan.moves.is_empty() {
        out.line("")?;
    }
    let change = |before: u64, after: u64| if before == after { before.to_string() } else { format!("{before} -> {after}") };
    let row = |l: &millpond_wire::messages::NodeLoad| {
        vec![l.node_id.to_string(), change(l.replicas_before, l.replicas_after), change(l.leads_before, l.leads_after)]
    };
    let rows: Vec<Vec<String>> = plan.loads.iter().map(row).collect();
    out.table(&["NODE", "REPLICAS", "SHOULD LEAD"], &rows)?;
    out.line("")?;
    let would = if dry_run { "would move" } else { "move, while everything is in use: see `millpond cluster status`" };
    out.line(format!("{} replica(s) and {} leader(s) {would}", plan.moves.len(), plan.leaders))
}
