//! Batches that are small and become huge when they are unpacked.

use crate::{
    honest::Honest,
    node::{MEMORY, Node, PATIENCE},
    wire::{Client, fill, packed},
};
use bytes::BytesMut;
use millpond_batch::Compression;
use millpond_wire::messages::{CreateTopic, Kind, ListOffset, ListOffsets, ListOffsetsReply, Setting, TopicReply};
use std::time::{Duration, Instant};

/// The codecs, and what comes out of each bomb, in bytes: twice the whole budget, but for snappy, which packs so badly that the frame
/// would be too large.
const BOMBS: [(Compression, usize); 4] =
    [(Compression::Zstd, 256 << 20), (Compression::Gzip, 256 << 20), (Compression::Lz4, 256 << 20), (Compression::Snappy, 60 << 20)];

fn setting(name: &str, value: &str) -> Setting {
    Setting { name: name.into(), value: value.into(), is_default: false }
}

/// Nobody but the reader unpacks what is produced, unless times are looked up or the topic is compacted.
#[test]
fn bombs_in_batches_do_not_go_off() {
    let node = Node::start();
    fill(&node, MEMORY.0 as usize);
    let mut honest = Honest::new(&node);
    let mut client = Client::connect(&node.address());
    let settings = |compact: bool| {
        let mut settings = vec![setting("retention.ms", "-1"), setting("max.message.bytes", "16777216")];
        if compact {
            settings.extend([setting("cleanup.policy", "compact"), setting("segment.bytes", "16777216"), setting("segment.ms", "1000")]);
            settings.push(setting("min.compaction.lag.ms", "0"));
        }
        settings
    };
    for (name, compact) in [("bombs", false), ("compacted", true)] {
        let create = CreateTopic { name: name.into(), partitions: 4, settings: settings(compact), ..CreateTopic::default() };
        let (_, _): (TopicReply, _) = client.get(Kind::CreateTopic, &create);
    }
    let bombs: Vec<BytesMut> = BOMBS.iter().map(|(codec, bytes)| packed(&vec![0; *bytes], *codec)).collect();
    for ((codec, bytes), bomb) in BOMBS.iter().zip(&bombs) {
        println!("{codec}: {} bytes for {bytes}", bomb.len());
    }
    for (number, bomb) in bombs.iter().enumerate() {
        for (topic, partition) in [("bombs", number as u32), ("compacted", 0), ("compacted", 1)] {
            let reply = client.produce(topic, partition, std::slice::from_ref(bomb));
            assert!(reply.results[0].failure.is_none(), "{reply:?}");
        }
    }
    // Looking for a time reads records.
    let began = Instant::now();
    for _ in 0..5 {
        let at =
            |partition| ListOffset { topic: "bombs".into(), partition, time_ms: 1_600_000_000_000, committed: false, leader_epoch: None };
        let (reply, _): (ListOffsetsReply, _) = client.get(Kind::ListOffsets, &ListOffsets { partitions: (0..4).map(at).collect() });
        assert!(reply.results.iter().all(|r| r.failure.is_none() && r.offset == 0), "{reply:?}");
        honest.round(&node);
    }
    assert!(began.elapsed() < PATIENCE);
    // And so does compaction, once there is something to compact.
    let small: Vec<BytesMut> = (0..8).map(|_| packed(&[1; 200_000], Compression::None)).collect();
    for partition in 0..2 {
        for _ in 0..2 {
            let reply = client.produce("compacted", partition, &small);
            assert!(reply.results.iter().all(|r| r.failure.is_none()), "{reply:?}");
        }
    }
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        honest.round(&node);
    }
    node.check_memory();
}
