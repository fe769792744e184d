//! What comes late in transactions, by a producer of the first protocol that no library would be: what is still under way when a transaction ends is no part of the next one
//! (Jepsen's analysis of Bufstream 0.1.0), and readers are told of each transaction that was given up once.

use crate::raw::Raw;
use bytes::Bytes;
use kafka_protocol::{
    messages::{
        AddPartitionsToTxnRequest, EndTxnRequest, FetchRequest, FetchResponse, InitProducerIdRequest, ListOffsetsRequest, ProduceRequest,
        ProducerId, TopicName, TransactionalId, WriteTxnMarkersRequest,
        add_partitions_to_txn_request::AddPartitionsToTxnTopic,
        fetch_request::{FetchPartition, FetchTopic},
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        produce_request::{PartitionProduceData, TopicProduceData},
        write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic},
    },
    protocol::StrBytes,
};
use millpond_batch::{Builder, Compression, Header, Marker, Producer};
use millpond_client::{Client, Consumer, ConsumerRecord, Isolation, OffsetReset, Position, ProducerRecord, Replay};
use std::time::{Duration, Instant};

const NONE: i16 = 0;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const INVALID_TXN_STATE: i16 = 48;
const TRANSACTION_COORDINATOR_FENCED: i16 = 52;
const INVALID_REQUEST: i16 = 42;
const INVALID_TOPIC: i16 = 17;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const COMMITTED: i8 = 1;

/// A producer of the first protocol, whose requests come in whatever order the test wants.
struct Tx {
    raw: Raw,
    id: &'static str,
    topic: &'static str,
    producer: i64,
    epoch: i16,
}

fn name(topic: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(topic))
}

impl Tx {
    fn begin(address: &str, id: &'static str, topic: &'static str) -> Self {
        let mut raw = Raw::connect(address);
        let asked = InitProducerIdRequest::default().with_transactional_id(Some(TransactionalId(StrBytes::from_static_str(id))));
        let begun = raw.call(4, &asked.with_transaction_timeout_ms(60_000)).expect("an answer");
        assert_eq!(begun.error_code, NONE);
        Self { raw, id, topic, producer: begun.producer_id.0, epoch: begun.producer_epoch }
    }

    fn add(&mut self) -> i16 {
        let topic = AddPartitionsToTxnTopic::default().with_name(name(self.topic)).with_partitions(vec![0]);
        let asked = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(TransactionalId(StrBytes::from_static_str(self.id)))
            .with_v3_and_below_producer_id(ProducerId(self.producer))
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(vec![topic]);
        let added = self.raw.call(3, &asked).expect("an answer");
        added.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
    }

    /// One record; its code and offset.
    fn produce(&mut self, sequence: i32) -> (i16, i64) {
        let mut builder = Builder::new(Compression::None, 100);
        builder.set_transactional();
        let headers: [(&[u8], Option<&[u8]>); 0] = [];
        builder.append(1_700_000_000_000, None, Some(self.id.as_bytes()), &headers);
        let batch = builder.build(Some(Producer { id: self.producer, epoch: self.epoch, base_sequence: sequence })).expect("built");
        let data = PartitionProduceData::default().with_index(0).with_records(Some(batch.freeze()));
        let topic = TopicProduceData::default().with_name(name(self.topic)).with_partition_data(vec![data]);
        let asked = ProduceRequest::default().with_transactional_id(Some(TransactionalId(StrBytes::from_static_str(self.id))));
        let asked = asked.with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![topic]);
        let told = self.raw.call(9, &asked).expect("an answer");
        let told = &told.responses[0].partition_responses[0];
        (told.error_code, told.base_offset)
    }

    fn end(&mut self, commit: bool) -> i16 {
        let asked = EndTxnRequest::default().with_transactional_id(TransactionalId(StrBytes::from_static_str(self.id)));
        let asked = asked.with_producer_id(ProducerId(self.producer)).with_producer_epoch(self.epoch).with_committed(commit);
        self.raw.call(3, &asked).expect("an answer").error_code
    }
}

