//! The check after a crash: everything that the server holds is read and held against the ledger.

use super::{
    ledger::{Id, Read},
    work::Shared,
};
use anyhow::{Context, Result};
use millpond_client::{Client, OffsetSpec};
use std::collections::BTreeMap;

/// Reads all and checks it. What is wrong is in the ledger afterwards; an error means that it could not be read.
pub(crate) async fn audit(client: &Client, shared: &Shared) -> Result<()> {
    let listed = client.admin().list_topics(false).await.context("listing topics")?;
    let names: Vec<String> = listed.iter().map(|topic| topic.name.clone()).collect();
    shared.ledger().check_topics(&names);
    let due = shared.ledger().topics();
    for topic in listed.iter().filter(|topic| due.contains(&topic.name)) {
        audit_topic(client, shared, &topic.name, topic.partitions.len() as u32).await.with_context(|| format!("reading {}", topic.name))?;
    }
    let groups = shared.ledger().groups();
    for group in groups {
        let positions = client.admin().positions(&group).await.with_context(|| format!("asking for positions of {group}"))?;
        let mut ledger = shared.ledger();
        let found: BTreeMap<String, u64> =
            positions.into_iter().map(|((topic, partition), offset)| (ledger.label(&topic, partition), offset)).collect();
        ledger.check_positions(&group, &found);
    }
    Ok(())
}

async fn audit_topic(client: &Client, shared: &Shared, topic: &str, partitions: u32) -> Result<()> {
    let all = |spec| (0..partitions).map(|partition| (partition, spec)).collect::<Vec<_>>();
    let starts = client.admin().list_offsets(topic, &all(OffsetSpec::Earliest)).await?;
    let ends = client.admin().list_offsets(topic, &all(OffsetSpec::Latest)).await?;
    let mut reads: Vec<Vec<(u64, Id)>> = vec![Vec::new(); partitions as usize];
    let labels: Vec<String> = (0..partitions).map(|partition| shared.ledger().label(topic, partition)).collect();
    let mut replay = client.replay(topic).records().await?;
    while let Some(record) = replay.next().await {
        let record = record?;
        let (key, value) = (record.key().map(|key| &**key), record.value().map(|value| &**value));
        let read = Read { offset: record.offset(), time_ms: record.timestamp_ms(), key, value };
        let id = shared.ledger().seen(&labels[record.partition as usize], &read);
        reads[record.partition as usize].extend(id.map(|id| (read.offset, id)));
    }
    let bounds = starts.iter().zip(&ends).map(|(start, end)| (start.offset, end.offset));
    for ((label, bounds), reads) in labels.iter().zip(bounds).zip(&reads) {
        shared.ledger().check_lane(label, bounds, reads);
    }
    Ok(())
}
