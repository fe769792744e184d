//! Clients that ask for much and take little.

use crate::{
    honest::Honest,
    node::{MEMORY, Node},
    wire::{Client, Crowd, fill, frame},
};
use bytes::Bytes;
use millpond_wire::messages::{Fetch, FetchPartition, Kind, Metadata};
use std::time::{Duration, Instant};

const PUSH: Duration = Duration::from_secs(10);

/// As much as it may ask for at once.
fn fetch(n: usize) -> Bytes {
    let at = FetchPartition {
        topic: "full".into(),
        partition: (n / 2 % 2) as u32,
        offset: (n as u64 * 7) % 1_000,
        bytes_max: 0,
        ..FetchPartition::default()
    };
    frame(Kind::Fetch, &Fetch { partitions: vec![at], bytes_max: 8 << 20, wait_ms_max: 0, ..Fetch::default() }, &[])
}

/// More than memory holds, so that most of it is read from the disk.
const STORED: usize = 2 * MEMORY.0 as usize;

#[test]
fn a_client_that_never_reads() {
    let node = Node::start();
    fill(&node, STORED);
    let mut honest = Honest::new(&node);
    let mut crowd = Crowd::connect(&node, 200);
    crowd.give(|n| Bytes::from(fetch(n).repeat(1_000)));
    crowd.push(PUSH);
    honest.round(&node);
    node.check_memory();
}

/// They take a little again and again, so that none of them is ever stalled.
#[test]
fn slow_consumers() {
    let node = Node::start();
    fill(&node, STORED);
    let mut honest = Honest::new(&node);
    let mut crowd = Crowd::connect(&node, 100);
    crowd.give(|n| Bytes::from(fetch(n).repeat(100)));
    let until = Instant::now() + Duration::from_secs(8);
    let mut rounds = 0;
    let mut taken = 0;
    while Instant::now() < until {
        crowd.push(Duration::from_millis(10));
        taken += crowd.sip(16 << 10);
        rounds += 1;
        if rounds % 20 == 0 {
            honest.round(&node);
        }
    }
    println!("{taken} bytes were taken in {rounds} rounds");
    assert!(taken > 0);
    assert!(crowd.alive() > 0, "those who take something are not closed");
    node.check_memory();
}

/// One that is merely slower than the rest gets everything in the end, and in order.
#[test]
fn a_steady_slow_consumer_gets_all() {
    let node = Node::start();
    fill(&node, MEMORY.0 as usize / 2);
    let mut honest = Honest::new(&node);
    let mut crowd = Crowd::connect(&node, 100);
    crowd.give(|n| Bytes::from(fetch(n).repeat(1_000)));
    crowd.push(PUSH);
    let mut client = Client::connect(&node.core(0));
    let mut next = 0;
    let end = loop {
        let at = FetchPartition { topic: "full".into(), partition: 0, offset: next, bytes_max: 0, ..FetchPartition::default() };
        let (reply, payload): (millpond_wire::messages::FetchReply, _) =
            client.get(Kind::Fetch, &Fetch { partitions: vec![at], bytes_max: 1 << 20, wait_ms_max: 0, ..Fetch::default() });
        assert!(reply.partitions[0].failure.is_none(), "{reply:?}");
        for batch in millpond_batch::split(&payload) {
            let (header, _) = batch.expect("whole batches");
            assert_eq!(header.base_offset, next, "in order, without a gap");
            next = header.next_offset();
        }
        if next == reply.partitions[0].end_offset {
            break next;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    println!("{end} records, beside a hundred that do not read");
    honest.round(&node);
    node.check_memory();
}

/// Answers that are no fetches are bounded too.
#[test]
fn metadata_of_everything_for_nobody() {
    let node = Node::start();
    fill(&node, MEMORY.0 as usize);
    let mut client = Client::connect(&node.address());
    for topic in 0..20 {
        client.create(&format!("wide-{topic}"), 500);
    }
    let mut honest = Honest::new(&node);
    let one = frame(Kind::Metadata, &Metadata { topics: Vec::new(), internal: true, rack: String::new() }, &[]);
    let many = Bytes::from(one.repeat(2_000));
    let mut crowd = Crowd::connect(&node, 400);
    crowd.give(|_| many.clone());
    crowd.push(PUSH);
    honest.round(&node);
    node.check_memory();
}
