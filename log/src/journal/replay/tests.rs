use super::*;
use crate::{
    GroupConfig,
    journal::{checkpoint::encode_config, format::FrameHead},
};
use bytes::BufMut;
use millpond_batch::{Builder, Compression, Producer};
use millpond_runtime::{Index, Term};

struct Script {
    replay: Replay,
}

impl Script {
    /// A first file with the checkpoint of no group, and group 1.
    fn new() -> Self {
        let mut script = Self { replay: Replay::at(0) };
        script.replay.begin_file(1, true);
        script.apply(FrameKind::CheckpointEnd, 0, 0, &0u64.to_le_bytes()).expect("an empty checkpoint");
        let mut config = Vec::new();
        encode_config(&GroupConfig::default(), &mut config);
        script.apply(FrameKind::GroupCreate, 1, 0, &config).expect("a new group");
        script
    }

    fn apply(&mut self, kind: FrameKind, group: u64, index: u64, payload: &[u8]) -> Result<(), FormatError> {
        let head =
            FrameHead { kind, variant: u8::from(kind == FrameKind::Entry), group: GroupId(group), index: Index(index), term: Term(1) };
        self.replay.apply(&Frame { at: 0, head, payload })
    }

    fn entry(&mut self, index: u64, base: u64) -> Result<(), FormatError> {
        self.entry_of(index, base, None)
    }

    fn entry_of(&mut self, index: u64, base: u64, producer: Option<Producer>) -> Result<(), FormatError> {
        let mut builder = Builder::new(Compression::None, 128);
        let headers: [(&[u8], Option<&[u8]>); 0] = [];
        builder.append(5, None, Some(b"v"), &headers);
        let mut bytes = builder.build(producer).expect("no codec");
        millpond_batch::stamp(&mut bytes, base, 1);
        self.apply(FrameKind::Entry, 1, index, &bytes)
    }

    fn settled(&mut self, index: u64, next: u64) -> Result<(), FormatError> {
        let mut payload = Vec::new();
        Settled { index: Index(index), term: Term(1), next_offset: Offset(next), segment: None }.encode(&mut payload);
        self.apply(FrameKind::Settled, 1, index, &payload)
    }

    fn trim(&mut self, start: u64, index: u64) -> Result<(), FormatError> {
        let mut payload = Vec::new();
        payload.put_u64_le(start);
        Settled { index: Index(index), term: Term(1), next_offset: Offset(start), segment: None }.encode(&mut payload);
        self.apply(FrameKind::Trim, 1, 0, &payload)
    }
}

#[test]
fn unsettled_entries_come_back_into_memory() {
    let mut script = Script::new();
    for i in 0..4 {
        script.entry(i + 1, i).expect("follows");
    }
    script.settled(2, 2).expect("inside");
    let groups = script.replay.finish().expect("whole");
    let group = &groups[&GroupId(1)];
    assert_eq!((group.tail.unsettled(), group.tail.first_offset()), (2, Some(Offset(2))));
    assert_eq!((group.synced_offset, group.end_offset), (Offset(4), Offset(4)));
}

#[test]
fn what_does_not_follow_is_damage() {
    let mut script = Script::new();
    script.entry(1, 0).expect("follows");
    assert!(script.entry(3, 1).is_err(), "a gap in indexes");
    assert!(script.entry(2, 2).is_err(), "a gap in offsets");
    assert!(script.settled(2, 2).is_err(), "settled past the end");
    assert!(script.apply(FrameKind::GroupDrop, 9, 0, &[]).is_err(), "an unknown group");
    assert!(script.apply(FrameKind::Entry, 1, 2, b"no batch").is_err());
    let no_sequence = Producer { id: 7, epoch: 0, base_sequence: -1 };
    assert!(script.entry_of(2, 1, Some(no_sequence)).is_err(), "no append would have taken it, and no checkpoint will");
    assert!(script.entry_of(2, 1, Some(Producer { epoch: -1, base_sequence: 0, ..no_sequence })).is_err(), "an epoch that cannot be");
    script.entry(2, 1).expect("nothing of the above has taken effect");
}

#[test]
fn entries_that_are_neither_settled_nor_there_are_damage() {
    let mut script = Script::new();
    script.entry(1, 0).expect("follows");
    // As if the file with entries 2 and 3 had gone: the checkpoint knows them, the frames do not come.
    script.replay.groups.get_mut(&GroupId(1)).expect("created").last_index = Index(3);
    assert!(script.replay.finish().is_err());
}

#[test]
fn a_trim_settles_what_it_overtakes() {
    let mut script = Script::new();
    for i in 0..3 {
        script.entry(i + 1, i).expect("follows");
    }
    script.trim(2, 2).expect("inside");
    let groups = script.replay.finish().expect("whole");
    assert_eq!((groups[&GroupId(1)].start_offset, groups[&GroupId(1)].tail.unsettled()), (Offset(2), 1));
}

#[test]
fn a_replica_that_was_trimmed_within_a_batch_knows_that_it_is_committed() {
    let mut script = Script::new();
    let mut config = Vec::new();
    encode_config(&GroupConfig::default(), &mut config);
    Members::default().encode(&mut config);
    let create = FrameHead { kind: FrameKind::GroupCreate, variant: 1, group: GroupId(2), index: Index(0), term: Term(0) };
    script.replay.apply(&Frame { at: 0, head: create, payload: &config }).expect("a new replica");
    let mut builder = Builder::new(Compression::None, 128);
    let headers: [(&[u8], Option<&[u8]>); 0] = [];
    (0..3).for_each(|_| builder.append(5, None, Some(b"v"), &headers));
    let bytes = builder.build(None).expect("no codec");
    script.apply(FrameKind::Entry, 2, 1, &bytes).expect("follows");
    script.apply(FrameKind::Entry, 2, 2, b"").expect_err("no batch");
    // Only what is committed is trimmed.
    let mut trim = Vec::new();
    trim.put_u64_le(2);
    Settled::default().encode(&mut trim);
    script.apply(FrameKind::Trim, 2, 0, &trim).expect("inside");
    let groups = script.replay.finish().expect("whole");
    let group = &groups[&GroupId(2)];
    assert_eq!((group.start_offset, group.lasting_offset(), group.lasting_index()), (Offset(2), Offset(3), Index(1)));
}

#[test]
fn a_replica_that_begins_behind_what_is_committed_is_damage() {
    let mut group = Group::new(GroupId(1), GroupConfig::default());
    group.replica = Some(Box::new(Replica::new(Bytes::new())));
    (group.start_offset, group.end_offset) = (Offset(5), Offset(9));
    let mut replay = Replay::at(0);
    replay.groups.insert(group.id, group);
    assert!(replay.finish().is_err());
}

#[test]
fn the_oldest_file_begins_with_a_whole_checkpoint() {
    let mut replay = Replay::at(0);
    replay.begin_file(4, true);
    let head = FrameHead { kind: FrameKind::GroupDrop, variant: 0, group: GroupId(1), index: Index(0), term: Term(0) };
    assert!(replay.apply(&Frame { at: 0, head, payload: &[] }).is_err());
    let end = FrameHead { kind: FrameKind::CheckpointEnd, ..head };
    assert!(replay.apply(&Frame { at: 0, head: end, payload: &3u64.to_le_bytes() }).is_err(), "three groups were promised");
    assert!(!replay.checkpointed());
}
