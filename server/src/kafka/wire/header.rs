//! What stands before the body of a request or an answer. All integers big-endian.
//!
//! ```text
//!   request:  | key i16 | version i16 | correlation i32 | client id, a legacy nullable string | tagged fields |
//!                                               version 0 ends here                version 1 ends here   version 2
//!
//!   answer:   | correlation i32 | tagged fields |
//!                        version 0 ends here      version 1
//! ```
//!
//! The client id never becomes compact (KIP-482): a server must find it in the header of an ApiVersions request of any version, known to it
//! or not. Which header goes with which version of an API says [`Api::request_header`] and [`Api::response_header`].

use super::{
    Reader, WireError, Writer,
    read::StrBytes,
    versions::{self, Api},
};
use bytes::Bytes;

/// What every request begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API's number.
    pub key: i16,
    /// The version of the API: that of the body and of the answer.
    pub version: i16,
    /// The client's number of the request, repeated in the answer.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<StrBytes>,
}

impl RequestHeader {
    /// Reads a header of a known form (0 to 2), and returns what follows it. Version 0, without a client id, was for one API alone, which
    /// Kafka no longer has.
    pub fn read(frame: Bytes, header_version: i16) -> Result<(Self, Bytes), WireError> {
        let mut r = Reader::new(frame, header_version >= 2);
        let (key, version) = (r.i16("RequestApiKey")?, r.i16("RequestApiVersion")?);
        let correlation_id = r.i32("CorrelationId")?;
        let client_id = if header_version >= 1 { r.legacy_nullable_string("ClientId")? } else { None };
        r.skip_tags("RequestHeader")?;
        Ok((Self { key, version, correlation_id, client_id }, r.rest()))
    }
}

/// A request whose header is read.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its header.
    pub header: RequestHeader,
    /// The row of its API.
    pub api: &'static Api,
    /// The rest of the frame, of the form that [`RequestHeader::version`] says.
    pub body: Bytes,
}

impl Request {
    /// Reads the header of a frame. The version is not looked at further than to find the header's form, and may be one that is not spoken
    /// ([`Api::check`]); an API that is not known is an error.
    pub fn read(frame: Bytes) -> Result<Self, WireError> {
        let mut peek = Reader::new(frame.clone(), false);
        let (key, version) = (peek.i16("RequestApiKey")?, peek.i16("RequestApiVersion")?);
        let api = versions::api(key)?;
        let (header, body) = RequestHeader::read(frame, api.request_header(version))?;
        Ok(Self { header, api, body })
    }
}

/// Begins an answer of this version: a frame with its header, whose body is to follow.
#[must_use]
pub fn response(api: &Api, version: i16, correlation_id: i32) -> Writer {
    let mut w = Writer::frame(api.is_flexible(version));
    w.i32(correlation_id);
    if api.response_header(version) >= 1 {
        w.no_tags();
    }
    w
}

/// The body of an answer that we write by hand.
pub trait Answer {
    /// Whose answer it is.
    const API: Api;

    /// Writes the body in a version that is understood ([`Api::check`]).
    fn write(&self, w: &mut Writer, version: i16);

    /// The whole frame, in pieces to be sent one behind the other, its length first.
    fn frame(&self, version: i16, correlation_id: i32) -> Vec<Bytes> {
        let mut w = response(&Self::API, version, correlation_id);
        self.write(&mut w, version);
        w.finish_frame()
    }
}

#[cfg(test)]
mod tests;
