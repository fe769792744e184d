//! Bytes that are no good frames: halves, monsters, other protocols, crumbs.

use crate::{
    honest::Honest,
    node::{MEMORY, Node, eventually},
    wire::{Answer, Client, Crowd, batch, fill, frame, hello, produce},
};
use bytes::{BufMut, Bytes, BytesMut};
use millpond_wire::{
    VERSION,
    frame::{Flags, encode},
    messages::{Code, DisownTransaction, EndTransaction, EndTransactionReply, Hello, Kind, Metadata, Ping, TopicPartitions, Welcome},
};
use std::time::Duration;

const PUSH: Duration = Duration::from_secs(10);

/// A frame's first bytes: what it claims to be, and what of it comes.
fn beginning(claimed: u32, comes: usize) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u32_le(claimed);
    bytes.put_u16_le(Kind::Produce as u16);
    bytes.put_u16_le(0);
    bytes.put_u64_le(1);
    bytes.put_u32_le(0);
    bytes.put_bytes(0x55, comes.saturating_sub(bytes.len()));
    bytes.freeze()
}

/// The longest frame that the server takes, as it says itself.
fn frame_bytes_max(node: &Node) -> u32 {
    let hello = Hello { version_min: VERSION, version_max: VERSION, ..Hello::default() };
    let (welcome, _): (Welcome, _) = Client::silent(&node.address()).get(Kind::Hello, &hello);
    assert!(welcome.frame_bytes_max >= 4 << 20, "the largest batches of the default find room");
    welcome.frame_bytes_max
}

/// Whoever says that it is a node has transactions ended, but not in what the system keeps for itself: a marker there would be read back by nobody.
#[test]
fn nobody_ends_transactions_in_what_the_system_keeps() {
    let mut node = Node::start();
    let ours: Vec<TopicPartitions> =
        ["__consumer_offsets", "__meta"].map(|topic| TopicPartitions { topic: topic.into(), partitions: vec![0] }).into();
    let end = EndTransaction { producer_id: 1, number: 1, commit: true, partitions: ours.clone(), ..EndTransaction::default() };
    let refused = Client::connect(&node.address()).ask(Kind::EndTransaction, &end).failure();
    assert_eq!(refused.code(), Code::BadRequest, "a client: {refused:?}");
    let refused = Client::connect(&node.address()).ask(Kind::DisownTransaction, &DisownTransaction::default()).failure();
    assert_eq!(refused.code(), Code::BadRequest, "a client: {refused:?}");
    for core in 0..2 {
        let mut client = Client::silent(&node.core(core));
        let hello = Hello { version_min: VERSION, version_max: VERSION, from_node: 7, ..Hello::default() };
        let (_, _): (Welcome, _) = client.get(Kind::Hello, &hello);
        let (left, _): (EndTransactionReply, _) = client.get(Kind::EndTransaction, &end);
        assert_eq!(left.partitions, ours);
    }
    node.kill();
    node.serve();
    Client::connect(&node.address()).create("after", 2);
}

/// Halves of large frames, of small ones, and of heads, on a thousand connections at a time, which then fall silent.
#[test]
fn half_frames_and_silence() {
    let node = Node::start();
    fill(&node, MEMORY.0 as usize);
    let mut honest = Honest::new(&node);
    let mut heads = Crowd::connect(&node, 300);
    heads.give(|_| beginning(100_000, 7));
    heads.push(PUSH);
    let mut small = Crowd::connect(&node, 800);
    small.give(|_| beginning(30_000, 15_000));
    small.push(PUSH);
    honest.round(&node);
    let mut large = Crowd::connect(&node, 300);
    large.give(|_| beginning(2 << 20, 1 << 20));
    large.push(PUSH);
    honest.round(&node);
    let mut huge = Crowd::connect(&node, 50);
    let limit = frame_bytes_max(&node);
    huge.give(|_| beginning(limit, limit as usize - 1_000));
    huge.push(PUSH);
    honest.round(&node);
    node.check_memory();
}

