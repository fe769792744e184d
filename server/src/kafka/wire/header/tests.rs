use super::*;
use bytes::BytesMut;
use kafka_protocol::{
    messages,
    protocol::{Decodable, Encodable},
};
use proptest::prelude::*;

fn theirs(header_version: i16, key: i16, version: i16, correlation_id: i32, client_id: Option<&str>) -> Bytes {
    let header = messages::RequestHeader::default()
        .with_request_api_key(key)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(client_id.map(|id| StrBytes::from_string(id.into())));
    let mut out = BytesMut::new();
    header.encode(&mut out, header_version).expect("a header");
    out.freeze()
}

proptest! {
    #[test]
    fn requests_of_every_version_are_found(
        n in 0..versions::ALL.len(), step: u16, correlation: i32,
        client in proptest::option::of(".{0,40}"), body in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let api = &versions::ALL[n];
        let version = api.min + (step % (api.max - api.min + 1) as u16) as i16;
        let header = theirs(api.request_header(version), api.key, version, correlation, client.as_deref());
        let frame = Bytes::from([&header[..], &body].concat());
        let request = Request::read(frame).expect("sound");
        prop_assert_eq!(request.api, api);
        prop_assert_eq!(&request.body[..], &body);
        let expected = RequestHeader { key: api.key, version, correlation_id: correlation, client_id: client.map(StrBytes::from_string) };
        prop_assert_eq!(request.header, expected);
        for n in 0..header.len() {
            prop_assert!(Request::read(header.slice(..n)).is_err(), "{} of {} bytes", n, header.len());
        }
    }

    #[test]
    fn answers_are_headed_as_theirs(n in 0..versions::ALL.len(), step: u16, correlation: i32) {
        let api = &versions::ALL[n];
        let version = api.min + (step % (api.max - api.min + 1) as u16) as i16;
        let frame = response(api, version, correlation).finish_frame().concat();
        let mut rest = Bytes::from(frame);
        prop_assert_eq!(rest.split_to(4), ((rest.len()) as i32).to_be_bytes().to_vec());
        let header = messages::ResponseHeader::decode(&mut rest, api.response_header(version)).expect("a header");
        prop_assert_eq!(header.correlation_id, correlation);
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn junk_never_panics(junk in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _ = Request::read(Bytes::from(junk));
    }
}

#[test]
fn the_first_header_has_no_client_id() {
    let (header, body) = RequestHeader::read(Bytes::from_static(&[0, 7, 0, 0, 0, 0, 0, 9, 42]), 0).expect("sound");
    assert_eq!(header, RequestHeader { key: 7, version: 0, correlation_id: 9, client_id: None });
    assert_eq!(body, [42][..]);
}

#[test]
fn tagged_fields_of_headers_are_skipped() {
    let mut frame = BytesMut::from(&theirs(1, 18, 4, 1, Some("c"))[..]);
    frame.extend_from_slice(&[1, 3, 2, 0xaa, 0xbb, 42]);
    assert_eq!(Request::read(frame.freeze()).expect("sound").body, [42][..]);
}

#[test]
fn an_api_versions_request_of_the_future_is_read_and_an_unknown_api_is_not() {
    let request = Request::read(theirs(2, 18, 99, 7, Some("new"))).expect("its header has the form of version 2");
    assert_eq!(request.api.check(99), Err(WireError::Version { name: "ApiVersions", version: 99, min: 0, max: 4 }));
    assert_eq!(request.header.correlation_id, 7);
    assert_eq!(Request::read(theirs(2, 7777, 0, 1, None)).expect_err("unknown"), WireError::Api { key: 7777 });
}
