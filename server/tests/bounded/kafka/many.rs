//! Requests that are sound and ask for as much as fits into a frame: little on the wire, and much where it is decoded and answered.

use super::{client::Raw, requests::frame};
use crate::{
    honest::Honest,
    node::{MEMORY, Node, PATIENCE},
    wire::{Client, fill},
};
use std::time::Duration;

/// Bytes of a request: the longest that a server of the smallest budget takes, and a little less.
const BYTES: usize = 3 << 20;
/// Requests that come at the same time.
const AT_ONCE: usize = 8;

/// A compact count or length.
fn varint(mut n: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while n > 0x7f {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

/// An array of as many of these as there is room for, at most `most`.
fn array(flexible: bool, element: &[u8], most: usize) -> Vec<u8> {
    let count = (BYTES / element.len()).min(most);
    let head = if flexible { varint(count + 1) } else { (count as u32).to_be_bytes().to_vec() };
    [&head[..], &element.repeat(count)].concat()
}

/// A request of many elements.
struct Many {
    what: &'static str,
    key: i16,
    version: i16,
    flexible: bool,
    before: &'static [u8],
    element: &'static [u8],
    behind: &'static [u8],
}

const fn many(
    what: &'static str,
    (key, version): (i16, i16),
    before: &'static [u8],
    element: &'static [u8],
    behind: &'static [u8],
) -> Many {
    Many { what, key, version, flexible: true, before, element, behind }
}

const fn legacy(what: &'static str, api: (i16, i16), before: &'static [u8], element: &'static [u8], behind: &'static [u8]) -> Many {
    Many { flexible: false, ..many(what, api, before, element, behind) }
}

/// One byte of a name, and what goes with it.
const ALL: &[Many] = &[
    many("topics without partitions to produce to", (0, 9), &[0, 0xff, 0xff, 0, 0, 0, 9], &[2, b'n', 1, 0], &[0]),
    many("topics without partitions to fetch", (1, 12), &[0; 25], &[2, b'n', 1, 0], &[1, 1, 0]),
    many("topics without partitions to list offsets of", (2, 6), &[0; 5], &[2, b'n', 1, 0], &[0]),
    legacy("topics to describe", (3, 1), &[], &[0, 1, b'n'], &[]),
    many("topics without partitions to commit for", (8, 8), &[2, b'g', 0xff, 0xff, 0xff, 0xff, 1, 0], &[2, b'n', 1, 0], &[0]),
    many("groups whose positions are asked for", (9, 8), &[], &[2, b'g', 0, 0], &[0, 0]),
    many("keys of coordinators", (10, 4), &[0], &[2, b'k'], &[0]),
    many(
        "protocols of a member",
        (11, 7),
        &[2, b'g', 0, 0, 0x27, 0x10, 0, 0, 0x27, 0x10, 1, 0, 9, b'c', b'o', b'n', b's', b'u', b'm', b'e', b'r'],
        &[2, b'p', 1, 0],
        &[0],
    ),
    many("members that leave", (13, 5), &[2, b'g'], &[2, b'm', 0, 0, 0], &[0]),
    many("assignments", (14, 4), &[2, b'g', 0, 0, 0, 1, 2, b'm', 0], &[2, b'm', 1, 0], &[0]),
    many("groups to describe", (15, 5), &[], &[2, b'g'], &[0, 0]),
    many("states of groups", (16, 4), &[], &[2, b's'], &[0]),
    many("topics to create", (19, 5), &[], &[1, 0, 0, 0, 1, 0, 1, 1, 1, 0], &[0, 0, 0, 0, 0, 0]),
    many("topics to delete", (20, 4), &[], &[2, b'n'], &[0, 0, 0, 0, 0]),
    many("topics without partitions to delete records of", (21, 2), &[], &[2, b'n', 1, 0], &[0, 0, 0, 0, 0]),
    many("topics for a transaction", (24, 3), &[2, b't', 0, 0, 0, 0, 0, 0, 0, 1, 0, 0], &[2, b'n', 1, 0], &[0]),
    many(
        "topics to commit for in a transaction",
        (28, 4),
        &[2, b't', 2, b'g', 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0],
        &[2, b'n', 1, 0],
        &[0],
    ),
    many("producers to write markers of", (27, 1), &[], &[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0], &[0]),
    many("topics to write markers to", (27, 1), &[2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], &[2, b't', 2, 0, 0, 0, 0, 0], &[0, 0, 0, 0, 0, 0]),
    many("topics without partitions to describe producers of", (61, 0), &[], &[2, b'n', 1, 0], &[0]),
    many("transactions to describe", (65, 0), &[], &[2, b't'], &[0]),
    many("states of transactions", (66, 2), &[], &[2, b's'], &[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    many("topics to describe the settings of", (32, 4), &[], &[2, 2, b't', 0, 0], &[1, 1, 0]),
    many("topics to set", (33, 2), &[], &[2, 2, b'n', 1, 0], &[0, 0]),
    many("topics to give more partitions", (37, 2), &[], &[2, b'n', 0, 0, 0, 9, 0, 0], &[0, 0, 0, 0, 0, 0]),
    many("groups to delete", (42, 2), &[], &[2, b'g'], &[0]),
    many("topics to set a little", (44, 1), &[], &[2, 2, b'n', 1, 0], &[0, 0]),
    legacy("topics without partitions to forget", (47, 0), &[0, 1, b'g'], &[0, 1, b'n', 0, 0, 0, 0], &[]),
];

impl Many {
    fn frame(&self, most: usize) -> Vec<u8> {
        let body = [self.before, &array(self.flexible, self.element, most), self.behind].concat();
        frame(self.key, self.version, self.flexible, &body)
    }
}

/// As many as fit, as many as are allowed at the most, and somewhat fewer.
#[test]
fn requests_of_many_elements_take_no_more_memory_than_there_is() {
    let node = Node::start();
    fill(&node, MEMORY.0 as usize);
    let mut honest = Honest::new(&node);
    Client::connect(&node.address()).create("t", 1);
    for many in ALL {
        for most in [usize::MAX, 256 * 1024 - 8, 16_000] {
            let bytes = many.frame(most);
            let mut open: Vec<Raw> = (0..AT_ONCE).map(|n| Raw::connect(&node.core((n % 2) as u16))).collect();
            for raw in &mut open {
                raw.send(&bytes);
                raw.end();
            }
            honest.round(&node);
            for raw in &mut open {
                let heard = raw.listen(PATIENCE);
                assert!(heard.closed && heard.answers <= 1, "{}: {heard:?}", many.what);
            }
            println!("{}, at most {most}: {} at the most so far", many.what, node.peak());
        }
        node.check_memory();
    }
    honest.check_all();
}

/// Many such requests on a connection that takes no answers: what waits to be answered is counted.
#[test]
fn requests_that_wait_to_be_answered_are_counted() {
    let node = Node::start();
    fill(&node, MEMORY.0 as usize);
    let mut honest = Honest::new(&node);
    // A thousand names of a thousand bytes, each with no partition at all.
    let name = [&varint(1_001)[..], &[b'n'; 1_000], &[1, 0]].concat();
    let names = [&varint(1_001)[..], &name.repeat(1_000)].concat();
    let few = [&varint(5)[..], &[&varint(30_001)[..], &[b'n'; 30_000], &[1, 0]].concat().repeat(4)].concat();
    for topics in [array(true, &[2, b'n', 1, 0], 200_000), array(true, &[2, b'n', 1, 0], 1_000), names, few] {
        let body = [&[0_u8, 0xff, 0xff, 0, 0, 0, 9][..], &topics, &[0]].concat();
        let bytes = frame(0, 9, true, &body);
        let times = (64 << 20) / bytes.len();
        let floods: Vec<_> = (0..4)
            .map(|n| {
                let (address, bytes) = (node.core((n % 2) as u16), bytes.clone());
                std::thread::spawn(move || {
                    let mut raw = Raw::connect(&address);
                    raw.send_within(&bytes.repeat(times.min(400)), Duration::from_secs(2));
                    raw
                })
            })
            .collect();
        let open: Vec<Raw> = floods.into_iter().map(|flood| flood.join().expect("it sends")).collect();
        honest.round(&node);
        println!("requests of {} bytes: {} at the most so far", bytes.len(), node.peak());
        drop(open);
        node.check_memory();
    }
}
