use super::*;
use crate::{config::GroupConfig, group::Group};
use bytes::BytesMut;
use millpond_batch::{Builder, Compression, Producer, builder::NO_HEADERS};
use millpond_runtime::GroupId;
use proptest::prelude::*;

fn batch(base: u64, time: i64, producer: Option<Producer>) -> (Bytes, Header) {
    let mut builder = Builder::new(Compression::None, 256);
    builder.append(time, None, Some(b"value"), NO_HEADERS);
    let mut bytes: BytesMut = builder.build(producer).expect("a record");
    millpond_batch::stamp(&mut bytes, base, 1);
    let header = millpond_batch::check(&bytes).expect("what we built");
    (bytes.freeze(), header)
}

fn producer(sequence: i32) -> Option<Producer> {
    Some(Producer { id: 7, epoch: 0, base_sequence: sequence })
}

/// Three batches of one producer in term 1, then one of Raft's in term 3.
fn four() -> Group {
    let mut group =
        Group { replica: Some(Box::new(Replica::new(Bytes::from_static(b"1 2 3")))), ..Group::new(GroupId(5), GroupConfig::default()) };
    for n in 0..3 {
        let (bytes, header) = batch(n, 1_000 + n as i64, producer(n as i32));
        group.push(Term(1), bytes, Some(&header), 1, 0);
    }
    group.push(Term(3), Bytes::from_static(b"a new leader"), None, 1, 0);
    group
}

fn replica(group: &Group) -> &Replica {
    group.replica.as_ref().expect("it is one")
}

#[test]
fn what_goes_leaves_no_trace_in_the_end_in_times_or_in_producers() {
    let mut group = four();
    group.commit(Index(1));
    let gone = replica(&group).truncation(Index(1)).expect("only the first is committed");
    assert_eq!((gone.end_offset, gone.max_timestamp), (Offset(1), Some(1_000)));
    let _ = group.apply_truncation(&gone).expect("it may go");
    group.check();
    assert_eq!((group.last_index, group.end_offset, group.max_timestamp), (Index(1), Offset(1), Some(1_000)));
    assert_eq!(replica(&group).terms.of(Index(2)), Some(Term(1)), "the run of term 1 goes on for whoever asks");
    let again = batch(1, 9, producer(1)).1;
    assert!(matches!(group.producers.check(&again, 0, u64::MAX), Ok(None)), "its second batch is new again");
    let first = batch(0, 9, producer(0)).1;
    assert!(matches!(group.producers.check(&first, 0, u64::MAX), Ok(Some(Offset(0)))), "its first one is there");
    // And all of it: then the producer was never there.
    let mut none = four();
    let gone = replica(&none).truncation(Index(0)).expect("nothing is committed");
    let _ = none.apply_truncation(&gone).expect("it may go");
    assert!(none.producers.is_empty() && none.max_timestamp.is_none() && replica(&none).terms.last().is_none());
}

#[test]
fn what_is_committed_does_not_go() {
    let mut group = four();
    group.commit(Index(3));
    assert_eq!(replica(&group).truncation(Index(2)), None);
    let forged = Truncation { last_index: Index(2), end_offset: Offset(2), max_timestamp: None, producers: Vec::new() };
    assert!(group.apply_truncation(&forged).is_err());
    assert_eq!(group.last_index, Index(4));
}

#[test]
fn a_note_that_cannot_be_true_is_refused() {
    let mut group = four();
    let gone = replica(&group).truncation(Index(2)).expect("nothing is committed");
    for forged in [
        Truncation { end_offset: Offset(1), ..gone.clone() },
        Truncation { end_offset: Offset(3), ..gone.clone() },
        Truncation { end_offset: Offset(9), ..gone.clone() },
        Truncation { last_index: Index(4), ..gone.clone() },
    ] {
        assert!(group.apply_truncation(&forged).is_err(), "{forged:?}");
    }
    group.check();
    let mut late = four();
    late.last_index = Index(3);
    assert!(late.sound().is_err(), "term 3 begins with entry 4");
    assert!(group.apply_truncation(&gone).is_ok());
}

#[test]
fn readers_see_what_is_both_committed_and_synced() {
    let mut group = four();
    group.commit(Index(2));
    assert_eq!(group.lasting_offset(), Offset(0), "nothing is synced");
    (group.synced_index, group.synced_offset) = (Index(4), Offset(3));
    assert_eq!((group.lasting_index(), group.lasting_offset()), (Index(2), Offset(2)));
}

#[test]
fn a_vote_a_term_and_a_commit_are_not_taken_back() {
    let mut group = four();
    let hard = HardState { term: Term(3), vote: 2, commit: Index(2) };
    group.check_hard(&hard).expect("fine");
    group.apply_hard(hard);
    for (wrong, why) in [
        (HardState { vote: 1, ..hard }, "another vote"),
        (HardState { term: Term(2), ..hard }, "an older term"),
        (HardState { commit: Index(1), ..hard }, "less committed"),
        (HardState { commit: Index(5), ..hard }, "more than there is"),
    ] {
        assert!(group.check_hard(&wrong).is_err(), "{why}");
    }
    group.check_hard(&HardState { term: Term(4), vote: 1, commit: Index(4) }).expect("a new term, a new vote");
}

proptest! {
    #[test]
    fn terms_say_what_each_entry_was_written_in(entries in prop::collection::vec(0_u64..3, 1..40), keep in 0_usize..40, trim in 0_u64..40) {
        let mut all: Vec<Term> = Vec::new();
        let mut terms = Terms::default();
        for (n, step) in entries.iter().enumerate() {
            let term = Term(all.last().map_or(1, |last| last.0) + step);
            all.push(term);
            terms.push(Index(n as u64 + 1), term);
        }
        let keep = keep.min(all.len());
        all.truncate(keep);
        terms.truncate(Index(keep as u64));
        prop_assert_eq!(terms.last(), all.last().copied());
        let mut bytes = Vec::new();
        terms.encode(&mut bytes);
        let mut read = Terms::decode(&mut Reader::new(&bytes)).expect("what we wrote");
        prop_assert_eq!(&read, &terms);
        let trim = trim.min(keep as u64);
        read.trim(Index(trim));
        for (n, term) in all.iter().enumerate().skip(trim.saturating_sub(1) as usize) {
            prop_assert_eq!(read.of(Index(n as u64 + 1)), Some(*term));
        }
    }

    #[test]
    fn foreign_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Replica::decode(&mut Reader::new(&bytes));
        let _ = Truncation::decode(&mut Reader::new(&bytes));
    }

    #[test]
    fn a_truncation_reads_as_it_was_written(keep in 0_u64..4) {
        let group = four();
        let Some(gone) = replica(&group).truncation(Index(keep)) else { return Ok(()) };
        let mut bytes = Vec::new();
        gone.encode(&mut bytes);
        prop_assert_eq!(Truncation::decode(&mut Reader::new(&bytes)).expect("what we wrote"), gone);
    }
}
