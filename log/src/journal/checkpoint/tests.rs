use super::*;
use crate::journal::format::SegmentMark;
use millpond_runtime::Term;
use proptest::prelude::*;

fn config() -> impl Strategy<Value = GroupConfig> {
    let opt = || proptest::option::of(any::<u64>());
    (opt(), opt(), any::<[u64; 5]>(), any::<bool>(), any::<bool>()).prop_map(|(retention_ms, retention_bytes, n, compact, delete)| {
        GroupConfig {
            retention_ms,
            retention_bytes,
            segment_bytes: n[0],
            segment_ms: n[1],
            compact,
            delete,
            delete_retention_ms: n[2],
            min_compaction_lag_ms: n[3],
            producer_expiry_ms: n[4],
        }
    })
}

proptest! {
    #[test]
    fn settings_come_back(config in config()) {
        let mut bytes = Vec::new();
        encode_config(&config, &mut bytes);
        let mut r = Reader::new(&bytes);
        prop_assert_eq!(decode_config(&mut r), Ok(config));
        prop_assert_eq!(r.left(), 0);
    }

    #[test]
    fn a_group_comes_back(config in config(), n in any::<[u64; 5]>(), time in proptest::option::of(0i64..), segment in any::<bool>()) {
        let mut group = Group::new(GroupId(4), config);
        (group.start_offset, group.last_index, group.end_offset) = (Offset(n[0]), Index(n[1]), Offset(n[2]));
        group.max_timestamp = time;
        let mark = segment.then_some(SegmentMark { base_offset: Offset(n[3]), generation: 3, position: n[4] });
        group.settled = Settled { index: Index(n[3]), term: Term(n[4]), next_offset: Offset(n[1]), segment: mark };
        let mut bytes = Vec::new();
        encode_group(&group, &mut bytes);
        let mut r = Reader::new(&bytes);
        let read = decode_group(GroupId(4), &mut r).expect("what we encoded");
        prop_assert_eq!(r.left(), 0);
        let mut again = Vec::new();
        encode_group(&read, &mut again);
        prop_assert_eq!(again, bytes);
        prop_assert_eq!(read.max_timestamp, time);
        prop_assert_eq!(read.settled, group.settled);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut r = Reader::new(&bytes);
        prop_assert!(decode_group(GroupId(1), &mut r).is_err() || r.left() < bytes.len());
        let mut r = Reader::new(&bytes);
        prop_assert!(decode_config(&mut r).is_err() || r.left() < bytes.len());
    }
}
