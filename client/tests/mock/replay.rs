//! Replays: complete, in order, bounded, and through faults.

use crate::{
    client,
    server::{Fault, Mock},
};
use millpond_client::{Code, Error, Position, ProducerRecord, messages::Kind};
use tokio_stream::StreamExt;

/// Fills a topic: record N of a partition has the value "partition N" and the timestamp 1000·N + partition.
async fn fill(mock: &Mock, partitions: usize, records: usize) {
    mock.topic("t", partitions);
    let producer = client(mock).await.producer().batch_bytes(1024).build().await.expect("built");
    for n in 0..records {
        for p in 0..partitions {
            let value = format!("{p} {n}");
            let record = ProducerRecord::to("t").partition(p as u32).timestamp_ms((1000 * n + p) as i64).value(&value);
            producer.send(record).await.expect("handed over");
        }
    }
    producer.close().await.expect("delivered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_comes_once_and_in_order() {
    let mock = Mock::start(2).await;
    fill(&mock, 5, 3_000).await;
    let client = client(&mock).await;
    let mut replay = client.replay("t").buffer_bytes(1 << 20).records().await.expect("begun");
    assert_eq!((replay.total(), replay.passed()), (15_000, 0));
    let mut next = [0; 5];
    while let Some(record) = replay.next().await {
        let record = record.expect("read");
        let at = &mut next[record.partition as usize];
        assert_eq!(record.offset(), *at);
        assert_eq!(record.value().expect("a value"), format!("{} {at}", record.partition).as_bytes());
        *at += 1;
    }
    assert_eq!(next, [3_000; 5]);
    assert_eq!(replay.passed(), 15_000);
    assert!(replay.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stretch_begins_and_ends_where_it_was_asked_to() {
    let mock = Mock::start(1).await;
    fill(&mock, 2, 1_000).await;
    let client = client(&mock).await;
    let offsets = |from, to| {
        let replay = client.replay("t").partitions([1]).from(from).to(to);
        async move {
            let records: Vec<_> = replay.records().await.expect("begun").collect().await;
            records.into_iter().map(|r| r.expect("read").offset()).collect::<Vec<u64>>()
        }
    };
    assert_eq!(offsets(Position::Offset(10), Position::Offset(500)).await, (10..500).collect::<Vec<_>>());
    assert_eq!(offsets(Position::Time(20_000), Position::Time(30_002)).await, (20..31).collect::<Vec<_>>());
    assert_eq!(offsets(Position::Offset(990), Position::Latest).await, (990..1_000).collect::<Vec<_>>());
    assert_eq!(offsets(Position::Latest, Position::Latest).await, Vec::<u64>::new());
    assert_eq!(offsets(Position::Offset(5), Position::Offset(3)).await, Vec::<u64>::new());
    let missing = client.replay("t").partitions([7]).records().await.expect_err("no such partition");
    assert!(matches!(missing, Error::Invalid(_)));
    let missing = client.replay("nowhere").records().await.expect_err("no such topic");
    assert_eq!(missing.code(), Some(Code::UnknownTopic));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stretch_beyond_the_end_is_waited_for() {
    let mock = Mock::start(1).await;
    fill(&mock, 1, 10).await;
    let client = client(&mock).await;
    let mut replay = client.replay("t").from(Position::Offset(8)).to(Position::Offset(12)).records().await.expect("begun");
    let producer = client.producer().build().await.expect("built");
    for offset in 8..12 {
        if offset >= 10 {
            producer.send(ProducerRecord::to("t").value("late")).await.expect("handed over");
        }
        assert_eq!(replay.next().await.expect("not the end").expect("read").offset(), offset);
    }
    assert!(replay.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_merged_by_time() {
    let mock = Mock::start(2).await;
    fill(&mock, 3, 2_000).await;
    let mut merged = client(&mock).await.replay("t").buffer_bytes(1 << 20).merged().await.expect("begun");
    let mut last = -1;
    let mut count = 0;
    while let Some(record) = merged.next().await {
        let record = record.expect("read");
        assert!(record.timestamp_ms() > last, "{} after {last}", record.timestamp_ms());
        last = record.timestamp_ms();
        count += 1;
    }
    assert_eq!((count, merged.passed()), (6_000, 6_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_come_whole() {
    let mock = Mock::start(1).await;
    fill(&mock, 1, 1_000).await;
    let mut batches = client(&mock).await.replay("t").from(Position::Offset(3)).to(Position::Offset(997)).batches().await.expect("begun");
    let mut next = 3;
    while let Some(batch) = batches.next().await {
        let batch = batch.expect("read");
        millpond_batch::check(batch.bytes()).expect("whole");
        for record in batch.records().expect("readable") {
            assert_eq!(record.expect("readable").offset(), next);
            next += 1;
        }
    }
    assert_eq!(next, 997);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_connections_and_moves_do_not_lose_records() {
    for fault in [Fault::DropBefore, Fault::DropAfter, Fault::HalfReply, Fault::Garbage] {
        let mock = Mock::start(2).await;
        fill(&mock, 3, 2_000).await;
        mock.state().topics.get_mut("t").expect("filled").partitions[0].owner = 1;
        let again = fault.clone();
        mock.hook(move |_, kind, before, _| (kind == Kind::Fetch && before % 3 == 1 && before < 40).then(|| again.clone()));
        let client = client(&mock).await;
        let mut replay = client.replay("t").fetch_bytes(64 * 1024).buffer_bytes(256 * 1024).records().await.expect("begun");
        mock.state().topics.get_mut("t").expect("filled").partitions[0].owner = 0;
        let mut next = [0; 3];
        while let Some(record) = replay.next().await {
            let record = record.unwrap_or_else(|e| panic!("{fault:?}: {e}"));
            assert_eq!(record.offset(), next[record.partition as usize], "{fault:?}");
            next[record.partition as usize] += 1;
        }
        assert_eq!(next, [2_000; 3], "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_and_trimmed_offsets_are_told() {
    let mock = Mock::start(1).await;
    fill(&mock, 1, 100).await;
    let client = client(&mock).await;
    client.admin().delete_records("t", 0, 50).await.expect("trimmed");
    let mut replay = client.replay("t").from(Position::Offset(10)).records().await.expect("begun");
    assert!(matches!(replay.next().await, Some(Err(Error::NoPosition { .. }))));
    assert!(replay.next().await.is_none());
    {
        let mut state = mock.state();
        let batch = state.topics.get_mut("t").expect("filled").partitions[0].batches.last_mut().expect("a batch");
        let mut bytes = batch.to_vec();
        *bytes.last_mut().expect("a byte") ^= 1;
        *batch = bytes.into();
    }
    let mut replay = client.replay("t").records().await.expect("begun");
    let mut last = None;
    while let Some(record) = replay.next().await {
        last = Some(record);
    }
    assert!(matches!(last, Some(Err(Error::Damaged { .. }))), "{last:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_fetched_ahead_is_bounded() {
    let mock = Mock::start(1).await;
    mock.topic("t", 2);
    let client = client(&mock).await;
    let producer = client.producer().batch_bytes(16 * 1024).build().await.expect("built");
    let value = "x".repeat(1000);
    for n in 0..4_000 {
        producer.send(ProducerRecord::to("t").partition(n % 2).value(&value)).await.expect("handed over");
    }
    producer.close().await.expect("delivered");
    let mut replay = client.replay("t").buffer_bytes(256 * 1024).records().await.expect("begun");
    replay.next().await.expect("a record").expect("read");
    // Nobody reads on: fetching must come to rest, far from the 4 MB that there are.
    let mut before = 0;
    loop {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let now = mock.count(Kind::Fetch);
        if now == before {
            break;
        }
        before = now;
    }
    assert!(before <= 10, "{before} fetches of 64 KiB");
    assert_eq!(replay.fold(0, |n, r| n + u32::from(r.is_ok())).await, 3_999);
}
