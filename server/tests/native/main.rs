//! The client crate against a real server: a process, its disk, and its crashes.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "real processes, in real time")]

mod node;

use millpond_client::{
    Client, Code, Compression, Consumer, Delivery, Effect, Error, NewTopic, OffsetReset, OffsetSpec, Position, ProducerRecord,
    messages::AlterQuota, setting,
};
use node::Node;
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A client that is patient enough for a restart.
async fn client(node: &Node) -> Client {
    Client::builder()
        .bootstrap(&node.address())
        .client_id("tests")
        .request_timeout(Duration::from_secs(10))
        .connect()
        .await
        .expect("it serves")
}

async fn topic(client: &Client, name: &str, partitions: u32) {
    client.admin().create_topic(NewTopic::new(name).partitions(partitions)).await.expect("created");
}

/// The values of a partition, as numbers.
async fn numbers(client: &Client, name: &str, partition: u32) -> Vec<u64> {
    let mut replay = client.replay(name).partitions([partition]).records().await.expect("begun");
    let mut numbers = Vec::new();
    while let Some(record) = replay.next().await {
        let record = record.expect("read");
        assert_eq!(record.offset(), numbers.len() as u64);
        numbers.push(number(record.value().expect("a value")));
    }
    numbers
}

fn number(value: &[u8]) -> u64 {
    let digits = value.split(|b| *b == b' ').next().expect("the first word");
    std::str::from_utf8(digits).expect("text").parse().expect("a number")
}

async fn next(consumer: &mut Consumer) -> u64 {
    let began = Instant::now();
    let record = tokio::time::timeout(PATIENCE, consumer.next()).await.expect("in time").expect("not the end").expect("read");
    // A time-out looks once more before it gives up, and would hide that nobody was woken.
    assert!(began.elapsed() < PATIENCE, "nobody was woken");
    number(record.value().expect("a value"))
}

async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_produced_is_read_by_all_ways() {
    let node = Node::start();
    let client = client(&node).await;
    topic(&client, "t", 4).await;
    let mut next_number = 0_u64;
    for compression in [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let producer = client.producer().compression(compression).batch_bytes(16 * 1024).build().await.expect("built");
        for _ in 0..4_000 {
            let value = format!("{next_number} {}", "x".repeat(next_number as usize % 300));
            let record = ProducerRecord::to("t").partition(next_number as u32 % 4).timestamp_ms(next_number as i64).value(&value);
            producer.send(record.header("n", &next_number.to_be_bytes())).await.expect("handed over");
            next_number += 1;
        }
        producer.close().await.expect("delivered");
    }
    for partition in 0..4 {
        let expected: Vec<u64> = (0..20_000).filter(|n| n % 4 == u64::from(partition)).collect();
        assert_eq!(numbers(&client, "t", partition).await, expected);
    }
    let mut merged = client.replay("t").from(Position::Time(5_000)).to(Position::Time(15_000)).merged().await.expect("begun");
    for n in 5_000_u64..15_000 {
        let record = merged.next().await.expect("not the end").expect("read");
        assert_eq!((record.timestamp_ms(), number(record.value().expect("a value"))), (n as i64, n));
        assert_eq!(record.headers().next().expect("a header").value.expect("a value"), n.to_be_bytes().as_slice());
    }
    assert!(merged.next().await.is_none());
    let mut batches = client.replay("t").batches().await.expect("begun");
    let mut count = 0;
    while let Some(batch) = batches.next().await {
        count += batch.expect("read").records().expect("readable").count();
    }
    assert_eq!(count, 20_000);
    let mut consumer = client.consumer().topics(["t"]).offset_reset(OffsetReset::Earliest).build().await.expect("built");
    let mut seen = BTreeSet::new();
    for _ in 0..20_000 {
        assert!(seen.insert(next(&mut consumer).await));
    }
    assert_eq!(consumer.lag(), Some(0));
    // At the end: what comes is delivered at once.
    let producer = client.producer().build().await.expect("built");
    for n in 20_000..20_100 {
        let record = n.to_string();
        producer.send(ProducerRecord::to("t").value(&record)).await.expect("handed over").await.expect("delivered");
        assert_eq!(next(&mut consumer).await, n);
    }
}

