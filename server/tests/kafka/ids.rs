//! Topics by their ids (KIP-516), and whom to ask instead (KIP-951), as a client of no library has them.

use crate::{
    epochs::{NOT_LEADER_OR_FOLLOWER, batch},
    raw::Raw,
};
use kafka_protocol::{
    messages::{
        BrokerId, FetchRequest, FetchResponse, MetadataRequest, ProduceRequest, TopicName,
        fetch_request::{FetchPartition, FetchTopic, ForgottenTopic},
        metadata_request::MetadataRequestTopic,
        produce_request::{PartitionProduceData, TopicProduceData},
    },
    protocol::StrBytes,
};
use std::time::{Duration, Instant};
use uuid::Uuid;

const NONE: i16 = 0;
const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
const UNKNOWN_TOPIC_ID: i16 = 100;
const PATIENCE: Duration = Duration::from_secs(30);

/// What is told of one partition: the code, who leads and in which epoch, and where brokers live that are named.
type Told = (i16, (i32, i32), Vec<(i32, String)>);

pub(crate) fn name(topic: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(topic))
}

/// A topic as a client has it.
#[derive(Clone, Copy)]
pub(crate) struct Topic {
    name: &'static str,
    pub(crate) id: Uuid,
}

impl Topic {
    /// The one of this name, once there is one, and not this one.
    pub(crate) fn of(raw: &mut Raw, topic: &'static str, but: Uuid) -> Self {
        let end = Instant::now() + PATIENCE;
        loop {
            let asked = MetadataRequest::default().with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(name(topic)))]));
            let told = raw.call(12, &asked).expect("an answer");
            let id = told.topics[0].topic_id;
            if told.topics[0].error_code == NONE && id != but && told.topics[0].partitions[0].leader_id.0 >= 0 {
                return Self { name: topic, id };
            }
            assert!(Instant::now() < end, "{topic} is not there: {told:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Writes a record, in a version that has the topic's id or one that has its name.
    fn produce(self, raw: &mut Raw, version: i16) -> Told {
        let data = PartitionProduceData::default().with_records(Some(batch()));
        let data = TopicProduceData::default().with_partition_data(vec![data]);
        let data = if version >= 13 { data.with_topic_id(self.id) } else { data.with_name(name(self.name)) };
        let asked = ProduceRequest::default().with_acks(-1).with_timeout_ms(1_000).with_topic_data(vec![data]);
        let told = raw.call(version, &asked).expect("an answer");
        let (topic, p) = (&told.responses[0], &told.responses[0].partition_responses[0]);
        assert!(if version >= 13 { topic.topic_id == self.id } else { topic.name == name(self.name) }, "as it was asked for");
        let homes = told.node_endpoints.iter().map(|home| (home.node_id.0, format!("{}:{}", home.host, home.port)));
        (p.error_code, (p.current_leader.leader_id.0, p.current_leader.leader_epoch), homes.collect())
    }

    /// Reads from the start, in such a version, in this session.
    fn fetch(self, raw: &mut Raw, version: i16, session: (i32, i32), forgotten: &[Self]) -> FetchResponse {
        self.fetch_at(raw, version, session, forgotten, (0, 10))
    }

    /// The same from an offset, waiting for so many milliseconds.
    fn fetch_at(
        self,
        raw: &mut Raw,
        version: i16,
        (id, epoch): (i32, i32),
        forgotten: &[Self],
        (offset, wait): (i64, i32),
    ) -> FetchResponse {
        let wanted = vec![FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(1 << 20)];
        let topic = FetchTopic::default().with_partitions(wanted);
        let topic = if version >= 13 { topic.with_topic_id(self.id) } else { topic.with_topic(name(self.name)) };
        let forget = |one: &Self| ForgottenTopic::default().with_topic_id(one.id).with_partitions(vec![0]);
        let asked = FetchRequest::default().with_replica_id(BrokerId(-1)).with_max_wait_ms(wait).with_min_bytes(1).with_max_bytes(1 << 20);
        let asked = asked.with_forgotten_topics_data(forgotten.iter().map(forget).collect()).with_topics(vec![topic]);
        raw.call(version, &asked.with_session_id(id).with_session_epoch(epoch)).expect("an answer")
    }

    /// The same without a session: the bytes of the records, and what else is told.
    fn read(self, raw: &mut Raw, version: i16) -> (usize, Told) {
        let told = self.fetch(raw, version, (0, -1), &[]);
        let (topic, p) = (&told.responses[0], &told.responses[0].partitions[0]);
        assert!(if version >= 13 { topic.topic_id == self.id } else { topic.topic == name(self.name) }, "as it was asked for");
        let homes = told.node_endpoints.iter().map(|home| (home.node_id.0, format!("{}:{}", home.host, home.port)));
        let told = (p.error_code, (p.current_leader.leader_id.0, p.current_leader.leader_epoch), homes.collect());
        (p.records.as_ref().map_or(0, bytes::Bytes::len), told)
    }
}

