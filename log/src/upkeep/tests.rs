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
