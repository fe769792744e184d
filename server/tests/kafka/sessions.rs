//! Sessions of fetches (KIP-227), as a client of no library has them.

use crate::{epochs::At, ids::Topic, raw::Raw};
use kafka_protocol::{
    messages::{
        BrokerId, FetchRequest, FetchResponse, TopicName,
        fetch_request::{FetchPartition, FetchTopic, ForgottenTopic},
    },
    protocol::StrBytes,
};
use uuid::Uuid;

const NONE: i16 = 0;
const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
const INVALID_FETCH_SESSION_EPOCH: i16 = 71;

struct Reader {
    raw: Raw,
    topic: &'static str,
    version: i16,
    id: Uuid,
}

impl Reader {
    fn new(server: &str, topic: &'static str, version: i16) -> Self {
        let mut raw = Raw::connect(server);
        let id = Topic::of(&mut raw, topic, Uuid::nil()).id;
        Self { raw, topic, version, id }
    }

    /// Partitions, and where to read from.
    fn fetch(&mut self, (id, epoch): (i32, i32), wanted: &[(i32, i64)], forgotten: &[i32], wait_ms: i32) -> FetchResponse {
        let by_id = self.version >= 13;
        let name = || if by_id { TopicName::default() } else { TopicName(StrBytes::from_static_str(self.topic)) };
        let topic_id = if by_id { self.id } else { Uuid::nil() };
        let one = |(partition, offset): &(i32, i64)| {
            FetchPartition::default().with_partition(*partition).with_fetch_offset(*offset).with_partition_max_bytes(1 << 20)
        };
        let some = |list: bool| if list { 1 } else { 0 };
        let topics = vec![
            FetchTopic::default().with_topic(name()).with_topic_id(topic_id).with_partitions(wanted.iter().map(one).collect());
            some(!wanted.is_empty())
        ];
        let gone = vec![
            ForgottenTopic::default().with_topic(name()).with_topic_id(topic_id).with_partitions(forgotten.to_vec());
            some(!forgotten.is_empty())
        ];
        let asked =
            FetchRequest::default().with_replica_id(BrokerId(-1)).with_max_wait_ms(wait_ms).with_min_bytes(1).with_max_bytes(1 << 20);
        let asked = asked.with_session_id(id).with_session_epoch(epoch).with_topics(topics).with_forgotten_topics_data(gone);
        self.raw.call(self.version, &asked).expect("an answer")
    }
}

/// The partitions of an answer, and whether each has records.
fn told(answer: &FetchResponse) -> Vec<(i32, bool)> {
    assert_eq!(answer.error_code, NONE);
    let all = answer.responses.iter().flat_map(|topic| &topic.partitions);
    all.map(|p| {
        assert_eq!(p.error_code, NONE);
        (p.partition_index, p.records.as_ref().is_some_and(|records| !records.is_empty()))
    })
    .collect()
}

pub(crate) fn what_has_changed_is_told(server: &str, topic: &'static str) {
    for version in [7, 11, 12, 13, 18] {
        let mut reader = Reader::new(server, topic, version);
        let mut writer = At::new(server, topic);
        let (_, _, end) = writer.list(-1, -1);
        let begun = reader.fetch((0, 0), &[(0, end), (1, 0), (2, 0)], &[], 10);
        assert_eq!(told(&begun), [(0, false), (1, false), (2, false)], "all is told at first");
        let id = begun.session_id;
        assert!(id > 0);
        let quiet = reader.fetch((id, 1), &[], &[], 10);
        assert_eq!((told(&quiet), quiet.session_id), (vec![], id), "nothing has changed");
        writer.produce(1);
        let grown = reader.fetch((id, 2), &[], &[], 10_000);
        assert_eq!(told(&grown), [(0, true)]);
        assert_eq!(told(&reader.fetch((id, 3), &[(0, end + 1)], &[], 10)), [], "it was read");
        // Who waits in a session is woken by what comes.
        let waits = std::thread::spawn(move || {
            let woken = reader.fetch((id, 4), &[], &[1], 30_000);
            (reader, told(&woken))
        });
        writer.produce(1);
        let (mut reader, woken) = waits.join().expect("an answer");
        assert_eq!(woken, [(0, true)]);
        for (which, code) in
            [((id, 4), INVALID_FETCH_SESSION_EPOCH), ((id, 9), INVALID_FETCH_SESSION_EPOCH), ((id ^ 1, 5), FETCH_SESSION_ID_NOT_FOUND)]
        {
            let refused = reader.fetch(which, &[], &[], 10);
            assert_eq!((refused.error_code, refused.session_id, refused.responses.len()), (code, 0, 0), "{which:?}");
        }
        let other = Reader::new(server, topic, version).fetch((id, 5), &[], &[], 10);
        assert_eq!(other.error_code, FETCH_SESSION_ID_NOT_FOUND, "it is another connection's");
        let added = reader.fetch((id, 5), &[(0, end + 2), (1, 0), (9, 0)], &[], 10);
        let codes: Vec<(i32, i16)> = added.responses[0].partitions.iter().map(|p| (p.partition_index, p.error_code)).collect();
        assert_eq!((codes, added.error_code), (vec![(1, NONE), (9, 3)], NONE), "one that is new, and one that is not there");
        let gone = reader.fetch((id, 6), &[], &[9], 10);
        assert_eq!((told(&gone), gone.session_id), (vec![], id));
        let closed = reader.fetch((id, -1), &[(0, end)], &[], 10);
        assert_eq!((told(&closed), closed.session_id), (vec![(0, true)], 0), "it is closed, and what it asks for told");
        assert_eq!(reader.fetch((id, 7), &[], &[], 10).error_code, FETCH_SESSION_ID_NOT_FOUND);
    }
}
