//! Any bytes as what a checkpoint says of a group, and as the frames around it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millpond_log::{
    Manifest,
    journal::{
        checkpoint::{decode_config, decode_group, encode_config, encode_group},
        format::{Frame, FrameHead, FrameKind, Frames, Settled},
        replay::Replay,
    },
    producers::Producers,
};
use millpond_runtime::{GroupId, Index, Term, codec::Reader};

/// What is read is written as the bytes that were read.
fn round_trip(data: &[u8]) {
    let mut r = Reader::new(data);
    if let Ok(group) = decode_group(GroupId(1), &mut r) {
        let mut out = Vec::new();
        encode_group(&group, &mut out);
        let read = &data[..data.len() - r.left()];
        // Flags that nobody has given a meaning are dropped.
        assert_eq!(out.len(), read.len());
        let again = decode_group(GroupId(1), &mut Reader::new(&out)).expect("what we encoded");
        assert_eq!((again.config, again.settled, again.producers), (group.config, group.settled, group.producers));
    }
    if let Ok(manifest) = Manifest::decode(data) {
        assert_eq!(manifest.encode(), data);
    }
    let mut r = Reader::new(data);
    if let Ok(config) = decode_config(&mut r) {
        let mut out = Vec::new();
        encode_config(&config, &mut out);
        assert_eq!(decode_config(&mut Reader::new(&out)), Ok(config));
    }
    let mut r = Reader::new(data);
    if let Ok(settled) = Settled::decode(&mut r) {
        let mut out = Vec::new();
        settled.encode(&mut out);
        assert_eq!(out, data[..data.len() - r.left()]);
    }
    let mut r = Reader::new(data);
    if let Ok(producers) = Producers::decode(&mut r) {
        producers.check_invariants();
        let mut out = Vec::new();
        producers.encode(&mut out);
        assert_eq!(out, data[..data.len() - r.left()]);
    }
    assert!(Frames::new(data).count() <= data.len());
}

/// The bytes cut into payloads of frames, which are replayed as the first file of a journal: `len kind group payload`, again and again.
fn replay(mut data: &[u8]) {
    let mut replay = Replay::at(1_700_000_000_000);
    replay.begin_file(1, true);
    while let [len, kind, group, rest @ ..] = data {
        let (payload, behind) = rest.split_at(usize::from(*len).min(rest.len()));
        data = behind;
        let kinds = [
            FrameKind::CheckpointGroup,
            FrameKind::CheckpointEnd,
            FrameKind::Entry,
            FrameKind::GroupCreate,
            FrameKind::GroupAlter,
            FrameKind::GroupDrop,
            FrameKind::Trim,
            FrameKind::Settled,
            FrameKind::Hard,
            FrameKind::Truncate,
            FrameKind::Members,
            FrameKind::Install,
        ];
        let head = FrameHead {
            kind: kinds[usize::from(*kind) % kinds.len()],
            variant: 1,
            group: GroupId(u64::from(group % 4)),
            index: Index(u64::from(*kind >> 3)),
            term: Term(1),
        };
        if replay.apply(&Frame { at: 0, head, payload }).is_err() {
            return;
        }
    }
    if let Ok(groups) = replay.finish() {
        for group in groups.values() {
            let mut out = Vec::new();
            encode_group(group, &mut out);
            let again = decode_group(group.id, &mut Reader::new(&out));
            assert!(again.is_ok(), "a group that was replayed is refused in a checkpoint: {:?}", again.err());
        }
    }
}

fuzz_target!(|data: &[u8]| {
    round_trip(data);
    replay(data);
});
