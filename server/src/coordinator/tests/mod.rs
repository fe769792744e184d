use super::*;
use millpond_wire::messages::{
    Code, CommitOffsets, DeleteGroup, DescribeGroup, FetchOffsets, GroupHeartbeat, GroupHeartbeatReply, Position,
};

mod assigning;
mod chaos;
mod examples;

fn topics(list: &[(&str, u32)]) -> BTreeMap<Arc<str>, TopicView> {
    list.iter().enumerate().map(|(i, (name, n))| (Arc::from(*name), TopicView { topic_id: i as u64 + 10, partitions: *n })).collect()
}

fn flat(wire: &[TopicPartitions]) -> BTreeSet<(String, u32)> {
    wire.iter().flat_map(|t| t.partitions.iter().map(|p| (t.topic.clone(), *p))).collect()
}

fn unflat(parts: &BTreeSet<(String, u32)>) -> Vec<TopicPartitions> {
    parts.iter().map(|(topic, p)| TopicPartitions { topic: topic.clone(), partitions: vec![*p] }).collect()
}

/// Another node looks after what was written.
pub(super) fn read_back(log: &[Record]) -> Coordinator {
    let mut coordinator = Coordinator::new();
    put(&mut coordinator, log);
    coordinator
}

/// What has changed is written, and read.
pub(super) fn keep(coordinator: &mut Coordinator, log: &mut Vec<Record>) {
    let mut written = Vec::new();
    let kept = coordinator.write_changed(|records| {
        written.extend(records);
        Ok::<(), ()>(())
    });
    kept.expect("it has room");
    put(coordinator, &written);
    log.extend(written);
}

/// Records that are written are read.
pub(super) fn put(coordinator: &mut Coordinator, written: &[Record]) {
    for record in written {
        coordinator.apply(&record.key, record.value.as_deref()).expect("it was written so");
    }
}

/// Numbers from a seed: xorshift.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    pub(super) fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }
}
