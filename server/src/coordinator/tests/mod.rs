use super::*;
use millpond_wire::messages::{Code, DeleteGroup, DescribeGroup};

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
