//! Epochs of leaders (KIP-320), as a client of no library asks for them.

use crate::raw::Raw;
use bytes::Bytes;
use kafka_protocol::{
    messages::{
        BrokerId, DeleteRecordsRequest, DescribeTopicPartitionsRequest, FetchRequest, GroupId, ListOffsetsRequest, MetadataRequest,
        OffsetCommitRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest, TopicName,
        delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic},
        describe_topic_partitions_request::TopicRequest,
        fetch_request::{FetchPartition, FetchTopic},
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        metadata_request::MetadataRequestTopic,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics},
        offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic},
        produce_request::{PartitionProduceData, TopicProduceData},
    },
    protocol::StrBytes,
};
use millpond_batch::{Builder, Compression, split};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(crate) const NONE: i16 = 0;
const OFFSET_OUT_OF_RANGE: i16 = 1;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
pub(crate) const NOT_LEADER_OR_FOLLOWER: i16 = 6;
pub(crate) const FENCED_LEADER_EPOCH: i16 = 74;
const UNKNOWN_LEADER_EPOCH: i16 = 75;
const PATIENCE: Duration = Duration::from_secs(60);

fn name(topic: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(topic))
}

/// One record, not older than what is retained.
pub(crate) fn batch() -> Bytes {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later").as_millis() as i64;
    let mut builder = Builder::new(Compression::None, 100);
    let headers: [(&[u8], Option<&[u8]>); 0] = [];
    builder.append(now_ms, None, Some(b"value"), &headers);
    builder.build(None).expect("built").freeze()
}

/// What is asked of one partition of a topic.
pub(crate) struct At {
    raw: Raw,
    topic: &'static str,
    /// Who leads, as the last fetch has it; -1 twice if it says nothing of it.
    pub(crate) now: (i32, i32),
}

impl At {
    pub(crate) fn new(server: &str, topic: &'static str) -> Self {
        Self { raw: Raw::connect(server), topic, now: (-1, -1) }
    }

    /// Who leads the first partition, and in which epoch, as both APIs have it that say so.
    pub(crate) fn leader(&mut self) -> (i32, i32) {
        let topics = vec![MetadataRequestTopic::default().with_name(Some(name(self.topic)))];
        let told = self.raw.call(12, &MetadataRequest::default().with_topics(Some(topics))).expect("an answer");
        let p = &told.topics[0].partitions[0];
        let asked = DescribeTopicPartitionsRequest::default().with_response_partition_limit(1);
        let asked = asked.with_topics(vec![TopicRequest::default().with_name(name(self.topic))]);
        let again = self.raw.call(0, &asked).expect("an answer");
        let again = &again.topics[0].partitions[0];
        assert!(again.leader_epoch >= p.leader_epoch, "{again:?} after {p:?}");
        (p.leader_id.0, p.leader_epoch)
    }