/// What a native client reads of transactions while they are open, and when they have ended: committed records alone, in order, or all that there are.
pub(crate) async fn native_clients_read_what_was_committed(address: &str, client: &Client, topic: &'static str) {
    let (mut ended, mut open) = tokio::task::block_in_place(|| {
        let (mut one, mut two) = (Tx::begin(address, "one", topic), Tx::begin(address, "two", topic));
        // Offsets 0 to 7: what is given up begins within what takes effect, and the other way round.
        assert_eq!((one.add(), one.produce(0)), (NONE, (NONE, 0)));
        assert_eq!((two.add(), two.produce(0)), (NONE, (NONE, 1)));
        assert_eq!((one.end(true), two.produce(1), two.end(false)), (NONE, (NONE, 3), NONE));
        assert_eq!((two.add(), two.produce(2), two.end(true)), (NONE, (NONE, 5), NONE));
        assert_eq!((one.add(), one.produce(1), two.add(), two.produce(3)), (NONE, (NONE, 7), NONE, (NONE, 8)));
        (two, one)
    });
    let producer = client.producer().build().await.expect("built");
    producer.send(ProducerRecord::to(topic).value(b"plain")).await.expect("sent").await.expect("delivered");
    let (committed, all) = (vec![(0, "one"), (5, "two")], vec![0, 1, 3, 5, 7, 8, 9]);
    assert_eq!(replayed(client.replay(topic)).await, as_text(&committed), "the stretch ends before what is open");
    let offsets = |records: Vec<(u64, String)>| records.into_iter().map(|(offset, _)| offset).collect::<Vec<_>>();
    assert_eq!(offsets(replayed(client.replay(topic).isolation(Isolation::ReadUncommitted)).await), all);

    let consumer = || client.consumer().topics([topic]).offset_reset(OffsetReset::Earliest);
    let mut follows = consumer().build().await.expect("built");
    let mut group = consumer().group("natives").build().await.expect("built");
    assert_eq!(polled(&mut follows, 2).await, as_text(&committed));
    assert_eq!(polled(&mut group, 2).await, as_text(&committed));
    assert!(follows.poll(1, Duration::from_secs(1)).await.expect("polled").is_empty(), "before what is open ends");
    assert_eq!((follows.position(topic, 0), follows.lag()), (Some(7), Some(0)), "past a marker, and not behind");
    let mut every = consumer().isolation(Isolation::ReadUncommitted).build().await.expect("built");
    assert_eq!(offsets(polled(&mut every, 7).await), all);

    let (ended, open) = tokio::task::block_in_place(|| (ended.end(false), open.end(true)));
    assert_eq!((ended, open), (NONE, NONE));
    let rest = [(7, "one"), (9, "plain")];
    assert_eq!(polled(&mut follows, 2).await, as_text(&rest));
    assert_eq!(polled(&mut group, 2).await, as_text(&rest));
    let whole = as_text(&[&committed[..], &rest].concat());
    assert_eq!(replayed(client.replay(topic)).await, whole);
    assert_eq!(replayed(client.replay(topic).from(Position::Offset(6))).await, as_text(&rest));
    assert_eq!(offsets(replayed(client.replay(topic).from(Position::Offset(3)).to(Position::Offset(8))).await), [5, 7]);
    let mut batches = client.replay(topic).batches().await.expect("begun");
    let mut bases = Vec::new();
    while let Some(batch) = batches.next().await {
        bases.push(batch.expect("read").header().base_offset);
    }
    assert_eq!(bases, [0, 5, 7, 9]);
    group.close().await.expect("closed");
}

fn as_text(records: &[(u64, &str)]) -> Vec<(u64, String)> {
    records.iter().map(|(offset, value)| (*offset, (*value).to_owned())).collect()
}

fn read(record: &ConsumerRecord) -> (u64, String) {
    (record.offset(), String::from_utf8_lossy(record.value().map(|value| &value[..]).unwrap_or_default()).into_owned())
}

async fn replayed(replay: Replay) -> Vec<(u64, String)> {
    let mut records = replay.records().await.expect("begun");
    let mut seen = Vec::new();
    while let Some(record) = records.next().await {
        seen.push(read(&record.expect("read")));
    }
    seen
}

