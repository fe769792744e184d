//! Consuming: positions, groups that change, and commits.

use crate::{
    client,
    server::{Fault, Mock},
};
use millpond_client::{
    Client, Code, Consumer, Effect, Error, OffsetReset, Position, ProducerRecord,
    messages::{Failure, Kind},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

/// Longer than anything takes; shows as a failure, since it is looked at.
const PATIENCE: Duration = Duration::from_secs(20);

async fn produce(client: &Client, partitions: u32, from: usize, to: usize) {
    let producer = client.producer().build().await.expect("built");
    for n in from..to {
        let value = n.to_string();
        producer.send(ProducerRecord::to("t").partition(n as u32 % partitions).value(&value)).await.expect("handed over");
    }
    producer.close().await.expect("delivered");
}

async fn next(consumer: &mut Consumer) -> usize {
    let began = tokio::time::Instant::now();
    let record = tokio::time::timeout(PATIENCE, consumer.next()).await.expect("in time").expect("not the end").expect("read");
    // A time-out looks once more before it gives up, and would hide that nobody was woken.
    assert!(began.elapsed() < PATIENCE, "nobody was woken");
    std::str::from_utf8(record.value().expect("a value")).expect("text").parse().expect("a number")
}

async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let until = tokio::time::Instant::now() + PATIENCE;
    while !done() {
        assert!(tokio::time::Instant::now() < until, "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whoever had a partition says who has it, and where: nobody else has to be asked, and reading goes on there at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_old_owner_tells_readers_of_the_new_one() {
    let mock = Mock::start(3).await;
    mock.topic("t", 1);
    mock.0.directs.store(true, Ordering::Relaxed);
    let client = Client::builder().bootstrap(&mock.address()).backoff(2 * PATIENCE, 2 * PATIENCE);
    let client = client.connect().await.expect("the mock answers");
    let producer = client.producer().build().await.expect("built");
    let mut consumer = client.consumer().topics(["t"]).offset_reset(OffsetReset::Earliest).build().await.expect("built");
    for (round, owner) in [0, 1, 2, 1, 0].into_iter().enumerate() {
        mock.state().topics.get_mut("t").expect("created").partitions[0].owner = owner;
        for n in round * 10..round * 10 + 10 {
            let value = n.to_string();
            producer.send(ProducerRecord::to("t").value(&value)).await.expect("handed over").await.expect("delivered");
            assert_eq!(next(&mut consumer).await, n);
        }
        mock.hook(|_, kind, _, _| (kind == Kind::Metadata).then_some(Fault::Silence));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_come_as_they_are_produced() {
    let mock = Mock::start(2).await;
    mock.topic("t", 1);
    let client = client(&mock).await;
    let mut consumer = client.consumer().topics(["t"]).offset_reset(OffsetReset::Earliest).build().await.expect("built");
    for round in 0..10 {
        produce(&client, 1, round * 10, round * 10 + 10).await;
        for n in round * 10..round * 10 + 10 {
            assert_eq!(next(&mut consumer).await, n);
        }
    }
    assert_eq!((consumer.position("t", 0), consumer.lag()), (Some(100), Some(0)));
    consumer.seek("t", 0, Position::Offset(50)).await.expect("sought");
    assert_eq!(next(&mut consumer).await, 50);
    consumer.seek("t", 0, Position::Latest).await.expect("sought");
    produce(&client, 1, 100, 101).await;
    assert_eq!(next(&mut consumer).await, 100);
    consumer.seek("t", 3, Position::Latest).await.expect_err("not read");
    assert!(consumer.commit().await.is_err_and(|e| matches!(e, Error::Invalid(_))));
    consumer.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_partition_is_left_alone() {
    let mock = Mock::start(1).await;
    mock.topic("t", 2);
    let client = client(&mock).await;
    let mut consumer = client.consumer().build().await.expect("built");
    consumer.assign("t", &[(0, Position::Earliest), (1, Position::Earliest)]).await.expect("assigned");
    consumer.pause("t", 0).expect("read");
    produce(&client, 2, 0, 10).await;
    for n in [1, 3, 5, 7, 9] {
        assert_eq!(next(&mut consumer).await, n);
    }
    assert!(tokio::time::timeout(Duration::from_millis(100), consumer.next()).await.is_err(), "nothing of the paused one");
    consumer.resume("t", 0).expect("read");
    for n in [0, 2] {
        assert_eq!(next(&mut consumer).await, n);
    }
    // In the middle of what was fetched.
    consumer.pause("t", 0).expect("read");
    produce(&client, 2, 11, 12).await;
    assert_eq!(next(&mut consumer).await, 11);
    consumer.resume("t", 0).expect("read");
    for n in [4, 6, 8] {
        assert_eq!(next(&mut consumer).await, n);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_goes_on_where_it_left_off() {
    let mock = Mock::start(1).await;
    mock.topic("t", 1);
    let client = client(&mock).await;
    produce(&client, 1, 0, 100).await;
    let member = |client: &Client| client.consumer().group("g").topics(["t"]).offset_reset(OffsetReset::Earliest).auto_commit(None).build();
    let mut consumer = member(&client).await.expect("built");
    for n in 0..30 {
        assert_eq!(next(&mut consumer).await, n);
    }
    consumer.commit().await.expect("committed");
    assert_eq!(mock.committed("g", "t", 0), Some(30));
    assert_eq!(next(&mut consumer).await, 30);
    consumer.close().await.expect("left");
    assert_eq!(mock.committed("g", "t", 0), Some(30), "nothing is committed without being told to");
    let mut consumer = member(&client).await.expect("built");
    assert_eq!(next(&mut consumer).await, 30);
    consumer.close().await.expect("left");
    assert_eq!(client.admin().positions("g").await.expect("told").get(&("t".to_owned(), 0)), Some(&30));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_processed_is_committed_in_the_background() {
    let mock = Mock::start(1).await;
    mock.topic("t", 1);
    let client = client(&mock).await;
    produce(&client, 1, 0, 10).await;
    let mut consumer = client
        .consumer()
        .group("g")
        .topics(["t"])
        .offset_reset(OffsetReset::Earliest)
        .auto_commit(Some(Duration::from_millis(10)))
        .build()
        .await
        .expect("built");
    for n in 0..5 {
        assert_eq!(next(&mut consumer).await, n);
    }
    eventually("four are done with", || mock.committed("g", "t", 0) == Some(4)).await;
    let rest = consumer.poll(100, PATIENCE).await.expect("read");
    assert_eq!(rest.len(), 5);
    eventually("what came before the poll is done with", || mock.committed("g", "t", 0) == Some(5)).await;
    consumer.close().await.expect("left");
    assert_eq!(mock.committed("g", "t", 0), Some(10), "at the end all is");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_share_partitions_and_hand_them_over() {
    let mock = Mock::start(2).await;
    mock.topic("t", 4);
    let client = client(&mock).await;
    let events = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&events);
    let one = client.consumer().group("g").topics(["t"]).offset_reset(OffsetReset::Earliest);
    let mut one = one
        .on_rebalance(move |change| log.lock().expect("whole").push(format!("{change:?}").split('(').next().map(str::to_owned)))
        .build()
        .await
        .expect("built");
    eventually("one has all", || one.assignment().len() == 4).await;
    produce(&client, 4, 0, 100).await;
    let mut seen = BTreeSet::new();
    for _ in 0..100 {
        seen.insert(next(&mut one).await);
    }
    let mut two = client.consumer().group("g").topics(["t"]).offset_reset(OffsetReset::Earliest).build().await.expect("built");
    eventually("both have two", || one.assignment().len() == 2 && two.assignment().len() == 2).await;
    assert!(one.assignment().iter().all(|part| !two.assignment().contains(part)));
    produce(&client, 4, 100, 200).await;
    for _ in 0..50 {
        let n = next(&mut one).await;
        assert!(seen.insert(n), "{n} twice");
    }
    // The last record before the hand-over was in hand, not processed: it may come again.
    let mut again = 0;
    while seen.len() < 200 {
        again += u32::from(!seen.insert(next(&mut two).await));
    }
    assert!(again <= 1, "{again} came again");
    two.close().await.expect("left");
    eventually("one has all again", || one.assignment().len() == 4).await;
    drop(one);
    let kinds: Vec<String> = events.lock().expect("whole").iter().flatten().cloned().collect();
    assert_eq!(kinds, ["Assigned", "Revoked", "Assigned"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_forgotten_joins_again() {
    let mock = Mock::start(1).await;
    mock.topic("t", 1);
    let client = client(&mock).await;
    produce(&client, 1, 0, 10).await;
    let mut consumer = client.consumer().group("g").topics(["t"]).offset_reset(OffsetReset::Earliest).build().await.expect("built");
    for n in 0..10 {
        assert_eq!(next(&mut consumer).await, n);
    }
    consumer.commit().await.expect("committed");
    mock.forget_members();
    produce(&client, 1, 10, 20).await;
    let mut seen = BTreeSet::new();
    while seen.len() < 10 {
        seen.insert(next(&mut consumer).await);
    }
    assert_eq!(seen, (10..20).collect());
}

/// A consumer that has read 10 records of 100, committed 5 of them, and waits for its heartbeats to go wrong.
async fn ten_read_and_five_committed(mock: &Mock, client: &Client) -> Consumer {
    mock.topic("t", 1);
    produce(client, 1, 0, 100).await;
    let consumer = client.consumer().group("g").topics(["t"]).offset_reset(OffsetReset::Earliest).auto_commit(None);
    let mut consumer = consumer.build().await.expect("built");
    for n in 0..10 {
        assert_eq!(next(&mut consumer).await, n);
    }
    consumer.commit_positions([("t".into(), 0, 5)]).await.expect("committed");
    consumer
}

/// Nobody is in the group, so that a commit from outside would be taken: and the next member would go on behind what it hands out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_no_member_any_more_commits_nothing() {
    let mock = Mock::start(1).await;
    let client = client(&mock).await;
    let consumer = ten_read_and_five_committed(&mock, &client).await;
    mock.hook(|_, kind, _, _| {
        (kind == Kind::GroupHeartbeat).then(|| Fault::Refuse(Failure::new(Code::UnknownMember, "who are you", "join")))
    });
    mock.forget_members();
    eventually("it has lost what it read", || consumer.assignment().is_empty()).await;
    let error = consumer.commit_positions([("t".into(), 0, 10)]).await.expect_err("no member");
    assert_eq!((error.code(), error.effect()), (Some(Code::UnknownMember), Effect::None));
    assert_eq!(mock.committed("g", "t", 0), Some(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_in_one_membership_is_not_committed_in_the_next() {
    let mock = Mock::start(1).await;
    let client = client(&mock).await;
    let mut consumer = ten_read_and_five_committed(&mock, &client).await;
    let joins = mock.count(Kind::FetchOffsets);
    mock.forget_members();
    eventually("it is a member again", || mock.count(Kind::FetchOffsets) > joins && !consumer.assignment().is_empty()).await;
    let error = consumer.commit_positions([("t".into(), 0, 10)]).await.expect_err("of the membership before");
    assert_eq!(error.code(), Some(Code::UnknownMember));
    assert_eq!(mock.committed("g", "t", 0), Some(5));
    assert_eq!(next(&mut consumer).await, 5);
    consumer.commit_positions([("t".into(), 0, 6)]).await.expect("committed");
    assert_eq!(mock.committed("g", "t", 0), Some(6));
}

/// A commit is repeated, since its connection was lost, while the member loses what it reads and gets it back: if the commit is kept in the
/// end, then that is where the member goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_goes_on_from_its_last_commit() {
    let mock = Mock::start(1).await;
    let client = client(&mock).await;
    let mut consumer = ten_read_and_five_committed(&mock, &client).await;
    let (mut commits, mut beats, mut asked) = (0, 0, false);
    mock.hook(move |_, kind, _, _| match kind {
        // The server still knows it: only the member has given up.
        Kind::GroupHeartbeat => {
            beats += 1;
            (beats == 1).then(|| Fault::Refuse(Failure::new(Code::UnknownMember, "who are you", "join")))
        }
        Kind::FetchOffsets => {
            asked = true;
            None
        }
        // Until it asks where to go on; or for so long that it would have.
        Kind::CommitOffsets => {
            commits += 1;
            (!asked && commits < 40).then_some(Fault::DropBefore)
        }
        _ => None,
    });
    let committed = consumer.commit_positions([("t".into(), 0, 10)]).await;
    let joined = mock.count(Kind::FetchOffsets);
    eventually("it has asked where to go on", || mock.count(Kind::FetchOffsets) >= joined.max(2)).await;
    eventually("it reads again", || !consumer.assignment().is_empty()).await;
    let at = mock.committed("g", "t", 0).expect("some are");
    assert_eq!(at, if committed.is_ok() { 10 } else { 5 });
    assert_eq!(next(&mut consumer).await as u64, at);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_outlive_lost_connections() {
    for fault in [Fault::DropBefore, Fault::DropAfter, Fault::HalfReply, Fault::Silence] {
        let mock = Mock::start(1).await;
        mock.topic("t", 2);
        let client = client(&mock).await;
        let again = fault.clone();
        mock.hook(move |_, kind, before, _| {
            let hit = matches!(kind, Kind::Fetch | Kind::GroupHeartbeat | Kind::FetchOffsets | Kind::CommitOffsets);
            (hit && before % 4 == 1 && before < 20).then(|| again.clone())
        });
        let mut consumer = client
            .consumer()
            .group("g")
            .topics(["t"])
            .offset_reset(OffsetReset::Earliest)
            .fetch_wait(Duration::from_millis(50))
            .build()
            .await
            .expect("built");
        let mut seen = BTreeSet::new();
        for round in 0..5 {
            produce(&client, 2, round * 20, round * 20 + 20).await;
            while seen.len() < round * 20 + 20 {
                let n = next(&mut consumer).await;
                assert!(seen.insert(n), "{fault:?}: {n} twice");
            }
        }
        consumer.commit().await.expect("committed in the end");
        assert_eq!((mock.committed("g", "t", 0), mock.committed("g", "t", 1)), (Some(50), Some(50)), "{fault:?}");
        consumer.close().await.expect("left");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_out_of_range_are_reset_as_asked() {
    let mock = Mock::start(1).await;
    mock.topic("t", 1);
    let client = client(&mock).await;
    produce(&client, 1, 0, 20).await;
    client.admin().delete_records("t", 0, 10).await.expect("trimmed");
    let mut consumer = client.consumer().offset_reset(OffsetReset::Earliest).build().await.expect("built");
    consumer.assign("t", &[(0, Position::Offset(3))]).await.expect("assigned");
    let first = consumer.next().await.expect("a record").expect("read");
    assert!((8..=10).contains(&first.offset()), "the batch that holds offset 10 is whole: {}", first.offset());
    let mut consumer = client.consumer().offset_reset(OffsetReset::Fail).build().await.expect("built");
    consumer.assign("t", &[(0, Position::Offset(3))]).await.expect("assigned");
    assert!(matches!(consumer.next().await, Some(Err(Error::NoPosition { .. }))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_json_where_they_should_be() {
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Order {
        customer: String,
        total: u32,
    }
    let mock = Mock::start(1).await;
    mock.topic("t", 1);
    let client = client(&mock).await;
    let producer = client.producer().build().await.expect("built");
    let order = Order { customer: "Ada".into(), total: 12 };
    producer.send_json(ProducerRecord::to("t").key("1").header("v", "2"), &order).await.expect("handed over");
    producer.send(ProducerRecord::to("t").value("no json")).await.expect("handed over");
    producer.close().await.expect("delivered");
    let mut consumer = client.consumer().topics(["t"]).offset_reset(OffsetReset::Earliest).build().await.expect("built");
    let (read, record) = consumer.next_json::<Order>().await.expect("a record").expect("read");
    assert_eq!(read, order);
    let headers: Vec<_> = record.headers().map(|h| (h.key, h.value)).collect();
    assert_eq!(headers, [("v".into(), Some("2".into()))]);
    let error = consumer.next_json::<Order>().await.expect("a record").expect_err("no JSON");
    assert!(matches!(error, Error::Json { .. }) && error.to_string().contains("t-0 at offset 1"), "{error}");
    let error = client.consumer().topics(["nowhere"]).build().await.expect_err("no such topic");
    assert_eq!(error.code(), Some(Code::UnknownTopic));
}
