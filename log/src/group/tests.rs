use super::*;
use crate::journal::format::SegmentMark;
use bytes::BytesMut;
use millpond_batch::{Builder, Compression};

fn batch(records: u64, base: u64) -> (Bytes, Header) {
    let mut builder = Builder::new(Compression::None, 256);
    let headers: [(&[u8], Option<&[u8]>); 0] = [];
    for i in 0..records {
        builder.append(100 + i as i64, None, Some(b"v"), &headers);
    }
    let mut bytes: BytesMut = builder.build(None).expect("no codec");
    millpond_batch::stamp(&mut bytes, base, 1);
    let header = millpond_batch::check(&bytes).expect("just built");
    (bytes.freeze(), header)
}

/// Five batches of two records each; the first two are settled.
fn five() -> Group {
    let mut group = Group::new(GroupId(1), GroupConfig::default());
    for i in 0..5 {
        let (bytes, header) = batch(2, i * 2);
        group.push(TERM, bytes, Some(&header), 1, 0);
    }
    group.sync_all();
    let segment = Some(SegmentMark { base_offset: Offset(0), generation: 0, position: 8192 });
    let settled = Settled { index: Index(2), term: TERM, next_offset: Offset(4), segment };
    group.apply_settled(settled).expect("inside");
    group
}

#[test]
fn batches_take_dense_offsets_and_indexes() {
    let group = five();
    assert_eq!((group.last_index, group.end_offset, group.max_timestamp), (Index(5), Offset(10), Some(101)));
    group.check();
}

#[test]
fn a_trim_below_the_settled_end_leaves_it() {
    let group = five();
    assert_eq!(group.trimmed(Offset(3)), Some(group.settled));
    assert_eq!(group.trimmed(Offset(0)), None, "nothing to trim");
}

#[test]
fn a_trim_at_or_past_the_settled_end_begins_a_new_segment() {
    let group = five();
    let at = group.trimmed(Offset(4)).expect("later than the start");
    assert_eq!((at.index, at.next_offset, at.segment), (Index(2), Offset(4), None));
    let inside_a_batch = group.trimmed(Offset(7)).expect("later than the start");
    assert_eq!((inside_a_batch.index, inside_a_batch.next_offset), (Index(3), Offset(6)), "half a batch is kept whole");
}

#[test]
fn notes_that_cannot_be_are_refused() {
    let mut group = five();
    let note = |index, next| Settled { index: Index(index), term: TERM, next_offset: Offset(next), segment: None };
    assert!(group.apply_settled(note(2, 4)).is_err(), "settled already");
    assert!(group.apply_settled(note(6, 10)).is_err(), "past the end");
    assert!(group.apply_trim(Offset(11), note(5, 10)).is_err(), "past the end");
    assert!(group.apply_trim(Offset(2), note(1, 2)).is_err(), "settling goes back");
    assert!(group.apply_trim(Offset(6), note(3, 6)).is_ok());
    group.check();
}
