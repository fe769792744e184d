//! What the nodes of a cluster say of it, over bare frames.

use crate::system::native::conn::Conn;
use anyhow::{Context, Result, bail};
use millpond_wire::messages::{DescribeCluster, DescribeClusterReply, Kind, Metadata, MetadataReply, TopicPartitions};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// Replicas that a partition has by default, if there are so many nodes.
const REPLICAS: usize = 3;
/// A node that is asked how it is answers within this time, even if it has to wait for others.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is asked.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Waits until each node says that all nodes are up, that someone leads every partition, and that no replica is missing or behind.
pub(crate) async fn whole(addresses: &[String], within: Duration) -> Result<()> {
    let until = Instant::now() + within;
    loop {
        let mut missing = Vec::new();
        for address in addresses {
            match timeout(ANSWER_TIMEOUT, missing_at(address, addresses.len())).await {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(what))) => missing.push(format!("{address}: {what}")),
                Ok(Err(error)) => missing.push(format!("{address}: {error:#}")),
                Err(_) => missing.push(format!("{address}: no answer within {ANSWER_TIMEOUT:?}")),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        if Instant::now() > until {
            bail!("the cluster is not whole after {within:?}:\n  {}", missing.join("\n  "));
        }
        sleep(ASK_EVERY).await;
    }
}

/// What a node says is missing of a cluster of so many.
pub(crate) async fn missing_at(address: &str, nodes: usize) -> Result<Option<String>> {
    let mut conn = Conn::open(address).await?;
    let cluster: DescribeClusterReply = conn.ask(Kind::DescribeCluster, &DescribeCluster {}).await?;
    let metadata = metadata(&mut conn).await?;
    Ok(missing(&cluster, &metadata, nodes))
}

/// Where all topics live, those that the system keeps for itself too.
pub(crate) async fn metadata(conn: &mut Conn) -> Result<MetadataReply> {
    conn.ask(Kind::Metadata, &Metadata { topics: Vec::new(), internal: true, rack: String::new() })
        .await
        .context("asking where topics live")
}

fn missing(cluster: &DescribeClusterReply, metadata: &MetadataReply, nodes: usize) -> Option<String> {
    let up = cluster.nodes.iter().filter(|node| node.up).count();
    let named = |which: &[TopicPartitions]| which.iter().map(|t| format!("{} {:?}", t.topic, t.partitions)).collect::<Vec<_>>().join(", ");
    if up < nodes {
        return Some(format!("{up} of {nodes} nodes are up"));
    }
    if cluster.meta_leader == 0 {
        return Some("nobody leads the meta group".into());
    }
    if !cluster.leaderless.is_empty() {
        return Some(format!("nobody leads {}", named(&cluster.leaderless)));
    }
    if !cluster.under_replicated.is_empty() {
        return Some(format!("replicas are missing or behind: {}", named(&cluster.under_replicated)));
    }
    if nodes == 1 {
        return None;
    }
    // A cluster that has just grown: what was there before is to have more replicas, which it is not behind with yet.
    let few = metadata.topics.iter().find(|topic| topic.partitions.iter().any(|p| p.replicas.len() < nodes.min(REPLICAS)));
    few.map(|topic| format!("{} has not got all its replicas", topic.name))
}

#[cfg(test)]
mod tests;
