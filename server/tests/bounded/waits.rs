//! Requests that wait, by the thousand, and requests of a great many parts.

use crate::{
    honest::Honest,
    node::{MEMORY, Node},
    wire::{Client, Crowd, fill, frame},
};
use bytes::Bytes;
use millpond_wire::messages::{
    Code, CommitOffsets, Fetch, FetchOffsets, FetchPartition, GroupHeartbeat, Kind, ListGroups, ListOffset, ListOffsets, Metadata,
    Position, Produce, ProduceBatch, TopicPartitions,
};
use prost::Message;
use std::time::Duration;

const PUSH: Duration = Duration::from_secs(10);

/// Waits for records in so many partitions that get none.
fn long_poll(partitions: u32) -> Bytes {
    let at = |partition| FetchPartition { topic: "quiet".into(), partition, offset: 0, bytes_max: 0, ..FetchPartition::default() };
    let fetch = Fetch { partitions: (0..partitions).map(at).collect(), wait_ms_max: 60_000, ..Fetch::default() };
    frame(Kind::Fetch, &fetch, &[])
}

#[test]
fn long_polls_by_the_thousand() {
    let node = Node::start();
    fill(&node, MEMORY.0 as usize);
    let mut honest = Honest::new(&node);
    Client::connect(&node.address()).create("quiet", 2_000);
    let (narrow, wide) = (Bytes::from(long_poll(10).repeat(5_000)), Bytes::from(long_poll(2_000).repeat(100)));
    let mut crowd = Crowd::connect(&node, 500);
    crowd.give(|n| if n % 2 == 0 { narrow.clone() } else { wide.clone() });
    crowd.push(PUSH);
    honest.round(&node);
    node.check_memory();
}

#[test]
fn group_calls_by_the_thousand() {
    let node = Node::start();
    fill(&node, MEMORY.0 as usize);
    let mut honest = Honest::new(&node);
    Client::connect(&node.address()).create("grouped", 100);
    let calls = |n: usize| {
        let mut bytes = Vec::new();
        for turn in 0..200 {
            let (group, member_id) = (format!("group-{}", n % 50), format!("member-{n}-{turn}"));
            let topics: Vec<String> = (0..900).map(|t| format!("a-topic-of-some-length-{t}")).collect();
            let join =
                GroupHeartbeat { group: group.clone(), member_id, topics, session_timeout_ms: 1_800_000, ..GroupHeartbeat::default() };
            bytes.extend_from_slice(&frame(Kind::GroupHeartbeat, &join, &[]));
            let at =
                |p: u32| Position { topic: "grouped".into(), partition: p % 100, offset: 5, metadata: "m".repeat(200), leader_epoch: None };
            let commit = CommitOffsets { group: format!("alone-{n}"), positions: (0..900).map(at).collect(), ..CommitOffsets::default() };
            bytes.extend_from_slice(&frame(Kind::CommitOffsets, &commit, &[]));
            let all = FetchOffsets { group: format!("alone-{n}"), partitions: Vec::new() };
            bytes.extend_from_slice(&frame(Kind::FetchOffsets, &all, &[]));
            bytes.extend_from_slice(&frame(Kind::ListGroups, &ListGroups {}, &[]));
        }
        Bytes::from(bytes)
    };
    let scripts: Vec<Bytes> = (0..20).map(calls).collect();
    let mut crowd = Crowd::connect(&node, 300);
    crowd.give(|n| scripts[n % scripts.len()].clone());
    crowd.push(PUSH);
    honest.round(&node);
    node.check_memory();
}

/// A message that is half a million parts of nothing.
#[test]
fn a_message_of_millions_of_parts_is_refused() {
    const PARTS: usize = 500_000;
    let node = Node::start();
    fill(&node, MEMORY.0 as usize);
    let mut honest = Honest::new(&node);
    let list = |message: &dyn Fn() -> Bytes| message();
    let messages: Vec<(Kind, Bytes)> = vec![
        (Kind::Fetch, list(&|| bare(&Fetch { partitions: vec![FetchPartition::default(); PARTS], ..Fetch::default() }))),
        (Kind::ListOffsets, list(&|| bare(&ListOffsets { partitions: vec![ListOffset::default(); PARTS] }))),
        (Kind::Metadata, list(&|| bare(&Metadata { topics: vec![String::new(); PARTS], internal: false, rack: String::new() }))),
        (Kind::Produce, list(&|| bare(&Produce { batches: vec![ProduceBatch::default(); PARTS], acks: 0 }))),
        (Kind::CommitOffsets, list(&|| bare(&CommitOffsets { positions: vec![Position::default(); PARTS], ..CommitOffsets::default() }))),
        (Kind::FetchOffsets, {
            let partitions = vec![TopicPartitions::default(); PARTS];
            bare(&FetchOffsets { group: "g".into(), partitions })
        }),
        (Kind::GroupHeartbeat, {
            let (topics, owned) = (vec![String::new(); PARTS / 4], vec![TopicPartitions::default(); PARTS / 4]);
            bare(&GroupHeartbeat { group: "g".into(), member_id: "m".into(), topics, owned, ..GroupHeartbeat::default() })
        }),
    ];
    for (kind, message) in &messages {
        let mut client = Client::connect(&node.address());
        client.write(&whole(*kind, message));
        let failure = client.answer().failure();
        assert!(matches!(failure.code(), Code::TooLarge | Code::InvalidArgument), "{kind:?}: {failure:?}");
        assert!(!failure.advice.is_empty(), "{kind:?}: {failure:?}");
    }
    let mut crowd = Crowd::connect(&node, 200);
    crowd.give(|n| {
        let (kind, message) = &messages[n % messages.len()];
        whole(*kind, message)
    });
    crowd.push(PUSH);
    honest.round(&node);
    node.check_memory();
}

fn bare(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

fn whole(kind: Kind, message: &Bytes) -> Bytes {
    let mut bytes = Vec::with_capacity(20 + message.len());
    bytes.extend_from_slice(&(16 + message.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&(kind as u16).to_le_bytes());
    bytes.extend_from_slice(&[0; 10]);
    bytes.extend_from_slice(&(message.len() as u32).to_le_bytes());
    bytes.extend_from_slice(message);
    bytes.into()
}