#[test]
fn a_frame_of_two_gibibytes_is_refused_by_its_length() {
    let node = Node::start();
    let mut honest = Honest::new(&node);
    let limit = frame_bytes_max(&node);
    for claimed in [1_u32 << 31, u32::MAX, limit + 1] {
        let mut client = Client::connect(&node.address());
        client.write(&beginning(claimed, 1_000));
        let failure = client.answer().failure();
        assert_eq!(failure.code(), Code::TooLarge);
        assert!(failure.message.contains(&claimed.to_string()) && failure.message.contains(&limit.to_string()), "{failure:?}");
        assert!(!failure.advice.is_empty());
        assert!(matches!(client.answer(), Answer::Closed));
    }
    // The largest that are taken claim their memory by their bytes, not by their heads.
    let before = node.resident();
    let mut claims = Crowd::connect(&node, 500);
    claims.give(|_| beginning(limit, 100));
    claims.push(PUSH);
    honest.round(&node);
    println!("500 claims of {limit} bytes: {before} before, {} now", node.resident());
    node.check_memory();
}

#[test]
fn what_is_no_frame_is_refused() {
    let node = Node::start();
    let mut honest = Honest::new(&node);
    let http = b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: somebody\r\n\r\n".to_vec();
    let tls = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[0x5a; 500]].concat();
    let kafka = [&[0, 0, 0, 35, 0, 18, 0, 4, 0, 0, 0, 1, 0, 4][..], b"kcat", &[0; 20]].concat();
    for (what, bytes) in [("http", http.clone()), ("tls", tls), ("kafka", kafka), ("zeros", vec![0; 1_000]), ("ones", vec![0xff; 1_000])] {
        for greeted in [false, true] {
            let mut client = if greeted { Client::connect(&node.address()) } else { Client::silent(&node.address()) };
            client.write(&bytes);
            if !greeted && what == "kafka" {
                // It speaks Kafka's protocol, and that has no answer to what is none of its requests.
                assert!(matches!(client.answer(), Answer::Closed), "{what}");
                continue;
            }
            let failure = client.answer().failure();
            assert!(matches!(failure.code(), Code::TooLarge | Code::BadRequest), "{what}: {failure:?}");
            assert!(!failure.message.is_empty() && !failure.advice.is_empty(), "{what}: {failure:?}");
            assert!(matches!(client.answer(), Answer::Closed), "{what}");
        }
    }
    // They pour it in without waiting for anything.
    let mut flood = Crowd::silent(&node, 300);
    let noise: Vec<u8> = (0..1_u64 << 20).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as u8).collect();
    let noise = Bytes::from(noise);
    let http = Bytes::from(http.repeat(10_000));
    flood.give(|n| if n % 2 == 0 { noise.slice(n..) } else { http.clone() });
    flood.push(PUSH);
    honest.round(&node);
    flood.await_end();
    node.check_memory();
}

