//! Replaying: all records from a position on, kept, so that checking them does not slow down the reading that is measured.

use super::{
    TOPIC,
    check::{Seen, number_of},
};
use anyhow::Result;
use bytes::Bytes;
use indicatif::ProgressBar;
use millpond_client::{Client, ConsumerRecord, Position};
use std::time::{Duration, Instant};

/// Records between two looks at the bar.
const STRIDE: usize = 4096;

/// What was read.
#[derive(Debug)]
pub(super) struct Read {
    records: Vec<(ConsumerRecord, Option<Bytes>)>,
    pub(super) bytes: u64,
    pub(super) took: Duration,
}

/// Reads to the end.
pub(super) async fn read(client: &Client, from: Position, bar: &ProgressBar) -> Result<Read> {
    let began = Instant::now();
    let mut replay = client.replay(TOPIC).from(from).records().await?;
    bar.set_length(replay.total());
    let mut records: Vec<ConsumerRecord> = Vec::with_capacity(replay.total() as usize);
    while let Some(record) = replay.next().await {
        records.push(record?);
        if records.len().is_multiple_of(STRIDE) {
            bar.set_position(records.len() as u64);
        }
    }
    let took = began.elapsed();
    let len = |bytes: Option<&Bytes>| bytes.map_or(0, Bytes::len) as u64;
    let bytes = records.iter().map(|record| len(record.key()) + len(record.value())).sum();
    let named = |record: ConsumerRecord| {
        let number = number_of(&record);
        (record, number)
    };
    Ok(Read { records: records.into_iter().map(named).collect(), bytes, took })
}

impl Read {
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// For the check.
    pub(super) fn seen(&self) -> impl Iterator<Item = Seen<'_>> {
        self.records.iter().map(|(record, number)| Seen {
            partition: record.partition,
            offset: record.offset(),
            time_ms: record.timestamp_ms(),
            key: record.key().map(|key| &**key),
            value: record.value().map(|value| &**value),
            number: number.as_deref(),
        })
    }
}
