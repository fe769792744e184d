use super::*;
use crate::journal::format::SegmentMark;
use millpond_batch::{Builder, Compression, Header, Producer};
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

fn batch_of(id: i64, sequence: i32, count: u32) -> Header {
    let mut builder = Builder::new(Compression::None, 256);
    let headers: [(&[u8], Option<&[u8]>); 0] = [];
    (0..count).for_each(|n| builder.append(i64::from(n), None, None, &headers));
    let batch = builder.build(Some(Producer { id, epoch: 1, base_sequence: sequence })).expect("no codec, so none can fail");
    millpond_batch::check(&batch).expect("what was just built")
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
    fn a_group_comes_back(
        config in config(),
        n in any::<[u64; 5]>(),
        time in proptest::option::of(0i64..),
        segment in any::<bool>(),
        sent in proptest::collection::vec((0..9_i64, 1..4_u32), 0..40),
    ) {
        let mut group = Group::new(GroupId(4), config);
        let n = n.map(|n| n >> 1);
        (group.start_offset, group.last_index, group.end_offset) = (Offset(n[0].min(n[2])), Index(n[1].max(n[3])), Offset(n[0].max(n[2])));
        group.max_timestamp = time;
        let mark = segment.then_some(SegmentMark { base_offset: Offset(n[3]), generation: 3, position: n[4] });
        group.settled = Settled { index: Index(n[3]), term: Term(n[4]), next_offset: Offset(n[0]), segment: mark };
        let mut sequences = [0_i32; 9];
        for (at, (id, count)) in sent.into_iter().enumerate() {
            let sequence = &mut sequences[id as usize];
            group.producers.record(&batch_of(id, *sequence, count), None, Offset(at as u64 * 10), at as i64);
            *sequence += count as i32;
        }
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
        prop_assert_eq!(read.producers, group.producers);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut r = Reader::new(&bytes);
        prop_assert!(decode_group(GroupId(1), &mut r).is_err() || r.left() < bytes.len());
        let mut r = Reader::new(&bytes);
        prop_assert!(decode_config(&mut r).is_err() || r.left() < bytes.len());
    }
}
