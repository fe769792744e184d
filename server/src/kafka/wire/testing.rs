//! What the tests of several messages share.

use super::{Answer, CurrentLeader, NodeEndpoint, StrBytes, TopicId, TopicKey, WireError, Writer};
use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    messages::{ResponseHeader, TopicName},
    protocol::{Decodable, Encodable},
};
use proptest::prelude::*;

/// A message as kafka-protocol encodes it.
pub(crate) fn theirs(message: &impl Encodable, version: i16) -> Bytes {
    let mut out = BytesMut::new();
    message.encode(&mut out, version).expect("a message of this version");
    out.freeze()
}

/// An answer of ours as kafka-protocol decodes it, to the last byte. The frame's length and the correlation id are checked.
pub(crate) fn as_they_read<A: Answer, T: Decodable>(answer: &A, version: i16) -> T {
    let frame = Bytes::from(answer.frame(version, 4711).concat());
    let mut rest = whole(frame);
    let header = ResponseHeader::decode(&mut rest, A::API.response_header(version)).expect("a header");
    assert_eq!(header.correlation_id, 4711);
    let message = T::decode(&mut rest, version).expect("a body of this version");
    assert!(rest.is_empty(), "{} bytes follow", rest.len());
    message
}

/// The body of an answer of ours.
pub(crate) fn ours<A: Answer>(answer: &A, version: i16) -> Bytes {
    let mut w = Writer::new(A::API.is_flexible(version));
    answer.write(&mut w, version);
    Bytes::from(w.finish().concat())
}

/// What stands in a frame.
pub(crate) fn whole(mut frame: Bytes) -> Bytes {
    let length = frame.split_to(4);
    assert_eq!(length, (frame.len() as i32).to_be_bytes()[..], "the frame's length");
    frame
}

/// Their form of a topic's id.
pub(crate) fn uuid<T: TryFrom<Vec<u8>, Error: std::fmt::Debug>>(id: TopicId) -> T {
    T::try_from(id.0.to_vec()).expect("sixteen bytes")
}

/// A topic as a version has it: by its name, or by an id made of that.
pub(crate) fn key(name: &StrBytes, by_id: bool) -> TopicKey {
    let mut id = TopicId::ZERO;
    id.0.iter_mut().zip(name.as_bytes()).for_each(|(byte, of)| *byte = *of);
    if by_id { TopicKey::Id(id) } else { TopicKey::Name(name.clone()) }
}

/// The same as their name and their id, of which a version has one.
pub(crate) fn named<T: TryFrom<Vec<u8>, Error: std::fmt::Debug>>(topic: &TopicKey) -> (TopicName, T) {
    match topic {
        TopicKey::Name(name) => (TopicName(name.clone()), uuid(TopicId::ZERO)),
        TopicKey::Id(id) => (TopicName::default(), uuid(*id)),
    }
}

/// Who leads, if that is said.
pub(crate) fn leader() -> impl Strategy<Value = CurrentLeader> {
    (-1..3_i32, -1..3_i32).prop_map(|(leader_id, leader_epoch)| CurrentLeader { leader_id, leader_epoch })
}

/// Where brokers live.
pub(crate) fn endpoints() -> impl Strategy<Value = Vec<NodeEndpoint>> {
    let one = (any::<i32>(), text(), any::<i32>(), proptest::option::of(text()));
    proptest::collection::vec(one.prop_map(|(node_id, host, port, rack)| NodeEndpoint { node_id, host, port, rack }), 0..3)
}

/// A string that nobody would expect.
pub(crate) fn text() -> impl Strategy<Value = StrBytes> {
    ".{0,20}".prop_map(StrBytes::from_string)
}

/// Bytes that pass for records.
pub(crate) fn records() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..60).prop_map(Bytes::from),
        (1000..3000_usize).prop_map(|n| Bytes::from(vec![n as u8; n])),
    ]
}

/// Calls `read` with bodies that are nearly `body`, which is sound: all that are cut must be refused, the others must not panic.
pub(crate) fn nearly<T>(body: &Bytes, read: impl Fn(Bytes) -> Result<T, WireError>) {
    assert!(read(body.clone()).is_ok(), "the body is not sound");
    for n in 0..body.len() {
        assert!(read(body.slice(..n)).is_err(), "{n} of {} bytes were read", body.len());
    }
    let longer = Bytes::from([body, &[0, 7, 0xff][..]].concat());
    assert!(read(longer).is_ok(), "what follows is ignored");
    let over = |at: usize, bytes: &[u8]| {
        let mut changed = body.to_vec();
        let end = body.len().min(at + bytes.len());
        changed[at..end].copy_from_slice(&bytes[..end - at]);
        let _ = read(Bytes::from(changed));
    };
    for at in 0..body.len() {
        for byte in [0, 1, 2, 0x7f, 0x80, 0xff, body[at] ^ 1, body[at].wrapping_add(1)] {
            over(at, &[byte]);
        }
        // A length may begin anywhere: legacy ones of four bytes and of two, and a compact one that takes the place of one byte.
        for length in [i32::MAX, i32::MIN, -2, -1, 0x00ff_ffff] {
            over(at, &length.to_be_bytes());
        }
        for length in [i16::MAX, i16::MIN, -2, -1] {
            over(at, &length.to_be_bytes());
        }
        let compact = [&body[..at], &[0xff, 0xff, 0xff, 0xff, 0x0f], &body[at + 1..]].concat();
        let _ = read(Bytes::from(compact));
    }
}

/// Adds a tagged field that nobody knows to the end of a body of a flexible version, which has none there.
pub(crate) fn with_a_tag(body: &Bytes) -> Bytes {
    assert_eq!(body.last(), Some(&0), "no tagged fields");
    Bytes::from([&body[..body.len() - 1], &[1, 99, 3, 1, 2, 3]].concat())
}
