use super::*;
use crate::entry::EntryKind;
use millpond_runtime::Term;

fn entry(index: u64, base: u64, count: u64, file_seq: u64) -> TailEntry {
    let payload = Bytes::from(vec![index as u8; 100]);
    TailEntry {
        entry: Entry { index: Index(index), term: Term(1), kind: EntryKind::Batch, base_offset: Offset(base), payload },
        next_offset: Offset(base + count),
        max_timestamp: index as i64 * 10,
        file_seq,
    }
}

/// Entries 1 to 6, two records each, two to a journal file.
fn six() -> Tail {
    let mut tail = Tail::default();
    for i in 1..=6 {
        tail.push(entry(i, (i - 1) * 2, 2, i.div_ceil(2)));
    }
    tail
}

const COST: usize = 100 + ENTRY_OVERHEAD_BYTES;

#[test]
fn released_entries_stay_readable_until_they_are_evicted() {
    let mut tail = six();
    assert_eq!(tail.needed_file(), Some(1));
    assert_eq!(tail.release(Index(3)), Moved { unsettled: 3 * COST, cached_in: 3 * COST, cached_out: 0 });
    assert_eq!((tail.needed_file(), tail.unsettled()), (Some(2), 3));
    assert_eq!(tail.first_offset(), Some(Offset(0)));
    assert_eq!(tail.evict(Index(2)), Moved { cached_out: 2 * COST, ..Moved::default() });
    assert_eq!(tail.first_offset(), Some(Offset(4)));
    assert_eq!(tail.evict(Index(6)), Moved { cached_out: COST, ..Moved::default() }, "only what is settled leaves");
    tail.check();
}

#[test]
fn trim_takes_settled_and_unsettled_alike_and_whole_entries_only() {
    let mut tail = six();
    let _ = tail.release(Index(1));
    assert_eq!(tail.trim(Offset(5), Index(6)), Moved { unsettled: COST, cached_in: 0, cached_out: COST });
    assert_eq!(tail.first_offset(), Some(Offset(4)));
    tail.check();
}

#[test]
fn a_read_gives_whole_batches_within_limits_and_one_at_least() {
    let tail = six();
    let next = |from, end, bytes| tail.read(Offset(from), Offset(end), bytes).map(|out| (out.batches.len(), out.next.0));
    assert_eq!(next(0, 12, 1), Some((1, 2)));
    assert_eq!(next(1, 12, 250), Some((2, 4)), "the first batch begins before the offset");
    assert_eq!(next(3, 4, 10_000), Some((1, 4)), "the end is not passed");
    let mut tail = tail;
    let _ = tail.release(Index(6));
    let _ = tail.evict(Index(2));
    assert_eq!(tail.read(Offset(3), Offset(12), 10_000), None, "memory begins later");
}

#[test]
fn time_finds_the_first_batch_that_may_hold_it() {
    let tail = six();
    let at = |from, end, ms| tail.find_time(Offset(from), Offset(end), ms).map(|(_, next)| next.0);
    assert_eq!(at(0, 12, 25), Some(6));
    assert_eq!(at(8, 12, 25), Some(10));
    assert_eq!(at(0, 4, 25), None);
}

#[test]
fn gather_is_bounded_and_gives_one_at_least() {
    let tail = six();
    let indexes = |after, upto, bytes| tail.gather(Index(after), Index(upto), bytes).map(|e| e.entry.index.0).collect::<Vec<_>>();
    assert_eq!(indexes(0, 6, 1), [1]);
    assert_eq!(indexes(2, 4, 10_000), [3, 4]);
    assert_eq!(indexes(1, 6, 300), [2, 3, 4]);
}
