use super::*;
use proptest::prelude::*;

fn header(id: i64, epoch: i16, sequence: i32, count: u32) -> Header {
    Header {
        base_offset: 0,
        batch_len: 100,
        leader_epoch: 0,
        crc: 0,
        attributes: 0,
        last_offset_delta: count - 1,
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id: id,
        producer_epoch: epoch,
        base_sequence: sequence,
        count,
    }
}

const DAY: u64 = 86_400_000;

#[test]
fn the_rules_one_by_one() {
    let mut p = Producers::default();
    assert_eq!(p.check(&header(-1, -1, -1, 3), 0, DAY).expect("not idempotent"), None);
    // Unknown producers begin anywhere.
    assert_eq!(p.check(&header(1, 0, 7, 3), 0, DAY).expect("new"), None);
    p.record(&header(1, 0, 7, 3), Offset(100), 0);
    assert_eq!(p.check(&header(1, 0, 7, 3), 0, DAY).expect("a retry"), Some(Offset(100)));
    assert_eq!(p.check(&header(1, 0, 10, 1), 0, DAY).expect("the next"), None);
    assert!(matches!(p.check(&header(1, 0, 11, 1), 0, DAY), Err(LogError::OutOfOrderSequence { expected: 10, found: 11, .. })));
    // Part of a batch, or another cut of it, is no retry.
    assert!(matches!(p.check(&header(1, 0, 8, 2), 0, DAY), Err(LogError::OutOfOrderSequence { .. })));
    // Epochs.
    assert!(matches!(p.check(&header(1, 1, 3, 1), 0, DAY), Err(LogError::OutOfOrderSequence { expected: 0, .. })));
    assert_eq!(p.check(&header(1, 1, 0, 1), 0, DAY).expect("a new epoch"), None);
    p.record(&header(1, 1, 0, 1), Offset(103), 0);
    assert!(matches!(p.check(&header(1, 0, 10, 1), 0, DAY), Err(LogError::ProducerFenced { current: 1, found: 0, .. })));
    // Five are remembered, the sixth pushes the first out.
    for n in 1..=5 {
        p.record(&header(1, 1, n, 1), Offset(103 + n as u64), 0);
    }
    assert!(matches!(p.check(&header(1, 1, 0, 1), 0, DAY), Err(LogError::DuplicateForgotten { found: 0, .. })));
    assert_eq!(p.check(&header(1, 1, 1, 1), 0, DAY).expect("remembered"), Some(Offset(104)));
    // Silence.
    assert_eq!(p.check(&header(1, 0, 99, 1), DAY as i64 + 1, DAY).expect("expired"), None);
    p.expire(DAY as i64 + 1, DAY);
    assert!(p.is_empty());
    assert!(matches!(p.check(&header(1, -1, 0, 1), 0, DAY), Err(LogError::BadBatch { .. })));
}

#[test]
fn sequences_wrap() {
    let mut p = Producers::default();
    p.record(&header(1, 0, i32::MAX - 1, 3), Offset(0), 0);
    assert_eq!(p.check(&header(1, 0, 1, 1), 0, DAY).expect("follows"), None);
    assert_eq!(p.check(&header(1, 0, i32::MAX - 1, 3), 0, DAY).expect("a retry"), Some(Offset(0)));
}

#[test]
fn the_silent_go_first() {
    let mut p = Producers::default();
    for id in 0..=PRODUCERS_MAX as i64 {
        p.record(&header(id, 0, 0, 1), Offset(id as u64), id);
    }
    assert_eq!(p.len(), PRODUCERS_MAX);
    assert_eq!(p.check(&header(1, 0, 0, 1), 0, DAY).expect("known"), Some(Offset(1)));
    assert_eq!(p.check(&header(0, 0, 5, 1), 0, DAY).expect("forgotten"), None);
}

proptest! {
    /// Against a model that remembers every batch ever appended.
    #[test]
    fn takes_each_batch_once(steps in proptest::collection::vec((0..3_i64, 0..8_i32, 1..4_u32), 1..200)) {
        let mut p = Producers::default();
        let mut model: BTreeMap<i64, Vec<(i32, u32, u64)>> = BTreeMap::new();
        let mut end = 0_u64;
        for (id, back, count) in steps {
            let history = model.entry(id).or_default();
            let next = history.last().map_or(0, |(s, n, _)| s + *n as i32);
            // Either the next batch, or one from `back` batches ago again.
            let again = (back as usize) < history.len() && back > 0;
            let (sequence, count) = if again { let (s, n, _) = history[history.len() - back as usize]; (s, n) } else { (next, count) };
            let h = header(id, 0, sequence, count);
            match p.check(&h, 0, DAY) {
                Ok(None) => {
                    prop_assert!(!again);
                    p.record(&h, Offset(end), 0);
                    history.push((sequence, count, end));
                    end += u64::from(count);
                }
                Ok(Some(offset)) => {
                    prop_assert!(again);
                    prop_assert_eq!(offset.0, history[history.len() - back as usize].2);
                }
                Err(LogError::DuplicateForgotten { .. }) => prop_assert!(again && back as usize > WINDOW),
                Err(other) => prop_assert!(false, "{other}"),
            }
            p.check_invariants();
        }
        let mut bytes = Vec::new();
        p.encode(&mut bytes);
        let mut r = Reader::new(&bytes);
        prop_assert_eq!(Producers::decode(&mut r).expect("round trip"), p);
        prop_assert_eq!(r.left(), 0);
        for cut in 0..bytes.len() {
            let _ = Producers::decode(&mut Reader::new(&bytes[..cut]));
        }
    }
}