#[test]
fn other_versions_and_other_orders_are_told_what_is_spoken_here() {
    let node = Node::start();
    for (version_min, version_max) in [(0, 0), (VERSION + 1, VERSION + 9), (u32::MAX, u32::MAX)] {
        let mut client = Client::silent(&node.address());
        let failure = client.ask(Kind::Hello, &Hello { version_min, version_max, ..Hello::default() }).failure();
        assert_eq!(failure.code(), Code::UnsupportedVersion);
        assert!(failure.message.contains(&format!("this server {VERSION}")), "{failure:?}");
        assert!(matches!(client.answer(), Answer::Closed));
    }
    // One that speaks more than we do is fine.
    let mut client = Client::silent(&node.address());
    assert!(matches!(client.ask(Kind::Hello, &Hello { version_min: 0, version_max: 99, ..Hello::default() }), Answer::Reply(_)));
    let mut hasty = Client::silent(&node.address());
    let failure = hasty.ask(Kind::Metadata, &Metadata::default()).failure();
    assert_eq!(failure.code(), Code::BadRequest);
    assert!(failure.message.contains("Hello"), "{failure:?}");
    assert!(matches!(hasty.answer(), Answer::Closed));
    let mut confused = Client::connect(&node.address());
    confused.write(&encode(Kind::Ping, Flags::REPLY, 3, &Ping {}, 0));
    assert_eq!(confused.answer().failure().code(), Code::BadRequest);
    assert!(matches!(confused.answer(), Answer::Closed));
    let mut newer = Client::connect(&node.address());
    let mut unknown = BytesMut::from(&frame(Kind::Ping, &Ping {}, &[])[..]);
    unknown[4..6].copy_from_slice(&999_u16.to_le_bytes());
    newer.write(&unknown);
    // The answer repeats the kind that we do not know either.
    let text = String::from_utf8_lossy(&newer.rest()).into_owned();
    assert!(text.contains("a frame of kind 999 is unknown"), "{text}");
    // A message that does not parse costs its sender nothing but an answer.
    let mut garbled = Client::connect(&node.address());
    for kind in [Kind::Produce, Kind::Fetch, Kind::Metadata, Kind::CreateTopic, Kind::GroupHeartbeat, Kind::CommitOffsets] {
        let mut bytes = BytesMut::new();
        bytes.put_u32_le(16 + 5);
        bytes.put_u16_le(kind as u16);
        bytes.put_u16_le(0);
        bytes.put_u64_le(1);
        bytes.put_u32_le(5);
        bytes.put_slice(&[0x0a, 0xff, 0xff, 0xff, 0x7f]);
        garbled.write(&bytes);
        assert_eq!(garbled.answer().failure().code(), Code::BadRequest, "{kind:?}");
    }
    Honest::new(&node).round(&node);
    node.check_memory();
}

/// The smallest frames there are, as many as the sockets take, from clients that do not read; then one byte at a time.
#[test]
fn crumbs() {
    let node = Node::start();
    fill(&node, MEMORY.0 as usize);
    let mut honest = Honest::new(&node);
    let ping = frame(Kind::Ping, &Ping {}, &[]);
    let pings = Bytes::from(ping.repeat(200_000));
    let mut crowd = Crowd::connect(&node, 300);
    crowd.give(|_| pings.clone());
    crowd.push(PUSH);
    honest.round(&node);
    // Batches of one small record each, in one frame each.
    let small = produce("honest-not", 0, &[batch(b"x")]);
    let small = Bytes::from(small.repeat(20_000));
    let mut producers = Crowd::connect(&node, 300);
    producers.give(|_| small.clone());
    producers.push(PUSH);
    honest.round(&node);
    let mut slow = Client::silent(&node.address());
    for byte in hello().iter().chain(&ping[..]) {
        slow.write(&[*byte]);
    }
    assert!(matches!(slow.answer(), Answer::Reply(_)));
    assert!(matches!(slow.answer(), Answer::Reply(_)));
    node.check_memory();
}

/// Small batches that come in large reads full of something else: what is kept of a read must not keep all of it.
#[test]
fn a_small_batch_does_not_keep_what_came_with_it() {
    let node = Node::start();
    fill(&node, MEMORY.0 as usize);
    let mut honest = Honest::new(&node);
    let mut client = Client::connect(&node.address());
    client.create("kept", 2);
    let mut crowd = Crowd::connect(&node, 20);
    let ping = frame(Kind::Ping, &Ping {}, &[]);
    let mixed = [&produce("kept", 0, &[batch(&[7; 5_000])])[..], &ping.repeat(10_000)[..]].concat();
    let mixed = Bytes::from(mixed.repeat(20));
    crowd.give(|_| mixed.clone());
    eventually("all is sent", || {
        crowd.push(Duration::from_millis(20));
        crowd.sip(1 << 20) == 0
    });
    honest.round(&node);
    node.check_memory();
}
