//! Crowds that say next to nothing: a byte, half a head, half a request.

use super::requests::frame;
use crate::{
    honest::{Honest, SERVED_WITHIN},
    node::{Bytes as Memory, Node},
    wire::Crowd,
};
use bytes::Bytes;
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 5_000;
/// So much memory has room for so many connections.
const MEMORY: Memory = Memory::mib(384);
const PUSH: Duration = Duration::from_secs(10);
/// The first frame must come within ten seconds, which is looked at once a second; the rest is for a machine that is busy.
const CLOSED_WITHIN: Duration = Duration::from_secs(25);

#[test]
fn five_thousand_connections_that_send_one_byte_do_no_harm() {
    millpond_runtime::sys::raise_open_files().expect("this many connections");
    let node = Node::with(MEMORY, &[]);
    let mut honest = Honest::new(&node);
    honest.round(&node);
    let began = Instant::now();
    let mut crowd = Crowd::silent(&node, CONNECTIONS);
    crowd.give(|_| Bytes::from_static(&[0]));
    crowd.push(PUSH);
    let before = Instant::now();
    honest.round(&node);
    assert!(before.elapsed() < SERVED_WITHIN, "others are served as ever");
    println!("{} with {CONNECTIONS} connections of one byte, {} before serving", node.resident(), node.base());
    // Who has not said a whole request by then never will.
    crowd.await_end();
    assert!(began.elapsed() < CLOSED_WITHIN + PUSH, "they were closed after {:?} only", began.elapsed());
    honest.round(&node);
    node.check_memory();
}

/// Halves of first requests, of heads, and of second ones.
#[test]
fn half_requests_and_silence_are_closed_in_time() {
    let node = Node::start();
    let mut honest = Honest::new(&node);
    let hello = frame(18, 0, false, &[]);
    let mut crowd = Crowd::silent(&node, 600);
    crowd.give(|n| Bytes::copy_from_slice(&hello[..1 + n % (hello.len() - 1)]));
    crowd.push(PUSH);
    let mut large = Crowd::silent(&node, 300);
    // Four MiB are announced, and a little comes.
    let beginning = [&(4_u32 << 20).to_be_bytes()[..], &[0, 0, 0, 3, 0, 0, 0, 1], &[0; 60_000]].concat();
    large.give(|_| Bytes::from(beginning.clone()));
    large.push(PUSH);
    let mut second = Crowd::silent(&node, 300);
    second.give(|_| Bytes::from([&hello[..], &hello[..9]].concat()));
    second.push(PUSH);
    honest.round(&node);
    crowd.await_end();
    large.await_end();
    second.await_end();
    honest.round(&node);
    node.check_memory();
}
