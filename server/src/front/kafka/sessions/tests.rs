use super::*;
use crate::kafka::wire::CurrentLeader;
use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    messages::{TopicName, fetch_request as f},
    protocol::{Encodable, StrBytes},
};

const NOT_FOUND: Option<i16> = Some(codes::FETCH_SESSION_ID_NOT_FOUND);
const WRONG_EPOCH: Option<i16> = Some(codes::INVALID_FETCH_SESSION_EPOCH);

/// A request of the session with this id and epoch: partitions, with where to read from, and those that are forgotten.
fn asks(id: i32, epoch: i32, wanted: &[(&str, i32, i64)], forgotten: &[(&str, i32)]) -> FetchRequest {
    let name = |name: &str| TopicName(StrBytes::from_string(name.into()));
    let topic = |(topic, partition, offset): &(&str, i32, i64)| {
        let wanted = f::FetchPartition::default().with_partition(*partition).with_fetch_offset(*offset);
        f::FetchTopic::default().with_topic(name(topic)).with_partitions(vec![wanted])
    };
    let forget = |(topic, partition): &(&str, i32)| f::ForgottenTopic::default().with_topic(name(topic)).with_partitions(vec![*partition]);
    let request = kafka_protocol::messages::FetchRequest::default().with_session_id(id).with_session_epoch(epoch);
    let request =
        request.with_topics(wanted.iter().map(topic).collect()).with_forgotten_topics_data(forgotten.iter().map(forget).collect());
    let mut body = BytesMut::new();
    request.encode(&mut body, 12).expect("a request");
    FetchRequest::read(body.freeze(), 12).expect("it is sound")
}

/// What was read of a partition: how many bytes, and where it ends.
fn read(bytes: usize, end: i64) -> FetchedPartition {
    FetchedPartition {
        partition_index: 0,
        error_code: codes::NONE,
        high_watermark: end,
        last_stable_offset: end,
        log_start_offset: 0,
        diverging_epoch: EpochEnd::UNKNOWN,
        current_leader: CurrentLeader::UNKNOWN,
        aborted_transactions: None,
        preferred_read_replica: -1,
        records: vec![Bytes::from(vec![0; bytes])],
    }
}

/// Goes through a plan: what is in the session then, or the code.
fn go(kept: &mut Option<Session>, pool: &Pool, asked: &FetchRequest) -> Result<Vec<(String, i32, i64)>, i16> {
    Ok(match plan(kept, pool, 7, asked)? {
        Plan::Without => Vec::new(),
        Plan::Begins(session) | Plan::GoesOn(session) => {
            let row = session.row().map(|(_, topic, at)| (name_of(topic), at.partition, at.fetch_offset)).collect();
            *kept = Some(session);
            row
        }
    })
}

fn name_of(topic: &TopicKey) -> String {
    match topic {
        TopicKey::Name(name) => name.to_string(),
        TopicKey::Id(id) => panic!("asked for by its name, kept by {id:?}"),
    }
}

fn at(topic: &str, partition: i32, offset: i64) -> (String, i32, i64) {
    (topic.to_owned(), partition, offset)
}