/// So many records of a consumer.
async fn polled(consumer: &mut Consumer, n: usize) -> Vec<(u64, String)> {
    let end = Instant::now() + Duration::from_secs(60);
    let mut seen = Vec::new();
    while seen.len() < n {
        assert!(Instant::now() < end, "only {seen:?} came in time");
        seen.extend(consumer.poll(n, Duration::from_millis(200)).await.expect("polled").iter().map(read));
    }
    seen
}

/// Markers from outside, as `kafka-transactions abort` has them: they end nothing that a coordinator will end, and nothing takes effect by them.
pub(crate) fn nobody_tears_a_transaction(address: &str, topic: &'static str) {
    let mut tx = Tx::begin(address, "torn", topic);
    let mut mark = {
        let (producer, mut raw) = (tx.producer, Raw::connect(address));
        move |topic: &'static str, partition: i32, epoch: i16, number: i32, commit: bool| {
            let topic = WritableTxnMarkerTopic::default().with_name(name(topic)).with_partition_indexes(vec![partition]);
            let marker = WritableTxnMarker::default().with_producer_id(ProducerId(producer)).with_producer_epoch(epoch);
            let marker = marker.with_coordinator_epoch(number).with_transaction_result(commit).with_topics(vec![topic]);
            let told = raw.call(1, &WriteTxnMarkersRequest::default().with_markers(vec![marker])).expect("an answer");
            told.markers[0].topics[0].partitions[0].error_code
        }
    };
    let epoch = tx.epoch;
    assert_eq!(mark(topic, 0, epoch, 0, false), NONE, "nothing is known of it here, and nothing open");
    assert_eq!((tx.add(), tx.produce(0)), (NONE, (NONE, 0)));
    assert_eq!(mark(topic, 0, epoch, 0, false), INVALID_TXN_STATE, "it is open");
    assert_eq!(mark(topic, 0, epoch, 0, true), INVALID_REQUEST);
    assert_eq!([mark(topic, 0, epoch - 1, 0, false), mark(topic, 0, epoch + 1, 0, false)], [INVALID_PRODUCER_EPOCH; 2]);
    assert_eq!([mark(topic, 9, epoch, 0, false), mark("nowhere", 0, epoch, 0, false)], [UNKNOWN_TOPIC_OR_PARTITION; 2]);
    assert_eq!([mark("__consumer_offsets", 0, epoch, 0, false), mark("__meta", 0, epoch, 0, false)], [INVALID_TOPIC; 2]);
    assert_eq!((tx.produce(1), tx.end(true)), ((NONE, 1), NONE), "it goes on");
    assert_eq!(mark(topic, 0, epoch, 0, false), TRANSACTION_COORDINATOR_FENCED, "one has ended since");
    assert_eq!(mark(topic, 0, epoch, 1, false), NONE, "nothing is open");
    assert_eq!(stable(&mut tx.raw, topic), 3, "two records, and the one marker");
    assert_eq!((tx.add(), tx.produce(2), tx.end(true)), (NONE, (NONE, 3), NONE), "the next one");
    let told = fetch(&mut tx.raw, topic, 1);
    let partition = &told.responses[0].partitions[0];
    assert!(partition.aborted_transactions.as_ref().is_none_or(Vec::is_empty));
    assert_eq!(markers(partition.records.as_ref().expect("records")), [(2, true), (4, true)]);
}

/// Up to where readers of committed records see.
fn stable(raw: &mut Raw, topic: &'static str) -> i64 {
    let partition = ListOffsetsPartition::default().with_partition_index(0).with_timestamp(-1);
    let topic = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
    let asked = ListOffsetsRequest::default().with_isolation_level(COMMITTED).with_topics(vec![topic]);
    raw.call(7, &asked).expect("an answer").topics[0].partitions[0].offset
}

fn fetch(raw: &mut Raw, topic: &'static str, min_bytes: i32) -> FetchResponse {
    let partition = FetchPartition::default().with_partition(0).with_fetch_offset(0).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![partition]);
    let asked = FetchRequest::default().with_isolation_level(COMMITTED).with_max_wait_ms(5_000).with_min_bytes(min_bytes);
    raw.call(11, &asked.with_max_bytes(1 << 20).with_topics(vec![topic])).expect("an answer")
}

