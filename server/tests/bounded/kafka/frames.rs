//! Requests that are cut, that lie about lengths and counts, and that have garbage before, in and behind them: each API, each version.

use super::{
    client::{Heard, Raw, advertised},
    requests::{Sound, frame},
};
use crate::{
    honest::Honest,
    node::{Node, PATIENCE},
};
use std::time::Duration;

/// Connections that are tried at the same time.
const AT_ONCE: usize = 100;
/// What may wait for something that does not come is not waited for longer.
const WAITS_MAX: Duration = Duration::from_secs(3);
/// Fetch, JoinGroup and SyncGroup, which may wait, and what comes to wait when a byte of it is another.
const WAITS: [i16; 3] = [1, 11, 14];
/// Most places of a body at which it is broken.
const PLACES: usize = 12;

/// Numbers that are no lengths and no counts, or huge ones.
const LENGTHS: [i32; 4] = [i32::MAX, i32::MIN, -1, 0x00ff_ffff];
/// The longest varint there is.
const HUGE: [u8; 5] = [0xff, 0xff, 0xff, 0xff, 0x0f];

/// So many places of a body, evenly spread.
fn places(len: usize) -> impl Iterator<Item = usize> {
    let step = len.div_ceil(PLACES).max(1);
    (0..len).step_by(step)
}

/// What can be done to one request: the bytes of a connection each.
fn broken(sound: &Sound) -> Vec<Vec<u8>> {
    let (body, frame) = (&sound.body, sound.frame());
    let mut all = Vec::new();
    for at in places(body.len()) {
        // Cut, but for the length, which is right; and the frame itself cut.
        all.push(sound.with(&body[..at]));
        all.push(frame[..at.min(frame.len() - 1)].to_vec());
        for length in LENGTHS {
            let mut changed = body.clone();
            let end = changed.len().min(at + 4);
            changed[at..end].copy_from_slice(&length.to_be_bytes()[..end - at]);
            all.push(sound.with(&changed));
        }
        all.push(sound.with(&[&body[..at], &HUGE, &body[at + 1..]].concat()));
    }
    for len in LENGTHS.into_iter().chain([0, 1, 7, frame.len() as i32 - 3, frame.len() as i32 - 5]) {
        all.push([&len.to_be_bytes()[..], &frame[4..], &frame].concat());
    }
    if sound.flexible && !body.is_empty() {
        let before = &body[..body.len() - 1];
        // Tagged fields: more of them than there are bytes, one of huge size, one that says less than it is.
        for tags in [&HUGE[..], &[&[1, 0][..], &HUGE].concat(), &[1, 0, 1, 0, 0], &[2, 0, 0, 0, 0]] {
            all.push(sound.with(&[before, tags].concat()));
        }
    }
    all.push(sound.with(&[&body[..], &[0]].concat()));
    all.push([&frame[..], &[0xff; 40]].concat());
    all
}

/// Sends each on a connection of its own, behind a request that shows which protocol it speaks; then it says no more, and is heard to its end.
fn throw(node: &Node, key: i16, all: &[Vec<u8>]) {
    for some in all.chunks(AT_ONCE) {
        let mut open: Vec<Raw> = some
            .iter()
            .map(|bytes| {
                let mut raw = Raw::connect(&node.address());
                raw.send(&frame(18, 0, false, &[]));
                raw.send(bytes);
                raw.end();
                raw
            })
            .collect();
        for (raw, bytes) in open.iter_mut().zip(some) {
            let may_wait = WAITS.contains(&key);
            let Heard { answers, closed } = raw.listen(if may_wait { WAITS_MAX } else { PATIENCE });
            assert!(closed || may_wait, "API {key} neither answered nor closed: {bytes:02x?}");
            assert!(answers <= 3, "{answers} answers to API {key}: {bytes:02x?}");
        }
    }
}

#[test]
fn requests_that_are_broken_in_any_way_harm_nobody() {
    let node = Node::start();
    let mut honest = Honest::new(&node);
    crate::wire::Client::connect(&node.address()).create("t", 2);
    let all = advertised(&node);
    let mut thrown = 0;
    let mut last = None;
    for sound in &all {
        let broken = broken(sound);
        thrown += broken.len();
        throw(&node, sound.key, &broken);
        if last.replace(sound.key) != Some(sound.key) {
            honest.round(&node);
        }
    }
    println!("{thrown} connections with broken requests, of {} that are sound", all.len());
    honest.check_all();
    node.check_memory();
}

/// The sound ones are answered: at once, byte by byte, and with garbage behind them, which then ends the connection.
#[test]
fn requests_that_are_sound_are_answered_however_they_come() {
    let node = Node::start();
    crate::wire::Client::connect(&node.address()).create("t", 2);
    // The server hears them to the end for a second: all at the same time.
    let mut refused = Vec::new();
    for sound in advertised(&node) {
        let what = (sound.key, sound.version);
        let mut whole = Raw::connect(&node.address());
        whole.send(&sound.frame());
        assert!(whole.answer().is_some(), "{what:?} is not answered");
        let mut crumbs = Raw::connect(&node.address());
        sound.frame().iter().for_each(|byte| crumbs.send(&[*byte]));
        assert!(crumbs.answer().is_some(), "{what:?} is not answered, byte by byte");
        crumbs.send(&[0xff; 40]);
        refused.push((what, crumbs));
        whole.end();
        assert_eq!(whole.listen(PATIENCE), Heard { answers: 0, closed: true }, "{what:?}");
    }
    for (what, mut crumbs) in refused {
        assert!(crumbs.answer().is_none(), "{what:?}: garbage is answered");
    }
    node.check_memory();
}
