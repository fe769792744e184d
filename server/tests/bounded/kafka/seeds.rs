//! What a run of the fuzz target `kafka_front` begins with: the sound requests, as its steps.

use super::{client::advertised, requests::Sound};
use crate::node::Node;
use std::{collections::BTreeMap, env, fs, path::Path};

/// A request on the first connection.
const REQUEST: u8 = 0;
/// Time passes there: so many times 50 ms.
const PASS: [u8; 2] = [5 << 1, 2];

fn step(sound: &Sound) -> Vec<u8> {
    let len = u16::try_from(sound.body.len()).expect("requests are small");
    let head = [REQUEST, sound.key as u8, sound.version as u8];
    [&head[..], &len.to_le_bytes(), &sound.body, &PASS].concat()
}

/// One file for each API that the server advertises, with all of its versions, behind a request that makes the topic that they speak of.
#[test]
fn the_fuzz_target_of_the_front_begins_with_every_request() {
    let node = Node::start();
    let mut files: BTreeMap<i16, Vec<u8>> = BTreeMap::new();
    // Metadata of a topic that is not there makes it, in versions that cannot say otherwise.
    let made = step(&Sound { key: 3, version: 1, flexible: false, body: vec![0, 0, 0, 1, 0, 1, b't'] });
    for sound in advertised(&node) {
        files.entry(sound.key).or_insert_with(|| made.clone()).extend(step(&sound));
    }
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/kafka_front");
    for (key, bytes) in files {
        let path = dir.join(format!("api-{key:02}"));
        if env::var_os("UPDATE").is_some() {
            fs::create_dir_all(&dir).expect("a directory");
            fs::write(&path, &bytes).expect("written");
        }
        assert!(fs::read(&path).is_ok_and(|is| is == bytes), "{} is not up to date: run this test with UPDATE=1", path.display());
    }
}
