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
