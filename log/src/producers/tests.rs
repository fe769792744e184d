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
        p.check_invariants();
    }
    assert_eq!(p.len(), PRODUCERS_MAX + 1 - FORGET_AT_ONCE);
    let first = FORGET_AT_ONCE as i64;
    assert_eq!(p.check(&header(first, 0, 0, 1), 0, DAY).expect("known"), Some(Offset(first as u64)));
    assert_eq!(p.check(&header(first - 1, 0, 5, 1), 0, DAY).expect("forgotten"), None);
}

/// The first batch of a new producer was refused for want of room, the second was taken: the first comes again, and was
/// never appended. It must not be told that it was.
#[test]
fn what_was_never_appended_is_no_duplicate() {
    let mut p = Producers::default();
    p.record(&header(1, 0, 3, 3), Offset(0), 0);
    assert!(matches!(p.check(&header(1, 0, 0, 3), 0, DAY), Err(LogError::OutOfOrderSequence { expected: 6, found: 0, .. })));
    // Nor a gap that lies across the wrap.
    let mut p = Producers::default();
    p.record(&header(2, 0, i32::MAX - 10, 3), Offset(0), 0);
    assert!(matches!(p.check(&header(2, 0, i32::MAX, 2), 0, DAY), Err(LogError::OutOfOrderSequence { .. })));
}

/// A clock that has gone back makes the newest producer look like the oldest: it must not be the one that is forgotten, or
/// its retry would be appended twice.
#[test]
fn a_clock_that_goes_back_does_not_forget_the_newest() {
    let mut p = Producers::default();
    for id in 0..PRODUCERS_MAX as i64 {
        p.record(&header(id, 0, 0, 1), Offset(id as u64), 1_000_000);
    }
    let newest = header(PRODUCERS_MAX as i64, 0, 0, 1);
    p.record(&newest, Offset(77), 5);
    assert_eq!(p.check(&newest, 5, DAY).expect("a retry"), Some(Offset(77)));
}

#[test]
fn what_was_never_written_is_refused() {
    let mut p = Producers::default();
    for n in 0..2_u32 {
        p.record(&header(4, 1, n as i32 * 3, 3), Offset(u64::from(n) * 3), 9);
        p.record(&header(5, 1, n as i32 * 3, 3), Offset(100 + u64::from(n) * 3), 9);
    }
    let mut bytes = Vec::new();
    p.encode(&mut bytes);
    assert_eq!(Producers::decode(&mut Reader::new(&bytes)).expect("sound"), p);
    // Layout: count 4, then per producer id 8, epoch 2, last seen 8, begun 4, batches 1, and 16 for each batch.
    let head = 8 + 2 + 8 + 4 + 1;
    let one = head + 2 * 16;
    let spoiled: [(usize, u8, &str); 6] = [
        (3, 0xff, "too many producers"),
        (4 + head - 1, 0, "no batch"),
        (4 + head + 16, 4, "a gap"),
        (4 + head + 3, 0x80, "a negative sequence"),
        (4 + head + 8, 9, "an offset behind the next"),
        (4 + one, 4, "the same producer twice"),
    ];
    for (at, byte, what) in spoiled {
        let mut bad = bytes.clone();
        assert_ne!(bad[at], byte);
        bad[at] = byte;
        assert!(Producers::decode(&mut Reader::new(&bad)).is_err(), "{what}");
    }
}

/// The plain rule, with all that was ever appended by each producer in its newest epoch.
#[derive(Default)]
struct Model {
    epoch: i16,
    /// First sequence, records, offset.
    batches: Vec<(i32, u32, u64)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Append,
    Duplicate(u64),
    Forgotten,
    Gap,
    Fenced,
}

fn after(sequence: i32, n: u32) -> i32 {
    ((i64::from(sequence) + i64::from(n)) & 0x7fff_ffff) as i32
}

impl Model {
    /// Whether each sequence of a batch was appended in this epoch.
    fn has_all(&self, h: &Header) -> bool {
        let had = |s: i32| self.batches.iter().any(|b| (0..b.1).any(|n| after(b.0, n) == s));
        (0..h.count).all(|n| had(after(h.base_sequence, n)))
    }

