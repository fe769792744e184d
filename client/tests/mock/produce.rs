//! Producing: order, no duplicates, bounds, and what errors say.

use crate::{
    client,
    server::{Fault, Mock},
};
use millpond_client::{
    Acks, Client, Code, Compression, Delivery, Effect, Error, Partitioner, Producer, ProducerRecord,
    messages::{Failure, Kind},
    partition_of_key,
};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

async fn send(producer: &Producer, n: usize) -> Delivery {
    let value = n.to_string();
    producer.send(ProducerRecord::to("t").partition(0).value(&value)).await.expect("handed over")
}

fn expected(n: usize) -> Vec<String> {
    (0..n).map(|n| n.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_arrive_in_order_and_deliveries_tell_their_offsets() {
    let mock = Mock::start(1).await;
    mock.topic("t", 1);
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let start = mock.state().topics["t"].partitions[0].end;
        let producer = client(&mock).await.producer().compression(compression).batch_bytes(2048).build().await.expect("built");
        let mut deliveries = Vec::new();
        for n in 0..5_000 {
            deliveries.push(send(&producer, n).await);
        }
        for (n, delivery) in deliveries.into_iter().enumerate() {
            assert_eq!(delivery.await.expect("delivered").offset, Some(start + n as u64));
        }
        producer.close().await.expect("nothing failed");
        assert!(producer.send(ProducerRecord::to("t")).await.is_err_and(|e| matches!(e, Error::Closed(_))));
    }
    assert_eq!(mock.values("t", 0), [expected(5_000), expected(5_000), expected(5_000)].concat());
    // Batches of 2 KiB, many in a frame, are far fewer than records.
    assert!(mock.count(Kind::Produce) < 3_000, "{} frames", mock.count(Kind::Produce));
}

/// Whatever happens to connections and replies, each record is appended once and in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tries_after_lost_connections_keep_order_and_make_no_duplicates() {
    let faults = [Fault::DropBefore, Fault::DropAfter, Fault::HalfReply, Fault::Garbage, Fault::Silence];
    for (round, fault) in faults.into_iter().enumerate() {
        let mock = Mock::start(1).await;
        mock.topic("t", 1);
        let again = fault.clone();
        mock.hook(move |_, kind, before, _| (kind == Kind::Produce && before % 7 == 3 && before < 60).then(|| again.clone()));
        let producer = client(&mock).await.producer().batch_bytes(1024).build().await.expect("built");
        let mut deliveries = Vec::new();
        for n in 0..2_000 {
            deliveries.push(send(&producer, n).await);
            if n % 100 == 0 {
                tokio::task::yield_now().await;
            }
        }
        producer.flush().await.unwrap_or_else(|e| panic!("{fault:?}: {e}"));
        for (n, delivery) in deliveries.into_iter().enumerate() {
            let delivered = delivery.await.unwrap_or_else(|e| panic!("{fault:?}, record {n}: {e}"));
            assert_eq!(delivered.offset, Some(n as u64), "{fault:?}");
        }
        assert_eq!(mock.values("t", 0), expected(2_000), "round {round}: {fault:?}");
        assert_eq!(producer.buffered_bytes(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_that_pass_are_tried_again() {
    let mock = Mock::start(1).await;
    mock.topic("t", 1);
    mock.hook(|_, kind, before, _| {
        let refuse = kind == Kind::Produce && before % 3 != 2 && before < 30;
        refuse.then(|| Fault::Refuse(Failure::new(Code::Overloaded, "full", "wait").retry_after(1)))
    });
    let producer = client(&mock).await.producer().batch_bytes(1024).build().await.expect("built");
    for n in 0..500 {
        send(&producer, n).await;
    }
    producer.close().await.expect("all delivered in the end");
    assert_eq!(mock.values("t", 0), expected(500));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_moves_is_followed() {
    let mock = Mock::start(2).await;
    mock.topic("t", 2);
    let producer = client(&mock).await.producer().batch_bytes(1024).build().await.expect("built");
    for n in 0..300 {
        send(&producer, n).await;
    }
    mock.state().topics.get_mut("t").expect("created").partitions[0].owner = 1;
    for n in 300..600 {
        send(&producer, n).await;
    }
    producer.close().await.expect("all delivered");
    assert_eq!(mock.values("t", 0), expected(600));
}

/// Whoever led a partition says who does, and where: nobody else has to be asked, and records go there at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_old_owner_tells_of_the_new_one() {
    let mock = Mock::start(3).await;
    mock.topic("t", 1);
    mock.0.directs.store(true, Ordering::Relaxed);
    // No wait for another try would end in time.
    let client = Client::builder().bootstrap(&mock.address()).backoff(Duration::from_secs(60), Duration::from_secs(60));
    let client = client.connect().await.expect("the mock answers");
    let producer = client.producer().batch_bytes(1024).delivery_timeout(Duration::from_secs(20)).build().await.expect("built");
    send(&producer, 0).await.await.expect("delivered");
    mock.hook(|_, kind, _, _| (kind == Kind::Metadata).then_some(Fault::Silence));
    let mut sent = 1;
    for owner in [1, 2, 0, 2, 1] {
        mock.state().topics.get_mut("t").expect("created").partitions[0].owner = owner;
        for n in sent..sent + 100 {
            send(&producer, n).await;
        }
        sent += 100;
        producer.flush().await.expect("all delivered");
    }
    assert_eq!(mock.values("t", 0), expected(sent));
}

/// A connection that broke while nobody needed it is made anew at once when it is needed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_was_away_for_a_while_is_not_waited_for() {
    let mock = Mock::start(2).await;
    mock.topic("t", 1);
    mock.0.directs.store(true, Ordering::Relaxed);
    let wait = Duration::from_millis(400);
    let client = Client::builder().bootstrap(&mock.address_of(1)).backoff(wait, wait).connect().await.expect("the mock answers");
    let producer = client.producer().build().await.expect("built");
    send(&producer, 0).await.await.expect("delivered");
    // Its owner ends the connection, which nobody notices who sends elsewhere.
    mock.state().topics.get_mut("t").expect("created").partitions[0].owner = 1;
    mock.hook(|node, kind, _, _| (node == 0 && kind == Kind::Produce).then_some(Fault::DropBefore));
    send(&producer, 1).await.await.expect("delivered");
    mock.hook(|_, _, _, _| None);
    tokio::time::sleep(wait).await;
    mock.state().topics.get_mut("t").expect("created").partitions[0].owner = 0;
    let began = std::time::Instant::now();
    send(&producer, 2).await.await.expect("delivered");
    assert!(began.elapsed() < wait / 2, "it was waited for: {:?}", began.elapsed());
    assert_eq!(mock.values("t", 0), expected(3));
}

/// What waits for a connection to an owner that has ended goes to the new one as soon as that is known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_has_ended_is_not_waited_for() {
    let (mock, partitions) = (Mock::start(2).await, 16);
    mock.topic("t", partitions);
    let owned_by = |owner| mock.state().topics.get_mut("t").expect("created").partitions.iter_mut().for_each(|p| p.owner = owner);
    owned_by(1);
    let client = Client::builder().bootstrap(&mock.address()).backoff(Duration::from_millis(300), Duration::from_secs(60));
    let producer = client.connect().await.expect("the mock answers").producer().build().await.expect("built");
    let send_all = async |value: &str| {
        let mut sent = Vec::new();
        for partition in 0..partitions as u32 {
            let record = ProducerRecord::to("t").partition(partition).value(value);
            sent.push(producer.send(record).await.expect("handed over"));
        }
        sent
    };
    for delivery in send_all("first").await {
        delivery.await.expect("delivered");
    }
    mock.deafen(1);
    mock.hook(|node, kind, _, _| (node == 1 && kind == Kind::Produce).then_some(Fault::DropBefore));
    let sent = send_all("second").await;
    // Each try of each partition makes the next connection wait for longer.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let began = std::time::Instant::now();
    owned_by(0);
    for delivery in sent {
        delivery.await.expect("delivered");
    }
    assert!(began.elapsed() < Duration::from_millis(500), "it took {:?}", began.elapsed());
    (0..partitions).for_each(|partition| assert_eq!(mock.values("t", partition), ["first", "second"]));
}

/// Two that name each other are not asked in turns without end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owners_that_send_us_around_are_given_time() {
    let mock = Mock::start(2).await;
    mock.topic("t", 1);
    mock.0.directs.store(true, Ordering::Relaxed);
    let producer = client(&mock).await.producer().delivery_timeout(Duration::from_millis(600)).build().await.expect("built");
    send(&producer, 0).await.await.expect("delivered");
    mock.state().topics.get_mut("t").expect("created").partitions[0].owner = usize::MAX;
    let error = send(&producer, 1).await.await.expect_err("nobody takes it");
    assert_eq!((error.code(), error.effect()), (Some(Code::NotOwner), Effect::None), "{error}");
    assert!(mock.count(Kind::Produce) < 50, "it was tried {} times", mock.count(Kind::Produce));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_bounded_and_senders_wait() {
    let mock = Mock::start(1).await;
    mock.topic("t", 1);
    mock.hook(|_, kind, _, _| (kind == Kind::Produce).then_some(Fault::Late(Duration::from_millis(5))));
    let producer = client(&mock).await.producer().buffer_bytes(64 * 1024).batch_bytes(8 * 1024).build().await.expect("built");
    let value = "x".repeat(1000);
    let mut waited = false;
    for _ in 0..500 {
        let record = ProducerRecord::to("t").partition(0).value(&value);
        match producer.try_send(&record).expect("allowed") {
            Some(_) => {}
            None => {
                waited = true;
                producer.send(record).await.expect("handed over");
            }
        }
        assert!(producer.buffered_bytes() <= 64 * 1024, "{} bytes", producer.buffered_bytes());
    }
    assert!(waited, "half a megabyte went into 64 KiB");
    producer.close().await.expect("all delivered");
    assert_eq!(producer.buffered_bytes(), 0);
    assert_eq!(mock.state().topics["t"].partitions[0].end, 500);
    let error = producer.try_send(&ProducerRecord::to("t").value(&vec![0_u8; 100_000])).err();
    assert!(matches!(error, Some(Error::Closed(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_say_whether_it_took_effect() {
    let mock = Mock::start(1).await;
    mock.topic("t", 1);
    let short = |c: &Client| c.producer().delivery_timeout(Duration::from_millis(300));
    let client = client(&mock).await;
    // Refused for good: surely not appended.
    mock.hook(|_, kind, _, _| (kind == Kind::Produce).then(|| Fault::Refuse(Failure::new(Code::BadBatch, "bad", "mend it"))));
    let producer = short(&client).build().await.expect("built");
    let error = send(&producer, 0).await.await.expect_err("refused");
    assert_eq!((error.effect(), error.code(), error.advice()), (Effect::None, Some(Code::BadBatch), "mend it"));
    assert_eq!(producer.flush().await.expect_err("told by flush, too").code(), Some(Code::BadBatch));
    producer.flush().await.expect("told once");
    // Refused till its time was up: surely not appended.
    mock.hook(|_, kind, _, _| (kind == Kind::Produce).then(|| Fault::Refuse(Failure::new(Code::DiskFull, "full", "make room"))));
    let error = send(&producer, 1).await.await.expect_err("no room");
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert_eq!((error.effect(), error.code()), (Effect::None, Some(Code::DiskFull)));
    // Appended, and the answer was lost each time: nobody knows.
    mock.hook(|_, kind, _, _| (kind == Kind::Produce).then_some(Fault::DropAfter));
    let producer = short(&client).build().await.expect("built");
    let error = send(&producer, 2).await.await.expect_err("unanswered");
    assert_eq!(error.effect(), Effect::Unknown, "{error}");
    assert_eq!(mock.values("t", 0), ["2"], "appended once, for all its tries");
    // No connection was ever made: surely not appended.
    let producer = short(&crate::client(&mock).await).build().await.expect("built");
    mock.hook(|_, kind, _, _| matches!(kind, Kind::Produce | Kind::Hello).then_some(Fault::DropBefore));
    let error = send(&producer, 3).await.await.expect_err("nobody there");
    assert_eq!(error.effect(), Effect::None, "{error}");
}

/// After a batch was given up the ones behind it still get there, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_given_up_leaves_no_gap_in_the_sequence() {
    let mock = Mock::start(1).await;
    mock.topic("t", 1);
    let producer = client(&mock).await.producer().build().await.expect("built");
    send(&producer, 0).await.await.expect("delivered");
    mock.hook(|_, kind, _, _| (kind == Kind::Produce).then(|| Fault::Refuse(Failure::new(Code::BadBatch, "bad", "mend it"))));
    send(&producer, 99).await.await.expect_err("refused");
    mock.hook(|_, _, _, _| None);
    for n in 1..100 {
        send(&producer, n).await;
    }
    producer.close().await.expect_err("tells of the one that was refused");
    assert_eq!(mock.values("t", 0), expected(100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_partitioners_choose_partitions() {
    let mock = Mock::start(2).await;
    mock.topic("t", 4);
    let client = client(&mock).await;
    let producer = client.producer().build().await.expect("built");
    for n in 0..50 {
        let key = format!("key-{n}");
        let delivery = producer.send(ProducerRecord::to("t").key(&key).value("x")).await.expect("handed over");
        assert_eq!(delivery.partition(), partition_of_key(key.as_bytes(), 4));
        assert_eq!(delivery.await.expect("delivered").partition, partition_of_key(key.as_bytes(), 4));
    }
    let turns = client.producer().partitioner(Partitioner::RoundRobin).build().await.expect("built");
    let mut counts = [0; 4];
    for _ in 0..40 {
        counts[turns.send(ProducerRecord::to("t").value("x")).await.expect("handed over").partition() as usize] += 1;
    }
    assert_eq!(counts, [10; 4]);
    let own = client.producer().partitioner(Partitioner::custom(|c| c.value.map_or(0, |v| v.len() as u32))).build().await.expect("built");
    assert_eq!(own.send(ProducerRecord::to("t").value("12345")).await.expect("handed over").partition(), 1);
    let error = own.send(ProducerRecord::to("t").partition(9)).await.expect_err("no such partition");
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    let error = own.send(ProducerRecord::to("nowhere")).await.expect_err("no such topic");
    assert_eq!((error.code(), error.effect()), (Some(Code::UnknownTopic), Effect::None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_acknowledgements_memory_is_free_once_written() {
    let mock = Mock::start(1).await;
    mock.topic("t", 1);
    let producer = client(&mock).await.producer().acks(Acks::None).build().await.expect("built");
    for n in 0..1_000 {
        let delivery = send(&producer, n).await;
        if n == 0 {
            assert_eq!(delivery.await.expect("written").offset, None);
        }
    }
    producer.close().await.expect("written");
    assert_eq!(producer.buffered_bytes(), 0);
    // Nobody says when they have arrived.
    for _ in 0..500 {
        if mock.state().topics["t"].partitions[0].end == 1_000 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(mock.values("t", 0), expected(1_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_deleted_fails_what_waits_and_one_created_anew_is_found() {
    let mock = Mock::start(1).await;
    mock.topic("t", 1);
    let producer = client(&mock).await.producer().build().await.expect("built");
    send(&producer, 0).await.await.expect("delivered");
    mock.state().topics.clear();
    let error = send(&producer, 1).await.await.expect_err("gone");
    assert_eq!((error.code(), error.effect()), (Some(Code::UnknownTopic), Effect::None), "{error}");
    mock.topic("t", 1);
    assert_eq!(send(&producer, 2).await.await.expect("delivered").offset, Some(0));
}

/// Somebody says that a topic is gone, or tells of an older one of its name, and it is there all the time, and knows what the producer has sent to it before:
/// what comes next is not taken for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_only_seemed_to_be_gone_goes_on() {
    let mock = Mock::start(1).await;
    mock.topic("other", 1);
    mock.topic("t", 1);
    let producer = client(&mock).await.producer().build().await.expect("built");
    for life in 0..3_usize {
        assert_eq!(send(&producer, life).await.await.expect("delivered").offset, Some(life as u64));
        let hidden = mock.state().topics.remove("t").expect("there");
        send(&producer, 100).await.await.expect_err("it is gone");
        mock.state().topics.insert("t".into(), hidden);
    }
    // Metadata of an older one: the next batch is refused by a server that has not heard of the topic, and asked for there.
    let id = std::mem::replace(&mut mock.state().topics.get_mut("t").expect("there").id, 0);
    let first = mock.count(Kind::Produce);
    mock.hook(move |_, kind, before, _| {
        let refuse = kind == Kind::Produce && before == first;
        refuse.then(|| Fault::Refuse(Failure::new(Code::NotOwner, "ask another one", "refresh").retry_after(1)))
    });
    let delivered = send(&producer, 3).await.await.expect("delivered");
    mock.state().topics.get_mut("t").expect("there").id = id;
    assert_eq!(delivered.offset, Some(3));
    assert_eq!(mock.values("t", 0), expected(4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_producer_still_delivers() {
    let mock = Mock::start(1).await;
    mock.topic("t", 1);
    let producer = client(&mock).await.producer().linger(Duration::from_secs(60)).build().await.expect("built");
    let delivery = send(&producer, 0).await;
    drop(producer);
    delivery.await.expect("delivered without lingering");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_share_a_producer() {
    let mock = Mock::start(2).await;
    mock.topic("t", 4);
    let producer = Arc::new(client(&mock).await.producer().buffer_bytes(256 * 1024).build().await.expect("built"));
    let mut tasks = Vec::new();
    for task in 0..8 {
        let producer = Arc::clone(&producer);
        tasks.push(tokio::spawn(async move {
            for n in 0..1_000 {
                let (key, value) = (format!("{task}"), format!("{task} {n}"));
                producer.send(ProducerRecord::to("t").key(&key).value(&value)).await.expect("handed over");
            }
        }));
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    producer.flush().await.expect("all delivered");
    let mut last = [None; 8];
    for value in (0..4).flat_map(|p| mock.values("t", p)) {
        let (task, n) = value.split_once(' ').expect("two numbers");
        let (task, n): (usize, usize) = (task.parse().expect("a number"), n.parse().expect("a number"));
        assert_eq!(last[task].map_or(0, |l: usize| l + 1), n, "task {task}");
        last[task] = Some(n);
    }
    assert_eq!(last, [Some(999); 8]);
}

/// A topic was deleted and created anew while a producer knew the old one: what it sends lands in the new one, by its name. Then the answer is
/// lost, and with it whether it has landed: that there is another topic now does not tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_have_landed_in_a_topic_created_anew_is_told_so() {
    let mock = Mock::start(1).await;
    mock.topic("t", 1);
    let client = client(&mock).await;
    let producer = client.producer().build().await.expect("built");
    producer.send(ProducerRecord::to("t").value("before")).await.expect("handed over").await.expect("delivered");
    mock.topic("t", 1);
    mock.hook(|_, kind, _, _| (kind == Kind::Produce).then_some(Fault::DropAfter));
    let delivery = producer.send(ProducerRecord::to("t").value("after")).await.expect("handed over");
    let error = delivery.await.expect_err("the topic that it was for has gone");
    assert_eq!(mock.values("t", 0), ["after"]);
    assert_eq!(error.effect(), Effect::Unknown, "{error}");
    assert!(error.to_string().contains("deleted and created anew"), "{error}");
}
