use super::*;
use crate::segment::SegmentName;
use millpond_runtime::Index;

/// Three sealed segments of 100 bytes and ten records each, the newest records of 1000, 2000 and 3000 ms.
fn holdings() -> Holdings {
    let segment = |i: u64| Sealed {
        name: SegmentName { base_offset: Offset(i * 10), generation: 0 },
        next_offset: Offset(i * 10 + 10),
        last_index: Index(i * 10 + 10),
        bytes: 100,
        max_timestamp: (i as i64 + 1) * 1000,
    };
    Holdings { sealed: (0..3).map(segment).collect(), bytes: 350, max_timestamp: Some(4000), start: Offset(0), end: Offset(35) }
}

fn config(retention_ms: Option<u64>, retention_bytes: Option<u64>) -> GroupConfig {
    GroupConfig { retention_ms, retention_bytes, ..GroupConfig::default() }
}

#[test]
fn segments_go_when_their_newest_record_is_too_old() {
    assert_eq!(retain_from(&holdings(), &config(Some(1000), None), 3500), Some(Offset(20)));
    assert_eq!(retain_from(&holdings(), &config(Some(5000), None), 3500), None);
}

#[test]
fn segments_go_while_there_are_too_many_bytes() {
    assert_eq!(retain_from(&holdings(), &config(None, Some(200)), 0), Some(Offset(20)));
    assert_eq!(retain_from(&holdings(), &config(None, Some(350)), 0), None);
    assert_eq!(retain_from(&holdings(), &config(None, Some(0)), 0), Some(Offset(30)), "what is not sealed stays");
}

#[test]
fn an_old_segment_behind_a_young_one_stays() {
    let mut all = holdings();
    all.sealed[0].max_timestamp = 9000;
    assert_eq!(retain_from(&all, &config(Some(1000), None), 4500), None);
}

#[test]
fn a_quiet_group_expires_to_its_end() {
    assert_eq!(retain_from(&holdings(), &config(Some(1000), None), 6000), Some(Offset(35)));
    let empty = Holdings { start: Offset(35), ..holdings() };
    assert_eq!(retain_from(&empty, &config(Some(1000), None), 6000), None, "nothing is left to go");
}

#[test]
fn a_log_that_does_not_delete_keeps_everything() {
    let config = GroupConfig { delete: false, ..config(Some(0), Some(0)) };
    assert_eq!(retain_from(&holdings(), &config, i64::MAX), None);
}

#[test]
fn producers_are_bounded_and_the_longest_silent_go_first() {
    use crate::group::Group;
    use millpond_batch::{Builder, Compression, Producer};
    let mut groups = Groups::default();
    groups.insert(Group::new(GroupId(1), GroupConfig::default()));
    let group = groups.get_mut(GroupId(1)).expect("just inserted");
    for id in 0..100 {
        let mut builder = Builder::new(Compression::None, 128);
        let headers: [(&[u8], Option<&[u8]>); 0] = [];
        builder.append(0, None, Some(b"v"), &headers);
        let batch = builder.build(Some(Producer { id, epoch: 0, base_sequence: 0 })).expect("no codec");
        let header = millpond_batch::check(&batch).expect("just built");
        group.producers.record(&header, None, Offset(id as u64), id * 60_000);
    }
    let now_ms = 100 * 60_000;
    bound_producers(&mut groups, now_ms, 100 * PRODUCER_BYTES);
    assert_eq!(groups.get(GroupId(1)).map(|g| g.producers.len()), Some(100));
    bound_producers(&mut groups, now_ms, 50 * PRODUCER_BYTES);
    let group = groups.get(GroupId(1)).expect("inserted above");
    assert!((1..=50).contains(&group.producers.len()), "{} are left", group.producers.len());
}