    /// The same once it is another leader than this one, in a later epoch.
    pub(crate) fn leader_after(&mut self, (before, epoch): (i32, i32)) -> (i32, i32) {
        let end = Instant::now() + PATIENCE;
        loop {
            let now = self.leader();
            if now.0 != before {
                assert!(now.1 > epoch, "{now:?} follows {before} in {epoch}");
                return now;
            }
            assert!(Instant::now() < end, "still led by {before}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// So many records, one batch each.
    pub(crate) fn produce(&mut self, records: usize) {
        for _ in 0..records {
            let data = PartitionProduceData::default().with_index(0).with_records(Some(batch()));
            let topic = TopicProduceData::default().with_name(name(self.topic)).with_partition_data(vec![data]);
            let asked = ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![topic]);
            let end = Instant::now() + PATIENCE;
            loop {
                let told = self.raw.call(9, &asked).expect("an answer");
                match told.responses[0].partition_responses[0].error_code {
                    NONE => break,
                    // It was elected just now.
                    NOT_LEADER_OR_FOLLOWER if Instant::now() < end => std::thread::sleep(Duration::from_millis(20)),
                    code => panic!("{code}"),
                }
            }
        }
    }

    /// What comes of reading from an offset: the code, where what was read diverges, and the epoch of each batch.
    pub(crate) fn fetch(&mut self, offset: i64, epoch: i32, last: i32) -> (i16, (i32, i64), Vec<i32>) {
        let wanted = FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
        let wanted = wanted.with_current_leader_epoch(epoch).with_last_fetched_epoch(last);
        let topic = FetchTopic::default().with_topic(name(self.topic)).with_partitions(vec![wanted]);
        let asked = FetchRequest::default().with_replica_id(BrokerId(-1)).with_max_wait_ms(50).with_min_bytes(1).with_max_bytes(1 << 20);
        let told = self.raw.call(12, &asked.with_session_epoch(-1).with_topics(vec![topic])).expect("an answer");
        let p = &told.responses[0].partitions[0];
        let batches = p.records.clone().unwrap_or_default();
        let epochs = split(&batches).map(|batch| batch.expect("whole").0.leader_epoch).collect();
        self.now = (p.current_leader.leader_id.0, p.current_leader.leader_epoch);
        (p.error_code, (p.diverging_epoch.epoch, p.diverging_epoch.end_offset), epochs)
    }

    /// The code, and the epoch and offset for a time.
    pub(crate) fn list(&mut self, time: i64, epoch: i32) -> (i16, i32, i64) {
        let wanted = ListOffsetsPartition::default().with_timestamp(time).with_current_leader_epoch(epoch);
        let topic = ListOffsetsTopic::default().with_name(name(self.topic)).with_partitions(vec![wanted]);
        let told = self.raw.call(7, &ListOffsetsRequest::default().with_topics(vec![topic])).expect("an answer");
        let p = &told.topics[0].partitions[0];
        (p.error_code, p.leader_epoch, p.offset)
    }

    /// The end, as a version has it.
    fn list_in(&mut self, version: i16) -> i64 {
        let topic = ListOffsetsTopic::default().with_name(name(self.topic));
        let topic = topic.with_partitions(vec![ListOffsetsPartition::default().with_timestamp(-1)]);
        let told = self.raw.call(version, &ListOffsetsRequest::default().with_topics(vec![topic])).expect("an answer");
        told.topics[0].partitions[0].offset
    }

    /// Where an epoch ends: the code, the epoch and the offset; in all versions alike.
    pub(crate) fn end_of(&mut self, epoch: i32, known: i32) -> (i16, i32, i64) {
        let mut told = Vec::new();
        for version in 2..=4 {
            let wanted = OffsetForLeaderPartition::default().with_leader_epoch(epoch).with_current_leader_epoch(known);
            let topics = vec![OffsetForLeaderTopic::default().with_topic(name(self.topic)).with_partitions(vec![wanted])];
            let answer = self.raw.call(version, &OffsetForLeaderEpochRequest::default().with_topics(topics)).expect("an answer");
            let p = &answer.topics[0].partitions[0];
            told.push((p.error_code, p.leader_epoch, p.end_offset));
        }
        assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "{told:?}");
        told[0]
    }

    fn commit(&mut self, group: &'static str, offset: i64, epoch: i32) {
        let wanted = OffsetCommitRequestPartition::default().with_committed_offset(offset).with_committed_leader_epoch(epoch);
        let topic = OffsetCommitRequestTopic::default().with_name(name(self.topic)).with_partitions(vec![wanted]);
        let asked = OffsetCommitRequest::default().with_group_id(GroupId(StrBytes::from_static_str(group)));
        let asked = asked.with_generation_id_or_member_epoch(-1).with_topics(vec![topic]);
        let end = Instant::now() + PATIENCE;
        while self.raw.call(9, &asked).expect("an answer").topics[0].partitions[0].error_code != NONE {
            assert!(Instant::now() < end, "nobody looks after the group");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The offset, as a version has it that knows one group.
    fn committed_in(&mut self, version: i16, group: &'static str) -> i64 {
        let topics = vec![OffsetFetchRequestTopic::default().with_name(name(self.topic)).with_partition_indexes(vec![0])];
        let asked = OffsetFetchRequest::default().with_group_id(GroupId(StrBytes::from_static_str(group)));
        let told = self.raw.call(version, &asked.with_topics(Some(topics))).expect("an answer");
        told.topics[0].partitions[0].committed_offset
    }

    /// Offset and epoch.
    fn committed(&mut self, group: &'static str) -> (i64, i32) {
        let topics = vec![OffsetFetchRequestTopics::default().with_name(name(self.topic)).with_partition_indexes(vec![0])];
        let asked = OffsetFetchRequestGroup::default().with_group_id(GroupId(StrBytes::from_static_str(group)));
        let asked = OffsetFetchRequest::default().with_groups(vec![asked.with_topics(Some(topics))]);
        let told = self.raw.call(9, &asked).expect("an answer");
        let p = &told.groups[0].topics[0].partitions[0];
        (p.committed_offset, p.committed_leader_epoch)
    }
}

/// A node that is alone has one epoch.
pub(crate) fn of_a_node_that_is_alone(server: &str, topic: &'static str) {
    let mut at = At::new(server, topic);
    assert_eq!(at.leader(), (1, 1));
    assert_eq!(at.end_of(1, 1), (NONE, -1, -1), "it has no records of any");
    at.produce(5);
    assert_eq!(at.fetch(0, 1, -1), (NONE, (-1, -1), vec![1; 5]));
    assert_eq!(at.fetch(0, -1, -1), (NONE, (-1, -1), vec![1; 5]), "who does not know asks by any");
    assert_eq!(at.fetch(0, 0, -1), (FENCED_LEADER_EPOCH, (-1, -1), vec![]));
    assert_eq!(at.fetch(0, 2, -1), (NOT_LEADER_OR_FOLLOWER, (-1, -1), vec![]), "so that it looks at the metadata");
    assert_eq!(at.fetch(5, 0, -1).0, FENCED_LEADER_EPOCH, "at the end, too, where there is nothing to read");
    assert_eq!(at.fetch(3, 1, 1), (NONE, (-1, -1), vec![1; 2]));
    assert_eq!(at.fetch(3, 1, 0), (NONE, (0, 0), vec![]), "of epoch 0 there is nothing");
    assert_eq!(at.fetch(5, 1, 0), (NONE, (0, 0), vec![]), "nor for who has read all");
    assert_eq!(at.fetch(3, 1, 2).0, OFFSET_OUT_OF_RANGE, "nobody knows of epoch 2");
    assert_eq!((at.list(-1, 1), at.list(-2, -1), at.list(0, 1)), ((NONE, 1, 5), (NONE, 1, 0), (NONE, 1, 0)));
    assert_eq!(at.list(i64::MAX, 1), (NONE, -1, -1), "no record is so young");
    assert_eq!((at.list(-1, 0).0, at.list(-1, 2).0), (FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH));
    assert_eq!((at.end_of(1, 1), at.end_of(1, -1)), ((NONE, 1, 5), (NONE, 1, 5)));
    assert_eq!((at.end_of(0, 1), at.end_of(2, 1)), ((NONE, 0, 0), (NONE, -1, -1)));
    assert_eq!((at.end_of(-1, 1), at.end_of(i32::MIN, 1), at.end_of(i32::MAX, 1)), ((NONE, -1, -1), (NONE, -1, -1), (NONE, -1, -1)));
    assert_eq!((at.end_of(1, 0).0, at.end_of(1, 2).0), (FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH));
    let partition = DeleteRecordsPartition::default().with_offset(2);
    let deleted = DeleteRecordsTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
    at.raw.call(2, &DeleteRecordsRequest::default().with_topics(vec![deleted])).expect("an answer");
    assert_eq!((at.end_of(0, 1), at.end_of(1, 1)), ((NONE, 0, 2), (NONE, 1, 5)), "the first that is left is of epoch 1");
    for (offset, epoch) in [(3, 1), (4, -1), (5, 0)] {
        at.commit("epochs", offset, epoch);
        assert_eq!(at.committed("epochs"), (offset, epoch));
    }
    at.commit("epochs", 5, 1);
    assert_eq!((at.list_in(1), at.committed_in(1, "epochs")), (5, 5), "versions that know of no epochs are answered without");
    let mut nowhere = At::new(server, "nowhere");
    assert_eq!(nowhere.end_of(1, 1).0, UNKNOWN_TOPIC_OR_PARTITION);
}