/// Killed again and again while records pour in: each is there once, and in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crashes_lose_and_repeat_nothing() {
    let mut node = Node::start();
    let client = client(&node).await;
    topic(&client, "t", 2).await;
    let producer = client.producer().batch_bytes(4 * 1024).buffer_bytes(1 << 20).build().await.expect("built");
    let sender = producer.clone();
    let sending = tokio::spawn(async move {
        let mut deliveries: Vec<Delivery> = Vec::new();
        for n in 0..40_000_u64 {
            let value = format!("{n} {}", "y".repeat(100));
            let record = ProducerRecord::to("t").partition(n as u32 % 2).value(&value);
            deliveries.push(sender.send(record).await.expect("handed over"));
            if n % 100 == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        deliveries
    });
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        node.kill();
        node.serve();
    }
    let deliveries = sending.await.expect("no panic");
    producer.flush().await.expect("all delivered in the end");
    for (n, delivery) in deliveries.into_iter().enumerate() {
        assert_eq!(delivery.await.expect("delivered").offset, Some(n as u64 / 2));
    }
    for partition in 0..2 {
        let expected: Vec<u64> = (0..40_000).filter(|n| n % 2 == u64::from(partition)).collect();
        assert_eq!(numbers(&client, "t", partition).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_share_and_outlive_a_restart() {
    let mut node = Node::start();
    let client = client(&node).await;
    topic(&client, "t", 4).await;
    let producer = client.producer().build().await.expect("built");
    let produce = |from: u64, to: u64| {
        let producer = producer.clone();
        async move {
            for n in from..to {
                let value = n.to_string();
                producer.send(ProducerRecord::to("t").partition(n as u32 % 4).value(&value)).await.expect("handed over");
            }
            producer.flush().await.expect("delivered");
        }
    };
    let member = || client.consumer().group("g").topics(["t"]).offset_reset(OffsetReset::Earliest).build();
    let mut one = member().await.expect("built");
    eventually("one has all", || one.assignment().len() == 4).await;
    produce(0, 100).await;
    let mut seen = BTreeSet::new();
    for _ in 0..100 {
        assert!(seen.insert(next(&mut one).await));
    }
    one.commit().await.expect("committed");
    let mut two = member().await.expect("built");
    eventually("both have two", || one.assignment().len() == 2 && two.assignment().len() == 2).await;
    let group = client.admin().describe_group("g").await.expect("described");
    assert_eq!((group.members.len(), group.positions.len()), (2, 4));
    assert!(group.positions.iter().all(|p| p.end_offset == 25 && p.position.as_ref().is_some_and(|p| p.offset == 25)));
    produce(100, 200).await;
    for _ in 0..50 {
        assert!(seen.insert(next(&mut one).await));
        assert!(seen.insert(next(&mut two).await));
    }
    one.commit().await.expect("committed");
    two.commit().await.expect("committed");
    node.kill();
    node.serve();
    produce(200, 300).await;
    // Both were forgotten with the process, and join again: nothing is lost; what was committed does not come again.
    let mut fresh = BTreeSet::new();
    while fresh.len() < 100 {
        tokio::select! {
            n = next(&mut one) => fresh.insert(n),
            n = next(&mut two) => fresh.insert(n),
        };
    }
    assert_eq!(fresh, (200..300).collect());
    // They hear of it with their next heartbeats. Until then they are nobody who could commit, or leave.
    let until = Instant::now() + PATIENCE;
    while !client.admin().describe_group("g").await.is_ok_and(|group| group.members.len() == 2) {
        assert!(Instant::now() < until, "they did not join again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    eventually("both have two again", || one.assignment().len() == 2 && two.assignment().len() == 2).await;
    one.close().await.expect("left");
    eventually("two has all", || two.assignment().len() == 4).await;
    let error = client.admin().delete_group("g").await.expect_err("it has a member");
    assert_eq!(error.code(), Some(Code::GroupNotEmpty));
    two.close().await.expect("left");
    client.admin().delete_group("g").await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_offsets_and_quotas_are_looked_after() {
    let mut node = Node::start();
    let client = client(&node).await;
    let admin = client.admin();
    admin.create_topic(NewTopic::new("t").partitions(2).set("retention.ms", "86400000")).await.expect("created");
    let error = admin.create_topic(NewTopic::new("t")).await.expect_err("there already");
    assert_eq!((error.code(), error.effect()), (Some(Code::TopicExists), Effect::None));
    admin.create_topic(NewTopic::new("no/slash")).await.expect_err("a name that is not allowed");
    let producer = client.producer().build().await.expect("built");
    for n in 0..100_i64 {
        let value = n.to_string();
        producer.send(ProducerRecord::to("t").partition(1).timestamp_ms(n * 10).value(&value)).await.expect("handed over");
    }
    producer.flush().await.expect("delivered");
    let specs = [OffsetSpec::Earliest, OffsetSpec::Latest, OffsetSpec::Time(455), OffsetSpec::MaxTimestamp, OffsetSpec::Time(991)];
    let found = admin.list_offsets("t", &specs.map(|s| (1, s))).await.expect("told");
    assert_eq!(found.iter().map(|f| f.offset).collect::<Vec<_>>(), [0, 100, 46, 99, 100]);
    assert_eq!(found[2].time_ms, Some(460));
    assert_eq!(admin.delete_records("t", 1, 40).await.expect("trimmed"), 40);
    let (topic, endpoints) = admin.describe_topic("t").await.expect("described");
    assert_eq!((topic.partitions[1].start_offset, topic.partitions[1].end_offset, endpoints.len()), (40, 100, 2));
    let mut replay = client.replay("t").from(Position::Offset(3)).partitions([1]).records().await.expect("begun");
    assert!(matches!(replay.next().await, Some(Err(Error::NoPosition { .. }))));

    admin.alter_topic("t", vec![setting("retention.ms", "5000000")], 4).await.expect("altered");
    node.kill();
    node.serve();
    let (topic, _) = admin.describe_topic("t").await.expect("described");
    assert_eq!((topic.partitions.len(), topic.partitions[1].start_offset), (4, 40));
    assert!(topic.settings.iter().any(|s| s.name == "retention.ms" && s.value == "5000000"));

    let quota = AlterQuota { client_id: "tests".into(), produce_bytes_per_s: 100_000, ..AlterQuota::default() };
    admin.alter_quota(quota.clone()).await.expect("set");
    assert_eq!(admin.list_quotas().await.expect("listed"), [quota]);
    let (began, value) = (Instant::now(), "z".repeat(10_000));
    for _ in 0..6 {
        // What goes over the quota is answered, with how long to be silent: it is the next that waits.
        for _ in 0..10 {
            producer.send(ProducerRecord::to("t").partition(0).value(&value)).await.expect("handed over");
        }
        producer.flush().await.expect("delivered");
    }
    assert!(began.elapsed() > Duration::from_secs(2), "600 kB at 100 kB/s within {:?}", began.elapsed());

    admin.delete_topic("t", false).await.expect("deleted");
    let error = producer.send(ProducerRecord::to("t").partition(0).value("x")).await.expect("handed over").await.expect_err("gone");
    assert_eq!((error.code(), error.effect()), (Some(Code::UnknownTopic), Effect::None), "{error}");
    assert_eq!(admin.delete_topic("t", false).await.expect_err("gone").code(), Some(Code::UnknownTopic));
}

/// More than the tails hold, from segments after a restart, and while records pour in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_is_replayed_from_disk() {
    let mut node = Node::start();
    let client = client(&node).await;
    topic(&client, "t", 3).await;
    let producer = client.producer().build().await.expect("built");
    let filler = "0123456789abcdef".repeat(64);
    for n in 0..150_000_u64 {
        let value = format!("{n} {filler}");
        producer.send(ProducerRecord::to("t").partition(n as u32 % 3).value(&value)).await.expect("handed over");
    }
    producer.flush().await.expect("delivered");
    node.kill();
    node.serve();
    let mut replay = client.replay("t").records().await.expect("begun");
    assert_eq!(replay.total(), 150_000);
    let live = tokio::spawn(async move {
        for n in 150_000..160_000_u64 {
            let value = format!("{n} live");
            producer.send(ProducerRecord::to("t").partition(n as u32 % 3).value(&value)).await.expect("handed over");
        }
        producer.flush().await.expect("delivered");
    });
    let mut at = [0_u64; 3];
    while let Some(record) = replay.next().await {
        let record = record.expect("read");
        let partition = record.partition as usize;
        assert_eq!(number(record.value().expect("a value")), at[partition] * 3 + partition as u64);
        at[partition] += 1;
    }
    assert_eq!(at, [50_000; 3]);
    live.await.expect("no panic");
    let mut rest = client.replay("t").from(Position::Offset(50_000)).records().await.expect("begun");
    let mut count = 0;
    while let Some(record) = rest.next().await {
        assert!(number(record.expect("read").value().expect("a value")) >= 150_000);
        count += 1;
    }
    assert_eq!(count, 10_000);
}
