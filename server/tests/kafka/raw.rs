//! Requests as bytes.

use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    messages::RequestHeader,
    protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes},
};
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Raw(TcpStream);

impl Raw {
    pub(crate) fn connect(server: &str) -> Self {
        let socket = TcpStream::connect(server).expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        socket.set_nodelay(true).expect("set");
        Self(socket)
    }

    /// Sends; that the other side has closed is for [`Raw::receive`] to find.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    /// The next answer: its number, and what follows that. Nothing if the connection has ended.
    pub(crate) fn receive(&mut self) -> Option<(i32, Vec<u8>)> {
        let mut len = [0; 4];
        match self.0.read_exact(&mut len) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("neither an answer nor an end"),
            Err(_) => return None,
        }
        let mut frame = vec![0; u32::from_be_bytes(len) as usize];
        self.0.read_exact(&mut frame).ok()?;
        let number = i32::from_be_bytes(frame[..4].try_into().expect("four bytes"));
        Some((number, frame.split_off(4)))
    }
}

impl Raw {
    /// Sends a request that the crate encodes, and waits for its answer. Nothing if the connection has ended.
    pub(crate) fn call<R: Request>(&mut self, version: i16, request: &R) -> Option<R::Response> {
        const NUMBER: i32 = 4711;
        let header = RequestHeader::default().with_request_api_key(R::KEY).with_request_api_version(version);
        let header = header.with_correlation_id(NUMBER).with_client_id(Some(StrBytes::from_static_str("test")));
        let mut frame = BytesMut::new();
        header.encode(&mut frame, R::header_version(version)).expect("a header");
        request.encode(&mut frame, version).expect("a request of this version");
        self.send(&[&(frame.len() as u32).to_be_bytes()[..], &frame].concat());
        let (number, body) = self.receive()?;
        assert_eq!(number, NUMBER);
        // A header with tagged fields has none of them.
        let tags = usize::from(<R::Response as HeaderVersion>::header_version(version) > 0);
        let mut body = Bytes::from(body).slice(tags..);
        let answer = R::Response::decode(&mut body, version).expect("an answer of this version");
        assert!(body.is_empty(), "{} bytes follow", body.len());
        Some(answer)
    }
}

/// A request with a header of version 1 and this body.
pub(crate) fn request(number: i32, key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(number.to_be_bytes());
    frame.extend(4_i16.to_be_bytes());
    frame.extend(b"test");
    frame.extend(body);
    [&(frame.len() as u32).to_be_bytes()[..], &frame].concat()
}

/// ApiVersions, whose header has tagged fields from version 3 on; in a later one than is known, too.
pub(crate) fn api_versions(number: i32, version: i16) -> Vec<u8> {
    request(number, 18, version, &[0, 5, b't', b'e', b's', b't', 2, b'1', 0])
}

/// Metadata of no topic at all.
pub(crate) fn metadata(number: i32) -> Vec<u8> {
    request(number, 3, 4, &[0, 0, 0, 0, 0])
}
