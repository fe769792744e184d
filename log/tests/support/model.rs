//! What the log has promised so far, as plain vectors.

use bytes::{Bytes, BytesMut};
use millpond_batch::{Builder, Compression, Header, Producer};
use millpond_log::{GroupConfig, LogError};
use millpond_runtime::{GroupId, Offset};
use std::collections::{BTreeMap, BTreeSet};

/// One batch as it lies in the log, or should.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) base: u64,
    pub(crate) count: u64,
    pub(crate) bytes: Bytes,
    pub(crate) producer: i64,
    pub(crate) sequence: i32,
}

/// A producer that writes to one group.
#[derive(Clone, Debug)]
pub(crate) struct ProducerModel {
    pub(crate) id: i64,
    pub(crate) next_sequence: i32,
    /// Unstamped batches that were not acked when the node died: to be sent again, in order.
    pub(crate) retry: Vec<(i32, BytesMut)>,
}

/// How a drop has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drop {
    No,
    Asked,
    Acked,
}

/// One group.
#[derive(Clone, Debug)]
pub(crate) struct GroupModel {
    pub(crate) config: GroupConfig,
    pub(crate) create_acked: bool,
    pub(crate) drop: Drop,
    /// Everything that was appended and may still be there, in order of offsets.
    pub(crate) batches: Vec<Sent>,
    /// Offset after the last batch whose sync was confirmed.
    pub(crate) acked_end: u64,
    pub(crate) trim_asked: u64,
    pub(crate) trim_acked: u64,
    pub(crate) producers: Vec<ProducerModel>,
}

impl GroupModel {
    pub(crate) fn new(config: GroupConfig, producers: Vec<ProducerModel>) -> Self {
        Self { config, create_acked: false, drop: Drop::No, batches: Vec::new(), acked_end: 0, trim_asked: 0, trim_acked: 0, producers }
    }

    pub(crate) fn end(&self) -> u64 {
        self.batches.last().map_or(0, |b| b.base + b.count)
    }

    /// Whether retention may move the start by itself.
    pub(crate) fn has_retention(&self) -> bool {
        self.config.delete && (self.config.retention_ms.is_some() || self.config.retention_bytes.is_some())
    }

    pub(crate) fn batch_at(&self, offset: u64) -> Option<&Sent> {
        let n = self.batches.partition_point(|b| b.base + b.count <= offset);
        self.batches.get(n).filter(|b| b.base <= offset)
    }

    /// The node has died and come back, and the log ends at `end`: what is beyond it was never acked and is gone.
    pub(crate) fn survived(&mut self, end: u64) {
        for producer in &mut self.producers {
            let unacked = self.batches.iter().filter(|b| b.producer == producer.id && b.base + b.count > self.acked_end);
            let again: Vec<(i32, BytesMut)> = unacked.map(|b| (b.sequence, BytesMut::from(&b.bytes[..]))).collect();
            let held: BTreeSet<i32> = again.iter().map(|(s, _)| *s).collect();
            let older: Vec<_> = producer.retry.drain(..).filter(|(s, _)| !held.contains(s)).collect();
            producer.retry = again;
            producer.retry.extend(older);
            producer.retry.sort_by_key(|(s, _)| *s);
        }
        self.batches.retain(|b| b.base < end);
        self.acked_end = end;
    }
}

/// Everything.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) groups: BTreeMap<GroupId, GroupModel>,
    pub(crate) next_group: u64,
    pub(crate) next_producer: i64,
    /// What has happened, for the table at the end.
    pub(crate) seen: BTreeMap<&'static str, u64>,
    /// The first broken promise. Later ones may be its consequences.
    pub(crate) broken: Option<String>,
    /// A file that was damaged on purpose: errors that name it are right.
    pub(crate) damaged: Option<std::path::PathBuf>,
}

impl Model {
    pub(crate) fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    pub(crate) fn broke(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    /// Whether an error is what damage on purpose must lead to.
    pub(crate) fn expected(&self, error: &LogError) -> bool {
        match error {
            LogError::Corrupt { file, .. } => self.damaged.as_ref() == Some(file),
            LogError::Stopped { .. } => true,
            _ => false,
        }
    }
}

/// A batch of `count` records with keys out of a few, so that compaction has something to do.
pub(crate) fn make_batch(random: &mut impl FnMut() -> u64, producer: i64, sequence: i32, now_ms: i64) -> BytesMut {
    let count = 1 + random() % 4;
    let len = match random() % 16 {
        0 => 4000 + random() % 12_000,
        1..=4 => 600 + random() % 1500,
        _ => random() % 300,
    };
    let mut builder = Builder::new(Compression::None, 256);
    for i in 0..count {
        let key = format!("k{}", random() % 6);
        let mut value = format!("{producer}/{sequence}+{i}:").into_bytes();
        let seed = random();
        value.extend((0..len / count).map(|n| (seed >> (n % 56)) as u8 ^ n as u8));
        let tombstone = random().is_multiple_of(12);
        let headers: [(&[u8], Option<&[u8]>); 0] = [];
        builder.append(now_ms + i as i64, Some(key.as_bytes()), (!tombstone).then_some(value.as_slice()), &headers);
    }
    let producer = Producer { id: producer, epoch: 0, base_sequence: sequence };
    builder.build(Some(producer)).expect("no codec, so none can fail")
}

/// The bytes as the log must give them back.
pub(crate) fn stamped(batch: &[u8], base: u64) -> Bytes {
    let mut bytes = BytesMut::from(batch);
    millpond_batch::stamp(&mut bytes, base, millpond_log::group::TERM.0 as i32);
    bytes.freeze()
}

pub(crate) fn header(batch: &[u8]) -> Header {
    millpond_batch::check(batch).expect("the test's own batch")
}

pub(crate) fn offset(n: u64) -> Offset {
    Offset(n)
}