fn codes(answer: &FetchResponse) -> Vec<(Uuid, i16, bool)> {
    assert_eq!(answer.error_code, NONE);
    let all = answer.responses.iter().flat_map(|topic| topic.partitions.iter().map(|p| (topic.topic_id, p)));
    all.map(|(id, p)| (id, p.error_code, p.records.as_ref().is_some_and(|records| !records.is_empty()))).collect()
}

/// A topic is deleted and made anew by `again`: whoever knows the one before by its id neither writes to the new one nor reads it.
pub(crate) fn one_made_anew_is_another(server: &str, topic: &'static str, again: impl FnOnce()) {
    let mut raw = Raw::connect(server);
    let old = Topic::of(&mut raw, topic, Uuid::nil());
    let fine = (NONE, (-1, -1), vec![]);
    for version in [9, 12, 13] {
        assert_eq!(old.produce(&mut raw, version), fine);
    }
    let bytes = 3 * batch().len();
    for version in 12..=18 {
        assert_eq!(old.read(&mut raw, version), (bytes, fine.clone()), "{version}");
    }
    let mut reader = Raw::connect(server);
    let begun = old.fetch(&mut reader, 18, (0, 0), &[]);
    assert_eq!(codes(&begun), [(old.id, NONE, true)]);
    // Whoever waits for more of the old one is not given what is written to the new one.
    let mut patient = Raw::connect(server);
    let waits = std::thread::spawn(move || codes(&old.fetch_at(&mut patient, 18, (0, -1), &[], (3, 20_000))));
    again();
    let new = Topic::of(&mut raw, topic, old.id);
    assert_eq!(new.produce(&mut raw, 13), fine);
    assert_eq!(waits.join().expect("an answer"), [(old.id, UNKNOWN_TOPIC_ID, false)]);
    let unknown = (UNKNOWN_TOPIC_ID, (-1, -1), vec![]);
    let nobodys = Topic { name: topic, id: Uuid::from_u128(7) };
    for gone in [old, nobodys, Topic { id: Uuid::nil(), ..old }] {
        assert_eq!(gone.produce(&mut raw, 13), unknown);
        assert_eq!(gone.read(&mut raw, 13), (0, unknown.clone()));
        assert_eq!(gone.read(&mut raw, 18), (0, unknown.clone()));
    }
    assert_eq!(new.read(&mut raw, 18), (batch().len(), fine.clone()), "nothing of it was written to the new one");
    let session = begun.session_id;
    assert_eq!(codes(&old.fetch(&mut reader, 18, (session, 1), &[])), [(old.id, UNKNOWN_TOPIC_ID, false)], "the session has the old one");
    let both = codes(&new.fetch(&mut reader, 18, (session, 2), &[]));
    assert_eq!(both, [(old.id, UNKNOWN_TOPIC_ID, false), (new.id, NONE, true)]);
    assert_eq!(codes(&new.fetch(&mut reader, 18, (session, 3), &[old])), [(new.id, NONE, true)], "and forgets it");
}

/// Whoever may see a topic, and neither write to it nor read it, is told so, by its id as by its name.
pub(crate) fn one_that_is_forbidden(server: &str, topic: &'static str) {
    let mut raw = Raw::connect(server);
    let known = Topic::of(&mut raw, topic, Uuid::nil());
    let forbidden = (TOPIC_AUTHORIZATION_FAILED, (-1, -1), vec![]);
    for version in [9, 13] {
        assert_eq!(known.produce(&mut raw, version), forbidden, "Produce {version}");
    }
    for version in [12, 13, 18] {
        assert_eq!(known.read(&mut raw, version), (0, forbidden.clone()), "Fetch {version}");
    }
    let begun = known.fetch(&mut raw, 18, (0, 0), &[]);
    assert_eq!(codes(&begun), [(known.id, TOPIC_AUTHORIZATION_FAILED, false)], "in a session, too");
}

/// Whoever asks a node that does not lead is told who does, and where that one lives, in the versions that say so.
pub(crate) fn who_leads_is_told(other: &str, topic: &'static str, leader: (i32, i32), home: &str) {
    let mut raw = Raw::connect(other);
    let known = Topic::of(&mut raw, topic, Uuid::nil());
    let (alone, both) = ((NOT_LEADER_OR_FOLLOWER, leader, vec![]), (NOT_LEADER_OR_FOLLOWER, leader, vec![(leader.0, home.to_owned())]));
    assert_eq!(known.produce(&mut raw, 9), (NOT_LEADER_OR_FOLLOWER, (-1, -1), vec![]));
    for version in [10, 12, 13] {
        assert_eq!(known.produce(&mut raw, version), both, "Produce {version}");
    }
    for version in [12, 13, 15] {
        assert_eq!(known.read(&mut raw, version).1, alone, "Fetch {version}");
    }
    for version in [16, 18] {
        assert_eq!(known.read(&mut raw, version).1, both, "Fetch {version}");
    }
}