#[test]
fn a_session_goes_on_by_its_epochs_and_says_what_has_changed() {
    let (pool, mut kept) = (Pool::new(1 << 20), None);
    assert_eq!(go(&mut kept, &pool, &asks(7, 1, &[], &[])).err(), NOT_FOUND, "there is none");
    assert_eq!(go(&mut kept, &pool, &asks(0, -1, &[("a", 0, 5)], &[])), Ok(vec![]), "without one");
    assert_eq!(go(&mut kept, &pool, &asks(0, 0, &[("a", 0, 5), ("b", 1, 6)], &[])), Ok(vec![at("a", 0, 5), at("b", 1, 6)]));
    assert_eq!(go(&mut kept, &pool, &asks(7, 1, &[], &[])), Ok(vec![at("a", 0, 5), at("b", 1, 6)]), "as before");
    assert_eq!(go(&mut kept, &pool, &asks(7, 1, &[], &[])).err(), WRONG_EPOCH, "it was there already");
    assert_eq!(go(&mut kept, &pool, &asks(7, 3, &[], &[])).err(), WRONG_EPOCH, "one is missing");
    assert_eq!(go(&mut kept, &pool, &asks(8, 2, &[], &[])).err(), NOT_FOUND, "it is another one");
    let changed = asks(7, 2, &[("a", 0, 9), ("c", 0, 1)], &[("b", 1), ("b", 2), ("nowhere", 0)]);
    assert_eq!(go(&mut kept, &pool, &changed), Ok(vec![at("a", 0, 9), at("c", 0, 1)]));
    kept.as_mut().expect("it is kept").epoch = i32::MAX;
    assert!(go(&mut kept, &pool, &asks(7, i32::MAX, &[], &[])).is_ok());
    assert_eq!(kept.as_ref().map(|session| session.epoch), Some(1), "neither 0 nor below");
    assert_eq!(go(&mut kept, &pool, &asks(7, 1, &[], &[("a", 0), ("c", 0)])), Ok(vec![]), "nothing is left, and it is over");
    assert!(kept.is_none() && pool.used() == 0);
    go(&mut kept, &pool, &asks(0, 0, &[("a", 0, 5)], &[])).expect("begun");
    go(&mut kept, &pool, &asks(0, 0, &[("b", 0, 5)], &[])).expect("another one takes its place");
    go(&mut kept, &pool, &asks(6, -1, &[], &[])).expect("of another one");
    assert!(kept.is_some());
    go(&mut kept, &pool, &asks(7, -1, &[], &[])).expect("closed");
    assert!(kept.is_none() && pool.used() == 0);
}

#[test]
fn what_has_not_changed_is_not_told_and_what_was_read_is_read_last() {
    let (pool, mut kept) = (Pool::new(1 << 20), None);
    go(&mut kept, &pool, &asks(0, 0, &[("t", 0, 0), ("t", 1, 0), ("u", 0, 0)], &[])).expect("begun");
    let session = kept.as_mut().expect("it is kept");
    let turns = |session: &Session| session.row().map(|(turn, topic, at)| (turn, name_of(topic), at.partition)).collect::<Vec<_>>();
    let [first, second, third] = [0, 1, 2];
    assert!([first, second, third].map(|turn| session.note(turn, &read(0, 5))).iter().all(|told| *told), "nothing was told before");
    assert!(![first, second, third].map(|turn| session.note(turn, &read(0, 5))).iter().any(|told| *told));
    assert!(session.note(second, &read(10, 5)), "records are told");
    assert_eq!(turns(session), [(0, "t".into(), 0), (2, "u".into(), 0), (3, "t".into(), 1)]);
    assert!(session.note(first, &read(0, 6)) && !session.note(first, &read(0, 6)), "the end has moved");
    assert!(session.note(first, &FetchedPartition { log_start_offset: 2, ..read(0, 6) }), "the start has");
    assert!(session.note(first, &FetchedPartition { last_stable_offset: 5, log_start_offset: 2, ..read(0, 6) }));
    let failed = FetchedPartition { error_code: 6, ..read(0, -1) };
    assert!(session.note(first, &failed) && session.note(first, &failed), "a failure is told each time");
    assert!(session.note(first, &read(0, 6)) && !session.note(first, &read(0, 6)), "and once that it is over");
    assert!(session.note(first, &FetchedPartition { preferred_read_replica: 2, ..read(0, 6) }));
    assert!(session.note(99, &read(0, 1)), "whatever is not in it");
}

#[test]
fn where_there_is_no_room_there_is_no_session() {
    let (pool, mut kept) = (Pool::new(4 * 1024), None);
    let many: Vec<(&str, i32, i64)> = (0..100).map(|n| ("t", n, 0)).collect();
    assert_eq!(go(&mut kept, &pool, &asks(0, 0, &many, &[])), Ok(vec![]), "it says all each time");
    assert_eq!(pool.used(), 0);
    go(&mut kept, &pool, &asks(0, 0, &many[..4], &[])).expect("begun");
    assert!(kept.is_some() && pool.used() > 0);
    let mut other = None;
    assert_eq!(go(&mut other, &pool, &asks(0, 0, &many[..15], &[])), Ok(vec![]), "another connection has no room");
    assert_eq!(go(&mut kept, &pool, &asks(7, 1, &many, &[])).err(), NOT_FOUND, "it grows too large, and is over");
    assert!(kept.is_none() && pool.used() == 0);
}
