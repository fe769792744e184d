//! Whether all replicas hold the same: each node is asked for what it has of each partition, and batch is held against batch.
//!
//! A replica that does not lead answers when it is asked as *any* replica, up to where it knows that records are committed. A moment after the
//! last record that is everything; so replicas are given a while to come to the same end, and differ if they do not.

use crate::{
    cluster::health::metadata,
    system::native::conn::{Conn, answer, describe},
};
use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use millpond_batch::Header;
use millpond_wire::{
    frame::{Flags, encode},
    messages::{Fetch, FetchPartition, FetchReply, Kind},
};
use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};
use tokio::time::{sleep, timeout};

/// Replicas that lag are given so long to catch up.
const CATCH_UP: Duration = Duration::from_secs(20);
/// Bytes asked for at a time.
const FETCH_BYTES: u32 = 4 << 20;
/// One answer takes no longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Differences that are listed.
const LISTED_MAX: usize = 8;

/// What a comparison has covered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Compared {
    pub(crate) partitions: u64,
    pub(crate) replicas: u64,
    pub(crate) batches: u64,
    pub(crate) bytes: u64,
}

/// What a replica holds of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Held {
    start: u64,
    end: u64,
    /// By first offset: the last one, and a hash of all bytes.
    batches: BTreeMap<u64, (u64, u64)>,
    bytes: u64,
}

/// One partition, and at which addresses each of its replicas may answer: any core of the node.
struct Partition {
    topic: String,
    number: u32,
    replicas: Vec<(u64, Vec<String>)>,
}

/// Compares all replicas of all partitions of a cluster that nobody writes to.
pub(crate) async fn compare(address: &str) -> Result<Compared> {
    let mut compared = Compared::default();
    let mut conns = BTreeMap::new();
    for partition in partitions(address).await? {
        let (topic, number) = (&partition.topic, partition.number);
        let held = same(&partition, &mut conns).await.with_context(|| format!("comparing the replicas of {topic}-{number}"))?;
        compared.partitions += 1;
        compared.replicas += partition.replicas.len() as u64;
        compared.batches += held.batches.len() as u64;
        compared.bytes += held.bytes;
    }
    Ok(compared)
}

async fn partitions(address: &str) -> Result<Vec<Partition>> {
    let reply = metadata(&mut Conn::open(address).await?).await?;
    let mut nodes: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for endpoint in &reply.endpoints {
        nodes.entry(endpoint.node_id).or_default().push(format!("{}:{}", endpoint.host, endpoint.port));
    }
    let mut out = Vec::new();
    for topic in reply.topics {
        for partition in topic.partitions {
            let at = |node: u64| nodes.get(&node).cloned().with_context(|| format!("metadata does not say where node {node} is"));
            let replicas = partition.replicas.iter().map(|r| Ok((r.node_id, at(r.node_id)?))).collect::<Result<Vec<_>>>()?;
            out.push(Partition { topic: topic.name.clone(), number: partition.partition, replicas });
        }
    }
    Ok(out)
}

/// Reads all replicas until they are the same, and says what they hold; or how they differ once they have had their time.
async fn same(partition: &Partition, conns: &mut BTreeMap<String, Conn>) -> Result<Held> {
    let until = Instant::now() + CATCH_UP;
    loop {
        let mut all = Vec::new();
        for (node, addresses) in &partition.replicas {
            all.push((*node, hold(partition, addresses, conns).await.with_context(|| format!("asking node {node}"))?));
        }
        let Some(((node, first), others)) = all.split_first() else { return Ok(Held::default()) };
        let differences: Vec<String> = others.iter().flat_map(|(other, held)| differ((*node, first), (*other, held))).collect();
        if differences.is_empty() {
            return Ok(first.clone());
        }
        // What is committed does not change: two replicas that disagree about an offset will not agree later.
        let lags = all.iter().any(|(_, held)| (held.start, held.end) != (first.start, first.end));
        if !lags || Instant::now() > until {
            bail!("replicas differ:\n  {}", differences.into_iter().take(LISTED_MAX).collect::<Vec<_>>().join("\n  "));
        }
        sleep(Duration::from_millis(200)).await;
    }
}