    fn verdict(&self, h: &Header) -> Verdict {
        let Some(last) = self.batches.last() else { return Verdict::Append };
        if h.producer_epoch != self.epoch {
            return match () {
                () if h.producer_epoch < self.epoch => Verdict::Fenced,
                () if h.base_sequence == 0 => Verdict::Append,
                () => Verdict::Gap,
            };
        }
        let same = |b: &&(i32, u32, u64)| b.0 == h.base_sequence && b.1 == h.count;
        let window = &self.batches[self.batches.len().saturating_sub(WINDOW)..];
        match window.iter().find(same) {
            Some(b) => Verdict::Duplicate(b.2),
            None if h.base_sequence == after(last.0, last.1) => Verdict::Append,
            None if self.has_all(h) => Verdict::Forgotten,
            None => Verdict::Gap,
        }
    }
}

proptest! {
    /// Against the plain rule: next batches, repeated ones, gaps, other cuts, new and old epochs, sequences that wrap.
    #[test]
    fn takes_each_batch_once(begin in prop_oneof![Just(0), Just(i32::MAX - 12)], steps in proptest::collection::vec((0..3_i64, 0..10_u8, 1..9_usize, 1..4_u32), 1..200)) {
        let mut p = Producers::default();
        let mut models: BTreeMap<i64, Model> = BTreeMap::new();
        let mut end = 0_u64;
        for (id, what, back, count) in steps {
            let model = models.entry(id).or_default();
            let next = model.batches.last().map_or(begin, |(s, n, _)| after(*s, *n));
            let earlier = model.batches.len().checked_sub(back).map(|n| model.batches[n]);
            let (epoch, sequence, count) = match (what, earlier) {
                (0..=4, _) => (model.epoch, next, count),
                (5 | 6, Some((s, n, _))) => (model.epoch, s, n),
                (7, _) => (model.epoch, after(next, back as u32), count),
                (8, _) => (model.epoch + 1, if back % 3 == 0 { 5 } else { 0 }, count),
                (9, _) if model.epoch > 0 => (model.epoch - 1, next, count),
                _ => (model.epoch, next, count),
            };
            let h = header(id, epoch, sequence, count);
            let expected = model.verdict(&h);
            let found = match p.check(&h, 0, DAY) {
                Ok(None) => Verdict::Append,
                Ok(Some(offset)) => Verdict::Duplicate(offset.0),
                Err(LogError::DuplicateForgotten { .. }) => Verdict::Forgotten,
                Err(LogError::OutOfOrderSequence { .. }) => Verdict::Gap,
                Err(LogError::ProducerFenced { .. }) => Verdict::Fenced,
                Err(other) => return Err(TestCaseError::fail(other.to_string())),
            };
            // Of what was appended once, but not as a batch of the window, a part may be called a gap: both are refused. What
            // was not appended is never said to have been.
            let cautious = expected == Verdict::Forgotten && found == Verdict::Gap;
            let plain = model.batches.len().checked_sub(WINDOW + back).is_some() && what < 7 && begin == 0;
            prop_assert!(found == expected || (cautious && !plain), "{found:?}, expected {expected:?} of {h:?}");
            if found == Verdict::Append {
                p.record(&h, Offset(end), 0);
                if epoch != model.epoch {
                    *model = Model { epoch, batches: Vec::new() };
                }
                model.batches.push((sequence, count, end));
                end += u64::from(count);
            }
            p.check_invariants();
        }
        let mut bytes = Vec::new();
        p.encode(&mut bytes);
        let mut r = Reader::new(&bytes);
        prop_assert_eq!(Producers::decode(&mut r).expect("round trip"), p);
        prop_assert_eq!(r.left(), 0);
        for cut in 0..bytes.len() {
            prop_assert!(Producers::decode(&mut Reader::new(&bytes[..cut])).is_err());
        }
    }
}
