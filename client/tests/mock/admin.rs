//! Administration and connections: tries, and what errors say.

use crate::{
    client,
    server::{Fault, Mock},
};
use millpond_client::{
    Client, Code, Effect, Error, NewTopic, OffsetSpec, ProducerRecord,
    messages::{AlterQuota, Failure, Kind, Position},
    setting,
};
use std::time::{Duration, Instant};

#[tokio::test]
async fn topics_groups_and_quotas_are_looked_after() {
    let mock = Mock::start(1).await;
    let client = client(&mock).await;
    let admin = client.admin();
    let (topic, is_new) = admin.create_topic(NewTopic::new("t").partitions(3).set("retention.ms", "1000")).await.expect("created");
    assert_eq!((topic.partitions.len(), is_new), (3, true));
    let error = admin.create_topic(NewTopic::new("t")).await.expect_err("there already");
    assert_eq!((error.code(), error.effect()), (Some(Code::TopicExists), Effect::None));
    assert!(!admin.create_topic(NewTopic::new("t").if_not_exists()).await.expect("fine").1);
    assert_eq!(admin.alter_topic("t", vec![setting("retention.ms", "5")], 4).await.expect("altered").0.partitions.len(), 4);
    assert_eq!(admin.list_topics(false).await.expect("listed").len(), 1);
    let (topic, endpoints) = admin.describe_topic("t").await.expect("described");
    assert_eq!((topic.partitions.len(), endpoints.len()), (4, 1));
    assert_eq!(admin.describe_topic("nowhere").await.expect_err("not there").code(), Some(Code::UnknownTopic));

    let producer = client.producer().build().await.expect("built");
    for n in 0..10 {
        producer.send(ProducerRecord::to("t").partition(2).timestamp_ms(n * 100).value("x")).await.expect("handed over");
    }
    producer.close().await.expect("delivered");
    let specs = [OffsetSpec::Earliest, OffsetSpec::Latest, OffsetSpec::Time(450), OffsetSpec::MaxTimestamp, OffsetSpec::Time(901)];
    let found = admin.list_offsets("t", &specs.map(|s| (2, s))).await.expect("told");
    assert_eq!(found.iter().map(|f| f.offset).collect::<Vec<_>>(), [0, 10, 5, 9, 10]);
    assert_eq!((found[2].time_ms, found[4].time_ms), (Some(500), None));
    assert_eq!(admin.delete_records("t", 2, 4).await.expect("trimmed"), 4);
    assert_eq!(admin.offset("t", 2, OffsetSpec::Earliest).await.expect("told").offset, 4);
    admin.delete_records("t", 2, 40).await.expect_err("past the end");

    let position = Position { topic: "t".into(), partition: 2, offset: 7, metadata: String::new(), leader_epoch: None };
    admin.commit_positions("g", vec![position]).await.expect("committed");
    assert_eq!(admin.positions("g").await.expect("told").get(&("t".to_owned(), 2)), Some(&7));
    assert_eq!(admin.list_groups().await.expect("listed")[0].group, "g");
    assert_eq!(admin.describe_group("g").await.expect("described").group, "g");
    admin.delete_group("g").await.expect("deleted");
    assert_eq!(admin.delete_group("g").await.expect_err("gone").code(), Some(Code::UnknownGroup));
    admin.alter_quota(AlterQuota { client_id: "a".into(), produce_bytes_per_s: 5, ..AlterQuota::default() }).await.expect("set");
    assert_eq!(admin.list_quotas().await.expect("listed").len(), 1);
    admin.delete_topic("t", false).await.expect("deleted");
    admin.delete_topic("t", true).await.expect("fine");
    assert_eq!(admin.delete_topic("t", false).await.expect_err("gone").code(), Some(Code::UnknownTopic));
}

#[tokio::test]
async fn what_may_be_repeated_is_and_what_may_not_says_so() {
    let mock = Mock::start(1).await;
    let client = client(&mock).await;
    let admin = client.admin();
    // Reading changes nothing: tried again.
    mock.hook(|_, kind, before, _| (kind == Kind::Metadata && before % 2 == 1).then_some(Fault::DropAfter));
    for _ in 0..5 {
        admin.list_topics(false).await.expect("told in the end");
    }
    // Creating may have happened: tried again, by a number that tells what it has made from what was there.
    let mut answers = 0;
    mock.hook(move |_, kind, _, _| {
        answers += i32::from(kind == Kind::CreateTopic);
        (kind == Kind::CreateTopic && answers < 3).then_some(Fault::DropAfter)
    });
    assert!(admin.create_topic(NewTopic::new("t")).await.expect("created once").1, "it is new");
    let error = admin.create_topic(NewTopic::new("t")).await.expect_err("another one's");
    assert_eq!(error.code(), Some(Code::TopicExists), "{error}");
    // Deleting may have happened: told.
    mock.hook(|_, kind, _, _| (kind == Kind::DeleteTopic).then_some(Fault::DropAfter));
    let error = admin.delete_topic("t", false).await.expect_err("unanswered");
    assert!(matches!(error, Error::Lost { .. }), "{error}");
    assert_eq!(error.effect(), Effect::Unknown);
    assert!(error.advice().contains("may have taken effect"));
    // A refusal that passes took no effect: tried again.
    let mut left = 3;
    mock.hook(move |_, kind, _, _| {
        left -= i32::from(kind == Kind::CreateTopic);
        (kind == Kind::CreateTopic && left > 0).then(|| Fault::Refuse(Failure::new(Code::Unavailable, "starting", "wait").retry_after(1)))
    });
    admin.create_topic(NewTopic::new("u")).await.expect("created in the end");
}

#[tokio::test]
async fn a_server_that_is_silent_or_not_there_is_given_up() {
    let mock = Mock::start(1).await;
    let client = client(&mock).await;
    mock.hook(|_, kind, _, _| (kind == Kind::ListGroups).then_some(Fault::Silence));
    let began = Instant::now();
    let error = client.admin().list_groups().await.expect_err("silence");
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let address = mock.address();
    drop(client);
    drop(mock);
    let began = Instant::now();
    let error = Client::builder().bootstrap(&address).connect().await.expect_err("nobody there");
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    assert_eq!(error.effect(), Effect::None);
    assert!(error.advice().contains("millpond serve"));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_is_gone() {
    let mock = Mock::start(2).await;
    mock.hook(|node, _, _, _| (node == 0).then_some(Fault::DropBefore));
    let client = Client::builder().bootstrap(&mock.address()).bootstrap(&mock.address_of(1)).connect().await.expect("one answers");
    for _ in 0..4 {
        client.admin().list_topics(true).await.expect("the other answers");
    }
}

#[tokio::test]
async fn something_else_than_a_server_is_told() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let web = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
            // Whoever has gone already does not want to know.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await;
        }
    });
    let error =
        Client::builder().bootstrap(&address).api_timeout(Duration::from_millis(300)).connect().await.expect_err("no server of ours");
    assert!(error.to_string().contains("protocol"), "{error}");
    web.abort();
}