fn differ((a, held_a): (u64, &Held), (b, held_b): (u64, &Held)) -> Vec<String> {
    let mut out = Vec::new();
    if (held_a.start, held_a.end) != (held_b.start, held_b.end) {
        out.push(format!("node {a} has {}..{}, node {b} has {}..{}", held_a.start, held_a.end, held_b.start, held_b.end));
    }
    let starts = held_a.batches.keys().chain(held_b.batches.keys());
    let (from, to) = (held_a.start.max(held_b.start), held_a.end.min(held_b.end));
    let mut offsets: Vec<u64> = starts.copied().filter(|offset| (from..to).contains(offset)).collect();
    offsets.sort_unstable();
    offsets.dedup();
    for offset in offsets {
        let (in_a, in_b) = (held_a.batches.get(&offset), held_b.batches.get(&offset));
        if in_a != in_b {
            let show = |held: Option<&(u64, u64)>| held.map_or("none".into(), |(last, hash)| format!("..={last} {hash:016x}"));
            out.push(format!("batch at {offset}: node {a} has {}, node {b} has {}", show(in_a), show(in_b)));
        }
    }
    out
}

/// Everything that a node has of a partition.
async fn hold(partition: &Partition, addresses: &[String], conns: &mut BTreeMap<String, Conn>) -> Result<Held> {
    let mut refused = Vec::new();
    for address in addresses {
        let mut conn = match conns.remove(address) {
            Some(conn) => conn,
            None => Conn::open(address).await?,
        };
        match timeout(ANSWER_TIMEOUT * 3, read(partition, &mut conn)).await {
            Err(_) => bail!("{address} does not answer"),
            Ok(Err(error)) => refused.push(format!("{address}: {error:#}")),
            Ok(Ok(held)) => {
                conns.insert(address.clone(), conn);
                return Ok(held);
            }
        }
    }
    bail!("none of its cores answers as a replica: {}", refused.join("; "))
}

async fn read(partition: &Partition, conn: &mut Conn) -> Result<Held> {
    let mut held = Held::default();
    let mut next = 0;
    loop {
        let (found, batches) = fetch(partition, next, conn).await?;
        // Its beginning may have been trimmed, at any time.
        if next < found.start_offset {
            next = found.start_offset;
            held = Held::default();
            continue;
        }
        (held.start, held.end) = (found.start_offset, found.end_offset);
        held.take(&batches)?;
        if found.next_offset <= next {
            ensure!(next == held.end, "reading ended at {next}, before the end at {}", held.end);
            return Ok(held);
        }
        next = found.next_offset;
    }
}

impl Held {
    fn take(&mut self, mut batches: &[u8]) -> Result<()> {
        while !batches.is_empty() {
            let header = Header::parse(batches).context("a batch that it sent")?;
            let batch = batches.split_off(..header.batch_len).context("a batch that it sent is cut")?;
            let mut hasher = DefaultHasher::new();
            batch.hash(&mut hasher);
            let last = header.base_offset + u64::from(header.last_offset_delta);
            self.bytes += batch.len() as u64;
            self.batches.insert(header.base_offset, (last, hasher.finish()));
        }
        Ok(())
    }
}

async fn fetch(partition: &Partition, offset: u64, conn: &mut Conn) -> Result<(millpond_wire::messages::FetchedPartition, Bytes)> {
    let wanted = FetchPartition {
        topic: partition.topic.clone(),
        partition: partition.number,
        offset,
        bytes_max: FETCH_BYTES,
        ..FetchPartition::default()
    };
    let fetch = Fetch { partitions: vec![wanted], bytes_max: FETCH_BYTES, any_replica: true, ..Fetch::default() };
    conn.send(&encode(Kind::Fetch, Flags::REQUEST, 1, &fetch, 0), &[])?;
    let frame = timeout(ANSWER_TIMEOUT, conn.frame()).await.context("no answer")??;
    let reply: FetchReply = answer(&frame)?;
    let [found] = <[_; 1]>::try_from(reply.partitions).map_err(|all| anyhow::anyhow!("{} answers for one partition", all.len()))?;
    match &found.failure {
        // It says where its log begins.
        Some(failure) if found.start_offset > offset => tracing::debug!(message = failure.message, "the beginning is gone"),
        Some(failure) => bail!("{}", describe(failure)),
        None => {}
    }
    let payload = frame.payload.freeze();
    ensure!(payload.len() >= found.len as usize, "it sent less than it said");
    Ok((found.clone(), payload.slice(..found.len as usize)))
}

#[cfg(test)]
mod tests;