pub(crate) fn what_is_late_is_no_part_of_the_next_transaction(address: &str, topic: &'static str) {
    let mut tx = Tx::begin(address, "late", topic);
    assert_eq!(tx.produce(0), (INVALID_TXN_STATE, -1), "nothing has begun");
    assert_eq!(tx.add(), NONE);
    assert_eq!(tx.produce(0), (NONE, 0));
    assert_eq!(stable(&mut tx.raw, topic), 0);
    assert_eq!(tx.end(true), NONE);
    assert_eq!(stable(&mut tx.raw, topic), 2, "the record and its marker");
    assert_eq!(tx.produce(1), (INVALID_TXN_STATE, -1), "its transaction has ended");
    assert_eq!(tx.end(true), NONE, "it is asked again");
    assert_eq!(tx.end(false), INVALID_TXN_STATE, "it is decided");
    assert_eq!(stable(&mut tx.raw, topic), 2);
    // The next one of the same epoch.
    assert_eq!(tx.add(), NONE);
    assert_eq!(tx.produce(1), (NONE, 2));
    assert_eq!(tx.produce(1), (NONE, 2), "it is sent again");
    assert_eq!(stable(&mut tx.raw, topic), 2);
    // Somebody takes its place: what it has open is given up, and it writes no more.
    let mut next = Tx::begin(address, "late", topic);
    assert_eq!((next.producer, next.epoch > tx.epoch), (tx.producer, true));
    assert_eq!(tx.produce(2), (INVALID_PRODUCER_EPOCH, -1));
    assert_eq!(tx.add(), 90, "fenced");
    assert_eq!(tx.end(true), 90);
    assert_eq!(next.add(), NONE);
    assert_eq!(next.produce(0), (NONE, 4));
    assert_eq!(next.end(true), NONE);
    let told = fetch(&mut next.raw, topic, 1);
    let partition = &told.responses[0].partitions[0];
    assert_eq!((partition.error_code, partition.high_watermark, partition.last_stable_offset), (NONE, 6, 6));
    let aborted = partition.aborted_transactions.as_ref().expect("it is told");
    assert_eq!(aborted.iter().map(|a| (a.producer_id.0, a.first_offset)).collect::<Vec<_>>(), [(tx.producer, 2)]);
    assert_eq!(markers(partition.records.as_ref().expect("records")), [(1, true), (3, false), (5, true)]);
}

/// Offsets of markers, and whether what they end took effect.
fn markers(records: &Bytes) -> Vec<(u64, bool)> {
    let batches = millpond_batch::split(records).map(|batch| batch.expect("whole batches"));
    let marker = |(header, bytes): (Header, &[u8])| Some((header.base_offset, Marker::of(&Bytes::copy_from_slice(bytes), &header)?.commit));
    batches.filter_map(marker).collect()
}

/// A fetch that waits reads in several turns, and a transaction that was given up lies in two of them.
pub(crate) fn what_was_given_up_is_told_once(address: &str, topic: &'static str) {
    let mut first = Tx::begin(address, "given-up", topic);
    let mut second = Tx::begin(address, "open", topic);
    assert_eq!((first.add(), first.produce(0)), (NONE, (NONE, 0)));
    assert_eq!((second.add(), second.produce(0)), (NONE, (NONE, 1)));
    assert_eq!((first.produce(1), first.end(false)), ((NONE, 2), NONE));
    assert_eq!(stable(&mut first.raw, topic), 1, "before what is open");
    let reader = std::thread::spawn({
        let mut raw = Raw::connect(address);
        // More than there will be: it waits until its time is up.
        move || fetch(&mut raw, topic, 1 << 20)
    });
    // By then it has read what it could.
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(second.end(true), NONE);
    let told = reader.join().expect("an answer");
    let partition = &told.responses[0].partitions[0];
    assert_eq!(partition.last_stable_offset, 5);
    let aborted = partition.aborted_transactions.as_ref().expect("it is told");
    assert_eq!(aborted.iter().map(|a| (a.producer_id.0, a.first_offset)).collect::<Vec<_>>(), [(first.producer, 0)]);
}
