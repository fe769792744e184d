use super::*;
use bytes::BytesMut;
use kafka_protocol::{
    messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicName, consumer_protocol_assignment::TopicPartition},
    protocol::{Encodable, StrBytes},
};

fn encoded(version: i16, body: &impl Encodable) -> Bytes {
    let mut bytes = BytesMut::from(&version.to_be_bytes()[..]);
    body.encode(&mut bytes, version).expect("encodes");
    bytes.freeze()
}

fn name(name: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(name))
}

#[test]
fn what_the_crate_writes_is_read_in_every_version() {
    let part = |topic, partitions| TopicPartition::default().with_topic(name(topic)).with_partitions(partitions);
    let written = ConsumerProtocolAssignment::default()
        .with_assigned_partitions(vec![part("a", vec![0, 2]), part("b", vec![])])
        .with_user_data(Some(Bytes::from_static(b"more")));
    let subscription = ConsumerProtocolSubscription::default()
        .with_topics(vec![StrBytes::from_static_str("a"), StrBytes::from_static_str("b")])
        .with_user_data(Some(Bytes::from_static(b"more")));
    for version in 0..=3 {
        let parts = |topic: &str, partitions: &[u32]| TopicPartitions { topic: topic.into(), partitions: partitions.into() };
        assert_eq!(assigned(&encoded(version, &written)), Ok(vec![parts("a", &[0, 2]), parts("b", &[])]));
        assert_eq!(subscribed(&encoded(version, &subscription)), Ok(vec!["a".into(), "b".into()]));
    }
    assert_eq!(assigned(&Bytes::new()), Ok(Vec::new()));
    let part = TopicPartitions { topic: "a".into(), partitions: vec![3, 5] };
    assert_eq!(assigned(&assignment(std::slice::from_ref(&part))), Ok(vec![part]));
}

#[test]
fn bytes_that_are_cut_or_promise_too_much_are_refused() {
    let part = TopicPartition::default().with_topic(name("topic")).with_partitions(vec![1]);
    let whole = encoded(0, &ConsumerProtocolAssignment::default().with_assigned_partitions(vec![part]).with_user_data(None));
    let body = whole.len() - size_of::<i32>();
    for len in 1..body {
        assert!(assigned(&whole.slice(..len)).is_err(), "{len} bytes of it");
    }
    for huge in [&[0, 0, 0x7f, 0xff, 0xff, 0xff][..], &[0, 0, 0xff, 0xff, 0xff, 0xff]] {
        assert!(assigned(&Bytes::copy_from_slice(huge)).is_err());
        assert!(subscribed(&Bytes::copy_from_slice(huge)).is_err());
    }
}
