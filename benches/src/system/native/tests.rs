use super::*;
use crate::{
    batches::Shape,
    mock::Mock,
    system::{Acks, Chunk, Consumer, Producer, Reading},
};
use millpond_batch::{DecompressLimits, records};
use std::{rc::Rc, time::Instant};

fn place(partition: u32, owner: &str) -> Place {
    Place { topic: "t".into(), partition, owner: owner.into() }
}

#[test]
fn connections_go_round_the_cores_and_share_their_partitions() {
    let places: Vec<Place> = (0..6).map(|n| place(n, if n % 3 == 0 { "b" } else { "a" })).collect();
    let seat = |number, shared| {
        let (owner, places) = share_out(places.clone(), Seat { number, of: 4 }, shared);
        (owner, places.iter().map(|p| p.partition).collect::<Vec<_>>())
    };
    assert_eq!(seat(0, false), ("a".into(), vec![1, 4]));
    assert_eq!(seat(2, false), ("a".into(), vec![2, 5]));
    assert_eq!(seat(1, false), ("b".into(), vec![0]));
    assert_eq!(seat(3, false), ("b".into(), vec![3]));
    assert_eq!(seat(0, true), ("a".into(), vec![1, 2, 4, 5]));
    assert_eq!(seat(2, true), ("a".into(), vec![4, 5, 1, 2]));
}

#[test]
fn more_connections_than_partitions_leave_some_with_nothing_to_read() {
    let (_, places) = share_out(vec![place(0, "a")], Seat { number: 1, of: 2 }, false);
    assert!(places.is_empty());
}

fn spec(topic: &Topic, shape: Shape) -> ProducerSpec {
    ProducerSpec {
        seat: Seat { number: 0, of: 1 },
        topics: vec![topic.clone()],
        shape: Rc::new(shape),
        acks: Acks::Synced,
        idempotent: true,
        stamp_since: None,
    }
}

#[test]
fn what_is_produced_is_read_back_with_its_stamps() {
    let mock = Mock::start();
    let system = Native::new(std::slice::from_ref(&mock.address));
    let topic = Topic { name: "t".into(), partitions: 2 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let shape = Shape { records: 3, keys: 10, ..Shape::single(4000) };
    let done: Result<()> = runtime.block_on(async {
        system.create(&topic).await?;
        let since = Instant::now();
        let mut producer = system.producer(ProducerSpec { stamp_since: Some(since), ..spec(&topic, shape.clone()) }).await?;
        assert_eq!(producer.lanes(), 2);
        let sent: Vec<Instant> = (0..20).map(|n| since + std::time::Duration::from_micros(n)).collect();
        let mut acks = Vec::new();
        for (slot, at) in sent.iter().enumerate() {
            producer.put(slot, slot % 2, *at)?;
        }
        while acks.len() < sent.len() {
            producer.turn(&mut acks).await?;
        }
        assert!(acks.iter().enumerate().all(|(n, ack)| ack.slot == n && ack.taken));
        let consumer = ConsumerSpec {
            seat: Seat { number: 0, of: 1 },
            topics: vec![topic.clone()],
            reading: Reading::Once { background: false },
            fetch_bytes: 40_000,
            verify: true,
            stamps_of: Some(Rc::new(shape.clone())),
        };
        let mut consumer = system.consumer(consumer).await?;
        let (mut chunk, mut stamps, mut read) = (Chunk::default(), Vec::new(), 0);
        while !chunk.over {
            consumer.next(&mut chunk).await?;
            stamps.append(&mut chunk.stamps);
            read += chunk.records;
        }
        stamps.sort_unstable();
        assert_eq!(stamps, (0..20).map(|n| n * 1000).collect::<Vec<u64>>());
        assert_eq!(read, 60);
        Ok(())
    });
    done.expect("the mock answers");
    let state = mock.state();
    let (_, batch) = &state.topics["t"][1].batches[0];
    let first = records(batch, DecompressLimits::default()).expect("a batch").next().expect("a record").expect("whole");
    assert_eq!(first.value.expect("a value").len(), 4000);
    assert_eq!(first.key.expect("a key").len(), 12);
}

#[test]
fn what_the_server_refuses_is_an_error_that_says_why() {
    let mock = Mock::start();
    let system = Native::new(std::slice::from_ref(&mock.address));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let missing = Topic { name: "missing".into(), partitions: 1 };
    let error = runtime.block_on(system.producer(spec(&missing, Shape::single(10)))).expect_err("no such topic");
    assert!(format!("{error:#}").contains("no such topic"), "{error:#}");
    let nobody = Native::new(&["127.0.0.1:1".into()]);
    let error = runtime.block_on(nobody.describe()).expect_err("nobody is there");
    assert!(format!("{error:#}").contains("connecting to 127.0.0.1:1"), "{error:#}");
}

#[test]
fn compressed_batches_take_no_stamps() {
    let shape = Shape { compression: crate::args::Codec::Zstd, ..Shape::single(100) };
    assert!(producer::stamp_at(&shape).is_err());
    assert!(producer::stamp_at(&Shape::single(4)).is_err());
}
